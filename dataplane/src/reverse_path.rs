//! Which sources a NIC takes packets from: those that are where it leads to (RFC 3704; kernel: `rp_filter`, `fib_validate_source`).

use crate::address::Address;
use crate::id::NicId;
use crate::route::RouteTable;

/// How a NIC looks at sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// A source that a network of a NIC or a route other than the default one leads to comes in by the NIC that this leads out of; one that only
    /// the default route leads to, or none, may come in by any.
    #[default]
    Auto,
    /// The way back leaves by the NIC that the packet came in by (RFC 3704, 2.2; kernel: `rp_filter = 1`).
    Strict,
    /// There is a way back (RFC 3704, 2.4; kernel: `rp_filter = 2`).
    Loose,
    /// All are taken (kernel: `rp_filter = 0`).
    Off,
}

impl ReversePath {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Strict, Self::Loose, Self::Off];

    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Strict => "strict",
            Self::Loose => "loose",
            Self::Off => "off",
        }
    }

    /// True when a packet from `source` may come in by `nic`.
    #[must_use]
    pub fn takes<A: Address>(self, routes: &RouteTable<A>, source: A, nic: NicId) -> bool {
        match self {
            Self::Auto => routes.find_network(source).is_none_or(|route| route.nic == nic),
            Self::Strict => routes.find(source).is_some_and(|route| route.nic == nic),
            Self::Loose => routes.find(source).is_some(),
            Self::Off => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;
    use std::net::Ipv4Addr;

    #[test]
    fn sources_are_where_the_way_back_leads() {
        let mut routes = RouteTable::default();
        let mut insert = |network: [u8; 4], length, nic| {
            let route = Route { nic: NicId(nic), via: None, source: None, hop: None };
            routes.insert(Ipv4Addr::from(network), length, route);
        };
        insert([192, 0, 2, 0], 24, 0);
        insert([10, 1, 0, 0], 24, 1);
        insert([10, 2, 0, 0], 16, 1);
        let no_default = routes.clone();
        routes.insert(Ipv4Addr::UNSPECIFIED, 0, Route { nic: NicId(0), via: None, source: None, hop: None });
        let takes = |how: ReversePath, routes: &RouteTable<Ipv4Addr>, source: [u8; 4]| {
            [NicId(0), NicId(1)].map(|nic| how.takes(routes, source.into(), nic))
        };
        let (near, inside, behind, world) = ([192, 0, 2, 7], [10, 1, 0, 13], [10, 2, 3, 4], [203, 0, 113, 9]);
        use ReversePath::{Auto, Loose, Off, Strict};
        for (how, source, with_default, without) in [
            (Auto, near, [true, false], [true, false]),
            (Auto, inside, [false, true], [false, true]),
            (Auto, behind, [false, true], [false, true]),
            (Auto, world, [true, true], [true, true]),
            (Strict, inside, [false, true], [false, true]),
            (Strict, world, [true, false], [false, false]),
            (Loose, inside, [true, true], [true, true]),
            (Loose, world, [true, true], [false, false]),
            (Off, inside, [true, true], [true, true]),
            (Off, world, [true, true], [true, true]),
        ] {
            assert_eq!(takes(how, &routes, source), with_default, "{how:?} {source:?}");
            assert_eq!(
                takes(how, &no_default, source),
                without,
                "{how:?} {source:?} without a default route"
            );
        }
    }
}
