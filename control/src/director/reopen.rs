//! Opening a NIC again while the workers run: its interface was taken away and is back, or the program at the other end of its socket
//! has ended, and the sockets of before are of no use.
//!
//! Each worker gives its queues back before it runs the next generation, so that nobody polls a NIC that is being closed; what should
//! leave by it meanwhile is dropped, since its link is down. Then it is opened as at the start, and each worker gets its new queues in
//! the same way.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

use dpdk_sys::{Eal, Mempool, Nic};
use nix::net::if_::if_nametoindex;
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::worker::{NicEnds, NicQueues, Order};

use super::core::{Message, View};
use super::live::{Live, lock};
use super::nics;
use crate::publish::ACKNOWLEDGE_MAX;

/// What it takes to open NICs while workers run.
#[derive(Debug)]
pub(super) struct Reopening {
    eal: Eal,
    /// Where large frames live.
    large: Option<Mempool>,
    /// By [`WorkerId`](shunt_dataplane::id::WorkerId).
    workers: Mutex<Vec<NicEnds>>,
    /// What failed last, by NIC, so that it is told once.
    told: Mutex<Vec<(NicId, String)>>,
}

impl Reopening {
    /// With the ends to all workers.
    pub(super) const fn new(eal: Eal, large: Option<Mempool>, workers: Vec<NicEnds>) -> Self {
        Self { eal, large, workers: Mutex::new(workers), told: Mutex::new(Vec::new()) }
    }
}

/// A NIC that was opened again.
pub(super) struct Opened {
    /// The index of its interface.
    pub interface: Option<u32>,
    /// Its MAC.
    pub mac: Mac,
}

impl Live {
    /// Closes a NIC and opens it, on this interface where it is on one; none when that failed, which is told: it is to be tried again.
    pub(super) fn open_again(&self, view: &View, id: NicId, interface: Option<&str>) -> Option<Opened> {
        let nic = view.config.nics.get(id.index())?;
        let opened = self.try_to_open(nic, id, interface);
        let place = interface.map_or(String::new(), |interface| format!(" on interface {interface}"));
        let mut told = lock(&self.reopening.told);
        match opened {
            Ok(opened) => {
                told.retain(|(of, _)| *of != id);
                tracing::info!("nic \"{}\": opened again{place}, with the MAC {}", nic.name, opened.mac);
                Some(opened)
            }
            Err(error) => {
                if !told.contains(&(id, error.clone())) {
                    tracing::error!("nic \"{}\": cannot be opened again{place}: {error}", nic.name);
                    told.retain(|(of, _)| *of != id);
                    told.push((id, error));
                }
                None
            }
        }
    }

    fn try_to_open(
        &self,
        nic: &shunt_config::Nic,
        id: NicId,
        interface: Option<&str>,
    ) -> Result<Opened, String> {
        let mut workers = lock(&self.reopening.workers);
        self.close(id, &mut workers)?;
        let queues = workers.len() as u16;
        let room = lock(&self.links).nics.get(id.index()).map_or(shunt_config::MTU_DEFAULT, |now| now.room);
        let configured = interface.map_or(nic.device.clone(), |name| nic.device.on_interface(name));
        let device = self.reopening.eal.probe(&configured.devargs(id.index(), queues));
        let device = device.map_err(|error| error.to_string())?;
        let settings =
            nics::nic_settings(&configured, queues, room, &self.pool, self.reopening.large.as_ref());
        let (open, rx, tx) = Nic::open(device, &settings).map_err(|error| error.to_string())?;
        let mac = nics::mac_of(open.mac(), id.index());
        if let Some(place) = self.nics.get(id.index()) {
            *lock(place) = Some(open);
        }
        for ((ends, rx), tx) in workers.iter_mut().zip(rx).zip(tx) {
            let queues = NicQueues { nic: id, rx, tx };
            ends.orders
                .push(Order::Open(queues))
                .map_err(|_full| "a worker does not take its queues".to_owned())?;
        }
        drop(workers);
        self.virtual_macs.forget(id);
        if let Some(now) = lock(&self.links).nics.get_mut(id.index()) {
            now.mac = mac;
        }
        self.next_edition(id)?;
        self.follow();
        Ok(Opened { interface: interface.and_then(|name| if_nametoindex(name).ok()), mac })
    }

    /// Has all workers give their queues back, and closes the NIC.
    fn close(&self, id: NicId, workers: &mut [NicEnds]) -> Result<(), String> {
        // What a worker that was late gave back after all.
        workers.iter_mut().for_each(take_back);
        let Some(nic) = self.nics.get(id.index()).and_then(|place| lock(place).take()) else { return Ok(()) };
        for ends in workers.iter_mut() {
            // What has no room for it now never ran.
            let _ = ends.orders.push(Order::Close(id));
        }
        let followed = self.next_edition(id);
        workers.iter_mut().for_each(take_back);
        drop(nic);
        followed
    }

    /// Has the next generation published, before which workers follow their orders, and waits until they run it.
    fn next_edition(&self, id: NicId) -> Result<(), String> {
        let states = {
            let mut known = lock(&self.links);
            if let Some(now) = known.nics.get_mut(id.index()) {
                now.edition += 1;
            }
            known.states()
        };
        let (answer, applied) = sync_channel(1);
        let ending = || "the director is stopping".to_owned();
        let sent = self.with_parts(|parts| parts.core.messages().send(Message::Nics(states, Some(answer))));
        sent.and_then(Result::ok).ok_or_else(ending)?;
        let applied = applied.recv_timeout(ACKNOWLEDGE_MAX * 2).map_err(|_| ending())?;
        applied.acknowledged.map(drop).map_err(|late| format!("workers {late:?} do not turn"))
    }
}

/// Drops the queues that a worker gave back; the NIC is closed with the last one.
fn take_back(ends: &mut NicEnds) {
    while ends.closed.pop().is_ok() {}
}
