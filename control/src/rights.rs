//! What the director may still do once it runs, and what threads may do that read what strangers send.

use std::io;

use dpdk_sys::capability::{Capability, keep_everywhere, keep_here, needed};
use dpdk_sys::seccomp;
use shunt_config::Config;

/// What the running director needs whatever its NICs are: packet sockets and TAPs, settings of the kernel side, and of threads, and packet
/// memory that stays where it is.
pub const KEPT: [Capability; 4] =
    [Capability::NetAdmin, Capability::NetRaw, Capability::IpcLock, Capability::SysNice];

/// Gives up what the running director does not need, in all of its threads, for good; the starter of scripts is another process.
///
/// # Errors
/// The system's, and when a thread does not give it up.
pub fn give_up(config: &Config) -> io::Result<()> {
    let queues = config.runtime.workers.len() as u16;
    let of_nics = config.nics.iter().enumerate();
    let of_nics = of_nics.flat_map(|(number, nic)| needed(&nic.device.devargs(number, queues)));
    let kept: Vec<_> = KEPT.iter().chain(of_nics).copied().collect();
    keep_everywhere(&kept)
}

/// Gives up everything in the calling thread and in those that it starts: for those that have their sockets by ordinary rights, and read what
/// strangers send. They cannot start programs, either, nor enter what is not theirs.
pub fn give_up_all() {
    // Neither fails for want of a right; where the kernel has no filters there is none.
    if let Err(error) = keep_here(&[]) {
        tracing::warn!("capabilities of a thread: {error}");
    }
    if let Err(error) = seccomp::deny_takeover() {
        tracing::debug!("no filter of system calls: {error}");
    }
}
