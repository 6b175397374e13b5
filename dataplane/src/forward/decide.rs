//! What becomes of one packet: read-only, in the order of the kernel's `ip_vs_in`.
//!
//! connection → service → scheduler, or ping and refusals of a VIP, or routing; then the next hop, TTL and MTU.

use super::choose::{is_ftp_data, real_port};
use super::decision::{Answer, Case, Decided, Decision, New, Passage, Quoted, Subject, Then, no_connection};
use super::gather::Gathered;
use super::{Aside, Forwarder, Punt, Staged, Tables};
use crate::address::Address;
use crate::connections::{Candidate, ConnectionIndex, Direction, Entry, Found, TemplateIndex};
use crate::id::{NicId, Protocol, ServiceId};
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::reply;
use crate::service::table::FTP_DATA;
use crate::service::{Method, NextHop, Real, Service, Standing, Way};
use crate::snapshot::{FamilyTables, Local, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Fragment, Headers, IpVersion, TcpFlags};
use crate::wire::{ipv4, ipv6, sctp, tcp, udp, vrrp};

/// What `decide` reads: one packet and the tables of its family.
pub(super) struct Asked<'s, 'p, A: Address> {
    pub snapshot: &'s Snapshot,
    pub tables: &'s FamilyTables<A>,
    pub packet: &'p Packet<'p>,
    pub headers: &'p Headers<A>,
    pub now: Tick,
    /// When the packet came in fragments.
    pub gathered: Option<Gathered>,
    /// Whose address the destination is.
    to: Option<Local>,
}

