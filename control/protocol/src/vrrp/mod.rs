//! VRRP: which of several directors owns which VIPs (RFC 3768, version 2; RFC 9568, which took the place of RFC 5798, version 3).
//!
//! [`message`] reads and writes adverts, [`router`] is one virtual router, [`machine`] all of them with their groups; they do
//! no I/O and know no clock. The control loop feeds them what workers punt and carries out what they say.

mod announcements;
mod digest;
mod lateness;
pub mod machine;
pub mod message;
mod output;
mod refusal;
mod rival;
mod router;
mod trailer;

pub use lateness::Lateness;
pub use machine::Machine;
pub use output::{Cause, Counters, Due, Event, Listed, Output, PeerListed, Reason, Rival, SplitBrain, To};
pub use refusal::{Complaint, Refusal, Vips};

use std::time::Duration;

/// The priority by which a master says that it ends (RFC 9568, 5.2.4).
pub const PRIORITY_STOP: u8 = 0;
/// Other directors that one virtual router remembers; the one silent longest gives way.
pub const PEERS_MAX: usize = 16;
/// Announcements of addresses in one turn; further ones wait for [`ANNOUNCEMENT_PAUSE`].
pub const ANNOUNCEMENTS_PER_TURN_MAX: usize = 64;
/// The pause after which further announcements go out, so that thousands of VIPs do not fill a worker's ring.
pub const ANNOUNCEMENT_PAUSE: Duration = Duration::from_millis(1);
/// How long a backup that would take over lets workers hand up what lies in their queues before it looks again.
pub const LISTEN_PAUSE: Duration = Duration::from_millis(1);
/// How often the same complaint about the same director is told.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Complaints that a virtual router tells in [`COMPLAINT_INTERVAL`], whoever they are about; more are counted alone.
pub const COMPLAINTS_MAX: u32 = 16;
