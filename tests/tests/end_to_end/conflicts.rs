//! Hosts that use addresses of others: of the director, whose VIP a real server answers for, and of its neighbours.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use shunt::api::neighbours::{Neighbour, Neighbours};
use shunt_dataplane::id::L4Port;
use shunt_dataplane::wire::build::{self, Ends};
use shunt_tests::topology::PATIENCE;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::director::real;
use shunt_tests::topology::frames::{BROADCAST, Mac, Packet, Transport, arp, at, ip, neighbour};
use shunt_tests::topology::hosts::{Hosts, question};

/// One arm: the VIPs are in the real servers' network.
const SERVICES: &str = r#"
[[service]]
name = "web4"
listen = "10.1.0.50:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "10.1.0.11:80" }]
[[service]]
name = "web6"
listen = "[2001:db8:1::50]:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "[2001:db8:1::11]:80" }]
"#;

const SPOOFER: Mac = [2, 0, 0, 0, 0xee, 1];
const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// Tells everybody that `address` is at `mac`.
fn announcement(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(_) => arp(1, [mac, BROADCAST], (mac, address), ([0; 6], address)),
        IpAddr::V6(_) => neighbour(136, [mac, ALL_NODES], [address, ip("ff02::1"), address], 0x20, Some(mac)),
    }
}

/// Tells the director alone, as if it had asked.
fn answer(mac: Mac, address: IpAddr, to: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(_) => arp(2, [mac, to], (mac, address), (to, ip("10.1.0.1"))),
        IpAddr::V6(_) => neighbour(136, [mac, to], [address, ip("2001:db8:1::1"), address], 0x60, Some(mac)),
    }
}

/// `address` is announced at `mac`.
pub(super) fn announces(frame: &[u8], mac: Mac, address: IpAddr) -> Option<()> {
    let place = if address.is_ipv4() { 28 } else { 62 };
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let group = frame[..6] == BROADCAST || frame[..6] == ALL_NODES;
    (group && frame[6..12] == mac && frame.get(place..place + octets.len())? == octets).then_some(())
}

/// What is told of events, up to the words.
pub(super) fn listen(arms: &Arms) -> impl FnMut(&str) -> String + use<> {
    let mut events = UnixStream::connect(arms.lab.socket()).unwrap();
    events.set_read_timeout(Some(PATIENCE)).unwrap();
    events.write_all(b"GET /v1/events HTTP/1.1\r\nHost: shunt\r\n\r\n").unwrap();
    let mut told = String::new();
    let mut until = move |words: &str| {
        while !told.contains(words) {
            let mut bytes = [0; 4096];
            let count = events.read(&mut bytes).expect("an event");
            assert!(count > 0, "{told}");
            told += &String::from_utf8_lossy(&bytes[..count]);
        }
        told.clone()
    };
    until("\r\n\r\n1\r\n");
    until
}

fn refused(running: &Running, reason: &str) -> u64 {
    let all: Neighbours = running.director.ask("neighbours").unwrap();
    all.refused.iter().find(|refused| refused.reason == reason).unwrap().count
}

fn listed(running: &Running, address: &str) -> Neighbour {
    let all: Neighbours = running.director.ask("neighbours").unwrap();
    all.neighbours.into_iter().find(|one| one.address == address).unwrap_or_else(|| panic!("no {address}"))
}

/// Where a SYN to this VIP of a new client goes.
fn way(arms: &Arms, running: &Running, vip: &str, client: &str) -> Mac {
    arms.back.send(&Packet::new(Transport::Tcp("S"), [ROUTER, running.back], at(client), at(vip)).bytes());
    let sent = |frame: &[u8]| {
        Packet::read(frame).filter(|it| it.source == at(client) && it.to != running.back).map(|it| it.to)
    };
    arms.back.expect("the SYN", sent)
}

