//! Defence against floods, where the operator asks for it (kernel: `update_defense_level`, `ip_vs_random_dropentry`,
//! `ip_vs_todrop`). What the kernel reckons in free memory is here what is free of the connection table.

use super::{Connections, Forwarder, Tables, commit};
use crate::address::Address;
use crate::connections::{Entry, Table, TcpState};
use crate::flow::Flow;
use crate::snapshot::{Snapshot, Sysctls};
use crate::time::{TICKS_PER_SECOND, Tick};

/// With less than this part of the table free it is nearly full.
const NEARLY_FULL: usize = 16;
/// The part of the table that is looked at in a second for connections to be ended.
const PART: usize = 32;
/// The value of `drop_entry` and `drop_packet` that does not ask how full the table is.
const ALWAYS: u8 = 3;

/// What is free of a table, and what of it should be.
fn free<A: Address>(table: &Table<A>) -> (usize, usize) {
    (table.capacity() - table.len(), table.capacity() / NEARLY_FULL)
}

/// One of so many packets is dropped; 0 for none (kernel: `drop_rate`).
fn drop_rate<A: Address>(sysctls: &Sysctls, table: &Table<A>) -> u64 {
    if sysctls.drop_packet == ALWAYS {
        return sysctls.am_droprate.into();
    }
    let (free, wanted) = free(table);
    if free < wanted { (wanted / (wanted - free)) as u64 } else { 0 }
}

impl Forwarder {
    /// True for a packet that would make a connection and is dropped instead. Each tick draws anew, so that a client that
    /// tries again gets in.
    #[cold]
    pub(super) fn is_dropped<A: Tables>(&self, snapshot: &Snapshot, flow: &Flow<A>, now: Tick) -> bool {
        let table = A::table(&self.connections);
        let rate = drop_rate(&snapshot.sysctls, table);
        if rate == 0 {
            return false;
        }
        let drawn = (table.hash(flow) ^ u64::from(now.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        drawn % rate == 0
    }

    /// Ends half-open connections before their time, once a second.
    #[cold]
    pub(super) fn defend(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.defended.elapsed(now).0 < TICKS_PER_SECOND {
            return;
        }
        self.defended = now;
        let always = snapshot.sysctls.drop_entry == ALWAYS;
        let Self {
            worker, connections: Connections { v4, v6 }, counters, defended_to: (to_v4, to_v6), ..
        } = self;
        half_open(v4, to_v4, always, now, |entry| commit::expired(snapshot, *worker, counters, entry));
        half_open(v6, to_v6, always, now, |entry| commit::expired(snapshot, *worker, counters, entry));
    }
}

fn half_open<A: Address>(
    table: &mut Table<A>,
    place: &mut u32,
    always: bool,
    now: Tick,
    ended: impl FnMut(&Entry<A>),
) {
    let (free, wanted) = free(table);
    if always || free < wanted {
        let over = |entry: &Entry<A>| {
            entry.is_expired(now) || matches!(entry.state(), TcpState::SynRecv | TcpState::SynAck)
        };
        table.sweep_from(place, now, table.pass().div_ceil(PART), over, ended);
    }
}
