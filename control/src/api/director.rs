//! What the running director answers, whoever asks: the boundary between the runtime and its API.
//!
//! [`Director`] is implemented by the runtime and served by [`super::server`]; the answers are plain data.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use shunt_config::diff::Changes;
use shunt_config::problem::{Problem, Problems};
use shunt_model::fault::Fault;
use tokio::sync::mpsc;

use super::asked::Asked;
use super::connections::Connection;
use super::explain::{Explanation, Probe};
use super::ipvsadm::{Change, Changed, Table};
use super::neighbours::Neighbours;
use super::status::{Drops, Status};

/// An answer that takes its time.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Connections on their way from the workers to who asked; the director sends as they come and drops its end when
/// all were sent. When the other end is gone nobody wants the rest.
pub type Connections = mpsc::Receiver<Result<Connection, Refusal>>;

/// Events on their way to who listens; one that is too slow misses some and is told how many.
pub type Events = crate::notify::Listening;

/// From when on events are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Milliseconds since 1970; none: those from now on.
    pub since: Option<u64>,
    /// Whether what happens from now on follows; without it that is so where no `since` is given.
    pub follow: Option<bool>,
}

impl Since {
    /// Whether what happens from now on is told.
    #[must_use]
    pub fn follows(self) -> bool {
        self.follow.unwrap_or(self.since.is_none())
    }
}

/// How a reload is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadOptions {
    /// Takes a file that removes very much, too.
    #[serde(default)]
    pub yes: bool,
}

/// Connections that wait to be written to who asked.
pub const CONNECTIONS_QUEUE_MAX: usize = 1024;

/// The running director as its API sees it. `status`, `drops`, `neighbours` and `configuration` are called where they may wait a
/// little; all others on the control core's tokio runtime, and return at once: what has to wait is a future.
pub trait Director: Send + Sync + 'static {
    /// Everything about now.
    fn status(&self) -> Status;

    /// Why packets were dropped, handed up or answered, counted since the start.
    fn drops(&self) -> Drops;

    /// The neighbour table.
    fn neighbours(&self) -> Neighbours;

    /// The connections of all workers. `queue` of [`CONNECTIONS_QUEUE_MAX`] is a good length.
    fn connections(&self) -> Connections;

    /// Events from now on, and those since then (milliseconds since 1970); none when the director is stopping.
    fn events(&self, since: Option<u64>) -> Option<Events> {
        let _ = since;
        None
    }

    /// What would become of a packet; nothing is changed by asking.
    ///
    /// # Errors
    /// A NIC of another name, no answer from the worker.
    fn explain(&self, probe: Probe) -> Later<Result<Explanation, Refusal>>;

    /// The configuration that is running: the file's name and the text that was taken from it.
    fn configuration(&self) -> Running;

    /// Reads the configuration file anew, checks it, publishes it as one generation, and waits for every worker's
    /// acknowledgement.
    ///
    /// # Errors
    /// Every problem of the file, a change that needs a restart, a worker that does not acknowledge. Nothing was changed then.
    fn reload(&self, asked: Asked, options: ReloadOptions) -> Later<Result<Reloaded, Refusal>>;

    /// Services and real servers as `ipvsadm` shows them.
    ///
    /// # Errors
    /// A director that fails inside.
    fn ipvsadm(&self) -> Later<Result<Table, Refusal>>;

    /// Makes changes of `ipvsadm` in their order, as one generation, and waits for every worker's acknowledgement. Those
    /// that are refused change nothing; the file stays as it is, and a reload undoes what was changed.
    ///
    /// # Errors
    /// A worker that does not acknowledge, a director that is stopping.
    fn change_ipvsadm(&self, asked: Asked, changes: Vec<Change>) -> Later<Result<Changed, Refusal>>;

    /// Begins to stop. The API's socket goes away when everything else is done.
    fn stop(&self, asked: Asked);
}

/// The configuration that is running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The file as it was named.
    pub file: String,
    /// Its text when it was taken.
    pub text: String,
    /// The generation that it was published as first.
    pub generation: u64,
    /// What `ipvsadm` changed since, one line each: a reload undoes it.
    #[serde(default)]
    pub not_in_file: Vec<String>,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that every worker runs now.
    pub generation: u64,
    /// What changed; nothing was published when this is empty.
    #[serde(flatten)]
    pub changes: Changes,
    /// What is probably not meant, one line each.
    pub warnings: Vec<String>,
}

/// A request that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One line: where, what is wrong, what holds instead, what to do.
    pub error: String,
    /// Problems of a configuration file, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// The same problems in parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

impl Refusal {
    /// A refusal of one line.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }

    /// A reload that fails for a file that is not usable.
    #[must_use]
    pub fn unusable(problems: Problems) -> Self {
        Self {
            error: format!("{}: not usable: the director goes on as before: correct the file", problems.file),
            lines: problems.list.iter().map(|problem| problems.line(problem)).collect(),
            problems: problems.list,
        }
    }

    /// A reload that leaves too much away.
    #[must_use]
    pub fn removes_much(file: &str, fault: &Fault) -> Self {
        let Fault { wrong, holds, advice } = fault;
        Self::new(format!("{file}: {wrong}: {holds}: the director goes on as before: {advice}"))
    }

    /// A reload that fails for changes that need a restart.
    #[must_use]
    pub fn needs_restart(file: &str, changes: &Changes) -> Self {
        Self {
            error: format!(
                "{file}: changes what only a restart can change: the director goes on as before: restart it, or undo these"
            ),
            lines: changes.needing_restart().map(ToString::to_string).collect(),
            problems: Vec::new(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        f.write_str(&self.error)
    }
}

impl std::error::Error for Refusal {}
