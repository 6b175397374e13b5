//! The `ipvsadm` of the recordings is shunt's own, in front of a director fed by hand.

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shunt::ipvsadm::convert;
use shunt_dataplane::address::Address;
use shunt_dataplane::connections::{Entry, Template};
use shunt_dataplane::id::{L4Port, RealId};
use shunt_dataplane::snapshot::{Plan, Registry, ServicePlan, Snapshot};
use shunt_dataplane::time::Tick;
use shunt_model::ipvsadm::names::Names;
use shunt_model::ipvsadm::table::{Change, Counters, Key, Numbers, Protocol, Refused, Table};
use shunt_protocol::ipvsadm::connections::Connection;
use shunt_protocol::ipvsadm::session;
use shunt_protocol::ipvsadm::session::Session;

use super::commands::Said;
use crate::director::Director;

/// Runs a command line.
pub fn run(words: &[String], target: &mut Target<'_>) -> Said {
    run_with(words, &mut std::io::empty(), target)
}

/// Runs a command line that reads from `input`.
pub fn run_with(words: &[String], input: &mut dyn BufRead, target: &mut Target<'_>) -> Said {
    let both = RefCell::new(Vec::new());
    let (mut out, mut err) = (Both(&both), Both(&both));
    let mut session = Session { target, names: &Nameless, out: &mut out, err: &mut err };
    let status = session.run(words, input);
    // As a shell sees -1.
    Said { output: String::from_utf8_lossy(&both.into_inner()).into_owned(), status: status.into() }
}

/// Standard output and error in one.
struct Both<'a>(&'a RefCell<Vec<u8>>);

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The recordings' machine knows no names.
struct Nameless;

impl Names for Nameless {
    fn address(&self, _host: &str) -> Option<Ipv4Addr> {
        None
    }

    fn host(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn port(&self, _service: &str, _protocol: Protocol) -> Option<u16> {
        None
    }

    fn service(&self, _l4_port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}

/// A director whose plan is changed: each change is a generation.
pub struct Target<'a> {
    director: &'a mut Director,
}

impl<'a> Target<'a> {
    /// Of this director.
    pub const fn new(director: &'a mut Director) -> Self {
        Self { director }
    }

    fn one(&mut self, change: &Change) -> Result<(), Refused> {
        let before = Table {
            services: self.director.plan().services.iter().map(convert::shown).collect(),
            timeouts: convert::shown_timeouts(&self.director.plan().timeouts),
        };
        let mut after = before.clone();
        after.apply(change)?;
        let plans: Result<Vec<ServicePlan>, Refused> =
            after.services.iter().map(|service| convert::plan(service, &service.key.to_string())).collect();
        let services = plans?;
        self.director.publish(|plan: &mut Plan| {
            plan.services = services;
            if let Change::SetTimeouts(set) = change {
                plan.timeouts = convert::timeouts(&plan.timeouts, *set);
            }
        });
        let (ledger, registry) = self.director.books();
        let counted = |key, address| totals(registry, key, address);
        match change {
            Change::Zero(key) => ledger.zero(*key, counted),
            _ => ledger.follow(after.services.iter(), counted),
        }
        Ok(())
    }
}

/// What workers counted for a real server, also of one that was removed and has connections.
fn totals(registry: &Registry, key: Key, address: SocketAddr) -> Numbers {
    let id = convert::place(key).ok().and_then(|(listen, protocol)| registry.service_id(listen, protocol));
    let id = id.and_then(|id| registry.real_id(id, address));
    let counters = id.and_then(|id| registry.counters(id));
    counters.map_or_else(Numbers::default, |counters| convert::counted(counters).totals)
}

/// Services, destinations and what was counted for them.
#[must_use]
pub fn table(director: &Director) -> Table {
    let (plan, registry) = (director.plan(), director.registry());
    let services = plan.services.iter().map(|plan| {
        let mut service = convert::shown(plan);
        let id = registry.service_id(plan.listen, plan.protocol);
        let counted = plan.reals.iter().map(|real| {
            let id = id.and_then(|id| registry.real_id(id, real.address));
            id.and_then(|id| registry.counters(id)).map_or_else(Counters::default, convert::counted)
        });
        service.count(counted);
        director.ledger().show(&mut service);
        service
    });
    Table { services: services.collect(), timeouts: convert::shown_timeouts(&plan.timeouts) }
}

impl session::Target for Target<'_> {
    fn table(&mut self) -> Result<Table, String> {
        Ok(table(self.director))
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Result<(), Refused>>, String> {
        Ok(changes.iter().map(|change| self.one(change)).collect())
    }

    fn connections(&mut self, each: &mut dyn FnMut(&Connection<'_>) -> bool) -> Result<(), String> {
        let (now, snapshot) = (self.director.now(), self.director.snapshot());
        for worker in self.director.workers() {
            worker.v4().list(&mut 0, usize::MAX, now, |entry| show(entry, snapshot, now, each));
            worker.v6().list(&mut 0, usize::MAX, now, |entry| show(entry, snapshot, now, each));
            let (v4, v6) = (worker.v4().templates(), worker.v6().templates());
            v4.list(&mut 0, usize::MAX, now, |template| show_template(template, snapshot, now, each));
            v6.list(&mut 0, usize::MAX, now, |template| show_template(template, snapshot, now, each));
        }
        Ok(())
    }
}

fn show<A: Address>(
    entry: &Entry<A>,
    snapshot: &Snapshot,
    now: Tick,
    each: &mut dyn FnMut(&Connection<'_>) -> bool,
) {
    let at = |address: A, l4_port: L4Port| SocketAddr::new(address.into(), l4_port.0);
    let real = real_address(snapshot, entry.real(), entry.real_address());
    each(&Connection {
        protocol: Some(entry.protocol().into()),
        left: entry.expires().remaining(now).as_duration(),
        state: entry.state_word(),
        client: at(entry.client(), entry.client_port()),
        vip: at(entry.vip(), entry.vip_port()),
        real: SocketAddr::new(real, entry.real_port().0),
    });
}

/// The real server of a tunnel may be of the other family.
fn real_address<A: Address>(snapshot: &Snapshot, id: RealId, kept: A) -> IpAddr {
    snapshot.real(id).map_or_else(|| kept.into(), |real| real.address)
}

fn show_template<A: Address>(
    template: &Template<A>,
    snapshot: &Snapshot,
    now: Tick,
    each: &mut dyn FnMut(&Connection<'_>) -> bool,
) {
    let at = |address: A, l4_port: L4Port| SocketAddr::new(address.into(), l4_port.0);
    let (key, (vip_port, real_port)) = (template.key(), template.ports());
    let real = real_address(snapshot, template.real(), template.real_address());
    each(&Connection {
        protocol: key.protocol.map(Into::into),
        left: template.expires(now).remaining(now).as_duration(),
        state: template.state_word(),
        client: at(key.client, L4Port(0)),
        vip: at(key.vip, vip_port),
        real: SocketAddr::new(real, real_port.0),
    });
}
