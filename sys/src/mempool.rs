//! Memory for packets: a fixed number of mbufs of one size, allocated at the start.

use std::error::Error;
use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::eal::Eal;
use crate::errno::Errno;
use crate::ffi;
use crate::log::{self, Said};
use crate::mbuf::{Mbuf, MbufBurst};

/// Room in front of a packet in a fresh mbuf, in bytes.
pub const HEADROOM: u16 = ffi::RTE_PKTMBUF_HEADROOM as u16;

/// The data room that holds a frame of an ordinary NIC (2048 bytes) after the headroom.
pub const DATA_ROOM: u16 = 2048 + HEADROOM;

/// The most mbufs that a thread's cache may hold.
pub const CACHE_MOST: u32 = ffi::RTE_MEMPOOL_CACHE_MAX_SIZE;

/// A NUMA node: the memory that is near to some CPUs and NICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumaNode(pub u32);

/// `None` means that it does not matter.
pub(crate) fn socket(node: Option<NumaNode>) -> i32 {
    node.and_then(|node| i32::try_from(node.0).ok()).unwrap_or(ffi::SHIM_SOCKET_ID_ANY)
}

/// A name that no other mempool or ring of this process has, short enough for DPDK (26 bytes with the terminator).
pub(crate) fn unique_name(name: &str) -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let readable: String = name.chars().filter(char::is_ascii_graphic).take(12).collect();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("{readable}.{number}")).unwrap_or_default()
}

/// A pool of mbufs. Clones are handles to the same pool. When the last is dropped its memory is kept for the next
/// pool of the same measures, and freed with the [`Eal`].
#[derive(Clone, Debug)]
pub struct Mempool {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    name: String,
    raw: RetiredPool,
    eal: Eal,
}

/// A mempool of DPDK's and what it was made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetiredPool {
    pointer: NonNull<ffi::rte_mempool>,
    measures: Measures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measures {
    mbufs: u32,
    cache: u32,
    data_room: u16,
    node: Option<NumaNode>,
}

// SAFETY: rte_mempool.h: get, put and the counts may be called from any thread at the same time; the cache that a
// call uses belongs to the calling thread.
unsafe impl Send for RetiredPool {}
// SAFETY: as above.
unsafe impl Sync for RetiredPool {}

impl RetiredPool {
    /// Whether all mbufs are back.
    pub(crate) fn is_full(&self) -> bool {
        self.free_count() == self.measures.mbufs
    }

    fn free_count(&self) -> u32 {
        // SAFETY: rte_mempool.h: rte_mempool_avail_count reads a pool that exists; pools live as long as the EAL.
        unsafe { ffi::rte_mempool_avail_count(self.pointer.as_ptr()) }
    }
}

impl Mempool {
    /// Allocates `mbufs` mbufs. Best is a power of two less one. Each registered thread may keep up to about
    /// 1.5 times `cache` of them ready for itself, so leave enough for all: `cache` is at most [`CACHE_MOST`] and
    /// two thirds of `mbufs`; 0 for none. `data_room` counts the headroom of [`HEADROOM`] bytes; [`DATA_ROOM`] is
    /// the usual. `name` is for error messages.
    ///
    /// # Errors
    ///
    /// When the memory does not suffice or a measure is out of bounds.
    pub fn new(
        eal: &Eal,
        name: &str,
        mbufs: u32,
        cache: u32,
        data_room: u16,
        node: Option<NumaNode>,
    ) -> Result<Mempool, MempoolError> {
        let measures = Measures { mbufs, cache, data_room, node };
        let refuse = |problem| MempoolError { name: name.to_owned(), measures, problem };
        if data_room <= HEADROOM {
            return Err(refuse(Problem::DataRoom));
        }
        if cache > CACHE_MOST || u64::from(cache) * 3 > u64::from(mbufs) * 2 {
            return Err(refuse(Problem::Cache));
        }
        let raw = match reuse(eal, measures) {
            Some(raw) => raw,
            None => create(name, measures).map_err(|(error, said)| refuse(Problem::Refused(error, said)))?,
        };
        Ok(Mempool { pool: Arc::new(Pool { name: name.to_owned(), raw, eal: eal.clone() }) })
    }

    /// The name given when it was made.
    pub fn name(&self) -> &str {
        &self.pool.name
    }

    /// How many mbufs it has in all.
    pub fn capacity(&self) -> u32 {
        self.pool.raw.measures.mbufs
    }

