//! End-to-end tests of shunt.

pub mod director;
pub mod oracle;
pub mod text;
