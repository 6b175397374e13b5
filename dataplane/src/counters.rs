//! Counters of a worker and of real servers: one writer, any reader, no shared cache line on a packet's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::id::{NicId, WorkerId};
use crate::reason::{DropReason, Evidence, Incomplete, PuntReason, Reclaimed, ReplyKind};
use crate::time::{Tick, Ticks};

/// A number with one writer. Readers see some recent value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the one writer calls it.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Subtracts, not below 0; only the one writer calls it.
    #[inline]
    pub fn subtract(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(count), Ordering::Relaxed);
    }

    /// Sets it; only the one writer calls it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each variant of a reason.
#[derive(Debug)]
pub struct PerReason<const N: usize>([Counter; N]);

impl<const N: usize> Default for PerReason<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> PerReason<N> {
    /// The counter at a reason's place.
    #[inline]
    #[must_use]
    pub fn at(&self, place: usize) -> &Counter {
        &self.0[place]
    }

    /// All of them added up.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// NICs that a director can have.
pub const NICS_MAX: usize = 16;

/// What one worker counts for one NIC: senders that leave work to a NIC that is not there.
#[derive(Debug, Default)]
pub struct NicCell {
    /// First packets of connections whose checksum the sender did not fill in; forwarded as they are.
    pub checksum_not_filled: Counter,
    /// Frames that were cut short ([`DropReason::CutShort`]) or are larger than the MTU.
    pub offloaded: Counter,
}

/// What one worker counts for its tables of one address family.
#[derive(Debug, Default)]
pub struct TableCounters {
    /// Packets that would have made a connection and found no room ([`DropReason::TableFull`]).
    pub full: Counter,
    /// And none for the template of their client ([`DropReason::TemplatesFull`]).
    pub templates_full: Counter,
    /// Whose client held more than its share ([`DropReason::ClientShare`]).
    pub client_share: Counter,
    /// Whose service held more than its share ([`DropReason::ServiceShare`]).
    pub service_share: Counter,
    /// What was given up for others, by [`Reclaimed`].
    pub reclaimed: PerReason<{ Reclaimed::COUNT }>,
}

impl TableCounters {
    /// The counter of a reason to drop a packet that would have made a connection; none for other reasons.
    #[must_use]
    pub const fn refused(&self, reason: DropReason) -> Option<&Counter> {
        match reason {
            DropReason::TableFull => Some(&self.full),
            DropReason::TemplatesFull => Some(&self.templates_full),
            DropReason::ClientShare => Some(&self.client_share),
            DropReason::ServiceShare => Some(&self.service_share),
            _ => None,
        }
    }
}

/// The memory for the fragments of a family.
#[derive(Debug, Default)]
pub struct FragmentCounters {
    /// Bytes in use.
    pub used: Counter,
    /// All bytes.
    pub most: Counter,
    /// Datagrams that made room for others.
    pub reclaimed: Counter,
}

/// The books of one worker. At all times, over all workers and with the control core's `injected`:
/// `received + made + injected = sent + punted + consumed + Σ dropped + held`.
#[derive(Debug, Default)]
// Two cache lines, which the prefetcher fetches together: no other worker's writes are near.
#[repr(align(128))]
pub struct WorkerCounters {
    /// Packets taken from NICs.
    pub received: Counter,
    /// Packets that the director made itself: replies, and fragments beside the first.
    pub made: Counter,
    /// Packets taken from the control core's inject ring.
    pub injected: Counter,
    /// Packets that a NIC's transmit queue took.
    pub sent: Counter,
    /// Packets that were answered, not forwarded, and fragments that were put together.
    pub consumed: Counter,
    /// Packets given to the worker that owns them.
    pub handed_over: Counter,
    /// Packets taken over from other workers.
    pub taken_over: Counter,
    /// Packets given to the control core, by [`PuntReason`].
    pub punted: PerReason<{ PuntReason::COUNT }>,
    /// Packets dropped, by [`DropReason`].
    pub dropped: PerReason<{ DropReason::COUNT }>,
    /// Replies, by [`ReplyKind`]; their sum and the fragments are `made`.
    pub replies: PerReason<{ ReplyKind::COUNT }>,
    /// Connections made since the start.
    pub connections_made: Counter,
    /// Connections that ended by time since the start.
    pub connections_expired: Counter,
    /// Datagrams that were put together from their fragments.
    pub gathered: Counter,
    /// Datagrams that were given up, by [`Incomplete`].
    pub incomplete: PerReason<{ Incomplete::COUNT }>,
    /// Of the memory for fragments, of IPv4 and IPv6.
    pub fragments: [FragmentCounters; 2],
    /// Of the tables of IPv4 and IPv6.
    pub tables: [TableCounters; 2],
    /// By NIC.
    pub nics: [NicCell; NICS_MAX],
    /// Turns of the loop.
    pub turns: Counter,
    /// Turns that found nothing to do.
    pub turns_idle: Counter,
    /// Times that the worker went to sleep for want of work.
    pub naps: Counter,
}

impl WorkerCounters {
    /// A packet came whose checksum is not filled in.
    pub(crate) fn checksum_not_filled(&self, nic: NicId) {
        if let Some(cell) = self.nics.get(nic.index()) {
            cell.checksum_not_filled.add(1);
        }
    }

    /// A frame was refused by parsing.
    pub(crate) fn refused_frame(&self, nic: NicId, reason: DropReason) {
        if matches!(reason, DropReason::CutShort | DropReason::Oversize) {
            self.offloaded(nic);
        }
    }

    /// A frame came that an offload of its sender let through.
    pub(crate) fn offloaded(&self, nic: NicId) {
        if let Some(cell) = self.nics.get(nic.index()) {
            cell.offloaded.add(1);
        }
    }

