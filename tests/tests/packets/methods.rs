//! A connection keeps the method that it began with, whatever its real server is given later; a tunnel's kind is that of now
//! (kernel: `ip_vs_bind_xmit`, `ip_vs_tunnel_xmit`). And what belongs to a connection that has no ports: IPsec beside IKE.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::reason::ReplyKind;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::tunnel::Tunnel;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::network::{BACK, Form};
use shunt_tests::packets::{Ip, Tcp, number};

use crate::case::{Case, SENT_BACK, SENT_FRONT, from_front, from_real, one_service, to_front, to_real, word};

const METHODS: [Method; 3] = [Method::Dr, Method::Nat, Method::Tun];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        for began in METHODS {
            for (what, change) in EDITS {
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                    cases.push(edited(form, began, what, change, protocol));
                }
                cases.push(edited_full_size(form, began, what, change));
            }
            for protocol in [ESP, AH] {
                // In IPv6 an authentication header is an extension header, and what is behind it counts.
                if protocol == ESP || form == Form::V4 {
                    cases.extend(ipsec(form, began, protocol));
                }
            }
            cases.push(error_about_ipsec(form, began));
        }
        cases.extend([ipsec_without_ike(form), answer_of_ipsec(form), answer_of_another_real(form)]);
    }
    cases
}

/// What the real servers are given, and its name.
type Edit = (&'static str, fn(&mut Plan));

const EDITS: [Edit; 4] = [
    ("dr", |plan| give(plan, Method::Dr, Tunnel::Ipip)),
    ("nat", |plan| give(plan, Method::Nat, Tunnel::Ipip)),
    ("ipip", |plan| give(plan, Method::Tun, Tunnel::Ipip)),
    ("gre", |plan| give(plan, Method::Tun, Tunnel::Gre { checksum: false })),
];

fn give(plan: &mut Plan, method: Method, tunnel: Tunnel) {
    for real in &mut plan.services[0].reals {
        (real.method, real.tunnel) = (method, tunnel);
    }
}

const fn port(protocol: Protocol) -> u16 {
    if matches!(protocol, Protocol::Tcp) { 80 } else { 53 }
}

fn client(form: Form, to: &str, ttl: u8) -> Ip {
    Ip::new(&form.client(1), to).ttl(ttl).df()
}

fn packet(ip: &Ip, protocol: Protocol, l4_port: u16, flags: &str, size: usize) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => ip.tcp(&Tcp::new(40_000, l4_port, flags).numbers(1, 2).data(&vec![7; size])),
        Protocol::Udp => ip.udp(40_000, l4_port, &vec![7; size]),
        _ => ip.sctp(40_000, l4_port, if flags == "S" { &[1, 0, 0, 4] } else { &[0, 3, 0, 4] }),
    }
}

/// What leaves for real server 2 of the packet by `method`, in a tunnel of this kind.
fn leaves(form: Form, method: Method, tunnel: &str, protocol: Protocol, size: usize) -> Vec<u8> {
    let l4_port = port(protocol);
    let passed = packet(&client(form, form.vip(), 63), protocol, l4_port, "PA", size);
    to_real(
        2,
        &match method {
            Method::Dr => passed,
            Method::Nat => packet(&client(form, &form.real(2), 63), protocol, 8000 + l4_port, "PA", size),
            Method::Tun => {
                let outer = Ip::new(form.own(BACK), &form.real(2)).ttl(63).df();
                let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
                let ether_type: [u8; 2] = if form == Form::V4 { [8, 0] } else { [0x86, 0xdd] };
                match tunnel {
                    "gre" => outer.carry(GRE, &[&[0, 0][..], &ether_type, &passed].concat()),
                    _ => outer.carry(kind, &passed),
                }
            }
        },
    )
}

const GRE: u8 = 47;

/// An open connection goes on as it began.
fn edited(form: Form, began: Method, what: &str, change: fn(&mut Plan), protocol: Protocol) -> Case {
    let sent =
        |flags: &str| from_front(&packet(&client(form, form.vip(), 64), protocol, port(protocol), flags, 3));
    let name = format!("{protocol} connection by {began}, edited to {what}, {}", word(form));
    Case::new(name, one_service(form, protocol, began), sent("PA"), SENT_BACK)
        .after(vec![sent("S")])
        .changed(change)
        .out(leaves(form, began, what, protocol, 3))
}

