//! Connections that are handed over: a director that takes in what another one knew decides about every later packet as that one
//! does, whatever its hash key, its number of workers and its numbers of real servers are.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use shunt_dataplane::address::Family;
use shunt_dataplane::flow::HashKey;
use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::service::masquerade::MasqueradeRule;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Persistence};
use shunt_dataplane::snapshot::{NeighbourPlan, Plan, ServicePlan};
use shunt_dataplane::time::Ticks;
use shunt_tests::director::{Arrival, Director, KEY, Outcome};
use shunt_tests::network::{self, BACK, FRONT, Form};
use shunt_tests::oracle::compare::masked;
use shunt_tests::packets::{Ip, Tcp, ethernet};
use shunt_tests::{invariants, text, traffic};

const CONNECTIONS: u32 = 1024;
const OTHER_KEY: HashKey = HashKey::new([1, 22, 333, 4444]);
/// The host behind the director that is masqueraded, and the port that it asks from: one that it leaves by, so that none has
/// to be chosen, which the hash key decides.
const MASQUERADED: u8 = 9;
const OWN_PORT: u16 = 62_000;

/// Services of all methods and protocols, some persistent, one of a firewall mark, and one whose connections are bypassed.
fn plan(scheduler: Scheduler) -> Plan {
    let mut services = traffic::services(scheduler, 3);
    for (number, service) in services.iter_mut().enumerate().filter(|(number, _)| number % 4 == 1) {
        let netmask = if service.listen.is_ipv4() { 30 } else { 126 };
        let timeout = Ticks::from_seconds(if number % 8 == 1 { 20 } else { 90 });
        service.settings.persistence = Some(Persistence { timeout, netmask });
    }
    let mark = |number| Mark::new(number).unwrap();
    let of_mark = |number, form: Form, reals| {
        let family = if form == Form::V4 { Family::V4 } else { Family::V6 };
        // Its answers look like those of port 81.
        let service = network::service(form, Protocol::Tcp, 81, scheduler, Method::Nat, reals);
        ServicePlan { listen: mark(number).listen(family), name: format!("{number} {form:?}"), ..service }
    };
    let network_of = |address: &str| address.parse::<std::net::IpAddr>().unwrap().into();
    let rule = |number, to: Option<String>, port| MarkRule {
        mark: mark(number),
        to: to.map(|to| network_of(&to)),
        from: None,
        protocol: None,
        ports: port..=port,
        nic: None,
    };
    services.extend(Form::BOTH.map(|form| of_mark(1, form, 3)));
    services.extend(Form::BOTH.map(|form| of_mark(2, form, 0)));
    let masquerade = |form: Form| MasqueradeRule {
        from: network_of(&form.real(MASQUERADED)),
        to: None,
        except: None,
        nic: Some(FRONT),
        address: None,
    };
    let mut plan = Plan {
        marks: vec![
            rule(1, None, 83),
            rule(2, Some(Form::V4.real(99)), 2),
            rule(2, Some(Form::V6.real(99)), 2),
        ],
        masquerades: Form::BOTH.map(masquerade).to_vec(),
        forwards: vec![network::everything_passes()],
        ..network::plan(services)
    };
    let host = |form: Form| NeighbourPlan {
        nic: BACK,
        address: form.real(MASQUERADED).parse().unwrap(),
        mac: network::real_mac(MASQUERADED),
    };
    plan.neighbours.extend(Form::BOTH.map(host));
    plan.sysctls.schedule_icmp = true;
    plan.sysctls.cache_bypass = true;
    plan
}

/// The director that takes over: real servers have other numbers, time began at another moment.
fn successor(workers: u8, plan: &Plan) -> Director {
    let mut first = plan.clone();
    first.services.reverse();
    let mut director = Director::with_key(workers, CONNECTIONS, first, OTHER_KEY);
    director.publish(|now| *now = plan.clone());
    director.advance(Duration::from_millis(13_370));
    director
}

