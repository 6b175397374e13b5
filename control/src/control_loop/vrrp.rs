//! VRRP in the loop: what the machine says is carried out, and the VIPs of masters are the neighbour machine's.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use shunt_dataplane::address::Family;
use shunt_dataplane::forward::Punt;
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::wire::{ethernet, vrrp as wire};
use shunt_dataplane::worker::Ticket;
use shunt_model::vrrp::{Group, Instance, Reading, Tracked};
use shunt_protocol::neighbour::message::{Speaker, announcement};
use shunt_protocol::neighbour::{Nic, Vip};
use shunt_protocol::vrrp::{Due, Listed, Machine, Output, To};

use super::virtual_mac::{Incoming, VirtualMacs};
use super::{ControlLoop, Publish, Rings};
use crate::punt::{Frame as _, Held, Punted};

/// The priority of the loop among real-time threads, where the system allows one: above none but ordinary ones.
const REAL_TIME_PRIORITY: u8 = 10;

/// Adverts that are on their way out at once: those of all virtual routers that a NIC can have.
pub(super) const DEPARTURES_MAX: usize = 256;

/// The shortest sleep of the machine that matters: its two clocks are read one after the other.
const SLEEP_MIN: Duration = Duration::from_millis(10);

/// What the loop keeps for VRRP.
#[derive(Default)]
pub(super) struct Vrrp {
    pub machine: Machine,
    pub outputs: Vec<Output>,
    /// NICs and VIPs of no virtual router, as the configuration has them.
    pub nics: Vec<Nic>,
    pub plain: Vec<Vip>,
    /// VIPs that are not at their NIC's MAC.
    pub virtual_macs: VirtualMacs,
    /// None before there was a virtual router.
    real_time: Option<Result<(), String>>,
    undeliverable: u64,
    latest: Duration,
    /// Since when it is noted whether the workers take in what lies in their queues; none while nobody wants to know.
    hearing: Option<Instant>,
    departures: Departures,
    /// How far the clock that runs while the machine sleeps is ahead of the one that does not.
    ahead: Option<Duration>,
}

/// What the loop knows of VRRP, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The virtual routers.
    pub routers: Vec<Listed>,
    /// What the machine counts.
    pub counters: shunt_protocol::vrrp::Counters,
    /// Why the loop has no real-time priority; none when it has one, or needs none.
    pub not_real_time: Option<String>,
    /// Adverts to peers whose MAC, or whose router's, is not known.
    pub undeliverable: u64,
    /// The most that the loop was late for something that was due.
    pub latest: Duration,
}

/// Adverts that were due and are on their way out, by their tickets. One that does not leave is forgotten in its turn.
#[derive(Default)]
pub(super) struct Departures {
    expected: VecDeque<(Ticket, Due)>,
    next: Ticket,
}

impl Departures {
    pub(super) fn expect(&mut self, due: Due) -> Ticket {
        if self.expected.len() == DEPARTURES_MAX {
            self.expected.pop_front();
        }
        let ticket = self.next;
        self.next = self.next.wrapping_add(1);
        self.expected.push_back((ticket, due));
        ticket
    }

    pub(super) fn left(&mut self, ticket: Ticket) -> Option<Due> {
        let place = self.expected.iter().position(|(expected, _)| *expected == ticket)?;
        self.expected.remove(place).map(|(_, due)| due)
    }
}

impl Vrrp {
    pub(super) fn new(now: Instant) -> Self {
        let mut vrrp = Self::default();
        vrrp.heard_until(now);
        vrrp
    }

    /// All that arrived before was given to the machine.
    pub(super) fn heard_until(&mut self, until: Instant) {
        self.machine.heard_until(until);
    }

    pub(super) fn report(&self) -> Report {
        Report {
            routers: self.machine.list(),
            counters: self.machine.counters(),
            not_real_time: self.real_time.clone().and_then(Result::err),
            undeliverable: self.undeliverable,
            latest: self.latest,
        }
    }
}

