//! The one neighbour that the kernel side has on each TAP: a host that does not exist.
//!
//! All that the kernel sends to a single host it sends to this one's MAC, whatever its destination. Who the next hop is, and at which MAC,
//! the control loop knows ([`Routes`], the neighbour machine). So the kernel believes nobody about a MAC and asks nobody, and its
//! neighbour table, which is one for the whole machine (`gc_thresh3`), has one entry for each TAP and family, however many hosts there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_dataplane::address::Address;
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::route::{Route, RouteTable};
use shunt_dataplane::wire::ndp::link_local;

use super::NicSide;

/// Its MAC, locally administered: "next".
pub const MAC: Mac = Mac([2, b'n', b'e', b'x', b't', 0]);
/// Its IPv4 address, which no host has: of the block for protocols (RFC 6890, 2.2.2), and no protocol's.
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 11);

/// Its address of the family of another one.
pub(super) const fn of_family(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(V4),
        IpAddr::V6(_) => IpAddr::V6(link_local(MAC)),
    }
}

/// The ways of what the kernel side sends: the real next hops, for each NIC.
#[derive(Debug, Default)]
pub struct Routes(Vec<(RouteTable<Ipv4Addr>, RouteTable<Ipv6Addr>)>);

impl Routes {
    /// The routes of NICs, by [`NicId`], as their kernel side has them.
    #[must_use]
    pub fn new(sides: &[NicSide]) -> Self {
        Self(sides.iter().map(|side| (table(side), table(side))).collect())
    }

    /// The neighbour by whom a packet to `to` leaves that the kernel sends out of this NIC; none when there is no route.
    #[must_use]
    pub fn hop(&self, nic: NicId, to: IpAddr) -> Option<IpAddr> {
        let (v4, v6) = self.0.get(nic.index())?;
        match to {
            IpAddr::V4(to) => hop(v4, to),
            IpAddr::V6(to) => hop(v6, to),
        }
    }
}

fn hop<A: Address>(routes: &RouteTable<A>, to: A) -> Option<IpAddr> {
    if to.is_of_one_link() {
        return Some(to.into());
    }
    routes.find(to).map(|route| route.via.unwrap_or(to).into())
}

fn table<A: Address>(side: &NicSide) -> RouteTable<A> {
    let mut table = RouteTable::default();
    let mut insert = |network: IpAddr, length: u8, via: Option<IpAddr>| {
        let Some(network) = A::from_ip(network) else { return };
        let route = Route { nic: NicId::default(), via: via.and_then(A::from_ip), source: None, hop: None };
        table.insert(network, length, route);
    };
    side.addresses.iter().for_each(|own| insert(own.addr(), own.prefix_len(), None));
    side.routes.iter().for_each(|(to, via)| insert(to.addr(), to.prefix_len(), *via));
    side.gateways.iter().for_each(|gateway| insert(*gateway, 0, Some(*gateway)));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_those_of_the_nic_that_the_kernel_chose() {
        let side = |addresses: &[&str], gateways: &[&str]| NicSide {
            name: "any".to_owned(),
            mac: Mac::default(),
            mtu: 1500,
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|one| one.parse().unwrap()).collect(),
            routes: vec![
                ("198.51.100.0/24".parse().unwrap(), Some("192.0.2.99".parse().unwrap())),
                ("2001:db8:9::/48".parse().unwrap(), None),
            ],
        };
        let front = side(&["192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"], &["192.0.2.1", "fe80::1"]);
        let routes = Routes::new(&[front, side(&["10.1.0.1/24"], &[])]);
        for (nic, to, wanted) in [
            (0, "192.0.2.77", Some("192.0.2.77")),
            (0, "198.51.100.7", Some("192.0.2.99")),
            (0, "203.0.113.7", Some("192.0.2.1")),
            (0, "2001:db8::7", Some("2001:db8::7")),
            (0, "2001:db8:9::7", Some("2001:db8:9::7")),
            (0, "2001:db8:a::7", Some("fe80::1")),
            (0, "fe80::7", Some("fe80::7")),
            (1, "fe80::7", Some("fe80::7")),
            (1, "10.1.0.7", Some("10.1.0.7")),
            (1, "192.0.2.77", None),
            (2, "192.0.2.77", None),
        ] {
            let hop = routes.hop(NicId(nic), to.parse().unwrap());
            assert_eq!(hop, wanted.map(|hop| hop.parse().unwrap()), "{nic} {to}");
        }
    }
}
