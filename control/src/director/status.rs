//! What `status` answers: the view, the counters, and what an operator should do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dpdk_sys::NumaNode;
use shunt_config;
use shunt_config::MTU_DEFAULT;
use shunt_config::check::packets::RX_DESCRIPTORS;
use shunt_config::device::Device;
use shunt_dataplane::counters::{Counter, NicCell, RealCell};
use shunt_dataplane::id::NicId;
use shunt_dataplane::reason::{DropReason, PuntReason};
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::{Real as CompiledReal, Standing, Way};
use shunt_dataplane::time::Tick;
use shunt_dataplane::worker::{ANSWER_RING_MAX, INJECT_RING_MAX, PUNT_RING_MAX};
use shunt_model::health::RealKey;
use shunt_protocol::health::Listed;
use shunt_protocol::neighbour;
use shunt_protocol::neighbour::{INCOMPLETE_PER_NIC_MAX, WAITING_MAX};

use super::core::View;
use super::links::NicNow;
use super::live::{Live, lock};
use super::workers::HAND_OVER_RING_MAX;
use super::{status_neighbours, status_vrrp, tables};
use crate::api::Status;
use crate::api::status::{
    Books, Cost, Evidence, LateThread, Limit, Masquerade, Nic, Notified, Quorum, Real, RealState, Service,
    Vip, Worker,
};
use crate::control_loop::{CHECKS_WAITING_MAX, OWN_WAITING_MAX, RELEASED_MAX, Report};
use crate::links::NicLink;
use crate::notify::{Condition, Holding, Notifier};
use crate::publish::schedule::Place;
use crate::threads;

/// The name of the limit of a NIC's receive queues, behind the NIC's.
const RECEIVE_QUEUES: &str = "receive queues";

/// How long other threads may take to say what they know.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Everything about now.
pub(super) fn status(live: &Live) -> Status {
    let view = live.view.load_full();
    let asked = live.with_parts(|parts| (parts.control.asker(), parts.health.asker()));
    // At the end there is nobody to ask.
    let (mut report, mut health) = (Some(Report::default()), Some(Vec::new()));
    if let Some((control, checks)) = asked {
        report = control.report(ANSWER_MAX);
        health = checks.map_or(health, |checks| checks.list(ANSWER_MAX));
    }
    let unanswered = [("shunt-neighbours", report.is_none()), ("shunt-health", health.is_none())];
    let unanswered = unanswered.iter().filter(|(_, silent)| *silent).map(|(name, _)| (*name).to_owned());
    let unanswered: Vec<String> = unanswered.collect();
    let role = report.as_ref().map_or("unknown", |report| status_vrrp::role(&report.vrrp)).to_owned();
    let (report, health) = (report.unwrap_or_default(), health.unwrap_or_default());
    let late: Vec<LateThread> = threads::late()
        .into_iter()
        .map(|(name, silent)| LateThread { name, silent_ms: silent.as_millis() as u64 })
        .collect();
    let nics: Vec<Nic> = (0..view.config.nics.len()).map(|place| nic(live, &view, place)).collect();
    let limits = limits(live, &view, &nics, &report);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        role,
        packet_memory_node: live.node.map(|node| node.0),
        uptime: live.started.elapsed().as_secs(),
        file: live.file.display().to_string(),
        generation: view.snapshot.generation.0,
        vips: vips(&view),
        vrrp: status_vrrp::routers(live, &view, &report.vrrp),
        vrrp_counters: status_vrrp::counters(&report.vrrp),
        workers: (0..live.workers.len()).map(|place| worker(live, &view, place)).collect(),
        services: services(&view, health, Tick::at(live.clock.now())),
        neighbours: status_neighbours::table(&view, &report),
        conflicts: status_neighbours::conflicts(&view, &report),
        without_way: report.counters.without_way,
        masquerades: view.snapshot.reals.iter().flatten().filter_map(masquerade).collect(),
        not_in_file: live.not_in_file().list.iter().map(ToString::to_string).collect(),
        notified: {
            let report = live.with_parts(|parts| parts.notifier.report()).unwrap_or_default();
            Notified { told: report.told, lost: report.lost, failed: report.failed }
        },
        books: Books::total(live.workers.iter().map(|worker| &*worker.counters), held_max(live)),
        advice: threads_advice(&late, &unanswered)
            .into_iter()
            .chain(advice(live, &view, &nics, &limits, &report))
            .collect(),
        late,
        unanswered,
        limits,
        nics,
    }
}

