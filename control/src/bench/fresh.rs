//! Connections that begin and end: how fast they can, and how long turns take then.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::time::Ticks;

use super::measure::{Alone, Effort, Others, Repetitions, Spread, Timing, timed, timed_turn};
use super::report::{Cell, Verified};
use super::rig::{Bench, Lifetime, Rig};
use super::times::{Quantiles, Times};
use super::traffic::Kind;
use super::{BenchError, Shape};

/// Parts of the table whose filling is timed apart.
const STEPS: u32 = 10;
/// The share of the table that a director should be able to use.
const USABLE_STEPS: u32 = 9;
/// How long connections live that begin and end at once.
const SHORT_LIFE: Ticks = Ticks(50);
/// Room for connections that begin as fast as they can and wait for the hand, which goes round in a second.
const STEADY_CAPACITY: u32 = 10_000_000;
/// Longer than this nobody waits for connections to end, beyond their time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How fast connections begin as the table fills.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Part by part, the median of all repetitions.
    pub steps: Vec<Step>,
    /// By how many percent a connection costs more in the last tenth below 90 % than in the median tenth; negative when
    /// it costs less.
    #[serde(default)]
    pub last_tenth_slower_percent: f64,
    /// Nanoseconds for a packet that finds the table full.
    pub refused_ns: f64,
}

/// A part of the table filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// How full the table is then, in percent.
    pub percent: u32,
    /// Nanoseconds for a new connection, source and sink left out.
    pub ns: f64,
    /// New connections in a second.
    pub per_second: f64,
}

/// How connections end when nothing else happens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expiry {
    /// Connections that ended in a second.
    pub per_second: f64,
    /// Turns in which some ended.
    pub turn_ns: Quantiles,
}

/// Connections that begin as fast as they can while as many end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Connections made in a second of the director's time.
    pub made_per_second: f64,
    /// Connections that ended in that time.
    pub expired_per_second: f64,
    /// Packets that found the table full, in a second.
    pub refused_per_second: f64,
    /// Connections that the table had room for: more than asked where these would not have had it.
    #[serde(default)]
    pub capacity: u64,
    /// Turns.
    pub turn_ns: Quantiles,
}

impl Growth {
    /// The median of several, step by step.
    fn median(growths: &[Self]) -> Self {
        let median = |values: &mut dyn Iterator<Item = f64>| Spread::of(values.collect()).median;
        let step = |at: usize| {
            let ns = median(&mut growths.iter().filter_map(|growth| Some(growth.steps.get(at)?.ns)));
            Step { percent: (at as u32 + 1) * 100 / STEPS, ns, per_second: (1e9 / ns.max(0.1)).round() }
        };
        let steps: Vec<Step> = (0..STEPS as usize).map(step).collect();
        let usable = &steps[..USABLE_STEPS as usize];
        let middle = median(&mut usable.iter().map(|step| step.ns));
        let last = usable.last().map_or(0.0, |step| step.ns);
        Self {
            last_tenth_slower_percent: ((last / middle.max(0.1) - 1.0) * 1000.0).round() / 10.0,
            refused_ns: median(&mut growths.iter().map(|growth| growth.refused_ns)),
            steps,
        }
    }
}

/// A counter as flow numbers.
fn counted(kind: Kind, next: &mut u32) -> impl FnMut() -> (Kind, u32) + '_ {
    move || {
        let flow = *next;
        *next = next.wrapping_add(1);
        (kind, flow)
    }
}

/// The time of `bursts` rounds of new flows.
fn rounds(rig: &mut Rig, bursts: u32, next: &mut u32) -> Timing {
    let mut left = bursts;
    let (start, ran) = (Instant::now(), dpdk_sys::thread::cpu_time());
    let mut flows = counted(Kind::Opening, next);
    while left > 0 {
        rig.round(&mut flows);
        left -= 1;
    }
    let packets = u64::from(bursts) * rig.burst() as u64;
    Timing { packets, ran: dpdk_sys::thread::cpu_time().saturating_sub(ran), passed: start.elapsed() }
}

/// Nanoseconds that source and sink take for a new flow's packet.
fn source_alone(bench: &Bench, rig: &Rig, length: Duration) -> Result<Timing, BenchError> {
    let mut alone = Alone::new(bench)?;
    let mut next = 0;
    let mut flows = counted(Kind::Opening, &mut next);
    Ok(timed(length, || alone.round(&rig.traffic, rig.burst(), &mut flows)))
}

/// Fills a table of `capacity` with new connections and beyond, lets them end, and does both at once.
///
/// # Errors
/// When a connection is not made although there is room, or DPDK refuses something.
pub fn beginnings(bench: &Bench, shape: &Shape, capacity: u32, effort: Effort) -> Result<Cell, BenchError> {
    let mut cell = Cell::new(shape, Kind::Opening, u64::from(capacity));
    "new".clone_into(&mut cell.kind);
    cell.table_capacity = capacity.into();
    let mut repetitions = Repetitions::default();
    let mut growths = Vec::new();
    for _ in 0..effort.repetitions {
        let mut rig = Rig::new(bench, shape, capacity, Lifetime::Usual)?;
        let source = source_alone(bench, &rig, effort.length / 3)?;
        let (growth, usable) = grow(&mut rig, source.nanoseconds())?;
        repetitions.add(usable, source);
        growths.push(growth);
        cell.verified = Verified { packets_compared: 0, connections: rig.connections(), lost: 0 };
    }
    cell.time(bench, &repetitions);
    cell.growth = Some(Growth::median(&growths));
    cell.expiry = Some(endings(bench, shape, capacity)?);
    let steady = steady(bench, shape, capacity.max(STEADY_CAPACITY), effort)?;
    cell.turn_ns = steady.turn_ns.clone();
    cell.steady = Some(steady);
    Ok(cell)
}

