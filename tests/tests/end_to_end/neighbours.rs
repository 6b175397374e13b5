//! ARP and neighbour discovery: what the director answers, and how it follows its neighbours.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shunt_tests::topology::PATIENCE;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::director::{buffers, buffers_ready, limit, real};
use shunt_tests::topology::frames::{
    BROADCAST, Mac, Packet, Transport, arp, at, icmp, ip, neighbour, ping, solicited,
};
use shunt_tests::topology::hosts::Hosts;
use shunt_tests::topology::wire::Wire;

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

/// A real server that is not there at first.
const ABSENT: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "10.1.0.14:80" }]
"#;

const ASKER: Mac = [2, 0, 0, 0, 0, 0x77];

/// Asks everybody for `target`.
fn ask(wire: &Wire, source: IpAddr, target: IpAddr) {
    wire.send(&match target {
        IpAddr::V4(_) => arp(1, [ASKER, BROADCAST], (ASKER, source), ([0; 6], target)),
        IpAddr::V6(_) => {
            let (mac, group) = solicited(target);
            let option = (!source.is_unspecified()).then_some(ASKER);
            neighbour(135, [ASKER, mac], [source, group, target], 0, option)
        }
    });
}

/// The answer about `target`: its MAC and to which MAC it was sent.
fn answer(frame: &[u8], target: IpAddr) -> Option<(Mac, Mac)> {
    let to: Mac = frame[..6].try_into().ok()?;
    let found = match target {
        IpAddr::V4(target) => {
            let is = frame.get(12..14)? == [8, 6]
                && frame.get(20..22)? == [0, 2]
                && frame.get(28..32)? == target.octets();
            is.then(|| frame[22..28].to_vec())
        }
        IpAddr::V6(target) => {
            let is = frame.get(12..14)? == [0x86, 0xdd]
                && frame.get(20..22)? == [58, 255]
                && *frame.get(54)? == 136
                && frame.get(62..78)? == target.octets();
            is.then(|| frame.get(80..86).unwrap_or_default().to_vec())
        }
    };
    Some((found?.try_into().ok()?, to))
}

#[test]
fn answers_for_its_own_addresses_and_for_no_others() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    // Questions are answered in order: when the last one was, those before it were not going to be.
    for (wire, own, source, asked) in [
        (&arms.front, running.front, "192.0.2.77", ["192.0.2.99", "192.0.2.10", "192.0.2.2"]),
        (&arms.front, running.front, "2001:db8:f::77", ["2001:db8:f::99", "2001:db8:f::10", "2001:db8:f::2"]),
        (&arms.back, running.back, "10.1.0.77", ["10.1.0.99", "192.0.2.10", "10.1.0.1"]),
        (&arms.back, running.back, "2001:db8:1::77", ["2001:db8:1::99", "2001:db8:f::10", "2001:db8:1::1"]),
    ] {
        let [_, vip, last] = asked;
        asked.iter().for_each(|target| ask(wire, ip(source), ip(target)));
        let mut answered = Vec::new();
        wire.expect(&format!("an answer about {last}"), |frame| {
            for target in asked {
                if let Some((mac, to)) = answer(frame, ip(target)) {
                    // An announcement is no answer to this question.
                    if to == ASKER {
                        assert_eq!(mac, own);
                        answered.push(target);
                    }
                }
            }
            answered.contains(&last).then_some(())
        });
        // The VIP is in a network of the front interface, and answered for there alone.
        let want = if own == running.front { vec![vip, last] } else { vec![last] };
        assert_eq!(answered, want);
    }
}

/// Somebody wants to take an address of the director's and asks first (RFC 5227, 2.1; RFC 4862, 5.4).
#[test]
fn defends_its_addresses() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for vip in ["192.0.2.10", "2001:db8:f::10"] {
        let vip = ip(vip);
        let nobody = ip(if vip.is_ipv4() { "0.0.0.0" } else { "::" });
        let _ = arms.front.drain();
        ask(&arms.front, nobody, vip);
        let (mac, to) = arms
            .front
            .expect("a defence", |frame| answer(frame, vip).filter(|(_, to)| vip.is_ipv6() || *to == ASKER));
        assert_eq!(mac, running.front);
        // RFC 4861, 7.2.4: to all nodes, since the asker has no address yet.
        assert_eq!(to, if vip.is_ipv4() { ASKER } else { [0x33, 0x33, 0, 0, 0, 1] });
    }
    running.director.wait_logged("02:00:00:00:00:77 also claims 192.0.2.10");
}

