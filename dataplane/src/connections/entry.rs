//! One connection: 32 bytes for IPv4, 64 for IPv6.

use crate::address::Address;
use crate::flow::Flow;
use crate::id::{L4Port, Protocol, RealId};
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};
use crate::wire::sctp::Event;

use super::reclaim::Rank;
use super::record::{ConnectionRecord, Control, Marks, State};
use super::sctp_state::SctpState;
use super::table::NewConnection;
use super::tcp_state::{ACK, Activity, RST, SYN, TcpState, Timeouts};
use crate::reason::{Evidence, Reclaimed};
use crate::service::Method;

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the VIP.
    FromClient,
    /// From the real server to the client: an answer of a NAT connection.
    FromReal,
}

/// The entry holds a connection.
const IN_USE: u8 = 1;
/// The connection is found by its answers too.
const NAT: u8 = 1 << 1;
/// It counts as inactive (kernel: `IP_VS_CONN_F_INACTIVE`).
const INACTIVE: u8 = 1 << 2;
/// No answer was seen, or will be (kernel: `IP_VS_CONN_F_NOOUTPUT`).
const NO_OUTPUT: u8 = 1 << 3;
/// UDP, and with [`SCTP`] ICMP echo; without both TCP.
const UDP: u8 = 1 << 4;
/// The number of an SCTP state is larger than that of any TCP state, whose place it is kept in.
const LATE_STATE: u8 = 1 << 5;
/// Of TCP, in the same place: the real server answered the SYN.
const ANSWERED: u8 = LATE_STATE;
/// SCTP.
const SCTP: u8 = 1 << 7;

/// A persistence template controls it.
const CONTROLLED: u8 = 1 << 6;

/// The part of the state byte that holds the state: of TCP its number, of SCTP with [`LATE_STATE`], of others 1 once a packet was seen.
/// Marks are above it.
const STATE: u8 = 0x0f;
/// More than its beginning was seen: it is no longer half-open, and not of one packet.
const OPENED: u8 = 1 << 4;
/// The client is the host that is masqueraded, not who is asked.
const MASQUERADED: u8 = 1 << 5;
/// Its packets travel in a tunnel.
const TUNNELLED: u8 = 1 << 6;
/// What becomes of it says nothing of its real server.
const UNJUDGED: u8 = 1 << 7;
/// The state byte of an open TCP connection.
const OPEN: u8 = OPENED | TcpState::Established as u8;

/// A SYN that is sent again so long after the one before had its time to be answered (RFC 6298, 2: senders wait for a second), and
/// is no copy of it on the wire.
pub const SILENCE: Ticks = Ticks(TICKS_PER_SECOND * 3 / 4);

/// A connection. Spare bytes of the IPv4 entry are reserved.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Entry<A: Address> {
    client: A,
    vip: A,
    real_address: A,
    /// The real server; in an unused entry, the next unused one.
    real: RealId,
    expires: Tick,
    // In this order either direction's ports are one number of 32 bits.
    vip_port: L4Port,
    client_port: L4Port,
    real_port: L4Port,
    /// State and marks.
    state: u8,
    flags: u8,
    alignment: [A::EntryAlignment; 0],
}

const _: () = {
    assert!(size_of::<Entry<std::net::Ipv4Addr>>() == 32);
    assert!(size_of::<Entry<std::net::Ipv6Addr>>() == 64);
    assert!(align_of::<Entry<std::net::Ipv4Addr>>() == 32);
    assert!(align_of::<Entry<std::net::Ipv6Addr>>() == 64);
};

const fn protocol_flag(protocol: Protocol) -> u8 {
    // The numbers of the protocols have these bits.
    protocol.number() & (UDP | SCTP)
}

const _: () = {
    assert!(protocol_flag(Protocol::Tcp) == 0);
    assert!(protocol_flag(Protocol::Udp) == UDP);
    assert!(protocol_flag(Protocol::Sctp) == SCTP);
    assert!(protocol_flag(Protocol::Icmp) == UDP | SCTP);
};

