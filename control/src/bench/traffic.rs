//! The packets of a measurement: which flow has which tuple, and its frames, by arithmetic alone. A flow costs no memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dpdk_sys::Mbuf;
use shunt_dataplane::address::Family;
use shunt_dataplane::id::{Mac, Protocol};
use shunt_dataplane::service::Method;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of the frame check sequence, which counts in a frame's size and is not in memory.
pub const FCS: usize = 4;
/// The smallest frame on a wire.
const SMALLEST: usize = 64;
/// The director's MAC.
pub const DIRECTOR_MAC: Mac = Mac([2, b's', b'h', b'u', 0, 0]);
/// The MAC of the router towards the clients.
pub const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The services' port.
pub const SERVICE_PORT: u16 = 80;
/// The port of NAT real servers.
pub const REAL_PORT: u16 = 8080;
/// TTL of packets that arrive.
pub const TTL: u8 = 64;
/// Client ports in use, for each address, from 1024 on; a power of two.
const CLIENT_PORTS: u32 = 1024;
/// Classes of clients that source hashing tells apart.
pub const SOURCE_CLASSES: usize = 256;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client's first packet: a SYN, or a datagram.
    Opening,
    /// A client's later packet.
    Request,
    /// A real server's answer.
    Answer,
}

/// Sizes of frames, FCS included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// All of one size.
    Bytes(u16),
    /// Seven of 64, four of 594, one of 1518.
    Imix,
}

impl FrameSize {
    /// The sizes in the order in which they come round; those too small for the headers are raised.
    fn sizes(self, family: Family, protocol: Protocol) -> Vec<usize> {
        let smallest = smallest(family, protocol);
        let asked: &[usize] = match self {
            Self::Bytes(bytes) => &[usize::from(bytes)],
            Self::Imix => &[64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594],
        };
        asked.iter().map(|&size| size.max(smallest)).collect()
    }

    /// What becomes of the size asked for: frames hold at least their headers.
    #[must_use]
    pub fn effective(self, family: Family, protocol: Protocol) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.max(smallest(family, protocol) as u16)),
            Self::Imix => Self::Imix,
        }
    }
}

/// The smallest frame with these headers.
fn smallest(family: Family, protocol: Protocol) -> usize {
    let ip = if family == Family::V4 { 20 } else { 40 };
    let transport = if protocol == Protocol::Tcp { 20 } else { 8 };
    (ETHERNET + ip + transport + FCS).max(SMALLEST)
}

/// The last 32 bits of both addresses, and both ports: what distinguishes the frames of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Of the source address.
    pub source: u32,
    /// Of the destination address.
    pub destination: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// Where the fields of a tuple stand in a frame.
#[derive(Clone, Copy, Debug)]
struct Layout {
    source: usize,
    destination: usize,
    transport: usize,
    ip_checksum: Option<usize>,
    checksum: usize,
}

impl Layout {
    const fn of(family: Family, protocol: Protocol) -> Self {
        let (source, destination, transport, ip_checksum) = match family {
            Family::V4 => (ETHERNET + 12, ETHERNET + 16, ETHERNET + 20, Some(ETHERNET + 10)),
            Family::V6 => (ETHERNET + 20, ETHERNET + 36, ETHERNET + 40, None),
        };
        let checksum = transport
            + match protocol {
                Protocol::Tcp => 16,
                // Nothing is measured with the others.
                Protocol::Udp | Protocol::Sctp | Protocol::Icmp => 6,
            };
        Self { source, destination, transport, ip_checksum, checksum }
    }
}

/// A frame without its tuple, and the sums of its headers so far.
#[derive(Clone, Debug)]
struct Shape {
    bytes: Vec<u8>,
    ip_sum: u32,
    transport_sum: u32,
}

/// All flows of a measurement.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Their family.
    pub family: Family,
    /// Their protocol.
    pub protocol: Protocol,
    /// How many services they are for.
    pub services: u32,
    /// How many real servers each service has.
    pub reals: u32,
    /// The real server of a service's first connection, its second, and so on, round and round; by source, that of
    /// each value of [`Traffic::source_class`].
    pub order: Vec<u32>,
    /// True when the client's address alone chooses the real server.
    pub by_source: bool,
    layout: Layout,
    shapes: [Vec<Shape>; 3],
}

