//! How a director starts, refuses to start, and ends without leaving anything behind.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::signal::Signal;
use shunt::api::Status;
use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::director::Director;
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::{Lab, wait_for};

const SERVICE: &str = r#"
[[service]]
name = "web"
listen = "192.0.2.10:80"
protocol = "tcp"
real = [{ address = "10.1.0.11:80" }]
"#;

fn leaves_nothing(arms: &Arms, Running { director, .. }: Running, end: impl FnOnce(&Director)) {
    let socket = arms.lab.socket();
    let runtime_files = format!("/run/dpdk/shunt-{}", director.pid());
    assert!(socket.exists());
    end(&director);
    let status = director.ended();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!socket.exists(), "the socket");
    assert!(!Path::new(&runtime_files).exists(), "{runtime_files}");
}

#[test]
fn socket_is_the_owners_alone() {
    let arms = Arms::new();
    let running = arms.start_unresolved(SERVICE);
    let metadata = std::fs::metadata(arms.lab.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, nix::unistd::geteuid().as_raw()));
    let status = running.director.status();
    assert_eq!((status.role.as_str(), status.pid), ("active", running.director.pid()));
    let said = running.director.command(&arms.lab, &["status"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains("TCP  192.0.2.10:80"), "{}", said.out);
}

#[test]
fn second_director_on_the_socket_is_refused() {
    let arms = Arms::new();
    let running = arms.start_unresolved(SERVICE);
    let said = arms
        .lab
        .run(shunt_tests::topology::binary::shunt(), &["run", "-c", running.director.file.to_str().unwrap()]);
    assert_eq!(said.code, Some(1));
    let socket = arms.lab.socket();
    let wrong = format!("runtime.socket: {}: process {} (", socket.display(), running.director.pid());
    let advice = "has this socket: each director has one of its own: stop that one, or change runtime.socket";
    assert!(said.err.contains(&wrong) && said.err.contains(advice), "{}", said.err);
    assert_eq!(running.director.status().pid, running.director.pid(), "the first one goes on");
}

