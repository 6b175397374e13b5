//! What holds for a director whatever comes: what property tests and fuzzing look at.

use std::net::IpAddr;

use shunt_dataplane::forward::{Step, Verdict};
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::reason::DropReason;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::snapshot::Plan;
use shunt_dataplane::wire;

use crate::director::{Arrival, Director, Outcome};
use crate::packets::number;
use crate::text;

/// The books of packets, and those of connections: every real server's counts are the connections in the tables.
///
/// # Panics
/// When they do not balance.
pub fn books_balance(director: &Director) {
    assert_eq!(director.held(), 0, "packets");
    let held =
        director.workers().iter().map(|worker| (worker.v4().len() + worker.v6().len()) as u64).sum::<u64>();
    let made = director.workers().iter().map(|worker| worker.counters().connections_made.get()).sum::<u64>();
    let expired =
        director.workers().iter().map(|worker| worker.counters().connections_expired.get()).sum::<u64>();
    assert_eq!(made - expired, held, "connections made and ended");
    let reals = director.snapshot().reals.iter().flatten();
    let counted =
        reals.map(|real| real.counters.sum(|cell| &cell.active) + real.counters.sum(|cell| &cell.inactive));
    assert_eq!(counted.sum::<u64>(), held, "active and inactive connections");
}

/// True when a verdict is what the last step of an explanation said, but for what shows only when it is done: a full table,
/// a wrong checksum, missing room.
#[must_use]
pub fn comes_true(last: Option<&Step>, verdict: Verdict) -> bool {
    match (last, verdict) {
        (Some(Step::NextHop(hop)), Verdict::Send(nic)) => hop.nic == nic,
        (Some(Step::Reply(kind, nic)), Verdict::Reply(out, reply)) => (*nic, *kind) == (out, reply),
        (Some(Step::Punt(punt)), Verdict::Punt(got)) => *punt == got,
        // What becomes of the datagram shows when all of it is there.
        (Some(Step::Gather), Verdict::Gather | Verdict::Drop(_) | Verdict::Punt(_)) => true,
        (Some(said), Verdict::Drop(reason)) => {
            let shows_late = matches!(
                reason,
                DropReason::TableFull
                    | DropReason::TemplatesFull
                    | DropReason::ClientShare
                    | DropReason::ServiceShare
                    | DropReason::TransportChecksum
                    | DropReason::ReplyLimit
                    | DropReason::ReplyRoom
                    | DropReason::NoHeadRoom
            );
            *said == Step::Drop(reason) || shows_late
        }
        _ => false,
    }
}

/// What leaves is a whole IP packet in a frame of the NIC's, no larger than its MTU, whose IPv4 header checksum holds.
///
/// # Panics
/// When it is something else.
pub fn well_formed(plan: &Plan, outcome: &Outcome) {
    for (nic, frame) in outcome.all_sent() {
        let told = || format!("{:?} {}", outcome.verdict, text::frame(frame));
        assert!(frame.len() >= 34, "{}", told());
        let nic = &plan.nics[nic.index()];
        assert_eq!(frame[6..12], nic.mac.0, "{}", told());
        assert_eq!(frame[0] & 1, 0, "{}", told());
        let packet = &frame[14..];
        assert!(packet.len() <= nic.mtu.into(), "{}", told());
        let word = |at: usize| usize::from(packet[at]) << 8 | usize::from(packet[at + 1]);
        match &frame[12..14] {
            [8, 0] => {
                assert_eq!(word(2), packet.len(), "{}", told());
                let header = usize::from(packet[0] & 15) * 4;
                assert_eq!(text::checksum(&[&packet[..header]]), 0, "{}", told());
            }
            [0x86, 0xdd] => assert_eq!(word(4) + 40, packet.len(), "{}", told()),
            _ => panic!("{}", told()),
        }
    }
}

