//! At least one frame for each reason to drop one.

use shunt_dataplane::connections::Share;
use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{Mac, Protocol};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::{Method, Persistence};
use shunt_dataplane::snapshot::{Plan, RoutePlan};
use shunt_dataplane::time::Ticks;
use shunt_tests::director::Arrival;
use shunt_tests::network::{BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet, frame, number};

use crate::case::{Case, from_front, no_service, one_service, router, word};

pub fn cases() -> Vec<Case> {
    let mut cases = [frames(), headers(), options(), extension_headers(), sources(), limits()].concat();
    for form in Form::BOTH {
        cases.extend(of_checks(form));
        cases.extend(of_vips(form));
        cases.extend(of_services(form));
        cases.extend(of_routing(form));
    }
    cases
}

fn drop(name: impl Into<String>, plan: Plan, arrival: Arrival, reason: DropReason) -> Case {
    Case::new(name, plan, arrival, Verdict::Drop(reason))
}

fn named(what: &str, form: Form) -> String {
    format!("{what}, {}", word(form))
}

fn to_vip(form: Form) -> Ip {
    Ip::new(&form.client(1), form.vip())
}

/// A frame that something is wrong with before IP.
fn frames() -> Vec<Case> {
    let good = from_front(&to_vip(Form::V4).udp(40000, 53, b"data"));
    let cut = |length: usize| Arrival { nic: FRONT, frame: good.frame[..length].to_vec() };
    let with = |destination: Mac, ether_type: u16| {
        let packet = to_vip(Form::V4).udp(1, 53, b"data");
        Arrival { nic: FRONT, frame: frame(destination, ROUTER, ether_type, &packet) }
    };
    let us = nic_mac(FRONT);
    let tagged = |tags: &[u8]| {
        let (macs, rest) = good.frame.split_at(12);
        Arrival { nic: FRONT, frame: [macs, tags, rest].concat() }
    };
    let mut cut_tag = tagged(&[0x81, 0, 0xe0, 0]);
    cut_tag.frame.truncate(17);
    let rows = [
        ("an empty frame", cut(0), DropReason::Truncated),
        ("half an Ethernet header", cut(13), DropReason::Truncated),
        ("half an IPv4 header", cut(33), DropReason::Truncated),
        ("an IPv4 packet cut short", cut(45), DropReason::CutShort),
        ("another host's MAC", with(Mac([2, 0, 0, 0, 9, 9]), 0x0800), DropReason::OtherMac),
        ("a VLAN tag", with(us, 0x8100), DropReason::Vlan),
        ("a service VLAN tag", with(us, 0x88a8), DropReason::Vlan),
        ("a VLAN tag in a priority tag", tagged(&[0x81, 0, 0xe0, 0, 0x81, 0, 0, 7]), DropReason::Vlan),
        ("a priority tag and nothing in it", cut_tag, DropReason::Vlan),
        ("LLDP", with(us, 0x88cc), DropReason::EtherType),
        ("IPv4 in an IPv6 frame", with(us, 0x86dd), DropReason::Truncated),
    ];
    rows.map(|(name, arrival, reason)| drop(name, no_service(), arrival, reason)).to_vec()
}

