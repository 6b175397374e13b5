//! The links of NICs: what the host's kernel says of the interfaces behind them, and what follows.
//!
//! [`interfaces`] keeps what the kernel tells, [`watch`] says what that means for each NIC and does no I/O, [`driver`] is the thread
//! that listens. What it leads to (VRRP, the snapshot, events, opening a NIC again) is carried out by `director/links.rs`.

pub mod driver;
pub mod interfaces;
pub mod watch;

pub use watch::{Claim, Event, NicLink, State, Watch, Watched};
