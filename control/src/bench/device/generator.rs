//! The generator: sends frames at a given rate or as fast as it can, and counts what comes back.

use std::time::Duration;

use dpdk_sys::{Clock, MbufBurst, Mempool};
use shunt_dataplane::id::Protocol;

use super::link::End;
use super::search::Trial;
use crate::bench::rig::{Bench, fill};
use crate::bench::traffic::{Draw, Kind, Traffic};
use crate::bench::verify::{self, UNKNOWN};
use crate::bench::{BenchError, Shape};

/// Packets on their way at once while each is looked at: few enough for every queue.
const STEP: usize = 32;
/// How long a packet that is looked at may take.
const STEP_WITHIN: Duration = Duration::from_millis(2000);
/// Nothing came for so long: nothing will. A worker that the system keeps from its CPU for longer than that loses what it holds.
const QUIET: Duration = Duration::from_millis(100);
/// How often the trial is looked at while it runs: shorter than what a system usually lets a thread run.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long to wait for late packets (RFC 2544, 23: two seconds).
const LATE: Duration = Duration::from_secs(2);

/// How packets are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many in a second; what a NIC does not take at once is lost.
    PerSecond(f64),
    /// As many as NICs take.
    Full,
    /// So many one behind the other, then none; what a NIC does not take at once is lost.
    BackToBack(u64),
}

/// Sends and receives at the far ends of the director's NICs.
#[derive(Debug)]
pub struct Generator<'a> {
    /// The packets.
    pub traffic: Traffic,
    /// The first towards clients, the last towards real servers.
    ends: &'a mut [End],
    pool: Mempool,
    clock: Clock,
    burst: usize,
    /// Of the next frame.
    size: usize,
}

impl<'a> Generator<'a> {
    /// A generator of packets of a shape at these ends.
    #[must_use]
    pub fn new(bench: &Bench, shape: &Shape, ends: &'a mut [End]) -> Self {
        let traffic = Traffic::new(shape.family, shape.protocol, shape.frame, shape.services, shape.reals);
        Self { traffic, ends, pool: bench.pool.clone(), clock: bench.clock, burst: shape.burst, size: 0 }
    }

    /// The places of the ends where a kind of packet goes in and comes out.
    fn ways(&self, kind: Kind) -> (usize, usize) {
        let last = self.ends.len() - 1;
        if kind == Kind::Answer { (last, 0) } else { (0, last) }
    }

    /// Sends a frame of each flow and waits until as many have come.
    fn exchange(&mut self, kind: Kind, flows: &[u32]) -> Result<Vec<Vec<u8>>, BenchError> {
        let (inward, outward) = self.ways(kind);
        let mut burst = MbufBurst::new();
        let mut next = flows.iter();
        let Self { pool, traffic, size, .. } = self;
        if !fill(pool, traffic, flows.len(), size, &mut burst, &mut || {
            (kind, next.next().copied().unwrap_or_default())
        }) {
            return Err(BenchError::new("no buffers are left for the generator"));
        }
        let deadline = self.clock.now() + STEP_WITHIN;
        let mut came = Vec::with_capacity(flows.len());
        let mut received = MbufBurst::new();
        while came.len() < flows.len() {
            self.ends[inward].send(&mut burst);
            self.ends[outward].receive(&mut received);
            came.extend(received.iter().map(|mbuf| mbuf.data().to_vec()));
            received.clear();
            if self.clock.now() > deadline {
                return Err(BenchError::new(&format!(
                    "{} of {} packets came back within {} ms",
                    came.len(),
                    flows.len(),
                    STEP_WITHIN.as_millis()
                )));
            }
        }
        Ok(came)
    }

    /// Opens all flows in the order of their numbers and learns in which order real servers are chosen.
    ///
    /// # Errors
    /// When a packet does not come back.
    pub fn open(&mut self, flows: u32) -> Result<(), BenchError> {
        self.traffic.order = vec![UNKNOWN; self.traffic.reals as usize];
        let kinds: &[Kind] = match self.traffic.protocol {
            Protocol::Tcp => &[Kind::Opening, Kind::Request],
            // Nothing is measured with the others.
            Protocol::Udp | Protocol::Sctp | Protocol::Icmp => &[Kind::Opening],
        };
        for &kind in kinds {
            let mut first = 0;
            while first < flows {
                let step: Vec<u32> = (first..flows).take(STEP).collect();
                let frames = self.exchange(kind, &step)?;
                if kind == Kind::Opening {
                    for (flow, frame) in step.iter().zip(&frames) {
                        verify::learn(&mut self.traffic, *flow, verify::real_of(frame))?;
                    }
                }
                first += step.len() as u32;
            }
        }
        self.traffic.order.iter_mut().filter(|real| **real == UNKNOWN).for_each(|real| *real = 0);
        Ok(())
    }

