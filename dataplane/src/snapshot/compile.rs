//! From plan to snapshot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashSet;

use super::registry::{Ownership, RealKey, RealRecord, Registry, ServiceRecord};
use super::{FamilyTables, Local, NicPlan, NicView, Plan, ScopedMap, ServicePlan, Snapshot};
use crate::address::{Address, Family};
use crate::connections::Timeouts;
use crate::counters::RealCounters;
use crate::forwarding::Forwarding;
use crate::id::{Generation, L4Port, NicId, Protocol, RealId, ServiceId};
use crate::reverse_path::ReversePath;
use crate::route::{Route, RouteTable};
use crate::service::bypass;
use crate::service::mark::{Classifier, Mark};
use crate::service::masquerade;
use crate::service::path_mtu::{Overhead, PathMtu};
use crate::service::schedulers::Lookup;
use crate::service::table::ServiceTable;
use crate::service::tunnel::Tunnel;
use crate::service::{Candidate, Method, NextHop, Overload, Real, Service, ServiceTimeouts, Standing, Way};
use crate::wire::ethernet::Macs;

impl Registry {
    /// Compiles a plan into the next generation. Services that did not change are taken over as they are.
    pub fn compile(&mut self, plan: &Plan) -> Snapshot {
        self.reclaim();
        self.generation = Generation(self.generation.0 + 1);
        let nics = plan.nics.iter().map(|nic| nic_view(nic, &plan.nics)).collect::<Box<[_]>>();
        let mut snapshot = Snapshot {
            generation: self.generation,
            nics,
            services: Box::default(),
            reals: Box::default(),
            tunnels: Default::default(),
            v4: FamilyTables::compile(plan),
            v6: FamilyTables::compile(plan),
            timeouts: Arc::new(plan.timeouts.clone()),
            sysctls: plan.sysctls,
            owners: self.owners,
            replies_per_second: plan.replies_per_second,
            client_share: plan.client_share,
        };
        self.retire(plan);
        let divided = divided_marks(plan);
        for service in &plan.services {
            self.compile_service(service, &divided, &mut snapshot);
        }
        self.compile_masquerade(plan, &mut snapshot.v4);
        self.compile_masquerade(plan, &mut snapshot.v6);
        self.compile_bypass(plan, &mut snapshot.v4);
        self.compile_bypass(plan, &mut snapshot.v6);
        self.fill(&mut snapshot);
        snapshot
    }

    /// Numbers the addresses that hosts are masqueraded by.
    fn compile_masquerade<A: Address>(&mut self, plan: &Plan, tables: &mut FamilyTables<A>) {
        let first = |nic: &NicPlan| nic.addresses.iter().find_map(|net| A::from_ip(net.addr()));
        let nics = plan.nics.iter().map(first).collect::<Vec<_>>();
        plan.masquerades.iter().for_each(|rule| tables.masquerade.push(rule, &nics));
        let timeouts = Arc::new(plan.timeouts.clone());
        for address in tables.masquerade.addresses().collect::<Vec<_>>() {
            let id = self.stand_in(masquerade::key(address.into()), Method::Nat, &timeouts);
            tables.masquerade.number(address, id);
        }
    }

    /// Keeps what stands for the destinations of connections that no real server took, where there are firewall marks.
    fn compile_bypass<A: Address>(&mut self, plan: &Plan, tables: &mut FamilyTables<A>) {
        let key = bypass::key(A::UNSPECIFIED.into());
        let marked = |service: &ServicePlan| {
            Mark::of(service.listen).is_some() && A::from_ip(service.listen.ip()).is_some()
        };
        if plan.services.iter().any(marked) || self.reals.find(&key).is_some() {
            let timeouts = Arc::new(plan.timeouts.clone());
            tables.bypass = Some(self.stand_in(key, Method::Dr, &timeouts));
        }
    }

    /// What stands for a real server where there is none of a service.
    fn stand_in(&mut self, key: RealKey, method: Method, timeouts: &Arc<Timeouts>) -> RealId {
        let workers = self.owners.workers;
        let id = RealId(self.reals.number(key, || RealRecord::new(workers)));
        if let Some(record) = self.reals.get_mut(id.0) {
            record.removed_in = None;
            record.last = Some(stand_in(id, key, method, record, timeouts));
        }
        id
    }

