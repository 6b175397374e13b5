//! What goes around the director of a soak.
//!
//! ```text
//! clients 198.51.100.1 … ─ f0 ── front 192.0.2.2 [director] 10.1.0.1 back ── b0 ─ real servers 10.1.0.11 to 13
//!                        └─ c0 ─────────── answers of DR ──────────── r0 ─┘
//! ```
//!
//! Clients and real servers are kernels that speak TCP. The real servers' echo never ends; what a check asks is a listener of
//! its own, so that a real server can fail its check while its connections live.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use shunt::api::status::{Real, RealState};
use socket2::{Domain, Socket, Type};

use crate::topology::carried::{Carried, Pace, echo};
use crate::topology::director::Director;
use crate::topology::place::Place;
use crate::topology::{Lab, set_kernel};

/// Real servers.
pub const REALS: [u8; 3] = [11, 12, 13];
/// The port of the services and of the echo.
const ECHO: u16 = 7;
/// The port that checks ask.
const HEALTH: u16 = 99;
/// Clients of NAT; those of DR follow [`DR_FIRST`].
const CLIENTS: u8 = 8;
const DR_FIRST: u8 = 128;
/// Connections that are kept open at most.
const CARRIED_MAX: usize = 48;
/// A connection is given up when nothing came for so long: longer than any operation takes, and TCP's own pauses after it.
const PACE: Pace = Pace { patience: Duration::from_secs(60), pause: Duration::from_millis(50) };
/// How long a request of a new client may take, with the kernel's second SYN.
const REQUEST_MAX: Duration = Duration::from_secs(8);

/// A service of the soak, as its clients see it.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// NAT over IPv4.
    Nat4,
    /// NAT over IPv6.
    Nat6,
    /// DR over IPv4.
    Dr4,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nat4, Self::Nat6, Self::Dr4];

    fn listen(self) -> SocketAddr {
        let address: IpAddr = match self {
            Self::Nat4 => Ipv4Addr::new(192, 0, 2, 10).into(),
            Self::Nat6 => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10).into(),
            Self::Dr4 => Ipv4Addr::new(192, 0, 2, 11).into(),
        };
        SocketAddr::new(address, ECHO)
    }

    fn client(self, number: u8) -> IpAddr {
        match self {
            Self::Nat4 => Ipv4Addr::new(198, 51, 100, 1 + number).into(),
            Self::Nat6 => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1 + u16::from(number)).into(),
            Self::Dr4 => Ipv4Addr::new(198, 51, 100, DR_FIRST + number).into(),
        }
    }
}

/// What the configuration says of the real servers now.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Their weights.
    pub weights: [u8; 3],
    /// Whether each is there.
    pub present: [bool; 3],
}

/// Everything around the director, and the director.
#[derive(Debug)]
pub struct World {
    /// The director's namespace.
    pub lab: Lab,
    /// The clients.
    pub clients: Place,
    /// The real servers.
    pub reals: Place,
    /// The director.
    pub director: Director,
    /// What holds now.
    pub rules: Rules,
    health: [Option<Health>; 3],
    carried: Vec<(Service, Carried)>,
    /// Connections that have ended.
    pub ended: u32,
    /// Blocks that these carried.
    pub blocks: u64,
    next: u8,
}

impl World {
    /// Built, and the director serves.
    ///
    /// # Panics
    /// When something is missing on this machine, or the director does not start.
    #[must_use]
    pub fn new() -> Self {
        let (lab, clients, reals) = (Lab::new(), Place::new(), Place::new());
        clients.ip("link set lo up");
        for number in 0..CLIENTS {
            for service in Service::ALL {
                let address = service.client(number);
                clients.ip(&format!("addr add {address} dev lo"));
            }
        }
        plug_front(&lab, &clients);
        reals.cable(&lab, ["back", "b0"]);
        reals.cable_to(&clients, "r0", "c0");
        clients.ip("addr add 10.9.0.1/30 dev c0");
        let addresses = REALS.map(|last| {
            format!("addr add 10.1.0.{last}/24 dev b0\naddr add 2001:db8:1::{last}/64 dev b0 nodad\n")
        });
        reals.run(|| {
            for key in ["arp_ignore", "arp_announce"] {
                set_kernel(&format!("ipv4/conf/b0/{key}"), if key == "arp_ignore" { "1" } else { "2" });
            }
        });
        reals.ip(&format!(
            "{}addr add 192.0.2.11/32 dev lo\naddr add 10.9.0.2/30 dev r0\nroute add default via 10.1.0.1\n\
             route add 198.51.100.{DR_FIRST}/25 via 10.9.0.1\nroute add default via 2001:db8:1::1",
            addresses.concat()
        ));
        for (number, last) in REALS.into_iter().enumerate() {
            for address in real_addresses(last) {
                echo(&reals, SocketAddr::new(address, ECHO), number as u8);
            }
        }
        echo(&reals, Service::Dr4.listen(), REALS.len() as u8);
        let health = REALS.map(|last| Some(Health::begin(&reals, last)));
        let rules = Rules { weights: [1, 1, 1], present: [true; 3] };
        let director = Director::start(&lab, &configuration(&lab, &rules));
        director.wait_resolved();
        Self {
            lab,
            clients,
            reals,
            director,
            rules,
            health,
            carried: Vec::new(),
            ended: 0,
            blocks: 0,
            next: 0,
        }
    }

