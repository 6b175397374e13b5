//! The loop of a polling core: rx burst → forward → tx burst → expire → inject.
//!
//! The only room of the data path that knows DPDK. Each turn takes what NICs, other workers and the control core
//! have, lets [`Forwarder`] decide, and moves every packet to where its verdict says; the books of
//! [`WorkerCounters`](crate::counters::WorkerCounters) are kept here. Work in a turn is bounded by count.

mod answer;
mod idle;
mod mailbox;
mod offloads;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use arrayvec::ArrayVec;
use dpdk_sys::{Clock, Cycles, Mbuf, MbufBurst, RingReceiver, RingSender, RxQueue, TxQueue};

use crate::counters::WorkerCounters;
use crate::forward::{BURST_MAX, Forwarder, PIECES_MAX, Punt, Verdict, Verdicts};
use crate::id::{Generation, NicId, WorkerId};
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::snapshot::Snapshot;
use crate::time::Tick;
pub use answer::Cursor;
use answer::Listing;
use idle::Rest;
pub use idle::{Idle, NAP_MAX, SLEEP_MAX};
pub use mailbox::{
    ANSWER_RING_MAX, Answer, ConnectionView, INJECT_RING_MAX, Injected, LEFT_RING_MAX, LISTED_MAX, Left,
    NicEnds, ORDER_RING_MAX, Order, PUNT_RING_MAX, PUNTS_RESERVED, PacketEnds, Punted, QUESTION_RING_MAX,
    Question, QuestionEnds, QuestionNumber, Shared, Ticket, WorkerEnds, rings,
};
use offloads::Offloads;
use stages::Stopwatch;
pub use stages::{CostCounters, FILL_BUCKETS, SAMPLE_PERIOD, Stage, TURN_BUCKETS};

/// Looks at the tables before a sleep.
const SWEEPS_BEFORE_SLEEP: u32 = 16;
/// Packets of a turn that are timed.
const TIMED_MAX: usize = 64;

/// The queues of one NIC that belong to a worker.
#[derive(Debug)]
pub struct NicQueues {
    /// The NIC.
    pub nic: NicId,
    /// Where its packets come from.
    pub rx: RxQueue,
    /// Where packets go.
    pub tx: TxQueue,
}

/// Another worker, as one sees it that hands packets over.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it takes packets from.
    pub ring: RingSender,
    /// How it is woken.
    pub shared: Arc<Shared>,
}

impl Peer {
    /// Hands over what its ring has room for and wakes it; the rest stays in the burst.
    fn give(&self, burst: &mut MbufBurst) -> u64 {
        let given = self.ring.send_burst(burst);
        self.shared.wake();
        given as u64
    }
}

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerParts {
    /// Its number.
    pub id: WorkerId,
    /// Its data path.
    pub forwarder: Forwarder,
    /// Its queue of every NIC, in the order of their [`NicId`].
    pub nics: Vec<NicQueues>,
    /// Packets that other workers found to be this one's.
    pub taken_over: RingReceiver,
    /// To the other workers, by [`WorkerId`]; its own place is never used.
    pub hand_over: Vec<Peer>,
    /// To and from the control core.
    pub ends: WorkerEnds,
    /// The published snapshot.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// What control sees of it.
    pub shared: Arc<Shared>,
    /// How it rests.
    pub idle: Idle,
    /// Its time.
    pub clock: Clock,
}

/// A NIC as a worker has it.
#[derive(Debug)]
struct Port {
    /// None while the NIC is closed.
    queues: Option<NicQueues>,
    /// Whether its link is up, as the snapshot has it.
    up: bool,
}

impl Port {
    /// Gives the NIC what it takes of a burst, and books it. Where nothing can leave, all of it is dropped.
    #[inline]
    fn send(&mut self, burst: &mut MbufBurst, counters: &WorkerCounters) {
        match &mut self.queues {
            Some(queues) if self.up => counters.sent.add(queues.tx.burst(burst) as u64),
            _ => drop_unsent(burst, counters),
        }
    }
}

