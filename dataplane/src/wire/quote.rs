//! What an ICMP error quotes: the beginning of the packet that it is about (RFC 792; RFC 4443, 3).

use super::{Fragment, Headers, IpVersion, Options, TcpFlags, array, icmp};
use crate::id::L4Port;

/// An IP header inside a packet, as a version of IP reads it.
#[derive(Clone, Copy, Debug)]
pub struct Inner<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Bytes of the header, with extension headers.
    pub length: usize,
    /// Protocol or next header, after all extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
}

/// The headers of the packet that an ICMP error quotes; none when it quotes too little.
#[must_use]
pub fn quoted<A: IpVersion>(frame: &[u8], headers: &Headers<A>) -> Option<Headers<A>> {
    inside(frame, headers, usize::from(headers.transport) + icmp::HEADER)
}

/// The headers of a packet that starts at `at` and goes to the end of the one around it, whatever length it tells; none
/// when it is cut before its ports, which are 0 where there are none.
#[must_use]
pub fn inside<A: IpVersion>(frame: &[u8], outer: &Headers<A>, at: usize) -> Option<Headers<A>> {
    let packet = frame.get(at..usize::from(outer.end))?;
    let inner = A::read_header(packet)?;
    let has_ports = inner.fragment != Fragment::Later && matches!(inner.protocol, 6 | 17 | 132);
    let [a, b, c, d] = if has_ports { array(packet, inner.length)? } else { [0; 4] };
    Some(Headers {
        source: inner.source,
        destination: inner.destination,
        source_port: L4Port(u16::from_be_bytes([a, b])),
        destination_port: L4Port(u16::from_be_bytes([c, d])),
        network: at as u16,
        transport: (at + inner.length) as u16,
        end: outer.end,
        ttl: inner.ttl,
        protocol: inner.protocol,
        tcp_flags: TcpFlags::default(),
        fragment: inner.fragment,
        link_group: false,
        options: Options::NONE,
    })
}
