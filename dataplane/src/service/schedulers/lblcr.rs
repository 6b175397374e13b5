//! Locality-based least connection with replication (kernel: `ip_vs_lblcr.c`): an address that clients ask for keeps a set of
//! real servers; one joins when the least loaded of them is overloaded, and one leaves when the set has not changed for long.

use super::locality::{self, Learned, Localities, Locality};
use super::{Client, overhead, wlc};
use crate::id::RealId;
use crate::service::{Candidate, Service};
use crate::time::Tick;

pub(super) fn choose(
    service: &Service,
    client: &Client,
    localities: &Localities,
    now: Tick,
) -> Option<(usize, Learned)> {
    let Some(locality) = localities.get(service, client.destination, now) else {
        let place = wlc::choose(service)?;
        return Some((place, Learned::Alone(service.candidates[place].real)));
    };
    let leaves = if locality.may_shrink(now) { most_loaded(service, locality) } else { None };
    let least = least_loaded(service, locality);
    if let Some(place) = least.filter(|&place| !locality::is_overloaded(service, &service.candidates[place]))
    {
        return Some((place, leaves.map_or(Learned::Used, Learned::Without)));
    }
    let place = wlc::choose(service)?;
    Some((place, Learned::Also { real: service.candidates[place].real, without: leaves }))
}

/// The members of a set among the candidates, in the order of the set.
fn members<'s>(
    service: &'s Service,
    locality: &'s Locality,
) -> impl Iterator<Item = (usize, &'s Candidate)> + 's {
    locality.reals().iter().filter_map(|member| {
        let place = member.find(&service.candidates)?;
        Some((place, &service.candidates[place]))
    })
}

/// The member that is loaded least for its weight, the first of equals (kernel: `ip_vs_dest_set_min`).
fn least_loaded(service: &Service, locality: &Locality) -> Option<usize> {
    let available = members(service, locality).filter(|(_, candidate)| candidate.is_available());
    super::least_of(available, overhead)
}

/// The member that is loaded most for its weight, the first of equals (kernel: `ip_vs_dest_set_max`).
fn most_loaded(service: &Service, locality: &Locality) -> Option<RealId> {
    let mut most: Option<(RealId, u128, u128)> = None;
    for (_, candidate) in members(service, locality).filter(|(_, candidate)| candidate.weight > 0) {
        let (load, weight) = (u128::from(overhead(candidate)), u128::from(candidate.weight));
        // Quotients compared crosswise: most load / its weight < load / weight.
        if most.is_none_or(|(_, most_load, most_weight)| most_load * weight < load * most_weight) {
            most = Some((candidate.real, load, weight));
        }
    }
    most.map(|(real, ..)| real)
}
