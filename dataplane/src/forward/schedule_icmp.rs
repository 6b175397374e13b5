//! `schedule_icmp`: an ICMP error that quotes an answer of no known connection makes that connection, and goes to the real server that
//! would have given the answer (kernel: `ip_vs_in_icmp`, `ip_vs_try_to_schedule`). So errors find their way when several directors
//! choose alike, and one of them never saw the connection.

use super::choose::{is_ftp_data, real_port};
use super::decide::{Asked, untaken};
use super::decision::{Case, Decided, Decision, New, Subject, Then};
use super::{Aside, Forwarder, Tables, Verdict};
use crate::flow::Flow;
use crate::id::Protocol;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::service::Method;
use crate::service::table::FTP_DATA;
use crate::snapshot::{Local, Snapshot};
use crate::time::Tick;
use crate::wire::{Headers, IpVersion};

impl Forwarder {
    /// What becomes of an ICMP error about an answer that a client's `flow` would have had; none when no service has it.
    #[cold]
    pub(super) fn schedule_error<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
        now: Tick,
    ) -> Option<Decided<'s, A>> {
        let snapshot = asked.snapshot;
        let marked = asked.error_marked();
        if marked.is_none() && !matches!(asked.local(), Ok(Some(Local::Vip) | None)) {
            return None;
        }
        if let Err(Case::HandOver(owner)) = self.owned(snapshot, asked.packet, flow.source) {
            return Some(Err(Aside::HandOver(owner)));
        }
        let services = &asked.tables.services;
        let exact = || services.find(flow.destination, flow.destination_port, flow.protocol);
        let service = snapshot.service(marked.or_else(exact)?)?;
        let is_data = flow.source_port == FTP_DATA;
        if let (false, Err(aside)) = (is_data, self.has_room(snapshot, flow.source, now)) {
            return Some(Err(aside));
        }
        if snapshot.sysctls.drop_packet > 0 && self.is_dropped::<A>(snapshot) {
            return Some(Err(Aside::Drop(DropReason::Defence)));
        }
        if is_data {
            return Some(untaken(None, None, Err(Aside::Drop(DropReason::Unwanted))));
        }
        // What is quoted was on its way to the client.
        let (choice, template, real) = match self.choose(snapshot, service, (flow, flow.source), now) {
            Ok(chosen) => chosen,
            // Nobody is told of an error with an error.
            Err(stale) => return Some(untaken(None, stale, Err(Aside::Drop(DropReason::NoReal)))),
        };
        let one_packet = service.settings.one_packet && flow.protocol == Protocol::Udp;
        let real_port = real_port(service, real, flow.destination_port);
        let new = New {
            service: service.id,
            real,
            real_port,
            is_judged: !is_ftp_data(service, flow),
            choice,
            template,
            replaces: None,
            one_packet,
        };
        let holds = || asked.headers.transport_checksum_holds(asked.packet.bytes());
        let then = if real.method == Method::Nat && !holds() {
            Then::Drop(DropReason::TransportChecksum)
        } else {
            asked.to_real(real, real.method)
        };
        Some(Ok(Decision { subject: Subject::NewError(new, *flow), then }))
    }

    /// Makes the connection, and passes the error on along it.
    #[cold]
    pub(super) fn settle_new_error<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        (new, flow): (&New<'_>, Flow<A>),
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        let found = match self.make(snapshot, (flow, flow.source), new, now) {
            Ok(found) => found,
            Err(reason) => return self.refused::<A>(reason),
        };
        self.leave_unseen::<A>(found.index, now);
        if let Then::Drop(DropReason::TransportChecksum) = then {
            return Verdict::Drop(DropReason::TransportChecksum);
        }
        let pmtu_disc = snapshot.sysctls.pmtu_disc;
        let verdict = self.settle_error(packet, headers, pmtu_disc, (found, new.real), then, now);
        if new.one_packet {
            self.remove::<A>(snapshot, found.index, now);
        }
        verdict
    }
}