/// The usual mistake with DR: the real server has the VIP and says so.
#[test]
fn a_real_server_that_answers_for_the_vip_is_named() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    let mut events = listen(&arms);
    for (vip, real, advice) in [
        ("10.1.0.50", "10.1.0.11", "arp_ignore=1"),
        ("2001:db8:1::50", "2001:db8:1::11", "put the VIP on lo there"),
    ] {
        let _ = arms.back.drain();
        arms.back.send(&announcement(real_mac(11), ip(vip)));
        arms.back.expect("its defence", |frame| announces(frame, running.back, ip(vip)));
        let status = running.director.wait_until("the conflict", |status| {
            status.conflicts.iter().any(|conflict| conflict.address == vip)
        });
        let conflict = status.conflicts.iter().find(|conflict| conflict.address == vip).unwrap();
        assert_eq!((conflict.nic.as_str(), conflict.real.as_deref()), ("back", Some(real)));
        assert_eq!((conflict.mac.as_str(), conflict.count), ("02:00:00:00:b0:0b", 1));
        assert!(conflict.text.contains(real) && conflict.text.contains(advice), "{}", conflict.text);
        let told =
            events(&format!("\"what\":\"address_conflict\",\"service\":\"{vip}\",\"real\":\"{real}\""));
        assert!(told.contains(advice), "{told}");
        for command in ["status", "neighbours"] {
            let said = running.director.command(&arms.lab, &[command]).out;
            assert!(said.contains(&format!("conflict: nic back: {}", conflict.text)), "{said}");
        }
    }
    // Again and again: counted each time, told once.
    for _ in 0..50 {
        arms.back.send(&announcement(real_mac(11), ip("10.1.0.50")));
    }
    let status =
        running.director.wait_until("50 more", |status| status.conflicts.iter().any(|one| one.count == 51));
    assert_eq!(status.conflicts.len(), 2);
    running.director.wait_logged("also claims 10.1.0.50");
    assert_eq!(running.director.log().matches("also claims 10.1.0.50").count(), 1);
    // Packets go where they went.
    assert_eq!(way(&arms, &running, "10.1.0.50:80", "10.1.0.200:40000"), real_mac(11));
}

/// A host that has the VIP, answers who asks, and announces nothing.
#[test]
fn a_silent_host_that_has_a_vip_is_found() {
    let arms = Arms::new();
    let vips = ["10.1.0.50", "2001:db8:1::50"].map(|vip| (ip(vip), SPOOFER));
    let own = ("192.0.2.2", "2001:db8:f::2");
    let _thief = Hosts::on("b0", &vips);
    let _other = Hosts::on("f0", &[(ip(own.0), SPOOFER), (ip(own.1), SPOOFER)]);
    let running = arms.start(SERVICES);
    let mut events = listen(&arms);
    for (nic, address) in
        [("back", "10.1.0.50"), ("back", "2001:db8:1::50"), ("front", own.0), ("front", own.1)]
    {
        let status = running.director.wait_until("the conflict", |status| {
            status.conflicts.iter().any(|conflict| conflict.address == address)
        });
        let conflict = status.conflicts.iter().find(|conflict| conflict.address == address).unwrap();
        assert_eq!((conflict.nic.as_str(), conflict.mac.as_str()), (nic, "02:00:00:00:ee:01"));
        running.director.wait_logged(&format!("02:00:00:00:ee:01 also claims {address}"));
        events(&format!("\"what\":\"address_conflict\",\"service\":\"{address}\""));
    }
}

