//! IPv6 neighbour discovery (RFC 4861): solicitations and advertisements.

use std::net::Ipv6Addr;

use super::ip::{IpHeader, IpVersion};
use super::{Headers, array, ethernet, icmp, ipv6, put};
use crate::id::Mac;
use crate::reason::DropReason;

/// The hop limit that proves that no router passed the packet on (RFC 4861, 3.1).
pub const HOP_LIMIT: u8 = 255;
/// Bytes of a solicitation or an advertisement up to its options.
const MESSAGE: usize = 24;
/// Bytes of a link-layer address option for Ethernet.
const OPTION: usize = 8;
/// Bytes of a frame with a message and a link-layer address.
pub const FRAME: usize = ethernet::HEADER + ipv6::HEADER + MESSAGE + OPTION;

/// ICMPv6 types.
pub mod kind {
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 136;
}

/// Offsets in the ICMPv6 message.
mod field {
    pub const FLAGS: usize = 4;
    pub const TARGET: usize = 8;
}

/// Types of options.
mod option {
    pub const SOURCE_MAC: u8 = 1;
    pub const TARGET_MAC: u8 = 2;
}

/// Flags of an advertisement.
mod flag {
    pub const ROUTER: u8 = 0x80;
    pub const SOLICITED: u8 = 0x40;
    pub const OVERRIDE: u8 = 0x20;
}

/// Asks for a neighbour's MAC, or whether it is still there, or whether an address is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Who asks; unspecified when the question is whether `target` is free (RFC 4862, 5.4).
    pub source: Ipv6Addr,
    /// Whom it asks: the target, or its solicited-node group.
    pub destination: Ipv6Addr,
    /// The address that is asked for.
    pub target: Ipv6Addr,
    /// The MAC of who asks.
    pub source_mac: Option<Mac>,
}

/// Says what a neighbour's MAC is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Who says so.
    pub source: Ipv6Addr,
    /// Whom it tells: one who asked, or all nodes.
    pub destination: Ipv6Addr,
    /// The address that this is about.
    pub target: Ipv6Addr,
    /// The MAC of the target.
    pub target_mac: Option<Mac>,
    /// The speaker is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// A MAC known so far is to be replaced.
    pub overrides: bool,
}

/// A neighbour discovery message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Neighbour solicitation.
    Solicitation(Solicitation),
    /// Neighbour advertisement.
    Advertisement(Advertisement),
    /// Of another type (router solicitation, router advertisement, redirect), unchecked.
    Other(u8),
}

/// Reads a neighbour discovery message and makes the checks of RFC 4861, 7.1.
///
/// # Errors
/// `Truncated` when it is cut; `TransportChecksum`; `TransportHeader` when a rule of RFC 4861 is broken: the
/// hop limit is not 255, the code is not 0, the target is a group, an option has no length, a solicitation
/// without source goes to a single host or gives a MAC, an answer to a solicitation goes to a group.
pub fn parse(frame: &[u8], headers: &Headers<Ipv6Addr>) -> Result<Message, DropReason> {
    const BROKEN: DropReason = DropReason::TransportHeader;
    let bytes = headers.transport_bytes(frame);
    let Some([kind, code]) = array(bytes, icmp::field::TYPE) else { return Err(DropReason::Truncated) };
    if headers.protocol != icmp::V6 || headers.ttl != HOP_LIMIT || code != 0 {
        return Err(BROKEN);
    }
    if !headers.transport_checksum_holds(frame) {
        return Err(DropReason::TransportChecksum);
    }
    if kind != kind::SOLICITATION && kind != kind::ADVERTISEMENT {
        return Ok(Message::Other(kind));
    }
    let Some((message, options)) = bytes.split_first_chunk::<MESSAGE>() else {
        return Err(DropReason::Truncated);
    };
    let target = Ipv6Addr::read(message, field::TARGET).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let (source, destination) = (headers.source, headers.destination);
    if target.is_multicast() {
        return Err(BROKEN);
    }
    if kind == kind::SOLICITATION {
        let source_mac = link_layer_address(options, option::SOURCE_MAC)?;
        if source.is_unspecified() && (source_mac.is_some() || !is_solicited_node_group(destination)) {
            return Err(BROKEN);
        }
        return Ok(Message::Solicitation(Solicitation { source, destination, target, source_mac }));
    }
    let flags = message[field::FLAGS];
    let solicited = flags & flag::SOLICITED != 0;
    if solicited && destination.is_multicast() {
        return Err(BROKEN);
    }
    Ok(Message::Advertisement(Advertisement {
        source,
        destination,
        target,
        target_mac: link_layer_address(options, option::TARGET_MAC)?,
        router: flags & flag::ROUTER != 0,
        solicited,
        overrides: flags & flag::OVERRIDE != 0,
    }))
}

