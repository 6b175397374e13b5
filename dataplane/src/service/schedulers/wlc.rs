//! Weighted least connection (kernel: `ip_vs_wlc.c`): the fewest connections for its weight, the first of equals.

use crate::service::Service;

pub(super) fn choose(service: &Service) -> Option<usize> {
    super::least(service, super::overhead)
}
