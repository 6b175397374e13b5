//! Directors whose intervals differ, shunt beside keepalived: who is outranked waits for what the master sends.

use nix::sys::signal::Signal;
use shunt_tests::topology::keepalived::Keepalived;

use super::link::Link;
use super::{role, wait_for_role};

fn keepalived(priority: u8, interval: &str) -> String {
    format!(
        "version 3\nadvert_int {interval}\ninterface ka\nvirtual_router_id 51\npriority {priority}\n\
         virtual_ipaddress {{ 192.0.2.10 }}"
    )
}

/// Two that change places for ever would do it several times between two adverts.
#[test]
fn a_quick_master_that_is_outranked_stays_backup() {
    let link = Link::new("192.0.2.10");
    let place = link.place("ka", 4);
    let director = link.director(&link.lab, "one", 2, "interval = \"100ms\"\npriority = 150");
    wait_for_role(&director, "master");
    let mut better = Keepalived::start(&link.lab, &place, "better", &keepalived(200, "1"));
    better.wait_for("Entering MASTER STATE");
    let status = wait_for_role(&director, "backup");
    let (before, heard) = (status.vrrp[0].masterships, status.vrrp[0].peers[0].received);
    let status =
        director.wait_until("four adverts more", |status| status.vrrp[0].peers[0].received >= heard + 4);
    assert_eq!((role(&status), status.vrrp[0].masterships), ("backup", before), "{:?}", status.vrrp[0]);
    assert_eq!(better.log().matches("Entering MASTER STATE").count(), 1, "{}", better.log());
    // And it takes over from it, after the skew of that one's interval.
    better.stop();
    let status = wait_for_role(&director, "master");
    assert_eq!(status.vrrp[0].reason, "the master 192.0.2.4 gave up (priority 0)");
}

#[test]
fn a_slow_master_keeps_a_quick_backup() {
    let link = Link::new("192.0.2.10");
    let place = link.place("ka", 4);
    let worse = Keepalived::start(&link.lab, &place, "worse", &keepalived(150, "0.1"));
    worse.wait_for("Entering MASTER STATE");
    let director = link.director(&link.lab, "one", 2, "interval = \"1s\"\npriority = 200");
    let status = wait_for_role(&director, "master");
    let before = status.vrrp[0].sent;
    let status = director.wait_until("four adverts more", |status| status.vrrp[0].sent >= before + 4);
    assert_eq!((role(&status), status.vrrp[0].masterships), ("master", 1), "{:?}", status.vrrp[0]);
    assert_eq!(worse.state("VI_1"), "BACKUP", "{}", worse.log());
    assert_eq!(worse.log().matches("Entering MASTER STATE").count(), 1, "{}", worse.log());
    director.signal(Signal::SIGTERM);
    assert!(director.ended().success());
    worse.wait_for("Entering MASTER STATE");
}
