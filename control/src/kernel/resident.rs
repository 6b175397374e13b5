//! A thread that stays inside the kernel side's namespace: what needs a right there is done by it, so that nobody else needs the right to
//! enter a namespace, or that one, while the director runs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{KernelError, Namespace};

/// Work that waits; whoever has more waits with it.
const WAITING_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// The thread. It ends with the last clone of this.
#[derive(Clone, Debug)]
pub struct Resident(Arc<SyncSender<Work>>);

impl Resident {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of [`Namespace::enter`]; [`KernelError::Thread`] when there is no thread to be had.
    pub fn start(namespace: Namespace) -> Result<Self, KernelError> {
        let (work, inbox) = sync_channel(WAITING_MAX);
        let (started, start) = sync_channel(1);
        let live = move || {
            let entered = namespace.enter();
            let inside = entered.is_ok();
            // Whoever started this waits.
            let _ = started.send(entered);
            if inside {
                carry_out(&inbox);
            }
        };
        let thread = thread::Builder::new().name("shunt-kernel".to_owned()).spawn(live);
        thread.map_err(KernelError::Thread)?;
        start.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(Self(Arc::new(work)))
    }

    /// Does some work inside, and waits for it.
    ///
    /// # Errors
    /// [`KernelError::Thread`] when the work panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        let (done, result) = sync_channel(1);
        let work = Box::new(move || drop(done.send(work())));
        self.0.send(work).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())
    }
}

fn carry_out(inbox: &Receiver<Work>) {
    for work in inbox {
        // What panics has its waiter told, and ends nothing else.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}

fn ended() -> KernelError {
    KernelError::Thread(io::Error::other("it panicked"))
}
