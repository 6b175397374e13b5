//! NICs of packet sockets that take what senders leave to a NIC: kernels with all their offloads on talk to each other through the director.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use shunt_tests::topology::arms::{RUNTIME, configuration};
use shunt_tests::topology::director::Director;
use shunt_tests::topology::place::Place;
use shunt_tests::topology::{Lab, PATIENCE};

/// Bytes that go each way.
const AMOUNT: usize = 4 << 20;
/// The most bytes of an Ethernet frame without offloads.
const FRAME: u64 = 1514;
const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8:f::10"];

/// Services of a method.
fn services(method: &str) -> String {
    let of = |name: &str, listen: &str, real: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"{listen}:80\"\nprotocol = \"tcp\"\nforward = \"{method}\"\n\
             real = [{{ address = \"{real}\", weight = 1 }}]\n"
        )
    };
    of("web4", "192.0.2.10", "10.1.0.11") + &of("web6", "[2001:db8:f::10]", "2001:db8:1::11")
}

/// A client and a real server with kernels of their own.
struct World {
    lab: Lab,
    client: Place,
    real: Place,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new();
        let world = Self { client: Place::new(), real: Place::new(), lab };
        for (place, there, here) in [(&world.client, "front", "c0"), (&world.real, "back", "r0")] {
            let queues = "numrxqueues 1 numtxqueues 1";
            world.lab.ip(&format!(
                "link add {there} {queues} type veth peer name {here} {queues} netns {}\nlink set {there} up",
                place.pid()
            ));
            place.ip(&format!("link set lo up\nlink set {here} up"));
        }
        world.client.ip("addr add 192.0.2.1/24 dev c0\naddr add 2001:db8:f::1/64 dev c0 nodad\n\
             route add 10.1.0.0/24 via 192.0.2.2\nroute add 2001:db8:1::/64 via 2001:db8:f::2");
        world.real.ip("addr add 10.1.0.11/24 dev r0\naddr add 2001:db8:1::11/64 dev r0 nodad\n\
             addr add 192.0.2.10/32 dev lo\naddr add 2001:db8:f::10/128 dev lo nodad\n\
             route add default via 10.1.0.1\nroute add default via 2001:db8:1::1");
        for address in ["0.0.0.0:80", "[::]:80"] {
            world.real.run(move || echo(address.parse().expect("an address")));
        }
        world
    }

    /// A cable past the director, by which the real server answers: a director takes no packet that comes from its own VIP.
    fn past_the_director(&self) {
        self.client.cable_to(&self.real, "c1", "r1");
        self.client.ip("addr add 10.9.0.1/24 dev c1\naddr add 2001:db8:9::1/64 dev c1 nodad");
        self.real.ip("addr add 10.9.0.2/24 dev r1\naddr add 2001:db8:9::2/64 dev r1 nodad\n\
             route add 192.0.2.1/32 via 10.9.0.1\nroute add 2001:db8:f::1/128 via 2001:db8:9::1");
    }

    fn start(&self, workers: usize, devices: [&str; 2], services: &str) -> Director {
        Director::start(&self.lab, &configuration(&self.lab, workers, RUNTIME, &devices, services))
    }

    /// Sends to a VIP and has it back.
    fn carry(&self, vip: &str, connections: usize) {
        let to = SocketAddr::new(vip.parse::<IpAddr>().expect("an address"), 80);
        self.client.run(move || {
            let all: Vec<_> =
                (0..connections).map(|_| std::thread::spawn(move || there_and_back(to))).collect();
            all.into_iter().for_each(|one| one.join().expect("what was sent came back"));
        });
    }

    /// Segments and datagrams that came to an end with a wrong checksum.
    fn wrong_checksums(&self) -> u64 {
        [&self.client, &self.real].map(|place| place.run(wrong_checksums)).iter().sum()
    }
}

