//! SCTP states, their transitions and timeouts as LVS has them (kernel: `ip_vs_proto_sctp.c`).

use super::entry::Direction;
use crate::time::Ticks;
use crate::wire::sctp::Event;

/// The state of an SCTP association as a director between the ends sees it; in the kernel's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SctpState {
    /// Just made.
    #[default]
    None,
    /// The client sent INIT.
    Init1,
    /// It did so again.
    Init,
    /// The real server sent INIT ACK.
    CookieSent,
    /// The client sent COOKIE ECHO.
    CookieReplied,
    /// The client answered an INIT.
    CookieWait,
    /// It did so again.
    Cookie,
    /// The real server sent COOKIE ECHO.
    CookieEchoed,
    /// Open.
    Established,
    /// The real server sent SHUTDOWN.
    ShutdownSent,
    /// The client sent SHUTDOWN.
    ShutdownReceived,
    /// The real server acknowledged it.
    ShutdownAckSent,
    /// Refused.
    Rejected,
    /// Over.
    Closed,
}

use SctpState::{
    Closed as CL, Cookie as CO, CookieEchoed as CE, CookieReplied as CR, CookieSent as CS, CookieWait as CW,
    Established as ES, Init as IN, Init1 as I1, None as NO, Rejected as RJ, ShutdownAckSent as SA,
    ShutdownReceived as SR, ShutdownSent as SS,
};

/// What follows a state: a row for each event, a column for each state.
type Transitions = [[SctpState; SctpState::COUNT]; Event::COUNT];

/// For packets from the client.
#[rustfmt::skip]
const INPUT: Transitions = [
//   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // Data
    [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN], // Init
    [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL], // InitAck
    [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // CookieEcho
    [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL], // CookieAck
    [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL], // Shutdown
    [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL], // ShutdownAck
    [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL], // ShutdownComplete
    [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL], // Error
    [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // Abort
];

/// For packets from the real server.
#[rustfmt::skip]
const OUTPUT: Transitions = [
//   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // Data
    [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW], // Init
    [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // InitAck
    [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL], // CookieEcho
    [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL], // CookieAck
    [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL], // Shutdown
    [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL], // ShutdownAck
    [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // ShutdownComplete
    [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // Error
    [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // Abort
];

/// For packets from the client of an association whose answers do not come by the director. States that only answers lead
/// to are left as in [`INPUT`].
#[rustfmt::skip]
const INPUT_ONLY: Transitions = [
//   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // Data
    [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN], // Init
    [CE, CE, CE, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL], // InitAck
    [ES, ES, ES, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // CookieEcho
    [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL], // CookieAck
    [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL], // Shutdown
    [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL], // ShutdownAck
    [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, CL, CL, RJ, CL], // ShutdownComplete
    [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // Error
    [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // Abort
];

impl SctpState {
    /// How many there are.
    pub const COUNT: usize = 14;
    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

    /// The state after a packet; `answered` when answers come by the director.
    #[must_use]
    pub fn after(self, event: Event, direction: Direction, answered: bool) -> Self {
        let transitions = match (direction, answered) {
            (Direction::FromReal, _) => &OUTPUT,
            (Direction::FromClient, true) => &INPUT,
            (Direction::FromClient, false) => &INPUT_ONLY,
        };
        transitions[event as usize][self as usize]
    }

    /// How long a connection lives in this state without a packet (kernel: `sctp_timeouts`).
    #[must_use]
    pub const fn timeout(self) -> Ticks {
        match self {
            NO => Ticks::from_seconds(2),
            I1 | RJ => Ticks::from_seconds(3),
            ES => Ticks::from_seconds(15 * 60),
            _ => Ticks::from_seconds(60),
        }
    }

    /// What `ipvsadm -Lc` shows.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            NO => "NONE",
            I1 => "INIT1",
            IN => "INIT",
            CS => "C-SENT",
            CR => "C-REPLIED",
            CW => "C-WAIT",
            CO => "COOKIE",
            CE => "C-ECHOED",
            ES => "ESTABLISHED",
            SS => "S-SENT",
            SR => "S-RECEIVED",
            SA => "S-ACK-SENT",
            RJ => "REJECTED",
            CL => "CLOSED",
        }
    }
}
