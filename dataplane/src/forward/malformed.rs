//! IPv4 packets with options that nobody can follow: their senders are told which byte is wrong (RFC 792, RFC 1122, 3.2.2.5; kernel:
//! `ip_rcv_options`).

use super::decide::Asked;
use super::decision::{Case, Decided, no_connection};
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::flow::Flow;
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::snapshot::{Local, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Headers, IpVersion};

impl Forwarder {
    /// Takes a packet of whose options the byte at this place of the header is wrong.
    #[cold]
    pub(super) fn malformed<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        at: u8,
        now: Tick,
    ) -> Verdict {
        let told = self.tell_of_option(&Asked::new(snapshot, packet, headers, now), at);
        match told {
            Ok(decision) => self.commit(snapshot, packet, headers, decision, now),
            Err(aside) => self.stand_aside::<A>(snapshot, aside),
        }
    }

    /// What becomes of such a packet. Who sends it past the services is told where it would have passed.
    pub(super) fn tell_of_option<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        at: u8,
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
        let error = Error::ParameterProblem { at };
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
