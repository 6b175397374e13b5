//! One neighbour: what is known of it, when to ask again, and the packets that wait for it.
//!
//! A MAC is taken from an answer to a question of the director, and from a host that asks the director first. Whatever else
//! is heard (gratuitous ARP, unsolicited advertisements, answers nobody asked for) only makes the director ask: everybody at once,
//! so that a host that moved is followed within [`DOUBT`], and one that still answers keeps its address.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shunt_dataplane::id::Mac;

use super::output::{Named, Refused};
use super::{CHANGE_INTERVAL, CONFLICT_INTERVAL, DOUBT, PROBES_MAX, UNCONFIRMED, WAITING_PER_NEIGHBOUR_MAX};

/// How sure the director is of a neighbour. A simpler form of RFC 4861, 7.3.2: workers do not tell whether a
/// neighbour is in use, so each one is asked again when its time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No MAC; asked so many times.
    Incomplete { asked: u32 },
    /// It answered a question; the MAC holds until the entry is due.
    Reachable { mac: Mac },
    /// It asked for the director and was not asked yet; the MAC holds until the entry is due.
    Stale { mac: Mac },
    /// The MAC held, it is being asked again, so many times without an answer.
    Probe { mac: Mac, asked: u32 },
    /// The configuration says so; nothing that is heard changes it.
    Static { mac: Mac },
}

/// A neighbour and the packets that wait for its MAC.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) state: State,
    /// When something has to be done about it; without meaning in [`State::Static`].
    pub(super) due: Instant,
    /// What the configuration needs it for: kept resolved always.
    pub(super) named: Option<Named>,
    /// Since when the MAC is what it is.
    pub(super) since: Instant,
    /// When a packet needed it, or it asked for the director, last.
    pub(super) used: Instant,
    /// When it was asked first since it has no MAC.
    pub(super) asked_first: Option<Instant>,
    /// It answered a question once.
    pub(super) confirmed: bool,
    /// It was told that it does not answer.
    pub(super) told_silent: bool,
    /// Another host claims the address: the next question goes to everybody.
    pub(super) doubted: bool,
    /// Everybody was asked because of the doubt, and an answer from the MAC known so far decides.
    in_doubt: bool,
    /// Who else answered the question that went to everybody.
    rival: Option<Mac>,
    /// Before this no claim makes the director ask.
    calm: Instant,
    /// Something that does not wait here needs its first answer.
    pub(super) awaited: bool,
    pub(super) waiting: VecDeque<P>,
}

/// What was heard about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) mac: Mac,
    /// It is an answer to the director alone (RFC 4861: the solicited flag; ARP: a reply to the NIC's MAC).
    pub(super) solicited: bool,
    /// It may replace another MAC (RFC 4861: the override flag).
    pub(super) overrides: bool,
    /// The neighbour asks for the director, and will hear from it next.
    pub(super) asks: bool,
}

impl<P> Entry<P> {
    pub(super) fn new(now: Instant, named: Option<Named>) -> Self {
        Self {
            state: State::Incomplete { asked: 0 },
            due: now,
            named,
            since: now,
            used: now,
            asked_first: None,
            confirmed: false,
            told_silent: false,
            doubted: false,
            in_doubt: false,
            rival: None,
            calm: now,
            awaited: false,
            waiting: VecDeque::new(),
        }
    }

    /// One whose MAC the configuration says.
    pub(super) fn of_static(now: Instant, named: Option<Named>, mac: Mac) -> Self {
        Self { state: State::Static { mac }, ..Self::new(now, named) }
    }

    pub(super) const fn mac(&self) -> Option<Mac> {
        match self.state {
            State::Incomplete { .. } => None,
            State::Reachable { mac }
            | State::Stale { mac }
            | State::Probe { mac, .. }
            | State::Static { mac } => Some(mac),
        }
    }

    pub(super) const fn is_static(&self) -> bool {
        matches!(self.state, State::Static { .. })
    }

    /// The configuration needs it, or says what its MAC is.
    pub(super) const fn is_kept(&self) -> bool {
        self.named.is_some() || self.is_static()
    }

    /// Takes a packet to wait; returns how many that costs: 1 when the oldest had to go.
    pub(super) fn wait(&mut self, packet: P) -> usize {
        let full = self.waiting.len() >= WAITING_PER_NEIGHBOUR_MAX;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(packet);
        usize::from(full)
    }

    /// The MAC that the next question goes to; none for everybody. The last question goes to everybody, since the address may
    /// have moved to another MAC.
    pub(super) fn to_ask(&self) -> Option<Mac> {
        let asked = match self.state {
            State::Incomplete { asked } | State::Probe { asked, .. } => asked,
            State::Reachable { .. } | State::Stale { .. } | State::Static { .. } => 0,
        };
        self.mac().filter(|_| !self.doubted && asked + 1 < PROBES_MAX)
    }

