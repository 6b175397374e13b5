//! NICs by name: what stands in the way is said before anything is opened, then EAL, mempool and NICs come up.

use std::net::IpAddr;
use std::path::Path;

use dpdk_sys::packet_socket::LARGE_ROOM;
use dpdk_sys::{
    Eal, EalSettings, FreeHugepages, Memory, Mempool, Nic, NicSettings, NumaNode, RxQueue, TxQueue,
};
use nix::net::if_::if_nametoindex;
use shunt_config::Config;
use shunt_config::check::packets::{Packets, RX_DESCRIPTORS, Reserved, TX_DESCRIPTORS};
use shunt_config::check::{Needed, available, pci};
use shunt_config::device::{Device, Kind};
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::fault::Fault;

use super::StartError;
use super::opening::Opening;
use crate::signals;

/// Mbufs that each worker keeps at hand.
const MBUF_CACHE: u32 = 256;
/// Bytes of connection tables from which on it is told that they are made, since that takes some seconds.
const TABLES_TOLD: u64 = 1 << 30;

/// A NIC that is open.
#[derive(Debug)]
pub struct OpenNic {
    /// Its control side.
    pub nic: Nic,
    /// Its MAC.
    pub mac: Mac,
    /// The index of the kernel's interface behind it, where there is one.
    pub interface: Option<u32>,
    /// Bytes of the largest IP packet that it was opened for.
    pub room: u16,
    /// Bytes of the largest IP packet that the interface takes, which others made.
    pub taken: Option<u32>,
    /// Its receive queues, one for each worker.
    pub rx: Vec<RxQueue>,
    /// Its transmit queues, one for each worker.
    pub tx: Vec<TxQueue>,
}

/// DPDK, running.
#[derive(Debug)]
pub struct Ports {
    /// The environment.
    pub eal: Eal,
    /// Where packets live.
    pub pool: Mempool,
    /// Where large frames live, of which senders left the cutting to a NIC, where such come.
    pub large: Option<Mempool>,
    /// NICs in the order of the configuration.
    pub nics: Vec<OpenNic>,
    /// True when packet memory is in hugepages.
    pub hugepages: bool,
    /// The NUMA node that packet memory was put on; none when the system chose.
    pub node: Option<NumaNode>,
}

/// Refuses what cannot work although the configuration is right in itself: interfaces that are not there, and addresses that
/// the kernel holds on an interface which it shares with the director.
///
/// # Errors
/// One for each problem.
pub fn preflight(config: &Config) -> Vec<StartError> {
    let interfaces = match crate::links::interfaces::here() {
        Ok(interfaces) => interfaces,
        Err(error) => return vec![StartError::of("the kernel does not tell of its interfaces", &error)],
    };
    let mut problems = Vec::new();
    let needed = Needed::of(&config.runtime);
    let packets = Packets::of(&config.runtime, &config.nics, Some(&interfaces));
    let ordinary = packets.ordinary(FreeHugepages::read().bytes());
    if let Some((wrong, holds, advice)) = needed.too_much(ordinary, available()) {
        problems.push(StartError::new("runtime.connections".to_owned(), wrong, holds, advice));
    } else if needed.tables > TABLES_TOLD {
        tracing::info!("{needed}: they are made now, which takes a while");
    }
    let vips = config.vips();
    let link_vips: Vec<(NicId, IpAddr)> = config.link_vips().collect();
    for (number, nic) in (0..=u8::MAX).map(NicId).zip(&config.nics) {
        if let Kind::Pci(address) = &nic.device.kind {
            let free = FreeHugepages::read().bytes() >> 20;
            let fault = pci::fault(Path::new(pci::SYSFS), address, config.runtime.hugepages, free);
            problems.extend(fault.map(|fault| {
                StartError::new(format!("nic \"{}\"", nic.name), fault.wrong, fault.holds, fault.advice)
            }));
        }
        let Some(interface) = nic.device.interface() else { continue };
        let Some((index, _)) = interfaces.named(interface) else {
            problems.push(StartError::new(
                format!("nic \"{}\"", nic.name),
                format!("no interface {interface} in this network namespace"),
                format!("there are {}", interfaces.names().join(", ")),
                format!("correct device = \"{}\", or make the interface first", nic.device),
            ));
            continue;
        };
        for held in interfaces.addresses_of(index) {
            let own = nic.addresses.iter().any(|net| net.addr() == held);
            if own || vips.contains(&held) || link_vips.contains(&(number, held)) {
                let what = if own { "the director's own address" } else { "a VIP" };
                problems.push(StartError::new(
                    format!("nic \"{}\"", nic.name),
                    format!("the kernel holds {held} on {interface}"),
                    format!("it is {what}, and the kernel sees each frame too and would answer in the director's place"),
                    format!("run `ip addr del {held} dev {interface}`"),
                ));
            }
        }
    }
    problems
}

