//! A NIC whose other end is a program (virtio_user, vhost, memif): it ends, and comes back, in both roles.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use shunt_tests::topology::Lab;
use shunt_tests::topology::arms::{ROUTER, mac, real_mac};
use shunt_tests::topology::director::{Director, buffers};
use shunt_tests::topology::frames::{Packet, Transport, at, ip};
use shunt_tests::topology::hosts::Hosts;
use shunt_tests::topology::wait_for;
use shunt_tests::topology::wire::Wire;

/// How long a director without its other end is looked at.
const WINDOW: Duration = Duration::from_secs(1);
/// Lines about a NIC that goes and about what is tried then: some at once, none again and again.
const LINES_MOST: usize = 30;
/// Packet buffers that a queue may hold one time and not another.
const BUFFERS_MORE: u64 = 64;
/// The NIC in the middle, of the first director.
const LINK: usize = 1;

/// Two directors in a row, which programs joined: a client's packet passes the one that stays, then the one that ends.
struct Row {
    stays: Lab,
    ends: Lab,
    configurations: [String; 2],
    front: Wire,
    back: Wire,
    _reals: Hosts,
}

impl Row {
    /// With these devices between them: of the one that stays, and of the one that ends.
    fn new(workers: usize, device: impl Fn(&str) -> [String; 2]) -> Self {
        let stays = Lab::new();
        let ends = stays.beside();
        stays.cable(["front", "f0"], workers as u8);
        stays.cable(["back", "b0"], workers as u8);
        let socket = stays.path("link.sock").display().to_string();
        let links = device(&socket);
        let nics = |[front, front_net]: [&str; 2], [back, back_net]: [&str; 2], real: &str| {
            format!(
                "[[nic]]\nname = \"front\"\ndevice = \"{front}\"\naddresses = [\"{front_net}\"]\n\
                 [[nic]]\nname = \"link\"\ndevice = \"{back}\"\naddresses = [\"{back_net}\"]\n\
                 [[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\nforward = \"dr\"\n\
                 real = [{{ address = \"{real}:80\" }}]\n"
            )
        };
        let first = stays.runtime(workers, "connections = 1024")
            + &nics(["af_packet:front", "192.0.2.2/24"], [&links[0], "172.16.0.1/24"], "172.16.0.2");
        let second = ends.runtime(workers, "connections = 1024")
            + &nics([&links[1], "172.16.0.2/24"], ["af_packet:back", "10.1.0.1/24"], "10.1.0.11");
        let reals = Hosts::on("b0", &[(ip("10.1.0.11"), real_mac(11))]);
        let (front, back) = (Wire::open("f0"), Wire::open("b0"));
        Self { stays, ends, configurations: [first, second], front, back, _reals: reals }
    }

    fn starts(&self, which: usize) -> Director {
        Director::spawn([&self.stays, &self.ends][which], &self.configurations[which])
    }

    /// A client's SYN passes both.
    fn passes(&self, stays: &Director, ends: &Director, client: u16) {
        let macs_behind = ends.wait_resolved();
        let behind = macs_behind.nics[0].mac.clone();
        let macs = stays.wait_until("the MAC of the other director", |status| {
            status.services[0].reals[0].next_hop == format!("link {behind}")
        });
        let (client, vip) = (at(&format!("192.0.2.7:{client}")), at("192.0.2.10:80"));
        let sent = Packet::new(Transport::Tcp("S"), [ROUTER, mac(&macs, 0)], client, vip);
        self.front.send(&sent.bytes());
        let there = Packet { from: mac(&macs_behind, 1), to: real_mac(11), ttl: 62, ..sent };
        self.back.expect_frame(&there.bytes());
    }

