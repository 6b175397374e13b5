//! The control loop's view of workers and core: real rings, real mbufs, real publications.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dpdk_sys::{Clock, Cycles, Mbuf, Mempool};
use shunt_dataplane::forward::BURST_MAX;
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_dataplane::worker::{self, Injected, PacketEnds, Shared, Ticket};
use shunt_model::notify::What;
use shunt_model::vrrp::Role;
use shunt_model::vrrp::Told;
use shunt_protocol::neighbour::{Change, Event};
use shunt_protocol::vrrp;

use super::core::Message;
use crate::control_loop::{Batch, Publish, Rings};
use crate::notify;
use crate::notify::{Condition, Notifier};
use crate::punt::{Frame, Held, Origin, Punted};
use crate::threads::channel::Sender;

/// A packet that a worker handed up.
#[derive(Debug)]
pub struct Packet(Mbuf);

impl Frame for Packet {
    fn frame(&self) -> &[u8] {
        self.0.data()
    }
}

/// The rings to all workers.
#[derive(Debug)]
pub struct WorkerRings {
    ends: Vec<PacketEnds>,
    /// What wakes them.
    workers: Vec<Arc<Shared>>,
    /// Whose turn it is.
    next: usize,
    pool: Mempool,
    /// How often each worker had turned, and found nothing, when it began to be noted.
    turns: Vec<[u64; 2]>,
    /// The workers'.
    clock: Clock,
}

/// Turns in which a worker has emptied a queue of a NIC that was full.
const QUEUE_TURNS: u64 = 4096 / BURST_MAX as u64 + 1;

impl WorkerRings {
    /// The rings of all workers, in the order of their [`WorkerId`], as `workers` is; frames are made from `pool`.
    #[must_use]
    pub const fn new(ends: Vec<PacketEnds>, workers: Vec<Arc<Shared>>, pool: Mempool, clock: Clock) -> Self {
        Self { ends, workers, next: 0, pool, turns: Vec::new(), clock }
    }
}

impl WorkerRings {
    fn inject(&mut self, worker: WorkerId, packet: Injected) -> bool {
        let Some(ends) = self.ends.get_mut(worker.index()) else { return false };
        let taken = ends.injects.push(packet).is_ok();
        if let Some(shared) = self.workers.get(worker.index()) {
            shared.wake();
        }
        taken
    }
}

impl WorkerRings {
    /// Hands a copy of a frame to a worker that sends it: any can send by any NIC; the first one is always there, but may have been given up.
    fn hand_down(&mut self, frame: &[u8], how: impl FnOnce(Mbuf) -> Injected) -> bool {
        let Some(mut mbuf) = self.pool.alloc() else { return false };
        let worker = self.workers.iter().position(|worker| !worker.is_given_up()).unwrap_or_default();
        mbuf.fill(frame) && self.inject(WorkerId(worker as u8), how(mbuf))
    }
}

impl Rings for WorkerRings {
    type Packet = Packet;

    fn punted(&mut self) -> Option<Punted<Packet>> {
        for _ in 0..self.ends.len() {
            let number = self.next;
            self.next = (self.next + 1) % self.ends.len();
            if let Ok(worker::Punted { mbuf, nic, punt }) = self.ends[number].punts.pop() {
                let origin = Origin { worker: WorkerId(number as u8), nic };
                return Some(Punted { held: Held { packet: Packet(mbuf), origin }, punt });
            }
        }
        None
    }

    fn begin_hearing(&mut self) {
        self.turns.clear();
        for shared in &self.workers {
            self.turns.push([shared.counters.turns.get(), shared.counters.turns_idle.get()]);
            shared.wake();
        }
    }

    fn have_heard(&self) -> bool {
        let has_turned = |(shared, before): (&Arc<Shared>, &[u64; 2])| {
            let now = [shared.counters.turns.get(), shared.counters.turns_idle.get()];
            // The turn that was under way does not count.
            now[1] >= before[1] + 2 || now[0] > before[0] + QUEUE_TURNS
        };
        self.workers.iter().zip(&self.turns).all(has_turned)
    }

    fn transmit(&mut self, nic: NicId, frame: &[u8]) -> bool {
        self.hand_down(frame, |mbuf| Injected::Transmit(nic, mbuf))
    }

    fn transmit_timed(&mut self, nic: NicId, frame: &[u8], ticket: Ticket) -> bool {
        self.hand_down(frame, |mbuf| Injected::Timed(nic, mbuf, ticket))
    }

    fn left(&mut self) -> Option<(Ticket, Instant)> {
        let worker::Left { ticket, at } = self.ends.iter_mut().find_map(|ends| ends.left.pop().ok())?;
        let ago = self.clock.duration(Cycles::now().since(at));
        Some((ticket, Instant::now() - ago))
    }

    fn receive(&mut self, origin: Origin, Packet(mbuf): Packet) -> bool {
        self.inject(origin.worker, Injected::Receive(origin.nic, mbuf))
    }

    fn unreachable(&mut self, origin: Origin, Packet(mbuf): Packet) -> bool {
        self.inject(origin.worker, Injected::Unreachable(origin.nic, mbuf))
    }
}

/// The core as the control loop's publisher.
#[derive(Debug)]
pub struct Publications {
    core: Sender<Message>,
    applied: Arc<AtomicU64>,
    nics: Vec<String>,
    notifier: Notifier,
}

impl Publications {
    /// Speaks to the core thread; `nics` are the names of the NICs, for events; what happens to virtual routers, and conflicts of
    /// addresses, are told to `notifier`, too.
    #[must_use]
    pub const fn new(
        core: Sender<Message>,
        applied: Arc<AtomicU64>,
        nics: Vec<String>,
        notifier: Notifier,
    ) -> Self {
        Self { core, applied, nics, notifier }
    }

