//! Source hashing (kernel: `ip_vs_sh.c`): the client's address picks one of 256 slots, which are dealt out by weight.

use super::{Client, Lookup, folded};
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

/// The candidate of the client's slot. When it takes no connections there is none, or with `fallback` the first that does
/// by a slot further on (kernel: `ip_vs_sh_get`, `ip_vs_sh_get_fallback`).
pub(super) fn choose(service: &Service, client: &Client) -> Option<usize> {
    let Lookup::Slots(slots) = &service.lookup else { return None };
    let start = slot(client.hashed(service), 0);
    let available = |slot: usize| {
        let place = usize::from(slots[slot]);
        service.candidates.get(place).filter(|candidate| candidate.is_available()).map(|_| place)
    };
    let found = available(start);
    if found.is_some() || !service.settings.flags.fallback {
        return found;
    }
    (0..SLOTS).find_map(|further| available(slot(client.hashed(service), (start + further) % SLOTS)))
}

/// The slot of what is hashed, `offset` slots on (kernel: `ip_vs_sh_hashkey`, `ip_vs_dh_hashkey`).
pub(super) const fn slot(hashed: u32, offset: usize) -> usize {
    let hash = hashed.wrapping_mul(GOLDEN_RATIO) >> 24;
    (offset + hash as usize) % SLOTS
}

impl Client {
    /// What is hashed of a client: its address, and with the flag `port` its port.
    pub(super) fn hashed(&self, service: &Service) -> u32 {
        let port = if service.settings.flags.port { self.l4_port.0 } else { 0 };
        folded(self.address).wrapping_add(u32::from(port))
    }
}
