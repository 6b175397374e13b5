//! What neighbours say to each other, ARP and IPv6 neighbour discovery under one type.
//!
//! Both protocols ask "who has this address?" and answer "this MAC has it"; what differs ends here. The bytes are
//! read and written by [`shunt_dataplane::wire`].

use std::net::{IpAddr, Ipv6Addr};

use shunt_dataplane::address::Address;
use shunt_dataplane::id::Mac;
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::wire::arp::{self, Arp, Operation};
use shunt_dataplane::wire::ndp::{self, Solicitation};
use shunt_dataplane::wire::{self, Frame, ethernet};

use super::output::Refused;

/// The director forwards packets for others (RFC 4861, 4.4: the router flag).
const ROUTER: bool = true;

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

impl Message {
    /// Reads a frame that arrived on a NIC with this MAC.
    ///
    /// # Errors
    /// What is wrong with it; `Kind` when it is neither ARP nor neighbour discovery, not for this NIC, or of a kind of
    /// neighbour discovery that the director does not heed (routers, redirects).
    pub fn parse(frame: &[u8], nic: Mac) -> Result<Self, Refused> {
        let frame_source = ethernet::source(frame).ok_or(Refused::Malformed)?;
        if frame_source.is_group() {
            return Err(Refused::Malformed);
        }
        match wire::parse(frame, nic).map_err(refused)? {
            Frame::Arp => {
                let arp = arp::parse(frame).map_err(refused)?;
                // Some hosts answer everybody; whom they answer stands in the packet, too.
                let to_us = ethernet::destination(frame) == Some(nic) || arp.target_mac == nic;
                from_arp(&arp, frame_source, to_us)
            }
            Frame::V6(headers) if headers.is_neighbour_discovery(frame) => {
                if headers.ttl != ndp::HOP_LIMIT {
                    return Err(Refused::HopLimit);
                }
                from_discovery(ndp::parse(frame, &headers).map_err(refused)?, frame_source)
            }
            Frame::V4(_) | Frame::V6(_) => Err(Refused::Kind),
        }
    }
}

/// What is wrong with a frame, in the neighbour machine's words.
const fn refused(reason: DropReason) -> Refused {
    match reason {
        DropReason::EtherType | DropReason::Unwanted | DropReason::OtherMac => Refused::Kind,
        _ => Refused::Malformed,
    }
}

fn from_arp(arp: &Arp, frame_source: Mac, to_us: bool) -> Result<Message, Refused> {
    if arp.sender_mac == Mac::default() {
        return Err(Refused::Malformed);
    }
    let reply = |solicited| Message::Reply {
        address: arp.sender.into(),
        mac: Some(arp.sender_mac),
        solicited,
        overrides: true,
    };
    match arp.operation {
        _ if arp.is_announcement() && !arp.sender.is_unspecified() => Ok(reply(false)),
        Operation::Reply => Ok(reply(to_us)),
        Operation::Request if arp.target.is_valid_source() => Ok(Message::Request {
            sender: arp.sender.into(),
            sender_mac: Some(arp.sender_mac),
            frame_source,
            target: arp.target.into(),
        }),
        Operation::Request => Err(Refused::Malformed),
    }
}

fn from_discovery(message: ndp::Message, frame_source: Mac) -> Result<Message, Refused> {
    let valid = |target: Ipv6Addr, mac: Option<Mac>| target.is_valid_source() && mac != Some(Mac::default());
    match message {
        ndp::Message::Solicitation(asked) if valid(asked.target, asked.source_mac) => Ok(Message::Request {
            sender: asked.source.into(),
            sender_mac: asked.source_mac,
            frame_source,
            target: asked.target.into(),
        }),
        ndp::Message::Advertisement(said) if valid(said.target, said.target_mac) => Ok(Message::Reply {
            address: said.target.into(),
            mac: said.target_mac,
            solicited: said.solicited,
            overrides: said.overrides,
        }),
        ndp::Message::Solicitation(_) | ndp::Message::Advertisement(_) => Err(Refused::Malformed),
        ndp::Message::Other(_) => Err(Refused::Kind),
    }
}

/// Where a frame starts from: the director's MAC on the NIC and the address it speaks for.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The NIC's MAC.
    pub mac: Mac,
    /// The address of the director; unspecified when the NIC has none of the family.
    pub address: IpAddr,
}

/// The frame that asks who has `target`: everybody (IPv6: the solicited-node group), or `at` alone.
#[must_use]
pub fn request(from: Speaker, target: IpAddr, at: Option<Mac>) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => {
            let arp = Arp {
                operation: Operation::Request,
                sender_mac: from.mac,
                sender: of_family(from.address),
                target_mac: at.unwrap_or_default(),
                target,
            };
            arp::build(&arp, at.unwrap_or(Mac::BROADCAST)).to_vec()
        }
        IpAddr::V6(target) => {
            let source: Ipv6Addr = of_family(from.address);
            let destination = if at.is_some() { target } else { ndp::solicited_node_group(target) };
            let source_mac = (!source.is_unspecified()).then_some(from.mac);
            let message = Solicitation { source, destination, target, source_mac };
            ndp::solicitation(&message, from.mac, at.unwrap_or(ethernet::of_group_v6(destination)))
        }
    }
}

