//! Which descriptors say that packets have arrived. net_tap tells them by DPDK's receive interrupts; net_af_packet has
//! sockets and tells nobody, so they are looked for. Of the other virtual NICs net_memif, net_ring, net_af_xdp, net_pcap and
//! net_null have no receive interrupts in 22.11; those of hardware would have to be armed before each sleep.

use std::os::fd::RawFd;

use nix::net::if_::if_nametoindex;

use crate::ffi;
use crate::probe::Device;

/// The driver of TAP interfaces.
pub(super) const TAP: &str = "net_tap";
const AF_PACKET: &str = "net_af_packet";

/// By receive queue, or none at all.
pub(super) fn of(device: &Device, driver: &str, queues: u16) -> Vec<RawFd> {
    let descriptors = match driver {
        TAP => interrupts(device, queues),
        AF_PACKET => sockets(device),
        _ => Vec::new(),
    };
    if descriptors.len() == usize::from(queues) { descriptors } else { Vec::new() }
}

fn interrupts(device: &Device, queues: u16) -> Vec<RawFd> {
    let descriptor = |queue| {
        // SAFETY: rte_ethdev.h: rte_eth_dev_rx_intr_ctl_q_get_fd takes a valid port and queue and gives -1 for none.
        let descriptor = unsafe { ffi::rte_eth_dev_rx_intr_ctl_q_get_fd(device.id().0, queue) };
        (descriptor >= 0).then_some(descriptor)
    };
    (0..queues).map_while(descriptor).collect()
}

/// The packet sockets of this process that are bound to the device's interface, in the order in which they were opened:
/// one for each queue. None when that order is in doubt.
fn sockets(device: &Device) -> Vec<RawFd> {
    let Some(index) = device.option("iface").and_then(|name| if_nametoindex(name.trim()).ok()) else {
        return Vec::new();
    };
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let mut found: Vec<(RawFd, u64)> = all
        .flatten()
        .filter_map(|entry| {
            let descriptor: RawFd = entry.file_name().to_str()?.parse().ok()?;
            let link = std::fs::read_link(entry.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            // SAFETY: getsockname(2): any number may be asked for, and the shim gives it room for the answer.
            let bound = unsafe { ffi::shim_packet_socket_interface(descriptor) };
            (u32::try_from(bound) == Ok(index)).then_some((descriptor, inode))
        })
        .collect();
    found.sort_unstable();
    if found.is_sorted_by_key(|(_, inode)| *inode) {
        found.into_iter().map(|(descriptor, _)| descriptor).collect()
    } else {
        Vec::new()
    }
}
