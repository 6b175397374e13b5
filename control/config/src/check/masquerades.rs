//! Masquerade: families agree, and the address is one that answers come back to.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_dataplane::id::NicId;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::masquerade::MasqueradeRule;
use shunt_model::fault::{At, Fault};

use super::marks::nic_named;
use crate::document::{Document, MasqueradeDocument};
use crate::problem::Findings;

/// Checks `[[masquerade]]`; none when one of them lacks something.
pub fn check(document: &Document, findings: &mut Findings<'_>) -> Option<Vec<MasqueradeRule>> {
    // Each is checked, whatever is wrong with those before.
    let rules: Vec<_> = document.masquerades.iter().map(|rule| build(rule, document, findings)).collect();
    rules.into_iter().collect()
}

fn build(
    rule: &MasqueradeDocument,
    document: &Document,
    findings: &mut Findings<'_>,
) -> Option<MasqueradeRule> {
    let nic = match &rule.nic {
        None => None,
        Some(wanted) => Some(nic_named(&rule.place, wanted, document, findings)?),
    };
    let from = rule.from.as_ref()?;
    let is_v4 = from.value.addr().is_ipv4();
    for net in [&rule.to, &rule.except].into_iter().flatten() {
        family(rule, is_v4, &At::new(net.value.addr(), net.at.clone()), findings);
    }
    match &rule.address {
        Some(address) => {
            if family(rule, is_v4, address, findings) {
                owned(rule, address, document, findings);
            }
        }
        None => named(rule, from, nic, document, findings),
    }
    let value = |net: &Option<At<IpNet>>| net.as_ref().map(|net| net.value);
    Some(MasqueradeRule {
        from: from.value,
        to: value(&rule.to),
        except: value(&rule.except),
        nic,
        address: rule.address.as_ref().map(|address| address.value),
    })
}

/// One family for all addresses of a rule.
fn family(rule: &MasqueradeDocument, is_v4: bool, address: &At<IpAddr>, findings: &mut Findings<'_>) -> bool {
    let agrees = address.value.is_ipv4() == is_v4;
    if !agrees {
        let holds = format!("from is {}", if is_v4 { "IPv4" } else { "IPv6" });
        let fault = Fault::new("an address of another family", holds, "name one of the same family");
        findings.error(&rule.place, &address.at, fault);
    }
    agrees
}

/// An own address or a VIP, with ports to spare.
fn owned(rule: &MasqueradeDocument, address: &At<IpAddr>, document: &Document, findings: &mut Findings<'_>) {
    let mut own = document.nics.iter().flat_map(|nic| &nic.addresses).map(|net| net.value.addr());
    if own.any(|own| own == address.value) {
        return;
    }
    let listens = document.services.iter().filter_map(|service| service.listen.as_ref());
    let listens = listens.map(|listen| listen.value).filter(|listen| Mark::of(*listen).is_none());
    let ports: Vec<u16> = listens.filter(|to| to.ip() == address.value).map(|to| to.port()).collect();
    if ports.is_empty() {
        let holds = "answers come back to an own address of a NIC or to a VIP";
        let fault = Fault::new("not an address of the director", holds, "name one, or add it to a [[nic]]");
        findings.error(&rule.place, &address.at, fault);
    } else if ports.contains(&0) {
        let holds = "a service of all ports of this VIP leaves none for answers";
        let fault = Fault::new("an address without free ports", holds, "name another address");
        findings.error(&rule.place, &address.at, fault);
    }
}

/// Without an address, that of the NIC that packets go out by.
fn named(
    rule: &MasqueradeDocument,
    from: &At<IpNet>,
    nic: Option<NicId>,
    document: &Document,
    findings: &mut Findings<'_>,
) {
    let is_v4 = from.value.addr().is_ipv4();
    let has = |nic: &crate::document::NicDocument| {
        nic.addresses.iter().any(|net| net.value.addr().is_ipv4() == is_v4)
    };
    let found = match nic {
        Some(nic) => document.nics.get(nic.index()).is_some_and(has),
        None => document.nics.iter().any(has),
    };
    if !found && document.networks_known {
        let holds = "without address it is the first own address of the NIC that packets go out by";
        let wrong = format!("no {} address to leave by", if is_v4 { "IPv4" } else { "IPv6" });
        let fault = Fault::new(wrong, holds, "add address = \"…\", or an own address to the NIC");
        findings.error(&rule.place, &from.at, fault);
    }
}
