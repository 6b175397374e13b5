//! What `ipvsadm -L` and `-S` print of services and destinations.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use shunt_model::ipvsadm::arguments::{List, Listed};
use shunt_model::ipvsadm::names::Names;
use shunt_model::ipvsadm::table::{
    Counters, Destination, Family, Forward, Key, Netmask, Numbers, Protocol, SchedulerFlags, Service, Table,
    TunnelChecksum, TunnelKind,
};

use super::sort::sorted;

/// The first line: the version of the rules' format and the connection table's size, which scripts expect so.
const HEAD: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";
/// Where names are cut in lists of IPv4.
const NAME_IN_LIST: usize = 28;
/// Where names are cut everywhere.
const NAME_MAX: usize = 59;

/// `-L` without `-c`, `--timeout` and `--daemon`; none when the service that is asked for is not there.
#[must_use]
pub fn services(table: &Table, list: &List, names: &dyn Names) -> Option<String> {
    let shown = Shown { list, names: (!list.numeric).then_some(names) };
    let mut text = String::new();
    if list.service.is_none() {
        text.push_str(HEAD);
    }
    text.push_str(titles(list.what));
    match list.service {
        Some(key) => shown.service(table.service(key)?, &mut text),
        None if list.sorted => {
            for service in sorted(&table.services) {
                shown.service(service, &mut text);
            }
        }
        None => table.services.iter().for_each(|service| shown.service(service, &mut text)),
    }
    Some(text)
}

