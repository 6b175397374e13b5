//! Two masters at a time. For as long as a takeover takes that is how the protocol works; what lasts longer is split brain.

use std::time::{Duration, Instant};

use super::output::{Cause, Event, Rival, SplitBrain};

/// How long a host may be silent that was heard to answer for a VIP: neighbours tell of it every ten seconds at most.
const HOST_PATIENCE: Duration = Duration::from_secs(25);

/// The rival of one virtual router that is master, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rivalry(Option<Noticed>);

#[derive(Clone, Copy, Debug)]
struct Noticed {
    rival: Rival,
    cause: Cause,
    first: Instant,
    last: Instant,
    /// How long it may be silent before it counts as gone, and must be there before it is told.
    patience: Duration,
    told: bool,
}

impl Rivalry {
    /// A sign of a rival; `patience` is how long a takeover may take.
    pub(super) fn notice(
        &mut self,
        now: Instant,
        (rival, cause): (Rival, Cause),
        patience: Duration,
        name: &str,
    ) -> Option<Event> {
        let patience = match rival {
            Rival::Director(_) => patience,
            Rival::Host(_) => patience.max(HOST_PATIENCE),
        };
        let new = Noticed { rival, cause, first: now, last: now, patience, told: false };
        let noticed = self.0.get_or_insert(new);
        if noticed.rival != rival {
            return None;
        }
        (noticed.cause, noticed.last) = (cause, now);
        let lasts = now.saturating_duration_since(noticed.first) >= noticed.patience;
        (lasts && !std::mem::replace(&mut noticed.told, lasts)).then(|| Event::SplitBrain {
            name: name.to_owned(),
            rival,
            cause,
        })
    }

    /// Notices that a rival is gone.
    pub(super) fn tick(&mut self, now: Instant, name: &str) -> Option<Event> {
        if self.deadline().is_some_and(|due| due <= now) { self.end(name) } else { None }
    }

    /// There is no rival any more, or this director is not master.
    pub(super) fn end(&mut self, name: &str) -> Option<Event> {
        let noticed = self.0.take().filter(|noticed| noticed.told)?;
        let lasted = noticed.last.saturating_duration_since(noticed.first);
        Some(Event::SplitBrainOver { name: name.to_owned(), rival: noticed.rival, lasted })
    }

    /// When the rival counts as gone.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.map(|noticed| noticed.last + noticed.patience)
    }

    /// The split brain that was told.
    pub(super) fn split_brain(&self) -> Option<SplitBrain> {
        let noticed = self.0.filter(|noticed| noticed.told)?;
        Some(SplitBrain { rival: noticed.rival, since: noticed.first, cause: noticed.cause })
    }
}
