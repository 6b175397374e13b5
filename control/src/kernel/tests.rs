//! Two kernel sides on one machine, joined by a wire of memory: their sockets meet, their neighbours are found by
//! two neighbour machines. Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::poll::{PollFd, PollFlags, poll};
use shunt_dataplane::id::L4Port;
use shunt_dataplane::wire::build::{self, Ends};
use shunt_protocol::neighbour::message::{Speaker, announcement, reply};
use shunt_protocol::neighbour::{Machine, Named, Nic, Output};

use super::*;

fn side(last: u8) -> NicSide {
    NicSide {
        name: "front".to_owned(),
        mac: Mac([2, 0, 0, 0, 0xee, last]),
        mtu: 1400,
        addresses: vec![
            format!("192.0.2.{last}/24").parse().unwrap(),
            format!("2001:db8::{last}/64").parse().unwrap(),
        ],
        gateways: vec!["192.0.2.254".parse().unwrap(), "fe80::1".parse().unwrap()],
        routes: vec![
            (format!("198.51.{last}.0/24").parse().unwrap(), Some("192.0.2.99".parse().unwrap())),
            (format!("2001:db8:{last}::/48").parse().unwrap(), None),
        ],
    }
}

/// One end of the wire.
struct End {
    kernel: Kernel,
    mac: Mac,
}

impl End {
    fn new(kernel: Kernel, side: &NicSide) -> Self {
        Self { kernel, mac: side.mac }
    }

    /// A frame from the wire.
    fn receive(&self, frame: &[u8]) {
        let arp = frame[12..14] == [8, 6];
        let discovery = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && (133..138).contains(&frame[54]);
        assert!(!arp && !discovery, "a kernel side asks nobody: {frame:x?}");
        assert!(self.kernel.write(NicId(0), frame));
    }
}

