//! `shunt bench`: how fast the director is, with the real worker loop and the real tables.
//!
//! A [`rig`] puts a worker between a source and a sink on one core, joined by NICs made of rings. [`verify`] proves on
//! bytes that packets are forwarded right, [`measure`] takes the time of many bursts with flows drawn at random and
//! subtracts what source and sink take alone, [`fresh`] measures connections that begin and end. [`device`] has the
//! worker on any NIC and a generator on another core.

pub mod cores;
pub mod device;
pub mod document;
pub mod flood;
pub mod fresh;
pub mod latency;
pub mod loops;
pub mod measure;
pub mod plot;
pub mod quiet;
pub mod reload;
pub mod report;
pub mod rig;
pub mod services;
pub mod targets;
pub mod testpmd;
pub mod times;
pub mod traffic;
pub mod verify;

use std::fmt;

use shunt_dataplane::address::Family;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Registry;

use measure::{Effort, Load, Repetitions, Spread};
use report::{Cell, Verified};
use rig::{Bench, Lifetime, Rig};
use traffic::{Draw, FrameSize, Kind, Traffic};

/// Packets of open connections that are compared byte by byte before anything is measured.
const COMPARED: u64 = 65_536;
/// Flows from which on growth of resident memory says something.
const FLOWS_FOR_MEMORY: u32 = 1_000_000;
/// Room for connections that begin while others are open, for each percent of all packets.
const FRESH_ROOM: u32 = 120_000;

/// What a measurement is about.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The forwarding method of all real servers.
    pub method: Method,
    /// The family of clients, VIPs and real servers.
    pub family: Family,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The size of frames.
    pub frame: FrameSize,
    /// How many services share the flows.
    pub services: u32,
    /// How many real servers each has.
    pub reals: u32,
    /// Their scheduler.
    pub scheduler: Scheduler,
    /// Percent of packets that begin a connection; more than 0 for TCP alone, where connections that nobody goes on with
    /// can have a timeout of their own.
    pub new_share: u32,
    /// Packets in a burst, 1 to 64.
    pub burst: usize,
}

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchError(String);

impl BenchError {
    /// In these words.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BenchError {}

/// The table's capacity for so many flows: nine tenths of it are in use, before any others begin. These live 50 ms and
/// then wait for the hand, so there is room for more than a second's.
#[must_use]
pub fn capacity_for(flows: u32, new_share: u32) -> u32 {
    ((u64::from(flows) * 10).div_ceil(9) as u32).max(64) + new_share * FRESH_ROOM
}

/// Opens `flows` connections, proves that their packets are forwarded right and measures them: one cell, or two for NAT,
/// whose answers pass the director.
///
/// # Errors
/// When a packet is lost or wrong, or DPDK refuses something.
pub fn forwarding(
    bench: &Bench,
    shape: &Shape,
    flows: u32,
    capacity: u32,
    effort: Effort,
) -> Result<Vec<Cell>, BenchError> {
    let before = measure::resident();
    let mut rig = Rig::new(bench, shape, capacity, Lifetime::Usual)?;
    verify::open(&mut rig, flows)?;
    let grown = measure::resident().saturating_sub(before);
    rig.fresh = flows;
    if shape.new_share > 0 {
        rig.reconfigure(&rig::plan(shape, Lifetime::BriefOpenings));
    }
    let both = shape.method == Method::Nat && shape.new_share == 0;
    let kinds: &[Kind] = if both { &[Kind::Request, Kind::Answer] } else { &[Kind::Request] };
    let mut cells = Vec::new();
    for &kind in kinds {
        let mut draw = Draw::new(flows, 42);
        let packets = verify::check(&mut rig, shape, kind, COMPARED, || draw.flow())?;
        let load = Load { kind, flows, new_share: shape.new_share };
        let repetitions = measure::forwarding(bench, &mut rig, load, effort)?;
        let mut cell = Cell::new(shape, kind, u64::from(flows));
        cell.time(bench, &repetitions);
        cell.turn_ns = measure::turn_times(bench, &mut rig, load, effort.length / 2);
        cell.latency = latency::latencies(bench, &mut rig, load, effort.length / 2)?;
        cell.table_capacity = capacity.into();
        if flows >= FLOWS_FOR_MEMORY && shape.new_share == 0 {
            cell.bytes_per_connection = Some((grown as f64 / f64::from(flows) * 10.0).round() / 10.0);
        }
        cell.verified = Verified { packets_compared: packets, connections: rig.connections(), lost: 0 };
        cells.push(cell);
    }
    let made = rig.shared.counters.connections_made.get();
    let begun = u64::from(rig.fresh);
    if made != begun {
        return Err(BenchError(format!("{begun} flows made {made} connections")));
    }
    Ok(cells)
}

/// The floor under a shape's cells: MACs swapped between the same rings.
///
/// # Errors
/// DPDK's.
pub fn floor(bench: &Bench, shape: &Shape, effort: Effort) -> Result<Spread, BenchError> {
    Ok(Spread::of(own_floor(bench, shape, effort)?.net))
}

fn own_floor(bench: &Bench, shape: &Shape, effort: Effort) -> Result<Repetitions, BenchError> {
    let traffic = Traffic::new(shape.family, shape.protocol, shape.frame, 1, 1);
    measure::floor(bench, &traffic, shape.burst, effort)
}

/// The floor as cells of its own: in Rust between the rings of all other cells, and by `dpdk-testpmd` where it is
/// installed and a core is left for its commands.
///
/// # Errors
/// DPDK's, and when `dpdk-testpmd` does not do what it should.
pub fn floors(bench: &Bench, shape: &Shape, effort: Effort) -> Result<Vec<Cell>, BenchError> {
    let cell = |who: String| {
        let mut cell = Cell::new(shape, Kind::Request, 1);
        cell.kind = "floor".to_owned();
        cell.method = "macswap".to_owned();
        cell.direction = who;
        cell
    };
    let mut own = cell("rust".to_owned());
    own.time(bench, &own_floor(bench, shape, effort)?);
    own.floor_ns_per_packet = own.ns_per_packet;
    let mut cells = vec![own];
    let other = reload::other_cores(bench.core).next();
    if let (Some(program), Some(control)) = (testpmd::installed(), other) {
        for source in testpmd::Source::ALL {
            let mut cell = cell(format!("testpmd {}", source.word()));
            cell.time_is(bench, testpmd::macswap(&program, source, bench.core, control, effort)?);
            cells.push(cell);
        }
    }
    Ok(cells)
}

/// How long it takes to compile a snapshot of a shape's services anew after one weight changed, in milliseconds.
#[must_use]
pub fn compile_time(shape: &Shape) -> f64 {
    use shunt_dataplane::flow::{HashKey, Owners};
    let owners = Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: HashKey::random() };
    let mut registry = Registry::new(owners);
    let mut plan = rig::plan(shape, Lifetime::Usual);
    let first = registry.compile(&plan);
    registry.acknowledge(first.generation);
    if let Some(real) = plan.services.first_mut().and_then(|service| service.reals.first_mut()) {
        real.weight += 1;
    }
    let start = std::time::Instant::now();
    let second = registry.compile(&plan);
    let took = start.elapsed();
    drop((first, second));
    took.as_secs_f64() * 1000.0
}