/// The VIPs and whether they are here; those of one link with it, as RFC 4007, 11 writes them.
fn vips(view: &View) -> Vec<Vip> {
    let everywhere = view.config.vips().into_iter().map(|vip| (NicId::default(), vip, vip.to_string()));
    let name = |nic: NicId| view.config.nics.get(nic.index()).map_or("", |nic| nic.name.as_str());
    let of_links = view.config.link_vips().map(|(nic, vip)| (nic, vip, format!("{vip}%{}", name(nic))));
    let shown = |(nic, vip, address)| Vip { address, owned: !view.snapshot.is_elsewhere(nic, vip) };
    everywhere.chain(of_links).map(shown).collect()
}

/// Threads that do not go on.
fn threads_advice(late: &[LateThread], unanswered: &[String]) -> Vec<String> {
    let late = late.iter().map(|thread| {
        format!(
            "thread {} has not gone on for {} ms: clients may be without an answer: the log says what it does, and the director ends when it \
             does not come back",
            thread.name, thread.silent_ms
        )
    });
    let unanswered = unanswered.iter().map(|name| {
        format!("thread {name} did not answer within {ANSWER_MAX:?}: what it knows is not shown here")
    });
    late.chain(unanswered).collect()
}

/// All services; each real server is found by its key, since there may be very many.
fn services(view: &View, health: Vec<Listed>, now: Tick) -> Vec<Service> {
    let health = health.into_iter().map(|listed| (listed.key, listed)).collect();
    let known = Known { health, compiled: RealKey::all(&view.snapshot).collect(), now };
    view.config.services.iter().map(|of| service(view, of, &known)).collect()
}

/// What is known of real servers beside the configuration.
struct Known<'a> {
    health: HashMap<RealKey, Listed>,
    /// As the workers have them.
    compiled: HashMap<RealKey, &'a CompiledReal>,
    /// The time on the workers' clock.
    now: Tick,
}

/// What rings and bursts of all workers can hold together.
fn held_max(live: &Live) -> u64 {
    let bursts = (live.nics.len() + live.workers.len() + 1) * dpdk_sys::BURST;
    (live.workers.len() * (bursts + HAND_OVER_RING_MAX as usize)) as u64
}

fn nic(live: &Live, view: &View, place: usize) -> Nic {
    let configured = &view.config.nics[place];
    let open = live.nics.get(place).map(lock);
    let open = open.as_ref().and_then(|open| open.as_ref());
    let (mac, statistics, link) = match open {
        None => (String::new(), None, None),
        Some(nic) => (
            lock(&live.links).macs().get(place).map(ToString::to_string).unwrap_or_default(),
            nic.statistics().ok(),
            nic.link().map(|link| link.up),
        ),
    };
    let now = lock(&live.links).nics.get(place).cloned();
    let known = now.as_ref().map(|now| now.link.clone());
    // Where nobody knows, not even the driver, packets are sent all the same.
    let is_known = |known: &&NicLink| {
        link.is_some() || !known.state.is_up() || configured.device.kernel_interface().is_some()
    };
    let link = known.as_ref().filter(is_known);
    let link = link.map(|link| link.state.is_up());
    let statistics = statistics.unwrap_or_default();
    let joins_fragments = open.is_some_and(dpdk_sys::Nic::joins_fragments);
    let offer = open.map(dpdk_sys::Nic::offer);
    let placement = offer.map_or(("", ""), |offer| super::placement::of(offer, live.workers.len()));
    let sum = |field: fn(&NicCell) -> &shunt_dataplane::counters::Counter| {
        let cells = live.workers.iter().filter_map(|worker| worker.counters.nics.get(place));
        cells.map(|cell| field(cell).get()).sum()
    };
    Nic {
        name: configured.name.clone(),
        device: configured.device.to_string(),
        mac,
        link: link.map_or("unknown", |up| if up { "up" } else { "down" }).to_owned(),
        link_reason: known.as_ref().and_then(NicLink::reason),
        mtu: now.as_ref().map_or(MTU_DEFAULT, NicNow::mtu),
        addresses: configured.addresses.iter().map(ToString::to_string).collect(),
        queues: live.workers.len() as u16,
        numa_node: open.and_then(dpdk_sys::Nic::numa_node).map(|node| node.0),
        placement: placement.0.to_owned(),
        placement_reason: placement.1.to_owned(),
        received: statistics.received_packets,
        sent: statistics.sent_packets,
        missed: statistics.missed,
        errors: statistics.receive_errors + statistics.send_errors,
        no_buffer: statistics.no_mbuf,
        checksum_not_filled: sum(|cell| &cell.checksum_not_filled),
        offloaded: sum(|cell| &cell.offloaded),
        joins_fragments,
    }
}

