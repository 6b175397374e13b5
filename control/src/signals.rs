//! The director's signals. They are handled from the first moment of `shunt run`: none ends a director without its farewell.
//!
//! Each is counted where it arrives. Main obeys those that mean something ([`crate::director::run`]); the watcher tells of the others, and sees to
//! it that an end that was asked for comes about, whatever hangs ([`crate::threads::watcher`]).

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::Signal;

/// Those that end the director. A limit of CPU time that is used up (SIGXCPU) comes before SIGKILL.
const END: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGXCPU];
/// Those that do nothing; the system would end the process for each.
const IGNORED: [Signal; 9] = [
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGXFSZ,
];

/// How often each signal came.
#[derive(Debug)]
pub struct Signals {
    end: Vec<(Signal, Arc<AtomicU32>)>,
    hangup: Arc<AtomicU32>,
    ignored: Vec<(String, Arc<AtomicU32>)>,
}

static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// Handles all signals of the director from now on.
///
/// # Errors
/// The system's.
pub fn handle() -> io::Result<()> {
    let count = |signal: Signal| dpdk_sys::signal::count(signal as i32);
    let end = END.iter().map(|signal| Ok((*signal, count(*signal)?))).collect::<io::Result<_>>()?;
    let hangup = count(Signal::SIGHUP)?;
    let mut ignored = Vec::new();
    for signal in IGNORED {
        ignored.push((signal.to_string(), count(signal)?));
    }
    for signal in dpdk_sys::signal::real_time() {
        ignored.push((format!("signal {signal}"), dpdk_sys::signal::count(signal)?));
    }
    let _ = SIGNALS.set(Signals { end, hangup, ignored });
    Ok(())
}

/// The signal that asked for the end, when one did.
#[must_use]
pub fn end_asked() -> Option<Signal> {
    let signals = SIGNALS.get()?;
    let came = |(_, counter): &&(Signal, Arc<AtomicU32>)| counter.load(Ordering::Relaxed) > 0;
    signals.end.iter().find(came).map(|(signal, _)| *signal)
}

/// Whether SIGHUP came since this was asked last.
#[must_use]
pub fn hangup_came() -> bool {
    SIGNALS.get().is_some_and(|signals| signals.hangup.swap(0, Ordering::Relaxed) > 0)
}

/// Tells of signals that came since the last time and do nothing, one line for each.
pub(crate) fn tell_ignored() {
    for (name, counter) in SIGNALS.get().into_iter().flat_map(|signals| &signals.ignored) {
        let count = counter.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::warn!(
                "{name}: it came {count} times and does nothing: SIGHUP reloads, SIGTERM stops; what keepalived writes to a file for SIGUSR1 and \
                 SIGUSR2 `shunt status` and `shunt drops` show"
            );
        }
    }
}
