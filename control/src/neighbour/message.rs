//! What neighbours say to each other, ARP and IPv6 neighbour discovery under one type.
//!
//! Before working on this file, read RFC 826 (ARP), RFC 5227 (address conflicts) and RFC 4861, sections 4.3, 4.4
//! and 7.1. Both protocols ask "who has this address?" and answer "this MAC has it"; what differs ends here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_dataplane::address::Address;
use shunt_dataplane::id::Mac;

const ETHERNET_HEADER: usize = 14;
const ETHER_TYPE_ARP: u16 = 0x0806;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const ARP_LENGTH: usize = 28;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// ICMPv6 type, code, checksum, flags and target address (RFC 4861, 4.3 and 4.4).
const DISCOVERY_LENGTH: usize = 24;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
/// All nodes of a link (RFC 4291, 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A router must not forward these (RFC 4861, 7.1): any other hop limit came from outside the link.
const HOP_LIMIT: u8 = 255;

/// A question or an answer about the owner of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has `target`? An ARP request or a neighbour solicitation.
    Request {
        /// Who asks; unspecified for a probe of duplicate address detection (RFC 5227, RFC 4862).
        sender: IpAddr,
        /// The asker's MAC as the message tells it; an IPv6 asker need not.
        sender_mac: Option<Mac>,
        /// The source of the frame: where the answer goes when the message tells no MAC.
        frame_source: Mac,
        /// The address in question.
        target: IpAddr,
    },
    /// `address` is at `mac`: an ARP reply, a gratuitous ARP or a neighbour advertisement.
    Reply {
        /// Whose address.
        address: IpAddr,
        /// Its MAC; an advertisement that answers a unicast solicitation may leave it out.
        mac: Option<Mac>,
        /// Answers a question of ours, so the way there and back works.
        solicited: bool,
        /// May replace a MAC that is known already.
        overrides: bool,
    },
}

/// Why a frame held no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It ends before the headers it announces.
    Truncated,
    /// Not a solicitation or advertisement, not ARP for IPv4 over Ethernet: nothing that the director heeds.
    OtherKind,
    /// A field that cannot be so: an address or MAC of a group, a hop limit below 255, a wrong checksum, an
    /// option of length 0 (RFC 4861, 7.1.1 and 7.1.2).
    Malformed,
}

impl Message {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`Refused`] says why there is no message in it.
    pub fn parse(frame: &[u8]) -> Result<Self, Refused> {
        let (header, rest) = frame.split_at_checked(ETHERNET_HEADER).ok_or(Refused::Truncated)?;
        let frame_source = mac_at(header, 6)?;
        if frame_source.is_group() {
            return Err(Refused::Malformed);
        }
        match word_at(header, 12)? {
            ETHER_TYPE_ARP => parse_arp(rest, mac_at(header, 0)?, frame_source),
            ETHER_TYPE_IPV6 => parse_discovery(rest, frame_source),
            _ => Err(Refused::OtherKind),
        }
    }
}

fn parse_arp(arp: &[u8], frame_destination: Mac, frame_source: Mac) -> Result<Message, Refused> {
    let arp = arp.get(..ARP_LENGTH).ok_or(Refused::Truncated)?;
    // Ethernet, IPv4, and their address lengths.
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return Err(Refused::OtherKind);
    }
    let sender_mac = mac_at(arp, 8)?;
    let sender = Ipv4Addr::from(array_at::<4>(arp, 14)?);
    let target = Ipv4Addr::from(array_at::<4>(arp, 24)?);
    let probe = sender.is_unspecified();
    if sender_mac.is_group() || sender_mac == Mac([0; 6]) || !probe && !sender.is_valid_source() {
        return Err(Refused::Malformed);
    }
    match word_at(arp, 6)? {
        ARP_REQUEST | ARP_REPLY if sender == target && !probe => Ok(Message::Reply {
            address: sender.into(),
            mac: Some(sender_mac),
            solicited: false,
            overrides: true,
        }),
        ARP_REQUEST if target.is_valid_source() => Ok(Message::Request {
            sender: sender.into(),
            sender_mac: Some(sender_mac),
            frame_source,
            target: target.into(),
        }),
        ARP_REPLY if !probe => Ok(Message::Reply {
            address: sender.into(),
            mac: Some(sender_mac),
            solicited: !frame_destination.is_group(),
            overrides: true,
        }),
        ARP_REQUEST | ARP_REPLY => Err(Refused::Malformed),
        _ => Err(Refused::OtherKind),
    }
}

