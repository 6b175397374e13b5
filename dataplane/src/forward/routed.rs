//! Packets that are routed, and which are not: the rules of [`crate::forwarding`], and whether a source is where its packet comes from
//! ([`crate::reverse_path`]).

use super::decide::Asked;
use super::decision::{Case, Decided, no_connection};
use super::masquerade::echo_flow;
use super::{Aside, Forwarder, Punt, Tables};
use crate::connections::{Direction, Found};
use crate::forwarding::{Nature, RuleNumber, Transit};
use crate::id::{NicId, Protocol};
use crate::reason::DropReason;
use crate::reverse_path::ReversePath;
use crate::route::Route;
use crate::service::Real;
use crate::snapshot::{Family, Local};
use crate::wire::quote::quoted;
use crate::wire::{Fragment, IpVersion, icmp, sctp, vrrp};

impl<'s, A: IpVersion + Family> Asked<'s, '_, A> {
    /// No service's and not for the director: by the routes, as a router does (RFC 1812, RFC 8200), if a rule lets it pass.
    pub(super) fn route(&self) -> Decided<'s, A> {
        let route = self.tables.routes.find(self.headers.destination);
        let on = self.on_by(route);
        if on.is_ok() && self.rule_by(route).is_none() {
            return Err(Aside::Drop(DropReason::NotForwarded));
        }
        on
    }

    /// The same without a rule.
    pub(super) fn on(&self) -> Decided<'s, A> {
        self.on_by(self.tables.routes.find(self.headers.destination))
    }

    /// The same by a route, if there is one.
    fn on_by(&self, route: Option<&'s Route<A>>) -> Decided<'s, A> {
        if self.headers.destination.is_group() {
            return Err(Aside::Drop(DropReason::Group));
        }
        // The kernel side has an IPv6 one that nobody configured.
        if self.headers.destination.is_of_one_link() {
            return Err(Aside::Punt(Punt::Local));
        }
        if self.headers.destination.is_link_local() || self.headers.source.is_link_local() {
            return Err(Aside::Drop(DropReason::BeyondLink));
        }
        let way = self.tables.way_by(route, self.headers.destination);
        Ok(no_connection(self.onward(way, 0, None)))
    }

    /// Where the packet comes from and goes to.
    pub(super) fn transit(&self) -> Transit<A> {
        self.transit_by(self.tables.routes.find(self.headers.destination))
    }

    fn transit_by(&self, route: Option<&Route<A>>) -> Transit<A> {
        let (source, destination) = (self.headers.source, self.headers.destination);
        Transit { source, destination, from: self.packet.nic, to: route.map(|route| route.nic) }
    }

    /// The rule that lets the packet pass.
    pub(super) fn rule(&self) -> Option<RuleNumber> {
        self.rule_by(self.tables.routes.find(self.headers.destination))
    }

    fn rule_by(&self, route: Option<&Route<A>>) -> Option<RuleNumber> {
        let (transit, forwarding) = (self.transit_by(route), &self.tables.forwarding);
        forwarding.passes(&transit, || self.nature()).or_else(|| {
            let about = self.quoted_by_error()?;
            forwarding.passes_error(&transit, about.source, about.destination)
        })
    }

    /// What the packet shows of itself. Fragments but the first show nothing.
    fn nature(&self) -> Nature {
        let (headers, flags) = (self.headers, self.headers.tcp_flags);
        let answers = match headers.transport_protocol() {
            Some(Protocol::Tcp) => flags.ack() || flags.rst(),
            Some(Protocol::Sctp) => !flags.syn() && flags != sctp::NO_EVENT,
            Some(_) => false,
            None => headers.icmp_type(self.packet.bytes()) == Some(A::ECHO_REPLY),
        };
        if answers { Nature::Answers } else { Nature::Asks }
    }

    /// The packet that an ICMP error quotes.
    fn quoted_by_error(&self) -> Option<crate::wire::Headers<A>> {
        let (headers, frame) = (self.headers, self.packet.bytes());
        let kind = headers.icmp_type(frame)?;
        let is_error = headers.fragment == Fragment::Whole && icmp::tells_of_a_packet::<A>(kind);
        // An error is for who sent what it quotes.
        quoted(frame, headers).filter(|about| is_error && about.source == headers.destination)
    }

    /// The source is where the packet comes from, as far as the NIC looks at that. `to` says whose the destination is.
    ///
    /// # Errors
    /// It is elsewhere: `reverse_path`. What says that its receiver sent it: `martian`.
    #[inline]
    pub(super) fn reverse_path(&self, to: Option<Local>) -> Result<(), Aside> {
        let Some(nic) = self.snapshot.nic(self.packet.nic) else { return Ok(()) };
        let (source, how) = (self.headers.source, nic.reverse_path);
        // One that would be its own answer is never taken; of IPv4 none from a VIP is.
        let is_own_answer = || {
            let flow = self.headers.flow();
            to == Some(Local::Vip) && flow.is_some_and(|flow| flow.source_port == flow.destination_port)
        };
        if source == self.headers.destination && (how != ReversePath::Off || is_own_answer()) {
            return Err(Aside::Drop(DropReason::Martian));
        }
        let takes = !nic.looks_back
            || how.takes(&self.tables.routes, source, self.packet.nic)
            || self.may_be_anywhere(to);
        if takes { Ok(()) } else { Err(Aside::Drop(DropReason::ReversePath)) }
    }

    /// True for a source that no route leads to as it does to others: link-local ones are at every NIC; a VIP is at its real servers, too,
    /// who answer clients and checks from it. What comes to virtual routers has rules of its own (`peers`, `ttl_min`).
    #[cold]
    fn may_be_anywhere(&self, to: Option<Local>) -> bool {
        let source = self.headers.source;
        let is_vip = || {
            matches!(self.tables.local.get(self.packet.nic, source), Some(Local::Vip | Local::Elsewhere))
                || self.tables.classifier.takes_for(source)
        };
        let answers = || match to {
            None => is_vip(),
            Some(Local::Own(_)) => {
                vrrp::is_vrrp(self.headers, self.packet.bytes()) || self.tables.checked.contains_key(&source)
            }
            Some(Local::Vip | Local::Elsewhere) => false,
        };
        source.is_link_local() || answers()
    }

    /// The NIC that the way back to the source leaves by, by a network or a route that is not the default one.
    pub(super) fn way_back(&self) -> Option<NicId> {
        self.tables.routes.find_network(self.headers.source).map(|route| route.nic)
    }

    /// True when a real server's answer comes from where the real server is, as far as the NIC looks at that.
    pub(super) fn comes_from(&self, real: &Real) -> bool {
        let how = self.snapshot.nic(self.packet.nic).map_or(ReversePath::Off, |view| view.reverse_path);
        let looks = matches!(how, ReversePath::Auto | ReversePath::Strict);
        // What stands for the destinations of bypassed connections has no way.
        !looks || real.way.nic().is_none_or(|nic| nic == self.packet.nic)
    }
}

