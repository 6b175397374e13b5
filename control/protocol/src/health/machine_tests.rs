//! Timelines of the health machine.

use std::net::SocketAddr;

use shunt_dataplane::id::Protocol;
use shunt_model::health::CheckKind;

use super::super::passive::Fails;
use super::*;

/// A real server that is checked so often.
pub fn target(n: u32, seconds: u64) -> Target {
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    let address = SocketAddr::from((0x0a00_0000_u32.wrapping_add(n).to_be_bytes(), 80));
    Target {
        key: RealKey { listen, protocol: Protocol::Tcp, address },
        checks: vec![Arc::new(check(address, seconds))],
        passive: None,
        slow_start: Duration::ZERO,
        group: None,
    }
}

pub fn check(to: SocketAddr, seconds: u64) -> Check {
    Check {
        kind: CheckKind::Tcp,
        to,
        way: None,
        from: None,
        interval: Duration::from_secs(seconds),
        timeout: Duration::from_secs(1),
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 3,
        rise: 2,
        reentry: Duration::ZERO,
        alpha: false,
    }
}

/// A change of some real server.
pub fn change(n: u32) -> Change {
    let verdict = Verdict { up: false, ..Verdict::default() };
    let reason = "connection refused".to_owned();
    Change { key: target(n, 6).key, verdict, turned: true, reason, at: Instant::now() }
}

/// A check that succeeded.
pub const GOOD: Result<Success, Failure> = Ok(Success::Up);

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
        (0, GOOD, None),
        (6, refused(), None),
        (12, Err(Failure::NoConnection(Duration::from_secs(1))), None),
        (18, refused(), Some((false, "connection refused (3 times in a row)"))),
        (24, GOOD, None),
        (30, GOOD, Some((true, "connection opens (2 times in a row)"))),
    ] {
        let now = start + Duration::from_secs(seconds);
        assert_eq!(machine.deadline(), Some(now), "at {seconds} s");
        let started = one(&mut machine, now);
        assert_eq!(machine.deadline(), None, "not again while it runs");
        let later = now + Duration::from_millis(500);
        let got = machine.result(later, started.key, started.serial, result).pop();
        assert_eq!(
            got.as_ref().map(|change| (change.verdict.up, change.reason.as_str())),
            change,
            "at {seconds} s"
        );
    }
    let listed = machine.list();
    assert_eq!(listed[0].since, start + Duration::from_millis(30_500));
    assert_eq!((listed[0].verdict.up, listed[0].last.as_deref()), (true, Some("connection opens")));
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
                assert_eq!(machine.result(now, started.key, started.serial, GOOD).pop(), None);
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
    machine.set_targets(start, (0..CHECKS_RUNNING_MAX as u32 + 100).map(|n| target(n, 2)).collect());
    let mut out = Vec::new();
    let now = start + Duration::from_secs(2);
    machine.tick(now, &mut out);
    assert_eq!((out.len(), machine.deadline()), (CHECKS_RUNNING_MAX, None));
    for started in out.drain(..).take(10).collect::<Vec<_>>() {
        machine.result(now, started.key, started.serial, GOOD).pop();
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
            .filter_map(|started| {
                machine.result(now, started.key, started.serial, Err(Failure::Refused)).pop()
            })
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
    assert_eq!(machine.result(start, key, first.serial, Err(Failure::Refused)).pop(), None);
    assert_eq!(machine.list()[0].last, None);
    machine.result(start, key, second.serial, GOOD).pop();
    assert_eq!(machine.result(start, key, second.serial, GOOD).pop(), None);
    assert_eq!(machine.running, 0);
    machine.set_targets(start, Vec::new());
    assert_eq!((machine.deadline(), machine.list().len()), (None, 0));
}

#[test]
fn a_change_reads_well() {
    let mut change = change(1);
    assert_eq!(change.to_string(), "real 10.0.0.1:80 of tcp 192.0.2.10:80 is down: connection refused");
    change.turned = false;
    change.verdict = Verdict { share: 20, ..Verdict::default() };
    let want = "real 10.0.0.1:80 of tcp 192.0.2.10:80 has its weight, 20 % of it: connection refused";
    assert_eq!(change.to_string(), want);
    change.verdict = Verdict { weight: Some(7), shift: -2, ..Verdict::default() };
    assert!(change.to_string().contains(" has the weight 7 -2, 100 % of it: "), "{change}");
}

