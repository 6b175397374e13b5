//! Replies as the kernel makes them, byte by byte but for the IPv4 identification and the IPv6 flow label, and when
//! there are none.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::id::{L4Port, Mac};
use crate::rewrite::address;
use crate::service::NextHop;
use crate::wire::build::{self, Ends};
use crate::wire::ethernet::Macs;
use crate::wire::testing::*;
use crate::wire::{self, ipv4};

const TO_CLIENT: NextHop = NextHop { nic: crate::id::NicId(0), macs: Macs::new(ROUTER, DIRECTOR), mtu: 1500 };

/// Leaves out what the director may choose, as `oracle/check` does.
fn masked(frame: &[u8]) -> String {
    let mut frame = frame.to_vec();
    if frame[12..14] == [8, 0] {
        wire::put(&mut frame, 14 + ipv4::field::IDENTIFICATION, [0, 0]);
        fix_header_checksum(&mut frame);
    } else {
        frame[15] &= 0xf0;
        frame[16..18].fill(0);
    }
    text(&frame)
}

/// A reply made with head room on offer, and its result.
fn made<A: IpVersion>(
    given: &[u8],
    head: usize,
    work: impl FnOnce(&mut Packet<'_>) -> Result<(), DropReason>,
) -> (Vec<u8>, Result<(), DropReason>) {
    with_room(given, head, |packet| {
        work(packet)?;
        address(packet.bytes_mut(), &TO_CLIENT, A::ETHERTYPE);
        Ok(())
    })
}

/// Checks a reply against a recording. What is sent must be valid itself.
fn recorded<A: IpVersion>(
    what: &str,
    given: &str,
    want: &str,
    work: impl Fn(&mut Packet<'_>) -> Result<(), DropReason>,
) {
    for head in [0, ROOM] {
        let (found, result) = made::<A>(&hex(given), head, &work);
        assert_eq!(result, Ok(()), "{what}");
        assert_eq!(masked(&found), masked(&hex(want)), "{what}");
        let holds = match A::BITS {
            32 => v4(&found).transport_checksum_holds(&found),
            _ => v6(&found).transport_checksum_holds(&found),
        };
        assert!(holds, "{what}");
    }
}

#[test]
fn echo_replies_as_recorded() {
    recorded::<Ipv4Addr>(
        "odd_dr, step 3",
        PING_V4,
        "02000000c00102000000d000080045000020aa15000040019c2f0a000064c63364010000212d0001000170696e67",
        |packet| echo_reply(packet, &v4(packet.bytes())),
    );
    recorded::<Ipv6Addr>(
        "odd6_dr, step 3",
        PING_V6,
        "02000000c00102000000d00086dd600da6f1000c3a4020010db8000000000000000000000100\
         20010db8000c000000000000000000018100436700010001 70696e67",
        |packet| echo_reply(packet, &v6(packet.bytes())),
    );
}

#[test]
fn resets_as_recorded() {
    for (what, given, want) in [
        (
            "odd_dr, step 0: SYN",
            "02000000d00002000000c0010800450000280000000040064638c63364010a000064\
             abe0005100000001000000005002faf0d4260000",
            "02000000c00102000000d00008004500002800004000400606380a000064c6336401\
             0051abe0000000000000000250140000cf040000",
        ),
        (
            "odd_dr, step 1: ACK",
            "02000000d00002000000c0010800450000280000000040064638c63364010a000064\
             abe0005100000001000000015010faf0d4170000",
            "02000000c00102000000d00008004500002800004000400606380a000064c6336401\
             0051abe0000000010000000050040000cf150000",
        ),
        (
            "odd_dr, step 12: no flag",
            "02000000d00002000000c0010800450000280000000040064638c63364010a000064\
             ac50005000000007000000005000faf0d3b30000",
            "02000000c00102000000d00008004500002800004000400606380a000064c6336401\
             0050ac50000000000000000750140000ce900000",
        ),
    ] {
        recorded::<Ipv4Addr>(what, given, want, |packet| tcp_reset(packet, &v4(packet.bytes())));
    }
    for (what, given, want) in [
        (
            "odd6_dr, step 0: SYN",
            "02000000d00002000000c00186dd600000000014064020010db8000c00000000000000000001\
             20010db8000000000000000000000100abe0005100000001000000005002faf0ac400000",
            "02000000c00102000000d00086dd6006285a0014064020010db8000000000000000000000100\
             20010db8000c000000000000000000010051abe0000000000000000250140000a71e0000",
        ),
        (
            "odd6_dr, step 1: ACK",
            "02000000d00002000000c00186dd600000000014064020010db8000c00000000000000000001\
             20010db8000000000000000000000100abe0005100000001000000015010faf0ac310000",
            "02000000c00102000000d00086dd6006285a0014064020010db8000000000000000000000100\
             20010db8000c000000000000000000010051abe0000000010000000050040000a72f0000",
        ),
    ] {
        recorded::<Ipv6Addr>(what, given, want, |packet| tcp_reset(packet, &v6(packet.bytes())));
    }
}

#[test]
fn a_reset_acknowledges_data_and_fin_and_leaves_options_out() {
    let (a, b) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(10, 0, 0, 100));
    let asked = tcp::Segment {
        sequence: u32::MAX,
        acknowledgment: 77,
        flags: TcpFlags::FIN,
        ..tcp::Segment::default()
    };
    let mut frame = build::tcp(&ends(a, b), asked, b"hello");
    // Four bytes of IP options, the traffic class 0xb9.
    frame.splice(34..34, [1, 1, 1, 0]);
    wire::put(&mut frame, 14, [0x46, 0xb9, 0, 49]);
    fix_header_checksum(&mut frame);
    let (found, result) = made::<Ipv4Addr>(&frame, 0, |packet| tcp_reset(packet, &v4(packet.bytes())));
    assert_eq!(result, Ok(()));
    let headers = v4(&found);
    assert!(headers.transport_checksum_holds(&found));
    assert_eq!((found.len(), headers.source, headers.destination, found[15]), (54, b, a, 0xb8));
    let (reset, _) = tcp::Segment::parse(headers.transport_bytes(&found)).unwrap();
    assert_eq!((reset.sequence, reset.acknowledgment, reset.window), (0, 5, 0));
    assert_eq!((reset.source_port, reset.destination_port), (L4Port(2000), L4Port(1000)));
    assert_eq!(reset.flags, TcpFlags::RST.and(TcpFlags::ACK));
}

#[test]
fn errors_as_recorded() {
    let vip = Ipv4Addr::new(10, 0, 0, 100);
    recorded::<Ipv4Addr>(
        "odd_dr, step 2: port unreachable",
        "02000000d00002000000c00108004500001d0000000040114638c63364010a000064abe100510009a71078",
        "02000000c00102000000d000080045c00039aa14000040019b570a000064c6336401030331b000000000\
         4500001d0000000040114638c63364010a000064abe100510009a71078",
        |packet| icmp_error(packet, &v4(packet.bytes()), Error::PortUnreachable, vip),
    );
    recorded::<Ipv4Addr>(
        "tcp_dr, step 24: time exceeded",
        "02000000d00002000000c0010800450000280000000001068534c63364050a000064\
         9c45005000000001000000005002faf0e3be0000",
        "02000000c00102000000d000080045c00044e23200004001632a0a000064c63364050b0029b700000000\
         450000280000000001068534c63364050a0000649c45005000000001000000005002faf0e3be0000",
        |packet| icmp_error(packet, &v4(packet.bytes()), Error::TimeExceeded, vip),
    );
    let vip: Ipv6Addr = "2001:db8::100".parse().unwrap();
    recorded::<Ipv6Addr>(
        "odd6_dr, step 2: port unreachable",
        "02000000d00002000000c00186dd600000000009114020010db8000c00000000000000000001\
         20010db8000000000000000000000100abe1005100097f2a78",
        "02000000c00102000000d00086dd600a493500393a4020010db8000000000000000000000100\
         20010db8000c00000000000000000001010430da00000000\
         600000000009114020010db8000c00000000000000000001\
         20010db8000000000000000000000100abe1005100097f2a78",
        |packet| icmp_error(packet, &v6(packet.bytes()), Error::PortUnreachable, vip),
    );
    recorded::<Ipv6Addr>(
        "tcp6_dr, step 24: time exceeded",
        "02000000d00002000000c00186dd600000000014060120010db8000c00000000000000000005\
         20010db80000000000000000000001009c45005000000001000000005002faf0bbd80000",
        "02000000c00102000000d00086dd60094e2500443a4020010db8000000000000000000000100\
         20010db8000c0000000000000000000503003a0300000000\
         600000000014060120010db8000c00000000000000000005\
         20010db80000000000000000000001009c45005000000001000000005002faf0bbd80000",
        |packet| icmp_error(packet, &v6(packet.bytes()), Error::TimeExceeded, vip),
    );
}

fn ends<A>(source: A, destination: A) -> Ends<A> {
    Ends {
        source_mac: ROUTER,
        destination_mac: DIRECTOR,
        source,
        destination,
        source_port: L4Port(1000),
        destination_port: L4Port(2000),
    }
}

const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const VIP_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

#[test]
fn errors_quote_as_much_as_fits() {
    let error = Error::TooBig { mtu: 1400 };
    let frame = build::udp(&ends(CLIENT_V4, VIP_V4), &[0x55; 1472]);
    for head in [0, ROOM] {
        let (found, result) =
            made::<Ipv4Addr>(&frame, head, |packet| icmp_error(packet, &v4(packet.bytes()), error, VIP_V4));
        assert_eq!((result, found.len()), (Ok(()), 590));
        assert_eq!((found[34..36].to_vec(), found[38..42].to_vec()), (vec![3, 4], vec![0, 0, 5, 0x78]));
        assert_eq!(text(&found[42..]), text(&frame[14..14 + 548]));
        assert!(v4(&found).transport_checksum_holds(&found));
    }
    let frame = build::udp(&ends(CLIENT_V6, VIP_V6), &[0x55; 1452]);
    let (found, result) =
        made::<Ipv6Addr>(&frame, ROOM, |packet| icmp_error(packet, &v6(packet.bytes()), error, VIP_V6));
    assert_eq!((result, found.len()), (Ok(()), 1294));
    assert_eq!((found[54..56].to_vec(), found[58..62].to_vec()), (vec![2, 0], vec![0, 0, 5, 0x78]));
    assert_eq!(text(&found[62..]), text(&frame[14..14 + 1232]));
    assert!(v6(&found).transport_checksum_holds(&found));
}

#[test]
fn codes_of_the_other_errors() {
    let unknown = build::ip(&ends(CLIENT_V4, VIP_V4), 133, &[1; 12]);
    let unknown6 = build::ip(&ends(CLIENT_V6, VIP_V6), 133, &[1; 12]);
    // The same behind destination options: the error points into these.
    let extended = build::ip(&ends(CLIENT_V6, VIP_V6), 60, &[133, 0, 1, 4, 0, 0, 0, 0, 1, 1, 1, 1]);
    for (error, want, want6) in [
        (Error::NetUnreachable, [3, 0, 0], [1, 0, 0]),
        (Error::ProtocolUnreachable, [3, 2, 0], [4, 1, 6]),
        (Error::PortUnreachable, [3, 3, 0], [1, 4, 0]),
        (Error::TimeExceeded, [11, 0, 0], [3, 0, 0]),
    ] {
        let (found, _) =
            made::<Ipv4Addr>(&unknown, ROOM, |packet| icmp_error(packet, &v4(packet.bytes()), error, VIP_V4));
        assert_eq!([found[34], found[35], found[41]], want, "{error:?}");
        let (found, _) = made::<Ipv6Addr>(&unknown6, ROOM, |packet| {
            icmp_error(packet, &v6(packet.bytes()), error, VIP_V6)
        });
        assert_eq!([found[54], found[55], found[61]], want6, "{error:?}");
    }
    let error = Error::ProtocolUnreachable;
    let (found, _) =
        made::<Ipv6Addr>(&extended, ROOM, |packet| icmp_error(packet, &v6(packet.bytes()), error, VIP_V6));
    assert_eq!([found[54], found[55], found[61]], [4, 1, 40]);
}

#[test]
fn an_error_takes_over_the_tos_without_precedence() {
    let mut frame = hex(SYN_V4);
    frame[15] = 0xb9;
    fix_header_checksum(&mut frame);
    let error = Error::TimeExceeded;
    let (found, _) =
        made::<Ipv4Addr>(&frame, ROOM, |packet| icmp_error(packet, &v4(packet.bytes()), error, VIP_V4));
    assert_eq!(found[15], 0xd8);
}

#[test]
fn refusals() {
    let reset =
        |given: &[u8]| made::<Ipv4Addr>(given, ROOM, |packet| tcp_reset(packet, &v4(packet.bytes()))).1;
    let echo =
        |given: &[u8]| made::<Ipv4Addr>(given, ROOM, |packet| echo_reply(packet, &v4(packet.bytes()))).1;
    let edited = |given: &str, at: usize, bytes: &[u8]| {
        let mut frame = hex(given);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        fix_header_checksum(&mut frame);
        frame
    };
    for (what, found, want) in [
        ("a reset of a reset", reset(&edited(SYN_V4, 47, &[4])), DropReason::NoConnection),
        ("a reset of a ping", reset(&hex(PING_V4)), DropReason::Unwanted),
        ("a reset of a fragment", reset(&edited(SYN_V4, 20, &[0x20, 0])), DropReason::Fragment),
        ("a wrong TCP checksum", reset(&edited(SYN_V4, 50, &[1, 2])), DropReason::TransportChecksum),
        ("an echo of a SYN", echo(&hex(SYN_V4)), DropReason::Unwanted),
        ("an echo of an echo reply", echo(&edited(PING_V4, 34, &[0])), DropReason::Unwanted),
        ("an echo of a fragment", echo(&edited(PING_V4, 20, &[0x20, 0])), DropReason::Fragment),
        ("a wrong ICMP checksum", echo(&edited(PING_V4, 36, &[1, 2])), DropReason::TransportChecksum),
    ] {
        assert_eq!(found, Err(want), "{what}");
    }
    // A buffer without room in front or behind: nothing fits.
    let frame = hex(SYN_V4);
    let mut room = frame.clone();
    let mut packet = Packet::new(&mut room, 0, frame.len(), crate::id::NicId(0));
    let found = icmp_error(&mut packet, &v4(&frame), Error::TimeExceeded, VIP_V4);
    assert_eq!(found, Err(DropReason::ReplyRoom));
}

#[test]
fn a_checksum_left_to_the_nic_is_answered() {
    let mut frame = hex(SYN_V4);
    let left = wire::checksum::pseudo_header(CLIENT_V4, VIP_V4, 6, 40).fold();
    wire::put(&mut frame, 50, left.to_be_bytes());
    let (_, result) = made::<Ipv4Addr>(&frame, ROOM, |packet| tcp_reset(packet, &v4(packet.bytes())));
    assert_eq!(result, Ok(()));
}

#[test]
fn who_is_not_told() {
    let edited = |at: usize, bytes: &[u8]| {
        let mut frame = hex(PING_V4);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        fix_header_checksum(&mut frame);
        frame
    };
    for (what, frame, want) in [
        ("a ping", hex(PING_V4), true),
        ("a SYN", hex(SYN_V4), true),
        ("an unreachable", edited(34, &[3]), false),
        ("a redirect", edited(34, &[5]), false),
        ("an unknown type", edited(34, &[200]), false),
        ("a later fragment", edited(20, &[0, 9]), false),
        ("a first fragment", edited(20, &[0x20, 0]), true),
        ("to a group", edited(30, &[224, 0, 0, 5]), false),
        ("to the broadcast address", edited(30, &[255; 4]), false),
        ("to a broadcast MAC", edited(0, &Mac::BROADCAST.0), false),
    ] {
        assert_eq!(may_answer(&v4(&frame), &frame), want, "{what}");
    }
    for (what, source, destination, kind, want) in [
        ("a ping", CLIENT_V6, VIP_V6, 128, true),
        ("a packet too big", CLIENT_V6, VIP_V6, 2, false),
        ("a redirect", CLIENT_V6, VIP_V6, 137, false),
        ("to a group", CLIENT_V6, wire::ndp::ALL_NODES, 128, false),
        ("without a source", Ipv6Addr::UNSPECIFIED, wire::ndp::ALL_NODES, 135, false),
    ] {
        let frame = build::icmp(&ends(source, destination), kind, 0, 0, &[0; 20]);
        assert_eq!(may_answer(&v6(&frame), &frame), want, "{what}");
    }
}

#[test]
fn the_limit_allows_a_burst_and_then_a_rate() {
    let mut limit = ReplyLimit::new();
    let start = Tick(u32::MAX - 20);
    let allowed =
        |limit: &mut ReplyLimit, now: Tick, rate| (0..1000).filter(|_| limit.allow(now, rate)).count();
    assert_eq!(allowed(&mut limit, start, 50), 50);
    assert_eq!(allowed(&mut limit, Tick(start.0 + 1), 50), 0);
    // 40 ticks are 0.4 s, over the wrap of the tick.
    assert_eq!(allowed(&mut limit, Tick(start.0.wrapping_add(40)), 50), 20);
    assert_eq!(allowed(&mut limit, Tick(start.0.wrapping_add(4000)), 50), 50);
    assert_eq!(allowed(&mut limit, Tick(start.0.wrapping_add(5000)), 0), 0);
    assert_eq!(allowed(&mut limit, Tick(start.0.wrapping_add(5001)), 200), 2);
    assert_eq!(allowed(&mut ReplyLimit::default(), Tick(7), 1), 1);
}
