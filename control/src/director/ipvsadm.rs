//! The running director as ipvsadm sees and changes it.
//!
//! A change goes the way of a reload: checked against the whole configuration, published as one generation, acknowledged.
//! The configuration file stays as it is; the next reload takes it anew, and what was changed here is gone then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use shunt_dataplane::counters::RealCounters;
use shunt_dataplane::snapshot::Snapshot;

use super::live::{Live, lock};
use crate::api::director::Refusal;
use crate::api::ipvsadm::Changed;
use crate::config::{Config, Service};
use crate::health::RealKey;
use crate::ipvsadm::ledger::Ledger;
use crate::ipvsadm::rate::Estimate;
use crate::ipvsadm::table::{Change, Counters, Key, Numbers, Refused, Table};
use crate::ipvsadm::{convert, table};

/// What ipvsadm remembers of real servers beside their counters.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ledger: Ledger,
    rates: HashMap<RealKey, Estimate>,
}

/// Counters of real servers by what they are known by; those that were removed and have connections are among them.
fn counters(snapshot: &Snapshot) -> HashMap<RealKey, &RealCounters> {
    let reals = snapshot.reals.iter().flatten();
    let keyed = reals.filter_map(|real| {
        let of = snapshot.service(real.service)?;
        let address = SocketAddr::new(real.address, real.l4_port.0);
        Some((RealKey { listen: of.listen, protocol: of.protocol, address }, &real.counters))
    });
    keyed.collect()
}

impl Live {
    /// Services, real servers and what was counted for them.
    pub(super) fn ipvsadm_table(&self) -> Table {
        let view = self.view.load();
        let counters = counters(&view.snapshot);
        let memory = lock(&self.ipvsadm);
        let counted = |key: RealKey| {
            let counted =
                counters.get(&key).map_or_else(Counters::default, |counters| convert::counted(counters));
            let rates = memory.rates.get(&key).map(Estimate::rates).unwrap_or_default();
            Counters { rates, ..counted }
        };
        let services = view.config.services.iter().map(|service| {
            let mut shown = shown(service);
            shown.count(service.reals.iter().map(|real| counted(service.real_key(real.address))));
            memory.ledger.show(&mut shown);
            shown
        });
        Table { services: services.collect(), timeouts: convert::shown_timeouts(&view.config.timeouts) }
    }

    /// Looks at all totals; called every [`crate::ipvsadm::rate::PERIOD`].
    pub(super) fn estimate(&self) {
        let view = self.view.load();
        let counters = counters(&view.snapshot);
        let mut memory = lock(&self.ipvsadm);
        memory.rates.retain(|key, _| counters.contains_key(key));
        for (key, counters) in counters {
            let totals = convert::counted(counters).totals;
            memory.rates.entry(key).or_insert_with(|| Estimate::begin(totals)).look(totals);
        }
    }

    /// Takes note of real servers that came and went since `before`, and of services that were `deleted`.
    pub(super) fn keep_books(&self, before: &Snapshot, deleted: impl IntoIterator<Item = Key>) {
        let view = self.view.load();
        let (before, now) = (counters(before), counters(&view.snapshot));
        let counted = |key: Key, address: SocketAddr| {
            let Ok((listen, protocol)) = convert::place(key) else { return Numbers::default() };
            let key = RealKey { listen, protocol, address };
            let counters = now.get(&key).or_else(|| before.get(&key));
            counters.map_or_else(Numbers::default, |counters| convert::counted(counters).totals)
        };
        let services: Vec<table::Service> = view.config.services.iter().map(shown).collect();
        let ledger = &mut lock(&self.ipvsadm).ledger;
        deleted.into_iter().for_each(|key| ledger.delete(key));
        ledger.follow(services.iter(), counted);
    }

    /// Makes changes in their order; those that are refused change nothing.
    pub(super) fn change_now(&self, changes: &[Change]) -> Result<Changed, Refusal> {
        let before = self.view.load().config.clone();
        let mut work = Work::new(&before);
        let mut results: Vec<Result<(), Refused>> = changes.iter().map(|change| work.apply(change)).collect();
        let (file, text) = {
            let running = lock(&self.running);
            (running.file.clone(), running.text.clone())
        };
        let check = |work: &Work| Config::check_services(&file, &text, &work.config.services);
        if check(&work).is_err() {
            // Some change asks for what cannot be: find out which, one by one.
            work = Work::new(&before);
            for (change, result) in changes.iter().zip(&mut results) {
                let saved = work.clone();
                *result = work.apply(change);
                if let Err(problems) = check(&work) {
                    work = saved;
                    *result = Err(Refused::Director(told(&problems)));
                }
            }
        }
        let generation = if work.config == *before {
            self.view.load().snapshot.generation
        } else {
            let snapshot = self.view.load().snapshot.clone();
            let applied = self.publish(work.config)?;
            self.follow();
            let deleted = |(change, result): (&Change, &Result<(), Refused>)| match change {
                Change::DeleteService(key) if result.is_ok() => vec![*key],
                Change::Clear => {
                    before.services.iter().map(|one| convert::key(one.listen, one.protocol)).collect()
                }
                _ => Vec::new(),
            };
            self.keep_books(&snapshot, changes.iter().zip(&results).flat_map(deleted));
            self.acknowledged(&applied)?;
            applied.generation
        };
        for (change, result) in changes.iter().zip(&results) {
            if let (Change::Zero(key), Ok(())) = (change, result) {
                self.zero(*key);
            }
        }
        tracing::info!("ipvsadm: {} changes, generation {generation}", changes.len());
        Ok(Changed { generation: generation.0, refused: results.into_iter().map(Result::err).collect() })
    }

