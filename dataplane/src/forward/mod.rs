//! The decision: a burst of packets in, a verdict for each out.
//!
//! A burst goes through in stages, so that memory is fetched before it is needed: check and hash all and ask for
//! their table lines, then for their entries, then decide each in turn. `decide` reads only; what it
//! decided is written by [`commit`]. So `shunt explain` asks `decide` and changes nothing.
//!
//! Only plain frames ([`Plain`]) go through the stages. Others have their turn in the last one, where they are parsed.

mod bypass;
mod choose;
mod commit;
mod decide;
mod decision;
mod defence;
mod evidence;
mod explain;
mod gather;
mod icmp;
mod incomplete;
mod ipsec;
mod lifecycle;
mod malformed;
mod masquerade;
mod over;
mod pieces;
mod room;
mod routed;
mod schedule_icmp;
mod unreachable;
mod unserved;
mod upkeep;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::address::Address;
use crate::connections::{Candidate, Table};
use crate::counters::WorkerCounters;
use crate::flow::HashKey;
use crate::id::{Generation, NicId, WorkerId};
use crate::packet::Packet;
use crate::processor;
use crate::reason::{DropReason, PuntReason, ReplyKind};
use crate::reassembly::{MEMORY_DEFAULT, Reassembly};
use crate::reply::ReplyLimit;
use crate::service::schedulers::{Cursor, Localities};
use crate::service::{Real, Unresolved};
use crate::snapshot::{Family, NicView, Snapshot};
use crate::time::Tick;
use crate::wire::ethernet;
use crate::wire::plain::{Arrival, Plain};
use crate::wire::{self, Headers, Options, ipv4};
use decision::Case;
pub use explain::{Explanation, Passes, Step, Transit};
use gather::Gathered;
pub use lifecycle::Refused;
pub use pieces::{PIECES_MAX, Pieces};

/// Packets in the largest burst.
pub const BURST_MAX: usize = 64;

/// Packets that go from stage to stage together: far enough ahead for memory to come, and no more lines asked for than a
/// core can wait for.
const GROUP: usize = 12;
/// With fewer connections than this all that packets read is in the core's own caches: a burst is one group.
const NEAR: usize = 8192;

/// With more real servers than this, they and their counters are fetched ahead too.
const REALS_AT_HAND: usize = 256;

/// The places of the group of this size that begins at `start`; none before the burst or behind its `count` packets.
#[inline(always)]
fn group(start: Option<usize>, size: usize, count: usize) -> Range<usize> {
    let Some(start) = start else { return 0..0 };
    let start = start.min(count);
    start..(start + size).min(count)
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
    /// A fragment, kept to be put together with the others of its datagram: consumed.
    Gather,
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
    /// An advert of VRRP.
    Vrrp,
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
            Self::Vrrp => PuntReason::Vrrp,
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
    /// A fragment is to be put together with the others.
    Gather,
}