/// `-L --timeout`.
#[must_use]
pub fn timeouts(table: &Table) -> String {
    let shunt_model::ipvsadm::table::Timeouts { tcp, tcp_fin, udp } = table.timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// `-S`: lines for `-R`.
#[must_use]
pub fn rules(table: &Table, numeric: bool, names: &dyn Names) -> String {
    let list = List { numeric, sorted: true, ..List::default() };
    let shown = Shown { list: &list, names: (!numeric).then_some(names) };
    let mut text = String::new();
    for service in sorted(&table.services) {
        let name = shown.rule_name(service.key);
        text.push_str(&format!("-A {name} -s {}", service.scheduler));
        rule_options(service, &mut text);
        text.push('\n');
        for destination in sorted(&service.destinations) {
            let address = shown.address(destination.address, protocol_of(service.key));
            let method = rule_method(destination);
            text.push_str(&format!("-a {name} -r {address} {method}\n"));
        }
    }
    text
}

const fn titles(what: Listed) -> &'static str {
    match what {
        Listed::Stats => {
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  -> RemoteAddress:Port\n"
        }
        Listed::Rate => {
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  -> RemoteAddress:Port\n"
        }
        Listed::Thresholds => {
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n"
        }
        Listed::PersistentConn => {
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  -> RemoteAddress:Port\n"
        }
        Listed::TunnelInfo => {
            "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        }
        _ => {
            "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        }
    }
}

/// Names count as TCP's where a mark stands for several protocols, and ports then have none.
const fn protocol_of(key: Key) -> Option<Protocol> {
    match key {
        Key::Address(protocol, _) => Some(protocol),
        Key::Mark(..) => None,
    }
}

/// How things are written.
struct Shown<'a> {
    list: &'a List,
    /// None for numbers.
    names: Option<&'a dyn Names>,
}

impl Shown<'_> {
    fn service(&self, service: &Service, text: &mut String) {
        let name = self.name(service.key);
        match self.list.what {
            Listed::Stats => {
                numbers(&format!("{name:<33}"), &service.counters.totals, self.list.exact, text);
            }
            Listed::Rate => numbers(&format!("{name:<33}"), &service.counters.rates, self.list.exact, text),
            _ => {
                text.push_str(&name);
                service_flags(service, text);
            }
        }
        if self.list.sorted {
            for destination in sorted(&service.destinations) {
                self.destination(service.key, destination, text);
            }
        } else {
            // As the kernel holds them.
            let last_first = service.destinations.iter().rev();
            last_first.for_each(|destination| self.destination(service.key, destination, text));
        }
    }

    fn destination(&self, key: Key, destination: &Destination, text: &mut String) {
        let mut name = self.address(destination.address, protocol_of(key));
        if destination.address.is_ipv4() {
            name = cut(name, NAME_IN_LIST);
        }
        let Destination { weight, upper, lower, .. } = *destination;
        let Counters { active, inactive, persistent, totals, rates } = &destination.counters;
        let forward = match destination.forward {
            Forward::Masquerade => "Masq",
            Forward::Tunnel(_) => "Tunnel",
            Forward::Route => "Route",
        };
        let columns = match self.list.what {
            Listed::Stats => return numbers(&format!("  -> {name:<28}"), totals, self.list.exact, text),
            Listed::Rate => return numbers(&format!("  -> {name:<28}"), rates, self.list.exact, text),
            Listed::Thresholds => format!("{upper:<10} {lower:<10}"),
            Listed::PersistentConn => format!("{weight:<9} {persistent:<11}"),
            Listed::TunnelInfo => format!("{forward:<7} {:<13} {weight:<6}", tunnel_info(destination)),
            _ => format!("{forward:<7} {weight:<6}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  -> {name:<28} {columns} {active:<10} {inactive:<10}");
    }

    /// A service's name in a list.
    fn name(&self, key: Key) -> String {
        match key {
            Key::Address(protocol, address) => {
                let name = self.address(address, Some(protocol));
                let name = if address.is_ipv4() { cut(name, NAME_IN_LIST) } else { name };
                format!("{:<4} {name}", protocol.word().to_uppercase())
            }
            // As a signed number, as ipvsadm does.
            Key::Mark(mark, Family::V4) => format!("FWM  {}", mark as i32),
            Key::Mark(mark, Family::V6) => format!("FWM  {} IPv6", mark as i32),
        }
    }

    /// A service's name in a rule.
    fn rule_name(&self, key: Key) -> String {
        let option = match key {
            Key::Address(Protocol::Tcp, _) => "-t",
            Key::Address(Protocol::Udp, _) => "-u",
            Key::Address(Protocol::Sctp, _) => "--sctp-service",
            Key::Mark(..) => "-f",
        };
        match key {
            Key::Address(protocol, address) => format!("{option} {}", self.address(address, Some(protocol))),
            Key::Mark(mark, Family::V4) => format!("{option} {}", mark as i32),
            Key::Mark(mark, Family::V6) => format!("{option} {} -6", mark as i32),
        }
    }

    fn address(&self, address: SocketAddr, protocol: Option<Protocol>) -> String {
        written(address, protocol, self.names)
    }
}

/// An address and port as ipvsadm writes them: with names where `names` has them.
#[must_use]
pub fn written(address: SocketAddr, protocol: Option<Protocol>, names: Option<&dyn Names>) -> String {
    let Some(names) = names else { return address.to_string() };
    let host = names.host(address.ip()).unwrap_or_else(|| address.ip().to_string());
    let l4_port = address.port();
    let service = protocol.filter(|_| l4_port != 0).and_then(|protocol| names.service(l4_port, protocol));
    let service = service.unwrap_or_else(|| l4_port.to_string());
    let name = match address.ip() {
        IpAddr::V4(_) => format!("{host}:{service}"),
        IpAddr::V6(_) => format!("[{host}]:{service}"),
    };
    cut(name, NAME_MAX)
}

/// At most so many bytes of a text.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn service_flags(service: &Service, text: &mut String) {
    text.push(' ');
    text.push_str(&service.scheduler);
    if service.flags != SchedulerFlags(0) {
        text.push_str(&format!(" ({})", flag_words(service)));
    }
    if let Some(persistence) = &service.persistence {
        text.push_str(&format!(" persistent {}", persistence.timeout));
        if persistence.netmask != Netmask::host(service.key.family()) {
            text.push_str(&format!(" mask {}", mask(persistence.netmask)));
        }
        if let Some(engine) = &service.engine {
            text.push_str(&format!(" pe {engine}"));
        }
    }
    if service.one_packet {
        text.push_str(" ops");
    }
    text.push('\n');
}

