//! When what workers see pass by of a real server takes it out: `max_fails` and `fail_timeout`, with nginx's meaning.

use std::time::Duration;

/// When failures take a real server out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// So many failures (nginx: `max_fails`), at least 1.
    pub max_fails: u16,
    /// Within so long; for so long it is out then (nginx: `fail_timeout`).
    pub fail_timeout: Duration,
}