impl<R: Rings, P: Publish> ControlLoop<R, P> {
    /// The virtual routers and their groups from now on.
    pub(super) fn set_routers(&mut self, now: Instant, instances: Vec<Instance>, groups: Vec<Group>) {
        if !instances.is_empty() && self.vrrp.real_time.is_none() {
            let got = dpdk_sys::thread::real_time(REAL_TIME_PRIORITY).map_err(|error| error.to_string());
            self.vrrp.real_time = Some(got);
        }
        self.vrrp.virtual_macs = VirtualMacs::new(&instances);
        self.vrrp.machine.set(now, instances, groups, &mut self.vrrp.outputs);
    }

    pub(super) fn watched(&mut self, now: Instant, what: Tracked, reading: Reading) {
        self.vrrp.machine.watched(now, what, reading, &mut self.vrrp.outputs);
    }

    pub(super) fn refused_macs(&mut self, now: Instant, refused: BTreeSet<(NicId, Mac)>) {
        self.vrrp.machine.set_refused_macs(now, refused, &mut self.vrrp.outputs);
    }

    /// An advert that a worker handed up.
    pub(super) fn advert(&mut self, now: Instant, held: &Held<R::Packet>) {
        let nic = held.origin.nic;
        let Some(mac) = self.vrrp.nics.get(nic.index()).map(|nic| nic.mac) else { return };
        self.vrrp.machine.frame(now, nic, mac, held.packet.frame(), &mut self.vrrp.outputs);
    }

    /// Deals with what neighbours say to a virtual MAC or about one; gives back what is to be sorted as it is.
    pub(super) fn about_virtual_mac(
        &mut self,
        now: Instant,
        punted: Punted<R::Packet>,
    ) -> Option<Punted<R::Packet>> {
        let Punted { held, punt: Punt::Arp | Punt::NeighbourDiscovery } = &punted else {
            return Some(punted);
        };
        let nic = held.origin.nic;
        let Some(own) = self.vrrp.nics.get(nic.index()).map(|nic| nic.mac) else { return Some(punted) };
        match self.vrrp.virtual_macs.incoming(nic, own, held.packet.frame()) {
            Incoming::Same => return Some(punted),
            Incoming::Agreed => {}
            Incoming::Moved(frame) => self.machine.frame(now, nic, &frame, &mut self.outputs),
        }
        None
    }

    /// Another host claims an address.
    pub(super) fn claimed(&mut self, nic: NicId, address: IpAddr, other: Mac) {
        self.vrrp.machine.claimed(Instant::now(), nic, address, other, &mut self.vrrp.outputs);
    }

    /// Where a backup would take over: whether the workers ran since its wait was over, and until when all was heard, once the rings are
    /// empty.
    pub(super) fn hear(&mut self, now: Instant) -> Option<Instant> {
        let listens = self.vrrp.machine.deadline().is_some() && self.vrrp.machine.listens(now);
        match self.vrrp.hearing {
            None if listens => {
                self.vrrp.hearing = Some(now);
                self.rings.begin_hearing();
                None
            }
            Some(since) if self.rings.have_heard() => {
                self.vrrp.hearing = None;
                Some(since)
            }
            _ => None,
        }
    }

    /// Reads the clocks: the time of day, and whether the machine was asleep: what is due is counted by a clock that stood still meanwhile.
    pub(super) fn notice_sleep(&mut self, now: Instant) {
        let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
        // In this order it is never too much by what passes between the two.
        let (boot, monotonic) = (read(ClockId::CLOCK_BOOTTIME), read(ClockId::CLOCK_MONOTONIC));
        self.vrrp.machine.time_of_day(now, read(ClockId::CLOCK_REALTIME));
        let ahead = boot.saturating_sub(monotonic);
        let before = self.vrrp.ahead.replace(ahead).unwrap_or(ahead);
        let slept = ahead.saturating_sub(before);
        if slept >= SLEEP_MIN {
            self.vrrp.machine.slept(now, slept, &mut self.vrrp.outputs);
        }
    }

