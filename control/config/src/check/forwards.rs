//! Rules of forwarding: NICs exist, and both ends are of one family.

use shunt_dataplane::address::Family;
use shunt_dataplane::forwarding::{End, ForwardRule};
use shunt_model::fault::{At, Fault};

use super::marks::nic_named;
use crate::document::{Document, EndDocument, ForwardDocument};
use crate::problem::Findings;

/// Checks `[[forward]]`; none when one of them lacks something.
pub fn check(document: &Document, findings: &mut Findings<'_>) -> Option<Vec<ForwardRule>> {
    // Each is checked, whatever is wrong with those before.
    let rules: Vec<_> = document.forwards.iter().map(|rule| build(rule, document, findings)).collect();
    rules.into_iter().collect()
}

fn build(rule: &ForwardDocument, document: &Document, findings: &mut Findings<'_>) -> Option<ForwardRule> {
    let from = end(rule, &rule.from, document, findings);
    let to = end(rule, &rule.to, document, findings);
    let (from, to) = (from?, to?);
    if let (End::Network(first), End::Network(second), Some(written)) = (from, to, &rule.to) {
        if Family::of(first.addr()) != Family::of(second.addr()) {
            let holds = format!("from is {first}");
            let fault =
                Fault::new("a network of another family", holds, "name one of the same family as from");
            findings.error(&rule.place, &written.at, fault);
        }
    }
    if rule.from.is_none() && rule.to.is_none() {
        return None;
    }
    Some(ForwardRule { from, to, both: rule.both.as_ref().is_some_and(|both| both.value) })
}

fn end(
    rule: &ForwardDocument,
    written: &Option<At<EndDocument>>,
    document: &Document,
    findings: &mut Findings<'_>,
) -> Option<End> {
    let Some(At { value, at }) = written else { return Some(End::Any) };
    match value {
        EndDocument::Network(net) => Some(End::Network(*net)),
        EndDocument::Nic(name) => {
            nic_named(&rule.place, &At::new(name.clone(), at.clone()), document, findings).map(End::Nic)
        }
    }
}
