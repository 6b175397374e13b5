//! Adverts are never late, whatever else the director is busy with: their gaps, as they are on the wire.
//!
//! `SHUNT_SERVICES=5000` reloads as many services, which wants a director with optimisation (`SHUNT_BINARY`):
//! `scripts/test.sh --all` has both.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use shunt::api::status::RealState;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::shell::Shell;
use shunt_tests::topology::threads::{cpu, stolen};
use shunt_tests::topology::wait_for;
use shunt_tests::topology::wire::Wire;

use super::link::Link;
use super::{FAST, wait_for_role};

/// One interval and a half at [`FAST`].
const GAP_MAX: Duration = Duration::from_millis(150);
/// Adverts that a phase has at least.
const ADVERTS: usize = 12;
/// How often a phase is tried: somebody else's work on the machine keeps a worker from its core, but not each time.
const ATTEMPTS: usize = 3;
/// Real servers that are black holes, and those with scripts that hang.
const HOLES: usize = 500;
const SCRIPTS: usize = 100;
/// Addresses that the NIC gets and loses.
const ADDRESSES: usize = 240;
const CONNECTIONS: u16 = 30_000;

/// Takes down when adverts pass on the link.
struct Recorder {
    times: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    fn start(link: &Link) -> Self {
        let wire = link.hub.run(|| Wire::open("port-one"));
        let (times, stop) = (Arc::<Mutex<Vec<Duration>>>::default(), Arc::<AtomicBool>::default());
        let (taken, over) = (times.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let came = wire.receive_stamped().filter(|(_, frame)| is_advert(frame));
                taken.lock().expect("the times").extend(came.map(|(at, _)| at));
            }
        });
        Self { times, stop, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.times.lock().expect("the times").len()
    }

    /// The gaps between adverts while `work` is done, from the last one before it, at least so many of them.
    fn gaps(&self, work: impl FnOnce()) -> Vec<Duration> {
        let begin = self.count().max(1) - 1;
        work();
        let end = self.count();
        wait_for("adverts", || {
            // One that is under way when the work ends counts, too.
            if self.count() > end.max(begin + ADVERTS) { Ok(()) } else { Err(format!("{}", self.count())) }
        });
        let times = self.times.lock().expect("the times");
        times[begin..].windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How often a priority is changed.
const CHANGES: u8 = 3;

/// A priority that a reload brings is in the next advert that begins its way after the answer.
#[test]
fn a_new_priority_is_told_with_the_next_advert() {
    let link = Link::new("192.0.2.10");
    let configuration =
        |priority: u8| link.configuration(&link.lab, "one", 2, &format!("{FAST}\npriority = {priority}"));
    let director = Director::start(&link.lab, &configuration(100));
    wait_for_role(&director, "master");
    let wire = link.hub.run(|| Wire::open("port-one"));
    for priority in 101..101 + CHANGES {
        director.reload(&link.lab, &configuration(priority));
        let answered = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        wait_for("an advert", || {
            let came = wire.receive_stamped().filter(|(_, frame)| is_advert(frame));
            // One that was on its way already may have waited for its worker.
            let (at, frame) = came.filter(|(at, _)| *at > answered + GAP_MAX / 3).ok_or("none came")?;
            assert_eq!(frame[36], priority, "{:?} after the answer", at - answered);
            Ok::<_, &str>(())
        });
    }
}

/// A log that nobody reads keeps neither adverts waiting nor whoever asks, nor the end.
#[test]
fn a_log_that_nobody_reads() {
    let link = Link::new("192.0.2.10");
    let configuration =
        |priority: u8| link.configuration(&link.lab, "one", 2, &format!("{FAST}\npriority = {priority}"));
    let director = Director::start_unread(&link.lab, &configuration(100));
    wait_for_role(&director, "master");
    let recorder = Recorder::start(&link);
    wait_for("an advert", || if recorder.count() > 0 { Ok(()) } else { Err("none came") });
    let longest = (0..ATTEMPTS).map(|_| {
        let gaps = recorder.gaps(|| drop(director.reload(&link.lab, &configuration(101))));
        gaps.into_iter().max().unwrap_or(Duration::MAX)
    });
    let longest: Vec<Duration> = longest.collect();
    assert!(longest.iter().any(|longest| *longest < GAP_MAX), "{longest:?}");
    director.signal(Signal::SIGTERM);
    assert!(director.ended().success());
}

/// VRRP over IPv4 to its group.
pub(super) fn is_advert(frame: &[u8]) -> bool {
    let byte = |place: usize| frame.get(place).copied().unwrap_or_default();
    (byte(12), byte(13), byte(14 + 9)) == (8, 0, 112) && frame.get(30..34) == Some(&[224, 0, 0, 18])
}

/// The gaps by steps of ten milliseconds.
fn histogram(gaps: &[Duration]) -> String {
    let mut steps = std::collections::BTreeMap::<u128, usize>::new();
    gaps.iter().for_each(|gap| *steps.entry(gap.as_millis() / 10).or_default() += 1);
    let words = steps.iter().map(|(step, count)| format!("{}-{} ms: {count}", 10 * step, 10 * step + 10));
    words.collect::<Vec<_>>().join(", ")
}

struct Busy<'l> {
    link: &'l Link,
    director: Director,
    recorder: Recorder,
    services: usize,
}

