//! What the host's kernel says of its interfaces, kept up by its messages (rtnetlink(7)).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
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
    /// Those of the calling thread's network namespace, now.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn here() -> io::Result<Self> {
        // A caller may be within a runtime, which does not wait for another.
        let read = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                Self::read(&handle).await
            })
        };
        std::thread::scope(|scope| {
            let read = scope.spawn(read).join();
            read.unwrap_or_else(|_panic| Err(io::Error::other("reading the interfaces failed")))
        })
    }

    /// Asks the kernel for all of them.
    ///
    /// # Errors
    /// What it refused.
    pub async fn read(handle: &Handle) -> io::Result<Self> {
        let mut all = Self::default();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
            all.hear_link(&link);
        }
        let mut addresses = handle.address().get().execute();
        while let Some(address) = addresses.try_next().await.map_err(io::Error::other)? {
            all.hear_address(&address, true);
        }
        Ok(all)
    }

    /// Takes note of a message; gives the index of an interface that is gone from the namespace.
    pub fn hear(&mut self, message: &RouteNetlinkMessage) -> Option<u32> {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.hear_link(link),
            RouteNetlinkMessage::DelLink(link) if is_of_interface(link) => {
                let index = link.header.index;
                self.list.remove(&index);
                self.addresses.retain(|(_, on)| *on != index);
                return Some(index);
            }
            RouteNetlinkMessage::NewAddress(address) => self.hear_address(address, true),
            RouteNetlinkMessage::DelAddress(address) => self.hear_address(address, false),
            _ => {}
        }
        None
    }

    fn hear_link(&mut self, link: &LinkMessage) {
        if !is_of_interface(link) {
            return;
        }
        let flags = link.header.flags;
        let interface = self.list.entry(link.header.index).or_default();
        interface.up = flags.contains(LinkFlags::Up);
        interface.carrier = flags.contains(LinkFlags::LowerUp);
        let mut queues = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name.clone_from(name),
                LinkAttribute::PropList(properties) => {
                    let name = |property: &Prop| match property {
                        Prop::AltIfName(name) => Some(name.clone()),
                        _ => None,
                    };
                    interface.other_names = properties.iter().filter_map(name).collect();
                }
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                LinkAttribute::Address(mac) => {
                    interface.mac = <[u8; 6]>::try_from(mac.as_slice()).ok().map(Mac);
                }
                LinkAttribute::NumRxQueues(count) => queues.0 = Some(*count),
                LinkAttribute::NumTxQueues(count) => queues.1 = Some(*count),
                _ => {}
            }
        }
        interface.queues = queues.0.zip(queues.1).or(interface.queues);
    }

    fn hear_address(&mut self, message: &AddressMessage, there: bool) {
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(of) => local = Some(*of),
                AddressAttribute::Address(of) => address = Some(*of),
                _ => {}
            }
        }
        // Of an interface from point to point `Address` is the other end's.
        let Some(held) = local.or(address) else { return };
        let key = (held, message.header.index);
        if there {
            self.addresses.insert(key);
        } else {
            self.addresses.remove(&key);
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

    /// An interface made up, for tests.
    #[cfg(test)]
    pub(crate) fn set(&mut self, index: u32, interface: Interface) {
        self.list.insert(index, interface);
    }

    /// An address made up, for tests.
    #[cfg(test)]
    pub(crate) fn hold(&mut self, address: IpAddr, index: u32, there: bool) {
        if there {
            self.addresses.insert((address, index));
        } else {
            self.addresses.remove(&(address, index));
        }
    }
}

/// Bridges tell of their ports under a family of their own: that is not about the interface.
fn is_of_interface(link: &LinkMessage) -> bool {
    link.header.interface_family == rtnetlink::packet_route::AddressFamily::Unspec
}
