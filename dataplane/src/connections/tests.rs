//! The table against a model, and at its limits.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::address::Address;
use crate::flow::{Flow, HashKey};
use crate::id::{L4Port, Protocol, RealId};
use crate::reason::Reclaimed;
use crate::service::Method;
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
        method: if number % 3 == 0 { Method::Nat } else { Method::Dr },
        masqueraded: false,
    }
}

fn nat(number: u32) -> NewConnection<Ipv4Addr> {
    NewConnection { method: Method::Nat, ..connection(number) }
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

fn none_ends<A: Address>(entry: &Entry<A>, _: Ending) {
    panic!("{entry:?} ended");
}

/// Makes it an open connection.
fn open<A: Address>(table: &mut Table<A>, index: ConnectionIndex, now: Tick) {
    for flags in [2, 16] {
        observe(table, index, flags, now);
    }
    assert!(table.entry(index).is_opened());
}

/// A client's packet with this TCP flag byte.
fn observe<A: Address>(table: &mut Table<A>, index: ConnectionIndex, flags: u8, now: Tick) {
    let (entry, beside) = table.entry_and_beside(index);
    let change = entry.observe(flags, Direction::FromClient, now, &Timeouts::default());
    if change != Activity::Unchanged {
        beside.follow(index, entry, change);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32),
    /// A packet with this flag byte.
    Observe(u32, u8),
    Remove(u32),
    Sweep(usize),
    Turn,
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0_u32..60;
    let flags = prop_oneof![2 => Just(2), 4 => Just(16), 1 => Just(4), 1 => Just(1), 1 => any::<u8>()];
    let step = prop_oneof![
        8 => number.clone().prop_map(Step::Insert),
        6 => (number.clone(), flags).prop_map(|(number, flags)| Step::Observe(number, flags)),
        2 => number.prop_map(Step::Remove),
        1 => (0_usize..20).prop_map(Step::Sweep),
        1 => Just(Step::Turn),
        2 => (0_u32..150).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..400)
}

/// A connection of the model.
#[derive(Clone, Copy, Debug)]
struct Held {
    expires: Tick,
    /// How soon it is given up, and the number of the step since when.
    rank: Option<(Rank, usize)>,
}

/// A table and what should be in it: connections by number, dead ones included until the table says that they ended.
struct Modelled {
    table: Table<Ipv4Addr>,
    model: HashMap<u32, Held>,
    numbers: HashMap<Flow<Ipv4Addr>, u32>,
    now: Tick,
    step: usize,
}

impl Modelled {
    fn new(capacity: u32, now: Tick) -> Self {
        Self {
            table: Table::new(capacity, HashKey::random()),
            model: HashMap::new(),
            numbers: (0..60).map(|number| (connection(number).flow, number)).collect(),
            now,
            step: 0,
        }
    }

    /// The one that a full table gives up next.
    fn next_given_up(&self) -> Option<u32> {
        let ranked = self.model.iter().filter_map(|(number, held)| Some((held.rank?, number)));
        ranked.min_by_key(|((rank, since), _)| (*rank as u8, *since)).map(|(_, number)| *number)
    }

    fn insert(&mut self, number: u32) {
        let full = self.model.len() == self.table.capacity() && !self.model.contains_key(&number);
        let given_up = self.next_given_up().filter(|_| full);
        let (table, model, numbers, now) = (&mut self.table, &mut self.model, &self.numbers, self.now);
        let mut ended = Vec::new();
        let end = |entry: &Entry<Ipv4Addr>, ending| ended.push((numbers[&entry.client_flow()], ending));
        let inserted = table.insert(&connection(number), &Limits::NONE, now, end);
        for (gone, ending) in ended {
            let held = model.remove(&gone).expect("it was there");
            let expired = held.expires.has_come(now);
            match ending {
                Ending::Over => assert!(gone == number || expired, "{gone} ended too early"),
                Ending::Reclaimed(_) => assert!(!expired && Some(gone) == given_up, "{gone} {given_up:?}"),
            }
        }
        match inserted {
            Ok(_) => {
                let rank = Some((Rank::Begun, self.step));
                assert!(model.insert(number, Held { expires: now.after(Ticks(200)), rank }).is_none());
            }
            Err(full_of) => {
                assert_eq!(full_of, Full::Table);
                assert!(
                    full && model.values().all(|held| held.rank.is_none() && !held.expires.has_come(now))
                );
            }
        }
    }

    fn run(&mut self, step: &Step) {
        self.step += 1;
        if let Step::Insert(number) = *step {
            return self.insert(number);
        }
        let (table, model, numbers, now) = (&mut self.table, &mut self.model, &self.numbers, self.now);
        let mut ended = Vec::new();
        let end = |entry: &Entry<Ipv4Addr>| ended.push(numbers[&entry.client_flow()]);
        match *step {
            Step::Insert(_) => {}
            Step::Observe(number, flags) => {
                if let Some((index, _)) = find(table, &connection(number).flow, now) {
                    observe(table, index, flags, now);
                    let (entry, held) = (table.entry(index), model.get_mut(&number).unwrap());
                    held.expires = entry.expires();
                    if held.rank.map(|(rank, _)| rank) != entry.rank() {
                        held.rank = entry.rank().map(|rank| (rank, self.step));
                    }
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
                ended.iter().for_each(|gone| assert!(model.remove(gone).unwrap().expires.has_come(now)));
            }
            Step::Turn => {
                table.sweep_turn(now, end);
                ended.iter().for_each(|gone| assert!(model.remove(gone).unwrap().expires.has_come(now)));
            }
            Step::Wait(ticks) => self.now = now.after(Ticks(ticks)),
        }
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.model.len());
        for number in 0..60 {
            let new = connection(number);
            let alive = self.model.get(&number).is_some_and(|held| !held.expires.has_come(self.now));
            let found = find(&self.table, &new.flow, self.now);
            assert_eq!(found.is_some(), alive, "{number}");
            let answered = find(&self.table, &answer(&new), self.now);
            assert_eq!(answered.is_some(), alive && new.method == Method::Nat, "{number}");
            if let Some((index, direction)) = found {
                let entry = self.table.entry(index);
                assert_eq!(direction, Direction::FromClient);
                assert_eq!((entry.real(), entry.real_address()), (new.real, new.real_address));
                assert!(answered.is_none_or(|answered| answered == (index, Direction::FromReal)));
            }
        }
        let slots = self
            .model
            .keys()
            .map(|&number| 1 + usize::from(connection(number).method == Method::Nat))
            .sum::<usize>();
        assert_eq!(self.table.slots.used(), slots);
        let ranked = self.model.values().filter(|held| held.rank.is_some()).count();
        assert_eq!(self.table.beside.reclaim.count(), ranked);
        // All are of one client.
        assert_eq!(self.table.holders.of(connection(0).flow.source), self.model.len());
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

/// One of few clients' ports, to one of several services that share one NAT real server and port.
fn sharing(service: u16, client_port: u16) -> NewConnection<Ipv4Addr> {
    let new = nat(1);
    let ports = (L4Port(client_port), L4Port(80 + service));
    NewConnection {
        flow: Flow { source_port: ports.0, destination_port: ports.1, ..new.flow },
        real: RealId(service.into()),
        ..new
    }
}

proptest! {
    #[test]
    fn answers_are_those_of_the_connection_that_was_made_last(
        capacity in 30_u32..3000,
        steps in prop::collection::vec((0_u16..6, 0_u16..4, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut table = Table::new(capacity, HashKey::random());
        let now = Tick(7);
        // In the order in which they were made.
        let mut live: Vec<(u16, u16)> = Vec::new();
        for (service, port, ends, expires) in steps {
            let new = sharing(service, port);
            live.retain(|one| *one != (service, port));
            match find(&table, &new.flow, now) {
                Some((index, _)) if ends && expires => table.entry_mut(index).set_expires(now),
                Some((index, _)) if ends => table.remove(index, now),
                _ => {
                    table.insert(&new, &Limits::NONE, now, |_, _| ()).unwrap();
                    live.push((service, port));
                }
            }
            for port in 0..4 {
                let last = live.iter().rev().find(|(_, of)| *of == port).map(|(service, _)| *service);
                let found = find(&table, &answer(&sharing(0, port)), now);
                let found = found.map(|(index, direction)| (table.entry(index).real(), direction));
                let wanted = last.map(|service| (RealId(service.into()), Direction::FromReal));
                prop_assert_eq!(found, wanted);
            }
            for &(service, port) in &live {
                let found = find(&table, &sharing(service, port).flow, now);
                prop_assert!(found.is_some_and(|(_, direction)| direction == Direction::FromClient));
            }
        }
    }
}

#[test]
fn holds_its_capacity_of_nat_connections_and_no_more() {
    for capacity in [1, 2, 10, 100, 3000, 50_000] {
        let mut table = Table::new(capacity, HashKey::random());
        let now = Tick(5);
        for number in 0..capacity {
            let index = table.insert(&nat(number), &Limits::NONE, now, none_ends).unwrap();
            open(&mut table, index, now);
        }
        assert_eq!(table.len(), capacity as usize);
        assert_eq!(table.insert(&nat(capacity), &Limits::NONE, now, none_ends), Err(Full::Table));
        for number in 0..capacity {
            let new = nat(number);
            let (index, _) = find(&table, &new.flow, now).unwrap();
            assert_eq!(find(&table, &answer(&new), now), Some((index, Direction::FromReal)));
        }
        // One goes, one comes.
        table.remove(find(&table, &nat(0).flow, now).unwrap().0, now);
        table.insert(&nat(capacity), &Limits::NONE, now, none_ends).unwrap();
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
            table.insert(&nat(next), &Limits::NONE, now, none_ends).unwrap();
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
    let new = |number| NewConnection { method: Method::Dr, ..connection(number) };
    let flood = (0..)
        .filter(|&number| table.slots.place_of(table.hash(&new(number).flow)).1 == 3)
        .take(1200)
        .collect::<Vec<u32>>();
    let mut held = Vec::new();
    for &number in &flood {
        match table.insert(&new(number), &Limits::NONE, now, none_ends) {
            Ok(_) => held.push(number),
            Err(full) => assert!(full == Full::Table && held.len() >= 900, "{}", held.len()),
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
        let index = table.insert(&connection(number), &Limits::NONE, Tick(0), none_ends).unwrap();
        open(&mut table, index, Tick(0));
        table.entry_mut(index).set_expires(Tick(200));
    }
    assert_eq!(table.insert(&connection(40), &Limits::NONE, Tick(199), none_ends), Err(Full::Table));
    let mut ended = 0;
    table.insert(&connection(40), &Limits::NONE, Tick(200), |_, _| ended += 1).unwrap();
    assert_eq!((ended, table.len()), (40, 1));
}

#[test]
fn an_expired_connection_is_not_found_and_its_flow_can_come_again() {
    let mut table = Table::new(10, HashKey::random());
    let new = nat(1);
    let before = Tick(u32::MAX - 100);
    let index = table.insert(&new, &Limits::NONE, before, none_ends).unwrap();
    assert_eq!(find(&table, &new.flow, Tick(98)), Some((index, Direction::FromClient)));
    assert_eq!(find(&table, &new.flow, Tick(99)), None);
    assert_eq!(find(&table, &answer(&new), Tick(99)), None);
    let mut ended = 0;
    let index = table.insert(&new, &Limits::NONE, Tick(99), |_, _| ended += 1).unwrap();
    assert_eq!((ended, table.len()), (1, 1));
    assert_eq!(find(&table, &answer(&new), Tick(99)), Some((index, Direction::FromReal)));
}

#[test]
fn a_flow_has_one_connection() {
    let mut table = Table::new(10, HashKey::random());
    table.insert(&nat(1), &Limits::NONE, Tick(0), none_ends).unwrap();
    let mut ended = 0;
    table
        .insert(&NewConnection { real: RealId(9), ..nat(1) }, &Limits::NONE, Tick(0), |_, _| ended += 1)
        .unwrap();
    assert_eq!((ended, table.len(), table.slots.used()), (1, 1, 2));
}

#[test]
fn udp_and_tcp_of_the_same_ports_are_two_connections() {
    let mut table = Table::new(10, HashKey::random());
    let tcp = nat(1);
    let udp = NewConnection { flow: Flow { protocol: Protocol::Udp, ..tcp.flow }, ..tcp };
    let one = table.insert(&tcp, &Limits::NONE, Tick(0), none_ends).unwrap();
    let two = table.insert(&udp, &Limits::NONE, Tick(0), none_ends).unwrap();
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
        method: Method::Nat,
        masqueraded: false,
    };
    let index = table.insert(&new, &Limits::NONE, Tick(0), none_ends).unwrap();
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
    let index = table.insert(&first, &Limits::NONE, Tick(0), none_ends).unwrap();
    let candidate = table.prefetch_entry(table.hash(&first.flow));
    assert!(table.try_candidate(candidate, &first.flow, Tick(0)).is_some());
    assert!(table.try_candidate(candidate, &second.flow, Tick(0)).is_none());
    table.remove(index, Tick(0));
    assert!(table.try_candidate(candidate, &first.flow, Tick(0)).is_none());
    assert_eq!(table.insert(&second, &Limits::NONE, Tick(0), none_ends), Ok(index));
    assert!(table.try_candidate(candidate, &first.flow, Tick(0)).is_none());
    assert!(table.try_candidate(candidate, &second.flow, Tick(0)).is_some());
    assert!(table.try_candidate(Candidate::NONE, &second.flow, Tick(0)).is_none());
}

#[test]
fn a_flood_makes_a_full_table_sweep_so_often_in_a_tick_and_no_more() {
    let mut table = Table::new(100_000, HashKey::random());
    for number in 0..100_000 {
        let index = table.insert(&connection(number), &Limits::NONE, Tick(0), none_ends).unwrap();
        open(&mut table, index, Tick(0));
        table.entry_mut(index).set_expires(Tick(200));
    }
    let (now, mut ended) = (Tick(300), 0);
    // All have expired: the first 64 attempts sweep 64 entries each, what they free serves the next.
    let mut made = 0;
    while let Ok(index) = table.insert(&connection(200_000 + made), &Limits::NONE, now, |_, _| ended += 1) {
        open(&mut table, index, now);
        made += 1;
    }
    assert_eq!((made, ended), (64 * 64, 64 * 64));
    assert!(table.insert(&connection(1), &Limits::NONE, now.after(Ticks(1)), |_, _| ()).is_ok());
}

#[test]
fn the_sweep_goes_round_in_about_a_second() {
    let mut table = Table::new(60_000, HashKey::random());
    for number in 0..60_000 {
        table.insert(&connection(number), &Limits::NONE, Tick(0), none_ends).unwrap();
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
        let index = table.insert(&connection(number), &Limits::NONE, Tick(0), none_ends).unwrap();
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

fn client(address: &str, port: u16, protocol: Protocol) -> NewConnection<Ipv4Addr> {
    let Flow { destination, destination_port, .. } = connection(1).flow;
    let flow = Flow {
        source: address.parse().unwrap(),
        destination,
        source_port: L4Port(port),
        destination_port,
        protocol,
    };
    NewConnection { flow, method: Method::Dr, ..connection(1) }
}

/// What a full table of `capacity` gives up, in order, for so many new connections of others.
fn given_up(table: &mut Table<Ipv4Addr>, count: u16, now: Tick) -> Vec<(u16, Ending)> {
    let mut gone = Vec::new();
    for port in 0..count {
        let new = client("203.0.113.9", 1 + port, Protocol::Tcp);
        let index = table
            .insert(&new, &Limits::NONE, now, |entry, ending| gone.push((entry.client_port().0, ending)))
            .unwrap();
        open(table, index, now);
    }
    gone
}

#[test]
fn what_is_over_goes_first_then_what_has_only_begun_and_what_is_open_stays() {
    let mut table = Table::new(8, HashKey::random());
    let now = Tick(0);
    let mut make = |port, protocol, packets: &[u8]| {
        let new = client("198.51.100.1", port, protocol);
        let index = table.insert(&new, &Limits::NONE, now, none_ends).unwrap();
        packets.iter().for_each(|flags| observe(&mut table, index, *flags, now));
    };
    let (syn, ack, fin, rst) = (2, 16, 17, 4);
    make(1000, Protocol::Tcp, &[syn]);
    make(1001, Protocol::Tcp, &[syn, ack]);
    make(1002, Protocol::Udp, &[0]);
    make(1003, Protocol::Udp, &[0, 0]);
    // Taken up in its midst.
    make(1004, Protocol::Tcp, &[ack]);
    make(1005, Protocol::Tcp, &[ack, ack]);
    make(1006, Protocol::Tcp, &[syn, ack, fin, rst]);
    make(1007, Protocol::Tcp, &[syn, ack, fin]);
    let reclaimed = |kind| Ending::Reclaimed(kind);
    let wanted = [
        (1006, reclaimed(Reclaimed::Closed)),
        (1000, reclaimed(Reclaimed::HalfOpen)),
        (1002, reclaimed(Reclaimed::OnePacket)),
        (1004, reclaimed(Reclaimed::OnePacket)),
    ];
    assert_eq!(given_up(&mut table, 4, now), wanted);
    // One in FIN_WAIT is half closed: its real server may still send.
    let new = client("203.0.113.8", 1, Protocol::Tcp);
    assert_eq!(table.insert(&new, &Limits::NONE, now, none_ends), Err(Full::Table));
}

#[test]
fn a_client_beyond_its_share_pays_with_its_own_and_others_get_in() {
    let limits = Limits { client_share: Share(25), of_service: None };
    let mut table = Table::new(400, HashKey::random());
    let now = Tick(0);
    let udp = |address: &str, port| client(address, port, Protocol::Udp);
    // As long as there is room nobody is asked for what he holds.
    for port in 1..=359 {
        let index = table.insert(&udp("198.51.100.1", port), &limits, now, none_ends).unwrap();
        observe(&mut table, index, 0, now);
        if port % 2 == 0 {
            observe(&mut table, index, 0, now);
        }
    }
    table.insert(&udp("198.51.100.1", 360), &limits, now, none_ends).unwrap();
    // Then each new one is for the oldest of one packet, and when there is none more there is no new one.
    let mut gone = Vec::new();
    let mut port = 1000;
    let refused = loop {
        let made = table
            .insert(&udp("198.51.100.1", port), &limits, now, |entry, _| gone.push(entry.client_port().0));
        match made {
            Ok(index) => (0..2).for_each(|_| observe(&mut table, index, 0, now)),
            Err(full) => break full,
        }
        port += 1;
    };
    assert_eq!((refused, table.len()), (Full::Client, 360));
    assert_eq!(gone, (1..=359).step_by(2).chain([360]).collect::<Vec<_>>());
    assert_eq!(table.has_room("198.51.100.1".parse().unwrap(), &limits, now), Err(Full::Client));
    // Others get in, and what they open stays.
    for port in 1..=8 {
        let new = udp("203.0.113.1", port);
        let index = table.insert(&new, &limits, now, none_ends).unwrap();
        (0..2).for_each(|_| observe(&mut table, index, 0, now));
    }
}

#[test]
fn many_who_hold_much_do_not_fill_the_table_together() {
    let limits = Limits { client_share: Share(25), of_service: None };
    let mut table = Table::new(4000, HashKey::random());
    let now = Tick(0);
    for port in 1..3000 {
        for host in 1..=12 {
            let new = client(&format!("198.51.100.{host}"), port, Protocol::Udp);
            if let Ok(index) = table.insert(&new, &limits, now, none_ends) {
                (0..2).for_each(|_| observe(&mut table, index, 0, now));
            }
        }
    }
    assert!(table.len() < 3950, "{}", table.len());
    let index = table.insert(&client("203.0.113.1", 1, Protocol::Tcp), &limits, now, none_ends).unwrap();
    open(&mut table, index, now);
}

#[test]
fn a_network_of_ipv6_addresses_has_the_share_of_one_client() {
    let limits = Limits { client_share: Share(25), of_service: None };
    let mut table = Table::new(100, HashKey::random());
    let now = Tick(0);
    let new = |net: u16, host: u16| NewConnection {
        flow: Flow {
            source: Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
            source_port: L4Port(40_000),
            destination_port: L4Port(53),
            protocol: Protocol::Udp,
        },
        real: RealId(0),
        real_address: Ipv6Addr::LOCALHOST,
        real_port: L4Port(53),
        method: Method::Dr,
        masqueraded: false,
    };
    let mut made = 0;
    for host in 1..=100 {
        if let Ok(index) = table.insert(&new(7, host), &limits, now, none_ends) {
            (0..2).for_each(|_| observe(&mut table, index, 0, now));
            made += 1;
        }
    }
    assert_eq!(made, 90);
    assert!(table.insert(&new(8, 1), &limits, now, none_ends).is_ok());
}

#[test]
fn a_masqueraded_host_has_a_share_and_who_it_asks_has_not() {
    let asked = client("198.51.100.53", 53, Protocol::Udp);
    let masqueraded = NewConnection { masqueraded: true, ..nat(1) };
    let mut table = Table::new(10, HashKey::random());
    let index = table.insert(&masqueraded, &Limits::NONE, Tick(0), none_ends).unwrap();
    assert_eq!(table.entry(index).holder(), masqueraded.real_address);
    assert_eq!((table.holders.of(masqueraded.real_address), table.holders.of(asked.flow.source)), (1, 0));
    table.remove(index, Tick(0));
    assert!(table.holders.are_empty());
}

fn template(client: u8) -> NewTemplate<Ipv4Addr> {
    NewTemplate {
        key: TemplateKey {
            client: Ipv4Addr::new(198, 51, 100, client),
            vip: VIP,
            vip_port: L4Port(80),
            protocol: Some(Protocol::Tcp),
        },
        real: RealId(1),
        real_address: Ipv4Addr::new(10, 1, 0, 1),
        real_port: L4Port(80),
        timeout: Ticks::from_seconds(300),
    }
}

#[test]
fn templates_of_clients_that_never_opened_anything_give_way() {
    let mut table = Table::new(64, HashKey::random());
    table.prepare_templates();
    let now = Tick(0);
    let mut gone = Vec::new();
    let mut begin = |table: &mut Table<Ipv4Addr>, host: u8, opens: bool| {
        let ended =
            |template: &Template<Ipv4Addr>, ending| gone.push((template.key().client.octets()[3], ending));
        let made = table.make_template(&template(host), &Limits::NONE, now, |_, _| (), ended)?;
        let new = client(&format!("198.51.100.{host}"), 1000, Protocol::Tcp);
        let index = table.insert(&new, &Limits::NONE, now, |_, _| ()).unwrap();
        table.control(index, made, now);
        observe(table, index, 2, now);
        if opens {
            observe(table, index, 16, now);
        }
        Ok::<_, Full>(index)
    };
    let mut open_ones = Vec::new();
    for host in 0..64 {
        let opens = host % 8 == 0;
        let index = begin(&mut table, host, opens).unwrap();
        open_ones.extend(opens.then_some(index));
    }
    assert_eq!(table.templates().fill(), (64, 64));
    for host in 100..156 {
        open_ones.push(begin(&mut table, host, true).unwrap());
    }
    assert_eq!(begin(&mut table, 200, true), Err(Full::Table));
    // Half-open ones gave way one by one, each with its template.
    let wanted = (0..64).filter(|host| host % 8 != 0);
    assert_eq!(gone.iter().map(|(host, _)| *host).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    for index in open_ones {
        assert!(table.entry(index).is_opened());
        table.remove(index, now);
    }
    // A client that opened something stays where it is without a connection, too.
    assert_eq!(table.templates().fill(), (64, 64));
    assert!(table.templates().find(&template(8).key, now).is_some());
}