fn rule_options(service: &Service, text: &mut String) {
    if let Some(persistence) = &service.persistence {
        text.push_str(&format!(" -p {}", persistence.timeout));
        if persistence.netmask != Netmask::host(service.key.family()) {
            text.push_str(&format!(" -M {}", mask(persistence.netmask)));
        }
    }
    if let Some(engine) = &service.engine {
        text.push_str(&format!(" --pe {engine}"));
    }
    if service.one_packet {
        text.push_str(" -o");
    }
    if service.flags != SchedulerFlags(0) {
        text.push_str(&format!(" -b {}", flag_words(service)));
    }
}

fn rule_method(destination: &Destination) -> String {
    let weight = destination.weight;
    match destination.forward {
        Forward::Masquerade => format!("-m -w {weight}"),
        Forward::Route => format!("-g -w {weight}"),
        Forward::Tunnel(tunnel) => {
            let checksum = match tunnel.checksum {
                TunnelChecksum::None => " --tun-nocsum",
                TunnelChecksum::Checksum => " --tun-csum",
                TunnelChecksum::Remote => " --tun-remcsum",
            };
            match tunnel.kind {
                TunnelKind::Ipip => format!("-i -w {weight} --tun-type ipip"),
                TunnelKind::Gre => format!("-i -w {weight} --tun-type gre{checksum}"),
                TunnelKind::Gue => {
                    format!("-i -w {weight} --tun-type gue --tun-port {}{checksum}", tunnel.port)
                }
            }
        }
    }
}

fn tunnel_info(destination: &Destination) -> String {
    let Forward::Tunnel(tunnel) = destination.forward else { return "n/a".to_owned() };
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Checksum => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gre => format!("gre:{checksum}"),
        TunnelKind::Gue => format!("gue:{}:{checksum}", tunnel.port),
    }
}

/// The set flags, by the scheduler's own names where it has some.
fn flag_words(service: &Service) -> String {
    let words: &[&str] = match service.scheduler.as_str() {
        "sh" => &["sh-fallback", "sh-port"],
        "mh" => &["mh-fallback", "mh-port"],
        _ => &["flag-1", "flag-2", "flag-3"],
    };
    let set = words.iter().enumerate().filter(|(bit, _)| service.flags.0 >> bit & 1 != 0);
    set.map(|(_, word)| *word).collect::<Vec<_>>().join(",")
}

fn mask(netmask: Netmask) -> String {
    match netmask {
        Netmask::V4(mask) => mask.to_string(),
        Netmask::V6(length) => length.to_string(),
    }
}

fn numbers(name: &str, numbers: &Numbers, exact: bool, text: &mut String) {
    text.push_str(name);
    let Numbers { connections, packets_in, packets_out, bytes_in, bytes_out } = *numbers;
    for value in [connections, packets_in, packets_out, bytes_in, bytes_out] {
        text.push_str(&number(value, exact));
    }
    text.push('\n');
}

/// A number in a column; large ones in thousands, millions or thousands of millions unless all digits are wanted.
fn number(value: u64, exact: bool) -> String {
    const K: u64 = 1000;
    match value {
        _ if exact => format!(" {value:>8}"),
        0..100_000_000 => format!(" {value:>8}"),
        100_000_000..100_000_000_000 => format!(" {:>7}K", value / K),
        100_000_000_000..100_000_000_000_000 => format!(" {:>7}M", value / K / K),
        _ => format!(" {:>7}G", value / K / K / K),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first four were recorded; millions follow the same rule.
    #[test]
    fn large_numbers_are_shortened() {
        for (value, exact, want) in [
            (304_332, false, "   304332"),
            (7_637_147, false, "  7637147"),
            (116_315_000, false, "  116315K"),
            (131_180_932, true, " 131180932"),
            (99_999_999, false, " 99999999"),
            (99_999_999_999, false, " 99999999K"),
            (100_000_000_000, false, "  100000M"),
            (u64::MAX, false, " 18446744073G"),
        ] {
            assert_eq!(number(value, exact), want, "{value}");
        }
    }
}