fn worker(live: &Live, view: &View, place: usize) -> Worker {
    let shared = &live.workers[place];
    let [v4, v6] = shared.connections();
    let core = view.config.runtime.workers.get(place).copied().unwrap_or_default();
    Worker {
        id: place as u8,
        core,
        numa_node: super::placement::node_of_core(core).map(|node| node.0),
        generation: shared.acknowledged().0,
        connections: v4 + v6,
        capacity: 2 * u64::from(view.config.runtime.connections),
        cost: Cost {
            cycles_per_second: live.clock.cycles_per_second(),
            cycles: live.clock.cycles(live.clock.now()),
            connections: [v4, v6],
            capacity: view.config.runtime.connections.into(),
            ..Cost::of(&shared.cost)
        },
        ..Worker::of(&shared.counters)
    }
}

fn service(view: &View, of: &shunt_config::Service, known: &Known<'_>) -> Service {
    let places = of.reals.iter().zip(view.state.schedule(of));
    let pool = &of.pool;
    let sorry = view.state.is_sorry(of);
    let quorum = Quorum {
        quorum: pool.quorum,
        hysteresis: pool.hysteresis,
        weight: view.state.living_weight(of),
        held: !view.state.lost.contains(&of.key()),
    };
    let sorry_server = pool.sorry_server.as_deref().map(|server| Real {
        address: server.address.to_string(),
        forward: server.method.to_string(),
        weight: server.weight,
        state: if sorry { RealState::Serving } else { RealState::Resting },
        ..reached(view, of, server, known)
    });
    Service {
        name: of.name.clone(),
        listen: Mark::of(of.listen).map_or_else(|| of.listen.to_string(), |mark| mark.to_string()),
        protocol: Mark::of(of.listen).map_or_else(|| of.protocol.to_string(), |_| "fwm".to_owned()),
        scheduler: of.scheduler.to_string(),
        reals: places.map(|(of_real, place)| real(view, of, of_real, place, known)).collect(),
        quorum,
        sorry_server,
    }
}

fn real(
    view: &View,
    service: &shunt_config::Service,
    real: &shunt_config::Real,
    place: Place,
    known: &Known<'_>,
) -> Real {
    let key = service.real_key(real.address);
    let listed = known.health.get(&key);
    let verdict = view.state.verdict(&key);
    // What the workers run counts, not what the check found a moment ago.
    let state = match listed {
        None => RealState::Unchecked,
        Some(listed) if listed.last.is_none() => RealState::Checking,
        Some(_) if !verdict.up => RealState::Down,
        Some(listed) if !listed.checked => RealState::Unchecked,
        Some(_) => RealState::Up,
    };
    let said = listed.and_then(|listed| listed.last.clone());
    let because = place.because.map(|because| because.words().to_owned());
    Real {
        address: real.address.to_string(),
        forward: real.method.to_string(),
        weight: place.weight,
        state,
        since: listed.map_or_else(
            || view.loaded.elapsed().unwrap_or_default().as_secs(),
            |listed| Instant::now().saturating_duration_since(listed.since).as_secs(),
        ),
        reason: match (said, because) {
            (Some(said), Some(because)) => Some(format!("{said}; {because}")),
            (said, because) => said.or(because),
        },
        ..reached(view, service, real, known)
    }
}

