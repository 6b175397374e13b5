//! One virtual router: its state and its timers (RFC 9568, 6; RFC 3768, 6); what it makes of adverts is in [`heard`].
//!
//! ```text
//!              all that it needs is there            silence, or the master resigned or is to be preempted
//!   ┌─────────┐ ────────────────────────▶ ┌──────────┐ ────────────────────────────────────▶ ┌──────────┐
//!   │  Fault  │                           │  Backup  │                                       │  Master  │
//!   └─────────┘ ◀──────────────────────── └──────────┘ ◀──────────────────────────────────── └──────────┘
//!        ▲         link or check fails                      an advert of a higher priority        │
//!        └─────────────────────────────── link or check fails ───────────────────────────────────┘
//! ```
//!
//! An owner (priority 255) does not wait in Backup. The machine moves virtual routers, since those of a group move together;
//! this file says when one wants to.

mod heard;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::announcements::Announcements;
use super::lateness::Lateness;
use super::message::{self, Envelope};
use super::output::{Counters, Due, Event, Listed, Output, PeerListed, Reason, To};
use super::rival::Rivalry;
use super::trailer::{self, TimeOfDay};
use super::{LISTEN_PAUSE, PRIORITY_STOP};
use heard::{Complaints, Peer};
use shunt_model::vrrp::Instance;
use shunt_model::vrrp::PRIORITY_OWNER;
use shunt_model::vrrp::Role;
use shunt_model::vrrp::{Subject, Told};

/// Intervals of a master without an advert after which the best of the others may have taken over (RFC 9568, 6.1).
const MISSED: u32 = 3;

/// A virtual router.
#[derive(Clone, Debug)]
pub(super) struct Router {
    pub settings: Instance,
    /// With what it tracks.
    pub priority: u8,
    vips: Vec<IpAddr>,
    state: State,
    since: Instant,
    reason: Reason,
    /// Nothing is taken over before.
    grace: Instant,
    peers: BTreeMap<IpAddr, Peer>,
    /// Adverts refused, by their words.
    refused: BTreeMap<&'static str, u64>,
    complaints: Complaints,
    rivalry: Rivalry,
    announcements: Announcements,
    identification: u16,
    sequence: u32,
    /// The sequence number of the last trailer.
    trailer: Option<u64>,
    pub time_of_day: TimeOfDay,
    sent: u64,
    /// When it sent the last one.
    spoke: Option<Instant>,
    longest_gap: Duration,
    lateness: Lateness,
    masterships: u64,
}

#[derive(Clone, Debug)]
enum State {
    Fault,
    Backup(Backup),
    Master(Master),
}

#[derive(Clone, Debug)]
struct Backup {
    /// From when on silence counts.
    heard: Instant,
    /// The master's, as it told it; none before it was heard.
    interval: Option<Duration>,
    /// The master and its priority.
    master: Option<(IpAddr, u8)>,
    /// It said that it ends.
    resigned: bool,
    /// When one of lower priority has been master for long enough.
    preempt: Option<Instant>,
    /// Wants to be master; others of its group do not.
    waits: bool,
    /// Silence has lasted long enough, and what lies in the workers' queues was not heard yet: when to look again.
    listens: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Master {
    due: Instant,
    sent: Instant,
    /// The interval that the advert sent last told.
    interval: Duration,
    /// A rival was answered since the last advert that was due: two that do not hear each other must not make a storm.
    answered: bool,
}

impl Router {
    /// One that has not begun.
    pub(super) fn new(now: Instant, settings: Instance) -> Self {
        Self {
            priority: settings.priority,
            vips: settings.vips().collect(),
            state: State::Fault,
            since: now,
            reason: Reason::NotStarted,
            grace: now + settings.start_grace,
            peers: BTreeMap::new(),
            refused: BTreeMap::new(),
            complaints: Complaints::default(),
            rivalry: Rivalry::default(),
            announcements: Announcements::default(),
            identification: 0,
            sequence: 0,
            trailer: None,
            time_of_day: TimeOfDay::default(),
            sent: 0,
            spoke: None,
            longest_gap: Duration::ZERO,
            lateness: Lateness::default(),
            masterships: 0,
            settings,
        }
    }

