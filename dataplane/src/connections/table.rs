//! The connection table of one worker and address family: bounded, allocated at start, without a lock.

use std::fmt;

use crate::address::Address;
use crate::flow::{Flow, HashKey};
use crate::id::{L4Port, RealId};
use crate::processor;
use crate::service::Method;
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};

use super::beside::Beside;
use super::entry::{Direction, Entry};
use super::holders::{CLIENT_BITS, Holders};
use super::reclaim::{Rank, Reclaim};
use super::slots::Slots;
use super::sweep::Hand;
use super::templates::{NewTemplate, Template, TemplateIndex, Templates};
use crate::reason::Reclaimed;

/// How long a connection lives that was made and not observed yet.
const UNOBSERVED: Ticks = Ticks(2 * TICKS_PER_SECOND);
/// The end of the list of unused entries.
const NONE: u32 = u32::MAX;
/// Entries that are looked at for expired ones when there is no unused one.
const LAST_RESORT: usize = 64;
/// With less than one of so many places free a table is nearly full: who holds much of it pays with his own.
const NEARLY_FULL: usize = 10;
/// Entries that are looked at for one of somebody who holds too much, the oldest first.
pub(super) const OWN_LOOKS: usize = 32;

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
    /// How its packets reach the real server; by NAT its answers come back through the director.
    pub method: Method,
    /// True when its client is the host that is masqueraded, not who is asked.
    pub masqueraded: bool,
}

impl<A: Address> NewConnection<A> {
    /// Whose share of the table it is to be, as [`Entry::holder`].
    #[must_use]
    pub const fn holder(&self) -> A {
        if self.masqueraded { self.real_address } else { self.flow.source }
    }
}

/// Why there is no room for another connection, or another template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All that is there is open, or in use.
    Table,
    /// It is nearly so, and the client holds more than its share.
    Client,
    /// It is nearly so, and the service holds more than its share.
    Service,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "the table is full",
            Self::Client => "the table is nearly full, and the client holds more than its share of it",
            Self::Service => "the table is nearly full, and the service holds more than its share of it",
        })
    }
}

impl std::error::Error for Full {}

/// Why a connection or a template ended for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its time had come, or its flow has a new connection.
    Over,
    /// A full table gave it up.
    Reclaimed(Reclaimed),
}

/// A part of a table, in percent: from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u8);

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(100);

    /// True for all of it.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.0 >= Self::WHOLE.0
    }

    /// So many of `capacity` places.
    #[must_use]
    pub const fn of(self, capacity: usize) -> usize {
        capacity * self.0 as usize / 100
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// Some of the entries of a table.
type Which<'a, A> = &'a dyn Fn(&Entry<A>) -> bool;

/// What a new connection may have.
#[derive(Clone, Copy)]
pub struct Limits<'a, A: Address> {
    /// The part of a table that one client may hold while the table is nearly full.
    pub client_share: Share,
    /// The connections of a service that holds more than its share: a new one takes the place of one of these.
    pub of_service: Option<Which<'a, A>>,
}

impl<A: Address> Limits<'_, A> {
    /// None.
    pub const NONE: Self = Self { client_share: Share::WHOLE, of_service: None };

    /// How much one client may hold of `capacity` places of which `room` are free or can be given up: the less, the fewer these
    /// are, so that many who hold much do not fill the table together.
    pub(super) fn of_client(&self, capacity: usize, room: usize) -> usize {
        let (share, scarce) = (self.client_share.of(capacity), capacity / NEARLY_FULL);
        if room < scarce { share * room / scarce } else { share }
    }
}

/// True when so few places are free that shares count.
#[inline]
pub(super) const fn is_nearly_full(capacity: usize, used: usize) -> bool {
    capacity - used <= capacity / NEARLY_FULL
}