/// The way to a real server, and what was counted on it.
fn reached(
    view: &View,
    service: &shunt_config::Service,
    real: &shunt_config::Real,
    known: &Known<'_>,
) -> Real {
    let compiled = known.compiled.get(&service.real_key(real.address));
    let next_hop = match compiled.map(|compiled| compiled.way) {
        Some(Way::None) if view.snapshot.is_elsewhere(NicId::default(), service.listen.ip()) => {
            "backup".to_owned()
        }
        Some(Way::Known(hop)) => {
            let nic = view.config.nics.get(hop.nic.index()).map_or("?", |nic| nic.name.as_str());
            format!("{nic} {}", hop.macs.destination())
        }
        Some(Way::Local) => "the director".to_owned(),
        Some(Way::Unresolved(_)) => "unresolved".to_owned(),
        Some(Way::None) | None => "no route".to_owned(),
    };
    let shown = Real { next_hop, ..Real::default() };
    match compiled {
        Some(compiled) => {
            let evidence = Evidence::of(&compiled.counters, known.now);
            Real { evidence, ..shown.counted(&compiled.counters) }
        }
        None => shown,
    }
}

/// What an address counts that hosts are masqueraded by.
fn masquerade(real: &shunt_dataplane::service::Real) -> Option<Masquerade> {
    let sum = |field: fn(&RealCell) -> &Counter| real.counters.sum(field);
    (real.is_masquerade() && real.standing != Standing::Removed).then(|| Masquerade {
        address: real.address.to_string(),
        connections: real.counters.connections(),
        connections_total: sum(|cell| &cell.connections),
        packets_out: sum(|cell| &cell.packets_out),
        packets_in: sum(|cell| &cell.packets_in),
        bytes_out: sum(|cell| &cell.bytes_out),
        bytes_in: sum(|cell| &cell.bytes_in),
    })
}

/// How long a table or queue has to have had room before it is said that it is not full any more.
const ROOM: Duration = Duration::from_secs(10);

/// Which limits were hit, and when.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    /// How often each was, and when that grew last.
    known: HashMap<String, (u64, Option<Instant>)>,
}

impl Fullness {
    /// Tells which limits begin to be hit, and which are not hit any more.
    pub(super) fn look(&mut self, now: Instant, limits: &[Limit], notifier: &Notifier) {
        for Limit { name, used, most, refused, reclaimed } in limits {
            let (before, hit) = self.known.entry(name.clone()).or_default();
            let hits = refused + reclaimed;
            if hits > *before {
                *hit = Some(now);
                let given_up = match reclaimed {
                    0 => String::new(),
                    _ => format!(" and {reclaimed} were given up for others"),
                };
                notifier.begin(
                    Condition::Full,
                    name,
                    format!(
                        "{name}: full: {used} of {most} are used, {refused} found no room{given_up} since the start: see `shunt status` \
                         and `shunt drops`"
                    ),
                );
            } else if hit.is_some_and(|hit| now.duration_since(hit) >= ROOM) {
                *hit = None;
                notifier.end(Condition::Full, name, format!("{name}: there is room again"));
            }
            *before = hits;
        }
    }
}

/// The limits as they are now, without what only a full report knows: how much of the neighbours' is used.
pub(super) fn limits_now(live: &Live, counted: &Report) -> Vec<Limit> {
    let view = live.view.load_full();
    let nics: Vec<Nic> = (0..view.config.nics.len()).map(|place| nic(live, &view, place)).collect();
    limits(live, &view, &nics, counted)
}

