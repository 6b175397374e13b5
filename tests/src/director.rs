//! A director without NICs, clock, threads and control core: the real snapshots and the real data path, fed by hand.
//!
//! It stands where `worker` stands in the real one: it keeps the books that `worker` keeps and carries packets
//! from one worker to the one that owns them. It makes no frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::address::Address;
use shunt_dataplane::connections::{Exported, Record, Table};
use shunt_dataplane::counters::WorkerCounters;
use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::forward::{BURST_MAX, Capacity, Explanation, Forwarder, Refused, Verdict, Verdicts};
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_dataplane::packet::Packet;
use shunt_dataplane::snapshot::{Plan, RealName, Registry, Snapshot};
use shunt_dataplane::time::{Tick, Ticks};
use shunt_protocol::ipvsadm::ledger::Ledger;

/// Bytes free in front of each frame, as in an mbuf of DPDK.
pub const HEAD_ROOM: usize = 128;
/// Bytes free behind each frame.
pub const TAIL_ROOM: usize = 256;
/// The key of all directors in tests, so that runs repeat.
pub const KEY: HashKey = HashKey::new([
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0x2545_f491_4f6c_dd1d,
]);

/// A director fed by hand.
#[derive(Debug)]
pub struct Director {
    plan: Plan,
    registry: Registry,
    ledger: Ledger,
    snapshot: Snapshot,
    workers: Vec<Forwarder>,
    now: Tick,
    /// Bytes free in front of each frame and behind it.
    room: (usize, usize),
    told: Vec<(NicId, Vec<u8>)>,
}

/// A frame and where it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The NIC.
    pub nic: NicId,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict of the worker that owns it.
    pub verdict: Verdict,
    /// The frame as the data path left it.
    pub frame: Vec<u8>,
    /// Fragments beside the first, and where they leave.
    pub more: Vec<(NicId, Vec<u8>)>,
}

impl Outcome {
    /// All frames that leave the director, and by which NICs.
    pub fn all_sent(&self) -> impl Iterator<Item = (NicId, &[u8])> {
        self.sent().into_iter().chain(self.more.iter().map(|(nic, frame)| (*nic, frame.as_slice())))
    }

    /// The frame, when it leaves the director, and the NIC.
    #[must_use]
    pub fn sent(&self) -> Option<(NicId, &[u8])> {
        match self.verdict {
            Verdict::Send(nic) | Verdict::Reply(nic, _) => Some((nic, &self.frame)),
            Verdict::HandOver(_) | Verdict::Gather | Verdict::Punt(_) | Verdict::Drop(_) => None,
        }
    }
}

impl Director {
    /// A director of `workers` workers, each with room for `connections` of either family, that runs `plan` as
    /// generation 1.
    #[must_use]
    pub fn new(workers: u8, connections: u32, plan: Plan) -> Self {
        Self::with_key(workers, connections, plan, KEY)
    }

    /// The same with a hash key of its own.
    #[must_use]
    pub fn with_key(workers: u8, connections: u32, plan: Plan, key: HashKey) -> Self {
        let shortest = |is_v4: bool, bits| {
            let services = plan.services.iter().filter(|service| service.listen.is_ipv4() == is_v4);
            let masks = services.filter_map(|service| service.settings.persistence).map(|one| one.netmask);
            masks.fold(bits, u8::min)
        };
        let owners =
            Owners { workers, netmask_v4: shortest(true, 32), netmask_v6: shortest(false, 128), key };
        let mut registry = Registry::new(owners);
        let snapshot = registry.compile(&plan);
        let capacity = Capacity { v4: connections, v6: connections };
        let worker = |id| Forwarder::new(WorkerId(id), capacity, key, Arc::new(WorkerCounters::default()));
        Self {
            plan,
            registry,
            ledger: Ledger::default(),
            snapshot,
            workers: (0..workers).map(worker).collect(),
            now: Tick(0),
            room: (HEAD_ROOM, TAIL_ROOM),
            told: Vec::new(),
        }
    }

    /// The same with so many bytes free in front of each frame and behind it.
    #[must_use]
    pub fn with_room(self, head: usize, tail: usize) -> Self {
        Self { room: (head, tail), ..self }
    }

    /// What holds now.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who gives out identifiers.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What `ipvsadm --stats` remembers beside the counters, and who gives out identifiers.
    pub const fn books(&mut self) -> (&mut Ledger, &Registry) {
        (&mut self.ledger, &self.registry)
    }

