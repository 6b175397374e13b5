//! Rewriting as the kernel does it, byte by byte, and what holds for any packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::id::{L4Port, Mac, NicId};
use crate::packet::Packet;
use crate::service::tunnel::{Tunnel, TunnelChecksum};
use crate::wire::build::{self, Ends};
use crate::wire::ethernet::{self, Macs};
use crate::wire::testing::*;
use crate::wire::{TcpFlags, tcp};

fn a4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn a6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// To real server `number`, out of the real servers' NIC.
fn to_real_server(number: u8) -> NextHop {
    NextHop {
        nic: NicId(1),
        macs: Macs::new(Mac([2, 0, 0, 0, 0xb0, 0x10 + number]), Mac([2, 0, 0, 0, 0xd0, 1])),
        mtu: 1500,
    }
}

/// To the clients' router.
const TO_CLIENT: NextHop = NextHop { nic: NicId(0), macs: Macs::new(ROUTER, DIRECTOR), mtu: 1500 };

/// Checks what `work` makes of a frame against a recording.
fn recorded(what: &str, given: &str, want: &str, work: impl FnOnce(&mut Packet<'_>)) {
    let (found, ()) = with_room(&hex(given), ROOM, work);
    assert_eq!(text(&found), text(&hex(want)), "{what}");
}

#[test]
fn dr_as_recorded() {
    let vip = a4("10.0.0.100");
    recorded(
        "tcp_dr, step 0",
        SYN_V4,
        "02000000b01302000000d00108004500003c100040003f06f723c63364010a000064\
         9c400050000003e800000000a002faf077fd0000020405b40402080a000000010000000001030307",
        |packet| {
            let headers = v4(packet.bytes());
            dr::forward(packet.bytes_mut(), &headers, &to_real_server(3), vip);
        },
    );
    recorded(
        "tcp_dr, step 26: record route",
        RECORD_ROUTE,
        "02000000b01302000000d0010800 47000030000000003f06d219c63364060a000064 0707080a00006400 \
         9c47005000000000000000005002faf0e3bc0000",
        |packet| {
            let headers = v4(packet.bytes());
            dr::forward(packet.bytes_mut(), &headers, &to_real_server(3), vip);
        },
    );
}

#[test]
fn nat_to_real_servers_as_recorded() {
    let vip = a4("10.0.0.100");
    let to = |real: &'static str, number: u8| {
        move |packet: &mut Packet<'_>| {
            let headers = v4(packet.bytes());
            let frame = packet.bytes_mut();
            nat::to_real(frame, &headers, a4(real), Some(L4Port(8080)));
            dr::forward(frame, &headers, &to_real_server(number), vip);
        }
    };
    recorded(
        "tcp_nat, step 0",
        SYN_V4,
        "02000000b01302000000d00108004500003c100040003f06f779c63364010a01000d\
         9c401f90000003e800000000a002faf059130000020405b40402080a000000010000000001030307",
        to("10.1.0.13", 3),
    );
    recorded(
        "tcp_nat, step 43: record route",
        RECORD_ROUTE,
        "02000000b01302000000d001080047000030000000003f06d26fc63364060a01000d0707080a00006400\
         9c471f9000000000000000005002faf0c4d20000",
        to("10.1.0.13", 3),
    );
    recorded(
        "tcp_nat, step 44: wrong TCP checksum",
        "02000000d00002000000c0010800450000280000000040064633c63364060a000064\
         9c49005000000000000000005002faf01cba0000",
        "02000000b01202000000d001080045000028000000003f06478ac63364060a01000c\
         9c491f9000000000000000005002faf0fdd00000",
        to("10.1.0.12", 2),
    );
    recorded(
        "udp_nat, step 0",
        UDP_V4,
        "02000000b01302000000d001080045000022300000003f111789c63364010a01000d14b41f90000e4733717565727930",
        to("10.1.0.13", 3),
    );
    recorded(
        "udp_nat, step 13: no checksum",
        "02000000d00002000000c001080045000021000000004011462fc63364060a00006414ba0035000d00006e6f73756d",
        "02000000b01102000000d001080045000021000000003f114787c63364060a01000b14ba1f90000d485f6e6f73756d",
        to("10.1.0.11", 1),
    );
    recorded(
        "tcp6_nat, step 0",
        "02000000d00002000000c00186dd600000000028064020010db8000c00000000000000000001\
         20010db80000000000000000000001009c400050000003e800000000a002faf050170000\
         020405b40402080a000000010000000001030307",
        "02000000b01302000000d00186dd600000000028063f20010db8000c00000000000000000001\
         20010db80001000000000000000000139c401f90000003e800000000a002faf031c30000\
         020405b40402080a000000010000000001030307",
        |packet| {
            let headers = v6(packet.bytes());
            let frame = packet.bytes_mut();
            nat::to_real(frame, &headers, a6("2001:db8:1::13"), Some(L4Port(8080)));
            dr::forward(frame, &headers, &to_real_server(3), headers.destination);
        },
    );
}

