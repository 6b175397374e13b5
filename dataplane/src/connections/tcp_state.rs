//! TCP states and timeouts as LVS has them.

use crate::time::Ticks;

/// How long a connection lives after its last packet, by state (kernel: `tcp_timeouts`, `udp_timeouts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By TCP state.
    pub tcp: [Ticks; 11],
    /// UDP.
    pub udp: Ticks,
}
impl Default for Timeouts {
    fn default() -> Self {
        Self { tcp: [Ticks::from_seconds(60); 11], udp: Ticks::from_seconds(300) }
    }
}
