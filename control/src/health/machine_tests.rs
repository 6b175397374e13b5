//! Timelines of the health machine.

use std::net::SocketAddr;

use shunt_dataplane::id::Protocol;

use super::*;

fn target(n: u32, seconds: u64) -> Target {
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    let address = SocketAddr::from((0x0a00_0000_u32.wrapping_add(n).to_be_bytes(), 80));
    Target {
        key: RealKey { listen, protocol: Protocol::Tcp, address },
        check: Check {
            kind: CheckKind::Tcp,
            to: address,
            interval: Duration::from_secs(seconds),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        },
    }
}

/// Starts what is due; panics when it is not exactly one.
fn one(machine: &mut Machine, now: Instant) -> Start {
    let mut out = Vec::new();
    machine.tick(now, &mut out);
    assert_eq!(out.len(), 1);
    out.remove(0)
}

#[test]
fn a_real_server_dies_and_returns() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, vec![target(1, 6)]);
    let refused = || Err(Failure::Refused);
    for (seconds, result, change) in [
        (0, Ok(()), None),
        (6, refused(), None),
        (12, Err(Failure::NoConnection(Duration::from_secs(1))), None),
        (18, refused(), Some((false, "connection refused (3 times in a row)"))),
        (24, Ok(()), None),
        (30, Ok(()), Some((true, "connection opens (2 times in a row)"))),
    ] {
        let now = start + Duration::from_secs(seconds);
        assert_eq!(machine.deadline(), Some(now), "at {seconds} s");
        let started = one(&mut machine, now);
        assert_eq!(machine.deadline(), None, "not again while it runs");
        let later = now + Duration::from_millis(500);
        let got = machine.result(later, started.key, started.serial, result);
        assert_eq!(got.as_ref().map(|change| (change.up, change.reason.as_str())), change, "at {seconds} s");
    }
    let listed = machine.list();
    assert_eq!(listed[0].since, start + Duration::from_millis(30_500));
    assert_eq!((listed[0].up, listed[0].last.as_deref()), (true, Some("connection opens")));
}

#[test]
fn a_thousand_checks_begin_spread_and_stay_so() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, (0..1_000).map(|n| target(n, 2)).collect());
    let mut out = Vec::new();
    for round in 0..3 {
        let mut total = 0;
        for millisecond in 0..2_000 {
            let now = start + Duration::from_millis(round * 2_000 + millisecond);
            machine.tick(now, &mut out);
            assert!(out.len() <= 1, "{} at {millisecond} ms", out.len());
            total += out.len();
            for started in out.drain(..) {
                assert_eq!(machine.result(now, started.key, started.serial, Ok(())), None);
            }
        }
        assert_eq!(total, 1_000);
    }
}

#[test]
fn a_few_begin_soon() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, (0..3).map(|n| target(n, 3_600)).collect());
    let mut out = Vec::new();
    machine.tick(start + CHECKS_SPACING * 2, &mut out);
    assert_eq!(out.len(), 3);
}

#[test]
fn no_more_run_than_may() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, (0..1_000).map(|n| target(n, 2)).collect());
    let mut out = Vec::new();
    let now = start + Duration::from_secs(2);
    machine.tick(now, &mut out);
    assert_eq!((out.len(), machine.deadline()), (CHECKS_RUNNING_MAX, None));
    for started in out.drain(..).take(10).collect::<Vec<_>>() {
        machine.result(now, started.key, started.serial, Ok(()));
    }
    assert!(machine.deadline().is_some_and(|deadline| deadline <= now));
    machine.tick(now, &mut out);
    assert_eq!(out.len(), 10);
}

#[test]
fn new_targets_leave_the_unchanged_alone() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, vec![target(1, 6), target(2, 6), target(3, 6)]);
    let mut now = start + Duration::from_secs(1);
    let fail = |machine: &mut Machine, now| {
        let mut out = Vec::new();
        machine.tick(now, &mut out);
        out.into_iter()
            .filter_map(|started| machine.result(now, started.key, started.serial, Err(Failure::Refused)))
            .count()
    };
    assert_eq!(fail(&mut machine, now), 0);
    now += Duration::from_secs(6);
    assert_eq!(fail(&mut machine, now), 0);
    let before = machine.deadline();

    // 1 stays, 2 goes, 3 is checked in another rhythm, 4 is new.
    machine.set_targets(now, vec![target(4, 6), target(3, 5), target(1, 6)]);
    let against: Vec<u8> = machine.list().iter().map(|listed| listed.against).collect();
    assert_eq!(against, [2, 0, 0]);
    let mut out = Vec::new();
    machine.tick(now + CHECKS_SPACING, &mut out);
    assert_eq!(out.len(), 2, "the new and the changed one begin");
    assert_eq!(machine.deadline(), before, "1 keeps its beat");
    now += Duration::from_secs(6);
    assert_eq!(fail(&mut machine, now), 1, "the third failure of 1 in a row");
}

#[test]
fn results_that_come_too_late_are_ignored() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let key = target(1, 6).key;
    machine.set_targets(start, vec![target(1, 6)]);
    let first = one(&mut machine, start);
    machine.set_targets(start, vec![target(1, 5)]);
    let second = one(&mut machine, start);
    assert_eq!(machine.result(start, key, first.serial, Err(Failure::Refused)), None);
    assert_eq!(machine.list()[0].last, None);
    machine.result(start, key, second.serial, Ok(()));
    assert_eq!(machine.result(start, key, second.serial, Ok(())), None);
    assert_eq!(machine.running, 0);
    machine.set_targets(start, Vec::new());
    assert_eq!((machine.deadline(), machine.list().len()), (None, 0));
}

#[test]
fn a_change_reads_well() {
    let change =
        Change { key: target(1, 6).key, up: false, reason: "connection refused".into(), at: Instant::now() };
    assert_eq!(change.to_string(), "real 10.0.0.1:80 of tcp 192.0.2.10:80 is down: connection refused");
}
