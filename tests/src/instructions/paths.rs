//! The ways of a packet that are counted, each with the packets that take it.

use shunt::bench::rig::{self, Lifetime};
use shunt::bench::traffic::{Draw, FrameSize, Kind, Traffic};
use shunt::bench::{self, Shape};
use shunt_dataplane::address::Family;
use shunt_dataplane::forward::{BURST_MAX, Punt, Verdict};
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;

use crate::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use crate::packets::{Ip, Tcp, ethernet, frame};

/// Connections that are open in the paths of the baseline.
pub const FLOWS: u32 = 3680;
/// Packets counted of each path.
const PACKETS: usize = 32 * BURST_MAX;
/// Real servers of the service.
const REALS: u32 = 10;

/// Packets that all go the same way.
#[derive(Clone, Debug)]
pub struct Path {
    /// Its name in the baseline.
    pub name: String,
    /// The configuration.
    pub plan: Plan,
    /// Frames that come first and are not counted.
    pub before: Vec<Vec<u8>>,
    /// Frames that are counted.
    pub frames: Vec<Vec<u8>>,
    /// Where the counted frames arrive; those before them arrive at NIC 0.
    pub nic: NicId,
    /// Frames in a burst.
    pub burst: usize,
    /// What becomes of each counted frame.
    pub expected: fn(Verdict) -> bool,
    /// Connections when all is over.
    pub connections: u32,
    /// Connections that the table has room for.
    pub capacity: u32,
    /// Packets that were taken for real servers' answers when all is over.
    pub answers: usize,
}

/// What the worker's loop is counted with.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Its name in the baseline.
    pub name: &'static str,
    /// What passes through it.
    pub shape: Shape,
}

/// All paths of the data path, with so many open connections in tables that are nine tenths full. At least [`FLOWS`].
#[must_use]
pub fn all(flows: u32) -> Vec<Path> {
    let mut paths = Vec::new();
    for family in [Family::V4, Family::V6] {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for method in [Method::Dr, Method::Nat, Method::Tun] {
                paths.push(established(flows, method, family, protocol, Kind::Request));
                if method == Method::Nat {
                    paths.push(established(flows, method, family, protocol, Kind::Answer));
                }
                paths.push(new(flows, method, family, protocol));
            }
            paths.push(flood(flows, family, protocol));
        }
    }
    let alone = established(flows, Method::Dr, Family::V4, Protocol::Udp, Kind::Request);
    paths.push(Path { name: format!("{}, one by one", alone.name), burst: 1, ..alone });
    for form in Form::BOTH {
        paths.extend([reset(form), unreachable(form), ping(form), routed(form)]);
    }
    paths.push(arp());
    paths
}

/// What the worker's loop is counted with: [`Forwarder::burst`](shunt_dataplane::forward::Forwarder::burst) and all that
/// surrounds it, between NICs made of rings.
#[must_use]
pub fn turns() -> [Turn; 2] {
    let turn = |name, method, family, protocol| Turn { name, shape: shape(method, family, protocol) };
    [
        turn("worker's turn, dr ipv4 udp", Method::Dr, Family::V4, Protocol::Udp),
        turn("worker's turn, nat ipv6 tcp request", Method::Nat, Family::V6, Protocol::Tcp),
    ]
}

const fn shape(method: Method, family: Family, protocol: Protocol) -> Shape {
    let frame = FrameSize::Bytes(64);
    Shape {
        method,
        family,
        protocol,
        frame,
        services: 1,
        reals: REALS,
        scheduler: Scheduler::Rr,
        new_share: 0,
        burst: BURST_MAX,
    }
}

fn named(shape: &Shape, what: &str) -> String {
    let family = if shape.family == Family::V4 { "ipv4" } else { "ipv6" };
    format!("{} {family} {} {what}", shape.method, shape.protocol).to_lowercase()
}

fn traffic(shape: &Shape) -> Traffic {
    let mut traffic = Traffic::new(shape.family, shape.protocol, shape.frame, shape.services, shape.reals);
    // rr begins with the real server added last.
    traffic.order.reverse();
    traffic
}

const fn sent(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Send(_))
}

/// Frames of all flows, each kind in turn.
fn frames(traffic: &Traffic, kinds: &[Kind], flows: u32) -> Vec<Vec<u8>> {
    kinds.iter().flat_map(|&kind| (0..flows).map(move |flow| traffic.frame(kind, 0, flow))).collect()
}

