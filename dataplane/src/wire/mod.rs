//! Header views over bytes: what a frame says, checked once, and builders for what the director says itself.
//!
//! [`parse`] is the way in of the data path. The files beside it hold one protocol each: the offsets of its
//! fields, its checks, and what writes it.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
mod ip;
pub mod ipv4;
pub mod ipv6;
mod ipv6_options;
pub mod ndp;
pub(crate) mod plain;
pub mod quote;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vrrp;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::Address;
use crate::flow::Flow;
use crate::id::{L4Port, Mac, Protocol};
use crate::reason::DropReason;
pub use ip::{IpHeader, IpVersion};
pub use ipv4::Options;
pub use ipv6_options::Refused;
pub use tcp::TcpFlags;

/// The largest IP packet that is taken: offsets from the start of the frame stay
/// within 16 bits.
pub const LARGEST_PACKET: u16 = u16::MAX - ethernet::HEADER as u16;

/// A frame, sorted and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// ARP, unchecked: see [`arp::parse`].
    Arp,
    /// IPv4.
    V4(Headers<Ipv4Addr>),
    /// IPv6.
    V6(Headers<Ipv6Addr>),
}

/// What parsing learned. Offsets count from the start of the frame and lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port of TCP, UDP and SCTP, else 0.
    pub source_port: L4Port,
    /// Destination port of TCP, UDP and SCTP, else 0.
    pub destination_port: L4Port,
    /// Where the IP header starts.
    pub network: u16,
    /// Where what follows the IP header and its extensions starts.
    pub transport: u16,
    /// Past the IP packet; what the frame has beyond is padding.
    pub end: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol or next header, after all extension headers.
    pub protocol: u8,
    /// Flags of TCP; the event of an SCTP packet ([`sctp::Event::as_flags`]); else none.
    pub tcp_flags: TcpFlags,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
    /// The frame was sent to a broadcast or multicast MAC.
    pub link_group: bool,
    /// What options ask of a router.
    pub options: Options,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment; it may hold less than the transport header.
    First,
    /// All of it, behind an IPv6 fragment header (RFC 6946).
    Atomic,
    /// A later fragment, without transport header.
    Later,
}

impl<A: Address> Headers<A> {
    /// The 5-tuple, when the packet is TCP, UDP or SCTP and has its ports.
    #[inline]
    #[must_use]
    pub const fn flow(&self) -> Option<Flow<A>> {
        match self.transport_protocol() {
            Some(protocol) => Some(Flow {
                source: self.source,
                destination: self.destination,
                source_port: self.source_port,
                destination_port: self.destination_port,
                protocol,
            }),
            None => None,
        }
    }

    /// TCP, UDP or SCTP, when the packet holds that header.
    #[inline]
    #[must_use]
    pub const fn transport_protocol(&self) -> Option<Protocol> {
        match self.fragment {
            Fragment::Later => None,
            Fragment::Whole | Fragment::First | Fragment::Atomic => Protocol::from_number(self.protocol),
        }
    }

    /// True when the addresses cannot be those of a packet on its way: see [`Address::is_valid_source`], and nothing is
    /// sent to no host or to a loopback address.
    #[must_use]
    pub fn is_martian(&self) -> bool
    where
        A: IpVersion,
    {
        // Who asks whether an address is free, or joins a group before it has one, has no address (RFC 4862, 5.4.2).
        let has_none_yet = A::BITS > 32
            && self.source == A::UNSPECIFIED
            && self.destination.is_group()
            && self.protocol == A::ICMP_PROTOCOL;
        !self.destination.is_valid_destination() || !self.source.is_valid_source() && !has_none_yet
    }

    /// Bytes of the IP packet.
    #[inline]
    #[must_use]
    pub const fn ip_length(&self) -> usize {
        (self.end - self.network) as usize
    }

    /// Bytes from the transport header to the end of the IP packet.
    #[inline]
    #[must_use]
    pub const fn transport_length(&self) -> usize {
        (self.end - self.transport) as usize
    }

