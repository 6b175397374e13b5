//! When a master announces its VIPs: a burst as it takes them, a second one later, again and again where that is asked for, and
//! anew when another host spoke for them. Few at a time, so that thousands of VIPs delay nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_model::vrrp::Announcing;

use super::{ANNOUNCEMENT_PAUSE, ANNOUNCEMENTS_PER_TURN_MAX};

/// Between two bursts that other hosts bring about.
const AGAIN_INTERVAL: Duration = Duration::from_secs(1);

/// The announcements of one virtual router.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcements {
    queue: VecDeque<IpAddr>,
    /// When the queue goes on.
    next: Option<Instant>,
    second: Option<Instant>,
    refresh: Option<Instant>,
    /// The last burst.
    last: Option<Instant>,
}

impl Announcements {
    /// A burst now, and another one after the delay.
    pub(super) fn begin(&mut self, now: Instant, how: &Announcing, vips: &[IpAddr]) {
        self.burst(now, how.repeat, vips);
        self.second = (!how.delay.is_zero()).then(|| now + how.delay);
        self.refresh = (!how.refresh.is_zero()).then(|| now + how.refresh);
    }

    /// The same because another host spoke for the VIPs, once a second at most.
    pub(super) fn again(&mut self, now: Instant, how: &Announcing, vips: &[IpAddr]) {
        if self.last.is_none_or(|last| now >= last + AGAIN_INTERVAL) {
            self.begin(now, how, vips);
        }
    }

    /// No more of them.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    fn burst(&mut self, now: Instant, repeat: u8, vips: &[IpAddr]) {
        self.last = Some(now);
        self.queue.clear();
        (0..repeat).for_each(|_| self.queue.extend(vips));
        self.next = (!self.queue.is_empty()).then_some(now);
    }

    /// What is due.
    pub(super) fn tick(&mut self, now: Instant, how: &Announcing, vips: &[IpAddr]) -> Vec<IpAddr> {
        if self.second.is_some_and(|due| due <= now) {
            self.second = None;
            self.burst(now, how.repeat, vips);
        }
        if self.refresh.is_some_and(|due| due <= now) {
            self.refresh = (!how.refresh.is_zero()).then(|| now + how.refresh);
            if self.queue.is_empty() {
                self.burst(now, how.refresh_repeat, vips);
            }
        }
        if self.next.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let count = self.queue.len().min(ANNOUNCEMENTS_PER_TURN_MAX);
        let due = self.queue.drain(..count).collect();
        self.next = (!self.queue.is_empty()).then(|| now + ANNOUNCEMENT_PAUSE);
        due
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.next, self.second, self.refresh].into_iter().flatten().min()
    }
}
