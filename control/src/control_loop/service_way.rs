//! Frames of checks on their service's way: to the real server's MAC, or into its tunnel, as the data path would send them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::packet::Packet;
use shunt_dataplane::rewrite::tun;
use shunt_dataplane::wire::ethernet::{self, Macs};
use shunt_model::health::ServiceWay;
use shunt_protocol::neighbour::Nic;
use shunt_protocol::neighbour::machine::Key;

/// Frames that wait for their neighbour; further ones are dropped, and asked again by who sent them.
pub const WAITING_MAX: usize = 256;
/// How long one waits.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The TTL of a tunnel's outer packet, as the system has it.
const OUTER_TTL: u8 = 64;
/// Bytes of the longest headers that are put in front: IPv6, UDP and GUE.
const HEAD_ROOM: usize = 64;

/// Frames on their service's way.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    waiting: VecDeque<(Instant, Arc<ServiceWay>, Vec<u8>)>,
    identification: u16,
}

impl Leaving {
    /// Takes a frame of the kernel side; false when too many wait.
    pub(super) fn take(&mut self, now: Instant, way: Arc<ServiceWay>, frame: &[u8]) -> bool {
        let room = self.waiting.len() < WAITING_MAX;
        if room {
            self.waiting.push_back((now, way, frame.to_vec()));
        }
        room
    }

    /// How many frames wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The frames whose neighbour is known, each ready for its NIC, and how many were lost: they waited too long, or do not fit into
    /// their tunnel.
    pub(super) fn ready(
        &mut self,
        now: Instant,
        nics: &[Nic],
        mac: impl Fn(Key) -> Option<Mac>,
    ) -> (Vec<(NicId, Vec<u8>)>, u64) {
        let (mut ready, mut lost) = (Vec::new(), 0);
        for _ in 0..self.waiting.len() {
            let Some((since, way, frame)) = self.waiting.pop_front() else { break };
            let (nic, _) = way.hop;
            let ends = mac(way.hop).zip(nics.get(nic.index()).map(|nic| nic.mac));
            match ends {
                Some((to, from)) => {
                    self.identification = self.identification.wrapping_add(1);
                    match send(&frame, &way, Macs::new(to, from), self.identification) {
                        Some(frame) => ready.push((nic, frame)),
                        None => lost += 1,
                    }
                }
                None if now < since + WAIT_MAX => self.waiting.push_back((since, way, frame)),
                None => lost += 1,
            }
        }
        (ready, lost)
    }
}

/// The frame as it leaves; none when it does not fit into its tunnel.
fn send(frame: &[u8], way: &ServiceWay, macs: Macs, identification: u16) -> Option<Vec<u8>> {
    let Some(ends) = &way.tunnel else {
        let mut frame = frame.to_vec();
        macs.replace(&mut frame);
        return Some(frame);
    };
    let mut room = vec![0; HEAD_ROOM];
    room.extend_from_slice(frame);
    let mut packet = Packet::new(&mut room, HEAD_ROOM, frame.len(), way.hop.0);
    let (source, destination, tunnel) = (ends.source, ends.destination, ends.tunnel);
    let outer = tun::Outer { source, destination, tunnel, identification, pmtu_disc: true };
    if !tun::enclose(&mut packet, &outer, OUTER_TTL) {
        return None;
    }
    let ethertype = if source.is_ipv4() { ethernet::IPV4 } else { ethernet::IPV6 };
    macs.write(packet.bytes_mut(), ethertype);
    Some(packet.bytes().to_vec())
}
