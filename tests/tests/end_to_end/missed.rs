//! A NIC that is overrun: what the peer sent is what was received and what was missed, to the packet.

use shunt::api::Status;
use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::director::limit;
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::frozen::Frozen;

const SERVICE: &str = r#"
[[service]]
name = "dns"
listen = "192.0.2.10:53"
protocol = "udp"
forward = "dr"
real = [{ address = "10.1.0.11:53" }]
"#;
/// More than any ring here holds.
const SENT: u64 = 40_000;

/// Packets that an interface of the test's namespace was given to send, whether or not its other end took them.
fn given(interface: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("interfaces");
    let row = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    let numbers: Vec<u64> =
        row.expect("the interface").split_whitespace().map(|n| n.parse().expect("a number")).collect();
    numbers[9] + numbers[11]
}

/// What came to the front NIC and what it says that it missed.
fn came(status: &Status) -> u64 {
    status.nics[0].received + status.nics[0].missed.expect("a driver whose losses are known")
}

fn overrun(arms: &Arms, running: &Running) {
    let director = &running.director;
    let sent =
        Packet::new(Transport::Udp, [ROUTER, running.front], at("198.51.100.7:40000"), at("192.0.2.10:53"))
            .bytes();
    let begin = director.settled();
    let (before, given_before) = (came(&begin), given("f0"));
    assert_eq!(begin.nics[0].missed, Some(0), "{:?}", begin.nics[0]);
    let workers: Vec<Frozen> =
        (0..arms.workers).map(|number| Frozen::new(director.pid(), &format!("worker {number}"))).collect();
    (0..SENT).for_each(|_| arms.front.send(&sent));
    drop(workers);
    let all = || given("f0") - given_before;
    // A tap's are counted when they are fetched.
    let status = director.wait_until("books that agree", |status| {
        let all = all();
        all >= SENT && came(status) - before == all
    });
    let missed = status.nics[0].missed.unwrap_or_default();
    assert!((1000..SENT).contains(&missed), "{missed} missed");
    let shown = limit(&status, "nic \"front\" receive queues");
    assert_eq!((shown.refused, shown.most > 500), (missed, true), "{shown:?}");
    let told =
        format!("nic \"front\" receive queues: full {missed} times: these packets were lost before a worker");
    assert!(status.advice.iter().any(|line| line.starts_with(&told)), "{:?}", status.advice);
    director.wait_logged("nic \"front\" receive queues: full:");
    let said = director.command(&arms.lab, &["status"]).out;
    let row = said.lines().find(|line| line.starts_with("front ")).expect("its row");
    assert!(row.contains(&format!(" {missed} ")), "{row}");
    // They are not counted twice.
    assert_eq!(came(&director.settled()) - before, all());
}

#[test]
fn what_af_packet_misses_is_counted() {
    for workers in [1, 2] {
        let arms = Arms::with_workers(workers);
        overrun(&arms, &arms.start(SERVICE));
    }
}

#[test]
fn what_the_driver_for_packet_sockets_misses_is_counted() {
    let arms = Arms::on_the_driver(1);
    overrun(&arms, &arms.start(SERVICE));
}

#[test]
fn what_a_tap_misses_is_counted() {
    let (arms, running) = Arms::on_taps(SERVICE);
    overrun(&arms, &running);
}

#[test]
fn what_af_xdp_misses_is_counted() {
    let arms = Arms::on("af_xdp");
    overrun(&arms, &arms.start(SERVICE));
}
