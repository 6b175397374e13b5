//! The words that several rooms of the control core speak: settings, what is wrong with them, checks, services and real servers, events.
//!
//! Plain values and what can be said of them. No I/O, no clock, no thread and no runtime may ever enter.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod duration;
pub mod fault;
pub mod health;
pub mod interface;
pub mod ipvsadm;
pub mod limit;
pub mod notify;
pub mod script;
pub mod secret;
pub mod vrrp;
