//! What `ipvsadm` prints, from the director's plan, counters and connection tables.

use std::fmt::Write;
use std::net::SocketAddr;

use shunt_dataplane::address::Address;
use shunt_dataplane::connections::{Entry, TcpState};
use shunt_dataplane::counters::{Counter, RealCell, RealCounters};
use shunt_dataplane::id::{L4Port, Protocol};
use shunt_dataplane::service::Method;
use shunt_dataplane::snapshot::{RealPlan, ServicePlan};
use shunt_dataplane::time::Tick;

use crate::director::Director;

const HEAD: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";

/// `ipvsadm -lnc`.
#[must_use]
pub fn connections(director: &Director) -> String {
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination\n");
    let now = director.now();
    for worker in director.workers() {
        worker.v4().list(&mut 0, usize::MAX, now, |entry| text.push_str(&connection(entry, now)));
        worker.v6().list(&mut 0, usize::MAX, now, |entry| text.push_str(&connection(entry, now)));
    }
    text
}

fn connection<A: Address>(entry: &Entry<A>, now: Tick) -> String {
    let left = entry.expires().remaining(now).as_duration().as_secs();
    let end = |address: A, l4_port: L4Port| SocketAddr::new(address.into(), l4_port.0).to_string();
    format!(
        "{:<3} {:02}:{:02}  {:<11} {:<18} {:<18} {}\n",
        protocol(entry.protocol()),
        left / 60,
        left % 60,
        entry.state_word(),
        end(entry.client(), entry.client_port()),
        end(entry.vip(), entry.vip_port()),
        end(entry.real_address(), entry.real_port()),
    )
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// `ipvsadm -Ln`.
#[must_use]
pub fn services(director: &Director) -> String {
    let mut text = String::from(HEAD);
    text.push_str("Prot LocalAddress:Port Scheduler Flags\n");
    text.push_str("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n");
    for service in &sorted(director) {
        line(
            &mut text,
            format_args!("{}  {} {}", protocol(service.protocol), service.listen, shown_scheduler(service)),
        );
        for real in &service.reals {
            let count = |field| sum(director, service, real, field);
            let forward = match real.method {
                Method::Dr => "Route",
                Method::Nat => "Masq",
                Method::Tun => "Tunnel",
            };
            let (active, inactive) = (count(|cell| &cell.active), count(|cell| &cell.inactive));
            let (address, weight) = (shown_address(service, real).to_string(), real.weight);
            line(
                &mut text,
                format_args!("  -> {address:<28} {forward:<7} {weight:<6} {active:<10} {inactive:<10}"),
            );
        }
    }
    text
}

/// `ipvsadm -Sn`.
#[must_use]
pub fn rules(director: &Director) -> String {
    let mut text = String::new();
    for service in &sorted(director) {
        let letter = match service.protocol {
            Protocol::Tcp => 't',
            Protocol::Udp => 'u',
        };
        let listen = service.listen;
        let flags = flags(service);
        let flags = if flags.is_empty() { flags } else { format!(" -b {flags}") };
        let one_packet = if service.settings.one_packet { " -o" } else { "" };
        line(&mut text, format_args!("-A -{letter} {listen} -s {}{flags}{one_packet}", service.scheduler));
        for real in &service.reals {
            let forward = match real.method {
                Method::Dr => "-g",
                Method::Nat => "-m",
                Method::Tun => "-i",
            };
            let tunnel = if real.method == Method::Tun { " --tun-type ipip" } else { "" };
            let address = shown_address(service, real);
            line(
                &mut text,
                format_args!("-a -{letter} {listen} -r {address} {forward} -w {}{tunnel}", real.weight),
            );
        }
    }
    text
}

/// `ipvsadm -Ln --stats --exact`.
#[must_use]
pub fn statistics(director: &Director) -> String {
    let mut text = String::from(HEAD);
    text.push_str("Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n");
    text.push_str("  -> RemoteAddress:Port\n");
    for service in &sorted(director) {
        let of_reals = service.reals.iter().map(|real| numbers(director, service, real)).collect::<Vec<_>>();
        let total =
            of_reals.iter().fold([0; 5], |total, real| std::array::from_fn(|at| total[at] + real[at]));
        let row = |name: String, numbers: [u64; 5]| {
            let [connections, packets_in, packets_out, bytes_in, bytes_out] = numbers;
            format!(
                "{name:<33} {connections:>8} {packets_in:>8} {packets_out:>8} {bytes_in:>8} {bytes_out:>8}"
            )
        };
        let name = format!("{}  {}", protocol(service.protocol), service.listen);
        line(&mut text, format_args!("{}", row(name, total)));
        for (real, numbers) in service.reals.iter().zip(of_reals) {
            let name = format!("  -> {}", shown_address(service, real));
            line(&mut text, format_args!("{}", row(name, numbers)));
        }
    }
    text
}

/// The scheduler and what else `-Ln` tells of a service.
fn shown_scheduler(service: &ServicePlan) -> String {
    let flags = flags(service);
    let flags = if flags.is_empty() { flags } else { format!(" ({flags})") };
    let one_packet = if service.settings.one_packet { " ops" } else { "" };
    format!("{}{flags}{one_packet}", service.scheduler)
}

/// The flags of a service's scheduler, as `-b` takes them.
fn flags(service: &ServicePlan) -> String {
    let set = service.settings.flags;
    let named = [(set.fallback, "fallback"), (set.port, "port")];
    let names =
        named.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| format!("{}-{name}", service.scheduler));
    names.collect::<Vec<_>>().join(",")
}