#[test]
fn nat_from_real_servers_as_recorded() {
    let from = |port: u16| {
        move |packet: &mut Packet<'_>| {
            let headers = v4(packet.bytes());
            let frame = packet.bytes_mut();
            nat::from_real(frame, &headers, a4("10.0.0.100"), L4Port(port));
            dr::forward(frame, &headers, &TO_CLIENT, a4("10.0.0.1"));
        }
    };
    recorded(
        "tcp_nat, step 1",
        "02000000d00102000000b01308004508003c200040003c06ea710a01000dc6336401\
         1f909c4000001388000003e9a012faf0457a0000020405b40402080a000000010000000001030307",
        "02000000c00102000000d00008004508003c200040003b06eb1b0a000064c6336401\
         00509c4000001388000003e9a012faf064640000020405b40402080a000000010000000001030307",
        from(80),
    );
    recorded(
        "udp_nat, step 14: no checksum",
        "02000000d00102000000b01108004500002100000000401146870a01000bc63364061f9014ba000d00006e6f73756d",
        "02000000c00102000000d000080045000021000000003f11472f0a000064c6336406003514ba000d67626e6f73756d",
        from(53),
    );
    recorded(
        "tcp6_nat, step 1",
        "02000000d00102000000b01386dd608000000028063c20010db8000100000000000000000013\
         20010db8000c000000000000000000011f909c4000001388000003e9a012faf01e2a0000\
         020405b40402080a000000010000000001030307",
        "02000000c00102000000d00086dd608000000028063b20010db8000000000000000000000100\
         20010db8000c0000000000000000000100509c4000001388000003e9a012faf03c7e0000\
         020405b40402080a000000010000000001030307",
        |packet| {
            let headers = v6(packet.bytes());
            let frame = packet.bytes_mut();
            nat::from_real(frame, &headers, a6("2001:db8::100"), L4Port(80));
            dr::forward(frame, &headers, &TO_CLIENT, headers.source);
        },
    );
}

fn outer([source, destination]: [IpAddr; 2], identification: u16) -> tun::Outer {
    tun::Outer { source, destination, tunnel: Tunnel::Ipip, identification, pmtu_disc: true }
}

/// Through a tunnel, as `forward` sends a packet.
fn through<A: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    ends: [IpAddr; 2],
    identification: u16,
) {
    pass(packet.bytes_mut(), headers, headers.destination);
    assert!(tun::encapsulate(packet, headers, &outer(ends, identification)));
    let ethertype = if ends[1].is_ipv4() { ethernet::IPV4 } else { ethernet::IPV6 };
    address(packet.bytes_mut(), &to_real_server(3), ethertype);
}

