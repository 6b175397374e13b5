//! The schedulers, one file each; every one chooses what the Linux kernel would choose for the same history.
//!
//! A scheduler reads the immutable [`Service`] and the worker's own [`Cursor`] and returns a [`Choice`]; nothing
//! changes until the worker stores the cursor of that choice. What the kernel's schedulers do when real
//! servers come, go or change their weight, `add_dest`, `del_dest` and `upd_dest`, was worked out when the
//! service was compiled ([`Lookup`]), change by change, and a cursor catches up with it when it chooses next.

mod lc;
mod rr;
mod sh;
mod wlc;
mod wrr;

use std::fmt;
use std::net::IpAddr;

use super::{Candidate, Service};
use crate::id::{L4Port, RealId};
pub use rr::Departures;
pub use wrr::Weights;

/// Which scheduler a service uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connection.
    Lc,
    /// Weighted least connection.
    Wlc,
    /// Source hashing.
    Sh,
}

impl Scheduler {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Rr, Self::Wrr, Self::Lc, Self::Wlc, Self::Sh];

    /// Its word in the configuration and in `ipvsadm -s`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a scheduler may know of the client of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub l4_port: L4Port,
}

/// Where a worker stands in a service's schedule. One for each service and worker, kept over generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The scheduler and the edition of the service that it saw last.
    seen: Option<(Scheduler, u64)>,
    /// The real server chosen last; none stands before the first.
    mark: Option<RealId>,
    /// Where that one probably is among the candidates.
    place: usize,
    /// The weight that wrr looks for now (kernel: `cw`).
    weight: u32,
}

impl Cursor {
    /// The edition of the service that it saw last under this scheduler.
    fn seen(&self, scheduler: Scheduler) -> Option<u64> {
        self.seen.filter(|&(seen, _)| seen == scheduler).map(|(_, edition)| edition)
    }

    /// The place of the mark among the candidates; none when it stands before the first.
    fn find_mark(&self, candidates: &[Candidate]) -> Option<usize> {
        let mark = self.mark?;
        if candidates.get(self.place).is_some_and(|candidate| candidate.real == mark) {
            return Some(self.place);
        }
        candidates.iter().position(|candidate| candidate.real == mark)
    }

    /// This cursor after a choice.
    fn at(self, service: &Service, place: usize) -> Self {
        Self {
            seen: Some((service.scheduler, service.edition)),
            mark: service.candidates.get(place).map(|candidate| candidate.real),
            place,
            ..self
        }
    }
}

/// The choice of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its place in [`Service::candidates`].
    pub candidate: usize,
    /// What the worker's cursor becomes when the choice is taken.
    pub cursor: Cursor,
}

/// What a scheduler computes when a service is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing.
    #[default]
    None,
    /// rr: the real servers that went lately.
    Departures(Departures),
    /// wrr: how weights changed lately.
    Weights(Weights),
    /// sh: the candidate of each hash value.
    Slots(Box<[u8; sh::SLOTS]>),
}

/// Changes that a service remembers for cursors that saw none of them yet. Older ones are summed up.
const REMEMBERED: usize = 64;

impl Lookup {
    /// What the scheduler needs to know of these candidates (last added first) of this edition. `previous` is the same
    /// service as it was compiled last, none when it is new; what changed since is taken as having happened
    /// one at a time: real servers that went, then changes of weight, then real servers that came, first
    /// added first. Editions grow.
    #[must_use]
    pub fn compile(
        scheduler: Scheduler,
        candidates: &[Candidate],
        edition: u64,
        previous: Option<&Service>,
    ) -> Self {
        match scheduler {
            Scheduler::Rr => Self::Departures(Departures::compile(candidates, edition, previous)),
            Scheduler::Wrr => Self::Weights(Weights::compile(candidates, edition, previous)),
            Scheduler::Lc | Scheduler::Wlc => Self::None,
            Scheduler::Sh => Self::Slots(sh::slots(candidates)),
        }
    }
}

/// Chooses a real server for a new connection; none when the kernel would find none. Changes nothing: the worker
/// stores the choice's cursor when it takes it.
#[must_use]
pub fn choose(service: &Service, cursor: &Cursor, client: &Client) -> Option<Choice> {
    match service.scheduler {
        Scheduler::Rr => rr::choose(service, *cursor),
        Scheduler::Wrr => wrr::choose(service, *cursor),
        Scheduler::Lc => lc::choose(service).map(|place| cursor.choice(service, place)),
        Scheduler::Wlc => wlc::choose(service).map(|place| cursor.choice(service, place)),
        Scheduler::Sh => sh::choose(service, client).map(|place| cursor.choice(service, place)),
    }
}

impl Cursor {
    fn choice(self, service: &Service, place: usize) -> Choice {
        Choice { candidate: place, cursor: self.at(service, place) }
    }
}

/// The load of a real server as the least-connection schedulers see it: an active connection weighs as much as
/// 256 inactive ones (kernel: `ip_vs_dest_conn_overhead`).
fn overhead(candidate: &Candidate) -> u64 {
    let active = candidate.counters.sum(|cell| &cell.active);
    let inactive = candidate.counters.sum(|cell| &cell.inactive);
    (active << 8).saturating_add(inactive)
}

#[cfg(test)]
mod tests;
