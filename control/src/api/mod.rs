//! The JSON API of a running director: HTTP over a Unix socket that only its owner may open.
//!
//! [`director`] is the boundary to the runtime, the files beside it hold its answers, [`server`] turns requests into calls and
//! answers into JSON, [`socket`] is the place where it listens. `docs/api.md` describes every field.

pub mod asked;
pub mod connections;
pub mod director;
pub mod explain;
pub mod gather;
pub mod ipvsadm;
pub mod limited;
pub mod neighbours;
pub mod server;
pub mod socket;
pub mod status;

pub use asked::Asked;
pub use connections::{Connection, Filter};
pub use director::{
    CONNECTIONS_QUEUE_MAX, Connections, Director, Later, Refusal, ReloadOptions, Reloaded, Running,
};
pub use explain::{Explanation, Probe, ProbeStep};
pub use server::serve;
pub use status::{Drops, Status};
