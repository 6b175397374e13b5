//! A shell on the director's machine, where this program is called `ipvsadm`.

use std::path::PathBuf;

use super::{Lab, Said, binary};

/// A shell whose PATH begins with a folder in which this program is `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`.
#[derive(Debug)]
pub struct Shell<'a> {
    lab: &'a Lab,
    folder: PathBuf,
}

impl<'a> Shell<'a> {
    /// In front of the lab's director.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn of(lab: &'a Lab) -> Self {
        let folder = lab.path("sbin");
        if !folder.exists() {
            std::fs::create_dir(&folder).expect("a folder");
            for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
                std::os::unix::fs::symlink(binary::shunt(), folder.join(name)).expect("a link");
            }
        }
        Self { lab, folder }
    }

    /// Runs `sh` with these arguments.
    #[must_use]
    pub fn sh(&self, words: &[&str]) -> Said {
        let path = format!("PATH={}:{}", self.folder.display(), std::env::var("PATH").unwrap_or_default());
        let socket = format!("SHUNT_SOCKET={}", self.lab.socket().display());
        self.lab.run("/usr/bin/env", &[&[path.as_str(), &socket, "sh"], words].concat())
    }
}
