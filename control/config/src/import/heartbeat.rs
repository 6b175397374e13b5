//! heartbeat's `ha.cf`, with `haresources` and `authkeys` beside it: who is master of which addresses.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::files::Files;
use super::interfaces::Interfaces;
use super::ldirectord;
use super::note::Fate;
use super::vrrp::{PRIORITIES, Router, interval, within};
use super::writer::{Imported, Writer, seconds};
use crate::document::nearest;

/// Directives that mean something here.
const KNOWN: &[&str] =
    &["keepalive", "deadtime", "warntime", "initdead", "bcast", "mcast", "ucast", "auto_failback", "node"];
/// What holds instead of the others.
const INSTEAD: &[(&str, &str)] = &[
    ("ping_group", "each host is asked by itself: name it with ping"),
    ("debugfile", "the log goes to the standard error"),
    ("logfile", "the log goes to the standard error"),
    ("logfacility", "the log goes to the standard error"),
    ("use_logd", "the log goes to the standard error"),
    ("debug", "SHUNT_LOG says how much is logged"),
    ("udpport", "VRRP has no port"),
    ("baud", "directors hear each other by VRRP, which needs a NIC"),
    ("serial", "directors hear each other by VRRP, which needs a NIC"),
    ("watchdog", "the service manager watches the director"),
    ("stonith", "a director that is gone does not answer for a VIP"),
    ("stonith_host", "a director that is gone does not answer for a VIP"),
    ("deadping", "a gateway that is tracked fails after a few questions"),
    ("hopfudge", "adverts do not pass routers"),
    ("realtime", "the thread of VRRP has real-time priority where the system allows it"),
    ("rtprio", "the thread of VRRP has real-time priority where the system allows it"),
    ("respawn", "the service manager restarts what ends"),
    ("apiauth", "the API's socket belongs to its owner"),
    ("crm", "there is no cluster resource manager here"),
    ("msgfmt", "adverts are those of VRRP"),
    ("compression", "adverts are those of VRRP"),
    ("compression_threshold", "adverts are those of VRRP"),
    ("autojoin", "who sends adverts with the VRID takes part"),
    ("uuidfrom", "directors are known by their addresses"),
    ("traditional_compression", "adverts are those of VRRP"),
    ("conn_logd_time", "the log goes to the standard error"),
];

#[derive(Debug, Default)]
struct Cluster {
    interval: Option<f64>,
    deadtime: Option<f64>,
    warn_after: Option<f64>,
    start_grace: Option<f64>,
    nic: Option<String>,
    peers: Vec<IpAddr>,
    failback: Option<bool>,
    nodes: Vec<String>,
    pings: Vec<IpAddr>,
}

/// Reads `ha.cf` or `haresources`, and the others in its folder, for the director of this host name.
#[must_use]
pub fn import(path: &Path, files: &dyn Files, host: &str, mut interfaces: Interfaces) -> Imported {
    let mut writer = Writer::default();
    let beside = |name: &str| path.with_file_name(name);
    let mut cluster = Cluster::default();
    for line in lines(&beside("ha.cf"), files, &mut writer) {
        cluster.take(&line, &mut interfaces, &mut writer);
    }
    let authkeys = beside("authkeys");
    if files.read(&authkeys).is_ok() {
        let origin = Origin { file: authkeys.into(), line: 1, column: 1 };
        let instead = "adverts of VRRP version 3 carry no proof; directors of one link hear each other alone";
        writer.tell(&origin, "authkeys", "authkeys", Fate::Instead(instead));
    }
    let mut vrid = 0_u8;
    let mut services: Vec<(Origin, PathBuf)> = Vec::new();
    for line in lines(&beside("haresources"), files, &mut writer) {
        vrid = vrid.saturating_add(1);
        resources(&line, vrid, &cluster, host, &mut interfaces, &mut writer);
        for file in line.words[1..].iter().filter_map(|word| word.strip_prefix("ldirectord")) {
            let file = Some(file.trim_start_matches(':')).filter(|file| !file.is_empty());
            services.push((line.origin.clone(), beside(file.unwrap_or("ldirectord.cf"))));
        }
    }
    services.dedup_by(|(_, one), (_, other)| one == other);
    for (origin, path) in &services {
        if files.read(path).is_ok() {
            ldirectord::write(path, files, &mut writer);
        } else {
            let wrong = format!("{} is not there", path.display());
            let fault =
                Fault::new(wrong, "it has the virtual services", "import it by itself: shunt import FILE");
            writer.notice(origin, "haresources", fault);
        }
    }
    let mut head = Writer::default();
    interfaces.write(files, |_| false, &[], &mut head);
    head.append(writer);
    head.finish()
}

