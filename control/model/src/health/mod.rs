//! What is asked of real servers, what comes of it, and what services and real servers are known by.

mod failure;
pub mod kind;
mod lack;
pub mod passive;
mod verdict;
pub mod way;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::{Real, Service};
use shunt_dataplane::snapshot::Snapshot;

pub use failure::{Failure, Success};
pub use kind::CheckKind;
pub use lack::Lack;
pub use verdict::{Standing, Verdict};
pub use way::ServiceWay;

/// A service, as health knows it: by address and protocol, so that names may change.
pub type ServiceKey = (SocketAddr, Protocol);

/// What a service is for, in words: `tcp 192.0.2.10:80`, `fwmark 7`.
#[must_use]
pub fn subject((listen, protocol): ServiceKey) -> String {
    match Mark::of(listen) {
        Some(mark) if listen.is_ipv4() => format!("fwmark {mark}"),
        Some(mark) => format!("fwmark {mark} IPv6"),
        None => format!("{protocol} {listen}"),
    }
}

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

impl RealKey {
    /// The service that it is a real server of.
    #[must_use]
    pub const fn service(&self) -> ServiceKey {
        (self.listen, self.protocol)
    }

    /// All real servers of a snapshot by their keys; those that were removed and have connections are among them.
    pub fn all(snapshot: &Snapshot) -> impl Iterator<Item = (Self, &Real)> {
        snapshot.reals.iter().flatten().filter_map(|real| {
            let Service { listen, protocol, .. } = snapshot.service(real.service)?;
            let address = SocketAddr::new(real.address, real.l4_port.0);
            Some((Self { listen: *listen, protocol: *protocol, address }, real))
        })
    }
}

/// As the log names it: `real 10.1.0.11:80 of tcp 192.0.2.10:80`.
impl fmt::Display for RealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "real {} of {}", self.address, subject(self.service()))
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Whom: the real server's address, and the port that answers where one is asked (keepalived: `connect_ip`,
    /// `connect_port`).
    pub to: SocketAddr,
    /// How it gets there, when that is a VIP which others have, too; none by the routes.
    pub way: Option<Arc<ServiceWay>>,
    /// Where it comes from; none lets the system choose (keepalived: `bindto`, `bind_port`).
    pub from: Option<SocketAddr>,
    /// From the begin of one check to the begin of the next (keepalived: `delay_loop`).
    pub interval: Duration,
    /// All that a check may take; longer is a failure (keepalived: `connect_timeout`).
    pub timeout: Duration,
    /// From a failure of a real server that is up to the next try; none for the interval (keepalived:
    /// `delay_before_retry`).
    pub retry_interval: Option<Duration>,
    /// The first checks of all real servers spread over so long (keepalived: `warmup`).
    pub warmup: Duration,
    /// Failures in a row that take a real server out; 0 counts as 1 (keepalived: `retry` and one more).
    pub fall: u8,
    /// Successes in a row that bring it back; 0 counts as 1.
    pub rise: u8,
    /// How long the successes in a row last at least that bring it back (Piranha: `reentry`).
    pub reentry: Duration,
    /// True when it begins with the opinion that the real server is down (keepalived: `alpha`).
    pub alpha: bool,
}
