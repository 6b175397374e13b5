//! Timing: loops over bursts, the source and the sink alone, and what the numbers of several repetitions say.

use std::time::{Duration, Instant};

use dpdk_sys::{Clock, Cycles, MbufBurst, RingFeed, RingNic, RingReceiver, thread};
use serde::{Deserialize, Serialize};

use super::rig::{Bench, Rig, fill};
use super::times::{Quantiles, Times};
use super::traffic::{Draw, Kind, Mixture, Traffic};
use super::{BenchError, verify};

/// Bursts between two looks at the clock.
const ROUNDS: u32 = 128;
/// A turn that takes longer may have been interrupted by another thread.
const SUSPICIOUS: Duration = Duration::from_micros(15);
/// Turns whose time is taken one by one, at least.
const TURNS_MIN: u32 = 200;

/// The least, the middle and the most of several repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle, or the mean of both.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these numbers; zeros when there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { min, median, max }.rounded()
    }

    /// With each number turned into another; a falling function turns least and most round.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (change(self.min), change(self.max));
        Self { min: a.min(b), median: change(self.median), max: a.max(b) }.rounded()
    }

    fn rounded(self) -> Self {
        let round = |value: f64| (value * 100.0).round() / 100.0;
        Self { min: round(self.min), median: round(self.median), max: round(self.max) }
    }
}

/// Time that went by while packets were worked on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// How many.
    pub packets: u64,
    /// Time that this thread ran.
    pub ran: Duration,
    /// Time on the wall.
    pub passed: Duration,
}

impl Timing {
    /// Nanoseconds of this thread for each packet.
    #[must_use]
    pub fn nanoseconds(&self) -> f64 {
        self.ran.as_nanos() as f64 / self.packets.max(1) as f64
    }
}

/// Makes rounds for a while; each tells how many packets it moved.
pub fn timed(length: Duration, mut round: impl FnMut() -> usize) -> Timing {
    let (start, ran) = (Instant::now(), thread::cpu_time());
    let mut packets = 0;
    loop {
        for _ in 0..ROUNDS {
            packets += round() as u64;
        }
        let passed = start.elapsed();
        if passed >= length {
            return Timing { packets, ran: thread::cpu_time().saturating_sub(ran), passed };
        }
    }
}

/// The source and the sink with nothing between.
#[derive(Debug)]
pub struct Alone<'a> {
    bench: &'a Bench,
    feed: RingFeed,
    drain: RingReceiver,
    size: usize,
}

impl<'a> Alone<'a> {
    /// A source and a sink at the two ends of one ring.
    ///
    /// # Errors
    /// DPDK's.
    pub fn new(bench: &'a Bench) -> Result<Self, BenchError> {
        let (feed, drain) = bench.pipe()?;
        Ok(Self { bench, feed, drain, size: 0 })
    }

    /// A burst from source to sink.
    #[inline]
    pub fn round(&mut self, traffic: &Traffic, count: usize, mut next: impl FnMut() -> (Kind, u32)) -> usize {
        let mut burst = MbufBurst::new();
        if !fill(&self.bench.pool, traffic, count, &mut self.size, &mut burst, &mut next) {
            return 0;
        }
        self.feed.send_burst(&mut burst);
        self.drain.receive_burst(&mut burst);
        burst.clear()
    }
}

/// What several repetitions of one measurement gave.
#[derive(Clone, Debug, Default)]
pub struct Repetitions {
    /// Nanoseconds for a packet, all in all.
    pub total: Vec<f64>,
    /// Those of source and sink.
    pub source: Vec<f64>,
    /// What is left for the director.
    pub net: Vec<f64>,
    /// The largest part of the time in which other threads ran on the core.
    pub disturbed: f64,
}

impl Repetitions {
    /// Adds one.
    pub fn add(&mut self, total: Timing, source: Timing) {
        let (all, alone) = (total.nanoseconds(), source.nanoseconds());
        self.total.push(all);
        self.source.push(alone);
        self.net.push((all - alone).max(0.0));
        let part = 1.0 - total.ran.as_secs_f64() / total.passed.as_secs_f64().max(1e-9);
        self.disturbed = self.disturbed.max(part);
    }
}

/// What packets a measurement sends.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What packets of open flows are.
    pub kind: Kind,
    /// How many flows are open; packets are drawn from them at random.
    pub flows: u32,
    /// Percent of packets that begin a connection instead.
    pub new_share: u32,
}

/// How often, and how long each time.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Repetitions.
    pub repetitions: u32,
    /// The length of each.
    pub length: Duration,
}

/// Measures packets of open connections, drawn at random, and of new ones where the load has such.
///
/// # Errors
/// When a packet is lost.
pub fn forwarding(
    bench: &Bench,
    rig: &mut Rig,
    load: Load,
    effort: Effort,
) -> Result<Repetitions, BenchError> {
    let mut alone = Alone::new(bench)?;
    let mut repetitions = Repetitions::default();
    for repetition in 0..effort.repetitions {
        let seed = u64::from(repetition) << 32;
        let mixture = |rig: &Rig, seed| Mixture::new(load.kind, load.flows, load.new_share, rig.fresh, seed);
        let mut packets = mixture(rig, seed);
        let count = rig.burst();
        let source = timed(effort.length / 3, || alone.round(&rig.traffic, count, || packets.packet()));
        let mut packets = mixture(rig, seed + 1);
        let mut missing = 0;
        let total = timed(effort.length, || {
            let came = rig.round(|| packets.packet());
            missing += rig.burst() - came;
            came
        });
        rig.fresh = packets.fresh();
        if missing > 0 {
            let all = total.packets as usize;
            return Err(verify::lost(rig, all + missing, all));
        }
        repetitions.add(total, source);
    }
    Ok(repetitions)
}

