//! What a fuzzer feeds: each target takes any bytes, and panics when something does not hold.
//!
//! `scripts/fuzz.sh` looks for such bytes with libFuzzer; what it has found that led somewhere new is kept in
//! `tests/fuzz/corpus/`, one input to a line in hexadecimal digits, and played and changed in every run of the tests.

pub mod api;
pub mod bytes;
pub mod change;
pub mod config;
pub mod forward;
pub mod frames;
pub mod ipvsadm;
pub mod wire;

use std::path::{Path, PathBuf};

use crate::text;

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Takes an input; panics when something does not hold.
    pub run: fn(&[u8]),
    /// Bytes of the longest input that is worth trying.
    pub longest: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", run: wire::run, longest: 400 },
    Target { name: "forward", run: forward::run, longest: 800 },
    Target { name: "ipvsadm", run: ipvsadm::command_lines, longest: 400 },
    Target { name: "restore", run: ipvsadm::rules, longest: 800 },
    Target { name: "config", run: config::files, longest: 1200 },
    Target { name: "iptables", run: config::iptables, longest: 200 },
    Target { name: "api", run: api::run, longest: 600 },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The file with the saved inputs of a target.
#[must_use]
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(format!("{name}.hex"))
}

/// Reads inputs, one to a line in hexadecimal digits.
///
/// # Errors
/// The file cannot be read, or a line is something else.
pub fn read(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let lines = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let input = |(number, line): (usize, &str)| {
        let wrong = || format!("{}:{}: not pairs of hexadecimal digits", file.display(), number + 1);
        text::unhex(line).ok_or_else(wrong)
    };
    lines.lines().enumerate().map(input).collect()
}
