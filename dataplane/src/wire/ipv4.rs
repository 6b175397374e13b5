//! IPv4 headers and their options (RFC 791).

use std::net::Ipv4Addr;
use std::ops::Range;

use super::checksum::Sum;
use super::ip::{IpHeader, IpVersion};
use super::quote::Inner;
use super::{Fragment, Headers, LARGEST_PACKET, array, cut_transport, ethernet, icmp, put, transport};
use crate::reason::DropReason;
use crate::reassembly::{Key, Part};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// The protocol of group management (IGMP, RFC 3376).
pub const IGMP: u8 = 2;
/// Bytes of the longest header.
pub const LONGEST_HEADER: usize = 60;

/// Offsets in the header.
pub mod field {
    /// Version and header length in words of four bytes.
    pub const VERSION: usize = 0;
    /// Type of service: DSCP and ECN.
    pub const TOS: usize = 1;
    /// Bytes of the whole packet.
    pub const TOTAL_LENGTH: usize = 2;
    /// Identification.
    pub const IDENTIFICATION: usize = 4;
    /// DF, MF and fragment offset in units of eight bytes.
    pub const FRAGMENT: usize = 6;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address.
    pub const SOURCE: usize = 12;
    /// Destination address.
    pub const DESTINATION: usize = 16;
}

/// Don't fragment, in the fragment word.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, in the fragment word.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset, in the fragment word.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Checks an IPv4 frame, all but for its addresses. Second half of [`super::parse`].
#[inline(always)]
pub(crate) fn parse(frame: &[u8], link_group: bool) -> Result<Headers<Ipv4Addr>, DropReason> {
    let packet = frame.get(ethernet::HEADER..).unwrap_or_default();
    let Some(header) = packet.first_chunk::<HEADER>() else { return Err(DropReason::Truncated) };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let length = usize::from(header[field::VERSION] & 0x0f) * 4;
    let total = usize::from(word(field::TOTAL_LENGTH));
    if header[field::VERSION] >> 4 != 4 || length < HEADER || total < length {
        return Err(DropReason::IpHeader);
    }
    if total > packet.len() {
        return Err(DropReason::CutShort);
    }
    if total > usize::from(LARGEST_PACKET) {
        return Err(DropReason::Oversize);
    }
    let options = if length > HEADER {
        check_options(&packet[..length])?
    } else if Sum::of_words(header).holds() {
        Options::NONE
    } else {
        return Err(DropReason::IpChecksum);
    };
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let (source, destination) = (address(field::SOURCE), address(field::DESTINATION));
    let protocol = header[field::PROTOCOL];
    let fragment = fragment(word(field::FRAGMENT), total - length)?;
    let found = match fragment {
        Fragment::Later => super::Transport::default(),
        Fragment::First => cut_transport(&packet[length..total], protocol, icmp::V4),
        Fragment::Whole | Fragment::Atomic => transport(&packet[length..total], protocol, icmp::V4)?,
    };
    Ok(Headers {
        source,
        destination,
        source_port: found.source_port,
        destination_port: found.destination_port,
        network: ethernet::HEADER as u16,
        transport: (ethernet::HEADER + length) as u16,
        end: (ethernet::HEADER + total) as u16,
        ttl: header[field::TTL],
        protocol,
        tcp_flags: found.tcp_flags,
        fragment,
        link_group,
        options,
    })
}

/// Which part of a datagram it is; one that would end past the largest datagram, or that is empty though it
/// is not the whole, is refused.
#[inline]
fn fragment(word: u16, payload: usize) -> Result<Fragment, DropReason> {
    if word & (MORE_FRAGMENTS | FRAGMENT_OFFSET) == 0 {
        return Ok(Fragment::Whole);
    }
    let offset = usize::from(word & FRAGMENT_OFFSET) * 8;
    if payload == 0 || offset + payload > usize::from(u16::MAX) - HEADER {
        return Err(DropReason::IpHeader);
    }
    Ok(if offset == 0 { Fragment::First } else { Fragment::Later })
}

/// What options ask of a router: nothing, to be [told](Self::malformed) where they are malformed, or to record the route and to
/// [clear](Self::is_trailed) what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options(u8);

