//! Rates as the kernel estimates them (`ip_vs_est.c`): every two seconds, an average that follows by a quarter.

use std::time::Duration;

use shunt_model::ipvsadm::table::Numbers;

/// From one look at the totals to the next.
pub const PERIOD: Duration = Duration::from_secs(2);

/// Fractions of a connection or a packet in a second.
const FINE: u32 = 10;
/// Fractions of a byte in a second.
const FINE_BYTES: u32 = 5;

/// What is known of the rates of one thing that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    last: Numbers,
    average: Numbers,
}

impl Estimate {
    /// Begins where the totals are now.
    #[must_use]
    pub fn begin(totals: Numbers) -> Self {
        Self { last: totals, average: Numbers::default() }
    }

    /// Looks at the totals, [`PERIOD`] after the last look.
    pub fn look(&mut self, totals: Numbers) {
        let new = totals.minus(self.last);
        self.last = totals;
        let follow = |average: &mut u64, counted: u64, fine: u32| {
            // Counted in two seconds, hence one bit less.
            let rate = (counted << (fine - 1)) as i64;
            *average = average.wrapping_add_signed((rate - *average as i64) >> 2);
        };
        let average = &mut self.average;
        follow(&mut average.connections, new.connections, FINE);
        follow(&mut average.packets_in, new.packets_in, FINE);
        follow(&mut average.packets_out, new.packets_out, FINE);
        follow(&mut average.bytes_in, new.bytes_in, FINE_BYTES);
        follow(&mut average.bytes_out, new.bytes_out, FINE_BYTES);
    }

    /// In a second, rounded.
    #[must_use]
    pub const fn rates(&self) -> Numbers {
        const fn whole(average: u64, fine: u32) -> u64 {
            (average + (1 << (fine - 1)) - 1) >> fine
        }
        let Numbers { connections, packets_in, packets_out, bytes_in, bytes_out } = self.average;
        Numbers {
            connections: whole(connections, FINE),
            packets_in: whole(packets_in, FINE),
            packets_out: whole(packets_out, FINE),
            bytes_in: whole(bytes_in, FINE_BYTES),
            bytes_out: whole(bytes_out, FINE_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_approached_and_left_by_quarters() {
        let mut estimate = Estimate::begin(Numbers { connections: 7, ..Numbers::default() });
        let mut totals = Numbers { connections: 7, ..Numbers::default() };
        let mut seen = Vec::new();
        for _ in 0..30 {
            totals.connections += 200;
            totals.bytes_in += 128_000;
            estimate.look(totals);
            seen.push(estimate.rates().connections);
        }
        assert_eq!(seen[..4], [25, 44, 58, 68]);
        assert_eq!((estimate.rates().connections, estimate.rates().bytes_in), (100, 63_989));
        for _ in 0..80 {
            estimate.look(totals);
        }
        assert_eq!(estimate.rates(), Numbers::default());
    }
}
