//! ICMP for IPv4 (RFC 792) and for IPv6 (RFC 4443).

use super::checksum::{Sum, pseudo_header};
use super::{IpVersion, put};
use crate::reason::{Evidence, ReplyKind};

/// Bytes of a header: type, code, checksum and a word that depends on the type.
pub const HEADER: usize = 8;
/// The protocol number of ICMP.
pub const V4: u8 = 1;
/// The protocol number of ICMPv6.
pub const V6: u8 = 58;

/// Offsets in the header.
pub mod field {
    /// Type.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum.
    pub const CHECKSUM: usize = 2;
    /// The word that depends on the type.
    pub const WORD: usize = 4;
}

/// The errors that the director tells a sender of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// No route to the destination (IPv4: 3/0; IPv6: 1/0).
    NetUnreachable,
    /// Nobody speaks that protocol here (IPv4: 3/2; IPv6: 4/1, which points at the number of that protocol).
    ProtocolUnreachable,
    /// Nobody listens at that port (IPv4: 3/3; IPv6: 1/4).
    PortUnreachable,
    /// The TTL or hop limit ran out (IPv4: 11/0; IPv6: 3/0).
    TimeExceeded,
    /// Fragments of a datagram did not come in time (IPv4: 11/1; IPv6: 3/1).
    ReassemblyTimeExceeded,
    /// Larger than the way on allows (IPv4: 3/4; IPv6: 2/0).
    TooBig {
        /// Bytes of the largest IP packet that passes.
        mtu: u16,
    },
    /// The way to the host is not known (IPv4: 3/1; IPv6: 1/3).
    HostUnreachable,
    /// A byte of the header is wrong (IPv4: 12/0; IPv6: 4/0).
    ParameterProblem {
        /// Which one, counted from the start of the IP header.
        at: u16,
    },
    /// An option that nobody here knows, and whose sender wants to be told (IPv6: 4/2).
    UnknownOption {
        /// Where it begins, counted from the start of the IP header.
        at: u16,
    },
    /// A datagram's first fragment lacks a part of its headers (RFC 7112; IPv6: 4/3).
    IncompleteHeaders {
        /// Where the datagram is wrong: at its begin.
        at: u16,
    },
    /// What another router told, passed on.
    Told {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The word that depends on the type.
        word: u32,
    },
}

impl Error {
    /// How a reply with this error is counted.
    #[must_use]
    pub const fn reply_kind(self) -> ReplyKind {
        match self {
            Self::NetUnreachable => ReplyKind::NetUnreachable,
            Self::ProtocolUnreachable => ReplyKind::ProtocolUnreachable,
            Self::PortUnreachable => ReplyKind::PortUnreachable,
            Self::TimeExceeded => ReplyKind::TimeExceeded,
            Self::ReassemblyTimeExceeded => ReplyKind::ReassemblyTimeExceeded,
            Self::TooBig { .. } => ReplyKind::TooBig,
            Self::HostUnreachable => ReplyKind::HostUnreachable,
            Self::ParameterProblem { .. } | Self::UnknownOption { .. } | Self::IncompleteHeaders { .. } => {
                ReplyKind::ParameterProblem
            }
            Self::Told { .. } => ReplyKind::Tunnel,
        }
    }
}

/// True for the ICMP types that ask for something or answer, or that discover; errors about anything else
/// than them may be told. Types that are not known count as errors (RFC 1122, 3.2.2; RFC 4443, 2.4e).
#[must_use]
pub const fn is_query<A: IpVersion>(kind: u8) -> bool {
    if A::BITS > 32 {
        // Redirects speak of another packet, as errors do.
        kind >= 128 && kind != 137
    } else {
        matches!(kind, 0 | 8 | 9 | 10 | 13..=18)
    }
}

/// True for the ICMP errors that concern a connection whose packet they quote (kernel: `ip_vs_in_icmp`): destination
/// unreachable, source quench and time exceeded; of ICMPv6 every error.
#[must_use]
pub const fn tells_of_a_packet<A: IpVersion>(kind: u8) -> bool {
    if A::BITS > 32 { kind < 128 } else { matches!(kind, 3 | 4 | 11) }
}

/// What an ICMP error of this type and code says about how its packet fared on its way to a real server; none for what is wrong with
/// the packet alone, its length for one.
#[must_use]
pub const fn evidence<A: IpVersion>(kind: u8, code: u8) -> Option<Evidence> {
    const FRAGMENTATION_NEEDED: u8 = 4;
    match (A::BITS > 32, kind, code) {
        (false, 3, FRAGMENTATION_NEEDED) => None,
        (false, 3, _) | (true, 1, _) => Some(Evidence::Unreachable),
        (false, 11, 0) | (true, 3, 0) => Some(Evidence::TimeExceeded),
        _ => None,
    }
}

/// Writes type, code and word of the message that `bytes` hold, and its checksum.
pub fn write<A: IpVersion>(bytes: &mut [u8], source: A, destination: A, kind: u8, code: u8, word: u32) {
    put(bytes, field::TYPE, [kind, code, 0, 0]);
    put(bytes, field::WORD, word.to_be_bytes());
    let checksum = checksum(bytes, source, destination);
    put(bytes, field::CHECKSUM, checksum.to_be_bytes());
}

/// The checksum of a message whose checksum field is 0.
#[must_use]
pub fn checksum<A: IpVersion>(bytes: &[u8], source: A, destination: A) -> u16 {
    let sum = if A::BITS > 32 {
        pseudo_header(source, destination, A::ICMP_PROTOCOL, bytes.len() as u32)
    } else {
        Sum::ZERO
    };
    sum.bytes(bytes).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn queries_and_errors() {
        for (kind, v4, v6) in [
            (0, true, false),
            (3, false, false),
            (5, false, false),
            (8, true, false),
            (11, false, false),
            (42, false, false),
            (128, false, true),
            (135, false, true),
            (137, false, false),
        ] {
            assert_eq!(is_query::<Ipv4Addr>(kind), v4, "{kind}");
            assert_eq!(is_query::<Ipv6Addr>(kind), v6, "{kind}");
        }
    }

    #[test]
    fn the_v6_checksum_covers_the_addresses() {
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let mut bytes = [0xa5; 13];
        write(&mut bytes, a, b, 128, 0, 0x0001_0001);
        assert!(pseudo_header(a, b, V6, 13).bytes(&bytes).holds());
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        write(&mut bytes, a, b, 8, 0, 0x0001_0001);
        assert!(Sum::of(&bytes).holds());
    }
}
