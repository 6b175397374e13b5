//! Destination hashing (kernel: `ip_vs_dh.c`): the address that the client asks for picks one of 256 slots, which are dealt
//! out in turn. All connections of one VIP go to one real server; a service of a firewall mark spreads its VIPs.

use super::sh::{SLOTS, slot};
use super::{Client, Lookup, folded};
use crate::service::{Candidate, Service};

/// Deals the slots out, one to each candidate in turn, whatever its weight.
pub(super) fn slots(candidates: &[Candidate]) -> Box<[u8; SLOTS]> {
    let turns = candidates.len().max(1);
    // No place beyond 255 comes up.
    Box::new(std::array::from_fn(|slot| (slot % turns) as u8))
}

/// The candidate of the destination's slot; none when it takes no connections.
pub(super) fn choose(service: &Service, client: &Client) -> Option<usize> {
    let Lookup::Slots(slots) = &service.lookup else { return None };
    let place = usize::from(slots[slot(folded(client.destination), 0)]);
    service.candidates.get(place).filter(|candidate| candidate.is_available())?;
    Some(place)
}
