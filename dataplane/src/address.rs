//! IPv4 and IPv6 addresses under one trait, so that the data path is written once for both.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The two versions of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// An address of one family.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Display + Into<IpAddr> + Send + Sync + 'static {
    /// The family.
    const FAMILY: Family;
    /// Bits in an address.
    const BITS: u8;
    /// The address of no host: 0.0.0.0 or ::.
    const UNSPECIFIED: Self;
    /// The address of which every bit is set: what masks are made of.
    const ALL_ONES: Self;
    /// Holds nothing; its alignment is the size of a connection's entry, so that no entry straddles a cache line.
    type EntryAlignment: Copy + Debug + Send + Sync + 'static;

    /// The address, if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// Two words that hold the address; the second is 0 for IPv4. What hashing reads.
    fn words(self) -> [u64; 2];

    /// True when `a` is `b` and `c` is `d`; asked at once, since they nearly always are.
    fn are_equal(a: Self, b: Self, c: Self, d: Self) -> bool;

    /// The address with all but the first `length` bits cleared; `length` above [`Self::BITS`] keeps all.
    #[must_use]
    fn masked(self, length: u8) -> Self;

    /// True for an address that may stand as the source of a packet from outside: not unspecified, not
    /// loopback, not multicast, not broadcast (RFC 1812, 5.3.7; RFC 4291, 2.5 and 2.7).
    fn is_valid_source(self) -> bool;

    /// True for an address that a packet may be sent to: neither that of no host nor loopback (RFC 1122, 3.2.1.3; RFC
    /// 4291, 2.5).
    fn is_valid_destination(self) -> bool;

    /// True for addresses that mean something on one link only and are never routed (RFC 3927, 7; RFC 4291, 2.5.6).
    fn is_link_local(self) -> bool;

    /// True for an address that is another host's on each link, so that it means something only beside a NIC (RFC 4007, 4): IPv6's
    /// link-local ones. Those of IPv4 are taken for addresses like any other, as the kernel takes them.
    fn is_of_one_link(self) -> bool;

    /// True for multicast, and for IPv4 the limited broadcast address.
    fn is_group(self) -> bool;
}

/// Aligns what an IPv4 connection needs.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct HalfCacheLine;

/// Aligns what an IPv6 connection needs.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct CacheLine;

impl Address for Ipv4Addr {
    type EntryAlignment = HalfCacheLine;
    const FAMILY: Family = Family::V4;
    const BITS: u8 = 32;
    const UNSPECIFIED: Self = Ipv4Addr::UNSPECIFIED;
    const ALL_ONES: Self = Ipv4Addr::from_bits(u32::MAX);

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    #[inline]
    fn words(self) -> [u64; 2] {
        [u64::from(self.to_bits()), 0]
    }

    #[inline(always)]
    fn are_equal(a: Self, b: Self, c: Self, d: Self) -> bool {
        (a.to_bits() ^ b.to_bits()) | (c.to_bits() ^ d.to_bits()) == 0
    }

    #[inline]
    fn masked(self, length: u8) -> Self {
        let host = 32 - u32::from(length.min(32));
        Self::from_bits(self.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0))
    }

    #[inline]
    fn is_valid_source(self) -> bool {
        let first = self.octets()[0];
        first != 0 && first != 127 && first < 224
    }

    #[inline]
    fn is_valid_destination(self) -> bool {
        self.octets()[0] != 0 && !self.is_loopback()
    }

    #[inline]
    fn is_link_local(self) -> bool {
        Ipv4Addr::is_link_local(&self)
    }

    #[inline(always)]
    fn is_of_one_link(self) -> bool {
        false
    }

    #[inline]
    fn is_group(self) -> bool {
        self.is_multicast() || self.is_broadcast()
    }
}

impl Address for Ipv6Addr {
    type EntryAlignment = CacheLine;
    const FAMILY: Family = Family::V6;
    const BITS: u8 = 128;
    const UNSPECIFIED: Self = Ipv6Addr::UNSPECIFIED;
    const ALL_ONES: Self = Ipv6Addr::from_bits(u128::MAX);

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    #[inline]
    fn words(self) -> [u64; 2] {
        let bits = self.to_bits();
        [(bits >> 64) as u64, bits as u64]
    }

    #[inline(always)]
    fn are_equal(a: Self, b: Self, c: Self, d: Self) -> bool {
        (a.to_bits() ^ b.to_bits()) | (c.to_bits() ^ d.to_bits()) == 0
    }

    #[inline]
    fn masked(self, length: u8) -> Self {
        let host = 128 - u32::from(length.min(128));
        Self::from_bits(self.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0))
    }

    #[inline]
    fn is_valid_source(self) -> bool {
        !self.is_unspecified() && !self.is_loopback() && !self.is_multicast()
    }

    #[inline]
    fn is_valid_destination(self) -> bool {
        !self.is_unspecified() && !self.is_loopback()
    }

    #[inline]
    fn is_link_local(self) -> bool {
        self.is_unicast_link_local()
    }

    #[inline]
    fn is_of_one_link(self) -> bool {
        self.is_unicast_link_local()
    }

    #[inline]
    fn is_group(self) -> bool {
        self.is_multicast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let v4: Ipv4Addr = "198.51.100.77".parse().unwrap();
        for (length, want) in
            [(0, "0.0.0.0"), (24, "198.51.100.0"), (32, "198.51.100.77"), (40, "198.51.100.77")]
        {
            assert_eq!(v4.masked(length).to_string(), want);
        }
        let v6: Ipv6Addr = "2001:db8:c::77".parse().unwrap();
        for (length, want) in [(0, "::"), (32, "2001:db8::"), (128, "2001:db8:c::77")] {
            assert_eq!(v6.masked(length).to_string(), want);
        }
    }

    #[test]
    fn sources() {
        for (text, valid) in [
            ("10.0.0.1", true),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("224.0.0.18", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(text.parse::<Ipv4Addr>().unwrap().is_valid_source(), valid, "{text}");
        }
        for (text, valid) in
            [("2001:db8::1", true), ("fe80::1", true), ("::", false), ("::1", false), ("ff02::1", false)]
        {
            assert_eq!(text.parse::<Ipv6Addr>().unwrap().is_valid_source(), valid, "{text}");
        }
    }
}
