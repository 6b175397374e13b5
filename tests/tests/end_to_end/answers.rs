//! What the director itself answers for a VIP, as a host would, and how often at most.

use shunt_tests::text;
use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::director::Director;
use shunt_tests::topology::frames::{Packet, Transport, at, icmp, ip, ping};
use shunt_tests::topology::wait_for;

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

const FAMILIES: [(&str, &str); 2] = [("198.51.100.7", "192.0.2.10"), ("[2001:db8:c::7]", "[2001:db8:f::10]")];

/// A packet of a client to a VIP.
fn packet(running: &Running, transport: Transport, (client, vip): (&str, &str), l4_port: u16) -> Packet {
    let (client, vip) = (at(&format!("{client}:40000")), at(&format!("{vip}:{l4_port}")));
    Packet::new(transport, [ROUTER, running.front], client, vip)
}

fn replies(director: &Director, kind: &str) -> u64 {
    director.drops().replies.iter().find(|count| count.reason == kind).expect("a kind").count
}

/// Waits for an ICMP message of this type and code from a VIP.
fn expect_icmp(arms: &Arms, vip: &str, want: (u8, u8)) {
    let vip = at(&format!("{vip}:1")).ip();
    arms.front.expect(&format!("ICMP {want:?} from {vip}"), |frame| {
        let (from, _, kind, code) = icmp(frame)?;
        if (from, (kind, code)) != (vip, want) {
            return None;
        }
        let told = text::frame(frame);
        assert!(!told.contains("BADIPSUM") && !told.contains("BADSUM"), "{told}");
        Some(())
    });
}

#[test]
fn vips_answer_ping() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for ((client, vip), reply) in FAMILIES.into_iter().zip([(0, 0), (129, 0)]) {
        let [client, address] = [client, vip].map(|text| ip(text.trim_matches(['[', ']'])));
        arms.front.send(&ping([ROUTER, running.front], client, address, 1));
        expect_icmp(&arms, vip, reply);
    }
    assert_eq!(replies(&running.director, "echo_reply"), 2);
    running.director.settled();
}

/// The director's own addresses are the kernel side's: it answers by its own stack.
#[test]
fn own_addresses_answer_ping() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for (asker, own, reply) in
        [("198.51.100.7", "192.0.2.2", (0, 0)), ("2001:db8:c::7", "2001:db8:f::2", (129, 0))]
    {
        // The kernel side's addresses take a moment after the start, so it is asked again, as `ping` does.
        wait_for(&format!("an answer from {own}"), || {
            arms.front.send(&ping([ROUTER, running.front], ip(asker), ip(own), 1));
            let answers = arms.front.drain();
            let answered = answers
                .iter()
                .filter_map(|frame| icmp(frame))
                .any(|(from, _, kind, code)| (from, (kind, code)) == (ip(own), reply));
            if answered { Ok(()) } else { Err("none yet") }
        });
    }
}

#[test]
fn ports_without_a_service_refuse() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for (family, unreachable) in FAMILIES.into_iter().zip([(3, 3), (1, 4)]) {
        let syn = packet(&running, Transport::Tcp("S"), family, 81);
        arms.front.send(&syn.bytes());
        let reset = arms.front.expect("a reset", |frame| {
            Packet::read(&without_acknowledgment(frame)).filter(|it| it.transport == Transport::Tcp("RA"))
        });
        assert_eq!(
            (reset.from, reset.to, reset.source, reset.destination),
            (running.front, ROUTER, syn.destination, syn.source)
        );
        arms.front.send(&packet(&running, Transport::Udp, family, 81).bytes());
        expect_icmp(&arms, family.1, unreachable);
    }
    // No SYN, no connection: RST as well.
    arms.front.send(&packet(&running, Transport::Tcp("A"), FAMILIES[0], 80).bytes());
    arms.front.expect("a reset", |frame| {
        let told = text::frame(frame);
        told.contains("192.0.2.10>198.51.100.7")
            .then(|| assert!(told.contains("TCP 80>40000 R seq=2000"), "{told}"))
    });
    assert_eq!(replies(&running.director, "reset"), 3);
    assert_eq!(replies(&running.director, "port_unreachable"), 2);
}

/// The frame with sequence numbers and window as [`Packet`] writes them.
fn without_acknowledgment(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = match frame.get(12..14) {
        Some([8, 0]) => 34,
        Some([0x86, 0xdd]) => 54,
        _ => return frame,
    };
    if frame.len() < at + 20 || text::frame(&frame).contains("BAD") {
        return frame;
    }
    frame[at + 4..at + 8].copy_from_slice(&1000_u32.to_be_bytes());
    frame[at + 8..at + 12].copy_from_slice(&2000_u32.to_be_bytes());
    frame[at + 14..at + 16].copy_from_slice(&8192_u16.to_be_bytes());
    frame[at + 16..at + 18].fill(0);
    let (source, destination) = if at == 34 { (26..30, 30..34) } else { (22..38, 38..54) };
    let header = text::pseudo_header(&frame[source], &frame[destination], 6, frame.len() - at);
    let sum = text::checksum(&[&header, &frame[at..]]);
    frame[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn ttl_that_runs_out_is_told() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for (family, exceeded) in FAMILIES.into_iter().zip([(11, 0), (3, 0)]) {
        arms.front.send(&Packet { ttl: 1, ..packet(&running, Transport::Tcp("S"), family, 80) }.bytes());
        expect_icmp(&arms, family.1, exceeded);
    }
    assert_eq!(replies(&running.director, "time_exceeded"), 2);
}

#[test]
fn replies_are_rate_limited() {
    const PER_SECOND: u64 = 5;
    const PINGS: u64 = 100;
    let mut arms = Arms::new();
    arms.runtime = format!("connections = 4096\nreplies = {PER_SECOND}");
    let running = arms.start(SERVICES);
    let begin = std::time::Instant::now();
    for number in 0..PINGS {
        arms.front.send(&ping([ROUTER, running.front], ip("198.51.100.7"), ip("192.0.2.10"), number as u16));
    }
    running.director.wait_until("all pings taken", |status| status.books.received >= PINGS);
    running.director.settled();
    let (made, refused) = (replies(&running.director, "echo_reply"), running.director.dropped("reply_limit"));
    assert_eq!(made + refused, PINGS);
    assert!(made >= PER_SECOND, "a bucket of one second: {made}");
    assert!(made <= PER_SECOND * (begin.elapsed().as_secs() + 2), "{made} replies in {:?}", begin.elapsed());
}
