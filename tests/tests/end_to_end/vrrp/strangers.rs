//! Another cluster that has the same VRID.

use std::time::Instant;

use nix::sys::signal::Signal;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::keepalived::Keepalived;

use super::link::{Client, Link};
use super::{role, wait_for_role};

/// Neither pair heeds the other one, and each goes on to have its own VIP, as two keepalived do that share a VRID.
#[test]
fn a_cluster_with_other_vips_takes_nothing() {
    let link = Link::new("192.0.2.10");
    let beside = link.lab.beside();
    let place = link.place("ka", 4);
    let vrrp = |priority: u8| format!("interval = \"200ms\"\npriority = {priority}");
    let director = link.director(&link.lab, "one", 2, &vrrp(150));
    wait_for_role(&director, "master");
    let other = link.configuration(&beside, "two", 3, &vrrp(250)).replace("192.0.2.10", "192.0.2.77");
    let cluster = Director::start(&beside, &other);
    let client = Client::new(&link);
    wait_for_role(&cluster, "master");
    // Both of them, each for longer than a backup would wait.
    for (one, last, theirs, ours) in [(&director, 3, 77, 10), (&cluster, 2, 10, 77)] {
        let status = one.wait_until("twenty adverts refused", |status| {
            status.vrrp[0].refused.get("addresses").is_some_and(|count| *count >= 20)
        });
        assert_eq!((role(&status), status.vrrp[0].masterships), ("master", 1));
        assert_eq!(status.vrrp[0].split_brain, None);
        let peer = &status.vrrp[0].peers[0];
        assert_eq!((peer.address.as_str(), peer.received), (format!("192.0.2.{last}").as_str(), 0));
        let refused = peer.refused.as_deref().unwrap_or_default();
        let want = format!("its VIPs are 192.0.2.{theirs}, this director's 192.0.2.{ours}: ");
        assert!(refused.starts_with(&want), "{refused}");
        let advised = status.advice.iter().any(|line| line.contains(&want));
        assert!(advised, "{:?}", status.advice);
    }
    client.wait_answered(Instant::now());
    drop(client);
    // keepalived in the first director's place says the same and takes the VIP.
    let partner = Keepalived::start(
        &link.lab,
        &place,
        "partner",
        "version 3\nadvert_int 0.2\ninterface ka\nvirtual_router_id 51\npriority 100\nvirtual_ipaddress {\n192.0.2.10\n}",
    );
    director.signal(Signal::SIGTERM);
    partner.wait_for("not present in MASTER advert: 192.0.2.10");
    partner.wait_for("Entering MASTER STATE");
    assert_eq!(role(&cluster.status()), "master");
}
