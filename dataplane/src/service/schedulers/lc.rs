//! Least connection (kernel: `ip_vs_lc.c`): the real server with the fewest connections, the first of equals.

use super::overhead;
use crate::service::Service;

pub(super) fn choose(service: &Service) -> Option<usize> {
    let candidates = service.candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_available());
    candidates.min_by_key(|(_, candidate)| overhead(candidate)).map(|(place, _)| place)
}
