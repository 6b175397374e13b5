//! The control core of shunt.
#![forbid(unsafe_code)]

pub mod kernel;
pub mod neighbour;