impl Forwarder {
    /// A packet that nothing is known of but its addresses: routed if a rule lets it pass, or else if it belongs to a connection none the
    /// less.
    pub(super) fn routed<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        match asked.route() {
            Err(Aside::Drop(DropReason::NotForwarded)) => self.answer_that_passes(asked),
            routed => routed,
        }
    }

    /// What DR and TUN real servers, and destinations of bypassed connections, answer by way of the director goes on without a
    /// rule, and the ICMP errors that they send.
    #[cold]
    fn answer_that_passes<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        let denied = Err(Aside::Drop(DropReason::NotForwarded));
        // Else only a service's address answers.
        if asked.tables.classifier.is_empty() && !asked.is_ours(asked.headers.source) {
            return denied;
        }
        // An error quotes what it is about: the packet of the client.
        let question = match asked.headers.flow() {
            Some(flow) => Some(flow.reversed()),
            None => asked
                .quoted_by_error()
                .and_then(|about| about.flow().or_else(|| echo_flow(asked.packet.bytes(), &about))),
        };
        let is_fragment = asked.headers.fragment != Fragment::Whole;
        if is_fragment || question.is_some() {
            if let Err(Case::HandOver(owner)) =
                self.owned(asked.snapshot, asked.packet, asked.headers.destination)
            {
                return Err(Aside::HandOver(owner));
            }
        }
        // Its ports stand in one of its fragments alone.
        if is_fragment {
            return Err(Aside::Gather);
        }
        let Some(question) = question else { return denied };
        let table = A::table(&self.connections);
        let found = table.find(table.hash(&question), &question, asked.now);
        let Some(Found { index, direction: Direction::FromClient }) = found else { return denied };
        let entry = table.entry(index);
        let real = asked.snapshot.real(entry.real());
        match real.filter(|real| !entry.is_nat() && asked.comes_from(real)) {
            Some(_) => asked.on(),
            None => denied,
        }
    }
}
