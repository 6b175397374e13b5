//! Weighted overflow (kernel: `ip_vs_ovf.c`): the largest weight among the real servers that have no more active connections
//! than their weight, the first of equals.

use crate::service::Service;

pub(super) fn choose(service: &Service) -> Option<usize> {
    super::heaviest(service, |candidate| candidate.active() <= u64::from(candidate.weight))
}
