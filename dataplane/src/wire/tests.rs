//! What `parse` takes and refuses.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::plain::{Arrival, Plain};
use super::testing::*;
use super::*;
use crate::packet::Packet;
use crate::reply;
use crate::rewrite::{dr, nat, tun};
use crate::service::NextHop;
use crate::service::tunnel::{Tunnel, TunnelChecksum};
use crate::wire::ethernet::Macs;

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn reads_the_common_frames() {
    let syn = v4(&hex(SYN_V4));
    assert_eq!(
        syn,
        Headers {
            source: Ipv4Addr::new(198, 51, 100, 1),
            destination: Ipv4Addr::new(10, 0, 0, 100),
            source_port: L4Port(40_000),
            destination_port: L4Port(80),
            network: 14,
            transport: 34,
            end: 74,
            ttl: 64,
            protocol: TCP,
            tcp_flags: TcpFlags::SYN,
            fragment: Fragment::Whole,
            link_group: false,
            options: Options::NONE,
        }
    );
    assert_eq!((syn.ip_length(), syn.transport_length()), (60, 40));
    let flow = syn.flow().unwrap();
    assert_eq!(
        (flow.source_port, flow.destination_port, flow.protocol),
        (L4Port(40_000), L4Port(80), Protocol::Tcp)
    );

    let syn = v6(&hex(SYN_V6));
    assert_eq!(
        (syn.source, syn.destination),
        ("2001:db8:c::4".parse().unwrap(), "2001:db8::100".parse().unwrap())
    );
    assert_eq!((syn.source_port, syn.destination_port), (L4Port(40_003), L4Port(80)));
    assert_eq!((syn.network, syn.transport, syn.end, syn.ttl, syn.protocol), (14, 54, 94, 61, TCP));

    let datagram = v4(&hex(UDP_V4));
    assert_eq!((datagram.source_port, datagram.destination_port), (L4Port(5300), L4Port(53)));
    assert_eq!((datagram.protocol, datagram.tcp_flags, datagram.end), (UDP, TcpFlags::default(), 48));

    let ping = hex(PING_V4);
    let headers = v4(&ping);
    assert_eq!((headers.icmp_type(&ping), headers.flow()), (Some(8), None));
    assert_eq!((headers.source_port, headers.destination_port), (L4Port(0), L4Port(0)));
    let ping = hex(PING_V6);
    assert_eq!(v6(&ping).icmp_type(&ping), Some(128));
    assert!(!v6(&ping).is_neighbour_discovery(&ping));

    assert_eq!(v4(&hex(RECORD_ROUTE)).options.record_route(), Some(20));
    let arp = arp::request(ROUTER, Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(10, 0, 0, 100));
    assert_eq!(parse(&arp, DIRECTOR), Ok(Frame::Arp));
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let mut frame = hex(UDP_V4);
    frame.resize(60, 0xa5);
    let headers = v4(&frame);
    assert_eq!((headers.end, headers.transport_bytes(&frame).len()), (48, 14));
    assert!(headers.transport_checksum_holds(&frame));
}

#[test]
fn checksums_of_transports() {
    for frame in [SYN_V4, UDP_V4, PING_V4, RECORD_ROUTE].map(hex) {
        let headers = v4(&frame);
        assert!(
            headers.transport_checksum_holds(&frame) && !headers.checksum_not_filled(&frame),
            "{}",
            text(&frame)
        );
        let mut wrong = frame.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(!headers.transport_checksum_holds(&wrong), "{}", text(&wrong));
    }
    for frame in [SYN_V6, PING_V6].map(hex) {
        let headers = v6(&frame);
        assert!(
            headers.transport_checksum_holds(&frame) && !headers.checksum_not_filled(&frame),
            "{}",
            text(&frame)
        );
    }
    // As a veth hands it over when its peer leaves checksums to the NIC.
    let mut frame = hex(SYN_V4);
    let headers = v4(&frame);
    let left = checksum::pseudo_header(headers.source, headers.destination, TCP, 40).fold();
    put(&mut frame, 34 + tcp::field::CHECKSUM, left.to_be_bytes());
    assert!(headers.checksum_not_filled(&frame) && !headers.transport_checksum_holds(&frame));
    let mut frame = hex(UDP_V4);
    put(&mut frame, 34 + udp::field::CHECKSUM, [0, 0]);
    assert!(v4(&frame).transport_checksum_holds(&frame));
}

