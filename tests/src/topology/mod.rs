//! A real director with real interfaces: what the end-to-end tests are made of.
//!
//! Each test lives in a network namespace of its own that has no name: it goes away with the test's thread and the
//! processes started there, however they end. [`director`] runs the binary `shunt` in it, [`wire`] sends and receives
//! exact frames at the other end of its cables, [`hosts`] answers for neighbours there, [`place`] is a further
//! namespace with a kernel that speaks TCP, [`arms`] is the usual lay-out of all that, [`shell`] is where `ipvsadm` is typed,
//! [`keepalived`] and [`checkers`] run keepalived beside it, [`carried`] keeps connections open.

pub mod arms;
pub mod binary;
pub mod carried;
pub mod checkers;
pub mod director;
pub mod frames;
pub mod frozen;
pub mod hosts;
pub mod keepalived;
pub mod place;
pub mod shell;
pub mod threads;
pub mod wire;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// How long an event may take that should come soon. Much longer than needed: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is asked whose coming cannot be waited for.
pub const POLL: Duration = Duration::from_millis(5);

/// Waits until `attempt` gives something.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` and the last `Err` say what was missing.
pub fn wait_for<T, E: std::fmt::Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}: {last}"),
        }
        std::thread::sleep(POLL);
    }
}

/// A network namespace for the calling thread and a folder for its files.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    cores: Vec<u16>,
    /// Where among the cores the first worker goes: tests that run at once choose different ones.
    first: usize,
}

/// What a command said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Lab {
    /// Moves the calling thread into a new namespace. IPv6 is off there: interfaces belong to the director, and the
    /// kernel says nothing on them.
    ///
    /// # Panics
    /// When something is missing on this machine; it says what.
    #[must_use]
    pub fn new() -> Self {
        require();
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        as_after_boot();
        for which in ["all", "default"] {
            set_kernel(&format!("ipv6/conf/{which}/disable_ipv6"), "1");
        }
        let folder = tempfile::Builder::new().prefix("ee").tempdir().expect("a folder");
        let cores = shunt::machine::here().cores.expect("the cores of this machine: /sys has to be mounted");
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let first = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Self { folder, cores, first };
        lab.ip("link set lo up");
        lab
    }

    /// The same namespace with a further folder, for a second director.
    ///
    /// # Panics
    /// When there is no folder to be had.
    #[must_use]
    pub fn beside(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("ee").tempdir().expect("a folder");
        Self { folder, cores: self.cores.clone(), first: self.first + 1 }
    }

    /// Commands of `ip`, one to a line.
    ///
    /// # Panics
    /// When one fails.
    pub fn ip(&self, batch: &str) {
        ip(batch);
    }

    /// A cable between two new interfaces of this namespace, both up, with `queues` queues in each direction.
    pub fn cable(&self, [a, b]: [&str; 2], queues: u8) {
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        self.ip(&format!(
            "link add {a} {queues} type veth peer name {b} {queues}\nlink set {a} up\nlink set {b} up"
        ));
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the test's folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file in the test's folder");
        path
    }

    /// `[runtime]` of the test's director, with `further` lines in it. Unless these say otherwise, it answers from its start on as one
    /// that has run for long.
    ///
    /// # Panics
    /// When the machine has not as many cores as there are to be workers.
    #[must_use]
    pub fn runtime(&self, workers: usize, further: &str) -> String {
        let cores = &self.cores;
        let count = cores.len();
        assert!(count >= workers, "{workers} workers take as many cores, and this machine has {count}");
        let workers: Vec<u16> = (0..workers).map(|number| cores[(self.first + number) % count]).collect();
        let old = if further.contains("reset_after") { "" } else { "reset_after = \"0s\"\nadopt = \"0s\"\n" };
        format!(
            "[runtime]\ncontrol_core = {}\nworkers = {workers:?}\nhugepages = \"never\"\nsocket = \"{}\"\n{old}{further}\n",
            cores[0],
            self.socket().display()
        )
    }

    /// The socket of the test's director.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("shunt.sock")
    }

    /// Runs a program of this namespace to its end.
    ///
    /// # Panics
    /// When it is not there or does not end within [`PATIENCE`].
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Said {
        run(self.folder.path(), program.as_ref(), arguments)
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// Says what is missing on this machine.
fn require() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "end-to-end tests make network namespaces and run DPDK: that takes root: run them as root"
    );
    assert!(
        Path::new("/dev/net/tun").exists(),
        "/dev/net/tun is missing: the kernel-side interface is a TAP: modprobe tun, or mknod /dev/net/tun c 10 200"
    );
    for program in ["ip", "setpriv", "ethtool"] {
        let found =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(found.is_ok(), "the program {program} is missing: run scripts/install.sh");
    }
}

/// Sets a key below `/proc/sys/net` in the namespace of the calling thread.
///
/// # Panics
/// When the kernel does not let it.
pub fn set_kernel(key: &str, value: &str) {
    let file = format!("/proc/sys/net/{key}");
    std::fs::write(&file, value).unwrap_or_else(|error| panic!("{file}: {error}: is /proc/sys read-only?"));
}

/// Makes of the calling thread's new namespace what a kernel has after its boot. In IPv4 it has what was set on this machine, which
/// may be a router (containers) or have a reverse-path filter (kernel: `devconf_inherit_init_net`).
fn as_after_boot() {
    // Sets others, too.
    set_kernel("ipv4/ip_forward", "0");
    for which in ["all", "default"] {
        for key in ["rp_filter", "arp_ignore", "arp_announce", "accept_local", "route_localnet"] {
            set_kernel(&format!("ipv4/conf/{which}/{key}"), "0");
        }
    }
}

/// Commands of `ip`, one to a line, in the namespace of the calling thread.
///
/// # Panics
/// When one fails.
pub fn ip(batch: &str) {
    use std::io::Write;
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    let written = ip.stdin.take().expect("its input").write_all(format!("{batch}\n").as_bytes());
    let status = ip.wait().expect("ip ends");
    assert!(written.is_ok() && status.success(), "ip: {status}:\n{batch}");
}

fn run(folder: &Path, program: &Path, arguments: &[&str]) -> Said {
    let capture = || tempfile::NamedTempFile::new_in(folder).expect("a file in the test's folder");
    let (out, err) = (capture(), capture());
    let to = |file: &tempfile::NamedTempFile| Stdio::from(File::create(file.path()).expect("a file"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(to(&out))
        .stderr(to(&err))
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path()).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("its end") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{} {arguments:?}: no end within {PATIENCE:?}: {}", program.display(), text(&err));
        }
        std::thread::sleep(POLL);
    };
    assert!(!status.core_dumped(), "{} {arguments:?}: {status}", program.display());
    Said { code: status.code(), out: text(&out), err: text(&err) }
}