    /// How many mbufs are free, those in the threads' caches included. It visits every cache: for status and tests.
    pub fn free_count(&self) -> u32 {
        self.pool.raw.free_count()
    }

    /// How many mbufs are out: owned by someone, in a ring, or with a NIC.
    pub fn in_use(&self) -> u32 {
        self.capacity().saturating_sub(self.free_count())
    }

    /// Bytes of each mbuf's buffer, headroom included.
    pub fn data_room(&self) -> u16 {
        self.pool.raw.measures.data_room
    }

    /// An empty mbuf with [`HEADROOM`] bytes of room in front, or nothing when the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: rte_mbuf.h: rte_pktmbuf_alloc takes a pool made for mbufs and gives an mbuf that is the caller's,
        // or NULL.
        unsafe { Mbuf::from_raw(ffi::shim_pktmbuf_alloc(self.as_ptr())) }
    }

    /// Adds `count` empty mbufs to the burst: all, or none when the pool or the burst has not enough room. Says
    /// whether it did.
    #[inline]
    pub fn alloc_burst(&self, count: usize, burst: &mut MbufBurst) -> bool {
        if count > burst.room() {
            return false;
        }
        let end = burst.spare_pointer();
        // SAFETY: rte_mbuf.h: rte_pktmbuf_alloc_bulk writes count pointers, for which the burst has room, or returns
        // an error and writes none that count.
        unsafe {
            let failed = ffi::shim_pktmbuf_alloc_bulk(self.as_ptr(), end, count as u32) != 0;
            if !failed {
                burst.grow(count);
            }
            !failed
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rte_mempool {
        self.pool.raw.pointer.as_ptr()
    }
}

/// Takes a retired pool of the same measures whose mbufs are all back.
fn reuse(eal: &Eal, measures: Measures) -> Option<RetiredPool> {
    let mut retired = eal.retired_pools();
    let found = retired.iter().position(|pool| pool.measures == measures && pool.is_full())?;
    Some(retired.swap_remove(found))
}

/// A stack that nobody waits at, whatever became of others in the midst of it (`rte_stack.h`: lock-free, by a compare-and-swap of 16 bytes).
/// At DPDK's rings whoever comes later waits sooner or later for one that is kept from its CPU: at the usual one at once, at
/// `ring_mt_rts` when it is an eighth of the pool ahead; one that waits in real time keeps it from there for a second.
const OPS: &CStr = c"lf_stack";

fn create(name: &str, measures: Measures) -> Result<RetiredPool, (Errno, Said)> {
    let name = unique_name(name);
    log::listen(|| {
        // SAFETY: shim.h, rte_mbuf.h: rte_pktmbuf_pool_create_by_ops takes terminated names, which it copies, and measures that
        // it checks itself; the EAL is up.
        let pointer = unsafe {
            ffi::shim_pktmbuf_pool_create(
                name.as_ptr(),
                measures.mbufs,
                measures.cache,
                measures.data_room,
                socket(measures.node),
                OPS.as_ptr(),
            )
        };
        NonNull::new(pointer).map(|pointer| RetiredPool { pointer, measures }).ok_or_else(Errno::last)
    })
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.eal.retired_pools().push(self.raw);
    }
}

/// Why a mempool could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolError {
    name: String,
    measures: Measures,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    DataRoom,
    Cache,
    Refused(Errno, Said),
}

impl fmt::Display for MempoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MempoolError { name, measures: Measures { mbufs, cache, data_room, .. }, problem } = self;
        write!(f, "mempool {name}: ")?;
        match problem {
            Problem::DataRoom => {
                write!(f, "a data room of {data_room} bytes holds nothing after {HEADROOM} of headroom")
            }
            Problem::Cache => write!(
                f,
                "a cache of {cache} mbufs is too large: at most {CACHE_MOST}, and two thirds of the {mbufs} mbufs"
            ),
            // Cache and data room were looked at before.
            Problem::Refused(error, said) if *error == Errno::INVALID => write!(
                f,
                "DPDK has no mempool driver {} ({error}): install its librte_mempool_stack{said}",
                OPS.to_string_lossy()
            ),
            Problem::Refused(error, said) => {
                let mebibytes = (u64::from(*mbufs) * (u64::from(*data_room) + 192)).div_ceil(1 << 20);
                write!(
                    f,
                    "no room for {mbufs} mbufs, about {mebibytes} MiB ({error}): give DPDK more memory{said}"
                )
            }
        }
    }
}

impl Error for MempoolError {}
