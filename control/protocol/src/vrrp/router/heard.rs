//! What one virtual router makes of the adverts that it hears, and what it remembers of who sent them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_dataplane::id::Mac;
use shunt_model::vrrp::Instance;
use shunt_model::vrrp::PRIORITY_OWNER;
use shunt_model::vrrp::Role;

use super::super::message::{Heard, Past};
use super::super::output::{Cause, Counters, Event, Output, Rival};
use super::super::refusal::{Complaint, Refusal, Vips};
use super::super::{COMPLAINT_INTERVAL, COMPLAINTS_MAX, PEERS_MAX, PRIORITY_STOP};
use super::{Router, State};

#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) priority: Option<u8>,
    /// Between two of its adverts, as it told it.
    pub(super) interval: Option<Duration>,
    pub(super) heard: Instant,
    /// Its last advert that was heeded.
    pub(super) heeded: Option<Instant>,
    /// Its MAC, and for how long it and this director may both be masters.
    pub(super) partner: Option<(Mac, Duration)>,
    pub(super) received: u64,
    pub(super) sequence: Option<u32>,
    /// The sequence number of the last trailer that was believed.
    pub(super) trailer: Option<u64>,
    pub(super) refused: Option<Refusal>,
    pub(super) complaint: Option<Complaint>,
    pub(super) complained: Option<Instant>,
}

/// How many complaints were told lately: whoever sends forged adverts does not fill the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Complaints {
    pub(super) since: Option<Instant>,
    pub(super) count: u32,
}

impl Complaints {
    /// Whether one more may be told.
    fn one_more(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + COMPLAINT_INTERVAL) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= COMPLAINTS_MAX
    }
}

impl Router {
    /// An advert for this virtual router; tells why it has to become a backup, if it has to.
    pub(in super::super) fn heard(
        &mut self,
        now: Instant,
        heard: &Heard,
        counters: &mut Counters,
        out: &mut Vec<Output>,
    ) -> Option<(IpAddr, u8)> {
        let from = heard.source;
        let peer = self.peers.get(&from);
        let header = peer.and_then(|peer| {
            // One that was silent for so long may have begun anew.
            let silence = self.settings.master_down(self.priority, self.settings.interval);
            peer.sequence.filter(|_| peer.heeded.is_some_and(|heeded| now < heeded + silence))
        });
        let unix = self.time_of_day.at(now);
        let past = Past { header, trailer: peer.and_then(|peer| peer.trailer), unix };
        if let Err(refusal) = heard.check(&self.settings, &past).and_then(|()| self.check_addresses(heard)) {
            counters.refused += 1;
            self.refuse(now, heard, refusal, out);
            return None;
        }
        counters.received += 1;
        self.sequence = self.sequence.max(heard.sequence().unwrap_or(0));
        let gap = self.meet(now, heard, out);
        let priority = heard.advert.priority;
        match &mut self.state {
            State::Fault => None,
            State::Backup(backup) => {
                if priority == PRIORITY_STOP {
                    (backup.heard, backup.resigned) = (now, true);
                    backup.master = Some((from, backup.master.map_or(0, |(_, priority)| priority)));
                    backup.waits = false;
                    return None;
                }
                let of_master = backup.master.is_some_and(|(master, _)| master == from);
                backup.master = Some((from, priority));
                match self.settings.preempt {
                    Some(after) if priority < self.priority => {
                        if after.is_zero() {
                            return None;
                        }
                        backup.preempt.get_or_insert(now + after);
                    }
                    _ => backup.preempt = None,
                }
                (backup.heard, backup.resigned, backup.waits, backup.listens) = (now, false, false, None);
                backup.interval = Some(heard.advert.interval);
                let warn = self.settings.warn_after;
                if of_master && !warn.is_zero() && gap > warn {
                    let name = self.settings.name.clone();
                    out.push(Output::Event(Event::Late { name, from, gap }));
                }
                None
            }
            State::Master(_) if priority == PRIORITY_STOP => {
                self.advertise(now, out);
                None
            }
            State::Master(_) if (priority, from) > (self.priority, self.settings.source) => {
                Some((from, priority))
            }
            State::Master(master) => {
                // So that it gives way at once, and whoever believed it learns better.
                if !std::mem::replace(&mut master.answered, true) {
                    self.send(now, self.priority, out);
                    self.announcements.again(now, &self.settings.announcing, &self.vips);
                    if let Some(script) = &self.settings.notify.lower_priority {
                        let (name, scripts) = (self.settings.name.clone(), vec![script.clone()]);
                        out.push(Output::Event(Event::LowerPriority { name, from, priority, scripts }));
                    }
                }
                self.notice(now, Rival::Director(from), Cause::NotHeard, out);
                None
            }
        }
    }

