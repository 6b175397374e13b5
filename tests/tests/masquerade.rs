//! Hosts behind the director reach others by an address of its own, and nobody else notices.

use std::collections::HashSet;
use std::time::Duration;

use shunt_dataplane::forward::{Punt, Step, Verdict};
use shunt_dataplane::forwarding::{End, ForwardRule};
use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::masquerade::{MasqueradeRule, PORTS};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::{Arrival, Director, Outcome};
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet};
use shunt_tests::text;

fn outside(form: Form) -> &'static str {
    if form == Form::V4 { "203.0.113.9" } else { "2001:db8:ffff::9" }
}

/// The real servers' network leaves by the director's own address in front.
fn rule(form: Form) -> MasqueradeRule {
    let from = if form == Form::V4 { "10.1.0.0/24" } else { "2001:db8:1::/64" };
    MasqueradeRule { from: from.parse().unwrap(), to: None, except: None, nic: Some(FRONT), address: None }
}

fn plan(form: Form) -> Plan {
    let service = network::service(form, Protocol::Tcp, 80, Scheduler::Rr, Method::Nat, 2);
    Plan { masquerades: vec![rule(form)], ..network::plan(vec![service]) }
}

fn director(form: Form) -> Director {
    Director::new(1, 256, plan(form))
}

fn from_host(host: u8, packet: &[u8]) -> Arrival {
    Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(host), packet) }
}

fn from_outside(packet: &[u8]) -> Arrival {
    Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, packet) }
}

fn take(director: &mut Director, arrival: &Arrival) -> Outcome {
    let outcome = director.take(arrival.nic, &arrival.frame);
    assert_eq!(director.held(), 0);
    outcome
}

/// What leaves, read.
fn sent(director: &mut Director, arrival: &Arrival) -> String {
    let outcome = take(director, arrival);
    let (_, frame) = outcome.sent().unwrap_or_else(|| panic!("{outcome:?}"));
    text::frame(frame)
}

fn to_outside(packet: &[u8]) -> String {
    text::frame(&ethernet(ROUTER, nic_mac(FRONT), packet))
}

fn to_host(host: u8, packet: &[u8]) -> String {
    text::frame(&ethernet(real_mac(host), nic_mac(BACK), packet))
}

