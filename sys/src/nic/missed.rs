//! Packets that the kernel lost in front of a NIC. Drivers that stand on its interfaces do not tell of them (net_af_packet from DPDK 25.03
//! on does), so the kernel is asked.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

use super::{descriptors, packet_sockets};
use crate::probe::Device;

/// The driver of XDP sockets.
const AF_XDP: &str = "net_af_xdp";
/// Drivers that nobody tells what a sender found no room for: it knows, they do not.
const UNTOLD: [&str; 5] = ["net_memif", "net_ring", "net_vhost", "net_virtio", "net_virtio_user"];

/// Where the numbers of a NIC's losses are.
#[derive(Debug, Default)]
pub(super) struct Missed {
    untold: bool,
    packet_sockets: Vec<RawFd>,
    xdp_sockets: Vec<RawFd>,
    interface: Option<Interface>,
    /// What packet sockets told of, who forget it then.
    told: AtomicU64,
}

/// An interface of the kernel.
#[derive(Debug)]
struct Interface {
    name: String,
    /// Packets leave the kernel by it, into the NIC.
    leaves: bool,
    /// What it had lost before.
    before: u64,
}

impl Missed {
    /// Of a device that is configured; `before` are the XDP sockets that there were before that.
    pub(super) fn of(device: &Device, driver: &str, before: &BTreeSet<RawFd>) -> Missed {
        let interface = |leaves| {
            let name = device.option("iface")?.trim().to_owned();
            Some(Interface { before: dropped(&name, leaves).unwrap_or_default(), name, leaves })
        };
        match driver {
            packet_sockets::DRIVER => Missed {
                packet_sockets: packet_sockets::all(device),
                interface: interface(false),
                ..Missed::default()
            },
            descriptors::TAP => Missed { interface: interface(true), ..Missed::default() },
            AF_XDP => {
                let sockets = xdp_sockets().difference(before).copied().collect();
                Missed { xdp_sockets: sockets, ..Missed::default() }
            }
            _ => Missed { untold: UNTOLD.contains(&driver), ..Missed::default() },
        }
    }

    /// All of them: `driver` are those that the driver tells of. None when nobody knows.
    pub(super) fn count(&self, driver: u64) -> Option<u64> {
        if self.untold {
            return None;
        }
        let of_sockets: u64 = self.packet_sockets.iter().map(|socket| packet_sockets::lost(*socket)).sum();
        let told = self.told.fetch_add(of_sockets, Ordering::Relaxed) + of_sockets;
        let of_xdp: u64 = self.xdp_sockets.iter().map(|socket| ring_full(*socket)).sum();
        let of_interface = self.interface.as_ref().map_or(0, |interface| {
            let now = dropped(&interface.name, interface.leaves);
            now.unwrap_or_default().saturating_sub(interface.before)
        });
        Some(driver + told + of_xdp + of_interface)
    }
}

/// Packets that an interface lost on the way in or out, by the column `drop` of `/proc/net/dev`, where the network is this process's.
fn dropped(interface: &str, leaves: bool) -> Option<u64> {
    column(&std::fs::read_to_string("/proc/self/net/dev").ok()?, interface, leaves)
}

fn column(table: &str, interface: &str, leaves: bool) -> Option<u64> {
    const RECEIVE_DROP: usize = 3;
    const TRANSMIT_DROP: usize = 11;
    let row = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    row.split_whitespace().nth(if leaves { TRANSMIT_DROP } else { RECEIVE_DROP })?.parse().ok()
}

/// The XDP sockets of this process.
pub(super) fn xdp_sockets() -> BTreeSet<RawFd> {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let descriptors = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    descriptors.filter(|descriptor| xdp_statistics(*descriptor).is_some()).collect()
}

/// Packets for which the receive ring of an XDP socket had no room; its driver counts only those for which there was no buffer.
fn ring_full(socket: RawFd) -> u64 {
    xdp_statistics(socket).map_or(0, |counted| counted.rx_ring_full)
}

/// None for what is no XDP socket. Kernels before 5.9 tell less, and then these are part of what the driver tells.
fn xdp_statistics(descriptor: RawFd) -> Option<libc::xdp_statistics> {
    let mut counted = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    packet_sockets::get(descriptor, libc::SOL_XDP, libc::XDP_STATISTICS, &mut counted).ok()?;
    Some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_an_interface() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
                     \u{20}   lo:    8316     105    0    1    0     0          0         0     8316     105    0    2    0     0       0          0\n\
                     front1:  70       1    0    3    0     0          0         0       70       1    0    4    0     0       0          0\n\
                     front:12345678       1    0    5    0     0          0         0       70       1    0    6    0     0       0          0\n";
        assert_eq!(column(table, "front", false), Some(5));
        assert_eq!(column(table, "front", true), Some(6));
        assert_eq!(column(table, "lo", false), Some(1));
        assert_eq!(column(table, "fron", false), None);
    }
}