/// A packet of full size goes on unless its own connection is one of a tunnel; then its sender is told what fits.
fn edited_full_size(form: Form, began: Method, what: &str, change: fn(&mut Plan)) -> Case {
    let headers = if form == Form::V4 { 40 } else { 60 };
    let full = packet(&client(form, form.vip(), 64), Protocol::Tcp, 80, "PA", 1500 - headers);
    let before = from_front(&packet(&client(form, form.vip(), 64), Protocol::Tcp, 80, "S", 0));
    let name = format!("full size by {began}, edited to {what}, {}", word(form));
    let plan = one_service(form, Protocol::Tcp, began);
    if began == Method::Tun {
        let verdict = Verdict::Reply(NicId(0), ReplyKind::TooBig);
        return Case::new(name, plan, from_front(&full), verdict)
            .after(vec![before])
            .changed(change)
            .any_out();
    }
    Case::new(name, plan, from_front(&full), SENT_BACK).after(vec![before]).changed(change).out(leaves(
        form,
        began,
        what,
        Protocol::Tcp,
        1500 - headers,
    ))
}

const ESP: u8 = 50;
const AH: u8 = 51;

/// A service of IKE, whose NAT real servers have its port too, or their IPsec would not be known for theirs.
fn ike(form: Form, method: Method) -> Plan {
    let mut plan = one_service(form, Protocol::Udp, method);
    plan.services[0].listen.set_port(500);
    plan.services[0].reals.iter_mut().for_each(|real| real.address.set_port(500));
    plan
}

fn ike_first(form: Form) -> Vec<shunt_tests::director::Arrival> {
    vec![from_front(&Ip::new(&form.client(1), form.vip()).udp(500, 500, b"IKE"))]
}

/// IPsec of a client goes where its IKE goes.
fn ipsec(form: Form, method: Method, protocol: u8) -> Option<Case> {
    let carried = |to: &str, ttl| client(form, to, ttl).carry(protocol, &[9; 24]);
    let out = match method {
        Method::Dr => carried(form.vip(), 63),
        Method::Nat => carried(&form.real(2), 63),
        Method::Tun => {
            let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
            Ip::new(form.own(BACK), &form.real(2)).ttl(63).df().carry(kind, &carried(form.vip(), 63))
        }
    };
    let name = format!("protocol {protocol} beside IKE, {method}, {}", word(form));
    let packet = from_front(&carried(form.vip(), 64));
    Some(Case::new(name, ike(form, method), packet, SENT_BACK).after(ike_first(form)).out(to_real(2, &out)))
}

fn ipsec_without_ike(form: Form) -> Case {
    let packet = from_front(&client(form, form.vip(), 64).carry(ESP, &[9; 24]));
    let verdict = Verdict::Reply(NicId(0), ReplyKind::ProtocolUnreachable);
    Case::new(format!("ESP without IKE, {}", word(form)), ike(form, Method::Nat), packet, verdict).any_out()
}

/// IPsec of a NAT real server leaves as the VIP's.
fn answer_of_ipsec(form: Form) -> Case {
    let from = |source: &str, ttl| Ip::new(source, &form.client(1)).ttl(ttl).carry(ESP, &[9; 24]);
    let packet = from_real(2, &from(&form.real(2), 64));
    Case::new(format!("answer by ESP, {}", word(form)), ike(form, Method::Nat), packet, SENT_FRONT)
        .after(ike_first(form))
        .out(to_front(&from(form.vip(), 63)))
}

fn answer_of_another_real(form: Form) -> Case {
    let mut plan = ike(form, Method::Nat);
    plan.forwards = vec![shunt_tests::network::everything_passes()];
    let from = |ttl| Ip::new(&form.real(1), &form.client(1)).ttl(ttl).carry(ESP, &[9; 24]);
    let name = format!("ESP of another real server, {}", word(form));
    Case::new(name, plan, from_real(1, &from(64)), SENT_FRONT).after(ike_first(form)).out(to_front(&from(63)))
}

/// An error about IPsec goes along; it quotes no ports, so that none is rewritten.
fn error_about_ipsec(form: Form, method: Method) -> Case {
    let (kind, code) = if form == Form::V4 { (3, 1) } else { (1, 0) };
    let error = |to: &str, from: &str, ttl| {
        let quote = Ip::new(from, &form.client(1)).carry(ESP, &[9; 24]);
        Ip::new(&form.client(9), to).ttl(ttl).icmp(kind, code, 0, &quote)
    };
    let passed = error(form.vip(), form.vip(), 63);
    let out = match method {
        Method::Dr => passed,
        Method::Nat => error(&form.real(2), &form.real(2), 63),
        Method::Tun => {
            let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
            let outer = Ip::new(form.own(BACK), &form.real(2)).ttl(63);
            outer.carry(kind, &passed)
        }
    };
    let name = format!("error about ESP, {method}, {}", word(form));
    let packet = from_front(&error(form.vip(), form.vip(), 64));
    Case::new(name, ike(form, method), packet, SENT_BACK).after(ike_first(form)).out(to_real(2, &out))
}
