//! The table against a model, and at its limits.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::address::Address;
use crate::flow::{Flow, HashKey};
use crate::id::{L4Port, Protocol, RealId};
use crate::time::{Tick, Ticks};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// A connection of its own for each number; every third is NAT, every fifth UDP.
fn connection(number: u32) -> NewConnection<Ipv4Addr> {
    NewConnection {
        flow: Flow {
            source: Ipv4Addr::from_bits(0xc633_6400 | (number >> 14)),
            destination: VIP,
            source_port: L4Port((number & 0x3fff) as u16 + 1024),
            destination_port: L4Port(80),
            protocol: if number % 5 == 0 { Protocol::Udp } else { Protocol::Tcp },
        },
        real: RealId(number % 7),
        real_address: Ipv4Addr::from_bits(0x0a01_0000 | (number % 7)),
        real_port: L4Port(8080),
        nat: number % 3 == 0,
    }
}

fn nat(number: u32) -> NewConnection<Ipv4Addr> {
    NewConnection { nat: true, ..connection(number) }
}

fn answer(new: &NewConnection<Ipv4Addr>) -> Flow<Ipv4Addr> {
    Flow {
        source: new.real_address,
        destination: new.flow.source,
        source_port: new.real_port,
        destination_port: new.flow.source_port,
        protocol: new.flow.protocol,
    }
}

/// Looks a flow up in one step and, as a burst does, in stages: the candidate is the connection or nothing.
fn find<A: Address>(table: &Table<A>, flow: &Flow<A>, now: Tick) -> Option<(ConnectionIndex, Direction)> {
    let hash = table.hash(flow);
    let found = table.find(hash, flow, now);
    let near = table.try_candidate(table.prefetch_entry(hash), flow, now).map(|(near, _)| near);
    assert!(near.is_none() || near == found, "{near:?} {found:?}");
    found.map(|found| (found.index, found.direction))
}

fn none_ends<A: Address>(entry: &Entry<A>) {
    panic!("{entry:?} ended");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32),
    Observe(u32),
    Remove(u32),
    Sweep(usize),
    Turn,
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0_u32..60;
    let step = prop_oneof![
        8 => number.clone().prop_map(Step::Insert),
        4 => number.clone().prop_map(Step::Observe),
        2 => number.prop_map(Step::Remove),
        1 => (0_usize..20).prop_map(Step::Sweep),
        1 => Just(Step::Turn),
        2 => (0_u32..150).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..400)
}

/// A table and what should be in it: connections by number with the moment of their end, dead ones included
/// until the table says that they ended.
struct Modelled {
    table: Table<Ipv4Addr>,
    model: HashMap<u32, Tick>,
    numbers: HashMap<Flow<Ipv4Addr>, u32>,
    now: Tick,
}

impl Modelled {
    fn new(capacity: u32, now: Tick) -> Self {
        Self {
            table: Table::new(capacity, HashKey::random()),
            model: HashMap::new(),
            numbers: (0..60).map(|number| (connection(number).flow, number)).collect(),
            now,
        }
    }

