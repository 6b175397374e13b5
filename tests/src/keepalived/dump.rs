//! keepalived's own dump (`--dump-conf`, as 2.2.7 writes it) as objects.
//!
//! A line of the dump is of one object, and is a setting, or the head of a list whose lines stand further to the right. Where a value
//! is a state rather than a setting, the line is left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::real::Verdict;
use super::{Objects, add, checks, object, program, set};

/// A line: how far to the right it stands, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Blanks in front of it.
    pub indent: usize,
    /// The words before ` = `, or all of them.
    pub key: &'a str,
    /// The words behind it.
    pub value: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let text = line.trim_start();
        let (key, value) = text.split_once(" = ").unwrap_or((text, ""));
        Self { indent: line.len() - text.len(), key: key.trim_end(), value }
    }
}

/// The kernel's timeouts, in seconds, which hold where nothing is said.
pub const TIMEOUTS: [(&str, u32); 3] = [("tcp", 900), ("tcpfin", 120), ("udp", 300)];

/// The interface of an instance's virtual MAC, until what it depends on is known.
const OWN_VMAC: &str = "interface of its virtual MAC";

/// What both of keepalived's processes have read.
#[must_use]
pub fn objects(verdict: &Verdict) -> Objects {
    let mut objects = Objects::new();
    vrrp(&verdict.vrrp.lines, &mut objects);
    let settled = ["Global definitions"];
    for (section, lines) in sections(&verdict.checkers.lines) {
        if settled.contains(&section) {
            globals(&lines, &mut objects);
        }
    }
    checks::read(&verdict.checkers.lines, &mut objects);
    let fields = object(&mut objects, "global_defs");
    for (word, seconds) in TIMEOUTS {
        let key = format!("lvs_timeouts {word}");
        if fields.get(&key).is_some_and(|time| *time == seconds.to_string()) {
            fields.remove(&key);
        }
    }
    mails(verdict, &mut objects);
    objects
}

/// Mails are sent where somebody takes them, and gets them; what they are about says each instance and server.
fn mails(verdict: &Verdict, objects: &mut Objects) {
    let fields = object(objects, "global_defs");
    if !(fields.contains_key("smtp_server") && fields.contains_key("notification_email")) {
        fields.retain(|key, _| !key.starts_with("smtp_") && !key.starts_with("notification_"));
        return;
    }
    for (key, lines) in
        [("smtp_alert_vrrp", &verdict.vrrp.lines), ("smtp_alert_checker", &verdict.checkers.lines)]
    {
        let mut said = lines.iter().filter_map(|line| line.trim().strip_prefix("Using smtp notification = "));
        if let Some(first) = said.next() {
            set(fields, key, if first == "yes" || said.any(|word| word == "yes") { "yes" } else { "no" });
        }
    }
}

