//! IPv6 headers and their extensions (RFC 8200).

use std::net::Ipv6Addr;
use std::ops::Range;

use super::checksum::Sum;
use super::ip::{IpHeader, IpVersion};
use super::ipv6_options::{Refused, check_as_host, check_hop_by_hop};
use super::quote::Inner;
use super::{
    Fragment, Headers, LARGEST_PACKET, Options, array, cut_transport, ethernet, icmp, put, transport,
};
use crate::reason::DropReason;
use crate::reassembly::{Key, Part};

/// Bytes of a header without extensions.
pub const HEADER: usize = 40;
/// How many extension headers are followed.
pub const EXTENSION_HEADERS: usize = 8;

/// Bytes that every link takes (RFC 8200, 5).
pub const SMALLEST_MTU: u16 = 1280;
/// The number of the fragment header.
pub const FRAGMENT: u8 = extension::FRAGMENT;
/// The number that says that nothing follows.
pub const NO_NEXT_HEADER: u8 = 59;
/// Where the payload's length stands in the header.
pub const PAYLOAD_LENGTH: u16 = field::PAYLOAD_LENGTH as u16;
/// Bytes of the fragment header.
pub const FRAGMENT_HEADER: usize = 8;

/// Offsets in the header.
pub mod field {
    /// Version, traffic class and flow label.
    pub const VERSION: usize = 0;
    /// Bytes after the header.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Next header.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SOURCE: usize = 8;
    /// Destination address.
    pub const DESTINATION: usize = 24;
}

/// Numbers of extension headers.
pub(super) mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
}

/// Checks an IPv6 frame, all but for its addresses. Second half of [`super::parse`].
#[inline(always)]
pub(crate) fn parse(frame: &[u8], link_group: bool) -> Result<Headers<Ipv6Addr>, DropReason> {
    let packet = frame.get(ethernet::HEADER..).unwrap_or_default();
    let Some(header) = packet.first_chunk::<HEADER>() else { return Err(DropReason::Truncated) };
    if header[field::VERSION] >> 4 != 6 {
        return Err(DropReason::IpHeader);
    }
    let payload = u16::from_be_bytes([header[field::PAYLOAD_LENGTH], header[field::PAYLOAD_LENGTH + 1]]);
    let total = HEADER + usize::from(payload);
    if total > packet.len() {
        return Err(DropReason::CutShort);
    }
    if total > usize::from(LARGEST_PACKET) {
        return Err(DropReason::Oversize);
    }
    let mut walk = Walk::new(header[field::NEXT_HEADER]);
    let mut options = Options::NONE;
    if walk.is_extension() {
        options = hop_by_hop(&packet[..total])?;
        walk = walk.follow(&packet[..total])?;
    }

    let (source, destination) = addresses(header);
    let found = match walk.fragment {
        Fragment::Later => super::Transport::default(),
        Fragment::First => cut_transport(&packet[walk.at..total], walk.next, icmp::V6),
        Fragment::Whole | Fragment::Atomic => transport(&packet[walk.at..total], walk.next, icmp::V6)?,
    };
    Ok(Headers {
        source,
        destination,
        source_port: found.source_port,
        destination_port: found.destination_port,
        network: ethernet::HEADER as u16,
        transport: (ethernet::HEADER + walk.at) as u16,
        end: (ethernet::HEADER + total) as u16,
        ttl: header[field::HOP_LIMIT],
        protocol: walk.next,
        tcp_flags: found.tcp_flags,
        fragment: walk.fragment,
        link_group,
        options,
    })
}

/// What the options of a hop-by-hop header ask, if the packet has one.
#[cold]
fn hop_by_hop(packet: &[u8]) -> Result<Options, DropReason> {
    if packet.get(field::NEXT_HEADER) != Some(&extension::HOP_BY_HOP) {
        return Ok(Options::NONE);
    }
    match check_hop_by_hop(packet) {
        Ok(()) => Ok(Options::NONE),
        Err(Refused::Told(_)) => Ok(Options::REFUSED),
        Err(Refused::Silently) => Err(DropReason::IpHeader),
    }
}

/// An IP packet, padding left out.
fn packet_of<'a>(frame: &'a [u8], headers: &Headers<Ipv6Addr>) -> &'a [u8] {
    frame.get(usize::from(headers.network)..usize::from(headers.end)).unwrap_or_default()
}

