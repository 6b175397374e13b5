//! Writes what was decided: connection and counters, then the packet in place.

use super::decide::{Answer, Decision, New, Passage, Subject, Then, real_port};
use super::{Forwarder, Punt, Tables, Verdict};
use crate::address::Address;
use crate::connections::{Activity, ConnectionIndex, Direction, Entry, Found, NewConnection};
use crate::counters::WorkerCounters;
use crate::flow::Flow;
use crate::id::{NicId, WorkerId};
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::reply;
use crate::rewrite::{self, dr, nat, tun};
use crate::service::{Method, NextHop, Real};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Headers, IpVersion, ethernet};

impl Forwarder {
    /// Passes the packet of an open connection on.
    #[inline(always)]
    pub(super) fn pass<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
        now: Tick,
    ) -> Result<NicId, DropReason> {
        self.observe(snapshot, headers, passage.found, passage.real, now);
        self.forward(packet, headers, passage)
    }

    /// Does what was decided about a packet that is not simply passed on, and says what became of it.
    #[inline(never)]
    pub(super) fn commit<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        decision: Decision<'_, A>,
        now: Tick,
    ) -> Verdict {
        let connection = match decision.subject {
            Subject::None => None,
            Subject::Found(found, real) => {
                if is_noticed(found.direction, &decision.then) {
                    self.observe(snapshot, headers, found, real, now);
                }
                Some((found, real))
            }
            Subject::New(new) => {
                self.notice_checksum(packet, headers);
                match self.insert(snapshot, headers, &new, now) {
                    Some(found) => Some((found, new.real)),
                    None => return Verdict::Drop(DropReason::TableFull),
                }
            }
        };
        let verdict = match (decision.then, connection) {
            (Then::Forward(hop), None) => return route(snapshot, packet, headers, hop),
            (Then::Forward(hop), Some((found, real))) => {
                return match self.forward(packet, headers, &Passage { found, real, hop }) {
                    Ok(nic) => Verdict::Send(nic),
                    Err(reason) => Verdict::Drop(reason),
                };
            }
            (Then::Punt(unresolved), _) => return Verdict::Punt(Punt::Unresolved(unresolved)),
            (Then::Reply(answer, hop), _) => self.reply(snapshot, packet, headers, answer, hop, now),
            (Then::Drop(reason), _) => Verdict::Drop(reason),
        };
        self.count_refused(packet, headers, connection, verdict);
        verdict
    }

    /// Counts a client's packet that went no further as the kernel does: it came in, and an error about a
    /// connection whose answers do not come by went out (kernel: `ip_vs_in_hook`, `ip_vs_out_icmp`).
    fn count_refused<A: Address>(
        &self,
        packet: &Packet<'_>,
        headers: &Headers<A>,
        connection: Option<(Found, &Real)>,
        verdict: Verdict,
    ) {
        let Some((Found { direction: Direction::FromClient, .. }, real)) = connection else { return };
        let cell = real.counters.of(self.worker);
        count(&cell.packets_in, &cell.bytes_in, headers.ip_length() as u64);
        if matches!(verdict, Verdict::Reply(..)) && real.method != Method::Nat {
            let length = packet.len().saturating_sub(ethernet::HEADER);
            count(&cell.packets_out, &cell.bytes_out, length as u64);
        }
    }

    /// State, time and activity of a connection that sees a packet.
    #[inline(always)]
    fn observe<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        headers: &Headers<A>,
        found: Found,
        real: &Real,
        now: Tick,
    ) {
        let entry = A::table_mut(&mut self.connections).entry_mut(found.index);
        match entry.observe(headers.tcp_flags.0, found.direction, now, &snapshot.timeouts) {
            Activity::Unchanged => {}
            change => self.activity(real, change),
        }
    }

    /// A connection began or ceased to count as active.
    #[cold]
    fn activity(&self, real: &Real, change: Activity) {
        let cell = real.counters.of(self.worker);
        let (up, down) = match change {
            Activity::Unchanged => return,
            Activity::BecameActive => (&cell.active, &cell.inactive),
            Activity::BecameInactive => (&cell.inactive, &cell.active),
        };
        up.add(1);
        down.subtract(1);
    }

    /// Makes a connection (kernel: `ip_vs_conn_new`, `ip_vs_bind_dest`); none when the table is full.
    fn insert<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        headers: &Headers<A>,
        new: &New<'_>,
        now: Tick,
    ) -> Option<Found> {
        let (flow, real) = (headers.flow()?, new.real);
        if let Some(old) = new.replaces {
            self.remove::<A>(snapshot, old);
        }
        let connection = NewConnection {
            flow,
            real: real.id,
            real_address: A::from_ip(real.address)?,
            real_port: tunnelled_port(real, &flow),
            nat: real.method == Method::Nat,
        };
        let ended = |entry: &Entry<A>| expired(snapshot, self.worker, &self.counters, entry);
        let index = A::table_mut(&mut self.connections).insert(connection, now, ended).ok()?;
        if let Some(cursor) = self.cursors.get_mut(new.service.index()) {
            *cursor = new.choice.cursor;
        }
        let cell = real.counters.of(self.worker);
        cell.inactive.add(1);
        cell.connections.add(1);
        self.counters.connections_made.add(1);
        let found = Found { index, direction: Direction::FromClient };
        self.observe(snapshot, headers, found, real, now);
        Some(found)
    }

    #[cold]
    fn remove<A: Tables>(&mut self, snapshot: &Snapshot, index: ConnectionIndex) {
        let table = A::table_mut(&mut self.connections);
        expired(snapshot, self.worker, &self.counters, table.entry(index));
        table.remove(index);
    }

    /// Rewrites a packet of a connection and counts it.
    #[inline(always)]
    fn forward<A: Tables + IpVersion>(
        &mut self,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
    ) -> Result<NicId, DropReason> {
        let Passage { found, real, hop } = *passage;
        packet.truncate(usize::from(headers.end));
        let length = headers.ip_length() as u64;
        let cell = real.counters.of(self.worker);
        let entry = A::table(&self.connections).entry(found.index);
        if found.direction == Direction::FromReal && headers.tcp_flags.syn() {
            self.notice_checksum(packet, headers);
        }
        let frame = packet.bytes_mut();
        rewrite::pass(frame, headers, entry.vip());
        if found.direction == Direction::FromReal {
            count(&cell.packets_out, &cell.bytes_out, length);
            nat::from_real(frame, headers, entry.vip(), entry.vip_port());
            rewrite::address(frame, hop, A::ETHERTYPE);
            return Ok(hop.nic);
        }
        count(&cell.packets_in, &cell.bytes_in, length);
        // A connection keeps NAT, or keeps from it, whatever method its real server is given later.
        if entry.is_nat() {
            nat::to_real(frame, headers, entry.real_address(), Some(entry.real_port()));
        } else if real.method == Method::Tun {
            self.tunnel(packet, headers, real, hop)?;
            return Ok(hop.nic);
        }
        rewrite::address(frame, hop, A::ETHERTYPE);
        Ok(hop.nic)
    }

    /// Puts a rewritten packet into a tunnel to its real server.
    #[inline]
    fn tunnel<A: IpVersion>(
        &mut self,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        real: &Real,
        hop: &NextHop,
    ) -> Result<(), DropReason> {
        let source = real.tunnel_source.ok_or(DropReason::NoTunnelSource)?;
        self.identification = self.identification.wrapping_add(1);
        if !tun::encapsulate(packet, headers, source, real.address, self.identification) {
            return Err(DropReason::NoHeadRoom);
        }
        let ethertype = if source.is_ipv4() { ethernet::IPV4 } else { ethernet::IPV6 };
        rewrite::address(packet.bytes_mut(), hop, ethertype);
        Ok(())
    }

    /// Makes the reply in the packet's room.
    #[cold]
    fn reply<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        answer: Answer<A>,
        hop: &NextHop,
        now: Tick,
    ) -> Verdict {
        if !self.reply_limit.allow(now, snapshot.replies_per_second) {
            return Verdict::Drop(DropReason::ReplyLimit);
        }
        packet.truncate(usize::from(headers.end));
        let made = match answer {
            Answer::Echo => reply::echo_reply(packet, headers),
            Answer::Reset => reply::tcp_reset(packet, headers),
            Answer::Error(error, _, source) => {
                if matches!(error, Error::TooBig { .. }) {
                    A::decrement_ttl(packet.bytes_mut(), headers);
                }
                reply::icmp_error(packet, headers, error, source)
            }
        };
        match made {
            Ok(()) => {
                rewrite::address(packet.bytes_mut(), hop, A::ETHERTYPE);
                Verdict::Reply(hop.nic, answer.kind())
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Notices senders that leave checksums to a NIC that is not there (offloads on a veth peer).
    #[inline(never)]
    fn notice_checksum<A: IpVersion>(&self, packet: &Packet<'_>, headers: &Headers<A>) {
        if headers.checksum_not_filled(packet.bytes()) {
            self.counters.checksum_not_filled(packet.nic);
        }
    }
}

/// A packet of no connection, on by the routes.
fn route<A: Tables + IpVersion>(
    snapshot: &Snapshot,
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    hop: &NextHop,
) -> Verdict {
    packet.truncate(usize::from(headers.end));
    let own = snapshot.nic(hop.nic).and_then(A::nic_source).unwrap_or(A::UNSPECIFIED);
    dr::forward(packet.bytes_mut(), headers, hop, own);
    Verdict::Send(hop.nic)
}

/// Only NAT reaches another port; DR and TUN keep the service's (kernel: the port of `-r` is ignored).
fn tunnelled_port<A: Address>(real: &Real, flow: &Flow<A>) -> crate::id::L4Port {
    if real.method == Method::Nat { real_port(real, flow.destination_port) } else { flow.destination_port }
}

/// Whether a packet moves its connection: not an answer that goes no further (kernel: `ip_forward` refuses
/// it before `ip_vs_out_hook` looks).
const fn is_noticed<A>(direction: Direction, then: &Then<'_, A>) -> bool {
    match then {
        Then::Forward(_) | Then::Punt(_) => true,
        Then::Reply(..) | Then::Drop(_) => matches!(direction, Direction::FromClient),
    }
}

fn count(packets: &crate::counters::Counter, bytes: &crate::counters::Counter, length: u64) {
    packets.add(1);
    bytes.add(length);
}

/// A connection's time has come.
pub(super) fn expired<A: Address>(
    snapshot: &Snapshot,
    worker: WorkerId,
    counters: &WorkerCounters,
    entry: &Entry<A>,
) {
    counters.connections_expired.add(1);
    if let Some(real) = snapshot.real(entry.real()) {
        let cell = real.counters.of(worker);
        if entry.counts_as_active() { &cell.active } else { &cell.inactive }.subtract(1);
    }
}
