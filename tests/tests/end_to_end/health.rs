//! Real servers with a kernel of their own: their death and return are noticed, and real TCP goes through.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shunt::api::status::RealState;
use shunt_tests::topology::Lab;
use shunt_tests::topology::director::{Director, real};
use shunt_tests::topology::frames::at;
use shunt_tests::topology::place::Place;

/// Bytes that go through in each direction.
const LENGTH: usize = 2 << 20;

/// A TCP server in a place: answers HTTP, and echoes everything else.
pub(super) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(place: &Place, address: &str) -> Self {
        let address = at(address);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, listener) =
            (stop.clone(), place.run(move || TcpListener::bind(address).expect("a listener")));
        let work = move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || serve(stream));
            }
        };
        let thread = std::thread::spawn(work);
        Self { address, stop, thread: Some(thread) }
    }

    /// Closes the listener: connections are refused from now on.
    pub(super) fn stop(mut self, place: &Place) {
        self.stop.store(true, Ordering::Relaxed);
        let address = self.address;
        // It waits for a connection to see that it is over.
        let _ = place.run(move || TcpStream::connect(address));
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))));
    }
}

fn serve(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let answer = if buffer.starts_with(b"GET /health ") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".as_slice()
        } else {
            &buffer[..length]
        };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

pub(super) struct World {
    pub(super) lab: Lab,
    client: Place,
    pub(super) reals: Place,
}

impl World {
    pub(super) fn new() -> Self {
        let (lab, client, reals) = (Lab::new(), Place::new(), Place::new());
        client.cable(&lab, ["front", "f0"]);
        client.ip("address add 192.0.2.1/24 dev f0\naddress add 2001:db8:f::1/64 dev f0 nodad");
        reals.cable(&lab, ["back", "b0"]);
        for number in 11..=12 {
            reals.ip(&format!(
                "address add 10.1.0.{number}/24 dev b0\naddress add 2001:db8:1::{number}/64 dev b0 nodad"
            ));
        }
        reals.ip("route add default via 10.1.0.1\nroute add ::/0 via 2001:db8:1::1");
        Self { lab, client, reals }
    }

    fn configuration(&self, check: &str, workers: usize) -> String {
        shunt_tests::topology::arms::configuration(
            &self.lab,
            workers,
            "connections = 4096",
            &["af_packet:front", "af_packet:back"],
            &format!(
                r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
scheduler = "rr"
forward = "nat"
check = {check}
real = [{{ address = "10.1.0.11:8080" }}, {{ address = "10.1.0.12:8080" }}]
[[service]]
name = "web6"
listen = "[2001:db8:f::10]:80"
protocol = "tcp"
forward = "nat"
check = {check}
real = [{{ address = "[2001:db8:1::11]:8080" }}]
"#
            ),
        )
    }

    /// Connects to a VIP as a client does and echoes a word; which real server it was is in the counters.
    pub(super) fn speak(&self, vip: &str) -> std::io::Result<()> {
        let vip = at(vip);
        self.client.run(move || {
            let mut stream = TcpStream::connect_timeout(&vip, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"hello")?;
            let mut echo = [0; 5];
            stream.read_exact(&mut echo)?;
            assert_eq!(&echo, b"hello");
            Ok(())
        })
    }
}

pub(super) fn wait_state(director: &Director, address: &str, state: RealState) -> Duration {
    let begin = Instant::now();
    director
        .wait_until(&format!("{address} {}", state.word()), |status| real(status, address).state == state);
    begin.elapsed()
}

