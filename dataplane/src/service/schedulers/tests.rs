//! The schedulers against recordings of the kernel (6.1), and what holds for all of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::counters::RealCounters;
use crate::id::{Protocol, ServiceId, WorkerId};
use crate::service::{Overload, Settings, Thresholds};

/// A service under one worker, with counts moved as a director moves them.
struct Director {
    scheduler: Scheduler,
    /// In the order of addition.
    reals: Vec<(RealId, u32)>,
    counters: Vec<RealCounters>,
    edition: u64,
    service: Option<Service>,
    cursor: Cursor,
    flags: Flags,
    /// The real servers that reached their limit.
    overloaded: Vec<u32>,
    localities: Localities,
}

const NOW: Tick = Tick(1000);

impl Director {
    fn new(scheduler: Scheduler, weights: &[u32]) -> Self {
        let counters = (0..16).map(|_| RealCounters::new(1)).collect();
        let mut director = Self {
            scheduler,
            reals: (1..).map(RealId).zip(weights.iter().copied()).collect(),
            counters,
            edition: 0,
            service: None,
            cursor: Cursor::default(),
            flags: Flags::default(),
            overloaded: Vec::new(),
            localities: Localities::default(),
        };
        director.publish();
        director
    }

    /// Publishes a new edition.
    fn publish(&mut self) {
        self.edition += 1;
        self.republish();
    }

    /// Publishes what holds, with the same edition.
    fn republish(&mut self) {
        let counters = &self.counters;
        let candidate = |&(real, weight): &(RealId, u32)| {
            let counters = counters[real.index()].clone();
            let address = SocketAddr::from(([10, 1, 0, 10 + real.0 as u8], 80));
            let last = (self.service.as_ref())
                .and_then(|service| service.candidates.iter().find(|candidate| candidate.real == real));
            let last_weight = if weight > 0 { weight } else { last.map_or(0, |last| last.last_weight) };
            let overload = self.overloaded.contains(&real.0).then(|| Overload {
                thresholds: Thresholds { upper: 1, lower: 1 },
                overloaded: Arc::new(true.into()),
            });
            Candidate { real, address, weight, last_weight, overload, counters }
        };
        let candidates = self.reals.iter().rev().map(candidate).collect::<Box<[_]>>();
        self.service = Some(Service {
            id: ServiceId(0),
            name: "web".into(),
            listen: SocketAddr::from(([10, 0, 0, 100], 80)),
            protocol: Protocol::Tcp,
            scheduler: self.scheduler,
            settings: Settings { flags: self.flags, ..Settings::default() },
            lookup: Lookup::compile(
                self.scheduler,
                Family::V4,
                &candidates,
                self.edition,
                self.service.as_ref(),
            ),
            candidates,
            edition: self.edition,
        });
    }

    fn add(&mut self, real: u32, weight: u32) {
        self.reals.push((RealId(real), weight));
        self.publish();
    }

    fn delete(&mut self, real: u32) {
        self.reals.retain(|&(other, _)| other != RealId(real));
        self.publish();
    }

    fn edit(&mut self, real: u32, weight: u32) {
        self.reals.iter_mut().filter(|(other, _)| *other == RealId(real)).for_each(|entry| entry.1 = weight);
        self.publish();
    }

    /// Schedules a connection from client 198.51.100.`client`, which counts as active; 0 when there is no real server.
    fn open(&mut self, client: u8) -> u32 {
        let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100, client));
        let service = self.service.as_ref().unwrap();
        let destination = service.listen.ip();
        let client = Client { address, l4_port: L4Port(50_000), destination };
        let Some(choice) = choose(service, &self.cursor, &self.localities, &client, NOW) else {
            return 0;
        };
        self.cursor = choice.cursor;
        self.localities.learn(service, destination, choice.learned, NOW);
        let chosen = &service.candidates[choice.candidate];
        chosen.counters.of(WorkerId(0)).active.add(1);
        chosen.real.0
    }

    /// A connection to a real server counts as inactive from now on.
    fn close(&self, real: u32) {
        if let Some(counters) = self.counters.get(real as usize).filter(|_| real > 0) {
            counters.of(WorkerId(0)).active.subtract(1);
            counters.of(WorkerId(0)).inactive.add(1);
        }
    }
}

fn recorded(digits: &str) -> Vec<u32> {
    digits.chars().filter_map(|digit| digit.to_digit(10)).collect()
}

