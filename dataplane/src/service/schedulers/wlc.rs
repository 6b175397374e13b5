//! Weighted least connection (kernel: `ip_vs_wlc.c`): the fewest connections for its weight, the first of equals.

use super::overhead;
use crate::service::Service;

pub(super) fn choose(service: &Service) -> Option<usize> {
    let mut least: Option<(usize, u128, u128)> = None;
    for (place, candidate) in service.candidates.iter().enumerate() {
        let weight = u128::from(candidate.weight);
        if weight == 0 {
            continue;
        }
        let load = u128::from(overhead(candidate));
        // Quotients compared crosswise: load / weight < least load / its weight.
        if least.is_none_or(|(_, least_load, least_weight)| load * least_weight < least_load * weight) {
            least = Some((place, load, weight));
        }
    }
    least.map(|(place, ..)| place)
}
