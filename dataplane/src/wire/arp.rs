//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{array, ethernet, put};
use crate::address::Address;
use crate::id::Mac;
use crate::reason::DropReason;

/// Bytes of an ARP packet behind the Ethernet header.
pub const PACKET: usize = 28;
/// Bytes of a frame with an ARP packet, padding left out.
pub const FRAME: usize = ethernet::HEADER + PACKET;

/// Offsets behind the Ethernet header.
pub mod field {
    /// Hardware type, protocol type and both address lengths.
    pub const TYPES: usize = 0;
    /// Operation.
    pub const OPERATION: usize = 6;
    /// Sender's MAC.
    pub const SENDER_MAC: usize = 8;
    /// Sender's address.
    pub const SENDER: usize = 14;
    /// Target's MAC.
    pub const TARGET_MAC: usize = 18;
    /// Target's address.
    pub const TARGET: usize = 24;
}

/// Ethernet (1), IPv4 (0x0800), addresses of 6 and 4 bytes.
const TYPES: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// What it does.
    pub operation: Operation,
    /// Who speaks.
    pub sender_mac: Mac,
    /// The speaker's address; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// Who is spoken to; no meaning in a request.
    pub target_mac: Mac,
    /// The address that is asked for or answered.
    pub target: Ipv4Addr,
}

impl Arp {
    /// True for an announcement (RFC 5227, 3; "gratuitous ARP"): sender and target are one address.
    #[must_use]
    pub fn is_announcement(&self) -> bool {
        self.sender == self.target
    }
}

/// Reads an ARP frame.
///
/// # Errors
/// `Truncated` when it is cut; `EtherType` when it is not about IPv4 over Ethernet or of another operation;
/// `Martian` when the sender's MAC is a group's or its address cannot be one.
pub fn parse(frame: &[u8]) -> Result<Arp, DropReason> {
    let packet = frame.get(ethernet::HEADER..).and_then(<[u8]>::first_chunk::<PACKET>);
    let Some(packet) = packet else { return Err(DropReason::Truncated) };
    if ethernet::ethertype(frame) != Some(ethernet::ARP) || packet[..field::OPERATION] != TYPES {
        return Err(DropReason::EtherType);
    }
    let operation = match packet[field::OPERATION..field::SENDER_MAC] {
        [0, 1] => Operation::Request,
        [0, 2] => Operation::Reply,
        _ => return Err(DropReason::EtherType),
    };
    let mac = |at| array(packet, at).map_or(Mac::default(), Mac);
    let address = |at| array(packet, at).map_or(Ipv4Addr::UNSPECIFIED, |octets: [u8; 4]| octets.into());
    let arp = Arp {
        operation,
        sender_mac: mac(field::SENDER_MAC),
        sender: address(field::SENDER),
        target_mac: mac(field::TARGET_MAC),
        target: address(field::TARGET),
    };
    let probe = operation == Operation::Request && arp.sender.is_unspecified();
    if arp.sender_mac.is_group() || !arp.sender.is_valid_source() && !probe {
        return Err(DropReason::Martian);
    }
    Ok(arp)
}

/// A whole frame, from the sender's MAC to `destination`.
#[must_use]
pub fn build(arp: &Arp, destination: Mac) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    ethernet::write(&mut frame, destination, arp.sender_mac, ethernet::ARP);
    let packet = &mut frame[ethernet::HEADER..];
    let operation: u16 = match arp.operation {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    put(packet, field::TYPES, TYPES);
    put(packet, field::OPERATION, operation.to_be_bytes());
    put(packet, field::SENDER_MAC, arp.sender_mac.0);
    put(packet, field::SENDER, arp.sender.octets());
    put(packet, field::TARGET_MAC, arp.target_mac.0);
    put(packet, field::TARGET, arp.target.octets());
    frame
}

/// The frame that asks everybody who has `target`.
#[must_use]
pub fn request(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME] {
    let arp = Arp { operation: Operation::Request, sender_mac, sender, target_mac: Mac::default(), target };
    build(&arp, Mac::BROADCAST)
}

/// The frame that answers a request: `mac` has the address that was asked for.
#[must_use]
pub fn reply(request: &Arp, mac: Mac) -> [u8; FRAME] {
    let arp = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    build(&arp, request.sender_mac)
}

/// The frame that tells everybody that `mac` has `address` (RFC 5227, 3).
#[must_use]
pub fn announcement(mac: Mac, address: Ipv4Addr) -> [u8; FRAME] {
    request(mac, address, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0xc0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0xd0, 0]);

    #[test]
    fn a_request_and_its_reply() {
        let (asker, asked) = (Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(10, 0, 0, 100));
        let frame = request(A, asker, asked);
        let hex = "ffffffffffff02000000c001080600010800060400010200\
                   0000c0010a0000fe0000000000000a000064";
        assert_eq!(frame.map(|byte| format!("{byte:02x}")).concat(), hex.replace(' ', ""));
        let read = parse(&frame).unwrap();
        assert_eq!((read.operation, read.sender, read.target), (Operation::Request, asker, asked));
        let answer = reply(&read, B);
        assert_eq!(ethernet::destination(&answer), Some(A));
        let read = parse(&answer).unwrap();
        let want =
            Arp { operation: Operation::Reply, sender_mac: B, sender: asked, target_mac: A, target: asker };
        assert_eq!(read, want);
        assert!(!read.is_announcement() && parse(&announcement(B, asked)).unwrap().is_announcement());
    }

    #[test]
    fn refusals() {
        let good = request(A, Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(10, 0, 0, 100));
        let broken = |at: usize, value: u8| {
            let mut frame = good;
            frame[at] = value;
            parse(&frame)
        };
        assert_eq!(parse(&good[..41]), Err(DropReason::Truncated));
        for (what, at, value, want) in [
            ("not ARP", 13, 0, DropReason::EtherType),
            ("hardware type", 15, 6, DropReason::EtherType),
            ("protocol type", 16, 0x86, DropReason::EtherType),
            ("address length", 19, 16, DropReason::EtherType),
            ("operation", 21, 3, DropReason::EtherType),
            ("sender's MAC a group's", 22, 3, DropReason::Martian),
            ("sender's address a group's", 28, 224, DropReason::Martian),
        ] {
            assert_eq!(broken(at, value), Err(want), "{what}");
        }
        let mut probe = good;
        probe[28..32].fill(0);
        assert!(parse(&probe).is_ok());
        probe[21] = 2;
        assert_eq!(parse(&probe), Err(DropReason::Martian));
    }
}