impl Forwarder {
    /// Decides about one packet.
    ///
    /// # Errors
    /// When no connection is touched and nothing has to be written: hand-over, punt, drop.
    pub(super) fn decide<'s, A: Tables + IpVersion>(
        &self,
        snapshot: &'s Snapshot,
        packet: &Packet<'_>,
        staged: &Staged<A>,
        now: Tick,
    ) -> Decided<'s, A> {
        match self.passage(snapshot, packet, staged, now) {
            Ok(Passage { found, real, hop }) => {
                Ok(Decision { subject: Subject::Found(found, real), then: Then::Forward(hop) })
            }
            Err(case) => self.otherwise(snapshot, packet, staged, case, now),
        }
    }

    /// The first half of [`Self::decide`], and all of it for most packets: those of an open connection that go on
    /// (kernel: `ip_vs_in_hook`, `handle_response`).
    ///
    /// # Errors
    /// What else is the case, for [`Self::otherwise`].
    #[inline(always)]
    pub(super) fn passage<'s, A: Tables + IpVersion>(
        &self,
        snapshot: &'s Snapshot,
        packet: &Packet<'_>,
        staged: &Staged<A>,
        now: Tick,
    ) -> Result<Passage<'s>, Case> {
        let headers = &staged.headers;
        let Some(flow) = headers.flow() else { return Err(Case::WithoutFlow) };
        if headers.link_group {
            return Err(Case::Group);
        }
        if snapshot.owners.workers > 1 && !packet.handed_over {
            self.own(snapshot, packet.nic, headers.source, headers.destination)?;
        }
        if headers.fragment != Fragment::Whole {
            return Err(Case::Fragment);
        }
        let found = A::table(&self.connections).try_candidate(staged.candidate, &flow, now);
        let Some((found, entry)) = found else { return Err(Case::NotFound) };
        let Some(real) = snapshot.real(entry.real()) else { return Err(Case::RealRemoved(found.index)) };
        // Each direction to its end, so that it is asked for once.
        let hop = match found.direction {
            Direction::FromClient => {
                if headers.tcp_flags.syn() {
                    if let Some(case) = case_of_syn(snapshot, found, entry, real, headers.tcp_flags) {
                        return Err(case);
                    }
                }
                if real.standing != Standing::Up {
                    return Err(case_of_standing(found, real, flow.protocol));
                }
                passable(headers, real.way.hop(), real.overhead.get())
            }
            Direction::FromReal => passable(headers, A::tables(snapshot).hop(flow.destination), 0),
        };
        match hop {
            Some(hop) => Ok(Passage { found, real, hop }),
            None => Err(Case::Stopped(found)),
        }
    }

    /// The connection of a packet, wherever it is in the table.
    fn find<A: Tables>(&self, staged: &Staged<A>, now: Tick) -> Option<Found> {
        A::table(&self.connections).find(staged.hash, &staged.headers.flow()?, now)
    }

    /// Another worker's packet goes to it: clients are owned, and NAT's answers carry the client as destination.
    #[inline(never)]
    pub(super) fn own<A: Tables>(
        &self,
        snapshot: &Snapshot,
        nic: NicId,
        source: A,
        destination: A,
    ) -> Result<(), Case> {
        let tables = A::tables(snapshot);
        let local = tables.local.get(nic, destination);
        let client = if matches!(local, Some(Local::Vip)) {
            source
        } else if tables.nat_reals.contains_key(&source) {
            destination
        } else if matches!(local, Some(Local::Own(_))) && tables.services.has_address(destination) {
            source
        } else {
            return Ok(());
        };
        let owner = snapshot.owners.of(client);
        if owner == self.worker { Ok(()) } else { Err(Case::HandOver(owner)) }
    }

    /// A packet that concerns `client` goes to the worker that owns it, once.
    pub(super) fn owned<A: Tables>(
        &self,
        snapshot: &Snapshot,
        packet: &Packet<'_>,
        client: A,
    ) -> Result<(), Case> {
        let owner = snapshot.owners.of(client);
        let here = packet.handed_over || owner == self.worker;
        if here { Ok(()) } else { Err(Case::HandOver(owner)) }
    }

    /// The second half of [`Self::decide`]: what becomes of a packet that is no open connection's, or cannot go on.
    #[inline(never)]
    pub(super) fn otherwise<'s, A: Tables + IpVersion>(
        &self,
        snapshot: &'s Snapshot,
        packet: &Packet<'_>,
        staged: &Staged<A>,
        case: Case,
        now: Tick,
    ) -> Decided<'s, A> {
        let headers = &staged.headers;
        // No connection was ever made by such a packet, so that it is enough to look now.
        if headers.is_martian() {
            return Err(Aside::Drop(DropReason::Martian));
        }
        if let Case::HandOver(worker) = case {
            return Err(Aside::HandOver(worker));
        }
        let asked = Asked { gathered: self.gathered, ..Asked::new(snapshot, packet, headers, now) };
        match case {
            Case::HandOver(worker) => Err(Aside::HandOver(worker)),
            Case::WithoutFlow if headers.fragment != Fragment::Whole => self.fragment(&asked),
            Case::WithoutFlow => self
                .error_about_ours(&asked, now)
                .or_else(|| self.ipsec(&asked))
                .or_else(|| self.masqueraded_echo(&asked))
                .unwrap_or_else(|| self.without_flow(&asked)),
            Case::Group => Err(Aside::Drop(DropReason::Group)),
            Case::Fragment => self.fragment(&asked),
            Case::NotFound => {
                if let Some(found) = self.find(staged, now) {
                    let staged = Staged { candidate: Candidate::of(found.index), ..*staged };
                    return self.decide(snapshot, packet, &staged, now);
                }
                match asked.local()? {
                    Some(Local::Vip) => self.new_connection(&asked, None, now),
                    None if asked.marked().is_some() => {
                        // Its destination does not tell whose it is, so that it was not asked before.
                        if let Err(Case::HandOver(owner)) = self.owned(snapshot, packet, headers.source) {
                            return Err(Aside::HandOver(owner));
                        }
                        self.new_connection(&asked, None, now)
                    }
                    Some(Local::Own(_)) if asked.is_served() => self.new_connection(&asked, None, now),
                    Some(Local::Own(_)) => self.own_address(&asked),
                    Some(Local::Elsewhere) => Err(Aside::Drop(DropReason::NotMaster)),
                    None => self.unserved(&asked, now),
                }
            }
            Case::Anew(_) | Case::RealRemoved(_) | Case::Stopped(_) if asked.is_elsewhere() => {
                Err(Aside::Drop(DropReason::NotMaster))
            }
            Case::Anew(index) | Case::RealRemoved(index) if self.masquerades::<A>(snapshot, index) => {
                asked.stray()
            }
            // Without services the kernel's IPVS does not see packets: the VIP's host answers.
            Case::Anew(_) | Case::RealRemoved(_) if asked.tables.services.is_empty() => asked.no_service(),
            Case::Anew(index) => self.new_connection(&asked, Some(index), now),
            Case::RealRemoved(index) if snapshot.sysctls.expire_nodest_conn => {
                self.new_connection(&asked, Some(index), now)
            }
            Case::RealRemoved(_) => Err(Aside::Drop(DropReason::RealRemoved)),
            Case::Stopped(found) => {
                let entry = A::table(&self.connections).entry(found.index);
                let real = snapshot.real(entry.real()).ok_or(Aside::Drop(DropReason::RealRemoved))?;
                Ok(Decision { subject: Subject::Found(found, real), then: asked.along(found, entry, real) })
            }
        }
    }

    /// Everything but TCP and UDP with their ports: neighbour discovery, later fragments, ICMP, other protocols.
    #[inline(never)]
    fn without_flow<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        let (headers, frame) = (asked.headers, asked.packet.bytes());
        if headers.is_neighbour_discovery(frame) {
            return Err(Aside::Punt(Punt::NeighbourDiscovery));
        }
        let vrrp = vrrp::is_vrrp(headers, frame);
        if vrrp && vrrp::is_group(headers.destination) {
            return Err(Aside::Punt(Punt::Vrrp));
        }
        if headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        match asked.local()? {
            Some(Local::Own(_)) if vrrp => Err(Aside::Punt(Punt::Vrrp)),
            None if vrrp && headers.destination.is_link_local() => Err(Aside::Punt(Punt::Vrrp)),
            Some(Local::Own(_)) => Err(Aside::Punt(Punt::Local)),
            Some(Local::Elsewhere) => Err(Aside::Drop(DropReason::NotMaster)),
            None => self.leave(asked),
            Some(Local::Vip) if !asked.accepts() => Err(Aside::Drop(DropReason::NotAccepted)),
            // Behind an authentication header a host without keys sees nothing.
            Some(Local::Vip) if A::is_authenticated(frame, headers) => asked.unspoken(),
            // Nothing follows, which is no protocol that nobody speaks (RFC 8200, 4.7).
            Some(Local::Vip) if A::BITS > 32 && headers.protocol == ipv6::NO_NEXT_HEADER => {
                Err(Aside::Drop(DropReason::Unwanted))
            }
            // A host listens to who asks for groups, and answers nothing.
            Some(Local::Vip) if A::BITS == 32 && headers.protocol == ipv4::IGMP => {
                Err(Aside::Drop(DropReason::Unwanted))
            }
            Some(Local::Vip) if headers.protocol != A::ICMP_PROTOCOL => asked.unspoken(),
            Some(Local::Vip) if headers.icmp_type(frame) == Some(A::ECHO_REQUEST) => {
                if let Some(refused) = asked.refused_by_host() {
                    return refused;
                }
                Ok(no_connection(asked.answer(Answer::Echo)))
            }
            Some(Local::Vip) => Err(Aside::Drop(DropReason::Unwanted)),
        }
    }

    /// For an address of the director's own, of no connection: the kernel side's, once the worker has looked that would have it as
    /// an answer to a masqueraded host.
    fn own_address<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        if asked.tables.masquerade.has(asked.headers.destination) {
            if let Err(Case::HandOver(owner)) = self.owned(asked.snapshot, asked.packet, asked.headers.source)
            {
                return Err(Aside::HandOver(owner));
            }
        }
        Err(Aside::Punt(Punt::Local))
    }

    /// True for a connection of a masqueraded host.
    #[cold]
    fn masquerades<A: Tables>(&self, snapshot: &Snapshot, index: ConnectionIndex) -> bool {
        let real = A::table(&self.connections).entry(index).real();
        snapshot.real(real).is_some_and(Real::is_masquerade)
    }

    /// A packet for a VIP that belongs to no connection (kernel: `tcp_conn_schedule`, `ip_vs_schedule`, `ip_vs_leave`).
    fn new_connection<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
        replaces: Option<ConnectionIndex>,
        now: Tick,
    ) -> Decided<'s, A> {
        let Some(flow) = asked.headers.flow() else { return self.without_flow(asked) };
        let services = &asked.tables.services;
        let exact = || services.find(flow.destination, flow.destination_port, flow.protocol);
        let Some(service) = asked.marked().or_else(exact).and_then(|id| asked.snapshot.service(id)) else {
            return over(replaces, asked.no_service());
        };
        let flags = asked.headers.tcp_flags;
        let sysctls = &asked.snapshot.sysctls;
        if flow.protocol == Protocol::Sctp && flags == sctp::NO_EVENT {
            return Err(Aside::Drop(DropReason::TransportHeader));
        }
        let sloppy = match flow.protocol {
            Protocol::Tcp => sysctls.sloppy_tcp,
            Protocol::Sctp => sysctls.sloppy_sctp,
            Protocol::Udp | Protocol::Icmp => true,
        };
        let begins = sloppy || flags.syn() || asked.adopts(service);
        if matches!(flow.protocol, Protocol::Tcp | Protocol::Sctp) && (!begins || flags.rst()) {
            return over(replaces, asked.not_begun(flow.protocol));
        }
        let is_data = flow.source_port == FTP_DATA;
        if replaces.is_none() && !is_data {
            self.has_room(asked.snapshot, flow.source, now)?;
        }
        if asked.snapshot.sysctls.drop_packet > 0 && self.is_dropped::<A>(asked.snapshot) {
            return over(replaces, Err(Aside::Drop(DropReason::Defence)));
        }
        if is_data {
            return untaken(replaces, None, asked.no_service());
        }
        let (choice, template, real) =
            match self.choose(asked.snapshot, service, (&flow, flow.destination), now) {
                Ok(chosen) => chosen,
                // What was there was given up before it was known that nobody takes the new connection.
                Err(stale) => {
                    if let Some(bypassed) = self.bypass(asked, service, &flow, replaces, stale) {
                        return bypassed;
                    }
                    let answer = match is_ftp_data(service, &flow) {
                        true => asked.no_service(),
                        false => asked.refuse(Error::PortUnreachable, ReplyKind::NoReal, DropReason::NoReal),
                    };
                    return untaken(replaces, stale, answer);
                }
            };
        if flow.source.is_of_one_link() && !asked.stays_on_link(real) {
            return over(replaces, Err(Aside::Drop(DropReason::BeyondLink)));
        }
        let one_packet = service.settings.one_packet && flow.protocol == Protocol::Udp;
        let real_port = real_port(service, real, flow.destination_port);
        let is_judged = !is_ftp_data(service, &flow);
        let new =
            New { service: service.id, real, real_port, is_judged, choice, template, replaces, one_packet };
        Ok(Decision { subject: Subject::New(new), then: asked.to_real(real, real.method) })
    }
}

