//! DPDK's environment: started once per process, cleaned up when the last handle that stands on it is gone.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::errno::Errno;
use crate::ffi;
use crate::log::{self, Said};
use crate::mempool::RetiredPool;

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages, taken as they are needed from those the system has reserved; nothing appears in a file system.
    Hugepages,
    /// Ordinary pages, all taken at the start. Slower by TLB misses, needs no preparation.
    Ordinary {
        /// How much, in MiB: mbufs, rings and the drivers' own tables must fit.
        mebibytes: usize,
    },
}

/// How to start DPDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalSettings {
    /// Where packet memory comes from.
    pub memory: Memory,
    /// Tells the instances on one machine apart: letters, digits, `-`, `_` and `.`; at most 64.
    pub file_prefix: String,
    /// The CPU that the calling thread is bound to, as threads made by it later will be.
    pub main_core: usize,
    /// PCI addresses (`0000:3b:00.0`) of the NICs that DPDK may take; with none it leaves the PCI bus alone.
    pub allow_pci: Vec<String>,
    /// NICs are told physical addresses, as those without an IOMMU want it; they are known of hugepages alone, to who may read them
    /// (`CAP_SYS_ADMIN`).
    pub physical_addresses: bool,
    /// Further EAL arguments, as they are.
    pub extra: Vec<String>,
}

impl EalSettings {
    /// Ordinary memory, no PCI, on the given CPU: what needs no preparation of the machine.
    pub fn ordinary(file_prefix: &str, main_core: usize, mebibytes: usize) -> EalSettings {
        EalSettings {
            memory: Memory::Ordinary { mebibytes },
            file_prefix: file_prefix.to_owned(),
            main_core,
            allow_pci: Vec::new(),
            physical_addresses: false,
            extra: Vec::new(),
        }
    }

    /// The arguments for `rte_eal_init`, the program's name first.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "dpdk".to_owned(),
            // Lcore 0 is the calling thread, on whichever CPU; workers are threads that register themselves.
            format!("--lcores=0@{}", self.main_core),
            format!("--file-prefix={}", self.file_prefix),
            "--no-telemetry".to_owned(),
            format!("--iova-mode={}", if self.physical_addresses { "pa" } else { "va" }),
            "--log-level=warning".to_owned(),
        ];
        match self.memory {
            // virtio_user hands its memory to the peer by file descriptor: one per segment would be too many.
            Memory::Hugepages => {
                arguments.extend(["--in-memory", "--single-file-segments"].map(str::to_owned))
            }
            // DPDK refuses --in-memory together with --no-huge; --no-shconf is the part of it that matters here.
            Memory::Ordinary { mebibytes } => {
                arguments.extend([
                    "--no-huge".to_owned(),
                    format!("-m{mebibytes}"),
                    "--no-shconf".to_owned(),
                ]);
            }
        }
        if self.allow_pci.is_empty() {
            arguments.push("--no-pci".to_owned());
        }
        arguments.extend(self.allow_pci.iter().map(|address| format!("--allow={address}")));
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    fn check(&self) -> Result<(), EalError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let prefix = &self.file_prefix;
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(good) {
            return Err(EalError::FilePrefix { prefix: prefix.clone() });
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
        match allowed {
            Some(allowed) if !cpu_list_contains(allowed, self.main_core) => {
                return Err(EalError::MainCore { core: self.main_core, allowed: allowed.to_owned() });
            }
            _ => {}
        }
        if self.memory == Memory::Hugepages && FreeHugepages::read().bytes() == 0 {
            return Err(EalError::NoHugepages);
        }
        Ok(())
    }
}

/// Why DPDK did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EalError {
    /// DPDK starts once in the life of a process, even if the first attempt failed.
    AlreadyStarted,
    /// The file prefix is not a plain name.
    FilePrefix {
        /// What was given.
        prefix: String,
    },
    /// The process may not run on the CPU that was asked for.
    MainCore {
        /// The CPU asked for.
        core: usize,
        /// Those allowed, in the form of `Cpus_allowed_list` in `/proc/self/status`.
        allowed: String,
    },
    /// Hugepages were asked for and none is free.
    NoHugepages,
    /// An argument holds a zero byte.
    Argument {
        /// The argument.
        argument: String,
    },
    /// DPDK refused.
    Refused {
        /// Its error number.
        error: Errno,
        /// What it said meanwhile.
        said: Said,
    },
}

