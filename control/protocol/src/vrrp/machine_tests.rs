//! Timelines of virtual routers: at a millisecond an input, and everything that comes out. The rows follow the state tables of
//! RFC 9568, 6.4 (6.4.1 Initialize, 6.4.2 Backup, 6.4.3 Active) and RFC 3768, 6.4.

use std::sync::Arc;
use std::time::Duration;

use shunt_model::script::Script;
use shunt_model::secret::Secret;
use shunt_model::vrrp::Notify;
use shunt_model::vrrp::{
    Announcing, Auth, Hmac, HmacKey, HmacMode, Peer, Replay, Track, Version, VirtualMac, Vrid,
};

use super::super::message::{self, Envelope};
use super::super::refusal::Vips;
use super::super::{COMPLAINTS_MAX, LISTEN_PAUSE, PEERS_MAX};
use super::super::{Event, To};
use super::*;

#[path = "interval_tests.rs"]
mod intervals;
#[path = "late_tests.rs"]
mod late;
#[path = "stranger_tests.rs"]
mod strangers;

const MAC: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
const FRONT: NicId = NicId(0);
const BACK: NicId = NicId(1);

#[derive(Clone)]
enum Input {
    /// Link of a NIC.
    Link(NicId, bool),
    /// A check.
    Number(&'static str, i32),
    Check(&'static str, bool),
    /// An advert of another director for VRID 51 on the first NIC, by the last byte of its address.
    Advert(u8, u8),
    /// The same with this interval, in milliseconds.
    Paced(u8, u8, u64),
    /// The same for VRID 52 on the second NIC.
    AdvertBack(u8, u8),
    /// An advert with another password.
    Forged(u8, u8),
    Claims,
    Priority(u8),
    /// The first NIC takes no frames to these virtual MACs.
    Refused(Vec<Mac>),
    Stop,
    Tick,
}
use Input::*;

struct Timeline {
    machine: Machine,
    start: Instant,
    instances: Vec<Instance>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn front() -> Instance {
    Instance {
        name: "front".into(),
        nic: FRONT,
        vrid: Vrid(51),
        version: Version::V3,
        priority: 100,
        interval: Duration::from_secs(1),
        source: ip("192.0.2.5"),
        addresses: vec![ip("192.0.2.10")],
        excluded: Vec::new(),
        peers: Vec::new(),
        auth: Auth::None,
        preempt: Some(Duration::ZERO),
        start_grace: Duration::ZERO,
        warn_after: Duration::ZERO,
        announcing: Announcing { repeat: 1, delay: Duration::ZERO, ..Announcing::default() },
        tracks: Vec::new(),
        notify: Arc::default(),
        virtual_mac: None,
    }
}

fn back() -> Instance {
    Instance {
        name: "back".into(),
        nic: BACK,
        vrid: Vrid(52),
        source: ip("10.0.0.5"),
        addresses: vec![ip("10.0.0.10")],
        ..front()
    }
}

/// The frame of an advert of another director.
fn frame(of: &Instance, last: u8, priority: u8, sequence: u32) -> Vec<u8> {
    let IpAddr::V4(source) = of.source else { panic!("IPv4") };
    let [a, b, c, _] = source.octets();
    let theirs = Instance { source: IpAddr::from([a, b, c, last]), ..of.clone() };
    let to = message::group(Family::V4);
    let packet = message::build(&theirs, priority, to, Envelope { identification: 1, sequence, trailer: 0 });
    [&[0xff; 6][..], &[2, 0, 0, 0, 0, last], &[8, 0], &packet].concat()
}

impl Timeline {
    /// With links up since time 0.
    fn new(instances: Vec<Instance>, groups: Vec<Group>) -> Self {
        let start = Instant::now();
        let mut timeline = Self { machine: Machine::default(), start, instances: instances.clone() };
        let out = &mut Vec::new();
        timeline.machine.set(start, instances, groups, out);
        assert!(out.is_empty(), "{out:?}");
        timeline.run(0, Link(FRONT, true));
        timeline.run(0, Link(BACK, true));
        timeline
    }

    fn run(&mut self, at: u64, input: Input) -> Vec<String> {
        let now = self.start + Duration::from_millis(at);
        let out = &mut Vec::new();
        let machine = &mut self.machine;
        match input {
            Link(nic, up) => machine.watched(now, Tracked::Link(nic), up.into(), out),
            Number(name, number) => {
                machine.watched(now, Tracked::Check(name.into()), Reading::Shift(number), out);
            }
            Check(name, passes) => machine.watched(now, Tracked::Check(name.into()), passes.into(), out),
            Advert(last, priority) => {
                machine.frame(now, FRONT, MAC, &frame(&self.instances[0], last, priority, at as u32), out);
            }
            Paced(last, priority, interval) => {
                let interval = Duration::from_millis(interval);
                let theirs = Instance { interval, ..self.instances[0].clone() };
                machine.frame(now, FRONT, MAC, &frame(&theirs, last, priority, at as u32), out);
            }
            AdvertBack(last, priority) => {
                machine.frame(now, BACK, MAC, &frame(&self.instances[1], last, priority, at as u32), out);
            }
            Forged(last, priority) => {
                let forged = Instance { auth: Auth::Password(*b"mistaken"), ..self.instances[0].clone() };
                machine.frame(now, FRONT, MAC, &frame(&forged, last, priority, 0), out);
            }
            Claims => machine.claimed(now, FRONT, ip("192.0.2.10"), Mac([2, 0, 0, 0, 0, 9]), out),
            Priority(priority) => {
                self.instances[0].priority = priority;
                machine.set(now, self.instances.clone(), Vec::new(), out);
            }
            Refused(macs) => {
                machine.set_refused_macs(now, macs.iter().map(|mac| (FRONT, *mac)).collect(), out);
            }
            Stop => machine.stop(now, out),
            Tick => machine.tick(now, out),
        }
        out.iter().filter_map(|output| self.show(output)).collect()
    }

    /// An output in a few words.
    fn show(&self, output: &Output) -> Option<String> {
        Some(match output {
            Output::Advert { nic, to, packet, .. } => {
                let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 5], &[8, 0], packet].concat();
                let heard = Heard::read(&frame, MAC).unwrap();
                let to = match to {
                    To::Group => String::new(),
                    To::Neighbour(hop) => format!(" to {} by {hop}", heard.destination),
                };
                let name = if *nic == FRONT { "front" } else { "back" };
                format!("{name} advert {}{to}", heard.advert.priority)
            }
            Output::Announce { address, .. } => format!("announce {address}"),
            Output::Moved | Output::Partner { .. } => return None,
            Output::Event(Event::Entered { name, role, reason, scripts }) => {
                format!("{name} is {}: {reason}{}", role.word(), run(scripts))
            }
            Output::Event(Event::Group { name, told, scripts }) => {
                format!("group {name} is {}{}", told.word(), run(scripts))
            }
            Output::Event(Event::LowerPriority { from, priority, scripts, .. }) => {
                format!("{from} has {priority}{}", run(scripts))
            }
            Output::Event(Event::Late { from, gap, .. }) => format!("{from} late by {} ms", gap.as_millis()),
            Output::Event(Event::Refused { from, refusal, .. }) => format!("refused {from}: {refusal}"),
            Output::Event(Event::Odd { from, complaint, .. }) => format!("odd {from}: {complaint}"),
            Output::Event(Event::SplitBrain { rival, cause, .. }) => {
                let text = cause.to_string();
                format!("split brain with {rival}: {}", text.split(':').next().unwrap_or_default())
            }
            Output::Event(Event::SplitBrainOver { rival, lasted, .. }) => {
                format!("split brain with {rival} over after {} ms", lasted.as_millis())
            }
        })
    }

    /// Plays rows; nothing may be due between them.
    fn table(&mut self, table: impl IntoIterator<Item = (u64, Input, Vec<&'static str>)>) {
        for (row, (at, input, expect)) in table.into_iter().enumerate() {
            let now = self.start + Duration::from_millis(at);
            if let Some(due) = self.machine.deadline().filter(|due| *due + Duration::from_millis(1) <= now) {
                panic!("row {row} at {at} ms: something is due at {:?}", due - self.start);
            }
            assert_eq!(self.run(at, input), expect, "row {row} at {at} ms");
        }
    }
}

/// The scripts that are run.
fn run(scripts: &[Script]) -> String {
    scripts.iter().map(|script| format!(", runs {}", script.command.join(" "))).collect()
}

const MASTER: [&str; 3] = ["front advert 100", "front is master: no master was heard", "announce 192.0.2.10"];

#[test]
fn nothing_begins_before_the_link_is_there() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    assert_eq!(timeline.machine.list()[0].role, Role::Backup);
    timeline.table([
        (100, Link(FRONT, false), vec!["front is fault: the link of its NIC is down"]),
        (5000, Tick, vec![]),
        (6000, Advert(9, 90), vec![]),
        (7000, Link(FRONT, true), vec!["front is backup: it begins by listening"]),
    ]);
}

#[test]
fn a_backup_takes_over_after_three_intervals_and_its_skew() {
    // (256 - 100) / 256 of a second.
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([
        (3609, Tick, vec![]),
        (3610, Tick, MASTER.to_vec()),
        (4609, Tick, vec![]),
        (4610, Tick, vec!["front advert 100"]),
        (5610, Tick, vec!["front advert 100"]),
    ]);
    assert_eq!(timeline.machine.vips().collect::<Vec<_>>(), [(FRONT, ip("192.0.2.10"))]);
}

#[test]
fn version_2_counts_its_skew_by_the_second() {
    let slow = |version| Instance { version, interval: Duration::from_secs(4), ..front() };
    let mut timeline = Timeline::new(vec![slow(Version::V2)], Vec::new());
    timeline.table([(12_609, Tick, vec![]), (12_610, Tick, MASTER.to_vec())]);
    let mut timeline = Timeline::new(vec![slow(Version::V3)], Vec::new());
    timeline.table([(14_437, Tick, vec![]), (14_438, Tick, MASTER.to_vec())]);
}

#[test]
fn an_owner_does_not_wait() {
    let mut timeline = Timeline::new(vec![Instance { priority: 255, ..front() }], Vec::new());
    assert_eq!(timeline.machine.list()[0].reason, Reason::Owner);
    timeline.table([
        (500, Advert(9, 254), vec!["front advert 255"]),
        (1000, Tick, vec!["front advert 255", "announce 192.0.2.10"][..1].to_vec()),
        // Of two owners the higher address wins.
        (
            1100,
            Advert(9, 255),
            vec![
                "odd 192.0.2.9: it owns the VIPs (priority 255), and so does this director: only one can: set priority 254 or \
                 less on the other",
                "front is backup: 192.0.2.9 is master with priority 255",
            ],
        ),
    ]);
}

#[test]
fn a_backup_listens_to_its_equals_and_betters() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([
        (1000, Advert(9, 150), vec![]),
        (2000, Advert(9, 150), vec![]),
        (3000, Advert(4, 100), vec![]),
        (6609, Tick, vec![]),
        (
            6610,
            Tick,
            vec![
                "front advert 100",
                "front is master: the master 192.0.2.4 fell silent",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

#[test]
fn a_backup_learns_the_masters_interval() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.instances[0].interval = Duration::from_millis(100);
    timeline.table([(1000, Advert(9, 150), vec![])]);
    // Three of the master's intervals and the skew that follows from it.
    assert_eq!(
        timeline.machine.deadline(),
        Some(timeline.start + Duration::from_micros(1_360_937) + Duration::from_nanos(500))
    );
}

#[test]
fn priority_0_ends_the_wait_but_for_the_skew() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([
        (1000, Advert(9, 150), vec![]),
        (1100, Advert(9, 0), vec![]),
        (1709, Tick, vec![]),
        (
            1710,
            Tick,
            vec![
                "front advert 100",
                "front is master: the master 192.0.2.9 gave up (priority 0)",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

#[test]
fn a_master_of_lower_priority_is_preempted() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    let preempts = vec![
        "front advert 100",
        "front is master: the master 192.0.2.9 has priority 50 only",
        "announce 192.0.2.10",
    ];
    timeline.table([
        (1000, Advert(9, 50), vec![]),
        (2000, Advert(9, 50), vec![]),
        (3000, Advert(9, 50), vec![]),
        (3610, Tick, preempts),
    ]);
}

#[test]
fn without_preemption_a_lower_priority_stays_master() {
    let mut timeline = Timeline::new(vec![Instance { preempt: None, ..front() }], Vec::new());
    for second in 1..20 {
        timeline.table([(second * 1000, Advert(9, 50), vec![])]);
    }
    timeline.table([
        (22_609, Tick, vec![]),
        (
            22_610,
            Tick,
            vec![
                "front advert 100",
                "front is master: the master 192.0.2.9 fell silent",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

#[test]
fn preemption_can_wait() {
    let later = Instance { preempt: Some(Duration::from_secs(5)), ..front() };
    let mut timeline = Timeline::new(vec![later.clone()], Vec::new());
    let preempts = vec![
        "front advert 100",
        "front is master: the master 192.0.2.9 has priority 50 only",
        "announce 192.0.2.10",
    ];
    timeline.table([
        (1000, Advert(9, 50), vec![]),
        (3000, Advert(9, 50), vec![]),
        (5000, Advert(9, 50), vec![]),
        (6000, Tick, preempts),
    ]);
    // A better one in between: the wait begins anew. One that dies meanwhile is not waited for.
    let mut timeline = Timeline::new(vec![later], Vec::new());
    timeline.table([
        (1000, Advert(9, 50), vec![]),
        (3000, Advert(4, 150), vec![]),
        (5000, Advert(9, 50), vec![]),
        (8609, Tick, vec![]),
        (
            8610,
            Tick,
            vec![
                "front advert 100",
                "front is master: the master 192.0.2.9 fell silent",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

#[test]
fn a_master_gives_way_to_a_higher_priority_and_to_a_higher_address() {
    for (last, priority, gives_way) in [(4, 101, true), (4, 100, false), (6, 100, true), (6, 99, false)] {
        let mut timeline = Timeline::new(vec![front()], Vec::new());
        timeline.run(3610, Tick);
        let out = timeline.run(4000, Advert(last, priority));
        let role = if gives_way { Role::Backup } else { Role::Master };
        assert_eq!(timeline.machine.list()[0].role, role, "{last} {priority}: {out:?}");
        assert_eq!(timeline.machine.vips().count(), usize::from(!gives_way));
    }
}

#[test]
fn a_master_asserts_itself_and_announces_again() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.run(3610, Tick);
    timeline.table([
        // Once between two adverts of its own; announcements a second apart.
        (4000, Advert(4, 50), vec!["front advert 100"]),
        (4300, Advert(4, 50), vec![]),
        (4610, Tick, vec!["front advert 100"]),
        (4700, Advert(4, 50), vec!["front advert 100", "announce 192.0.2.10"]),
        (5610, Tick, vec!["front advert 100"]),
        // RFC 9568, 6.4.3 (705): whoever resigns is answered at once, and the interval begins anew.
        (5700, Advert(4, 0), vec!["front advert 100"]),
        (6700, Tick, vec!["front advert 100"]),
    ]);
}

#[test]
fn the_end_is_told_by_priority_0() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([
        (3610, Tick, MASTER.to_vec()),
        (4000, Stop, vec!["front advert 0", "front is fault: the director ends"]),
        (9000, Tick, vec![]),
        (9000, Advert(4, 50), vec![]),
    ]);
    assert_eq!(timeline.machine.deadline(), None);
    assert_eq!(timeline.machine.vips().count(), 0);
}

#[test]
fn a_master_without_link_is_none() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([
        (3610, Tick, MASTER.to_vec()),
        (4000, Link(FRONT, false), vec!["front advert 0", "front is fault: the link of its NIC is down"]),
        (5000, Link(FRONT, true), vec!["front is backup: it begins by listening"]),
        (8609, Tick, vec![]),
        (8610, Tick, MASTER.to_vec()),
    ]);
}

#[test]
fn nobody_is_master_by_a_mac_that_its_nic_refuses() {
    let virtual_mac = VirtualMac { mac: Vrid(51).mac(Family::V4), xmit_base: false };
    let refused = || Refused(vec![virtual_mac.mac, Vrid(9).mac(Family::V4)]);
    let mut timeline =
        Timeline::new(vec![Instance { virtual_mac: Some(virtual_mac), ..front() }, back()], Vec::new());
    timeline.table([
        (
            100,
            refused(),
            vec!["front is fault: its NIC takes no frames to the virtual MAC 00:00:5e:00:01:33"],
        ),
        (3610, Tick, vec!["back advert 100", "back is master: no master was heard", "announce 10.0.0.10"]),
        (4000, refused(), vec![]),
        // One that was opened again may know further addresses.
        (4100, Refused(vec![]), vec!["front is backup: it begins by listening"]),
    ]);
    // What its own MAC reaches needs no other one.
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([(100, refused(), vec![]), (3610, Tick, MASTER.to_vec())]);
}

#[test]
fn weights_change_the_priority() {
    let track = |what: &str, weight| Track { what: Tracked::Check(what.into()), weight, reverse: false };
    let tracks = vec![track("gateway", -30), track("disk", 20), track("process", 0)];
    let mut timeline = Timeline::new(vec![Instance { tracks, ..front() }], Vec::new());
    timeline.table([
        (100, Check("disk", true), vec![]),
        (200, Check("process", true), vec!["front is backup: it begins by listening"]),
    ]);
    // 100 - 30 + 20, since nobody has said yet that the gateway answers.
    assert_eq!(timeline.machine.list()[0].priority, 90);
    timeline.table([(300, Check("gateway", true), vec![])]);
    assert_eq!(timeline.machine.list()[0].priority, 120);
    timeline.table([
        (3732, Tick, vec!["front advert 120", "front is master: no master was heard", "announce 192.0.2.10"]),
        (4000, Check("gateway", false), vec![]),
        (4732, Tick, vec!["front advert 90"]),
        (5000, Check("process", false), vec!["front advert 0", "front is fault: the check process fails"]),
    ]);
    assert_eq!(timeline.machine.list()[0].priority, 100);
}

#[test]
fn numbers_are_added_to_the_priority() {
    let track = |what: &str| Track { what: Tracked::Check(what.into()), weight: 0, reverse: false };
    let tracks = vec![track("load"), track("disk")];
    let mut timeline = Timeline::new(vec![Instance { tracks, ..front() }], Vec::new());
    let begins = "front is backup: it begins by listening";
    timeline.table([
        (100, Number("load", -30), vec![]),
        (200, Number("disk", 7), vec![begins]),
        (3900, Tick, vec!["front advert 77", "front is master: no master was heard", "announce 192.0.2.10"]),
        (4000, Number("load", 20), vec![]),
        (4900, Tick, vec!["front advert 127"]),
        (4950, Number("load", 2_000), vec![]),
        (5900, Tick, vec!["front advert 254"]),
        (5950, Number("load", i32::MIN), vec![]),
        (6900, Tick, vec!["front advert 1"]),
        // One that fails forbids a master, as keepalived has it of -254 and less.
        (7000, Check("load", false), vec!["front advert 0", "front is fault: the check load fails"]),
        (7100, Number("load", 0), vec!["front is backup: it begins by listening"]),
    ]);
}

#[test]
fn reverse_is_the_other_way_round() {
    let track = |weight| Track { what: Tracked::Link(FRONT), weight, reverse: true };
    for (weight, reading, allows, shift) in [
        (0, Reading::Passes, false, 0),
        (0, Reading::Fails, true, 0),
        (10, Reading::Passes, true, -10),
        (10, Reading::Fails, true, 0),
        (-10, Reading::Passes, true, 0),
        (-10, Reading::Fails, true, 10),
    ] {
        let track = track(weight);
        assert_eq!(
            (track.allows(Some(reading)), track.shift(Some(reading))),
            (allows, shift),
            "{weight} {reading:?}"
        );
    }
    assert!(track(0).allows(None) && !Track { reverse: false, ..track(0) }.allows(None));
}

#[test]
fn a_changed_priority_counts_at_once() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.table([
        (3610, Tick, MASTER.to_vec()),
        (4000, Priority(40), vec![]),
        (4610, Tick, vec!["front advert 40"]),
        (5000, Advert(4, 50), vec!["front is backup: 192.0.2.4 is master with priority 50"]),
        (5100, Priority(60), vec![]),
    ]);
    // Three intervals and (256 - 60) / 256.
    assert_eq!(timeline.machine.deadline(), Some(timeline.start + Duration::from_micros(8_765_625)));
}

#[test]
fn a_group_moves_together() {
    let members = vec!["front".into(), "back".into()];
    let any = Script { command: vec!["/told".into()], user: None };
    let notify = Arc::new(Notify { any: Some(any), ..Notify::default() });
    let group = Group { name: "both".into(), members, notify };
    let mut timeline = Timeline::new(vec![front(), back()], vec![group]);
    timeline.table([
        // While one of them hears a master, none takes over.
        (1000, AdvertBack(9, 150), vec![]),
        (3610, Tick, vec![]),
        (4000, AdvertBack(9, 150), vec![]),
        (
            7610,
            Tick,
            vec![
                "front advert 100",
                "front is master: no master was heard",
                "back advert 100",
                "back is master: the master 10.0.0.9 fell silent",
                "announce 192.0.2.10",
                "announce 10.0.0.10",
                "group both is master, runs /told GROUP both MASTER 0",
            ],
        ),
        (
            8000,
            Advert(9, 150),
            vec![
                "front is backup: 192.0.2.9 is master with priority 150",
                "back advert 0",
                "back is backup: it moves with front of its group",
                "group both is backup, runs /told GROUP both BACKUP 0",
            ],
        ),
        (
            8100,
            Link(BACK, false),
            vec![
                "front is fault: it moves with back of its group",
                "back is fault: the link of its NIC is down",
                "group both is fault, runs /told GROUP both FAULT 0",
            ],
        ),
        (
            9000,
            Link(BACK, true),
            vec![
                "front is backup: it begins by listening",
                "back is backup: it begins by listening",
                "group both is backup, runs /told GROUP both BACKUP 0",
            ],
        ),
        (
            9500,
            Stop,
            vec![
                "front is fault: the director ends",
                "back is fault: the director ends",
                "group both is stopped, runs /told GROUP both STOP 0",
            ],
        ),
    ]);
}

#[test]
fn scripts_are_run_for_each_role() {
    let script = |word: &str| Some(Script { command: vec![word.into()], user: None });
    let notify = Notify {
        master: script("/master"),
        backup: script("/backup"),
        fault: script("/fault"),
        stop: script("/stop"),
        any: script("/any"),
        lower_priority: script("/lower"),
    };
    let told = Instance { notify: Arc::new(notify), ..front() };
    let mut timeline = Timeline { instances: vec![told], ..Timeline::new(vec![front()], Vec::new()) };
    timeline.table([
        (10, Priority(100), vec![]),
        (
            3610,
            Tick,
            vec![
                "front advert 100",
                "front is master: no master was heard, runs /master, runs /any INSTANCE front MASTER 100",
                "announce 192.0.2.10",
            ],
        ),
        (
            3700,
            Advert(9, 90),
            vec!["front advert 100", "192.0.2.9 has 90, runs /lower"],
        ),
        // Not again before the next advert, however many of them come.
        (3800, Advert(9, 90), vec![]),
        (
            3900,
            Link(FRONT, false),
            vec![
                "front advert 0",
                "front is fault: the link of its NIC is down, runs /fault, runs /any INSTANCE front FAULT 100",
            ],
        ),
        (
            4000,
            Link(FRONT, true),
            vec!["front is backup: it begins by listening, runs /backup, runs /any INSTANCE front BACKUP 100"],
        ),
        (
            5000,
            Stop,
            vec!["front is fault: the director ends, runs /stop, runs /any INSTANCE front STOP 100"],
        ),
    ]);
}

#[test]
fn a_fault_is_told_from_the_start_when_it_is_known() {
    let start = Instant::now();
    let mut machine = Machine::default();
    let out = &mut Vec::new();
    let gateway = Track { what: Tracked::Check("gateway".into()), weight: 0, reverse: false };
    machine.set(start, vec![Instance { tracks: vec![gateway], ..front() }], Vec::new(), out);
    machine.watched(start, Tracked::Link(FRONT), Reading::Passes, out);
    assert_eq!((out.len(), &machine.list()[0].reason), (0, &Reason::NotStarted));
    machine.watched(start, Tracked::Check("gateway".into()), Reading::Fails, out);
    let reason = Reason::Tracked("the check gateway".into());
    let entered = Event::Entered { name: "front".into(), role: Role::Fault, reason, scripts: Vec::new() };
    assert_eq!(*out, [Output::Event(entered)]);
}

#[test]
fn a_start_can_wait_and_late_adverts_are_told() {
    let patient =
        Instance { start_grace: Duration::from_secs(10), warn_after: Duration::from_millis(1500), ..front() };
    let mut timeline = Timeline::new(vec![patient], Vec::new());
    timeline.table([
        (1000, Advert(9, 150), vec![]),
        (2400, Advert(9, 150), vec![]),
        (4000, Advert(9, 150), vec!["192.0.2.9 late by 1600 ms"]),
        (
            10_000,
            Tick,
            vec![
                "front advert 100",
                "front is master: the master 192.0.2.9 fell silent",
                "announce 192.0.2.10",
            ],
        ),
    ]);
}

#[test]
fn split_brain_is_named() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.run(3610, Tick);
    timeline.run(4000, Advert(4, 50));
    timeline.run(4610, Tick);
    timeline.run(5000, Advert(4, 50));
    timeline.run(5610, Tick);
    timeline.run(6610, Tick);
    timeline.table([
        (7609, Advert(4, 50), vec!["front advert 100", "announce 192.0.2.10"]),
        (7610, Tick, vec!["front advert 100"]),
        (
            7620,
            Advert(4, 50),
            vec!["front advert 100", "split brain with 192.0.2.4: it has to give way and does not"],
        ),
    ]);
    let split = timeline.machine.list()[0].split_brain.unwrap();
    assert_eq!((split.rival, split.cause), (Rival::Director(ip("192.0.2.4")), Cause::NotHeard));
    for at in [8610, 9610, 10_610] {
        timeline.run(at, Tick);
    }
    timeline.table([(
        11_000,
        Advert(4, 101),
        vec![
            "split brain with 192.0.2.4 over after 3620 ms",
            "front is backup: 192.0.2.4 is master with priority 101",
        ],
    )]);
    assert_eq!(timeline.machine.list()[0].split_brain, None);
}

#[test]
fn split_brain_by_refused_adverts_and_by_arp_is_named() {
    let password = Instance { version: Version::V2, auth: Auth::Password(*b"rightone"), ..front() };
    let mut timeline = Timeline::new(vec![password], Vec::new());
    timeline.table([
        (1000, Forged(4, 150), vec!["refused 192.0.2.4: its password differs"]),
        (2000, Forged(4, 150), vec![]),
        (3610, Tick, MASTER.to_vec()),
    ]);
    for at in [4000_u64, 5000, 6000, 7000] {
        timeline.run(at, Forged(4, 150));
        timeline.run(at + 610, Tick);
    }
    timeline.table([(8000, Forged(4, 150), vec!["split brain with 192.0.2.4: its adverts are refused"])]);

    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.run(3610, Tick);
    for at in [4000, 14_000] {
        assert_eq!(timeline.run(at, Claims).len(), 0);
    }
    let want = "split brain with 02:00:00:00:00:09: it answers for 192.0.2.10 without sending adverts that arrive here";
    assert_eq!(timeline.run(29_000, Claims), [want]);
}

#[test]
fn unicast_peers_are_spoken_to_one_by_one() {
    let peer = |address, hop| Peer { address: ip(address), hop: ip(hop), ttl_min: 255 };
    let peers = vec![peer("192.0.2.9", "192.0.2.9"), peer("198.51.100.9", "192.0.2.1")];
    let mut timeline = Timeline::new(vec![Instance { peers, ..front() }], Vec::new());
    timeline.table([(
        3610,
        Tick,
        vec![
            "front advert 100 to 192.0.2.9 by 192.0.2.9",
            "front advert 100 to 198.51.100.9 by 192.0.2.1",
            "front is master: no master was heard",
            "announce 192.0.2.10",
        ],
    )]);
}

#[test]
fn announcements_come_in_bursts_and_again() {
    let announcing = Announcing {
        repeat: 2,
        delay: Duration::from_secs(5),
        refresh: Duration::from_secs(20),
        refresh_repeat: 1,
    };
    let instance = Instance { announcing, interval: Duration::from_secs(40), priority: 254, ..front() };
    let mut timeline = Timeline::new(vec![instance], Vec::new());
    let vip = "announce 192.0.2.10";
    timeline.table([
        (120_313, Tick, vec!["front advert 254", "front is master: no master was heard", vip, vip]),
        (125_313, Tick, vec![vip, vip]),
        (140_313, Tick, vec![vip]),
        (160_313, Tick, vec!["front advert 254", vip]),
    ]);
}

#[test]
fn thousands_of_vips_are_announced_little_by_little() {
    let addresses: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    let mut timeline = Timeline::new(vec![Instance { addresses, ..front() }], Vec::new());
    let counts = [3610, 3611, 3612, 3613]
        .map(|at| timeline.run(at, Tick).iter().filter(|line| line.starts_with("announce")).count());
    assert_eq!(counts, [64, 64, 64, 8]);
}

#[test]
fn settings_change_without_a_change_of_role() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    timeline.run(3610, Tick);
    let now = timeline.start + Duration::from_secs(4);
    let out = &mut Vec::new();
    let more = Instance { addresses: vec![ip("192.0.2.10"), ip("192.0.2.11")], ..front() };
    timeline.machine.set(now, vec![more.clone(), back()], Vec::new(), out);
    assert_eq!(out.iter().filter(|output| **output == Output::Moved).count(), 1);
    assert_eq!(timeline.machine.vips().count(), 2);
    assert_eq!(timeline.machine.managed().count(), 3);
    assert_eq!(timeline.machine.list()[0].role, Role::Master);
    // One that is gone says so.
    out.clear();
    timeline.machine.set(now, vec![back()], Vec::new(), out);
    let shown: Vec<String> = out.iter().filter_map(|output| timeline.show(output)).collect();
    assert_eq!(shown, ["front advert 0", "front is fault: it is no longer in the configuration"]);
    assert_eq!(timeline.machine.vips().count(), 0);
}

#[test]
fn what_is_not_for_it_is_counted() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    let now = timeline.start;
    let out = &mut Vec::new();
    let machine = &mut timeline.machine;
    machine.frame(now, FRONT, MAC, &[0; 60], out);
    machine.frame(now, BACK, MAC, &frame(&front(), 9, 100, 0), out);
    machine.frame(now, FRONT, MAC, &frame(&back(), 9, 100, 0), out);
    let mut own = frame(&front(), 5, 100, 0);
    own[6..12].copy_from_slice(&MAC.0);
    machine.frame(now, FRONT, MAC, &own, out);
    let forged = Instance { version: Version::V2, ..front() };
    machine.frame(now, FRONT, MAC, &frame(&forged, 9, 100, 0), out);
    let Counters { malformed, unknown, looped, refused, received, .. } = machine.counters();
    assert_eq!((malformed, unknown, looped, refused, received), (1, 2, 1, 1, 0));
}

#[test]
fn signed_adverts_are_heeded_once_and_carry_the_time_of_day() {
    const UNIX: u64 = 1_800_000_000;
    let keys = vec![HmacKey { id: 9, secret: Secret::new(vec![0x5a; 32]) }];
    let hmac = Hmac { keys, active: 9, replay: Replay::Time(None), mode: HmacMode::Enforce };
    let ours = Instance { auth: Auth::Hmac(Arc::new(hmac)), ..front() };
    let start = Instant::now();
    let (mut machine, out) = (Machine::default(), &mut Vec::new());
    machine.time_of_day(start, Duration::from_secs(UNIX));
    machine.set(start, vec![ours.clone()], Vec::new(), out);
    machine.watched(start, Tracked::Link(FRONT), true.into(), out);
    let advert = |seconds: u64, counter: u64| {
        let theirs = Instance { source: ip("192.0.2.77"), ..ours.clone() };
        let envelope = Envelope { identification: 1, sequence: 1, trailer: seconds << 32 | counter };
        let packet = message::build(&theirs, 254, message::group(Family::V4), envelope);
        [&[0xff; 6][..], &[2, 0, 0, 0, 0, 77], &[8, 0], &packet].concat()
    };
    for (seconds, counter, received) in [
        (UNIX, 1, 1),
        // The same again, and the one before.
        (UNIX, 1, 1),
        (UNIX, 0, 1),
        (UNIX, 2, 2),
        (UNIX - 6, 3, 2),
        (UNIX + 6, 4, 2),
        // What was refused does not count for what comes next.
        (UNIX, 3, 3),
    ] {
        machine.frame(start, FRONT, MAC, &advert(seconds, counter), out);
        assert_eq!(machine.counters().received, received, "{seconds} {counter}");
    }
    assert_eq!(machine.list()[0].refused, [("replay", 2), ("stale", 2)]);
    // Silence: this director's own adverts have its time, and each another number.
    out.clear();
    machine.tick(start + Duration::from_secs(20), out);
    machine.stop(start + Duration::from_secs(20), out);
    let sequences = out.iter().filter_map(|output| match output {
        Output::Advert { packet, .. } => {
            let trailer: &[u8; shunt_model::vrrp::TRAILER] = packet.last_chunk()?;
            Some(u64::from_be_bytes(*trailer[4..].first_chunk()?))
        }
        _ => None,
    });
    assert_eq!(sequences.collect::<Vec<_>>(), [(UNIX + 20) << 32, (UNIX + 20) << 32 | 1]);
}
