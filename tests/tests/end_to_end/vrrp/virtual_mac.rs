//! The MAC of the virtual router, beside keepalived's.

use std::time::Instant;

use nix::sys::signal::Signal;
use shunt_tests::topology::keepalived::Keepalived;
use shunt_tests::topology::wait_for;

use super::link::{Client, Link};
use super::{role, wait_for_role};

impl Link {
    /// The MAC that the client knows for the VIP.
    fn known(&self) -> String {
        let shown = self.said("ip", &["neighbour", "show", &self.vip.to_string(), "dev", "link0"]);
        shown
            .split_once("lladdr ")
            .and_then(|(_, rest)| rest.split(' ').next())
            .unwrap_or_default()
            .to_owned()
    }

    /// The cable behind which the link's bridge has seen a MAC last.
    fn behind(&self, mac: &str) -> String {
        let shown = self.said("bridge", &["fdb", "show", "br", "link0"]);
        let line = shown.lines().find(|line| line.starts_with(mac)).unwrap_or_default().to_owned();
        line.split_once("dev ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default().to_owned()
    }

    fn said(&self, program: &'static str, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        self.hub.run(move || {
            let said = std::process::Command::new(program).args(arguments).output().expect("iproute2");
            String::from_utf8_lossy(&said.stdout).into_owned()
        })
    }
}

fn the_virtual_mac_moves(vip: &str, mac: &str, shunt: &str, keepalived: &str) {
    let link = Link::new(vip);
    let settings = format!("interval = \"200ms\"\npriority = 150\nuse_vmac = true\n{shunt}");
    let director = link.director(&link.lab, "one", 2, &settings);
    let status = wait_for_role(&director, "master");
    assert_eq!(status.vrrp[0].virtual_mac.as_deref(), Some(mac));
    assert_eq!(
        status.vrrp[0].virtual_mac_by.as_deref(),
        Some("promiscuous mode"),
        "net_af_packet has no list"
    );
    let place = link.place("ka", 4);
    let instance = format!(
        "version 3\nadvert_int 0.2\ninterface ka\nuse_vmac\n{keepalived}\nvirtual_router_id 51\npriority 100\n\
         virtual_ipaddress {{ {vip} }}"
    );
    let worse = Keepalived::start(&link.lab, &place, "worse", &instance);
    let client = Client::new(&link);
    let found = |at: &str| {
        wait_for(&format!("{mac} behind {at}"), || match (link.known(), link.behind(mac)) {
            (known, behind) if known == mac && behind == at => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    found("port-one");
    let killed = Instant::now();
    director.signal(Signal::SIGKILL);
    wait_for("keepalived master", || (worse.state("VI_1") == "MASTER").then_some(()).ok_or("not yet"));
    client.wait_answered(Instant::now());
    eprintln!("virtual MAC {mac}: shunt killed: {:?}", client.pause(killed));
    found("port-ka");
    drop(director);
    // And back.
    let director = link.director(&link.lab, "one", 2, &settings);
    wait_for_role(&director, "master");
    found("port-one");
    client.wait_answered(Instant::now());
    assert_eq!(role(&director.status()), "master");
    assert_eq!(director.status().vrrp[0].split_brain, None);
    let conflicts = director.log().matches("also claims").count();
    assert_eq!(conflicts, 0, "the other director's claim is the same: {}", director.log());
}

#[test]
fn the_virtual_mac_moves_with_the_vip() {
    the_virtual_mac_moves("192.0.2.10", "00:00:5e:00:01:33", "", "");
}

#[test]
fn the_virtual_mac_moves_with_the_vip_ipv6() {
    the_virtual_mac_moves("2001:db8::10", "00:00:5e:00:02:33", "vmac_xmit_base = true", "vmac_xmit_base");
}
