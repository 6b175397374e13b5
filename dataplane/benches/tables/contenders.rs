//! The tables that are compared: each maps 5-tuples of IPv4 to what it was given.

use std::fmt;
use std::hint::black_box;
use std::net::Ipv4Addr;

use dpdk_sys::{Eal, HashTable, hash};
use foldhash::quality::RandomState;
use hashbrown::HashMap;
use shunt_dataplane::connections::{Limits, NewConnection, Table};
use shunt_dataplane::flow::{Flow, HashKey};
use shunt_dataplane::id::{L4Port, Protocol, RealId};
use shunt_dataplane::service::Method;
use shunt_dataplane::time::Tick;

/// Flows that are looked up together.
pub const BURST: usize = 64;

const _: () = assert!(BURST <= hash::LOOKUP_MOST);

/// One burst of flows.
pub type Burst = [Flow<Ipv4Addr>; BURST];

/// The flow of a number: clients of a /8 at 1024 ports each, one service. No two numbers have the same.
#[inline]
pub fn flow(number: u32) -> Flow<Ipv4Addr> {
    let mixed = mix(number);
    Flow {
        source: Ipv4Addr::from_bits(0x0a00_0000 + mixed / 1024),
        destination: Ipv4Addr::new(192, 0, 2, 10),
        source_port: L4Port((1024 + mixed % 1024) as u16),
        destination_port: L4Port(80),
        protocol: Protocol::Udp,
    }
}

/// A bijection of 32 bits that leaves nothing in order (the finalizer of MurmurHash3).
const fn mix(number: u32) -> u32 {
    let a = (number ^ number >> 16).wrapping_mul(0x85eb_ca6b);
    let b = (a ^ a >> 13).wrapping_mul(0xc2b2_ae35);
    b ^ b >> 16
}

/// A table in the comparison.
pub trait Contender {
    /// What it is called in the results.
    const NAME: &'static str;

    /// Puts a flow in; false when there is no room.
    fn insert(&mut self, number: u32) -> bool;

    /// Looks a burst up the best way that the table offers; says how many flows it found. What it found is read.
    fn look_up(&self, burst: &Burst) -> usize;
}

/// The connection table of a worker, as the data path uses it: hash all and ask for their buckets, ask for their entries,
/// then find each.
pub struct Own(Table<Ipv4Addr>);

/// The same, one flow after the other.
pub struct OneByOne(Table<Ipv4Addr>);

fn own(capacity: u32) -> Table<Ipv4Addr> {
    Table::new(capacity, HashKey::random())
}

fn insert(table: &mut Table<Ipv4Addr>, number: u32) -> bool {
    let new = NewConnection {
        flow: flow(number),
        real: RealId(number % 10),
        real_address: Ipv4Addr::new(10, 1, 0, 1),
        real_port: L4Port(80),
        method: Method::Dr,
        masqueraded: false,
    };
    table.insert(&new, &Limits::NONE, Tick(0), |_, _| ()).is_ok()
}

#[inline]
fn find(table: &Table<Ipv4Addr>, hash: u64, flow: &Flow<Ipv4Addr>) -> usize {
    let found = table.find(hash, flow, Tick(0));
    usize::from(found.is_some_and(|found| black_box(table.entry(found.index)).real().0 < 10))
}

impl Own {
    pub fn new(capacity: u32) -> Self {
        Self(own(capacity))
    }
}

impl OneByOne {
    pub fn new(capacity: u32) -> Self {
        Self(own(capacity))
    }
}

impl Contender for Own {
    const NAME: &'static str = "shunt";

    fn insert(&mut self, number: u32) -> bool {
        insert(&mut self.0, number)
    }

    fn look_up(&self, burst: &Burst) -> usize {
        let mut hashes = [0; BURST];
        for (hash, flow) in hashes.iter_mut().zip(burst) {
            *hash = self.0.hash(flow);
            self.0.prefetch_bucket(*hash);
        }
        let candidates = hashes.map(|hash| self.0.prefetch_entry(hash));
        let look = |((candidate, hash), flow)| match self.0.try_candidate(candidate, flow, Tick(0)) {
            Some((_, entry)) => usize::from(black_box(entry).real().0 < 10),
            None => find(&self.0, hash, flow),
        };
        candidates.into_iter().zip(hashes).zip(burst).map(look).sum()
    }
}

impl Contender for OneByOne {
    const NAME: &'static str = "shunt, one by one";

    fn insert(&mut self, number: u32) -> bool {
        insert(&mut self.0, number)
    }

    fn look_up(&self, burst: &Burst) -> usize {
        burst.iter().map(|flow| find(&self.0, self.0.hash(flow), flow)).sum()
    }
}

/// DPDK's cuckoo hash by its lookup of many keys at once, with its own hash function, which takes a seed of 32 bits.
pub struct RteHash(HashTable<16>);

impl RteHash {
    pub fn new(eal: &Eal, capacity: u32) -> Result<Self, String> {
        let capacity = capacity.max(8);
        let seed = HashKey::random().client(Ipv4Addr::LOCALHOST) as u32;
        HashTable::new(eal, "tables", capacity, seed, None).map(Self).map_err(|error| error.to_string())
    }
}

/// The 5-tuple as 16 bytes.
#[inline]
fn bytes(flow: &Flow<Ipv4Addr>) -> [u8; 16] {
    let addresses = u128::from(flow.source.to_bits()) << 96 | u128::from(flow.destination.to_bits()) << 64;
    let ports = u128::from(flow.source_port.0) << 48 | u128::from(flow.destination_port.0) << 32;
    (addresses | ports | u128::from(flow.protocol.number())).to_ne_bytes()
}

impl Contender for RteHash {
    const NAME: &'static str = "rte_hash";

    fn insert(&mut self, number: u32) -> bool {
        self.0.insert(&bytes(&flow(number)), number.into())
    }

    fn look_up(&self, burst: &Burst) -> usize {
        let keys = burst.each_ref().map(bytes);
        let mut values = [0; hash::LOOKUP_MOST];
        let hits = self.0.lookup_bulk(&keys, &mut values);
        black_box(&values);
        hits.count_ones() as usize
    }
}

/// hashbrown with seeded foldhash. It offers neither bursts nor a way to ask for memory ahead of time.
pub struct Hashbrown(HashMap<Flow<Ipv4Addr>, u64, RandomState>);

impl Hashbrown {
    pub fn new(capacity: u32) -> Self {
        Self(HashMap::with_capacity_and_hasher(capacity as usize, RandomState::default()))
    }
}

impl Contender for Hashbrown {
    const NAME: &'static str = "hashbrown";

    fn insert(&mut self, number: u32) -> bool {
        self.0.insert(flow(number), number.into());
        true
    }

    fn look_up(&self, burst: &Burst) -> usize {
        let found = |flow: &Flow<Ipv4Addr>| {
            usize::from(self.0.get(flow).is_some_and(|value| black_box(*value) < u64::MAX))
        };
        burst.iter().map(found).sum()
    }
}

/// What was asked, in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Flows that are in the table.
    Hit,
    /// Flows that are not.
    Miss,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        })
    }
}
