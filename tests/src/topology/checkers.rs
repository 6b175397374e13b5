//! keepalived's checkers beside the director's checks: the real program, with `ipvs.c` in the place of the kernel's IPVS.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lab;
use super::place::Place;

/// A keepalived that checks real servers. It is killed when dropped.
#[derive(Debug)]
pub struct Checkers {
    child: Child,
    log: PathBuf,
    checker: PathBuf,
    notes: PathBuf,
}

impl Checkers {
    /// Starts one in a place, with the whole of its configuration.
    ///
    /// # Panics
    /// When it cannot be started, or `ipvs.c` not be compiled.
    #[must_use]
    pub fn start(lab: &Lab, place: &Place, configuration: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/topology/ipvs.c");
        let [library, log, main, checker, notes] =
            ["ipvs.so", "checkers.log", "checkers.pid", "checker.pid", "ipvs.notes"]
                .map(|name| lab.path(name));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let compiled =
            Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.is_ok_and(|status| status.success()), "ipvs.c: run scripts/install.sh");
        let output = File::create(&log).expect("a log");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "keepalived", "--check", "-n", "-l", "-D", "-G", "-f"])
            .arg(configuration)
            .arg("-p")
            .arg(main)
            .arg("-c")
            .arg(&checker)
            .env("LD_PRELOAD", library)
            .env("SHUNT_IPVS_NOTES", &notes)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output);
        let child = place.run(move || command.spawn().expect("keepalived: run scripts/install.sh"));
        Self { child, log, checker, notes }
    }

    /// The weight that the real server of a service has, which has one alone; none while it is taken out.
    ///
    /// # Panics
    /// When the notes are none.
    #[must_use]
    pub fn weight(&self, listen: &str) -> Option<u32> {
        let notes = std::fs::read_to_string(&self.notes).unwrap_or_default();
        let mut lines = notes.lines().filter_map(|line| line.split_once(' '));
        let (_, weight) = lines.rfind(|(service, _)| *service == listen)?;
        (weight != "-").then(|| weight.parse().expect("a weight"))
    }

    /// Its log up to now.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Checkers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- keepalived's log:\n{}", self.log());
        }
        // The first process would start the one that checks anew.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGSTOP);
        let checker = std::fs::read_to_string(&self.checker).ok().and_then(|text| text.trim().parse().ok());
        if let Some(checker) = checker {
            let _ = kill(Pid::from_raw(checker), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
