//! Directors whose intervals differ, in each transition. Version 3 carries the master's interval so that backups wait for what it
//! sends, not for what they would send (RFC 9568, 6.1: `Active_Adver_Interval`).

use super::*;

/// Of priority 150, an advert each 100 ms: alone it waits for 341.4 ms.
fn quick() -> Instance {
    Instance { priority: 150, interval: Duration::from_millis(100), ..front() }
}

/// One at 100 ms that became master at 342 ms.
fn quick_master() -> Timeline {
    let mut timeline = Timeline::new(vec![quick()], Vec::new());
    timeline.table([(342, Tick, TAKES.to_vec())]);
    timeline
}

const TAKES: [&str; 3] = ["front advert 150", "front is master: no master was heard", "announce 192.0.2.10"];
const GIVES_WAY: [&str; 1] = ["front is backup: 192.0.2.9 is master with priority 200"];
const FELL_SILENT: [&str; 3] =
    ["front advert 150", "front is master: the master 192.0.2.9 fell silent", "announce 192.0.2.10"];

/// RFC 9568, 6.4.3 (725): who gives way waits for the master that it gives way to.
#[test]
fn a_master_that_gives_way_waits_for_the_new_masters_interval() {
    let mut timeline = quick_master();
    timeline.table([
        (400, Paced(9, 200, 1000), GIVES_WAY.to_vec()),
        (1400, Paced(9, 200, 1000), vec![]),
        (2400, Paced(9, 200, 1000), vec![]),
        // Three of its intervals and (256 - 150) / 256 of one.
        (5814, Tick, vec![]),
        (5815, Tick, FELL_SILENT.to_vec()),
    ]);
    // And no longer than for that: of a master that is quicker.
    let slow = Instance { interval: Duration::from_secs(1), ..quick() };
    let mut timeline = Timeline::new(vec![slow], Vec::new());
    timeline.table([
        (3415, Tick, TAKES.to_vec()),
        (3500, Paced(9, 200, 100), GIVES_WAY.to_vec()),
        (3841, Tick, vec![]),
        (3842, Tick, FELL_SILENT.to_vec()),
    ]);
}

