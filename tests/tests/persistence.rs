//! Persistence over several workers: the clients of one netmask stay together, whichever queue their packets arrive at.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Persistence};
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
