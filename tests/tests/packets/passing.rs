//! Who gets in: what a director without rules passes on, what a rule lets pass, and sources that are elsewhere.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::forwarding::{End, ForwardRule};
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::snapshot::{Plan, RoutePlan};
use shunt_tests::director::Arrival;
use shunt_tests::network::{BACK, FRONT, Form, everything_passes};
use shunt_tests::packets::{Ip, Tcp};

use crate::case::{
    Case, SENT_BACK, SENT_FRONT, from_front, from_real, no_service, one_service, to_front, to_real, word,
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        cases.extend(without_rules(form));
        cases.extend(of_connections(form));
        cases.extend(by_rules(form));
        cases.extend(icmp_by_rules(form));
        cases.extend(of_one_link(form));
        cases.extend(redirects(form));
        cases.extend(sources(form));
        cases.extend(modes(form));
        cases.extend(unaffected(form));
    }
    cases.extend(answers_of_dr_ipv6());
    cases
}

const DENIED: Verdict = Verdict::Drop(DropReason::NotForwarded);
const ELSEWHERE: Verdict = Verdict::Drop(DropReason::ReversePath);

fn named(what: &str, form: Form) -> String {
    format!("{what}, {}", word(form))
}

fn outside(form: Form) -> &'static str {
    if form == Form::V4 { "203.0.113.9" } else { "2001:db8:ffff::9" }
}

fn inner(form: Form) -> End {
    End::Network(if form == Form::V4 { "10.1.0.0/24" } else { "2001:db8:1::/64" }.parse().unwrap())
}

fn with(rule: ForwardRule) -> Plan {
    Plan { forwards: vec![rule], ..no_service() }
}

/// What a client sends to a real server past its service, and what a real server sends out.
fn without_rules(form: Form) -> Vec<Case> {
    let to = Ip::new(&form.client(1), &form.real(3));
    let from = Ip::new(&form.real(3), outside(form));
    let (syn, echo) = (Tcp::new(40_000, 8080, "S"), if form == Form::V4 { 8 } else { 128 });
    let mut cases = Vec::new();
    for method in [Method::Nat, Method::Dr, Method::Tun] {
        let plan = || one_service(form, Protocol::Tcp, method);
        let mut push = |what: &str, arrival| {
            cases.push(Case::new(named(&format!("{what}, {method}"), form), plan(), arrival, DENIED));
        };
        push("to a real server past its service", from_front(&to.tcp(&syn)));
        push("with a TTL of 1 to a real server", from_front(&to.clone().ttl(1).tcp(&syn)));
        push("an ACK to a real server", from_front(&to.tcp(&Tcp::new(40_000, 8080, "A"))));
        push("UDP to a real server", from_front(&to.udp(40_000, 53, b"?")));
        push("a ping to a real server", from_front(&to.icmp(echo, 0, 1, b"ping")));
        push("another protocol to a real server", from_front(&to.carry(99, b"?")));
        push("a real server's own UDP", from_real(3, &from.udp(40_000, 53, b"?")));
        push("a real server's own TCP", from_real(3, &from.tcp(&syn)));
        push(
            "a real server's answer of no connection",
            from_real(1, &from.tcp(&Tcp::new(8080, 40_000, "SA"))),
        );
        let net = if form == Form::V4 { "10.1.0.255" } else { "2001:db8:1::" };
        push("to the inner network itself", from_front(&Ip::new(&form.client(1), net).udp(40_000, 7, b"?")));
    }
    cases
}

/// A connection's packets need no rule, whichever way they go.
fn of_connections(form: Form) -> Vec<Case> {
    let plan = one_service(form, Protocol::Tcp, Method::Nat);
    let begin = from_front(&Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40_000, 80, "S")));
    let answer = |from: &str, l4_port, ttl| {
        Ip::new(from, &form.client(1)).ttl(ttl).id(5).tcp(&Tcp::new(l4_port, 40_000, "SA"))
    };
    let answered = Case::new(
        named("a NAT answer", form),
        plan.clone(),
        from_real(2, &answer(&form.real(2), 8080, 64)),
        SENT_FRONT,
    )
    .after(vec![begin.clone()])
    .out(to_front(&answer(form.vip(), 80, 63)));
    let (kind, code) = if form == Form::V4 { (3, 3) } else { (1, 4) };
    let quoted = Ip::new(&form.client(1), &form.real(2)).ttl(63).tcp(&Tcp::new(40_000, 8080, "S"));
    let error = Ip::new(&form.real(2), &form.client(1)).icmp(kind, code, 0, &quoted);
    let told = Case::new(
        named("an ICMP error about a NAT connection", form),
        plan,
        from_real(2, &error),
        SENT_FRONT,
    )
    .after(vec![begin]);
    // What leaves is in the table of errors.
    vec![answered, told.any_out()]
}

