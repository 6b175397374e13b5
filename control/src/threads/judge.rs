//! Who is late, and who hangs: a machine without clock or thread.
//!
//! Silence is counted in the watcher's own turns, each for no more than [`TURN_MAX`]: when the watcher did not run either (a machine that was
//! suspended, a stopped process, a machine without a CPU to spare), nobody else is to blame.

use std::time::Duration;

use super::Duty;

/// How often threads are looked at.
pub const TURN: Duration = Duration::from_millis(100);
/// What one turn counts for at most.
pub const TURN_MAX: Duration = Duration::from_millis(200);
/// How long the director may at least go without a thread that moves packets or adverts; longer where the slowest virtual router's master
/// may be silent for longer.
pub const FORWARDS_MAX: Duration = Duration::from_secs(3);
/// The same when that thread wants to run and gets no CPU: another program has it, and a new start would not get it back.
pub const STARVED_MAX: Duration = Duration::from_secs(15);
/// How long it may go without one that decides.
pub const DECIDES_MAX: Duration = Duration::from_secs(30);

/// What a thread does while it is silent, as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is on a CPU.
    Runs,
    /// It could run and gets no CPU.
    Starves,
    /// Somebody stopped it: a debugger.
    Stopped,
    /// It waits in the system: for a disk, or a driver.
    System,
    /// It waits for something: a lock, or another thread.
    Waits,
    /// The system does not say.
    Unknown,
}

impl Doing {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Runs => "it runs and does not come back",
            Self::Starves => "it gets no CPU: something else has its CPU",
            Self::Stopped => "somebody stopped it: a debugger",
            Self::System => "it waits in the system: for a disk, or a driver",
            Self::Waits => "it waits for something that does not come",
            Self::Unknown => "the system does not say what it does",
        }
    }
}

/// How a thread stands now.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Which one: the same number for as long as it is there.
    pub id: i32,
    /// What it is there for.
    pub duty: Duty,
    /// How often it has gone on.
    pub beats: u64,
    /// It ended and was not meant to.
    pub dead: bool,
    /// What it does; only asked of those that are silent.
    pub doing: Doing,
}

/// What is to be said or done about a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is late.
    Late(i32, Duration, Doing),
    /// It goes on again, after so long.
    Again(i32, Duration),
    /// The director cannot go on without it.
    Hangs(i32, Duration, Doing),
    /// It ended.
    Dead(i32),
}

impl Duty {
    /// The silence after which a thread is late.
    #[must_use]
    pub const fn late(self) -> Duration {
        match self {
            Self::Forwards => Duration::from_secs(1),
            Self::Decides | Self::Tells => Duration::from_secs(3),
        }
    }

    /// The silence after which the director ends; never for those that only tell.
    fn longest(self, patience: Duration, doing: Doing) -> Option<Duration> {
        let least = if doing == Doing::Starves { STARVED_MAX } else { FORWARDS_MAX };
        match self {
            Self::Forwards => Some(patience.max(least)),
            Self::Decides => Some(DECIDES_MAX.max(patience)),
            Self::Tells => None,
        }
    }
}

#[derive(Debug)]
struct Known {
    id: i32,
    beats: u64,
    silent: Duration,
    late: bool,
}

/// What is known of all threads.
#[derive(Debug, Default)]
pub struct Judge {
    known: Vec<Known>,
}

