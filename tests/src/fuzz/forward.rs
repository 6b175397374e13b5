//! The data path with any configuration and any frames: nothing panics, books balance, frames are well formed, and none leaves
//! for a host that the configuration does not send it to.

use std::time::Duration;

use shunt_dataplane::address::Family;
use shunt_dataplane::forward::BURST_MAX;
use shunt_dataplane::forwarding::{End, ForwardRule};
use shunt_dataplane::id::{L4Port, Protocol, WorkerId};
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::service::schedulers::{Flags, Scheduler};
use shunt_dataplane::service::tunnel::{Tunnel, TunnelChecksum};
use shunt_dataplane::service::{Method, Persistence, Settings, Thresholds};
use shunt_dataplane::snapshot::{NeighbourPlan, Plan, RealPlan, ServicePlan, Sysctls};
use shunt_dataplane::time::Ticks;

use super::bytes::Bytes;
use super::frames::Frames;
use crate::director::{Arrival, Director};
use crate::invariants;
use crate::network::{self, BACK, FRONT, Form, REALS};

/// Connections of either family that fit.
const CAPACITIES: [u32; 4] = [256, 8, 1, 64];
/// Bytes that are free around a frame: as in an mbuf, and less than some rewriting takes.
const ROOMS: [(usize, usize); 4] = [(128, 256), (128, 0), (20, 32), (0, 0)];
/// Steps of an input.
const STEPS_MAX: usize = 64;

/// Takes an input.
pub fn run(input: &[u8]) {
    let bytes = &mut Bytes::new(input);
    let workers = 1 + bytes.below(3);
    let (head, tail) = bytes.one_of(&ROOMS);
    let mut director = Director::new(workers, bytes.one_of(&CAPACITIES), plan(bytes)).with_room(head, tail);
    let mut frames = Frames::default();
    let mut burst: Vec<Arrival> = Vec::new();
    let together = 1 + usize::from(bytes.below(8));
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() {
            0..16 => {
                play(&mut director, &mut burst, bytes, &mut frames);
                director.publish(|plan| edit(bytes, plan));
            }
            16..28 => {
                play(&mut director, &mut burst, bytes, &mut frames);
                director.advance(pause(bytes));
            }
            kind => frames.next(kind, bytes, &mut burst),
        }
        if burst.len() >= together {
            play(&mut director, &mut burst, bytes, &mut frames);
        }
    }
    play(&mut director, &mut burst, bytes, &mut frames);
    invariants::books_balance(&director);
}

/// Gives a burst to a worker's queue and looks at what comes of it.
fn play(director: &mut Director, burst: &mut Vec<Arrival>, bytes: &mut Bytes<'_>, frames: &mut Frames) {
    let queue = WorkerId(bytes.below(director.workers().len() as u8));
    for arrivals in burst.chunks(BURST_MAX) {
        for (outcome, arrival) in director.burst(queue, arrivals).iter().zip(arrivals) {
            invariants::well_formed(director.plan(), outcome);
            invariants::leaves_for_its_own(director.plan(), arrival, outcome);
            invariants::nothing_passes_without_rules(director.plan(), arrival, outcome);
            frames.saw(outcome);
        }
    }
    burst.clear();
    invariants::books_balance(director);
}

/// A little time, or enough for some timeout.
fn pause(bytes: &mut Bytes<'_>) -> Duration {
    bytes.one_of(&[10, 100, 1000, 11_000, 31_000, 61_000, 121_000].map(Duration::from_millis))
}

/// The network of the tests with services by the bytes.
fn plan(bytes: &mut Bytes<'_>) -> Plan {
    let mut services: Vec<ServicePlan> = Vec::new();
    for _ in 0..1 + bytes.below(4) {
        let service = service(bytes);
        let taken =
            |other: &ServicePlan| (other.listen, other.protocol) == (service.listen, service.protocol);
        if !services.iter().any(taken) {
            services.push(service);
        }
    }
    let mut plan = network::plan(services);
    plan.sysctls = sysctls(bytes);
    plan.replies_per_second = bytes.one_of(&[1_000_000, 0, 3]);
    plan.nics[BACK.index()].mtu = bytes.one_of(&[1500, 1280, 1400]);
    let rule = |bytes: &mut Bytes<'_>| MarkRule {
        mark: Mark::new(1 + u32::from(bytes.below(2))).expect("a mark"),
        to: None,
        from: None,
        protocol: None,
        ports: 0..=u16::MAX,
        nic: bytes.flag().then_some(FRONT),
    };
    plan.marks = (0..bytes.below(3)).map(|_| rule(bytes)).collect();
    // By what was drawn before, so that saved inputs mean what they meant.
    let which = plan.services.len() + 2 * plan.marks.len();
    let inwards = ForwardRule { from: End::Nic(FRONT), to: End::Nic(BACK), both: which % 2 == 0 };
    plan.forwards = [vec![], vec![network::everything_passes()], vec![inwards]][which % 3].clone();
    plan.nics.iter_mut().for_each(|nic| nic.reverse_path = ReversePath::ALL[which % 4]);
    plan
}

