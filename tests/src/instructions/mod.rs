//! How many instructions the data path takes for a packet, by callgrind, against a baseline.
//!
//! Times depend on the machine and on what else it does; for one compiler the number of instructions hardly
//! depends on anything but the code. [`paths`] says what is counted, [`counted`] runs it, [`callgrind`] counts,
//! [`baseline`] compares.

pub mod baseline;
pub mod callgrind;
pub mod counted;
pub mod paths;

/// The compiler that made this program.
pub const COMPILER: &str = env!("COMPILED_BY");
