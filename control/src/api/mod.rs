//! The JSON API of a running director: HTTP over a Unix socket that only its owner may open.
//!
//! [`director`] is the boundary to the runtime, the files beside it hold its answers, [`server`] turns requests into calls and
//! answers into JSON, [`socket`] is the place where it listens. `docs/api.md` describes every field.

pub mod asked;
mod clients;
pub mod connections;
pub mod director;
pub mod explain;
pub mod gather;
pub mod ipvsadm;
pub mod neighbours;
mod places;
pub mod server;
pub mod socket;
pub mod status;

pub use asked::Asked;
pub use clients::{CLIENTS_MAX, REQUEST_MAX, UNREAD_MAX};
pub use connections::{Connection, Filter};
pub use director::{
    CONNECTIONS_QUEUE_MAX, Connections, Director, Later, Refusal, ReloadOptions, Reloaded, Running,
};
pub use explain::{Explanation, Probe, ProbeStep};
pub use places::{CHANGES_MAX, LISTENERS_MAX, LISTINGS_MAX, QUESTIONS_MAX};
pub use server::serve;
pub use status::{Drops, Status};
