//! What is done beside packets: a new generation is taken up, and connections end whose time has come.

use std::net::SocketAddr;
use std::sync::Arc;

use super::lifecycle::Ends;
use super::{Connections, Forwarder};
use crate::address::Address;
use crate::connections::{Ending, Entry, Table, Template};
use crate::service::schedulers::{Cursor, Scheduler};
use crate::service::{Real, Service, Standing};
use crate::snapshot::Snapshot;
use crate::time::Tick;

impl Forwarder {
    /// A new generation: takes the memory that it needs, so that no packet does.
    #[cold]
    pub(super) fn take_up(&mut self, snapshot: &Snapshot) {
        self.seen = snapshot.generation;
        if self.cursors.len() < snapshot.services.len() {
            self.cursors.resize(snapshot.services.len(), Cursor::default());
            self.held.resize(snapshot.services.len(), super::room::Held::default());
        }
        let learns = |scheduler| matches!(scheduler, Scheduler::Lblc | Scheduler::Lblcr);
        if snapshot.services.iter().flatten().any(|service| learns(service.scheduler)) {
            self.localities.prepare();
        }
        let persists = |service: &&Arc<Service>| service.settings.persistence.is_some();
        for service in snapshot.services.iter().flatten().filter(persists) {
            match service.listen {
                SocketAddr::V4(_) => self.connections.v4.prepare_templates(),
                SocketAddr::V6(_) => self.connections.v6.prepare_templates(),
            }
        }
        if snapshot.reals.iter().flatten().any(|real| is_over(snapshot, real)) {
            self.flushed = (0, 0);
        }
    }

    /// Ends connections whose time has come, a bounded number of them: what a worker calls each turn.
    pub fn expire_turn(&mut self, snapshot: &Snapshot, now: Tick) {
        // What ends with a generation does so though no packet comes.
        if self.seen != snapshot.generation {
            self.take_up(snapshot);
        }
        if self.flushed != (usize::MAX, usize::MAX) {
            self.flush_turn(snapshot, now);
        }
        if snapshot.sysctls.drop_entry > 0 {
            self.defend(snapshot, now);
        }
        let (Connections { v4, v6 }, ends) = self.tables_and_ends(snapshot);
        v4.sweep_turn(now, |entry| ends.connection(entry, Ending::Over));
        v6.sweep_turn(now, |entry| ends.connection(entry, Ending::Over));
        v4.templates_mut().sweep_turn(now, |template| ends.template(template, Ending::Over));
        v6.templates_mut().sweep_turn(now, |template| ends.template(template, Ending::Over));
    }

    /// Ends connections of real servers that were removed, a bounded number of them (kernel: `ip_vs_expire_nodest_conn_flush`).
    #[cold]
    fn flush_turn(&mut self, snapshot: &Snapshot, now: Tick) {
        let (mut to_v4, mut to_v6) = self.flushed;
        let (Connections { v4, v6 }, ends) = self.tables_and_ends(snapshot);
        flush(v4, &mut to_v4, snapshot, now, ends);
        flush(v6, &mut to_v6, snapshot, now, ends);
        self.flushed = (to_v4, to_v6);
    }

    /// Ends connections whose time has come: looks at `budget` entries of each table, on from where the last
    /// call stopped.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Tick, budget: usize) {
        let (Connections { v4, v6 }, ends) = self.tables_and_ends(snapshot);
        v4.sweep(now, budget, |entry| ends.connection(entry, Ending::Over));
        v6.sweep(now, budget, |entry| ends.connection(entry, Ending::Over));
        let templates = u32::try_from(budget).unwrap_or(u32::MAX);
        v4.templates_mut().sweep(now, templates, |template| ends.template(template, Ending::Over));
        v6.templates_mut().sweep(now, templates, |template| ends.template(template, Ending::Over));
    }
}

/// Entries of a table that are looked at in a turn for real servers that were removed.
const FLUSH_ENTRIES: usize = 1024;

/// True for a real server whose connections end: it was removed, and `expire_nodest_conn` is set. Those that left by an address of
/// a masquerade end always: nobody else could answer by it.
fn is_over(snapshot: &Snapshot, real: &Real) -> bool {
    real.standing == Standing::Removed && (snapshot.sysctls.expire_nodest_conn || real.is_masquerade())
}

/// Goes on with a pass through a table for the connections of real servers that were removed; `looked_at` so far.
fn flush<A: Address>(
    table: &mut Table<A>,
    looked_at: &mut usize,
    snapshot: &Snapshot,
    now: Tick,
    ends: Ends<'_>,
) {
    let connections = table.pass();
    let all = connections + table.templates().pass() as usize;
    let removed = |real| snapshot.real(real).is_some_and(|real| is_over(snapshot, real));
    let budget = FLUSH_ENTRIES.min(all.saturating_sub(*looked_at));
    // Connections first: a template goes when it controls none.
    let of_connections = budget.min(connections.saturating_sub(*looked_at));
    let ended = |entry: &Entry<A>| ends.connection(entry, Ending::Over);
    let mut place = *looked_at as u32;
    table.sweep_from(&mut place, now, of_connections, |entry| removed(entry.real()), ended);
    let ended = |template: &Template<A>| ends.template(template, Ending::Over);
    let of_templates = (budget - of_connections) as u32;
    let mut place = looked_at.saturating_sub(connections) as u32;
    let unwanted = |template: &Template<A>| removed(template.real());
    table.templates_mut().sweep_from(&mut place, now, of_templates, unwanted, ended);
    *looked_at = if *looked_at + budget >= all { usize::MAX } else { *looked_at + budget };
}
