//! Timelines of the neighbour machine: at a millisecond an input, and everything that comes out.

use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::limit::NEIGHBOURS_DEFAULT;

use shunt_dataplane::wire::ndp::link_local;

use super::super::message::{self, Message, Speaker};
use super::super::{
    CONFLICT_OVER, INCOMPLETE_PER_NIC_MAX, NAMED_PER_STEP_MAX, WAITING_MAX, WAITING_PER_NEIGHBOUR_MAX,
};
use super::super::{REQUESTS_BURST_MAX, REQUESTS_PER_SECOND_MAX};
use super::*;

const FRONT: NicId = NicId(0);
const BACK: NicId = NicId(1);
const DIRECTOR: [Mac; 2] = [Mac([2, 0, 0, 0, 0xd0, 1]), Mac([2, 0, 0, 0, 0xd0, 2])];
const REAL: Mac = Mac([2, 0, 0, 0, 0, 0x21]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

enum Input {
    Own,
    Vips(&'static [&'static str]),
    Wanted(&'static [(NicId, &'static str)]),
    /// The configuration says their MACs.
    Told(&'static [(NicId, &'static str, Mac)]),
    Announce,
    /// A host at this MAC asks: who has .1? tell .0.
    Asks(NicId, Mac, &'static str, &'static str),
    /// A host answers a question of the director.
    Answers(NicId, Mac, &'static str),
    /// A host tells everybody where it is.
    Tells(NicId, Mac, &'static str),
    Resolve(NicId, &'static str, u32),
    LinkBack(NicId),
    Tick,
}
use Input::*;

struct Timeline {
    machine: Machine<u32>,
    start: Instant,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nics() -> Vec<Nic> {
    let nic =
        |mac, networks: [&str; 2]| Nic { mac, addresses: networks.map(|n| n.parse().unwrap()).to_vec() };
    vec![
        nic(DIRECTOR[0], ["192.0.2.2/24", "2001:db8::2/64"]),
        nic(DIRECTOR[1], ["10.0.0.2/24", "2001:db8:b::2/64"]),
    ]
}

/// A host answers the director: the frame that `message::reply` makes for the director makes it for others too.
fn answer(nic: NicId, mac: Mac, address: &str) -> Vec<u8> {
    let address = ip(address);
    let to = if address.is_ipv4() { ip("192.0.2.2") } else { ip("2001:db8::2") };
    message::reply(Speaker { mac, address }, to, DIRECTOR[nic.index()])
}

impl Timeline {
    fn new() -> Self {
        let start = Instant::now();
        let mut timeline = Self { machine: Machine::new(start), start };
        timeline.run(0, Own);
        timeline.run(0, Tick);
        timeline.run(1_000, Tick);
        timeline
    }

    fn run(&mut self, at: u64, input: Input) -> Vec<String> {
        let now = self.start + Duration::from_millis(at);
        let out = &mut Vec::new();
        let machine = &mut self.machine;
        match input {
            Own => machine.set_owned(now, nics(), Vec::new(), out),
            Vips(vips) => {
                let vips = vips.iter().map(|vip| Vip { nic: None, address: ip(vip) }).collect();
                machine.set_vips(now, vips, out);
            }
            Wanted(wanted) => {
                let wanted = wanted.iter().map(|&(nic, address)| ((nic, ip(address)), Named::Real));
                machine.set_named(now, wanted, [], out);
            }
            Told(told) => {
                let told = told.iter().map(|&(nic, address, mac)| ((nic, ip(address)), mac));
                machine.set_named(now, [], told, out);
            }
            Announce => machine.announce(now, out),
            Asks(nic, mac, sender, target) => {
                let frame = message::request(Speaker { mac, address: ip(sender) }, ip(target), None);
                machine.frame(now, nic, &frame, out);
            }
            Answers(nic, mac, address) => {
                machine.frame(now, nic, &answer(nic, mac, address), out);
            }
            Tells(nic, mac, address) => {
                let frame = message::announcement(Speaker { mac, address: ip(address) });
                machine.frame(now, nic, &frame, out);
            }
            Resolve(nic, address, packet) => machine.resolve(now, (nic, ip(address)), packet, out),
            LinkBack(nic) => machine.link_is_back(now, nic),
            Tick => machine.tick(now, out),
        }
        out.iter().map(show).collect()
    }

    fn table(&mut self, table: impl IntoIterator<Item = (u64, Input, Vec<&'static str>)>) {
        for (row, (at, input, expect)) in table.into_iter().enumerate() {
            assert_eq!(self.run(at, input), expect, "row {row} at {at} ms");
        }
    }
}

fn tail(mac: Mac) -> String {
    format!("{:02x}", mac.0[5])
}

/// An output in a few words; frames are read back.
fn show(output: &Output<u32>) -> String {
    match output {
        Output::Transmit { nic, frame } => {
            let to = Mac(*frame.first_chunk().unwrap());
            let to = if to.is_group() { "all".to_owned() } else { tail(to) };
            match Message::parse(frame, Mac(*frame.first_chunk().unwrap())).unwrap() {
                Message::Request { sender, target, sender_mac, .. } => {
                    let probe = sender == IpAddr::from([0; 16]);
                    assert_eq!(sender_mac, (!probe).then_some(DIRECTOR[nic.index()]));
                    format!("nic {nic}: {sender} asks {to} for {target}")
                }
                Message::Reply { address, mac, solicited: true, .. } => {
                    format!("nic {nic}: answers {to} {address} is {}", tail(mac.unwrap()))
                }
                Message::Reply { address, mac, .. } => {
                    format!("nic {nic}: tells {to} {address} is {}", tail(mac.unwrap()))
                }
            }
        }
        Output::Change(Change { nic, address, mac }) => {
            format!("nic {nic}: {address} at {}", mac.map_or("none".to_owned(), tail))
        }
        Output::Release(packet) => format!("release {packet}"),
        Output::Unreachable(packet) => format!("unreachable {packet}"),
        Output::Event(Event::Resolved { address, .. }) => format!("resolved {address}"),
        Output::Event(Event::MacChanged { address, from, to, .. }) => {
            format!("{address} moved {} to {}", tail(*from), tail(*to))
        }
        Output::Event(Event::Silent { address, .. }) => format!("silent {address}"),
        Output::Event(Event::Conflict(Conflict { address, other, .. })) => {
            format!("conflict {address} with {}", tail(*other))
        }
        Output::Event(Event::ConflictOver { conflict: Conflict { address, other, count, .. }, lasted }) => {
            format!("over {address} with {}: {count} in {lasted:?}", tail(*other))
        }
        Output::Event(Event::Disputed { address, mac, other, .. }) => {
            format!("disputed {address} {} by {}", tail(*mac), tail(*other))
        }
    }
}

#[test]
fn own_addresses_and_vips_are_announced_twice_when_they_are_new() {
    let start = Instant::now();
    let mut timeline = Timeline { machine: Machine::new(start), start };
    let own = timeline.run(0, Own);
    assert_eq!(own.len(), 6, "two addresses and the link-local one on each NIC: {own:?}");
    assert!(own.contains(&"nic 0: tells all 192.0.2.2 is 01".to_owned()));
    assert!(own.contains(&format!("nic 1: tells all {} is 02", link_local(DIRECTOR[1]))));
    assert_eq!(timeline.run(1_000, Tick).len(), 6);
    timeline.table([
        (1_100, Tick, vec![]),
        (
            2_000,
            Vips(&["192.0.2.10", "2001:db8:b::10"]),
            vec!["nic 0: tells all 192.0.2.10 is 01", "nic 1: tells all 2001:db8:b::10 is 02"],
        ),
        (2_500, Vips(&["192.0.2.10"]), vec![]),
        (3_000, Tick, vec!["nic 0: tells all 192.0.2.10 is 01"]),
        (4_000, Tick, vec![]),
        (5_000, Announce, vec!["nic 0: tells all 192.0.2.10 is 01"]),
        (6_000, Tick, vec!["nic 0: tells all 192.0.2.10 is 01"]),
        (9_000, Tick, vec![]),
    ]);
    assert_eq!(timeline.machine.deadline(), None);
}

#[test]
fn requests_for_own_addresses_and_vips_are_answered_where_they_belong() {
    let mut timeline = Timeline::new();
    timeline.run(1_000, Vips(&["192.0.2.10", "203.0.113.5", "2001:db8::10"]));
    timeline.run(2_000, Tick);
    timeline.table([
        (
            3_000,
            Asks(FRONT, REAL, "192.0.2.21", "192.0.2.2"),
            vec!["nic 0: 192.0.2.21 at 21", "nic 0: answers 21 192.0.2.2 is 01"],
        ),
        (3_000, Asks(FRONT, REAL, "192.0.2.21", "192.0.2.10"), vec!["nic 0: answers 21 192.0.2.10 is 01"]),
        (3_000, Asks(FRONT, REAL, "192.0.2.21", "192.0.2.77"), vec![]),
        (3_000, Asks(BACK, OTHER, "10.0.0.99", "192.0.2.10"), vec![]),
        (3_000, Asks(BACK, OTHER, "10.0.0.99", "192.0.2.2"), vec![]),
        // In nobody's network: answered on every NIC. The asker is not on the link and so not learned.
        (3_000, Asks(BACK, OTHER, "172.16.0.1", "203.0.113.5"), vec!["nic 1: answers 99 203.0.113.5 is 02"]),
        (
            3_000,
            Asks(FRONT, OTHER, "2001:db8::99", "2001:db8::10"),
            vec!["nic 0: 2001:db8::99 at 99", "nic 0: answers 99 2001:db8::10 is 01"],
        ),
        (
            3_000,
            Asks(FRONT, OTHER, "fe80::99", "fe80::ff:fe00:d001"),
            vec!["nic 0: fe80::99 at 99", "nic 0: answers 99 fe80::ff:fe00:d001 is 01"],
        ),
        // Probes of hosts that want the address for themselves (RFC 5227, RFC 4862).
        (
            3_000,
            Asks(FRONT, OTHER, "0.0.0.0", "192.0.2.10"),
            vec!["conflict 192.0.2.10 with 99", "nic 0: answers 99 192.0.2.10 is 01"],
        ),
        (
            3_000,
            Asks(FRONT, OTHER, "::", "2001:db8::10"),
            vec!["conflict 2001:db8::10 with 99", "nic 0: tells all 2001:db8::10 is 01"],
        ),
        (3_000, Asks(FRONT, OTHER, "::", "2001:db8::77"), vec![]),
    ]);
}

#[test]
fn a_wanted_neighbour_is_resolved_refreshed_and_asked_for_when_it_is_gone() {
    let mut timeline = Timeline::new();
    timeline.table([
        (2_000, Wanted(&[(BACK, "10.0.0.21")]), vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (2_500, Tick, vec![]),
        (2_600, Answers(BACK, REAL, "10.0.0.21"), vec!["nic 1: 10.0.0.21 at 21", "resolved 10.0.0.21"]),
        (32_500, Tick, vec![]),
        (32_600, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (32_601, Answers(BACK, REAL, "10.0.0.21"), vec![]),
        (62_601, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (63_601, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (64_601, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (
            65_601,
            Tick,
            vec!["nic 1: 10.0.0.21 at none", "silent 10.0.0.21", "nic 1: 10.0.0.2 asks all for 10.0.0.21"],
        ),
        (66_601, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (66_700, Resolve(BACK, "10.0.0.21", 7), vec![]),
        (67_601, Tick, vec!["unreachable 7", "nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (67_700, Resolve(BACK, "10.0.0.21", 8), vec![]),
        (
            67_800,
            Answers(BACK, OTHER, "10.0.0.21"),
            vec!["nic 1: 10.0.0.21 at 99", "resolved 10.0.0.21", "release 8"],
        ),
    ]);
    assert_eq!(timeline.machine.counters().unresolved, 1);
}

#[test]
fn no_longer_wanted_means_kept_until_it_is_silent() {
    let mut timeline = Timeline::new();
    timeline.table([
        (
            2_000,
            Wanted(&[(BACK, "10.0.0.21"), (BACK, "10.0.0.2")]),
            vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"],
        ),
        (2_100, Answers(BACK, REAL, "10.0.0.21"), vec!["nic 1: 10.0.0.21 at 21", "resolved 10.0.0.21"]),
        (2_200, Wanted(&[]), vec![]),
        (32_100, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (33_100, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (34_100, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (35_100, Tick, vec!["nic 1: 10.0.0.21 at none"]),
    ]);
    assert_eq!((timeline.machine.deadline(), timeline.machine.neighbours().count()), (None, 0));
}

#[test]
fn packets_wait_for_neighbours_on_demand_and_go_when_they_answer() {
    let mut timeline = Timeline::new();
    timeline.table([
        (2_000, Resolve(FRONT, "2001:db8::7", 1), vec!["nic 0: 2001:db8::2 asks all for 2001:db8::7"]),
        (2_100, Resolve(FRONT, "2001:db8::7", 2), vec![]),
        (
            2_200,
            Answers(FRONT, OTHER, "2001:db8::7"),
            vec!["nic 0: 2001:db8::7 at 99", "release 1", "release 2"],
        ),
        (2_300, Resolve(FRONT, "2001:db8::7", 3), vec!["release 3"]),
        // Workers have had time enough: this one circles.
        (7_201, Resolve(FRONT, "2001:db8::7", 4), vec![]),
        (8_000, Resolve(FRONT, "192.0.2.9", 5), vec!["nic 0: 192.0.2.2 asks all for 192.0.2.9"]),
        (9_000, Tick, vec!["nic 0: 192.0.2.2 asks all for 192.0.2.9"]),
        (10_000, Tick, vec!["nic 0: 192.0.2.2 asks all for 192.0.2.9"]),
        (11_000, Tick, vec!["unreachable 5"]),
        // An address of the director itself, and a NIC that is not there.
        (12_000, Resolve(FRONT, "192.0.2.2", 6), vec![]),
        (12_000, Resolve(NicId(9), "192.0.2.9", 6), vec![]),
    ]);
    let counters = timeline.machine.counters();
    assert_eq!((counters.circling, counters.unresolved), (1, 3));
    assert_eq!((timeline.machine.waiting(), timeline.machine.neighbours().count()), (0, 1));
}

#[test]
fn who_asks_the_director_is_learned_and_confirmed_later() {
    let mut timeline = Timeline::new();
    timeline.table([
        (
            2_000,
            Asks(FRONT, REAL, "192.0.2.21", "192.0.2.2"),
            vec!["nic 0: 192.0.2.21 at 21", "nic 0: answers 21 192.0.2.2 is 01"],
        ),
        (7_000, Tick, vec!["nic 0: 192.0.2.2 asks 21 for 192.0.2.21"]),
        (7_001, Answers(FRONT, REAL, "192.0.2.21"), vec![]),
        (37_000, Tick, vec![]),
        (37_001, Tick, vec!["nic 0: 192.0.2.2 asks 21 for 192.0.2.21"]),
    ]);
}

#[test]
fn unasked_news_make_the_director_ask_and_change_nothing_by_themselves() {
    let mut timeline = Timeline::new();
    timeline.run(2_000, Wanted(&[(BACK, "10.0.0.21"), (BACK, "2001:db8:b::21")]));
    timeline.table([
        (2_100, Answers(BACK, REAL, "10.0.0.21"), vec!["nic 1: 10.0.0.21 at 21", "resolved 10.0.0.21"]),
        (2_100, Tells(BACK, OTHER, "10.0.0.50"), vec![]),
        (2_100, Tells(BACK, OTHER, "2001:db8:b::50"), vec![]),
        // It boots and says so: asked at once, and again a second later at the earliest.
        (2_200, Tells(BACK, REAL, "2001:db8:b::21"), vec![]),
        (2_200, Tick, vec!["nic 1: 2001:db8:b::2 asks all for 2001:db8:b::21"]),
        (2_201, Tells(BACK, REAL, "2001:db8:b::21"), vec![]),
        (2_201, Tick, vec![]),
        (
            2_202,
            Answers(BACK, REAL, "2001:db8:b::21"),
            vec!["nic 1: 2001:db8:b::21 at 21", "resolved 2001:db8:b::21"],
        ),
        // It moved: everybody is asked, the old MAC has a moment, then the new one has the address.
        (5_000, Tells(BACK, OTHER, "10.0.0.21"), vec![]),
        (5_000, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (5_001, Answers(BACK, OTHER, "10.0.0.21"), vec![]),
        (5_099, Tick, vec![]),
        (5_100, Tick, vec!["nic 1: 10.0.0.21 at 99", "10.0.0.21 moved 21 to 99"]),
        // Back at once: not before a second is over.
        (5_200, Tells(BACK, REAL, "10.0.0.21"), vec![]),
        (6_099, Tick, vec![]),
        (6_100, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (6_101, Answers(BACK, REAL, "10.0.0.21"), vec![]),
        (6_200, Tick, vec!["nic 1: 10.0.0.21 at 21", "10.0.0.21 moved 99 to 21"]),
        (36_199, Tick, vec!["nic 1: 2001:db8:b::2 asks 21 for 2001:db8:b::21"]),
        (36_200, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
    ]);
    let counters = timeline.machine.counters();
    assert_eq!((counters.of(Refused::Unknown), counters.of(Refused::Unasked)), (2, 4));
}

#[test]
fn who_still_answers_keeps_its_address_and_the_dispute_is_told_once_in_a_while() {
    let mut timeline = Timeline::new();
    timeline.run(2_000, Wanted(&[(BACK, "10.0.0.21")]));
    let asks = "nic 1: 10.0.0.2 asks all for 10.0.0.21";
    timeline.table([
        (2_100, Answers(BACK, REAL, "10.0.0.21"), vec!["nic 1: 10.0.0.21 at 21", "resolved 10.0.0.21"]),
        // A spoofer needs no question; it changes nothing and hears one.
        (5_000, Answers(BACK, OTHER, "10.0.0.21"), vec![]),
        (5_000, Tick, vec![asks]),
        (5_001, Answers(BACK, OTHER, "10.0.0.21"), vec![]),
        (5_050, Answers(BACK, REAL, "10.0.0.21"), vec!["disputed 10.0.0.21 21 by 99"]),
        (5_100, Tick, vec![]),
        // It goes on: asked again when ten seconds are over, told again then.
        (6_000, Asks(BACK, OTHER, "10.0.0.21", "10.0.0.2"), vec!["nic 1: answers 99 10.0.0.2 is 02"]),
        (15_049, Tick, vec![]),
        (15_050, Tick, vec![asks]),
        (15_051, Answers(BACK, REAL, "10.0.0.21"), vec![]),
        (15_052, Answers(BACK, OTHER, "10.0.0.21"), vec!["disputed 10.0.0.21 21 by 99"]),
        (16_000, Tick, vec![]),
    ]);
    assert_eq!(timeline.machine.mac((BACK, ip("10.0.0.21"))), Some(REAL));
}

#[test]
fn while_the_known_mac_is_asked_no_other_may_answer() {
    let mut timeline = Timeline::new();
    timeline.run(2_000, Wanted(&[(BACK, "10.0.0.21")]));
    timeline.run(2_100, Answers(BACK, REAL, "10.0.0.21"));
    timeline.table([
        (32_100, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (32_101, Answers(BACK, OTHER, "10.0.0.21"), vec![]),
        (32_101, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (32_102, Answers(BACK, REAL, "10.0.0.21"), vec![]),
        (33_000, Tick, vec![]),
        // The known MAC is silent, and the last question goes to everybody: whoever answers has it.
        (62_102, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (63_102, Tick, vec!["nic 1: 10.0.0.2 asks 21 for 10.0.0.21"]),
        (64_102, Tick, vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (
            64_103,
            Answers(BACK, OTHER, "10.0.0.21"),
            vec!["nic 1: 10.0.0.21 at 99", "10.0.0.21 moved 21 to 99"],
        ),
    ]);
}

#[test]
fn what_the_configuration_says_holds_whatever_is_heard() {
    let mut timeline = Timeline::new();
    timeline.table([
        (2_000, Resolve(BACK, "10.0.0.21", 1), vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
        (2_001, Answers(BACK, OTHER, "10.0.0.21"), vec!["nic 1: 10.0.0.21 at 99", "release 1"]),
        // What was learned gives way to what the file says, which is not the machine's to publish.
        (2_500, Told(&[(BACK, "10.0.0.21", REAL)]), vec!["nic 1: 10.0.0.21 at none"]),
        (3_000, Tells(BACK, OTHER, "10.0.0.21"), vec![]),
        (3_000, Answers(BACK, OTHER, "10.0.0.21"), vec![]),
        (3_000, Asks(BACK, OTHER, "10.0.0.21", "10.0.0.2"), vec!["nic 1: answers 99 10.0.0.2 is 02"]),
        (3_000, Tells(BACK, REAL, "10.0.0.21"), vec![]),
        (90_000, Tick, vec![]),
        (90_000, Resolve(BACK, "10.0.0.21", 2), vec![]),
    ]);
    let listed: Vec<_> = timeline.machine.neighbours().map(|one| (one.mac, one.standing)).collect();
    assert_eq!(listed, [(Some(REAL), Standing::Static)]);
    assert_eq!(timeline.machine.counters().of(Refused::Static), 3);
    assert_eq!(timeline.machine.deadline(), None);
    timeline.table([
        (91_000, Told(&[(BACK, "10.0.0.21", REAL)]), vec![]),
        (92_000, Told(&[]), vec![]),
        (92_000, Wanted(&[(BACK, "10.0.0.21")]), vec!["nic 1: 10.0.0.2 asks all for 10.0.0.21"]),
    ]);
}

#[test]
fn each_standing_is_listed() {
    let mut timeline = Timeline::new();
    timeline.run(2_000, Wanted(&[(BACK, "10.0.0.21"), (BACK, "10.0.0.22")]));
    timeline.run(2_100, Answers(BACK, REAL, "10.0.0.21"));
    timeline.run(31_000, Asks(BACK, OTHER, "10.0.0.99", "10.0.0.2"));
    for at in [2_000, 3_000, 4_000] {
        timeline.run(at, Tick);
    }
    let mut standing = |at: u64, address: &str| {
        timeline.run(at, Tick);
        let found = timeline.machine.neighbours().find(|one| one.address == ip(address));
        found.map(|one| one.standing.word())
    };
    for (at, address, want) in [
        (31_000, "10.0.0.21", "reachable"),
        (31_000, "10.0.0.22", "failed"),
        (31_000, "10.0.0.99", "stale"),
        (32_100, "10.0.0.21", "probe"),
        (36_000, "10.0.0.99", "probe"),
    ] {
        assert_eq!(standing(at, address), Some(want), "{address} at {at}");
    }
    timeline.run(37_000, Resolve(FRONT, "192.0.2.9", 1));
    let last = timeline.machine.neighbours().find(|one| one.address == ip("192.0.2.9"));
    assert_eq!(last.map(|one| one.standing), Some(Standing::Incomplete));
}

#[test]
fn an_advertisement_without_override_casts_doubt_only() {
    let mut timeline = Timeline::new();
    timeline.run(2_000, Wanted(&[(FRONT, "2001:db8::21")]));
    timeline.run(2_100, Answers(FRONT, REAL, "2001:db8::21"));
    let mut frame = answer(FRONT, OTHER, "2001:db8::21");
    // Clear the override flag, and put into the checksum what the word lost.
    frame[58] &= !0x20;
    let sum = u16::from_be_bytes([frame[56], frame[57]]) + 0x2000;
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    assert!(matches!(Message::parse(&frame, DIRECTOR[0]), Ok(Message::Reply { overrides: false, .. })));
    let mut out = Vec::new();
    let now = timeline.start + Duration::from_millis(9_000);
    timeline.machine.frame(now, FRONT, &frame, &mut out);
    assert_eq!(out, []);
    timeline.table([(9_000, Tick, vec!["nic 0: 2001:db8::2 asks all for 2001:db8::21"])]);
    // In answer to the question neither.
    timeline.machine.frame(now, FRONT, &frame, &mut out);
    timeline.table([(9_100, Tick, vec!["nic 0: 2001:db8::2 asks 21 for 2001:db8::21"])]);
    assert_eq!(timeline.machine.mac((FRONT, ip("2001:db8::21"))), Some(REAL));
}

#[test]
fn a_conflict_is_told_once_in_a_while_defended_and_over_when_it_is_silent() {
    let mut timeline = Timeline::new();
    timeline.run(1_000, Vips(&["192.0.2.10"]));
    timeline.run(2_000, Tick);
    let told = "conflict 192.0.2.10 with 99";
    let defends = "nic 0: tells all 192.0.2.10 is 01";
    timeline.table([
        (3_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![told]),
        (3_000, Tick, vec![defends]),
        (4_000, Answers(FRONT, OTHER, "192.0.2.10"), vec![]),
        (5_000, Asks(FRONT, OTHER, "192.0.2.10", "192.0.2.2"), vec![]),
        (5_000, Tick, vec![]),
        (13_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![told]),
        (13_000, Tick, vec![defends]),
        // The director's own frames, come back through a loop, or by its other NIC.
        (14_000, Tells(FRONT, DIRECTOR[0], "192.0.2.10"), vec![]),
        (14_000, Tells(FRONT, DIRECTOR[1], "192.0.2.10"), vec![]),
        (14_000, Asks(FRONT, DIRECTOR[0], "192.0.2.2", "192.0.2.10"), vec![]),
    ]);
    let [conflict] = timeline.machine.conflicts().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((conflict.count, conflict.other, conflict.cause), (4, OTHER, Cause::Stranger));
    assert_eq!(conflict.last - conflict.since, Duration::from_secs(10));
    assert_eq!(timeline.machine.counters().of(Refused::Looped), 3);
    assert_eq!(timeline.machine.deadline(), Some(timeline.start + Duration::from_secs(3) + CONFLICT_OVER));
    timeline.table([
        (72_999, Tick, vec![]),
        (73_000, Tick, vec!["over 192.0.2.10 with 99: 4 in 10s"]),
        (80_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![told]),
    ]);
}

/// While one director takes over from another both have the VIPs for a moment; who goes on to have them is told.
#[test]
fn the_partner_by_vrrp_is_no_intruder_for_as_long_as_a_takeover_takes() {
    let mut timeline = Timeline::new();
    let vips = [("192.0.2.10", Some(FRONT)), ("192.0.2.11", None)];
    let vips = vips.map(|(vip, nic)| Vip { nic, address: ip(vip) });
    timeline.machine.set_owned(timeline.start, nics(), vips.to_vec(), &mut Vec::new());
    timeline.machine.set_partner(FRONT, OTHER, Duration::from_millis(3600));
    timeline.run(2_000, Tick);
    timeline.table([
        (3_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![]),
        (4_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![]),
        // Again a little later is another moment.
        (13_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![]),
        (15_000, Tells(FRONT, OTHER, "192.0.2.10"), vec![]),
    ]);
    assert_eq!(timeline.machine.conflicts().count(), 0);
    timeline.table([
        (16_599, Tells(FRONT, OTHER, "192.0.2.10"), vec![]),
        (16_600, Tells(FRONT, OTHER, "192.0.2.10"), vec!["conflict 192.0.2.10 with 99"]),
        // What is not VRRP's is nobody else's for no moment, and others are no partners.
        (17_000, Tells(FRONT, OTHER, "192.0.2.11"), vec!["conflict 192.0.2.11 with 99"]),
    ]);
    let mut timeline = Timeline::new();
    timeline.machine.set_owned(timeline.start, nics(), vips[..1].to_vec(), &mut Vec::new());
    timeline.machine.set_partner(FRONT, REAL, Duration::from_millis(3600));
    timeline.table([(3_000, Tells(FRONT, OTHER, "192.0.2.10"), vec!["conflict 192.0.2.10 with 99"])]);
}

#[test]
fn a_conflict_names_who_it_is() {
    let mut timeline = Timeline::new();
    timeline.run(1_000, Vips(&["192.0.2.10", "2001:db8::10"]));
    timeline.run(2_000, Wanted(&[(FRONT, "192.0.2.21")]));
    timeline.run(2_100, Answers(FRONT, REAL, "192.0.2.21"));
    timeline.run(3_000, Tells(FRONT, REAL, "192.0.2.10"));
    timeline.run(3_500, Tells(FRONT, Mac([0, 0, 0x5e, 0, 1, 51]), "2001:db8::10"));
    let conflicts = timeline.machine.conflicts().map(|one| (one.address, one.cause));
    let conflicts: BTreeMap<_, _> = conflicts.collect();
    assert_eq!(conflicts[&ip("192.0.2.10")], Cause::Neighbour(Named::Real, ip("192.0.2.21")));
    assert_eq!(conflicts[&ip("2001:db8::10")], Cause::VirtualRouter(51));
    let text = timeline.machine.conflicts().find(|one| one.address.is_ipv4()).unwrap().to_string();
    assert!(text.contains("real server 192.0.2.21") && text.contains("arp_ignore=1"), "{text}");
}

/// Links of real servers are asked for the VIPs that these are checked at, also where the director does not answer for them.
#[test]
fn a_real_server_that_answers_for_a_vip_is_told_on_its_own_link() {
    let mut timeline = Timeline::new();
    timeline.run(1_000, Vips(&["192.0.2.10"]));
    timeline.run(1_000, Wanted(&[(BACK, "10.0.0.21")]));
    timeline.run(1_100, Answers(BACK, REAL, "10.0.0.21"));
    timeline.run(2_000, Tick);
    let at = |milliseconds| timeline.start + Duration::from_millis(milliseconds);
    let (set, gone) = (at(3_000), at(14_000));
    timeline.machine.set_checked(set, [(BACK, ip("192.0.2.10"))]);
    let asks = "nic 1: 10.0.0.2 asks all for 192.0.2.10";
    timeline.table([
        (3_999, Tick, vec![]),
        (4_000, Tick, vec![asks]),
        // Somebody else's answer, that of another director perhaps, is none of this.
        (4_010, Answers(BACK, OTHER, "192.0.2.10"), vec![]),
        (4_020, Answers(BACK, REAL, "192.0.2.10"), vec!["conflict 192.0.2.10 with 21"]),
        (8_999, Tick, vec![]),
        (9_000, Tick, vec![asks]),
        // It is told once in a while, and nobody is told that the VIP is here.
        (9_010, Answers(BACK, REAL, "192.0.2.10"), vec![]),
    ]);
    let [conflict] = timeline.machine.conflicts().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((conflict.nic, conflict.real()), (BACK, Some(ip("10.0.0.21"))));
    timeline.machine.set_checked(gone, []);
    assert_eq!(timeline.machine.conflicts().count(), 0);
    timeline.table([(14_500, Tick, vec![]), (14_600, Answers(BACK, REAL, "192.0.2.10"), vec![])]);
}

/// A host that has an address of the director's and announces nothing is heard of by a question alone.
#[test]
fn a_silent_host_with_an_address_of_the_directors_is_asked_for_and_told() {
    let mut timeline = Timeline::new();
    timeline.run(1_000, Vips(&["192.0.2.10", "2001:db8::10", "203.0.113.10"]));
    timeline.run(2_000, Tick);
    timeline.machine.look_for_others(timeline.start + Duration::from_millis(3_000));
    let mut asked: Vec<String> = (4_000..4_200).flat_map(|at| timeline.run(at, Tick)).collect();
    asked.sort();
    // Own addresses are asked for as nobody, or it would be an announcement. The VIP of no link is asked
    // for nowhere.
    let wanted = [
        "nic 0: 0.0.0.0 asks all for 192.0.2.2",
        "nic 0: 192.0.2.2 asks all for 192.0.2.10",
        "nic 0: 2001:db8::2 asks all for 2001:db8::10",
        "nic 0: :: asks all for 2001:db8::2",
        "nic 1: 0.0.0.0 asks all for 10.0.0.2",
        "nic 1: :: asks all for 2001:db8:b::2",
    ];
    assert_eq!(asked, wanted);
    timeline.table([
        (4_300, Answers(FRONT, OTHER, "192.0.2.10"), vec!["conflict 192.0.2.10 with 99"]),
        (4_300, Tick, vec!["nic 0: tells all 192.0.2.10 is 01"]),
        (4_301, Answers(BACK, OTHER, "10.0.0.2"), vec!["conflict 10.0.0.2 with 99"]),
        (4_301, Tick, vec!["nic 1: tells all 10.0.0.2 is 02"]),
    ]);
    let again: Vec<String> = (8_500..9_300).flat_map(|at| timeline.run(at, Tick)).collect();
    assert_eq!(again.iter().filter(|line| line.contains(" asks all for ")).count(), wanted.len());
    // What is no longer the director's is not asked for.
    timeline.run(9_400, Vips(&["192.0.2.11"]));
    timeline.machine.look_for_others(timeline.start + Duration::from_millis(9_400));
    let later: Vec<String> = (9_400..15_000).flat_map(|at| timeline.run(at, Tick)).collect();
    assert!(later.iter().any(|line| line.ends_with("asks all for 192.0.2.11")));
    assert!(!later.iter().any(|line| line.ends_with("asks all for 192.0.2.10")));
}

/// With very many addresses each is asked for more seldom, and neighbours are asked all the while.
#[test]
fn very_many_addresses_are_asked_for_one_after_the_other() {
    let mut timeline = Timeline::new();
    let vip =
        |number: u32| Vip { nic: Some(FRONT), address: IpAddr::from((0x0a40_0000 + number).to_be_bytes()) };
    let now = timeline.start + Duration::from_millis(2_000);
    timeline.machine.set_vips(now, (0..2_000).map(vip).collect(), &mut Vec::new());
    timeline.machine.look_for_others(now);
    let asks = |timeline: &mut Timeline, range: Range<u64>| {
        let lines = range.step_by(10).flat_map(|at| timeline.run(at, Tick)).collect::<Vec<_>>();
        lines.iter().filter(|line| line.contains(" asks all for ")).count()
    };
    let first = asks(&mut timeline, 2_000..13_000);
    assert!((950..1_050).contains(&first), "{first}");
    let all = asks(&mut timeline, 13_000..43_000);
    assert!((2_900..3_100).contains(&all), "{all}");
}

#[test]
fn conflicts_about_many_addresses_are_told_at_a_bounded_rate_and_vrrp_defends_its_own() {
    let mut timeline = Timeline::new();
    let now = timeline.start + Duration::from_secs(2);
    let vips = (0..200).map(|n| Vip { nic: Some(FRONT), address: IpAddr::from([192, 0, 2, 20 + n]) });
    timeline.machine.set_vips(now, vips.collect(), &mut Vec::new());
    for at in [3_000, 4_000] {
        timeline.run(at, Tick);
    }
    let mut out = Vec::new();
    for millisecond in 0..1_000 {
        let now = timeline.start + Duration::from_millis(5_000 + millisecond);
        let address = IpAddr::from([192, 0, 2, 20 + (millisecond % 200) as u8]);
        timeline.machine.frame(now, FRONT, &message::announcement(Speaker { mac: OTHER, address }), &mut out);
        timeline.machine.tick(now, &mut out);
    }
    let told = out.iter().map(show).filter(|line| line.starts_with("conflict")).count();
    assert!((20..=25).contains(&told), "{told}");
    assert_eq!(out.len(), told, "nothing is announced in VRRP's place");
}

#[test]
fn a_flood_for_many_addresses_stays_bounded_and_wanted_ones_pass() {
    let mut timeline = Timeline::new();
    let mut out = Vec::new();
    for n in 0..200_000_u32 {
        let now = timeline.start + Duration::from_millis(2_000 + u64::from(n) / 100);
        let address = IpAddr::from((u128::from(n) | 0x2001_0db8 << 96).to_be_bytes());
        timeline.machine.resolve(now, (FRONT, address), n, &mut out);
    }
    let machine = &mut timeline.machine;
    assert!(machine.neighbours().count() <= INCOMPLETE_PER_NIC_MAX);
    assert!(machine.waiting() <= WAITING_MAX);
    // 2 s of flood.
    assert!(out.len() <= (2 * REQUESTS_PER_SECOND_MAX + REQUESTS_BURST_MAX) as usize, "{}", out.len());
    assert!(machine.counters().asked_full > 190_000);
    let mut sent = timeline.run(4_300, Wanted(&[(BACK, "10.0.0.21")]));
    for at in [4_400, 4_500, 4_600] {
        sent.extend(timeline.run(at, Tick));
    }
    assert!(sent.contains(&"nic 1: 10.0.0.2 asks all for 10.0.0.21".to_owned()));
    for at in (5_000..12_000).step_by(100) {
        timeline.run(at, Tick);
    }
    assert_eq!(timeline.machine.neighbours().count(), 1, "all but the wanted one are forgotten");
    assert_eq!(timeline.machine.waiting(), 0);
}

#[test]
fn a_flood_of_askers_stays_bounded_and_who_answered_once_is_kept() {
    let mut timeline = Timeline::new();
    timeline.run(2_000, Wanted(&[(FRONT, "192.0.2.21")]));
    timeline.run(2_001, Answers(FRONT, REAL, "192.0.2.21"));
    timeline.run(2_002, Resolve(FRONT, "192.0.2.9", 1));
    timeline.run(2_003, Answers(FRONT, REAL, "192.0.2.9"));
    let mut out = Vec::new();
    let mut ask = |timeline: &mut Timeline, n: u32, at: u64| {
        let now = timeline.start + Duration::from_millis(at);
        let address = IpAddr::from((u128::from(n + 16) | 0x2001_0db8 << 96).to_be_bytes());
        let frame = message::request(Speaker { mac: OTHER, address }, ip("2001:db8::2"), None);
        timeline.machine.frame(now, FRONT, &frame, &mut out);
        out.clear();
    };
    for n in 0..40_000 {
        ask(&mut timeline, n, 2_100);
    }
    let full = NEIGHBOURS_DEFAULT as usize + 1;
    assert_eq!(timeline.machine.neighbours().count(), full, "the real server is beside them");
    assert_eq!(timeline.machine.counters().evicted, 0, "who came a moment ago stays");
    // The other NIC has its own share.
    timeline.run(2_100, Asks(BACK, OTHER, "10.0.0.99", "10.0.0.2"));
    assert_eq!(timeline.machine.neighbours().count(), full + 1);
    // A packet's neighbour has a place when it answers, and later ones that ask, too.
    timeline.run(2_101, Resolve(FRONT, "192.0.2.8", 1));
    assert_eq!(timeline.machine.neighbours().count(), full + 2);
    timeline.run(2_102, Answers(FRONT, REAL, "192.0.2.8"));
    assert_eq!(timeline.machine.neighbours().count(), full + 1);
    ask(&mut timeline, 50_000, 4_000);
    assert_eq!(timeline.machine.neighbours().count(), full + 1);
    assert_eq!(timeline.machine.counters().evicted, 2);
    for known in ["192.0.2.21", "192.0.2.9", "192.0.2.8"] {
        assert_eq!(timeline.machine.mac((FRONT, ip(known))), Some(REAL));
    }
    for millisecond in (7_000..60_000).step_by(50) {
        timeline.run(millisecond, Tick);
    }
    assert_eq!(timeline.machine.neighbours().count(), 1, "all but the real server");
}

/// Everybody answers, and there are more than places: who was used last has one.
#[test]
fn in_a_full_table_the_one_unused_longest_gives_way_to_who_answers() {
    let mut timeline = Timeline::new();
    timeline.machine.set_most(256);
    let host = |number: u64| format!("192.0.2.{}", number % 250 + 3);
    let [first, second, kept] = [250, 251, 252].map(|number| format!("2001:db8::{number}"));
    let mut at = 2_000;
    let mut comes = |timeline: &mut Timeline, address: &str| {
        at += 10;
        let key = (FRONT, ip(address));
        let now = timeline.start + Duration::from_millis(at);
        let mut out = Vec::new();
        timeline.machine.resolve(now, key, 0, &mut out);
        timeline.machine.frame(now, FRONT, &answer(FRONT, REAL, address), &mut out);
        let released = out.iter().filter(|output| matches!(output, Output::Release(_))).count();
        assert_eq!(released, 1, "{address}");
    };
    for address in [&first, &second, &kept] {
        comes(&mut timeline, address);
    }
    (0..250).for_each(|number| comes(&mut timeline, &host(number)));
    comes(&mut timeline, "2001:db8::3");
    comes(&mut timeline, "2001:db8::4");
    comes(&mut timeline, "2001:db8::5");
    assert_eq!((timeline.machine.neighbours().count(), timeline.machine.counters().evicted), (256, 0));
    // One that asks again is used; the others are not.
    timeline.run(9_000, Asks(FRONT, REAL, "2001:db8::252", "2001:db8::2"));
    let mut at = 9_000;
    for number in 0..254 {
        at += 10;
        let (now, address) = (timeline.start + Duration::from_millis(at), format!("2001:db8::1:{number}"));
        let mut out = Vec::new();
        timeline.machine.resolve(now, (FRONT, ip(&address)), 0, &mut out);
        timeline.machine.frame(now, FRONT, &answer(FRONT, REAL, &address), &mut out);
        assert!(out.iter().any(|output| matches!(output, Output::Release(_))), "{address}");
        assert_eq!(timeline.machine.neighbours().count(), 256);
        // Who only asks does not come in at the cost of who answered.
        timeline.run(at, Asks(FRONT, OTHER, "192.0.2.254", "192.0.2.2"));
        assert_eq!(timeline.machine.mac((FRONT, ip("192.0.2.254"))), None);
    }
    let known = |address: &str| timeline.machine.mac((FRONT, ip(address))).is_some();
    assert!(known(&kept) && !known(&first) && !known(&second) && !known(&host(0)));
    assert_eq!(timeline.machine.counters().evicted, 254);
    // With less room those that were used longest ago go as others come.
    timeline.machine.set_most(100);
    timeline.run(20_000, Resolve(FRONT, "192.0.2.9", 1));
    timeline.run(20_001, Answers(FRONT, REAL, "192.0.2.9"));
    assert_eq!(timeline.machine.neighbours().count(), 100);
}

/// A flood from addresses of nobody: whoever answers is known all the same, with the share of all packets that its own are.
#[test]
fn who_answers_is_known_in_a_flood_of_those_who_do_not() {
    for (flood_per_ms, packets_max) in [(1_u64, 1), (10, 40)] {
        let mut timeline = Timeline::new();
        timeline.run(1_000, Wanted(&[(BACK, "10.0.0.21")]));
        timeline.run(1_001, Answers(BACK, REAL, "10.0.0.21"));
        let (mut number, mut known, mut packets) = (0_u64, 0, 0);
        let mut asked_at = None;
        let client = |known: u8| format!("192.0.2.{}", 10 + known);
        for millisecond in 2_000..32_000_u64 {
            let now = timeline.start + Duration::from_millis(millisecond);
            let mut out = Vec::new();
            // The client's packet comes again and again, as its SYN does, somewhere among the others.
            let turn = millisecond.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let place = (millisecond % 150 == 0 && known < 8).then_some(turn % (flood_per_ms + 1));
            for one in 0..=flood_per_ms {
                number += 1;
                let nobody = IpAddr::from((u128::from(number) | 0x2001_0db8 << 96 | 1 << 64).to_be_bytes());
                let is_client = place == Some(one);
                let address = if is_client { ip(&client(known)) } else { nobody };
                packets += u32::from(is_client);
                timeline.machine.resolve(now, (FRONT, address), 0, &mut out);
            }
            timeline.machine.tick(now, &mut out);
            let asks = format!("asks all for {}", client(known));
            if out.iter().map(show).any(|line| line.ends_with(&asks)) {
                asked_at = Some(millisecond);
            }
            // It takes 50 ms to answer.
            if asked_at == Some(millisecond - 50) {
                let said = client(known);
                timeline.machine.frame(now, FRONT, &answer(FRONT, REAL, &said), &mut Vec::new());
                let is_known = timeline.machine.mac((FRONT, ip(&said))).is_some();
                assert!(is_known, "{said} was forgotten before it answered");
                assert!(packets <= packets_max, "{said} needed {packets} packets");
                (known, asked_at, packets) = (known + 1, None, 0);
            }
            assert!(timeline.machine.neighbours().count() <= INCOMPLETE_PER_NIC_MAX + 9);
        }
        assert_eq!(known, 8, "at {flood_per_ms} of the flood in a millisecond");
        assert_eq!(timeline.machine.mac((BACK, ip("10.0.0.21"))), Some(REAL));
    }
}

/// Very many real servers, dead ones among them, leave room for the questions that packets wait for, and are asked more seldom.
#[test]
fn very_many_named_neighbours_leave_room_for_others() {
    let mut timeline = Timeline::new();
    let named = |n: u32| (BACK, IpAddr::from((0x0a01_0000 + n).to_be_bytes()));
    let mut out = Vec::new();
    let mut now = timeline.start + Duration::from_millis(2_000);
    timeline.machine.set_named(now, (0..20_000).map(|n| (named(n), Named::Real)), [], &mut out);
    let (mut questions, mut late) = (0_u64, Duration::ZERO);
    let mut wanted: Option<(String, Instant)> = None;
    for step in 0..60_000_u32 {
        now += Duration::from_millis(1);
        out.clear();
        // A packet for a new neighbour, each 500 ms.
        if step % 500 == 0 {
            let address = IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(step)).to_be_bytes());
            timeline.machine.resolve(now, (FRONT, address), 0, &mut out);
            wanted = Some((format!("asks all for {address}"), now));
        }
        timeline.machine.tick(now, &mut out);
        for output in &out {
            let Output::Transmit { nic, frame } = output else { continue };
            questions += 1;
            let Ok(Message::Request { target, sender, .. }) = Message::parse(frame, REAL) else { continue };
            let told = wanted.as_ref().filter(|(line, _)| line.ends_with(&format!(" {target}")));
            if let Some((_, since)) = told {
                late = late.max(now - *since);
                wanted = None;
            }
            // Four of five answer.
            let IpAddr::V4(real) = target else { continue };
            if *nic == BACK && real.to_bits() % 5 != 0 {
                let reply = message::reply(Speaker { mac: REAL, address: target }, sender, DIRECTOR[1]);
                timeline.machine.frame(now, BACK, &reply, &mut Vec::new());
            }
        }
    }
    let known = (0..20_000).filter(|n| timeline.machine.mac(named(*n)).is_some()).count();
    assert_eq!(known, 16_000);
    assert!(late < Duration::from_millis(20), "a question that a packet waited for was {late:?} late");
    assert!(questions < 60 * u64::from(REQUESTS_PER_SECOND_MAX) * 9 / 10, "{questions}");
}

#[test]
fn the_oldest_packet_gives_way() {
    let mut timeline = Timeline::new();
    for packet in 0..WAITING_PER_NEIGHBOUR_MAX as u32 + 2 {
        timeline.run(2_000, Resolve(FRONT, "192.0.2.9", packet));
    }
    let out = timeline.run(2_001, Answers(FRONT, REAL, "192.0.2.9"));
    assert_eq!(out[1], "release 2");
    assert_eq!(out.len(), 1 + WAITING_PER_NEIGHBOUR_MAX);
    assert_eq!(timeline.machine.counters().waiting_full, 2);
}

#[test]
fn many_wanted_neighbours_are_asked_at_a_bounded_rate() {
    let mut timeline = Timeline::new();
    let wanted =
        (1..=5_000_u32).map(|n| ((BACK, IpAddr::from((0x0a01_0000 + n).to_be_bytes())), Named::Real));
    let mut out = Vec::new();
    let mut now = timeline.start + Duration::from_millis(2_000);
    timeline.machine.set_named(now, wanted, [], &mut out);
    assert_eq!(out.len(), REQUESTS_BURST_MAX as usize);
    while out.len() < 5_000 {
        let deadline = timeline.machine.deadline().unwrap();
        assert!(deadline > now, "the driver would spin");
        now = deadline;
        timeline.machine.tick(now, &mut out);
    }
    let took = now - timeline.start - Duration::from_millis(2_000);
    assert!(took > Duration::from_millis(2_300) && took < Duration::from_millis(2_500), "{took:?}");
}

proptest! {
    #[test]
    fn random_frames_and_times_keep_the_bounds(
        steps in proptest::collection::vec(
            (0_u64..2_000, 0_usize..5, proptest::collection::vec(any::<u8>(), 0..100), 0_u8..8, 0_usize..4),
            0..200,
        )
    ) {
        let mut timeline = Timeline::new();
        timeline.run(1_000, Vips(&["192.0.2.10"]));
        let mut at = 2_000;
        let mut packets = (0, 0);
        for (later, kind, mut bytes, host, cut) in steps {
            at += later;
            let now = timeline.start + Duration::from_millis(at);
            let mac = Mac([2, 0, 0, 0, 1, host]);
            let address = ip(&format!("192.0.2.{}", host + 4));
            let mut out = Vec::new();
            match kind {
                0 => {
                    timeline.machine.frame(now, FRONT, &bytes, &mut out);
                }
                // Right ARP and discovery frames with a byte changed or the end cut off.
                1 | 2 => {
                    let mut frame = if kind == 1 {
                        message::request(Speaker { mac, address }, ip("192.0.2.10"), None)
                    } else {
                        answer(FRONT, mac, &format!("2001:db8::{host}"))
                    };
                    if let Some(byte) = bytes.pop() {
                        let place = bytes.len() % frame.len();
                        frame[place] = byte;
                    }
                    frame.truncate(frame.len() - cut * 7);
                    timeline.machine.frame(now, FRONT, &frame, &mut out);
                }
                3 => {
                    packets.0 += 1;
                    timeline.machine.resolve(now, (FRONT, address), 0, &mut out);
                }
                _ => timeline.machine.tick(now, &mut out),
            }
            packets.1 += out.iter().filter(|output| matches!(output, Output::Release(_))).count();
            let machine = &timeline.machine;
            let counters = machine.counters();
            let dropped = counters.unresolved + counters.waiting_full + counters.asked_full + counters.circling;
            prop_assert_eq!(packets.0, packets.1 + machine.waiting() + dropped as usize, "packets balance");
            let mut index = Index::default();
            machine.entries.iter().for_each(|(key, entry)| index.add(*key, Marks::of(entry)));
            prop_assert_eq!(&machine.index, &index);
        }
    }

    /// The director was not asked to ask: whatever is heard, no MAC that the file names and none that answered changes.
    #[test]
    fn nothing_heard_changes_a_mac_without_a_question(
        frames in proptest::collection::vec(
            (0_u64..3_000, 0_usize..5, 0_u8..4, 0_u8..4, any::<bool>(), any::<bool>()),
            1..100,
        )
    ) {
        let mut timeline = Timeline::new();
        timeline.run(1_000, Vips(&["192.0.2.10", "2001:db8::10"]));
        let wanted: Vec<Key> = ["192.0.2.21", "2001:db8::21"].map(|one| (FRONT, ip(one))).to_vec();
        let told: Vec<Key> = ["192.0.2.22", "2001:db8::22"].map(|one| (FRONT, ip(one))).to_vec();
        let now = timeline.start + Duration::from_millis(2_000);
        let mut out = Vec::new();
        timeline.machine.set_named(
            now,
            wanted.iter().map(|key| (*key, Named::Real)),
            told.iter().map(|key| (*key, REAL)),
            &mut out,
        );
        timeline.run(2_001, Answers(FRONT, REAL, "192.0.2.21"));
        timeline.run(2_001, Answers(FRONT, REAL, "2001:db8::21"));
        let mut asked: HashSet<IpAddr> = HashSet::new();
        let mut at = 2_002;
        for (later, kind, host, mac, v6, overrides) in frames {
            at += later;
            let now = timeline.start + Duration::from_millis(at);
            let mac = Mac([2, 0, 0, 0, 1, mac]);
            let prefix = if v6 { "2001:db8::" } else { "192.0.2." };
            let address = ip(&format!("{prefix}{}", 20 + host));
            let speaker = Speaker { mac, address };
            let mut frame = match kind {
                0 => message::announcement(speaker),
                1 => message::request(speaker, ip(&format!("{prefix}{}", 10)), None),
                2 => message::request(speaker, ip(&format!("{prefix}{}", 99)), Some(DIRECTOR[0])),
                _ => answer(FRONT, mac, &address.to_string()),
            };
            if v6 && !overrides && frame[54] == 136 && frame[58] & 0x20 != 0 {
                frame[58] &= !0x20;
                let (sum, over) = u16::from_be_bytes([frame[56], frame[57]]).overflowing_add(0x2000);
                frame[56..58].copy_from_slice(&(sum + u16::from(over)).to_be_bytes());
            }
            let mut out = Vec::new();
            timeline.machine.frame(now, FRONT, &frame, &mut out);
            for key in &told {
                prop_assert_eq!(timeline.machine.mac(*key), Some(REAL));
            }
            for key in wanted.iter().filter(|key| !asked.contains(&key.1)) {
                prop_assert_eq!(timeline.machine.mac(*key), Some(REAL));
            }
            let mut sent = Vec::new();
            timeline.machine.tick(now, &mut sent);
            for line in sent.iter().map(show).filter(|line| line.contains(" asks ")) {
                asked.extend(line.rsplit(' ').next().and_then(|target| target.parse::<IpAddr>().ok()));
            }
            prop_assert!(timeline.machine.neighbours().count() <= 16);
        }
    }
}

#[test]
fn what_is_named_comes_a_bounded_number_at_a_time() {
    let start = Instant::now();
    let mut machine: Machine<u8> = Machine::new(start);
    let nic = Nic { mac: DIRECTOR[0], addresses: vec!["10.0.0.1/8".parse().unwrap()] };
    machine.set_owned(start, vec![nic], Vec::new(), &mut Vec::new());
    let key =
        |number: usize| (NicId(0), IpAddr::from([10, 1, (number / 250) as u8, (number % 250) as u8 + 1]));
    let count = 10 * NAMED_PER_STEP_MAX;
    let steps = |machine: &mut Machine<u8>, wanted: Range<usize>, learned: usize| {
        machine.begin_naming(wanted.map(|number| (key(number), Named::Real)).collect(), [].into());
        let (mut steps, mut before, mut out) = (0, machine.neighbours().count(), Vec::new());
        // A packet needs one that is still to come.
        machine.resolve(start, key(learned), 0, &mut out);
        before += 1;
        while machine.go_on_naming(start, &mut out) {
            let now = machine.neighbours().count();
            assert!(now.abs_diff(before) <= NAMED_PER_STEP_MAX);
            (steps, before) = (steps + 1, now);
        }
        steps
    };
    assert_eq!(steps(&mut machine, 0..count, count - 1), 11);
    let named = |machine: &Machine<u8>| machine.neighbours().filter(|one| one.named.is_some()).count();
    assert_eq!((machine.neighbours().count(), named(&machine)), (count, count));
    // Those that go and those that come, and the one that was learned.
    assert_eq!(steps(&mut machine, count..2 * count, 2 * count - 1), 21);
    assert_eq!((machine.neighbours().count(), named(&machine)), (count, count));
}

/// Behind a link that was down there may be others: they are asked, though nothing was heard of them.
#[test]
fn a_link_that_is_back_has_its_neighbours_asked() {
    for (who, what) in [(OTHER, Some("nic 1: 10.0.0.21 at 99")), (REAL, None)] {
        let mut timeline = Timeline::new();
        timeline.run(1_000, Wanted(&[(BACK, "10.0.0.21")]));
        timeline.run(1_001, Answers(BACK, REAL, "10.0.0.21"));
        assert_eq!(timeline.run(3_000, LinkBack(FRONT)), Vec::<String>::new());
        assert_eq!(timeline.run(3_000, Tick), Vec::<String>::new(), "another NIC's");
        timeline.run(3_001, LinkBack(BACK));
        assert_eq!(timeline.run(3_001, Tick), ["nic 1: 10.0.0.2 asks all for 10.0.0.21"]);
        let mut told = timeline.run(3_002, Answers(BACK, who, "10.0.0.21"));
        told.extend(timeline.run(3_500, Tick));
        let changes: Vec<_> = told.iter().filter(|line| line.contains(" at ")).map(String::as_str).collect();
        assert_eq!(changes, what.into_iter().collect::<Vec<_>>());
    }
}

/// Nobody heard what was asked while the link was down, so nobody is silent for it.
#[test]
fn questions_into_a_dead_link_do_not_count() {
    let mut timeline = Timeline::new();
    timeline.run(1_000, Wanted(&[(BACK, "10.0.0.21")]));
    timeline.run(1_001, Answers(BACK, REAL, "10.0.0.21"));
    let mut asked = 0;
    let mut at = 1_001;
    while asked < PROBES_MAX {
        at += 100;
        asked += timeline.run(at, Tick).iter().filter(|line| line.contains("asks")).count() as u32;
    }
    timeline.run(at + 1, LinkBack(BACK));
    assert_eq!(timeline.run(at + 1, Tick), ["nic 1: 10.0.0.2 asks all for 10.0.0.21"]);
    assert_eq!(timeline.machine.neighbours().next().unwrap().mac, Some(REAL));
    // Nor for what waited without a MAC.
    let mut timeline = Timeline::new();
    timeline.run(1_000, Wanted(&[(BACK, "10.0.0.21")]));
    timeline.run(2_000, Tick);
    timeline.run(3_000, Tick);
    timeline.run(3_500, LinkBack(BACK));
    assert_eq!(timeline.run(3_500, Tick), ["nic 1: 10.0.0.2 asks all for 10.0.0.21"]);
}