fn echo(at: SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    if at.is_ipv6() {
        socket.set_only_v6(true).expect("IPv6 alone");
    }
    socket.bind(&at.into()).expect("a port");
    socket.listen(128).expect("a listener");
    let listener = TcpListener::from(socket);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a socket");
                let mut buffer = vec![0; 1 << 18];
                while let Ok(read @ 1..) = reader.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn there_and_back(to: SocketAddr) {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let sent: Vec<u8> = (0..AMOUNT).map(|at| (at % 251) as u8).collect();
    let mut reader = stream.try_clone().expect("a socket");
    let came = std::thread::spawn(move || {
        let mut came = vec![0; AMOUNT];
        reader.read_exact(&mut came).map(|()| came)
    });
    stream.write_all(&sent).expect("taken");
    assert!(came.join().expect("read").expect("all of it") == sent, "other bytes came back");
}

fn wrong_checksums() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("/proc");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("Tcp:") || line.starts_with("Udp:"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let of = |pair: &[Vec<&str>]| {
        let column = pair[0].iter().position(|name| *name == "InCsumErrors").expect("a column");
        pair[1][column].parse::<u64>().expect("a number")
    };
    rows.chunks(2).map(of).sum()
}

/// Whether the director passed on frames larger than any without offloads, and whether it cut such.
fn frames_were_large(director: &Director) -> [bool; 2] {
    let status = director.settled();
    assert!(status.advice.iter().all(|line| !line.contains("ethtool")), "{:?}", status.advice);
    let bytes: u64 = status.services.iter().flat_map(|of| &of.reals).map(|real| real.bytes_in).sum();
    let packets: u64 = status.services.iter().flat_map(|of| &of.reals).map(|real| real.packets_in).sum();
    assert!(bytes > AMOUNT as u64, "{bytes}");
    let received = bytes > packets * FRAME * 2;
    let made = status.workers.iter().map(|worker| worker.books.made).sum::<u64>();
    [received, made > 1000]
}

#[test]
fn what_senders_leave_to_a_nic_goes_on_so() {
    for (method, is_filled_in) in [("nat", false), ("nat", true), ("dr", false), ("dr", true)] {
        let world = World::new();
        if method == "dr" {
            world.past_the_director();
        }
        // What leaves by these is filled in and cut there, so that receivers look at checksums; ends of a veth pair believe each other.
        for interface in is_filled_in.then_some(["front", "back"]).into_iter().flatten() {
            let said = world.lab.run("ethtool", &["-K", interface, "tx", "off", "tso", "off", "gso", "off"]);
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        let director = world.start(1, ["af_packet:front", "af_packet:back"], &services(method));
        for vip in VIPS {
            world.carry(vip, 2);
        }
        assert_eq!(frames_were_large(&director), [true, false], "{method}");
        assert_eq!(world.wrong_checksums(), 0, "{method}");
    }
}

#[test]
fn two_workers_hand_it_over() {
    let world = World::new();
    let director = world.start(2, ["af_packet:front", "af_packet:back"], &services("nat"));
    for vip in VIPS {
        world.carry(vip, 4);
    }
    assert_eq!(frames_were_large(&director), [true, false]);
    assert_eq!(world.wrong_checksums(), 0);
}

/// A NIC that takes none, or a tunnel anywhere: what senders left is done when it comes.
#[test]
fn or_is_done_by_the_director() {
    let tunnel = "[[service]]\nname = \"tunnel\"\nlisten = \"192.0.2.12:80\"\nprotocol = \"tcp\"\nforward = \"tun\"\n\
                  real = [{ address = \"10.1.0.11\" }]\n";
    for (back, more) in [("net_af_packet8,iface=back", ""), ("af_packet:back", tunnel)] {
        let world = World::new();
        if more.is_empty() {
            world.real.ethtool(&["-K", "r0", "tx", "off", "tso", "off", "gso", "off"]);
        }
        let director = world.start(1, ["af_packet:front", back], &(services("nat") + more));
        for vip in VIPS {
            world.carry(vip, 2);
        }
        assert_eq!(frames_were_large(&director), [false, true], "{back}");
        assert_eq!(world.wrong_checksums(), 0, "{back}");
    }
}

/// A way that takes smaller packets: the sender is told, and its segments become smaller.
#[test]
fn a_smaller_mtu_behind() {
    let world = World::new();
    world.lab.ip("link set back mtu 1300");
    world.real.ip("link set r0 mtu 1300");
    let datagrams = "[[service]]\nname = \"udp\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"udp\"\n\
                     forward = \"nat\"\nreal = [{ address = \"10.1.0.11\" }]\n";
    let director = world.start(1, ["af_packet:front", "af_packet:back"], &(services("nat") + datagrams));
    for vip in VIPS {
        world.carry(vip, 1);
    }
    assert_eq!(frames_were_large(&director), [true, false]);
    // What may be split is, once its checksum is filled in.
    world.client.run(|| std::fs::write("/proc/sys/net/ipv4/ip_no_pmtu_disc", "1").expect("set"));
    world.real.run(|| {
        let socket = UdpSocket::bind("10.1.0.11:80").expect("a port");
        std::thread::spawn(move || {
            let mut datagram = [0; 2000];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                let _ = socket.send_to(&[datagram[length - 1]], from);
            }
        });
    });
    let answer = world.client.run(|| {
        let socket = UdpSocket::bind("192.0.2.1:7000").expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.send_to(&[7; 1400], "192.0.2.10:80").expect("sent");
        let mut answer = [0; 16];
        socket.recv_from(&mut answer).map(|(length, _)| answer[..length].to_vec())
    });
    assert_eq!(answer.expect("an answer"), [7]);
    assert_eq!(world.wrong_checksums(), 0);
}

/// The answers to checks, which the kernel side takes, are larger than any MTU, too.
#[test]
fn checks_are_answered_by_large_frames() {
    let world = World::new();
    world.real.run(|| {
        let listener = TcpListener::bind("10.1.0.11:8080").expect("a port");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked);
                let body = vec![b'x'; 300_000];
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
    });
    let checked = "[[service]]\nname = \"checked\"\nlisten = \"192.0.2.11:8080\"\nprotocol = \"tcp\"\n\
                   real = [{ address = \"10.1.0.11:8080\" }]\ncheck = { kind = \"http\", path = \"/\", interval = \"200ms\" }\n";
    let director = world.start(1, ["af_packet:front", "af_packet:back"], checked);
    director.wait_until("the real server is up", |status| {
        status.services[0].reals[0].reason.as_deref() == Some("GET / succeeds")
    });
    director.settled();
}
