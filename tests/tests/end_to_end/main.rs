//! The binary `shunt` with real interfaces in network namespaces: what an operator and everybody around the director see.

mod forwarding;
mod neighbours;
mod reload;
mod start_and_stop;
mod two_workers;
