//! DPDK's error numbers as text, and its habit of returning some of them negated.

use std::ffi::CStr;
use std::fmt;

use crate::ffi;

/// A positive error number of the system or of DPDK, with its text when displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// EINVAL.
    pub(crate) const INVALID: Errno = Errno(22);

    /// What the last failed call on this thread left behind.
    pub(crate) fn last() -> Errno {
        // SAFETY: rte_errno.h: rte_errno is a variable of the thread, readable at any time.
        Errno(unsafe { ffi::shim_errno() })
    }

    /// The error of a call that returns it negated, or a bare -1 with `rte_errno` set.
    pub(crate) fn from_return(value: i32) -> Errno {
        match value {
            -1 => match Errno::last() {
                Errno(0) => Errno(1),
                set => set,
            },
            other => Errno(other.saturating_abs()),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_errno.h: rte_strerror returns a terminated string in a buffer of this thread, valid until the
        // next call on this thread; it is copied out at once.
        let text = unsafe { CStr::from_ptr(ffi::rte_strerror(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negated_numbers_become_text() {
        assert_eq!(Errno::from_return(-2).to_string(), "No such file or directory");
        assert_eq!(Errno::from_return(-i32::MAX), Errno(i32::MAX));
    }
}