struct Line {
    origin: Origin,
    words: Vec<String>,
}

/// The lines of a file that say something; one that ends in a backslash goes on.
fn lines(path: &Path, files: &dyn Files, writer: &mut Writer) -> Vec<Line> {
    let text = match files.read(path) {
        Ok(text) => text,
        Err(error) => {
            let origin = Origin { file: path.into(), line: 1, column: 1 };
            let holds = "ha.cf and haresources stand in one folder";
            writer.refuse(
                &origin,
                "file",
                Fault::new(format!("cannot be read ({error})"), holds, "put it there"),
            );
            return Vec::new();
        }
    };
    let mut lines: Vec<Line> = Vec::new();
    let mut goes_on = false;
    for (number, row) in text.lines().enumerate() {
        let content = row.split('#').next().unwrap_or_default().trim_end();
        let (content, more) = content.strip_suffix('\\').map_or((content, false), |content| (content, true));
        let words = content.split_whitespace().map(str::to_owned);
        match lines.last_mut().filter(|_| goes_on) {
            Some(line) => line.words.extend(words),
            None => {
                let column = row.len() - row.trim_start().len() + 1;
                let origin = Origin { file: path.into(), line: number + 1, column };
                lines.push(Line { origin, words: words.collect() });
            }
        }
        goes_on = more;
    }
    lines.retain(|line| !line.words.is_empty());
    lines
}

/// `2`, `500ms`, `1s`, in seconds.
fn time(word: &str) -> Option<f64> {
    let (number, unit) = match word.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (word.strip_suffix('s').unwrap_or(word), 1.0),
    };
    number.parse::<f64>().ok().filter(|number| *number > 0.0).map(|number| number * unit)
}

impl Cluster {
    fn take(&mut self, line: &Line, interfaces: &mut Interfaces, writer: &mut Writer) {
        let (Line { origin, words }, place) = (line, "ha.cf");
        let name = words[0].as_str();
        let value = words.get(1).map(String::as_str).unwrap_or_default();
        if let Some((_, instead)) = INSTEAD.iter().find(|(directive, _)| *directive == name) {
            return writer.tell(origin, place, &words.join(" "), Fate::Instead(instead));
        }
        let address = |word: Option<&String>| word.and_then(|word| word.parse::<IpAddr>().ok());
        let good = match name {
            "keepalive" => self.interval.insert(time(value).unwrap_or(0.0)) != &0.0,
            "deadtime" => self.deadtime.insert(time(value).unwrap_or(0.0)) != &0.0,
            "warntime" => self.warn_after.insert(time(value).unwrap_or(0.0)) != &0.0,
            "initdead" => self.start_grace.insert(time(value).unwrap_or(0.0)) != &0.0,
            "bcast" | "mcast" | "ucast" => {
                let nic = interfaces.nic(value, origin, place, writer);
                self.nic = self.nic.take().or(nic);
                let peer = address(words.get(2)).filter(|_| name == "ucast");
                self.peers.extend(peer);
                !value.is_empty() && (name != "ucast" || peer.is_some())
            }
            "auto_failback" => {
                self.failback = match value.to_lowercase().as_str() {
                    "on" | "yes" | "y" | "true" | "1" | "legacy" => Some(true),
                    "off" | "no" | "n" | "false" | "0" => Some(false),
                    _ => None,
                };
                self.failback.is_some()
            }
            "ping" => {
                let pings: Vec<IpAddr> = words[1..].iter().filter_map(|word| address(Some(word))).collect();
                let good = pings.len() == words.len() - 1 && !pings.is_empty();
                self.pings.extend(pings);
                good
            }
            "node" => {
                self.nodes.extend(words[1..].iter().cloned());
                words.len() > 1
            }
            _ => {
                let words: Vec<&str> =
                    KNOWN.iter().copied().chain(INSTEAD.iter().map(|(word, _)| *word)).collect();
                let advice = nearest(name, &words)
                    .map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
                let wrong = format!("unknown directive {}", printable(name, 60));
                let holds = format!("ha.cf has {}", KNOWN.join(", "));
                return writer.refuse(origin, place, Fault::new(wrong, holds, advice));
            }
        };
        if !good {
            let wrong = format!("{name} cannot be {}", printable(&words[1..].join(" "), 60));
            let holds =
                "seconds (or 500ms), on or off, an interface, or an address, as the directive takes it";
            writer.refuse(origin, place, Fault::new(wrong, holds, "correct it"));
        }
    }