#[cold]
fn drop_unsent(burst: &mut MbufBurst, counters: &WorkerCounters) {
    counters.dropped.at(DropReason::LinkDown as usize).add(burst.len() as u64);
    burst.clear();
}

/// A polling core.
#[derive(Debug)]
pub struct Worker {
    forwarder: Forwarder,
    /// By [`NicId`].
    ports: Vec<Port>,
    taken_over: RingReceiver,
    outputs: Outputs,
    ends: WorkerEnds,
    snapshots: Arc<ArcSwap<Snapshot>>,
    generation: Generation,
    shared: Arc<Shared>,
    rest: Rest,
    clock: Clock,
    stopwatch: Stopwatch,
    listing: Option<Listing>,
    /// Fragments of a burst, until its packets are out.
    pieces: Vec<(NicId, Mbuf)>,
    /// Packets that are timed, until their NIC has them.
    timed: ArrayVec<(NicId, Ticket), TIMED_MAX>,
    offloads: Offloads,
}

/// Packets on their way out of a worker, gathered into bursts.
#[derive(Debug)]
struct Outputs {
    /// By [`NicId`].
    transmit: Vec<MbufBurst>,
    /// By [`WorkerId`].
    hand_over: Vec<(Peer, MbufBurst)>,
}

impl Outputs {
    fn are_empty(&self) -> bool {
        self.transmit.iter().all(|burst| burst.is_empty())
            && self.hand_over.iter().all(|(_, burst)| burst.is_empty())
    }
}

impl Worker {
    /// A worker ready to run. `parts.shared.counters` and the forwarder's counters are the same.
    #[must_use]
    pub fn new(parts: WorkerParts) -> Self {
        let transmit = parts.nics.iter().map(|_| MbufBurst::new()).collect();
        let hand_over = parts.hand_over.into_iter().map(|peer| (peer, MbufBurst::new())).collect();
        Self {
            forwarder: parts.forwarder,
            ports: parts.nics.into_iter().map(|queues| Port { queues: Some(queues), up: true }).collect(),
            taken_over: parts.taken_over,
            outputs: Outputs { transmit, hand_over },
            ends: parts.ends,
            snapshots: parts.snapshots,
            generation: Generation(0),
            shared: parts.shared,
            rest: Rest::new(parts.idle),
            clock: parts.clock,
            stopwatch: Stopwatch::new(),
            listing: None,
            pieces: Vec::with_capacity(PIECES_MAX),
            timed: ArrayVec::new(),
            offloads: Offloads::default(),
        }
    }

    /// Runs until [`Shared::stop`] is called, then sends what it holds and gives everything back.
    pub fn run(self) {
        drop(self.run_and_return());
    }

    /// The same; its queues of NICs are given back, for another worker.
    #[must_use]
    pub fn run_and_return(mut self) -> Vec<NicQueues> {
        // The cache spares the shared reference count: a worker that finds nothing new only reads.
        let mut snapshots = Cache::new(self.snapshots.clone());
        while !self.shared.is_stopped() {
            let work = self.turn(snapshots.load());
            if let Some(nap) = self.rest.after_turn(work) {
                self.shared.counters.naps.add(1);
                self.sleep(nap, &mut snapshots);
            }
        }
        // What the control core said last goes out too: that this director gives its VIPs up.
        let now = Tick::at(self.clock.now());
        self.inject(snapshots.load(), &mut MbufBurst::new(), now);
        self.flush();
        self.ports.into_iter().filter_map(|port| port.queues).collect()
    }

    /// Sleeps until something comes where every NIC can tell, else for a nap, and so while something waits to go out.
    fn sleep(&mut self, nap: Duration, snapshots: &mut Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>) {
        let now = Tick::at(self.clock.now());
        // Sleepers turn seldom: what fell due meanwhile is expired before.
        for _ in 0..SWEEPS_BEFORE_SLEEP {
            self.forwarder.expire_turn(snapshots.load(), now);
        }
        let Self { ports, taken_over, ends, shared, outputs, listing, generation, .. } = self;
        let work = || {
            !taken_over.is_empty()
                || !ends.injects.is_empty()
                || !ends.questions.is_empty()
                || shared.is_stopped()
                || snapshots.load().generation != *generation
        };
        let idle = listing.is_none() && outputs.are_empty();
        let queues = ports.iter().filter_map(|port| port.queues.as_ref());
        let slept = idle && shared.doorbell.sleep(queues.map(|queues| &queues.rx), SLEEP_MAX, work);
        if !slept {
            std::thread::sleep(nap);
        }
    }

