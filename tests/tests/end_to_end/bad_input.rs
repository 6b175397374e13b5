//! Bad input at rate: whatever frames arrive, the director lives, counts each under a name, and gets every buffer back.

use std::collections::HashSet;

use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::director::{buffers, buffers_ready};
use shunt_tests::topology::frames::{BROADCAST, Mac, Packet, Transport, arp, at, ip, mend_ipv4_checksum};
use shunt_tests::topology::wire::Wire;

const FRAMES: usize = 20_000;
/// Frames between two questions that the director has to answer: no queue overflows.
const BATCH: usize = 200;
const ASKER: Mac = [2, 0, 0, 0, 0, 0x77];

const SERVICES: &str = r#"
[[service]]
name = "dr4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "10.1.0.11:80" }]
[[service]]
name = "nat4"
listen = "192.0.2.10:81"
protocol = "udp"
forward = "nat"
real = [{ address = "10.1.0.12:8081" }]
[[service]]
name = "tun6"
listen = "[2001:db8:f::10]:80"
protocol = "tcp"
forward = "tun"
real = [{ address = "[2001:db8:1::13]:80" }]
"#;

/// Random numbers that repeat (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

/// A frame that is right, to or from a service.
fn good(random: &mut Random, running: &Running, from_back: bool) -> Packet {
    let client = |random: &mut Random, v6: bool| {
        let number = random.byte();
        let text =
            if v6 { format!("[2001:db8:c::{number:x}]:4000") } else { format!("198.51.100.{number}:4000") };
        at(&text)
    };
    let tcp = Transport::Tcp(["S", "A", "FA", "R", "SA"][random.below(5)]);
    if from_back {
        let macs = [real_mac(12), running.back];
        return Packet::new(Transport::Udp, macs, at("10.1.0.12:8081"), client(random, false));
    }
    let macs = [ROUTER, running.front];
    match random.below(3) {
        0 => Packet::new(tcp, macs, client(random, false), at("192.0.2.10:80")),
        1 => Packet::new(Transport::Udp, macs, client(random, false), at("192.0.2.10:81")),
        _ => Packet::new(tcp, macs, client(random, true), at("[2001:db8:f::10]:80")),
    }
}

/// One of many ways to be wrong.
fn bad(random: &mut Random, running: &Running, from_back: bool) -> Vec<u8> {
    let own = if from_back { running.back } else { running.front };
    let packet = good(random, running, from_back);
    let mut frame = packet.bytes();
    let v4 = packet.source.is_ipv4();
    match random.below(20) {
        // Cut anywhere behind the Ethernet header.
        0 => frame.truncate(14 + random.below(frame.len() - 14)),
        // A length that is not the packet's.
        1 => {
            let length = random.bytes(2);
            frame[if v4 { 16..18 } else { 18..20 }].copy_from_slice(&length);
            if v4 {
                mend_ipv4_checksum(&mut frame);
            }
        }
        2 => frame[14] = random.byte(),
        3 if v4 => frame[24] ^= 0x55,
        // Its own frame comes back, its own address as source.
        4 => frame[6..12].copy_from_slice(&own),
        5 | 3 => frame = looping(&packet, from_back).bytes(),
        6 | 7 => options(random, &mut frame),
        8 => {
            let length = random.below(1500);
            frame.truncate(14);
            frame.extend(random.bytes(length));
        }
        9 => frame[12..14].copy_from_slice(&random.bytes(2)),
        10 => {
            let tag = [0x81, 0x00, 0x00, random.byte()];
            frame.splice(12..12, tag);
        }
        // Larger than the MTU, whole and cut by af_packet.
        11 => frame = Packet { payload: vec![0x5a; 1480 + random.below(400)], ..packet }.bytes(),
        12 => frame = Packet { payload: vec![0x5a; 2000 + random.below(6000)], ..packet }.bytes(),
        13 => fragment(random, &mut frame),
        // ARP and neighbour discovery of any content.
        14 => {
            frame.truncate(12);
            frame.extend([8, 6]);
            let length = random.below(60);
            frame.extend(random.bytes(length));
        }
        15 => extensions(random, &mut frame),
        // A transport header that cannot be.
        16 => {
            let transport = 14 + if v4 { 20 } else { 40 };
            let place = if packet.transport == Transport::Udp { transport + 4 } else { transport + 12 };
            frame[place] = random.byte() & 0x3f;
        }
        17 => frame[5] ^= 0x10,
        18 => frame[..6].copy_from_slice(&[[1, 0, 0x5e, 0, 0, 1], BROADCAST][random.below(2)]),
        _ => {
            for _ in 0..=random.below(8) {
                let place = 12 + random.below(frame.len() - 12);
                frame[place] ^= 1 << random.below(8);
            }
        }
    }
    frame
}

