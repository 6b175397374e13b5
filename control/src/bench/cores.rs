//! Several workers: what the machine gives two loops that share nothing, what it gives two workers, and what it costs to
//! hand a packet over. From these parts, a model for more workers than there are cores here.
//!
//! Each worker has a thread, a core, a NIC of rings and a source and sink of its own; packets are of the clients that it
//! owns, as a NIC that places packets brings them, or all of another worker's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use arc_swap::ArcSwap;
use dpdk_sys::{
    MbufBurst, Mempool, Nic, RingFeed, RingNic, RingReceiver, RingSender, RxQueue, TxQueue, ring,
};
use serde::{Deserialize, Serialize};
use shunt_dataplane::address::Family;
use shunt_dataplane::flow::Owners;
use shunt_dataplane::forward::{Capacity, Forwarder};
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_dataplane::snapshot::{Registry, Snapshot};
use shunt_dataplane::worker::{
    Idle, NicQueues, PacketEnds, Peer, QuestionEnds, Shared, Worker, WorkerParts, rings,
};

use super::loops::{HAND_OVER_RING, on_core};
use super::measure::{Effort, Spread, Timing, swap_macs, timed};
use super::rig::{Bench, Lifetime, fill, plan};
use super::traffic::{Draw, Kind, Traffic, clients};
use super::{BenchError, Shape, capacity_for};

/// Workers that the model is reckoned for.
const MODELLED: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

/// What was measured with one number of connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// Connections of each worker.
    pub flows: u64,
    /// By number of workers, one first.
    pub steps: Vec<Step>,
    /// Nanoseconds that a packet costs more, on both sides together, when it arrives at another worker than its owner's.
    pub hand_over_ns: Spread,
    /// What that makes of more workers.
    pub model: Vec<Modelled>,
}

/// So many loops at once. Times are nanoseconds of a thread for a packet, the mean of all threads, source included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// How many.
    pub workers: u32,
    /// Source and sink alone.
    pub source_ns: Spread,
    /// MACs swapped.
    pub macswap_ns: Spread,
    /// Forwarded by workers, none handed over.
    pub forward_ns: Spread,
    /// How many times the rate of one macswap loop all have together, from the least times.
    pub macswap_scaling: f64,
    /// The same of workers.
    pub forward_scaling: f64,
    /// The second by the first: what of the machine's own scaling the workers reach.
    pub reached: f64,
}

/// Reckoned, not measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Modelled {
    /// Workers.
    pub workers: u32,
    /// Million packets a second when NICs place packets at their owners.
    pub placed_mpps: f64,
    /// The same when every worker receives all clients alike and hands over.
    pub handed_over_mpps: f64,
}

/// What a station does in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Opens its connections.
    Open,
    /// Source and sink.
    Source,
    /// Swaps MACs.
    Macswap,
    /// Forwards packets of its own clients.
    Forward,
    /// Is fed the next worker's packets and forwards what is handed over to it.
    HandOver,
}

/// A worker with a source and a sink, for one thread.
struct Station {
    worker: Worker,
    snapshot: Arc<Snapshot>,
    shared: Arc<Shared>,
    pool: Mempool,
    traffic: Traffic,
    burst: usize,
    feed: RingFeed,
    drain: RingReceiver,
    floor: (RxQueue, TxQueue, RingFeed, RingReceiver),
    pipe: (RingFeed, RingReceiver),
    /// Whose packets it forwards, and whose it is fed when it hands over.
    own: Clients,
    next: Clients,
    /// Where those go.
    peer: RingSender,
    _nics: [Nic; 2],
    _ends: (PacketEnds, QuestionEnds),
}

