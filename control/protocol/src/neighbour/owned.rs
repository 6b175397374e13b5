//! The addresses that the director has on each NIC, and which of them it speaks from.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use shunt_dataplane::address::{Address, Family};
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::wire::ndp::link_local;

use super::message::Speaker;

/// A NIC as its neighbours see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its MAC.
    pub mac: Mac,
    /// The director's own addresses on it with their networks. The link-local IPv6 address formed from the MAC
    /// is its own too and need not be among them.
    pub addresses: Vec<IpNet>,
}

/// A virtual IP address that belongs to the director now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// The NIC that answers for it; none: each NIC whose networks hold it, and when there is no such one, all.
    pub nic: Option<NicId>,
    /// The address.
    pub address: IpAddr,
}

/// NICs and the addresses that the director answers for on them.
#[derive(Debug, Default)]
pub(super) struct Owned {
    nics: Vec<Nic>,
    vips: Vec<Vip>,
    /// Everything that is answered for, derived from the two.
    answered: BTreeSet<(NicId, IpAddr)>,
}

impl Owned {
    /// Replaces what is owned; returns what is new, or has another MAC.
    pub(super) fn set(&mut self, nics: Vec<Nic>, vips: Vec<Vip>) -> Vec<(NicId, IpAddr)> {
        let mut answered = BTreeSet::new();
        for (place, nic) in nics.iter().enumerate() {
            let id = NicId(place as u8);
            answered.insert((id, link_local(nic.mac).into()));
            answered.extend(nic.addresses.iter().map(|network| (id, network.addr())));
        }
        for vip in &vips {
            let holding: Vec<NicId> = ids(&nics)
                .filter(|id| vip.nic.is_none_or(|nic| nic == *id))
                .filter(|id| vip.nic.is_some() || on_link(&nics[id.index()], vip.address))
                .collect();
            let everywhere = holding.is_empty() && vip.nic.is_none();
            let nics = if everywhere { ids(&nics).collect() } else { holding };
            answered.extend(nics.into_iter().map(|id| (id, vip.address)));
        }
        let moved = |nic: NicId| nics.get(nic.index()).map(|nic| nic.mac) != self.nic(nic).map(|nic| nic.mac);
        let is_new = |key: &&(NicId, IpAddr)| moved(key.0) || !self.answered.contains(*key);
        let new = answered.iter().filter(is_new).copied().collect();
        *self = Self { nics, vips, answered };
        new
    }

    /// The NICs.
    pub(super) fn nics(&self) -> &[Nic] {
        &self.nics
    }

    /// The VIPs.
    pub(super) fn vips(&self) -> &[Vip] {
        &self.vips
    }

    /// A NIC.
    pub(super) fn nic(&self, id: NicId) -> Option<&Nic> {
        self.nics.get(id.index())
    }

    /// Whether the director answers for an address on a NIC.
    pub(super) fn answers(&self, nic: NicId, address: IpAddr) -> bool {
        self.answered.contains(&(nic, address))
    }

    /// Everything that is answered for on some NIC.
    pub(super) fn answered(&self) -> impl Iterator<Item = (NicId, IpAddr)> {
        self.answered.iter().copied()
    }

    /// What hosts on a link may ask for, on each NIC: own addresses, and VIPs of the link's networks or of its virtual routers. The link-local
    /// address that is formed of a MAC is nobody else's.
    pub(super) fn on_links(&self) -> Vec<(NicId, IpAddr)> {
        let of_routers = self.vips.iter().filter_map(|vip| Some((vip.nic?, vip.address)));
        let of_routers: HashSet<(NicId, IpAddr)> = of_routers.collect();
        let asked = |key: &(NicId, IpAddr)| {
            let (nic, address) = *key;
            let own = self.nic(nic).map(|nic| link_local(nic.mac).into());
            own != Some(address) && (self.on_link(nic, address) || of_routers.contains(key))
        };
        self.answered().filter(asked).collect()
    }

    /// Whether an address is a neighbour on a NIC: in a network of one of its addresses, or link-local.
    pub(super) fn on_link(&self, nic: NicId, address: IpAddr) -> bool {
        self.nic(nic).is_some_and(|nic| on_link(nic, address))
    }

    /// What a request for `target` is sent from: an own address in the same network, else an own one of the family
    /// (IPv6: the link-local one comes last), else a VIP of the family, else the unspecified address.
    pub(super) fn speaker(&self, nic: NicId, target: IpAddr) -> Option<Speaker> {
        let view = self.nic(nic)?;
        let family = Family::of(target);
        let own = |network: &&IpNet| Family::of(network.addr()) == family;
        let address = if is_link_local(target) {
            link_local(view.mac).into()
        } else if let Some(network) = view.addresses.iter().filter(own).find(|own| own.contains(&target)) {
            network.addr()
        } else if let Some(network) = view.addresses.iter().find(own) {
            network.addr()
        } else if family == Family::V6 {
            link_local(view.mac).into()
        } else {
            let vip = |&(id, address): &(NicId, IpAddr)| id == nic && Family::of(address) == family;
            self.answered().find(vip).map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |(_, vip)| vip)
        };
        Some(Speaker { mac: view.mac, address })
    }
}

fn ids(nics: &[Nic]) -> impl Iterator<Item = NicId> {
    (0..nics.len()).map(|place| NicId(place as u8))
}

fn on_link(nic: &Nic, address: IpAddr) -> bool {
    is_link_local(address) || nic.addresses.iter().any(|network| network.contains(&address))
}

fn is_link_local(address: IpAddr) -> bool {
    std::net::Ipv6Addr::from_ip(address).is_some_and(|address| address.is_unicast_link_local())
}
