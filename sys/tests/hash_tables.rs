//! DPDK's hash table finds what was put in and nothing else.

mod common;

use common::eal;
use dpdk_sys::HashTable;
use dpdk_sys::hash::LOOKUP_MOST;

fn key(number: u64) -> [u8; 16] {
    (u128::from(number) << 64 | u128::from(!number)).to_be_bytes()
}

#[test]
fn finds_what_was_put_in_and_nothing_else() {
    let mut table = HashTable::<16>::new(eal(), "found", 4096, 7, None).expect("a table");
    assert!((0..3000).all(|number| table.insert(&key(number), number * 3)));
    assert!(table.insert(&key(5), u64::MAX), "another number for a key");
    let keys: Vec<_> = (0..LOOKUP_MOST as u64).map(|place| key(place + (place % 2) * 10_000)).collect();
    let mut values = [1; LOOKUP_MOST];
    assert_eq!(table.lookup_bulk(&keys, &mut values), 0x5555_5555_5555_5555);
    for (place, value) in values.into_iter().enumerate() {
        assert_eq!(value, if place % 2 == 0 { place as u64 * 3 } else { 1 }, "at {place}");
    }
    assert_eq!(table.lookup_bulk(&[key(4), key(5)], &mut values), 3);
    assert_eq!(values[1], u64::MAX);
    assert_eq!(table.lookup_bulk(&[], &mut values), 0);
}

#[test]
fn refuses_what_does_not_fit() {
    let error = HashTable::<16>::new(eal(), "tiny", 3, 0, None).expect_err("too few");
    assert!(error.to_string().contains("tiny: no table for 3 keys"), "{error}");
    let mut table = HashTable::<16>::new(eal(), "small", 16, 0, None).expect("a table");
    assert!((0..64).filter(|&number| table.insert(&key(number), 0)).count() < 64);
}
