//! Going through a table a few entries at a time: expiry and listing.

use crate::address::Address;
use crate::time::{TICKS_PER_SECOND, Tick};

use super::entry::Entry;
use super::table::{ConnectionIndex, Table};

/// A turn sweeps at least this many entries when it is behind.
const TURN_ENTRIES: u32 = 256;
/// A turn sweeps at most this part (as a shift) of a large table: 10 M entries, some 10 µs.
const TURN_SHIFT: u32 = 12;

/// Where the sweep is, and how much it owes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hand {
    /// The next entry to look at.
    at: u32,
    /// Entries that should have been looked at by now and were not.
    owed: u32,
    /// When it was last reckoned what is owed.
    reckoned: Tick,
    /// When a full table was last swept for the sake of one more connection, and how often in that tick.
    resorted: Tick,
    resorts: u32,
}

/// So often in a tick a full table is swept for the sake of one more connection: a flood of new ones does not make each
/// of its packets sweep.
const RESORTS_PER_TICK: u32 = 64;

impl Hand {
    /// How often a full table may still be swept in this tick.
    pub(super) fn resorts_left(&self, now: Tick) -> u32 {
        if self.resorted == now { RESORTS_PER_TICK - self.resorts } else { RESORTS_PER_TICK }
    }

    /// Whether a full table may be swept now; counts that it was.
    pub(super) fn resort(&mut self, now: Tick) -> bool {
        let left = self.resorts_left(now);
        if left > 0 {
            (self.resorted, self.resorts) = (now, RESORTS_PER_TICK - left + 1);
        }
        left > 0
    }
}

impl<A: Address> Table<A> {
    /// Looks at the next `budget` entries and removes those that expired; `ended` sees each before it goes.
    pub fn sweep(&mut self, now: Tick, budget: usize, ended: impl FnMut(&Entry<A>)) {
        let mut at = self.hand.at;
        self.sweep_from(&mut at, now, budget, |entry| entry.is_expired(now), ended);
        self.hand.at = at;
    }

    /// Looks at `budget` entries on from `place` and removes those that are `over`; `ended` sees each before it goes.
    pub fn sweep_from(
        &mut self,
        place: &mut u32,
        now: Tick,
        budget: usize,
        over: impl Fn(&Entry<A>) -> bool,
        mut ended: impl FnMut(&Entry<A>),
    ) {
        for _ in 0..budget.min(self.high_water as usize) {
            if *place >= self.high_water {
                *place = 0;
            }
            let at = *place;
            *place += 1;
            let entry = &self.entries[at as usize];
            if entry.in_use() && over(entry) {
                ended(entry);
                let by_time = entry.is_expired(now);
                self.end(ConnectionIndex(at), now, by_time);
            }
        }
    }

    /// Entries that a whole pass has to look at.
    #[must_use]
    pub const fn pass(&self) -> usize {
        self.high_water as usize
    }

    /// What a worker calls each turn: sweeps as many entries as it takes to go round in about a second, bounded
    /// in any one turn. A worker that comes seldom takes longer to go round.
    #[inline]
    pub fn sweep_turn(&mut self, now: Tick, ended: impl FnMut(&Entry<A>)) {
        self.reckon(now);
        if self.hand.owed > 0 {
            let budget = self.hand.owed.min((self.high_water >> TURN_SHIFT).max(TURN_ENTRIES));
            self.hand.owed -= budget;
            self.sweep(now, budget as usize, ended);
        }
    }

    /// Adds what fell due since the last time: a share of all entries for each tick, never more than all.
    #[inline]
    fn reckon(&mut self, now: Tick) {
        let elapsed = self.hand.reckoned.elapsed(now).0;
        if elapsed == 0 {
            return;
        }
        self.hand.reckoned = now;
        let share = ((u64::from(self.high_water) * ENTRY_SHARE) >> 16) as u32 + 1;
        let owed = self.hand.owed.saturating_add(share.saturating_mul(elapsed));
        self.hand.owed = owed.min(self.high_water);
    }

    /// Calls `each` with the live connections among the next `budget` entries from `cursor` on, which starts at 0.
    /// False when the end was reached. Connections made or ended meanwhile may be missed or not.
    pub fn list(
        &self,
        cursor: &mut usize,
        budget: usize,
        now: Tick,
        mut each: impl FnMut(&Entry<A>),
    ) -> bool {
        let end = cursor.saturating_add(budget).min(self.high_water as usize);
        for entry in self.entries.get(*cursor..end).unwrap_or_default() {
            if entry.in_use() && !entry.is_expired(now) {
                each(entry);
            }
        }
        *cursor = end;
        end < self.high_water as usize
    }
}

/// The part of all entries that falls due in a tick, in 65536ths.
const ENTRY_SHARE: u64 = (65536 / TICKS_PER_SECOND + 1) as u64;
