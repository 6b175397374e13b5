//! `[[service]]` and its real servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shunt_dataplane::address::Family;
use shunt_dataplane::id::{L4Port, Protocol};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::ServiceTimeouts;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::tunnel::TunnelChecksum;
use shunt_model::fault::{At, Fault, Span};
use shunt_model::script::Script;
use shunt_model::{duration, limit};
use toml::de::{DeTable, DeValue};

use super::nic::host;
use super::timeout;
use super::{CheckDocument, Section, name, place, required};
use crate::problem::Findings;

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
    /// `mss_clamp`.
    pub mss_clamp: Option<At<bool>>,
    /// `share`, in percent.
    pub share: Option<At<u8>>,
    /// `one_packet`.
    pub one_packet: Option<At<bool>>,
    /// `persistence`.
    pub persistence: Option<PersistenceDocument>,
    /// `timeout`.
    pub timeouts: ServiceTimeouts,
    /// `forward`.
    pub forward: Option<At<Method>>,
    /// `check`, one or several.
    pub checks: Option<Vec<CheckDocument>>,
    /// What it makes of what checks say.
    pub pool: PoolDocument,
    /// `real`, in the order of the file.
    pub reals: Vec<RealDocument>,
    /// True when every real server could be read as a table.
    pub reals_known: bool,
}

/// What a service makes of what checks say, as written.
#[derive(Debug, Default)]
pub struct PoolDocument {
    /// `quorum`.
    pub quorum: Option<At<u32>>,
    /// `hysteresis`.
    pub hysteresis: Option<At<u32>>,
    /// `check_group`.
    pub check_group: Option<At<String>>,
    /// `alpha`.
    pub alpha: Option<At<bool>>,
    /// `inhibit_on_failure`.
    pub inhibit_on_failure: Option<At<bool>>,
    /// `sorry_server`.
    pub sorry_server: Option<RealDocument>,
    /// `panic`.
    pub panic: Option<At<u8>>,
    /// `slow_start`.
    pub slow_start: Option<At<Duration>>,
    /// `max_fails` and `fail_timeout`.
    pub passive: PassiveDocument,
    /// `omega`.
    pub omega: Option<At<bool>>,
    /// `quorum_up`.
    pub quorum_up: Option<Script>,
    /// `quorum_down`.
    pub quorum_down: Option<Script>,
    /// `notify_up`.
    pub notify_up: Option<Script>,
    /// `notify_down`.
    pub notify_down: Option<Script>,
}

/// When failures take a real server out, as written.
#[derive(Clone, Debug, Default)]
pub struct PassiveDocument {
    /// `max_fails`.
    pub max_fails: Option<At<u16>>,
    /// `fail_timeout`.
    pub fail_timeout: Option<At<Duration>>,
}

impl PassiveDocument {
    fn read(section: &mut Section<'_, '_, '_, '_>) -> Self {
        Self {
            max_fails: section.integer("max_fails", 0..=limit::FAILS_MAX, "failures (0 for never)"),
            fail_timeout: section.parse("fail_timeout", |text| {
                within("fail_timeout", text, limit::FAIL_TIMEOUT_MIN, limit::CHECK_HOLD_MAX)
            }),
        }
    }
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
    /// `inhibit_on_failure`, instead of the service's.
    pub inhibit_on_failure: Option<At<bool>>,
    /// `max_fails` and `fail_timeout`, instead of the service's.
    pub passive: PassiveDocument,
    /// `notify_up`, instead of the service's.
    pub notify_up: Option<Script>,
    /// `notify_down`, instead of the service's.
    pub notify_down: Option<Script>,
    /// `check`, instead of the service's.
    pub checks: Option<Vec<CheckDocument>>,
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
    /// None has a meaning for it.
    Third,
}

