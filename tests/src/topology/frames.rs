//! Frames that tests send and expect, built apart from the data path's own builders.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, Ipv4Header, Ipv6Header, NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TransportHeader,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Everybody's.
pub const BROADCAST: Mac = [0xff; 6];

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with the flags of these letters (`SAFRP`).
    Tcp(&'static str),
    /// UDP.
    Udp,
}

/// A TCP or UDP packet in an Ethernet frame, whole and with right checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source MAC.
    pub from: Mac,
    /// Destination MAC.
    pub to: Mac,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP or UDP.
    pub transport: Transport,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// An address with a port.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}: no address with a port"))
}

/// An address.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}: no address"))
}

impl Packet {
    /// A packet with TTL 64.
    #[must_use]
    pub fn new(
        transport: Transport,
        [from, to]: [Mac; 2],
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        Self { from, to, source, destination, ttl: 64, transport, payload: b"end to end".to_vec() }
    }

    /// What answers it: everything the other way round, TTL 64.
    #[must_use]
    pub fn answered(&self, transport: Transport) -> Self {
        let [source, destination] = [self.destination, self.source];
        Self { from: self.to, to: self.from, source, destination, ttl: 64, transport, ..self.clone() }
    }

    /// The frame.
    ///
    /// # Panics
    /// When the addresses are of two families.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.from, self.to);
        let step = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(to)) => ethernet.ipv4(source.octets(), to.octets(), self.ttl),
            (IpAddr::V6(source), IpAddr::V6(to)) => ethernet.ipv6(source.octets(), to.octets(), self.ttl),
            _ => panic!("{self:?}: two families"),
        };
        let (source, destination) = (self.source.port(), self.destination.port());
        let mut bytes = Vec::new();
        match &self.transport {
            Transport::Udp => step.udp(source, destination).write(&mut bytes, &self.payload),
            Transport::Tcp(flags) => {
                let mut header = TcpHeader::new(source, destination, 1000, 8192);
                header.syn = flags.contains('S');
                header.ack = flags.contains('A');
                header.fin = flags.contains('F');
                header.rst = flags.contains('R');
                header.psh = flags.contains('P');
                header.acknowledgment_number = if header.ack { 2000 } else { 0 };
                step.tcp_header(header).write(&mut bytes, &self.payload)
            }
        }
        .expect("a frame");
        bytes
    }

    /// The frame with its packet inside another IP packet, as TUN makes it. The outer TTL is the inner one.
    ///
    /// # Panics
    /// When the addresses are of two families.
    #[must_use]
    pub fn tunnelled(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let whole = self.bytes();
        let (ethernet, inner) = whole.split_at(14);
        let mut bytes = ethernet.to_vec();
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(to)) => {
                let (source, to) = (source.octets(), to.octets());
                let mut header = Ipv4Header::new(inner.len() as u16, self.ttl, IpNumber::IPV4, source, to)
                    .expect("a header");
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut bytes).expect("a header");
            }
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    payload_length: inner.len() as u16,
                    next_header: IpNumber::IPV6,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                header.write(&mut bytes).expect("a header");
            }
            _ => panic!("{source} {destination}: two families"),
        }
        bytes.extend(inner);
        bytes
    }

    /// Reads a TCP or UDP frame; none when it is something else, or when it is not exactly what [`Packet::bytes`] makes of
    /// what was read, checksums and all.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let headers = PacketHeaders::from_ethernet_slice(frame).ok()?;
        let link = headers.link?.ethernet2()?;
        let (source, destination, ttl) = match headers.net? {
            NetHeaders::Ipv4(ip, _) => {
                (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.time_to_live)
            }
            NetHeaders::Ipv6(ip, _) => (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.hop_limit),
            NetHeaders::Arp(_) => return None,
        };
        let (transport, source_port, destination_port) = match headers.transport? {
            TransportHeader::Udp(udp) => (Transport::Udp, udp.source_port, udp.destination_port),
            TransportHeader::Tcp(tcp) => {
                (Transport::Tcp(flags(&tcp)?), tcp.source_port, tcp.destination_port)
            }
            _ => return None,
        };
        let packet = Self {
            from: link.source,
            to: link.destination,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            ttl,
            transport,
            payload: headers.payload.slice().to_vec(),
        };
        (packet.bytes() == frame).then_some(packet)
    }
}

/// The letters of the combinations that tests use.
fn flags(tcp: &TcpHeader) -> Option<&'static str> {
    Some(match (tcp.syn, tcp.ack, tcp.fin, tcp.rst, tcp.psh) {
        (true, false, false, false, false) => "S",
        (true, true, false, false, false) => "SA",
        (false, true, false, false, false) => "A",
        (false, true, false, false, true) => "PA",
        (false, true, true, false, false) => "FA",
        (false, true, false, true, false) => "RA",
        (false, false, false, true, false) => "R",
        _ => return None,
    })
}

