//! What the neighbour machine has to find without looking at each neighbour: what is due, who gives way, how many there are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use shunt_dataplane::id::NicId;
use shunt_model::limit::NEIGHBOURS_DEFAULT;

use super::entry::{Entry, State};
use super::machine::Key;
use super::{ANSWER_TIME, INCOMPLETE_PER_NIC_MAX, PROBES_MAX};

/// How a stranger stands when others want its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Without a MAC, and not asked yet.
    Unasked,
    /// Without a MAC, and asked first at this time.
    Asked(Instant),
    /// With a MAC since this time, and without an answer to a question of the director's.
    Unconfirmed(Instant),
    /// It answered, and was used last at this time.
    Confirmed(Instant),
}

/// What counts of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    due: Option<Instant>,
    /// Packets wait for the answer to its first question.
    urgent: bool,
    /// None for those that the configuration names: nobody takes their places.
    place: Option<Place>,
    /// Its MAC is known, and it is asked now and then.
    confirmed_again: bool,
    /// It was asked as often as others are, without an answer, and is asked on.
    silent: bool,
    waiting: usize,
}

impl Marks {
    pub(super) fn of<P>(entry: &Entry<P>) -> Self {
        let incomplete = match entry.state {
            State::Incomplete { asked } => Some(asked),
            _ => None,
        };
        let place = match (incomplete, entry.asked_first) {
            (Some(_), None) => Place::Unasked,
            (Some(_), Some(asked)) => Place::Asked(asked),
            (None, _) if !entry.confirmed => Place::Unconfirmed(entry.since),
            (None, _) => Place::Confirmed(entry.used),
        };
        Self {
            due: (!entry.is_static()).then_some(entry.due),
            urgent: incomplete == Some(0) && (entry.awaited || !entry.waiting.is_empty()),
            place: (!entry.is_kept()).then_some(place),
            confirmed_again: incomplete.is_none() && !entry.is_static(),
            silent: incomplete.is_some_and(|asked| asked >= PROBES_MAX),
            waiting: entry.waiting.len(),
        }
    }
}

/// A NIC's strangers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    incomplete: usize,
    asked: BTreeSet<(Instant, IpAddr)>,
    unconfirmed: BTreeSet<(Instant, IpAddr)>,
    confirmed: BTreeSet<(Instant, IpAddr)>,
}

impl Share {
    fn add(&mut self, place: Place, address: IpAddr) {
        self.incomplete += usize::from(matches!(place, Place::Unasked | Place::Asked(_)));
        if let Some((list, at)) = self.list(place) {
            list.insert((at, address));
        }
    }

    fn remove(&mut self, place: Place, address: IpAddr) {
        self.incomplete -= usize::from(matches!(place, Place::Unasked | Place::Asked(_)));
        if let Some((list, at)) = self.list(place) {
            list.remove(&(at, address));
        }
    }

    fn list(&mut self, place: Place) -> Option<(&mut BTreeSet<(Instant, IpAddr)>, Instant)> {
        match place {
            Place::Unasked => None,
            Place::Asked(at) => Some((&mut self.asked, at)),
            Place::Unconfirmed(at) => Some((&mut self.unconfirmed, at)),
            Place::Confirmed(at) => Some((&mut self.confirmed, at)),
        }
    }

    fn known(&self) -> usize {
        self.unconfirmed.len() + self.confirmed.len()
    }
}

/// The index.
#[derive(Debug)]
pub(super) struct Index {
    timers: BTreeSet<(Instant, Key)>,
    /// First questions for whose answers packets wait.
    urgent: BTreeSet<(Instant, Key)>,
    urgent_is_next: bool,
    shares: Vec<Share>,
    /// Strangers that a NIC may have.
    most: usize,
    confirmed_again: usize,
    silent: usize,
    waiting: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            timers: BTreeSet::new(),
            urgent: BTreeSet::new(),
            urgent_is_next: true,
            shares: Vec::new(),
            most: NEIGHBOURS_DEFAULT as usize,
            confirmed_again: 0,
            silent: 0,
            waiting: 0,
        }
    }
}

