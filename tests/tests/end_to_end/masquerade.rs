//! Real servers reach the outside by the director's own address.

use serde_json::Value;
use shunt_tests::topology::arms::{Arms, ROUTER, real_mac};
use shunt_tests::topology::frames::{Packet, Transport, at};

const MASQUERADE: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "nat"
real = [{ address = "10.1.0.11:80" }]
[[masquerade]]
iptables = "iptables -t nat -A POSTROUTING -s 10.1.0.0/24 -o front -j MASQUERADE"
[[masquerade]]
from = "2001:db8:1::/64"
nic = "front"
"#;

#[test]
fn out_and_back_with_two_workers() {
    let arms = Arms::with_workers(2);
    let running = arms.start(MASQUERADE);
    let director = &running.director;
    for (host, outside, own) in [
        ("10.1.0.11:40000", "203.0.113.9:53", "192.0.2.2:40000"),
        ("10.1.0.12:1024", "203.0.113.77:53", "192.0.2.2:0"),
        ("[2001:db8:1::11]:40000", "[2001:db8:ffff::1]:53", "[2001:db8:f::2]:40000"),
    ] {
        let number = if host.contains("12:") { 12 } else { 11 };
        for _ in 0..3 {
            let macs = [real_mac(number), running.back];
            let sent = Packet::new(Transport::Udp, macs, at(host), at(outside));
            arms.back.send(&sent.bytes());
            let seen = arms.front.expect("the packet, masqueraded", |frame| {
                Packet::read(frame).filter(|it| it.destination == at(outside))
            });
            let own = if own.ends_with(":0") { seen.source } else { at(own) };
            assert!(own.port() >= 32768 && own.ip() == seen.source.ip());
            let (from, to) = (running.front, ROUTER);
            assert_eq!(seen, Packet { from, to, ttl: 63, source: own, ..sent.clone() });
            arms.front.send(&seen.answered(Transport::Udp).bytes());
            let back = sent.answered(Transport::Udp);
            arms.back.expect_frame(&Packet { ttl: 63, ..back }.bytes());
        }
    }
    let status = director.settled();
    let counted: Vec<_> = status
        .masquerades
        .iter()
        .map(|one| (one.address.as_str(), one.connections, one.packets_out))
        .collect();
    assert_eq!(counted, [("192.0.2.2", 2, 6), ("2001:db8:f::2", 1, 3)]);
    let said = director.command(&arms.lab, &["connections", "--json", "203.0.113.9"]);
    let all: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(
        (&all["connections"][0]["real"], &all["connections"][0]["masquerade"]),
        (&Value::from("10.1.0.11:40000"), &Value::from(true))
    );
    let said = director.command(&arms.lab, &["connections", "192.0.2.2:40000"]);
    assert!(said.out.contains("masquerade"), "{}", said.out);
    let explained = ["explain", "tcp", "10.1.0.11:50000", "203.0.113.9:443", "--nic", "back"];
    let said = director.command(&arms.lab, &explained);
    assert!(
        said.out.contains("10.1.0.11:50000 is masqueraded: others know it as 192.0.2.2:50000"),
        "{}",
        said.out
    );
    // The kernel's IPVS knows nothing of them.
    let said = director.command(&arms.lab, &["ipvsadm", "-Lnc"]);
    assert!(!said.out.contains("203.0.113"), "{}", said.out);
    assert_eq!(director.reasons(), [""; 0]);
}

/// A rule that a reload brings holds at once, and one that it takes away leaves no connection behind.
#[test]
fn rules_come_and_go() {
    let arms = Arms::new();
    let services = &MASQUERADE[..MASQUERADE.find("[[masquerade]]").expect("rules")];
    let without = &format!("{services}[[forward]]\nfrom = \"back\"\nto = \"front\"\n");
    let running = arms.start(without);
    let macs = [real_mac(11), running.back];
    let sent = Packet::new(Transport::Udp, macs, at("10.1.0.11:40000"), at("203.0.113.9:53"));
    let leaves_as = |source: &str| {
        arms.back.send(&sent.bytes());
        let (from, to) = (running.front, ROUTER);
        arms.front.expect_frame(&Packet { from, to, ttl: 63, source: at(source), ..sent.clone() }.bytes());
    };
    leaves_as("10.1.0.11:40000");
    let said = running.director.reload(&arms.lab, &arms.configuration(MASQUERADE));
    assert!(said.contains("10.1.0.0/24 nic \"front\""), "{said}");
    leaves_as("192.0.2.2:40000");
    let _ = running.director.reload(&arms.lab, &arms.configuration(without));
    running.director.wait_until("no connection left", |status| status.workers[0].connections == 0);
    leaves_as("10.1.0.11:40000");
    running.director.settled();
}
