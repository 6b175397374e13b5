//! How long packets wait at part of the highest rate: a source that keeps to a schedule on the worker's own core.
//!
//! The time of a packet goes from the moment when it was due until it came out, so that a source which the worker kept
//! from its work lengthens it, as waiting in a NIC would. While other threads have the core the schedule stands still.

use std::time::Duration;

use dpdk_sys::{Cycles, thread};
use serde::{Deserialize, Serialize};

use super::BenchError;
use super::measure::{Load, Others, Timing};
use super::rig::{Bench, Rig};
use super::times::{Quantiles, Times};
use super::traffic::Mixture;

/// Percent of the highest rate at which packets are timed.
const LOADS: [u32; 2] = [50, 90];
/// Cycles between two packets are reckoned in parts of so many bits.
const FRACTION_BITS: u32 = 16;

/// The time of packets at one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Percent of the highest rate of source, worker and sink on one core.
    pub load_percent: u32,
    /// Packets in a second.
    pub packets_per_second: f64,
    /// Packets in a burst that was not empty, on average.
    pub burst: f64,
    /// From the moment a packet was due until it came out.
    pub ns: Quantiles,
}

/// When packets are due.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As soon as there is room.
    Full,
    /// One after so many cycles, times 2^[`FRACTION_BITS`].
    Every(u64),
}

/// What a paced run gave.
struct Run {
    timing: Timing,
    bursts: u64,
    times: Times,
}

/// Takes the time of packets at part of the rate that this very loop reaches.
///
/// # Errors
/// When a packet is lost.
pub fn latencies(
    bench: &Bench,
    rig: &mut Rig,
    load: Load,
    length: Duration,
) -> Result<Vec<Latency>, BenchError> {
    let full = run(bench, rig, load, Pace::Full, length)?;
    let cycles = bench.clock.cycles(full.timing.ran) as f64 / full.timing.packets.max(1) as f64;
    let at = |rig: &mut Rig, percent: u32| {
        let interval = cycles * 100.0 / f64::from(percent);
        let pace = Pace::Every((interval * f64::from(1 << FRACTION_BITS)) as u64);
        let run = run(bench, rig, load, pace, length)?;
        Ok(Latency {
            load_percent: percent,
            packets_per_second: (bench.clock.cycles_per_second() as f64 / interval).round(),
            burst: (run.timing.packets as f64 / run.bursts.max(1) as f64 * 10.0).round() / 10.0,
            ns: run.times.quantiles(&bench.clock),
        })
    };
    LOADS.iter().map(|&percent| at(rig, percent)).collect()
}

fn run(bench: &Bench, rig: &mut Rig, load: Load, pace: Pace, length: Duration) -> Result<Run, BenchError> {
    let mut mixture = Mixture::new(load.kind, load.flows, load.new_share, rig.fresh, 3);
    let mut times = Times::default();
    let (mut fed, mut came, mut bursts) = (0_u64, 0_u64, 0);
    let ran = thread::cpu_time();
    let length = bench.clock.cycles(length);
    let mut others = Others::new(bench);
    let mut begin = Cycles::now();
    let mut last = begin;
    loop {
        let reading = Cycles::now();
        begin.0 += others.between(last, reading);
        last = reading;
        let now = reading.since(begin);
        if now >= length {
            break;
        }
        let burst = rig.burst();
        let count = match pace {
            Pace::Full => burst,
            Pace::Every(interval) => {
                let due = (now << FRACTION_BITS) / interval.max(1);
                usize::try_from(due.saturating_sub(fed)).map_or(burst, |behind| behind.min(burst))
            }
        };
        if count > 0 {
            fed += rig.feed_some(count, || mixture.packet()) as u64;
            bursts += 1;
        }
        rig.turn();
        let out = came + rig.drain(|_| ()) as u64;
        let reading = Cycles::now();
        begin.0 += others.between(last, reading);
        last = reading;
        let now = reading.since(begin);
        for number in came..out {
            let due = match pace {
                Pace::Full => 0,
                Pace::Every(interval) => (number * interval) >> FRACTION_BITS,
            };
            times.add(now.saturating_sub(due));
        }
        came = out;
    }
    rig.fresh = mixture.fresh();
    if came != fed {
        return Err(super::verify::lost(rig, fed as usize, came as usize));
    }
    let passed = bench.clock.duration(Cycles::now().since(begin));
    Ok(Run {
        timing: Timing { packets: fed, ran: thread::cpu_time().saturating_sub(ran), passed },
        bursts,
        times,
    })
}
