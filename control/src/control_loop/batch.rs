//! Changes of the neighbour table in batches, and the packets that wait until a batch runs.

use std::collections::{BTreeMap, VecDeque};

use shunt_dataplane::id::Mac;
use shunt_protocol::neighbour::Change;
use shunt_protocol::neighbour::machine::Key;

use crate::punt::Held;

/// Packets whose neighbour is known and that wait for workers to know it too.
pub const RELEASED_MAX: usize = 1_024;

/// The number of a batch of changes; the first one is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Batch(pub u64);

/// Batches and what waits for them.
#[derive(Debug)]
pub(super) struct Batches<P> {
    /// Gathered for the next batch; of several changes of a neighbour the last one counts.
    gathered: BTreeMap<Key, Option<Mac>>,
    /// Handed over last.
    sent: Batch,
    /// Known to run everywhere.
    running: Batch,
    /// With the batch that must run first, in order.
    held: VecDeque<(Batch, Held<P>)>,
}

impl<P> Default for Batches<P> {
    fn default() -> Self {
        Self { gathered: BTreeMap::new(), sent: Batch(0), running: Batch(0), held: VecDeque::new() }
    }
}

impl<P> Batches<P> {
    /// Takes a change into the next batch.
    pub(super) fn gather(&mut self, change: Change) {
        self.gathered.insert((change.nic, change.address), change.mac);
    }

    /// Holds a packet until all changes gathered so far run; false when too many wait.
    pub(super) fn hold(&mut self, held: Held<P>) -> bool {
        if self.held.len() >= RELEASED_MAX {
            return false;
        }
        let needs = if self.gathered.is_empty() { self.sent } else { self.following() };
        self.held.push_back((needs, held));
        true
    }

    /// Nothing gathered, nothing held.
    pub(super) fn is_settled(&self) -> bool {
        self.gathered.is_empty() && self.held.is_empty()
    }

    /// Notes which batch runs.
    pub(super) fn ran(&mut self, batch: Batch) {
        self.running = self.running.max(batch.min(self.sent));
    }

    /// The next batch, when there is one and none is under way.
    pub(super) fn next(&mut self) -> Option<(Batch, Vec<Change>)> {
        if self.gathered.is_empty() || self.running < self.sent {
            return None;
        }
        self.sent = self.following();
        let gathered = std::mem::take(&mut self.gathered);
        let changes = gathered.into_iter().map(|((nic, address), mac)| Change { nic, address, mac });
        Some((self.sent, changes.collect()))
    }

    /// The next packet that may go.
    pub(super) fn release(&mut self) -> Option<Held<P>> {
        let (needs, _) = self.held.front()?;
        if *needs > self.running {
            return None;
        }
        self.held.pop_front().map(|(_, held)| held)
    }

    /// Packets that wait.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    const fn following(&self) -> Batch {
        Batch(self.sent.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use shunt_dataplane::id::{NicId, WorkerId};

    use super::*;
    use crate::punt::Origin;

    fn change(last: u8, mac: Option<u8>) -> Change {
        let mac = mac.map(|mac| Mac([2, 0, 0, 0, 0, mac]));
        Change { nic: NicId(0), address: IpAddr::from([192, 0, 2, last]), mac }
    }

    fn held(packet: u32) -> Held<u32> {
        Held { packet, origin: Origin { worker: WorkerId(0), nic: NicId(0) } }
    }

    fn released(batches: &mut Batches<u32>) -> Vec<u32> {
        std::iter::from_fn(|| batches.release()).map(|held| held.packet).collect()
    }

    #[test]
    fn packets_go_when_their_batch_runs() {
        let mut batches = Batches::default();
        assert!(batches.hold(held(0)));
        assert_eq!(released(&mut batches), [0], "nothing to wait for");
        assert!(batches.is_settled());

        batches.gather(change(1, Some(1)));
        batches.hold(held(1));
        assert_eq!(released(&mut batches), [0; 0]);
        assert_eq!(batches.next(), Some((Batch(1), vec![change(1, Some(1))])));
        // While it is under way more comes; the last word about a neighbour counts.
        batches.gather(change(2, Some(2)));
        batches.gather(change(3, Some(3)));
        batches.gather(change(2, None));
        batches.hold(held(2));
        assert_eq!(batches.next(), None);
        assert_eq!(released(&mut batches), [0; 0]);
        batches.ran(Batch(1));
        assert_eq!(released(&mut batches), [1]);
        assert_eq!(batches.next(), Some((Batch(2), vec![change(2, None), change(3, Some(3))])));
        batches.hold(held(3));
        assert_eq!(released(&mut batches), [0; 0]);
        // A publisher that counts further than the loop does no harm.
        batches.ran(Batch(9));
        assert_eq!(released(&mut batches), [2, 3]);
        assert!(batches.is_settled());
        batches.gather(change(1, None));
        assert_eq!(batches.next().map(|(batch, _)| batch), Some(Batch(3)));
        batches.ran(Batch(1));
        assert_eq!(batches.next(), None);
    }

    #[test]
    fn no_more_are_held_than_may() {
        let mut batches = Batches::default();
        batches.gather(change(1, Some(1)));
        for packet in 0..RELEASED_MAX as u32 {
            assert!(batches.hold(held(packet)));
        }
        assert!(!batches.hold(held(0)));
        assert_eq!(batches.held(), RELEASED_MAX);
    }
}
