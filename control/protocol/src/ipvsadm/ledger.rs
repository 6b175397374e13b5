//! What `--stats` shows, where workers only ever count on: totals that were zeroed, and those of real servers that are gone.
//!
//! As in the kernel: a service keeps what its real servers counted when they are taken out; one that comes back while
//! connections still refer to it goes on where it was; a service that is deleted leaves nothing.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use shunt_model::ipvsadm::table::{Key, Numbers, Service};

/// A real server of a service.
type Real = (Key, SocketAddr);

/// What is to be added to, and taken from, what workers counted.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    services: HashSet<Key>,
    /// What each real server that is there had counted when it began, or was zeroed.
    begun: HashMap<Real, Numbers>,
    /// The same of those that were taken out, and what they had counted then.
    gone: HashMap<Real, (Numbers, Numbers)>,
    /// What a service counts beside its real servers. Wraps: the sum counts.
    beside: HashMap<Key, Numbers>,
}

impl Ledger {
    /// Takes note of the services that are there now. `counted` says what workers counted for a real server up to now.
    pub fn follow<'s>(
        &mut self,
        services: impl Iterator<Item = &'s Service>,
        counted: impl Fn(Key, SocketAddr) -> Numbers,
    ) {
        let mut there = HashSet::new();
        let mut keys = HashSet::new();
        for service in services {
            keys.insert(service.key);
            there.extend(service.destinations.iter().map(|real| (service.key, real.address)));
        }
        let deleted: Vec<Key> = self.services.difference(&keys).copied().collect();
        deleted.into_iter().for_each(|key| self.delete(key));
        let left: Vec<Real> = self.begun.keys().filter(|real| !there.contains(*real)).copied().collect();
        for real in left {
            let (begun, counted) = (self.begun.remove(&real).unwrap_or_default(), counted(real.0, real.1));
            self.add(real.0, counted.minus(begun));
            self.gone.insert(real, (begun, counted));
        }
        let came: Vec<Real> = there.into_iter().filter(|real| !self.begun.contains_key(real)).collect();
        for real in came {
            let counted = counted(real.0, real.1);
            let begun = match self.gone.remove(&real) {
                // It goes on where it was.
                Some((begun, then)) if counted.reaches(then) => {
                    self.add(real.0, Numbers::default().wrapping_minus(then.minus(begun)));
                    begun
                }
                // Nothing referred to it any more: it counts anew.
                Some(_) => Numbers::default(),
                None => counted,
            };
            self.begun.insert(real, begun);
        }
        self.services = keys;
    }

    /// Forgets a service that is deleted.
    pub fn delete(&mut self, key: Key) {
        self.services.remove(&key);
        self.begun.retain(|real, _| real.0 != key);
        self.gone.retain(|real, _| real.0 != key);
        self.beside.remove(&key);
    }

    /// Lets the totals of one service, or of all, begin at 0.
    pub fn zero(&mut self, key: Option<Key>, counted: impl Fn(Key, SocketAddr) -> Numbers) {
        for (real, begun) in &mut self.begun {
            if key.is_none_or(|key| key == real.0) {
                *begun = counted(real.0, real.1);
            }
        }
        self.beside.retain(|of, _| key.is_some_and(|key| key != *of));
    }

    /// Turns what workers counted for a service and its real servers into what is shown.
    pub fn show(&self, service: &mut Service) {
        let mut sum = self.beside.get(&service.key).copied().unwrap_or_default();
        for real in &mut service.destinations {
            let begun = self.begun.get(&(service.key, real.address)).copied().unwrap_or_default();
            real.counters.totals = real.counters.totals.minus(begun);
            sum = sum.plus(real.counters.totals);
        }
        service.counters.totals = sum;
    }

    fn add(&mut self, key: Key, numbers: Numbers) {
        let beside = self.beside.entry(key).or_default();
        *beside = beside.plus(numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_model::ipvsadm::table::{Counters, Destination, Forward, Protocol, SchedulerFlags};

    fn packets(packets_in: u64) -> Numbers {
        Numbers { packets_in, ..Numbers::default() }
    }

    fn service(reals: &[u8]) -> Service {
        let destination = |&last: &u8| Destination {
            address: SocketAddr::from(([10, 1, 0, last], 80)),
            forward: Forward::Route,
            weight: 1,
            upper: 0,
            lower: 0,
            counters: Counters::default(),
        };
        Service {
            key: Key::Address(Protocol::Tcp, "10.0.0.100:80".parse().unwrap()),
            scheduler: "rr".to_owned(),
            flags: SchedulerFlags(0),
            persistence: None,
            engine: None,
            one_packet: false,
            destinations: reals.iter().map(destination).collect(),
            counters: Counters::default(),
        }
    }

    /// A ledger, the real servers that are there, and what workers counted for each by its last byte.
    struct Books(Ledger, Vec<u8>, HashMap<u8, u64>);

    impl Books {
        fn counted(&self) -> impl Fn(Key, SocketAddr) -> Numbers + use<> {
            let counted = self.2.clone();
            move |_, address| match address {
                SocketAddr::V4(address) => {
                    packets(counted.get(&address.ip().octets()[3]).copied().unwrap_or(0))
                }
                SocketAddr::V6(_) => Numbers::default(),
            }
        }

        fn has(&mut self, reals: &[u8]) {
            self.1 = reals.to_vec();
            let counted = self.counted();
            self.0.follow([service(reals)].iter(), counted);
        }

        fn count(&mut self, each: u64) {
            for real in &self.1 {
                *self.2.entry(*real).or_default() += each;
            }
        }

        /// Of the service, then of each real server.
        fn shown(&self) -> Vec<u64> {
            let mut shown = service(&self.1);
            let counted = self.counted();
            for real in &mut shown.destinations {
                real.counters.totals = counted(shown.key, real.address);
            }
            self.0.show(&mut shown);
            let reals = shown.destinations.iter().map(|real| real.counters.totals.packets_in);
            std::iter::once(shown.counters.totals.packets_in).chain(reals).collect()
        }
    }

    /// As recorded of the kernel (`stats_changes_dr`), but for the removal that is zeroed meanwhile.
    #[test]
    fn totals_through_removal_return_and_zero() {
        let mut books = Books(Ledger::default(), vec![], HashMap::new());
        books.has(&[11, 12]);
        books.count(4);
        assert_eq!(books.shown(), [8, 4, 4]);
        books.has(&[12]);
        books.count(2);
        assert_eq!(books.shown(), [10, 6]);
        books.has(&[12, 11]);
        assert_eq!(books.shown(), [10, 6, 4]);
        let counted = books.counted();
        books.0.zero(None, counted);
        books.count(1);
        assert_eq!(books.shown(), [2, 1, 1]);
        // Its counters are not there any more when it returns.
        books.has(&[12]);
        books.2.remove(&11);
        books.has(&[12, 11]);
        books.count(1);
        assert_eq!(books.shown(), [4, 2, 1]);
        // The kernel does not zero what is not there.
        books.has(&[12]);
        let counted = books.counted();
        books.0.zero(None, counted);
        books.has(&[12, 11]);
        assert_eq!(books.shown(), [0, 0, 1]);
        // A deleted service leaves nothing, though its real servers' counters stay.
        books.0.follow([].iter(), books.counted());
        books.has(&[11, 12]);
        assert_eq!(books.shown(), [0, 0, 0]);
    }
}
