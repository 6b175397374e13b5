//! NICs and routes: names and devices used twice, networks that overlap, routers that cannot be reached.

use std::net::IpAddr;

use shunt_dataplane::id::NicId;
use shunt_model::fault::{At, Fault};
use shunt_model::limit;

use super::networks::{Networks, everything, is_link_local, nic_of, numbered, scoped};
use super::{Machine, Seen, machine, unique_names};
use crate::device::MTU_OF_A_PAGE;
use crate::document::{Document, NicDocument, RouteDocument, nearest};
use crate::problem::Findings;
use crate::{Nic, Route};

/// Checks `[[nic]]`; none when one of them lacks something.
pub fn check(
    document: &Document,
    networks: &Networks,
    machine: &Machine,
    findings: &mut Findings<'_>,
) -> Option<Vec<Nic>> {
    unique_names("NICs", document.nics.iter().map(|nic| (nic.place.as_str(), &nic.name)), findings);
    check_devices(document, findings);
    machine::check(document, machine, findings);
    check_addresses(document, networks, findings);
    check_gateways(document, networks, findings);
    check_neighbours(document, networks, findings);
    document.nics.iter().map(build).collect()
}

fn build(nic: &NicDocument) -> Option<Nic> {
    Some(Nic {
        name: nic.name.as_ref()?.value.clone(),
        device: nic.device.as_ref()?.value.clone(),
        addresses: nic.addresses.iter().map(|net| net.value).collect(),
        gateways: nic.gateways.iter().map(|gateway| gateway.value).collect(),
        neighbours: nic.neighbours.iter().map(|neighbour| neighbour.value).collect(),
        mtu: nic.mtu.as_ref().map(|mtu| mtu.value),
        reverse_path: nic.reverse_path.as_ref().map(|how| how.value).unwrap_or_default(),
    })
}

fn check_devices(document: &Document, findings: &mut Findings<'_>) {
    let queues = document.runtime.workers.as_ref().map_or(1, |workers| workers.value.len());
    let mut seen = Seen::new();
    for nic in &document.nics {
        let Some(device) = &nic.device else { continue };
        let resource = device.value.resource();
        if let Some(line) = resource.and_then(|resource| seen.again(resource, &device.at, findings)) {
            let holds = format!("the first is at line {line}");
            let fault = Fault::new("two NICs on one device", holds, "remove one, or name another device");
            findings.error(&nic.place, &device.at, fault);
        }
        if let Some(most) = device.value.queues_max().filter(|most| queues > *most) {
            let wrong = format!("{queues} queues wanted, one for each worker");
            let holds = format!("this kind of device has {most}");
            findings.error(
                &nic.place,
                &device.at,
                Fault::new(wrong, holds, "name fewer workers, or another device"),
            );
        }
    }
}

fn check_addresses(document: &Document, networks: &Networks, findings: &mut Findings<'_>) {
    let mut seen = Seen::new();
    for (number, nic) in numbered(&document.nics) {
        if nic.addresses.is_empty() && networks.known {
            no_address(nic, findings);
        }
        if nic.addresses.len() > limit::ADDRESSES_MAX {
            let wrong = format!("{} addresses are too many", nic.addresses.len());
            let holds = format!("a NIC has at most {}", limit::ADDRESSES_MAX);
            findings.missing(&nic.place, &nic.at, Fault::new(wrong, holds, "remove some"));
            continue;
        }
        for net in &nic.addresses {
            if let Some(line) = seen.again(scoped(Some(number), net.value.addr()), &net.at, findings) {
                let holds = format!("the first is at line {line}");
                findings.error(
                    &nic.place,
                    &net.at,
                    Fault::new("an own address is there twice", holds, "remove one"),
                );
                continue;
            }
            let overlaps = |(other, of): &&(ipnet::IpNet, NicId)| {
                *of < number
                    && !is_link_local(net.value.addr())
                    && (other.contains(&net.value.network()) || net.value.contains(&other.network()))
            };
            if let Some((other, of)) = networks.own.iter().find(overlaps) {
                let name = document.nics.get(of.index()).map_or("", |nic| &nic.place);
                let holds = format!("{name} has {} already, and a network is behind one NIC", other.trunc());
                findings.error(
                    &nic.place,
                    &net.at,
                    Fault::new("overlapping networks", holds, "change one of the two"),
                );
            }
        }
        check_mtu(nic, document, findings);
        let ipv6 = nic.addresses.iter().any(|net| net.value.addr().is_ipv6());
        if let Some(mtu) = nic.mtu.as_ref().filter(|mtu| ipv6 && mtu.value < limit::MTU_MIN_IPV6) {
            let holds = format!("IPv6 needs at least {} (RFC 8200, 5)", limit::MTU_MIN_IPV6);
            let fault =
                Fault::new("too small an mtu for IPv6", holds, "raise mtu, or remove the IPv6 addresses");
            findings.error(&nic.place, &mtu.at, fault);
        }
    }
}

