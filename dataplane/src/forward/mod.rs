//! The decision: a burst of packets in, a verdict for each out.
//!
//! A burst goes through in stages, so that memory is fetched before it is needed: parse and hash all and ask for
//! their table lines, then for their entries, then decide each in turn. `decide` reads only; what it
//! decided is written by [`commit`]. So `shunt explain` asks `decide` and changes nothing.

mod commit;
mod decide;
mod explain;
mod icmp;
mod unserved;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::address::Address;
use crate::connections::{Candidate, Entry, Table};
use crate::counters::WorkerCounters;
use crate::flow::HashKey;
use crate::id::{Generation, NicId, WorkerId};
use crate::packet::Packet;
use crate::processor;
use crate::reason::{DropReason, PuntReason, ReplyKind};
use crate::reply::ReplyLimit;
use crate::service::schedulers::{Cursor, Localities, Scheduler};
use crate::service::{Real, Unresolved};
use crate::snapshot::{Family, Snapshot};
use crate::time::Tick;
use crate::wire::{self, Headers, IpVersion, Kind, ipv4, ipv6};
use decide::Case;
pub use explain::{Explanation, Step};

/// Packets in the largest burst.
pub const BURST_MAX: usize = 64;

/// Packets that go from stage to stage together: far enough ahead for memory to come, and no more lines asked for than a
/// core can wait for.
const GROUP: usize = 12;

/// With more real servers than this, they and their counters are fetched ahead too.
const REALS_AT_HAND: usize = 256;

/// The places of the group that begins at `start`; none before the burst or behind its `count` packets.
#[inline(always)]
fn group(start: usize, count: usize) -> Range<usize> {
    let start = start.min(count);
    start..(start + GROUP).min(count)
}

/// One verdict for each packet of a burst, in order.
pub type Verdicts = ArrayVec<Verdict, BURST_MAX>;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was rewritten: out of this NIC.
    Send(NicId),
    /// It was consumed and a reply made in its place: out of this NIC.
    Reply(NicId, ReplyKind),
    /// It belongs to another worker; unchanged.
    HandOver(WorkerId),
    /// To the control core; unchanged.
    Punt(Punt),
    /// Gone.
    Drop(DropReason),
}

/// Why, and with what, a packet goes to the control core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Punt {
    /// An ARP packet.
    Arp,
    /// An IPv6 neighbour discovery packet.
    NeighbourDiscovery,
    /// For the director's own address.
    Local,
    /// Waits until this neighbour is resolved, and is then injected again.
    Unresolved(Unresolved),
}

impl Punt {
    /// The counter's reason.
    #[must_use]
    pub const fn reason(self) -> PuntReason {
        match self {
            Self::Arp => PuntReason::Arp,
            Self::NeighbourDiscovery => PuntReason::NeighbourDiscovery,
            Self::Local => PuntReason::Local,
            Self::Unresolved(_) => PuntReason::Unresolved,
        }
    }
}

/// A verdict that needs nothing to be written: neither a connection nor the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aside {
    HandOver(WorkerId),
    Punt(Punt),
    Drop(DropReason),
}

impl From<Aside> for Verdict {
    fn from(aside: Aside) -> Self {
        match aside {
            Aside::HandOver(worker) => Self::HandOver(worker),
            Aside::Punt(punt) => Self::Punt(punt),
            Aside::Drop(reason) => Self::Drop(reason),
        }
    }
}

/// The data path of one worker: its connections and cursors, and the rules by which packets meet them.
#[derive(Debug)]
pub struct Forwarder {
    worker: WorkerId,
    /// The generation that it ran last.
    seen: Generation,
    /// Entries of each table that were looked at since real servers were removed whose connections end at once.
    flushed: (usize, usize),
    connections: Connections,
    /// Where each service's scheduler stands, by [`crate::id::ServiceId`].
    cursors: Vec<Cursor>,
    /// What `lblc` and `lblcr` learned.
    localities: Localities,
    reply_limit: ReplyLimit,
    /// Of the next tunnel header or reply that needs one.
    identification: u16,
    counters: Arc<WorkerCounters>,
}

