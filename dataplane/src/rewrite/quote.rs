//! Network address translation of an ICMP error and of the packet that it quotes (kernel: `ip_vs_nat_icmp`). The checksum
//! of the quoted transport header stays as it is; the receiver does not look at it.

use crate::id::{L4Port, Protocol};
use crate::wire::{Headers, IpVersion, icmp, put, tcp};

/// An error from the client's side about an answer of the VIP: to the real server, about an answer of its own.
pub fn to_real<A: IpVersion>(
    frame: &mut [u8],
    headers: &Headers<A>,
    quoted: &Headers<A>,
    real: A,
    port: L4Port,
) {
    let _ = A::replace_address(frame, headers, A::DESTINATION, real);
    let _ = A::replace_address(frame, quoted, A::SOURCE, real);
    put_port(frame, quoted, tcp::field::SOURCE_PORT, port);
    finish(frame, headers, quoted);
}

/// An error from the real server's side about a packet of the client's: from the VIP, whoever sent it, about a packet
/// to the VIP.
pub fn from_real<A: IpVersion>(
    frame: &mut [u8],
    headers: &Headers<A>,
    quoted: &Headers<A>,
    vip: A,
    port: L4Port,
) {
    let _ = A::replace_address(frame, headers, A::SOURCE, vip);
    let _ = A::replace_address(frame, quoted, A::DESTINATION, vip);
    put_port(frame, quoted, tcp::field::DESTINATION_PORT, port);
    finish(frame, headers, quoted);
}

/// Writes the port, which of an ICMP echo is its identifier, and which IPsec has not.
fn put_port<A: IpVersion>(frame: &mut [u8], quoted: &Headers<A>, at: usize, port: L4Port) {
    let within = match Protocol::from_number(quoted.protocol) {
        _ if quoted.protocol == A::ICMP_PROTOCOL => icmp::field::WORD,
        Some(_) => at,
        None => return,
    };
    put(frame, usize::from(quoted.transport) + within, port.0.to_be_bytes());
}

/// The checksums of the quoted header and of the message, anew.
fn finish<A: IpVersion>(frame: &mut [u8], headers: &Headers<A>, quoted: &Headers<A>) {
    A::sum_header(frame, quoted);
    let at = usize::from(headers.network);
    let (Some(source), Some(destination)) =
        (A::read(frame, at + A::SOURCE), A::read(frame, at + A::DESTINATION))
    else {
        return;
    };
    let message = headers.transport_bytes_mut(frame);
    put(message, icmp::field::CHECKSUM, [0; 2]);
    let checksum = icmp::checksum(message, source, destination);
    put(message, icmp::field::CHECKSUM, checksum.to_be_bytes());
}