fn death_is_noticed(check: &str) {
    let world = World::new();
    let servers = ["10.1.0.11:8080", "10.1.0.12:8080", "[2001:db8:1::11]:8080"];
    let [first, second, third] = servers.map(|address| Server::start(&world.reals, address));
    let director = Director::start(&world.lab, &world.configuration(check, 1));
    for address in servers {
        wait_state(&director, address, RealState::Up);
    }
    for _ in 0..4 {
        world.speak("192.0.2.10:80").expect("a real server");
    }
    world.speak("[2001:db8:f::10]:80").expect("a real server");
    let total = |address: &str| real(&director.status(), address).connections_total;
    assert_eq!(servers.map(total), [2, 2, 1]);

    // One leaves the schedule; its service goes on.
    first.stop(&world.reals);
    let took = wait_state(&director, servers[0], RealState::Down);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let status = director.status();
    let reason = real(&status, servers[0]).reason.clone().unwrap_or_default();
    assert!(reason.contains("refused"), "{reason}");
    for _ in 0..4 {
        world.speak("192.0.2.10:80").expect("the other real server");
    }
    assert_eq!(servers.map(total), [2, 6, 1]);

    // All are gone: clients are refused at once, and the operator is told.
    second.stop(&world.reals);
    wait_state(&director, servers[1], RealState::Down);
    let begin = Instant::now();
    let refused = world.speak("192.0.2.10:80").expect_err("nobody to serve").kind();
    assert!(
        matches!(refused, std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::HostUnreachable),
        "{refused:?} after {:?}",
        begin.elapsed()
    );
    let status = director.status();
    assert!(
        status.advice.iter().any(|line| line.starts_with("service \"web4\": no real server")),
        "{:?}",
        status.advice
    );

    let first = Server::start(&world.reals, servers[0]);
    let took = wait_state(&director, servers[0], RealState::Up);
    assert!(took < Duration::from_secs(3), "{took:?}");
    world.speak("192.0.2.10:80").expect("the real server that returned");
    assert_eq!(servers.map(total), [3, 6, 1]);
    let status = director.settled();
    assert!(!status.advice.iter().any(|line| line.contains("ethtool")), "{:?}", status.advice);
    first.stop(&world.reals);
    third.stop(&world.reals);
}

#[test]
fn http_check_notices_death_and_return() {
    death_is_noticed(
        r#"{ kind = "http", path = "/health", interval = "200ms", timeout = "200ms", fall = 2, rise = 1 }"#,
    );
}