/// 60 connections, weights 3 1 4 2; the first 10 close after 30; before the 46th real 3 gets weight 0 and real
/// 2 weight 5.
fn sixty(scheduler: Scheduler, republish: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut director = Director::new(scheduler, &[3, 1, 4, 2]);
    let mut chosen = Vec::new();
    for connection in 0..60 {
        if connection == 30 {
            chosen[..10].iter().for_each(|&real| director.close(real));
        }
        if connection == 45 {
            director.edit(3, 0);
            director.edit(2, 5);
        }
        if republish(connection) {
            director.republish();
        }
        let client = if connection < 45 { connection % 7 * 29 + 1 } else { connection };
        chosen.push(director.open(client as u8));
    }
    chosen
}

/// What the kernel chose of the real servers 1 to 4; 0 is an ICMP error.
const SIXTY: [(Scheduler, &str); 13] = [
    (Scheduler::Rr, "4321432143214321 4321432143214321 4321432143214 21421421421421 4"),
    (Scheduler::Wrr, "4321331431 4321331431 4321331431 4321331431 43213 214214212221421"),
    (Scheduler::Lc, "4321432143214321 4321432143214321 4321432143214 21421421421421 4"),
    (Scheduler::Wlc, "4321314313 4321314313 4321314313 4321314313 43213 222222222222212"),
    (Scheduler::Sh, "2233333 2233333 2233333 2233333 2233333 2233333 223 044224412241122"),
    (Scheduler::Lblc, "444333332211111111111111111111333334442222222 222222222222222"),
    (Scheduler::Lblcr, "444333332211113134131234313413243342334313423 222222222222212"),
    (Scheduler::Dh, "444444444444444444444444444444444444444444444 444444444444444"),
    (Scheduler::Mh, "434213343421334342133434213343421334342133434 010022400211224"),
    (Scheduler::Sed, "314313432131431343213143134321314313432131431 222222222222222"),
    (Scheduler::Nq, "432131343131431343213143134321314313432131431 222222222222222"),
    (Scheduler::Fo, "333333333333333333333333333333333333333333333 222222222222222"),
    (Scheduler::Ovf, "333331111444220000000000000000333331111400000 222200000000000"),
];

#[test]
fn sixty_connections_as_the_kernel() {
    for (scheduler, digits) in SIXTY {
        assert_eq!(sixty(scheduler, |_| false), recorded(digits), "{scheduler}");
    }
}

#[test]
fn publishing_without_a_change_changes_no_choice() {
    for (scheduler, digits) in SIXTY {
        assert_eq!(sixty(scheduler, |_| true), recorded(digits), "{scheduler}");
        for only in 0..60 {
            assert_eq!(sixty(scheduler, |at| at == only), recorded(digits), "{scheduler} before {only}");
        }
    }
}

#[test]
fn real_servers_come_and_go_as_in_the_kernel() {
    for (scheduler, digits) in [
        (Scheduler::Wrr, "3213332321 43214 54321 5432354354 1543215432"),
        (Scheduler::Wlc, "3213231323 44444 55555 3235423543 1111111112"),
        (Scheduler::Sh, "2332323323 24324 44134 5342423535 3333444411"),
        (Scheduler::Mh, "1322313121414413334535324435331145311154"),
    ] {
        let mut director = Director::new(scheduler, &[2, 3, 5]);
        let mut chosen = Vec::new();
        for connection in 0..40 {
            match connection {
                10 => director.add(4, 4),
                15 => director.add(5, 4),
                20 => director.delete(1),
                30 => director.add(1, 6),
                _ => {}
            }
            chosen.push(director.open(connection as u8 * 5 + 1));
        }
        assert_eq!(chosen, recorded(digits), "{scheduler}");
    }
}

#[test]
fn flags_as_the_kernel() {
    let fallback = Flags { fallback: true, ..Flags::default() };
    for (scheduler, digits) in [
        (Scheduler::Sh, "2233333 2233333 2233333 2233333 2233333 2233333 223 244224412241122"),
        (Scheduler::Mh, "4342133 4342133 4342133 4342133 4342133 4342133 434 214222412211224"),
    ] {
        let mut director = Director::new(scheduler, &[3, 1, 4, 2]);
        director.flags = fallback;
        director.republish();
        let first = (0..45).map(|connection| director.open(connection % 7 * 29 + 1)).collect::<Vec<_>>();
        director.edit(3, 0);
        director.edit(2, 5);
        let rest = (45..60).map(|connection| director.open(connection));
        assert_eq!(first.into_iter().chain(rest).collect::<Vec<_>>(), recorded(digits), "{scheduler}");
    }
}