fn by_rules(form: Form) -> Vec<Case> {
    let syn = |from: &str, to: &str, ttl| Ip::new(from, to).ttl(ttl).id(1).tcp(&Tcp::new(40_000, 8080, "S"));
    let ack = |from: &str, to: &str, ttl| Ip::new(from, to).ttl(ttl).id(1).tcp(&Tcp::new(8080, 40_000, "SA"));
    let udp = |from: &str, to: &str, ttl| Ip::new(from, to).ttl(ttl).id(1).udp(53, 40_000, b"!");
    let (client, real) = (form.client(1), form.real(3));
    let inwards = ForwardRule { from: End::Nic(FRONT), to: inner(form), both: false };
    let outwards = ForwardRule { from: End::Nic(BACK), to: End::Nic(FRONT), both: false };
    let both = ForwardRule { both: true, ..inwards };
    let mut cases = Vec::new();
    let passes_in = |what: &str, rule, packet: fn(Form, u8) -> Vec<u8>| {
        Case::new(named(what, form), with(rule), from_front(&packet(form, 64)), SENT_BACK)
            .out(to_real(3, &packet(form, 63)))
    };
    let passes_out = |what: &str, rule, packet: &dyn Fn(u8) -> Vec<u8>| {
        Case::new(named(what, form), with(rule), from_real(3, &packet(64)), SENT_FRONT)
            .out(to_front(&packet(63)))
    };
    cases.push(passes_in("a SYN by a rule", inwards, |form, ttl| {
        Ip::new(&form.client(1), &form.real(3)).ttl(ttl).tcp(&Tcp::new(40_000, 8080, "S"))
    }));
    cases.push(passes_in("a protocol without ports by a rule", inwards, |form, ttl| {
        Ip::new(&form.client(1), &form.real(3)).ttl(ttl).carry(47, b"?")
    }));
    cases.push(passes_out("a SYN-ACK that answers", inwards, &|ttl| ack(&real, &client, ttl)));
    cases.push(passes_out("a RST that answers", inwards, &|ttl| {
        Ip::new(&real, &client).ttl(ttl).tcp(&Tcp::new(8080, 40_000, "R"))
    }));
    cases.push(passes_out("UDP by a rule for both ways", both, &|ttl| udp(&real, &client, ttl)));
    cases.push(passes_out("a SYN by a rule for both ways", both, &|ttl| syn(&real, &client, ttl)));
    cases.push(passes_out("a SYN by NICs", outwards, &|ttl| syn(&real, &client, ttl)));
    let denied =
        |what: &str, rule, arrival: Arrival| Case::new(named(what, form), with(rule), arrival, DENIED);
    cases.push(denied("a SYN against a rule", outwards, from_front(&syn(&client, &real, 64))));
    cases.push(denied("UDP against a rule", outwards, from_front(&udp(&client, &real, 64))));
    cases.push(denied("a SYN of another network", inwards, from_real(3, &syn(&real, &client, 64))));
    cases.push(denied("a later fragment against a rule", outwards, from_front(&later_fragment(form))));
    let narrow = ForwardRule { to: host(&form.real(4)), ..inwards };
    cases.push(denied("a SYN to another host", narrow, from_front(&syn(&client, &real, 64))));
    let other_family = ForwardRule { from: End::Any, to: inner(other(form)), both: true };
    cases.push(denied(
        "a SYN by a rule of the other family",
        other_family,
        from_front(&syn(&client, &real, 64)),
    ));
    // Only what may pass is told what became of it.
    cases.push(
        Case::new(
            named("with a TTL of 1 by a rule", form),
            with(inwards),
            from_front(&syn(&client, &real, 1)),
            Verdict::Reply(FRONT, ReplyKind::TimeExceeded),
        )
        .any_out(),
    );
    cases
}

fn other(form: Form) -> Form {
    if form == Form::V4 { Form::V6 } else { Form::V4 }
}

fn host(address: &str) -> End {
    End::Network(address.parse::<std::net::IpAddr>().unwrap().into())
}

