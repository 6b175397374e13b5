//! `virtual_server` becomes `[[service]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::checks::{self, Check, Common};
use super::global::MailSwitches;
use super::groups::{Groups, Listen};
use super::keywords::Block;
use super::scripts::script;
use super::tracking::{Tracked, TrackedFile};
use super::tree::Statement;
use super::values::{Values, walk};
use super::vrrp::SyncGroup;
use crate::config::problem::Fault;
use crate::import::interfaces::Interfaces;
use crate::import::note::Origin;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// What virtual servers need to know of the rest of the file.
#[derive(Debug, Default)]
pub struct Context {
    /// Virtual server groups.
    pub groups: Groups,
    /// Files that are tracked.
    pub track_files: BTreeMap<String, TrackedFile>,
    /// Processes that are tracked.
    pub processes: BTreeMap<String, Tracked>,
    /// `ca` of `SSL`.
    pub ca: Option<String>,
    /// `script_user`.
    pub script_user: Option<String>,
    /// Scripts that are tracked.
    pub scripts: BTreeMap<String, Tracked>,
    /// `vrrp_sync_group`s.
    pub sync_groups: Vec<SyncGroup>,
    /// `vrrp_version`.
    pub version: Option<u8>,
    /// `lvs_timeouts`.
    pub timeouts: Vec<(Origin, &'static str, String)>,
    /// Where mail goes, and how.
    pub mail: Vec<(Origin, &'static str, String)>,
    /// What mails are about.
    pub mail_switches: MailSwitches,
    /// What `global_defs` says for every instance.
    pub vrrp_defaults: Vec<(Origin, &'static str, String)>,
    /// What NICs are called.
    pub interfaces: Interfaces,
    /// VIPs that the file names.
    pub vips: BTreeSet<IpAddr>,
    /// Routes that were written: to, router, NIC.
    pub routes: BTreeSet<(IpNet, Option<IpAddr>, Option<String>)>,
}

/// How packets reach a real server.
#[derive(Clone, Debug, Default, PartialEq)]
struct Method {
    forward: &'static str,
    /// `tunnel` and what belongs to it, as TOML has them.
    tunnel: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Real {
    origin: Origin,
    address: SocketAddr,
    weight: Option<u32>,
    method: Option<Method>,
    keys: Vec<(&'static str, String)>,
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Server {
    origin: Origin,
    place: String,
    protocol: Option<&'static str>,
    method: Option<Method>,
    persistence_timeout: Option<u32>,
    netmask: Option<u8>,
    is_ipv6_mark: bool,
    inhibit: Option<bool>,
    common: Common,
    /// Keys of the service that are said as they are.
    keys: Vec<(Origin, &'static str, String)>,
    flags: Vec<&'static str>,
    sorry: Option<(Origin, SocketAddr)>,
    sorry_keys: Vec<(&'static str, String)>,
    sorry_method: Option<Method>,
    reals: Vec<Real>,
}

/// Writes the services of a `virtual_server`.
pub fn write(statement: &Statement, context: &Context, writer: &mut Writer) {
    let place = statement.line();
    let listens = listens(statement, context, &place, writer);
    let mut server = Server {
        origin: statement.origin().clone(),
        place: place.clone(),
        protocol: None,
        method: None,
        persistence_timeout: None,
        netmask: None,
        is_ipv6_mark: false,
        inhibit: None,
        common: Common::default(),
        keys: Vec::new(),
        flags: Vec::new(),
        sorry: None,
        sorry_keys: Vec::new(),
        sorry_method: None,
        reals: Vec::new(),
    };
    let mut reals = Vec::new();
    walk(statement.statements(), Block("virtual_server"), &place, writer, |statement, writer| {
        if statement.keyword() == "real_server" {
            // After everything that holds for all of them, wherever that stands.
            reals.push(statement);
        } else {
            server.take(statement, context, writer);
        }
    });
    server.keys = last_of_each(server.keys, |(_, key, _)| *key);
    server.sorry_keys = last_of_each(server.sorry_keys, |(key, _)| *key);
    for real in reals {
        let real = server.real(real, context, writer);
        server.reals.extend(real);
    }
    for (number, listen) in listens.iter().enumerate() {
        server.write(listen, number, writer);
    }
}

fn listens(statement: &Statement, context: &Context, place: &str, writer: &mut Writer) -> Vec<Listen> {
    let mut values = Values::of(statement, place, writer);
    match values.peek() {
        Some("fwmark") => {
            values.word();
            values.integer(1..=u32::MAX).map(Listen::mark).into_iter().collect()
        }
        Some("group") => {
            values.word();
            let Some(name) = values.required("the name of a virtual_server_group") else { return Vec::new() };
            if let Some(members) = context.groups.get(name) {
                return members.clone();
            }
            let wrong = format!("there is no virtual_server_group {name}");
            let fault = Fault::new(wrong, "a group of the file has this name", "correct it");
            writer.refuse(statement.origin(), place, fault);
            Vec::new()
        }
        _ => {
            let listen = values.endpoint().map(Listen::Address);
            values.end();
            listen.into_iter().collect()
        }
    }
}

const METHODS: &[(&str, &str)] = &[("NAT", "nat"), ("DR", "dr"), ("TUN", "tun")];

/// `NAT`, `DR`, `TUN [type ipip|gue port N|gre [nocsum|csum|remcsum]]`.
fn method(values: &mut Values<'_, '_>) -> Option<Method> {
    let forward = values.choice(METHODS)?;
    let mut tunnel = Vec::new();
    if forward == "tun" && values.peek() == Some("type") {
        values.word();
        let kind = values.choice(&[("ipip", "ipip"), ("gre", "gre"), ("gue", "gue")])?;
        tunnel.push(("tunnel", quoted(kind)));
        if values.peek() == Some("port") {
            values.word();
            tunnel.push(("tunnel_port", values.integer(1..=u16::MAX)?.to_string()));
        }
        if values.peek().is_some() {
            let kinds = [("nocsum", "none"), ("csum", "full"), ("remcsum", "remote")];
            tunnel.push(("tunnel_checksum", quoted(values.choice(&kinds)?)));
        }
    }
    values.end();
    Some(Method { forward, tunnel })
}

impl Server {
    fn take(&mut self, statement: &Statement, context: &Context, writer: &mut Writer) {
        let place = &self.place;
        // Said once, and not of each check.
        if statement.keyword() != "alpha" && self.common.take(statement, place, writer) {
            return;
        }
        let mut values = Values::of(statement, place, writer);
        let mut key = None;
        match statement.keyword() {
            "lvs_sched" | "lb_algo" => {
                key = values.required("a scheduler, such as wlc").map(|word| ("scheduler", quoted(word)));
            }
            "flag-1" | "sh-fallback" | "mh-fallback" => self.flags.push("fallback"),
            "flag-2" | "sh-port" | "mh-port" => self.flags.push("port"),
            "flag-3" => {
                let wrong = "no scheduler has a third flag";
                writer.refuse(
                    statement.origin(),
                    place,
                    Fault::new(wrong, "flag-1 and flag-2 are known", "remove it"),
                );
            }
            "ops" => key = Some(("one_packet", "true".to_owned())),
            "lvs_method" | "lb_kind" => self.method = method(&mut values),
            "persistence_timeout" if values.peek().is_none() => self.persistence_timeout = Some(360),
            "persistence_timeout" => self.persistence_timeout = values.integer(1..=31 * 86_400),
            "persistence_granularity" => {
                self.netmask =
                    values.parse("a netmask such as 255.255.255.0, or bits of an IPv6 address", netmask);
            }
            "protocol" => {
                self.protocol = values.choice(&[("TCP", "tcp"), ("UDP", "udp"), ("SCTP", "sctp")]);
            }
            "ip_family" => {
                self.is_ipv6_mark = values.choice(&[("inet", false), ("inet6", true)]) == Some(true)
            }
            "inhibit_on_failure" => self.inhibit = values.boolean(),
            "alpha" => key = values.boolean().map(|on| ("alpha", on.to_string())),
            "omega" => key = values.boolean().map(|on| ("omega", on.to_string())),
            "quorum" => key = values.integer(1..=u32::MAX).map(|weight| ("quorum", weight.to_string())),
            "hysteresis" => {
                key = values.integer(0..=u32::MAX).map(|weight| ("hysteresis", weight.to_string()))
            }
            "quorum_up" => key = script(&mut values, context).map(|script| ("quorum_up", script)),
            "quorum_down" => key = script(&mut values, context).map(|script| ("quorum_down", script)),
            "sorry_server" => self.sorry = values.endpoint().map(|sorry| (statement.origin().clone(), sorry)),
            "sorry_server_inhibit" => self.sorry_keys.push(("inhibit_on_failure", "true".to_owned())),
            "sorry_server_lvs_method" => self.sorry_method = method(&mut values),
            _ => {}
        }
        self.keys.extend(key.map(|(key, value)| (statement.origin().clone(), key, value)));
    }

    fn real(&self, statement: &Statement, context: &Context, writer: &mut Writer) -> Option<Real> {
        let place = format!("{}, {}", self.place, statement.line());
        let mut values = Values::of(statement, &place, writer);
        let address = values.endpoint()?;
        values.end();
        let mut real = Real {
            origin: statement.origin().clone(),
            address,
            weight: None,
            method: None,
            keys: Vec::new(),
            checks: Vec::new(),
        };
        let mut common = self.common.clone();
        let mut inhibit = self.inhibit;
        let mut checkers = Vec::new();
        walk(statement.statements(), Block("real_server"), &place, writer, |statement, writer| {
            if statement.block.is_some() || statement.keyword().ends_with("_CHECK") {
                // Likewise after everything that holds for all of them.
                checkers.push(statement.clone());
                return;
            }
            if common.take(statement, &place, writer) {
                return;
            }
            let mut values = Values::of(statement, &place, writer);
            let key = match statement.keyword() {
                "weight" => {
                    real.weight = values.integer(0..=65_535);
                    None
                }
                "lvs_method" | "lb_kind" => {
                    real.method = method(&mut values);
                    None
                }
                "inhibit_on_failure" => {
                    inhibit = values.boolean();
                    None
                }
                "uthreshold" => {
                    values.integer(0..=i32::MAX as u32).map(|most| ("u_threshold", most.to_string()))
                }
                "lthreshold" => {
                    values.integer(0..=i32::MAX as u32).map(|least| ("l_threshold", least.to_string()))
                }
                "notify_up" => script(&mut values, context).map(|script| ("notify_up", script)),
                "notify_down" => script(&mut values, context).map(|script| ("notify_down", script)),
                _ => None,
            };
            real.keys.extend(key);
        });
        if inhibit == Some(true) {
            real.keys.push(("inhibit_on_failure", "true".to_owned()));
        }
        real.keys = last_of_each(real.keys, |(key, _)| *key);
        for checker in &checkers {
            real.checks.extend(checks::read(checker, address, &common, context, &place, writer));
        }
        Some(real)
    }

    fn write(&self, listen: &Listen, number: usize, writer: &mut Writer) {
        let origin = &self.origin;
        let protocol = self.protocol.unwrap_or("udp");
        writer.table(origin, "[[service]]");
        let listens = match listen {
            Listen::Address(address) => {
                writer.key(origin, "name", quoted(&format!("{protocol}-{address}")));
                quoted(&address.to_string())
            }
            Listen::Mark { mark, is_ipv6 } => {
                let is_ipv6 = is_ipv6
                    .unwrap_or(self.is_ipv6_mark || self.reals.iter().any(|real| real.address.is_ipv6()));
                let family = if is_ipv6 { ", family = \"ipv6\"" } else { "" };
                writer.key(
                    origin,
                    "name",
                    quoted(&format!("fwmark-{mark}{}", if is_ipv6 { "-ipv6" } else { "" })),
                );
                format!("{{ fwmark = {mark}{family} }}")
            }
        };
        writer.key(origin, "listen", listens);
        if let Listen::Address(_) = listen {
            writer.key(origin, "protocol", quoted(protocol));
            if self.protocol.is_none() && number == 0 {
                let holds = "keepalived 2.2.7 takes udp where none is given";
                let fault = Fault::new("protocol is missing", holds, "add protocol TCP if that is meant");
                writer.notice(origin, &self.place, fault);
            }
        }
        for (origin, key, value) in &self.keys {
            writer.key(origin, key, value);
        }
        if !self.flags.is_empty() {
            let flags: Vec<String> = self.flags.iter().map(|flag| quoted(flag)).collect();
            writer.key(origin, "scheduler_flags", format!("[{}]", flags.join(", ")));
        }
        self.write_persistence(listen, writer);
        let method = self.method.clone().unwrap_or(Method { forward: "nat", tunnel: Vec::new() });
        writer.key(origin, "forward", quoted(method.forward));
        if let Some((origin, address)) = &self.sorry {
            let own = self.sorry_method.as_ref().unwrap_or(&method);
            let mut keys = vec![("address", real_address(*address, own, listen))];
            keys.extend(differing(own, &method));
            keys.extend(self.sorry_keys.iter().cloned());
            writer.key(origin, "sorry_server", inline(&keys));
        }
        // One check for all is said once.
        let shared = self.reals.first().map(|first| &first.checks).filter(|first| {
            let same = |real: &Real| {
                real.checks.iter().map(|check| &check.keys).eq(first.iter().map(|check| &check.keys))
            };
            !first.is_empty() && self.reals.iter().all(same)
        });
        if let Some([first, ..]) = shared.map(Vec::as_slice) {
            writer.key(&first.origin, "check", checks_toml(shared.map_or(&[], Vec::as_slice)));
        }
        if self.reals.is_empty() {
            return writer.line(origin, "real = []");
        }
        writer.line(origin, "real = [");
        for real in &self.reals {
            let own = real.method.as_ref().unwrap_or(&method);
            self.tell_port(real, own, listen, number, writer);
            let mut keys = vec![("address", real_address(real.address, own, listen))];
            keys.extend(real.weight.map(|weight| ("weight", weight.to_string())));
            keys.extend(differing(own, &method));
            keys.extend(real.keys.iter().cloned());
            if shared.is_none() && !real.checks.is_empty() {
                keys.push(("check", checks_toml(&real.checks)));
            }
            writer.line(&real.origin, &format!("  {},", inline(&keys)));
        }
        writer.line(origin, "]");
    }

    fn write_persistence(&self, listen: &Listen, writer: &mut Writer) {
        let all_ports = matches!(listen, Listen::Address(address) if address.port() == 0);
        if self.persistence_timeout.is_none() && self.netmask.is_none() && !all_ports {
            return;
        }
        let timeout = seconds(self.persistence_timeout.unwrap_or(360).into());
        let netmask = self.netmask.map(|netmask| format!(", netmask = {netmask}")).unwrap_or_default();
        writer.key(&self.origin, "persistence", format!("{{ timeout = {timeout}{netmask} }}"));
    }

    /// DR and TUN leave the port as it is, whatever the file says.
    fn tell_port(&self, real: &Real, method: &Method, listen: &Listen, number: usize, writer: &mut Writer) {
        let Listen::Address(listen) = listen else { return };
        if number == 0 && method.forward != "nat" && ![0, listen.port()].contains(&real.address.port()) {
            let fault = Fault::new(
                format!("port {} of a {} real server has no effect", real.address.port(), method.forward),
                format!("packets reach it at the port of the service, {}", listen.port()),
                "correct the port, or use NAT",
            );
            writer.notice(&real.origin, &self.place, fault);
        }
    }
}

fn inline(keys: &[(&'static str, String)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", keys.join(", "))
}

fn checks_toml(checks: &[Check]) -> String {
    match checks {
        [one] => one.toml(),
        several => format!("[{}]", several.iter().map(Check::toml).collect::<Vec<_>>().join(", ")),
    }
}

/// A real server's address, with its port where it can be another one than the service's.
fn real_address(address: SocketAddr, method: &Method, listen: &Listen) -> String {
    let kept = address.port() == 0 || (matches!(listen, Listen::Address(_)) && method.forward != "nat");
    quoted(&if kept { address.ip().to_string() } else { address.to_string() })
}

/// The keys of a method that say more than the service's.
fn differing(own: &Method, service: &Method) -> Vec<(&'static str, String)> {
    let forward = (own.forward != service.forward).then(|| ("forward", quoted(own.forward)));
    forward.into_iter().chain(own.tunnel.iter().cloned()).collect()
}

/// Bits of a netmask.
pub(in crate::import) fn netmask(word: &str) -> Option<u8> {
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V4(mask)) => {
            let bits = u32::from(mask);
            (bits.leading_ones() + bits.trailing_zeros() >= 32 && bits != 0)
                .then(|| bits.leading_ones() as u8)
        }
        _ => word.parse().ok().filter(|bits| (1..=128).contains(bits)),
    }
}
