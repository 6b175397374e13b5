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
    /// For a director with one worker.
    #[must_use]
    pub fn new() -> Self {
        Self::with_workers(1)
    }

    /// For a director with so many workers.
    #[must_use]
    pub fn with_workers(workers: usize) -> Self {
        let lab = Lab::new();
        lab.cable(["front", "f0"], 1);
        lab.cable(["back", "b0"], 1);
        let routers = ["192.0.2.1", "2001:db8:f::1"].map(|address| (super::frames::ip(address), ROUTER));
        let reals =
            [11, 12, 13].map(|number| [false, true].map(|v6| (real_address(number, v6), real_mac(number))));
        Self {
            front: Wire::open("f0"),
            back: Wire::open("b0"),
            routers: Hosts::on("f0", &routers),
            reals: Hosts::on("b0", reals.as_flattened()),
            lab,
            workers,
            runtime: "connections = 4096".to_owned(),
        }
    }

    /// The configuration with these services.
    #[must_use]
    pub fn configuration(&self, services: &str) -> String {
        let nics = r#"
[[nic]]
name = "front"
device = "af_packet:front"
addresses = ["192.0.2.2/24", "2001:db8:f::2/64"]
gateway = ["192.0.2.1", "2001:db8:f::1"]
[[nic]]
name = "back"
device = "af_packet:back"
addresses = ["10.1.0.1/24", "2001:db8:1::1/64"]
"#;
        self.lab.runtime(self.workers, &self.runtime) + nics + services
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
        let director = Director::start(&self.lab, &self.configuration(services));
        let status = director.status();
        let [front, back] = [0, 1].map(|nic| mac(&status, nic));
        Running { director, front, back }
    }
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
