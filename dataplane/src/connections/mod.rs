//! The connection table of a worker.
pub mod tcp_state;
pub use tcp_state::Timeouts;
