//! ICMP errors about connections: the quoted packet decides where they go.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{L4Port, Protocol};
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::tunnel::{Tunnel, TunnelChecksum};
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::Arrival;
use shunt_tests::network::{BACK, FRONT, Form};
use shunt_tests::packets::{Ip, Tcp, number};

use crate::case::{Case, from_front, from_real, one_service, to_front, to_real, word};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        cases.extend([Method::Dr, Method::Nat, Method::Tun].map(|method| about_an_answer(form, method)));
        cases.extend([about_a_packet(form), nat_bad_checksum(form), of_no_connection(form)]);
        cases.push(quotes_too_little(form));
    }
    cases.extend([about_a_tunnel(), learned(), about_a_tunnel_without_df()]);
    cases.extend([about_gre(), about_gue(), about_another_port()]);
    cases
}

/// "Too big" with this path MTU, in either family.
fn too_big(form: Form, ip: &Ip, quote: &[u8]) -> Vec<u8> {
    let (kind, code) = if form == Form::V4 { (3, 4) } else { (2, 0) };
    ip.icmp(kind, code, 1280, quote)
}

/// A packet of the client's, at an address and port.
fn question(form: Form, destination: &str, port: u16) -> Vec<u8> {
    Ip::new(&form.client(1), destination).df().tcp(&Tcp::new(40000, port, "S").numbers(5, 0).data(&[7; 30]))
}

fn answer(form: Form, source: &str, port: u16) -> Vec<u8> {
    Ip::new(source, &form.client(1)).df().tcp(&Tcp::new(port, 40000, "SA").numbers(8, 6))
}

fn connected(form: Form) -> Vec<Arrival> {
    vec![from_front(&question(form, form.vip(), 80))]
}

/// The transport checksum of what is quoted does not follow: the receiver does not look at it.
fn with_checksum_of(mut quote: Vec<u8>, form: Form, other: &[u8]) -> Vec<u8> {
    let at = if form == Form::V4 { 36 } else { 56 };
    quote[at..at + 2].copy_from_slice(&other[at..at + 2]);
    quote
}

/// A router between VIP and client complains about an answer.
fn about_an_answer(form: Form, method: Method) -> Case {
    let router = form.client(9);
    let quote = answer(form, form.vip(), 80);
    let error = |ttl| too_big(form, &Ip::new(&router, form.vip()).ttl(ttl), &quote);
    let out = match method {
        Method::Dr => error(63),
        Method::Nat => {
            let inner = with_checksum_of(answer(form, &form.real(2), 8080), form, &quote);
            too_big(form, &Ip::new(&router, &form.real(2)).ttl(63), &inner)
        }
        Method::Tun => {
            let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
            Ip::new(form.own(BACK), &form.real(2)).ttl(63).carry(kind, &error(63))
        }
    };
    let name = format!("an error about an answer, {} {method}", word(form));
    Case::new(name, one_service(form, Protocol::Tcp, method), from_front(&error(64)), Verdict::Send(BACK))
        .after(connected(form))
        .out(to_real(2, &out))
}

/// A router between director and NAT real server complains about a packet of the client's.
fn about_a_packet(form: Form) -> Case {
    let quote = question(form, &form.real(2), 8080);
    let error = too_big(form, &Ip::new(&form.real(99), &form.client(1)), &quote);
    let inner = with_checksum_of(question(form, form.vip(), 80), form, &quote);
    let out = too_big(form, &Ip::new(form.vip(), &form.client(1)).ttl(63), &inner);
    let name = format!("an error about a client's packet, {} nat", word(form));
    let plan = one_service(form, Protocol::Tcp, Method::Nat);
    Case::new(name, plan, from_real(2, &error), Verdict::Send(FRONT))
        .after(connected(form))
        .out(to_front(&out))
}

fn nat_bad_checksum(form: Form) -> Case {
    let mut error = too_big(form, &Ip::new(&form.client(9), form.vip()), &answer(form, form.vip(), 80));
    *error.last_mut().expect("bytes") ^= 1;
    let plan = one_service(form, Protocol::Tcp, Method::Nat);
    let name = format!("an error with a bad checksum, {} nat", word(form));
    Case::new(name, plan, from_front(&error), Verdict::Drop(DropReason::TransportChecksum))
        .after(connected(form))
}

fn of_no_connection(form: Form) -> Case {
    let error = too_big(form, &Ip::new(&form.client(9), form.vip()), &answer(form, form.vip(), 81));
    let plan = one_service(form, Protocol::Tcp, Method::Nat);
    let name = format!("an error about no connection, {}", word(form));
    Case::new(name, plan, from_front(&error), Verdict::Drop(DropReason::Unwanted)).after(connected(form))
}