    /// What `ipvsadm --stats` remembers beside the counters.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the workers run.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The workers' data paths.
    #[must_use]
    pub fn workers(&self) -> &[Forwarder] {
        &self.workers
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// Changes the plan and publishes it as the next generation, which every worker takes up and acknowledges.
    pub fn publish(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        self.snapshot = self.registry.compile(&self.plan);
        for worker in &mut self.workers {
            worker.burst(&self.snapshot, &mut [], &mut Verdicts::new(), self.now);
        }
        self.registry.acknowledge(self.snapshot.generation);
    }

    /// Lets time pass; expiry runs in each tick of it.
    pub fn advance(&mut self, time: Duration) {
        for _ in 0..Tick::at(time).0 {
            self.now = self.now.after(Ticks(1));
            self.expire();
        }
    }

    /// What was sent since the last call without a packet that it answers: that fragments did not come in time.
    pub fn take_told(&mut self) -> Vec<(NicId, Vec<u8>)> {
        std::mem::take(&mut self.told)
    }

    /// One turn of expiry in every worker.
    pub fn expire(&mut self) {
        for worker in &mut self.workers {
            worker.expire_turn(&self.snapshot, self.now);
            if worker.end_incomplete(&self.snapshot, self.now) {
                for (_, nic, frame) in worker.pieces().iter() {
                    worker.counters().made.add(1);
                    worker.counters().sent.add(1);
                    self.told.push((nic, frame.to_vec()));
                }
            }
        }
    }

    /// The director's own kernel sends a frame; the worker that it leaves by takes notice of it.
    pub fn notice_own(&mut self, frame: &[u8]) {
        self.workers[0].notice_own(&self.snapshot, frame, self.now);
    }

    /// A frame arrives at a queue of the only worker.
    pub fn take(&mut self, nic: NicId, frame: &[u8]) -> Outcome {
        self.take_at(WorkerId(0), nic, frame)
    }

    /// A frame arrives at the queue of `worker`.
    ///
    /// # Panics
    /// When the data path gives no verdict.
    pub fn take_at(&mut self, worker: WorkerId, nic: NicId, frame: &[u8]) -> Outcome {
        let arrival = Arrival { nic, frame: frame.to_vec() };
        self.burst(worker, &[arrival]).pop().expect("a verdict for each packet")
    }

    /// Frames arrive at the queue of `worker` in one burst; those of other workers are carried to them after it.
    ///
    /// # Panics
    /// When there are more than [`BURST_MAX`], or when the data path does not keep to its contract: a verdict
    /// for each packet, no change to what is handed over or punted but that tags of priority are gone, and hand-over only once.
    pub fn burst(&mut self, worker: WorkerId, arrivals: &[Arrival]) -> Vec<Outcome> {
        self.workers[worker.index()].counters().received.add(arrivals.len() as u64);
        let mut outcomes = self.decide(worker, arrivals, false);
        for (outcome, arrival) in outcomes.iter_mut().zip(arrivals) {
            if matches!(outcome.verdict, Verdict::HandOver(_) | Verdict::Punt(_)) {
                let untagged = untagged(arrival.frame.clone());
                assert_eq!(outcome.frame, untagged, "unchanged: {:?}", outcome.verdict);
            }
            let Verdict::HandOver(owner) = outcome.verdict else { continue };
            assert_ne!(owner, worker, "handed over to itself");
            self.workers[owner.index()].counters().taken_over.add(1);
            let carried = Arrival { nic: arrival.nic, frame: outcome.frame.clone() };
            *outcome = self.decide(owner, &[carried], true).remove(0);
            assert!(!matches!(outcome.verdict, Verdict::HandOver(_)), "handed over twice: {outcome:?}");
        }
        outcomes
    }

    /// The neighbour that a packet waits for, which the only worker handed up, does not answer.
    ///
    /// # Panics
    /// When the data path gives no verdict.
    pub fn unreachable(&mut self, arrival: &Arrival) -> Outcome {
        self.workers[0].counters().injected.add(1);
        self.decide_by(WorkerId(0), std::slice::from_ref(arrival), false, Forwarder::unreachable).remove(0)
    }

    fn decide(&mut self, worker: WorkerId, arrivals: &[Arrival], handed_over: bool) -> Vec<Outcome> {
        self.decide_by(worker, arrivals, handed_over, Forwarder::burst)
    }

    fn decide_by(
        &mut self,
        worker: WorkerId,
        arrivals: &[Arrival],
        handed_over: bool,
        decide: impl Fn(&mut Forwarder, &Snapshot, &mut [Packet<'_>], &mut Verdicts, Tick),
    ) -> Vec<Outcome> {
        assert!(arrivals.len() <= BURST_MAX, "{} packets in a burst", arrivals.len());
        let mut rooms = arrivals.iter().map(|arrival| self.buffer(&arrival.frame)).collect::<Vec<_>>();
        let mut packets = Vec::with_capacity(arrivals.len());
        for (room, arrival) in rooms.iter_mut().zip(arrivals) {
            let mut packet = Packet::new(room, self.room.0, arrival.frame.len(), arrival.nic);
            packet.handed_over = handed_over;
            packets.push(packet);
        }
        let mut verdicts = Verdicts::new();
        let forwarder = &mut self.workers[worker.index()];
        decide(forwarder, &self.snapshot, &mut packets, &mut verdicts, self.now);
        assert_eq!(verdicts.len(), packets.len(), "a verdict for each packet");
        for verdict in &verdicts {
            book(forwarder.counters(), *verdict);
        }
        let outcome = |(packet, verdict): (&Packet<'_>, Verdict)| Outcome {
            verdict,
            frame: packet.bytes().to_vec(),
            more: Vec::new(),
        };
        let mut outcomes = packets.iter().zip(verdicts).map(outcome).collect::<Vec<_>>();
        for (place, nic, frame) in forwarder.pieces().iter() {
            forwarder.counters().made.add(1);
            forwarder.counters().sent.add(1);
            outcomes[place].more.push((nic, frame.to_vec()));
        }
        outcomes
    }

    /// A buffer with a frame in it and room around it, filled with what nobody should rely on.
    fn buffer(&self, frame: &[u8]) -> Vec<u8> {
        let (head, tail) = self.room;
        [&vec![0xa5; head], frame, &vec![0xa5; tail]].concat()
    }

    /// What the only worker would do with a frame.
    #[must_use]
    pub fn explain(&self, arrival: &Arrival) -> Explanation {
        let mut room = self.buffer(&arrival.frame);
        let mut packet = Packet::new(&mut room, self.room.0, arrival.frame.len(), arrival.nic);
        self.workers[0].explain(&self.snapshot, &mut packet, self.now)
    }

    /// What the books of all workers lack; 0 as long as they balance, since nothing is held between bursts.
    #[must_use]
    pub fn held(&self) -> i64 {
        self.workers.iter().map(|worker| worker.counters().held()).sum()
    }

    /// Every worker looks at all its connections and templates for those whose time has come.
    pub fn sweep(&mut self) {
        for worker in &mut self.workers {
            worker.expire(&self.snapshot, self.now, usize::MAX);
        }
    }

    /// What the director knows of connections and templates.
    #[must_use]
    pub fn records(&self) -> Records {
        let mut records = Records::default();
        for worker in &self.workers {
            records.v4.append(&mut exported(worker.v4(), &self.snapshot, self.now));
            records.v6.append(&mut exported(worker.v6(), &self.snapshot, self.now));
        }
        records
    }

    /// Takes in what another director knew.
    ///
    /// # Errors
    /// Why one of them is not taken in.
    pub fn admit(&mut self, records: &Records) -> Result<(), Refused> {
        let Self { registry, snapshot, workers, now, .. } = self;
        let owner = |client: IpAddr| match client {
            IpAddr::V4(client) => snapshot.owners.of(client),
            IpAddr::V6(client) => snapshot.owners.of(client),
        };
        for record in &records.v4 {
            let real = registry.numbered(&record.real()).ok_or(Refused::UnknownReal)?;
            let worker = &mut workers[owner(record.client().into()).index()];
            worker.admit_v4(snapshot, &record.with_real(real), *now)?;
        }
        for record in &records.v6 {
            let real = registry.numbered(&record.real()).ok_or(Refused::UnknownReal)?;
            let worker = &mut workers[owner(record.client().into()).index()];
            worker.admit_v6(snapshot, &record.with_real(real), *now)?;
        }
        Ok(())
    }

    /// Every connection of every worker, in a fixed order: what two directors that did the same agree in.
    #[must_use]
    pub fn connections(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for worker in &self.workers {
            worker.v4().list(&mut 0, usize::MAX, self.now, |entry| lines.push(format!("{entry:?}")));
            worker.v6().list(&mut 0, usize::MAX, self.now, |entry| lines.push(format!("{entry:?}")));
        }
        lines.sort();
        lines
    }
}

/// Connections and templates outside their tables.
#[derive(Debug, Default)]
pub struct Records {
    /// IPv4.
    pub v4: Vec<Record<Ipv4Addr, RealName>>,
    /// IPv6.
    pub v6: Vec<Record<Ipv6Addr, RealName>>,
}

/// What a table gives out, a few places at a time.
fn exported<A: Address>(table: &Table<A>, snapshot: &Snapshot, now: Tick) -> Vec<Record<A, RealName>> {
    let (mut exported, mut records, mut more) = (Exported::default(), Vec::new(), true);
    while more {
        more = table.export(&mut exported, 7, now, |record| {
            records.extend(snapshot.real_name(record.real()).map(|real| record.with_real(real)));
        });
    }
    records
}

/// Books a verdict as `worker` does, on NICs that take everything.
fn book(counters: &WorkerCounters, verdict: Verdict) {
    match verdict {
        Verdict::Send(_) => counters.sent.add(1),
        Verdict::Reply(_, kind) => {
            counters.consumed.add(1);
            counters.made.add(1);
            counters.replies.at(kind as usize).add(1);
            counters.sent.add(1);
        }
        Verdict::Gather => counters.consumed.add(1),
        Verdict::HandOver(_) => counters.handed_over.add(1),
        Verdict::Punt(punt) => counters.punted.at(punt.reason() as usize).add(1),
        Verdict::Drop(reason) => counters.dropped.at(reason as usize).add(1),
    }
}

/// The frame without tags that name no VLAN.
fn untagged(mut frame: Vec<u8>) -> Vec<u8> {
    while let [0x81, 0, control, 0, _, _] | [0x88, 0xa8, control, 0, _, _] =
        *frame.get(12..18).unwrap_or_default()
    {
        if control & 15 > 0 {
            break;
        }
        frame.drain(12..16);
    }
    frame
}
