//! The two ends of a NIC that a worker polls. A queue belongs to one thread at a time.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use crate::ffi;
use crate::mbuf::{Mbuf, MbufBurst};
use crate::nic::{NicId, OpenNic};
use crate::packet_socket::{self, Receiver, Sender};

/// A queue's number within its NIC and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u16);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Gives received packets. The NIC stays open as long as one of its queues exists.
#[derive(Debug)]
pub struct RxQueue {
    nic: Arc<OpenNic>,
    id: NicId,
    queue: QueueId,
    /// So many sleeps are still to come in which its descriptor is left out, since it had an error.
    left_out: Cell<u16>,
    /// Where packets come from if not from the driver.
    socket: Option<Box<Receiver>>,
}

impl RxQueue {
    pub(crate) fn new(nic: Arc<OpenNic>, queue: QueueId, socket: Option<Receiver>) -> RxQueue {
        RxQueue { id: nic.id(), nic, queue, left_out: Cell::new(0), socket: socket.map(Box::new) }
    }

    pub(crate) fn left_out(&self) -> &Cell<u16> {
        &self.left_out
    }

    /// Adds packets that have arrived to the burst, as many as it has room for, and says how many. It does not wait.
    #[inline]
    pub fn burst(&mut self, burst: &mut MbufBurst) -> usize {
        self.burst_at_most(burst, usize::MAX)
    }

    /// As [`burst`](RxQueue::burst), at most `most` packets. Some drivers round down to a multiple of 4 or 8.
    #[inline]
    pub fn burst_at_most(&mut self, burst: &mut MbufBurst, most: usize) -> usize {
        let count = burst.room().min(most);
        if let Some(socket) = &mut self.socket {
            return socket.burst(burst, count);
        }
        // SAFETY: rte_ethdev.h: rte_eth_rx_burst writes at most count pointers at the spare pointer, each an mbuf that is
        // the caller's from then on. The queue is set up and started, and polled by one thread: the borrow is exclusive.
        unsafe {
            let end = burst.spare_pointer();
            let received = usize::from(ffi::shim_eth_rx_burst(self.id.0, self.queue.0, end, count as u16));
            burst.grow(received);
            received
        }
    }

    /// A packet with these bytes from the pool that what is received comes from; nothing when that is empty or they do not fit.
    pub fn packet(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.nic.pool(self.queue)?.alloc()?;
        mbuf.fill(bytes).then_some(mbuf)
    }

    /// Whether frames come as their senders gave them to a NIC: checksums not filled in, and larger than any MTU. They may be sent so by
    /// queues of NICs for which this holds, too.
    #[inline]
    pub fn takes_offloads(&self) -> bool {
        self.socket.is_some()
    }

    /// Cuts a frame of which the sender left that to a NIC into segments, which go behind what is in `into`, up to its capacity. Says
    /// how many are lost for want of room or of mbufs.
    pub fn cut(&self, mbuf: &Mbuf, into: &mut Vec<Mbuf>) -> usize {
        self.nic.pool(self.queue).map_or(1, |pool| packet_socket::cut(mbuf, pool, into))
    }

    pub(crate) fn open_nic(&self) -> &OpenNic {
        &self.nic
    }

    /// The NIC it belongs to.
    pub fn nic(&self) -> NicId {
        self.id
    }

    /// Its number.
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// The name of its NIC, for messages.
    pub fn nic_name(&self) -> &str {
        self.nic.name()
    }
}

/// Takes packets to send. The NIC stays open as long as one of its queues exists.
#[derive(Debug)]
pub struct TxQueue {
    nic: Arc<OpenNic>,
    id: NicId,
    queue: QueueId,
    /// Where packets go if not to the driver.
    socket: Option<Box<Sender>>,
}

impl TxQueue {
    pub(crate) fn new(nic: Arc<OpenNic>, queue: QueueId, socket: Option<Sender>) -> TxQueue {
        TxQueue { id: nic.id(), nic, queue, socket: socket.map(Box::new) }
    }

    /// Gives the burst's packets to the NIC, first ones first, and says how many it took; those are the NIC's. What it
    /// did not take stays in the burst, at its front, to be sent again or dropped.
    #[inline]
    pub fn burst(&mut self, burst: &mut MbufBurst) -> usize {
        if let Some(socket) = &mut self.socket {
            return socket.burst(burst);
        }
        let count = burst.len() as u16;
        // SAFETY: rte_ethdev.h: rte_eth_tx_burst reads count pointers and takes the first so many mbufs, which are the
        // driver's from then on; the burst forgets them. The queue is set up and started, and used by one thread: the
        // borrow is exclusive.
        unsafe {
            let sent = usize::from(ffi::shim_eth_tx_burst(self.id.0, self.queue.0, burst.as_raw(), count));
            burst.forget_front(sent);
            sent
        }
    }

    /// The NIC it belongs to.
    pub fn nic(&self) -> NicId {
        self.id
    }

    /// Its number.
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// The name of its NIC, for messages.
    pub fn nic_name(&self) -> &str {
        self.nic.name()
    }
}
