//! Headers that lie: lengths and options that cannot be, what nobody follows, and fragment headers of what is no fragment.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::network::{BACK, FRONT, Form};
use shunt_tests::packets::{Ip, Tcp, number};
use shunt_tests::text;

use crate::case::{
    Case, SENT_BACK, SENT_FRONT, from_front, from_real, no_service, one_service, router, to_front, to_real,
    word,
};

const METHODS: [Method; 3] = [Method::Dr, Method::Nat, Method::Tun];

pub fn cases() -> Vec<Case> {
    let mut cases = malformed_options();
    for form in Form::BOTH {
        for offset in [0x00, 0x10, 0x40, 0xf0] {
            cases.extend(METHODS.map(|method| data_offset(form, method, offset)));
            cases.extend([data_offset_answered(form, offset), data_offset_for_nobody(form, offset)]);
        }
        cases.extend(udp_lengths(form));
        cases.extend(METHODS.map(|method| unreachable_real(form, method)));
    }
    cases.extend(METHODS.map(atomic_fragment));
    cases.extend([atomic_answer(), atomic_routed(), atomic_discovery()]);
    cases.extend([&[][..], b"data"].map(no_next_header));
    cases.extend(unanswered());
    cases
}

/// A timestamp option of 3 bytes, whose length stands at 21.
const MALFORMED: [u8; 4] = [68, 3, 5, 0];

/// The sender of a packet with such options is told, wherever the packet would have gone.
fn malformed_options() -> Vec<Case> {
    let form = Form::V4;
    let (client, vip, real) = (form.client(1), form.vip(), form.real(2));
    let udp = |source: &str, destination: &str, ports: (u16, u16)| {
        Ip::new(source, destination).options(&MALFORMED).udp(ports.0, ports.1, b"q")
    };
    let told = |source: &str, packet: &[u8]| {
        let sender = std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).expect("four bytes"));
        Ip::new(source, &sender.to_string()).tos(0xc0).icmp(12, 0, 21 << 24, packet)
    };
    let reply = |nic| Verdict::Reply(nic, ReplyKind::ParameterProblem);
    let service = || one_service(form, Protocol::Udp, Method::Nat);
    let name = |what: &str| format!("a malformed option, {what}");
    let mut cases = Vec::new();
    for (what, port) in [("for a service", 53), ("for none", 9)] {
        let packet = udp(&client, vip, (40000, port));
        let out = to_front(&told(vip, &packet));
        cases.push(Case::new(name(what), service(), from_front(&packet), reply(FRONT)).out(out));
    }
    let past = udp(&client, &real, (40000, 9));
    let out = to_front(&told(form.own(FRONT), &past));
    cases.push(Case::new(name("routed"), router(), from_front(&past), reply(FRONT)).out(out));
    let refused = Verdict::Drop(DropReason::NotForwarded);
    cases.push(Case::new(name("without a rule"), no_service(), from_front(&past), refused));
    let answer = udp(&real, &client, (8053, 40000));
    let asked = from_front(&Ip::new(&client, vip).udp(40000, 53, b"q"));
    let out = to_real(2, &told(form.own(BACK), &answer));
    cases.push(
        Case::new(name("in an answer"), service(), from_real(2, &answer), reply(BACK))
            .after(vec![asked])
            .out(out),
    );
    let own = udp(&client, form.own(FRONT), (40000, 9));
    cases.push(Case::new(name("for the director"), service(), from_front(&own), Verdict::Punt(Punt::Local)));
    // Nobody is told about an error.
    let error = Ip::new("192.0.2.1", vip).options(&MALFORMED).icmp(3, 1, 0, &[0x45; 28]);
    let dropped = Verdict::Drop(DropReason::IpHeader);
    cases.push(Case::new(name("in an error"), service(), from_front(&error), dropped));
    cases
}

