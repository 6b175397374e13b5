//! A packet in the director's hands: bytes with room around them.

use crate::id::NicId;

/// One frame inside a larger buffer. Head room lets a tunnel header be put in front without a copy.
#[derive(Debug)]
pub struct Packet<'a> {
    room: &'a mut [u8],
    start: u32,
    length: u32,
    moved: bool,
    /// Where it arrived.
    pub nic: NicId,
    /// True when another worker gave it to this one, which therefore owns it.
    pub handed_over: bool,
}

impl<'a> Packet<'a> {
    /// The frame `room[start..start + length]`. A range that does not fit is cut to what does, a room to 4 GiB.
    #[inline]
    #[must_use]
    pub fn new(room: &'a mut [u8], start: usize, length: usize, nic: NicId) -> Self {
        let end = room.len().min(u32::MAX as usize);
        let start = start.min(end);
        let length = length.min(end - start);
        Self { room, start: start as u32, length: length as u32, moved: false, nic, handed_over: false }
    }

    #[inline]
    const fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }

    /// The frame.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.room[self.range()]
    }

    /// The frame, to be rewritten in place.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        &mut self.room[range]
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
        self.room.len() - self.range().end
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
        let mut packet = Packet::new(&mut room, 2, 6, NicId(0));
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
        let changes: [fn(&mut Packet<'_>); 4] = [
            |packet| assert!(packet.prepend(1)),
            |packet| assert!(packet.append(1)),
            |packet| packet.trim_front(1),
            |packet| packet.truncate(5),
        ];
        for change in changes {
            let mut room = [0; 10];
            let mut packet = Packet::new(&mut room, 2, 6, NicId(0));
            change(&mut packet);
            assert!(packet.is_moved());
        }
    }

    #[test]
    fn a_range_outside_the_room_is_cut() {
        let mut room = [0; 4];
        assert_eq!(Packet::new(&mut room, 3, 9, NicId(0)).len(), 1);
        assert_eq!(Packet::new(&mut room, 9, 9, NicId(0)).len(), 0);
    }
}
