//! Random rule sets and packet traces, from a seed, to be played to the kernel and to this director.
//!
//! [`rules`] makes services and real servers, [`trace`] the packets and what changes between them; [`case`] puts both
//! together and sees to it that the answer does not depend on how fast a guest is ([`steady`]). [`shrink`] makes a
//! scenario that differs small; [`commands`] makes cases of commands alone; [`coverage`] counts what was tried.

pub mod commands;
pub mod coverage;
pub mod numbers;
pub mod rules;
pub mod shrink;
pub mod steady;
pub mod trace;

use crate::oracle::commands::Unknown;
use crate::oracle::scenario::Scenario;
use coverage::About;
use numbers::Numbers;

/// Packets of a case.
pub const PACKETS: usize = 50;
/// Changes of the rules between them, at least.
pub const CHANGES: usize = 2;
/// How often a case that is not steady is made anew before it is made without long pauses.
const ATTEMPTS: u64 = 4;

/// A random case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it was made from.
    pub seed: u64,
    /// What is in it.
    pub about: About,
    /// What is played.
    pub scenario: Scenario,
}

/// The case of a seed.
///
/// # Errors
/// When the runner does not know a command that was made, which is a mistake of the generator.
pub fn case(seed: u64) -> Result<Case, Unknown> {
    for attempt in 0..ATTEMPTS {
        let case = made(seed, attempt, true)?;
        if steady::is_steady(&case.scenario)? {
            return Ok(case);
        }
    }
    made(seed, ATTEMPTS, false)
}

/// What is made from a seed, steady or not, with long pauses or without.
///
/// # Errors
/// As [`case`].
pub fn made(seed: u64, attempt: u64, pauses: bool) -> Result<Case, Unknown> {
    let mut numbers = Numbers::new(seed.wrapping_mul(ATTEMPTS + 1).wrapping_add(attempt));
    let mut rules = rules::Rules::random(&mut numbers);
    let mut about = rules.about();
    let mut scenario = Scenario { setup: rules.setup(&mut numbers), ..Scenario::default() };
    scenario.note = format!("random, seed {seed}: {about}");
    trace::add(&mut scenario, rules, &mut about, &mut numbers, pauses)?;
    Ok(Case { seed, about, scenario })
}
