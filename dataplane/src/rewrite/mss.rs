//! The maximum segment size of a SYN (RFC 9293, 3.7.1), lowered to what fits (iptables: `-j TCPMSS --clamp-mss-to-pmtu`).

use crate::wire::checksum::Sum;
use crate::wire::{Headers, IpVersion, array, put, tcp};

/// The option's kind and length.
const MSS: [u8; 2] = [2, 4];
const END: u8 = 0;
const NOTHING: u8 = 1;

/// Lowers the option of a TCP packet so that segments with their headers fit into `mtu` bytes. A packet without the option
/// stays as it is: its sender's peer sends no more than 536 bytes then, or 1220 (RFC 9293, 3.7.1).
#[cold]
pub fn clamp<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>, mtu: u16) {
    let most = mtu.saturating_sub((A::HEADER + tcp::HEADER) as u16);
    let segment = headers.transport_bytes_mut(frame);
    let Some(at) = option(segment) else { return };
    let (Some(old), Some(checksum)) = (array(segment, at), array(segment, tcp::field::CHECKSUM)) else {
        return;
    };
    let old = u16::from_be_bytes(old);
    if old <= most {
        return;
    }
    put(segment, at, most.to_be_bytes());
    // At an odd place its bytes belong to two words, each to the other half.
    let (old, new) = if at % 2 == 0 { (old, most) } else { (old.swap_bytes(), most.swap_bytes()) };
    let checksum = Sum::ZERO.word_changed(old, new).update(u16::from_be_bytes(checksum));
    put(segment, tcp::field::CHECKSUM, checksum.to_be_bytes());
}

/// Where the value of the option is.
fn option(segment: &[u8]) -> Option<usize> {
    let end = tcp::header_length(segment.first_chunk()?);
    let mut at = tcp::HEADER;
    while at < end {
        match array(segment.get(..end)?, at) {
            Some(MSS) if at + 4 <= end => return Some(at + 2),
            Some([END, _]) | None => return None,
            Some([NOTHING, _]) => at += 1,
            Some([_, length]) if length >= 2 => at += usize::from(length),
            Some(_) => return None,
        }
    }
    None
}
