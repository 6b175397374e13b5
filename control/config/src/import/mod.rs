//! Set-ups that operators bring: keepalived.conf and others become this director's TOML.
//!
//! A dialect's reader turns its files into [`Imported`]: TOML, with the place that each line of it comes from, and notes
//! about what has no equal. `shunt import` prints it; `[import]` takes it as a part of the configuration, whose problems
//! are then told at the places of the imported file.

mod dialect;
pub mod dpvs;
pub mod files;
pub mod heartbeat;
pub mod interfaces;
pub mod keepalived;
pub mod ldirectord;
pub mod nginx;
mod note;
pub mod piranha;
pub mod rules;
mod shell;
mod summary;
mod vrrp;
mod writer;

pub use dialect::{Dialect, import_unknown};
pub use files::Files;
pub use interfaces::{Interfaces, host_name};
pub use note::{Fate, Kind, Note};
pub use summary::{Summary, without_addresses};
pub use writer::{Imported, Writer};
