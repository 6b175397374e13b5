//! What becomes of one packet: read-only, in the order of the kernel's `ip_vs_in`.
//!
//! connection → service → scheduler, or ping and refusals of a VIP, or routing; then the next hop, TTL and MTU.

use super::{Aside, Forwarder, Punt, Staged, Tables};
use crate::address::Address;
use crate::connections::{ConnectionIndex, Direction, Entry, Found};
use crate::flow::Flow;
use crate::id::{L4Port, Protocol, ServiceId};
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::reply;
use crate::rewrite::tun;
use crate::service::schedulers::{self, Choice, Client, Cursor};
use crate::service::{Method, NextHop, Real, Unresolved, Way};
use crate::snapshot::{FamilyTables, Local, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Fragment, Headers, IpVersion, TcpFlags};

/// What was decided about a packet; it borrows from the snapshot.
#[derive(Debug)]
pub(super) struct Decision<'s, A> {
    /// Which connection it belongs to.
    pub subject: Subject<'s>,
    /// What happens to it.
    pub then: Then<'s, A>,
}

/// The connection of a packet.
#[derive(Debug)]
pub(super) enum Subject<'s> {
    /// None: it is routed or answered.
    None,
    /// One that exists.
    Found(Found, &'s Real),
    /// One to be made.
    New(New<'s>),
}

/// A connection to be made.
#[derive(Debug)]
pub(super) struct New<'s> {
    pub service: ServiceId,
    pub real: &'s Real,
    /// What the scheduler chose, and where it stands then.
    pub choice: Choice,
    /// The connection in TIME_WAIT whose ports the client uses again.
    pub replaces: Option<ConnectionIndex>,
}

/// What happens to a packet once its connection is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then<'s, A> {
    /// To the real server, or to the client, or routed.
    Forward(&'s NextHop),
    /// An answer by the director itself.
    Reply(Answer<A>, &'s NextHop),
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

type Decided<'s, A> = Result<Decision<'s, A>, Aside>;

const fn no_connection<A>(then: Then<'_, A>) -> Decision<'_, A> {
    Decision { subject: Subject::None, then }
}

/// What `decide` reads: one packet and the tables of its family.
struct Asked<'s, 'p, A: Address> {
    snapshot: &'s Snapshot,
    tables: &'s FamilyTables<A>,
    packet: &'p Packet<'p>,
    headers: &'p Headers<A>,
}

impl Forwarder {
    /// Decides about one packet.
    ///
    /// # Errors
    /// When no connection is touched and nothing has to be written: hand-over, punt, drop.
    #[inline(always)]
    pub(super) fn decide<'s, A: Tables + IpVersion>(
        &self,
        snapshot: &'s Snapshot,
        packet: &Packet<'_>,
        staged: &Staged<A>,
        now: Tick,
    ) -> Decided<'s, A> {
        let headers = &staged.headers;
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
        match A::table(&self.connections).find_near(staged.candidate, staged.hash, &flow, now) {
            Some(found) => self.found(&asked, found, &flow),
            None => self.not_found(&asked, &flow),
        }
    }

    /// A packet of a connection that exists (kernel: `ip_vs_in_hook`, `handle_response`).
    #[inline(always)]
    fn found<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        found: Found,
        flow: &Flow<A>,
    ) -> Decided<'s, A> {
        let entry = A::table(&self.connections).entry(found.index);
        let Some(real) = asked.snapshot.real(entry.real()) else {
            return Err(Aside::Drop(DropReason::RealRemoved));
        };
        let subject = Subject::Found(found, real);
        if found.direction == Direction::FromReal {
            return Ok(Decision { subject, then: asked.onward(asked.tables.way(flow.destination), 0, None) });
        }
        let flags = asked.headers.tcp_flags;
        if flags.syn() && self.is_begun_anew(entry, real, flags) {
            return self.new_connection(asked, flow, Some(found.index));
        }
        // The kernel leaves the connections of a removed real server as they are: neither state nor time move.
        if !real.configured {
            return Err(Aside::Drop(DropReason::RealRemoved));
        }
        Ok(Decision { subject, then: asked.to_real(real) })
    }

    /// True when a SYN begins a new connection though one with its ports is there: that one is over, or its real server
    /// fails its check.
    #[cold]
    fn is_begun_anew<A: Address>(&self, entry: &Entry<A>, real: &Real, flags: TcpFlags) -> bool {
        entry.is_reused_by(flags.0) || (real.configured && !real.up && !flags.ack())
    }

    /// A packet of no connection.
    #[inline(never)]
    fn not_found<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
    ) -> Decided<'s, A> {
        match asked.local()? {
            Some(Local::Vip) => self.new_connection(asked, flow, None),
            Some(Local::Own(_)) => Err(Aside::Punt(Punt::Local)),
            None => asked.route(),
        }
    }

    /// A packet for a VIP that belongs to no connection (kernel: `tcp_conn_schedule`, `ip_vs_schedule`, `ip_vs_leave`).
    #[inline(never)]
    fn new_connection<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        flow: &Flow<A>,
        replaces: Option<ConnectionIndex>,
    ) -> Decided<'s, A> {
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
        let new = New { service: service.id, real, choice, replaces };
        Ok(Decision { subject: Subject::New(new), then: asked.to_real(real) })
    }
}