    /// Does what is due, and carries out what the machine said.
    pub(super) fn speak(&mut self, now: Instant) {
        if let Some(due) = self.vrrp.machine.deadline().filter(|due| *due <= now) {
            self.vrrp.latest = self.vrrp.latest.max(now - due);
            self.vrrp.machine.tick(now, &mut self.vrrp.outputs);
        }
        if self.vrrp.outputs.is_empty() {
            return;
        }
        let mut outputs = std::mem::take(&mut self.vrrp.outputs);
        let moved = outputs.contains(&Output::Moved);
        for output in outputs.drain(..) {
            match output {
                Output::Advert { nic, to, from, packet, due } => {
                    self.send_advert(nic, to, from, &packet, due)
                }
                Output::Announce { nic, address } => {
                    let own = self.vrrp.nics.get(nic.index()).map(|nic| nic.mac);
                    if let Some(mac) = self.vrrp.virtual_macs.of(nic, address).or(own) {
                        self.transmit(nic, &announcement(Speaker { mac, address }));
                    }
                }
                Output::Partner { nic, mac, patience } => self.machine.set_partner(nic, mac, patience),
                Output::Moved => {}
                Output::Event(event) => self.publish.vrrp(event),
            }
        }
        // The allocation is kept.
        self.vrrp.outputs = outputs;
        if moved {
            self.publish.owned(self.vrrp.machine.vips().collect());
            self.own(now);
        }
    }

    /// Tells the neighbour machine which VIPs are answered for.
    pub(super) fn own(&mut self, now: Instant) {
        let taken = self.vrrp.machine.vips().map(|(nic, address)| Vip { nic: Some(nic), address });
        let vips = self.vrrp.plain.iter().copied().chain(taken).collect();
        self.machine.set_owned(now, self.vrrp.nics.clone(), vips, &mut self.outputs);
        self.machine.look_for_others(now);
    }

    /// Gives the VIPs up.
    pub fn resign(&mut self, now: Instant) {
        self.vrrp.machine.stop(now, &mut self.vrrp.outputs);
        self.speak(now);
    }

    fn send_advert(&mut self, nic: NicId, to: To, from: Option<Mac>, packet: &[u8], due: Option<Due>) {
        let own = self.vrrp.nics.get(nic.index()).map(|nic| nic.mac);
        let Some(source) = from.or(own) else { return };
        let family =
            if packet.first().is_some_and(|first| first >> 4 == 6) { Family::V6 } else { Family::V4 };
        let destination = match (to, family) {
            (To::Group, Family::V4) => Some(ethernet::of_group_v4(wire::GROUP_V4)),
            (To::Group, Family::V6) => Some(ethernet::of_group_v6(wire::GROUP_V6)),
            (To::Neighbour(hop), _) => self.machine.mac((nic, hop)),
        };
        let Some(destination) = destination else {
            self.vrrp.undeliverable += 1;
            return;
        };
        let mut frame = vec![0; ethernet::HEADER];
        let kind = if family == Family::V6 { ethernet::IPV6 } else { ethernet::IPV4 };
        ethernet::write(&mut frame, destination, source, kind);
        frame.extend_from_slice(packet);
        let Some(due) = due else { return self.transmit(nic, &frame) };
        let ticket = self.vrrp.departures.expect(due);
        let sent = self.rings.transmit_timed(nic, &frame, ticket);
        self.count_transmitted(sent);
    }

    /// Takes note of when adverts that were due left.
    pub(super) fn note_departures(&mut self) {
        while let Some((ticket, at)) = self.rings.left() {
            if let Some(due) = self.vrrp.departures.left(ticket) {
                self.vrrp.machine.left(&due, at);
            }
        }
    }
}
