//! The connections of a worker: one [`Table`] for each address family, with LVS's states and timeouts.
//!
//! An entry ([`entry`]) lives in one array for as long as its connection; an index of cache-line buckets (`slots`)
//! leads to it from the flow as clients send it and, for NAT, from the flow as the real server answers.
//! Expired entries are swept by a hand that goes round ([`sweep`]), so a packet only writes when its
//! connection ends.

mod beside;
pub mod entry;
mod holders;
mod reclaim;
mod record;
pub mod sctp_state;
mod slots;
pub mod sweep;
mod table;
pub mod tcp_state;
mod templates;

pub use beside::Beside;
pub use entry::{Direction, Entry};
pub use holders::CLIENT_BITS;
pub use reclaim::Rank;
pub use record::{Admitted, ConnectionRecord, Control, Exported, Marks, Record, State, TemplateRecord};
pub use sctp_state::SctpState;
pub use table::{Candidate, ConnectionIndex, Ending, Found, Full, Limits, NewConnection, Share, Table};
pub use tcp_state::{Activity, TcpState, Timeouts};
pub use templates::{NewTemplate, STALE_PORT, Template, TemplateIndex, TemplateKey, Templates};

#[cfg(test)]
mod tests;
