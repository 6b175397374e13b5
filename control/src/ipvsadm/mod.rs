//! ipvsadm's own command line, messages and lists.
//!
//! [`arguments`] reads a command line ([`words`], [`options`], [`address`] and [`names`] help it), [`table`] is what it
//! speaks of, [`listing`] and [`connections`] print it, and [`session`] is a run of all that against a [`session::Target`]: the
//! running director behind its API, or one of a test. [`convert`] says what of the table this director can do.

pub mod connections;
pub mod convert;
mod help;
pub mod ledger;
pub mod listing;
pub mod names;
pub mod rate;
pub mod session;
mod sort;
