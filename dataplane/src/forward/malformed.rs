//! Packets with options that nobody can follow: their senders are told which byte is wrong (RFC 792, RFC 1122, 3.2.2.5; RFC 8200, 4.2;
//! kernel: `ip_rcv_options`, `ipv6_parse_hopopts`). What is wrong for the host alone that a packet is for, is told as that host.

use super::decide::Asked;
use super::decision::{Case, Decided, no_connection};
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::flow::Flow;
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::snapshot::{Family, Local, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Headers, IpVersion, Refused, ethernet};

impl Forwarder {
    /// Takes a packet whose options are wrong.
    #[cold]
    pub(super) fn malformed<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        error: Error,
        now: Tick,
    ) -> Verdict {
        let told = self.tell_of_option(&Asked::new(snapshot, packet, headers, now), error);
        match told {
            Ok(decision) => self.commit(snapshot, packet, headers, decision, now),
            Err(aside) => self.stand_aside::<A>(snapshot, aside),
        }
    }

    /// What becomes of such a packet. Who sends it past the services is told where it would have passed.
    pub(super) fn tell_of_option<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        error: Error,
    ) -> Decided<'s, A> {
        let (headers, packet) = (asked.headers, asked.packet);
        let source = match asked.local()? {
            Some(Local::Elsewhere) => return Err(Aside::Drop(DropReason::NotMaster)),
            Some(Local::Own(_)) => return Err(Aside::Punt(Punt::Local)),
            Some(Local::Vip) => Some(headers.destination),
            None => None,
        };
        if asked.snapshot.owners.workers > 1 && !packet.handed_over {
            let owned = self.own(asked.snapshot, packet.nic, headers.source, headers.destination);
            if let Err(Case::HandOver(owner)) = owned {
                return Err(Aside::HandOver(owner));
            }
        }
        if source.is_none() && !self.is_rewritten(asked) {
            asked.route()?;
        }
        Ok(no_connection(asked.error(error, ReplyKind::ParameterProblem, source, DropReason::IpHeader)))
    }

    /// True for what is rewritten on its way past the services: what a NAT real server says in a connection, which its owner knows,
    /// and what goes to and from masqueraded hosts.
    pub(super) fn is_rewritten<A: Tables + IpVersion>(&self, asked: &Asked<'_, '_, A>) -> bool {
        let headers = asked.headers;
        let table = A::table(&self.connections);
        let is_known = |flow: &Flow<A>| table.find(table.hash(flow), flow, asked.now).is_some();
        asked.asked_out_there(headers.source, headers.destination).is_some()
            || asked.tables.nat_reals.contains_key(&headers.source)
                && headers.flow().is_some_and(|flow| is_known(&flow))
    }
}

impl<'s, A: IpVersion + Family> Asked<'s, '_, A> {
    /// What becomes of a packet for a VIP whose headers its host does not take; none for others.
    #[inline(always)]
    pub(super) fn refused_by_host(&self) -> Option<Decided<'s, A>> {
        let is_extended = usize::from(self.headers.transport) > ethernet::HEADER + A::HEADER;
        if is_extended { self.refused_for_extensions() } else { None }
    }

    #[cold]
    fn refused_for_extensions(&self) -> Option<Decided<'s, A>> {
        let refused = A::refused_by_host(self.packet.bytes(), self.headers)?;
        Some(match refused {
            Refused::Silently => Err(Aside::Drop(DropReason::IpHeader)),
            Refused::Told(error) => self.refuse(error, error.reply_kind(), DropReason::IpHeader),
        })
    }
}