/// A packet that claims to come from the director.
fn looping(packet: &Packet, from_back: bool) -> Packet {
    let source = match (packet.source.is_ipv4(), from_back) {
        (true, false) => "192.0.2.2:4000",
        (true, true) => "192.0.2.10:80",
        (false, _) => "[2001:db8:f::2]:4000",
    };
    Packet { source: at(source), ..packet.clone() }
}

/// Puts IPv4 options of any content, or a source route, into the header.
fn options(random: &mut Random, frame: &mut Vec<u8>) {
    if frame[12..14] != [8, 0] {
        return;
    }
    let words = 1 + random.below(10);
    let mut options = random.bytes(words * 4);
    if words > 1 && random.below(2) == 0 {
        options[..3].copy_from_slice(&[[131, 137, 7][random.below(3)], 7, 4]);
    }
    frame.splice(34..34, options);
    frame[14] = 0x45 + words as u8;
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    mend_ipv4_checksum(frame);
}

/// Makes a fragment of it.
fn fragment(random: &mut Random, frame: &mut Vec<u8>) {
    let part = (random.next() as u16 & 0x1fff) | if random.below(2) == 0 { 0x2000 } else { 0 };
    if frame[12..14] == [8, 0] {
        frame[20..22].copy_from_slice(&part.to_be_bytes());
        mend_ipv4_checksum(frame);
    } else {
        let next = std::mem::replace(&mut frame[20], 44);
        let part = (part << 3 | part >> 13 & 1).to_be_bytes();
        frame.splice(54..54, [next, 0, part[0], part[1], 1, 2, 3, random.byte()]);
        let length = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    }
}

/// Puts IPv6 extension headers in front of what it carries.
fn extensions(random: &mut Random, frame: &mut Vec<u8>) {
    if frame[12..14] != [0x86, 0xdd] {
        return;
    }
    // Every other chain is whole, and too long.
    let whole = random.below(2) == 0;
    for _ in 0..if whole { 12 } else { random.below(12) } {
        let kind = if whole { 60 } else { [0, 43, 60, 51, 59][random.below(5)] };
        let next = std::mem::replace(&mut frame[20], kind);
        let mut header = random.bytes(8);
        header[..2].copy_from_slice(&[next, if whole { 0 } else { random.below(3) as u8 }]);
        frame.splice(54..54, header);
    }
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
}

/// Asks for an address of the director's and waits for the answer: what was sent before has been taken by then.
fn barrier(wire: &Wire, own: &str, asker: &str) {
    let own = ip(own);
    wire.send(&arp(1, [ASKER, BROADCAST], (ASKER, ip(asker)), ([0; 6], own)));
    let std::net::IpAddr::V4(address) = own else { unreachable!("ARP") };
    wire.expect("an answer between bad frames", |frame| {
        (frame.get(20..22) == Some(&[0, 2]) && frame[..6] == ASKER && frame[28..32] == address.octets())
            .then_some(())
    });
}

