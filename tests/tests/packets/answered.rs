//! What the director itself answers: ping, RST, ICMP errors.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::reason::ReplyKind;
use shunt_dataplane::service::Method;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::Arrival;
use shunt_tests::network::{BACK, FRONT, Form};
use shunt_tests::packets::{Ip, Tcp};

use crate::case::{Case, from_front, from_real, no_service, one_service, router, to_front, to_real, word};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        cases.extend([ping(form), reset_of_syn(form), reset_of_ack(form), other_protocol(form)]);
        cases.extend([unreachable_port(form), all_weights_zero(form), no_route(form)]);
        cases.extend([Method::Dr, Method::Nat, Method::Tun].map(|method| ttl_of_service(form, method)));
        cases.extend(["A", "FA", "PA"].map(|flags| reset_of_unconnected(form, flags, (8, 0), "R")));
        cases.extend([
            reset_of_unconnected(form, "", (0, 7), "RA"),
            reset_of_unconnected(form, "F", (0, 8), "RA"),
        ]);
        cases.push(stray_of_real(form));
        cases.extend([ttl_of_routed(form), ttl_of_answer(form), too_big_for_tunnel(form)]);
    }
    for (what, packet, at) in authenticated() {
        let out = error(Form::V6, Form::V6.vip(), (3, 2), (4, 1), at, &packet);
        let (plan, kind) = (no_service(), ReplyKind::ProtocolUnreachable);
        cases.push(case(what, Form::V6, plan, from_front(&packet), kind, to_front(&out)));
    }
    cases.push(uneven());
    cases
}

/// Behind an authentication header (RFC 4302), which a host without keys does not know, and where the number of that header stands.
fn authenticated() -> Vec<(&'static str, Vec<u8>, u32)> {
    const DESTINATION: [u8; 8] = [51, 0, 1, 4, 0, 0, 0, 0];
    let behind =
        |packet: &[u8]| [&[packet[6], 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], &[7; 12], &packet[40..]].concat();
    let echo = behind(&to_vip(Form::V6).icmp(128, 0, 0x0001_0007, b"ping"));
    let syn = behind(&to_vip(Form::V6).tcp(&Tcp::new(40000, 80, "S")));
    let datagram = behind(&to_vip(Form::V6).udp(40000, 53, b"?"));
    vec![
        ("an echo request with authentication", to_vip(Form::V6).carry(51, &echo), 6),
        ("a SYN with authentication and no service", to_vip(Form::V6).carry(51, &syn), 6),
        ("UDP with authentication and no service", to_vip(Form::V6).carry(51, &datagram), 6),
        (
            "authentication behind destination options",
            to_vip(Form::V6).carry(60, &[&DESTINATION[..], &echo].concat()),
            40,
        ),
    ]
}

/// An IPv6 fragment that is not the last, of which the data is no multiple of eight bytes.
fn uneven() -> Case {
    let whole = to_vip(Form::V6).udp(40000, 53, &[1; 100]);
    let data = [&[17, 0, 0, 1, 0, 0, 0, 9], &whole[40..40 + 63]].concat();
    let packet = to_vip(Form::V6).carry(44, &data);
    let out = error(Form::V6, Form::V6.vip(), (0, 0), (4, 0), 4, &packet);
    let (plan, kind) = (one_service(Form::V6, Protocol::Udp, Method::Dr), ReplyKind::ParameterProblem);
    case("a first fragment of 63 bytes", Form::V6, plan, from_front(&packet), kind, to_front(&out))
}

/// The verdict for an answer to a client.
const fn reply(kind: ReplyKind) -> Verdict {
    Verdict::Reply(NicId(0), kind)
}

/// IPv4 errors have precedence "internetwork control".
const fn error_tos(form: Form) -> u8 {
    match form {
        Form::V4 => 0xc0,
        Form::V6 => 0,
    }
}

/// The ICMP error about `packet`, to client 1.
fn error(form: Form, source: &str, v4: (u8, u8), v6: (u8, u8), rest: u32, packet: &[u8]) -> Vec<u8> {
    let (kind, code) = if form == Form::V4 { v4 } else { v6 };
    let largest = if form == Form::V4 { 576 - 28 } else { 1280 - 48 };
    let quote = &packet[..packet.len().min(largest)];
    Ip::new(source, &form.client(1)).tos(error_tos(form)).icmp(kind, code, rest, quote)
}

