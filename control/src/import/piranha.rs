//! Piranha's `lvs.cf` (Red Hat's LVS administration): services, and the pair of directors.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::files::Files;
use super::interfaces::Interfaces;
use super::note::Origin;
use super::writer::{Imported, Writer, last_of_each, quoted, seconds};
use crate::config::document::nearest;
use crate::config::problem::{Fault, printable};

/// `KEY = VALUE`, or a block with its name.
#[derive(Clone, Debug)]
struct Item {
    origin: Origin,
    key: String,
    value: String,
    block: Option<Vec<Item>>,
}

/// Keys of the file, of a virtual server, of a real server: what is supported, and what holds instead of the others.
const GLOBAL: &[&str] =
    &["network", "primary", "backup", "backup_active", "keepalive", "deadtime", "nat_router"];
const GLOBAL_INSTEAD: &[(&str, &str)] = &[
    ("serial_no", "the file has no serial number here"),
    ("service", "a director is always a director"),
    ("heartbeat", "directors hear each other by VRRP"),
    ("heartbeat_port", "VRRP has no port"),
    ("primary_private", "VRRP runs on each NIC of its own"),
    ("backup_private", "VRRP runs on each NIC of its own"),
    ("primary_shared", "VRRP runs on each NIC of its own"),
    ("backup_shared", "VRRP runs on each NIC of its own"),
    ("nat_nmask", "addresses of a [[nic]] have their length"),
    ("rsh_command", "nothing is asked by a remote shell"),
    ("rup_command", "nothing is asked by a remote shell"),
    ("debug_level", "RUST_LOG says how much is logged"),
    ("monitor_links", "the link of every NIC is watched"),
    ("syncdaemon", "state synchronisation is not supported yet"),
    ("syncd_iface", "state synchronisation is not supported yet"),
    ("syncd_id", "state synchronisation is not supported yet"),
    ("tcp_timeout", "use [timeout] tcp"),
    ("tcpfin_timeout", "use [timeout] tcpfin"),
    ("udp_timeout", "use [timeout] udp"),
    ("reservation_conflict_action", "the higher priority is master"),
];
const VIRTUAL: &[&str] = &[
    "active",
    "address",
    "port",
    "fwmark",
    "protocol",
    "scheduler",
    "persistent",
    "pmask",
    "send",
    "expect",
    "use_regex",
    "send_program",
    "timeout",
    "reentry",
    "quiesce_server",
    "sorry_server",
];
const VIRTUAL_INSTEAD: &[(&str, &str)] = &[
    ("vip_nmask", "a VIP needs no length"),
    ("load_monitor", "weights stay as they are: no load is asked for by a remote shell"),
    ("hb_interval", "the interval of a check is its timeout"),
];
const REAL: &[&str] = &["address", "active", "weight", "port"];

/// Reads `lvs.cf`.
#[must_use]
pub fn import(path: &Path, files: &dyn Files, mut interfaces: Interfaces) -> Imported {
    let mut writer = Writer::default();
    let items = match files.read(path) {
        Ok(text) => items(path, &text, &mut writer),
        Err(error) => {
            let origin = Origin { file: path.into(), line: 1, column: 1 };
            let fault =
                Fault::new(format!("cannot be read ({error})"), "it is a readable file", "name another");
            writer.refuse(&origin, "file", fault);
            Vec::new()
        }
    };
    let mut method = "nat";
    for item in items.iter().filter(|item| item.block.is_none()) {
        if !known(item, "file", GLOBAL, GLOBAL_INSTEAD, &mut writer) {
            continue;
        }
        match (item.key.as_str(), item.value.as_str()) {
            ("network", "nat") => method = "nat",
            ("network", "direct") => method = "dr",
            ("network", "tunnel") => method = "tun",
            ("network", _) => wrong(item, "file", "nat, direct or tunnel", &mut writer),
            ("nat_router", _) => {
                let instead = "the address that real servers route to is a VIP: name it in a [[vrrp]]";
                writer.tell(&item.origin, "file", &item.line(), super::Fate::Instead(instead));
            }
            _ => {
                let instead = "the two directors are a [[vrrp]] each, the backup with a lower priority";
                writer.tell(&item.origin, "file", &item.line(), super::Fate::Instead(instead));
            }
        }
    }
    for item in &items {
        let Some(block) = &item.block else { continue };
        if item.key == "virtual" {
            service(item, block, method, &mut interfaces, &mut writer);
        } else {
            let fault = Fault::new(format!("unknown block {}", item.key), "a block is virtual", "remove it");
            writer.refuse(&item.origin, "file", fault);
        }
    }
    let mut head = Writer::default();
    interfaces.write(|_| false, &mut head);
    head.append(writer);
    head.finish()
}

