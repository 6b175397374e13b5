//! TCP states, their transitions and timeouts as LVS has them (kernel: `ip_vs_proto_tcp.c`).

use std::fmt;

use super::entry::Direction;
use crate::time::Ticks;

/// The state of a TCP connection as a director between the ends sees it; in the kernel's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Just made.
    #[default]
    None,
    /// Open.
    Established,
    /// The real server sent a SYN of its own.
    SynSent,
    /// The client sent a SYN.
    SynRecv,
    /// One side closed: the real server, or the client of a real server whose answers do not come by.
    FinWait,
    /// Both sides closed.
    TimeWait,
    /// Reset, or closed.
    Close,
    /// The client closed, the real server did not yet.
    CloseWait,
    /// The real server closed too.
    LastAck,
    /// Awaits a SYN.
    Listen,
    /// Of the kernel's defence against SYN floods.
    SynAck,
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI, None as NO,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

/// FIN of the TCP header's flag byte (RFC 9293, 3.1).
const FIN: u8 = 1;
/// SYN.
pub(super) const SYN: u8 = 2;
/// RST.
pub(super) const RST: u8 = 4;
/// ACK.
pub(super) const ACK: u8 = 16;

/// What follows a state: a row for each event (SYN, FIN, ACK, RST), a column for each state.
type Transitions = [[TcpState; TcpState::COUNT]; 4];

/// For packets from the client.
#[rustfmt::skip]
const INPUT: Transitions = [
//   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
];

/// For packets from the real server.
#[rustfmt::skip]
const OUTPUT: Transitions = [
//   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];

/// For packets from the client of a connection whose answers do not come by the director.
#[rustfmt::skip]
const INPUT_ONLY: Transitions = [
//   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

/// How many values the flags have that move a state, and those below them.
const FLAGS: u8 = 32;
const _: () = assert!(RST < FLAGS && SYN < FLAGS && FIN < FLAGS && ACK < FLAGS);

/// The state after each flag byte, by transitions and state: spares each packet four questions about its flags.
static AFTER: [[[TcpState; TcpState::COUNT]; FLAGS as usize]; 3] =
    [by_flags(&OUTPUT), by_flags(&INPUT), by_flags(&INPUT_ONLY)];

const fn by_flags(transitions: &Transitions) -> [[TcpState; TcpState::COUNT]; FLAGS as usize] {
    let mut after = [[CL; TcpState::COUNT]; FLAGS as usize];
    let mut flags = 0;
    while flags < FLAGS {
        let event = if flags & RST != 0 {
            Some(3)
        } else if flags & SYN != 0 {
            Some(0)
        } else if flags & FIN != 0 {
            Some(1)
        } else if flags & ACK != 0 {
            Some(2)
        } else {
            None
        };
        if let Some(event) = event {
            after[flags as usize] = transitions[event];
        }
        flags += 1;
    }
    after
}

impl TcpState {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// The state of this number in the kernel's order; none for a number without a state.
    #[inline]
    #[must_use]
    pub(super) const fn of(number: u8) -> Self {
        if (number as usize) < Self::COUNT { Self::ALL[number as usize] } else { NO }
    }

    /// True for states that count as active connections (kernel: `tcp_state_active_table`).
    #[inline]
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, ES | SS | SR | SA)
    }

    /// The state after a packet with this flag byte. A packet with none of RST, SYN, FIN and ACK closes.
    /// `answers_pass` is false as long as the director sees only the client's half of the connection.
    #[inline]
    #[must_use]
    pub const fn after(self, flags: u8, direction: Direction, answers_pass: bool) -> Self {
        let transitions = match (direction, answers_pass) {
            (Direction::FromReal, _) => 0,
            (Direction::FromClient, true) => 1,
            (Direction::FromClient, false) => 2,
        };
        AFTER[transitions][(flags % FLAGS) as usize][self as usize]
    }

    /// True for an open connection's packet that only acknowledges, as nearly all do: [`Self::after`] says the same, at a
    /// greater cost.
    #[inline(always)]
    #[must_use]
    pub const fn is_kept_by(self, flags: u8) -> bool {
        matches!(self, ES) && flags & (RST | SYN | FIN | ACK) == ACK
    }

    /// Its name in `ipvsadm -Lc`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            NO => "NONE",
            ES => "ESTABLISHED",
            SS => "SYN_SENT",
            SR => "SYN_RECV",
            FW => "FIN_WAIT",
            TW => "TIME_WAIT",
            CL => "CLOSE",
            CW => "CLOSE_WAIT",
            LA => "LAST_ACK",
            LI => "LISTEN",
            SA => "SYNACK",
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whether a packet moved its connection between the two counts of its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Activity {
    /// It counts as before.
    Unchanged,
    /// It counted as inactive and counts as active now.
    BecameActive,
    /// It counted as active and counts as inactive now.
    BecameInactive,
    /// It counts as before, and the template that controls it is assured.
    Assures,
    /// It counts as before, and its state is another one, or it opened.
    Moved,
}

/// How long a connection lives after its last packet, by state (kernel: `tcp_timeouts`, `udp_timeouts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By TCP state, in the order of [`TcpState::ALL`].
    pub tcp: [Ticks; TcpState::COUNT],
    /// UDP.
    pub udp: Ticks,
}