impl Judge {
    /// Looks at all threads, so long after the last look; `patience` is how long a backup of the slowest virtual router waits.
    pub fn look(&mut self, elapsed: Duration, patience: Duration, threads: &[Reading]) -> Vec<Verdict> {
        let turn = elapsed.min(TURN_MAX);
        let mut verdicts = Vec::new();
        self.known.retain(|known| threads.iter().any(|thread| thread.id == known.id));
        for thread in threads {
            if thread.dead {
                verdicts.push(Verdict::Dead(thread.id));
                continue;
            }
            let Some(known) = self.known.iter_mut().find(|known| known.id == thread.id) else {
                let (silent, late) = (Duration::ZERO, false);
                self.known.push(Known { id: thread.id, beats: thread.beats, silent, late });
                continue;
            };
            if known.beats != thread.beats {
                if known.late {
                    verdicts.push(Verdict::Again(thread.id, known.silent));
                }
                (known.beats, known.silent, known.late) = (thread.beats, Duration::ZERO, false);
                continue;
            }
            known.silent += turn;
            let (silent, doing) = (known.silent, thread.doing);
            if !known.late && silent >= thread.duty.late() {
                known.late = true;
                verdicts.push(Verdict::Late(thread.id, silent, doing));
            }
            if thread.duty.longest(patience, doing).is_some_and(|longest| silent >= longest) {
                verdicts.push(Verdict::Hangs(thread.id, silent, doing));
            }
        }
        verdicts
    }

    /// How long a thread has been silent.
    #[must_use]
    pub fn silent(&self, id: i32) -> Duration {
        self.known.iter().find(|known| known.id == id).map_or(Duration::ZERO, |known| known.silent)
    }

    /// Whether it is late.
    #[must_use]
    pub fn is_late(&self, id: i32) -> bool {
        self.known.iter().any(|known| known.id == id && known.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: Reading =
        Reading { id: 7, duty: Duty::Forwards, beats: 0, dead: false, doing: Doing::Waits };

    /// Looks for so long, and tells when each verdict came.
    fn looked(judge: &mut Judge, thread: Reading, turns: u32) -> Vec<(u32, Verdict)> {
        (1..=turns)
            .flat_map(|turn| {
                let verdicts = judge.look(TURN, Duration::ZERO, &[thread]);
                verdicts.into_iter().map(move |verdict| (turn, verdict))
            })
            .collect()
    }

    #[test]
    fn a_silent_worker_is_late_after_a_second_and_hangs_after_three() {
        let mut judge = Judge::default();
        judge.look(TURN, Duration::ZERO, &[WORKER]);
        let verdicts = looked(&mut judge, WORKER, 30);
        let second = Duration::from_secs(1);
        let late = (10, Verdict::Late(7, second, Doing::Waits));
        assert_eq!(verdicts, [late, (30, Verdict::Hangs(7, 3 * second, Doing::Waits))]);
        let again = looked(&mut judge, Reading { beats: 1, ..WORKER }, 2);
        assert_eq!(again, [(1, Verdict::Again(7, 3 * second))]);
    }

    #[test]
    fn a_slow_virtual_router_and_a_starved_thread_have_more_time() {
        let mut judge = Judge::default();
        let slow = Duration::from_secs(10);
        for turn in 0..=100 {
            let hangs = judge.look(TURN, slow, &[WORKER]);
            assert_eq!(hangs.iter().any(|verdict| matches!(verdict, Verdict::Hangs(..))), turn == 100);
        }
        let mut judge = Judge::default();
        let starves = Reading { doing: Doing::Starves, ..WORKER };
        let hangs = looked(&mut judge, starves, 151);
        assert_eq!(hangs.last().map(|(turn, _)| *turn), Some(151));
        assert_eq!(hangs.len(), 2);
    }

    #[test]
    fn who_tells_is_told_of_and_nothing_else() {
        let mut judge = Judge::default();
        let log = Reading { duty: Duty::Tells, ..WORKER };
        assert_eq!(looked(&mut judge, log, 1000).len(), 1);
    }

    #[test]
    fn nobody_is_to_blame_while_the_watcher_did_not_run() {
        let mut judge = Judge::default();
        judge.look(TURN, Duration::ZERO, &[WORKER]);
        assert_eq!(judge.look(Duration::from_secs(3600), Duration::ZERO, &[WORKER]), []);
        assert_eq!(judge.silent(7), TURN_MAX);
    }

    #[test]
    fn who_ended_is_dead() {
        let mut judge = Judge::default();
        let dead = Reading { dead: true, ..WORKER };
        assert_eq!(judge.look(TURN, Duration::ZERO, &[dead]), [Verdict::Dead(7)]);
    }
}
