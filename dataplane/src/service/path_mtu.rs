//! What a tunnel's path was found to take: learned from ICMP "too big" (RFC 1191), forgotten after a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::time::{TICKS_PER_SECOND, Tick, Ticks};

/// How long it is believed (kernel: `ip_rt_mtu_expires`).
pub const BELIEVED: Ticks = Ticks(600 * TICKS_PER_SECOND);
/// Nobody is believed who tells of less (kernel: `ip_rt_min_pmtu`).
pub const SMALLEST: u16 = 552;

/// The path MTU of tunnels to an address; clones share it. Workers write it seldom and read it only where a packet is too large
/// already: what packets meet is the overhead of their real server.
#[derive(Clone, Debug, Default)]
pub struct PathMtu(Arc<Learned>);

#[derive(Debug, Default)]
struct Learned {
    /// Bytes of an IP packet; 0 when nothing was learned.
    mtu: AtomicU16,
    /// When.
    at: AtomicU32,
}

impl PathMtu {
    /// Notes that no more than `mtu` bytes pass.
    pub fn learn(&self, mtu: u16, now: Tick) {
        self.0.at.store(now.0, Ordering::Relaxed);
        self.0.mtu.store(mtu.max(SMALLEST), Ordering::Relaxed);
    }

    /// True when something was learned and not forgotten.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.0.mtu.load(Ordering::Relaxed) != 0
    }

    /// True when others share it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// What passes where the NIC lets `nic_mtu` bytes pass.
    #[must_use]
    pub fn of(&self, nic_mtu: u16) -> u16 {
        match self.0.mtu.load(Ordering::Relaxed) {
            0 => nic_mtu,
            learned => learned.min(nic_mtu),
        }
    }

    /// Forgets what was learned too long ago; true when there was such a thing.
    #[must_use]
    pub fn forget(&self, now: Tick) -> bool {
        let at = Tick(self.0.at.load(Ordering::Relaxed));
        let over = self.0.mtu.load(Ordering::Relaxed) != 0 && at.elapsed(now).0 >= BELIEVED.0;
        if over {
            self.0.mtu.store(0, Ordering::Relaxed);
        }
        over
    }
}

/// What a packet to a real server would have met last: the kernel keeps the route of the last one, and tells clients of
/// that one's MTU when an error comes. Told by how many packets the real server had got by then.
#[derive(Clone, Debug, Default)]
pub struct LastRoute(Arc<Forgotten>);

#[derive(Debug)]
struct Forgotten {
    /// Packets when the real server was edited: there was no route until the next one.
    edited: AtomicU64,
    /// Packets when the path's MTU was learned: the route did not have it until the next one.
    learned: AtomicU64,
}

impl Default for Forgotten {
    fn default() -> Self {
        Self { edited: AtomicU64::new(0), learned: AtomicU64::new(u64::MAX) }
    }
}

impl LastRoute {
    /// The real server was edited after so many packets.
    pub fn edited(&self, packets: u64) {
        self.0.edited.store(packets, Ordering::Relaxed);
    }

    /// The path's MTU was learned after so many packets.
    pub fn learned(&self, packets: u64) {
        self.0.learned.store(packets, Ordering::Relaxed);
    }

    /// The MTU of that route after so many packets; `told` is what an error tells, `nic` the NIC's, `path` what was
    /// learned of its path before (kernel: `dest_dst` of a real server, `update_or_create_fnhe`).
    #[must_use]
    pub fn mtu(&self, packets: u64, told: u16, nic: u16, path: &PathMtu) -> u16 {
        if packets == self.0.edited.load(Ordering::Relaxed) {
            return told;
        }
        if !path.is_learned() || packets == self.0.learned.load(Ordering::Relaxed) {
            return nic;
        }
        path.of(nic)
    }
}

/// Bytes that packets to a real server become longer by: those of the tunnel, and what its path takes less than the NIC.
#[derive(Debug, Default)]
pub struct Overhead(AtomicU16);

impl Overhead {
    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u16) -> Self {
        Self(AtomicU16::new(bytes))
    }

    /// The bytes.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    /// From now on so many.
    pub fn set(&self, bytes: u16) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl Clone for Overhead {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_shared_and_forgotten() {
        let path = PathMtu::default();
        let other = path.clone();
        assert_eq!(other.of(1500), 1500);
        path.learn(1280, Tick(5));
        assert_eq!((other.of(1500), other.of(1000)), (1280, 1000));
        assert!(!other.forget(Tick(5 + BELIEVED.0 - 1)));
        assert!(other.forget(Tick(5 + BELIEVED.0)) && !path.forget(Tick(5 + BELIEVED.0)));
        assert_eq!(path.of(1500), 1500);
        path.learn(68, Tick(7));
        assert_eq!(path.of(1500), SMALLEST);
    }

    #[test]
    fn the_last_route_is_that_of_the_last_packet() {
        let (route, path) = (LastRoute::default(), PathMtu::default());
        assert_eq!(route.mtu(0, 1400, 1500, &path), 1400, "there was no packet: what is told");
        assert_eq!(route.mtu(1, 1400, 1500, &path), 1500);
        path.learn(1400, Tick(1));
        route.learned(1);
        assert_eq!((route.mtu(1, 1300, 1500, &path), route.mtu(2, 1300, 1500, &path)), (1500, 1400));
        route.edited(2);
        assert_eq!((route.mtu(2, 1300, 1500, &path), route.mtu(3, 1300, 1500, &path)), (1300, 1400));
    }
}