/// What changes in a configuration without a trace that a director which starts with it would lack.
fn edit() -> impl Strategy<Value = (usize, usize, Option<u32>)> {
    let weight = prop_oneof![2 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    (0..18_usize, 0..3_usize, weight)
}

fn apply(&(service, real, weight): &(usize, usize, Option<u32>), plan: &mut Plan) {
    let Some(real) = plan.services[service].reals.get_mut(real) else { return };
    match weight {
        Some(weight) => real.weight = weight,
        None => real.up = !real.up,
    }
}

fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        12 => (0_u64..30).prop_map(Duration::from_millis),
        2 => Just(Duration::from_secs(11)),
        1 => Just(Duration::from_secs(61)),
    ]
}

/// The masqueraded host asks, by an echo among others, or is answered.
fn masqueraded() -> impl Strategy<Value = Arrival> {
    (select(Form::BOTH.to_vec()), 1..=3_u8, 40_000..40_003_u16, 0..6).prop_map(
        |(form, client, port, kind)| {
            let (host, remote) = (form.real(MASQUERADED), form.client(client));
            let (asks, answers) = if form == Form::V4 { (8, 0) } else { (128, 129) };
            let out = Ip::new(&host, &remote);
            let back = Ip::new(&remote, form.own(FRONT));
            let (nic, packet) = match kind {
                0 => (BACK, out.icmp(asks, 0, u32::from(OWN_PORT + port % 3) << 16, &[7; 8])),
                1 => (FRONT, back.icmp(answers, 0, u32::from(OWN_PORT + port % 3) << 16, &[7; 8])),
                2 => (BACK, out.tcp(&Tcp::new(OWN_PORT, port, "S"))),
                3 => (FRONT, back.tcp(&Tcp::new(port, OWN_PORT, "SA"))),
                4 => (BACK, out.udp(OWN_PORT, port, &[7; 8])),
                _ => (FRONT, back.udp(port, OWN_PORT, &[7; 8])),
            };
            let from = if nic == BACK { network::real_mac(MASQUERADED) } else { network::ROUTER };
            Arrival { nic, frame: ethernet(network::nic_mac(nic), from, &packet) }
        },
    )
}

/// All but errors about tunnels: what is learned of a path is the real server's, and no connection's.
fn frame() -> impl Strategy<Value = Arrival> {
    prop_oneof![6 => traffic::good(), 1 => masqueraded()].prop_filter("an error about a tunnel", |arrival| {
        let own = |form: Form| form.own(BACK).parse::<std::net::IpAddr>().unwrap();
        let frame = &arrival.frame;
        let to_v4 = || frame.get(30..34) == Some(&octets(own(Form::V4)));
        let to_v6 = || frame.get(38..54) == Some(&octets(own(Form::V6)));
        !(to_v4() || to_v6())
    })
}

fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// True for a fragment, of which something is kept that belongs to no connection.
fn is_fragment(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame.get(20..22).is_some_and(|word| word[0] & 0x3f != 0 || word[1] != 0),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&44),
        _ => false,
    }
}

/// What leaves, without what each worker counts for itself (identification).
fn take(director: &mut Director, queue: u8, arrival: &Arrival) -> Outcome {
    let worker = WorkerId(queue % director.workers().len() as u8);
    let outcome = director.take_at(worker, arrival.nic, &arrival.frame);
    let more = outcome.more.into_iter().map(|(nic, frame)| (nic, masked(&frame))).collect();
    Outcome { frame: masked(&outcome.frame), more, ..outcome }
}

/// What a director knows, in an order that no table has.
fn known(director: &Director) -> Vec<String> {
    let records = director.records();
    let v4 = records.v4.iter().map(|record| format!("{record:?}"));
    let mut lines: Vec<_> = v4.chain(records.v6.iter().map(|record| format!("{record:?}"))).collect();
    lines.sort();
    lines
}

/// What each real server has, by its name: active and inactive connections.
fn counts(director: &Director) -> BTreeMap<String, [u64; 2]> {
    let snapshot = director.snapshot();
    let reals = snapshot.reals.iter().flatten().filter_map(|real| {
        let counts = [real.counters.sum(|cell| &cell.active), real.counters.sum(|cell| &cell.inactive)];
        Some((snapshot.real_name(real.id)?.to_string(), counts))
    });
    reals.filter(|(_, counts)| *counts != [0; 2]).collect()
}