    /// Its role.
    pub(super) const fn role(&self) -> Role {
        match self.state {
            State::Fault => Role::Fault,
            State::Backup(_) => Role::Backup,
            State::Master(_) => Role::Master,
        }
    }

    /// The VIPs that move with it.
    pub(super) fn vips(&self) -> &[IpAddr] {
        &self.vips
    }

    /// Adverts sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Other settings of the same virtual router.
    pub(super) fn change(&mut self, now: Instant, settings: Instance, out: &mut Vec<Output>) {
        let vips: Vec<IpAddr> = settings.vips().collect();
        let mac = |settings: &Instance| settings.virtual_mac.map(|virtual_mac| virtual_mac.mac);
        let changed = vips != self.vips || mac(&settings) != mac(&self.settings);
        let faster = settings.interval < self.settings.interval;
        (self.settings, self.vips) = (settings, vips);
        if let State::Master(master) = &mut self.state {
            if faster {
                master.due = master.due.min(now + self.settings.interval);
            }
            if changed {
                self.announcements.begin(now, &self.settings.announcing, &self.vips);
                out.push(Output::Moved);
            }
        }
    }

    /// Something that it needs fails: a master resigns.
    pub(super) fn enter_fault(&mut self, now: Instant, reason: Reason, out: &mut Vec<Output>) {
        if self.role() == Role::Fault {
            let begins = !self.has_begun();
            self.reason = reason;
            if begins {
                self.tell(out);
            }
            return;
        }
        self.resign(now, out);
        self.enter(now, State::Fault, reason, out);
    }

    /// Says that it ends, if it is master.
    pub(super) fn resign(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.role() == Role::Master {
            self.send(now, PRIORITY_STOP, out);
        }
    }

    /// Becomes a backup that listens first; where it gives way to a master, for as long as that one's interval asks for (RFC 9568, 6.4.3).
    pub(super) fn enter_backup(
        &mut self,
        now: Instant,
        master: Option<(IpAddr, u8)>,
        reason: Reason,
        out: &mut Vec<Output>,
    ) {
        let interval = master.and_then(|(who, _)| self.peers.get(&who)?.interval);
        let backup = Backup {
            heard: now,
            interval,
            master,
            resigned: false,
            preempt: None,
            waits: false,
            listens: None,
        };
        self.enter(now, State::Backup(backup), reason, out);
    }

    /// Gives the VIPs up without a word and listens for an advert: who did not run for longer than others wait is master no more.
    fn wake(&mut self, now: Instant, slept: Duration, out: &mut Vec<Output>) {
        self.enter_backup(now, None, Reason::Slept(slept), out);
        let interval = self.settings.interval;
        if let State::Backup(backup) = &mut self.state {
            // One interval and the skew are left: another master speaks meanwhile, and where there is none the VIPs are missed.
            backup.heard = now.checked_sub(2 * interval).unwrap_or(now);
        }
    }

    /// The machine was asleep and its clock, too (`CLOCK_MONOTONIC`).
    pub(super) fn slept(&mut self, now: Instant, slept: Duration, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Master(master) if slept >= MISSED * master.interval => self.wake(now, slept, out),
            // Silence counts from now on.
            State::Backup(backup) => backup.heard = now,
            State::Fault | State::Master(_) => {}
        }
    }

    /// Takes the VIPs.
    pub(super) fn enter_master(&mut self, now: Instant, reason: Reason, out: &mut Vec<Output>) {
        self.masterships += 1;
        self.send(now, self.priority, out);
        let due = now + self.settings.interval;
        self.enter(
            now,
            State::Master(Master { due, sent: now, interval: self.settings.interval, answered: false }),
            reason,
            out,
        );
        self.announcements.begin(now, &self.settings.announcing, &self.vips);
    }

    fn enter(&mut self, now: Instant, state: State, reason: Reason, out: &mut Vec<Output>) {
        let before = self.role();
        self.state = state;
        (self.since, self.reason) = (now, reason.clone());
        if before == Role::Master {
            self.announcements.end();
            out.extend(self.rivalry.end(&self.settings.name).map(Output::Event));
        }
        if (before == Role::Master) != (self.role() == Role::Master) {
            out.push(Output::Moved);
        }
        self.tell(out);
    }

