//! The real kernel's IPVS, in a guest of qemu: plays scenarios, so that they can be recorded and compared.
//!
//! The guest's NICs are sockets of qemu: no interface of this machine is involved, and root is not needed. Its clock counts
//! instructions and jumps to the next timer when there are none to run, so that a busy machine does not make
//! the kernel late, and a pause of five minutes passes in a moment. Every play starts from the same saved state of a
//! guest that has just started.

pub(crate) mod guest;
mod image;
mod play;

use std::fmt;
use std::path::{Path, PathBuf};

pub use image::Image;
pub use play::{Setup, play, play_in};

/// Why the kernel could not be asked.
#[derive(Debug)]
pub struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Failed {}

impl Failed {
    /// What was tried, and why it failed.
    pub(crate) fn because(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }
}

/// Where the guest is kept between runs when nothing else is said.
#[must_use]
pub fn folder() -> PathBuf {
    repository().join("target/kernel-guest")
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
