//! End-to-end tests of shunt.

pub mod coverage;
pub mod director;
pub mod fuzz;
pub mod instructions;
pub mod invariants;
pub mod keepalived;
pub mod kernel;
pub mod network;
pub mod oracle;
pub mod packets;
pub mod random;
pub mod shared_writes;
pub mod soak;
pub mod text;
pub mod topology;
pub mod traffic;
