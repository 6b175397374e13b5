//! Firewall marks: the rules that give them, and the services that listen at them.

use std::collections::HashSet;

use shunt_dataplane::id::NicId;
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_model::fault::{At, Fault};

use crate::document::{Document, MarkDocument, NicDocument};
use crate::problem::Findings;

/// Checks `[[mark]]`; none when one of them lacks something.
pub fn check(document: &Document, findings: &mut Findings<'_>) -> Option<Vec<MarkRule>> {
    let listens = document.services.iter().filter_map(|service| Mark::of(service.listen.as_ref()?.value));
    let listens: HashSet<Mark> = listens.collect();
    let mut rules = Some(Vec::new());
    for rule in &document.marks {
        if let Some(mark) = rule.mark.as_ref().filter(|mark| !listens.contains(&mark.value)) {
            let holds = "packets of a mark without a service are taken as if they had none";
            let advice = format!("add a [[service]] with listen = {{ fwmark = {} }}", mark.value);
            findings.warn(
                &rule.place,
                &mark.at,
                Fault::new("a mark that no service listens at", holds, advice),
            );
        }
        let built = build(rule, document, findings);
        rules = rules.and_then(|mut rules: Vec<MarkRule>| {
            rules.extend(built?);
            Some(rules)
        });
    }
    let given: HashSet<Mark> =
        document.marks.iter().filter_map(|rule| Some(rule.mark.as_ref()?.value)).collect();
    for service in &document.services {
        let Some(listen) = &service.listen else { continue };
        if let Some(mark) = Mark::of(listen.value).filter(|mark| !given.contains(mark)) {
            let advice = format!("add a [[mark]] with mark = {mark}");
            let fault = Fault::new("a mark that nothing gets", "no [[mark]] gives it", advice);
            findings.warn(&service.place, &listen.at, fault);
        }
    }
    rules
}

fn build(rule: &MarkDocument, document: &Document, findings: &mut Findings<'_>) -> Option<Vec<MarkRule>> {
    if let (Some(to), Some(from)) = (&rule.to, &rule.from) {
        if to.value.addr().is_ipv4() != from.value.addr().is_ipv4() {
            let holds = format!("to is {}", to.value);
            let fault =
                Fault::new("sources of another address family", holds, "name a network of the same family");
            findings.error(&rule.place, &from.at, fault);
        }
    }
    let nic = match &rule.nic {
        None => None,
        Some(wanted) => Some(nic_named(&rule.place, wanted, document, findings)?),
    };
    let built = MarkRule {
        mark: rule.mark.as_ref()?.value,
        to: rule.to.as_ref().map(|to| to.value),
        from: rule.from.as_ref().map(|from| from.value),
        protocol: rule.protocol.as_ref().map(|protocol| protocol.value),
        ports: 0..=u16::MAX,
        nic,
    };
    if rule.ports.is_empty() {
        return Some(vec![built]);
    }
    Some(rule.ports.iter().map(|ports| MarkRule { ports: ports.clone(), ..built.clone() }).collect())
}

/// The NIC of a name, or of its interface.
pub(super) fn nic_named(
    place: &str,
    wanted: &At<String>,
    document: &Document,
    findings: &mut Findings<'_>,
) -> Option<NicId> {
    let named = |nic: &NicDocument| {
        let name = nic.name.as_ref().is_some_and(|name| name.value == wanted.value);
        let interface = nic.device.as_ref().and_then(|device| device.value.interface());
        name || interface == Some(wanted.value.as_str())
    };
    let Some(number) = document.nics.iter().position(named) else {
        let names = document.nics.iter().filter_map(|nic| Some(nic.name.as_ref()?.value.as_str()));
        let holds = format!("the NICs are {}", names.collect::<Vec<_>>().join(", "));
        findings.error(place, &wanted.at, Fault::new("no such NIC", holds, "name one of these"));
        return None;
    };
    Some(NicId(number as u8))
}