impl From<Aside> for Verdict {
    fn from(aside: Aside) -> Self {
        match aside {
            Aside::HandOver(worker) => Self::HandOver(worker),
            Aside::Punt(punt) => Self::Punt(punt),
            Aside::Gather => Self::Gather,
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
    /// What services hold of the tables, by [`crate::id::ServiceId`].
    held: Vec<room::Held>,
    reply_limit: ReplyLimit,
    /// Of the next tunnel header or reply that needs one.
    identification: u16,
    /// When half-open connections were last ended before their time.
    defended: Tick,
    /// And where that stopped in each table.
    defended_to: (u32, u32),
    /// Packets that would make connections until one of them is dropped (kernel: `drop_counter`).
    until_dropped: u32,
    /// Of the next IPv6 packet that is fragmented.
    fragment_identification: u32,
    pieces: Pieces,
    fragments: Fragments,
    /// About the packet at hand, when it came in fragments.
    gathered: Option<Gathered>,
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

impl Capacity {
    /// Bytes of a worker's connection tables, without persistence templates, which take memory as they come.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        Table::<Ipv4Addr>::bytes_for(self.v4) + Table::<Ipv6Addr>::bytes_for(self.v6)
    }
}

/// A packet's headers, and where its connection may be.
struct Staged<A> {
    headers: Headers<A>,
    /// Of its flow; 0 when it has none.
    hash: u64,
    /// Where its connection may be.
    candidate: Candidate,
}

impl<A: Address> Staged<A> {
    /// What stages would have found out, at once.
    fn new(headers: Headers<A>, table: &Table<A>) -> Self {
        let hash = headers.flow().map_or(0, |flow| table.hash(&flow));
        Self { headers, hash, candidate: table.prefetch_entry(hash) }
    }
}

/// What is kept of a packet between the stages. Its headers are not: they are at hand in the packet.
#[derive(Clone, Copy)]
struct Stage {
    hash: u64,
    candidate: Candidate,
    frame: Frame,
}

/// A packet that was parsed.
enum Parsed {
    V4(Staged<Ipv4Addr>),
    V6(Staged<Ipv6Addr>),
}

/// What a packet was found to be in the first stage. As wide as leaves no gap in a [`Stage`], which is written as a whole.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Frame {
    PlainV4,
    PlainV6,
    Other,
}

impl Stage {
    const OTHER: Self = Self { hash: 0, candidate: Candidate::NONE, frame: Frame::Other };

    /// Hashes the flow of a plain frame and asks for its bucket.
    #[inline(always)]
    fn new<A: Address>(headers: &Headers<A>, table: &Table<A>, frame: Frame) -> Self {
        let Some(flow) = headers.flow() else { return Self::OTHER };
        let hash = table.hash(&flow);
        table.prefetch_bucket(hash);
        Self { hash, frame, ..Self::OTHER }
    }
}

/// The NIC that packets of a burst came in by; most bursts have one.
struct Door {
    nic: NicId,
    arrival: Arrival,
}

impl Door {
    /// Most packets are sent to the MAC that the first one is sent to, if that is one of the NIC's; others are not plain.
    fn new(snapshot: &Snapshot, first: &Packet<'_>) -> Self {
        let nic = first.nic;
        let expected = |view: &NicView| Arrival::new(view.mac_for(first.bytes()), view.mtu);
        Self { nic, arrival: snapshot.nic(nic).map_or(Arrival::NONE, expected) }
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
            held: Vec::new(),
            reply_limit: ReplyLimit::default(),
            identification: 0,
            defended: Tick(0),
            defended_to: (0, 0),
            until_dropped: 0,
            // Each worker has numbers of its own, so that no two fragments of different packets meet.
            fragment_identification: u32::from(worker.0) << 24,
            pieces: Pieces::default(),
            fragments: Fragments::new(MEMORY_DEFAULT, &counters),
            gathered: None,
            counters,
        }
    }

    /// The same with so many bytes of memory for the fragments of each family.
    #[must_use]
    pub fn with_fragment_memory(mut self, memory: u32) -> Self {
        self.fragments = Fragments::new(memory, &self.counters);
        self
    }