    /// Tells its role.
    fn tell(&self, out: &mut Vec<Output>) {
        let (name, reason, role) = (self.settings.name.clone(), self.reason.clone(), self.role());
        let told = if reason == Reason::Stopped { Told::Stop } else { Told::Role(role) };
        let scripts = self.settings.notify.scripts(Subject::Instance(&name, self.priority), told);
        out.push(Output::Event(Event::Entered { name, role, reason, scripts }));
    }

    /// Whether the director ended it.
    pub(super) fn is_stopped(&self) -> bool {
        self.reason == Reason::Stopped
    }

    /// Whether its role is one yet.
    pub(super) fn has_begun(&self) -> bool {
        self.reason != Reason::NotStarted
    }

    /// Does what a master has to do by now; whether a backup wants more is for [`Self::wish`] to tell. True for a master that slept for
    /// too long to be one.
    pub(super) fn tick(&mut self, now: Instant, counters: &mut Counters, out: &mut Vec<Output>) -> bool {
        let State::Master(master) = &mut self.state else { return false };
        let slept = now.saturating_duration_since(master.sent);
        if slept >= MISSED * master.interval.max(self.settings.interval) {
            self.wake(now, slept, out);
            return true;
        }
        if master.due <= now {
            self.advertise(now, out);
        }
        for address in self.announcements.tick(now, &self.settings.announcing, &self.vips) {
            counters.announced += 1;
            out.push(Output::Announce { nic: self.settings.nic, address });
        }
        out.extend(self.rivalry.tick(now, &self.settings.name).map(Output::Event));
        false
    }

    /// The advert that is due.
    fn advertise(&mut self, now: Instant, out: &mut Vec<Output>) {
        let State::Master(master) = &mut self.state else { return };
        let interval = self.settings.interval;
        self.longest_gap = self.longest_gap.max(now.saturating_duration_since(master.sent));
        let due = master.due;
        // In step, unless steps were missed.
        let next = master.due + interval;
        master.due = if next > now && next <= now + interval { next } else { now + interval };
        (master.sent, master.interval, master.answered) = (now, interval, false);
        self.send(now, self.priority, out);
        if let Some(Output::Advert { due: last, .. }) = out.last_mut() {
            *last = Some(Due { router: self.settings.key(), at: due });
        }
    }

    /// One that was due left.
    pub(super) fn left(&mut self, due: Instant, at: Instant) {
        self.lateness.note(at.saturating_duration_since(due));
    }

    fn send(&mut self, now: Instant, priority: u8, out: &mut Vec<Output>) {
        let nic = self.settings.nic;
        let group = (message::group(self.settings.family()), To::Group);
        let peers = self.settings.peers.iter().map(|peer| (peer.address, To::Neighbour(peer.hop)));
        let all: Vec<_> = if self.settings.peers.is_empty() { vec![group] } else { peers.collect() };
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(hmac) = self.settings.auth.hmac() {
            let window = hmac.window(self.settings.interval);
            self.trailer = Some(trailer::next(self.trailer, self.time_of_day.at(now), window));
        }
        self.spoke = Some(now);
        for (destination, to) in all {
            self.identification = self.identification.wrapping_add(1);
            let (identification, sequence, trailer) =
                (self.identification, self.sequence, self.trailer.unwrap_or_default());
            let envelope = Envelope { identification, sequence, trailer };
            let packet = message::build(&self.settings, priority, destination, envelope);
            self.sent += 1;
            // Peers are spoken to as by any host: they may be behind a router.
            let from = self.settings.virtual_mac.filter(|mac| !mac.xmit_base && to == To::Group);
            out.push(Output::Advert { nic, to, from: from.map(|mac| mac.mac), packet, due: None });
        }
    }

    /// Why it wants to be master by now, if it does.
    ///
    /// Silence counts when all that arrived up to its end was heard; [`Self::listens`] says where that is missing.
    pub(super) fn wish(&self, now: Instant, heard_until: Option<Instant>) -> Option<Reason> {
        let State::Backup(backup) = &self.state else { return None };
        if now < self.grace {
            return None;
        }
        let preempts = backup
            .master
            .filter(|&(_, priority)| priority < self.priority && self.settings.preempt.is_some());
        match (backup.master, preempts) {
            _ if self.owns(backup) => Some(Reason::Owner),
            (_, Some((who, priority))) if backup.preempt.is_some_and(|due| due <= now) => {
                Some(Reason::Preempts(who, priority))
            }
            _ if now < self.silence(backup) => None,
            _ if !self.is_heard(backup, now, heard_until) => None,
            (Some((who, _)), _) if backup.resigned => Some(Reason::Resigned(who)),
            (Some((who, priority)), _) if preempts.is_some() && self.speaks(now, who) => {
                Some(Reason::Preempts(who, priority))
            }
            (who, _) => Some(Reason::Silence(who.map(|(who, _)| who))),
        }
    }

