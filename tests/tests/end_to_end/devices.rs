//! NICs by name: each kind of device that works without hardware, with a packet going through where one can.

use std::path::Path;

use shunt_tests::topology::Lab;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, mac, real_mac};
use shunt_tests::topology::binary;
use shunt_tests::topology::director::{Director, real};
use shunt_tests::topology::frames::{Mac, Packet, Transport, arp, at, ip};
use shunt_tests::topology::hosts::Hosts;
use shunt_tests::topology::wire::Wire;

pub const SERVICES: &str = r#"
[[service]]
name = "nat4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "nat"
real = [{ address = "10.1.0.11:8080" }]
[[service]]
name = "tun6"
listen = "[2001:db8:f::10]:80"
protocol = "tcp"
forward = "tun"
real = [{ address = "[2001:db8:1::11]:80" }]
"#;

/// NAT there and back, TUN in IPv6.
fn passes(arms: &Arms, running: &Running) {
    let macs = [ROUTER, running.front];
    let sent = Packet::new(Transport::Tcp("S"), macs, at("198.51.100.7:40000"), at("192.0.2.10:80"));
    arms.front.send(&sent.bytes());
    let there = Packet {
        from: running.back,
        to: real_mac(11),
        destination: at("10.1.0.11:8080"),
        ttl: 63,
        ..sent.clone()
    };
    arms.back.expect_frame(&there.bytes());
    let answer = there.answered(Transport::Tcp("SA"));
    arms.back.send(&answer.bytes());
    let back = Packet { from: running.front, to: ROUTER, source: sent.destination, ttl: 63, ..answer };
    arms.front.expect_frame(&back.bytes());

    let sent = Packet::new(Transport::Tcp("S"), macs, at("[2001:db8:c::7]:40000"), at("[2001:db8:f::10]:80"));
    arms.front.send(&sent.bytes());
    let there = Packet { from: running.back, to: real_mac(11), ttl: 63, ..sent };
    arms.back.expect_frame(&there.tunnelled(ip("2001:db8:1::1"), ip("2001:db8:1::11")));
    running.director.settled();
}

#[test]
fn tap() {
    let (arms, running) = Arms::on_taps(SERVICES);
    passes(&arms, &running);
}

#[test]
fn af_xdp() {
    let arms = Arms::on("af_xdp");
    let running = arms.start(SERVICES);
    passes(&arms, &running);
}

#[test]
fn raw_device_arguments() {
    let mut arms = Arms::new();
    arms.devices = ["net_af_packet7,iface=front".to_owned(), "net_af_packet8,iface=back".to_owned()];
    let running = arms.start(SERVICES);
    passes(&arms, &running);
}

/// A packet of 8000 bytes passes where the interfaces take it, whether or not the file says how large packets are.
#[test]
fn af_packet_takes_large_packets() {
    for mtu in [None, Some(9000)] {
        let arms = Arms::new();
        arms.lab.ip(
            "link set front mtu 9000\nlink set f0 mtu 9000\nlink set back mtu 9000\nlink set b0 mtu 9000",
        );
        let configuration = mtu.map_or(arms.configuration(SERVICES), |mtu| arms.with_mtu(mtu, SERVICES));
        let running = Running::of_director(&arms, &configuration);
        passes(&arms, &running);
        let macs = [ROUTER, running.front];
        let (client, vip) = (at("198.51.100.7:40000"), at("192.0.2.10:80"));
        let sent = Packet { payload: vec![7; 7960], ..Packet::new(Transport::Tcp("PA"), macs, client, vip) };
        arms.front.send(&sent.bytes());
        let there = Packet {
            from: running.back,
            to: real_mac(11),
            ttl: 63,
            destination: at("10.1.0.11:8080"),
            ..sent
        };
        arms.back.expect_frame(&there.bytes());
    }
}

