//! What happened, for who asks afterwards.

use std::collections::VecDeque;

use shunt_model::notify::Event;

/// The last events, oldest first.
#[derive(Debug)]
pub struct Past {
    events: VecDeque<Event>,
    most: usize,
    /// When the youngest of those happened that gave way, in milliseconds since 1970; none before the first.
    forgotten: Option<u64>,
}

impl Past {
    /// Remembers `most` events.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { events: VecDeque::new(), most, forgotten: None }
    }

    /// One happened.
    pub fn add(&mut self, event: Event) {
        if self.events.len() >= self.most {
            self.forgotten = self.events.pop_front().map(|event| event.at);
        }
        self.events.push_back(event);
    }

    /// What happened since then (milliseconds since 1970), and whether some of that is forgotten.
    #[must_use]
    pub fn since(&self, then: u64) -> (Vec<Event>, bool) {
        let events = self.events.iter().filter(|event| event.at >= then).cloned().collect();
        (events, self.forgotten.is_some_and(|last| last >= then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_model::notify::What;

    #[test]
    fn the_oldest_give_way_and_that_is_said() {
        let mut past = Past::new(3);
        for at in 0..5 {
            past.add(Event { at, what: What::RealUp, service: "web".into(), real: None, text: "up".into() });
        }
        let times = |then| past.since(then).0.iter().map(|event| event.at).collect::<Vec<_>>();
        assert_eq!(times(0), [2, 3, 4]);
        assert_eq!(times(4), [4]);
        assert_eq!([0, 1, 2, 9].map(|then| past.since(then).1), [true, true, false, false]);
    }
}
