//! Open connections that carry data while their director is killed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::Signal;
use shunt_tests::topology::carried::{Carried, Pace, echo};
use shunt_tests::topology::wait_for;

use super::link::{Link, OUTAGE_MAX};
use super::{FAST, role, wait_for_role};

/// The ports of the services, each with its scheduler.
const SERVICES: [(u16, &str); 2] = [(7, "sh"), (8, "mh")];
/// Clients of each service, each with an address of its own.
const CLIENTS: u8 = 24;

const PACE: Pace = Pace { patience: OUTAGE_MAX, pause: Duration::from_millis(2) };

/// `sh` and `mh` choose alike at both directors, and the one that takes over takes on what it does not know.
fn every_connection_goes_on(vip: &str) {
    let link = Link::new(vip);
    let second = link.real_server("real2", 21);
    let third = link.real_server("real3", 22);
    for (number, place) in [&link.real, &second, &third].into_iter().enumerate() {
        for (l4_port, _) in SERVICES {
            echo(place, SocketAddr::from((Ipv6Addr::UNSPECIFIED, l4_port)), number as u8);
        }
    }
    let address = |last: u8| -> IpAddr {
        let text = if link.vip.is_ipv4() { format!("192.0.2.{last}") } else { format!("2001:db8::{last}") };
        text.parse().unwrap()
    };
    for client in 0..CLIENTS {
        let length = if link.vip.is_ipv4() { "24" } else { "64 nodad" };
        link.hub.ip(&format!("addr add {}/{length} dev link0", address(100 + client)));
    }
    let reals: Vec<String> =
        [20, 21, 22].map(|last| format!("{{ address = \"{}\" }}", address(last))).into_iter().collect();
    let service = |(l4_port, scheduler): (u16, &str)| {
        let listen = SocketAddr::new(link.vip, l4_port);
        format!(
            "[[service]]\nname = \"{scheduler}\"\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nscheduler = \"{scheduler}\"\n\
             real = [{}]\n",
            reals.join(", ")
        )
    };
    let vrrp = |priority: u8| format!("{FAST}\npriority = {priority}\n{}", SERVICES.map(service).concat());
    let beside = link.lab.beside();
    let master = link.director(&link.lab, "one", 2, &vrrp(250));
    wait_for_role(&master, "master");
    let backup = link.director(&beside, "two", 3, &vrrp(200));
    wait_for_role(&backup, "backup");

    let services = SERVICES.map(|(l4_port, _)| SocketAddr::new(link.vip, l4_port));
    let begin = |to: SocketAddr| (0..CLIENTS).map(move |client| (100 + client, to));
    let carried: Vec<Carried> = services
        .into_iter()
        .flat_map(begin)
        .map(|(last, to)| Carried::begin(&link.hub, address(last), to, PACE))
        .collect();
    let blocks = || carried.iter().map(Carried::blocks).collect::<Vec<_>>();
    let wait_more = |than: Vec<u32>, what: &str| {
        wait_for(what, || {
            let stuck = blocks().iter().zip(&than).filter(|(now, then)| now < &&(**then + 5)).count();
            if stuck == 0 { Ok(()) } else { Err(format!("{stuck} connections carry nothing")) }
        });
    };
    wait_more(blocks(), "data before the kill");
    assert_eq!(role(&backup.status()), "backup");
    master.signal(Signal::SIGKILL);
    let status = wait_for_role(&backup, "master");
    assert_eq!(status.vrrp[0].masterships, 1);
    wait_more(blocks(), "data after the kill");
    carried.iter().for_each(Carried::end);
    let ended: Vec<_> = carried.into_iter().map(Carried::ended).collect();
    let broken: Vec<_> = ended.iter().filter_map(|end| end.as_ref().err()).collect();
    assert!(broken.is_empty(), "broken: {broken:?}");
    let used: BTreeSet<u8> = ended.into_iter().flatten().collect();
    assert_eq!(used.len(), 3, "connections of all real servers were open");
}

#[test]
fn every_connection_of_sh_and_mh_goes_on_when_the_master_is_killed() {
    every_connection_goes_on("192.0.2.10");
}

#[test]
fn every_connection_of_sh_and_mh_goes_on_when_the_master_is_killed_ipv6() {
    every_connection_goes_on("2001:db8::10");
}
