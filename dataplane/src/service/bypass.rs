//! Bypass (kernel: `IP_VS_CONN_F_BYPASS`, `cache_bypass`): packets of a firewall mark whose service has no real server that takes
//! them go on to their own destination.
//!
//! Each family has one thing that stands for the real server of all such connections. It has no way of its own, which takes
//! their packets out of the common path.

use std::net::{IpAddr, SocketAddr};

use crate::id::ServiceId;

/// What bypassed connections count as a service of: no real server of a service is kept under it.
pub const SERVICE: ServiceId = ServiceId(u32::MAX - 1);

/// What the bypass of a family is known by among real servers: by the address of no host, which `ipvsadm` shows.
#[must_use]
pub const fn key(unspecified: IpAddr) -> (ServiceId, SocketAddr) {
    (SERVICE, SocketAddr::new(unspecified, 0))
}
