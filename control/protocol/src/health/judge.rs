//! What the results of one check mean, one after another.
//!
//! A single result says little: one lost packet fails it, and a server that dies and revives every other second
//! passes half of them. So the judge is slow to change its mind. It holds an opinion, up or down, and only
//! results *against* that opinion count: `fall` failures in a row turn up into down, `rise` successes in a row turn
//! down into up. One result that agrees with the opinion wipes out all doubt:
//!
//! ```text
//!   fall = 3, rise = 2      ✓ ✗ ✗ ✓ ✗ ✗ ✗ ✗ ✓ ✗ ✓ ✓ ✓
//!   opinion                 up            down      up
//! ```
//!
//! With `reentry` the successes in a row last at least so long before they turn down into up. It starts with the opinion
//! that the server is up, as keepalived does without `alpha`: a director that starts must not turn clients away for the
//! time of `rise` checks. With `alpha` it starts with down, and the first success turns that.

use std::time::{Duration, Instant};

/// When results in a row turn an opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures; 0 counts as 1.
    pub fall: u8,
    /// Successes; 0 counts as 1.
    pub rise: u8,
    /// From the first of these successes to the last at least.
    pub reentry: Duration,
}

/// The opinion about one real server.
#[derive(Clone, Debug)]
pub struct Judge {
    rules: Rules,
    up: bool,
    /// False until the first result.
    heard: bool,
    /// Results in a row that speak against the opinion, and when the first of them came.
    against: u8,
    doubted: Option<Instant>,
}

/// What a result did to the opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It stays, without a doubt.
    Firm,
    /// It stays, but so many results in a row speak against it.
    Doubted(u8),
    /// It turned into up (true) or down (false).
    Turned(bool),
}

impl Judge {
    /// A judge who thinks that the server is up, or down.
    #[must_use]
    pub const fn new(rules: Rules, up: bool) -> Self {
        Self { rules, up, heard: false, against: 0, doubted: None }
    }

    /// The same opinion under other rules, without a doubt.
    #[must_use]
    pub const fn with(&self, rules: Rules) -> Self {
        Self { rules, up: self.up, heard: self.heard, against: 0, doubted: None }
    }

    /// Whether the server is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Hears the result of a check.
    pub fn hear(&mut self, now: Instant, success: bool) -> Opinion {
        let first = !std::mem::replace(&mut self.heard, true);
        if success == self.up {
            (self.against, self.doubted) = (0, None);
            return Opinion::Firm;
        }
        self.against = self.against.saturating_add(1);
        let since = *self.doubted.get_or_insert(now);
        let Rules { fall, rise, reentry } = self.rules;
        let enough = match (self.up, first) {
            (true, _) => self.against >= fall,
            (false, true) => true,
            (false, false) => self.against >= rise && now.duration_since(since) >= reentry,
        };
        if !enough {
            return Opinion::Doubted(self.against);
        }
        (self.up, self.against, self.doubted) = (success, 0, None);
        Opinion::Turned(self.up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Opinion::*;

    fn rules(fall: u8, rise: u8) -> Rules {
        Rules { fall, rise, reentry: Duration::ZERO }
    }

    #[test]
    fn a_story_of_a_server() {
        let now = Instant::now();
        let mut judge = Judge::new(rules(3, 2), true);
        for (result, opinion) in [
            (true, Firm),
            // Two lost packets.
            (false, Doubted(1)),
            (false, Doubted(2)),
            (true, Firm),
            // It dies.
            (false, Doubted(1)),
            (false, Doubted(2)),
            (false, Turned(false)),
            (false, Firm),
            // It comes back, stumbling.
            (true, Doubted(1)),
            (false, Firm),
            (true, Doubted(1)),
            (true, Turned(true)),
            (true, Firm),
        ] {
            assert_eq!(judge.hear(now, result), opinion);
        }
    }

    #[test]
    fn without_patience_each_result_decides() {
        let now = Instant::now();
        for mut judge in [Judge::new(rules(1, 1), true), Judge::new(rules(0, 0), true)] {
            assert!(judge.is_up());
            assert_eq!(judge.hear(now, false), Turned(false));
            assert_eq!(judge.hear(now, true), Turned(true));
        }
    }

    #[test]
    fn the_largest_patience_does_not_overflow() {
        let now = Instant::now();
        let mut judge = Judge::new(rules(255, 255), true);
        for n in 1..255 {
            assert_eq!(judge.hear(now, false), Doubted(n));
        }
        assert_eq!(judge.hear(now, false), Turned(false));
    }

    #[test]
    fn new_rules_keep_the_opinion_and_drop_the_doubt() {
        let now = Instant::now();
        let mut judge = Judge::new(rules(2, 2), true);
        judge.hear(now, false);
        judge = judge.with(rules(2, 2));
        assert_eq!(judge.hear(now, false), Doubted(1));
        judge.hear(now, false);
        assert!(!judge.with(rules(1, 1)).is_up());
    }

    #[test]
    fn who_returns_is_held_back_for_the_time_of_reentry() {
        let start = Instant::now();
        let mut judge = Judge::new(Rules { reentry: Duration::from_secs(30), ..rules(1, 2) }, true);
        for (seconds, result, opinion) in [
            (0, false, Turned(false)),
            (10, true, Doubted(1)),
            (20, true, Doubted(2)),
            (30, true, Doubted(3)),
            // It stumbles, and begins anew.
            (35, false, Firm),
            (40, true, Doubted(1)),
            (60, true, Doubted(2)),
            (70, true, Turned(true)),
        ] {
            assert_eq!(judge.hear(start + Duration::from_secs(seconds), result), opinion, "at {seconds} s");
        }
    }

    #[test]
    fn with_alpha_the_first_success_is_enough() {
        let now = Instant::now();
        let mut judge = Judge::new(Rules { reentry: Duration::from_secs(30), ..rules(3, 5) }, false);
        assert_eq!(judge.hear(now, true), Turned(true));
        let mut judge = Judge::new(rules(3, 2), false);
        assert_eq!(judge.hear(now, false), Firm);
        assert_eq!(judge.hear(now, true), Doubted(1));
    }
}
