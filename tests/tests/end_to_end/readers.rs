//! Readers of the API that pause (`| less`) keep nobody else waiting, and hold up no end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shunt_tests::topology::arms::{Arms, ROUTER};
use shunt_tests::topology::frames::{Packet, Transport, at};

const SERVICE: &str = "[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\nforward = \"nat\"\n\
                       real = [{ address = \"10.1.0.11:8080\" }]\n";
/// More than wait anywhere between a worker and a client that does not read.
const CONNECTIONS: u16 = 20_000;
/// How long a question may take beside paused readers; it would take for ever if it waited for one.
const ANSWER_MAX: Duration = Duration::from_secs(4);

#[test]
fn paused_readers_keep_nobody_waiting() {
    let mut arms = Arms::new();
    arms.runtime = "connections = 32768".to_owned();
    let running = arms.start(SERVICE);
    let director = &running.director;
    for number in 0..CONNECTIONS {
        let client = format!("198.51.{}.{}:40000", 100 + number / 250, 1 + number % 250);
        let syn = Packet::new(Transport::Tcp("S"), [ROUTER, running.front], at(&client), at("192.0.2.10:80"));
        arms.front.send(&syn.bytes());
        if number % 500 == 0 {
            // As many as the queue of the NIC has room for.
            let _ = director.status();
        }
    }
    let made = director.settled().workers[0].connections;
    assert!(made > u64::from(CONNECTIONS) / 2, "{made}");
    let paused: Vec<UnixStream> = (0..4)
        .map(|_| {
            let mut reader = UnixStream::connect(arms.lab.socket()).unwrap();
            reader.write_all(b"GET /v1/connections HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut first = [0; 1024];
            reader.read_exact(&mut first).unwrap();
            reader
        })
        .collect();
    for _ in 0..3 {
        let began = Instant::now();
        let said = director.command(&arms.lab, &["explain", "tcp", "198.51.100.7:1234", "192.0.2.10:80"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(began.elapsed() < ANSWER_MAX, "{:?}", began.elapsed());
    }
    let said = director.command(&arms.lab, &["connections"]);
    assert_eq!((said.code, said.out.lines().count() as u64), (Some(0), made + 1), "{}", said.err);
    let began = Instant::now();
    director.signal(Signal::SIGTERM);
    assert_eq!(running.director.ended().code(), Some(0));
    assert!(began.elapsed() < ANSWER_MAX, "{:?}", began.elapsed());
    drop(paused);
}
