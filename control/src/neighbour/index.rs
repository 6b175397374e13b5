//! What the neighbour machine has to find without looking at each neighbour: what is due, who gives way, how many there are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use shunt_dataplane::id::NicId;

use super::entry::{Entry, State};
use super::machine::Key;
use super::{INCOMPLETE_PER_NIC_MAX, NEIGHBOURS_MAX, NEIGHBOURS_PER_NIC_MAX};

/// What counts of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    due: Option<Instant>,
    /// The configuration has nothing to do with it.
    stranger: bool,
    /// A stranger without a MAC.
    incomplete: bool,
    /// A stranger that never answered a question: it gives way to others, the oldest first.
    gives_way: Option<Instant>,
    waiting: usize,
}

impl Marks {
    pub(super) fn of<P>(entry: &Entry<P>) -> Self {
        let stranger = !entry.is_kept();
        let incomplete = stranger && matches!(entry.state, State::Incomplete { .. });
        Self {
            due: (!entry.is_static()).then_some(entry.due),
            stranger,
            incomplete,
            gives_way: (stranger && !incomplete && !entry.confirmed).then_some(entry.since),
            waiting: entry.waiting.len(),
        }
    }
}

/// A NIC's strangers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    strangers: usize,
    incomplete: usize,
    giving_way: BTreeSet<(Instant, IpAddr)>,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    timers: BTreeSet<(Instant, Key)>,
    shares: Vec<Share>,
    strangers: usize,
    waiting: usize,
}

impl Index {
    /// An entry was added.
    pub(super) fn add(&mut self, key: Key, marks: Marks) {
        let (nic, address) = key;
        self.timers.extend(marks.due.map(|due| (due, key)));
        self.strangers += usize::from(marks.stranger);
        let share = self.share_mut(nic);
        share.giving_way.extend(marks.gives_way.map(|since| (since, address)));
        share.strangers += usize::from(marks.stranger);
        share.incomplete += usize::from(marks.incomplete);
        self.waiting += marks.waiting;
    }

    /// An entry is gone.
    pub(super) fn remove(&mut self, key: Key, marks: Marks) {
        let (nic, address) = key;
        if let Some(due) = marks.due {
            self.timers.remove(&(due, key));
        }
        self.strangers -= usize::from(marks.stranger);
        let share = self.share_mut(nic);
        if let Some(since) = marks.gives_way {
            share.giving_way.remove(&(since, address));
        }
        share.strangers -= usize::from(marks.stranger);
        share.incomplete -= usize::from(marks.incomplete);
        self.waiting -= marks.waiting;
    }

    /// What is due first.
    pub(super) fn first(&self) -> Option<(Instant, Key)> {
        self.timers.first().copied()
    }

    /// The stranger of a NIC that gives way first, and since when its MAC is known.
    pub(super) fn gives_way(&self, nic: NicId) -> Option<(Instant, Key)> {
        let (since, address) = *self.shares.get(nic.index())?.giving_way.first()?;
        Some((since, (nic, address)))
    }

    /// Whether a NIC has as many strangers as it may have, or all together have.
    pub(super) fn is_full(&self, nic: NicId) -> bool {
        let of_nic = self.shares.get(nic.index()).map_or(0, |share| share.strangers);
        of_nic >= NEIGHBOURS_PER_NIC_MAX || self.strangers >= NEIGHBOURS_MAX
    }

    /// Whether a NIC has as many strangers as may be asked for without an answer.
    pub(super) fn asks_enough(&self, nic: NicId) -> bool {
        self.shares.get(nic.index()).is_some_and(|share| share.incomplete >= INCOMPLETE_PER_NIC_MAX)
    }

    /// Packets that wait for all neighbours together.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    fn share_mut(&mut self, nic: NicId) -> &mut Share {
        let place = nic.index();
        if place >= self.shares.len() {
            self.shares.resize_with(place + 1, Share::default);
        }
        &mut self.shares[place]
    }
}

#[cfg(test)]
impl PartialEq for Index {
    /// NICs without strangers may be there or not.
    fn eq(&self, other: &Self) -> bool {
        let shares = |index: &Self| {
            let places = index.shares.iter().enumerate().filter(|(_, share)| **share != Share::default());
            places.map(|(place, share)| format!("{place} {share:?}")).collect::<Vec<_>>()
        };
        self.timers == other.timers
            && (self.strangers, self.waiting) == (other.strangers, other.waiting)
            && shares(self) == shares(other)
    }
}
