//! The way of a check that goes to its real server as the service's packets do.

use std::net::IpAddr;

use shunt_dataplane::id::NicId;
use shunt_dataplane::service::tunnel::Tunnel;

/// The way to one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceWay {
    /// The neighbour that frames go to: the real server, or the router on the way to it.
    pub hop: (NicId, IpAddr),
    /// What packets travel in; none by DR.
    pub tunnel: Option<Ends>,
}

/// A tunnel and where it begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// What packets travel in.
    pub tunnel: Tunnel,
    /// The director's own address.
    pub source: IpAddr,
    /// The real server's.
    pub destination: IpAddr,
}
