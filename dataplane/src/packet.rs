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
        Self { room, nic, handed_over: false }
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
