//! The frames that nearly all are: to the NIC's own MAC, IP without options or extension headers, in one piece, TCP or UDP.
//!
//! Their fields stand at fixed places, so that they can be checked once and read again later for less than it costs to keep
//! what was read. Whatever is not plain goes through [`super::parse`], which says the same of a plain frame.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;
use super::ip::IpVersion;
use super::{Fragment, Headers, LARGEST_PACKET, Options, TcpFlags, array, ethernet, ipv4, ipv6, tcp, udp};
use crate::id::{L4Port, Mac, Protocol};

/// What a NIC expects of frames that arrive at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its MAC, the first byte lowest.
    mac: u64,
    /// Bytes of the largest IP packet.
    longest: u16,
}

impl Arrival {
    /// At no NIC: no frame is plain there.
    pub(crate) const NONE: Self = Self { mac: 0, longest: 0 };

    /// At a NIC with this MAC and this MTU.
    pub(crate) fn new(nic_mac: Mac, mtu: u16) -> Self {
        let [a, b, c, d, e, f] = nic_mac.0;
        Self { mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), longest: mtu.min(LARGEST_PACKET) }
    }

    /// True when a frame with this beginning is for the NIC alone.
    #[inline(always)]
    fn expects(&self, frame: [u8; 8]) -> bool {
        (u64::from_le_bytes(frame) ^ self.mac) << 16 == 0
    }
}

/// Reads plain frames of one version of IP.
pub(crate) trait Plain: IpVersion {
    /// What [`super::parse`] says of a frame, if it is plain.
    fn plain(frame: &[u8], nic: &Arrival) -> Option<Headers<Self>>;

    /// The same of a frame that is known to be plain; none only when it is too short to be.
    fn read_plain(frame: &[u8]) -> Option<Headers<Self>>;
}

/// Where the transport header of a plain frame stands.
const fn transport_at<A: IpVersion>() -> usize {
    ethernet::HEADER + A::HEADER
}

/// Bytes of the shortest plain frame.
const SHORTEST_V4: usize = transport_at::<Ipv4Addr>() + udp::HEADER;
const SHORTEST_V6: usize = transport_at::<Ipv6Addr>() + udp::HEADER;

/// Headers of a plain frame of which the IP header says this.
#[inline(always)]
fn headers<A: IpVersion>(
    frame: &[u8],
    source: A,
    destination: A,
    length: u16,
    ttl: u8,
    protocol: u8,
) -> Headers<A> {
    let transport = transport_at::<A>();
    let ports = array(frame, transport).map_or(0, u32::from_be_bytes);
    // Read whatever the protocol is: a choice between values costs less than one between ways.
    let flags = frame.get(transport + tcp::field::FLAGS).copied().unwrap_or(0);
    let is_tcp = protocol == Protocol::Tcp.number();
    let flags = if is_tcp { flags } else { 0 };
    // There is no third protocol here, which spares whoever asks for it later.
    let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
    Headers {
        source,
        destination,
        source_port: L4Port((ports >> 16) as u16),
        destination_port: L4Port(ports as u16),
        network: ethernet::HEADER as u16,
        transport: transport as u16,
        end: (ethernet::HEADER as u16).wrapping_add(length),
        ttl,
        protocol: protocol.number(),
        tcp_flags: TcpFlags(flags),
        fragment: Fragment::Whole,
        link_group: false,
        options: Options::NONE,
    }
}

/// True when an IP packet of this many bytes is all there, is not too long, and holds the TCP or UDP header that its IP
/// header tells of.
#[inline(always)]
fn is_whole<A: IpVersion>(frame: &[u8], length: u16, protocol: u8, nic: &Arrival) -> bool {
    let length = usize::from(length);
    if ethernet::HEADER + length > frame.len() || length > usize::from(nic.longest) {
        return false;
    }
    if protocol == Protocol::Udp.number() {
        return length >= A::HEADER + udp::HEADER;
    }
    if protocol != Protocol::Tcp.number() || length < A::HEADER + tcp::HEADER {
        return false;
    }
    let Some(words) = frame.get(transport_at::<A>() + tcp::field::DATA_OFFSET) else { return false };
    let header = usize::from(words >> 4) * 4;
    header >= tcp::HEADER && header <= length - A::HEADER
}

