//! From a configuration and what is known of the world now to the plan that the workers' snapshot is compiled from.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use shunt_config::check::everything;
use shunt_config::{Config, MTU_DEFAULT, Real, Service, Vrrp, is_of_one_link};
use shunt_dataplane::address::Address as _;
use shunt_dataplane::connections::Share;
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::snapshot::{
    LinkVip, NeighbourPlan, NicPlan, Others, Plan, RealPlan, RoutePlan, ServicePlan,
};
use shunt_model::health::{RealKey, ServiceKey, Standing, Verdict};
use shunt_model::vrrp::PRIORITY_OWNER;

/// What holds for a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicState {
    /// Its link is up.
    pub up: bool,
    /// Bytes of the largest IP packet that it sends.
    pub mtu: u16,
    /// Its MAC.
    pub mac: Mac,
    /// How often it was closed or opened since the start.
    pub edition: u32,
}

/// What the control core knows beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The MAC of each NIC, by [`NicId`]; a missing one is all zero.
    pub macs: Vec<Mac>,
    /// What else holds for each NIC, by [`NicId`].
    pub nics: Vec<NicState>,
    /// What checks say of real servers, where it is not what holds without them.
    pub standings: HashMap<RealKey, Standing>,
    /// Services that have lost their quorum.
    pub lost: HashSet<ServiceKey>,
    /// VIPs of virtual routers of which this director is master, with their NICs.
    pub owned: HashSet<(NicId, IpAddr)>,
    /// Those of them that were taken over lately.
    pub adopting: HashSet<(NicId, IpAddr)>,
    /// Those of them that were taken over a moment ago.
    pub silent: HashSet<(NicId, IpAddr)>,
    /// What holds for all else since the start.
    pub others: Others,
    /// Neighbours that answered.
    pub neighbours: Arc<BTreeMap<(NicId, IpAddr), Mac>>,
}

impl State {
    /// What checks say of a real server.
    #[must_use]
    pub fn verdict(&self, real: &RealKey) -> Verdict {
        self.standings.get(real).map_or_else(Verdict::default, |standing| standing.verdict)
    }
}

/// The plan of a configuration: routes of gateways and all VIPs included.
#[must_use]
pub fn compile(config: &Config, state: &State) -> Plan {
    let elsewhere = config.virtual_addresses().filter(|vip| !state.owned.contains(vip));
    let elsewhere: BTreeSet<IpAddr> = elsewhere.map(|(_, vip)| vip).collect();
    // VIPs of no virtual router are the director's from its start on.
    let ever: BTreeSet<IpAddr> = config.virtual_addresses().map(|(_, vip)| vip).collect();
    let lately = |taken: &HashSet<(NicId, IpAddr)>, since_start: bool| -> Vec<IpAddr> {
        let taken = taken.iter().map(|(_, vip)| *vip);
        let since_start = since_start.then(|| config.vips()).into_iter().flatten();
        let vips: BTreeSet<IpAddr> = taken.chain(since_start.filter(|vip| !ever.contains(vip))).collect();
        vips.into_iter().collect()
    };
    Plan {
        nics: nics(config, state),
        routes: routes(config),
        vips: config.vips().difference(&elsewhere).copied().collect(),
        elsewhere: elsewhere.iter().copied().collect(),
        link_vips: link_vips(config, state),
        adopting: lately(&state.adopting, state.others.adopting),
        silent: lately(&state.silent, state.others.silent),
        others: state.others,
        not_accepting: not_accepting(config),
        checked: config.checked_vips().into_iter().collect(),
        neighbours: neighbours(config, state),
        services: services(config, state),
        marks: config.marks.clone(),
        masquerades: config.masquerades.clone(),
        forwards: config.forwards.clone(),
        timeouts: config.timeouts.clone(),
        sysctls: config.sysctls,
        replies_per_second: config.runtime.replies,
        client_share: config.runtime.client_share,
    }
}

/// All services. One that is alone in its family has no other to leave room for.
fn services(config: &Config, state: &State) -> Vec<ServicePlan> {
    let mut plans: Vec<ServicePlan> =
        config.services.iter().map(|service| with_sorry_server(service, state)).collect();
    for is_v4 in [true, false] {
        let mut of_family = plans.iter_mut().filter(|plan| plan.listen.is_ipv4() == is_v4);
        if let (Some(alone), None) = (of_family.next(), of_family.next()) {
            alone.settings.share = Share::WHOLE;
        }
    }
    plans
}

