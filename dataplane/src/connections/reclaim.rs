//! Which connections a full table gives up for new ones: those that are over or have only begun, the oldest first.
//!
//! Each place of a table is in one of these queues or in none. A connection has only begun while it is half-open (RFC 4987), or
//! while one packet of it was seen; it is in [`Rank::Begun`] from its start on and leaves with the packet that opens it. A TCP or SCTP
//! connection that closed waits in [`Rank::Over`] for its time. Open connections are in no queue, so that nothing can
//! give them up. Only packets that change what a connection is move it.

use crate::processor;

/// The part of a word that holds a place.
const PLACE: u32 = u32::MAX >> 2;
/// No place: larger than any.
const NONE: u32 = PLACE;

/// How soon a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rank {
    /// It closed.
    Over,
    /// It has only begun.
    Begun,
}

impl Rank {
    const ALL: [Self; 2] = [Self::Over, Self::Begun];

    /// What stands above the place in a word.
    const fn mark(self) -> u32 {
        (self as u32 + 1) << PLACE.trailing_ones()
    }
}

/// The neighbours of a place in its queue.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Its queue, and the next older one.
    before: u32,
    /// The next younger one.
    after: u32,
}

impl Link {
    /// In no queue.
    const FREE: Self = Self { before: NONE, after: NONE };

    fn rank(self) -> Option<Rank> {
        Rank::ALL.into_iter().find(|rank| self.before & !PLACE == rank.mark())
    }
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    oldest: u32,
    youngest: u32,
    count: u32,
}

impl Queue {
    const EMPTY: Self = Self { oldest: NONE, youngest: NONE, count: 0 };
}

/// The queues of a table; the caller says in which one a place is.
#[derive(Debug)]
pub(super) struct Reclaim {
    links: Box<[Link]>,
    queues: [Queue; 2],
}

impl Reclaim {
    /// Queues of up to `capacity` places.
    pub(super) fn new(capacity: usize) -> Self {
        Self { links: processor::large_table(&Link::FREE, capacity), queues: [Queue::EMPTY; 2] }
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.links)
    }

    /// Moves a place to the end of a queue, unless it is in it; none for no queue.
    pub(super) fn shift(&mut self, place: u32, to: Option<Rank>) {
        let link = self.links[place as usize];
        if link.before & !PLACE == to.map_or(0, Rank::mark) {
            return;
        }
        if let Some(rank) = link.rank() {
            self.take_out(place, rank);
        }
        if let Some(rank) = to {
            self.put_in(place, rank);
        }
    }

    /// Puts a place that is in no queue at the end of one.
    pub(super) fn put_in(&mut self, place: u32, rank: Rank) {
        let queue = &mut self.queues[rank as usize];
        let before = std::mem::replace(&mut queue.youngest, place);
        queue.count += 1;
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = place,
            None => queue.oldest = place,
        }
        self.links[place as usize] = Link { before: rank.mark() | before, after: NONE };
    }

    fn take_out(&mut self, place: u32, rank: Rank) {
        let Link { before, after } = std::mem::replace(&mut self.links[place as usize], Link::FREE);
        let before = before & PLACE;
        let queue = &mut self.queues[rank as usize];
        queue.count -= 1;
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => queue.oldest = after,
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = rank.mark() | before,
            None => queue.youngest = before,
        }
    }

    /// How many can be given up.
    pub(super) const fn count(&self) -> usize {
        self.queues[0].count as usize + self.queues[1].count as usize
    }

    /// Those that can be given up, in this order: what is over, then what has only begun, each the oldest first.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        self.places_of(Rank::Over).chain(self.places_of(Rank::Begun))
    }

    /// Those of one queue, the oldest first.
    pub(super) fn places_of(&self, rank: Rank) -> impl Iterator<Item = u32> {
        let next = |place: &u32| self.links.get(*place as usize).map(|link| link.after);
        let oldest = self.queues[rank as usize].oldest;
        std::iter::successors(Some(oldest), next).take_while(|place| *place != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn does_what_two_queues_do(steps in proptest::collection::vec((0_u32..12, 0_u8..3), 0..200)) {
            let mut reclaim = Reclaim::new(12);
            let mut model: [VecDeque<u32>; 2] = Default::default();
            for (place, to) in steps {
                let to = [None, Some(Rank::Over), Some(Rank::Begun)][usize::from(to)];
                let from = Rank::ALL.into_iter().find(|rank| model[*rank as usize].contains(&place));
                reclaim.shift(place, to);
                if from != to {
                    model.iter_mut().for_each(|queue| queue.retain(|other| *other != place));
                    to.into_iter().for_each(|rank| model[rank as usize].push_back(place));
                }
                let wanted: Vec<u32> = model.iter().flatten().copied().collect();
                assert_eq!(reclaim.places().collect::<Vec<_>>(), wanted);
                assert_eq!(reclaim.count(), wanted.len());
            }
        }
    }
}