fn limits(live: &Live, view: &View, nics: &[Nic], report: &Report) -> Vec<Limit> {
    let capacity = u64::from(view.config.runtime.connections);
    let workers = live.workers.iter().enumerate();
    let mut limits: Vec<Limit> =
        workers.flat_map(|(number, worker)| tables::limits(number, worker, capacity)).collect();
    for (number, worker) in live.workers.iter().enumerate() {
        limits.extend(tables::of_fragments(number, worker));
    }
    let mut limit = |name: String, used: u64, most: u64, refused: u64| {
        limits.push(Limit { name, used, most, refused, reclaimed: 0 });
    };
    for (number, worker) in live.workers.iter().enumerate() {
        let dropped = |reason: DropReason| worker.counters.dropped.at(reason as usize).get();
        limit(format!("worker {number} punt ring"), 0, PUNT_RING_MAX as u64, dropped(DropReason::PuntFull));
        let full = dropped(DropReason::HandOverFull);
        limit(format!("worker {number} hand-over ring"), 0, u64::from(HAND_OVER_RING_MAX), full);
    }
    let buffers = (u64::from(live.pool.in_use()), u64::from(live.pool.capacity()));
    let none_left = nics.iter().map(|nic| nic.no_buffer).sum();
    limit("packet buffers".into(), buffers.0, buffers.1, none_left);
    let (neighbours, counters) = (report.neighbour_counters, report.counters);
    let most = u64::from(view.config.runtime.neighbours);
    limit("neighbours".into(), strangers(report, true), most, neighbours.table_full);
    let (asked, most) = (strangers(report, false), INCOMPLETE_PER_NIC_MAX as u64);
    limit("neighbours that have not answered".into(), asked, most, neighbours.asked_full);
    let waiting = report.neighbours.iter().map(|listed| listed.waiting as u64).sum();
    limit("packets waiting for a neighbour".into(), waiting, WAITING_MAX as u64, neighbours.waiting_full);
    let (checks, full) = (report.checks_waiting as u64, counters.checks_full);
    limit("frames of checks waiting for a neighbour".into(), checks, CHECKS_WAITING_MAX as u64, full);
    let (own, full) = (report.own_waiting as u64, counters.own_full);
    limit("frames of the kernel side waiting for a neighbour".into(), own, OWN_WAITING_MAX as u64, full);
    let released = (report.held as u64).saturating_sub(waiting);
    limit("packets waiting for a publication".into(), released, RELEASED_MAX as u64, counters.release_full);
    limit("inject rings".into(), 0, INJECT_RING_MAX as u64, counters.transmit_full);
    limit("answer rings".into(), 0, ANSWER_RING_MAX as u64, 0);
    for (nic, configured) in nics.iter().zip(&view.config.nics) {
        // How much of it is used is not to be had of drivers.
        if let Some(missed) = nic.missed {
            let room = configured.device.frames_held().unwrap_or(RX_DESCRIPTORS.into()) as u64;
            limit(format!("nic \"{}\" {RECEIVE_QUEUES}", nic.name), 0, room * u64::from(nic.queues), missed);
        }
    }
    limits
}

/// Neighbours that the configuration does not name, with or without a known MAC, of the NIC that has most.
fn strangers(report: &Report, known: bool) -> u64 {
    let mut of_nics = [0; 1 << u8::BITS];
    let strangers = report
        .neighbours
        .iter()
        .filter(|one| one.named.is_none() && one.standing != neighbour::Standing::Static);
    strangers.filter(|one| one.mac.is_some() == known).for_each(|one| of_nics[one.nic.index()] += 1);
    of_nics.into_iter().max().unwrap_or_default()
}

