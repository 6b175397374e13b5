//! Network address translation (kernel: `ip_vs_nat_xmit` and `handle_response`): address and port change,
//! checksums follow step by step (RFC 1624), so that one that was wrong stays wrong. Only a UDP checksum of 0
//! is computed in full, as the kernel does.

use crate::id::{L4Port, Protocol};
use crate::wire::checksum::Sum;
use crate::wire::{Fragment, Headers, IpVersion, array, put, sctp, tcp, udp};

/// Client to real server: the destination becomes `real`, and its port `port` unless that is none.
#[inline(always)]
pub fn to_real<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>, real: A, port: Option<L4Port>) {
    let change = A::replace_address(frame, headers, A::DESTINATION, real);
    rewrite_transport(frame, headers, tcp::field::DESTINATION_PORT, port, change);
}

/// Real server to client: the source becomes the VIP and the service's port.
#[inline(always)]
pub fn from_real<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>, vip: A, port: L4Port) {
    let change = A::replace_address(frame, headers, A::SOURCE, vip);
    rewrite_transport(frame, headers, tcp::field::SOURCE_PORT, Some(port), change);
}

/// Rewrites a port, which TCP and UDP have at the same offset, and the checksum, which they have not.
#[inline(always)]
fn rewrite_transport<A: IpVersion>(
    frame: &mut [u8],
    headers: &Headers<A>,
    port_at: usize,
    port: Option<L4Port>,
    mut change: Sum,
) {
    let Some(protocol) = headers.transport_protocol() else { return };
    let bytes = headers.transport_bytes_mut(frame);
    if protocol == Protocol::Sctp {
        return rewrite_sctp(bytes, port_at, port);
    }
    if let (Some(port), Some(old)) = (port, array(bytes, port_at)) {
        change = change.word_changed(u16::from_be_bytes(old), port.0);
        put(bytes, port_at, port.0.to_be_bytes());
    }
    let at = match protocol {
        Protocol::Tcp | Protocol::Sctp | Protocol::Icmp => tcp::field::CHECKSUM,
        Protocol::Udp => udp::field::CHECKSUM,
    };
    let Some(checksum) = array(bytes, at).map(u16::from_be_bytes) else { return };
    let checksum = match protocol {
        Protocol::Tcp | Protocol::Sctp | Protocol::Icmp => change.update(checksum),
        Protocol::Udp if checksum == 0 => return fill_udp_checksum(frame, &{ *headers }),
        Protocol::Udp => udp::written(change.update(checksum)),
    };
    put(bytes, at, checksum.to_be_bytes());
}

/// Rewrites a port of SCTP. The checksum, which does not cover addresses, is computed anew when the port is another one
/// (kernel: `sctp_snat_handler`).
#[cold]
fn rewrite_sctp(bytes: &mut [u8], port_at: usize, port: Option<L4Port>) {
    let Some(port) = port.map(|port| port.0.to_be_bytes()) else { return };
    if array(bytes, port_at).is_some_and(|old: [u8; 2]| old != port) {
        put(bytes, port_at, port);
        sctp::fill_checksum(bytes);
    }
}

/// Computes the checksum of a UDP packet that had none. A fragment keeps none: its data is not all here.
#[cold]
fn fill_udp_checksum<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>) {
    if headers.fragment != Fragment::Whole {
        return;
    }
    let network = usize::from(headers.network);
    let addresses = (A::read(frame, network + A::SOURCE), A::read(frame, network + A::DESTINATION));
    if let (Some(source), Some(destination)) = addresses {
        udp::fill_checksum(headers.transport_bytes_mut(frame), source, destination);
    }
}
