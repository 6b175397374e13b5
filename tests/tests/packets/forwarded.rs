//! Packets of services: each method, family and protocol, both directions of NAT, and what tunnels do to headers.

use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::Method;
use shunt_tests::network::{BACK, Form};
use shunt_tests::packets::{Ip, Tcp, number};

use crate::case::{Case, SENT_BACK, SENT_FRONT, from_front, from_real, one_service, to_front, to_real, word};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for method in [Method::Dr, Method::Nat, Method::Tun] {
                cases.extend(to_service(form, protocol, method));
            }
            cases.push(nat_answer(form, protocol));
        }
        cases.push(padding(form));
        cases.push(wrong_checksum(form));
        cases.extend(["SA", "SF", "SP"].map(|flags| scheduled(form, flags)));
    }
    cases.extend([
        nat_computes_missing_checksum(),
        record_route(),
        tunnel_congestion(),
        answer_without_checksum(),
    ]);
    cases
}

/// A packet of `protocol` between these ports.
fn segment(ip: &Ip, protocol: Protocol, ports: (u16, u16), flags: &str) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => ip.tcp(&Tcp::new(ports.0, ports.1, flags).numbers(1000, 2000).data(b"odd")),
        Protocol::Udp => ip.udp(ports.0, ports.1, b"odd"),
        Protocol::Sctp | Protocol::Icmp => unreachable!("the recordings have SCTP, and services no ICMP"),
    }
}

const fn port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 80,
        Protocol::Udp | Protocol::Sctp | Protocol::Icmp => 53,
    }
}

/// The first packet of a connection goes to the real server added last; so does the second.
fn to_service(form: Form, protocol: Protocol, method: Method) -> Vec<Case> {
    let port = port(protocol);
    let inner = |ttl: u8| Ip::new(&form.client(1), form.vip()).ttl(ttl).tos(0x48).id(77).df();
    let sent = |flags: &str| segment(&inner(60), protocol, (40000, port), flags);
    let wanted = |flags: &str| {
        let passed = segment(&inner(59), protocol, (40000, port), flags);
        to_real(
            2,
            &match method {
                Method::Dr => passed,
                Method::Nat => {
                    let ip = Ip { destination: form.real(2).parse().unwrap(), ..inner(59) };
                    segment(&ip, protocol, (40000, 8000 + port), flags)
                }
                Method::Tun => {
                    let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
                    Ip::new(form.own(BACK), &form.real(2)).ttl(59).tos(0x48).df().carry(kind, &passed)
                }
            },
        )
    };
    let name = |which: &str| format!("{which} packet, {} {protocol} {method}", word(form));
    let plan = one_service(form, protocol, method);
    let first = Case::new(name("first"), plan.clone(), from_front(&sent("S")), SENT_BACK).out(wanted("S"));
    let second = Case::new(name("second"), plan, from_front(&sent("PA")), SENT_BACK).out(wanted("PA"));
    vec![first, second.after(vec![from_front(&sent("S"))])]
}

/// The answer of a NAT real server leaves as the VIP's.
fn nat_answer(form: Form, protocol: Protocol) -> Case {
    let port = port(protocol);
    let asked = segment(&Ip::new(&form.client(1), form.vip()), protocol, (40000, port), "S");
    let answer = |source: &str, port: u16, ttl: u8| {
        let ip = Ip::new(source, &form.client(1)).ttl(ttl).tos(8).id(9);
        segment(&ip, protocol, (port, 40000), "SA")
    };
    let packet = from_real(2, &answer(&form.real(2), 8000 + port, 64));
    let name = format!("answer, {} {protocol} nat", word(form));
    Case::new(name, one_service(form, protocol, Method::Nat), packet, SENT_FRONT)
        .after(vec![from_front(&asked)])
        .out(to_front(&answer(form.vip(), port, 63)))
}

/// Whatever has SYN and not RST begins a connection.
fn scheduled(form: Form, flags: &str) -> Case {
    let packet =
        |ttl| Ip::new(&form.client(1), form.vip()).ttl(ttl).tcp(&Tcp::new(40000, 80, flags).numbers(7, 8));
    let plan = one_service(form, Protocol::Tcp, Method::Dr);
    Case::new(format!("{flags} of no connection, {}", word(form)), plan, from_front(&packet(64)), SENT_BACK)
        .out(to_real(2, &packet(63)))
}

