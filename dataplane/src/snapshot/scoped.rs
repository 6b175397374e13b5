//! What is known of addresses, where some mean another host on each link (RFC 4007).

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::address::Address;
use crate::id::NicId;

/// A value for each address; an [address of one link](Address::is_of_one_link) has one for each NIC.
#[derive(Clone, Debug)]
pub struct ScopedMap<A: Address, V> {
    everywhere: HashMap<A, V, RandomState>,
    of_links: HashMap<(NicId, A), V, RandomState>,
}

impl<A: Address, V> Default for ScopedMap<A, V> {
    fn default() -> Self {
        Self { everywhere: HashMap::default(), of_links: HashMap::default() }
    }
}

impl<A: Address, V> ScopedMap<A, V> {
    /// Says what `address` is; of one link: what it is on the link of `nic`.
    pub fn insert(&mut self, nic: NicId, address: A, value: V) {
        if address.is_of_one_link() {
            self.of_links.insert((nic, address), value);
        } else {
            self.everywhere.insert(address, value);
        }
    }

    /// What `address` is in a packet of `nic`.
    #[inline]
    #[must_use]
    pub fn get(&self, nic: NicId, address: A) -> Option<&V> {
        if address.is_of_one_link() {
            return self.of_links.get(&(nic, address));
        }
        self.everywhere.get(&address)
    }

    /// What an address is that means the same on each link.
    #[inline]
    #[must_use]
    pub fn everywhere(&self, address: A) -> Option<&V> {
        self.everywhere.get(&address)
    }

    /// Whether anything is said of `address` in a packet of `nic`.
    #[inline]
    #[must_use]
    pub fn contains(&self, nic: NicId, address: A) -> bool {
        self.get(nic, address).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_address_of_one_link_is_another_one_on_each() {
        let mut map = ScopedMap::default();
        let [one, two] = [NicId(0), NicId(1)];
        let near: Ipv6Addr = "fe80::10".parse().unwrap();
        let far: Ipv6Addr = "2001:db8::10".parse().unwrap();
        map.insert(one, near, 'a');
        map.insert(two, near, 'b');
        map.insert(one, far, 'c');
        assert_eq!(
            (map.get(one, near), map.get(two, near), map.everywhere(near)),
            (Some(&'a'), Some(&'b'), None)
        );
        assert_eq!((map.get(two, far), map.everywhere(far)), (Some(&'c'), Some(&'c')));
        assert!(!map.contains(NicId(2), near));
        let mut map = ScopedMap::default();
        let near: Ipv4Addr = "169.254.1.1".parse().unwrap();
        map.insert(one, near, 'a');
        assert!(map.contains(two, near));
    }
}
