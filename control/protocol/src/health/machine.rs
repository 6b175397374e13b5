//! Which check is due, and what the results mean.
//!
//! Targets, results and `now` go in; checks to start and changes of state come out. A check that runs is not started
//! again, at most [`CHECKS_RUNNING_MAX`] run at once, and checks that begin together begin spread, which they stay
//! since each keeps its own beat.
//!
//! Real servers of one group and address, each of another service, make a check that they have in common once: the first of them makes it and all
//! hear what it gave.
//!
//! A real server is up while all its checks say so, and not too much of what workers saw of it failed. When it comes back its weight may grow in [`RAMP_STEPS`] steps.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use shunt_model::health::{Check, Failure, RealKey, Success, Verdict};

use super::judge::{Judge, Opinion, Rules};
use super::passive::{Seen, Watch};
use super::{CHECKS_RUNNING_MAX, CHECKS_SPACING, Target};

/// Steps in which a weight grows after a return.
pub const RAMP_STEPS: u32 = 10;

/// What holds for a real server changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: RealKey,
    /// What holds now.
    pub verdict: Verdict,
    /// Whether it came up or went down by this.
    pub turned: bool,
    /// Why, in words for an operator.
    pub reason: String,
    /// When.
    pub at: Instant,
}

impl Change {
    /// The line of the log: from what to what, and why.
    #[must_use]
    pub fn line(&self, before: Verdict) -> String {
        if self.turned {
            return self.to_string();
        }
        let Self { key, verdict, reason, .. } = self;
        format!("{key}: weight {before} -> {verdict}: {reason}")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, verdict, .. } = self;
        key.fmt(f)?;
        match (self.turned, verdict.up) {
            (true, true) => f.write_str(" is up")?,
            (true, false) => f.write_str(" is down")?,
            (false, _) => {
                f.write_str(" has ")?;
                match verdict.weight {
                    Some(weight) => write!(f, "the weight {weight}")?,
                    None => f.write_str("its weight")?,
                }
                if verdict.shift != 0 {
                    write!(f, " {:+}", verdict.shift)?;
                }
                write!(f, ", {} % of it", verdict.share)?;
            }
        }
        write!(f, ": {}", self.reason)
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
    pub check: Arc<Check>,
}

/// Tells the result of a check that nobody waits for any more, and which of a real server's checks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    number: u64,
    place: u16,
}

/// A real server's health as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub key: RealKey,
    /// What holds.
    pub verdict: Verdict,
    /// Since when it is up or down.
    pub since: Instant,
    /// Whether checks are made of it.
    pub checked: bool,
    /// What the last check gave that speaks for this state, or what workers saw, in words; none before the first check.
    pub last: Option<String>,
    /// Results in a row that speak against its state, of the check that has most of them.
    pub against: u8,
}

/// One check of a real server.
#[derive(Debug)]
struct Entry {
    check: Arc<Check>,
    judge: Judge,
    /// What the last check gave.
    last: Option<Result<Success, Failure>>,
    /// What the last good one said about the weight.
    said: Success,
    against: u8,
    due: Instant,
    running: Option<u64>,
    /// True until its first time is chosen.
    fresh: bool,
    /// Another real server of the group makes it.
    follows: bool,
}

/// Why something changed.
#[derive(Clone, Copy)]
enum Because {
    /// This check said so, and so many before it.
    Check(u16, u8),
    /// What workers saw.
    Passive,
    /// Time went by since it came back.
    Growth,
}

/// A check of a real server, by its place among them.
type Place = (RealKey, u16);

fn entry_of(reals: &HashMap<RealKey, Real>, (key, place): Place) -> Option<&Entry> {
    reals.get(&key)?.entries.get(usize::from(place))
}

#[derive(Debug)]
struct Real {
    entries: Vec<Entry>,
    /// What workers saw, where that counts.
    watch: Option<Watch>,
    slow_start: Duration,
    group: Option<Arc<str>>,
    told: Verdict,
    since: Instant,
    /// When it came back, while its weight still grows.
    returned: Option<Instant>,
}

/// The checks of all real servers.
#[derive(Debug)]
pub struct Machine {
    reals: HashMap<RealKey, Real>,
    /// Checks that wait for their time.
    due: BTreeSet<(Instant, RealKey, u16)>,
    /// Weights that grow next.
    ramps: BTreeSet<(Instant, RealKey)>,
    /// Who hears what a check of another one gives.
    followers: HashMap<Place, Vec<Place>>,
    running: usize,
    /// Checks that may run at once.
    most: usize,
    serial: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            reals: HashMap::new(),
            due: BTreeSet::new(),
            ramps: BTreeSet::new(),
            followers: HashMap::new(),
            running: 0,
            most: CHECKS_RUNNING_MAX,
            serial: 0,
        }
    }
}