impl fmt::Display for EalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EalError::AlreadyStarted => {
                f.write_str("DPDK was started before in this process: it starts only once")
            }
            EalError::FilePrefix { prefix } => write!(
                f,
                "file prefix {prefix:?} is no plain name: use 1 to 64 letters, digits, '-', '_' or '.'"
            ),
            EalError::MainCore { core, allowed } => {
                write!(f, "core {core} is not among the CPUs that this process may use, which are {allowed}")
            }
            EalError::NoHugepages => f.write_str(
                "no hugepage is free: reserve some (for instance 512 pages of 2 MiB: \
                 echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages) or run without hugepages",
            ),
            EalError::Argument { argument } => write!(f, "EAL argument {argument:?} holds a zero byte"),
            EalError::Refused { error, said } => write!(f, "DPDK does not start ({error}){said}"),
        }
    }
}

impl Error for EalError {}

static STARTED: AtomicBool = AtomicBool::new(false);

/// DPDK, started. Clones are handles to the same; mempools, NICs, queues and rings each hold one. When the last is
/// dropped DPDK is cleaned up, unless an [`Mbuf`](crate::Mbuf) is still alive somewhere: then that is left to the
/// end of the process.
#[derive(Clone, Debug)]
pub struct Eal {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Mempools whose last handle is gone. They are reused, and freed only with everything else: freeing one while
    /// another thread returns its last mbuf would pull the memory away under it.
    retired_pools: Mutex<Vec<RetiredPool>>,
    /// The NICs that a [`Device`](crate::Device) or a [`Nic`](crate::Nic) stands for. The lock also makes one of
    /// concurrent probes, opens and removals, which `rte_ethdev.h` does not allow on one port.
    claimed_nics: Mutex<BTreeSet<u16>>,
}

impl Eal {
    /// Starts DPDK and binds the calling thread to `main_core`.
    ///
    /// # Errors
    ///
    /// See [`EalError`]. DPDK can be started once per process; after an error from DPDK itself, or after
    /// cleaning up, a new process is needed.
    pub fn start(settings: &EalSettings) -> Result<Eal, EalError> {
        if STARTED.load(Ordering::Acquire) {
            return Err(EalError::AlreadyStarted);
        }
        settings.check()?;
        let mut arguments = Vec::new();
        for argument in settings.arguments() {
            match CString::new(argument.as_str()) {
                Ok(argument) => arguments.push(argument),
                Err(_) => return Err(EalError::Argument { argument }),
            }
        }
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyStarted);
        }
        log::attach();
        log::listen(|| initialise(arguments)).map_err(|(error, said)| EalError::Refused { error, said })?;
        remove_runtime_directory();
        Ok(Eal { shared: Arc::new(Shared::default()) })
    }

    pub(crate) fn retired_pools(&self) -> MutexGuard<'_, Vec<RetiredPool>> {
        self.shared.retired_pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn claimed_nics(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.shared.claimed_nics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn initialise(arguments: Vec<CString>) -> Result<(), Errno> {
    let count = arguments.len() as c_int;
    // DPDK does not say how long it looks at its arguments, so they stay for good: a few hundred bytes, once.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());
    let pointers = pointers.leak();
    // SAFETY: rte_eal.h: rte_eal_init is called once, as STARTED ensures, with count terminated strings that it may
    // reorder, and that are never freed.
    let result = unsafe { ffi::rte_eal_init(count, pointers.as_mut_ptr()) };
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// DPDK makes a directory for the files by which processes share an instance and leaves it behind. Here nothing is
/// shared, so it is empty; where further arguments put something into it, it stays.
fn remove_runtime_directory() {
    // SAFETY: rte_eal.h: rte_eal_get_runtime_dir returns a terminated string that stays as it is after rte_eal_init.
    let directory = unsafe { CStr::from_ptr(ffi::rte_eal_get_runtime_dir()) };
    let _ = fs::remove_dir(Path::new(OsStr::from_bytes(directory.to_bytes())));
}

impl Drop for Shared {
    fn drop(&mut self) {
        let pools = self.retired_pools.get_mut().unwrap_or_else(PoisonError::into_inner);
        // An mbuf that is still owned points into the memory that the clean-up unmaps.
        if pools.iter().all(RetiredPool::is_full) {
            // SAFETY: rte_eal.h: rte_eal_cleanup must be the last call into DPDK. Every owned type holds an Eal, so
            // this is the last handle, and all mbufs are back in their pools.
            unsafe { ffi::rte_eal_cleanup() };
        }
    }
}

/// The hugepages that are reserved and not in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreeHugepages {
    /// Size of a page in KiB, and how many are free; one entry per size that the kernel knows.
    pub pages: Vec<(u64, u64)>,
}

impl FreeHugepages {
    /// Reads `/sys/kernel/mm/hugepages`; empty where the kernel has none.
    pub fn read() -> FreeHugepages {
        FreeHugepages::read_from(Path::new("/sys/kernel/mm/hugepages"))
    }

    fn read_from(directory: &Path) -> FreeHugepages {
        let mut pages = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let size = name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB"));
            let free = fs::read_to_string(entry.path().join("free_hugepages"));
            if let (Some(Ok(size)), Ok(free)) = (size.map(str::parse), free) {
                pages.push((size, free.trim().parse().unwrap_or(0)));
            }
        }
        pages.sort_unstable();
        FreeHugepages { pages }
    }

    /// All of them together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages.iter().map(|(kibibytes, count)| kibibytes * 1024 * count).sum()
    }
}

