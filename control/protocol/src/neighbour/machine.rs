//! The neighbour machine: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861) for all NICs.
//!
//! Frames, packets that wait and `now` go in; frames, packets that may go on, and changes of the neighbour table
//! come out. A neighbour's life:
//!
//! ```text
//!            named, or a packet needs it              answer                  its time is up
//! (unknown) ─────────────────────────────▶ Incomplete ────────▶ Reachable ─────────────────────▶ Probe
//!     ▲  │                                  │ ▲  asks each        ▲ ▲    another MAC is claimed   │ │ ▲
//!     │  │ it asked the director            │ │  second           │ └─────────── answer ──────────┘ │ │
//!     │  └──────────────────────────────────┼─┼──▶ Stale ─────────┼─────── its time is up ──────────┼─┘
//!     └──── a stranger: forgotten ──────────┘ └───────────────────┼── PROBES_MAX without an answer ─┘
//!                                                 another MAC answers, the known one does not
//! ```
//!
//! A neighbour that the configuration names stays in Incomplete and is asked each second for as long as it takes. No MAC is
//! replaced by what nobody asked for: see [`super::entry`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use shunt_dataplane::id::{Mac, NicId};

use super::allowance::Allowance;
use super::conflict::{Cause, Conflict, Conflicts, vrid};
use super::entry::{Entry, Heard, Said, State};
use super::index::{Index, Marks};
use super::leaks::Leaks;
use super::message::{self, Message, Speaker};
use super::naming::Naming;
use super::output::{Change, Counters, Event, Listed, Named, Output, Refused, Standing};
use super::owned::{Nic, Owned, Vip};
use super::{
    ANNOUNCE_INTERVAL, ANNOUNCEMENTS, CHANGE_INTERVAL, CONFIRMATIONS_PER_SECOND_MAX, PARTNERS_MAX,
    PROBES_MAX, PUBLICATION_MAX, REACHABLE, REQUESTS_BURST_MAX, REQUESTS_PER_SECOND_MAX, RETRANSMIT,
    SILENT_PER_SECOND_MAX, WAITING_MAX,
};

/// A neighbour: the NIC behind which it is, and its address.
pub type Key = (NicId, IpAddr);

/// ARP and neighbour discovery for all NICs of the director. `P` is a packet that waits; the machine never looks
/// into it.
#[derive(Debug)]
pub struct Machine<P> {
    pub(super) owned: Owned,
    pub(super) entries: HashMap<Key, Entry<P>>,
    /// Not all that the configuration names is in the table yet.
    pub(super) naming: Option<Naming>,
    index: Index,
    announcements: BTreeMap<(Instant, Key), u8>,
    conflicts: Conflicts,
    /// Other directors of virtual routers, and for how long both may have a VIP until they agree.
    partners: HashMap<(NicId, Mac), Duration>,
    leaks: Leaks,
    /// The VIPs that real servers are checked at, and where.
    checked: BTreeSet<Key>,
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
            naming: None,
            index: Index::default(),
            announcements: BTreeMap::new(),
            conflicts: Conflicts::new(now),
            partners: HashMap::new(),
            leaks: Leaks::default(),
            checked: BTreeSet::new(),
            allowance: Allowance::new(now, REQUESTS_BURST_MAX, REQUESTS_PER_SECOND_MAX),
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
        self.retain_conflicts();
        let owned = &self.owned;
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

    /// Each NIC may have so many neighbours from now on that the configuration does not name.
    pub fn set_most(&mut self, most: u32) {
        self.index.set_most(most as usize);
    }

    /// The VIPs from now on; see [`Machine::set_owned`].
    pub fn set_vips(&mut self, now: Instant, vips: Vec<Vip>, out: &mut Vec<Output<P>>) {
        self.set_owned(now, self.owned.nics().to_vec(), vips, out);
    }

    /// What [`Self::begin_naming`] and [`Self::go_on_naming`] do, at once.
    pub fn set_named(
        &mut self,
        now: Instant,
        wanted: impl IntoIterator<Item = (Key, Named)>,
        told: impl IntoIterator<Item = (Key, Mac)>,
        out: &mut Vec<Output<P>>,
    ) {
        self.begin_naming(wanted.into_iter().collect(), told.into_iter().collect());
        while self.go_on_naming(now, out) {}
        self.tick(now, out);
    }

    /// The VIPs that real servers are checked at from now on, each with the NIC that such a real server is behind. Its link is asked for it now and
    /// then, and a real server that answers is told as a conflict, whether the director answers for the VIP there or not.
    pub fn set_checked(&mut self, now: Instant, checked: impl IntoIterator<Item = Key>) {
        self.checked = checked.into_iter().collect();
        self.leaks.set(now, self.checked.iter().copied());
        self.retain_conflicts();
    }

