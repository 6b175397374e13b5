//! What holds for any traffic: bursts change nothing, books balance, workers agree, nothing panics, and what is sent
//! is well formed.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use shunt_dataplane::forward::{BURST_MAX, Verdict};
use shunt_dataplane::id::{Mac, WorkerId};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::masquerade::MasqueradeRule;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_model::ipvsadm::table::Table;
use shunt_tests::director::{Arrival, Director, Outcome};
use shunt_tests::network;
use shunt_tests::oracle::compare::masked;
use shunt_tests::oracle::ipvsadm::table;
use shunt_tests::{invariants, text, traffic};

const CONNECTIONS: u32 = 256;

fn director(workers: u8, connections: u32, scheduler: Scheduler) -> Director {
    let masquerade = |from: &str| MasqueradeRule {
        from: from.parse().unwrap(),
        to: None,
        except: None,
        nic: Some(network::FRONT),
        address: None,
    };
    let masquerades = ["10.1.0.0/30", "2001:db8:1::/64", "10.1.0.12/30"].map(masquerade).to_vec();
    let mut plan = Plan { masquerades, ..network::plan(traffic::services(scheduler, 3)) };
    plan.sysctls.schedule_icmp = true;
    Director::new(workers, connections, plan)
}

fn scheduler() -> impl Strategy<Value = Scheduler> {
    select(Scheduler::ALL.to_vec())
}

/// A little time, or enough for short and for long timeouts.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        20 => (0_u64..30).prop_map(Duration::from_millis),
        2 => Just(Duration::from_secs(11)),
        1 => Just(Duration::from_secs(121)),
    ]
}

/// Everything that two directors which did the same agree in.
fn state(director: &Director) -> (Vec<String>, Vec<String>, Table) {
    let counters = director.workers().iter().map(|worker| format!("{:?}", worker.counters())).collect();
    (director.connections(), counters, table(director))
}

/// What can change in a running configuration.
#[derive(Clone, Debug)]
enum Edit {
    /// Nothing.
    Nothing,
    /// The weight of a real server of a service.
    Weight(usize, usize, u32),
    /// The health of one.
    Up(usize, usize, bool),
    /// One goes, or comes back as the last one.
    Remove(usize),
    /// A neighbour is forgotten, or known again.
    Neighbour(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Nothing),
        (0..12_usize, 0..3_usize, 0..4_u32)
            .prop_map(|(service, real, weight)| Edit::Weight(service, real, weight)),
        (0..12_usize, 0..3_usize, any::<bool>()).prop_map(|(service, real, up)| Edit::Up(service, real, up)),
        (0..12_usize).prop_map(Edit::Remove),
        (0..10_usize).prop_map(Edit::Neighbour),
    ]
}

fn apply(edit: &Edit, plan: &mut Plan) {
    let all = network::plan(traffic::services(Scheduler::Rr, 3));
    match *edit {
        Edit::Nothing => {}
        Edit::Weight(service, real, weight) => {
            if let Some(real) = plan.services[service].reals.get_mut(real) {
                real.weight = weight;
            }
        }
        Edit::Up(service, real, up) => {
            if let Some(real) = plan.services[service].reals.get_mut(real) {
                real.up = up;
            }
        }
        Edit::Remove(service) => {
            let reals = &mut plan.services[service].reals;
            let missing = all.services[service]
                .reals
                .iter()
                .find(|real| reals.iter().all(|other| other.address != real.address));
            match missing {
                Some(real) => reals.push(real.clone()),
                None => drop(reals.remove(0)),
            }
        }
        Edit::Neighbour(number) => {
            let neighbour = &all.neighbours[number];
            let before = plan.neighbours.len();
            plan.neighbours.retain(|other| other != neighbour);
            if plan.neighbours.len() == before {
                plan.neighbours.push(neighbour.clone());
            }
        }
    }
}

