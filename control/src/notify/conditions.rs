//! What holds for a while and should not: a link that is down, a service without a real server, a full table.
//!
//! Whoever finds that such a condition holds says [`Notifier::begin`], and [`Notifier::end`] when it no longer does; both may
//! be said again and again. Each begin and each end is one log line and one event; while it holds its text is advice of `shunt status`. One
//! that begins and ends all the time is told [`BURST`] times and then once in [`REFILL`], with how often it turned meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use shunt_model::health::Lack;
use shunt_model::notify::What;

use super::Notifier;
use crate::health::lack::Teller;

/// Conditions of which something is known at once; those beyond it are counted and told as a number.
pub const CONDITIONS_MAX: usize = 4096;
/// So many turns of a condition are told one after another.
pub const BURST: u8 = 4;
/// After these, one in so long.
pub const REFILL: Duration = Duration::from_secs(15);

/// What holds for a while. A new kind is a line here, and two events in [`What`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// The link of a NIC is down. The subject is the NIC's name.
    LinkDown,
    /// A service has no real server that is up and has weight. The subject is the service's name.
    NoReal,
    /// A table or queue is full. The subject is the name of its limit.
    Full,
    /// A neighbour that the configuration needs does not answer. The subject is its address.
    NeighbourSilent,
    /// The kernel holds an address of the director's. The subject is the address.
    KernelAddress,
    /// The director lacks something of its own. The subject is what.
    Lack,
}

impl Condition {
    /// The events of its begin and of its end.
    #[must_use]
    pub const fn events(self) -> (What, What) {
        match self {
            Self::LinkDown => (What::LinkDown, What::LinkUp),
            Self::NoReal => (What::NoReal, What::NoRealOver),
            Self::Full => (What::Full, What::FullOver),
            Self::NeighbourSilent => (What::NeighbourSilent, What::NeighbourSilentOver),
            Self::KernelAddress => (What::KernelAddress, What::KernelAddressOver),
            Self::Lack => (What::Lack, What::LackOver),
        }
    }

    /// True where clients are not served while it holds: its begin is an error in the log. Else it is a warning.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        match self {
            Self::LinkDown | Self::NoReal | Self::KernelAddress => true,
            Self::Full | Self::Lack | Self::NeighbourSilent => false,
        }
    }
}

/// A condition that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which.
    pub condition: Condition,
    /// Of what.
    pub subject: String,
    /// Where, what is wrong, what to do.
    pub text: String,
    /// For how long.
    pub lasts: Duration,
}

impl Teller for Notifier {
    fn begins(&self, lack: Lack, text: String) {
        self.begin(Condition::Lack, lack.word(), text);
    }

    fn ends(&self, lack: Lack, text: String) {
        self.end(Condition::Lack, lack.word(), text);
    }
}

impl Notifier {
    /// It holds. `text` says where, what is wrong and what to do; that of a condition which held already replaces the one before, and
    /// is not told.
    pub fn begin(&self, condition: Condition, subject: &str, text: impl Into<String>) {
        let told = self.book().turn(Instant::now(), (condition, subject), true, text.into());
        told.into_iter().for_each(|told| self.tell_turn(told));
    }

    /// It does not hold. `text` says what holds now; it is told only when the condition held before, with how long it did.
    pub fn end(&self, condition: Condition, subject: &str, text: impl Into<String>) {
        let told = self.book().turn(Instant::now(), (condition, subject), false, text.into());
        told.into_iter().for_each(|told| self.tell_turn(told));
    }

    /// Of this kind these hold, by subject and text, and no others: what a look at everything found. `over` says what holds now for a
    /// subject that is no longer found.
    pub fn found(
        &self,
        condition: Condition,
        found: impl IntoIterator<Item = (String, String)>,
        over: impl Fn(&str) -> String,
    ) {
        let mut before: HashSet<String> = self.book().subjects(condition).collect();
        for (subject, text) in found {
            before.remove(&subject);
            self.begin(condition, &subject, text);
        }
        for subject in before {
            self.end(condition, &subject, over(&subject));
        }
    }

