//! A NIC whose link turns, or whose interface goes and comes back, and addresses that the kernel gets while the director runs.

use std::process::Command;
use std::time::{Duration, Instant};

use shunt::api::Status;
use shunt_tests::topology::Lab;
use shunt_tests::topology::arms::real_servers;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, mac, real_mac};
use shunt_tests::topology::binary;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::place::Place;
use shunt_tests::topology::threads::cpu;
use shunt_tests::topology::wait_for;
use shunt_tests::topology::wire::Wire;

use super::conflicts::{announces, listen};

const SERVICE: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "10.1.0.11:80" }]
"#;
const BACK: usize = 1;
/// From the interface's return until the link is up: two seconds, and what a busy machine takes.
const OPENED_AGAIN_MAX: Duration = Duration::from_secs(20);
/// How long the workers are looked at.
const WINDOW: Duration = Duration::from_secs(1);

/// Which part of a core the workers used in [`WINDOW`].
fn workers_use(pid: u32) -> f64 {
    let ran = || cpu(pid, "worker").0;
    let (begin, before) = (Instant::now(), ran());
    // A measurement: nothing to wait for but time.
    std::thread::sleep(WINDOW);
    (ran() - before).div_duration_f64(begin.elapsed())
}

fn wait_for_link(running: &Running, link: &str, reason: Option<&str>) -> Status {
    running.director.wait_until(&format!("link {link}: {reason:?}"), |status| {
        let back = &status.nics[BACK];
        let said = back.link_reason.as_deref();
        back.link == link
            && reason.map_or(said.is_none(), |reason| said.is_some_and(|said| said.contains(reason)))
    })
}

/// Waits until the kernel says that the interface has a carrier, which a busy machine does late.
fn wait_for_carrier(interface: &str) {
    wait_for("a carrier", || {
        let said = Command::new("ip").args(["-o", "link", "show", interface]).output().expect("ip");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        if said.contains("LOWER_UP") { Ok(()) } else { Err(said) }
    });
}

/// A client's SYN.
fn syn(running: &Running, client: &str) -> Packet {
    Packet::new(Transport::Tcp("S"), [ROUTER, running.front], at(client), at("192.0.2.10:80"))
}

/// A SYN of a new client reaches the real server.
fn reaches(arms: &Arms, running: &Running, client: &str) {
    let sent = syn(running, client);
    arms.front.send(&sent.bytes());
    let back = mac(&running.director.status(), BACK);
    arms.back.expect_frame(&Packet { from: back, to: real_mac(11), ttl: 63, ..sent }.bytes());
}

/// A SYN of a new client does not leave, and is not counted as sent.
fn is_dropped(arms: &Arms, running: &Running, client: &str) {
    let before = running.director.dropped("link_down");
    arms.front.send(&syn(running, client).bytes());
    running.director.wait_for_drops("link_down", before + 1);
}

#[test]
fn a_link_that_goes_down_is_told_and_nothing_counts_as_sent_by_it_and_the_worker_sleeps() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    reaches(&arms, &running, "198.51.100.7:40000");
    let mut events = listen(&arms);
    let turns = [
        ("link set back down", "link set back up", "interface back is set down"),
        ("link set b0 down", "link set b0 up", "interface back has no carrier"),
    ];
    for (number, (down, up, reason)) in turns.into_iter().enumerate() {
        arms.lab.ip(down);
        let status = wait_for_link(&running, "down", Some(reason));
        let advice = status.advice.iter().find(|line| line.contains(reason));
        assert!(
            advice.is_some_and(|line| line.starts_with("nic \"back\": the link is down")),
            "{:?}",
            status.advice
        );
        events("\"what\":\"link_down\",\"service\":\"back\"");
        running.director.wait_logged(&format!("nic \"back\": the link is down: {reason}"));
        is_dropped(&arms, &running, &format!("198.51.100.7:{}", 41000 + number));
        let used = workers_use(running.director.pid());
        assert!(used < 0.3, "{used:.2} of a core used while {reason}");
        arms.lab.ip(up);
        wait_for_link(&running, "up", None);
        events("\"what\":\"link_up\",\"service\":\"back\"");
        reaches(&arms, &running, &format!("198.51.100.7:{}", 42000 + number));
    }
    running.director.settled();
}

