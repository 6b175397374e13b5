//! How long things took: a histogram that costs a nanosecond a value, and what it says.

use dpdk_sys::Clock;
use serde::{Deserialize, Serialize};

/// Each doubling is divided into so many parts, as a power of two: a value is known to 3 %.
const PART_BITS: u32 = 5;
/// Parts of a doubling; smaller values have a place each.
const PARTS: usize = 1 << PART_BITS;
/// Values from 2^44 cycles on (an hour) share the last place.
const HIGHEST_BITS: u32 = 44;
/// Places in all.
const PLACES: usize = PARTS + (HIGHEST_BITS - PART_BITS) as usize * PARTS;

/// Lengths of time in cycles, counted by length.
#[derive(Clone, Debug)]
pub struct Times {
    counts: Box<[u64]>,
    longest: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: vec![0; PLACES].into(), longest: 0 }
    }
}

/// The place of a value.
#[inline]
const fn place(cycles: u64) -> usize {
    if cycles < PARTS as u64 {
        return cycles as usize;
    }
    let doubling = u64::BITS - 1 - cycles.leading_zeros();
    let part = (cycles >> (doubling - PART_BITS)) as usize & (PARTS - 1);
    let place = PARTS + (doubling - PART_BITS) as usize * PARTS + part;
    if place < PLACES { place } else { PLACES - 1 }
}

/// The largest value of a place.
const fn highest(place: usize) -> u64 {
    if place < PARTS {
        return place as u64;
    }
    let (doubling, part) = ((place - PARTS) / PARTS, (place - PARTS) % PARTS);
    (((PARTS + part + 1) as u64) << doubling) - 1
}

impl Times {
    /// Adds one.
    #[inline]
    pub fn add(&mut self, cycles: u64) {
        self.counts[place(cycles)] += 1;
        if cycles > self.longest {
            self.longest = cycles;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// No more than this part of them (0 to 1) took longer, in cycles.
    fn at(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut passed = 0;
        for (place, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= wanted && passed > 0 {
                return highest(place).min(self.longest);
            }
        }
        self.longest
    }

    /// What they say.
    #[must_use]
    pub fn quantiles(&self, clock: &Clock) -> Quantiles {
        let ns = |cycles: u64| clock.duration(cycles).as_nanos() as f64;
        let mut histogram: Vec<(f64, u64)> = Vec::new();
        for (place, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            // Half a doubling is fine enough to draw.
            let half = if place < PARTS { place } else { place | (PARTS / 2 - 1) };
            let below = ns(highest(half) + 1);
            match histogram.last_mut() {
                Some(last) if last.0 >= below => last.1 += count,
                _ => histogram.push((below, count)),
            }
        }
        Quantiles {
            count: self.count(),
            p50: ns(self.at(0.5)),
            p90: ns(self.at(0.9)),
            p99: ns(self.at(0.99)),
            p999: ns(self.at(0.999)),
            max: ns(self.longest),
            histogram,
        }
    }
}

/// How long things took, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many there were.
    #[serde(default)]
    pub count: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 90 of 100.
    #[serde(default)]
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// Pairs of a length, exclusive, and how many took less than it and no less than the length before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<(f64, u64)>,
}

impl Quantiles {
    /// In microseconds: p50, p90, p99, p99.9 and the longest.
    #[must_use]
    pub fn microseconds(&self) -> String {
        let us = |ns: f64| format!("{:.1}", ns / 1000.0);
        let all = [self.p50, self.p90, self.p99, self.p999, self.max].map(us);
        format!("p50 {}, p90 {}, p99 {}, p99.9 {}, longest {} us", all[0], all[1], all[2], all[3], all[4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order_and_fine_enough() {
        for value in
            (0..2_000_u64).chain((11..43).flat_map(|bits| [(1 << bits) - 1, 1 << bits, 3 << (bits - 1)]))
        {
            let place = place(value);
            assert!(highest(place) >= value, "{value}");
            assert!(place == 0 || highest(place - 1) < value, "{value}");
            assert!(highest(place) - value <= value / 32, "{value}");
        }
        assert_eq!(place(u64::MAX), PLACES - 1);
    }

    #[test]
    fn parts() {
        let mut times = Times::default();
        (1..=1000).for_each(|cycles| times.add(cycles));
        let near = |part, value: u64| times.at(part) >= value && times.at(part) <= value + value / 32;
        assert!(near(0.5, 500) && near(0.9, 900) && near(0.99, 990));
        assert_eq!((times.at(1.0), times.count()), (1000, 1000));
        assert_eq!(Times::default().at(0.999), 0);
    }
}