#[test]
fn announces_its_vips() {
    let arms = Arms::new();
    let running = arms.start_unresolved(SERVICES);
    arms.front.expect("an ARP announcement of the VIP", |frame| {
        let vip = [192, 0, 2, 10];
        let is = frame[..6] == BROADCAST && frame.get(28..32)? == vip && frame.get(38..42)? == vip;
        (is && frame[22..28] == running.front).then_some(())
    });
    arms.front.expect("an unsolicited advertisement of the VIP", |frame| {
        let (mac, to) = answer(frame, ip("2001:db8:f::10"))?;
        (mac == running.front && to == [0x33, 0x33, 0, 0, 0, 1]).then_some(())
    });
}

fn syn(running: &Running, vip: &str, client: &str) -> Vec<u8> {
    Packet::new(Transport::Tcp("S"), [ROUTER, running.front], at(client), at(vip)).bytes()
}

#[test]
fn follows_a_real_server_to_another_mac() {
    const MOVED: Mac = [2, 0, 0, 0, 0xbb, 11];
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    for (address, vip, client) in [
        ("10.1.0.11", "192.0.2.10:80", "198.51.100.7:40000"),
        ("2001:db8:1::11", "[2001:db8:f::10]:80", "[2001:db8:c::7]:40000"),
    ] {
        arms.front.send(&syn(&running, vip, client));
        let first =
            arms.back.expect("the SYN", |frame| Packet::read(frame).filter(|it| it.source == at(client)));
        assert_eq!(first.to, real_mac(11));
        let address = ip(address);
        arms.reals.set(address, Some(MOVED));
        arms.back.send(&match address {
            IpAddr::V4(_) => arp(1, [MOVED, BROADCAST], (MOVED, address), ([0; 6], address)),
            IpAddr::V6(_) => {
                let all = ([0x33, 0x33, 0, 0, 0, 1], ip("ff02::1"));
                neighbour(136, [MOVED, all.0], [address, all.1, address], 0x20, Some(MOVED))
            }
        });
        let shown = if address.is_ipv4() { "10.1.0.11:80" } else { "[2001:db8:1::11]:80" };
        running.director.wait_until("the new MAC in use", |status| {
            real(status, shown).next_hop == "back 02:00:00:00:bb:0b"
        });
        arms.front.send(&syn(&running, vip, client));
        let second =
            arms.back.expect("the SYN", |frame| Packet::read(frame).filter(|it| it.source == at(client)));
        assert_eq!(second.to, MOVED);
        running.director.wait_logged(&format!("{address} moved from"));
    }
}

/// One that answers nobody, such as a tester, is reached by the MAC that the file names.
#[test]
fn a_neighbour_that_the_file_names_is_not_asked() {
    let arms = Arms::new();
    let running = arms.start(&format!("neighbours = [\"10.1.0.14 02:00:00:00:aa:0e\"]\n{ABSENT}"));
    let status = running.director.status();
    assert_eq!(real(&status, "10.1.0.14:80").next_hop, "back 02:00:00:00:aa:0e");
    arms.front.send(&syn(&running, "192.0.2.10:80", "198.51.100.7:40000"));
    arms.back
        .expect("the SYN, at once", |frame| Packet::read(frame).filter(|it| it.to == [2, 0, 0, 0, 0xaa, 14]));
    assert_eq!(arms.reals.asked(ip("10.1.0.14")), 0);
}

