//! Health checks of real servers.
//!
//! [`judge`] says whether one real server is up, [`machine`] which check is due, [`check`] asks a real server, and
//! [`driver`] is the thread that lets them work together. The first two do no I/O and know no clock.

pub mod check;
pub mod driver;
pub mod judge;
pub mod machine;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use shunt_dataplane::id::Protocol;

pub use check::Failure;
pub use driver::Health;
pub use machine::{Change, Listed};

/// Checks that run at once; those due beyond it wait.
pub const CHECKS_RUNNING_MAX: usize = 256;
/// New checks start at least so far apart, unless their interval is too short for it.
pub const CHECKS_SPACING: Duration = Duration::from_millis(10);

/// A real server of a service, as health knows it: by addresses, so that names may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealKey {
    /// VIP and port of the service.
    pub listen: SocketAddr,
    /// The service's protocol.
    pub protocol: Protocol,
    /// RIP and port.
    pub address: SocketAddr,
}

/// A real server and how it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub key: RealKey,
    /// How.
    pub check: Check,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Whom: the real server's address and the TCP port that answers.
    pub to: SocketAddr,
    /// From the begin of one check to the begin of the next.
    pub interval: Duration,
    /// All that a check may take; longer is a failure.
    pub timeout: Duration,
    /// Failures in a row that take a real server out; 0 counts as 1.
    pub fall: u8,
    /// Successes in a row that bring it back; 0 counts as 1.
    pub rise: u8,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection opens.
    Tcp,
    /// HTTP/1.1 GET.
    Http {
        /// The path, with its query if any.
        path: String,
        /// The Host header.
        host: String,
        /// Status codes that mean success.
        status: Vec<RangeInclusive<u16>>,
    },
}