/// What follows the IP packet in its frame does not go on.
fn padding(form: Form) -> Case {
    let packet = |ttl| Ip::new(&form.client(1), form.vip()).ttl(ttl).udp(40000, 53, b"");
    let mut arrival = from_front(&packet(64));
    arrival.frame.extend([0xee; 18]);
    Case::new(
        format!("padding, {}", word(form)),
        one_service(form, Protocol::Udp, Method::Dr),
        arrival,
        SENT_BACK,
    )
    .out(to_real(2, &packet(63)))
}

/// A wrong TCP checksum is not mended: NAT changes it by what it changes.
fn wrong_checksum(form: Form) -> Case {
    let wrong = |destination: &str, port: u16, ttl: u8| {
        let mut packet = Ip::new(&form.client(1), destination).ttl(ttl).tcp(&Tcp::new(40000, port, "S"));
        let at = packet.len() - 3;
        packet[at] = packet[at].wrapping_add(1);
        packet
    };
    let plan = one_service(form, Protocol::Tcp, Method::Nat);
    Case::new(
        format!("wrong TCP checksum, {}", word(form)),
        plan,
        from_front(&wrong(form.vip(), 80, 64)),
        SENT_BACK,
    )
    .out(to_real(2, &wrong(&form.real(2), 8080, 63)))
}

/// UDP without checksum leaves NAT with one, as from the kernel.
fn nat_computes_missing_checksum() -> Case {
    let client = Form::V4.client(1);
    let packet = from_front(&Ip::new(&client, Form::V4.vip()).udp_unsummed(40000, 53, b"odd"));
    let plan = one_service(Form::V4, Protocol::Udp, Method::Nat);
    Case::new("UDP without checksum, nat", plan, packet, SENT_BACK)
        .out(to_real(2, &Ip::new(&client, &Form::V4.real(2)).ttl(63).udp(40000, 8053, b"odd")))
}

/// So does the answer.
fn answer_without_checksum() -> Case {
    let (client, real) = (Form::V4.client(1), Form::V4.real(2));
    let asked = from_front(&Ip::new(&client, Form::V4.vip()).udp(40000, 53, b""));
    let packet = from_real(2, &Ip::new(&real, &client).udp_unsummed(8053, 40000, b"odd"));
    Case::new(
        "answer without checksum, nat",
        one_service(Form::V4, Protocol::Udp, Method::Nat),
        packet,
        SENT_FRONT,
    )
    .after(vec![asked])
    .out(to_front(&Ip::new(Form::V4.vip(), &client).ttl(63).udp(53, 40000, b"odd")))
}

/// A record route option is filled in with the VIP.
fn record_route() -> Case {
    let packet = |ttl, options: &[u8]| {
        Ip::new(&Form::V4.client(1), Form::V4.vip()).ttl(ttl).options(options).udp(40000, 53, b"")
    };
    let plan = one_service(Form::V4, Protocol::Udp, Method::Dr);
    Case::new("record route", plan, from_front(&packet(64, &[7, 7, 4, 0, 0, 0, 0, 0])), SENT_BACK)
        .out(to_real(2, &packet(63, &[7, 7, 8, 10, 0, 0, 100, 0])))
}

/// "Congestion experienced" inside becomes "ECN capable" outside.
fn tunnel_congestion() -> Case {
    let inner = |ttl| Ip::new(&Form::V4.client(1), Form::V4.vip()).ttl(ttl).tos(3).df().udp(40000, 53, b"");
    let outer = Ip::new(Form::V4.own(BACK), &Form::V4.real(2)).ttl(63).tos(2).df();
    let plan = one_service(Form::V4, Protocol::Udp, Method::Tun);
    Case::new("congestion experienced in a tunnel", plan, from_front(&inner(64)), SENT_BACK)
        .out(to_real(2, &outer.carry(number::IPV4, &inner(63))))
}
