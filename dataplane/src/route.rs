//! Longest prefix, then next hop.
//!
//! A director that has a few prefixes looks through them one by one. One that has many asks one table for each prefix
//! length in use, from the longest to the shortest.

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

/// Prefixes that are looked through one by one; more are asked for by their lengths.
const FEW: usize = 16;

/// A prefix as it is compared.
#[derive(Clone, Debug)]
struct Prefix {
    network: [u64; 2],
    mask: [u64; 2],
    length: u8,
    route: u32,
}

impl Prefix {
    fn new<A: Address>(network: A, length: u8, route: u32) -> Self {
        Self { network: network.words(), mask: A::ALL_ONES.masked(length).words(), length, route }
    }

    #[inline]
    fn holds<A: Address>(&self, to: [u64; 2]) -> bool {
        (to[0] & self.mask[0]) == self.network[0]
            && (A::BITS <= 32 || (to[1] & self.mask[1]) == self.network[1])
    }
}

/// The routes of one address family.
#[derive(Clone, Debug)]
pub struct RouteTable<A: Address> {
    routes: Vec<Route<A>>,
    /// All prefixes, longest first; none when there are more than [`FEW`].
    few: Vec<Prefix>,
    /// All prefixes by length, longest first, and where their routes are.
    lengths: Vec<(u8, HashMap<A, u32, RandomState>)>,
}

impl<A: Address> Default for RouteTable<A> {
    fn default() -> Self {
        Self { routes: Vec::new(), few: Vec::new(), lengths: Vec::new() }
    }
}

impl<A: Address> RouteTable<A> {
    /// Adds a route to `network/length`; of two to the same prefix the first one stays.
    pub fn insert(&mut self, network: A, length: u8, route: Route<A>) {
        let length = length.min(A::BITS);
        let network = network.masked(length);
        let at = self.lengths.partition_point(|(other, _)| *other > length);
        if self.lengths.get(at).is_none_or(|(other, _)| *other != length) {
            self.lengths.insert(at, (length, HashMap::default()));
        }
        let number = self.routes.len() as u32;
        if *self.lengths[at].1.entry(network).or_insert(number) != number {
            return;
        }
        self.routes.push(route);
        if self.routes.len() <= FEW {
            let at = self.few.partition_point(|prefix| prefix.length > length);
            self.few.insert(at, Prefix::new(network, length, number));
        } else {
            self.few.clear();
        }
    }

    /// Changes each route.
    pub fn for_each_mut(&mut self, change: impl FnMut(&mut Route<A>)) {
        self.routes.iter_mut().for_each(change);
    }

    /// The route of the longest prefix that holds `to`.
    #[inline]
    #[must_use]
    pub fn find(&self, to: A) -> Option<&Route<A>> {
        let number = if self.few.is_empty() {
            self.lengths.iter().find_map(|(length, routes)| routes.get(&to.masked(*length)).copied())
        } else {
            let words = to.words();
            self.few.iter().find(|prefix| prefix.holds::<A>(words)).map(|prefix| prefix.route)
        };
        self.routes.get(number? as usize)
    }

    /// The same, unless it is the default route.
    #[must_use]
    pub fn find_network(&self, to: A) -> Option<&Route<A>> {
        let number = if self.few.is_empty() {
            let mut networks = self.lengths.iter().filter(|(length, _)| *length > 0);
            networks.find_map(|(length, routes)| routes.get(&to.masked(*length)).copied())
        } else {
            let words = to.words();
            let mut networks = self.few.iter().filter(|prefix| prefix.length > 0);
            networks.find(|prefix| prefix.holds::<A>(words)).map(|prefix| prefix.route)
        };
        self.routes.get(number? as usize)
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
