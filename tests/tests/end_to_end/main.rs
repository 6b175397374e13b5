//! The binary `shunt` with real interfaces in network namespaces: what an operator and everybody around the director see.

mod answers;
mod bad_input;
mod checkers;
mod conflicts;
mod cost;
mod devices;
mod forwarding;
mod fragments;
mod health;
mod idle;
mod imported;
mod ipvsadm;
mod limits;
mod localnode;
mod masquerade;
mod neighbours;
mod offloads;
mod operator;
mod oracle;
mod passive;
mod reload;
mod routing;
mod service_way;
mod start_and_stop;
mod two_workers;
mod vrrp;
