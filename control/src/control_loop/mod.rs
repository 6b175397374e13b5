//! The thread between workers, neighbours and the kernel side: takes what is punted, carries out what the neighbour
//! machine says, passes frames between NICs and TAPs. It holds no decision of its own and does nothing else, so that a
//! neighbour never waits for a reload or a check.
//!
//! A packet that waited for a neighbour may go on only when the workers know that neighbour, else they would punt it
//! again. So changes of the neighbour table are published in batches, one batch under way at a time, and a packet
//! is injected when the batch that it needs is running everywhere.

mod batch;
mod handle;
mod own_way;
mod service_way;
mod virtual_mac;
mod vrrp;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shunt_dataplane::id::NicId;
use shunt_dataplane::wire::ethernet;
use shunt_dataplane::worker::Ticket;
use shunt_protocol::neighbour::{Change, Event, Machine, Output};

use crate::kernel::service_way::NEXT_HOP;
use crate::kernel::{Kernel, Routes, next_hop};
use crate::punt::{Frame, Held, Origin, Punted, Sorted, sort};
pub use batch::{Batch, RELEASED_MAX};
use handle::{Command, Inbox};
pub use handle::{Control, Report};
pub use own_way::WAITING_MAX as OWN_WAITING_MAX;
pub use service_way::WAITING_MAX as CHECKS_WAITING_MAX;
pub use vrrp::Report as VrrpReport;
use vrrp::Vrrp;

/// Punted packets taken in a turn.
pub const PUNTS_PER_TURN_MAX: usize = 256;
/// Frames taken from a TAP in a turn.
pub const FRAMES_PER_TURN_MAX: usize = 64;
/// How long the loop waits for frames of the kernel side when there is nothing to do, in milliseconds. Workers do not
/// wake it, since that would cost them a system call.
const NAP_MS: u8 = 1;
/// The same after [`QUIET_NAPS`] in a row without work.
const NAP_QUIET_MS: u8 = 4;
/// About a second of short naps.
const QUIET_NAPS: u32 = 1_000;

/// The rings between workers and this thread.
pub trait Rings {
    /// A packet in a ring; dropping it frees it.
    type Packet: Frame;

    /// The next packet that a worker handed up; none when there is none now. Serves all workers in turn.
    fn punted(&mut self) -> Option<Punted<Self::Packet>>;

    /// Begins to note whether all workers take in what lies in their queues by now; wakes them.
    fn begin_hearing(&mut self) {}

    /// Whether they have since: what they handed up lies in the rings.
    fn have_heard(&self) -> bool {
        true
    }

    /// Sends a copy of `frame` out of a NIC; false when there is no room for it.
    fn transmit(&mut self, nic: NicId, frame: &[u8]) -> bool;

    /// The same for one that is timed: [`Self::left`] tells when it left.
    fn transmit_timed(&mut self, nic: NicId, frame: &[u8], ticket: Ticket) -> bool;

    /// A packet that was timed and left, and when, each once.
    fn left(&mut self) -> Option<(Ticket, Instant)>;

    /// Lets the worker that handed it up forward a packet as if it had just arrived; false when there is no room for it.
    fn receive(&mut self, origin: Origin, packet: Self::Packet) -> bool;

    /// Gives a packet back to the worker that handed it up: its sender is told that its next hop does not answer. False when
    /// there is no room.
    fn unreachable(&mut self, origin: Origin, packet: Self::Packet) -> bool;
}

/// The neighbour table's way into the snapshot, and what is told to the operator.
pub trait Publish {
    /// Has a batch of changes published. Does not wait; the loop hands over the next batch only when this one runs.
    fn publish(&mut self, batch: Batch, changes: Vec<Change>);

    /// The last batch that all workers run. Any later one may be under way.
    fn running(&mut self) -> Batch;

    /// Tells the operator.
    fn event(&mut self, event: Event);

    /// These VIPs of virtual routers belong to this director from now on, and no others. Does not wait.
    fn owned(&mut self, vips: Vec<(NicId, IpAddr)>);

    /// Tells the operator what happened to a virtual router.
    fn vrrp(&mut self, event: shunt_protocol::vrrp::Event);
}

