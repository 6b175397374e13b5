//! Floods of one address, of a network, and of addresses of nobody: who comes new gets in, what is open goes on, and the books hold.

use std::net::Ipv4Addr;
use std::time::Duration;

use shunt_dataplane::connections::Share;
use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::reason::{DropReason, Reclaimed};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Persistence, Thresholds};
use shunt_dataplane::time::Ticks;
use shunt_tests::director::{Director, Outcome};
use shunt_tests::network::{self, Form};
use shunt_tests::packets::{self, Ip, Tcp};

const CAPACITY: u32 = 512;

/// Port 80 of TCP, port 53 of UDP, in both forms.
fn director(method: Method, persistent: bool) -> Director {
    let mut services = Vec::new();
    for form in Form::BOTH {
        services.push(network::service(form, Protocol::Tcp, 80, Scheduler::Wlc, method, 3));
        services.push(network::service(form, Protocol::Udp, 53, Scheduler::Rr, method, 3));
    }
    if persistent {
        let netmask = |v4: bool| if v4 { 32 } else { 128 };
        for service in &mut services {
            let netmask = netmask(service.listen.is_ipv4());
            service.settings.persistence = Some(Persistence { timeout: Ticks::from_seconds(300), netmask });
        }
    }
    let mut plan = network::plan(services);
    plan.client_share = Share(25);
    Director::new(1, CAPACITY, plan)
}

fn frame(packet: &[u8]) -> Vec<u8> {
    packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, packet)
}

fn tcp(director: &mut Director, form: Form, client: &str, port: u16, flags: &str) -> Outcome {
    let packet = Ip::new(client, form.vip()).tcp(&Tcp::new(port, 80, flags));
    director.take(network::FRONT, &frame(&packet))
}

fn udp(director: &mut Director, form: Form, client: &str, port: u16) -> Outcome {
    let packet = Ip::new(client, form.vip()).udp(port, 53, b"question");
    director.take(network::FRONT, &frame(&packet))
}

fn is_sent(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Send(_))
}

/// A client that nobody else is.
fn stranger(form: Form, number: u32) -> String {
    match form {
        Form::V4 => Ipv4Addr::from_bits(0x0b00_0000 + number).to_string(),
        Form::V6 => format!("2001:db9:{:x}:{:x}::1", number >> 16, number & 0xffff),
    }
}

/// What workers count for real servers is what a recount of the table gives.
fn assert_counts(director: &Director) {
    let (mut active, mut inactive, mut persistent) = (0, 0, 0);
    for real in director.snapshot().reals.iter().flatten() {
        active += real.counters.sum(|cell| &cell.active);
        inactive += real.counters.sum(|cell| &cell.inactive);
        persistent += real.counters.sum(|cell| &cell.persistent);
    }
    let worker = &director.workers()[0];
    let mut recount = (0, 0);
    let mut count = |is_active: bool| if is_active { recount.0 += 1 } else { recount.1 += 1 };
    // Dead ones that were not swept are in both.
    let at_start = shunt_dataplane::time::Tick(0);
    worker.v4().list(&mut 0, usize::MAX >> 1, at_start, |entry| count(entry.counts_as_active()));
    worker.v6().list(&mut 0, usize::MAX >> 1, at_start, |entry| count(entry.counts_as_active()));
    // Those that are over and were not swept are among them.
    let templates = worker.v4().templates().fill().0 + worker.v6().templates().fill().0;
    assert_eq!((active, inactive), recount);
    assert_eq!(persistent as usize, templates);
    let made = worker.counters().connections_made.get() - worker.counters().connections_expired.get();
    assert_eq!(made as usize, worker.v4().len() + worker.v6().len());
    assert_eq!(director.held(), 0);
}

/// Ten open connections and ten exchanges, which nothing may touch.
fn open(director: &mut Director, form: Form) {
    for port in 1000..1010 {
        for flags in ["S", "A"] {
            assert!(is_sent(&tcp(director, form, &form.client(1), port, flags)));
        }
        assert!(is_sent(&udp(director, form, &form.client(1), port)));
        assert!(is_sent(&udp(director, form, &form.client(1), port)));
    }
}

fn assert_open(director: &mut Director, form: Form) {
    let before = director.workers()[0].counters().connections_made.get();
    for port in 1000..1010 {
        assert!(is_sent(&tcp(director, form, &form.client(1), port, "A")), "{form:?} {port}");
        assert!(is_sent(&udp(director, form, &form.client(1), port)), "{form:?} {port}");
    }
    assert_eq!(director.workers()[0].counters().connections_made.get(), before, "as the same connections");
}

/// What a flood sends as its packet of this number, so often each.
type Flood = fn(&mut Director, Form, u32);

const FLOODS: [(&str, Flood); 8] = [
    ("UDP of one address", |director, form, number| {
        udp(director, form, &form.client(99), 2000 + number as u16);
    }),
    ("UDP of one address that sends twice", |director, form, number| {
        for _ in 0..2 {
            udp(director, form, &form.client(99), 2000 + number as u16);
        }
    }),
    ("SYN of one address", |director, form, number| {
        tcp(director, form, &form.client(99), 2000 + number as u16, "S");
    }),
    ("handshakes of one address", |director, form, number| {
        tcp(director, form, &form.client(99), 2000 + number as u16, "S");
        tcp(director, form, &form.client(99), 2000 + number as u16, "A");
    }),
    ("UDP of nobody", |director, form, number| {
        udp(director, form, &stranger(form, number), 2000);
    }),
    ("SYN of nobody", |director, form, number| {
        tcp(director, form, &stranger(form, number), 2000, "S");
    }),
    ("SYN and RST of nobody", |director, form, number| {
        tcp(director, form, &stranger(form, number), 2000, "S");
        tcp(director, form, &stranger(form, number), 2000, "R");
    }),
    ("SYN, ACK and RST of nobody", |director, form, number| {
        for flags in ["S", "A", "R"] {
            tcp(director, form, &stranger(form, number), 2000, flags);
        }
    }),
];