#[test]
fn a_backup_waits_for_each_masters_own_interval() {
    let mut timeline = Timeline::new(vec![quick()], Vec::new());
    timeline.table([
        (100, Paced(9, 200, 1000), vec![]),
        (1100, Paced(9, 200, 1000), vec![]),
        // Another master takes its place.
        (1200, Paced(8, 250, 100), vec![]),
        (1541, Tick, vec![]),
        (
            1542,
            Tick,
            vec![
                "front advert 150",
                "front is master: the master 192.0.2.8 fell silent",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

#[test]
fn the_skew_after_priority_0_is_the_masters() {
    let mut timeline = Timeline::new(vec![quick()], Vec::new());
    timeline.table([
        (100, Paced(9, 200, 1000), vec![]),
        (200, Paced(9, 0, 1000), vec![]),
        (614, Tick, vec![]),
        (
            615,
            Tick,
            vec![
                "front advert 150",
                "front is master: the master 192.0.2.9 gave up (priority 0)",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

/// RFC 9568, 6.4.2 (430): adverts of a master that is to be preempted are not heeded, so that neither is their interval.
#[test]
fn preemption_does_not_wait_for_a_slower_master() {
    let mut timeline = Timeline::new(vec![quick()], Vec::new());
    let preempts = [
        "front advert 150",
        "front is master: the master 192.0.2.9 has priority 100 only",
        "announce 192.0.2.10",
    ];
    // It speaks still: its last advert is no older than two of its intervals.
    timeline.table([(10, Paced(9, 100, 1000), vec![]), (341, Tick, vec![]), (342, Tick, preempts.to_vec())]);

    let later = Instance { preempt: Some(Duration::from_secs(2)), ..quick() };
    let mut timeline = Timeline::new(vec![later.clone()], Vec::new());
    timeline.table([
        (10, Paced(9, 100, 1000), vec![]),
        (1010, Paced(9, 100, 1000), vec![]),
        (2009, Tick, vec![]),
        (2010, Tick, preempts.to_vec()),
    ]);
    // While it waits it is a backup as any.
    let mut timeline =
        Timeline::new(vec![Instance { preempt: Some(Duration::from_secs(9)), ..later }], Vec::new());
    timeline.table([
        (10, Paced(9, 100, 1000), vec![]),
        (3424, Tick, vec![]),
        (3425, Tick, FELL_SILENT.to_vec()),
    ]);
    let mut timeline = Timeline::new(vec![Instance { preempt: None, ..quick() }], Vec::new());
    timeline.table([
        (10, Paced(9, 100, 1000), vec![]),
        (3424, Tick, vec![]),
        (3425, Tick, FELL_SILENT.to_vec()),
    ]);
}

#[test]
fn after_a_fault_the_own_interval_counts_again() {
    let mut timeline = Timeline::new(vec![quick()], Vec::new());
    timeline.table([
        (100, Paced(9, 200, 1000), vec![]),
        (200, Link(FRONT, false), vec!["front is fault: the link of its NIC is down"]),
        (300, Link(FRONT, true), vec!["front is backup: it begins by listening"]),
        (641, Tick, vec![]),
        (642, Tick, TAKES.to_vec()),
    ]);
}

#[test]
fn a_changed_interval_counts_at_once_where_no_master_told_one() {
    let change = |timeline: &mut Timeline, at, interval| {
        timeline.instances[0].interval = Duration::from_millis(interval);
        timeline.run(at, Priority(150))
    };
    let deadline = |timeline: &Timeline| timeline.machine.deadline().unwrap() - timeline.start;
    let waits = |interval: u64| {
        let interval = Duration::from_millis(interval);
        Instance { interval, ..quick() }.master_down(150, interval)
    };
    let at = Duration::from_millis;
    for version in [Version::V2, Version::V3] {
        let second = Instance { version, interval: at(1000), ..quick() };
        let mut timeline = Timeline::new(vec![second], Vec::new());
        change(&mut timeline, 100, 2000);
        let skew = if version == Version::V2 { at(1000) } else { at(2000) } * 106 / 256;
        assert_eq!(deadline(&timeline), at(6000) + skew, "{version:?}");
        // Of version 2 a master has the same interval, or is refused.
        timeline.run(200, Paced(9, 200, 2000));
        change(&mut timeline, 300, 1000);
        let interval = if version == Version::V2 { at(1000) } else { at(2000) };
        let skew = if version == Version::V2 { at(1000) } else { at(2000) } * 106 / 256;
        assert_eq!(deadline(&timeline), at(200) + 3 * interval + skew, "{version:?}");
    }
    let mut timeline = Timeline::new(vec![quick()], Vec::new());
    timeline.run(100, Paced(9, 200, 1000));
    change(&mut timeline, 200, 300);
    assert_eq!(deadline(&timeline), at(100) + waits(1000));
}

/// 40.95 s, the longest there is, would hold a backup for more than two minutes.
#[test]
fn an_absurd_interval_is_bounded_by_the_own() {
    for (own, theirs, counts) in [
        (100, 40_950, 2000),
        (100, 2000, 2000),
        (100, 2010, 2000),
        (1000, 40_950, 4000),
        (1000, 3000, 3000),
        (10_000, 40_000, 40_000),
        (20_000, 40_950, 40_950),
    ] {
        let (own, counts) = (Duration::from_millis(own), Duration::from_millis(counts));
        let instance = Instance { interval: own, ..quick() };
        let wait = instance.master_down(150, counts);
        // Heard as a backup, and given way to as a master.
        let mut timeline = Timeline::new(vec![instance.clone()], Vec::new());
        timeline.run(10, Paced(9, 200, theirs));
        assert_eq!(timeline.machine.deadline(), Some(timeline.start + Duration::from_millis(10) + wait));
        let mut timeline = Timeline::new(vec![instance.clone()], Vec::new());
        let master = instance.master_down(150, own).as_millis() as u64 + 1;
        timeline.run(master, Tick);
        timeline.run(master + 1, Paced(9, 200, theirs));
        let since = timeline.start + Duration::from_millis(master + 1);
        assert_eq!(timeline.machine.deadline(), Some(since + wait), "{own:?} {theirs}");
    }
}

/// A rival that speaks once a second is noticed by one that speaks ten times.
#[test]
fn split_brain_with_a_slower_rival_is_named() {
    let mut timeline = quick_master();
    let mut told = Vec::new();
    for at in 343..6000 {
        if at % 1000 == 500 {
            told.extend(timeline.run(at, Paced(4, 50, 1000)));
        }
        told.extend(timeline.run(at, Tick));
    }
    let told: Vec<_> = told.iter().filter(|line| line.starts_with("split")).collect();
    assert_eq!(told, ["split brain with 192.0.2.4: it has to give way and does not"]);
}

/// One that is outranked in one of its routers gives way in the other; there it waits for nobody's interval but its group's.
#[test]
fn a_group_gives_way_to_a_slower_one() {
    let quick_back = Instance { priority: 150, interval: Duration::from_millis(100), ..back() };
    let members = vec!["front".into(), "back".into()];
    let group = Group { name: "both".into(), members, notify: Arc::default() };
    let mut timeline = Timeline::new(vec![quick(), quick_back], vec![group]);
    timeline.run(342, Tick);
    assert!(timeline.run(400, Paced(9, 200, 1000)).contains(&"group both is backup".to_owned()));
    let mut roles = Vec::new();
    for at in 401..3800 {
        if at % 1000 == 400 {
            roles.extend(timeline.run(at, Paced(9, 200, 1000)));
        }
        roles.extend(timeline.run(at, Tick));
    }
    assert_eq!(roles, [""; 0]);
}
