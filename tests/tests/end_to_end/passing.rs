//! Who gets in: past its services a director passes nothing on unless a rule says so, and no source comes in where it is not.

use std::net::IpAddr;

use shunt_tests::text;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::frames::{Packet, Transport, at};

/// The services of a method, in both families.
fn services(method: &str) -> String {
    let service = |name: &str, vip: &str, real: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"{vip}:80\"\nprotocol = \"tcp\"\nforward = \"{method}\"\n\
             real = [{{ address = \"{real}\" }}]\n"
        )
    };
    service("web4", "192.0.2.10", "10.1.0.11") + &service("web6", "[2001:db8:f::10]", "2001:db8:1::11")
}

const SYN: Transport = Transport::Tcp("S");

/// A client's packet to a real server, past its service.
const PAST: [(&str, &str); 2] =
    [("198.51.100.7:40000", "10.1.0.13:8080"), ("[2001:db8:c::7]:40000", "[2001:db8:1::13]:8080")];

/// Sends a packet from the front, and one for a service behind it: what leaves in the back is the latter alone.
fn only_the_service_answers(arms: &Arms, running: &Running, sent: &Packet) {
    arms.front.send(&sent.bytes());
    let asked = Packet::new(SYN, [ROUTER, running.front], at("198.51.100.9:50000"), at("192.0.2.10:80"));
    arms.front.send(&asked.bytes());
    // In a tunnel, too.
    let speaks_of = |frame: &[u8], address: IpAddr| match address {
        IpAddr::V4(address) => frame.windows(4).any(|bytes| bytes == address.octets()),
        IpAddr::V6(address) => frame.windows(16).any(|bytes| bytes == address.octets()),
    };
    let mut before = Vec::new();
    arms.back.expect("the packet for the service", |frame| {
        before.push(frame.to_vec());
        speaks_of(frame, asked.source.ip()).then_some(())
    });
    let passed = before.iter().find(|frame| speaks_of(frame, sent.source.ip()) && frame[12..14] != [8, 6]);
    assert!(passed.is_none(), "{}", text::frame(passed.expect("one")));
}

#[test]
fn nobody_reaches_a_real_server_past_its_service() {
    for method in ["dr", "nat", "tun"] {
        let arms = Arms::new();
        let running = arms.start(&services(method));
        for (number, (client, real)) in (1..).zip(PAST) {
            let sent = Packet::new(SYN, [ROUTER, running.front], at(client), at(real));
            only_the_service_answers(&arms, &running, &sent);
            running.director.wait_for_drops("not_forwarded", number);
            let said = running.director.command(&arms.lab, &["explain", "tcp", client, real]);
            let address = at(real).ip();
            assert!(
                said.out.contains("no [[forward]] lets it pass from NIC front to NIC back"),
                "{}",
                said.out
            );
            assert!(said.out.contains(&format!("to = \"{address}\"")), "{}", said.out);
        }
        // Nor does a real server reach the world.
        let sent =
            Packet::new(SYN, [real_mac(13), running.back], at("10.1.0.13:40000"), at("203.0.113.9:443"));
        arms.back.send(&sent.bytes());
        running.director.wait_for_drops("not_forwarded", 3);
        assert!(!arms.front.pending().iter().any(|frame| {
            Packet::read(frame).is_some_and(|read| read.destination == at("203.0.113.9:443"))
        }));
        running.director.settled();
    }
}

#[test]
fn an_inner_source_does_not_come_in_by_the_front() {
    let arms = Arms::new();
    let passes = "[[forward]]\nfrom = \"0.0.0.0/0\"\n[[forward]]\nfrom = \"::/0\"\n";
    let running = arms.start(&(services("nat") + passes));
    for (number, (source, destination)) in (1..).zip([
        ("10.1.0.12:40000", "192.0.2.10:80"),
        ("10.1.0.12:40000", "192.0.2.10:81"),
        ("10.1.0.12:40000", "10.1.0.13:8080"),
        ("[2001:db8:1::12]:40000", "[2001:db8:f::10]:80"),
        ("[2001:db8:1::12]:40000", "[2001:db8:1::13]:8080"),
    ]) {
        let sent = Packet::new(SYN, [ROUTER, running.front], at(source), at(destination));
        only_the_service_answers(&arms, &running, &sent);
        running.director.wait_for_drops("reverse_path", number);
    }
    let explained = ["explain", "tcp", "10.1.0.12:40000", "192.0.2.10:80", "--nic", "front"];
    let said = running.director.command(&arms.lab, &explained);
    assert!(said.out.contains("the way back to 10.1.0.12 leaves by NIC back"), "{}", said.out);
    // By its own NIC it is a client as any other.
    let sent = Packet::new(SYN, [real_mac(12), running.back], at("10.1.0.12:40000"), at("192.0.2.10:80"));
    arms.back.send(&sent.bytes());
    let real =
        Packet { from: running.back, to: real_mac(11), ttl: 63, destination: at("10.1.0.11:80"), ..sent };
    arms.back.expect_frame(&real.bytes());
    running.director.settled();
}

/// A reload brings a rule and takes it away; answers pass, and what begins something the other way does not.
#[test]
fn a_rule_lets_pass_and_what_answers() {
    let arms = Arms::new();
    let without = services("dr");
    let running = arms.start(&without);
    let rules = "[[forward]]\nfrom = \"front\"\nto = \"10.1.0.13\"\n[[forward]]\nfrom = \"front\"\nto = \"2001:db8:1::/64\"\n";
    let said = running.director.reload(&arms.lab, &arms.configuration(&(without.clone() + rules)));
    assert!(
        said.contains("rules [] -> [from front to 10.1.0.13/32, from front to 2001:db8:1::/64]"),
        "{said}"
    );
    for (number, (client, real)) in (1..).zip(PAST) {
        let sent = Packet::new(SYN, [ROUTER, running.front], at(client), at(real));
        arms.front.send(&sent.bytes());
        arms.back
            .expect_frame(&Packet { from: running.back, to: real_mac(13), ttl: 63, ..sent.clone() }.bytes());
        let answer = Packet::new(Transport::Tcp("SA"), [real_mac(13), running.back], at(real), at(client));
        arms.back.send(&answer.bytes());
        arms.front.expect_frame(&Packet { from: running.front, to: ROUTER, ttl: 63, ..answer }.bytes());
        let begins = Packet::new(SYN, [real_mac(13), running.back], at(real), at(client));
        arms.back.send(&begins.bytes());
        running.director.wait_for_drops("not_forwarded", number);
        let said = running.director.command(&arms.lab, &["explain", "tcp", client, real]);
        assert!(said.out.contains(&format!("[[forward]] number {number} (from front to ")), "{}", said.out);
        let said = running.director.command(&arms.lab, &["explain", "tcp", real, client]);
        assert!(said.out.contains("say both = true there"), "{}", said.out);
    }
    let _ = running.director.reload(&arms.lab, &arms.configuration(&without));
    let (client, real) = PAST[0];
    let sent = Packet::new(SYN, [ROUTER, running.front], at(client), at(real));
    only_the_service_answers(&arms, &running, &sent);
    running.director.wait_for_drops("not_forwarded", 3);
    running.director.settled();
}
