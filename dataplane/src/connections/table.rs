//! The connection table of one worker and address family: bounded, allocated at start, without a lock.

use std::fmt;

use crate::address::Address;
use crate::flow::{Flow, HashKey};
use crate::id::{L4Port, RealId};
use crate::processor;
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};

use super::entry::{Direction, Entry};
use super::slots::Slots;
use super::sweep::Hand;
use super::templates::{TemplateIndex, Templates};

/// How long a connection lives that was made and not observed yet.
const UNOBSERVED: Ticks = Ticks(2 * TICKS_PER_SECOND);
/// The end of the list of unused entries.
const NONE: u32 = u32::MAX;
/// Entries that are looked at for expired ones when there is no unused one.
const LAST_RESORT: usize = 64;

/// The place of a connection in its table; good until the connection is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionIndex(pub(super) u32);

/// Where a flow's connection is looked for first: a guess from the table's index, which may be wrong or stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate(u32);

impl Candidate {
    /// Nowhere.
    pub const NONE: Self = Self(NONE);

    /// This connection.
    #[must_use]
    pub const fn of(index: ConnectionIndex) -> Self {
        Self(index.0)
    }
}

/// The connection of a packet, and which way the packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The connection.
    pub index: ConnectionIndex,
    /// The way.
    pub direction: Direction,
}

/// What makes a connection.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection<A> {
    /// Client to VIP.
    pub flow: Flow<A>,
    /// The real server.
    pub real: RealId,
    /// Its address.
    pub real_address: A,
    /// Its port.
    pub real_port: L4Port,
    /// True when its answers come back through the director.
    pub nat: bool,
}

/// There is no room for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection table is full")
    }
}

impl std::error::Error for TableFull {}

/// The connections of one worker and address family.
#[derive(Debug)]
pub struct Table<A: Address> {
    pub(super) entries: Box<[Entry<A>]>,
    pub(super) slots: Slots,
    key: HashKey,
    unused: u32,
    /// Entries from here on were never used.
    pub(super) high_water: u32,
    used: u32,
    pub(super) hand: Hand,
    /// The templates that control connections.
    templates: Templates<A>,
}

impl<A: Address> Table<A> {
    /// The largest capacity: beyond it slots would have no room for tags.
    pub const MAX_CAPACITY: u32 = 1 << 28;

    /// An empty table for up to `capacity` connections, at least 1 and at most [`Self::MAX_CAPACITY`]. All its
    /// memory is taken and touched here.
    #[must_use]
    pub fn new(capacity: u32, key: HashKey) -> Self {
        let capacity = capacity.clamp(1, Self::MAX_CAPACITY);
        Self {
            entries: processor::large_table(&Entry::UNUSED, capacity as usize),
            slots: Slots::new(capacity),
            key,
            unused: NONE,
            high_water: 0,
            used: 0,
            hand: Hand::default(),
            templates: Templates::new(key),
        }
    }

    /// The persistence templates.
    #[must_use]
    pub const fn templates(&self) -> &Templates<A> {
        &self.templates
    }

    /// The persistence templates, to be changed.
    #[must_use]
    pub const fn templates_mut(&mut self) -> &mut Templates<A> {
        &mut self.templates
    }

    /// Takes the memory for templates, when a service is persistent.
    pub fn prepare_templates(&mut self) {
        self.templates.prepare(self.entries.len());
    }

    /// A connection and the templates, to be changed.
    #[inline]
    #[must_use]
    pub fn entry_and_templates(&mut self, index: ConnectionIndex) -> (&mut Entry<A>, &mut Templates<A>) {
        (&mut self.entries[index.0 as usize], &mut self.templates)
    }

    /// A connection was made by a template.
    pub fn control(&mut self, index: ConnectionIndex, template: TemplateIndex, now: Tick) {
        self.entries[index.0 as usize].control();
        self.templates.control(template, index.0, now);
    }