impl Index {
    /// A NIC may have so many strangers from now on.
    pub(super) const fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// An entry was added.
    pub(super) fn add(&mut self, key: Key, marks: Marks) {
        let (nic, address) = key;
        let timers = if marks.urgent { &mut self.urgent } else { &mut self.timers };
        timers.extend(marks.due.map(|due| (due, key)));
        if let Some(place) = marks.place {
            self.share_mut(nic).add(place, address);
        }
        self.confirmed_again += usize::from(marks.confirmed_again);
        self.silent += usize::from(marks.silent);
        self.waiting += marks.waiting;
    }

    /// An entry is gone.
    pub(super) fn remove(&mut self, key: Key, marks: Marks) {
        let (nic, address) = key;
        let timers = if marks.urgent { &mut self.urgent } else { &mut self.timers };
        if let Some(due) = marks.due {
            timers.remove(&(due, key));
        }
        if let Some(place) = marks.place {
            self.share_mut(nic).remove(place, address);
        }
        self.confirmed_again -= usize::from(marks.confirmed_again);
        self.silent -= usize::from(marks.silent);
        self.waiting -= marks.waiting;
    }

    /// When something is due first.
    pub(super) fn first(&self) -> Option<Instant> {
        let first = |timers: &BTreeSet<(Instant, Key)>| timers.first().map(|(due, _)| *due);
        first(&self.urgent).into_iter().chain(first(&self.timers)).min()
    }

    /// What is due: those for whom packets wait and the others in turn, so that neither keeps the other from being asked.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Key> {
        let first =
            |timers: &BTreeSet<(Instant, Key)>| timers.first().copied().filter(|(due, _)| *due <= now);
        let (urgent, other) = (first(&self.urgent), first(&self.timers));
        let (one, two) = if self.urgent_is_next { (urgent, other) } else { (other, urgent) };
        self.urgent_is_next = !self.urgent_is_next;
        one.or(two).map(|(_, key)| key)
    }

    /// The stranger of a NIC that gives way to one that only asked: the first of those that never answered a question, and since
    /// when its MAC is known.
    pub(super) fn gives_way(&self, nic: NicId) -> Option<(Instant, Key)> {
        let (since, address) = *self.shares.get(nic.index())?.unconfirmed.first()?;
        Some((since, (nic, address)))
    }

    /// The stranger of a NIC that gives way to one that answered: one that never did, or the one that was not used for longest.
    pub(super) fn used_least(&self, nic: NicId) -> Option<Key> {
        let share = self.shares.get(nic.index())?;
        let (_, address) = share.unconfirmed.first().or_else(|| share.confirmed.first())?;
        Some((nic, *address))
    }

    /// Whether a NIC has as many strangers whose MAC is known as it may have.
    pub(super) fn is_full(&self, nic: NicId) -> bool {
        self.shares.get(nic.index()).is_some_and(|share| share.known() >= self.most)
    }

    /// Whether it has more.
    pub(super) fn is_too_full(&self, nic: NicId) -> bool {
        self.shares.get(nic.index()).is_some_and(|share| share.known() > self.most)
    }

    /// Whether a NIC has as many strangers as may be asked for without an answer.
    pub(super) fn asks_enough(&self, nic: NicId) -> bool {
        self.shares.get(nic.index()).is_some_and(|share| share.incomplete >= INCOMPLETE_PER_NIC_MAX)
    }

    /// The stranger of a NIC that had the longest time to answer; none before one had [`ANSWER_TIME`].
    pub(super) fn had_its_time(&self, now: Instant, nic: NicId) -> Option<Key> {
        let (asked, address) = *self.shares.get(nic.index())?.asked.first()?;
        (asked + ANSWER_TIME <= now).then_some((nic, address))
    }

    /// Strangers of all NICs that were asked, each NIC's longest first.
    pub(super) fn asked(&self) -> impl Iterator<Item = Key> + '_ {
        let nics = (0..=u8::MAX).map(NicId).zip(&self.shares);
        nics.flat_map(|(nic, share)| share.asked.iter().map(move |(_, address)| (nic, *address)))
    }

    /// Those whose MAC is known and that are asked now and then.
    pub(super) const fn confirmed_again(&self) -> usize {
        self.confirmed_again
    }

    /// Those that do not answer and are asked on.
    pub(super) const fn silent(&self) -> usize {
        self.silent
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
        (&self.timers, &self.urgent) == (&other.timers, &other.urgent)
            && (self.confirmed_again, self.silent, self.waiting)
                == (other.confirmed_again, other.silent, other.waiting)
            && shares(self) == shares(other)
    }
}