#[test]
fn packets_wait_for_their_real_server() {
    let arms = Arms::new();
    let running = arms.start_unresolved(ABSENT);
    let clients = ["198.51.100.7:40000", "198.51.100.8:40000"];
    clients.iter().for_each(|client| arms.front.send(&syn(&running, "192.0.2.10:80", client)));
    let status = running.director.wait_until("packets that wait", |status| {
        status.limits.iter().any(|limit| limit.name == "packets waiting for a neighbour" && limit.used == 2)
    });
    assert_eq!(real(&status, "10.1.0.14:80").next_hop, "unresolved");
    arms.reals.set(ip("10.1.0.14"), Some(real_mac(14)));
    for client in clients {
        arms.back.expect("the packet that waited, in order", |frame| {
            Packet::read(frame).filter(|it| it.source == at(client) && it.to == real_mac(14))
        });
    }
    let status = running.director.settled();
    assert_eq!(real(&status, "10.1.0.14:80").next_hop, "back 02:00:00:00:b0:0e");
    assert_eq!(running.director.reasons(), [""; 0]);
}

#[test]
fn absent_real_server_is_told_and_recovers() {
    let arms = Arms::new();
    let running = arms.start_unresolved(ABSENT);
    arms.front.send(&syn(&running, "192.0.2.10:80", "198.51.100.7:40000"));
    let status = running.director.wait_until("the loss in the advice", |status| {
        status
            .advice
            .iter()
            .any(|line| line == "1 of 1 packets that waited for a neighbour were dropped: it did not answer")
    });
    assert_eq!(real(&status, "10.1.0.14:80").next_hop, "unresolved");
    let want = "10.1.0.14 does not answer on nic \"back\": packets to it are dropped: check that it is up and in that network";
    assert!(status.advice.iter().any(|line| line == want), "{:?}", status.advice);
    assert!(arms.reals.asked(ip("10.1.0.14")) >= 3);

    arms.reals.set(ip("10.1.0.14"), Some(real_mac(14)));
    let status = running.director.wait_resolved();
    assert_eq!(real(&status, "10.1.0.14:80").next_hop, "back 02:00:00:00:b0:0e");
    let client = "198.51.100.8:40000";
    arms.front.send(&syn(&running, "192.0.2.10:80", client));
    arms.back.expect("a later SYN", |frame| Packet::read(frame).filter(|it| it.source == at(client)));
    running.director.settled();
}

#[test]
fn flood_to_an_absent_real_server_is_bounded() {
    let arms = Arms::new();
    let running = arms.start_unresolved(ABSENT);
    let begin = Instant::now();
    running.director.wait_for_buffers(buffers_ready(1));
    for number in 0..20_000_u32 {
        let client = format!("198.51.100.{}:{}", number % 100, 40_000 + number % 11);
        arms.front.send(&syn(&running, "192.0.2.10:80", &client));
    }
    let status = running.director.settled();
    let waiting = limit(&status, "packets waiting for a neighbour");
    assert!(waiting.used <= 16 && waiting.refused > 0, "{waiting:?}");
    // Those that wait, those that are ready, and a few that are on their way.
    assert!(buffers(&status) <= 16 + buffers_ready(1) + 64, "{:?}", limit(&status, "packet buffers"));
    // A question a second, whatever comes.
    let asked = u64::from(arms.reals.asked(ip("10.1.0.14")));
    assert!(asked <= begin.elapsed().as_secs() + 2, "asked {asked} times");

    // The director speaks with others meanwhile, and with this one when it appears.
    ask(&arms.front, ip("192.0.2.77"), ip("192.0.2.10"));
    arms.front.expect("an answer about the VIP", |frame| {
        answer(frame, ip("192.0.2.10")).filter(|(_, to)| *to == ASKER)
    });
    arms.reals.set(ip("10.1.0.14"), Some(real_mac(14)));
    running.director.wait_resolved();
    let client = "203.0.113.1:5000";
    arms.front.send(&syn(&running, "192.0.2.10:80", client));
    arms.back.expect("a later SYN", |frame| Packet::read(frame).filter(|it| it.source == at(client)));
    running.director.wait_for_buffers(buffers_ready(1));
}

