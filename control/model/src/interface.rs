//! The interfaces of a network namespace, as its kernel tells of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use shunt_dataplane::id::Mac;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Further names that it may be called by.
    pub other_names: Vec<String>,
    /// It was set up (`IFF_UP`).
    pub up: bool,
    /// It has a carrier (`IFF_LOWER_UP`): frames pass. The kernel's operational state, which `IFF_RUNNING` tells, may follow much later.
    pub carrier: bool,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// The most receive and transmit queues that it can have, where the kernel tells.
    pub queues: Option<(u32, u32)>,
}

/// The interfaces of a network namespace by index, and the addresses that the kernel holds on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    list: BTreeMap<u32, Interface>,
    addresses: BTreeSet<(IpAddr, u32)>,
}

impl Interfaces {
    /// The interface of an index, to be changed; one that was not there is a new one.
    pub fn entry(&mut self, index: u32) -> &mut Interface {
        self.list.entry(index).or_default()
    }

    /// An interface that is there.
    pub fn set(&mut self, index: u32, interface: Interface) {
        self.list.insert(index, interface);
    }

    /// An interface is gone, with its addresses.
    pub fn remove(&mut self, index: u32) {
        self.list.remove(&index);
        self.addresses.retain(|(_, on)| *on != index);
    }

    /// The kernel holds an address on an interface, or no longer does.
    pub fn hold(&mut self, address: IpAddr, index: u32, there: bool) {
        if there {
            self.addresses.insert((address, index));
        } else {
            self.addresses.remove(&(address, index));
        }
    }

    /// The interface of an index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Interface> {
        self.list.get(&index)
    }

    /// The interface of a name, and its index.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(u32, &Interface)> {
        let is = |interface: &Interface| {
            interface.name == name || interface.other_names.iter().any(|other| other == name)
        };
        self.list.iter().find(|(_, interface)| is(interface)).map(|(index, found)| (*index, found))
    }

    /// The names of all, as `ip link` lists them.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.list.values().map(|interface| interface.name.as_str()).collect()
    }

    /// The interfaces on which the kernel holds an address, by index.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = (u32, &Interface)> {
        let held = self.addresses.range((address, 0)..=(address, u32::MAX));
        held.filter_map(|(_, index)| Some((*index, self.list.get(index)?)))
    }

    /// The addresses that the kernel holds on an interface.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter(move |(_, on)| *on == index).map(|(address, _)| *address)
    }
}