fn to_vip(form: Form) -> Ip {
    Ip::new(&form.client(1), form.vip())
}

fn case(what: &str, form: Form, plan: Plan, arrival: Arrival, kind: ReplyKind, out: Vec<u8>) -> Case {
    Case::new(format!("{what}, {}", word(form)), plan, arrival, reply(kind)).out(out)
}

fn stray_of_real(form: Form) -> Case {
    let mut plan = one_service(form, Protocol::Tcp, Method::Nat);
    plan.sysctls.nat_icmp_send = true;
    let stray = |ttl| Ip::new(&form.real(1), &form.client(1)).ttl(ttl).tcp(&Tcp::new(8080, 40000, "SA"));
    let real = form.real(1);
    let (kind, code) = if form == Form::V4 { (3, 3) } else { (1, 4) };
    let told = Ip::new(form.own(BACK), &real).tos(error_tos(form)).icmp(kind, code, 0, &stray(63));
    let out = to_real(1, &told);
    Case::new(
        format!("a NAT real server's packet of no connection, {}", word(form)),
        plan,
        from_real(1, &stray(64)),
        Verdict::Reply(BACK, ReplyKind::NoConnection),
    )
    .out(out)
}

fn ping(form: Form) -> Case {
    let (request, answer) = if form == Form::V4 { (8, 0) } else { (128, 129) };
    let packet = from_front(&to_vip(form).ttl(9).id(5).icmp(request, 0, 0x0001_0007, b"ping"));
    let out = Ip::new(form.vip(), &form.client(1)).icmp(answer, 0, 0x0001_0007, b"ping");
    case("ping", form, no_service(), packet, ReplyKind::EchoReply, to_front(&out))
}

fn reset(form: Form, numbers: (u32, u32), flags: &str, port: u16) -> Vec<u8> {
    let tcp = Tcp::new(port, 40000, flags).numbers(numbers.0, numbers.1).window(0);
    to_front(&Ip::new(form.vip(), &form.client(1)).df().tcp(&tcp))
}

fn reset_of_syn(form: Form) -> Case {
    let packet = from_front(&to_vip(form).tcp(&Tcp::new(40000, 81, "S").numbers(1000, 0)));
    let out = reset(form, (0, 1001), "RA", 81);
    case("SYN to a port without a service", form, no_service(), packet, ReplyKind::Reset, out)
}

fn reset_of_ack(form: Form) -> Case {
    let packet = from_front(&to_vip(form).tcp(&Tcp::new(40000, 81, "PA").numbers(1000, 5000).data(b"x")));
    let out = reset(form, (5000, 0), "R", 81);
    case("ACK to a port without a service", form, no_service(), packet, ReplyKind::Reset, out)
}

/// A service resets what belongs to no connection and begins none (RFC 9293, 3.10.7.1).
fn reset_of_unconnected(form: Form, flags: &str, numbers: (u32, u32), answer: &str) -> Case {
    let packet = from_front(&to_vip(form).tcp(&Tcp::new(40000, 80, flags).numbers(7, 8)));
    let plan = one_service(form, Protocol::Tcp, Method::Dr);
    let what = format!("flags [{flags}] of no connection");
    case(&what, form, plan, packet, ReplyKind::Reset, reset(form, numbers, answer, 80))
}

fn unreachable_port(form: Form) -> Case {
    let packet = to_vip(form).udp(40000, 81, b"anybody there?");
    let out = error(form, form.vip(), (3, 3), (1, 4), 0, &packet);
    let kind = ReplyKind::PortUnreachable;
    case("UDP to a port without a service", form, no_service(), from_front(&packet), kind, to_front(&out))
}

