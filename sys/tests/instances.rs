//! Several processes with DPDK side by side, and the life of one: a test binary that runs itself as its children.

mod common;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use common::{burst_of, device, eal, open, pool, receive, start};
use dpdk_sys::{Eal, EalError, EalSettings, FreeHugepages, Memory, Mempool, Nic, NicSettings, mempool};

/// Set in the children: what to do.
const ROLE: &str = "DPDK_SYS_TEST_ROLE";

fn child(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "instances_side_by_side", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

#[test]
fn instances_side_by_side() {
    match env::var(ROLE).as_deref() {
        Ok("loop") => return loop_until_told(),
        Ok("cleanup") => return clean_up_in_any_order(),
        Ok("hugepages") => return hugepages_if_there_are_any(),
        Ok(other) => panic!("role {other}"),
        Err(_) => {}
    }
    let mut children: Vec<_> = (0..2)
        .map(|_| child("loop").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child"))
        .collect();
    let mut outputs = Vec::new();
    for child in &mut children {
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert_ne!(output.read_line(&mut line).expect("a line"), 0, "the child ended early");
        }
        outputs.push(output);
    }
    // All three are up at once, each with a NIC of the same name.
    let pool = pool(127);
    let (_nic, mut rx, mut tx) = open(device("net_ring", ""), &pool);
    tx.burst(&mut burst_of(&pool, 0..10));
    assert_eq!(receive(&mut rx, 10).len(), 10);
    for (mut child, mut output) in children.into_iter().zip(outputs) {
        child.stdin.take().expect("a pipe").write_all(b"go\n").expect("written");
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("text");
        let status = child.wait().expect("an end");
        assert!(status.success(), "{status}: {rest}");
    }
}

/// A child: brings up a NIC, says so, and passes packets when told to go on.
fn loop_until_told() {
    let pool = pool(127);
    let (_nic, mut rx, mut tx) = open(device("net_ring", ""), &pool);
    println!("\nready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    tx.burst(&mut burst_of(&pool, 0..20));
    assert_eq!(receive(&mut rx, 20).len(), 20);
}

#[test]
fn cleaning_up_works_in_any_order() {
    let output = child("cleanup").output().expect("a child");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("cleaned up"), "{}: {text}", output.status);
}

/// A child: drops everything that holds an EAL, the EAL first, a packet and a queue last.
fn clean_up_in_any_order() {
    let eal = start("dpdk-sys-cleanup", 64);
    let pool = Mempool::new(&eal, "last", 511, 0, mempool::DATA_ROOM, None).expect("a pool");
    let device = eal.probe("net_ring0").expect("a device");
    let (nic, rx, mut tx) = Nic::open(device, &NicSettings::new(pool.clone())).expect("a NIC");
    let packet = pool.alloc().expect("an mbuf");
    tx[0].burst(&mut burst_of(&pool, 0..5));
    drop((eal, pool, nic, rx));
    drop(tx);
    // The packet outlives all handles, and with it the memory.
    assert_eq!(packet.headroom(), 128);
    drop(packet);
    println!("cleaned up");
}

#[test]
fn hugepages_are_used_or_missed_clearly() {
    let output = child("hugepages").output().expect("a child");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

/// A child: starts on hugepages where 64 MiB of them are free, and is refused where none is.
fn hugepages_if_there_are_any() {
    let mut settings = EalSettings::ordinary("dpdk-sys-huge", common::allowed_core(), 64);
    settings.memory = Memory::Hugepages;
    let free = FreeHugepages::read().bytes();
    match Eal::start(&settings) {
        Ok(eal) => {
            assert!(free > 0);
            let pool = Mempool::new(&eal, "huge", 8191, 256, mempool::DATA_ROOM, None).expect("a pool");
            let (_nic, mut rx, mut tx) =
                open(eal.probe("net_ring0").unwrap_or_else(|error| panic!("{error}")), &pool);
            tx.burst(&mut burst_of(&pool, 0..20));
            assert_eq!(receive(&mut rx, 20).len(), 20);
            assert!(FreeHugepages::read().bytes() < free, "its memory comes from there");
        }
        Err(error) => {
            assert_eq!((free, &error), (0, &EalError::NoHugepages), "{error}");
            assert!(error.to_string().contains("run without hugepages"), "{error}");
        }
    }
}

#[test]
fn dpdk_starts_once() {
    let _first = eal();
    let error = Eal::start(&EalSettings::ordinary("again", common::allowed_core(), 64)).expect_err("refused");
    assert_eq!(error, EalError::AlreadyStarted);
}