impl<A: Address> Entry<A> {
    /// An entry without a connection.
    pub(super) const UNUSED: Self = Self {
        client: A::UNSPECIFIED,
        vip: A::UNSPECIFIED,
        real_address: A::UNSPECIFIED,
        real: RealId(0),
        expires: Tick(0),
        client_port: L4Port(0),
        vip_port: L4Port(0),
        real_port: L4Port(0),
        state: 0,
        flags: 0,
        alignment: [],
    };

    /// A new connection, which counts as inactive until its first packet was observed. Answers of `nat`
    /// connections come by the director, others' do not.
    pub(super) fn new(new: &NewConnection<A>) -> Self {
        let NewConnection { flow, real, real_address, real_port, method, masqueraded } = *new;
        let answers = if method == Method::Nat { NAT } else { NO_OUTPUT };
        let tunnelled = if method == Method::Tun { TUNNELLED } else { 0 };
        Self {
            client: flow.source,
            vip: flow.destination,
            real_address,
            real,
            client_port: flow.source_port,
            vip_port: flow.destination_port,
            real_port,
            state: tunnelled | if masqueraded { MASQUERADED } else { 0 },
            flags: IN_USE | INACTIVE | answers | protocol_flag(flow.protocol),
            ..Self::UNUSED
        }
    }

    /// The connection of a record; when it ends is the caller's to say.
    pub(super) fn of_record(record: &ConnectionRecord<A>) -> Self {
        let marks = record.marks;
        let mut entry = Self::new(&NewConnection {
            flow: record.client_flow(),
            real: record.real,
            real_address: record.real_address,
            real_port: record.real_port,
            method: record.method,
            masqueraded: marks.masqueraded,
        });
        match record.state {
            State::Tcp(state) => entry.state |= state as u8,
            State::Sctp(state) => entry.set_sctp_state(state),
            State::Udp { seen } | State::Icmp { seen } => entry.state |= u8::from(seen),
        }
        if record.state.is_active() {
            entry.flags &= !INACTIVE;
        }
        match (marks.answered, record.method) {
            (true, Method::Nat) if entry.flags & (UDP | SCTP) == 0 => entry.flags |= ANSWERED,
            (true, _) => entry.flags &= !NO_OUTPUT,
            (false, _) => {}
        }
        if marks.opened {
            entry.state |= OPENED;
        }
        if !marks.judged {
            entry.leave_unjudged();
        }
        if record.template != Control::Free {
            entry.control();
        }
        entry
    }

    /// Its protocol and state.
    pub(super) fn protocol_state(&self) -> State {
        let seen = self.state & STATE != 0;
        match self.protocol() {
            Protocol::Tcp => State::Tcp(self.state()),
            Protocol::Udp => State::Udp { seen },
            Protocol::Sctp => State::Sctp(self.sctp_state()),
            Protocol::Icmp => State::Icmp { seen },
        }
    }

    /// What its record says beside that, but for [`Marks::foremost`].
    pub(super) fn marks(&self) -> Marks {
        let answered = match (self.is_nat(), self.protocol()) {
            (true, Protocol::Tcp) => self.flags & ANSWERED != 0,
            (true, _) => false,
            (false, _) => self.flags & NO_OUTPUT == 0,
        };
        Marks {
            opened: self.is_opened(),
            answered,
            judged: self.is_judged(),
            masqueraded: self.state & MASQUERADED != 0,
            foremost: true,
        }
    }

    /// Takes the connection out; the entry leads to the next unused one.
    pub(super) fn release(&mut self, next: u32) {
        self.flags = 0;
        self.real = RealId(next);
    }

    /// The unused entry after this unused one.
    pub(super) const fn next_unused(&self) -> u32 {
        self.real.0
    }

    pub(super) const fn in_use(&self) -> bool {
        self.flags & IN_USE != 0
    }

