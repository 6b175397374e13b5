//! Builds frames field by field. Written apart from the data path's own builders, so that both cannot be wrong in the
//! same way.

use std::net::IpAddr;

use shunt_dataplane::id::Mac;

use crate::text::{checksum, pseudo_header};

/// The protocol numbers that tests use (IANA).
pub mod number {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 inside.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 inside.
    pub const IPV6: u8 = 41;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// The fragment header of IPv6.
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub const ICMP6: u8 = 58;
}

/// An IP header of either family, by the family of its addresses, which must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Identification, IPv4 only.
    pub id: u16,
    /// IPv4 only.
    pub dont_fragment: bool,
    /// Flags below DF and the fragment offset in 8 bytes, IPv4 only.
    pub fragment: u16,
    /// IPv4 only; a multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Ip {
    /// A header with TTL 64 and nothing set.
    ///
    /// # Panics
    /// When these are no addresses.
    #[must_use]
    pub fn new(source: &str, destination: &str) -> Self {
        let address = |text: &str| text.parse().unwrap_or_else(|_| panic!("no address: {text}"));
        Self {
            source: address(source),
            destination: address(destination),
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            fragment: 0,
            options: Vec::new(),
        }
    }

    /// With this TTL.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// With this TOS.
    #[must_use]
    pub fn tos(self, tos: u8) -> Self {
        Self { tos, ..self }
    }

    /// With this identification.
    #[must_use]
    pub fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    /// With DF set.
    #[must_use]
    pub fn df(self) -> Self {
        Self { dont_fragment: true, ..self }
    }

    /// With these options.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }

    /// The packet that carries `data` of `protocol`.
    #[must_use]
    pub fn carry(&self, protocol: u8, data: &[u8]) -> Vec<u8> {
        let (source, destination) = self.addresses();
        if self.source.is_ipv6() {
            let mut packet = (6 << 28 | u32::from(self.tos) << 20).to_be_bytes().to_vec();
            packet.extend((data.len() as u16).to_be_bytes());
            packet.extend([protocol, self.ttl]);
            return [packet, source, destination, data.to_vec()].concat();
        }
        let header = 20 + self.options.len();
        let mut packet = vec![0x40 | (header / 4) as u8, self.tos];
        packet.extend(((header + data.len()) as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend((u16::from(self.dont_fragment) << 14 | self.fragment).to_be_bytes());
        packet.extend([self.ttl, protocol, 0, 0]);
        let mut packet = [packet, source, destination, self.options.clone()].concat();
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        [packet, data.to_vec()].concat()
    }

    fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = |address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        (bytes(self.source), bytes(self.destination))
    }

    /// Fills in the transport checksum at `at`.
    fn summed(&self, protocol: u8, mut segment: Vec<u8>, at: usize) -> Vec<u8> {
        let (source, destination) = self.addresses();
        let sum = if protocol == number::ICMP {
            checksum(&[&segment])
        } else {
            checksum(&[&pseudo_header(&source, &destination, protocol, segment.len()), &segment])
        };
        let sum = if protocol == number::UDP && sum == 0 { 0xffff } else { sum };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// A TCP packet.
    #[must_use]
    pub fn tcp(&self, tcp: &Tcp) -> Vec<u8> {
        self.carry(number::TCP, &self.summed(number::TCP, tcp.bytes(), 16))
    }

    /// A UDP packet.
    #[must_use]
    pub fn udp(&self, source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
        self.carry(number::UDP, &self.summed(number::UDP, udp_bytes(source_port, destination_port, data), 6))
    }

    /// A UDP packet without checksum.
    #[must_use]
    pub fn udp_unsummed(&self, source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
        self.carry(number::UDP, &udp_bytes(source_port, destination_port, data))
    }

    /// An SCTP packet with these chunks.
    #[must_use]
    pub fn sctp(&self, source_port: u16, destination_port: u16, chunks: &[u8]) -> Vec<u8> {
        let ports = [source_port, destination_port].map(u16::to_be_bytes);
        let mut packet = [ports.as_flattened(), &[1, 2, 3, 4, 0, 0, 0, 0], chunks].concat();
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        self.carry(number::SCTP, &packet)
    }

    /// An ICMP or ICMPv6 packet.
    #[must_use]
    pub fn icmp(&self, kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
        let segment = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), data].concat();
        let protocol = if self.source.is_ipv6() { number::ICMP6 } else { number::ICMP };
        self.carry(protocol, &self.summed(protocol, segment, 2))
    }
}