impl<'s, 'p, A: IpVersion + crate::snapshot::Family> Asked<'s, 'p, A> {
    /// A packet that came whole.
    pub(super) fn new(
        snapshot: &'s Snapshot,
        packet: &'p Packet<'p>,
        headers: &'p Headers<A>,
        now: Tick,
    ) -> Self {
        let tables = A::tables(snapshot);
        let to = tables.local.get(packet.nic, headers.destination).copied();
        Self { snapshot, tables, packet, headers, now, gathered: None, to }
    }

    /// True when the destination is an address of the director's, a VIP or its own.
    #[inline]
    pub(super) const fn is_to_us(&self) -> bool {
        self.to.is_some()
    }

    /// Whose address the destination is. A source that cannot be one ends here, and one that is elsewhere.
    pub(super) fn local(&self) -> Result<Option<Local>, Aside> {
        let to = self.to;
        // In IPv6 only checks ask for it.
        let asks = A::BITS == 32 || !self.tables.checked.is_empty();
        let from =
            if asks { self.tables.local.get(self.packet.nic, self.headers.source).copied() } else { None };
        if matches!(from, Some(Local::Own(_) | Local::Vip)) && self.is_from_itself(from, to) {
            return Err(Aside::Drop(DropReason::Martian));
        }
        self.reverse_path(to)?;
        Ok(to)
    }

