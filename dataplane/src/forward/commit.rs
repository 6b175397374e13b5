//! Writes what was decided: connection and counters, then the packet in place.

use super::decision::{Answer, Decision, Passage, Quoted, Subject, Then};
use super::lifecycle::observe;
use super::{Forwarder, Punt, Tables, Verdict};
use crate::address::Address;
use crate::connections::{Direction, Entry, Found};
use crate::counters::{RealCell, WorkerCounters};
use crate::id::{NicId, Protocol};
use crate::packet::Packet;
use crate::reason::{DropReason, Evidence, ReplyKind};
use crate::reply;
use crate::rewrite::{self, dr, mss, nat, tun};
use crate::service::{NextHop, Real};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::{Headers, IpVersion, ethernet};

impl Forwarder {
    /// Passes a packet of a connection on: state, counters, then the packet in place.
    ///
    /// # Errors
    /// When no tunnel can be put around it.
    #[inline(always)]
    pub(super) fn pass<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
        now: Tick,
    ) -> Result<NicId, DropReason> {
        match passage.found.direction {
            Direction::FromClient => self.pass_to_real(snapshot, packet, headers, passage, now),
            Direction::FromReal => Ok(self.pass_to_client(packet, headers, passage, now)),
        }
    }

    /// A client's packet, on to its real server.
    #[inline(always)]
    fn pass_to_real<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
        now: Tick,
    ) -> Result<NicId, DropReason> {
        let Passage { found, real, hop } = *passage;
        let found = Found { direction: Direction::FromClient, ..found };
        let cell = real.counters.of(self.worker);
        let (entry, beside) = A::table_mut(&mut self.connections).entry_and_beside(found.index);
        observe(found, entry, beside, cell, &real.timeouts, headers, now);
        count(&cell.packets_in, &cell.bytes_in, headers.ip_length() as u64);
        packet.truncate(usize::from(headers.end));
        let frame = packet.bytes_mut();
        rewrite::pass(frame, headers, entry.vip());
        // A connection keeps its method, whatever its real server is given later.
        if entry.is_nat() {
            nat::to_real(frame, headers, entry.real_address(), Some(entry.real_port()));
        } else if entry.is_tunnelled() {
            self.identification = self.identification.wrapping_add(1);
            let pmtu_disc = snapshot.sysctls.pmtu_disc;
            tunnel(packet, headers, real, hop, self.identification, pmtu_disc)?;
            return Ok(hop.nic);
        }
        hop.macs.replace(frame);
        Ok(hop.nic)
    }

    /// A real server's answer, on to its client.
    #[inline(always)]
    fn pass_to_client<A: Tables + IpVersion>(
        &mut self,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
        now: Tick,
    ) -> NicId {
        let Passage { found, real, hop } = *passage;
        let found = Found { direction: Direction::FromReal, ..found };
        let cell = real.counters.of(self.worker);
        let (entry, beside) = A::table_mut(&mut self.connections).entry_and_beside(found.index);
        observe(found, entry, beside, cell, &real.timeouts, headers, now);
        if headers.tcp_flags.syn() {
            // A copy: who gives a reference away must keep all of the headers in memory.
            notice_answer(&self.counters, packet, &{ *headers }, entry, cell);
        }
        count(&cell.packets_out, &cell.bytes_out, headers.ip_length() as u64);
        packet.truncate(usize::from(headers.end));
        let frame = packet.bytes_mut();
        rewrite::pass(frame, headers, entry.vip());
        nat::from_real(frame, headers, entry.vip(), entry.vip_port());
        hop.macs.replace(frame);
        hop.nic
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
        match decision.subject {
            Subject::None => self.settle(snapshot, packet, headers, None, decision.then, now),
            Subject::Over(connection, template) | Subject::Untaken(connection, template) => {
                if matches!(decision.subject, Subject::Untaken(..)) {
                    self.count_spared::<A>(snapshot);
                }
                self.settle_over(snapshot, packet, headers, (connection, template), decision.then, now)
            }
            Subject::Found(found, real) => {
                if headers.tcp_flags.syn() && decision.then.reaches() {
                    self.notice_syn::<A>(headers.tcp_flags, found, real, now);
                }
                self.settle(snapshot, packet, headers, Some((found, real)), decision.then, now)
            }
            Subject::Error(found, real) => {
                let pmtu_disc = snapshot.sysctls.pmtu_disc;
                self.settle_error(packet, headers, pmtu_disc, (found, real), decision.then, now)
            }
            Subject::Noticed(real) => {
                self.count_noticed(headers, real, &decision.then);
                self.settle(snapshot, packet, headers, None, decision.then, now)
            }
            Subject::Masqueraded(connection, direction, real) => {
                notice_checksum(&self.counters, packet, headers);
                let new = (connection, direction, real);
                self.masquerade(snapshot, packet, headers, new, decision.then, now)
            }
            Subject::Echo(found, real) => {
                self.settle_echo(snapshot, packet, headers, (found, real), decision.then, now)
            }
            Subject::Bypass(new) => {
                self.count_spared::<A>(snapshot);
                self.pass_by(snapshot, packet, headers, new, decision.then, now)
            }
            Subject::NewError(new, flow) => {
                self.count_spared::<A>(snapshot);
                self.settle_new_error(snapshot, packet, headers, (&new, flow), decision.then, now)
            }
            Subject::Tunnel(error) => self.tell_of_tunnel(snapshot, packet, &error, decision.then, now),
            Subject::New(new) => {
                self.count_spared::<A>(snapshot);
                notice_checksum(&self.counters, packet, headers);
                let Some(flow) = headers.flow() else { return Verdict::Drop(DropReason::TransportHeader) };
                let found = match self.make(snapshot, (flow, flow.destination), &new, now) {
                    Ok(found) => found,
                    Err(reason) => return self.refused::<A>(reason),
                };
                let connection = (found, new.real);
                if new.one_packet {
                    return self.settle_one_packet(snapshot, packet, headers, connection, decision.then, now);
                }
                self.settle(snapshot, packet, headers, Some(connection), decision.then, now)
            }
        }
    }

    /// What happens to a packet whose connection, if it has one, is in the table.
    pub(super) fn settle<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        connection: Option<(Found, &Real)>,
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        let verdict = match then {
            Then::Forward(hop) | Then::Fragment(hop) => {
                if headers.tcp_flags.syn() {
                    let in_tunnel = connection.and_then(|(found, real)| self.in_tunnel::<A>(found, real));
                    clamp_segments(packet, headers, in_tunnel);
                }
                let verdict = match connection {
                    None => route(snapshot, packet, headers, hop),
                    Some((found, real)) if self.passes_by::<A>(found) => {
                        self.answer_passing_by(snapshot, packet, headers, &Passage { found, real, hop }, now)
                    }
                    Some((found, real)) => {
                        self.pass(snapshot, packet, headers, &Passage { found, real, hop }, now).into()
                    }
                };
                return self.split(packet, &then, connection, verdict);
            }
            Then::Reply(answer, hop) => self.reply(snapshot, packet, headers, answer, hop, now),
            Then::Punt(unresolved) => Verdict::Punt(Punt::Unresolved(unresolved)),
            Then::Local => Verdict::Punt(Punt::Local),
            Then::Drop(reason) => Verdict::Drop(reason),
        };
        let Some((found, real)) = connection else { return verdict };
        let cell = real.counters.of(self.worker);
        if is_noticed(found.direction, verdict) {
            let (entry, beside) = A::table_mut(&mut self.connections).entry_and_beside(found.index);
            observe(found, entry, beside, cell, &real.timeouts, headers, now);
        }
        if found.direction == Direction::FromClient && !matches!(verdict, Verdict::Punt(Punt::Unresolved(_)))
        {
            let is_nat = A::table(&self.connections).entry(found.index).is_nat();
            count_refused(packet, headers, is_nat, cell, verdict);
        }
        verdict
    }

    /// The same for a connection that ends with this packet: the kernel's errors about it, which come later, find none to
    /// count for.
    fn settle_one_packet<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        connection: (Found, &Real),
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        let (found, real) = connection;
        let goes_on = matches!(then, Then::Forward(_) | Then::Fragment(_));
        let verdict = self.settle(snapshot, packet, headers, goes_on.then_some(connection), then, now);
        if !goes_on && !matches!(verdict, Verdict::Punt(Punt::Unresolved(_))) {
            let cell = real.counters.of(self.worker);
            count(&cell.packets_in, &cell.bytes_in, headers.ip_length() as u64);
        }
        self.remove::<A>(snapshot, found.index, now);
        verdict
    }

    /// The real server of a connection whose packets travel in a tunnel.
    fn in_tunnel<'r, A: Tables>(&self, found: Found, real: &'r Real) -> Option<&'r Real> {
        A::table(&self.connections).entry(found.index).is_tunnelled().then_some(real)
    }

    /// Splits a packet of a connection that goes out by `verdict`, where that was decided.
    #[inline]
    pub(super) fn split<A: Tables>(
        &mut self,
        packet: &mut Packet<'_>,
        then: &Then<'_, A>,
        connection: Option<(Found, &Real)>,
        verdict: Verdict,
    ) -> Verdict {
        match (then, verdict) {
            (Then::Fragment(hop), Verdict::Send(nic)) => self.split_to::<A>(packet, hop, connection, nic),
            _ => verdict,
        }
    }

    #[cold]
    fn split_to<A: Tables>(
        &mut self,
        packet: &mut Packet<'_>,
        hop: &NextHop,
        connection: Option<(Found, &Real)>,
        nic: NicId,
    ) -> Verdict {
        let in_tunnel = connection.and_then(|(found, real)| self.in_tunnel::<A>(found, real));
        let mtu = in_tunnel.map_or(hop.mtu, |real| real.path_mtu.of(hop.mtu));
        // What came in fragments is split when all is done.
        if let Some(gathered) = &mut self.gathered {
            gathered.mtu = mtu;
            return Verdict::Send(nic);
        }
        let identification = self.next_fragment_identification();
        self.pieces.split(packet, nic, mtu, identification).map(|()| nic).into()
    }

    /// The identification of the next IPv6 packet that is fragmented; its upper byte is the worker's.
    pub(super) const fn next_fragment_identification(&mut self) -> u32 {
        let identification = self.fragment_identification;
        self.fragment_identification = identification & 0xff00_0000 | (identification + 1) & 0x00ff_ffff;
        identification
    }

    /// True for the answer of a real server that needs none of the director's help.
    fn passes_by<A: Tables>(&self, found: Found) -> bool {
        found.direction == Direction::FromReal && !A::table(&self.connections).entry(found.index).is_nat()
    }

    /// Such an answer is routed, and counts.
    #[cold]
    fn answer_passing_by<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
        now: Tick,
    ) -> Verdict {
        self.answered(headers, passage.found, passage.real, now);
        route(snapshot, packet, headers, passage.hop)
    }

    /// An answer that needs none of the director's help moves its connection and counts.
    pub(super) fn answered<A: Tables + IpVersion>(
        &mut self,
        headers: &Headers<A>,
        found: Found,
        real: &Real,
        now: Tick,
    ) {
        let cell = real.counters.of(self.worker);
        let (entry, beside) = A::table_mut(&mut self.connections).entry_and_beside(found.index);
        observe(found, entry, beside, cell, &real.timeouts, headers, now);
        count(&cell.packets_out, &cell.bytes_out, headers.ip_length() as u64);
    }

    /// Makes the reply in the packet's room.
    #[cold]
    pub(super) fn reply<A: Tables + IpVersion>(
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
        if let Answer::Error(_, ReplyKind::PortUnreachable, ..) = answer {
            // What lies behind a UDP datagram is not quoted.
            if let Some(datagram) = headers.udp_datagram(packet.bytes()) {
                return self.make_reply(packet, &datagram, answer, hop);
            }
        }
        self.make_reply(packet, headers, answer, hop)
    }

    fn make_reply<A: Tables + IpVersion>(
        &mut self,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        answer: Answer<A>,
        hop: &NextHop,
    ) -> Verdict {
        packet.truncate(usize::from(headers.end));
        let made = match answer {
            Answer::Echo => reply::echo_reply(packet, headers),
            Answer::Reset => reply::tcp_reset(packet, headers),
            Answer::Error(error, _, source, quoted) => {
                if quoted == Quoted::OneLess {
                    A::decrement_ttl(packet.bytes_mut(), headers);
                }
                reply::icmp_error(packet, headers, error, source)
            }
        };
        match made {
            Ok(()) => {
                rewrite::address(packet.bytes_mut(), hop, A::ETHERTYPE);
                // What came in fragments is split when all is done.
                let is_too_long = packet.len() > ethernet::HEADER + usize::from(hop.mtu);
                if is_too_long && self.gathered.is_none() {
                    if let Err(reason) = self.split_reply(packet, hop) {
                        return Verdict::Drop(reason);
                    }
                }
                Verdict::Reply(hop.nic, answer.kind())
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    #[cold]
    fn split_reply(&mut self, packet: &mut Packet<'_>, hop: &NextHop) -> Result<(), DropReason> {
        let identification = self.next_fragment_identification();
        self.pieces.split(packet, hop.nic, hop.mtu, identification)
    }
}

impl From<Result<NicId, DropReason>> for Verdict {
    fn from(passed: Result<NicId, DropReason>) -> Self {
        match passed {
            Ok(nic) => Self::Send(nic),
            Err(reason) => Self::Drop(reason),
        }
    }
}

/// Counts a client's packet that went no further as the kernel does: it came in, and an error about a
/// connection whose answers do not come by went out (kernel: `ip_vs_in_hook`, `ip_vs_out_icmp`).
pub(super) fn count_refused<A: Address>(
    packet: &Packet<'_>,
    headers: &Headers<A>,
    is_nat: bool,
    cell: &RealCell,
    verdict: Verdict,
) {
    count(&cell.packets_in, &cell.bytes_in, headers.ip_length() as u64);
    if matches!(verdict, Verdict::Reply(..)) && !is_nat {
        count_told(packet, cell);
    }
}

/// Counts an error that the director made as the answer of a real server whose answers do not come by (kernel: `ip_vs_out_icmp`).
pub(super) fn count_told(error: &Packet<'_>, cell: &RealCell) {
    count(&cell.packets_out, &cell.bytes_out, error.len().saturating_sub(ethernet::HEADER) as u64);
}

/// Lets a SYN, or its answer that comes by, tell of no larger segments than the tunnel to its real server takes.
fn clamp_segments<A: IpVersion>(packet: &mut Packet<'_>, headers: &Headers<A>, real: Option<&Real>) {
    let Some(real) = real.filter(|real| real.mss_clamp) else { return };
    if let (Some(hop), Some(Protocol::Tcp)) = (real.way.hop(), headers.transport_protocol()) {
        mss::clamp(packet.bytes_mut(), headers, hop.mtu.saturating_sub(real.overhead.get()));
    }
}

/// Puts a rewritten packet into a tunnel to its real server.
#[inline(always)]
pub(super) fn tunnel<A: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    real: &Real,
    hop: &NextHop,
    identification: u16,
    pmtu_disc: bool,
) -> Result<(), DropReason> {
    let source = real.tunnel_source.ok_or(DropReason::NoTunnelSource)?;
    let outer =
        tun::Outer { source, destination: real.address, tunnel: real.tunnel, identification, pmtu_disc };
    if !tun::encapsulate(packet, headers, &outer) {
        return Err(DropReason::NoHeadRoom);
    }
    let ethertype = if source.is_ipv4() { ethernet::IPV4 } else { ethernet::IPV6 };
    rewrite::address(packet.bytes_mut(), hop, ethertype);
    Ok(())
}

/// Notices senders that leave checksums to a NIC that is not there (offloads on a veth peer).
#[inline(never)]
fn notice_checksum<A: IpVersion>(counters: &WorkerCounters, packet: &Packet<'_>, headers: &Headers<A>) {
    if !packet.unfilled && headers.checksum_not_filled(packet.bytes()) {
        counters.checksum_not_filled(packet.nic);
    }
}

/// Takes notice of a real server's SYN.
#[cold]
#[inline(never)]
fn notice_answer<A: IpVersion>(
    counters: &WorkerCounters,
    packet: &Packet<'_>,
    headers: &Headers<A>,
    entry: &mut Entry<A>,
    cell: &RealCell,
) {
    notice_checksum(counters, packet, headers);
    if entry.is_first_answer() {
        cell.evidence.at(Evidence::Answered as usize).add(1);
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

/// Whether a packet that does not go on moves its connection: not an answer that goes no further (kernel: `ip_forward`
/// refuses it before `ip_vs_out_hook` looks).
const fn is_noticed(direction: Direction, verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Punt(_)) || matches!(direction, Direction::FromClient)
}

pub(super) fn count(packets: &crate::counters::Counter, bytes: &crate::counters::Counter, length: u64) {
    packets.add(1);
    bytes.add(length);
}
