//! Reload: validated, published as one generation, acknowledged by every worker; or refused, and nothing changes.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::frames::{BROADCAST, Packet, Transport, arp, at, ip};
use shunt_tests::topology::wait_for;

const VIP: &str = "192.0.2.10:80";

fn service(reals: &[u8]) -> String {
    let reals: Vec<String> =
        reals.iter().map(|number| format!("{{ address = \"10.1.0.{number}:8080\" }}")).collect();
    format!(
        "[[service]]\nname = \"web\"\nlisten = \"{VIP}\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\nforward = \"nat\"\nreal = [{}]\n",
        reals.join(", ")
    )
}

fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 40_000))
}

fn packet(running: &Running, number: u8, flags: &'static str) -> Vec<u8> {
    Packet::new(Transport::Tcp(flags), [ROUTER, running.front], client(number), at(VIP)).bytes()
}

/// Sends a packet of a client and tells the number of the real server that got it.
fn reaches(arms: &Arms, running: &Running, number: u8, flags: &'static str) -> u8 {
    arms.front.send(&packet(running, number, flags));
    arms.back.expect("a client's packet at a real server", |frame| {
        let packet = Packet::read(frame)?;
        (packet.source == client(number)).then_some(packet.to[5])
    })
}

fn workers_run(running: &Running, generation: u64) {
    let status = running.director.status();
    assert!(status.workers.iter().all(|worker| worker.generation >= generation), "{status:#?}");
}

