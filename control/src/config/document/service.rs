//! `[[service]]`, its real servers and its health check.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shunt_dataplane::address::Family;
use shunt_dataplane::id::{L4Port, Protocol};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::ServiceTimeouts;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::tunnel::TunnelChecksum;
use toml::de::{DeTable, DeValue};

use super::nic::host;
use super::timeout;
use super::{Section, name, place, required};
use crate::config::problem::{At, Fault, Findings, Span};
use crate::config::{duration, limit};

/// A `[[service]]` as written.
#[derive(Debug)]
pub struct ServiceDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `name`.
    pub name: Option<At<String>>,
    /// `listen`.
    pub listen: Option<At<SocketAddr>>,
    /// `protocol`.
    pub protocol: Option<At<Protocol>>,
    /// `scheduler`.
    pub scheduler: Option<At<Scheduler>>,
    /// `scheduler_flags`.
    pub scheduler_flags: Vec<At<SchedulerFlag>>,
    /// `one_packet`.
    pub one_packet: Option<At<bool>>,
    /// `persistence`.
    pub persistence: Option<PersistenceDocument>,
    /// `timeout`.
    pub timeouts: ServiceTimeouts,
    /// `forward`.
    pub forward: Option<At<Method>>,
    /// `check`.
    pub check: Option<CheckDocument>,
    /// `real`, in the order of the file.
    pub reals: Vec<RealDocument>,
    /// True when every real server could be read as a table.
    pub reals_known: bool,
}

/// `persistence` as written.
#[derive(Debug)]
pub struct PersistenceDocument {
    /// `timeout`.
    pub timeout: Option<At<Duration>>,
    /// `netmask`.
    pub netmask: Option<At<u8>>,
}

/// A real server as written.
#[derive(Debug)]
pub struct RealDocument {
    /// How problems call it.
    pub place: String,
    /// Its address; its port may be left out.
    pub address: Option<At<(IpAddr, Option<L4Port>)>>,
    /// `weight`.
    pub weight: Option<At<u32>>,
    /// `u_threshold`.
    pub upper_threshold: Option<At<u32>>,
    /// `l_threshold`.
    pub lower_threshold: Option<At<u32>>,
    /// `forward`.
    pub forward: Option<At<Method>>,
    /// `tunnel`.
    pub tunnel: Option<At<TunnelKind>>,
    /// `tunnel_port`.
    pub tunnel_port: Option<At<u16>>,
    /// `tunnel_checksum`.
    pub tunnel_checksum: Option<At<TunnelChecksum>>,
}

/// What a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
    /// GUE.
    Gue,
}

/// A word of `scheduler_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerFlag {
    /// Another real server takes the connections of one that takes none.
    Fallback,
    /// The client's port is hashed too.
    Port,
}

/// What a health check speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Opens a TCP connection.
    Tcp,
    /// Asks by HTTP.
    Http,
}

/// A health check as written.
#[derive(Debug)]
pub struct CheckDocument {
    /// Where it begins.
    pub at: Span,
    /// `kind`.
    pub kind: Option<At<Speaks>>,
    /// `path`.
    pub path: Option<At<String>>,
    /// `host`.
    pub host: Option<At<String>>,
    /// `status`.
    pub status: Option<At<Vec<u16>>>,
    /// `port`.
    pub l4_port: Option<At<u16>>,
    /// `interval`.
    pub interval: Option<At<Duration>>,
    /// `timeout`.
    pub timeout: Option<At<Duration>>,
    /// `fall`.
    pub fall: Option<At<u8>>,
    /// `rise`.
    pub rise: Option<At<u8>>,
}

