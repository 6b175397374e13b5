//! `decapsulate`: what a tunnel real server needs on a kernel that has no modules for tunnels.
//!
//! It receives IP-in-IP packets (RFC 2003: protocol 4; RFC 2473 and RFC 4213: next header 41) and GRE (RFC 2784) on raw sockets,
//! GUE (draft-ietf-intarea-gue) on a UDP socket, whose checksum is the kernel's business, and writes the packet inside to a tun
//! device that it creates; from there the kernel takes it as if it had arrived on a NIC.
//! Replies do not come this way: a tunnel real server answers the client directly.
//!
//! One thread, one buffer, no queue of its own: what it cannot take in time is dropped by the socket, as a NIC would.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shunt_dataplane::wire::checksum::Sum;
use socket2::{Domain, Protocol, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

/// IPv4 inside (RFC 2003).
const IPIP: u8 = 4;
/// IPv6 inside (RFC 2473, RFC 4213).
const IPV6: u8 = 41;
/// The protocol number of GRE.
const GRE: u8 = 47;
/// The first bit of a GRE header: a checksum is there. The other ones of the first two bytes are zero (RFC 2784, 2).
const GRE_CHECKSUM: u16 = 0x8000;
/// What GRE and Ethernet call IPv4 and IPv6.
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The largest IP packet there is, in bytes.
const LARGEST_PACKET: usize = 65_535;
/// Packets taken from one socket before the next socket has its turn.
const PACKETS_PER_TURN: usize = 64;
/// Socket buffer asked for, in bytes; the kernel may give less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Writes the packets inside IP-in-IP, GRE and GUE tunnels to a tun device.
///
/// Needs CAP_NET_RAW and CAP_NET_ADMIN. The device must have rp_filter=0, since the clients are not reached through it.
///
/// Example: decapsulate tunnel0
#[derive(Parser)]
struct Arguments {
    /// Name of the tun device to create (at most 15 bytes); it is gone when this program ends.
    tun: String,
    /// MTU of the tun device, in bytes.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..))]
    mtu: u16,
    /// UDP port at which GUE arrives; none for no GUE.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    gue: Option<u16>,
    /// Takes no IP-in-IP packets.
    #[arg(long)]
    no_ipip: bool,
}

/// Why a received packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Shorter than its headers say.
    Truncated,
    /// The packet inside is not of the version that the header before it announces.
    WrongVersion,
    /// A tunnel's header has something that is not known here.
    UnknownHeader,
    /// GRE's checksum does not hold.
    Checksum,
}

/// What stands behind the outer IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A packet, by this protocol number.
    Ip(u8),
    Gre,
    /// Its UDP header is taken off already.
    Gue,
}

/// A socket for one kind of tunnel.
struct Tunnel {
    socket: Socket,
    /// Whether the kernel hands over the outer header too: raw sockets of IPv4 do.
    outer_header: bool,
    kind: Kind,
}

impl Tunnel {
    fn open(domain: Domain, kind: Kind) -> Result<Self, String> {
        let protocol = if let Kind::Ip(protocol) = kind { protocol } else { GRE };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol)))).map_err(|error| {
            format!("raw socket for protocol {protocol}: {error}: it takes CAP_NET_RAW: run as root or give it with setcap")
        })?;
        Self::with(socket, domain == Domain::IPV4, kind)
    }

    /// For GUE of both families.
    fn open_gue(port: u16) -> Result<Self, String> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let bound = Socket::new(Domain::IPV6, Type::DGRAM, None).and_then(|socket| {
            socket.set_only_v6(false)?;
            socket.bind(&any.into())?;
            Ok(socket)
        });
        let socket =
            bound.map_err(|error| format!("UDP port {port}: {error}: free it, or choose another"))?;
        Self::with(socket, false, Kind::Gue)
    }

    fn with(socket: Socket, outer_header: bool, kind: Kind) -> Result<Self, String> {
        socket
            .set_nonblocking(true)
            .map_err(|error| format!("socket for {kind:?}: cannot be made non-blocking: {error}"))?;
        // A smaller buffer than asked for only drops earlier.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(Self { socket, outer_header, kind })
    }
}

/// The packet inside `packet`, cut to the length that its own header gives.
fn inner(packet: &[u8], outer_header: bool, kind: Kind) -> Result<&[u8], Refusal> {
    let header =
        if outer_header { usize::from(packet.first().ok_or(Refusal::Truncated)? & 0x0f) * 4 } else { 0 };
    let tunnel = packet.get(header..).ok_or(Refusal::Truncated)?;
    let (protocol, inside) = match kind {
        Kind::Ip(protocol) => (protocol, tunnel),
        Kind::Gre => in_gre(tunnel)?,
        Kind::Gue => in_gue(tunnel)?,
    };
    whole(protocol, inside)
}

