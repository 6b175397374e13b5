//! The index of a table: from the hash of a flow to the places of entries that may be it.
//!
//! A bucket is one cache line of 15 slots. A slot is one word: the upper bits are a tag from the hash, the lower
//! ones the place of the entry. A slot goes into the bucket that its hash names, its home, or else into
//! the next one that has room; the home counts those that sit further on and how far at most, so that a
//! lookup knows where to stop.

use crate::processor;

/// Slots in a bucket; the last word of the line counts those further on.
const SLOTS: usize = 15;
/// Further on than this no slot goes.
const REACH_LIMIT: usize = 63;
/// Slots of one home further on: the lower half of a bucket's last word.
const COUNT_MASK: u32 = 0xffff;
/// How far on at most: the upper half.
const REACH_SHIFT: u32 = 16;
/// Slots in use when the table is full of NAT connections, in percent.
const FULL_PERCENT: u64 = 78;

/// One cache line: 15 slots, empty ones 0, and the count and reach of those further on.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Bucket([u32; SLOTS + 1]);

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The slots that equal `word` in the bits of `mask`, one bit each.
    #[inline]
    fn matches(&self, word: u32, mask: u32) -> u32 {
        processor::equal_words(&self.0, word, mask) & ((1 << SLOTS) - 1)
    }

    /// How far on a slot may sit whose home this is.
    #[inline]
    fn reach(&self) -> usize {
        (self.0[SLOTS] >> REACH_SHIFT) as usize
    }

    fn add_further(&mut self, steps: usize) {
        let count = ((self.0[SLOTS] & COUNT_MASK) + 1).min(COUNT_MASK);
        self.0[SLOTS] = (self.reach().max(steps) as u32) << REACH_SHIFT | count;
    }

    fn remove_further(&mut self) {
        let count = (self.0[SLOTS] & COUNT_MASK).saturating_sub(1);
        // How far the others sit is not known; only when none is left the reach is.
        self.0[SLOTS] = if count == 0 { 0 } else { self.0[SLOTS] & !COUNT_MASK | count };
    }
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Slots {
    buckets: Box<[Bucket]>,
    /// The bits of a slot that hold the tag.
    tag_mask: u32,
    /// The lowest bit of the tag.
    tag_one: u32,
}

impl Slots {
    /// Room for two slots of each of `entries` entries.
    pub(super) fn new(entries: u32) -> Self {
        let place_bits = u32::BITS - entries.saturating_sub(1).leading_zeros();
        Self {
            buckets: processor::large_table(&Bucket([0; SLOTS + 1]), Self::buckets_for(entries)),
            tag_mask: u32::MAX << place_bits,
            tag_one: 1 << place_bits,
        }
    }

    const fn buckets_for(entries: u32) -> usize {
        let buckets = (entries as u64 * 2 * 100).div_ceil(SLOTS as u64 * FULL_PERCENT) as usize;
        // A small table gets more than its share, since chance evens out less.
        let chance = if buckets < 1024 { buckets } else { 1024 };
        buckets + 2 + chance / 4
    }

    /// Bytes of the index for so many entries.
    pub(super) const fn bytes_for(entries: u32) -> u64 {
        (Self::buckets_for(entries) * size_of::<Bucket>()) as u64
    }