    /// The other end is killed and started again, twice; then the one that stays is stopped, with the other end there or without.
    fn is_followed(&self, first: usize, other_is_there: bool) {
        let one = self.starts(first);
        // A driver that listens may wait for its first client.
        wait_for("a socket", || self.stays.path("link.sock").exists().then_some(()).ok_or(""));
        let two = self.starts(1 - first);
        let (stays, ends) = if first == 0 { (one, two) } else { (two, one) };
        let (stays, mut ends) = (stays.answering(), ends.answering());
        let link = |link: &str| stays.wait_until(link, |status| status.nics[LINK].link == link);
        link("up");
        self.passes(&stays, &ends, 40000);
        let held = buffers(&stays.settled());
        for round in 0..2 {
            let before = stays.log().lines().count();
            ends.signal(Signal::SIGKILL);
            assert_eq!(ends.ended().signal(), Some(Signal::SIGKILL as i32));
            let status = link("down");
            assert!(status.nics[LINK].link_reason.is_some(), "{:?}", status.nics[LINK]);
            let advice = "nic \"link\": the link is down: ";
            assert!(status.advice.iter().any(|line| line.starts_with(advice)), "{:?}", status.advice);
            // A measurement: nothing to wait for but time.
            std::thread::sleep(WINDOW);
            let said = stays.log().lines().count() - before;
            assert!(said <= LINES_MOST, "{said} lines:\n{}", stays.log());
            ends = self.starts(1).answering();
            link("up");
            self.passes(&stays, &ends, 41000 + round);
            stays.wait_for_buffers(held + BUFFERS_MORE);
        }
        if !other_is_there {
            ends.signal(Signal::SIGKILL);
            ends.ended();
            link("down");
        } else {
            stays.settled();
        }
        let said = stays.command(&self.stays, &["stop"]);
        assert_eq!(said.code, Some(0), "{said:?}\n{}", stays.log());
        let log = self.stays.path("log");
        let ended = stays.ended();
        assert_eq!(ended.code(), Some(0), "{ended}:\n{}", std::fs::read_to_string(log).unwrap_or_default());
    }
}

#[test]
fn a_vhost_server_behind_virtio_user() {
    for (workers, there) in [(1, true), (2, false)] {
        let devices = |socket: &str| {
            [format!("virtio_user:{socket}"), format!("net_vhost0,iface={socket},queues={workers}")]
        };
        Row::new(workers, devices).is_followed(1, there);
    }
}

#[test]
fn a_vhost_client_behind_virtio_user() {
    for (workers, there) in [(1, true), (1, false)] {
        let devices = |socket: &str| {
            [
                format!("virtio_user:{socket},server=1"),
                format!("net_vhost0,iface={socket},client=1,queues={workers}"),
            ]
        };
        Row::new(workers, devices).is_followed(0, there);
    }
}

#[test]
fn a_virtio_user_client_behind_vhost() {
    for there in [true, false] {
        let devices = |socket: &str| [format!("net_vhost0,iface={socket}"), format!("virtio_user:{socket}")];
        Row::new(1, devices).is_followed(0, there);
    }
}

#[test]
fn a_virtio_user_server_behind_vhost() {
    for there in [true, false] {
        let devices = |socket: &str| {
            [format!("net_vhost0,iface={socket},client=1"), format!("virtio_user:{socket},server=1")]
        };
        Row::new(1, devices).is_followed(1, there);
    }
}

#[test]
fn a_memif_client() {
    for there in [true, false] {
        let devices = |socket: &str| ["server", "client"].map(|role| format!("memif:{socket},role={role}"));
        Row::new(1, devices).is_followed(0, there);
    }
}

#[test]
fn a_memif_server() {
    for there in [true, false] {
        let devices = |socket: &str| ["client", "server"].map(|role| format!("memif:{socket},role={role}"));
        Row::new(1, devices).is_followed(1, there);
    }
}

/// The driver waits for its first client while the NIC is opened.
#[test]
fn a_virtio_user_server_without_a_client_says_so_and_can_be_ended() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let devices = |socket: &str| [format!("virtio_user:{socket},server=1"), "null:".to_owned()];
        let row = Row::new(1, devices);
        let director = row.starts(0);
        director.wait_logged("nic \"link\": waits for its first client at ");
        director.signal(signal);
        assert_eq!(director.ended().code(), Some(0));
        let log = std::fs::read_to_string(row.stays.path("log")).unwrap_or_default();
        assert!(log.contains("stopped during the start"), "{log}");
    }
}
