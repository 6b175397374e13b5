//! What the director itself lacks when it makes a check: nothing of that says anything about a real server.
//!
//! Every kind of check asks [`of`] about the errors of its own system calls, and [`super::punctual`] about its own lateness. A check
//! that lacked something has no verdict: it counts neither as a failure nor as a success, and [`Lacks`] tells it as the director's own.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use shunt_model::health::Lack;

/// How long a lack has not to be met until it is said to be over.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// What an error of a system call of the director's own says; none when it speaks of the other end.
#[must_use]
pub fn of(error: &io::Error) -> Option<Lack> {
    of_errno(Errno::from_raw(error.raw_os_error()?))
}

/// As [`of`].
#[must_use]
pub const fn of_errno(error: Errno) -> Option<Lack> {
    Some(match error {
        Errno::EMFILE => Lack::Descriptors,
        Errno::ENFILE => Lack::SystemDescriptors,
        Errno::ENOBUFS | Errno::ENOMEM => Lack::Memory,
        Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => Lack::Ports,
        Errno::EPERM => Lack::Rights,
        _ => return None,
    })
}

/// What an error says when a socket or its name was asked for, before anything was sent: the other end has no part in it. (Later EACCES
/// is what an IPv6 host answers that prohibits the connection, RFC 4443, 3.1.)
#[must_use]
pub fn of_making(error: &io::Error) -> Option<Lack> {
    match Errno::from_raw(error.raw_os_error()?) {
        Errno::EACCES => Some(Lack::Rights),
        Errno::EAGAIN => Some(Lack::Ports),
        other => of_errno(other),
    }
}

/// What an error says when a process or thread was asked for.
#[must_use]
pub fn of_forking(error: &io::Error) -> Option<Lack> {
    match Errno::from_raw(error.raw_os_error()?) {
        Errno::EAGAIN => Some(Lack::Processes),
        // Of the program or the user: the operator's.
        Errno::EPERM | Errno::EACCES | Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => None,
        other => of_errno(other),
    }
}

/// What an error says when a file was opened or read.
#[must_use]
pub fn of_reading(error: &io::Error) -> Option<Lack> {
    of_forking(error).filter(|lack| *lack != Lack::Processes)
}

/// Who is told what the director lacks.
pub trait Teller: std::fmt::Debug + Send + Sync {
    /// It lacks something.
    fn begins(&self, lack: Lack, text: String);

    /// It has it again.
    fn ends(&self, lack: Lack, text: String);
}

/// What was lacking, and what is.
#[derive(Debug, Default)]
pub struct Lacks {
    met: Mutex<HashMap<Lack, Met>>,
    teller: Option<Box<dyn Teller>>,
}

#[derive(Clone, Copy, Debug)]
struct Met {
    count: u64,
    last: Instant,
    holds: bool,
}

impl Lacks {
    /// Tells this one; those by default tell nobody.
    #[must_use]
    pub fn new(teller: Box<dyn Teller>) -> Self {
        Self { met: Mutex::default(), teller: Some(teller) }
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
        if let Some(teller) = &self.teller {
            let text = format!(
                "checks: {lack}: such checks say nothing about real servers ({count} since the start): {}",
                lack.advice()
            );
            teller.begins(lack, text);
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
            if let Some(teller) = &self.teller {
                let text = format!("checks: no more: {lack} ({count} checks since the start)");
                teller.ends(lack, text);
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
        let of = |errno: Errno| super::of(&io::Error::from(errno));
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
        assert_eq!(of_making(&Errno::EACCES.into()), Some(Lack::Rights));
        assert_eq!(of_forking(&Errno::EAGAIN.into()), Some(Lack::Processes));
        assert_eq!(of_forking(&Errno::EACCES.into()), None);
        assert_eq!(super::of(&io::Error::other("without a number")), None);
    }
}
