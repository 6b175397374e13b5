//! All virtual routers of the director and their groups.
//!
//! Frames that arrived, links, checks and `now` go in; adverts, announcements, news and who owns which VIP come out. What one
//! virtual router does by itself is in [`super::router`]; here is what several do together:
//!
//! * one in fault keeps all of its group in fault;
//! * one that has to give way takes its group along;
//! * one that wants to be master waits until all of its group want to (keepalived prefers backup, too).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_dataplane::address::Family;
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::vrrp::Role;
use shunt_model::vrrp::{Group, Instance, Key, Reading, Tracked};
use shunt_model::vrrp::{Subject, Told};

use super::message::Heard;
use super::output::{Cause, Counters, Due, Event, Listed, Output, Reason, Rival};
use super::router::Router;
use super::trailer::TimeOfDay;

/// All virtual routers.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    routers: Vec<Router>,
    groups: Vec<Group>,
    /// What is watched, and how it stands; what was not told yet counts as failing.
    watched: BTreeMap<Tracked, Reading>,
    /// Virtual MACs to which their NICs take no frames: nobody would reach a master by them.
    refused_macs: BTreeSet<(NicId, Mac)>,
    places: HashMap<Key, usize>,
    counters: Counters,
    /// The names of NICs, for reasons.
    nic_names: Vec<String>,
    /// What was told of groups, by their names.
    told: BTreeMap<String, Told>,
    /// All that arrived before was given to the machine; none: whoever feeds it says nothing about that, and it is told all at once.
    heard_until: Option<Instant>,
    time_of_day: TimeOfDay,
    stopped: bool,
}

/// Why a virtual router has to be in fault by itself.
#[derive(Clone, Debug)]
struct OwnFault {
    reason: Reason,
    /// Or nobody has looked yet.
    told: bool,
}

impl Machine {
    /// The virtual routers and groups from now on. Those that were there go on as they are; one that is gone gives its VIPs up.
    pub fn set(&mut self, now: Instant, instances: Vec<Instance>, groups: Vec<Group>, out: &mut Vec<Output>) {
        let mut before = std::mem::take(&mut self.routers);
        for settings in instances {
            let same = before.iter().position(|router| router.settings.is_same_router(&settings));
            let router = match same.map(|place| before.swap_remove(place)) {
                Some(mut router) => {
                    router.change(now, settings, out);
                    router
                }
                None => Router::new(now, settings),
            };
            self.routers.push(router);
        }
        for mut gone in before {
            gone.enter_fault(now, Reason::Removed, out);
        }
        self.told.retain(|name, _| groups.iter().any(|group| group.name == *name));
        self.groups = groups;
        self.routers.iter_mut().for_each(|router| router.time_of_day = self.time_of_day);
        let placed = self.routers.iter().enumerate().map(|(place, router)| (router.settings.key(), place));
        self.places = placed.collect();
        self.reconsider(now, out);
    }

    /// It is so long after 1970; whoever signs adverts by their time needs to know.
    pub fn time_of_day(&mut self, now: Instant, unix: Duration) {
        self.time_of_day = TimeOfDay::told(now, unix);
        self.routers.iter_mut().for_each(|router| router.time_of_day = self.time_of_day);
    }

    /// The names of NICs, by [`NicId`], as reasons have them from now on.
    pub fn name_nics(&mut self, names: Vec<String>) {
        self.nic_names = names;
    }

    /// How something that is watched stands from now on.
    pub fn watched(&mut self, now: Instant, what: Tracked, reading: Reading, out: &mut Vec<Output>) {
        if self.watched.insert(what, reading) != Some(reading) {
            self.reconsider(now, out);
        }
    }

    /// NICs take frames to all virtual MACs but these from now on.
    pub fn set_refused_macs(&mut self, now: Instant, refused: BTreeSet<(NicId, Mac)>, out: &mut Vec<Output>) {
        if self.refused_macs != refused {
            self.refused_macs = refused;
            self.reconsider(now, out);
        }
    }

