//! A packet socket (packet(7)) as one queue of a NIC: frames are received straight into mbufs and sent from them, with the header by
//! which senders tell what they left to a NIC (`PACKET_VNET_HDR`).
//!
//! Who is to receive does not know how large a frame is. So each place of a burst has an ordinary mbuf for its first bytes, and behind it a
//! large one, whose bytes lie so that only those first ones are copied when it is needed.

use std::ffi::c_void;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

use crate::mbuf::{BURST, Mbuf, MbufBurst};
use crate::mempool::{HEADROOM, Mempool};
use crate::nic::NicId;
use crate::offload;

/// Frames received by one system call; a queue holds as many mbufs ready for them.
pub const PLACES: usize = 16;
/// Room in front of a large frame: a tag that the kernel took off goes there.
const LARGE_HEADROOM: usize = 4;
/// Bytes of the buffer of a large mbuf: as many as an mbuf can have.
pub const LARGE_ROOM: u16 = u16::MAX;
/// Bytes of the kernel's memory that frames may take which wait in a socket; the kernel allows twice as many.
pub(crate) const ROOM: i32 = 4 << 20;
/// The most frames that wait in a queue's socket: of the smallest ones, with all that the kernel counts for each. Large ones take 64 KiB.
pub const WAITING_MOST: usize = 2 * ROOM as usize / 768;
/// Large mbufs that a queue needs: in its places, and those on their way.
pub const LARGE_PER_QUEUE: u32 = 64;

/// `struct virtio_net_hdr` of the virtio specification, in the processor's order of bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    flags: u8,
    kind: u8,
    header_length: u16,
    segment_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

const HEADER: usize = size_of::<Header>();
/// Of its flags: the checksum is not filled in.
const NEEDS_CHECKSUM: u8 = 1;
/// What it is that is to be cut.
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP_SEGMENTS: u8 = 5;
/// Beside that: TCP tells that it sends less.
const WITH_ECN: u8 = 0x80;

/// What a queue has counted. One thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub received_packets: AtomicU64,
    pub received_bytes: AtomicU64,
    pub receive_errors: AtomicU64,
    pub no_mbuf: AtomicU64,
    pub sent_packets: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub send_errors: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// Room for a control message with `struct tpacket_auxdata`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Control([u8; 48]);

/// Where one frame is received.
#[derive(Debug)]
struct Place {
    header: Header,
    control: Control,
    parts: [libc::iovec; 3],
    ordinary: Option<Mbuf>,
    large: Option<Mbuf>,
}

const NOWHERE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: RawFd,
    nic: NicId,
    /// Their mbufs go before the pools; where they lie does not change.
    places: Box<[Place]>,
    messages: Box<[libc::mmsghdr]>,
    pool: Mempool,
    large: Mempool,
    counts: Arc<Counts>,
}