/// Packets of open connections, drawn at random.
fn established(flows: u32, method: Method, family: Family, protocol: Protocol, kind: Kind) -> Path {
    let shape = shape(method, family, protocol);
    let traffic = traffic(&shape);
    let kinds: &[Kind] = match method {
        Method::Nat => &[Kind::Opening, Kind::Answer, Kind::Request],
        Method::Dr | Method::Tun => &[Kind::Opening, Kind::Request],
    };
    let mut draw = Draw::new(flows, 42);
    let what = match (method, kind) {
        (Method::Nat, Kind::Answer) => "answer",
        (Method::Nat, _) => "request",
        _ => "established",
    };
    Path {
        name: named(&shape, what),
        plan: rig::plan(&shape, Lifetime::Usual),
        before: frames(&traffic, kinds, flows),
        frames: (0..PACKETS).map(|_| traffic.frame(kind, 0, draw.flow())).collect(),
        nic: NicId(0),
        burst: BURST_MAX,
        expected: sent,
        connections: flows,
        capacity: bench::capacity_for(flows, 0),
        answers: match (method, kind) {
            (Method::Nat, Kind::Answer) => flows as usize + PACKETS,
            (Method::Nat, _) => flows as usize,
            _ => 0,
        },
    }
}

/// First packets of connections that fill the table up to nine tenths.
fn new(flows: u32, method: Method, family: Family, protocol: Protocol) -> Path {
    let shape = shape(method, family, protocol);
    let traffic = traffic(&shape);
    let open = flows - PACKETS as u32;
    Path {
        name: named(&shape, "new"),
        plan: rig::plan(&shape, Lifetime::Usual),
        before: frames(&traffic, &[Kind::Opening], open),
        frames: (open..flows).map(|flow| traffic.frame(Kind::Opening, 0, flow)).collect(),
        nic: NicId(0),
        burst: BURST_MAX,
        expected: sent,
        connections: flows,
        capacity: bench::capacity_for(flows, 0),
        answers: 0,
    }
}

/// First packets of connections for which a full table has no room.
fn flood(flows: u32, family: Family, protocol: Protocol) -> Path {
    let shape = shape(Method::Dr, family, protocol);
    let traffic = traffic(&shape);
    let capacity = bench::capacity_for(flows, 0);
    let strange = capacity..capacity + PACKETS as u32;
    Path {
        name: named(&shape, "flood against a full table"),
        plan: rig::plan(&shape, Lifetime::Usual),
        before: frames(&traffic, &[Kind::Opening, Kind::Request], capacity),
        frames: strange.map(|flow| traffic.frame(Kind::Opening, 0, flow)).collect(),
        nic: NicId(0),
        burst: BURST_MAX,
        expected: |verdict| verdict == Verdict::Drop(DropReason::TableFull),
        connections: capacity,
        capacity,
        answers: 0,
    }
}

/// The same packet again and again, of no service.
fn plain(name: &str, nic: NicId, frame: Vec<u8>, expected: fn(Verdict) -> bool) -> Path {
    Path {
        name: name.to_owned(),
        plan: Plan { forwards: vec![network::everything_passes()], ..network::plan(Vec::new()) },
        before: Vec::new(),
        frames: vec![frame; PACKETS],
        nic,
        burst: BURST_MAX,
        expected,
        connections: 0,
        capacity: 64,
        answers: 0,
    }
}

const fn word(form: Form) -> &'static str {
    match form {
        Form::V4 => "ipv4",
        Form::V6 => "ipv6",
    }
}

fn from_front(packet: &[u8]) -> Vec<u8> {
    ethernet(nic_mac(FRONT), ROUTER, packet)
}

fn reset(form: Form) -> Path {
    let packet = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40000, 81, "S").numbers(1000, 0));
    plain(&format!("{} tcp without service: RST", word(form)), FRONT, from_front(&packet), |verdict| {
        matches!(verdict, Verdict::Reply(_, ReplyKind::Reset))
    })
}

fn unreachable(form: Form) -> Path {
    let packet = Ip::new(&form.client(1), form.vip()).udp(40000, 81, b"anybody there?");
    plain(&format!("{} udp without service: ICMP error", word(form)), FRONT, from_front(&packet), |verdict| {
        matches!(verdict, Verdict::Reply(_, ReplyKind::PortUnreachable))
    })
}

fn ping(form: Form) -> Path {
    let request = if form == Form::V4 { 8 } else { 128 };
    let packet = Ip::new(&form.client(1), form.vip()).icmp(request, 0, 0x0001_0007, &[7; 56]);
    plain(&format!("{} ping of a VIP", word(form)), FRONT, from_front(&packet), |verdict| {
        matches!(verdict, Verdict::Reply(_, ReplyKind::EchoReply))
    })
}

/// A real server asks somebody outside.
fn routed(form: Form) -> Path {
    let elsewhere = if form == Form::V4 { "203.0.113.9" } else { "2001:db8:ffff::9" };
    let packet = Ip::new(&form.real(1), elsewhere).udp(1000, 53, b"who is it?");
    let frame = ethernet(nic_mac(BACK), real_mac(1), &packet);
    plain(&format!("{} routed", word(form)), BACK, frame, sent)
}

fn arp() -> Path {
    let request = frame(shunt_dataplane::id::Mac::BROADCAST, ROUTER, 0x0806, &[0; 46]);
    plain("arp punted", FRONT, request, |verdict| verdict == Verdict::Punt(Punt::Arp))
}
