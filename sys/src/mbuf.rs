//! One packet, owned, and a burst of them.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::ffi;
use crate::mempool::HEADROOM;
use crate::nic::NicId;
use crate::offload;
use crate::room::Room;

/// The most packets in one burst.
pub const BURST: usize = 64;

/// A packet in memory that NICs can reach. Whoever holds it owns it alone: dropping it gives it back to its pool,
/// and giving it to a NIC or a ring moves it there. It may be dropped on any thread.
///
/// A driver may return a frame in several segments (jumbo frames on pcap or memif). The accessors show the first
/// one; [`segments`](Mbuf::segments) tells, and such a packet can only be dropped or sent as it is.
#[repr(transparent)]
#[derive(Debug)]
pub struct Mbuf(NonNull<ffi::rte_mbuf>);

// SAFETY: rte_mbuf.h: an mbuf whose reference count is one may be used and freed by any thread, one at a time.
unsafe impl Send for Mbuf {}

/// What the NIC says of a checksum of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It did not look.
    Unknown,
    /// It is wrong.
    Bad,
    /// It is right.
    Good,
    /// It is not filled in, but the data is known to be intact (a virtual peer's offload).
    Absent,
}

impl Mbuf {
    /// # Safety
    ///
    /// `pointer` is NULL or an mbuf of reference count one that nobody else holds.
    #[inline]
    pub(crate) unsafe fn from_raw(pointer: *mut ffi::rte_mbuf) -> Option<Mbuf> {
        NonNull::new(pointer).map(Mbuf)
    }