    /// A host shares VIPs with this director by VRRP: for so long both may have one without a word, since that is how one takes over.
    pub fn set_partner(&mut self, nic: NicId, mac: Mac, patience: Duration) {
        if self.partners.len() >= PARTNERS_MAX && !self.partners.contains_key(&(nic, mac)) {
            self.partners.clear();
        }
        self.partners.insert((nic, mac), patience);
    }

    /// From now on the links are also asked now and then for the addresses that the director has there, its VIPs among them: a host that has one,
    /// too, and announces nothing, is told as a conflict. Call it again when either changed.
    pub fn look_for_others(&mut self, now: Instant) {
        let own = self.owned.on_links();
        self.leaks.set(now, own.into_iter().chain(self.checked.iter().copied()));
    }

    fn retain_conflicts(&mut self) {
        let (owned, leaks) = (&self.owned, &self.leaks);
        self.conflicts.retain(|nic, address| owned.answers(nic, address) || leaks.contains(&(nic, address)));
    }

    /// The link of a NIC was down: whoever was behind it may be another one now, as after the kernel's `neigh_carrier_down`. All of
    /// them are asked, and keep their MACs until somebody answers.
    pub fn link_is_back(&mut self, now: Instant, nic: NicId) {
        let there: Vec<Key> = self.entries.keys().filter(|(on, _)| *on == nic).copied().collect();
        for key in there {
            self.with_entry(key, |entry| entry.doubt(now));
        }
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

    /// A frame that arrived: ARP or IPv6 neighbour discovery. Nobody else hears of it, so that nobody else believes it.
    pub fn frame(&mut self, now: Instant, nic: NicId, frame: &[u8], out: &mut Vec<Output<P>>) {
        let Some(own) = self.owned.nic(nic).map(|nic| nic.mac) else { return };
        let message = match Message::parse(frame, own) {
            Ok(message) => message,
            Err(refused) => {
                self.counters.refuse(refused);
                return;
            }
        };
        let from = match message {
            Message::Request { sender_mac, frame_source, .. } => Some(sender_mac.unwrap_or(frame_source)),
            Message::Reply { mac, .. } => mac,
        };
        if from.is_some_and(|mac| self.owned.nics().iter().any(|nic| nic.mac == mac)) {
            self.counters.refuse(Refused::Looped);
            return;
        }
        match message {
            Message::Request { sender, sender_mac, frame_source, target } => {
                let to = sender_mac.unwrap_or(frame_source);
                self.request(now, nic, (sender, sender_mac), target, to, out);
            }
            Message::Reply { address, mac, solicited, overrides } => {
                if self.owned.answers(nic, address) {
                    if let Some(other) = mac {
                        self.conflict(now, (nic, address), other, true, out);
                    }
                    return;
                }
                if let Some(real) =
                    mac.filter(|mac| self.leaks.contains(&(nic, address)) && self.is_real(nic, *mac))
                {
                    self.conflict(now, (nic, address), real, true, out);
                    return;
                }
                let known = self.entries.get(&(nic, address)).and_then(Entry::mac);
                if let Some(mac) = mac.or(known) {
                    let said = Said { mac, solicited, overrides, asks: false };
                    self.heard(now, (nic, address), said, out);
                }
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
            if self.index.asks_enough(nic) && !self.give_one_up(now, nic, out) {
                self.counters.asked_full += 1;
                return;
            }
            self.add(key, Entry::new(now, None));
        }
        let full = self.index.waiting() >= WAITING_MAX && !self.drop_oldest_packet();
        let dropped = self.with_entry(key, |entry| {
            entry.used = now;
            if full && entry.waiting.pop_front().is_none() {
                return 1;
            }
            usize::from(full) + entry.wait(packet)
        });
        self.counters.waiting_full += dropped.unwrap_or(1) as u64;
        self.tick(now, out);
    }

    /// Something that does not wait here needs this neighbour: it is asked for, within the bounds of [`Machine::resolve`].
    pub fn ask(&mut self, now: Instant, key: Key, out: &mut Vec<Output<P>>) {
        let (nic, address) = key;
        if self.owned.nic(nic).is_none() || self.owned.answers(nic, address) {
            return;
        }
        if !self.entries.contains_key(&key) {
            if self.index.asks_enough(nic) && !self.give_one_up(now, nic, out) {
                self.counters.asked_full += 1;
                return;
            }
            self.add(key, Entry::new(now, None));
        }
        self.with_entry(key, |entry| (entry.used, entry.awaited) = (now, true));
        self.tick(now, out);
    }

    /// Whether a neighbour that the configuration names was asked as often as others are, and did not answer.
    #[must_use]
    pub fn is_silent(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.told_silent && entry.mac().is_none())
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
        while self.leaks.first().is_some_and(|due| due <= now) && self.allowance.take() {
            if let Some(key) = self.leaks.take(now) {
                self.ask_for_leaks(key, out);
            }
        }
        while self.index.first().is_some_and(|due| due <= now) && self.allowance.take() {
            if let Some(key) = self.index.take_due(now) {
                self.due(now, key, out);
            }
        }
        for (conflict, lasted) in self.conflicts.tick(now) {
            out.push(Output::Event(Event::ConflictOver { conflict, lasted }));
        }
    }

    /// When [`Machine::tick`] has something to do next; never when nothing is pending.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let announcement = self.announcements.first_key_value().map(|(&(due, _), _)| due);
        let timer = self.index.first();
        let asking = announcement
            .into_iter()
            .chain(timer)
            .chain(self.leaks.first())
            .min()
            .map(|due| due.max(self.allowance.next()));
        asking.into_iter().chain(self.conflicts.deadline()).min()
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

    /// The table, for an operator.
    pub fn neighbours(&self) -> impl Iterator<Item = Listed> {
        self.entries.iter().map(|(&(nic, address), entry)| Listed {
            nic,
            address,
            mac: entry.mac(),
            standing: match entry.state {
                State::Incomplete { asked } if asked >= PROBES_MAX => Standing::Failed,
                State::Incomplete { .. } => Standing::Incomplete,
                State::Reachable { .. } => Standing::Reachable,
                State::Stale { .. } => Standing::Stale,
                State::Probe { .. } => Standing::Probe,
                State::Static { .. } => Standing::Static,
            },
            named: entry.named,
            since: entry.since,
            waiting: entry.waiting.len(),
        })
    }

    /// Other hosts that use addresses of the director.
    pub fn conflicts(&self) -> impl Iterator<Item = Conflict> {
        self.conflicts.list()
    }

    /// Packets that wait for all neighbours together.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.index.waiting()
    }