impl Machine {
    /// Checks these from now on. A check that stays as it is keeps its opinion, its beat and its doubts; one that
    /// changes keeps its opinion; a new one thinks that its real server is up, unless that begins down. Of two targets with
    /// one key the last one holds.
    pub fn set_targets(&mut self, now: Instant, targets: Vec<Target>) {
        let mut old = std::mem::take(&mut self.reals);
        let mut keys = Vec::with_capacity(targets.len());
        for target in targets {
            let before = old.remove(&target.key);
            keys.push(target.key);
            self.reals.insert(target.key, Real::new(now, target, before));
        }
        self.share(&keys);
        let mut new = Vec::new();
        for key in keys {
            let entries = self.reals.get(&key).into_iter().flat_map(|real| real.entries.iter().enumerate());
            let fresh = entries.filter(|(_, entry)| entry.fresh);
            new.extend(fresh.map(|(place, entry)| (key, place, entry.check.clone())));
        }
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX).max(1);
        for (number, (key, place, check)) in new.into_iter().enumerate() {
            let spacing = match check.warmup {
                Duration::ZERO => CHECKS_SPACING.min(check.interval / count),
                warmup => warmup / count,
            };
            let Some(entry) = self.reals.get_mut(&key).and_then(|real| real.entries.get_mut(place)) else {
                continue;
            };
            (entry.due, entry.fresh) = (now + spacing * number as u32, false);
        }
        // Results of checks that run for entries that are gone or new will not be recognised.
        (self.running, self.due) = (0, BTreeSet::new());
        for (key, real) in &self.reals {
            for (place, entry) in real.entries.iter().enumerate() {
                match entry.running {
                    Some(_) => self.running += 1,
                    None if entry.follows => {}
                    None => drop(self.due.insert((entry.due, *key, place as u16))),
                }
            }
        }
        self.ramps = self.reals.iter().filter_map(|(key, real)| Some((real.next_step()?, *key))).collect();
    }

    /// Finds checks that are the same within a group: the first one of these real servers makes it. One that is new takes over what that
    /// one knows.
    fn share(&mut self, keys: &[RealKey]) {
        self.followers.clear();
        let mut makers: HashMap<_, Vec<(Place, Arc<Check>)>> = HashMap::new();
        for &key in keys {
            let Some(real) = self.reals.get_mut(&key) else { continue };
            let Some(group) = real.group.clone() else { continue };
            for place in 0..real.entries.len() {
                let check = real.entries[place].check.clone();
                let own = (key, place as u16);
                let known = makers.entry((group.clone(), key.address, check.to)).or_default();
                match known.iter().find(|(maker, made)| *made == check && maker.0 != key) {
                    None => known.push((own, check)),
                    Some(&(maker, _)) => self.followers.entry(maker).or_default().push(own),
                }
            }
        }
        for (&maker, followers) in &self.followers {
            let Some(made) = entry_of(&self.reals, maker) else { continue };
            let (judge, last, said, fresh) = (made.judge.clone(), made.last.clone(), made.said, made.fresh);
            for &(key, place) in followers {
                let real = self.reals.get_mut(&key);
                let Some(entry) = real.and_then(|real| real.entries.get_mut(usize::from(place))) else {
                    continue;
                };
                entry.follows = true;
                if std::mem::replace(&mut entry.fresh, false) && !fresh {
                    (entry.judge, entry.last, entry.said) = (judge.clone(), last.clone(), said);
                }
            }
        }
    }

    /// So many checks may run at once from now on, at least one and at most [`CHECKS_RUNNING_MAX`]; those that run go on.
    pub fn set_most(&mut self, most: usize) {
        self.most = most.clamp(1, CHECKS_RUNNING_MAX);
    }

    /// Checks that run.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.running
    }

    /// The checks to start now, and what changed without one.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Start>) -> Vec<Change> {
        while let Some(&(due, key, place)) = self.due.first() {
            if due > now || self.running >= self.most {
                break;
            }
            self.due.pop_first();
            let entry = self.reals.get_mut(&key).and_then(|real| real.entries.get_mut(usize::from(place)));
            let Some(entry) = entry else { continue };
            self.serial += 1;
            entry.running = Some(self.serial);
            entry.due = next_beat(entry.due, entry.check.interval, now);
            self.running += 1;
            let serial = Serial { number: self.serial, place };
            out.push(Start { key, serial, check: entry.check.clone() });
        }
        let mut grown = Vec::new();
        while let Some(&(at, key)) = self.ramps.first() {
            if at > now {
                break;
            }
            self.ramps.pop_first();
            let Some(real) = self.reals.get_mut(&key) else { continue };
            grown.extend(real.tell(now, key, Because::Growth));
            self.ramps.extend(real.next_step().map(|next| (next, key)));
        }
        grown
    }

    /// A check ended. Says what changed by that for the real server, and for those that share the check.
    pub fn result(
        &mut self,
        now: Instant,
        key: RealKey,
        serial: Serial,
        result: Result<Success, Failure>,
    ) -> Vec<Change> {
        let own = (key, serial.place);
        let real = self.reals.get_mut(&key);
        let entry = real.and_then(|real| real.entries.get_mut(usize::from(serial.place)));
        let Some(entry) = entry.filter(|entry| entry.running == Some(serial.number)) else {
            return Vec::new();
        };
        entry.running = None;
        self.running -= 1;
        let lacks = result.as_ref().is_err_and(|failure| failure.lack().is_some());
        let follows = entry.follows;
        // Where it lacked something it says nothing: the next beat asks again.
        let mut changes = Vec::new();
        if !lacks {
            for place in std::iter::once(own).chain(self.followers.get(&own).cloned().unwrap_or_default()) {
                changes.extend(self.hear(now, place, result.clone()));
            }
        }
        if let Some(entry) = entry_of(&self.reals, own).filter(|_| !follows) {
            self.due.insert((entry.due, key, serial.place));
        }
        changes
    }

    /// What a check gave, for one that waits for it.
    fn hear(
        &mut self,
        now: Instant,
        (key, place): Place,
        result: Result<Success, Failure>,
    ) -> Option<Change> {
        let real = self.reals.get_mut(&key)?;
        let entry = real.entries.get_mut(usize::from(place))?;
        let opinion = entry.judge.hear(now, result.is_ok());
        entry.against = if let Opinion::Doubted(count) = opinion { count } else { 0 };
        if let (Some(retry), true, true) = (entry.check.retry_interval, entry.judge.is_up(), result.is_err())
        {
            entry.due = now + retry;
        }
        entry.said = *result.as_ref().unwrap_or(&entry.said);
        entry.last = Some(result);
        let count = match opinion {
            Opinion::Turned(true) => entry.check.rise,
            Opinion::Turned(false) => entry.check.fall,
            Opinion::Firm | Opinion::Doubted(_) => 1,
        };
        let step = real.next_step();
        let change = real.tell(now, key, Because::Check(place, count));
        self.grow(key, step, change.is_some());
        change
    }

    /// Takes notice of what workers counted of a real server until now. Says so when that changes what holds for it.
    pub fn seen(&mut self, now: Instant, key: RealKey, seen: Seen) -> Option<Change> {
        let real = self.reals.get_mut(&key)?;
        if !real.watch.as_mut()?.hear(now, seen) {
            return None;
        }
        let step = real.next_step();
        let change = real.tell(now, key, Because::Passive);
        self.grow(key, step, change.is_some());
        change
    }

    /// A real server's weight grows at another time than the `step` before, if something changed.
    fn grow(&mut self, key: RealKey, step: Option<Instant>, changed: bool) {
        let Some(real) = self.reals.get(&key).filter(|_| changed) else { return };
        step.map(|step| self.ramps.remove(&(step, key)));
        self.ramps.extend(real.next_step().map(|next| (next, key)));
    }

    /// When [`Machine::tick`] has something to do next; none before a result arrives when enough checks run and no
    /// weight grows.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let due = self.due.first().filter(|_| self.running < self.most).map(|&(due, _, _)| due);
        let step = self.ramps.first().map(|&(at, _)| at);
        due.into_iter().chain(step).min()
    }

    /// All real servers that are checked, in the order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let mut list: Vec<Listed> = self.reals.iter().map(|(key, real)| real.listed(*key)).collect();
        list.sort_by_key(|listed| listed.key);
        list
    }
}

