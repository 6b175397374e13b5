//! What the neighbour machine says: work to be done, changes to be published, news, counts.

use std::net::IpAddr;

use shunt_dataplane::id::{Mac, NicId};

/// What the machine wants done, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Send a frame as it is.
    Transmit {
        /// Out of this NIC.
        nic: NicId,
        /// The whole frame without its check sequence.
        frame: Vec<u8>,
    },
    /// The table changed: publish it.
    Change(Change),
    /// The neighbour that this packet waited for is known: once workers have what was published before, let the
    /// packet be forwarded again.
    Release(P),
    /// Tell the operator.
    Event(Event),
}

/// A line of the neighbour table that workers have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Behind this NIC.
    pub nic: NicId,
    /// The neighbour.
    pub address: IpAddr,
    /// Its MAC; none when it is gone.
    pub mac: Option<Mac>,
}

/// What an operator wants to know about neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A wanted neighbour answered for the first time, or again.
    Resolved {
        /// Behind this NIC.
        nic: NicId,
        /// The neighbour.
        address: IpAddr,
        /// Its MAC.
        mac: Mac,
    },
    /// A neighbour has another MAC than before.
    MacChanged {
        /// Behind this NIC.
        nic: NicId,
        /// The neighbour.
        address: IpAddr,
        /// Its MAC until now.
        from: Mac,
        /// Its MAC from now on.
        to: Mac,
    },
    /// A wanted neighbour does not answer; it is asked on.
    Silent {
        /// Behind this NIC.
        nic: NicId,
        /// The neighbour.
        address: IpAddr,
    },
    /// Another host uses, or wants to use, an address of the director.
    Conflict {
        /// Heard on this NIC.
        nic: NicId,
        /// The director's address.
        address: IpAddr,
        /// The other host.
        other: Mac,
    },
}

/// What the machine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames of a kind that the director does not heed: router discovery, redirects, another host's.
    pub unwanted: u64,
    /// Frames that end early or have a field that cannot be so.
    pub malformed: u64,
    /// The director's own frames, come back.
    pub looped: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests sent.
    pub requests: u64,
    /// Announcements sent.
    pub announcements: u64,
    /// Neighbours refused because the table, or its part for those that do not answer, was full.
    pub table_full: u64,
    /// Packets dropped because too many waited.
    pub waiting_full: u64,
    /// Packets dropped because their neighbour did not answer, or left the configuration.
    pub unresolved: u64,
    /// Packets dropped that workers could not send although the neighbour was long known.
    pub circling: u64,
}

/// A line of the neighbour table as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Behind this NIC.
    pub nic: NicId,
    /// The neighbour.
    pub address: IpAddr,
    /// Its MAC, when known.
    pub mac: Option<Mac>,
    /// Named by the configuration: a real server or a gateway.
    pub wanted: bool,
    /// Packets that wait for it.
    pub waiting: usize,
}