    /// This worker's counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<WorkerCounters> {
        &self.counters
    }

    /// What the last burst left to be sent beside its packets.
    #[inline]
    #[must_use]
    pub const fn pieces(&self) -> &Pieces {
        &self.pieces
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
        self.pieces.clear();
        if self.seen != snapshot.generation {
            self.take_up(snapshot);
        }
        let Some(first) = packets.first() else { return };
        let mut door = Door::new(snapshot, first);
        let mut stages = ArrayVec::<Stage, BURST_MAX>::new();
        let count = packets.len();
        let many_reals = snapshot.reals.len() > REALS_AT_HAND;
        let near = self.connections.v4.len() + self.connections.v6.len() < NEAR;
        let size = if near { BURST_MAX } else { GROUP };
        let lag = if many_reals { 3 * size } else { 2 * size };
        // Each group is one stage ahead of the group behind it.
        for ahead in (0..count + lag).step_by(size) {
            for packet in &packets[group(Some(ahead), size, count)] {
                if packet.nic != door.nic {
                    door = Door::new(snapshot, packet);
                }
                stages.push(self.stage(&door.arrival, packet));
            }
            for stage in &mut stages[group(ahead.checked_sub(size), size, count)] {
                self.fetch(stage);
            }
            if many_reals {
                for stage in &stages[group(ahead.checked_sub(2 * size), size, count)] {
                    self.real_of(snapshot, stage).inspect(|real| processor::prefetch(*real));
                }
                for stage in &stages[group(ahead.checked_sub(lag), size, count)] {
                    let real = self.real_of(snapshot, stage);
                    real.inspect(|real| processor::prefetch(real.counters.of(self.worker)));
                }
            }
            let mut places = group(ahead.checked_sub(lag), size, count);
            loop {
                for (stage, packet) in stages[places.clone()].iter().zip(&mut packets[places.clone()]) {
                    if self.last_stage(snapshot, packet, *stage, verdicts, now) {
                        break;
                    }
                }
                places.start = verdicts.len();
                if !self.connections.take_overtaken() {
                    break;
                }
                stages[places.start..].iter_mut().for_each(|stage| self.fetch(stage));
            }
        }
    }

    /// First stage: check, hash, ask for the bucket.
    #[inline(always)]
    fn stage(&self, arrival: &Arrival, packet: &Packet<'_>) -> Stage {
        let frame = packet.bytes();
        if let Some(headers) = Ipv4Addr::plain(frame, arrival) {
            return Stage::new(&headers, &self.connections.v4, Frame::PlainV4);
        }
        if let Some(headers) = Ipv6Addr::plain(frame, arrival) {
            return Stage::new(&headers, &self.connections.v6, Frame::PlainV6);
        }
        Stage::OTHER
    }

    /// Second stage: find out where the connection may be, and ask for it.
    #[inline(always)]
    fn fetch(&self, stage: &mut Stage) {
        match stage.frame {
            Frame::PlainV4 => stage.candidate = self.connections.v4.prefetch_entry(stage.hash),
            Frame::PlainV6 => stage.candidate = self.connections.v6.prefetch_entry(stage.hash),
            Frame::Other => {}
        }
    }

    /// The real server that a packet probably goes to, to be asked for where there are many.
    #[inline(always)]
    fn real_of<'s>(&self, snapshot: &'s Snapshot, stage: &Stage) -> Option<&'s Real> {
        let real = match stage.frame {
            Frame::PlainV4 => self.connections.v4.candidate_real(stage.candidate)?,
            Frame::PlainV6 => self.connections.v6.candidate_real(stage.candidate)?,
            Frame::Other => return None,
        };
        snapshot.real(real)
    }

    /// Last stage: decide, then do it. True when later packets of the burst must be looked up anew.
    #[inline(always)]
    fn last_stage(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        stage: Stage,
        verdicts: &mut Verdicts,
        now: Tick,
    ) -> bool {
        match stage.frame {
            Frame::PlainV4 => self.plain::<Ipv4Addr>(snapshot, packet, stage, verdicts, now),
            Frame::PlainV6 => self.plain::<Ipv6Addr>(snapshot, packet, stage, verdicts, now),
            Frame::Other => {
                self.pieces.begin(verdicts.len());
                verdicts.push(self.other(snapshot, packet, now));
                self.connections.is_overtaken()
            }
        }
    }

    /// The last stage of a plain frame.
    #[inline(always)]
    fn plain<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        stage: Stage,
        verdicts: &mut Verdicts,
        now: Tick,
    ) -> bool {
        let Some(headers) = A::read_plain(packet.bytes()) else {
            self.pieces.begin(verdicts.len());
            verdicts.push(self.other(snapshot, packet, now));
            return self.connections.is_overtaken();
        };
        let staged = Staged { headers, hash: stage.hash, candidate: stage.candidate };
        match self.passage(snapshot, packet, &staged, now) {
            Ok(passage) => match self.pass(snapshot, packet, &headers, &passage, now) {
                // Each pushes for itself: a verdict that is handed on is written twice.
                Ok(nic) => verdicts.push(Verdict::Send(nic)),
                Err(reason) => verdicts.push(Verdict::Drop(reason)),
            },
            Err(case) => {
                self.pieces.begin(verdicts.len());
                verdicts.push(self.seldom::<A>(snapshot, packet, stage, case, now));
                return self.connections.is_overtaken();
            }
        }
        false
    }

    /// A plain frame that is not simply passed on. Reads its headers again, so that the common way need not keep them.
    #[cold]
    #[inline(never)]
    fn seldom<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        stage: Stage,
        case: Case,
        now: Tick,
    ) -> Verdict {
        let Some(headers) = A::read_plain(packet.bytes()) else {
            return Verdict::Drop(DropReason::Truncated);
        };
        let staged = Staged { headers, hash: stage.hash, candidate: stage.candidate };
        match self.otherwise(snapshot, packet, &staged, case, now) {
            Ok(decision) => self.commit(snapshot, packet, &headers, decision, now),
            Err(aside) => self.stand_aside::<A>(snapshot, aside),
        }
    }

    /// A frame that is not plain.
    #[cold]
    #[inline(never)]
    fn other(&mut self, snapshot: &Snapshot, packet: &mut Packet<'_>, now: Tick) -> Verdict {
        match self.parse_untagged(snapshot, packet) {
            Ok(Parsed::V4(staged)) => {
                self.notice_length(snapshot, packet, &staged.headers);
                match staged.headers.options {
                    Options::NONE => self.whole(snapshot, packet, &staged, now),
                    _ => self.with_options(snapshot, packet, &staged, now),
                }
            }
            Ok(Parsed::V6(staged)) => {
                self.notice_length(snapshot, packet, &staged.headers);
                if let Some(error) = <Ipv6Addr as wire::IpVersion>::malformed(packet.bytes(), &staged.headers)
                {
                    return self.malformed(snapshot, packet, &staged.headers, error, now);
                }
                self.whole(snapshot, packet, &staged, now)
            }
            Err(aside) => {
                if let Aside::Drop(reason) = aside {
                    self.counters.refused_frame(packet.nic, reason);
                }
                aside.into()
            }
        }
    }

    /// An IPv4 packet that has options which ask something of a router, or are wrong.
    #[cold]
    #[inline(never)]
    fn with_options(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        staged: &Staged<Ipv4Addr>,
        now: Tick,
    ) -> Verdict {
        if let Some(error) = <Ipv4Addr as wire::IpVersion>::malformed(packet.bytes(), &staged.headers) {
            return self.malformed(snapshot, packet, &staged.headers, error, now);
        }
        let trailer = ipv4::clear_behind_options(packet.bytes_mut(), &staged.headers);
        let verdict = self.whole(snapshot, packet, staged, now);
        if let Some(trailer) = trailer.filter(|_| matches!(verdict, Verdict::HandOver(_) | Verdict::Punt(_)))
        {
            trailer.put_back(packet.bytes_mut());
        }
        verdict
    }

    /// Notices senders whose offloads let frames through that are longer than the MTU. They go on as others do: in fragments, or
    /// the sender is told.
    fn notice_length<A: Tables>(&self, snapshot: &Snapshot, packet: &Packet<'_>, headers: &Headers<A>) {
        let is_longer = |nic: &NicView| headers.ip_length() > usize::from(nic.mtu);
        if packet.segment_size == 0 && snapshot.nic(packet.nic).is_some_and(is_longer) {
            self.counters.offloaded(packet.nic);
        }
    }

    /// Parses any frame, without tags that name no VLAN.
    #[inline(always)]
    fn parse_untagged(&self, snapshot: &Snapshot, packet: &mut Packet<'_>) -> Result<Parsed, Aside> {
        match self.parse(snapshot, packet) {
            Err(Aside::Drop(DropReason::Vlan)) if untag(packet) => self.parse(snapshot, packet),
            parsed => parsed,
        }
    }

    /// Parses a frame and looks where its connection may be.
    fn parse(&self, snapshot: &Snapshot, packet: &Packet<'_>) -> Result<Parsed, Aside> {
        let nic = snapshot.nic(packet.nic).ok_or(Aside::Drop(DropReason::NoRoute))?;
        match wire::parse(packet.bytes(), nic.mac_for(packet.bytes())) {
            Ok(wire::Frame::V4(headers)) => Ok(Parsed::V4(Staged::new(headers, &self.connections.v4))),
            Ok(wire::Frame::V6(headers)) => Ok(Parsed::V6(Staged::new(headers, &self.connections.v6))),
            Ok(wire::Frame::Arp) => Err(Aside::Punt(Punt::Arp)),
            Err(reason) => Err(Aside::Drop(reason)),
        }
    }

    /// All that is to be done with a parsed packet.
    fn whole<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        staged: &Staged<A>,
        now: Tick,
    ) -> Verdict {
        match self.decide(snapshot, packet, staged, now) {
            Ok(decision) => self.commit(snapshot, packet, &staged.headers, decision, now),
            Err(Aside::Gather) => self.gather(snapshot, packet, &staged.headers, now),
            Err(aside) => self.stand_aside::<A>(snapshot, aside),
        }
    }
}