    /// The configuration of what holds now.
    #[must_use]
    pub fn configuration(&self) -> String {
        configuration(&self.lab, &self.rules)
    }

    /// Reloads with what holds now.
    ///
    /// # Errors
    /// What the command says when it is refused.
    pub fn reload(&self) -> Result<(), String> {
        self.director.rewrite(&self.configuration());
        let said = self.director.command(&self.lab, &["reload"]);
        if said.code == Some(0) { Ok(()) } else { Err(format!("reload: {said:?}")) }
    }

    /// Opens connections that are kept open, up to a bound.
    pub fn open(&mut self, service: Service, count: usize) {
        for _ in 0..count.min(CARRIED_MAX - self.carried.len()) {
            self.next = (self.next + 1) % CLIENTS;
            let from = service.client(self.next);
            self.carried.push((service, Carried::begin(&self.clients, from, service.listen(), PACE)));
        }
    }

    /// Ends so many of them, the oldest first, and waits for their ends.
    ///
    /// # Errors
    /// What broke one.
    pub fn close(&mut self, count: usize) -> Result<(), String> {
        let ending: Vec<_> = self.carried.drain(..count.min(self.carried.len())).collect();
        ending.iter().for_each(|(_, one)| one.end());
        let ended: Vec<_> = ending.into_iter().map(|one| self.count(one)).collect();
        ended.into_iter().collect()
    }

    /// Ends all of them.
    ///
    /// # Errors
    /// What broke one.
    pub fn close_all(&mut self) -> Result<(), String> {
        self.close(self.carried.len())
    }

    /// Connections that ended without being told to, and by what.
    pub fn broken(&mut self) -> Vec<String> {
        let (over, open): (Vec<_>, Vec<_>) = self.carried.drain(..).partition(|(_, one)| one.is_over());
        self.carried = open;
        over.into_iter().filter_map(|one| self.count(one).err()).collect()
    }

    fn count(&mut self, (service, one): (Service, Carried)) -> Result<(), String> {
        self.ended += 1;
        self.blocks += u64::from(one.blocks());
        one.ended().map(drop).map_err(|error| format!("a connection of {service:?}: {error}"))
    }

    /// A new client of each service asks: how many did, and what failed.
    pub fn requests(&mut self) -> (u32, Vec<String>) {
        self.next = (self.next + 1) % CLIENTS;
        let number = self.next;
        let asked = Service::ALL.map(|service| {
            self.clients.run(move || {
                std::thread::spawn(move || {
                    request(service.client(number), service.listen())
                        .map_err(|error| format!("{service:?} from {}: {error}", service.client(number)))
                })
            })
        });
        let failed = asked.map(|thread| thread.join().expect("a client")).into_iter().filter_map(Result::err);
        (Service::ALL.len() as u32, failed.collect())
    }

    /// A real server stops to answer its checks, or begins to.
    pub fn set_health(&mut self, number: usize, well: bool) {
        self.health[number] = match self.health[number].take() {
            None if well => Some(Health::begin(&self.reals, REALS[number])),
            Some(one) if well => Some(one),
            _ => None,
        };
    }

