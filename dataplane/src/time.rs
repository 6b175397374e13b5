//! Coarse time: what a packet stamps on its connection.

use std::time::Duration;

/// Ticks in a second: one tick is 10 ms, fine enough for timeouts of whole seconds.
pub const TICKS_PER_SECOND: u32 = 100;

/// A moment, in ticks since the director started. Wraps after 497 days; moments compare right as long as
/// they lie within 248 days of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Tick(pub u32);

/// A length of time in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ticks(pub u32);

impl Tick {
    /// The moment `since_start` after the director started.
    #[must_use]
    pub fn at(since_start: Duration) -> Self {
        let seconds = since_start.as_secs() as u32;
        Self(
            seconds
                .wrapping_mul(TICKS_PER_SECOND)
                .wrapping_add(since_start.subsec_millis() / (1000 / TICKS_PER_SECOND)),
        )
    }

    /// This moment and `ticks` more.
    #[inline]
    #[must_use]
    pub const fn after(self, ticks: Ticks) -> Self {
        Self(self.0.wrapping_add(ticks.0))
    }

    /// True when this moment is `now` or lies before it.
    #[inline]
    #[must_use]
    pub const fn has_come(self, now: Self) -> bool {
        now.0.wrapping_sub(self.0) < 1 << 31
    }

    /// How long it is from `now` until this moment; nothing when it has come.
    #[inline]
    #[must_use]
    pub const fn remaining(self, now: Self) -> Ticks {
        if self.has_come(now) { Ticks(0) } else { Ticks(self.0.wrapping_sub(now.0)) }
    }

    /// How long ago this moment was at `now`; wraps like the tick itself.
    #[inline]
    #[must_use]
    pub const fn elapsed(self, now: Self) -> Ticks {
        Ticks(now.0.wrapping_sub(self.0))
    }
}

impl Ticks {
    /// A number of whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(seconds * TICKS_PER_SECOND)
    }

    /// A length of at most 497 days, rounded down.
    #[must_use]
    pub const fn from_duration(duration: Duration) -> Self {
        Self((duration.as_millis() / (1000 / TICKS_PER_SECOND) as u128) as u32)
    }

    /// The same length as a `Duration`.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * (1000 / TICKS_PER_SECOND) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_survives_the_wrap() {
        let before = Tick(u32::MAX - 1);
        let later = before.after(Ticks(5));
        assert_eq!(later, Tick(3));
        assert!(!later.has_come(before));
        assert!(later.has_come(later));
        assert!(before.has_come(later));
        assert_eq!(later.remaining(before), Ticks(5));
        assert_eq!(before.remaining(later), Ticks(0));
        assert_eq!(before.elapsed(later), Ticks(5));
    }

    #[test]
    fn ticks_are_ten_milliseconds() {
        assert_eq!(Tick::at(Duration::from_millis(1234)), Tick(123));
        assert_eq!(Ticks::from_seconds(60).as_duration(), Duration::from_secs(60));
    }
}