/// A later fragment of TCP.
fn later_fragment(form: Form) -> Vec<u8> {
    let ip = Ip::new(&form.client(1), &form.real(3));
    match form {
        Form::V4 => Ip { fragment: 100, ..ip }.carry(6, b"the rest"),
        Form::V6 => ip.carry(44, &[&[6, 0, 0x03, 0x20, 0, 0, 0, 1][..], b"the rest"].concat()),
    }
}

/// Pings and their answers, and errors about what passes.
fn icmp_by_rules(form: Form) -> Vec<Case> {
    let (ask, answer, unreachable) = if form == Form::V4 { (8, 0, (3, 4)) } else { (128, 129, (2, 0)) };
    let outwards = ForwardRule { from: inner(form), to: host(outside(form)), both: false };
    let real = form.real(3);
    let ping = |ttl| Ip::new(&real, outside(form)).ttl(ttl).id(1).icmp(ask, 0, 1, b"ping");
    let pong = |kind, ttl| Ip::new(outside(form), &real).ttl(ttl).id(1).icmp(kind, 0, 1, b"ping");
    let case = |what: &str, arrival, verdict| Case::new(named(what, form), with(outwards), arrival, verdict);
    // A router on the way, of which no rule speaks.
    let error = |about: &[u8], to: &str, ttl| {
        Ip::new(&form.client(7), to).ttl(ttl).id(1).icmp(unreachable.0, unreachable.1, 1400, about)
    };
    let sent = Ip::new(&real, outside(form)).ttl(60).udp(53, 53, b"?");
    let never_sent = Ip::new(&real, &form.client(9)).ttl(60).udp(53, 53, b"?");
    vec![
        case("a ping by a rule", from_real(3, &ping(64)), SENT_FRONT).out(to_front(&ping(63))),
        case("an echo reply that answers", from_front(&pong(answer, 64)), SENT_BACK)
            .out(to_real(3, &pong(answer, 63))),
        case("a ping against a rule", from_front(&pong(ask, 64)), DENIED),
        case("an error about what passes", from_front(&error(&sent, &real, 64)), SENT_BACK)
            .out(to_real(3, &error(&sent, &real, 63))),
        case("an error about what does not pass", from_front(&error(&never_sent, &real, 64)), DENIED),
        case("an error for another than it speaks of", from_front(&error(&sent, &form.real(4), 64)), DENIED),
    ]
}

/// Link-local addresses are never routed, whatever rules say, and nothing that is not the kernel side's is handed to it.
fn of_one_link(form: Form) -> Vec<Case> {
    let (near, far) =
        if form == Form::V4 { ("169.254.9.9", "169.254.169.254") } else { ("fe80::9", "fe80::fe") };
    let real = form.real(3);
    let rows = [
        ("from a link-local address to a real server", from_front(&Ip::new(near, &real).udp(1, 53, b"?"))),
        ("a ping from a link-local address", from_front(&Ip::new(near, &real).icmp(8, 0, 1, b"?"))),
        ("to a link-local address of somebody's", from_real(3, &Ip::new(&real, far).udp(1, 80, b"?"))),
    ];
    let verdict = |to_link: bool| match form {
        Form::V6 if to_link => Verdict::Punt(Punt::Local),
        _ => Verdict::Drop(DropReason::BeyondLink),
    };
    let rows = rows.into_iter().flat_map(|(what, arrival)| {
        [with(everything_passes()), no_service()].map(|plan| {
            let rules = if plan.forwards.is_empty() { "no rule" } else { "every rule" };
            Case::new(
                named(&format!("{what}, {rules}"), form),
                plan,
                arrival.clone(),
                verdict(what.starts_with("to")),
            )
        })
    });
    rows.collect()
}

/// An ICMP redirect is for one link, too: no rule of answers lets it pass, and no connection is moved by it.
fn redirects(form: Form) -> Vec<Case> {
    let outwards = ForwardRule { from: End::Nic(BACK), to: End::Nic(FRONT), both: false };
    let about = Ip::new(&form.real(3), outside(form)).udp(53, 53, b"?");
    let kind = if form == Form::V4 { 5 } else { 137 };
    let redirect = Ip::new(&form.client(7), &form.real(3)).icmp(kind, 1, 0, &about);
    let verdict = match form {
        Form::V4 => DENIED,
        // Of IPv6 it is neighbour discovery, which has to come from the link.
        Form::V6 => Verdict::Punt(Punt::NeighbourDiscovery),
    };
    vec![Case::new(named("a redirect", form), with(outwards), from_front(&redirect), verdict)]
}

