//! What a configuration asks of health checks, neighbours and the kernel-side interface.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use shunt_config;
use shunt_config::Config;
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::{Method, Standing, Way};
use shunt_dataplane::snapshot::Snapshot;
use shunt_dataplane::wire::ndp::link_local;
use shunt_model::health::ServiceWay;
use shunt_model::health::way::Ends;
use shunt_model::health::{Check, RealKey};
use shunt_model::vrrp::{Instance, Peer};
use shunt_protocol::health::Target;
use shunt_protocol::neighbour::machine::Key;
use shunt_protocol::neighbour::{Named, Nic, Vip};
use shunt_protocol::vrrp::message::TTL;

use crate::health::driver::Watched;
use crate::kernel::NicSide;
use crate::tracking::Watch;

/// The health checks.
#[must_use]
pub fn checks(config: &Config, snapshot: &Snapshot) -> Vec<Target> {
    let mut targets = Vec::new();
    let served: BTreeSet<IpNet> = config.nics.iter().flat_map(|nic| served(config, nic)).collect();
    for service in &config.services {
        let is_served = served.contains(&IpNet::from(service.listen.ip()));
        for real in service.reals.iter().filter(|real| real.is_watched()) {
            let check = |check: &shunt_config::Check| {
                let direct = target(check, real.address, service.pool.alpha);
                // What ipvsadm made a NAT real server, or the director itself, has no other way.
                let other = check.by_service && !is_served && real.method != Method::Nat;
                let by_service = other.then(|| by_service(check, service, real, config, snapshot)).flatten();
                let (way, to, from) = by_service.map_or((None, direct.to, direct.from), |(way, to, from)| {
                    (Some(Arc::new(way)), to, Some(from))
                });
                Arc::new(Check { way, to, from, ..direct })
            };
            targets.push(Target {
                key: service.real_key(real.address),
                checks: real.checks.iter().map(check).collect(),
                passive: real.passive.rules(),
                slow_start: service.pool.slow_start,
                group: service.pool.check_group.clone(),
            });
        }
    }
    targets
}

/// The counters of the real servers that failures take out.
#[must_use]
pub fn watched(config: &Config, snapshot: &Snapshot) -> Vec<Watched> {
    let mut keys = HashSet::new();
    for service in &config.services {
        let judged = service.reals.iter().filter(|real| real.passive.max_fails > 0);
        keys.extend(judged.map(|real| service.real_key(real.address)));
    }
    if keys.is_empty() {
        return Vec::new();
    }
    let known = RealKey::all(snapshot).filter(|(key, _)| keys.contains(key));
    known.map(|(key, real)| (key, real.counters.clone())).collect()
}

/// The way of a check to the VIP at a real server, whom it asks there and where it comes from; none without a route or an own address of
/// the VIP's family.
fn by_service(
    check: &shunt_config::Check,
    service: &shunt_config::Service,
    real: &shunt_config::Real,
    config: &Config,
    snapshot: &Snapshot,
) -> Option<(ServiceWay, SocketAddr, SocketAddr)> {
    let destination = real.address.ip();
    let vip = check.address.unwrap_or(service.listen.ip());
    let hop = snapshot.first_hop(destination)?;
    let tunnel = match real.method {
        Method::Tun => {
            Some(Ends { tunnel: real.tunnel, source: snapshot.source_to(destination)?, destination })
        }
        Method::Dr | Method::Nat => None,
    };
    // It is answered past the director: best by the NIC that the real server is behind.
    let near = config.nics.get(hop.0.index()).into_iter().chain(&config.nics);
    let mut own = near.flat_map(|nic| &nic.addresses).map(IpNet::addr);
    let from = check
        .from
        .or_else(|| own.find(|own| own.is_ipv4() == vip.is_ipv4()).map(|own| SocketAddr::new(own, 0)))?;
    let to = SocketAddr::new(vip, check.l4_port.unwrap_or(real.address.port()));
    Some((ServiceWay { hop, tunnel }, to, from))
}

fn target(check: &shunt_config::Check, real: SocketAddr, alpha: bool) -> Check {
    Check {
        kind: check.kind.clone(),
        to: SocketAddr::new(check.address.unwrap_or(real.ip()), check.l4_port.unwrap_or(real.port())),
        way: None,
        from: check.from,
        interval: check.interval,
        timeout: check.timeout,
        retry_interval: check.retry_interval,
        warmup: check.warmup,
        fall: check.fall,
        rise: check.rise,
        reentry: check.reentry,
        alpha: alpha || check.alpha,
    }
}

/// The VIPs that real servers are checked at, on the links that these are on.
#[must_use]
pub fn checked(targets: &[Target]) -> Vec<Key> {
    let mut checked = BTreeSet::new();
    for target in targets {
        let real = target.key.address.ip();
        for check in &target.checks {
            let hop = check.way.as_ref().map(|way| way.hop);
            checked.extend(hop.filter(|(_, hop)| *hop == real).map(|(nic, _)| (nic, check.to.ip())));
        }
    }
    checked.into_iter().collect()
}

/// The checks that virtual routers depend on, each once.
#[must_use]
pub fn watches(config: &Config) -> Vec<Watch> {
    let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
    let watches = config.vrrp.iter().flat_map(|vrrp| &vrrp.watches);
    watches.map(|watch| (watch.name.clone(), Arc::new(target(&watch.check, nobody, false)))).collect()
}

/// NICs as their neighbours see them.
#[must_use]
pub fn nics(config: &Config, macs: &[Mac]) -> Vec<Nic> {
    config.nics.iter().zip(macs).map(|(nic, &mac)| Nic { mac, addresses: nic.addresses.clone() }).collect()
}

