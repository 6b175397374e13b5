//! Counters of a worker and of real servers: one writer, any reader, no shared cache line on a packet's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::id::{NicId, WorkerId};
use crate::reason::{DropReason, PuntReason, ReplyKind};

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
    /// Frames cut short or larger than the MTU ([`DropReason::CutShort`], [`DropReason::Oversize`]).
    pub offloaded: Counter,
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
    /// Datagrams that were given up: a fragment did not come in time or did not fit, or there were too many of them.
    pub incomplete: Counter,
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
            if let Some(cell) = self.nics.get(nic.index()) {
                cell.offloaded.add(1);
            }
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

/// What one worker counts for one real server.
#[derive(Debug, Default)]
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
}

/// The counters of one real server: a cache line for each worker. Clones share them.
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
}