/// Takes the time of turns one by one.
pub fn turn_times(bench: &Bench, rig: &mut Rig, load: Load, length: Duration) -> Quantiles {
    let mut mixture = Mixture::new(load.kind, load.flows, load.new_share, rig.fresh, 7);
    let mut times = Times::default();
    let mut turns = 0;
    let mut others = Others::new(bench);
    let start = Instant::now();
    while turns < TURNS_MIN || start.elapsed() < length {
        rig.feed(|| mixture.packet());
        times.add(timed_turn(rig, &mut others));
        rig.drain(|_| ());
        turns += 1;
    }
    rig.fresh = mixture.fresh();
    times.quantiles(&bench.clock)
}

/// One turn of the worker and its time in cycles, that of others left out.
#[inline]
pub fn timed_turn(rig: &mut Rig, others: &mut Others) -> u64 {
    let start = Cycles::now();
    rig.turn();
    let end = Cycles::now();
    end.since(start).saturating_sub(others.between(start, end))
}

/// Notices when others ran on the core instead of this thread.
#[derive(Debug)]
pub struct Others {
    clock: Clock,
    suspicious: u64,
    reckoned: Cycles,
    ran: Duration,
}

impl Others {
    /// From now on.
    #[must_use]
    pub fn new(bench: &Bench) -> Self {
        let suspicious = bench.clock.cycles(SUSPICIOUS);
        Self { clock: bench.clock, suspicious, reckoned: Cycles::now(), ran: thread::cpu_time() }
    }

    /// Cycles between two moments that others had; nothing when the moments lie close together. Whoever calls this
    /// leaves no long gaps between the pairs.
    #[inline]
    pub fn between(&mut self, start: Cycles, end: Cycles) -> u64 {
        if end.since(start) < self.suspicious { 0 } else { self.reckon().min(end.since(start)) }
    }

    /// What others had since this was called last. A system call: too dear for every turn.
    #[cold]
    fn reckon(&mut self) -> u64 {
        let (now, ran) = (Cycles::now(), thread::cpu_time());
        let mine = self.clock.cycles(ran.saturating_sub(self.ran));
        let theirs = now.since(self.reckoned).saturating_sub(mine);
        (self.reckoned, self.ran) = (now, ran);
        theirs
    }
}

/// What the machine gives at best: MACs swapped between the same rings.
///
/// # Errors
/// DPDK's.
pub fn floor(
    bench: &Bench,
    traffic: &Traffic,
    burst: usize,
    effort: Effort,
) -> Result<Repetitions, BenchError> {
    let RingNic { nic: _nic, mut rx, mut tx, mut feeds, mut drains } = bench.nic()?;
    let (Some(rx), Some(tx), Some(feed), Some(drain)) =
        (rx.first_mut(), tx.first_mut(), feeds.first_mut(), drains.first_mut())
    else {
        return Err(BenchError::new("a NIC of rings came without queues"));
    };
    let mut alone = Alone::new(bench)?;
    let mut repetitions = Repetitions::default();
    for repetition in 0..effort.repetitions {
        let mut draw = Draw::new(1 << 10, u64::from(repetition));
        let source =
            timed(effort.length / 3, || alone.round(traffic, burst, || (Kind::Request, draw.flow())));
        let mut size = 0;
        let total = timed(effort.length, || {
            let mut packets = MbufBurst::new();
            fill(&bench.pool, traffic, burst, &mut size, &mut packets, &mut || (Kind::Request, draw.flow()));
            feed.send_burst(&mut packets);
            rx.burst(&mut packets);
            for mbuf in packets.iter_mut() {
                swap_macs(mbuf.data_mut());
            }
            tx.burst(&mut packets);
            drain.receive_burst(&mut packets);
            packets.clear()
        });
        repetitions.add(total, source);
    }
    Ok(repetitions)
}

/// Swaps the two addresses of an Ethernet header.
#[inline]
pub fn swap_macs(frame: &mut [u8]) {
    if let Some((destination, rest)) = frame.split_first_chunk_mut::<6>() {
        if let Some(source) = rest.first_chunk_mut::<6>() {
            std::mem::swap(destination, source);
        }
    }
}

/// Resident memory of this process, in bytes.
#[must_use]
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0]), Spread { min: 1.0, median: 2.5, max: 4.0 });
        assert_eq!(spread(&[]), Spread::default());
        let rates = spread(&[10.0, 20.0, 40.0]).map(|ns| 1000.0 / ns);
        assert_eq!(rates, Spread { min: 25.0, median: 50.0, max: 100.0 });
    }
}
