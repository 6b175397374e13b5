//! Which check is due, and what the results mean.
//!
//! Targets, results and `now` go in; checks to start and changes of state come out. A check that runs is not started
//! again, at most [`CHECKS_RUNNING_MAX`] run at once, and checks that begin together begin spread, which they stay
//! since each keeps its own beat.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::check::Failure;
use super::judge::{Judge, Opinion};
use super::{CHECKS_RUNNING_MAX, CHECKS_SPACING, Check, CheckKind, RealKey, Target};

/// A real server came up or went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: RealKey,
    /// Whether it is up now.
    pub up: bool,
    /// Why, in words for an operator.
    pub reason: String,
    /// When.
    pub at: Instant,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.up { "up" } else { "down" };
        write!(
            f,
            "real {} of {} {} is {state}: {}",
            self.key.address, self.key.protocol, self.key.listen, self.reason
        )
    }
}

/// A check to be started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Of this real server.
    pub key: RealKey,
    /// Comes back with the result.
    pub serial: Serial,
    /// What to ask.
    pub check: Check,
}

/// Tells the result of a check that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial(u64);

/// A real server's health as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub key: RealKey,
    /// Whether it is up.
    pub up: bool,
    /// Since when it is what it is.
    pub since: Instant,
    /// What the last check gave, in words; none before the first.
    pub last: Option<String>,
    /// Results in a row that speak against its state.
    pub against: u8,
}

#[derive(Debug)]
struct Entry {
    check: Check,
    judge: Judge,
    since: Instant,
    last: Option<String>,
    against: u8,
    due: Instant,
    running: Option<Serial>,
}

/// The checks of all real servers.
#[derive(Debug, Default)]
pub struct Machine {
    entries: HashMap<RealKey, Entry>,
    /// Checks that wait for their time.
    due: BTreeSet<(Instant, RealKey)>,
    running: usize,
    serial: u64,
}

impl Machine {
    /// Checks these from now on. Whoever stays as it is keeps its state, its beat and its doubts; whoever is checked
    /// differently keeps its state; whoever is new counts as up. Of two targets with one key the last one holds.
    pub fn set_targets(&mut self, now: Instant, targets: Vec<Target>) {
        let mut old = std::mem::take(&mut self.entries);
        self.due.clear();
        let mut changed = Vec::new();
        for Target { key, check } in targets {
            match old.remove(&key) {
                Some(entry) if entry.check == check => {
                    self.entries.insert(key, entry);
                }
                before => changed.push((key, check, before)),
            }
        }
        let count = u32::try_from(changed.len()).unwrap_or(u32::MAX).max(1);
        for (place, (key, check, before)) in changed.into_iter().enumerate() {
            let spacing = CHECKS_SPACING.min(check.interval / count);
            let judge = match &before {
                Some(entry) => entry.judge.with(check.fall, check.rise),
                None => Judge::new(check.fall, check.rise),
            };
            let (since, last) = before.map_or((now, None), |entry| (entry.since, entry.last));
            let due = now + spacing * place as u32;
            self.entries.insert(key, Entry { check, judge, since, last, against: 0, due, running: None });
        }
        // Results of checks that run for entries that are gone or new will not be recognised.
        self.running = self.entries.values().filter(|entry| entry.running.is_some()).count();
        let waiting = self.entries.iter().filter(|(_, entry)| entry.running.is_none());
        self.due = waiting.map(|(key, entry)| (entry.due, *key)).collect();
    }

    /// The checks to start now.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Start>) {
        while let Some(&(due, key)) = self.due.first() {
            if due > now || self.running >= CHECKS_RUNNING_MAX {
                break;
            }
            self.due.pop_first();
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            self.serial += 1;
            let serial = Serial(self.serial);
            entry.running = Some(serial);
            entry.due = next_beat(entry.due, entry.check.interval, now);
            self.running += 1;
            out.push(Start { key, serial, check: entry.check.clone() });
        }
    }

    /// A check ended. Says so when that changes the real server's state.
    pub fn result(
        &mut self,
        now: Instant,
        key: RealKey,
        serial: Serial,
        result: Result<(), Failure>,
    ) -> Option<Change> {
        let entry = self.entries.get_mut(&key).filter(|entry| entry.running == Some(serial))?;
        entry.running = None;
        self.running -= 1;
        self.due.insert((entry.due, key));
        let words = match &result {
            Ok(()) => match &entry.check.kind {
                CheckKind::Tcp => "connection opens".to_owned(),
                CheckKind::Http { path, .. } => format!("GET {path} succeeds"),
            },
            Err(failure) => failure.to_string(),
        };
        let opinion = entry.judge.hear(result.is_ok());
        entry.against = if let Opinion::Doubted(count) = opinion { count } else { 0 };
        entry.last = Some(words.clone());
        let Opinion::Turned(up) = opinion else { return None };
        entry.since = now;
        let count = if up { entry.check.rise } else { entry.check.fall }.max(1);
        let reason = if count > 1 { format!("{words} ({count} times in a row)") } else { words };
        Some(Change { key, up, reason, at: now })
    }

    /// When [`Machine::tick`] has something to do next; none before a result arrives when enough checks run.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.running >= CHECKS_RUNNING_MAX { None } else { self.due.first().map(|&(due, _)| due) }
    }

    /// All real servers that are checked, in the order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let listed = |(key, entry): (&RealKey, &Entry)| Listed {
            key: *key,
            up: entry.judge.is_up(),
            since: entry.since,
            last: entry.last.clone(),
            against: entry.against,
        };
        let mut list: Vec<Listed> = self.entries.iter().map(listed).collect();
        list.sort_by_key(|listed| listed.key);
        list
    }
}

/// The beat after the one that was due, or the next one to come when that is past as well.
fn next_beat(due: Instant, interval: Duration, now: Instant) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