    /// Asks a link who has an address, from another one of the director's own: from that one, or a VIP, it would be an announcement. Where there is no
    /// such one it is a probe (RFC 5227, 2.1.1; RFC 4862, 5.4).
    fn ask_for_leaks(&mut self, (nic, address): Key, out: &mut Vec<Output<P>>) {
        let Some(speaker) = self.owned.speaker(nic, address) else { return };
        let vips = self.owned.vips();
        let announces = speaker.address == address || vips.iter().any(|vip| vip.address == speaker.address);
        let speaker = if announces { Speaker { address: unspecified(address), ..speaker } } else { speaker };
        self.counters.requests += 1;
        out.push(Output::Transmit { nic, frame: message::request(speaker, address, None) });
    }

    /// Whether a MAC is that of a real server.
    fn is_real(&self, nic: NicId, mac: Mac) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|((at, _), entry)| {
            *at == nic && entry.named == Some(Named::Real) && entry.mac() == Some(mac)
        })
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
            return self.conflict(now, (nic, sender), to, true, out);
        }
        if !answered {
            self.counters.refuse(Refused::NotOwned);
        }
        if sender.is_unspecified() {
            if answered {
                self.conflict(now, (nic, target), to, false, out);
            }
        } else if let Some(mac) = sender_mac {
            let key = (nic, sender);
            if answered && !self.entries.contains_key(&key) {
                self.learn(now, key, out);
            }
            if answered || self.entries.contains_key(&key) {
                let said = Said { mac, solicited: false, overrides: true, asks: answered };
                self.heard(now, key, said, out);
            }
        }
        if let Some(mac) = self.owned.nic(nic).map(|nic| nic.mac).filter(|_| answered) {
            self.counters.answered += 1;
            let frame = message::reply(Speaker { mac, address: target }, sender, to);
            out.push(Output::Transmit { nic, frame });
        }
    }

    /// Takes in a host that asks for the director, as far as there is room: it will hear from the director next (RFC 826).
    fn learn(&mut self, now: Instant, key: Key, out: &mut Vec<Output<P>>) {
        let (nic, sender) = key;
        if !self.owned.on_link(nic, sender) {
            return self.counters.refuse(Refused::OffLink);
        }
        // Who came a moment ago stays, else each asker of a flood would be published, and its end too.
        if self.index.is_full(nic) {
            let settled = self.index.gives_way(nic).filter(|(since, _)| *since + CHANGE_INTERVAL <= now);
            let Some((_, oldest)) = settled else {
                self.counters.table_full += 1;
                return self.counters.refuse(Refused::Full);
            };
            self.evict(oldest, out);
        }
        self.add(key, Entry::new(now, None));
    }

    /// Another one than `keep` gives way where a NIC has more strangers than it may have: who answered is not kept out by who did not, nor by
    /// who is not used.
    pub(super) fn make_room(&mut self, nic: NicId, keep: Option<Key>, out: &mut Vec<Output<P>>) {
        while self.index.is_too_full(nic) {
            match self.index.used_least(nic) {
                Some(key) if keep != Some(key) => self.evict(key, out),
                Some(_) | None => break,
            }
        }
    }

    /// Gives up one of those that were asked and had their time, so that another one can be asked; false when none had.
    fn give_one_up(&mut self, now: Instant, nic: NicId, out: &mut Vec<Output<P>>) -> bool {
        let given_up = self.index.had_its_time(now, nic);
        if let Some(key) = given_up {
            self.evict(key, out);
        }
        given_up.is_some()
    }

    /// Drops a packet of those that had the longest time to answer; false when none waits for a stranger that was asked.
    fn drop_oldest_packet(&mut self) -> bool {
        let waits = |key: &Key| self.entries.get(key).is_some_and(|entry| !entry.waiting.is_empty());
        let Some(key) = self.index.asked().find(waits) else { return false };
        self.counters.waiting_full += 1;
        self.with_entry(key, |entry| entry.waiting.pop_front()).is_some()
    }

    fn evict(&mut self, key: Key, out: &mut Vec<Output<P>>) {
        self.counters.evicted += 1;
        self.forget(key, out);
    }

    /// Something was heard about a neighbour; only those in the table matter.
    fn heard(&mut self, now: Instant, key: Key, said: Said, out: &mut Vec<Output<P>>) {
        let holds = self.holds();
        match self.with_entry(key, |entry| entry.hear(now, said, holds)) {
            None => self.counters.refuse(Refused::Unknown),
            Some(heard) => self.follow(key, heard, out),
        }
    }

    /// How long an answer holds: the more there are that are asked now and then, the longer.
    fn holds(&self) -> Duration {
        let asked = self.index.confirmed_again() as u32;
        REACHABLE.max(Duration::from_secs(1) * asked / CONFIRMATIONS_PER_SECOND_MAX)
    }

    /// After which time who did not answer is asked again.
    fn again(&self, asked: u32) -> Duration {
        if asked < PROBES_MAX {
            return RETRANSMIT;
        }
        RETRANSMIT.max(Duration::from_secs(1) * self.index.silent() as u32 / SILENT_PER_SECOND_MAX)
    }

    /// Does what follows from what was heard.
    fn follow(&mut self, key: Key, heard: Heard, out: &mut Vec<Output<P>>) {
        let (nic, address) = key;
        let Some((Some(mac), named)) = self.entries.get(&key).map(|entry| (entry.mac(), entry.named)) else {
            if let Heard::Refused(refused) = heard {
                self.counters.refuse(refused);
            }
            return;
        };
        match heard {
            Heard::Same | Heard::Waiting => {}
            Heard::Refused(refused) => self.counters.refuse(refused),
            Heard::Disputed { other } => {
                self.counters.refuse(Refused::Unasked);
                out.push(Output::Event(Event::Disputed { nic, address, mac, other }));
            }
            Heard::New { old } => {
                out.push(Output::Change(Change { nic, address, mac: Some(mac) }));
                match old {
                    Some(from) => {
                        out.push(Output::Event(Event::MacChanged { nic, address, from, to: mac }));
                    }
                    None if named.is_some() => {
                        out.push(Output::Event(Event::Resolved { nic, address, mac }));
                    }
                    None => {}
                }
            }
        }
        let released = self.with_entry(key, |entry| std::mem::take(&mut entry.waiting)).unwrap_or_default();
        out.extend(released.into_iter().map(Output::Release));
        self.make_room(nic, Some(key), out);
    }

    /// An entry's time is up: decide, ask, or give up.
    fn due(&mut self, now: Instant, key: Key, out: &mut Vec<Output<P>>) {
        let (nic, address) = key;
        let Some(speaker) = self.owned.speaker(nic, address) else { return self.forget(key, out) };
        let holds = self.holds();
        if let Some(heard) = self.with_entry(key, |entry| entry.decide(now, holds)).flatten() {
            return self.follow(key, heard, out);
        }
        let Some(entry) = self.entries.get(&key) else { return };
        let (asked, mac) = match entry.state {
            State::Incomplete { asked } => (asked, None),
            State::Reachable { mac } | State::Stale { mac } => (0, Some(mac)),
            State::Probe { mac, asked } => (asked, Some(mac)),
            State::Static { .. } => return,
        };
        if asked >= PROBES_MAX {
            let named = entry.named;
            self.give_up_waiting(key, out);
            if named.is_none() {
                return self.forget(key, out);
            }
            self.silent(now, key, asked, mac, out);
        }
        let again = self.again(asked);
        let at = self.with_entry(key, |entry| {
            let at = entry.to_ask();
            entry.asked(now, again);
            at
        });
        self.counters.requests += 1;
        out.push(Output::Transmit { nic, frame: message::request(speaker, address, at.flatten()) });
    }

    /// A neighbour does not answer: the senders of what waits for it are told.
    fn give_up_waiting(&mut self, key: Key, out: &mut Vec<Output<P>>) {
        let waiting = self.with_entry(key, |entry| std::mem::take(&mut entry.waiting)).unwrap_or_default();
        self.counters.unresolved += waiting.len() as u64;
        out.extend(waiting.into_iter().map(Output::Unreachable));
    }

    /// A neighbour that the configuration names does not answer.
    fn silent(&mut self, now: Instant, key: Key, asked: u32, mac: Option<Mac>, out: &mut Vec<Output<P>>) {
        let (nic, address) = key;
        let given_up = self.with_entry(key, |entry| {
            if mac.is_some() {
                entry.state = State::Incomplete { asked };
                entry.since = now;
                entry.asked_first = Some(now);
            }
            std::mem::replace(&mut entry.told_silent, true)
        });
        let Some(told) = given_up else { return };
        if mac.is_some() {
            out.push(Output::Change(Change { nic, address, mac: None }));
        }
        if !told {
            out.push(Output::Event(Event::Silent { nic, address }));
        }
    }

    /// Changes an entry; none when there is no such one.
    pub(super) fn with_entry<T>(&mut self, key: Key, change: impl FnOnce(&mut Entry<P>) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&key)?;
        let before = Marks::of(entry);
        let result = change(entry);
        let after = Marks::of(entry);
        if before != after {
            self.index.remove(key, before);
            self.index.add(key, after);
        }
        Some(result)
    }

    pub(super) fn add(&mut self, key: Key, entry: Entry<P>) {
        self.index.add(key, Marks::of(&entry));
        self.entries.insert(key, entry);
    }

    pub(super) fn forget(&mut self, key: Key, out: &mut Vec<Output<P>>) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.index.remove(key, Marks::of(&entry));
        self.counters.unresolved += entry.waiting.len() as u64;
        if entry.mac().is_some() && !entry.is_static() {
            out.push(Output::Change(Change { nic: key.0, address: key.1, mac: None }));
        }
    }

    /// Another host claims an address of the director. One that uses it, not only asks for it, is answered with an announcement
    /// (RFC 5227, 2.4), except about the VIPs of virtual routers, which VRRP sees to.
    fn conflict(&mut self, now: Instant, key: Key, other: Mac, uses: bool, out: &mut Vec<Output<P>>) {
        self.counters.refuse(Refused::Claim);
        let entries = &self.entries;
        let cause = || {
            let known =
                entries.iter().filter(|((nic, _), entry)| *nic == key.0 && entry.mac() == Some(other));
            let named = known.filter_map(|((_, address), entry)| Some((entry.named?, *address)));
            let named =
                named.min_by_key(|(named, address)| (address.is_ipv4() != key.1.is_ipv4(), *named, *address));
            match (named, vrid(other)) {
                (Some((named, address)), _) => Cause::Neighbour(named, address),
                (None, Some(vrid)) => Cause::VirtualRouter(vrid),
                (None, None) => Cause::Stranger,
            }
        };
        let is_it = |vip: &Vip| vip.nic == Some(key.0) && vip.address == key.1;
        let by_vrrp = self.owned.vips().iter().any(is_it);
        let patience = self.partners.get(&(key.0, other)).filter(|_| by_vrrp).copied().unwrap_or_default();
        let Some(conflict) = self.conflicts.notice(now, key, (other, patience), cause) else { return };
        out.push(Output::Event(Event::Conflict(conflict)));
        let answers = self.owned.answers(key.0, key.1);
        if uses && answers && !by_vrrp {
            self.announcements.insert((now, key), 1);
        }
    }
}

/// The unspecified address of the same family.
const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