    /// One turn under `snapshot`; tells how many packets it moved. [`Self::run`] makes one after the other; who
    /// calls it instead, to measure turns one by one, sees to it that snapshots do not go back.
    pub fn turn(&mut self, snapshot: &Snapshot) -> usize {
        self.acknowledge(snapshot);
        let began = Cycles::now();
        let now = Tick::at(self.clock.at(began));
        self.stopwatch.begin(began, &self.shared.cost);
        let mut burst = MbufBurst::new();
        let mut work = 0;
        for place in 0..self.ports.len() {
            let Some(queues) = &mut self.ports[place].queues else { continue };
            let nic = queues.nic;
            let received = queues.rx.burst(&mut burst);
            self.shared.counters.received.add(received as u64);
            self.shared.cost.burst(received);
            work += received;
            self.stopwatch.lap(Stage::Receive);
            if self.offloads.end_here {
                self.end_offloads(snapshot, &mut burst, place, now);
            }
            self.process(snapshot, &mut burst, Some(nic), now);
            self.stopwatch.lap(Stage::Forward);
        }
        work += self.take_over(snapshot, &mut burst, now);
        self.stopwatch.lap(Stage::TakeOver);
        work += self.inject(snapshot, &mut burst, now);
        self.stopwatch.lap(Stage::Inject);
        if self.forwarder.end_incomplete(snapshot, now) {
            self.take_pieces();
            self.send_pieces();
        }
        self.flush();
        if !self.timed.is_empty() {
            self.tell_left();
        }
        self.stopwatch.lap(Stage::Transmit);
        self.forwarder.expire_turn(snapshot, now);
        self.stopwatch.lap(Stage::Expire);
        self.answer(snapshot, now);
        self.stopwatch.lap(Stage::Answer);
        self.book_turn(work);
        work
    }

    /// Tells that nothing of an earlier generation is read any more: it is called before a turn reads anything.
    #[inline]
    fn acknowledge(&mut self, snapshot: &Snapshot) {
        if snapshot.generation != self.generation {
            self.generation = snapshot.generation;
            self.follow_links(snapshot);
            self.follow_offloads(snapshot);
            self.shared.acknowledge(snapshot.generation);
        }
    }

    /// Closes and opens NICs, and takes note of links. What went wrong while one was down is over when it is up.
    #[cold]
    fn follow_links(&mut self, snapshot: &Snapshot) {
        while let Ok(order) = self.ends.orders.pop() {
            match order {
                Order::Close(nic) => {
                    let port = self.ports.get_mut(nic.index());
                    if let Some(queues) = port.and_then(|port| port.queues.take()) {
                        // There is room for those of all NICs.
                        drop(self.ends.closed.push(queues));
                    }
                }
                Order::Open(queues) => {
                    if let Some(port) = self.ports.get_mut(queues.nic.index()) {
                        port.queues = Some(queues);
                    }
                }
            }
        }
        for (port, nic) in self.ports.iter_mut().zip(&snapshot.nics) {
            if let (true, false, Some(queues)) = (nic.up, port.up, &port.queues) {
                queues.rx.forget_error();
            }
            port.up = nic.up;
        }
    }

    /// Decides about a burst and moves each packet to where its verdict says. What `arrived` at no NIC is this worker's
    /// own already, and its mbufs say where it arrived first.
    fn process(&mut self, snapshot: &Snapshot, burst: &mut MbufBurst, arrived: Option<NicId>, now: Tick) {
        self.process_by(Forwarder::burst, snapshot, burst, arrived, now);
    }