    /// Whether it tells the VIPs of this virtual router. keepalived refuses other ones, too: whoever heeded the adverts of another cluster that
    /// has the same number would leave the VIPs to nobody. A master that is followed may have been changed first, or last:
    /// it goes on as long as one of the VIPs is its own (as with keepalived's `vrrp_skip_check_adv_addr`).
    fn check_addresses(&self, heard: &Heard) -> Result<(), Refusal> {
        let ours = &self.settings.addresses;
        let followed = match &self.state {
            State::Backup(backup) => backup.master.is_some_and(|(master, _)| master == heard.source),
            State::Fault | State::Master(_) => false,
        };
        if heard.advert.tells(ours) || followed && heard.advert.tells_any(ours) {
            return Ok(());
        }
        Err(Refusal::Addresses { theirs: Vips::of(&heard.advert.addresses), ours: Vips::of(ours) })
    }

    /// An advert from the address of this director: its own one that comes back, or that of a host that has the same address.
    pub(in super::super) fn heard_itself(
        &mut self,
        now: Instant,
        heard: &Heard,
        nic: Mac,
        counters: &mut Counters,
        out: &mut Vec<Output>,
    ) {
        // All directors of a virtual router have its virtual MAC, but only who speaks hears itself.
        let lately = self.spoke.is_some_and(|spoke| now < spoke + self.settings.interval);
        let is_virtual = self.settings.virtual_mac.is_some_and(|virtual_mac| virtual_mac.mac == heard.sender);
        if heard.sender == nic || is_virtual && lately {
            counters.looped += 1;
            return;
        }
        counters.refused += 1;
        self.refuse(now, heard, Refusal::OwnAddress(heard.sender), out);
    }

    /// Learns of a director by its advert; tells how long its last one is ago.
    fn meet(&mut self, now: Instant, heard: &Heard, out: &mut Vec<Output>) -> Duration {
        let complaint = self.complaint(now, heard);
        let (nic, patience) = (self.settings.nic, self.patience(Some(heard.advert.interval)));
        let peer = self.peer(now, heard.source);
        let gap = peer.heeded.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        (peer.heard, peer.heeded, peer.refused) = (now, Some(now), None);
        peer.priority = Some(heard.advert.priority);
        peer.interval = Some(heard.advert.interval);
        peer.sequence = heard.sequence();
        peer.trailer = heard.trailer().map(|trailer| trailer.sequence).or(peer.trailer);
        peer.received += 1;
        let partner = Some((heard.sender, patience));
        if std::mem::replace(&mut peer.partner, partner) != partner {
            out.push(Output::Partner { nic, mac: heard.sender, patience });
        }
        let before = std::mem::replace(&mut peer.complaint, complaint);
        if let Some(complaint) = complaint
            && self.complains(
                now,
                heard.source,
                before.map(|one| std::mem::discriminant(&one)) != Some(std::mem::discriminant(&complaint)),
            )
        {
            let (name, from) = (self.settings.name.clone(), heard.source);
            out.push(Output::Event(Event::Odd { name, from, complaint }));
        }
        gap
    }

