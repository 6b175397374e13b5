//! Round robin (kernel: `ip_vs_rr.c`): the next in the list, those of weight 0 and the overloaded skipped.

use super::{Choice, Cursor, Lookup, REMEMBERED, Scheduler};
use crate::id::RealId;
use crate::service::{Candidate, Service};

/// The real servers that went lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departures {
    /// The edition in which the schedule started.
    since: u64,
    /// Oldest first.
    departures: Box<[Departure]>,
}

/// A real server that went, and where the schedule goes on if it stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Departure {
    edition: u64,
    real: RealId,
    before: Option<RealId>,
}

impl Departures {
    /// The departures that the last compilation knew, and those since (kernel: `ip_vs_rr_del_dest` moves the
    /// mark to the one before).
    pub(super) fn compile(candidates: &[Candidate], edition: u64, previous: Option<&Service>) -> Self {
        let Some((previous, Lookup::Departures(last))) = previous.map(|service| (service, &service.lookup))
        else {
            return Self { since: edition, departures: Box::default() };
        };
        let mut departures = last.departures.to_vec();
        let mut before = None;
        for Candidate { real, .. } in &previous.candidates {
            if candidates.iter().any(|candidate| candidate.real == *real) {
                before = Some(*real);
            } else {
                departures.push(Departure { edition, real: *real, before });
            }
        }
        departures.drain(..departures.len().saturating_sub(REMEMBERED));
        Self { since: last.since, departures: departures.into() }
    }
}

/// The first candidate with a weight after the mark, round to the mark itself.
pub(super) fn choose(service: &Service, mut cursor: Cursor) -> Option<Choice> {
    catch_up(service, &mut cursor);
    let candidates = &service.candidates;
    let first = cursor.find_mark(candidates).map_or(0, |mark| mark + 1);
    let is_available = |place: &usize| candidates[*place].is_available();
    let place = (first..candidates.len()).find(is_available).or_else(|| (0..first).find(is_available))?;
    Some(cursor.choice(service, place))
}

/// Moves the mark off real servers that went since it was set.
fn catch_up(service: &Service, cursor: &mut Cursor) {
    let Lookup::Departures(lookup) = &service.lookup else { return };
    let Some(seen) = cursor.seen(Scheduler::Rr).filter(|&seen| seen >= lookup.since) else {
        cursor.mark = None;
        return;
    };
    if seen == service.edition {
        return;
    }
    for departure in lookup.departures.iter().filter(|departure| departure.edition > seen) {
        if cursor.mark == Some(departure.real) {
            cursor.mark = departure.before;
        }
    }
}
