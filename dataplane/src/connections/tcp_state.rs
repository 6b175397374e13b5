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
const SYN: u8 = 2;
/// RST.
const RST: u8 = 4;
/// ACK.
const ACK: u8 = 16;

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

impl TcpState {
    /// How many there are.
    pub const COUNT: usize = 11;

    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

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
        let event = if flags & RST != 0 {
            3
        } else if flags & SYN != 0 {
            0
        } else if flags & FIN != 0 {
            1
        } else if flags & ACK != 0 {
            2
        } else {
            return CL;
        };
        let transitions = match (direction, answers_pass) {
            (Direction::FromReal, _) => &OUTPUT,
            (Direction::FromClient, true) => &INPUT,
            (Direction::FromClient, false) => &INPUT_ONLY,
        };
        transitions[event][self as usize]
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
