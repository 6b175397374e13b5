//! `drop_entry` and `drop_packet` of `[sysctl]`: what a flood meets, and what it does not touch.

use std::time::Duration;

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Sysctls;
use shunt_tests::director::{Director, Outcome};
use shunt_tests::network::{self, Form};
use shunt_tests::packets::{self, Ip, Tcp};

fn director(connections: u32, set: &[(&str, u32)]) -> Director {
    let service = network::service(Form::V4, Protocol::Tcp, 80, Scheduler::Rr, Method::Dr, 3);
    let mut plan = network::plan(vec![service]);
    let mut sysctls = Sysctls::default();
    set.iter().for_each(|(name, value)| assert!(sysctls.set(name, *value)));
    plan.sysctls = sysctls;
    Director::new(1, connections, plan)
}

fn send(director: &mut Director, l4_port: u16, flags: &str) -> Outcome {
    let packet = Ip::new(&Form::V4.client(7), Form::V4.vip()).tcp(&Tcp::new(l4_port, 80, flags));
    let frame = packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, &packet);
    director.take(network::FRONT, &frame)
}

#[test]
fn half_open_connections_go_and_open_ones_stay() {
    for (mode, left) in [(0, 33), (1, 33), (3, 1)] {
        let mut director = director(4096, &[("drop_entry", mode)]);
        for l4_port in 1000..1033 {
            send(&mut director, l4_port, "S");
        }
        send(&mut director, 1000, "A");
        // Before any of them ends by time, and after the hand went round.
        director.advance(Duration::from_secs(40));
        assert_eq!(director.connections().len(), left, "drop_entry {mode}");
        assert!(matches!(send(&mut director, 1000, "A").verdict, Verdict::Send(_)));
    }
}

#[test]
fn a_table_that_is_nearly_full_drops_half_open_connections() {
    let mut director = director(64, &[("drop_entry", 1)]);
    for l4_port in 1000..1062 {
        send(&mut director, l4_port, "S");
    }
    director.advance(Duration::from_secs(20));
    let left = director.connections().len();
    assert!((55..=60).contains(&left), "until a sixteenth is free again: {left}");
}

#[test]
fn each_fourth_packet_is_dropped_and_a_second_try_gets_in() {
    let mut director = director(4096, &[("drop_packet", 3), ("am_droprate", 4)]);
    let is_dropped = |outcome: &Outcome| outcome.verdict == Verdict::Drop(DropReason::Defence);
    let dropped = (1000..1401).filter(|&port| is_dropped(&send(&mut director, port, "S")));
    assert_eq!(dropped.collect::<Vec<_>>(), (1000..1401).step_by(4).collect::<Vec<_>>());
    assert!(!is_dropped(&send(&mut director, 1400, "S")), "sent again");
}

#[test]
fn the_fuller_the_table_the_more_packets_are_dropped() {
    let mut director = director(1600, &[("drop_packet", 1)]);
    let made =
        (0..1600).filter(|&port| matches!(send(&mut director, 1000 + port, "S").verdict, Verdict::Send(_)));
    let made = made.count();
    assert!((1500..1600).contains(&made), "{made}");
}
