//! Never queue (kernel: `ip_vs_nq.c`): the first real server that is idle, else the one that `sed` chooses.

use super::sed;
use crate::service::Service;

pub(super) fn choose(service: &Service) -> Option<usize> {
    let idle =
        service.candidates.iter().position(|candidate| candidate.is_available() && candidate.active() == 0);
    idle.or_else(|| sed::choose(service))
}
