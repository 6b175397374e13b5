//! A NIC: configured and started when it is opened, stopped and closed when it and its queues are dropped.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::errno::Errno;
use crate::ffi;
use crate::log::{self, Said};
use crate::mbuf::MbufBurst;
use crate::mempool::{HEADROOM, Mempool, NumaNode};
use crate::packet_socket::{Counts, Receiver, Sender};
use crate::probe::Device;
use crate::queue::{QueueId, RxQueue, TxQueue};

mod descriptors;
mod error;
mod missed;
pub(crate) mod packet_sockets;

pub use error::{Direction, NicError};
use missed::Missed;

/// The number by which DPDK and the mbufs know a NIC (`port_id` there).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicId(pub u16);

impl fmt::Display for NicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The driver of a virtio device whose other end is a vhost-user socket.
const VIRTIO_USER: &str = "net_virtio_user";

/// Header bytes around the MTU that a received frame may have: Ethernet and two VLAN tags.
const FRAME_OVERHEAD: usize = 14 + 2 * 4;

/// The MTU of ordinary Ethernet.
const MTU_OF_ETHERNET: u32 = 1500;

/// How to open a NIC.
#[derive(Clone, Debug)]
pub struct NicSettings {
    /// Receive queues, at least 1.
    pub rx_queues: u16,
    /// Transmit queues, at least 1.
    pub tx_queues: u16,
    /// Received packets that a queue holds until they are fetched; moved to the nearest number the driver allows.
    pub rx_descriptors: u16,
    /// Packets that a queue holds until they are sent; moved to the nearest number the driver allows.
    pub tx_descriptors: u16,
    /// The largest IP packet, in bytes. A kernel interface behind the NIC keeps its own.
    pub mtu: u16,
    /// Receive what is addressed to others, where the driver can.
    pub promiscuous: bool,
    /// Receive all multicast, where the driver can.
    pub all_multicast: bool,
    /// Let the NIC judge checksums of received packets, where it can. A virtio peer may then leave them out.
    pub rx_checksum: bool,
    /// Where received packets go: one pool for all queues, or one for each.
    pub pools: Vec<Mempool>,
    /// Of a device of packet sockets: take frames past its driver, as their senders gave them to a NIC, the large ones into mbufs of this
    /// pool, which have [`LARGE_ROOM`](crate::packet_socket::LARGE_ROOM) bytes each.
    pub offloads: Option<Mempool>,
}

impl NicSettings {
    /// One queue each way, 1024 descriptors, MTU 1500, promiscuous and all multicast, no checksum judged.
    pub fn new(pool: Mempool) -> NicSettings {
        NicSettings {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            promiscuous: true,
            all_multicast: true,
            rx_checksum: false,
            pools: vec![pool],
            offloads: None,
        }
    }
}

/// What a NIC has counted since it was opened (`rte_eth_stats`). Drivers differ in what they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStatistics {
    /// Packets received.
    pub received_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets lost because a receive queue was full, or in the kernel in front of the NIC; none where nobody knows.
    pub missed: Option<u64>,
    /// Packets received with an error.
    pub receive_errors: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets lost because the mempool was empty.
    pub no_mbuf: u64,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Its speed in Mbit/s as the driver says; meaningless for virtual NICs.
    pub megabits: u32,
}

/// What a device's driver offers, before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The driver's name, for instance `net_af_packet`.
    pub driver: String,
    /// The most receive queues.
    pub rx_queues: u16,
    /// The most transmit queues.
    pub tx_queues: u16,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Whether the NIC can spread flows over receive queues by a hash of their addresses.
    pub rss: bool,
    /// Whether that hash can be of the source address alone, and of the destination address alone.
    pub rss_one_sided: bool,
    /// The NUMA node that it is near to, where there is one.
    pub numa_node: Option<NumaNode>,
}

/// A NIC that is open: the control side of it, usable from any thread. Its queues are given out when it is opened.
#[derive(Debug)]
pub struct Nic {
    open: Arc<OpenNic>,
}

