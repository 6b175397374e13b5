//! DPDK for Rust: generated bindings, a small shim, and owned, safe types over them.
//!
//! The order in which a program meets them: [`Eal::start`] once per process, [`Mempool::new`] for the memory of
//! packets, [`Eal::probe`] and [`Nic::open`] for each NIC, which gives its [`RxQueue`]s and [`TxQueue`]s. Packets
//! travel as [`Mbuf`]s in an [`MbufBurst`]; a [`ring`] hands them from thread to thread.
//!
//! Who owns what: an [`Mbuf`] belongs to whoever holds it. Dropping it frees it, sending it gives it to the NIC, and
//! what a NIC or a ring did not take is still in the burst. Every handle keeps what it stands on alive, so that
//! queues may outlive the [`Nic`] value, and the NIC the [`Eal`] value, in any order of dropping.
#![warn(missing_docs)]

pub mod capability;
pub mod clock;
pub mod eal;
pub mod glob;
pub mod hash;
pub mod log;
pub mod mbuf;
pub mod mempool;
pub mod nic;
pub mod offload;
pub mod packet_socket;
pub mod probe;
pub mod process;
pub mod queue;
pub mod ring;
pub mod ring_nic;
pub mod room;
pub mod seccomp;
pub mod signal;
pub mod thread;
pub mod wait;

pub mod errno;
mod ffi;

pub use clock::{Clock, Cycles};
pub use eal::{Eal, EalError, EalSettings, FreeHugepages, Memory};
pub use hash::{HashTable, HashTableError};
pub use mbuf::{BURST, Checksum, Mbuf, MbufBurst};
pub use mempool::{Mempool, MempoolError, NumaNode};
pub use nic::{Direction, Link, Nic, NicError, NicId, NicSettings, NicStatistics, Offer};
pub use probe::{Device, ProbeError};
pub use queue::{QueueId, RxQueue, TxQueue};
pub use ring::{RingError, RingFeed, RingReceiver, RingSender};
pub use ring_nic::{RingNic, RingNicError};
pub use room::Room;
pub use thread::{RegisteredThread, ThreadError};
pub use wait::Doorbell;

/// The DPDK that runs, for instance `DPDK 22.11.11`.
pub fn dpdk_version() -> String {
    // SAFETY: rte_version.h: rte_version returns a terminated string that is never freed.
    unsafe { std::ffi::CStr::from_ptr(ffi::rte_version()) }.to_string_lossy().into_owned()
}
