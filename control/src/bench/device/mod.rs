//! The worker on NICs of any kind, and a generator on another core at their far ends.
//!
//! The worker runs its own loop on its own thread, as in a director. What it takes for a packet comes from its own
//! counters: cycles of the turns that moved packets, so that waiting for the generator does not count. What the pair
//! moves in a second is the generator's count, and [`search`] finds the rate up to which nothing is lost.

pub mod generator;
pub mod link;
pub mod search;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use dpdk_sys::{Nic, thread};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shunt_dataplane::address::Family;
use shunt_dataplane::id::NicId;
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::Method;
use shunt_dataplane::snapshot::{NicPlan, Plan, Registry};
use shunt_dataplane::worker::{NicQueues, Shared, Stage};

use super::measure::{Effort, Spread};
use super::report::{Cell, Verified};
use super::rig::{self, Bench, Lifetime};
use super::traffic::{self, Kind};
use super::{BenchError, Shape};
use crate::config::device::Device;
use crate::director::claims;
use crate::lock::Lock;
use generator::{Generator, Rate};
use link::End;
use search::{Search, Trial};

/// Packets of open connections that are compared byte by byte first.
const COMPARED: u64 = 16_384;
/// The most NICs of the director: one towards clients, one towards real servers.
pub const NICS_MAX: usize = 2;

/// What is measured, and where.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The director's NICs: one for both ways, or one towards clients and one towards real servers.
    pub devices: Vec<Device>,
    /// The generator's at their far ends, in the same order; empty where those follow from the director's.
    pub generators: Vec<Device>,
    /// The worker's CPU; the generator runs on the calling thread.
    pub worker_core: usize,
    /// Look for the highest rate without loss, with trials of this length.
    pub zero_loss: Option<(Search, Duration)>,
}

/// What a cell has besides when it was measured on NICs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnDevice {
    /// The director's devices.
    pub devices: Vec<String>,
    /// Packets in a second that came back while the generator sent as much as was taken.
    pub delivered_per_second: Spread,
    /// Cycles of the worker for a packet by stage of its turn, where there were any: medians over slices of 2 ms.
    pub stage_cycles: Vec<(String, f64)>,
    /// The part of the time in which the worker moved packets, at the highest rate: the generator was the limit when it
    /// is well below 1.
    pub worker_busy: f64,
    /// The highest rate without loss, when it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_loss: Option<ZeroLoss>,
}

/// The highest rate without loss (RFC 2544, 26.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZeroLoss {
    /// Packets in a second.
    pub packets_per_second: f64,
    /// The same as a part of the highest rate that the generator reached.
    pub part_of_highest: f64,
    /// The interval at which the search ended, as a part of the highest rate.
    pub resolution: f64,
    /// The part of the packets that was allowed to be lost.
    pub tolerated: f64,
    /// Seconds of each trial.
    pub trial_seconds: f64,
    /// All trials, in order.
    pub trials: Vec<Trial>,
}

/// The NICs, open. Opened once: not every driver survives both ends being closed and opened again in one process.
#[derive(Debug)]
pub struct Links {
    nics: Vec<Nic>,
    queues: Vec<NicQueues>,
    ends: Vec<End>,
    /// No director may have these devices meanwhile.
    _claims: Vec<Lock>,
}

impl Links {
    /// Opens the director's NICs and the generator's.
    ///
    /// # Errors
    /// When a director or another measurement has one, the far end of one is not known, or a driver refuses.
    pub fn open(bench: &Bench, setup: &Setup) -> Result<Self, BenchError> {
        let named = |option: &'static str| move |device| (option.to_owned(), device);
        let own = setup.devices.iter().map(named("--device"));
        let claims = claims::take(own.chain(setup.generators.iter().map(named("--generator")))).map_err(
            |problems| {
                BenchError::new(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            },
        )?;
        let mut links = Self { nics: Vec::new(), queues: Vec::new(), ends: Vec::new(), _claims: claims };
        for (number, device) in setup.devices.iter().enumerate() {
            let link = link::open(bench, number, device, setup.generators.get(number))?;
            links.nics.push(link.nic);
            links.queues.push(link.queues);
            links.ends.push(link.end);
        }
        Ok(links)
    }
}

impl Drop for Links {
    /// Closes the director's ends, lets the others notice, and then those: memif frees the same twice when it learns
    /// that its far end is gone while it is being closed itself.
    fn drop(&mut self) {
        self.queues.clear();
        self.nics.clear();
        self.ends.iter().for_each(End::wait_until_alone);
    }
}

/// A worker that runs on its own thread until this is dropped.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<NicQueues>>>,
    _ends: rig::WorkerEnds,
}

