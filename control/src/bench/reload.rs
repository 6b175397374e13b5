//! A reload under full traffic: the worker forwards on its core while another thread checks a new configuration, compiles
//! and publishes it, as a director does.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shunt_config::Config;
use shunt_dataplane::id::NicId;
use shunt_dataplane::worker::Shared;
use shunt_protocol::neighbour::Change;

use super::measure::{Effort, Others, Spread, timed, timed_turn};
use super::report::{Cell, Verified};
use super::rig::{self, Bench, MTU, Rig};
use super::times::{Quantiles, Times};
use super::traffic::{self, Draw, Kind};
use super::{BenchError, COMPARED, Shape, capacity_for, verify};
use crate::publish::{ACKNOWLEDGE_MAX, Publisher};

/// Between two reloads.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the publisher looks whether the worker runs its generation.
const POLL: Duration = Duration::from_micros(20);

/// What reloads took; each changes the weight of every real server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// How many there were.
    pub reloads: u32,
    /// Bytes of the configuration file.
    pub file_bytes: u64,
    /// Milliseconds from its text to a configuration that passed every check.
    pub parse_ms: Spread,
    /// From that to a compiled snapshot, published.
    pub compile_ms: Spread,
    /// From then until the worker runs it.
    pub acknowledged_ms: Spread,
    /// Until what nobody reads any more is freed.
    pub free_ms: Spread,
    /// Packets forwarded meanwhile.
    pub packets: u64,
    /// Packets that did not come out.
    pub dropped: u64,
    /// Turns meanwhile.
    pub turn_ns: Quantiles,
    /// Nanoseconds for a packet, source and sink included, while nothing is reloaded.
    pub quiet_ns: f64,
    /// And meanwhile.
    pub reloading_ns: f64,
    /// The CPU of the publishing thread; none when there is only the worker's.
    pub control_core: Option<usize>,
}

/// One reload, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    parse: f64,
    compile: f64,
    acknowledge: f64,
    free: f64,
}

/// The configuration that a shape's services would have in a file, every real server with this weight.
#[must_use]
pub fn file(shape: &Shape, weight: u32) -> String {
    let family = shape.family;
    let (clients, length) = traffic::clients(family);
    let bits = if clients.is_ipv4() { 24 } else { 64 };
    let mut text = format!(
        "[[nic]]\nname = \"ring\"\ndevice = \"null:\"\nmtu = {MTU}\naddresses = [\"{}/{bits}\", \"{}\"]\n\n\
         [[route]]\nto = \"{clients}/{length}\"\nvia = \"{}\"\n",
        traffic::own(family),
        traffic::beside_vips(family),
        traffic::router(family)
    );
    for number in 0..shape.services {
        let listen = SocketAddr::new(traffic::vip(family, number), traffic::SERVICE_PORT);
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{}\"\nlisten = \"{listen}\"\nprotocol = \"{}\"\n\
             scheduler = \"{}\"\nforward = \"{}\"\nshare = 100\nreal = [\n",
            rig::service_name(number),
            shape.protocol,
            shape.scheduler,
            shape.method
        );
        for real in 0..shape.reals {
            let address = SocketAddr::new(traffic::real(family, real), traffic::real_port(shape.method));
            let _ = writeln!(text, "  {{ address = \"{address}\", weight = {weight} }},");
        }
        text.push_str("]\n");
    }
    text
}

fn checked(text: &str) -> Result<Config, BenchError> {
    Config::check("bench.toml", text).map(|checked| checked.config).map_err(|problems| {
        let first = problems.to_string().lines().next().unwrap_or_default().to_owned();
        BenchError::new(&format!("the configuration to be reloaded is refused: {first}"))
    })
}

/// Opens `flows` connections and reloads a configuration of the shape's services under their traffic.
///
/// # Errors
/// When a packet is lost, the worker does not run a new configuration, or DPDK refuses something.
pub fn reload(bench: &Bench, shape: &Shape, flows: u32, effort: Effort) -> Result<Cell, BenchError> {
    let files = [1, 2].map(|weight| file(shape, weight));
    let shared = Arc::<Shared>::default();
    let config = checked(&files[0])?;
    let mut publisher =
        Publisher::new(bench.owners(), vec![traffic::DIRECTOR_MAC], vec![shared.clone()], &config);
    let mut neighbour = |address: IpAddr, mac| {
        publisher.set_neighbour(&Change { nic: NicId(0), address, mac: Some(mac) });
    };
    neighbour(traffic::router(shape.family), traffic::ROUTER_MAC);
    for real in 0..shape.reals {
        neighbour(traffic::real(shape.family, real), traffic::real_mac(real));
    }
    publisher.publish(&config);
    let capacity = capacity_for(flows, 0);
    let mut rig = Rig::following(bench, shape, capacity, publisher.snapshots().clone(), shared)?;
    verify::open(&mut rig, flows)?;
    let mut draw = Draw::new(flows, 42);
    let compared = verify::check(&mut rig, shape, Kind::Request, COMPARED, || draw.flow())?;
    let quiet = timed(effort.length, || rig.round(|| (Kind::Request, draw.flow())));

    let done = AtomicBool::new(false);
    let mut reload = Reload {
        reloads: effort.repetitions,
        file_bytes: files[0].len() as u64,
        quiet_ns: rounded(quiet.nanoseconds()),
        ..Reload::default()
    };
    let (core, steps) = thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let core = away_from(bench.core);
            let steps = publish_often(&mut publisher, &files, effort.repetitions);
            done.store(true, Ordering::Release);
            Ok((core, steps?))
        });
        traffic_until(bench, &mut rig, flows, &done, &mut reload);
        publishing.join().unwrap_or_else(|_| Err(BenchError::new("the publishing thread ended by a panic")))
    })?;
    let spread = |value: fn(&Steps) -> f64| Spread::of(steps.iter().map(value).collect());
    reload.parse_ms = spread(|steps| steps.parse);
    reload.compile_ms = spread(|steps| steps.compile);
    reload.acknowledged_ms = spread(|steps| steps.acknowledge);
    reload.free_ms = spread(|steps| steps.free);
    reload.control_core = core;
    if reload.dropped > 0 {
        return Err(BenchError::new(&format!("{} packets were lost: {}", reload.dropped, rig.fates())));
    }
    let lost = verify::missing(&mut rig, flows)?;
    let mut cell = Cell::new(shape, Kind::Request, flows.into());
    "reload".clone_into(&mut cell.kind);
    cell.table_capacity = capacity.into();
    cell.turn_ns = reload.turn_ns.clone();
    cell.verified = Verified { packets_compared: compared, connections: rig.connections(), lost };
    cell.reload = Some(reload);
    Ok(cell)
}