fn nics(config: &Config, state: &State) -> Vec<NicPlan> {
    let macs = state.macs.iter().copied().chain(std::iter::repeat(Mac::default()));
    let ids = (0..=u8::MAX).map(NicId);
    let plan = |((nic, mac), id): ((&shunt_config::Nic, Mac), NicId)| NicPlan {
        name: nic.name.clone(),
        mac: state.nics.get(id.index()).map_or(mac, |nic| nic.mac),
        mtu: state.nics.get(id.index()).map_or(nic.mtu.unwrap_or(MTU_DEFAULT), |nic| nic.mtu),
        up: state.nics.get(id.index()).is_none_or(|nic| nic.up),
        edition: state.nics.get(id.index()).map_or(0, |nic| nic.edition),
        virtual_macs: virtual_macs(config, state, id),
        addresses: nic.addresses.clone(),
        reverse_path: nic.reverse_path,
    };
    config.nics.iter().zip(macs).zip(ids).map(plan).collect()
}

/// VIPs that take what is for services alone; an owner takes all (RFC 9568, 6.1).
fn not_accepting(config: &Config) -> Vec<IpAddr> {
    let closed = config.vrrp.iter().filter(|vrrp| !accepts(vrrp));
    closed.flat_map(Vrrp::vips).map(|(_, vip)| vip).filter(|vip| !is_of_one_link(*vip)).collect()
}

fn accepts(vrrp: &Vrrp) -> bool {
    vrrp.accept || vrrp.priority == PRIORITY_OWNER
}

/// VIPs of one link.
fn link_vips(config: &Config, state: &State) -> Vec<LinkVip> {
    let vip = |vrrp: &Vrrp, (nic, vip): (NicId, IpAddr)| {
        let IpAddr::V6(address) = vip else { return None };
        let is_here = state.owned.contains(&(nic, vip));
        address.is_of_one_link().then_some(LinkVip { nic, address, is_here, accepts: accepts(vrrp) })
    };
    config.vrrp.iter().flat_map(|vrrp| vrrp.vips().filter_map(move |one| vip(vrrp, one))).collect()
}

/// The MACs of virtual routers on a NIC of which this director is master.
fn virtual_macs(config: &Config, state: &State, nic: NicId) -> Vec<Mac> {
    let is_master = |vrrp: &&Vrrp| vrrp.addresses.iter().any(|vip| state.owned.contains(&(vrrp.nic, *vip)));
    let here = config.vrrp.iter().filter(|vrrp| vrrp.nic == nic).filter(is_master);
    here.filter_map(|vrrp| vrrp.virtual_mac.map(|virtual_mac| virtual_mac.mac)).collect()
}

/// Neighbours that the file names, and those that answered.
fn neighbours(config: &Config, state: &State) -> Vec<NeighbourPlan> {
    let named = (0..=u8::MAX).map(NicId).zip(&config.nics).flat_map(|(nic, table)| {
        table.neighbours.iter().map(move |one| NeighbourPlan { nic, address: one.address, mac: one.mac })
    });
    let named: Vec<NeighbourPlan> = named.collect();
    let is_named: HashSet<(NicId, IpAddr)> = named.iter().map(|one| (one.nic, one.address)).collect();
    let answered = state.neighbours.iter().filter(|(key, _)| !is_named.contains(*key));
    let answered = answered.map(|(&(nic, address), &mac)| NeighbourPlan { nic, address, mac });
    named.into_iter().chain(answered).collect()
}

/// The routes of the file, then the default routes of the gateways.
fn routes(config: &Config) -> Vec<RoutePlan> {
    let written =
        config.routes.iter().map(|route| RoutePlan { to: route.to, via: route.via, nic: route.nic });
    let gateways = (0..=u8::MAX).map(NicId).zip(&config.nics).flat_map(|(nic, table)| {
        table.gateways.iter().map(move |&via| RoutePlan { to: everything(via), via: Some(via), nic })
    });
    written.chain(gateways).collect()
}

/// The plan of one service, without its sorry server.
#[must_use]
pub fn service_plan(service: &Service, state: &State) -> ServicePlan {
    let placed = service.reals.iter().zip(state.schedule(service));
    ServicePlan {
        name: service.name.clone(),
        listen: service.listen,
        protocol: service.protocol,
        scheduler: service.scheduler,
        settings: service.settings.clone(),
        reals: placed.map(|(real, place)| real_plan(real, place.weight, place.up)).collect(),
    }
}