impl Options {
    /// Nothing, as most packets do, which have none.
    pub const NONE: Self = Self(0);
    /// To be told, as those of IPv6 do which no router takes.
    pub(crate) const REFUSED: Self = Self(Self::MALFORMED);
    /// Set when they are malformed; no header is that long.
    const MALFORMED: u8 = 0x80;
    /// Set when something follows their end; no header is that long either.
    const TRAILED: u8 = 0x40;

    /// Where in the IP header a record route option with room for an address starts.
    #[must_use]
    pub const fn record_route(self) -> Option<usize> {
        let at = self.0 & !Self::TRAILED;
        if at == 0 || at & Self::MALFORMED != 0 { None } else { Some(at as usize) }
    }

    /// True when something follows their end, where there should be nothing.
    #[must_use]
    pub const fn is_trailed(self) -> bool {
        self.0 & (Self::TRAILED | Self::MALFORMED) == Self::TRAILED
    }

    /// Which byte of the IP header is wrong.
    #[must_use]
    pub const fn malformed(self) -> Option<u8> {
        if self.0 & Self::MALFORMED == 0 { None } else { Some(self.0 & !Self::MALFORMED) }
    }
}

/// The options of one byte (RFC 791, 3.1).
const END: u8 = 0;
const NOTHING: u8 = 1;

/// Checks a header with options and walks over them (RFC 791, 3.1; kernel: `ip_options_compile`, `ip_options_rcv_srr`).
#[cold]
fn check_options(header: &[u8]) -> Result<Options, DropReason> {
    if !Sum::of(header).holds() {
        return Err(DropReason::IpChecksum);
    }
    let mut seen = Seen::default();
    match walk_options(header, &mut seen) {
        Err(at) => Ok(Options(at as u8 | Options::MALFORMED)),
        Ok(()) if seen.source_route => Err(DropReason::SourceRoute),
        Ok(()) => Ok(Options(seen.room as u8 | if seen.trailed { Options::TRAILED } else { 0 })),
    }
}

/// The options that a header may have but once.
#[derive(Default)]
struct Seen {
    source_route: bool,
    record_route: bool,
    timestamp: bool,
    /// Where the record route option with room for an address starts; 0 when there is none.
    room: usize,
    /// Something follows the end.
    trailed: bool,
}

/// # Errors
/// Where in the header a byte is wrong.
fn walk_options(header: &[u8], seen: &mut Seen) -> Result<(), usize> {
    const RECORD_ROUTE: u8 = 7;
    const TIMESTAMP: u8 = 68;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    const ROUTER_ALERT: u8 = 148;

    let mut at = HEADER;
    while let Some(&kind) = header.get(at) {
        match kind {
            END => {
                seen.trailed = header.iter().skip(at).any(|&byte| byte != END);
                break;
            }
            NOTHING => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let length = header.get(at + 1).map_or(0, |&length| usize::from(length));
        let Some(option) = header.get(at..at + length).filter(|option| option.len() >= 2) else {
            return Err(at);
        };
        // What every option with a pointer has; the pointer counts from 1.
        let checked = |twice: bool, shortest: usize, first: usize| match option.get(2) {
            _ if twice => Err(at),
            Some(&pointer) if length >= shortest => {
                let pointer = usize::from(pointer);
                if pointer < first { Err(at + 2) } else { Ok(pointer) }
            }
            _ => Err(at + 1),
        };
        match kind {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                // That there are two is seen last.
                checked(false, 3, 4)?;
                checked(std::mem::replace(&mut seen.source_route, true), 3, 4)?;
            }
            RECORD_ROUTE => {
                let pointer = checked(std::mem::replace(&mut seen.record_route, true), 3, 4)?;
                if pointer <= length {
                    fits(pointer, 3, length).map_err(|()| at + 2)?;
                    seen.room = at;
                }
            }
            TIMESTAMP => {
                let pointer = checked(std::mem::replace(&mut seen.timestamp, true), 4, 5)?;
                check_timestamp(option, pointer).map_err(|byte| at + byte)?;
            }
            ROUTER_ALERT if length < 4 => return Err(at + 1),
            _ => {}
        }
        at += length;
    }
    Ok(())
}

