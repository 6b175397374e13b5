//! The loop with rings of memory and a real kernel side: its sockets are reached from "the wire", neighbours are
//! resolved, waiting packets go on after the publication and not before. Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.

use std::collections::VecDeque;
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use shunt_dataplane::forward::Punt;
use shunt_dataplane::id::{Mac, WorkerId};
use shunt_dataplane::service::Unresolved;
use shunt_dataplane::wire::ethernet;
use shunt_model::health::ServiceWay;
use shunt_protocol::neighbour::message::{Message, Speaker, reply, request};
use shunt_protocol::neighbour::{Named, Nic, PROBES_MAX, RETRANSMIT, Vip};
use socket2::SockRef;

use super::*;
use crate::kernel::NicSide;
use crate::kernel::service_way::MARK;

const NIC: NicId = NicId(0);
const OWN: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
const REAL: Mac = Mac([2, 0, 0, 0, 0, 0x21]);
const ORIGIN: Origin = Origin { worker: WorkerId(1), nic: NIC };

/// What stands in for workers and the publisher; shared with the test.
#[derive(Default)]
struct World {
    punted: VecDeque<Punted<Vec<u8>>>,
    transmitted: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
    unreachable: Vec<Vec<u8>>,
    published: Vec<(Batch, Vec<Change>)>,
    running: Batch,
    events: Vec<Event>,
    owned: Vec<(NicId, IpAddr)>,
    vrrp: Vec<shunt_protocol::vrrp::Event>,
    full: bool,
    left: VecDeque<(Ticket, Instant)>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn punt(&self, packet: Vec<u8>, punt: Punt) {
        let held = Held { packet, origin: ORIGIN };
        self.world().punted.push_back(Punted { held, punt });
    }
}

impl Rings for Shared {
    type Packet = Vec<u8>;

    fn punted(&mut self) -> Option<Punted<Vec<u8>>> {
        self.world().punted.pop_front()
    }

    fn transmit(&mut self, nic: NicId, frame: &[u8]) -> bool {
        assert_eq!(nic, NIC);
        let mut world = self.world();
        if !world.full {
            world.transmitted.push(frame.to_vec());
        }
        !world.full
    }

    fn transmit_timed(&mut self, nic: NicId, frame: &[u8], _: Ticket) -> bool {
        self.transmit(nic, frame)
    }

    fn left(&mut self) -> Option<(Ticket, Instant)> {
        self.world().left.pop_front()
    }

    fn receive(&mut self, origin: Origin, packet: Vec<u8>) -> bool {
        assert_eq!(origin, ORIGIN);
        let mut world = self.world();
        if !world.full {
            world.received.push(packet);
        }
        !world.full
    }

    fn unreachable(&mut self, origin: Origin, packet: Vec<u8>) -> bool {
        assert_eq!(origin, ORIGIN);
        self.world().unreachable.push(packet);
        true
    }
}

impl Publish for Shared {
    fn publish(&mut self, batch: Batch, changes: Vec<Change>) {
        self.world().published.push((batch, changes));
    }

    fn running(&mut self) -> Batch {
        self.world().running
    }

    fn event(&mut self, event: Event) {
        self.world().events.push(event);
    }

    fn owned(&mut self, vips: Vec<(NicId, IpAddr)>) {
        self.world().owned = vips;
    }

