//! `[[nic]]` and `[[route]]`: devices, the director's own addresses, the way to other networks.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_dataplane::id::Mac;
use shunt_dataplane::reverse_path::ReversePath;
use shunt_model::fault::{At, Fault, Span};
use shunt_model::limit;
use toml::de::DeTable;

use super::{Section, name, place, required};
use crate::Neighbour;
use crate::device::Device;
use crate::problem::Findings;

/// A `[[nic]]` as written.
#[derive(Debug)]
pub struct NicDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `name`.
    pub name: Option<At<String>>,
    /// `device`.
    pub device: Option<At<Device>>,
    /// `addresses`.
    pub addresses: Vec<At<IpNet>>,
    /// `gateway`.
    pub gateways: Vec<At<IpAddr>>,
    /// `neighbours`.
    pub neighbours: Vec<At<Neighbour>>,
    /// `mtu`.
    pub mtu: Option<At<u16>>,
    /// `reverse_path`.
    pub reverse_path: Option<At<ReversePath>>,
}

const NIC_KEYS: &[&str] = &["name", "device", "addresses", "gateway", "neighbours", "mtu", "reverse_path"];

impl NicDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("nic", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, NIC_KEYS, &[]);
        let nic = Self {
            name: section.parse("name", name),
            device: section.parse("device", Device::parse),
            addresses: section.parse_list("addresses", own_address),
            gateways: section.parse_list("gateway", router),
            neighbours: section.parse_list("neighbours", neighbour),
            mtu: section.integer("mtu", limit::MTU_MIN..=limit::MTU_MAX, "bytes"),
            reverse_path: section.word("reverse_path", &ReversePath::ALL.map(|how| (how.word(), how)), &[]),
            place: place.clone(),
            at: at.clone(),
        };
        if !section.has("name") {
            section.missing(required("name", "every NIC has a name of its own", "name = \"front\""));
        }
        if !section.has("device") {
            section.missing(required("device", "every NIC runs on a device", "device = \"af_packet:eth1\""));
        }
        nic
    }
}

/// A `[[route]]` as written.
#[derive(Debug)]
pub struct RouteDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `to`.
    pub to: Option<At<IpNet>>,
    /// `via`.
    pub via: Option<At<IpAddr>>,
    /// `nic`.
    pub nic: Option<At<String>>,
}

const ROUTE_KEYS: &[&str] = &["to", "via", "nic"];

impl RouteDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("route", table, "to", number);
        let mut section = Section::new(findings, &place, table, &at, ROUTE_KEYS, &[]);
        let route = Self {
            to: section.parse("to", network),
            via: section.parse("via", router),
            nic: section.parse("nic", name),
            place: place.clone(),
            at: at.clone(),
        };
        if !section.has("to") {
            section.missing(required("to", "every route leads to a network", "to = \"198.51.100.0/24\""));
        }
        if !section.has("via") && !section.has("nic") {
            let holds = "a route leads to a router (via), or out of a NIC (nic) to neighbours";
            section.missing(required("via", holds, "via = \"192.0.2.1\""));
        }
        route
    }
}

/// An address that a host may have.
pub(super) fn host(address: IpAddr) -> Result<IpAddr, Fault> {
    let kind = match address {
        IpAddr::V4(address) if address.is_broadcast() => "the broadcast address",
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => "an IPv4 address written as IPv6",
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_multicast() => "a multicast address",
        _ => return Ok(address),
    };
    Err(Fault::new(kind, "a unicast address that other hosts can reach", "write one of those"))
}

/// One of the director's own addresses, with its network.
fn own_address(text: &str) -> Result<IpNet, Fault> {
    let net: IpNet = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => {
            let length = if address.is_ipv4() { 24 } else { 64 };
            let holds = "an own address has the length of its network";
            Fault::new(
                "no prefix length",
                holds,
                format!("write \"{address}/{length}\" if that is its length"),
            )
        }
        Err(_) => Fault::new(
            "not an address with a prefix length",
            "such as \"192.0.2.2/24\" or \"2001:db8::2/64\"",
            "write one of those",
        ),
    })?;
    host(net.addr())?;
    let whole = net.prefix_len() + 1 < net.max_prefix_len();
    let broadcast = net.addr().is_ipv4() && net.addr() == net.broadcast();
    if whole && (net.addr() == net.network() || broadcast) {
        let kind =
            if broadcast { "the network's broadcast address" } else { "the address of the network itself" };
        return Err(Fault::new(kind, "a host's address in its network", "write the director's own address"));
    }
    Ok(net)
}

/// The network that a route leads to.
fn network(text: &str) -> Result<IpNet, Fault> {
    let net: IpNet = text.parse().map_err(|_| {
        Fault::new(
            "not a network",
            "an address and a prefix length, such as \"198.51.100.0/24\"; \"0.0.0.0/0\" and \"::/0\" hold everything",
            "write one of those",
        )
    })?;
    if net.addr() != net.network() {
        return Err(Fault::new(
            "bits are set behind the prefix length",
            "a network",
            format!("write \"{}\"", net.trunc()),
        ));
    }
    Ok(net)
}

/// A neighbour with its MAC.
fn neighbour(text: &str) -> Result<Neighbour, Fault> {
    let holds = "an address and a MAC, such as \"192.0.2.1 02:00:00:00:00:01\"";
    let wrong = |wrong: &str| Fault::new(wrong, holds, "write it so");
    let (address, mac) = text.split_once(' ').ok_or_else(|| wrong("not a neighbour with its MAC"))?;
    let address = address.parse().map_err(|_| wrong("not an address"))?;
    let mac: Mac = mac.trim_start().parse().map_err(|()| wrong("not a MAC"))?;
    if mac.is_group() || mac == Mac::default() {
        return Err(wrong("the MAC of no single host"));
    }
    Ok(Neighbour { address: host(address)?, mac })
}

/// A router's address.
fn router(text: &str) -> Result<IpAddr, Fault> {
    let address = text.parse().map_err(|_| {
        Fault::new(
            "not an address",
            "a router's address, such as \"192.0.2.1\", without a prefix length",
            "write it so",
        )
    })?;
    host(address)
}