/// True when so many bytes from a pointer on lie within an option of this length.
const fn fits(pointer: usize, bytes: usize, length: usize) -> Result<(), ()> {
    if pointer + bytes > length { Err(()) } else { Ok(()) }
}

/// # Errors
/// Which byte of the option is wrong.
fn check_timestamp(option: &[u8], pointer: usize) -> Result<(), usize> {
    const WITH_ADDRESSES: u8 = 1;
    const OF_THESE: u8 = 3;

    let flags = option.get(3).copied().unwrap_or_default();
    let (kind, overflow) = (flags & 0x0f, flags >> 4);
    if pointer <= option.len() {
        let needs = if matches!(kind, WITH_ADDRESSES | OF_THESE) { 7 } else { 3 };
        return fits(pointer, needs, option.len()).map_err(|()| 2);
    }
    // As many hosts found no room as can be counted.
    if kind != OF_THESE && overflow == 15 { Err(3) } else { Ok(()) }
}

/// The header of a frame at hand, with options left out.
#[inline]
fn header<'a>(frame: &'a mut [u8], headers: &Headers<Ipv4Addr>) -> Option<&'a mut [u8; HEADER]> {
    frame.get_mut(usize::from(headers.network)..)?.first_chunk_mut()
}

impl IpVersion for Ipv4Addr {
    const ETHERTYPE: u16 = ethernet::IPV4;
    const HEADER: usize = HEADER;
    const TTL: usize = field::TTL;
    const SOURCE: usize = field::SOURCE;
    const DESTINATION: usize = field::DESTINATION;
    const ICMP_PROTOCOL: u8 = icmp::V4;
    const TUNNEL_PROTOCOL: u8 = 4;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const LARGEST_ERROR: usize = 576;