#[test]
fn an_overloaded_real_is_passed_over() {
    for &scheduler in Scheduler::ALL {
        let mut director = Director::new(scheduler, &[1, 8]);
        director.flags.fallback = true;
        director.overloaded = vec![2];
        director.publish();
        let chosen = [(); 3].map(|()| director.open(7));
        let wanted = match scheduler {
            // Its slots lead to whom they lead.
            Scheduler::Dh => [chosen[0]; 3],
            // The third would be one more than the weight and one.
            Scheduler::Ovf => [1, 1, 0],
            _ => [1; 3],
        };
        assert_eq!(chosen, wanted, "{scheduler}");
        director.overloaded = vec![1, 2];
        director.publish();
        assert_eq!(director.open(7), 0, "{scheduler}");
    }
}

#[test]
fn overload_has_a_memory() {
    let overload =
        |upper, lower| Overload { thresholds: Thresholds { upper, lower }, overloaded: Arc::default() };
    let is = |overload: &Overload| overload.overloaded.load(std::sync::atomic::Ordering::Relaxed);
    for (lower, relieved_at) in [(2, 1), (0, 2), (1, 0)] {
        let limit = overload(4, lower);
        limit.update(3);
        assert!(!is(&limit));
        limit.update(4);
        assert!(is(&limit));
        for total in (relieved_at + 1..4).rev() {
            limit.update(total);
            assert!(is(&limit), "{lower} {total}");
        }
        limit.update(relieved_at);
        assert!(!is(&limit), "{lower}");
    }
}

#[test]
fn twos_takes_the_less_loaded_of_two() {
    let mut director = Director::new(Scheduler::Twos, &[1, 1, 1, 0]);
    let mut counts = [0; 5];
    for client in 0..=255 {
        counts[director.open(client) as usize] += 1;
    }
    assert_eq!((counts[0], counts[4]), (0, 0));
    assert!(counts[1..4].iter().all(|count| (80..=91).contains(count)), "{counts:?}");
}

/// The kernel's numbers overflow there (docs/differences.md).
#[test]
fn twos_takes_the_less_loaded_one_whatever_the_load() {
    let mut director = Director::new(Scheduler::Twos, &[60_000, 60_000]);
    for (real, active) in [(1, 200), (2, 100)] {
        director.counters[real].of(WorkerId(0)).active.add(active);
    }
    let first = (0..200).filter(|&client| director.open(client) == 1).count();
    // Both of its draws: one time in four.
    assert!((30..70).contains(&first), "{first}");
}

#[test]
fn a_set_of_lblcr_shrinks_after_a_day() {
    let director = Director::new(Scheduler::Lblcr, &[1, 1, 1]);
    let service = director.service.as_ref().unwrap();
    let client = Client {
        address: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        l4_port: L4Port(50_000),
        destination: service.listen.ip(),
    };
    let mut localities = Localities::default();
    let mut open = |now| {
        let choice = choose(service, &Cursor::default(), &localities, &client, now).unwrap();
        localities.learn(service, client.destination, choice.learned, now);
        (service.candidates[choice.candidate].real.0, choice.learned)
    };
    let load = |real: usize, active| director.counters[real].of(WorkerId(0)).active.add(active);
    assert_eq!(open(Tick(0)), (3, Learned::Alone(RealId(3))));
    load(3, 2);
    assert_eq!(open(Tick(1)), (2, Learned::Also { real: RealId(2), without: None }));
    assert_eq!(open(Tick(2)), (2, Learned::Used));
    let day = 24 * 3600 * crate::time::TICKS_PER_SECOND;
    assert_eq!(open(Tick(day)), (2, Learned::Used));
    // The one that is loaded most leaves, though the locality was in use all the time.
    assert_eq!(open(Tick(day + 2)), (2, Learned::Without(RealId(3))));
    assert_eq!(open(Tick(day + 3)), (2, Learned::Used));
    // Unused for a day, it is forgotten.
    load(2, 9);
    assert_eq!(open(Tick(2 * day + 4)), (1, Learned::Alone(RealId(1))));
}

