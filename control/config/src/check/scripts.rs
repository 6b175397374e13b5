//! What the director is to start, looked at on the machine that it runs on: who may write it, whether it is there, and whose it is to be.

use std::collections::HashSet;

use shunt_model::fault::Fault;
use shunt_model::script::Objection;

use super::Host;
use crate::problem::Findings;

/// Reports each script once, at its first place.
pub fn check(findings: &mut Findings<'_>, host: &dyn Host) {
    let mut seen = HashSet::new();
    for (place, at, script) in findings.scripts() {
        if !seen.insert(script.clone()) {
            continue;
        }
        if let Some(unknown) = host.unknown_user(script.user.as_deref()) {
            let holds = "a script runs as a user and a group of this machine";
            findings.warn(&place, &at, Fault::new(unknown, holds, "make it, or name another one"));
        }
        if script.command.is_empty() {
            continue;
        }
        for objection in host.objections(&script.command) {
            match objection {
                Objection::Writable(at_fault, who) => {
                    let wrong = format!("{} {who}", at_fault.display());
                    let holds = "nobody but root and the director's user may write a script or a folder on its path, or the director's \
                                 rights are theirs";
                    let advice = format!(
                        "`chown root:root {0}; chmod go-w {0}`, or move the script",
                        at_fault.display()
                    );
                    findings.error(&place, &at, Fault::new(wrong, holds, advice));
                }
                Objection::Unusable(wrong) => {
                    let holds = "a script is a program that is there when it is needed";
                    findings.warn(
                        &place,
                        &at,
                        Fault::new(wrong, holds, "install it, or correct the command"),
                    );
                }
            }
        }
    }
}
