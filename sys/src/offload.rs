//! What a sender leaves to its NIC, done here: filling in the checksum of TCP and UDP, cutting a large frame into segments.
//!
//! Such a frame has the sum of its pseudo header in the checksum field, and everything between here and where the checksum is filled in
//! may change its addresses: the sum is made anew from those that it leaves with.

use crate::ffi;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ETHERNET_HEADER: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Of TCP's flags: those that only the last segment has, and the one that only the first has.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Where the transport header of a whole TCP or UDP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    /// Where the IP header starts.
    network: usize,
    /// Where the transport header starts.
    pub start: usize,
    /// Bytes of it.
    header: usize,
    /// Where the IP packet ends.
    end: usize,
    pub protocol: u8,
    pub is_v6: bool,
}

/// Finds it; none in a fragment, and behind a routing header, whose final destination is another one.
pub(crate) fn transport(frame: &[u8]) -> Option<Transport> {
    let mut network = ETHERNET_HEADER;
    let mut ethertype = word(frame, 12)?;
    while matches!(ethertype, 0x8100 | 0x88a8) {
        ethertype = word(frame, network + 2)?;
        network += 4;
    }
    let (start, end, protocol, is_v6) = match ethertype {
        0x0800 => {
            let header = frame.get(network..)?.first_chunk::<IPV4_HEADER>()?;
            let length = usize::from(header[0] & 0xf) * 4;
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            if header[0] >> 4 != 4 || length < IPV4_HEADER || is_fragment {
                return None;
            }
            (network + length, network + usize::from(word(frame, network + 2)?), header[9], false)
        }
        0x86dd => {
            let end = network + IPV6_HEADER + usize::from(word(frame, network + 4)?);
            let (mut next, mut at) = (*frame.get(network + 6)?, network + IPV6_HEADER);
            while matches!(next, 0 | 60) {
                let header = frame.get(at..)?.first_chunk::<2>()?;
                (next, at) = (header[0], at + (usize::from(header[1]) + 1) * 8);
            }
            (at, end, next, true)
        }
        _ => return None,
    };
    let header = match protocol {
        TCP => usize::from(*frame.get(start + 12)? >> 4) * 4,
        UDP => UDP_HEADER,
        _ => return None,
    };
    let least = if protocol == TCP { TCP_HEADER } else { UDP_HEADER };
    let fits = header >= least && start + header <= end && end <= frame.len();
    fits.then_some(Transport { network, start, header, end, protocol, is_v6 })
}

impl Transport {
    /// Where the checksum is within the transport header.
    pub const fn checksum_offset(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// Where the payload starts.
    pub const fn payload(&self) -> usize {
        self.start + self.header
    }

    fn checksum<'f>(&self, frame: &'f mut [u8]) -> Option<&'f mut [u8; 2]> {
        frame.get_mut(self.start + self.checksum_offset()..)?.first_chunk_mut()
    }

    /// Whether TCP tells with this packet that it sends less (RFC 3168), which belongs to the first of its segments.
    pub fn has_cwr(&self, frame: &[u8]) -> bool {
        self.protocol == TCP && frame.get(self.start + 13).is_some_and(|flags| flags & CWR != 0)
    }

    /// Writes the sum of the pseudo header into the checksum field, as whoever fills it in expects it.
    pub fn leave_checksum(&self, frame: &mut [u8]) {
        let addresses = if self.is_v6 {
            self.network + 8..self.network + IPV6_HEADER
        } else {
            self.network + 12..self.network + IPV4_HEADER
        };
        let length = self.end - self.start;
        let rest = [0, self.protocol, (length >> 8) as u8, length as u8];
        let sum = frame.get(addresses).map_or(0, |addresses| sum(addresses) + sum(&rest));
        if let Some(field) = self.checksum(frame) {
            *field = fold(sum).to_ne_bytes();
        }
    }

    /// Fills in the checksum.
    pub fn fill_checksum(&self, frame: &mut [u8]) {
        self.leave_checksum(frame);
        let filled = frame.get(self.start..self.end).map_or(0, |bytes| !fold(sum(bytes)));
        // UDP has no other way to say that there is a checksum.
        let filled = if filled == 0 && self.protocol == UDP { u16::MAX } else { filled };
        if let Some(field) = self.checksum(frame) {
            *field = filled.to_ne_bytes();
        }
    }
}

/// Fills in the checksum of a whole TCP or UDP packet. Others are as they were.
pub fn fill_checksum(frame: &mut [u8]) {
    if let Some(transport) = transport(frame) {
        transport.fill_checksum(frame);
    }
}

