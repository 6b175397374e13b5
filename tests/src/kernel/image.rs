//! What guests start from: a kernel, an initramfs, and the saved state of a guest that has started.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::guest::{Guest, Start};
use super::{Failed, repository};

/// How long the kernel may take to start.
const BOOT: Duration = Duration::from_secs(120);

/// What guests start from.
#[derive(Clone, Debug)]
pub struct Image {
    folder: PathBuf,
    /// Of the names of the saved state's files.
    suffix: &'static str,
    /// What the guest did before its state was saved.
    first: Option<String>,
}

impl Image {
    /// Makes what is not in `folder` yet, or is older than what it is made of: `scripts/kernel-guest.sh`, which installs
    /// what is missing, and a first start.
    ///
    /// # Errors
    /// When the script or the start fails.
    pub fn prepare(folder: &Path) -> Result<Self, Failed> {
        let script = repository().join("scripts/kernel-guest.sh");
        let ended = Command::new(&script).arg(folder).status().map_err(Failed::because(script.display()))?;
        if !ended.success() {
            return Err(Failed(format!("{} {}: {ended}", script.display(), folder.display())));
        }
        let folder = folder.canonicalize().map_err(Failed::because(folder.display()))?;
        Self { folder, suffix: "", first: None }.saved()
    }

    /// The same kernel, whose saved state is that of a guest which has done this command line. Its files have names that end so.
    ///
    /// # Errors
    /// When the start or the command fails.
    pub fn after(&self, suffix: &'static str, command: String) -> Result<Self, Failed> {
        Self { folder: self.folder.clone(), suffix, first: Some(command) }.saved()
    }

    fn saved(self) -> Result<Self, Failed> {
        if !self.state_is_current() {
            self.save_state()?;
        }
        Ok(self)
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// What the kernel starts.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.gz")
    }

    /// The saved state.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join(format!("state{}", self.suffix))
    }

    /// It was saved after the initramfs was made, by a guest with the same devices.
    fn state_is_current(&self) -> bool {
        let modified = |path: PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let newer = modified(self.state()).zip(modified(self.initramfs())).is_some_and(|(a, b)| a > b);
        newer && fs::read_to_string(self.devices()).is_ok_and(|made_of| made_of == self.made_of())
    }

    /// What the saved state depends on beside the initramfs.
    fn made_of(&self) -> String {
        [&Guest::devices(), self.first.as_deref().unwrap_or_default()].concat()
    }

    fn devices(&self) -> PathBuf {
        self.folder.join(format!("devices{}", self.suffix))
    }

    /// The state that is being saved.
    pub(super) fn new_state(&self) -> PathBuf {
        self.folder.join(format!("state{}.new", self.suffix))
    }

    /// Starts a guest and saves its state when it is ready.
    fn save_state(&self) -> Result<(), Failed> {
        let mut guest = Guest::start(self, Start::Boot)?;
        guest.answer(b"ready\n", BOOT)?;
        if let Some(command) = &self.first {
            let (said, status) = guest.command(command)?;
            if status != 0 {
                return Err(Failed(format!("{command:?} in the guest: {said:?} (exit status {status})")));
            }
        }
        let new = self.new_state();
        let why = || format!("saving {}", new.display());
        let mut monitor = UnixStream::connect(guest.monitor()).map_err(Failed::because(why()))?;
        monitor.set_read_timeout(Some(Duration::from_secs(1))).map_err(Failed::because(why()))?;
        // Not detached: the next question is answered when it is done.
        let save = b"migrate \"exec:cat >$GUEST_STATE\"\ninfo status\n";
        monitor.write_all(save).map_err(Failed::because(why()))?;
        let (mut said, deadline) = (Vec::new(), Instant::now() + BOOT);
        while !said.windows(11).any(|words| words == b"postmigrate") {
            if Instant::now() > deadline {
                return Err(Failed(format!("{}: {}", why(), String::from_utf8_lossy(&said))));
            }
            let mut bytes = [0; 4096];
            // A timeout is asked again.
            let length = monitor.read(&mut bytes).unwrap_or_default();
            said.extend(&bytes[..length]);
            monitor.write_all(b"info status\n").map_err(Failed::because(why()))?;
        }
        drop(guest);
        fs::rename(&new, self.state()).map_err(Failed::because(why()))?;
        fs::write(self.devices(), self.made_of()).map_err(Failed::because(why()))
    }
}
