//! What a supervisor such as systemd hears from a director (sd_notify(3)).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use shunt_tests::topology::director::Director;
use shunt_tests::topology::frames::ip;
use shunt_tests::topology::frozen::Frozen;
use shunt_tests::topology::hosts::Hosts;
use shunt_tests::topology::{Lab, PATIENCE};

/// How often the supervisor wants to hear that the director goes on.
const WATCHDOG: Duration = Duration::from_millis(800);
/// How long a director waits for the first checks at most.
const FIRST_CHECKS_MAX: Duration = Duration::from_secs(5);

/// The supervisor's end.
struct Supervisor {
    socket: UnixDatagram,
    /// `NOTIFY_SOCKET`.
    name: String,
}

impl Supervisor {
    /// At a socket of the file system.
    fn at_a_path(lab: &Lab) -> Self {
        let path = lab.path("notify");
        Self::new(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap())
    }

    /// At one of the abstract namespace, whose name begins with `@` (unix(7)).
    fn at_a_name(lab: &Lab) -> Self {
        let name = format!("{}/notify", lab.path("").display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::new(UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"))
    }

    fn new(socket: UnixDatagram, name: &str) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name: name.to_owned() }
    }

    /// A director that tells it, with one service and further variables.
    fn start(&self, lab: &Lab, check: &str, variables: &[(&str, &str)]) -> Director {
        let variables = [&[("NOTIFY_SOCKET", self.name.as_str())], variables].concat();
        Director::spawn_with(lab, &configuration(lab, check), &variables)
    }

    /// The next datagram, whatever it is.
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("nothing is heard: {error}"));
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next one that is not of the watchdog.
    fn next_state(&self) -> String {
        std::iter::repeat_with(|| self.next()).find(|words| words != "WATCHDOG=1").unwrap()
    }

    /// Ends the director, which says so.
    fn hears_an_end(&self, director: Director) {
        director.signal(Signal::SIGTERM);
        assert_eq!(self.next_state(), "STOPPING=1");
        assert_eq!(director.ended().code(), Some(0));
    }
}

fn configuration(lab: &Lab, check: &str) -> String {
    let service = format!(
        "[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\n\
         real = [{{ address = \"10.1.0.11:80\" }}]\n{check}"
    );
    lab.runtime(1, "connections = 4096")
        + "[[nic]]\nname = \"back\"\ndevice = \"af_packet:back\"\naddresses = [\"10.1.0.1/24\"]\n"
        + &service
}

/// With the cable of a NIC.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.cable(["back", "b0"], 1);
    lab
}

/// The monotonic clock, in microseconds.
fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}

#[test]
fn a_supervisor_hears_of_the_start_of_each_reload_and_of_the_end() {
    let lab = lab();
    let supervisor = Supervisor::at_a_path(&lab);
    let director = supervisor.start(&lab, "", &[]);
    // Without a watchdog nothing else is heard.
    assert_eq!(supervisor.next(), "READY=1");
    assert_eq!(director.status().pid, director.pid());
    let right = configuration(&lab, "");
    for (file, line) in [
        (right.replace("10.1.0.11", "10.1.0.12"), "10.1.0.12:80"),
        // One that is refused ends, too.
        ("nonsense".to_owned(), "reload refused: "),
        (right.clone(), "10.1.0.11:80"),
        (right, "reload: no change"),
    ] {
        director.rewrite(&file);
        let before = monotonic();
        director.signal(Signal::SIGHUP);
        let reloading = supervisor.next();
        let after = monotonic();
        let at =
            reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading}"));
        assert!((before..=after).contains(&at.parse::<i64>().unwrap()), "{before} {at} {after}");
        assert_eq!(supervisor.next(), "READY=1");
        director.wait_logged(line);
    }
    // And those that are asked for by the socket.
    assert_eq!(director.command(&lab, &["reload"]).code, Some(0));
    assert!(supervisor.next().starts_with("RELOADING=1\n"));
    assert_eq!(supervisor.next(), "READY=1");
    supervisor.hears_an_end(director);
}

