//! Whether others may read a file that has secrets.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use shunt_model::fault::Fault;
use shunt_model::secret::has_secrets;

use super::Machine;

/// What to say of a file with secrets that its group, unless that is root's, or others may read.
pub fn check(path: &Path, text: &str, machine: &Machine) -> Option<Fault> {
    let metadata = std::fs::metadata(path).ok()?;
    let mode = metadata.mode();
    let open = mode & 0o004 != 0 || mode & 0o040 != 0 && metadata.gid() != 0;
    // Where files of this machine are not those of the director, neither are their permissions.
    if !machine.scripts || !open || !has_secrets(text) {
        return None;
    }
    let name = path.display();
    Some(Fault::new(
        format!("{name} has secrets, and others may read it (mode {:o})", mode & 0o7777),
        "a password or a key is for the director and its operators",
        format!("`chmod 600 {name}`"),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::Config;
    use crate::check::Machine;

    #[test]
    fn secrets_that_others_may_read_are_warned_of_and_nowhere_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shunt.toml");
        let text = "[[nic]]\nname = \"front\"\ndevice = \"ring:0\"\naddresses = [\"192.0.2.2/24\"]\n[[service]]\nname = \"web\"\n\
                    listen = \"192.0.2.10:80\"\nprotocol = \"tcp\"\n\
                    check = { kind = \"send\", send = \"LOGIN bob hunter2\", expect = \"OK\" }\nreal = [ { address = \"192.0.2.21:80\" } ]\n";
        let machine = Machine { scripts: true, ..Machine::default() };
        for (mode, warned) in [(0o644, true), (0o604, true), (0o600, false), (0o640, false)] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let checked = Config::load(&path, &machine).unwrap();
            let told = checked.warnings.to_string();
            assert_eq!(told.contains("chmod 600"), warned, "{mode:o}: {told}");
            assert!(!format!("{:?}", checked.config).contains("hunter2"), "Debug tells it");
        }
        // An error on the same line shows the line, and not the secret.
        std::fs::write(&path, text.replace("expect = \"OK\"", "expect = \"OK\", hunter = 3")).unwrap();
        let problems = Config::load(&path, &machine).unwrap_err();
        let json = serde_json::to_string(&problems).unwrap();
        let told = format!("{}{problems:?}{json}", problems.with_excerpts());
        assert!(told.contains("send = \"*****") && !told.contains("hunter2"), "{told}");
        // One about the value itself.
        let wrong = "send = [\"x\"], secret = \"hunter2\"";
        std::fs::write(&path, text.replace("send = \"LOGIN bob hunter2\"", wrong)).unwrap();
        let told = Config::load(&path, &machine).unwrap_err().with_excerpts();
        assert!(told.contains("secret = ") && !told.contains("hunter2"), "{told}");
        // Without secrets everybody may read it.
        std::fs::write(&path, text.replace("LOGIN bob hunter2", "PING")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Config::load(&path, &machine).unwrap().warnings.to_string(), "");
    }
}
