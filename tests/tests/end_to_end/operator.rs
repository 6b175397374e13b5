//! What an operator types beside `status`: the connection table, explanations, drops; and who else may come to the socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::Value;
use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::{PATIENCE, binary};

const SERVICE: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
scheduler = "rr"
forward = "nat"
real = [{ address = "10.1.0.11:8080" }, { address = "10.1.0.12:8080" }]
[[service]]
name = "web6"
listen = "[2001:db8:f::10]:80"
protocol = "udp"
forward = "tun"
real = [{ address = "[2001:db8:1::13]:80" }]
"#;

/// A SYN that arrives at a real server, whose number is told.
fn connect(arms: &Arms, running: &Running, client: &str) -> u8 {
    let macs = [ROUTER, running.front];
    arms.front.send(&Packet::new(Transport::Tcp("S"), macs, at(client), at("192.0.2.10:80")).bytes());
    arms.back.expect("the SYN", |frame| Packet::read(frame).filter(|it| it.source == at(client))).to[5]
}

#[test]
fn connections_are_listed_and_filtered() {
    let arms = Arms::with_workers(2);
    let running = arms.start(SERVICE);
    let director = &running.director;
    let clients: Vec<String> = (1..=20).map(|number| format!("198.51.100.{number}:40000")).collect();
    let met: Vec<u8> = clients.iter().map(|client| connect(&arms, &running, client)).collect();
    let macs = [ROUTER, running.front];
    let v6 = Packet::new(Transport::Udp, macs, at("[2001:db8:c::7]:40000"), at("[2001:db8:f::10]:80"));
    arms.front.send(&v6.bytes());
    director.wait_until("all connections", |status| {
        status.workers.iter().map(|worker| worker.connections).sum::<u64>() == 21
    });
    let list = |words: &[&str]| -> Vec<Value> {
        let said = director.command(&arms.lab, &[&["connections", "--json"], words].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        let all: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
        all["connections"].as_array().expect("a list").clone()
    };
    assert_eq!(list(&[]).len(), 21);
    assert_eq!(list(&["tcp"]).len(), 20);
    assert_eq!(list(&["state=syn_recv"]).len(), 20);
    assert_eq!(list(&["client=198.51.100.8/29"]).len(), 8);
    let workers = [0, 1].map(|worker| list(&[&format!("worker={worker}"), "tcp"]).len());
    assert!(workers[0] + workers[1] == 20 && workers[0] > 0 && workers[1] > 0, "{workers:?}");
    for (client, real) in clients.iter().zip(met) {
        let [one] = &list(&[client])[..] else { panic!("one connection of {client}") };
        assert_eq!(one["real"], format!("10.1.0.{real}:8080"));
        assert_eq!((&one["vip"], &one["state"]), (&"192.0.2.10:80".into(), &"SYN_RECV".into()));
        assert!((50..=60).contains(&one["expires_in"].as_u64().unwrap()), "{one}");
    }
    let [udp] = &list(&["udp"])[..] else { panic!("one UDP connection") };
    assert_eq!(udp["real"], "[2001:db8:1::13]:80");
    let said = director.command(&arms.lab, &["connections", "colour=red"]);
    assert!(said.code == Some(2) && said.err.contains("colour=red: not a filter"), "{said:?}");
}

#[test]
fn explanations_come_true_and_change_nothing() {
    let arms = Arms::with_workers(2);
    let running = arms.start(SERVICE);
    let director = &running.director;
    for number in 1..=12 {
        let client = format!("198.51.100.{number}:40000");
        let explain = |flag: &str| -> Vec<(String, String)> {
            let words = ["explain", "tcp", &client, "192.0.2.10:80", "--flag", flag, "--json"];
            let said = director.command(&arms.lab, &words);
            assert_eq!(said.code, Some(0), "{said:?}");
            let all: Value = serde_json::from_str(&said.out).unwrap();
            let step =
                |step: &Value| ["step", "value"].map(|key| step[key].as_str().unwrap().to_owned()).into();
            all["steps"].as_array().unwrap().iter().map(step).collect()
        };
        let has = |steps: &[(String, String)], step: &str, value: &str| {
            assert!(
                steps.iter().any(|(a, b)| (a.as_str(), b.as_str()) == (step, value)),
                "{step} {value}: {steps:?}"
            );
        };
        let foretold = explain("syn");
        assert_eq!(foretold, explain("syn"), "asking changes nothing");
        has(&explain("ack"), "reply", "reset");
        has(&foretold, "service", "web4");
        let real = connect(&arms, &running, &client);
        has(&foretold, "real", &format!("10.1.0.{real}"));
        has(&foretold, "next_hop", &format!("02:00:00:00:b0:{real:02x}"));
        has(&explain("ack"), "connection", "SYN_RECV");
    }
    let said =
        director.command(&arms.lab, &["explain", "udp", "198.51.100.1:1", "192.0.2.10:81", "--nic", "bakc"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("bakc: no such nic: there are front, back: name one of these"), "{}", said.err);
}

#[test]
fn drops_are_told_with_reason_and_advice() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    let mut frame = vec![0x45; 40];
    frame[..6].copy_from_slice(&running.front);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    (0..3).for_each(|_| arms.front.send(&frame));
    running.director.wait_for_drops("ether_type", 3);
    let said = running.director.command(&arms.lab, &["drops"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.lines().any(|line| line.contains("ether_type") && line.contains(" 3")), "{}", said.out);
    let said = running.director.command(&arms.lab, &["drops", "--explain", "ether_type"]);
    assert!(said.out.contains("Neither IPv4, IPv6 nor ARP."), "{said:?}");
}

/// Clients that say nothing, say nonsense, and are more than are served at once: the director forwards, and answers those
/// who ask properly when there is a place again.
#[test]
fn strange_clients_do_no_harm() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    let come = || UnixStream::connect(arms.lab.socket()).expect("a connection");
    let silent: Vec<UnixStream> = (0..40).map(|_| come()).collect();
    connect(&arms, &running, "198.51.100.1:40000");
    drop(silent);
    assert_eq!(running.director.status().pid, running.director.pid());
    for nonsense in [
        &b"\x16\x03\x01 nonsense\r\n\r\n"[..],
        b"GET /v1/nothing HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n",
        b"DELETE /v1/status HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n",
        b"GET /v1/connections?worker=x HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n",
        b"GET /v1/explain?protocol=tcp HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n",
    ] {
        let mut stream = come();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{}: {answer}", String::from_utf8_lossy(nonsense));
    }
    // A reader that goes away in the middle of a list.
    let mut stream = come();
    stream.write_all(b"GET /v1/connections HTTP/1.1\r\nHost: shunt\r\n\r\n").unwrap();
    drop(stream);
    connect(&arms, &running, "198.51.100.2:40000");
    running.director.settled();
}

/// Stopped in the middle of a flood: it ends well, and soon.
#[test]
fn stops_under_load() {
    let arms = Arms::with_workers(2);
    let running = arms.start(SERVICE);
    let packet = |number: u32| {
        let client = format!("198.51.{}.{}:40000", number / 250 % 100, 1 + number % 250);
        Packet::new(Transport::Tcp("S"), [ROUTER, running.front], at(&client), at("192.0.2.10:80")).bytes()
    };
    let frames: Vec<Vec<u8>> = (0..2000).map(packet).collect();
    let sending = |arms: &Arms| frames.iter().for_each(|frame| arms.front.send(frame));
    sending(&arms);
    running.director.signal(Signal::SIGTERM);
    sending(&arms);
    let status = running.director.ended();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!arms.lab.socket().exists());
}

/// What is missing for a user who is not root is named.
#[test]
fn missing_capabilities_are_named() {
    let arms = Arms::new();
    let lab = &arms.lab;
    lab.run("chmod", &["0777", lab.path("").to_str().unwrap()]);
    // Where it was built may be closed to others.
    let shunt = lab.path("shunt");
    std::fs::copy(binary::shunt(), &shunt).unwrap();
    let file = lab.write("shunt.toml", &arms.configuration(SERVICE));
    for (capabilities, missing) in [("-all", "CAP_NET_RAW"), ("+net_raw,+net_admin", "CAP_SYS_ADMIN")] {
        let said = lab.run(
            "setpriv",
            &[
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                &format!("--inh-caps={capabilities}"),
                &format!("--ambient-caps={capabilities}"),
                shunt.to_str().unwrap(),
                "run",
                "-c",
                file.to_str().unwrap(),
            ],
        );
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(missing), "wanted {missing}\nsaid {}", said.err);
    }
}
