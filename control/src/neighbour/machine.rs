//! The neighbour machine: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861) for all NICs.
//!
//! Frames, packets that wait and `now` go in; frames, packets that may go on, and changes of the neighbour table
//! come out. A neighbour's life:
//!
//! ```text
//!            wanted, or a packet needs it              answer               its time is up
//! (unknown) ─────────────────────────────▶ Incomplete ────────▶ Known ─────────────────────▶ Probing
//!     ▲  │                                  │ ▲  asks each        ▲ ▲                          │  │
//!     │  │ it asked the director            │ │  second           │ └────────── answer ────────┘  │
//!     │  └──────────────────────────────────┼─┼───────────────────┘                               │
//!     └──── not wanted: forgotten ──────────┘ └────────────── PROBES_MAX without an answer ───────┘
//! ```
//!
//! A neighbour that is wanted stays in Incomplete and is asked each second for as long as it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::reason::DropReason;

use super::allowance::Allowance;
use super::entry::{Entry, Heard, State};
use super::message::{self, Message, Speaker};
use super::output::{Change, Counters, Event, Listed, Output};
use super::owned::{Nic, Owned, Vip};
use super::{
    ANNOUNCE_INTERVAL, ANNOUNCEMENTS, CONFLICT_INTERVAL, INCOMPLETE_MAX, NEIGHBOURS_MAX, PROBES_MAX,
    PUBLICATION_MAX, WAITING_MAX,
};

/// A neighbour: the NIC behind which it is, and its address.
pub type Key = (NicId, IpAddr);

/// ARP and neighbour discovery for all NICs of the director. `P` is a packet that waits; the machine never looks
/// into it.
#[derive(Debug)]
pub struct Machine<P> {
    owned: Owned,
    entries: HashMap<Key, Entry<P>>,
    /// What is due when, the entries' own `due`.
    timers: BTreeSet<(Instant, Key)>,
    announcements: BTreeMap<(Instant, Key), u8>,
    conflicts: HashMap<Key, Instant>,
    /// Unwanted entries without a MAC.
    incomplete: usize,
    waiting: usize,
    allowance: Allowance,
    counters: Counters,
}