fn parse_discovery(packet: &[u8], frame_source: Mac) -> Result<Message, Refused> {
    let (header, rest) = packet.split_at_checked(IPV6_HEADER).ok_or(Refused::Truncated)?;
    if header[0] >> 4 != 6 || header[6] != ICMPV6 {
        return Err(Refused::OtherKind);
    }
    let message = rest.get(..usize::from(word_at(header, 4)?)).ok_or(Refused::Truncated)?;
    let kind = *message.first().ok_or(Refused::Truncated)?;
    if kind != SOLICITATION && kind != ADVERTISEMENT {
        return Err(Refused::OtherKind);
    }
    let source = Ipv6Addr::from(array_at::<16>(header, 8)?);
    let destination = Ipv6Addr::from(array_at::<16>(header, 24)?);
    if message.len() < DISCOVERY_LENGTH {
        return Err(Refused::Truncated);
    }
    let target = Ipv6Addr::from(array_at::<16>(message, 8)?);
    let probe = source.is_unspecified();
    if header[7] != HOP_LIMIT
        || message[1] != 0
        || checksum(source, destination, message) != 0
        || !target.is_valid_source()
        || !probe && !source.is_valid_source()
    {
        return Err(Refused::Malformed);
    }
    let options = &message[DISCOVERY_LENGTH..];
    if kind == SOLICITATION {
        let sender_mac = mac_option(options, OPTION_SOURCE_MAC)?;
        // RFC 4861, 7.1.1: a probe goes to the solicited-node group and tells no MAC.
        if probe && (sender_mac.is_some() || destination != solicited_node(target)) {
            return Err(Refused::Malformed);
        }
        return Ok(Message::Request {
            sender: source.into(),
            sender_mac,
            frame_source,
            target: target.into(),
        });
    }
    let solicited = message[4] & FLAG_SOLICITED != 0;
    // RFC 4861, 7.1.2: what goes to a group answers nobody.
    if probe || solicited && destination.is_multicast() {
        return Err(Refused::Malformed);
    }
    Ok(Message::Reply {
        address: target.into(),
        mac: mac_option(options, OPTION_TARGET_MAC)?,
        solicited,
        overrides: message[4] & FLAG_OVERRIDE != 0,
    })
}

/// The MAC in the first option of a kind; all options must have a length (RFC 4861, 4.6).
fn mac_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Refused> {
    let mut found = None;
    while let [kind, length, ..] = *options {
        if length == 0 {
            return Err(Refused::Malformed);
        }
        let (option, rest) = options.split_at_checked(usize::from(length) * 8).ok_or(Refused::Truncated)?;
        if kind == wanted && length == 1 && found.is_none() {
            let mac = mac_at(option, 2)?;
            if mac.is_group() || mac == Mac([0; 6]) {
                return Err(Refused::Malformed);
            }
            found = Some(mac);
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(Refused::Truncated) }
}

/// Where a frame starts from: the director's MAC on the NIC and the address it speaks for.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The NIC's MAC.
    pub mac: Mac,
    /// The address of the director; unspecified when the NIC has none of the family.
    pub address: IpAddr,
}

/// The frame that asks who has `target`: to everybody (IPv6: the solicited-node group), or to `at` alone.
#[must_use]
pub fn request(from: Speaker, target: IpAddr, at: Option<Mac>) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => {
            let sender = v4_or_unspecified(from.address);
            arp(
                at.unwrap_or(Mac::BROADCAST),
                ARP_REQUEST,
                (from.mac, sender),
                (at.unwrap_or(Mac([0; 6])), target),
            )
        }
        IpAddr::V6(target) => {
            let sender = v6_or_unspecified(from.address);
            let destination = if at.is_some() { target } else { solicited_node(target) };
            let option = (!sender.is_unspecified()).then_some((OPTION_SOURCE_MAC, from.mac));
            discovery(
                (from.mac, sender),
                (at.unwrap_or(group_mac(destination)), destination),
                SOLICITATION,
                0,
                target,
                option,
            )
        }
    }
}

