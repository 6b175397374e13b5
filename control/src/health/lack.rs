//! What the director itself lacks when it makes a check: nothing of that says anything about a real server.
//!
//! Every kind of check asks [`Lack::of`] about the errors of its own system calls, and [`super::punctual`] about its own lateness. A check
//! that lacked something has no verdict: it counts neither as a failure nor as a success, and [`Lacks`] tells it as the director's own.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::notify::{Condition, Notifier};

/// How long a lack has not to be met until it is said to be over.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// What the director lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lack {
    /// Descriptors of the process (EMFILE).
    Descriptors,
    /// Descriptors of the system (ENFILE).
    SystemDescriptors,
    /// Memory for sockets and packets (ENOBUFS, ENOMEM).
    Memory,
    /// An address or port of its own (EADDRNOTAVAIL, EADDRINUSE).
    Ports,
    /// A right (EPERM, or EACCES when a socket is made).
    Rights,
    /// Processes and threads (EAGAIN).
    Processes,
    /// Time: its thread did not run for a good part of the check's timeout.
    Time,
    /// A place among those that read files: others hang.
    Places,
    /// The check failed inside the director, by a panic.
    Inside,
    /// The director is stopping.
    Stopping,
}

impl Lack {
    /// What an error of a system call of the director's own says; none when it speaks of the other end.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        Self::of_errno(Errno::from_raw(error.raw_os_error()?))
    }

    /// As [`Self::of`].
    #[must_use]
    pub const fn of_errno(error: Errno) -> Option<Self> {
        Some(match error {
            Errno::EMFILE => Self::Descriptors,
            Errno::ENFILE => Self::SystemDescriptors,
            Errno::ENOBUFS | Errno::ENOMEM => Self::Memory,
            Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => Self::Ports,
            Errno::EPERM => Self::Rights,
            _ => return None,
        })
    }

    /// What an error says when a socket or its name was asked for, before anything was sent: the other end has no part in it. (Later EACCES
    /// is what an IPv6 host answers that prohibits the connection, RFC 4443, 3.1.)
    #[must_use]
    pub fn of_making(error: &io::Error) -> Option<Self> {
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::EACCES => Some(Self::Rights),
            Errno::EAGAIN => Some(Self::Ports),
            other => Self::of_errno(other),
        }
    }

    /// What an error says when a process or thread was asked for.
    #[must_use]
    pub fn of_forking(error: &io::Error) -> Option<Self> {
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::EAGAIN => Some(Self::Processes),
            // Of the program or the user: the operator's.
            Errno::EPERM | Errno::EACCES | Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => None,
            other => Self::of_errno(other),
        }
    }

    /// What an error says when a file was opened or read.
    #[must_use]
    pub fn of_reading(error: &io::Error) -> Option<Self> {
        Self::of_forking(error).filter(|lack| *lack != Self::Processes)
    }

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::SystemDescriptors => "descriptors of the system",
            Self::Memory => "memory",
            Self::Ports => "ports",
            Self::Rights => "rights",
            Self::Processes => "processes",
            Self::Time => "CPU time",
            Self::Places => "places to read files",
            Self::Inside => "a check that fails inside",
            Self::Stopping => "stopping",
        }
    }

    /// What to do.
    const fn advice(self) -> &'static str {
        match self {
            Self::Descriptors => "raise the limit of open files (LimitNOFILE of the unit, ulimit -n)",
            Self::SystemDescriptors => "raise fs.file-max",
            Self::Memory => "free memory, or raise the limits of sockets and neighbours of the system",
            Self::Ports => {
                "the director's own address has to be there and a port free: check addresses of the NIC, and bind_port of checks"
            }
            Self::Rights => {
                "let it run as root or with CAP_NET_RAW and CAP_NET_ADMIN, and see that no rule drops what it sends"
            }
            Self::Processes => "raise the limit of processes and threads (TasksMax of the unit, ulimit -u)",
            Self::Time => "give it CPU: a control_core of its own, or less load on this machine",
            Self::Places => "find the file system that hangs",
            Self::Inside => "look for a panic in the log and report it",
            Self::Stopping => "wait",
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "the director has no descriptor left (EMFILE)",
            Self::SystemDescriptors => "the system has no descriptor left (ENFILE)",
            Self::Memory => "the system has no memory left for it (ENOBUFS, ENOMEM)",
            Self::Ports => "the director has no address or port left for it (EADDRNOTAVAIL, EADDRINUSE)",
            Self::Rights => "the director may not do it (EPERM)",
            Self::Processes => "the director can start no process or thread (EAGAIN)",
            Self::Time => "the director's own thread did not run for a good part of the timeout",
            Self::Places => "all places to read files are taken by checks whose file system hangs",
            Self::Inside => "it failed inside the director",
            Self::Stopping => "the director is stopping",
        })
    }
}

