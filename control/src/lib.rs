//! The control core of shunt: everything that is not a packet's way.
#![forbid(unsafe_code)]

pub mod api;
pub mod bench;
pub mod cli;
pub mod control_loop;
pub mod director;
pub mod health;
pub mod ipvsadm;
pub mod kernel;
pub mod links;
pub mod lock;
pub mod log;
pub mod machine;
pub mod notify;
pub mod publish;
pub mod punt;
pub mod rights;
pub mod signals;
pub mod starter;
pub mod threads;
pub mod tracking;