    /// What is wrong with an advert that is heeded.
    fn complaint(&self, now: Instant, heard: &Heard) -> Option<Complaint> {
        let advert = &heard.advert;
        let Instance { addresses, interval, .. } = &self.settings;
        let believed = self.settings.master_interval(Some(advert.interval));
        if !advert.tells(addresses) {
            let (theirs, ours) = (Vips::of(&advert.addresses), Vips::of(addresses));
            return Some(Complaint::Addresses { theirs, ours });
        }
        if (advert.priority, self.priority) == (PRIORITY_OWNER, PRIORITY_OWNER) {
            return Some(Complaint::TwoOwners);
        }
        let window = self.settings.auth.hmac().and_then(|hmac| hmac.window(*interval));
        if let (Some(trailer), Some(window)) = (heard.trailer(), window) {
            let behind = trailer.behind(self.time_of_day.at(now));
            if behind.unsigned_abs() > u32::from(window / 2) {
                return Some(Complaint::Clock { behind, window });
            }
        }
        (believed < advert.interval).then_some(Complaint::Interval {
            theirs: advert.interval,
            believed,
            ours: *interval,
        })
    }

    /// Whether it is time to complain about a director that is known: what is `new`, or was told long ago.
    fn complains(&mut self, now: Instant, about: IpAddr, new: bool) -> bool {
        let Some(peer) = self.peers.get_mut(&about) else { return false };
        let due = new || peer.complained.is_none_or(|last| now >= last + COMPLAINT_INTERVAL);
        let tells = due && self.complaints.one_more(now);
        if tells {
            peer.complained = Some(now);
        }
        tells
    }

    fn refuse(&mut self, now: Instant, heard: &Heard, refusal: Refusal, out: &mut Vec<Output>) {
        let (name, from) = (self.settings.name.clone(), heard.source);
        *self.refused.entry(refusal.word()).or_default() += 1;
        let peer = self.peer(now, from);
        let before = peer.refused.replace(refusal);
        peer.heard = now;
        if self.complains(now, from, before.map(Refusal::word) != Some(refusal.word())) {
            out.push(Output::Event(Event::Refused { name, from, refusal }));
        }
        // Another cluster with VIPs of its own is no rival.
        if self.role() == Role::Master && heard.advert.tells_any(&self.vips) {
            let rival = match refusal {
                Refusal::OwnAddress(mac) => Rival::Host(mac),
                _ => Rival::Director(from),
            };
            self.notice(now, rival, Cause::Refused(refusal), out);
        }
    }

    /// Another host answers for a VIP.
    pub(in super::super) fn notice(
        &mut self,
        now: Instant,
        rival: Rival,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        let theirs = match rival {
            Rival::Director(who) => self.peers.get(&who).and_then(|peer| peer.interval),
            Rival::Host(_) => None,
        };
        let patience = self.patience(theirs);
        let event = self.rivalry.notice(now, (rival, cause), patience, &self.settings.name);
        out.extend(event.map(Output::Event));
    }

    /// For how long this director and one of this interval may both be masters until they agree: the slower one decides.
    fn patience(&self, theirs: Option<Duration>) -> Duration {
        let interval = self.settings.master_interval(theirs).max(self.settings.interval);
        self.settings.master_down(self.priority, interval)
    }

    fn peer(&mut self, now: Instant, address: IpAddr) -> &mut Peer {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&address) {
            // Whoever forges adverts does not push out those that are heeded.
            let least = |(_, peer): &(&IpAddr, &Peer)| (peer.heeded.is_some(), peer.heard);
            let oldest = self.peers.iter().min_by_key(least).map(|(&address, _)| address);
            oldest.map(|address| self.peers.remove(&address));
        }
        let new = Peer {
            priority: None,
            interval: None,
            heard: now,
            heeded: None,
            partner: None,
            received: 0,
            sequence: None,
            trailer: None,
            refused: None,
            complaint: None,
            complained: None,
        };
        self.peers.entry(address).or_insert(new)
    }
}
