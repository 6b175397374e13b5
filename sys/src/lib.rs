//! DPDK for Rust.