#[inline]
fn addresses(header: &[u8; HEADER]) -> (Ipv6Addr, Ipv6Addr) {
    let at = |offset| array(header, offset).map_or(Ipv6Addr::UNSPECIFIED, |octets: [u8; 16]| octets.into());
    (at(field::SOURCE), at(field::DESTINATION))
}

/// True for the numbers of headers that others may follow.
#[must_use]
#[inline]
pub const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | extension::DESTINATION
    )
}

/// The way along extension headers.
struct Walk {
    /// Where the header `next` starts in the packet.
    at: usize,
    /// The number of that header.
    next: u8,
    /// Where that number stands in the packet.
    next_at: usize,
    fragment: Fragment,
    /// Where the fragment header is, and where its number stands; 0 when there is none.
    fragment_header: (usize, usize),
}

impl Walk {
    /// At the end of the IPv6 header, which names `next`.
    #[inline]
    const fn new(next: u8) -> Self {
        Self {
            at: HEADER,
            next,
            next_at: field::NEXT_HEADER,
            fragment: Fragment::Whole,
            fragment_header: (0, 0),
        }
    }

    #[inline]
    const fn is_extension(&self) -> bool {
        is_extension(self.next)
    }

    /// Goes on to the first header that is no extension, or to the end of what a later fragment tells.
    #[cold]
    fn follow(mut self, packet: &[u8]) -> Result<Self, DropReason> {
        for count in 0.. {
            if !self.is_extension() {
                break;
            }
            if count == EXTENSION_HEADERS {
                return Err(DropReason::ExtensionHeaders);
            }
            // The first fragment of a datagram may end within these headers.
            let is_cut = self.fragment == Fragment::First;
            let Some([next, length]) = array(packet, self.at) else {
                return if is_cut { Ok(self) } else { Err(DropReason::IpHeader) };
            };
            let units = usize::from(length);
            let bytes = match self.next {
                extension::HOP_BY_HOP if self.at != HEADER => return Err(DropReason::IpHeader),
                // The type that RFC 5095 took away, where it leads further.
                extension::ROUTING if matches!(array(packet, self.at + 2), Some([0, left]) if left > 0) => {
                    return Err(DropReason::SourceRoute);
                }
                extension::FRAGMENT => 8,
                extension::AUTHENTICATION => (units + 2) * 4,
                _ => (units + 1) * 8,
            };
            if self.at + bytes > packet.len() {
                return if is_cut { Ok(self) } else { Err(DropReason::IpHeader) };
            }
            let is_fragment = self.next == extension::FRAGMENT;
            if is_fragment {
                self.fragment = fragment(packet, self.at)?;
                self.fragment_header = (self.at, self.next_at);
            }
            (self.next_at, self.next, self.at) = (self.at, next, self.at + bytes);
            if is_fragment && self.fragment == Fragment::Later {
                break;
            }
        }
        Ok(self)
    }
}

/// Bytes of the headers that every fragment of a packet has, and where the last of them names what follows (RFC 8200, 4.5;
/// kernel: `ip6_find_1stfragopt`).
pub(crate) fn unfragmentable(packet: &[u8]) -> (usize, usize) {
    let (mut at, mut named_at, mut routed) = (HEADER, field::NEXT_HEADER, false);
    for _ in 0..EXTENSION_HEADERS {
        let (Some(&next), Some([_, units])) = (packet.get(named_at), array(packet, at)) else { break };
        match next {
            extension::ROUTING => routed = true,
            extension::HOP_BY_HOP => {}
            extension::DESTINATION if !routed => {}
            _ => break,
        }
        let end = at + (usize::from(units) + 1) * 8;
        if end > packet.len() {
            break;
        }
        (named_at, at) = (at, end);
    }
    (at, named_at)
}

/// Which part of a datagram it is, by the fragment header at an offset (RFC 8200, 4.5).
fn fragment(packet: &[u8], at: usize) -> Result<Fragment, DropReason> {
    let Some(word) = array(packet, at + 2).map(u16::from_be_bytes) else { return Err(DropReason::IpHeader) };
    let (offset, more) = (usize::from(word & !7), word & 1 != 0);
    let payload = packet.len() - at - 8;
    if offset == 0 && !more {
        return Ok(Fragment::Atomic);
    }
    if payload == 0 || offset + payload > usize::from(u16::MAX) {
        return Err(DropReason::IpHeader);
    }
    Ok(if offset == 0 { Fragment::First } else { Fragment::Later })
}