#[test]
fn localities_are_bounded() {
    let director = Director::new(Scheduler::Lblc, &[1, 1]);
    let service = director.service.as_ref().unwrap();
    let mut localities = Localities::default();
    localities.prepare();
    let at = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(number));
    for number in 0..LOCALITIES_MAX as u32 + 10 {
        localities.learn(service, at(number), Learned::Alone(RealId(1)), Tick(number));
    }
    assert!(localities.get(service, at(9), NOW).is_none());
    assert!(localities.get(service, at(10), NOW).is_some());
}

#[test]
fn rr_goes_on_where_a_real_that_went_stood() {
    let mut director = Director::new(Scheduler::Rr, &[1, 1, 1, 1]);
    assert_eq!([director.open(1), director.open(1), director.open(1)], [4, 3, 2]);
    // Two go and one comes back at the head of the list before the next choice.
    director.delete(2);
    director.delete(3);
    director.add(2, 1);
    assert_eq!([director.open(1), director.open(1), director.open(1)], [1, 2, 4]);
    // The first in the list goes while the mark is on it: the head is next.
    director.delete(2);
    director.open(1);
    director.delete(4);
    director.add(5, 1);
    assert_eq!([director.open(1), director.open(1)], [5, 1]);
}

#[test]
fn a_service_that_comes_back_starts_anew() {
    for (scheduler, first) in [(Scheduler::Rr, [3, 2, 1]), (Scheduler::Wrr, [3, 2, 1])] {
        let mut director = Director::new(scheduler, &[2, 1, 1]);
        assert_eq!(director.open(1), first[0]);
        director.service = None;
        director.publish();
        assert_eq!([(); 3].map(|()| director.open(1)), first, "{scheduler}");
    }
}

#[test]
fn nobody_to_choose() {
    for &scheduler in Scheduler::ALL {
        let mut director = Director::new(scheduler, &[]);
        assert_eq!(director.open(1), 0, "{scheduler}");
        director.add(1, 0);
        director.add(2, 0);
        assert_eq!(director.open(1), 0, "{scheduler}");
        director.edit(1, 1);
        director.delete(2);
        assert_eq!(director.open(1), 1, "{scheduler}");
    }
}

#[test]
fn wrr_takes_any_change_of_scheduler() {
    let mut director = Director::new(Scheduler::Lc, &[1, 4]);
    director.open(1);
    director.scheduler = Scheduler::Wrr;
    director.republish();
    assert_eq!([(); 5].map(|()| director.open(1)), [2, 2, 2, 2, 1]);
}

#[test]
fn wrr_keeps_in_step_with_a_new_divisor() {
    let mut director = Director::new(Scheduler::Wrr, &[2, 4]);
    assert_eq!([(); 3].map(|()| director.open(1)), [2, 1, 2]);
    // It looks for 3 of 4 by 2; then for 3 of 6 by 1; then, with 6 and 3, for 4 of 6 by 3.
    director.edit(1, 3);
    director.edit(2, 6);
    assert_eq!([(); 6].map(|()| director.open(1)), [2, 2, 1, 2, 2, 1]);
}

#[test]
fn sh_folds_ipv6_addresses() {
    let service = Director::new(Scheduler::Sh, &[1, 1]).service.unwrap();
    let of = |address: &str| {
        let client = Client {
            address: address.parse().unwrap(),
            l4_port: L4Port(1),
            destination: service.listen.ip(),
        };
        choose(&service, &Cursor::default(), &Localities::default(), &client, NOW)
            .map(|choice| choice.candidate)
    };
    assert_eq!(of("0:0:c633:6401::"), of("198.51.100.1"));
    assert_eq!(of("::c633:6402"), of("198.51.100.2"));
    let spread = (0..64).filter(|n| of(&format!("2001:db8::{n:x}")) == Some(0)).count();
    assert!((16..=48).contains(&spread), "{spread}");
}