impl Real {
    fn new(now: Instant, target: Target, before: Option<Self>) -> Self {
        let (known, watch, since, mut told, returned) = match before {
            Some(real) => (real.entries, real.watch, real.since, real.told, real.returned),
            None => {
                let up = !target.checks.iter().any(|check| check.alpha);
                (Vec::new(), None, now, Verdict { up, ..Verdict::default() }, None)
            }
        };
        let watch = target.passive.map(|rules| match watch {
            Some(watch) => watch.with(now, rules),
            None => Watch::new(rules),
        });
        let is_new = known.is_empty();
        let mut known: Vec<Option<Entry>> = known.into_iter().map(Some).collect();
        let mut entries = Vec::with_capacity(target.checks.len());
        for (place, check) in target.checks.into_iter().enumerate() {
            let same = known.iter_mut().find(|one| one.as_ref().is_some_and(|entry| *entry.check == *check));
            if let Some(mut entry) = same.and_then(Option::take) {
                // It made none while it followed another one.
                entry.due = entry.due.max(now.checked_sub(entry.check.interval).unwrap_or(now));
                entry.follows = false;
                entries.push(entry);
                continue;
            }
            let rules = Rules { fall: check.fall, rise: check.rise, reentry: check.reentry };
            let judge = match known.get(place).and_then(Option::as_ref) {
                Some(entry) => entry.judge.with(rules),
                None => Judge::new(rules, !(is_new && check.alpha)),
            };
            let before = known.get(place).and_then(Option::as_ref);
            let (said, last) = before.map_or((Success::Up, None), |entry| (entry.said, entry.last.clone()));
            entries.push(Entry {
                check,
                judge,
                last,
                said,
                against: 0,
                due: now,
                running: None,
                fresh: true,
                follows: false,
            });
        }
        if entries.is_empty() && watch.is_none() {
            told = Verdict::default();
        }
        Self { entries, watch, slow_start: target.slow_start, group: target.group, told, since, returned }
    }

