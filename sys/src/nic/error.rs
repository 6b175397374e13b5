//! Why a NIC could not be opened, or refused what was asked of it.

use std::error::Error;
use std::fmt;

use crate::errno::Errno;
use crate::log::Said;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the NIC.
    Receive,
    /// To the NIC.
    Transmit,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Receive => "rx",
            Direction::Transmit => "tx",
        })
    }
}

/// What is wrong with a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NicError {
    /// The driver does not offer so many queues, or none was asked for.
    Queues {
        /// DPDK's name of the NIC.
        nic: String,
        /// The driver's name.
        driver: String,
        /// Which queues.
        direction: Direction,
        /// How many were asked for.
        wanted: u16,
        /// How many there may be.
        offered: u16,
    },
    /// The driver does not take packets of that size.
    Mtu {
        /// DPDK's name of the NIC.
        nic: String,
        /// The driver's name.
        driver: String,
        /// Bytes of the largest packet that was asked for.
        wanted: u16,
        /// Bytes of the largest that it takes.
        offered: u16,
    },
    /// Neither one mempool nor one for each receive queue.
    Pools {
        /// DPDK's name of the NIC.
        nic: String,
        /// How many were given.
        pools: usize,
        /// How many receive queues there are.
        rx_queues: u16,
    },
    /// A mempool's mbufs are too small for the frames to come.
    Room {
        /// DPDK's name of the NIC.
        nic: String,
        /// The mempool's name.
        pool: String,
        /// Bytes that an mbuf holds after its headroom.
        room: usize,
        /// Bytes that a frame may have.
        needed: usize,
    },
    /// The driver has no packet sockets, or others than are known.
    Sockets {
        /// DPDK's name of the NIC.
        nic: String,
        /// The driver's name.
        driver: String,
    },
    /// The driver refused.
    Driver {
        /// DPDK's name of the NIC.
        nic: String,
        /// What was being done.
        step: String,
        /// The error number.
        error: Errno,
        /// What DPDK said meanwhile.
        said: Said,
    },
}

impl NicError {
    pub(crate) fn driver(nic: &str, step: &str, error: Errno, said: Said) -> NicError {
        NicError::Driver { nic: nic.to_owned(), step: step.to_owned(), error, said }
    }
}

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NicError::Queues { nic, driver, direction, wanted, offered } => {
                write!(
                    f,
                    "nic {nic}: {wanted} {direction} queues wanted, driver {driver} offers 1 to {offered}"
                )?;
                match driver.as_str() {
                    "net_af_packet" => f.write_str(": add qpairs=N to its devargs"),
                    "net_af_xdp" => {
                        f.write_str(": add queue_count=N to its devargs, as many as the interface has")
                    }
                    "net_virtio_user" => f.write_str(": add queues=N to its devargs"),
                    _ => Ok(()),
                }
            }
            NicError::Mtu { nic, driver, wanted, offered } => write!(
                f,
                "nic {nic}: mtu {wanted} wanted, driver {driver} takes packets of at most {offered} bytes: set a smaller mtu"
            ),
            NicError::Pools { nic, pools, rx_queues } => {
                write!(f, "nic {nic}: {pools} mempools for {rx_queues} rx queues: give one, or one for each")
            }
            NicError::Room { nic, pool, room, needed } => write!(
                f,
                "nic {nic}: mempool {pool} holds {room} bytes a packet, frames may have {needed}: use a larger data \
                 room or a smaller MTU"
            ),
            NicError::Sockets { nic, driver } => write!(
                f,
                "nic {nic}: driver {driver} of this version of DPDK has no packet sockets that are known: use the driver itself, by af_packet:"
            ),
            NicError::Driver { nic, step, error, said } => write!(f, "nic {nic}: {step}: {error}{said}"),
        }
    }
}

impl Error for NicError {}
