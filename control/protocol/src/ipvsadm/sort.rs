//! The order of `ipvsadm -L`.
//!
//! ipvsadm compares numbers of 32 bits by the sign of their difference, so 192.0.2.1 comes before 10.0.0.1, and three
//! addresses can go round in a circle; then the algorithm decides, which is glibc's merge sort. Both are followed here.

use std::net::{IpAddr, SocketAddr};

use shunt_model::ipvsadm::table::{Destination, Key, Service};

/// What `-L` sorts.
pub trait Ordered {
    /// Below, at or above 0 when it comes before, beside or after the other.
    fn compare(&self, other: &Self) -> i32;
}

/// References in the order of `-L`. The input is in the order in which things were added; the kernel lists the last first.
#[must_use]
pub fn sorted<T: Ordered>(things: &[T]) -> Vec<&T> {
    merge_sort(things.iter().rev().collect())
}

/// Halves, sorts and merges them; what compares alike stays in its order.
fn merge_sort<T: Ordered>(mut things: Vec<&T>) -> Vec<&T> {
    if things.len() < 2 {
        return things;
    }
    let second = things.split_off(things.len() / 2);
    let (first, second) = (merge_sort(things), merge_sort(second));
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(one), Some(other)) = (first.peek(), second.peek()) {
        let next = if one.compare(other) <= 0 { first.next() } else { second.next() };
        merged.extend(next);
    }
    merged.extend(first);
    merged.extend(second);
    merged
}

/// The sign of what is left when 32 bits are subtracted.
const fn difference(one: u32, other: u32) -> i32 {
    one.wrapping_sub(other) as i32
}

/// An address as the words that it is compared by.
fn address_words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [address.to_bits(), 0, 0, 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

fn compare_addresses(one: SocketAddr, other: SocketAddr) -> i32 {
    let words = if one.is_ipv6() { 4 } else { 1 };
    let pairs = address_words(one.ip()).into_iter().zip(address_words(other.ip())).take(words);
    let mut differences = pairs.map(|(one, other)| difference(one, other));
    let first = differences.find(|&difference| difference != 0);
    first.unwrap_or_else(|| i32::from(one.port()) - i32::from(other.port()))
}

impl Ordered for Service {
    fn compare(&self, other: &Self) -> i32 {
        let mark = |key| match key {
            Key::Mark(mark, _) => mark,
            Key::Address(..) => 0,
        };
        let (one, two) = (self.key, other.key);
        let by_mark = difference(mark(one), mark(two));
        if by_mark != 0 {
            return by_mark;
        }
        let by_family = one.family() as i32 - two.family() as i32;
        match (one, two) {
            _ if by_family != 0 => by_family,
            (Key::Address(protocol, address), Key::Address(other_protocol, other)) => {
                let by_protocol = protocol as i32 - other_protocol as i32;
                if by_protocol == 0 { compare_addresses(address, other) } else { by_protocol }
            }
            _ => 0,
        }
    }
}

impl Ordered for Destination {
    fn compare(&self, other: &Self) -> i32 {
        compare_addresses(self.address, other.address)
    }
}
