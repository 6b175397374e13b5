//! Interfaces of the kernel, by which other programs call NICs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::files::Files;
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

    /// The name of the NIC that an interface is, if there is one.
    #[must_use]
    pub fn find(&self, interface: &str) -> Option<String> {
        let Self::Known(nics) = self else { return Some(interface.to_owned()) };
        let by_interface = nics.iter().find(|(on, _)| on.as_deref() == Some(interface));
        let found = by_interface.or_else(|| nics.iter().find(|(_, name)| name == interface));
        found.map(|(_, name)| name.clone())
    }

    /// The name of the NIC that an interface is; without one it is refused.
    pub fn nic(
        &mut self,
        interface: &str,
        origin: &Origin,
        place: &str,
        writer: &mut Writer,
    ) -> Option<String> {
        if let Self::Gathered(interfaces) = self {
            interfaces.entry(interface.to_owned()).or_insert_with(|| origin.clone());
        }
        let found = self.find(interface);
        if found.is_none() {
            let wrong = format!("no [[nic]] is {interface}");
            let holds = "a [[nic]] runs on the interface, or has its name";
            writer.refuse(origin, place, Fault::new(wrong, holds, "name the [[nic]] so, or add it"));
        }
        found
    }

    /// Writes a `[[nic]]` for each that was gathered, with the addresses that it has on this machine but for the VIPs, and
    /// the router of its default route. `named` are the addresses that the file names: where it names no interface, those
    /// of this machine in whose networks they are.
    pub fn write(
        &self,
        files: &dyn Files,
        is_vip: impl Fn(IpAddr) -> bool,
        named: &[IpAddr],
        writer: &mut Writer,
    ) {
        let Self::Gathered(interfaces) = self else { return };
        let mut own: Vec<_> = files.interfaces().into_iter().filter(|(_, own)| !is_vip(own.addr())).collect();
        let mut routers = files.routers();
        if let Some((interface, origin)) = interfaces.first_key_value() {
            let of_file = |(of, _): &&(String, IpNet)| interfaces.contains_key(of);
            let near = |(_, network): &(String, IpNet)| named.iter().any(|address| network.contains(address));
            let here: Vec<_> = own.iter().filter(of_file).collect();
            if !here.is_empty() && !named.is_empty() && !here.iter().any(|own| near(own)) {
                tell_other_machine(interface, origin, &here, writer);
                own.clear();
                routers.clear();
            }
        }
        for (interface, origin) in interfaces {
            write_nic(interface, origin, &own, &routers, writer);
        }
        if !interfaces.is_empty() || named.is_empty() {
            return;
        }
        let Some(origin) = writer.origin_of_file() else { return };
        let found = interfaces_of(named, &own, &routers);
        let names = if found.is_empty() { vec!["eth0".to_owned()] } else { found };
        let fault = Fault::new(
            "no interface is named",
            format!("packets come by {}", names.join(", ")),
            "see that the [[nic]] are those by which clients and real servers are reached",
        );
        writer.notice(&origin, "file", fault);
        for interface in names {
            write_nic(&interface, &origin, &own, &routers, writer);
        }
    }
}

/// This machine is not the one that the file is for: its addresses would lead nowhere.
fn tell_other_machine(interface: &str, origin: &Origin, here: &[&(String, IpNet)], writer: &mut Writer) {
    let list: Vec<String> = here.iter().map(|(of, network)| format!("{of} {network}")).collect();
    let fault = Fault::new(
        format!("no address of the file is in a network of this machine ({})", list.join(", ")),
        "own addresses and routers are left out",
        "import on the director, or write the addresses",
    );
    writer.notice(origin, interface, fault);
}

/// Whether this machine has an address.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| ip(one.address?)).any(|own| own == address)
}

fn write_nic(
    interface: &str,
    origin: &Origin,
    own: &[(String, IpNet)],
    routers: &[(String, IpAddr)],
    writer: &mut Writer,
) {
    writer.table(origin, "[[nic]]");
    writer.key(origin, "name", quoted(interface));
    writer.key(origin, "device", quoted(&format!("af_packet:{interface}")));
    let own: Vec<IpNet> = own.iter().filter(|(of, _)| of == interface).map(|(_, own)| *own).collect();
    if own.is_empty() {
        writer.comment(origin, "the director's own addresses, such as \"192.0.2.2/24\":");
    }
    let list: Vec<String> = own.iter().map(|address| quoted(&address.to_string())).collect();
    writer.key(origin, "addresses", format!("[{}]", list.join(", ")));
    let near = |router: &IpAddr| own.iter().any(|network| network.contains(router));
    let routers = routers.iter().filter(|(of, router)| of == interface && near(router));
    let routers: Vec<String> = routers.map(|(_, router)| quoted(&router.to_string())).collect();
    if !routers.is_empty() {
        writer.key(origin, "gateway", format!("[{}]", routers.join(", ")));
    }
}

/// The interfaces of this machine in whose networks addresses are, else those that lead elsewhere.
fn interfaces_of(named: &[IpAddr], own: &[(String, IpNet)], routers: &[(String, IpAddr)]) -> Vec<String> {
    let near = |network: &IpNet| named.iter().any(|address| network.contains(address));
    let mut found: BTreeSet<&String> =
        own.iter().filter(|(of, network)| of != "lo" && near(network)).map(|(of, _)| of).collect();
    if found.is_empty() {
        found.extend(routers.iter().map(|(interface, _)| interface));
    }
    found.into_iter().cloned().collect()
}

/// The routers of this machine's default routes, with their interfaces.
pub fn routers() -> Vec<(String, IpAddr)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/net/route").lines().filter_map(default_v4).collect::<Vec<_>>();
    let v6 = read("/proc/net/ipv6_route").lines().filter_map(default_v6).collect::<Vec<_>>();
    v4.into_iter().chain(v6).collect()
}

/// `eth0 00000000 010200C0 0003 … 00000000 …` of /proc/net/route, numbers in the order of this machine's bytes.
fn default_v4(line: &str) -> Option<(String, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, "00000000", router, _, _, _, _, "00000000", ..] = fields[..] else { return None };
    let router = u32::from_str_radix(router, 16).ok().filter(|router| *router != 0)?;
    Some((interface.to_owned(), Ipv4Addr::from(router.to_ne_bytes()).into()))
}

/// `0…0 00 0…0 00 2001…1 … eth0` of /proc/net/ipv6_route.
fn default_v6(line: &str) -> Option<(String, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [to, "00", _, _, router, .., interface] = fields[..] else { return None };
    let router = u128::from_str_radix(router, 16).ok().filter(|router| *router != 0)?;
    u128::from_str_radix(to, 16).ok().filter(|to| *to == 0)?;
    Some((interface.to_owned(), Ipv6Addr::from(router).into()))
}

/// The interfaces of this machine, each with one of its addresses but for link-local ones.
pub fn addresses() -> Vec<(String, IpNet)> {
    let link_local = |network: &IpNet| matches!(network, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|one| {
        let (address, mask) = (ip(one.address?)?, ip(one.netmask?)?);
        Some((one.interface_name, IpNet::with_netmask(address, mask).ok()?))
    });
    all.filter(|(_, network)| !link_local(network)).collect()
}

fn ip(address: nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

/// The first part of this machine's name.
#[must_use]
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}
