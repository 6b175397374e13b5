//! Other hosts that use addresses of the director (RFC 5227, 2.4): who, since when, how often, and why probably.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use shunt_dataplane::id::{Mac, NicId};

use super::allowance::Allowance;
use super::machine::Key;
use super::output::Named;
use super::{CONFLICT_INTERVAL, CONFLICT_OVER, CONFLICTS_BURST_MAX, CONFLICTS_PER_SECOND_MAX};

/// The likely cause of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The other host is a neighbour that the configuration names, with this address.
    Neighbour(Named, IpAddr),
    /// The MAC is a virtual router's (RFC 9568, 7.3), of this VRID.
    VirtualRouter(u8),
    /// Nobody whom the director knows.
    Stranger,
}

/// Another host uses, or wants to use, an address of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Heard on this NIC.
    pub nic: NicId,
    /// The director's address.
    pub address: IpAddr,
    /// The other host, the one told last.
    pub other: Mac,
    /// Who it probably is.
    pub cause: Cause,
    /// Heard first.
    pub since: Instant,
    /// Heard last.
    pub last: Instant,
    /// How often it was heard.
    pub count: u64,
}

impl Conflict {
    /// The real server that is its likely cause.
    #[must_use]
    pub const fn real(&self) -> Option<IpAddr> {
        match self.cause {
            Cause::Neighbour(Named::Real, real) => Some(real),
            Cause::Neighbour(..) | Cause::VirtualRouter(_) | Cause::Stranger => None,
        }
    }
}

impl fmt::Display for Conflict {
    /// What happens and what to do, without the NIC, whose name only others know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { other, address, cause, .. } = self;
        write!(f, "{other} also claims {address}: ")?;
        match cause {
            Cause::Neighbour(Named::Real, real) if address.is_ipv4() => write!(
                f,
                "it is real server {real}, which answers ARP for the VIP: clients reach it past the director: set \
                 net.ipv4.conf.all.arp_ignore=1 and net.ipv4.conf.all.arp_announce=2 there, with the VIP on lo"
            ),
            Cause::Neighbour(Named::Real, real) => write!(
                f,
                "it is real server {real}, which answers for the VIP: clients reach it past the director: put the VIP on lo \
                 there"
            ),
            Cause::Neighbour(Named::Router, router) => write!(
                f,
                "it is router {router}, which probably answers for others: switch off its proxy ARP on this link"
            ),
            Cause::Neighbour(Named::Director, peer) => write!(
                f,
                "it is the other director, {peer}: see `shunt status` on both: only one may be master"
            ),
            Cause::VirtualRouter(vrid) => write!(
                f,
                "the MAC is that of virtual router {vrid}: another VRRP router has the address: take it off one of them"
            ),
            Cause::Stranger => f.write_str("traffic may reach either: take the address off the other host"),
        }
    }
}

/// The conflicts that there are, one for each address.
#[derive(Debug)]
pub(super) struct Conflicts {
    noticed: HashMap<Key, Noticed>,
    /// When the first one may be over, or earlier.
    over: Option<Instant>,
    allowance: Allowance,
}

#[derive(Debug)]
struct Noticed {
    conflict: Conflict,
    told: Option<Instant>,
}

impl Conflicts {
    pub(super) fn new(now: Instant) -> Self {
        let allowance = Allowance::new(now, CONFLICTS_BURST_MAX, CONFLICTS_PER_SECOND_MAX);
        Self { noticed: HashMap::new(), over: None, allowance }
    }

    /// Takes note of one; returns it when it is time to tell, with the cause that `cause` finds. What is shorter than `patience` is none.
    pub(super) fn notice(
        &mut self,
        now: Instant,
        (nic, address): Key,
        (other, patience): (Mac, Duration),
        cause: impl FnOnce() -> Cause,
    ) -> Option<Conflict> {
        let new = Conflict { nic, address, other, cause: Cause::Stranger, since: now, last: now, count: 0 };
        let noticed = self.noticed.entry((nic, address)).or_insert(Noticed { conflict: new, told: None });
        let conflict = &mut noticed.conflict;
        if noticed.told.is_none() && now > conflict.last + patience {
            conflict.since = now;
        }
        (conflict.last, conflict.count) = (now, conflict.count + 1);
        self.over.get_or_insert(now + CONFLICT_OVER);
        let told_lately = noticed.told.is_some_and(|told| now < told + CONFLICT_INTERVAL);
        if told_lately || now < conflict.since + patience {
            return None;
        }
        self.allowance.refill(now);
        if !self.allowance.take() {
            return None;
        }
        (conflict.other, conflict.cause) = (other, cause());
        noticed.told = Some(now);
        Some(*conflict)
    }

    /// Forgets those that were not heard for long; returns those that had been told.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<(Conflict, Duration)> {
        if self.over.is_none_or(|over| over > now) {
            return Vec::new();
        }
        let mut over = Vec::new();
        self.noticed.retain(|_, Noticed { conflict, told }| {
            let goes_on = now < conflict.last + CONFLICT_OVER;
            if !goes_on && told.is_some() {
                over.push((*conflict, conflict.last.saturating_duration_since(conflict.since)));
            }
            goes_on
        });
        self.over = self.noticed.values().map(|noticed| noticed.conflict.last + CONFLICT_OVER).min();
        over
    }

    /// Forgets those about addresses that are no longer the director's.
    pub(super) fn retain(&mut self, owned: impl Fn(NicId, IpAddr) -> bool) {
        self.noticed.retain(|&(nic, address), _| owned(nic, address));
    }

    /// When [`Conflicts::tick`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.over.filter(|_| !self.noticed.is_empty())
    }

    /// Those that were told and are not over.
    pub(super) fn list(&self) -> impl Iterator<Item = Conflict> {
        self.noticed.values().filter(|noticed| noticed.told.is_some()).map(|noticed| noticed.conflict)
    }
}

/// The VRID of a virtual router's MAC (RFC 9568, 7.3).
pub(super) fn vrid(mac: Mac) -> Option<u8> {
    match mac.0 {
        [0, 0, 0x5e, 0, 1 | 2, vrid] => Some(vrid),
        _ => None,
    }
}
