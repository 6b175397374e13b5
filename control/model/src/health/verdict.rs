//! What the checks of a real server together say about it.

use std::time::Instant;

use super::Success;
use crate::limit::WEIGHT_MAX;

/// What checks say about a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// False takes it out of the schedule.
    pub up: bool,
    /// The weight that counts instead of the configured one.
    pub weight: Option<u32>,
    /// What is added to that.
    pub shift: i32,
    /// How much of it counts already, in percent: less than 100 for a while after a return.
    pub share: u8,
}

impl Default for Verdict {
    /// What holds for a real server that nobody checks.
    fn default() -> Self {
        Self { up: true, weight: None, shift: 0, share: 100 }
    }
}

impl Verdict {
    /// Takes what a check says; of several weights the least holds, and shifts add up.
    #[must_use]
    pub fn and(self, success: Success) -> Self {
        match success {
            Success::Up => self,
            Success::Weight(weight) => {
                Self { weight: Some(self.weight.map_or(weight, |other| other.min(weight))), ..self }
            }
            Success::Shift(shift) => Self { shift: self.shift.saturating_add(shift), ..self },
        }
    }

    /// The weight that counts while it is up. A share of a weight above 0 is above 0.
    #[must_use]
    pub fn weigh(&self, configured: u32) -> u32 {
        let full = i64::from(self.weight.unwrap_or(configured)) + i64::from(self.shift);
        let full = full.clamp(0, i64::from(WEIGHT_MAX)) as u32;
        let part = full * u32::from(self.share) / 100;
        if full > 0 { part.max(1) } else { 0 }
    }
}

/// What it makes of the weight: `configured`, `7`, `configured -3`, `10 % of configured`.
impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.share < 100 {
            write!(f, "{} % of ", self.share)?;
        }
        match self.weight {
            Some(weight) => write!(f, "{weight}")?,
            None => f.write_str("configured")?,
        }
        if self.shift == 0 { Ok(()) } else { write!(f, " {:+}", self.shift) }
    }
}

/// A verdict, and since when it has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What holds.
    pub verdict: Verdict,
    /// Since when the real server is up or down.
    pub since: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_weighed() {
        let verdict = Verdict::default();
        assert_eq!(verdict.weigh(7), 7);
        let slow = Verdict { share: 10, ..verdict };
        assert_eq!([0, 1, 9, 20, 65_535].map(|weight| slow.weigh(weight)), [0, 1, 1, 2, 6_553]);
        let both = verdict.and(Success::Weight(9)).and(Success::Weight(4)).and(Success::Shift(-1));
        assert_eq!(both.and(Success::Up).weigh(100), 3);
        assert_eq!(verdict.and(Success::Shift(-8)).weigh(7), 0);
        assert_eq!(verdict.and(Success::Shift(i32::MAX)).weigh(7), WEIGHT_MAX);
    }
}