/// Refuses an mtu that the NIC's driver does not take, or that makes all buffers larger than the driver of another NIC takes.
fn check_mtu(nic: &NicDocument, document: &Document, findings: &mut Findings<'_>) {
    let (Some(mtu), Some(device)) = (&nic.mtu, &nic.device) else { return };
    let too_large = format!("mtu is {}", mtu.value);
    if let Some((most, why)) = device.value.mtu_most().filter(|(most, _)| mtu.value > *most) {
        let holds = format!("{} takes packets of at most {most} bytes: {why}", device.value);
        let advice = format!("set mtu = {most}, or choose another device (af_packet: takes any mtu)");
        findings.error(&nic.place, &mtu.at, Fault::new(too_large, holds, advice));
        return;
    }
    let of_pages = |other: &&NicDocument| {
        let most = other.device.as_ref().and_then(|device| device.value.mtu_most());
        most.is_some_and(|(most, _)| most == MTU_OF_A_PAGE)
    };
    if let Some(other) = document.nics.iter().find(of_pages).filter(|_| mtu.value > MTU_OF_A_PAGE) {
        let holds = format!(
            "all NICs share their buffers, and {} takes none for packets of more than {MTU_OF_A_PAGE} bytes",
            other.place
        );
        let advice = format!("set mtu = {MTU_OF_A_PAGE}, or choose another device for {}", other.place);
        findings.error(&nic.place, &mtu.at, Fault::new(too_large, holds, advice));
    }
}

fn no_address(nic: &NicDocument, findings: &mut Findings<'_>) {
    let fault = Fault::new(
        "no own address",
        "the director asks for MACs and checks real servers from its own addresses",
        "add addresses = [\"192.0.2.2/24\"]",
    );
    findings.warn_missing(&nic.place, &nic.at, fault);
}

fn check_gateways(document: &Document, networks: &Networks, findings: &mut Findings<'_>) {
    let mut seen = Seen::new();
    for (number, nic) in numbered(&document.nics) {
        for gateway in &nic.gateways {
            let address = gateway.value;
            if let Some(line) = seen.again(address.is_ipv4(), &gateway.at, findings) {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                let wrong = format!("a second gateway for {family}");
                let holds = format!("the director has one default route for it, at line {line}");
                let advice = "remove one, or reach its networks by [[route]]";
                findings.error(&nic.place, &gateway.at, Fault::new(wrong, holds, advice));
            }
            if networks.owner_seen_from(Some(number), address).is_some() {
                let holds = "a gateway is another host";
                let fault = Fault::new("an own address as gateway", holds, "name the router");
                findings.error(&nic.place, &gateway.at, fault);
            } else if networks.known
                && !is_link_local(address)
                && networks.nic_to_router(address) != Some(number)
            {
                let own = nic.addresses.iter().map(|net| net.value.trunc().to_string()).collect::<Vec<_>>();
                let holds = match own.is_empty() {
                    true => "the NIC has no address".to_owned(),
                    false => format!("the NIC's networks are {}", own.join(", ")),
                };
                let fault = Fault::new(
                    "gateway in no network of its NIC",
                    holds,
                    "name a router of one of these, or add an address",
                );
                findings.error(&nic.place, &gateway.at, fault);
            }
        }
    }
}

fn check_neighbours(document: &Document, networks: &Networks, findings: &mut Findings<'_>) {
    let mut seen = Seen::new();
    for (number, nic) in numbered(&document.nics) {
        if nic.neighbours.len() > limit::NEIGHBOURS_NAMED_MAX {
            let wrong = format!("{} neighbours are too many", nic.neighbours.len());
            let holds = format!("at most {} of a NIC are named", limit::NEIGHBOURS_NAMED_MAX);
            findings.missing(&nic.place, &nic.at, Fault::new(wrong, holds, "remove some: others are asked"));
            continue;
        }
        for neighbour in &nic.neighbours {
            let address = neighbour.value.address;
            if let Some(line) = seen.again((number, address), &neighbour.at, findings) {
                let holds = format!("the first is at line {line}");
                let fault = Fault::new("a neighbour is there twice", holds, "remove one");
                findings.error(&nic.place, &neighbour.at, fault);
            } else if networks.owner_seen_from(Some(number), address).is_some() {
                let fault =
                    Fault::new("an own address as neighbour", "a neighbour is another host", "remove it");
                findings.error(&nic.place, &neighbour.at, fault);
            } else if networks.known
                && !is_link_local(address)
                && networks.nic_to_router(address) != Some(number)
            {
                let holds = "a neighbour is in a network of its NIC's own addresses";
                let fault = Fault::new(
                    "neighbour in no network of its NIC",
                    holds,
                    "move it to its NIC, or remove it",
                );
                findings.error(&nic.place, &neighbour.at, fault);
            }
        }
    }
}