const KEYS: &[&str] = &[
    "name",
    "listen",
    "protocol",
    "scheduler",
    "scheduler_flags",
    "one_packet",
    "persistence",
    "timeout",
    "forward",
    "check",
    "real",
];
const PERSISTENCE_KEYS: &[&str] = &["timeout", "netmask"];
const REAL_KEYS: &[&str] = &[
    "address",
    "weight",
    "u_threshold",
    "l_threshold",
    "forward",
    "tunnel",
    "tunnel_port",
    "tunnel_checksum",
];
/// The words of `protocol`.
pub(super) const PROTOCOLS: &[(&str, Protocol)] =
    &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
const TUNNELS: &[(&str, TunnelKind)] =
    &[("ipip", TunnelKind::Ipip), ("gre", TunnelKind::Gre), ("gue", TunnelKind::Gue)];
const CHECKSUMS: &[(&str, TunnelChecksum)] = &[
    (TunnelChecksum::None.word(), TunnelChecksum::None),
    (TunnelChecksum::Full.word(), TunnelChecksum::Full),
    (TunnelChecksum::Remote.word(), TunnelChecksum::Remote),
];
const CHECK_KEYS: &[&str] =
    &["kind", "path", "host", "status", "port", "interval", "timeout", "fall", "rise"];
const METHODS: &[(&str, Method)] = &[("dr", Method::Dr), ("nat", Method::Nat), ("tun", Method::Tun)];
const CHECKS_LATER: &[&str] = &["https", "smtp", "dns", "ping", "udp", "script", "send"];

impl ServiceDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("service", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, KEYS, &[]);
        let schedulers =
            Scheduler::ALL.iter().map(|scheduler| (scheduler.word(), *scheduler)).collect::<Vec<_>>();
        let mut service = Self {
            name: section.parse("name", name),
            listen: listen(&mut section),
            protocol: section.word("protocol", PROTOCOLS, &[]),
            scheduler: section.word("scheduler", &schedulers, &[]),
            scheduler_flags: section.parse_list("scheduler_flags", scheduler_flag),
            one_packet: section.boolean("one_packet"),
            forward: section.word("forward", METHODS, &["fullnat"]),
            persistence: None,
            timeouts: ServiceTimeouts::default(),
            check: None,
            reals: Vec::new(),
            reals_known: false,
            place: place.clone(),
            at: at.clone(),
        };
        let marked =
            section.raw("listen").is_some_and(|listen| matches!(listen.get_ref(), DeValue::Table(_)));
        if marked {
            if let Some(protocol) = &service.protocol {
                let holds = "the mark says which packets it takes";
                let fault =
                    Fault::new("a protocol of a firewall mark", holds, "remove it; name it in [[mark]]");
                section.error(&protocol.at.clone(), fault);
            }
            // No matter which: it only fills the place.
            service.protocol =
                service.listen.as_ref().map(|listen| At::new(Protocol::Tcp, listen.at.clone()));
        }
        for (key, holds, example) in [
            ("name", "every service has a name of its own", "name = \"web\""),
            ("listen", "every service has an address and a port", "listen = \"192.0.2.10:80\""),
            ("protocol", "every service is for tcp, udp or sctp", "protocol = \"tcp\""),
        ] {
            if !(section.has(key) || marked && key == "protocol") {
                section.missing(required(key, holds, example));
            }
        }
        if let Some((at, table)) = section.table("persistence") {
            service.persistence = Some(PersistenceDocument::read(section.findings(), table, &at, &place));
        }
        if let Some((at, table)) = section.table("timeout") {
            service.timeouts = timeout::read(section.findings(), &format!("{place}, timeout"), table, &at);
        }
        if let Some((at, table)) = section.table("check") {
            service.check = Some(CheckDocument::read(section.findings(), table, at, &place));
        }
        let before = section.findings().count();
        let reals = section.tables("real");
        service.reals_known = section.findings().count() == before;
        for (number, (at, table)) in reals.into_iter().enumerate() {
            service.reals.push(RealDocument::read(section.findings(), table, at, &place, number));
        }
        service
    }
}