proptest! {
    /// A burst of n gives what n single packets give: same frames, verdicts, connections, counters.
    #[test]
    fn bursts_change_nothing(
        scheduler in scheduler(),
        connections in select(vec![4, CONNECTIONS]),
        bursts in vec((vec(traffic::any_frame(), 1..=BURST_MAX), pause()), 1..5),
    ) {
        let mut together = director(1, connections, scheduler);
        let mut singly = director(1, connections, scheduler);
        for (burst, pause) in bursts {
            let want = burst.iter().map(|arrival| singly.take(arrival.nic, &arrival.frame)).collect::<Vec<_>>();
            let got = together.burst(WorkerId(0), &burst);
            for ((want, got), arrival) in want.iter().zip(&got).zip(&burst) {
                prop_assert_eq!(want, got, "{}", text::frame(&arrival.frame));
            }
            prop_assert_eq!(state(&singly), state(&together));
            singly.advance(pause);
            together.advance(pause);
        }
    }

    /// Frames to the MAC of a virtual router, among others to the NIC's own, become what they become there.
    #[test]
    fn a_virtual_mac_is_as_good(
        scheduler in scheduler(),
        bursts in vec(vec((traffic::any_frame(), any::<bool>()), 1..=BURST_MAX), 1..5),
    ) {
        let mut own = director(1, CONNECTIONS, scheduler);
        let mut both = director(1, CONNECTIONS, scheduler);
        let mut backup = director(1, CONNECTIONS, scheduler);
        let virtual_mac = Mac([0, 0, 0x5e, 0, 1, 51]);
        for director in [&mut own, &mut both] {
            director.publish(|plan| plan.nics.iter_mut().for_each(|nic| nic.virtual_macs = vec![virtual_mac]));
        }
        for burst in bursts {
            let (plain, mixed): (Vec<Arrival>, Vec<Arrival>) = burst.into_iter().map(|(arrival, moves)| {
                let mut frame = arrival.frame.clone();
                if moves && frame.starts_with(&network::nic_mac(arrival.nic).0) {
                    frame[..6].copy_from_slice(&virtual_mac.0);
                }
                let moved = Arrival { nic: arrival.nic, frame };
                (arrival, moved)
            }).unzip();
            let want = own.burst(WorkerId(0), &plain);
            let got = both.burst(WorkerId(0), &mixed);
            for ((want, got), arrival) in want.iter().zip(&got).zip(&mixed) {
                prop_assert_eq!(want.verdict, got.verdict, "{}", text::frame(&arrival.frame));
                prop_assert_eq!(want.frame.get(12..), got.frame.get(12..), "{}", text::frame(&arrival.frame));
            }
            prop_assert_eq!(own.connections(), both.connections());
            // Not master: they are another director's.
            for arrival in mixed.iter().filter(|arrival| arrival.frame.starts_with(&virtual_mac.0)) {
                let outcome = backup.take(arrival.nic, &arrival.frame);
                let short = arrival.frame.len() < 14;
                let reason = if short { DropReason::Truncated } else { DropReason::OtherMac };
                prop_assert_eq!(outcome.verdict, Verdict::Drop(reason));
            }
        }
    }

    /// Whatever comes and whatever changes: nothing panics, each packet has its place in the books, each drop its
    /// reason, and what leaves is well formed.
    #[test]
    fn books_balance_and_nothing_panics(
        scheduler in scheduler(),
        workers in 1_u8..=3,
        connections in select(vec![1, 8, CONNECTIONS]),
        replies in select(vec![0, 3, 1_000_000]),
        turns in vec((0..3_u8, vec(traffic::any_frame(), 1..20), edit(), pause()), 1..12),
    ) {
        let mut director = director(workers, connections, scheduler);
        director.publish(|plan| plan.replies_per_second = replies);
        for (queue, frames, edit, pause) in turns {
            let dropped = |director: &Director, reason: DropReason| {
                director.workers().iter().map(|worker| worker.counters().dropped.at(reason as usize).get()).sum::<u64>()
            };
            let before = DropReason::ALL.iter().map(|&reason| dropped(&director, reason)).collect::<Vec<_>>();
            let outcomes = director.burst(WorkerId(queue % workers), &frames);
            for (outcome, arrival) in outcomes.iter().zip(&frames) {
                invariants::well_formed(director.plan(), outcome);
                invariants::leaves_for_its_own(director.plan(), arrival, outcome);
                invariants::nothing_passes_without_rules(director.plan(), arrival, outcome);
            }
            for (&reason, before) in DropReason::ALL.iter().zip(before) {
                let here = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Drop(reason)).count() as u64;
                prop_assert_eq!(dropped(&director, reason) - before, here, "{}", reason.word());
            }
            invariants::books_balance(&director);
            director.publish(|plan| apply(&edit, plan));
            director.advance(pause);
            invariants::books_balance(&director);
        }
    }

    /// What `explain` says comes about, and asking changes nothing.
    #[test]
    fn explanations_come_true(scheduler in scheduler(), frames in vec(traffic::any_frame(), 1..100)) {
        let mut asked = director(1, 8, scheduler);
        let mut unasked = director(1, 8, scheduler);
        for arrival in frames {
            let last = asked.explain(&arrival).pop();
            let outcome = asked.take(arrival.nic, &arrival.frame);
            prop_assert!(invariants::comes_true(last.as_ref(), outcome.verdict), "{last:?}, but {:?}", outcome.verdict);
            prop_assert_eq!(&unasked.take(arrival.nic, &arrival.frame), &outcome);
            prop_assert_eq!(state(&asked), state(&unasked));
        }
    }

    /// Noise alone, much of it.
    #[test]
    fn bad_frames_get_a_verdict(frames in vec(traffic::bad(), 1..200)) {
        let mut director = director(1, CONNECTIONS, Scheduler::Wlc);
        for arrival in frames {
            let outcome = director.take(arrival.nic, &arrival.frame);
            invariants::well_formed(director.plan(), &outcome);
            invariants::leaves_for_its_own(director.plan(), &arrival, &outcome);
            invariants::nothing_passes_without_rules(director.plan(), &arrival, &outcome);
        }
        invariants::books_balance(&director);
    }

    /// Two and three workers give the same whichever queue a packet arrives at.
    #[test]
    fn queues_change_nothing(
        scheduler in scheduler(),
        workers in 2_u8..=3,
        frames in vec((traffic::any_frame(), 0..3_u8, 0..3_u8), 1..150),
    ) {
        let mut one = director(workers, CONNECTIONS, scheduler);
        let mut other = director(workers, CONNECTIONS, scheduler);
        for (arrival, queue, other_queue) in &frames {
            let want = take_at(&mut one, *queue, arrival);
            prop_assert_eq!(&want, &take_at(&mut other, *other_queue, arrival), "{}", text::frame(&arrival.frame));
        }
        prop_assert_eq!(one.connections(), other.connections());
        prop_assert_eq!(table(&one), table(&other));
    }

    /// Two and three workers give what one gives, with the schedulers that do not keep a place of their own in the list.
    #[test]
    fn workers_change_nothing(
        scheduler in select(vec![Scheduler::Lc, Scheduler::Wlc, Scheduler::Sh]),
        workers in 2_u8..=3,
        frames in vec((traffic::any_frame(), 0..3_u8), 1..150),
    ) {
        let mut one = director(1, CONNECTIONS, scheduler);
        let mut many = director(workers, CONNECTIONS, scheduler);
        for (arrival, queue) in &frames {
            let want = take_at(&mut one, 0, arrival);
            prop_assert_eq!(&want, &take_at(&mut many, *queue, arrival), "{}", text::frame(&arrival.frame));
        }
        prop_assert_eq!(one.connections(), many.connections());
        prop_assert_eq!(table(&one), table(&many));
        prop_assert_eq!(many.held(), 0);
    }
}

/// Takes a frame at a queue; of what leaves, without what each worker counts for itself (identification).
fn take_at(director: &mut Director, queue: u8, arrival: &Arrival) -> Outcome {
    let worker = WorkerId(queue % director.workers().len() as u8);
    let outcome = director.take_at(worker, arrival.nic, &arrival.frame);
    let more = outcome.more.into_iter().map(|(nic, frame)| (nic, masked(&frame))).collect();
    Outcome { frame: masked(&outcome.frame), more, ..outcome }
}
