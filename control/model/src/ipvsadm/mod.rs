//! ipvsadm's command line, and the table that it speaks of.
//!
//! [`arguments`] reads a command line ([`words`], [`options`], [`address`] and [`names`] help it), [`table`] is what it changes.

pub mod address;
pub mod arguments;
pub mod names;
pub mod options;
pub mod table;
pub mod words;
