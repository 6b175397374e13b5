//! Hands packets from thread to thread: a bounded ring with any number of senders and one receiver.

use std::error::Error;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::eal::Eal;
use crate::errno::Errno;
use crate::ffi;
use crate::log::{self, Said};
use crate::mbuf::MbufBurst;
use crate::mempool::{NumaNode, socket, unique_name};

/// The most packets that a ring may hold.
pub const CAPACITY_MOST: u32 = 1 << 30;

/// Makes a ring for `capacity` packets, 1 to [`CAPACITY_MOST`]. What is in it when both ends are gone is freed.
///
/// # Errors
///
/// When there is no memory for it or the capacity is out of bounds.
pub fn mbuf_ring(
    eal: &Eal,
    name: &str,
    capacity: u32,
    node: Option<NumaNode>,
) -> Result<(RingSender, RingReceiver), RingError> {
    let ring = Arc::new(Ring::create(eal, name, capacity, node, Senders::Many)?);
    Ok((RingSender { ring: Arc::clone(&ring) }, RingReceiver { ring }))
}

/// As [`mbuf_ring`], with one sender, which makes sending cheaper.
///
/// # Errors
///
/// As [`mbuf_ring`].
pub fn single_sender_ring(
    eal: &Eal,
    name: &str,
    capacity: u32,
    node: Option<NumaNode>,
) -> Result<(RingFeed, RingReceiver), RingError> {
    let ring = Arc::new(Ring::create(eal, name, capacity, node, Senders::One)?);
    Ok((RingFeed::new(Arc::clone(&ring)), RingReceiver::new(ring)))
}

/// How many threads put packets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Senders {
    /// One at a time.
    One,
    /// Any number at once.
    Many,
}

#[derive(Debug)]
pub(crate) struct Ring {
    raw: NonNull<ffi::rte_ring>,
    _eal: Eal,
}