#[test]
fn tun_as_recorded() {
    let ends: [IpAddr; 2] = [a4("10.1.0.1").into(), a4("10.1.0.13").into()];
    let ends6: [IpAddr; 2] = [a6("2001:db8:1::1").into(), a6("2001:db8:1::13").into()];
    recorded(
        "tcp_tun, step 0: DF",
        SYN_V4,
        "02000000b01302000000d001080045000050000040003f04279b0a0100010a01000d\
         4500003c100040003f06f723c63364010a000064\
         9c400050000003e800000000a002faf077fd0000020405b40402080a000000010000000001030307",
        |packet| through(packet, &v4(packet.bytes()), ends, 0x1234),
    );
    recorded(
        "tcp_tun, step 18: no DF, congestion",
        "02000000d00002000000c00108004503003c100300003d06391bc63364040a000064\
         9c430050000003e800000000a002faf077f70000020405b40402080a000000010000000001030307",
        "02000000b01302000000d00108004502005072f700003c04f7a10a0100010a01000d\
         4503003c100300003c063a1bc63364040a000064\
         9c430050000003e800000000a002faf077f70000020405b40402080a000000010000000001030307",
        |packet| through(packet, &v4(packet.bytes()), ends, 0x72f7),
    );
    recorded(
        "tcp_tun, step 26: record route",
        RECORD_ROUTE,
        "02000000b01302000000d001080045000044731400003f04f4920a0100010a01000d\
         47000030000000003f06d219c63364060a0000640707080a000064009c47005000000000000000005002faf0e3bc0000",
        |packet| through(packet, &v4(packet.bytes()), ends, 0x7314),
    );
    recorded(
        "tcp6_tun, step 18: congestion",
        SYN_V6,
        "02000000b01302000000d00186dd602000000050293c20010db800010000000000000000000120010db80001\
         00000000000000000013 603000000028063c20010db8000c00000000000000000004\
         20010db8000000000000000000000100\
         9c430050000003e800000000a002faf050110000020405b40402080a000000010000000001030307",
        |packet| through(packet, &v6(packet.bytes()), ends6, 0x1234),
    );
}

#[test]
fn tunnels_between_the_families() {
    let ends: [IpAddr; 2] = [a4("10.1.0.1").into(), a4("10.1.0.11").into()];
    let ends6: [IpAddr; 2] = [a6("2001:db8:1::1").into(), a6("2001:db8:1::12").into()];
    let (frame, ()) =
        with_room(&hex(SYN_V6), ROOM, |packet| through(packet, &v6(packet.bytes()), ends, 0x279d));
    let outer = v4(&frame);
    assert_eq!((outer.protocol, outer.ttl, outer.ip_length()), (41, 60, 100));
    assert!(!Ipv4Addr::dont_fragment(&frame, &outer) && frame[18..20] == [0x27, 0x9d]);
    assert_eq!((frame[15], frame[34..38].to_vec()), (2, vec![0x60, 0x30, 0, 0]));
    let (frame, ()) = with_room(&hex(SYN_V4), ROOM, |packet| through(packet, &v4(packet.bytes()), ends6, 0));
    let outer = v6(&frame);
    assert_eq!((outer.protocol, outer.ttl, outer.ip_length()), (4, 63, 100));
}

#[test]
fn tunnels_need_room_and_one_family() {
    let four: [IpAddr; 2] = [a4("10.1.0.1").into(), a4("10.1.0.13").into()];
    let six: [IpAddr; 2] = [a6("2001:db8:1::1").into(), a6("2001:db8:1::13").into()];
    let mut padded = hex(SYN_V4);
    padded.extend([0xa5; 6]);
    for (head, ends, want) in [
        (20, four, true),
        (19, four, false),
        (40, six, true),
        (39, six, false),
        (ROOM, [four[0], six[1]], false),
    ] {
        let (frame, done) =
            with_room(&padded, head, |packet| tun::encapsulate(packet, &v4(packet.bytes()), &outer(ends, 1)));
        assert_eq!(done, want, "{head}");
        let want = if done { 74 + tun::overhead(ends[1], Tunnel::Ipip) } else { 80 };
        assert_eq!(frame.len(), usize::from(want), "{head}");
        assert!(done || frame == padded);
    }
}

