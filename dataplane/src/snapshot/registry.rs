//! Identifiers and counters that outlive a snapshot.

/// Gives out identifiers.
#[derive(Debug, Default)]
pub struct Registry {}