/// Full traffic until the other thread is done.
fn traffic_until(bench: &Bench, rig: &mut Rig, flows: u32, done: &AtomicBool, reload: &mut Reload) {
    let mut draw = Draw::new(flows, 44);
    let (mut times, mut others) = (Times::default(), Others::new(bench));
    let (mut fed, mut came) = (0_u64, 0_u64);
    let ran = dpdk_sys::thread::cpu_time();
    while !done.load(Ordering::Acquire) {
        fed += rig.feed(|| (Kind::Request, draw.flow())) as u64;
        times.add(timed_turn(rig, &mut others));
        came += rig.drain(|_| ()) as u64;
    }
    let ran = dpdk_sys::thread::cpu_time().saturating_sub(ran);
    reload.packets = came;
    reload.dropped = fed - came.min(fed);
    reload.turn_ns = times.quantiles(&bench.clock);
    reload.reloading_ns = rounded(ran.as_nanos() as f64 / came.max(1) as f64);
}

fn publish_often(
    publisher: &mut Publisher,
    files: &[String; 2],
    reloads: u32,
) -> Result<Vec<Steps>, BenchError> {
    let mut all = Vec::new();
    for (_, text) in (0..reloads).zip(files.iter().rev().cycle()) {
        thread::sleep(PAUSE);
        all.push(publish_once(publisher, text)?);
    }
    thread::sleep(PAUSE);
    Ok(all)
}

fn publish_once(publisher: &mut Publisher, text: &str) -> Result<Steps, BenchError> {
    let mut last = Instant::now();
    let mut lap = || {
        let begin = std::mem::replace(&mut last, Instant::now());
        begin.elapsed().as_secs_f64() * 1000.0
    };
    let config = checked(text)?;
    let parse = lap();
    let published = publisher.publish(&config);
    let compile = lap();
    let generation = published.ok_or_else(|| BenchError::new("a reload changed nothing"))?;
    let begin = Instant::now();
    while publisher.acknowledged() < generation {
        if begin.elapsed() > ACKNOWLEDGE_MAX {
            return Err(BenchError::new("the worker does not run the new configuration"));
        }
        thread::sleep(POLL);
    }
    let acknowledge = lap();
    publisher.retire();
    drop(config);
    Ok(Steps { parse, compile, acknowledge, free: lap() })
}

/// Binds the calling thread to another CPU than the worker's; none when there is no other.
fn away_from(worker: usize) -> Option<usize> {
    other_cores(worker).find(|&core| dpdk_sys::thread::bind(core).is_ok())
}

/// The machine's CPUs but the worker's.
pub(super) fn other_cores(worker: usize) -> impl Iterator<Item = usize> {
    let cores = shunt_config::check::online_cores().unwrap_or_default().into_iter().map(usize::from);
    cores.filter(move |&core| core != worker)
}

fn rounded(ns: f64) -> f64 {
    (ns * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rig::{Lifetime, plan};
    use crate::bench::traffic::FrameSize;
    use crate::publish::compile::{State, compile};
    use shunt_dataplane::address::Family;
    use shunt_dataplane::id::Protocol;
    use shunt_dataplane::service::Method;
    use shunt_dataplane::service::schedulers::Scheduler;

    #[test]
    fn the_file_says_what_the_plan_says() {
        for (family, method) in [(Family::V4, Method::Nat), (Family::V6, Method::Tun)] {
            let shape = Shape {
                method,
                family,
                protocol: Protocol::Tcp,
                frame: FrameSize::Bytes(64),
                services: 3,
                reals: 4,
                scheduler: Scheduler::Wrr,
                new_share: 0,
                burst: 64,
            };
            let state = State { macs: vec![traffic::DIRECTOR_MAC], ..State::default() };
            let from_file = compile(&checked(&file(&shape, 1)).unwrap(), &state);
            let wanted = plan(&shape, Lifetime::Usual);
            assert_eq!((from_file.services, from_file.vips), (wanted.services, wanted.vips));
            assert_eq!(from_file.routes, wanted.routes);
            assert_eq!(from_file.nics[0].addresses[0], wanted.nics[0].addresses[0]);
        }
    }
}