    /// Bytes of the index.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The bucket that a hash names: its low half, scaled to the number of buckets.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize
    }

    /// The tag of a hash, which is never 0, so that no slot in use looks empty.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        Self::tag_by(self.tag_mask, self.tag_one, hash)
    }

    #[inline]
    const fn tag_by(mask: u32, one: u32, hash: u64) -> u32 {
        let tag = (hash >> 32) as u32 & mask;
        if tag == 0 { one } else { tag }
    }

    /// The bucket `steps` after one.
    #[inline]
    fn after(&self, home: usize, steps: usize) -> usize {
        let at = home + steps;
        if at < self.buckets.len() { at } else { at % self.buckets.len() }
    }

    /// Fetches the home bucket of a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        processor::prefetch(&self.buckets[self.home(hash)]);
    }

    /// Calls `each` with the places in the home bucket that may be the one; returns the first.
    #[inline]
    pub(super) fn candidates_at_home(&self, hash: u64, mut each: impl FnMut(u32)) -> Option<u32> {
        let bucket = &self.buckets[self.home(hash)];
        let mut found = bucket.matches(self.tag(hash), self.tag_mask);
        if found == 0 {
            return None;
        }
        let first = bucket.0[found.trailing_zeros() as usize & SLOTS] & !self.tag_mask;
        each(first);
        found &= found - 1;
        while found != 0 {
            each(bucket.0[found.trailing_zeros() as usize & SLOTS] & !self.tag_mask);
            found &= found - 1;
        }
        Some(first)
    }

    /// The first answer that `each` gives to a place that may be the one.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut each: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let home = self.home(hash);
        let tag = self.tag(hash);
        let reach = self.buckets[home].reach();
        let mut steps = 0;
        loop {
            let bucket = &self.buckets[self.after(home, steps)];
            let mut found = bucket.matches(tag, self.tag_mask);
            while found != 0 {
                let answer = each(bucket.0[found.trailing_zeros() as usize] & !self.tag_mask);
                if answer.is_some() {
                    return answer;
                }
                found &= found - 1;
            }
            if steps == reach {
                return None;
            }
            steps += 1;
        }
    }

    /// True when a slot in the home bucket of a hash looks the same, or may do so further on.
    #[inline]
    pub(super) fn may_look_alike(&self, hash: u64) -> bool {
        let bucket = &self.buckets[self.home(hash)];
        bucket.reach() > 0 || bucket.matches(self.tag(hash), self.tag_mask) != 0
    }

    /// Puts a slot in; false when there is none free within reach.
    #[must_use]
    pub(super) fn insert(&mut self, hash: u64, place: u32) -> bool {
        let home = self.home(hash);
        for steps in 0..=REACH_LIMIT.min(self.buckets.len() - 1) {
            let at = self.after(home, steps);
            let free = self.buckets[at].matches(0, u32::MAX);
            if free != 0 {
                self.buckets[at].0[free.trailing_zeros() as usize] = self.tag(hash) | place;
                if steps > 0 {
                    self.buckets[home].add_further(steps);
                }
                return true;
            }
        }
        false
    }

    /// Lets the slot of `place` be found before those of the places that are alike, which keep their order: those of which `alike`
    /// gives the hash of their other slot. Where both slots of one look the same, nobody knows which is which: they stay. True when
    /// there were any.
    pub(super) fn bring_forward(
        &mut self,
        hash: u64,
        place: u32,
        alike: impl Fn(u32) -> Option<u64>,
    ) -> bool {
        let (home, tag) = (self.home(hash), self.tag(hash));
        let (mask, one) = (self.tag_mask, self.tag_one);
        let tag_of = |hash| Self::tag_by(mask, one, hash);
        // The slot that is moved on, once there is one in front.
        let mut carried = None;
        for steps in 0..=self.buckets[home].reach() {
            let at = self.after(home, steps);
            let mut found = self.buckets[at].matches(tag, self.tag_mask);
            while found != 0 {
                let slot = &mut self.buckets[at].0[found.trailing_zeros() as usize & SLOTS];
                if *slot == tag | place {
                    *slot = carried.unwrap_or(*slot);
                    return carried.is_some();
                }
                if alike(*slot & !self.tag_mask).is_some_and(|other| tag_of(other) != tag) {
                    let in_front = carried.unwrap_or(tag | place);
                    carried = Some(std::mem::replace(slot, in_front));
                }
                found &= found - 1;
            }
        }
        false
    }

    /// True when slots of the two hashes look the same.
    pub(super) fn look_alike(&self, one: u64, other: u64) -> bool {
        self.tag(one) == self.tag(other)
    }

    /// Takes the slot of an entry out that has only this one.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        if self.clear(hash, place).is_some_and(|steps| steps > 0) {
            let home = self.home(hash);
            self.buckets[home].remove_further();
        }
    }

    /// Takes both slots of an entry out.
    pub(super) fn remove_both(&mut self, hash: u64, other: u64, place: u32) {
        if self.tag(hash) != self.tag(other) {
            self.remove(hash, place);
            self.remove(other, place);
            return;
        }
        // The two slots look the same, and where one's home reaches the other's, nobody knows whose is whose.
        // Both go; a count that stays too high only makes lookups longer.
        if self.home(hash) == self.home(other) {
            self.remove(hash, place);
            self.remove(other, place);
        } else {
            while self.clear(hash, place).is_some() {}
            while self.clear(other, place).is_some() {}
        }
    }

    /// Empties the slot; how far from home it sat.
    fn clear(&mut self, hash: u64, place: u32) -> Option<usize> {
        let home = self.home(hash);
        let word = self.tag(hash) | place;
        for steps in 0..=self.buckets[home].reach() {
            let at = self.after(home, steps);
            let found = self.buckets[at].matches(word, u32::MAX);
            if found != 0 {
                self.buckets[at].0[found.trailing_zeros() as usize] = 0;
                return Some(steps);
            }
        }
        None
    }
}

#[cfg(test)]
impl Slots {
    /// Slots in use.
    pub(super) fn used(&self) -> usize {
        self.buckets.iter().flat_map(|bucket| &bucket.0[..SLOTS]).filter(|&&slot| slot != 0).count()
    }

