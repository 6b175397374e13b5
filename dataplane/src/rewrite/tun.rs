//! Tunnelling: the packet travels inside another IP packet (kernel: `ip_vs_tunnel_xmit`; RFC 2003, RFC 2473).

use std::net::IpAddr;

use crate::packet::Packet;
use crate::wire::{Headers, IpHeader, IpVersion, ethernet};

/// ECN bits of a traffic class (RFC 3168, 5).
const ECN: u8 = 0x03;
/// ECN: congestion experienced.
const CONGESTION: u8 = 0x03;
/// ECN: capable transport (0).
const CAPABLE: u8 = 0x02;

/// Bytes that the outer header takes.
#[must_use]
pub const fn overhead(destination: IpAddr) -> u16 {
    match destination {
        IpAddr::V4(_) => <std::net::Ipv4Addr as IpVersion>::HEADER as u16,
        IpAddr::V6(_) => <std::net::Ipv6Addr as IpVersion>::HEADER as u16,
    }
}

/// Puts an IP header from `source` to `destination`, which are of one family, in front of the packet, whose
/// TTL was decremented already; padding goes. Afterwards the frame begins with room for an Ethernet header of
/// unknown content. The outer packet has the inner one's TTL, DF, DSCP and, but for congestion that it
/// experienced, ECN (RFC 3168, 9.1.1); without `pmtu_disc` no DF. `identification` is used where DF is not set. False, and nothing done,
/// when there is no head room or the families differ.
#[inline]
#[must_use]
pub fn encapsulate<A: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    source: IpAddr,
    destination: IpAddr,
    identification: u16,
    pmtu_disc: bool,
) -> bool {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            wrap(packet, headers, source, destination, identification, pmtu_disc)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            wrap(packet, headers, source, destination, identification, pmtu_disc)
        }
        _ => false,
    }
}

#[inline]
fn wrap<Inner: IpVersion, Outer: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<Inner>,
    source: Outer,
    destination: Outer,
    identification: u16,
    pmtu_disc: bool,
) -> bool {
    let frame = packet.bytes();
    let traffic_class = Inner::traffic_class(frame, headers);
    // The outer DF says what the sender said of an IPv4 packet. IPv6 has no such bit and is measured before
    // it gets here.
    let dont_fragment = pmtu_disc && Inner::BITS == 32 && Inner::dont_fragment(frame, headers);
    let header = IpHeader {
        source,
        destination,
        protocol: Inner::TUNNEL_PROTOCOL,
        ttl: Inner::ttl(frame, headers),
        traffic_class: outer_traffic_class(traffic_class),
        identification: if dont_fragment { 0 } else { identification },
        dont_fragment,
    };
    if !packet.prepend(Outer::HEADER) {
        return false;
    }
    packet.truncate(usize::from(headers.end) + Outer::HEADER);
    if let Some(outer) = packet.bytes_mut().get_mut(ethernet::HEADER..) {
        Outer::write_header(outer, &header);
    }
    true
}

/// DSCP and ECN of the outer header (kernel: `INET_ECN_encapsulate`).
const fn outer_traffic_class(inner: u8) -> u8 {
    if inner & ECN == CONGESTION { inner & !ECN | CAPABLE } else { inner }
}