proptest! {
    #[test]
    fn wrr_is_exact_over_a_cycle(weights in proptest::collection::vec(0_u32..20, 1..8), skipped in 0_usize..50) {
        let total = weights.iter().sum::<u32>() as usize;
        prop_assume!(total > 0);
        let mut director = Director::new(Scheduler::Wrr, &weights);
        for _ in 0..skipped {
            director.open(1);
        }
        let divisor = weights.iter().fold(0, |a, &b| num_gcd(a, b)) as usize;
        let mut counts = vec![0; weights.len() + 1];
        for _ in 0..total / divisor {
            counts[director.open(1) as usize] += 1;
        }
        let expected = weights.iter().map(|&weight| weight as usize / divisor).collect::<Vec<_>>();
        prop_assert_eq!(&counts[1..], &expected[..]);
    }

    /// Whatever happens, somebody with a weight is chosen as long as there is one (hashes may hit one without, and all may
    /// overflow).
    #[test]
    fn somebody_is_chosen(changes in proptest::collection::vec((0_u8..4, 1_u32..8, 0_u32..6), 1..150)) {
        for &scheduler in Scheduler::ALL {
            let mut director = Director::new(scheduler, &[1, 2]);
            for &(what, real, weight) in &changes {
                match what {
                    0 if director.reals.iter().all(|&(other, _)| other != RealId(real)) => director.add(real, weight),
                    1 => director.delete(real),
                    2 => director.edit(real, weight),
                    _ => {
                        let chosen = director.open(weight as u8);
                        let weight = director.reals.iter().find(|(real, _)| real.0 == chosen).map(|real| real.1);
                        let any = director.reals.iter().any(|&(_, weight)| weight > 0);
                        if chosen == 0 {
                            let may_refuse =
                                matches!(scheduler, Scheduler::Sh | Scheduler::Dh | Scheduler::Mh | Scheduler::Ovf);
                            prop_assert!(!any || may_refuse, "{}", scheduler);
                        } else {
                            prop_assert!(weight.is_some_and(|weight| weight > 0), "{}", scheduler);
                        }
                    }
                }
            }
        }
    }
}

fn num_gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { num_gcd(b, a % b) }
}

/// What workers choose that all look at the same moment, against one that sees every choice: the most by which a real
/// server's connections differ, and the most by which two real servers of equal weight differ from each other.
fn together(scheduler: Scheduler, workers: u8, reals: usize, rounds: u32) -> (u64, u64) {
    let mut exact = Director::new(scheduler, &vec![1; reals]);
    let mut several = Director::new(scheduler, &vec![1; reals]);
    several.counters = (0..16).map(|_| RealCounters::new(workers)).collect();
    several.publish();
    let active = |director: &Director, real: usize| director.counters[real].sum(|cell| &cell.active);
    let (mut from_exact, mut from_each_other) = (0, 0);
    for round in 0..rounds {
        let service = several.service.as_ref().unwrap();
        let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
        let client = Client { address, l4_port: L4Port(50_000), destination: service.listen.ip() };
        let localities = Localities::default();
        // The worst that can be: none sees what the others choose at this moment.
        let choices: Vec<_> = (0..workers)
            .filter_map(|_| choose(service, &Cursor::default(), &localities, &client, NOW))
            .collect();
        for (worker, choice) in (0..workers).map(WorkerId).zip(choices) {
            service.candidates[choice.candidate].counters.of(worker).active.add(1);
        }
        for _ in 0..workers {
            exact.open(1);
        }
        // Some end, the same ones here and there.
        if round % 3 == 2 {
            for real in 1..=reals {
                let mut cells = (0..workers).map(|worker| several.counters[real].of(WorkerId(worker)));
                if let Some(cell) = cells.find(|cell| cell.active.get() > 0) {
                    if active(&exact, real) > 0 {
                        cell.active.subtract(1);
                        exact.counters[real].of(WorkerId(0)).active.subtract(1);
                    }
                }
            }
        }
        let counts: Vec<u64> = (1..=reals).map(|real| active(&several, real)).collect();
        let differs = (1..=reals).map(|real| active(&exact, real).abs_diff(counts[real - 1])).max();
        from_exact = from_exact.max(differs.unwrap_or(0));
        let spread = counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
        from_each_other = from_each_other.max(spread);
    }
    (from_exact, from_each_other)
}

/// Workers read each other's counts as they choose, so that a choice misses at most those that the other workers make at
/// this very moment: with k workers no real server has more than k connections more than the exact choice gives it,
/// however many there are and however long it goes on.
#[test]
fn least_connection_over_many_workers_stays_within_one_connection_for_each() {
    for scheduler in [Scheduler::Lc, Scheduler::Wlc] {
        for workers in [1, 2, 8, 64] {
            for reals in [2, 10] {
                let (from_exact, from_each_other) = together(scheduler, workers, reals, 300);
                let bound = if workers == 1 { 0 } else { u64::from(workers) };
                assert!(from_exact <= bound, "{scheduler} {workers} {reals}: {from_exact}");
                assert!(
                    from_each_other <= u64::from(workers) + 1,
                    "{scheduler} {workers} {reals}: {from_each_other}"
                );
            }
        }
    }
}
