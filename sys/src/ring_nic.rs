//! A NIC made of rings: what is put into its far end arrives at its receive queues, what its transmit queues take comes
//! out there. For measuring and testing everything around a NIC without one.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::eal::Eal;
use crate::errno::Errno;
use crate::log::Said;
use crate::mempool::Mempool;
use crate::nic::{Nic, NicError, NicSettings};
use crate::queue::{RxQueue, TxQueue};
use crate::ring::{Ring, RingError, RingFeed, RingReceiver, Senders};

/// The most queues each way: `RTE_PMD_RING_MAX_RX_RINGS`.
pub const QUEUES_MOST: u16 = 16;

/// A NIC made of rings, open, and its far end. Each part may go to a thread of its own. What is inside when both ends of
/// a ring are gone is freed.
#[derive(Debug)]
pub struct RingNic {
    /// Its control side.
    pub nic: Nic,
    /// Its receive queues, in order.
    pub rx: Vec<RxQueue>,
    /// Its transmit queues, in order.
    pub tx: Vec<TxQueue>,
    /// Feed n puts packets into receive queue n.
    pub feeds: Vec<RingFeed>,
    /// Drain n takes what transmit queue n was given.
    pub drains: Vec<RingReceiver>,
}

impl RingNic {
    /// Opens a NIC of `queues` queues each way, 1 to [`QUEUES_MOST`], that hold `capacity` packets each. `pool` is the
    /// one that its packets come from: the NIC itself takes none.
    ///
    /// # Errors
    ///
    /// See [`RingNicError`].
    pub fn open(
        eal: &Eal,
        name: &str,
        queues: u16,
        capacity: u32,
        pool: &Mempool,
    ) -> Result<RingNic, RingNicError> {
        if queues == 0 || queues > QUEUES_MOST {
            return Err(RingNicError::Queues { name: name.to_owned(), wanted: queues });
        }
        let rings = || -> Result<Vec<Arc<Ring>>, RingNicError> {
            let ring = |_| Ring::create(eal, name, capacity, None, Senders::One).map(Arc::new);
            (0..queues).map(ring).collect::<Result<_, _>>().map_err(RingNicError::Ring)
        };
        let (inward, outward) = (rings()?, rings()?);
        let device = eal
            .device_of_rings(name, &inward, &outward, None)
            .map_err(|(error, said)| RingNicError::Refused { name: name.to_owned(), error, said })?;
        let settings = NicSettings { rx_queues: queues, tx_queues: queues, ..NicSettings::new(pool.clone()) };
        let (nic, rx, tx) = Nic::open(device, &settings).map_err(RingNicError::Nic)?;
        let feeds = inward.into_iter().map(RingFeed::new).collect();
        let drains = outward.into_iter().map(RingReceiver::new).collect();
        Ok(RingNic { nic, rx, tx, feeds, drains })
    }
}

/// Why there is no NIC of rings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingNicError {
    /// So many queues are not possible.
    Queues {
        /// The NIC's name.
        name: String,
        /// The number asked for.
        wanted: u16,
    },
    /// A ring could not be made.
    Ring(RingError),
    /// DPDK refused.
    Refused {
        /// The NIC's name.
        name: String,
        /// Its error number.
        error: Errno,
        /// What it said meanwhile.
        said: Said,
    },
    /// The NIC did not open.
    Nic(NicError),
}

impl fmt::Display for RingNicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingNicError::Queues { name, wanted } => {
                write!(f, "NIC of rings {name}: {wanted} queues: use 1 to {QUEUES_MOST}")
            }
            RingNicError::Ring(error) => error.fmt(f),
            RingNicError::Refused { name, error, said } => {
                write!(f, "NIC of rings {name}: DPDK refuses it ({error}){said}")
            }
            RingNicError::Nic(error) => error.fmt(f),
        }
    }
}

impl Error for RingNicError {}
