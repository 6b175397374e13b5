//! What a process takes of the machine, and what its log says.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::Serialize;

use crate::topology::director::{Director, buffers};

/// What a director takes at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Vitals {
    /// Bytes of resident memory.
    pub memory: u64,
    /// Descriptors.
    pub descriptors: u64,
    /// Threads that end when nobody has asked the API for some seconds.
    pub api_threads: u64,
    /// All other threads, by their names.
    pub threads: BTreeMap<String, u64>,
    /// Processes that it started and that still run.
    pub children: u64,
    /// Packet buffers in use.
    pub buffers: u64,
}

/// Threads that answer the API and sockets of checks and clients come and go, those of this program's own questions among them.
const COME_AND_GO_MAX: u64 = 16;

/// The name of the threads that answer the API.
const API_THREAD: &str = "tokio-rt-worker";

/// How many threads of each name a process has.
fn threads(process: &str) -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("{process}/task")).into_iter().flatten().flatten() {
        // One that has just ended is not counted.
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        *threads.entry(name.trim().to_owned()).or_default() += 1;
    }
    threads
}

impl Vitals {
    /// Those of a director.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn of(director: &Director) -> Self {
        let process = format!("/proc/{}", director.pid());
        let status = fs::read_to_string(format!("{process}/status")).expect("the director's process");
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number =
                line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
            number.unwrap_or(0)
        };
        let count =
            |folder: &str| fs::read_dir(format!("{process}/{folder}")).map_or(0, Iterator::count) as u64;
        let tasks = fs::read_dir(format!("{process}/task")).into_iter().flatten().flatten();
        let children = tasks.map(|task| {
            let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace().count() as u64
        });
        let mut threads = threads(&process);
        Self {
            memory: of("VmRSS:") << 10,
            descriptors: count("fd"),
            api_threads: threads.remove(API_THREAD).unwrap_or(0),
            threads,
            children: children.sum(),
            buffers: buffers(&director.status()),
        }
    }

    fn rows(&self) -> [(&'static str, u64); 6] {
        [
            ("resident memory, KiB", self.memory >> 10),
            ("descriptors", self.descriptors),
            ("threads of the API", self.api_threads),
            ("other threads", self.threads.values().sum()),
            ("processes", self.children),
            ("packet buffers", self.buffers),
        ]
    }

    /// In a line.
    #[must_use]
    pub fn line(&self) -> String {
        self.rows().map(|(what, count)| format!("{what} {count}")).join(", ")
    }

    /// A table of two columns.
    #[must_use]
    pub fn beside(&self, after: &Self) -> String {
        let rows = self.rows().into_iter().zip(after.rows());
        let lines = rows.map(|((what, before), (_, after))| format!("  {what:<20} {before:>8} {after:>10}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What is worse than before; memory may grow by so many bytes.
    #[must_use]
    pub fn worse_than(&self, before: &Self, growth: u64) -> Vec<String> {
        let most = Self {
            memory: before.memory + growth,
            api_threads: before.api_threads + COME_AND_GO_MAX,
            descriptors: before.descriptors + COME_AND_GO_MAX,
            ..before.clone()
        };
        let rows = self.rows().into_iter().zip(most.rows());
        let grown = rows.filter(|((_, now), (_, most))| now > most);
        let grown = grown.map(|((what, now), (_, most))| format!("{what}: {now}, {most} at most"));
        let more = self.threads.iter().filter(|(name, now)| *now > before.threads.get(*name).unwrap_or(&0));
        grown.chain(more.map(|(name, now)| format!("threads of the name {name}: {now}"))).collect()
    }
}

/// Log lines by their level.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Levels {
    counts: BTreeMap<String, u32>,
    /// The lines of errors that no operation brings about.
    pub errors: Vec<String>,
}

/// What operations bring about on purpose: two MACs for one address, links that go, files that are cut off, and one real server that is taken out just
/// when the other one has failed.
const EXPECTED: [&str; 5] =
    ["answer for 10.1.0.", "the link is down", "reload refused", "quorum lost", "no real server is up"];

/// What the director says of a machine that has no time for it.
const OF_THE_MACHINE: [&str; 2] = ["it gets no CPU", "it waits in the system"];

impl Levels {
    /// Those of a log.
    #[must_use]
    pub fn of(log: &str) -> Self {
        let mut levels = Self::default();
        for line in log.lines() {
            let level =
                line.split_whitespace().find(|word| ["ERROR", "WARN", "INFO", "DEBUG"].contains(word));
            let Some(level) = level else { continue };
            *levels.counts.entry(level.to_owned()).or_default() += 1;
            let expected = || EXPECTED.iter().chain(&OF_THE_MACHINE).any(|words| line.contains(words));
            if level == "ERROR" && !expected() {
                levels.errors.push(line.to_owned());
            }
        }
        levels
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.counts.iter().map(|(level, count)| format!("{level} {count}")).collect();
        f.write_str(&words.join(", "))
    }
}
