//! Packets of no connection that are not for the director: routed, once it is seen whether they are what a real server
//! says (kernel: `ip_vs_out_hook`).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::decide::Asked;
use super::decision::{Case, Decided, Decision, Subject, Then, no_connection};
use super::{Aside, Forwarder, Tables};
use crate::connections::{Direction, Found};
use crate::flow::Flow;
use crate::id::Protocol;
use crate::reason::{DropReason, ReplyKind};
use crate::service::Way;
use crate::snapshot::{Family, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{IpVersion, ethernet};

impl<A: IpVersion + Family> Asked<'_, '_, A> {
    /// True for what a service may answer. One that was deleted may have connections; without any service the kernel's IPVS does
    /// not see packets. IPv4 has dropped what comes from a VIP of the director's.
    pub(super) fn comes_from_service(&self, flow: &Flow<A>) -> bool {
        let services = &self.tables.services;
        let had_service = || A::BITS > 32 && !services.is_empty() && self.is_ours(flow.source);
        services.find(flow.source, flow.source_port, flow.protocol).is_some() || had_service()
    }
}

impl Forwarder {
    /// What becomes of such a packet.
    pub(super) fn unserved<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        now: Tick,
    ) -> Decided<'s, A> {
        let Some(flow) = asked.headers.flow() else { return self.leave(asked) };
        // Its client has to send first: what is routed, or refused, ends the connection at one of both ends.
        let answers = matches!(flow.protocol, Protocol::Tcp | Protocol::Sctp)
            && (asked.tables.others.silent || !asked.tables.silent.is_empty())
            && asked.tables.nat_ports.contains_key(&(flow.source, flow.protocol, flow.source_port));
        if answers {
            return Err(Aside::Drop(DropReason::ResetDelayed));
        }
        if asked.snapshot.sysctls.nat_icmp_send
            && asked.tables.nat_ports.contains_key(&(flow.source, flow.protocol, flow.source_port))
            && !(flow.protocol != Protocol::Udp && asked.headers.tcp_flags.rst())
        {
            // Behind the router that the director is (kernel: `ip_forward`): what that refuses does not come so far.
            let routed = asked.on()?;
            if !matches!(routed.then, Then::Forward(_) | Then::Fragment(_) | Then::Punt(_)) {
                return Ok(routed);
            }
            let then =
                asked.error(Error::PortUnreachable, ReplyKind::NoConnection, None, DropReason::NoConnection);
            return Ok(no_connection(then));
        }
        if asked.comes_from_service(&flow) {
            return self.passing_by(asked, &flow, now);
        }
        self.leave(asked)
    }

    /// Takes notice of a frame that the director's own kernel sends: the answer of a real server that is the director itself
    /// moves its connection (kernel: `ip_vs_local_reply4`). Where another worker owns the client, nobody does.
    #[cold]
    pub fn notice_own(&mut self, snapshot: &Snapshot, frame: &[u8], now: Tick) {
        match ethernet::ethertype(frame) {
            Some(ethernet::IPV4) => self.notice_own_of::<Ipv4Addr>(snapshot, frame, now),
            Some(ethernet::IPV6) => self.notice_own_of::<Ipv6Addr>(snapshot, frame, now),
            _ => {}
        }
    }

    fn notice_own_of<A: Tables>(&mut self, snapshot: &Snapshot, frame: &[u8], now: Tick) {
        let Ok(headers) = A::parse_large(frame) else { return };
        let Some(flow) = headers.flow() else { return };
        let services = &A::tables(snapshot).services;
        if services.find(flow.source, flow.source_port, flow.protocol).is_none() {
            return;
        }
        let (question, table) = (flow.reversed(), A::table(&self.connections));
        let found = table.find(table.hash(&question), &question, now);
        let Some(Found { index, direction: Direction::FromClient }) = found else { return };
        let Some(real) = snapshot.real(table.entry(index).real()).filter(|real| real.way == Way::Local)
        else {
            return;
        };
        self.answered(&headers, Found { index, direction: Direction::FromReal }, real, now);
    }

    /// A packet that [comes from a service](Asked::comes_from_service): the answer of a DR or TUN real server that has the
    /// director for a router moves its connection.
    pub(super) fn passing_by<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
        now: Tick,
    ) -> Decided<'s, A> {
        if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, flow.destination) {
            return Err(Aside::HandOver(owner));
        }
        let table = A::table(&self.connections);
        let question = flow.reversed();
        let found = table.find(table.hash(&question), &question, now);
        let Some(Found { index, direction: Direction::FromClient }) = found else {
            return self.routed(asked);
        };
        let real = asked.snapshot.real(table.entry(index).real()).filter(|real| asked.comes_from(real));
        let Some(real) = real else { return self.routed(asked) };
        let decision = asked.on()?;
        let subject = Subject::Found(Found { index, direction: Direction::FromReal }, real);
        Ok(Decision { subject, ..decision })
    }
}
