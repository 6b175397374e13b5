//! Tunnelling: the packet travels inside another IP packet (kernel: `ip_vs_tunnel_xmit`; RFC 2003, RFC 2473, RFC 2784).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::id::{L4Port, Protocol};
use crate::packet::Packet;
use crate::service::tunnel::{GUE_HEADER, Tunnel, TunnelChecksum};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::{Headers, IpHeader, IpVersion, ethernet, ipv4, put, udp};

/// ECN bits of a traffic class (RFC 3168, 5).
const ECN: u8 = 0x03;
/// ECN: congestion experienced.
const CONGESTION: u8 = 0x03;
/// ECN: capable transport (0).
const CAPABLE: u8 = 0x02;
/// The protocol number of GRE.
pub const GRE: u8 = 47;
/// The first of the ports that GUE's packets come from; there are as many as the lower bits count.
const GUE_SOURCE_PORTS: u16 = 0xc000;

/// Bytes that the outer headers take.
#[must_use]
pub const fn overhead(destination: IpAddr, tunnel: Tunnel) -> u16 {
    let outer = match destination {
        IpAddr::V4(_) => <Ipv4Addr as IpVersion>::HEADER,
        IpAddr::V6(_) => <Ipv6Addr as IpVersion>::HEADER,
    };
    (outer + tunnel.header()) as u16
}

/// The outside of a tunnel's packet.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Where the tunnel begins.
    pub source: IpAddr,
    /// Where it ends; of the same family.
    pub destination: IpAddr,
    /// What the packet travels in.
    pub tunnel: Tunnel,
    /// Used where DF is not set.
    pub identification: u16,
    /// The outer packet has the inner one's DF.
    pub pmtu_disc: bool,
}

/// Puts the headers of a tunnel in front of the packet, whose TTL was decremented already; padding goes. Afterwards the
/// frame begins with room for an Ethernet header of unknown content. The outer packet has the inner one's TTL, DF, DSCP
/// and, but for congestion that it experienced, ECN (RFC 3168, 9.1.1). False, and nothing done, when there is no head
/// room or the families of the tunnel's ends differ.
#[inline(always)]
#[must_use]
pub fn encapsulate<A: IpVersion>(packet: &mut Packet<'_>, headers: &Headers<A>, outer: &Outer) -> bool {
    match (outer.source, outer.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => wrap(packet, headers, source, destination, outer),
        (IpAddr::V6(source), IpAddr::V6(destination)) => wrap(packet, headers, source, destination, outer),
        _ => false,
    }
}

/// Puts a frame that the director itself made, and that no connection carries, into a tunnel as [`encapsulate`] does; the outer
/// packet has `ttl` whatever the one inside has. False, and nothing done, when the frame is no IP packet, too.
#[cold]
#[must_use]
pub fn enclose(packet: &mut Packet<'_>, outer: &Outer, ttl: u8) -> bool {
    let enclosed = match ethernet::ethertype(packet.bytes()) {
        Some(ethernet::IPV4) => enclose_parsed::<Ipv4Addr>(packet, outer),
        Some(ethernet::IPV6) => enclose_parsed::<Ipv6Addr>(packet, outer),
        _ => false,
    };
    let Some(header) = packet.bytes_mut().get_mut(ethernet::HEADER..).filter(|_| enclosed) else {
        return false;
    };
    if outer.destination.is_ipv6() {
        put(header, Ipv6Addr::TTL, [ttl]);
    } else if let Some(header) = header.first_chunk_mut::<{ ipv4::HEADER }>() {
        put(header, Ipv4Addr::TTL, [ttl]);
        put(header, ipv4::field::CHECKSUM, [0; 2]);
        let checksum = Sum::of(header).checksum();
        put(header, ipv4::field::CHECKSUM, checksum.to_be_bytes());
    }
    true
}

fn enclose_parsed<Inner: IpVersion>(packet: &mut Packet<'_>, outer: &Outer) -> bool {
    Inner::parse_large(packet.bytes()).is_ok_and(|headers| encapsulate(packet, &headers, outer))
}

#[inline(always)]
fn wrap<Inner: IpVersion, Ip: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<Inner>,
    source: Ip,
    destination: Ip,
    outer: &Outer,
) -> bool {
    let frame = packet.bytes();
    let traffic_class = Inner::traffic_class(frame, headers);
    // The outer DF says what the sender said of an IPv4 packet. IPv6 has no such bit and is measured before
    // it gets here.
    let dont_fragment = outer.pmtu_disc && Inner::BITS == 32 && Inner::dont_fragment(frame, headers);
    let header = IpHeader {
        source,
        destination,
        protocol: Inner::TUNNEL_PROTOCOL,
        ttl: Inner::ttl(frame, headers),
        traffic_class: outer_traffic_class(traffic_class),
        identification: if dont_fragment { 0 } else { outer.identification },
        dont_fragment,
    };
    if outer.tunnel != Tunnel::Ipip {
        return wrap_further(packet, &{ *headers }, header, outer.tunnel);
    }
    if !packet.prepend(Ip::HEADER) {
        return false;
    }
    packet.truncate(usize::from(headers.end) + Ip::HEADER);
    write_outer(packet, &header);
    true
}

