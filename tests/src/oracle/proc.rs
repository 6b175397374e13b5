//! What the kernel's own files say: `/proc/sys/net/ipv4/vs/` and `/proc/net/ip_vs`.

use std::net::{IpAddr, SocketAddr};

use shunt_dataplane::snapshot::Sysctls;
use shunt_model::ipvsadm::table::{Destination, Family, Forward, Key, Netmask, Service, Table};

/// Settings that this director has none of, with the kernel's defaults; the length of a queue depends on the memory of
/// the recordings' machine.
const OTHERS: [(&str, &str); 21] = [
    ("am_droprate", "10"),
    ("amemthresh", "1024"),
    ("backup_only", "0"),
    ("cache_bypass", "0"),
    ("conntrack", "0"),
    ("drop_entry", "0"),
    ("drop_packet", "0"),
    ("ignore_tunneled", "0"),
    ("run_estimation", "1"),
    ("schedule_icmp", "0"),
    ("secure_tcp", "0"),
    ("sloppy_sctp", "0"),
    ("snat_reroute", "1"),
    ("sync_persist_mode", "0"),
    ("sync_ports", "1"),
    ("sync_qlen_max", "1725"),
    ("sync_refresh_period", "0"),
    ("sync_retries", "0"),
    ("sync_sock_size", "0"),
    ("sync_threshold", "3\t50"),
    ("sync_version", "1"),
];

/// Jiffies in a second, in the recordings' kernel.
const HZ: u32 = 250;

/// `grep . /proc/sys/net/ipv4/vs/*`.
#[must_use]
pub fn sysctls(sysctls: Sysctls) -> String {
    let own = sysctls.values().map(|(name, value)| (name, value.to_string()));
    let others = OTHERS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let others = others.filter(|(name, _)| !Sysctls::NAMES.contains(name));
    let mut lines: Vec<_> =
        own.chain(others).map(|(name, value)| format!("/proc/sys/net/ipv4/vs/{name}:{value}\n")).collect();
    lines.sort();
    lines.concat()
}

/// `cat /proc/net/ip_vs`.
#[must_use]
pub fn ip_vs(table: &Table) -> String {
    let mut text = String::from(
        "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
    );
    for entry in &table.services {
        text.push_str(&service(entry));
        entry.destinations.iter().rev().for_each(|one| text.push_str(&destination(one)));
    }
    text
}

fn service(service: &Service) -> String {
    let name = match service.key {
        Key::Address(protocol, address) => {
            format!("{:<4} {}", protocol.word().to_uppercase(), hexadecimal(address))
        }
        Key::Mark(mark, Family::V4 | Family::V6) => format!("FWM  {mark:08X}"),
    };
    let one_packet = if service.one_packet { "ops " } else { "" };
    let persistent = service.persistence.map_or_else(String::new, |persistence| {
        let mask = match persistence.netmask {
            Netmask::V4(mask) => mask.to_bits(),
            Netmask::V6(length) => length.into(),
        };
        format!("persistent {} {mask:08X}", persistence.timeout * HZ)
    });
    format!("{name} {} {one_packet} {persistent}\n", service.scheduler)
}

fn destination(destination: &Destination) -> String {
    let forward = match destination.forward {
        Forward::Masquerade => "Masq",
        Forward::Tunnel(_) => "Tunnel",
        Forward::Route => "Route",
    };
    let address = hexadecimal(destination.address);
    let (weight, counters) = (destination.weight, destination.counters);
    format!(
        "  -> {address}      {forward:<7} {weight:<6} {:<10} {:<10}\n",
        counters.active, counters.inactive
    )
}

fn hexadecimal(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", ip.to_bits(), address.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{:04X}", address.port()),
    }
}