    /// True when an address of the director's as source means that nobody but a liar, or a host that sends its own packets back, can have
    /// sent this. The kernel has this check for IPv4 alone. What a real server answers from the VIP at which it is checked is no such
    /// packet; a check that comes back is, in either family: another real server would answer it in the place of the one that
    /// sent it back.
    #[cold]
    fn is_from_itself(&self, from: Option<Local>, to: Option<Local>) -> bool {
        let checked = |vip| self.tables.checked.contains_key(&vip);
        match (from, to) {
            (Some(Local::Vip), Some(Local::Own(_))) if checked(self.headers.source) => false,
            (Some(Local::Own(_)), _) if checked(self.headers.destination) => true,
            _ => A::BITS == 32,
        }
    }

    /// True when the VIP that it is for belongs to another director now.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.to == Some(Local::Elsewhere)
    }

    /// The service of the firewall mark that a new connection gets.
    fn marked(&self) -> Option<ServiceId> {
        if self.tables.classifier.is_empty() {
            return None;
        }
        let mark = self.tables.classifier.classify(&self.headers.flow()?, self.packet.nic)?;
        self.tables.services.find_mark(mark)
    }

    /// The service of the firewall mark of an ICMP error.
    pub(super) fn error_marked(&self) -> Option<ServiceId> {
        let (source, destination) = (self.headers.source, self.headers.destination);
        let mark = self.tables.classifier.classify_any(source, destination, self.packet.nic)?;
        self.tables.services.find_mark(mark)
    }

    /// True when the packet is for an address at which a service listens.
    pub(super) fn is_served(&self) -> bool {
        self.tables.services.has_address(self.headers.destination)
    }

    /// True when the packet is for an address of the director's own: the kernel side answers there.
    fn is_own(&self) -> bool {
        matches!(self.to, Some(Local::Own(_)))
    }

    /// Whether the VIP takes what is for none of its services.
    pub(super) fn accepts(&self) -> bool {
        !self.tables.not_accepting.contains(self.packet.nic, self.headers.destination)
    }

    /// A VIP without a service at this port: what a host would answer (RFC 9293, 3.10.7.1; RFC 1122, 4.1.3.1).
    fn no_service(&self) -> Decided<'s, A> {
        if self.is_own() {
            return Ok(no_connection(Then::Local));
        }
        if !self.accepts() {
            return Err(Aside::Drop(DropReason::NotAccepted));
        }
        match self.headers.transport_protocol() {
            Some(Protocol::Tcp) => self.reset(),
            Some(Protocol::Sctp) => self.unspoken(),
            _ => self.no_port(),
        }
    }

    /// UDP for no service.
    fn no_port(&self) -> Decided<'s, A> {
        let frame = self.packet.bytes();
        if let Some(refused) = self.refused_by_host() {
            return refused;
        }
        if A::is_authenticated(frame, self.headers) {
            return self.unspoken();
        }
        let Some(datagram) = self.headers.udp_datagram(frame) else {
            return Err(Aside::Drop(DropReason::TransportHeader));
        };
        if !datagram.transport_checksum_holds(frame) && !datagram.checksum_not_filled(frame) {
            return Err(Aside::Drop(DropReason::TransportChecksum));
        }
        self.refuse(Error::PortUnreachable, ReplyKind::PortUnreachable, DropReason::Unwanted)
    }

    /// Whether connections of a service are taken up in their midst.
    fn adopts(&self, service: &Service) -> bool {
        let tables = self.tables;
        (tables.others.adopting || !tables.adopting.is_empty())
            && service.chooses_again()
            && match self.is_to_us() {
                true => tables.adopting.contains_key(&self.headers.destination),
                false => tables.others.adopting,
            }
    }

    /// What becomes of a packet to a service that is of no connection and begins none. As long as it may be known elsewhere,
    /// nobody is told that it is not.
    fn not_begun(&self, protocol: Protocol) -> Decided<'s, A> {
        if self.is_own() {
            return Ok(no_connection(Then::Local));
        }
        let silent = match self.is_to_us() {
            true => self.tables.silent.contains_key(&self.headers.destination),
            false => self.tables.others.silent,
        };
        match protocol {
            _ if silent && !self.headers.tcp_flags.rst() => Err(Aside::Drop(DropReason::ResetDelayed)),
            Protocol::Sctp => self.unspoken(),
            _ => self.reset(),
        }
    }

    /// The director itself does not speak that protocol.
    fn unspoken(&self) -> Decided<'s, A> {
        if let Some(refused) = self.refused_by_host() {
            return refused;
        }
        self.refuse(Error::ProtocolUnreachable, ReplyKind::ProtocolUnreachable, DropReason::Unwanted)
    }

    fn reset(&self) -> Decided<'s, A> {
        if let Some(refused) = self.refused_by_host() {
            return refused;
        }
        // A host without keys does not come to what is behind an authentication header.
        if A::is_authenticated(self.packet.bytes(), self.headers) {
            return self.unspoken();
        }
        if self.headers.tcp_flags.rst() {
            return Err(Aside::Drop(DropReason::NoConnection));
        }
        if A::BITS == 32 && !self.is_to_us() {
            return Err(Aside::Drop(DropReason::NoConnection));
        }
        if tcp::Segment::parse(self.headers.transport_bytes(self.packet.bytes())).is_none() {
            return Err(Aside::Drop(DropReason::TransportHeader));
        }
        Ok(no_connection(self.answer(Answer::Reset)))
    }

    /// An ICMP error from the address that the packet was for.
    pub(super) fn refuse(&self, error: Error, kind: ReplyKind, otherwise: DropReason) -> Decided<'s, A> {
        let then = self.error(error, kind, Some(self.headers.destination), otherwise);
        Ok(no_connection(then))
    }

    /// Whether a real server can answer a client of one link alone: it is on that link, or the director itself.
    #[cold]
    fn stays_on_link(&self, real: &Real) -> bool {
        real.way == Way::Local || real.method == Method::Dr && real.way.nic() == Some(self.packet.nic)
    }

    /// On to a real server by `method`. Errors come from the VIP.
    pub(super) fn to_real(&self, real: &'s Real, method: Method) -> Then<'s, A> {
        if matches!(real.way, Way::None) {
            let kind = ReplyKind::HostUnreachable;
            return self.error(
                Error::HostUnreachable,
                kind,
                Some(self.headers.destination),
                DropReason::NoRoute,
            );
        }
        if method == Method::Tun && real.tunnel_source.is_none() {
            return Then::Drop(DropReason::NoTunnelSource);
        }
        if real.way == Way::Local {
            // What is to be rewritten cannot go up unchanged; the kernel takes nothing for a loopback address either.
            return if method == Method::Nat { Then::Drop(DropReason::Martian) } else { Then::Local };
        }
        if real.path_mtu.forget(self.now) {
            self.snapshot.tunnels_to(real.address).for_each(Real::measure);
        }
        let overhead = if method == Method::Tun { real.overhead.get() } else { 0 };
        self.onward(real.way.as_ref(), overhead, Some(self.headers.destination))
    }

    /// On by `way`, with `overhead` bytes more. Errors come from `source`, or else from the NIC that the packet came in
    /// by.
    pub(super) fn onward(&self, way: Way<&'s NextHop>, overhead: u16, source: Option<A>) -> Then<'s, A> {
        match passable(self.headers, way.hop().copied(), overhead) {
            Some(hop) => Then::Forward(hop),
            None => self.not_simply_onward(way, overhead, source),
        }
    }

    #[cold]
    fn not_simply_onward(&self, way: Way<&'s NextHop>, overhead: u16, source: Option<A>) -> Then<'s, A> {
        let (error, kind, otherwise) = match way {
            _ if self.headers.ttl <= 1 => {
                (Error::TimeExceeded, ReplyKind::TimeExceeded, DropReason::TtlExceeded)
            }
            Way::Unresolved(unresolved) => return Then::Punt(unresolved),
            Way::Local => return Then::Local,
            Way::None => (Error::NetUnreachable, ReplyKind::NetUnreachable, DropReason::NoRoute),
            Way::Known(hop) if self.segments_fit(hop, overhead) => return Then::Forward(hop),
            Way::Known(hop) if self.may_fragment(hop, overhead) => return Then::Fragment(hop),
            Way::Known(hop) => {
                let mtu = hop.mtu.saturating_sub(overhead);
                (Error::TooBig { mtu }, ReplyKind::TooBig, DropReason::TooBig)
            }
        };
        self.error(error, kind, source, otherwise)
    }

    /// True when a NIC is to cut the packet into segments, and these fit (kernel: `skb_gso_validate_network_len`).
    fn segments_fit(&self, hop: &NextHop, overhead: u16) -> bool {
        let transport = self.headers.transport_bytes(self.packet.bytes());
        let header = match self.headers.transport_protocol() {
            Some(Protocol::Tcp) => transport.first_chunk().map(tcp::header_length),
            Some(Protocol::Udp) => Some(udp::HEADER),
            _ => None,
        };
        let network = usize::from(self.headers.transport - self.headers.network);
        let rest = network + usize::from(self.packet.segment_size) + usize::from(overhead);
        self.packet.segment_size != 0 && header.is_some_and(|header| rest + header <= usize::from(hop.mtu))
    }

    /// True when the packet may be fragmented, or what is put around it because of its `overhead` (kernel:
    /// `ensure_mtu_is_adequate`).
    fn may_fragment(&self, hop: &NextHop, overhead: u16) -> bool {
        // IPv6 came in fragments that the sender chose: what counts is whether they pass.
        if let Some(gathered) = self.gathered.filter(|_| A::BITS > 32) {
            return gathered.largest.saturating_add(overhead) <= hop.mtu;
        }
        let tunnel = overhead > 0 && A::BITS == 32 && !self.snapshot.sysctls.pmtu_disc;
        tunnel || !A::dont_fragment(self.packet.bytes(), self.headers)
    }

    /// An ICMP error to the sender, unless this packet must not be answered with one.
    #[cold]
    pub(super) fn error(
        &self,
        error: Error,
        kind: ReplyKind,
        source: Option<A>,
        otherwise: DropReason,
    ) -> Then<'s, A> {
        let own = || self.snapshot.nic(self.packet.nic).and_then(A::nic_source);
        let quoted = match kind {
            ReplyKind::NoConnection => Quoted::OneLess,
            // A router looks at the MTU before it takes from the TTL.
            ReplyKind::TooBig if source.is_some() => Quoted::OneLess,
            // On its way through, IPv4 is put together behind the router that the director is, IPv6 in front of it.
            ReplyKind::ReassemblyTimeExceeded if source.is_none() && A::BITS == 32 => Quoted::OneLess,
            _ => Quoted::AsItCame,
        };
        // A firewall mark takes packets for others, whose address is not the director's to speak from: IPv6 has another one
        // then, IPv4 says nothing (kernel: `icmp6_send`, `__icmp_send`).
        let source = match source {
            Some(others) if !self.is_ours(others) => own().filter(|_| A::BITS > 32),
            source => source.or_else(own),
        };
        match source {
            Some(source) if reply::may_answer(self.headers, self.packet.bytes()) => {
                self.answer(Answer::Error(error, kind, source, quoted))
            }
            _ => Then::Drop(otherwise),
        }
    }

    /// An answer goes back to the sender by the routes; on its link, when the sender is of one link alone.
    fn answer(&self, answer: Answer<A>) -> Then<'s, A> {
        // IPv6 takes packets from the director's own addresses, and then tells itself.
        if A::BITS > 32 && self.is_ours(self.headers.source) {
            return Then::Drop(DropReason::Martian);
        }
        match self.tables.way_back(self.packet.nic, self.headers.source) {
            Way::Known(hop) => Then::Reply(answer, hop),
            Way::Unresolved(unresolved) => Then::Punt(unresolved),
            Way::Local | Way::None => Then::Drop(DropReason::NoRoute),
        }
    }
}

