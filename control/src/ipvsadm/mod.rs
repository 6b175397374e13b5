//! ipvsadm's own command line, messages and lists.
//!
//! [`arguments`] reads a command line ([`words`], [`options`], [`address`] and [`names`] help it), [`table`] is what it
//! speaks of, [`listing`] and [`connections`] print it. All of it is pure: who asks a director is
//! [`crate::cli`], what a director makes of a change is [`crate::director`].

pub mod address;
pub mod arguments;
pub mod connections;
mod help;
pub mod listing;
pub mod names;
pub mod options;
pub mod session;
mod sort;
pub mod table;
pub mod words;