impl Item {
    fn line(&self) -> String {
        format!("{} = {}", self.key, self.value)
    }
}

/// The items of the file, blocks with theirs.
fn items(path: &Path, text: &str, writer: &mut Writer) -> Vec<Item> {
    let mut open: Vec<Vec<Item>> = vec![Vec::new()];
    let mut last = Origin { file: path.into(), line: 1, column: 1 };
    for (number, row) in text.lines().enumerate() {
        let content = row.trim();
        let column = row.len() - row.trim_start().len() + 1;
        let origin = Origin { file: path.into(), line: number + 1, column };
        last = origin.clone();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if content == "}" {
            close(&mut open, &origin, writer);
        } else if let Some(head) = content.strip_suffix('{') {
            let (key, value) = head.trim().split_once(char::is_whitespace).unwrap_or((head.trim(), ""));
            let item = Item { origin, key: key.to_owned(), value: value.trim().to_owned(), block: None };
            if let Some(block) = open.last_mut() {
                block.push(item);
            }
            open.push(Vec::new());
        } else if let Some((key, value)) = content.split_once('=') {
            let (key, value) = (key.trim().to_owned(), unquoted(value.trim()));
            if let Some(block) = open.last_mut() {
                block.push(Item { origin, key, value, block: None });
            }
        } else {
            let wrong = format!("{} is not understood", printable(content, 60));
            let holds = "a line is KEY = VALUE, a block with {, or }";
            writer.refuse(&origin, "file", Fault::new(wrong, holds, "write it so"));
        }
    }
    while open.len() > 1 {
        writer.refuse(&last, "file", Fault::new("a block is not closed", "every { has its }", "add it"));
        let block = open.pop();
        own(&mut open, block);
    }
    open.swap_remove(0)
}

fn close(open: &mut Vec<Vec<Item>>, origin: &Origin, writer: &mut Writer) {
    if open.len() == 1 {
        let fault = Fault::new("a } that ends no block", "every } has its {", "remove it");
        return writer.refuse(origin, "file", fault);
    }
    let block = open.pop();
    own(open, block);
}

fn own(open: &mut [Vec<Item>], block: Option<Vec<Item>>) {
    if let Some(item) = open.last_mut().and_then(|outer| outer.last_mut()) {
        item.block = block;
    }
}

/// The text within quotation marks, with `\r`, `\n`, `\t`, `\"` and `\\` for what they stand for.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => text.extend(characters.next().map(|c| match c {
                'r' => '\r',
                'n' => '\n',
                't' => '\t',
                c => c,
            })),
            c => text.push(c),
        }
    }
    text
}

/// True for a key that is supported; tells of every other.
fn known(
    item: &Item,
    place: &str,
    supported: &[&str],
    instead: &'static [(&'static str, &'static str)],
    writer: &mut Writer,
) -> bool {
    if supported.contains(&item.key.as_str()) {
        return true;
    }
    if let Some((_, words)) = instead.iter().find(|(key, _)| *key == item.key) {
        writer.tell(&item.origin, place, &item.line(), super::Fate::Instead(words));
        return false;
    }
    let words: Vec<&str> = supported.iter().copied().chain(instead.iter().map(|(key, _)| *key)).collect();
    let advice = nearest(&item.key, &words)
        .map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
    let wrong = format!("unknown key {}", printable(&item.key, 60));
    writer.refuse(
        &item.origin,
        place,
        Fault::new(wrong, format!("the keys are {}", words.join(", ")), advice),
    );
    false
}

fn wrong(item: &Item, place: &str, holds: &str, writer: &mut Writer) {
    let wrong = format!("{} cannot be {}", item.key, printable(&item.value, 60));
    writer.refuse(&item.origin, place, Fault::new(wrong, holds, "write one of those"));
}