impl<'s, A: IpVersion + crate::snapshot::Family> Asked<'s, '_, A> {
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
    #[cold]
    fn fragment(&self) -> Decided<'s, A> {
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
    #[inline(never)]
    fn without_flow(&self) -> Decided<'s, A> {
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
    fn no_service(&self) -> Decided<'s, A> {
        match self.headers.transport_protocol() {
            Some(Protocol::Tcp) => self.reset(),
            _ => self.refuse(Error::PortUnreachable, ReplyKind::PortUnreachable, DropReason::Unwanted),
        }
    }

    fn reset(&self) -> Decided<'s, A> {
        if self.headers.tcp_flags.rst() {
            return Err(Aside::Drop(DropReason::NoConnection));
        }
        Ok(no_connection(self.answer(Answer::Reset)))
    }

    /// An ICMP error from the address that the packet was for.
    fn refuse(&self, error: Error, kind: ReplyKind, otherwise: DropReason) -> Decided<'s, A> {
        let then = self.error(error, kind, Some(self.headers.destination), otherwise);
        Ok(no_connection(then))
    }

    /// No service's and not for the director: by the routes, as a router does (RFC 1812, RFC 8200).
    fn route(&self) -> Decided<'s, A> {
        if self.headers.destination.is_group() {
            return Err(Aside::Drop(DropReason::Group));
        }
        if self.headers.destination.is_link_local() || self.headers.source.is_link_local() {
            return Err(Aside::Punt(Punt::Local));
        }
        Ok(no_connection(self.onward(self.tables.way(self.headers.destination), 0, None)))
    }

    /// On to a real server. Errors come from the VIP.
    #[inline(always)]
    fn to_real(&self, real: &'s Real) -> Then<'s, A> {
        let overhead = match real.method {
            Method::Dr | Method::Nat => 0,
            Method::Tun if real.tunnel_source.is_none() => return Then::Drop(DropReason::NoTunnelSource),
            Method::Tun => tun::overhead(real.address),
        };
        self.onward(real.way.as_ref(), overhead, Some(self.headers.destination))
    }

    /// On by `way`: TTL and MTU are checked, `overhead` bytes will be added. Errors come from `source`, or else from
    /// the NIC that the packet came in by.
    #[inline(always)]
    fn onward(&self, way: Way<&'s NextHop>, overhead: usize, source: Option<A>) -> Then<'s, A> {
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
    fn error(&self, error: Error, kind: ReplyKind, source: Option<A>, otherwise: DropReason) -> Then<'s, A> {
        let own = || self.snapshot.nic(self.packet.nic).and_then(A::nic_source);
        match source.or_else(own) {
            Some(source) if reply::may_answer(self.headers, self.packet.bytes()) => {
                self.answer(Answer::Error(error, kind, source))
            }
            _ => Then::Drop(otherwise),
        }
    }

    /// An answer goes back to the sender by the routes.
    fn answer(&self, answer: Answer<A>) -> Then<'s, A> {
        match self.tables.way(self.headers.source) {
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