/// What the loop counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets taken from workers.
    pub punted: u64,
    /// Frames handed to the kernel side.
    pub to_kernel: u64,
    /// Frames that the kernel side did not take.
    pub kernel_refused: u64,
    /// Frames taken from the kernel side.
    pub from_kernel: u64,
    /// Frames of checks by their service's way whose way was not known, that waited too long for the MAC on it, or were too large for
    /// its tunnel.
    pub without_way: u64,
    /// The same that found no room among those that wait.
    pub checks_full: u64,
    /// Frames of the kernel side without a route, or whose next hop did not answer, which it was told.
    pub own_lost: u64,
    /// The same that found no room among those that wait for their next hop.
    pub own_full: u64,
    /// Frames given to workers to send.
    pub transmitted: u64,
    /// Frames for which there was no room in the ring to the worker, or no mbuf.
    pub transmit_full: u64,
    /// Packets given to workers to be forwarded again.
    pub released: u64,
    /// Packets dropped for want of room among those that wait for a publication or in the ring to the worker.
    pub release_full: u64,
}

/// The loop and all that it works with.
pub struct ControlLoop<R: Rings, P: Publish> {
    rings: R,
    publish: P,
    kernel: Kernel,
    nics: u8,
    machine: Machine<Held<R::Packet>>,
    vrrp: Vrrp,
    batches: batch::Batches<R::Packet>,
    inbox: Inbox,
    counters: Counters,
    outputs: Vec<Output<Held<R::Packet>>>,
    buffer: Vec<u8>,
    leaving: service_way::Leaving,
    routes: Routes,
    own_waiting: own_way::Waiting,
}

impl<R: Rings, P: Publish> ControlLoop<R, P> {
    /// A loop that owns no address yet, and the handle that tells it.
    #[must_use]
    pub fn new(rings: R, publish: P, kernel: Kernel) -> (Self, Control) {
        let (control, inbox) = handle::channel();
        let control_loop = Self {
            rings,
            publish,
            nics: kernel.fds().count() as u8,
            kernel,
            machine: Machine::new(Instant::now()),
            vrrp: Vrrp::new(Instant::now()),
            batches: batch::Batches::default(),
            inbox,
            counters: Counters::default(),
            outputs: Vec::new(),
            buffer: vec![0; Kernel::FRAME_MAX],
            leaving: service_way::Leaving::default(),
            routes: Routes::default(),
            own_waiting: own_way::Waiting::default(),
        };
        (control_loop, control)
    }

    /// Runs until [`Control::stop`] is called or the handle is dropped.
    /// Calls `beat` in each turn.
    pub fn run(&mut self, beat: impl Fn()) {
        let mut naps = 0_u32;
        while let Some(work) = self.turn(Instant::now()) {
            beat();
            if work > 0 {
                naps = 0;
                continue;
            }
            self.nap(Instant::now(), if naps < QUIET_NAPS { NAP_MS } else { NAP_QUIET_MS });
            naps = naps.saturating_add(1);
        }
    }

    /// One turn; tells how much it moved, none when it is time to end.
    pub fn turn(&mut self, now: Instant) -> Option<usize> {
        if !self.obey(now) {
            self.resign(now);
            return None;
        }
        self.notice_sleep(now);
        self.note_departures();
        // Before all else, so that nothing delays an advert.
        self.speak(now);
        let heard = self.hear(now);
        let mut work = 0;
        while work < PUNTS_PER_TURN_MAX {
            let Some(punted) = self.rings.punted() else { break };
            work += 1;
            self.counters.punted += 1;
            let Some(punted) = self.about_virtual_mac(now, punted) else { continue };
            match sort(&mut self.machine, now, punted, &mut self.outputs) {
                Sorted::Kernel(held) => self.give_kernel(&held),
                Sorted::Vrrp(held) => {
                    self.advert(now, &held);
                    self.speak(now);
                }
                Sorted::Kept => {}
            }
        }
        if work < PUNTS_PER_TURN_MAX
            && let Some(until) = heard
        {
            self.vrrp.heard_until(until);
        }
        work += usize::from(self.machine.go_on_naming(now, &mut self.outputs));
        if self.machine.deadline().is_some_and(|deadline| deadline <= now) {
            self.machine.tick(now, &mut self.outputs);
        }
        self.carry_out();
        self.speak(now);
        self.carry_out();
        for nic in 0..self.nics {
            work += self.take_from_kernel(now, NicId(nic));
        }
        self.give_up_waiting(now);
        // What the kernel side sends may make the director ask.
        self.carry_out();
        self.kernel.follow_ways();
        self.send_checks(now);
        work += self.settle();
        Some(work)
    }

