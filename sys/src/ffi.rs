//! The generated bindings: private, so that everything outside goes through the owned types.
#![allow(warnings, missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
