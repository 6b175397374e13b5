//! Health checks: what they need of their service, and what holds where nothing is said.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::mark::Mark;
use shunt_model::fault::Fault;
use shunt_model::{duration, limit};

use super::networks::Networks;
use crate::Check;
use crate::document::{CheckDocument, RealDocument, ServiceDocument};
use crate::problem::Findings;

const INTERVAL_DEFAULT: Duration = Duration::from_secs(6);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
const FALL_DEFAULT: u8 = 3;
const RISE_DEFAULT: u8 = 2;

/// The checks of a service.
pub fn checks(
    service: &ServiceDocument,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Arc<[Check]>> {
    // Those of marks may have ports of their own.
    let have_ports = service.reals.iter().all(has_port);
    let checks = service.checks.as_deref().unwrap_or_default();
    build_all(&service.place, checks, service, have_ports, networks, findings)
}

/// The checks that a real server has instead.
pub fn checks_of_real(
    service: &ServiceDocument,
    real: &RealDocument,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Arc<[Check]>> {
    let checks = real.checks.as_deref().unwrap_or_default();
    build_all(&real.place, checks, service, has_port(real), networks, findings)
}

/// Whether a real server names its port.
fn has_port(real: &RealDocument) -> bool {
    real.address.as_ref().is_some_and(|address| address.value.1.is_some())
}

fn build_all(
    place: &str,
    documents: &[CheckDocument],
    service: &ServiceDocument,
    have_ports: bool,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Arc<[Check]>> {
    if documents.len() > limit::CHECKS_MAX {
        let wrong = format!("{} checks are too many", documents.len());
        let holds = format!("a real server has at most {}", limit::CHECKS_MAX);
        findings.missing(place, &documents[0].at, Fault::new(wrong, holds, "remove some"));
    }
    let mut all = Some(Vec::with_capacity(documents.len()));
    for (number, document) in documents.iter().enumerate() {
        let place = match documents {
            [_] => format!("{place}, check"),
            _ => format!("{place}, check {}", number + 1),
        };
        ports(&place, document, service, have_ports, findings);
        let built = build(&place, document, networks, findings);
        all = all.and_then(|mut all: Vec<Check>| {
            all.push(built?);
            Some(all)
        });
    }
    all.map(Arc::from)
}

/// A check of nothing but what it names itself.
pub fn check_alone(
    place: &str,
    check: &CheckDocument,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Check> {
    if let Some(kind) = &check.kind {
        for (asks, has, key, example) in [
            (kind.asks_a_host(), check.address.is_some(), "address", "address = \"192.0.2.1\""),
            (kind.asks_a_port(), check.l4_port.is_some(), "port", "port = 80"),
        ] {
            if asks && !has {
                let holds = format!("a check of no real server names its {key}");
                let fault = Fault::new(format!("a check without {key}"), holds, format!("add {example}"));
                findings.missing(place, &check.at, fault);
            }
        }
    }
    if let Some(way) = check.by_service.as_ref().filter(|way| way.value) {
        let holds = "a check of no real server has no service either";
        findings.error(place, &way.at, Fault::new("the way of no service", holds, "remove way"));
    }
    build(place, check, networks, findings)
}

fn build(
    place: &str,
    check: &CheckDocument,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Check> {
    let interval = check.interval.as_ref().map_or(INTERVAL_DEFAULT, |interval| interval.value);
    let timeout = check.timeout.as_ref().map_or(TIMEOUT_DEFAULT.min(interval), |timeout| timeout.value);
    if let Some(at) = check.timeout.as_ref().map(|timeout| &timeout.at).filter(|_| timeout > interval) {
        let holds = format!(
            "a check ends before the next begins, {} later: those that take all their time come more rarely",
            duration::format(interval)
        );
        let fault = Fault::new("timeout above interval", holds, "lower timeout or raise interval");
        findings.warn(place, at, fault);
    }
    source(place, check, networks, findings);
    Some(Check {
        kind: check.kind.clone()?,
        by_service: check.by_service.as_ref().is_some_and(|by_service| by_service.value),
        address: check.address.as_ref().map(|address| address.value),
        l4_port: check.l4_port.as_ref().map(|port| port.value),
        from: check.from.as_ref().map(|from| from.value),
        interval,
        timeout,
        retry_interval: check.retry_interval.as_ref().map(|retry| retry.value),
        warmup: check.warmup.as_ref().map_or(Duration::ZERO, |warmup| warmup.value),
        fall: check.fall.as_ref().map_or(FALL_DEFAULT, |fall| fall.value),
        rise: check.rise.as_ref().map_or(RISE_DEFAULT, |rise| rise.value),
        alpha: check.alpha.as_ref().is_some_and(|alpha| alpha.value),
        reentry: check.reentry.as_ref().map_or(Duration::ZERO, |reentry| reentry.value),
    })
}

/// Whether the port that is asked is known, and likely to answer; `have_ports`: the real servers name theirs.
fn ports(
    place: &str,
    check: &CheckDocument,
    service: &ServiceDocument,
    have_ports: bool,
    findings: &mut Findings<'_>,
) {
    if let Some(l4_port) = check.l4_port.as_ref().filter(|l4_port| l4_port.value == 0) {
        let fault =
            Fault::new("a check of port 0", "nobody answers there: what it checks is down", "name the port");
        findings.warn(place, &l4_port.at, fault);
    }
    let Some(kind) = check.kind.as_ref().filter(|kind| kind.asks_a_port() && check.l4_port.is_none()) else {
        return;
    };
    let listen = service.listen.as_ref().map(|listen| listen.value);
    let knows_port = |listen: SocketAddr| listen.port() != 0 || (have_ports && Mark::of(listen).is_some());
    if listen.is_some_and(|listen| !knows_port(listen)) {
        let holds = "a service of all ports has none to ask at";
        findings.missing(place, &check.at, Fault::new("a check without a port", holds, "add port = …"));
    }
    let is_udp = service.protocol.as_ref().is_some_and(|protocol| protocol.value == Protocol::Udp);
    if is_udp && kind.speaks_tcp() {
        let fault = Fault::new(
            "a check over TCP for a udp service",
            "the real server's port is asked by TCP",
            "name the TCP port with port = …, or see that it answers there",
        );
        findings.warn_missing(place, &check.at, fault);
    }
}

/// Whether the check can come from where it says.
fn source(place: &str, check: &CheckDocument, networks: &Networks, findings: &mut Findings<'_>) {
    let Some(from) = &check.from else { return };
    let address: IpAddr = from.value.ip();
    if networks.known && networks.owner(address).is_none() {
        let holds = "checks come from an own address of a NIC";
        let fault = Fault::new("not an own address", holds, "name one of the director's own addresses");
        findings.error(place, &from.at, fault);
    }
    let asked = check.address.as_ref().filter(|asked| asked.value.is_ipv4() != address.is_ipv4());
    if let Some(asked) = asked {
        let holds = format!("it comes from {}", SocketAddr::new(address, from.value.port()));
        let fault = Fault::new("two address families in one check", holds, "name addresses of one family");
        findings.error(place, &asked.at, fault);
    }
}