/// What the director itself sends through a tunnel is what the data path makes of it, but for the TTL outside.
#[test]
fn a_frame_of_the_directors_own_is_enclosed_with_a_ttl_of_its_own() {
    let four: [IpAddr; 2] = [a4("10.1.0.1").into(), a4("10.1.0.13").into()];
    let six: [IpAddr; 2] = [a6("2001:db8:1::1").into(), a6("2001:db8:1::13").into()];
    let gue = Tunnel::Gue { l4_port: L4Port(6080), checksum: TunnelChecksum::Full };
    for (ends, tunnel) in
        [(four, Tunnel::Ipip), (six, Tunnel::Ipip), (four, Tunnel::Gre { checksum: true }), (six, gue)]
    {
        let mut frame = hex(SYN_V4);
        frame[22] = 1;
        fix_header_checksum(&mut frame);
        let outer = tun::Outer { tunnel, ..outer(ends, 7) };
        let (mut want, _) =
            with_room(&frame, ROOM, |packet| tun::encapsulate(packet, &v4(packet.bytes()), &outer));
        let (found, done) = with_room(&frame, ROOM, |packet| tun::enclose(packet, &outer, 61));
        assert!(done, "{tunnel}");
        want[ethernet::HEADER + if ends == four { 8 } else { 7 }] = 61;
        if ends == four {
            fix_header_checksum(&mut want);
        }
        // What stands in the place of an Ethernet header does not matter yet.
        assert_eq!(text(&found[ethernet::HEADER..]), text(&want[ethernet::HEADER..]), "{tunnel}");
    }
    let (frame, done) = with_room(&[0; 60], ROOM, |packet| tun::enclose(packet, &outer(four, 1), 61));
    assert!(!done && frame == [0; 60]);
}

#[test]
fn a_ttl_stops_at_zero() {
    let mut frame = hex(SYN_V4);
    frame[22] = 1;
    fix_header_checksum(&mut frame);
    for want in [0, 0] {
        let headers = v4(&frame);
        Ipv4Addr::decrement_ttl(&mut frame, &headers);
        assert_eq!(v4(&frame).ttl, want);
    }
}

fn ends<A>(source: A, destination: A, source_port: u16, destination_port: u16) -> Ends<A> {
    Ends {
        source_mac: ROUTER,
        destination_mac: DIRECTOR,
        source,
        destination,
        source_port: L4Port(source_port),
        destination_port: L4Port(destination_port),
    }
}

/// Passes a packet through NAT and back, and checks all checksums on the way.
fn there_and_back<A: IpVersion>(
    frame: &[u8],
    real: A,
    port: Option<u16>,
    read: impl Fn(&[u8]) -> Headers<A>,
) -> Result<(), TestCaseError> {
    let given = read(frame);
    let mut there = frame.to_vec();
    nat::to_real(&mut there, &given, real, port.map(L4Port));
    let headers = read(&there);
    prop_assert!(headers.transport_checksum_holds(&there), "{}", text(&there));
    let real_port = port.map_or(given.destination_port, L4Port);
    prop_assert_eq!((headers.destination, headers.destination_port), (real, real_port));
    prop_assert_eq!((headers.source, headers.source_port), (given.source, given.source_port));

    // Back without the real server: from the source's view, the same changes undone.
    let mut back = there.clone();
    nat::to_real(&mut back, &headers, given.destination, Some(given.destination_port));
    prop_assert_eq!(text(&back), text(frame));

    let mut from = there;
    nat::from_real(&mut from, &headers, given.destination, given.destination_port);
    let headers = read(&from);
    prop_assert!(headers.transport_checksum_holds(&from), "{}", text(&from));
    prop_assert_eq!((headers.source, headers.source_port), (given.destination, given.destination_port));
    Ok(())
}

