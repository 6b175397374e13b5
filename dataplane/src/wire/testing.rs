//! What the tests of this crate share: frames as text, and frames from recordings of the kernel.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;
use super::{Frame, Headers, ethernet, ipv4, parse};
use crate::id::{Mac, NicId};
use crate::packet::Packet;

/// The director's MAC on the client side in the recordings; on the other side it ends in 1.
pub(crate) const DIRECTOR: Mac = Mac([2, 0, 0, 0, 0xd0, 0]);
/// The clients' router.
pub(crate) const ROUTER: Mac = Mac([2, 0, 0, 0, 0xc0, 1]);

/// A SYN, IPv4 (tcp_dr, step 0).
pub(crate) const SYN_V4: &str = "02000000d00002000000c001 0800 4500003c100040004006f623c63364010a000064 \
    9c400050000003e800000000a002faf077fd0000020405b40402080a000000010000000001030307";
/// A SYN that experienced congestion, IPv6 (tcp6_tun, step 18).
pub(crate) const SYN_V6: &str = "02000000d00002000000c001 86dd \
    603000000028063d20010db8000c0000000000000000000420010db8000000000000000000000100 \
    9c430050000003e800000000a002faf050110000020405b40402080a000000010000000001030307";
/// A datagram, IPv4 (udp_nat, step 0).
pub(crate) const UDP_V4: &str =
    "02000000d00002000000c001 0800 4500002230000000 40111633c63364010a000064 14b40035000e6638 717565727930";
/// A SYN with room to record one address of its route (tcp_dr, step 26).
pub(crate) const RECORD_ROUTE: &str = "02000000d00002000000c001 0800 \
    470000300000000040063924c63364060a000064 0707040000000000 9c47005000000000000000005002faf0e3bc0000";
/// A ping, IPv4 (odd_dr, step 3).
pub(crate) const PING_V4: &str =
    "02000000d00002000000c001 0800 450000200000000040014645c63364010a000064 0800192d00010001 70696e67";
/// A ping, IPv6 (odd6_dr, step 3).
pub(crate) const PING_V6: &str = "02000000d00002000000c001 86dd \
    60000000000c3a4020010db8000c0000000000000000000120010db8000000000000000000000100 \
    8000446700010001 70696e67";

/// Bytes from hexadecimal digits; blanks do not count.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Hexadecimal digits, for messages that can be compared.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers of an IPv4 frame to whatever MAC it is for.
pub(crate) fn v4(frame: &[u8]) -> Headers<Ipv4Addr> {
    match parse(frame, ethernet::destination(frame).unwrap()) {
        Ok(Frame::V4(headers)) => headers,
        other => panic!("{other:?}: {}", text(frame)),
    }
}

/// The headers of an IPv6 frame to whatever MAC it is for.
pub(crate) fn v6(frame: &[u8]) -> Headers<Ipv6Addr> {
    match parse(frame, ethernet::destination(frame).unwrap()) {
        Ok(Frame::V6(headers)) => headers,
        other => panic!("{other:?}: {}", text(frame)),
    }
}

/// Makes the header checksum of an IPv4 frame right, as far as the frame has such a header.
pub(crate) fn fix_header_checksum(frame: &mut [u8]) {
    let Some(&first) = frame.get(ethernet::HEADER) else { return };
    let end = ethernet::HEADER + usize::from(first & 15) * 4;
    let Some(header) = frame.get_mut(ethernet::HEADER..end).filter(|header| header.len() >= ipv4::HEADER)
    else {
        return;
    };
    header[ipv4::field::CHECKSUM..][..2].fill(0);
    let checksum = Sum::of(header).checksum();
    header[ipv4::field::CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
}

/// Bytes of head room and of tail room in [`with_room`].
pub(crate) const ROOM: usize = 64;

/// What `work` makes of a frame in the middle of a buffer full of 0xa5, and its result. What lies outside of the frame
/// must not change; `head` bytes of the head room are on offer.
pub(crate) fn with_room<T>(
    frame: &[u8],
    head: usize,
    work: impl FnOnce(&mut Packet<'_>) -> T,
) -> (Vec<u8>, T) {
    let mut room = vec![0xa5; head + frame.len() + ROOM];
    room[head..head + frame.len()].copy_from_slice(frame);
    let mut packet = Packet::new(&mut room, head, frame.len(), NicId(0));
    let result = work(&mut packet);
    let (start, length) = (packet.start(), packet.len());
    let bytes = packet.bytes().to_vec();
    assert!(room[..start.min(head)].iter().all(|&byte| byte == 0xa5), "head room was written");
    let written = (start + length).max(head + frame.len());
    assert!(room[written..].iter().all(|&byte| byte == 0xa5), "tail room was written");
    (bytes, result)
}
