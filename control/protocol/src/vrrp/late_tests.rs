//! A director that itself is late: what it did not hear is not silence, and who slept is master no more.

use super::*;

const HEARS_LATE: [&str; 3] =
    ["front advert 100", "front is master: the master 192.0.2.9 fell silent", "announce 192.0.2.10"];

/// One whose feeder says until when all was heard, as the control loop does.
fn listening() -> Timeline {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    let start = timeline.start;
    timeline.machine.heard_until(start);
    timeline.run(1000, Advert(9, 150));
    timeline
}

fn at(timeline: &Timeline, at: u64) -> Instant {
    timeline.start + Duration::from_millis(at)
}

#[test]
fn silence_counts_when_all_was_heard_that_arrived() {
    let mut timeline = listening();
    let begin = at(&timeline, 4609);
    assert!(!timeline.machine.listens(begin));
    assert!(timeline.run(4610, Tick).is_empty());
    let begin = at(&timeline, 4610);
    assert!(timeline.machine.listens(begin));
    // It looks again a moment later, and does not spin.
    assert_eq!(timeline.machine.deadline(), Some(begin + LISTEN_PAUSE));
    // The workers ran, and what lay in their queues was silence.
    timeline.machine.heard_until(begin);
    assert_eq!(timeline.run(4612, Tick), HEARS_LATE);

    // Or an advert: everything is as if it had come in time.
    let mut timeline = listening();
    timeline.run(4610, Tick);
    assert!(timeline.machine.listens(begin));
    timeline.run(4700, Advert(9, 150));
    let now = at(&timeline, 4701);
    assert!(!timeline.machine.listens(now));
    let next = at(&timeline, 4700) + front().master_down(100, Duration::from_secs(1));
    assert_eq!(timeline.machine.deadline(), Some(next));
}

#[test]
fn workers_that_do_not_run_are_waited_for_as_long_again() {
    let mut timeline = listening();
    let wait = front().master_down(100, Duration::from_secs(1));
    let most = at(&timeline, 1000) + 2 * wait;
    let mut now = at(&timeline, 4610);
    while now < most {
        assert!(timeline.machine.listens(now));
        let out = &mut Vec::new();
        timeline.machine.tick(now, out);
        assert_eq!(out, &[]);
        now += Duration::from_millis(100);
    }
    assert!(!timeline.machine.listens(most));
    assert_eq!(timeline.run(8220, Tick), HEARS_LATE);
}

#[test]
fn others_of_a_group_listen_with_it() {
    let group =
        Group { name: "both".into(), members: vec!["front".into(), "back".into()], notify: Arc::default() };
    let mut timeline = Timeline::new(vec![front(), back()], vec![group]);
    let start = timeline.start;
    timeline.machine.heard_until(start);
    assert!(timeline.run(3610, Tick).is_empty());
    let now = at(&timeline, 3610);
    assert!(timeline.machine.listens(now));
    timeline.machine.heard_until(now);
    assert!(timeline.run(3612, Tick).contains(&"group both is master".to_owned()));
}

/// Stopped, starved or suspended: another one has taken over meanwhile.
#[test]
fn a_master_that_slept_listens_before_it_speaks() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([(3610, Tick, MASTER.to_vec())]);
    // Late, but nobody has missed it for long enough.
    assert_eq!(timeline.run(6600, Tick), ["front advert 100"]);
    let slept = ["front is backup: it did not run for 5600 ms and listens first"];
    assert_eq!(timeline.run(12_200, Tick), slept);
    // Another master speaks within an interval.
    assert!(timeline.run(12_900, Advert(9, 90)).is_empty());
    let preempts = [
        "front advert 100",
        "front is master: the master 192.0.2.9 has priority 90 only",
        "announce 192.0.2.10",
    ];
    timeline.table([(13_809, Tick, vec![]), (13_810, Tick, preempts.to_vec())]);
    timeline.run(20_000, Tick);
    assert!(timeline.run(20_300, Advert(9, 150)).is_empty());
    timeline.table([(23_909, Tick, vec![]), (23_910, Tick, HEARS_LATE.to_vec())]);
}

#[test]
fn a_master_that_slept_takes_its_group_along() {
    let quick = Instance { interval: Duration::from_millis(100), ..front() };
    let group =
        Group { name: "both".into(), members: vec!["front".into(), "back".into()], notify: Arc::default() };
    let mut timeline = Timeline::new(vec![quick, back()], vec![group]);
    assert!(timeline.run(3700, Tick).contains(&"group both is master".to_owned()));
    let out = timeline.run(4200, Tick);
    let want = [
        "front is backup: it did not run for 500 ms and listens first",
        "back advert 0",
        "back is backup: it moves with front of its group",
        "group both is backup",
    ];
    assert_eq!(out, want);
}

/// The clock that timers run by stands still while the machine is suspended.
#[test]
fn a_suspended_machine_listens_first() {
    let wakes = |timeline: &mut Timeline, at: u64, slept: u64| {
        let out = &mut Vec::new();
        timeline.machine.slept(timeline.start + Duration::from_millis(at), Duration::from_millis(slept), out);
        out.iter().filter_map(|output| timeline.show(output)).collect::<Vec<_>>()
    };
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([(3610, Tick, MASTER.to_vec())]);
    assert!(wakes(&mut timeline, 4000, 100).is_empty());
    assert_eq!(
        wakes(&mut timeline, 4100, 60_000),
        ["front is backup: it did not run for 60000 ms and listens first"]
    );
    // A backup counts its master's silence from now on.
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.run(1000, Advert(9, 150));
    assert!(wakes(&mut timeline, 1500, 60_000).is_empty());
    let next = at(&timeline, 1500) + front().master_down(100, Duration::from_secs(1));
    assert_eq!(timeline.machine.deadline(), Some(next));
}

/// What counts is when its NIC had the advert, not when it was handed to a worker.
#[test]
fn an_advert_is_as_late_as_it_leaves() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([(3610, Tick, MASTER.to_vec())]);
    let mut adverts = |ms| {
        let now = at(&timeline, ms);
        let mut out = Vec::new();
        timeline.machine.tick(now, &mut out);
        let due = out.iter().find_map(|output| match output {
            Output::Advert { due, .. } => Some(*due),
            _ => None,
        });
        (due.expect("an advert").expect("a time"), now)
    };
    let (due, handed_over) = adverts(4612);
    assert_eq!(handed_over - due.at, Duration::from_millis(2));
    let buckets = |timeline: &Timeline| timeline.machine.list()[0].lateness.buckets().collect::<Vec<_>>();
    assert_eq!(buckets(&timeline), [], "it has not left");
    timeline.machine.left(&due, due.at + Duration::from_millis(9));
    assert_eq!(buckets(&timeline), [(8192, 1)]);
    // That of a virtual router that is no more.
    let gone = Due { router: (BACK, Vrid(9), Family::V6), ..due };
    timeline.machine.left(&gone, due.at);
    assert_eq!(buckets(&timeline), [(8192, 1)]);
}