/// A UDP packet to a VIP with bytes of its header changed, and the IPv4 header checksum right again.
fn changed(form: Form, change: fn(&mut Vec<u8>)) -> Arrival {
    let mut packet = to_vip(form).udp(40000, 53, b"data");
    change(&mut packet);
    let end = usize::from(packet[0] & 15) * 4;
    if form == Form::V4 && end >= 20 {
        packet[10..12].fill(0);
        let sum = shunt_tests::text::checksum(&[&packet[..end]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let ether_type = if form == Form::V4 { 0x0800 } else { 0x86dd };
    Arrival { nic: FRONT, frame: frame(nic_mac(FRONT), ROUTER, ether_type, &packet) }
}

/// What is changed in a packet to a VIP, and the reason that comes of it.
type Row = (&'static str, Form, fn(&mut Vec<u8>), DropReason);

/// IP and transport headers that contradict themselves.
fn headers() -> Vec<Case> {
    use Form::{V4, V6};
    let rows: [Row; 10] = [
        ("version 5", V4, |packet| packet[0] = 0x55, DropReason::IpHeader),
        ("a header of 16 bytes", V4, |packet| packet[0] = 0x44, DropReason::IpHeader),
        ("total length below the header's", V4, |packet| packet[3] = 19, DropReason::IpHeader),
        ("half a UDP header", V4, |packet| packet[3] = 27, DropReason::TransportHeader),
        ("half a UDP header", V6, |packet| packet[5] = 7, DropReason::TransportHeader),
        ("version 5", V6, |packet| packet[0] = 0x50, DropReason::IpHeader),
        ("half an IPv6 header", V6, |packet| packet.truncate(39), DropReason::Truncated),
        ("payload cut short", V6, |packet| packet.truncate(50), DropReason::CutShort),
        ("half a TCP header", V4, |packet| packet[9] = 6, DropReason::TransportHeader),
        ("half an ICMP header", V4, |packet| (packet[3], packet[9]) = (27, 1), DropReason::TransportHeader),
    ];
    let case =
        |(name, form, change, reason)| drop(named(name, form), no_service(), changed(form, change), reason);
    let mut cases = rows.map(case).to_vec();
    let mut wrong_sum = from_front(&to_vip(V4).udp(40000, 53, b"data"));
    wrong_sum.frame[24] ^= 1;
    cases.push(drop("wrong IPv4 header checksum", no_service(), wrong_sum, DropReason::IpChecksum));
    let beyond = Ip { fragment: 0x1fff, ..to_vip(V4) }.carry(number::UDP, &[0; 64]);
    cases.push(drop("a fragment beyond 64 KiB", no_service(), from_front(&beyond), DropReason::IpHeader));
    for form in Form::BOTH {
        let header = if form == V4 { 28 } else { 48 };
        let large = to_vip(form).udp(40000, 53, &vec![0; 65_522 - header]);
        cases.push(drop(named("65,522 bytes", form), no_service(), from_front(&large), DropReason::Oversize));
    }
    cases
}

/// IPv4 options.
fn options() -> Vec<Case> {
    let rows: [(&str, &[u8], DropReason); 2] = [
        ("loose source route", &[131, 7, 4, 10, 0, 0, 9, 0], DropReason::SourceRoute),
        ("strict source route", &[137, 7, 4, 10, 0, 0, 9, 0], DropReason::SourceRoute),
    ];
    let packet = |options: &[u8]| from_front(&to_vip(Form::V4).options(options).udp(40000, 53, b""));
    let plan = || one_service(Form::V4, Protocol::Udp, Method::Dr);
    rows.map(|(name, options, reason)| drop(name, plan(), packet(options), reason)).to_vec()
}

/// IPv6 extension headers.
fn extension_headers() -> Vec<Case> {
    let packet = |first: u8, headers: &[u8]| from_front(&to_vip(Form::V6).carry(first, headers));
    let destination_options = [60_u8, 0, 1, 4, 0, 0, 0, 0].repeat(9);
    let rows = [
        ("nine extension headers", packet(60, &destination_options), DropReason::ExtensionHeaders),
        ("routing header 0", packet(43, &[17, 2, 0, 1, 0, 0, 0, 0].repeat(3)), DropReason::SourceRoute),
        (
            "an extension header beyond the packet",
            packet(60, &[17, 3, 0, 0, 0, 0, 0, 0]),
            DropReason::IpHeader,
        ),
        ("hop-by-hop options not first", packet(60, &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0]), DropReason::IpHeader),
    ];
    rows.map(|(name, arrival, reason)| drop(name, no_service(), arrival, reason)).to_vec()
}

/// Sources and destinations that cannot be.
fn sources() -> Vec<Case> {
    let sources =
        ["127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", Form::V4.vip(), Form::V4.own(FRONT)];
    let from = |source: &&str| {
        let destination = if source.contains(':') { Form::V6.vip() } else { Form::V4.vip() };
        let packet = from_front(&Ip::new(source, destination).udp(40000, 53, b""));
        drop(format!("from {source}"), no_service(), packet, DropReason::Martian)
    };
    let mut cases = sources.iter().chain(&["::1", "::", "ff02::1"]).map(from).collect::<Vec<_>>();
    for (source, destination) in [("198.51.100.1", "127.0.0.1"), ("2001:db8:c::1", "::1")] {
        let packet = from_front(&Ip::new(source, destination).udp(40000, 53, b""));
        cases.push(drop(format!("to {destination}"), no_service(), packet, DropReason::Martian));
    }
    cases
}

/// Checks of the director's own at a VIP: one that comes back goes to nobody, whatever the family.
fn of_checks(form: Form) -> Vec<Case> {
    let own = form.own(BACK);
    let plan = || {
        let mut plan = one_service(form, Protocol::Tcp, Method::Dr);
        plan.checked = plan.vips.clone();
        plan
    };
    let back = |packet: &[u8]| Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(1), packet) };
    let comes_back = Ip::new(own, form.vip()).tcp(&Tcp::new(5000, 80, "S"));
    let pings = Ip::new(own, form.vip()).icmp(if form == Form::V4 { 8 } else { 128 }, 0, 1, b"");
    let elsewhere = Ip::new(form.vip(), &form.client(1)).tcp(&Tcp::new(80, 5000, "SA"));
    let mut cases = vec![
        drop(
            named("a check that a real server sends back", form),
            plan(),
            back(&comes_back),
            DropReason::Martian,
        ),
        drop(named("a ping that a real server sends back", form), plan(), back(&pings), DropReason::Martian),
    ];
    if form == Form::V4 {
        let what = named("from a VIP that is checked, to a client", form);
        cases.push(drop(what, plan(), back(&elsewhere), DropReason::Martian));
    }
    cases
}

/// What a VIP does not answer.
fn of_vips(form: Form) -> Vec<Case> {
    let (echo, unknown) = if form == Form::V4 { (8, 13) } else { (128, 200) };
    let mut ping = to_vip(form).icmp(echo, 0, 1, b"ping");
    *ping.last_mut().unwrap() ^= 1;
    let mut syn = to_vip(form).tcp(&Tcp::new(40000, 81, "S").data(b"data"));
    *syn.last_mut().unwrap() ^= 1;
    let mut datagram = to_vip(form).udp(40000, 81, b"data");
    *datagram.last_mut().unwrap() ^= 1;
    let quote = Ip::new(form.vip(), &form.client(1)).udp(53, 40000, b"");
    let error = if form == Form::V4 { 3 } else { 1 };
    let rows = [
        ("a ping with a wrong checksum", ping, DropReason::TransportChecksum),
        ("a SYN with a wrong checksum to no service", syn, DropReason::TransportChecksum),
        ("UDP with a wrong checksum to no service", datagram, DropReason::TransportChecksum),
        ("an unknown ICMP type", to_vip(form).icmp(unknown, 0, 1, b""), DropReason::Unwanted),
        ("an ICMP error about no connection", to_vip(form).icmp(error, 3, 0, &quote), DropReason::Unwanted),
        ("RST to no service", to_vip(form).tcp(&Tcp::new(40000, 81, "R")), DropReason::NoConnection),
    ];
    rows.map(|(name, packet, reason)| drop(named(name, form), no_service(), from_front(&packet), reason))
        .to_vec()
}

/// Packets for a service.
fn of_services(form: Form) -> Vec<Case> {
    let plan = |method| one_service(form, Protocol::Tcp, method);
    let syn =
        |client: u8| from_front(&Ip::new(&form.client(client), form.vip()).tcp(&Tcp::new(40000, 80, "S")));
    let of_none = |flags| {
        let packet = from_front(&to_vip(form).tcp(&Tcp::new(40000, 80, flags)));
        let name = named(&format!("{flags} of no connection"), form);
        drop(name, plan(Method::Dr), packet, DropReason::NoConnection)
    };
    let ack = from_front(&to_vip(form).tcp(&Tcp::new(40000, 80, "A")));
    let fragment = match form {
        Form::V4 => Ip { fragment: 0x2000, ..to_vip(form) }.carry(number::UDP, &[0x50; 7]),
        Form::V6 => {
            // An ICMP error is told of to nobody.
            to_vip(form).carry(number::FRAGMENT, &[&[58, 0, 0, 1, 0, 0, 0, 9][..], &[1; 7]].concat())
        }
    };
    let other_port =
        |flags| from_front(&Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40001, 80, flags)));
    let mut persistent = plan(Method::Dr);
    let netmask = if form == Form::V4 { 32 } else { 128 };
    persistent.services[0].settings.persistence =
        Some(Persistence { timeout: Ticks::from_seconds(60), netmask });
    let of_shares = |client: u8, service: u8| {
        let mut plan = plan(Method::Dr);
        plan.client_share = Share(client);
        plan.services[0].settings.share = Share(service);
        plan
    };
    let mut begun = plan(Method::Dr);
    begun.silent = begun.vips.clone();
    let mut broadcast = syn(1);
    broadcast.frame[..6].fill(0xff);
    vec![
        of_none("R"),
        of_none("RA"),
        of_none("SR"),
        drop(
            named("a fragment of 7 bytes that is not the last", form),
            plan(Method::Dr),
            from_front(&fragment),
            DropReason::Fragment,
        ),
        drop(named("by broadcast", form), plan(Method::Dr), broadcast, DropReason::Group),
        drop(
            named("the real server was removed", form),
            plan(Method::Dr),
            ack.clone(),
            DropReason::RealRemoved,
        )
        .after(vec![syn(1)])
        .changed(|plan| plan.services[0].reals.truncate(1)),
        drop(
            named("every new connection is one too many", form),
            plan(Method::Dr),
            syn(1),
            DropReason::Defence,
        )
        .changed(|plan| {
            plan.sysctls.drop_packet = 3;
            plan.sysctls.am_droprate = 1;
        }),
        drop(named("the table is full", form), plan(Method::Nat), syn(2), DropReason::TableFull)
            .connections(1)
            .after(vec![syn(1), ack.clone()]),
        drop(named("the table of templates is full", form), persistent, syn(2), DropReason::TemplatesFull)
            .connections(1)
            .after(vec![syn(1), ack.clone()]),
        drop(named("the client holds its share", form), of_shares(1, 100), syn(1), DropReason::ClientShare)
            .connections(1)
            .after(vec![other_port("S"), other_port("A")]),
        drop(named("the service holds its share", form), of_shares(100, 1), syn(2), DropReason::ServiceShare)
            .connections(1)
            .after(vec![syn(1), ack.clone()]),
        drop(named("of no connection, just after the start", form), begun, ack, DropReason::ResetDelayed),
        drop(
            named("a tunnel without a source", form),
            without_tunnel_source(form),
            syn(1),
            DropReason::NoTunnelSource,
        ),
        drop(named("no head room for a tunnel", form), plan(Method::Tun), syn(1), DropReason::NoHeadRoom)
            .room(8, 0),
    ]
}

