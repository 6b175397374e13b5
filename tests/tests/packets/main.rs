//! The packet table: description, configuration, packet in, verdict, packet out.
//!
//! A case that fails shows what was wanted and what was got, as text and as bytes. Beside the case of each method, reply
//! and route there is at least one for every reason that a frame alone can lead to.

mod answered;
mod bursts;
mod case;
mod dropped;
mod errors;
mod forwarded;
mod link_local;
mod long;
mod lying;
mod methods;
mod own_address;
mod passing;
mod ports;
mod routed;
mod vrrp;

use std::collections::BTreeSet;

use case::Case;
use shunt_dataplane::forward::Verdict;
use shunt_dataplane::reason::{DropReason, PuntReason, ReplyKind};

fn all() -> Vec<Case> {
    let cases = [forwarded::cases(), answered::cases(), routed::cases(), errors::cases(), dropped::cases()];
    let others =
        [vrrp::cases(), link_local::cases(), passing::cases(), long::cases(), lying::cases(), ports::cases()];
    let others = [others.concat(), methods::cases(), own_address::cases()];
    [cases.concat(), others.concat()].concat()
}

#[test]
fn forwarded() {
    case::run(forwarded::cases());
}

#[test]
fn answered() {
    case::run(answered::cases());
}

#[test]
fn routed() {
    case::run(routed::cases());
}

#[test]
fn errors() {
    case::run(errors::cases());
}

#[test]
fn dropped() {
    case::run(dropped::cases());
}

#[test]
fn link_local() {
    case::run(link_local::cases());
}

#[test]
fn long() {
    case::run(long::cases());
}

#[test]
fn lying() {
    case::run(lying::cases());
}

#[test]
fn passing() {
    case::run(passing::cases());
}

#[test]
fn methods() {
    case::run(methods::cases());
}

#[test]
fn own_address() {
    case::run(own_address::cases());
}

#[test]
fn ports() {
    case::run(ports::cases());
}

#[test]
fn of_virtual_routers() {
    case::run(vrrp::cases());
}

/// Frames with the tag of a priority (VLAN id 0) are taken as ones without, whatever they carry.
#[test]
fn tags_of_a_priority_change_nothing() {
    for tags in [&[0x81, 0, 0, 0][..], &[0x81, 0, 0xf0, 0], &[0x88, 0xa8, 0x60, 0, 0x81, 0, 0, 0]] {
        let tagged: Vec<Case> = all().into_iter().filter_map(|case| case.tagged(tags)).collect();
        assert!(tagged.len() + 20 > all().len(), "{} of {}", tagged.len(), all().len());
        case::run(tagged);
    }
}

/// Reasons that need rings, queues or buffers, which only `worker` has, or a whole burst.
const OF_THE_WORKER: [DropReason; 7] = [
    DropReason::LinkDown,
    DropReason::Segmented,
    DropReason::HandOverFull,
    DropReason::PuntFull,
    DropReason::TransmitFull,
    DropReason::FragmentRoom,
    DropReason::FragmentLost,
];

/// Reasons that `tests/masquerade.rs` leads to.
const OF_MASQUERADE: [DropReason; 2] = [DropReason::MasqueradePorts, DropReason::MasqueradeProtocol];

/// Reasons that the recordings `bypass` and `schedule_icmp_dr` lead to.
const OF_RECORDINGS: [DropReason; 1] = [DropReason::NoReal];

/// What is told without a packet to answer: the recordings `incomplete_…` lead to it.
const TOLD_LATER: [ReplyKind; 1] = [ReplyKind::ReassemblyTimeExceeded];

#[test]
fn every_reason_has_its_case() {
    let cases = all();
    let drops = cases.iter().filter_map(|case| match case.verdict {
        Verdict::Drop(reason) => Some(reason),
        _ => None,
    });
    let drops = drops.chain(OF_THE_WORKER).chain(OF_MASQUERADE).chain(OF_RECORDINGS).collect::<BTreeSet<_>>();
    assert_eq!(drops, DropReason::ALL.iter().copied().collect());
    let replies = cases.iter().filter_map(|case| match case.verdict {
        Verdict::Reply(_, kind) => Some(kind),
        _ => None,
    });
    let replies = replies.chain(TOLD_LATER);
    assert_eq!(replies.collect::<BTreeSet<_>>(), ReplyKind::ALL.iter().copied().collect());
    let punts = cases.iter().filter_map(|case| match case.verdict {
        Verdict::Punt(punt) => Some(punt.reason()),
        _ => None,
    });
    assert_eq!(punts.collect::<BTreeSet<_>>(), PuntReason::ALL.iter().copied().collect());
}

#[test]
fn descriptions_are_unique() {
    let cases = all();
    let names = cases.iter().map(|case| case.name.as_str()).collect::<BTreeSet<_>>();
    assert_eq!(names.len(), cases.len());
}