    /// True when the connection's time is over; nobody finds it any more.
    #[inline]
    #[must_use]
    pub const fn is_expired(&self, now: Tick) -> bool {
        self.expires.has_come(now)
    }

    /// Which way a packet of this flow goes, if it belongs to this connection.
    #[inline(always)]
    #[must_use]
    pub fn direction_of(&self, flow: &Flow<A>) -> Option<Direction> {
        let wanted = IN_USE | protocol_flag(flow.protocol);
        if self.flags & (IN_USE | UDP | SCTP) != wanted {
            return None;
        }
        let ports =
            |source: L4Port, destination: L4Port| u32::from(source.0) << 16 | u32::from(destination.0);
        if A::are_equal(self.client, flow.source, self.vip, flow.destination)
            && ports(self.client_port, self.vip_port) == ports(flow.source_port, flow.destination_port)
        {
            return Some(Direction::FromClient);
        }
        let answer = self.is_nat()
            && A::are_equal(self.client, flow.destination, self.real_address, flow.source)
            && ports(self.real_port, self.client_port) == ports(flow.source_port, flow.destination_port);
        answer.then_some(Direction::FromReal)
    }

    /// Takes notice of a packet of this connection: its TCP flag byte (ignored for UDP) moves the state, and its
    /// time starts anew (kernel: `set_tcp_state`). The caller moves the real server's counts by the result.
    #[inline(always)]
    pub fn observe(&mut self, flags: u8, direction: Direction, now: Tick, timeouts: &Timeouts) -> Activity {
        if self.flags & UDP != 0 {
            self.expires = now.after(timeouts.udp);
            let assures = self.flags & CONTROLLED != 0 && direction == Direction::FromReal;
            if self.state & OPENED != 0 && !assures {
                return Activity::Unchanged;
            }
            return self.observe_packet(assures);
        }
        if direction == Direction::FromReal {
            self.flags &= !NO_OUTPUT;
        }
        let is_open = self.flags & SCTP == 0 && self.state & (STATE | OPENED) == OPEN;
        if is_open && TcpState::Established.is_kept_by(flags) {
            self.expires = now.after(timeouts.of(TcpState::Established));
            return Activity::Unchanged;
        }
        self.observe_state(flags, direction, now, timeouts)
    }

    /// A packet of a TCP or SCTP connection that may move its state.
    #[inline(never)]
    fn observe_state(&mut self, flags: u8, direction: Direction, now: Tick, timeouts: &Timeouts) -> Activity {
        if self.flags & SCTP != 0 {
            return self.observe_sctp(Event::from_flags(flags), direction, now);
        }
        let before = self.state();
        let state = before.after(flags, direction, self.flags & NO_OUTPUT == 0);
        self.expires = now.after(timeouts.of(state));
        // One that was taken up in its midst is not open by its first packet.
        let opens = state == TcpState::Established && before != TcpState::None && !self.is_opened();
        if state == before && !opens {
            return Activity::Unchanged;
        }
        self.state = self.state & !STATE | state as u8;
        if opens {
            self.state |= OPENED;
        }
        match (state.is_active(), self.counts_as_active()) {
            (true, false) => {
                self.flags &= !INACTIVE;
                Activity::BecameActive
            }
            (false, true) => {
                self.flags |= INACTIVE;
                Activity::BecameInactive
            }
            _ if self.assures() => Activity::Assures,
            _ => Activity::Moved,
        }
    }

    /// A packet of a UDP connection that its beginning, or its template, is to be told of.
    #[cold]
    fn observe_packet(&mut self, assures: bool) -> Activity {
        let opens = !self.is_opened() && self.open_by_packets();
        match (assures, opens) {
            (true, _) => Activity::Assures,
            (false, true) => Activity::Moved,
            (false, false) => Activity::Unchanged,
        }
    }

