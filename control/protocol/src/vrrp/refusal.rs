//! Why an advert is refused, and what is wrong with one that is heeded, as people read it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use shunt_dataplane::id::Mac;
use shunt_model::vrrp::Version;

/// Why an advert is not heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another version than the virtual router speaks.
    Version {
        /// Theirs.
        theirs: Version,
        /// Ours.
        ours: Version,
    },
    /// The checksum is wrong.
    Checksum,
    /// A router passed it on.
    Ttl {
        /// What was left of it.
        left: u8,
        /// What must be left.
        least: u8,
    },
    /// Sent to the group where adverts are unicast.
    Multicast,
    /// Sent to the director alone where adverts are multicast.
    Unicast,
    /// Not from one of the peers.
    NotPeer,
    /// Another kind of authentication.
    AuthKind {
        /// Theirs, as the number of the protocol: 0 none, 1 password, 2 header; 3 is a trailer.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
    /// Another password.
    Password,
    /// Another key, or changed on its way.
    Digest,
    /// An old authenticated advert, sent again.
    Replay {
        /// Its sequence number.
        sequence: u64,
        /// The one heard before.
        last: u64,
    },
    /// A trailer of a kind that nobody knows.
    Trailer,
    /// A trailer by a key of a number that is not configured.
    KeyId(u8),
    /// A trailer whose time is too far from this director's.
    Stale {
        /// How many seconds its clock is behind this one.
        behind: i32,
        /// How many are believed.
        window: u16,
    },
    /// From the address that this director's own adverts come from, but from another MAC.
    OwnAddress(Mac),
    /// It tells other VIPs.
    Addresses {
        /// Theirs.
        theirs: Vips,
        /// Ours.
        ours: Vips,
    },
    /// Version 2 wants the same interval everywhere (RFC 3768, 7.1).
    Interval {
        /// Theirs.
        theirs: Duration,
        /// Ours.
        ours: Duration,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const AUTH: [&str; 4] = ["none", "a password", "an authentication header", "an HMAC trailer"];
        let kind = |number: u8| AUTH.get(usize::from(number)).copied().unwrap_or("one that nobody knows");
        match *self {
            Self::Version { theirs, ours } => write!(
                f,
                "it speaks version {}, this director version {}: set the same version on both",
                theirs.number(),
                ours.number()
            ),
            Self::Checksum => f.write_str("the checksum is wrong"),
            Self::Ttl { left, least } => {
                write!(f, "its TTL is {left} and must be {least} or more: it came through a router")
            }
            Self::Multicast => {
                f.write_str("it is multicast, and this director has unicast peers: set peers on both")
            }
            Self::Unicast => f.write_str("it is unicast, and this director has no peers: set peers on both"),
            Self::NotPeer => f.write_str("it is not among the peers"),
            Self::AuthKind { theirs, ours } => write!(
                f,
                "its authentication is {}, this director's {}: set the same on both",
                kind(theirs),
                kind(ours)
            ),
            Self::Password => f.write_str("its password differs"),
            Self::Digest => f.write_str("its key differs, or it was changed on its way"),
            Self::Replay { sequence, last } => {
                write!(f, "its sequence number {sequence} does not come after {last}: an old one sent again")
            }
            Self::Trailer => f.write_str("its HMAC trailer is of a kind that nobody knows"),
            Self::KeyId(id) => {
                write!(
                    f,
                    "its HMAC is by key {id}, which this director does not have: set the same keys on both"
                )
            }
            Self::Stale { behind, window } => write!(
                f,
                "its time is {}, and {window} s are believed: an old one sent again, or clocks that differ: set both by NTP",
                clocks(behind)
            ),
            Self::OwnAddress(mac) => write!(
                f,
                "it comes from {mac} and from the address that this director's adverts come from: two hosts have it: give one \
                 of them another one"
            ),
            Self::Addresses { theirs, ours } => write!(
                f,
                "its VIPs are {theirs}, this director's {ours}: set the same on both; if it belongs to another cluster, give \
                 one of the two another vrid"
            ),
            Self::Interval { theirs, ours } => write!(
                f,
                "its interval is {theirs:?}, this director's {ours:?}: version 2 wants the same on both"
            ),
        }
    }
}

impl Refusal {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Version { .. } => "version",
            Self::Checksum => "checksum",
            Self::Ttl { .. } => "ttl",
            Self::Multicast => "multicast",
            Self::Unicast => "unicast",
            Self::NotPeer => "not_peer",
            Self::AuthKind { .. } => "auth_kind",
            Self::Password => "password",
            Self::Digest => "digest",
            Self::Replay { .. } => "replay",
            Self::Trailer => "trailer",
            Self::KeyId(_) => "key_id",
            Self::Stale { .. } => "stale",
            Self::OwnAddress(_) => "own_address",
            Self::Addresses { .. } => "addresses",
            Self::Interval { .. } => "interval",
        }
    }
}

/// How another clock stands to this one.
fn clocks(behind: i32) -> String {
    let word = if behind < 0 { "ahead of" } else { "behind" };
    format!("{} s {word} this director's", behind.unsigned_abs())
}

/// What is wrong with an advert that is heeded all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The master tells some of the director's VIPs, and not the same ones: one of both was changed.
    Addresses {
        /// Theirs.
        theirs: Vips,
        /// Ours.
        ours: Vips,
    },
    /// Both say that the VIPs are their own.
    TwoOwners,
    /// The time of its trailer is more than half of the window off.
    Clock {
        /// How many seconds its clock is behind this one.
        behind: i32,
        /// How many are believed.
        window: u16,
    },
    /// Its interval is longer than is believed.
    Interval {
        /// Theirs.
        theirs: Duration,
        /// What is waited for instead.
        believed: Duration,
        /// Ours.
        ours: Duration,
    },
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Addresses { theirs, ours } => write!(
                f,
                "its VIPs are {theirs}, this director's {ours}: the others are nobody's: set the same on both"
            ),
            Self::TwoOwners => f.write_str(
                "it owns the VIPs (priority 255), and so does this director: only one can: set priority 254 or less on the other",
            ),
            Self::Clock { behind, window } => write!(
                f,
                "its time is {}, and adverts that are more than {window} s off are refused: set both by NTP",
                clocks(behind)
            ),
            Self::Interval { theirs, believed, ours } => write!(
                f,
                "its interval is {theirs:?}, this director's {ours:?}: it is waited for as if it were {believed:?}: set the same \
                 on both"
            ),
        }
    }
}

/// VIPs as people read them: some, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vips {
    some: [Option<IpAddr>; Self::SHOWN_MAX],
    count: u16,
}

impl Vips {
    /// Those that are shown.
    const SHOWN_MAX: usize = 3;

    /// Of these.
    #[must_use]
    pub fn of(addresses: &[IpAddr]) -> Self {
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        Self {
            some: std::array::from_fn(|place| addresses.get(place).copied()),
            count: u16::try_from(addresses.len()).unwrap_or(u16::MAX),
        }
    }
}

impl fmt::Display for Vips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        for (place, address) in self.some.iter().flatten().enumerate() {
            write!(f, "{}{address}", if place == 0 { "" } else { ", " })?;
        }
        match usize::from(self.count).saturating_sub(Self::SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