/// A scan of the networks behind the director: neither the table nor the questions grow with it.
#[test]
fn scan_of_neighbours_is_bounded() {
    let arms = Arms::new();
    let running = arms.start(&format!("[[forward]]\nfrom = \"front\"\nto = \"back\"\n{SERVICES}"));
    let begin = Instant::now();
    let before = arms.reals.asked_in_all();
    for number in 0..5_000_u16 {
        let destination = format!("[2001:db8:1::{number:x}:1]:9");
        let packet =
            Packet::new(Transport::Udp, [ROUTER, running.front], at("[2001:db8:c::7]:9"), at(&destination));
        arms.front.send(&packet.bytes());
    }
    let status = running.director.settled();
    let unanswered = limit(&status, "neighbours that have not answered");
    assert!(unanswered.used <= 512 && unanswered.refused > 0, "{unanswered:?}");
    assert!(limit(&status, "neighbours").used <= 16, "{status:?}");
    assert!(limit(&status, "packets waiting for a neighbour").used <= 1_024);
    let asked = u64::from(arms.reals.asked_in_all() - before);
    assert!(asked <= (begin.elapsed().as_secs() + 1) * 2_000 + 200, "asked {asked} times");
    // Real servers are kept all the while.
    for (vip, client) in
        [("192.0.2.10:80", "198.51.100.7:40000"), ("[2001:db8:f::10]:80", "[2001:db8:c::7]:40000")]
    {
        arms.front.send(&syn(&running, vip, client));
        arms.back.expect("a SYN", |frame| Packet::read(frame).filter(|it| it.source == at(client)));
    }
}

/// A host on the director's own link, and its MAC.
fn on_link(number: u16) -> (IpAddr, Mac) {
    let [high, low] = number.to_be_bytes();
    (ip(&format!("2001:db8:f::c:{number:x}")), [2, 0, 0, 0xc, high, low])
}

/// Pings the VIP until the answer comes back to this host, so many times at most.
fn is_answered(arms: &Arms, running: &Running, (host, mac): (IpAddr, Mac), tries: u32) -> bool {
    let vip = ip("2001:db8:f::10");
    (0..tries).any(|_| {
        arms.front.send(&ping([mac, running.front], host, vip, 1));
        let deadline = Instant::now() + Duration::from_millis(700);
        while Instant::now() < deadline {
            let frames = arms.front.pending();
            let is_it = |frame: &Vec<u8>| {
                frame.starts_with(&mac)
                    && icmp(frame).is_some_and(|(from, _, kind, _)| (from, kind) == (vip, 129))
            };
            if frames.iter().any(is_it) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    })
}

/// There are more clients on the link than neighbours may be: those that are not used give way, and everybody is answered.
#[test]
fn more_clients_on_the_link_than_neighbours_are_all_answered() {
    let mut arms = Arms::new();
    arms.runtime = format!("{}\nneighbours = 256", shunt_tests::topology::arms::RUNTIME);
    let hosts: Vec<_> = (0..400).map(on_link).collect();
    let _hosts = Hosts::on("f0", &hosts);
    let running = arms.start(SERVICES);
    for round in 0..2 {
        for host in &hosts {
            assert!(is_answered(&arms, &running, *host, 5), "{host:?} in round {round}");
        }
    }
    let status = running.director.status();
    let neighbours = limit(&status, "neighbours");
    assert!(neighbours.used == 256 && neighbours.most == 256, "{neighbours:?}");
}

/// Packets from addresses of the link that nobody has, while clients come that the director does not know yet.
#[test]
fn who_answers_is_served_in_a_flood_from_addresses_of_nobody() {
    let arms = Arms::new();
    let hosts: Vec<_> = (0..8).map(on_link).collect();
    let _hosts = Hosts::on("f0", &hosts);
    let running = arms.start(SERVICES);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let begin = Instant::now();
            let mut sent = 0_u64;
            // An end of its own: the scope waits for it, also when an assertion fails.
            while !ends.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
                while sent < begin.elapsed().as_millis() as u64 * 3 / 2 {
                    let nobody = ip(&format!("2001:db8:f:0:1::{:x}:{:x}", sent >> 16, sent & 0xffff));
                    arms.front.send(&ping([ROUTER, running.front], nobody, ip("2001:db8:f::10"), 1));
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        std::thread::sleep(Duration::from_secs(1));
        let answered: Vec<bool> = hosts.iter().map(|host| is_answered(&arms, &running, *host, 3)).collect();
        ends.store(true, Ordering::Relaxed);
        assert!(flood.join().expect("the flood") > 1_000);
        assert_eq!(answered, [true; 8]);
    });
}