/// A larger `mtu` than the driver takes is refused by `check` and at the start, with what it takes.
#[test]
fn what_drivers_do_not_take_is_refused() {
    for (device, mtu, most) in
        [("tap:t0", 1501, 1500), ("memif:/tmp/m.sock", 9000, 1500), ("af_xdp:front", 3000, 1964)]
    {
        let lab = Lab::new();
        lab.cable(["front", "f0"], 1);
        let configuration =
            one_arm(&lab, device).replace("\ndevice = ", &format!("\nmtu = {mtu}\ndevice = "));
        let want = format!("mtu is {mtu} ({mtu}): {device} takes packets of at most {most} bytes: ");
        let said = Director::refused(&lab, &configuration);
        assert!(said.contains(&want), "{said}");
        let file = lab.write("checked.toml", &configuration);
        let checked = lab.run(binary::shunt(), &["check", &file.display().to_string()]);
        assert!(checked.code == Some(1) && checked.out.contains(&want), "{checked:?}");
    }
    // An interface that takes more, on which the file says nothing, is opened for what the driver takes.
    let lab = Lab::new();
    lab.cable(["front", "f0"], 1);
    lab.ip("link set front mtu 3000\nlink set f0 mtu 3000");
    let director = Director::start(&lab, &one_arm(&lab, "af_xdp:front"));
    assert_eq!(director.status().nics[0].mtu, 1964);
}

/// A PCI function that is not there is told of as such, by `check` and at the start.
#[test]
fn a_pci_function_that_is_not_there() {
    let lab = Lab::new();
    let configuration = one_arm(&lab, "0000:fe:1f.7");
    let want = "no PCI function 0000:fe:1f.7 on this machine";
    let said = Director::refused(&lab, &configuration);
    assert!(said.contains(want) && !said.contains("DPDK"), "{said}");
    let file = lab.write("checked.toml", &configuration);
    let checked = lab.run(binary::shunt(), &["check", &file.display().to_string()]);
    assert!(
        checked.code == Some(0) && checked.out.contains(&format!("warning: nic \"only\": {want}")),
        "{checked:?}"
    );
}

/// One NIC in the network of the VIP.
fn one_arm(lab: &Lab, device: &str) -> String {
    lab.runtime(1, "connections = 1024")
        + &format!(
            r#"
[[nic]]
name = "only"
device = "{device}"
addresses = ["192.0.2.2/24"]
[[service]]
name = "web"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "dr"
real = [{{ address = "192.0.2.21:80" }}]
"#
        )
}

/// A capture file (libpcap's format, Ethernet) with these frames.
fn capture(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        let length = frame.len() as u32;
        for word in [0, 0, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).expect("a capture file");
}

/// The frames of a capture file, as far as they are whole.
fn captured(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((head, data)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((frame, next)) = data.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = next;
    }
    frames
}