    /// Forgets those of this kind whose subject is none of these any more.
    pub fn keep(&self, condition: Condition, subjects: &HashSet<String>) {
        let gone: Vec<String> =
            self.book().subjects(condition).filter(|subject| !subjects.contains(subject)).collect();
        for subject in gone {
            self.end(condition, &subject, format!("{subject}: the configuration does not have it any more"));
        }
    }

    /// Tells what was held back and may be told now. To be called about once a second.
    pub fn settle(&self) {
        let told = self.book().settle(Instant::now());
        told.into_iter().for_each(|told| self.tell_turn(told));
    }

    /// The conditions that hold now, by kind and subject.
    #[must_use]
    pub fn holding(&self) -> Vec<Holding> {
        self.book().list(Instant::now())
    }

    fn tell_turn(&self, told: Told) {
        let Told { condition, subject, holds, text } = told;
        let (begun, over) = condition.events();
        match (holds, condition.is_outage()) {
            (true, true) => tracing::error!("{text}"),
            (true, false) => tracing::warn!("{text}"),
            (false, _) => tracing::info!("{text}"),
        }
        let what = if holds { begun } else { over };
        self.tell(super::event(what, subject, None, text), Vec::new());
    }
}

/// A line and an event.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    condition: Condition,
    subject: String,
    holds: bool,
    text: String,
}

/// What is known of one condition.
#[derive(Debug)]
struct Entry {
    holds: bool,
    since: Instant,
    text: String,
    /// What was told last.
    told: bool,
    /// Turns since that were not told.
    held_back: u32,
    /// What may be told at once, and when that grew last.
    places: u8,
    refilled: Instant,
}

impl Entry {
    fn refill(&mut self, now: Instant) {
        let grown = now.duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if self.places >= BURST {
            self.refilled = now;
        } else if grown > 0 {
            self.places = self.places.saturating_add(grown.min(u64::from(BURST)) as u8).min(BURST);
            self.refilled += REFILL * grown as u32;
        }
    }

    /// What is told now, when something may be.
    fn tell(&mut self, (condition, subject): (Condition, &str)) -> Option<Told> {
        self.places = self.places.checked_sub(1)?;
        let turned = std::mem::take(&mut self.held_back);
        self.told = self.holds;
        let mut text = self.text.clone();
        if turned > 1 {
            text += &format!(" (it turned {turned} times, told once)");
        }
        Some(Told { condition, subject: subject.to_owned(), holds: self.holds, text })
    }
}

/// The conditions, without a clock.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<(Condition, String), Entry>,
    /// Those that found no place.
    lost: u64,
}

