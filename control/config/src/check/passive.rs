//! `max_fails` and `fail_timeout`: whether anything passes the director by which real servers could be judged.

use shunt_dataplane::service::Method;
use shunt_dataplane::service::mark::Mark;
use shunt_model::fault::{At, Fault, Span};

use crate::document::{PassiveDocument, RealDocument, ServiceDocument};
use crate::problem::Findings;
use crate::{FAIL_TIMEOUT_DEFAULT, Passive, Pool, Real};

/// What holds for a real server that says `own`, in a service that says `common`.
pub fn passive(own: &PassiveDocument, common: &PassiveDocument) -> Passive {
    let max_fails = own.max_fails.as_ref().or(common.max_fails.as_ref());
    let fail_timeout = own.fail_timeout.as_ref().or(common.fail_timeout.as_ref());
    Passive {
        max_fails: max_fails.map_or(0, |max_fails| max_fails.value),
        fail_timeout: fail_timeout.map_or(FAIL_TIMEOUT_DEFAULT, |time| time.value),
    }
}

/// Checks them against the methods of the real servers.
pub fn check(service: &ServiceDocument, pool: &Pool, reals: &[Real], findings: &mut Findings<'_>) {
    let common = &service.pool.passive;
    let Some(first) = said(common).or_else(|| service.reals.iter().find_map(|real| said(&real.passive)))
    else {
        let alone = common.fail_timeout.as_ref();
        let alone =
            alone.or_else(|| service.reals.iter().find_map(|real| real.passive.fail_timeout.as_ref()));
        if let Some(alone) = alone {
            let holds = "max_fails is 0: failures take nobody out";
            let fault = Fault::new("fail_timeout without max_fails", holds, "add max_fails, or remove it");
            findings.warn(&service.place, &alone.at, fault);
        }
        return;
    };
    let first = first.at.clone();
    if let Some(listen) = service.listen.as_ref().filter(|listen| listen.value.port() == 0) {
        let what =
            if Mark::of(listen.value).is_some() { "a firewall mark" } else { "a service of all ports" };
        let holds = "clients choose the port there: one that is closed says nothing about the others";
        let fault = Fault::new(format!("max_fails of {what}"), holds, "use check");
        findings.error(&service.place, &first, fault);
        return;
    }
    check_methods(service, reals, &first, findings);
    if let ([_], None, 0) = (reals, &pool.sorry_server, pool.panic) {
        let holds = "while it is out nobody serves";
        let advice = "add a real server, a sorry_server, or panic = 1, which keeps the last one";
        findings.warn(&service.place, &first, Fault::new("max_fails of a single real server", holds, advice));
    }
}

fn check_methods(service: &ServiceDocument, reals: &[Real], first: &Span, findings: &mut Findings<'_>) {
    let judged = |method: Method| {
        let of_method = reals.iter().filter(move |real| real.method == method);
        of_method.filter(|real| real.passive.max_fails > 0).count()
    };
    let (dr, tun) = (judged(Method::Dr), judged(Method::Tun));
    let dr_holds =
        "neither answers nor errors of dr real servers pass the director: nothing could be counted";
    if let Some((real, at)) =
        service.reals.iter().zip(reals).find_map(|(document, real)| dr_itself(document, real))
    {
        let fault = Fault::new("max_fails of a dr real server", dr_holds, "use check");
        findings.error(&real.place, &at, fault);
    } else if dr > 0 && dr + judged(Method::Nat) + tun == dr {
        let fault = Fault::new("max_fails of dr real servers", dr_holds, "use check, or forward = \"nat\"");
        findings.error(&service.place, first, fault);
    } else if dr > 0 {
        let fault = Fault::new("max_fails for dr real servers, too", dr_holds, "add check for those");
        findings.warn(&service.place, first, fault);
    }
    if tun > 0 {
        let holds = "answers of tun real servers do not pass the director: only ICMP errors about the tunnel count, of IPv4 in IPv4";
        findings.warn(&service.place, first, Fault::new("max_fails of tun real servers", holds, "add check"));
    }
}

/// A dr real server that says `max_fails` itself.
fn dr_itself<'d>(document: &'d RealDocument, real: &Real) -> Option<(&'d RealDocument, Span)> {
    let own = said(&document.passive).filter(|_| real.method == Method::Dr)?;
    Some((document, own.at.clone()))
}

/// `max_fails`, where it is above 0.
fn said(passive: &PassiveDocument) -> Option<&At<u16>> {
    passive.max_fails.as_ref().filter(|max_fails| max_fails.value > 0)
}