/// The frame that answers a request of `sender` for the speaker's address; for a probe (`sender` unspecified) the
/// ARP answer goes to the prober, the advertisement to all nodes (RFC 4861, 7.2.4).
#[must_use]
pub fn reply(from: Speaker, sender: IpAddr, to: Mac) -> Vec<u8> {
    match from.address {
        IpAddr::V4(address) => arp(to, ARP_REPLY, (from.mac, address), (to, v4_or_unspecified(sender))),
        IpAddr::V6(address) => {
            let sender = v6_or_unspecified(sender);
            let probe = sender.is_unspecified();
            let destination = if probe { (group_mac(ALL_NODES), ALL_NODES) } else { (to, sender) };
            let flags = FLAG_ROUTER | FLAG_OVERRIDE | if probe { 0 } else { FLAG_SOLICITED };
            let option = Some((OPTION_TARGET_MAC, from.mac));
            discovery((from.mac, address), destination, ADVERTISEMENT, flags, address, option)
        }
    }
}

/// The frame that tells everybody that the speaker has its address: gratuitous ARP as a request (RFC 5227, 3),
/// or an unsolicited advertisement (RFC 4861, 7.2.6).
#[must_use]
pub fn announcement(from: Speaker) -> Vec<u8> {
    match from.address {
        IpAddr::V4(address) => arp(Mac::BROADCAST, ARP_REQUEST, (from.mac, address), (Mac([0; 6]), address)),
        IpAddr::V6(address) => discovery(
            (from.mac, address),
            (group_mac(ALL_NODES), ALL_NODES),
            ADVERTISEMENT,
            FLAG_ROUTER | FLAG_OVERRIDE,
            address,
            Some((OPTION_TARGET_MAC, from.mac)),
        ),
    }
}

/// The link-local address that a NIC forms from its MAC (RFC 4291, appendix A).
#[must_use]
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The group that whoever has an address listens to (RFC 4291, 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC that frames for an IPv6 group go to (RFC 2464, 7).
fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn arp(to: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + ARP_LENGTH);
    frame.extend(to.0);
    frame.extend(sender.0.0);
    frame.extend(ETHER_TYPE_ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(address.octets());
    }
    frame
}

