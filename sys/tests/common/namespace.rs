//! A network namespace with interfaces of the kernel, in which a test binary runs itself.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

/// Set in the children: what to do.
const ROLE: &str = "DPDK_SYS_TEST_ROLE";

/// A network namespace, deleted with what is in it when dropped.
pub struct Namespace(pub String);

impl Namespace {
    /// A new one, of a name that no other process has.
    pub fn new(name: &str) -> Namespace {
        let namespace = Namespace(format!("sysN-{name}-{}", std::process::id()));
        run("ip", &["netns", "add", &namespace.0]);
        namespace
    }

    /// Not `ip netns exec` and `ip -n`: they remount /sys, and refuse to in a plain chroot.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.0)).arg(program);
        command
    }

    /// Runs ip(8) inside.
    pub fn ip(&self, arguments: &[&str]) {
        let status = self.inside("ip").args(arguments).status();
        assert!(status.as_ref().is_ok_and(|status| status.success()), "ip {arguments:?}: {status:?}");
    }

    /// Two interfaces that are each other's cable, with one queue each.
    pub fn veth(&self, names: [&str; 2]) {
        let end = ["numrxqueues", "1", "numtxqueues", "1"];
        let mut arguments = vec!["link", "add", names[0]];
        arguments.extend(end);
        arguments.extend(["type", "veth", "peer", "name", names[1]]);
        arguments.extend(end);
        self.ip(&arguments);
        for name in names {
            self.ip(&["link", "set", name, "up"]);
        }
    }

    /// The test of this name inside, in the given role.
    pub fn role(&self, test: &str, role: &str) -> Command {
        let mut command = self.inside(env::current_exe().expect("this program"));
        command.args(["--exact", test, "--nocapture"]).env(ROLE, role);
        command
    }

    /// Runs the test of this name inside, in the given role.
    pub fn child(&self, test: &str, role: &str) {
        let output = self.role(test, role).output().expect("nsenter runs");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// Runs a program that must not fail.
pub fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{program} {arguments:?}: {status:?}");
}

/// What this process is to do, if it is a child.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}
