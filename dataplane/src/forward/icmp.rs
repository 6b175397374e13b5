//! ICMP errors about connections (kernel: `ip_vs_in_icmp`, `ip_vs_out_icmp`): found by the packet that they quote, they go
//! the way of their connection and change neither its state nor its time. Errors about tunnels end here and are told
//! to the client whose packet was inside.

use super::commit::{count, count_refused, tunnel};
use super::decide::Asked;
use super::decision::{Answer, Case, Decided, Decision, Passage, Quoted, Subject, Then};
use super::ipsec::ike_beside;
use super::masquerade::echo_flow;
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::connections::{Direction, Found};
use crate::packet::Packet;
use crate::reason::{DropReason, Evidence, ReplyKind};
use crate::rewrite::{self, quote as requote, tun};
use crate::service::tunnel::{Tunnel, TunnelChecksum};
use crate::service::{Real, Standing, Way};
use crate::snapshot::{Local, Snapshot};
use crate::time::Tick;
use crate::wire::quote::{inside, quoted};
use crate::wire::{Fragment, Headers, IpVersion, array, ethernet, icmp, udp};

/// An error about a packet that the director put into a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelError<'s, A> {
    /// The real server of the client's connection.
    pub real: &'s Real,
    /// One that the tunnel leads to: the same, or what was the connection's when the packet was sent.
    pub path: &'s Real,
    /// The client's packet, as far as it is quoted.
    pub inner: Headers<A>,
    /// The path MTU that it tells of.
    pub mtu: Option<u16>,
    /// What it says about the real server.
    pub evidence: Option<Evidence>,
}

