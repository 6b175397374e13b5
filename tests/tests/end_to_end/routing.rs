//! Packets of no service go on as a router sends them: by `[[route]]`, by gateway, to neighbours.

use shunt_tests::topology::arms::{Arms, ROUTER, real_mac};
use shunt_tests::topology::frames::{Packet, Transport, at, icmp, ip};

const ROUTES: &str = r#"
[[forward]]
from = "0.0.0.0/0"
[[forward]]
from = "::/0"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "nat"
real = [{ address = "10.1.0.11:80" }]
[[route]]
to = "203.0.113.0/24"
via = "10.1.0.12"
[[route]]
to = "203.0.113.128/25"
via = "10.1.0.13"
[[route]]
to = "2001:db8:9::/48"
via = "2001:db8:1::12"
"#;

#[test]
fn by_route_gateway_and_neighbour() {
    let arms = Arms::new();
    let running = arms.start(ROUTES);
    for (source, destination, real) in [
        ("198.51.100.7:40000", "203.0.113.9:53", 12),
        ("198.51.100.7:40000", "203.0.113.200:53", 13),
        ("198.51.100.7:40000", "10.1.0.11:53", 11),
        ("[2001:db8:c::7]:40000", "[2001:db8:9:1::1]:53", 12),
        ("[2001:db8:c::7]:40000", "[2001:db8:1::13]:53", 13),
    ] {
        let sent = Packet::new(Transport::Udp, [ROUTER, running.front], at(source), at(destination));
        arms.front.send(&sent.bytes());
        arms.back.expect_frame(&Packet { from: running.back, to: real_mac(real), ttl: 63, ..sent }.bytes());
    }
    // Real servers reach the world through the director.
    for (source, destination) in
        [("10.1.0.11:40000", "8.8.8.8:53"), ("[2001:db8:1::11]:40000", "[2001:db8:ffff::1]:53")]
    {
        let sent = Packet::new(Transport::Udp, [real_mac(11), running.back], at(source), at(destination));
        arms.back.send(&sent.bytes());
        arms.front.expect_frame(&Packet { from: running.front, to: ROUTER, ttl: 63, ..sent }.bytes());
    }
    let status = running.director.settled();
    assert_eq!(status.workers[0].connections, 0, "no connection for them");
    assert_eq!(running.director.reasons(), [""; 0]);
}

#[test]
fn without_a_route_the_sender_is_told() {
    let arms = Arms::new();
    let file = arms.configuration(ROUTES).replace("gateway = [\"192.0.2.1\", \"2001:db8:f::1\"]\n", "");
    let director = shunt_tests::topology::director::Director::start(&arms.lab, &file);
    let status = director.wait_resolved();
    let back = shunt_tests::topology::arms::mac(&status, 1);
    for (source, destination, own, answer) in [
        ("10.1.0.11:40000", "8.8.8.8:53", "10.1.0.1", (3, 0)),
        ("[2001:db8:1::11]:40000", "[2001:db8:ffff::1]:53", "2001:db8:1::1", (1, 0)),
    ] {
        arms.back
            .send(&Packet::new(Transport::Udp, [real_mac(11), back], at(source), at(destination)).bytes());
        let (from, to, kind, code) = arms.back.expect("net unreachable", |frame| {
            icmp(frame).filter(|(from, ..)| *from == ip(own)).filter(|(_, to, ..)| *to == at(source).ip())
        });
        assert_eq!((from, to, (kind, code)), (ip(own), at(source).ip(), answer));
    }
}