/// The MAC in an option of a type; the other options are skipped.
fn link_layer_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, DropReason> {
    let mut found = None;
    while let Some(&[kind, units]) = options.first_chunk() {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return Err(DropReason::TransportHeader);
        }
        if kind == wanted && length == OPTION {
            found = array(options, 2).map(Mac);
        }
        options = &options[length..];
    }
    match found {
        Some(mac) if mac.is_group() => Err(DropReason::TransportHeader),
        found => Ok(found),
    }
}

/// The group that a holder of `address` listens to (RFC 4291, 2.7.1).
#[must_use]
pub const fn solicited_node_group(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0x00ff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// True for groups made by [`solicited_node_group`].
#[must_use]
pub fn is_solicited_node_group(address: Ipv6Addr) -> bool {
    address == solicited_node_group(address)
}

/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The link-local address that a host makes of its MAC (RFC 4862, 5.3; RFC 4291, appendix A).
#[must_use]
pub const fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let low = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(0xfe80 << 112 | low as u128)
}

/// The frame of a solicitation, from `source_mac` to `destination_mac`. Without a source it carries no MAC
/// and is as much shorter.
#[must_use]
pub fn solicitation(message: &Solicitation, source_mac: Mac, destination_mac: Mac) -> Vec<u8> {
    let option = message.source_mac.map(|mac| (option::SOURCE_MAC, mac));
    let addresses = (message.source, message.destination, message.target);
    build(kind::SOLICITATION, 0, addresses, option, source_mac, destination_mac)
}

/// The frame of an advertisement, from `source_mac` to `destination_mac`.
#[must_use]
pub fn advertisement(message: &Advertisement, source_mac: Mac, destination_mac: Mac) -> Vec<u8> {
    let set = |on: bool, flag: u8| if on { flag } else { 0 };
    let flags = set(message.router, flag::ROUTER)
        | set(message.solicited, flag::SOLICITED)
        | set(message.overrides, flag::OVERRIDE);
    let option = message.target_mac.map(|mac| (option::TARGET_MAC, mac));
    let addresses = (message.source, message.destination, message.target);
    build(kind::ADVERTISEMENT, flags, addresses, option, source_mac, destination_mac)
}

/// The frame that asks the link who has `target`.
#[must_use]
pub fn request(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let destination = solicited_node_group(target);
    let message = Solicitation { source, destination, target, source_mac: Some(mac) };
    solicitation(&message, mac, ethernet::of_group_v6(destination))
}

/// The frame that answers a solicitation (RFC 4861, 7.2.4): `mac` has the target. `to` is the MAC of who
/// asked; who asked without an address is answered by way of all nodes.
#[must_use]
pub fn reply(asked: &Solicitation, mac: Mac, to: Mac, router: bool) -> Vec<u8> {
    let nameless = asked.source.is_unspecified();
    let destination = if nameless { ALL_NODES } else { asked.source };
    let message = Advertisement {
        source: asked.target,
        destination,
        target: asked.target,
        target_mac: Some(mac),
        router,
        solicited: !nameless,
        overrides: true,
    };
    let to = if nameless { ethernet::of_group_v6(ALL_NODES) } else { to };
    advertisement(&message, mac, to)
}

/// The frame that tells all nodes that `mac` has `address` (RFC 4861, 7.2.6).
#[must_use]
pub fn announcement(mac: Mac, address: Ipv6Addr, router: bool) -> Vec<u8> {
    let message = Advertisement {
        source: address,
        destination: ALL_NODES,
        target: address,
        target_mac: Some(mac),
        router,
        solicited: false,
        overrides: true,
    };
    advertisement(&message, mac, ethernet::of_group_v6(ALL_NODES))
}

