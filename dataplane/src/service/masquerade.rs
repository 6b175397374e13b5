//! Masquerade: hosts behind the director reach others from an address of the director's (RFC 3022; `iptables -t nat -A POSTROUTING
//! -s … -j MASQUERADE`, `-j SNAT`).
//!
//! A masqueraded connection is a NAT connection seen from its other end: who is asked stands where the client is, the
//! director's address where the VIP is, and the host behind where the real server is.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::address::Address;
use crate::id::{NicId, RealId, ServiceId};

/// Ports that masqueraded connections leave by, as many as a power of two. The kernel side's own sockets leave by others
/// ([`KERNEL_PORTS`]).
pub const PORTS: RangeInclusive<u16> = 32768..=65535;
/// How many those are.
pub const PORTS_COUNT: u32 = *PORTS.end() as u32 - *PORTS.start() as u32 + 1;
/// Ports that are left to the sockets of the kernel side.
pub const KERNEL_PORTS: RangeInclusive<u16> = 1024..=32767;
/// Ports that are tried for one connection: with nine of ten taken, fewer than two connections of a million find none.
pub const TRIES_MAX: u32 = 128;

const _: () = assert!(PORTS_COUNT.is_power_of_two() && *KERNEL_PORTS.end() < *PORTS.start());

/// What the director's own address of a masquerade counts as a service of: no real server of a service is kept under it.
pub const SERVICE: ServiceId = ServiceId(u32::MAX);

/// A rule: who leaves by an address of the director's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeRule {
    /// Sources.
    pub from: IpNet,
    /// Destinations; none for all.
    pub to: Option<IpNet>,
    /// Destinations that are left alone.
    pub except: Option<IpNet>,
    /// The NIC that packets go out by; none for all.
    pub nic: Option<NicId>,
    /// The address; none for the first one of the NIC that they go out by.
    pub address: Option<IpAddr>,
}

/// What an address of a masquerade is known by among real servers.
#[must_use]
pub const fn key(address: IpAddr) -> (ServiceId, SocketAddr) {
    (SERVICE, SocketAddr::new(address, 0))
}

/// The rules of one address family, in order.
#[derive(Clone, Debug)]
pub struct Masquerade<A: Address> {
    rules: Vec<Rule<A>>,
    addresses: HashMap<A, RealId, RandomState>,
}

#[derive(Clone, Debug)]
struct Rule<A> {
    from: (A, u8),
    to: (A, u8),
    except: Option<(A, u8)>,
    nic: Option<NicId>,
    address: A,
}

/// The address that a packet leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave<A> {
    /// The address.
    pub address: A,
    /// What counts its connections.
    pub real: RealId,
    /// True when the rule is for everybody, so that it does not tell who is behind the director.
    pub everybody: bool,
}

impl<A: Address> Default for Masquerade<A> {
    fn default() -> Self {
        Self { rules: Vec::new(), addresses: HashMap::default() }
    }
}

fn prefix<A: Address>(network: IpNet) -> Option<(A, u8)> {
    Some((A::from_ip(network.network())?, network.prefix_len()))
}

fn holds<A: Address>(prefix: (A, u8), address: A) -> bool {
    address.masked(prefix.1) == prefix.0
}

impl<A: Address> Masquerade<A> {
    /// Adds a rule behind all others, unless it is of the other family. `nics` are the first addresses of the NICs, for a rule
    /// that names none.
    pub fn push(&mut self, rule: &MasqueradeRule, nics: &[Option<A>]) {
        let Some(from) = prefix(rule.from) else { return };
        let to = match rule.to {
            None => Some((A::UNSPECIFIED, 0)),
            Some(to) => prefix(to),
        };
        let Some(to) = to else { return };
        let except = rule.except.and_then(prefix);
        let mut push = |nic, address| self.rules.push(Rule { from, to, except, nic, address });
        match rule.address {
            Some(address) => A::from_ip(address).into_iter().for_each(|address| push(rule.nic, address)),
            None => (0..=u8::MAX).map(NicId).zip(nics).for_each(|(nic, address)| {
                if let Some(address) = address.filter(|_| rule.nic.is_none_or(|wanted| wanted == nic)) {
                    push(Some(nic), address);
                }
            }),
        }
    }

