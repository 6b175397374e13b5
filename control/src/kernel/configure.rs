//! Addresses, routes and settings of the kernel side, through rtnetlink and `/proc/sys`. Runs inside the namespace.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::{fs, io};

use ipnet::{IpNet, Ipv6Net};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};
use rtnetlink::packet_route::rule::RuleAction;
use rtnetlink::{Error, Handle, LinkUnspec, RouteMessageBuilder};
use shunt_dataplane::wire::ndp::link_local;
use tracing::warn;

use super::service_way::{MARK, MTU, NEXT_HOP};
use super::{KernelError, NicSide, TapSetting, next_hop};

/// The loopback interface of any namespace.
const LOOPBACK: u32 = 1;
/// Routes of lower metric win; those of NICs further up in the configuration are lower.
const METRIC: u32 = 100;

/// The network of link-local addresses (RFC 4291, 2.5.6).
const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64));

/// The rule for checks that go their service's way comes before the main table's (32766), after the local one's (0).
const RULE_PRIORITY: u32 = 100;
/// The next hop of theirs: an address that no host has (RFC 7600: the IPv4 dummy address).
const SERVICE_HOP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Settings of the namespace and of every TAP made in it. The kernel only ever sees what the control loop hands it, and that is nothing
/// about neighbours or routers; what others say in ICMP must not lead elsewhere either.
const SETTINGS: [(&str, &str); 33] = [
    // Only the neighbour machine answers.
    ("net/ipv4/conf/all/arp_ignore", "8"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/all/arp_accept", "0"),
    ("net/ipv4/conf/default/arp_accept", "0"),
    // Nobody tells another way, and nobody is told one.
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/secure_redirects", "0"),
    ("net/ipv4/conf/default/secure_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/default/accept_source_route", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_source_route", "-1"),
    ("net/ipv6/conf/default/accept_source_route", "-1"),
    // Answers may come in by another NIC than questions went out by.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/ip_forward", "0"),
    // Checks come from any port that the operator names, and their threads have no right to special ones.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // Masqueraded hosts leave by the other ports (`masquerade::KERNEL_PORTS`).
    ("net/ipv4/ip_local_port_range", "1024 32767"),
    // Checks to one VIP come from different ports, which must not run out while old ones wait (RFC 9293, 3.6.1: TIME-WAIT).
    ("net/ipv4/tcp_max_tw_buckets", "16384"),
    // Taking an address away leaves the others of its network in place.
    ("net/ipv4/conf/all/promote_secondaries", "1"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    // All addresses come from the configuration, and the director defends them itself.
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    // Link-local addresses come from here, without the route to neighbours that the kernel would add.
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("net/ipv6/conf/all/ndisc_notify", "0"),
];

/// Sets what every TAP made later inherits. A setting that the kernel does not take is told, not fatal.
pub(super) fn namespace_defaults() {
    for (name, value) in SETTINGS {
        if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
            warn!("kernel-side interface: {name} stays as it is ({error}); wanted {value}");
        }
    }
}

/// Brings everything up and makes each TAP what its side says.
pub(super) fn apply(taps: &[TapSetting], sides: &[NicSide]) -> Result<(), KernelError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(KernelError::Thread)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Thread)?;
        tokio::spawn(connection);
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        told("lo", || "up".to_owned(), handle.link().set(up).execute()).await?;
        for (place, (tap, side)) in taps.iter().zip(sides).enumerate() {
            apply_one(&handle, METRIC + place as u32, tap, side).await?;
        }
        let Some(first) = taps.first() else { return Ok(()) };
        for is_v4 in [true, false] {
            let has = |addresses: &[IpNet]| addresses.iter().any(|own| own.addr().is_ipv4() == is_v4);
            if sides.iter().any(|side| has(&side.addresses)) {
                service_ways(&handle, first, is_v4).await?;
            }
        }
        Ok(())
    })
}

async fn apply_one(
    handle: &Handle,
    metric: u32,
    tap: &TapSetting,
    side: &NicSide,
) -> Result<(), KernelError> {
    let name = &tap.interface;
    let link = LinkUnspec::new_with_index(tap.index).mtu(u32::from(side.mtu)).up().build();
    told(name, || format!("MTU {} and up", side.mtu), handle.link().set(link).execute()).await?;
    if side.mac != tap.side.mac {
        let link = LinkUnspec::new_with_index(tap.index).address(side.mac.0.to_vec()).build();
        told(name, || format!("MAC {}", side.mac), handle.link().set(link).execute()).await?;
    }
    let applied = tap.is_applied.then_some(&tap.side);
    let (before, now) = (applied.map(own_addresses).unwrap_or_default(), own_addresses(side));
    for hop in now.iter().map(|own| next_hop::of_family(*own)).collect::<BTreeSet<_>>() {
        let add = handle.neighbours().add(tap.index, hop).link_layer_address(&next_hop::MAC.0).replace();
        told(name, || format!("neighbour {hop}"), add.execute()).await?;
    }
    for address in now.difference(&before) {
        let mut add = handle.address().add(tap.index, *address, host_length(*address)).replace();
        // Neighbours are reached by routes of their own.
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
        add.message_mut().attributes.push(AddressAttribute::Flags(flags));
        told(name, || format!("address {address}"), add.execute()).await?;
    }
    let old = applied.map_or_else(|| Ok(Vec::new()), |side| routes(tap, side, metric))?;
    let new = routes(tap, side, metric)?;
    for (what, route) in old.iter().filter(|old| !new.contains(old)) {
        // It may be gone already, with the address that it depended on.
        if let Err(error) = handle.route().del(route.clone()).execute().await {
            warn!("kernel-side interface: {name}: {what} was not there to be taken away: {error}");
        }
    }
    for address in before.difference(&now) {
        let mut message = handle.address().add(tap.index, *address, host_length(*address));
        let message = message.message_mut().clone();
        told(name, || format!("taking away {address}"), handle.address().del(message).execute()).await?;
    }
    for (what, route) in new {
        told(name, || what, handle.route().add(route).replace().execute()).await?;
    }
    Ok(())
}

