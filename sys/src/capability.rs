//! Which Linux capability a device needs and this process lacks, so that an error can say so.

use std::fmt;
use std::fs;

/// A capability of `capabilities(7)`, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Configure interfaces, create tap devices.
    NetAdmin = 12,
    /// Packet sockets.
    NetRaw = 13,
    /// Lock more memory than `ulimit -l` allows, as VFIO does for a NIC's DMA.
    IpcLock = 14,
    /// Load BPF programs.
    Bpf = 39,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
            Capability::IpcLock => "CAP_IPC_LOCK",
            Capability::Bpf => "CAP_BPF",
        })
    }
}

/// The capabilities that DPDK's driver of this device uses, whether this process has them or not.
pub fn needed(devargs: &str) -> &'static [Capability] {
    use Capability::{Bpf, IpcLock, NetAdmin, NetRaw};
    let driver = devargs.split(',').next().unwrap_or_default();
    let has = |prefix: &str| driver.starts_with(prefix);
    if has("net_af_packet") || has("eth_af_packet") {
        &[NetRaw, NetAdmin]
    } else if has("net_af_xdp") {
        &[NetRaw, NetAdmin, Bpf]
    } else if has("net_tap") || has("net_tun") {
        &[NetAdmin]
    } else if has("net_pcap") && devargs.contains("iface=") {
        &[NetRaw]
    } else if has("net_virtio_user") && devargs.contains("/dev/vhost-net") {
        &[NetAdmin]
    } else if driver.contains(':') {
        &[IpcLock]
    } else {
        &[]
    }
}

/// Those of [`needed`] that this process does not have; none when `/proc/self/status` cannot be read.
pub fn missing(devargs: &str) -> Vec<Capability> {
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => missing_from(effective(&status), devargs),
        Err(_) => Vec::new(),
    }
}

fn missing_from(effective: u64, devargs: &str) -> Vec<Capability> {
    // A kernel before 5.8 knows CAP_BPF only as a part of CAP_SYS_ADMIN.
    const SYS_ADMIN: u64 = 1 << 21;
    let has = |capability: Capability| {
        effective & (1 << (capability as u64)) != 0
            || (capability == Capability::Bpf && effective & SYS_ADMIN != 0)
    };
    needed(devargs).iter().copied().filter(|capability| !has(*capability)).collect()
}

/// The set in the line `CapEff:`; all of them when the line is not there.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_set() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000003000\nCapBnd:\tffff\n"), 0x3000);
        assert_eq!(effective("nothing"), u64::MAX);
    }

    #[test]
    fn names_what_each_driver_lacks() {
        let net_raw_only = 1 << 13;
        let cases: [(&str, &[Capability]); 6] = [
            ("net_af_packet0,iface=eth1", &[Capability::NetAdmin]),
            ("net_af_xdp0,iface=eth1", &[Capability::NetAdmin, Capability::Bpf]),
            ("net_tap0,iface=x", &[Capability::NetAdmin]),
            ("net_pcap0,iface=eth1", &[]),
            ("0000:3b:00.0", &[Capability::IpcLock]),
            ("net_ring0", &[]),
        ];
        for (devargs, lacks) in cases {
            assert_eq!(missing_from(net_raw_only, devargs), lacks, "{devargs}");
            assert!(missing_from(u64::MAX, devargs).is_empty());
        }
    }
}
