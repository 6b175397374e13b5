//! How checks reach the VIP at one real server: by the forwarding method, past the routes of the kernel side.
//!
//! The socket of such a check is marked ([`MARK`]), and a rule of the namespace routes what is marked to a next hop that is none
//! ([`NEXT_HOP`]). By its MAC the control loop knows such a frame, by the frame's source port the real server that it is for: the
//! check noted its socket here before it spoke.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use shunt_dataplane::id::Mac;
use shunt_dataplane::wire::{Headers, IpVersion, ethernet};
use shunt_model::health::ServiceWay;
use socket2::SockRef;

use super::resident::Resident;

/// The mark of sockets of such checks, and the number of the table that routes them: "sh".
pub const MARK: u32 = 0x7368;
/// The MAC of a host that does not exist, locally administered: "shunt".
pub const NEXT_HOP: Mac = Mac([2, b's', b'h', b'u', b'n', b't']);
/// Bytes of the largest packet that such a check sends, so that it fits into any tunnel.
pub const MTU: u32 = 1280;
/// TTL and hop limit of what such a check sends. A real server that has the VIP takes it; one that does not have it, but forwards, refuses to
/// (RFC 1812, 5.3.1), so that nobody else can answer in its place.
const TTL: u32 = 1;

/// What a socket is known by: its own address, protocol number, and port or, of pings, identifier. Sockets of other addresses have the
/// same ports.
type Socket = (IpAddr, u8, u16);

/// Where checks note which socket goes which way. Nobody waits: the control loop knows before it sees what the socket sends.
#[derive(Clone, Debug)]
pub struct ServiceWays {
    notes: Sender<(Socket, Arc<ServiceWay>)>,
    /// Who may mark sockets, which the threads of checks may not; none where there is no kernel side.
    resident: Option<Resident>,
}

/// What was noted, for the control loop.
#[derive(Debug)]
pub(super) struct NotedWays {
    notes: Receiver<(Socket, Arc<ServiceWay>)>,
    /// There are no more than the director's addresses have ports; the next socket with a port takes its place.
    ways: HashMap<Socket, Arc<ServiceWay>>,
}

/// Where there is no kernel side nobody reads what is noted.
impl Default for ServiceWays {
    fn default() -> Self {
        Self { notes: channel().0, resident: None }
    }
}

impl ServiceWays {
    /// Sends what a bound socket sends by this way; `protocol` is its number, `identifier` that of the pings of a raw socket, which has no
    /// port.
    ///
    /// # Errors
    /// What the system says about its settings: for want of `CAP_NET_ADMIN`, above all.
    pub fn take(
        &self,
        socket: &SockRef<'_>,
        protocol: u8,
        identifier: Option<u16>,
        way: &Arc<ServiceWay>,
    ) -> io::Result<()> {
        self.mark(socket)?;
        let local = socket.local_addr()?.as_socket();
        let local = local.ok_or_else(|| io::Error::other("a socket without an address"))?;
        match local.ip() {
            IpAddr::V4(_) => socket.set_ttl_v4(TTL)?,
            IpAddr::V6(_) => socket.set_unicast_hops_v6(TTL)?,
        }
        self.note((local.ip(), protocol, identifier.unwrap_or(local.port())), way.clone());
        Ok(())
    }

    /// `SO_MARK` takes `CAP_NET_ADMIN`.
    fn mark(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let Some(resident) = &self.resident else { return socket.set_mark(MARK) };
        let same = socket.try_clone()?;
        resident.run(move || same.set_mark(MARK)).map_err(io::Error::other)?
    }

    fn note(&self, socket: Socket, way: Arc<ServiceWay>) {
        // Without a control loop nothing is sent.
        let _ = self.notes.send((socket, way));
    }
}

impl NotedWays {
    /// Where to note, and what was.
    pub(super) fn new(resident: Option<Resident>) -> (ServiceWays, Self) {
        let (noting, notes) = channel();
        (ServiceWays { notes: noting, resident }, Self { notes, ways: HashMap::new() })
    }

