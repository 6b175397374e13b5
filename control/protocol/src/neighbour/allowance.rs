//! How much the neighbour machine may do now, whatever it is asked for.

use std::time::{Duration, Instant};

/// How many may be done now: a bucket that refills at a steady rate.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    burst: u32,
    /// The time in which one more is allowed.
    each: Duration,
    /// Up to when refills were counted.
    at: Instant,
}

impl Allowance {
    /// A full bucket of so many, refilled by so many a second.
    pub(super) const fn new(now: Instant, burst: u32, per_second: u32) -> Self {
        Self { left: burst, burst, each: Duration::from_nanos(1_000_000_000 / per_second as u64), at: now }
    }

    pub(super) fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let count = passed.as_nanos() / self.each.as_nanos();
        if count + u128::from(self.left) >= u128::from(self.burst) {
            (self.left, self.at) = (self.burst, now.max(self.at));
        } else {
            self.left += count as u32;
            self.at += self.each * count as u32;
        }
    }

    pub(super) const fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// From when on [`Allowance::take`] succeeds, as far as that lies ahead.
    pub(super) fn next(&self) -> Instant {
        if self.left > 0 { self.at } else { self.at + self.each }
    }
}