/// A way to the real servers, but no address on their NIC.
fn without_tunnel_source(form: Form) -> Plan {
    let mut plan = one_service(form, Protocol::Tcp, Method::Tun);
    let network = if form == Form::V4 { "10.1.0.0/24" } else { "2001:db8:1::/64" };
    plan.nics[BACK.index()].addresses.retain(|own| own.addr().is_ipv4() != (form == Form::V4));
    plan.routes.push(RoutePlan { to: network.parse().unwrap(), via: None, nic: BACK });
    plan
}

/// Packets of no service.
fn of_routing(form: Form) -> Vec<Case> {
    let (elsewhere, group) =
        if form == Form::V4 { ("203.0.113.9", "224.0.0.5") } else { ("2001:db8:ffff::9", "ff02::5") };
    let error = if form == Form::V4 { 3 } else { 1 };
    let quote = Ip::new(&form.real(1), &form.client(1)).udp(1, 2, b"");
    let expired = Ip::new(&form.client(1), &form.real(1)).ttl(1).icmp(error, 3, 0, &quote);
    let mut broadcast = from_front(&Ip::new(&form.client(1), elsewhere).udp(1, 2, b""));
    broadcast.frame[..6].fill(0xff);
    let mut unrouted = router();
    unrouted.routes.clear();
    let lost = from_front(&Ip::new(&form.client(1), elsewhere).udp(1, 2, b""));
    let to_group =
        ethernet(Mac([1, 0, 0x5e, 0, 0, 5]), ROUTER, &Ip::new(&form.client(1), group).carry(89, b"hello"));
    vec![
        drop(
            named("an ICMP error with TTL 1", form),
            router(),
            from_front(&expired),
            DropReason::TtlExceeded,
        ),
        drop(named("by broadcast to somebody else", form), no_service(), broadcast, DropReason::Group),
        drop(named("OSPF", form), no_service(), Arrival { nic: FRONT, frame: to_group }, DropReason::Group),
        drop(named("no route, nor one back", form), unrouted, lost, DropReason::NoRoute),
    ]
}

/// What the director has only so much of.
fn limits() -> Vec<Case> {
    let mut silent = no_service();
    silent.replies_per_second = 0;
    let syn = from_front(&to_vip(Form::V4).tcp(&Tcp::new(40000, 81, "S")));
    let udp = from_front(&to_vip(Form::V4).udp(40000, 81, b""));
    let mut narrow = router();
    narrow.nics[1].mtu = 600;
    // Nobody is told of an error about an error.
    let large = Ip::new(&Form::V4.client(1), &Form::V4.real(1)).df().icmp(3, 3, 0, &[0; 700]);
    vec![
        drop("no reply is allowed", silent, syn, DropReason::ReplyLimit),
        drop("no room for an ICMP error", no_service(), udp, DropReason::ReplyRoom).room(0, 0),
        drop("an ICMP error that is too big, with DF", narrow, from_front(&large), DropReason::TooBig),
    ]
}
