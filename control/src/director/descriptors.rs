//! Descriptors: checks, clients of the API, scripts and files need them, and the usual limit is low for who may raise it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More are not asked for, since programs exist that close all that they could have.
pub const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Raises the limit of open files to the hard one (getrlimit(2)), or to [`DESCRIPTORS_MAX`].
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(DESCRIPTORS_MAX);
    if wanted > soft {
        // It goes on with what it has.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}
