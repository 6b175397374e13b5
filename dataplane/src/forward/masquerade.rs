//! Masquerade ([`crate::service::masquerade`]): hosts behind the director leave by an address of its own, and what others begin with
//! such a host is remembered, so that its answers leave as they are (kernel: `nf_nat_masquerade_ipv4`, `nf_conntrack`).
//!
//! A connection is owned by the worker that owns who is asked: the worker of a NAT real server's client. Its packets are found as
//! any NAT connection's are; what is here is how it begins, which way its answers go, and ICMP.

use super::decide::Asked;
use super::decision::{Case, Decided, Decision, Subject, Then, no_connection};
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::connections::{Direction, Entry, Found, NewConnection};
use crate::flow::Flow;
use crate::id::{L4Port, Protocol};
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::rewrite;
use crate::service::masquerade::{Leave, PORTS, TRIES_MAX, candidate_port};
use crate::service::{Method, NextHop, Real};
use crate::snapshot::{Family, Local, Snapshot};
use crate::time::Tick;
use crate::wire::checksum::Sum;
use crate::wire::{Headers, IpVersion, array, icmp, put};

/// The flow of an ICMP echo: its identifier stands for the port of who asked, and who answers has port 0. `headers` may be those of a
/// quoted packet.
pub(super) fn echo_flow<A: IpVersion>(frame: &[u8], headers: &Headers<A>) -> Option<Flow<A>> {
    let kind = headers.icmp_type(frame)?;
    let [high, low] = array(headers.transport_bytes(frame), icmp::field::WORD)?;
    let identifier = L4Port(u16::from_be_bytes([high, low]));
    let (source_port, destination_port) = match kind {
        _ if kind == A::ECHO_REQUEST => (identifier, L4Port(0)),
        _ if kind == A::ECHO_REPLY => (L4Port(0), identifier),
        _ => return None,
    };
    let (source, destination) = (headers.source, headers.destination);
    Some(Flow { source, destination, source_port, destination_port, protocol: Protocol::Icmp })
}

impl<'s, A: IpVersion + Family> Asked<'s, '_, A> {
    /// The address that a packet between these two leaves by, if it does not leave as it is.
    fn leaves_by(&self, source: A, destination: A) -> Option<Leave<A>> {
        let masquerade = &self.tables.masquerade;
        if masquerade.is_empty() || destination.is_group() || destination.is_link_local() {
            return None;
        }
        masquerade.find(source, destination, self.tables.routes.find(destination)?.nic)
    }

    /// Who is asked out there by the masqueraded flow that a packet may be part of; none when it cannot be one.
    pub(super) fn asked_out_there(&self, source: A, destination: A) -> Option<A> {
        if self.tables.masquerade.has(destination) {
            Some(source)
        } else {
            self.leaves_by(source, destination).map(|_| destination)
        }
    }

    /// On along a connection that was found.
    pub(super) fn along(&self, found: Found, entry: &Entry<A>, real: &'s Real) -> Then<'s, A> {
        let way = |to| self.onward(self.tables.way(to), 0, None);
        match found.direction {
            Direction::FromClient if real.is_masquerade() => way(entry.real_address()),
            Direction::FromClient if real.is_bypass() => self.past(self.headers.destination),
            Direction::FromClient => self.to_real(real, entry.method()),
            Direction::FromReal => way(self.headers.destination),
        }
    }

    /// On to `destination` itself, past all real servers.
    pub(super) fn past(&self, destination: A) -> Then<'s, A> {
        self.onward(self.tables.way(destination), 0, Some(destination))
    }

    /// True for an address of the director's, a VIP or its own.
    pub(super) fn is_ours(&self, address: A) -> bool {
        if address == self.headers.destination {
            return self.is_to_us();
        }
        self.tables.local.contains(self.packet.nic, address)
    }

    /// For an address of the director's, by the ports of a masqueraded connection that is over.
    pub(super) fn stray<T>(&self) -> Result<T, Aside> {
        match self.local()? {
            Some(Local::Own(_)) => Err(Aside::Punt(Punt::Local)),
            Some(Local::Vip | Local::Elsewhere) | None => Err(Aside::Drop(DropReason::NoConnection)),
        }
    }
}

