//! What an operator sets of a virtual router.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::address::Family;
use shunt_dataplane::id::{Mac, NicId};

use super::PRIORITY_OWNER;
use super::notify::Notify;
use crate::secret::Secret;

/// The shortest interval of version 2, which counts in seconds.
pub const INTERVAL_MIN_V2: Duration = Duration::from_secs(1);
/// The longest interval of version 2.
pub const INTERVAL_MAX_V2: Duration = Duration::from_secs(255);
/// The shortest interval of version 3, which counts in hundredths of a second.
pub const INTERVAL_MIN_V3: Duration = Duration::from_millis(10);
/// The longest interval of version 3: 12 bits.
pub const INTERVAL_MAX_V3: Duration = Duration::from_millis(40_950);

/// How many times its own interval a backup believes of a master's.
const INTERVAL_TIMES_MAX: u32 = 4;
/// What it believes in any case.
const INTERVAL_BELIEVED: Duration = Duration::from_secs(2);

/// The number of a virtual router on its link (VRID), 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(pub u8);

impl Vrid {
    /// The MAC of the virtual router (RFC 9568, 7.3).
    #[must_use]
    pub const fn mac(self, family: Family) -> Mac {
        let family = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        Mac([0x00, 0x00, 0x5e, 0x00, family, self.0])
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 alone, whole seconds, authentication.
    V2,
    /// RFC 9568: both families, hundredths of a second.
    V3,
}

impl Version {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The intervals that it can express: shortest, longest, step.
    #[must_use]
    pub const fn intervals(self) -> (Duration, Duration, Duration) {
        match self {
            Self::V2 => (INTERVAL_MIN_V2, INTERVAL_MAX_V2, INTERVAL_MIN_V2),
            Self::V3 => (INTERVAL_MIN_V3, INTERVAL_MAX_V3, INTERVAL_MIN_V3),
        }
    }
}

/// How adverts prove where they come from.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// Version 2: a password that everybody on the link can read; filled up with zeros (RFC 2338, 5.3.6; RFC 3768 took it out,
    /// keepalived has it).
    Password([u8; 8]),
    /// Version 2: an IPsec authentication header with HMAC-MD5-96 (RFC 2402, RFC 2403) and this key.
    Header([u8; 8]),
    /// Either version: a trailer with HMAC-SHA256 (keepalived 2.4: `auth_hmac`).
    Hmac(Arc<Hmac>),
}

impl Auth {
    /// The settings of its trailers.
    #[must_use]
    pub fn hmac(&self) -> Option<&Hmac> {
        match self {
            Self::Hmac(hmac) => Some(hmac),
            _ => None,
        }
    }
}

/// The shortest key of a trailer.
pub const HMAC_KEY_MIN: usize = 32;
/// The longest one.
pub const HMAC_KEY_MAX: usize = 64;
/// The shortest window in seconds.
pub const HMAC_WINDOW_MIN: u16 = 1;
/// The longest one.
pub const HMAC_WINDOW_MAX: u16 = 300;
/// The least window where none is said.
const HMAC_WINDOW_USUAL_MIN: u64 = 5;

/// How adverts are signed and checked by trailers; names and defaults are keepalived's (`auth_hmac`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hmac {
    /// The keys that are believed.
    pub keys: Vec<HmacKey>,
    /// The number of the one that signs.
    pub active: u8,
    /// What is no replay.
    pub replay: Replay,
    /// How far all directors have them yet.
    pub mode: HmacMode,
}

/// A key that directors share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacKey {
    /// Its number in trailers.
    pub id: u8,
    /// Its bytes.
    pub secret: Secret<Vec<u8>>,
}

/// What tells a new advert from one that was recorded and sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Its time is within so many seconds of this director's, and its sequence number grows; none: three intervals, 5 at least.
    Time(Option<u16>),
    /// Its sequence number grows.
    Monotonic,
}

/// What is sent and asked for while a pair is moved to trailers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HmacMode {
    /// Adverts are signed, and believed with a trailer alone.
    #[default]
    Enforce,
    /// Adverts are signed, and believed without a trailer, too.
    Permissive,
    /// Adverts are not signed, and believed without a trailer, too.
    ReceiveOnly,
}

impl Hmac {
    /// The key of this number.
    #[must_use]
    pub fn key(&self, id: u8) -> Option<&[u8]> {
        self.keys.iter().find(|key| key.id == id).map(|key| key.secret.expose().as_slice())
    }