/// Measures with each number of workers up to that of `cores`; `each` is told what is done.
///
/// # Errors
/// When packets get lost or DPDK refuses something.
pub fn cores(
    bench: &Bench,
    shape: &Shape,
    flows: u32,
    cores: &[usize],
    effort: Effort,
    mut each: impl FnMut(&str),
) -> Result<Cores, BenchError> {
    let mut stations = stations(bench, shape, flows, cores.len())?;
    run(bench, &mut stations, cores, Work::Open, effort.length)?;
    let mut raw: Vec<[Vec<f64>; 3]> = vec![Default::default(); cores.len()];
    let mut handed = Vec::new();
    for repetition in 0..effort.repetitions {
        each(&format!("{flows} connections each, repetition {}", repetition + 1));
        for (place, work) in [Work::Source, Work::Macswap, Work::Forward].into_iter().enumerate() {
            // One after the other on every core stands for one alone: cores differ.
            let mut alone = 0.0;
            for (number, core) in cores.iter().enumerate() {
                let station = std::slice::from_mut(&mut stations[number]);
                alone += mean(&run(bench, station, &[*core], work, effort.length)?);
            }
            raw[0][place].push(alone / cores.len() as f64);
            for count in 2..=cores.len() {
                let timings = run(bench, &mut stations[..count], &cores[..count], work, effort.length)?;
                raw[count - 1][place].push(mean(&timings));
            }
        }
        if cores.len() > 1 {
            let handing = mean(&run(bench, &mut stations, cores, Work::HandOver, effort.length)?);
            handed.push(handing - raw[cores.len() - 1][2].last().copied().unwrap_or(0.0));
        }
    }
    let steps: Vec<Step> =
        raw.iter().zip(1..).map(|(times, workers)| step(workers, times, &raw[0])).collect();
    let hand_over_ns = Spread::of(handed);
    let model = model(&steps, hand_over_ns.min);
    Ok(Cores { flows: flows.into(), steps, hand_over_ns, model })
}

fn step(workers: u32, times: &[Vec<f64>; 3], alone: &[Vec<f64>; 3]) -> Step {
    let spread = |place: usize| Spread::of(times[place].clone());
    let least = |times: &[f64]| times.iter().copied().fold(f64::MAX, f64::min);
    let scaling = |place: usize| f64::from(workers) * least(&alone[place]) / least(&times[place]);
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    Step {
        workers,
        source_ns: spread(0),
        macswap_ns: spread(1),
        forward_ns: spread(2),
        macswap_scaling: round(scaling(1)),
        forward_scaling: round(scaling(2)),
        reached: round(scaling(2) / scaling(1)),
    }
}

/// `n` workers forward `n / c` packets a second, or `n / (c + h (n - 1) / n)` when they hand over: `c` is what a packet
/// costs a worker beside others (source left out), `h` what handing it over adds.
fn model(steps: &[Step], hand_over: f64) -> Vec<Modelled> {
    let Some(last) = steps.last() else { return Vec::new() };
    let cost = (last.forward_ns.min - last.source_ns.min).max(0.1);
    let mpps = |ns: f64| (1000.0 / ns * 100.0).round() / 100.0;
    let one = |workers: u32| {
        let n = f64::from(workers);
        Modelled {
            workers,
            placed_mpps: mpps(cost / n),
            handed_over_mpps: mpps((cost + hand_over.max(0.0) * (n - 1.0) / n) / n),
        }
    };
    MODELLED.into_iter().map(one).collect()
}

fn mean(timings: &[Timing]) -> f64 {
    timings.iter().map(Timing::nanoseconds).sum::<f64>() / timings.len().max(1) as f64
}

/// Whose flows are drawn: no list of them, which would cost the source memory.
#[derive(Clone, Copy, Debug)]
struct Clients {
    owners: Owners,
    worker: WorkerId,
    /// The flows of all workers.
    flows: u32,
}

impl Clients {
    #[inline]
    fn own(&self, traffic: &Traffic, flow: u32) -> bool {
        let low = traffic.tuple(Kind::Request, flow).source;
        let owner = match clients(traffic.family).0 {
            IpAddr::V4(_) => self.owners.of(Ipv4Addr::from_bits(low)),
            IpAddr::V6(net) => {
                self.owners.of(Ipv6Addr::from_bits(net.to_bits() >> 32 << 32 | u128::from(low)))
            }
        };
        owner == self.worker
    }

    /// One of the worker's flows at random.
    #[inline]
    fn draw(&self, traffic: &Traffic, draw: &mut Draw) -> u32 {
        loop {
            let flow = draw.flow();
            if self.own(traffic, flow) {
                return flow;
            }
        }
    }
}