/// `held`: buffers that the devices themselves hold.
fn survives(arms: &Arms, running: &Running, seed: u64, held: u64, reasons: &[&str]) {
    arms.lab.ip("link set f0 mtu 9000\nlink set b0 mtu 9000");
    running.director.wait_for_buffers(held);
    let mut random = Random(seed);
    for _ in 0..FRAMES / BATCH {
        for _ in 0..BATCH {
            let from_back = random.below(4) == 0;
            let wire = if from_back { &arms.back } else { &arms.front };
            wire.send(&bad(&mut random, running, from_back));
        }
        barrier(&arms.front, "192.0.2.2", "192.0.2.77");
        barrier(&arms.back, "10.1.0.1", "10.1.0.77");
    }
    let status = running.director.settled();
    assert!(status.books.received > FRAMES as u64 * 8 / 10, "{:?}", status.books);
    let named: HashSet<String> = running
        .director
        .drops()
        .drops
        .into_iter()
        .filter(|drop| drop.count > 0)
        .map(|drop| drop.reason)
        .collect();
    for reason in reasons {
        assert!(named.contains(*reason), "{reason} did not occur: {:?}", running.director.reasons());
    }
    // What waits for neighbours that nobody has is given up.
    running.director.wait_for_buffers(held);

    for (client, vip, reached) in [
        ("203.0.113.1:5000", "192.0.2.10:80", "192.0.2.10:80"),
        ("203.0.113.1:5000", "192.0.2.10:81", "10.1.0.12:8081"),
    ] {
        let transport = if vip.ends_with("80") { Transport::Tcp("S") } else { Transport::Udp };
        let sent = Packet::new(transport, [ROUTER, running.front], at(client), at(vip));
        arms.front.send(&sent.bytes());
        arms.back.expect("a good packet after all that", |frame| {
            Packet::read(frame)
                .filter(|packet| packet.source == at(client) && packet.destination == at(reached))
        });
    }
    assert!(!running.director.log().contains("panic"), "{}", running.director.log());
}

/// What a queue that cuts no frame short drops packets for.
const NOT_CUT: [&str; 12] = [
    "truncated",
    "other_mac",
    "vlan",
    "ether_type",
    "ip_header",
    "ip_checksum",
    "transport_header",
    "extension_headers",
    "martian",
    "group",
    "fragment",
    "source_route",
];

const ANYWHERE: [&str; 13] = [
    "truncated",
    "cut_short",
    "other_mac",
    "vlan",
    "ether_type",
    "ip_header",
    "ip_checksum",
    "transport_header",
    "extension_headers",
    "martian",
    "group",
    "fragment",
    "source_route",
];

#[test]
fn on_af_packet() {
    let arms = Arms::new();
    arms.lab.ip("link set front mtu 9000\nlink set back mtu 9000");
    let running = Running::of_director(&arms, &arms.with_mtu(1500, SERVICES));
    survives(&arms, &running, 0x5eed_0001, buffers_ready(1), &NOT_CUT);
}

#[test]
fn on_af_packet_with_two_workers() {
    let arms = Arms::with_workers(2);
    arms.lab.ip("link set front mtu 9000\nlink set back mtu 9000");
    let running = arms.start(SERVICES);
    survives(&arms, &running, 0x5eed_0002, buffers_ready(2), &NOT_CUT);
}

#[test]
fn on_the_driver_for_packet_sockets() {
    let arms = Arms::on_the_driver(1);
    arms.lab.ip("link set front mtu 9000\nlink set back mtu 9000");
    let running = Running::of_director(&arms, &arms.with_mtu(1500, SERVICES));
    survives(&arms, &running, 0x5eed_0004, 0, &ANYWHERE);
}

#[test]
fn on_tap() {
    let (arms, running) = Arms::on_taps(SERVICES);
    let held = buffers(&running.director.settled());
    survives(&arms, &running, 0x5eed_0003, held, &ANYWHERE);
}