#[test]
fn nobody_takes_a_real_servers_address_while_it_answers() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    let mut events = listen(&arms);
    for (address, vip, clients) in [
        ("10.1.0.11", "10.1.0.50:80", ["10.1.0.200:40000", "10.1.0.201:40000"]),
        ("2001:db8:1::11", "[2001:db8:1::50]:80", ["[2001:db8:1::200]:40000", "[2001:db8:1::201]:40000"]),
    ] {
        let asked = arms.reals.asked(ip(address));
        let before = refused(&running, "unasked");
        let _ = arms.back.drain();
        arms.back.send(&answer(SPOOFER, ip(address), running.back));
        arms.back.expect("a question to everybody", |frame| {
            (question(frame)?.2 == ip(address) && frame[0] & 1 == 1).then_some(())
        });
        // The spoofer answers it, too.
        arms.back.send(&answer(SPOOFER, ip(address), running.back));
        events(&format!("\"what\":\"neighbour_conflict\",\"service\":\"{address}\""));
        assert!(arms.reals.asked(ip(address)) > asked);
        assert!(refused(&running, "unasked") > before);
        assert_eq!(listed(&running, address).mac.as_deref(), Some("02:00:00:00:b0:0b"));
        for client in clients {
            assert_eq!(way(&arms, &running, vip, client), real_mac(11));
        }
        let log = running.director.log();
        assert!(!log.contains(&format!("{address} moved")), "{log}");
    }
}

/// Discovery that came through a router proves nothing.
#[test]
fn discovery_from_afar_is_refused() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    let mut frame = announcement(SPOOFER, ip("2001:db8:1::50"));
    frame[21] = 254;
    arms.back.send(&frame);
    running.director.wait_until("it refused", |_| refused(&running, "hop_limit") == 1);
    assert_eq!(running.director.status().conflicts, []);
}

/// A neighbour whose MAC the file names, one that is not there, and one that asks: what is listed of each.
#[test]
fn each_neighbour_is_listed_with_its_state() {
    let arms = Arms::new();
    let services = format!(
        "neighbours = [\"10.1.0.14 02:00:00:00:aa:0e\"]\n{SERVICES}\n[[service]]\nname = \"more\"\nlisten = \"10.1.0.51:80\"\nprotocol = \"tcp\"\nreal = [{{ address = \"10.1.0.14\" }}, {{ address = \"10.1.0.15\" }}]"
    );
    let running = arms.start_unresolved(&services);
    let asker = ip("10.1.0.77");
    arms.back.send(&arp(1, [SPOOFER, BROADCAST], (SPOOFER, asker), ([0; 6], ip("10.1.0.50"))));
    // What the file says holds whatever is heard.
    arms.back.send(&announcement(SPOOFER, ip("10.1.0.14")));
    let state = |address: &str, named: Option<&str>, state: &str| {
        running.director.wait_until(&format!("{address} {state}"), |status| {
            status.neighbours.iter().any(|one| {
                (one.address.as_str(), one.named.as_deref(), one.state.as_str()) == (address, named, state)
            })
        });
    };
    state("10.1.0.77", None, "stale");
    state("10.1.0.11", Some("real"), "reachable");
    state("192.0.2.1", Some("router"), "reachable");
    state("10.1.0.14", Some("real"), "static");
    state("10.1.0.15", Some("real"), "failed");
    assert_eq!(listed(&running, "10.1.0.14").mac.as_deref(), Some("02:00:00:00:aa:0e"));
    assert_eq!((listed(&running, "10.1.0.15").mac, refused(&running, "static")), (None, 1));
    let said = running.director.command(&arms.lab, &["neighbours"]).out;
    for words in ["10.1.0.14", "static", "failed", "REFUSED", "Another MAC for a neighbour"] {
        assert!(said.contains(words), "{said}");
    }
    let json = running.director.command(&arms.lab, &["neighbours", "--json"]).out;
    assert!(serde_json::from_str::<Neighbours>(&json).is_ok(), "{json}");
}

