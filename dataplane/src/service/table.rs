//! Which service a packet is for: that of its firewall mark first, then exact address, port and protocol, then the service of
//! all ports.

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::address::Address;
use crate::id::{L4Port, Protocol, ServiceId};

use super::mark::Mark;

/// The services of one address family.
#[derive(Clone, Debug)]
pub struct ServiceTable<A: Address> {
    services: HashMap<(A, L4Port, Protocol), ServiceId, RandomState>,
    any_port: bool,
    marks: HashMap<Mark, ServiceId, RandomState>,
}

impl<A: Address> Default for ServiceTable<A> {
    fn default() -> Self {
        Self { services: HashMap::default(), any_port: false, marks: HashMap::default() }
    }
}

impl<A: Address> ServiceTable<A> {
    /// Adds a service; port 0 stands for all ports. The last one wins.
    pub fn insert(&mut self, address: A, l4_port: L4Port, protocol: Protocol, service: ServiceId) {
        self.any_port |= l4_port.0 == 0;
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
        if self.any_port { self.services.get(&(address, L4Port(0), protocol)).copied() } else { None }
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
}