    fn vrrp(&mut self, event: shunt_protocol::vrrp::Event) {
        self.world().vrrp.push(event);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn start() -> (ControlLoop<Shared, Shared>, Control, Shared) {
    let side = NicSide {
        name: "front".into(),
        mac: OWN,
        mtu: 1500,
        addresses: vec!["192.0.2.2/24".parse().unwrap()],
        gateways: Vec::new(),
        routes: Vec::new(),
    };
    let (kernel, _) = Kernel::start(std::slice::from_ref(&side)).unwrap();
    let shared = Shared::default();
    let (control_loop, control) = ControlLoop::new(shared.clone(), shared.clone(), kernel);
    let vip = Vip { nic: None, address: ip("192.0.2.10") };
    control.set_routes(Routes::new(std::slice::from_ref(&side)));
    control.set_owned(vec![Nic { mac: OWN, addresses: side.addresses }], vec![vip]);
    (control_loop, control, shared)
}

#[test]
fn a_packet_waits_for_its_neighbour_and_for_the_publication() {
    let (mut control_loop, control, shared) = start();
    let now = Instant::now();
    let real = Speaker { mac: REAL, address: ip("192.0.2.21") };
    let punt = Punt::Unresolved(Unresolved { nic: NIC, address: real.address });
    shared.punt(vec![1; 60], punt);
    control_loop.turn(now).unwrap();
    let asked = |frame: &Vec<u8>| matches!(Message::parse(frame, OWN), Ok(Message::Request { target, .. }) if target == real.address);
    assert!(shared.world().transmitted.iter().any(asked));
    assert_eq!(control.commands_report(&mut control_loop).held, 1);

    shared.punt(reply(real, ip("192.0.2.2"), OWN), Punt::Arp);
    control_loop.turn(now).unwrap();
    let change = Change { nic: NIC, address: real.address, mac: Some(REAL) };
    assert_eq!(shared.world().published, [(Batch(1), vec![change])]);
    assert_eq!(shared.world().received.len(), 0, "workers do not know the neighbour yet");
    shared.punt(vec![2; 60], punt);
    control_loop.turn(now).unwrap();
    assert_eq!(shared.world().received.len(), 0);
    assert_eq!(control.commands_report(&mut control_loop).held, 2);

    shared.world().running = Batch(1);
    control_loop.turn(now).unwrap();
    assert_eq!(shared.world().received, [vec![1; 60], vec![2; 60]]);
    let report = control.commands_report(&mut control_loop);
    assert_eq!((report.held, report.counters.released, report.counters.to_kernel), (0, 2, 0));
    assert_eq!((report.neighbours.len(), report.neighbours[0].mac), (1, Some(REAL)));
    control.stop();
    assert_eq!(control_loop.turn(now), None);
}

#[test]
fn a_packet_whose_neighbour_is_silent_goes_back_to_its_worker() {
    let (mut control_loop, _control, shared) = start();
    let now = Instant::now();
    shared.punt(vec![1; 60], Punt::Unresolved(Unresolved { nic: NIC, address: ip("192.0.2.21") }));
    control_loop.turn(now).unwrap();
    for second in 1..=PROBES_MAX {
        assert!(shared.world().unreachable.is_empty(), "after {second} questions");
        control_loop.turn(now + second * RETRANSMIT).unwrap();
    }
    assert_eq!(shared.world().unreachable, [vec![1; 60]]);
    assert!(shared.world().received.is_empty());
}

impl Control {
    /// A report from a loop that is turned by the test itself.
    fn commands_report(&self, control_loop: &mut ControlLoop<Shared, Shared>) -> Report {
        thread::scope(|scope| {
            let report = scope.spawn(|| self.report());
            while !report.is_finished() {
                control_loop.turn(Instant::now()).unwrap();
            }
            report.join().unwrap()
        })
    }
}

#[test]
fn full_rings_are_counted() {
    let (mut control_loop, control, shared) = start();
    shared.world().full = true;
    shared.world().running = Batch(1);
    let real = Speaker { mac: REAL, address: ip("192.0.2.21") };
    shared.punt(vec![1; 60], Punt::Unresolved(Unresolved { nic: NIC, address: real.address }));
    shared.punt(reply(real, ip("192.0.2.2"), OWN), Punt::Arp);
    // Too short for an Ethernet header: the kernel refuses it.
    shared.punt(vec![2; 5], Punt::Local);
    let report = control.commands_report(&mut control_loop);
    let counters = control.commands_report(&mut control_loop).counters;
    assert!(counters.transmit_full >= 2, "{report:?}");
    assert_eq!((counters.transmitted, counters.released, counters.release_full), (0, 0, 1));
    assert_eq!((counters.punted, counters.kernel_refused), (3, 1));
}

#[test]
fn frames_of_checks_without_a_way_are_counted() {
    let (mut control_loop, control, _shared) = start();
    let namespace = control_loop.kernel.namespace().clone();
    let ways = control_loop.kernel.ways().clone();
    let socket = namespace.run(|| UdpSocket::bind("192.0.2.2:0").unwrap()).unwrap();
    let send = |count: usize| {
        (0..count).for_each(|_| assert_eq!(socket.send_to(b"x", "192.0.2.10:9").unwrap(), 1));
    };
    let mut counted = |count: u64| {
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < Duration::from_secs(20));
            let Report { counters, checks_waiting, .. } = control.commands_report(&mut control_loop);
            let all = (counters.without_way, checks_waiting as u64, counters.checks_full);
            if all.0 + all.1 + all.2 == count {
                return all;
            }
        }
    };
    SockRef::from(&socket).set_mark(MARK).unwrap();
    send(1);
    assert_eq!(counted(1), (1, 0, 0), "nobody noted the socket");
    let way = Arc::new(ServiceWay { hop: (NIC, ip("192.0.2.21")), tunnel: None });
    ways.take(&SockRef::from(&socket), 17, None, &way).unwrap();
    const ROOM: u64 = service_way::WAITING_MAX as u64;
    send(service_way::WAITING_MAX + 2);
    assert_eq!(counted(3 + ROOM), (1, ROOM, 2));
    // Nobody answers for the real server's address.
    control_loop.turn(Instant::now() + Duration::from_secs(2)).unwrap();
    let Report { counters, checks_waiting, .. } = control.commands_report(&mut control_loop);
    assert_eq!((counters.without_way, checks_waiting), (1 + ROOM, 0));
}