impl Busy<'_> {
    /// The director's configuration, with or without the many services.
    fn configuration(&self, many: bool) -> String {
        let mut text = base(self.link);
        for service in 0..if many { self.services } else { 0 } {
            let real = |last: usize| format!("{{ address = \"192.0.2.{last}\" }}");
            let reals: Vec<String> = (30..40).map(real).collect();
            text += &format!(
                "[[service]]\nname = \"many-{service}\"\nlisten = \"192.0.2.11:{}\"\nprotocol = \"tcp\"\nreal = [{}]\n",
                1000 + service,
                reals.join(", ")
            );
        }
        text
    }

    /// Many services come and go.
    fn reload(&self) {
        for many in [true, false] {
            self.take(&self.configuration(many));
        }
    }

    /// This configuration is taken.
    fn take(&self, text: &str) {
        self.director.rewrite(text);
        let mut stream = UnixStream::connect(self.link.lab.socket()).expect("the API");
        stream
            .write_all(b"POST /v1/reload?yes=true HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The NIC gets many addresses, and loses them, which the kernel side is asked for one by one.
    fn move_addresses(&self) {
        let text = base(self.link);
        let further: String = (1..=ADDRESSES).map(|last| format!("\"10.8.0.{last}/32\", ")).collect();
        let more = text.replace("[\"192.0.2.2/24\"", &format!("[{further}\"192.0.2.2/24\""));
        assert_ne!(text, more);
        for _ in 0..5 {
            self.take(&more);
            self.take(&text);
        }
    }

    /// `ipvsadm -R` adds a tenth as many services, and removes them; tells whether all lines were taken.
    fn restore(&self, shell: &Shell<'_>) -> bool {
        let lines = |word: &str, more: &str| -> String {
            let ports = 1000..1000 + self.services / 10;
            ports.map(|port| format!("{word} -t 192.0.2.12:{port}{more}\n")).collect()
        };
        let reals = lines("-a", " -r 192.0.2.20 -g -w 1");
        let rules = [lines("-A", " -s wlc") + &reals, lines("-D", "")];
        let taken = rules.map(|text| {
            let file = self.link.lab.write("rules", &text);
            shell.sh(&["-c", &format!("ipvsadm -R < {}", file.display())]).code == Some(0)
        });
        taken == [true; 2]
    }

    /// Asks for the long list of connections and does not read it.
    fn ask_and_wait(&self) -> UnixStream {
        let mut slow = UnixStream::connect(self.link.lab.socket()).expect("the API");
        slow.write_all(b"GET /v1/connections HTTP/1.1\r\nHost: shunt\r\n\r\n").expect("a request");
        slow
    }

    /// No gap of this phase is too long, beyond the time in which the director got no CPU.
    fn phase(&self, what: &str, work: impl Fn()) {
        let mut longest = Duration::MAX;
        for attempt in 1..=ATTEMPTS {
            let before = self.kept_from_cpu();
            let gaps = self.recorder.gaps(&work);
            let kept = self.kept_from_cpu() - before;
            longest = gaps.iter().copied().max().unwrap_or(Duration::MAX);
            eprintln!(
                "{what}, attempt {attempt}: longest gap {longest:?}, without a CPU {kept:?}; {}",
                histogram(&gaps)
            );
            if longest < GAP_MAX + kept {
                return;
            }
        }
        panic!("{what}: {longest:?} between two adverts, three times in a row");
    }

    /// For how long those that an advert passes through could have run and did not, by somebody else's work on this machine or its host.
    fn kept_from_cpu(&self) -> Duration {
        let waited = |name| cpu(self.director.pid(), name).1;
        waited("shunt-neighbour") + waited("worker") + stolen()
    }
}

/// A virtual router, black holes, scripts that hang, and a notification that does, each with its own service.
fn base(link: &Link) -> String {
    let text = link.configuration(&link.lab, "one", 2, FAST).replace("= 4096", "= 65536");
    let list = |network: u8, count: usize| -> String {
        let one = |real: usize| {
            format!("{{ address = \"10.9.{}.{}\" }}", usize::from(network) + real / 250, real % 250 + 1)
        };
        (0..count).map(one).collect::<Vec<_>>().join(", ")
    };
    format!(
        r#"{text}
[[route]]
to = "10.9.0.0/16"
via = "192.0.2.20"
[[service]]
name = "holes"
listen = "192.0.2.11:80"
protocol = "tcp"
forward = "nat"
check = {{ kind = "http", interval = "1s", timeout = "1s", fall = 1 }}
notify_down = "sleep 3600"
real = [{}]
[[service]]
name = "scripts"
listen = "192.0.2.11:81"
protocol = "tcp"
forward = "nat"
check = {{ kind = "script", command = "sleep 3600", interval = "1s", timeout = "1s", fall = 1 }}
real = [{}]
[[service]]
name = "dns"
listen = "192.0.2.11:53"
protocol = "udp"
real = [{{ address = "192.0.2.20" }}]
"#,
        list(0, HOLES),
        list(100, SCRIPTS)
    )
}

#[test]
fn adverts_are_never_late() {
    let services = std::env::var("SHUNT_SERVICES").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let link = Link::new("192.0.2.10");
    let director = Director::start(&link.lab, &base(&link));
    let status = wait_for_role(&director, "master");
    let busy = Busy { link: &link, director, recorder: Recorder::start(&link), services };
    let shell = Shell::of(&link.lab);
    let director = &busy.director;
    // Where sessions share the CPUs, the niceness of workers does not count beside programs of other sessions. One that
    // began before all of them, as in a container, has no share to weigh: its file is empty.
    let session = std::fs::read_to_string(format!("/proc/{}/autogroup", director.pid())).unwrap_or_default();
    assert!(session.is_empty() || session.ends_with(" nice -10\n"), "{session}");
    busy.phase("hanging checks, scripts and notifications", || {
        director.wait_until("real servers that are down", |status| {
            let down = |name: &str| {
                let service = status.services.iter().find(|service| service.name == name).expect("a service");
                service.reals.iter().filter(|real| real.state == RealState::Down).count()
            };
            // Processes begin and end slowly on a busy machine.
            down("holes") == HOLES && down("scripts") >= SCRIPTS / 10
        });
    });
    busy.phase("reload", || busy.reload());
    busy.phase("reload with other addresses", || busy.move_addresses());
    busy.phase("ipvsadm -R", || assert!(busy.restore(&shell)));

    let mac = status.nics[0].mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC"));
    let mac: Vec<u8> = mac.collect();
    let wire = link.hub.run(|| Wire::open("port-one"));
    let macs = [[2, 0, 0, 0, 0, 9], mac[..].try_into().expect("six bytes")];
    director.wait_until("many connections", |status| {
        // The NIC has room for some at a time.
        for number in 0..CONNECTIONS {
            let client = at(&format!("192.0.2.9:{}", 1024 + number));
            wire.send(&Packet::new(Transport::Udp, macs, client, at("192.0.2.11:53")).bytes());
        }
        status.workers[0].connections > u64::from(CONNECTIONS) / 2
    });
    busy.phase("slow clients of the API", || {
        let slow: Vec<UnixStream> = (0..4).map(|_| busy.ask_and_wait()).collect();
        let _ = director.status();
        drop(slow);
    });
    busy.phase("all of that at once", || {
        let slow: Vec<UnixStream> = (0..4).map(|_| busy.ask_and_wait()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| busy.reload());
            // Services that a reload removes are not there to be removed.
            let _ = busy.restore(&shell);
        });
        drop(slow);
    });

    let status = director.status();
    let router = &status.vrrp[0];
    eprintln!("adverts by lateness in us, as the director counts them: {:?}", router.lateness);
    assert_eq!(router.masterships, 1);
    let counted: u64 = router.lateness.iter().map(|bucket| bucket.count).sum();
    // The first one, at the takeover, was due at no time; the last one may be on its way.
    assert!((router.sent - 2..router.sent).contains(&counted), "{counted} of {}", router.sent);
    let said = director.command(&link.lab, &["status"]);
    assert!(said.out.contains(" of their time, all within "), "{}", said.out);
}