/// How many connections a worker can hold, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// IPv4 connections.
    pub v4: u32,
    /// IPv6 connections.
    pub v6: u32,
}

/// A packet between the stages: what was learned of it so far.
struct Staged<A> {
    headers: Headers<A>,
    /// Of its flow; 0 when it has none.
    hash: u64,
    /// Where its connection may be.
    candidate: Candidate,
}

/// The packets of a burst between the stages.
type Stages = ArrayVec<Stage, BURST_MAX>;

/// A packet of any kind between the stages.
#[repr(u8)]
enum Stage {
    V4(Staged<Ipv4Addr>),
    V6(Staged<Ipv6Addr>),
    Done(Aside),
}

impl<A> Staged<A> {
    /// Hashes the flow and asks for its bucket.
    #[inline(always)]
    fn new(headers: Headers<A>, table: &Table<A>) -> Self
    where
        A: Address,
    {
        let hash = headers.flow().map_or(0, |flow| table.hash(&flow));
        table.prefetch_bucket(hash);
        Self { headers, hash, candidate: Candidate::NONE }
    }
}

impl Forwarder {
    /// The data path of `worker`; all its memory is allocated here.
    #[must_use]
    pub fn new(worker: WorkerId, capacity: Capacity, key: HashKey, counters: Arc<WorkerCounters>) -> Self {
        Self {
            worker,
            seen: Generation(0),
            flushed: (usize::MAX, usize::MAX),
            connections: Connections { v4: Table::new(capacity.v4, key), v6: Table::new(capacity.v6, key) },
            cursors: Vec::new(),
            localities: Localities::default(),
            reply_limit: ReplyLimit::default(),
            identification: 0,
            counters,
        }
    }

