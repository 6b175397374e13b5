//! Rules of ipvsadm: what `ipvsadm-save` and `iptables-save` wrote, and scripts that call ipvsadm and iptables.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};
use shunt_model::ipvsadm::arguments;
use shunt_model::ipvsadm::arguments::parse;
use shunt_model::ipvsadm::names::Names;
use shunt_model::ipvsadm::table::{
    Change, Destination, Forward, Key, Netmask, Protocol, SchedulerFlags, Service, Table, Timeouts,
    TunnelChecksum, TunnelKind,
};

use super::files::{Files, l4_port};
use super::shell::{self, Command};
use super::writer::{Imported, Writer, quoted};

/// Commands of scripts that change nothing that a director would have to know.
const SILENT: &[&str] = &[
    "echo", "printf", "exit", "set", "[", "[[", "test", "true", ":", "return", "shift", "sleep", "touch",
    "rm", "logger", ".", "source", "success", "failure", "break", "continue", "cat", "modprobe", "COMMIT",
];

/// Reads rules, or a script that makes them.
#[must_use]
pub fn import(path: &Path, files: &dyn Files) -> Imported {
    let mut writer = Writer::default();
    let start = Origin { file: path.into(), line: 1, column: 1 };
    let text = match files.read(path) {
        Ok(text) => text,
        Err(error) => {
            let fault =
                Fault::new(format!("cannot be read ({error})"), "it is a readable file", "name another");
            writer.refuse(&start, "file", fault);
            return writer.finish();
        }
    };
    let mut rules = Rules {
        files,
        table: Table::default(),
        places: HashMap::new(),
        iptables: Vec::new(),
        of: "filter".into(),
    };
    for command in shell::commands(path, &text) {
        rules.take(&command, &mut writer);
    }
    rules.write(&mut writer);
    if rules.table.services.is_empty() && rules.iptables.is_empty() {
        let fault = Fault::new("no rule", "rules of ipvsadm become services", "name the file that has them");
        writer.refuse(&start, "file", fault);
    }
    writer.finish()
}

/// What the rules make.
struct Rules<'f> {
    files: &'f dyn Files,
    table: Table,
    /// Where a service and its real servers come from.
    places: HashMap<(Key, Option<SocketAddr>), Origin>,
    /// The section that takes it, and a rule of iptables as a script would have it.
    iptables: Vec<(Origin, &'static str, String)>,
    /// The table of iptables that lines of `iptables-save` are of.
    of: String,
}

/// Names as the files of this machine have them.
struct FileNames<'f>(&'f dyn Files);

impl Names for FileNames<'_> {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        self.0.addresses(host).into_iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn host(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        l4_port(service, protocol == Protocol::Udp, self.0)
    }

    fn service(&self, _l4_port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}