fn udp_bytes(source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
    let words = [source_port, destination_port, 8 + data.len() as u16, 0].map(u16::to_be_bytes);
    [words.as_flattened(), data].concat()
}

/// CRC32c (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |sum: u32| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| bit(sum)))
}

/// A TCP header and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The flag byte.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// Receive window.
    pub window: u16,
    /// A multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
}

impl Tcp {
    /// A segment without data; flags are letters of `FSRPAUEC`.
    #[must_use]
    pub fn new(source_port: u16, destination_port: u16, flags: &str) -> Self {
        let flags = "FSRPAUEC".chars().enumerate().filter(|(_, flag)| flags.contains(*flag));
        Self {
            source_port,
            destination_port,
            flags: flags.fold(0, |flags, (bit, _)| flags | 1 << bit),
            sequence: 0,
            acknowledged: 0,
            window: 64240,
            options: Vec::new(),
            data: Vec::new(),
        }
    }

    /// With these numbers.
    #[must_use]
    pub fn numbers(self, sequence: u32, acknowledged: u32) -> Self {
        Self { sequence, acknowledged, ..self }
    }

    /// With this receive window.
    #[must_use]
    pub fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    /// With this data.
    #[must_use]
    pub fn data(self, data: &[u8]) -> Self {
        Self { data: data.to_vec(), ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.source_port, self.destination_port].map(u16::to_be_bytes).concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledged.to_be_bytes());
        bytes.extend([(((20 + self.options.len()) / 4) << 4) as u8, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        [bytes, self.options.clone(), self.data.clone()].concat()
    }
}

/// The frame that carries an IP packet.
#[must_use]
pub fn ethernet(destination: Mac, source: Mac, packet: &[u8]) -> Vec<u8> {
    let ether_type = if packet.first().is_some_and(|byte| byte >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    frame(destination, source, u16::from_be_bytes(ether_type), packet)
}

/// The frame that carries anything.
#[must_use]
pub fn frame(destination: Mac, source: Mac, ether_type: u16, data: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &ether_type.to_be_bytes(), data].concat()
}

/// Makes the header checksum of a frame's IPv4 packet hold; nothing when it has no whole header.
pub fn mend_ipv4(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&[8, 0]) {
        return;
    }
    let Some(first) = frame.get(14) else { return };
    let Some(header) = frame.get_mut(14..14 + usize::from(first & 15) * 4) else { return };
    if let Some(field) = header.get_mut(10..12) {
        field.fill(0);
        let sum = checksum(&[header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn frames_read_as_they_were_built() {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let v4 = Ip::new("192.0.2.1", "192.0.2.2").ttl(7).tos(0xb9).id(5).df();
        let v6 = Ip::new("2001:db8::1", "2001:db8::2").ttl(7).tos(0xb9);
        let tcp = Tcp::new(1000, 80, "SA").numbers(3, 4).data(b"odd");
        let read = |packet: Vec<u8>| text::frame(&ethernet(b, a, &packet));
        assert_eq!(
            read(v4.tcp(&tcp)),
            "000001>000002 192.0.2.1>192.0.2.2 ttl=7 tos=b9 id=5 DF TCP 1000>80 SA seq=3 ack=4 data=3"
        );
        assert_eq!(
            read(v6.tcp(&tcp)),
            "000001>000002 2001:db8::1>2001:db8::2 hlim=7 tc=b9 flow=0 TCP 1000>80 SA seq=3 ack=4 data=3"
        );
        // The check value of CRC32c's catalogue entry.
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert!(read(v4.udp(1, 2, b"x")).ends_with("UDP 1>2 len=9"));
        assert!(read(v6.udp(1, 2, b"x")).ends_with("UDP 1>2 len=9"));
        assert!(read(v4.udp_unsummed(1, 2, b"x")).ends_with("UDP 1>2 len=9 nosum"));
        assert!(read(v4.icmp(8, 0, 0x10001, b"ping")).ends_with("ICMP 8/0 rest=00010001"));
        assert!(read(v6.icmp(128, 0, 0x10001, b"ping")).ends_with("ICMP6 128/0 rest=00010001"));
    }
}
