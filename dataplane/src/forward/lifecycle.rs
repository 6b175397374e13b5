//! The life of a connection: the one file through which connections and templates are made, change their activity, move and end, with
//! what is counted of them. Who wants to hear of these moments is told here.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::choose::{self, Controlling};
use super::decision::New;
use super::room::{limits, reason};
use super::{Connections, Forwarder, Tables};
use crate::address::Address;
use crate::connections::{
    Activity, Admitted, Beside, ConnectionIndex, Direction, Ending, Entry, Found, Full, Limits,
    NewConnection, NewTemplate, Record, Template, TemplateIndex, Timeouts,
};
use crate::counters::{RealCell, WorkerCounters};
use crate::flow::Flow;
use crate::id::WorkerId;
use crate::reason::DropReason;
use crate::service::Real;
use crate::service::schedulers::Learned;
use crate::snapshot::Snapshot;
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};
use crate::wire::{Headers, IpVersion};

/// How long an echo waits for its answer (kernel: `nf_conntrack_icmp_timeout`).
const ECHO_TIMEOUT: Ticks = Ticks(30 * TICKS_PER_SECOND);
/// How long a connection lives that only an error spoke of (kernel: `ip_vs_conn_new`).
const UNSEEN: Ticks = Ticks(3 * TICKS_PER_SECOND);

/// What is counted when connections and templates of a worker end.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    snapshot: &'a Snapshot,
    worker: WorkerId,
    counters: &'a WorkerCounters,
}

impl Ends<'_> {
    /// A connection ended.
    pub(super) fn connection<A: Address>(&self, entry: &Entry<A>, ending: Ending) {
        self.reclaimed::<A>(ending);
        let Some(real) = self.snapshot.real(entry.real()) else {
            self.counters.connections_expired.add(1);
            return;
        };
        self.uncount(entry, real);
        if let Some(overload) = &real.overload {
            overload.update(real.counters.connections());
        }
    }

    /// A template ended.
    pub(super) fn template<A: Address>(&self, template: &Template<A>, ending: Ending) {
        self.reclaimed::<A>(ending);
        let Some(real) = self.snapshot.real(template.real()) else { return };
        real.counters.of(self.worker).persistent.subtract(1);
        if let Some(overload) = &real.overload {
            overload.update(real.counters.connections());
        }
    }

    /// Counts what a full table gave up.
    fn reclaimed<A: Address>(&self, ending: Ending) {
        if let Ending::Reclaimed(kind) = ending {
            self.counters.tables[A::FAMILY as usize].reclaimed.at(kind as usize).add(1);
        }
    }

    /// A connection of a real server counts no more.
    fn uncount<A: Address>(&self, entry: &Entry<A>, real: &Real) {
        self.counters.connections_expired.add(1);
        let cell = real.counters.of(self.worker);
        if entry.counts_as_active() { &cell.active } else { &cell.inactive }.subtract(1);
    }
}

