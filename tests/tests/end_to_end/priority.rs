//! Frames with the tag of a priority and no VLAN, as switches and hosts with quality of service send them.

use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::frames::{
    BROADCAST, Mac, Packet, Transport, arp, at, ip, neighbour, ping, solicited,
};

use crate::devices::SERVICES;

/// The frame with a tag: priority, and VLAN id.
fn tagged(frame: &[u8], priority: u8, vlan: u16) -> Vec<u8> {
    let control = u16::from(priority) << 13 | vlan;
    [&frame[..12], &[0x81, 0], &control.to_be_bytes(), &frame[12..]].concat()
}

/// NAT there and back, TUN in IPv6, ARP, neighbour discovery and echo requests, all of it tagged when it arrives and not when it leaves.
fn passes(arms: &Arms, running: &Running) {
    let macs = [ROUTER, running.front];
    let sent = Packet::new(Transport::Tcp("S"), macs, at("198.51.100.7:40000"), at("192.0.2.10:80"));
    arms.front.send(&tagged(&sent.bytes(), 5, 0));
    let there = Packet {
        from: running.back,
        to: real_mac(11),
        destination: at("10.1.0.11:8080"),
        ttl: 63,
        ..sent.clone()
    };
    arms.back.expect_frame(&there.bytes());
    let answer = there.answered(Transport::Tcp("SA"));
    arms.back.send(&tagged(&answer.bytes(), 0, 0));
    let back = Packet { from: running.front, to: ROUTER, source: sent.destination, ttl: 63, ..answer };
    arms.front.expect_frame(&back.bytes());

    let sent = Packet::new(Transport::Tcp("S"), macs, at("[2001:db8:c::7]:40000"), at("[2001:db8:f::10]:80"));
    arms.front.send(&tagged(&sent.bytes(), 7, 0));
    let there = Packet { from: running.back, to: real_mac(11), ttl: 63, ..sent.clone() };
    arms.back.expect_frame(&there.tunnelled(ip("2001:db8:1::1"), ip("2001:db8:1::11")));

    let asker: (Mac, _) = ([2, 0, 0, 0, 0xf0, 9], ip("192.0.2.9"));
    let vip = ip("192.0.2.10");
    arms.front.send(&tagged(&arp(1, [asker.0, BROADCAST], asker, ([0; 6], vip)), 6, 0));
    arms.front.expect_frame(&arp(2, [running.front, asker.0], (running.front, vip), asker));

    let [from, vip] = ["2001:db8:f::9", "2001:db8:f::10"].map(ip);
    let (group_mac, group) = solicited(vip);
    let asked = neighbour(135, [asker.0, group_mac], [from, group, vip], 0, Some(asker.0));
    arms.front.send(&tagged(&asked, 6, 0));
    arms.front.expect("an advertisement", |frame| {
        let is =
            frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 136 && frame[..6] == asker.0;
        is.then_some(())
    });
    arms.front.send(&tagged(&ping([ROUTER, running.front], ip("198.51.100.7"), ip("192.0.2.10"), 1), 3, 0));
    arms.front.expect("an echo reply", |frame| {
        (frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0).then_some(())
    });
    // That of a VLAN is not for the director.
    arms.front.send(&tagged(&sent.bytes(), 5, 7));
    running.director.wait_for_drops("vlan", 1);
    running.director.settled();
}

/// The kernel takes the tag off and says so beside the frame.
#[test]
fn on_af_packet() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    passes(&arms, &running);
}

#[test]
fn on_the_driver_for_packet_sockets() {
    let arms = Arms::on_the_driver(1);
    let running = arms.start(SERVICES);
    passes(&arms, &running);
}

#[test]
fn on_taps() {
    let (arms, running) = Arms::on_taps(SERVICES);
    passes(&arms, &running);
}