    /// Takes what was noted since.
    pub(super) fn follow(&mut self) {
        self.ways.extend(self.notes.try_iter());
    }

    /// The way of a frame that the kernel side sends to [`NEXT_HOP`]; none when no check sent it.
    pub(super) fn of(&mut self, frame: &[u8]) -> Option<Arc<ServiceWay>> {
        self.follow();
        let socket = match ethernet::ethertype(frame)? {
            ethernet::IPV4 => socket::<Ipv4Addr>(frame),
            ethernet::IPV6 => socket::<Ipv6Addr>(frame),
            _ => None,
        };
        self.ways.get(&socket?).cloned()
    }
}

/// Which socket sent a frame.
fn socket<A: IpVersion>(frame: &[u8]) -> Option<Socket> {
    /// Where the identifier of an echo request stands (RFC 792, RFC 4443).
    const IDENTIFIER: usize = 4;
    let headers: Headers<A> = A::parse_large(frame).ok()?;
    let port = if headers.protocol == A::ICMP_PROTOCOL {
        u16::from_be_bytes(*headers.transport_bytes(frame).get(IDENTIFIER..)?.first_chunk()?)
    } else {
        headers.source_port.0
    };
    Some((headers.source.into(), headers.protocol, port))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use shunt_dataplane::id::NicId;
    use socket2::{Domain, Protocol, Type};

    use super::*;

    /// A frame of the kernel side to a VIP: what of it is looked at, and no options.
    fn frame(protocol: u8, first: u16, third: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 1, protocol, 0, 0, 192, 0, 2, 2, 192, 0, 2, 10];
        let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        packet[10..12].copy_from_slice(&(!(sum + (sum >> 16)) as u16).to_be_bytes());
        packet.extend(first.to_be_bytes());
        packet.extend([8, 8]);
        packet.extend(third.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        [&NEXT_HOP.0[..], &[2, 0, 0, 0, 0, 1], &[8, 0], &packet].concat()
    }

    #[test]
    fn a_frame_is_known_by_the_port_of_its_socket() {
        let (ways, mut noted) = NotedWays::new(None);
        let way = |last: u8| {
            Arc::new(ServiceWay { hop: (NicId(0), IpAddr::from([192, 0, 2, last])), tunnel: None })
        };
        let [own, other] = [[192, 0, 2, 2], [10, 1, 0, 1]].map(IpAddr::from);
        for (socket, last) in [
            ((own, 6, 5000), 21),
            ((own, 17, 5000), 22),
            ((other, 6, 5000), 26),
            ((other, 6, 5001), 23),
            ((own, 1, 77), 24),
        ] {
            ways.note(socket, way(last));
        }
        assert_eq!(noted.of(&frame(6, 5000, 0)), Some(way(21)));
        assert_eq!(noted.of(&frame(17, 5000, 20)), Some(way(22)));
        assert_eq!(noted.of(&frame(6, 5001, 0)), None, "that is a socket of another address");
        assert_eq!(noted.of(&frame(1, 0x0800, 77)), Some(way(24)));
        let raw = socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
            .expect("a raw socket, as root");
        raw.set_freebind_v4(true).and_then(|()| raw.bind(&SocketAddr::new(own, 0).into())).unwrap();
        ways.take(&SockRef::from(&raw), 1, Some(78), &way(27)).unwrap();
        assert_eq!(noted.of(&frame(1, 0x0800, 78)), Some(way(27)), "a raw socket's pings");
        ways.note((own, 6, 5000), way(25));
        assert_eq!(noted.of(&frame(6, 5000, 0)), Some(way(25)), "the last socket of a port has it");
        for length in 0..54 {
            assert_eq!(noted.of(&frame(6, 5000, 0)[..length]), None, "{length}");
        }
    }
}
