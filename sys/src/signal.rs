//! Signals, counted where they arrive: whatever else hangs, that they came is known.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts a signal from now on instead of what the system would do about it. Others that handle the same signal (tokio's streams) still
/// hear of it.
///
/// # Errors
///
/// The system's, for a number that is no signal or that nobody may handle.
pub fn count(signal: i32) -> io::Result<Arc<AtomicU32>> {
    if signal_hook_registry::FORBIDDEN.contains(&signal) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let counter = Arc::new(AtomicU32::new(0));
    let counted = counter.clone();
    // SAFETY: signal-hook-registry: an action must be async-signal-safe. This one adds to an atomic number, takes no lock, allocates
    // nothing and cannot panic.
    unsafe {
        signal_hook_registry::register(signal, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })?;
    }
    Ok(counter)
}

/// The signals of real time (signal(7)), which end a process unless it handles them.
#[must_use]
pub fn real_time() -> std::ops::RangeInclusive<i32> {
    nix::libc::SIGRTMIN()..=nix::libc::SIGRTMAX()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_counted_instead_of_ending_the_process() {
        let counter = count(nix::libc::SIGUSR2).unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR2).unwrap();
        assert_eq!(counter.load(Ordering::Relaxed), 1);
        assert!(count(nix::libc::SIGKILL).is_err());
    }
}