/// Where in the packet the number of an authentication header stands, if there is one that a host would come to.
fn authentication_at(packet: &[u8]) -> Option<usize> {
    let (mut at, mut named_at) = (HEADER, field::NEXT_HEADER);
    for _ in 0..EXTENSION_HEADERS {
        let units = usize::from(*packet.get(at + 1)?);
        let bytes = match *packet.get(named_at)? {
            extension::AUTHENTICATION => return Some(named_at),
            extension::FRAGMENT => 8,
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => (units + 1) * 8,
            _ => return None,
        };
        (named_at, at) = (at, at + bytes);
    }
    None
}

/// Where in the IP packet the number of the upper-layer protocol stands: what an error about it points at
/// (RFC 4443, 3.4). It is that of an authentication header where there is one, which a host without keys does not know.
fn next_header_at(frame: &[u8], headers: &Headers<Ipv6Addr>) -> usize {
    let packet = packet_of(frame, headers);
    if let Some(at) = authentication_at(packet) {
        return at;
    }
    let next = packet.get(field::NEXT_HEADER).copied().unwrap_or(extension::HOP_BY_HOP);
    Walk::new(next).follow(packet).map_or(field::NEXT_HEADER, |walk| walk.next_at)
}

impl IpVersion for Ipv6Addr {
    const ETHERTYPE: u16 = ethernet::IPV6;
    const HEADER: usize = HEADER;
    const TTL: usize = field::HOP_LIMIT;
    const SOURCE: usize = field::SOURCE;
    const DESTINATION: usize = field::DESTINATION;
    const ICMP_PROTOCOL: u8 = icmp::V6;
    const TUNNEL_PROTOCOL: u8 = 41;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const LARGEST_ERROR: usize = 1280;

