//! Telling the world what happened: scripts, mail, a webhook, and whoever listens at the API.
//!
//! Whoever has something to tell calls [`Notifier::tell`], which never waits: a bounded queue leads to a thread of its own
//! in the host's network namespace, and what finds no room there is counted and lost. `shunt_protocol::notify`
//! says when a mail is due and which script may run.

pub mod conditions;
mod driver;
mod mail;
mod webhook;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shunt_model::notify::{Event, What};

pub use conditions::{Condition, Holding};
pub use driver::{Listening, Notifier, Report};

/// What waits to be told; more is lost and counted.
pub const TOLD_MAX: usize = 4096;
/// Events that a slow listener at the API may be behind; it is told how many it missed.
pub const BEHIND_MAX: usize = 1024;
/// How long a notification script may run.
pub const SCRIPT_TIME: Duration = Duration::from_secs(60);
/// How long scripts and mail have to end when the director stops.
pub const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// An event of now.
#[must_use]
pub fn event(what: What, service: impl Into<String>, real: Option<String>, text: impl Into<String>) -> Event {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Event { at, what, service: service.into(), real, text: text.into() }
}