/// `ipvsadm -L --timeout`.
#[must_use]
pub fn timeouts(director: &Director) -> String {
    let timeouts = &director.plan().timeouts;
    let seconds = [timeouts.of(TcpState::Established), timeouts.of(TcpState::FinWait), timeouts.udp]
        .map(|ticks| ticks.as_duration().as_secs().to_string());
    format!("Timeout (tcp tcpfin udp): {}\n", seconds.join(" "))
}

/// `ipvsadm -Ln --thresholds`.
#[must_use]
pub fn thresholds(director: &Director) -> String {
    let mut text = String::from(HEAD);
    text.push_str("Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n");
    text.push_str("  -> RemoteAddress:Port\n");
    for service in &sorted(director) {
        let (protocol, listen) = (protocol(service.protocol), service.listen);
        line(&mut text, format_args!("{protocol}  {listen} {}", shown_scheduler(service)));
        for real in &service.reals {
            let count = |field| sum(director, service, real, field);
            let address = shown_address(service, real).to_string();
            let (upper, lower) = (real.thresholds.upper, real.thresholds.lower);
            let (active, inactive) = (count(|cell| &cell.active), count(|cell| &cell.inactive));
            line(
                &mut text,
                format_args!("  -> {address:<28} {upper:<10} {lower:<10} {active:<10} {inactive:<10}"),
            );
        }
    }
    text
}

/// Services and real servers in the order of `ipvsadm`.
fn sorted(director: &Director) -> Vec<ServicePlan> {
    let mut services = director.plan().services.clone();
    services.sort_by_key(|service| (service.listen.is_ipv6(), service.protocol, service.listen));
    for service in &mut services {
        service.reals.sort_by_key(|real| real.address);
    }
    services
}

fn numbers(director: &Director, service: &ServicePlan, real: &RealPlan) -> [u64; 5] {
    let count = |field| sum(director, service, real, field);
    [
        count(|cell| &cell.connections),
        count(|cell| &cell.packets_in),
        count(|cell| &cell.packets_out),
        count(|cell| &cell.bytes_in),
        count(|cell| &cell.bytes_out),
    ]
}

fn sum(director: &Director, service: &ServicePlan, real: &RealPlan, field: fn(&RealCell) -> &Counter) -> u64 {
    let registry = director.registry();
    let counters = registry
        .service_id(service.listen, service.protocol)
        .and_then(|id| registry.real_id(id, real.address))
        .and_then(|id| registry.counters(id));
    counters.map_or(0, |counters: &RealCounters| counters.sum(field))
}

/// DR and TUN ignore the real server's port and show the service's.
fn shown_address(service: &ServicePlan, real: &RealPlan) -> SocketAddr {
    match real.method {
        Method::Nat => real.address,
        Method::Dr | Method::Tun => SocketAddr::new(real.address.ip(), service.listen.port()),
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{arguments}");
}