/// On whichever kind of device; also when nobody answers at the socket, and until the first one is gone, however it goes.
#[test]
fn second_director_on_a_device_is_refused_with_who_has_it() {
    let arms = Arms::new();
    let beside = arms.lab.beside();
    let memif = format!("memif:{},role=server", arms.lab.path("memif.sock").display());
    let virtio = format!("net_vhost0,iface={}", arms.lab.path("vhost.sock").display());
    for device in ["af_packet:front", "tap:taken", &memif, &virtio] {
        let nic = |lab: &Lab| {
            lab.runtime(1, "connections = 1024")
                + &format!(
                    "[[nic]]\nname = \"front\"\ndevice = \"{device}\"\naddresses = [\"10.1.0.1/24\"]\n{SERVICE}"
                )
        };
        let first = Director::start(&arms.lab, &nic(&arms.lab));
        std::fs::remove_file(arms.lab.socket()).unwrap();
        let said = Director::refused(&beside, &nic(&beside));
        let holder = format!("nic \"front\": process {} (", first.pid());
        assert!(said.contains(&holder) && said.contains(first.file.to_str().unwrap()), "{device}: {said}");
        first.signal(Signal::SIGKILL);
        assert!(!first.ended().success());
        let second = Director::start(&beside, &nic(&beside));
        let said = second.command(&beside, &["stop"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(second.ended().success());
    }
}

#[test]
fn a_socket_that_is_deleted_comes_back() {
    let arms = Arms::new();
    let running = arms.start_unresolved(SERVICE);
    for _ in 0..2 {
        std::fs::remove_file(arms.lab.socket()).unwrap();
        wait_for("the socket", || running.director.ask::<Status>("status"));
        let metadata = std::fs::metadata(arms.lab.socket()).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
    }
    running.director.wait_logged("the socket was taken away: it is there again");
    leaves_nothing(&arms, running, |director| {
        let said = director.command(&arms.lab, &["stop"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    });
}

#[test]
fn stop_leaves_nothing() {
    let arms = Arms::new();
    let running = arms.start_unresolved(SERVICE);
    leaves_nothing(&arms, running, |director| {
        let said = director.command(&arms.lab, &["stop"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!arms.lab.socket().exists(), "the command waits for the end");
    });
    let said = arms
        .lab
        .run(shunt_tests::topology::binary::shunt(), &["stop", "-s", arms.lab.socket().to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "nobody to stop: {said:?}");
}

#[test]
fn signals_leave_nothing() {
    let arms = Arms::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let running = arms.start_unresolved(SERVICE);
        leaves_nothing(&arms, running, |director| director.signal(signal));
    }
}

#[test]
fn director_with_a_tap_leaves_nothing() {
    let lab = Lab::new();
    let director = Director::start(&lab, &one_nic(&lab, 1, "tap:outside"));
    assert!(nix::net::if_::if_nametoindex("outside").is_ok());
    director.signal(Signal::SIGTERM);
    assert_eq!(director.ended().code(), Some(0));
    assert!(nix::net::if_::if_nametoindex("outside").is_err());
}

/// Killed hard, so that it cannot clean up: the next one starts all the same.
#[test]
fn start_after_a_crash() {
    let arms = Arms::new();
    let running = arms.start_unresolved(SERVICE);
    running.director.signal(Signal::SIGKILL);
    assert_eq!(running.director.ended().code(), None);
    assert!(arms.lab.socket().exists());
    let running = arms.start_unresolved(SERVICE);
    leaves_nothing(&arms, running, |director| director.signal(Signal::SIGTERM));
}

fn one_nic(lab: &Lab, workers: usize, device: &str) -> String {
    lab.runtime(workers, "connections = 1024")
        + &format!("[[nic]]\nname = \"back\"\ndevice = \"{device}\"\naddresses = [\"10.1.0.1/24\"]\n")
        + SERVICE
}

/// Starts with one NIC on `device` and expects the refusal that ends in `said`.
fn refused(lab: &Lab, workers: usize, device: &str, said: &str) {
    let log = Director::refused(lab, &one_nic(lab, workers, device));
    let want = format!("{}: nic \"back\": {said}", lab.path("shunt.toml").display());
    assert!(log.lines().any(|line| line == want), "wanted {want}\nsaid {log}");
    assert!(!lab.socket().exists());
}

#[test]
fn missing_interface_is_refused() {
    let lab = Lab::new();
    lab.cable(["back", "b0"], 1);
    refused(
        &lab,
        1,
        "af_packet:bakc",
        "no interface bakc in this network namespace: there are lo, b0, back: correct device = \"af_packet:bakc\", or make the \
         interface first",
    );
}

#[test]
fn interface_that_holds_the_vip_is_refused() {
    let lab = Lab::new();
    lab.cable(["back", "b0"], 1);
    lab.ip("address add 192.0.2.10/32 dev back\naddress add 10.1.0.1/24 dev back");
    let log = Director::refused(&lab, &one_nic(&lab, 1, "af_packet:back"));
    for (address, what) in [("192.0.2.10", "a VIP"), ("10.1.0.1", "the director's own address")] {
        let want = format!(
            "nic \"back\": the kernel holds {address} on back: it is {what}, and the kernel sees each frame too and would answer \
             in the director's place: run `ip addr del {address} dev back`"
        );
        assert!(log.contains(&want), "wanted {want}\nsaid {log}");
    }
}

#[test]
fn unknown_device_is_refused() {
    let lab = Lab::new();
    let log = Director::refused(&lab, &one_nic(&lab, 1, "af_paket:back"));
    assert!(log.contains("nic \"back\": unknown kind of device"), "{log}");
    assert!(log.contains("did you mean \"af_packet:back\"?"), "{log}");
}

#[test]
fn queues_that_are_not_on_offer_are_refused() {
    let lab = Lab::new();
    lab.cable(["back", "b0"], 1);
    let capture = lab.path("in.pcap");
    std::fs::write(&capture, "").unwrap();
    let log = Director::refused(&lab, &one_nic(&lab, 2, &format!("pcap:{}", capture.display())));
    let want = "this kind of device has 1: name fewer workers, or another device";
    assert!(log.contains(": nic \"back\": 2 queues wanted, one for each worker (\"pcap:"), "{log}");
    assert!(log.contains(want), "{log}");
    let log = Director::refused(&lab, &one_nic(&lab, 2, "af_xdp:back"));
    let want = "2 workers need as many combined queues, and `ethtool -l back` tells how many there are: run `ethtool -L back \
                combined 2`, or name fewer workers";
    assert!(log.contains("nic \"back\": ") && log.contains(want), "{log}");
}

/// A director that was killed and starts again: with a scheduler that chooses as before open connections go on at the real server
/// that they had, with others nobody is reset at first.
#[test]
fn open_connections_outlive_a_restart() {
    const SERVICES: &str = r#"
[[service]]
name = "hashed"
listen = "192.0.2.10:80"
protocol = "tcp"
scheduler = "mh"
real = [{ address = "10.1.0.11" }, { address = "10.1.0.12" }, { address = "10.1.0.13" }]
[[service]]
name = "in-turn"
listen = "192.0.2.10:81"
protocol = "tcp"
scheduler = "rr"
real = [{ address = "10.1.0.11" }, { address = "10.1.0.12" }, { address = "10.1.0.13" }]
"#;
    let mut arms = Arms::new();
    arms.runtime = "connections = 4096\nreset_after = \"5s\"".to_owned();
    let running = arms.start(SERVICES);
    let packet = |running: &Running, number: u8, l4_port: u16, flags: &'static str| {
        let (client, vip) = (at(&format!("198.51.100.{number}:40000")), at(&format!("192.0.2.10:{l4_port}")));
        Packet::new(Transport::Tcp(flags), [ROUTER, running.front], client, vip)
    };
    let meets = |running: &Running, number: u8, flags: &'static str| {
        let packet = packet(running, number, 80, flags);
        arms.front.send(&packet.bytes());
        arms.back
            .expect("the packet at a real server", |frame| {
                Packet::read(frame)
                    .filter(|it| it.source == packet.source && it.transport == packet.transport)
            })
            .to
    };
    let had: Vec<_> = (1..=20).map(|number| meets(&running, number, "S")).collect();
    running.director.signal(Signal::SIGKILL);
    assert!(!running.director.ended().success());

    let running = arms.start(SERVICES);
    let met: Vec<_> = (1..=20).map(|number| meets(&running, number, "A")).collect();
    assert_eq!(met, had);
    (1..=20).for_each(|number| arms.front.send(&packet(&running, number, 81, "A").bytes()));
    running.director.wait_for_drops("reset_delayed", 20);
    let replies = running.director.drops().replies;
    assert!(replies.iter().all(|count| count.reason != "reset" || count.count == 0), "{replies:?}");
    // Later, as the kernel does.
    wait_for("a reset", || {
        arms.front.send(&packet(&running, 7, 81, "A").bytes());
        let resets = running.director.drops().replies.into_iter().find(|count| count.reason == "reset");
        if resets.is_some_and(|count| count.count > 0) { Ok(()) } else { Err("none came") }
    });
}
