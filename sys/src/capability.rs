//! Which Linux capability a device needs and this process lacks, so that an error can say so; and giving up those that are not
//! needed.

use std::fmt;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::libc;

/// A capability of `capabilities(7)`, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Configure interfaces, create tap devices.
    NetAdmin = 12,
    /// Packet sockets.
    NetRaw = 13,
    /// Lock more memory than `ulimit -l` allows, as VFIO does for a NIC's DMA.
    IpcLock = 14,
    /// Real-time scheduling and a niceness below 0.
    SysNice = 23,
    /// Ask the kernel for the XDP program of an interface, and load one that compares pointers (`bpf(2)`).
    SysAdmin = 21,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
            Capability::IpcLock => "CAP_IPC_LOCK",
            Capability::SysNice => "CAP_SYS_NICE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
        })
    }
}

/// The capabilities that DPDK's driver of this device uses, whether this process has them or not.
pub fn needed(devargs: &str) -> &'static [Capability] {
    use Capability::{IpcLock, NetAdmin, NetRaw, SysAdmin};
    let driver = devargs.split(',').next().unwrap_or_default();
    let has = |prefix: &str| driver.starts_with(prefix);
    if has("net_af_packet") || has("eth_af_packet") {
        &[NetRaw, NetAdmin]
    } else if has("net_af_xdp") {
        &[NetRaw, NetAdmin, SysAdmin]
    } else if has("net_tap") || has("net_tun") {
        &[NetAdmin]
    } else if has("net_pcap") && devargs.contains("iface=") {
        &[NetRaw]
    } else if has("net_virtio_user") && devargs.contains("/dev/vhost-net") {
        &[NetAdmin]
    } else if driver.contains(':') {
        &[IpcLock]
    } else {
        &[]
    }
}

/// Those of [`needed`] that this process does not have; none when `/proc/self/status` cannot be read.
pub fn missing(devargs: &str) -> Vec<Capability> {
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => missing_from(effective(&status), devargs),
        Err(_) => Vec::new(),
    }
}

fn missing_from(effective: u64, devargs: &str) -> Vec<Capability> {
    let has = |capability: Capability| effective & (1 << (capability as u64)) != 0;
    needed(devargs).iter().copied().filter(|capability| !has(*capability)).collect()
}

/// The set in the line `CapEff:`; all of them when the line is not there.
fn effective(status: &str) -> u64 {
    set_in(status, "CapEff:")
}

fn set_in(status: &str, word: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(word));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64 capabilities, in two halves.
const VERSION: u32 = 0x2008_0522;

/// Sets the calling thread's effective, permitted and inheritable capabilities (capset(2)); async-signal-safe.
///
/// # Errors
///
/// `EPERM` for those that the thread is not permitted.
pub(crate) fn set_raw(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let header = [VERSION, 0];
    let halves = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let data = [halves(0), halves(32)];
    // SAFETY: capset(2) reads a header of two words, the second of which, 0, is the calling thread, and two times three words.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of the last capability that a set has room for.
const LAST: u64 = 63;

/// A set of these.
fn set_of(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |set, capability| set | 1 << (*capability as u64))
}

/// Gives up everything but these in the calling thread alone, and in those that it starts, for good: effective, permitted, inheritable,
/// ambient and bounding set; no program that it would start gets more than it has (`no_new_privs`).
///
/// # Errors
///
/// The system's, of capset(2).
pub fn keep_here(kept: &[Capability]) -> io::Result<()> {
    reduce(set_of(kept))
}