    fn nic(&self, nic: NicId) -> &str {
        self.nics.get(nic.index()).map_or("?", String::as_str)
    }

    /// Something is wrong with an advert.
    fn advert(&self, name: String, said: &str) {
        let text = format!("vrrp {name}: {said}");
        tracing::warn!("{text}");
        self.notifier.tell(notify::event(What::VrrpAdvert, name, None, text), Vec::new());
    }

    fn tell(&self, what: What, address: IpAddr, real: Option<IpAddr>, text: String) {
        let real = real.map(|real| real.to_string());
        self.notifier.tell(notify::event(what, address.to_string(), real, text), Vec::new());
    }
}

/// How a neighbour that does not answer is named.
#[must_use]
pub fn silent(nic: &str, address: IpAddr) -> String {
    format!("{address} on {nic}")
}

/// The event of what a virtual router or group became.
const fn what(told: Told) -> What {
    match told {
        Told::Role(Role::Master) => What::VrrpMaster,
        Told::Role(Role::Backup) => What::VrrpBackup,
        Told::Role(Role::Fault) => What::VrrpFault,
        Told::Stop => What::VrrpStop,
    }
}

impl Publish for Publications {
    fn publish(&mut self, Batch(number): Batch, changes: Vec<Change>) {
        // A core that has ended publishes no more.
        let _ = self.core.send(Message::Neighbours(changes, number));
    }

    fn running(&mut self) -> Batch {
        Batch(self.applied.load(Ordering::Acquire))
    }

    fn owned(&mut self, vips: Vec<(NicId, IpAddr)>) {
        let _ = self.core.send(Message::Owned(vips.into_iter().collect()));
    }

    fn vrrp(&mut self, event: vrrp::Event) {
        use vrrp::Event::{Entered, Group, Late, LowerPriority, Odd, Refused, SplitBrain, SplitBrainOver};
        match event {
            Entered { name, role, reason, scripts } => {
                let text = format!("vrrp {name}: {}: {reason}", role.word());
                match (role, &reason) {
                    (Role::Fault, reason) if !reason.is_meant() => tracing::error!("{text}"),
                    (_, reason) if reason.is_meant() => tracing::info!("{text}"),
                    _ => tracing::warn!("{text}"),
                }
                let told = if reason == vrrp::Reason::Stopped { Told::Stop } else { Told::Role(role) };
                self.notifier.tell(notify::event(what(told), name, None, text), scripts);
            }
            Group { name, told, scripts } => {
                // Why is in the lines of its members.
                let text = format!("vrrp group {name}: {}", told.word());
                tracing::info!("{text}");
                self.notifier.tell(notify::event(what(told), name, None, text), scripts);
            }
            LowerPriority { name, from, priority, scripts } => {
                let text = format!("vrrp {name}: an advert of {from} with priority {priority} as master");
                let event = notify::event(What::VrrpLowerPriority, name, None, text);
                self.notifier.tell(event, scripts);
            }
            Late { name, from, gap } => {
                tracing::warn!("vrrp {name}: {from} was silent for {gap:?}: its adverts come late");
            }
            Refused { name, from, refusal } => {
                self.advert(name, &format!("an advert of {from} is refused: {refusal}"));
            }
            Odd { name, from, complaint } => self.advert(name, &format!("an advert of {from}: {complaint}")),
            SplitBrain { name, rival, cause } => {
                let text = format!("vrrp {name}: {rival} acts as master, too: {cause}");
                tracing::error!("{text}");
                self.notifier.tell(notify::event(What::SplitBrain, name, None, text), Vec::new());
            }
            SplitBrainOver { name, rival, lasted } => {
                let text = format!("vrrp {name}: {rival} no longer acts as master; both did for {lasted:?}");
                tracing::info!("{text}");
                self.notifier.tell(notify::event(What::SplitBrainOver, name, None, text), Vec::new());
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Resolved { nic, address, mac } => {
                let text = format!("nic \"{}\": {address} is at {mac}", self.nic(nic));
                tracing::info!("{text}");
                self.notifier.end(Condition::NeighbourSilent, &silent(self.nic(nic), address), text);
            }
            Event::MacChanged { nic, address, from, to } => {
                tracing::warn!("nic {}: {address} moved from {from} to {to}", self.nic(nic));
            }
            Event::Silent { nic, address } => {
                let text = format!(
                    "nic \"{}\": {address} does not answer: packets to it wait and are dropped: check its cable, address and netmask",
                    self.nic(nic)
                );
                self.notifier.begin(Condition::NeighbourSilent, &silent(self.nic(nic), address), text);
            }
            Event::Disputed { nic, address, mac, other } => {
                let text = format!(
                    "nic {}: both {mac} and {other} answer for {address}: the director keeps to {mac}: take the address off one \
                     of them",
                    self.nic(nic)
                );
                tracing::error!("{text}");
                self.tell(What::NeighbourConflict, address, None, text);
            }
            Event::Conflict(conflict) => {
                let text = format!("nic {}: {conflict}", self.nic(conflict.nic));
                tracing::error!("{text}");
                self.tell(What::AddressConflict, conflict.address, conflict.real(), text);
            }
            Event::ConflictOver { conflict, lasted } => {
                let text = format!(
                    "nic {}: {} no longer claims {}: it was heard {} times in {} s",
                    self.nic(conflict.nic),
                    conflict.other,
                    conflict.address,
                    conflict.count,
                    lasted.as_secs()
                );
                tracing::info!("{text}");
                self.tell(What::AddressConflictOver, conflict.address, conflict.real(), text);
            }
        }
    }
}