    /// Marks services and real servers that the plan does not name any more.
    fn retire(&mut self, plan: &Plan) {
        let mut kept = vec![false; self.reals.capacity()];
        let mut services_kept = vec![false; self.services.capacity()];
        for service in &plan.services {
            let Some(id) = self.service_id(service.listen, service.protocol) else { continue };
            services_kept[id.index()] = true;
            for real in &service.reals {
                if let Some(real) = self.real_id(id, real.address) {
                    kept[real.index()] = true;
                }
            }
        }
        for (number, record) in self.reals.iter_mut() {
            if !kept[number as usize] && record.removed_in.is_none() {
                record.removed_in = Some(self.generation);
            }
        }
        for (number, record) in self.services.iter_mut() {
            if !services_kept[number as usize] {
                record.compiled = None;
            }
        }
    }

    fn compile_service(&mut self, plan: &ServicePlan, divided: &DividedMarks, snapshot: &mut Snapshot) {
        let key = (plan.listen, plan.protocol);
        let id = ServiceId(self.services.number(key, || ServiceRecord { compiled: None, edition: 0 }));
        let port = L4Port(plan.listen.port());
        match (plan.listen.ip(), Mark::of(plan.listen)) {
            (IpAddr::V4(_), Some(mark)) => snapshot.v4.services.insert_mark(mark, id),
            (IpAddr::V6(_), Some(mark)) => snapshot.v6.services.insert_mark(mark, id),
            (IpAddr::V4(vip), None) => snapshot.v4.services.insert(vip, port, plan.protocol, id),
            (IpAddr::V6(vip), None) => snapshot.v6.services.insert(vip, port, plan.protocol, id),
        }
        plan.reals.iter().filter(|real| real.method == Method::Nat).for_each(|real| {
            let l4_port = if real.address.port() == 0 { port } else { L4Port(real.address.port()) };
            match real.address.ip() {
                IpAddr::V4(address) => snapshot.v4.add_nat(address, plan.protocol, l4_port),
                IpAddr::V6(address) => snapshot.v6.add_nat(address, plan.protocol, l4_port),
            }
        });
        let ServiceTimeouts { tcp, tcp_fin, udp } = plan.settings.timeouts;
        let timeouts = match plan.settings.timeouts == ServiceTimeouts::default() {
            true => snapshot.timeouts.clone(),
            false => Arc::new((*snapshot.timeouts).clone().with(tcp, tcp_fin, udp)),
        };
        let ownership = match Mark::of(plan.listen) {
            None if snapshot.is_elsewhere(NicId::default(), plan.listen.ip()) => Ownership::Elsewhere,
            Some(mark) if divided.contains(&(Family::of(plan.listen.ip()), mark)) => Ownership::Divided,
            Some(_) | None => Ownership::Here,
        };
        let compile = |real| self.compile_real(id, plan, real, (&timeouts, ownership));
        let reals = plan.reals.iter().map(compile).collect::<Vec<_>>();
        let unchanged =
            |record: &ServiceRecord| record.compiled.as_ref().is_some_and(|(last, _)| last == plan);
        if !self.services.get(id.0).is_some_and(unchanged) {
            self.recompile(id, plan, &reals);
        }
    }

    fn recompile(&mut self, id: ServiceId, plan: &ServicePlan, reals: &[CompiledReal]) {
        // The kernel adds a real server at the head of its list.
        let Some(record) = self.services.get_mut(id.0) else { return };
        let last = record.compiled.as_ref().map(|(_, last)| last.candidates.as_ref()).unwrap_or_default();
        let candidates = (plan.reals.iter().zip(reals).rev())
            .filter(|(real, _)| real.up)
            .map(|(real, compiled)| candidate(plan, real, compiled, last))
            .collect::<Box<[_]>>();
        let same = |last: &Candidate, now: &Candidate| {
            let limits = |one: &Candidate| one.overload.as_ref().map(|overload| overload.thresholds);
            (last.real, last.weight, last.address, limits(last))
                == (now.real, now.weight, now.address, limits(now))
        };
        let unchanged = record.compiled.as_ref().is_some_and(|(_, last)| {
            last.candidates.len() == candidates.len()
                && last.scheduler == plan.scheduler
                && last.candidates.iter().zip(&candidates).all(|(last, now)| same(last, now))
        });
        if !unchanged {
            self.edition += 1;
            record.edition = self.edition;
        }
        let previous = record.compiled.as_ref().map(|(_, last)| &**last);
        let service = Service {
            id,
            name: plan.name.as_str().into(),
            listen: plan.listen,
            protocol: plan.protocol,
            scheduler: plan.scheduler,
            settings: plan.settings.clone(),
            lookup: Lookup::compile(
                plan.scheduler,
                Family::of(plan.listen.ip()),
                &candidates,
                record.edition,
                previous,
            ),
            candidates,
            edition: record.edition,
        };
        record.compiled = Some((plan.clone(), Arc::new(service)));
    }