impl PersistenceDocument {
    fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span, service: &str) -> Self {
        let place = format!("{service}, persistence");
        let mut section = Section::new(findings, &place, table, at, PERSISTENCE_KEYS, &[]);
        Self {
            timeout: section
                .parse("timeout", |text| within("timeout", text, limit::TIMEOUT_MIN, limit::TIMEOUT_MAX)),
            netmask: section.integer("netmask", 1..=128, "bits of a client's address (at most 32 of IPv4)"),
        }
    }
}

impl RealDocument {
    fn read(
        findings: &mut Findings<'_>,
        table: &DeTable<'_>,
        at: Span,
        service: &str,
        number: usize,
    ) -> Self {
        let place = format!("{service}, {}", place("real", table, "address", number));
        let mut section =
            Section::new(findings, &place, table, &at, REAL_KEYS, &[("check", "put it into the service")]);
        let real = Self {
            address: section.parse("address", real_address),
            weight: section.integer("weight", 0..=limit::WEIGHT_MAX, "(0 takes no new connections)"),
            upper_threshold: section.integer(
                "u_threshold",
                0..=limit::THRESHOLD_MAX,
                "connections (0 for no limit)",
            ),
            lower_threshold: section.integer(
                "l_threshold",
                0..=limit::THRESHOLD_MAX,
                "connections (0 for three quarters of u_threshold)",
            ),
            forward: section.word("forward", METHODS, &["fullnat"]),
            tunnel: section.word("tunnel", TUNNELS, &[]),
            tunnel_port: section.integer("tunnel_port", 1..=u16::MAX, "(a UDP port)"),
            tunnel_checksum: section.word("tunnel_checksum", CHECKSUMS, &[]),
            place: place.clone(),
        };
        if !section.has("address") {
            let example = "address = \"192.0.2.21:80\"";
            section.missing(required("address", "every real server has an address", example));
        }
        real
    }
}

impl CheckDocument {
    fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, service: &str) -> Self {
        let place = format!("{service}, check");
        let mut section = Section::new(findings, &place, table, &at, CHECK_KEYS, &[]);
        let check = Self {
            kind: section.word("kind", &[("tcp", Speaks::Tcp), ("http", Speaks::Http)], CHECKS_LATER),
            path: section.parse("path", path),
            host: section.parse("host", host_header),
            status: status(&mut section),
            l4_port: section.integer("port", 1..=u16::MAX, "(a TCP port)"),
            interval: section.parse("interval", |text| {
                within("interval", text, limit::CHECK_INTERVAL_MIN, limit::CHECK_INTERVAL_MAX)
            }),
            timeout: section.parse("timeout", |text| {
                within("timeout", text, limit::CHECK_TIMEOUT_MIN, limit::CHECK_INTERVAL_MAX)
            }),
            fall: section.integer("fall", 1..=limit::CHECK_COUNT_MAX, "failures in a row"),
            rise: section.integer("rise", 1..=limit::CHECK_COUNT_MAX, "successes in a row"),
            at: at.clone(),
        };
        if !section.has("kind") {
            section.missing(required("kind", "a check is of kind tcp or http", "kind = \"tcp\""));
        }
        check
    }
}

/// `listen = { fwmark = 81 }`.
fn mark(findings: &mut Findings<'_>, place: &str, table: &DeTable<'_>, at: &Span) -> Option<At<SocketAddr>> {
    let mut section = Section::new(findings, place, table, at, &["fwmark", "family"], &[]);
    if !section.has("fwmark") {
        let holds = "an address and a port, or a firewall mark";
        section.missing(Fault::new("not a place to listen at", holds, "write { fwmark = 81 }"));
    }
    let mark = super::mark::number_of_mark(&mut section, "fwmark");
    let families = [("ipv4", Family::V4), ("ipv6", Family::V6)];
    let family = section.word("family", &families, &[]).map_or(Family::V4, |family| family.value);
    Some(At::new(mark?.value.listen(family), at.clone()))
}

