//! Who else answers for VIPs that real servers are checked at: questions for them on the links of these real servers, where nobody but the
//! director, or the other one, should answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::machine::Key;
use super::{LEAK_INTERVAL, RETRANSMIT};

/// The VIPs that are asked for, each on the link of real servers that are checked at it.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    next: BTreeMap<Key, Instant>,
    due: BTreeSet<(Instant, Key)>,
}

impl Leaks {
    /// These are asked for from now on: new ones when the real servers' MACs had time to be known.
    pub(super) fn set(&mut self, now: Instant, keys: impl IntoIterator<Item = Key>) {
        let at =
            |key: Key, known: &BTreeMap<Key, Instant>| known.get(&key).copied().unwrap_or(now + RETRANSMIT);
        self.next = keys.into_iter().map(|key| (key, at(key, &self.next))).collect();
        self.due = self.next.iter().map(|(&key, &at)| (at, key)).collect();
    }

    /// Whether a VIP is asked for there.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.next.contains_key(key)
    }

    /// When the next one is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// The one that is due first, which is asked for now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Key> {
        let (_, key) = self.due.pop_first()?;
        let next = now + LEAK_INTERVAL;
        self.due.insert((next, key));
        self.next.insert(key, next);
        Some(key)
    }
}