    /// A packet of a connection without states of its own: the second one opens it, which is told.
    #[cold]
    fn open_by_packets(&mut self) -> bool {
        let opens = self.state & STATE != 0;
        self.state |= if opens { OPENED } else { 1 };
        opens
    }

    /// An echo was seen; true when it is the second one.
    pub(crate) fn observe_echo(&mut self) -> bool {
        !self.is_opened() && self.open_by_packets()
    }

    /// True when more than its beginning was seen: a TCP or SCTP connection opened, of others two packets came by.
    #[inline]
    #[must_use]
    pub const fn is_opened(&self) -> bool {
        self.state & OPENED != 0
    }

    /// How soon it is given up in a full table; none while it is open.
    #[must_use]
    pub fn rank(&self) -> Option<Rank> {
        if !self.is_opened() {
            return Some(Rank::Begun);
        }
        let over = match self.protocol() {
            Protocol::Tcp => matches!(self.state(), TcpState::TimeWait | TcpState::Close),
            Protocol::Sctp => matches!(self.sctp_state(), SctpState::Closed | SctpState::Rejected),
            Protocol::Udp | Protocol::Icmp => false,
        };
        over.then_some(Rank::Over)
    }

    /// What of it is given up, when a full table gives it up.
    #[must_use]
    pub fn reclaimed_as(&self) -> Reclaimed {
        let unseen = match self.protocol() {
            Protocol::Tcp => self.state() == TcpState::Established || self.state() == TcpState::None,
            Protocol::Sctp => {
                matches!(self.sctp_state(), SctpState::Established | SctpState::None)
            }
            Protocol::Udp | Protocol::Icmp => true,
        };
        match self.rank() {
            Some(Rank::Over) | None => Reclaimed::Closed,
            Some(Rank::Begun) if unseen => Reclaimed::OnePacket,
            Some(Rank::Begun) => Reclaimed::HalfOpen,
        }
    }

    /// Whose share of the table it is: the client's, of a masqueraded connection the host's that is masqueraded.
    #[must_use]
    pub const fn holder(&self) -> A {
        if self.state & MASQUERADED != 0 { self.real_address } else { self.client }
    }

    /// True for a NAT connection of TCP whose real server has not answered its SYN yet.
    const fn awaits_first_answer(&self) -> bool {
        self.flags & (NAT | UDP | SCTP | ANSWERED) == NAT
            && self.state & UNJUDGED == 0
            && matches!(self.state(), TcpState::SynRecv)
    }

    /// True when a client's packet with this flag byte is a SYN that is sent again, which [`Self::waited_in_vain`] wants to see.
    #[must_use]
    pub const fn is_sent_again(&self, flags: u8) -> bool {
        flags & (SYN | ACK | RST) == SYN && self.awaits_first_answer()
    }

    /// What it says of the real server that this SYN is sent again. To be asked before [`Self::observe`].
    #[must_use]
    pub fn waited_in_vain(&self, flags: u8, now: Tick, timeouts: &Timeouts) -> Option<Evidence> {
        let waited = timeouts.of(TcpState::SynRecv).0.saturating_sub(self.expires.remaining(now).0);
        (self.is_sent_again(flags) && waited >= SILENCE.0).then_some(Evidence::Unanswered)
    }

    /// True when a SYN from the real server is its answer; no later one is.
    #[must_use]
    pub fn is_first_answer(&mut self) -> bool {
        let first = self.awaits_first_answer();
        if first {
            self.flags |= ANSWERED;
        }
        first
    }

    /// What it says of the real server that the connection's activity changed so.
    #[must_use]
    pub fn evidence(&mut self, change: Activity, direction: Direction) -> Option<Evidence> {
        if self.flags & (NAT | UDP | SCTP) != NAT || self.state & UNJUDGED != 0 {
            return None;
        }
        match (change, self.state()) {
            // Another life by the same ports; or taken on in its midst, where a reset says nothing of listening.
            (Activity::BecameActive, TcpState::SynRecv) => self.flags &= !ANSWERED,
            (Activity::BecameActive, _) => self.flags |= ANSWERED,
            (Activity::BecameInactive, TcpState::Close)
                if direction == Direction::FromReal && self.flags & ANSWERED == 0 =>
            {
                self.flags |= ANSWERED;
                return Some(Evidence::Refused);
            }
            _ => {}
        }
        None
    }

