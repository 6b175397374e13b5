//! keepalived beside the director: in a place of its own, with a configuration of one virtual router.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::place::Place;
use super::{Lab, wait_for};

/// A keepalived that runs. It is killed when dropped.
#[derive(Debug)]
pub struct Keepalived {
    child: Child,
    name: String,
    file: PathBuf,
    log: PathBuf,
    speaker: PathBuf,
}

impl Keepalived {
    /// Starts one in a place, with the inside of its `vrrp_instance`. `name` is its own among those of the lab.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(lab: &Lab, place: &Place, name: &str, instance: &str) -> Self {
        Self::start_all(lab, place, name, &format!("vrrp_instance VI_1 {{\n{instance}\n}}\n"))
    }

    /// The same with all of its instances and groups.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_all(lab: &Lab, place: &Place, name: &str, instances: &str) -> Self {
        Self::spawned(lab, name, instances, |mut command| place.run(move || command.spawn()))
    }

    /// The same in the test's own namespace.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_here(lab: &Lab, name: &str, instances: &str) -> Self {
        Self::spawned(lab, name, instances, |mut command| command.spawn())
    }

    fn spawned(
        lab: &Lab,
        name: &str,
        instances: &str,
        spawn: impl FnOnce(Command) -> std::io::Result<Child>,
    ) -> Self {
        let file = lab.write(&format!("{name}.conf"), &with_globals(name, instances));
        let [log, main, speaker] = ["log", "pid", "vrrp"].map(|end| lab.path(&format!("{name}.{end}")));
        let output = File::create(&log).expect("a log");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "keepalived", "--vrrp", "-n", "-l", "-D", "-f"])
            .arg(&file)
            .arg("-p")
            .arg(main)
            .arg("-r")
            .arg(&speaker)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output);
        let child = spawn(command).expect("keepalived: run scripts/install.sh");
        let keepalived = Self { child, name: name.to_owned(), file, log, speaker };
        keepalived.wait_for("Entering BACKUP STATE");
        keepalived
    }

    /// Waits until its log says something.
    pub fn wait_for(&self, words: &str) {
        wait_for(&format!("keepalived says {words}"), || match self.log() {
            log if log.contains(words) => Ok(()),
            log => Err(log),
        });
    }

    /// Its log up to now.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The state that an instance entered last, as the log has it; empty before it entered one.
    #[must_use]
    pub fn state(&self, instance: &str) -> String {
        let log = self.log();
        let words = format!("({instance}) Entering ");
        let last = log.lines().rev().find_map(|line| line.split_once(&words));
        last.and_then(|(_, state)| state.split_whitespace().next()).unwrap_or_default().to_owned()
    }

    /// Its configuration.
    #[must_use]
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// Gives it other instances and groups.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn reload(&self, instances: &str) {
        std::fs::write(&self.file, with_globals(&self.name, instances)).expect("its file");
        self.signal(Signal::SIGHUP);
    }

    /// Ends it as an operator does: it gives its VIPs up.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        wait_for("keepalived's end", || self.child.try_wait().expect("its end").ok_or("it runs"));
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        // The first process would start the one that speaks VRRP anew.
        self.signal(Signal::SIGSTOP);
        let speaker = std::fs::read_to_string(&self.speaker).ok().and_then(|text| text.trim().parse().ok());
        if let Some(speaker) = speaker {
            let _ = kill(Pid::from_raw(speaker), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends its first process a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }
}

/// A whole file, with what it needs beside instances and groups.
#[must_use]
pub fn with_globals(name: &str, instances: &str) -> String {
    format!("global_defs {{\n router_id {name}\n script_user root\n}}\n{instances}")
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- keepalived's log:\n{}", self.log());
        }
        self.kill();
    }
}
