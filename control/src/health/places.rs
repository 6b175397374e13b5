//! Who may run a script now, so that scripts which hang leave room for those of others.
//!
//! Scripts have owners, such as the service that they check. An owner may have as many running as places are free, so that
//! one whose scripts all hang takes half of the places, a second one half of what is left. Beyond that each owner
//! may have one, while all together are no more than [`RUNNING_MAX`]. Owners who wait take turns.

use std::collections::{HashMap, VecDeque};

/// Places that owners share.
pub const PLACES: usize = 64;
/// Scripts that run at once, those included that are the only ones of their owners.
pub const RUNNING_MAX: usize = 512;

#[derive(Debug)]
struct Owner<T> {
    running: usize,
    waiting: VecDeque<T>,
}

/// What runs and what waits.
#[derive(Debug)]
pub struct Places<T> {
    owners: HashMap<String, Owner<T>>,
    /// Owners of whom something waits, the next one first.
    turns: VecDeque<String>,
    running: usize,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { owners: HashMap::new(), turns: VecDeque::new(), running: 0 }
    }
}

impl<T> Places<T> {
    /// Something of this owner waits from now on.
    pub fn add(&mut self, owner: &str, what: T) {
        let entry = self
            .owners
            .entry(owner.to_owned())
            .or_insert_with(|| Owner { running: 0, waiting: VecDeque::new() });
        if entry.waiting.is_empty() {
            self.turns.push_back(owner.to_owned());
        }
        entry.waiting.push_back(what);
    }

    /// Takes the next that may run, with its owner; it runs until [`Places::ended`].
    pub fn take(&mut self) -> Option<(String, T)> {
        let free = PLACES.saturating_sub(self.running);
        let may = |owner: &Owner<T>| owner.running == 0 || owner.running < free;
        if self.running >= RUNNING_MAX {
            return None;
        }
        let place = self.turns.iter().position(|name| self.owners.get(name).is_some_and(may))?;
        let name = self.turns.remove(place)?;
        let owner = self.owners.get_mut(&name)?;
        let what = owner.waiting.pop_front()?;
        owner.running += 1;
        self.running += 1;
        if !owner.waiting.is_empty() {
            self.turns.push_back(name.clone());
        }
        Some((name, what))
    }

    /// One of this owner's ended.
    pub fn ended(&mut self, name: &str) {
        let Some(owner) = self.owners.get_mut(name).filter(|owner| owner.running > 0) else { return };
        owner.running -= 1;
        self.running -= 1;
        if owner.running == 0 && owner.waiting.is_empty() {
            self.owners.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all that may run now: how many of each owner.
    fn take_all(places: &mut Places<()>) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        while let Some((owner, ())) = places.take() {
            *counts.entry(owner).or_default() += 1;
        }
        counts
    }

    fn counts<const N: usize>(pairs: [(&str, usize); N]) -> HashMap<String, usize> {
        pairs.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn who_hangs_leaves_room() {
        let mut places = Places::default();
        (0..1000).for_each(|_| places.add("a", ()));
        assert_eq!(take_all(&mut places), counts([("a", 32)]));
        (0..1000).for_each(|_| places.add("b", ()));
        assert_eq!(take_all(&mut places), counts([("b", 16)]));
        (0..10).for_each(|_| places.add("c", ()));
        assert_eq!(take_all(&mut places), counts([("c", 8)]));
        // As one ends its owner's next one runs.
        places.ended("c");
        assert_eq!(take_all(&mut places), counts([("c", 1)]));
        // However many hang, each has one.
        for number in 0..100 {
            (0..2).for_each(|_| places.add(&format!("{number}"), ()));
        }
        let taken = take_all(&mut places);
        assert_eq!(taken.len(), 100);
        assert!(taken.values().sum::<usize>() <= 108, "{taken:?}");
    }

    #[test]
    fn owners_take_turns() {
        let mut places = Places::default();
        (0..100).for_each(|_| places.add("a", ()));
        assert_eq!(take_all(&mut places), counts([("a", 32)]));
        places.add("b", ());
        places.ended("a");
        places.ended("a");
        assert_eq!(places.take().map(|(owner, ())| owner).as_deref(), Some("a"));
        assert_eq!(places.take().map(|(owner, ())| owner).as_deref(), Some("b"));
    }

    #[test]
    fn no_more_run_than_may_and_nothing_is_left_of_who_is_done() {
        let mut places = Places::default();
        let names: Vec<String> = (0..RUNNING_MAX + 10).map(|number| number.to_string()).collect();
        names.iter().for_each(|name| places.add(name, ()));
        assert_eq!(take_all(&mut places).len(), RUNNING_MAX);
        names.iter().for_each(|name| places.ended(name));
        assert_eq!(take_all(&mut places).len(), 10);
        names.iter().for_each(|name| places.ended(name));
        assert!(places.owners.is_empty() && places.turns.is_empty() && places.running == 0);
        places.ended("nobody");
    }
}
