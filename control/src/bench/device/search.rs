//! The highest rate without loss, as RFC 2544, 26.1 looks for it: trials at a fixed rate, halving the interval between the
//! highest that passed and the lowest that did not.
//!
//! A machine that also does other things loses packets now and then at any rate. So a trial that lost is repeated, and a
//! rate passes when one of its trials does (binary search with loss verification, ETSI GS NFV-TST 009, 12.3.3).

use serde::{Deserialize, Serialize};

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The interval at which to stop, as a part of the highest rate.
    pub resolution: f64,
    /// The part of the packets that may be lost; 0 for none.
    pub tolerated: f64,
    /// Trials that a rate has to pass once, at least 1.
    pub attempts: u32,
}

/// What became of the packets of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Packets in a second that were asked for.
    pub asked_per_second: f64,
    /// Packets that were due and sent, or not taken by the NIC, which loses them as a wire would.
    pub offered: u64,
    /// Packets that came back.
    pub received: u64,
    /// How long packets were sent.
    pub seconds: f64,
}

impl Trial {
    /// The part of the packets that did not come back.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.offered.saturating_sub(self.received) as f64 / self.offered.max(1) as f64
    }

    /// Packets in a second that were offered.
    #[must_use]
    pub fn offered_per_second(&self) -> f64 {
        self.offered as f64 / self.seconds.max(1e-9)
    }
}

