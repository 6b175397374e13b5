//! A soak: a real director under random operations and faults, from a seed, for as long as wanted.
//!
//! [`world`] is what goes around the director, [`operation`] what is done to it, [`vitals`] what is looked at: after every
//! operation the books balance, it answers within a bound, and every connection that is open goes on; at the end
//! memory, descriptors, threads and packet buffers are what they were.

pub mod operation;
pub mod vitals;
pub mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::random::numbers::Numbers;
use operation::Operation;
use vitals::{Levels, Vitals};
use world::World;

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the operations are drawn from.
    pub seed: u64,
    /// For how long.
    pub time: Duration,
    /// Operations that are left out, by their names in the report.
    pub without: Vec<String>,
}

/// The figures of a soak.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How long it took.
    pub seconds: u64,
    /// How often each operation was done.
    pub operations: BTreeMap<&'static str, u32>,
    /// Connections that were kept open, over the whole time.
    pub carried: u32,
    /// Blocks of data that came back over them.
    pub blocks: u64,
    /// Of these connections, those that broke, and by what.
    pub broken: Vec<String>,
    /// Requests of new clients, and those that failed.
    pub requests: u32,
    /// Failed requests: each with the operation after which it came.
    pub failed: Vec<String>,
    /// The longest time that `status` took to answer.
    pub slowest_status: Duration,
    /// At rest, after the first operations.
    pub before: Vitals,
    /// At rest, at the end.
    pub after: Vitals,
    /// Log lines by level.
    pub levels: Levels,
    /// What did not hold.
    pub faults: Vec<String>,
}

/// Operations that come before the first figures are taken: what is allocated once is then there.
const WARM_UP: u32 = 12;
/// How often the figures are told while it runs.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Bytes by which resident memory may be above what it was: floods reach pages of the tables that nothing reached before, and allocators keep
/// some of what they were given back. Four minutes and thirty end at the same.
const GROWTH_MAX: u64 = 48 << 20;
/// `status` is answered within this, on a busy machine, too.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Runs a soak; `progress` is told each operation.
///
/// # Panics
/// When the world cannot be built, or the director does not start or ends.
#[must_use]
pub fn run(settings: &Settings, mut progress: impl FnMut(&str)) -> Report {
    let mut numbers = Numbers::new(settings.seed);
    let begun = Instant::now();
    let mut soak = Soak::new(settings.seed, begun);
    let (mut warm, mut told) = (0, begun);
    while begun.elapsed() < settings.time || warm < WARM_UP {
        let operation = Operation::random(&mut numbers);
        if settings.without.iter().any(|word| word == operation.word()) {
            continue;
        }
        progress(&format!("{:>6.1} s  {}", begun.elapsed().as_secs_f32(), operation.word()));
        soak.carry_out(operation, &mut numbers);
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            progress(&format!(
                "{}, failed {}",
                Vitals::of(&soak.world.director).line(),
                soak.report.failed.len()
            ));
        }
        warm += 1;
        if warm == WARM_UP {
            soak.rest();
            soak.report.before = Vitals::of(&soak.world.director);
        }
    }
    soak.finish(begun)
}

/// A soak under way.
struct Soak {
    world: World,
    report: Report,
    begun: Instant,
}

impl Soak {
    fn new(seed: u64, begun: Instant) -> Self {
        let report = Report {
            seed,
            seconds: 0,
            operations: BTreeMap::new(),
            carried: 0,
            blocks: 0,
            broken: Vec::new(),
            requests: 0,
            failed: Vec::new(),
            slowest_status: Duration::ZERO,
            before: Vitals::default(),
            after: Vitals::default(),
            levels: Levels::default(),
            faults: Vec::new(),
        };
        Self { world: World::new(), report, begun }
    }

    fn carry_out(&mut self, operation: Operation, numbers: &mut Numbers) {
        let word = operation.word();
        *self.report.operations.entry(word).or_default() += 1;
        if let Err(fault) = operation.carry_out(&mut self.world, numbers) {
            self.report.faults.push(format!("{word}: {fault}"));
        }
        self.look(word);
    }

    /// What holds after every operation.
    fn look(&mut self, after: &str) {
        let asked = Instant::now();
        let status = self.world.director.status();
        let took = asked.elapsed();
        self.report.slowest_status = self.report.slowest_status.max(took);
        if took > ANSWER_MAX {
            self.report.faults.push(format!("{after}: status took {took:?}"));
        }
        if !status.books.balanced {
            self.report.faults.push(format!("{after}: books: {:?}", status.books));
        }
        let (asked, failed) = self.world.requests();
        self.report.requests += asked;
        let at = self.begun.elapsed().as_secs_f32();
        let told = |why: String| format!("{at:.1} s, {after}: {why}");
        self.report.failed.extend(failed.into_iter().map(told));
        self.report.broken.extend(self.world.broken().into_iter().map(told));
    }

    /// Nothing is open, nothing is on its way.
    fn rest(&mut self) {
        if let Err(why) = self.world.close_all() {
            self.report.broken.push(format!("at rest: {why}"));
        }
        self.world.mend();
        self.world.director.settled();
    }

    fn finish(mut self, begun: Instant) -> Report {
        self.rest();
        let Self { world, mut report, .. } = self;
        (report.carried, report.blocks) = (world.ended, world.blocks);
        report.after = Vitals::of(&world.director);
        report.levels = Levels::of(&world.director.log());
        report.seconds = begun.elapsed().as_secs();
        report.faults.extend(report.after.worse_than(&report.before, GROWTH_MAX));
        for line in &report.levels.errors {
            report.faults.push(format!("an error in the log: {line}"));
        }
        world.director.signal(nix::sys::signal::Signal::SIGTERM);
        let ended = world.director.ended();
        if ended.code() != Some(0) {
            report.faults.push(format!("its end: {ended}"));
        }
        report
    }
}

impl Report {
    /// True when everything held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.faults.is_empty() && self.broken.is_empty() && self.failed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done: u32 = self.operations.values().sum();
        writeln!(f, "seed {}: {done} operations in {} s", self.seed, self.seconds)?;
        for (word, count) in &self.operations {
            writeln!(f, "  {count:>5}  {word}")?;
        }
        writeln!(
            f,
            "connections kept open  {}, {} blocks, {} broken",
            self.carried,
            self.blocks,
            self.broken.len()
        )?;
        writeln!(f, "requests               {}, {} failed", self.requests, self.failed.len())?;
        writeln!(f, "slowest status         {:?}", self.slowest_status)?;
        writeln!(f, "at rest                BEFORE      AFTER\n{}", self.before.beside(&self.after))?;
        writeln!(f, "log lines              {}", self.levels)?;
        for (what, lines) in [("broken", &self.broken), ("failed", &self.failed), ("fault", &self.faults)] {
            for line in lines {
                writeln!(f, "{what}: {line}")?;
            }
        }
        write!(f, "{}", if self.passed() { "passed" } else { "FAILED" })
    }
}