    fn run(&mut self, step: &Step) {
        let (table, model, numbers, now) = (&mut self.table, &mut self.model, &self.numbers, self.now);
        let mut ended = Vec::new();
        let end = |entry: &Entry<Ipv4Addr>| ended.push(numbers[&entry.client_flow()]);
        match *step {
            Step::Insert(number) => {
                let full = model.len() == table.capacity() && !model.contains_key(&number);
                let inserted = table.insert(connection(number), now, end);
                for gone in ended {
                    let expires = model.remove(&gone).expect("it was there");
                    assert!(gone == number || expires.has_come(now), "{gone} ended too early");
                }
                match inserted {
                    Ok(_) => assert_eq!(model.insert(number, now.after(Ticks(200))), None),
                    Err(TableFull) => {
                        assert!(full && model.values().all(|expires| !expires.has_come(now)));
                    }
                }
            }
            Step::Observe(number) => {
                if let Some((index, _)) = find(table, &connection(number).flow, now) {
                    let entry = table.entry_mut(index);
                    let _ = entry.observe(2, Direction::FromClient, now, &Timeouts::default());
                    model.insert(number, entry.expires());
                }
            }
            Step::Remove(number) => {
                if let Some((index, _)) = find(table, &connection(number).flow, now) {
                    table.remove(index, Tick(0));
                    table.remove(index, Tick(0));
                    model.remove(&number);
                }
            }
            Step::Sweep(budget) => {
                table.sweep(now, budget, end);
                assert!(ended.len() <= budget);
                ended.iter().for_each(|gone| assert!(model.remove(gone).unwrap().has_come(now)));
            }
            Step::Turn => {
                table.sweep_turn(now, end);
                ended.iter().for_each(|gone| assert!(model.remove(gone).unwrap().has_come(now)));
            }
            Step::Wait(ticks) => self.now = now.after(Ticks(ticks)),
        }
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.model.len());
        for number in 0..60 {
            let new = connection(number);
            let alive = self.model.get(&number).is_some_and(|expires| !expires.has_come(self.now));
            let found = find(&self.table, &new.flow, self.now);
            assert_eq!(found.is_some(), alive, "{number}");
            let answered = find(&self.table, &answer(&new), self.now);
            assert_eq!(answered.is_some(), alive && new.nat, "{number}");
            if let Some((index, direction)) = found {
                let entry = self.table.entry(index);
                assert_eq!(direction, Direction::FromClient);
                assert_eq!((entry.real(), entry.real_address()), (new.real, new.real_address));
                assert!(answered.is_none_or(|answered| answered == (index, Direction::FromReal)));
            }
        }
        let slots = self.model.keys().map(|&number| 1 + usize::from(connection(number).nat)).sum::<usize>();
        assert_eq!(self.table.slots.used(), slots);
    }
}

proptest! {
    #[test]
    fn does_what_a_map_does(capacity in 1_u32..80, start in any::<u32>(), near_wrap in any::<bool>(), steps in steps()) {
        let start = if near_wrap { u32::MAX - start % 1000 } else { start };
        let mut modelled = Modelled::new(capacity, Tick(start));
        for step in &steps {
            modelled.run(step);
            modelled.check();
        }
    }
}

#[test]
fn holds_its_capacity_of_nat_connections_and_no_more() {
    for capacity in [1, 2, 10, 100, 3000, 50_000] {
        let mut table = Table::new(capacity, HashKey::random());
        let now = Tick(5);
        for number in 0..capacity {
            table.insert(nat(number), now, none_ends).unwrap();
        }
        assert_eq!(table.len(), capacity as usize);
        assert_eq!(table.insert(nat(capacity), now, none_ends), Err(TableFull));
        for number in 0..capacity {
            let new = nat(number);
            let (index, _) = find(&table, &new.flow, now).unwrap();
            assert_eq!(find(&table, &answer(&new), now), Some((index, Direction::FromReal)));
        }
        // One goes, one comes.
        table.remove(find(&table, &nat(0).flow, now).unwrap().0, now);
        table.insert(nat(capacity), now, none_ends).unwrap();
    }
}

#[test]
fn stays_usable_between_90_and_100_percent() {
    let capacity = 20_000;
    let mut table = Table::new(capacity, HashKey::random());
    let now = Tick(5);
    let (mut oldest, mut next) = (0, 0);
    for round in 0..40 {
        while table.len() < capacity as usize {
            table.insert(nat(next), now, none_ends).unwrap();
            next += 1;
        }
        for _ in 0..capacity / 10 {
            let (index, _) = find(&table, &nat(oldest).flow, now).unwrap();
            table.remove(index, Tick(0));
            oldest += 1;
        }
        assert_eq!(table.slots.used(), table.len() * 2, "round {round}");
    }
    for number in oldest..next {
        let (index, _) = find(&table, &answer(&nat(number)), now).unwrap();
        table.remove(index, Tick(0));
    }
    assert_eq!((table.len(), table.slots.used()), (0, 0));
    // Only slots of one entry that looked the same may have left a count behind.
    assert!(table.slots.further_on() < 10, "{}", table.slots.further_on());
}

