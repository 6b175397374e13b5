//! What passes by and says how a real server is: each kind is counted where it is due, once, and for nobody else.

use std::time::Duration;

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::Evidence;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Persistence};
use shunt_dataplane::snapshot::Plan;
use shunt_dataplane::time::Ticks;
use shunt_tests::director::Director;
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet, number};

/// A story, and what is counted then: answered, refused, unanswered, unreachable, time exceeded.
///
/// `c` and `r` are packets of the client and of the real server with their TCP flags; `+` lets milliseconds go by; `net`, `port`,
/// `big` and `ttl` are ICMP errors that a router behind tells about the client's packet, `other-net` about a packet of another
/// connection, `cut-net` one whose checksum is wrong.
type Row = (&'static str, &'static str, [u64; 5]);

const NAT: &[Row] = &[
    ("answered", "cS rSA cA cPA rA rFA cFA rA", [1, 0, 0, 0, 0]),
    ("answered again", "cS rSA +1000 rSA +1000 cS rSA cA", [1, 0, 0, 0, 0]),
    ("refused", "cS rRA", [0, 1, 0, 0, 0]),
    ("refused twice", "cS rRA rRA +10 cS rRA", [0, 2, 0, 0, 0]),
    ("reset after the answer", "cS rSA rR", [1, 0, 0, 0, 0]),
    ("reset while open", "cS rSA cA rA rRA", [1, 0, 0, 0, 0]),
    ("the client resets", "cS cR +1000 cR", [0, 0, 0, 0, 0]),
    ("no answer", "cS +1000 cS", [0, 0, 1, 0, 0]),
    ("no answer for long", "cS +1000 cS +2000 cS +4000 cS", [0, 0, 3, 0, 0]),
    ("a late answer", "cS +1000 cS +100 rSA +1000 cS cA", [1, 0, 1, 0, 0]),
    ("a copy of the SYN", "cS cS +10 cS +500 cS", [0, 0, 0, 0, 0]),
    ("a SYN alone expires", "cS +61000", [0, 0, 0, 0, 0]),
    ("ports used again", "cS rSA cA cFA rFA cA +100 cS +1000 cS", [1, 0, 1, 0, 0]),
    ("ports used again, refused", "cS rSA cA rRA +100 cS rRA", [1, 1, 0, 0, 0]),
    ("unreachable", "cS net", [0, 0, 0, 1, 0]),
    ("unreachable while open", "cS rSA cA net +10 net", [1, 0, 0, 2, 0]),
    ("rejected by a firewall", "cS port", [0, 0, 0, 1, 0]),
    ("too big", "cS rSA cA big", [1, 0, 0, 0, 0]),
    ("time exceeded", "cS ttl", [0, 0, 0, 0, 1]),
    ("unreachable, of no connection", "cS other-net", [0, 0, 0, 0, 0]),
    ("unreachable, damaged", "cS cut-net", [0, 0, 0, 0, 0]),
];

/// What a real server does that answers by itself, or through the director as its router.
const ONE_WAY: &[Row] =
    &[("no answer", "cS +1000 cS +2000 cS", [0; 5]), ("the client is told", "cS net ttl", [0; 5])];

fn error(form: Form, method: Method, word: &str) -> Vec<u8> {
    let (word, port) = word.strip_prefix("other-").map_or((word, 40000), |word| (word, 40001));
    let (word, cut) = word.strip_prefix("cut-").map_or((word, false), |word| (word, true));
    let (kind, code) = match (form, word) {
        (Form::V4, "net") => (3, 1),
        (Form::V4, "port") => (3, 3),
        (Form::V4, "big") => (3, 4),
        (Form::V4, "ttl") => (11, 0),
        (Form::V6, "net") => (1, 3),
        (Form::V6, "port") => (1, 4),
        (Form::V6, "big") => (2, 0),
        (Form::V6, "ttl") => (3, 0),
        _ => panic!("no such error: {word}"),
    };
    let at = if method == Method::Nat { (form.real(1), 8080) } else { (form.vip().to_owned(), 80) };
    let quote = Ip::new(&form.client(1), &at.0).ttl(62).tcp(&Tcp::new(port, at.1, "S"));
    let mut error = Ip::new(&form.real(99), &form.client(1)).icmp(kind, code, 1400, &quote);
    if cut {
        *error.last_mut().expect("bytes") ^= 1;
    }
    error
}

