//! What `status` and `neighbours` say of neighbours.

use std::time::Instant;

use shunt_dataplane::id::NicId;
use shunt_protocol::neighbour;

use super::core::View;
use crate::api::neighbours::{Conflict, Neighbour, Neighbours, Refused};
use crate::control_loop::Report;

/// The neighbour table.
pub(super) fn neighbours(view: &View, report: &Report) -> Neighbours {
    let counters = report.neighbour_counters;
    let refused = |reason: &neighbour::Refused| Refused {
        reason: reason.word().to_owned(),
        count: counters.of(*reason),
        help: reason.help().to_owned(),
    };
    Neighbours {
        neighbours: table(view, report),
        conflicts: conflicts(view, report),
        refused: neighbour::Refused::ALL.iter().map(refused).collect(),
        answered: counters.answered,
        requests: counters.requests,
        announcements: counters.announcements,
        evicted: counters.evicted,
    }
}

/// Neighbours, by NIC and address.
pub(super) fn table(view: &View, report: &Report) -> Vec<Neighbour> {
    let now = Instant::now();
    let mut listed: Vec<_> = report.neighbours.iter().collect();
    listed.sort_unstable_by_key(|one| (one.nic, one.address));
    let neighbour = |one: &&neighbour::Listed| Neighbour {
        nic: nic(view, one.nic),
        address: one.address.to_string(),
        mac: one.mac.map(|mac| mac.to_string()),
        state: one.standing.word().to_owned(),
        named: one.named.map(|named| named.word().to_owned()),
        since: now.saturating_duration_since(one.since).as_secs(),
        waiting: one.waiting as u64,
    };
    listed.iter().map(neighbour).collect()
}

/// Other hosts that use addresses of the director.
pub(super) fn conflicts(view: &View, report: &Report) -> Vec<Conflict> {
    let ago = |then: Instant| Instant::now().saturating_duration_since(then).as_secs();
    let mut conflicts = report.conflicts.clone();
    conflicts.sort_unstable_by_key(|one| (one.nic, one.address));
    let conflict = |one: &neighbour::Conflict| Conflict {
        nic: nic(view, one.nic),
        address: one.address.to_string(),
        mac: one.other.to_string(),
        real: one.real().map(|real| real.to_string()),
        since: ago(one.since),
        last: ago(one.last),
        count: one.count,
        text: one.to_string(),
    };
    conflicts.iter().map(conflict).collect()
}

fn nic(view: &View, nic: NicId) -> String {
    view.config.nics.get(nic.index()).map_or_else(|| nic.to_string(), |nic| nic.name.clone())
}