#[test]
fn memory_for_a_connection() {
    let v4 = Table::<Ipv4Addr>::new(100_000, HashKey::random());
    let v6 = Table::<Ipv6Addr>::new(100_000, HashKey::random());
    assert!(v4.bytes() <= 64 * v4.capacity(), "{}", v4.bytes() / v4.capacity());
    assert!(v6.bytes() <= 128 * v6.capacity(), "{}", v6.bytes() / v6.capacity());
}

#[test]
fn a_flooded_bucket_spills_and_recovers() {
    let mut table = Table::new(4000, HashKey::random());
    let now = Tick(5);
    let new = |number| NewConnection { nat: false, ..connection(number) };
    let flood = (0..)
        .filter(|&number| table.slots.place_of(table.hash(&new(number).flow)).1 == 3)
        .take(1200)
        .collect::<Vec<u32>>();
    let mut held = Vec::new();
    for &number in &flood {
        match table.insert(new(number), now, none_ends) {
            Ok(_) => held.push(number),
            Err(TableFull) => assert!(held.len() >= 900, "{}", held.len()),
        }
    }
    assert!(held.len() < flood.len());
    assert_eq!(table.len(), held.len());
    let held = held.into_iter().collect::<HashSet<_>>();
    for &number in &flood {
        assert_eq!(find(&table, &new(number).flow, now).is_some(), held.contains(&number));
    }
    for &number in &held {
        let (index, _) = find(&table, &new(number).flow, now).unwrap();
        table.remove(index, Tick(0));
    }
    assert_eq!((table.len(), table.slots.used(), table.slots.further_on()), (0, 0, 0));
}

#[test]
fn a_full_table_makes_room_by_itself_when_connections_expire() {
    let mut table = Table::new(40, HashKey::random());
    for number in 0..40 {
        table.insert(connection(number), Tick(0), none_ends).unwrap();
    }
    assert_eq!(table.insert(connection(40), Tick(199), none_ends), Err(TableFull));
    let mut ended = 0;
    table.insert(connection(40), Tick(200), |_| ended += 1).unwrap();
    assert_eq!((ended, table.len()), (40, 1));
}

#[test]
fn an_expired_connection_is_not_found_and_its_flow_can_come_again() {
    let mut table = Table::new(10, HashKey::random());
    let new = nat(1);
    let before = Tick(u32::MAX - 100);
    let index = table.insert(new, before, none_ends).unwrap();
    assert_eq!(find(&table, &new.flow, Tick(98)), Some((index, Direction::FromClient)));
    assert_eq!(find(&table, &new.flow, Tick(99)), None);
    assert_eq!(find(&table, &answer(&new), Tick(99)), None);
    let mut ended = 0;
    let index = table.insert(new, Tick(99), |_| ended += 1).unwrap();
    assert_eq!((ended, table.len()), (1, 1));
    assert_eq!(find(&table, &answer(&new), Tick(99)), Some((index, Direction::FromReal)));
}

#[test]
fn a_flow_has_one_connection() {
    let mut table = Table::new(10, HashKey::random());
    table.insert(nat(1), Tick(0), none_ends).unwrap();
    let mut ended = 0;
    table.insert(NewConnection { real: RealId(9), ..nat(1) }, Tick(0), |_| ended += 1).unwrap();
    assert_eq!((ended, table.len(), table.slots.used()), (1, 1, 2));
}

#[test]
fn udp_and_tcp_of_the_same_ports_are_two_connections() {
    let mut table = Table::new(10, HashKey::random());
    let tcp = nat(1);
    let udp = NewConnection { flow: Flow { protocol: Protocol::Udp, ..tcp.flow }, ..tcp };
    let one = table.insert(tcp, Tick(0), none_ends).unwrap();
    let two = table.insert(udp, Tick(0), none_ends).unwrap();
    assert_ne!(one, two);
    assert_eq!(table.entry(two).state_word(), "UDP");
    let activity = table.entry_mut(two).observe(0, Direction::FromReal, Tick(7), &Timeouts::default());
    assert_eq!((activity, table.entry(two).expires()), (Activity::Unchanged, Tick(30_007)));
    assert!(!table.entry(two).counts_as_active());
}

