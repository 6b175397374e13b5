//! By what a real server is known beyond one process, where its number ([`RealId`]) means nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Registry, Snapshot};
use crate::address::Family;
use crate::id::{L4Port, Protocol, RealId};
use crate::service::{bypass, masquerade};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RealName {
    /// A real server of a service.
    OfService {
        /// Where the service listens, or its firewall mark.
        listen: SocketAddr,
        /// The service's protocol.
        protocol: Protocol,
        /// The real server's address, and its port as it is configured.
        address: SocketAddr,
    },
    /// What stands for the real server of hosts that leave by this address.
    Masquerade(IpAddr),
    /// What stands for the real server of connections that no real server took.
    Bypass(Family),
}

impl fmt::Display for RealName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfService { listen, protocol, address } => {
                write!(f, "real server {address} of {protocol} {listen}")
            }
            Self::Masquerade(address) => write!(f, "masquerade address {address}"),
            Self::Bypass(Family::V4) => f.write_str("IPv4 bypass"),
            Self::Bypass(Family::V6) => f.write_str("IPv6 bypass"),
        }
    }
}

const fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Snapshot {
    /// The name of a real server; none for one whose service was removed.
    #[must_use]
    pub fn real_name(&self, id: RealId) -> Option<RealName> {
        let real = self.real(id)?;
        if real.is_masquerade() {
            return Some(RealName::Masquerade(real.address));
        }
        if real.is_bypass() {
            return Some(RealName::Bypass(Family::of(real.address)));
        }
        let service = self.service(real.service)?;
        let L4Port(l4_port) = real.l4_port;
        Some(RealName::OfService {
            listen: service.listen,
            protocol: service.protocol,
            address: SocketAddr::new(real.address, l4_port),
        })
    }
}

impl Registry {
    /// The number that a real server has in this process; none for one that is not configured here.
    #[must_use]
    pub fn numbered(&self, name: &RealName) -> Option<RealId> {
        let key = match *name {
            RealName::OfService { listen, protocol, address } => {
                return self.real_id(self.service_id(listen, protocol)?, address);
            }
            RealName::Masquerade(address) => masquerade::key(address),
            RealName::Bypass(family) => bypass::key(unspecified(family)),
        };
        self.reals.find(&key).map(RealId)
    }
}
