//! What becomes of one packet: read-only, in the order of the kernel's `ip_vs_in`.
//!
//! connection → service → scheduler, or ping and refusals of a VIP, or routing; then the next hop, TTL and MTU.

use super::{Aside, Forwarder, Punt, Tables};
use crate::address::Address;
use crate::connections::{ConnectionIndex, Direction, Found};
use crate::flow::Flow;
use crate::id::{L4Port, Protocol, RealId, ServiceId};
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::reply;
use crate::rewrite::tun;
use crate::service::schedulers::{self, Choice, Client, Cursor};
use crate::service::{Method, NextHop, Real, Unresolved, Way};
use crate::snapshot::{FamilyTables, Local, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Fragment, Headers, IpVersion};

/// What was decided about a packet.
#[derive(Clone, Debug)]
pub(super) struct Decision<A> {
    /// Which connection it belongs to.
    pub subject: Subject,
    /// What happens to it.
    pub then: Then<A>,
}

/// The connection of a packet.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// None: it is routed or answered.
    None,
    /// One that exists.
    Found(Found, RealId),
    /// One to be made.
    New(New),
}

/// A connection to be made.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub service: ServiceId,
    pub real: RealId,
    /// What the scheduler chose, and where it stands then.
    pub choice: Choice,
    /// The connection in TIME_WAIT whose ports the client uses again.
    pub replaces: Option<ConnectionIndex>,
}

/// What happens to a packet once its connection is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then<A> {
    /// To the real server, or to the client, or routed.
    Forward(NextHop),
    /// An answer by the director itself.
    Reply(Answer<A>, NextHop),
    /// It waits for a neighbour.
    Punt(Unresolved),
    /// Gone, though its connection lives.
    Drop(DropReason),
}

/// An answer by the director.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer<A> {
    Echo,
    Reset,
    /// An ICMP error from this address, counted under this kind.
    Error(Error, ReplyKind, A),
}

type Decided<A> = Result<Decision<A>, Aside>;

const fn no_connection<A>(then: Then<A>) -> Decision<A> {
    Decision { subject: Subject::None, then }
}

/// What `decide` reads: one packet and the tables of its family.
struct Asked<'a, A: Address> {
    snapshot: &'a Snapshot,
    tables: &'a FamilyTables<A>,
    packet: &'a Packet<'a>,
    headers: &'a Headers<A>,
}

impl Forwarder {
    /// Decides about one packet.
    ///
    /// # Errors
    /// When no connection is touched and nothing has to be written: hand-over, punt, drop.
    pub(super) fn decide<A: Tables + IpVersion>(
        &self,
        snapshot: &Snapshot,
        packet: &Packet<'_>,
        headers: &Headers<A>,
        hash: u64,
        now: Tick,
    ) -> Decided<A> {
        let asked = Asked { snapshot, tables: A::tables(snapshot), packet, headers };
        let Some(flow) = headers.flow() else { return asked.without_flow() };
        if headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        if snapshot.owners.workers > 1 && !packet.handed_over {
            asked.owner(self)?;
        }
        if headers.fragment != Fragment::Whole {
            return asked.fragment();
        }
        if let Some(found) = A::table(&self.connections).find(hash, &flow, now) {
            return self.found(&asked, found, flow);
        }
        match asked.local()? {
            Some(Local::Vip) => self.new_connection(&asked, &flow, None),
            Some(Local::Own(_)) => Err(Aside::Punt(Punt::Local)),
            None => asked.route(),
        }
    }

    /// A packet of a connection that exists (kernel: `ip_vs_in_hook`, `handle_response`).
    #[inline]
    fn found<A: Tables + IpVersion>(&self, asked: &Asked<'_, A>, found: Found, flow: Flow<A>) -> Decided<A> {
        let entry = A::table(&self.connections).entry(found.index);
        let subject = Subject::Found(found, entry.real());
        if found.direction == Direction::FromReal {
            let then = asked.onward(asked.tables.way(&asked.snapshot.nics, flow.destination), 0, None);
            return Ok(Decision { subject, then });
        }
        let flags = asked.headers.tcp_flags;
        if entry.is_reused_by(flags.0) {
            return self.new_connection(asked, &flow, Some(found.index));
        }
        // The kernel leaves the connections of a removed real server as they are: neither state nor time move.
        let real = asked.snapshot.real(entry.real()).filter(|real| real.configured);
        let real = real.ok_or(Aside::Drop(DropReason::RealRemoved))?;
        if !real.up && flow.protocol == Protocol::Tcp && flags.syn() && !flags.ack() {
            return self.new_connection(asked, &flow, Some(found.index));
        }
        let then = asked.to_real(real);
        Ok(Decision { subject, then })
    }