/// Looks for the highest rate up to `highest` that passes; 0 when none does. Gives all trials in order, too.
///
/// # Errors
/// The trial's.
pub fn zero_loss<E>(
    search: Search,
    highest: f64,
    mut trial: impl FnMut(f64) -> Result<Trial, E>,
) -> Result<(f64, Vec<Trial>), E> {
    let mut trials = Vec::new();
    let mut passes = |rate: f64, trials: &mut Vec<Trial>| {
        for _ in 0..search.attempts.max(1) {
            let one = trial(rate)?;
            trials.push(one);
            if one.loss() <= search.tolerated {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if passes(highest, &mut trials)? {
        return Ok((highest, trials));
    }
    let (mut low, mut high) = (0.0, highest);
    while high - low > highest * search.resolution.max(1e-6) {
        let middle = (low + high) / 2.0;
        if passes(middle, &mut trials)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((low, trials))
}

/// The part that is lost at the highest rate and at each tenth of it less, until two in a row lose none (RFC 2544, 26.3).
///
/// # Errors
/// The trial's.
pub fn frame_loss<E>(highest: f64, mut trial: impl FnMut(f64) -> Result<Trial, E>) -> Result<Vec<Trial>, E> {
    let mut trials: Vec<Trial> = Vec::new();
    for tenths in (1..=10).rev() {
        trials.push(trial(highest * f64::from(tenths) / 10.0)?);
        if trials.iter().rev().take_while(|trial| trial.loss() == 0.0).count() == 2 {
            break;
        }
    }
    Ok(trials)
}

/// The most packets one behind the other, up to `most`, of which none is lost: longer bursts as long as none is lost, shorter ones otherwise
/// (RFC 2544, 26.4), to the resolution of the number that is found.
///
/// # Errors
/// The trial's.
pub fn back_to_back<E>(
    search: Search,
    most: u64,
    mut burst: impl FnMut(u64) -> Result<Trial, E>,
) -> Result<u64, E> {
    let mut passes = |frames: u64| {
        for _ in 0..search.attempts.max(1) {
            if burst(frames)?.loss() == 0.0 {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let (mut low, mut high) = (0, 1);
    while passes(high)? {
        low = high;
        if high == most {
            return Ok(most);
        }
        high = (high * 2).min(most);
    }
    while high - low > 1 && (high - low) as f64 > low as f64 * search.resolution {
        let middle = low.midpoint(high);
        if passes(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { resolution: 0.01, tolerated: 0.0, attempts: 2 };

    /// A director that forwards up to 630,000 packets a second and loses the rest.
    fn director(asked: f64) -> Trial {
        let received = asked.min(630_000.0) as u64;
        Trial { asked_per_second: asked, offered: asked as u64, received, seconds: 1.0 }
    }

    #[test]
    fn finds_the_limit_to_the_resolution() {
        let (rate, trials) = zero_loss(SEARCH, 1e6, |asked| Ok::<_, ()>(director(asked))).unwrap();
        assert!((620_000.0..=630_000.0).contains(&rate), "{rate}");
        assert!(trials.len() <= 2 * 8, "{}", trials.len());
        let passed = trials.iter().filter(|trial| trial.loss() == 0.0).map(|trial| trial.asked_per_second);
        assert_eq!(passed.fold(0.0, f64::max), rate);
    }

    #[test]
    fn nothing_is_halved_when_nothing_is_lost() {
        let (rate, trials) = zero_loss(SEARCH, 5e5, |asked| Ok::<_, ()>(director(asked))).unwrap();
        assert_eq!((rate, trials.len()), (5e5, 1));
    }

    #[test]
    fn a_trial_that_was_disturbed_is_repeated() {
        let mut disturbed = true;
        let trial = |asked| {
            let lost = u64::from(std::mem::replace(&mut disturbed, false));
            let calm = director(asked);
            Ok::<_, ()>(Trial { received: calm.received - lost, ..calm })
        };
        assert_eq!(zero_loss(SEARCH, 5e5, trial).unwrap().0, 5e5);
    }

    #[test]
    fn tolerated_loss_passes_and_a_dead_director_does_not() {
        let some = Search { tolerated: 0.1, ..SEARCH };
        let (rate, _) = zero_loss(some, 1e6, |asked| Ok::<_, ()>(director(asked))).unwrap();
        assert!((690_000.0..=700_001.0).contains(&rate), "{rate}");
        let dead = |asked| Ok::<_, ()>(Trial { received: 0, ..director(asked) });
        assert_eq!(zero_loss(SEARCH, 1e6, dead).unwrap().0, 0.0);
    }

    #[test]
    fn frame_loss_is_told_in_tenths_until_two_lose_none() {
        let trials = frame_loss(1e6, |asked| Ok::<_, ()>(director(asked))).unwrap();
        let told: Vec<_> =
            trials.iter().map(|trial| (trial.offered / 1000, (trial.loss() * 100.0) as u32)).collect();
        assert_eq!(told, [(1000, 37), (900, 30), (800, 21), (700, 10), (600, 0), (500, 0)]);
        let dead = |asked| Ok::<_, ()>(Trial { received: 0, ..director(asked) });
        assert_eq!(frame_loss(1e6, dead).unwrap().len(), 10);
    }

    #[test]
    fn the_longest_burst_is_what_the_queue_holds() {
        let queue = |frames: u64| {
            let received = frames.min(1024);
            Ok::<_, ()>(Trial { asked_per_second: 0.0, offered: frames, received, seconds: 0.001 })
        };
        let found = back_to_back(SEARCH, 65_536, queue).unwrap();
        assert!((1013..=1024).contains(&found), "{found}");
        let one = |frames: u64| {
            Ok::<_, ()>(Trial {
                asked_per_second: 0.0,
                offered: frames,
                received: frames.min(1),
                seconds: 0.001,
            })
        };
        assert_eq!(back_to_back(SEARCH, 65_536, one).unwrap(), 1);
        let dead = |frames| Ok::<_, ()>(Trial { received: 0, ..queue(frames)? });
        assert_eq!(back_to_back(SEARCH, 65_536, dead).unwrap(), 0);
        assert_eq!(back_to_back(SEARCH, 1000, queue).unwrap(), 1000, "nothing is lost");
    }

    #[test]
    fn the_search_passes_errors_on() {
        assert_eq!(zero_loss(SEARCH, 1e6, |_| Err::<Trial, _>("gone")), Err("gone"));
    }
}
