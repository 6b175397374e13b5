//! What the machine says: work to be done, news, what an operator sees.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_dataplane::id::{Mac, NicId};
use shunt_model::script::Script;
use shunt_model::vrrp::Told;
use shunt_model::vrrp::{Key, Role, Version, Vrid};

use super::lateness::Lateness;
use super::refusal::{Complaint, Refusal};

/// An advert that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub router: Key,
    /// When.
    pub at: Instant,
}

/// What the machine wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an advert.
    Advert {
        /// Out of this NIC.
        nic: NicId,
        /// Whom it goes to.
        to: To,
        /// From this MAC; none for the NIC's.
        from: Option<Mac>,
        /// The IP packet.
        packet: Vec<u8>,
        /// Whose it is, and when it was due; none for one that was not due at a time, and all but one of those that were at once.
        due: Option<Due>,
    },
    /// Tell everybody on the link that this VIP is at the NIC's MAC.
    Announce {
        /// Out of this NIC.
        nic: NicId,
        /// The VIP.
        address: IpAddr,
    },
    /// Another director is there, at this MAC.
    Partner {
        /// Heard on this NIC.
        nic: NicId,
        /// Where its adverts come from.
        mac: Mac,
        /// For how long both may be masters until they agree.
        patience: Duration,
    },
    /// Which VIPs belong to the director changed; see [`Machine::vips`](super::Machine::vips).
    Moved,
    /// Tell the operator.
    Event(Event),
}

/// Whom an advert goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The multicast group of the family.
    Group,
    /// One peer, by way of this neighbour.
    Neighbour(IpAddr),
}

/// Why a virtual router is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has not begun.
    NotStarted,
    /// It begins, or begins again, and listens first.
    Started,
    /// It owns the VIPs (priority 255).
    Owner,
    /// No advert came for as long as the protocol waits; who was master before, if anybody.
    Silence(Option<IpAddr>),
    /// The master said that it ends.
    Resigned(IpAddr),
    /// The master's priority is lower than the own one.
    Preempts(IpAddr, u8),
    /// A director of this priority, or of the same and a higher address, is master.
    Outranked(IpAddr, u8),
    /// It did not run for so long, longer than others wait for a master, and listens first.
    Slept(Duration),
    /// The link of its NIC is down.
    LinkDown,
    /// Its NIC takes no frames to this virtual MAC.
    VirtualMac(Mac),
    /// What it tracks without weight fails: this.
    Tracked(String),
    /// It moves with this member of its group.
    Group(String),
    /// A reload took it out of the configuration.
    Removed,
    /// The director ends.
    Stopped,
}

impl Reason {
    /// True where somebody asked for it: it begins, is taken out, ends.
    #[must_use]
    pub const fn is_meant(&self) -> bool {
        matches!(self, Self::NotStarted | Self::Started | Self::Removed | Self::Stopped)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("it has not begun"),
            Self::Started => f.write_str("it begins by listening"),
            Self::Owner => f.write_str("it owns the addresses (priority 255)"),
            Self::Silence(None) => f.write_str("no master was heard"),
            Self::Silence(Some(who)) => write!(f, "the master {who} fell silent"),
            Self::Resigned(who) => write!(f, "the master {who} gave up (priority 0)"),
            Self::Preempts(who, priority) => write!(f, "the master {who} has priority {priority} only"),
            Self::Outranked(who, priority) => write!(f, "{who} is master with priority {priority}"),
            Self::Slept(time) => write!(f, "it did not run for {} ms and listens first", time.as_millis()),
            Self::LinkDown => f.write_str("the link of its NIC is down"),
            Self::VirtualMac(mac) => write!(f, "its NIC takes no frames to the virtual MAC {mac}"),
            Self::Tracked(what) => write!(f, "{what} fails"),
            Self::Group(member) => write!(f, "it moves with {member} of its group"),
            Self::Removed => f.write_str("it is no longer in the configuration"),
            Self::Stopped => f.write_str("the director ends"),
        }
    }
}

/// Another host that also acts as master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// A director, by its adverts.
    Director(IpAddr),
    /// A host that answers for a VIP.
    Host(Mac),
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Director(address) => address.fmt(f),
            Self::Host(mac) => mac.fmt(f),
        }
    }
}