    #[inline]
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        array(bytes, at).map(|octets: [u8; 4]| Self::from(octets))
    }

    #[inline]
    fn write(self, bytes: &mut [u8], at: usize) {
        put(bytes, at, self.octets());
    }

    #[inline(always)]
    fn decrement_ttl(frame: &mut [u8], headers: &Headers<Self>) {
        let Some(header) = header(frame, headers) else { return };
        if let Some(ttl) = headers.ttl.checked_sub(1) {
            header[field::TTL] = ttl;
            let checksum = u16::from_be_bytes([header[field::CHECKSUM], header[field::CHECKSUM + 1]]);
            // ~(~checksum + ~m + m') of the word that the TTL begins (RFC 1624), the carry of one addition.
            let changed = u32::from(checksum) + 0x0100;
            let changed = (changed + u32::from(changed >= 0xffff)) as u16;
            put(header, field::CHECKSUM, changed.to_be_bytes());
        }
    }

    #[inline]
    fn traffic_class(frame: &[u8], headers: &Headers<Self>) -> u8 {
        frame.get(usize::from(headers.network) + field::TOS).copied().unwrap_or(0)
    }

    #[inline]
    fn dont_fragment(frame: &[u8], headers: &Headers<Self>) -> bool {
        array(frame, usize::from(headers.network) + field::FRAGMENT)
            .is_some_and(|word| u16::from_be_bytes(word) & DONT_FRAGMENT != 0)
    }

    #[inline(always)]
    fn record_route(frame: &mut [u8], headers: &Headers<Self>, address: Self) {
        if headers.options != Options::NONE {
            fill_record_route(frame, &{ *headers }, address);
        }
    }

    #[inline(always)]
    fn replace_address(frame: &mut [u8], headers: &Headers<Self>, at: usize, new: Self) -> Sum {
        let Some(header) = header(frame, headers) else { return Sum::ZERO };
        let Some(old) = Self::read(header, at) else { return Sum::ZERO };
        let change = Sum::ZERO.address_changed(old, new);
        let checksum = u16::from_be_bytes([header[field::CHECKSUM], header[field::CHECKSUM + 1]]);
        put(header, field::CHECKSUM, change.update(checksum).to_be_bytes());
        new.write(header, at);
        change
    }

    #[inline(always)]
    fn write_header(bytes: &mut [u8], ip: &IpHeader<Self>) {
        let length = bytes.len() as u16;
        let Some(header) = bytes.first_chunk_mut::<HEADER>() else { return };
        let fragment = if ip.dont_fragment { DONT_FRAGMENT } else { 0 };
        let [source, destination] = [ip.source.to_bits(), ip.destination.to_bits()];
        let first = u32::from(length) | u32::from(ip.traffic_class) << 16 | 0x45 << 24;
        let second = u32::from(fragment) | u32::from(ip.identification) << 16;
        let third = u32::from(ip.protocol) << 16 | u32::from(ip.ttl) << 24;
        // Summed before it is written: reading at once what was written in parts waits for the parts.
        let sum = Sum::ZERO.number(first).number(second).number(third).number(source).number(destination);
        let words = [first, second, third | u32::from(sum.checksum()), source, destination];
        for (place, word) in header.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }

    fn read_header(packet: &[u8]) -> Option<Inner<Self>> {
        let header = packet.first_chunk::<HEADER>()?;
        let length = usize::from(header[field::VERSION] & 0x0f) * 4;
        if header[field::VERSION] >> 4 != 4 || length < HEADER || length > packet.len() {
            return None;
        }
        let word = u16::from_be_bytes([header[field::FRAGMENT], header[field::FRAGMENT + 1]]);
        Some(Inner {
            source: Self::read(header, field::SOURCE)?,
            destination: Self::read(header, field::DESTINATION)?,
            length,
            protocol: header[field::PROTOCOL],
            ttl: header[field::TTL],
            fragment: match (word & FRAGMENT_OFFSET, word & MORE_FRAGMENTS) {
                (0, 0) => Fragment::Whole,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            },
        })
    }

    fn sum_header(frame: &mut [u8], headers: &Headers<Self>) {
        let range = usize::from(headers.network)..usize::from(headers.transport);
        let Some(header) = frame.get_mut(range) else { return };
        put(header, field::CHECKSUM, [0; 2]);
        let checksum = Sum::of(header).checksum();
        put(header, field::CHECKSUM, checksum.to_be_bytes());
    }

    fn fragment_part<'a>(frame: &'a [u8], headers: &Headers<Self>) -> Result<Part<'a, Self>, DropReason> {
        let (network, transport) = (usize::from(headers.network), usize::from(headers.transport));
        let header = frame.get(network..transport).unwrap_or_default();
        let field = |at| array(header, at).map(u16::from_be_bytes).ok_or(DropReason::IpHeader);
        let word = field(field::FRAGMENT)?;
        let (all, more) = (headers.transport_bytes(frame), word & MORE_FRAGMENTS != 0);
        let beyond = if more { all.len() % 8 } else { 0 };
        Ok(Part {
            key: Key {
                source: headers.source,
                destination: headers.destination,
                identification: field(field::IDENTIFICATION)?.into(),
                protocol: headers.protocol,
            },
            header,
            protocol: (field::PROTOCOL, headers.protocol),
            offset: usize::from(word & FRAGMENT_OFFSET) * 8,
            more,
            data: all.get(..all.len() - beyond).unwrap_or_default(),
            length: (headers.ip_length() - beyond) as u16,
            dont_fragment: word & DONT_FRAGMENT != 0,
            ecn: Self::traffic_class(frame, headers),
        })
    }

    fn restore_first_fragment(_: &mut [u8], header: Range<usize>, _: usize, _: u32) -> usize {
        header.start
    }

    fn mend_header(frame: &mut [u8], dont_fragment: bool) {
        let Some(packet) = frame.get_mut(ethernet::HEADER..) else { return };
        let total = packet.len() as u16;
        let length = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
        let Some(header) = packet.get_mut(..length) else { return };
        let word = if dont_fragment { DONT_FRAGMENT } else { 0 };
        put(header, field::TOTAL_LENGTH, total.to_be_bytes());
        put(header, field::FRAGMENT, word.to_be_bytes());
        put(header, field::CHECKSUM, [0; 2]);
        let checksum = Sum::of(header).checksum();
        put(header, field::CHECKSUM, checksum.to_be_bytes());
    }

    fn set_traffic_class_bits(frame: &mut [u8], bits: u8) {
        let Some(header) = frame.get_mut(ethernet::HEADER..).and_then(<[u8]>::first_chunk_mut::<HEADER>)
        else {
            return;
        };
        let word = |header: &[u8; HEADER]| u16::from_be_bytes([header[field::VERSION], header[field::TOS]]);
        let old = word(header);
        header[field::TOS] |= bits;
        let checksum = u16::from_be_bytes([header[field::CHECKSUM], header[field::CHECKSUM + 1]]);
        let checksum = Sum::ZERO.word_changed(old, word(header)).update(checksum);
        put(header, field::CHECKSUM, checksum.to_be_bytes());
    }

    fn parse_large(frame: &[u8]) -> Result<Headers<Self>, DropReason> {
        parse(frame, false)
    }

    fn error_words(error: icmp::Error, _: &Headers<Self>, _: &[u8]) -> (u8, u8, u32) {
        match error {
            icmp::Error::NetUnreachable => (3, 0, 0),
            icmp::Error::ProtocolUnreachable => (3, 2, 0),
            icmp::Error::PortUnreachable => (3, 3, 0),
            icmp::Error::TooBig { mtu } => (3, 4, u32::from(mtu)),
            icmp::Error::HostUnreachable => (3, 1, 0),
            icmp::Error::ParameterProblem { at }
            | icmp::Error::UnknownOption { at }
            | icmp::Error::IncompleteHeaders { at } => (12, 0, u32::from(at) << 24),
            icmp::Error::TimeExceeded => (11, 0, 0),
            icmp::Error::ReassemblyTimeExceeded => (11, 1, 0),
            icmp::Error::Told { kind, code, word } => (kind, code, word),
        }
    }
}