/// A TCP packet whose header says that it is as long as `offset` has it.
fn lying_tcp(ip: &Ip, ports: (u16, u16), flags: &str, offset: u8) -> Vec<u8> {
    let mut packet = ip.tcp(&Tcp::new(ports.0, ports.1, flags).numbers(9, 0));
    let at = packet.len() - 20;
    packet[at + 12] = offset;
    packet[at + 16..at + 18].fill(0);
    let (source, destination) = if at == 20 { (12..16, 16..20) } else { (8..24, 24..40) };
    let pseudo = text::pseudo_header(&packet[source], &packet[destination], number::TCP, 20);
    let sum = text::checksum(&[&pseudo, &packet[at..]]);
    packet[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn offset_name(what: &str, form: Form, offset: u8) -> String {
    format!("a TCP header of {} bytes, {what}, {}", offset / 4, word(form))
}

/// Who is at the end looks at that.
fn data_offset(form: Form, method: Method, offset: u8) -> Case {
    let packet = lying_tcp(&Ip::new(&form.client(1), form.vip()), (40000, 80), "S", offset);
    let name = offset_name(&format!("{method}"), form, offset);
    Case::new(name, one_service(form, Protocol::Tcp, method), from_front(&packet), SENT_BACK).any_out()
}

fn data_offset_answered(form: Form, offset: u8) -> Case {
    let asked = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40000, 80, "S"));
    let answer = lying_tcp(&Ip::new(&form.real(2), &form.client(1)), (8080, 40000), "SA", offset);
    let out = lying_tcp(&Ip::new(form.vip(), &form.client(1)).ttl(63), (80, 40000), "SA", offset);
    let plan = one_service(form, Protocol::Tcp, Method::Nat);
    Case::new(offset_name("an answer", form, offset), plan, from_real(2, &answer), SENT_FRONT)
        .after(vec![from_front(&asked)])
        .out(to_front(&out))
}

/// Here it is the director that looks.
fn data_offset_for_nobody(form: Form, offset: u8) -> Case {
    let packet = lying_tcp(&Ip::new(&form.client(1), form.vip()), (40000, 81), "S", offset);
    let dropped = Verdict::Drop(DropReason::TransportHeader);
    let name = offset_name("for no service", form, offset);
    Case::new(name, one_service(form, Protocol::Tcp, Method::Dr), from_front(&packet), dropped)
}