fn quotes_too_little(form: Form) -> Case {
    let header = if form == Form::V4 { 20 } else { 40 };
    let quote = &answer(form, form.vip(), 80)[..header + 3];
    let error = too_big(form, &Ip::new(&form.client(9), form.vip()), quote);
    let plan = one_service(form, Protocol::Tcp, Method::Dr);
    let name = format!("an error that quotes no ports, {}", word(form));
    Case::new(name, plan, from_front(&error), Verdict::Drop(DropReason::Unwanted)).after(connected(form))
}

/// What a router says of a tunnel's packet with `inner` in it.
fn of_tunnel(inner: &[u8]) -> Arrival {
    let form = Form::V4;
    let quote = Ip::new(form.own(BACK), &form.real(2)).ttl(60).df().carry(number::IPV4, inner);
    from_real(2, &too_big(form, &Ip::new(&form.real(99), form.own(BACK)), &quote))
}

/// The client is told what held until now, from the VIP.
fn about_a_tunnel() -> Case {
    let form = Form::V4;
    let inner = question(form, form.vip(), 80);
    let out = Ip::new(form.vip(), &form.client(1)).tos(0xc0).icmp(3, 4, 1480, &inner);
    let plan = one_service(form, Protocol::Tcp, Method::Tun);
    Case::new("an error about a tunnel", plan, of_tunnel(&inner), Verdict::Reply(FRONT, ReplyKind::Tunnel))
        .after(connected(form))
        .out(to_front(&out))
}

/// The next packet that is too large meets what was learned, whatever was published meanwhile.
fn learned() -> Case {
    let form = Form::V4;
    let large = |ttl| {
        let ip = Ip::new(&form.client(1), form.vip()).ttl(ttl).df();
        ip.tcp(&Tcp::new(40000, 80, "A").data(&[7; 1261 - 40]))
    };
    let before = [connected(form), vec![of_tunnel(&question(form, form.vip(), 80))]].concat();
    let out = Ip::new(form.vip(), &form.client(1)).tos(0xc0).icmp(3, 4, 1260, &large(63)[..548]);
    let plan = one_service(form, Protocol::Tcp, Method::Tun);
    Case::new("a learned path MTU", plan, from_front(&large(64)), Verdict::Reply(FRONT, ReplyKind::TooBig))
        .after(before)
        .out(to_front(&out))
}

fn about_a_tunnel_without_df() -> Case {
    let form = Form::V4;
    let inner = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40000, 80, "S").numbers(5, 0));
    let plan = one_service(form, Protocol::Tcp, Method::Tun);
    let verdict = Verdict::Drop(DropReason::PathMtu);
    Case::new("an error about a tunnel, nobody asked", plan, of_tunnel(&inner), verdict)
        .after(connected(form))
}

fn tunnelled(tunnel: Tunnel) -> Plan {
    let mut plan = one_service(Form::V4, Protocol::Tcp, Method::Tun);
    plan.services[0].reals.iter_mut().for_each(|real| real.tunnel = tunnel);
    plan
}

/// An error about a packet of this protocol with `header` and the client's packet in it.
fn of_encapsulated(protocol: u8, header: &[u8]) -> Arrival {
    let form = Form::V4;
    let inside = [header, &question(form, form.vip(), 80)].concat();
    let quote = Ip::new(form.own(BACK), &form.real(2)).ttl(60).df().carry(protocol, &inside);
    from_real(2, &Ip::new(&form.real(99), form.own(BACK)).icmp(3, 1, 0, &quote))
}

fn told_unreachable(name: &str, tunnel: Tunnel, error: Arrival) -> Case {
    let form = Form::V4;
    let out = Ip::new(form.vip(), &form.client(1)).tos(0xc0).icmp(3, 1, 0, &question(form, form.vip(), 80));
    Case::new(name, tunnelled(tunnel), error, Verdict::Reply(FRONT, ReplyKind::Tunnel))
        .after(connected(form))
        .out(to_front(&out))
}

fn about_gre() -> Case {
    let error = of_encapsulated(47, &[0x80, 0, 8, 0, 1, 2, 0, 0]);
    told_unreachable("an error about a GRE tunnel", Tunnel::Gre { checksum: true }, error)
}

const GUE: Tunnel = Tunnel::Gue { l4_port: L4Port(6080), checksum: TunnelChecksum::None };

/// UDP to port 6080, then GUE with one option word.
const GUE_HEADER: [u8; 16] = [0xc0, 1, 0x17, 0xc0, 0, 90, 0, 0, 1, 4, 0, 0, 9, 9, 9, 9];

fn about_gue() -> Case {
    told_unreachable("an error about a GUE tunnel", GUE, of_encapsulated(17, &GUE_HEADER))
}

/// It is none of ours: to the kernel side.
fn about_another_port() -> Case {
    let mut header = GUE_HEADER;
    header[3] ^= 1;
    let verdict = Verdict::Punt(Punt::Local);
    Case::new("an error about another UDP port", tunnelled(GUE), of_encapsulated(17, &header), verdict)
        .after(connected(Form::V4))
}