    #[inline]
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        array(bytes, at).map(|octets: [u8; 16]| Self::from(octets))
    }

    #[inline]
    fn write(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, self.octets());
    }

    #[inline(always)]
    fn decrement_ttl(frame: &mut [u8], headers: &Headers<Self>) {
        if let Some(hop_limit) = frame.get_mut(usize::from(headers.network) + field::HOP_LIMIT) {
            *hop_limit = hop_limit.saturating_sub(1);
        }
    }

    #[inline]
    fn traffic_class(frame: &[u8], headers: &Headers<Self>) -> u8 {
        array(frame, usize::from(headers.network)).map_or(0, |word| (u16::from_be_bytes(word) >> 4) as u8)
    }

    #[inline]
    fn dont_fragment(_: &[u8], _: &Headers<Self>) -> bool {
        true
    }

    #[inline(always)]
    fn record_route(_: &mut [u8], _: &Headers<Self>, _: Self) {}

    #[inline(always)]
    fn replace_address(frame: &mut [u8], headers: &Headers<Self>, at: usize, new: Self) -> Sum {
        let at = usize::from(headers.network) + at;
        let Some(old) = Self::read(frame, at) else { return Sum::ZERO };
        new.write(frame, at);
        Sum::ZERO.address_changed(old, new)
    }

    #[inline(always)]
    fn write_header(bytes: &mut [u8], ip: &IpHeader<Self>) {
        let length = bytes.len().saturating_sub(HEADER) as u16;
        let Some(header) = bytes.first_chunk_mut::<HEADER>() else { return };
        put(header, field::VERSION, (0x6000_0000 | u32::from(ip.traffic_class) << 20).to_be_bytes());
        put(header, field::PAYLOAD_LENGTH, length.to_be_bytes());
        put(header, field::NEXT_HEADER, [ip.protocol, ip.ttl]);
        put(header, field::SOURCE, ip.source.octets());
        put(header, field::DESTINATION, ip.destination.octets());
    }

    fn read_header(packet: &[u8]) -> Option<Inner<Self>> {
        let header = packet.first_chunk::<HEADER>()?;
        if header[field::VERSION] >> 4 != 6 {
            return None;
        }
        let walk = Walk::new(header[field::NEXT_HEADER]).follow(packet).ok()?;
        let (source, destination) = addresses(header);
        let protocol = walk.next;
        let fragment = if walk.fragment == Fragment::Atomic { Fragment::Whole } else { walk.fragment };
        Some(Inner {
            source,
            destination,
            length: walk.at,
            protocol,
            ttl: header[field::HOP_LIMIT],
            fragment,
        })
    }

    fn sum_header(_: &mut [u8], _: &Headers<Self>) {}

    #[inline]
    fn malformed(frame: &[u8], headers: &Headers<Self>) -> Option<icmp::Error> {
        if headers.options != Options::REFUSED {
            return None;
        }
        match check_hop_by_hop(packet_of(frame, headers)) {
            Err(Refused::Told(error)) => Some(error),
            _ => None,
        }
    }

    fn refused_by_host(frame: &[u8], headers: &Headers<Self>) -> Option<Refused> {
        let packet = packet_of(frame, headers);
        check_as_host(packet, *packet.get(field::NEXT_HEADER)?).err()
    }

    fn is_authenticated(frame: &[u8], headers: &Headers<Self>) -> bool {
        usize::from(headers.transport) > ethernet::HEADER + HEADER
            && authentication_at(packet_of(frame, headers)).is_some()
    }

    fn fragment_part<'a>(frame: &'a [u8], headers: &Headers<Self>) -> Result<Part<'a, Self>, DropReason> {
        let packet = packet_of(frame, headers);
        let first = packet.get(field::NEXT_HEADER).copied().unwrap_or(extension::FRAGMENT);
        let (at, named_at) = Walk::new(first).follow(packet)?.fragment_header;
        let (Some(header), Some([next, _, high, low, a, b, c, d])) =
            (packet.get(..at).filter(|header| header.len() >= HEADER), array(packet, at))
        else {
            return Err(DropReason::IpHeader);
        };
        let word = u16::from_be_bytes([high, low]);
        Ok(Part {
            key: Key {
                source: headers.source,
                destination: headers.destination,
                identification: u32::from_be_bytes([a, b, c, d]),
                protocol: 0,
            },
            header,
            protocol: (named_at, next),
            offset: usize::from(word & !7),
            more: word & 1 != 0,
            data: packet.get(at + 8..).unwrap_or_default(),
            length: headers.ip_length() as u16,
            dont_fragment: false,
            ecn: Self::traffic_class(frame, headers),
        })
    }

    fn restore_first_fragment(
        bytes: &mut [u8],
        header: Range<usize>,
        protocol_at: usize,
        identification: u32,
    ) -> usize {
        const LENGTH: usize = 8;
        const MORE_FRAGMENTS: u8 = 1;
        let (start, end) = (header.start.saturating_sub(LENGTH), header.end.saturating_sub(LENGTH));
        let named_at = header.start + protocol_at;
        let next = bytes.get(named_at).copied().unwrap_or_default();
        put(bytes, named_at, [extension::FRAGMENT]);
        bytes.copy_within(header, start);
        put(bytes, end, [next, 0, 0, MORE_FRAGMENTS]);
        put(bytes, end + 4, identification.to_be_bytes());
        start
    }

    fn mend_header(frame: &mut [u8], _: bool) {
        let Some(packet) = frame.get_mut(ethernet::HEADER..) else { return };
        let payload = packet.len().saturating_sub(HEADER) as u16;
        put(packet, field::PAYLOAD_LENGTH, payload.to_be_bytes());
    }

    fn set_traffic_class_bits(frame: &mut [u8], bits: u8) {
        if let Some(byte) = frame.get_mut(ethernet::HEADER + field::VERSION + 1) {
            *byte |= bits << 4;
        }
    }

    fn parse_large(frame: &[u8]) -> Result<Headers<Self>, DropReason> {
        parse(frame, false)
    }

    fn error_words(error: icmp::Error, headers: &Headers<Self>, frame: &[u8]) -> (u8, u8, u32) {
        match error {
            icmp::Error::NetUnreachable => (1, 0, 0),
            icmp::Error::PortUnreachable => (1, 4, 0),
            icmp::Error::TooBig { mtu } => (2, 0, u32::from(mtu)),
            icmp::Error::HostUnreachable => (1, 3, 0),
            icmp::Error::ParameterProblem { at } => (4, 0, u32::from(at)),
            icmp::Error::UnknownOption { at } => (4, 2, u32::from(at)),
            icmp::Error::IncompleteHeaders { at } => (4, 3, u32::from(at)),
            icmp::Error::TimeExceeded => (3, 0, 0),
            icmp::Error::ReassemblyTimeExceeded => (3, 1, 0),
            icmp::Error::Told { kind, code, word } => (kind, code, word),
            icmp::Error::ProtocolUnreachable => (4, 1, next_header_at(frame, headers) as u32),
        }
    }
}
