//! Whether a real server is up, from one check after another.
//!
//! A single check says little: one lost packet fails it, and a server that dies and revives every other second
//! passes half of them. So the judge is slow to change its mind. It holds an opinion, up or down, and only
//! results *against* that opinion count: `fall` failures in a row turn up into down, `rise` successes in a row turn
//! down into up. One result that agrees with the opinion wipes out all doubt:
//!
//! ```text
//!   fall = 3, rise = 2      ✓ ✗ ✗ ✓ ✗ ✗ ✗ ✗ ✓ ✗ ✓ ✓ ✓
//!   opinion                 up            down      up
//! ```
//!
//! It starts with the opinion that the server is up, as keepalived does without `alpha`: a director that starts must
//! not turn clients away for the time of `rise` checks.

/// The opinion about one real server.
#[derive(Clone, Debug)]
pub struct Judge {
    fall: u8,
    rise: u8,
    up: bool,
    /// Results in a row that speak against the opinion.
    against: u8,
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
    /// A judge who thinks that the server is up. Of `fall` and `rise` 0 counts as 1.
    #[must_use]
    pub fn new(fall: u8, rise: u8) -> Self {
        Self { fall: fall.max(1), rise: rise.max(1), up: true, against: 0 }
    }

    /// The same opinion under other rules, without a doubt.
    #[must_use]
    pub fn with(&self, fall: u8, rise: u8) -> Self {
        Self { up: self.up, ..Self::new(fall, rise) }
    }

    /// Whether the server is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Hears the result of a check.
    pub fn hear(&mut self, success: bool) -> Opinion {
        if success == self.up {
            self.against = 0;
            return Opinion::Firm;
        }
        self.against += 1;
        let enough = if self.up { self.fall } else { self.rise };
        if self.against < enough {
            return Opinion::Doubted(self.against);
        }
        self.up = success;
        self.against = 0;
        Opinion::Turned(self.up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Opinion::*;

    #[test]
    fn a_story_of_a_server() {
        let mut judge = Judge::new(3, 2);
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
            assert_eq!(judge.hear(result), opinion);
        }
    }

    #[test]
    fn without_patience_each_result_decides() {
        for mut judge in [Judge::new(1, 1), Judge::new(0, 0)] {
            assert!(judge.is_up());
            assert_eq!(judge.hear(false), Turned(false));
            assert_eq!(judge.hear(true), Turned(true));
        }
    }

    #[test]
    fn the_largest_patience_does_not_overflow() {
        let mut judge = Judge::new(255, 255);
        for n in 1..255 {
            assert_eq!(judge.hear(false), Doubted(n));
        }
        assert_eq!(judge.hear(false), Turned(false));
    }

    #[test]
    fn new_rules_keep_the_opinion_and_drop_the_doubt() {
        let mut judge = Judge::new(2, 2);
        judge.hear(false);
        judge = judge.with(2, 2);
        assert_eq!(judge.hear(false), Doubted(1));
        judge.hear(false);
        assert!(!judge.with(1, 1).is_up());
    }
}