    /// The same by another decision.
    #[inline(always)]
    fn process_by(
        &mut self,
        decide: impl Fn(&mut Forwarder, &Snapshot, &mut [Packet<'_>], &mut Verdicts, Tick),
        snapshot: &Snapshot,
        burst: &mut MbufBurst,
        arrived: Option<NicId>,
        now: Tick,
    ) {
        if burst.is_empty() {
            return;
        }
        let mut packets = ArrayVec::new();
        let is_whole = if self.offloads.come {
            lay_out_offloaded(burst, arrived, &mut packets)
        } else {
            lay_out::<false>(burst, arrived, &mut packets)
        };
        if !is_whole {
            drop(packets);
            self.refuse_segmented(burst);
            return self.process(snapshot, burst, arrived, now);
        }
        let mut verdicts = Verdicts::new();
        decide(&mut self.forwarder, snapshot, &mut packets, &mut verdicts, now);
        let mut moved = ArrayVec::<(usize, usize, usize), BURST_MAX>::new();
        for (place, packet) in packets.iter().enumerate() {
            if packet.is_moved() {
                moved.push((place, packet.start(), packet.len()));
            }
        }
        drop(packets);
        for &(place, start, length) in &moved {
            let fits = burst[place].set_data(start, length);
            debug_assert!(fits, "a packet stays within its mbuf");
        }
        if !self.forwarder.pieces().is_empty() {
            self.take_pieces();
        }
        match verdicts.first() {
            Some(&Verdict::Send(nic)) if verdicts.iter().all(|verdict| *verdict == Verdict::Send(nic)) => {
                self.transmit_burst(nic, burst);
            }
            _ => {
                for (mbuf, verdict) in burst.drain().zip(verdicts) {
                    self.dispose(mbuf, verdict);
                }
            }
        }
        if !self.pieces.is_empty() {
            self.send_pieces();
        }
    }

    /// Puts the fragments that a burst left into buffers of their own.
    #[cold]
    fn take_pieces(&mut self) {
        let counters = &self.shared.counters;
        for (_, nic, frame) in self.forwarder.pieces().iter() {
            counters.made.add(1);
            let queues = self.ports.get(nic.index()).and_then(|port| port.queues.as_ref());
            match queues.and_then(|queues| queues.rx.packet(frame)) {
                Some(mbuf) => self.pieces.push((nic, mbuf)),
                None => counters.dropped.at(DropReason::FragmentLost as usize).add(1),
            }
        }
    }

    /// Queues them, behind the packets of their burst.
    #[cold]
    fn send_pieces(&mut self) {
        let mut pieces = std::mem::take(&mut self.pieces);
        for (nic, mbuf) in pieces.drain(..) {
            self.transmit(nic, mbuf);
        }
        self.pieces = pieces;
    }

    /// Drops packets in several buffers: no MTU that can be configured needs them.
    #[cold]
    fn refuse_segmented(&self, burst: &mut MbufBurst) {
        while let Some(place) = burst.iter().position(|mbuf| mbuf.segments() != 1) {
            drop(burst.swap_remove(place));
            self.shared.counters.dropped.at(DropReason::Segmented as usize).add(1);
        }
    }

    /// Moves one packet to where its verdict says.
    #[inline]
    fn dispose(&mut self, mbuf: Mbuf, verdict: Verdict) {
        let counters = &self.shared.counters;
        match verdict {
            Verdict::Send(out) => self.transmit(out, mbuf),
            Verdict::Reply(out, kind) => {
                counters.consumed.add(1);
                counters.made.add(1);
                counters.replies.at(kind as usize).add(1);
                let mut mbuf = mbuf;
                mbuf.forget_offload();
                self.transmit(out, mbuf);
            }
            Verdict::Gather => counters.consumed.add(1),
            Verdict::HandOver(worker) => self.hand_over(worker, mbuf),
            Verdict::Punt(punt) => self.punt(mbuf, punt),
            Verdict::Drop(reason) => counters.dropped.at(reason as usize).add(1),
        }
    }

    /// Queues a packet for a NIC.
    #[inline]
    fn transmit(&mut self, nic: NicId, mbuf: Mbuf) {
        let Some(burst) = self.outputs.transmit.get_mut(nic.index()) else {
            return self.shared.counters.dropped.at(DropReason::NoRoute as usize).add(1);
        };
        if burst.is_full() {
            self.ports[nic.index()].send(burst, &self.shared.counters);
        }
        if burst.push(mbuf).is_err() {
            self.shared.counters.dropped.at(DropReason::TransmitFull as usize).add(1);
        }
    }

    /// Sends a whole burst, after what waits for the same NIC; what the NIC does not take now waits too.
    fn transmit_burst(&mut self, nic: NicId, burst: &mut MbufBurst) {
        if let (Some(port), Some(waiting)) =
            (self.ports.get_mut(nic.index()), self.outputs.transmit.get_mut(nic.index()))
        {
            if !waiting.is_empty() {
                port.send(waiting, &self.shared.counters);
            }
            if waiting.is_empty() {
                port.send(burst, &self.shared.counters);
            }
        }
        for mbuf in burst.drain() {
            self.transmit(nic, mbuf);
        }
    }

    /// Queues a packet for the worker that owns it.
    fn hand_over(&mut self, worker: WorkerId, mbuf: Mbuf) {
        let Some((peer, burst)) = self.outputs.hand_over.get_mut(worker.index()) else {
            return self.shared.counters.dropped.at(DropReason::HandOverFull as usize).add(1);
        };
        if burst.is_full() {
            self.shared.counters.handed_over.add(peer.give(burst));
        }
        if burst.push(mbuf).is_err() {
            self.shared.counters.dropped.at(DropReason::HandOverFull as usize).add(1);
        }
    }

    /// Hands a packet up to the control core. The last places of the ring are kept for what neighbours and other directors say, so
    /// that no flood of other packets makes the director deaf to it.
    fn punt(&mut self, mut mbuf: Mbuf, punt: Punt) {
        let nic = arrival(&mbuf);
        if punt == Punt::Local {
            // The kernel side takes frames of any size.
            mbuf.fill_checksum();
        }
        let counters = &self.shared.counters;
        let reserved = match punt {
            Punt::Arp | Punt::NeighbourDiscovery | Punt::Vrrp => 0,
            Punt::Local | Punt::Unresolved(_) => PUNTS_RESERVED,
        };
        if self.ends.punts.slots() > reserved && self.ends.punts.push(Punted { mbuf, nic, punt }).is_ok() {
            counters.punted.at(punt.reason() as usize).add(1);
        } else {
            counters.dropped.at(DropReason::PuntFull as usize).add(1);
        }
    }

    /// Takes over what other workers found to be this one's.
    fn take_over(&mut self, snapshot: &Snapshot, burst: &mut MbufBurst, now: Tick) -> usize {
        let taken = self.taken_over.receive_burst(burst);
        self.shared.counters.taken_over.add(taken as u64);
        burst.claim();
        self.process(snapshot, burst, None, now);
        taken
    }

    /// Takes a burst of what the control core hands down.
    fn inject(&mut self, snapshot: &Snapshot, burst: &mut MbufBurst, now: Tick) -> usize {
        let mut injected = 0;
        while injected < BURST_MAX {
            let Ok(packet) = self.ends.injects.pop() else { break };
            injected += 1;
            match packet {
                Injected::Transmit(nic, mbuf) => {
                    self.forwarder.notice_own(snapshot, mbuf.data(), now);
                    self.transmit(nic, mbuf);
                }
                Injected::Timed(nic, mbuf, ticket) => {
                    self.transmit(nic, mbuf);
                    // Beyond that they leave without being timed.
                    let _ = self.timed.try_push((nic, ticket));
                }
                Injected::Receive(nic, mut mbuf) => {
                    set_arrival(&mut mbuf, nic);
                    // No more than a burst is taken in a turn.
                    let _ = burst.push(mbuf);
                }
                Injected::Unreachable(nic, mbuf) => self.unreachable(snapshot, nic, mbuf, now),
            }
        }
        self.shared.counters.injected.add(injected as u64);
        self.process(snapshot, burst, None, now);
        injected
    }

    /// Tells the sender of a packet that its neighbour does not answer.
    #[cold]
    fn unreachable(&mut self, snapshot: &Snapshot, nic: NicId, mut mbuf: Mbuf, now: Tick) {
        set_arrival(&mut mbuf, nic);
        let mut burst = MbufBurst::new();
        let _ = burst.push(mbuf);
        self.process_by(Forwarder::unreachable, snapshot, &mut burst, None, now);
    }

    /// Sends what was gathered. What a ring or a NIC does not take now stays for the next turn.
    fn flush(&mut self) {
        let counters = &self.shared.counters;
        for (port, burst) in self.ports.iter_mut().zip(&mut self.outputs.transmit) {
            if !burst.is_empty() {
                port.send(burst, counters);
            }
        }
        for (peer, burst) in &mut self.outputs.hand_over {
            if !burst.is_empty() {
                counters.handed_over.add(peer.give(burst));
            }
        }
    }

    /// Tells which of the packets that are timed left; what was dropped on the way out is forgotten.
    #[cold]
    fn tell_left(&mut self) {
        let at = Cycles::now();
        let Self { timed, outputs, ports, ends, .. } = self;
        timed.retain(|&mut (nic, ticket)| {
            let is_up = ports.get(nic.index()).is_some_and(|port| port.up);
            let waits = outputs.transmit.get(nic.index()).is_some_and(|burst| !burst.is_empty());
            if is_up && !waits {
                // Who does not read them does not want to know.
                let _ = ends.left.push(Left { ticket, at });
            }
            is_up && waits
        });
    }

    fn book_turn(&mut self, work: usize) {
        self.stopwatch.end(work, &self.shared.cost);
        self.shared.counters.turns.add(1);
        if work == 0 {
            self.shared.counters.turns_idle.add(1);
        }
        let (v4, v6) = (self.forwarder.v4(), self.forwarder.v6());
        self.shared.set_connections(v4.len(), v6.len());
        self.shared.set_templates([v4.templates().fill(), v6.templates().fill()]);
    }
}

/// Makes packets of a burst; false when one lies in several buffers. What `arrived` at no NIC was handed over. With `OFFLOADS` they
/// say what their senders left to a NIC.
#[inline(always)]
fn lay_out<'a, const OFFLOADS: bool>(
    burst: &'a mut MbufBurst,
    arrived: Option<NicId>,
    packets: &mut ArrayVec<Packet<'a>, BURST_MAX>,
) -> bool {
    let mut segmented = false;
    for mbuf in burst.iter_mut() {
        segmented |= mbuf.segments() != 1;
        // Not every driver says where a packet came in.
        if let Some(nic) = arrived {
            set_arrival(mbuf, nic);
        }
        let nic = arrived.unwrap_or_else(|| arrival(mbuf));
        let left = if OFFLOADS { (mbuf.is_offloaded(), mbuf.segment_size()) } else { (false, 0) };
        let mut packet = Packet::within(mbuf.room_mut(), nic);
        packet.handed_over = arrived.is_none();
        (packet.unfilled, packet.segment_size) = left;
        packets.push(packet);
    }
    !segmented
}

#[cold]
fn lay_out_offloaded<'a>(
    burst: &'a mut MbufBurst,
    arrived: Option<NicId>,
    packets: &mut ArrayVec<Packet<'a>, BURST_MAX>,
) -> bool {
    lay_out::<true>(burst, arrived, packets)
}

/// Where a packet arrived: noted in the mbuf, so that it survives rings.
#[inline]
fn arrival(mbuf: &Mbuf) -> NicId {
    NicId(mbuf.nic().0 as u8)
}

#[inline]
fn set_arrival(mbuf: &mut Mbuf, nic: NicId) {
    mbuf.set_nic(dpdk_sys::NicId(nic.0.into()));
}
