//! Adverts as bytes: versions 2 (RFC 3768, with the authentication of RFC 2338) and 3 (RFC 9568), with and without a [`trailer`].
//!
//! What differs between the versions ends here: the interval's unit, the checksum (version 3 covers the pseudo header), the
//! eight bytes behind the addresses of version 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use shunt_dataplane::address::Family;
use shunt_dataplane::id::Mac;
use shunt_dataplane::wire::checksum::{self, Sum};
use shunt_dataplane::wire::ethernet;
use shunt_dataplane::wire::vrrp::{AUTHENTICATION_HEADER, GROUP_V4, GROUP_V6, PROTOCOL};
use shunt_dataplane::wire::{self, Frame, Headers, IpHeader, IpVersion};
use shunt_model::vrrp::{Auth, Hmac, HmacMode, Instance, Version, Vrid};

use super::digest::{self, AH};
use super::refusal::Refusal;
use super::trailer::{self, Bound, Trailer};

/// TTL and hop limit of adverts: what arrives with less passed a router (RFC 9568, 5.1.1.3).
pub const TTL: u8 = 255;
/// Internetwork control, as keepalived marks adverts.
const TRAFFIC_CLASS: u8 = 0xc0;
/// The one type of message there is: ADVERTISEMENT.
const KIND: u8 = 1;
/// Bytes up to the addresses.
const HEADER: usize = 8;
/// Bytes of authentication data of version 2.
const PASSWORD: usize = 8;
/// The 12 bits of version 3's interval.
const INTERVAL_MASK: u16 = 0x0fff;

/// Offsets in a message.
pub(super) mod field {
    pub const PRIORITY: usize = 2;
    pub const AUTH_TYPE: usize = 4;
    pub const INTERVAL: usize = 4;
    pub const CHECKSUM: usize = 6;
}

/// What a master says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The version.
    pub version: Version,
    /// Which virtual router.
    pub vrid: Vrid,
    /// The speaker's priority; 0 when it ends.
    pub priority: u8,
    /// The time between two of its adverts.
    pub interval: Duration,
    /// The VIPs.
    pub addresses: Vec<IpAddr>,
}

/// An advert that arrived; [`Heard::check`] says whether it is to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it says.
    pub advert: Advert,
    /// Who says so.
    pub source: IpAddr,
    /// Whom it was sent to.
    pub destination: IpAddr,
    /// The TTL or hop limit that was left.
    pub ttl: u8,
    /// The MAC that the frame came from.
    pub sender: Mac,
    checksum_holds: bool,
    proof: Proof,
    trailer: Option<Trailer>,
}

/// What is remembered of the source of an advert, and the time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// The sequence number of the authentication header heard last.
    pub header: Option<u32>,
    /// That of the trailer.
    pub trailer: Option<u64>,
    /// The time of day.
    pub unix: Duration,
}

/// What an advert proves itself by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proof {
    None,
    Password([u8; PASSWORD]),
    Header { sequence: u32, holds_for: digest::Covered },
    Other(u8),
}

impl Advert {
    /// Whether it tells these VIPs and no others.
    #[must_use]
    pub fn tells(&self, addresses: &[IpAddr]) -> bool {
        self.addresses.len() == addresses.len()
            && addresses.iter().all(|address| self.addresses.contains(address))
    }

    /// Whether it tells one of these VIPs.
    #[must_use]
    pub fn tells_any(&self, addresses: &[IpAddr]) -> bool {
        self.addresses.iter().any(|address| addresses.contains(address))
    }
}

