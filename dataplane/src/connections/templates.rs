//! Persistence templates (kernel: `IP_VS_CONN_F_TEMPLATE`, `ip_vs_sched_persist`): which real server the connections of a client
//! go to while it persists.
//!
//! A template is found by the client, masked, and by what it asks for. It controls the connections that were made by it, and
//! lives on as long as any of them does: its timeout starts anew with each new connection, and when it runs out while
//! connections live it is extended by [`EXTENSION`]. Templates live in a table of their own, so that packets
//! of open connections meet nothing of it.

use crate::address::Address;
use crate::flow::{Flow, HashKey};
use crate::id::{L4Port, Protocol, RealId};
use crate::processor;
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};

use super::holders::Holders;
use super::reclaim::{Rank, Reclaim};
use super::record::TemplateRecord;
use super::table::{ConnectionIndex, Ending, Full, Limits, OWN_LOOKS, is_nearly_full};
use crate::reason::Reclaimed;

/// What a template that controls connections is extended by (kernel: `ip_vs_conn_expire`).
const EXTENSION: Ticks = Ticks::from_seconds(60);
/// The port that a template shows which no client finds any more (kernel: `ip_vs_check_template`).
pub const STALE_PORT: L4Port = L4Port(0xffff);
/// No template; the end of a list.
const NONE: u32 = u32::MAX;
/// Templates that a turn looks at.
const TURN_TEMPLATES: u32 = 256;
/// Templates that are looked at for dead ones when there is no unused one.
const LAST_RESORT: u32 = 64;

/// By what a template is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateKey<A> {
    /// The client's address, masked.
    pub client: A,
    /// The address that it asks for, or the firewall mark in the kernel's notation.
    pub vip: A,
    /// The port that it asks for; 0 for a service of all ports or of a firewall mark.
    pub vip_port: L4Port,
    /// The protocol; none for a service of a firewall mark.
    pub protocol: Option<Protocol>,
}

/// The place of a template in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateIndex(u32);

/// A template.
#[derive(Clone, Debug)]
pub struct Template<A> {
    key: TemplateKey<A>,
    real: RealId,
    real_address: A,
    real_port: L4Port,
    in_use: bool,
    assured: bool,
    /// One of its connections opened.
    opened: bool,
    /// Nobody finds it any more.
    stale: bool,
    expires: Tick,
    timeout: Ticks,
    /// Connections that it controls (kernel: `n_control`).
    controls: u32,
    /// The next one of its bucket; the next unused one.
    next: u32,
}

impl<A: Address> Template<A> {
    const UNUSED: Self = Self {
        key: TemplateKey { client: A::UNSPECIFIED, vip: A::UNSPECIFIED, vip_port: L4Port(0), protocol: None },
        real: RealId(0),
        real_address: A::UNSPECIFIED,
        real_port: L4Port(0),
        in_use: false,
        assured: false,
        opened: false,
        stale: false,
        expires: Tick(0),
        timeout: Ticks(0),
        controls: 0,
        next: NONE,
    };

    /// By what it is, or was, found.
    #[must_use]
    pub const fn key(&self) -> &TemplateKey<A> {
        &self.key
    }

    /// True when no client finds it any more.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Its record; none for one that no client finds any more.
    #[must_use]
    pub fn record(&self, now: Tick) -> Option<TemplateRecord<A>> {
        if self.stale {
            return None;
        }
        let mut extended = self.clone();
        extended.extend(now);
        Some(TemplateRecord {
            key: self.key,
            real: self.real,
            real_address: self.real_address,
            real_port: self.real_port,
            timeout: extended.timeout,
            left: extended.expires.remaining(now),
            assured: self.assured,
            opened: self.opened,
        })
    }

    /// The real server.
    #[must_use]
    pub const fn real(&self) -> RealId {
        self.real
    }

    /// The real server's address.
    #[must_use]
    pub const fn real_address(&self) -> A {
        self.real_address
    }

    /// The ports that it shows: of the service and of the real server.
    #[must_use]
    pub const fn ports(&self) -> (L4Port, L4Port) {
        if self.stale { (STALE_PORT, STALE_PORT) } else { (self.key.vip_port, self.real_port) }
    }