#[test]
fn an_interface_that_is_deleted_is_told_and_the_nic_is_opened_again_when_it_is_made_anew() {
    for (workers, kind) in
        [1, 2].into_iter().flat_map(|workers| [(workers, "af_packet"), (workers, "its driver")])
    {
        let own = kind == "af_packet";
        let mut arms = if own { Arms::with_workers(workers) } else { Arms::on_the_driver(workers) };
        let running = arms.start(SERVICE);
        reaches(&arms, &running, "198.51.100.7:40000");
        let mut events = listen(&arms);
        for round in 0..2 {
            arms.lab.ip("link del back");
            wait_for_link(&running, "down", Some("there is no interface back"));
            events("\"what\":\"link_down\",\"service\":\"back\"");
            is_dropped(&arms, &running, &format!("198.51.100.7:{}", 41000 + round));
            let used = workers_use(running.director.pid());
            assert!(used < 0.3 * workers as f64, "{used:.2} of a core used");

            arms.lab.cable(["back", "b0"], 1);
            arms.rewire_back();
            wait_for_carrier("back");
            let made = Instant::now();
            wait_for_link(&running, "up", None);
            eprintln!("{kind}, {workers} workers: up again after {:?}", made.elapsed());
            assert!(made.elapsed() < OPENED_AGAIN_MAX, "{:?}", made.elapsed());
            events("\"what\":\"link_up\",\"service\":\"back\"");
            let status = running.director.wait_resolved();
            assert_ne!(mac(&status, BACK), running.back, "another interface has another MAC");
            for client in 0..8 {
                reaches(&arms, &running, &format!("198.51.100.{}:{}", 10 + client, 42000 + round));
            }
        }
        running.director.settled();
    }
}

/// Nothing of the old sockets works any more, although index, name and MAC are as before.
#[test]
fn an_interface_that_is_moved_away_and_back_is_opened_again() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    let away = Place::new();
    arms.lab.ip(&format!("link set back netns {}", away.pid()));
    wait_for_link(&running, "down", Some("there is no interface back"));
    let home = nix::unistd::gettid();
    away.ip(&format!("link set back netns {home}"));
    wait_for_link(&running, "down", Some("interface back is set down"));
    arms.lab.ip("link set back up");
    wait_for_link(&running, "up", None);
    running.director.wait_resolved();
    reaches(&arms, &running, "198.51.100.7:41000");
    running.director.settled();
}

/// Neighbours hear of it, for VIPs and own addresses, and the director answers with it.
#[test]
fn a_mac_that_changes_is_taken_up_and_announced() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    let new = [2, 0, 0, 0, 0xaa, 1];
    arms.lab.ip("link set front address 02:00:00:00:aa:01");
    running.director.wait_until("the MAC of now", |status| mac(status, 0) == new);
    for address in ["192.0.2.10", "192.0.2.2"] {
        arms.front
            .expect(&format!("{address} announced"), |frame| announces(frame, new, address.parse().unwrap()));
    }
    let sent = Packet { to: new, ..syn(&running, "198.51.100.7:41000") };
    arms.front.send(&sent.bytes());
    let there = Packet { from: running.back, to: real_mac(11), ttl: 63, ..sent };
    arms.back.expect_frame(&there.bytes());
    running.director.settled();
}

#[test]
fn an_interface_that_is_renamed_stays_the_nics() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    arms.lab.ip("link set back down\nlink set back name rear\nlink set rear up");
    running.director.wait_logged("nic \"back\": interface back is called rear now");
    wait_for_link(&running, "up", None);
    reaches(&arms, &running, "198.51.100.7:41000");
}

