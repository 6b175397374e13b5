//! Ethernet II headers, and how group addresses of IP map to MACs.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{array, put};
use crate::id::Mac;

/// Bytes of an Ethernet header without VLAN tag.
pub const HEADER: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Bytes of a tag: its own EtherType and the tag control information.
const TAG: usize = 4;
/// The VLAN id in the tag control information.
const VLAN_ID: u16 = 0x0fff;
/// Tags for priority that are looked behind.
const PRIORITY_TAGS_MAX: usize = 8;

/// Offsets in the header.
pub mod field {
    /// Destination MAC.
    pub const DESTINATION: usize = 0;
    /// Source MAC.
    pub const SOURCE: usize = 6;
    /// EtherType.
    pub const ETHERTYPE: usize = 12;
}

/// Destination and source MAC, as they stand at the start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Macs([u8; 2 * size_of::<Mac>()]);

impl Macs {
    /// Of a frame to `destination` from `source`.
    #[must_use]
    pub const fn new(destination: Mac, source: Mac) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination.0, source.0);
        Self([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// The destination MAC.
    #[must_use]
    pub const fn destination(self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.0;
        Mac([a, b, c, d, e, f])
    }

    /// Writes them in front of the EtherType that the frame has.
    #[inline(always)]
    pub fn replace(self, frame: &mut [u8]) {
        put(frame, field::DESTINATION, self.0);
    }

    /// Writes them and the EtherType; a frame shorter than a header stays as it is.
    #[inline(always)]
    pub fn write(self, frame: &mut [u8], ethertype: u16) {
        let Some(header) = frame.first_chunk_mut::<HEADER>() else { return };
        put(header, field::DESTINATION, self.0);
        put(header, field::ETHERTYPE, ethertype.to_be_bytes());
    }
}

/// Writes the header; a frame shorter than it stays as it is.
#[inline]
pub fn write(frame: &mut [u8], destination: Mac, source: Mac, ethertype: u16) {
    Macs::new(destination, source).write(frame, ethertype);
}

/// The destination MAC.
#[inline]
#[must_use]
pub fn destination(frame: &[u8]) -> Option<Mac> {
    array(frame, field::DESTINATION).map(Mac)
}

/// The source MAC.
#[inline]
#[must_use]
pub fn source(frame: &[u8]) -> Option<Mac> {
    array(frame, field::SOURCE).map(Mac)
}

/// The EtherType.
#[inline]
#[must_use]
pub fn ethertype(frame: &[u8]) -> Option<u16> {
    array(frame, field::ETHERTYPE).map(u16::from_be_bytes)
}

/// Bytes of the tags in front of the EtherType that name no VLAN but a priority alone, which is that of untagged traffic (IEEE 802.1Q,
/// 9.6; kernel: `__netif_receive_skb_core`).
#[must_use]
pub fn priority_tags(frame: &[u8]) -> usize {
    let names_none = |tags: &usize| {
        let at = field::ETHERTYPE + tags * TAG;
        let kind = array(frame, at).map(u16::from_be_bytes);
        let id = array(frame, at + 2).map(|control| u16::from_be_bytes(control) & VLAN_ID);
        let more = frame.len() >= at + TAG + 2;
        matches!(kind, Some(VLAN | SERVICE_VLAN)) && id == Some(0) && more
    };
    (0..PRIORITY_TAGS_MAX).take_while(names_none).count() * TAG
}

/// The MAC of an IPv4 multicast group (RFC 1112, 6.4).
#[must_use]
pub const fn of_group_v4(group: Ipv4Addr) -> Mac {
    let [_, b, c, d] = group.octets();
    Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

/// The MAC of an IPv6 multicast group (RFC 2464, 7).
#[must_use]
pub const fn of_group_v6(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let (to, from) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut frame = [0xa5; 20];
        write(&mut frame, to, from, IPV6);
        assert_eq!((destination(&frame), source(&frame)), (Some(to), Some(from)));
        assert_eq!(ethertype(&frame), Some(IPV6));
        assert_eq!(frame[14..], [0xa5; 6]);
        let mut short = [0xa5; 13];
        write(&mut short, to, from, IPV6);
        assert_eq!((short, ethertype(&short)), ([0xa5; 13], None));
    }

    #[test]
    fn tags_of_no_vlan() {
        let frame = |tags: &[u8]| [&[2; 12], tags, &[8, 0, 0x45]].concat();
        for (tags, want) in [
            (&[][..], 0),
            (&[0x81, 0, 0, 0], 4),
            (&[0x81, 0, 0xf0, 0], 4),
            (&[0x88, 0xa8, 0xe0, 0], 4),
            (&[0x81, 0, 0x20, 1], 0),
            (&[0x81, 0, 0, 0, 0x81, 0, 0, 5], 4),
            (&[0x81, 0, 0, 0, 0x81, 0, 0, 0], 8),
            (&[0x81, 0, 0, 0].repeat(9), 32),
        ] {
            assert_eq!(priority_tags(&frame(tags)), want, "{tags:02x?}");
        }
        let whole = frame(&[0x81, 0, 0, 0]);
        assert!((0..18).all(|length| priority_tags(&whole[..length]) == 0));
        assert_eq!(priority_tags(&whole[..18]), 4);
    }

    #[test]
    fn groups() {
        assert_eq!(of_group_v4("224.128.0.18".parse().unwrap()).to_string(), "01:00:5e:00:00:12");
        assert_eq!(of_group_v6("ff02::1:ff00:100".parse().unwrap()).to_string(), "33:33:ff:00:01:00");
    }
}