    /// What `ipvsadm -Lc` shows as the state: a template is assured when one of its connections opened.
    #[must_use]
    pub const fn state_word(&self) -> &'static str {
        if self.assured { "ASSURED" } else { "NONE" }
    }

    /// How soon a full table gives it up: first those of clients that never opened a connection, then those that control none
    /// now, so that their clients persist no more.
    const fn rank(&self) -> Option<Rank> {
        match (self.opened, self.controls) {
            (false, _) => Some(Rank::Over),
            (true, 0) => Some(Rank::Begun),
            (true, _) => None,
        }
    }

    /// True when its time is over and it controls no connection.
    const fn is_over(&self, now: Tick) -> bool {
        self.expires.has_come(now) && self.controls == 0
    }

    /// When it ends unless connections are made by it.
    #[must_use]
    pub const fn expires(&self, now: Tick) -> Tick {
        let mut expires = self.expires;
        while expires.has_come(now) && self.controls > 0 {
            expires = expires.after(EXTENSION);
        }
        expires
    }

    /// Extends it if its time came while it controls connections.
    fn extend(&mut self, now: Tick) {
        if self.expires.has_come(now) && self.controls > 0 {
            self.expires = self.expires(now);
            self.timeout = EXTENSION;
        }
    }
}

/// What makes a template.
#[derive(Clone, Copy, Debug)]
pub struct NewTemplate<A> {
    /// By what it is found.
    pub key: TemplateKey<A>,
    /// The real server.
    pub real: RealId,
    /// Its address.
    pub real_address: A,
    /// Its port; 0 when connections keep theirs.
    pub real_port: L4Port,
    /// How long it lives after the last connection was made.
    pub timeout: Ticks,
}

impl<A: Copy> From<&TemplateRecord<A>> for NewTemplate<A> {
    fn from(record: &TemplateRecord<A>) -> Self {
        let TemplateRecord { key, real, real_address, real_port, timeout, .. } = *record;
        Self { key, real, real_address, real_port, timeout }
    }
}

/// The templates of one worker and address family. Has no memory before [`Self::prepare`].
#[derive(Debug)]
pub struct Templates<A: Address> {
    entries: Box<[Template<A>]>,
    /// The first template of each bucket.
    buckets: Box<[u32]>,
    /// The template that controls each connection, by the connection's place.
    controlling: Box<[u32]>,
    key: HashKey,
    unused: u32,
    /// Templates from here on were never used.
    high_water: u32,
    used: u32,
    /// What clients hold.
    holders: Holders,
    /// Those that a full table gives up.
    reclaim: Reclaim,
    /// The next one that the sweep looks at, how many it owes, and when that was reckoned.
    hand: u32,
    owed: u32,
    reckoned: Tick,
}

