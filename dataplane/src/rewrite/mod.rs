//! Rewriting packets in place, one file for each forwarding method.

pub mod dr;
pub mod mss;
pub mod nat;
pub mod quote;
pub mod tun;

use crate::service::NextHop;
use crate::wire::{Headers, IpVersion};

/// Addresses a frame to its next hop.
#[inline(always)]
pub fn address(frame: &mut [u8], next_hop: &NextHop, ethertype: u16) {
    next_hop.macs.write(frame, ethertype);
}

/// What every forwarding director does to an IP header: a TTL or hop limit one lower, and `recorded`, its
/// address, in a record route option. The kernel records the VIP for packets of a service, the NIC's address
/// for others.
#[inline(always)]
pub fn pass<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>, recorded: A) {
    A::decrement_ttl(frame, headers);
    A::record_route(frame, headers, recorded);
}

#[cfg(test)]
mod tests;