fn play(form: Form, method: Method, row: &Row) {
    let service = network::service(form, Protocol::Tcp, 80, Scheduler::Rr, method, 1);
    play_with(form, network::plan(vec![service]), row);
}

fn play_with(form: Form, plan: Plan, (name, story, wanted): &Row) {
    let (listen, real) = (plan.services[0].listen, plan.services[0].reals[0].clone());
    let (address, method) = (real.address, real.method);
    let mut director = Director::new(1, 64, plan);
    let (client, real) = (form.client(1), form.real(1));
    for word in story.split(' ') {
        let outcome = match word.split_at(1) {
            ("+", time) => {
                director.advance(Duration::from_millis(time.parse().expect("milliseconds")));
                continue;
            }
            ("c", flags) => {
                let packet = Ip::new(&client, form.vip()).tcp(&Tcp::new(40000, 80, flags));
                let outcome = director.take(FRONT, &ethernet(nic_mac(FRONT), ROUTER, &packet));
                assert_eq!(outcome.verdict, Verdict::Send(BACK), "{name}: {word}");
                outcome
            }
            ("r", flags) => {
                let packet = Ip::new(&real, &client).tcp(&Tcp::new(8080, 40000, flags));
                let outcome = director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &packet));
                assert_eq!(outcome.verdict, Verdict::Send(FRONT), "{name}: {word}");
                outcome
            }
            _ => director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &error(form, method, word))),
        };
        assert!(!matches!(outcome.verdict, Verdict::Punt(_)), "{name}: {word}");
    }
    let registry = director.registry();
    let service = registry.service_id(listen, Protocol::Tcp).expect("a service");
    let id = registry.real_id(service, address).expect("a real server");
    let counters = registry.counters(id).expect("counters");
    let counted: Vec<u64> = Evidence::ALL.iter().map(|evidence| counters.evidence(*evidence)).collect();
    assert_eq!(counted, wanted, "{name}, {form:?} {method}: {story}");
    let failures = Evidence::ALL.iter().filter(|evidence| evidence.is_failure());
    let failed = failures.map(|evidence| counters.evidence(*evidence)).sum::<u64>() > 0;
    assert_eq!(counters.last_failure(director.now()).is_some(), failed, "{name}");
}

#[test]
fn nat() {
    for form in Form::BOTH {
        NAT.iter().for_each(|row| play(form, Method::Nat, row));
    }
}

/// A client of FTP names the port of its data: a closed one says nothing about the real server.
#[test]
fn data_of_ftp() {
    for form in Form::BOTH {
        let mut service = network::service(form, Protocol::Tcp, 21, Scheduler::Rr, Method::Nat, 1);
        let netmask = if form == Form::V4 { 32 } else { 128 };
        service.settings.persistence = Some(Persistence { timeout: Ticks::from_seconds(60), netmask });
        let (listen, address) = (service.listen, service.reals[0].address);
        let mut director = Director::new(1, 64, network::plan(vec![service]));
        let (client, real) = (form.client(1), form.real(1));
        let (kind, code) = if form == Form::V4 { (3, 3) } else { (1, 4) };
        for (port, reached) in [(21, address.port()), (5000, 5000)] {
            let question = Ip::new(&client, form.vip()).tcp(&Tcp::new(40_000, port, "S"));
            director.take(FRONT, &ethernet(nic_mac(FRONT), ROUTER, &question));
            director.advance(Duration::from_secs(1));
            director.take(FRONT, &ethernet(nic_mac(FRONT), ROUTER, &question));
            let seen = Ip::new(&client, &real).tcp(&Tcp::new(40_000, reached, "S"));
            let error = Ip::new(&real, &client).icmp(kind, code, 0, &seen);
            let refusal = Ip::new(&real, &client).tcp(&Tcp::new(reached, 40_000, "RA"));
            for answer in [error, refusal] {
                let outcome = director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &answer));
                assert_eq!(outcome.verdict, Verdict::Send(FRONT), "{form:?} {port}");
            }
        }
        let registry = director.registry();
        let id = registry.real_id(registry.service_id(listen, Protocol::Tcp).expect("it"), address);
        let counters = registry.counters(id.expect("a real server")).expect("counters");
        let counted: Vec<u64> = Evidence::ALL.iter().map(|evidence| counters.evidence(*evidence)).collect();
        assert_eq!(counted, [0, 1, 1, 1, 0], "{form:?}: FTP itself, once each");
    }
}