    /// The addresses of all rules, to be numbered.
    pub fn addresses(&self) -> impl Iterator<Item = A> {
        self.rules.iter().map(|rule| rule.address)
    }

    /// Gives an address its number.
    pub fn number(&mut self, address: A, real: RealId) {
        self.addresses.insert(address, real);
    }

    /// True when nobody is masqueraded.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// True for an address that somebody leaves by.
    #[must_use]
    pub fn has(&self, address: A) -> bool {
        self.addresses.contains_key(&address)
    }

    /// The address by which a packet leaves that goes out by `nic`, by the first rule that holds; none when it leaves as
    /// it is.
    #[must_use]
    pub fn find(&self, source: A, destination: A, nic: NicId) -> Option<Leave<A>> {
        let rule = self.rules.iter().find(|rule| {
            holds(rule.from, source)
                && holds(rule.to, destination)
                && !rule.except.is_some_and(|except| holds(except, destination))
                && rule.nic.is_none_or(|wanted| wanted == nic)
        })?;
        let everybody = rule.from.1 == 0;
        Some(Leave { address: rule.address, real: *self.addresses.get(&rule.address)?, everybody })
    }
}

/// The port that is tried as number `attempt`: all of [`PORTS`] in an order that depends on `hash`, with which
/// connections begin at different ones (RFC 6056, 3.3.3).
#[must_use]
pub const fn candidate_port(hash: u64, attempt: u32) -> u16 {
    let step = (hash >> 32) as u32 | 1;
    let place = (hash as u32).wrapping_add(attempt.wrapping_mul(step)) % PORTS_COUNT;
    *PORTS.start() + place as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    #[test]
    fn every_port_has_its_turn_once() {
        for hash in [0, u64::MAX, 0x1234_5678_9abc_def0] {
            let ports: HashSet<u16> = (0..PORTS_COUNT).map(|attempt| candidate_port(hash, attempt)).collect();
            assert_eq!(ports.len() as u32, PORTS_COUNT);
            assert!(ports.iter().all(|port| PORTS.contains(port)));
        }
    }

    #[test]
    fn the_first_rule_that_holds_has_its_way() {
        let rule = |from: &str, to: Option<&str>, except: Option<&str>, nic, address: Option<&str>| {
            let net = |text: &str| text.parse().unwrap();
            let address = address.map(|text| text.parse().unwrap());
            MasqueradeRule { from: net(from), to: to.map(net), except: except.map(net), nic, address }
        };
        let own = [Some(Ipv4Addr::new(192, 0, 2, 2)), None, Some(Ipv4Addr::new(10, 0, 0, 2))];
        let mut table = Masquerade::<Ipv4Addr>::default();
        table.push(&rule("10.0.0.7/32", None, None, None, Some("192.0.2.7")), &own);
        table.push(&rule("10.0.0.0/24", Some("198.51.100.0/24"), None, None, Some("192.0.2.8")), &own);
        table.push(&rule("10.0.0.0/24", None, Some("10.0.0.0/8"), None, None), &own);
        table.push(&rule("2001:db8::/64", None, None, None, None), &own);
        for (number, address) in (0..).zip(table.addresses().collect::<Vec<_>>()) {
            table.number(address, RealId(number));
        }
        let leaves = |source: &str, destination: &str, nic| {
            let leave = table.find(source.parse().unwrap(), destination.parse().unwrap(), NicId(nic));
            leave.map(|leave| leave.address.to_string())
        };
        assert_eq!(leaves("10.0.0.7", "203.0.113.9", 0).as_deref(), Some("192.0.2.7"));
        assert_eq!(leaves("10.0.0.8", "198.51.100.1", 1).as_deref(), Some("192.0.2.8"));
        assert_eq!(leaves("10.0.0.8", "203.0.113.9", 0).as_deref(), Some("192.0.2.2"));
        assert_eq!(leaves("10.0.0.8", "203.0.113.9", 2).as_deref(), Some("10.0.0.2"));
        assert_eq!(leaves("10.0.0.8", "203.0.113.9", 1), None);
        assert_eq!(leaves("10.0.0.8", "10.9.0.1", 0), None);
        assert_eq!(leaves("10.0.1.8", "203.0.113.9", 0), None);
        assert!(table.has(Ipv4Addr::new(10, 0, 0, 2)) && !table.has(Ipv4Addr::new(10, 0, 0, 3)));
    }
}
