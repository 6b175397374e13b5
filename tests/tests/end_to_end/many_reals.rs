//! Very many real servers on the director's own link: the kernel's neighbour table, which is one for the whole machine, has none of them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use shunt_tests::topology::Lab;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::place::Place;

/// Real servers of a service.
const EACH: u32 = 100;

/// The address of a real server.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a40_0100 + number)
}

/// So many real servers, all of them one host that answers for the whole network.
fn configuration(lab: &Lab, count: u32, interval: &str) -> String {
    let mut text = lab.runtime(1, "connections = 4096");
    text += "[[nic]]\nname = \"back\"\ndevice = \"af_packet:back\"\naddresses = [\"10.64.0.1/16\"]\n";
    for service in 0..count.div_ceil(EACH) {
        let reals = (service * EACH..((service + 1) * EACH).min(count)).map(address);
        let reals =
            reals.map(|real| format!("{{ address = \"{real}:8080\" }}")).collect::<Vec<_>>().join(", ");
        text += &format!(
            "[[service]]\nname = \"many{service}\"\nlisten = \"192.0.2.10:{}\"\nprotocol = \"tcp\"\nforward = \"nat\"\nalpha = true\n\
             check = {{ kind = \"tcp\", interval = \"{interval}\", timeout = \"3s\", warmup = \"{interval}\", fall = 3, rise = 1 }}\nreal = [{reals}]\n",
            1_000 + service
        );
    }
    text
}

/// Entries of the kernel side's neighbour table that are for one host each.
fn entries(director: &Director) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", director.pid())).unwrap();
    let is_health = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "shunt-health")
    };
    let task = tasks.map(|task| task.unwrap().path()).find(is_health).expect("the thread of checks");
    let namespace = format!("--net={}", task.join("ns/net").display());
    let list = [&namespace, "ip", "-4", "neigh", "show", "nud", "all"];
    let shown = std::process::Command::new("nsenter").args(list).output().expect("nsenter");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    String::from_utf8_lossy(&shown.stdout).lines().filter(|line| line.contains("shunt-")).count()
}

fn all_come_up(count: u32, interval: &str, patience: Duration) {
    let lab = Lab::new();
    let host = Place::new();
    host.cable(&lab, ["back", "b0"]);
    host.ip("addr add 10.64.0.2/16 dev b0");
    let blocks = (1..=count / 256 + 1).map(|block| format!("route add local 10.64.{block}.0/24 dev lo\n"));
    host.ip(&blocks.collect::<String>());
    host.run(|| {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 8080))).expect("a listener");
        std::thread::spawn(move || listener.incoming().for_each(drop));
    });
    // Its log tells: to ask for the status of so many takes longer than to check them.
    let director = Director::spawn(&lab, &configuration(&lab, count, interval));
    let begin = Instant::now();
    let up = || {
        director.log().lines().filter(|line| line.ends_with(" is up") || line.contains(" is up:")).count()
            as u32
    };
    while up() < count {
        assert!(begin.elapsed() < patience, "{} of {count} are up", up());
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(entries(&director), 2, "one neighbour, and the one of checks by their service's way");
}

/// More than the kernel's table takes for the whole machine, where nobody changed it (`gc_thresh3`: 1,024).
#[test]
fn more_real_servers_than_the_kernel_has_neighbours_are_all_up() {
    all_come_up(1_500, "3s", Duration::from_secs(60));
}

#[test]
#[ignore = "takes most of a minute, and both cores"]
fn fifty_thousand_real_servers_on_the_link_are_all_up() {
    all_come_up(50_000, "30s", Duration::from_secs(150));
}
