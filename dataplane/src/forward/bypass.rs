//! Connections that are passed on to their own destination ([`crate::service::bypass`]), once no real server takes them.

use super::decide::Asked;
use super::decision::{Decided, Decision, Subject, Then};
use super::{Forwarder, Tables, Verdict};
use crate::connections::{ConnectionIndex, Direction, Found, NewConnection, TemplateIndex};
use crate::flow::Flow;
use crate::id::{L4Port, Protocol};
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::service::mark::Mark;
use crate::service::{Method, Real, Service};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::{Headers, IpVersion};

/// A connection to be passed by.
#[derive(Debug)]
pub(super) struct Bypass<'s> {
    real: &'s Real,
    /// The connection in TIME_WAIT whose ports the client uses again.
    replaces: Option<ConnectionIndex>,
    /// The template that the client had.
    stale: Option<TemplateIndex>,
    /// It ends with this packet.
    one_packet: bool,
}

impl Forwarder {
    /// Whether a packet that no real server of `service` takes goes on to its own destination (kernel: `ip_vs_leave`):
    /// the service has a firewall mark, and the destination is a host's and none of the director's addresses. The kernel
    /// does not look at the latter for IPv6, and drops such packets.
    #[cold]
    pub(super) fn bypass<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        service: &Service,
        flow: &Flow<A>,
        replaces: Option<ConnectionIndex>,
        stale: Option<TemplateIndex>,
    ) -> Option<Decided<'s, A>> {
        let is_wanted = asked.snapshot.sysctls.cache_bypass && Mark::of(service.listen).is_some();
        if !is_wanted || asked.is_ours(flow.destination) || flow.destination.is_group() {
            return None;
        }
        let real = asked.snapshot.real(asked.tables.bypass?)?;
        let one_packet = service.settings.one_packet && flow.protocol == Protocol::Udp;
        let then = asked.past(flow.destination);
        let bypass = Bypass { real, replaces, stale, one_packet };
        Some(Ok(Decision { subject: Subject::Bypass(bypass), then }))
    }

    /// Makes such a connection and passes its first packet on.
    #[cold]
    pub(super) fn pass_by<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        new: Bypass<'_>,
        then: Then<'_, A>,
        now: Tick,
    ) -> Verdict {
        self.give_up::<A>(snapshot, new.replaces, new.stale, now);
        let Some(flow) = headers.flow() else { return Verdict::Drop(DropReason::TransportHeader) };
        let connection = NewConnection {
            flow,
            real: new.real.id,
            real_address: A::UNSPECIFIED,
            real_port: L4Port(0),
            method: Method::Dr,
            masqueraded: false,
        };
        let index = match self.make_of_none(snapshot, &connection, new.real, now) {
            Ok(index) => index,
            Err(reason) => return self.refused::<A>(reason),
        };
        let found = Found { index, direction: Direction::FromClient };
        let verdict = self.settle(snapshot, packet, headers, Some((found, new.real)), then, now);
        if new.one_packet {
            self.remove::<A>(snapshot, index, now);
        }
        verdict
    }
}
