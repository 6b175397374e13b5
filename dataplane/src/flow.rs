//! The 5-tuple of a packet, its keyed hash, and which worker owns it.

use crate::address::Address;
use crate::id::{L4Port, Protocol, WorkerId};

/// A 5-tuple as it stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: L4Port,
    /// Destination port.
    pub destination_port: L4Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl<A: Address> Flow<A> {
    /// The flow of the packets that answer this one.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// The secret of one run of the director: without it nobody can choose addresses that collide.
#[derive(Clone, Copy, Debug)]
pub struct HashKey([u64; 4]);

impl HashKey {
    /// A key made of four random words, drawn once at start.
    #[must_use]
    pub const fn new(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// A key from the operating system's randomness.
    #[must_use]
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let state = RandomState::new();
        Self(std::array::from_fn(|word| state.hash_one(word)))
    }

    /// The hash of a flow. 64 good bits: the connection table takes the place from the low ones and the tag
    /// from the high ones.
    #[inline]
    #[must_use]
    pub fn flow<A: Address>(&self, flow: &Flow<A>) -> u64 {
        let [source, source_low] = flow.source.words();
        let [destination, destination_low] = flow.destination.words();
        let ports = u32::from(flow.source_port.0) << 16 | u32::from(flow.destination_port.0);
        let ports = u64::from(flow.protocol.number()) << 32 | u64::from(ports);
        let [a, b, c, d] = self.0;
        let addresses = if A::BITS > 32 {
            fold(source ^ c, destination ^ d) ^ fold(source_low ^ a, destination_low ^ b).rotate_left(32)
        } else {
            source << 32 | destination
        };
        fold(fold(addresses ^ a, ports ^ b) ^ c, d)
    }

    /// The hash of a client's address, by which workers own flows.
    #[inline]
    #[must_use]
    pub fn client<A: Address>(&self, client: A) -> u64 {
        let [high, low] = client.words();
        let [a, b, c, d] = self.0;
        fold(fold(high ^ b, c ^ low) ^ d, a)
    }
}

/// Multiplies to 128 bits and folds the halves together.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

/// Which worker owns a client: a keyed hash of its address, masked to the shortest persistence netmask.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    /// How many workers there are, at least 1.
    pub workers: u8,
    /// Bits of an IPv4 client address that count.
    pub netmask_v4: u8,
    /// Bits of an IPv6 client address that count.
    pub netmask_v6: u8,
    /// The key of this run.
    pub key: HashKey,
}

impl Owners {
    /// The worker that owns all connections of `client`.
    #[inline]
    #[must_use]
    pub fn of<A: Address>(&self, client: A) -> WorkerId {
        let netmask = if A::BITS > 32 { self.netmask_v6 } else { self.netmask_v4 };
        let hash = self.key.client(client.masked(netmask)) >> 32;
        WorkerId(((hash * u64::from(self.workers)) >> 32) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn flow<A>(source: A, destination: A, source_port: u16) -> Flow<A> {
        Flow {
            source,
            destination,
            source_port: L4Port(source_port),
            destination_port: L4Port(80),
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn every_field_counts() {
        let key = HashKey::new([1, 2, 3, 4].map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let base = flow(a, b, 1000);
        let (c, d): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "2001:db8:1::1".parse().unwrap());
        let base6 = flow(c, d, 1000);
        let mut hashes = HashSet::new();
        for other in [
            base,
            flow(b, b, 1000),
            flow(a, a, 1000),
            flow(a, b, 1001),
            base.reversed(),
            Flow { protocol: Protocol::Udp, ..base },
        ] {
            assert!(hashes.insert(key.flow(&other)), "{other:?}");
        }
        for other in [
            base6,
            flow(d, d, 1000),
            flow(c, c, 1000),
            flow(d, c, 1000),
            base6.reversed(),
            Flow { protocol: Protocol::Udp, ..base6 },
        ] {
            assert!(hashes.insert(key.flow(&other)), "{other:?}");
        }
    }

    #[test]
    fn low_and_high_bits_are_spread() {
        let key = HashKey::random();
        let mut low = [0_u32; 64];
        let mut high = [0_u32; 64];
        for n in 0..64_000_u32 {
            let hash =
                key.flow(&flow(Ipv4Addr::from_bits(0x0a00_0000 + n), Ipv4Addr::new(192, 0, 2, 10), 1024));
            low[(hash & 63) as usize] += 1;
            high[(hash >> 58) as usize] += 1;
        }
        for count in low.into_iter().chain(high) {
            assert!((800..1200).contains(&count), "{count}");
        }
    }

    #[test]
    fn owners_share_clients_and_obey_the_netmask() {
        let owners = Owners { workers: 3, netmask_v4: 24, netmask_v6: 64, key: HashKey::random() };
        let mut counts = [0_u32; 3];
        for net in 0..3000_u32 {
            let owner = owners.of(Ipv4Addr::from_bits(net << 8));
            assert_eq!(owner, owners.of(Ipv4Addr::from_bits(net << 8 | 77)));
            counts[owner.index()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