    /// A packet for a VIP that belongs to no connection (kernel: `tcp_conn_schedule`, `ip_vs_schedule`, `ip_vs_leave`).
    fn new_connection<A: Tables + IpVersion>(
        &self,
        asked: &Asked<'_, A>,
        flow: &Flow<A>,
        replaces: Option<ConnectionIndex>,
    ) -> Decided<A> {
        let service = asked.tables.services.find(flow.destination, flow.destination_port, flow.protocol);
        let Some(service) = service.and_then(|id| asked.snapshot.service(id)) else {
            return asked.no_service();
        };
        let flags = asked.headers.tcp_flags;
        if flow.protocol == Protocol::Tcp && (!flags.syn() || flags.rst()) {
            return asked.reset();
        }
        let client = Client { address: flow.source.into(), l4_port: flow.source_port };
        let fresh = Cursor::default();
        let cursor = self.cursors.get(service.id.index()).unwrap_or(&fresh);
        let chosen = schedulers::choose(service, cursor, &client).and_then(|choice| {
            let real = service.candidates.get(choice.candidate)?.real;
            Some((choice, asked.snapshot.real(real)?))
        });
        let Some((choice, real)) = chosen else {
            return asked.refuse(Error::PortUnreachable, ReplyKind::NoReal, DropReason::NoReal);
        };
        let new = New { service: service.id, real: real.id, choice, replaces };
        Ok(Decision { subject: Subject::New(new), then: asked.to_real(real) })
    }
}

