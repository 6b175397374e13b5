//! Neighbours on the links of the director: who has which MAC, and answers to those who ask for the director's.
//!
//! [`machine`] decides and does no I/O; the control loop feeds it what workers punt and carries out what it says.

mod allowance;
mod conflict;
mod entry;
mod index;
mod leaks;
pub mod machine;
pub mod message;
mod naming;
mod output;
mod owned;

pub use conflict::{Cause, Conflict};
pub use machine::Machine;
pub use naming::NAMED_PER_STEP_MAX;
pub use output::{Change, Counters, Event, Listed, Named, Output, Refused, Standing};
pub use owned::{Nic, Vip};

use std::time::Duration;

/// Those of one NIC that were asked for and have not answered yet, beside the others: a scan of the link's addresses through the
/// director, or a flood from addresses of nobody, fills no more than this. Who had [`ANSWER_TIME`] gives way.
pub const INCOMPLETE_PER_NIC_MAX: usize = 512;
/// How long who was asked has at least to answer before it gives way to another one that is to be asked. In this time no more
/// than [`INCOMPLETE_PER_NIC_MAX`] are asked, so that nobody is forgotten before it could answer.
pub const ANSWER_TIME: Duration = Duration::from_millis(250);
/// Packets that wait for one neighbour; the oldest gives way.
pub const WAITING_PER_NEIGHBOUR_MAX: usize = 16;
/// Packets that wait for all neighbours together.
pub const WAITING_MAX: usize = 1_024;
/// Requests and announcements a second, over all NICs; further ones are put off.
pub const REQUESTS_PER_SECOND_MAX: u32 = 2_000;
/// Of these, questions to neighbours whose MAC is known: there may be so many that each is asked more seldom than each
/// [`REACHABLE`].
pub const CONFIRMATIONS_PER_SECOND_MAX: u32 = REQUESTS_PER_SECOND_MAX / 2;
/// And to neighbours that the configuration names and that do not answer, which are else asked each [`RETRANSMIT`].
pub const SILENT_PER_SECOND_MAX: u32 = REQUESTS_PER_SECOND_MAX / 4;
/// Requests and announcements at once.
pub const REQUESTS_BURST_MAX: u32 = 200;

/// How long an answer holds before the neighbour is asked again (RFC 4861, 10: `REACHABLE_TIME`).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// How long a MAC holds that was heard but not asked for (RFC 4861, 10: `DELAY_FIRST_PROBE_TIME`).
pub const UNCONFIRMED: Duration = Duration::from_secs(5);
/// How long a question waits for its answer (RFC 4861, 10: `RETRANS_TIMER`).
pub const RETRANSMIT: Duration = Duration::from_secs(1);
/// Questions without an answer after which a neighbour counts as gone (RFC 4861, 10: `MAX_UNICAST_SOLICIT`).
pub const PROBES_MAX: u32 = 3;
/// How long a MAC holds at least that replaced another, and how often claims of others make the director ask: two hosts with
/// one address must not make the table flap with each packet (the kernel's `locktime`).
pub const CHANGE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the MAC known so far has to answer when another host claims its address.
pub const DOUBT: Duration = Duration::from_millis(100);
/// How often an address is announced when it is taken, and how far apart.
pub const ANNOUNCEMENTS: u8 = 2;
/// The time between two announcements of an address (RFC 5227, 1.1: `ANNOUNCE_INTERVAL` is 2 s).
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a conflict about one address is told, and the director's own address defended (RFC 5227, 1.1:
/// `DEFEND_INTERVAL`).
pub const CONFLICT_INTERVAL: Duration = Duration::from_secs(10);
/// Conflicts told a second, whatever their addresses; further ones are told when they are heard again.
pub const CONFLICTS_PER_SECOND_MAX: u32 = 5;
/// Other directors that are known to share VIPs; when there are more all are learned anew.
pub const PARTNERS_MAX: usize = 1024;
/// Conflicts told at once.
pub const CONFLICTS_BURST_MAX: u32 = 20;
/// How often links are asked for the director's addresses and VIPs, and those of real servers for VIPs that these are checked at.
pub const LEAK_INTERVAL: Duration = Duration::from_secs(5);
/// How many of these questions are asked in a second; with more addresses each comes more seldom.
pub const LEAKS_ASKED_PER_SECOND: u32 = 100;
/// But no more seldom than this, so that a conflict that goes on is not taken for over ([`CONFLICT_OVER`]).
pub const LEAK_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// How long a conflict must not have been heard to be over.
pub const CONFLICT_OVER: Duration = Duration::from_secs(60);
/// How long workers may take to pick up a neighbour. A packet that still comes back as unresolved afterwards is
/// dropped, so that it cannot circle.
pub const PUBLICATION_MAX: Duration = Duration::from_secs(5);