/// What an operator should do, one line each.
fn advice(live: &Live, view: &View, nics: &[Nic], limits: &[Limit], report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for nic in nics {
        let name = &nic.name;
        let device = Device::parse(&nic.device).ok().filter(|_| nic.device.starts_with("net_af_packet"));
        let interface = device.as_ref().and_then(Device::interface);
        let instead =
            interface.map_or_else(String::new, |of| format!(", or set device = \"af_packet:{of}\""));
        if nic.checksum_not_filled > 0 {
            lines.push(format!(
                "nic \"{name}\": {} connections began with a checksum that the sender left to its NIC: receivers drop such packets: run `ethtool -K PEER tx off` on the other end of {}{instead}",
                nic.checksum_not_filled, nic.device
            ));
        }
        if nic.offloaded > 0 {
            lines.push(format!(
                "nic \"{name}\": {} frames were cut short or larger than the MTU, by segmentation offload: those cut short were dropped, the others go on in fragments, or their senders are told that they are too big: run `ethtool -K PEER tso off gso off gro off` on the other end of {}{instead}",
                nic.offloaded, nic.device
            ));
        }
        if nic.joins_fragments {
            lines.push(format!(
                "nic \"{name}\": the kernel joins IPv4 fragments before {} gets them, and cuts them off: this version of DPDK has packet sockets that the \
                 director does not know: fragmented datagrams are lost",
                nic.device
            ));
        }
        if nic.link == "down" {
            let known = lock(&live.links);
            let known =
                known.nics.iter().zip(nics).find(|(_, of)| of.name == *name).map(|(now, _)| &now.link);
            let advice = known.and_then(|known| known.advice(&nic.device)).unwrap_or_default();
            let reason = nic.link_reason.as_deref().unwrap_or_default();
            lines.push(format!("nic \"{name}\": the link is down: {reason}: {advice}"));
        }
    }
    let known = lock(&live.links);
    let differing = view.config.nics.iter().zip(&known.nics);
    lines.extend(differing.filter_map(|(nic, now)| now.mtu_advice(nic)));
    drop(known);
    lines.extend(lock(&live.links).held.iter().map(ToString::to_string));
    lines.extend(status_vrrp::advice(&report.vrrp));
    for nic in nics {
        let node = nic.numa_node.map(NumaNode);
        for core in &view.config.runtime.workers {
            let of_core = super::placement::node_of_core(*core);
            lines.extend(super::placement::advice(&nic.name, node, *core, of_core));
        }
    }
    // Links are above as they are now, neighbours and tables that were full once below.
    let told = |holding: &Holding| !matches!(holding.condition, Condition::NeighbourSilent | Condition::Full);
    let holding = live.with_parts(|parts| parts.notifier.holding()).unwrap_or_default();
    lines.extend(holding.into_iter().filter(told).map(|holding| holding.text));
    for listed in report.neighbours.iter().filter(|listed| listed.named.is_some() && listed.mac.is_none()) {
        let nic = view.config.nics.get(listed.nic.index()).map_or("?", |nic| nic.name.as_str());
        lines.push(format!(
            "{} does not answer on nic \"{nic}\": packets to it are dropped: check that it is up and in that network",
            listed.address
        ));
    }
    let ports = DropReason::MasqueradePorts as usize;
    let without: u64 = live.workers.iter().map(|worker| worker.counters.dropped.at(ports).get()).sum();
    if without > 0 {
        lines.push(format!(
            "masquerade: {without} packets began a connection and found no free port: masquerade by more than one address"
        ));
    }
    for limit in limits.iter().filter(|limit| limit.refused > 0) {
        let see = match limit.name.ends_with(RECEIVE_QUEUES) {
            true => {
                "these packets were lost before a worker fetched them: if that goes on, give the director more or less shared cores \
                 (`shunt status --workers` tells how busy they are), or a NIC with a driver of DPDK instead of the kernel's"
            }
            false => "see `shunt drops`",
        };
        lines.push(format!("{}: full {} times: {see}", limit.name, limit.refused));
    }
    let unresolved = PuntReason::Unresolved as usize;
    let waited: u64 = live.workers.iter().map(|worker| worker.counters.punted.at(unresolved).get()).sum();
    let lost = report.neighbour_counters.unresolved;
    if lost > 0 {
        lines.push(format!(
            "{lost} of {waited} packets that waited for a neighbour were dropped: it did not answer"
        ));
    }
    let without_way = report.counters.without_way;
    if without_way > 0 {
        lines.push(format!(
            "{without_way} frames of checks by their service's way were dropped: their real server, or the router to it, did not answer for its \
             address, or its tunnel takes no packets of that size: see `shunt neighbours`"
        ));
    }
    if !live.hugepages && view.config.runtime.hugepages == shunt_config::Hugepages::Auto {
        lines.push(
            "packet memory is in ordinary pages, which costs rate: reserve hugepages (vm.nr_hugepages) and restart".into(),
        );
    }
    lines
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
