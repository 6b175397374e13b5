//! Packets of no connection that are not for the director: routed, once it is seen whether they are what a real server
//! says (kernel: `ip_vs_out_hook`).

use super::decide::{Asked, Case, Decided, Decision, Subject, no_connection};
use super::{Aside, Forwarder, Tables};
use crate::connections::{Direction, Found};
use crate::flow::Flow;
use crate::id::Protocol;
use crate::reason::{DropReason, ReplyKind};
use crate::time::Tick;
use crate::wire::IpVersion;
use crate::wire::icmp::Error;

impl Forwarder {
    /// What becomes of such a packet.
    pub(super) fn unserved<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        now: Tick,
    ) -> Decided<'s, A> {
        let Some(flow) = asked.headers.flow() else { return asked.route() };
        if asked.snapshot.sysctls.nat_icmp_send
            && asked.tables.nat_ports.contains_key(&(flow.source, flow.protocol, flow.source_port))
            && !(flow.protocol == Protocol::Tcp && asked.headers.tcp_flags.rst())
        {
            let then =
                asked.error(Error::PortUnreachable, ReplyKind::NoConnection, None, DropReason::NoConnection);
            return Ok(no_connection(then));
        }
        if asked.tables.services.find(flow.source, flow.source_port, flow.protocol).is_some() {
            return self.passing_by(asked, &flow, now);
        }
        asked.route()
    }

    /// A packet from a service that is not the director's own now: the answer of a DR or TUN real server that has the
    /// director for a router moves its connection.
    fn passing_by<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
        now: Tick,
    ) -> Decided<'s, A> {
        if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, flow.destination) {
            return Err(Aside::HandOver(owner));
        }
        let decision = asked.route()?;
        let table = A::table(&self.connections);
        let question = flow.reversed();
        let found = table.find(table.hash(&question), &question, now);
        let Some(Found { index, direction: Direction::FromClient }) = found else { return Ok(decision) };
        let Some(real) = asked.snapshot.real(table.entry(index).real()) else { return Ok(decision) };
        let subject = Subject::Found(Found { index, direction: Direction::FromReal }, real);
        Ok(Decision { subject, ..decision })
    }
}