    /// What holds now; the change when that is not what was told last.
    fn tell(&mut self, now: Instant, key: RealKey, because: Because) -> Option<Change> {
        let up = self.entries.iter().all(|entry| entry.judge.is_up())
            && self.watch.as_ref().is_none_or(Watch::is_up);
        let turned = up != self.told.up;
        if turned {
            self.since = now;
            self.returned = (up && self.slow_start > Duration::ZERO).then_some(now);
        }
        let mut verdict = Verdict { up, share: self.share(now), ..Verdict::default() };
        for entry in &self.entries {
            verdict = verdict.and(entry.said);
        }
        if verdict == self.told {
            return None;
        }
        self.told = verdict;
        let reason = match because {
            Because::Growth => "it came back not long ago".to_owned(),
            Because::Passive => self.watch.as_ref().map(Watch::words).unwrap_or_default(),
            Because::Check(place, count) => {
                let words = self.entries.get(usize::from(place)).and_then(Entry::words).unwrap_or_default();
                if count > 1 { format!("{words} ({count} times in a row)") } else { words }
            }
        };
        Some(Change { key, verdict, turned, reason, at: now })
    }

    /// How much of the weight counts; after the last step there is nothing more to grow.
    fn share(&mut self, now: Instant) -> u8 {
        let Some(returned) = self.returned else { return 100 };
        let step = self.slow_start / RAMP_STEPS;
        let steps = (1..RAMP_STEPS).take_while(|step_number| now >= returned + step * *step_number).count();
        if steps as u32 + 1 == RAMP_STEPS {
            self.returned = None;
        }
        ((steps as u32 + 1) * 100 / RAMP_STEPS) as u8
    }

    /// When the weight grows next.
    fn next_step(&self) -> Option<Instant> {
        let returned = self.returned?;
        let taken = u32::from(self.told.share) * RAMP_STEPS / 100;
        Some(returned + self.slow_start / RAMP_STEPS * taken)
    }

    fn listed(&self, key: RealKey) -> Listed {
        // Of a real server that is down who says so speaks, else the check that was heard last.
        let out = self.watch.as_ref().filter(|watch| !watch.is_up() || self.entries.is_empty());
        let speaks = self.entries.iter().find(|entry| !entry.judge.is_up() && entry.last.is_some());
        let speaks = speaks.or_else(|| self.entries.iter().rev().find(|entry| entry.last.is_some()));
        Listed {
            key,
            verdict: self.told,
            since: self.since,
            checked: !self.entries.is_empty(),
            last: out.map(Watch::words).or_else(|| speaks.and_then(Entry::words)),
            against: self.entries.iter().map(|entry| entry.against).max().unwrap_or_default(),
        }
    }
}

impl Entry {
    /// What the last check gave, in words.
    fn words(&self) -> Option<String> {
        self.last.as_ref().map(|last| match last {
            Ok(_) if self.check.way.is_some() => format!("{} at the VIP", self.check.kind.success()),
            Ok(_) => self.check.kind.success(),
            Err(failure) => self.check.kind.failure(failure),
        })
    }
}

/// The beat after the one that was due, or the next one to come when that is past as well.
fn next_beat(due: Instant, interval: Duration, now: Instant) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
pub(super) mod tests;
