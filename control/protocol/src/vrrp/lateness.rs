//! How late adverts were, as a histogram.

use std::time::Duration;

/// Buckets: below 2 µs, below 4 µs, and so on; the last one has all that is longer, from 8 s.
const BUCKETS: usize = 24;

/// Adverts by how long after they were due their NIC had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness([u64; BUCKETS]);

impl Lateness {
    /// An advert was so late.
    pub fn note(&mut self, late: Duration) {
        let microseconds = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let place = (microseconds.max(1).ilog2() as usize).min(BUCKETS - 1);
        self.0[place] += 1;
    }

    /// The buckets that are not empty: the least µs of each, and how many adverts.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let all = self.0.iter().enumerate().map(|(place, &count)| (1 << place, count));
        all.filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_advert_lies_in_one_bucket() {
        let mut lateness = Lateness::default();
        for microseconds in [0, 1, 2, 3, 4, 1023, 1024, u64::MAX] {
            lateness.note(Duration::from_micros(microseconds));
        }
        let buckets: Vec<_> = lateness.buckets().collect();
        assert_eq!(buckets, [(1, 2), (2, 2), (4, 1), (512, 1), (1024, 1), (1 << 23, 1)]);
    }
}