impl Heard {
    /// Reads a frame that arrived on a NIC with this MAC; none when it is no advert, or not whole.
    #[must_use]
    pub fn read(frame: &[u8], nic: Mac) -> Option<Self> {
        let sender = ethernet::source(frame)?;
        match wire::parse(frame, nic).ok()? {
            Frame::Arp => None,
            Frame::V4(headers) if headers.protocol == AUTHENTICATION_HEADER => {
                let packet = frame.get(usize::from(headers.network)..usize::from(headers.end))?;
                let (header, covered) = digest::read(packet)?;
                let message = headers.transport_bytes(frame).get(AH..)?;
                let proof = Proof::Header { sequence: header.sequence, holds_for: covered };
                Self::from_message(message, sender, &headers, proof)
            }
            Frame::V4(headers) => {
                Self::from_message(headers.transport_bytes(frame), sender, &headers, Proof::None)
            }
            Frame::V6(headers) => {
                Self::from_message(headers.transport_bytes(frame), sender, &headers, Proof::None)
            }
        }
    }

    fn from_message<A: IpVersion>(
        bytes: &[u8],
        sender: Mac,
        headers: &Headers<A>,
        proof: Proof,
    ) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let version = match (header[0] >> 4, A::FAMILY) {
            (2, Family::V4) => Version::V2,
            (3, _) => Version::V3,
            _ => return None,
        };
        let behind_header = matches!(proof, Proof::Header { .. });
        let carried = if behind_header { AUTHENTICATION_HEADER } else { PROTOCOL };
        if headers.protocol != carried || header[0] & 0x0f != KIND || behind_header && version == Version::V3
        {
            return None;
        }
        let length = usize::from(A::BITS / 8);
        let (addresses, behind) = bytes[HEADER..].split_at_checked(usize::from(header[3]) * length)?;
        let addresses =
            (0..usize::from(header[3])).filter_map(|n| A::read(addresses, n * length)).map(Into::into);
        // What stands behind the message. Nothing else is of a trailer's length.
        let bound = Bound { version, vrid: Vrid(header[1]), source: headers.source.into() };
        let rest = if version == Version::V2 { behind.get(PASSWORD..)? } else { behind };
        let message = &bytes[..bytes.len() - rest.len()];
        let trailer = rest.try_into().ok().and_then(|rest| Trailer::read(message, rest, bound));
        // The kernel covers all of it for IPv6; for IPv4 the message is made whole before it is signed.
        let summed = if trailer.is_some() && A::FAMILY == Family::V4 { message } else { bytes };
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (interval, proof, sum) = match version {
            Version::V2 => {
                let data = *behind.first_chunk::<PASSWORD>()?;
                let proof = match (header[field::AUTH_TYPE], proof) {
                    (0, Proof::None) => Proof::None,
                    (1, Proof::None) => Proof::Password(data),
                    (2, proof @ Proof::Header { .. }) => proof,
                    (kind, _) => Proof::Other(kind),
                };
                (Duration::from_secs(header[5].into()), proof, Sum::ZERO)
            }
            Version::V3 => {
                let hundredths = word(field::INTERVAL) & INTERVAL_MASK;
                let length = summed.len() as u32;
                let sum = checksum::pseudo_header(headers.source, headers.destination, PROTOCOL, length);
                (Duration::from_millis(10 * u64::from(hundredths)), proof, sum)
            }
        };
        let priority = header[field::PRIORITY];
        let advert =
            Advert { version, vrid: Vrid(header[1]), priority, interval, addresses: addresses.collect() };
        (!interval.is_zero()).then(|| Self {
            advert,
            source: headers.source.into(),
            destination: headers.destination.into(),
            ttl: headers.ttl,
            sender,
            checksum_holds: sum.bytes(summed).holds(),
            proof,
            trailer,
        })
    }

    /// Whether it is to be believed (RFC 9568, 7.1; RFC 3768, 7.1). `past` is what is remembered of its source.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, ours: &Instance, past: &Past) -> Result<(), Refusal> {
        let Advert { version, interval, .. } = self.advert;
        let least = match ours.peers.iter().find(|peer| peer.address == self.source) {
            _ if ours.peers.is_empty() && !self.destination.is_multicast() => return Err(Refusal::Unicast),
            _ if ours.peers.is_empty() => TTL,
            _ if self.destination.is_multicast() => return Err(Refusal::Multicast),
            None => return Err(Refusal::NotPeer),
            Some(peer) => peer.ttl_min,
        };
        if self.ttl < least {
            return Err(Refusal::Ttl { left: self.ttl, least });
        }
        if version != ours.version {
            return Err(Refusal::Version { theirs: version, ours: ours.version });
        }
        if !self.checksum_holds {
            return Err(Refusal::Checksum);
        }
        self.authenticate(ours, past)?;
        if version == Version::V2 && interval != ours.interval {
            return Err(Refusal::Interval { theirs: interval, ours: ours.interval });
        }
        Ok(())
    }

    fn authenticate(&self, ours: &Instance, past: &Past) -> Result<(), Refusal> {
        let theirs = match self.proof {
            _ if self.trailer.is_some() => HMAC_KIND,
            Proof::None => 0,
            Proof::Password(_) => 1,
            Proof::Header { .. } => 2,
            Proof::Other(kind) => kind,
        };
        match (&self.proof, &ours.auth) {
            (Proof::None, Auth::Hmac(hmac)) => self.verify(hmac, ours.interval, past),
            _ if self.trailer.is_some() => Err(Refusal::AuthKind { theirs, ours: auth_kind(&ours.auth) }),
            (Proof::None, Auth::None) => Ok(()),
            (Proof::Password(theirs), Auth::Password(ours)) if theirs == ours => Ok(()),
            (Proof::Password(_), Auth::Password(_)) => Err(Refusal::Password),
            (Proof::Header { sequence, holds_for }, Auth::Header(key)) => match past.header {
                _ if !holds_for.holds(key) => Err(Refusal::Digest),
                Some(last) if *sequence <= last => {
                    Err(Refusal::Replay { sequence: (*sequence).into(), last: last.into() })
                }
                _ => Ok(()),
            },
            (_, auth) => Err(Refusal::AuthKind { theirs, ours: auth_kind(auth) }),
        }
    }

    /// Whether its trailer is to be believed. What costs little comes first, so that a flood of old ones costs no digests.
    fn verify(&self, hmac: &Hmac, interval: Duration, past: &Past) -> Result<(), Refusal> {
        let Some(trailer) = &self.trailer else {
            return match hmac.mode {
                HmacMode::Enforce => Err(Refusal::AuthKind { theirs: 0, ours: HMAC_KIND }),
                HmacMode::Permissive | HmacMode::ReceiveOnly => Ok(()),
            };
        };
        if !trailer.is_known {
            return Err(Refusal::Trailer);
        }
        let window = hmac.window(interval);
        let behind = trailer.behind(past.unix);
        if let Some(window) = window.filter(|window| behind.unsigned_abs() > u32::from(*window)) {
            return Err(Refusal::Stale { behind, window });
        }
        if !trailer.holds(hmac.key(trailer.key).ok_or(Refusal::KeyId(trailer.key))?) {
            return Err(Refusal::Digest);
        }
        let is_new = |last: u64| trailer::is_new(trailer.sequence, last, past.unix, window);
        match past.trailer {
            Some(last) if !is_new(last) => Err(Refusal::Replay { sequence: trailer.sequence, last }),
            _ => Ok(()),
        }
    }

    /// Its trailer.
    #[must_use]
    pub const fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// The sequence number of its authentication header.
    #[must_use]
    pub const fn sequence(&self) -> Option<u32> {
        match self.proof {
            Proof::Header { sequence, .. } => Some(sequence),
            _ => None,
        }
    }
}