/// Plays the results of a real server's checks, each at its second, and returns what changed.
fn play(
    machine: &mut Machine,
    start: Instant,
    results: &[(u64, u16, Result<Success, Failure>)],
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut waiting: Vec<Start> = Vec::new();
    for (seconds, place, result) in results {
        let now = start + Duration::from_secs(*seconds);
        changes.extend(machine.tick(now, &mut waiting));
        let position = waiting.iter().position(|started| started.serial.place == *place);
        let started =
            waiting.swap_remove(position.unwrap_or_else(|| panic!("{place} not due at {seconds} s")));
        changes.extend(machine.result(now, started.key, started.serial, result.clone()).pop());
    }
    changes
}

#[test]
fn all_checks_have_to_say_so() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let mut both = target(1, 6);
    let mut other = check(SocketAddr::from(([10, 0, 0, 1], 81)), 6);
    other.fall = 1;
    both.checks.push(Arc::new(other));
    machine.set_targets(start, vec![both.clone()]);
    let refused = || Err(Failure::Refused);
    let changes = play(
        &mut machine,
        start,
        &[(1, 0, GOOD), (1, 1, refused()), (7, 1, GOOD), (7, 0, refused()), (13, 1, GOOD), (13, 0, GOOD)],
    );
    let told: Vec<_> = changes.iter().map(|change| (change.verdict.up, change.at)).collect();
    assert_eq!(told, [(false, start + Duration::from_secs(1)), (true, start + Duration::from_secs(13))]);
    // Without the check that fails it is up again with the next result.
    play(&mut machine, start, &[(20, 1, refused()), (20, 0, GOOD)]);
    assert_eq!(machine.list()[0].last.as_deref(), Some("connection refused"));
    both.checks.pop();
    machine.set_targets(start + Duration::from_secs(21), vec![both]);
    let changes = play(&mut machine, start, &[(27, 0, GOOD)]);
    assert!(changes[0].verdict.up && changes[0].turned);
}

#[test]
fn failures_are_tried_again_soon_while_it_is_up() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let mut impatient = target(1, 60);
    Arc::make_mut(&mut impatient.checks[0]).retry_interval = Some(Duration::from_secs(2));
    machine.set_targets(start, vec![impatient]);
    let refused = || Err(Failure::Refused);
    let results = [(0, 0, refused()), (2, 0, refused()), (4, 0, refused())];
    assert_eq!(play(&mut machine, start, &results).len(), 1);
    // Down: its beat again.
    assert_eq!(machine.deadline(), Some(start + Duration::from_secs(64)));
}

#[test]
fn with_alpha_it_begins_down() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let mut begins_down = target(1, 6);
    Arc::make_mut(&mut begins_down.checks[0]).alpha = true;
    machine.set_targets(start, vec![begins_down.clone()]);
    assert!(!machine.list()[0].verdict.up);
    let changes = play(&mut machine, start, &[(0, 0, GOOD)]);
    assert!(changes[0].verdict.up && changes[0].turned);
    machine.set_targets(start, vec![begins_down.clone()]);
    assert!(machine.list()[0].verdict.up, "only the first time");
    // A further check of one that is up does not take it out.
    let mut other = check(SocketAddr::from(([10, 0, 0, 1], 81)), 6);
    other.alpha = true;
    begins_down.checks.push(Arc::new(other));
    machine.set_targets(start + Duration::from_secs(1), vec![begins_down]);
    assert_eq!(play(&mut machine, start, &[(6, 0, GOOD)]), []);
    assert!(machine.list()[0].verdict.up);
}

#[test]
fn with_alpha_a_failure_leaves_it_down() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let mut begins_down = target(1, 6);
    Arc::make_mut(&mut begins_down.checks[0]).alpha = true;
    machine.set_targets(start, vec![begins_down]);
    let changes = play(&mut machine, start, &[(0, 0, Err(Failure::Refused)), (6, 0, GOOD), (12, 0, GOOD)]);
    let told: Vec<_> = changes.iter().map(|change| (change.verdict.up, change.at)).collect();
    assert_eq!(told, [(true, start + Duration::from_secs(12))], "two successes, as after any failure");
}

#[test]
fn weights_that_checks_say_hold() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, vec![target(1, 6)]);
    let heavy = Ok(Success::Weight(40));
    let changes =
        play(&mut machine, start, &[(0, 0, GOOD), (6, 0, heavy.clone()), (12, 0, heavy), (18, 0, GOOD)]);
    let weights: Vec<_> = changes.iter().map(|change| change.verdict.weigh(1)).collect();
    assert_eq!(weights, [40, 1]);
    assert!(changes.iter().all(|change| !change.turned));
}