#[test]
fn a_socket_of_the_kernel_side_reaches_the_wire_and_hears_answers() {
    let (mut control_loop, control, shared) = start();
    let namespace = control_loop.kernel.namespace().clone();
    let director = thread::spawn(move || control_loop.run(|| {}));
    let client = thread::spawn(move || {
        namespace.run(|| {
            TcpStream::connect_timeout(&"192.0.2.21:80".parse().unwrap(), Duration::from_secs(20))
                .unwrap_err()
                .kind()
        })
    });
    // The wire: a host that answers ARP and refuses the connection.
    let host = Speaker { mac: REAL, address: ip("192.0.2.21") };
    let begin = Instant::now();
    while !client.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        let frames = std::mem::take(&mut shared.world().transmitted);
        for frame in frames {
            match Message::parse(&frame, REAL) {
                Ok(Message::Request { sender, target, .. }) if target == host.address => {
                    assert_eq!(sender, ip("192.0.2.2"), "never from the VIP");
                    shared.punt(reply(host, sender, OWN), Punt::Arp);
                }
                _ if ethernet::ethertype(&frame) == Some(ethernet::IPV4) => {
                    shared.punt(refusal(&frame), Punt::Local);
                }
                _ => {}
            }
        }
        thread::yield_now();
    }
    assert_eq!(client.join().unwrap().unwrap(), std::io::ErrorKind::ConnectionRefused);
    // Questions about the VIP are answered by the loop while it runs.
    shared.punt(request(host, ip("192.0.2.10"), None), Punt::Arp);
    let answered = |frame: &Vec<u8>| {
        matches!(Message::parse(frame, REAL), Ok(Message::Reply { address, mac: Some(OWN), solicited: true, .. })
            if address == ip("192.0.2.10"))
    };
    while !shared.world().transmitted.iter().any(answered) {
        assert!(begin.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
    control.stop();
    director.join().unwrap();
}

/// Nobody answers for the address: the socket hears of it as of a neighbour of its own kernel's, and no question of that kernel's leaves.
#[test]
fn a_socket_of_the_kernel_side_hears_that_nobody_answers() {
    let (mut control_loop, control, shared) = start();
    let namespace = control_loop.kernel.namespace().clone();
    let director = thread::spawn(move || control_loop.run(|| {}));
    let connect = || {
        namespace.run(|| {
            let to = "192.0.2.33:80".parse().unwrap();
            TcpStream::connect_timeout(&to, Duration::from_secs(20)).unwrap_err().kind()
        })
    };
    assert_eq!(connect().unwrap(), std::io::ErrorKind::HostUnreachable);
    let asked = |frame: &Vec<u8>| match Message::parse(frame, REAL) {
        Ok(Message::Request { sender, target, .. }) => Some((sender, target)),
        _ => None,
    };
    let questions: Vec<_> = shared.world().transmitted.iter().filter_map(asked).collect();
    assert!(questions.contains(&(ip("192.0.2.2"), ip("192.0.2.33"))), "{questions:?}");
    assert!(control.report().counters.own_lost > 0);
    // One that is known not to answer is told at once.
    control.set_named(vec![((NIC, ip("192.0.2.33")), Named::Real)], Vec::new());
    let begin = Instant::now();
    while !shared.world().events.iter().any(|event| matches!(event, Event::Silent { .. })) {
        assert!(begin.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(10));
    }
    let waiting = control.report().own_waiting;
    assert_eq!(connect().unwrap(), std::io::ErrorKind::HostUnreachable);
    assert_eq!((waiting, control.report().own_waiting), (0, 0));
    control.stop();
    director.join().unwrap();
}

/// The RST that refuses a SYN (RFC 9293, 3.10.7.1).
fn refusal(syn: &[u8]) -> Vec<u8> {
    let word = |at: usize| -> [u8; 4] { syn[at..at + 4].try_into().unwrap() };
    let (ip, tcp) = (14, 34);
    let mut frame = Vec::new();
    frame.extend_from_slice(&syn[6..12]);
    frame.extend_from_slice(&syn[..6]);
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(word(ip + 16));
    frame.extend(word(ip + 12));
    frame.extend([syn[tcp + 2], syn[tcp + 3], syn[tcp], syn[tcp + 1], 0, 0, 0, 0]);
    frame.extend((u32::from_be_bytes(word(tcp + 4)) + 1).to_be_bytes());
    frame.extend([0x50, 0x14, 0, 0, 0, 0, 0, 0]);
    let sum = |bytes: &[u8], start: u32| {
        let sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>()
                + start;
        let folded = (sum & 0xffff) + (sum >> 16);
        !((folded & 0xffff) + (folded >> 16)) as u16
    };
    let header = sum(&frame[ip..ip + 20], 0);
    frame[ip + 10..ip + 12].copy_from_slice(&header.to_be_bytes());
    // Addresses, protocol and length are the pseudo header.
    let segment = sum(&frame[ip + 12..], 6 + 20);
    frame[tcp + 16..tcp + 18].copy_from_slice(&segment.to_be_bytes());
    frame
}

/// An advert that did not leave is forgotten; the others keep their times.
#[test]
fn departures_are_told_by_their_tickets() {
    use super::vrrp::{DEPARTURES_MAX, Departures};
    use shunt_model::vrrp::Vrid;
    use shunt_protocol::vrrp::Due;
    let start = Instant::now();
    let due = |number: u64| Due {
        router: (NIC, Vrid(1), shunt_dataplane::address::Family::V4),
        at: start + Duration::from_secs(number),
    };
    let mut departures = Departures::default();
    let tickets: Vec<Ticket> = (0..3).map(|number| departures.expect(due(number))).collect();
    assert_eq!(departures.left(tickets[2]), Some(due(2)));
    assert_eq!(departures.left(tickets[2]), None, "once each");
    assert_eq!(departures.left(tickets[0]), Some(due(0)));
    for number in 0..DEPARTURES_MAX as u64 {
        departures.expect(due(number));
    }
    assert_eq!(departures.left(tickets[1]), None, "it was forgotten");
}
