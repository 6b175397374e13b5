//! Weighted failover (kernel: `ip_vs_fo.c`): the largest weight that is available, the first of equals.

use crate::service::Service;

pub(super) fn choose(service: &Service) -> Option<usize> {
    super::heaviest(service, |_| true)
}