impl Running {
    /// Starts a worker with these queues on a CPU.
    fn start(
        bench: &Bench,
        shape: &Shape,
        capacity: u32,
        core: usize,
        queues: Vec<NicQueues>,
    ) -> Result<Self, BenchError> {
        let mut registry = Registry::new(bench.owners());
        let snapshot = registry.compile(&plan(shape, queues.len()));
        let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
        let shared = Arc::<Shared>::default();
        let (worker, ends) = rig::worker(bench, shape.family, capacity, snapshots, shared.clone(), queues)?;
        let eal = bench.eal.clone();
        let (report, reported) = std::sync::mpsc::channel();
        let work = move || {
            let ready = thread::bind(core)
                .map_err(BenchError::of)
                .and_then(|()| eal.register_thread().map_err(BenchError::of));
            match ready {
                Ok(registered) => {
                    let _ = report.send(Ok(()));
                    let queues = worker.run_and_return();
                    drop(registered);
                    queues
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                    Vec::new()
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("worker".to_owned()).spawn(work).map_err(BenchError::of)?;
        let running = Self { shared, thread: Some(thread), _ends: ends };
        reported
            .recv()
            .map_err(|_ended| BenchError::new("the worker's thread ended before it was ready"))??;
        Ok(running)
    }
}

impl Running {
    /// Ends the worker; its queues come back.
    fn stop(&mut self) -> Vec<NicQueues> {
        self.shared.stop();
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// Opens `flows` connections through the NICs, proves that packets are forwarded right, and measures: one cell, or two for
/// NAT, whose answers pass the director.
///
/// # Errors
/// When a device does not open, or a packet is lost or wrong while it is looked at.
pub fn measure(
    bench: &Bench,
    setup: &Setup,
    links: &mut Links,
    shape: &Shape,
    flows: u32,
    capacity: u32,
    effort: Effort,
) -> Result<Vec<Cell>, BenchError> {
    let queues = std::mem::take(&mut links.queues);
    let mut running = Running::start(bench, shape, capacity, setup.worker_core, queues)?;
    let mut generator = Generator::new(bench, shape, &mut links.ends);
    let said = |error: BenchError| {
        let counters = &running.shared.counters;
        BenchError::new(&format!(
            "{error}; the worker received {}, sent {}, dropped {}, punted {}",
            counters.received.get(),
            counters.sent.get(),
            counters.dropped.sum(),
            counters.punted.sum()
        ))
    };
    generator.open(flows).map_err(said)?;
    let kinds: &[Kind] =
        if shape.method == Method::Nat { &[Kind::Request, Kind::Answer] } else { &[Kind::Request] };
    let mut cells = Vec::new();
    for &kind in kinds {
        let compared = generator.check(shape, kind, COMPARED, flows).map_err(said)?;
        let mut cell = Cell::new(shape, kind, flows.into());
        cell.kind = "device".to_owned();
        cell.table_capacity = capacity.into();
        let on_device = full_rate(bench, &running, &mut generator, kind, flows, effort, &mut cell)?;
        let zero_loss = match setup.zero_loss {
            Some((search, length)) => Some(no_loss(&mut generator, kind, flows, search, length)?),
            None => None,
        };
        let devices = setup.devices.iter().map(ToString::to_string).collect();
        cell.device = Some(OnDevice { devices, zero_loss, ..on_device });
        let connections = running.shared.connections().iter().sum();
        cell.verified = Verified { packets_compared: compared, connections, lost: 0 };
        cells.push(cell);
    }
    links.queues = running.stop();
    Ok(cells)
}

/// What a worker counted up to a moment, or between two.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Cycles of turns that moved packets.
    busy: u64,
    packets: u64,
    /// Packets of the turns whose stages were timed.
    sampled: u64,
    /// Cycles of those turns by stage.
    stages: [u64; Stage::COUNT],
}

impl Mark {
    fn of(shared: &Shared) -> Self {
        let cost = &shared.cost;
        Self {
            busy: cost.busy_cycles.get(),
            packets: cost.packets.get(),
            sampled: cost.sampled_packets.get(),
            stages: Stage::ALL.map(|stage| cost.sampled_cycles[stage as usize].get()),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            busy: self.busy - before.busy,
            packets: self.packets - before.packets,
            sampled: self.sampled - before.sampled,
            stages: std::array::from_fn(|place| self.stages[place] - before.stages[place]),
        }
    }

    fn cycles_per_packet(&self) -> f64 {
        self.busy as f64 / self.packets.max(1) as f64
    }
}

/// As many packets as are taken: what comes back, and what the worker takes for each.
fn full_rate(
    bench: &Bench,
    running: &Running,
    generator: &mut Generator<'_>,
    kind: Kind,
    flows: u32,
    effort: Effort,
    cell: &mut Cell,
) -> Result<OnDevice, BenchError> {
    let (mut net, mut rates, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    let mut stages: [Vec<f64>; Stage::COUNT] = Default::default();
    let cycles_per_nanosecond = bench.clock.cycles_per_second() as f64 / 1e9;
    for _ in 0..effort.repetitions {
        let mut marks = Vec::new();
        let trial = generator
            .trial(kind, flows, Rate::Full, effort.length, || marks.push(Mark::of(&running.shared)))?;
        let slices: Vec<_> = marks.windows(2).map(|pair| pair[1].since(&pair[0])).collect();
        // Where the system gave the worker's CPU to others its turns are long: the middle of many slices says more
        // than the mean.
        let cycles = slices.iter().filter(|slice| slice.packets > 0).map(Mark::cycles_per_packet);
        net.push(Spread::of(cycles.collect()).median / cycles_per_nanosecond);
        for (place, values) in stages.iter_mut().enumerate() {
            let sampled = slices.iter().filter(|slice| slice.sampled > 0);
            values.extend(sampled.map(|slice| slice.stages[place] as f64 / slice.sampled as f64));
        }
        let cycles: u64 = slices.iter().map(|slice| slice.busy).sum();
        busy.push(cycles as f64 / cycles_per_nanosecond / 1e9 / trial.seconds);
        rates.push(trial.received as f64 / trial.seconds);
    }
    let stage_cycles = Stage::ALL
        .iter()
        .zip(stages)
        .map(|(stage, cycles)| (stage.word().to_owned(), Spread::of(cycles).median))
        .filter(|(_, cycles)| *cycles > 0.0)
        .collect();
    cell.ns_per_packet = Spread::of(net);
    cell.cycles_per_packet = cell.ns_per_packet.map(|ns| ns * cycles_per_nanosecond);
    cell.packets_per_second = cell.ns_per_packet.map(|ns| (1e9 / ns.max(0.01)).round());
    let delivered = Spread::of(rates);
    cell.total_ns_per_packet = delivered.map(|rate| 1e9 / rate.max(1.0));
    Ok(OnDevice {
        devices: Vec::new(),
        delivered_per_second: delivered.map(f64::round),
        stage_cycles,
        worker_busy: Spread::of(busy).median.min(1.0),
        zero_loss: None,
    })
}

/// The highest rate without loss.
fn no_loss(
    generator: &mut Generator<'_>,
    kind: Kind,
    flows: u32,
    search: Search,
    length: Duration,
) -> Result<ZeroLoss, BenchError> {
    let highest = generator.trial(kind, flows, Rate::Full, length, || ())?.offered_per_second();
    let (rate, trials) = search::zero_loss(search, highest, |rate| {
        generator.trial(kind, flows, Rate::PerSecond(rate), length, || ())
    })?;
    // A generator that fell behind offered less than it was asked for.
    let offered = |trial: &&Trial| trial.asked_per_second == rate && trial.loss() <= search.tolerated;
    let reached =
        trials.iter().rev().find(offered).map_or(rate, |trial| trial.offered_per_second().min(rate));
    Ok(ZeroLoss {
        packets_per_second: reached.round(),
        part_of_highest: (reached / highest.max(1.0) * 1000.0).round() / 1000.0,
        resolution: search.resolution,
        tolerated: search.tolerated,
        trial_seconds: length.as_secs_f64(),
        trials,
    })
}

/// The plan of the rig; with two NICs clients are behind the first and real servers behind the second.
fn plan(shape: &Shape, nics: usize) -> Plan {
    let mut plan = rig::plan(shape, Lifetime::Usual);
    if nics < NICS_MAX {
        return plan;
    }
    // The router's network is a small one inside that of the real servers; the longer prefix wins.
    let bits = if shape.family == Family::V4 { 28 } else { 124 };
    let front = NicPlan {
        name: "front".to_owned(),
        mac: traffic::DIRECTOR_MAC,
        mtu: rig::MTU,
        up: true,
        edition: 0,
        virtual_macs: Vec::new(),
        addresses: IpNet::new(traffic::own_in_front(shape.family), bits).into_iter().collect(),
        reverse_path: ReversePath::default(),
    };
    plan.nics.insert(0, front);
    for neighbour in &mut plan.neighbours {
        if neighbour.address != traffic::router(shape.family) {
            neighbour.nic = NicId(1);
        }
    }
    plan
}