#[test]
fn an_address_of_the_directors_that_the_kernel_gets_later_is_told_until_it_is_gone() {
    let arms = Arms::new();
    let running = arms.start(SERVICE);
    let mut events = listen(&arms);
    for (address, interface, what) in [
        ("192.0.2.10", "front", "a VIP"),
        ("10.1.0.1", "back", "the director's own address"),
        // Whichever interface it is on, the kernel answers at all of them.
        ("192.0.2.10", "lo", "a VIP"),
    ] {
        arms.lab.ip(&format!("addr add {address}/32 dev {interface}"));
        let told = format!("the kernel holds {address} on {interface}: it is {what}");
        running.director.wait_until(&told, |status| {
            status.advice.iter().any(|line| {
                line.contains(&told)
                    && line.ends_with(&format!("run `ip addr del {address} dev {interface}`"))
            })
        });
        events(&format!("\"what\":\"kernel_address\",\"service\":\"{address}\",\"text\":\"{told}"));
        running.director.wait_logged(&told);
        arms.lab.ip(&format!("addr del {address}/32 dev {interface}"));
        running
            .director
            .wait_until("its end", |status| !status.advice.iter().any(|line| line.contains(&told)));
        events(&format!("the kernel no longer holds {address} on {interface}"));
    }
}

/// The kernel's sockets learn it: what the client sends is told to be too big, and what fits passes.
#[test]
fn an_interface_that_takes_less_than_usual_is_followed_from_the_start_and_while_the_director_runs() {
    let arms = Arms::new();
    arms.lab.ip("link set back mtu 1400");
    let running = arms.start(SERVICE);
    let mut events = listen(&arms);
    assert_eq!(running.director.status().nics[BACK].mtu, 1400, "the interface's own");
    too_big_above(&arms, &running, 1400, 41000);

    arms.lab.ip("link set back mtu 1300");
    running.director.wait_until("the MTU of now", |status| status.nics[BACK].mtu == 1300);
    events("\"what\":\"link_mtu\",\"service\":\"back\"");
    running.director.wait_logged(
        "nic \"back\": its interface takes packets of 1300 bytes now: the director sends up to 1300",
    );
    too_big_above(&arms, &running, 1300, 42000);

    // It was opened for 1400: what is larger does not fit into its buffers for sure.
    arms.lab.ip("link set back mtu 1500");
    let status = running.director.wait_until("the MTU of the start", |status| status.nics[BACK].mtu == 1400);
    let told = "nic \"back\": interface back takes packets of 1500 bytes, and the NIC was opened for 1400";
    assert!(status.advice.iter().any(|line| line.starts_with(told)), "{:?}", status.advice);
    running.director.settled();
}

/// A packet of so many bytes with DF goes on; of one of a byte more the sender is told.
fn too_big_above(arms: &Arms, running: &Running, mtu: usize, client: u16) {
    let told = || {
        let replies = running.director.drops().replies;
        replies.iter().find(|count| count.reason == "too_big").map_or(0, |count| count.count)
    };
    let before = told();
    let sized = |length: usize, client: u16| {
        let syn = syn(running, &format!("198.51.100.7:{client}"));
        Packet { payload: vec![b'x'; length - 40], ..syn }
    };
    let fits = sized(mtu, client);
    arms.front.send(&fits.bytes());
    let back = mac(&running.director.status(), BACK);
    arms.back.expect_frame(&Packet { from: back, to: real_mac(11), ttl: 63, ..fits }.bytes());
    arms.front.send(&sized(mtu + 1, client + 1).bytes());
    running.director.wait_until("the sender is told", |_| told() > before);
}

/// The file says more than the interface takes: it is told, and what the interface takes holds.
#[test]
fn a_configured_mtu_that_the_interface_does_not_take_is_told_by_check_and_run_alike() {
    let arms = Arms::new();
    arms.lab.ip("link set back mtu 1400");
    let text = arms.configuration(SERVICE).replace("name = \"back\"", "name = \"back\"\nmtu = 1500");
    let file = arms.lab.write("more.toml", &text);
    let told = "mtu is 1500, and interface back takes packets of 1400 bytes";
    let said = arms.lab.run(binary::shunt(), &["check", file.to_str().expect("a path")]);
    assert!(said.code == Some(0) && said.out.contains(told), "{said:?}");
    let running = Running::of_director(&arms, &text);
    running.director.wait_logged(told);
    let status = running.director.status();
    assert!(status.advice.iter().any(|line| line.contains(told)), "{:?}", status.advice);
    assert_eq!(status.nics[BACK].mtu, 1400);
    too_big_above(&arms, &running, 1400, 41000);
}

