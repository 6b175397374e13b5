//! Defence against floods, where the operator asks for it (kernel: `update_defense_level`, `ip_vs_random_dropentry`,
//! `ip_vs_todrop`). What the kernel reckons in free memory is here what is free of the connection table.

use super::{Aside, Connections, Forwarder, Tables, Verdict};
use crate::address::Address;
use crate::connections::{Ending, Entry, Table, TcpState};
use crate::reason::DropReason;
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
fn drop_rate<A: Address>(sysctls: &Sysctls, table: &Table<A>) -> u32 {
    match sysctls.drop_packet {
        0 => return 0,
        ALWAYS => return sysctls.am_droprate.into(),
        _ => {}
    }
    let (free, wanted) = free(table);
    if free < wanted { (wanted / (wanted - free)) as u32 } else { 0 }
}

impl Forwarder {
    /// True for a packet that would make a connection and is dropped instead: the last of so many. One that is sent again gets in.
    #[cold]
    pub(super) fn is_dropped<A: Tables>(&self, snapshot: &Snapshot) -> bool {
        let rate = drop_rate(&snapshot.sysctls, A::table(&self.connections));
        rate > 0 && self.until_dropped(snapshot, rate) <= 1
    }

    /// Counts a packet that would make a connection and was not dropped, whether or not a real server took it.
    #[inline]
    pub(super) fn count_spared<A: Tables>(&mut self, snapshot: &Snapshot) {
        if snapshot.sysctls.drop_packet > 0 {
            self.spare::<A>(snapshot);
        }
    }

    #[cold]
    fn spare<A: Tables>(&mut self, snapshot: &Snapshot) {
        let rate = drop_rate(&snapshot.sysctls, A::table(&self.connections));
        if rate > 0 {
            self.until_dropped = self.until_dropped(snapshot, rate).saturating_sub(1);
        }
    }

    /// The verdict about a packet that needs nothing to be written, but for this count.
    pub(super) fn stand_aside<A: Tables>(&mut self, snapshot: &Snapshot, aside: Aside) -> Verdict {
        match aside {
            Aside::Drop(DropReason::Defence) => self.count_dropped::<A>(snapshot),
            Aside::Drop(
                reason @ (DropReason::TableFull | DropReason::ClientShare | DropReason::ServiceShare),
            ) => return self.refused::<A>(reason),
            _ => {}
        }
        aside.into()
    }

    /// Counts a packet that was dropped.
    #[cold]
    pub(super) fn count_dropped<A: Tables>(&mut self, snapshot: &Snapshot) {
        self.until_dropped = drop_rate(&snapshot.sysctls, A::table(&self.connections));
    }

    /// The packets that there are until one is dropped, that included. A rate that is set anew holds from the next dropped one on; one
    /// that is reckoned holds at once (kernel: `update_defense_level`).
    fn until_dropped(&self, snapshot: &Snapshot, rate: u32) -> u32 {
        if snapshot.sysctls.drop_packet == ALWAYS { self.until_dropped } else { self.until_dropped.min(rate) }
    }

    /// Ends half-open connections before their time, once a second.
    #[cold]
    pub(super) fn defend(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.defended.elapsed(now).0 < TICKS_PER_SECOND {
            return;
        }
        self.defended = now;
        let always = snapshot.sysctls.drop_entry == ALWAYS;
        let (mut to_v4, mut to_v6) = self.defended_to;
        let (Connections { v4, v6 }, ends) = self.tables_and_ends(snapshot);
        half_open(v4, &mut to_v4, always, now, |entry| ends.connection(entry, Ending::Over));
        half_open(v6, &mut to_v6, always, now, |entry| ends.connection(entry, Ending::Over));
        self.defended_to = (to_v4, to_v6);
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
