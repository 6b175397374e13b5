//! NICs with the kernel behind them, in a network namespace of their own: a test binary that runs itself there.

mod common;

use std::process::Command;

use common::namespace::{Namespace, role, run};
use common::{burst_of, device, eal, number_in, open, pool, receive, wait_for};
use dpdk_sys::{MbufBurst, Nic, NicSettings};

/// The Ethernet address that the kernel knows of an interface.
fn kernel_mac(interface: &str) -> [u8; 6] {
    let output = Command::new("ip").args(["-o", "link", "show", "dev", interface]).output().expect("ip runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let address = text.split_once("link/ether ").expect("an Ethernet interface").1;
    let mut bytes = [0; 6];
    for (byte, digits) in bytes.iter_mut().zip(address[..17].split(':')) {
        *byte = u8::from_str_radix(digits, 16).expect("a byte");
    }
    bytes
}

#[test]
fn af_packet_with_two_queues_on_veth() {
    if role().is_none() {
        let namespace = Namespace::new("packet");
        namespace.veth(["left", "right"]);
        return namespace.child("af_packet_with_two_queues_on_veth", "inside");
    }
    let pool = pool(4095);
    let mut settings = NicSettings::new(pool.clone());
    (settings.rx_queues, settings.tx_queues) = (2, 2);
    let error =
        Nic::open(device("net_af_packet", ",iface=right"), &settings).map(|_| ()).expect_err("one queue");
    assert!(
        error
            .to_string()
            .ends_with("2 rx queues wanted, driver net_af_packet offers 1 to 1: add qpairs=N to its devargs"),
        "{error}"
    );
    let (right, mut queues, _tx) =
        Nic::open(device("net_af_packet", ",iface=right,qpairs=2"), &settings).expect("two queues");
    let (left, _rx, mut tx) = open(device("net_af_packet", ",iface=left"), &pool);
    assert_eq!((left.mac(), right.mac()), (kernel_mac("left"), kernel_mac("right")));
    assert!(left.link_up() && right.link_up());
    let mut sent = burst_of(&pool, 0..64);
    wait_for("room to send", || {
        tx.burst(&mut sent);
        sent.is_empty()
    });
    let mut seen = [false; 64];
    wait_for("each frame", || {
        for queue in &mut queues {
            let mut burst = MbufBurst::new();
            queue.burst(&mut burst);
            for mbuf in burst.iter().filter(|mbuf| mbuf.data().get(12..14) == Some(&[0x88, 0xb5])) {
                assert_eq!((mbuf.len(), mbuf.nic()), (60, right.id()));
                seen[usize::from(number_in(mbuf))] = true;
            }
        }
        seen.iter().all(|seen| *seen)
    });
    assert!(right.statistics().expect("counted").received_packets >= 64);
    drop((left, right, queues, _tx, _rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn af_xdp_on_veth() {
    if role().is_none() {
        let namespace = Namespace::new("xdp");
        namespace.veth(["left", "right"]);
        return namespace.child("af_xdp_on_veth", "inside");
    }
    let (sending, receiving) = (pool(4095), pool(8191));
    let (right, mut rx, _tx) = open(device("net_af_xdp", ",iface=right"), &receiving);
    let (left, _rx, mut tx) = open(device("net_af_packet", ",iface=left"), &sending);
    let mut sent = burst_of(&sending, 0..32);
    wait_for("room to send", || {
        tx.burst(&mut sent);
        sent.is_empty()
    });
    let mut seen = [false; 32];
    wait_for("each frame", || {
        let mut burst = MbufBurst::new();
        rx.burst(&mut burst);
        for mbuf in burst.iter().filter(|mbuf| mbuf.data().get(12..14) == Some(&[0x88, 0xb5])) {
            seen[usize::from(number_in(mbuf))] = true;
        }
        seen.iter().all(|seen| *seen)
    });
    drop((left, right, rx, _tx, _rx, tx));
    // What the kernel's fill ring held is not given back: this driver forgets it when it closes.
    assert_eq!(sending.in_use(), 0);
}

#[test]
fn tap_speaks_with_the_kernel() {
    if role().is_none() {
        return Namespace::new("tap").child("tap_speaks_with_the_kernel", "inside");
    }
    let pool = pool(4095);
    let (nic, mut rx, mut tx) = open(device("net_tap", ",iface=kernelside"), &pool);
    run("ip", &["address", "add", "192.0.2.1/24", "dev", "kernelside"]);
    run("ip", &["link", "set", "kernelside", "up"]);
    let mut request = vec![0xff; 6];
    request.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend([2, 0, 0, 0, 0, 9, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    let mut burst = MbufBurst::new();
    wait_for("an answer to the question who has 192.0.2.1", || {
        let mut mbuf = pool.alloc().expect("an mbuf");
        assert!(mbuf.fill(&request));
        burst.clear();
        assert!(burst.push(mbuf).is_ok());
        tx.burst(&mut burst);
        burst.clear();
        rx.burst(&mut burst);
        burst.iter().any(|mbuf| {
            let data = mbuf.data();
            data.get(12..14) == Some(&[8, 6])
                && data.get(20..22) == Some(&[0, 2])
                && data[28..32] == [192, 0, 2, 1]
        })
    });
    burst.clear();
    drop((nic, rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn memif_between_two_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("memif.sock");
    let options = |role: &str| format!(",role={role},id=0,socket={},socket-abstract=no", socket.display());
    let pool = pool(4095);
    let server = eal().probe(&format!("net_memif100{}", options("server"))).unwrap_or_else(|e| panic!("{e}"));
    let (server, mut rx, _tx) = open(server, &pool);
    let client = eal().probe(&format!("net_memif101{}", options("client"))).unwrap_or_else(|e| panic!("{e}"));
    let (client, _rx, mut tx) = open(client, &pool);
    wait_for("a connection", || server.link_up() && client.link_up());
    let mut burst = burst_of(&pool, 0..16);
    assert_eq!(tx.burst(&mut burst), 16);
    assert_eq!(receive(&mut rx, 16).len(), 16);
    drop((server, client, rx, tx, _rx, _tx));
    assert_eq!(pool.in_use(), 0);
}