/// Passes a packet through a tunnel and checks that its outside is valid and its inside only lost a hop.
fn wrapped<A: IpVersion>(
    frame: &[u8],
    ends: [IpAddr; 2],
    read: impl Fn(&[u8]) -> Headers<A>,
) -> Result<(), TestCaseError> {
    let headers = read(frame);
    let (outside, ()) = with_room(frame, ROOM, |packet| through(packet, &headers, ends, 7));
    let (protocol, transport) = match ends[1] {
        IpAddr::V4(_) => (v4(&outside).protocol, v4(&outside).transport),
        IpAddr::V6(_) => (v6(&outside).protocol, v6(&outside).transport),
    };
    prop_assert_eq!(protocol, A::TUNNEL_PROTOCOL);
    let mut inside = frame[..14].to_vec();
    inside.extend(&outside[usize::from(transport)..]);
    let mut want = frame.to_vec();
    A::decrement_ttl(&mut want, &headers);
    prop_assert_eq!(text(&inside), text(&want));
    read(&inside);
    Ok(())
}

#[test]
fn nat_never_writes_a_udp_checksum_of_zero() {
    let frame = hex(UDP_V4);
    let headers = v4(&frame);
    let mut all_ones = 0;
    for port in 0..=u16::MAX {
        let mut frame = frame.clone();
        nat::to_real(&mut frame, &headers, a4("10.1.0.13"), Some(L4Port(port)));
        assert_ne!(frame[40..42], [0, 0], "port {port}");
        all_ones += u32::from(frame[40..42] == [0xff, 0xff]);
    }
    assert!(all_ones > 0);
}

proptest! {
    #[test]
    fn holds_for_any_packet(
        addresses in any::<[[u8; 15]; 3]>(),
        ports in any::<(u16, u16)>(),
        real_port in any::<Option<u16>>(),
        sequence in any::<u32>(),
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let [source, destination, real] = addresses;
        let four = |bytes: [u8; 15]| Ipv4Addr::new(10, bytes[0], bytes[1], bytes[2]);
        let six = |bytes: [u8; 15]| {
            let mut octets = [0x20; 16];
            octets[1..].copy_from_slice(&bytes);
            Ipv6Addr::from(octets)
        };
        let segment = tcp::Segment { sequence, flags: TcpFlags::ACK, ..tcp::Segment::default() };
        let ends4 = ends(four(source), four(destination), ports.0, ports.1);
        let ends6 = ends(six(source), six(destination), ports.0, ports.1);
        let tunnel4: [IpAddr; 2] = [a4("10.1.0.1").into(), a4("10.1.0.13").into()];
        let tunnel6: [IpAddr; 2] = [a6("2001:db8:1::1").into(), a6("2001:db8:1::13").into()];
        for frame in [build::tcp(&ends4, segment, &data), build::udp(&ends4, &data)] {
            there_and_back(&frame, four(real), real_port, v4)?;
            wrapped(&frame, tunnel4, v4)?;
            wrapped(&frame, tunnel6, v4)?;
        }
        for frame in [build::tcp(&ends6, segment, &data), build::udp(&ends6, &data)] {
            there_and_back(&frame, six(real), real_port, v6)?;
            wrapped(&frame, tunnel4, v6)?;
            wrapped(&frame, tunnel6, v6)?;
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much(error in 1_u16..0xffff, real in any::<u32>(), port in any::<u16>()) {
        let mut frame = hex(SYN_V4);
        let right = u16::from_be_bytes([frame[50], frame[51]]);
        let (wrong, carry) = right.overflowing_add(error);
        frame[50..52].copy_from_slice(&(wrong + u16::from(carry)).to_be_bytes());
        let headers = v4(&frame);
        nat::to_real(&mut frame, &headers, Ipv4Addr::from_bits(real), Some(L4Port(port)));
        let mut good = hex(SYN_V4);
        nat::to_real(&mut good, &headers, Ipv4Addr::from_bits(real), Some(L4Port(port)));
        let [found, right] = [&frame, &good].map(|frame| u32::from(u16::from_be_bytes([frame[50], frame[51]])));
        prop_assert_eq!(found % 0xffff, (right + u32::from(error)) % 0xffff);
    }
}
