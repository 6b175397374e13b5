//! Persistence over several workers: the clients of one netmask stay together, whichever queue their packets arrive at.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use shunt_dataplane::forward::Step;
use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Persistence, Standing};
use shunt_dataplane::time::Ticks;
use shunt_tests::director::{Arrival, Director};
use shunt_tests::network::{self, Form};
use shunt_tests::packets::{self, Ip, Tcp};

const WORKERS: u8 = 4;

#[test]
fn clients_of_one_netmask_meet_one_real_server_on_any_worker() {
    let mut service = network::service(Form::V4, Protocol::Tcp, 80, Scheduler::Rr, Method::Dr, 3);
    service.settings.persistence = Some(Persistence { timeout: Ticks::from_seconds(60), netmask: 24 });
    let mut director = Director::new(WORKERS, 1024, network::plan(vec![service]));
    let mut macs: HashMap<u8, HashSet<Vec<u8>>> = HashMap::new();
    for number in 0..200_u16 {
        let group = (number % 10) as u8;
        let client = Ipv4Addr::new(198, 51, group, (number / 10) as u8 + 1).to_string();
        let syn = Ip::new(&client, Form::V4.vip()).tcp(&Tcp::new(40_000 + number, 80, "S"));
        let frame = packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, &syn);
        let arrival = Arrival { nic: network::FRONT, frame };
        let worker = WorkerId((number % u16::from(WORKERS)) as u8);
        let outcome = director.burst(worker, &[arrival]).remove(0);
        let (_, frame) = outcome.sent().unwrap_or_else(|| panic!("{outcome:?}"));
        macs.entry(group).or_default().insert(frame[..6].to_vec());
    }
    assert_eq!(macs.len(), 10);
    assert!(macs.values().all(|macs| macs.len() == 1), "{macs:?}");
    let all = macs.values().flatten().collect::<HashSet<_>>();
    assert!(all.len() > 1, "not every network at the same one");
    assert_eq!(director.held(), 0);
}

/// However many there are, the connections of a real server that is removed end within a few turns under `expire_nodest_conn`,
/// and so do the templates that lead to it.
#[test]
fn connections_of_a_removed_real_server_end_at_once() {
    const CLIENTS: u16 = 5000;
    let mut service = network::service(Form::V4, Protocol::Tcp, 80, Scheduler::Rr, Method::Dr, 2);
    service.settings.persistence = Some(Persistence { timeout: Ticks::from_seconds(600), netmask: 32 });
    let mut plan = network::plan(vec![service]);
    plan.sysctls.expire_nodest_conn = true;
    let mut director = Director::new(1, 8192, plan);
    for number in 0..CLIENTS {
        let client = Ipv4Addr::new(198, 51, (number >> 8) as u8, number as u8 | 1).to_string();
        for flags in ["S", "A"] {
            let packet = Ip::new(&client, Form::V4.vip()).tcp(&Tcp::new(40_000 + number % 2, 80, flags));
            let frame = packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, &packet);
            director.take(network::FRONT, &frame);
        }
    }
    let templates = |director: &Director| {
        let mut count = 0;
        director.workers()[0].v4().templates().list(&mut 0, usize::MAX, director.now(), |_| count += 1);
        count
    };
    let (connections, before) = (director.connections().len(), templates(&director));
    director.publish(|plan| plan.services[0].reals.truncate(1));
    for _ in 0..20 {
        director.expire();
    }
    let real =
        director.snapshot().reals.iter().flatten().find(|real| real.standing == Standing::Up).unwrap().id;
    let left = director.connections().len();
    assert!((connections / 3..=connections * 2 / 3).contains(&left), "{left} of {connections}");
    assert_eq!(templates(&director) * connections, left * before, "templates go with their connections");
    director.workers()[0]
        .v4()
        .list(&mut 0, usize::MAX, director.now(), |entry| assert_eq!(entry.real(), real));
}

/// `explain` tells that a template decides, not the scheduler.
#[test]
fn explained() {
    let mut service = network::service(Form::V4, Protocol::Tcp, 80, Scheduler::Rr, Method::Dr, 2);
    service.settings.persistence = Some(Persistence { timeout: Ticks::from_seconds(60), netmask: 32 });
    let mut director = Director::new(1, 64, network::plan(vec![service]));
    let syn = |port| {
        let packet = Ip::new(&Form::V4.client(1), Form::V4.vip()).tcp(&Tcp::new(port, 80, "S"));
        let frame = packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, &packet);
        Arrival { nic: network::FRONT, frame }
    };
    let name = "tcp 80 dr".to_owned();
    let first = director.explain(&syn(40_000))[1].clone();
    assert_eq!(first, Step::Service { name: name.clone(), scheduler: "rr" });
    assert!(director.take(network::FRONT, &syn(40_000).frame).sent().is_some());
    assert_eq!(director.explain(&syn(40_001))[1], Step::Persistence { name });
}