    /// Whether each service has another real server that is well, and that the director takes for well: it hears of one that fails
    /// a moment later.
    #[must_use]
    pub fn others_are_up(&self, number: usize) -> bool {
        let well = (0..REALS.len()).filter(|&other| other != number && self.health[other].is_some());
        let places = well.flat_map(|other| real_addresses(REALS[other]));
        let others: Vec<String> = places.map(|address| SocketAddr::new(address, ECHO).to_string()).collect();
        let status = self.director.status();
        let is_up = |real: &Real| real.state == RealState::Up && others.contains(&real.address);
        status.services.iter().all(|service| service.reals.iter().any(is_up))
    }

    /// Everything as it was at the start: all real servers well and there.
    ///
    /// # Panics
    /// When the director does not take it.
    pub fn mend(&mut self) {
        for number in 0..REALS.len() {
            self.set_health(number, true);
        }
        self.rules = Rules { weights: [1, 1, 1], present: [true; 3] };
        self.reload().expect("the rules of the start");
        self.director.wait_until("all real servers up", |status| {
            status.services.iter().flat_map(|one| &one.reals).all(|real| real.state == RealState::Up)
        });
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the cable in front, and what the clients' side of it needs.
pub fn plug_front(lab: &Lab, clients: &Place) {
    clients.cable(lab, ["front", "f0"]);
    clients.ip("addr add 192.0.2.1/24 dev f0\naddr add 2001:db8:f::1/64 dev f0 nodad");
}

fn configuration(lab: &Lab, rules: &Rules) -> String {
    let reals = |form: &dyn Fn(u8) -> String| {
        let there = REALS.iter().zip(rules.weights).zip(rules.present).filter(|(_, present)| *present);
        let lines = there
            .map(|((last, weight), _)| format!("{{ address = \"{}\", weight = {weight} }}", form(*last)));
        lines.collect::<Vec<_>>().join(", ")
    };
    let v4 = |last: u8| format!("10.1.0.{last}:{ECHO}");
    let v6 = |last: u8| format!("[2001:db8:1::{last}]:{ECHO}");
    let service = |name: &str, service: Service, scheduler: &str, forward: &str, reals: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"{}\"\nprotocol = \"tcp\"\nscheduler = \"{scheduler}\"\n\
             forward = \"{forward}\"\n\
             check = {{ kind = \"tcp\", port = {HEALTH}, interval = \"500ms\", timeout = \"3s\", fall = 2, rise = 1 }}\n\
             real = [{reals}]\n",
            service.listen()
        )
    };
    [
        lab.runtime(1, "connections = 16384"),
        "[[nic]]\nname = \"front\"\ndevice = \"af_packet:front\"\naddresses = [\"192.0.2.2/24\", \"2001:db8:f::2/64\"]\n\
         gateway = [\"192.0.2.1\", \"2001:db8:f::1\"]\n\
         [[nic]]\nname = \"back\"\ndevice = \"af_packet:back\"\naddresses = [\"10.1.0.1/24\", \"2001:db8:1::1/64\"]\n"
            .to_owned(),
        service("nat4", Service::Nat4, "rr", "nat", &reals(&v4)),
        service("nat6", Service::Nat6, "wrr", "nat", &reals(&v6)),
        service("dr4", Service::Dr4, "wlc", "dr", &reals(&v4)),
    ]
    .concat()
}

/// Of both families.
fn real_addresses(last: u8) -> [IpAddr; 2] {
    [Ipv4Addr::new(10, 1, 0, last).into(), format!("2001:db8:1::{last}").parse().expect("an address")]
}

fn request(from: IpAddr, to: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), REQUEST_MAX)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(REQUEST_MAX))?;
    stream.read_exact(&mut [0])
}

/// What a check asks; it is gone when dropped.
#[derive(Debug)]
struct Health(Vec<(TcpListener, JoinHandle<()>)>);

impl Health {
    fn begin(reals: &Place, last: u8) -> Self {
        let listen = |address| {
            let listener = TcpListener::bind((address, HEALTH)).expect("a port");
            let other = listener.try_clone().expect("a descriptor");
            // It accepts until it is shut down.
            (listener, std::thread::spawn(move || while other.accept().is_ok() {}))
        };
        Self(real_addresses(last).map(|address| reals.run(move || listen(address))).into())
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        for (listener, thread) in self.0.drain(..) {
            shutdown(listener.as_raw_fd(), Shutdown::Both).expect("a listener");
            thread.join().expect("a thread that accepts");
        }
    }
}
