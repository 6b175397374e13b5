//! The Internet checksum: in full (RFC 1071), step by step (RFC 1624), and with pseudo headers.

use crate::address::Address;

/// A one's complement sum that is still open. Its value counts modulo 0xffff; nothing added to it makes a sum
/// that is not 0 fold to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// Nothing added yet.
    pub const ZERO: Self = Self(0);

    /// The sum of some bytes.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        Self::ZERO.bytes(bytes)
    }

    /// The sum of an IPv4 header without options, in the processor's order of bytes: all that may be asked of it is
    /// [`Self::holds`], which the order does not change (RFC 1071, 2(B)).
    #[inline]
    pub fn of_words(header: &[u8; 20]) -> Self {
        let word = |at: usize| {
            u64::from(u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
        };
        Self(word(0) + word(4) + word(8) + word(12) + word(16))
    }

    /// Adds bytes that start at an even offset of what is summed; at most 64 KiB at once. An odd last byte
    /// counts as if a 0 followed.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let mut rest = bytes;
        while let Some((word, after)) = rest.split_first_chunk() {
            let word = u64::from_be_bytes(*word);
            sum += (word >> 32) + (word & 0xffff_ffff);
            rest = after;
        }
        while let Some((word, after)) = rest.split_first_chunk() {
            sum += u64::from(u16::from_be_bytes(*word));
            rest = after;
        }
        if let [last] = rest {
            sum += u64::from(*last) << 8;
        }
        Self(sum)
    }

    /// Adds a 16-bit word.
    #[inline]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds a number of 32 bits.
    #[inline]
    pub const fn number(self, number: u32) -> Self {
        Self(self.0 + number as u64)
    }

    /// Adds an address.
    #[inline]
    pub fn address<A: Address>(self, address: A) -> Self {
        let [high, low] = address.words().map(|word| (word >> 32) + (word & 0xffff_ffff));
        Self(self.0 + high + low)
    }

    /// Adds what changes when a 16-bit word is replaced (RFC 1624, equation 3: ~m + m').
    #[inline]
    pub const fn word_changed(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// Adds what changes when an address is replaced.
    #[inline]
    pub fn address_changed<A: Address>(self, old: A, new: A) -> Self {
        let [high, low] = old.words();
        let part = |word: u64| u64::from(!((word >> 32) as u32)) + u64::from(!(word as u32));
        let old = if A::BITS > 32 { part(high) + part(low) } else { u64::from(!(high as u32)) };
        Self(self.0 + old).address(new)
    }

    /// The sum in 16 bits.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        // Each half added to the other: the upper half of the result is their sum with its carry added.
        let words = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (words.wrapping_add(words.rotate_left(16)) >> 16) as u16
    }

    /// The checksum field that belongs to what was summed.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// True when the sum, taken over everything and its checksum field, says that nothing changed on the way.
    #[inline]
    #[must_use]
    pub const fn holds(self) -> bool {
        self.fold() == 0xffff
    }

    /// A checksum field after the changes that were added (RFC 1624, equation 3). One that was wrong stays
    /// wrong by the same amount.
    #[inline]
    #[must_use]
    pub const fn update(self, checksum: u16) -> u16 {
        Self(self.0 + !checksum as u64).checksum()
    }
}

/// The pseudo header of a transport checksum, IPv4 (RFC 9293, 3.1) or IPv6 (RFC 8200, 8.1). `length` is that
/// of the transport header and what follows.
#[inline]
pub fn pseudo_header<A: Address>(source: A, destination: A, protocol: u8, length: u32) -> Sum {
    Sum::ZERO.address(source).address(destination).word(u16::from(protocol)).number(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Word by word, as RFC 1071 tells it.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        assert_eq!(Sum::ZERO.word_changed(0x5555, 0x3285).update(0xdd2f), 0x0000);
    }

    #[test]
    fn nothing_but_zeros_folds_to_zero() {
        assert_eq!(Sum::of(&[0; 40]).fold(), 0);
        assert_eq!(Sum::of(&[0xff; 40]).fold(), 0xffff);
        assert_eq!(Sum(u64::MAX).fold(), 0xffff);
        assert!(Sum::of(&[0xff; 40]).holds() && !Sum::of(&[0; 40]).holds());
    }

    proptest! {
        #[test]
        fn sums_as_word_by_word(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::of(&bytes).fold(), plain(&bytes));
        }

        #[test]
        fn an_update_equals_a_new_sum(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..80),
            new in any::<[u8; 16]>(),
            word in any::<u16>(),
        ) {
            bytes[0] |= 1; // headers are never all zero
            bytes.truncate(bytes.len() & !1);
            let checksum = Sum::of(&bytes).checksum();
            let old: [u8; 16] = bytes[4..20].try_into().unwrap();
            let old_word = u16::from_be_bytes([bytes[20], bytes[21]]);
            let old_v4: [u8; 4] = bytes[24..28].try_into().unwrap();
            let new_v4: [u8; 4] = new[..4].try_into().unwrap();
            let updated = Sum::ZERO
                .address_changed(Ipv6Addr::from(old), Ipv6Addr::from(new))
                .word_changed(old_word, word)
                .address_changed(Ipv4Addr::from(old_v4), Ipv4Addr::from(new_v4))
                .update(checksum);
            bytes[4..20].copy_from_slice(&new);
            bytes[20..22].copy_from_slice(&word.to_be_bytes());
            bytes[24..28].copy_from_slice(&new_v4);
            prop_assert_eq!(updated, Sum::of(&bytes).checksum());
        }

        #[test]
        fn a_pseudo_header_is_the_sum_of_its_bytes(
            source in any::<[u8; 16]>(),
            destination in any::<[u8; 16]>(),
            protocol in any::<u8>(),
            length in 0_u32..70_000,
        ) {
            let mut bytes = Vec::from(source);
            bytes.extend(destination);
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            let sum = pseudo_header(Ipv6Addr::from(source), Ipv6Addr::from(destination), protocol, length);
            prop_assert_eq!(sum.fold(), plain(&bytes));
            let v4 = |bytes: &[u8; 16]| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
            let mut bytes = Vec::from(v4(&source).octets());
            bytes.extend(v4(&destination).octets());
            bytes.extend([0, protocol]);
            bytes.extend((length as u16).to_be_bytes());
            let sum = pseudo_header(v4(&source), v4(&destination), protocol, u32::from(length as u16));
            prop_assert_eq!(sum.fold(), plain(&bytes));
        }
    }
}