    /// The transport header and what follows it, padding left out.
    #[inline]
    #[must_use]
    pub fn transport_bytes<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(usize::from(self.transport)..usize::from(self.end)).unwrap_or_default()
    }

    /// The same, to be written.
    #[inline]
    #[must_use]
    pub fn transport_bytes_mut<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        frame.get_mut(usize::from(self.transport)..usize::from(self.end)).unwrap_or_default()
    }

    /// The same packet without what lies behind its UDP datagram; none when the length of that cannot be (kernel:
    /// `__udp4_lib_rcv`). In IPv6 0 is what is there (RFC 2675, 4).
    #[must_use]
    pub fn udp_datagram(&self, frame: &[u8]) -> Option<Self>
    where
        A: IpVersion,
    {
        let length = match array(self.transport_bytes(frame), udp::field::LENGTH).map(u16::from_be_bytes)? {
            0 if A::BITS > 32 => self.transport_length(),
            length => usize::from(length),
        };
        let is_right = (udp::HEADER..=self.transport_length()).contains(&length);
        is_right.then(|| Self { end: self.transport + length as u16, ..*self })
    }

    /// The type of an ICMP or ICMPv6 message; none when it is something else.
    #[inline]
    #[must_use]
    pub fn icmp_type(&self, frame: &[u8]) -> Option<u8>
    where
        A: IpVersion,
    {
        if self.protocol != A::ICMP_PROTOCOL || self.fragment == Fragment::Later {
            return None;
        }
        self.transport_bytes(frame).first().copied()
    }

    /// True for neighbour and router discovery (RFC 4861), by type alone; [`ndp::parse`] checks the rest.
    #[inline]
    #[must_use]
    pub fn is_neighbour_discovery(&self, frame: &[u8]) -> bool
    where
        A: IpVersion,
    {
        A::BITS > 32 && self.icmp_type(frame).is_some_and(|kind| (133..=137).contains(&kind))
    }

    /// True when a TCP or UDP checksum is what a sender leaves for its NIC to complete: the sum of the pseudo
    /// header alone, and wrong. Right only for whole packets that were not rewritten yet. Reads the whole packet only
    /// when that sum is found.
    #[inline]
    #[must_use]
    pub fn checksum_not_filled(&self, frame: &[u8]) -> bool
    where
        A: IpVersion,
    {
        let at = match self.transport_protocol() {
            Some(Protocol::Tcp) => tcp::field::CHECKSUM,
            Some(Protocol::Udp) => udp::field::CHECKSUM,
            Some(Protocol::Sctp | Protocol::Icmp) | None => return false,
        };
        let Some(found) = array(self.transport_bytes(frame), at).map(u16::from_be_bytes) else {
            return false;
        };
        let length = self.transport_length() as u32;
        let left = checksum::pseudo_header(self.source, self.destination, self.protocol, length).fold();
        found == left && !self.transport_checksum_holds(frame)
    }

    /// True when the checksum of a whole TCP, UDP or ICMP packet holds. UDP without checksum counts as
    /// holding in IPv4; in IPv6 it must have one (RFC 8200, 8.1). Reads the whole packet.
    #[must_use]
    pub fn transport_checksum_holds(&self, frame: &[u8]) -> bool
    where
        A: IpVersion,
    {
        let bytes = self.transport_bytes(frame);
        if self.protocol == Protocol::Udp.number()
            && array(bytes, udp::field::CHECKSUM).is_none_or(|field: [u8; 2]| field == [0; 2])
        {
            return A::BITS == 32;
        }
        let sum = if A::BITS == 32 && self.protocol == A::ICMP_PROTOCOL {
            checksum::Sum::ZERO
        } else {
            checksum::pseudo_header(self.source, self.destination, self.protocol, bytes.len() as u32)
        };
        sum.bytes(bytes).holds()
    }
}

/// Sorts and checks a frame that arrived on a NIC with this MAC. It may be longer than the NIC's MTU, which says what a NIC
/// sends: offloads of senders let such frames through.
///
/// # Errors
/// The reason for which the frame is to be dropped.
pub fn parse(frame: &[u8], nic_mac: Mac) -> Result<Frame, DropReason> {
    let (kind, link_group) = sort(frame, nic_mac)?;
    let frame = match kind {
        Kind::Arp => Frame::Arp,
        Kind::V4 => Frame::V4(ipv4::parse(frame, link_group)?),
        Kind::V6 => Frame::V6(ipv6::parse(frame, link_group)?),
    };
    let martian = match &frame {
        Frame::Arp => false,
        Frame::V4(headers) => headers.is_martian(),
        Frame::V6(headers) => headers.is_martian(),
    };
    if martian { Err(DropReason::Martian) } else { Ok(frame) }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Arp,
    V4,
    V6,
}

