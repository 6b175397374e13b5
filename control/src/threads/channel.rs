//! Channels to and from threads in real time: whoever finds the other end at work sleeps.
//!
//! Those of `std::sync::mpsc` wait for a sender that was interrupted between taking a place and filling it by yielding the CPU, which a thread
//! in real time cannot do for one that is not: it would keep the sender from the CPU that it waits for, until the kernel holds real time up
//! (sched(7), `sched_rt_runtime_us`), a second later. The lock here is a futex, which the other end can always leave.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, SendError, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receives: bool,
    /// The receiver sleeps.
    waits: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends; clones send to the same receiver.
pub struct Sender<T>(Arc<Shared<T>>);

/// Receives what all senders sent, in the order in which it came.
pub struct Receiver<T>(Arc<Shared<T>>);

/// A channel that takes any number of messages.
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), senders: 1, receives: true, waits: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends; never waits for the receiver.
    ///
    /// # Errors
    /// The message, when nobody receives any more.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state();
        if !state.receives {
            return Err(SendError(message));
        }
        state.queue.push_back(message);
        let waits = state.waits;
        drop(state);
        if waits {
            self.0.filled.notify_one();
        }
        Ok(())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().senders -= 1;
        self.0.filled.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The next message if there is one now.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] when there is none yet, [`TryRecvError::Disconnected`] when there will never be.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.0.state();
        let none = if state.senders == 0 { TryRecvError::Disconnected } else { TryRecvError::Empty };
        state.queue.pop_front().ok_or(none)
    }

    /// The messages that there are now.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Waits for the next message, no longer than this.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] when none came, [`RecvTimeoutError::Disconnected`] when none ever will.
    pub fn recv_timeout(&self, time: Duration) -> Result<T, RecvTimeoutError> {
        // A time without end has no deadline.
        let deadline = Instant::now().checked_add(time);
        let mut state = self.0.state();
        loop {
            if let Some(message) = state.queue.pop_front() {
                return Ok(message);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            let left =
                deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            state.waits = true;
            state = self.0.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waits = false;
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receives = false;
        // Whoever waits for an answer to one of them is told at once; their drop may come back here.
        let left = std::mem::take(&mut state.queue);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn all_come_in_the_order_of_each_sender() {
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            for thread in 0..4_u32 {
                let sender = sender.clone();
                scope.spawn(move || (0..1000_u32).for_each(|number| sender.send((thread, number)).unwrap()));
            }
            drop(sender);
            let mut next = [0; 4];
            while let Ok((thread, number)) = receiver.recv_timeout(LONG) {
                assert_eq!(number, next[thread as usize]);
                next[thread as usize] += 1;
            }
            assert_eq!(next, [1000; 4]);
        });
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn ends_notice_each_other() {
        let (sender, receiver) = channel();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        let other = sender.clone();
        drop(sender);
        other.send(1).unwrap();
        drop(other);
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(1));
        assert_eq!(receiver.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
        let (sender, receiver) = channel();
        let (answer, answered) = channel();
        sender.send(answer).unwrap();
        drop(receiver);
        assert_eq!(answered.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        let (answer, _answered) = channel::<u8>();
        assert!(sender.send(answer).is_err());
    }

    #[test]
    fn who_waits_is_woken_by_the_last_sender_that_goes() {
        let (sender, receiver) = channel::<u8>();
        let waiting = thread::spawn(move || receiver.recv_timeout(LONG));
        drop(sender);
        assert_eq!(waiting.join().unwrap(), Err(RecvTimeoutError::Disconnected));
    }

    /// A receiver in real time that interrupts a sender in the midst of sending does not wait for it, which would never end.
    #[test]
    fn nobody_waits_at_a_channel_for_who_was_interrupted() {
        const TURNS: u32 = 20_000;
        const LATE: Duration = Duration::from_millis(500);
        let (sender, receiver) = channel::<[u64; 16]>();
        let over = AtomicBool::new(false);
        let late = thread::scope(|scope| {
            scope.spawn(|| {
                dpdk_sys::thread::bind(0).unwrap();
                while !over.load(Ordering::Relaxed) {
                    sender.send([0; 16]).unwrap();
                }
            });
            let urgent = scope.spawn(|| {
                dpdk_sys::thread::bind(0).unwrap();
                dpdk_sys::thread::set_timer_slack(1).unwrap();
                dpdk_sys::thread::real_time(10).unwrap();
                let turn = |_| {
                    thread::sleep(Duration::from_micros(20));
                    let begin = Instant::now();
                    while receiver.try_recv().is_ok() {}
                    begin.elapsed()
                };
                let late = (0..TURNS).map(turn).find(|took| *took >= LATE);
                over.store(true, Ordering::Relaxed);
                late
            });
            urgent.join().unwrap()
        });
        assert_eq!(late, None);
    }
}
