//! Shortest expected delay (kernel: `ip_vs_sed.c`): the fewest active connections for its weight once it had the new one,
//! the first of equals.

use crate::service::{Candidate, Service};

/// What a real server would be loaded with by one more connection (kernel: `ip_vs_sed_dest_overhead`).
pub(super) fn delay(candidate: &Candidate) -> u64 {
    candidate.active() + 1
}

pub(super) fn choose(service: &Service) -> Option<usize> {
    super::least(service, delay)
}
