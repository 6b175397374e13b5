//! The running director as ipvsadm sees and changes it.
//!
//! A change goes the way of a reload: checked against the whole configuration, published as one generation, acknowledged.
//! The configuration file stays as it is; the next reload takes it anew, and what was changed here is gone then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use shunt_config::diff::diff;
use shunt_config::{Config, Service};
use shunt_dataplane::counters::RealCounters;
use shunt_dataplane::snapshot::Snapshot;
use shunt_model::health::RealKey;
use shunt_model::ipvsadm::table;
use shunt_model::ipvsadm::table::{Change, Counters, Key, Numbers, Refused, Table};
use shunt_protocol::ipvsadm::ledger::Ledger;
use shunt_protocol::ipvsadm::rate::Estimate;

use super::changes::{By, Proposal};
use super::live::{Live, lock};
use crate::api::Asked;
use crate::api::director::Refusal;
use crate::api::ipvsadm::Changed;
use crate::ipvsadm::convert;

/// What ipvsadm remembers of real servers beside their counters.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ledger: Ledger,
    rates: HashMap<RealKey, Estimate>,
}

/// Counters of real servers by what they are known by; those that were removed and have connections are among them.
fn counters(snapshot: &Snapshot) -> HashMap<RealKey, &RealCounters> {
    RealKey::all(snapshot).map(|(key, real)| (key, &real.counters)).collect()
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

    /// Looks at all totals; called every [`shunt_protocol::ipvsadm::rate::PERIOD`].
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
    pub(super) fn change_now(&self, asked: Asked, changes: &[Change]) -> Result<Changed, Refusal> {
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
            let changes_of = diff(&before, &work.config);
            let proposal = Proposal {
                config: work.config,
                changes: changes_of,
                by: By::Ipvsadm,
                asked,
                file: file.clone(),
            };
            let applied = self.publish(proposal)?;
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
        for (change, result) in changes.iter().zip(&results) {
            match (change, result) {
                (Change::Zero(None), Ok(())) => {
                    tracing::info!("ipvsadm: counters of all services are 0 {asked}")
                }
                (Change::Zero(Some(key)), Ok(())) => {
                    tracing::info!("ipvsadm: counters of {key} are 0 {asked}")
                }
                (_, Ok(()) | Err(_)) => {}
            }
        }
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
fn told(problems: &shunt_config::problem::Problems) -> String {
    let error = problems.list.iter().find(|one| one.severity == shunt_model::fault::Severity::Error);
    let Some(error) = error.or(problems.list.first()) else { return String::new() };
    let shunt_config::problem::Problem { place, wrong, holds, advice, .. } = error;
    format!("ipvsadm: {place}: {wrong}: {holds}: {advice}")
}

fn shown(service: &Service) -> table::Service {
    convert::shown(&crate::publish::compile::service_plan(
        service,
        &crate::publish::compile::State::default(),
    ))
}

/// A configuration that is being changed, and its services as ipvsadm knows them.
#[derive(Clone)]
struct Work {
    config: Config,
    /// The shortest netmasks of persistence before: IPv4, IPv6.
    netmasks: (u8, u8),
    table: Table,
    /// Where each service stands, in the table and in the configuration alike.
    places: HashMap<Key, usize>,
}

impl Work {
    fn new(config: &Config) -> Self {
        let services: Vec<table::Service> = config.services.iter().map(shown).collect();
        let places = services.iter().enumerate().map(|(place, service)| (service.key, place)).collect();
        let table = Table { services, timeouts: convert::shown_timeouts(&config.timeouts) };
        Self { config: config.clone(), netmasks: config.client_netmasks(), table, places }
    }

    /// Makes one change, or none when it is refused.
    fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        let place = change.key().and_then(|key| self.places.get(&key)).copied();
        let saved = place.map(|place| self.table.services[place].clone());
        self.table.apply_at(change, place)?;
        match (change, change.key()) {
            (Change::Clear, _) => {
                self.config.services.clear();
                self.places.clear();
            }
            (Change::SetTimeouts(set), _) => {
                self.config.timeouts = convert::timeouts(&self.config.timeouts, *set);
            }
            (Change::DeleteService(_), Some(key)) => self.delete(key),
            (Change::Zero(_), _) | (_, None) => {}
            (_, Some(key)) => {
                let place = place.unwrap_or(self.config.services.len());
                if let Err(refused) = self.take_over(key, place) {
                    // The table as it was.
                    self.table.services.truncate(self.config.services.len());
                    saved.into_iter().for_each(|saved| self.table.services[place] = saved);
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: Key) {
        let Some(gone) = self.places.remove(&key) else { return };
        self.config.services.remove(gone);
        for place in self.places.values_mut().filter(|place| **place > gone) {
            *place -= 1;
        }
    }

    /// Brings the table's service at this place into the configuration; behind the last one it is new.
    fn take_over(&mut self, key: Key, place: usize) -> Result<(), Refused> {
        let new = convert::configured(&self.table.services[place], self.config.services.get(place))?;
        self.check_netmask(key, &new)?;
        match self.config.services.get_mut(place) {
            Some(old) => *old = new,
            None => {
                self.places.insert(key, place);
                self.config.services.push(new);
            }
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
}

/// Where [`Live`] keeps it.
pub(super) type Kept = Mutex<Memory>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::names::Machine;
    use shunt_model::ipvsadm::arguments::{Command, parse};

    const FILE: &str = r#"
        [[nic]]
        name = "front"
        device = "null:"
        addresses = ["192.0.2.2/24"]
        [[service]]
        name = "a"
        listen = "192.0.2.10:80"
        protocol = "tcp"
        check = { kind = "tcp" }
        real = [{ address = "192.0.2.21" }]
        [[service]]
        name = "b"
        listen = "192.0.2.10:81"
        protocol = "tcp"
        real = [{ address = "192.0.2.21" }]
        [[service]]
        name = "c"
        listen = "192.0.2.10:82"
        protocol = "tcp"
        real = [{ address = "192.0.2.21" }]
    "#;

    fn change(line: &str) -> Change {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match parse(&words, false, &Machine::here()) {
            Ok(Command::Change(change)) => change,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// What is refused, by the kernel's rules or since this director cannot do it, leaves table and configuration alike.
    #[test]
    fn table_and_configuration_stay_alike() {
        let mut work = Work::new(&Config::check("test", FILE).unwrap().config);
        for (line, done) in [
            ("-E -t 192.0.2.10:80 -s rr", true),
            ("-D -t 192.0.2.10:81", true),
            ("-D -t 192.0.2.10:81", false),
            ("-a -t 192.0.2.10:82 -r 192.0.2.22 -w 7", true),
            ("-a -t 192.0.2.10:82 -r 192.0.2.22", false),
            ("-E -t 192.0.2.10:82 -p 60 --pe sip", false),
            ("-A -u 192.0.2.10:5060 -p 60 --pe sip", false),
            ("-A -u 192.0.2.10:5060 -p 60", true),
            ("-A -u 192.0.2.10:5060 -p 60", false),
            ("-e -t 192.0.2.10:80 -r 192.0.2.21 -m -w 3", true),
            ("-d -t 192.0.2.10:82 -r 192.0.2.21", true),
            ("-D -t 192.0.2.10:80", true),
            ("-a -u 192.0.2.10:5060 -r 192.0.2.22 -m", true),
            ("--set 30 5 60", true),
        ] {
            assert_eq!(work.apply(&change(line)).is_ok(), done, "{line}");
            let of_config: Vec<table::Service> = work.config.services.iter().map(shown).collect();
            assert_eq!(work.table.services, of_config, "{line}");
            let places = work.table.services.iter().enumerate().map(|(place, service)| (service.key, place));
            assert_eq!(work.places, places.collect(), "{line}");
        }
        let names: Vec<&str> = work.config.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["c", "udp-192.0.2.10:5060"]);
        assert_eq!(convert::shown_timeouts(&work.config.timeouts).tcp, 30);
        assert_eq!(work.apply(&Change::Clear), Ok(()));
        assert_eq!((work.config.services.len(), work.places.len()), (0, 0));
    }

    #[test]
    fn a_service_that_is_changed_keeps_its_name_and_check() {
        let mut work = Work::new(&Config::check("test", FILE).unwrap().config);
        work.apply(&change("-E -t 192.0.2.10:80 -s sh -b sh-port")).unwrap();
        let service = &work.config.services[0];
        assert_eq!((service.name.as_str(), service.checks.is_empty()), ("a", false));
        work.apply(&change("-D -t 192.0.2.10:80")).unwrap();
        work.apply(&change("-A -t 192.0.2.10:80")).unwrap();
        let service = work.config.services.last().unwrap();
        assert_eq!((service.name.as_str(), service.checks.is_empty()), ("tcp-192.0.2.10:80", true));
    }
}