#[test]
fn a_flood_keeps_nobody_out_and_touches_nothing_that_is_open() {
    for (method, persistent) in
        [(Method::Dr, false), (Method::Nat, false), (Method::Tun, false), (Method::Dr, true)]
    {
        for (what, flood) in FLOODS {
            for form in Form::BOTH {
                let context = format!("{what}, {method} {form:?} persistent {persistent}");
                let mut director = director(method, persistent);
                open(&mut director, form);
                (0..3 * CAPACITY).for_each(|number| flood(&mut director, form, number));
                // In the midst of it others come.
                for number in 0..20 {
                    let client = stranger(form, 0x10_0000 + number);
                    assert!(is_sent(&tcp(&mut director, form, &client, 4000, "S")), "{context} {number}");
                    (0..9).for_each(|more| flood(&mut director, form, 4000 + 9 * number + more));
                    assert!(is_sent(&tcp(&mut director, form, &client, 4000, "A")), "{context} {number}");
                    assert!(is_sent(&udp(&mut director, form, &client, 4000)), "{context} {number}");
                }
                assert_open(&mut director, form);
                assert_counts(&director);
                let table = &director.workers()[0].counters().tables[form as usize];
                let refused = table.client_share.get();
                assert!(table.reclaimed.sum() + refused > 0, "{context}");
                let other = &director.workers()[0].counters().tables[1 - form as usize];
                assert_eq!(
                    (other.reclaimed.sum(), other.full.get(), other.client_share.get()),
                    (0, 0, 0),
                    "{context}"
                );
                director.advance(Duration::from_secs(1000));
                assert_counts(&director);
            }
        }
    }
}

#[test]
fn what_was_given_up_is_counted_by_what_it_was() {
    let mut director = director(Method::Dr, false);
    for number in 0..CAPACITY + 7 {
        tcp(&mut director, Form::V4, &stranger(Form::V4, number), 2000, "S");
    }
    for number in 0..5 {
        udp(&mut director, Form::V4, &stranger(Form::V4, number), 2000);
    }
    let table = &director.workers()[0].counters().tables[0];
    assert_eq!(table.reclaimed.at(Reclaimed::HalfOpen as usize).get(), 12);
    assert_eq!(table.reclaimed.sum(), 12);
}

#[test]
fn a_table_of_open_connections_refuses_new_ones_under_the_name_of_its_family() {
    for form in Form::BOTH {
        let mut director = director(Method::Dr, false);
        director.publish(|plan| plan.client_share = Share::WHOLE);
        for number in 0..CAPACITY {
            for flags in ["S", "A"] {
                tcp(&mut director, form, &stranger(form, number), 2000, flags);
            }
        }
        // It looks for such whose time has come, so often in a tick.
        let refused = (0..100).map(|number| tcp(&mut director, form, &form.client(7), 3000 + number, "S"));
        assert!(
            refused
                .map(|outcome| outcome.verdict)
                .all(|verdict| verdict == Verdict::Drop(DropReason::TableFull))
        );
        let full = |of: Form| director.workers()[0].counters().tables[of as usize].full.get();
        assert_eq!(Form::BOTH.map(full), Form::BOTH.map(|other| if other == form { 100 } else { 0 }));
    }
}

#[test]
fn thresholds_follow_what_is_given_up() {
    let mut director = director(Method::Dr, false);
    director.publish(|plan| {
        for real in &mut plan.services[0].reals {
            real.thresholds = Thresholds { upper: 150, lower: 0 };
        }
    });
    for number in 0..2000 {
        tcp(&mut director, Form::V4, &stranger(Form::V4, number), 2000, "S");
        udp(&mut director, Form::V4, &stranger(Form::V4, number), 2000);
    }
    assert_counts(&director);
    director.advance(Duration::from_secs(400));
    assert!(is_sent(&tcp(&mut director, Form::V4, &Form::V4.client(5), 1000, "S")));
}

#[test]
fn a_service_leaves_room_for_the_others() {
    let mut director = director(Method::Nat, false);
    director.publish(|plan| {
        plan.client_share = Share::WHOLE;
        plan.services[0].settings.share = Share(50);
    });
    for number in 0..2 * CAPACITY {
        for flags in ["S", "A"] {
            tcp(&mut director, Form::V4, &stranger(Form::V4, number), 2000, flags);
        }
    }
    let table = &director.workers()[0].counters().tables[0];
    assert!(table.service_share.get() > 0 && table.full.get() == 0);
    assert!((0..40).all(|number| is_sent(&udp(&mut director, Form::V4, &stranger(Form::V4, number), 2000))));
    assert_counts(&director);
}

#[test]
fn each_worker_has_a_table_of_its_own() {
    let mut services = vec![network::service(Form::V4, Protocol::Udp, 53, Scheduler::Rr, Method::Dr, 3)];
    services[0].settings.one_packet = false;
    let mut plan = network::plan(services);
    plan.client_share = Share(25);
    let mut director = Director::new(2, CAPACITY, plan);
    for port in 0..3 * CAPACITY as u16 {
        let packet = Ip::new(&Form::V4.client(99), Form::V4.vip()).udp(2000 + port, 53, b"x");
        director.take_at(WorkerId((port % 2) as u8), network::FRONT, &frame(&packet));
    }
    let lens: Vec<usize> = director.workers().iter().map(|worker| worker.v4().len()).collect();
    assert!(lens.contains(&0) && lens.iter().all(|len| *len < CAPACITY as usize), "{lens:?}");
}
