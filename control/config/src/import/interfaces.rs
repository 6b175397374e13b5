//! Interfaces of the kernel, by which other programs call NICs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use shunt_model::fault::Fault;
use shunt_model::fault::Origin;

use super::files::Files;
use super::writer::{Writer, quoted};

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
    /// the router of its default route. `named` are the addresses that the file names.
    pub fn write(
        &self,
        files: &dyn Files,
        is_vip: impl Fn(IpAddr) -> bool,
        named: &[IpAddr],
        writer: &mut Writer,
    ) {
        let Self::Gathered(interfaces) = self else { return };
        let mut here = Here::of(files, is_vip);
        if let Some((interface, origin)) = interfaces.first_key_value() {
            let of_file = |interface: &str| interfaces.contains_key(interface);
            here.forget_unless_near(of_file, named, (origin, interface), writer);
        }
        for (interface, origin) in interfaces {
            here.write_nic(interface, origin, writer);
        }
        // Others, such as one that leads to real servers alone, tell only where those of the file are.
        let on_this_machine = here.own.iter().find_map(|(of, _)| interfaces.get(of));
        let Some(origin) = on_this_machine else { return };
        for (interface, address) in here.others_near(named, |interface| interfaces.contains_key(interface)) {
            let fault = Fault::new(
                format!("{address} is in a network of {interface}, which the file does not name"),
                format!("packets for it go by {interface}"),
                "see that it is to be a [[nic]], or remove that",
            );
            writer.notice(origin, "file", fault);
            here.write_nic(&interface, origin, writer);
        }
    }
}

/// Writes the `[[nic]]`s of a file that names no interface: those of this machine in whose networks the addresses of its TOML are, else
/// those of its default routes.
pub fn write_unnamed(toml: &str, files: &dyn Files, writer: &mut Writer) {
    let Some(origin) = writer.origin_of_file() else { return };
    let addresses = Addresses::of(toml);
    let mut here = Here::of(files, |address| addresses.vips.contains(&address));
    let found = here.interfaces_of(&addresses.all());
    let names = if found.is_empty() { vec!["eth0".to_owned()] } else { found };
    let fault = Fault::new(
        "no interface is named",
        format!("packets come by {}", names.join(", ")),
        "see that the [[nic]] are those by which clients and real servers are reached",
    );
    writer.notice(&origin, "file", fault);
    let is_named = |interface: &str| names.iter().any(|name| name == interface);
    // A router leads to all others from any machine.
    here.forget_unless_near(is_named, &addresses.neighbours, (&origin, "file"), writer);
    for interface in &names {
        here.write_nic(interface, &origin, writer);
    }
}

/// The addresses in a configuration.
#[derive(Default)]
struct Addresses {
    vips: Vec<IpAddr>,
    /// The real servers of DR.
    neighbours: Vec<IpAddr>,
    /// Other real servers, and routers.
    others: Vec<IpAddr>,
}

impl Addresses {
    /// Those of a TOML; none where it is none.
    fn of(toml: &str) -> Self {
        let document: toml::Table = toml.parse().unwrap_or_default();
        let mut addresses = Self::default();
        for service in tables(&document, "service") {
            addresses.vips.extend(service.get("listen").and_then(address));
            for real in tables(service, "real") {
                let forward = real.get("forward").or_else(|| service.get("forward"));
                let is_dr = forward.and_then(toml::Value::as_str) == Some("dr");
                let list = if is_dr { &mut addresses.neighbours } else { &mut addresses.others };
                list.extend(real.get("address").and_then(address));
            }
        }
        for router in tables(&document, "vrrp") {
            let list = router.get("addresses").and_then(toml::Value::as_array);
            addresses.vips.extend(list.into_iter().flatten().filter_map(address));
        }
        addresses.others.extend(tables(&document, "route").filter_map(|route| address(route.get("via")?)));
        addresses
    }

    fn all(&self) -> Vec<IpAddr> {
        [&self.vips, &self.neighbours, &self.others].into_iter().flatten().copied().collect()
    }
}

fn tables<'t>(of: &'t toml::Table, key: &str) -> impl Iterator<Item = &'t toml::Table> {
    of.get(key).and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_table)
}