/// A ping of `destination`, with right checksums.
///
/// # Panics
/// When the addresses are of two families.
#[must_use]
pub fn ping([from, to]: [Mac; 2], source: IpAddr, destination: IpAddr, number: u16) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(from, to);
    let mut bytes = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(to)) => ethernet
            .ipv4(source.octets(), to.octets(), 64)
            .icmpv4_echo_request(7, number)
            .write(&mut bytes, b"ping"),
        (IpAddr::V6(source), IpAddr::V6(to)) => ethernet
            .ipv6(source.octets(), to.octets(), 64)
            .icmpv6_echo_request(7, number)
            .write(&mut bytes, b"ping"),
        _ => panic!("{source} {destination}: two families"),
    }
    .expect("a frame");
    bytes
}

/// An ARP packet (RFC 826): operation 1 asks for `target`'s MAC, 2 answers.
///
/// # Panics
/// When an address is no IPv4 address.
#[must_use]
pub fn arp(operation: u16, [from, to]: [Mac; 2], sender: (Mac, IpAddr), target: (Mac, IpAddr)) -> Vec<u8> {
    let mut frame = [&to[..], &from, &[8, 6, 0, 1, 8, 0, 6, 4]].concat();
    frame.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        let IpAddr::V4(address) = address else { panic!("{address}: ARP is for IPv4") };
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame
}

/// A neighbour discovery message (RFC 4861): type 135 asks for `target`, 136 answers; `option` is the link-layer address that
/// it carries.
///
/// # Panics
/// When an address is no IPv6 address.
#[must_use]
pub fn neighbour(
    kind: u8,
    [from, to]: [Mac; 2],
    [source, destination, target]: [IpAddr; 3],
    flags: u8,
    option: Option<Mac>,
) -> Vec<u8> {
    let [source, destination, target] = [source, destination, target].map(|address| match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(_) => panic!("{address}: neighbour discovery is for IPv6"),
    });
    let mut payload = target.to_vec();
    if let Some(mac) = option {
        payload.extend([if kind == 135 { 1 } else { 2 }, 1]);
        payload.extend(mac);
    }
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(from, to)
        .ipv6(source, destination, 255)
        .icmpv6_raw(kind, 0, [flags, 0, 0, 0])
        .write(&mut bytes, &payload)
        .expect("a frame");
    bytes
}

/// The multicast address and MAC at which a neighbour is asked for (RFC 4291, 2.7.1; RFC 2464, 7).
///
/// # Panics
/// When it is no IPv6 address.
#[must_use]
pub fn solicited(target: IpAddr) -> (Mac, IpAddr) {
    let IpAddr::V6(target) = target else { panic!("{target}: no IPv6 address") };
    let [.., a, b, c] = target.octets();
    let mut group = "ff02::1:ff00:0".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    group[13..].copy_from_slice(&[a, b, c]);
    ([0x33, 0x33, 0xff, a, b, c], IpAddr::from(group))
}

/// Writes a right checksum into an IPv4 header without options of a frame that was altered.
///
/// # Panics
/// When the frame has none.
pub fn mend_ipv4_checksum(frame: &mut [u8]) {
    crate::packets::mend_ipv4(frame);
}

/// The addresses and type of an ICMP or ICMPv6 frame: source, destination, type, code.
#[must_use]
pub fn icmp(frame: &[u8]) -> Option<(IpAddr, IpAddr, u8, u8)> {
    let word = |at: usize| frame.get(at..at + 2);
    match word(12)? {
        [8, 0] if *frame.get(23)? == 1 => {
            let at = 14 + usize::from(frame[14] & 15) * 4;
            let address = |at: usize| {
                frame.get(at..at + 4)?.try_into().ok().map(|octets: [u8; 4]| IpAddr::from(octets))
            };
            let [kind, code] = *word(at)? else { return None };
            Some((address(26)?, address(30)?, kind, code))
        }
        [0x86, 0xdd] if *frame.get(20)? == 58 => {
            let address = |at: usize| {
                frame.get(at..at + 16)?.try_into().ok().map(|octets: [u8; 16]| IpAddr::from(octets))
            };
            let [kind, code] = *word(54)? else { return None };
            Some((address(22)?, address(38)?, kind, code))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_read_back() {
        for (source, destination) in [("192.0.2.1:1", "192.0.2.2:2"), ("[2001:db8::1]:1", "[2001:db8::2]:2")]
        {
            for transport in [Transport::Udp, Transport::Tcp("S"), Transport::Tcp("PA")] {
                let packet = Packet::new(transport, [[2; 6], [4; 6]], at(source), at(destination));
                let mut bytes = packet.bytes();
                assert_eq!(Packet::read(&bytes).as_ref(), Some(&packet));
                assert!(!crate::text::frame(&bytes).contains("BAD"));
                *bytes.last_mut().unwrap() ^= 1;
                assert_eq!(Packet::read(&bytes), None, "a wrong checksum");
            }
        }
    }
}