/// What was lacking, and what is.
#[derive(Debug, Default)]
pub struct Lacks {
    met: Mutex<HashMap<Lack, Met>>,
    notifier: Option<Notifier>,
}

#[derive(Clone, Copy, Debug)]
struct Met {
    count: u64,
    last: Instant,
    holds: bool,
}

impl Lacks {
    /// Tells this one; none tells nobody.
    #[must_use]
    pub fn new(notifier: Option<Notifier>) -> Self {
        Self { met: Mutex::default(), notifier }
    }

    /// A check lacked something.
    pub fn note(&self, now: Instant, lack: Lack) {
        if lack == Lack::Stopping {
            return;
        }
        let count = {
            let mut met = self.met();
            let met = met.entry(lack).or_insert(Met { count: 0, last: now, holds: false });
            *met = Met { count: met.count + 1, last: now, holds: true };
            met.count
        };
        if let Some(notifier) = &self.notifier {
            let text = format!(
                "checks: {lack}: such checks say nothing about real servers ({count} since the start): {}",
                lack.advice()
            );
            notifier.begin(Condition::Lack, lack.word(), text);
        }
    }

    /// Tells what is over. To be called about once a second.
    pub fn settle(&self, now: Instant) {
        let mut over = Vec::new();
        for (lack, met) in self.met().iter_mut() {
            if met.holds && now.duration_since(met.last) >= OVER_AFTER {
                met.holds = false;
                over.push((*lack, met.count));
            }
        }
        for (lack, count) in over {
            if let Some(notifier) = &self.notifier {
                let text = format!("checks: no more: {lack} ({count} checks since the start)");
                notifier.end(Condition::Lack, lack.word(), text);
            }
        }
    }

    /// How many checks lacked something since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.met().values().map(|met| met.count).sum()
    }

    fn met(&self) -> MutexGuard<'_, HashMap<Lack, Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_director_are_told_from_those_of_others() {
        let of = |errno: Errno| Lack::of(&io::Error::from(errno));
        for (errno, lack) in [
            (Errno::EMFILE, Some(Lack::Descriptors)),
            (Errno::ENFILE, Some(Lack::SystemDescriptors)),
            (Errno::ENOBUFS, Some(Lack::Memory)),
            (Errno::ENOMEM, Some(Lack::Memory)),
            (Errno::EADDRNOTAVAIL, Some(Lack::Ports)),
            (Errno::EADDRINUSE, Some(Lack::Ports)),
            (Errno::EPERM, Some(Lack::Rights)),
            (Errno::ECONNREFUSED, None),
            (Errno::ECONNRESET, None),
            (Errno::EHOSTUNREACH, None),
            (Errno::ENETUNREACH, None),
            (Errno::ETIMEDOUT, None),
            // What an IPv6 host that prohibits it makes of connect().
            (Errno::EACCES, None),
        ] {
            assert_eq!(of(errno), lack, "{errno}");
        }
        assert_eq!(Lack::of_making(&Errno::EACCES.into()), Some(Lack::Rights));
        assert_eq!(Lack::of_forking(&Errno::EAGAIN.into()), Some(Lack::Processes));
        assert_eq!(Lack::of_forking(&Errno::EACCES.into()), None);
        assert_eq!(Lack::of(&io::Error::other("without a number")), None);
    }
}
