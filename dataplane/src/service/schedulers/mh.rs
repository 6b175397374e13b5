//! Maglev hashing (kernel: `ip_vs_mh.c`): the client's address picks one of 4093 slots. Each real server has an order of its own
//! in which it takes slots, so that few change hands when real servers come and go (Eisenbud et al.,
//! "Maglev", NSDI 2016).

use std::net::IpAddr;

use super::wrr::gcd;
use super::{Client, Lookup, folded};
use crate::address::Family;
use crate::service::{Candidate, Service};

/// Slots in the table: the kernel's prime for `CONFIG_IP_VS_MH_TAB_INDEX=12`, its default.
const SLOTS: usize = 4093;
/// Bits that the turns of a real server may have (kernel: `IP_VS_MH_TAB_BITS`).
const TURN_BITS: u32 = 6;
/// Nobody has the slot.
const NOBODY: u16 = u16::MAX;
/// The keys of the first and the second hash: the kernel's, the same in every director.
const KEYS: [u64; 2] = [2_654_435_761, 2_654_446_892];

/// One real server taking slots.
struct Taker {
    place: u16,
    /// The next slot it wants.
    wants: usize,
    /// How far on the next one is.
    skip: usize,
    /// Slots that it takes in a round.
    turns: u32,
}

/// Deals the slots out; by the last weight that was not 0, so that quiescing moves nobody else.
pub(super) fn slots(family: Family, candidates: &[Candidate]) -> Box<[u16]> {
    let mut slots = vec![NOBODY; SLOTS].into_boxed_slice();
    let mut takers = takers(family, candidates);
    if takers.is_empty() {
        return slots;
    }
    let mut left = SLOTS;
    loop {
        for taker in &mut takers {
            for _ in 0..taker.turns {
                while slots[taker.wants] != NOBODY {
                    taker.wants = (taker.wants + taker.skip) % SLOTS;
                }
                slots[taker.wants] = taker.place;
                left -= 1;
                if left == 0 {
                    return slots;
                }
            }
        }
    }
}

/// The candidates that take slots (kernel: `ip_vs_mh_permutate`, `ip_vs_mh_shift_weight`).
fn takers(family: Family, candidates: &[Candidate]) -> Vec<Taker> {
    let weights = || candidates.iter().map(|candidate| candidate.last_weight);
    let divisor = weights().fold(0, gcd);
    if divisor == 0 {
        return Vec::new();
    }
    let most = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - most.leading_zeros()).saturating_sub(TURN_BITS);
    let places = (0..NOBODY).zip(candidates).filter(|(_, candidate)| candidate.last_weight > 0);
    places
        .map(|(place, candidate)| {
            let address = match candidate.address.ip() {
                // As the kernel does, which takes it for one of the service's family.
                IpAddr::V6(address) if family == Family::V4 => (address.to_bits() >> 96) as u32,
                address => folded(address),
            };
            let hashed = address.wrapping_add(u32::from(candidate.address.port()));
            Taker {
                place,
                wants: half_sip_hash(hashed, KEYS[0]) as usize % SLOTS,
                skip: half_sip_hash(hashed, KEYS[1]) as usize % (SLOTS - 1) + 1,
                turns: (candidate.last_weight / divisor >> shift).max(1),
            }
        })
        .collect()
}

/// The candidate of the client's slot. When it takes no connections there is none, or with `fallback` the first that does
/// by the slots of other hashes (kernel: `ip_vs_mh_get`, `ip_vs_mh_get_fallback`).
pub(super) fn choose(service: &Service, client: &Client) -> Option<usize> {
    let Lookup::Maglev(slots) = &service.lookup else { return None };
    let hashed = client.hashed(service);
    let slot = |offset: usize| half_sip_hash(hashed.wrapping_add(offset as u32), KEYS[0]) as usize % SLOTS;
    let available = |slot: usize| {
        let place = usize::from(slots[slot]);
        service.candidates.get(place).filter(|candidate| candidate.is_available()).map(|_| place)
    };
    let start = slot(0);
    let found = available(start);
    if found.is_some() || !service.settings.flags.fallback {
        return found;
    }
    (0..SLOTS).find_map(|further| available(slot((start + further) % SLOTS)))
}

/// The kernel's `hsiphash` of one word on 64-bit machines: SipHash-1-3 under a key of `word` twice, its low half.
fn half_sip_hash(value: u32, word: u64) -> u32 {
    let mut state = [
        word ^ 0x736f_6d65_7073_6575,
        word ^ 0x646f_7261_6e64_6f6d,
        word ^ 0x6c79_6765_6e65_7261,
        word ^ 0x7465_6462_7974_6573,
    ];
    // Four bytes: their number in the top byte.
    let block = 4 << 56 | u64::from(value);
    state[3] ^= block;
    sip_round(&mut state);
    state[0] ^= block;
    state[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut state);
    }
    let [a, b, c, d] = state;
    (a ^ b ^ c ^ d) as u32
}

/// One round of SipHash (Aumasson and Bernstein, 2012).
const fn sip_round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::half_sip_hash;

    #[test]
    fn hash_spreads_and_repeats() {
        let hashes: std::collections::HashSet<_> = (0..1000).map(|value| half_sip_hash(value, 1)).collect();
        assert_eq!(hashes.len(), 1000);
        assert_ne!(half_sip_hash(7, 1), half_sip_hash(7, 2));
    }
}