impl Traffic {
    /// Flows of one family and protocol.
    #[must_use]
    pub fn new(family: Family, protocol: Protocol, frame: FrameSize, services: u32, reals: u32) -> Self {
        let sizes = frame.sizes(family, protocol);
        let shapes = [Kind::Opening, Kind::Request, Kind::Answer]
            .map(|kind| sizes.iter().map(|&size| shape(family, protocol, kind, size - FCS)).collect());
        let layout = Layout::of(family, protocol);
        let order = (0..reals).collect();
        Self { family, protocol, services, reals, order, by_source: false, layout, shapes }
    }

    /// The tuple of a frame of a flow. No two flows have the same, and neighbours in number are none in the table.
    #[inline]
    #[must_use]
    pub fn tuple(&self, kind: Kind, flow: u32) -> Tuple {
        let mixed = mix(flow);
        let client = CLIENTS_LOW + mixed / CLIENT_PORTS;
        let client_port = (1024 + mixed % CLIENT_PORTS) as u16;
        match kind {
            Kind::Opening | Kind::Request => Tuple {
                source: client,
                destination: VIPS_LOW + self.service(flow),
                source_port: client_port,
                destination_port: SERVICE_PORT,
            },
            Kind::Answer => Tuple {
                source: REALS_LOW + self.real(flow),
                destination: client,
                source_port: REAL_PORT,
                destination_port: client_port,
            },
        }
    }

    /// The service of a flow.
    #[inline]
    #[must_use]
    pub fn service(&self, flow: u32) -> u32 {
        if self.services == 1 { 0 } else { flow % self.services }
    }

    /// The real server that a flow was given to, when flows began in the order of their numbers.
    #[inline]
    #[must_use]
    pub fn real(&self, flow: u32) -> u32 {
        if self.by_source {
            return self.order[self.source_class(flow)];
        }
        let within = if self.services == 1 { flow } else { flow / self.services };
        self.order[(within % self.reals) as usize]
    }

    /// Flows of a service whose number here is the same, of [`SOURCE_CLASSES`], have one real server when the client's
    /// address alone chooses it (kernel: `ip_vs_sh_hashkey`).
    #[inline]
    #[must_use]
    pub fn source_class(&self, flow: u32) -> usize {
        let client = CLIENTS_LOW + mix(flow) / CLIENT_PORTS;
        let folded = match self.family {
            Family::V4 => client,
            Family::V6 => client ^ 0x2001_0db8 ^ 0x000c_0000,
        };
        (folded.wrapping_mul(0x61c8_8647) >> 24) as usize
    }

    /// Shapes of frames: sizes that come round.
    #[must_use]
    pub fn sizes(&self) -> usize {
        self.shapes[0].len()
    }

    /// Bytes of a frame in the mean, with its FCS.
    #[must_use]
    pub fn mean_frame(&self) -> f64 {
        let bytes: usize = self.shapes[0].iter().map(|shape| shape.bytes.len() + FCS).sum();
        bytes as f64 / self.sizes().max(1) as f64
    }

    /// Makes the mbuf a frame of a flow; `size` is below [`Self::sizes`].
    #[inline]
    pub fn write(&self, kind: Kind, size: usize, flow: u32, mbuf: &mut Mbuf) {
        let shape = &self.shapes[kind as usize][size];
        if mbuf.fill(&shape.bytes) {
            self.put_tuple(shape, self.tuple(kind, flow), mbuf.data_mut());
        }
    }

    /// The same as bytes.
    #[must_use]
    pub fn frame(&self, kind: Kind, size: usize, flow: u32) -> Vec<u8> {
        let shape = &self.shapes[kind as usize][size];
        let mut bytes = shape.bytes.clone();
        self.put_tuple(shape, self.tuple(kind, flow), &mut bytes);
        bytes
    }

