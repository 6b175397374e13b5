//! Whole frames from a few words: what tests and tools send. Not for the fast path: these allocate.

use super::ip::{IpHeader, IpVersion};
use super::{TcpFlags, ethernet, icmp, sctp, tcp, udp};
use crate::id::{L4Port, Mac, Protocol};

/// Where a frame comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<A> {
    /// Source MAC.
    pub source_mac: Mac,
    /// Destination MAC.
    pub destination_mac: Mac,
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: L4Port,
    /// Destination port.
    pub destination_port: L4Port,
}

/// A frame with an IP header (TTL 64, DF) in front of `payload`.
#[must_use]
pub fn ip<A: IpVersion>(ends: &Ends<A>, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER + A::HEADER];
    frame.extend_from_slice(payload);
    ethernet::write(&mut frame, ends.destination_mac, ends.source_mac, A::ETHERTYPE);
    let header = IpHeader {
        source: ends.source,
        destination: ends.destination,
        protocol,
        ttl: 64,
        traffic_class: 0,
        identification: 0,
        dont_fragment: true,
    };
    A::write_header(&mut frame[ethernet::HEADER..], &header);
    frame
}

/// A TCP segment; the ports of `segment` are those of `ends`.
#[must_use]
pub fn tcp<A: IpVersion>(ends: &Ends<A>, segment: tcp::Segment, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; tcp::HEADER];
    bytes.extend_from_slice(data);
    let ports =
        tcp::Segment { source_port: ends.source_port, destination_port: ends.destination_port, ..segment };
    ports.write(&mut bytes, ends.source, ends.destination);
    ip(ends, Protocol::Tcp.number(), &bytes)
}

/// A UDP datagram.
#[must_use]
pub fn udp<A: IpVersion>(ends: &Ends<A>, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; udp::HEADER];
    bytes.extend_from_slice(data);
    udp::write(&mut bytes, ends.source, ends.destination, ends.source_port, ends.destination_port);
    ip(ends, Protocol::Udp.number(), &bytes)
}

/// An SCTP packet of one chunk, that which does what these flags do in TCP: INIT, DATA, SHUTDOWN or ABORT.
#[must_use]
pub fn sctp<A: IpVersion>(ends: &Ends<A>, flags: TcpFlags) -> Vec<u8> {
    // Room for the fixed part of the longest of them, INIT (RFC 9260, 3.3.2).
    let mut bytes = vec![0; sctp::HEADER + 20];
    bytes[..2].copy_from_slice(&ends.source_port.0.to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.destination_port.0.to_be_bytes());
    bytes[sctp::HEADER..sctp::HEADER + 4].copy_from_slice(&[sctp::chunk_like(flags), 0, 0, 20]);
    sctp::fill_checksum(&mut bytes);
    ip(ends, Protocol::Sctp.number(), &bytes)
}

/// An ICMP or ICMPv6 message.
#[must_use]
pub fn icmp<A: IpVersion>(ends: &Ends<A>, kind: u8, code: u8, word: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; icmp::HEADER];
    bytes.extend_from_slice(data);
    icmp::write(&mut bytes, ends.source, ends.destination, kind, code, word);
    ip(ends, A::ICMP_PROTOCOL, &bytes)
}
