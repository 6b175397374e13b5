//! Firewall marks: the director's own classifier gives new connections a mark, by which a service takes them, whatever
//! addresses and ports they are for (kernel: `skb->mark`, `ip_vs_service_find`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::address::{Address, Family};
use crate::flow::Flow;
use crate::id::{NicId, Protocol};

/// A firewall mark, from 1 to [`Mark::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u32);

impl Mark {
    /// The largest mark: written as an address it is of a network that no host has (0.0.0.0/8; RFC 1122, 3.2.1.3).
    pub const MAX: u32 = 0x00ff_ffff;

    /// A mark, if there is one of this number.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Where its service listens: the mark as an address and no port, as the kernel lists templates of such services.
    #[must_use]
    pub fn listen(self, family: Family) -> SocketAddr {
        let address = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(self.0)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.0) << 96)),
        };
        SocketAddr::new(address, 0)
    }

    /// The mark whose service listens there; none for a service of an address.
    #[must_use]
    pub fn of(listen: SocketAddr) -> Option<Self> {
        let number = match listen.ip() {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => (address.to_bits() >> 96) as u32,
        };
        let mark = Self::new(number)?;
        (mark.listen(Family::of(listen.ip())) == listen).then_some(mark)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A rule: what all its parts hold for gets the mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// The mark.
    pub mark: Mark,
    /// Destinations; none for all.
    pub to: Option<IpNet>,
    /// Sources; none for all.
    pub from: Option<IpNet>,
    /// The protocol; none for all.
    pub protocol: Option<Protocol>,
    /// Destination ports.
    pub ports: RangeInclusive<u16>,
    /// The NIC that packets come in by; none for all.
    pub nic: Option<NicId>,
}

/// The rules of one address family.
#[derive(Clone, Debug, Default)]
pub struct Classifier<A> {
    rules: Box<[Rule<A>]>,
}

#[derive(Clone, Debug)]
struct Rule<A> {
    mark: Mark,
    to: (A, u8),
    from: (A, u8),
    protocol: Option<Protocol>,
    ports: RangeInclusive<u16>,
    nic: Option<NicId>,
}

impl<A: Address> Classifier<A> {
    /// The rules that can hold for packets of this family.
    #[must_use]
    pub fn new(rules: &[MarkRule]) -> Self {
        let prefix = |network: Option<IpNet>| match network {
            None => Some((A::UNSPECIFIED, 0)),
            Some(network) => Some((A::from_ip(network.network())?, network.prefix_len())),
        };
        let rule = |rule: &MarkRule| {
            Some(Rule {
                mark: rule.mark,
                to: prefix(rule.to)?,
                from: prefix(rule.from)?,
                protocol: rule.protocol,
                ports: rule.ports.clone(),
                nic: rule.nic,
            })
        };
        // The last one first: it has the last word.
        Self { rules: rules.iter().rev().filter_map(rule).collect() }
    }

    /// True when nothing is marked.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// True for an address of a network that a rule names as destination.
    #[must_use]
    pub fn takes_for(&self, address: A) -> bool {
        self.rules.iter().any(|rule| rule.to.1 > 0 && address.masked(rule.to.1) == rule.to.0)
    }

    /// The mark of the first packet of a flow: that of the last rule that holds for it, as `-j MARK` has it.
    #[must_use]
    pub fn classify(&self, flow: &Flow<A>, nic: NicId) -> Option<Mark> {
        let holds = |rule: &&Rule<A>| {
            flow.destination.masked(rule.to.1) == rule.to.0
                && flow.source.masked(rule.from.1) == rule.from.0
                && rule.protocol.is_none_or(|protocol| protocol == flow.protocol)
                && rule.ports.contains(&flow.destination_port.0)
                && rule.nic.is_none_or(|wanted| wanted == nic)
        };
        self.rules.iter().find(holds).map(|rule| rule.mark)
    }
}

impl<A: Address> Classifier<A> {
    /// The mark of a packet without ports.
    #[must_use]
    pub fn classify_any(&self, source: A, destination: A, nic: NicId) -> Option<Mark> {
        let holds = |rule: &&Rule<A>| {
            destination.masked(rule.to.1) == rule.to.0
                && source.masked(rule.from.1) == rule.from.0
                && rule.protocol.is_none()
                && rule.ports == (0..=u16::MAX)
                && rule.nic.is_none_or(|wanted| wanted == nic)
        };
        self.rules.iter().find(holds).map(|rule| rule.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::L4Port;

    #[test]
    fn a_mark_is_where_its_service_listens() {
        for family in [Family::V4, Family::V6] {
            for number in [1, 7, Mark::MAX] {
                let mark = Mark::new(number).unwrap();
                assert_eq!(Mark::of(mark.listen(family)), Some(mark));
            }
        }
        assert_eq!(Mark::new(7).unwrap().listen(Family::V4).to_string(), "0.0.0.7:0");
        assert_eq!(Mark::new(7).unwrap().listen(Family::V6).to_string(), "[0:7::]:0");
        assert!(Mark::new(0).is_none() && Mark::new(Mark::MAX + 1).is_none());
        for address in ["0.0.0.7:80", "192.0.2.10:0", "[::7]:0", "[0:7::1]:0", "0.0.0.0:0"] {
            assert_eq!(Mark::of(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn the_last_rule_that_holds_has_its_way() {
        let rule = |mark, to: Option<&str>, from: Option<&str>, ports, nic| MarkRule {
            mark: Mark::new(mark).unwrap(),
            to: to.map(|net| net.parse().unwrap()),
            from: from.map(|net| net.parse().unwrap()),
            protocol: Some(Protocol::Tcp),
            ports,
            nic,
        };
        let all = 0..=u16::MAX;
        let classifier: Classifier<Ipv4Addr> = Classifier::new(&[
            rule(1, Some("192.0.2.0/24"), None, all.clone(), None),
            rule(2, Some("192.0.2.10/32"), None, 80..=81, None),
            rule(3, None, Some("198.51.100.0/24"), 443..=443, Some(NicId(1))),
            rule(4, Some("2001:db8::/32"), None, all, None),
        ]);
        let mark = |to: &str, from: &str, l4_port, protocol, nic| {
            let flow = Flow {
                source: from.parse().unwrap(),
                destination: to.parse().unwrap(),
                source_port: L4Port(40_000),
                destination_port: L4Port(l4_port),
                protocol,
            };
            classifier.classify(&flow, NicId(nic)).map(Mark::number)
        };
        assert_eq!(mark("192.0.2.10", "198.51.100.1", 80, Protocol::Tcp, 0), Some(2));
        assert_eq!(mark("192.0.2.10", "198.51.100.1", 82, Protocol::Tcp, 0), Some(1));
        assert_eq!(mark("192.0.2.10", "198.51.100.1", 443, Protocol::Tcp, 1), Some(3));
        assert_eq!(mark("192.0.2.10", "203.0.113.1", 443, Protocol::Tcp, 1), Some(1));
        assert_eq!(mark("192.0.3.10", "198.51.100.1", 443, Protocol::Tcp, 0), None);
        assert_eq!(mark("192.0.2.10", "198.51.100.1", 80, Protocol::Udp, 0), None);
    }
}
