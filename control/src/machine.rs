//! The machine that the director runs on, as a configuration and an import ask about it.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use shunt_config::check::{Host, Machine};
use shunt_config::import::Files;
use shunt_config::import::files::{FILE_MAX, text};
use shunt_config::import::interfaces::routers;
use shunt_model::script::Objection;

use crate::links::interfaces;
use crate::starter::environment::{Identity, path};
use crate::starter::secure;

/// This machine.
#[must_use]
pub fn here() -> Machine {
    Machine::of(&Disk, interfaces::here().ok())
}

/// The file system, and the databases of names beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let length = std::fs::metadata(path)?.len();
        if length > FILE_MAX {
            return Err(io::Error::other(format!("{length} bytes: at most {FILE_MAX} are imported")));
        }
        Ok(text(std::fs::read(path)?))
    }

    fn matching(&self, pattern: &str, braces: bool) -> Vec<PathBuf> {
        dpdk_sys::glob::glob(pattern.as_ref(), braces).unwrap_or_default()
    }

    fn is_plain(&self, path: &Path) -> bool {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 == 0)
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut found = dns_lookup::lookup_host(name).map(Iterator::collect).unwrap_or_else(|_| Vec::new());
        found.sort_unstable();
        found.dedup();
        found
    }

    fn has_user(&self, name: &str) -> bool {
        !matches!(nix::unistd::User::from_name(name), Ok(None))
    }

    fn is_program(&self, path: &Path) -> bool {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    }

    fn interfaces(&self) -> Vec<(String, IpNet)> {
        addresses()
    }

    fn routers(&self) -> Vec<(String, IpAddr)> {
        routers()
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
        all.filter_map(|one| ip(one.address?)).any(|own| own == address)
    }
}

impl Host for Disk {
    fn unknown_user(&self, user: Option<&str>) -> Option<String> {
        Identity::of(user).err().map(|unknown| unknown.why)
    }

    fn objections(&self, command: &[String]) -> Vec<Objection> {
        secure::objections(command, &path())
    }
}

/// The interfaces of this machine, each with one of its addresses but for link-local ones.
fn addresses() -> Vec<(String, IpNet)> {
    let link_local = |network: &IpNet| matches!(network, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|one| {
        let (address, mask) = (ip(one.address?)?, ip(one.netmask?)?);
        Some((one.interface_name, IpNet::with_netmask(address, mask).ok()?))
    });
    all.filter(|(_, network)| !link_local(network)).collect()
}

fn ip(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use shunt_config::Config;
    use shunt_config::check::Machine;

    /// What `shunt check` says of a service whose scripts are these.
    fn told(check: &str, notify: &str) -> String {
        let text = format!(
            "[[nic]]\nname = \"front\"\ndevice = \"ring:0\"\naddresses = [\"192.0.2.2/24\"]\n[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\n\
             protocol = \"tcp\"\nnotify_up = {notify}\ncheck = {{ kind = \"script\", {check} }}\nreal = [ {{ address = \"192.0.2.21:80\" }} ]\n"
        );
        let machine = Machine { host: Some(&super::Disk), scripts: true, ..Machine::default() };
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
