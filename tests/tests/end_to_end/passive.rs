//! Real servers without checks: what their clients' packets meet is seen, shown, and with `max_fails` acted on.

use shunt::api::Status;
use shunt::api::status::RealState;
use shunt_tests::topology::arms::configuration;
use shunt_tests::topology::director::{Director, real};
use shunt_tests::topology::wait_for;

use crate::health::{Server, World, wait_state};

const GOOD: &str = "10.1.0.11:8080";
/// Its port is closed.
const CLOSED: &str = "10.1.0.12:8080";
/// What it says goes nowhere.
const SILENT: &str = "10.1.0.13:8080";

fn text(world: &World, keys: &str) -> String {
    let service = format!(
        r#"
[[service]]
name = "web"
listen = "192.0.2.10:80"
protocol = "tcp"
scheduler = "rr"
forward = "nat"
{keys}
real = [{{ address = "{GOOD}" }}, {{ address = "{CLOSED}" }}, {{ address = "{SILENT}" }}]
"#
    );
    let devices = ["af_packet:front", "af_packet:back"];
    configuration(&world.lab, 1, "connections = 4096", &devices, &service)
}

/// Clients come until the status is as `wanted` has it; those that nobody answers give up after a while.
fn clients_until(world: &World, director: &Director, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    wait_for(what, || {
        let _ = world.speak("192.0.2.10:80");
        let status = director.status();
        if wanted(&status) { Ok(status) } else { Err(format!("{:#?}", status.services)) }
    })
}

fn totals(status: &Status) -> [u64; 3] {
    [GOOD, CLOSED, SILENT].map(|address| real(status, address).connections_total)
}

#[test]
fn failures_are_seen_and_with_max_fails_acted_on() {
    let world = World::new();
    world.reals.ip("address add 10.1.0.13/24 dev b0\nrule add from 10.1.0.13 blackhole");
    let good = Server::start(&world.reals, GOOD);
    let silent = Server::start(&world.reals, SILENT);
    let director = Director::start(&world.lab, &text(&world, ""));
    director.wait_resolved();

    // Without max_fails: seen and shown, and nobody leaves.
    let status = clients_until(&world, &director, "evidence of each kind", |status| {
        let [good, closed, silent] = [GOOD, CLOSED, SILENT].map(|address| &real(status, address).evidence);
        good.answered > 0 && closed.refused > 0 && silent.unanswered > 0
    });
    let shown = |address| {
        let shown = real(&status, address);
        (shown.state, shown.evidence.last.as_ref().map(|last| last.kind.clone()))
    };
    assert_eq!(shown(GOOD), (RealState::Unchecked, None));
    assert_eq!(shown(CLOSED), (RealState::Unchecked, Some("refused".to_owned())));
    assert_eq!(shown(SILENT), (RealState::Unchecked, Some("unanswered".to_owned())));
    let said = director.command(&world.lab, &["status"]).out;
    assert!(said.lines().any(|line| line.contains(CLOSED) && line.contains("  refused ")), "{said}");

    // With it both leave, each with its reason, and no client meets them any more.
    director.reload(&world.lab, &text(&world, "max_fails = 1\nfail_timeout = \"6s\""));
    let status = clients_until(&world, &director, "both are out", |status| {
        [CLOSED, SILENT].iter().all(|address| real(status, address).state == RealState::Down)
    });
    let reason = |address| real(&status, address).reason.clone().unwrap_or_default();
    assert!(reason(CLOSED).ends_with("refused in 6s: out for 6s"), "{}", reason(CLOSED));
    assert!(reason(SILENT).ends_with("without answer in 6s: out for 6s"), "{}", reason(SILENT));
    let before = totals(&status);
    for _ in 0..6 {
        world.speak("192.0.2.10:80").expect("the real server that is left");
    }
    assert_eq!(totals(&director.status()), [before[0] + 6, before[1], before[2]]);

    // They are tried again, and are well.
    let closed = Server::start(&world.reals, CLOSED);
    world.reals.ip("rule del from 10.1.0.13 blackhole");
    for address in [CLOSED, SILENT] {
        wait_state(&director, address, RealState::Unchecked);
    }
    let status = clients_until(&world, &director, "both answer", |status| {
        [CLOSED, SILENT].iter().all(|address| real(status, address).evidence.answered > 0)
    });
    for address in [CLOSED, SILENT] {
        assert_eq!(real(&status, address).state, RealState::Unchecked);
    }
    for server in [good, closed, silent] {
        server.stop(&world.reals);
    }
}
