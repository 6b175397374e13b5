//! The schedulers, one file each; every one chooses what the Linux kernel would choose for the same history.

use std::fmt;

/// Which scheduler a service uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connection.
    Lc,
    /// Weighted least connection.
    Wlc,
    /// Source hashing.
    Sh,
}

impl Scheduler {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Rr, Self::Wrr, Self::Lc, Self::Wlc, Self::Sh];

    /// Its word in the configuration and in `ipvsadm -s`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a scheduler computes when a service is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing.
    #[default]
    None,
}

impl Lookup {
    /// Computes what `scheduler` needs over `candidates`.
    #[must_use]
    pub fn compile(_scheduler: Scheduler, _candidates: &[super::Candidate]) -> Self {
        Self::None
    }
}