#[test]
fn pcap() {
    /// What the driver gives its first NIC.
    const OWN: Mac = [2, 0x70, 0x63, 0x61, 0x70, 0];
    let lab = Lab::new();
    let (input, output) = (lab.path("in.pcap"), lab.path("out.pcap"));
    let (client, vip) = (at("192.0.2.7:40000"), at("192.0.2.10:80"));
    let syn = Packet::new(Transport::Tcp("S"), [ROUTER, OWN], client, vip);
    let real_server = (real_mac(21), ip("192.0.2.21"));
    let told = arp(2, [real_mac(21), OWN], real_server, (OWN, ip("192.0.2.2")));
    capture(&input, &[told, syn.bytes()]);
    let device = format!("pcap:{},{},infinite_rx=1", input.display(), output.display());
    let director = Director::start(&lab, &one_arm(&lab, &device));
    let status = director
        .wait_until("packets for the real server", |status| real(status, "192.0.2.21:80").packets_in > 10);
    assert_eq!(mac(&status, 0), OWN);
    let said = director.command(&lab, &["stop"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let want = Packet { from: OWN, to: real_mac(21), ttl: 63, ..syn }.bytes();
    let frames = captured(&output);
    assert!(frames.iter().filter(|frame| **frame == want).count() > 10, "{} frames", frames.len());
}

#[test]
fn null() {
    let lab = Lab::new();
    let director = Director::start(&lab, &one_arm(&lab, "null:"));
    let status = director.wait_until("frames", |status| status.books.received > 1000);
    // Frames of zeros are for another MAC.
    assert!(director.dropped("other_mac") + director.dropped("ether_type") > 0, "{:?}", director.reasons());
    assert!(status.books.balanced);
    let said = director.command(&lab, &["stop"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// What a ring NIC sends comes back to it: the director's own frames, which must not become a storm.
#[test]
fn ring() {
    let lab = Lab::new();
    let director = Director::start(&lab, &one_arm(&lab, "ring:loop"));
    let status = director.wait_until("announcements that came back", |status| status.books.received >= 2);
    assert!(status.books.balanced);
    let status = director.settled();
    assert!(status.books.sent < 100, "{:?}", status.books);
    assert!(!director.log().contains("also claims"), "{}", director.log());
}

/// Two directors, one behind the other, with `links` between them: those of the first and of the second.
fn two_in_a_row(second_first: bool, links: [String; 2], lab: &Lab) {
    let beside = lab.beside();
    lab.cable(["front", "f0"], 1);
    lab.cable(["back", "b0"], 1);
    let service = |real: &str| {
        format!(
            "[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\nforward = \"dr\"\n\
             real = [{{ address = \"{real}:80\" }}]\n"
        )
    };
    let nics = |[front, front_net]: [&str; 2], [back, back_net]: [&str; 2]| {
        format!(
            "[[nic]]\nname = \"front\"\ndevice = \"{front}\"\naddresses = [\"{front_net}\"]\n\
             [[nic]]\nname = \"back\"\ndevice = \"{back}\"\naddresses = [\"{back_net}\"]\n"
        )
    };
    let first = lab.runtime(1, "connections = 1024")
        + &nics(["af_packet:front", "192.0.2.2/24"], [&links[0], "172.16.0.1/24"])
        + &service("172.16.0.2");
    let second = beside.runtime(1, "connections = 1024")
        + &nics([&links[1], "172.16.0.2/24"], ["af_packet:back", "10.1.0.1/24"])
        + &service("10.1.0.11");
    let reals = Hosts::on("b0", &[(ip("10.1.0.11"), real_mac(11))]);
    let (front, back) = (Wire::open("f0"), Wire::open("b0"));
    let (first, second) = if second_first {
        let second = Director::start(&beside, &second);
        (Director::start(lab, &first), second)
    } else {
        let first = Director::start(lab, &first);
        (first, Director::start(&beside, &second))
    };
    let [macs, macs_behind] = [first.wait_resolved(), second.wait_resolved()];
    let (client, vip) = (at("192.0.2.7:40000"), at("192.0.2.10:80"));
    let sent = Packet::new(Transport::Tcp("S"), [ROUTER, mac(&macs, 0)], client, vip);
    front.send(&sent.bytes());
    back.expect_frame(&Packet { from: mac(&macs_behind, 1), to: real_mac(11), ttl: 62, ..sent }.bytes());
    // What a sender finds no room for only the sender knows.
    let missed =
        |director: &Director| -> Vec<_> { director.settled().nics.iter().map(|nic| nic.missed).collect() };
    assert_eq!((missed(&first), missed(&second)), (vec![Some(0), None], vec![None, Some(0)]));
    drop(reals);
}

#[test]
fn memif_between_two_directors() {
    let lab = Lab::new();
    let socket = lab.path("memif.sock").display().to_string();
    let links = ["server", "client"].map(|role| format!("memif:{socket},role={role}"));
    two_in_a_row(false, links, &lab);
}

#[test]
fn virtio_user_and_vhost_between_two_directors() {
    let lab = Lab::new();
    let socket = lab.path("vhost.sock").display().to_string();
    let links = [format!("virtio_user:{socket}"), format!("net_vhost0,iface={socket}")];
    two_in_a_row(true, links, &lab);
}