    /// A frame with VRRP in it that arrived on a NIC with this MAC.
    pub fn frame(&mut self, now: Instant, nic: NicId, mac: Mac, frame: &[u8], out: &mut Vec<Output>) {
        let Some(heard) = Heard::read(frame, mac) else {
            self.counters.malformed += 1;
            return;
        };
        let key = (nic, heard.advert.vrid, Family::of(heard.source));
        let Some(&place) = self.places.get(&key) else {
            self.counters.unknown += 1;
            return;
        };
        let Some(router) = self.routers.get_mut(place).filter(|_| !self.stopped) else { return };
        if heard.source == router.settings.source {
            return router.heard_itself(now, &heard, mac, &mut self.counters, out);
        }
        let outranked = router.heard(now, &heard, &mut self.counters, out);
        if let Some((who, priority)) = outranked {
            let name = router.settings.name.clone();
            router.enter_backup(now, Some((who, priority)), Reason::Outranked(who, priority), out);
            self.take_along(now, place, &name, out);
        }
        self.tick(now, out);
    }

    /// An advert that was due left at this time.
    pub fn left(&mut self, due: &Due, at: Instant) {
        if let Some(router) = self.places.get(&due.router).and_then(|place| self.routers.get_mut(*place)) {
            router.left(due.at, at);
        }
    }

    /// The others of the group of one that gives way do so, too.
    fn take_along(&mut self, now: Instant, place: usize, name: &str, out: &mut Vec<Output>) {
        for mate in self.mates(place) {
            let router = &mut self.routers[mate];
            if router.role() == Role::Master {
                router.resign(now, out);
                router.enter_backup(now, None, Reason::Group(name.to_owned()), out);
            }
        }
    }

    /// Another host on the link answers for an address.
    pub fn claimed(&mut self, now: Instant, nic: NicId, address: IpAddr, by: Mac, out: &mut Vec<Output>) {
        for router in &mut self.routers {
            if router.role() == Role::Master && router.settings.nic == nic && router.vips().contains(&address)
            {
                router.notice(now, Rival::Host(by), Cause::NoAdverts(address), out);
            }
        }
    }

