//! Names of hosts and services as this machine knows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use shunt_model::ipvsadm::names::{Names, Services};
use shunt_model::ipvsadm::table::Protocol;

/// Names as this machine knows them.
#[derive(Debug)]
pub struct Machine {
    services: Services,
    /// Names of addresses that were asked for: a list shows some of them many times.
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
}

impl Machine {
    /// Reads `/etc/services`.
    #[must_use]
    pub fn here() -> Self {
        let text = std::fs::read("/etc/services").unwrap_or_default();
        let services = Services::read(&String::from_utf8_lossy(&text));
        Self { services, hosts: RefCell::default() }
    }
}

impl Names for Machine {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        let found = (host, 0).to_socket_addrs().ok()?;
        found.map(|found| found.ip()).find_map(|found| match found {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        let mut hosts = self.hosts.borrow_mut();
        let ask = || {
            let (host, _) = dns_lookup::getnameinfo(&SocketAddr::new(address, 0), 0).ok()?;
            // Without a name the address comes back.
            (host.parse::<IpAddr>().is_err()).then_some(host)
        };
        hosts.entry(address).or_insert_with(ask).clone()
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        self.services.port(service, protocol)
    }

    fn service(&self, l4_port: u16, protocol: Protocol) -> Option<String> {
        self.services.name(l4_port, protocol)
    }
}
