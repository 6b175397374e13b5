//! One datagram: which of its fragments are there.

use std::ops::Range;

use arrayvec::ArrayVec;

use super::blocks::{Blocks, Chain};
use super::clients::Link;
use super::{DATA, DATA_MAX, FRAGMENTS_MAX, HEADER_MAX, Key, Part};
use crate::id::NicId;
use crate::reason::DropReason;
use crate::time::Tick;
use crate::wire::IpVersion;

/// A fragment that is there.
#[derive(Clone, Copy, Debug)]
struct Kept {
    start: u16,
    end: u16,
    data: Chain,
}

impl Kept {
    const fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A datagram that may lack something.
#[derive(Debug)]
pub(super) struct Datagram<A> {
    /// None when there is none.
    pub(super) key: Option<Key<A>>,
    header: [u8; HEADER_MAX],
    /// Bytes of its header; 0 before the first fragment came.
    pub(super) header_length: usize,
    /// Where in the header the protocol stands.
    protocol_at: usize,
    /// Where the latest fragment came in.
    pub(super) nic: NicId,
    /// Bytes of its data; none before the last fragment came.
    pub(super) end: Option<usize>,
    /// In order and apart from each other.
    kept: ArrayVec<Kept, FRAGMENTS_MAX>,
    /// Bytes of the largest fragment's IP packet, and of the largest with DF.
    pub(super) largest: u16,
    pub(super) largest_df: u16,
    /// Which ECN values came, one bit each.
    ecn: u8,
    pub(super) until: Tick,
    /// Among all.
    pub(super) all: Link,
    /// Among those of its client.
    pub(super) of_client: Link,
}

/// ECN values as bits of a set (RFC 3168, 5).
mod ecn {
    pub const INCAPABLE: u8 = 1;
    pub const CAPABLE: u8 = 1 << 1 | 1 << 2;
    pub const CONGESTION: u8 = 1 << 3;
}

impl<A: IpVersion> Datagram<A> {
    pub(super) fn empty() -> Self {
        Self {
            key: None,
            header: [0; HEADER_MAX],
            header_length: 0,
            protocol_at: 0,
            nic: NicId(0),
            end: None,
            kept: ArrayVec::new(),
            largest: 0,
            largest_df: 0,
            ecn: 0,
            until: Tick(0),
            all: Link::default(),
            of_client: Link::default(),
        }
    }

    pub(super) fn begin(&mut self, key: Key<A>, until: Tick) {
        self.key = Some(key);
        (self.header_length, self.end, self.until) = (0, None, until);
        (self.largest, self.largest_df, self.ecn) = (0, 0, 0);
    }

    /// Gives its memory back.
    pub(super) fn clear(&mut self, blocks: &mut Blocks) {
        for kept in self.kept.drain(..) {
            blocks.free_chain(kept.data, kept.range().len());
        }
    }

    /// Takes a fragment, for which there is memory; true when nothing is missing then.
    pub(super) fn add(&mut self, part: &Part<'_, A>, blocks: &mut Blocks) -> Result<bool, DropReason> {
        let (start, end) = (part.offset, part.offset + part.data.len());
        let ends = (!part.more).then_some(end);
        let header = if start == 0 { part.header.len() } else { self.header_length };
        let last_known = self.end.is_some_and(|known| ends.is_some_and(|end| end != known) || end > known);
        let behind = ends.is_some() && self.kept.last().is_some_and(|last| last.range().end > end);
        // What has no data is no part of anything, unless it is all there is.
        let empty = part.data.is_empty() && (part.more || start > 0);
        if part.is_uneven() || last_known || behind || empty || end > DATA_MAX || header > HEADER_MAX {
            return Err(DropReason::Fragment);
        }
        let place = self.kept.partition_point(|kept| kept.range().end <= start);
        if self.kept.get(place).is_some_and(|next| next.range().start <= start) && self.reaches(place, end) {
            // It came before.
            return Ok(self.is_whole());
        }
        if self.kept.get(place).is_some_and(|next| next.range().start < end) || self.kept.is_full() {
            return Err(DropReason::Fragment);
        }
        let ecn = self.ecn | 1 << (part.ecn & 3);
        if ecn & ecn::INCAPABLE != 0 && ecn & (ecn::CAPABLE | ecn::CONGESTION) != 0 {
            return Err(DropReason::Fragment);
        }
        self.ecn = ecn;
        if start == 0 {
            self.take_header(part);
        }
        let data = blocks.put(part.data);
        self.kept.insert(place, Kept { start: start as u16, end: end as u16, data });
        self.end = ends.or(self.end);
        self.largest = self.largest.max(part.length);
        if part.dont_fragment {
            self.largest_df = self.largest_df.max(part.length);
        }
        Ok(self.is_whole())
    }

    fn take_header(&mut self, part: &Part<'_, A>) {
        (self.header_length, self.protocol_at) = (part.header.len(), part.protocol.0);
        if let Some(header) = self.header.get_mut(..part.header.len()) {
            header.copy_from_slice(part.header);
        }
        if let Some(protocol) = self.header.get_mut(part.protocol.0) {
            *protocol = part.protocol.1;
        }
    }

    /// True when the data from the fragment at `place` up to `end` is there without a gap.
    fn reaches(&self, place: usize, end: usize) -> bool {
        let Some(first) = self.kept.get(place) else { return false };
        let mut reached = first.range().end;
        for next in self.kept.iter().skip(place + 1) {
            if next.range().start != reached {
                break;
            }
            reached = next.range().end;
        }
        end <= reached
    }

    fn is_whole(&self) -> bool {
        let begins = self.kept.first().is_some_and(|first| first.start == 0);
        self.header_length > 0 && begins && self.end.is_some_and(|end| self.reaches(0, end))
    }

    /// Where in its data fragments began, in order.
    pub(super) fn cuts(&self) -> ArrayVec<usize, FRAGMENTS_MAX> {
        self.kept.iter().map(|kept| kept.range().start).collect()
    }

    /// Congestion was experienced by a fragment that could tell.
    pub(super) const fn congestion(&self) -> bool {
        self.ecn & ecn::CONGESTION != 0
    }

    /// Puts the header and what there is of its data into a buffer, the data from [`DATA`] on.
    pub(super) fn copy_to(&self, buffer: &mut [u8], blocks: &Blocks) {
        self.copy_header(buffer);
        for kept in &self.kept {
            Self::copy_fragment(kept, buffer, blocks);
        }
    }

    fn copy_header(&self, buffer: &mut [u8]) {
        let header = self.header.get(..self.header_length).unwrap_or_default();
        if let Some(place) = buffer.get_mut(DATA - header.len()..DATA) {
            place.copy_from_slice(header);
        }
    }

    fn copy_fragment(kept: &Kept, buffer: &mut [u8], blocks: &Blocks) {
        let Range { start, end } = kept.range();
        if let Some(place) = buffer.get_mut(DATA + start..DATA + end) {
            blocks.copy(kept.data, place);
        }
    }

    /// Makes the first fragment of what is incomplete in a buffer, as it came.
    pub(super) fn restore_first(&self, buffer: &mut [u8], blocks: &Blocks) -> Option<Range<usize>> {
        let key = self.key.filter(|_| self.header_length > 0 && !self.is_whole())?;
        let first = self.kept.first()?;
        self.copy_header(buffer);
        Self::copy_fragment(first, buffer, blocks);
        let header = DATA - self.header_length..DATA;
        let start = A::restore_first_fragment(buffer, header, self.protocol_at, key.identification);
        Some(start..DATA + first.range().end)
    }
}
