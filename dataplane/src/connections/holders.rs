//! Who holds how much of a table, by client, in bounded memory.
//!
//! A count-min sketch: each client has a counter in each of two rows, which others may share; the lower of the two is what it holds at
//! most. Which counters those are depends on a key of this run. With ten clients that hold much, one of 670,000 others
//! shares both counters with such and is taken for one.

use crate::address::Address;
use crate::flow::HashKey;

/// Counters in a row, in a table that is large enough.
const WIDTH: usize = 8192;
/// Bits of an IPv6 address that a client has: whoever has a network of its own has all addresses in it (RFC 6177).
pub const CLIENT_BITS: u8 = 64;

/// What each client holds of a table.
#[derive(Debug)]
pub(super) struct Holders {
    key: HashKey,
    rows: [Box<[u32]>; 2],
}

impl Holders {
    /// Of a table with room for `capacity`.
    pub(super) fn new(key: HashKey, capacity: usize) -> Self {
        let row = || vec![0; (capacity * 4).next_power_of_two().min(WIDTH)].into_boxed_slice();
        Self { key, rows: [row(), row()] }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| size_of_val(&**row)).sum()
    }

    /// The counters of a client.
    fn places<A: Address>(&self, client: A) -> [usize; 2] {
        let hash = self.key.client(client.masked(CLIENT_BITS));
        let mask = self.rows[0].len() - 1;
        [hash as usize & mask, (hash >> 32) as usize & mask]
    }

    /// A client holds one more.
    pub(super) fn add<A: Address>(&mut self, client: A) {
        let places = self.places(client);
        for (row, place) in self.rows.iter_mut().zip(places) {
            row[place] += 1;
        }
    }

    /// A client holds one less.
    pub(super) fn subtract<A: Address>(&mut self, client: A) {
        let places = self.places(client);
        for (row, place) in self.rows.iter_mut().zip(places) {
            row[place] -= 1;
        }
    }

    /// What a client holds at most.
    pub(super) fn of<A: Address>(&self, client: A) -> usize {
        let counts = self.rows.iter().zip(self.places(client)).map(|(row, place)| row[place]);
        counts.min().unwrap_or(0) as usize
    }

    /// True when nobody holds anything.
    #[cfg(test)]
    pub(super) fn are_empty(&self) -> bool {
        self.rows.iter().all(|row| row.iter().all(|count| *count == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn counts_each_client_and_seldom_more() {
        let mut holders = Holders::new(HashKey::random(), 100_000);
        let client = |number: u32| Ipv4Addr::from_bits(0x0a00_0000 + number);
        (0..2000).for_each(|number| (0..=number % 3).for_each(|_| holders.add(client(number))));
        let exact =
            (0..2000).filter(|number| holders.of(client(*number)) == *number as usize % 3 + 1).count();
        assert!((0..2000).all(|number| holders.of(client(number)) > number as usize % 3));
        assert!(exact > 1700, "{exact}");
        (0..2000).for_each(|number| (0..=number % 3).for_each(|_| holders.subtract(client(number))));
        assert!(holders.are_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let mut holders = Holders::new(HashKey::random(), 10);
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        (1..=9).for_each(|host| holders.add(address(&format!("2001:db8:0:1:{host}::{host}"))));
        assert_eq!(holders.of(address("2001:db8:0:1:ffff::1")), 9);
    }
}
