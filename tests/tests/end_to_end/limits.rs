//! Tables and rings that are full, and services with nobody to serve: counted, shown, recovered from.

use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::director::{buffers_ready, limit, real};
use shunt_tests::topology::frames::{Packet, Transport, at, icmp, ip};
use shunt_tests::topology::wait_for;

fn service(weight: u8) -> String {
    format!(
        "[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\nforward = \"nat\"\n\
         real = [{{ address = \"10.1.0.11:8080\", weight = {weight} }}]\n"
    )
}

fn packet(running: &Running, number: u16, flags: &'static str) -> Packet {
    let client = format!("198.51.{}.{}:40000", 100 + number / 250, 1 + number % 250);
    Packet::new(Transport::Tcp(flags), [ROUTER, running.front], at(&client), at("192.0.2.10:80"))
}

/// Waits for a packet of this client at the real server.
fn arrives(arms: &Arms, packet: &Packet) {
    arms.back.expect("a client's packet at the real server", |frame| {
        Packet::read(frame).filter(|it| it.source == packet.source && it.transport == packet.transport)
    });
}

#[test]
fn full_connection_table() {
    const CAPACITY: u64 = 64;
    const CLIENTS: u16 = 200;
    let mut arms = Arms::new();
    arms.runtime = format!("connections = {CAPACITY}");
    let running = arms.start(&service(1));
    let director = &running.director;
    for number in 0..CLIENTS {
        // Open ones are not given up for others.
        for flags in ["S", "A"] {
            arms.front.send(&packet(&running, number, flags).bytes());
        }
    }
    let refused = u64::from(CLIENTS) - CAPACITY;
    director.wait_for_drops("table_full", refused);
    let status = director.settled();
    assert_eq!((status.workers[0].connections, director.dropped("table_full")), (CAPACITY, refused));
    let limit = limit(&status, "worker 0 connections IPv4");
    assert_eq!((limit.used, limit.most, limit.refused), (CAPACITY, CAPACITY, refused));
    let want = format!("worker 0 connections IPv4: full {refused} times: see `shunt drops`");
    assert!(status.advice.contains(&want), "{:?}", status.advice);
    let said = director.command(&arms.lab, &["status"]);
    assert!(
        said.out.contains(&format!("limit: worker 0 connections IPv4: 64 of 64 used, {refused} times full"))
    );

    // Established connections go on.
    let known = packet(&running, 0, "A");
    arms.front.send(&known.bytes());
    arrives(&arms, &known);
    // Connections that their real server resets end after 10 s, and new ones come in.
    for number in 1..20 {
        let client = packet(&running, number, "S").source;
        let reset =
            Packet::new(Transport::Tcp("RA"), [real_mac(11), running.back], at("10.1.0.11:8080"), client);
        arms.back.send(&reset.bytes());
    }
    director.wait_until("connections that ended", |status| status.workers[0].connections <= CAPACITY - 19);
    let new = packet(&running, CLIENTS + 1, "S");
    arms.front.send(&new.bytes());
    arrives(&arms, &new);
    assert_eq!(director.dropped("table_full"), refused);
}