impl Rules<'_> {
    fn take(&mut self, command: &Command, writer: &mut Writer) {
        let origin = &command.origin;
        let written = printable(&command.written, 80);
        let words = match &command.words {
            Ok(words) => words,
            Err(what) => {
                if command.written.contains("ipvsadm") || command.written.contains("IPVSADM") {
                    let wrong = format!("{written}: {what} is not known without running the script");
                    let holds = "a rule has its addresses and ports";
                    let advice = "write the value, or import what ipvsadm-save prints while the script's rules are there";
                    writer.refuse(origin, "script", Fault::new(wrong, holds, advice));
                }
                return;
            }
        };
        let words: &[String] = match words.first().map(String::as_str) {
            Some("sudo" | "exec" | "command") => &words[1..],
            _ => words,
        };
        let Some(first) = words.first() else { return };
        let name = first.rsplit('/').next().unwrap_or_default();
        match name {
            "ipvsadm" => self.ipvsadm(&words[1..], origin, &written, writer),
            "iptables" | "ip6tables" => self.iptables(name, &words[1..], origin, &written, writer),
            _ if first.starts_with('*') && first.len() > 1 => self.of = first[1..].to_owned(),
            // A chain and its policy, in what iptables-save writes.
            _ if first.starts_with(':') && first.len() > 1 => {}
            // A chain is no option.
            "-A" | "-I" if words.get(1).is_some_and(|word| !word.starts_with('-')) => {
                let words: Vec<String> =
                    ["-t", &self.of].into_iter().map(str::to_owned).chain(words.iter().cloned()).collect();
                self.iptables("iptables", &words, origin, &written, writer);
            }
            _ if first.starts_with('-') || ["add-service", "add-server"].contains(&name) => {
                self.ipvsadm(words, origin, &written, writer)
            }
            _ if SILENT.contains(&name) && !words.iter().any(|word| word.contains("/proc/")) => {}
            _ => {
                let holds = "it is not run, and a director has NICs, addresses and routes of its own";
                let advice = "see whether a [[nic]], a [[route]] or [sysctl] has to say it";
                writer.notice(origin, "script", Fault::new(written, holds, advice));
            }
        }
    }

    fn ipvsadm(&mut self, words: &[String], origin: &Origin, written: &str, writer: &mut Writer) {
        // Where its output goes says nothing.
        let end =
            words.iter().position(|word| word.contains('>') || word.contains('<')).unwrap_or(words.len());
        let words = &words[..end];
        let change = match parse(words, true, &FileNames(self.files)) {
            Ok(arguments::Command::Change(change)) => change,
            Ok(arguments::Command::Daemon(_)) => {
                let advice = "expect connections to begin anew at a takeover: state synchronisation is not supported yet";
                return writer.advise(origin, "rules", written, advice);
            }
            Ok(_) => return,
            Err(mistake) => {
                let said = mistake.text.lines().next().unwrap_or_default().to_owned();
                let fault = Fault::new(
                    format!("{written}: {}", printable(&said, 120)),
                    "so says ipvsadm",
                    "correct it",
                );
                return writer.refuse(origin, "rules", fault);
            }
        };
        if let Err(refused) = self.table.apply(&change) {
            // Scripts begin by taking out what may be there.
            if !matches!(change, Change::DeleteService(_) | Change::DeleteServer(..)) {
                let fault = Fault::new(format!("{written}: {refused}"), "so says ipvsadm", "correct it");
                writer.refuse(origin, "rules", fault);
            }
            return;
        }
        match change {
            Change::AddService(service) => drop(self.places.insert((service.key, None), origin.clone())),
            Change::AddServer(key, real) => {
                drop(self.places.insert((key, Some(real.address)), origin.clone()))
            }
            _ => {}
        }
    }

    fn iptables(
        &mut self,
        name: &str,
        words: &[String],
        origin: &Origin,
        written: &str,
        writer: &mut Writer,
    ) {
        let has = |word: &str| words.iter().any(|known| known == word);
        let section = match words {
            _ if has("MASQUERADE") || has("SNAT") => Some("[[masquerade]]"),
            _ if has("MARK") => Some("[[mark]]"),
            _ => None,
        };
        if let Some(section) = section.filter(|_| name == "iptables" && (has("-A") || has("-I"))) {
            let line = format!("{name} {}", words.join(" "));
            return self.iptables.push((origin.clone(), section, line));
        }
        if has("-A") || has("-I") {
            let holds = "a director routes what no service takes by [[forward]] alone";
            let advice = "see whether a [[forward]], [[mark]] or [[masquerade]] has to say it";
            writer.notice(origin, "script", Fault::new(written, holds, advice));
        }
    }

    fn origin(&self, key: Key, real: Option<SocketAddr>) -> Option<&Origin> {
        self.places.get(&(key, real)).or_else(|| self.places.get(&(key, None)))
    }

    fn write(&self, writer: &mut Writer) {
        let nowhere = Origin { file: Path::new("").into(), line: 1, column: 1 };
        let first = self.places.values().min().unwrap_or(&nowhere);
        if self.table.timeouts != Timeouts::default() {
            writer.table(first, "[timeout]");
            let Timeouts { tcp, tcp_fin, udp } = self.table.timeouts;
            for (key, time) in [("tcp", tcp), ("tcpfin", tcp_fin), ("udp", udp)] {
                writer.key(first, key, quoted(&format!("{time}s")));
            }
        }
        for (origin, section, line) in &self.iptables {
            writer.table(origin, section);
            let mark = line
                .split_once("--set-mark ")
                .or_else(|| line.split_once("--set-xmark "))
                .map(|(_, mark)| mark);
            let _ = mark;
            writer.key(origin, "iptables", quoted(line));
        }
        for service in &self.table.services {
            let origin = self.origin(service.key, None).unwrap_or(first);
            self.write_service(service, origin, writer);
        }
    }

    fn write_service(&self, service: &Service, origin: &Origin, writer: &mut Writer) {
        writer.table(origin, "[[service]]");
        match service.key {
            Key::Address(protocol, listen) => {
                writer.key(origin, "name", quoted(&format!("{}-{listen}", protocol.word())));
                writer.key(origin, "listen", quoted(&listen.to_string()));
                writer.key(origin, "protocol", quoted(protocol.word()));
            }
            Key::Mark(mark, family) => {
                let ipv6 = family == shunt_model::ipvsadm::table::Family::V6;
                writer.key(
                    origin,
                    "name",
                    quoted(&format!("fwmark-{mark}{}", if ipv6 { "-ipv6" } else { "" })),
                );
                let family = if ipv6 { ", family = \"ipv6\"" } else { "" };
                writer.key(origin, "listen", format!("{{ fwmark = {mark}{family} }}"));
            }
        }
        writer.key(origin, "scheduler", quoted(&service.scheduler));
        let flags = [(SchedulerFlags::FALLBACK, "fallback"), (SchedulerFlags::PORT, "port")];
        let flags = flags.iter().filter(|(flag, _)| service.flags.0 & flag.0 != 0);
        let flags: Vec<String> = flags.map(|(_, word)| quoted(word)).collect();
        if !flags.is_empty() {
            writer.key(origin, "scheduler_flags", format!("[{}]", flags.join(", ")));
        }
        if let Some(persistence) = service.persistence {
            let bits = match persistence.netmask {
                Netmask::V4(mask) => u32::from(mask).leading_ones(),
                Netmask::V6(bits) => bits.into(),
            };
            let timeout = quoted(&format!("{}s", persistence.timeout));
            writer.key(origin, "persistence", format!("{{ timeout = {timeout}, netmask = {bits} }}"));
        }
        if service.one_packet {
            writer.key(origin, "one_packet", true);
        }
        if let Some(engine) = &service.engine {
            let wrong = format!("the persistence engine {engine} is not supported");
            let fault = Fault::new(wrong, "clients persist by their address", "leave --pe out");
            writer.refuse(origin, "rules", fault);
        }
        writer.line(origin, "real = [");
        for real in &service.destinations {
            let origin = self.origin(service.key, Some(real.address)).unwrap_or(origin);
            writer.line(origin, &format!("  {{ {} }},", real_keys(real, service.key).join(", ")));
        }
        writer.line(origin, "]");
    }
}