/// `192.0.2.1`, `192.0.2.1:80` or `192.0.2.1/24`.
fn address(value: &toml::Value) -> Option<IpAddr> {
    let text = value.as_str()?;
    let endpoint = text.parse().map(|endpoint: SocketAddr| endpoint.ip());
    endpoint.or_else(|_| text.split('/').next().unwrap_or_default().parse()).ok()
}

/// What this machine has.
struct Here {
    /// Its addresses, with their interfaces.
    own: Vec<(String, IpNet)>,
    /// The routers of its default routes.
    routers: Vec<(String, IpAddr)>,
}

impl Here {
    fn of(files: &dyn Files, is_vip: impl Fn(IpAddr) -> bool) -> Self {
        let own = files.interfaces().into_iter().filter(|(_, own)| !is_vip(own.addr())).collect();
        Self { own, routers: files.routers() }
    }

    /// A machine in whose networks no address of the file is is not the one that the file is for: its addresses would lead nowhere.
    fn forget_unless_near(
        &mut self,
        is_of_file: impl Fn(&str) -> bool,
        named: &[IpAddr],
        (origin, place): (&Origin, &str),
        writer: &mut Writer,
    ) {
        let near = |network: &IpNet| named.iter().any(|address| network.contains(address));
        let here: Vec<_> = self.own.iter().filter(|(interface, _)| is_of_file(interface)).collect();
        if here.is_empty() || named.is_empty() || here.iter().any(|(_, network)| near(network)) {
            return;
        }
        let list: Vec<String> = here.iter().map(|(of, network)| format!("{of} {network}")).collect();
        let fault = Fault::new(
            format!("no address of the file is in a network of this machine ({})", list.join(", ")),
            "own addresses and routers are left out",
            "import on the director, or write the addresses",
        );
        writer.notice(origin, place, fault);
        self.own.clear();
        self.routers.clear();
    }

    fn write_nic(&self, interface: &str, origin: &Origin, writer: &mut Writer) {
        writer.table(origin, "[[nic]]");
        writer.key(origin, "name", quoted(interface));
        writer.key(origin, "device", quoted(&format!("af_packet:{interface}")));
        let own: Vec<IpNet> =
            self.own.iter().filter(|(of, _)| of == interface).map(|(_, own)| *own).collect();
        if own.is_empty() {
            writer.comment(origin, "the director's own addresses, such as \"192.0.2.2/24\":");
        }
        let list: Vec<String> = own.iter().map(|address| quoted(&address.to_string())).collect();
        writer.key(origin, "addresses", format!("[{}]", list.join(", ")));
        let near = |router: &IpAddr| own.iter().any(|network| network.contains(router));
        let routers = self.routers.iter().filter(|(of, router)| of == interface && near(router));
        let routers: Vec<String> = routers.map(|(_, router)| quoted(&router.to_string())).collect();
        if !routers.is_empty() {
            writer.key(origin, "gateway", format!("[{}]", routers.join(", ")));
        }
    }

    /// The interfaces in whose networks addresses are, else those that lead elsewhere.
    fn interfaces_of(&self, named: &[IpAddr]) -> Vec<String> {
        let near: Vec<String> = self.others_near(named, |_| false).into_keys().collect();
        if !near.is_empty() {
            return near;
        }
        self.routers
            .iter()
            .map(|(interface, _)| interface.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The interfaces in whose networks addresses are that no interface of the file has, each with one of these.
    fn others_near(&self, named: &[IpAddr], is_of_file: impl Fn(&str) -> bool) -> BTreeMap<String, IpAddr> {
        let mut near = BTreeMap::new();
        for address in named {
            let mut on = self.own.iter().filter(|(_, network)| network.contains(address)).map(|(of, _)| of);
            if let Some(interface) = on.clone().next().filter(|_| !on.any(|of| is_of_file(of) || of == "lo"))
            {
                near.entry(interface.clone()).or_insert(*address);
            }
        }
        near
    }
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

/// The first part of this machine's name.
#[must_use]
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().split('.').next().unwrap_or_default().to_owned()
}