    #[inline]
    fn put_tuple(&self, shape: &Shape, tuple: Tuple, bytes: &mut [u8]) {
        let Layout { source, destination, transport, ip_checksum, checksum } = self.layout;
        bytes[source..source + 4].copy_from_slice(&tuple.source.to_be_bytes());
        bytes[destination..destination + 4].copy_from_slice(&tuple.destination.to_be_bytes());
        let ports = u32::from(tuple.source_port) << 16 | u32::from(tuple.destination_port);
        bytes[transport..transport + 4].copy_from_slice(&ports.to_be_bytes());
        let halves = |word: u32| (word >> 16) + (word & 0xffff);
        let addresses = halves(tuple.source) + halves(tuple.destination);
        if let Some(at) = ip_checksum {
            bytes[at..at + 2].copy_from_slice(&(!fold(shape.ip_sum + addresses)).to_be_bytes());
        }
        let sum = !fold(shape.transport_sum + addresses + halves(ports));
        let sum = present(self.protocol, sum);
        bytes[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The first client: 10.64.0.0 or 2001:db8:c::a40:0. There are 2^22 addresses.
const CLIENTS_LOW: u32 = 0x0a40_0000;
/// The first VIP: 198.18.0.1 or 2001:db8:18::c612:1.
const VIPS_LOW: u32 = 0xc612_0001;
/// The first real server: 192.0.2.16 or 2001:db8::c000:210.
const REALS_LOW: u32 = 0xc000_0210;

/// An address: the last 32 bits, in IPv6 below `prefix` words of 2001:db8.
fn address(family: Family, net: u16, low: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(low).into(),
        Family::V6 => Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(net) << 80 | u128::from(low)).into(),
    }
}

/// The address of a service.
#[must_use]
pub fn vip(family: Family, service: u32) -> IpAddr {
    address(family, 0x18, VIPS_LOW + service)
}

/// The address of a real server.
#[must_use]
pub fn real(family: Family, real: u32) -> IpAddr {
    address(family, 0, REALS_LOW + real)
}

/// The MAC of a real server.
#[must_use]
pub const fn real_mac(real: u32) -> Mac {
    let [_, _, high, low] = real.to_be_bytes();
    Mac([2, 0, 0, 1, high, low])
}

/// The director's own address: 192.0.2.2 or 2001:db8::c000:202.
#[must_use]
pub fn own(family: Family) -> IpAddr {
    address(family, 0, 0xc000_0202)
}

/// Its own address towards clients where it has another NIC towards real servers: 192.0.2.3 or 2001:db8::c000:203.
#[must_use]
pub fn own_in_front(family: Family) -> IpAddr {
    address(family, 0, 0xc000_0203)
}

/// An address of the director's with its network, which is that of the VIPs: 198.19.255.254/15 or 2001:db8:18::1/64.
#[must_use]
pub fn beside_vips(family: Family) -> String {
    match family {
        Family::V4 => format!("{}/15", address(family, 0, 0xc613_fffe)),
        Family::V6 => format!("{}/64", address(family, 0x18, 1)),
    }
}

/// The real servers' port: only NAT can change the one that the client used.
#[must_use]
pub const fn real_port(method: Method) -> u16 {
    match method {
        Method::Nat => REAL_PORT,
        Method::Dr | Method::Tun => SERVICE_PORT,
    }
}

/// The router's address.
#[must_use]
pub fn router(family: Family) -> IpAddr {
    address(family, 0, 0xc000_0201)
}

/// The net of the clients.
#[must_use]
pub fn clients(family: Family) -> (IpAddr, u8) {
    match family {
        Family::V4 => (address(family, 0xc, CLIENTS_LOW), 10),
        Family::V6 => (address(family, 0xc, 0), 48),
    }
}

/// A number for each number: a bijection of 32 bits that leaves nothing in order (the finalizer of MurmurHash3).
#[inline]
#[must_use]
pub const fn mix(number: u32) -> u32 {
    let a = number ^ number >> 16;
    let b = a.wrapping_mul(0x85eb_ca6b);
    let c = b ^ b >> 13;
    let d = c.wrapping_mul(0xc2b2_ae35);
    d ^ d >> 16
}

/// Draws flows at random: the same numbers in every run (SplitMix64).
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
    flows: u32,
}

impl Draw {
    /// Draws among `0..flows`.
    #[must_use]
    pub const fn new(flows: u32, seed: u64) -> Self {
        Self { state: seed, flows }
    }

    /// The next flow.
    #[inline]
    pub fn flow(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((b >> 32) * u64::from(self.flows) >> 32) as u32
    }
}

/// Packets of which some begin a connection.
#[derive(Clone, Debug)]
pub struct Mixture {
    draw: Draw,
    kind: Kind,
    /// Percent of packets that begin a connection.
    share: u32,
    due: u32,
    /// The next flow that was never open.
    fresh: u32,
}

