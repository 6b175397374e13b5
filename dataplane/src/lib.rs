//! What a shunt worker does with a packet.
//!
//! Bytes with room around them go in ([`packet`]), a verdict comes out ([`forward`]); what the
//! director knows of the world is one immutable [`snapshot`]. Nothing here does I/O or reads a clock,
//! so unit tests, the oracle, fuzzing and `shunt explain` run what the workers run. The one exception
//! is `worker`, the loop around it all, which is also the only file that knows DPDK.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod connections;
pub mod counters;
pub mod flow;
pub mod forward;
pub mod forwarding;
pub mod id;
pub mod packet;
pub mod processor;
pub mod reason;
pub mod reassembly;
pub mod reply;
pub mod reverse_path;
pub mod rewrite;
pub mod route;
pub mod service;
pub mod snapshot;
pub mod time;
pub mod wire;
pub mod worker;
