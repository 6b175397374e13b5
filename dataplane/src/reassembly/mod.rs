//! Datagrams of which fragments came (RFC 791, 3.2; RFC 8200, 4.5; kernel: `ip_frag_queue`, `ip6_frag_queue`): bounded in
//! memory, size and time. A fragment that overlaps another ends its datagram (RFC 5722, 3).
//!
//! Fragments lie in blocks of one piece of memory, as many as each needs. When none is left a datagram gives way: the oldest of the client that
//! holds most of the memory, if one holds more than its share, else the oldest of all.

mod blocks;
mod clients;
mod datagram;
#[cfg(test)]
mod tests;

use std::ops::Range;

use arrayvec::ArrayVec;
use foldhash::quality::RandomState;
use hashbrown::HashMap;

use self::blocks::Blocks;
use self::clients::{Clients, Order};
use self::datagram::Datagram;
use crate::id::NicId;
use crate::reason::{DropReason, Incomplete};
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};
use crate::wire::{IpVersion, LARGEST_PACKET, ipv4};

/// Bytes of memory for the fragments of a worker and family where nobody says otherwise (kernel: `ipfrag_high_thresh`).
pub const MEMORY_DEFAULT: u32 = 4 << 20;
/// The least: the largest datagram, in as many fragments as it may have, fits several times.
pub const MEMORY_MIN: u32 = 1 << 20;
/// Fragments of a datagram.
pub const FRAGMENTS_MAX: usize = 64;
/// The longest header that a datagram may have, IPv4 options and extension headers in front of the fragment header included.
pub const HEADER_MAX: usize = 128;
/// How long an incomplete IPv4 datagram is kept (kernel: `ipfrag_time`).
pub const KEPT_V4: Ticks = Ticks(30 * TICKS_PER_SECOND);
/// How long an incomplete IPv6 datagram is kept (kernel: `ip6frag_time`).
pub const KEPT_V6: Ticks = Ticks(60 * TICKS_PER_SECOND);

/// Bytes of data in the largest datagram.
const DATA_MAX: usize = LARGEST_PACKET as usize - ipv4::HEADER;
/// Where data starts in a buffer: behind room for all that can come in front.
const DATA: usize = 256;
/// A client that holds more than one part of so many of the memory gives way first.
const SHARES: usize = 16;

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification.
    pub identification: u32,
    /// IPv4: the protocol.
    pub protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, A> {
    /// Of which datagram.
    pub key: Key<A>,
    /// The IP header, without fragment header.
    pub header: &'a [u8],
    /// Where in the header the protocol stands, and which it is.
    pub protocol: (usize, u8),
    /// Where in the datagram its data belongs, in bytes.
    pub offset: usize,
    /// It is not the last.
    pub more: bool,
    /// Its data.
    pub data: &'a [u8],
    /// Bytes of its IP packet.
    pub length: u16,
    /// IPv4: DF.
    pub dont_fragment: bool,
    /// ECN bits.
    pub ecn: u8,
}

impl<A> Part<'_, A> {
    /// Its data is no multiple of eight bytes, though it is not the last: it is part of no datagram (RFC 8200, 4.5). What IPv4 has too
    /// much is left out.
    #[must_use]
    pub const fn is_uneven(&self) -> bool {
        self.more && self.data.len() % 8 != 0
    }
}

/// The place of a whole datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits for the others.
    Kept,
    /// The datagram is whole.
    Whole(Place),
}

/// A whole datagram, in a buffer with room in front.
#[derive(Debug)]
pub struct Whole {
    /// The buffer: an IP packet with room for an Ethernet header, and more, in front.
    pub bytes: Vec<u8>,
    /// Where the IP packet starts.
    pub start: usize,
    /// Bytes of it.
    pub length: usize,
    /// Bytes of its header.
    pub header: usize,
    /// Bytes of the largest fragment that it was put together from.
    pub largest: u16,
    /// The largest had DF.
    pub dont_fragment: bool,
    /// Congestion was experienced by one that could tell.
    pub congestion: bool,
    /// Where in its data fragments began, in order.
    pub cuts: ArrayVec<usize, FRAGMENTS_MAX>,
}