    /// Slots that sit further on than their home, as the homes count them.
    pub(super) fn further_on(&self) -> usize {
        self.buckets.iter().map(|bucket| (bucket.0[SLOTS] & COUNT_MASK) as usize).sum()
    }

    /// How many buckets there are, and the one that a hash names.
    pub(super) fn place_of(&self, hash: u64) -> (usize, usize) {
        (self.buckets.len(), self.home(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(slots: &Slots, hash: u64, place: u32) -> bool {
        slots.find(hash, |found| (found == place).then_some(())).is_some()
    }

    /// A hash of the given bucket and tag bits.
    fn hash(slots: &Slots, home: usize, tag: u32) -> u64 {
        let low = ((home as u64) << 32).div_ceil(slots.buckets.len() as u64);
        assert_eq!(slots.home(low), home);
        u64::from(tag) << 32 | low
    }

    #[test]
    fn slots_that_look_the_same_both_go() {
        for (home, other) in [(3, 3), (3, 4), (4, 3), (3, 5), (3, 60)] {
            for crowd in [0, 14, 15, 31] {
                let mut slots = Slots::new(1000);
                let (one, two) = (hash(&slots, home, 0xabcd_0000), hash(&slots, other, 0xabcd_0000));
                let crowded = hash(&slots, 3, 0x1234_0000);
                (0..crowd).for_each(|place| assert!(slots.insert(crowded, place)));
                assert!(slots.insert(one, 500) && slots.insert(two, 500));
                assert!(found(&slots, one, 500) && found(&slots, two, 500));
                slots.remove_both(one, two, 500);
                assert!(!found(&slots, one, 500) && !found(&slots, two, 500));
                assert_eq!(slots.used(), crowd as usize);
                (0..crowd).for_each(|place| assert!(found(&slots, crowded, place)));
            }
        }
    }

    #[test]
    fn reach_ends_with_the_last_that_sits_further_on() {
        let mut slots = Slots::new(1000);
        let crowded = hash(&slots, 7, 0x1234_0000);
        (0..40).for_each(|place| assert!(slots.insert(crowded, place)));
        assert_eq!((slots.further_on(), slots.buckets[7].reach()), (25, 2));
        (15..40).rev().for_each(|place| slots.remove(crowded, place));
        assert_eq!((slots.further_on(), slots.buckets[7].reach(), slots.used()), (0, 0, 15));
    }

    #[test]
    fn one_is_brought_forward_and_the_others_keep_their_order() {
        for before in [0, 7, 14, 15, 31] {
            let mut slots = Slots::new(1000);
            let crowded = hash(&slots, 3, 0xabcd_0000);
            (0..before).for_each(|place| assert!(slots.insert(crowded, place)));
            for place in [500, 501, 502, 503] {
                assert!(slots.insert(crowded, place));
                slots.bring_forward(crowded, place, |other| (500..place).contains(&other).then_some(0));
            }
            let order = |slots: &Slots| {
                let mut order = Vec::new();
                let none: Option<()> = slots.find(crowded, |place| {
                    order.push(place);
                    None
                });
                assert_eq!(none, None);
                order
            };
            let wanted = (0..before).chain([503, 502, 501, 500]).collect::<Vec<_>>();
            assert_eq!(order(&slots), wanted);
            // A slot that is free in front of them is taken by the next one; nothing is lost.
            if before > 0 {
                slots.remove(crowded, 0);
                assert!(slots.insert(crowded, 504));
                slots.bring_forward(crowded, 504, |other| (500..504).contains(&other).then_some(0));
                assert_eq!(order(&slots).iter().filter(|place| **place >= 500).count(), 5);
                assert_eq!(order(&slots).into_iter().find(|place| *place >= 500), Some(504));
            }
            for place in [503, 500, 502, 501] {
                slots.remove(crowded, place);
                assert!(!found(&slots, crowded, place));
            }
        }
    }

    #[test]
    fn wraps_round_the_end() {
        let mut slots = Slots::new(1000);
        let last = slots.buckets.len() - 1;
        let crowded = hash(&slots, last, 0x1234_0000);
        (0..40).for_each(|place| assert!(slots.insert(crowded, place)));
        (0..40).for_each(|place| assert!(found(&slots, crowded, place)));
        assert_eq!(slots.home(u64::MAX), last);
    }

    #[test]
    fn a_tag_of_zero_does_not_look_empty() {
        let mut slots = Slots::new(1000);
        let zero = hash(&slots, 0, 0);
        assert!(!found(&slots, zero, 0));
        assert!(slots.insert(zero, 0));
        assert!(found(&slots, zero, 0));
        slots.remove(zero, 0);
        assert_eq!(slots.used(), 0);
    }
}
