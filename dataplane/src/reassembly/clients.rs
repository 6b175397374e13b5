//! Who holds how much of the memory, and whose datagrams are the oldest.

use arrayvec::ArrayVec;
use foldhash::quality::RandomState;
use hashbrown::HashMap;

use super::SHARES;
use crate::address::Address;

/// A datagram's neighbours in an [`Order`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    before: Option<u32>,
    /// The next younger one.
    pub(super) next: Option<u32>,
}

/// Datagrams, oldest first. Their links lie with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    oldest: Option<u32>,
    youngest: Option<u32>,
}

impl Order {
    pub(super) const fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    /// The oldest that is not this one.
    pub(super) fn oldest_but(&self, but: Option<u32>, next: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let oldest = self.oldest?;
        if Some(oldest) == but { next(oldest) } else { Some(oldest) }
    }

    /// `link` is where those of this order are in `all`.
    pub(super) fn push<T>(&mut self, place: u32, all: &mut [T], link: fn(&mut T) -> &mut Link) {
        *link(&mut all[place as usize]) = Link { before: self.youngest, next: None };
        match self.youngest {
            Some(before) => link(&mut all[before as usize]).next = Some(place),
            None => self.oldest = Some(place),
        }
        self.youngest = Some(place);
    }

    /// As for [`push`](Self::push).
    pub(super) fn remove<T>(&mut self, place: u32, all: &mut [T], link: fn(&mut T) -> &mut Link) {
        let Link { before, next } = *link(&mut all[place as usize]);
        match before {
            Some(before) => link(&mut all[before as usize]).next = next,
            None => self.oldest = next,
        }
        match next {
            Some(next) => link(&mut all[next as usize]).before = before,
            None => self.youngest = before,
        }
    }
}

/// A client with incomplete datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    pub(super) blocks: usize,
    pub(super) order: Order,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Clients<A> {
    known: HashMap<A, Client, RandomState>,
    /// Blocks that one may hold before it is heavy.
    share: usize,
    heavy: ArrayVec<A, SHARES>,
}

impl<A: Address> Clients<A> {
    /// None yet; so many at most, of whom one may hold `share` blocks.
    pub(super) fn new(most: usize, share: usize) -> Self {
        let known = HashMap::with_capacity_and_hasher(most, RandomState::default());
        Self { known, share, heavy: ArrayVec::new() }
    }

    pub(super) fn get(&mut self, client: A) -> &mut Client {
        self.known.entry(client).or_default()
    }

    /// A client holds so many blocks more.
    pub(super) fn hold(&mut self, client: A, blocks: usize) {
        let share = self.share;
        let held = self.get(client);
        held.blocks += blocks;
        // No more can hold more than their share than there are shares.
        if held.blocks > share && !self.heavy.contains(&client) {
            let _ = self.heavy.try_push(client);
        }
    }

    /// A client holds so many blocks less.
    pub(super) fn let_go(&mut self, client: A, blocks: usize) {
        let held = self.get(client);
        held.blocks -= blocks;
        let left = held.blocks;
        if left <= self.share {
            self.heavy.retain(|heavy| *heavy != client);
        }
        if left == 0 {
            self.known.remove(&client);
        }
    }

    /// The datagrams of the one that holds most, if anybody holds more than its share.
    pub(super) fn heaviest(&self) -> Option<Order> {
        let heavy = self.heavy.iter().filter_map(|client| self.known.get(client));
        heavy.max_by_key(|client| client.blocks).map(|client| client.order)
    }
}