    /// Does what other threads ask for; false when it is time to end.
    fn obey(&mut self, now: Instant) -> bool {
        loop {
            match self.inbox.next() {
                Ok(None) => return true,
                Err(handle::Ended) => return false,
                Ok(Some(command)) => match command {
                    Command::Owned(nics, vips) => {
                        (self.vrrp.nics, self.vrrp.plain) = (nics, vips);
                        self.own(now);
                    }
                    Command::Routers(instances, groups) => self.set_routers(now, instances, groups),
                    Command::NicNames(names) => self.vrrp.machine.name_nics(names),
                    Command::Watched(what, reading) => self.watched(now, what, reading),
                    Command::RefusedMacs(refused) => self.refused_macs(now, refused),
                    Command::Named(wanted, told) => self.machine.begin_naming(wanted, told),
                    Command::Checked(checked) => {
                        self.machine.set_checked(now, checked);
                        self.machine.look_for_others(now);
                    }
                    Command::Routes(routes) => self.routes = routes,
                    Command::Neighbours(most) => self.machine.set_most(most),
                    Command::LinkIsBack(nic) => self.machine.link_is_back(now, nic),
                    Command::Stop => return false,
                    Command::Announce => self.machine.announce(now, &mut self.outputs),
                    Command::Report(answer) => drop(answer.send(self.report())),
                    Command::Counters(answer) => drop(answer.send(self.counters())),
                },
            }
        }
    }