/// A datagram whose time is over, in a buffer with room in front.
#[derive(Debug)]
pub struct Overdue {
    /// For [`Reassembly::give_back`].
    pub place: Place,
    /// Where its latest fragment came in.
    pub nic: NicId,
    /// The buffer.
    pub bytes: Vec<u8>,
    /// Where in it the IP packet of the first fragment lies, as it came; none when that never came.
    pub first: Option<Range<usize>>,
}

/// The incomplete datagrams of a worker and family.
#[derive(Debug)]
pub struct Reassembly<A> {
    /// As many as there ever were at a time; the places of those that ended are `free`.
    datagrams: Vec<Datagram<A>>,
    free: Vec<u32>,
    places: HashMap<Key<A>, u32, RandomState>,
    blocks: Blocks,
    clients: Clients<A>,
    /// All of them, oldest first.
    order: Order,
    /// Before this the time of none of them is over; none when there are none.
    soonest: Option<Tick>,
    /// Where a datagram is put together; empty while it is lent out.
    spare: Vec<u8>,
}

impl<A: IpVersion> Reassembly<A> {
    const KEPT: Ticks = if A::BITS > 32 { KEPT_V6 } else { KEPT_V4 };
    /// What a datagram takes beside its data.
    const OWN_BLOCKS: usize = size_of::<Datagram<A>>().div_ceil(blocks::BYTES);

    /// None, in so many bytes of memory, at least [`MEMORY_MIN`]; all of it is taken here, and touched when it is needed.
    #[must_use]
    pub fn new(memory: u32) -> Self {
        let all = memory.max(MEMORY_MIN) as usize / blocks::BYTES;
        // None has less than a block of data.
        let most = all / (Self::OWN_BLOCKS + 1);
        Self {
            datagrams: Vec::with_capacity(most),
            free: Vec::with_capacity(most),
            places: HashMap::with_capacity_and_hasher(most, RandomState::default()),
            blocks: Blocks::new(all),
            clients: Clients::new(most, all / SHARES),
            order: Order::default(),
            soonest: None,
            spare: vec![0; DATA + DATA_MAX],
        }
    }

    /// Takes a fragment that came in at `nic`. `given_up` is called for each datagram that ends incomplete.
    ///
    /// # Errors
    /// `Fragment` when it does not fit the others, whose datagram ends then.
    pub fn add(
        &mut self,
        part: &Part<'_, A>,
        nic: NicId,
        now: Tick,
        mut given_up: impl FnMut(Incomplete),
    ) -> Result<Added, DropReason> {
        let known = self.places.get(&part.key).copied();
        let data = Blocks::for_bytes(part.data.len());
        let needed = if known.is_some() { data } else { data + Self::OWN_BLOCKS };
        while self.blocks.free() < needed {
            // The least memory holds more than one datagram can have.
            let Some(place) = self.gives_way(known) else { return Err(DropReason::Fragment) };
            given_up(Incomplete::Memory);
            self.end(place);
        }
        let place = known.unwrap_or_else(|| self.begin(part.key, now));
        let datagram = &mut self.datagrams[place as usize];
        datagram.nic = nic;
        let before = self.blocks.free();
        let added = datagram.add(part, &mut self.blocks);
        self.clients.hold(part.key.source, before - self.blocks.free());
        match added {
            Ok(true) => Ok(Added::Whole(Place(place))),
            Ok(false) => Ok(Added::Kept),
            Err(reason) => {
                self.end(place);
                given_up(Incomplete::Misfit);
                Err(reason)
            }
        }
    }

