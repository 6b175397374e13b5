//! What the director itself answers for a VIP: echo replies, RST, ICMP errors; made in place from the
//! request.
//!
//! Every reply leaves the frame with 14 bytes in front for an Ethernet header of unknown content, goes to the
//! source of the request, and takes no more than [`ReplyLimit`] allows.

use crate::id::Protocol;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::time::{TICKS_PER_SECOND, Tick};
use crate::wire::icmp::Error;
use crate::wire::{Fragment, Headers, IpHeader, IpVersion, TcpFlags, array, ethernet, icmp, tcp};

/// TTL and hop limit of replies.
const TTL: u8 = 64;
/// Precedence "internetwork control", which IPv4 errors have (RFC 1812, 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// The bits of an IPv4 TOS that errors take over from the packet that they are about (kernel:
/// `IPTOS_TOS_MASK`).
const TOS: u8 = 0x1e;
/// ECN bits of a traffic class.
const ECN: u8 = 0x03;

/// True when the sender may be told of an error with its packet: nobody is told about an ICMP error, a later
/// fragment of IPv4, a packet to a group, or one without a source (RFC 1122, 3.2.2; RFC 4443, 2.4e).
#[must_use]
pub fn may_answer<A: IpVersion>(headers: &Headers<A>, frame: &[u8]) -> bool {
    let about_an_error = headers.icmp_type(frame).is_some_and(|kind| !icmp::is_query::<A>(kind));
    !about_an_error
        && (A::BITS > 32 || headers.fragment != Fragment::Later)
        && !headers.link_group
        && !headers.destination.is_group()
        && headers.source.is_valid_source()
}

/// Turns an echo request into its reply (RFC 792; RFC 4443, 4.2). IP options and extension headers are left
/// out.
///
/// # Errors
/// `Unwanted` when it is no echo request, `Fragment` when it is not whole, `TransportChecksum` when its
/// checksum is wrong, `ReplyRoom` when the packet is not what its headers say.
pub fn echo_reply<A: IpVersion>(packet: &mut Packet<'_>, headers: &Headers<A>) -> Result<(), DropReason> {
    if headers.icmp_type(packet.bytes()) != Some(A::ECHO_REQUEST) {
        return Err(DropReason::Unwanted);
    }
    if headers.fragment != Fragment::Whole {
        return Err(DropReason::Fragment);
    }
    if !headers.transport_checksum_holds(packet.bytes()) {
        return Err(DropReason::TransportChecksum);
    }
    let traffic_class = A::traffic_class(packet.bytes(), headers);
    keep_transport(packet, headers, headers.transport_length())?;
    let Some(message) = packet.bytes_mut().get_mut(ethernet::HEADER + A::HEADER..) else {
        return Err(DropReason::ReplyRoom);
    };
    let Some([_, code]) = array(message, icmp::field::TYPE) else { return Err(DropReason::ReplyRoom) };
    let word = array(message, icmp::field::WORD).map_or(0, u32::from_be_bytes);
    icmp::write(message, headers.destination, headers.source, A::ECHO_REPLY, code, word);
    let header = IpHeader {
        source: headers.destination,
        destination: headers.source,
        protocol: A::ICMP_PROTOCOL,
        ttl: TTL,
        traffic_class,
        identification: identification(message),
        dont_fragment: false,
    };
    write_header(packet, &header)
}

/// Turns a TCP segment into the reset that answers it (RFC 9293, 3.10.7.1).
///
/// # Errors
/// `NoConnection` when it is a reset itself, `Unwanted` when it is no TCP segment, `Fragment` when it is not
/// whole, `TransportChecksum` when its checksum is wrong, `ReplyRoom` when the packet is not what its headers
/// say.
pub fn tcp_reset<A: IpVersion>(packet: &mut Packet<'_>, headers: &Headers<A>) -> Result<(), DropReason> {
    if headers.transport_protocol() != Some(Protocol::Tcp) {
        return Err(DropReason::Unwanted);
    }
    if headers.tcp_flags.rst() {
        return Err(DropReason::NoConnection);
    }
    if headers.fragment != Fragment::Whole {
        return Err(DropReason::Fragment);
    }
    let frame = packet.bytes();
    if !headers.transport_checksum_holds(frame) && !headers.checksum_not_filled(frame) {
        return Err(DropReason::TransportChecksum);
    }
    let Some((asked, length)) = tcp::Segment::parse(headers.transport_bytes(frame)) else {
        return Err(DropReason::ReplyRoom);
    };
    let traffic_class = A::traffic_class(frame, headers) & !ECN;
    let (sequence, acknowledgment, flags) = if asked.flags.ack() {
        (asked.acknowledgment, 0, TcpFlags::RST)
    } else {
        (0, asked.sequence.wrapping_add(length), TcpFlags::RST.and(TcpFlags::ACK))
    };
    let reset = tcp::Segment {
        source_port: asked.destination_port,
        destination_port: asked.source_port,
        sequence,
        acknowledgment,
        flags,
        window: 0,
    };
    keep_transport(packet, headers, tcp::HEADER)?;
    let Some(segment) = packet.bytes_mut().get_mut(ethernet::HEADER + A::HEADER..) else {
        return Err(DropReason::ReplyRoom);
    };
    reset.write(segment, headers.destination, headers.source);
    let header = IpHeader {
        source: headers.destination,
        destination: headers.source,
        protocol: Protocol::Tcp.number(),
        ttl: TTL,
        traffic_class,
        identification: 0,
        dont_fragment: true,
    };
    write_header(packet, &header)
}