impl<A: IpVersion + crate::snapshot::Family> Asked<'_, A> {
    /// Whose address the destination is. A source that cannot be one ends here.
    fn local(&self) -> Result<Option<Local>, Aside> {
        let own_source = self.tables.local.contains_key(&self.headers.source);
        // The kernel has this check for IPv4 alone.
        if own_source && A::BITS == 32 {
            return Err(Aside::Drop(DropReason::Martian));
        }
        Ok(self.tables.local.get(&self.headers.destination).copied())
    }

    /// Another worker's packet goes to it: clients are owned, and NAT's answers carry the client as destination.
    #[inline]
    fn owner(&self, forwarder: &Forwarder) -> Result<(), Aside> {
        let client = if matches!(self.tables.local.get(&self.headers.destination), Some(Local::Vip)) {
            self.headers.source
        } else if self.tables.nat_reals.contains_key(&self.headers.source) {
            self.headers.destination
        } else {
            return Ok(());
        };
        let owner = self.snapshot.owners.of(client);
        if owner == forwarder.worker { Ok(()) } else { Err(Aside::HandOver(owner)) }
    }

    /// A fragment: routed, unless it is for a service or from a real server, whose connection only the ports tell.
    fn fragment(&self) -> Decided<A> {
        if self.headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        match self.local()? {
            Some(Local::Vip) => Err(Aside::Drop(DropReason::Fragment)),
            Some(Local::Own(_)) => Err(Aside::Punt(Punt::Local)),
            None if self.tables.nat_reals.contains_key(&self.headers.source) => {
                Err(Aside::Drop(DropReason::Fragment))
            }
            None => self.route(),
        }
    }

    /// Everything but TCP and UDP with their ports: neighbour discovery, later fragments, ICMP, other protocols.
    fn without_flow(&self) -> Decided<A> {
        let headers = self.headers;
        if headers.fragment != Fragment::Whole {
            return self.fragment();
        }
        if headers.is_neighbour_discovery(self.packet.bytes()) {
            return Err(Aside::Punt(Punt::NeighbourDiscovery));
        }
        if headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        match self.local()? {
            Some(Local::Own(_)) => Err(Aside::Punt(Punt::Local)),
            None => self.route(),
            Some(Local::Vip) if headers.protocol != A::ICMP_PROTOCOL => {
                self.refuse(Error::ProtocolUnreachable, ReplyKind::ProtocolUnreachable, DropReason::Unwanted)
            }
            Some(Local::Vip) if headers.icmp_type(self.packet.bytes()) == Some(A::ECHO_REQUEST) => {
                Ok(no_connection(self.answer(Answer::Echo)))
            }
            Some(Local::Vip) => Err(Aside::Drop(DropReason::Unwanted)),
        }
    }

    /// A VIP without a service at this port: what a host would answer (RFC 9293, 3.10.7.1; RFC 1122, 4.1.3.1).
    fn no_service(&self) -> Decided<A> {
        match self.headers.transport_protocol() {
            Some(Protocol::Tcp) => self.reset(),
            _ => self.refuse(Error::PortUnreachable, ReplyKind::PortUnreachable, DropReason::Unwanted),
        }
    }

    fn reset(&self) -> Decided<A> {
        if self.headers.tcp_flags.rst() {
            return Err(Aside::Drop(DropReason::NoConnection));
        }
        Ok(no_connection(self.answer(Answer::Reset)))
    }

    /// An ICMP error from the address that the packet was for.
    fn refuse(&self, error: Error, kind: ReplyKind, otherwise: DropReason) -> Decided<A> {
        let then = self.error(error, kind, Some(self.headers.destination), otherwise);
        Ok(no_connection(then))
    }

    /// No service's and not for the director: by the routes, as a router does (RFC 1812, RFC 8200).
    fn route(&self) -> Decided<A> {
        if self.headers.destination.is_group() {
            return Err(Aside::Drop(DropReason::Group));
        }
        if self.headers.destination.is_link_local() || self.headers.source.is_link_local() {
            return Err(Aside::Punt(Punt::Local));
        }
        let way = self.tables.way(&self.snapshot.nics, self.headers.destination);
        Ok(no_connection(self.onward(way, 0, None)))
    }

    /// On to a real server. Errors come from the VIP.
    #[inline]
    fn to_real(&self, real: &Real) -> Then<A> {
        let overhead = match real.method {
            Method::Dr | Method::Nat => 0,
            Method::Tun if real.tunnel_source.is_none() => return Then::Drop(DropReason::NoTunnelSource),
            Method::Tun => tun::overhead(real.address),
        };
        self.onward(real.way, overhead, Some(self.headers.destination))
    }

    /// On by `way`: TTL and MTU are checked, `overhead` bytes will be added. Errors come from `source`, or else from
    /// the NIC that the packet came in by.
    #[inline]
    fn onward(&self, way: Way, overhead: usize, source: Option<A>) -> Then<A> {
        if self.headers.ttl <= 1 {
            return self.error(Error::TimeExceeded, ReplyKind::TimeExceeded, source, DropReason::TtlExceeded);
        }
        let hop = match way {
            Way::Known(hop) => hop,
            Way::Unresolved(unresolved) => return Then::Punt(unresolved),
            Way::None => {
                return self.error(
                    Error::NetUnreachable,
                    ReplyKind::NetUnreachable,
                    source,
                    DropReason::NoRoute,
                );
            }
        };
        let mtu = hop.mtu.saturating_sub(overhead as u16);
        if self.headers.ip_length() <= usize::from(mtu) {
            return Then::Forward(hop);
        }
        if !A::dont_fragment(self.packet.bytes(), self.headers) {
            return Then::Drop(DropReason::TooBig);
        }
        self.error(Error::TooBig { mtu }, ReplyKind::TooBig, source, DropReason::TooBig)
    }

    /// An ICMP error to the sender, unless this packet must not be answered with one.
    #[cold]
    fn error(&self, error: Error, kind: ReplyKind, source: Option<A>, otherwise: DropReason) -> Then<A> {
        let own = || self.snapshot.nic(self.packet.nic).and_then(A::nic_source);
        match source.or_else(own) {
            Some(source) if reply::may_answer(self.headers, self.packet.bytes()) => {
                self.answer(Answer::Error(error, kind, source))
            }
            _ => Then::Drop(otherwise),
        }
    }

    /// An answer goes back to the sender by the routes.
    fn answer(&self, answer: Answer<A>) -> Then<A> {
        match self.tables.way(&self.snapshot.nics, self.headers.source) {
            Way::Known(hop) => Then::Reply(answer, hop),
            Way::Unresolved(unresolved) => Then::Punt(unresolved),
            Way::None => Then::Drop(DropReason::NoRoute),
        }
    }
}

impl<A> Answer<A> {
    /// What it counts as.
    pub const fn kind(&self) -> ReplyKind {
        match self {
            Self::Echo => ReplyKind::EchoReply,
            Self::Reset => ReplyKind::Reset,
            Self::Error(_, kind, _) => *kind,
        }
    }
}

/// The port that a packet of `flow` reaches the real server at: its own, or the packet's where it has none.
pub(super) fn real_port(real: &Real, packet_port: L4Port) -> L4Port {
    if real.l4_port.0 == 0 { packet_port } else { real.l4_port }
}