/// Packets from inner sources by the NIC in front.
fn sources(form: Form) -> Vec<Case> {
    let plan =
        |method| Plan { forwards: vec![everything_passes()], ..one_service(form, Protocol::Tcp, method) };
    let syn = Tcp::new(40_000, 80, "S");
    let echo = if form == Form::V4 { 8 } else { 128 };
    let spoofed = |to: &str| Ip::new(&form.real(4), to);
    let case = |what: &str, plan, arrival, verdict| Case::new(named(what, form), plan, arrival, verdict);
    let behind = |plan: Plan| {
        let to = if form == Form::V4 { "10.2.0.0/16" } else { "2001:db8:2::/48" };
        let route =
            RoutePlan { to: to.parse().unwrap(), via: Some(form.real(1).parse().unwrap()), nic: BACK };
        let routes = plan.routes.iter().cloned().chain([route]).collect();
        Plan { routes, ..plan }
    };
    let routed_source = if form == Form::V4 { "10.2.3.4" } else { "2001:db8:2::4" };
    vec![
        case(
            "an inner source from the front, to a service",
            plan(Method::Dr),
            from_front(&spoofed(form.vip()).tcp(&syn)),
            ELSEWHERE,
        ),
        case(
            "an inner source from the front, to NAT",
            plan(Method::Nat),
            from_front(&spoofed(form.vip()).tcp(&syn)),
            ELSEWHERE,
        ),
        case(
            "an inner source from the front, to a closed port",
            plan(Method::Nat),
            from_front(&spoofed(form.vip()).tcp(&Tcp::new(1, 2, "S"))),
            ELSEWHERE,
        ),
        case(
            "an inner source from the front, a ping of the VIP",
            plan(Method::Nat),
            from_front(&spoofed(form.vip()).icmp(echo, 0, 1, b"")),
            ELSEWHERE,
        ),
        case(
            "an inner source from the front, routed",
            plan(Method::Nat),
            from_front(&spoofed(&form.real(3)).tcp(&syn)),
            ELSEWHERE,
        ),
        case(
            "an inner source from the front, to an own address",
            plan(Method::Nat),
            from_front(&spoofed(form.own(FRONT)).udp(53, 53, b"!")),
            ELSEWHERE,
        ),
        case(
            "a routed inner source from the front",
            behind(plan(Method::Dr)),
            from_front(&Ip::new(routed_source, form.vip()).tcp(&syn)),
            ELSEWHERE,
        ),
        case(
            "a VIP that sends to itself",
            plan(Method::Dr),
            from_front(&Ip::new(form.vip(), form.vip()).tcp(&syn)),
            Verdict::Drop(DropReason::Martian),
        ),
        case(
            "a source in front from the back",
            plan(Method::Dr),
            from_real(3, &Ip::new(form.router(), form.vip()).tcp(&syn)),
            ELSEWHERE,
        ),
        case(
            "a source of the world from the back",
            plan(Method::Dr),
            from_real(3, &Ip::new(&form.client(1), form.vip()).tcp(&syn)),
            SENT_BACK,
        )
        .any_out(),
        case(
            "a real server as client",
            plan(Method::Dr),
            from_real(3, &spoofed(form.vip()).tcp(&syn)),
            SENT_BACK,
        )
        .any_out(),
    ]
}

/// What each word of `reverse_path` takes.
fn modes(form: Form) -> Vec<Case> {
    use ReversePath::{Auto, Loose, Off, Strict};
    let syn = Tcp::new(40_000, 80, "S");
    let inside = from_front(&Ip::new(&form.real(4), form.vip()).tcp(&syn));
    let world = |from: Arrival| from;
    let by_back = from_real(3, &Ip::new(&form.client(1), form.vip()).tcp(&syn));
    let by_front = from_front(&Ip::new(&form.client(1), form.vip()).tcp(&syn));
    let mut cases = Vec::new();
    for (how, default, arrival, what, taken) in [
        (Off, true, &inside, "an inner source", true),
        (Loose, true, &inside, "an inner source", true),
        (Strict, true, &inside, "an inner source", false),
        (Strict, true, &by_back, "the world by the back", false),
        (Strict, true, &by_front, "the world by the front", true),
        (Loose, false, &by_front, "the world without a default route", false),
        (Auto, false, &by_front, "the world without a default route", true),
        (Auto, false, &by_back, "the world without a default route by the back", true),
    ] {
        let mut plan = one_service(form, Protocol::Tcp, Method::Dr);
        plan.nics.iter_mut().for_each(|nic| nic.reverse_path = how);
        if !default {
            plan.routes.clear();
        }
        let verdict = if taken { SENT_BACK } else { ELSEWHERE };
        let name = named(&format!("{what}, reverse_path = {}", how.word()), form);
        let case = Case::new(name, plan, world(arrival.clone()), verdict);
        cases.push(if taken { case.any_out() } else { case });
    }
    cases
}

