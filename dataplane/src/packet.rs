//! A packet in the director's hands: a frame with room around it, and how it came.

use std::ops::{Deref, DerefMut};

use dpdk_sys::Room;

use crate::id::NicId;

/// A frame, its room, and how it came.
#[derive(Debug)]
pub struct Packet<'a> {
    room: Room<'a>,
    /// Where it arrived.
    pub nic: NicId,
    /// True when another worker gave it to this one, which therefore owns it.
    pub handed_over: bool,
    /// True when its sender left the checksum of TCP or UDP to a NIC, and so does the director: what the field says is of no account.
    pub unfilled: bool,
    /// Bytes of payload of each segment that a NIC is to cut it into; 0 when it leaves as it is.
    pub segment_size: u16,
}

impl<'a> Packet<'a> {
    /// The frame `buffer[start..start + length]`, cut as [`Room::new`] does.
    #[inline]
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize, length: usize, nic: NicId) -> Self {
        Self::within(Room::new(buffer, start, length), nic)
    }

    /// The frame in this room.
    #[inline]
    #[must_use]
    pub const fn within(room: Room<'a>, nic: NicId) -> Self {
        Self { room, nic, handed_over: false, unfilled: false, segment_size: 0 }
    }
}

impl Packet<'_> {
    /// Fills in a checksum that was left to a NIC, which does not see all of the packet any more.
    #[cold]
    pub fn fill_checksum(&mut self) {
        if self.unfilled {
            self.unfilled = false;
            dpdk_sys::offload::fill_checksum(self.room.bytes_mut());
        }
    }
}

impl<'a> Deref for Packet<'a> {
    type Target = Room<'a>;

    #[inline]
    fn deref(&self) -> &Room<'a> {
        &self.room
    }
}

impl DerefMut for Packet<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.room
    }
}
