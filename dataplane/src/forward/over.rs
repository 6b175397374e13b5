//! Connections and templates that are given up for a packet before their time. The kernel ends them at its next tick: until then
//! they are there beside what takes their place.

use super::commit::count_told;
use super::decision::Then;
use super::{Forwarder, Tables, Verdict};
use crate::connections::{ConnectionIndex, TemplateIndex};
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::service::Standing;
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::{Headers, IpVersion};

impl Forwarder {
    /// What happens to a packet for which a connection and a template were given up. In the kernel the connection lives until
    /// the next tick, and the error that its client is told counts as its answer.
    pub(super) fn settle_over<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        (connection, template): (Option<ConnectionIndex>, Option<TemplateIndex>),
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        let real = connection.and_then(|index| {
            let entry = A::table(&self.connections).entry(index);
            snapshot.real(entry.real()).filter(|real| real.standing != Standing::Removed && !entry.is_nat())
        });
        self.give_up::<A>(snapshot, connection, template, now);
        if let Then::Drop(DropReason::Defence) = then {
            self.count_dropped::<A>(snapshot);
        }
        let verdict = self.settle(snapshot, packet, headers, None, then, now);
        if let (Some(real), Verdict::Reply(_, ReplyKind::NoReal)) = (real, verdict) {
            count_told(packet, real.counters.of(self.worker));
        }
        verdict
    }

    /// Ends a connection and takes note that a template is stale, since nobody takes their client.
    pub(super) fn give_up<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        connection: Option<ConnectionIndex>,
        template: Option<TemplateIndex>,
        now: Tick,
    ) {
        if let Some(connection) = connection {
            self.remove::<A>(snapshot, connection, now);
        }
        self.set_stale::<A>(template);
    }
}
