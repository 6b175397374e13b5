//! Packets that are too large for the way on, and parts of packets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use shunt_dataplane::reassembly::KEPT_V4;
use shunt_dataplane::time::TICKS_PER_SECOND;
use shunt_tests::text;
use shunt_tests::topology::PATIENCE;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::frames::{Packet, Transport, at, icmp, ip, mend_ipv4_checksum, ping};

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

/// A UDP packet in two fragments, of which the first has `cut` bytes of data.
fn fragments(running: &Running, to: &str, cut: usize) -> [Vec<u8>; 2] {
    let macs = [ROUTER, running.front];
    let packet = Packet {
        payload: (0..cut + 36).map(|byte| byte as u8).collect(),
        ..Packet::new(Transport::Udp, macs, at("198.51.100.7:40000"), at(to))
    };
    let whole = packet.bytes();
    let part = |data: &[u8], word: u16| {
        let mut frame = [&whole[..34], data].concat();
        frame[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        mend_ipv4_checksum(&mut frame);
        frame
    };
    [part(&whole[34..34 + cut], 0x2000), part(&whole[34 + cut..], (cut / 8) as u16)]
}

/// As the director sends it on.
fn passed(running: &Running, mut frame: Vec<u8>, real: u8) -> Vec<u8> {
    frame[..6].copy_from_slice(&real_mac(real));
    frame[6..12].copy_from_slice(&running.back);
    frame[22] -= 1;
    mend_ipv4_checksum(&mut frame);
    frame
}

const DNS: &str = r#"
[[service]]
name = "dns"
listen = "192.0.2.10:53"
protocol = "udp"
forward = "dr"
real = [{ address = "10.1.0.11" }]
"#;

/// What is routed goes on by itself, what is for a service when all of it is there, whichever part comes first.
fn gathers(arms: &Arms, running: &Running) {
    let [first, later] = fragments(running, "10.1.0.12:53", 64);
    for frame in [later, first] {
        arms.front.send(&frame);
        arms.back.expect_frame(&passed(running, frame, 12));
    }
    for cut in [64, 1480] {
        let [first, later] = fragments(running, "192.0.2.10:53", cut);
        arms.front.send(&later);
        arms.front.send(&first);
        arms.back.expect_frame(&passed(running, first, 11));
        arms.back.expect_frame(&passed(running, later, 11));
    }
    let status = running.director.settled();
    assert!(!status.nics[0].joins_fragments && status.advice.iter().all(|line| !line.contains("fragments")));
}

const ROUTED: &str = "[[forward]]\nfrom = \"front\"\nto = \"10.1.0.12\"\n";

#[test]
fn fragments_are_gathered_for_services_and_routed_else() {
    let (arms, running) = Arms::on_taps(&format!("{DNS}{ROUTED}"));
    gathers(&arms, &running);
}

/// The driver's own sockets would join them first, and cut off what they make of them.
#[test]
fn fragments_come_through_packet_sockets_as_they_are() {
    let all: [fn() -> Arms; 5] = [
        || Arms::with_workers(1),
        || Arms::with_workers(2),
        || Arms::on_the_driver(1),
        || Arms::on_the_driver(2),
        || {
            let arms = Arms::on_the_driver(1);
            let devices = arms.devices.clone().map(|device| format!("{device},framecnt=512"));
            Arms { devices, ..arms }
        },
    ];
    for arms in all {
        let arms = arms();
        let running = arms.start(&format!("{DNS}{ROUTED}"));
        gathers(&arms, &running);
    }
}

/// Who sends an IPv6 fragment of an uneven length is told which field is wrong (RFC 8200, 4.5), and who sends an echo request behind an
/// authentication header, that nobody knows what that is.
#[test]
fn what_is_wrong_with_headers_is_told() {
    let arms = Arms::new();
    let running =
        arms.start(&DNS.replace("192.0.2.10", "[2001:db8:f::10]").replace("10.1.0.11", "2001:db8:1::11"));
    let [client, vip] = ["2001:db8:c::7", "2001:db8:f::10"].map(ip);
    let whole = ping([ROUTER, running.front], client, vip, 1);
    let behind = |next: u8, header: &[u8], data: &[u8]| {
        let mut frame = [&whole[..54], header, data].concat();
        let payload = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        frame[20] = next;
        frame
    };
    let authentication = [&[58, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1][..], &[7; 12]].concat();
    for (frame, told) in [
        (behind(44, &[17, 0, 0, 1, 0, 0, 0, 9], &[7; 63]), (4, 0, 4_u32)),
        (behind(51, &authentication, &whole[54..]), (4, 1, 6)),
    ] {
        arms.front.send(&frame);
        let rest = arms.front.expect("a parameter problem", |frame| {
            let is = icmp(frame)? == (vip, client, told.0, told.1);
            is.then(|| u32::from_be_bytes(frame[58..62].try_into().expect("four bytes")))
        });
        assert_eq!(rest, told.2);
    }
    running.director.settled();
}

/// The sender of a datagram that stays incomplete is told (RFC 792: fragment reassembly time exceeded), though nothing else comes.
#[test]
fn who_sends_a_part_alone_is_told() {
    let (arms, running) = Arms::on_taps(DNS);
    let [first, _] = fragments(&running, "192.0.2.10:53", 64);
    arms.front.send(&first);
    let kept = Duration::from_secs(KEPT_V4.0 as u64 / TICKS_PER_SECOND as u64);
    let told = arms.front.expect_within(kept + PATIENCE, "time exceeded", |frame| {
        let (from, to, kind, code) = icmp(frame)?;
        let is = (from, to, kind, code) == (ip("192.0.2.10"), ip("198.51.100.7"), 11, 1);
        is.then(|| frame.to_vec())
    });
    assert_eq!(told[14 + 20 + 8..], first[14..], "{}", text::frame(&told));
    running.director.settled();
}

/// A UDP packet of this client's in two fragments.
fn of_client(running: &Running, client: &str, number: u16) -> [Vec<u8>; 2] {
    let [mut first, mut later] = fragments(running, "192.0.2.10:53", 64);
    for frame in [&mut first, &mut later] {
        let IpAddr::V4(client) = ip(client) else { panic!("{client}") };
        frame[26..30].copy_from_slice(&client.octets());
        frame[18..20].copy_from_slice(&number.to_be_bytes());
        mend_ipv4_checksum(frame);
    }
    [first, later]
}

/// A thousand clients send their fragments between each other's, and one sends first fragments without end: it pushes out nobody but
/// itself, and that is told.
#[test]
fn one_client_pushes_nobodys_fragments_out() {
    const CLIENTS: u16 = 1000;
    const ATTACKER: &str = "198.51.100.66";
    for workers in [1, 2] {
        let mut arms = Arms::with_workers(workers);
        arms.runtime = "connections = 4096\nfragments = 4194304".to_owned();
        let running = arms.start(DNS);
        let director = &running.director;
        let client = |number: u16| format!("198.51.{}.{}", 101 + number / 200, 1 + number % 200);
        let mut attacks = 0;
        let mut attack = || {
            for _ in 0..5 {
                attacks += 1;
                arms.front.send(&of_client(&running, ATTACKER, attacks)[0]);
            }
        };
        for half in [0, 1] {
            for number in 0..CLIENTS {
                attack();
                arms.front.send(&of_client(&running, &client(number), 7)[half]);
                // Nothing is to get lost before the NIC.
                if number % 100 == 99 {
                    director.settled();
                }
            }
        }
        let status = director.settled();
        let gathered: u64 = status.workers.iter().map(|worker| worker.datagrams_gathered).sum();
        assert_eq!((gathered, status.nics[0].missed), (CLIENTS.into(), Some(0)));
        let sent = (0..CLIENTS).flat_map(|number| of_client(&running, &client(number), 7));
        let mut missing: BTreeSet<Vec<u8>> = sent.map(|frame| passed(&running, frame, 11)).collect();
        arms.back.expect("the fragments of all clients", |frame| {
            missing.remove(frame);
            missing.is_empty().then_some(())
        });
        let given_up = &director.drops().incomplete;
        let memory = given_up.iter().find(|count| count.reason == "fragment_memory").expect("a reason").count;
        assert!(memory > 5000, "{given_up:?}");
        let limits = status.limits.iter().filter(|limit| limit.name.ends_with("bytes of fragments IPv4"));
        assert_eq!(limits.map(|limit| limit.reclaimed).sum::<u64>(), memory);
        director.wait_logged("bytes of fragments IPv4: full: ");
        let said = director.command(&arms.lab, &["drops"]).out;
        assert!(said.contains("INCOMPLETE") && said.contains("fragment_memory"), "{said}");
    }
}
