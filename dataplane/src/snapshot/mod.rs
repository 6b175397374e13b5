//! The immutable configuration that workers read, and its generation.
//!
//! The publisher makes a [`Plan`] of what should hold, [`Registry::compile`] turns it into a [`Snapshot`], and
//! workers pick that up at a burst boundary. Identifiers and counters belong to the registry and live on
//! from one snapshot to the next.

mod compile;
mod plan;
mod real_name;
mod registry;
mod scoped;
mod sysctl;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::address::Address;
use crate::connections::{Share, Timeouts};
use crate::flow::Owners;
use crate::forwarding::Forwarding;
use crate::id::{Generation, L4Port, Mac, NicId, Protocol, RealId, ServiceId};
use crate::reverse_path::ReversePath;
use crate::route::{Route, RouteTable};
use crate::service::mark::Classifier;
use crate::service::masquerade::Masquerade;
use crate::service::table::ServiceTable;
use crate::service::{NextHop, Real, Service, Unresolved, Way};
use crate::wire::ethernet;
pub use plan::{LinkVip, NeighbourPlan, NicPlan, Others, Plan, RealPlan, RoutePlan, ServicePlan};
pub use real_name::RealName;
pub use registry::Registry;
pub use scoped::ScopedMap;
pub use sysctl::Sysctls;

/// What an address of the director is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Its own: the kernel-side interface answers.
    Own(NicId),
    /// A virtual IP address: the worker answers.
    Vip,
    /// A virtual IP address that belongs to another director now.
    Elsewhere,
}

/// A NIC as the workers see it.
#[derive(Clone, Debug)]
pub struct NicView {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its MAC.
    pub mac: Mac,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether its link is up.
    pub up: bool,
    /// The address that errors about IPv4 packets are sent from.
    pub source_v4: Option<Ipv4Addr>,
    /// The address that errors about IPv6 packets are sent from.
    pub source_v6: Option<Ipv6Addr>,
    /// MACs of virtual routers of which this director is master.
    pub virtual_macs: Box<[Mac]>,
    /// Which sources it takes packets from.
    pub reverse_path: ReversePath,
    /// True when that depends on routes.
    pub looks_back: bool,
}

impl NicView {
    /// The MAC that a frame has to be sent to if it is for this NIC: the one that it is sent to, where the NIC has that one, else
    /// its own.
    #[must_use]
    pub fn mac_for(&self, frame: &[u8]) -> Mac {
        if self.virtual_macs.is_empty() {
            return self.mac;
        }
        let to = ethernet::destination(frame);
        to.filter(|to| self.virtual_macs.contains(to)).unwrap_or(self.mac)
    }
}

/// The tables of one address family.
#[derive(Clone, Debug)]
pub struct FamilyTables<A: Address> {
    /// Services by address and port.
    pub services: ServiceTable<A>,
    /// What marks new connections.
    pub classifier: Classifier<A>,
    /// The director's addresses.
    pub local: ScopedMap<A, Local>,
    /// VIPs that were taken over lately: connections are taken on in their midst.
    pub adopting: HashMap<A, (), RandomState>,
    /// VIPs that this director has since lately: TCP and SCTP of no known connection is not answered.
    pub silent: HashMap<A, (), RandomState>,
    /// What of both holds for destinations of firewall marks that are no VIPs.
    pub others: Others,
    /// VIPs that take what is for services alone.
    pub not_accepting: ScopedMap<A, ()>,
    /// VIPs that health checks ask real servers at.
    pub checked: HashMap<A, (), RandomState>,
    /// Routes by longest prefix.
    pub routes: RouteTable<A>,
    /// Neighbours whose MAC is known, as next hops.
    pub neighbours: HashMap<(NicId, A), NextHop, RandomState>,
    /// Addresses of NAT real servers: packets from them may be answers.
    pub nat_reals: HashMap<A, (), RandomState>,
    /// Where NAT real servers answer (kernel: `rs_table`).
    pub nat_ports: HashMap<(A, Protocol, L4Port), (), RandomState>,
    /// Who leaves by an address of the director's.
    pub masquerade: Masquerade<A>,
    /// Which packets of no service pass.
    pub forwarding: Forwarding<A>,
    /// What stands for the destinations of connections that no real server took; none without firewall marks.
    pub bypass: Option<RealId>,
}

/// One generation of everything that workers read.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// NICs by [`NicId`].
    pub nics: Box<[NicView]>,
    /// Services by [`ServiceId`].
    pub services: Box<[Option<Arc<Service>>]>,
    /// Real servers by [`RealId`], those removed but still referred to included.
    pub reals: Box<[Option<Real>]>,
    /// Where tunnels lead that are configured: an error about any of them is one of ours (kernel: `rs_table`).
    pub tunnels: HashMap<IpAddr, Vec<RealId>, RandomState>,
    /// IPv4.
    pub v4: FamilyTables<Ipv4Addr>,
    /// IPv6.
    pub v6: FamilyTables<Ipv6Addr>,
    /// Timeouts of connections.
    pub timeouts: Arc<Timeouts>,
    /// Settings of the kernel.
    pub sysctls: Sysctls,
    /// Who owns which client.
    pub owners: Owners,
    /// How many replies (RST, ICMP) a worker makes in a second.
    pub replies_per_second: u32,
    /// The part of a connection table that one client may hold while it is nearly full.
    pub client_share: Share,
}