fn stations(bench: &Bench, shape: &Shape, flows: u32, count: usize) -> Result<Vec<Station>, BenchError> {
    let owners = Owners { workers: count as u8, ..bench.owners() };
    let snapshot = Arc::new(Registry::new(owners).compile(&plan(shape, Lifetime::Usual)));
    let traffic = Traffic::new(shape.family, shape.protocol, shape.frame, shape.services, shape.reals);
    // Clients do not fall upon the workers quite evenly.
    let capacity = capacity_for(flows + flows / 8 + 256, 0);
    let flows = flows.saturating_mul(count as u32);
    let of = |number: usize| Clients { owners, worker: WorkerId((number % count) as u8), flows };
    let shared: Vec<Arc<Shared>> = (0..count).map(|_| Arc::default()).collect();
    let (mut peers, mut receivers) = (Vec::new(), Vec::new());
    for shared in &shared {
        let (ring, receiver) =
            ring::mbuf_ring(bench.eal(), "hand over", HAND_OVER_RING, None).map_err(BenchError::of)?;
        peers.push(Peer { ring, shared: shared.clone() });
        receivers.push(receiver);
    }
    let capacities = match shape.family {
        Family::V4 => Capacity { v4: capacity, v6: 1 },
        Family::V6 => Capacity { v4: 1, v6: capacity },
    };
    let mut stations = Vec::new();
    for (number, taken_over) in receivers.into_iter().enumerate() {
        let (nic, rx, tx, feed, drain) = ends(bench.nic()?)?;
        let (floor_nic, floor_rx, floor_tx, floor_feed, floor_drain) = ends(bench.nic()?)?;
        let (worker_ends, packets, questions, _) = rings();
        let id = WorkerId(number as u8);
        let shared = shared[number].clone();
        let worker = Worker::new(WorkerParts {
            id,
            forwarder: Forwarder::new(id, capacities, bench.key, shared.counters.clone()),
            nics: vec![NicQueues { nic: NicId(0), rx, tx }],
            taken_over,
            hand_over: peers.clone(),
            ends: worker_ends,
            snapshots: Arc::new(ArcSwap::new(snapshot.clone())),
            shared: shared.clone(),
            idle: Idle::Busy,
            clock: bench.clock,
        });
        stations.push(Station {
            worker,
            snapshot: snapshot.clone(),
            shared,
            pool: bench.pool.clone(),
            traffic: traffic.clone(),
            burst: shape.burst,
            feed,
            drain,
            floor: (floor_rx, floor_tx, floor_feed, floor_drain),
            pipe: bench.pipe()?,
            own: of(number),
            next: of(number + 1),
            peer: peers[(number + 1) % count].ring.clone(),
            _nics: [nic, floor_nic],
            _ends: (packets, questions),
        });
    }
    Ok(stations)
}

/// The ends of a NIC of rings with one queue.
fn ends(nic: RingNic) -> Result<(Nic, RxQueue, TxQueue, RingFeed, RingReceiver), BenchError> {
    let RingNic { nic, mut rx, mut tx, mut feeds, mut drains } = nic;
    match (rx.pop(), tx.pop(), feeds.pop(), drains.pop()) {
        (Some(rx), Some(tx), Some(feed), Some(drain)) => Ok((nic, rx, tx, feed, drain)),
        _ => Err(BenchError::new("a NIC of rings came without queues")),
    }
}

/// Lets the stations work at once, each on its core.
fn run(
    bench: &Bench,
    stations: &mut [Station],
    cores: &[usize],
    work: Work,
    length: Duration,
) -> Result<Vec<Timing>, BenchError> {
    let together = Arc::new(Barrier::new(stations.len()));
    std::thread::scope(|scope| {
        let mut results = Vec::new();
        for (station, core) in stations.iter_mut().zip(cores) {
            let (tell, told) = channel();
            let (together, core) = (together.clone(), *core);
            scope.spawn(move || {
                let result = on_core(bench, core, || {
                    together.wait();
                    let result = station.work(work, length);
                    // Nobody leaves while another still hands over.
                    together.wait();
                    result
                });
                let _ = tell.send(result);
            });
            results.push(told);
        }
        results.into_iter().map(|told| told.recv().map_err(BenchError::of)?).collect()
    })
}

impl Station {
    fn work(&mut self, work: Work, length: Duration) -> Result<Timing, BenchError> {
        let before = self.counts();
        let timing = match work {
            Work::Open => self.open(),
            Work::Source => self.source(length),
            Work::Macswap => self.macswap(length),
            Work::Forward => self.forward(length, self.own),
            Work::HandOver => self.forward(length, self.next),
        };
        let [received, handed_over, dropped] = self.counts();
        let (received, handed_over, dropped) =
            (received - before[0], handed_over - before[1], dropped - before[2]);
        // A burst of this run or of one before.
        let on_its_way = dpdk_sys::BURST as u64;
        let wrong = match work {
            Work::HandOver => handed_over + dropped + on_its_way < received,
            _ => handed_over + dropped > on_its_way,
        };
        if wrong {
            let text = format!(
                "{work:?}: {received} packets received, {handed_over} handed over, {dropped} dropped"
            );
            return Err(BenchError::new(&text));
        }
        Ok(timing)
    }

