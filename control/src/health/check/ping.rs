//! ICMP echo (RFC 792, RFC 4443).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shunt_model::health::ServiceWay;
use shunt_model::health::{Failure, Success};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{closed, connect_failure, making_failure};
use crate::kernel::ServiceWays;

/// An echo request's type and that of its answer, by family.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);
/// Bytes behind the header: who asks, so that nobody else's answer counts.
const TOKEN: usize = 8;
/// The longest answer that is read.
const ANSWER_MAX: usize = 2048;

/// Asks `to`, from an own address where that is named, by the service's way where there is one.
pub async fn run(
    to: IpAddr,
    from: Option<IpAddr>,
    by_service: Option<(&ServiceWays, &Arc<ServiceWay>)>,
) -> Result<Success, Failure> {
    let token = RandomState::new().hash_one(to).to_be_bytes();
    let identifier = u16::from_be_bytes([token[0], token[1]]);
    let socket = open(to, from, identifier, by_service).map_err(|error| making_failure(&error))?;
    socket.connect(SocketAddr::new(to, 0)).await.map_err(|error| connect_failure(&error))?;
    let (request, reply) = if to.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
    let mut asked = [0; 8 + TOKEN];
    asked[0] = request;
    // The identifier; the system puts its own there on a ping socket, and fills in the checksum, which it does for
    // IPv6 on a raw one as well.
    asked[4..6].copy_from_slice(&identifier.to_be_bytes());
    asked[7] = 1;
    asked[8..].copy_from_slice(&token);
    if to.is_ipv4() {
        let sum = checksum(&asked);
        asked[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send(&asked).await.map_err(|error| closed(&error))?;
    let mut answer = [0; ANSWER_MAX];
    loop {
        let length = socket.recv(&mut answer).await.map_err(|error| closed(&error))?;
        let answer = &answer[..length];
        // A raw socket of IPv4 gives the IP header as well.
        let header = match answer.first() {
            Some(first) if to.is_ipv4() && first >> 4 == 4 => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let icmp = answer.get(header..).unwrap_or_default();
        if icmp.first() == Some(&reply) && icmp.get(8..8 + TOKEN) == Some(&token[..]) {
            return Ok(Success::Up);
        }
    }
}

/// A ping socket where the system lets us have one, else a raw one; to be connected, so that only this host's answers come
/// and its errors are told. tokio has no word for either; to it they are like UDP sockets.
fn open(
    to: IpAddr,
    from: Option<IpAddr>,
    identifier: u16,
    by_service: Option<(&ServiceWays, &Arc<ServiceWay>)>,
) -> io::Result<UdpSocket> {
    let (domain, protocol, number) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 1),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 58),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))
        .or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    if let Some((ways, way)) = by_service {
        let own = (socket.r#type()? == Type::RAW).then_some(identifier);
        ways.take(&SockRef::from(&socket), number, own, way)?;
    }
    UdpSocket::from_std(socket.into())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn a_checksum_checks() {
        let mut bytes = vec![8, 0, 0, 0, 1, 2, 3, 4, 0xff, 0xfe, 7];
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&bytes), 0);
    }
}
