//! How frames to the MACs of virtual routers reach the director: the NIC is told of them, or takes every frame.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use dpdk_sys::Nic;
use shunt_config::Config;
use shunt_dataplane::id::{Mac, NicId};

use super::live::lock;

/// How frames to a virtual MAC arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// The NIC has it as a further address.
    Address,
    /// The NIC takes frames to anybody, since its driver knows no further addresses.
    Promiscuous,
    /// The driver filters nothing.
    Unfiltered,
    /// The driver refused, in its words.
    Refused(String),
}

impl Way {
    fn word(&self) -> String {
        match self {
            Self::Address => "address of the NIC".to_owned(),
            Self::Promiscuous => "promiscuous mode".to_owned(),
            Self::Unfiltered => "the NIC filters nothing".to_owned(),
            Self::Refused(why) => format!("refused by the NIC: {why}"),
        }
    }
}

/// The virtual MACs that NICs were told of.
#[derive(Debug, Default)]
pub(super) struct VirtualMacs(Mutex<BTreeMap<(NicId, Mac), Way>>);

impl VirtualMacs {
    /// Tells NICs of the virtual MACs of a configuration, and of none else. Returns those to which no frames arrive.
    pub(super) fn follow(&self, config: &Config, nics: &[Mutex<Option<Nic>>]) -> BTreeSet<(NicId, Mac)> {
        let wanted: BTreeSet<(NicId, Mac)> =
            config.vrrp.iter().filter_map(|vrrp| Some((vrrp.nic, vrrp.virtual_mac?.mac))).collect();
        let mut told = lock(&self.0);
        let nic = |id: NicId| nics.get(id.index()).map(lock);
        told.retain(|(id, mac), way| {
            let stays = wanted.contains(&(*id, *mac));
            if let (false, Way::Address, Some(nic)) = (stays, way, nic(*id)) {
                // An address too many does no harm.
                let _ = nic.as_ref().map(|nic| nic.remove_mac(mac.0));
            }
            stays
        });
        for (id, mac) in wanted {
            let Some(nic) = nic(id) else { continue };
            let Some(nic) = nic.as_ref() else { continue };
            told.entry((id, mac)).or_insert_with(|| add(nic, mac));
        }
        told.iter().filter(|(_, way)| matches!(way, Way::Refused(_))).map(|(of, _)| *of).collect()
    }

    /// A NIC was closed: what it was told of is forgotten with it.
    pub(super) fn forget(&self, nic: NicId) {
        lock(&self.0).retain(|(id, _), _| *id != nic);
    }

    /// How frames to a virtual MAC arrive, in words.
    pub(super) fn way(&self, nic: NicId, mac: Mac) -> Option<String> {
        lock(&self.0).get(&(nic, mac)).map(Way::word)
    }
}

fn add(nic: &Nic, mac: Mac) -> Way {
    match nic.add_mac(mac.0) {
        Ok(true) => return Way::Address,
        Ok(false) => {}
        Err(error) => tracing::warn!("virtual MAC {mac}: {error}: promiscuous mode is tried"),
    }
    match nic.set_promiscuous(true) {
        Ok(true) => Way::Promiscuous,
        Ok(false) => Way::Unfiltered,
        Err(error) => Way::Refused(error.to_string()),
    }
}
