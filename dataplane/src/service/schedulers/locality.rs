//! What `lblc` and `lblcr` know of the addresses that clients ask for: each worker's own, bounded, forgotten when unused.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use foldhash::quality::RandomState;
use hashbrown::HashMap;

use super::Lookup;
use crate::id::{RealId, ServiceId};
use crate::service::{Candidate, Service};
use crate::time::{Tick, Ticks};

/// Localities that a worker knows at most; beyond them the one that was used longest ago is forgotten.
pub const LOCALITIES_MAX: usize = 4096;
/// Real servers in the set of a locality; one more takes the place of the oldest.
pub const SET_MAX: usize = 32;
/// A locality that was not used for so long is forgotten, and a set that did not change for so long shrinks (kernel:
/// `lblc_expiration`, `lblcr_expiration`, 24 hours).
const EXPIRATION: Ticks = Ticks::from_seconds(24 * 3600);

/// A real server of a locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    address: SocketAddr,
    /// Where it was among the candidates: a guess.
    place: usize,
}

impl Member {
    /// Its place among the candidates now.
    pub(super) fn find(&self, candidates: &[Candidate]) -> Option<usize> {
        let is_it = |candidate: &Candidate| candidate.address == self.address;
        match candidates.get(self.place) {
            Some(candidate) if is_it(candidate) => Some(self.place),
            _ => candidates.iter().position(is_it),
        }
    }
}

/// The real servers of one address that clients ask for.
#[derive(Clone, Debug)]
pub struct Locality {
    /// Last joined first; by address, since the identifier of a real server that was removed may be another's by now.
    reals: ArrayVec<Member, SET_MAX>,
    /// When a connection was last scheduled by it.
    used: Tick,
    /// When its set last changed.
    changed: Tick,
    /// The edition of the service in which it was learned.
    edition: u64,
}

impl Locality {
    /// Its real servers, last joined first.
    pub(super) fn reals(&self) -> &[Member] {
        &self.reals
    }

    /// True when its set has several members and did not change for long.
    pub(super) fn may_shrink(&self, now: Tick) -> bool {
        self.reals.len() > 1 && self.changed.elapsed(now) > EXPIRATION
    }
}

/// What a choice teaches of a locality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Learned {
    /// Nothing: the scheduler knows no localities.
    #[default]
    Nothing,
    /// It was used as it is.
    Used,
    /// This real server alone serves it from now on.
    Alone(RealId),
    /// This real server leaves its set.
    Without(RealId),
    /// This real server joins its set, and another may leave.
    Also {
        /// Joins.
        real: RealId,
        /// Leaves.
        without: Option<RealId>,
    },
}

/// The localities of a worker.
#[derive(Debug, Default)]
pub struct Localities {
    known: HashMap<(ServiceId, IpAddr), Locality, RandomState>,
}

impl Localities {
    /// Takes the memory for [`LOCALITIES_MAX`], so that a packet never does.
    pub fn prepare(&mut self) {
        if self.known.capacity() == 0 {
            self.known.reserve(LOCALITIES_MAX);
        }
    }

    /// What is known of an address of a service, unless it was learned before the schedule started or is forgotten.
    pub(super) fn get(&self, service: &Service, destination: IpAddr, now: Tick) -> Option<&Locality> {
        let Lookup::Since(since) = service.lookup else { return None };
        let locality = self.known.get(&(service.id, destination))?;
        (locality.edition >= since && locality.used.elapsed(now) <= EXPIRATION).then_some(locality)
    }

    /// Takes up what a choice taught.
    pub fn learn(&mut self, service: &Service, destination: IpAddr, learned: Learned, now: Tick) {
        let key = (service.id, destination);
        let member = |real: RealId| {
            let place = service.candidates.iter().position(|candidate| candidate.real == real)?;
            Some(Member { address: service.candidates[place].address, place })
        };
        match learned {
            Learned::Nothing => return,
            Learned::Alone(real) => {
                if self.known.len() >= LOCALITIES_MAX && !self.known.contains_key(&key) {
                    self.forget_oldest(now);
                }
                let reals = ArrayVec::from_iter(member(real));
                let edition = service.edition;
                self.known.insert(key, Locality { reals, used: now, changed: now, edition });
                return;
            }
            Learned::Used | Learned::Without(_) | Learned::Also { .. } => {}
        }
        let Some(locality) = self.known.get_mut(&key) else { return };
        locality.used = now;
        let (joins, leaves) = match learned {
            Learned::Without(real) => (None, Some(real)),
            Learned::Also { real, without } => (Some(real), without),
            Learned::Nothing | Learned::Used | Learned::Alone(_) => (None, None),
        };
        if let Some(real) = leaves.and_then(member) {
            locality.reals.retain(|member| member.address != real.address);
            locality.changed = now;
        }
        let is_there = |real: &Member| locality.reals.iter().any(|member| member.address == real.address);
        if let Some(real) = joins.and_then(member).filter(|real| !is_there(real)) {
            if locality.reals.is_full() {
                locality.reals.pop();
            }
            locality.reals.insert(0, real);
            locality.changed = now;
        }
    }

    #[cold]
    fn forget_oldest(&mut self, now: Tick) {
        let oldest = self.known.iter().max_by_key(|(_, locality)| locality.used.elapsed(now).0);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.known.remove(&key);
        }
    }
}

/// True when a real server has more active connections than its weight while another has less than half of its own
/// (kernel: `is_overloaded` of both schedulers).
pub(super) fn is_overloaded(service: &Service, candidate: &Candidate) -> bool {
    let is_idle = |other: &Candidate| other.active() * 2 < u64::from(other.weight);
    candidate.active() > u64::from(candidate.weight) && service.candidates.iter().any(is_idle)
}