#[test]
fn an_abstract_socket_is_told_too() {
    let lab = lab();
    let supervisor = Supervisor::at_a_name(&lab);
    let director = supervisor.start(&lab, "", &[]);
    assert_eq!(supervisor.next(), "READY=1");
    assert_eq!(director.command(&lab, &["stop"]).code, Some(0));
    assert_eq!(supervisor.next(), "STOPPING=1");
    assert_eq!(director.ended().code(), Some(0));
}

#[test]
fn ready_waits_for_the_first_checks_but_not_for_ever() {
    let lab = lab();
    let supervisor = Supervisor::at_a_path(&lab);
    let began = Instant::now();
    // It is there and says nothing to whoever connects.
    let _hosts = Hosts::on("b0", &[(ip("10.1.0.11"), [2, 0, 0, 0, 0xb0, 11])]);
    let check = "check = { kind = \"tcp\", timeout = \"30s\", interval = \"30s\" }\n";
    let director = supervisor.start(&lab, check, &[]).answering();
    assert_eq!(supervisor.next(), "READY=1");
    assert!(began.elapsed() >= FIRST_CHECKS_MAX, "{:?}", began.elapsed());
    supervisor.hears_an_end(director);
}

#[test]
fn a_watchdog_is_fed_in_its_time_and_not_for_a_thread_that_hangs() {
    let lab = lab();
    let supervisor = Supervisor::at_a_path(&lab);
    let microseconds = WATCHDOG.as_micros().to_string();
    let director = supervisor.start(&lab, "", &[("WATCHDOG_USEC", &microseconds)]);
    while supervisor.next() != "READY=1" {}
    // A busy machine may let one be late, which others make good.
    let (began, times) = (Instant::now(), 10);
    for _ in 0..times {
        assert_eq!(supervisor.next(), "WATCHDOG=1");
    }
    assert!(began.elapsed() < WATCHDOG * times, "{:?}", began.elapsed());
    // The director says why it ends, and is not taken for one that goes on.
    let frozen = Frozen::new(director.pid(), "worker 0");
    director.wait_logged("thread worker 0 has not gone on for ");
    supervisor.socket.set_nonblocking(true).unwrap();
    while supervisor.socket.recv(&mut [0; 4096]).is_ok() {}
    supervisor.socket.set_nonblocking(false).unwrap();
    let last = supervisor.next();
    assert!(last.starts_with("STOPPING=1\nSTATUS=thread worker 0 "), "{last}");
    assert_eq!(director.ended_with(&frozen).code(), Some(3));
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let lab = lab();
    let supervisor = Supervisor::at_a_path(&lab);
    let others = std::process::id().to_string();
    let director = supervisor.start(&lab, "", &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", &others)]);
    assert_eq!(supervisor.next(), "READY=1");
    supervisor.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(supervisor.socket.recv(&mut [0; 4096]).is_err());
    supervisor.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    supervisor.hears_an_end(director);
}

/// Its socket is full, or gone: nobody waits for it.
#[test]
fn a_supervisor_that_does_not_listen_keeps_nobody_waiting() {
    let lab = lab();
    let supervisor = Supervisor::at_a_path(&lab);
    let director = supervisor.start(&lab, "", &[("WATCHDOG_USEC", "100000")]);
    while supervisor.next() != "READY=1" {}
    // More than a socket holds (net.unix.max_dgram_qlen).
    let holds: u32 =
        std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    assert!(holds < 1000, "{holds}");
    for _ in 0..=holds {
        assert_eq!(director.command(&lab, &["reload"]).code, Some(0));
    }
    drop(supervisor);
    assert_eq!(director.command(&lab, &["reload"]).code, Some(0));
    director.signal(Signal::SIGTERM);
    assert_eq!(director.ended().code(), Some(0));
}
