//! Source hashing (kernel: `ip_vs_sh.c`): the client's address picks one of 256 slots, which are dealt out by weight.

use std::net::IpAddr;

use super::{Client, Lookup};
use crate::service::{Candidate, Service};

/// Slots in the table.
pub(super) const SLOTS: usize = 256;
/// The multiplier of the kernel's `hash_32`.
const GOLDEN_RATIO: u32 = 0x61c8_8647;

/// Deals the slots out: to each candidate in turn as many as its weight, but one to a weight of 0.
pub(super) fn slots(candidates: &[Candidate]) -> Box<[u8; SLOTS]> {
    let mut slots = Box::new([0; SLOTS]);
    let mut turns = (0..candidates.len()).cycle();
    let Some(mut place) = turns.next() else { return slots };
    let mut dealt = 0;
    for slot in slots.iter_mut() {
        // Each takes at least one, so no place beyond 255 comes up.
        *slot = place as u8;
        dealt += 1;
        if dealt >= candidates[place].weight {
            place = turns.next().unwrap_or(0);
            dealt = 0;
        }
    }
    slots
}

/// The candidate of the client's slot; none when its weight is 0.
pub(super) fn choose(service: &Service, client: &Client) -> Option<usize> {
    let Lookup::Slots(slots) = &service.lookup else { return None };
    // With the port only when the service asks for it, which no configuration can yet.
    let place = usize::from(slots[slot(client.address, 0)]);
    service.candidates.get(place).filter(|candidate| candidate.weight > 0)?;
    Some(place)
}

/// The slot of an address and a port (kernel: `ip_vs_sh_hashkey`).
fn slot(address: IpAddr, l4_port: u16) -> usize {
    let folded = match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    };
    let hash = folded.wrapping_add(u32::from(l4_port)).wrapping_mul(GOLDEN_RATIO);
    (hash >> 24) as usize
}
