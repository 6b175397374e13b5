//! The running director: what `shunt run` starts, keeps together and ends.
//!
//! [`nics`] and [`workers`] bring up DPDK and the polling cores, [`core`] is the one place where a change (file,
//! health, neighbours) becomes a generation, [`run`] is the life of the process.

mod ask;
pub mod changes;
pub mod claims;
pub mod core;
mod descriptors;
mod events;
mod ipvsadm;
mod links;
pub mod live;
pub mod nics;
mod opening;
pub mod packets;
mod placement;
mod reopen;
pub mod run;
mod status;
mod status_neighbours;
mod status_vrrp;
mod tables;
pub mod targets;
mod virtual_macs;
pub mod workers;

use std::fmt;

/// Why the director does not start: where, what is wrong, what holds instead, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    place: String,
    wrong: String,
    holds: String,
    advice: String,
    /// No error: the end was asked for.
    end: bool,
}

impl StartError {
    /// All four parts; those that are empty are left out.
    #[must_use]
    pub const fn new(place: String, wrong: String, holds: String, advice: String) -> Self {
        Self { place, wrong, holds, advice, end: false }
    }

    /// The end was asked for by this signal.
    fn end(signal: &str) -> Self {
        Self { end: true, ..Self::of("shunt run", &format!("{signal} during the start")) }
    }

    const fn is_end(&self) -> bool {
        self.end
    }

    /// An error of another part, which says by itself what to do.
    #[must_use]
    pub fn of(place: &str, error: &dyn fmt::Display) -> Self {
        Self::new(place.to_owned(), error.to_string(), String::new(), String::new())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        for part in [&self.wrong, &self.holds, &self.advice] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for StartError {}