// SAFETY: rte_ring.h: the ring is made for one consumer and for as many producers as it was told. The only consumer is
// the one RingReceiver, or the one queue of a NIC, through its exclusive borrow; a ring for one producer has one
// RingFeed or queue of a NIC likewise.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// A ring, as [`mbuf_ring`] makes it. With [`Senders::One`] the caller sees to it that there is only one.
    pub(crate) fn create(
        eal: &Eal,
        name: &str,
        capacity: u32,
        node: Option<NumaNode>,
        senders: Senders,
    ) -> Result<Ring, RingError> {
        let refuse = |(error, said)| RingError { name: name.to_owned(), capacity, error, said };
        // DPDK computes the size without looking for an overflow.
        if capacity == 0 || capacity > CAPACITY_MOST {
            return Err(refuse((Errno::INVALID, Said::default())));
        }
        let unique = unique_name(name);
        let raw = log::listen(|| {
            // SAFETY: rte_ring.h: rte_ring_create takes a terminated name, which it copies, and has no trouble with a
            // capacity in these bounds; the EAL is up.
            let pointer = unsafe {
                match senders {
                    Senders::One => ffi::shim_ring_create_single(unique.as_ptr(), capacity, socket(node)),
                    Senders::Many => ffi::shim_ring_create(unique.as_ptr(), capacity, socket(node)),
                }
            };
            NonNull::new(pointer).ok_or_else(Errno::last)
        })
        .map_err(refuse)?;
        Ok(Ring { raw, _eal: eal.clone() })
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rte_ring {
        self.raw.as_ptr()
    }

    fn count(&self) -> usize {
        // SAFETY: rte_ring.h: rte_ring_count may be called by any thread at any time; the ring exists.
        unsafe { ffi::shim_ring_count(self.raw.as_ptr()) as usize }
    }

    fn capacity(&self) -> usize {
        // SAFETY: rte_ring.h: rte_ring_get_capacity reads what never changes; the ring exists.
        unsafe { ffi::shim_ring_get_capacity(self.raw.as_ptr()) as usize }
    }

    /// # Safety
    ///
    /// No other thread puts into the ring at the same time, unless it was made for [`Senders::Many`].
    #[inline]
    unsafe fn put(&self, burst: &mut MbufBurst) -> usize {
        let count = burst.len() as u32;
        // SAFETY: rte_ring.h: rte_ring_enqueue_burst reads count pointers and takes the first so many; those belong to
        // the ring from then on and the burst forgets them. The caller keeps to the number of producers.
        unsafe {
            let sent = ffi::shim_ring_enqueue_burst(self.raw.as_ptr(), burst.as_raw(), count) as usize;
            burst.forget_front(sent);
            sent
        }
    }

    /// # Safety
    ///
    /// No other thread takes from the ring at the same time.
    #[inline]
    unsafe fn take(&self, burst: &mut MbufBurst) -> usize {
        let room = burst.room();
        // SAFETY: rte_ring.h: rte_ring_sc_dequeue_burst writes at most room pointers at the spare pointer; only mbufs
        // are ever put in, and taking one makes the caller its owner. The caller is the only consumer.
        unsafe {
            let end = burst.spare_pointer();
            let taken = ffi::shim_ring_sc_dequeue_burst(self.raw.as_ptr(), end, room as u32) as usize;
            burst.grow(taken);
            taken
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut burst = MbufBurst::new();
        // SAFETY: the last handle is gone, so nobody else takes.
        while unsafe { self.take(&mut burst) } != 0 {
            burst.clear();
        }
        // SAFETY: rte_ring.h: rte_ring_free takes a ring that nobody uses any more; the last handle is gone.
        unsafe { ffi::rte_ring_free(self.raw.as_ptr()) }
    }
}

/// The end that packets are put in. Clones send to the same ring, from any thread.
#[derive(Clone, Debug)]
pub struct RingSender {
    ring: Arc<Ring>,
}

impl RingSender {
    /// Puts in as many of the burst's packets as there is room for, first ones first, and says how many. The rest
    /// stays in the burst.
    #[inline]
    pub fn send_burst(&self, burst: &mut MbufBurst) -> usize {
        // SAFETY: the ring was made for any number of senders.
        unsafe { self.ring.put(burst) }
    }

    /// How many packets wait in the ring; a moment later it may be different.
    pub fn len(&self) -> usize {
        self.ring.count()
    }

    /// Whether no packet waits in the ring.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many packets fit in all.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

/// The end that packets are put in of a ring with one sender, on one thread at a time.
#[derive(Debug)]
pub struct RingFeed {
    ring: Arc<Ring>,
}

impl RingFeed {
    /// The one sender of a ring that was made for [`Senders::One`].
    pub(crate) fn new(ring: Arc<Ring>) -> RingFeed {
        RingFeed { ring }
    }

    /// As [`RingSender::send_burst`].
    #[inline]
    pub fn send_burst(&mut self, burst: &mut MbufBurst) -> usize {
        // SAFETY: there is one sender and it is borrowed exclusively.
        unsafe { self.ring.put(burst) }
    }

    /// How many packets wait in the ring; a moment later it may be fewer.
    pub fn len(&self) -> usize {
        self.ring.count()
    }

    /// Whether no packet waits in the ring.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many packets fit in all.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

/// The end that packets are taken from: one, on one thread at a time.
#[derive(Debug)]
pub struct RingReceiver {
    ring: Arc<Ring>,
}

impl RingReceiver {
    /// The one receiver of a ring.
    pub(crate) fn new(ring: Arc<Ring>) -> RingReceiver {
        RingReceiver { ring }
    }

    /// Adds what waits in the ring to the burst, as far as the burst has room, and says how many.
    #[inline]
    pub fn receive_burst(&mut self, burst: &mut MbufBurst) -> usize {
        // SAFETY: there is one receiver and it is borrowed exclusively.
        unsafe { self.ring.take(burst) }
    }

    /// How many packets wait in the ring.
    #[inline]
    pub fn len(&self) -> usize {
        self.ring.count()
    }

    /// Whether no packet waits in the ring.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many packets fit in all.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

/// Why a ring could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingError {
    name: String,
    capacity: u32,
    error: Errno,
    said: Said,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RingError { name, capacity, error, said } = self;
        write!(
            f,
            "ring {name}: no ring for {capacity} packets, 1 to {CAPACITY_MOST} as memory allows ({error}){said}"
        )
    }
}

impl Error for RingError {}