    /// The datagram that makes room for others, `but` not this one.
    fn gives_way(&self, but: Option<u32>) -> Option<u32> {
        let of_client = self
            .clients
            .heaviest()
            .and_then(|order| order.oldest_but(but, |place| self.next_of_client(place)));
        of_client.or_else(|| self.order.oldest_but(but, |place| self.datagrams[place as usize].all.next))
    }

    fn next_of_client(&self, place: u32) -> Option<u32> {
        self.datagrams[place as usize].of_client.next
    }

    fn begin(&mut self, key: Key<A>, now: Tick) -> u32 {
        let until = now.after(Self::KEPT);
        let place = self.free.pop().unwrap_or_else(|| {
            self.datagrams.push(Datagram::empty());
            self.datagrams.len() as u32 - 1
        });
        self.datagrams[place as usize].begin(key, until);
        self.places.insert(key, place);
        self.blocks.reserve(Self::OWN_BLOCKS);
        let datagrams = &mut self.datagrams;
        self.order.push(place, datagrams, |datagram| &mut datagram.all);
        let client = self.clients.get(key.source);
        client.blocks += Self::OWN_BLOCKS;
        client.order.push(place, datagrams, |datagram| &mut datagram.of_client);
        self.soonest.get_or_insert(until);
        place
    }

    /// Ends a datagram.
    fn end(&mut self, place: u32) {
        let Some(key) = self.datagrams[place as usize].key.take() else { return };
        self.places.remove(&key);
        let before = self.blocks.free();
        self.datagrams[place as usize].clear(&mut self.blocks);
        self.blocks.release(Self::OWN_BLOCKS);
        let freed = self.blocks.free() - before;
        let datagrams = &mut self.datagrams;
        self.order.remove(place, datagrams, |datagram| &mut datagram.all);
        let client = self.clients.get(key.source);
        client.order.remove(place, datagrams, |datagram| &mut datagram.of_client);
        self.clients.let_go(key.source, freed);
        self.free.push(place);
        self.soonest = self.order.oldest().map(|oldest| self.datagrams[oldest as usize].until);
    }

    /// Lends a whole datagram out; it stays until it is [given back](Self::give_back).
    pub fn lend(&mut self, place: Place) -> Whole {
        let mut bytes = std::mem::take(&mut self.spare);
        let datagram = &self.datagrams[place.0 as usize];
        datagram.copy_to(&mut bytes, &self.blocks);
        Whole {
            bytes,
            start: DATA - datagram.header_length,
            length: datagram.header_length + datagram.end.unwrap_or(0),
            header: datagram.header_length,
            largest: datagram.largest,
            dont_fragment: datagram.largest_df == datagram.largest,
            congestion: datagram.congestion(),
            cuts: datagram.cuts(),
        }
    }

    /// Lends out a datagram whose time is over, which ends when it is [given back](Self::give_back); none when there is no such.
    #[inline]
    pub fn overdue(&mut self, now: Tick) -> Option<Overdue> {
        if self.soonest?.has_come(now) { self.find_overdue() } else { None }
    }

    #[cold]
    fn find_overdue(&mut self) -> Option<Overdue> {
        let place = self.order.oldest()?;
        let mut bytes = std::mem::take(&mut self.spare);
        let datagram = &self.datagrams[place as usize];
        let first = datagram.restore_first(&mut bytes, &self.blocks);
        Some(Overdue { place: Place(place), nic: datagram.nic, bytes, first })
    }

    /// Takes the buffer of a datagram back, which ends unless it is `kept` for its last fragment to come again.
    pub fn give_back(&mut self, place: Place, bytes: Vec<u8>, kept: bool) {
        self.spare = bytes;
        if !kept {
            self.end(place.0);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its memory that are in use, and all of them.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        let all = self.blocks.all();
        let bytes = |blocks: usize| (blocks * blocks::BYTES) as u64;
        (bytes(all - self.blocks.free()), bytes(all))
    }
}
