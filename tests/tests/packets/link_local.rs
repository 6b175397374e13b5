//! Link-local addresses: the same one is another host's on each link (RFC 4007), and whoever has one is answered on its link.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::{Method, Unresolved};
use shunt_dataplane::snapshot::{LinkVip, NeighbourPlan, NicPlan, Plan};
use shunt_tests::director::Arrival;
use shunt_tests::network::{BACK, FRONT, Form, nic_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet};

use crate::case::{Case, no_service, one_service, to_real};

const CLIENT: &str = "fe80::c";
const VIP: &str = "fe80::10";
/// Who has [`CLIENT`] on each link.
const CLIENT_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0xc, 0]), Mac([2, 0, 0, 0, 0xc, 1])];

pub fn cases() -> Vec<Case> {
    let both = |of: fn(NicId) -> Vec<Case>| [FRONT, BACK].map(of).concat();
    let mut cases = both(answers);
    cases.extend(both(of_others));
    cases.extend(clients());
    cases
}

fn with_clients(mut plan: Plan) -> Plan {
    let client =
        |nic: NicId| NeighbourPlan { nic, address: CLIENT.parse().unwrap(), mac: CLIENT_MACS[nic.index()] };
    plan.neighbours.extend([FRONT, BACK].map(client));
    plan
}

/// [`VIP`] is on both links: here on that of `nic`, another director's on the other one. There are own link-local addresses too.
fn plan(nic: NicId) -> Plan {
    let mut plan = with_clients(no_service());
    let vip =
        |on: NicId| LinkVip { nic: on, address: VIP.parse().unwrap(), is_here: on == nic, accepts: true };
    plan.link_vips = [FRONT, BACK].map(vip).to_vec();
    let own = |nic: &mut NicPlan| nic.addresses.insert(0, "fe80::1/64".parse().unwrap());
    plan.nics.iter_mut().for_each(own);
    plan
}

fn from(nic: NicId, packet: &[u8]) -> Arrival {
    Arrival { nic, frame: ethernet(nic_mac(nic), CLIENT_MACS[nic.index()], packet) }
}

fn to(nic: NicId, packet: &[u8]) -> Vec<u8> {
    ethernet(CLIENT_MACS[nic.index()], nic_mac(nic), packet)
}

fn ping(destination: &str) -> Vec<u8> {
    Ip::new(CLIENT, destination).icmp(128, 0, 1, b"data")
}

fn other(nic: NicId) -> NicId {
    if nic == FRONT { BACK } else { FRONT }
}

fn answers(nic: NicId) -> Vec<Case> {
    let reply = |kind| Verdict::Reply(nic, kind);
    let case = |what: &str, packet: &[u8], kind, out: &[u8]| {
        Case::new(format!("{what}, NIC {nic}"), plan(nic), from(nic, packet), reply(kind)).out(to(nic, out))
    };
    let pong = |vip: &str| Ip::new(vip, CLIENT).icmp(129, 0, 1, b"data");
    let syn = Ip::new(CLIENT, VIP).tcp(&Tcp::new(40000, 80, "S").numbers(7, 0));
    let reset = Ip::new(VIP, CLIENT).tcp(&Tcp::new(80, 40000, "RA").numbers(0, 8).window(0));
    let datagram = Ip::new(CLIENT, VIP).udp(40000, 53, b"data");
    let refused = Ip::new(VIP, CLIENT).icmp(1, 4, 0, &datagram);
    let global = Form::V6.vip();
    vec![
        case("a ping of a link-local VIP", &ping(VIP), ReplyKind::EchoReply, &pong(VIP)),
        case("a ping of a VIP from a link-local address", &ping(global), ReplyKind::EchoReply, &pong(global)),
        case("a SYN to a link-local VIP", &syn, ReplyKind::Reset, &reset),
        case("a datagram to a link-local VIP", &datagram, ReplyKind::PortUnreachable, &refused),
    ]
}

fn of_others(nic: NicId) -> Vec<Case> {
    let case =
        |what: &str, arrival, verdict| Case::new(format!("{what}, NIC {nic}"), plan(nic), arrival, verdict);
    let away = other(nic);
    let syn = Ip::new(CLIENT, VIP).tcp(&Tcp::new(40000, 80, "S"));
    let waits = Unresolved { nic, address: CLIENT.parse().unwrap() };
    let unknown = |plan: &mut Plan| plan.neighbours.retain(|one| one.address.to_string() != CLIENT);
    let closed = |plan: &mut Plan| plan.link_vips.iter_mut().for_each(|vip| vip.accepts = !vip.is_here);
    let not_master = Verdict::Drop(DropReason::NotMaster);
    vec![
        case("a ping of a link-local VIP that is another's on this link", from(away, &ping(VIP)), not_master),
        case("a SYN to a link-local VIP that is another's on this link", from(away, &syn), not_master),
        case(
            "a link-local client that is not known",
            from(nic, &ping(VIP)),
            Verdict::Punt(Punt::Unresolved(waits)),
        )
        .changed(unknown),
        case(
            "a ping of a link-local VIP that does not accept",
            from(nic, &ping(VIP)),
            Verdict::Drop(DropReason::NotAccepted),
        )
        .changed(closed),
        case("a ping of an own link-local address", from(nic, &ping("fe80::1")), Verdict::Punt(Punt::Local)),
        case(
            "a ping of a link-local address of nobody's",
            from(nic, &ping("fe80::99")),
            Verdict::Punt(Punt::Local),
        ),
    ]
}

/// What a link-local client gets of a service: the real server has to be on its link, and to answer by itself.
fn clients() -> Vec<Case> {
    let syn = |ttl| Ip::new(CLIENT, Form::V6.vip()).ttl(ttl).tcp(&Tcp::new(40000, 80, "S"));
    let case = |what: &str, method, nic, verdict| {
        let plan = with_clients(one_service(Form::V6, Protocol::Tcp, method));
        Case::new(
            format!("a link-local client of a service by {method}, {what}"),
            plan,
            from(nic, &syn(64)),
            verdict,
        )
    };
    let beyond = Verdict::Drop(DropReason::BeyondLink);
    vec![
        case("on the link of its real servers", Method::Dr, BACK, Verdict::Send(BACK))
            .out(to_real(2, &syn(63))),
        case("on another link", Method::Dr, FRONT, beyond),
        case("on the link of its real servers", Method::Nat, BACK, beyond),
        case("on the link of its real servers", Method::Tun, BACK, beyond),
    ]
}