/// Services do not look at the length of UDP; who would be told that a port is unreachable has one that can be, and is told
/// of no more than that.
fn udp_lengths(form: Form) -> Vec<Case> {
    let header = if form == Form::V4 { 20 } else { 40 };
    let packet = |port: u16, length: u16| {
        // Without checksum where that may be; else with one of what is there.
        let ip = Ip::new(&form.client(1), form.vip());
        let mut packet = ip.udp_unsummed(40000, port, b"lengthwise");
        packet[header + 4..header + 6].copy_from_slice(&length.to_be_bytes());
        if form == Form::V6 {
            let end = header + usize::from(length).clamp(8, 18);
            let end = if length == 0 { packet.len() } else { end };
            let pseudo = text::pseudo_header(&packet[8..24], &packet[24..40], number::UDP, end - header);
            let sum = text::checksum(&[&pseudo, &packet[header..end]]);
            packet[header + 6..header + 8].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    };
    let mut cases = Vec::new();
    for length in [0_u16, 7, 8, 17, 18, 19, 60] {
        let name = |what: &str| format!("UDP of {length} bytes among 18, {what}, {}", word(form));
        let plan = one_service(form, Protocol::Udp, Method::Nat);
        let serviced = from_front(&packet(53, length));
        cases.push(Case::new(name("for a service"), plan.clone(), serviced, SENT_BACK).any_out());
        let packet = packet(9, length);
        let quoted = match length {
            0 if form == Form::V6 => Some(packet.len()),
            8..=18 => Some(header + usize::from(length)),
            _ => None,
        };
        let case = |verdict| Case::new(name("for none"), plan, from_front(&packet), verdict);
        cases.push(match quoted {
            Some(quoted) => {
                let (kind, code, tos) = if form == Form::V4 { (3, 3, 0xc0) } else { (1, 4, 0) };
                let ip = Ip::new(form.vip(), &form.client(1)).tos(tos);
                let error = ip.icmp(kind, code, 0, &packet[..quoted]);
                case(Verdict::Reply(FRONT, ReplyKind::PortUnreachable)).out(to_front(&error))
            }
            None => case(Verdict::Drop(DropReason::TransportHeader)),
        });
    }
    cases
}

/// A real server that no route leads to, whatever TTL the packet has.
fn unreachable_real(form: Form, method: Method) -> Case {
    let mut plan = one_service(form, Protocol::Udp, method);
    let unknown = if form == Form::V4 { "203.0.113.1" } else { "2001:db8:ffff::1" };
    for real in &mut plan.services[0].reals {
        real.address.set_ip(unknown.parse().expect("an address"));
    }
    let keeps = |route: &shunt_dataplane::snapshot::RoutePlan| route.to.prefix_len() > 0;
    plan.routes.retain(keeps);
    // On the link in front, whose way back needs no route.
    let client = if form == Form::V4 { "10.0.0.254" } else { "2001:db8::254" };
    let packet = Ip::new(client, form.vip()).ttl(1).udp(40000, 53, b"q");
    let (kind, code, tos) = if form == Form::V4 { (3, 1, 0xc0) } else { (1, 3, 0) };
    let out = Ip::new(form.vip(), client).tos(tos).icmp(kind, code, 0, &packet);
    let name = format!("no route to the real server, {} {method}", word(form));
    Case::new(name, plan, from_front(&packet), Verdict::Reply(FRONT, ReplyKind::HostUnreachable))
        .out(to_front(&out))
}

/// A packet behind a fragment header that says that it is all of its datagram.
fn atomic(packet: &[u8]) -> Vec<u8> {
    let mut atomic = [&packet[..40], &[packet[6], 0, 0, 0, 0, 0, 0, 9], &packet[40..]].concat();
    let payload = (atomic.len() - 40) as u16;
    atomic[4..6].copy_from_slice(&payload.to_be_bytes());
    atomic[6] = number::FRAGMENT;
    atomic
}

/// That header goes.
fn atomic_fragment(method: Method) -> Case {
    let form = Form::V6;
    let packet = Ip::new(&form.client(1), form.vip()).udp(40000, 53, b"q");
    let plan = one_service(form, Protocol::Udp, method);
    let case = |verdict| {
        Case::new(format!("an atomic fragment, {method}"), plan, from_front(&atomic(&packet)), verdict)
    };
    let passed = |destination: &str, port| {
        let ip = Ip {
            destination: destination.parse().expect("an address"),
            ..Ip::new(&form.client(1), form.vip()).ttl(63)
        };
        ip.udp(40000, port, b"q")
    };
    // What was put together leaves beside the packets of its burst.
    let gathered = case(Verdict::Gather);
    match method {
        Method::Dr => gathered.beside(vec![to_real(2, &passed(form.vip(), 53))]),
        Method::Nat => gathered.beside(vec![to_real(2, &passed(&form.real(2), 8053))]),
        // A tunnel's packet is longer than what came, so that it gets a fragment header itself.
        Method::Tun => {
            let inner = passed(form.vip(), 53);
            let outer = Ip::new(form.own(BACK), &form.real(2)).ttl(63).carry(number::IPV6, &inner);
            gathered.beside(vec![to_real(2, &atomic(&outer))])
        }
    }
}

fn atomic_answer() -> Case {
    let form = Form::V6;
    let asked = from_front(&Ip::new(&form.client(1), form.vip()).udp(40000, 53, b"q"));
    let answer = |source: &str, ttl, port| Ip::new(source, &form.client(1)).ttl(ttl).udp(port, 40000, b"a");
    let plan = one_service(form, Protocol::Udp, Method::Nat);
    let packet = atomic(&answer(&form.real(2), 64, 8053));
    Case::new("an atomic fragment, an answer", plan, from_real(2, &packet), Verdict::Gather)
        .after(vec![asked])
        .beside(vec![to_front(&answer(form.vip(), 63, 53))])
}

fn atomic_routed() -> Case {
    let form = Form::V6;
    let packet = |ttl| Ip::new(&form.client(1), &form.real(2)).ttl(ttl).udp(40000, 9, b"q");
    Case::new("an atomic fragment, routed", router(), from_front(&atomic(&packet(64))), Verdict::Gather)
        .beside(vec![to_real(2, &packet(63))])
}

/// Nobody discovers neighbours in fragments (RFC 6980).
fn atomic_discovery() -> Case {
    let form = Form::V6;
    let mut frame =
        from_front(&atomic(&Ip::new(form.router(), "ff02::1:ff00:1").ttl(255).icmp(135, 0, 0, &[0; 16])));
    frame.frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 1]);
    let plan: Plan = no_service();
    Case::new("an atomic fragment, neighbour discovery", plan, frame, Verdict::Drop(DropReason::Group))
}

/// What a host hears and does not answer, and what asks for its clock.
fn unanswered() -> [Case; 2] {
    let to_vip = || Ip::new(&Form::V4.client(1), Form::V4.vip());
    let rows = [
        ("IGMP for a VIP", to_vip().carry(2, &[0x16, 0, 0x05, 0xf7, 0xe4, 0, 0, 9])),
        ("a timestamp request for a VIP", to_vip().icmp(13, 0, 0x0001_0007, &[0; 12])),
    ];
    rows.map(|(name, packet)| {
        let plan = one_service(Form::V4, Protocol::Udp, Method::Dr);
        Case::new(name, plan, from_front(&packet), Verdict::Drop(DropReason::Unwanted))
    })
}

fn no_next_header(data: &[u8]) -> Case {
    let packet = Ip::new(&Form::V6.client(1), Form::V6.vip()).carry(59, data);
    let plan = one_service(Form::V6, Protocol::Udp, Method::Dr);
    let name = format!("no next header, {} bytes behind it", data.len());
    Case::new(name, plan, from_front(&packet), Verdict::Drop(DropReason::Unwanted))
}