/// The likely cause of two masters at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The rival is heard and has to give way, but does not: this director's adverts do not reach it.
    NotHeard,
    /// The rival is heard, but its adverts are refused.
    Refused(Refusal),
    /// The rival answers for a VIP without a word of adverts.
    NoAdverts(IpAddr),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeard => f.write_str(
                "it has to give way and does not: it does not hear this director: check multicast, filters and authentication on its side",
            ),
            Self::Refused(refusal) => write!(f, "its adverts are refused: {refusal}"),
            Self::NoAdverts(address) => write!(
                f,
                "it answers for {address} without sending adverts that arrive here: check multicast and filters, or take the address off it"
            ),
        }
    }
}

/// Two masters at a time, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitBrain {
    /// The other one.
    pub rival: Rival,
    /// Noticed first.
    pub since: Instant,
    /// The likely cause.
    pub cause: Cause,
}

/// What an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A virtual router changed its role.
    Entered {
        /// Which.
        name: String,
        /// The role from now on.
        role: Role,
        /// Why.
        reason: Reason,
        /// What has to be run.
        scripts: Vec<Script>,
    },
    /// All of a group are masters, one of it is in fault, or none of both is so any longer.
    Group {
        /// Which.
        name: String,
        /// What it is from now on.
        told: Told,
        /// What has to be run.
        scripts: Vec<Script>,
    },
    /// A master heard an advert of a lower priority, or of the same and a lower address; told when there is a script for it.
    LowerPriority {
        /// Which virtual router.
        name: String,
        /// Whose advert.
        from: IpAddr,
        /// Its priority.
        priority: u8,
        /// What has to be run.
        scripts: Vec<Script>,
    },
    /// A master's adverts come late (heartbeat: `warntime`).
    Late {
        /// Which virtual router.
        name: String,
        /// The master.
        from: IpAddr,
        /// Between two of its adverts.
        gap: Duration,
    },
    /// An advert is refused; told once in [`super::COMPLAINT_INTERVAL`] for each director.
    Refused {
        /// Which virtual router.
        name: String,
        /// Whose advert.
        from: IpAddr,
        /// Why.
        refusal: Refusal,
    },
    /// An advert is heeded, and something is wrong with it; told as often.
    Odd {
        /// Which virtual router.
        name: String,
        /// Whose advert.
        from: IpAddr,
        /// What.
        complaint: Complaint,
    },
    /// Another host acts as master for longer than a takeover takes.
    SplitBrain {
        /// Which virtual router.
        name: String,
        /// The other one.
        rival: Rival,
        /// The likely cause.
        cause: Cause,
    },
    /// It is over.
    SplitBrainOver {
        /// Which virtual router.
        name: String,
        /// The other one.
        rival: Rival,
        /// How long it was.
        lasted: Duration,
    },
}

/// What the machine counts, over all virtual routers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Adverts sent.
    pub sent: u64,
    /// Adverts heeded.
    pub received: u64,
    /// Adverts of virtual routers that are not configured on the NIC; they may be there for others.
    pub unknown: u64,
    /// Packets that are no whole adverts.
    pub malformed: u64,
    /// Adverts refused.
    pub refused: u64,
    /// The director's own adverts, come back.
    pub looped: u64,
    /// Announcements of VIPs.
    pub announced: u64,
}

/// Another director, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerListed {
    /// Its address.
    pub address: IpAddr,
    /// Its priority as told last; none when none of its adverts was heeded.
    pub priority: Option<u8>,
    /// Its last advert came then.
    pub heard: Instant,
    /// Its adverts that were heeded.
    pub received: u64,
    /// Why its last advert was refused.
    pub refused: Option<Refusal>,
    /// What was wrong with its last advert that was heeded.
    pub complaint: Option<Complaint>,
}

/// A virtual router, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The NIC.
    pub nic: NicId,
    /// Its number.
    pub vrid: Vrid,
    /// Its version.
    pub version: Version,
    /// The MAC of its VIPs; none for the NIC's.
    pub virtual_mac: Option<Mac>,
    /// Its role.
    pub role: Role,
    /// Since when.
    pub since: Instant,
    /// Why.
    pub reason: Reason,
    /// The priority with what it tracks.
    pub priority: u8,
    /// The master, when another director is it.
    pub master: Option<IpAddr>,
    /// Who else was heard.
    pub peers: Vec<PeerListed>,
    /// Two masters at a time.
    pub split_brain: Option<SplitBrain>,
    /// Adverts refused, by the word of [`Refusal::word`].
    pub refused: Vec<(&'static str, u64)>,
    /// Adverts sent.
    pub sent: u64,
    /// The longest time between two adverts sent as master.
    pub longest_gap: Duration,
    /// How late those adverts were.
    pub lateness: Lateness,
    /// How often it became master.
    pub masterships: u64,
}