/// What a [`Nic`] and its queues share. Dropping it stops the NIC; then the device goes, then the pools.
#[derive(Debug)]
pub(crate) struct OpenNic {
    device: Device,
    driver: String,
    offer: Offer,
    rx_queues: u16,
    started: bool,
    /// By receive queue; empty where the driver has none to wait for.
    descriptors: Vec<RawFd>,
    missed: Missed,
    /// By queue, where packets come and go past the driver.
    sockets: Vec<Arc<Counts>>,
    /// One control call at a time: rte_ethdev.h leaves that to the caller.
    control: Mutex<()>,
    /// By receive queue, over and over. The NIC holds mbufs of these until its device is closed; fields are dropped in order.
    pools: Vec<Mempool>,
}

impl Device {
    /// What its driver offers.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn offer(&self) -> Result<Offer, NicError> {
        let info =
            self.info().map_err(|error| NicError::driver(self.name(), "query", error, Said::default()))?;
        Ok(Offer {
            driver: driver_name(&info),
            rx_queues: info.max_rx_queues,
            tx_queues: info.max_tx_queues,
            mtu: mtu_most(&info),
            rss: info.flow_type_rss_offloads & ffi::SHIM_RSS_IP != 0,
            rss_one_sided: info.flow_type_rss_offloads & ffi::SHIM_RSS_ONE_SIDED == ffi::SHIM_RSS_ONE_SIDED,
            numa_node: numa_node(self.id()),
        })
    }
}

fn numa_node(nic: NicId) -> Option<NumaNode> {
    // SAFETY: rte_ethdev.h: rte_eth_dev_socket_id takes any number and gives -1 where there is no node.
    let node = unsafe { ffi::rte_eth_dev_socket_id(nic.0) };
    u32::try_from(node).ok().map(NumaNode)
}