/// Brings up DPDK and opens all NICs.
///
/// # Errors
/// The first thing that fails, with the driver's words.
pub fn open(config: &Config) -> Result<Ports, StartError> {
    let interfaces = crate::links::interfaces::here().unwrap_or_default();
    let packets = Packets::of(&config.runtime, &config.nics, Some(&interfaces));
    let (settings, hugepages) = eal_settings(config, &packets)?;
    let Packets { mbufs, data_room, large, rooms, .. } = packets;
    let eal = Eal::start(&settings).map_err(|error| StartError::of("runtime", &error))?;
    let queues = config.runtime.workers.len() as u16;
    let mut devices = Vec::new();
    for (index, nic) in config.nics.iter().enumerate() {
        let place = format!("nic \"{}\"", nic.name);
        let devargs = nic.device.devargs(index, queues);
        let _watched = Opening::of(nic)?;
        let device = eal.probe(&devargs).map_err(|error| match signals::end_asked() {
            Some(signal) if nic.device.waits_at().is_some() => StartError::end(signal.as_str()),
            _ => not_probed(&place, &nic.device, queues, &error),
        })?;
        devices.push(device);
    }
    // Packets near the first NIC that is near anything.
    let node = devices.iter().filter_map(|device| device.offer().ok()).find_map(|offer| offer.numa_node);
    let new = |node| Mempool::new(&eal, "packets", mbufs, MBUF_CACHE, data_room, node);
    let near = new(node);
    let (pool, node) = match (near, node) {
        (Ok(pool), node) => (pool, node),
        // Ordinary pages are on one node alone.
        (Err(_), Some(_)) => (new(None).map_err(|error| StartError::of("runtime", &error))?, None),
        (Err(error), None) => return Err(StartError::of("runtime", &error)),
    };
    let large = (large > 0).then(|| Mempool::new(&eal, "large", large, 0, LARGE_ROOM, node)).transpose();
    let large = large.map_err(|error| StartError::of("runtime", &error))?;
    let mut nics = Vec::new();
    for ((configured, device), room) in config.nics.iter().zip(devices).zip(rooms) {
        let place = format!("nic \"{}\"", configured.name);
        let _watched = Opening::of(configured)?;
        let (nic, rx, tx) =
            Nic::open(device, &nic_settings(&configured.device, queues, room, &pool, large.as_ref()))
                .map_err(|error| StartError::of(&place, &error))?;
        let taken =
            configured.device.interface().and_then(|name| interfaces.named(name)).map(|(_, of)| of.mtu);
        let interface = configured.device.kernel_interface();
        let interface = interface.and_then(|(name, _)| if_nametoindex(name).ok());
        nics.push(OpenNic { mac: mac_of(nic.mac(), nics.len()), interface, room, taken, nic, rx, tx });
    }
    Ok(Ports { eal, pool, large, nics, hugepages, node })
}

/// How NICs are opened.
pub(super) fn nic_settings(
    device: &Device,
    queues: u16,
    room: u16,
    pool: &Mempool,
    large: Option<&Mempool>,
) -> NicSettings {
    NicSettings {
        offloads: large.filter(|_| device.takes_offloads()).cloned(),
        rx_queues: queues,
        tx_queues: queues,
        rx_descriptors: RX_DESCRIPTORS,
        tx_descriptors: TX_DESCRIPTORS,
        mtu: room,
        // All multicast is taken: IPv6 neighbours and adverts of VRRP come by it.
        promiscuous: false,
        ..NicSettings::new(pool.clone())
    }
}

/// A device that DPDK does not bring up. What its driver says leaves open how to have more queues.
fn not_probed(place: &str, device: &Device, queues: u16, error: &dyn std::fmt::Display) -> StartError {
    if let Kind::Pci(address) = &device.kind {
        let text = error.to_string();
        let (holds, advice) = if text.contains("IOMMU type") {
            (
                format!("vfio-pci has {address}, which the kernel lends where its IOMMU remaps interrupts, too (`dmesg | grep -i vfio`)"),
                "turn interrupt remapping on, in the firmware or for the virtual machine; `modprobe vfio_iommu_type1 allow_unsafe_interrupts=1` \
                 goes without, where whoever drives the NIC is trusted"
                    .to_owned(),
            )
        } else {
            (
                format!("PCI function {address} is bound so that DPDK can have it"),
                format!(
                    "look whether DPDK has a driver for it and whether that one is installed (`lspci -nns {address}` tells what it is, \
                     docs/line-rate.md what is needed)"
                ),
            )
        };
        return StartError::new(place.to_owned(), text, holds, advice);
    }
    let Kind::AfXdp(interface) = &device.kind else { return StartError::of(place, error) };
    if queues == 1 {
        return StartError::of(place, error);
    }
    StartError::new(
        place.to_owned(),
        error.to_string(),
        format!(
            "{queues} workers need as many combined queues, and `ethtool -l {interface}` tells how many there are"
        ),
        format!("run `ethtool -L {interface} combined {queues}`, or name fewer workers"),
    )
}

fn eal_settings(config: &Config, packets: &Packets) -> Result<(EalSettings, bool), StartError> {
    let runtime = &config.runtime;
    let needed = packets.mebibytes() as usize;
    let reserved = Reserved::here();
    if let Some(Fault { wrong, holds, advice }) = packets.too_few_hugepages(&reserved) {
        return Err(StartError::new("runtime.hugepages".into(), wrong, holds, advice));
    }
    let hugepages = packets.in_hugepages(reserved.free);
    let memory = if hugepages { Memory::Hugepages } else { Memory::Ordinary { mebibytes: needed } };
    let allow_pci =
        config.nics.iter().filter(|nic| nic.device.is_pci()).map(|nic| nic.device.to_string()).collect();
    let settings = EalSettings {
        memory,
        file_prefix: format!("shunt-{}", std::process::id()),
        main_core: usize::from(runtime.control_core),
        allow_pci,
        physical_addresses: packets.want_physical_addresses(),
        extra: Vec::new(),
    };
    Ok((settings, hugepages))
}

/// The MAC that the director uses on a NIC: the NIC's own, or a locally administered one where it has none (net_ring).
pub(super) fn mac_of(own: [u8; 6], number: usize) -> Mac {
    if own == [0; 6] { Mac([2, b's', b'h', b'u', 0, number as u8]) } else { Mac(own) }
}