// SAFETY: the pointers lead to what this value owns on the heap, and are made anew for each call.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Of a socket that outlives it.
    pub fn new(socket: RawFd, nic: NicId, pool: Mempool, large: Mempool, counts: Arc<Counts>) -> Receiver {
        let place = || Place {
            header: Header::default(),
            control: Control([0; 48]),
            parts: [NOWHERE; 3],
            ordinary: None,
            large: None,
        };
        let places = std::iter::repeat_with(place).take(PLACES).collect();
        // SAFETY: all zero is a message of this kind.
        let messages = (0..PLACES).map(|_| unsafe { std::mem::zeroed() }).collect();
        Receiver { socket, nic, places, messages, pool, large, counts }
    }

    /// As [`RxQueue::burst_at_most`](crate::RxQueue::burst_at_most).
    pub fn burst(&mut self, burst: &mut MbufBurst, most: usize) -> usize {
        let mut received = 0;
        while received < most {
            let ready = self.make_ready((most - received).min(PLACES));
            if ready == 0 {
                break;
            }
            // SAFETY: recvmmsg(2) writes so many messages, whose parts lead to a header, a control message and the free room of mbufs, all
            // owned by the places.
            let came = unsafe {
                libc::recvmmsg(
                    self.socket,
                    self.messages.as_mut_ptr(),
                    ready as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            let Ok(came) = usize::try_from(came) else {
                let nothing = matches!(
                    io::Error::last_os_error().raw_os_error(),
                    Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN)
                );
                if !nothing {
                    add(&self.counts.receive_errors, 1);
                }
                break;
            };
            for number in 0..came {
                match self.take(number) {
                    Ok(mbuf) => {
                        add(&self.counts.received_packets, 1);
                        add(&self.counts.received_bytes, mbuf.len() as u64);
                        received += usize::from(burst.push(mbuf).is_ok());
                    }
                    Err(counter) => add(counter(&self.counts), 1),
                }
            }
            if came < ready {
                break;
            }
        }
        received
    }

    /// Puts mbufs into the first `count` places, and says how many of them have one.
    fn make_ready(&mut self, count: usize) -> usize {
        let room = usize::from(self.pool.data_room() - HEADROOM);
        for (number, place) in self.places.iter_mut().take(count).enumerate() {
            let message = &mut self.messages[number].msg_hdr;
            place.parts[0] =
                libc::iovec { iov_base: (&raw mut place.header).cast::<c_void>(), iov_len: HEADER };
            message.msg_iov = place.parts.as_mut_ptr();
            message.msg_control = (&raw mut place.control).cast();
            message.msg_controllen = size_of::<Control>();
            message.msg_flags = 0;
            if place.ordinary.is_none() {
                let Some(mut mbuf) = self.pool.alloc() else {
                    add(&self.counts.no_mbuf, 1);
                    return number;
                };
                place.parts[1] = part(&mut mbuf, HEADROOM.into(), room);
                place.ordinary = Some(mbuf);
            }
            if place.large.is_none() {
                place.large = self.large.alloc();
                let before = LARGE_HEADROOM + room;
                let behind = usize::from(LARGE_ROOM).saturating_sub(before);
                place.parts[2] = place.large.as_mut().map_or(NOWHERE, |mbuf| part(mbuf, before, behind));
            }
            message.msg_iovlen = if place.large.is_some() { 3 } else { 2 };
        }
        count
    }

    /// The frame in a place, or where it is counted.
    fn take(&mut self, number: usize) -> Result<Mbuf, fn(&Counts) -> &AtomicU64> {
        let errors: fn(&Counts) -> &AtomicU64 = |counts| &counts.receive_errors;
        let message = &self.messages[number];
        let place = &mut self.places[number];
        if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(if place.large.is_none() { |counts| &counts.no_mbuf } else { errors });
        }
        let length = (message.msg_len as usize).saturating_sub(HEADER);
        let room = usize::from(self.pool.data_room() - HEADROOM);
        let mut mbuf = if length <= room {
            let mut mbuf = place.ordinary.take().ok_or(errors)?;
            mbuf.set_data(HEADROOM.into(), length).then_some(()).ok_or(errors)?;
            mbuf
        } else {
            let (first, mut mbuf) =
                (place.ordinary.as_mut().ok_or(errors)?, place.large.take().ok_or(errors)?);
            let is_whole = first.set_data(HEADROOM.into(), room) && mbuf.set_data(LARGE_HEADROOM, length);
            is_whole.then_some(()).ok_or(errors)?;
            mbuf.data_mut()[..room].copy_from_slice(first.data());
            mbuf
        };
        mbuf.set_nic(self.nic);
        let is_left = place.header.flags & NEEDS_CHECKSUM != 0 || place.header.kind != 0;
        if is_left && !note(&mut mbuf, &place.header) {
            return Err(errors);
        }
        if let Some(tag) = tag(&message.msg_hdr) {
            put_back(&mut mbuf, tag).then_some(()).ok_or(errors)?;
        }
        Ok(mbuf)
    }
}