/// What becomes of a packet that begins nothing, though what was there was given up for it (kernel: `ip_vs_in`, where
/// `ip_vs_conn_expire_now` comes first).
#[cold]
fn over<A>(replaces: Option<ConnectionIndex>, decided: Decided<'_, A>) -> Decided<'_, A> {
    let subject = Subject::Over(replaces, None);
    match decided {
        Ok(decision) => Ok(Decision { subject, ..decision }),
        Err(Aside::Drop(reason)) if replaces.is_some() => Ok(Decision { subject, then: Then::Drop(reason) }),
        Err(aside) => Err(aside),
    }
}

/// The same for a packet that would begin something, and that no real server takes: the host that the director is has it, or it is told
/// so.
#[cold]
pub(super) fn untaken<A>(
    replaces: Option<ConnectionIndex>,
    stale: Option<TemplateIndex>,
    decided: Decided<'_, A>,
) -> Decided<'_, A> {
    let then = match decided {
        Ok(decision) => decision.then,
        Err(Aside::Drop(reason)) => Then::Drop(reason),
        Err(aside) => return Err(aside),
    };
    Ok(Decision { subject: Subject::Untaken(replaces, stale), then })
}

/// The next hop, if a packet can go there: it has a TTL to spend, and with `overhead` bytes more it fits.
#[inline(always)]
fn passable<'s, A: Address>(
    headers: &Headers<A>,
    hop: Option<&'s NextHop>,
    overhead: u16,
) -> Option<&'s NextHop> {
    hop.filter(|hop| headers.ttl > 1 && headers.ip_length() + usize::from(overhead) <= usize::from(hop.mtu))
}