impl Forwarder {
    /// What becomes of an ICMP error that is about a connection or a tunnel of ours; none for any other packet.
    pub(super) fn error_about_ours<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        now: Tick,
    ) -> Option<Decided<'s, A>> {
        let (headers, frame) = (asked.headers, asked.packet.bytes());
        let is_error = headers.icmp_type(frame).is_some_and(icmp::tells_of_a_packet::<A>);
        if !is_error || headers.fragment != Fragment::Whole || headers.link_group {
            return None;
        }
        // Without services the kernel's IPVS does not see packets.
        if asked.tables.services.is_empty() {
            return None;
        }
        let about = quoted(frame, headers)?;
        match asked.local() {
            Err(aside) => Some(Err(aside)),
            Ok(Some(Local::Elsewhere)) => Some(Err(Aside::Drop(DropReason::NotMaster))),
            Ok(Some(Local::Own(_))) => (self.error_about_tunnel(asked, &about, now))
                .or_else(|| {
                    let answers = asked.tables.masquerade.has(headers.destination) || asked.is_served();
                    answers.then(|| self.error_about_connection(asked, &about, now))?
                })
                .or_else(|| self.error_that_counts(asked, &about, Some(Then::Local)))
                .or_else(|| self.error_about_connection(asked, &about, now)),
            Ok(Some(Local::Vip)) => (self.error_about_tunnel(asked, &about, now))
                .or_else(|| self.error_that_counts(asked, &about, Some(Then::Drop(DropReason::Unwanted))))
                .or_else(|| self.error_about_connection(asked, &about, now)),
            Ok(None) => self.error_about_connection(asked, &about, now),
        }
    }

    /// An error about a client's packet that the director does not rewrite, since it is for the director itself, or for a client
    /// whose connection is none of NAT: it counts as an answer (kernel: `handle_response_icmp`). `then` is what becomes of it
    /// unless it is routed.
    #[cold]
    fn error_that_counts<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        about: &Headers<A>,
        then: Option<Then<'s, A>>,
    ) -> Option<Decided<'s, A>> {
        let question = about.flow().or_else(|| ike_beside(about))?;
        let tables = asked.tables;
        if !asked.is_ours(question.destination) && !tables.nat_reals.contains_key(&question.destination) {
            return None;
        }
        if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, question.source) {
            return Some(Err(Aside::HandOver(owner)));
        }
        let (table, answer) = (A::table(&self.connections), question.reversed());
        let find = |flow| table.find(table.hash(flow), flow, asked.now);
        let of_nat = find(&answer).filter(|found| found.direction == Direction::FromReal);
        let found = of_nat.or_else(|| {
            find(&question).filter(|found| {
                found.direction == Direction::FromClient && !table.entry(found.index).is_nat()
            })
        })?;
        let entry = table.entry(found.index);
        let real = asked.snapshot.real(entry.real()).filter(|real| !real.is_masquerade())?;
        if entry.is_nat() && !asked.headers.transport_checksum_holds(asked.packet.bytes()) {
            return Some(Err(Aside::Drop(DropReason::TransportChecksum)));
        }
        let then = match then {
            Some(then) => Ok(then),
            None => self.leave(asked).map(|routed| routed.then),
        };
        Some(then.map(|then| Decision { subject: Subject::Noticed(real), then }))
    }

    /// Counts such an error, if it gets so far.
    #[cold]
    pub(super) fn count_noticed<A: Tables>(&self, headers: &Headers<A>, real: &Real, then: &Then<'_, A>) {
        let passes = match then {
            Then::Forward(_) | Then::Fragment(_) | Then::Local => true,
            Then::Drop(reason) => *reason == DropReason::Unwanted,
            Then::Reply(..) | Then::Punt(_) => false,
        };
        if passes && real.standing != Standing::Removed {
            let cell = real.counters.of(self.worker);
            count(&cell.packets_out, &cell.bytes_out, headers.ip_length() as u64);
        }
    }

    fn error_about_connection<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        about: &Headers<A>,
        now: Tick,
    ) -> Option<Decided<'s, A>> {
        // The error goes the other way than the packet that it quotes.
        let quoted = about.flow().or_else(|| ike_beside(about));
        let flow = quoted.or_else(|| echo_flow(asked.packet.bytes(), about))?.reversed();
        if asked.snapshot.owners.workers > 1 && !asked.packet.handed_over {
            if let Err(Case::HandOver(owner)) =
                self.own(asked.snapshot, asked.packet.nic, flow.source, flow.destination)
            {
                return Some(Err(Aside::HandOver(owner)));
            }
            let remote = asked.asked_out_there(flow.source, flow.destination);
            if let Some(Err(Case::HandOver(owner))) =
                remote.map(|remote| self.owned(asked.snapshot, asked.packet, remote))
            {
                return Some(Err(Aside::HandOver(owner)));
            }
        }
        let table = A::table(&self.connections);
        let Some(found) = table.find(table.hash(&flow), &flow, now) else {
            if !asked.is_to_us() {
                if let Some(passes) = self.error_that_counts(asked, about, None) {
                    return Some(passes);
                }
            }
            let schedules = asked.snapshot.sysctls.schedule_icmp && about.flow().is_some();
            return schedules.then(|| self.schedule_error(asked, &flow, now))?;
        };
        let entry = table.entry(found.index);
        let real = asked.snapshot.real(entry.real())?;
        // Only what is rewritten is looked at that closely.
        if entry.is_nat() && !asked.headers.transport_checksum_holds(asked.packet.bytes()) {
            return Some(Err(Aside::Drop(DropReason::TransportChecksum)));
        }
        let then = asked.along(found, entry, real);
        Some(Ok(Decision { subject: Subject::Error(found, real), then }))
    }

    /// An error about a tunnel that begins here. The kernel tells clients of IPv4 in IPv4 alone.
    fn error_about_tunnel<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        about: &Headers<A>,
        now: Tick,
    ) -> Option<Decided<'s, A>> {
        let (headers, frame) = (asked.headers, asked.packet.bytes());
        if A::BITS > 32 || about.fragment == Fragment::Later {
            return None;
        }
        let seen = SeenTunnel::of(frame, headers, about)?;
        let inner = inside(frame, headers, usize::from(about.transport) + seen.header)?;
        let flow = inner.flow()?;
        if asked.snapshot.owners.workers > 1 {
            if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, flow.source) {
                return Some(Err(Aside::HandOver(owner)));
            }
        }
        // Any tunnel that leads there will do: the client may be another real server's by now, and its old one removed.
        let path = asked.snapshot.tunnels_to(about.destination.into()).find(|one| seen.is(one.tunnel))?;
        if !headers.transport_checksum_holds(frame) {
            return Some(Err(Aside::Drop(DropReason::TransportChecksum)));
        }
        let message = headers.transport_bytes(frame);
        let [kind, code] = array(message, icmp::field::TYPE)?;
        let word = array(message, icmp::field::WORD).map_or(0, u32::from_be_bytes);
        let too_big = A::error_words(icmp::Error::TooBig { mtu: 0 }, headers, frame);
        let mtu = ((kind, code) == (too_big.0, too_big.1)).then_some(word as u16);
        let table = A::table(&self.connections);
        let Some(found) = table.find(table.hash(&flow), &flow, now) else {
            // Of UDP the kernel learns even where the connection is gone.
            let learns = mtu.is_some() && matches!(path.tunnel, Tunnel::Gue { .. });
            let error = TunnelError { real: path, path, inner, mtu, evidence: None };
            let then = Then::Drop(DropReason::PathMtu);
            return learns.then_some(Ok(Decision { subject: Subject::Tunnel(error), then }));
        };
        let real = asked.snapshot.real(table.entry(found.index).real())?;
        if found.direction != Direction::FromClient {
            return None;
        }
        let evidence = icmp::evidence::<A>(kind, code);
        let subject = Subject::Tunnel(TunnelError { real, path, inner, mtu, evidence });
        if mtu.is_some() && !A::dont_fragment(frame, &inner) {
            return Some(Ok(Decision { subject, then: Then::Drop(DropReason::PathMtu) }));
        }
        // What is told is what held until now: the next packet that is too large meets what was learned.
        let word = mtu.map_or(word, |told| {
            let (mtu, overhead) = (real.mtu_of_last_route(told, path), (A::HEADER + seen.header) as u16);
            u32::from(if mtu > SMALLEST_INSIDE + overhead { mtu - overhead } else { mtu })
        });
        let error = icmp::Error::Told { kind, code, word };
        let then = match asked.tables.way(inner.source) {
            Way::Known(hop) => {
                let answer = Answer::Error(error, ReplyKind::Tunnel, inner.destination, Quoted::AsItCame);
                Then::Reply(answer, hop)
            }
            // Nothing is kept for errors: another one comes.
            Way::Unresolved(_) | Way::Local | Way::None => Then::Drop(DropReason::NoRoute),
        };
        Some(Ok(Decision { subject, then }))
    }

    /// Does what was decided about an ICMP error about a connection.
    #[cold]
    pub(super) fn settle_error<A: Tables + IpVersion>(
        &mut self,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        pmtu_disc: bool,
        (found, real): (Found, &Real),
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        // One that waits for a neighbour comes again.
        if found.direction == Direction::FromReal && !matches!(then, Then::Punt(_)) {
            self.witness_error(packet, headers, found, real, now);
        }
        let verdict = match then {
            Then::Forward(hop) | Then::Fragment(hop) => {
                let passed = self.pass_error(packet, headers, &Passage { found, real, hop }, pmtu_disc);
                return self.split(packet, &then, Some((found, real)), passed);
            }
            Then::Punt(unresolved) => return Verdict::Punt(Punt::Unresolved(unresolved)),
            Then::Local => Verdict::Punt(Punt::Local),
            Then::Drop(reason) => Verdict::Drop(reason),
            // Errors about errors are not told, so that none is ever decided.
            Then::Reply(..) => Verdict::Drop(DropReason::Unwanted),
        };
        if found.direction == Direction::FromClient {
            let is_nat = A::table(&self.connections).entry(found.index).is_nat();
            count_refused(packet, headers, is_nat, real.counters.of(self.worker), verdict);
        }
        verdict
    }

    /// Passes it on along its connection.
    fn pass_error<A: Tables + IpVersion>(
        &mut self,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        passage: &Passage<'_>,
        pmtu_disc: bool,
    ) -> Verdict {
        let Passage { found: Found { index, direction }, real, hop } = *passage;
        let Some(about) = quoted(packet.bytes(), headers) else {
            return Verdict::Drop(DropReason::TransportHeader);
        };
        let cell = real.counters.of(self.worker);
        let entry = A::table(&self.connections).entry(index);
        let length = headers.ip_length() as u64;
        packet.truncate(usize::from(headers.end));
        rewrite::pass(packet.bytes_mut(), headers, entry.vip());
        match direction {
            Direction::FromReal => {
                count(&cell.packets_out, &cell.bytes_out, length);
                let (vip, port) = (entry.vip(), entry.vip_port());
                requote::from_real(packet.bytes_mut(), headers, &about, vip, port);
            }
            Direction::FromClient => {
                count(&cell.packets_in, &cell.bytes_in, length);
                if entry.is_nat() {
                    let (address, port) = (entry.real_address(), entry.real_port());
                    requote::to_real(packet.bytes_mut(), headers, &about, address, port);
                } else if entry.is_tunnelled() {
                    self.identification = self.identification.wrapping_add(1);
                    return tunnel(packet, headers, real, hop, self.identification, pmtu_disc)
                        .map(|()| hop.nic)
                        .into();
                }
            }
        }
        rewrite::address(packet.bytes_mut(), hop, A::ETHERTYPE);
        Verdict::Send(hop.nic)
    }

    /// Answers an error about a tunnel, learns from it, and counts as the kernel does.
    #[cold]
    pub(super) fn tell_of_tunnel<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        error: &TunnelError<'_, A>,
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        let TunnelError { real, path, inner, mtu, evidence } = error;
        // The connection may be another real server's by now.
        if let Some(evidence) = evidence.filter(|_| real.address == path.address) {
            real.counters.of(self.worker).witness(evidence, now);
        }
        if let Some(mtu) = mtu.filter(|&mtu| path.would_learn(mtu)) {
            let is_first = !path.path_mtu.is_learned();
            path.path_mtu.learn(mtu, now);
            for other in snapshot.tunnels_to(path.address) {
                other.measure();
                if is_first {
                    other.path_changed();
                }
            }
        }
        let verdict = match then {
            Then::Reply(answer, hop) => self.reply(snapshot, packet, inner, answer, hop, now),
            Then::Drop(reason) => Verdict::Drop(reason),
            Then::Forward(_) | Then::Fragment(_) | Then::Punt(_) | Then::Local => {
                Verdict::Drop(DropReason::Unwanted)
            }
        };
        // The kernel counts nothing for a real server that was removed.
        if matches!(verdict, Verdict::Reply(..)) && real.standing != Standing::Removed {
            let cell = real.counters.of(self.worker);
            let told = packet.len().saturating_sub(ethernet::HEADER);
            for length in [inner.ip_length(), told] {
                count(&cell.packets_out, &cell.bytes_out, length as u64);
            }
        }
        verdict
    }
}