fn discovery(
    (mac, source): (Mac, Ipv6Addr),
    (to, destination): (Mac, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: Option<(u8, Mac)>,
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    if let Some((kind, mac)) = option {
        message.extend([kind, 1]);
        message.extend(mac.0);
    }
    let sum = checksum(source, destination, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + IPV6_HEADER + message.len());
    frame.extend(to.0);
    frame.extend(mac.0);
    frame.extend(ETHER_TYPE_IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(message);
    frame
}

/// The ICMPv6 checksum over the pseudo header and the message (RFC 4443, 2.3): what belongs in a message whose
/// checksum field is 0; 0 for one whose field is right.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut sum: u64 = message.len() as u64 + u64::from(ICMPV6);
    for octets in [source.octets(), destination.octets()] {
        sum += octets.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum::<u64>();
    }
    sum += message
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum::<u64>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn v4_or_unspecified(address: IpAddr) -> Ipv4Addr {
    Ipv4Addr::from_ip(address).unwrap_or(Ipv4Addr::UNSPECIFIED)
}

fn v6_or_unspecified(address: IpAddr) -> Ipv6Addr {
    Ipv6Addr::from_ip(address).unwrap_or(Ipv6Addr::UNSPECIFIED)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Refused> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Refused::Truncated)
}

fn mac_at(bytes: &[u8], at: usize) -> Result<Mac, Refused> {
    array_at(bytes, at).map(Mac)
}

fn word_at(bytes: &[u8], at: usize) -> Result<u16, Refused> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn reads_known_bytes() {
        let arp = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xa, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0,
            0, 0xa, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2,
        ];
        let want = Message::Request {
            sender: ip("192.0.2.1"),
            sender_mac: Some(A),
            frame_source: A,
            target: ip("192.0.2.2"),
        };
        assert_eq!(Message::parse(&arp), Ok(want));
        assert_eq!(request(Speaker { mac: A, address: ip("192.0.2.1") }, ip("192.0.2.2"), None), arp);
    }

    #[test]
    fn addresses_that_follow_from_others() {
        assert_eq!(
            link_local(Mac([0, 0x1b, 0x21, 0x3c, 0x4d, 0x5e])).to_string(),
            "fe80::21b:21ff:fe3c:4d5e"
        );
        let group = solicited_node("2001:db8::1:800:200e:8c6c".parse().unwrap());
        assert_eq!(group.to_string(), "ff02::1:ff0e:8c6c");
        assert_eq!(group_mac(group).to_string(), "33:33:ff:0e:8c:6c");
    }

    #[test]
    fn what_is_built_reads_back() {
        for (address, target) in [("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")] {
            let from = Speaker { mac: A, address: ip(address) };
            for at in [None, Some(B)] {
                let want = Message::Request {
                    sender: ip(address),
                    sender_mac: Some(A),
                    frame_source: A,
                    target: ip(target),
                };
                let frame = request(from, ip(target), at);
                assert_eq!(Message::parse(&frame), Ok(want));
                assert_eq!(at.is_none(), frame[0] & 1 != 0);
            }
            let told =
                |solicited| Message::Reply { address: ip(address), mac: Some(A), solicited, overrides: true };
            assert_eq!(Message::parse(&reply(from, ip(target), B)), Ok(told(true)));
            assert_eq!(Message::parse(&announcement(from)), Ok(told(false)));
        }
        let from = Speaker { mac: A, address: ip("2001:db8::1") };
        assert!(matches!(
            Message::parse(&reply(from, ip("::"), B)),
            Ok(Message::Reply { solicited: false, .. })
        ));
    }

    #[test]
    fn refuses_what_cannot_be() {
        use Refused::*;
        let arp = request(Speaker { mac: A, address: ip("192.0.2.1") }, ip("192.0.2.2"), None);
        let nd = request(Speaker { mac: A, address: ip("2001:db8::1") }, ip("2001:db8::2"), None);
        for (name, frame, at, bytes, want) in [
            ("group source", &arp, 6, &[1][..], Malformed),
            ("ether type", &arp, 12, &[8, 0][..], OtherKind),
            ("hardware type", &arp, 15, &[6], OtherKind),
            ("operation", &arp, 21, &[9], OtherKind),
            ("sender MAC of a group", &arp, 22, &[1], Malformed),
            ("sender MAC zero", &arp, 22, &[0; 6], Malformed),
            ("sender multicast", &arp, 28, &[224], Malformed),
            ("sender loopback", &arp, 28, &[127], Malformed),
            ("target multicast", &arp, 38, &[224], Malformed),
            ("version", &nd, 14, &[0x40], OtherKind),
            ("TCP", &nd, 20, &[6], OtherKind),
            ("hop limit", &nd, 21, &[254], Malformed),
            ("payload longer than the frame", &nd, 18, &[0xff], Truncated),
            ("too short for a target", &nd, 18, &[0, 20], Truncated),
            ("code", &nd, 55, &[1], Malformed),
            ("router advertisement", &nd, 54, &[134], OtherKind),
            ("checksum", &nd, 56, &[0, 0], Malformed),
            ("option of length 0", &nd, 79, &[0], Malformed),
        ] {
            let mut frame = frame.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            if name == "option of length 0" {
                // 1 less in the word, 1 more in the sum.
                frame[57] += 1;
            }
            assert_eq!(Message::parse(&frame), Err(want), "{name}");
        }
        for length in 0..arp.len() {
            assert_eq!(Message::parse(&arp[..length]), Err(Truncated), "ARP of {length}");
        }
        for length in 0..nd.len() {
            assert_eq!(Message::parse(&nd[..length]), Err(Truncated), "solicitation of {length}");
        }
    }

    #[test]
    fn padding_behind_is_ignored() {
        let mut arp = request(Speaker { mac: A, address: ip("192.0.2.1") }, ip("192.0.2.2"), None);
        let bare = Message::parse(&arp);
        arp.resize(60, 0xa5);
        assert_eq!(Message::parse(&arp), bare);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..3) {
            let mut frame = bytes;
            if kind > 0 && frame.len() > 22 {
                frame[12..14].copy_from_slice(if kind == 1 { &[8, 6] } else { &[0x86, 0xdd] });
                frame[14] = if kind == 1 { 0 } else { 0x60 };
                frame[20] = if kind == 1 { 0 } else { ICMPV6 };
            }
            let _ = Message::parse(&frame);
        }
    }
}