/// Fills in a checksum by where it is: over all bytes from `start` on, at `offset` behind that, where the sum of what else counts
/// stands. False when that is not within the frame.
pub(crate) fn fill_checksum_at(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(bytes) = frame.get_mut(start..) else { return false };
    let filled = !fold(sum(bytes));
    let Some(field) = bytes.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<2>()) else {
        return false;
    };
    *field = if filled == 0 { [0xff; 2] } else { filled.to_ne_bytes() };
    true
}

/// Fills in the checksum of an SCTP packet that starts at `start` (CRC32c, RFC 9260, appendix A). False when there is none.
pub(crate) fn fill_sctp_checksum(frame: &mut [u8], start: usize) -> bool {
    const FIELD: usize = 8;
    let end = ip_end(frame);
    let Some(bytes) = end.and_then(|end| frame.get_mut(start..end)).filter(|bytes| bytes.len() >= 12) else {
        return false;
    };
    bytes[FIELD..FIELD + 4].fill(0);
    let mut crc = u32::MAX;
    for byte in bytes.iter() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    bytes[FIELD..FIELD + 4].copy_from_slice(&(!crc).to_le_bytes());
    true
}

/// Where the IP packet of an untagged frame ends.
fn ip_end(frame: &[u8]) -> Option<usize> {
    let end = match word(frame, 12)? {
        0x0800 => ETHERNET_HEADER + usize::from(word(frame, ETHERNET_HEADER + 2)?),
        0x86dd => ETHERNET_HEADER + IPV6_HEADER + usize::from(word(frame, ETHERNET_HEADER + 4)?),
        _ => return None,
    };
    (end <= frame.len()).then_some(end)
}

/// A large frame that is cut into segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments<'f> {
    frame: &'f [u8],
    transport: Transport,
    size: usize,
}

