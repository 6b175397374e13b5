//! Packets that are too large for the way on, and parts of packets.

use shunt_tests::text;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::frames::{Packet, Transport, at, icmp, ip, mend_ipv4_checksum};

const SERVICES: &str = r#"
[[service]]
name = "tun4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "tun"
real = [{ address = "10.1.0.11:80" }]
[[service]]
name = "tun6"
listen = "[2001:db8:f::10]:80"
protocol = "tcp"
forward = "tun"
real = [{ address = "[2001:db8:1::11]:80" }]
"#;

/// A whole Ethernet frame does not fit into the tunnel: the client is told how much does.
#[test]
fn client_is_told_of_the_tunnels_mtu() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for (client, vip, header, kind, code, mtu) in [
        ("198.51.100.7:40000", "192.0.2.10:80", 20, 3, 4, 1480),
        ("[2001:db8:c::7]:40000", "[2001:db8:f::10]:80", 40, 2, 0, 1460_u32),
    ] {
        let macs = [ROUTER, running.front];
        let fits = mtu as usize - header - 20;
        for (payload, told) in [(fits, false), (fits + 1, true), (1500 - header - 20, true)] {
            let sent = Packet {
                payload: vec![7; payload],
                ..Packet::new(Transport::Tcp("S"), macs, at(client), at(vip))
            };
            arms.front.send(&sent.bytes());
            if !told {
                let there = Packet { from: running.back, to: real_mac(11), ttl: 63, ..sent };
                let [own, real] = if header == 20 {
                    ["10.1.0.1", "10.1.0.11"]
                } else {
                    ["2001:db8:1::1", "2001:db8:1::11"]
                };
                arms.back.expect_frame(&there.tunnelled(ip(own), ip(real)));
                continue;
            }
            let frame = arms.front.expect("too big", |frame| {
                let (from, to, its_kind, its_code) = icmp(frame)?;
                let is = (from, to, its_kind, its_code) == (at(vip).ip(), at(client).ip(), kind, code);
                is.then(|| frame.to_vec())
            });
            let rest = if header == 20 {
                &frame[14 + 20 + 4..14 + 20 + 8]
            } else {
                &frame[14 + 40 + 4..14 + 40 + 8]
            };
            assert_eq!(u32::from_be_bytes(rest.try_into().unwrap()), mtu, "{}", text::frame(&frame));
            assert!(!text::frame(&frame).contains("BADSUM"), "{}", text::frame(&frame));
        }
    }
    running.director.settled();
}

/// Without DF the tunnel's packet goes in fragments, in buffers of their own, and the books balance.
#[test]
fn what_may_be_fragmented_is() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    let macs = [ROUTER, running.front];
    let sent = Packet {
        payload: vec![7; 1500 - 20 - 20],
        ..Packet::new(Transport::Tcp("S"), macs, at("198.51.100.7:40000"), at("192.0.2.10:80"))
    };
    let mut frame = sent.bytes();
    frame[20] = 0;
    mend_ipv4_checksum(&mut frame);
    arms.front.send(&frame);
    let of_tunnel = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&4);
    let fragment = |offset: u8, more: u8, length: usize| {
        arms.back.expect("a fragment", |frame| {
            let is = of_tunnel(frame) && [frame[20] & 0x20, frame[21]] == [more, offset];
            is.then(|| assert_eq!(frame.len(), 14 + length))
        });
    };
    fragment(0, 0x20, 1500);
    fragment(1480_u16.div_euclid(8) as u8, 0, 20 + 20);
    running.director.settled();
}

/// A fragment: the first half of a packet with the flag that more come.
fn first_fragment(running: &Running, to: &str) -> Vec<u8> {
    let macs = [ROUTER, running.front];
    let mut frame = Packet::new(Transport::Udp, macs, at("198.51.100.7:40000"), at(to)).bytes();
    frame[20] = 0x20;
    mend_ipv4_checksum(&mut frame);
    frame
}

/// On a tap, since af_packet's fanout reassembles fragments before the director sees them.
#[test]
fn fragments_are_routed_but_no_service_takes_them() {
    let (arms, running) = Arms::on_taps(SERVICES);
    arms.front.send(&first_fragment(&running, "192.0.2.10:80"));
    running.director.wait_for_drops("fragment", 1);
    let sent = first_fragment(&running, "10.1.0.12:53");
    arms.front.send(&sent);
    let mut there = sent;
    there[..6].copy_from_slice(&real_mac(12));
    there[6..12].copy_from_slice(&running.back);
    there[22] = 63;
    mend_ipv4_checksum(&mut there);
    arms.back.expect_frame(&there);
    running.director.settled();
}
