//! Adverts, and packets for VIPs that belong to another director, or did a moment ago.

use std::net::IpAddr;

use shunt_dataplane::address::Family;
use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{Mac, Protocol};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::Arrival;
use shunt_tests::network::{FRONT, Form, ROUTER};
use shunt_tests::packets::{Ip, Tcp, ethernet};

use crate::case::{Case, SENT_BACK, from_front, no_service, one_service, to_real, word};

/// Protocol numbers of VRRP, and of the authentication header around it.
const VRRP: u8 = 112;
const HEADER: u8 = 51;

pub fn cases() -> Vec<Case> {
    let of = |form| adverts(form).into_iter().chain(of_backup(form)).chain(marked_at_backup(form));
    Form::BOTH.into_iter().flat_map(of).collect()
}

fn named(what: &str, form: Form) -> String {
    format!("{what}, {}", word(form))
}

fn adverts(form: Form) -> Vec<Case> {
    let punt =
        |what: &str, arrival| Case::new(named(what, form), no_service(), arrival, Verdict::Punt(Punt::Vrrp));
    let (group, mac, other) = match form {
        Form::V4 => ("224.0.0.18", Mac([1, 0, 0x5e, 0, 0, 0x12]), "192.0.2.3"),
        Form::V6 => ("ff02::12", Mac([0x33, 0x33, 0, 0, 0, 0x12]), "fe80::3"),
    };
    let advert = Ip::new(other, group).ttl(255).carry(VRRP, &[0x31, 51, 100, 0, 0, 100, 0, 0]);
    let mut cases = vec![
        punt("an advert", Arrival { nic: FRONT, frame: ethernet(mac, ROUTER, &advert) }),
        punt(
            "an advert for the director alone",
            from_front(
                &Ip::new(&form.client(1), form.own(FRONT)).carry(VRRP, &[0x31, 51, 100, 0, 0, 100, 0, 0]),
            ),
        ),
    ];
    if form == Form::V4 {
        let mut header = vec![VRRP, 4];
        header.resize(24 + 20, 0);
        let advert = Ip::new(other, group).ttl(255).carry(HEADER, &header);
        let arrival = Arrival { nic: FRONT, frame: ethernet(mac, ROUTER, &advert) };
        cases.push(punt("an advert behind an authentication header", arrival));
    }
    cases
}

/// The VIP is another director's.
fn gone(plan: &mut Plan) {
    plan.elsewhere = std::mem::take(&mut plan.vips);
}

/// A router of the client's complains about an answer from a VIP.
fn too_big(form: Form, vip: &str, ttl: u8) -> Vec<u8> {
    let (kind, code) = if form == Form::V4 { (3, 4) } else { (2, 0) };
    let answer = Ip::new(vip, &form.client(1)).df().tcp(&Tcp::new(80, 40000, "A"));
    Ip::new(&form.client(9), vip).ttl(ttl).icmp(kind, code, 1280, &answer)
}

fn of_backup(form: Form) -> Vec<Case> {
    let packet =
        |ttl, flags: &str| Ip::new(&form.client(1), form.vip()).ttl(ttl).tcp(&Tcp::new(40000, 80, flags));
    let plan = || one_service(form, Protocol::Tcp, Method::Dr);
    let backup = |what: &str, packet: &[u8]| {
        let verdict = Verdict::Drop(DropReason::NotMaster);
        Case::new(named(what, form), plan(), from_front(packet), verdict).changed(gone)
    };
    let echo = if form == Form::V4 { 8 } else { 128 };
    let ping = Ip::new(&form.client(1), form.vip()).icmp(echo, 0, 1, b"");
    let closed = |what: &str, packet: &[u8], verdict| {
        let case = Case::new(named(what, form), plan(), from_front(packet), verdict);
        case.changed(|plan| plan.not_accepting = plan.vips.clone())
    };
    let refused = Verdict::Drop(DropReason::NotAccepted);
    let elsewhere = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40000, 81, "S"));
    let datagram = Ip::new(&form.client(1), form.vip()).udp(40000, 53, b"data");
    let mut taken = plan();
    taken.adopting = taken.vips.clone();
    // There is one that it can have been.
    taken.services[0].reals.retain(|real| real.address.ip().to_string() == form.real(2));
    vec![
        closed("a ping of a VIP that does not accept", &ping, refused),
        closed("a SYN to no service of a VIP that does not accept", &elsewhere, refused),
        closed("a datagram to no service of a VIP that does not accept", &datagram, refused),
        closed("a SYN to a service of a VIP that does not accept", &packet(64, "S"), SENT_BACK)
            .out(to_real(2, &packet(63, "S"))),
        backup("a new connection at a backup", &packet(64, "S")),
        backup("a ping at a backup", &ping),
        backup("an open connection at a backup", &packet(64, "A")).after(vec![from_front(&packet(64, "S"))]),
        backup("an ICMP error about an open connection at a backup", &too_big(form, form.vip(), 64))
            .after(vec![from_front(&packet(64, "S"))]),
        Case::new(
            named("in the midst of a connection, after a takeover", form),
            taken,
            from_front(&packet(64, "A")),
            SENT_BACK,
        )
        .out(to_real(2, &packet(63, "A"))),
    ]
}