/// The tunnel of a packet, as its headers show it.
struct SeenTunnel {
    tunnel: Tunnel,
    /// Bytes between the outer IP header and the packet inside.
    header: usize,
}

impl SeenTunnel {
    /// The tunnel of the packet `about`, when it is one with a packet of the same version inside (kernel:
    /// `ipvs_udp_decap`, `ipvs_gre_decap`).
    fn of<A: IpVersion>(frame: &[u8], outer: &Headers<A>, about: &Headers<A>) -> Option<Self> {
        const UDP: u8 = crate::id::Protocol::Udp.number();
        let bytes = frame.get(usize::from(about.transport)..usize::from(outer.end))?;
        match about.protocol {
            number if number == A::TUNNEL_PROTOCOL => Some(Self { tunnel: Tunnel::Ipip, header: 0 }),
            tun::GRE => {
                let [flags, version, high, low] = array(bytes, 0)?;
                let checksum = match (flags, version) {
                    (0, 0) => false,
                    (0x80, 0) => true,
                    _ => return None,
                };
                let tunnel = Tunnel::Gre { checksum };
                let is_ours = u16::from_be_bytes([high, low]) == A::ETHERTYPE;
                is_ours.then_some(Self { tunnel, header: tunnel.header() })
            }
            UDP => {
                let [first, protocol] = array(bytes, udp::HEADER)?;
                let is_ours = first & !GUE_OPTIONS == 0 && protocol == A::TUNNEL_PROTOCOL;
                let tunnel = Tunnel::Gue { l4_port: about.destination_port, checksum: TunnelChecksum::None };
                let options = usize::from(first & GUE_OPTIONS) * 4;
                is_ours.then_some(Self { tunnel, header: tunnel.header() + options })
            }
            _ => None,
        }
    }

    /// True when it is this one, but for its checksum.
    fn is(&self, tunnel: Tunnel) -> bool {
        match (self.tunnel, tunnel) {
            (Tunnel::Ipip, Tunnel::Ipip) | (Tunnel::Gre { .. }, Tunnel::Gre { .. }) => true,
            (Tunnel::Gue { l4_port: seen, .. }, Tunnel::Gue { l4_port, .. }) => seen == l4_port,
            _ => false,
        }
    }
}

/// No path takes less than this (RFC 791), so that nobody is told of less.
const SMALLEST_INSIDE: u16 = 68;
/// The bits of GUE's first byte that count its options in words of four bytes.
const GUE_OPTIONS: u8 = 0x1f;
