//! The protocols of the control core as machines: VRRP, neighbours, what checks and counters mean, ipvsadm, the order of notifications.
//!
//! Each is given what happened and the time, and says what is to be done. No clock, no file, no socket, no thread and no runtime may ever
//! enter, and nothing of the configuration: a machine knows its settings alone.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// Tests take a moment to begin with from a clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod health;
pub mod ipvsadm;
pub mod neighbour;
pub mod notify;
pub mod vrrp;
