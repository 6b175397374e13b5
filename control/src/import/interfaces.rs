//! Interfaces of the kernel, by which other programs call NICs.

use std::collections::BTreeMap;

use super::note::Origin;
use super::writer::{Writer, quoted};
use crate::config::problem::Fault;

/// Which NIC an interface is.
#[derive(Clone, Debug)]
pub enum Interfaces {
    /// The NICs of a configuration: interface, where it runs on one, and name.
    Known(Vec<(Option<String>, String)>),
    /// Those that are named, each to become a `[[nic]]` of its name.
    Gathered(BTreeMap<String, Origin>),
}

impl Default for Interfaces {
    fn default() -> Self {
        Self::Gathered(BTreeMap::new())
    }
}

impl Interfaces {
    /// The NICs of a configuration: the interface that each runs on, if any, and its name.
    #[must_use]
    pub const fn of_nics(nics: Vec<(Option<String>, String)>) -> Self {
        Self::Known(nics)
    }

    /// The name of the NIC that an interface is.
    pub fn nic(
        &mut self,
        interface: &str,
        origin: &Origin,
        place: &str,
        writer: &mut Writer,
    ) -> Option<String> {
        match self {
            Self::Known(nics) => {
                let by_interface = nics.iter().find(|(on, _)| on.as_deref() == Some(interface));
                let found = by_interface.or_else(|| nics.iter().find(|(_, name)| name == interface));
                if found.is_none() {
                    let wrong = format!("no [[nic]] is {interface}");
                    let holds = "a [[nic]] runs on the interface, or has its name";
                    writer.refuse(origin, place, Fault::new(wrong, holds, "name the [[nic]] so, or add it"));
                }
                found.map(|(_, name)| name.clone())
            }
            Self::Gathered(interfaces) => {
                interfaces.entry(interface.to_owned()).or_insert_with(|| origin.clone());
                Some(interface.to_owned())
            }
        }
    }

    /// Writes a `[[nic]]` for each that was gathered, with the addresses that it has on this machine but for the VIPs.
    pub fn write(&self, is_vip: impl Fn(std::net::IpAddr) -> bool, writer: &mut Writer) {
        let Self::Gathered(interfaces) = self else { return };
        for (interface, origin) in interfaces {
            writer.table(origin, "[[nic]]");
            writer.key(origin, "name", quoted(interface));
            writer.key(origin, "device", quoted(&format!("af_packet:{interface}")));
            let addresses = addresses(interface).into_iter().filter(|address| !is_vip(address.addr()));
            let addresses: Vec<String> = addresses.map(|address| quoted(&address.to_string())).collect();
            if addresses.is_empty() {
                writer.comment(origin, "the director's own addresses, such as \"192.0.2.2/24\":");
            }
            writer.key(origin, "addresses", format!("[{}]", addresses.join(", ")));
        }
    }
}

/// Whether this machine has an address.
#[must_use]
pub fn is_own(address: std::net::IpAddr) -> bool {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| ip(one.address?)).any(|own| own == address)
}

/// The addresses that an interface has on this machine, but for link-local ones.
fn addresses(interface: &str) -> Vec<ipnet::IpNet> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let of_interface = all.filter(|one| one.interface_name == interface);
    let network = |one: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (ip(one.address?)?, ip(one.netmask?)?);
        ipnet::IpNet::with_netmask(address, mask).ok()
    };
    let link_local =
        |network: &ipnet::IpNet| matches!(network, ipnet::IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    of_interface.filter_map(network).filter(|network| !link_local(network)).collect()
}

fn ip(address: nix::sys::socket::SockaddrStorage) -> Option<std::net::IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// The first part of this machine's name.
#[must_use]
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}
