//! Direct routing (kernel: `ip_vs_dr_xmit`), and plain routing of packets that belong to no service: the
//! packet stays as it is but for its TTL and its MACs.

use crate::service::NextHop;
use crate::wire::{Headers, IpVersion};

/// Sends the packet on to `next_hop`. `recorded` is the director's address for a record route option.
#[inline]
pub fn forward<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>, next_hop: &NextHop, recorded: A) {
    super::pass(frame, headers, recorded);
    super::address(frame, next_hop, A::ETHERTYPE);
}