/// First half of [`parse`]: what a frame that arrived on a NIC with this MAC carries, and whether it was sent to a group.
#[inline(always)]
pub(crate) fn sort(frame: &[u8], nic_mac: Mac) -> Result<(Kind, bool), DropReason> {
    let Some(&[a, b, c, d, e, f, .., high, low]) = frame.first_chunk::<{ ethernet::HEADER }>() else {
        return Err(DropReason::Truncated);
    };
    let destination = Mac([a, b, c, d, e, f]);
    let link_group = destination.is_group();
    if destination != nic_mac && !link_group {
        return Err(DropReason::OtherMac);
    }
    match u16::from_be_bytes([high, low]) {
        ethernet::IPV4 => Ok((Kind::V4, link_group)),
        ethernet::IPV6 => Ok((Kind::V6, link_group)),
        ethernet::ARP => Ok((Kind::Arp, link_group)),
        ethernet::VLAN | ethernet::SERVICE_VLAN => Err(DropReason::Vlan),
        _ => Err(DropReason::EtherType),
    }
}

/// What a transport header says.
#[derive(Clone, Copy, Default)]
struct Transport {
    source_port: L4Port,
    destination_port: L4Port,
    tcp_flags: TcpFlags,
}

/// Reads a transport header and checks that all of it is there but for TCP's options: who is at the end of the way looks at their
/// length, and at that of a UDP datagram (kernel: `tcp_conn_schedule`). Protocols that the director does not know have none.
#[inline(always)]
fn transport(bytes: &[u8], protocol: u8, icmp: u8) -> Result<Transport, DropReason> {
    const TCP: u8 = Protocol::Tcp.number();
    const UDP: u8 = Protocol::Udp.number();
    const SCTP: u8 = Protocol::Sctp.number();
    let ports = |&[a, b, c, d]: &[u8; 4]| Transport {
        source_port: L4Port(u16::from_be_bytes([a, b])),
        destination_port: L4Port(u16::from_be_bytes([c, d])),
        tcp_flags: TcpFlags::default(),
    };
    match protocol {
        TCP => {
            let Some((header, _)) = bytes.split_first_chunk::<{ tcp::HEADER }>() else {
                return Err(DropReason::TransportHeader);
            };
            let [a, b, c, d, ..] = *header;
            Ok(Transport { tcp_flags: TcpFlags(header[tcp::field::FLAGS]), ..ports(&[a, b, c, d]) })
        }
        UDP => match bytes.first_chunk::<{ udp::HEADER }>() {
            Some(&[a, b, c, d, ..]) => Ok(ports(&[a, b, c, d])),
            None => Err(DropReason::TransportHeader),
        },
        SCTP => match bytes.first_chunk::<{ sctp::HEADER }>() {
            Some(&[a, b, c, d, ..]) => {
                let flags = sctp::Event::of(bytes).map_or(sctp::NO_EVENT, sctp::Event::as_flags);
                Ok(Transport { tcp_flags: flags, ..ports(&[a, b, c, d]) })
            }
            None => Err(DropReason::TransportHeader),
        },
        _ if protocol == icmp && bytes.len() < icmp::HEADER => Err(DropReason::TransportHeader),
        _ => Ok(Transport::default()),
    }
}

/// What the first fragment of a datagram shows of its transport header, which may go on in the next one.
#[cold]
fn cut_transport(bytes: &[u8], protocol: u8, icmp: u8) -> Transport {
    transport(bytes, protocol, icmp).unwrap_or_else(|_| {
        match (Protocol::from_number(protocol), array(bytes, 0)) {
            (Some(_), Some([a, b, c, d])) => Transport {
                source_port: L4Port(u16::from_be_bytes([a, b])),
                destination_port: L4Port(u16::from_be_bytes([c, d])),
                tcp_flags: TcpFlags(match protocol {
                    6 => bytes.get(tcp::field::FLAGS).copied().unwrap_or_default(),
                    _ => 0,
                }),
            },
            _ => Transport::default(),
        }
    })
}

/// `N` bytes at an offset.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes at an offset; nothing when it does not fit.
#[inline]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value;
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
