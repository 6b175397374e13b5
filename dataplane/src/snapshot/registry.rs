//! Identifiers and counters that outlive a snapshot: what makes a real server that is removed and added again
//! find its connections, and what keeps an identifier from being reused while a connection holds it.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;

use super::plan::ServicePlan;
use crate::counters::RealCounters;
use crate::flow::Owners;
use crate::id::{Generation, Protocol, RealId, ServiceId};
use crate::service::masquerade;
use crate::service::path_mtu::{LastRoute, PathMtu};
use crate::service::{Overload, Real, Service, Thresholds};

/// What makes a service the same service.
pub(super) type ServiceKey = (SocketAddr, Protocol);
/// What makes a real server the same real server.
pub(super) type RealKey = (ServiceId, SocketAddr);

/// Gives out identifiers and remembers what the last compilation made. Belongs to the publisher.
#[derive(Debug)]
pub struct Registry {
    pub(super) owners: Owners,
    pub(super) generation: Generation,
    pub(super) edition: u64,
    pub(super) services: Slots<ServiceKey, ServiceRecord>,
    pub(super) reals: Slots<RealKey, RealRecord>,
    /// What the paths of tunnels were found to take, by where they lead.
    pub(super) paths: HashMap<IpAddr, PathMtu>,
    acknowledged: Generation,
}

/// A service that has an identifier.
#[derive(Debug)]
pub(super) struct ServiceRecord {
    /// As it was compiled last, and from what; none once it left the plan.
    pub compiled: Option<(ServicePlan, Arc<Service>)>,
    /// Changes with its candidates; kept when a recompilation changes something else.
    pub edition: u64,
}

/// Whose the VIPs are that a service takes packets for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// This director's.
    Here,
    /// Another director's.
    Elsewhere,
    /// Some of those of its firewall mark are another director's.
    Divided,
}

/// A real server that has an identifier.
#[derive(Debug)]
pub(super) struct RealRecord {
    /// Its counters.
    pub counters: RealCounters,
    /// What its packets met last.
    pub last_route: LastRoute,
    /// As connections saw it last.
    pub last: Option<Real>,
    /// Whose the VIPs of its service are.
    pub ownership: Ownership,
    /// The first generation without it, once it was removed.
    pub removed_in: Option<Generation>,
    /// Whether it reached its upper threshold.
    pub overloaded: Arc<AtomicBool>,
}

impl RealRecord {
    /// A real server that nobody knew.
    pub fn new(workers: u8) -> Self {
        Self {
            counters: RealCounters::new(workers),
            last_route: LastRoute::default(),
            last: None,
            ownership: Ownership::Here,
            removed_in: None,
            overloaded: Arc::default(),
        }
    }

    /// Sets its thresholds (kernel: `__ip_vs_update_dest`).
    pub fn limit(&mut self, thresholds: Thresholds) -> Option<Overload> {
        if thresholds.upper == 0 {
            self.overloaded.store(false, Ordering::Relaxed);
            return None;
        }
        let overload = Overload { thresholds, overloaded: self.overloaded.clone() };
        overload.update(self.counters.connections());
        Some(overload)
    }
}

impl Registry {
    /// An empty registry. `owners` holds the number of workers and the keys of this run.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self {
            owners,
            generation: Generation(0),
            edition: 0,
            services: Slots::default(),
            reals: Slots::default(),
            paths: HashMap::new(),
            acknowledged: Generation(0),
        }
    }

    /// Tells that every worker runs `generation` or a later one: no new connection can meet a real server
    /// that was removed before it.
    pub fn acknowledge(&mut self, generation: Generation) {
        self.acknowledged = self.acknowledged.max(generation);
    }

    /// The counters of a real server.
    #[must_use]
    pub fn counters(&self, id: RealId) -> Option<&RealCounters> {
        self.reals.get(id.0).map(|record| &record.counters)
    }

    /// The identifier of a configured service.
    #[must_use]
    pub fn service_id(&self, listen: SocketAddr, protocol: Protocol) -> Option<ServiceId> {
        self.services.find(&(listen, protocol)).map(ServiceId)
    }

    /// The identifier of a real server, also of one that was removed and still has connections.
    #[must_use]
    pub fn real_id(&self, service: ServiceId, address: SocketAddr) -> Option<RealId> {
        self.reals.find(&(service, address)).map(RealId)
    }

    /// What counts the connections that leave by an address of a masquerade.
    #[must_use]
    pub fn masquerade_id(&self, address: IpAddr) -> Option<RealId> {
        self.reals.find(&masquerade::key(address)).map(RealId)
    }

    /// Frees the identifiers of removed real servers that no worker can choose any more and no
    /// connection or template holds, and of removed services without real servers.
    pub(super) fn reclaim(&mut self) {
        let acknowledged = self.acknowledged;
        self.reals.retain(|_, _, record| {
            let unreachable = record.removed_in.is_some_and(|generation| generation <= acknowledged);
            let connections = record.counters.connections() + record.counters.sum(|cell| &cell.persistent);
            !unreachable || connections > 0
        });
        self.paths.retain(|_, path| path.is_shared() || path.is_learned());
        let mut in_use = vec![false; self.services.capacity()];
        for (service, _) in self.reals.keys() {
            if let Some(in_use) = in_use.get_mut(service.index()) {
                *in_use = true;
            }
        }
        self.services.retain(|_, id, record| record.compiled.is_some() || in_use[id as usize]);
    }
}