/// What stands for a trailer where kinds of authentication have numbers: the message itself says 0.
const HMAC_KIND: u8 = 3;

/// The number of a kind of authentication.
const fn auth_kind(auth: &Auth) -> u8 {
    if let Auth::Hmac(_) = auth { HMAC_KIND } else { wire_kind(auth) }
}

/// The same in a message of version 2.
const fn wire_kind(auth: &Auth) -> u8 {
    match auth {
        Auth::None | Auth::Hmac(_) => 0,
        Auth::Password(_) => 1,
        Auth::Header(_) => 2,
    }
}

/// What an advert travels with beside its own words.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// IPv4: the identification, another one for each advert.
    pub identification: u16,
    /// The sequence number of the authentication header.
    pub sequence: u32,
    /// The sequence number of the trailer.
    pub trailer: u64,
}

/// The multicast group that adverts of a family go to.
#[must_use]
pub const fn group(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(GROUP_V4),
        Family::V6 => IpAddr::V6(GROUP_V6),
    }
}

/// The IP packet of an advert of `instance` to `destination`.
#[must_use]
pub fn build(instance: &Instance, priority: u8, destination: IpAddr, envelope: Envelope) -> Vec<u8> {
    match (instance.source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            build_family::<Ipv4Addr>(instance, priority, source, destination, envelope)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            build_family::<Ipv6Addr>(instance, priority, source, destination, envelope)
        }
        _ => Vec::new(),
    }
}