    /// Whether adverts are signed.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.mode != HmacMode::ReceiveOnly
    }

    /// How many seconds an advert's time may be off, with adverts of this interval; none where time does not count.
    #[must_use]
    pub fn window(&self, interval: Duration) -> Option<u16> {
        match self.replay {
            Replay::Monotonic => None,
            Replay::Time(Some(window)) => Some(window),
            Replay::Time(None) => {
                let usual = (3 * interval.as_secs()).clamp(HMAC_WINDOW_USUAL_MIN, HMAC_WINDOW_MAX.into());
                Some(u16::try_from(usual).unwrap_or(HMAC_WINDOW_MAX))
            }
        }
    }
}

impl fmt::Debug for Auth {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password(password) => f.debug_tuple("Password").field(&Secret::new(password)).finish(),
            Self::Header(key) => f.debug_tuple("Header").field(&Secret::new(key)).finish(),
            Self::Hmac(hmac) => f.debug_tuple("Hmac").field(hmac).finish(),
        }
    }
}

/// How VIPs are announced by gratuitous ARP and unsolicited neighbour advertisements; names and defaults are keepalived's
/// (`garp_master_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcing {
    /// How often each VIP is announced in a burst.
    pub repeat: u8,
    /// How long after the first burst the second one comes; zero: there is none.
    pub delay: Duration,
    /// How often a master announces again; zero: never.
    pub refresh: Duration,
    /// How often each VIP is announced then.
    pub refresh_repeat: u8,
}

impl Default for Announcing {
    fn default() -> Self {
        Self { repeat: 5, delay: Duration::from_secs(5), refresh: Duration::ZERO, refresh_repeat: 1 }
    }
}

/// Another director that adverts are sent to and taken from, one by one instead of by multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The neighbour by which packets to it leave: itself, or a router.
    pub hop: IpAddr,
    /// The least TTL that its adverts may arrive with: 255 proves that no router passed them on (RFC 5082).
    pub ttl_min: u8,
}

/// A MAC that belongs to the virtual router and moves with it (keepalived: `use_vmac`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualMac {
    /// The MAC.
    pub mac: Mac,
    /// Adverts come from the NIC's own MAC all the same (keepalived: `vmac_xmit_base`).
    pub xmit_base: bool,
}

/// What the priority, or being there at all, depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// What is watched.
    pub what: Tracked,
    /// 0: while it fails there is no master here. Above 0: added to the priority while all is well; below: taken off
    /// while it fails. Of no meaning where a number is watched, which is added itself.
    pub weight: i16,
    /// The other way round: with weight 0 there is no master here while all is well; else what would be added is taken off, and
    /// the other way round (keepalived: `reverse`).
    pub reverse: bool,
}

/// How something that is watched stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It fails.
    Fails,
    /// It passes.
    Passes,
    /// It is a number that is added to the priority (keepalived: `track_file`).
    Shift(i32),
}

impl From<bool> for Reading {
    fn from(passes: bool) -> Self {
        if passes { Self::Passes } else { Self::Fails }
    }
}

impl Track {
    /// Whether there may be a master here, as far as this is concerned; nothing that was read counts as failing.
    #[must_use]
    pub fn allows(&self, reading: Option<Reading>) -> bool {
        match reading {
            Some(Reading::Shift(_)) => true,
            _ if self.weight != 0 => true,
            reading => (reading == Some(Reading::Passes)) != self.reverse,
        }
    }

