//! What the director knows of its neighbours, and who else uses its addresses.

use serde::{Deserialize, Serialize};

/// The neighbour table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Neighbours, by NIC and address.
    pub neighbours: Vec<Neighbour>,
    /// Other hosts that use addresses of the director.
    pub conflicts: Vec<Conflict>,
    /// What was heard and changed nothing, by reason.
    pub refused: Vec<Refused>,
    /// Requests answered.
    pub answered: u64,
    /// Requests sent.
    pub requests: u64,
    /// Announcements sent.
    pub announcements: u64,
    /// Neighbours that gave way to others.
    pub evicted: u64,
}

/// A neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The NIC that it is behind.
    pub nic: String,
    /// Its address.
    pub address: String,
    /// Its MAC; null when it is not known.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale`, `probe`, `failed` or `static`.
    pub state: String,
    /// What the configuration needs it for: `real`, `router` or `director`; null for others.
    pub named: Option<String>,
    /// Seconds since its MAC is what it is; without a MAC, since it is asked for.
    pub since: u64,
    /// Packets that wait for it.
    pub waiting: u64,
}

/// Another host that uses, or wants to use, an address of the director.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The NIC that it was heard on.
    pub nic: String,
    /// The director's address.
    pub address: String,
    /// The other host.
    pub mac: String,
    /// The real server that it is, where it is one.
    pub real: Option<String>,
    /// Seconds since it was heard first.
    pub since: u64,
    /// Seconds since it was heard last.
    pub last: u64,
    /// How often it was heard.
    pub count: u64,
    /// What happens, the likely cause, and what to do.
    pub text: String,
}

/// How often something that was heard changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The reason's word.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// What it means.
    pub help: String,
}
