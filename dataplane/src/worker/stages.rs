//! What the loop costs while it runs: cycles in all and by stage, how full bursts are, how long turns take.
//!
//! A turn's length is the time between its start, which is read anyway, and the next one's. The stages inside are timed
//! in one busy turn of [`SAMPLE_PERIOD`], so that the clock is not read more often than the turn is worth.

use dpdk_sys::Cycles;

use crate::counters::Counter;

/// One busy turn of so many has its stages timed. A prime, so that it does not fall in step with the traffic.
pub const SAMPLE_PERIOD: u32 = 61;
/// Buckets for a turn's cycles: bucket n counts those from 2^n to below 2^(n+1), the last one all above.
pub const TURN_BUCKETS: usize = 32;
/// Buckets for a burst's packets: bucket n counts bursts of 2^n to below 2^(n+1) packets.
pub const FILL_BUCKETS: usize = 8;

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Fetching bursts from NICs.
    Receive,
    /// Deciding about them and rewriting them.
    Forward,
    /// The same for what other workers handed over.
    TakeOver,
    /// The same for what the control core handed down.
    Inject,
    /// Giving bursts to NICs and to other workers.
    Transmit,
    /// Looking for connections whose time has come.
    Expire,
    /// Answering the control core's questions.
    Answer,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// In the order of a turn.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Forward,
        Self::TakeOver,
        Self::Inject,
        Self::Transmit,
        Self::Expire,
        Self::Answer,
    ];

    /// The API's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Forward => "forward",
            Self::TakeOver => "take_over",
            Self::Inject => "inject",
            Self::Transmit => "transmit",
            Self::Expire => "expire",
            Self::Answer => "answer",
        }
    }
}

/// What a worker's turns cost since the start. Turns that moved no packet are left out. Written by the worker.
#[derive(Debug, Default)]
pub struct CostCounters {
    /// Cycles of the turns.
    pub busy_cycles: Counter,
    /// Packets that they moved: from NICs, other workers and the control core.
    pub packets: Counter,
    /// Turns by their cycles, see [`TURN_BUCKETS`].
    pub turns: [Counter; TURN_BUCKETS],
    /// Bursts that a NIC gave by their packets, see [`FILL_BUCKETS`]; those of none are left out.
    pub bursts: [Counter; FILL_BUCKETS],
    /// Packets of the turns whose stages were timed.
    pub sampled_packets: Counter,
    /// Their cycles by [`Stage`].
    pub sampled_cycles: [Counter; Stage::COUNT],
}

impl CostCounters {
    /// A NIC gave a burst of `packets`.
    #[inline]
    pub(super) fn burst(&self, packets: usize) {
        if let Some(place) = packets.checked_ilog2() {
            self.bursts[(place as usize).min(FILL_BUCKETS - 1)].add(1);
        }
    }

    fn turn(&self, packets: usize, cycles: u64) {
        self.busy_cycles.add(cycles);
        self.packets.add(packets as u64);
        let place = cycles.checked_ilog2().unwrap_or(0) as usize;
        self.turns[place.min(TURN_BUCKETS - 1)].add(1);
    }
}

/// Takes the times of one worker's turns.
#[derive(Debug)]
pub(super) struct Stopwatch {
    turn_began: Cycles,
    lap_began: Cycles,
    /// Packets of the turn before.
    packets: usize,
    /// Busy turns until one whose stages are timed; 0 in such a turn, and in idle ones before it.
    until_sample: u32,
    laps: [u64; Stage::COUNT],
}

impl Stopwatch {
    pub(super) const fn new() -> Self {
        Self {
            turn_began: Cycles(0),
            lap_began: Cycles(0),
            packets: 0,
            until_sample: 0,
            laps: [0; Stage::COUNT],
        }
    }

    /// A turn begins: the one before, if it was a busy one, is booked.
    #[inline]
    pub(super) fn begin(&mut self, now: Cycles, cost: &CostCounters) {
        if self.packets > 0 {
            cost.turn(self.packets, now.since(self.turn_began));
        }
        self.turn_began = now;
        if self.until_sample == 0 {
            self.lap_began = now;
            self.laps = [0; Stage::COUNT];
        }
    }

    /// What happened since the last call, or since the turn began, was this stage.
    #[inline]
    pub(super) fn lap(&mut self, stage: Stage) {
        if self.until_sample == 0 {
            let now = Cycles::now();
            self.laps[stage as usize] += now.since(self.lap_began);
            self.lap_began = now;
        }
    }

    /// The turn ends and has moved so many packets.
    #[inline]
    pub(super) fn end(&mut self, packets: usize, cost: &CostCounters) {
        self.packets = packets;
        if packets == 0 {
            return;
        }
        if self.until_sample > 0 {
            self.until_sample -= 1;
            return;
        }
        self.until_sample = SAMPLE_PERIOD - 1;
        cost.sampled_packets.add(packets as u64);
        for (counter, cycles) in cost.sampled_cycles.iter().zip(self.laps) {
            counter.add(cycles);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counters: &[Counter]) -> Vec<(usize, u64)> {
        counters.iter().map(Counter::get).enumerate().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_turn_is_booked_when_the_next_begins_and_only_when_it_was_busy() {
        let (mut stopwatch, cost) = (Stopwatch::new(), CostCounters::default());
        for (began, packets) in [(100, 0), (200, 3), (1300, 0), (9000, 1), (9001, 0), (9001, 0)] {
            stopwatch.begin(Cycles(began), &cost);
            stopwatch.end(packets, &cost);
        }
        assert_eq!((cost.busy_cycles.get(), cost.packets.get()), (1101, 4));
        assert_eq!(counts(&cost.turns), [(0, 1), (10, 1)]);
    }

    #[test]
    fn stages_are_timed_in_one_busy_turn_of_the_period() {
        let (mut stopwatch, cost) = (Stopwatch::new(), CostCounters::default());
        // Idle turns use up no sample.
        let work = (0..3 * SAMPLE_PERIOD).flat_map(|_| [0, 5, 0]);
        for packets in work {
            stopwatch.begin(Cycles::now(), &cost);
            stopwatch.lap(Stage::Receive);
            std::hint::black_box((0..1000).sum::<u32>());
            stopwatch.lap(Stage::Forward);
            stopwatch.end(packets, &cost);
        }
        assert_eq!(cost.sampled_packets.get(), 3 * 5);
        let cycles: Vec<_> = counts(&cost.sampled_cycles);
        assert!(cycles.iter().all(|(place, _)| *place <= Stage::Forward as usize), "{cycles:?}");
        assert!(cost.sampled_cycles[Stage::Forward as usize].get() > 0);
    }

    #[test]
    fn bursts_by_their_packets() {
        let cost = CostCounters::default();
        [0, 1, 2, 3, 63, 64, 1000].into_iter().for_each(|packets| cost.burst(packets));
        assert_eq!(counts(&cost.bursts), [(0, 1), (1, 2), (5, 1), (6, 1), (7, 1)]);
    }
}
