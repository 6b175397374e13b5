//! Piranha's `lvs.cf` (Red Hat's LVS administration): services, and the pair of directors.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::files::{Files, l4_port, without_comment};
use super::interfaces::Interfaces;
use super::vrrp::{PRIORITIES, Router, interval, within};
use super::writer::{Imported, Writer, last_of_each, quoted, seconds};
use crate::document::nearest;

/// `KEY = VALUE`, or a block with its name.
#[derive(Clone, Debug)]
struct Item {
    origin: Origin,
    key: String,
    value: String,
    block: Option<Vec<Item>>,
}

/// Keys of the file, of a virtual server, of a real server: what is supported, and what holds instead of the others.
const GLOBAL: &[&str] = &[
    "network",
    "primary",
    "backup",
    "backup_active",
    "keepalive",
    "deadtime",
    "nat_router",
    "tcp_timeout",
    "tcpfin_timeout",
    "udp_timeout",
    "active_cmd",
    "inactive_cmd",
];
const GLOBAL_INSTEAD: &[(&str, &str)] = &[
    ("hard_shutdown", "a director that stops leaves its addresses to the other one, and connections end"),
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
    ("debug_level", "SHUNT_LOG says how much is logged"),
    ("monitor_links", "the link of every NIC is watched"),
    ("reservation_conflict_action", "the higher priority is master"),
];
/// Keys of the synchronisation daemon.
const SYNC: &[&str] = &["syncdaemon", "syncd_iface", "syncd_id"];
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
    (
        "hard_shutdown",
        "a real server that is down leaves the schedule; its connections end with quiesce_server = 0",
    ),
];
const REAL: &[&str] = &["address", "active", "weight", "port"];

/// Reads `lvs.cf`, for the director of this role: `primary` or `backup`, or what the addresses of this machine tell.
#[must_use]
pub fn import(path: &Path, files: &dyn Files, role: &str, mut interfaces: Interfaces) -> Imported {
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
    let mut global = Global::default();
    for item in items.iter().filter(|item| item.block.is_none()) {
        if known(item, "file", GLOBAL, GLOBAL_INSTEAD, &mut writer) && !global.take(item) {
            wrong(item, "file", "a value that the key takes (docs/import.md)", &mut writer);
        }
    }
    let method = global.method.unwrap_or("nat");
    for item in &items {
        let Some(block) = &item.block else { continue };
        if item.key == "virtual" {
            let vip = service(item, block, method, files, &mut writer);
            global.vips.extend(vip);
        } else if item.key == "failover" {
            let wrong = format!("failover {} is not supported", printable(&item.value, 60));
            let holds = "a director starts no services";
            let advice = "let the service manager start it, or notify_master of a [[vrrp]]";
            writer.refuse(&item.origin, "file", Fault::new(wrong, holds, advice));
        } else {
            let fault = Fault::new(format!("unknown block {}", item.key), "a block is virtual", "remove it");
            writer.refuse(&item.origin, "file", fault);
        }
    }
    let mut pair = Writer::default();
    global.write((role, files), &mut interfaces, &mut pair);
    pair.append(writer);
    let mut head = Writer::default();
    let is_vip = |address| global.vips.iter().any(|vip| vip.address == address);
    interfaces.write(files, is_vip, &[], &mut head);
    head.append(pair);
    head.finish()
}

/// An address that moves between the directors, and the interface that has it.
struct Vip {
    origin: Origin,
    address: IpAddr,
    interface: Option<String>,
}

impl Vip {
    /// `192.0.2.10 eth0:1`: the alias is of no use here.
    fn new(item: &Item) -> Option<Self> {
        let mut words = item.value.split_whitespace();
        let address = words.next()?.parse().ok()?;
        let interface = words.next().and_then(|word| word.split(':').next()).map(str::to_owned);
        Some(Self { origin: item.origin.clone(), address, interface })
    }
}