/// Checks `[[route]]`; none when one of them lacks something.
pub fn check_routes(
    document: &Document,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Vec<Route>> {
    let mut seen = Seen::new();
    for nic in &document.nics {
        for gateway in &nic.gateways {
            seen.again(everything(gateway.value), &gateway.at, findings);
        }
    }
    let mut routes = Some(Vec::new());
    for route in &document.routes {
        if let Some(to) = &route.to {
            if let Some(line) = seen.again(to.value, &to.at, findings) {
                let holds = format!("the first is at line {line}");
                findings.error(
                    &route.place,
                    &to.at,
                    Fault::new("two routes to one network", holds, "remove one"),
                );
            }
            if let Some((_, nic)) = networks.own.iter().find(|(net, _)| net.trunc() == to.value) {
                let name = document.nics.get(nic.index()).map_or("", |nic| &nic.place);
                let holds = format!("{name} has an address in this network");
                findings.error(
                    &route.place,
                    &to.at,
                    Fault::new("a route to a NIC's own network", holds, "remove it"),
                );
            }
        }
        let built = build_route(route, document, networks, findings);
        routes = routes.and_then(|mut routes: Vec<Route>| {
            routes.push(built?);
            Some(routes)
        });
    }
    routes
}

/// The NIC of a name; what `place` says of one that is not there is an error.
pub(super) fn find_nic(
    place: &str,
    name: &At<String>,
    document: &Document,
    findings: &mut Findings<'_>,
) -> Option<NicId> {
    let found = nic_of(document, &name.value);
    if found.is_none() {
        let names = document.nics.iter().filter_map(|nic| nic.name.as_ref());
        let names: Vec<&str> = names.map(|name| name.value.as_str()).collect();
        let advice = nearest(&name.value, &names)
            .map_or_else(|| "name one of these".to_owned(), |near| format!("did you mean \"{near}\"?"));
        let holds = format!("the NICs are {}", names.join(", "));
        findings.error(place, &name.at, Fault::new("no such NIC", holds, advice));
    }
    found
}

fn build_route(
    route: &RouteDocument,
    document: &Document,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Route> {
    let mut named = None;
    if let Some(name) = &route.nic {
        named = Some(find_nic(&route.place, name, document, findings)?);
    }
    let to = route.to.as_ref()?.value;
    let Some(via) = &route.via else {
        return Some(Route { to, via: None, nic: named? });
    };
    if to.addr().is_ipv4() != via.value.is_ipv4() {
        let holds = format!("the network {to} is of the other address family");
        findings.error(
            &route.place,
            &via.at,
            Fault::new("a router of another family", holds, "name another router"),
        );
        return None;
    }
    let nic = router_nic(via.value, named, networks)
        .map_err(|fault| findings.error(&route.place, &via.at, fault))
        .ok()?;
    Some(Route { to, via: Some(via.value), nic })
}

/// The NIC that leads to a router.
fn router_nic(via: IpAddr, named: Option<NicId>, networks: &Networks) -> Result<NicId, Fault> {
    if networks.owner_seen_from(named, via).is_some() {
        return Err(Fault::new("an own address as router", "a router is another host", "name the router"));
    }
    if is_link_local(via) {
        let holds = "a link-local address belongs to one NIC";
        return named.ok_or_else(|| Fault::new("no NIC for this router", holds, "add nic = \"…\""));
    }
    match networks.nic_to_router(via) {
        None if !networks.known => Ok(named.unwrap_or_default()),
        None => {
            let holds = "a router is a neighbour, in the network of a NIC's own address";
            Err(Fault::new(
                "router in no network of a NIC",
                holds,
                "name a neighbour, or add an address to the NIC",
            ))
        }
        Some(nic) if named.is_some_and(|named| named != nic) => {
            let holds = "its network is behind another NIC";
            Err(Fault::new("router behind another NIC", holds, "remove nic, or name another router"))
        }
        Some(nic) => Ok(nic),
    }
}
