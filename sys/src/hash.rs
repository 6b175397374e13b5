//! DPDK's own hash table: what a connection table of ours is measured against.

use std::error::Error;
use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};

use crate::eal::Eal;
use crate::errno::Errno;
use crate::ffi;
use crate::log::{self, Said};
use crate::mempool::{NumaNode, socket, unique_name};

/// The most keys that one lookup takes.
pub const LOOKUP_MOST: usize = ffi::RTE_HASH_LOOKUP_BULK_MAX as usize;

/// An `rte_hash` from keys of `KEY` bytes to numbers, for one thread. Hashed by DPDK's default function, with a seed.
#[derive(Debug)]
pub struct HashTable<const KEY: usize> {
    raw: NonNull<ffi::rte_hash>,
    _eal: Eal,
}

impl<const KEY: usize> HashTable<KEY> {
    /// A table for `entries` keys, 8 to 2^30, in the EAL's memory.
    ///
    /// # Errors
    ///
    /// When there is no memory for it or the number is out of bounds.
    pub fn new(
        eal: &Eal,
        name: &str,
        entries: u32,
        seed: u32,
        node: Option<NumaNode>,
    ) -> Result<HashTable<KEY>, HashTableError> {
        let unique: CString = unique_name(name);
        let parameters = ffi::rte_hash_parameters {
            name: unique.as_ptr(),
            entries,
            key_len: KEY as u32,
            hash_func_init_val: seed,
            socket_id: socket(node),
            ..Default::default()
        };
        let raw = log::listen(|| {
            // SAFETY: rte_hash.h: rte_hash_create reads the parameters and copies the terminated name; it checks the
            // measures itself; the EAL is up.
            let pointer = unsafe { ffi::rte_hash_create(&parameters) };
            NonNull::new(pointer).ok_or_else(Errno::last)
        })
        .map_err(|(error, said)| HashTableError { name: name.to_owned(), entries, error, said })?;
        Ok(HashTable { raw, _eal: eal.clone() })
    }

    /// Puts a key in, or gives the one that is there another number; false when there is no room within reach.
    pub fn insert(&mut self, key: &[u8; KEY], value: u64) -> bool {
        let data = ptr::without_provenance_mut::<c_void>(value as usize);
        // SAFETY: rte_hash.h: rte_hash_add_key_data copies the key, which has the length that the table was made for,
        // and keeps the data without looking at it; nobody else uses the table, which is borrowed exclusively.
        unsafe { ffi::rte_hash_add_key_data(self.raw.as_ptr(), key.as_ptr().cast(), data) == 0 }
    }

    /// Looks up to [`LOOKUP_MOST`] keys up at once. Returns one bit for each that is there, the first key's lowest, and
    /// leaves its number at its place in `values`; other places are left as they are.
    #[inline]
    pub fn lookup_bulk(&self, keys: &[[u8; KEY]], values: &mut [u64; LOOKUP_MOST]) -> u64 {
        let count = keys.len().min(LOOKUP_MOST);
        let mut pointers = [ptr::null::<c_void>(); LOOKUP_MOST];
        for (pointer, key) in pointers.iter_mut().zip(keys) {
            *pointer = key.as_ptr().cast();
        }
        let mut hits = 0;
        // SAFETY: rte_hash.h: rte_hash_lookup_bulk_data reads count pointers to keys of the table's length, count at
        // most RTE_HASH_LOOKUP_BULK_MAX, and writes a mask and the data of those found at their places in an array of
        // as many pointers: numbers, as insert put them in, of the size of u64 on every platform that DPDK has. The
        // table is made without flags, so lookups only read, and it cannot leave this thread.
        let found = unsafe {
            ffi::rte_hash_lookup_bulk_data(
                self.raw.as_ptr(),
                pointers.as_mut_ptr(),
                count as u32,
                &mut hits,
                values.as_mut_ptr().cast(),
            )
        };
        if found < 0 { 0 } else { hits }
    }
}

impl<const KEY: usize> Drop for HashTable<KEY> {
    fn drop(&mut self) {
        // SAFETY: rte_hash.h: rte_hash_free takes a table that exists; nobody has it any more.
        unsafe { ffi::rte_hash_free(self.raw.as_ptr()) };
    }
}

/// Why a table could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashTableError {
    name: String,
    entries: u32,
    error: Errno,
    said: Said,
}

impl fmt::Display for HashTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HashTableError { name, entries, error, said } = self;
        write!(
            f,
            "hash table {name}: no table for {entries} keys, 8 to 2^30 as memory allows ({error}){said}"
        )
    }
}

impl Error for HashTableError {}