impl Forwarder {
    /// The tables, and what is counted when something in them ends.
    #[inline]
    pub(super) fn tables_and_ends<'a>(
        &'a mut self,
        snapshot: &'a Snapshot,
    ) -> (&'a mut Connections, Ends<'a>) {
        let Self { worker, connections, counters, .. } = self;
        (connections, Ends { snapshot, worker: *worker, counters })
    }

    /// Puts a connection into its table within `limits`; it counts for nobody yet.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(super) fn put<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        new: &NewConnection<A>,
        limits: &Limits<'_, A>,
        now: Tick,
    ) -> Result<ConnectionIndex, DropReason> {
        let (connections, ends) = self.tables_and_ends(snapshot);
        let ended = |entry: &Entry<A>, ending| ends.connection(entry, ending);
        A::table_mut(connections).insert(new, limits, now, ended).map_err(reason)
    }

    /// A connection was made: it counts for its real server.
    #[inline]
    fn count_made(&self, real: &Real) {
        let cell = real.counters.of(self.worker);
        cell.inactive.add(1);
        cell.connections.add(1);
        self.counters.connections_made.add(1);
    }

    /// Makes a connection of no service, which counts for what stands for its real server.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(super) fn make_of_none<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        new: &NewConnection<A>,
        real: &Real,
        now: Tick,
    ) -> Result<ConnectionIndex, DropReason> {
        let index = self.put(snapshot, new, &limits(snapshot), now)?;
        if real.is_bypass() {
            // It has no real server that would say that answers do not come by.
            A::table_mut(&mut self.connections).entry_mut(index).awaits_answers();
        }
        self.count_made(real);
        Ok(index)
    }

    /// Makes a connection of a service (kernel: `ip_vs_conn_new`, `ip_vs_bind_dest`). `locality` as in [`Self::choose`].
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(super) fn make<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        (flow, locality): (Flow<A>, A),
        new: &New<'_>,
        now: Tick,
    ) -> Result<Found, DropReason> {
        let real = new.real;
        let twice = new.replaces.is_some_and(|old| self.replace::<A>(snapshot, old, real, now));
        let template = match &new.template {
            Controlling::None => None,
            Controlling::Existing(index) => Some(*index),
            Controlling::New(stale) => {
                let template = (snapshot.service(new.service))
                    .and_then(|service| choose::new_template(service, real, &flow))
                    .ok_or(DropReason::NoReal)?;
                Some(self.make_template(snapshot, real, &template, *stale, now)?)
            }
        };
        let connection = NewConnection {
            flow,
            real: real.id,
            // A tunnel may be of the other family; then the real server knows its address.
            real_address: A::from_ip(real.address).unwrap_or(A::UNSPECIFIED),
            real_port: new.real_port,
            method: real.method,
            masqueraded: false,
        };
        let index = self.put_within_share(snapshot, &connection, new.service, now)?;
        if !new.is_judged {
            A::table_mut(&mut self.connections).entry_mut(index).leave_unjudged();
        }
        if let Some(template) = template {
            A::table_mut(&mut self.connections).control(index, template, now);
        }
        if let Some(choice) = new.choice {
            if let Some(cursor) = self.cursors.get_mut(new.service.index()) {
                *cursor = choice.cursor;
            }
            let learns = choice.learned != Learned::Nothing;
            if let Some(service) = snapshot.service(new.service).filter(|_| learns) {
                self.localities.learn(service, locality.into(), choice.learned, now);
            }
        }
        self.count_made(real);
        if let Some(overload) = &real.overload {
            let total = real.counters.connections();
            // In the kernel the old one ends at the next tick.
            if twice {
                overload.update(total + 1);
            }
            overload.update(total);
        }
        Ok(Found { index, direction: Direction::FromClient })
    }

    /// Makes a template, in the place of one that has become stale.
    ///
    /// # Errors
    /// Why there is no room for it.
    fn make_template<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        real: &Real,
        new: &NewTemplate<A>,
        stale: Option<TemplateIndex>,
        now: Tick,
    ) -> Result<TemplateIndex, DropReason> {
        self.set_stale::<A>(stale);
        let (connections, ends) = self.tables_and_ends(snapshot);
        let ended = |entry: &Entry<A>, ending| ends.connection(entry, ending);
        let template_ended = |template: &Template<A>, ending| ends.template(template, ending);
        let table = A::table_mut(connections);
        let made = table.make_template(new, &limits(snapshot), now, ended, template_ended);
        let index = made.map_err(|full| match full {
            Full::Table => DropReason::TemplatesFull,
            Full::Client | Full::Service => reason(full),
        })?;
        real.counters.of(self.worker).persistent.add(1);
        Ok(index)
    }

    /// Takes in an IPv4 connection or template that another process or director knew.
    ///
    /// # Errors
    /// Why it is not taken in.
    pub fn admit_v4(
        &mut self,
        snapshot: &Snapshot,
        record: &Record<Ipv4Addr>,
        now: Tick,
    ) -> Result<(), Refused> {
        self.admit(snapshot, record, now)
    }

    /// The same of IPv6.
    ///
    /// # Errors
    /// Why it is not taken in.
    pub fn admit_v6(
        &mut self,
        snapshot: &Snapshot,
        record: &Record<Ipv6Addr>,
        now: Tick,
    ) -> Result<(), Refused> {
        self.admit(snapshot, record, now)
    }

    /// It counts for its real server as any connection does, but not as a new one (kernel: `ip_vs_proc_conn`).
    fn admit<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        record: &Record<A>,
        now: Tick,
    ) -> Result<(), Refused> {
        if self.seen != snapshot.generation {
            self.take_up(snapshot);
        }
        let owner = snapshot.owners.of(record.client());
        if owner != self.worker {
            return Err(Refused::OtherWorker(owner));
        }
        if record.left() == Ticks(0) {
            return Err(Refused::Over);
        }
        let real = snapshot.real(record.real()).filter(|real| is_meant(real, record));
        let real = real.ok_or(Refused::UnknownReal)?;
        let (connections, ends) = self.tables_and_ends(snapshot);
        let table = A::table_mut(connections);
        let ended = |entry: &Entry<A>, ending| ends.connection(entry, ending);
        let template_ended = |template: &Template<A>, ending| ends.template(template, ending);
        let admitted = table.admit(record, &limits(snapshot), now, ended, template_ended);
        let cell = real.counters.of(self.worker);
        match admitted.map_err(Refused::Full)? {
            Admitted::Connection(index) => {
                let is_active = A::table(&self.connections).entry(index).counts_as_active();
                if is_active { &cell.active } else { &cell.inactive }.add(1);
                self.counters.connections_made.add(1);
            }
            Admitted::Template => cell.persistent.add(1),
            Admitted::KnownTemplate => {}
        }
        if let Some(overload) = &real.overload {
            overload.update(real.counters.connections());
        }
        Ok(())
    }

    /// Nobody finds this template any more.
    pub(super) fn set_stale<A: Tables>(&mut self, template: Option<TemplateIndex>) {
        if let Some(template) = template {
            A::table_mut(&mut self.connections).templates_mut().set_stale(template);
        }
    }

    /// Ends a connection.
    #[cold]
    pub(super) fn remove<A: Tables>(&mut self, snapshot: &Snapshot, index: ConnectionIndex, now: Tick) {
        let (connections, ends) = self.tables_and_ends(snapshot);
        let table = A::table_mut(connections);
        ends.connection(table.entry(index), Ending::Over);
        table.remove(index, now);
    }

    /// Takes a connection out for a new one of `real`; true when that had it too and its overload is left to the caller.
    #[cold]
    fn replace<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        old: ConnectionIndex,
        real: &Real,
        now: Tick,
    ) -> bool {
        if A::table(&self.connections).entry(old).real() != real.id {
            self.remove::<A>(snapshot, old, now);
            return false;
        }
        let (connections, ends) = self.tables_and_ends(snapshot);
        let table = A::table_mut(connections);
        ends.uncount(table.entry(old), real);
        table.remove(old, now);
        true
    }

    /// Only an error spoke of this new connection.
    pub(super) fn leave_unseen<A: Tables>(&mut self, index: ConnectionIndex, now: Tick) {
        A::table_mut(&mut self.connections).entry_mut(index).set_expires(now.after(UNSEEN));
    }

    /// An ICMP echo of a connection was seen: its time starts anew.
    pub(super) fn observe_echo<A: Tables>(&mut self, index: ConnectionIndex, now: Tick) {
        let (entry, beside) = A::table_mut(&mut self.connections).entry_and_beside(index);
        entry.set_expires(now.after(ECHO_TIMEOUT));
        if entry.observe_echo() {
            beside.follow(index, entry, Activity::Moved);
        }
    }
}