impl Forwarder {
    /// A packet of no service that is to be routed.
    #[inline]
    pub(super) fn leave<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        if asked.tables.masquerade.is_empty() {
            return self.routed(asked);
        }
        self.leave_by_rules(asked)
    }

    #[cold]
    fn leave_by_rules<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        let headers = asked.headers;
        let Some(flow) = headers.flow() else {
            // The echoes among these were found before; other ICMP speaks of what was routed.
            let unknown = headers.protocol != A::ICMP_PROTOCOL
                && self.is_masqueraded(asked, headers.source, headers.destination);
            return if unknown {
                Err(Aside::Drop(DropReason::MasqueradeProtocol))
            } else {
                self.routed(asked)
            };
        };
        if let Some(leave) = asked.leaves_by(flow.source, flow.destination) {
            return self.begin(asked, &flow, leave);
        }
        if let Some(leave) = asked.leaves_by(flow.destination, flow.source) {
            return self.enter(asked, &flow, leave);
        }
        self.routed(asked)
    }

    /// True for a packet of a masqueraded host.
    pub(super) fn is_masqueraded<A: Tables + IpVersion>(
        &self,
        asked: &Asked<'_, '_, A>,
        source: A,
        destination: A,
    ) -> bool {
        asked.leaves_by(source, destination).is_some()
    }

    /// A masqueraded host begins a connection. One that is under way already is taken up, since it may be older than the
    /// director.
    fn begin<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
        leave: Leave<A>,
    ) -> Decided<'s, A> {
        if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, flow.destination) {
            return Err(Aside::HandOver(owner));
        }
        // A rule for everybody lets out who is behind the director, and nobody in.
        let inwards = leave.everybody && asked.tables.routes.find_network(flow.destination).is_some();
        if inwards && asked.rule().is_none() {
            return Err(Aside::Drop(DropReason::NotForwarded));
        }
        let flags = asked.headers.tcp_flags;
        if flags.rst() || flow.protocol == Protocol::Tcp && flags.syn() && flags.ack() {
            return asked.route();
        }
        let real = asked.snapshot.real(leave.real).ok_or(Aside::Drop(DropReason::NoRoute))?;
        let then = asked.onward(asked.tables.way(flow.destination), 0, None);
        if !matches!(then, Then::Forward(_) | Then::Fragment(_) | Then::Punt(_)) {
            return Ok(no_connection(then));
        }
        let answer = |destination_port| Flow {
            source: flow.destination,
            destination: leave.address,
            source_port: flow.destination_port,
            destination_port,
            protocol: flow.protocol,
        };
        let port = self.free_port(asked, flow, answer).ok_or(Aside::Drop(DropReason::MasqueradePorts))?;
        let connection = NewConnection {
            flow: answer(port),
            real: real.id,
            real_address: flow.source,
            real_port: flow.source_port,
            method: Method::Nat,
            masqueraded: true,
        };
        Ok(Decision { subject: Subject::Masqueraded(connection, Direction::FromReal, real), then })
    }

    /// The port that a flow leaves by: its own, or another one that answers of no other flow come back to.
    fn free_port<A: Tables + IpVersion>(
        &self,
        asked: &Asked<'_, '_, A>,
        flow: &Flow<A>,
        answer: impl Fn(L4Port) -> Flow<A>,
    ) -> Option<L4Port> {
        let (table, services) = (A::table(&self.connections), &asked.tables.services);
        let is_free = |port: &L4Port| {
            let answer = answer(*port);
            let taken = table.find(table.hash(&answer), &answer, asked.now).is_some();
            !taken && !services.listens(answer.destination, *port, answer.protocol)
        };
        let own = Some(flow.source_port).filter(|port| PORTS.contains(&port.0) && is_free(port));
        let hash = table.hash(flow);
        own.or_else(|| (0..TRIES_MAX).map(|attempt| L4Port(candidate_port(hash, attempt))).find(is_free))
    }

    /// Somebody begins a connection with a host that is masqueraded otherwise: it is routed, and so will be its answers.
    fn enter<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
        leave: Leave<A>,
    ) -> Decided<'s, A> {
        if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, flow.source) {
            return Err(Aside::HandOver(owner));
        }
        let routed = asked.route()?;
        let goes = matches!(routed.then, Then::Forward(_) | Then::Fragment(_) | Then::Punt(_));
        let room = self.has_room(asked.snapshot, flow.source, asked.now).is_ok();
        let Some(real) = asked.snapshot.real(leave.real) else { return Ok(routed) };
        if !goes || !room || asked.headers.tcp_flags.rst() {
            return Ok(routed);
        }
        let connection = NewConnection {
            flow: *flow,
            real: real.id,
            real_address: flow.destination,
            real_port: flow.destination_port,
            method: Method::Nat,
            masqueraded: false,
        };
        Ok(Decision { subject: Subject::Masqueraded(connection, Direction::FromClient, real), ..routed })
    }

    /// An ICMP echo of a masqueraded host, or its answer; none for anything else.
    pub(super) fn masqueraded_echo<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
    ) -> Option<Decided<'s, A>> {
        let headers = asked.headers;
        if asked.tables.masquerade.is_empty() || headers.link_group {
            return None;
        }
        let flow = echo_flow(asked.packet.bytes(), headers)?;
        let remote = asked.asked_out_there(flow.source, flow.destination)?;
        let local = match asked.local() {
            Err(aside) => return Some(Err(aside)),
            Ok(local) => local,
        };
        if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, remote) {
            return Some(Err(Aside::HandOver(owner)));
        }
        let table = A::table(&self.connections);
        let Some(found) = table.find(table.hash(&flow), &flow, asked.now) else {
            // An answer that nobody asked for is routed, or the director's own.
            let asks = flow.destination_port == L4Port(0) && local.is_none();
            let leave = asked.leaves_by(flow.source, flow.destination).filter(|_| asks)?;
            return Some(self.begin(asked, &flow, leave));
        };
        if !headers.transport_checksum_holds(asked.packet.bytes()) {
            return Some(Err(Aside::Drop(DropReason::TransportChecksum)));
        }
        let entry = table.entry(found.index);
        let real = asked.snapshot.real(entry.real())?;
        Some(Ok(Decision { subject: Subject::Echo(found, real), then: asked.along(found, entry, real) }))
    }

    /// Makes a connection and passes its first packet on.
    #[cold]
    pub(super) fn masquerade<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        new: (NewConnection<A>, Direction, &Real),
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        let (connection, direction, real) = new;
        let index = match self.make_of_none(snapshot, &connection, real, now) {
            Ok(index) => index,
            Err(reason) => return self.refused::<A>(reason),
        };
        let found = Found { index, direction };
        match connection.flow.protocol {
            Protocol::Icmp => self.settle_echo(snapshot, packet, headers, (found, real), then, now),
            _ => self.settle(snapshot, packet, headers, Some((found, real)), then, now),
        }
    }

    /// Does what was decided about an echo.
    #[cold]
    pub(super) fn settle_echo<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        (found, real): (Found, &Real),
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        match then {
            Then::Forward(hop) | Then::Fragment(hop) => {
                self.observe_echo::<A>(found.index, now);
                let cell = real.counters.of(self.worker);
                let (packets, bytes) = match found.direction {
                    Direction::FromClient => (&cell.packets_in, &cell.bytes_in),
                    Direction::FromReal => (&cell.packets_out, &cell.bytes_out),
                };
                super::commit::count(packets, bytes, headers.ip_length() as u64);
                let entry = A::table(&self.connections).entry(found.index);
                pass_echo(packet, headers, entry, found.direction, hop);
                self.split(packet, &then, None, Verdict::Send(hop.nic))
            }
            Then::Reply(answer, hop) => self.reply(snapshot, packet, headers, answer, hop, now),
            Then::Punt(unresolved) => Verdict::Punt(Punt::Unresolved(unresolved)),
            Then::Local => Verdict::Punt(Punt::Local),
            Then::Drop(reason) => Verdict::Drop(reason),
        }
    }
}

