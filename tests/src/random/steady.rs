//! Which cases have one answer, however fast the guest is.
//!
//! The kernel's timers are coarse: one of five minutes may fire 16 seconds late, and commands take a guest's time. A
//! packet that comes while a timer is about to fire may find its connection or not, which says nothing about the director.
//! So a case is played to this director by three clocks; it is used only if the answers agree.

use std::time::Duration;

use crate::oracle::commands::Unknown;
use crate::oracle::compare::compare_within;
use crate::oracle::play::{STEP, play, play_at};
use crate::oracle::scenario::{Scenario, Step};

/// What a step may take in the guest.
const SLOW: Duration = Duration::from_millis(80);
/// How late the kernel's timers of up to 17 minutes may be (its timer wheel, at 250 ticks a second).
const LATE: f64 = 17.0;
/// How much longer a pause may be than was asked for.
const LONGER: f64 = 3.0;

/// True when this director gives the same answers by a slow clock, and with pauses that are shorter and longer.
///
/// # Errors
/// When it holds a command that the runner does not know.
pub fn is_steady(scenario: &Scenario) -> Result<bool, Unknown> {
    let base = play(scenario)?;
    for (pace, more) in [(SLOW, LONGER), (STEP, -LATE)] {
        let other = play_at(&with_pauses(scenario, more), pace)?;
        if !compare_within(u32::MAX, &base, &other).differences.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A scenario whose pauses are longer by so many seconds, and whose pauses of less than those are as they are.
fn with_pauses(scenario: &Scenario, more: f64) -> Scenario {
    let mut other = scenario.clone();
    for step in &mut other.steps {
        if let Step::Wait { wait } = step {
            if *wait > LATE {
                *wait += more;
            }
        }
    }
    other
}