#[test]
fn real_server_goes_and_returns() {
    let arms = Arms::with_workers(2);
    let running = arms.start(&service(&[11, 12]));
    let before = running.director.status().generation;
    let met: Vec<(u8, u8)> = (1..=8).map(|number| (number, reaches(&arms, &running, number, "S"))).collect();
    assert!([11, 12].iter().all(|real| met.iter().any(|(_, met)| met == real)), "{met:?}");

    let told = running.director.reload(&arms.lab, &arms.configuration(&service(&[12, 13])));
    for line in ["+ service \"web\", real 10.1.0.13:8080", "- service \"web\", real 10.1.0.11:8080"] {
        assert!(told.contains(line), "wanted {line}\nsaid {told}");
    }
    let generation = told.split("generation ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
    let generation: u64 = generation.unwrap_or_else(|| panic!("{told}"));
    assert!(generation > before && told.ends_with("runs on every worker\n"), "{told}");
    workers_run(&running, generation);
    running.director.wait_resolved();

    let mut lost = 0;
    for (number, real) in &met {
        if *real == 11 {
            lost += 1;
            arms.front.send(&packet(&running, *number, "A"));
            running.director.wait_for_drops("real_removed", lost);
        } else {
            assert_eq!(reaches(&arms, &running, *number, "A"), 12, "stays where it is");
        }
    }
    let new: Vec<u8> = (21..=28).map(|number| reaches(&arms, &running, number, "S")).collect();
    assert!(new.contains(&13) && !new.contains(&11), "{new:?}");

    running.director.reload(&arms.lab, &arms.configuration(&service(&[11, 12, 13])));
    running.director.wait_resolved();
    for (number, real) in &met {
        assert_eq!(reaches(&arms, &running, *number, "A"), *real, "revived");
    }
    assert_eq!(running.director.dropped("real_removed"), lost);
    running.director.settled();
}

#[test]
fn hangup_reloads() {
    let arms = Arms::new();
    let running = arms.start(&service(&[11]));
    assert_eq!(reaches(&arms, &running, 1, "S"), 11);
    let before = running.director.status().generation;
    running.director.rewrite(&arms.configuration(&service(&[12])));
    running.director.signal(Signal::SIGHUP);
    let status = running.director.wait_until("a later generation", |status| status.generation > before);
    assert_eq!(status.services[0].reals[0].address, "10.1.0.12:8080");
    running.director.wait_resolved();
    assert_eq!(reaches(&arms, &running, 2, "S"), 12);
    running.director.wait_logged("by=SIGHUP");
}

#[test]
fn bad_file_changes_nothing() {
    let arms = Arms::new();
    let running = arms.start(&service(&[11]));
    let before = running.director.status();
    let bad = arms.configuration(&service(&[11]))
        + "[[service]]\nname = \"web\"\nlisten = \"192.0.2.11:0\"\nprotocol = \"tpc\"\nreal = []\n";
    running.director.rewrite(&bad);
    let said = running.director.command(&arms.lab, &["reload"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    for problem in [
        "a service of all ports without persistence",
        "(\"tpc\")",
        "not usable: the director goes on as before: correct the file",
    ] {
        assert!(said.err.contains(problem), "wanted {problem}\nsaid {}", said.err);
    }
    running.director.signal(Signal::SIGHUP);
    wait_for("the refusal in the log", || {
        let log = running.director.log();
        if log.contains("the director goes on as before") { Ok(()) } else { Err(log) }
    });
    assert_eq!(reaches(&arms, &running, 1, "S"), 11);
    let after = running.director.status();
    assert_eq!((after.generation, after.services.len()), (before.generation, before.services.len()));
    // The running text is still the good one.
    let running_text: serde_json::Value = running.director.ask("configuration").unwrap();
    assert_eq!(running_text["text"], arms.configuration(&service(&[11])));
}

#[test]
fn what_needs_a_restart_is_refused() {
    let mut arms = Arms::new();
    let running = arms.start(&service(&[11]));
    let generation = running.director.status().generation;
    arms.runtime = "connections = 8192".to_owned();
    running.director.rewrite(&arms.configuration(&service(&[11, 12])));
    let said = running.director.command(&arms.lab, &["reload"]);
    assert_eq!(said.code, Some(1));
    let file = running.director.file.display();
    let want = format!(
        "{file}: changes what only a restart can change: the director goes on as before: restart it, or undo these"
    );
    assert!(said.err.contains(&want) && said.err.contains("connections"), "{}", said.err);
    let status = running.director.status();
    assert_eq!((status.generation, status.services[0].reals.len()), (generation, 1));
}

/// A VIP that comes is announced and served, one that goes is nobody's any more.
#[test]
fn vip_comes_and_goes() {
    let arms = Arms::new();
    let running = arms.start(&service(&[11]));
    let other = service(&[12]).replace("192.0.2.10", "192.0.2.20").replace("\"web\"", "\"other\"");
    running.director.reload(&arms.lab, &arms.configuration(&(service(&[11]) + &other)));
    arms.front.expect("an announcement of the new VIP", |frame| {
        let vip = [192, 0, 2, 20];
        (frame[..6] == BROADCAST && frame.get(28..32)? == vip && frame.get(38..42)? == vip).then_some(())
    });
    running.director.wait_resolved();
    let to_other = |number: u8, flags| Packet {
        destination: at("192.0.2.20:80"),
        ..Packet::new(Transport::Tcp(flags), [ROUTER, running.front], client(number), at(VIP))
    };
    arms.front.send(&to_other(1, "S").bytes());
    arms.back.expect("its SYN", |frame| Packet::read(frame).filter(|it| it.to[5] == 12));
    let vips = |status: &shunt::api::Status| {
        status.vips.iter().map(|vip| vip.address.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(vips(&running.director.status()), "192.0.2.10 192.0.2.20");

    running.director.reload(&arms.lab, &arms.configuration(&service(&[11])));
    assert_eq!(vips(&running.director.status()), "192.0.2.10");
    // Questions are answered in order: the first one is not.
    let asker = [2, 0, 0, 0, 0, 0x77];
    for target in ["192.0.2.20", "192.0.2.10"] {
        arms.front.send(&arp(1, [asker, BROADCAST], (asker, ip("192.0.2.77")), ([0; 6], ip(target))));
    }
    let answered = arms.front.expect("an answer", |frame| {
        (frame[..6] == asker && frame.get(20..22)? == [0, 2]).then(|| frame[31])
    });
    assert_eq!(answered, 10);
    // What is left of its connection is of no service any more.
    arms.front.send(&to_other(1, "A").bytes());
    running.director.wait_for_drops("real_removed", 1);
    running.director.settled();
}

/// Many generations while packets come: none is lost, none meets another real server.
#[test]
fn reloads_lose_no_packet() {
    let arms = Arms::with_workers(2);
    let running = arms.start(&service(&[11, 12]));
    let met: Vec<u8> = (1..=32).map(|number| reaches(&arms, &running, number, "S")).collect();
    for round in 0..4 {
        let others = if round % 2 == 0 { service(&[13, 12, 11]) } else { service(&[11, 12]) };
        running.director.rewrite(&arms.configuration(&others));
        running.director.signal(Signal::SIGHUP);
        for _ in 0..8 {
            for number in 1..=32 {
                arms.front.send(&packet(&running, number, "A"));
            }
            for _ in 0..32 {
                let (number, real) = arms.back.expect("each client's packet", |frame| {
                    let packet = Packet::read(frame)?;
                    (1..=32)
                        .find(|number| client(*number) == packet.source)
                        .map(|number| (number, packet.to[5]))
                });
                assert_eq!(real, met[usize::from(number) - 1], "client {number}");
            }
        }
        let reals = if round % 2 == 0 { 3 } else { 2 };
        running.director.wait_until("the reload", |status| status.services[0].reals.len() == reals);
    }
    let status = running.director.settled();
    assert_eq!(running.director.reasons(), [""; 0]);
    assert!(status.generation > 4);
}