impl Book {
    fn turn(
        &mut self,
        now: Instant,
        (condition, subject): (Condition, &str),
        holds: bool,
        text: String,
    ) -> Option<Told> {
        let full = self.entries.len() >= CONDITIONS_MAX;
        let key = (condition, subject.to_owned());
        let entry = match self.entries.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if !holds => return None,
            std::collections::hash_map::Entry::Vacant(_) if full => {
                self.lost += 1;
                return None;
            }
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Entry {
                holds: false,
                since: now,
                text: String::new(),
                told: false,
                held_back: 0,
                places: BURST,
                refilled: now,
            }),
        };
        if entry.holds == holds {
            if holds {
                entry.text = text;
            }
            return None;
        }
        let lasted = now.duration_since(entry.since);
        entry.text = if holds { text } else { format!("{text}, after {lasted:.1?}") };
        (entry.holds, entry.since) = (holds, now);
        entry.held_back = entry.held_back.saturating_add(1);
        entry.refill(now);
        entry.tell((condition, subject))
    }

    fn settle(&mut self, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        for ((condition, subject), entry) in &mut self.entries {
            entry.refill(now);
            if entry.held_back > 0 {
                told.extend(entry.tell((*condition, subject)));
            }
        }
        self.entries.retain(|_, entry| entry.holds || entry.told || entry.places < BURST);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            told.push(Told {
                condition: Condition::Full,
                subject: "conditions".to_owned(),
                holds: true,
                text: format!("{lost} conditions were not told: more than {CONDITIONS_MAX} hold at once"),
            });
        }
        told
    }

    fn subjects(&self, condition: Condition) -> impl Iterator<Item = String> {
        let of = self.entries.iter().filter(move |((kind, _), entry)| *kind == condition && entry.holds);
        of.map(|((_, subject), _)| subject.clone())
    }

    fn list(&self, now: Instant) -> Vec<Holding> {
        let holding = self.entries.iter().filter(|(_, entry)| entry.holds);
        let mut list: Vec<Holding> = holding
            .map(|((condition, subject), entry)| Holding {
                condition: *condition,
                subject: subject.clone(),
                text: entry.text.clone(),
                lasts: now.duration_since(entry.since),
            })
            .collect();
        list.sort_by(|a, b| (a.condition, &a.subject).cmp(&(b.condition, &b.subject)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT: (Condition, &str) = (Condition::LinkDown, "front");

    fn begin(book: &mut Book, now: Instant) -> Option<String> {
        book.turn(now, FRONT, true, "down".to_owned()).map(|told| told.text)
    }

    fn end(book: &mut Book, now: Instant) -> Option<String> {
        book.turn(now, FRONT, false, "up".to_owned()).map(|told| told.text)
    }

    #[test]
    fn begin_and_end_are_told_once() {
        let (mut book, start) = (Book::default(), Instant::now());
        assert_eq!(end(&mut book, start), None, "nothing began");
        assert_eq!(begin(&mut book, start).as_deref(), Some("down"));
        assert_eq!(begin(&mut book, start + Duration::from_secs(1)), None);
        assert_eq!(book.list(start + Duration::from_secs(2))[0].lasts, Duration::from_secs(2));
        assert_eq!(end(&mut book, start + Duration::from_secs(3)).as_deref(), Some("up, after 3.0s"));
        assert_eq!(end(&mut book, start + Duration::from_secs(3)), None);
        assert!(book.list(start + Duration::from_secs(3)).is_empty());
    }

    #[test]
    fn one_that_flaps_is_told_now_and_then_and_the_last_word_is_right() {
        let (mut book, start) = (Book::default(), Instant::now());
        let mut told = Vec::new();
        let at = |turn: u64| start + Duration::from_millis(10 * turn);
        for turn in 0..101 {
            told.extend(if turn % 2 == 0 { begin(&mut book, at(turn)) } else { end(&mut book, at(turn)) });
        }
        assert_eq!(told.len(), usize::from(BURST), "{told:?}");
        assert!(book.settle(at(101)).is_empty(), "it waits");
        let late: Vec<Told> = book.settle(start + REFILL + Duration::from_secs(1));
        let [Told { holds: true, text, .. }] = &late[..] else { panic!("{late:?}") };
        assert_eq!(text, "down (it turned 97 times, told once)");
        // What ended long ago is forgotten, and begins as if it never had.
        end(&mut book, start + 2 * REFILL);
        book.settle(start + 3 * REFILL);
        book.settle(start + 20 * REFILL);
        assert!(book.entries.is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_is_known() {
        let (mut book, start) = (Book::default(), Instant::now());
        for number in 0..CONDITIONS_MAX + 3 {
            book.turn(start, (Condition::NoReal, &number.to_string()), true, "none".to_owned());
        }
        assert_eq!(book.entries.len(), CONDITIONS_MAX);
        let told = book.settle(start);
        assert!(told.iter().any(|told| told.text.starts_with("3 conditions were not told")), "{told:?}");
    }
}