fn hand_over(old: &mut Director, workers: u8) -> Director {
    old.sweep();
    let mut new = successor(workers, old.plan());
    let records = old.records();
    new.admit(&records).expect("all of them are taken in");
    assert_eq!(known(old), known(&new));
    assert_eq!(counts(old), counts(&new));
    let is_template = |line: &&String| line.starts_with("Template");
    let reals = new.snapshot().reals.iter().flatten();
    let templates = reals.map(|real| real.counters.sum(|cell| &cell.persistent)).sum::<u64>();
    assert_eq!(templates, known(&new).iter().filter(is_template).count() as u64);
    invariants::books_balance(&new);
    new
}

proptest! {
    #[test]
    fn who_takes_over_decides_the_same(
        scheduler in select(vec![Scheduler::Sh, Scheduler::Mh, Scheduler::Dh, Scheduler::Fo]),
        (workers, others) in (1_u8..=3, 1_u8..=3),
        before in vec((vec(frame(), 1..40), edit(), pause()), 1..8),
        after in vec((vec((frame(), 0..3_u8), 1..40), edit(), pause()), 1..6),
    ) {
        let mut old = Director::new(workers, CONNECTIONS, plan(scheduler));
        for (frames, edit, pause) in before {
            for arrival in frames.iter().filter(|arrival| !is_fragment(&arrival.frame)) {
                prop_assert_ne!(take(&mut old, 0, arrival).verdict, Verdict::Gather);
            }
            old.publish(|plan| apply(&edit, plan));
            old.advance(pause);
        }
        let mut new = hand_over(&mut old, others);
        for (frames, edit, pause) in after {
            for (arrival, queue) in &frames {
                let want = take(&mut old, 0, arrival);
                let got = take(&mut new, *queue, arrival);
                prop_assert_eq!(want, got, "{}", text::frame(&arrival.frame));
            }
            for director in [&mut old, &mut new] {
                director.publish(|plan| apply(&edit, plan));
                director.advance(pause);
            }
            prop_assert_eq!(known(&old), known(&new));
        }
        for director in [&mut old, &mut new] {
            director.sweep();
            invariants::books_balance(director);
        }
        prop_assert_eq!(counts(&old), counts(&new));
    }

    /// Schedulers that go by what is counted choose the same.
    #[test]
    fn what_is_counted_is_taken_over(
        scheduler in select(vec![Scheduler::Lc, Scheduler::Wlc, Scheduler::Sed]),
        others in 1_u8..=3,
        before in vec((vec(frame(), 1..40), pause()), 1..8),
        after in vec(frame(), 1..100),
    ) {
        let mut old = Director::new(1, CONNECTIONS, plan(scheduler));
        for (frames, pause) in before {
            for arrival in frames.iter().filter(|arrival| !is_fragment(&arrival.frame)) {
                take(&mut old, 0, arrival);
            }
            old.advance(pause);
        }
        let mut new = hand_over(&mut old, others);
        for arrival in &after {
            prop_assert_eq!(take(&mut old, 0, arrival), take(&mut new, 0, arrival), "{}", text::frame(&arrival.frame));
        }
        prop_assert_eq!(known(&old), known(&new));
        prop_assert_eq!(counts(&old), counts(&new));
    }
}

/// The other director is another one: its key, its numbers of real servers and its clock differ, and so do the owners of clients.
#[test]
fn the_successor_is_not_the_same_director() {
    let plan = plan(Scheduler::Sh);
    let old = Director::new(3, CONNECTIONS, plan.clone());
    let new = successor(3, &plan);
    let numbers = |director: &Director| {
        let snapshot = director.snapshot();
        let reals = snapshot.reals.iter().flatten();
        reals
            .filter_map(|real| Some((snapshot.real_name(real.id)?.to_string(), real.id)))
            .collect::<BTreeMap<_, _>>()
    };
    let (old_numbers, new_numbers) = (numbers(&old), numbers(&new));
    assert!(old_numbers.keys().eq(new_numbers.keys()));
    let moved = old_numbers.iter().filter(|(name, id)| new_numbers[*name] != **id).count();
    assert!(moved * 2 > old_numbers.len(), "{moved} of {}", old_numbers.len());
    assert_ne!(old.now(), new.now());
    assert_ne!(format!("{KEY:?}"), format!("{OTHER_KEY:?}"));
    for (name, id) in &new_numbers {
        let named = new.snapshot().real_name(*id).unwrap();
        assert_eq!(new.registry().numbered(&named), Some(*id), "{name}");
    }
}
