//! The trailer behind adverts of either version and family that proves where they come from, that they were not changed and
//! that they are new (draft-cassen-vrrp-auth-hmac-00; keepalived 2.4: `auth_hmac`).
//!
//! ```text
//! kind (1) | key (1) | 0 (2) | seconds since 1970 (4) | 1/65536 s (2) | counter (2) | HMAC-SHA256, its first 16 bytes
//! ```
//!
//! The digest covers a pseudo header (family, version, VRID, 0, source in 16 bytes), the message with a checksum of zero, and the
//! trailer with a digest of zero: neither the destination nor what the kernel fills in.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hmac::{Hmac as Code, Mac as _};
use sha2::Sha256;
use shunt_model::vrrp::{Hmac, TRAILER, Version, Vrid};

use super::message::field;

/// The kind: HMAC-SHA256, cut to 128 bits.
const KIND: u8 = 1;
/// Bytes of the digest that travel.
const DIGEST: usize = 16;
/// Bytes in front of the digest.
const SIGNED: usize = TRAILER - DIGEST;
/// Bytes of a block of SHA-256, which a shorter key is filled up to (RFC 2104, 2).
const BLOCK: usize = 64;

/// What a digest is bound to beside the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The version of the message.
    pub version: Version,
    /// Its virtual router.
    pub vrid: Vrid,
    /// Where it comes from.
    pub source: IpAddr,
}

impl Bound {
    fn pseudo_header(self) -> [u8; 20] {
        let Vrid(vrid) = self.vrid;
        let mut bytes = [0; 20];
        bytes[1] = self.version.number();
        bytes[2] = vrid;
        match self.source {
            IpAddr::V4(source) => {
                bytes[0] = 4;
                bytes[4..8].copy_from_slice(&source.octets());
            }
            IpAddr::V6(source) => {
                bytes[0] = 6;
                bytes[4..].copy_from_slice(&source.octets());
            }
        }
        bytes
    }
}

/// A trailer that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Kind and reserved bytes are what they have to be.
    pub is_known: bool,
    /// The number of the key.
    pub key: u8,
    /// Seconds, fraction and counter.
    pub sequence: u64,
    covered: Vec<u8>,
    digest: [u8; DIGEST],
}

impl Trailer {
    /// Reads what stands behind a message.
    #[must_use]
    pub fn read(message: &[u8], behind: &[u8; TRAILER], bound: Bound) -> Option<Self> {
        let (signed, digest) = behind.split_first_chunk::<SIGNED>()?;
        Some(Self {
            is_known: signed[0] == KIND && signed[2..4] == [0; 2],
            key: signed[1],
            sequence: u64::from_be_bytes(*signed[4..].first_chunk()?),
            covered: covered(message, signed, bound),
            digest: *digest.first_chunk()?,
        })
    }

    /// Whether this key makes its digest.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        code(key, &self.covered).verify_truncated_left(&self.digest).is_ok()
    }

    /// How many seconds the clock of whoever sent it is behind this one.
    #[must_use]
    pub const fn behind(&self, unix: Duration) -> i32 {
        seconds_after(clock(unix), self.sequence)
    }
}

/// Puts a trailer behind a message.
pub fn write(message: &mut Vec<u8>, bound: Bound, hmac: &Hmac, sequence: u64) {
    let mut signed = [0; SIGNED];
    (signed[0], signed[1]) = (KIND, hmac.active);
    signed[4..].copy_from_slice(&sequence.to_be_bytes());
    // Whoever checks a configuration sees to it that there is one.
    let key = hmac.key(hmac.active).unwrap_or_default();
    let digest = code(key, &covered(message, &signed, bound)).finalize().into_bytes();
    message.extend(signed);
    message.extend(&digest[..DIGEST]);
}

fn covered(message: &[u8], signed: &[u8; SIGNED], bound: Bound) -> Vec<u8> {
    let mut bytes = bound.pseudo_header().to_vec();
    let at = bytes.len() + field::CHECKSUM;
    bytes.extend(message);
    if let Some(checksum) = bytes.get_mut(at..at + 2) {
        checksum.fill(0);
    }
    bytes.extend(signed);
    bytes.extend([0; DIGEST]);
    bytes
}

fn code(key: &[u8], bytes: &[u8]) -> Code<Sha256> {
    let mut block = [0; BLOCK];
    let length = key.len().min(BLOCK);
    block[..length].copy_from_slice(&key[..length]);
    let mut code = Code::new(&block.into());
    code.update(bytes);
    code
}

/// The time of day, which a machine is told from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeOfDay {
    told: Option<(Instant, Duration)>,
}

impl TimeOfDay {
    /// It is this long after 1970.
    #[must_use]
    pub const fn told(now: Instant, unix: Duration) -> Self {
        Self { told: Some((now, unix)) }
    }

    /// What it is at `now`.
    #[must_use]
    pub fn at(&self, now: Instant) -> Duration {
        self.told.map_or(Duration::ZERO, |(then, unix)| unix + now.saturating_duration_since(then))
    }
}

/// The first sequence number of a time.
const fn clock(unix: Duration) -> u64 {
    let fraction = (unix.subsec_nanos() as u64) << 16;
    (unix.as_secs() as u32 as u64) << 32 | (fraction / 1_000_000_000) << 16
}

/// Whether a sequence number comes after another one (RFC 1982).
const fn is_after(one: u64, other: u64) -> bool {
    one.wrapping_sub(other) as i64 > 0
}

const fn seconds_after(one: u64, other: u64) -> i32 {
    ((one >> 32) as u32).wrapping_sub((other >> 32) as u32) as i32
}

/// The sequence number after `last`, if there was one: the clock's, or the next one where the clock has not moved on. One that the clock was put back
/// behind further than `window` would be refused, and begins with the clock anew.
#[must_use]
pub const fn next(last: Option<u64>, unix: Duration, window: Option<u16>) -> u64 {
    let clock = clock(unix);
    let Some(last) = last else { return clock };
    let stranded = match window {
        Some(window) => seconds_after(last, clock) > window as i32,
        None => false,
    };
    if is_after(clock, last) || stranded { clock } else { last.wrapping_add(1) }
}

/// Whether a sequence number is new: it comes after the last one of its source, which counts no longer when it is itself outside the
/// window.
#[must_use]
pub fn is_new(sequence: u64, last: u64, unix: Duration, window: Option<u16>) -> bool {
    let expired =
        window.is_some_and(|window| seconds_after(clock(unix), last).unsigned_abs() > u32::from(window));
    expired || is_after(sequence, last)
}

#[cfg(test)]
#[path = "trailer_tests.rs"]
mod tests;