fn driver_name(info: &ffi::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: rte_ethdev.h: driver_name is a terminated string of the driver, which stays loaded.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

/// The largest packet that a driver takes, as rte_ethdev.c works it out of its two numbers. net_af_packet says that it takes frames of the
/// usual size, and takes those that its ring's frames hold.
fn mtu_most(info: &ffi::rte_eth_dev_info) -> u16 {
    const USUAL_OVERHEAD: u32 = 14 + 4;
    let (mtu, frame) = (u32::from(info.max_mtu), info.max_rx_pktlen);
    if driver_name(info) == packet_sockets::DRIVER {
        return u16::MAX;
    }
    let overhead = if info.max_mtu != u16::MAX && frame > mtu { frame - mtu } else { USUAL_OVERHEAD };
    mtu.min(frame.saturating_sub(overhead)) as u16
}

impl Nic {
    /// Configures and starts the device, and gives its queues in order.
    ///
    /// # Errors
    ///
    /// When the driver does not offer what is asked for, see [`NicError`]; the device is gone then.
    pub fn open(
        device: Device,
        settings: &NicSettings,
    ) -> Result<(Nic, Vec<RxQueue>, Vec<TxQueue>), NicError> {
        let offer = device.offer()?;
        check(&device, &offer, settings)?;
        let mut open = OpenNic {
            device,
            driver: offer.driver.clone(),
            offer,
            rx_queues: settings.rx_queues,
            started: false,
            descriptors: Vec::new(),
            missed: Missed::default(),
            sockets: Vec::new(),
            control: Mutex::new(()),
            pools: settings.pools.clone(),
        };
        let before = missed::xdp_sockets();
        configure(&open, settings)?;
        let sockets = match &settings.offloads {
            Some(_) => open.take_sockets(usize::from(settings.rx_queues.max(settings.tx_queues)))?,
            None => Vec::new(),
        };
        open.missed = Missed::of(&open.device, &open.driver, &before);
        open.call("start", || {
            // SAFETY: rte_ethdev.h: rte_eth_dev_start takes a port that is configured and whose queues are set up.
            unsafe { ffi::rte_eth_dev_start(open.id().0) }
        })?;
        open.started = true;
        open.descriptors = descriptors::of(&open.device, &open.driver, settings.rx_queues);
        let open = Arc::new(open);
        let nic = Nic { open: Arc::clone(&open) };
        nic.set_promiscuous(settings.promiscuous)?;
        nic.set_all_multicast(settings.all_multicast)?;
        let received = (0..settings.rx_queues).map(|queue| {
            let socket = sockets.get(usize::from(queue)).zip(settings.offloads.as_ref());
            let socket = socket.and_then(|(&socket, large)| {
                let (pool, counts) = (open.pool(QueueId(queue))?, &open.sockets[usize::from(queue)]);
                Some(Receiver::new(socket, open.id(), pool.clone(), large.clone(), Arc::clone(counts)))
            });
            RxQueue::new(Arc::clone(&open), QueueId(queue), socket)
        });
        let rx = received.collect();
        let sent = (0..settings.tx_queues).map(|queue| {
            let socket = sockets.get(usize::from(queue)).zip(open.sockets.get(usize::from(queue)));
            let socket = socket.map(|(&socket, counts)| Sender::new(socket, Arc::clone(counts)));
            TxQueue::new(Arc::clone(&open), QueueId(queue), socket)
        });
        let tx = sent.collect();
        Ok((nic, rx, tx))
    }

    /// Its number, as its packets carry it.
    pub fn id(&self) -> NicId {
        self.open.id()
    }

    /// DPDK's name for it.
    pub fn name(&self) -> &str {
        self.open.name()
    }

    /// Its driver's name, for instance `net_af_packet`.
    pub fn driver_name(&self) -> &str {
        &self.open.driver
    }

    /// What its driver offers.
    pub fn offer(&self) -> &Offer {
        &self.open.offer
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        let mut address = ffi::rte_ether_addr::default();
        let _one = self.open.control();
        // SAFETY: rte_ethdev.h: rte_eth_macaddr_get fills the address of a valid port.
        unsafe { ffi::rte_eth_macaddr_get(self.id().0, &mut address) };
        address.addr_bytes
    }

    /// The largest IP packet that it is set to carry, in bytes.
    pub fn mtu(&self) -> u16 {
        let mut mtu = 0;
        let _one = self.open.control();
        // SAFETY: rte_ethdev.h: rte_eth_dev_get_mtu writes the number for a valid port.
        unsafe { ffi::rte_eth_dev_get_mtu(self.id().0, &mut mtu) };
        mtu
    }

    /// The NUMA node that it is near to, where there is one.
    pub fn numa_node(&self) -> Option<NumaNode> {
        self.open.numa_node()
    }

    /// True when the kernel puts IPv4 fragments together before the NIC sees them, cut off at the size of a frame.
    pub fn joins_fragments(&self) -> bool {
        self.open.device.joins_fragments()
    }

    /// The state of its link, without waiting; `None` when the driver cannot tell.
    pub fn link(&self) -> Option<Link> {
        let mut link = Link { up: false, megabits: 0 };
        let _one = self.open.control();
        // SAFETY: rte_ethdev.h: rte_eth_link_get_nowait takes a valid port; the shim writes both results.
        let failed = unsafe { ffi::shim_eth_link_up(self.id().0, &mut link.up, &mut link.megabits) };
        (failed == 0).then_some(link)
    }

    /// Whether its link is known to be up.
    pub fn link_up(&self) -> bool {
        self.link().is_some_and(|link| link.up)
    }

    /// What it has counted.
    ///
    /// # Errors
    ///
    /// When the driver does not count.
    pub fn statistics(&self) -> Result<NicStatistics, NicError> {
        let mut stats = ffi::rte_eth_stats::default();
        self.open.call("statistics", || {
            // SAFETY: rte_ethdev.h: rte_eth_stats_get fills the structure for a valid port.
            unsafe { ffi::rte_eth_stats_get(self.id().0, &mut stats) }
        })?;
        let mut counted = NicStatistics {
            received_packets: stats.ipackets,
            received_bytes: stats.ibytes,
            sent_packets: stats.opackets,
            sent_bytes: stats.obytes,
            missed: self.open.missed.count(stats.imissed),
            receive_errors: stats.ierrors,
            send_errors: stats.oerrors,
            no_mbuf: stats.rx_nombuf,
        };
        for of in &self.open.sockets {
            for (all, of) in [
                (&mut counted.received_packets, &of.received_packets),
                (&mut counted.received_bytes, &of.received_bytes),
                (&mut counted.sent_packets, &of.sent_packets),
                (&mut counted.sent_bytes, &of.sent_bytes),
                (&mut counted.receive_errors, &of.receive_errors),
                (&mut counted.send_errors, &of.send_errors),
                (&mut counted.no_mbuf, &of.no_mbuf),
            ] {
                *all += of.load(Ordering::Relaxed);
            }
        }
        Ok(counted)
    }

    /// Receives what is addressed to others too, or no longer. Says whether the driver knows of such a thing; many
    /// virtual NICs receive everything anyway.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn set_promiscuous(&self, on: bool) -> Result<bool, NicError> {
        // SAFETY: rte_ethdev.h: both take a valid port.
        let call = || unsafe {
            if on {
                ffi::rte_eth_promiscuous_enable(self.id().0)
            } else {
                ffi::rte_eth_promiscuous_disable(self.id().0)
            }
        };
        self.open.call_if_supported("promiscuous mode", call)
    }

    /// Receives all multicast, or no longer. Says whether the driver knows of such a thing.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn set_all_multicast(&self, on: bool) -> Result<bool, NicError> {
        // SAFETY: rte_ethdev.h: both take a valid port.
        let call = || unsafe {
            if on {
                ffi::rte_eth_allmulticast_enable(self.id().0)
            } else {
                ffi::rte_eth_allmulticast_disable(self.id().0)
            }
        };
        self.open.call_if_supported("all-multicast mode", call)
    }

    /// Receives frames for one more Ethernet address. Says whether the driver can filter by several.
    ///
    /// # Errors
    ///
    /// The driver's, for instance when its filter is full.
    pub fn add_mac(&self, mac: [u8; 6]) -> Result<bool, NicError> {
        let mut address = ffi::rte_ether_addr { addr_bytes: mac };
        // SAFETY: rte_ethdev.h: rte_eth_dev_mac_addr_add reads the address; pool 0 means none.
        let call = || unsafe { ffi::rte_eth_dev_mac_addr_add(self.id().0, &mut address, 0) };
        self.open.call_if_supported("adding an Ethernet address", call)
    }

    /// Undoes [`add_mac`](Nic::add_mac).
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn remove_mac(&self, mac: [u8; 6]) -> Result<bool, NicError> {
        let mut address = ffi::rte_ether_addr { addr_bytes: mac };
        // SAFETY: rte_ethdev.h: rte_eth_dev_mac_addr_remove reads the address.
        let call = || unsafe { ffi::rte_eth_dev_mac_addr_remove(self.id().0, &mut address) };
        self.open.call_if_supported("removing an Ethernet address", call)
    }
}

