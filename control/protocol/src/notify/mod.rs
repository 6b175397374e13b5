//! Notifications: [`digest`] says when a mail is due, [`order`] which script may run, [`past`] what happened.

pub mod digest;
pub mod order;
pub mod past;

/// Events that are remembered for who asks what happened (`shunt events --since`); the oldest gives way.
pub const PAST_MAX: usize = 8192;
