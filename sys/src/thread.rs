//! Threads that DPDK knows: they get caches of their own in every mempool.

use std::error::Error;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use crate::eal::Eal;
use crate::errno::Errno;
use crate::ffi;

impl Eal {
    /// Makes the calling thread known to DPDK until the value is dropped. Without it everything works, but each
    /// mbuf goes to and from the pool's shared ring. Bind the thread to its CPU first, see [`bind`].
    ///
    /// # Errors
    ///
    /// On the thread that started the EAL, on one that is registered already, and when DPDK's 128 places are taken.
    pub fn register_thread(&self) -> Result<RegisteredThread, ThreadError> {
        // SAFETY: rte_lcore.h: rte_lcore_id reads a variable of the thread.
        if unsafe { ffi::shim_thread_is_registered() } {
            return Err(ThreadError::Registered);
        }
        // SAFETY: rte_lcore.h: rte_thread_register is for threads that are not EAL threads, after rte_eal_init.
        if unsafe { ffi::rte_thread_register() } != 0 {
            return Err(ThreadError::Refused(Errno::last()));
        }
        Ok(RegisteredThread { _eal: self.clone(), _thread: PhantomData })
    }
}

/// The calling thread is registered as long as this lives. It stays on its thread.
#[derive(Debug)]
pub struct RegisteredThread {
    _eal: Eal,
    _thread: PhantomData<*const ()>,
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: rte_lcore.h: rte_thread_unregister undoes rte_thread_register of the same thread; the value is not
        // Send, so this is that thread.
        unsafe { ffi::rte_thread_unregister() }
    }
}

/// Why a thread was not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadError {
    /// DPDK knows it already.
    Registered,
    /// DPDK refused.
    Refused(Errno),
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThreadError::Registered => f.write_str("DPDK knows this thread already"),
            ThreadError::Refused(error) => write!(f, "DPDK does not take this thread ({error})"),
        }
    }
}

impl Error for ThreadError {}

/// Binds the calling thread to one CPU.
///
/// # Errors
///
/// When the process may not use that CPU.
pub fn bind(cpu: usize) -> io::Result<()> {
    let refused = || io::Error::other(format!("CPU {cpu}: this process may not run there"));
    let cpu = u32::try_from(cpu).map_err(|_| refused())?;
    // SAFETY: rte_thread.h: rte_thread_set_affinity is for any thread; the shim checks that the number fits the set.
    if unsafe { ffi::shim_thread_set_affinity(cpu) } != 0 { Err(refused()) } else { Ok(()) }
}

/// Lets the kernel wake the calling thread at most this many nanoseconds late (50,000 is its own choice), so that a
/// short sleep is short. Threads made by this one inherit it.
///
/// # Errors
///
/// The system's.
pub fn set_timer_slack(nanoseconds: u32) -> io::Result<()> {
    // SAFETY: prctl(2): PR_SET_TIMERSLACK takes a number; 0 would mean the default and is raised to 1.
    let failed = unsafe { ffi::shim_thread_set_timer_slack(u64::from(nanoseconds.max(1))) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How long the calling thread has run on a CPU since it began: what `CLOCK_THREAD_CPUTIME_ID` says. Time that others
/// ran in its stead does not count.
pub fn cpu_time() -> Duration {
    // SAFETY: clock_gettime(2): the shim reads a clock of the calling thread.
    Duration::from_nanos(unsafe { ffi::shim_thread_cpu_nanoseconds() })
}

/// Puts the calling thread before all ordinary ones (`SCHED_RR` with this priority, 1 to 99; sched(7)). Threads that it starts are
/// ordinary ones.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_NICE` or an `RLIMIT_RTPRIO`, and where a cgroup has no real-time share.
pub fn real_time(priority: u8) -> io::Result<()> {
    use nix::libc;
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: sched_setscheduler(2) reads the structure; pid 0 is the calling thread.
    let done =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &parameters) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a larger share of its CPU than other ordinary threads have (nice(2): -20 to 19, the lowest takes
/// most; sched(7)).
///
/// # Errors
///
/// `EACCES` without `CAP_SYS_NICE` or an `RLIMIT_NICE`.
pub fn nice(value: i8) -> io::Result<()> {
    use nix::libc;
    // SAFETY: setpriority(2) takes numbers; on Linux PRIO_PROCESS and 0 mean the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value.into()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives all of this process's session a larger share than other sessions have (nice(2): -20 to 19, the lowest takes most), where the
/// kernel divides its CPUs among sessions first (autogroups, sched(7)): there [`nice`] counts within the session alone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_NICE`, `EAGAIN` when it is said too often, `ENOENT` where the kernel has no autogroups.
pub fn nice_session(value: i8) -> io::Result<()> {
    std::fs::write("/proc/self/autogroup", value.to_string())
}

/// Ends the process at once: nothing is waited for and nothing is run at its end, as `_exit(2)`. For one that hangs somewhere.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes a number and does not come back.
    unsafe { nix::libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        assert_eq!(bind(100_000).unwrap_err().to_string(), "CPU 100000: this process may not run there");
    }

    #[test]
    fn cpu_time_goes_on_while_the_thread_runs() {
        let start = cpu_time();
        while cpu_time() == start {}
        assert!(cpu_time() > start);
    }

    #[test]
    fn timer_slack_is_the_threads_own() {
        assert!(set_timer_slack(1_000).is_ok());
    }
}
