//! TCP headers (RFC 9293, 3.1).

use std::fmt;

use super::checksum::pseudo_header;
use super::{array, put};
use crate::address::Address;
use crate::id::{L4Port, Protocol};

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// Offsets in the header.
pub mod field {
    /// Source port.
    pub const SOURCE_PORT: usize = 0;
    /// Destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Sequence number.
    pub const SEQUENCE: usize = 4;
    /// Acknowledgment number.
    pub const ACKNOWLEDGMENT: usize = 8;
    /// Data offset, in the upper four bits.
    pub const DATA_OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Window.
    pub const WINDOW: usize = 14;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer.
    pub const URGENT: usize = 18;
}

/// The flags of a TCP header.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);

    /// True when all flags of `other` are set.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// FIN is set.
    #[inline]
    #[must_use]
    pub const fn fin(self) -> bool {
        self.has(Self::FIN)
    }

    /// SYN is set.
    #[inline]
    #[must_use]
    pub const fn syn(self) -> bool {
        self.has(Self::SYN)
    }

    /// RST is set.
    #[inline]
    #[must_use]
    pub const fn rst(self) -> bool {
        self.has(Self::RST)
    }

    /// ACK is set.
    #[inline]
    #[must_use]
    pub const fn ack(self) -> bool {
        self.has(Self::ACK)
    }
}

/// The letters of the flags that are set, as in tcpdump: `SA` for SYN and ACK.
impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpFlags(")?;
        for (bit, letter) in "FSRPAUEC".chars().enumerate() {
            if self.0 >> bit & 1 != 0 {
                write!(f, "{letter}")?;
            }
        }
        f.write_str(")")
    }
}

/// Bytes of the header with its options, as it says itself: 0 to 60.
#[inline]
#[must_use]
pub const fn header_length(header: &[u8; HEADER]) -> usize {
    (header[field::DATA_OFFSET] >> 4) as usize * 4
}

/// The fields of a segment that the director reads or makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source_port: L4Port,
    /// Destination port.
    pub destination_port: L4Port,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; counts when ACK is set.
    pub acknowledgment: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window.
    pub window: u16,
}

impl Segment {
    /// The fields of a segment, and how many bytes of sequence space it takes (data, SYN and FIN; RFC 9293,
    /// 3.3.1); none when its header cannot be as long as it says.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, u32)> {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = header_length(header);
        let data = bytes.len().checked_sub(length).filter(|_| length >= HEADER)?;
        let flags = TcpFlags(header[field::FLAGS]);
        let word = |at| array(header, at).map(u16::from_be_bytes);
        let number = |at| array(header, at).map(u32::from_be_bytes);
        let segment = Self {
            source_port: L4Port(word(field::SOURCE_PORT)?),
            destination_port: L4Port(word(field::DESTINATION_PORT)?),
            sequence: number(field::SEQUENCE)?,
            acknowledgment: number(field::ACKNOWLEDGMENT)?,
            flags,
            window: word(field::WINDOW)?,
        };
        Some((segment, data as u32 + u32::from(flags.syn()) + u32::from(flags.fin())))
    }

    /// Writes the header without options in front of the data that `bytes` holds after it, checksum included.
    pub fn write<A: Address>(&self, bytes: &mut [u8], source: A, destination: A) {
        let Some(header) = bytes.first_chunk_mut::<HEADER>() else { return };
        put(header, field::SOURCE_PORT, self.source_port.0.to_be_bytes());
        put(header, field::DESTINATION_PORT, self.destination_port.0.to_be_bytes());
        put(header, field::SEQUENCE, self.sequence.to_be_bytes());
        put(header, field::ACKNOWLEDGMENT, self.acknowledgment.to_be_bytes());
        put(header, field::DATA_OFFSET, [(HEADER / 4) as u8 * 16, self.flags.0]);
        put(header, field::WINDOW, self.window.to_be_bytes());
        put(header, field::CHECKSUM, [0; 4]);
        let sum = pseudo_header(source, destination, Protocol::Tcp.number(), bytes.len() as u32).bytes(bytes);
        put(bytes, field::CHECKSUM, sum.checksum().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use std::net::Ipv4Addr;

    #[test]
    fn reads_what_it_writes() {
        let segment = Segment {
            source_port: L4Port(80),
            destination_port: L4Port(40_000),
            sequence: 0x0102_0304,
            acknowledgment: 0x0506_0708,
            flags: TcpFlags::SYN.and(TcpFlags::ACK),
            window: 512,
        };
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut bytes = [0xa5; 23];
        segment.write(&mut bytes, a, b);
        assert_eq!(Segment::parse(&bytes), Some((segment, 4)));
        assert!(pseudo_header(a, b, 6, 23).bytes(&bytes).holds());
        assert_ne!(Sum::of(&bytes[16..18]), Sum::ZERO);
        assert_eq!(format!("{:?}", segment.flags), "TcpFlags(SA)");
        assert_eq!(Segment::parse(&bytes[..19]), None);
    }
}
