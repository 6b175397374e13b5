//! A frame within a larger buffer.

use std::ops::Range;

/// One frame inside a larger buffer. Head room lets headers be put in front without a copy.
///
/// Where the frame lies is checked whenever it changes and not when it is read: packets are read and written many times on
/// their way, and moved seldom.
#[derive(Debug)]
pub struct Room<'a> {
    /// At most 4 GiB.
    buffer: &'a mut [u8],
    start: u32,
    /// `start + length` is at most the buffer's length: every function here keeps it so.
    length: u32,
    moved: bool,
}

impl<'a> Room<'a> {
    /// The frame `buffer[start..start + length]`. A range that does not fit is cut to what does, a buffer to 4 GiB.
    #[inline]
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize, length: usize) -> Self {
        let end = buffer.len().min(u32::MAX as usize);
        let start = start.min(end);
        let length = length.min(end - start);
        Self { buffer: &mut buffer[..end], start: start as u32, length: length as u32, moved: false }
    }

    #[inline]
    const fn range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }

    /// The frame.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: new cuts the range to the buffer, and whatever changes it keeps it within.
        unsafe { self.buffer.get_unchecked(self.range()) }
    }

    /// The frame, to be rewritten in place.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        // SAFETY: as for bytes.
        unsafe { self.buffer.get_unchecked_mut(range) }
    }

    /// Where the frame starts in its buffer.
    #[inline]
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start as usize
    }

    /// Bytes in the frame.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// True when the frame does not lie any more where it did at first.
    #[inline]
    #[must_use]
    pub const fn is_moved(&self) -> bool {
        self.moved
    }

    /// True when no byte is left.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes free behind the frame.
    #[inline]
    #[must_use]
    pub const fn tail_room(&self) -> usize {
        self.buffer.len() - self.range().end
    }

    /// Puts `count` bytes of unknown content in front of the frame; false when the head room is too small.
    #[inline]
    #[must_use]
    pub fn prepend(&mut self, count: usize) -> bool {
        if count > self.start() {
            return false;
        }
        self.start -= count as u32;
        self.length += count as u32;
        self.moved = true;
        true
    }

    /// Puts `count` bytes of unknown content behind the frame; false when the tail room is too small.
    #[inline]
    #[must_use]
    pub fn append(&mut self, count: usize) -> bool {
        if count > self.tail_room() {
            return false;
        }
        self.length += count as u32;
        self.moved = true;
        true
    }

    /// Takes up to `count` bytes off the front.
    #[inline]
    pub fn trim_front(&mut self, count: usize) {
        let count = count.min(self.len()) as u32;
        self.start += count;
        self.length -= count;
        self.moved = true;
    }

    /// Keeps at most the first `length` bytes.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        if length < self.len() {
            self.length = length as u32;
            self.moved = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_within_its_room() {
        let mut room = *b"..abcdef..";
        let mut packet = Room::new(&mut room, 2, 6);
        packet.truncate(6);
        assert!(packet.bytes() == b"abcdef" && !packet.is_moved());
        assert!(!packet.prepend(3) && packet.prepend(2) && !packet.prepend(1));
        assert_eq!(packet.bytes(), b"..abcdef");
        packet.trim_front(3);
        packet.truncate(2);
        assert_eq!(packet.bytes(), b"bc");
        assert_eq!(packet.tail_room(), 5);
        assert!(!packet.append(6) && packet.append(5));
        packet.trim_front(100);
        assert!(packet.is_empty());
    }

    #[test]
    fn whoever_changes_where_it_lies_says_so() {
        let changes: [fn(&mut Room<'_>); 4] = [
            |packet| assert!(packet.prepend(1)),
            |packet| assert!(packet.append(1)),
            |packet| packet.trim_front(1),
            |packet| packet.truncate(5),
        ];
        for change in changes {
            let mut room = [0; 10];
            let mut packet = Room::new(&mut room, 2, 6);
            change(&mut packet);
            assert!(packet.is_moved());
        }
    }

    #[test]
    fn a_range_outside_the_room_is_cut() {
        let mut room = [0; 4];
        assert_eq!(Room::new(&mut room, 3, 9).len(), 1);
        assert_eq!(Room::new(&mut room, 9, 9).len(), 0);
    }
}
