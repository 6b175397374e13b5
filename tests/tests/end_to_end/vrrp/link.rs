//! What goes around a link that directors share: the client, the real server, a VIP, and how long nobody answers for it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shunt_tests::topology::director::Director;
use shunt_tests::topology::place::Place;
use shunt_tests::topology::{Lab, wait_for};

/// How long a client waits for an answer at most before the test gives up.
pub(super) const OUTAGE_MAX: Duration = Duration::from_secs(15);
/// Between two attempts of the client.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(10);

/// What goes around a link.
pub(super) struct Link {
    pub(super) lab: Lab,
    /// The client, and the bridge that is the link.
    pub(super) hub: Place,
    /// The real server.
    pub(super) real: Place,
    pub(super) vip: IpAddr,
}

impl Link {
    pub(super) fn new(vip: &str) -> Self {
        let lab = Lab::new();
        let hub = Place::new();
        hub.ip("link set lo up\nlink add link0 type bridge mcast_snooping 0\nlink set link0 up\n\
                addr add 192.0.2.9/24 dev link0\naddr add 2001:db8::9/64 dev link0 nodad");
        let vip: IpAddr = vip.parse().unwrap();
        let real = real_server(&hub, vip, "real", 20);
        let link = Self { lab, hub, real, vip };
        for name in ["one", "two"] {
            link.hub.cable(&link.lab, [name, &format!("port-{name}")]);
            link.hub.ip(&format!("link set port-{name} master link0"));
        }
        link
    }

    /// A further real server.
    pub(super) fn real_server(&self, name: &'static str, last: u8) -> Place {
        real_server(&self.hub, self.vip, name, last)
    }

    /// A second link, with cables to both directors.
    pub(super) fn back(&self) {
        self.hub.ip("link add link1 type bridge mcast_snooping 0\nlink set link1 up");
        for name in ["one-b", "two-b"] {
            self.hub.cable(&self.lab, [name, &format!("port-{name}")]);
            self.hub.ip(&format!("link set port-{name} master link1"));
        }
    }

    /// A cable from a place to the second link.
    pub(super) fn join_back(&self, place: &Place, name: &'static str, last: u8) {
        join(&self.hub, place, name);
        self.hub.ip(&format!("link set port-{name} master link1"));
        place.ip(&format!("addr add 10.1.0.{last}/24 dev {name}"));
    }

    /// A place with keepalived's address that answers for the VIP when it has it.
    pub(super) fn place(&self, name: &'static str, last: u8) -> Place {
        let place = Place::new();
        join(&self.hub, &place, name);
        place.ip(&format!(
            "addr add 192.0.2.{last}/24 dev {name}\naddr add 2001:db8::{last}/64 dev {name} nodad"
        ));
        serve(&place);
        place
    }

    /// A director on one of the two cables.
    pub(super) fn director(&self, lab: &Lab, name: &str, last: u8, vrrp: &str) -> Director {
        let director = Director::start(lab, &self.configuration(lab, name, last, vrrp));
        director.wait_resolved();
        director
    }

    pub(super) fn configuration(&self, lab: &Lab, name: &str, last: u8, vrrp: &str) -> String {
        let vip = self.vip;
        let (listen, real) = if vip.is_ipv4() {
            (format!("{vip}:80"), "192.0.2.20")
        } else {
            (format!("[{vip}]:80"), "2001:db8::20")
        };
        format!(
            "{}\n[[nic]]\nname = \"front\"\ndevice = \"af_packet:{name}\"\n\
             addresses = [\"192.0.2.{last}/24\", \"2001:db8::{last}/64\"]\n\
             [[service]]\nname = \"web\"\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nscheduler = \"mh\"\n\
             real = [{{ address = \"{real}\" }}]\n\
             [[vrrp]]\nname = \"VI_1\"\nnic = \"front\"\nvrid = 51\naddresses = [\"{vip}\"]\n{vrrp}\n",
            lab.runtime(1, "connections = 4096")
        )
    }

