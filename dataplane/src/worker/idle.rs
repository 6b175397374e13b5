//! How a worker rests when nothing arrives.

use std::time::Duration;

/// What a worker does when it finds nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls always: a whole core, the lowest latency.
    Busy,
    /// After a while without work sleeps until a packet comes, where every NIC has a descriptor to wait for; elsewhere it
    /// naps, longer the longer it lasts.
    Adaptive,
}

/// Empty turns before the first nap: a pause shorter than this costs no latency.
const TURNS_BEFORE_NAP: u32 = 256;
/// The same where each turn asks the kernel, which takes as long as many turns that look into memory.
const TURNS_THAT_ASK: u32 = 16;
/// The first nap. The system adds its timer slack (50 µs as a rule) to each.
const NAP_MIN: Duration = Duration::from_micros(10);
/// The longest nap. A nap costs the processor some 4 to 16 µs, depending on what a timer costs on the machine; a packet
/// waits for a nap's end at most.
pub const NAP_MAX: Duration = Duration::from_micros(150);
/// The longest sleep where a descriptor tells of packets: how seldom the tables are looked at then.
pub const SLEEP_MAX: Duration = Duration::from_millis(4);

/// Decides when to sleep and for how long.
#[derive(Debug)]
pub struct Rest {
    idle: Idle,
    turns_before_nap: u32,
    empty_turns: u32,
    nap: Duration,
}

impl Rest {
    /// Rest of the given kind.
    #[must_use]
    pub const fn new(idle: Idle) -> Self {
        Self { idle, turns_before_nap: TURNS_BEFORE_NAP, empty_turns: 0, nap: NAP_MIN }
    }

    /// From now on a turn without work asks the kernel, or only looks into memory.
    pub const fn turns_ask(&mut self, ask: bool) {
        self.turns_before_nap = if ask { TURNS_THAT_ASK } else { TURNS_BEFORE_NAP };
    }

    /// How long to sleep after a turn that did `work` packets; none to go on at once.
    #[inline]
    pub fn after_turn(&mut self, work: usize) -> Option<Duration> {
        if work > 0 {
            self.empty_turns = 0;
            self.nap = NAP_MIN;
            return None;
        }
        if self.idle == Idle::Busy {
            return None;
        }
        self.empty_turns += 1;
        if self.empty_turns <= self.turns_before_nap {
            return None;
        }
        // Stays just above the threshold, so that the count never overflows.
        self.empty_turns = self.turns_before_nap;
        let nap = self.nap;
        self.nap = (nap * 2).min(NAP_MAX);
        Some(nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_grow_with_idleness_and_end_with_work() {
        let mut rest = Rest::new(Idle::Adaptive);
        for _ in 0..TURNS_BEFORE_NAP {
            assert_eq!(rest.after_turn(0), None);
        }
        let naps: Vec<_> = (0..6).filter_map(|_| rest.after_turn(0)).collect();
        assert_eq!(naps.first(), Some(&NAP_MIN));
        assert_eq!(naps.last(), Some(&NAP_MAX));
        assert!(naps.is_sorted());
        assert_eq!(rest.after_turn(1), None);
        assert_eq!(rest.after_turn(0), None);
    }

    #[test]
    fn turns_that_ask_the_kernel_are_fewer() {
        let mut rest = Rest::new(Idle::Adaptive);
        rest.turns_ask(true);
        let empty = (0..TURNS_BEFORE_NAP).take_while(|_| rest.after_turn(0).is_none()).count();
        assert_eq!(empty, TURNS_THAT_ASK as usize);
        rest.turns_ask(false);
        assert_eq!(rest.after_turn(0), None);
    }

    #[test]
    fn a_busy_worker_never_sleeps() {
        let mut rest = Rest::new(Idle::Busy);
        assert!((0..10 * TURNS_BEFORE_NAP).all(|_| rest.after_turn(0).is_none()));
    }
}
