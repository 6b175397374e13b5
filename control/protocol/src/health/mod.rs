//! What checks and counters say of real servers.
//!
//! [`judge`] says what the results of one check mean, [`passive`] what the workers' counters do, [`machine`] which check is due and what
//! all this says of a real server, [`rounds`] when checks begin, [`gather`] when changes are told.

pub mod gather;
pub mod judge;
pub mod machine;
pub mod passive;
pub mod rounds;

use std::sync::Arc;
use std::time::Duration;

use shunt_model::health::{Check, RealKey};

pub use machine::{Change, Listed};

/// Checks that run at once; those due beyond it wait. Each takes a descriptor: where fewer are left, fewer run.
pub const CHECKS_RUNNING_MAX: usize = 4096;
/// New checks start at least so far apart, unless their interval is too short for it.
pub const CHECKS_SPACING: Duration = Duration::from_millis(10);

/// A real server and how it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub key: RealKey,
    /// How; it is up while all of them say so.
    pub checks: Vec<Arc<Check>>,
    /// When failures that workers see take it out; none: never.
    pub passive: Option<shunt_model::health::passive::Rules>,
    /// How long its weight takes to grow after a return.
    pub slow_start: Duration,
    /// With which others it shares the checks of its address that are the same.
    pub group: Option<Arc<str>>,
}