/// A `virtual` as it is read.
#[derive(Default)]
struct Virtual {
    address: Option<IpAddr>,
    l4_port: u16,
    mark: Option<u32>,
    protocol: Option<String>,
    keys: Vec<(Origin, &'static str, String)>,
    persistent: Option<u32>,
    netmask: Option<u8>,
    send: Option<String>,
    program: Option<String>,
    expect: Option<String>,
    regex: bool,
    timeout: Option<f64>,
    reentry: Option<f64>,
    inactive: bool,
}

fn service(item: &Item, block: &[Item], method: &str, interfaces: &mut Interfaces, writer: &mut Writer) {
    let place = format!("virtual {}", item.value);
    let mut service = Virtual::default();
    for item in block.iter().filter(|item| item.block.is_none()) {
        if known(item, &place, VIRTUAL, VIRTUAL_INSTEAD, writer)
            && !service.take(item, &place, interfaces, writer)
        {
            wrong(item, &place, "a value that the key takes (docs/import.md)", writer);
        }
    }
    if service.inactive {
        return writer.comment(&item.origin, &format!("{place} is not active"));
    }
    let origin = &item.origin;
    writer.table(origin, "[[service]]");
    writer.key(origin, "name", quoted(&item.value));
    match (service.mark, service.address) {
        (Some(mark), _) => writer.key(origin, "listen", format!("{{ fwmark = {mark} }}")),
        (None, Some(address)) => {
            writer.key(origin, "listen", quoted(&SocketAddr::new(address, service.l4_port).to_string()));
            writer.key(origin, "protocol", quoted(service.protocol.as_deref().unwrap_or("tcp")));
        }
        (None, None) => {
            let fault = Fault::new("address is missing", "a virtual has an address or a fwmark", "add it");
            writer.refuse(origin, &place, fault);
        }
    }
    for (origin, key, value) in &last_of_each(std::mem::take(&mut service.keys), |(_, key, _)| *key) {
        writer.key(origin, key, value);
    }
    if let Some(persistent) = service.persistent {
        let netmask = service.netmask.map(|bits| format!(", netmask = {bits}")).unwrap_or_default();
        let timeout = seconds(persistent.into());
        writer.key(origin, "persistence", format!("{{ timeout = {timeout}{netmask} }}"));
    }
    writer.key(origin, "forward", quoted(method));
    if let Some(check) = service.check() {
        writer.key(origin, "check", check);
    }
    writer.line(origin, "real = [");
    for item in block {
        let Some(keys) = &item.block else { continue };
        if item.key == "server" {
            real(item, keys, &service, method, &place, writer);
        } else {
            let fault =
                Fault::new(format!("unknown block {}", item.key), "a block here is server", "remove it");
            writer.refuse(&item.origin, &place, fault);
        }
    }
    writer.line(origin, "]");
}

impl Virtual {
    /// Takes a key; false when its value is wrong.
    fn take(&mut self, item: &Item, place: &str, interfaces: &mut Interfaces, writer: &mut Writer) -> bool {
        let value = item.value.as_str();
        let mut words = value.split_whitespace();
        let key = match item.key.as_str() {
            "active" => {
                self.inactive = value == "0";
                return ["0", "1"].contains(&value);
            }
            "address" => {
                self.address = words.next().and_then(|word| word.parse().ok());
                // `eth0:1`: the alias is of no use here.
                if let Some(interface) = words.next().and_then(|word| word.split(':').next()) {
                    let _ = interfaces.nic(interface, &item.origin, place, writer);
                }
                return self.address.is_some();
            }
            "port" => return value.parse().map(|l4_port| self.l4_port = l4_port).is_ok(),
            "fwmark" => {
                self.mark = value.parse().ok().filter(|mark| *mark > 0);
                return self.mark.is_some();
            }
            "protocol" => {
                self.protocol = Some(value.to_ascii_lowercase());
                return ["tcp", "udp"].contains(&value.to_ascii_lowercase().as_str());
            }
            "persistent" => {
                self.persistent = value.parse().ok().filter(|time| *time > 0);
                return self.persistent.is_some() || value == "0";
            }
            "pmask" => {
                self.netmask = super::keepalived::netmask(value);
                return self.netmask.is_some();
            }
            "send" => return self.send.replace(value.to_owned()).is_none(),
            "expect" => return self.expect.replace(value.to_owned()).is_none(),
            "send_program" => return self.program.replace(value.to_owned()).is_none(),
            "use_regex" => {
                self.regex = value == "1";
                return ["0", "1"].contains(&value);
            }
            "quiesce_server" => ("inhibit_on_failure", (value == "1").to_string()),
            "sorry_server" => ("sorry_server", format!("{{ address = {} }}", quoted(value))),
            "timeout" => {
                self.timeout = value.parse().ok().filter(|time| *time > 0.0);
                return self.timeout.is_some();
            }
            "reentry" => {
                self.reentry = value.parse().ok().filter(|time| *time >= 0.0);
                return self.reentry.is_some();
            }
            _ => ("scheduler", quoted(value)),
        };
        self.keys.push((item.origin.clone(), key.0, key.1));
        true
    }