    fn compile_real(
        &mut self,
        id: ServiceId,
        service: &ServicePlan,
        plan: &super::RealPlan,
        (timeouts, ownership): (&Arc<Timeouts>, Ownership),
    ) -> CompiledReal {
        let workers = self.owners.workers;
        let mss_clamp = service.settings.mss_clamp;
        let service = id;
        let id = RealId(self.reals.number((service, plan.address), || RealRecord::new(workers)));
        let Some(record) = self.reals.get_mut(id.0) else {
            unreachable!("the real server was just given a number")
        };
        let is_back = record.removed_in.take().is_some();
        record.ownership = ownership;
        let overload = record.limit(plan.thresholds);
        let is_same = |last: &Real| {
            let thresholds = last.overload.as_ref().map(|overload| overload.thresholds).unwrap_or_default();
            (last.weight, last.method, last.tunnel, thresholds)
                == (plan.weight, plan.method, plan.tunnel, plan.thresholds)
        };
        let tunnels = plan.method == Method::Tun || record.last.as_ref().is_some_and(|last| last.tunnels);
        let was = record.last.take().filter(|last| !is_back && is_same(last));
        record.last = Some(Real {
            timeouts: timeouts.clone(),
            id,
            service,
            address: plan.address.ip(),
            l4_port: L4Port(plan.address.port()),
            method: plan.method,
            tunnel: plan.tunnel,
            tunnels,
            mss_clamp: mss_clamp && plan.method == Method::Tun,
            standing: match ownership {
                _ if !plan.up => Standing::Down,
                Ownership::Divided => Standing::Divided,
                Ownership::Here | Ownership::Elsewhere => Standing::Up,
            },
            way: Way::None,
            overhead: Overhead::default(),
            tunnel_source: None,
            path_mtu: self.paths.entry(plan.address.ip()).or_default().clone(),
            last_route: record.last_route.clone(),
            counters: record.counters.clone(),
            weight: plan.weight,
            overload: overload.clone(),
        });
        if let (None, Some(real)) = (was, &record.last) {
            real.edited();
        }
        CompiledReal { id, counters: record.counters.clone(), overload }
    }

    /// Fills services and real servers in, those removed but still referred to included.
    fn fill(&mut self, snapshot: &mut Snapshot) {
        let mut services = vec![None; self.services.capacity()];
        for (number, record) in self.services.iter_mut() {
            services[number as usize] = record.compiled.as_ref().map(|(_, service)| service.clone());
        }
        let mut reals = vec![None; self.reals.capacity()];
        for (number, record) in self.reals.iter_mut() {
            let Some(real) = &mut record.last else { continue };
            if record.removed_in.is_some() {
                real.standing = Standing::Removed;
            }
            real.way = if real.is_masquerade() || real.is_bypass() {
                // Each of its connections has a way of its own.
                Way::None
            } else if record.ownership == Ownership::Elsewhere {
                // What another director owns is not forwarded here, open connections' packets included.
                Way::None
            } else if snapshot.is_own(real.address) {
                Way::Local
            } else {
                snapshot.way_to(real.address).cloned()
            };
            real.tunnel_source = snapshot.source_to(real.address);
            real.measure();
            if real.standing != Standing::Removed && real.method == Method::Tun {
                snapshot.tunnels.entry(real.address).or_default().push(real.id);
            }
            reals[number as usize] = Some(real.clone());
        }
        snapshot.services = services.into();
        snapshot.reals = reals.into();
    }
}