fn build_family<A: IpVersion>(
    instance: &Instance,
    priority: u8,
    source: A,
    destination: A,
    envelope: Envelope,
) -> Vec<u8> {
    let header = match instance.auth {
        Auth::Header(_) => AH,
        Auth::None | Auth::Password(_) | Auth::Hmac(_) => 0,
    };
    let mut packet = vec![0; A::HEADER + header];
    packet.extend(message(instance, priority, source, destination, envelope.trailer));
    let ip = IpHeader {
        source,
        destination,
        protocol: if header > 0 { AUTHENTICATION_HEADER } else { PROTOCOL },
        ttl: TTL,
        traffic_class: TRAFFIC_CLASS,
        identification: envelope.identification,
        dont_fragment: false,
    };
    A::write_header(&mut packet, &ip);
    if let Auth::Header(key) = &instance.auth {
        digest::write(&mut packet, envelope.sequence, key);
    }
    packet
}

fn message<A: IpVersion>(
    instance: &Instance,
    priority: u8,
    source: A,
    destination: A,
    trailer: u64,
) -> Vec<u8> {
    let addresses: Vec<A> = instance.addresses.iter().filter_map(|&address| A::from_ip(address)).collect();
    let mut bytes = vec![0; HEADER];
    let Vrid(vrid) = instance.vrid;
    bytes[..4].copy_from_slice(&[
        instance.version.number() << 4 | KIND,
        vrid,
        priority,
        addresses.len() as u8,
    ]);
    let length = usize::from(A::BITS / 8);
    for address in addresses {
        let at = bytes.len();
        bytes.resize(at + length, 0);
        address.write(&mut bytes, at);
    }
    match instance.version {
        Version::V2 => {
            bytes[field::AUTH_TYPE] = wire_kind(&instance.auth);
            bytes[5] = instance.interval.as_secs() as u8;
            bytes.extend(if let Auth::Password(password) = instance.auth { password } else { [0; PASSWORD] });
        }
        Version::V3 => {
            let hundredths = (instance.interval.as_millis() / 10) as u16 & INTERVAL_MASK;
            bytes[field::INTERVAL..field::CHECKSUM].copy_from_slice(&hundredths.to_be_bytes());
        }
    }
    let whole = bytes.len();
    if let Some(hmac) = instance.auth.hmac().filter(|hmac| hmac.signs()) {
        let bound = Bound { version: instance.version, vrid: instance.vrid, source: source.into() };
        trailer::write(&mut bytes, bound, hmac, trailer);
    }
    let summed = if A::FAMILY == Family::V4 { &bytes[..whole] } else { &bytes[..] };
    let sum = match instance.version {
        Version::V2 => Sum::ZERO,
        Version::V3 => checksum::pseudo_header(source, destination, PROTOCOL, summed.len() as u32),
    };
    let checksum = sum.bytes(summed).checksum();
    bytes[field::CHECKSUM..HEADER].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
