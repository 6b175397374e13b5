//! Every tunnel, each kind of check that needs more than TCP, and services of firewall marks.

use std::net::{SocketAddr, UdpSocket};

use shunt::api::status::RealState;
use shunt_tests::topology::arms;
use socket2::{Domain, Socket, Type};

use super::{Director, VIPS, World, has_vips};

/// How packets of a service travel, whether it is one of a firewall mark, and what its checks ask; as the configuration has it.
type Row = (&'static str, bool, &'static str);

const DR: &str = r#""dr""#;
const GRE: &str = r#""tun", tunnel = "gre""#;
const GRE_SUMMED: &str = r#""tun", tunnel = "gre", tunnel_checksum = "full""#;
const GUE: &str = r#""tun", tunnel = "gue", tunnel_port = 6080"#;
const GUE_SUMMED: &str = r#""tun", tunnel = "gue", tunnel_port = 6080, tunnel_checksum = "full""#;
const GUE_REMOTE: &str = r#""tun", tunnel = "gue", tunnel_port = 6080, tunnel_checksum = "remote""#;
const HTTP: &str = r#"kind = "http", port = 80"#;
const PING: &str = r#"kind = "ping""#;
const DNS: &str = r#"kind = "dns", port = 53, name = "example.org", type = "A""#;
const UDP: &str = r#"kind = "udp", port = 53, payload = "a datagram", require_reply = true"#;

const ROWS: &[Row] = &[
    (GRE, false, HTTP),
    (GRE_SUMMED, false, HTTP),
    (GUE, false, HTTP),
    (GUE_SUMMED, false, HTTP),
    (GUE_REMOTE, false, HTTP),
    (DR, false, PING),
    (DR, false, DNS),
    (DR, false, UDP),
    (GRE, false, PING),
    (GRE_SUMMED, false, DNS),
    (GUE_SUMMED, false, UDP),
    (DR, true, HTTP),
    (DR, true, PING),
    (GRE, true, DNS),
    (GUE_SUMMED, true, HTTP),
];

/// Each row in both families, with its number. The socket that stands for a kernel's tunnel takes no IPv6 packet of UDP that has no
/// checksum.
fn rows() -> impl Iterator<Item = (usize, &'static Row, bool)> {
    let both = ROWS.iter().enumerate().flat_map(|(number, row)| [(number, row, false), (number, row, true)]);
    both.filter(|(_, (forward, ..), v6)| !(*v6 && *forward == GUE))
}

fn name(number: usize, v6: bool) -> String {
    format!("row{number}-{}", if v6 { "ipv6" } else { "ipv4" })
}

/// The service of a row, with both real servers.
fn service((number, (forward, mark, check), v6): (usize, &Row, bool)) -> String {
    let (vip, port) = (VIPS[usize::from(v6)], 8000 + number as u16);
    let end = SocketAddr::new(vip.parse().expect("a VIP"), port);
    let marked = format!("[[mark]]\nmark = {port}\nto = \"{vip}\"\nprotocol = \"tcp\"\nport = {port}\n");
    let family = if v6 { ", family = \"ipv6\"" } else { "" };
    let (rule, listen, address) = if *mark {
        (marked, format!("{{ fwmark = {port}{family} }}"), format!(", address = \"{vip}\""))
    } else {
        (String::new(), format!("\"{end}\"\nprotocol = \"tcp\""), String::new())
    };
    let [first, second] = [11, 12]
        .map(|last| format!("{{ address = \"{}\", forward = {forward} }}", arms::real_address(last, v6)));
    format!(
        "{rule}[[service]]\nname = \"{}\"\nlisten = {listen}\nreal = [{first}, {second}]\n\
         check = {{ {check}{address}, way = \"service\", interval = \"1s\", fall = 1, rise = 1, alpha = true }}\n",
        name(number, v6)
    )
}

/// Sends each datagram to port 53 of the VIP back from there, as what it would be as a DNS answer.
fn answer(vip: &str) {
    let end = SocketAddr::new(vip.parse().expect("a VIP"), 53);
    let socket = Socket::new(Domain::for_address(end), Type::DGRAM, None).expect("a socket");
    // It is there before the VIP.
    let early = if end.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) };
    early.and_then(|()| socket.bind(&end.into())).expect("port 53 of the VIP");
    let socket = UdpSocket::from(socket);
    std::thread::spawn(move || {
        let mut datagram = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            datagram[2] |= 0x80;
            let _ = socket.send_to(&datagram[..length], from);
        }
    });
}

/// Waits until all services say the same of their real servers: one is up, and the other one has no VIP.
fn wait_rows(director: &Director, [up, down]: [usize; 2]) {
    let good = |state: RealState, reason: &str| state == RealState::Up && reason.ends_with(" at the VIP");
    let bad = |state: RealState, reason: &str| {
        state == RealState::Down && reason.contains(" answers a ping, but not at the VIP ")
    };
    let mut others = Vec::new();
    let other = |status: &shunt::api::Status, (number, _, v6): (usize, &Row, bool)| {
        let name = name(number, v6);
        let service = status.services.iter().find(|service| service.name == name).expect("its service");
        let said = [up, down].map(|place| {
            let real = &service.reals[place];
            (real.state, real.reason.clone().unwrap_or_default())
        });
        let [first, second] = &said;
        (!good(first.0, &first.1) || !bad(second.0, &second.1)).then(|| format!("{name}: {said:?}"))
    };
    shunt_tests::topology::wait_for("all services", || {
        let status = director.status();
        others = rows().filter_map(|row| other(&status, row)).collect();
        if others.is_empty() { Ok(()) } else { Err(others.join("\n")) }
    });
}

#[test]
fn every_way_leads_each_kind_of_check_to_the_vip() {
    let mut world = World::new();
    world.decapsulate(&["--gue", "6080", "--no-ipip"]);
    world.reals.iter().for_each(|place| place.run(|| VIPS.iter().for_each(|vip| answer(vip))));
    let services: String = rows().map(service).collect();
    let devices = ["af_packet:front", "af_packet:back"];
    let text = arms::configuration(&world.lab, 1, arms::RUNTIME, &devices, &services);
    has_vips(&world.reals[0], true);
    let director = Director::start(&world.lab, &text);
    wait_rows(&director, [0, 1]);
    has_vips(&world.reals[0], false);
    has_vips(&world.reals[1], true);
    wait_rows(&director, [1, 0]);
    for line in
        ["real 10.1.0.12:0 of fwmark 8011 is up: ", "real [2001:db8:1::12]:0 of fwmark 8011 IPv6 is up: "]
    {
        director.wait_logged(line);
    }
}