    /// A program of which the output has to match, for a shell; the real server's address stands for `%h`.
    fn command(&self, program: &str) -> String {
        let program = program.replace("%h", "$SHUNT_REAL");
        let Some(expect) = self.expect.as_deref().filter(|text| !text.is_empty()) else { return program };
        let option = if self.regex { "-E" } else { "-F" };
        format!("{program} | grep -q {option} -e '{}'", expect.replace('\'', "'\\''"))
    }

    /// What asks the real servers: a program, or what is sent and expected; a connection where nothing is said.
    fn check(&self) -> Option<String> {
        let mut keys = vec![];
        let expect = self.expect.as_deref().filter(|text| !text.is_empty());
        if let Some(program) = &self.program {
            keys.push(format!("kind = \"script\", command = {}", quoted(&self.command(program))));
        } else if self.send.is_some() || expect.is_some() {
            keys.push("kind = \"send\"".to_owned());
            keys.extend(self.send.iter().map(|send| format!("send = {}", quoted(send))));
        } else if self.protocol.as_deref() == Some("udp") {
            return None;
        } else {
            keys.push("kind = \"tcp\"".to_owned());
        }
        if let Some(expect) = expect.filter(|_| self.program.is_none()) {
            let key = if self.regex { "expect_regex" } else { "expect" };
            keys.push(format!("{key} = {}", quoted(expect)));
        }
        let timeout = seconds(self.timeout.unwrap_or(10.0));
        keys.push(format!("interval = {timeout}, timeout = {timeout}, fall = 1, rise = 1"));
        keys.extend(self.reentry.map(|time| format!("reentry = {}", seconds(time))));
        Some(format!("{{ {} }}", keys.join(", ")))
    }
}

fn real(item: &Item, keys: &[Item], service: &Virtual, method: &str, place: &str, writer: &mut Writer) {
    let place = format!("{place}, server {}", item.value);
    let (mut address, mut l4_port, mut weight, mut active): (Option<IpAddr>, Option<u16>, Option<u32>, bool) =
        (None, None, None, true);
    for item in keys {
        if !known(item, &place, REAL, &[], writer) {
            continue;
        }
        let good = match item.key.as_str() {
            "address" => item.value.parse().map(|parsed| address = Some(parsed)).is_ok(),
            "port" => item.value.parse().map(|parsed| l4_port = Some(parsed)).is_ok(),
            "weight" => item.value.parse().map(|parsed| weight = Some(parsed)).is_ok(),
            _ => {
                active = item.value == "1";
                ["0", "1"].contains(&item.value.as_str())
            }
        };
        if !good {
            wrong(item, &place, "a value that the key takes (docs/import.md)", writer);
        }
    }
    let Some(address) = address else {
        return writer.refuse(
            &item.origin,
            &place,
            Fault::new("address is missing", "a server has one", "add it"),
        );
    };
    let l4_port = l4_port.filter(|_| method == "nat" && service.mark.is_none());
    let text = l4_port.map_or(address.to_string(), |l4_port| SocketAddr::new(address, l4_port).to_string());
    let mut line = format!("{{ address = {}", quoted(&text));
    if let Some(weight) = weight {
        line += &format!(", weight = {weight}");
    }
    if active {
        writer.line(&item.origin, &format!("  {line} }},"));
    } else {
        writer.line(&item.origin, &format!("  # not active: {line} }},"));
    }
}