/// Of UDP and SCTP errors alone tell.
#[test]
fn udp_and_sctp() {
    for (form, protocol) in
        Form::BOTH.into_iter().flat_map(|form| [(form, Protocol::Udp), (form, Protocol::Sctp)])
    {
        let service = network::service(form, protocol, 53, Scheduler::Rr, Method::Nat, 1);
        let (listen, address) = (service.listen, service.reals[0].address);
        let mut director = Director::new(1, 64, network::plan(vec![service]));
        let (client, real) = (form.client(1), form.real(1));
        let packet = |from: &str, to: &str, ports: (u16, u16), chunk: u8| match protocol {
            Protocol::Udp => Ip::new(from, to).udp(ports.0, ports.1, b"question"),
            _ => Ip::new(from, to).sctp(ports.0, ports.1, &[chunk, 0, 0, 4]),
        };
        let (init, abort) = (1, 6);
        let question = packet(&client, form.vip(), (40000, 53), init);
        let again = |director: &mut Director| {
            director.take(FRONT, &ethernet(nic_mac(FRONT), ROUTER, &question));
            director.advance(Duration::from_millis(1000));
        };
        again(&mut director);
        again(&mut director);
        let quote = packet(&client, &real, (40000, 8053), init);
        let (kind, code) = if form == Form::V4 { (3, 3) } else { (1, 4) };
        let error = Ip::new(&real, &client).icmp(kind, code, 0, &quote);
        let outcome = director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &error));
        assert_eq!(outcome.verdict, Verdict::Send(FRONT), "{form:?} {protocol}");
        let answer = packet(&real, &client, (8053, 40000), abort);
        director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &answer));
        let registry = director.registry();
        let id = registry.real_id(registry.service_id(listen, protocol).expect("it"), address);
        let counters = registry.counters(id.expect("a real server")).expect("counters");
        let counted: Vec<u64> = Evidence::ALL.iter().map(|evidence| counters.evidence(*evidence)).collect();
        assert_eq!(counted, [0, 0, 0, 1, 0], "{form:?} {protocol}");
    }
}

/// A connection that begins anew in the same entry has to be answered anew.
#[test]
fn another_life_by_the_same_ports() {
    let service = network::service(Form::V4, Protocol::Tcp, 80, Scheduler::Rr, Method::Nat, 1);
    let mut plan = network::plan(vec![service]);
    plan.sysctls.conn_reuse_mode = 0;
    let story = "cS rSA cA cFA rFA cA +100 cS +1000 cS rRA";
    play_with(Form::V4, plan, &("ports used again", story, [1, 1, 1, 0, 0]));
}

#[test]
fn real_servers_that_answer_themselves() {
    for form in Form::BOTH {
        ONE_WAY.iter().for_each(|row| play(form, Method::Dr, row));
        ONE_WAY.iter().for_each(|row| play(form, Method::Tun, row));
    }
}

/// A router says of a tunnel's packet, with this connection's packet in it, that it did not arrive.
#[test]
fn tunnels() {
    let form = Form::V4;
    let service = network::service(form, Protocol::Tcp, 80, Scheduler::Rr, Method::Tun, 1);
    let (listen, address) = (service.listen, service.reals[0].address);
    let mut director = Director::new(1, 64, network::plan(vec![service]));
    let packet = |port| Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(port, 80, "S"));
    director.take(FRONT, &ethernet(nic_mac(FRONT), ROUTER, &packet(40000)));
    for (port, (kind, code), wanted) in [
        (40000, (3, 1), [0, 0, 0, 1, 0]),
        (40001, (3, 1), [0, 0, 0, 1, 0]),
        (40000, (3, 4), [0, 0, 0, 1, 0]),
        (40000, (11, 0), [0, 0, 0, 1, 1]),
        (40000, (3, 2), [0, 0, 0, 2, 1]),
    ] {
        let outer = Ip::new(form.own(BACK), &form.real(1)).ttl(60).df().carry(number::IPV4, &packet(port));
        let error = Ip::new(&form.real(99), form.own(BACK)).icmp(kind, code, 1400, &outer);
        director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &error));
        let registry = director.registry();
        let id = registry.real_id(registry.service_id(listen, Protocol::Tcp).expect("it"), address);
        let counters = registry.counters(id.expect("a real server")).expect("counters");
        let counted: Vec<u64> = Evidence::ALL.iter().map(|evidence| counters.evidence(*evidence)).collect();
        assert_eq!(counted, wanted, "{port} {kind}/{code}");
    }
}