/// What leaves goes to a neighbour of the NIC that the plan knows; what came for a VIP goes on to a real server that the plan
/// has for it, and what is routed to its own destination's neighbour or a router.
///
/// A connection keeps the method that it began with, whatever its real server's is now. ICMP errors follow their connection
/// even when its real server was removed, as in the kernel (`ip_vs_in_icmp`).
///
/// # Panics
/// When it goes elsewhere.
pub fn leaves_for_its_own(plan: &Plan, arrival: &Arrival, outcome: &Outcome) {
    for (nic, frame) in outcome.all_sent() {
        let told = || {
            let (came, left) = (text::frame(&arrival.frame), text::frame(frame));
            format!("{:?}\n  came {came}\n  left {left} by NIC {nic}\n{:#?}", outcome.verdict, plan.services)
        };
        let mac = Mac(frame[..6].try_into().expect("a MAC"));
        let known = |address: Option<IpAddr>| neighbour(plan, nic, mac, address);
        assert!(known(None), "no neighbour: {}", told());
        let Some(to) = destination(frame) else { panic!("no IP packet: {}", told()) };
        let came_for = destination(&arrival.frame);
        let for_vip = came_for.filter(|to| plan.vips.contains(to));
        match (outcome.verdict, for_vip) {
            // To a client, through whatever router.
            (Verdict::Reply(..), _) => {}
            _ if is_icmp(plan, arrival) => {}
            (_, Some(vip)) if !comes_from_a_connection(plan, to, vip) => {
                assert!(serves(plan, vip, to, mac, nic), "no such real server: {}", told());
            }
            _ => {
                let routed = plan.routes.iter().filter_map(|route| route.via).any(|via| known(Some(via)));
                // A firewall mark takes what is for anybody.
                let marked = came_for.is_some_and(|came_for| serves(plan, came_for, to, mac, nic));
                assert!(known(Some(to)) || routed || marked, "not its neighbour: {}", told());
            }
        }
    }
}

/// Without rules nothing passes as it is from one network to another, but for what is a service's.
///
/// # Panics
/// When something does.
pub fn nothing_passes_without_rules(plan: &Plan, arrival: &Arrival, outcome: &Outcome) {
    if !plan.forwards.is_empty() || !plan.marks.is_empty() || is_icmp(plan, arrival) {
        return;
    }
    let (Verdict::Send(_), Some(came)) = (outcome.verdict, addresses(&arrival.frame)) else { return };
    let ours = |address: IpAddr| plan.vips.contains(&address);
    for (_, frame) in outcome.all_sent().filter(|(_, frame)| addresses(frame) == Some(came)) {
        assert!(ours(came.0) || ours(came.1), "passes: {}", text::frame(frame));
    }
}

/// True when what came for a VIP leaves for somebody who is neither the VIP nor a real server's address: an ICMP error on its
/// way to a client, told from the VIP.
fn comes_from_a_connection(plan: &Plan, to: IpAddr, vip: IpAddr) -> bool {
    let on_link =
        |nic: &shunt_dataplane::snapshot::NicPlan| nic.addresses.iter().any(|net| net.contains(&to));
    to != vip && !plan.nics.iter().any(on_link)
}

/// True when a service at this VIP, or of a firewall mark, has a real server that a frame to this address and MAC is for.
fn serves(plan: &Plan, vip: IpAddr, to: IpAddr, mac: Mac, nic: NicId) -> bool {
    let marked = |service: &&shunt_dataplane::snapshot::ServicePlan| {
        service.listen.ip() == vip || Mark::of(service.listen).is_some()
    };
    let mut reals = plan.services.iter().filter(marked).flat_map(|service| &service.reals);
    reals.any(|real| {
        let address = real.address.ip();
        [vip, address].contains(&to) && neighbour(plan, nic, mac, Some(address))
    })
}

/// True when an arriving frame carries ICMP of either family.
fn is_icmp(plan: &Plan, arrival: &Arrival) -> bool {
    match wire::parse(&arrival.frame, plan.nics[arrival.nic.index()].mac) {
        Ok(wire::Frame::V4(headers)) => headers.protocol == number::ICMP,
        Ok(wire::Frame::V6(headers)) => headers.protocol == number::ICMP6,
        Ok(wire::Frame::Arp) | Err(_) => false,
    }
}

/// True when the plan knows a neighbour with this MAC behind a NIC, with this address if one is given.
fn neighbour(plan: &Plan, nic: NicId, mac: Mac, address: Option<IpAddr>) -> bool {
    plan.neighbours
        .iter()
        .any(|one| one.nic == nic && one.mac == mac && address.is_none_or(|address| one.address == address))
}

/// The destination of a frame with an IP packet.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    addresses(frame).map(|(_, destination)| destination)
}

/// Source and destination of a frame with an IP packet.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(|octets: [u8; 4]| octets.into());
    let v6 = |at: usize| frame.get(at..at + 16)?.try_into().ok().map(|octets: [u8; 16]| octets.into());
    match frame.get(12..14)? {
        [8, 0] => Some((v4(26)?, v4(30)?)),
        [0x86, 0xdd] => Some((v6(22)?, v6(38)?)),
        _ => None,
    }
}