/// VIPs of no virtual router: each belongs to the director at once.
#[must_use]
pub fn vips(config: &Config) -> Vec<Vip> {
    let of_routers: BTreeSet<IpAddr> = config.virtual_addresses().map(|(_, vip)| vip).collect();
    let plain = config.vips();
    plain.difference(&of_routers).map(|&address| Vip { nic: None, address }).collect()
}

/// The virtual routers.
#[must_use]
pub fn routers(config: &Config, snapshot: &Snapshot, macs: &[Mac]) -> Vec<Instance> {
    let peer = |vrrp: &shunt_config::Vrrp, address: IpAddr| {
        let hop = snapshot.first_hop(address).map_or(address, |(_, hop)| hop);
        // Nobody but a neighbour can send what arrives with all of its TTL. keepalived's IPv6 adverts to peers begin with 64.
        let least = if hop == address && address.is_ipv4() { TTL } else { 1 };
        Peer { address, hop, ttl_min: vrrp.ttl_min.unwrap_or(least) }
    };
    let router = |vrrp: &shunt_config::Vrrp| Instance {
        name: vrrp.name.clone(),
        nic: vrrp.nic,
        vrid: vrrp.vrid,
        version: vrrp.version,
        priority: vrrp.priority,
        interval: vrrp.interval,
        source: vrrp
            .source
            .unwrap_or_else(|| link_local(macs.get(vrrp.nic.index()).copied().unwrap_or_default()).into()),
        addresses: vrrp.addresses.clone(),
        excluded: vrrp.excluded.clone(),
        peers: vrrp.peers.iter().map(|&address| peer(vrrp, address)).collect(),
        virtual_mac: vrrp.virtual_mac,
        auth: vrrp.auth.clone(),
        preempt: vrrp.preempt,
        start_grace: vrrp.start_grace,
        warn_after: vrrp.warn_after,
        announcing: vrrp.announcing,
        tracks: vrrp.tracks.clone(),
        notify: vrrp.notify.clone(),
    };
    config.vrrp.iter().map(router).collect()
}

/// Neighbours that must always be known, and what for: real servers, those on the way to them, gateways, peers.
#[must_use]
pub fn wanted(config: &Config, snapshot: &Snapshot) -> Vec<(Key, Named)> {
    let mut wanted: BTreeMap<Key, Named> = BTreeMap::new();
    let mut want = |to: IpAddr, near: Option<NicId>, named: Named| {
        let hop = snapshot.first_hop(to).or(near.map(|nic| (nic, to)));
        if let Some((nic, hop)) = hop {
            let named = if hop == to { named } else { Named::Router };
            let first = wanted.entry((nic, hop)).or_insert(named);
            *first = named.min(*first);
        }
    };
    let reals = snapshot.reals.iter().flatten();
    for real in reals.filter(|real| real.standing != Standing::Removed && real.way != Way::Local) {
        want(real.address, None, Named::Real);
    }
    let nics = (0..=u8::MAX).map(NicId).zip(&config.nics);
    let gateways = nics.flat_map(|(id, nic)| nic.gateways.iter().map(move |&gateway| (id, gateway)));
    let routers = config.routes.iter().filter_map(|route| Some((route.nic, route.via?)));
    for (nic, router) in gateways.chain(routers) {
        want(router, Some(nic), Named::Router);
    }
    for vrrp in &config.vrrp {
        vrrp.peers.iter().for_each(|peer| want(*peer, Some(vrrp.nic), Named::Director));
    }
    wanted.into_iter().collect()
}

/// The neighbours of [`wanted`], as they are named when they do not answer.
#[must_use]
pub fn named(config: &Config, snapshot: &Snapshot) -> HashSet<String> {
    let nic = |nic: NicId| config.nics.get(nic.index()).map_or("?", |nic| nic.name.as_str());
    let wanted = wanted(config, snapshot).into_iter();
    wanted.map(|((of, address), _)| super::packets::silent(nic(of), address)).collect()
}

/// Neighbours whose MAC the file names.
#[must_use]
pub fn told(config: &Config) -> Vec<(Key, Mac)> {
    let nics = (0..=u8::MAX).map(NicId).zip(&config.nics);
    nics.flat_map(|(id, nic)| nic.neighbours.iter().map(move |one| ((id, one.address), one.mac))).collect()
}

/// The VIPs of services that an address of this NIC, and so the director itself, is a real server of: its kernel side
/// answers for them.
fn served(config: &Config, nic: &shunt_config::Nic) -> BTreeSet<IpNet> {
    let own = |address: IpAddr| nic.addresses.iter().any(|own| own.addr() == address);
    let services = config.services.iter();
    let served = services.filter(|service| service.servers().any(|real| own(real.address.ip())));
    let listens = served.map(|service| service.listen).filter(|listen| Mark::of(*listen).is_none());
    listens.map(|listen| IpNet::from(listen.ip())).collect()
}

/// NICs as the kernel-side interface needs them.
#[must_use]
pub fn sides(config: &Config, macs: &[Mac], mtus: &[u16]) -> Vec<NicSide> {
    let side = |(number, ((nic, &mac), &mtu)): (usize, ((&shunt_config::Nic, &Mac), &u16))| NicSide {
        name: nic.name.clone(),
        mac,
        mtu,
        addresses: nic.addresses.iter().copied().chain(served(config, nic)).collect(),
        gateways: nic.gateways.clone(),
        routes: (config.routes.iter())
            .filter(|route| route.nic == NicId(number as u8))
            .map(|route| (route.to, route.via))
            .collect(),
    };
    config.nics.iter().zip(macs).zip(mtus).enumerate().map(side).collect()
}