/// Fills the table part by part; gives the time of the usable part too.
fn grow(rig: &mut Rig, source_ns: f64) -> Result<(Growth, Timing), BenchError> {
    let bursts = (rig.capacity / STEPS / rig.burst() as u32).max(1);
    let mut next = 0;
    let mut growth = Growth::default();
    let mut usable = Timing::default();
    for step in 1..=STEPS {
        let timing = rounds(rig, bursts, &mut next);
        let ns = (timing.nanoseconds() - source_ns).max(0.1);
        growth.steps.push(Step {
            percent: step * 100 / STEPS,
            ns: (ns * 10.0).round() / 10.0,
            per_second: (1e9 / ns).round(),
        });
        if step <= USABLE_STEPS {
            usable.packets += timing.packets;
            usable.ran += timing.ran;
            usable.passed += timing.passed;
            if rig.connections() < u64::from(next.min(rig.capacity)) {
                let fates = rig.fates();
                return Err(BenchError::new(&format!("of {next} flows some made no connection: {fates}")));
            }
        }
    }
    while rig.dropped(DropReason::TableFull) == 0 && next < rig.capacity * 2 {
        rounds(rig, 1, &mut next);
    }
    let beyond = rounds(rig, bursts, &mut next);
    growth.refused_ns = ((beyond.nanoseconds() - source_ns).max(0.0) * 10.0).round() / 10.0;
    Ok((growth, usable))
}

/// Fills the table with connections that live briefly and watches them end.
fn endings(bench: &Bench, shape: &Shape, capacity: u32) -> Result<Expiry, BenchError> {
    // Long enough that none ends while the others begin.
    let life = Ticks::from_seconds(2 + capacity / 2_000_000);
    let mut rig = Rig::new(bench, shape, capacity, Lifetime::Short(life))?;
    let bursts = capacity / STEPS * USABLE_STEPS / rig.burst() as u32;
    rounds(&mut rig, bursts, &mut 0);
    let all = rig.connections();
    let (mut times, mut others) = (Times::default(), Others::new(bench));
    let deadline = Instant::now() + life.as_duration() + PATIENCE;
    let (mut before, mut began) = (all, None);
    while before > 0 {
        let now = Instant::now();
        let took = timed_turn(&mut rig, &mut others);
        let left = rig.connections();
        if left != before {
            began.get_or_insert(now);
            times.add(took);
            before = left;
        }
        if now > deadline {
            return Err(BenchError::new(&format!("{left} of {all} connections did not end in time")));
        }
    }
    let took = began.map_or(Duration::ZERO, |began| began.elapsed());
    Ok(Expiry {
        per_second: (all as f64 / took.as_secs_f64().max(1e-6)).round(),
        turn_ns: times.quantiles(&bench.clock),
    })
}

/// New connections without a pause, which live briefly.
fn steady(bench: &Bench, shape: &Shape, capacity: u32, effort: Effort) -> Result<Steady, BenchError> {
    let mut rig = Rig::new(bench, shape, capacity, Lifetime::Short(SHORT_LIFE))?;
    let source = source_alone(bench, &rig, effort.length / 3)?.nanoseconds();
    let mut next = 0;
    // Until the first have ended.
    let settled = Instant::now() + SHORT_LIFE.as_duration() * 3;
    while Instant::now() < settled {
        rounds(&mut rig, 64, &mut next);
    }
    let counters = rig.shared.counters.clone();
    let count = |rig: &Rig| {
        [
            counters.connections_made.get(),
            counters.connections_expired.get(),
            rig.dropped(DropReason::TableFull),
        ]
    };
    let before = count(&rig);
    let (mut times, mut others) = (Times::default(), Others::new(bench));
    let end = Instant::now() + (effort.length * effort.repetitions).max(Duration::from_secs(2));
    let ran = dpdk_sys::thread::cpu_time();
    let mut packets = 0;
    while Instant::now() < end {
        packets += rig.feed(counted(Kind::Opening, &mut next));
        times.add(timed_turn(&mut rig, &mut others));
        rig.drain(|_| ());
    }
    let ran = dpdk_sys::thread::cpu_time().saturating_sub(ran).as_secs_f64();
    let seconds = (ran - packets as f64 * source * 1e-9).max(1e-6);
    let after = count(&rig);
    let [made, expired, refused] =
        std::array::from_fn(|at| ((after[at] - before[at]) as f64 / seconds).round());
    Ok(Steady {
        made_per_second: made,
        expired_per_second: expired,
        refused_per_second: refused,
        capacity: capacity.into(),
        turn_ns: times.quantiles(&bench.clock),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_that_slows_down_shows() {
        let growth = |last: f64| Growth {
            steps: (1..=STEPS)
                .map(|step| Step {
                    percent: step * 10,
                    ns: if step >= 9 { last } else { 100.0 },
                    per_second: 0.0,
                })
                .collect(),
            ..Growth::default()
        };
        let median = Growth::median(&[growth(100.0), growth(150.0), growth(125.0)]);
        assert_eq!((median.last_tenth_slower_percent, median.steps[8].per_second), (25.0, 8e6));
        assert_eq!((median.steps[0].percent, median.steps[9].percent), (10, 100));
    }
}
