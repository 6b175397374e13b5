//! ipvsadm's messages and lists.
//!
//! [`session`] is a run of a command line (`shunt_model::ipvsadm`) against a [`session::Target`]: the running director behind its API,
//! or one of a test. [`listing`] and [`connections`] print, [`ledger`] and [`rate`] keep what counters cannot tell.

pub mod connections;
mod help;
pub mod ledger;
pub mod listing;
pub mod rate;
pub mod session;
mod sort;