/// The firewall marks that packets for VIPs may get that belong to another director now, by the family of these.
type DividedMarks = HashSet<(Family, Mark)>;

fn divided_marks(plan: &Plan) -> DividedMarks {
    let of = |vip: IpAddr| {
        let rules = plan.marks.iter().filter(move |rule| rule.to.is_none_or(|to| to.contains(&vip)));
        rules.map(move |rule| (Family::of(vip), rule.mark))
    };
    plan.elsewhere.iter().copied().flat_map(of).collect()
}

/// A real server of no service: each of its connections has a way of its own.
fn stand_in(
    id: RealId,
    (service, address): RealKey,
    method: Method,
    record: &RealRecord,
    timeouts: &Arc<Timeouts>,
) -> Real {
    Real {
        timeouts: timeouts.clone(),
        id,
        service,
        address: address.ip(),
        l4_port: L4Port(0),
        method,
        tunnel: Tunnel::default(),
        tunnels: false,
        mss_clamp: false,
        standing: Standing::Up,
        way: Way::None,
        overhead: Overhead::default(),
        tunnel_source: None,
        path_mtu: PathMtu::default(),
        last_route: record.last_route.clone(),
        counters: record.counters.clone(),
        weight: 1,
        overload: None,
    }
}

/// A real server as it was compiled.
struct CompiledReal {
    id: RealId,
    counters: RealCounters,
    overload: Option<Overload>,
}

/// A real server as its scheduler sees it; `last` are the candidates of the service as it was compiled last.
fn candidate(
    service: &ServicePlan,
    plan: &super::RealPlan,
    compiled: &CompiledReal,
    last: &[Candidate],
) -> Candidate {
    // What does not rewrite has the service's port, where it has one: a mark's has none.
    let own = plan.method == Method::Nat || Mark::of(service.listen).is_some();
    let l4_port = if own { plan.address.port() } else { service.listen.port() };
    let last_weight = match plan.weight {
        0 => last.iter().find(|candidate| candidate.real == compiled.id).map_or(0, |last| last.last_weight),
        weight => weight,
    };
    Candidate {
        real: compiled.id,
        address: SocketAddr::new(plan.address.ip(), l4_port),
        weight: plan.weight,
        last_weight,
        overload: compiled.overload.clone(),
        counters: compiled.counters.clone(),
    }
}

impl Snapshot {
    /// The director's own address that traffic to `to` starts from; none without a route, or without an address of the family on its
    /// NIC.
    #[must_use]
    pub fn source_to(&self, to: IpAddr) -> Option<IpAddr> {
        match to {
            IpAddr::V4(to) => self.v4.routes.find(to)?.source.map(IpAddr::V4),
            IpAddr::V6(to) => self.v6.routes.find(to)?.source.map(IpAddr::V6),
        }
    }
}

/// A NIC. Errors are sent from its first address of their family; a NIC with link-local ones alone lends that of another one (RFC 6724, 5: rule 2).
fn nic_view(plan: &NicPlan, all: &[NicPlan]) -> NicView {
    let first = |nic: &NicPlan| nic.addresses.iter().find_map(|net| Ipv4Addr::from_ip(net.addr()));
    NicView {
        name: plan.name.as_str().into(),
        mac: plan.mac,
        mtu: plan.mtu,
        up: plan.up,
        source_v4: first(plan),
        source_v6: source_v6(plan).or_else(|| all.iter().find_map(source_v6)),
        virtual_macs: plan.virtual_macs.as_slice().into(),
        reverse_path: plan.reverse_path,
        looks_back: match plan.reverse_path {
            ReversePath::Off => false,
            // Of one NIC there is no other way in.
            ReversePath::Auto => all.len() > 1,
            ReversePath::Strict | ReversePath::Loose => true,
        },
    }
}

/// The first address of a NIC that is no link-local one.
fn source_v6(nic: &NicPlan) -> Option<Ipv6Addr> {
    let mut own = nic.addresses.iter().filter_map(|net| Ipv6Addr::from_ip(net.addr()));
    own.find(|own| !own.is_of_one_link())
}

impl<A: Address> FamilyTables<A> {
    fn add_nat(&mut self, address: A, protocol: Protocol, l4_port: L4Port) {
        self.nat_reals.insert(address, ());
        self.nat_ports.insert((address, protocol, l4_port), ());
    }