/// A change to a good frame, and what comes of it.
type Change = (&'static str, &'static [(usize, &'static [u8])], DropReason);

/// Makes changes to a frame; IPv4 header checksums follow.
fn changed(good: &str, changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = hex(good);
    for (at, bytes) in changes {
        frame[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    if frame[12..14] == [8, 0] && frame[14] >> 4 == 4 {
        fix_header_checksum(&mut frame);
    }
    frame
}

fn refused(good: &str, table: &[Change]) {
    assert!(parse(&hex(good), DIRECTOR).is_ok());
    for (what, changes, want) in table {
        assert_eq!(parse(&changed(good, changes), DIRECTOR), Err(*want), "{what}");
    }
}

#[test]
fn refuses_what_is_cut_or_too_large() {
    let syn = hex(SYN_V4);
    let syn6 = hex(SYN_V6);
    for (frame, want) in [
        (&syn[..0], DropReason::Truncated),
        (&syn[..13], DropReason::Truncated),
        (&syn[..14], DropReason::Truncated),
        (&syn[..33], DropReason::Truncated),
        (&syn[..34], DropReason::CutShort),
        (&syn[..73], DropReason::CutShort),
        (&syn6[..53], DropReason::Truncated),
        (&syn6[..54], DropReason::CutShort),
        (&syn6[..93], DropReason::CutShort),
    ] {
        assert_eq!(parse(frame, DIRECTOR), Err(want), "{} bytes", frame.len());
    }
    assert!(parse(&syn, DIRECTOR).is_ok() && parse(&syn6, DIRECTOR).is_ok());
    let mut largest = syn;
    largest.resize(14 + 65_535, 0);
    largest[16..18].fill(0xff);
    fix_header_checksum(&mut largest);
    assert_eq!(parse(&largest, DIRECTOR), Err(DropReason::Oversize));
}

#[test]
fn refuses_by_the_ethernet_header() {
    refused(
        SYN_V4,
        &[
            ("another MAC", &[(0, &[2, 0, 0, 0, 0xd0, 1])], DropReason::OtherMac),
            ("VLAN", &[(12, &[0x81, 0])], DropReason::Vlan),
            ("service VLAN", &[(12, &[0x88, 0xa8])], DropReason::Vlan),
            ("LLDP", &[(12, &[0x88, 0xcc])], DropReason::EtherType),
            ("a length (802.3)", &[(12, &[0, 60])], DropReason::EtherType),
            ("IPv4 said to be IPv6", &[(12, &[0x86, 0xdd])], DropReason::IpHeader),
        ],
    );
    for destination in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        let Ok(Frame::V4(headers)) = parse(&changed(SYN_V4, &[(0, &destination.0)]), DIRECTOR) else {
            panic!()
        };
        assert!(headers.link_group);
    }
}

#[test]
fn refuses_by_the_ipv4_header() {
    refused(
        SYN_V4,
        &[
            ("version 5", &[(14, &[0x55])], DropReason::IpHeader),
            ("header of 16 bytes", &[(14, &[0x44])], DropReason::IpHeader),
            ("total length below the header's", &[(16, &[0, 19])], DropReason::IpHeader),
            ("longer header than packet", &[(14, &[0x4f]), (16, &[0, 59])], DropReason::IpHeader),
            ("source 127.0.0.1", &[(26, &[127, 0, 0, 1])], DropReason::Martian),
            ("source 0.0.0.0", &[(26, &[0; 4])], DropReason::Martian),
            ("source 224.0.0.1", &[(26, &[224, 0, 0, 1])], DropReason::Martian),
            ("source 255.255.255.255", &[(26, &[255; 4])], DropReason::Martian),
            ("destination 127.0.0.1", &[(30, &[127, 0, 0, 1])], DropReason::Martian),
            ("destination 0.0.0.0", &[(30, &[0; 4])], DropReason::Martian),
            ("a datagram of 65516", &[(16, &[0, 32]), (20, &[0x1f, 0xfc])], DropReason::IpHeader),
            ("a fragment past 65535", &[(20, &[0x1f, 0xff])], DropReason::IpHeader),
            ("an empty first fragment", &[(16, &[0, 20]), (20, &[0x20, 0])], DropReason::IpHeader),
        ],
    );
    let mut frame = hex(SYN_V4);
    frame[24] ^= 1;
    assert_eq!(parse(&frame, DIRECTOR), Err(DropReason::IpChecksum));
    let mut frame = hex(RECORD_ROUTE);
    frame[40] ^= 1;
    assert_eq!(parse(&frame, DIRECTOR), Err(DropReason::IpChecksum));
}

#[test]
fn refuses_by_the_ipv4_options() {
    refused(
        RECORD_ROUTE,
        &[
            ("loose source route", &[(34, &[131])], DropReason::SourceRoute),
            ("strict source route", &[(34, &[137])], DropReason::SourceRoute),
            ("source route behind no operation", &[(34, &[1, 131, 7, 4])], DropReason::SourceRoute),
        ],
    );
    // Which byte is wrong; source routes that are malformed are no others.
    for (what, options, want) in [
        ("length 0", [130, 0, 0, 0, 0, 0, 0, 0], 20),
        ("length 1", [130, 1, 0, 0, 0, 0, 0, 0], 20),
        ("length past the header", [7, 9, 4, 0, 0, 0, 0, 0], 20),
        ("a type without length", [1, 1, 1, 1, 1, 1, 1, 130], 27),
        ("record route points at itself", [7, 7, 3, 0, 0, 0, 0, 0], 22),
        ("record route with half an address", [7, 7, 5, 0, 0, 0, 0, 0], 22),
        ("record route without pointer", [7, 2, 0, 0, 0, 0, 0, 0], 21),
        ("two record routes", [7, 3, 4, 7, 3, 4, 0, 0], 23),
        ("timestamp without flags", [68, 3, 5, 0, 0, 0, 0, 0], 21),
        ("timestamp points at itself", [68, 7, 4, 0, 0, 0, 0, 0], 22),
        ("half a timestamp", [68, 7, 5, 0, 0, 0, 0, 0], 22),
        ("half an address and timestamp", [68, 8, 5, 1, 0, 0, 0, 0], 22),
        ("as many hosts without room as can be counted", [68, 4, 5, 0xf0, 0, 0, 0, 0], 23),
        ("two timestamps", [68, 4, 5, 0, 68, 4, 5, 0], 24),
        ("router alert of 3 bytes", [148, 3, 0, 0, 0, 0, 0, 0], 21),
        ("loose source route without pointer", [131, 2, 0, 0, 0, 0, 0, 0], 21),
        ("strict source route points at itself", [137, 7, 3, 0, 0, 0, 0, 0], 22),
        ("two source routes", [131, 3, 4, 137, 3, 4, 0, 0], 23),
    ] {
        let found = v4(&changed(RECORD_ROUTE, &[(34, &options)])).options;
        assert_eq!((found.malformed(), found.record_route()), (Some(want), None), "{what}");
    }
    for (what, options, want) in [
        ("room behind no operation", [1, 7, 7, 4, 0, 0, 0, 0], Some(21)),
        ("full", [7, 7, 8, 10, 0, 0, 1, 0], None),
        ("end before it", [0, 7, 7, 4, 0, 0, 0, 0], None),
        ("router alert", [148, 4, 0, 0, 0, 0, 0, 0], None),
        ("timestamp with room", [68, 8, 5, 0, 0, 0, 0, 0], None),
        ("timestamp without room, of these hosts", [68, 4, 5, 0xf3, 0, 0, 0, 0], None),
    ] {
        let found = v4(&changed(RECORD_ROUTE, &[(34, &options)])).options;
        assert_eq!((found.malformed(), found.record_route()), (None, want), "{what}");
        assert_eq!(found.is_trailed(), what == "end before it", "{what}");
    }
}

#[test]
fn refuses_by_the_transport_header() {
    refused(SYN_V4, &[("TCP of 19 bytes", &[(16, &[0, 39])], DropReason::TransportHeader)]);
    refused(UDP_V4, &[("UDP of 7 bytes", &[(16, &[0, 27])], DropReason::TransportHeader)]);
    refused(PING_V4, &[("ICMP of 7 bytes", &[(16, &[0, 27])], DropReason::TransportHeader)]);
    refused(PING_V6, &[("ICMPv6 of 7 bytes", &[(18, &[0, 7])], DropReason::TransportHeader)]);
    refused(SYN_V6, &[("TCP of 19 bytes", &[(18, &[0, 19])], DropReason::TransportHeader)]);
}

#[test]
fn a_first_fragment_shows_what_it_has_of_its_transport_header() {
    for (length, ports, flags) in
        [(39, (40000, 80), TcpFlags::SYN), (28, (40000, 80), TcpFlags(0)), (23, (0, 0), TcpFlags(0))]
    {
        let headers = v4(&changed(SYN_V4, &[(16, &[0, length]), (20, &[0x20, 0])]));
        assert_eq!(headers.fragment, Fragment::First);
        assert_eq!((headers.source_port.0, headers.destination_port.0), ports, "{length}");
        assert_eq!(headers.tcp_flags, flags, "{length}");
    }
}

#[test]
fn refuses_by_the_ipv6_header() {
    const LOOPBACK: [u8; 16] = Ipv6Addr::LOCALHOST.octets();
    const HOP_BY_HOP_LATER: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
    refused(
        SYN_V6,
        &[
            ("version 4", &[(14, &[0x40])], DropReason::IpHeader),
            ("source ::1", &[(22, &LOOPBACK)], DropReason::Martian),
            ("source ::", &[(22, &[0; 16])], DropReason::Martian),
            ("ICMPv6 from :: to a host", &[(20, &[58]), (22, &[0; 16])], DropReason::Martian),
            ("source ff02::", &[(22, &[0xff, 2])], DropReason::Martian),
            ("destination ::1", &[(38, &LOOPBACK)], DropReason::Martian),
            ("destination ::", &[(38, &[0; 16])], DropReason::Martian),
            ("hop by hop in second place", &[(20, &[60]), (54, HOP_BY_HOP_LATER)], DropReason::IpHeader),
            ("an extension past the end", &[(20, &[60]), (54, &[6, 5])], DropReason::IpHeader),
            ("an extension past the payload", &[(18, &[0, 7]), (20, &[60])], DropReason::IpHeader),
            ("no payload for the extension", &[(18, &[0, 0]), (20, &[60])], DropReason::IpHeader),
            ("routing type 0", &[(20, &[43]), (54, &[6, 0, 0, 1])], DropReason::SourceRoute),
            ("fragment past 65535", &[(20, &[44]), (54, &[6, 0, 0xff, 0xf9])], DropReason::IpHeader),
            ("empty fragment", &[(18, &[0, 8]), (20, &[44]), (54, &[6, 0, 0, 1])], DropReason::IpHeader),
        ],
    );
}

/// The IPv6 SYN with extension headers put in front of TCP; `first` is the number of the first.
fn extended(first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut frame = hex(SYN_V6);
    frame[20] = first;
    frame[18..20].copy_from_slice(&(40 + extensions.len() as u16).to_be_bytes());
    frame.splice(54..54, extensions.iter().copied());
    frame
}

#[test]
fn follows_ipv6_extensions() {
    let destination_options = [60, 0, 1, 4, 0, 0, 0, 0];
    let last = [6, 0, 1, 4, 0, 0, 0, 0];
    let chain = |count: usize| [destination_options.repeat(count - 1).as_slice(), &last].concat();
    for (what, frame, want) in [
        ("hop by hop", extended(0, &last), (62, TCP, Fragment::Whole, 80)),
        ("eight", extended(60, &chain(8)), (118, TCP, Fragment::Whole, 80)),
        ("routing type 2", extended(43, &[6, 0, 2, 0, 0, 0, 0, 0]), (62, TCP, Fragment::Whole, 80)),
        (
            "authentication",
            extended(51, &[[6, 1].as_slice(), &[0; 10]].concat()),
            (66, TCP, Fragment::Whole, 80),
        ),
        ("atomic fragment", extended(44, &[6, 0, 0, 0, 1, 2, 3, 4]), (62, TCP, Fragment::Atomic, 80)),
        ("first fragment", extended(44, &[6, 0, 0, 1, 1, 2, 3, 4]), (62, TCP, Fragment::First, 80)),
        ("later fragment", extended(44, &[6, 0, 0, 9, 1, 2, 3, 4]), (62, TCP, Fragment::Later, 0)),
        ("later fragment of options", extended(44, &[60, 0, 0, 9, 1, 2, 3, 4]), (62, 60, Fragment::Later, 0)),
        ("no next header", extended(59, &[]), (54, 59, Fragment::Whole, 0)),
    ] {
        let headers = v6(&frame);
        let found = (headers.transport, headers.protocol, headers.fragment, headers.destination_port.0);
        assert_eq!(found, want, "{what}");
        assert_eq!(headers.flow().is_some(), want.3 == 80, "{what}");
    }
    assert_eq!(parse(&extended(60, &chain(9)), DIRECTOR), Err(DropReason::ExtensionHeaders));
}

#[test]
fn later_ipv4_fragments_have_no_ports() {
    let headers = v4(&changed(SYN_V4, &[(20, &[0, 100])]));
    assert_eq!((headers.fragment, headers.source_port, headers.flow()), (Fragment::Later, L4Port(0), None));
    let headers = v4(&changed(SYN_V4, &[(16, &[0, 31]), (20, &[0x1f, 0xfc])]));
    assert_eq!(headers.fragment, Fragment::Later, "the last of the largest datagram");
    let headers = v4(&changed(SYN_V4, &[(20, &[0x20, 0])]));
    assert_eq!((headers.fragment, headers.destination_port), (Fragment::First, L4Port(80)));
}

/// A valid frame, or one with some bytes changed, or noise.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let good =
        prop::sample::select(vec![SYN_V4, SYN_V6, UDP_V4, RECORD_ROUTE, PING_V4, PING_V6]).prop_map(hex);
    let bases = prop_oneof![
        good,
        Just(extended(0, &[43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 2, 0, 0, 0, 0, 0, 6, 0, 0, 1, 1, 2, 3, 4])),
        Just(ndp::request(ROUTER, "fe80::1".parse().unwrap(), "2001:db8::100".parse().unwrap())),
    ];
    let changes = prop::collection::vec((12_usize..80, any::<u8>()), 0..6);
    let mutated = (bases, changes, 0_usize..100, any::<bool>()).prop_map(|(mut frame, changes, cut, fix)| {
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if cut < frame.len() {
            frame.truncate(frame.len() - cut);
        }
        if fix && frame.get(12..14) == Some(&[8, 0]) {
            fix_header_checksum(&mut frame);
        }
        frame
    });
    prop_oneof![4 => mutated, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Everything that may be done to a frame that was taken.
fn use_all<A: IpVersion>(frame: &[u8], headers: &Headers<A>, other: A, outer: [std::net::IpAddr; 2]) {
    let (network, transport, end) = (headers.network, headers.transport, headers.end);
    assert!(network <= transport && transport <= end && usize::from(end) <= frame.len());
    let next_hop = NextHop { nic: crate::id::NicId(1), macs: Macs::new(ROUTER, DIRECTOR), mtu: 1500 };
    let same_length = |packet: &mut Packet<'_>| packet.len() == frame.len();
    with_room(frame, ROOM, |packet| {
        nat::to_real(packet.bytes_mut(), headers, other, Some(L4Port(8080)));
        dr::forward(packet.bytes_mut(), headers, &next_hop, other);
        nat::from_real(packet.bytes_mut(), headers, other, L4Port(80));
        assert!(same_length(packet));
        let [source, destination] = outer;
        let tunnel = Tunnel::Gue { l4_port: L4Port(6080), checksum: TunnelChecksum::Full };
        let outer = tun::Outer { source, destination, tunnel, identification: 7, pmtu_disc: true };
        assert!(tun::encapsulate(packet, headers, &outer));
    });
    let _ = (headers.flow(), headers.checksum_not_filled(frame), headers.is_neighbour_discovery(frame));
    for head in [0, ROOM] {
        let _ = with_room(frame, head, |packet| reply::echo_reply(packet, headers));
        let _ = with_room(frame, head, |packet| reply::tcp_reset(packet, headers));
        if reply::may_answer(headers, frame) {
            let error = icmp::Error::ProtocolUnreachable;
            let _ = with_room(frame, head, |packet| reply::icmp_error(packet, headers, error, other));
        }
    }
}

/// Whether these are the headers of a plain frame, whose transport header is `transport` bytes from its start.
fn is_plain<A: IpVersion>(headers: &Headers<A>, transport: u16) -> bool {
    headers.transport == transport
        && headers.fragment == Fragment::Whole
        && !headers.link_group
        && matches!(headers.transport_protocol(), Some(Protocol::Tcp | Protocol::Udp))
}

/// A TCP header that is as long as it says.
fn is_sound<A: IpVersion>(frame: &[u8], headers: &Headers<A>) -> bool {
    headers.transport_protocol() != Some(Protocol::Tcp)
        || tcp::Segment::parse(headers.transport_bytes(frame)).is_some()
}

#[test]
fn a_udp_datagram_is_as_long_as_it_says() {
    let v4_of = |length: u8| changed(UDP_V4, &[(38, &[0, length])]);
    let whole = v4(&hex(UDP_V4));
    let bytes = whole.transport_length() as u8;
    for (length, want) in [(0, None), (7, None), (8, Some(8)), (bytes, Some(bytes)), (bytes + 1, None)] {
        let frame = v4_of(length);
        let found = v4(&frame).udp_datagram(&frame).map(|datagram| datagram.transport_length() as u8);
        assert_eq!(found, want, "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_frame_makes_anything_panic(frame in frames()) {
        let outer_v4 = [Ipv4Addr::new(10, 1, 0, 1).into(), Ipv4Addr::new(10, 1, 0, 11).into()];
        let outer_v6 = [Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()];
        let mac = ethernet::destination(&frame).unwrap_or(DIRECTOR);
        match parse(&frame, mac) {
            Ok(Frame::V4(headers)) => use_all(&frame, &headers, Ipv4Addr::new(10, 1, 0, 11), outer_v4),
            Ok(Frame::V6(headers)) => {
                let _ = ndp::parse(&frame, &headers);
                use_all(&frame, &headers, Ipv6Addr::LOCALHOST, outer_v6);
            }
            Ok(Frame::Arp) => drop(arp::parse(&frame)),
            Err(_) => {}
        }
    }

    #[test]
    fn plain_frames_are_those_without_anything_else_and_read_the_same(frame in frames(), mtu in 0_u16..2000) {
        let mac = ethernet::destination(&frame).unwrap_or(DIRECTOR);
        let plain = (Ipv4Addr::plain(&frame, &Arrival::new(mac, mtu)), Ipv6Addr::plain(&frame, &Arrival::new(mac, mtu)));
        let fits = |length: usize| length <= usize::from(mtu);
        match parse(&frame, mac) {
            Ok(Frame::V4(headers)) => {
                let is_plain = is_plain(&headers, 34) && fits(headers.ip_length()) && is_sound(&frame, &headers);
                prop_assert_eq!(plain, (is_plain.then_some(headers), None));
            }
            Ok(Frame::V6(headers)) => {
                let is_plain = is_plain(&headers, 54) && fits(headers.ip_length()) && is_sound(&frame, &headers);
                prop_assert_eq!(plain, (None, is_plain.then_some(headers)));
            }
            Err(DropReason::Martian) => {
                prop_assert!(plain.0.is_none_or(|headers| headers.is_martian()));
                prop_assert!(plain.1.is_none_or(|headers| headers.is_martian()));
            }
            Ok(Frame::Arp) | Err(_) => prop_assert_eq!(plain, (None, None)),
        }
        prop_assert!(Ipv4Addr::plain(&frame, &Arrival::NONE).is_none());
        prop_assert!(Ipv6Addr::plain(&frame, &Arrival::NONE).is_none());
    }

    #[test]
    fn agrees_with_etherparse(
        v6 in any::<bool>(),
        source in any::<[u8; 16]>(),
        destination in any::<[u8; 16]>(),
        ports in any::<(u16, u16)>(),
        tcp in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        ttl in any::<u8>(),
    ) {
        let ethernet = etherparse::PacketBuilder::ethernet2(ROUTER.0, DIRECTOR.0);
        let four = |bytes: [u8; 16]| [10, bytes[1], bytes[2], bytes[3]];
        let six = |mut bytes: [u8; 16]| { bytes[0] = 0x20; bytes };
        let ip = if v6 {
            ethernet.ipv6(six(source), six(destination), ttl)
        } else {
            ethernet.ipv4(four(source), four(destination), ttl)
        };
        let mut frame = Vec::new();
        if tcp {
            ip.tcp(ports.0, ports.1, 1, 64).syn().write(&mut frame, &payload).unwrap();
        } else {
            ip.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
        }
        let length = frame.len() - 14;
        frame.resize(frame.len() + 6, 0);
        let (source_port, destination_port, found) = match parse(&frame, DIRECTOR) {
            Ok(Frame::V4(headers)) => {
                prop_assert_eq!((headers.source.octets(), headers.destination.octets()), (four(source), four(destination)));
                prop_assert!(headers.transport_checksum_holds(&frame));
                (headers.source_port, headers.destination_port, (headers.ip_length(), headers.ttl, headers.tcp_flags))
            }
            Ok(Frame::V6(headers)) => {
                prop_assert_eq!((headers.source.octets(), headers.destination.octets()), (six(source), six(destination)));
                prop_assert!(headers.transport_checksum_holds(&frame));
                (headers.source_port, headers.destination_port, (headers.ip_length(), headers.ttl, headers.tcp_flags))
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((source_port.0, destination_port.0), ports);
        let flags = if tcp { TcpFlags::SYN } else { TcpFlags::default() };
        prop_assert_eq!(found, (length, ttl, flags));
    }
}