fn real_keys(real: &Destination, key: Key) -> Vec<String> {
    let is_marked = matches!(key, Key::Mark(..));
    let has_port = real.forward == Forward::Masquerade && !is_marked && real.address.port() != 0;
    let address = if has_port { real.address.to_string() } else { real.address.ip().to_string() };
    let mut keys = vec![format!("address = {}", quoted(&address))];
    let forward = match real.forward {
        Forward::Masquerade => "nat",
        Forward::Route => "dr",
        Forward::Tunnel(_) => "tun",
    };
    keys.push(format!("forward = {}", quoted(forward)));
    if let Forward::Tunnel(tunnel) = real.forward {
        match tunnel.kind {
            TunnelKind::Ipip => {}
            TunnelKind::Gre => keys.push("tunnel = \"gre\"".to_owned()),
            TunnelKind::Gue => keys.push(format!("tunnel = \"gue\", tunnel_port = {}", tunnel.port)),
        }
        match tunnel.checksum {
            TunnelChecksum::None => {}
            TunnelChecksum::Checksum => keys.push("tunnel_checksum = \"full\"".to_owned()),
            TunnelChecksum::Remote => keys.push("tunnel_checksum = \"remote\"".to_owned()),
        }
    }
    keys.push(format!("weight = {}", real.weight));
    for (key, value) in [("u_threshold", real.upper), ("l_threshold", real.lower)] {
        keys.extend((value > 0).then(|| format!("{key} = {value}")));
    }
    keys
}
