//! NICs of packet sockets that take what senders left to a NIC: two kernels talk to each other through them, in three network namespaces.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::namespace::{Namespace, role};
use common::{device, eal, pool};
use dpdk_sys::packet_socket::LARGE_ROOM;
use dpdk_sys::{Mbuf, MbufBurst, Mempool, Nic, NicSettings, NicStatistics, RxQueue, TxQueue};
use nix::libc;

/// Bytes that go each way.
const AMOUNT: usize = 4 << 20;
const PORT: u16 = 7000;
const V4: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
const V6: [&str; 2] = ["fd00:9::1", "fd00:9::2"];
/// What the client ends its datagrams with.
const ENOUGH: [u8; 1] = [0];

/// What the forwarder saw.
#[derive(Debug, Default)]
struct Seen {
    unfilled: u64,
    large: u64,
    datagrams: u64,
}

fn large() -> Mempool {
    Mempool::new(eal(), "large", 255, 0, LARGE_ROOM, None).unwrap_or_else(|error| panic!("{error}"))
}

fn open(interface: &str, pool: &Mempool, large: &Mempool) -> (Nic, RxQueue, TxQueue) {
    let settings = NicSettings { offloads: Some(large.clone()), ..NicSettings::new(pool.clone()) };
    let device = device("net_af_packet", &format!(",iface={interface}"));
    let (nic, mut rx, mut tx) = Nic::open(device, &settings).unwrap_or_else(|error| panic!("{error}"));
    (nic, rx.remove(0), tx.remove(0))
}

/// Two namespaces joined by one that forwards between `m0` and `m1`, as the role says.
fn between(test: &str, how: &str) {
    let middle = Namespace::new(&format!("m-{how}"));
    let ends = [Namespace::new(&format!("a-{how}")), Namespace::new(&format!("b-{how}"))];
    let macs = ["02:00:00:00:09:01", "02:00:00:00:09:02"];
    for (number, end) in ends.iter().enumerate() {
        let (inner, outer) = (format!("e{number}"), format!("m{number}"));
        middle.veth([&inner, &outer]);
        middle.ip(&["link", "set", &inner, "netns", &end.0]);
        end.ip(&["link", "set", &inner, "address", macs[number]]);
        end.ip(&["link", "set", &inner, "up"]);
        end.ip(&["addr", "add", &format!("{}/24", V4[number]), "dev", &inner]);
        end.ip(&["addr", "add", &format!("{}/64", V6[number]), "dev", &inner, "nodad"]);
        for other in [V4[1 - number], V6[1 - number]] {
            end.ip(&["neigh", "replace", other, "lladdr", macs[1 - number], "dev", &inner]);
        }
    }
    let spawn = |place: &Namespace, role: &str| -> Child {
        let piped = place.role(test, role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        piped.expect("nsenter runs")
    };
    let forwarder = spawn(&middle, how);
    let server = spawn(&ends[1], "server");
    let client = spawn(&ends[0], "client");
    // The forwarder goes on until its input ends.
    let ended = [client, server, forwarder].map(|child| child.wait_with_output().expect("it ran"));
    for output in ended {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
    }
}

/// Runs what a child is to do; false in the parent.
fn plays(forward: impl Fn(&str)) -> bool {
    match role().as_deref() {
        None => return false,
        Some("client") => client(),
        Some("server") => server(),
        Some(how) => forward(how),
    }
    true
}

fn pattern() -> Vec<u8> {
    (0..AMOUNT).map(|at| (at % 251) as u8).collect()
}

/// Segments whose checksum was wrong when they came here.
fn wrong_checksums() -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/snmp").expect("/proc");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("Tcp:") || line.starts_with("Udp:"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let of = |pair: &[Vec<&str>]| {
        let column = pair[0].iter().position(|name| *name == "InCsumErrors").expect("a column");
        pair[1][column].parse::<u64>().expect("a number")
    };
    rows.chunks(2).map(of).sum()
}

fn connect(address: &str) -> TcpStream {
    // The server may not listen yet: the kernel refuses at once then.
    (0..600)
        .find_map(|_| {
            TcpStream::connect((address, PORT))
                .map_err(|_| std::thread::sleep(Duration::from_millis(50)))
                .ok()
        })
        .expect("a connection")
}