#[test]
fn the_weight_grows_after_a_return() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let mut slow = target(1, 1_000);
    slow.slow_start = Duration::from_secs(100);
    (Arc::make_mut(&mut slow.checks[0]).fall, Arc::make_mut(&mut slow.checks[0]).rise) = (1, 1);
    machine.set_targets(start, vec![slow]);
    let mut changes = play(&mut machine, start, &[(0, 0, Err(Failure::Refused)), (1_000, 0, GOOD)]);
    let mut out = Vec::new();
    while machine.deadline().unwrap() < start + Duration::from_secs(2_000) {
        let now = machine.deadline().unwrap();
        changes.extend(machine.tick(now, &mut out));
    }
    let shares: Vec<_> = changes[1..]
        .iter()
        .map(|change| (change.at.duration_since(start).as_secs(), change.verdict.share))
        .collect();
    let want: Vec<(u64, u8)> = (0..10).map(|n| (1_000 + 10 * n, 10 * (n as u8 + 1))).collect();
    assert_eq!(shares, want);
    assert!(machine.ramps.is_empty());
}

#[test]
fn a_warmup_spreads_the_first_checks() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let mut targets: Vec<Target> = (0..4).map(|n| target(n, 60)).collect();
    for target in &mut targets {
        Arc::make_mut(&mut target.checks[0]).warmup = Duration::from_secs(20);
    }
    machine.set_targets(start, targets);
    for n in 0..4 {
        let now = start + Duration::from_secs(5 * n);
        assert_eq!(machine.deadline(), Some(now));
        one(&mut machine, now);
    }
}

/// A real server of which so many connections were answered and refused.
fn seen(answered: u64, refused: u64) -> Seen {
    Seen { answered, fails: Fails([refused, 0, 0]) }
}

#[test]
fn failures_that_workers_see_take_a_real_server_out() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut machine = Machine::default();
    let mut watched = target(1, 1_000);
    watched.checks.clear();
    watched.passive =
        Some(shunt_model::health::passive::Rules { max_fails: 2, fail_timeout: Duration::from_secs(10) });
    watched.slow_start = Duration::from_secs(100);
    let key = watched.key;
    machine.set_targets(start, vec![watched.clone()]);
    assert_eq!(machine.deadline(), None);
    let listed = machine.list().remove(0);
    assert_eq!((listed.checked, listed.last.as_deref()), (false, Some("no failures")));
    assert_eq!(machine.seen(start, key, seen(0, 0)), None);
    assert_eq!(machine.seen(at(1), key, seen(0, 1)), None);
    let out = machine.seen(at(2), key, seen(0, 2)).unwrap();
    assert_eq!((out.verdict.up, out.turned), (false, true));
    assert_eq!(
        out.to_string(),
        "real 10.0.0.1:80 of tcp 192.0.2.10:80 is down: 2 connections refused in 10s: out for 10s"
    );
    // A reload that changes nothing here does not bring it back.
    machine.set_targets(at(3), vec![watched.clone()]);
    assert_eq!(machine.seen(at(11), key, seen(0, 2)), None);
    let back = machine.seen(at(12), key, seen(0, 2)).unwrap();
    assert_eq!((back.verdict.up, back.verdict.share), (true, 10), "its weight grows, as after any return");
    assert_eq!(back.reason, "tried again after 10s");
    assert_eq!(machine.deadline(), Some(at(22)));
    let again = machine.seen(at(13), key, seen(0, 3)).unwrap();
    assert!(!again.verdict.up && machine.deadline().is_none());
    // Without the rules nothing holds it back.
    watched.passive = None;
    machine.set_targets(at(14), vec![watched]);
    assert!(machine.list()[0].verdict.up && machine.seen(at(15), key, seen(0, 9)).is_none());
}

#[test]
fn checks_and_failures_both_have_to_let_it_serve() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut machine = Machine::default();
    let mut both = target(1, 6);
    Arc::make_mut(&mut both.checks[0]).fall = 1;
    Arc::make_mut(&mut both.checks[0]).rise = 1;
    both.passive =
        Some(shunt_model::health::passive::Rules { max_fails: 1, fail_timeout: Duration::from_secs(10) });
    let key = both.key;
    machine.set_targets(start, vec![both]);
    machine.seen(start, key, seen(0, 0));
    let first = one(&mut machine, start);
    assert_eq!(machine.result(start, key, first.serial, GOOD).pop(), None);
    assert!(!machine.seen(at(1), key, seen(0, 1)).unwrap().verdict.up);
    assert_eq!(machine.list()[0].last.as_deref(), Some("1 connection refused in 10s: out for 10s"));
    let second = one(&mut machine, at(6));
    assert_eq!(
        machine.result(at(6), key, second.serial, Err(Failure::Refused)).pop(),
        None,
        "down as before"
    );
    assert_eq!(machine.seen(at(11), key, seen(0, 1)), None, "tried again, but for its check");
    let third = one(&mut machine, at(12));
    assert!(machine.result(at(12), key, third.serial, GOOD).pop().unwrap().verdict.up);
}