/// A service of a firewall mark that port 80 of every address has, and a second VIP.
fn marked(form: Form, method: Method) -> Plan {
    let mut plan = one_service(form, Protocol::Tcp, method);
    let mark = Mark::new(7).unwrap();
    plan.services[0].listen = mark.listen(Family::of(form.vip().parse().unwrap()));
    plan.marks = vec![MarkRule { mark, to: None, from: None, protocol: None, ports: 80..=80, nic: None }];
    plan.vips.push(second_vip(form).parse().unwrap());
    plan
}

const fn second_vip(form: Form) -> &'static str {
    match form {
        Form::V4 => "192.0.2.11",
        Form::V6 => "2001:db8:f::11",
    }
}

/// The second VIPs stay, the first ones are another director's.
fn first_gone(plan: &mut Plan) {
    let is_first = |vip: &IpAddr| Form::BOTH.iter().any(|form| form.vip() == vip.to_string());
    (plan.elsewhere, plan.vips) = std::mem::take(&mut plan.vips).into_iter().partition(is_first);
}

fn marked_at_backup(form: Form) -> Vec<Case> {
    let to =
        |vip: &str, ttl, flags: &str| Ip::new(&form.client(1), vip).ttl(ttl).tcp(&Tcp::new(40000, 80, flags));
    let (first, second) = (form.vip(), second_vip(form));
    let begun = |vip: &str| vec![from_front(&to(vip, 64, "S"))];
    let not_master = Verdict::Drop(DropReason::NotMaster);
    let stopped = |what: &str, method, change: fn(&mut Plan)| {
        let plan = marked(form, method);
        let case = Case::new(named(what, form), plan, from_front(&to(first, 64, "A")), not_master);
        case.after(begun(first)).changed(change)
    };
    let goes_on = |what: &str, flags: &str| {
        let packet = from_front(&to(second, 64, flags));
        let case = Case::new(named(what, form), marked(form, Method::Dr), packet, SENT_BACK);
        case.changed(first_gone).out(to_real(2, &to(second, 63, flags)))
    };
    let error = |what: &str, vip: &str, verdict| {
        let packet = from_front(&too_big(form, vip, 64));
        let case = Case::new(named(what, form), marked(form, Method::Dr), packet, verdict);
        case.after(begun(vip)).changed(first_gone)
    };
    vec![
        error("an ICMP error for the VIP of a firewall mark that went", first, not_master),
        error("an ICMP error for the VIP of a firewall mark that stayed", second, SENT_BACK)
            .out(to_real(2, &too_big(form, second, 63))),
        stopped("an open connection of a firewall mark at a backup", Method::Dr, gone),
        stopped("an open connection by NAT of a firewall mark at a backup", Method::Nat, gone),
        stopped("an open connection of a firewall mark to the VIP that went", Method::Dr, first_gone),
        goes_on("an open connection of a firewall mark to the VIP that stayed", "A").after(begun(second)),
        goes_on("a new connection of a firewall mark to the VIP that stayed", "S"),
    ]
}