impl<A: Address> Templates<A> {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            entries: Box::default(),
            buckets: Box::default(),
            controlling: Box::default(),
            key,
            unused: NONE,
            high_water: 0,
            used: 0,
            holders: Holders::new(key, 0),
            reclaim: Reclaim::new(0),
            hand: 0,
            owed: 0,
            reckoned: Tick(0),
        }
    }

    /// Takes the memory for as many templates as there can be connections, unless it did so before.
    pub(super) fn prepare(&mut self, capacity: usize) {
        if self.entries.is_empty() {
            self.entries = processor::large_table(&Template::UNUSED, capacity);
            self.buckets = processor::large_table(&NONE, capacity);
            self.controlling = processor::large_table(&NONE, capacity);
            self.holders = Holders::new(self.key, capacity);
            self.reclaim = Reclaim::new(capacity);
        }
    }

    fn bucket(&self, key: &TemplateKey<A>) -> usize {
        let mark = u16::from(key.protocol.is_none());
        let hash = self.key.flow(&Flow {
            source: key.client,
            destination: key.vip,
            source_port: L4Port(mark),
            destination_port: key.vip_port,
            protocol: key.protocol.unwrap_or(Protocol::Tcp),
        });
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    /// The template that a client finds, unless it is over.
    #[must_use]
    pub fn find(&self, key: &TemplateKey<A>, now: Tick) -> Option<TemplateIndex> {
        if self.high_water == 0 {
            return None;
        }
        let mut place = self.buckets[self.bucket(key)];
        while place != NONE {
            let template = &self.entries[place as usize];
            if template.key == *key && !template.is_over(now) {
                return Some(TemplateIndex(place));
            }
            place = template.next;
        }
        None
    }

    /// A template.
    #[must_use]
    pub fn get(&self, index: TemplateIndex) -> &Template<A> {
        &self.entries[index.0 as usize]
    }

    /// How many there are, and how many there can be.
    #[must_use]
    pub const fn fill(&self) -> (usize, usize) {
        (self.used as usize, self.entries.len())
    }

    /// Makes a template; `ended` sees each that ends for it.
    ///
    /// # Errors
    /// When all are in use, or the client holds more than its share.
    pub(super) fn make(
        &mut self,
        new: &NewTemplate<A>,
        limits: &Limits<'_, A>,
        now: Tick,
        ended: &mut impl FnMut(&Template<A>, Ending),
    ) -> Result<TemplateIndex, Full> {
        if is_nearly_full(self.entries.len(), self.used as usize) {
            self.make_room(new.key.client, limits, now, ended)?;
        }
        let place = self.take_unused().ok_or(Full::Table)?;
        let bucket = self.bucket(&new.key);
        self.entries[place as usize] = Template {
            key: new.key,
            real: new.real,
            real_address: new.real_address,
            real_port: new.real_port,
            in_use: true,
            expires: now.after(new.timeout),
            timeout: new.timeout,
            next: self.buckets[bucket],
            ..Template::UNUSED
        };
        self.buckets[bucket] = place;
        self.holders.add(new.key.client);
        self.reclaim.shift(place, self.entries[place as usize].rank());
        Ok(TemplateIndex(place))
    }

    /// Sees to it that there is an unused one, if there can be one.
    #[cold]
    fn make_room(
        &mut self,
        client: A,
        limits: &Limits<'_, A>,
        now: Tick,
        ended: &mut impl FnMut(&Template<A>, Ending),
    ) -> Result<(), Full> {
        let (capacity, free) = (self.entries.len(), self.entries.len() - self.used as usize);
        let most = limits.of_client(capacity, free + self.reclaim.count());
        if !limits.client_share.is_whole() && self.holders.of(client) > most {
            return Err(Full::Client);
        }
        if free == 0 {
            self.sweep(now, LAST_RESORT, |template| ended(template, Ending::Over));
        }
        if self.used as usize == capacity {
            let unused = |place: &u32| self.entries[*place as usize].controls == 0;
            let oldest = self.reclaim.places().take(OWN_LOOKS).find(unused).ok_or(Full::Table)?;
            ended(&self.entries[oldest as usize], Ending::Reclaimed(Reclaimed::Template));
            self.remove(oldest);
        }
        Ok(())
    }

    /// No client finds it any more: its real server takes none of them.
    pub fn set_stale(&mut self, index: TemplateIndex) {
        if !self.entries[index.0 as usize].stale {
            self.unlink(index.0);
            self.entries[index.0 as usize].stale = true;
        }
    }

    /// A connection was made by it: its time starts anew.
    pub(super) fn control(&mut self, index: TemplateIndex, connection: u32, now: Tick) {
        let template = &mut self.entries[index.0 as usize];
        template.extend(now);
        template.controls += 1;
        template.expires = now.after(template.timeout);
        self.controlling[connection as usize] = index.0;
        self.reclaim.shift(index.0, self.entries[index.0 as usize].rank());
    }

    /// The template that controls a connection.
    #[must_use]
    pub(super) fn of(&self, connection: ConnectionIndex) -> Option<&Template<A>> {
        let place = *self.controlling.get(connection.0 as usize)?;
        self.entries.get(place as usize)
    }

    /// A connection that was taken in is controlled by it, as it was where it comes from: time goes on.
    pub(super) fn attach(&mut self, index: TemplateIndex, connection: ConnectionIndex) {
        self.entries[index.0 as usize].controls += 1;
        self.controlling[connection.0 as usize] = index.0;
        self.reclaim.shift(index.0, self.entries[index.0 as usize].rank());
    }

    /// It is known elsewhere as well: what is known there holds here.
    pub(super) fn renew(&mut self, index: TemplateIndex, record: &TemplateRecord<A>, expires: Tick) {
        let template = &mut self.entries[index.0 as usize];
        template.timeout = record.timeout;
        template.expires = expires;
        template.assured |= record.assured;
        template.opened |= record.opened;
        self.reclaim.shift(index.0, self.entries[index.0 as usize].rank());
    }

    /// A connection that it controls ended. One that was never assured goes with its last connection when that did not end
    /// by time (kernel: `ip_vs_conn_expire`).
    pub(super) fn release(&mut self, connection: u32, now: Tick, by_time: bool) {
        let place = std::mem::replace(&mut self.controlling[connection as usize], NONE);
        let Some(template) = self.entries.get_mut(place as usize) else { return };
        template.extend(now);
        template.controls -= 1;
        if !by_time && template.controls == 0 && !template.assured {
            template.expires = now;
        }
        self.reclaim.shift(place, self.entries[place as usize].rank());
    }

    /// A connection that it controls opened.
    #[cold]
    pub fn assure(&mut self, connection: ConnectionIndex) {
        let place = self.controlling.get(connection.0 as usize).copied().unwrap_or(NONE);
        if let Some(template) = self.entries.get_mut(place as usize) {
            template.assured = true;
        }
    }

    /// A connection that it controls is more than begun.
    pub(super) fn open(&mut self, connection: ConnectionIndex) {
        let place = self.controlling.get(connection.0 as usize).copied().unwrap_or(NONE);
        if let Some(template) = self.entries.get_mut(place as usize).filter(|template| !template.opened) {
            template.opened = true;
            self.reclaim.shift(place, self.entries[place as usize].rank());
        }
    }

    /// Looks at the next `budget` templates and ends those that are over; `ended` sees each.
    pub fn sweep(&mut self, now: Tick, budget: u32, ended: impl FnMut(&Template<A>)) {
        let mut hand = self.hand;
        self.sweep_from(&mut hand, now, budget, |_| false, ended);
        self.hand = hand;
    }

    /// The same on from a place of the caller's; ends those too that control nothing and are `unwanted`.
    pub fn sweep_from(
        &mut self,
        place: &mut u32,
        now: Tick,
        budget: u32,
        unwanted: impl Fn(&Template<A>) -> bool,
        mut ended: impl FnMut(&Template<A>),
    ) {
        for _ in 0..budget.min(self.high_water) {
            if *place >= self.high_water {
                *place = 0;
            }
            let at = *place;
            *place += 1;
            let template = &mut self.entries[at as usize];
            if !template.in_use {
                continue;
            }
            template.extend(now);
            if template.is_over(now) || template.controls == 0 && unwanted(template) {
                ended(template);
                self.remove(at);
            }
        }
    }

    /// What a worker calls each turn: looks at as many as it takes to go round in about a second.
    #[inline]
    pub fn sweep_turn(&mut self, now: Tick, ended: impl FnMut(&Template<A>)) {
        if self.high_water > 0 {
            self.sweep_due(now, ended);
        }
    }

    fn sweep_due(&mut self, now: Tick, ended: impl FnMut(&Template<A>)) {
        let elapsed = self.reckoned.elapsed(now).0;
        if elapsed > 0 {
            self.reckoned = now;
            let share = self.high_water / TICKS_PER_SECOND + 1;
            self.owed = self.owed.saturating_add(share.saturating_mul(elapsed)).min(self.high_water);
        }
        let budget = self.owed.min(TURN_TEMPLATES);
        self.owed -= budget;
        self.sweep(now, budget, ended);
    }

    /// Templates that a whole pass has to look at.
    #[must_use]
    pub const fn pass(&self) -> u32 {
        self.high_water
    }

    /// Calls `each` with those among the next `budget` places from `cursor` on, which starts at 0, that are not over. False
    /// when the end was reached.
    pub fn list(
        &self,
        cursor: &mut usize,
        budget: usize,
        now: Tick,
        mut each: impl FnMut(&Template<A>),
    ) -> bool {
        let end = cursor.saturating_add(budget).min(self.high_water as usize);
        for template in self.entries.get(*cursor..end).unwrap_or_default() {
            if template.in_use && !template.is_over(now) {
                each(template);
            }
        }
        *cursor = end;
        end < self.high_water as usize
    }

    fn take_unused(&mut self) -> Option<u32> {
        if self.unused != NONE {
            let place = self.unused;
            self.unused = self.entries[place as usize].next;
            self.used += 1;
            return Some(place);
        }
        if self.high_water as usize >= self.entries.len() {
            return None;
        }
        self.used += 1;
        self.high_water += 1;
        Some(self.high_water - 1)
    }

    fn remove(&mut self, place: u32) {
        if !self.entries[place as usize].stale {
            self.unlink(place);
        }
        self.reclaim.shift(place, None);
        self.holders.subtract(self.entries[place as usize].key.client);
        self.used -= 1;
        let template = &mut self.entries[place as usize];
        template.in_use = false;
        template.next = self.unused;
        self.unused = place;
    }

    /// Takes a template out of its bucket.
    fn unlink(&mut self, place: u32) {
        let bucket = self.bucket(&self.entries[place as usize].key);
        let after = self.entries[place as usize].next;
        let mut before = self.buckets[bucket];
        if before == place {
            self.buckets[bucket] = after;
            return;
        }
        while before != NONE {
            let next = self.entries[before as usize].next;
            if next == place {
                self.entries[before as usize].next = after;
                return;
            }
            before = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn new(client: u8, seconds: u32) -> NewTemplate<Ipv4Addr> {
        NewTemplate {
            key: TemplateKey {
                client: Ipv4Addr::new(198, 51, 100, client),
                vip: Ipv4Addr::new(192, 0, 2, 10),
                vip_port: L4Port(80),
                protocol: Some(Protocol::Tcp),
            },
            real: RealId(u32::from(client)),
            real_address: Ipv4Addr::new(10, 1, 0, client),
            real_port: L4Port(80),
            timeout: Ticks::from_seconds(seconds),
        }
    }

    fn table(capacity: usize) -> Templates<Ipv4Addr> {
        let mut templates = Templates::new(HashKey::random());
        templates.prepare(capacity);
        templates
    }

    const fn second(seconds: u32) -> Tick {
        Tick(seconds * TICKS_PER_SECOND)
    }

    #[test]
    fn lives_while_its_connections_do() {
        let mut templates = table(8);
        let (new, mut ended) = (new(1, 5), 0);
        let made = templates.make(&new, &Limits::NONE, second(0), &mut |_, _| ()).unwrap();
        templates.control(made, 3, second(0));
        assert_eq!(templates.find(&new.key, second(4)), Some(made));
        // Its time came with a connection: a minute more, and from then on a minute each time.
        assert_eq!(templates.get(made).expires(second(6)), second(65));
        templates.sweep(second(6), 8, |_| ended += 1);
        assert_eq!((templates.find(&new.key, second(6)), ended), (Some(made), 0));
        templates.control(made, 4, second(10));
        assert_eq!(templates.get(made).expires(second(10)), second(70));
        templates.release(3, second(20), true);
        templates.release(4, second(75), true);
        // The second one ended after another extension.
        assert_eq!(templates.find(&new.key, second(129)), Some(made));
        assert_eq!(templates.find(&new.key, second(130)), None);
        templates.sweep(second(130), 8, |_| ended += 1);
        assert_eq!(ended, 1);
    }

    #[test]
    fn one_that_was_never_assured_goes_with_a_connection_that_was_ended() {
        let mut templates = table(8);
        for (client, assured, by_time, lives) in
            [(1, false, false, false), (2, true, false, true), (3, false, true, true)]
        {
            let new = new(client, 50);
            let made = templates.make(&new, &Limits::NONE, second(0), &mut |_, _| ()).unwrap();
            templates.control(made, 0, second(0));
            if assured {
                templates.assure(ConnectionIndex(0));
            }
            templates.release(0, second(1), by_time);
            assert_eq!(templates.find(&new.key, second(1)).is_some(), lives, "{client}");
        }
    }

    #[test]
    fn a_stale_one_is_listed_and_not_found() {
        let mut templates = table(8);
        let new = new(1, 50);
        let old = templates.make(&new, &Limits::NONE, second(0), &mut |_, _| ()).unwrap();
        templates.set_stale(old);
        templates.set_stale(old);
        assert_eq!(templates.find(&new.key, second(1)), None);
        let made = templates.make(&new, &Limits::NONE, second(1), &mut |_, _| ()).unwrap();
        assert_eq!(templates.find(&new.key, second(1)), Some(made));
        let mut ports = Vec::new();
        templates.list(&mut 0, 8, second(1), |template| ports.push(template.ports()));
        assert_eq!(ports, [(STALE_PORT, STALE_PORT), (L4Port(80), L4Port(80))]);
    }

    #[test]
    fn bounded_and_complete() {
        let mut templates = table(200);
        for round in 0..3 {
            let at = second(100 * round);
            for client in 0..200 {
                let made = templates.make(&new(client, 50), &Limits::NONE, at, &mut |_, _| ());
                templates.control(made.unwrap(), client.into(), at);
                templates.open(ConnectionIndex(client.into()));
            }
            assert!(templates.make(&new(250, 50), &Limits::NONE, at, &mut |_, _| ()).is_err());
            (0..200).for_each(|client| templates.release(client, at, true));
            for client in 0..200 {
                let found = templates.find(&new(client, 50).key, at).unwrap();
                assert_eq!(templates.get(found).real(), RealId(client.into()));
            }
        }
        let mut ended = 0;
        templates.sweep_turn(second(300), |_| ended += 1);
        assert_eq!(ended, 200);
    }
}