/// Rewrites an echo: address and identifier.
fn pass_echo<A: IpVersion>(
    packet: &mut Packet<'_>,
    headers: &Headers<A>,
    entry: &Entry<A>,
    direction: Direction,
    hop: &NextHop,
) {
    packet.truncate(usize::from(headers.end));
    let frame = packet.bytes_mut();
    rewrite::pass(frame, headers, entry.vip());
    let (at, address, identifier) = match direction {
        Direction::FromReal => (A::SOURCE, entry.vip(), entry.vip_port()),
        Direction::FromClient => (A::DESTINATION, entry.real_address(), entry.real_port()),
    };
    let addresses = A::replace_address(frame, headers, at, address);
    // ICMP's checksum covers no addresses, ICMPv6's does.
    let change = if A::BITS > 32 { addresses } else { Sum::ZERO };
    let message = headers.transport_bytes_mut(frame);
    let old = array(message, icmp::field::WORD).map_or(0, u16::from_be_bytes);
    let checksum = array(message, icmp::field::CHECKSUM).map_or(0, u16::from_be_bytes);
    put(message, icmp::field::WORD, identifier.0.to_be_bytes());
    let checksum = change.word_changed(old, identifier.0).update(checksum);
    put(message, icmp::field::CHECKSUM, checksum.to_be_bytes());
    rewrite::address(frame, hop, A::ETHERTYPE);
}
