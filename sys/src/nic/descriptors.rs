//! Which descriptors say that packets have arrived. net_tap tells them by DPDK's receive interrupts; net_af_packet has
//! sockets and tells nobody, so they are looked for. Of the other virtual NICs net_memif, net_ring, net_af_xdp, net_pcap and
//! net_null have no receive interrupts in 22.11; those of hardware would have to be armed before each sleep.

use std::os::fd::RawFd;

use super::packet_sockets;
use crate::ffi;
use crate::probe::Device;

/// The driver of TAP interfaces.
pub(super) const TAP: &str = "net_tap";

/// By receive queue, or none at all.
pub(super) fn of(device: &Device, driver: &str, queues: u16) -> Vec<RawFd> {
    let descriptors = match driver {
        TAP => interrupts(device, queues),
        packet_sockets::DRIVER => packet_sockets::descriptors(device),
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