/// `listen`: VIP and port, or a firewall mark.
fn listen(section: &mut Section<'_, '_, '_, '_>) -> Option<At<SocketAddr>> {
    let value = section.raw("listen")?;
    if let DeValue::Table(table) = value.get_ref() {
        let place = format!("{}, listen", section.place());
        return mark(section.findings(), &place, table, &value.span());
    }
    section.parse("listen", |text| {
        let listen: SocketAddr = text.parse().map_err(|_| match text.parse::<IpAddr>() {
            Ok(address) => {
                let advice = format!("add it, such as \"{}\"", SocketAddr::new(address, 80));
                Fault::new("no port", "an address and a port", advice)
            }
            Err(_) => Fault::new(
                "not an address and a port",
                "such as \"192.0.2.10:80\" or \"[2001:db8::10]:80\"",
                "write one of those",
            ),
        })?;
        host(listen.ip())?;
        Ok(listen)
    })
}

/// A word of `scheduler_flags`, with or without the scheduler's name as in `ipvsadm -b`.
fn scheduler_flag(text: &str) -> Result<SchedulerFlag, Fault> {
    match text {
        "fallback" | "sh-fallback" | "mh-fallback" => Ok(SchedulerFlag::Fallback),
        "port" | "sh-port" | "mh-port" => Ok(SchedulerFlag::Port),
        _ => Err(Fault::new(
            "unknown scheduler flag",
            "a flag is fallback or port",
            "write scheduler_flags = [\"fallback\", \"port\"], or one of them",
        )),
    }
}

/// A real server's address with or without a port.
fn real_address(text: &str) -> Result<(IpAddr, Option<L4Port>), Fault> {
    let (address, l4_port) = match text.parse::<SocketAddr>() {
        Ok(address) => (address.ip(), Some(L4Port(address.port()))),
        Err(_) => match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => (address, None),
            Err(_) => {
                return Err(Fault::new(
                    "not the address of a real server",
                    "an address with or without a port, such as \"192.0.2.21:80\" or \"[2001:db8::21]:80\"",
                    "write one of those",
                ));
            }
        },
    };
    if l4_port == Some(L4Port(0)) {
        return Err(Fault::new(
            "port 0",
            "a real server has a port, the service's where none is given",
            "leave :0 out",
        ));
    }
    Ok((host(address)?, l4_port))
}

/// A path for HTTP (RFC 9112, 3.2.1).
fn path(text: &str) -> Result<String, Fault> {
    if text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let holds = "a path starts with / and has at most 1024 visible ASCII characters";
    Err(Fault::new("not a path", holds, "write one such as \"/health\""))
}

/// A Host header (RFC 9110, 7.2).
fn host_header(text: &str) -> Result<String, Fault> {
    if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        "not a host",
        "a host name with or without a port",
        "write one such as \"www.example.org\"",
    ))
}

/// `status`: one number or a list.
fn status(section: &mut Section<'_, '_, '_, '_>) -> Option<At<Vec<u16>>> {
    let value = section.raw("status")?;
    let (bounds, unit) = (100..=599, "(a status code of HTTP)");
    if matches!(value.get_ref(), DeValue::Integer(_)) {
        return section.integer("status", bounds, unit).map(|one| At::new(vec![one.value], one.at));
    }
    let list = section.integers("status", bounds, unit)?;
    if list.value.is_empty() {
        let holds = "without status every answer from 200 to 299 is good";
        section.error(&list.at, Fault::new("no status", holds, "remove status, or name one"));
    }
    Some(At::new(list.value.into_iter().map(|one| one.value).collect(), list.at))
}

/// A length of time within bounds.
pub(super) fn within(key: &str, text: &str, least: Duration, most: Duration) -> Result<Duration, Fault> {
    let length = duration::parse(text)?;
    if (least..=most).contains(&length) {
        return Ok(length);
    }
    let holds = format!("{key} is {} to {}", duration::format(least), duration::format(most));
    Err(Fault::new(format!("{key} is out of bounds"), holds, "choose a time between these"))
}
