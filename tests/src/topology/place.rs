//! A further network namespace, with a kernel that has addresses and speaks TCP.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

use super::{Lab, as_after_boot, set_kernel};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace and the thread that is in it. It goes away when dropped.
#[derive(Debug)]
pub struct Place {
    thread: Pid,
    jobs: Option<Sender<Job>>,
    handle: Option<JoinHandle<()>>,
}

impl Place {
    /// A new namespace.
    ///
    /// # Panics
    /// When there is none to be had.
    #[must_use]
    pub fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (tell, told) = channel();
        let work = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            as_after_boot();
            for which in ["all", "default"] {
                set_kernel(&format!("ipv6/conf/{which}/accept_dad"), "0");
            }
            tell.send(gettid()).expect("somebody waits");
            inbox.into_iter().for_each(|job| job());
        };
        let handle = std::thread::Builder::new().name("place".into()).spawn(work).expect("a thread");
        let thread = told.recv().expect("the namespace");
        Self { thread, jobs: Some(jobs), handle: Some(handle) }
    }

    /// Who stands for this namespace, as `ip link set IFACE netns` takes it.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.thread
    }

    /// A cable from the test's namespace into this one, both ends up; frames leave here complete, as from a wire.
    pub fn cable(&self, lab: &Lab, [there, here]: [&str; 2]) {
        lab.ip(&format!(
            "link add {there} type veth peer name {here} netns {}\nlink set {there} up",
            self.thread
        ));
        self.ip(&format!("link set lo up\nlink set {here} up"));
        self.ethtool(&["-K", here, "tx", "off", "tso", "off", "gso", "off", "gro", "off"]);
    }

    /// A cable from this place, whose end is `here`, to another one, where its end is `there`; both ends are up, and frames leave them
    /// complete.
    pub fn cable_to(&self, other: &Self, here: &str, there: &str) {
        other.ip(&format!(
            "link add {there} type veth peer name {here} netns {}\nlink set {there} up",
            self.thread
        ));
        self.ip(&format!("link set lo up\nlink set {here} up"));
        self.ethtool(&["-K", here, "tx", "off"]);
        other.ethtool(&["-K", there, "tx", "off"]);
    }

    /// Commands of `ip`, one to a line, in this namespace.
    pub fn ip(&self, batch: &str) {
        let batch = batch.to_owned();
        self.run(move || super::ip(&batch));
    }

    /// Runs `ethtool` in this namespace.
    pub fn ethtool(&self, arguments: &[&str]) {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        self.run(move || {
            let said = std::process::Command::new("ethtool").args(&arguments).output().expect("ethtool");
            assert!(
                said.status.success(),
                "ethtool {arguments:?}: {}",
                String::from_utf8_lossy(&said.stderr)
            );
        });
    }

    /// Does some work in this namespace and waits for it. Sockets and threads made by it stay there.
    ///
    /// # Panics
    /// When the work panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job: Job = Box::new(move || drop(tell.send(work())));
        self.jobs.as_ref().expect("until dropped").send(job).expect("the place is there");
        told.recv().expect("work in a place that did not panic")
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}