/// The sections of a dump, each with its lines; the log, which stands at the left, is left out.
pub fn sections(lines: &[String]) -> Vec<(&str, Vec<Line<'_>>)> {
    let mut sections: Vec<(&str, Vec<Line<'_>>)> = Vec::new();
    for line in lines {
        let head = line.trim_start().strip_prefix("------< ").and_then(|rest| rest.strip_suffix(" >------"));
        if let Some(head) = head {
            sections.push((head, Vec::new()));
        } else if line.starts_with(' ') {
            if let Some((_, lines)) = sections.last_mut() {
                lines.push(Line::of(line));
            }
        }
    }
    sections
}

fn vrrp(lines: &[String], objects: &mut Objects) {
    let sections = sections(lines);
    for (section, lines) in &sections {
        match *section {
            "Global definitions" => globals(lines, objects),
            "Static Routes" => routes(lines, objects),
            "VRRP Topology" => instances(lines, objects),
            "VRRP Sync groups" => groups(lines, objects),
            _ => {}
        }
    }
    // These say which instances depend on them, and what they are.
    for (section, lines) in &sections {
        match *section {
            "VRRP Scripts" => trackers(lines, "VRRP Script", "track_script", objects),
            "VRRP Track files" => trackers(lines, "Track file", "track_file", objects),
            "VRRP Track processes" => trackers(lines, "VRRP Track process", "track_process", objects),
            "Interfaces" => trackers(lines, "Name", "track_interface", objects),
            _ => {}
        }
    }
    for fields in objects
        .values_mut()
        .filter(|fields| fields.get("garp_master_refresh").is_some_and(|time| time == "0"))
    {
        fields.remove("garp_master_refresh_repeat");
    }
    let instances: Vec<String> =
        objects.keys().filter(|name| name.starts_with("vrrp_instance ")).cloned().collect();
    let made = made_interfaces(&sections);
    for name in instances {
        forget_own_link(object(objects, &name), &made);
    }
}

/// The interfaces that keepalived makes for virtual MACs, and those below them.
fn made_interfaces(sections: &[(&str, Vec<Line<'_>>)]) -> BTreeMap<String, String> {
    let mut made = BTreeMap::new();
    let mut name = "";
    for line in sections.iter().filter(|(section, _)| *section == "Interfaces").flat_map(|(_, lines)| lines) {
        if line.indent == 1 && line.key == "Name" {
            name = line.value;
        } else if line.key.starts_with("VMAC type") {
            let below = line.value.split([',', ' ']).next().unwrap_or_default();
            made.insert(name.to_owned(), below.to_owned());
        }
    }
    made
}

/// Every instance depends on its own interface, which is no setting. One that was made is there while the one below it is. Who owns the
/// addresses depends on none that only changes priorities.
fn forget_own_link(fields: &mut super::Fields, made: &BTreeMap<String, String>) {
    let own_vmac = fields.remove(OWN_VMAC);
    let Some(tracked) = fields.remove("track_interface") else { return };
    let own = fields.get("interface").cloned().unwrap_or_default();
    let is_owner = fields.get("priority").is_some_and(|priority| priority == "255");
    let mut kept: BTreeMap<String, &str> = BTreeMap::new();
    for word in tracked.split(", ") {
        let (name, weight) = word.split_once(" weight ").unwrap_or((word, "0"));
        let name = made.get(name).map_or(name, String::as_str);
        let is_weighted = !weight.starts_with('0');
        if name == own || name == "lo" || own_vmac.as_deref() == Some(name) || is_owner && is_weighted {
            continue;
        }
        if !is_weighted || !kept.contains_key(name) {
            kept.insert(name.to_owned(), weight);
        }
    }
    for (name, weight) in kept {
        add(fields, "track_interface", &format!("{name} weight {weight}"));
    }
}

fn globals(lines: &[Line<'_>], objects: &mut Objects) {
    let mut tcp = 0;
    let mut receivers = false;
    let fields = object(objects, "global_defs");
    for line in lines {
        receivers &= line.indent > 2;
        let key = match line.key {
            "LVS TCP timeout" => {
                // 2.2.7 calls that of UDP so, too, behind the others.
                tcp += 1;
                if tcp == 1 { "lvs_timeouts tcp" } else { "lvs_timeouts udp" }
            }
            "LVS TCP FIN timeout" => "lvs_timeouts tcpfin",
            "Smtp server" => "smtp_server",
            "Smtp server port" => "smtp_server port",
            "Smtp HELO name" => "smtp_helo_name",
            "Smtp server connection timeout" => "smtp_connect_timeout",
            "Email notification from" => "notification_email_from",
            "Email notification to:" => {
                receivers = true;
                continue;
            }
            word if receivers => {
                add(fields, "notification_email", word);
                continue;
            }
            _ => continue,
        };
        set(fields, key, line.value);
    }
}

/// `prepend 10.0.0.0/8 via inet 192.0.2.1 dev eth0 …`
fn routes(lines: &[Line<'_>], objects: &mut Objects) {
    for line in lines {
        let text = if line.value.is_empty() {
            line.key.to_owned()
        } else {
            format!("{} = {}", line.key, line.value)
        };
        let mut words = text.split_whitespace();
        words.next();
        let Some(to) = words.next() else { continue };
        let mut via = String::new();
        while let Some(word) = words.next() {
            if word == "via" {
                let family = words.next().unwrap_or_default();
                via = words.next().map_or(family, |router| router).to_owned();
            }
        }
        let to: Option<ipnet::IpNet> = to.parse().ok().or_else(|| to.parse::<IpAddr>().ok().map(Into::into));
        if let Some(to) = to {
            set(object(objects, "routes"), &to.trunc().to_string(), format!("via {via}").trim_end());
        }
    }
}

const NOTIFY: &[(&str, &str)] = &[
    ("Backup state transition script", "notify_backup"),
    ("Master state transition script", "notify_master"),
    ("Fault state transition script", "notify_fault"),
    ("Stop state transition script", "notify_stop"),
    ("Generic state transition script", "notify"),
    ("Master rx lower pri state transition script", "notify_master_rx_lower_pri"),
];

/// `'/usr/bin/true' 'a', uid:gid 0:0`
pub fn script(value: &str) -> String {
    let (words, user) = value.rsplit_once(", uid:gid ").unwrap_or((value, ""));
    format!("{} as {user}", command(words))
}

/// `'/usr/bin/true' 'a'`
pub fn command(words: &str) -> String {
    program(&words.trim_matches('\'').replace("' '", " "))
}

fn instances(lines: &[Line<'_>], objects: &mut Objects) {
    let mut name = String::new();
    let mut list = "";
    for line in lines {
        if line.indent == 1 && line.key == "VRRP Instance" {
            name = format!("vrrp_instance {}", line.value);
            object(objects, &name);
            list = "";
            continue;
        }
        if line.indent <= 3 {
            list = "";
        }
        if list == "virtual_routes" {
            routes(&[*line], objects);
            continue;
        }
        let fields = object(objects, &name);
        if !list.is_empty() {
            // `192.0.2.10/24 dev eth0 …`, `eth1 weight 0`
            let word = line.key.split([' ', '/']).next().unwrap_or_default();
            add(fields, list, word);
            continue;
        }
        list = match line.key {
            key if key.starts_with("Virtual IP (") => "virtual_ipaddress",
            "Virtual IP Excluded :" => "virtual_ipaddress_excluded",
            "Unicast Peer :" => "unicast_peer",
            "Virtual Routes :" => "virtual_routes",
            _ => "",
        };
        if list.is_empty() {
            instance(line, fields);
        }
    }
}

fn instance(line: &Line<'_>, fields: &mut super::Fields) {
    let on = |word: &str| if word == "enabled" { "yes" } else { "no" };
    let key = line.key;
    let plain = match key {
        "VRRP Version" => "version",
        "Virtual Router ID" => "virtual_router_id",
        "Priority" => "priority",
        "Gratuitous ARP repeat" => "garp_master_repeat",
        "Gratuitous ARP refresh repeat" => "garp_master_refresh_repeat",
        "Gratuitous ARP delay" => "garp_master_delay",
        "Gratuitous ARP refresh" => "garp_master_refresh",
        "Down timer adverts" => "down_timer_adverts",
        "Password" => "auth_pass",
        _ => "",
    };
    if !plain.is_empty() {
        return set(fields, plain, line.value);
    }
    match key {
        "Interface" => {
            let base = line.value.split_once("vmac on ").map_or(line.value, |(_, base)| base);
            let base = base.split([',', ' ']).next().unwrap_or_default();
            // Of an interface that was made before this was printed the one below is not told.
            if base == line.value && fields.contains_key("use_vmac") {
                return;
            }
            set(fields, "interface", base);
        }
        _ if key.starts_with("Use VMAC, i/f name") => {
            set(fields, "use_vmac", "yes");
            let rest = key.trim_start_matches("Use VMAC, i/f name").trim_start();
            set(fields, OWN_VMAC, rest.split(',').next().unwrap_or_default());
            set(
                fields,
                "vmac_xmit_base",
                if line.value.ends_with("xmit_base = true") { "yes" } else { "no" },
            );
        }
        "Advert interval" => {
            let (number, unit) = line.value.split_once(' ').unwrap_or((line.value, ""));
            let number: f64 = number.parse().unwrap_or_default();
            set(fields, "advert_int", if unit == "sec" { number * 1000.0 } else { number });
        }
        "Accept" => set(fields, "accept", on(line.value)),
        "Preempt" => set(fields, "preempt", on(line.value)),
        "Preempt delay" => {
            let seconds: f64 = line.value.trim_end_matches(" secs").parse().unwrap_or_default();
            set(fields, "preempt_delay", seconds * 1000.0);
        }
        "Authentication type" => {
            let kind = match line.value {
                "SIMPLE_PASSWORD" => "PASS",
                "IPSEC_AH" => "AH",
                "none" => return,
                other => other,
            };
            set(fields, "auth_type", kind);
        }
        _ => {
            if let Some((_, name)) = NOTIFY.iter().find(|(words, _)| *words == key) {
                set(fields, name, script(line.value));
            }
        }
    }
}

fn groups(lines: &[Line<'_>], objects: &mut Objects) {
    let mut name = String::new();
    let mut members = false;
    for line in lines {
        if line.key == "VRRP Sync Group" {
            let group = line.value.rsplit_once(", ").map_or(line.value, |(group, _)| group);
            name = format!("vrrp_sync_group {group}");
            object(objects, &name);
            continue;
        }
        let fields = object(objects, &name);
        if line.indent <= 3 {
            members = line.key == "VRRP member instances :";
        } else if members {
            add(fields, "group", line.key);
        }
        if let Some((_, key)) = NOTIFY.iter().find(|(words, _)| *words == line.key) {
            set(fields, key, script(line.value));
        }
    }
}

/// What is tracked: its settings, and with which weight instances depend on it.
fn trackers(lines: &[Line<'_>], head: &str, kind: &str, objects: &mut Objects) {
    let mut name = String::new();
    let mut tracking = false;
    let mut said: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for line in lines {
        if line.indent == 1 && line.key == head {
            name = line.value.to_owned();
            tracking = false;
        } else if tracking && line.indent >= 5 {
            // `VI_1, weight -2 reverse`
            let Some((instance, weight)) = line.key.split_once(", weight ") else { continue };
            let instance = format!("vrrp_instance {instance}");
            if objects.contains_key(&instance) {
                let word = format!("{name} weight {}", weight_of(kind, weight));
                add(object(objects, &instance), kind, &word);
                if kind == "track_interface" {
                    continue;
                }
                let tracker = object(objects, &format!("{kind} {name}"));
                for (key, value) in said.remove(&name).unwrap_or_default() {
                    set(tracker, &key, value);
                }
                if let (None, Some(interval)) = (tracker.get("timeout"), tracker.get("interval").cloned()) {
                    set(tracker, "timeout", interval);
                }
            }
        } else if line.key == "Tracking instances :" || line.key == "Tracking VRRP instances :" {
            tracking = true;
        } else if let Some((key, value)) = tracker(kind, line) {
            said.entry(name.clone()).or_default().push((key.to_owned(), value));
        }
    }
}

/// Of files a weight that counts the other way round is its opposite. Others change a priority, 1 to 254, by no more than 253.
pub fn weight_of(kind: &str, weight: &str) -> String {
    let weight = weight.split(" (").next().unwrap_or_default();
    let (number, reverse) = match weight.split_once(' ') {
        Some((number, rest)) => (number, rest.contains("reverse")),
        None => (weight, false),
    };
    let number: i64 = number.parse().unwrap_or_default();
    let number = if kind == "track_file" { number } else { number.clamp(-253, 253) };
    match (kind, number, reverse) {
        ("track_file", number, true) if number != 0 => (-number).to_string(),
        (_, number, true) => format!("{number} reverse"),
        (_, number, false) => number.to_string(),
    }
}

fn tracker(kind: &str, line: &Line<'_>) -> Option<(&'static str, String)> {
    let time = |value: &str| {
        let number: f64 = value.split(' ').next().unwrap_or_default().parse().unwrap_or_default();
        (number * 1000.0).to_string()
    };
    Some(match (kind, line.key) {
        ("track_script", "Command") => ("script", command(line.value)),
        ("track_script", "Interval") => ("interval", time(line.value)),
        // A script without a time of its own may take as long as until the next one.
        ("track_script", "Timeout") if line.value.starts_with("0 ") => return None,
        ("track_script", "Timeout") => ("timeout", time(line.value)),
        ("track_script", "Rise") => ("rise", line.value.to_owned()),
        ("track_script", "Fall") => ("fall", line.value.to_owned()),
        ("track_script", "Script uid:gid") => ("user", line.value.to_owned()),
        ("track_file", "File") => ("file", line.value.to_owned()),
        ("track_process", "Process") => ("process", line.value.to_owned()),
        ("track_process", "Min processes") => ("quorum", line.value.to_owned()),
        ("track_process", "Max processes") => ("quorum_max", line.value.to_owned()),
        _ => return None,
    })
}

/// `[192.0.2.21]:tcp:80` as an address and a port.
pub fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, rest) = text.trim().strip_prefix('[')?.split_once(']')?;
    let l4_port = rest.rsplit_once(':')?.1.parse().ok()?;
    Some(SocketAddr::new(address.parse().ok()?, l4_port))
}