/// What is no service's and none of a router's either.
fn unaffected(form: Form) -> Vec<Case> {
    let advert = [0x31, 7, 100, 1, 0, 100, 0, 0];
    let peer = if form == Form::V4 { "10.0.0.3" } else { "fe80::3" };
    let mut mark = one_service(form, Protocol::Tcp, Method::Dr);
    let number = Mark::new(7).unwrap();
    let family = if form == Form::V4 {
        shunt_dataplane::address::Family::V4
    } else {
        shunt_dataplane::address::Family::V6
    };
    mark.services[0].listen = number.listen(family);
    let network = if form == Form::V4 { "203.0.113.0/24" } else { "2001:db8:ffff::/64" };
    mark.marks = vec![MarkRule {
        mark: number,
        to: Some(network.parse().unwrap()),
        from: None,
        protocol: None,
        ports: 0..=u16::MAX,
        nic: None,
    }];
    let begin = |from: &str, to: &str, ttl| Ip::new(from, to).ttl(ttl).id(1).tcp(&Tcp::new(40_000, 80, "S"));
    let answer =
        |ttl| Ip::new(outside(form), &form.client(1)).ttl(ttl).id(2).tcp(&Tcp::new(80, 40_000, "SA"));
    let begun = from_front(&begin(&form.client(1), outside(form), 64));
    vec![
        Case::new(
            named("an advert from a neighbour to an own address", form),
            no_service(),
            from_front(&Ip::new(peer, form.own(FRONT)).ttl(255).carry(112, &advert)),
            Verdict::Punt(Punt::Vrrp),
        ),
        Case::new(
            named("an advert of a peer that is elsewhere", form),
            no_service(),
            from_front(&Ip::new(&form.real(2), form.own(FRONT)).ttl(255).carry(112, &advert)),
            Verdict::Punt(Punt::Vrrp),
        ),
        Case::new(named("to a mark", form), mark.clone(), begun.clone(), SENT_BACK)
            .out(to_real(2, &begin(&form.client(1), outside(form), 63))),
        Case::new(
            named("the answer of a mark's real server", form),
            mark.clone(),
            from_real(2, &answer(64)),
            SENT_FRONT,
        )
        .after(vec![begun.clone()])
        .out(to_front(&answer(63))),
        Case::new(
            named("what looks like a mark's answer", form),
            mark.clone(),
            from_real(2, &answer(64)),
            DENIED,
        ),
        Case::new(named("a mark's answer from the front", form), mark, from_front(&answer(64)), DENIED)
            .after(vec![begun]),
    ]
}

/// Answers of DR real servers that have the director for a router; IPv4 drops what comes from its VIP.
fn answers_of_dr_ipv6() -> Vec<Case> {
    let form = Form::V6;
    let plan = || one_service(form, Protocol::Tcp, Method::Dr);
    let begin = from_front(&Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40_000, 80, "S")));
    let answer = |ttl| Ip::new(form.vip(), &form.client(1)).ttl(ttl).tcp(&Tcp::new(80, 40_000, "SA"));
    let error = |ttl| {
        let about = Ip::new(&form.client(1), form.vip()).ttl(60).tcp(&Tcp::new(40_000, 80, "S"));
        Ip::new(form.vip(), &form.client(1)).ttl(ttl).icmp(1, 4, 0, &about)
    };
    vec![
        Case::new("a DR answer, IPv6", plan(), from_real(2, &answer(64)), SENT_FRONT)
            .after(vec![begin.clone()])
            .out(to_front(&answer(63))),
        Case::new("an error of a DR real server, IPv6", plan(), from_real(2, &error(64)), SENT_FRONT)
            .after(vec![begin.clone()])
            .out(to_front(&error(63))),
        Case::new("a DR answer of no connection, IPv6", plan(), from_real(2, &answer(64)), DENIED),
        Case::new("a DR answer from the front, IPv6", plan(), from_front(&answer(64)), DENIED)
            .after(vec![begin]),
    ]
}