/// Takes tags that name no VLAN off a frame; false when it has none.
fn untag(packet: &mut Packet<'_>) -> bool {
    let tags = ethernet::priority_tags(packet.bytes());
    if tags > 0 {
        packet.bytes_mut().copy_within(..ethernet::field::ETHERTYPE, tags);
        packet.trim_front(tags);
    }
    tags > 0
}

/// The incomplete datagrams of a worker.
#[derive(Debug)]
struct Fragments {
    v4: Reassembly<Ipv4Addr>,
    v6: Reassembly<Ipv6Addr>,
}

impl Fragments {
    /// None, in so many bytes of memory for each family.
    fn new(memory: u32, counters: &WorkerCounters) -> Self {
        let fragments = Self { v4: Reassembly::new(memory), v6: Reassembly::new(memory) };
        for (counters, (_, all)) in
            counters.fragments.iter().zip([fragments.v4.memory(), fragments.v6.memory()])
        {
            counters.most.set(all);
        }
        fragments
    }
}

/// The connection tables of a worker.
#[derive(Debug)]
struct Connections {
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
}

impl Connections {
    /// A connection was made that takes over the answers of another: what was looked up before may be the other.
    const fn is_overtaken(&self) -> bool {
        self.v4.is_overtaken() || self.v6.is_overtaken()
    }

    /// The same, once.
    const fn take_overtaken(&mut self) -> bool {
        let overtaken = self.is_overtaken();
        if overtaken {
            self.v4.forget_overtaken();
            self.v6.forget_overtaken();
        }
        overtaken
    }
}

/// A family that has a connection table.
trait Tables: Family + Plain {
    fn table(connections: &Connections) -> &Table<Self>;
    fn table_mut(connections: &mut Connections) -> &mut Table<Self>;
    fn reassembly(fragments: &mut Fragments) -> &mut Reassembly<Self>;
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

    fn reassembly(fragments: &mut Fragments) -> &mut Reassembly<Self> {
        &mut fragments.v4
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

    fn reassembly(fragments: &mut Fragments) -> &mut Reassembly<Self> {
        &mut fragments.v6
    }
}
