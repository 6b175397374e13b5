//! Checks that go the way of their service: what that takes.

use std::collections::HashSet;
use std::net::IpAddr;

use shunt_dataplane::service::Method;
use shunt_dataplane::service::mark::Mark;
use shunt_model::fault::{At, Fault, Span};
use shunt_model::health::CheckKind;

use super::networks::Networks;
use crate::Real;
use crate::document::{CheckDocument, Document, ServiceDocument};
use crate::problem::Findings;

/// The VIPs of services that the director itself is a real server of: its kernel side has them, and would answer itself.
pub fn served(document: &Document, networks: &Networks) -> HashSet<IpAddr> {
    let own = |service: &&ServiceDocument| {
        let reals = service.reals.iter().chain(&service.pool.sorry_server);
        let mut addresses = reals.filter_map(|real| real.address.as_ref());
        addresses.any(|address| networks.owner(address.value.0).is_some())
    };
    let listens = document.services.iter().filter(own).filter_map(|service| service.listen.as_ref());
    listens.map(|listen| listen.value.ip()).collect()
}

/// Checks those of a service and of its real servers; `reals` are these as built, empty where one could not be.
pub fn check(
    service: &ServiceDocument,
    reals: &[Real],
    served: &HashSet<IpAddr>,
    networks: &Networks,
    findings: &mut Findings<'_>,
) {
    let documents = || service.reals.iter().zip(reals);
    let without: Vec<&Real> =
        documents().filter(|(document, _)| document.checks.is_none()).map(|(_, real)| real).collect();
    let of_reals =
        documents().filter_map(|(document, real)| Some((document, document.checks.as_deref()?, real)));
    let of_service = service.checks.as_deref().unwrap_or_default();
    let mut each = |place: &str, checks: &[CheckDocument], reals: &[&Real]| {
        for (number, check) in checks.iter().enumerate() {
            let Some(way) = check.by_service.as_ref().filter(|way| way.value) else { continue };
            let place = match checks {
                [_] => format!("{place}, check"),
                _ => format!("{place}, check {}", number + 1),
            };
            let no_way = vip(service, served).or_else(|| reals.iter().find_map(|real| method(real)));
            for fault in kind(check).into_iter().chain(no_way) {
                findings.error(&place, &way.at, fault);
            }
            for (at, fault) in ends(service, check, way, networks) {
                findings.error(&place, at, fault);
            }
        }
    };
    each(&service.place, of_service, &without);
    for (document, checks, real) in of_reals {
        each(&document.place, checks, &[real]);
    }
}

/// Only what a VIP answers says that it is there.
fn kind(check: &CheckDocument) -> Option<Fault> {
    let (holds, advice) = match check.kind.as_ref()? {
        CheckKind::Script { .. } | CheckKind::File { .. } | CheckKind::Process(_) => {
            ("scripts, files and processes ask nobody at a VIP", "remove way, or choose another kind")
        }
        CheckKind::Udp(asked) if !asked.require_reply => {
            ("a VIP that is not there says nothing, and that is a success here", "add require_reply = true")
        }
        _ => return None,
    };
    Some(Fault::new("the service's way for a check that hears nothing from there", holds, advice))
}

/// From where, and to where.
fn ends<'d>(
    service: &ServiceDocument,
    check: &'d CheckDocument,
    way: &'d At<bool>,
    networks: &Networks,
) -> Vec<(&'d Span, Fault)> {
    let Some(listen) = service.listen.as_ref().map(|listen| listen.value) else { return Vec::new() };
    let vip = match (Mark::of(listen), &check.address) {
        (None, None) => listen.ip(),
        (Some(_), Some(address)) => address.value,
        (None, Some(address)) => {
            let holds = format!("by the service's way it is {}", listen.ip());
            return vec![(
                &address.at,
                Fault::new("another address to ask at", holds, "remove address or way"),
            )];
        }
        (Some(_), None) => {
            let holds = "a firewall mark has no VIP of its own";
            let advice = "add address = \"…\", an address of which the real servers serve the marked packets";
            return vec![(&way.at, Fault::new("a check without address", holds, advice))];
        }
    };
    let mut faults = Vec::new();
    if let Some(from) = &check.from {
        if from.value.port() != 0 {
            let holds =
                "all of the service's go to one address, and are told apart by the ports that they come from";
            faults
                .push((&from.at, Fault::new("a port for checks to come from", holds, "leave the port out")));
        }
        if from.value.is_ipv4() != vip.is_ipv4() {
            let holds = format!("it goes to {vip}");
            let advice = "name an own address of that family";
            faults.push((&from.at, Fault::new("two address families in one check", holds, advice)));
        }
    } else if networks.known && !networks.own.iter().any(|(own, _)| own.addr().is_ipv4() == vip.is_ipv4()) {
        let holds = format!(
            "real servers answer from {vip} to an own address of a NIC, and there is none of its family"
        );
        faults.push((
            &way.at,
            Fault::new("nowhere to be answered", holds, "add one to a NIC's addresses, or remove way"),
        ));
    }
    faults
}

/// Whether the VIP is one that the director asks for outside.
fn vip(service: &ServiceDocument, served: &HashSet<IpAddr>) -> Option<Fault> {
    let vip = service.listen.as_ref()?.value.ip();
    served.contains(&vip).then(|| {
        let holds =
            format!("the director is a real server of {vip} itself, and would answer in the others' place");
        Fault::new("the service's way for a VIP that is here", holds, "remove way")
    })
}

/// Whether the method leads to the VIP.
fn method(real: &Real) -> Option<Fault> {
    (real.method == Method::Nat).then(|| {
        let address = real.address;
        let holds = format!("{address} is reached by nat: its own address is all that is asked there anyway");
        Fault::new(
            "the service's way to a real server without VIP",
            holds,
            "give it a check of its own, without way",
        )
    })
}