    /// Sends packets of open flows and compares every byte of what comes back; says how many.
    ///
    /// # Errors
    /// When a packet is lost or other than it should be.
    pub fn check(&mut self, shape: &Shape, kind: Kind, count: u64, flows: u32) -> Result<u64, BenchError> {
        let mut draw = Draw::new(flows, 42);
        let mut compared = 0;
        while compared < count {
            let step: Vec<u32> = (0..STEP).map(|_| draw.flow()).collect();
            let mut size = self.size;
            let frames = self.exchange(kind, &step)?;
            for (flow, frame) in step.iter().zip(&frames) {
                let input = self.traffic.frame(kind, size, *flow);
                size = (size + 1) % self.traffic.sizes();
                verify::compare(&self.traffic, shape, kind, *flow, &input, frame)?;
            }
            compared += frames.len() as u64;
        }
        Ok(compared)
    }

    /// Sends packets of open flows, drawn at random, for a while. Calls `look` every [`LOOK_EVERY`].
    ///
    /// # Errors
    /// When there are no buffers.
    pub fn trial(
        &mut self,
        kind: Kind,
        flows: u32,
        rate: Rate,
        length: Duration,
        mut look: impl FnMut(),
    ) -> Result<Trial, BenchError> {
        let mut next_look = Duration::ZERO;
        self.send(kind, flows, rate, length, |elapsed, _, _| {
            if elapsed >= next_look {
                look();
                next_look = elapsed + LOOK_EVERY;
            }
        })
    }

    /// How long packets take at a rate, from when they are handed to the generator's NIC until they come back: of one after the other.
    /// Packets come back in their order, so that the number of one says when; none where some were lost.
    ///
    /// # Errors
    /// When there are no buffers.
    pub fn latency(
        &mut self,
        kind: Kind,
        flows: u32,
        rate: Rate,
        length: Duration,
    ) -> Result<Option<Vec<Duration>>, BenchError> {
        let mut samples = Vec::new();
        // The turn that sends a packet begins when the one before it ends.
        let (mut on_its_way, mut turn) = (None, Duration::ZERO);
        let trial = self.send(kind, flows, rate, length, |elapsed, sent, received| {
            match on_its_way {
                Some((number, since)) if received >= number => {
                    samples.push(elapsed.saturating_sub(since));
                    on_its_way = None;
                }
                None if sent > received => on_its_way = Some((sent, turn)),
                _ => {}
            }
            turn = elapsed;
        })?;
        Ok((trial.offered == trial.received).then_some(samples))
    }

    /// Sends; `each` is told the time, how many were sent and how many came back, in every turn.
    fn send(
        &mut self,
        kind: Kind,
        flows: u32,
        rate: Rate,
        length: Duration,
        mut each: impl FnMut(Duration, u64, u64),
    ) -> Result<Trial, BenchError> {
        let (inward, outward) = self.ways(kind);
        // What came too late for the trial before belongs to none.
        while self.ends[outward].receive(&mut MbufBurst::new()) > 0 {}
        let mut draw = Draw::new(flows, 7);
        let (mut offered, mut received) = (0_u64, 0_u64);
        let (mut burst, mut came) = (MbufBurst::new(), MbufBurst::new());
        let start = self.clock.now();
        let mut elapsed = Duration::ZERO;
        while elapsed < length && rate != Rate::BackToBack(offered) {
            let count = match rate {
                Rate::Full => self.burst - burst.len().min(self.burst),
                Rate::PerSecond(rate) => {
                    let due = (elapsed.as_secs_f64() * rate) as u64;
                    due.saturating_sub(offered).min(self.burst as u64) as usize
                }
                Rate::BackToBack(frames) => (frames - offered).min(self.burst as u64) as usize,
            };
            if count > 0 {
                let Self { pool, traffic, size, .. } = self;
                let mut next = || (kind, draw.flow());
                if fill(pool, traffic, count, size, &mut burst, &mut next) {
                    offered += count as u64;
                } else if rate != Rate::Full {
                    return Err(BenchError::new("no buffers are left for the generator"));
                }
            }
            if !burst.is_empty() {
                self.ends[inward].send(&mut burst);
                if rate != Rate::Full {
                    burst.clear();
                }
            }
            received += self.ends[outward].receive(&mut came) as u64;
            came.clear();
            elapsed = self.clock.now() - start;
            each(elapsed, offered, received);
        }
        offered -= burst.clear() as u64;
        received += self.late(outward, offered.saturating_sub(received));
        let asked = match rate {
            Rate::Full | Rate::BackToBack(_) => 0.0,
            Rate::PerSecond(rate) => rate,
        };
        Ok(Trial { asked_per_second: asked, offered, received, seconds: elapsed.as_secs_f64() })
    }

    /// Waits for so many packets that are still on their way.
    fn late(&mut self, outward: usize, missing: u64) -> u64 {
        let start = self.clock.now();
        let (mut last, mut count) = (start, 0);
        let mut came = MbufBurst::new();
        loop {
            let now = self.clock.now();
            if self.ends[outward].receive(&mut came) > 0 {
                count += came.clear() as u64;
                last = now;
            }
            if count >= missing || now - last > QUIET || now - start > LATE {
                return count;
            }
        }
    }
}