/// What the file says beside its services.
#[derive(Default)]
struct Global {
    method: Option<&'static str>,
    primary: Option<(Origin, IpAddr)>,
    backup: Option<IpAddr>,
    has_backup: bool,
    interval: Option<f64>,
    silence: Option<f64>,
    vips: Vec<Vip>,
    timeouts: Vec<(Origin, &'static str, f64)>,
    scripts: Vec<(Origin, &'static str, String)>,
}

impl Global {
    /// Takes a key; false when its value is wrong.
    fn take(&mut self, item: &Item) -> bool {
        let (value, origin) = (item.value.as_str(), item.origin.clone());
        let time = || value.parse::<u32>().ok().map(f64::from);
        let address = || value.split_whitespace().next().and_then(|word| word.parse::<IpAddr>().ok());
        match item.key.as_str() {
            "network" => {
                let words = [("nat", "nat"), ("direct", "dr"), ("tunnel", "tun")];
                let method = words.iter().find(|(word, _)| *word == value.to_lowercase());
                self.method = method.map(|(_, method)| *method);
                self.method.is_some()
            }
            "primary" => address().map(|address| self.primary = Some((origin, address))).is_some(),
            // 0.0.0.0 stands for none.
            "backup" => address()
                .map(|address| self.backup = Some(address).filter(|one| !one.is_unspecified()))
                .is_some(),
            "backup_active" => {
                self.has_backup = value == "1";
                ["0", "1"].contains(&value)
            }
            "keepalive" => time().filter(|time| *time > 0.0).map(|time| self.interval = Some(time)).is_some(),
            "deadtime" => time().filter(|time| *time > 0.0).map(|time| self.silence = Some(time)).is_some(),
            "nat_router" => Vip::new(item).map(|vip| self.vips.push(vip)).is_some(),
            "active_cmd" | "inactive_cmd" => {
                let key = if item.key == "active_cmd" { "notify_master" } else { "notify_backup" };
                self.scripts.push((origin, key, quoted(value)));
                true
            }
            key => {
                let key =
                    ["tcpfin", "udp"].iter().find(|word| key.starts_with(**word)).copied().unwrap_or("tcp");
                // 0 leaves the kernel's own, as with ipvsadm --set.
                let time = time();
                self.timeouts.extend(time.filter(|time| *time > 0.0).map(|time| (origin, key, time)));
                time.is_some()
            }
        }
    }

    /// Writes `[timeout]`, and a virtual router for each interface whose addresses move.
    fn write(&self, (role, files): (&str, &dyn Files), interfaces: &mut Interfaces, writer: &mut Writer) {
        if let Some((origin, ..)) = self.timeouts.first() {
            writer.table(origin, "[timeout]");
            for (origin, key, time) in &last_of_each(self.timeouts.clone(), |(_, key, _)| *key) {
                writer.key(origin, key, seconds(*time));
            }
        }
        let (Some((origin, primary)), Some(backup), true) = (&self.primary, self.backup, self.has_backup)
        else {
            for (origin, key, value) in &self.scripts {
                writer.advise(
                    origin,
                    "file",
                    &format!("a command {value}"),
                    &format!("use {key} of a [[vrrp]]"),
                );
            }
            return self.vips.iter().filter_map(|vip| Some((vip, vip.interface.as_ref()?))).for_each(
                |(vip, interface)| {
                    let _ = interfaces.nic(interface, &vip.origin, "file", writer);
                },
            );
        };
        let priority = priority(role, files, origin, (*primary, backup), writer);
        let mut routers: Vec<(Origin, Router)> = Vec::new();
        for vip in &self.vips {
            let known = routers.iter().any(|(_, router)| router.addresses.contains(&vip.address));
            let Some(interface) = vip.interface.as_ref().filter(|_| !known) else { continue };
            let nic = interfaces.nic(interface, &vip.origin, "file", writer);
            match routers.iter_mut().find(|(_, router)| router.nic == nic) {
                Some((_, router)) => router.addresses.push(vip.address),
                None => {
                    let router = Router {
                        name: format!("directors-{interface}"),
                        nic,
                        vrid: u8::try_from(routers.len() + 1).ok(),
                        version: Some(3),
                        priority: Some(priority),
                        interval: Some(self.silence.map_or(within(self.interval.unwrap_or(6.0)), interval)),
                        addresses: vec![vip.address],
                        keys: if routers.is_empty() { self.scripts.clone() } else { Vec::new() },
                        ..Router::default()
                    };
                    routers.push((vip.origin.clone(), router));
                }
            }
        }
        for vip in &self.vips {
            if !routers.iter().any(|(_, router)| router.addresses.contains(&vip.address)) {
                let wrong = format!("{} has no interface", vip.address);
                let fault =
                    Fault::new(wrong, "no [[vrrp]] has it", "add it to addresses of the one that should");
                writer.notice(&vip.origin, "file", fault);
            }
        }
        for (origin, router) in &routers {
            router.write(origin, writer);
        }
        if routers.len() > 1 {
            writer.table(origin, "[[vrrp_group]]");
            writer.key(origin, "name", quoted("directors"));
            let members: Vec<String> = routers.iter().map(|(_, router)| quoted(&router.name)).collect();
            writer.key(origin, "members", format!("[{}]", members.join(", ")));
        }
    }
}

/// The priority of this director: that of the primary, or that of the backup.
fn priority(
    role: &str,
    files: &dyn Files,
    origin: &Origin,
    (primary, backup): (IpAddr, IpAddr),
    writer: &mut Writer,
) -> u8 {
    let (first, second) = PRIORITIES;
    match role {
        "primary" => return first,
        "backup" => return second,
        _ if files.is_own(primary) => return first,
        _ if files.is_own(backup) => return second,
        _ => {}
    }
    let wrong = format!("this machine has neither {primary} nor {backup}");
    let holds = format!("its priority is that of the backup, {second}");
    let advice = format!("set {first} at the primary, or import there, or with -i primary");
    writer.notice(origin, "file", Fault::new(wrong, holds, advice));
    second
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
        let content = without_comment(row).trim();
        let column = row.len() - row.trim_start().len() + 1;
        let origin = Origin { file: path.into(), line: number + 1, column };
        last = origin.clone();
        if content.is_empty() {
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
    if SYNC.contains(&item.key.as_str()) {
        let advice =
            "expect connections to begin anew at a takeover: state synchronisation is not supported yet";
        writer.advise(&item.origin, place, &item.line(), advice);
        return false;
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

/// Writes a service; its VIP, where it is active and no firewall mark.
fn service(item: &Item, block: &[Item], method: &str, files: &dyn Files, writer: &mut Writer) -> Option<Vip> {
    let place = format!("virtual {}", item.value);
    let mut service = Virtual::default();
    // Ports by name are those of the protocol.
    let protocol = block.iter().rfind(|item| item.key == "protocol");
    service.protocol = protocol.map(|item| item.value.to_lowercase());
    for item in block.iter().filter(|item| item.block.is_none()) {
        if known(item, &place, VIRTUAL, VIRTUAL_INSTEAD, writer) && !service.take(item, files) {
            wrong(item, &place, "a value that the key takes (docs/import.md)", writer);
        }
    }
    if service.inactive {
        writer.comment(&item.origin, &format!("{place} is not active"));
        return None;
    }
    let origin = &item.origin;
    if service.send.is_some() && service.asks_nothing() {
        let wrong = "send without expect";
        let holds = "nothing is sent: a real server whose port opens is up, as nothing is read of it";
        let advice = "add what has to come as expect, and import anew, where that is too little";
        writer.notice(origin, &place, Fault::new(wrong, holds, advice));
    }
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
            real(item, keys, &service, method, &place, files, writer);
        } else {
            let fault =
                Fault::new(format!("unknown block {}", item.key), "a block here is server", "remove it");
            writer.refuse(&item.origin, &place, fault);
        }
    }
    writer.line(origin, "]");
    let address = block.iter().rfind(|item| item.key == "address");
    address.and_then(Vip::new)
}

impl Virtual {
    /// Takes a key; false when its value is wrong.
    fn take(&mut self, item: &Item, files: &dyn Files) -> bool {
        let value = item.value.as_str();
        let mut words = value.split_whitespace();
        let key = match item.key.as_str() {
            "active" => {
                self.inactive = value == "0";
                return ["0", "1"].contains(&value);
            }
            "address" => {
                self.address = words.next().and_then(|word| word.parse().ok());
                return self.address.is_some();
            }
            "port" => {
                let found = l4_port(value, self.is_udp(), files);
                return found.map(|l4_port| self.l4_port = l4_port).is_some();
            }
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

    fn is_udp(&self) -> bool {
        self.protocol.as_deref() == Some("udp")
    }

    /// Whether nothing that comes is looked at.
    fn asks_nothing(&self) -> bool {
        self.program.is_none() && self.expect.as_deref().is_none_or(str::is_empty)
    }

    /// What asks the real servers: a program, or what is sent and expected; a connection where nothing is said.
    fn check(&self) -> Option<String> {
        let mut keys = vec![];
        let expect = self.expect.as_deref().filter(|text| !text.is_empty());
        if let Some(program) = &self.program {
            keys.push(format!("kind = \"script\", command = {}", quoted(&self.command(program))));
        } else if expect.is_some() {
            keys.push("kind = \"send\"".to_owned());
            keys.extend(self.send.iter().map(|send| format!("send = {}", quoted(send))));
        } else if self.is_udp() {
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

fn real(
    item: &Item,
    keys: &[Item],
    service: &Virtual,
    method: &str,
    place: &str,
    files: &dyn Files,
    writer: &mut Writer,
) {
    let place = format!("{place}, server {}", item.value);
    let (mut address, mut own_port, mut weight, mut active): (
        Option<IpAddr>,
        Option<u16>,
        Option<u32>,
        bool,
    ) = (None, None, None, true);
    for item in keys {
        if !known(item, &place, REAL, &[], writer) {
            continue;
        }
        let good = match item.key.as_str() {
            "address" => item.value.parse().map(|parsed| address = Some(parsed)).is_ok(),
            "port" => {
                own_port = l4_port(&item.value, service.is_udp(), files);
                own_port.is_some()
            }
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
    let own_port = own_port.filter(|_| method == "nat" && service.mark.is_none());
    let text = own_port.map_or(address.to_string(), |l4_port| SocketAddr::new(address, l4_port).to_string());
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
