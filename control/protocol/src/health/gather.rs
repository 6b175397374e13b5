//! Changes that come together are told together, so that thousands of real servers behind one switch are one publication.
//!
//! A change waits until none has come for [`QUIET`], and for [`HELD_MAX`] at most.

use std::time::{Duration, Instant};

use super::Change;

/// So long nothing came: what came before is told.
pub const QUIET: Duration = Duration::from_millis(30);
/// The longest that a change waits.
pub const HELD_MAX: Duration = Duration::from_millis(500);

/// Changes that wait for others.
#[derive(Debug, Default)]
pub struct Gathering {
    changes: Vec<Change>,
    /// When the first of them came, and the last.
    came: Option<(Instant, Instant)>,
}

impl Gathering {
    /// Takes a change.
    pub fn add(&mut self, now: Instant, change: Change) {
        let first = self.came.map_or(now, |(first, _)| first);
        self.came = Some((first, now));
        self.changes.push(change);
    }

    /// When [`Gathering::take`] has something to give.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.came.map(|(first, last)| (last + QUIET).min(first + HELD_MAX))
    }

    /// The changes that have waited enough, in their order.
    pub fn take(&mut self, now: Instant) -> Vec<Change> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        self.came = None;
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::change;
    use super::*;

    #[test]
    fn one_change_waits_shortly_and_many_wait_for_each_other() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut gathering = Gathering::default();
        assert_eq!((gathering.deadline(), gathering.take(at(0))), (None, Vec::new()));
        gathering.add(at(0), change(1));
        assert_eq!(gathering.deadline(), Some(at(30)));
        assert_eq!(gathering.take(at(29)), []);
        assert_eq!(gathering.take(at(30)).len(), 1);
        assert_eq!(gathering.deadline(), None);

        // Thousands, ten in each millisecond: all of half a second at once.
        for n in 0..5_000 {
            gathering.add(at(100 + n / 10), change(n as u32));
            assert_eq!(gathering.take(at(100 + n / 10)), []);
        }
        assert_eq!(gathering.deadline(), Some(at(600)));
        assert_eq!(gathering.take(at(600)).len(), 5_000);
    }
}