/// The plan of one service. Its sorry server keeps its connections when the real servers serve again: it only leaves the
/// schedule.
#[must_use]
pub fn with_sorry_server(service: &Service, state: &State) -> ServicePlan {
    let mut plan = service_plan(service, state);
    let Some(sorry) = service.pool.sorry_server.as_deref() else { return plan };
    let serves = state.is_sorry(service);
    // It may be one of the real servers, too.
    match service.reals.iter().position(|real| real.address == sorry.address) {
        Some(at) => {
            if let Some(real) = plan.reals.get_mut(at).filter(|_| serves) {
                *real = real_plan(sorry, sorry.weight, true);
            }
        }
        None => {
            let weight = if serves || !sorry.inhibit_on_failure { sorry.weight } else { 0 };
            plan.reals.push(real_plan(sorry, weight, serves || sorry.inhibit_on_failure));
        }
    }
    plan
}

fn real_plan(real: &Real, weight: u32, up: bool) -> RealPlan {
    RealPlan {
        address: real.address,
        method: real.method,
        tunnel: real.tunnel,
        weight,
        thresholds: real.thresholds,
        up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_the_file_names_are_not_those_that_answered() {
        let text = r#"
            [[nic]]
            name = "front"
            device = "null:"
            addresses = ["192.0.2.2/24"]
            neighbours = ["192.0.2.21 02:00:00:00:00:21"]
            [[service]]
            name = "web"
            listen = "192.0.2.10:80"
            protocol = "tcp"
            real = [{ address = "192.0.2.21" }, { address = "192.0.2.22" }]
        "#;
        let config = Config::check("test", text).unwrap().config;
        let answered = |last| NeighbourPlan {
            nic: NicId(0),
            address: IpAddr::from([192, 0, 2, last]),
            mac: Mac([2, 0, 0, 0, 9, last]),
        };
        let known = [21, 22].map(answered).map(|one| ((one.nic, one.address), one.mac));
        let state = State { neighbours: Arc::new(known.into()), ..State::default() };
        let plan = compile(&config, &state);
        let named = NeighbourPlan { mac: Mac([2, 0, 0, 0, 0, 0x21]), ..answered(21) };
        assert_eq!(plan.neighbours, [named, answered(22)]);
    }

    #[test]
    fn a_plan_has_routes_vips_and_health() {
        let text = r#"
            [[nic]]
            name = "front"
            device = "null:"
            addresses = ["192.0.2.2/24", "2001:db8::2/64"]
            gateway = ["192.0.2.1", "fe80::1"]
            [[route]]
            to = "198.51.100.0/24"
            via = "192.0.2.3"
            [[service]]
            name = "web"
            listen = "192.0.2.10:80"
            protocol = "tcp"
            real = [{ address = "192.0.2.21", weight = 3 }, { address = "192.0.2.22:8080", forward = "nat" }]
            [[service]]
            name = "dns"
            listen = "192.0.2.10:53"
            protocol = "udp"
            real = [{ address = "192.0.2.21" }]
        "#;
        let config = Config::check("test", text).unwrap().config;
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let down = config.services[0].real_key("192.0.2.21:80".parse().unwrap());
        let standing = Standing {
            verdict: Verdict { up: false, ..Verdict::default() },
            since: std::time::Instant::now(),
        };
        let state =
            State { macs: vec![mac], standings: HashMap::from([(down, standing)]), ..State::default() };
        let plan = compile(&config, &state);
        assert_eq!(plan.nics[0].mac, mac);
        assert_eq!(plan.vips, ["192.0.2.10".parse::<IpAddr>().unwrap()]);
        let routes: Vec<String> =
            plan.routes.iter().map(|route| format!("{} {:?}", route.to, route.via.unwrap())).collect();
        assert_eq!(routes, ["198.51.100.0/24 192.0.2.3", "0.0.0.0/0 192.0.2.1", "::/0 fe80::1"]);
        let reals: Vec<(String, u32, bool)> = (plan.services.iter().flat_map(|service| &service.reals))
            .map(|real| (format!("{} {}", real.method, real.address), real.weight, real.up))
            .collect();
        let want =
            [("dr 192.0.2.21:80", 3, false), ("nat 192.0.2.22:8080", 1, true), ("dr 192.0.2.21:53", 1, true)];
        assert_eq!(reals, want.map(|(text, weight, up)| (text.to_owned(), weight, up)));
    }
}