#[test]
fn ipv6_in_both_directions() {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let mut table = Table::new(10, HashKey::random());
    let new = NewConnection {
        flow: Flow {
            source: address("2001:db8:c::1"),
            destination: address("2001:db8::100"),
            source_port: L4Port(40_000),
            destination_port: L4Port(80),
            protocol: Protocol::Tcp,
        },
        real: RealId(3),
        real_address: address("2001:db8:1::11"),
        real_port: L4Port(8080),
        nat: true,
    };
    let index = table.insert(new, Tick(0), none_ends).unwrap();
    let answer = table.entry(index).answer_flow();
    assert_eq!(find(&table, &new.flow, Tick(1)), Some((index, Direction::FromClient)));
    assert_eq!(find(&table, &answer, Tick(1)), Some((index, Direction::FromReal)));
    assert_eq!(find(&table, &answer.reversed(), Tick(1)), None);
    table.prefetch_bucket(table.hash(&answer));
    let candidate = table.prefetch_entry(table.hash(&answer));
    assert_eq!(table.try_candidate(candidate, &answer, Tick(1)).unwrap().0.index, index);
}

#[test]
fn a_candidate_is_nothing_once_its_connection_ended_or_another_took_its_place() {
    let mut table = Table::new(100, HashKey::random());
    let (first, second) = (connection(1), connection(2));
    let index = table.insert(first, Tick(0), none_ends).unwrap();
    let candidate = table.prefetch_entry(table.hash(&first.flow));
    assert!(table.try_candidate(candidate, &first.flow, Tick(0)).is_some());
    assert!(table.try_candidate(candidate, &second.flow, Tick(0)).is_none());
    table.remove(index, Tick(0));
    assert!(table.try_candidate(candidate, &first.flow, Tick(0)).is_none());
    assert_eq!(table.insert(second, Tick(0), none_ends), Ok(index));
    assert!(table.try_candidate(candidate, &first.flow, Tick(0)).is_none());
    assert!(table.try_candidate(candidate, &second.flow, Tick(0)).is_some());
    assert!(table.try_candidate(Candidate::NONE, &second.flow, Tick(0)).is_none());
}

#[test]
fn a_flood_makes_a_full_table_sweep_so_often_in_a_tick_and_no_more() {
    let mut table = Table::new(100_000, HashKey::random());
    for number in 0..100_000 {
        table.insert(connection(number), Tick(0), none_ends).unwrap();
    }
    let (now, mut ended) = (Tick(300), 0);
    // All have expired: the first 64 attempts sweep 64 entries each, what they free serves the next.
    let mut made = 0;
    while table.insert(connection(200_000 + made), now, |_| ended += 1).is_ok() {
        made += 1;
    }
    assert_eq!((made, ended, table.may_have_room(now)), (64 * 64, 64 * 64, false));
    assert!(table.may_have_room(now.after(Ticks(1))));
    assert!(table.insert(connection(1), now.after(Ticks(1)), |_| ()).is_ok());
}

#[test]
fn the_sweep_goes_round_in_about_a_second() {
    let mut table = Table::new(60_000, HashKey::random());
    for number in 0..60_000 {
        table.insert(connection(number), Tick(0), none_ends).unwrap();
    }
    let (mut ended, mut most) = (0, 0);
    // A busy worker takes many turns in a tick.
    for turn in 0..1010 {
        let before = ended;
        table.sweep_turn(Tick(300 + turn / 10), |_| ended += 1);
        most = most.max(ended - before);
    }
    assert_eq!((ended, table.len()), (60_000, 0));
    assert!(most <= 256, "{most}");
}

#[test]
fn listing_in_parts_shows_every_live_connection_once() {
    let mut table = Table::new(100, HashKey::random());
    for number in 0..50 {
        let index = table.insert(connection(number), Tick(0), none_ends).unwrap();
        if number % 2 == 0 {
            table.entry_mut(index).set_expires(Tick(1000));
        }
    }
    table.remove(find(&table, &connection(4).flow, Tick(0)).unwrap().0, Tick(0));
    let (mut cursor, mut listed) = (0, Vec::new());
    while table.list(&mut cursor, 7, Tick(500), |entry| listed.push(entry.client_flow())) {}
    let expected = (0..50).step_by(2).filter(|&number| number != 4).map(|number| connection(number).flow);
    assert_eq!(listed, expected.collect::<Vec<_>>());
}