/// Values by key and by a small number that stays the same as long as the key is kept.
#[derive(Debug)]
pub(super) struct Slots<K, V> {
    numbers: HashMap<K, u32>,
    values: Vec<Option<V>>,
    free: Vec<u32>,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new(), free: Vec::new() }
    }
}

impl<K: Hash + Eq, V> Slots<K, V> {
    /// The number of a key, which gets one if it has none.
    pub fn number(&mut self, key: K, value: impl FnOnce() -> V) -> u32 {
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            (self.values.len() - 1) as u32
        });
        self.values[number as usize] = Some(value());
        self.numbers.insert(key, number);
        number
    }

    pub fn find(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub fn get(&self, number: u32) -> Option<&V> {
        self.values.get(number as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        self.values.get_mut(number as usize)?.as_mut()
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.numbers.keys()
    }

    /// One more than the largest number given out.
    pub fn capacity(&self) -> usize {
        self.values.len()
    }

    /// All slots by number.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut V)> {
        self.values
            .iter_mut()
            .enumerate()
            .filter_map(|(number, value)| Some((number as u32, value.as_mut()?)))
    }

    fn retain(&mut self, mut keep: impl FnMut(&K, u32, &V) -> bool) {
        let Self { numbers, values, free } = self;
        numbers.retain(|key, &mut number| {
            let kept = values[number as usize].as_ref().is_some_and(|value| keep(key, number, value));
            if !kept {
                values[number as usize] = None;
                free.push(number);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Family;
    use crate::flow::HashKey;
    use crate::id::{Mac, NicId, WorkerId};
    use crate::service::mark::{Mark, MarkRule};
    use crate::service::schedulers::Scheduler;
    use crate::service::{Method, Settings, Standing, Way};
    use crate::snapshot::{NeighbourPlan, NicPlan, Plan, RealPlan, RoutePlan};

    fn registry() -> Registry {
        Registry::new(Owners { workers: 2, netmask_v4: 32, netmask_v6: 128, key: HashKey::random() })
    }

    fn real(address: &str) -> RealPlan {
        RealPlan {
            address: address.parse().unwrap(),
            method: Method::Dr,
            tunnel: Default::default(),
            weight: 1,
            thresholds: Thresholds::default(),
            up: true,
        }
    }

    fn plan(reals: &[&str]) -> Plan {
        Plan {
            nics: vec![NicPlan {
                name: "front".into(),
                mac: Mac([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                up: true,
                edition: 0,
                virtual_macs: Vec::new(),
                addresses: vec!["192.0.2.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()],
                reverse_path: Default::default(),
            }],
            services: vec![ServicePlan {
                name: "web".into(),
                listen: "192.0.2.10:80".parse().unwrap(),
                protocol: Protocol::Tcp,
                scheduler: Scheduler::Rr,
                settings: Settings::default(),
                reals: reals.iter().map(|address| real(address)).collect(),
            }],
            ..Plan::default()
        }
    }

    #[test]
    fn last_added_comes_first_and_the_dead_are_left_out() {
        let mut registry = registry();
        let mut wanted = plan(&["192.0.2.21:80", "192.0.2.22:80", "192.0.2.23:80"]);
        wanted.services[0].reals[1].up = false;
        let snapshot = registry.compile(&wanted);
        let service = snapshot.services[0].as_ref().unwrap();
        let order = service
            .candidates
            .iter()
            .map(|candidate| snapshot.real(candidate.real).unwrap().address.to_string());
        assert_eq!(order.collect::<Vec<_>>(), ["192.0.2.23", "192.0.2.21"]);
        assert!(snapshot.reals.iter().flatten().all(|real| real.standing != Standing::Removed));
    }

    #[test]
    fn an_unchanged_service_is_taken_over() {
        let mut registry = registry();
        let mut wanted = plan(&["192.0.2.21:80"]);
        let first = registry.compile(&wanted).services[0].clone().unwrap();
        wanted.neighbours.push(NeighbourPlan {
            nic: NicId(0),
            address: "192.0.2.21".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 0x21]),
        });
        let second = registry.compile(&wanted);
        assert!(Arc::ptr_eq(&first, second.services[0].as_ref().unwrap()));
        assert_eq!(second.generation, Generation(2));
        let Way::Known(hop) = second.reals[0].as_ref().unwrap().way else { panic!("{second:?}") };
        assert_eq!(hop.macs.destination(), Mac([2, 0, 0, 0, 0, 0x21]));
        wanted.services[0].name = "renamed".into();
        let third = registry.compile(&wanted).services[0].clone().unwrap();
        assert_eq!((third.edition, &*third.name), (first.edition, "renamed"));
        wanted.services[0].reals[0].weight = 7;
        assert_ne!(registry.compile(&wanted).services[0].as_ref().unwrap().edition, first.edition);
    }

    #[test]
    fn a_removed_real_is_kept_while_it_has_connections() {
        let mut registry = registry();
        let both = plan(&["192.0.2.21:80", "192.0.2.22:80"]);
        registry.compile(&both);
        let service = registry.service_id(both.services[0].listen, Protocol::Tcp).unwrap();
        let id = registry.real_id(service, both.services[0].reals[1].address).unwrap();
        registry.counters(id).unwrap().of(WorkerId(1)).active.add(1);
        let one = plan(&["192.0.2.21:80"]);
        let snapshot = registry.compile(&one);
        assert_eq!(snapshot.real(id).unwrap().standing, Standing::Removed);
        registry.acknowledge(snapshot.generation);
        assert!(registry.compile(&one).real(id).is_some(), "it still has a connection");
        assert_eq!(registry.compile(&both).real(id).unwrap().address.to_string(), "192.0.2.22");
        let snapshot = registry.compile(&one);
        registry.counters(id).unwrap().of(WorkerId(1)).active.subtract(1);
        assert!(registry.compile(&one).real(id).is_some(), "a worker may still choose it");
        registry.acknowledge(snapshot.generation);
        assert!(registry.compile(&one).real(id).is_none());
        let other = plan(&["192.0.2.21:80", "192.0.2.99:80"]);
        assert_eq!(registry.compile(&other).real(id).unwrap().address.to_string(), "192.0.2.99");
    }

    #[test]
    fn a_removed_service_frees_its_identifier_after_its_reals() {
        let mut registry = registry();
        let wanted = plan(&["192.0.2.21:80"]);
        registry.compile(&wanted);
        let empty = Plan { services: vec![], ..wanted.clone() };
        let snapshot = registry.compile(&empty);
        assert!(snapshot.services[0].is_none() && snapshot.reals[0].is_some());
        assert!(registry.service_id(wanted.services[0].listen, Protocol::Tcp).is_some());
        registry.acknowledge(snapshot.generation);
        registry.compile(&empty);
        assert_eq!(registry.service_id(wanted.services[0].listen, Protocol::Tcp), None);
    }

    #[test]
    fn packets_of_a_firewall_mark_are_asked_for_where_a_vip_of_it_is_elsewhere() {
        let mut registry = registry();
        let mut wanted = plan(&["192.0.2.21:80"]);
        let mark = Mark::new(7).unwrap();
        wanted.services[0].listen = mark.listen(Family::V4);
        let rule = |to: &str| MarkRule {
            mark,
            to: Some(to.parse().unwrap()),
            from: None,
            protocol: None,
            ports: 0..=u16::MAX,
            nic: None,
        };
        wanted.marks = vec![rule("192.0.2.16/31"), rule("2001:db8::/32")];
        let mut standing = |vip: &str| {
            wanted.elsewhere = vec![vip.parse().unwrap()];
            registry.compile(&wanted).reals[0].as_ref().unwrap().standing
        };
        assert_eq!(standing("192.0.2.17"), Standing::Divided);
        assert_eq!(standing("192.0.2.18"), Standing::Up, "another mark's, or none's");
        assert_eq!(standing("2001:db8::17"), Standing::Up, "the mark's IPv6 service, if it has one");
    }

    #[test]
    fn ways_follow_routes_and_sources() {
        let mut registry = registry();
        let mut wanted = plan(&["198.51.100.7:80"]);
        assert_eq!(registry.compile(&wanted).reals[0].as_ref().unwrap().way, Way::None);
        wanted.routes.push(RoutePlan {
            to: "198.51.100.0/24".parse().unwrap(),
            via: Some("192.0.2.1".parse().unwrap()),
            nic: NicId(0),
        });
        let snapshot = registry.compile(&wanted);
        let real = snapshot.reals[0].as_ref().unwrap();
        let Way::Unresolved(unresolved) = real.way else { panic!("{real:?}") };
        assert_eq!(unresolved.address.to_string(), "192.0.2.1");
        assert_eq!(real.tunnel_source.unwrap().to_string(), "192.0.2.2");
    }
}
