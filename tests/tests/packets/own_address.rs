//! A service at an address of the director's own has what is for it; the kernel side has the rest.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::reason::ReplyKind;
use shunt_dataplane::service::Method;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::network::{BACK, FRONT, Form};
use shunt_tests::packets::{Ip, Tcp, number};

use crate::case::{Case, SENT_BACK, SENT_FRONT, from_front, from_real, one_service, to_front, to_real, word};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            cases.extend([Method::Dr, Method::Nat, Method::Tun].map(|method| first(form, protocol, method)));
            cases.push(answer(form, protocol));
        }
        cases.extend([(81, "S"), (80, "A"), (80, "R")].map(|(port, flags)| left(form, port, flags)));
        cases.extend([nobody(form), from_port_20(form), error(form), ping(form)]);
    }
    cases
}

fn plan(form: Form, protocol: Protocol, method: Method) -> Plan {
    let mut plan = one_service(form, protocol, method);
    plan.services[0].listen.set_ip(form.own(FRONT).parse().unwrap());
    plan
}

const fn port(protocol: Protocol) -> u16 {
    if matches!(protocol, Protocol::Tcp) { 80 } else { 53 }
}

fn segment(ip: &Ip, protocol: Protocol, ports: (u16, u16), flags: &str) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => ip.tcp(&Tcp::new(ports.0, ports.1, flags).numbers(1, 2)),
        _ => ip.udp(ports.0, ports.1, b"odd"),
    }
}

fn asks(form: Form, protocol: Protocol, ttl: u8) -> Vec<u8> {
    segment(&Ip::new(&form.client(1), form.own(FRONT)).ttl(ttl).df(), protocol, (40_000, port(protocol)), "S")
}

fn first(form: Form, protocol: Protocol, method: Method) -> Case {
    let out = match method {
        Method::Dr => asks(form, protocol, 63),
        Method::Nat => {
            let ip = Ip::new(&form.client(1), &form.real(2)).ttl(63).df();
            segment(&ip, protocol, (40_000, 8000 + port(protocol)), "S")
        }
        Method::Tun => {
            let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
            let outer = Ip::new(form.own(BACK), &form.real(2)).ttl(63).df();
            outer.carry(kind, &asks(form, protocol, 63))
        }
    };
    let name = format!("service at an own address, {protocol} {method}, {}", word(form));
    let packet = from_front(&asks(form, protocol, 64));
    Case::new(name, plan(form, protocol, method), packet, SENT_BACK).out(to_real(2, &out))
}

fn answer(form: Form, protocol: Protocol) -> Case {
    let port = port(protocol);
    let says = |source: &str, port, ttl| {
        segment(&Ip::new(source, &form.client(1)).ttl(ttl), protocol, (port, 40_000), "SA")
    };
    let packet = from_real(2, &says(&form.real(2), 8000 + port, 64));
    let name = format!("answer of a service at an own address, {protocol}, {}", word(form));
    Case::new(name, plan(form, protocol, Method::Nat), packet, SENT_FRONT)
        .after(vec![from_front(&asks(form, protocol, 64))])
        .out(to_front(&says(form.own(FRONT), port, 63)))
}

/// What begins nothing there is the kernel side's, which has connections of its own.
fn left(form: Form, port: u16, flags: &str) -> Case {
    let packet = Ip::new(&form.client(1), form.own(FRONT)).tcp(&Tcp::new(40_000, port, flags));
    let name = format!("{flags} to port {port} of an own address with a service, {}", word(form));
    let plan = plan(form, Protocol::Tcp, Method::Dr);
    Case::new(name, plan, from_front(&packet), Verdict::Punt(Punt::Local))
}

fn from_port_20(form: Form) -> Case {
    let packet = Ip::new(&form.client(1), form.own(FRONT)).tcp(&Tcp::new(20, 80, "S"));
    let name = format!("from port 20 to a service at an own address, {}", word(form));
    let plan = plan(form, Protocol::Tcp, Method::Dr);
    Case::new(name, plan, from_front(&packet), Verdict::Punt(Punt::Local))
}

/// The director tells of it, as at a VIP: no real server takes it.
fn nobody(form: Form) -> Case {
    let mut plan = plan(form, Protocol::Tcp, Method::Dr);
    plan.services[0].reals.iter_mut().for_each(|real| real.weight = 0);
    let name = format!("service at an own address that nobody takes, {}", word(form));
    let verdict = Verdict::Reply(NicId(0), ReplyKind::NoReal);
    Case::new(name, plan, from_front(&asks(form, Protocol::Tcp, 64)), verdict).any_out()
}

/// An ICMP error about an answer goes to the real server.
fn error(form: Form) -> Case {
    let (kind, code) = if form == Form::V4 { (3, 1) } else { (1, 0) };
    let says = |own: &str, port, ttl| {
        let quote = Ip::new(own, &form.client(1)).tcp(&Tcp::new(port, 40_000, "A").numbers(2, 2));
        Ip::new(&form.client(9), own).ttl(ttl).icmp(kind, code, 0, &quote)
    };
    let packet = from_front(&says(form.own(FRONT), 80, 64));
    let name = format!("error about an answer of a service at an own address, {}", word(form));
    Case::new(name, plan(form, Protocol::Tcp, Method::Dr), packet, SENT_BACK)
        .after(vec![from_front(&asks(form, Protocol::Tcp, 64))])
        .out(to_real(2, &says(form.own(FRONT), 80, 63)))
}

fn ping(form: Form) -> Case {
    let kind = if form == Form::V4 { 8 } else { 128 };
    let packet = Ip::new(&form.client(1), form.own(FRONT)).icmp(kind, 0, 7, b"ping");
    let name = format!("ping of an own address with a service, {}", word(form));
    let plan = plan(form, Protocol::Tcp, Method::Dr);
    Case::new(name, plan, from_front(&packet), Verdict::Punt(Punt::Local))
}
