//! What IPv4 and IPv6 have in common, under one trait, so that rewriting and replying are written once.

use std::ops::Range;

use super::Headers;
use super::checksum::Sum;
use super::ipv6_options::Refused;
use super::quote::Inner;
use crate::address::Address;
use crate::reason::DropReason;
use crate::reassembly::Part;
use crate::wire::icmp;

/// A version of IP as bytes. Offsets count from the start of the IP header. Functions that write do nothing
/// where the frame is too short for what `headers` says; after a successful parse it never is.
pub trait IpVersion: Address {
    /// The EtherType.
    const ETHERTYPE: u16;
    /// Bytes of a header without options or extensions.
    const HEADER: usize;
    /// Offset of the TTL or hop limit.
    const TTL: usize;
    /// Offset of the source address.
    const SOURCE: usize;
    /// Offset of the destination address.
    const DESTINATION: usize;
    /// The protocol number of this version's ICMP.
    const ICMP_PROTOCOL: u8;
    /// The protocol number of a packet of this version inside another IP packet (RFC 2003, RFC 2473).
    const TUNNEL_PROTOCOL: u8;
    /// The ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// The ICMP type of an echo reply.
    const ECHO_REPLY: u8;
    /// Bytes of the largest IP packet that carries an ICMP error (RFC 1812, 4.3.2.3; RFC 4443, 2.4c).
    const LARGEST_ERROR: usize;

    /// The address at an offset.
    fn read(bytes: &[u8], at: usize) -> Option<Self>;

    /// Writes the address at an offset.
    fn write(self, bytes: &mut [u8], at: usize);

    /// Takes one off the TTL or hop limit of a frame of which `headers` still tell; one of 0 stays 0. IPv4: the header
    /// checksum follows.
    fn decrement_ttl(frame: &mut [u8], headers: &Headers<Self>);

    /// The type of service or traffic class.
    fn traffic_class(frame: &[u8], headers: &Headers<Self>) -> u8;

    /// True when a router may not fragment the packet: IPv4 with DF set, and IPv6 always.
    fn dont_fragment(frame: &[u8], headers: &Headers<Self>) -> bool;

    /// Writes the director's address into a record route option that has room (RFC 791, 3.1). IPv6 has none.
    fn record_route(frame: &mut [u8], headers: &Headers<Self>, address: Self);

    /// Replaces an address of the IP header at one of [`Self::SOURCE`] and [`Self::DESTINATION`]; the IPv4
    /// header checksum follows. Returns what the transport checksum has to follow.
    fn replace_address(frame: &mut [u8], headers: &Headers<Self>, at: usize, new: Self) -> Sum;

    /// Writes a header without options at the start of `bytes`, which hold the whole IP packet.
    fn write_header(bytes: &mut [u8], header: &IpHeader<Self>);

    /// Type, code and second word of an ICMP error about a packet. The word of IPv6's "unrecognized next header" is
    /// where in the packet that number stands (RFC 4443, 3.4).
    fn error_words(error: icmp::Error, headers: &Headers<Self>, frame: &[u8]) -> (u8, u8, u32);

    /// Reads the header, with options or extension headers, at the start of a packet that may be cut behind it. Its length
    /// and its checksum are not looked at.
    fn read_header(packet: &[u8]) -> Option<Inner<Self>>;

    /// Writes the header's checksum anew, options included. IPv6 has none.
    fn sum_header(frame: &mut [u8], headers: &Headers<Self>);

    /// What is wrong with the options that each router looks at, where the sender is to be told. Where not, the packet is not parsed.
    fn malformed(_: &[u8], headers: &Headers<Self>) -> Option<icmp::Error> {
        headers.options.malformed().map(|at| icmp::Error::ParameterProblem { at: at.into() })
    }

    /// Why the host that a packet is for takes it no further than to its transport header. Other routers do not look.
    fn refused_by_host(_: &[u8], _: &Headers<Self>) -> Option<Refused> {
        None
    }

    /// True for IPv6 whose transport header is behind an authentication header (RFC 4302).
    fn is_authenticated(_: &[u8], _: &Headers<Self>) -> bool {
        false
    }

    /// A fragment of a datagram. What is beyond the last multiple of eight bytes of an IPv4 fragment that is not the last is left out (kernel:
    /// `ip_frag_queue`).
    ///
    /// # Errors
    /// `ExtensionHeaders` when headers of this length cannot be put together.
    fn fragment_part<'a>(frame: &'a [u8], headers: &Headers<Self>) -> Result<Part<'a, Self>, DropReason>;

    /// Makes of a `header` that was taken from the first fragment of a datagram that fragment's own again, and gives back where it
    /// begins then: IPv6 takes 8 bytes in front of it. The protocol stands at `protocol_at` in it.
    fn restore_first_fragment(
        bytes: &mut [u8],
        header: Range<usize>,
        protocol_at: usize,
        identification: u32,
    ) -> usize;

    /// Makes the IP header of a frame right for its length, and no fragment's; IPv4: with or without DF.
    fn mend_header(frame: &mut [u8], dont_fragment: bool);

    /// Sets bits of the type of service or traffic class.
    fn set_traffic_class_bits(frame: &mut [u8], bits: u8);

    /// Checks a frame of any length.
    ///
    /// # Errors
    /// As [`super::parse`].
    fn parse_large(frame: &[u8]) -> Result<Headers<Self>, DropReason>;

    /// The TTL or hop limit as it stands in the frame now.
    #[inline]
    fn ttl(frame: &[u8], headers: &Headers<Self>) -> u8 {
        frame.get(usize::from(headers.network) + Self::TTL).copied().unwrap_or(0)
    }
}

/// The fields of an IP header that the director makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Protocol or next header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// IPv4: identification.
    pub identification: u16,
    /// IPv4: DF.
    pub dont_fragment: bool,
}