impl Mixture {
    /// Packets of this kind of the open flows `0..flows`, and `share` percent of all that begin the connections
    /// from number `fresh` on.
    #[must_use]
    pub const fn new(kind: Kind, flows: u32, share: u32, fresh: u32, seed: u64) -> Self {
        Self { draw: Draw::new(flows, seed), kind, share, due: 0, fresh }
    }

    /// The next packet.
    #[inline]
    pub fn packet(&mut self) -> (Kind, u32) {
        self.due += self.share;
        if self.due >= 100 {
            self.due -= 100;
            let flow = self.fresh;
            // Wrapped round, it would come to the open flows.
            self.fresh = self.fresh.wrapping_add(1).max(self.draw.flows);
            return (Kind::Opening, flow);
        }
        (self.kind, self.draw.flow())
    }

    /// The next flow that was never open.
    #[must_use]
    pub const fn fresh(&self) -> u32 {
        self.fresh
    }
}

/// A one's complement sum in 16 bits.
#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// A transport checksum as it is sent: 0 would say "none" in UDP (RFC 768), and says what it is in TCP.
#[inline]
const fn present(protocol: Protocol, checksum: u16) -> u16 {
    match protocol {
        Protocol::Udp if checksum == 0 => 0xffff,
        Protocol::Udp | Protocol::Tcp | Protocol::Sctp | Protocol::Icmp => checksum,
    }
}

/// The one's complement sum of bytes, word by word (RFC 1071).
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum()
}