impl Timeouts {
    /// The three that operators set: open TCP connections, those in FIN_WAIT, UDP (`ipvsadm --set tcp tcpfin udp`; kernel:
    /// `ip_vs_set_timeout`). 0 leaves one as it is.
    #[must_use]
    pub const fn with(mut self, tcp: Ticks, tcp_fin: Ticks, udp: Ticks) -> Self {
        if tcp.0 > 0 {
            self.tcp[ES as usize] = tcp;
        }
        if tcp_fin.0 > 0 {
            self.tcp[FW as usize] = tcp_fin;
        }
        if udp.0 > 0 {
            self.udp = udp;
        }
        self
    }

    /// The timeout of a TCP state.
    #[inline]
    #[must_use]
    pub const fn of(&self, state: TcpState) -> Ticks {
        self.tcp[state as usize]
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |state| match state {
            NO => 2,
            ES => 900,
            SS | FW | TW | LI | SA => 120,
            SR | CW => 60,
            CL => 10,
            LA => 30,
        };
        Self {
            tcp: TcpState::ALL.map(|state| Ticks::from_seconds(seconds(state))),
            udp: Ticks::from_seconds(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Limits, NewConnection, Table};
    use crate::flow::{Flow, HashKey};
    use crate::id::{L4Port, Protocol, RealId};
    use crate::service::Method;
    use crate::time::Tick;
    use std::net::Ipv4Addr;

    /// What happens, each packet (`c` from the client, `r` from the real server, and its flags) with the state
    /// that the kernel (6.1) lists after it, and the active and inactive connections after all so far.
    type Recording = [(&'static str, &'static str, i32, i32)];

    /// One real server under DR or TUN.
    const ONE_WAY: &Recording = &[
        ("plain", "cS SYN_RECV, cA ESTABLISHED, cPA ESTABLISHED, cFA FIN_WAIT, cA FIN_WAIT", 0, 1),
        ("server closes", "cS SYN_RECV, cA ESTABLISHED, cA ESTABLISHED, cFA FIN_WAIT", 0, 2),
        ("syn then rst", "cS SYN_RECV, cR SYN_RECV", 1, 2),
        ("retransmit", "cS SYN_RECV, cS SYN_RECV, cA ESTABLISHED, cA ESTABLISHED", 2, 2),
        (
            "reuse after fin",
            "cS SYN_RECV, cA ESTABLISHED, cFA FIN_WAIT, cA FIN_WAIT, cS SYN_RECV, cA ESTABLISHED",
            3,
            2,
        ),
        ("reuse while established", "cS SYN_RECV, cA ESTABLISHED, cS ESTABLISHED, cA ESTABLISHED", 4, 2),
        ("syn fin", "cSF SYN_RECV", 5, 2),
        ("rst by client", "cS SYN_RECV, cA ESTABLISHED, cRA CLOSE", 5, 3),
        ("rst by server", "cS SYN_RECV, cA ESTABLISHED", 6, 3),
        ("synack refused", "cS SYN_RECV", 7, 3),
        ("no flag but psh", "cS SYN_RECV, cA ESTABLISHED, cP CLOSE, cA CLOSE", 7, 4),
    ];

    /// One real server under NAT.
    const BOTH_WAYS: &Recording = &[
        (
            "plain",
            "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, cPA ESTABLISHED, rPA ESTABLISHED, cFA CLOSE_WAIT, \
             rFA TIME_WAIT, cA TIME_WAIT, rA TIME_WAIT",
            0,
            1,
        ),
        (
            "server closes",
            "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, rFA FIN_WAIT, cA FIN_WAIT, cFA TIME_WAIT, rA TIME_WAIT",
            0,
            2,
        ),
        ("syn then rst", "cS SYN_RECV, cR SYN_RECV", 1, 2),
        (
            "retransmit",
            "cS SYN_RECV, cS SYN_RECV, rSA SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, cA ESTABLISHED",
            2,
            2,
        ),
        (
            "reuse after fin",
            "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, cFA CLOSE_WAIT, rFA TIME_WAIT, cA TIME_WAIT, cS SYN_RECV, \
             rSA SYN_RECV, cA ESTABLISHED",
            3,
            2,
        ),
        (
            "reuse while established",
            "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, cS ESTABLISHED, cA ESTABLISHED",
            4,
            2,
        ),
        ("syn fin", "cSF SYN_RECV", 5, 2),
        ("rst by client", "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, cRA CLOSE", 5, 3),
        ("rst by server", "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, rRA CLOSE", 5, 4),
        ("synack refused", "cS SYN_RECV, rRA CLOSE", 5, 5),
        ("no flag but psh", "cS SYN_RECV, rSA SYN_RECV, cA ESTABLISHED, cP CLOSE, cA CLOSE", 5, 6),
    ];

    fn flag_byte(letters: &str) -> u8 {
        letters
            .chars()
            .map(|letter| match letter {
                'F' => FIN,
                'S' => SYN,
                'R' => RST,
                'P' => 8,
                'A' => ACK,
                _ => panic!("{letter}"),
            })
            .sum()
    }

    fn replay(recording: &Recording, nat: bool) {
        let mut table = Table::new(100, HashKey::random());
        let (now, timeouts) = (Tick(1000), Timeouts::default());
        let (mut active, mut inactive) = (0, 0);
        for (number, &(what, packets, active_after, inactive_after)) in recording.iter().enumerate() {
            let new = NewConnection {
                flow: Flow {
                    source: Ipv4Addr::new(198, 51, 100, 1),
                    destination: Ipv4Addr::new(10, 0, 0, 100),
                    source_port: L4Port(43_000 + number as u16),
                    destination_port: L4Port(80),
                    protocol: Protocol::Tcp,
                },
                real: RealId(1),
                real_address: Ipv4Addr::new(10, 1, 0, 11),
                real_port: L4Port(8080),
                method: if nat { Method::Nat } else { Method::Dr },
                masqueraded: false,
            };
            let mut index = table.insert(&new, &Limits::NONE, now, |_, _| panic!("a new flow")).unwrap();
            inactive += 1;
            for packet in packets.split(", ") {
                let (packet, state) = packet.split_once(' ').unwrap();
                let flags = flag_byte(&packet[1..]);
                let direction =
                    if packet.starts_with('c') { Direction::FromClient } else { Direction::FromReal };
                if direction == Direction::FromClient && table.entry(index).is_reused_by(flags, 1) {
                    let counted = &mut inactive;
                    index = table
                        .insert(&new, &Limits::NONE, now, |old, _| {
                            *counted -= i32::from(!old.counts_as_active())
                        })
                        .unwrap();
                    inactive += 1;
                }
                let entry = table.entry_mut(index);
                match entry.observe(flags, direction, now, &timeouts) {
                    Activity::Unchanged | Activity::Assures | Activity::Moved => {}
                    Activity::BecameActive => (active, inactive) = (active + 1, inactive - 1),
                    Activity::BecameInactive => (active, inactive) = (active - 1, inactive + 1),
                }
                assert_eq!(entry.state().word(), state, "{what}: {packet}");
                assert_eq!(entry.expires(), now.after(timeouts.of(entry.state())), "{what}: {packet}");
            }
            assert_eq!((active, inactive), (active_after, inactive_after), "{what}");
        }
    }

    #[test]
    fn what_is_kept_is_what_comes_after() {
        let mut kept = 0;
        for (state, flags) in
            TcpState::ALL.into_iter().flat_map(|state| (0..=u8::MAX).map(move |flags| (state, flags)))
        {
            if state.is_kept_by(flags) {
                kept += 1;
                for (direction, pass) in [
                    (Direction::FromClient, false),
                    (Direction::FromClient, true),
                    (Direction::FromReal, true),
                ] {
                    assert_eq!(state.after(flags, direction, pass), state, "{state} {flags:#x}");
                }
            }
        }
        assert!(kept > 0);
    }

    #[test]
    fn states_and_counts_as_the_kernel() {
        replay(ONE_WAY, false);
        replay(BOTH_WAYS, true);
    }

    #[test]
    fn an_answer_of_a_connection_thought_one_way_ends_that() {
        let (closed_one_way, closed) = (TcpState::FinWait, TcpState::CloseWait);
        assert_eq!(TcpState::Established.after(FIN, Direction::FromClient, false), closed_one_way);
        assert_eq!(TcpState::Established.after(FIN, Direction::FromClient, true), closed);
    }

    #[test]
    fn every_event_leads_somewhere() {
        for state in TcpState::ALL {
            assert_eq!(TcpState::ALL[state as usize], state);
            for flags in 0..=255 {
                for (direction, pass) in [
                    (Direction::FromClient, true),
                    (Direction::FromClient, false),
                    (Direction::FromReal, true),
                ] {
                    let next = state.after(flags, direction, pass);
                    assert!(flags & (FIN | SYN | RST | ACK) != 0 || next == TcpState::Close);
                }
            }
        }
    }

    #[test]
    fn timeouts_are_the_kernels() {
        let timeouts = Timeouts::default();
        let seconds = TcpState::ALL.map(|state| timeouts.of(state).as_duration().as_secs());
        assert_eq!(seconds, [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120]);
        assert_eq!(timeouts.udp.as_duration().as_secs(), 300);
    }
}
