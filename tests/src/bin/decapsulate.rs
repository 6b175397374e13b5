//! `decapsulate`: what a tunnel real server needs on a kernel that has no ipip module.
//!
//! It receives IP-in-IP packets (RFC 2003: protocol 4; RFC 2473 and RFC 4213: next header 41) on raw sockets and writes
//! the packet inside to a tun device that it creates; from there the kernel takes it as if it had arrived on a NIC.
//! Replies do not come this way: a tunnel real server answers the client directly.
//!
//! One thread, one buffer, no queue of its own: what it cannot take in time is dropped by the socket, as a NIC would.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

/// IPv4 inside (RFC 2003).
const IPIP: i32 = 4;
/// IPv6 inside (RFC 2473, RFC 4213).
const IPV6: i32 = 41;
/// The largest IP packet there is, in bytes.
const LARGEST_PACKET: usize = 65_535;
/// Packets taken from one socket before the next socket has its turn.
const PACKETS_PER_TURN: usize = 64;
/// Socket buffer asked for, in bytes; the kernel may give less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Writes the packets inside IP-in-IP tunnels to a tun device.
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
}

/// Why a received packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Shorter than its headers say.
    Truncated,
    /// The packet inside is not of the version that the protocol number announces.
    WrongVersion,
}

/// A raw socket for one kind of tunnel.
struct Tunnel {
    socket: Socket,
    /// Whether the kernel hands over the outer header too: it does for IPv4 and does not for IPv6.
    outer_header: bool,
    protocol: i32,
}

impl Tunnel {
    fn open(domain: Domain, protocol: i32) -> Result<Self, String> {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol))).map_err(|error| {
            format!("raw socket for protocol {protocol}: {error}: it takes CAP_NET_RAW: run as root or give it with setcap")
        })?;
        socket.set_nonblocking(true).map_err(|error| {
            format!("raw socket for protocol {protocol}: cannot be made non-blocking: {error}")
        })?;
        // A smaller buffer than asked for only drops earlier.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(Self { socket, outer_header: domain == Domain::IPV4, protocol })
    }
}

/// The packet inside `packet`, cut to the length that its own header gives.
fn inner(packet: &[u8], outer_header: bool, protocol: i32) -> Result<&[u8], Refusal> {
    let inside = if outer_header {
        let header = usize::from(packet.first().ok_or(Refusal::Truncated)? & 0x0f) * 4;
        packet.get(header..).ok_or(Refusal::Truncated)?
    } else {
        packet
    };
    let expected = if protocol == IPIP { 4 } else { 6 };
    if inside.first().ok_or(Refusal::Truncated)? >> 4 != expected {
        return Err(Refusal::WrongVersion);
    }
    let (offset, fixed, least) = if expected == 4 { (2, 0, 20) } else { (4, 40, 40) };
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
        match inner(&buffer[..length], tunnel.outer_header, tunnel.protocol) {
            Ok(packet) => {
                if let Err(error) = tun.send(packet) {
                    lost.note(format_args!("the tun device did not take {} bytes: {error}", packet.len()));
                }
            }
            Err(refusal) => {
                lost.note(format_args!("protocol {}: {length} bytes refused: {refusal:?}", tunnel.protocol));
            }
        }
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let tunnels = [
        Tunnel::open(Domain::IPV4, IPIP)?,
        Tunnel::open(Domain::IPV4, IPV6)?,
        Tunnel::open(Domain::IPV6, IPIP)?,
        Tunnel::open(Domain::IPV6, IPV6)?,
    ];
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
                .map_err(|error| format!("protocol {}: receiving: {error}", tunnel.protocol))?;
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
        assert_eq!(inner(&packet, true, IPIP), Ok(&ipv4(20)[..]));
    }

    #[test]
    fn cuts_padding_off() {
        let mut packet = ipv6(1);
        packet.extend([7, 9, 9]);
        assert_eq!(inner(&packet, false, IPV6).map(<[u8]>::len), Ok(41));
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
                inner(&packet, outer_header, protocol),
                Err(refusal),
                "{packet:?} protocol {protocol}"
            );
        }
    }
}