#[test]
fn tcp_check_notices_death_and_return() {
    death_is_noticed(r#"{ kind = "tcp", interval = "200ms", timeout = "200ms", fall = 2, rise = 2 }"#);
}

/// A real server that accepts no packet at all (its cable is out) is down after its timeouts.
#[test]
fn silent_real_server_is_noticed() {
    let world = World::new();
    let server = Server::start(&world.reals, "10.1.0.11:8080");
    let check = r#"{ kind = "tcp", interval = "200ms", timeout = "200ms", fall = 2, rise = 1 }"#;
    let director = Director::start(&world.lab, &world.configuration(check, 1));
    wait_state(&director, "10.1.0.11:8080", RealState::Up);
    world.reals.ip("link set b0 down");
    wait_state(&director, "10.1.0.11:8080", RealState::Down);
    let down = director.wait_until("the link in the status", |status| status.nics[1].link == "down");
    assert!(down.advice.iter().any(|line| line.contains("the link is down")), "{:?}", down.advice);
    world.reals.ip("link set b0 up");
    wait_state(&director, "10.1.0.11:8080", RealState::Up);
    server.stop(&world.reals);
}

/// Two megabytes there and back through NAT, by the kernel's TCP on both sides.
#[test]
fn real_tcp_is_bit_exact() {
    bit_exact(1);
}

/// The same with packets that other workers own, and checks whose answers arrive at either.
#[test]
fn real_tcp_is_bit_exact_with_two_workers() {
    bit_exact(2);
}

fn bit_exact(workers: usize) {
    let world = World::new();
    let addresses = ["10.1.0.11:8080", "10.1.0.12:8080", "[2001:db8:1::11]:8080"];
    let servers = addresses.map(|address| Server::start(&world.reals, address));
    let check = r#"{ kind = "tcp", interval = "200ms", timeout = "200ms" }"#;
    let director = Director::start(&world.lab, &world.configuration(check, workers));
    director.wait_resolved();
    for address in addresses {
        wait_state(&director, address, RealState::Up);
    }
    for vip in ["192.0.2.10:80", "[2001:db8:f::10]:80"] {
        let vip = at(vip);
        world.client.run(move || {
            let stream = TcpStream::connect(vip).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            let bytes: Vec<u8> =
                (0..LENGTH as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let (mut writer, sent) = (stream.try_clone().expect("its other half"), bytes.clone());
            let writing = std::thread::spawn(move || {
                writer.write_all(&sent).expect("room to write");
                writer.shutdown(std::net::Shutdown::Write).expect("the end");
            });
            let mut echo = Vec::new();
            (&stream).read_to_end(&mut echo).expect("all of it");
            writing.join().expect("written");
            assert!(echo == bytes, "{} of {LENGTH} bytes came back", echo.len());
        });
    }
    let status = director.settled();
    assert_eq!(director.dropped("transport_checksum"), 0);
    assert!(status.services[0].reals.iter().any(|real| real.bytes_out > LENGTH as u64));
    servers.into_iter().for_each(|server| server.stop(&world.reals));
}

/// Through the NICs, from the director's own addresses: pings and datagrams go out, and answers and ICMP errors come back.
#[test]
fn pings_and_datagrams_are_answered_or_refused() {
    let world = World::new();
    let text = shunt_tests::topology::arms::configuration(
        &world.lab,
        1,
        "connections = 4096",
        &["af_packet:front", "af_packet:back"],
        r#"
[[service]]
name = "dns"
listen = "192.0.2.10:53"
protocol = "udp"
forward = "nat"
real = [
  { address = "10.1.0.11", check = { kind = "ping", interval = "200ms", timeout = "200ms", fall = 1, rise = 1 } },
  { address = "10.1.0.12", check = { kind = "udp", port = 9, interval = "200ms", timeout = "200ms", fall = 1 } },
]
[[service]]
name = "dns6"
listen = "[2001:db8:f::10]:53"
protocol = "udp"
forward = "nat"
real = [
  { address = "2001:db8:1::11", check = { kind = "ping", interval = "200ms", timeout = "200ms", fall = 1, rise = 1 } },
  { address = "2001:db8:1::12", check = { kind = "udp", port = 9, interval = "200ms", timeout = "200ms", fall = 1 } },
]
"#,
    );
    let director = Director::start(&world.lab, &text);
    for address in ["10.1.0.11:53", "[2001:db8:1::11]:53"] {
        wait_state(&director, address, RealState::Up);
    }
    for address in ["10.1.0.12:53", "[2001:db8:1::12]:53"] {
        director.wait_until("a refusal", |status| {
            real(status, address).reason.as_deref() == Some("connection refused")
        });
    }
    world.reals.ip("link set b0 down");
    wait_state(&director, "10.1.0.11:53", RealState::Down);
}

/// The sorry server serves while the quorum is lost, and scripts hear of it where the operator lives.
#[test]
fn the_sorry_server_serves_while_nobody_else_does() {
    let world = World::new();
    let [first, sorry] =
        ["10.1.0.11:8080", "10.1.0.12:8080"].map(|address| Server::start(&world.reals, address));
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let script =
        |word: &str| format!("echo {word} $SHUNT_REAL $(readlink /proc/self/ns/net) >> {}", told.display());
    let text = shunt_tests::topology::arms::configuration(
        &world.lab,
        1,
        "connections = 4096",
        &["af_packet:front", "af_packet:back"],
        &format!(
            r#"
[[service]]
name = "web"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "nat"
check = {{ kind = "tcp", interval = "200ms", timeout = "200ms", fall = 1, rise = 1 }}
sorry_server = {{ address = "10.1.0.12:8080" }}
quorum_up = "{}"
quorum_down = "{}"
omega = true
notify_down = "{}"
real = [{{ address = "10.1.0.11:8080" }}]
"#,
            script("quorum"),
            script("lost"),
            script("down")
        ),
    );
    let director = Director::start(&world.lab, &text);
    wait_state(&director, "10.1.0.11:8080", RealState::Up);
    world.speak("192.0.2.10:80").expect("the real server");
    let sorry_state = |director: &Director, state: RealState| {
        director.wait_until(state.word(), |status| {
            status.services[0].sorry_server.as_ref().is_some_and(|sorry| sorry.state == state)
        })
    };
    sorry_state(&director, RealState::Resting);

    first.stop(&world.reals);
    sorry_state(&director, RealState::Serving);
    world.speak("192.0.2.10:80").expect("the sorry server");
    let again = Server::start(&world.reals, "10.1.0.11:8080");
    let status = sorry_state(&director, RealState::Resting);
    assert!(status.services[0].quorum.held);
    world.speak("192.0.2.10:80").expect("the real server again");
    let status = director.settled();
    let counted = status.services[0].sorry_server.as_ref().map(|sorry| sorry.connections_total);
    assert_eq!((counted, real(&status, "10.1.0.11:8080").connections_total), (Some(1), 2));

    // Its scripts ran in the namespace of the process, not in that of its kernel side; with omega twice.
    let namespace = std::fs::read_link(format!("/proc/{}/ns/net", status.pid)).expect("a namespace");
    director.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(director.ended().success());
    let told = std::fs::read_to_string(&told).expect("what scripts were told");
    let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
    lines.sort();
    let ns = namespace.display();
    let down = format!("down 10.1.0.11:8080 {ns}");
    assert_eq!(
        lines,
        [down.clone(), down, format!("lost {ns}"), format!("lost {ns}"), format!("quorum {ns}")]
    );
    again.stop(&world.reals);
    sorry.stop(&world.reals);
}