    /// What it adds to the priority.
    #[must_use]
    pub fn shift(&self, reading: Option<Reading>) -> i32 {
        let weight = i32::from(self.weight) * if self.reverse { -1 } else { 1 };
        match reading {
            Some(Reading::Shift(shift)) => shift,
            reading if (reading == Some(Reading::Passes)) == (self.weight > 0) => weight,
            _ => 0,
        }
    }
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tracked {
    /// The link of a NIC.
    Link(NicId),
    /// A check that others make, by its name.
    Check(String),
}

/// A virtual router of this director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// The NIC that adverts leave and arrive by.
    pub nic: NicId,
    /// Its number on that link.
    pub vrid: Vrid,
    /// The version that it speaks.
    pub version: Version,
    /// 1 to 254, or 255 for the owner of the VIPs; the highest one is master.
    pub priority: u8,
    /// Between two adverts of a master.
    pub interval: Duration,
    /// Where adverts come from: an address of the NIC, for IPv6 its link-local one. Decides about the family.
    pub source: IpAddr,
    /// The VIPs that adverts tell, of the family of `source`.
    pub addresses: Vec<IpAddr>,
    /// VIPs of any family that move along without a word in adverts (keepalived: `virtual_ipaddress_excluded`).
    pub excluded: Vec<IpAddr>,
    /// Whom adverts go to; nobody: the multicast group.
    pub peers: Vec<Peer>,
    /// The MAC of its VIPs; none for the NIC's.
    pub virtual_mac: Option<VirtualMac>,
    /// How adverts are authenticated.
    pub auth: Auth,
    /// How long a director of lower priority may go on as master when this one is there; none: for good.
    pub preempt: Option<Duration>,
    /// How long after the start nothing is taken over (heartbeat: `initdead`).
    pub start_grace: Duration,
    /// The gap between two adverts from which on it is told; zero: never (heartbeat: `warntime`).
    pub warn_after: Duration,
    /// How VIPs are announced.
    pub announcing: Announcing,
    /// What it depends on beside its own link.
    pub tracks: Vec<Track>,
    /// The scripts that are told.
    pub notify: Arc<Notify>,
}

/// What tells a virtual router from the others of a director: the NIC, its number there, its family.
pub type Key = (NicId, Vrid, Family);

impl Instance {
    /// What tells it from the others.
    #[must_use]
    pub const fn key(&self) -> Key {
        (self.nic, self.vrid, self.family())
    }

    /// The family of its adverts.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// All VIPs that move with it.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().chain(&self.excluded).copied()
    }

    /// Whether `other` is the same virtual router, however it is set.
    #[must_use]
    pub fn is_same_router(&self, other: &Self) -> bool {
        let key = |one: &Self| (one.nic, one.vrid, one.family(), one.version);
        self.name == other.name && key(self) == key(other)
    }

    /// The priority with what it depends on as it was read; none when one without weight fails.
    #[must_use]
    pub fn effective_priority(&self, read: impl Fn(&Tracked) -> Option<Reading>) -> Option<u8> {
        let mut priority = i32::from(self.priority);
        for track in &self.tracks {
            let reading = read(&track.what);
            if !track.allows(reading) {
                return None;
            }
            priority = priority.saturating_add(track.shift(reading));
        }
        // keepalived leaves an owner's priority alone, too.
        let owner = self.priority == PRIORITY_OWNER;
        Some(if owner { PRIORITY_OWNER } else { priority.clamp(1, 254) as u8 })
    }

    /// The longest interval of another master that is believed, so that one advert cannot hold a backup for two minutes: a master
    /// whose interval is longer is waited for as if it were this one. It is enough for masters that speak each
    /// nine times as seldom: a backup waits for three intervals and more.
    #[must_use]
    pub fn interval_believed_max(&self) -> Duration {
        (self.interval * INTERVAL_TIMES_MAX).max(INTERVAL_BELIEVED)
    }

    /// The interval of a master that told this one, as a backup counts with it (RFC 9568, 6.1: `Active_Adver_Interval`); version 2,
    /// and before a master was heard: its own.
    #[must_use]
    pub fn master_interval(&self, told: Option<Duration>) -> Duration {
        match (self.version, told) {
            (Version::V3, Some(told)) => told.min(self.interval_believed_max()),
            _ => self.interval,
        }
    }

    /// How much later the director of a priority takes over, so that the highest one is first (RFC 9568, 6.1; RFC 3768 always
    /// counts by the second).
    #[must_use]
    pub fn skew(&self, priority: u8, interval: Duration) -> Duration {
        let unit = if self.version == Version::V2 { Duration::from_secs(1) } else { interval };
        unit * (256 - u32::from(priority)) / 256
    }

    /// How long a master may be silent before the director of a priority takes over (RFC 9568, 6.1).
    #[must_use]
    pub fn master_down(&self, priority: u8, interval: Duration) -> Duration {
        3 * interval + self.skew(priority, interval)
    }
}

/// Virtual routers that are master or backup together (keepalived: `vrrp_sync_group`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Names of its members.
    pub members: Vec<String>,
    /// The scripts that are told.
    pub notify: Arc<Notify>,
}