    /// Whose the VIPs are.
    fn insert_vips(&mut self, plan: &Plan) {
        // Of those that mean the same on each link the NIC does not matter.
        let nic = NicId::default();
        for vip in plan.vips.iter().filter_map(|&vip| A::from_ip(vip)) {
            self.local.insert(nic, vip, Local::Vip);
        }
        for vip in plan.elsewhere.iter().filter_map(|&vip| A::from_ip(vip)) {
            self.local.insert(nic, vip, Local::Elsewhere);
        }
        for vip in plan.not_accepting.iter().filter_map(|&vip| A::from_ip(vip)) {
            self.not_accepting.insert(nic, vip, ());
        }
        for vip in &plan.link_vips {
            let Some(address) = A::from_ip(vip.address.into()) else { continue };
            self.local.insert(vip.nic, address, if vip.is_here { Local::Vip } else { Local::Elsewhere });
            if !vip.accepts {
                self.not_accepting.insert(vip.nic, address, ());
            }
        }
    }

    /// Everything but services and real servers.
    fn compile(plan: &Plan) -> Self {
        let mut tables = Self {
            services: ServiceTable::default(),
            classifier: Classifier::new(&plan.marks),
            local: Default::default(),
            adopting: plan.adopting.iter().filter_map(|&vip| Some((A::from_ip(vip)?, ()))).collect(),
            silent: plan.silent.iter().filter_map(|&vip| Some((A::from_ip(vip)?, ()))).collect(),
            others: plan.others,
            not_accepting: ScopedMap::default(),
            checked: plan.checked.iter().filter_map(|&vip| Some((A::from_ip(vip)?, ()))).collect(),
            routes: RouteTable::default(),
            neighbours: Default::default(),
            nat_reals: Default::default(),
            nat_ports: Default::default(),
            masquerade: Default::default(),
            forwarding: Forwarding::new(&plan.forwards),
            bypass: None,
        };
        tables.insert_vips(plan);
        for (number, nic) in plan.nics.iter().enumerate() {
            let nic_id = NicId(number as u8);
            for net in &nic.addresses {
                let Some(own) = A::from_ip(net.addr()) else { continue };
                tables.local.insert(nic_id, own, Local::Own(nic_id));
                if own.is_of_one_link() {
                    continue;
                }
                tables.routes.insert(
                    own,
                    net.prefix_len(),
                    Route { nic: nic_id, via: None, source: Some(own), hop: None },
                );
            }
        }
        for route in &plan.routes {
            let Some(network) = A::from_ip(route.to.network()) else { continue };
            if plan.nics.len() <= route.nic.index() {
                continue;
            }
            let via = route.via.and_then(A::from_ip);
            let source = own_address(plan, route.nic, route.via);
            let route_to = Route { nic: route.nic, via, source, hop: None };
            tables.routes.insert(network, route.to.prefix_len(), route_to);
        }
        for neighbour in &plan.neighbours {
            let Some(address) = A::from_ip(neighbour.address) else { continue };
            let Some(nic) = plan.nics.get(neighbour.nic.index()) else { continue };
            let (destination, source, mtu) = (neighbour.mac, nic.mac, nic.mtu);
            let hop = NextHop { nic: neighbour.nic, macs: Macs::new(destination, source), mtu };
            tables.neighbours.insert((neighbour.nic, address), hop);
        }
        let neighbours = &tables.neighbours;
        tables.routes.for_each_mut(|route| {
            route.hop = route.via.and_then(|via| neighbours.get(&(route.nic, via)).copied());
        });
        tables
    }
}

/// The director's address on a NIC: the one in the gateway's network, or else the first of the family.
fn own_address<A: Address>(plan: &Plan, nic: NicId, via: Option<IpAddr>) -> Option<A> {
    let addresses = &plan.nics.get(nic.index())?.addresses;
    // What leaves the link needs an address that means something there.
    let own = || {
        let of_family = addresses.iter().filter_map(|net| Some((net, A::from_ip(net.addr())?)));
        of_family.filter(|(_, own)| !own.is_of_one_link())
    };
    let near = own().find(|(net, _)| via.is_some_and(|via| net.contains(&via)));
    near.or_else(|| own().next()).map(|(_, own)| own)
}