    /// This worker's counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<WorkerCounters> {
        &self.counters
    }

    /// The IPv4 connections.
    #[must_use]
    pub const fn v4(&self) -> &Table<Ipv4Addr> {
        &self.connections.v4
    }

    /// The IPv6 connections.
    #[must_use]
    pub const fn v6(&self) -> &Table<Ipv6Addr> {
        &self.connections.v6
    }

    /// Takes a burst of at most [`BURST_MAX`] packets; rewrites those that are sent and says what becomes of each.
    /// What it gives is what the same packets give one by one.
    pub fn burst(
        &mut self,
        snapshot: &Snapshot,
        packets: &mut [Packet<'_>],
        verdicts: &mut Verdicts,
        now: Tick,
    ) {
        verdicts.clear();
        if self.seen != snapshot.generation {
            self.take_up(snapshot);
        }
        let mut stages = Stages::new();
        let count = packets.len();
        let many_reals = snapshot.reals.len() > REALS_AT_HAND;
        let lag = if many_reals { 3 * GROUP } else { 2 * GROUP };
        // Each group is one stage ahead of the group behind it.
        for ahead in (0..count + lag).step_by(GROUP) {
            for packet in group(ahead, count).map(|place| &packets[place]) {
                self.stage(snapshot, packet, &mut stages);
            }
            for place in group(ahead.wrapping_sub(GROUP), count) {
                self.fetch(&mut stages[place]);
            }
            if many_reals {
                for place in group(ahead.wrapping_sub(2 * GROUP), count) {
                    self.real_of(snapshot, &stages[place]).inspect(|real| processor::prefetch(*real));
                }
                for place in group(ahead.wrapping_sub(lag), count) {
                    let real = self.real_of(snapshot, &stages[place]);
                    real.inspect(|real| processor::prefetch(real.counters.of(self.worker)));
                }
            }
            for place in group(ahead.wrapping_sub(lag), count) {
                let packet = &mut packets[place];
                match &stages[place] {
                    Stage::V4(staged) => self.one(snapshot, packet, staged, verdicts, now),
                    Stage::V6(staged) => self.one(snapshot, packet, staged, verdicts, now),
                    Stage::Done(aside) => verdicts.push(self.aside(packet, *aside)),
                }
            }
        }
    }

    /// A new generation: takes the memory that it needs, so that no packet does.
    #[cold]
    fn take_up(&mut self, snapshot: &Snapshot) {
        self.seen = snapshot.generation;
        if self.cursors.len() < snapshot.services.len() {
            self.cursors.resize(snapshot.services.len(), Cursor::default());
        }
        let learns = |scheduler| matches!(scheduler, Scheduler::Lblc | Scheduler::Lblcr);
        if snapshot.services.iter().flatten().any(|service| learns(service.scheduler)) {
            self.localities.prepare();
        }
        let removed = |real: &Real| !real.configured;
        if snapshot.sysctls.expire_nodest_conn && snapshot.reals.iter().flatten().any(removed) {
            self.flushed = (0, 0);
        }
    }

    /// First stage: parse, hash, ask for the bucket. Each way adds to `stages` itself, since what is large is not
    /// handed on.
    #[inline(always)]
    fn stage(&self, snapshot: &Snapshot, packet: &Packet<'_>, stages: &mut Stages) {
        let Some(nic) = snapshot.nic(packet.nic) else {
            return stages.push(Stage::Done(Aside::Drop(DropReason::NoRoute)));
        };
        let frame = packet.bytes();
        let done = match wire::sort(frame, nic.mac) {
            Ok((Kind::V4, link_group)) => match ipv4::parse(frame, nic.mtu, link_group) {
                Ok(headers) => return stages.push(Stage::V4(Staged::new(headers, &self.connections.v4))),
                Err(reason) => Aside::Drop(reason),
            },
            Ok((Kind::V6, link_group)) => match ipv6::parse(frame, nic.mtu, link_group) {
                Ok(headers) => return stages.push(Stage::V6(Staged::new(headers, &self.connections.v6))),
                Err(reason) => Aside::Drop(reason),
            },
            Ok((Kind::Arp, _)) => Aside::Punt(Punt::Arp),
            Err(reason) => Aside::Drop(reason),
        };
        stages.push(Stage::Done(done));
    }

    /// Second stage: find out where the connection may be, and ask for it.
    #[inline(always)]
    fn fetch(&self, stage: &mut Stage) {
        match stage {
            Stage::V4(staged) => staged.candidate = self.connections.v4.prefetch_entry(staged.hash),
            Stage::V6(staged) => staged.candidate = self.connections.v6.prefetch_entry(staged.hash),
            Stage::Done(_) => {}
        }
    }

    /// The real server that a packet probably goes to, to be asked for where there are many.
    #[inline(always)]
    fn real_of<'s>(&self, snapshot: &'s Snapshot, stage: &Stage) -> Option<&'s Real> {
        let real = match stage {
            Stage::V4(staged) => self.connections.v4.candidate_real(staged.candidate)?,
            Stage::V6(staged) => self.connections.v6.candidate_real(staged.candidate)?,
            Stage::Done(_) => return None,
        };
        snapshot.real(real)
    }

    /// Last stage: decide, then do it.
    #[inline(always)]
    fn one<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        staged: &Staged<A>,
        verdicts: &mut Verdicts,
        now: Tick,
    ) {
        match self.passage(snapshot, packet, staged, now) {
            Ok(passage) => match self.pass(snapshot, packet, &staged.headers, &passage, now) {
                // Each pushes for itself: a verdict that is handed on is written twice.
                Ok(nic) => verdicts.push(Verdict::Send(nic)),
                Err(reason) => verdicts.push(Verdict::Drop(reason)),
            },
            Err(case) => verdicts.push(self.seldom(snapshot, packet, staged, case, now)),
        }
    }

    /// A packet that is not simply passed on.
    #[inline(never)]
    fn seldom<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        staged: &Staged<A>,
        case: Case,
        now: Tick,
    ) -> Verdict {
        match self.otherwise(snapshot, packet, staged, case, now) {
            Ok(decision) => self.commit(snapshot, packet, &staged.headers, decision, now),
            Err(aside) => aside.into(),
        }
    }

    /// A packet that parsing ended with.
    #[cold]
    fn aside(&self, packet: &Packet<'_>, aside: Aside) -> Verdict {
        if let Aside::Drop(reason) = aside {
            self.counters.refused_frame(packet.nic, reason);
        }
        aside.into()
    }

    /// Ends connections whose time has come, a bounded number of them: what a worker calls each turn.
    pub fn expire_turn(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.flushed != (usize::MAX, usize::MAX) {
            self.flush_turn(snapshot);
        }
        let Self { worker, connections: Connections { v4, v6 }, counters, .. } = self;
        v4.sweep_turn(now, |entry| commit::expired(snapshot, *worker, counters, entry));
        v6.sweep_turn(now, |entry| commit::expired(snapshot, *worker, counters, entry));
    }

    /// Ends connections of real servers that were removed, a bounded number of them (kernel: `ip_vs_expire_nodest_conn_flush`).
    #[cold]
    fn flush_turn(&mut self, snapshot: &Snapshot) {
        let Self { worker, connections: Connections { v4, v6 }, counters, flushed, .. } = self;
        flush(v4, &mut flushed.0, snapshot, |entry| commit::expired(snapshot, *worker, counters, entry));
        flush(v6, &mut flushed.1, snapshot, |entry| commit::expired(snapshot, *worker, counters, entry));
    }

    /// Ends connections whose time has come: looks at `budget` entries of each table, on from where the last
    /// call stopped.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Tick, budget: usize) {
        let Self { worker, connections: Connections { v4, v6 }, counters, .. } = self;
        v4.sweep(now, budget, |entry| commit::expired(snapshot, *worker, counters, entry));
        v6.sweep(now, budget, |entry| commit::expired(snapshot, *worker, counters, entry));
    }
}