fn build(
    kind: u8,
    flags: u8,
    (source, destination, target): (Ipv6Addr, Ipv6Addr, Ipv6Addr),
    option: Option<(u8, Mac)>,
    source_mac: Mac,
    destination_mac: Mac,
) -> Vec<u8> {
    let mut frame = vec![0; if option.is_some() { FRAME } else { FRAME - OPTION }];
    ethernet::write(&mut frame, destination_mac, source_mac, ethernet::IPV6);
    let packet = &mut frame[ethernet::HEADER..];
    let header = IpHeader {
        source,
        destination,
        protocol: icmp::V6,
        ttl: HOP_LIMIT,
        traffic_class: 0,
        identification: 0,
        dont_fragment: true,
    };
    Ipv6Addr::write_header(packet, &header);
    let message = &mut packet[ipv6::HEADER..];
    put(message, field::TARGET, target.octets());
    if let Some((kind, mac)) = option {
        put(message, MESSAGE, [kind, 1]);
        put(message, MESSAGE + 2, mac.0);
    }
    icmp::write(message, source, destination, kind, 0, u32::from(flags) << 24);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, parse as parse_frame};

    const ASKER: Mac = Mac([2, 0, 0, 0, 0xd0, 0]);
    const ASKED: Mac = Mac([2, 0, 0, 0, 0xc0, 1]);

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn read(frame: &[u8]) -> Result<Message, DropReason> {
        match parse_frame(frame, ASKED)? {
            Frame::V6(headers) => parse(frame, &headers),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_the_kernels_byte_for_byte() {
        // Recording odd6_dr, step 31.
        let want = "3333ff00010002000000d00086dd6000000000203afffe80000000000000000000fffe00d000\
                    ff0200000000000000000001ff0001008700aa630000000020010db8000000000000000000000100\
                    010102000000d000";
        let frame = request(ASKER, address("fe80::ff:fe00:d000"), address("2001:db8::100"));
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, want.replace(' ', ""));
        assert_eq!(link_local(ASKER), address("fe80::ff:fe00:d000"));
    }

    #[test]
    fn a_request_and_its_reply() {
        let (asker, target) = (address("2001:db8::1"), address("2001:db8::100"));
        let frame = request(ASKER, asker, target);
        let Ok(Message::Solicitation(asked)) = read(&frame) else { panic!("{:?}", read(&frame)) };
        assert_eq!((asked.source, asked.target, asked.source_mac), (asker, target, Some(ASKER)));
        let frame = reply(&asked, ASKED, ASKED, true);
        let Ok(Message::Advertisement(said)) = read(&frame) else { panic!("{:?}", read(&frame)) };
        assert_eq!((said.destination, said.target, said.target_mac), (asker, target, Some(ASKED)));
        assert!(said.router && said.solicited && said.overrides);
    }

    #[test]
    fn who_asks_without_an_address_is_answered_through_all_nodes() {
        let target = address("2001:db8::100");
        let asked = Solicitation {
            source: Ipv6Addr::UNSPECIFIED,
            destination: solicited_node_group(target),
            target,
            source_mac: None,
        };
        let frame = solicitation(&asked, ASKER, ethernet::of_group_v6(asked.destination));
        assert_eq!(read(&frame), Ok(Message::Solicitation(asked)));
        let frame = reply(&asked, ASKED, ASKER, false);
        let Ok(Message::Advertisement(said)) = read(&frame) else { panic!("{:?}", read(&frame)) };
        assert_eq!((said.destination, said.solicited), (ALL_NODES, false));
        assert_eq!(ethernet::destination(&frame), Some(ethernet::of_group_v6(ALL_NODES)));
        let Ok(Message::Advertisement(said)) = read(&announcement(ASKED, target, false)) else { panic!() };
        assert_eq!((said.source, said.overrides, said.router), (target, true, false));
    }

    #[test]
    fn refusals() {
        let target = address("2001:db8::100");
        let good = request(ASKER, address("2001:db8::1"), target);
        let icmp_at = ethernet::HEADER + ipv6::HEADER;
        let group = ethernet::of_group_v6(solicited_node_group(target));
        let nameless = |destination, source_mac| {
            let asked = Solicitation { source: Ipv6Addr::UNSPECIFIED, destination, target, source_mac };
            solicitation(&asked, ASKER, group)
        };
        let broken = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            let Frame::V6(headers) = parse_frame(&frame, ASKED).unwrap() else { panic!() };
            frame[icmp_at + 2..icmp_at + 4].fill(0);
            let message = headers.transport_bytes(&frame);
            let checksum = icmp::checksum(message, headers.source, headers.destination);
            frame[icmp_at + 2..icmp_at + 4].copy_from_slice(&checksum.to_be_bytes());
            frame
        };
        let mut wrong_checksum = good.clone();
        wrong_checksum[icmp_at + 30] ^= 1;
        let answer = Advertisement {
            source: target,
            destination: ALL_NODES,
            target,
            target_mac: None,
            router: false,
            solicited: true,
            overrides: false,
        };
        for (what, frame, want) in [
            ("hop limit 254", broken(21, 254), DropReason::TransportHeader),
            ("code", broken(icmp_at + 1, 1), DropReason::TransportHeader),
            ("target a group", broken(icmp_at + 8, 0xff), DropReason::TransportHeader),
            ("option without length", broken(icmp_at + 25, 0), DropReason::TransportHeader),
            ("option past the end", broken(icmp_at + 25, 2), DropReason::TransportHeader),
            ("MAC of a group", broken(icmp_at + 26, 3), DropReason::TransportHeader),
            ("checksum", wrong_checksum, DropReason::TransportChecksum),
            ("no source, to all", nameless(ALL_NODES, None), DropReason::TransportHeader),
            (
                "no source, but a MAC",
                nameless(solicited_node_group(target), Some(ASKER)),
                DropReason::TransportHeader,
            ),
            ("an answer to all", advertisement(&answer, ASKER, group), DropReason::TransportHeader),
        ] {
            assert_eq!(read(&frame), Err(want), "{what}");
        }
    }
}
