//! Two kernel sides on one machine, joined by a wire of memory: their sockets meet, their neighbours are found by
//! two neighbour machines. Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::poll::{PollFd, PollFlags, poll};

use super::*;
use crate::neighbour::{Machine, Named, Nic, Output};

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
        neighbours: vec![
            ("192.0.2.77".parse().unwrap(), Mac([2, 0, 0, 0, 0, 0x77])),
            ("2001:db8::77".parse().unwrap(), Mac([2, 0, 0, 0, 0, 0x78])),
        ],
        routes: vec![
            (format!("198.51.{last}.0/24").parse().unwrap(), Some("192.0.2.99".parse().unwrap())),
            (format!("2001:db8:{last}::/48").parse().unwrap(), None),
        ],
    }
}

/// One end of the wire: a kernel side and the machine that answers for it.
struct End {
    kernel: Kernel,
    machine: Machine<()>,
}

impl End {
    fn new(kernel: Kernel, side: &NicSide) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(now);
        let nic = Nic { mac: side.mac, addresses: side.addresses.clone() };
        machine.set_owned(now, vec![nic], Vec::new(), &mut Vec::new());
        Self { kernel, machine }
    }

    /// A frame from the wire; returns frames for the wire.
    fn receive(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let arp = frame[12..14] == [8, 6];
        let discovery = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && (133..138).contains(&frame[54]);
        let to_kernel = if arp || discovery {
            self.machine.frame(Instant::now(), NicId(0), frame, &mut out)
        } else {
            true
        };
        if to_kernel {
            assert!(self.kernel.write(NicId(0), frame));
        }
        let frame = |output| if let Output::Transmit { frame, .. } = output { Some(frame) } else { None };
        out.into_iter().filter_map(frame).collect()
    }
}

/// Carries frames between two ends until told to stop.
fn wire(mut ends: [End; 2], stop: &AtomicBool) {
    let mut buffer = vec![0; Kernel::FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        for from in 0..2 {
            while let Some(length) = ends[from].kernel.read(NicId(0), &mut buffer).unwrap() {
                for back in ends[1 - from].receive(&buffer[..length]) {
                    ends[from].receive(&back);
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
    // Destination, gateway and mask as the kernel prints them: little-endian.
    assert!(routes.contains("shunt-front\t00000000\tFE0200C0"), "{routes}");
    assert!(routes.contains("shunt-front\t000133C6\t630200C0"), "{routes}");
    assert!(addresses.contains("20010db8000000000000000000000001"), "{addresses}");
    assert!(addresses.contains("fe80000000000000000000fffe00ee01"), "{addresses}");
    let flags: Vec<&str> = addresses.lines().filter(|line| line.starts_with("2001")).collect();
    assert!(flags.iter().all(|line| line.split_whitespace().nth(4) != Some("40")), "tentative: {flags:?}");

    let mut other = side(7);
    other.mac = side(1).mac;
    other.gateways = vec!["192.0.2.253".parse().unwrap()];
    settings.update(std::slice::from_ref(&other)).unwrap();
    let (routes, addresses) = shown(&kernel);
    assert!(routes.contains("shunt-front\t00000000\tFD0200C0"), "{routes}");
    assert!(!routes.contains("FE0200C0") && !routes.contains("000133C6"), "{routes}");
    assert!(routes.contains("shunt-front\t000733C6\t630200C0"), "{routes}");
    assert!(!addresses.contains("20010db8000000000000000000000001"), "{addresses}");
    assert!(addresses.contains("20010db8000000000000000000000007"), "{addresses}");
    // The kernel is asked for nothing when nothing changes: what is gone stays so.
    let delete = || std::process::Command::new("ip").args(["route", "del", "default"]).status();
    assert!(kernel.namespace().run(delete).unwrap().unwrap().success());
    settings.update(std::slice::from_ref(&other)).unwrap();
    assert!(!shown(&kernel).0.contains("FD0200C0"));
    other.mtu -= 1;
    settings.update(&[other]).unwrap();
    assert!(shown(&kernel).0.contains("shunt-front\t00000000\tFD0200C0"));
    assert!(matches!(settings.update(&[side(7)]), Err(KernelError::Nics)));
    assert!(matches!(settings.update(&[]), Err(KernelError::Nics)));
}

#[test]
fn an_address_that_cannot_be_is_named() {
    let mut wrong = side(1);
    wrong.gateways = vec!["127.0.0.1".parse().unwrap()];
    let error = Kernel::start(&[wrong]).err().expect("a loopback gateway").to_string();
    assert!(error.contains("shunt-front: route to 0.0.0.0/0 by 127.0.0.1 was refused"), "{error}");
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

/// The destination of the first frame about an address that comes out of a kernel side that is asked to send there.
fn sent_to(kernel: &Kernel, to: IpAddr) -> Mac {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let send = || UdpSocket::bind(any).unwrap().send_to(b"x", SocketAddr::new(to, 9)).unwrap();
    kernel.namespace().run(send).unwrap();
    let mut buffer = vec![0; Kernel::FRAME_MAX];
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing is sent to {to}");
        let Some(length) = kernel.read(NicId(0), &mut buffer).unwrap() else {
            thread::yield_now();
            continue;
        };
        let octets = match to {
            IpAddr::V4(to) => to.octets().to_vec(),
            IpAddr::V6(to) => to.octets().to_vec(),
        };
        if buffer[..length].windows(octets.len()).any(|window| window == octets) {
            return Mac(*buffer.first_chunk().unwrap());
        }
    }
}

#[test]
fn neighbours_that_are_told_are_not_asked() {
    let told = side(1);
    let (kernel, mut settings) = Kernel::start(std::slice::from_ref(&told)).unwrap();
    for (address, mac) in &told.neighbours {
        assert_eq!(sent_to(&kernel, *address), *mac);
    }
    // Told no more: everybody is asked.
    settings.update(&[NicSide { neighbours: Vec::new(), ..told.clone() }]).unwrap();
    for (address, _) in &told.neighbours {
        assert!(sent_to(&kernel, *address).is_group(), "{address}");
    }
}