    /// Whether adverts up to the end of its wait would have been heard. Workers that do not run are waited for as long again.
    fn is_heard(&self, backup: &Backup, now: Instant, heard_until: Option<Instant>) -> bool {
        let silence = self.silence(backup);
        let most = silence
            + self.settings.master_down(self.priority, self.settings.master_interval(backup.interval));
        now >= most || heard_until.is_none_or(|until| until >= silence)
    }

    /// Looks whether all was heard that it waited for; false while it was not.
    pub(super) fn listens(&mut self, now: Instant, heard_until: Option<Instant>) -> bool {
        let State::Backup(backup) = &self.state else { return false };
        let over = now >= self.silence(backup).max(self.grace) && !backup.waits;
        let listens = over && !self.is_heard(backup, now, heard_until);
        if let State::Backup(backup) = &mut self.state {
            backup.listens = listens.then(|| now + LISTEN_PAUSE);
        }
        listens
    }

    /// Whether it owns the VIPs, and no other owner of a higher address is there.
    fn owns(&self, backup: &Backup) -> bool {
        let weaker = |(who, priority): (IpAddr, u8)| (priority, who) < (self.priority, self.settings.source);
        self.priority == PRIORITY_OWNER && backup.master.is_none_or(weaker)
    }

    /// Notes that others of its group do not want to be masters.
    pub(super) fn wait(&mut self) {
        if let State::Backup(backup) = &mut self.state {
            backup.waits = true;
        }
    }

    /// Whether a director was heard within two of its intervals.
    fn speaks(&self, now: Instant, who: IpAddr) -> bool {
        let within = |peer: &Peer| 2 * self.settings.master_interval(peer.interval);
        self.peers.get(&who).is_some_and(|peer| now <= peer.heard + within(peer))
    }

    /// When silence has lasted long enough.
    fn silence(&self, backup: &Backup) -> Instant {
        let wait = if backup.resigned { Instance::skew } else { Instance::master_down };
        backup.heard + wait(&self.settings, self.priority, self.settings.master_interval(backup.interval))
    }

    /// When there is something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Fault => None,
            State::Backup(backup) if backup.waits => None,
            State::Backup(backup) if self.owns(backup) => Some(self.grace.max(backup.heard)),
            State::Backup(backup) => {
                let silence = backup.listens.unwrap_or_else(|| self.silence(backup));
                Some(backup.preempt.map_or(silence, |due| due.min(silence)).max(self.grace))
            }
            State::Master(master) => {
                let more = [self.announcements.deadline(), self.rivalry.deadline()];
                more.into_iter().flatten().chain([master.due]).min()
            }
        }
    }

    /// As an operator sees it.
    pub(super) fn listed(&self) -> Listed {
        let master = match &self.state {
            State::Backup(backup) => backup.master.map(|(who, _)| who),
            State::Fault | State::Master(_) => None,
        };
        let peers = self.peers.iter().map(|(&address, peer)| PeerListed {
            address,
            priority: peer.priority,
            heard: peer.heard,
            received: peer.received,
            refused: peer.refused,
            complaint: peer.complaint,
        });
        Listed {
            name: self.settings.name.clone(),
            nic: self.settings.nic,
            vrid: self.settings.vrid,
            version: self.settings.version,
            virtual_mac: self.settings.virtual_mac.map(|virtual_mac| virtual_mac.mac),
            role: self.role(),
            since: self.since,
            reason: self.reason.clone(),
            priority: self.priority,
            master,
            peers: peers.collect(),
            split_brain: self.rivalry.split_brain(),
            refused: self.refused.iter().map(|(&word, &count)| (word, count)).collect(),
            sent: self.sent,
            longest_gap: self.longest_gap,
            lateness: self.lateness,
            masterships: self.masterships,
        }
    }
}