/// The field at an offset of an IP header.
#[inline(always)]
fn field<const FRAME: usize, const N: usize>(frame: &[u8; FRAME], at: usize) -> [u8; N] {
    array(frame, ethernet::HEADER + at).unwrap_or([0; N])
}

impl Plain for Ipv4Addr {
    #[inline(always)]
    fn plain(frame: &[u8], nic: &Arrival) -> Option<Headers<Self>> {
        /// EtherType, version and header length.
        const KIND: u32 = u32::from_be_bytes([0x08, 0x00, 0x45, 0]);
        const KIND_MASK: u32 = 0xffff_ff00;

        let head = frame.first_chunk::<SHORTEST_V4>()?;
        let kind = array(head, ethernet::field::ETHERTYPE).map_or(0, u32::from_be_bytes);
        let fragment = u16::from_be_bytes(field(head, ipv4::field::FRAGMENT));
        if !nic.expects(array(head, 0)?)
            || kind & KIND_MASK != KIND
            || fragment & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) != 0
            || !Sum::of_words(&field(head, 0)).holds()
        {
            return None;
        }
        let length = u16::from_be_bytes(field(head, ipv4::field::TOTAL_LENGTH));
        is_whole::<Self>(frame, length, head[ethernet::HEADER + ipv4::field::PROTOCOL], nic)
            .then(|| Self::read_plain(frame))?
    }

    #[inline(always)]
    fn read_plain(frame: &[u8]) -> Option<Headers<Self>> {
        let head = frame.first_chunk::<SHORTEST_V4>()?;
        let source = Self::from(field::<_, 4>(head, ipv4::field::SOURCE));
        let destination = Self::from(field::<_, 4>(head, ipv4::field::DESTINATION));
        let length = u16::from_be_bytes(field(head, ipv4::field::TOTAL_LENGTH));
        let ttl = head[ethernet::HEADER + ipv4::field::TTL];
        let protocol = head[ethernet::HEADER + ipv4::field::PROTOCOL];
        Some(headers(frame, source, destination, length, ttl, protocol))
    }
}

impl Plain for Ipv6Addr {
    #[inline(always)]
    fn plain(frame: &[u8], nic: &Arrival) -> Option<Headers<Self>> {
        /// EtherType and version.
        const KIND: u32 = u32::from_be_bytes([0x86, 0xdd, 0x60, 0]);
        const KIND_MASK: u32 = 0xffff_f000;

        let head = frame.first_chunk::<SHORTEST_V6>()?;
        let kind = array(head, ethernet::field::ETHERTYPE).map_or(0, u32::from_be_bytes);
        let payload = u16::from_be_bytes(field(head, ipv6::field::PAYLOAD_LENGTH));
        if !nic.expects(array(head, 0)?) || kind & KIND_MASK != KIND || payload > nic.longest {
            return None;
        }
        let length = payload.checked_add(ipv6::HEADER as u16)?;
        is_whole::<Self>(frame, length, head[ethernet::HEADER + ipv6::field::NEXT_HEADER], nic)
            .then(|| Self::read_plain(frame))?
    }

    #[inline(always)]
    fn read_plain(frame: &[u8]) -> Option<Headers<Self>> {
        let head = frame.first_chunk::<SHORTEST_V6>()?;
        let source = Self::from(field::<_, 16>(head, ipv6::field::SOURCE));
        let destination = Self::from(field::<_, 16>(head, ipv6::field::DESTINATION));
        let payload = u16::from_be_bytes(field(head, ipv6::field::PAYLOAD_LENGTH));
        let ttl = head[ethernet::HEADER + ipv6::field::HOP_LIMIT];
        let protocol = head[ethernet::HEADER + ipv6::field::NEXT_HEADER];
        Some(headers(frame, source, destination, payload.wrapping_add(ipv6::HEADER as u16), ttl, protocol))
    }
}