    /// The same for SCTP (kernel: `set_sctp_state`).
    #[cold]
    fn observe_sctp(&mut self, event: Option<Event>, direction: Direction, now: Tick) -> Activity {
        let before = self.sctp_state();
        let answered = self.flags & NO_OUTPUT == 0;
        let state = event.map_or(before, |event| before.after(event, direction, answered));
        self.expires = now.after(state.timeout());
        self.set_sctp_state(state);
        let is_open = state == SctpState::Established;
        let opens = is_open && before != SctpState::None && !self.is_opened();
        if opens {
            self.state |= OPENED;
        }
        match (is_open, self.counts_as_active()) {
            _ if state == before && !opens => Activity::Unchanged,
            (true, false) => {
                self.flags &= !INACTIVE;
                Activity::BecameActive
            }
            (false, true) => {
                self.flags |= INACTIVE;
                Activity::BecameInactive
            }
            _ => Activity::Moved,
        }
    }

    /// The state of SCTP; for TCP and UDP without meaning.
    #[must_use]
    pub fn sctp_state(&self) -> SctpState {
        let late = if self.flags & LATE_STATE != 0 { TcpState::COUNT } else { 0 };
        SctpState::ALL.get((self.state & STATE) as usize + late).copied().unwrap_or_default()
    }

    fn set_sctp_state(&mut self, state: SctpState) {
        let number = state as usize;
        self.flags =
            if number < TcpState::COUNT { self.flags & !LATE_STATE } else { self.flags | LATE_STATE };
        self.state = self.state & !STATE | (number % TcpState::COUNT) as u8;
    }

    /// Its answers may come by, though it is no NAT connection: the client's packets alone do not say all about its state.
    pub(crate) fn awaits_answers(&mut self) {
        self.flags &= !NO_OUTPUT;
    }

    /// A persistence template controls it from now on.
    pub(super) fn control(&mut self) {
        self.flags |= CONTROLLED;
    }

    /// True when a persistence template controls it.
    #[inline]
    #[must_use]
    pub const fn is_controlled(&self) -> bool {
        self.flags & CONTROLLED != 0
    }

    /// True when it is open and so assures the template that controls it (kernel: `ip_vs_control_assure_ct`).
    #[must_use]
    pub fn assures(&self) -> bool {
        let open = match self.flags & SCTP {
            0 => self.state() == TcpState::Established,
            _ => self.sctp_state() == SctpState::Established,
        };
        self.is_controlled() && open
    }

    /// True when a client's packet with this TCP flag byte is the SYN of a new connection that uses an old one's ports
    /// again, unless a template controls it: the old one ends and the packet is scheduled (kernel: `is_new_conn_expected`; `reuse_mode` is `conn_reuse_mode`).
    #[inline]
    #[must_use]
    pub fn is_reused_by(&self, flags: u8, reuse_mode: u8) -> bool {
        if self.flags & SCTP != 0 {
            let over = self.sctp_state() == SctpState::Closed && reuse_mode != 0;
            return over && self.flags & CONTROLLED == 0 && flags & SYN != 0;
        }
        let over = match self.state() {
            TcpState::TimeWait | TcpState::Close => reuse_mode != 0,
            TcpState::FinWait => reuse_mode & 2 != 0 && self.flags & NO_OUTPUT != 0,
            _ => false,
        };
        over && self.flags & (UDP | CONTROLLED) == 0 && flags & SYN != 0
    }

    /// Sets the moment at which the connection ends, unless a packet comes before.
    #[inline]
    pub fn set_expires(&mut self, expires: Tick) {
        self.expires = expires;
    }

