//! Senders that leave work to a NIC that is not there, as veth peers do, by a driver that does not tell of it: noticed, counted, and named
//! with what to do.

use shunt_tests::text::{checksum, pseudo_header};
use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::frames::{Packet, Transport, at};

const SERVICES: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "10.1.0.11:80" }]
[[service]]
name = "web6"
listen = "[2001:db8:f::10]:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "[2001:db8:1::11]:80" }]
"#;

/// The frame with the sum of its pseudo header alone in the TCP checksum.
fn unfilled(mut frame: Vec<u8>) -> Vec<u8> {
    let (addresses, transport) = if frame[12] == 8 { (26..34, 34) } else { (22..54, 54) };
    let (source, destination) = frame[addresses].split_at((transport - 14) / 10 * 4);
    let header = pseudo_header(source, destination, 6, frame.len() - transport);
    let sum = !checksum(&[&header]);
    frame[transport + 16..transport + 18].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn checksum_that_is_not_filled_in() {
    let arms = Arms::on_the_driver(1);
    let running = arms.start(SERVICES);
    assert!(!running.director.status().advice.iter().any(|line| line.contains("ethtool")));
    for (client, vip) in
        [("198.51.100.7:40000", "192.0.2.10:80"), ("[2001:db8:c::7]:40000", "[2001:db8:f::10]:80")]
    {
        let sent = Packet::new(Transport::Tcp("S"), [ROUTER, running.front], at(client), at(vip));
        arms.front.send(&unfilled(sent.bytes()));
        // Forwarded as it came: the kernel would, too.
        let there =
            Packet { from: running.back, to: shunt_tests::topology::arms::real_mac(11), ttl: 63, ..sent };
        arms.back.expect_frame(&unfilled(there.bytes()));
    }
    let status = running.director.settled();
    assert_eq!(status.nics[0].checksum_not_filled, 2);
    let want = "nic \"front\": 2 connections began with a checksum that the sender left to its NIC: receivers drop such packets: \
                run `ethtool -K PEER tx off` on the other end of net_af_packet7,iface=front,qpairs=1, or set device = \"af_packet:front\"";
    assert!(status.advice.iter().any(|line| line == want), "{:?}", status.advice);
    let said = running.director.command(&arms.lab, &["status"]);
    assert!(said.out.contains(want), "{}", said.out);
}

#[test]
fn frames_larger_than_the_mtu() {
    let arms = Arms::on_the_driver(1);
    arms.lab.ip("link set f0 mtu 9000\nlink set front mtu 9000");
    let running = Running::of_director(&arms, &arms.with_mtu(1500, SERVICES));
    for length in [1600, 4000] {
        let frame = Packet {
            payload: vec![0; length],
            ..Packet::new(
                Transport::Tcp("A"),
                [ROUTER, running.front],
                at("198.51.100.7:40000"),
                at("192.0.2.10:80"),
            )
        };
        arms.front.send(&frame.bytes());
    }
    running.director.wait_for_drops("cut_short", 1);
    let status = running.director.settled();
    assert_eq!(status.nics[0].offloaded, 2);
    let want = "nic \"front\": 2 frames were cut short or larger than the MTU, by segmentation offload: those cut short were dropped, the others go on in fragments, or their senders are told that they are too big: run `ethtool -K PEER tso off gso off gro off` on the other end of net_af_packet7,iface=front,qpairs=1, or set device = \"af_packet:front\"";
    assert!(status.advice.iter().any(|line| line == want), "{:?}", status.advice);
    let said = running.director.command(&arms.lab, &["drops", "--explain", "cut_short"]);
    assert!(said.out.contains("ethtool -K"), "{said:?}");
}
