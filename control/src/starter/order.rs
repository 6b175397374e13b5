//! What director and starter say to each other: a line of JSON for each order and each report.

use serde::{Deserialize, Serialize};

use super::End;

/// What the director says.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Order {
    /// Start a program.
    Start {
        /// What it is known by from now on.
        number: u64,
        /// Where it is, or its name, and its arguments.
        command: Vec<String>,
        /// Its environment.
        environment: Vec<(String, String)>,
        /// User and group.
        user: Option<(u32, u32)>,
    },
    /// Kill it, its group, and what descends from it.
    Kill {
        /// Which.
        number: u64,
    },
    /// Start no more on these cores.
    Avoid {
        /// The workers'.
        cores: Vec<u16>,
    },
}

/// What the starter says.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Report {
    /// A process runs.
    Started {
        /// Which.
        number: u64,
    },
    /// It ended, or could not be started.
    Ended {
        /// Which.
        number: u64,
        /// How.
        end: End,
    },
}