/// The port that a UDP or TCP frame leaves by.
fn source_port(outcome: &Outcome) -> u16 {
    let (_, frame) = outcome.sent().unwrap_or_else(|| panic!("{outcome:?}"));
    let at = if frame[12] == 8 { 34 } else { 54 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

#[test]
fn tcp_out_and_back_keeps_its_port_and_all_else() {
    for form in Form::BOTH {
        let mut director = director(form);
        let (host, own) = (form.real(3), form.own(FRONT));
        for (flags, back) in [("S", "SA"), ("A", "A"), ("PA", "PA"), ("FA", "FA"), ("A", "A")] {
            let out = |source: &str, ttl| {
                let tcp = Tcp::new(40_000, 443, flags).numbers(7, 8).data(b"hello");
                Ip::new(source, outside(form)).ttl(ttl).id(9).tcp(&tcp)
            };
            assert_eq!(sent(&mut director, &from_host(3, &out(&host, 64))), to_outside(&out(own, 63)));
            let answer = |destination: &str, ttl| {
                let tcp = Tcp::new(443, 40_000, back).numbers(8, 9).data(b"you");
                Ip::new(outside(form), destination).ttl(ttl).id(9).tcp(&tcp)
            };
            assert_eq!(sent(&mut director, &from_outside(&answer(own, 50))), to_host(3, &answer(&host, 49)));
        }
        assert_eq!(director.connections().len(), 1);
        let real = director.snapshot().reals.iter().flatten().find(|real| real.is_masquerade()).unwrap();
        let counted = [&|cell: &shunt_dataplane::counters::RealCell| cell.packets_out.get()];
        assert_eq!(counted.map(|field| field(real.counters.of(WorkerId(0)))), [5]);
        // Closed from both sides: two minutes, and it is gone.
        director.advance(Duration::from_secs(122));
        assert!(director.connections().is_empty());
    }
}

#[test]
fn udp_that_shares_a_port_gets_another_one() {
    for form in Form::BOTH {
        let mut director = director(form);
        let own = form.own(FRONT);
        let mut ports = HashSet::new();
        for host in 1..=4 {
            let out = Ip::new(&form.real(host), outside(form)).udp(40_000, 53, b"?");
            let port = source_port(&take(&mut director, &from_host(host, &out)));
            assert!(PORTS.contains(&port) && ports.insert(port), "{port}");
            let answer = |destination: &str, port, ttl| {
                Ip::new(outside(form), destination).ttl(ttl).udp(53, port, b"!")
            };
            let back = sent(&mut director, &from_outside(&answer(own, port, 60)));
            assert_eq!(back, to_host(host, &answer(&form.real(host), 40_000, 59)));
        }
        // A low port is never kept: it is the kernel side's.
        let out = Ip::new(&form.real(1), outside(form)).udp(1024, 53, b"?");
        assert!(PORTS.contains(&source_port(&take(&mut director, &from_host(1, &out)))));
        director.advance(Duration::from_secs(302));
        assert!(director.connections().is_empty());
    }
}

#[test]
fn ports_run_out_and_are_counted() {
    let mut director = Director::new(1, 40_000, plan(Form::V4));
    let out = |number: u16, to: &str| {
        let host = form_host(number);
        from_host(1, &Ip::new(&host, to).udp(2000 + number / 200, 53, b"?"))
    };
    let mut gone = 0;
    for number in 0..33_000 {
        match take(&mut director, &out(number, outside(Form::V4))).verdict {
            Verdict::Send(_) => {}
            Verdict::Drop(reason) => {
                assert_eq!(reason, DropReason::MasqueradePorts);
                gone += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let made = director.connections().len();
    assert!((32_000..=32_768).contains(&made), "{made}");
    assert_eq!(gone, 33_000 - made);
    // To another place there are as many again.
    assert!(matches!(take(&mut director, &out(0, "203.0.113.10")).verdict, Verdict::Send(_)));
}

fn form_host(number: u16) -> String {
    format!("10.1.0.{}", 20 + number % 200)
}

#[test]
fn echo_out_and_back() {
    for form in Form::BOTH {
        let mut director = director(form);
        let (own, (ask, answer)) = (form.own(FRONT), if form == Form::V4 { (8, 0) } else { (128, 129) });
        // The same identifier from two hosts.
        let mut seen = HashSet::new();
        for host in [1, 2] {
            let packet = Ip::new(&form.real(host), outside(form)).icmp(ask, 0, 0x9000_0001, b"ping");
            let outcome = take(&mut director, &from_host(host, &packet));
            let frame = outcome.sent().unwrap().1;
            let at = if form == Form::V4 { 38 } else { 58 };
            let identifier = u16::from_be_bytes([frame[at], frame[at + 1]]);
            assert!(seen.insert(identifier));
            let rest = u32::from(identifier) << 16 | 1;
            let wanted = Ip::new(own, outside(form)).ttl(63).icmp(ask, 0, rest, b"ping");
            assert_eq!(frame, ethernet(ROUTER, nic_mac(FRONT), &wanted));
            let back = Ip::new(outside(form), own).icmp(answer, 0, rest, b"ping");
            let outcome = take(&mut director, &from_outside(&back));
            let wanted =
                Ip::new(outside(form), &form.real(host)).ttl(63).icmp(answer, 0, 0x9000_0001, b"ping");
            assert_eq!(outcome.sent().unwrap().1, ethernet(real_mac(host), nic_mac(BACK), &wanted));
        }
        // Others' pings of that address are the kernel side's, and so are answers that nobody asked for.
        let ping = Ip::new(outside(form), own).icmp(ask, 0, 0x9000_0001, b"ping");
        assert_eq!(take(&mut director, &from_outside(&ping)).verdict, Verdict::Punt(Punt::Local));
        director.advance(Duration::from_secs(32));
        assert!(director.connections().is_empty());
        let late = Ip::new(outside(form), own).icmp(answer, 0, 0x9000_0001, b"ping");
        assert_eq!(take(&mut director, &from_outside(&late)).verdict, Verdict::Punt(Punt::Local));
    }
}

/// A router on the way tells the host of an error; the packet in it is the host's own again.
#[test]
fn errors_reach_the_host() {
    for form in Form::BOTH {
        let mut director = director(form);
        let (host, own, router) = (form.real(3), form.own(FRONT), form.router());
        let (kind, code) = if form == Form::V4 { (11, 0) } else { (3, 0) };
        let ask = if form == Form::V4 { 8 } else { 128 };
        type Build = fn(&Ip, u8) -> Vec<u8>;
        let udp: Build = |ip, _| ip.udp(40_000, 33_434, b"traceroute");
        let echo: Build = |ip, ask| ip.icmp(ask, 0, 0x9000_0007, b"traceroute");
        for build in [udp, echo] {
            let packet = |source: &str, ttl| build(&Ip::new(source, outside(form)).ttl(ttl), ask);
            assert!(take(&mut director, &from_host(3, &packet(&host, 5))).sent().is_some());
            let error = Ip::new(router, own).icmp(kind, code, 0, &packet(own, 1));
            let outcome = take(&mut director, &from_outside(&error));
            let (_, frame) = outcome.sent().unwrap_or_else(|| panic!("{outcome:?}"));
            let read = text::frame(frame);
            // The checksum of the quoted header stays as it is, so that only the addresses are compared.
            let quoted = if form == Form::V4 { 42 } else { 62 };
            let addresses = if form == Form::V4 { 12..20 } else { 8..40 };
            assert_eq!(frame[quoted..][addresses.clone()], packet(&host, 1)[addresses], "{read}");
            assert!(read.contains(&format!("{router}>{host} ")), "{read}");
        }
        // And the host's own errors about answers reach who sent them, from the address that he knows.
        let answer = |to: &str| Ip::new(outside(form), to).udp(33_434, 40_000, b"late");
        let (kind, code) = if form == Form::V4 { (3, 3) } else { (1, 4) };
        let error = Ip::new(&host, outside(form)).icmp(kind, code, 0, &answer(&host));
        let outcome = take(&mut director, &from_host(3, &error));
        let read = text::frame(outcome.sent().unwrap().1);
        assert!(read.contains(&format!("{own}>{} ", outside(form))), "{read}");
    }
}

/// A datagram in fragments, both ways.
#[test]
fn fragments() {
    let form = Form::V4;
    let mut director = director(form);
    let whole = |source: &str, destination: &str, ports: (u16, u16)| {
        Ip::new(source, destination).id(77).udp(ports.0, ports.1, &[7; 1600])
    };
    let pieces = |packet: &[u8]| {
        let data = &packet[20..];
        let ip = |fragment| Ip {
            fragment,
            ..Ip::new(&address(&packet[12..16]), &address(&packet[16..20])).id(77)
        };
        [ip(0x2000).carry(17, &data[..800]), ip(100).carry(17, &data[800..])]
    };
    let out = whole(&form.real(3), outside(form), (40_000, 53));
    let back = whole(outside(form), form.own(FRONT), (53, 40_000));
    for (packet, arrive, wanted) in [
        (
            out,
            (|piece: &[u8]| from_host(3, piece)) as fn(&[u8]) -> Arrival,
            form.own(FRONT).to_owned() + ">203.0.113.9",
        ),
        (back, |piece: &[u8]| from_outside(piece), format!("203.0.113.9>{}", form.real(3))),
    ] {
        let [first, second] = pieces(&packet);
        assert_eq!(take(&mut director, &arrive(&second)).verdict, Verdict::Gather);
        let outcome = take(&mut director, &arrive(&first));
        let read: Vec<String> = outcome.all_sent().map(|(_, frame)| text::frame(frame)).collect();
        assert_eq!(read.len(), 2, "{outcome:?}");
        assert!(read.iter().all(|frame| frame.contains(&wanted)), "{read:?}");
    }
    assert_eq!(director.connections().len(), 1);
}

fn address(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(".")
}

/// A real server's answers of its service come first: the client knows the VIP.
#[test]
fn answers_of_services_are_not_masqueraded() {
    for form in Form::BOTH {
        let mut director = director(form);
        let client = form.client(1);
        let syn = Ip::new(&client, form.vip()).tcp(&Tcp::new(40_000, 80, "S"));
        let real = sent(&mut director, &from_outside(&syn));
        let number = if real.contains(&form.real(1)) { 1 } else { 2 };
        let answer = Ip::new(&form.real(number), &client).tcp(&Tcp::new(8080, 40_000, "SA"));
        let wanted = Ip::new(form.vip(), &client).ttl(63).tcp(&Tcp::new(80, 40_000, "SA"));
        assert_eq!(sent(&mut director, &from_host(number, &answer)), to_outside(&wanted));
        assert_eq!(director.connections().len(), 1);
    }
}

/// What others begin with a masqueraded host is routed if a rule says so, and so are its answers.
#[test]
fn what_others_begin_is_left_as_it_is() {
    for form in Form::BOTH {
        let mut director = director(form);
        director.publish(|plan| {
            plan.forwards.push(ForwardRule { from: End::Nic(FRONT), ..ForwardRule::default() });
        });
        let host = form.real(4);
        let ask = |ttl| Ip::new(outside(form), &host).ttl(ttl).udp(40_000, 161, b"how are you");
        assert_eq!(sent(&mut director, &from_outside(&ask(64))), to_host(4, &ask(63)));
        let answer = |ttl| Ip::new(&host, outside(form)).ttl(ttl).udp(161, 40_000, b"well");
        assert_eq!(sent(&mut director, &from_host(4, &answer(64))), to_outside(&answer(63)));
        assert_eq!(sent(&mut director, &from_outside(&ask(64))), to_host(4, &ask(63)));
        let (ask, answer) = if form == Form::V4 { (8, 0) } else { (128, 129) };
        let ping = |ttl| Ip::new(outside(form), &host).ttl(ttl).icmp(ask, 0, 0x9000_0001, b"ping");
        assert_eq!(sent(&mut director, &from_outside(&ping(64))), to_host(4, &ping(63)));
        let pong = |ttl| Ip::new(&host, outside(form)).ttl(ttl).icmp(answer, 0, 0x9000_0001, b"ping");
        assert_eq!(sent(&mut director, &from_host(4, &pong(64))), to_outside(&pong(63)));
    }
}

#[test]
fn refused_and_told() {
    let form = Form::V4;
    let mut director = director(form);
    let host = form.real(3);
    // No connection begins with a packet that goes nowhere.
    let dying = Ip::new(&host, outside(form)).ttl(1).udp(40_000, 53, b"?");
    let told = take(&mut director, &from_host(3, &dying)).verdict;
    assert_eq!(told, Verdict::Reply(BACK, ReplyKind::TimeExceeded));
    let strange = Ip::new(&host, outside(form)).carry(50, &[0; 32]);
    let verdict = take(&mut director, &from_host(3, &strange)).verdict;
    assert_eq!(verdict, Verdict::Drop(DropReason::MasqueradeProtocol));
    // By another NIC than the rule's nobody is masqueraded, and passes only by a rule of forwarding.
    director.publish(|plan| plan.forwards.push(network::everything_passes()));
    let inside = |ttl| Ip::new(&host, &form.real(1)).ttl(ttl).udp(40_000, 53, b"?");
    assert_eq!(sent(&mut director, &from_host(3, &inside(64))), to_host(1, &inside(63)));
    // Whatever else is for the own address is the kernel side's.
    let stray = Ip::new(outside(form), form.own(FRONT)).tcp(&Tcp::new(443, 50_000, "S"));
    assert_eq!(take(&mut director, &from_outside(&stray)).verdict, Verdict::Punt(Punt::Local));
    assert!(director.connections().is_empty());
}

/// A VIP serves too; ports that services have are not used.
#[test]
fn by_a_vip() {
    let form = Form::V4;
    let mut plan = plan(form);
    plan.masquerades[0].address = Some(form.vip().parse().unwrap());
    plan.services[0].listen.set_port(40_000);
    let mut director = Director::new(1, 64, plan);
    let tcp = Tcp::new(40_000, 443, "S");
    let out = Ip::new(&form.real(3), outside(form)).tcp(&tcp);
    let port = source_port(&take(&mut director, &from_host(3, &out)));
    assert_ne!(port, 40_000);
    let answer = |to: &str, port| Ip::new(outside(form), to).tcp(&Tcp::new(443, port, "SA"));
    let read = sent(&mut director, &from_outside(&answer(form.vip(), port)));
    assert!(
        read.contains(&format!("203.0.113.9>{} ", form.real(3))) && read.contains("443>40000 SA"),
        "{read}"
    );
}

#[test]
fn connections_end_with_their_rule() {
    let form = Form::V4;
    let mut director = director(form);
    let out = Ip::new(&form.real(3), outside(form)).tcp(&Tcp::new(40_000, 443, "S"));
    let answer = Ip::new(outside(form), form.own(FRONT)).tcp(&Tcp::new(443, 40_000, "SA"));
    for packet in [from_host(3, &out), from_outside(&answer)] {
        assert!(take(&mut director, &packet).sent().is_some());
    }
    director.publish(|plan| plan.services.clear());
    assert!(take(&mut director, &from_outside(&answer)).sent().is_some());
    director.publish(|plan| plan.masquerades.clear());
    assert_eq!(take(&mut director, &from_outside(&answer)).verdict, Verdict::Punt(Punt::Local));
    director.expire();
    assert!(director.connections().is_empty());
    // Its counters are reused by nobody, and a rule that returns begins anew.
    director.publish(|plan| plan.masquerades.push(rule(form)));
    let read = sent(&mut director, &from_host(3, &out));
    assert!(read.contains(&format!("{}>203.0.113.9", form.own(FRONT))), "{read}");
}

/// Both directions meet at the worker that owns who is asked, whichever queues their packets come by.
#[test]
fn workers_agree() {
    for form in Form::BOTH {
        let mut director = Director::new(4, 256, plan(form));
        let base = if form == Form::V4 { "203.0.113." } else { "2001:db8:ffff::" };
        let (ask, reply) = if form == Form::V4 { (8, 0) } else { (128, 129) };
        for number in 1..60_u16 {
            let remote = format!("{base}{number}");
            let (here, there) = (WorkerId((number % 4) as u8), WorkerId((number / 4 % 4) as u8));
            let host = form.real(3);
            let out = Ip::new(&host, &remote).udp(40_000, 53, b"?");
            let arrival = from_host(3, &out);
            let outcome = director.burst(here, &[arrival]).remove(0);
            assert_eq!(source_port(&outcome), 40_000);
            let answer = Ip::new(&remote, form.own(FRONT)).udp(53, 40_000, b"!");
            let outcome = director.burst(there, &[from_outside(&answer)]).remove(0);
            assert!(outcome.sent().is_some(), "{outcome:?}");
            let ping = Ip::new(&host, &remote).icmp(ask, 0, 0x9000_0001, b"");
            assert!(director.burst(here, &[from_host(3, &ping)]).remove(0).sent().is_some());
            let pong = Ip::new(&remote, form.own(FRONT)).icmp(reply, 0, 0x9000_0001, b"");
            let outcome = director.burst(there, &[from_outside(&pong)]).remove(0);
            assert!(outcome.sent().is_some(), "{outcome:?}");
            let (kind, code) = if form == Form::V4 { (3, 3) } else { (1, 4) };
            let quote = Ip::new(form.own(FRONT), &remote).udp(40_000, 53, b"?");
            let error = Ip::new(form.router(), form.own(FRONT)).icmp(kind, code, 0, &quote);
            let outcome = director.burst(there, &[from_outside(&error)]).remove(0);
            assert!(outcome.sent().is_some(), "{outcome:?}");
        }
        assert_eq!(director.connections().len(), 2 * 59);
        assert_eq!(director.held(), 0);
    }
}

#[test]
fn explained() {
    let form = Form::V4;
    let mut director = director(form);
    let out = from_host(3, &Ip::new(&form.real(3), outside(form)).udp(40_000, 53, b"?"));
    let step = Step::Masquerade {
        host: format!("{}:40000", form.real(3)).parse().unwrap(),
        address: format!("{}:40000", form.own(FRONT)).parse().unwrap(),
    };
    let steps = director.explain(&out);
    assert!(steps.contains(&step), "{steps:?}");
    assert!(director.connections().is_empty());
    take(&mut director, &out);
    let steps = director.explain(&out);
    assert_eq!(steps[1], Step::Connection { state: "UDP", from_real: true });
    assert_eq!(steps[2], step);
}

/// Masquerading everybody lets hosts out, and nobody in.
#[test]
fn a_rule_for_everybody_does_not_open_the_way_in() {
    for form in Form::BOTH {
        let mut plan = plan(form);
        let everybody = if form == Form::V4 { "0.0.0.0/0" } else { "::/0" };
        plan.masquerades[0] = MasqueradeRule { from: everybody.parse().unwrap(), nic: None, ..rule(form) };
        let mut director = Director::new(1, 256, plan);
        let syn = |from: &str, to: &str| Ip::new(from, to).tcp(&Tcp::new(40_000, 8080, "S"));
        let past = from_outside(&syn(outside(form), &form.real(3)));
        assert_eq!(take(&mut director, &past).verdict, Verdict::Drop(DropReason::NotForwarded));
        let echo = if form == Form::V4 { 8 } else { 128 };
        let ping = Ip::new(outside(form), &form.real(3)).icmp(echo, 0, 7 << 16, b"ping");
        assert_eq!(
            take(&mut director, &from_outside(&ping)).verdict,
            Verdict::Drop(DropReason::NotForwarded)
        );
        let out = from_host(3, &syn(&form.real(3), outside(form)));
        assert_eq!(take(&mut director, &out).verdict, Verdict::Send(FRONT));
        director.publish(|plan| plan.forwards.push(network::everything_passes()));
        assert_eq!(take(&mut director, &past).verdict, Verdict::Send(BACK));
    }
}

/// Without a rule a masquerade lets pass what it rewrites, and nothing as it is.
#[test]
fn what_is_not_rewritten_needs_a_rule() {
    for form in Form::BOTH {
        let mut director = director(form);
        let denied = Verdict::Drop(DropReason::NotForwarded);
        let out = |flags| Ip::new(&form.real(3), outside(form)).tcp(&Tcp::new(40_000, 443, flags));
        for flags in ["R", "SA"] {
            assert_eq!(take(&mut director, &from_host(3, &out(flags))).verdict, denied, "{flags}");
        }
        let into = Ip::new(outside(form), &form.real(3)).tcp(&Tcp::new(40_000, 22, "S"));
        assert_eq!(take(&mut director, &from_outside(&into)).verdict, denied);
        assert!(director.connections().is_empty());
        // A host that says it is inside cannot use it from outside.
        let spoofed = Arrival { nic: FRONT, ..from_host(3, &out("S")) };
        let spoofed = Arrival { frame: ethernet(nic_mac(FRONT), ROUTER, &spoofed.frame[14..]), ..spoofed };
        assert_eq!(take(&mut director, &spoofed).verdict, Verdict::Drop(DropReason::ReversePath));
    }
}
