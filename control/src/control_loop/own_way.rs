//! Frames of the kernel side on their way to hosts: the neighbour machine says at which MAC the next hop is, and nobody else.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::reply::may_answer;
use shunt_dataplane::wire::build::{self, Ends};
use shunt_dataplane::wire::{Headers, IpVersion, ethernet};
use shunt_protocol::neighbour::machine::Key;

use super::{ControlLoop, Publish, Rings};
use crate::kernel::next_hop;

/// Frames that wait for their next hop; further ones are dropped, and sent again by their sockets.
pub const WAITING_MAX: usize = 1_024;
/// How long one waits (RFC 1122, 2.3.2.2; the kernel asks for three seconds, too). Then its sender is told.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Bytes of a packet that an error quotes (RFC 1812, 4.3.2.3; RFC 4443, 2.4c), less its headers.
const QUOTED_MAX: usize = 512;

/// Frames that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<(Instant, Key, Vec<u8>)>);

impl Waiting {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that wait for a neighbour.
    fn take(&mut self, hop: Key) -> Vec<Vec<u8>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let (ready, others) = std::mem::take(&mut self.0).into_iter().partition(|(_, key, _)| *key == hop);
        self.0 = others;
        let ready: VecDeque<(Instant, Key, Vec<u8>)> = ready;
        ready.into_iter().map(|(_, _, frame)| frame).collect()
    }

    /// The next one that waited for too long.
    fn overdue(&mut self, now: Instant) -> Option<(Key, Vec<u8>)> {
        let (since, _, _) = self.0.front()?;
        if now < *since + WAIT_MAX {
            return None;
        }
        self.0.pop_front().map(|(_, key, frame)| (key, frame))
    }
}

impl<R: Rings, P: Publish> ControlLoop<R, P> {
    /// Sends a frame of the kernel side, which lies in the buffer, to its next hop, or keeps it until that is known.
    pub(super) fn send_own(&mut self, now: Instant, nic: NicId, length: usize) {
        let Some(frame) = self.buffer.get_mut(..length) else { return };
        let Some(hop) = destination(frame).and_then(|to| self.routes.hop(nic, to)) else {
            self.counters.own_lost += 1;
            return;
        };
        let key = (nic, hop);
        if let Some(mac) = self.machine.mac(key) {
            put_destination(frame, mac);
            return self.transmit_buffer(nic, length);
        }
        if self.machine.is_silent(key) {
            let frame = frame.to_vec();
            return self.tell_unreachable(nic, &frame);
        }
        if self.own_waiting.count() >= WAITING_MAX {
            self.counters.own_full += 1;
            return;
        }
        self.own_waiting.0.push_back((now, key, frame.to_vec()));
        self.machine.ask(now, key, &mut self.outputs);
    }

    /// Sends what waited for a neighbour that is known now.
    pub(super) fn send_waiting(&mut self, hop: Key, mac: Mac) {
        for mut frame in self.own_waiting.take(hop) {
            put_destination(&mut frame, mac);
            self.transmit(hop.0, &frame);
        }
    }

    /// Tells the kernel side of frames whose next hop does not answer.
    pub(super) fn give_up_waiting(&mut self, now: Instant) {
        while let Some((key, frame)) = self.own_waiting.overdue(now) {
            self.tell_unreachable(key.0, &frame);
            // What was sent again meanwhile is no news.
            self.counters.own_lost += self.own_waiting.take(key).len() as u64;
        }
    }

    /// Tells the kernel side that the host that a frame of its own is for cannot be reached, as the kernel would tell itself of a neighbour that
    /// does not answer.
    fn tell_unreachable(&mut self, nic: NicId, frame: &[u8]) {
        self.counters.own_lost += 1;
        let own = self.vrrp.nics.get(nic.index()).map(|nic| nic.mac).unwrap_or_default();
        let error = match ethernet::ethertype(frame) {
            Some(ethernet::IPV4) => unreachable::<Ipv4Addr>(frame, own, (3, 1)),
            Some(ethernet::IPV6) => unreachable::<Ipv6Addr>(frame, own, (1, 3)),
            _ => None,
        };
        if let Some(error) = error {
            self.write_kernel(nic, &error);
        }
    }
}

/// The ICMP error about a frame of the kernel side; it comes from the host that is not there, since from an address of the director's own the
/// kernel would not take it.
fn unreachable<A: IpVersion>(frame: &[u8], own: Mac, (kind, code): (u8, u8)) -> Option<Vec<u8>> {
    let headers: Headers<A> = A::parse_large(frame).ok()?;
    let quoted = frame.get(ethernet::HEADER..)?;
    let ends = Ends {
        source_mac: next_hop::MAC,
        destination_mac: own,
        source: headers.destination,
        destination: headers.source,
        source_port: headers.source_port,
        destination_port: headers.destination_port,
    };
    let quoted = &quoted[..quoted.len().min(QUOTED_MAX)];
    may_answer(&headers, frame).then(|| build::icmp(&ends, kind, code, 0, quoted))
}

/// The address that a frame is for (RFC 791, 3.1; RFC 8200, 3).
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let packet = frame.get(ethernet::HEADER..)?;
    match ethernet::ethertype(frame)? {
        ethernet::IPV4 => Some(IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?)),
        ethernet::IPV6 => Some(IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

fn put_destination(frame: &mut [u8], Mac(mac): Mac) {
    if let Some(place) = frame.first_chunk_mut() {
        *place = mac;
    }
}

/// Whether a frame is about neighbours: those are the neighbour machine's alone.
pub(super) fn is_about_neighbours(frame: &[u8]) -> bool {
    match ethernet::ethertype(frame) {
        Some(ethernet::ARP) => true,
        Some(ethernet::IPV6) => {
            Ipv6Addr::parse_large(frame).is_ok_and(|headers| headers.is_neighbour_discovery(frame))
        }
        _ => false,
    }
}