    /// # Safety
    ///
    /// `offset` is one of the SHIM_MBUF_ constants and `T` the type of that field.
    #[inline]
    unsafe fn field<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: rte_mbuf_core.h: the structure is initialised by its pool, and this value owns it; the caller names
        // a field and its type.
        unsafe { self.0.as_ptr().byte_add(offset).cast::<T>().read() }
    }

    /// # Safety
    ///
    /// As for [`field`](Mbuf::field), and the value keeps the mbuf consistent: the packet lies in the buffer.
    #[inline]
    unsafe fn set_field<T: Copy>(&mut self, offset: usize, value: T) {
        // SAFETY: as for field; this value owns the mbuf alone.
        unsafe { self.0.as_ptr().byte_add(offset).cast::<T>().write(value) }
    }

    #[inline]
    fn buffer_pointer(&self) -> *mut u8 {
        // SAFETY: rte_mbuf_core.h: void *buf_addr.
        unsafe { self.field(ffi::SHIM_MBUF_BUF_ADDR) }
    }

    #[inline]
    fn buffer_length(&self) -> usize {
        // SAFETY: rte_mbuf_core.h: uint16_t buf_len.
        usize::from(unsafe { self.field::<u16>(ffi::SHIM_MBUF_BUF_LEN) })
    }

    /// Bytes of free room in front of the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        // SAFETY: rte_mbuf_core.h: uint16_t data_off.
        usize::from(unsafe { self.field::<u16>(ffi::SHIM_MBUF_DATA_OFF) }).min(self.buffer_length())
    }

    /// Bytes of the packet in the first segment, which is all of it when there is one segment.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: rte_mbuf_core.h: uint16_t data_len.
        usize::from(unsafe { self.field::<u16>(ffi::SHIM_MBUF_DATA_LEN) })
            .min(self.buffer_length() - self.headroom())
    }

    /// Whether the first segment holds nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of free room after the packet.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.buffer_length() - self.headroom() - self.len()
    }

    /// Bytes of the packet in all segments.
    #[inline]
    pub fn packet_len(&self) -> usize {
        // SAFETY: rte_mbuf_core.h: uint32_t pkt_len.
        unsafe { self.field::<u32>(ffi::SHIM_MBUF_PKT_LEN) as usize }
    }

    /// In how many buffers the packet lies.
    #[inline]
    pub fn segments(&self) -> u16 {
        // SAFETY: rte_mbuf_core.h: uint16_t nb_segs.
        unsafe { self.field(ffi::SHIM_MBUF_NB_SEGS) }
    }

    /// The packet's bytes: those of the first segment.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: rte_mbuf_core.h: buf_addr points at buf_len bytes, mapped and zeroed before Rust sees them, and
        // headroom and len keep within them. Nobody else writes: this value is the mbuf's only owner.
        unsafe { std::slice::from_raw_parts(self.buffer_pointer().add(self.headroom()), self.len()) }
    }

    /// The packet's bytes, to be changed in place.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for data; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.buffer_pointer().add(self.headroom()), self.len()) }
    }

    /// The whole buffer, for a caller that writes into the room around the packet. What changes start or length is
    /// told by [`set_data`](Mbuf::set_data) afterwards.
    #[inline]
    pub fn room_mut(&mut self) -> Room<'_> {
        let (start, len) = (self.headroom(), self.len());
        // SAFETY: as for data_mut, with all of the buffer.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.buffer_pointer(), self.buffer_length()) };
        Room::new(buffer, start, len)
    }

    /// Says that the packet now lies at `start` of the buffer and is `len` bytes long. It does not, and changes
    /// nothing, when that is not within the buffer or the packet has more than one segment.
    #[inline]
    #[must_use = "the packet is as it was if this is false"]
    pub fn set_data(&mut self, start: usize, len: usize) -> bool {
        let end = start.checked_add(len);
        if self.segments() != 1 || end.is_none_or(|end| end > self.buffer_length()) {
            return false;
        }
        // SAFETY: rte_mbuf_core.h: uint16_t data_off and data_len, uint32_t pkt_len, which is the sum of the segments'
        // data_len. Both numbers are at most buf_len, a u16.
        unsafe {
            self.set_field(ffi::SHIM_MBUF_DATA_OFF, start as u16);
            self.set_field(ffi::SHIM_MBUF_DATA_LEN, len as u16);
            self.set_field(ffi::SHIM_MBUF_PKT_LEN, len as u32);
        }
        true
    }

    /// Makes `bytes` the packet, after the usual headroom. It does not, and changes nothing, when they do not fit or
    /// the packet has more than one segment.
    #[inline]
    #[must_use = "the packet is as it was if this is false"]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        if !self.set_data(usize::from(HEADROOM), bytes.len()) {
            return false;
        }
        self.data_mut().copy_from_slice(bytes);
        true
    }

    /// The NIC that the packet came in on, or what [`set_nic`](Mbuf::set_nic) said last.
    #[inline]
    pub fn nic(&self) -> NicId {
        // SAFETY: rte_mbuf_core.h: uint16_t port.
        NicId(unsafe { self.field(ffi::SHIM_MBUF_PORT) })
    }

    /// Says which NIC the packet belongs to. Sending it does not look at this.
    #[inline]
    pub fn set_nic(&mut self, nic: NicId) {
        // SAFETY: rte_mbuf_core.h: uint16_t port, free for the application after receiving.
        unsafe { self.set_field(ffi::SHIM_MBUF_PORT, nic.0) }
    }

    #[inline]
    fn offload_flags(&self) -> u64 {
        // SAFETY: rte_mbuf_core.h: uint64_t ol_flags.
        unsafe { self.field(ffi::SHIM_MBUF_OL_FLAGS) }
    }

    /// What the receiving NIC says of the IPv4 header checksum.
    #[inline]
    pub fn ip_checksum(&self) -> Checksum {
        match self.offload_flags() & ffi::SHIM_RX_IP_CKSUM_MASK {
            ffi::SHIM_RX_IP_CKSUM_BAD => Checksum::Bad,
            ffi::SHIM_RX_IP_CKSUM_GOOD => Checksum::Good,
            ffi::SHIM_RX_IP_CKSUM_NONE => Checksum::Absent,
            _ => Checksum::Unknown,
        }
    }

    /// What the receiving NIC says of the TCP, UDP or SCTP checksum.
    #[inline]
    pub fn l4_checksum(&self) -> Checksum {
        match self.offload_flags() & ffi::SHIM_RX_L4_CKSUM_MASK {
            ffi::SHIM_RX_L4_CKSUM_BAD => Checksum::Bad,
            ffi::SHIM_RX_L4_CKSUM_GOOD => Checksum::Good,
            ffi::SHIM_RX_L4_CKSUM_NONE => Checksum::Absent,
            _ => Checksum::Unknown,
        }
    }

    /// True when the sender left something to a NIC: the checksum is not filled in, and the frame may be larger than any MTU.
    #[inline]
    pub fn is_offloaded(&self) -> bool {
        self.l4_checksum() == Checksum::Absent
    }

    /// Bytes of payload of each segment that the frame is to be cut into; 0 when it is to leave as it is.
    #[inline]
    pub fn segment_size(&self) -> u16 {
        if self.offload_flags() & ffi::SHIM_RX_LRO == 0 {
            return 0;
        }
        // SAFETY: rte_mbuf_core.h: uint64_t tx_offload, of which tso_segsz is a part.
        let all: u64 = unsafe { self.field(ffi::SHIM_MBUF_TX_OFFLOAD) };
        (all >> ffi::SHIM_TSO_SEGSZ_OFFSET & ((1 << ffi::SHIM_TSO_SEGSZ_BITS) - 1)) as u16
    }

    /// Says that the checksum is not filled in, and of what size segments are to be; 0 when there is nothing to cut.
    pub(crate) fn set_offload(&mut self, segment_size: u16) {
        let segments = if segment_size == 0 { 0 } else { ffi::SHIM_RX_LRO };
        // SAFETY: rte_mbuf_core.h: uint64_t ol_flags and tx_offload, free for whoever owns the mbuf.
        unsafe {
            self.set_field(ffi::SHIM_MBUF_OL_FLAGS, ffi::SHIM_RX_L4_CKSUM_NONE | segments);
            let size = u64::from(segment_size) << ffi::SHIM_TSO_SEGSZ_OFFSET;
            self.set_field(ffi::SHIM_MBUF_TX_OFFLOAD, size);
        }
    }

    /// Forgets what the sender left to a NIC: the packet is another one now, or it was done.
    pub fn forget_offload(&mut self) {
        // SAFETY: rte_mbuf_core.h: uint64_t ol_flags; nothing here puts flags in it that say who owns the buffer.
        unsafe { self.set_field(ffi::SHIM_MBUF_OL_FLAGS, 0_u64) }
    }

    /// Fills in the checksum that the sender left to a NIC, if it did. The frame keeps its size.
    pub fn fill_checksum(&mut self) {
        if self.is_offloaded() {
            offload::fill_checksum(self.data_mut());
            self.forget_offload();
        }
    }

    /// Asks the CPU to fetch the packet's first cache line.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let data = self.buffer_pointer().wrapping_add(self.headroom());
            // SAFETY: a prefetch is a hint that cannot fault, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(data.cast()) };
        }
    }
}

