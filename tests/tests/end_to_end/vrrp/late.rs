//! A director that was stopped and goes on: it listens before it speaks as master.

use nix::sys::signal::Signal;

use super::link::Link;
use super::{role, wait_for_role};

#[test]
fn a_master_that_was_stopped_listens_first() {
    let link = Link::new("192.0.2.10");
    let beside = link.lab.beside();
    let vrrp = |priority: u8| format!("interval = \"200ms\"\npriority = {priority}");
    let master = link.director(&link.lab, "one", 2, &vrrp(100));
    wait_for_role(&master, "master");
    let backup = link.director(&beside, "two", 3, &format!("{}\npreempt = false", vrrp(200)));
    backup.wait_until("an advert", |status| !status.vrrp[0].peers.is_empty());
    master.signal(Signal::SIGSTOP);
    wait_for_role(&backup, "master");
    master.signal(Signal::SIGCONT);
    let status = wait_for_role(&master, "backup");
    master.wait_until("its master", |status| status.vrrp[0].master.as_deref() == Some("192.0.2.3"));
    assert_eq!(status.vrrp[0].masterships, 1);
    assert!(master.log().contains("ms and listens first"), "{}", master.log());
    assert_eq!(role(&backup.status()), "master");
}
