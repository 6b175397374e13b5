//! Longest prefix, then next hop.
//!
//! One table for each prefix length in use, asked from the longest to the shortest: a few lengths cost a few probes,
//! however many routes there are. A length that has only a few prefixes is a list, others are maps.

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::address::Address;
use crate::id::NicId;
use crate::service::NextHop;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<A> {
    /// The NIC.
    pub nic: NicId,
    /// The router; none when the destination itself is the neighbour.
    pub via: Option<A>,
    /// The director's address that traffic of its own starts from.
    pub source: Option<A>,
    /// The router as a next hop, when its MAC is known.
    pub hop: Option<NextHop>,
}

/// Prefixes of one length that are compared one by one; a map is no faster then.
const FEW: usize = 4;

/// The routes of one prefix length.
#[derive(Clone, Debug)]
enum Prefixes<A> {
    Few(Vec<(A, Route<A>)>),
    Many(HashMap<A, Route<A>, RandomState>),
}

impl<A: Address> Prefixes<A> {
    /// Adds a route, unless the prefix has one.
    fn insert(&mut self, network: A, route: Route<A>) {
        match self {
            Self::Few(list) if list.iter().any(|(other, _)| *other == network) => {}
            Self::Few(list) if list.len() < FEW => list.push((network, route)),
            Self::Few(list) => {
                let routes = list.drain(..).chain([(network, route)]).collect();
                *self = Self::Many(routes);
            }
            Self::Many(map) => {
                map.entry(network).or_insert(route);
            }
        }
    }

    #[inline]
    fn get(&self, network: A) -> Option<&Route<A>> {
        match self {
            Self::Few(list) => list.iter().find(|(other, _)| *other == network).map(|(_, route)| route),
            Self::Many(map) => map.get(&network),
        }
    }
}

/// The routes of one address family.
#[derive(Clone, Debug)]
pub struct RouteTable<A: Address> {
    /// By prefix length, longest first.
    lengths: Vec<(u8, Prefixes<A>)>,
}

impl<A: Address> Default for RouteTable<A> {
    fn default() -> Self {
        Self { lengths: Vec::new() }
    }
}

impl<A: Address> RouteTable<A> {
    /// Adds a route to `network/length`; of two to the same prefix the first one stays.
    pub fn insert(&mut self, network: A, length: u8, route: Route<A>) {
        let length = length.min(A::BITS);
        let at = self.lengths.partition_point(|(other, _)| *other > length);
        if self.lengths.get(at).is_none_or(|(other, _)| *other != length) {
            self.lengths.insert(at, (length, Prefixes::Few(Vec::new())));
        }
        self.lengths[at].1.insert(network.masked(length), route);
    }

    /// Changes each route.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut Route<A>)) {
        for (_, routes) in &mut self.lengths {
            match routes {
                Prefixes::Few(list) => list.iter_mut().for_each(|(_, route)| change(route)),
                Prefixes::Many(map) => map.values_mut().for_each(&mut change),
            }
        }
    }

    /// The route of the longest prefix that holds `to`.
    #[inline]
    #[must_use]
    pub fn find(&self, to: A) -> Option<&Route<A>> {
        self.lengths.iter().find_map(|(length, routes)| routes.get(to.masked(*length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn table<A: Address + std::str::FromStr>(routes: &[(&str, u8, u8)]) -> RouteTable<A>
    where
        A::Err: std::fmt::Debug,
    {
        let mut table = RouteTable::default();
        for &(network, length, nic) in routes {
            let route = Route { nic: NicId(nic), via: None, source: None, hop: None };
            table.insert(network.parse().unwrap(), length, route);
        }
        table
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes: RouteTable<Ipv4Addr> = table(&[
            ("0.0.0.0", 0, 0),
            ("10.0.0.0", 8, 1),
            ("10.1.2.0", 24, 2),
            ("10.1.2.3", 32, 3),
            ("10.1.2.99", 24, 9),
        ]);
        for (to, nic) in [("192.0.2.1", 0), ("10.9.9.9", 1), ("10.1.2.4", 2), ("10.1.2.3", 3)] {
            assert_eq!(routes.find(to.parse().unwrap()).unwrap().nic, NicId(nic), "{to}");
        }
        let routes: RouteTable<Ipv6Addr> = table(&[("2001:db8::", 32, 1), ("2001:db8:c::", 64, 2)]);
        assert_eq!(routes.find("2001:db8:c::9".parse().unwrap()).unwrap().nic, NicId(2));
        assert_eq!(routes.find("2001:db9::".parse().unwrap()), None);
    }

    proptest::proptest! {
        #[test]
        fn finds_what_a_walk_over_the_list_finds(
            routes in proptest::collection::vec((0_u32..1 << 6, 0_u8..=32), 0..40),
            to in 0_u32..1 << 6,
        ) {
            let to = Ipv4Addr::from_bits(to << 26 | to);
            let mut table = RouteTable::default();
            for (number, &(network, length)) in routes.iter().enumerate() {
                let route = Route { nic: NicId(number as u8), via: None, source: None, hop: None };
                table.insert(Ipv4Addr::from_bits(network << 26 | network), length, route);
            }
            let mut want: Option<(u8, u8)> = None;
            for (number, &(network, length)) in routes.iter().enumerate() {
                let holds = Ipv4Addr::from_bits(network << 26 | network).masked(length) == to.masked(length);
                if holds && want.is_none_or(|(best, _)| length > best) {
                    want = Some((length, number as u8));
                }
            }
            proptest::prop_assert_eq!(table.find(to).map(|route| route.nic.0), want.map(|(_, number)| number));
        }
    }
}