    fn carry_out(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Transmit { nic, mut frame } => {
                    self.vrrp.virtual_macs.outgoing(nic, &mut frame);
                    self.transmit(nic, &frame);
                }
                Output::Change(change) => {
                    if let Some(mac) = change.mac {
                        self.send_waiting((change.nic, change.address), mac);
                    }
                    self.batches.gather(change);
                }
                Output::Event(event) => {
                    if let Event::Conflict(conflict) = event {
                        self.claimed(conflict.nic, conflict.address, conflict.other);
                    }
                    self.publish.event(event);
                }
                // Nobody waits for what finds no room here.
                Output::Unreachable(Held { packet, origin }) => drop(self.rings.unreachable(origin, packet)),
                Output::Release(held) => {
                    if !self.batches.hold(held) {
                        self.counters.release_full += 1;
                    }
                }
            }
        }
        // The allocation is kept.
        self.outputs = outputs;
    }

    fn transmit(&mut self, nic: NicId, frame: &[u8]) {
        let sent = self.rings.transmit(nic, frame);
        self.count_transmitted(sent);
    }

    fn count_transmitted(&mut self, sent: bool) {
        *(if sent { &mut self.counters.transmitted } else { &mut self.counters.transmit_full }) += 1;
    }

    fn give_kernel(&mut self, held: &Held<R::Packet>) {
        let (nic, frame) = (held.origin.nic, held.packet.frame());
        let own = self.vrrp.nics.get(nic.index()).map(|nic| nic.mac).unwrap_or_default();
        let moved = self.vrrp.virtual_macs.moved(nic, own, frame);
        self.write_kernel(nic, moved.as_deref().unwrap_or(frame));
    }

    fn write_kernel(&mut self, nic: NicId, frame: &[u8]) {
        let taken = self.kernel.write(nic, frame);
        *(if taken { &mut self.counters.to_kernel } else { &mut self.counters.kernel_refused }) += 1;
    }

    /// Passes frames of the kernel side on to the NIC. Those to the next hop that does not exist go to the real one; only what is for a group
    /// leaves as it is.
    fn take_from_kernel(&mut self, now: Instant, nic: NicId) -> usize {
        for count in 0..FRAMES_PER_TURN_MAX {
            let Ok(Some(length)) = self.kernel.read(nic, &mut self.buffer) else { return count };
            self.counters.from_kernel += 1;
            let frame = &self.buffer[..length];
            match ethernet::destination(frame) {
                Some(NEXT_HOP) => self.take_check(length),
                Some(next_hop::MAC) => self.send_own(now, nic, length),
                // It has nobody to ask, and the director answers for its addresses.
                _ if own_way::is_about_neighbours(frame) => {}
                _ => self.transmit_buffer(nic, length),
            }
        }
        FRAMES_PER_TURN_MAX
    }

    /// Sends the frame that lies in the buffer.
    fn transmit_buffer(&mut self, nic: NicId, length: usize) {
        let sent = self.rings.transmit(nic, &self.buffer[..length]);
        self.count_transmitted(sent);
    }

    /// Takes a frame that goes its service's way.
    fn take_check(&mut self, length: usize) {
        let frame = &self.buffer[..length];
        let Some(way) = self.kernel.way_of(frame) else {
            self.counters.without_way += 1;
            return;
        };
        if !self.leaving.take(Instant::now(), way, frame) {
            self.counters.checks_full += 1;
        }
    }

    /// Sends the frames whose way is known.
    fn send_checks(&mut self, now: Instant) {
        if self.leaving.is_empty() {
            return;
        }
        let machine = &self.machine;
        let (ready, lost) = self.leaving.ready(now, &self.vrrp.nics, |key| machine.mac(key));
        self.counters.without_way += lost;
        for (nic, frame) in ready {
            self.transmit(nic, &frame);
        }
    }

    /// Publishes what was gathered when the last batch runs, and lets packets go whose batch does.
    fn settle(&mut self) -> usize {
        if self.batches.is_settled() {
            return 0;
        }
        self.batches.ran(self.publish.running());
        if let Some((batch, changes)) = self.batches.next() {
            self.publish.publish(batch, changes);
            self.batches.ran(self.publish.running());
        }
        let mut count = 0;
        while let Some(Held { packet, origin }) = self.batches.release() {
            count += 1;
            let taken = self.rings.receive(origin, packet);
            *(if taken { &mut self.counters.released } else { &mut self.counters.release_full }) += 1;
        }
        count
    }

    /// Waits for frames of the kernel side, for so many milliseconds at most.
    fn nap(&mut self, now: Instant, longest_ms: u8) {
        let longest = Duration::from_millis(longest_ms.into());
        let deadlines = [self.machine.deadline(), self.vrrp.machine.deadline()];
        let due = deadlines.into_iter().flatten().min().map(|due| due.saturating_duration_since(now));
        // poll(2) counts in milliseconds; for less the kernel side can wait. A real-time thread must not spin.
        let nap = due.map_or(longest, |due| due.min(longest));
        let nap_ms = nap.as_millis() as u8;
        if nap_ms == 0 {
            return std::thread::sleep(nap);
        }
        let fds: Vec<BorrowedFd<'_>> = self.kernel.fds().map(|(_, fd)| fd).collect();
        let mut fds: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut fds, PollTimeout::from(nap_ms)).is_err() {
            std::thread::sleep(Duration::from_millis(nap_ms.into()));
        }
    }

    fn counters(&self) -> Report {
        Report {
            neighbour_counters: self.machine.counters(),
            counters: self.counters,
            held: self.machine.waiting() + self.batches.held(),
            checks_waiting: self.leaving.waiting(),
            ..Report::default()
        }
    }

    fn report(&self) -> Report {
        Report {
            neighbours: self.machine.neighbours().collect(),
            conflicts: self.machine.conflicts().collect(),
            neighbour_counters: self.machine.counters(),
            counters: self.counters,
            held: self.machine.waiting() + self.batches.held(),
            checks_waiting: self.leaving.waiting(),
            own_waiting: self.own_waiting.count(),
            vrrp: self.vrrp.report(),
        }
    }
}

#[cfg(test)]
mod tests;
