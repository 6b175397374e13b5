//! Timeouts of all services and of one.

use std::time::Duration;

use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, ServiceTimeouts};
use shunt_dataplane::time::Ticks;
use shunt_tests::director::Director;
use shunt_tests::network::{self, Form};
use shunt_tests::packets::{self, Ip, Tcp};

fn take(director: &mut Director, packet: &[u8]) {
    let frame = packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, packet);
    director.take(network::FRONT, &frame);
}

#[test]
fn a_service_may_have_its_own() {
    let of = |protocol, l4_port| network::service(Form::V4, protocol, l4_port, Scheduler::Rr, Method::Dr, 2);
    let mut brief = of(Protocol::Tcp, 81);
    let seconds = Ticks::from_seconds;
    brief.settings.timeouts = ServiceTimeouts { tcp: seconds(30), tcp_fin: seconds(5), udp: Ticks(0) };
    let plan = network::plan(vec![of(Protocol::Tcp, 80), brief, of(Protocol::Udp, 53)]);
    let mut director = Director::new(1, 64, plan);
    let ip = Ip::new(&Form::V4.client(1), Form::V4.vip());
    for (l4_port, closes) in [(80, false), (81, false), (81, true)] {
        let port = if closes { 40_001 } else { 40_000 };
        for flags in ["S", "A"].into_iter().chain(closes.then_some("FA")) {
            take(&mut director, &ip.tcp(&Tcp::new(port, l4_port, flags)));
        }
    }
    take(&mut director, &ip.udp(40_000, 53, b"?"));
    for (wait, left) in [(4, 4), (2, 3), (23, 3), (2, 2), (260, 2), (20, 1)] {
        director.advance(Duration::from_secs(wait));
        assert_eq!(director.connections().len(), left, "{wait} s later");
    }
    // Connections take up a new one with their next packet.
    director.publish(|plan| plan.services[0].settings.timeouts.tcp = seconds(10));
    take(&mut director, &ip.tcp(&Tcp::new(40_000, 80, "A")));
    director.advance(Duration::from_secs(11));
    assert_eq!(director.connections().len(), 0);
}
