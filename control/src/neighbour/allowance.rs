//! How many frames the neighbour machine may send now, whatever it is asked for.

use std::time::{Duration, Instant};

use super::{REQUESTS_BURST_MAX, REQUESTS_PER_SECOND_MAX};

/// How many requests and announcements may be sent now: a bucket of [`REQUESTS_BURST_MAX`] that refills at
/// [`REQUESTS_PER_SECOND_MAX`].
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    /// Up to when refills were counted.
    at: Instant,
}

impl Allowance {
    /// The time in which one more is allowed.
    const EACH: Duration = Duration::from_nanos(1_000_000_000 / REQUESTS_PER_SECOND_MAX as u64);

    pub(super) const fn new(now: Instant) -> Self {
        Self { left: REQUESTS_BURST_MAX, at: now }
    }

    pub(super) fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let count = passed.as_nanos() / Self::EACH.as_nanos();
        if count + u128::from(self.left) >= u128::from(REQUESTS_BURST_MAX) {
            *self = Self::new(now.max(self.at));
        } else {
            self.left += count as u32;
            self.at += Self::EACH * count as u32;
        }
    }

    pub(super) const fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// From when on [`Allowance::take`] succeeds, as far as that lies ahead.
    pub(super) fn next(&self) -> Instant {
        if self.left > 0 { self.at } else { self.at + Self::EACH }
    }
}
