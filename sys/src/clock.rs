//! Time as the worker reads it: the cycle counter, and its conversion to durations by one multiplication.

use std::time::{Duration, Instant};

use crate::eal::Eal;
use crate::ffi;

/// A reading of the time stamp counter: x86 TSC, or what DPDK uses on other machines. It counts at a constant rate
/// from an arbitrary start and is the same on all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cycles(pub u64);

impl Cycles {
    /// The counter now: `rte_rdtsc`, a few nanoseconds.
    #[inline]
    pub fn now() -> Cycles {
        // SAFETY: rte_cycles.h: rte_rdtsc reads a register and needs nothing.
        Cycles(unsafe { ffi::shim_rdtsc() })
    }

    /// The cycles from `earlier` to this reading; 0 if `earlier` is the later one.
    #[inline]
    pub fn since(self, earlier: Cycles) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Turns readings of the counter into time since its own start, without a division. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Cycles,
    start_instant: Instant,
    cycles_per_second: u64,
    /// Nanoseconds per cycle, times 2^32.
    nanoseconds_scaled: u64,
}

impl Clock {
    /// A clock that starts now. It needs the EAL, which measures the counter's rate when it starts.
    pub fn new(_eal: &Eal) -> Clock {
        // SAFETY: rte_cycles.h: rte_get_tsc_hz returns what rte_eal_init measured; an Eal exists, so that is done.
        let cycles_per_second = unsafe { ffi::rte_get_tsc_hz() };
        Clock::with_rate(Cycles::now(), cycles_per_second)
    }

    fn with_rate(start: Cycles, cycles_per_second: u64) -> Clock {
        let cycles_per_second = cycles_per_second.max(1);
        let scaled = (1_000_000_000_u128 << 32) / u128::from(cycles_per_second);
        Clock {
            start,
            start_instant: Instant::now(),
            cycles_per_second,
            nanoseconds_scaled: u64::try_from(scaled).unwrap_or(u64::MAX),
        }
    }

    /// The counter's rate in cycles per second.
    pub fn cycles_per_second(&self) -> u64 {
        self.cycles_per_second
    }

    /// The time now, as a duration since the clock's start.
    #[inline]
    pub fn now(&self) -> Duration {
        self.at(Cycles::now())
    }

    /// The time of a reading, as a duration since the clock's start; zero for readings before it.
    #[inline]
    pub fn at(&self, reading: Cycles) -> Duration {
        self.duration(reading.since(self.start))
    }

    /// How long a number of cycles takes.
    #[inline]
    pub fn duration(&self, cycles: u64) -> Duration {
        let nanoseconds = (u128::from(cycles) * u128::from(self.nanoseconds_scaled)) >> 32;
        Duration::from_nanos(nanoseconds as u64)
    }

    /// How many cycles a duration takes; for setting limits in advance, since this one divides.
    pub fn cycles(&self, duration: Duration) -> u64 {
        let cycles = duration.as_nanos() * u128::from(self.cycles_per_second) / 1_000_000_000;
        u64::try_from(cycles).unwrap_or(u64::MAX)
    }

    /// The moment at which the clock started, for comparing it with the clock of other threads.
    pub fn start(&self) -> Instant {
        self.start_instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_is_exact_to_a_part_in_a_billion() {
        for rate in [1_000_000_000, 1_999_999_999, 2_000_000_000, 2_995_200_000, 24_000_000] {
            let clock = Clock::with_rate(Cycles(500), rate);
            let day = clock.at(Cycles(500 + rate * 86_400));
            let error = day.abs_diff(Duration::from_secs(86_400));
            assert!(error < Duration::from_micros(90), "{rate}: {error:?}");
            assert_eq!(clock.cycles(Duration::from_secs(2)), rate * 2);
        }
    }

    #[test]
    fn a_reading_before_the_start_is_the_start() {
        let clock = Clock::with_rate(Cycles(500), 1_000_000_000);
        assert_eq!(clock.at(Cycles(499)), Duration::ZERO);
        assert_eq!(clock.at(Cycles(1500)), Duration::from_micros(1));
    }

    #[test]
    fn the_counter_does_not_run_backwards() {
        let first = Cycles::now();
        assert!(Cycles::now() >= first);
    }
}
