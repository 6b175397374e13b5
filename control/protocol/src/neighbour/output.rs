//! What the neighbour machine says: work to be done, changes to be published, news, counts.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_dataplane::id::{Mac, NicId};

use super::conflict::Conflict;

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
    /// The neighbour that this packet waited for does not answer: tell the sender.
    Unreachable(P),
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

/// What the configuration needs a neighbour for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Named {
    /// It is a real server.
    Real,
    /// It is a router, on the way to real servers, peers or everything else.
    Router,
    /// It is the other director of a virtual router.
    Director,
}

impl Named {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Router => "router",
            Self::Director => "director",
        }
    }
}

/// How sure the director is of a neighbour (RFC 4861, 7.3.2, for both families).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being asked for the first time.
    Incomplete,
    /// It answered a question within [`super::REACHABLE`].
    Reachable,
    /// It asked for the director, and was not asked itself yet.
    Stale,
    /// Its time is up, or another host claims its address: it is being asked again.
    Probe,
    /// It does not answer; it is asked on.
    Failed,
    /// The configuration names its MAC; it is never asked.
    Static,
}

impl Standing {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probe => "probe",
            Self::Failed => "failed",
            Self::Static => "static",
        }
    }
}

/// What an operator wants to know about neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A neighbour that the configuration names answered for the first time, or again.
    Resolved {
        /// Behind this NIC.
        nic: NicId,
        /// The neighbour.
        address: IpAddr,
        /// Its MAC.
        mac: Mac,
    },
    /// A neighbour answers with another MAC than before.
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
    /// Two hosts answer for a neighbour's address; told once in [`super::CONFLICT_INTERVAL`].
    Disputed {
        /// Behind this NIC.
        nic: NicId,
        /// The neighbour.
        address: IpAddr,
        /// Its MAC, which stays.
        mac: Mac,
        /// The other host's.
        other: Mac,
    },
    /// A neighbour that the configuration names does not answer; it is asked on.
    Silent {
        /// Behind this NIC.
        nic: NicId,
        /// The neighbour.
        address: IpAddr,
    },
    /// Another host uses, or wants to use, an address of the director; told once in [`super::CONFLICT_INTERVAL`].
    Conflict(Conflict),
    /// It has not been heard for [`super::CONFLICT_OVER`].
    ConflictOver {
        /// What it was.
        conflict: Conflict,
        /// From the first to the last time that it was heard.
        lasted: Duration,
    },
}

macro_rules! refused {
    ($($name:ident = $word:literal: $help:literal,)*) => {
        /// Why something that was heard on a link changed nothing, or was not answered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refused {
            $(#[doc = $help] $name,)*
        }

        impl Refused {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// The word of the API.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it means.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

refused! {
    Kind = "kind": "A frame of a kind that the director does not heed: router discovery, redirects, for another host.",
    Malformed = "malformed": "A frame that ends early or has a field that cannot be so.",
    HopLimit = "hop_limit": "Neighbour discovery that a router passed on: its hop limit is not 255 (RFC 4861, 7.1).",
    Looped = "looped": "A frame of the director's own that came back: its NICs are on one link, or the link has a loop.",
    NotOwned = "not_owned": "A question about an address that is not the director's, or not on that NIC: nothing is proxied.",
    Unknown = "unknown": "News about a host that the director has nothing to do with.",
    OffLink = "off_link": "A host asked from an address that is in no network of the NIC: it was answered, and not learned.",
    Unasked = "unasked": "A MAC that nobody asked for would have replaced one: everybody was asked instead.",
    Static = "static": "Another MAC for a neighbour whose MAC the configuration names.",
    Claim = "claim": "A host claimed an address of the director's.",
    Full = "full": "A host was not learned because its NIC had as many neighbours as it may have.",
}

/// What the machine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What was refused, by [`Refused`].
    pub refused: [u64; Refused::ALL.len()],
    /// Requests answered.
    pub answered: u64,
    /// Requests sent.
    pub requests: u64,
    /// Announcements sent.
    pub announcements: u64,
    /// Neighbours that had to give way to others.
    pub evicted: u64,
    /// Neighbours refused because their NIC had as many as it may have.
    pub table_full: u64,
    /// Neighbours, and a packet with each, refused because as many of their NIC had been asked and had not answered yet.
    pub asked_full: u64,
    /// Packets dropped because too many waited.
    pub waiting_full: u64,
    /// Packets dropped because their neighbour did not answer, or left the configuration.
    pub unresolved: u64,
    /// Packets dropped that workers could not send although the neighbour was long known.
    pub circling: u64,
}

impl Counters {
    /// Counts something refused.
    pub(super) fn refuse(&mut self, refused: Refused) {
        self.refused[refused as usize] += 1;
    }

    /// How often something was refused.
    #[must_use]
    pub const fn of(&self, refused: Refused) -> u64 {
        self.refused[refused as usize]
    }
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
    /// How sure of it the director is.
    pub standing: Standing,
    /// What the configuration needs it for, if anything.
    pub named: Option<Named>,
    /// Since when the MAC is what it is; without one, since when it is asked for.
    pub since: Instant,
    /// Packets that wait for it.
    pub waiting: usize,
}