/// `length` bytes of an mbuf's buffer from `start` on.
fn part(mbuf: &mut Mbuf, start: usize, length: usize) -> libc::iovec {
    let fits = mbuf.set_data(start, length);
    debug_assert!(fits, "pools are made for this");
    let bytes = mbuf.data_mut();
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// Notes what the sender of a frame left to a NIC; what only few senders leave is done at once. False when that cannot be.
fn note(mbuf: &mut Mbuf, header: &Header) -> bool {
    let frame = mbuf.data_mut();
    match offload::transport(frame) {
        Some(transport) if header.kind != 0 => {
            let fits = match header.kind & !WITH_ECN {
                TCP_V4 | TCP_V6 => transport.protocol == offload::TCP,
                UDP_SEGMENTS => transport.protocol == offload::UDP,
                _ => false,
            };
            if fits {
                mbuf.set_offload(header.segment_size);
            }
            fits && header.segment_size > 0
        }
        None if header.kind != 0 => false,
        Some(_) => {
            mbuf.set_offload(0);
            true
        }
        None => {
            let (start, offset) = (header.checksum_start.into(), header.checksum_offset.into());
            let is_sctp = offset == 8;
            if is_sctp {
                offload::fill_sctp_checksum(frame, start)
            } else {
                offload::fill_checksum_at(frame, start, offset)
            }
        }
    }
}

/// The tag of 802.1Q or 802.1ad that the kernel took off a frame.
fn tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    const STATUS: usize = 0;
    const TCI: usize = 16;
    const PROTOCOL: usize = 18;
    const TAGGED: u32 = 0x10;
    const WITH_PROTOCOL: u32 = 0x40;
    // SAFETY: cmsg(3): the message was received with control bytes of its own, of which the kernel says how many there are.
    let data = unsafe {
        let first = libc::CMSG_FIRSTHDR(message);
        let is_known = first.as_ref().is_some_and(|first| {
            let bytes = first.cmsg_len >= libc::CMSG_LEN(20) as usize;
            first.cmsg_level == libc::SOL_PACKET && first.cmsg_type == libc::PACKET_AUXDATA && bytes
        });
        if !is_known {
            return None;
        }
        libc::CMSG_DATA(first).cast::<[u8; 20]>().read_unaligned()
    };
    let status = u32::from_ne_bytes(*data[STATUS..].first_chunk()?);
    let word = |at: usize| data[at..].first_chunk().map(|word| u16::from_ne_bytes(*word));
    let protocol = if status & WITH_PROTOCOL != 0 { word(PROTOCOL)? } else { 0x8100 };
    let ([a, b], [c, d]) = (protocol.to_be_bytes(), word(TCI)?.to_be_bytes());
    (status & TAGGED != 0).then_some([a, b, c, d])
}

/// Puts a tag behind the MACs; false when there is no room for it.
fn put_back(mbuf: &mut Mbuf, tag: [u8; 4]) -> bool {
    const MACS: usize = 12;
    let (start, length) = (mbuf.headroom(), mbuf.len());
    if start < tag.len() || length < MACS || !mbuf.set_data(start - tag.len(), length + tag.len()) {
        return false;
    }
    let frame = mbuf.data_mut();
    frame.copy_within(tag.len()..tag.len() + MACS, 0);
    frame[MACS..MACS + tag.len()].copy_from_slice(&tag);
    true
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: RawFd,
    headers: Box<[Header]>,
    parts: Box<[[libc::iovec; 2]]>,
    messages: Box<[libc::mmsghdr]>,
    counts: Arc<Counts>,
}

// SAFETY: the pointers lead to what this value owns on the heap, and to mbufs that are the caller's during a call only.
unsafe impl Send for Sender {}