/// Whether a list such as `0-3,8,10-11` holds the CPU.
fn cpu_list_contains(list: &str, cpu: usize) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&cpu),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        for (list, cpu, expected) in
            [("0-1", 1, true), ("0-1", 2, false), ("0,4-6,9", 5, true), ("0,4-6,9", 9, true), ("", 0, false)]
        {
            assert_eq!(cpu_list_contains(list, cpu), expected, "{list} {cpu}");
        }
    }

    #[test]
    fn ordinary_memory_keeps_to_itself() {
        let arguments = EalSettings::ordinary("a", 1, 256).arguments();
        for wanted in ["--no-huge", "-m256", "--no-shconf", "--no-pci", "--no-telemetry", "--lcores=0@1"] {
            assert!(arguments.iter().any(|argument| argument == wanted), "{wanted}");
        }
        assert!(!arguments.iter().any(|argument| argument == "--in-memory"));
    }

    #[test]
    fn a_pci_nic_brings_the_bus() {
        let mut settings = EalSettings::ordinary("a", 0, 64);
        settings.memory = Memory::Hugepages;
        settings.allow_pci = vec!["0000:3b:00.0".to_owned()];
        let arguments = settings.arguments();
        assert!(arguments.contains(&"--allow=0000:3b:00.0".to_owned()));
        assert!(arguments.contains(&"--in-memory".to_owned()));
        assert!(!arguments.contains(&"--no-pci".to_owned()));
        assert!(arguments.contains(&"--iova-mode=va".to_owned()));
        settings.physical_addresses = true;
        assert!(settings.arguments().contains(&"--iova-mode=pa".to_owned()));
    }

    #[test]
    fn a_wrong_prefix_or_core_is_refused_before_dpdk_sees_it() {
        let refusal =
            |prefix: &str, core| EalSettings::ordinary(prefix, core, 64).check().map_err(|e| e.to_string());
        let text = refusal("../x", 0).unwrap_err();
        assert!(text.starts_with("file prefix \"../x\" is no plain name"), "{text}");
        let text = refusal("x", 99_999).unwrap_err();
        assert!(text.starts_with("core 99999 is not among the CPUs"), "{text}");
    }
}
