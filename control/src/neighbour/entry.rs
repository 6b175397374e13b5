//! One neighbour: what is known of it, when to ask again, and the packets that wait for it.

use std::collections::VecDeque;
use std::time::Instant;

use shunt_dataplane::id::Mac;

use super::{CHANGE_INTERVAL, REACHABLE, RETRANSMIT, UNCONFIRMED, WAITING_PER_NEIGHBOUR_MAX};

/// How sure the director is of a neighbour. A simpler form of RFC 4861, 7.3.2: workers do not tell whether a
/// neighbour is in use, so each one is asked again when its time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No MAC; asked so many times.
    Incomplete { asked: u32 },
    /// The MAC holds until the entry is due.
    Known { mac: Mac },
    /// The MAC held, it is being asked again, so many times without an answer.
    Probing { mac: Mac, asked: u32 },
}

/// A neighbour and the packets that wait for its MAC.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) state: State,
    /// When something has to be done about it.
    pub(super) due: Instant,
    /// Named by the configuration: kept resolved always.
    pub(super) wanted: bool,
    /// Since when the MAC is what it is.
    pub(super) since: Instant,
    /// It was told that it does not answer.
    pub(super) told_silent: bool,
    pub(super) waiting: VecDeque<P>,
}

impl<P> Entry<P> {
    pub(super) fn new(now: Instant, wanted: bool) -> Self {
        Self {
            state: State::Incomplete { asked: 0 },
            due: now,
            wanted,
            since: now,
            told_silent: false,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        match self.state {
            State::Incomplete { .. } => None,
            State::Known { mac } | State::Probing { mac, .. } => Some(mac),
        }
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

    /// Counts a question that was sent.
    pub(super) fn asked(&mut self, now: Instant) {
        match &mut self.state {
            State::Incomplete { asked } | State::Probing { asked, .. } => *asked = asked.saturating_add(1),
            State::Known { mac } => self.state = State::Probing { mac: *mac, asked: 1 },
        }
        self.due = now + RETRANSMIT;
    }

    /// Takes a MAC that was heard. `confirmed`: as the answer to a question; `overrides`: it may replace another.
    pub(super) fn hear(&mut self, now: Instant, mac: Mac, confirmed: bool, overrides: bool) -> Heard {
        let old = self.mac();
        if old.is_some_and(|from| from != mac) {
            if !overrides {
                // RFC 4861, 7.2.5: the old MAC is in doubt; ask it.
                if matches!(self.state, State::Known { .. }) {
                    self.due = now;
                }
                return Heard::Ignored;
            }
            let settled = self.since + CHANGE_INTERVAL;
            if now < settled {
                self.due = self.due.min(settled);
                return Heard::Ignored;
            }
        }
        if confirmed {
            self.state = State::Known { mac };
            self.due = now + REACHABLE;
        } else if old.is_none() {
            self.state = State::Known { mac };
            self.due = now + UNCONFIRMED;
        } else if old != Some(mac) {
            self.state = State::Known { mac };
            self.due = now;
        }
        self.told_silent = false;
        match old {
            Some(from) if from == mac => Heard::Same,
            old => {
                self.since = now;
                Heard::New { old }
            }
        }
    }
}

/// What a MAC that was heard means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The one known before.
    Same,
    /// Another one than before.
    New { old: Option<Mac> },
    /// It may not replace the one known.
    Ignored,
}
