//! The helper `decapsulate` in a network namespace of its own: what comes out of the tunnel reaches a socket.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const TUN: &str = "tunnel0";
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the helper when the test ends, however it ends.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip (package iproute2)");
    assert!(status.success(), "ip {arguments}");
}

/// Whether the kernel takes packets from this interface.
fn is_up(interface: &str) -> bool {
    // The kernel refuses to list interfaces that change meanwhile: not up yet, then.
    let Ok(addresses) = getifaddrs() else { return false };
    addresses
        .filter(|address| address.interface_name == interface)
        .any(|address| address.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING))
}

/// Moves this thread into a new namespace and starts the helper there.
fn real_server(vip: &str) -> Helper {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
    ip("link set lo up");
    ip(&format!("address add {vip} dev lo"));
    let helper =
        Helper(Command::new(env!("CARGO_BIN_EXE_decapsulate")).arg(TUN).spawn().expect("decapsulate"));
    let deadline = Instant::now() + PATIENCE;
    while !is_up(TUN) {
        assert!(Instant::now() < deadline, "the tun device did not come up");
        std::thread::sleep(Duration::from_millis(5));
    }
    for interface in ["all", TUN] {
        // Below /proc/sys/net a thread sees its own namespace.
        let file = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        std::fs::write(file, "0").expect("rp_filter off");
    }
    helper
}

/// A socket that waits for datagrams, but not for ever.
fn listen(service: SocketAddr) -> UdpSocket {
    let listener = UdpSocket::bind(service).expect("the service's socket");
    listener.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    listener
}

/// Sends `inside` through a tunnel of `protocol` over loopback and expects `payload` at `listener`.
fn through_the_tunnel(protocol: i32, outer: IpAddr, listener: &UdpSocket, inside: &[u8], payload: &[u8]) {
    let domain = if outer.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let tunnel = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol))).expect("a raw socket");
    tunnel.send_to(inside, &SockAddr::from(SocketAddr::new(outer, 0))).expect("sending into the tunnel");
    let mut buffer = [0; 2048];
    let (length, from) = listener.recv_from(&mut buffer).expect("the datagram that was in the tunnel");
    assert_eq!(&buffer[..length], payload);
    assert_eq!(from.port(), 40_000);
}

#[test]
fn ipv4_in_ipv4_and_in_ipv6_comes_out() {
    let _helper = real_server("192.0.2.10/32");
    let payload = b"in the tunnel";
    let mut packet = Vec::new();
    PacketBuilder::ipv4([198, 51, 100, 1], [192, 0, 2, 10], 64)
        .udp(40_000, 9_000)
        .write(&mut packet, payload)
        .expect("a packet");
    let listener = listen("192.0.2.10:9000".parse().expect("an address"));
    for outer in ["127.0.0.1", "::1"] {
        through_the_tunnel(4, outer.parse().expect("an address"), &listener, &packet, payload);
    }
}

#[test]
fn ipv6_in_ipv6_and_in_ipv4_comes_out() {
    let _helper = real_server("2001:db8:f::10/128 nodad");
    let source = "2001:db8:c::1".parse::<std::net::Ipv6Addr>().expect("an address");
    let vip = "2001:db8:f::10".parse::<std::net::Ipv6Addr>().expect("an address");
    // As long as a tunnel of 1520 bytes carries.
    let payload = [7; 1452];
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source.octets(), vip.octets(), 64)
        .udp(40_000, 9_000)
        .write(&mut packet, &payload)
        .expect("a packet");
    let listener = listen(SocketAddr::new(vip.into(), 9_000));
    for outer in ["::1", "127.0.0.1"] {
        through_the_tunnel(41, outer.parse().expect("an address"), &listener, &packet, &payload);
    }
}