/// Carries frames between two ends until told to stop, to the MAC that the control loop would know.
fn wire(ends: [End; 2], stop: &AtomicBool) {
    let mut buffer = vec![0; Kernel::FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        for from in 0..2 {
            while let Some(length) = ends[from].kernel.read(NicId(0), &mut buffer).unwrap() {
                let there = &ends[1 - from];
                if buffer[0] & 1 == 0 {
                    assert_eq!(buffer[..6], next_hop::MAC.0);
                    buffer[..6].copy_from_slice(&there.mac.0);
                    there.receive(&buffer[..length]);
                }
            }
        }
        let mut fds: Vec<PollFd<'_>> = ends
            .iter()
            .flat_map(|end| end.kernel.fds())
            .map(|(_, fd)| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        poll(&mut fds, 10_u16).unwrap();
    }
}

fn talk(a: &Namespace, b: &Namespace, address: IpAddr) {
    let listener = b.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    let there = listener.local_addr().unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| listener.accept().unwrap().0.write_all(&sent).unwrap());
        let received = a.run(|| {
            let mut stream = TcpStream::connect_timeout(&there, Duration::from_secs(5)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        assert!(received.unwrap() == sent, "{address}");
    });
}

#[test]
fn two_side_by_side_talk_over_their_taps() {
    let sides = [side(1), side(2)];
    let [a, b] = sides.each_ref().map(|side| Kernel::start(std::slice::from_ref(side)).unwrap().0);
    let [one, two] = [&a, &b].map(|kernel| kernel.namespace().clone());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let ends = [End::new(a, &sides[0]), End::new(b, &sides[1])];
        scope.spawn(|| wire(ends, &stop));
        // The wire must stop even when a talk panics.
        let talks = scope.spawn(|| {
            for address in ["192.0.2.2", "2001:db8::2"] {
                talk(&one, &two, address.parse().unwrap());
            }
        });
        let result = talks.join();
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn a_kernel_answers_the_machines_questions() {
    let host = side(2);
    let (kernel, _) = Kernel::start(std::slice::from_ref(&host)).unwrap();
    // As on any host outside.
    kernel.namespace().run(|| fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "0").unwrap()).unwrap();
    let now = Instant::now();
    let mut machine: Machine<()> = Machine::new(now);
    let mut out = Vec::new();
    let director = side(1);
    let director_mac = director.mac;
    machine.set_owned(
        now,
        vec![Nic { mac: director.mac, addresses: director.addresses }],
        Vec::new(),
        &mut out,
    );
    let asked = host.addresses.iter().map(|network| ((NicId(0), network.addr()), Named::Real));
    machine.set_named(now, asked, [], &mut out);
    let mut resolved = Vec::new();
    let mut buffer = vec![0; Kernel::FRAME_MAX];
    while resolved.len() < 2 {
        assert!(now.elapsed() < Duration::from_secs(20), "{resolved:?}");
        for output in out.drain(..) {
            match output {
                Output::Transmit { frame, .. } => assert!(kernel.write(NicId(0), &frame)),
                Output::Change(change) => resolved.push((change.address, change.mac)),
                _ => {}
            }
        }
        while let Some(length) = kernel.read(NicId(0), &mut buffer).unwrap() {
            // An advertisement goes by the routes.
            if buffer[..6] == next_hop::MAC.0 {
                buffer[..6].copy_from_slice(&director_mac.0);
            }
            machine.frame(Instant::now(), NicId(0), &buffer[..length], &mut out);
        }
        machine.tick(Instant::now(), &mut out);
        thread::yield_now();
    }
    resolved.sort_unstable();
    let want: Vec<_> = host.addresses.iter().map(|network| (network.addr(), Some(host.mac))).collect();
    assert_eq!(resolved, want);
}

/// What `ip` would show, from the files that tell it.
fn shown(kernel: &Kernel) -> (String, String) {
    kernel
        .namespace()
        .run(|| {
            let fib = fs::read_to_string("/proc/thread-self/net/route").unwrap();
            let v6 = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            (fib, v6)
        })
        .unwrap()
}

#[test]
fn addresses_and_routes_are_set_and_follow_an_update() {
    let (kernel, mut settings) = Kernel::start(&[side(1)]).unwrap();
    let (routes, addresses) = shown(&kernel);
    // Destination and gateway as the kernel prints them: little-endian. Routers and neighbours are one to it.
    for to in ["00000000", "000133C6", "000200C0"] {
        assert!(routes.contains(&format!("shunt-front\t{to}\t0B0000C0")), "{routes}");
    }
    assert_eq!(source(&kernel, "198.51.100.7"), "192.0.2.1");
    assert!(addresses.contains("20010db8000000000000000000000001"), "{addresses}");
    assert!(addresses.contains("fe80000000000000000000fffe00ee01"), "{addresses}");
    let flags: Vec<&str> = addresses.lines().filter(|line| line.starts_with("2001")).collect();
    assert!(flags.iter().all(|line| line.split_whitespace().nth(4) != Some("40")), "tentative: {flags:?}");

    let mut other = side(7);
    other.mac = side(1).mac;
    other.gateways = vec!["192.0.2.253".parse().unwrap()];
    settings.update(std::slice::from_ref(&other)).unwrap();
    let (routes, addresses) = shown(&kernel);
    assert!(routes.contains("shunt-front\t00000000\t") && !routes.contains("000133C6"), "{routes}");
    assert!(routes.contains("shunt-front\t000733C6\t0B0000C0"), "{routes}");
    assert_eq!(source(&kernel, "198.51.100.7"), "192.0.2.7");
    assert_eq!(source(&kernel, "2001:db8:7::9"), "2001:db8::7");
    assert_eq!(source(&kernel, "fe80::7%shunt-front"), "fe80::ff:fe00:ee01");
    assert!(!addresses.contains("20010db8000000000000000000000001"), "{addresses}");
    assert!(addresses.contains("20010db8000000000000000000000007"), "{addresses}");
    // The kernel is asked for nothing when nothing changes: what is gone stays so.
    let delete = || std::process::Command::new("ip").args(["route", "del", "default"]).status();
    assert!(kernel.namespace().run(delete).unwrap().unwrap().success());
    settings.update(std::slice::from_ref(&other)).unwrap();
    assert!(!shown(&kernel).0.contains("shunt-front\t00000000"));
    other.mtu -= 1;
    settings.update(&[other]).unwrap();
    assert!(shown(&kernel).0.contains("shunt-front\t00000000\t0B0000C0"));
    let stranger = NicSide { name: "other".to_owned(), ..side(7) };
    assert!(matches!(settings.update(&[stranger]), Err(KernelError::Nics)));
    assert!(matches!(settings.update(&[]), Err(KernelError::Nics)));
}

#[test]
fn an_address_that_cannot_be_is_named() {
    let mut wrong = side(1);
    wrong.addresses.push("ff02::7/64".parse().unwrap());
    let error = Kernel::start(&[wrong]).err().expect("a multicast address").to_string();
    assert!(error.contains("shunt-front: address ff02::7 was refused"), "{error}");
}

#[test]
fn interfaces_have_names_that_the_kernel_takes() {
    let named = |name: &str| NicSide { name: name.to_owned(), ..side(1) }.interface(NicId(3));
    assert_eq!(named("front"), "shunt-front");
    assert_eq!(named("ninechars"), "shunt-ninechars");
    for name in ["ten-chars.", "a/b", "ü"] {
        assert_eq!(named(name), "shunt-nic3", "{name}");
    }
}

/// The address that the kernel side speaks from to an address.
fn source(kernel: &Kernel, to: &str) -> String {
    let (to, of_link) = to.split_once('%').map_or((to, None), |(to, name)| (to, Some(name)));
    let any: SocketAddr = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" }.parse().unwrap();
    let ask = || {
        let socket = UdpSocket::bind(any).unwrap();
        let scope = of_link.map_or(0, |name| nix::net::if_::if_nametoindex(name).unwrap());
        let mut to = SocketAddr::new(to.parse().unwrap(), 9);
        if let SocketAddr::V6(to) = &mut to {
            to.set_scope_id(scope);
        }
        socket.connect(to).unwrap();
        socket.local_addr().unwrap().ip().to_string()
    };
    kernel.namespace().run(ask).unwrap()
}

/// What is in the kernel side's neighbour table.
fn neighbour_table(kernel: &Kernel) -> Vec<String> {
    let show = || std::process::Command::new("ip").args(["neigh", "show", "nud", "all"]).output().unwrap();
    let said = String::from_utf8(kernel.namespace().run(show).unwrap().stdout).unwrap();
    let unicast = said.lines().filter(|line| !line.starts_with("ff02::") && line.contains("shunt-front"));
    unicast.map(str::to_owned).collect()
}

#[test]
fn all_neighbours_are_one_and_nothing_heard_changes_that() {
    let (kernel, _) = Kernel::start(&[side(1)]).unwrap();
    let before = neighbour_table(&kernel);
    assert!(!before.is_empty());
    let send = |to: String| {
        let any: SocketAddr = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }.parse().unwrap();
        let to: SocketAddr = to.parse().unwrap();
        kernel.namespace().run(|| UdpSocket::bind(any).unwrap().send_to(b"x", to).unwrap()).unwrap();
    };
    let all = |kernel: &Kernel| {
        let mut buffer = vec![0; Kernel::FRAME_MAX];
        let mut to = Vec::new();
        while let Some(length) = kernel.read(NicId(0), &mut buffer).unwrap() {
            if buffer[0] & 1 == 0 {
                to.push((Mac(*buffer.first_chunk().unwrap()), buffer[..length].to_vec()));
            }
        }
        to
    };
    (3..100).for_each(|host| send(format!("192.0.2.{host}:9")));
    (3..100).for_each(|host| send(format!("[2001:db8::{host}]:9")));
    send("198.51.100.7:9".to_owned());
    // Forged: where a neighbour is, at the director's own MAC and to everybody; a better way (RFC 792); a router (RFC 4861).
    let liar = Mac([2, 0, 0, 0, 0, 0x66]);
    let own = side(1).mac;
    for address in ["192.0.2.9", "2001:db8::9"] {
        let speaker = Speaker { mac: liar, address: address.parse().unwrap() };
        let director = if address.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
        for frame in [announcement(speaker), reply(speaker, director.parse().unwrap(), own)] {
            assert!(kernel.write(NicId(0), &frame));
        }
    }
    let sent = all(&kernel);
    assert_eq!(sent.len(), 195);
    let first = sent.iter().find(|(_, frame)| frame[12..14] == [8, 0]).unwrap().1.clone();
    let ends = Ends {
        source_mac: liar,
        destination_mac: own,
        source: Ipv4Addr::new(192, 0, 2, 254),
        destination: Ipv4Addr::new(192, 0, 2, 1),
        source_port: L4Port(0),
        destination_port: L4Port(0),
    };
    let redirect = build::icmp(&ends, 5, 1, u32::from_be_bytes([192, 0, 2, 66]), &first[14..]);
    assert!(kernel.write(NicId(0), &redirect));
    assert_eq!(all(&kernel).len(), 0, "nobody is answered");
    (3..100).for_each(|host| send(format!("192.0.2.{host}:9")));
    (3..100).for_each(|host| send(format!("[2001:db8::{host}]:9")));
    let sent = all(&kernel);
    assert_eq!(sent.len(), 194);
    assert!(sent.iter().all(|(to, _)| *to == next_hop::MAC), "{sent:x?}");
    assert_eq!(neighbour_table(&kernel), before);
}
