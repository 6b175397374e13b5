//! The usual lay-out: a director with a front and a back interface, and everything around it played by the test.
//!
//! ```text
//! clients behind 192.0.2.1 ── f0 ── front 192.0.2.2 [director] 10.1.0.1 back ── b0 ── real servers 10.1.0.11 …
//!         2001:db8:f::1             2001:db8:f::2              2001:db8:1::1          2001:db8:1::11 …
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt::api::Status;

use super::Lab;
use super::director::Director;
use super::frames::Mac;
use super::hosts::Hosts;
use super::wire::Wire;

/// Further lines of `[runtime]` where a test needs no others.
pub const RUNTIME: &str = "connections = 4096";

/// The MAC of the router in front.
pub const ROUTER: Mac = [2, 0, 0, 0, 0xf0, 1];

/// The MAC of the real server whose addresses end in `number`.
#[must_use]
pub const fn real_mac(number: u8) -> Mac {
    [2, 0, 0, 0, 0xb0, number]
}

/// The address of the real server with this number, of the family of `like`.
#[must_use]
pub fn real_address(number: u8, v6: bool) -> IpAddr {
    if v6 {
        // 11 is written ::11.
        let last = u16::from(number / 10 * 16 + number % 10);
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).into()
    } else {
        Ipv4Addr::new(10, 1, 0, number).into()
    }
}

/// A lab with the cables and the neighbours at their ends.
#[derive(Debug)]
pub struct Arms {
    /// The namespace.
    pub lab: Lab,
    /// The other end of `front`.
    pub front: Wire,
    /// The other end of `back`.
    pub back: Wire,
    /// The router in front.
    pub routers: Hosts,
    /// Real servers 11 to 13.
    pub reals: Hosts,
    /// How many workers the director has.
    pub workers: usize,
    /// The devices of `front` and `back`.
    pub devices: [String; 2],
    /// Further lines of `[runtime]`.
    pub runtime: String,
}

/// A director that runs, and the MACs that it has.
#[derive(Debug)]
pub struct Running {
    /// The director.
    pub director: Director,
    /// The MAC of its front interface.
    pub front: Mac,
    /// The MAC of its back interface.
    pub back: Mac,
}

impl Arms {
    /// For a director with one worker, on af_packet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_workers(1)
    }

    /// For a director with so many workers, on af_packet.
    #[must_use]
    pub fn with_workers(workers: usize) -> Self {
        let lab = Lab::new();
        lab.cable(["front", "f0"], 1);
        lab.cable(["back", "b0"], 1);
        Self::between(lab, workers, ["af_packet:front", "af_packet:back"])
    }

    /// For a director with so many workers, on DPDK's driver for packet sockets.
    #[must_use]
    pub fn on_the_driver(workers: usize) -> Self {
        let devices = ["net_af_packet7,iface=front", "net_af_packet8,iface=back"];
        let queues = |device: &str| format!("{device},qpairs={workers}");
        Self { devices: devices.map(queues), ..Self::with_workers(workers) }
    }

    /// For a director on such devices as `af_packet`, which take interfaces that are there.
    #[must_use]
    pub fn on(kind: &str) -> Self {
        let lab = Lab::new();
        lab.cable(["front", "f0"], 1);
        lab.cable(["back", "b0"], 1);
        Self::between(lab, 1, [&format!("{kind}:front"), &format!("{kind}:back")])
    }

    /// A director on taps, which are there only while it runs: `f0` and `b0` are their kernel's side.
    #[must_use]
    pub fn on_taps(services: &str) -> (Self, Running) {
        let lab = Lab::new();
        let devices = ["tap:f0", "tap:b0"];
        let director = Director::start(&lab, &configuration(&lab, 1, RUNTIME, &devices, services));
        let running = Running::of(director);
        let arms = Self::between(lab, 1, devices);
        running.director.wait_resolved();
        (arms, running)
    }

    /// What is around a director on these devices, with the interfaces `f0` and `b0` at their other ends.
    fn between(lab: Lab, workers: usize, devices: [&str; 2]) -> Self {
        let routers = ["192.0.2.1", "2001:db8:f::1"].map(|address| (super::frames::ip(address), ROUTER));
        Self {
            front: Wire::open("f0"),
            back: Wire::open("b0"),
            routers: Hosts::on("f0", &routers),
            reals: real_servers(),
            lab,
            workers,
            devices: devices.map(str::to_owned),
            runtime: RUNTIME.to_owned(),
        }
    }

    /// Goes on at a `b0` that was made anew.
    pub fn rewire_back(&mut self) {
        self.back = Wire::open("b0");
        self.reals = real_servers();
    }

    /// The configuration with these services.
    #[must_use]
    pub fn configuration(&self, services: &str) -> String {
        let devices = [self.devices[0].as_str(), &self.devices[1]];
        configuration(&self.lab, self.workers, &self.runtime, &devices, services)
    }

    /// The same with NICs that take IP packets of at most `mtu` bytes, whatever their interfaces take.
    #[must_use]
    pub fn with_mtu(&self, mtu: u16, services: &str) -> String {
        self.configuration(services).replace("\ndevice = ", &format!("\nmtu = {mtu}\ndevice = "))
    }

    /// Starts a director with these services and waits until it knows its neighbours.
    #[must_use]
    pub fn start(&self, services: &str) -> Running {
        let running = self.start_unresolved(services);
        running.director.wait_resolved();
        running
    }

    /// Starts a director with these services.
    #[must_use]
    pub fn start_unresolved(&self, services: &str) -> Running {
        Running::of(Director::start(&self.lab, &self.configuration(services)))
    }
}

/// Real servers 11 to 13 at `b0`.
#[must_use]
pub fn real_servers() -> Hosts {
    let reals =
        [11, 12, 13].map(|number| [false, true].map(|v6| (real_address(number, v6), real_mac(number))));
    Hosts::on("b0", reals.as_flattened())
}

impl Running {
    /// A director with the whole of its configuration, whose neighbours are known.
    #[must_use]
    pub fn of_director(arms: &Arms, configuration: &str) -> Self {
        let running = Self::of(Director::start(&arms.lab, configuration));
        running.director.wait_resolved();
        running
    }

    fn of(director: Director) -> Self {
        let status = director.status();
        let [front, back] = [0, 1].map(|nic| mac(&status, nic));
        Self { director, front, back }
    }
}

/// The configuration of a director with two arms.
#[must_use]
pub fn configuration(
    lab: &Lab,
    workers: usize,
    further: &str,
    devices: &[&str; 2],
    services: &str,
) -> String {
    let [front, back] = devices;
    let nics = format!(
        r#"
[[nic]]
name = "front"
device = "{front}"
addresses = ["192.0.2.2/24", "2001:db8:f::2/64"]
gateway = ["192.0.2.1", "2001:db8:f::1"]
[[nic]]
name = "back"
device = "{back}"
addresses = ["10.1.0.1/24", "2001:db8:1::1/64"]
"#
    );
    lab.runtime(workers, further) + &nics + services
}

impl Default for Arms {
    fn default() -> Self {
        Self::new()
    }
}

/// The MAC of a NIC in a status.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn mac(status: &Status, nic: usize) -> Mac {
    let text = &status.nics[nic].mac;
    let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().unwrap_or_else(|_| panic!("{text}: no MAC"))
}
