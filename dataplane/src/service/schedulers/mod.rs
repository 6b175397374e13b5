//! The schedulers, one file each; every one chooses what the Linux kernel would choose for the same history.
//!
//! A scheduler reads the immutable [`Service`] and the worker's own [`Cursor`] and returns a [`Choice`]; nothing
//! changes until the worker stores the cursor of that choice. What the kernel's schedulers do when real
//! servers come, go or change their weight, `add_dest`, `del_dest` and `upd_dest`, was worked out when the
//! service was compiled ([`Lookup`]), change by change, and a cursor catches up with it when it chooses next.

mod dh;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod locality;
mod mh;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

use std::fmt;
use std::net::IpAddr;

use super::{Candidate, Service};
use crate::address::Family;
use crate::id::{L4Port, RealId};
use crate::time::Tick;
pub use locality::{LOCALITIES_MAX, Learned, Localities, SET_MAX};
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
    /// Locality-based least connection.
    Lblc,
    /// Locality-based least connection with replication.
    Lblcr,
    /// Destination hashing.
    Dh,
    /// Source hashing.
    Sh,
    /// Maglev hashing.
    Mh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Power of two choices.
    Twos,
}

impl Scheduler {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Mh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Twos,
    ];

    /// Its word in the configuration and in `ipvsadm -s`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Twos => "twos",
        }
    }

    /// True for those that take the flags `fallback` and `port` ([`Flags`]).
    #[must_use]
    pub const fn takes_flags(self) -> bool {
        matches!(self, Self::Sh | Self::Mh)
    }
}

/// How `sh` and `mh` go about it (`ipvsadm -b`). For other schedulers they have no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// When the real server of a client takes no connections another one does (`sh-fallback`, `mh-fallback`).
    pub fallback: bool,
    /// The client's port counts too (`sh-port`, `mh-port`).
    pub port: bool,
    /// `flag-3`, which no scheduler has a meaning for.
    pub third: bool,
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a scheduler may know of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// The client's port.
    pub l4_port: L4Port,
    /// The address that it asks for.
    pub destination: IpAddr,
}

/// An address in 32 bits, as the kernel's hashing schedulers take it.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
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
    /// How often twos drew.
    draws: u32,
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
    /// What the worker learns of the locality when the choice is taken.
    pub learned: Learned,
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
    /// sh, dh: the candidate of each hash value.
    Slots(Box<[u8; sh::SLOTS]>),
    /// mh: the candidate of each hash value.
    Maglev(Box<[u16]>),
    /// lblc, lblcr: the edition in which the schedule started.
    Since(u64),
}

/// Changes that a service remembers for cursors that saw none of them yet. Older ones are summed up.
const REMEMBERED: usize = 64;

impl Lookup {
    /// What the scheduler of a service of this family needs to know of these candidates (last added first) of this edition. `previous` is the same
    /// service as it was compiled last, none when it is new; what changed since is taken as having happened
    /// one at a time: real servers that went, then changes of weight, then real servers that came, first
    /// added first. Editions grow.
    #[must_use]
    pub fn compile(
        scheduler: Scheduler,
        family: Family,
        candidates: &[Candidate],
        edition: u64,
        previous: Option<&Service>,
    ) -> Self {
        match scheduler {
            Scheduler::Rr => Self::Departures(Departures::compile(candidates, edition, previous)),
            Scheduler::Wrr => Self::Weights(Weights::compile(candidates, edition, previous)),
            Scheduler::Sh => Self::Slots(sh::slots(candidates)),
            Scheduler::Dh => Self::Slots(dh::slots(candidates)),
            Scheduler::Mh => Self::Maglev(mh::slots(family, candidates)),
            Scheduler::Lblc | Scheduler::Lblcr => match previous {
                Some(Service { scheduler: last, lookup: Self::Since(since), .. }) if *last == scheduler => {
                    Self::Since(*since)
                }
                _ => Self::Since(edition),
            },
            Scheduler::Lc
            | Scheduler::Wlc
            | Scheduler::Sed
            | Scheduler::Nq
            | Scheduler::Fo
            | Scheduler::Ovf
            | Scheduler::Twos => Self::None,
        }
    }
}

/// Chooses a real server for a new connection; none when the kernel would find none. Changes nothing: the worker
/// stores the choice's cursor, and learns what it says of its localities, when it takes it.
#[must_use]
pub fn choose(
    service: &Service,
    cursor: &Cursor,
    localities: &Localities,
    client: &Client,
    now: Tick,
) -> Option<Choice> {
    let place = match service.scheduler {
        Scheduler::Rr => return rr::choose(service, *cursor),
        Scheduler::Wrr => return wrr::choose(service, *cursor),
        Scheduler::Twos => return twos::choose(service, *cursor, client),
        Scheduler::Lblc | Scheduler::Lblcr => {
            let (place, learned) = match service.scheduler {
                Scheduler::Lblc => lblc::choose(service, client, localities, now)?,
                _ => lblcr::choose(service, client, localities, now)?,
            };
            return Some(Choice { learned, ..cursor.choice(service, place) });
        }
        Scheduler::Lc => lc::choose(service),
        Scheduler::Wlc => wlc::choose(service),
        Scheduler::Dh => dh::choose(service, client),
        Scheduler::Sh => sh::choose(service, client),
        Scheduler::Mh => mh::choose(service, client),
        Scheduler::Sed => sed::choose(service),
        Scheduler::Nq => nq::choose(service),
        Scheduler::Fo => fo::choose(service),
        Scheduler::Ovf => ovf::choose(service),
    };
    place.map(|place| cursor.choice(service, place))
}

impl Cursor {
    fn choice(self, service: &Service, place: usize) -> Choice {
        Choice { candidate: place, cursor: self.at(service, place), learned: Learned::Nothing }
    }
}

/// The available candidate that is loaded least for its weight, the first of equals.
fn least(service: &Service, load: impl Fn(&Candidate) -> u64) -> Option<usize> {
    let candidates = service.candidates.iter().enumerate();
    least_of(candidates.filter(|(_, candidate)| candidate.is_available()), load)
}

/// The candidate that is loaded least for its weight, which is above 0; the first of equals.
fn least_of<'c>(
    candidates: impl Iterator<Item = (usize, &'c Candidate)>,
    load: impl Fn(&Candidate) -> u64,
) -> Option<usize> {
    let mut least: Option<(usize, u128, u128)> = None;
    for (place, candidate) in candidates {
        let (load, weight) = (u128::from(load(candidate)), u128::from(candidate.weight));
        // Quotients compared crosswise: load / weight < least load / its weight.
        if least.is_none_or(|(_, least_load, least_weight)| load * least_weight < least_load * weight) {
            least = Some((place, load, weight));
        }
    }
    least.map(|(place, ..)| place)
}

/// The available candidate of the largest weight that `fits`, the first of equals.
fn heaviest(service: &Service, fits: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let mut heaviest: Option<(usize, u32)> = None;
    for (place, candidate) in service.candidates.iter().enumerate() {
        let heavier = heaviest.is_none_or(|(_, weight)| candidate.weight > weight);
        if heavier && candidate.is_available() && fits(candidate) {
            heaviest = Some((place, candidate.weight));
        }
    }
    heaviest.map(|(place, _)| place)
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
