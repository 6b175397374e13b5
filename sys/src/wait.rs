//! Sleeping until something happens: a packet at a NIC whose driver has a descriptor to wait for, or a doorbell that
//! another thread rings.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt::SocketError};

use crate::queue::RxQueue;

/// Descriptors that one thread waits for at most; a worker with more queues naps.
const DESCRIPTORS_MOST: usize = 32;
/// In so many sleeps a descriptor with an error is left out, since poll(2) would return at once each time. A NIC whose interface is
/// down or gone has one.
const LEFT_OUT_SLEEPS: u16 = 256;

/// Wakes one thread. Ringing costs a fence while that thread is awake, and a system call when it sleeps.
#[derive(Default)]
pub struct Doorbell {
    asleep: AtomicBool,
    event: Event,
}

/// None when the system gave no descriptor; then nobody sleeps here.
struct Event(Option<EventFd>);

impl Default for Event {
    fn default() -> Self {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Self(EventFd::from_value_and_flags(0, flags).ok())
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").field("asleep", &self.asleep).finish_non_exhaustive()
    }
}

impl Doorbell {
    /// Wakes the thread that sleeps here, if one does. What it should find was written before; it will be seen.
    #[inline]
    pub fn ring(&self) {
        // Pairs with the fence in `sleep`: either the sleeper sees what was written, or it is seen to sleep here.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.write();
        }
    }

    #[cold]
    fn write(&self) {
        if let Some(event) = &self.event.0 {
            let _ = event.write(1);
        }
    }

    /// Sleeps until a packet arrives at one of `queues`, until [`ring`](Doorbell::ring) or until `most` (whole
    /// milliseconds) has passed; not at all when `work` says that there is something to do. False, at once, when a
    /// queue has nothing to wait for. Signals wake too. A queue whose descriptor has an error does not wake for a while.
    pub fn sleep<'q>(
        &self,
        queues: impl Iterator<Item = &'q RxQueue>,
        most: Duration,
        work: impl FnOnce() -> bool,
    ) -> bool {
        let Some(event) = &self.event.0 else { return false };
        let mut descriptors = arrayvec::ArrayVec::<PollFd<'_>, DESCRIPTORS_MOST>::new();
        let mut waiting = arrayvec::ArrayVec::<&RxQueue, DESCRIPTORS_MOST>::new();
        descriptors.push(PollFd::new(event.as_fd(), PollFlags::POLLIN));
        for queue in queues {
            let Some(descriptor) = queue.descriptor() else { return false };
            if let Some(left) = queue.left_out().get().checked_sub(1) {
                queue.left_out().set(left);
                continue;
            }
            if descriptors.try_push(PollFd::new(descriptor, PollFlags::POLLIN)).is_err() {
                return false;
            }
            waiting.push(queue);
        }
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !work() {
            let most = PollTimeout::try_from(most.as_millis()).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut descriptors, most);
        }
        self.asleep.store(false, Ordering::Relaxed);
        for (descriptor, queue) in descriptors.iter().skip(1).zip(waiting) {
            let errors = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
            if descriptor.revents().is_some_and(|said| said.intersects(errors)) {
                queue.left_out().set(LEFT_OUT_SLEEPS);
            }
        }
        let rung = descriptors.first().and_then(PollFd::any).unwrap_or(false);
        if rung {
            let _ = event.read();
        }
        true
    }
}

impl RxQueue {
    /// What becomes readable when a packet arrives; `None` where the driver has no such thing.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open_nic().descriptor(self.queue())
    }

    /// Forgets the error that its socket may have kept from when its interface was down, and waits for it again. Not to be called
    /// while the interface is down: net_af_packet's send waits for a place in a full ring unless there is an error.
    pub fn forget_error(&self) {
        self.left_out().set(0);
        if let Some(descriptor) = self.descriptor() {
            // What is no socket keeps none.
            let _ = getsockopt(&descriptor, SocketError);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_ring_wakes_the_sleeper_however_it_falls() {
        let doorbell = Arc::new(Doorbell::default());
        let told = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        for _ in 0..2000 {
            let (bell, flag) = (doorbell.clone(), told.clone());
            let other = std::thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                bell.ring();
            });
            while !told.load(Ordering::Relaxed) {
                assert!(doorbell.sleep(std::iter::empty(), LONG, || told.load(Ordering::Relaxed)));
            }
            told.store(false, Ordering::Relaxed);
            let _ = other.join();
        }
        assert!(start.elapsed() < LONG, "a ring was missed");
    }

    #[test]
    fn nobody_sleeps_who_has_work_and_a_ring_before_the_sleep_is_not_kept() {
        let doorbell = Doorbell::default();
        let start = Instant::now();
        assert!(doorbell.sleep(std::iter::empty(), LONG, || true));
        doorbell.ring();
        assert!(doorbell.sleep(std::iter::empty(), Duration::from_millis(3), || false));
        assert!((Duration::from_millis(3)..LONG).contains(&start.elapsed()));
    }
}
