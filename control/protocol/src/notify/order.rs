//! Scripts of one subject run one after another, in the order of their events; those of others beside them.

use std::collections::{HashMap, VecDeque};

use shunt_model::script::Script;

/// A script and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The command.
    pub script: Script,
    /// What it finds in its environment.
    pub environment: Vec<(String, String)>,
}

/// Scripts that wait, all subjects together; more are lost and counted.
pub const SCRIPTS_WAITING_MAX: usize = 1024;

/// The scripts of all subjects.
#[derive(Debug, Default)]
pub struct Order {
    /// Subjects of which one runs, and what waits behind it.
    running: HashMap<String, VecDeque<Told>>,
    waiting: usize,
    lost: u64,
}

impl Order {
    /// A script came: gives it back when it may run at once.
    pub fn add(&mut self, subject: &str, script: Told) -> Option<Told> {
        let Some(queue) = self.running.get_mut(subject) else {
            self.running.insert(subject.to_owned(), VecDeque::new());
            return Some(script);
        };
        if self.waiting >= SCRIPTS_WAITING_MAX {
            self.lost += 1;
        } else {
            self.waiting += 1;
            queue.push_back(script);
        }
        None
    }

    /// The one of this subject ended: the next one, if there is one.
    pub fn ended(&mut self, subject: &str) -> Option<Told> {
        let next = self.running.get_mut(subject)?.pop_front();
        match next {
            Some(_) => self.waiting -= 1,
            None => drop(self.running.remove(subject)),
        }
        next
    }

    /// How many were lost since too many waited.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(word: &str) -> Told {
        let script = Script { command: vec![word.to_owned()], user: None };
        Told { script, environment: Vec::new() }
    }

    #[test]
    fn one_after_another_for_each_subject() {
        let mut order = Order::default();
        assert_eq!(order.add("a", script("down")), Some(script("down")));
        assert_eq!(order.add("a", script("up")), None);
        assert_eq!(order.add("b", script("down")), Some(script("down")));
        assert_eq!(order.ended("a"), Some(script("up")));
        assert_eq!(order.ended("a"), None);
        assert_eq!(order.ended("b"), None);
        assert_eq!(order.add("a", script("down")), Some(script("down")));
        for _ in 0..SCRIPTS_WAITING_MAX {
            assert_eq!(order.add("a", script("x")), None);
        }
        assert_eq!((order.add("a", script("y")), order.lost()), (None, 1));
    }
}
