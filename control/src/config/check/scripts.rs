//! What the director is to start, looked at on the machine that it runs on: who may write it, whether it is there, and whose it is to be.

use std::collections::HashSet;

use shunt_model::fault::Fault;

use crate::config::problem::Findings;
use crate::starter::environment::{Identity, path};
use crate::starter::secure::{Objection, objections};

/// Reports each script once, at its first place.
pub fn check(findings: &mut Findings<'_>) {
    let mut seen = HashSet::new();
    let path = path();
    for (place, at, script) in findings.scripts() {
        if !seen.insert(script.clone()) {
            continue;
        }
        if let Err(unknown) = Identity::of(script.user.as_deref()) {
            let holds = "a script runs as a user and a group of this machine";
            findings.warn(&place, &at, Fault::new(unknown.why, holds, "make it, or name another one"));
        }
        if script.command.is_empty() {
            continue;
        }
        for objection in objections(&script.command, &path) {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::config::Config;
    use crate::config::check::Machine;

    /// What `shunt check` says of a service whose scripts are these.
    fn told(check: &str, notify: &str) -> String {
        let text = format!(
            "[[nic]]\nname = \"front\"\ndevice = \"ring:0\"\naddresses = [\"192.0.2.2/24\"]\n[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\n\
             protocol = \"tcp\"\nnotify_up = {notify}\ncheck = {{ kind = \"script\", {check} }}\nreal = [ {{ address = \"192.0.2.21:80\" }} ]\n"
        );
        let machine = Machine { scripts: true, ..Machine::default() };
        let problems = match Config::check_on("a.toml", &text, &machine) {
            Ok(checked) => checked.warnings,
            Err(problems) => problems,
        };
        problems.list.iter().map(|problem| problems.line(problem) + "\n").collect()
    }

    #[test]
    fn scripts_of_all_places_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let set_mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode(folder.path(), 0o755);
        let script = folder.path().join("check");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        set_mode(&script, 0o755);
        let check = format!("command = [\"{}\"]", script.display());
        assert_eq!(told(&check, "[\"/bin/true\"]"), "");
        set_mode(folder.path(), 0o777);
        let open = told(&check, "[\"/bin/true\"]");
        let wrong = format!("{} may be written by everybody (mode 777)", folder.path().display());
        assert!(
            open.contains(&wrong) && !open.contains("warning: service") && open.contains("chmod go-w"),
            "{open}"
        );
        // Likewise of an event, by a line for the shell, once for both.
        let both = told(&check, &format!("\"{} up\"", script.display()));
        assert_eq!(both.matches(&wrong).count(), 2, "{both}");
        set_mode(folder.path(), 0o755);
        set_mode(&script, 0o644);
        let dead = told(&check, "{ command = [\"/no/such\"], user = \"no_such\" }");
        for wanted in [
            "check: it is not executable",
            "warning: service \"web\", notify_up: there is no user no_such",
            "/no/such: it is not there",
        ] {
            assert!(dead.contains(wanted), "{wanted}: {dead}");
        }
        assert_eq!(dead.matches(": warning: ").count(), 3, "{dead}");
        assert!(
            told("command = [\"/bin/true\"], user = \"nobody no_such\"", "[\"/bin/true\"]")
                .contains("there is no group no_such")
        );
    }
}