/// What is inside GRE (RFC 2784): its protocol number, and it.
fn in_gre(tunnel: &[u8]) -> Result<(u8, &[u8]), Refusal> {
    let word = |at: usize| {
        let bytes = tunnel.get(at..at + 2).ok_or(Refusal::Truncated)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let header = match word(0)? {
        0 => 4,
        GRE_CHECKSUM => 8,
        _ => return Err(Refusal::UnknownHeader),
    };
    let inside = tunnel.get(header..).ok_or(Refusal::Truncated)?;
    if header == 8 && !Sum::of(tunnel).holds() {
        return Err(Refusal::Checksum);
    }
    match word(2)? {
        ETHERTYPE_IPV4 => Ok((IPIP, inside)),
        ETHERTYPE_IPV6 => Ok((IPV6, inside)),
        _ => Err(Refusal::UnknownHeader),
    }
}

/// What is inside GUE: its protocol number, and it. Version 0, no control message; optional fields are passed over.
fn in_gue(tunnel: &[u8]) -> Result<(u8, &[u8]), Refusal> {
    let [first, protocol, ..] = *tunnel else { return Err(Refusal::Truncated) };
    if first >> 5 != 0 {
        return Err(Refusal::UnknownHeader);
    }
    let header = 4 + usize::from(first & 0x1f) * 4;
    Ok((protocol, tunnel.get(header..).ok_or(Refusal::Truncated)?))
}

/// A packet of the version that its protocol number announces, cut to its own length.
fn whole(protocol: u8, inside: &[u8]) -> Result<&[u8], Refusal> {
    let version = match protocol {
        IPIP => 4,
        IPV6 => 6,
        _ => return Err(Refusal::UnknownHeader),
    };
    if inside.first().ok_or(Refusal::Truncated)? >> 4 != version {
        return Err(Refusal::WrongVersion);
    }
    let (offset, fixed, least) = if version == 4 { (2, 0, 20) } else { (4, 40, 40) };
    let field = inside.get(offset..offset + 2).ok_or(Refusal::Truncated)?;
    let length = fixed + usize::from(u16::from_be_bytes([field[0], field[1]]));
    if length < least {
        return Err(Refusal::Truncated);
    }
    inside.get(..length).ok_or(Refusal::Truncated)
}

/// Counts what was lost and says so ever more rarely: a flood of bad packets must not become a flood of lines.
#[derive(Default)]
struct Lost(u64);

impl Lost {
    fn note(&mut self, what: std::fmt::Arguments) {
        self.0 += 1;
        if self.0.is_power_of_two() {
            eprintln!("decapsulate: {what} ({} packets lost so far)", self.0);
        }
    }
}

/// Takes at most [`PACKETS_PER_TURN`] packets from `tunnel` and writes what is inside them to `tun`.
fn drain(tunnel: &Tunnel, tun: &SyncDevice, buffer: &mut [u8], lost: &mut Lost) -> io::Result<()> {
    for _ in 0..PACKETS_PER_TURN {
        let length = match (&tunnel.socket).read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match inner(&buffer[..length], tunnel.outer_header, tunnel.kind) {
            Ok(packet) => {
                if let Err(error) = tun.send(packet) {
                    lost.note(format_args!("the tun device did not take {} bytes: {error}", packet.len()));
                }
            }
            Err(refusal) => {
                lost.note(format_args!("{:?}: {length} bytes refused: {refusal:?}", tunnel.kind));
            }
        }
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut tunnels = Vec::new();
    for domain in [Domain::IPV4, Domain::IPV6] {
        let kinds = [Kind::Ip(IPIP), Kind::Ip(IPV6), Kind::Gre];
        for kind in kinds.into_iter().filter(|kind| *kind == Kind::Gre || !arguments.no_ipip) {
            tunnels.push(Tunnel::open(domain, kind)?);
        }
    }
    if let Some(port) = arguments.gue {
        tunnels.push(Tunnel::open_gue(port)?);
    }
    // After the sockets: whoever sees the device knows that packets are being taken.
    let tun = DeviceBuilder::new().name(&arguments.tun).mtu(arguments.mtu).packet_information(false).build_sync().map_err(
        |error| format!("{}: tun device cannot be made: {error}: it takes CAP_NET_ADMIN, /dev/net/tun, and a name that is free", arguments.tun),
    )?;
    let mut buffer = vec![0; LARGEST_PACKET];
    let mut lost = Lost::default();
    loop {
        let mut waiting: Vec<PollFd> =
            tunnels.iter().map(|tunnel| PollFd::new(tunnel.socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("waiting for packets: {error}")),
        }
        for tunnel in &tunnels {
            drain(tunnel, &tun, &mut buffer, &mut lost)
                .map_err(|error| format!("{:?}: receiving: {error}", tunnel.kind))?;
        }
    }
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("decapsulate: {error}");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header of 20 bytes that announces `length` bytes.
    fn ipv4(length: u16) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    /// An IPv6 header that announces `payload` bytes after it.
    fn ipv6(payload: u16) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet
    }

    #[test]
    fn takes_the_outer_ipv4_header_off_with_its_options() {
        let mut packet = ipv4(44);
        packet[0] = 0x46;
        packet.extend([0; 4]);
        packet.extend(ipv4(20));
        assert_eq!(inner(&packet, true, Kind::Ip(IPIP)), Ok(&ipv4(20)[..]));
    }

    #[test]
    fn cuts_padding_off() {
        let mut packet = ipv6(1);
        packet.extend([7, 9, 9]);
        assert_eq!(inner(&packet, false, Kind::Ip(IPV6)).map(<[u8]>::len), Ok(41));
    }

    #[test]
    fn refuses_what_is_not_a_whole_packet_of_the_announced_version() {
        for (packet, outer_header, protocol, refusal) in [
            (vec![], true, IPIP, Refusal::Truncated),
            (vec![], false, IPV6, Refusal::Truncated),
            (vec![0x45, 0], true, IPIP, Refusal::Truncated),
            (ipv4(20), true, IPIP, Refusal::Truncated),
            (ipv4(21), false, IPIP, Refusal::Truncated),
            (ipv4(19), false, IPIP, Refusal::Truncated),
            (ipv6(1), false, IPV6, Refusal::Truncated),
            (vec![0x60, 0, 0], false, IPV6, Refusal::Truncated),
            (ipv6(0), false, IPIP, Refusal::WrongVersion),
            (ipv4(20), false, IPV6, Refusal::WrongVersion),
        ] {
            assert_eq!(
                inner(&packet, outer_header, Kind::Ip(protocol)),
                Err(refusal),
                "{packet:?} protocol {protocol}"
            );
        }
    }

    #[test]
    fn gre_has_a_checksum_or_none() {
        let plain = [vec![0, 0, 8, 0], ipv4(20)].concat();
        assert_eq!(inner(&plain, false, Kind::Gre), Ok(&ipv4(20)[..]));
        let mut summed = [vec![0x80, 0, 0x86, 0xdd, 0, 0, 0, 0], ipv6(0)].concat();
        assert_eq!(inner(&summed, false, Kind::Gre), Err(Refusal::Checksum));
        let sum = Sum::of(&summed).checksum();
        summed[4..6].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(inner(&summed, false, Kind::Gre), Ok(&ipv6(0)[..]));
        for (at, value, refusal) in [
            (0, 0x20, Refusal::UnknownHeader),
            (1, 1, Refusal::UnknownHeader),
            (3, 1, Refusal::UnknownHeader),
            (4, 0x65, Refusal::WrongVersion),
        ] {
            let mut packet = plain.clone();
            packet[at] = value;
            assert_eq!(inner(&packet, false, Kind::Gre), Err(refusal), "byte {at}");
        }
        for length in 0..plain.len() {
            assert_eq!(inner(&plain[..length], false, Kind::Gre), Err(Refusal::Truncated), "{length}");
        }
    }

    #[test]
    fn gue_says_what_is_inside() {
        let packet = [vec![1, 41, 0, 0, 9, 9, 9, 9], ipv6(0)].concat();
        assert_eq!(inner(&packet, false, Kind::Gue), Ok(&ipv6(0)[..]));
        for (at, value) in [(0, 0x20), (0, 0x40), (1, 17)] {
            let mut packet = packet.clone();
            packet[at] = value;
            assert_eq!(inner(&packet, false, Kind::Gue), Err(Refusal::UnknownHeader), "byte {at}");
        }
        for length in 0..packet.len() {
            assert_eq!(inner(&packet[..length], false, Kind::Gue), Err(Refusal::Truncated), "{length}");
        }
    }
}