    /// Counts a question that was sent; one that does not answer is asked again after `again`.
    pub(super) fn asked(&mut self, now: Instant, again: Duration) {
        self.in_doubt = std::mem::take(&mut self.doubted);
        self.rival = None;
        self.due = now + if self.in_doubt { DOUBT } else { again };
        if self.in_doubt {
            self.calm = self.calm.max(now + CHANGE_INTERVAL);
        }
        if self.mac().is_none() {
            self.asked_first.get_or_insert(now);
        }
        match &mut self.state {
            State::Incomplete { asked } | State::Probe { asked, .. } => *asked = asked.saturating_add(1),
            State::Reachable { mac } | State::Stale { mac } => {
                self.state = State::Probe { mac: *mac, asked: 1 }
            }
            State::Static { .. } => {}
        }
    }

    /// Takes what was heard; an answer holds for so long.
    pub(super) fn hear(&mut self, now: Instant, said: Said, holds: Duration) -> Heard {
        let Said { mac, solicited, overrides, asks } = said;
        if asks {
            self.used = now;
        }
        match self.state {
            State::Static { mac: known } if known == mac => Heard::Same,
            State::Static { .. } => Heard::Refused(Refused::Static),
            State::Incomplete { asked } if solicited && asked > 0 => self.answered(now, mac, holds),
            // RFC 826: whoever asks for the director will hear from it next.
            State::Incomplete { asked: 0 } if asks && self.named.is_none() => {
                self.state = State::Stale { mac };
                self.asked_first = None;
                (self.since, self.due, self.told_silent) = (now, now + UNCONFIRMED, false);
                Heard::New { old: None }
            }
            State::Incomplete { .. } => {
                self.ask_soon(now);
                Heard::Refused(Refused::Unasked)
            }
            State::Probe { mac: known, .. } if known == mac && solicited => {
                let rival = self.rival.take().filter(|_| self.in_doubt);
                self.answered(now, mac, holds);
                rival.map_or(Heard::Same, |other| self.disputed(now, other))
            }
            _ if self.mac() == Some(mac) => Heard::Same,
            State::Probe { asked, .. } if solicited && overrides && asked >= PROBES_MAX && !self.in_doubt => {
                self.answered(now, mac, holds)
            }
            State::Probe { .. } if solicited && overrides && self.in_doubt => {
                self.rival.get_or_insert(mac);
                Heard::Waiting
            }
            // Both answered the question that went to everybody, the MAC known so far first.
            State::Reachable { .. } if solicited && self.in_doubt && now < self.calm => {
                self.disputed(now, mac)
            }
            // The question that settles it is under way.
            State::Probe { .. } if self.in_doubt => Heard::Refused(Refused::Unasked),
            State::Reachable { .. } | State::Stale { .. } | State::Probe { .. } => {
                self.doubted = true;
                self.ask_soon(now);
                Heard::Refused(Refused::Unasked)
            }
        }
    }

    /// The time to wait for the known MAC is over: another one that answered has the address from now on.
    pub(super) fn decide(&mut self, now: Instant, holds: Duration) -> Option<Heard> {
        let rival = self.rival.take().filter(|_| self.in_doubt)?;
        Some(self.answered(now, rival, holds))
    }

    /// An answer to a question of the director.
    fn answered(&mut self, now: Instant, mac: Mac, holds: Duration) -> Heard {
        let old = self.mac();
        self.state = State::Reachable { mac };
        self.due = now + holds;
        (self.asked_first, self.awaited) = (None, false);
        (self.confirmed, self.told_silent, self.doubted) = (true, false, false);
        if old == Some(mac) {
            return Heard::Same;
        }
        self.in_doubt = false;
        (self.since, self.calm) = (now, now + CHANGE_INTERVAL);
        Heard::New { old }
    }

    fn disputed(&mut self, now: Instant, other: Mac) -> Heard {
        self.in_doubt = false;
        self.calm = now + CONFLICT_INTERVAL;
        Heard::Disputed { other }
    }

    /// Another host may have the address by now: everybody is asked at once, and the MAC known so far holds until somebody answers.
    /// What was asked before, when nobody could hear it, does not count.
    pub(super) fn doubt(&mut self, now: Instant) {
        if !self.is_static() {
            if let State::Incomplete { asked } | State::Probe { asked, .. } = &mut self.state {
                *asked = 0;
            }
            self.doubted = self.mac().is_some();
            (self.due, self.calm) = (now, now);
        }
    }

    /// Something was heard that a question has to settle: now, or as soon as such questions are allowed again.
    fn ask_soon(&mut self, now: Instant) {
        self.due = self.due.min(self.calm.max(now));
        if self.calm <= now {
            self.calm = now + CHANGE_INTERVAL;
        }
    }
}

/// What it means that something was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The MAC known before.
    Same,
    /// Another one than before.
    New { old: Option<Mac> },
    /// Another one; the one known before has a moment left to answer.
    Waiting,
    /// It changes nothing.
    Refused(Refused),
    /// Both the MAC known before and this one answer.
    Disputed { other: Mac },
}