    /// Lets the totals of one service, or of all, begin at 0.
    fn zero(&self, key: Option<Key>) {
        let view = self.view.load();
        let mut memory = lock(&self.ipvsadm);
        let mut all = HashMap::new();
        for (real, counters) in counters(&view.snapshot) {
            let (of, totals) = (convert::key(real.listen, real.protocol), convert::counted(counters).totals);
            all.insert((of, real.address), totals);
            if key.is_none_or(|key| key == of) {
                memory.rates.insert(real, Estimate::begin(totals));
            }
        }
        memory.ledger.zero(key, |key, address| all.get(&(key, address)).copied().unwrap_or_default());
    }
}

/// The first error of a check, without a place in a file.
fn told(problems: &crate::config::problem::Problems) -> String {
    let error = problems.list.iter().find(|one| one.severity == crate::config::problem::Severity::Error);
    let Some(error) = error.or(problems.list.first()) else { return String::new() };
    let crate::config::problem::Problem { place, wrong, holds, advice, .. } = error;
    format!("ipvsadm: {place}: {wrong}: {holds}: {advice}")
}

fn shown(service: &Service) -> table::Service {
    convert::shown(&crate::config::compile::service_plan(service, &crate::config::compile::State::default()))
}

/// A configuration that is being changed, and its services as ipvsadm knows them.
#[derive(Clone)]
struct Work {
    config: Config,
    /// The shortest netmasks of persistence before: IPv4, IPv6.
    netmasks: (u8, u8),
    table: Table,
}

impl Work {
    fn new(config: &Config) -> Self {
        let services = config.services.iter().map(shown).collect();
        let table = Table { services, timeouts: convert::shown_timeouts(&config.timeouts) };
        Self { config: config.clone(), netmasks: config.client_netmasks(), table }
    }

    /// Makes one change, or none when it is refused.
    fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        let touched = match change {
            Change::AddService(service) | Change::EditService(service) => Some(service.key),
            Change::DeleteService(key)
            | Change::AddServer(key, _)
            | Change::EditServer(key, _)
            | Change::DeleteServer(key, _) => Some(*key),
            Change::Clear | Change::Zero(_) | Change::SetTimeouts(_) => None,
        };
        let saved = touched.and_then(|key| self.table.service(key).cloned());
        self.table.apply(change)?;
        match (change, touched) {
            (Change::Clear, _) => self.config.services.clear(),
            (Change::SetTimeouts(set), _) => {
                self.config.timeouts = convert::timeouts(&self.config.timeouts, *set);
            }
            (_, Some(key)) => self.take_over(key).inspect_err(|_| self.restore(key, saved))?,
            _ => {}
        }
        Ok(())
    }

    /// Brings a service of the table into the configuration.
    fn take_over(&mut self, key: Key) -> Result<(), Refused> {
        let services = &self.config.services;
        let place = services.iter().position(|one| convert::key(one.listen, one.protocol) == key);
        let Some(service) = self.table.service(key) else {
            place.map(|place| self.config.services.remove(place));
            return Ok(());
        };
        let new = convert::configured(service, place.map(|place| &services[place]))?;
        self.check_netmask(key, &new)?;
        match place {
            Some(place) => self.config.services[place] = new,
            None => self.config.services.push(new),
        }
        Ok(())
    }

    /// Several workers own clients by the shortest netmask that they started with.
    fn check_netmask(&self, key: Key, new: &Service) -> Result<(), Refused> {
        let Some(persistence) = new.settings.persistence else { return Ok(()) };
        let (v4, v6) = self.netmasks;
        let shortest = if new.listen.is_ipv4() { v4 } else { v6 };
        if self.config.runtime.workers.len() < 2 || persistence.netmask >= shortest {
            return Ok(());
        }
        Err(Refused::Director(format!(
            "ipvsadm: {key}: the netmask of persistence is /{}: with several workers none is shorter than the /{shortest} \
             that the director runs with: put the service into the configuration and restart",
            persistence.netmask
        )))
    }

    /// Puts a service back as it was.
    fn restore(&mut self, key: Key, saved: Option<table::Service>) {
        let services = &mut self.table.services;
        let place = services.iter().position(|service| service.key == key);
        match (place, saved) {
            (Some(place), Some(saved)) => services[place] = saved,
            (Some(place), None) => drop(services.remove(place)),
            (None, saved) => services.extend(saved),
        }
    }
}

/// Where [`Live`] keeps it.
pub(super) type Kept = Mutex<Memory>;