impl Snapshot {
    /// A service.
    #[inline]
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index())?.as_deref()
    }

    /// A real server.
    #[inline]
    #[must_use]
    pub fn real(&self, id: RealId) -> Option<&Real> {
        self.reals.get(id.index())?.as_ref()
    }

    /// The real servers of a tunnel to this address.
    pub fn tunnels_to(&self, address: IpAddr) -> impl Iterator<Item = &Real> {
        self.tunnels.get(&address).into_iter().flatten().filter_map(|&id| self.real(id))
    }

    /// A NIC.
    #[inline]
    #[must_use]
    pub fn nic(&self, id: NicId) -> Option<&NicView> {
        self.nics.get(id.index())
    }
}

/// An address family that has tables in a snapshot; lets the data path be written once for both.
pub trait Family: Address {
    /// The tables of this family.
    fn tables(snapshot: &Snapshot) -> &FamilyTables<Self>;
    /// The address of a NIC that errors are sent from.
    fn nic_source(nic: &NicView) -> Option<Self>;
}

impl Family for Ipv4Addr {
    #[inline]
    fn tables(snapshot: &Snapshot) -> &FamilyTables<Self> {
        &snapshot.v4
    }

    #[inline]
    fn nic_source(nic: &NicView) -> Option<Self> {
        nic.source_v4
    }
}

impl Family for Ipv6Addr {
    #[inline]
    fn tables(snapshot: &Snapshot) -> &FamilyTables<Self> {
        &snapshot.v6
    }

    #[inline]
    fn nic_source(nic: &NicView) -> Option<Self> {
        nic.source_v6
    }
}

impl<A: Address> FamilyTables<A> {
    /// The next hop of the way to an address, when it is known.
    #[inline]
    #[must_use]
    pub fn hop(&self, to: A) -> Option<&NextHop> {
        let route = self.routes.find(to)?;
        route.hop.as_ref().or_else(|| self.neighbours.get(&(route.nic, route.via.unwrap_or(to))))
    }

    /// The way to an address: longest prefix, then its neighbour.
    #[inline(never)]
    #[must_use]
    pub fn way(&self, to: A) -> Way<&NextHop> {
        if to.is_of_one_link() {
            return Way::None;
        }
        self.way_by(self.routes.find(to), to)
    }

    /// The same by the route to it, if there is one.
    #[inline]
    #[must_use]
    pub fn way_by<'a>(&'a self, route: Option<&'a Route<A>>, to: A) -> Way<&'a NextHop> {
        let Some(route) = route else { return Way::None };
        if let Some(hop) = &route.hop {
            return Way::Known(hop);
        }
        let address = route.via.unwrap_or(to);
        match self.neighbours.get(&(route.nic, address)) {
            Some(hop) => Way::Known(hop),
            None => Way::Unresolved(Unresolved { nic: route.nic, address: address.into() }),
        }
    }
}

impl<A: Address> FamilyTables<A> {
    /// The way to an address that was heard on a NIC: there, when it is of that link alone.
    #[must_use]
    pub fn way_back(&self, nic: NicId, to: A) -> Way<&NextHop> {
        if !to.is_of_one_link() {
            return self.way(to);
        }
        match self.neighbours.get(&(nic, to)) {
            Some(hop) => Way::Known(hop),
            None => Way::Unresolved(Unresolved { nic, address: to.into() }),
        }
    }
}

impl Snapshot {
    /// The way to an address of either family.
    #[must_use]
    pub fn way_to(&self, to: IpAddr) -> Way<&NextHop> {
        match to {
            IpAddr::V4(to) => self.v4.way(to),
            IpAddr::V6(to) => self.v6.way(to),
        }
    }

    /// True for an address of the director's own, loopback ones included.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        let own = |local: Option<&Local>| matches!(local, Some(Local::Own(_)));
        address.is_loopback()
            || match address {
                IpAddr::V4(address) => own(self.v4.local.everywhere(address)),
                IpAddr::V6(address) => own(self.v6.local.everywhere(address)),
            }
    }

    /// True for a VIP that belongs to another director now; one of one link: on the link of this NIC.
    #[must_use]
    pub fn is_elsewhere(&self, nic: NicId, address: IpAddr) -> bool {
        let local = match address {
            IpAddr::V4(address) => self.v4.local.get(nic, address),
            IpAddr::V6(address) => self.v6.local.get(nic, address),
        };
        matches!(local, Some(Local::Elsewhere))
    }

    /// The neighbour by which packets to an address leave; none when there is no route, as to an address of one link.
    #[must_use]
    pub fn first_hop(&self, to: IpAddr) -> Option<(NicId, IpAddr)> {
        match to {
            IpAddr::V4(to) => {
                self.v4.routes.find(to).map(|route| (route.nic, route.via.unwrap_or(to).into()))
            }
            IpAddr::V6(to) if to.is_of_one_link() => None,
            IpAddr::V6(to) => {
                self.v6.routes.find(to).map(|route| (route.nic, route.via.unwrap_or(to).into()))
            }
        }
    }
}
