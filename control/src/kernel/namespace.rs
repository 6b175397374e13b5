//! A network namespace without a name, held by a descriptor.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::KernelError;

/// A network namespace. It lives as long as a clone of this, a thread inside, or a TAP made inside does.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// A new, empty namespace.
    ///
    /// # Errors
    /// [`KernelError::Namespace`], most often for want of `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self, KernelError> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(KernelError::Namespace)?;
            Self::current()
        })?
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`KernelError::Namespace`] when `/proc` is not there.
    pub fn current() -> Result<Self, KernelError> {
        let file = File::open("/proc/thread-self/ns/net").map_err(|error| {
            KernelError::Namespace(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
        })?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Moves the calling thread into the namespace, for good: its sockets from now on are opened there. Threads that
    /// it starts afterwards are in there too.
    ///
    /// # Errors
    /// [`KernelError::Namespace`] for want of `CAP_SYS_ADMIN`.
    pub fn enter(&self) -> Result<(), KernelError> {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).map_err(KernelError::Namespace)
    }

    /// Does some work on a thread inside the namespace and waits for it.
    ///
    /// # Errors
    /// Those of [`Namespace::enter`]; [`KernelError::Thread`] when there is no thread to be had.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
        on_a_thread(|| {
            self.enter()?;
            Ok(work())
        })?
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("shunt-kernel".to_owned()).spawn_scoped(scope, work);
        thread
            .map_err(KernelError::Thread)?
            .join()
            .map_err(|_| KernelError::Thread(std::io::Error::other("it panicked")))
    })
}
