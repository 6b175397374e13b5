//! What can go wrong with the kernel-side interface, and what to do about it.

use std::{fmt, io};

use nix::errno::Errno;

/// Why the kernel-side interface cannot be had as asked.
#[derive(Debug)]
pub enum KernelError {
    /// A network namespace could not be made or entered.
    Namespace(Errno),
    /// A TAP could not be made.
    Tap {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// An address, a route or a setting was refused.
    Configure {
        /// The TAP.
        interface: String,
        /// What was to be set.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The NICs are others than at start.
    Nics,
    /// The thread that does the work could not be started, or ended early.
    Thread(io::Error),
}

impl KernelError {
    pub(super) fn tap(interface: &str, source: io::Error) -> Self {
        Self::Tap { interface: interface.to_owned(), source }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kernel-side interface: ")?;
        match self {
            Self::Namespace(Errno::EPERM) => f.write_str(
                "no network namespace of its own (operation not permitted): the process lacks CAP_SYS_ADMIN: \
                 run shunt as root, or with AmbientCapabilities=CAP_SYS_ADMIN CAP_NET_ADMIN in its systemd unit",
            ),
            Self::Namespace(Errno::ENOSPC) => f.write_str(
                "no network namespace of its own (no space): the limit of namespaces is reached: \
                 raise /proc/sys/user/max_net_namespaces",
            ),
            Self::Namespace(Errno::EINVAL) => f.write_str(
                "no network namespace of its own (invalid argument): this kernel is built without CONFIG_NET_NS: \
                 use another kernel",
            ),
            Self::Namespace(errno) => write!(f, "no network namespace of its own: {}", errno.desc()),
            Self::Tap { interface, source } => {
                write!(f, "TAP {interface} cannot be made ({source}): ")?;
                match source.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EPERM | Errno::EACCES) => f.write_str(
                        "the process lacks CAP_NET_ADMIN or may not open /dev/net/tun: run shunt as root, or give it \
                         the capability and read and write access to /dev/net/tun",
                    ),
                    Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => f.write_str(
                        "/dev/net/tun is missing: run `modprobe tun`; in a container, pass --device /dev/net/tun",
                    ),
                    Some(Errno::EBUSY) => f.write_str("the name is taken: give the NIC another name"),
                    _ => f.write_str("see what the kernel log says"),
                }
            }
            Self::Configure { interface, what, source } => {
                write!(f, "{interface}: {what} was refused: {source}")
            }
            Self::Nics => f.write_str("names or MACs of NICs changed: that takes a restart of shunt"),
            Self::Thread(source) => write!(f, "no thread to set it up: {source}"),
        }
    }
}

impl std::error::Error for KernelError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let text = KernelError::Namespace(Errno::EPERM).to_string();
        assert!(text.contains("CAP_SYS_ADMIN"), "{text}");
        let tap =
            |errno| KernelError::tap("shunt-front", io::Error::from_raw_os_error(errno as i32)).to_string();
        for (errno, names) in
            [(Errno::EPERM, "CAP_NET_ADMIN"), (Errno::ENOENT, "modprobe tun"), (Errno::EBUSY, "taken")]
        {
            let text = tap(errno);
            assert!(text.contains(names) && text.contains("shunt-front"), "{text}");
        }
    }
}
