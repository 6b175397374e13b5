//! What `status` says of virtual routers.

use std::time::Instant;

use shunt_protocol::vrrp::{COMPLAINT_INTERVAL, Counters, Listed};

use super::core::View;
use super::live::Live;
use crate::api::status::{Bucket, SplitBrain, VirtualRouter, VrrpCounters, VrrpPeer};
use crate::control_loop::VrrpReport;

/// The role of the director as a whole.
pub(super) fn role(report: &VrrpReport) -> &'static str {
    let mut roles = report.routers.iter().map(|router| router.role);
    match roles.next() {
        None => "active",
        Some(first) if roles.all(|role| role == first) => first.word(),
        Some(_) => "mixed",
    }
}

/// The virtual routers.
pub(super) fn routers(live: &Live, view: &View, report: &VrrpReport) -> Vec<VirtualRouter> {
    report.routers.iter().map(|listed| router(live, view, listed)).collect()
}

fn router(live: &Live, view: &View, listed: &Listed) -> VirtualRouter {
    let now = Instant::now();
    let ago = |then: Instant| now.saturating_duration_since(then);
    let peers = listed.peers.iter().map(|peer| VrrpPeer {
        address: peer.address.to_string(),
        priority: peer.priority,
        heard: ago(peer.heard).as_millis() as u64,
        received: peer.received,
        refused: peer.refused.map(|refusal| refusal.to_string()),
        complaint: peer.complaint.map(|complaint| complaint.to_string()),
    });
    VirtualRouter {
        name: listed.name.clone(),
        nic: view.config.nics.get(listed.nic.index()).map_or_else(String::new, |nic| nic.name.clone()),
        vrid: listed.vrid.0,
        version: listed.version.number(),
        virtual_mac: listed.virtual_mac.map(|mac| mac.to_string()),
        virtual_mac_by: listed.virtual_mac.and_then(|mac| live.virtual_macs.way(listed.nic, mac)),
        role: listed.role.word().to_owned(),
        since: ago(listed.since).as_secs(),
        reason: listed.reason.to_string(),
        priority: listed.priority,
        master: listed.master.map(|master| master.to_string()),
        peers: peers.collect(),
        split_brain: listed.split_brain.map(|split| SplitBrain {
            rival: split.rival.to_string(),
            since: ago(split.since).as_secs(),
            cause: split.cause.to_string(),
        }),
        refused: listed.refused.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
        sent: listed.sent,
        longest_gap: listed.longest_gap.as_micros() as u64,
        lateness: listed.lateness.buckets().map(|(from, count)| Bucket { from, count }).collect(),
        masterships: listed.masterships,
    }
}

/// The counters.
pub(super) fn counters(report: &VrrpReport) -> VrrpCounters {
    let Counters { sent, received, unknown, malformed, refused, looped, announced } = report.counters;
    VrrpCounters {
        sent,
        received,
        refused,
        unknown,
        malformed,
        looped,
        undeliverable: report.undeliverable,
        announced,
        latest: report.latest.as_micros() as u64,
        real_time: !report.routers.is_empty() && report.not_real_time.is_none(),
    }
}

/// What an operator should do, one line each.
pub(super) fn advice(report: &VrrpReport) -> Vec<String> {
    let mut lines = Vec::new();
    for router in &report.routers {
        if let Some(split) = router.split_brain {
            lines.push(format!(
                "vrrp \"{}\": {} acts as master, too: {}",
                router.name, split.rival, split.cause
            ));
        }
        let now = Instant::now();
        for peer in router.peers.iter().filter(|peer| now < peer.heard + COMPLAINT_INTERVAL) {
            let said = match (peer.refused, peer.complaint) {
                (Some(refusal), _) => format!("adverts of {} are refused: {refusal}", peer.address),
                (None, Some(complaint)) => format!("adverts of {}: {complaint}", peer.address),
                (None, None) => continue,
            };
            lines.push(format!("vrrp \"{}\": {said}", router.name));
        }
    }
    if let Some(why) = &report.not_real_time {
        lines.push(format!(
            "adverts have no real-time priority ({why}): they may come late on a busy machine: give the director CAP_SYS_NICE"
        ));
    }
    if report.undeliverable > 0 {
        lines.push(format!(
            "{} adverts to peers were not sent: nobody answers for their MAC: check the peers' addresses and links",
            report.undeliverable
        ));
    }
    lines
}
