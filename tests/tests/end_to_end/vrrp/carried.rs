//! Open connections that carry data while their director is killed.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use shunt_tests::topology::place::Place;
use shunt_tests::topology::wait_for;
use socket2::{Domain, Socket, Type};

use super::link::{Link, OUTAGE_MAX};
use super::{FAST, role, wait_for_role};

/// The ports of the services, each with its scheduler.
const SERVICES: [(u16, &str); 2] = [(7, "sh"), (8, "mh")];
/// Clients of each service, each with an address of its own.
const CLIENTS: u8 = 24;

/// A connection that carries data until it is told to end.
struct Carried {
    /// Blocks that came back.
    blocks: Arc<AtomicU32>,
    ends: Arc<AtomicBool>,
    /// The real server's number, or what went wrong.
    thread: JoinHandle<std::io::Result<u8>>,
}

impl Carried {
    /// From an address of the client's.
    fn begin(client: &Place, from: IpAddr, to: SocketAddr) -> Self {
        let (blocks, ends) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (blocks.clone(), ends.clone());
        let thread = client.run(move || std::thread::spawn(move || carry(from, to, &count, &end)));
        Self { blocks, ends, thread }
    }
}

fn carry(from: IpAddr, to: SocketAddr, count: &AtomicU32, end: &AtomicBool) -> std::io::Result<u8> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), OUTAGE_MAX)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(OUTAGE_MAX))?;
    let mut number = [0];
    stream.read_exact(&mut number)?;
    while !end.load(Ordering::Relaxed) {
        let block = [count.load(Ordering::Relaxed) as u8; 2000];
        let mut back = [0; 2000];
        stream.write_all(&block)?;
        stream.read_exact(&mut back)?;
        assert_eq!(back, block, "data of another block");
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(number[0])
}

/// Says its number to each connection, and sends back what comes.
fn echo(place: &Place, number: u8) {
    for (l4_port, _) in SERVICES {
        place.run(move || {
            let listener = TcpListener::bind(("::", l4_port)).expect("a port");
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut reader = stream.try_clone().expect("a socket");
                        let _ = stream.write_all(&[number]);
                        std::io::copy(&mut reader, &mut stream)
                    });
                }
            });
        });
    }
}

/// `sh` and `mh` choose alike at both directors, and the one that takes over takes on what it does not know.
fn every_connection_goes_on(vip: &str) {
    let link = Link::new(vip);
    let second = link.real_server("real2", 21);
    let third = link.real_server("real3", 22);
    for (number, place) in [&link.real, &second, &third].into_iter().enumerate() {
        echo(place, number as u8);
    }
    let address = |last: u8| -> IpAddr {
        let text = if link.vip.is_ipv4() { format!("192.0.2.{last}") } else { format!("2001:db8::{last}") };
        text.parse().unwrap()
    };
    for client in 0..CLIENTS {
        let length = if link.vip.is_ipv4() { "24" } else { "64 nodad" };
        link.hub.ip(&format!("addr add {}/{length} dev link0", address(100 + client)));
    }
    let reals: Vec<String> =
        [20, 21, 22].map(|last| format!("{{ address = \"{}\" }}", address(last))).into_iter().collect();
    let service = |(l4_port, scheduler): (u16, &str)| {
        let listen = SocketAddr::new(link.vip, l4_port);
        format!(
            "[[service]]\nname = \"{scheduler}\"\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nscheduler = \"{scheduler}\"\n\
             real = [{}]\n",
            reals.join(", ")
        )
    };
    let vrrp = |priority: u8| format!("{FAST}\npriority = {priority}\n{}", SERVICES.map(service).concat());
    let beside = link.lab.beside();
    let master = link.director(&link.lab, "one", 2, &vrrp(250));
    wait_for_role(&master, "master");
    let backup = link.director(&beside, "two", 3, &vrrp(200));
    wait_for_role(&backup, "backup");

    let services = SERVICES.map(|(l4_port, _)| SocketAddr::new(link.vip, l4_port));
    let begin = |to: SocketAddr| (0..CLIENTS).map(move |client| (100 + client, to));
    let carried: Vec<Carried> = services
        .into_iter()
        .flat_map(begin)
        .map(|(last, to)| Carried::begin(&link.hub, address(last), to))
        .collect();
    let blocks = || carried.iter().map(|one| one.blocks.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let wait_more = |than: Vec<u32>, what: &str| {
        wait_for(what, || {
            let stuck = blocks().iter().zip(&than).filter(|(now, then)| now < &&(**then + 5)).count();
            if stuck == 0 { Ok(()) } else { Err(format!("{stuck} connections carry nothing")) }
        });
    };
    wait_more(blocks(), "data before the kill");
    assert_eq!(role(&backup.status()), "backup");
    master.signal(Signal::SIGKILL);
    let status = wait_for_role(&backup, "master");
    assert_eq!(status.vrrp[0].masterships, 1);
    wait_more(blocks(), "data after the kill");
    for one in &carried {
        one.ends.store(true, Ordering::Relaxed);
    }
    let ended: Vec<_> = carried.into_iter().map(|one| one.thread.join().expect("a client")).collect();
    let broken: Vec<_> = ended.iter().filter_map(|end| end.as_ref().err()).collect();
    assert!(broken.is_empty(), "broken: {broken:?}");
    let used: BTreeSet<u8> = ended.into_iter().flatten().collect();
    assert_eq!(used.len(), 3, "connections of all real servers were open");
}

#[test]
fn every_connection_of_sh_and_mh_goes_on_when_the_master_is_killed() {
    every_connection_goes_on("192.0.2.10");
}

#[test]
fn every_connection_of_sh_and_mh_goes_on_when_the_master_is_killed_ipv6() {
    every_connection_goes_on("2001:db8::10");
}
