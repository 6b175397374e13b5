//! Which service a packet is for: that of its firewall mark first, then exact address, port and protocol, then FTP's, which has
//! the ports of its data too, then the service of all ports (kernel: `ip_vs_service_find`).

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::address::Address;
use crate::id::{L4Port, Protocol, ServiceId};

use super::mark::Mark;

/// Where FTP is asked for (RFC 959, 8).
pub const FTP: L4Port = L4Port(21);
/// Where FTP servers open data connections from, and none of a client's begins.
pub const FTP_DATA: L4Port = L4Port(20);
/// The lowest port that a host gives away to who asks for none; FTP servers take data connections at such ones.
const UNPRIVILEGED: L4Port = L4Port(1024);

/// The services of one address family.
#[derive(Clone, Debug)]
pub struct ServiceTable<A: Address> {
    services: HashMap<(A, L4Port, Protocol), ServiceId, RandomState>,
    any_port: bool,
    ftp: bool,
    marks: HashMap<Mark, ServiceId, RandomState>,
    /// Where services listen.
    addresses: HashMap<A, (), RandomState>,
}

impl<A: Address> Default for ServiceTable<A> {
    fn default() -> Self {
        Self {
            services: HashMap::default(),
            any_port: false,
            ftp: false,
            marks: HashMap::default(),
            addresses: HashMap::default(),
        }
    }
}

impl<A: Address> ServiceTable<A> {
    /// Adds a service; port 0 stands for all ports. The last one wins.
    pub fn insert(&mut self, address: A, l4_port: L4Port, protocol: Protocol, service: ServiceId) {
        self.any_port |= l4_port.0 == 0;
        self.ftp |= (l4_port, protocol) == (FTP, Protocol::Tcp);
        self.addresses.insert(address, ());
        self.services.insert((address, l4_port, protocol), service);
    }

    /// Adds the service of a firewall mark.
    pub fn insert_mark(&mut self, mark: Mark, service: ServiceId) {
        self.marks.insert(mark, service);
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.marks.is_empty()
    }

    /// True for an address at which a service listens.
    #[must_use]
    pub fn has_address(&self, address: A) -> bool {
        self.addresses.contains_key(&address)
    }

    /// The service of a firewall mark.
    #[must_use]
    pub fn find_mark(&self, mark: Mark) -> Option<ServiceId> {
        self.marks.get(&mark).copied()
    }

    /// The service of a destination.
    #[inline]
    #[must_use]
    pub fn find(&self, address: A, l4_port: L4Port, protocol: Protocol) -> Option<ServiceId> {
        if let Some(&service) = self.services.get(&(address, l4_port, protocol)) {
            return Some(service);
        }
        let is_data = protocol == Protocol::Tcp && (l4_port == FTP_DATA || l4_port >= UNPRIVILEGED);
        if self.ftp && is_data {
            if let Some(&service) = self.services.get(&(address, FTP, protocol)) {
                return Some(service);
            }
        }
        self.of_all_ports(address, protocol)
    }

    #[inline]
    fn of_all_ports(&self, address: A, protocol: Protocol) -> Option<ServiceId> {
        if self.any_port { self.services.get(&(address, L4Port(0), protocol)).copied() } else { None }
    }

    /// True when what comes to that port is a service's, whoever sends it. FTP's data is its clients' alone.
    #[must_use]
    pub fn listens(&self, address: A, l4_port: L4Port, protocol: Protocol) -> bool {
        self.services.contains_key(&(address, l4_port, protocol))
            || self.of_all_ports(address, protocol).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn exact_before_all_ports() {
        let vip = Ipv4Addr::new(192, 0, 2, 10);
        let mut table = ServiceTable::default();
        table.insert(vip, L4Port(80), Protocol::Tcp, ServiceId(1));
        assert_eq!(table.find(vip, L4Port(81), Protocol::Tcp), None);
        table.insert(vip, L4Port(0), Protocol::Tcp, ServiceId(2));
        assert_eq!(table.find(vip, L4Port(80), Protocol::Tcp), Some(ServiceId(1)));
        assert_eq!(table.find(vip, L4Port(81), Protocol::Tcp), Some(ServiceId(2)));
        assert_eq!(table.find(vip, L4Port(80), Protocol::Udp), None);
    }

    #[test]
    fn ftp_has_the_ports_of_its_data() {
        let vip = Ipv4Addr::new(192, 0, 2, 10);
        let mut table = ServiceTable::default();
        let other = Ipv4Addr::new(192, 0, 2, 11);
        for (address, l4_port, protocol, id) in [
            (vip, 21, Protocol::Tcp, 1),
            (vip, 8080, Protocol::Tcp, 2),
            (vip, 0, Protocol::Tcp, 3),
            (vip, 0, Protocol::Sctp, 4),
            (other, 21, Protocol::Udp, 5),
            (other, 0, Protocol::Tcp, 6),
        ] {
            table.insert(address, L4Port(l4_port), protocol, ServiceId(id));
        }
        let wanted = [
            (vip, [1, 1, 3, 3, 1, 1, 1], Protocol::Tcp),
            (vip, [4; 7], Protocol::Sctp),
            (other, [6; 7], Protocol::Tcp),
        ];
        for (address, wanted, protocol) in wanted {
            let found = [20, 21, 0, 1023, 1024, 40_000, 65_535]
                .map(|l4_port| table.find(address, L4Port(l4_port), protocol).map(|id| id.0));
            assert_eq!(found, wanted.map(Some), "{address} {protocol:?}");
        }
        assert_eq!(table.find(vip, L4Port(8080), Protocol::Tcp), Some(ServiceId(2)));
        assert_eq!(table.find(other, L4Port(40_000), Protocol::Udp), None);
        assert!(table.listens(vip, L4Port(40_000), Protocol::Tcp) && table.listens(vip, FTP, Protocol::Tcp));
        let mut table = ServiceTable::default();
        table.insert(vip, FTP, Protocol::Tcp, ServiceId(1));
        assert!(table.listens(vip, FTP, Protocol::Tcp) && !table.listens(vip, L4Port(40_000), Protocol::Tcp));
    }
}