/// The most bytes of options.
const OPTIONS_MAX: usize = 40;

/// What followed the end of the options.
#[derive(Clone, Copy, Debug)]
pub struct Trailer {
    /// Where it stood in the frame.
    at: usize,
    length: usize,
    bytes: [u8; OPTIONS_MAX],
}

impl Trailer {
    /// Puts it back where it was: whoever takes the packet gets it as it came.
    #[cold]
    pub fn put_back(&self, frame: &mut [u8]) {
        let place = frame.get_mut(self.at..self.at + self.length);
        if let (Some(place), Some(bytes)) = (place, self.bytes.get(..self.length)) {
            place.copy_from_slice(bytes);
        }
    }
}

/// Clears what follows the end of the options (kernel: `ip_options_compile`); none when nothing does. The header checksum is the one that
/// came until the packet is passed on.
#[cold]
pub fn clear_behind_options(frame: &mut [u8], headers: &Headers<Ipv4Addr>) -> Option<Trailer> {
    let network = usize::from(headers.network);
    let header = frame.get_mut(network..usize::from(headers.transport))?;
    if !headers.options.is_trailed() {
        return None;
    }
    let mut at = HEADER;
    while let Some(&kind) = header.get(at).filter(|&&kind| kind != END) {
        let length = if kind == NOTHING { 1 } else { header.get(at + 1).map_or(1, |&length| length) };
        at += usize::from(length.max(1));
    }
    let behind = header.get_mut(at..)?;
    let mut trailer = Trailer { at: network + at, length: behind.len(), bytes: [0; OPTIONS_MAX] };
    trailer.bytes.get_mut(..behind.len())?.copy_from_slice(behind);
    behind.fill(END);
    Some(trailer)
}

/// Fills in the next place of the record route option; the header checksum is made anew.
#[cold]
fn fill_record_route(frame: &mut [u8], headers: &Headers<Ipv4Addr>, address: Ipv4Addr) {
    let range = usize::from(headers.network)..usize::from(headers.transport);
    let Some(header) = frame.get_mut(range) else { return };
    let Some(option) = headers.options.record_route() else {
        if headers.options.is_trailed() {
            Ipv4Addr::sum_header(frame, headers);
        }
        return;
    };
    let Some([_, length, pointer]) = array(header, option) else { return };
    if pointer < 4 || usize::from(pointer) + 3 > usize::from(length) {
        return;
    }
    put(header, option + usize::from(pointer) - 1, address.octets());
    put(header, option + 2, [pointer + 4]);
    Ipv4Addr::sum_header(frame, headers);
}