fn all_weights_zero(form: Form) -> Case {
    let packet = to_vip(form).tcp(&Tcp::new(40000, 80, "S"));
    let mut plan = one_service(form, Protocol::Tcp, Method::Nat);
    plan.services[0].reals.iter_mut().for_each(|real| real.weight = 0);
    let out = error(form, form.vip(), (3, 3), (1, 4), 0, &packet);
    case("all weights 0", form, plan, from_front(&packet), ReplyKind::NoReal, to_front(&out))
}

fn other_protocol(form: Form) -> Case {
    let packet = to_vip(form).carry(99, b"what is this");
    // The IPv6 error points at the next header field.
    let rest = if form == Form::V4 { 0 } else { 6 };
    let out = error(form, form.vip(), (3, 2), (4, 1), rest, &packet);
    let kind = ReplyKind::ProtocolUnreachable;
    case("a protocol that nobody speaks", form, no_service(), from_front(&packet), kind, to_front(&out))
}

/// Nowhere to send it, and the sender is the clients' router, to which there is a way.
fn no_route(form: Form) -> Case {
    let elsewhere = if form == Form::V4 { "203.0.113.9" } else { "2001:db8:ffff::9" };
    let packet = Ip::new(form.router(), elsewhere).udp(1, 2, b"");
    let mut plan = router();
    plan.routes.clear();
    let (kind, code) = if form == Form::V4 { (3, 0) } else { (1, 0) };
    let out = Ip::new(form.own(FRONT), form.router()).tos(error_tos(form)).icmp(kind, code, 0, &packet);
    case("no route", form, plan, from_front(&packet), ReplyKind::NetUnreachable, to_front(&out))
}

/// The VIP tells, quoting the packet as it came; the connection is made all the same.
fn ttl_of_service(form: Form, method: Method) -> Case {
    let packet = to_vip(form).ttl(1).tcp(&Tcp::new(40000, 80, "S"));
    let out = error(form, form.vip(), (11, 0), (3, 0), 0, &packet);
    let what = format!("TTL 1 to a service, {method}");
    let plan = one_service(form, Protocol::Tcp, method);
    case(&what, form, plan, from_front(&packet), ReplyKind::TimeExceeded, to_front(&out))
}

/// The NIC's own address tells.
fn ttl_of_routed(form: Form) -> Case {
    let packet = Ip::new(&form.client(1), &form.real(1)).ttl(1).udp(1, 2, b"");
    let out = error(form, form.own(FRONT), (11, 0), (3, 0), 0, &packet);
    let kind = ReplyKind::TimeExceeded;
    case("TTL 1, routed", form, router(), from_front(&packet), kind, to_front(&out))
}

/// An answer of a NAT real server whose TTL ends here: the real server is told.
fn ttl_of_answer(form: Form) -> Case {
    let asked = from_front(&to_vip(form).udp(40000, 53, b""));
    let packet = Ip::new(&form.real(2), &form.client(1)).ttl(1).udp(8053, 40000, b"");
    let (kind, code) = if form == Form::V4 { (11, 0) } else { (3, 0) };
    let own = form.own(NicId(1));
    let out = Ip::new(own, &form.real(2)).tos(error_tos(form)).icmp(kind, code, 0, &packet);
    let plan = one_service(form, Protocol::Udp, Method::Nat);
    let verdict = Verdict::Reply(NicId(1), ReplyKind::TimeExceeded);
    Case::new(format!("TTL 1 of an answer, {}", word(form)), plan, from_real(2, &packet), verdict)
        .after(vec![asked])
        .out(to_real(2, &out))
}

/// What does not fit into a tunnel, and may not be fragmented: the sender learns what does. The TTL quoted is the
/// decremented one, as from the kernel.
fn too_big_for_tunnel(form: Form) -> Case {
    let (headers, fits) = if form == Form::V4 { (40, 1480) } else { (60, 1460) };
    let packet =
        |ttl| to_vip(form).ttl(ttl).df().tcp(&Tcp::new(40000, 80, "S").data(&vec![1; 1500 - headers]));
    let out = error(form, form.vip(), (3, 4), (2, 0), fits, &packet(63));
    let plan = one_service(form, Protocol::Tcp, Method::Tun);
    case("too big for a tunnel", form, plan, from_front(&packet(64)), ReplyKind::TooBig, to_front(&out))
}