/// Entries of a table that are looked at in a turn for real servers that were removed.
const FLUSH_ENTRIES: usize = 1024;

/// Goes on with a pass through a table for the connections of real servers that were removed; `looked_at` so far.
fn flush<A: Address>(
    table: &mut Table<A>,
    looked_at: &mut usize,
    snapshot: &Snapshot,
    ended: impl FnMut(&Entry<A>),
) {
    let left = table.pass().saturating_sub(*looked_at);
    let removed = |entry: &Entry<A>| snapshot.real(entry.real()).is_some_and(|real| !real.configured);
    table.sweep_over(left.min(FLUSH_ENTRIES), removed, ended);
    *looked_at = if left <= FLUSH_ENTRIES { usize::MAX } else { *looked_at + FLUSH_ENTRIES };
}

/// The connection tables of a worker.
#[derive(Debug)]
struct Connections {
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
}

/// A family that has a connection table.
trait Tables: Address + Family {
    fn table(connections: &Connections) -> &Table<Self>;
    fn table_mut(connections: &mut Connections) -> &mut Table<Self>;
}

impl Tables for Ipv4Addr {
    #[inline]
    fn table(connections: &Connections) -> &Table<Self> {
        &connections.v4
    }

    #[inline]
    fn table_mut(connections: &mut Connections) -> &mut Table<Self> {
        &mut connections.v4
    }
}

impl Tables for Ipv6Addr {
    #[inline]
    fn table(connections: &Connections) -> &Table<Self> {
        &connections.v6
    }

    #[inline]
    fn table_mut(connections: &mut Connections) -> &mut Table<Self> {
        &mut connections.v6
    }
}
