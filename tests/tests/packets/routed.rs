//! Packets of no service: routed by longest prefix, or for the control core.

use std::net::IpAddr;

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::service::{Method, Unresolved};
use shunt_dataplane::snapshot::{NeighbourPlan, Plan, RoutePlan};
use shunt_tests::director::Arrival;
use shunt_tests::network::{BACK, FRONT, Form, ROUTER, everything_passes};
use shunt_tests::packets::{Ip, Tcp, ethernet, frame};

use crate::case::{
    Case, SENT_BACK, SENT_FRONT, from_front, from_real, no_service, one_service, router, to_front, to_real,
    word,
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        cases.extend([out_to_the_world(form), in_to_a_neighbour(form), longest_prefix(form)]);
        cases.extend([
            unconnected_answer(form),
            own_address(form),
            answered_check(form),
            unresolved(form),
            unresolved_real(form),
        ]);
        cases.push(fragment(form));
    }
    cases.extend([arp(), solicitation()]);
    cases
}

fn elsewhere(form: Form) -> &'static str {
    if form == Form::V4 { "203.0.113.9" } else { "2001:db8:ffff::9" }
}

fn named(what: &str, form: Form) -> String {
    format!("{what}, {}", word(form))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A real server asks somebody outside.
fn out_to_the_world(form: Form) -> Case {
    let packet = |ttl| Ip::new(&form.real(1), elsewhere(form)).ttl(ttl).id(3).udp(1, 53, b"who is it?");
    Case::new(named("by the gateway", form), router(), from_real(1, &packet(64)), SENT_FRONT)
        .out(to_front(&packet(63)))
}

/// A neighbour's address, of any protocol.
fn in_to_a_neighbour(form: Form) -> Case {
    let packet = |ttl| Ip::new(elsewhere(form), &form.real(3)).ttl(ttl).carry(99, b"?");
    Case::new(named("to a neighbour", form), router(), from_front(&packet(64)), SENT_BACK)
        .out(to_real(3, &packet(63)))
}

fn longest_prefix(form: Form) -> Case {
    let packet = |ttl| Ip::new(&form.client(1), elsewhere(form)).ttl(ttl).udp(1, 2, b"");
    let mut plan = router();
    let (wide, narrow) = if form == Form::V4 {
        ("203.0.0.0/8", "203.0.113.0/24")
    } else {
        ("2001:db8::/32", "2001:db8:ffff::/64")
    };
    let route =
        |to: &str, via: &str, nic| RoutePlan { to: to.parse().unwrap(), via: Some(address(via)), nic };
    plan.routes.push(route(wide, form.router(), FRONT));
    plan.routes.push(route(narrow, &form.real(4), BACK));
    Case::new(named("by the longest prefix", form), plan, from_front(&packet(64)), SENT_BACK)
        .out(to_real(4, &packet(63)))
}

/// What a NAT real server sends of its own accord is routed as it is.
fn unconnected_answer(form: Form) -> Case {
    let packet = |ttl| Ip::new(&form.real(2), &form.client(1)).ttl(ttl).tcp(&Tcp::new(8080, 40000, "S"));
    let forwards = vec![everything_passes()];
    let plan = Plan { forwards, ..one_service(form, Protocol::Tcp, Method::Nat) };
    Case::new(
        named("from a NAT real server, of no connection", form),
        plan,
        from_real(2, &packet(64)),
        SENT_FRONT,
    )
    .out(to_front(&packet(63)))
}

fn own_address(form: Form) -> Case {
    let packet = Ip::new(&form.client(1), form.own(FRONT)).tcp(&Tcp::new(40000, 22, "S"));
    let verdict = Verdict::Punt(Punt::Local);
    Case::new(named("for the director's own address", form), no_service(), from_front(&packet), verdict)
}

/// A VIP's answer to a check goes to the kernel side that asked.
fn answered_check(form: Form) -> Case {
    let mut plan = one_service(form, Protocol::Tcp, Method::Dr);
    plan.checked = plan.vips.clone();
    let packet = Ip::new(form.vip(), form.own(BACK)).tcp(&Tcp::new(80, 5000, "SA"));
    let verdict = Verdict::Punt(Punt::Local);
    Case::new(named("from a VIP that is checked", form), plan, from_real(1, &packet), verdict)
}

fn unresolved(form: Form) -> Case {
    let packet = Ip::new(&form.client(1), &form.real(77)).udp(1, 2, b"");
    let waits = Unresolved { nic: BACK, address: address(&form.real(77)) };
    let verdict = Verdict::Punt(Punt::Unresolved(waits));
    Case::new(named("to an unknown neighbour", form), router(), from_front(&packet), verdict)
}

/// The connection is made, and the packet waits.
fn unresolved_real(form: Form) -> Case {
    let packet = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40000, 80, "S"));
    let mut plan = one_service(form, Protocol::Tcp, Method::Dr);
    let real = address(&form.real(2));
    plan.neighbours.retain(|neighbour: &NeighbourPlan| neighbour.address != real);
    let verdict = Verdict::Punt(Punt::Unresolved(Unresolved { nic: BACK, address: real }));
    Case::new(named("to an unknown real server", form), plan, from_front(&packet), verdict)
}

/// A later fragment of somebody else's packet is routed like any other.
fn fragment(form: Form) -> Case {
    let packet = |ttl: u8| match form {
        Form::V4 => {
            let ip = Ip::new(elsewhere(form), &form.real(3)).ttl(ttl);
            Ip { fragment: 100, ..ip }.carry(17, b"the rest")
        }
        Form::V6 => {
            let header = [17, 0, 0x03, 0x20, 0, 0, 0, 1];
            Ip::new(elsewhere(form), &form.real(3)).ttl(ttl).carry(44, &[&header[..], b"the rest"].concat())
        }
    };
    Case::new(named("a fragment, routed", form), router(), from_front(&packet(64)), SENT_BACK)
        .out(to_real(3, &packet(63)))
}

fn arp() -> Case {
    let arrival = Arrival { nic: FRONT, frame: frame(Mac::BROADCAST, ROUTER, 0x0806, &[0; 46]) };
    Case::new("ARP", no_service(), arrival, Verdict::Punt(Punt::Arp))
}

/// Who has the VIP? To its solicited-node group.
fn solicitation() -> Case {
    let target = "2001:db8::100".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let packet = Ip::new("fe80::1", "ff02::1:ff00:100").ttl(255).icmp(135, 0, 0, &target);
    let group = Mac([0x33, 0x33, 0xff, 0, 1, 0]);
    let arrival = Arrival { nic: NicId(0), frame: ethernet(group, ROUTER, &packet) };
    Case::new("neighbour solicitation", no_service(), arrival, Verdict::Punt(Punt::NeighbourDiscovery))
}
