//! UDP headers (RFC 768).

use super::checksum::pseudo_header;
use super::put;
use crate::address::Address;
use crate::id::{L4Port, Protocol};

/// Bytes of a header.
pub const HEADER: usize = 8;

/// Offsets in the header.
pub mod field {
    /// Source port.
    pub const SOURCE_PORT: usize = 0;
    /// Destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Length of header and data.
    pub const LENGTH: usize = 4;
    /// Checksum; 0 for none.
    pub const CHECKSUM: usize = 6;
}

/// A checksum as UDP writes it: 0 would mean that there is none.
#[inline]
#[must_use]
pub const fn written(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Computes the checksum of the datagram that `bytes` holds and writes it.
pub fn fill_checksum<A: Address>(bytes: &mut [u8], source: A, destination: A) {
    put(bytes, field::CHECKSUM, [0; 2]);
    let sum = pseudo_header(source, destination, Protocol::Udp.number(), bytes.len() as u32).bytes(bytes);
    put(bytes, field::CHECKSUM, written(sum.checksum()).to_be_bytes());
}

/// Writes the header in front of the data that `bytes` holds after it, checksum included.
pub fn write<A: Address>(
    bytes: &mut [u8],
    source: A,
    destination: A,
    source_port: L4Port,
    destination_port: L4Port,
) {
    let length = bytes.len() as u16;
    put(bytes, field::SOURCE_PORT, source_port.0.to_be_bytes());
    put(bytes, field::DESTINATION_PORT, destination_port.0.to_be_bytes());
    put(bytes, field::LENGTH, length.to_be_bytes());
    fill_checksum(bytes, source, destination);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_checksum_of_zero_is_written_as_ffff() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut bytes = [0xa5; 10];
        write(&mut bytes, a, b, L4Port(53), L4Port(5300));
        assert!(pseudo_header(a, b, 17, 10).bytes(&bytes).holds());
        // Data that brings the sum to 0xffff: what the checksum was, added to the data.
        let checksum = u16::from_be_bytes([bytes[6], bytes[7]]);
        let data = u16::from_be_bytes([bytes[8], bytes[9]]);
        let (sum, carry) = data.overflowing_add(checksum);
        bytes[8..].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        fill_checksum(&mut bytes, a, b);
        assert_eq!(bytes[6..8], [0xff, 0xff]);
        assert!(pseudo_header(a, b, 17, 10).bytes(&bytes).holds());
    }
}