    fn counts(&self) -> [u64; 3] {
        let counters = &self.shared.counters;
        [counters.received.get(), counters.handed_over.get(), counters.dropped.sum()]
    }

    /// A burst through source, worker and sink.
    #[inline]
    fn round(&mut self, kind: Kind, mut flow: impl FnMut(&Traffic) -> u32) -> usize {
        let mut burst = MbufBurst::new();
        let traffic = &self.traffic;
        if fill(&self.pool, traffic, self.burst, &mut 0, &mut burst, &mut || (kind, flow(traffic))) {
            self.feed.send_burst(&mut burst);
        }
        self.worker.turn(&self.snapshot);
        let mut came = 0;
        loop {
            burst.clear();
            // What other workers handed over comes out beside the own packets.
            match self.drain.receive_burst(&mut burst) {
                0 => return came,
                some => came += some,
            }
        }
    }

    fn open(&mut self) -> Timing {
        for kind in [Kind::Opening, Kind::Request] {
            let own = self.own;
            let mut next = 0;
            while next < own.flows {
                self.round(kind, |traffic| {
                    loop {
                        let flow = next % own.flows;
                        next += 1;
                        if own.own(traffic, flow) {
                            return flow;
                        }
                    }
                });
            }
        }
        Timing::default()
    }

    fn forward(&mut self, length: Duration, clients: Clients) -> Timing {
        let mut draw = Draw::new(clients.flows, 5);
        timed(length, || {
            // When the other has lost its core for a while, going on would only drop.
            if self.peer.len() > HAND_OVER_RING as usize / 2 {
                std::thread::sleep(Duration::from_micros(500));
            }
            self.round(Kind::Request, |traffic| clients.draw(traffic, &mut draw))
        })
    }

    fn source(&mut self, length: Duration) -> Timing {
        let mut draw = Draw::new(self.own.flows, 5);
        timed(length, || {
            let mut burst = MbufBurst::new();
            let mut next = || (Kind::Request, self.own.draw(&self.traffic, &mut draw));
            fill(&self.pool, &self.traffic, self.burst, &mut 0, &mut burst, &mut next);
            self.pipe.0.send_burst(&mut burst);
            self.pipe.1.receive_burst(&mut burst);
            burst.clear()
        })
    }

    fn macswap(&mut self, length: Duration) -> Timing {
        let mut draw = Draw::new(self.own.flows, 5);
        timed(length, || {
            let (rx, tx, feed, drain) = &mut self.floor;
            let mut burst = MbufBurst::new();
            let mut next = || (Kind::Request, self.own.draw(&self.traffic, &mut draw));
            fill(&self.pool, &self.traffic, self.burst, &mut 0, &mut burst, &mut next);
            feed.send_burst(&mut burst);
            rx.burst(&mut burst);
            burst.iter_mut().for_each(|mbuf| swap_macs(mbuf.data_mut()));
            tx.burst(&mut burst);
            drain.receive_burst(&mut burst);
            burst.clear()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_follows_its_formula() {
        let spread = |ns: f64| Spread::of(vec![ns]);
        let times = |source, macswap, forward| [vec![source], vec![macswap], vec![forward]];
        let alone = times(10.0, 12.0, 50.0);
        let steps = [step(1, &alone, &alone), step(2, &times(10.0, 15.0, 60.0), &alone)];
        assert_eq!((steps[1].macswap_scaling, steps[1].forward_scaling), (1.6, 1.667));
        assert_eq!(steps[1].forward_ns, spread(60.0));
        let model = model(&steps, 30.0);
        assert_eq!(model[0], Modelled { workers: 1, placed_mpps: 20.0, handed_over_mpps: 20.0 });
        assert_eq!(model[1], Modelled { workers: 2, placed_mpps: 40.0, handed_over_mpps: 30.77 });
        assert_eq!(model.last().map(|row| row.placed_mpps), Some(1280.0));
    }
}