#[test]
fn what_the_director_lacks_is_no_verdict() {
    use shunt_model::health::Lack;
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, vec![target(1, 6)]);
    let mut now = start;
    for number in 0..20 {
        let check = one(&mut machine, now);
        // Two real failures at the begin, whose doubt stays as it is.
        let result = if number < 2 { Failure::Refused } else { Failure::Lack(Lack::Descriptors) };
        assert_eq!(machine.result(now, check.key, check.serial, Err(result)).pop(), None, "{number}");
        now += Duration::from_secs(6);
    }
    assert_eq!((machine.list()[0].against, machine.running()), (2, 0));
    let check = one(&mut machine, now);
    let change = machine.result(now, check.key, check.serial, Err(Failure::Refused)).pop().unwrap();
    assert!(!change.verdict.up, "the third failure");
}

#[test]
fn fewer_run_at_once_where_fewer_may() {
    let start = Instant::now();
    let mut machine = Machine::default();
    machine.set_targets(start, (1..=100).map(|n| target(n, 6)).collect());
    let now = start + Duration::from_secs(6);
    for (most, running) in [(10, 10), (30, 30), (5, 30), (0, 30), (usize::MAX, 100)] {
        machine.set_most(most);
        machine.tick(now, &mut Vec::new());
        assert_eq!(machine.running(), running, "{most}");
    }
}

/// Ten services of one group with two real servers that all of them have.
fn group(now: Instant, services: u8) -> (Machine, Vec<Target>) {
    let targets: Vec<Target> = (0..services)
        .flat_map(|service| {
            (0..2).map(move |n| {
                let mut target = Target { group: Some("G".into()), ..target(n, 6) };
                target.key.listen = SocketAddr::from(([192, 0, 2, service], 80));
                target
            })
        })
        .collect();
    let mut machine = Machine::default();
    machine.set_targets(now, targets.clone());
    (machine, targets)
}

#[test]
fn services_of_a_group_make_a_check_once_and_all_hear_what_it_gave() {
    let start = Instant::now();
    let (mut machine, _) = group(start, 10);
    let mut out = Vec::new();
    let mut changes = Vec::new();
    for beat in 0..3 {
        let now = start + Duration::from_secs(1 + 6 * beat);
        machine.tick(now, &mut out);
        assert_eq!(out.len(), 2, "one check for each address");
        for started in out.drain(..) {
            let result =
                if started.check.to.ip().to_string() == "10.0.0.1" { Err(Failure::Refused) } else { GOOD };
            changes.extend(machine.result(now, started.key, started.serial, result));
        }
    }
    assert_eq!(changes.len(), 10, "the real server is down in each service: {changes:?}");
    assert!(changes.iter().all(|change| !change.verdict.up && change.turned));
    assert_eq!(machine.list().iter().filter(|listed| listed.verdict.up).count(), 10);
}

#[test]
fn a_service_that_joins_a_group_knows_what_the_others_know_and_goes_on_when_they_leave() {
    let start = Instant::now();
    let (mut machine, mut targets) = group(start, 2);
    let mut out = Vec::new();
    let mut fail = |machine: &mut Machine, now| {
        machine.tick(now, &mut out);
        let count = out.len();
        let changes = out
            .drain(..)
            .flat_map(|started| machine.result(now, started.key, started.serial, Err(Failure::Refused)));
        (count, changes.count())
    };
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!([1, 7, 13].map(|second| fail(&mut machine, at(second))), [(2, 0), (2, 0), (2, 4)]);
    // A third service: it is told down at the next beat, and not after three of its own.
    let mut third = targets[0].clone();
    third.key.listen = SocketAddr::from(([192, 0, 2, 99], 80));
    targets.push(third);
    machine.set_targets(at(14), targets.clone());
    assert_eq!(fail(&mut machine, at(19)), (2, 1));
    // The first service, which made the checks, is gone: the next one makes them, once.
    targets.drain(..2);
    machine.set_targets(at(20), targets.clone());
    assert_eq!(fail(&mut machine, at(26)), (2, 0));
    // What differs in a key is made for itself, and so is what is of no group.
    let mut other = targets[0].clone();
    other.key.listen = SocketAddr::from(([192, 0, 2, 98], 80));
    other.checks = vec![Arc::new(Check { fall: 1, ..(*other.checks[0]).clone() })];
    let mut alone = Target { group: None, ..targets[0].clone() };
    alone.key.listen = SocketAddr::from(([192, 0, 2, 97], 80));
    targets.extend([other, alone]);
    machine.set_targets(at(27), targets);
    assert_eq!(fail(&mut machine, at(33)).0, 4);
}
