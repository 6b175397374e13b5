//! Which NIC leads to an address: the networks of the NICs, the routes and the gateways, as the workers will use them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use shunt_dataplane::address::Address;
use shunt_dataplane::id::NicId;
use shunt_dataplane::route::{Route, RouteTable};

use crate::document::Document;

/// The director's networks and routes.
pub struct Networks {
    /// Own addresses, their networks and their NICs.
    pub own: Vec<(IpNet, NicId)>,
    /// False when a NIC or route could not be read: what is not found here may be there.
    pub known: bool,
    v4: RouteTable<Ipv4Addr>,
    v6: RouteTable<Ipv6Addr>,
}

/// How a packet gets to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Out of this NIC.
    pub nic: NicId,
    /// Through this router; none to a neighbour.
    pub via: Option<IpAddr>,
}

impl Networks {
    /// Gathers them from what could be read of the file.
    pub fn gather(document: &Document) -> Self {
        let mut networks = Self {
            own: Vec::new(),
            known: document.networks_known,
            v4: RouteTable::default(),
            v6: RouteTable::default(),
        };
        for (number, nic) in numbered(&document.nics) {
            for net in &nic.addresses {
                networks.own.push((net.value, number));
                if is_link_local(net.value.addr()) {
                    continue;
                }
                networks.insert(net.value, Hop { nic: number, via: None });
            }
        }
        for (number, nic) in numbered(&document.nics) {
            for gateway in &nic.gateways {
                networks.insert(everything(gateway.value), Hop { nic: number, via: Some(gateway.value) });
            }
        }
        for route in &document.routes {
            let (Some(to), via) = (&route.to, route.via.as_ref().map(|via| via.value)) else { continue };
            let named = route.nic.as_ref().and_then(|name| nic_of(document, &name.value));
            if let Some(nic) = named.or_else(|| networks.nic_to_router(via?)) {
                networks.insert(to.value, Hop { nic, via });
            }
        }
        networks
    }

    /// The NIC in whose network a router is.
    pub fn nic_to_router(&self, router: IpAddr) -> Option<NicId> {
        self.network_of(router).map(|(_, nic)| nic)
    }

    /// The network of a NIC that holds an address. A link-local address is in none: each NIC has its network.
    pub fn network_of(&self, address: IpAddr) -> Option<(IpNet, NicId)> {
        self.own
            .iter()
            .copied()
            .filter(|(net, _)| net.contains(&address) && !is_link_local(address))
            .max_by_key(|(net, _)| net.prefix_len())
    }

    /// The NIC that has an address for its own.
    pub fn owner(&self, address: IpAddr) -> Option<NicId> {
        self.owner_seen_from(None, address)
    }

    /// The NIC that has for its own what an address means on the link of another: a link-local one is of that link alone (RFC 4007).
    pub fn owner_seen_from(&self, link: Option<NicId>, address: IpAddr) -> Option<NicId> {
        let meant = |nic: NicId| !is_link_local(address) || link == Some(nic);
        self.own.iter().find(|(net, nic)| net.addr() == address && meant(*nic)).map(|(_, nic)| *nic)
    }

    /// The way to an address.
    pub fn hop(&self, to: IpAddr) -> Option<Hop> {
        match to {
            IpAddr::V4(to) => hop(&self.v4, to),
            IpAddr::V6(to) => hop(&self.v6, to),
        }
    }

    fn insert(&mut self, to: IpNet, hop: Hop) {
        match to {
            IpNet::V4(to) => self.v4.insert(to.addr(), to.prefix_len(), route(hop)),
            IpNet::V6(to) => self.v6.insert(to.addr(), to.prefix_len(), route(hop)),
        }
    }
}

fn hop<A: Address>(routes: &RouteTable<A>, to: A) -> Option<Hop> {
    routes.find(to).map(|route| Hop { nic: route.nic, via: route.via.map(Into::into) })
}

fn route<A: Address>(hop: Hop) -> Route<A> {
    Route { nic: hop.nic, via: hop.via.and_then(A::from_ip), source: None, hop: None }
}

/// NICs with their numbers; those beyond the last possible number are reported elsewhere.
pub fn numbered<T>(nics: &[T]) -> impl Iterator<Item = (NicId, &T)> {
    (0..=u8::MAX).map(NicId).zip(nics)
}

/// The NIC of a name.
pub fn nic_of(document: &Document, name: &str) -> Option<NicId> {
    numbered(&document.nics)
        .find(|(_, nic)| nic.name.as_ref().is_some_and(|known| known.value == name))
        .map(|(number, _)| number)
}

/// The network of all addresses of a family.
pub fn everything(of: IpAddr) -> IpNet {
    match of {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// What tells addresses apart that are seen from these links: link-local ones are others on each (RFC 4007).
pub fn scoped(link: Option<NicId>, address: IpAddr) -> (Option<NicId>, IpAddr) {
    (link.filter(|_| is_link_local(address)), address)
}

/// True for an IPv6 address of one link (RFC 4291, 2.5.6).
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
