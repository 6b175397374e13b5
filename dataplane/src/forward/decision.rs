//! What can be decided about a packet.

use super::Aside;
use super::bypass::Bypass;
use super::choose::Controlling;
use super::icmp::TunnelError;
use crate::connections::{ConnectionIndex, Direction, Found, NewConnection, TemplateIndex};
use crate::flow::Flow;
use crate::id::{L4Port, ServiceId, WorkerId};
use crate::reason::{DropReason, ReplyKind};
use crate::service::schedulers::Choice;
use crate::service::{NextHop, Real, Unresolved};
use crate::wire::icmp::Error;

/// What was decided about a packet; it borrows from the snapshot.
#[derive(Debug)]
pub(super) struct Decision<'s, A> {
    /// Which connection it belongs to.
    pub subject: Subject<'s, A>,
    /// What happens to it.
    pub then: Then<'s, A>,
}

/// The connection of a packet.
#[derive(Debug)]
pub(super) enum Subject<'s, A> {
    /// None: it is routed or answered.
    None,
    /// None any more: this one ends, and this template is stale.
    Over(Option<ConnectionIndex>, Option<TemplateIndex>),
    /// None, since no real server takes it; what was there ends likewise.
    Untaken(Option<ConnectionIndex>, Option<TemplateIndex>),
    /// One that exists.
    Found(Found, &'s Real),
    /// One to be made.
    New(New<'s>),
    /// One that an ICMP error is about.
    Error(Found, &'s Real),
    /// One that an ICMP error is about which goes its own way, and counts as an answer of this real server.
    Noticed(&'s Real),
    /// None: an ICMP error about a tunnel.
    Tunnel(TunnelError<'s, A>),
    /// One to be made that is passed on to its own destination.
    Bypass(Bypass<'s>),
    /// One to be made, of which an ICMP error speaks, by the flow that its client would have.
    NewError(New<'s>, Flow<A>),
    /// One of a masqueraded host to be made, and which way its first packet goes.
    Masqueraded(NewConnection<A>, Direction, &'s Real),
    /// The ICMP echo of one.
    Echo(Found, &'s Real),
}

/// A connection to be made.
#[derive(Debug)]
pub(super) struct New<'s> {
    pub service: ServiceId,
    pub real: &'s Real,
    /// The port that it reaches it at.
    pub real_port: L4Port,
    /// What becomes of it says something of the real server.
    pub is_judged: bool,
    /// What the scheduler chose, and where it stands then; none when a template did.
    pub choice: Option<Choice>,
    /// The template that controls it.
    pub template: Controlling,
    /// The connection in TIME_WAIT whose ports the client uses again.
    pub replaces: Option<ConnectionIndex>,
    /// It ends with this packet.
    pub one_packet: bool,
}

/// What happens to a packet once its connection is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then<'s, A> {
    /// To the real server, or to the client, or routed.
    Forward(&'s NextHop),
    /// The same in fragments: it is too large and may be fragmented.
    Fragment(&'s NextHop),
    /// An answer by the director itself.
    Reply(Answer<A>, &'s NextHop),
    /// It waits for a neighbour.
    Punt(Unresolved),
    /// To the kernel-side interface: the director itself is the real server.
    Local,
    /// Gone, though its connection lives.
    Drop(DropReason),
}

impl<A> Then<'_, A> {
    /// True when the packet goes to its real server, now or when a neighbour answered.
    pub const fn reaches(&self) -> bool {
        matches!(self, Self::Forward(_) | Self::Fragment(_) | Self::Punt(_))
    }
}

/// An answer by the director.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer<A> {
    Echo,
    Reset,
    /// An ICMP error from this address, counted under this kind.
    Error(Error, ReplyKind, A, Quoted),
}

/// How an error quotes the TTL of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoted {
    AsItCame,
    /// The packet was found wanting only on its way out (kernel: `__ip_vs_get_out_rt`; `ip_vs_out_hook`, behind `ip_forward`).
    OneLess,
}

pub(super) type Decided<'s, A> = Result<Decision<'s, A>, Aside>;

pub(super) const fn no_connection<A>(then: Then<'_, A>) -> Decision<'_, A> {
    Decision { subject: Subject::None, then }
}

/// The way of a packet whose connection is open.
#[derive(Debug)]
pub(super) struct Passage<'s> {
    pub found: Found,
    pub real: &'s Real,
    pub hop: &'s NextHop,
}

/// Why a packet is not simply passed on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Case {
    /// Neither TCP nor UDP, or without their ports.
    WithoutFlow,
    /// Sent to a group of the link.
    Group,
    /// Another worker's.
    HandOver(WorkerId),
    Fragment,
    /// Of no connection.
    NotFound,
    /// A SYN, or a UDP packet for a real server that is down, by the ports of this connection, which it ends.
    Anew(ConnectionIndex),
    /// The real server of this connection was taken out of the configuration.
    RealRemoved(ConnectionIndex),
    /// Its connection is open, and there is no way on for it.
    Stopped(Found),
}

impl<A> Answer<A> {
    /// What it counts as.
    pub const fn kind(&self) -> ReplyKind {
        match self {
            Self::Echo => ReplyKind::EchoReply,
            Self::Reset => ReplyKind::Reset,
            Self::Error(_, kind, ..) => *kind,
        }
    }
}