/// Turns a packet into the ICMP error about it, sent from `source`. The packet is quoted as it stands now:
/// who wants the original TTL quoted calls this before decrementing it. Ask [`may_answer`] first.
///
/// # Errors
/// `ReplyRoom` when there is no room for the headers in front of the packet or behind what is quoted of it.
pub fn icmp_error<A: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    error: Error,
    source: A,
) -> Result<(), DropReason> {
    let room = A::HEADER + icmp::HEADER;
    let (kind, code, word) = A::error_words(error, headers, packet.bytes());
    let traffic_class = if A::BITS == 32 {
        A::traffic_class(packet.bytes(), headers) & TOS | INTERNETWORK_CONTROL
    } else {
        0
    };
    let quoted = headers.ip_length().min(A::LARGEST_ERROR - room);
    packet.truncate(usize::from(headers.network) + quoted);
    packet.trim_front(usize::from(headers.network) - ethernet::HEADER);
    if !packet.prepend(room) {
        if !packet.append(room) {
            return Err(DropReason::ReplyRoom);
        }
        let frame = packet.bytes_mut();
        let end = frame.len() - room;
        frame.copy_within(ethernet::HEADER..end, ethernet::HEADER + room);
    }
    let Some(message) = packet.bytes_mut().get_mut(ethernet::HEADER + A::HEADER..) else {
        return Err(DropReason::ReplyRoom);
    };
    icmp::write(message, source, headers.source, kind, code, word);
    let header = IpHeader {
        source,
        destination: headers.source,
        protocol: A::ICMP_PROTOCOL,
        ttl: TTL,
        traffic_class,
        identification: identification(message),
        dont_fragment: false,
    };
    write_header(packet, &header)
}

/// Keeps `length` bytes of the transport header and what follows it, with room for an IP header without
/// options and an Ethernet header in front.
fn keep_transport<A: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    length: usize,
) -> Result<(), DropReason> {
    let transport = usize::from(headers.transport);
    let Some(surplus) = transport.checked_sub(ethernet::HEADER + A::HEADER) else {
        return Err(DropReason::ReplyRoom);
    };
    packet.truncate(transport + length);
    packet.trim_front(surplus);
    if packet.len() == transport + length - surplus { Ok(()) } else { Err(DropReason::ReplyRoom) }
}

/// Writes the IP header behind the room for the Ethernet header.
fn write_header<A: IpVersion>(packet: &mut Packet<'_>, header: &IpHeader<A>) -> Result<(), DropReason> {
    let Some(bytes) = packet.bytes_mut().get_mut(ethernet::HEADER..) else {
        return Err(DropReason::ReplyRoom);
    };
    A::write_header(bytes, header);
    Ok(())
}

/// An IPv4 identification for a message: its checksum. Two messages that share it and meet within a
/// reassembly are mostly the same message, and then no harm is done.
fn identification(message: &[u8]) -> u16 {
    array(message, icmp::field::CHECKSUM).map_or(0, u16::from_be_bytes)
}

/// How many replies a worker makes: a bucket that holds what may be made in one second.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLimit {
    /// What is in the bucket, in parts of a reply: a reply has as many as a second has ticks.
    parts: u64,
    /// When it was filled last; none before the first reply.
    filled: Option<Tick>,
}

impl Default for ReplyLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyLimit {
    /// A full bucket.
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: 0, filled: None }
    }

    /// True when one more reply may be made; it is then counted. `per_second` may change from call to call; 0
    /// allows none.
    #[inline]
    #[must_use]
    pub fn allow(&mut self, now: Tick, per_second: u32) -> bool {
        const REPLY: u64 = TICKS_PER_SECOND as u64;
        let rate = u64::from(per_second);
        let full = rate * REPLY;
        // A tick brings `per_second` parts, a second as many whole replies.
        self.parts = match self.filled {
            None => full,
            Some(filled) => (self.parts + u64::from(filled.elapsed(now).0) * rate).min(full),
        };
        self.filled = Some(now);
        if self.parts < REPLY {
            return false;
        }
        self.parts -= REPLY;
        true
    }
}

#[cfg(test)]
mod tests;
