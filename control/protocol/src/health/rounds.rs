//! Checks begin in rounds: a round takes all that became due since the one before.
//!
//! The thread wakes once for a round, and finds what it needs still in its caches, where thousands of checks a second
//! would each wake it alone. A check that is due when there was no round lately begins at once.

use std::time::{Duration, Instant};

/// From one round to the next at least: so much later than due a check begins at most. Its next time counts from when it was
/// due.
pub const ROUND: Duration = Duration::from_millis(5);

/// When checks may begin.
#[derive(Debug, Default)]
pub struct Rounds {
    next: Option<Instant>,
}

impl Rounds {
    /// True when what is due may begin now.
    #[must_use]
    pub fn may_begin(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// Checks began.
    pub fn began(&mut self, now: Instant) {
        self.next = Some(now + ROUND);
    }

    /// When that begins which is due then.
    #[must_use]
    pub fn begin(&self, due: Instant) -> Instant {
        self.next.map_or(due, |next| next.max(due))
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::machine::tests::{GOOD, target};
    use super::*;

    #[test]
    fn many_begin_together_and_none_drifts() {
        const REALS: u32 = 2_000;
        let start = Instant::now();
        let (mut machine, mut rounds, mut out) = (Machine::default(), Rounds::default(), Vec::new());
        machine.set_targets(start, (0..REALS).map(|n| target(n, 1)).collect());
        let (mut now, mut wakes, mut begun) = (start, 0, 0);
        while let Some(due) = machine.deadline() {
            let begin = rounds.begin(due).max(now);
            assert!(begin < due + ROUND, "{:?} late", begin - due);
            now = begin;
            assert!(rounds.may_begin(now));
            machine.tick(now, &mut out);
            rounds.began(now);
            assert!(!rounds.may_begin(now) && rounds.may_begin(now + ROUND));
            wakes += 1;
            begun += out.len() as u32;
            if now >= start + Duration::from_secs(10) {
                break;
            }
            for started in out.drain(..) {
                assert_eq!(machine.result(now, started.key, started.serial, GOOD).pop(), None);
            }
        }
        assert!((10 * REALS..10 * REALS + 20).contains(&begun), "{begun} checks in 10 s");
        assert!(wakes <= 2_001, "{wakes} rounds in 10 s");
    }

    #[test]
    fn one_alone_begins_when_it_is_due() {
        let (now, mut rounds) = (Instant::now(), Rounds::default());
        assert!(rounds.may_begin(now));
        assert_eq!(rounds.begin(now), now);
        rounds.began(now);
        assert_eq!(rounds.begin(now), now + ROUND);
        assert_eq!(rounds.begin(now + ROUND * 2), now + ROUND * 2);
    }
}