fn sysctls(bytes: &mut Bytes<'_>) -> Sysctls {
    let mut sysctls = Sysctls::default();
    for _ in 0..bytes.below(4) {
        let name = bytes.one_of(Sysctls::NAMES);
        // A rate of 0 is none that a file can say.
        let least = u32::from(name == "am_droprate");
        let known = sysctls.set(name, u32::from(bytes.below(4)).clamp(least, Sysctls::bounds(name).0));
        assert!(known, "{name}");
    }
    sysctls
}

fn service(bytes: &mut Bytes<'_>) -> ServicePlan {
    let form = bytes.one_of(&Form::BOTH);
    let protocol = bytes.one_of(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let scheduler = bytes.one_of(Scheduler::ALL);
    let netmask = bytes.one_of(if form == Form::V4 { &[32, 24, 8] } else { &[128, 64, 16] });
    let timeout = Ticks::from_seconds(bytes.one_of(&[60, 2]));
    let persistence = bytes.flag().then_some(Persistence { timeout, netmask });
    let mut service = network::service(form, protocol, bytes.one_of(&[80, 81, 82]), scheduler, Method::Dr, 0);
    match bytes.below(8) {
        0 if persistence.is_some() => service.listen.set_port(0),
        1 => {
            let family = if form == Form::V4 { Family::V4 } else { Family::V6 };
            service.listen = Mark::new(1 + u32::from(bytes.below(2))).expect("a mark").listen(family);
        }
        _ => {}
    }
    service.settings = Settings {
        flags: Flags { fallback: bytes.flag(), port: bytes.flag(), third: false },
        one_packet: protocol == Protocol::Udp && bytes.flag(),
        persistence,
        mss_clamp: bytes.flag(),
        ..Settings::default()
    };
    for _ in 0..bytes.below(REALS + 1) {
        let real = real(bytes, form, service.listen.port());
        if service.reals.iter().all(|other| other.address != real.address) {
            service.reals.push(real);
        }
    }
    service
}

fn real(bytes: &mut Bytes<'_>, form: Form, l4_port: u16) -> RealPlan {
    let method = bytes.one_of(&[Method::Dr, Method::Nat, Method::Tun]);
    let number = 1 + bytes.below(REALS);
    let checksum = bytes.one_of(&[TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]);
    let tunnel = match bytes.below(3) {
        1 => Tunnel::Gre { checksum: checksum != TunnelChecksum::None },
        2 => Tunnel::Gue { l4_port: L4Port(5555), checksum },
        _ => Tunnel::Ipip,
    };
    // A tunnel may be of the other family; the director itself may serve by DR.
    let other = method == Method::Tun && bytes.flag();
    let of = if other { if form == Form::V4 { Form::V6 } else { Form::V4 } } else { form };
    let own = method == Method::Dr && bytes.below(8) == 7;
    let address = if own { of.own(BACK).to_owned() } else { of.real(number) };
    let port = if method == Method::Nat && l4_port != 0 { 8000 + l4_port } else { l4_port };
    RealPlan {
        address: (address.parse::<std::net::IpAddr>().expect("an address"), port).into(),
        method,
        tunnel,
        weight: bytes.one_of(&[1, 0, 2, 7]),
        thresholds: Thresholds { upper: bytes.below(4).into(), lower: bytes.below(3).into() },
        up: bytes.below(8) != 7,
    }
}

/// One change to a running configuration.
fn edit(bytes: &mut Bytes<'_>, plan: &mut Plan) {
    let count = plan.services.len() as u8;
    let place = usize::from(bytes.below(count));
    match bytes.below(10) {
        0 => {
            let new = service(bytes);
            let same = |other: &ServicePlan| (other.listen, other.protocol) == (new.listen, new.protocol);
            plan.services.retain(|other| !same(other));
            plan.services.push(new);
        }
        1 if count > 0 => drop(plan.services.remove(place)),
        2 => plan.sysctls = sysctls(bytes),
        3 => {
            let neighbour: NeighbourPlan = bytes.one_of(&all_neighbours().iter().collect::<Vec<_>>()).clone();
            let before = plan.neighbours.len();
            plan.neighbours.retain(|other| *other != neighbour);
            if plan.neighbours.len() == before {
                plan.neighbours.push(neighbour);
            }
        }
        4 => plan.nics[BACK.index()].mtu = bytes.one_of(&[1500, 1280, 1400]),
        _ if count > 0 => {
            let form = if plan.services[place].listen.is_ipv4() { Form::V4 } else { Form::V6 };
            let new = real(bytes, form, plan.services[place].listen.port());
            let reals = &mut plan.services[place].reals;
            match reals.iter().position(|other| other.address == new.address) {
                Some(old) if bytes.flag() => drop(reals.remove(old)),
                Some(old) => reals[old] = new,
                None => reals.push(new),
            }
        }
        _ => {}
    }
}

fn all_neighbours() -> Vec<NeighbourPlan> {
    network::plan(Vec::new()).neighbours
}
