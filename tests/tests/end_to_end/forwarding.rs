//! Each forwarding method in each family with each protocol: the frame that leaves the director, bit by bit.

use shunt_tests::topology::arms::{Arms, ROUTER, real_address, real_mac};
use shunt_tests::topology::director::real;
use shunt_tests::topology::frames::{Packet, Transport, at, ip};

fn forwards(method: &str, v6: bool, udp: bool) {
    let arms = Arms::new();
    let (vip, client) = if v6 {
        ("[2001:db8:f::10]:80", "[2001:db8:c::7]:40000")
    } else {
        ("192.0.2.10:80", "198.51.100.7:40000")
    };
    let l4_port = if method == "nat" { 8080 } else { 80 };
    let at_real = std::net::SocketAddr::new(real_address(11, v6), l4_port);
    let running = arms.start(&format!(
        "[[service]]\nname = \"s\"\nlisten = \"{vip}\"\nprotocol = \"{}\"\nscheduler = \"wrr\"\nforward = \"{method}\"\n\
         real = [{{ address = \"{at_real}\" }}]\n",
        if udp { "udp" } else { "tcp" }
    ));
    let (first, then, answer) = if udp {
        (Transport::Udp, Transport::Udp, Transport::Udp)
    } else {
        (Transport::Tcp("S"), Transport::Tcp("A"), Transport::Tcp("SA"))
    };
    for transport in [first, then] {
        let sent = Packet::new(transport, [ROUTER, running.front], at(client), at(vip));
        arms.front.send(&sent.bytes());
        let direct = Packet { from: running.back, to: real_mac(11), ttl: 63, ..sent.clone() };
        let own = ip(if v6 { "2001:db8:1::1" } else { "10.1.0.1" });
        arms.back.expect_frame(&match method {
            "dr" => direct.bytes(),
            "nat" => Packet { destination: at_real, ..direct }.bytes(),
            _ => direct.tunnelled(own, at_real.ip()),
        });
    }
    if method == "nat" {
        let sent = Packet::new(answer, [real_mac(11), running.back], at_real, at(client));
        arms.back.send(&sent.bytes());
        let back = Packet { from: running.front, to: ROUTER, source: at(vip), ttl: 63, ..sent };
        arms.front.expect_frame(&back.bytes());
    }
    let status = running.director.settled();
    let counted = real(&status, &at_real.to_string());
    let answers = u64::from(method == "nat");
    assert_eq!((counted.connections_total, counted.packets_in, counted.packets_out), (1, 2, answers));
    assert_eq!(running.director.reasons(), [""; 0]);
}

macro_rules! forwards {
    ($($name:ident: $method:literal $v6:literal $udp:literal)*) => {
        $(#[test]
        fn $name() {
            forwards($method, $v6, $udp);
        })*
    };
}

forwards! {
    dr_tcp_ipv4: "dr" false false
    dr_udp_ipv4: "dr" false true
    dr_tcp_ipv6: "dr" true false
    dr_udp_ipv6: "dr" true true
    nat_tcp_ipv4: "nat" false false
    nat_udp_ipv4: "nat" false true
    nat_tcp_ipv6: "nat" true false
    nat_udp_ipv6: "nat" true true
    tun_tcp_ipv4: "tun" false false
    tun_udp_ipv4: "tun" false true
    tun_tcp_ipv6: "tun" true false
    tun_udp_ipv6: "tun" true true
}