/// The director's own traffic reaches those whose MAC the file names, too: nobody would answer for them.
#[test]
fn checks_reach_a_neighbour_that_the_file_names() {
    let arms = Arms::new();
    let running = arms.start(
        r#"neighbours = ["10.1.0.14 02:00:00:00:aa:0e", "2001:db8:1::14 02:00:00:00:aa:0e"]
[[service]]
name = "four"
listen = "10.1.0.50:80"
protocol = "tcp"
real = [{ address = "10.1.0.14" }]
check = { kind = "tcp", interval = "1s" }
[[service]]
name = "six"
listen = "[2001:db8:1::50]:80"
protocol = "tcp"
real = [{ address = "2001:db8:1::14" }]
check = { kind = "tcp", interval = "1s" }
"#,
    );
    for to in ["10.1.0.14:80", "[2001:db8:1::14]:80"] {
        let octets = match at(to).ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let place = if octets.len() == 4 { 30 } else { 38 };
        arms.back.expect("a check's SYN", |frame| {
            let is = frame[..6] == [2, 0, 0, 0, 0xaa, 14];
            (is && frame.get(place..place + octets.len())? == octets).then_some(())
        });
        assert_eq!(arms.reals.asked(at(to).ip()), 0);
        assert_eq!(real(&running.director.status(), to).next_hop, "back 02:00:00:00:aa:0e");
    }
}

/// Somebody on the link lies about where a real server is, in every way there is, while it is checked: its checks go to it alone.
#[test]
fn no_check_goes_astray_whatever_is_forged() {
    let arms = Arms::new();
    let checks =
        "check = { kind = \"tcp\", interval = \"100ms\", timeout = \"100ms\", fall = 1, rise = 1 }\nreal =";
    let running = arms.start(&SERVICES.replace("real =", checks));
    for (address, own) in [("10.1.0.11", "10.1.0.1"), ("2001:db8:1::11", "2001:db8:1::1")] {
        let (address, own) = (ip(address), ip(own));
        let _ = arms.back.drain();
        let (mut syns, mut rounds) = (0, 0);
        let deadline = Instant::now() + PATIENCE;
        while syns < 30 || rounds < 30 {
            assert!(Instant::now() < deadline, "{syns} checks of {address} in {rounds} rounds");
            arms.back.send(&announcement(SPOOFER, address));
            arms.back.send(&answer(SPOOFER, address, running.back));
            arms.back.send(&redirect(&running, own, address));
            rounds += 1;
            for frame in arms.back.drain() {
                if tcp_ends(&frame) == Some((own, address)) {
                    assert_eq!(frame[..6], real_mac(11), "a check of {address} goes astray");
                    syns += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(listed(&running, &address.to_string()).mac.as_deref(), Some("02:00:00:00:b0:0b"));
    }
}

/// From whom to whom a TCP segment goes, whatever options it has.
fn tcp_ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| frame.get(at..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
    let v6 = |at: usize| frame.get(at..)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets));
    match frame.get(12..14)? {
        [8, 0] if *frame.get(23)? == 6 => v4(26).zip(v4(30)),
        [0x86, 0xdd] if *frame.get(20)? == 6 => v6(22).zip(v6(38)),
        _ => None,
    }
}

/// "The better way to this real server is by the spoofer", as its router would say it (RFC 792; RFC 4861, 4.5).
fn redirect(running: &Running, own: IpAddr, address: IpAddr) -> Vec<u8> {
    match (own, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => {
            let quoted = Packet::new(
                Transport::Tcp("S"),
                [running.back, real_mac(11)],
                (own, 40000).into(),
                (address, 80).into(),
            );
            let ends = Ends {
                source_mac: shunt_dataplane::id::Mac(SPOOFER),
                destination_mac: shunt_dataplane::id::Mac(running.back),
                source: address,
                destination: own,
                source_port: L4Port(0),
                destination_port: L4Port(0),
            };
            build::icmp(&ends, 5, 1, u32::from_be_bytes([10, 1, 0, 66]), &quoted.bytes()[14..42])
        }
        // Target, then destination: the target is where the destination is from now on.
        _ => neighbour(137, [SPOOFER, running.back], [ip("fe80::1"), own, address], 0, Some(SPOOFER)),
    }
}