/// Writes the outer IP header behind the room for an Ethernet header.
#[inline(always)]
fn write_outer<Ip: IpVersion>(packet: &mut Packet<'_>, header: &IpHeader<Ip>) {
    if let Some(bytes) = packet.bytes_mut().get_mut(ethernet::HEADER..) {
        Ip::write_header(bytes, header);
    }
}

/// A tunnel with headers of its own behind the outer IP header.
#[cold]
fn wrap_further<Inner: IpVersion, Ip: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<Inner>,
    mut header: IpHeader<Ip>,
    tunnel: Tunnel,
) -> bool {
    let front = Ip::HEADER + tunnel.header();
    if !packet.prepend(front) {
        return false;
    }
    packet.truncate(usize::from(headers.end) + front);
    let port = source_port(headers);
    let Some(place) = packet.bytes_mut().get_mut(ethernet::HEADER + Ip::HEADER..) else { return false };
    header.protocol = match tunnel {
        Tunnel::Gue { l4_port, checksum } => {
            let sum = (checksum != TunnelChecksum::None).then_some((header.source, header.destination));
            write_gue::<Inner, Ip>(place, (port, l4_port), sum)
        }
        Tunnel::Gre { checksum } => write_gre::<Inner>(place, checksum),
        Tunnel::Ipip => Inner::TUNNEL_PROTOCOL,
    };
    write_outer(packet, &header);
    true
}

/// A port that packets of one flow share, so that routers spread flows and keep each in order.
fn source_port<A: IpVersion>(headers: &Headers<A>) -> L4Port {
    let ports = u32::from(headers.source_port.0) << 16 | u32::from(headers.destination_port.0);
    let sum = Sum::ZERO.address(headers.source).address(headers.destination).number(ports).fold();
    L4Port(GUE_SOURCE_PORTS | sum.wrapping_mul(0x9e35) >> 2)
}

/// Writes a GRE header (RFC 2784, 2.1) in front of the packet that `bytes` hold behind it; gives its protocol number.
#[cold]
fn write_gre<Inner: IpVersion>(bytes: &mut [u8], checksum: bool) -> u8 {
    const CHECKSUM_PRESENT: u16 = 0x8000;
    let flags = if checksum { CHECKSUM_PRESENT } else { 0 };
    put(bytes, 0, flags.to_be_bytes());
    put(bytes, 2, Inner::ETHERTYPE.to_be_bytes());
    if checksum {
        put(bytes, 4, [0; 4]);
        let checksum = Sum::of(bytes).checksum();
        put(bytes, 4, checksum.to_be_bytes());
    }
    GRE
}

/// Writes UDP and GUE headers in front of the packet that `bytes` hold behind them, with a checksum when the outer
/// addresses are given; gives the protocol number.
#[cold]
fn write_gue<Inner: IpVersion, Ip: IpVersion>(
    bytes: &mut [u8],
    (source_port, destination_port): (L4Port, L4Port),
    sum: Option<(Ip, Ip)>,
) -> u8 {
    let length = bytes.len() as u16;
    // Version 0, data, no options; what is inside.
    let gue: [u8; GUE_HEADER] = [0, Inner::TUNNEL_PROTOCOL, 0, 0];
    put(bytes, udp::HEADER, gue);
    put(bytes, udp::field::SOURCE_PORT, source_port.0.to_be_bytes());
    put(bytes, udp::field::DESTINATION_PORT, destination_port.0.to_be_bytes());
    put(bytes, udp::field::LENGTH, length.to_be_bytes());
    put(bytes, udp::field::CHECKSUM, [0; 2]);
    if let Some((source, destination)) = sum {
        let sum = pseudo_header(source, destination, Protocol::Udp.number(), u32::from(length)).bytes(bytes);
        put(bytes, udp::field::CHECKSUM, udp::written(sum.checksum()).to_be_bytes());
    }
    Protocol::Udp.number()
}

/// DSCP and ECN of the outer header (kernel: `INET_ECN_encapsulate`).
const fn outer_traffic_class(inner: u8) -> u8 {
    if inner & ECN == CONGESTION { inner & !ECN | CAPABLE } else { inner }
}