    /// Packets in a ring or a buffer of this worker now: what its books lack.
    /// Negative while packets that other workers handed over are on their way.
    #[must_use]
    pub fn held(&self) -> i64 {
        let arrived = self.received.get() + self.made.get() + self.injected.get() + self.taken_over.get();
        let gone = self.sent.get()
            + self.punted.sum()
            + self.consumed.get()
            + self.dropped.sum()
            + self.handed_over.get();
        arrived.wrapping_sub(gone) as i64
    }
}

/// What one worker counts for one real server. What packets of open connections count comes first, in a cache line of its own;
/// the control core looks at the rest several times a second.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RealCell {
    /// Connections that count as active (kernel: `activeconns`).
    pub active: Counter,
    /// Connections that count as inactive (kernel: `inactconns`).
    pub inactive: Counter,
    /// Persistence templates (kernel: `persistconns`).
    pub persistent: Counter,
    /// Connections scheduled since the start.
    pub connections: Counter,
    /// Packets from clients.
    pub packets_in: Counter,
    /// Packets to clients (only NAT replies pass the director).
    pub packets_out: Counter,
    /// IP bytes from clients.
    pub bytes_in: Counter,
    /// IP bytes to clients.
    pub bytes_out: Counter,
    /// What passes by and says how the real server is, by [`Evidence`].
    pub evidence: PerReason<{ Evidence::COUNT }>,
    /// The last failure among it: the tick, and below its lowest byte one more than the [`Evidence`]; 0 before the first.
    last_failure: Counter,
}

const _: () = {
    assert!(std::mem::offset_of!(RealCell, evidence) == 64);
    assert!(size_of::<RealCell>() <= 128);
};

impl RealCell {
    /// Counts a piece of evidence; only the one writer calls it.
    pub fn witness(&self, evidence: Evidence, now: Tick) {
        self.evidence.at(evidence as usize).add(1);
        if evidence.is_failure() {
            self.last_failure.set(u64::from(now.0) << 8 | (evidence as u64 + 1));
        }
    }

    /// The last failure, and how long ago it was.
    fn last_failure(&self, now: Tick) -> Option<(Ticks, Evidence)> {
        let word = self.last_failure.get();
        let evidence = *Evidence::ALL.get(((word & 0xff) as usize).checked_sub(1)?)?;
        let then = Tick((word >> 8) as u32);
        // A worker's clock may be a tick ahead.
        Some((if now.has_come(then) { Ticks(0) } else { then.elapsed(now) }, evidence))
    }
}

/// The counters of one real server: cache lines of its own for each worker. Clones share them.
#[derive(Clone, Debug)]
pub struct RealCounters(Arc<[CachePadded<RealCell>]>);

impl RealCounters {
    /// Counters at zero for `workers` workers.
    #[must_use]
    pub fn new(workers: u8) -> Self {
        Self((0..workers.max(1)).map(|_| CachePadded::new(RealCell::default())).collect())
    }

    /// The cell of one worker.
    #[inline]
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> &RealCell {
        &self.0[worker.index()]
    }

    /// Active and inactive connections over all workers.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.sum(|cell| &cell.active) + self.sum(|cell| &cell.inactive)
    }

    /// Evidence of one kind, over all workers.
    #[must_use]
    pub fn evidence(&self, evidence: Evidence) -> u64 {
        self.sum(|cell| cell.evidence.at(evidence as usize))
    }

    /// The last failure that any worker saw, and how long before `now` that was.
    #[must_use]
    pub fn last_failure(&self, now: Tick) -> Option<(Ticks, Evidence)> {
        self.0.iter().filter_map(|cell| cell.last_failure(now)).min_by_key(|(ago, _)| *ago)
    }

    /// A field summed over all workers.
    #[inline]
    #[must_use]
    pub fn sum(&self, field: impl Fn(&RealCell) -> &Counter) -> u64 {
        self.0.iter().map(|cell| field(cell).get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance() {
        let counters = WorkerCounters::default();
        counters.received.add(5);
        counters.sent.add(2);
        counters.dropped.at(DropReason::NoReal as usize).add(1);
        counters.punted.at(PuntReason::Arp as usize).add(1);
        assert_eq!(counters.held(), 1);
        counters.consumed.add(1);
        assert_eq!(counters.held(), 0);
    }

    #[test]
    fn sums_over_workers() {
        let counters = RealCounters::new(2);
        counters.of(WorkerId(0)).active.add(3);
        counters.of(WorkerId(1)).active.add(4);
        counters.of(WorkerId(1)).active.subtract(9);
        assert_eq!(counters.sum(|cell| &cell.active), 3);
    }

    #[test]
    fn the_last_failure_is_that_of_any_worker() {
        let counters = RealCounters::new(2);
        counters.of(WorkerId(0)).witness(Evidence::Answered, Tick(100));
        assert_eq!(counters.last_failure(Tick(100)), None);
        counters.of(WorkerId(0)).witness(Evidence::Refused, Tick(100));
        counters.of(WorkerId(1)).witness(Evidence::Unreachable, Tick(300));
        counters.of(WorkerId(0)).witness(Evidence::Answered, Tick(400));
        assert_eq!(counters.last_failure(Tick(450)), Some((Ticks(150), Evidence::Unreachable)));
        assert_eq!(counters.last_failure(Tick(299)), Some((Ticks(0), Evidence::Unreachable)));
        let counts: Vec<u64> = Evidence::ALL.iter().map(|evidence| counters.evidence(*evidence)).collect();
        assert_eq!(counts, [2, 1, 0, 1, 0]);
    }
}
