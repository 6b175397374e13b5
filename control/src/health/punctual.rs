//! Whether the thread of the checks was there when it should have been.
//!
//! A timeout says that nothing came in time, or that nobody looked: a thread that was off its CPU for seconds finds timers that are over and
//! answers that were there all along. While checks run a tick comes every [`TICK`]; each gap between two of them that is longer is time in which
//! the thread did not run, or had so much to do that it did not look. Of a check whose timeout was gone for a good part in such gaps
//! nothing is known.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// From tick to tick while checks run.
pub const TICK: Duration = Duration::from_millis(20);
/// A tick may be so late without being called late.
const SLACK: Duration = Duration::from_millis(10);
/// Gaps that are remembered; the oldest gives way.
const GAPS_MAX: usize = 512;
/// A timeout of which more than one in so many parts was lost is no verdict.
pub const GOOD_PART: u32 = 4;

/// The gaps of a thread, without a clock.
#[derive(Debug, Default)]
struct Gaps {
    /// The last tick; none while nothing runs.
    last: Option<Instant>,
    gaps: VecDeque<(Instant, Instant)>,
}

impl Gaps {
    /// A tick.
    fn tick(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let due = last + TICK;
            if now > due + SLACK {
                if self.gaps.len() >= GAPS_MAX {
                    self.gaps.pop_front();
                }
                self.gaps.push_back((due, now));
            }
        }
    }

    /// How much of the time from `begin` to `end` was lost.
    fn lost(&self, begin: Instant, end: Instant) -> Duration {
        let lost = self.gaps.iter().rev().take_while(|(_, until)| *until > begin);
        lost.map(|&(from, until)| until.min(end).saturating_duration_since(from.max(begin))).sum()
    }
}

/// The gaps of the thread that makes checks.
#[derive(Debug, Default)]
pub struct Punctual {
    gaps: Mutex<Gaps>,
    running: AtomicUsize,
    begun: Notify,
    /// True when somebody ticks: without that nothing is known.
    kept: AtomicBool,
}

/// A check that runs.
#[derive(Debug)]
pub struct Running<'a> {
    of: &'a Punctual,
    begin: Instant,
}

impl Punctual {
    /// A check begins.
    pub fn begin(&self) -> Running<'_> {
        let begin = Instant::now();
        if self.running.fetch_add(1, Ordering::Relaxed) == 0 {
            self.gaps().last = Some(begin);
            self.begun.notify_one();
        }
        Running { of: self, begin }
    }

    /// Ticks while checks run, on their thread. It never ends.
    pub async fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
        loop {
            if self.running.load(Ordering::Relaxed) == 0 {
                self.begun.notified().await;
                continue;
            }
            tokio::time::sleep(TICK).await;
            self.gaps().tick(Instant::now());
        }
    }

    fn gaps(&self) -> MutexGuard<'_, Gaps> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    /// Whether a good part of the check's time until now was lost.
    #[must_use]
    pub fn was_late(&self) -> bool {
        if !self.of.kept.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        let mut gaps = self.of.gaps();
        // The check may be polled before the tick is.
        gaps.tick(now);
        gaps.lost(self.begin, now) * GOOD_PART > now.duration_since(self.begin)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.of.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.of.gaps().last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_missed_is_lost() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut gaps = Gaps::default();
        for ms in (0..=200).step_by(20) {
            gaps.tick(at(ms));
        }
        assert_eq!(gaps.lost(at(0), at(200)), Duration::ZERO, "it was punctual");
        // It does not run for 1.9 s.
        gaps.tick(at(2100));
        gaps.tick(at(2120));
        let lost = |begin, end| gaps.lost(at(begin), at(end)).as_millis();
        assert_eq!(lost(0, 3000), 1880);
        assert_eq!(lost(1100, 2100), 1000);
        assert_eq!(lost(1100, 1600), 500);
        assert_eq!(lost(2100, 3000), 0);
        assert_eq!(lost(0, 200), 0);
        // While nothing runs nobody ticks.
        gaps.last = None;
        gaps.tick(at(60_000));
        assert_eq!(gaps.lost(at(2200), at(60_000)), Duration::ZERO);
        for number in 0..2 * GAPS_MAX as u64 {
            gaps.tick(at(70_000 + 100 * number));
        }
        assert_eq!(gaps.gaps.len(), GAPS_MAX);
    }

    #[test]
    fn a_thread_that_is_held_up_knows_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let punctual = std::sync::Arc::new(Punctual::default());
            let keeper = punctual.clone();
            let keeper = tokio::spawn(async move { keeper.keep().await });
            tokio::task::yield_now().await;
            let running = punctual.begin();
            std::thread::sleep(Duration::from_millis(300));
            assert!(running.was_late());
            drop(running);
            keeper.abort();
        });
    }
}
