//! What `ipvsadm` asks of a running director: the table, and changes of it.

use serde::{Deserialize, Serialize};

pub use shunt_model::ipvsadm::table::{Change, Refused, Table};

/// What became of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The generation that every worker runs now.
    pub generation: u64,
    /// For each change in their order why it was refused, or null.
    pub refused: Vec<Option<Refused>>,
}