/// The frame that answers a request of `sender` for the speaker's address; for a probe (`sender` unspecified) the
/// ARP answer goes to the prober, the advertisement to all nodes (RFC 4861, 7.2.4).
#[must_use]
pub fn reply(from: Speaker, sender: IpAddr, to: Mac) -> Vec<u8> {
    match from.address {
        IpAddr::V4(address) => {
            let asked = Arp {
                operation: Operation::Request,
                sender_mac: to,
                sender: of_family(sender),
                target_mac: Mac::default(),
                target: address,
            };
            arp::reply(&asked, from.mac).to_vec()
        }
        IpAddr::V6(target) => {
            let asked =
                Solicitation { source: of_family(sender), destination: target, target, source_mac: None };
            ndp::reply(&asked, from.mac, to, ROUTER)
        }
    }
}

/// The frame that tells everybody that the speaker has its address: gratuitous ARP as a request (RFC 5227, 3),
/// or an unsolicited advertisement (RFC 4861, 7.2.6).
#[must_use]
pub fn announcement(from: Speaker) -> Vec<u8> {
    match from.address {
        IpAddr::V4(address) => arp::announcement(from.mac, address).to_vec(),
        IpAddr::V6(address) => ndp::announcement(from.mac, address, ROUTER),
    }
}

/// The address if it is of the family, else the unspecified one.
fn of_family<A: Address>(address: IpAddr) -> A {
    A::from_ip(address).unwrap_or(A::UNSPECIFIED)
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
                assert_eq!(Message::parse(&frame, B), Ok(want));
                assert_eq!(at.is_none(), frame[0] & 1 != 0);
            }
            let told =
                |solicited| Message::Reply { address: ip(address), mac: Some(A), solicited, overrides: true };
            assert_eq!(Message::parse(&reply(from, ip(target), B), B), Ok(told(true)));
            assert_eq!(Message::parse(&announcement(from), B), Ok(told(false)));
            assert_eq!(Message::parse(&reply(from, ip(target), B), A), Err(Refused::Kind));
        }
        let from = Speaker { mac: A, address: ip("2001:db8::1") };
        let nobody = Message::parse(&reply(from, ip("::"), B), B);
        assert!(matches!(nobody, Ok(Message::Reply { solicited: false, .. })));
    }

    #[test]
    fn a_question_without_an_address_is_a_probe() {
        for target in ["192.0.2.9", "2001:db8::9"] {
            let nobody = if target.contains(':') { "::" } else { "0.0.0.0" };
            let frame = request(Speaker { mac: A, address: ip(nobody) }, ip(target), None);
            let Ok(Message::Request { sender, sender_mac, .. }) = Message::parse(&frame, B) else { panic!() };
            assert_eq!((sender, sender_mac.is_none()), (ip(nobody), target.contains(':')));
        }
    }

    #[test]
    fn an_answer_to_everybody_names_whom_it_answers() {
        let mut frame = reply(Speaker { mac: A, address: ip("192.0.2.1") }, ip("192.0.2.9"), B);
        frame[..6].fill(0xff);
        let solicited = |nic| match Message::parse(&frame, nic) {
            Ok(Message::Reply { solicited, .. }) => solicited,
            other => panic!("{other:?}"),
        };
        assert!(solicited(B));
        assert!(!solicited(Mac([2, 0, 0, 0, 0, 0xc])));
    }

    #[test]
    fn refuses_what_cannot_be() {
        let arp = request(Speaker { mac: A, address: ip("192.0.2.1") }, ip("192.0.2.2"), None);
        let nd = request(Speaker { mac: A, address: ip("2001:db8::1") }, ip("2001:db8::2"), None);
        for (name, frame, at, bytes, want) in [
            ("frame from a group", &arp, 6, &[1][..], Refused::Malformed),
            ("ether type", &arp, 12, &[0x88, 0xcc], Refused::Kind),
            ("sender MAC zero", &arp, 22, &[0; 6], Refused::Malformed),
            ("sender loopback", &arp, 28, &[127], Refused::Malformed),
            ("target multicast", &arp, 38, &[224], Refused::Malformed),
            ("passed on by a router", &nd, 21, &[254], Refused::HopLimit),
            ("not discovery", &nd, 54, &[128], Refused::Kind),
            // 134 for 135 in the high byte of a word of the sum.
            ("router advertisement", &nd, 54, &[134, 0, nd[56] + 1], Refused::Kind),
        ] {
            let mut frame = frame.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Message::parse(&frame, B), Err(want), "{name}");
        }
        for frame in [&arp, &nd] {
            for length in 0..frame.len() {
                assert!(Message::parse(&frame[..length], B).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn padding_behind_is_ignored() {
        let mut arp = request(Speaker { mac: A, address: ip("192.0.2.1") }, ip("192.0.2.2"), None);
        let bare = Message::parse(&arp, B);
        arp.resize(60, 0xa5);
        assert_eq!(Message::parse(&arp, B), bare);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..3) {
            let mut frame = bytes;
            if kind > 0 && frame.len() > 22 {
                frame[..6].fill(0xff);
                frame[12..14].copy_from_slice(if kind == 1 { &[8, 6] } else { &[0x86, 0xdd] });
                frame[14] = if kind == 1 { 0 } else { 0x60 };
                frame[20] = if kind == 1 { 0 } else { 58 };
            }
            let _ = Message::parse(&frame, B);
        }
    }
}