/// Async-signal-safe.
fn reduce(kept: u64) -> io::Result<()> {
    // SAFETY: prctl(2) takes numbers. What the thread may not drop (without CAP_SETPCAP) it could not get either: see no_new_privs.
    unsafe {
        for number in 0..=LAST {
            if kept & 1 << number == 0 {
                libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
            }
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    let kept = kept & permitted_raw()?;
    set_raw(kept, kept, 0)
}

/// What the calling thread is permitted (capget(2)); async-signal-safe.
fn permitted_raw() -> io::Result<u64> {
    let header = [VERSION, 0];
    let mut data = [[0_u32; 3]; 2];
    // SAFETY: capget(2) reads a header of two words and writes two times three.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    if done == 0 {
        Ok(u64::from(data[1][1]) << 32 | u64::from(data[0][1]))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What [`keep_everywhere`] keeps, for the handler.
static KEPT: AtomicU64 = AtomicU64::new(0);
/// How long all threads may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often they are looked at.
const PERIOD: Duration = Duration::from_millis(1);

/// The same in every thread of the process. Capabilities belong to threads, and those of libraries are reached by a signal only, as
/// libpsx does it; the threads are asked until each of them has no more than these.
///
/// # Errors
///
/// The system's; `TimedOut` when a thread keeps what it has.
pub fn keep_everywhere(kept: &[Capability]) -> io::Result<()> {
    let kept = set_of(kept);
    KEPT.store(kept, Ordering::SeqCst);
    let signal = libc::SIGRTMAX() - 1;
    // SAFETY: sigaction(2) with a handler that is async-signal-safe. A zeroed structure has an empty mask.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = obey as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    reduce(kept)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let more = with_more_than(kept)?;
        if more.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let wrong = format!("threads {more:?} keep capabilities that they were asked to give up");
            return Err(io::Error::new(io::ErrorKind::TimedOut, wrong));
        }
        for thread in more {
            // SAFETY: tgkill(2) takes numbers. A thread that has ended is not there any more.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
        }
        std::thread::sleep(PERIOD);
    }
}

extern "C" fn obey(_signal: libc::c_int) {
    // SAFETY: __errno_location(3) gives the calling thread's own errno, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // It shows in /proc when it fails.
    let _ = reduce(KEPT.load(Ordering::SeqCst));
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// The threads of this process that are permitted more than this, or may get more.
fn with_more_than(kept: u64) -> io::Result<Vec<i32>> {
    let mut more = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        // One that has ended meanwhile has nothing.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let reduced = permitted(&status) & !kept == 0 && status.contains("\nNoNewPrivs:\t1");
        if !reduced {
            more.extend(thread.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        }
    }
    Ok(more)
}

/// The set in the line `CapPrm:`; all of them when the line is not there.
fn permitted(status: &str) -> u64 {
    set_in(status, "CapPrm:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_set() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000003000\nCapBnd:\tffff\n"), 0x3000);
        assert_eq!(effective("nothing"), u64::MAX);
    }

    #[test]
    fn what_a_thread_gives_up_it_and_its_own_lack_and_nobody_else() {
        let of = |line: &str| {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            (set_in(&status, line), status.contains("NoNewPrivs:\t1"))
        };
        let before = of("CapPrm:");
        let thread = std::thread::spawn(move || {
            keep_here(&[Capability::NetRaw]).unwrap();
            let own = ["CapPrm:", "CapEff:", "CapBnd:", "CapInh:"].map(of);
            let child = std::thread::spawn(move || of("CapPrm:")).join().unwrap();
            keep_here(&[]).unwrap();
            (own, child, of("CapPrm:"))
        });
        let net_raw = 1 << 13 & before.0;
        let ([permitted, effective, bounding, inheritable], child, none) = thread.join().unwrap();
        for had in [permitted, effective, child] {
            assert_eq!(had, (net_raw, true));
        }
        assert!(before.0 == 0 || bounding.0 == net_raw, "{bounding:?}");
        assert_eq!((inheritable.0, none.0), (0, 0));
        assert_eq!(of("CapPrm:"), before);
    }

    #[test]
    fn names_what_each_driver_lacks() {
        let net_raw_only = 1 << 13;
        let cases: [(&str, &[Capability]); 6] = [
            ("net_af_packet0,iface=eth1", &[Capability::NetAdmin]),
            ("net_af_xdp0,iface=eth1", &[Capability::NetAdmin, Capability::SysAdmin]),
            ("net_tap0,iface=x", &[Capability::NetAdmin]),
            ("net_pcap0,iface=eth1", &[]),
            ("0000:3b:00.0", &[Capability::IpcLock]),
            ("net_ring0", &[]),
        ];
        for (devargs, lacks) in cases {
            assert_eq!(missing_from(net_raw_only, devargs), lacks, "{devargs}");
            assert!(missing_from(u64::MAX, devargs).is_empty());
        }
    }
}
