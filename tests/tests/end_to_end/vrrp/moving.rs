//! docs/moving.md, step by step and with its ways back: a pair of keepalived in production becomes a pair of shunt.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shunt_tests::topology::binary::shunt;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::keepalived::{Keepalived, with_globals};
use shunt_tests::topology::{Lab, Said};

use super::link::{Client, Link};
use super::wait_for_role;

/// keepalived.conf of one of the pair.
fn file(interface: &str, state: &str, priority: u8) -> String {
    format!(
        "vrrp_instance VI_1 {{
    state {state}
    interface {interface}
    virtual_router_id 51
    priority {priority}
    advert_int 1
    authentication {{
        auth_type PASS
        auth_pass secret12
    }}
    virtual_ipaddress {{
        192.0.2.10
    }}
}}
virtual_server 192.0.2.10 80 {{
    delay_loop 2
    lb_algo sh
    lb_kind DR
    protocol TCP
    real_server 192.0.2.20 80 {{
        TCP_CHECK {{
            connect_timeout 2
        }}
    }}
}}
"
    )
}

/// Steps 1 and 2: `shunt import FILE > TOML` and `shunt check TOML`; what a director of the tests needs beside is put in front.
fn import(lab: &Lab, keepalived: &str) -> String {
    let file = lab.write("keepalived.conf", keepalived);
    let said: Said = lab.run(shunt(), &["import", file.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("taken: 1 service, 1 real server, 1 virtual router"), "{}", said.err);
    let toml = format!("{}\n{}", lab.runtime(1, "connections = 4096"), said.out);
    let written = lab.write("imported.toml", &toml);
    let said = lab.run(shunt(), &["check", written.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("usable") || said.err.contains("usable"), "{said:?}");
    toml
}

/// Step 3: what `shunt status` says of a backup beside its master.
fn is_backup(director: &Director, lab: &Lab, master: &str) {
    let heard = |status: &shunt::api::Status| {
        status.vrrp[0].role == "backup" && status.vrrp[0].master.as_deref() == Some(master)
    };
    let status = director.wait_until("the master is heard", heard);
    assert!(status.vrrp[0].peers.iter().all(|peer| peer.refused.is_none()), "{:?}", status.vrrp[0].peers);
    let said = director.command(lab, &["status"]);
    assert!(said.out.contains("backup") && said.out.contains(master), "{}", said.out);
    director.wait_resolved();
    let said = director.command(lab, &["status", "--down"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains("192.0.2.20"), "its real server is up: {}", said.out);
}

#[test]
fn a_pair_is_moved_step_by_step_and_back() {
    let link = Link::new("192.0.2.10");
    let old = link.place("ka", 4);
    link.lab.ip("addr add 192.0.2.2/24 dev one");
    let (master_file, backup_file) = (file("ka", "MASTER", 150), file("one", "BACKUP", 100));
    let mut master = Keepalived::start_all(&link.lab, &old, "master", &master_file);
    master.wait_for("Entering MASTER STATE");
    let mut backup = Keepalived::start_here(&link.lab, "backup", &backup_file);
    link.pause(Instant::now());

    // 1, 2: nothing is changed by them.
    let toml = import(&link.lab, &with_globals("backup", &backup_file));
    assert_eq!((master.state("VI_1").as_str(), backup.state("VI_1").as_str()), ("MASTER", "BACKUP"));

    // 3, and its way back: the master does not notice.
    let entered = master.log().matches("Entering").count();
    backup.stop();
    link.lab.ip("addr del 192.0.2.2/24 dev one");
    let director = Director::start(&link.lab, &toml);
    is_backup(&director, &link.lab, "192.0.2.4");
    director.signal(Signal::SIGTERM);
    assert!(director.ended().success());
    link.lab.ip("addr add 192.0.2.2/24 dev one");
    let mut backup = Keepalived::start_here(&link.lab, "backup", &backup_file);
    backup.stop();
    link.lab.ip("addr del 192.0.2.2/24 dev one");
    let director = Director::start(&link.lab, &toml);
    is_backup(&director, &link.lab, "192.0.2.4");
    assert_eq!(master.log().matches("Entering").count(), entered, "{}", master.log());

    // 4: fail over.
    let client = Client::new(&link);
    let stopped = Instant::now();
    master.stop();
    wait_for_role(&director, "master");
    client.wait_answered(Instant::now());
    eprintln!("keepalived stops, shunt takes over: {:?}", client.pause(stopped));
    let said = director.command(&link.lab, &["status"]);
    assert!(said.out.contains("master"), "{}", said.out);
    assert_eq!(director.command(&link.lab, &["drops"]).code, Some(0));

    // Its way back: keepalived's priority is higher.
    let mut master = Keepalived::start_all(&link.lab, &old, "master", &master_file);
    master.wait_for("Entering MASTER STATE");
    is_backup(&director, &link.lab, "192.0.2.4");
    client.wait_answered(Instant::now());
    master.stop();
    wait_for_role(&director, "master");

    // 5: the other one, at the cable of the second director; its own kernel answers no longer.
    link.cut("ka");
    link.lab.ip("addr add 192.0.2.4/24 dev two");
    let beside = link.lab.beside();
    let toml =
        import(&beside, &with_globals("master", &master_file.replace("interface ka", "interface two")));
    link.lab.ip("addr del 192.0.2.4/24 dev two");
    let other = Director::start(&beside, &toml);
    wait_for_role(&other, "master");
    is_backup(&director, &link.lab, "192.0.2.4");
    let since = Instant::now();
    assert!(link.pause(since) < Duration::from_secs(10));
}
