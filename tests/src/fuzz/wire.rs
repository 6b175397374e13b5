//! Every view of `wire` over any bytes: nothing panics, offsets lie within the frame, and what is built reads back.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_dataplane::id::Mac;
use shunt_dataplane::wire::{self, Frame, Headers, IpVersion, arp, ethernet, icmp, ndp, quote, sctp, tcp};
use shunt_protocol::neighbour::message::Message;

use super::bytes::Bytes;
use crate::network::{FRONT, nic_mac};
use crate::packets::mend_ipv4;

/// How the frame is made of the bytes: bits of the first one.
mod control {
    /// It is for the NIC whatever it says.
    pub const ADDRESSED: u8 = 1;
    /// Its IPv4 header checksum is made to hold.
    pub const MENDED: u8 = 2;
}

/// Takes an input.
pub fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let how = input.byte();
    let mut frame = input.take(usize::MAX).to_vec();
    let mac = nic_mac(FRONT);
    match frame.get_mut(..6) {
        Some(destination) if how & control::ADDRESSED != 0 => destination.copy_from_slice(&mac.0),
        _ => {}
    }
    if how & control::MENDED != 0 {
        mend_ipv4(&mut frame);
    }
    views(&frame);
    let _ = Message::parse(&frame, mac);
    match wire::parse(&frame, mac) {
        Ok(Frame::Arp) => of_arp(&frame),
        Ok(Frame::V4(headers)) => of_ip(&frame, &headers),
        Ok(Frame::V6(headers)) => {
            of_ip(&frame, &headers);
            of_discovery(&frame, &headers);
        }
        Err(reason) => assert!(!reason.help().is_empty()),
    }
}

/// Views that look at bytes alone.
fn views(frame: &[u8]) {
    assert_eq!(ethernet::destination(frame).is_some(), frame.len() >= 6);
    assert_eq!(ethernet::source(frame).is_some(), frame.len() >= 12);
    assert_eq!(ethernet::ethertype(frame).is_some(), frame.len() >= ethernet::HEADER);
    let packet = frame.get(ethernet::HEADER..).unwrap_or_default();
    for bytes in [frame, packet] {
        if let Some((segment, length)) = tcp::Segment::parse(bytes) {
            assert!(length as usize <= bytes.len() + 2, "{segment:?}");
        }
        let event = sctp::Event::of(bytes);
        let flags = event.map_or(sctp::NO_EVENT, sctp::Event::as_flags);
        assert_eq!(sctp::Event::from_flags(flags.0), event);
        let _ = Ipv4Addr::read_header(bytes).map(|header| assert!(header.length <= bytes.len()));
        let _ = Ipv6Addr::read_header(bytes).map(|header| assert!(header.length <= bytes.len()));
    }
    let mut summed = packet.to_vec();
    sctp::fill_checksum(&mut summed);
    assert_eq!(summed.len(), packet.len());
}

fn of_arp(frame: &[u8]) {
    let Ok(arp) = arp::parse(frame) else { return };
    let to = ethernet::destination(frame).unwrap_or_default();
    assert_eq!(arp::parse(&arp::build(&arp, to)), Ok(arp));
    assert!(arp::parse(&arp::reply(&arp, to)).is_ok_and(|reply| reply.target == arp.sender));
    let _ = arp.is_announcement();
}

fn of_ip<A: IpVersion>(frame: &[u8], headers: &Headers<A>) {
    let Headers { network, transport, end, .. } = *headers;
    assert!(network < transport && transport <= end && usize::from(end) <= frame.len(), "{headers:?}");
    assert_eq!(headers.ip_length(), usize::from(end - network));
    assert_eq!(headers.transport_bytes(frame).len(), headers.transport_length());
    assert_eq!(headers.transport_bytes_mut(&mut frame.to_vec()).len(), headers.transport_length());
    assert!(!headers.is_martian());
    if headers.flow().is_some() {
        assert!(headers.transport_protocol().is_some());
    }
    let holds = headers.transport_checksum_holds(frame);
    assert!(!(holds && headers.checksum_not_filled(frame)));
    if let Some(kind) = headers.icmp_type(frame) {
        let _ = (icmp::is_query::<A>(kind), icmp::tells_of_a_packet::<A>(kind));
    }
    if let Some(quoted) = quote::quoted(frame, headers) {
        inside(frame, headers, &quoted);
        if let Some(deeper) = quote::inside(frame, &quoted, quoted.transport.into()) {
            inside(frame, &quoted, &deeper);
        }
    }
}

/// A quote lies within the packet that quotes.
fn inside<A: IpVersion>(frame: &[u8], outer: &Headers<A>, inner: &Headers<A>) {
    assert!(outer.transport <= inner.network && inner.network < inner.transport, "{outer:?} {inner:?}");
    assert!(inner.end == outer.end && usize::from(inner.transport) <= frame.len(), "{outer:?} {inner:?}");
    let _ = (inner.transport_bytes(frame), inner.flow());
}

fn of_discovery(frame: &[u8], headers: &Headers<Ipv6Addr>) {
    let (from, to) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let built = match ndp::parse(frame, headers) {
        Ok(ndp::Message::Solicitation(asked)) => {
            let _ = ndp::reply(&asked, from, to, false);
            ndp::solicitation(&asked, from, to)
        }
        Ok(ndp::Message::Advertisement(said)) => ndp::advertisement(&said, from, to),
        Ok(ndp::Message::Other(_)) | Err(_) => return,
    };
    let Ok(Frame::V6(again)) = wire::parse(&built, to) else { panic!("{headers:?}: {built:?}") };
    assert_eq!(ndp::parse(&built, &again), ndp::parse(frame, headers));
}
