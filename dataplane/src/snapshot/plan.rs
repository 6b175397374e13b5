//! What should hold, plainly: the input of compilation.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::Sysctls;
use crate::connections::{Share, Timeouts};
use crate::forwarding::ForwardRule;
use crate::id::{Mac, NicId, Protocol};
use crate::reverse_path::ReversePath;
use crate::service::mark::MarkRule;
use crate::service::masquerade::MasqueradeRule;
use crate::service::schedulers::Scheduler;
use crate::service::tunnel::Tunnel;
use crate::service::{Method, Settings, Thresholds};

/// Everything that workers need to know, before identifiers are given out. It was checked already: names
/// are unique, references resolve, families agree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// NICs in the order of their [`NicId`].
    pub nics: Vec<NicPlan>,
    /// Routes beyond the networks of the NICs' own addresses.
    pub routes: Vec<RoutePlan>,
    /// VIPs that belong to the director now; those of services are not implied.
    pub vips: Vec<IpAddr>,
    /// VIPs that belong to another director now.
    pub elsewhere: Vec<IpAddr>,
    /// VIPs that are of one link alone (RFC 4007), whomever they belong to.
    pub link_vips: Vec<LinkVip>,
    /// VIPs of virtual routers that take what is for services alone (RFC 9568, 6.1: `Accept_Mode`).
    pub not_accepting: Vec<IpAddr>,
    /// VIPs that were taken over lately: their TCP connections, which another director made, are taken on in their midst.
    pub adopting: Vec<IpAddr>,
    /// VIPs that this director has since lately: TCP and SCTP of no known connection to their services is not answered.
    pub silent: Vec<IpAddr>,
    /// Whether the same holds for what firewall marks take that is for no VIP.
    pub others: Others,
    /// VIPs that health checks of the director's ask its real servers at, by the forwarding method: answers from there to the
    /// director's own addresses are the kernel side's, and nothing from these addresses is ever scheduled.
    pub checked: Vec<IpAddr>,
    /// Neighbours that are known.
    pub neighbours: Vec<NeighbourPlan>,
    /// Virtual services.
    pub services: Vec<ServicePlan>,
    /// What marks new connections, in order.
    pub marks: Vec<MarkRule>,
    /// Who leaves by an address of the director's; the first rule that holds has its way.
    pub masquerades: Vec<MasqueradeRule>,
    /// Which packets of no service pass from one network to another.
    pub forwards: Vec<ForwardRule>,
    /// Timeouts of connections.
    pub timeouts: Timeouts,
    /// Settings of the kernel.
    pub sysctls: Sysctls,
    /// Replies (RST, ICMP) a second and worker.
    pub replies_per_second: u32,
    /// The part of a connection table that one client may hold while it is nearly full.
    pub client_share: Share,
}

/// What holds for destinations of firewall marks that are no VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// As for [`Plan::adopting`].
    pub adopting: bool,
    /// As for [`Plan::silent`].
    pub silent: bool,
}

/// A NIC.
#[derive(Clone, Debug, PartialEq)]
pub struct NicPlan {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// MACs of virtual routers of which this director is master: frames to them are taken as those to its own.
    pub virtual_macs: Vec<Mac>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether its link is up: nothing leaves by it while it is not.
    pub up: bool,
    /// How often it was closed or opened since the start: another number is another generation, which workers take up after they
    /// closed or opened it.
    pub edition: u32,
    /// The director's own addresses on it, with their networks.
    pub addresses: Vec<IpNet>,
    /// Which sources it takes packets from.
    pub reverse_path: ReversePath,
}

/// A VIP of one link: an IPv6 link-local one. Another NIC may have the same for another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkVip {
    /// The NIC of that link.
    pub nic: NicId,
    /// The address.
    pub address: Ipv6Addr,
    /// It belongs to the director now, not to another one.
    pub is_here: bool,
    /// It answers what is for none of its services.
    pub accepts: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// Destinations.
    pub to: IpNet,
    /// The router; none when destinations are neighbours.
    pub via: Option<IpAddr>,
    /// The NIC.
    pub nic: NicId,
}

/// A neighbour that answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourPlan {
    /// Behind this NIC.
    pub nic: NicId,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// VIP and port; port 0 for all ports; a firewall mark by [`Mark::listen`](crate::service::mark::Mark::listen).
    pub listen: SocketAddr,
    /// TCP or UDP; no matter for a firewall mark.
    pub protocol: Protocol,
    /// The scheduler.
    pub scheduler: Scheduler,
    /// What else it is set to.
    pub settings: Settings,
    /// Real servers in the order in which they were added.
    pub reals: Vec<RealPlan>,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct RealPlan {
    /// RIP and port.
    pub address: SocketAddr,
    /// Forwarding method.
    pub method: Method,
    /// What packets travel in when the method is TUN.
    pub tunnel: Tunnel,
    /// Weight; 0 quiesces.
    pub weight: u32,
    /// How many connections it may have.
    pub thresholds: Thresholds,
    /// False while its health check fails: it leaves the schedule, its connections stay.
    pub up: bool,
}