    fn interval(&self) -> f64 {
        self.deadtime.map_or(within(self.interval.unwrap_or(1.0)), interval)
    }
}

/// A line of `haresources`: the node that it belongs to, addresses, and what else is started there.
fn resources(
    line: &Line,
    vrid: u8,
    cluster: &Cluster,
    host: &str,
    interfaces: &mut Interfaces,
    writer: &mut Writer,
) {
    let Line { origin, words } = line;
    let place = format!("haresources {}", words[0]);
    if !cluster.nodes.is_empty() && !cluster.nodes.contains(&words[0]) {
        let holds = format!("ha.cf has the nodes {}", cluster.nodes.join(", "));
        let wrong = format!("{} is no node", printable(&words[0], 60));
        writer.refuse(origin, &place, Fault::new(wrong, holds, "correct one of the two"));
    }
    let mut router = Router {
        name: format!("{}-{vrid}", words[0]),
        nic: cluster.nic.clone(),
        vrid: Some(vrid),
        version: Some(3),
        priority: Some(if words[0] == host { PRIORITIES.0 } else { PRIORITIES.1 }),
        interval: Some(cluster.interval()),
        peers: cluster.peers.clone(),
        ..Router::default()
    };
    for word in &words[1..] {
        let resource = word.strip_prefix("IPaddr::").or_else(|| word.strip_prefix("IPaddr2::"));
        let mut parts = resource.unwrap_or(word).split('/');
        let Some(address) = parts.next().and_then(|part| part.parse().ok()) else {
            if word.starts_with("LVSSyncDaemonSwap") {
                let advice = "expect connections to begin anew at a takeover: state synchronisation is not supported yet";
                writer.advise(origin, &place, word, advice);
                continue;
            }
            let instead = if word.starts_with("ldirectord") {
                "the director checks real servers itself: services are those of its file"
            } else {
                "the service manager starts it"
            };
            writer.tell(origin, &place, word, Fate::Instead(instead));
            continue;
        };
        let _length = parts.next();
        if let Some(interface) = parts.next().and_then(|part| part.split(':').next()) {
            router.nic = interfaces.nic(interface, origin, &place, writer).or(router.nic);
        }
        router.addresses.push(address);
    }
    if router.addresses.is_empty() {
        return;
    }
    if cluster.failback == Some(false) {
        router.keys.push((origin.clone(), "preempt", "false".to_owned()));
    }
    for (key, time) in [("start_grace", cluster.start_grace), ("warn_after", cluster.warn_after)] {
        router.keys.extend(time.map(|time| (origin.clone(), key, seconds(time))));
    }
    // A director that loses the ping nodes gives way to one that has them, and stays when both have lost them.
    let weight = i16::from(PRIORITIES.1) - i16::from(PRIORITIES.0) - 10;
    router.tracks = cluster
        .pings
        .iter()
        .map(|ping| {
            let check = format!(
                "{{ kind = \"ping\", address = \"{ping}\", interval = \"1s\", timeout = \"500ms\" }}"
            );
            format!("{{ name = \"ping-{ping}\", check = {check}, weight = {weight} }}")
        })
        .collect();
    router.write(origin, writer);
}