    /// The cable of a box is pulled out at the link's end.
    pub(super) fn cut(&self, name: &str) {
        self.hub.ip(&format!("link set port-{name} down"));
    }

    /// How long until a connection that begins after `since` is answered.
    pub(super) fn pause(&self, since: Instant) -> Duration {
        let to = SocketAddr::new(self.vip, 80);
        self.hub.run(move || {
            let (answers, answered) = channel();
            loop {
                let answers = answers.clone();
                std::thread::spawn(move || {
                    if answer(to) {
                        let _ = answers.send(Instant::now());
                    }
                });
                if let Ok(at) = answered.recv_timeout(ATTEMPT_INTERVAL) {
                    return at.saturating_duration_since(since);
                }
                assert!(since.elapsed() < OUTAGE_MAX, "nobody answers for {to}");
            }
        })
    }
}

/// A client that begins a connection every ten milliseconds, until it is dropped.
pub(super) struct Client {
    /// When each that was answered began, and when it was.
    answers: Arc<Mutex<Vec<(Instant, Instant)>>>,
    ends: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn new(link: &Link) -> Self {
        let client = Self { answers: Arc::default(), ends: Arc::default() };
        let (to, answers, ends) =
            (SocketAddr::new(link.vip, 80), client.answers.clone(), client.ends.clone());
        link.hub.run(move || {
            // Threads of the place's thread are in the place.
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let answers = answers.clone();
                    std::thread::spawn(move || {
                        let begun = Instant::now();
                        if answer(to) {
                            answers.lock().unwrap().push((begun, Instant::now()));
                        }
                    });
                    std::thread::sleep(ATTEMPT_INTERVAL);
                }
            })
        });
        client.wait_answered(Instant::now());
        client
    }

    /// Waits for an answer to a connection that began after `since`.
    pub(super) fn wait_answered(&self, since: Instant) {
        wait_for("an answer", || {
            let answers = self.answers.lock().unwrap();
            answers.iter().any(|(begun, _)| *begun > since).then_some(()).ok_or("nobody answers for the VIP")
        });
    }

    /// The longest time without an answer: from the last one before `since` on.
    pub(super) fn pause(&self, since: Instant) -> Duration {
        let mut at: Vec<Instant> = self.answers.lock().unwrap().iter().map(|(_, at)| *at).collect();
        at.sort_unstable();
        let first = at.partition_point(|at| *at < since).saturating_sub(1);
        at[first..].windows(2).map(|pair| pair[1] - pair[0]).max().expect("answers")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// A place that takes packets for the VIP and lets nobody know.
fn real_server(hub: &Place, vip: IpAddr, name: &'static str, last: u8) -> Place {
    let real = Place::new();
    join(hub, &real, name);
    real.run(|| {
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            shunt_tests::topology::set_kernel(&format!("ipv4/conf/all/{key}"), value);
        }
    });
    real.ip(&format!(
        "addr add 192.0.2.{last}/24 dev {name}\naddr add 2001:db8::{last}/64 dev {name} nodad\naddr add {vip} dev lo"
    ));
    serve(&real);
    real
}

/// A cable from a place to the link.
pub(super) fn join(hub: &Place, place: &Place, name: &'static str) {
    let thread = place.run(nix::unistd::gettid);
    hub.ip(&format!(
        "link add port-{name} type veth peer name {name} netns {thread}\nlink set port-{name} up\nlink set port-{name} master link0"
    ));
    hub.ethtool(&["-K", &format!("port-{name}"), "tx", "off"]);
    place.ip(&format!("link set lo up\nlink set {name} up"));
    place.ethtool(&["-K", name, "tx", "off"]);
}

/// Answers each connection to port 80 with a byte.
pub(super) fn serve(place: &Place) {
    place.run(|| {
        let listener = TcpListener::bind("[::]:80").expect("port 80");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"!");
            }
        });
    });
}

pub(super) fn answer(to: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(3)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(3))).is_ok() && stream.read_exact(&mut [0]).is_ok()
}