/// What keeps a SYN of a connection that is there from being simply passed on.
#[inline(never)]
fn case_of_syn<A: Address>(
    snapshot: &Snapshot,
    found: Found,
    entry: &Entry<A>,
    real: &Real,
    flags: TcpFlags,
) -> Option<Case> {
    if is_begun_anew(snapshot, entry, real, flags) {
        return Some(Case::Anew(found.index));
    }
    let is_seen = real.mss_clamp || entry.is_sent_again(flags.0);
    (is_seen && real.standing != Standing::Removed).then_some(Case::Stopped(found))
}

/// What a packet of a connection is whose real server is not up. The kernel leaves the connections of one that was removed as they
/// are: neither state nor time move.
#[cold]
fn case_of_standing(found: Found, real: &Real, protocol: Protocol) -> Case {
    match real.standing {
        Standing::Removed => Case::RealRemoved(found.index),
        Standing::Down if protocol == Protocol::Udp => Case::Anew(found.index),
        Standing::Down | Standing::Up | Standing::Divided => Case::Stopped(found),
    }
}

/// True when a SYN begins a new connection though one with its ports is there: that one is over, or its real server
/// fails its check, or takes no more connections and `expire_nodest_conn` is set.
fn is_begun_anew<A: Address>(snapshot: &Snapshot, entry: &Entry<A>, real: &Real, flags: TcpFlags) -> bool {
    entry.is_reused_by(flags.0, snapshot.sysctls.conn_reuse_mode)
        || (real.standing == Standing::Down && !flags.ack())
        || (snapshot.sysctls.expire_nodest_conn && real.weight == 0)
}
