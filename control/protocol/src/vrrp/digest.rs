//! The IPsec authentication header around adverts of version 2 (RFC 2402), with HMAC-MD5-96 (RFC 2403), as keepalived makes it:
//! the security parameter index is the sender's address, and the identification is covered. So is the TTL where adverts are
//! multicast, since no router passes those on; where they are unicast it is not (RFC 2402, 3.3.3.1.1.1).

use hmac::{Hmac, Mac as _};
use md5::Md5;
use shunt_dataplane::wire::vrrp::PROTOCOL;

/// Bytes of the header.
pub const AH: usize = 24;
/// Bytes of an IPv4 header without options.
const IP: usize = 20;
/// Bytes of the digest that travel.
const DIGEST: usize = 12;

/// Offsets in the packet.
mod field {
    pub const TRAFFIC_CLASS: usize = 1;
    pub const FLAGS: usize = 6;
    pub const TTL: usize = 8;
    pub const CHECKSUM: usize = 10;
    pub const SOURCE: usize = 12;
    pub const DESTINATION: usize = 16;
    pub const NEXT: usize = super::IP;
    pub const LENGTH: usize = super::IP + 1;
    pub const INDEX: usize = super::IP + 4;
    pub const SEQUENCE: usize = super::IP + 8;
    pub const DIGEST: usize = super::IP + 12;
}

/// What an authentication header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Grows with each packet of a sender.
    pub sequence: u32,
}

/// What a digest covers, and the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    bytes: Vec<u8>,
    digest: [u8; DIGEST],
}

impl Covered {
    /// Whether this key makes that digest.
    #[must_use]
    pub fn holds(&self, key: &[u8; 8]) -> bool {
        hmac(key, &self.bytes).verify_truncated_left(&self.digest).is_ok()
    }
}

/// Reads an IPv4 packet that carries an advert behind such a header; none when it does not.
#[must_use]
pub fn read(packet: &[u8]) -> Option<(Header, Covered)> {
    let header: &[u8; AH] = packet.get(IP..)?.first_chunk()?;
    // The length counts words beyond the first two; options would move everything.
    if packet[0] != 0x45 || header[0] != PROTOCOL || usize::from(header[1]) != AH / 4 - 2 {
        return None;
    }
    let sequence = u32::from_be_bytes(*packet[field::SEQUENCE..].first_chunk()?);
    let digest = *packet[field::DIGEST..].first_chunk()?;
    Some((Header { sequence }, Covered { bytes: covered(packet), digest }))
}

/// Fills in the header of an IPv4 packet that has room for it behind its IP header.
pub fn write(packet: &mut [u8], sequence: u32, key: &[u8; 8]) {
    if packet.len() < IP + AH {
        return;
    }
    let source: [u8; 4] = [packet[field::SOURCE], packet[13], packet[14], packet[15]];
    packet[field::NEXT] = PROTOCOL;
    packet[field::LENGTH] = (AH / 4 - 2) as u8;
    packet[field::INDEX..field::SEQUENCE].copy_from_slice(&source);
    packet[field::SEQUENCE..field::DIGEST].copy_from_slice(&sequence.to_be_bytes());
    let digest = hmac(key, &covered(packet)).finalize().into_bytes();
    packet[field::DIGEST..field::DIGEST + DIGEST].copy_from_slice(&digest[..DIGEST]);
}

/// The packet without what may change on its way, and without the digest.
fn covered(packet: &[u8]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    bytes[field::TRAFFIC_CLASS] = 0;
    bytes[field::FLAGS..field::FLAGS + 2].fill(0);
    if bytes[field::DESTINATION] >> 4 != 0xe {
        bytes[field::TTL] = 0;
    }
    bytes[field::CHECKSUM..field::CHECKSUM + 2].fill(0);
    bytes[field::DIGEST..field::DIGEST + DIGEST].fill(0);
    bytes
}

fn hmac(key: &[u8; 8], bytes: &[u8]) -> Hmac<Md5> {
    // A key shorter than a block is filled up with zeros (RFC 2104, 2).
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut hmac = Hmac::new(&block.into());
    hmac.update(bytes);
    hmac
}
