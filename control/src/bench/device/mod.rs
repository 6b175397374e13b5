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
use shunt_config::device::Device;
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
    /// Look for the highest rate without loss.
    pub zero_loss: Option<Benchmarks>,
}

/// RFC 2544's, of one cell.
#[derive(Clone, Copy, Debug)]
pub struct Benchmarks {
    /// How to look for the highest rate.
    pub search: Search,
    /// How long each trial is.
    pub length: Duration,
    /// How often it is looked for.
    pub searches: u32,
    /// The others too: latency, frame loss rate, back-to-back frames.
    pub all: bool,
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
    /// Packets in a second: of all searches the middle one.
    pub packets_per_second: f64,
    /// What each search found.
    #[serde(default)]
    pub searches: Spread,
    /// The same in Gbit/s on the wire, with preamble and gap (20 bytes a frame).
    #[serde(default)]
    pub gigabits_per_second: f64,
    /// As a part of the link's rate, where it has one: virtual NICs have none.
    #[serde(default)]
    pub part_of_link: Option<f64>,
    /// The trials at the highest rate, one for each search: what was offered and what came back.
    #[serde(default)]
    pub highest: Vec<Trial>,
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
    /// Microseconds that packets took at that rate (26.2), where none was lost meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Trials at tenths of the highest rate (26.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frame_loss: Vec<Trial>,
    /// The most packets one behind the other without loss (26.4), of each search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to_back: Option<Spread>,
}

/// How long packets took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Packets of which it was taken.
    pub samples: u64,
    /// The least.
    pub min: f64,
    /// The mean, as the RFC has it.
    pub mean: f64,
    /// The one in the middle.
    pub median: f64,
    /// What 99 % do not exceed.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

impl Latency {
    fn of(samples: &[Duration]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.as_secs_f64() * 1e6).collect();
        sorted.sort_by(f64::total_cmp);
        let at =
            |part: f64| sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len() - 1)).copied();
        Some(Self {
            samples: sorted.len() as u64,
            min: *sorted.first()?,
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            median: at(0.5)?,
            p99: at(0.99)?,
            max: *sorted.last()?,
        })
    }
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
    // What drivers of virtual NICs say of it means nothing.
    let real = setup.devices.first().is_some_and(Device::is_pci);
    let link_megabits = links.nics.first().filter(|_| real).and_then(Nic::link).map(|link| link.megabits);
    let kinds: &[Kind] =
        if shape.method == Method::Nat { &[Kind::Request, Kind::Answer] } else { &[Kind::Request] };
    let mut cells = Vec::new();
    for &kind in kinds {
        let compared = generator.check(shape, kind, COMPARED, flows).map_err(said)?;
        let mut cell = Cell::new(shape, kind, flows.into());
        cell.kind = "device".to_owned();
        cell.table_capacity = capacity.into();
        let mut on_device = full_rate(bench, &running, &mut generator, kind, flows, effort, &mut cell)?;
        let zero_loss = match &setup.zero_loss {
            Some(benchmarks) => {
                let found = no_loss(&mut generator, kind, flows, benchmarks, link_megabits)?;
                // Both figures come from the same trials.
                let delivered = |trial: &Trial| (trial.received as f64 / trial.seconds.max(1e-9)).round();
                on_device.delivered_per_second = Spread::of(found.highest.iter().map(delivered).collect());
                Some(found)
            }
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

/// How long a burst may take to be sent.
const LATE_BURST: Duration = Duration::from_secs(2);
/// Packets one behind the other at most: what goes through without end is no burst any more.
const BACK_TO_BACK_MOST: u64 = 1 << 20;
/// Bytes of the wire beside a frame: preamble and gap.
const WIRE_OVERHEAD: f64 = 20.0;

/// The highest rate without loss, and what else is asked for.
fn no_loss(
    generator: &mut Generator<'_>,
    kind: Kind,
    flows: u32,
    benchmarks: &Benchmarks,
    link_megabits: Option<u32>,
) -> Result<ZeroLoss, BenchError> {
    let Benchmarks { search, length, searches, all } = *benchmarks;
    let (mut highest, mut trials, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..searches.max(1) {
        let top = generator.trial(kind, flows, Rate::Full, length, || ())?;
        let (rate, tried) = search::zero_loss(search, top.offered_per_second(), |rate| {
            generator.trial(kind, flows, Rate::PerSecond(rate), length, || ())
        })?;
        // A generator that fell behind offered less than it was asked for.
        let offered = |trial: &&Trial| trial.asked_per_second == rate && trial.loss() <= search.tolerated;
        let reached = tried.iter().rev().find(offered).map(|trial| trial.offered_per_second().min(rate));
        found.push(reached.unwrap_or(rate).round());
        highest.push(top);
        trials.extend(tried);
    }
    let spread = Spread::of(found);
    let (rate, top) =
        (spread.median, Spread::of(highest.iter().map(Trial::offered_per_second).collect()).median);
    let gigabits = rate * (generator.traffic.mean_frame() + WIRE_OVERHEAD) * 8.0 / 1e9;
    let link = link_megabits.filter(|megabits| (1..u32::MAX).contains(megabits));
    let mut result = ZeroLoss {
        packets_per_second: rate,
        searches: spread,
        gigabits_per_second: (gigabits * 1e4).round() / 1e4,
        part_of_link: link.map(|megabits| gigabits * 1000.0 / f64::from(megabits)),
        highest,
        part_of_highest: (rate / top.max(1.0) * 1000.0).round() / 1000.0,
        resolution: search.resolution,
        tolerated: search.tolerated,
        trial_seconds: length.as_secs_f64(),
        trials,
        latency: None,
        frame_loss: Vec::new(),
        back_to_back: None,
    };
    if !all {
        return Ok(result);
    }
    for _ in 0..search.attempts.max(1) {
        let samples = generator.latency(kind, flows, Rate::PerSecond(rate), length)?;
        result.latency = samples.as_deref().and_then(Latency::of);
        if result.latency.is_some() {
            break;
        }
    }
    result.frame_loss =
        search::frame_loss(top, |rate| generator.trial(kind, flows, Rate::PerSecond(rate), length, || ()))?;
    let mut bursts = Vec::new();
    for _ in 0..searches.max(1) {
        let frames = search::back_to_back(search, BACK_TO_BACK_MOST, |frames| {
            generator.trial(kind, flows, Rate::BackToBack(frames), length.max(LATE_BURST), || ())
        })?;
        bursts.push(frames as f64);
    }
    result.back_to_back = Some(Spread::of(bursts));
    Ok(result)
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