impl MbufBurst {
    /// Asks the CPU to fetch, for writing, what another core wrote last: each packet's description, then its first cache
    /// line. All at once, where one after the other would each wait for a transfer between cores.
    #[inline]
    pub fn claim(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            for mbuf in self.iter() {
                // SAFETY: a prefetch is a hint that cannot fault, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_ET0>(mbuf.0.as_ptr().cast_const().cast()) };
            }
            for mbuf in self.iter() {
                let data = mbuf.buffer_pointer().wrapping_add(mbuf.headroom());
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_ET0>(data.cast_const().cast()) };
            }
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: rte_mbuf.h: rte_pktmbuf_free takes an mbuf that the caller owns. This value does, and is gone after.
        unsafe { ffi::shim_pktmbuf_free(self.0.as_ptr()) }
    }
}

/// Up to [`BURST`] packets, as queues and rings take and give them. It is a slice with `push`, `pop` and `drain`;
/// what is left in it when it is dropped is freed at once.
#[derive(Debug, Default)]
pub struct MbufBurst(ArrayVec<Mbuf, BURST>);

impl MbufBurst {
    /// An empty burst.
    #[inline]
    pub fn new() -> MbufBurst {
        MbufBurst::default()
    }

    /// How many more packets fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.0.remaining_capacity()
    }

    /// Whether no further packet fits.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Adds a packet at the end.
    ///
    /// # Errors
    ///
    /// Gives the packet back when the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.0.try_push(mbuf).map_err(|full| full.element())
    }

    /// Takes the last packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.0.pop()
    }

    /// Takes the packet at `index`, the last one fills its place; nothing when there is none.
    #[inline]
    pub fn swap_remove(&mut self, index: usize) -> Option<Mbuf> {
        self.0.swap_pop(index)
    }

    /// Takes all packets, first to last. Those that the iterator does not give are freed.
    #[inline]
    pub fn drain(&mut self) -> impl DoubleEndedIterator<Item = Mbuf> + ExactSizeIterator + '_ {
        self.0.drain(..)
    }

    /// Frees all packets and says how many they were.
    #[inline]
    pub fn clear(&mut self) -> usize {
        let count = self.0.len();
        if count != 0 {
            let first = self.as_raw();
            // SAFETY: rte_mbuf.h: rte_pktmbuf_free_bulk takes count mbufs that the caller owns; the burst forgets them,
            // before which nothing can read them.
            unsafe {
                self.0.set_len(0);
                ffi::rte_pktmbuf_free_bulk(first, count as u32);
            }
        }
        count
    }

    /// Frees the first `count` packets, and moves the rest to the front.
    pub(crate) fn free_front(&mut self, count: usize) {
        let count = count.min(self.0.len());
        if count != 0 {
            // SAFETY: rte_mbuf.h: rte_pktmbuf_free_bulk takes count mbufs that the caller owns; the burst forgets them.
            unsafe {
                ffi::rte_pktmbuf_free_bulk(self.as_raw(), count as u32);
                self.forget_front(count);
            }
        }
    }

    /// The packets as DPDK wants them: Mbuf is a transparent pointer.
    #[inline]
    pub(crate) fn as_raw(&mut self) -> *mut *mut ffi::rte_mbuf {
        self.0.as_mut_ptr().cast()
    }

    /// Where the next packet goes; there is space for [`room`](MbufBurst::room).
    #[inline]
    pub(crate) fn spare_pointer(&mut self) -> *mut *mut ffi::rte_mbuf {
        let len = self.0.len();
        self.as_raw().wrapping_add(len)
    }

    /// # Safety
    ///
    /// `count` mbufs, owned by the caller until now, were written at the spare pointer, and `count` is at most the room.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        debug_assert!(count <= self.room());
        // SAFETY: the caller wrote that many elements after the present ones.
        unsafe { self.0.set_len(self.0.len() + count) }
    }

    /// Forgets the first `count` packets without freeing them, and moves the rest to the front.
    ///
    /// # Safety
    ///
    /// Someone else owns them now, and `count` is at most the length.
    #[inline]
    pub(crate) unsafe fn forget_front(&mut self, count: usize) {
        let rest = self.0.len() - count;
        let first = self.0.as_mut_ptr();
        // SAFETY: both ranges lie within the present elements; the forgotten ones are overwritten or cut off.
        unsafe {
            self.0.set_len(0);
            std::ptr::copy(first.add(count), first, rest);
            self.0.set_len(rest);
        }
    }
}

impl Deref for MbufBurst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        &self.0
    }
}

impl DerefMut for MbufBurst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        &mut self.0
    }
}

impl Drop for MbufBurst {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}
