//! What the director itself lacks when it makes a check: nothing of that says anything about a real server.

use std::fmt;

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
    #[must_use]
    pub const fn advice(self) -> &'static str {
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