/// Fills in the checksums of an IPv4 header at `network`, if it is one.
pub fn fill_ip_checksum(bytes: &mut [u8], network: usize) {
    if bytes[network] >> 4 == 4 {
        let at = network + 10;
        bytes[at..at + 2].copy_from_slice(&[0; 2]);
        let checksum = !fold(sum(&bytes[network..network + 20]));
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Fills in the checksum of the transport header of a frame without options, in full.
pub fn fill_transport_checksum(family: Family, protocol: Protocol, bytes: &mut [u8]) {
    let Layout { transport, checksum, .. } = Layout::of(family, protocol);
    let addresses = if family == Family::V4 { ETHERNET + 12 } else { ETHERNET + 8 };
    bytes[checksum..checksum + 2].copy_from_slice(&[0; 2]);
    let length = (bytes.len() - transport) as u32;
    let pseudo = sum(&bytes[addresses..transport]) + length + u32::from(protocol.number());
    let value = !fold(u32::from(fold(pseudo)) + u32::from(fold(sum(&bytes[transport..]))));
    let value = present(protocol, value);
    bytes[checksum..checksum + 2].copy_from_slice(&value.to_be_bytes());
}

/// A frame with the last 32 bits of the addresses and both ports 0, `length` bytes in memory.
fn shape(family: Family, protocol: Protocol, kind: Kind, length: usize) -> Shape {
    let layout = Layout::of(family, protocol);
    let mut bytes = vec![0; length];
    bytes[0..6].copy_from_slice(&DIRECTOR_MAC.0);
    let from = if kind == Kind::Answer { real_mac(0) } else { ROUTER_MAC };
    bytes[6..12].copy_from_slice(&from.0);
    let ethertype: u16 = if family == Family::V4 { 0x0800 } else { 0x86dd };
    bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
    let (client, vip, real) = (address(family, 0xc, 0), address(family, 0x18, 0), address(family, 0, 0));
    let (source, destination) = if kind == Kind::Answer { (real, client) } else { (client, vip) };
    let ip = &mut bytes[ETHERNET..];
    let total = (length - ETHERNET) as u16;
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[6] = 0x40;
            ip[8..10].copy_from_slice(&[TTL, protocol.number()]);
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&(total - 40).to_be_bytes());
            ip[6..8].copy_from_slice(&[protocol.number(), TTL]);
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&destination.octets());
        }
        _ => {}
    }
    let transport = &mut bytes[layout.transport..];
    let header = match protocol {
        Protocol::Udp | Protocol::Sctp | Protocol::Icmp => {
            let length = transport.len() as u16;
            transport[4..6].copy_from_slice(&length.to_be_bytes());
            8
        }
        Protocol::Tcp => {
            transport[4..12].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
            let flags = if kind == Kind::Opening { 0x02 } else { 0x10 };
            transport[12..16].copy_from_slice(&[0x50, flags, 0x20, 0]);
            20
        }
    };
    for (number, byte) in transport[header..].iter_mut().enumerate() {
        *byte = number as u8;
    }
    let addresses = if family == Family::V4 { ETHERNET + 12 } else { ETHERNET + 8 };
    let pseudo = sum(&bytes[addresses..layout.transport])
        + (length - layout.transport) as u32
        + u32::from(protocol.number());
    let transport_sum = u32::from(fold(pseudo + sum(&bytes[layout.transport..])));
    let ip_sum = if family == Family::V4 { sum(&bytes[ETHERNET..ETHERNET + 20]) } else { 0 };
    Shape { bytes, ip_sum, transport_sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use shunt_dataplane::wire::{self, Frame};

    const ALL: [(Family, Protocol); 4] = [
        (Family::V4, Protocol::Udp),
        (Family::V4, Protocol::Tcp),
        (Family::V6, Protocol::Udp),
        (Family::V6, Protocol::Tcp),
    ];

    #[test]
    fn every_flow_has_its_own_tuple() {
        let traffic = Traffic::new(Family::V4, Protocol::Udp, FrameSize::Bytes(64), 1, 10);
        let tuples: HashSet<_> = (0..200_000).map(|flow| traffic.tuple(Kind::Request, flow)).collect();
        assert_eq!(tuples.len(), 200_000);
    }

    #[test]
    fn frames_are_what_they_should_be() {
        for (family, protocol) in ALL {
            for size in [FrameSize::Bytes(64), FrameSize::Bytes(1518), FrameSize::Imix] {
                let traffic = Traffic::new(family, protocol, size, 3, 10);
                for (kind, shape) in
                    [(Kind::Opening, 0), (Kind::Request, 0), (Kind::Answer, traffic.sizes() - 1)]
                {
                    let mut frame = traffic.frame(kind, shape, 12_345);
                    let made = frame.clone();
                    fill_ip_checksum(&mut frame, ETHERNET);
                    fill_transport_checksum(family, protocol, &mut frame);
                    assert_eq!(frame, made, "{family:?} {protocol} {size:?}: checksums step by step");
                    let holds = match wire::parse(&frame, DIRECTOR_MAC) {
                        Ok(Frame::V4(headers)) => {
                            family == Family::V4 && headers.transport_checksum_holds(&frame)
                        }
                        Ok(Frame::V6(headers)) => {
                            family == Family::V6 && headers.transport_checksum_holds(&frame)
                        }
                        _ => false,
                    };
                    assert!(holds, "{family:?} {protocol} {size:?} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn the_asked_share_begins_connections() {
        for share in [0, 1, 30, 100] {
            let mut mixture = Mixture::new(Kind::Request, 10, share, 10, 1);
            let new = (0..1000).filter(|_| mixture.packet().0 == Kind::Opening).count() as u32;
            assert_eq!((new, mixture.fresh()), (share * 10, 10 + share * 10));
        }
        let mut last = Mixture::new(Kind::Request, 10, 100, u32::MAX, 1);
        assert_eq!((last.packet().1, last.packet().1), (u32::MAX, 10));
    }

    #[test]
    fn only_udp_avoids_a_checksum_of_zero() {
        for (protocol, never) in [(Protocol::Tcp, 0xffff), (Protocol::Udp, 0)] {
            let traffic = Traffic::new(Family::V4, protocol, FrameSize::Bytes(64), 1, 10);
            let at = traffic.layout.checksum;
            let checksum = |flow| {
                let frame = traffic.frame(Kind::Request, 0, flow);
                u16::from_be_bytes([frame[at], frame[at + 1]])
            };
            let seen: HashSet<u16> = (0..1_000_000).map(checksum).collect();
            assert_eq!((seen.contains(&never), seen.contains(&!never)), (false, true), "{protocol}");
        }
    }

    #[test]
    fn frames_have_room_for_their_headers() {
        let effective = |(family, protocol)| FrameSize::Bytes(64).effective(family, protocol);
        assert_eq!(ALL.map(effective), [64, 64, 66, 78].map(FrameSize::Bytes));
    }

    #[test]
    fn draws_cover_all_flows_and_no_other() {
        let mut draw = Draw::new(10, 1);
        let seen: HashSet<_> = (0..1000).map(|_| draw.flow()).collect();
        assert_eq!(seen, (0..10).collect());
    }
}
