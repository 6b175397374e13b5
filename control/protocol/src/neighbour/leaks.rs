//! Who else answers for addresses: questions for the director's own ones and its VIPs on their links, and for VIPs that real servers are checked at on
//! the links of these, where nobody but a director should answer. A host that has such an address and announces nothing is heard of in no other way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::machine::Key;
use super::{LEAK_INTERVAL, LEAK_INTERVAL_MAX, LEAKS_ASKED_PER_SECOND, RETRANSMIT};

/// The addresses that are asked for, each on the links where nobody else should answer.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    next: BTreeMap<Key, Instant>,
    due: BTreeSet<(Instant, Key)>,
}

impl Leaks {
    /// These are asked for from now on: new ones one after the other, when the real servers' MACs had time to be known, and another
    /// director the time to give VIPs up.
    pub(super) fn set(&mut self, now: Instant, keys: impl IntoIterator<Item = Key>) {
        let keys: BTreeSet<Key> = keys.into_iter().collect();
        let known = std::mem::take(&mut self.next);
        let mut new = now + RETRANSMIT;
        let mut at = |key: Key| {
            known.get(&key).copied().unwrap_or_else(|| {
                let at = new;
                new += Duration::from_secs(1) / LEAKS_ASKED_PER_SECOND;
                at
            })
        };
        self.next = keys.into_iter().map(|key| (key, at(key))).collect();
        self.due = self.next.iter().map(|(&key, &at)| (at, key)).collect();
    }

    /// Whether an address is asked for there.
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
        let each = Duration::from_secs(1) * self.next.len() as u32 / LEAKS_ASKED_PER_SECOND;
        let next = now + each.clamp(LEAK_INTERVAL, LEAK_INTERVAL_MAX);
        self.due.insert((next, key));
        self.next.insert(key, next);
        Some(key)
    }
}