#[test]
fn jumbo_frames_pass() {
    let arms = Arms::new();
    let all = ["front", "f0", "back", "b0"].map(|of| format!("link set {of} mtu 9000"));
    arms.lab.ip(&all.join("\n"));
    let running = arms.start(SERVICE);
    assert_eq!(running.director.status().nics[BACK].mtu, 9000);
    arms.lab.ip("link set back mtu 8999");
    running.director.wait_until("the MTU of now", |status| status.nics[BACK].mtu == 8999);
    too_big_above(&arms, &running, 8999, 41000);
    running.director.settled();
}

/// The driver makes its interface again at once.
#[test]
#[ignore = "with scripts/test.sh --all: a further kind of device"]
fn a_tap_that_is_deleted_is_made_again() {
    let (arms, running) = Arms::on_taps(SERVICE);
    drop(arms.reals);
    let made = Instant::now();
    arms.lab.ip("link del b0");
    running.director.wait_logged("nic \"back\": the link is down");
    running.director.wait_logged("nic \"back\": opened again on interface b0");
    assert!(made.elapsed() < OPENED_AGAIN_MAX, "{:?}", made.elapsed());
    wait_for_link(&running, "up", None);
    let (back, _reals) = (Wire::open("b0"), real_servers());
    running.director.wait_resolved();
    let sent = syn(&running, "198.51.100.7:41000");
    arms.front.send(&sent.bytes());
    let from = mac(&running.director.status(), BACK);
    back.expect_frame(&Packet { from, to: real_mac(11), ttl: 63, ..sent }.bytes());
    running.director.settled();
}

#[test]
#[ignore = "with scripts/test.sh --all: a further kind of device"]
fn an_af_xdp_interface_that_is_deleted_or_set_down_is_followed_and_opened_again() {
    let mut arms = Arms::on("af_xdp");
    let running = arms.start(SERVICE);
    reaches(&arms, &running, "198.51.100.7:40000");
    arms.lab.ip("link set back down");
    wait_for_link(&running, "down", Some("interface back is set down"));
    is_dropped(&arms, &running, "198.51.100.7:40500");
    arms.lab.ip("link set back up");
    wait_for_link(&running, "up", None);
    reaches(&arms, &running, "198.51.100.7:41000");
    arms.lab.ip("link del back");
    wait_for_link(&running, "down", Some("there is no interface back"));
    is_dropped(&arms, &running, "198.51.100.7:41500");
    arms.lab.cable(["back", "b0"], 1);
    arms.rewire_back();
    wait_for_link(&running, "up", None);
    running.director.wait_resolved();
    reaches(&arms, &running, "198.51.100.7:42000");
    running.director.settled();
}

/// The driver tells, and connects again by itself.
#[test]
#[ignore = "with scripts/test.sh --all: a further kind of device"]
fn a_memif_whose_other_end_goes_and_comes_back_is_followed() {
    let arms = Arms::new();
    let beside = arms.lab.beside();
    let socket = arms.lab.path("memif.sock").display().to_string();
    let nic = |lab: &Lab, role: &str, own: u8| {
        lab.runtime(1, "connections = 1024")
            + &format!(
                "[[nic]]\nname = \"back\"\ndevice = \"memif:{socket},role={role}\"\naddresses = [\"10.1.0.{own}/24\"]\n\
                 [[service]]\nname = \"web\"\nlisten = \"10.1.0.10:80\"\nprotocol = \"tcp\"\nreal = [{{ address = \"10.1.0.11:80\" }}]\n"
            )
    };
    let server = Director::start(&arms.lab, &nic(&arms.lab, "server", 1));
    let link = |link: &str| {
        server.wait_until(link, |status| status.nics[0].link == link);
    };
    link("down");
    for _ in 0..2 {
        let client = Director::start(&beside, &nic(&beside, "client", 2));
        link("up");
        client.signal(nix::sys::signal::Signal::SIGKILL);
        assert!(!client.ended().success());
        link("down");
        server.wait_logged("nic \"back\": the link is down: its driver says so");
    }
}