/// One client fills the table; another one is served all the same, and what is open goes on. When it begins and ends is told once each.
#[test]
fn a_flood_of_one_client_keeps_nobody_out() {
    let arms = Arms::new();
    let services = format!("{}{}", service(1), service(1).replace("web", "dns").replace("tcp", "udp"));
    let running = arms.start(&services);
    let director = &running.director;
    let open = packet(&running, 1, "A");
    arms.front.send(&packet(&running, 1, "S").bytes());
    arms.front.send(&open.bytes());
    arrives(&arms, &open);
    let macs = [ROUTER, running.front];
    let flood = |transport, l4_port: u16| {
        let client = at(&format!("198.51.100.99:{l4_port}"));
        arms.front.send(&Packet::new(transport, macs, client, at("192.0.2.10:80")).bytes());
    };
    for l4_port in 1..=6000 {
        flood(Transport::Udp, l4_port);
        flood(Transport::Tcp("S"), l4_port);
    }
    // Others' packets must not get lost before the NIC.
    director.settled();
    for number in 10..60 {
        flood(Transport::Udp, 6000 + number);
        flood(Transport::Tcp("S"), 6000 + number);
        for flags in ["S", "A"] {
            let new = packet(&running, number, flags);
            arms.front.send(&new.bytes());
            arrives(&arms, &new);
        }
    }
    arms.front.send(&open.bytes());
    arrives(&arms, &open);
    director.wait_logged("worker 0 connections IPv4: full:");
    let status = director.settled();
    let shown = limit(&status, "worker 0 connections IPv4");
    assert!(shown.reclaimed + shown.refused > 7000 && shown.used <= 4096, "{shown:?}");
    assert_eq!(limit(&status, "worker 0 connections IPv6").reclaimed, 0);
    let drops = director.drops();
    let given_up =
        |kind: &str| drops.reclaimed.iter().find(|count| count.reason == kind).map(|count| count.count);
    assert!(given_up("half_open") > Some(0) && given_up("one_packet") > Some(0), "{:?}", drops.reclaimed);
    director.wait_logged("worker 0 connections IPv4: there is room again");
    assert_eq!(director.log().matches("worker 0 connections IPv4: full:").count(), 1);
    assert!(status.books.balanced);
}

#[test]
fn full_punt_ring() {
    let arms = Arms::new();
    let running = arms.start(&service(1));
    let director = &running.director;
    director.wait_for_buffers(buffers_ready(1));
    // For the director's own address: to the kernel side, which is slower than any worker.
    let local =
        Packet::new(Transport::Udp, [ROUTER, running.front], at("198.51.100.7:40000"), at("192.0.2.2:9"));
    let local = local.bytes();
    wait_for("a full punt ring", || {
        (0..20_000).for_each(|_| arms.front.send(&local));
        if director.dropped("punt_full") > 0 { Ok(()) } else { Err("it never was") }
    });
    let status = director.settled();
    let limit = limit(&status, "worker 0 punt ring");
    assert!(limit.refused > 0);
    let want = format!("worker 0 punt ring: full {} times: see `shunt drops`", limit.refused);
    assert!(status.advice.contains(&want), "{:?}", status.advice);
    director.wait_for_buffers(buffers_ready(1));

    // The kernel side answers as before.
    arms.front.send(&shunt_tests::topology::frames::ping(
        [ROUTER, running.front],
        ip("198.51.100.9"),
        ip("192.0.2.2"),
        1,
    ));
    arms.front.expect("an echo reply of the kernel side", |frame| {
        icmp(frame).filter(|(_, to, kind, _)| *to == ip("198.51.100.9") && *kind == 0)
    });
}

#[test]
fn no_real_server_with_weight() {
    let arms = Arms::new();
    let running = arms.start(&service(1));
    let director = &running.director;
    let known = packet(&running, 1, "S");
    arms.front.send(&known.bytes());
    arrives(&arms, &known);

    director.reload(&arms.lab, &arms.configuration(&service(0)));
    arms.front.send(&packet(&running, 2, "S").bytes());
    arms.front.expect("port unreachable from the VIP", |frame| {
        icmp(frame).filter(|it| *it == (ip("192.0.2.10"), ip("198.51.100.3"), 3, 3))
    });
    let replies = director.drops().replies;
    assert_eq!(replies.iter().find(|count| count.reason == "no_real").map(|count| count.count), Some(1));
    let status = director.settled();
    let want = "service \"web\": no real server is up and has weight: new clients are refused: bring one back, or give one weight";
    assert!(status.advice.iter().any(|line| line == want), "{:?}", status.advice);
    assert_eq!(real(&status, "10.1.0.11:8080").weight, 0);
    // Quiesced: what it has, it keeps.
    let known = packet(&running, 1, "A");
    arms.front.send(&known.bytes());
    arrives(&arms, &known);

    director.reload(&arms.lab, &arms.configuration(&service(1)));
    let new = packet(&running, 3, "S");
    arms.front.send(&new.bytes());
    arrives(&arms, &new);
    assert!(!director.status().advice.iter().any(|line| line == want));
}