impl<P> Machine<P> {
    /// A machine that owns nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            owned: Owned::default(),
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            announcements: BTreeMap::new(),
            conflicts: HashMap::new(),
            incomplete: 0,
            waiting: 0,
            allowance: Allowance::new(now),
            counters: Counters::default(),
        }
    }

    /// The director's NICs (by [`NicId`]) and VIPs from now on. Addresses that are new are announced.
    pub fn set_owned(&mut self, now: Instant, nics: Vec<Nic>, vips: Vec<Vip>, out: &mut Vec<Output<P>>) {
        for key in self.owned.set(nics, vips) {
            self.announcements.insert((now, key), ANNOUNCEMENTS);
        }
        let owned = &self.owned;
        self.announcements.retain(|&(_, (nic, address)), _| owned.answers(nic, address));
        self.conflicts.retain(|&(nic, address), _| owned.answers(nic, address));
        let gone: Vec<Key> = self
            .entries
            .keys()
            .filter(|&&(nic, address)| owned.nic(nic).is_none() || owned.answers(nic, address))
            .copied()
            .collect();
        for key in gone {
            self.forget(key, out);
        }
        self.tick(now, out);
    }

    /// The VIPs from now on; see [`Machine::set_owned`].
    pub fn set_vips(&mut self, now: Instant, vips: Vec<Vip>, out: &mut Vec<Output<P>>) {
        self.set_owned(now, self.owned.nics().to_vec(), vips, out);
    }

    /// The neighbours to keep resolved from now on: real servers and gateways. Others are learned as packets
    /// need them.
    pub fn set_wanted(
        &mut self,
        now: Instant,
        wanted: impl IntoIterator<Item = Key>,
        out: &mut Vec<Output<P>>,
    ) {
        let wanted: HashSet<Key> =
            wanted.into_iter().filter(|&(nic, address)| !self.owned.answers(nic, address)).collect();
        let unwanted: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.wanted && !wanted.contains(*key))
            .map(|(key, _)| *key)
            .collect();
        for key in unwanted {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.mac().is_some() => entry.wanted = false,
                _ => self.forget(key, out),
            }
        }
        for key in wanted {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.wanted => {}
                Some(entry) => {
                    entry.wanted = true;
                    if entry.mac().is_none() {
                        self.incomplete -= 1;
                    }
                }
                None => self.add(key, Entry::new(now, true)),
            }
        }
        self.tick(now, out);
    }

    /// Announces all VIPs again, as after a takeover.
    pub fn announce(&mut self, now: Instant, out: &mut Vec<Output<P>>) {
        let vips: HashSet<IpAddr> = self.owned.vips().iter().map(|vip| vip.address).collect();
        self.announcements.retain(|(_, (_, address)), _| !vips.contains(address));
        for key in self.owned.answered().filter(|(_, address)| vips.contains(address)) {
            self.announcements.insert((now, key), ANNOUNCEMENTS);
        }
        self.tick(now, out);
    }

    /// A frame that arrived: ARP or IPv6 neighbour discovery. Returns true when the director's own kernel-side
    /// interface should see it too: it tells a MAC that the kernel may have asked for.
    pub fn frame(&mut self, now: Instant, nic: NicId, frame: &[u8], out: &mut Vec<Output<P>>) -> bool {
        let Some(own) = self.owned.nic(nic).map(|nic| nic.mac) else { return false };
        let message = match Message::parse(frame, own) {
            Ok(message) => message,
            Err(reason) => {
                *match reason {
                    DropReason::EtherType | DropReason::Unwanted | DropReason::OtherMac => {
                        &mut self.counters.unwanted
                    }
                    _ => &mut self.counters.malformed,
                } += 1;
                return false;
            }
        };
        match message {
            Message::Request { sender_mac, frame_source, .. }
                if sender_mac.unwrap_or(frame_source) == own =>
            {
                self.counters.looped += 1;
                false
            }
            Message::Reply { mac, .. } if mac == Some(own) => {
                self.counters.looped += 1;
                false
            }
            Message::Request { sender, sender_mac, frame_source, target } => {
                let to = sender_mac.unwrap_or(frame_source);
                self.request(now, nic, (sender, sender_mac), target, to, out);
                false
            }
            Message::Reply { address, mac, solicited, overrides } => {
                if self.owned.answers(nic, address) {
                    if let Some(other) = mac {
                        self.conflict(now, (nic, address), other, out);
                    }
                    return false;
                }
                self.heard(now, (nic, address), mac, solicited, overrides, out);
                true
            }
        }
    }

    /// A packet that cannot go on before this neighbour is known. It waits, within bounds.
    pub fn resolve(&mut self, now: Instant, key: Key, packet: P, out: &mut Vec<Output<P>>) {
        let (nic, address) = key;
        if self.owned.nic(nic).is_none() || self.owned.answers(nic, address) {
            self.counters.unresolved += 1;
            return;
        }
        if let Some(entry) = self.entries.get(&key).filter(|entry| entry.mac().is_some()) {
            if now > entry.since + PUBLICATION_MAX {
                self.counters.circling += 1;
            } else {
                out.push(Output::Release(packet));
            }
            return;
        }
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= NEIGHBOURS_MAX || self.incomplete >= INCOMPLETE_MAX {
                self.counters.table_full += 1;
                return;
            }
            self.add(key, Entry::new(now, false));
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if self.waiting >= WAITING_MAX && entry.waiting.is_empty() {
            self.counters.waiting_full += 1;
        } else {
            if self.waiting >= WAITING_MAX {
                entry.waiting.pop_front();
                self.waiting -= 1;
                self.counters.waiting_full += 1;
            }
            let dropped = entry.wait(packet);
            self.waiting += 1;
            self.waiting -= dropped;
            self.counters.waiting_full += dropped as u64;
        }
        self.tick(now, out);
    }

    /// Does what is due. Call it when [`Machine::deadline`] has come; calling it early does no harm.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output<P>>) {
        self.allowance.refill(now);
        while let Some((&(due, key), &left)) = self.announcements.first_key_value() {
            if due > now || !self.allowance.take() {
                break;
            }
            self.announcements.pop_first();
            let (nic, address) = key;
            if let Some(mac) = self.owned.nic(nic).map(|nic| nic.mac) {
                self.counters.announcements += 1;
                out.push(Output::Transmit { nic, frame: message::announcement(Speaker { mac, address }) });
            }
            if left > 1 {
                self.announcements.insert((now + ANNOUNCE_INTERVAL, key), left - 1);
            }
        }
        while let Some(&(due, key)) = self.timers.first() {
            if due > now || !self.allowance.take() {
                break;
            }
            self.due(now, key, out);
        }
    }

    /// When [`Machine::tick`] has something to do next; never when nothing is pending.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let announcement = self.announcements.first_key_value().map(|(&(due, _), _)| due);
        let timer = self.timers.first().map(|&(due, _)| due);
        let due = announcement.into_iter().chain(timer).min()?;
        Some(due.max(self.allowance.next()))
    }

    /// The MAC of a neighbour, when it is known.
    #[must_use]
    pub fn mac(&self, key: Key) -> Option<Mac> {
        self.entries.get(&key).and_then(Entry::mac)
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The table, for an operator and for a snapshot that starts anew.
    pub fn neighbours(&self) -> impl Iterator<Item = Listed> {
        self.entries.iter().map(|(&(nic, address), entry)| Listed {
            nic,
            address,
            mac: entry.mac(),
            wanted: entry.wanted,
            waiting: entry.waiting.len(),
        })
    }

    /// Packets that wait for all neighbours together.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    fn request(
        &mut self,
        now: Instant,
        nic: NicId,
        (sender, sender_mac): (IpAddr, Option<Mac>),
        target: IpAddr,
        to: Mac,
        out: &mut Vec<Output<P>>,
    ) {
        let answered = self.owned.answers(nic, target);
        if self.owned.answers(nic, sender) {
            return self.conflict(now, (nic, sender), to, out);
        }
        if sender.is_unspecified() {
            if answered {
                self.conflict(now, (nic, target), to, out);
            }
        } else if let Some(mac) = sender_mac {
            // RFC 826: whoever asks for the director will hear from it next; of others what is known is kept fresh.
            let key = (nic, sender);
            if answered && !self.entries.contains_key(&key) && self.owned.on_link(nic, sender) {
                if self.entries.len() >= NEIGHBOURS_MAX {
                    self.counters.table_full += 1;
                } else {
                    self.add(key, Entry::new(now, false));
                }
            }
            self.heard(now, key, Some(mac), false, true, out);
        }
        if let Some(mac) = self.owned.nic(nic).map(|nic| nic.mac).filter(|_| answered) {
            self.counters.answered += 1;
            let frame = message::reply(Speaker { mac, address: target }, sender, to);
            out.push(Output::Transmit { nic, frame });
        }
    }

    /// A MAC was heard for a neighbour; only those in the table matter.
    fn heard(
        &mut self,
        now: Instant,
        key: Key,
        mac: Option<Mac>,
        confirmed: bool,
        overrides: bool,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(mac) = mac.or(entry.mac()) else { return };
        let (nic, address) = key;
        let due = entry.due;
        let heard = entry.hear(now, mac, confirmed, overrides);
        let (new_due, wanted) = (entry.due, entry.wanted);
        self.waiting -= entry.waiting.len();
        let released = std::mem::take(&mut entry.waiting);
        if let Heard::New { old } = heard {
            out.push(Output::Change(Change { nic, address, mac: Some(mac) }));
            match old {
                Some(from) => out.push(Output::Event(Event::MacChanged { nic, address, from, to: mac })),
                None if wanted => out.push(Output::Event(Event::Resolved { nic, address, mac })),
                None => self.incomplete -= 1,
            }
        }
        out.extend(released.into_iter().map(Output::Release));
        self.timers.remove(&(due, key));
        self.timers.insert((new_due, key));
    }

    /// An entry's time is up: ask, or give up.
    fn due(&mut self, now: Instant, key: Key, out: &mut Vec<Output<P>>) {
        let (nic, address) = key;
        let Some(speaker) = self.owned.speaker(nic, address) else { return self.forget(key, out) };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.timers.remove(&(entry.due, key));
        let (asked, mac) = match entry.state {
            State::Incomplete { asked } => (asked, None),
            State::Known { mac } => (0, Some(mac)),
            State::Probing { mac, asked } => (asked, Some(mac)),
        };
        if asked >= PROBES_MAX {
            if !entry.wanted {
                return self.forget(key, out);
            }
            self.counters.unresolved += entry.waiting.len() as u64;
            self.waiting -= entry.waiting.len();
            entry.waiting.clear();
            if mac.is_some() {
                entry.state = State::Incomplete { asked };
                out.push(Output::Change(Change { nic, address, mac: None }));
            }
            if !std::mem::replace(&mut entry.told_silent, true) {
                out.push(Output::Event(Event::Silent { nic, address }));
            }
        }
        // The last question goes to everybody: the address may have moved to another MAC.
        let at = mac.filter(|_| asked + 1 < PROBES_MAX);
        entry.asked(now);
        let due = entry.due;
        self.timers.insert((due, key));
        self.counters.requests += 1;
        out.push(Output::Transmit { nic, frame: message::request(speaker, address, at) });
    }

    fn add(&mut self, key: Key, entry: Entry<P>) {
        if !entry.wanted {
            self.incomplete += 1;
        }
        self.timers.insert((entry.due, key));
        self.entries.insert(key, entry);
    }

    fn forget(&mut self, key: Key, out: &mut Vec<Output<P>>) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.timers.remove(&(entry.due, key));
        self.waiting -= entry.waiting.len();
        self.counters.unresolved += entry.waiting.len() as u64;
        if entry.mac().is_some() {
            out.push(Output::Change(Change { nic: key.0, address: key.1, mac: None }));
        } else if !entry.wanted {
            self.incomplete -= 1;
        }
    }

    fn conflict(&mut self, now: Instant, key: Key, other: Mac, out: &mut Vec<Output<P>>) {
        let told = self.conflicts.get(&key).is_some_and(|last| now < *last + CONFLICT_INTERVAL);
        if !told {
            self.conflicts.insert(key, now);
            out.push(Output::Event(Event::Conflict { nic: key.0, address: key.1, other }));
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