/// Whether a record means this real server: its number may be another one's by now. Connections of what stands for a real server
/// have addresses of their own.
fn is_meant<A: Tables>(real: &Real, record: &Record<A>) -> bool {
    let address = A::from_ip(real.address).unwrap_or(A::UNSPECIFIED);
    real.is_masquerade() || address == record.real_address()
}

/// Why a record is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its real server is not, or no longer, configured.
    UnknownReal,
    /// Another worker owns its client.
    OtherWorker(WorkerId),
    /// Its time is over.
    Over,
    /// There is no room for it.
    Full(Full),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownReal => f.write_str("its real server is not configured"),
            Self::OtherWorker(worker) => write!(f, "worker {worker} owns its client"),
            Self::Over => f.write_str("its time is over"),
            Self::Full(full) => full.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// State, time and activity of a connection that sees a packet.
#[inline(always)]
pub(super) fn observe<A: Address>(
    found: Found,
    entry: &mut Entry<A>,
    beside: &mut Beside<A>,
    cell: &RealCell,
    timeouts: &Timeouts,
    headers: &Headers<A>,
    now: Tick,
) {
    let change = entry.observe(headers.tcp_flags.0, found.direction, now, timeouts);
    if change != Activity::Unchanged {
        activity(cell, change, entry, found.direction, now);
        beside.follow(found.index, entry, change);
    }
}

/// A connection moved; it may have begun or ceased to count as active.
#[cold]
fn activity<A: Address>(
    cell: &RealCell,
    change: Activity,
    entry: &mut Entry<A>,
    direction: Direction,
    now: Tick,
) {
    if let Some(evidence) = entry.evidence(change, direction) {
        cell.witness(evidence, now);
    }
    let (up, down) = match change {
        Activity::Unchanged | Activity::Assures | Activity::Moved => return,
        Activity::BecameActive => (&cell.active, &cell.inactive),
        Activity::BecameInactive => (&cell.inactive, &cell.active),
    };
    up.add(1);
    down.subtract(1);
}
