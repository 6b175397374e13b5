//! Room for new connections in a table that is full or nearly so: who gets it, and who pays ([`crate::connections::Rank`]).

use super::{Aside, Forwarder, Tables, Verdict};
use crate::address::Address;
use crate::connections::{ConnectionIndex, Entry, Full, Limits, NewConnection};
use crate::id::ServiceId;
use crate::reason::DropReason;
use crate::snapshot::Snapshot;
use crate::time::Tick;

/// What a service holds of this worker's tables: counted anew in each tick in which it is asked for, and raised by each connection
/// that is made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    counted: Option<Tick>,
    connections: u64,
}

/// What a client may have.
pub(super) const fn limits<A: Address>(snapshot: &Snapshot) -> Limits<'static, A> {
    Limits { client_share: snapshot.client_share, of_service: None }
}

/// Why a packet is dropped that finds no room.
pub(super) const fn reason(full: Full) -> DropReason {
    match full {
        Full::Table => DropReason::TableFull,
        Full::Client => DropReason::ClientShare,
        Full::Service => DropReason::ServiceShare,
    }
}

impl Forwarder {
    /// Whether a new connection of `holder` finds room, as far as can be told without changing anything.
    ///
    /// # Errors
    /// The packet is dropped.
    #[inline]
    pub(super) fn has_room<A: Tables>(&self, snapshot: &Snapshot, holder: A, now: Tick) -> Result<(), Aside> {
        let room = A::table(&self.connections).has_room(holder, &limits(snapshot), now);
        room.map_err(|full| Aside::Drop(reason(full)))
    }

    /// Puts a connection of a service into its table; where that is nearly full, as one of its service's share.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(super) fn put_within_share<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        new: &NewConnection<A>,
        service: ServiceId,
        now: Tick,
    ) -> Result<ConnectionIndex, DropReason> {
        if !A::table(&self.connections).is_nearly_full() {
            return self.put(snapshot, new, &limits(snapshot), now);
        }
        self.put_in_nearly_full(snapshot, new, service, now)
    }

    #[cold]
    fn put_in_nearly_full<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        new: &NewConnection<A>,
        service: ServiceId,
        now: Tick,
    ) -> Result<ConnectionIndex, DropReason> {
        if !self.is_over_share::<A>(snapshot, service, now) {
            let made = self.put(snapshot, new, &limits(snapshot), now)?;
            if let Some(held) = self.held.get_mut(service.index()) {
                held.connections += 1;
            }
            return Ok(made);
        }
        let own = |entry: &Entry<A>| snapshot.real(entry.real()).is_some_and(|real| real.service == service);
        let limits = Limits { of_service: Some(&own), ..limits(snapshot) };
        self.put(snapshot, new, &limits, now)
    }

    /// True when a service holds more than its share of the table.
    fn is_over_share<A: Tables>(&mut self, snapshot: &Snapshot, service: ServiceId, now: Tick) -> bool {
        let (Some(of), Some(held)) = (snapshot.service(service), self.held.get_mut(service.index())) else {
            return false;
        };
        if of.settings.share.is_whole() {
            return false;
        }
        if held.counted != Some(now) {
            let cells = of.candidates.iter().map(|candidate| candidate.counters.of(self.worker));
            let connections = cells.map(|cell| cell.active.get() + cell.inactive.get()).sum();
            *held = Held { counted: Some(now), connections };
        }
        held.connections > of.settings.share.of(A::table(&self.connections).capacity()) as u64
    }

    /// A packet that would have made a connection found no room.
    #[cold]
    pub(super) fn refused<A: Tables>(&self, reason: DropReason) -> Verdict {
        if let Some(counter) = self.counters.tables[A::FAMILY as usize].refused(reason) {
            counter.add(1);
        }
        Verdict::Drop(reason)
    }
}