    /// How many connections it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// How many it holds, those included that expired and were not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// True when it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + self.slots.bytes()
    }

    /// The hash of a flow.
    #[inline]
    #[must_use]
    pub fn hash(&self, flow: &Flow<A>) -> u64 {
        self.key.flow(flow)
    }

    /// First stage of a burst: fetches the line of the index that a lookup starts with.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.slots.prefetch(hash);
    }

    /// Second stage, when that line has come: fetches the entries that it leads to. Returns the one that is most
    /// likely the flow's.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) -> Candidate {
        let fetch = |place| {
            if let Some(entry) = self.entries.get(place as usize) {
                processor::prefetch(entry);
            }
        };
        self.slots.candidates_at_home(hash, fetch).map_or(Candidate::NONE, Candidate)
    }

    /// The real server of a candidate.
    #[inline]
    #[must_use]
    pub fn candidate_real(&self, candidate: Candidate) -> Option<RealId> {
        self.entries.get(candidate.0 as usize).map(Entry::real)
    }

    /// Last stage: the connection of a flow, if it is the candidate and has not expired. If it is not,
    /// [`Self::find`] knows: other entries may have the same tag, and connections may have been made since.
    #[inline(always)]
    #[must_use]
    pub fn try_candidate(
        &self,
        candidate: Candidate,
        flow: &Flow<A>,
        now: Tick,
    ) -> Option<(Found, &Entry<A>)> {
        let entry = self.entries.get(candidate.0 as usize)?;
        if entry.is_expired(now) {
            return None;
        }
        let direction = entry.direction_of(flow)?;
        Some((Found { index: ConnectionIndex(candidate.0), direction }, entry))
    }

    /// The connection of a flow that has not expired.
    #[inline(never)]
    #[must_use]
    pub fn find(&self, hash: u64, flow: &Flow<A>, now: Tick) -> Option<Found> {
        self.slots.find(hash, |place| {
            let entry = &self.entries[place as usize];
            let direction = entry.direction_of(flow)?;
            (!entry.is_expired(now)).then_some(Found { index: ConnectionIndex(place), direction })
        })
    }

    /// A connection.
    #[inline]
    #[must_use]
    pub fn entry(&self, index: ConnectionIndex) -> &Entry<A> {
        &self.entries[index.0 as usize]
    }

    /// A connection, to be changed.
    #[inline]
    #[must_use]
    pub fn entry_mut(&mut self, index: ConnectionIndex) -> &mut Entry<A> {
        &mut self.entries[index.0 as usize]
    }

    /// False when another connection finds no room now, as far as can be told without looking for expired ones.
    #[inline]
    #[must_use]
    pub fn may_have_room(&self, now: Tick) -> bool {
        self.unused != NONE
            || (self.high_water as usize) < self.entries.len()
            || self.hand.resorts_left(now) > 0
    }

    /// Makes a connection. It counts as inactive and ends after two seconds unless a packet is observed. An older
    /// connection of the same flow, dead or alive, ends first; `ended` sees each that ends.
    ///
    /// # Errors
    /// [`TableFull`] when no entry is unused and none expired is near.
    pub fn insert(
        &mut self,
        new: NewConnection<A>,
        now: Tick,
        mut ended: impl FnMut(&Entry<A>),
    ) -> Result<ConnectionIndex, TableFull> {
        let hash = self.hash(&new.flow);
        let made = Entry::new(&new.flow, new.real, new.real_address, new.real_port, new.nat);
        let answer = new.nat.then(|| self.hash(&made.answer_flow()));
        if let Some(answer) = answer {
            self.prefetch_bucket(answer);
        }
        if let Some(older) = self.find_even_expired(hash, &new.flow) {
            ended(self.entry(older));
            self.remove(older, now);
        }
        let place = match self.take_unused() {
            Some(place) => place,
            None => {
                if !self.hand.resort(now) {
                    return Err(TableFull);
                }
                self.sweep(now, LAST_RESORT, &mut ended);
                self.take_unused().ok_or(TableFull)?
            }
        };
        let entry = &mut self.entries[place as usize];
        *entry = made;
        entry.set_expires(now.after(UNOBSERVED));
        if !self.slots.insert(hash, place) {
            self.release(place);
            return Err(TableFull);
        }
        if answer.is_some_and(|answer| !self.slots.insert(answer, place)) {
            self.slots.remove(hash, place);
            self.release(place);
            return Err(TableFull);
        }
        Ok(ConnectionIndex(place))
    }

    /// Ends a connection; an index of one that ended already changes nothing.
    pub fn remove(&mut self, index: ConnectionIndex, now: Tick) {
        self.end(index, now, true);
    }

    /// The same; says whether its time had come.
    pub(super) fn end(&mut self, index: ConnectionIndex, now: Tick, by_time: bool) {
        let entry = &self.entries[index.0 as usize];
        if !entry.in_use() {
            return;
        }
        if entry.is_controlled() {
            self.templates.release(index.0, now, by_time);
        }
        let entry = &self.entries[index.0 as usize];
        let hash = self.key.flow(&entry.client_flow());
        if entry.is_nat() {
            let answer = self.key.flow(&entry.answer_flow());
            self.slots.remove_both(hash, answer, index.0);
        } else {
            self.slots.remove(hash, index.0);
        }
        self.release(index.0);
    }

    /// The connection that a client's flow has, dead or alive.
    fn find_even_expired(&self, hash: u64, flow: &Flow<A>) -> Option<ConnectionIndex> {
        self.slots.find(hash, |place| {
            let direction = self.entries[place as usize].direction_of(flow)?;
            (direction == Direction::FromClient).then_some(ConnectionIndex(place))
        })
    }

    fn take_unused(&mut self) -> Option<u32> {
        let place = if self.unused != NONE {
            let place = self.unused;
            self.unused = self.entries[place as usize].next_unused();
            place
        } else if (self.high_water as usize) < self.entries.len() {
            self.high_water += 1;
            self.high_water - 1
        } else {
            return None;
        };
        self.used += 1;
        Some(place)
    }

    fn release(&mut self, place: u32) {
        self.entries[place as usize].release(self.unused);
        self.unused = place;
        self.used -= 1;
    }
}