/// Where a new connection finds room.
enum Room {
    /// In an unused entry.
    Unused,
    /// In the place of this one.
    Of(u32),
    /// Perhaps in the place of one whose time has come.
    Expired,
}

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
    /// With so many in use it [is nearly full](is_nearly_full).
    scarce_from: u32,
    /// A connection was made that takes over the answers of another.
    overtaken: bool,
    pub(super) hand: Hand,
    /// What clients hold.
    pub(super) holders: Holders,
    pub(super) beside: Beside<A>,
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
            scarce_from: capacity - capacity / NEARLY_FULL as u32,
            overtaken: false,
            hand: Hand::default(),
            holders: Holders::new(key, capacity as usize),
            beside: Beside { templates: Templates::new(key), reclaim: Reclaim::new(capacity as usize) },
        }
    }

    /// Bytes of a table for so many connections, without persistence templates, which take memory as they come.
    #[must_use]
    pub const fn bytes_for(capacity: u32) -> u64 {
        Slots::bytes_for(capacity) + capacity as u64 * size_of::<Entry<A>>() as u64
    }

    /// The persistence templates.
    #[must_use]
    pub const fn templates(&self) -> &Templates<A> {
        &self.beside.templates
    }

    /// The persistence templates, to be changed.
    #[must_use]
    pub const fn templates_mut(&mut self) -> &mut Templates<A> {
        &mut self.beside.templates
    }

    /// Takes the memory for templates, when a service is persistent.
    pub fn prepare_templates(&mut self) {
        self.beside.templates.prepare(self.entries.len());
    }

    /// A connection, and what moves with it, to be changed.
    #[inline]
    #[must_use]
    pub fn entry_and_beside(&mut self, index: ConnectionIndex) -> (&mut Entry<A>, &mut Beside<A>) {
        (&mut self.entries[index.0 as usize], &mut self.beside)
    }

    /// A connection was made by a template.
    pub fn control(&mut self, index: ConnectionIndex, template: TemplateIndex, now: Tick) {
        self.entries[index.0 as usize].control();
        self.beside.templates.control(template, index.0, now);
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
        size_of_val(&*self.entries) + self.slots.bytes() + self.holders.bytes() + self.beside.reclaim.bytes()
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

    /// True since a connection was made that takes over the answers of another: candidates from before may be the other.
    #[inline]
    #[must_use]
    pub const fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// There are no candidates from before any more.
    #[inline]
    pub const fn forget_overtaken(&mut self) {
        self.overtaken = false;
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

    /// True when so few places are free that shares count.
    #[inline]
    #[must_use]
    pub const fn is_nearly_full(&self) -> bool {
        self.used >= self.scarce_from
    }

    /// Whether another connection of `holder` finds room now, as far as can be told without looking for expired ones.
    ///
    /// # Errors
    /// Why it finds none.
    #[inline]
    pub fn has_room(&self, holder: A, limits: &Limits<'_, A>, now: Tick) -> Result<(), Full> {
        if self.is_nearly_full() { self.room(holder, limits, now).map(drop) } else { Ok(()) }
    }

    /// Where another connection finds room in a table that is nearly full.
    #[cold]
    fn room(&self, holder: A, limits: &Limits<'_, A>, now: Tick) -> Result<Room, Full> {
        let (capacity, reclaim) = (self.entries.len(), &self.beside.reclaim);
        let free = capacity - self.used as usize;
        if let Some(of_service) = limits.of_service {
            return self.oldest_of(of_service).map(Room::Of).ok_or(Full::Service);
        }
        let is_bounded = !limits.client_share.is_whole();
        if is_bounded && self.holders.of(holder) > limits.of_client(capacity, free + reclaim.count()) {
            let client = holder.masked(CLIENT_BITS);
            let own = |entry: &Entry<A>| entry.holder().masked(CLIENT_BITS) == client;
            // Where nothing is left for anybody it is not the doing of a client within its share.
            let within = self.holders.of(holder) <= limits.client_share.of(capacity);
            let full = if within && free + reclaim.count() == 0 { Full::Table } else { Full::Client };
            return self.oldest_of(&own).map(Room::Of).ok_or(full);
        }
        match reclaim.places().next() {
            _ if free > 0 => Ok(Room::Unused),
            Some(place) => Ok(Room::Of(place)),
            None if self.hand.resorts_left(now) > 0 => Ok(Room::Expired),
            None => Err(Full::Table),
        }
    }

    /// The oldest one that can be given up and is one of `these`.
    fn oldest_of(&self, these: Which<'_, A>) -> Option<u32> {
        let mut places = self.beside.reclaim.places().take(OWN_LOOKS);
        places.find(|place| these(&self.entries[*place as usize]))
    }

    /// Makes a connection. It counts as inactive and ends after two seconds unless a packet is observed. An older
    /// connection of the same flow, dead or alive, ends first, and in a full table the oldest one that is over or has only
    /// begun; `ended` sees each that ends.
    ///
    /// # Errors
    /// When no entry is unused, none can be given up and none expired is near, or somebody holds more than his share.
    pub fn insert(
        &mut self,
        new: &NewConnection<A>,
        limits: &Limits<'_, A>,
        now: Tick,
        mut ended: impl FnMut(&Entry<A>, Ending),
    ) -> Result<ConnectionIndex, Full> {
        let mut made = Entry::new(new);
        made.set_expires(now.after(UNOBSERVED));
        debug_assert_eq!(made.rank(), Some(Rank::Begun));
        self.put(made, Some(Rank::Begun), true, limits, now, &mut ended)
    }

    /// Puts a connection in. `foremost` as in [`super::record::Marks`].
    ///
    /// # Errors
    /// As [`Self::insert`].
    #[inline(always)]
    pub(super) fn put(
        &mut self,
        made: Entry<A>,
        rank: Option<Rank>,
        foremost: bool,
        limits: &Limits<'_, A>,
        now: Tick,
        mut ended: impl FnMut(&Entry<A>, Ending),
    ) -> Result<ConnectionIndex, Full> {
        let (flow, holder) = (made.client_flow(), made.holder());
        let hash = self.hash(&flow);
        let answer = made.is_nat().then(|| made.answer_flow()).map(|flow| (flow, self.hash(&flow)));
        if let Some((_, hash)) = answer {
            self.prefetch_bucket(hash);
        }
        if let Some(older) = self.find_even_expired(hash, &flow) {
            ended(self.entry(older), Ending::Over);
            self.remove(older, now);
        }
        if self.is_nearly_full() {
            self.make_room(holder, limits, now, &mut ended)?;
        }
        let place = self.take_unused().ok_or(Full::Table)?;
        self.entries[place as usize] = made;
        if !self.slots.insert(hash, place) {
            self.release(place);
            return Err(Full::Table);
        }
        let before = match &answer {
            Some((flow, hash)) if !foremost => self.first_answered(*hash, flow, now),
            _ => None,
        };
        if answer.is_some_and(|(flow, answer)| !self.insert_answer(hash, &flow, answer, (place, before))) {
            self.slots.remove(hash, place);
            self.release(place);
            return Err(Full::Table);
        }
        self.holders.add(holder);
        if let Some(rank) = rank {
            self.beside.reclaim.put_in(place, rank);
        }
        Ok(ConnectionIndex(place))
    }

    /// Lets a connection be found by its answers, too. Where those of several look the same, since a client used one port for
    /// services with one real server, they are taken for those of the connection that was made last (kernel: `ip_vs_conn_hash`,
    /// `ip_vs_conn_out_get`), or of the one that they were taken for `before`. False when there is no room.
    fn insert_answer(
        &mut self,
        hash: u64,
        flow: &Flow<A>,
        answer: u64,
        (place, before): (u32, Option<u32>),
    ) -> bool {
        let may_look_alike = self.slots.may_look_alike(answer);
        let inserted = self.slots.insert(answer, place);
        if inserted && may_look_alike {
            self.order_answers(hash, flow, answer, (place, before));
        }
        inserted
    }

    #[cold]
    fn order_answers(&mut self, hash: u64, flow: &Flow<A>, answer: u64, (place, before): (u32, Option<u32>)) {
        let Self { entries, slots, key, overtaken, .. } = self;
        let alike = |other: u32| {
            let other = &entries[other as usize];
            (other.is_nat() && other.answer_flow() == *flow).then(|| key.flow(&other.client_flow()))
        };
        let in_front = before.unwrap_or(place);
        let other = before.and_then(&alike).unwrap_or(hash);
        if !slots.look_alike(other, answer) {
            *overtaken |= slots.bring_forward(answer, in_front, alike);
        }
    }

    /// The connection that the answers of this flow are taken for.
    fn first_answered(&self, answer: u64, flow: &Flow<A>, now: Tick) -> Option<u32> {
        self.slots.find(answer, |place| {
            let entry = &self.entries[place as usize];
            let answered = entry.direction_of(flow) == Some(Direction::FromReal);
            (answered && !entry.is_expired(now)).then_some(place)
        })
    }

    /// True for a connection that its answers are taken for, and for one whose answers do not come by.
    pub(super) fn is_foremost(&self, index: ConnectionIndex, now: Tick) -> bool {
        let entry = self.entry(index);
        let answer = || {
            let flow = entry.answer_flow();
            self.first_answered(self.hash(&flow), &flow, now)
        };
        !entry.is_nat() || answer() == Some(index.0)
    }

    /// Sees to it that there is an unused entry, if there can be one.
    #[cold]
    fn make_room(
        &mut self,
        holder: A,
        limits: &Limits<'_, A>,
        now: Tick,
        ended: &mut impl FnMut(&Entry<A>, Ending),
    ) -> Result<(), Full> {
        match self.room(holder, limits, now)? {
            Room::Unused => {}
            Room::Of(place) => self.give_up(place, now, ended),
            Room::Expired => {
                if self.hand.resort(now) {
                    self.sweep(now, LAST_RESORT, |entry| ended(entry, Ending::Over));
                }
            }
        }
        Ok(())
    }

    /// Ends a connection before its time.
    fn give_up(&mut self, place: u32, now: Tick, ended: &mut impl FnMut(&Entry<A>, Ending)) {
        let entry = &self.entries[place as usize];
        let by_time = entry.is_expired(now);
        ended(entry, if by_time { Ending::Over } else { Ending::Reclaimed(entry.reclaimed_as()) });
        self.end(ConnectionIndex(place), now, by_time);
    }

    /// Makes a template. In a full table of templates the oldest one ends of which no connection ever opened, with the connection that has
    /// only begun under it; `ended` and `template_ended` see what ends.
    ///
    /// # Errors
    /// When none can be given up, or the client holds more than its share.
    pub fn make_template(
        &mut self,
        new: &NewTemplate<A>,
        limits: &Limits<'_, A>,
        now: Tick,
        mut ended: impl FnMut(&Entry<A>, Ending),
        mut template_ended: impl FnMut(&Template<A>, Ending),
    ) -> Result<TemplateIndex, Full> {
        let made = self.beside.templates.make(new, limits, now, &mut template_ended);
        if made != Err(Full::Table) {
            return made;
        }
        let begun =
            self.oldest_of(&|entry| entry.is_controlled() && !entry.is_opened()).ok_or(Full::Table)?;
        self.give_up(begun, now, &mut ended);
        self.beside.templates.make(new, limits, now, &mut template_ended)
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
            self.beside.templates.release(index.0, now, by_time);
        }
        self.holders.subtract(entry.holder());
        self.beside.reclaim.shift(index.0, None);
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