impl Sender {
    /// Of a socket that outlives it.
    pub fn new(socket: RawFd, counts: Arc<Counts>) -> Sender {
        let headers = vec![Header::default(); BURST].into_boxed_slice();
        let parts = vec![[NOWHERE; 2]; BURST].into_boxed_slice();
        // SAFETY: all zero is a message of this kind.
        let messages = (0..BURST).map(|_| unsafe { std::mem::zeroed() }).collect();
        Sender { socket, headers, parts, messages, counts }
    }

    /// As [`TxQueue::burst`](crate::TxQueue::burst). What the kernel refuses for good is gone, too, and counted.
    pub fn burst(&mut self, burst: &mut MbufBurst) -> usize {
        for (number, mbuf) in burst.iter_mut().enumerate() {
            self.headers[number] = header_of(mbuf);
            let frame = mbuf.data_mut();
            self.parts[number] = [
                libc::iovec { iov_base: (&raw mut self.headers[number]).cast(), iov_len: HEADER },
                libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() },
            ];
            let message = &mut self.messages[number].msg_hdr;
            message.msg_iov = self.parts[number].as_mut_ptr();
            message.msg_iovlen = 2;
        }
        let mut gone = 0;
        while gone < burst.len() {
            let rest = &mut self.messages[gone..burst.len()];
            // SAFETY: sendmmsg(2) reads so many messages, whose parts lead to a header of this value and to the bytes of an mbuf of the
            // burst. It writes how many bytes of each were sent.
            let sent = unsafe {
                libc::sendmmsg(self.socket, rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT)
            };
            let Ok(sent) = usize::try_from(sent) else {
                match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINTR) => continue,
                    _ => {
                        add(&self.counts.send_errors, 1);
                        gone += 1;
                        continue;
                    }
                }
            };
            let bytes: usize = burst[gone..gone + sent].iter().map(|mbuf| mbuf.len()).sum();
            add(&self.counts.sent_packets, sent as u64);
            add(&self.counts.sent_bytes, bytes as u64);
            gone += sent;
        }
        burst.free_front(gone);
        gone
    }
}

/// What a frame leaves to whoever comes next, which is put into its checksum field, too.
fn header_of(mbuf: &mut Mbuf) -> Header {
    if !mbuf.is_offloaded() {
        return Header::default();
    }
    let segment_size = mbuf.segment_size();
    let frame = mbuf.data_mut();
    // A part of what it was has a checksum already.
    let Some(transport) = offload::transport(frame) else { return Header::default() };
    transport.leave_checksum(frame);
    let kind = match (segment_size, transport.protocol, transport.is_v6) {
        (0, ..) => 0,
        (_, offload::UDP, _) => UDP_SEGMENTS,
        (.., false) => TCP_V4,
        (.., true) => TCP_V6,
    };
    let ecn = if kind != 0 && transport.has_cwr(frame) { WITH_ECN } else { 0 };
    Header {
        flags: NEEDS_CHECKSUM,
        kind: kind | ecn,
        header_length: transport.payload() as u16,
        segment_size,
        checksum_start: transport.start as u16,
        checksum_offset: transport.checksum_offset() as u16,
    }
}

/// Cuts a large frame into segments with checksums, in mbufs of this pool, and says how many found none.
pub(crate) fn cut(mbuf: &Mbuf, pool: &Mempool, into: &mut Vec<Mbuf>) -> usize {
    let Some(segments) = offload::Segments::of(mbuf.data(), mbuf.segment_size()) else { return 1 };
    let mut lost = 0;
    for number in 0..segments.count() {
        let room = pool.alloc().and_then(|mut segment| {
            let fits = segment.set_data(HEADROOM.into(), segments.length(number));
            (fits && into.len() < into.capacity()).then_some(segment)
        });
        match room {
            Some(mut segment) => {
                segments.write(number, segment.data_mut());
                segment.set_nic(mbuf.nic());
                into.push(segment);
            }
            None => lost += 1,
        }
    }
    lost
}