    /// Does what is due. Call it when [`Machine::deadline`] has come; calling it early does no harm.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.stopped {
            return;
        }
        let awake = |router: &mut Router| router.tick(now, &mut self.counters, out);
        let awake: Vec<bool> = self.routers.iter_mut().map(awake).collect();
        for place in (0..awake.len()).filter(|&place| awake[place]) {
            let name = self.routers[place].settings.name.clone();
            self.take_along(now, place, &name, out);
        }
        for place in 0..self.routers.len() {
            let Some(reason) = self.routers[place].wish(now, self.heard_until) else { continue };
            let mates = self.mates(place);
            let agrees = |&mate: &usize| {
                let router = &self.routers[mate];
                router.role() == Role::Master || router.wish(now, self.heard_until).is_some()
            };
            if !mates.iter().all(agrees) {
                self.routers[place].wait();
                continue;
            }
            self.routers[place].enter_master(now, reason, out);
            for mate in mates {
                if let Some(reason) = self.routers[mate].wish(now, self.heard_until) {
                    self.routers[mate].enter_master(now, reason, out);
                }
            }
        }
        // Those that became masters just now announce their VIPs at once.
        for router in &mut self.routers {
            router.tick(now, &mut self.counters, out);
        }
        self.tell_groups(out);
        self.count_sent();
    }

    /// Whether a backup would take over if it knew that all was heard that arrived by now: see [`Machine::heard_until`].
    pub fn listens(&mut self, now: Instant) -> bool {
        let Self { routers, heard_until, stopped, .. } = self;
        let listening =
            routers.iter_mut().filter_map(|router| router.listens(now, *heard_until).then_some(()));
        listening.count() > 0 && !*stopped
    }

    /// All that arrived before was given to the machine. Who says so once says so whenever [`Machine::listens`] asks.
    pub fn heard_until(&mut self, until: Instant) {
        self.heard_until = Some(self.heard_until.map_or(until, |before| before.max(until)));
    }

    /// The machine was asleep, and `now` did not go on meanwhile.
    pub fn slept(&mut self, now: Instant, slept: Duration, out: &mut Vec<Output>) {
        if self.stopped {
            return;
        }
        for router in &mut self.routers {
            router.slept(now, slept, out);
        }
        self.tick(now, out);
    }

    /// When [`Machine::tick`] has something to do next; never when nothing is pending.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        self.routers.iter().filter_map(Router::deadline).min()
    }

    /// Gives all VIPs up: masters say that they end. Nothing happens afterwards.
    pub fn stop(&mut self, now: Instant, out: &mut Vec<Output>) {
        for router in &mut self.routers {
            router.enter_fault(now, Reason::Stopped, out);
        }
        self.tell_groups(out);
        self.stopped = true;
        self.count_sent();
    }

    /// The VIPs of masters, each with the NIC that answers for it.
    pub fn vips(&self) -> impl Iterator<Item = (NicId, IpAddr)> + '_ {
        let masters = self.routers.iter().filter(|router| router.role() == Role::Master);
        masters.flat_map(|router| router.vips().iter().map(|&vip| (router.settings.nic, vip)))
    }

    /// The VIPs of all virtual routers, whoever owns them now.
    pub fn managed(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.routers.iter().flat_map(|router| router.vips().iter().copied())
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The virtual routers in the order in which they were set.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.routers.iter().map(Router::listed).collect()
    }

    /// Applies what is watched: priorities, faults, and the end of faults.
    fn reconsider(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.stopped {
            return;
        }
        let faults: Vec<Option<OwnFault>> =
            (0..self.routers.len()).map(|place| self.own_fault(place)).collect();
        for place in 0..self.routers.len() {
            let of_mate = || {
                let mate = self.mates(place).into_iter().find(|&mate| faults[mate].is_some())?;
                let reason = Reason::Group(self.routers[mate].settings.name.clone());
                Some(OwnFault { reason, told: faults[mate].as_ref()?.told })
            };
            let fault = faults[place].clone().or_else(of_mate);
            let router = &mut self.routers[place];
            router.priority = router
                .settings
                .effective_priority(|what| self.watched.get(what).copied())
                .unwrap_or(router.settings.priority);
            match fault {
                // What is still to come is no news.
                Some(fault) if !fault.told && !router.has_begun() => {}
                Some(fault) => router.enter_fault(now, fault.reason, out),
                None if router.role() == Role::Fault => router.enter_backup(now, None, Reason::Started, out),
                None => {}
            }
        }
        self.tick(now, out);
    }

    /// Why a virtual router has to be in fault by itself.
    fn own_fault(&self, place: usize) -> Option<OwnFault> {
        let settings = &self.routers[place].settings;
        let result = |what: &Tracked| self.watched.get(what).copied();
        let link = result(&Tracked::Link(settings.nic));
        if link != Some(Reading::Passes) {
            return Some(OwnFault { reason: Reason::LinkDown, told: link.is_some() });
        }
        let refused = |mac: &Mac| self.refused_macs.contains(&(settings.nic, *mac));
        if let Some(mac) = settings.virtual_mac.map(|of| of.mac).filter(refused) {
            return Some(OwnFault { reason: Reason::VirtualMac(mac), told: true });
        }
        let failing = settings.tracks.iter().find(|track| !track.allows(result(&track.what)))?;
        let reason = match &failing.what {
            Tracked::Link(nic) => {
                let name = self.nic_names.get(nic.index()).cloned().unwrap_or_else(|| nic.to_string());
                Reason::Tracked(format!("the link of NIC {name}"))
            }
            Tracked::Check(name) => Reason::Tracked(format!("the check {name}")),
        };
        Some(OwnFault { reason, told: result(&failing.what).is_some() })
    }

    /// The others of its groups.
    fn mates(&self, place: usize) -> Vec<usize> {
        let name = &self.routers[place].settings.name;
        let groups = self.groups.iter().filter(|group| group.members.contains(name));
        let members: BTreeSet<&String> = groups.flat_map(|group| &group.members).collect();
        let is_mate = |&other: &usize| other != place && members.contains(&self.routers[other].settings.name);
        (0..self.routers.len()).filter(is_mate).collect()
    }

    /// Tells what groups became, when all members have begun.
    fn tell_groups(&mut self, out: &mut Vec<Output>) {
        let Self { groups, routers, told, .. } = self;
        for group in groups {
            let is_member = |router: &&Router| group.members.contains(&router.settings.name);
            let members = || routers.iter().filter(is_member);
            if members().next().is_none() || !members().all(Router::has_begun) {
                continue;
            }
            let now = if members().all(Router::is_stopped) {
                Told::Stop
            } else if members().any(|router| router.role() == Role::Fault) {
                Told::Role(Role::Fault)
            } else if members().all(|router| router.role() == Role::Master) {
                Told::Role(Role::Master)
            } else {
                Told::Role(Role::Backup)
            };
            if told.insert(group.name.clone(), now) != Some(now) {
                let scripts = group.notify.scripts(Subject::Group(&group.name), now);
                out.push(Output::Event(Event::Group { name: group.name.clone(), told: now, scripts }));
            }
        }
    }

    fn count_sent(&mut self) {
        self.counters.sent = self.routers.iter().map(Router::sent).sum();
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulation;