fn client() {
    for server in [V4[1], V6[1]] {
        let mut stream = connect(server);
        let sent = pattern();
        let mut back = stream.try_clone().expect("a second handle");
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; AMOUNT];
            back.read_exact(&mut bytes).expect("all of it");
            bytes
        });
        stream.write_all(&sent).expect("taken");
        assert!(reader.join().expect("read") == sent, "other bytes came back");
    }
    let socket = UdpSocket::bind((V4[0], PORT)).expect("a socket");
    let size: libc::c_int = 1000;
    // SAFETY: setsockopt(2) reads an int.
    let set = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            length,
        )
    };
    assert_eq!(set, 0);
    socket.send_to(&pattern()[..9500], (V4[1], PORT)).expect("sent");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let mut answer = [0; 16];
    let (length, _) = socket.recv_from(&mut answer).expect("an answer");
    assert_eq!(answer[..length], ENOUGH);
    assert_eq!(wrong_checksums(), 0);
}

fn server() {
    let datagrams = UdpSocket::bind((V4[1], PORT)).expect("a socket");
    let listener = TcpListener::bind(("::", PORT)).expect("a port");
    for _ in [V4, V6] {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buffer = [0; 65536];
        let mut left = AMOUNT;
        while left > 0 {
            let read = stream.read(&mut buffer).expect("bytes");
            stream.write_all(&buffer[..read]).expect("taken");
            left -= read;
        }
    }
    datagrams.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let want = pattern();
    let mut buffer = [0; 65536];
    for at in (0..9500).step_by(1000) {
        let (length, from) = datagrams.recv_from(&mut buffer).expect("a datagram");
        assert!(buffer[..length] == want[at..(at + 1000).min(9500)], "{length} bytes from {at} on");
        if at == 9000 {
            datagrams.send_to(&ENOUGH, from).expect("sent");
        }
    }
    assert_eq!(wrong_checksums(), 0);
}

/// Forwards between `m0` and `m1` until the input ends; `cut` does what senders left to a NIC, and says what was seen and counted.
fn forward(cut: bool) -> (Seen, [NicStatistics; 2]) {
    let (pool, large) = (pool(8191), large());
    let mut nics = [open("m0", &pool, &large), open("m1", &pool, &large)];
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
    });
    let mut seen = Seen::default();
    let mut burst = MbufBurst::new();
    let mut segments: Vec<Mbuf> = Vec::with_capacity(128);
    while !ended.load(Ordering::Relaxed) {
        for from in 0..2 {
            nics[from].1.burst(&mut burst);
            for mut mbuf in burst.drain() {
                look(&mbuf, &mut seen);
                if cut && mbuf.segment_size() > 0 {
                    assert_eq!(nics[from].1.cut(&mbuf, &mut segments), 0);
                } else {
                    if cut {
                        mbuf.fill_checksum();
                    }
                    segments.push(mbuf);
                }
                for mbuf in segments.drain(..) {
                    assert!(!cut || (mbuf.len() <= 1514 && !mbuf.is_offloaded()));
                    let mut out = MbufBurst::new();
                    out.push(mbuf).expect("room");
                    while nics[1 - from].2.burst(&mut out) == 0 {}
                }
            }
        }
    }
    let counted = nics.each_ref().map(|(nic, ..)| nic.statistics().expect("counted"));
    drop(nics);
    assert_eq!([pool.in_use(), large.in_use()], [0, 0]);
    (seen, counted)
}

fn look(mbuf: &Mbuf, seen: &mut Seen) {
    seen.unfilled += u64::from(mbuf.is_offloaded());
    seen.large += u64::from(mbuf.segment_size() > 0 && mbuf.len() > 10_000);
    seen.datagrams += u64::from(mbuf.segment_size() == 1000);
}

fn in_full(seen: &Seen, counted: &[NicStatistics; 2]) {
    assert!(seen.unfilled > 100 && seen.large > 10 && seen.datagrams == 1, "{seen:?}");
    for nic in counted {
        let all = (nic.received_bytes, nic.sent_bytes);
        assert!(all.0 > 2 * AMOUNT as u64 && all.1 > 2 * AMOUNT as u64, "{nic:?}");
        assert_eq!((nic.receive_errors, nic.send_errors, nic.no_mbuf, nic.missed), (0, 0, 0, Some(0)));
    }
}

#[test]
fn what_senders_leave_to_a_nic_goes_on_so() {
    let plays = plays(|_| {
        let (seen, counted) = forward(false);
        in_full(&seen, &counted);
    });
    if !plays {
        between("what_senders_leave_to_a_nic_goes_on_so", "whole");
    }
}

#[test]
fn or_is_done_here() {
    let plays = plays(|_| {
        let (seen, counted) = forward(true);
        in_full(&seen, &counted);
    });
    if !plays {
        between("or_is_done_here", "cut");
    }
}