impl OpenNic {
    pub(crate) fn id(&self) -> NicId {
        self.device.id()
    }

    pub(crate) fn name(&self) -> &str {
        self.device.name()
    }

    /// Where a receive queue's packets come from.
    pub(crate) fn pool(&self, queue: QueueId) -> Option<&Mempool> {
        self.pools.iter().cycle().nth(usize::from(queue.0))
    }

    /// What becomes readable when a packet arrives at a receive queue.
    pub(crate) fn descriptor(&self, queue: QueueId) -> Option<BorrowedFd<'_>> {
        let descriptor = *self.descriptors.get(usize::from(queue.0))?;
        // SAFETY: the driver opened it with the device and closes it with the device, which lives as long as self.
        Some(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }

    /// Takes the sockets of its queues away from the driver.
    fn take_sockets(&mut self, queues: usize) -> Result<Vec<RawFd>, NicError> {
        let fail = |error| NicError::driver(self.name(), "packet sockets", error, Said::default());
        let taken = packet_sockets::take(&self.device);
        let taken = taken.map_err(|error| fail(Errno(error.raw_os_error().unwrap_or_default())))?;
        match taken {
            Some(sockets) if self.driver == packet_sockets::DRIVER && sockets.len() == queues => {
                self.sockets = sockets.iter().map(|_| Arc::default()).collect();
                Ok(sockets)
            }
            _ => Err(NicError::Sockets { nic: self.name().to_owned(), driver: self.driver.clone() }),
        }
    }

    fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn numa_node(&self) -> Option<NumaNode> {
        numa_node(self.id())
    }

    /// Makes a control call; a negative result becomes the error of that step.
    fn call(&self, step: &str, call: impl FnOnce() -> i32) -> Result<(), NicError> {
        let _one = self.control();
        log::listen(|| match call() {
            result if result < 0 => Err(Errno::from_return(result)),
            _ => Ok(()),
        })
        .map_err(|(error, said)| NicError::driver(self.name(), step, error, said))
    }

    /// As `call`; `false` when the driver does not know the call.
    fn call_if_supported(&self, step: &str, call: impl FnOnce() -> i32) -> Result<bool, NicError> {
        const NOT_SUPPORTED: i32 = 95;
        match self.call(step, call) {
            Ok(()) => Ok(true),
            Err(NicError::Driver { error: Errno(NOT_SUPPORTED), .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Refuses what the driver cannot do, before it is touched.
fn check(device: &Device, offer: &Offer, settings: &NicSettings) -> Result<(), NicError> {
    let nic = || device.name().to_owned();
    for (direction, wanted, offered) in [
        (Direction::Receive, settings.rx_queues, offer.rx_queues),
        (Direction::Transmit, settings.tx_queues, offer.tx_queues),
    ] {
        if wanted == 0 || wanted > offered {
            return Err(NicError::Queues {
                nic: nic(),
                driver: offer.driver.clone(),
                direction,
                wanted,
                offered,
            });
        }
    }
    if settings.mtu > offer.mtu {
        return Err(NicError::Mtu {
            nic: nic(),
            driver: offer.driver.clone(),
            wanted: settings.mtu,
            offered: offer.mtu,
        });
    }
    let pools = settings.pools.len();
    if pools != 1 && pools != usize::from(settings.rx_queues) {
        return Err(NicError::Pools { nic: nic(), pools, rx_queues: settings.rx_queues });
    }
    let mut needed = usize::from(settings.mtu) + FRAME_OVERHEAD;
    if offer.driver.contains("af_packet") {
        // This driver copies a frame without asking whether it fits, so there must be room for the largest.
        let frame_size = device.option("framesz").and_then(|size| size.trim().parse().ok()).unwrap_or(2048);
        needed = needed.max(frame_size);
    }
    for pool in &settings.pools {
        let room = usize::from(pool.data_room() - HEADROOM);
        if room < needed {
            return Err(NicError::Room { nic: nic(), pool: pool.name().to_owned(), room, needed });
        }
    }
    Ok(())
}

/// Whether the driver says by itself that a link has turned.
fn can_tell_of_links(info: &ffi::rte_eth_dev_info) -> bool {
    // SAFETY: rte_ethdev.h: dev_flags points at the flags of the port that the information was asked of, which is there.
    unsafe { info.dev_flags.as_ref() }.is_some_and(|flags| flags & ffi::SHIM_DEV_INTR_LSC != 0)
}

fn configure(open: &OpenNic, settings: &NicSettings) -> Result<(), NicError> {
    let id = open.id().0;
    let info =
        open.device.info().map_err(|error| NicError::driver(open.name(), "query", error, Said::default()))?;
    let mut conf = ffi::rte_eth_conf::default();
    conf.rxmode.mtu = u32::from(settings.mtu);
    if open.driver.contains("af_packet") {
        // It says that it takes frames of 1518 bytes, and takes those that its ring's frames hold.
        conf.rxmode.mtu = conf.rxmode.mtu.min(MTU_OF_ETHERNET);
    }
    if open.driver == VIRTIO_USER && can_tell_of_links(&info) {
        // Asked instead, it looks at its socket each time, and once the other end has gone it logs errors each time and leaves a
        // descriptor with DPDK's interrupt thread that is closed with the device.
        conf.intr_conf.set_lsc(1);
    }
    // Others would rather have it off than refuse it.
    conf.intr_conf.set_rxq((open.driver == descriptors::TAP).into());
    if settings.rx_checksum {
        conf.rxmode.offloads = info.rx_offload_capa & ffi::SHIM_RX_OFFLOAD_CHECKSUM;
    }
    let hash = info.flow_type_rss_offloads & ffi::SHIM_RSS_IP;
    if settings.rx_queues > 1 && hash != 0 {
        conf.rxmode.mq_mode = ffi::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = hash;
    }
    open.call("configure", || {
        // SAFETY: rte_ethdev.h: rte_eth_dev_configure reads the configuration, which it copies, of a stopped port.
        unsafe { ffi::rte_eth_dev_configure(id, settings.rx_queues, settings.tx_queues, &conf) }
    })?;
    let (mut rx_descriptors, mut tx_descriptors) = (settings.rx_descriptors, settings.tx_descriptors);
    open.call("descriptors", || {
        // SAFETY: rte_ethdev.h: rte_eth_dev_adjust_nb_rx_tx_desc reads and writes the two numbers.
        unsafe { ffi::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors) }
    })?;
    let socket = crate::mempool::socket(open.numa_node()) as u32;
    let mut rx_conf = info.default_rxconf;
    rx_conf.offloads = conf.rxmode.offloads & info.rx_queue_offload_capa;
    for (queue, pool) in (0..settings.rx_queues).zip(open.pools.iter().cycle()) {
        open.call(&format!("rx queue {queue}"), || {
            // SAFETY: rte_ethdev.h: rte_eth_rx_queue_setup takes a queue below the number configured, and a pool made for
            // mbufs, which the OpenNic keeps until the device is closed.
            unsafe { ffi::rte_eth_rx_queue_setup(id, queue, rx_descriptors, socket, &rx_conf, pool.as_ptr()) }
        })?;
    }
    for queue in 0..settings.tx_queues {
        open.call(&format!("tx queue {queue}"), || {
            // SAFETY: rte_ethdev.h: rte_eth_tx_queue_setup takes a queue below the number configured.
            unsafe { ffi::rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, &info.default_txconf) }
        })?;
    }
    Ok(())
}

impl Drop for OpenNic {
    fn drop(&mut self) {
        if !self.started {
            return;
        }
        let id = self.id().0;
        if self.driver == "net_ring" {
            // Its rings are freed with what is in them, which would then be missing from the pool.
            let mut burst = MbufBurst::new();
            for queue in 0..self.rx_queues {
                loop {
                    let end = burst.spare_pointer();
                    // SAFETY: rte_ethdev.h: as in RxQueue::burst; no queue of this NIC is left elsewhere.
                    let received = unsafe {
                        let received =
                            usize::from(ffi::shim_eth_rx_burst(id, queue, end, burst.room() as u16));
                        burst.grow(received);
                        received
                    };
                    burst.clear();
                    if received == 0 {
                        break;
                    }
                }
            }
        }
        let _ = self.call("stop", || {
            // SAFETY: rte_ethdev.h: rte_eth_dev_stop takes a started port; no queue is left that could poll it.
            unsafe { ffi::rte_eth_dev_stop(id) }
        });
    }
}