    /// When the connection ends.
    #[inline]
    #[must_use]
    pub const fn expires(&self) -> Tick {
        self.expires
    }

    /// The real server.
    #[inline]
    #[must_use]
    pub const fn real(&self) -> RealId {
        self.real
    }

    /// The client's address.
    #[inline]
    #[must_use]
    pub const fn client(&self) -> A {
        self.client
    }

    /// The client's port.
    #[inline]
    #[must_use]
    pub const fn client_port(&self) -> L4Port {
        self.client_port
    }

    /// The virtual IP address.
    #[inline]
    #[must_use]
    pub const fn vip(&self) -> A {
        self.vip
    }

    /// The port of the service as the client used it.
    #[inline]
    #[must_use]
    pub const fn vip_port(&self) -> L4Port {
        self.vip_port
    }

    /// The real server's address.
    #[inline]
    #[must_use]
    pub const fn real_address(&self) -> A {
        self.real_address
    }

    /// The real server's port.
    #[inline]
    #[must_use]
    pub const fn real_port(&self) -> L4Port {
        self.real_port
    }

    /// TCP, UDP, SCTP or ICMP echo.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.flags & (UDP | SCTP) {
            0 => Protocol::Tcp,
            UDP => Protocol::Udp,
            SCTP => Protocol::Sctp,
            _ => Protocol::Icmp,
        }
    }

    /// The TCP state; [`TcpState::None`] for UDP.
    #[inline]
    #[must_use]
    pub const fn state(&self) -> TcpState {
        if self.flags & UDP != 0 { TcpState::None } else { TcpState::of(self.state & STATE) }
    }

    /// What `ipvsadm -Lc` shows as the state.
    #[must_use]
    pub fn state_word(&self) -> &'static str {
        match self.protocol() {
            Protocol::Tcp => self.state().word(),
            Protocol::Udp => "UDP",
            Protocol::Icmp => "ICMP",
            Protocol::Sctp => self.sctp_state().word(),
        }
    }

    /// True when answers pass the director and are found too.
    #[inline]
    #[must_use]
    pub const fn is_nat(&self) -> bool {
        self.flags & NAT != 0
    }

    /// True when its packets travel in a tunnel.
    #[inline]
    #[must_use]
    pub const fn is_tunnelled(&self) -> bool {
        self.state & TUNNELLED != 0
    }

    /// How its packets reach its real server: as when it began, whatever method that is given later (kernel: `ip_vs_bind_xmit`).
    #[must_use]
    pub const fn method(&self) -> Method {
        match (self.is_nat(), self.is_tunnelled()) {
            (true, _) => Method::Nat,
            (false, true) => Method::Tun,
            (false, false) => Method::Dr,
        }
    }

    /// What becomes of it says nothing of its real server: its client named a port that the real server may not listen at.
    pub(crate) fn leave_unjudged(&mut self) {
        self.state |= UNJUDGED;
    }

    /// True when what becomes of it says something of its real server.
    #[must_use]
    pub const fn is_judged(&self) -> bool {
        self.state & UNJUDGED == 0
    }

    /// True when it counts among its real server's active connections, false for the inactive ones.
    #[inline]
    #[must_use]
    pub const fn counts_as_active(&self) -> bool {
        self.flags & INACTIVE == 0
    }

    /// The flow as the client sends it.
    #[inline]
    #[must_use]
    pub const fn client_flow(&self) -> Flow<A> {
        Flow {
            source: self.client,
            destination: self.vip,
            source_port: self.client_port,
            destination_port: self.vip_port,
            protocol: self.protocol(),
        }
    }

    /// The flow as the real server of a NAT connection answers it.
    #[inline]
    #[must_use]
    pub const fn answer_flow(&self) -> Flow<A> {
        Flow {
            source: self.real_address,
            destination: self.client,
            source_port: self.real_port,
            destination_port: self.client_port,
            protocol: self.protocol(),
        }
    }
}