impl<'f> Segments<'f> {
    /// With `size` bytes of payload each; none when that is not TCP or UDP, or there is nothing to cut.
    pub fn of(frame: &'f [u8], size: u16) -> Option<Segments<'f>> {
        let transport = transport(frame)?;
        (size > 0).then_some(Segments { frame, transport, size: size.into() })
    }

    fn payload(&self) -> usize {
        self.transport.end - self.transport.payload()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.payload().div_ceil(self.size).max(1)
    }

    /// Bytes of the segment of this number; 0 when there is none.
    pub fn length(&self, number: usize) -> usize {
        match self.payload().saturating_sub(number * self.size).min(self.size) {
            0 if number > 0 => 0,
            payload => self.transport.payload() + payload,
        }
    }

    /// Writes it; `into` has as many bytes as it.
    pub fn write(&self, number: usize, into: &mut [u8]) {
        let Transport { network, start, .. } = self.transport;
        let (headers, from) = (self.transport.payload(), number * self.size);
        let payload = into.len() - headers;
        into[..headers].copy_from_slice(&self.frame[..headers]);
        into[headers..].copy_from_slice(&self.frame[headers + from..headers + from + payload]);
        let is_last = number + 1 == self.count();
        if self.transport.is_v6 {
            let length = into.len() - network - IPV6_HEADER;
            into[network + 4..network + 6].copy_from_slice(&(length as u16).to_be_bytes());
        } else {
            let length = into.len() - network;
            into[network + 2..network + 4].copy_from_slice(&(length as u16).to_be_bytes());
            let identification =
                u16::from_be_bytes([into[network + 4], into[network + 5]]).wrapping_add(number as u16);
            into[network + 4..network + 6].copy_from_slice(&identification.to_be_bytes());
            into[network + 10..network + 12].fill(0);
            let checksum = !fold(sum(&into[network..start]));
            into[network + 10..network + 12].copy_from_slice(&checksum.to_ne_bytes());
        }
        if self.transport.protocol == TCP {
            let field = start + 4..start + 8;
            let sequence =
                into[field.clone()].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            into[field].copy_from_slice(&sequence.wrapping_add(from as u32).to_be_bytes());
            if !is_last {
                into[start + 13] &= !(FIN | PSH);
            }
            if number > 0 {
                into[start + 13] &= !CWR;
            }
        } else {
            let length = into.len() - start;
            into[start + 4..start + 6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        let end = into.len();
        Transport { end, ..self.transport }.fill_checksum(into);
    }
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

/// In the processor's order of bytes, which ones' complement sums do not mind (RFC 1071, 2(B)).
fn sum(bytes: &[u8]) -> u32 {
    // SAFETY: rte_ip.h: rte_raw_cksum reads so many bytes.
    u32::from(unsafe { ffi::shim_raw_cksum(bytes.as_ptr().cast(), bytes.len()) })
}

fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: usize = 2500;

    /// A TCP segment with FIN, PSH, ACK and CWR, or a UDP datagram, whose checksum is left to a NIC.
    fn packet(is_v6: bool, protocol: u8) -> Vec<u8> {
        let header = if protocol == TCP { 24 } else { UDP_HEADER };
        let length = header + PAYLOAD;
        let mut frame = vec![2; 12];
        if is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((length as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend((0..32).collect::<Vec<u8>>());
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((length as u16 + 20).to_be_bytes());
            frame.extend([0xff, 0xff, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        if protocol == TCP {
            frame.extend([
                0, 80, 0x9c, 0x40, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x60, 0x99, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1,
            ]);
        } else {
            frame.extend([0, 80, 0x9c, 0x40]);
            frame.extend((length as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.extend((0..PAYLOAD).map(|at| at as u8));
        frame
    }

    /// The sum over a pseudo header and all from the transport header on, word by word (RFC 1071).
    fn holds(frame: &[u8], is_v6: bool, protocol: u8) -> bool {
        let (addresses, start) = if is_v6 { (22..54, 54) } else { (26..34, 34) };
        let mut bytes = frame[addresses].to_vec();
        bytes.extend(((frame.len() - start) as u32).to_be_bytes());
        bytes.extend([0, 0, 0, protocol]);
        bytes.extend(&frame[start..]);
        plain(&bytes) == 0xffff
    }

    fn plain(bytes: &[u8]) -> u32 {
        let words = bytes
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
        words.fold(0, |sum, word| (sum + word) % 0xffff + if (sum + word) % 0xffff == 0 { 0xffff } else { 0 })
    }

    #[test]
    fn segments_are_what_the_sender_would_have_sent() {
        for (is_v6, protocol) in [(false, TCP), (true, TCP), (false, UDP), (true, UDP)] {
            let frame = packet(is_v6, protocol);
            let segments = Segments::of(&frame, 1000).expect("segments");
            assert_eq!(segments.count(), 3);
            let headers = frame.len() - PAYLOAD;
            let mut payload: Vec<u8> = Vec::new();
            for number in 0..3 {
                let mut segment = vec![0; segments.length(number)];
                segments.write(number, &mut segment);
                assert!(holds(&segment, is_v6, protocol), "{is_v6} {protocol} {number}");
                let found = transport(&segment).expect("a whole packet");
                assert_eq!((found.end, found.payload()), (segment.len(), headers));
                if !is_v6 {
                    assert_eq!(plain(&segment[14..34]), 0xffff);
                    assert_eq!(segment[18..20], (0xffff_u16.wrapping_add(number as u16)).to_be_bytes());
                }
                let start = found.start;
                if protocol == TCP {
                    let sequence = 0xffff_ff00_u32.wrapping_add(number as u32 * 1000);
                    assert_eq!(segment[start + 4..start + 8], sequence.to_be_bytes());
                    assert_eq!(segment[start + 13], [0x90, 0x10, 0x19][number]);
                } else {
                    assert_eq!(segment[start + 4..start + 6], ((segment.len() - start) as u16).to_be_bytes());
                }
                payload.extend(&segment[headers..]);
            }
            assert_eq!(segments.length(3), 0);
            assert!(payload == frame[headers..]);
        }
    }

    #[test]
    fn what_is_left_is_the_sum_of_the_pseudo_header_that_leaves() {
        for (is_v6, protocol) in [(false, TCP), (true, TCP), (false, UDP), (true, UDP)] {
            let mut frame = packet(is_v6, protocol);
            let found = transport(&frame).expect("a whole packet");
            frame[29] = 77;
            found.leave_checksum(&mut frame);
            assert!(fill_checksum_at(&mut frame, found.start, found.checksum_offset()));
            assert!(holds(&frame, is_v6, protocol));
            let at_once = frame.clone();
            fill_checksum(&mut frame);
            assert!(frame == at_once);
        }
    }

    #[test]
    fn parts_of_packets_are_left_alone() {
        let mut frame = packet(false, TCP);
        frame[20] = 0x20;
        assert_eq!(transport(&frame), None);
        let before = frame.clone();
        fill_checksum(&mut frame);
        assert!(frame == before);
        let frame = packet(true, TCP);
        for length in 0..frame.len() {
            assert_eq!(transport(&frame[..length]), None, "{length}");
        }
    }

    #[test]
    fn the_checksum_of_sctp() {
        let mut frame = vec![0; 14 + 20];
        frame[12] = 8;
        frame.extend([0, 1, 2, 3, 4, 5, 6, 7, 9, 9, 9, 9]);
        frame.extend(b"123456789");
        frame[16..18].copy_from_slice(&41_u16.to_be_bytes());
        // Behind the packet.
        frame.extend([7; 5]);
        assert!(fill_sctp_checksum(&mut frame, 34));
        // By a program that gives 0xe3069283 for "123456789" alone (RFC 3720, B.4).
        assert_eq!(frame[42..46], 0x749e_8602_u32.to_le_bytes());
        assert!(!fill_sctp_checksum(&mut frame, 50) && !fill_checksum_at(&mut frame, 58, 8));
    }
}