/// Routes what checks send by their service's way to a next hop of its own; see [`super::service_way`]. Any TAP will do. Asking for what is
/// there already changes nothing.
async fn service_ways(handle: &Handle, tap: &TapSetting, is_v4: bool) -> Result<(), KernelError> {
    let name = &tap.interface;
    let hop: IpAddr = if is_v4 { SERVICE_HOP_V4.into() } else { link_local(NEXT_HOP).into() };
    let neighbour = handle.neighbours().add(tap.index, hop).link_layer_address(&NEXT_HOP.0).replace();
    told(name, || format!("neighbour {hop} for checks"), neighbour.execute()).await?;
    let any = if is_v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let refused = |error: String| KernelError::Configure {
        interface: name.clone(),
        what: format!("route by {hop} for checks"),
        source: io::Error::other(error),
    };
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(any, 0)
        .map_err(|error| refused(error.to_string()))?
        .gateway(hop)
        .map_err(|error| refused(error.to_string()))?
        .output_interface(tap.index)
        .table_id(MARK)
        .onlink();
    let mut route = route.build();
    route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(MTU)]));
    told(name, || format!("route by {hop} for checks"), handle.route().add(route).replace().execute())
        .await?;
    let rule =
        handle.rule().add().table_id(MARK).fw_mark(MARK).priority(RULE_PRIORITY).action(RuleAction::ToTable);
    let added = if is_v4 { rule.v4().execute().await } else { rule.v6().execute().await };
    let there = |error: &Error| matches!(error, Error::NetlinkError(message) if message.to_io().kind() == io::ErrorKind::AlreadyExists);
    match added {
        Err(error) if there(&error) => Ok(()),
        added => told(name, || "rule for checks".to_owned(), std::future::ready(added)).await,
    }
}

/// The addresses of a TAP: those of its NIC, and the link-local one that the neighbour machine answers for.
fn own_addresses(side: &NicSide) -> BTreeSet<IpAddr> {
    let mut own: BTreeSet<IpAddr> = side.addresses.iter().map(IpNet::addr).collect();
    if has_ipv6() {
        own.insert(link_local(side.mac).into());
    }
    own
}

const fn host_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether this kernel has IPv6, and was not told to do without.
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// The routes of a NIC, each with the words that name it. All lead to the [next hop](next_hop) that stands for all neighbours.
fn routes(tap: &TapSetting, side: &NicSide, metric: u32) -> Result<Vec<(String, RouteMessage)>, KernelError> {
    let gateways = side.gateways.iter().map(|via| (zero_length(*via), Some(*via)));
    let links = side.addresses.iter().filter(|own| own.prefix_len() < own.max_prefix_len());
    let links = links.filter(|own| !is_link_local(own.addr())).map(|own| (*own, None));
    let of_link = has_ipv6().then_some((LINK_LOCAL, None));
    let wanted = of_link.into_iter().chain(links).chain(gateways).chain(side.routes.iter().copied());
    wanted
        .map(|(to, via)| {
            let what = via.map_or(format!("route to {to}"), |via| format!("route to {to} by {via}"));
            let refused = |reason: String| KernelError::Configure {
                interface: tap.interface.clone(),
                what: what.clone(),
                source: io::Error::other(reason),
            };
            let net = to.trunc();
            let mut route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(net.addr(), net.prefix_len())
                .map_err(|error| refused(error.to_string()))?
                .gateway(next_hop::of_family(net.addr()))
                .map_err(|error| refused(error.to_string()))?
                .output_interface(tap.index)
                .priority(metric)
                .onlink();
            if let Some(source) = source(side, to, via) {
                route = route.pref_source(source).map_err(|error| refused(error.to_string()))?;
            }
            Ok((what, route.build()))
        })
        .collect()
}

/// The address that the kernel sends from by a route: the one in the network that it leads to, or its router's, or else the first one. On the link
/// alone the kernel chooses.
fn source(side: &NicSide, to: IpNet, via: Option<IpAddr>) -> Option<IpAddr> {
    if is_link_local(to.addr()) {
        return None;
    }
    let own = || {
        let own = side.addresses.iter().filter(|own| own.addr().is_ipv4() == to.addr().is_ipv4());
        own.filter(|own| !is_link_local(own.addr()))
    };
    let near = via.unwrap_or(to.addr());
    let chosen = own().find(|own| own.contains(&near)).or_else(|| own().next());
    chosen.map(IpNet::addr)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The network of all addresses of a family.
fn zero_length(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

async fn told(
    interface: &str,
    what: impl FnOnce() -> String,
    request: impl Future<Output = Result<(), Error>>,
) -> Result<(), KernelError> {
    request.await.map_err(|error| KernelError::Configure {
        interface: interface.to_owned(),
        what: what(),
        source: match error {
            Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::SETTINGS;
    use shunt_dataplane::service::masquerade::KERNEL_PORTS;

    #[test]
    fn own_sockets_leave_masqueraded_hosts_their_ports() {
        let range = format!("{} {}", KERNEL_PORTS.start(), KERNEL_PORTS.end());
        assert!(SETTINGS.contains(&("net/ipv4/ip_local_port_range", range.as_str())));
    }
}