const KEYS: &[&str] = &[
    "name",
    "listen",
    "protocol",
    "scheduler",
    "scheduler_flags",
    "one_packet",
    "mss_clamp",
    "share",
    "persistence",
    "timeout",
    "forward",
    "check",
    "quorum",
    "hysteresis",
    "check_group",
    "alpha",
    "inhibit_on_failure",
    "sorry_server",
    "panic",
    "slow_start",
    "max_fails",
    "fail_timeout",
    "omega",
    "quorum_up",
    "quorum_down",
    "notify_up",
    "notify_down",
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
    "inhibit_on_failure",
    "max_fails",
    "fail_timeout",
    "notify_up",
    "notify_down",
    "check",
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
const METHODS: &[(&str, Method)] = &[("dr", Method::Dr), ("nat", Method::Nat), ("tun", Method::Tun)];

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
            mss_clamp: section.boolean("mss_clamp"),
            share: section.integer("share", limit::SHARES, "percent of a connection table"),
            forward: section.word("forward", METHODS, &["fullnat"]),
            persistence: None,
            timeouts: ServiceTimeouts::default(),
            checks: super::check::read(&mut section),
            pool: PoolDocument::default(),
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
        service.pool = PoolDocument::read(&mut section);
        let before = section.findings().count();
        let reals = section.tables("real");
        service.reals_known = section.findings().count() == before;
        for (number, (at, table)) in reals.into_iter().enumerate() {
            let real_place = format!("{place}, {}", super::place("real", table, "address", number));
            service.reals.push(RealDocument::read(section.findings(), table, at, real_place));
        }
        service
    }
}

impl PoolDocument {
    fn read(section: &mut Section<'_, '_, '_, '_>) -> Self {
        let sorry_place = format!("{}, sorry_server", section.place());
        let sorry_server = section.table("sorry_server");
        Self {
            quorum: section.integer("quorum", 1..=limit::QUORUM_MAX, "(a sum of weights)"),
            hysteresis: section.integer("hysteresis", 0..=limit::QUORUM_MAX, "(a sum of weights)"),
            check_group: section.parse("check_group", super::name),
            alpha: section.boolean("alpha"),
            inhibit_on_failure: section.boolean("inhibit_on_failure"),
            sorry_server: sorry_server
                .map(|(at, table)| RealDocument::read(section.findings(), table, at, sorry_place)),
            panic: section.integer("panic", 0..=100, "percent of the real servers"),
            passive: PassiveDocument::read(section),
            omega: section.boolean("omega"),
            quorum_up: super::script::read(section, "quorum_up"),
            quorum_down: super::script::read(section, "quorum_down"),
            notify_up: super::script::read(section, "notify_up"),
            notify_down: super::script::read(section, "notify_down"),
            slow_start: section.parse("slow_start", |text| {
                within("slow_start", text, Duration::ZERO, limit::CHECK_HOLD_MAX)
            }),
        }
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
    fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, place: String) -> Self {
        let mut section = Section::new(findings, &place, table, &at, REAL_KEYS, &[]);
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
            inhibit_on_failure: section.boolean("inhibit_on_failure"),
            passive: PassiveDocument::read(&mut section),
            notify_up: super::script::read(&mut section, "notify_up"),
            notify_down: super::script::read(&mut section, "notify_down"),
            checks: super::check::read(&mut section),
            place: place.clone(),
        };
        if !section.has("address") {
            let example = "address = \"192.0.2.21:80\"";
            section.missing(required("address", "every real server has an address", example));
        }
        real
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
        if Mark::of(listen).is_some() {
            let holds = "it and port 0 would stand for a firewall mark here";
            return Err(Fault::new(
                "an address that no host has",
                holds,
                "name the VIP, or write { fwmark = 81 }",
            ));
        }
        Ok(listen)
    })
}

/// A word of `scheduler_flags`, with or without the scheduler's name as in `ipvsadm -b`.
fn scheduler_flag(text: &str) -> Result<SchedulerFlag, Fault> {
    match text {
        "fallback" | "sh-fallback" | "mh-fallback" | "flag-1" => Ok(SchedulerFlag::Fallback),
        "port" | "sh-port" | "mh-port" | "flag-2" => Ok(SchedulerFlag::Port),
        "flag-3" => Ok(SchedulerFlag::Third),
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
    // The director itself, which `forward = "dr"` reaches.
    if address.is_loopback() {
        return Ok((address, l4_port));
    }
    Ok((host(address)?, l4_port))
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
