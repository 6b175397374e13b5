//! What a service makes of what checks say: quorum, sorry server, panic threshold.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shunt_model::fault::Fault;

use super::networks::Networks;
use super::passive;
use super::services::{build_real, check_real};
use super::tunnels;
use crate::document::{RealDocument, ServiceDocument};
use crate::problem::Findings;
use crate::{Check, Notify, Passive, Pool, Real};

/// Checks what stands in the service about it; `reals` are its real servers.
pub fn pool(
    service: &ServiceDocument,
    checks: Option<&Arc<[Check]>>,
    reals: Option<&[Real]>,
    vips: &HashSet<IpAddr>,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Pool> {
    let document = &service.pool;
    let quorum = document.quorum.as_ref().map_or(1, |quorum| quorum.value);
    if let Some(hysteresis) = document.hysteresis.as_ref().filter(|hysteresis| hysteresis.value >= quorum) {
        let holds =
            format!("quorum is {quorum}: it is lost at so much less than that, which has to be above 0");
        let fault = Fault::new("hysteresis not below quorum", holds, "lower hysteresis or raise quorum");
        findings.error(&service.place, &hysteresis.at, fault);
    }
    if let (Some(reals), Some(at)) = (reals, &document.quorum) {
        let most: u64 = reals.iter().map(|real| u64::from(real.weight)).sum();
        if u64::from(quorum) > most {
            let holds = format!("the real servers weigh {most} together");
            let fault = Fault::new("a quorum that is never reached", holds, "lower quorum or raise weights");
            findings.warn(&service.place, &at.at, fault);
        }
    }
    if let (Some(alpha), Some(reals)) = (document.alpha.as_ref().filter(|alpha| alpha.value), reals) {
        let unchecked = checks.is_some_and(|checks| checks.is_empty());
        if unchecked && reals.iter().all(|real| real.checks.is_empty()) {
            let fault =
                Fault::new("alpha without a check", "nobody would ever be up", "add check, or remove alpha");
            findings.error(&service.place, &alpha.at, fault);
        }
    }
    let sorry_server = match &document.sorry_server {
        None => None,
        Some(sorry) => Some(Box::new(sorry_server(service, sorry, reals, vips, networks, findings)?)),
    };
    Some(Pool {
        quorum,
        hysteresis: document.hysteresis.as_ref().map_or(0, |hysteresis| hysteresis.value),
        check_group: document.check_group.as_ref().map(|group| group.value.as_str().into()),
        alpha: document.alpha.as_ref().is_some_and(|alpha| alpha.value),
        inhibit_on_failure: document.inhibit_on_failure.as_ref().is_some_and(|inhibit| inhibit.value),
        sorry_server,
        panic: document.panic.as_ref().map_or(0, |panic| panic.value),
        passive: passive::passive(&document.passive, &document.passive),
        omega: document.omega.as_ref().is_some_and(|omega| omega.value),
        quorum_up: document.quorum_up.clone().map(Arc::new),
        quorum_down: document.quorum_down.clone().map(Arc::new),
        notify: Notify {
            up: document.notify_up.clone().map(Arc::new),
            down: document.notify_down.clone().map(Arc::new),
        },
        slow_start: document.slow_start.as_ref().map_or(Duration::ZERO, |slow_start| slow_start.value),
    })
}

fn sorry_server(
    service: &ServiceDocument,
    sorry: &RealDocument,
    reals: Option<&[Real]>,
    vips: &HashSet<IpAddr>,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Real> {
    let at = &sorry.address.as_ref()?.at;
    let mut built = build_real(service, sorry, Some(Arc::default()))?;
    // What the service says about real servers that are down is not about it.
    built.inhibit_on_failure = sorry.inhibit_on_failure.as_ref().is_some_and(|inhibit| inhibit.value);
    if let Some(check) = sorry.checks.as_ref().and_then(|checks| checks.first()) {
        let fault = Fault::new("a check of the sorry server", "it serves when all else fails", "remove it");
        findings.missing(&sorry.place, &check.at, fault);
    }
    if let Some(max_fails) = &sorry.passive.max_fails {
        let fault = Fault::new("max_fails of the sorry server", "it serves when all else fails", "remove it");
        findings.error(&sorry.place, &max_fails.at, fault);
    }
    built.passive = Passive::default();
    tunnels::check(sorry, built.method, findings);
    if let Err(fault) = check_real(service, &built, vips, networks) {
        findings.error(&sorry.place, at, fault);
    }
    if reals.is_some_and(|reals| reals.iter().any(|real| real.address == built.address)) {
        let holds = "it is a real server of the service, and serves whether its checks pass or not when the quorum is lost";
        let fault = Fault::new("a sorry server that serves anyway", holds, "name another host");
        findings.warn(&sorry.place, at, fault);
    }
    Some(built)
}
