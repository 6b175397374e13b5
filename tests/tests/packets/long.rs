//! Frames that are longer than the MTU of the NIC that they come in by, as offloads of senders let through.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::ReplyKind;
use shunt_dataplane::service::Method;
use shunt_tests::network::{BACK, FRONT, Form};
use shunt_tests::packets::{Ip, Tcp};

use crate::case::{Case, SENT_BACK, SENT_FRONT, from_front, from_real, one_service, router, word};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        for method in [Method::Dr, Method::Nat, Method::Tun] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                cases.extend([false, true].map(|df| to_service(form, method, protocol, df)));
            }
        }
        cases.extend([false, true].map(|df| answered(form, df)));
        cases.extend([false, true].map(|df| routed(form, df)));
        cases.extend([to_nobody(form), ping(form)]);
    }
    cases
}

/// A packet of 1501 bytes that begins a connection.
fn long(ip: &Ip, protocol: Protocol, (from, to): (u16, u16)) -> Vec<u8> {
    let header = if ip.source.is_ipv4() { 20 } else { 40 };
    let data = |transport: usize| vec![7; 1501 - header - transport];
    match protocol {
        Protocol::Udp => ip.udp(from, to, &data(8)),
        // An INIT chunk that is all of it.
        Protocol::Sctp => {
            let mut chunk = data(12);
            let length = chunk.len() as u16;
            chunk[..2].copy_from_slice(&[1, 0]);
            chunk[2..4].copy_from_slice(&length.to_be_bytes());
            ip.sctp(from, to, &chunk)
        }
        Protocol::Tcp | Protocol::Icmp => ip.tcp(&Tcp::new(from, to, "S").data(&data(20))),
    }
}

fn name(what: &str, form: Form, df: bool) -> String {
    format!("1501 bytes{}, {what}, {}", if df { " with DF" } else { "" }, word(form))
}

fn with(ip: Ip, df: bool) -> Ip {
    if df { ip.df() } else { ip }
}

/// Goes on by `sent` in fragments, or its sender behind `back` is told.
const fn fragmented(form: Form, df: bool, sent: Verdict, told: Verdict) -> Verdict {
    if df || matches!(form, Form::V6) { told } else { sent }
}

const TOLD_FRONT: Verdict = Verdict::Reply(FRONT, ReplyKind::TooBig);
const TOLD_BACK: Verdict = Verdict::Reply(BACK, ReplyKind::TooBig);

fn to_service(form: Form, method: Method, protocol: Protocol, df: bool) -> Case {
    let port = if protocol == Protocol::Tcp { 80 } else { 53 };
    let packet = long(&with(Ip::new(&form.client(1), form.vip()), df), protocol, (40000, port));
    let verdict = fragmented(form, df, SENT_BACK, TOLD_FRONT);
    let name = name(&format!("{protocol} {method}"), form, df);
    Case::new(name, one_service(form, protocol, method), from_front(&packet), verdict).any_out()
}

fn answered(form: Form, df: bool) -> Case {
    let asked = Ip::new(&form.client(1), form.vip()).udp(40000, 53, b"q");
    let ip = with(Ip::new(&form.real(2), &form.client(1)), df);
    let packet = long(&ip, Protocol::Udp, (8053, 40000));
    let verdict = fragmented(form, df, SENT_FRONT, TOLD_BACK);
    let plan = one_service(form, Protocol::Udp, Method::Nat);
    Case::new(name("an answer", form, df), plan, from_real(2, &packet), verdict)
        .after(vec![from_front(&asked)])
        .any_out()
}

fn routed(form: Form, df: bool) -> Case {
    let ip = with(Ip::new(&form.real(2), &form.client(1)), df);
    let packet = long(&ip, Protocol::Udp, (9, 40000));
    let verdict = fragmented(form, df, SENT_FRONT, TOLD_BACK);
    Case::new(name("routed", form, df), router(), from_real(2, &packet), verdict).any_out()
}

/// A ping that is longer than the MTU has an answer in fragments.
fn ping(form: Form) -> Case {
    let (kind, header) = if form == Form::V4 { (8, 20) } else { (128, 40) };
    let data = vec![7; 1501 - header - 8];
    let packet = Ip::new(&form.client(1), form.vip()).icmp(kind, 0, 1, &data);
    let verdict = Verdict::Reply(FRONT, ReplyKind::EchoReply);
    let plan = one_service(form, Protocol::Tcp, Method::Dr);
    Case::new(name("a ping", form, false), plan, from_front(&packet), verdict).any_out()
}

/// What the director answers itself has no way on to be too narrow.
fn to_nobody(form: Form) -> Case {
    let packet = long(&Ip::new(&form.client(1), form.vip()).df(), Protocol::Tcp, (40000, 81));
    let verdict = Verdict::Reply(FRONT, ReplyKind::Reset);
    let plan = one_service(form, Protocol::Tcp, Method::Dr);
    Case::new(name("for no service", form, true), plan, from_front(&packet), verdict).any_out()
}
