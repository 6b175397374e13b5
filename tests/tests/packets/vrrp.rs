//! Adverts, and packets for VIPs that belong to another director, or did a moment ago.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{Mac, Protocol};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::Method;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::Arrival;
use shunt_tests::network::{FRONT, Form, ROUTER};
use shunt_tests::packets::{Ip, Tcp, ethernet};

use crate::case::{Case, SENT_BACK, from_front, no_service, one_service, to_real, word};

/// Protocol numbers of VRRP, and of the authentication header around it.
const VRRP: u8 = 112;
const HEADER: u8 = 51;

pub fn cases() -> Vec<Case> {
    Form::BOTH.into_iter().flat_map(|form| adverts(form).into_iter().chain(of_backup(form))).collect()
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
    vec![
        closed("a ping of a VIP that does not accept", &ping, refused),
        closed("a SYN to no service of a VIP that does not accept", &elsewhere, refused),
        closed("a datagram to no service of a VIP that does not accept", &datagram, refused),
        closed("a SYN to a service of a VIP that does not accept", &packet(64, "S"), SENT_BACK)
            .out(to_real(2, &packet(63, "S"))),
        backup("a new connection at a backup", &packet(64, "S")),
        backup("a ping at a backup", &ping),
        backup("an open connection at a backup", &packet(64, "A")).after(vec![from_front(&packet(64, "S"))]),
        Case::new(
            named("in the midst of a connection, after a takeover", form),
            taken,
            from_front(&packet(64, "A")),
            SENT_BACK,
        )
        .out(to_real(2, &packet(63, "A"))),
    ]
}
