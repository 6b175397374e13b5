//! A packet that is too large for its way and may be fragmented (RFC 791, 3.2; RFC 8200, 4.5): its first fragment stays in
//! its place, the others lie here until the worker has sent them.

use arrayvec::ArrayVec;

use crate::id::NicId;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::reassembly;
use crate::wire::ipv6::FRAGMENT_HEADER;
use crate::wire::{array, ethernet, ipv4, ipv6, put};

/// Pieces that a burst leaves at most.
pub const PIECES_MAX: usize = 256;
/// Bytes that they have together at most.
const BYTES_MAX: usize = 128 * 1024;
/// The longest header that is copied in front of each fragment: Ethernet and IPv6 with extension headers.
const HEADER_MAX: usize = ethernet::HEADER + reassembly::HEADER_MAX;

/// The fragments beside the first of the packets of a burst.
#[derive(Debug)]
pub struct Pieces {
    bytes: Vec<u8>,
    pieces: ArrayVec<Piece, PIECES_MAX>,
    /// The packet that is at hand.
    place: usize,
    /// The first piece of that packet.
    first: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Of which packet of the burst.
    place: usize,
    nic: NicId,
    /// Where in `bytes` it lies.
    start: usize,
    end: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(BYTES_MAX), pieces: ArrayVec::new(), place: 0, first: 0 }
    }
}

impl Pieces {
    /// True when there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Each frame, the place of its packet in the burst, and the NIC that it is for.
    pub fn iter(&self) -> impl Iterator<Item = (usize, NicId, &[u8])> {
        let frame = |piece: &Piece| self.bytes.get(piece.start..piece.end).unwrap_or_default();
        self.pieces.iter().map(move |piece| (piece.place, piece.nic, frame(piece)))
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        if !self.pieces.is_empty() {
            self.pieces.clear();
            self.bytes.clear();
        }
    }

    /// The next packet is at this place of the burst.
    pub(super) fn begin(&mut self, place: usize) {
        (self.place, self.first) = (place, self.pieces.len());
    }

    /// Adds a packet itself in front of its pieces.
    ///
    /// # Errors
    /// `FragmentRoom` when the burst left too many already.
    pub(super) fn push_first(&mut self, nic: NicId, frame: &[u8]) -> Result<(), DropReason> {
        if !self.has_room(1, frame.len()) {
            return Err(DropReason::FragmentRoom);
        }
        self.push(nic, frame, &[]);
        if let Some(pieces) = self.pieces.get_mut(self.first..) {
            pieces.rotate_right(1);
        }
        Ok(())
    }

    fn has_room(&self, pieces: usize, bytes: usize) -> bool {
        self.pieces.remaining_capacity() >= pieces && self.bytes.len() + bytes <= BYTES_MAX
    }

    /// Splits the IP packet of a frame that is longer than `mtu` bytes into fragments that are not; `identification` is that of an
    /// IPv6 packet's fragments.
    ///
    /// # Errors
    /// `FragmentRoom` when the burst left too many already, `NoHeadRoom` when a fragment header finds no place, `TooBig`
    /// when no fragment is small enough.
    #[cold]
    pub(super) fn split(
        &mut self,
        packet: &mut Packet<'_>,
        nic: NicId,
        mtu: u16,
        identification: u32,
    ) -> Result<(), DropReason> {
        if packet.len() <= ethernet::HEADER + usize::from(mtu) {
            return Ok(());
        }
        self.cut(packet, nic, Cut::Within(usize::from(mtu)), identification)
    }

    /// Splits the IP packet of a frame, whatever its length; an IPv6 packet into one fragment, when that holds all of it.
    ///
    /// # Errors
    /// As [`Self::split`].
    #[cold]
    pub(super) fn cut(
        &mut self,
        packet: &mut Packet<'_>,
        nic: NicId,
        cut: Cut<'_>,
        identification: u32,
    ) -> Result<(), DropReason> {
        packet.fill_checksum();
        match ethernet::ethertype(packet.bytes()) {
            Some(ethernet::IPV4) => self.cut_v4(packet, nic, cut),
            _ => self.cut_v6(packet, nic, cut, identification),
        }
    }

    fn cut_v4(&mut self, packet: &mut Packet<'_>, nic: NicId, cut: Cut<'_>) -> Result<(), DropReason> {
        let frame = packet.bytes();
        let first = frame.get(ethernet::HEADER).copied().unwrap_or(0);
        let length = usize::from(first & 0x0f) * 4;
        let start = ethernet::HEADER + length;
        let word = array(frame, ethernet::HEADER + ipv4::field::FRAGMENT).map_or(0, u16::from_be_bytes);
        let mut head = Head::of(frame, start)?;
        let data = frame.get(start..).unwrap_or_default();
        let cut = cut.of_data(length);
        let first = self.first_of(&cut, data.len())?;
        // Options that every fragment has keep their place, the others make room for nothing (kernel:
        // `ip_options_fragment`).
        let mut later = head.clone();
        blank_options(later.bytes.get_mut(ethernet::HEADER + ipv4::HEADER..start).unwrap_or_default());
        let mut offset = first;
        while let Some(rest) = data.get(offset..).filter(|rest| !rest.is_empty()) {
            let (data, after) = rest.split_at(cut.length(offset, rest.len()));
            let more = if after.is_empty() { word & ipv4::MORE_FRAGMENTS } else { ipv4::MORE_FRAGMENTS };
            later
                .number_v4(data.len(), word.wrapping_add((offset / 8) as u16) & !ipv4::MORE_FRAGMENTS | more);
            self.push(nic, later.frame(), data);
            offset += data.len();
        }
        let more = if first < data.len() { ipv4::MORE_FRAGMENTS } else { 0 };
        head.number_v4(first, word | more);
        packet.truncate(start + first);
        put_front(packet, head.frame());
        Ok(())
    }

    fn cut_v6(
        &mut self,
        packet: &mut Packet<'_>,
        nic: NicId,
        cut: Cut<'_>,
        identification: u32,
    ) -> Result<(), DropReason> {
        let frame = packet.bytes();
        let (header, named_at) = ipv6::unfragmentable(frame.get(ethernet::HEADER..).unwrap_or_default());
        let start = ethernet::HEADER + header;
        let mut head = Head::of(frame, start)?;
        head.add_fragment_header(named_at, identification);
        if packet.start() < FRAGMENT_HEADER {
            return Err(DropReason::NoHeadRoom);
        }
        let data = frame.get(start..).unwrap_or_default();
        let cut = cut.of_data(header + FRAGMENT_HEADER);
        let first = self.first_of(&cut, data.len())?;
        let mut later = head.clone();
        let mut offset = first;
        while let Some(rest) = data.get(offset..).filter(|rest| !rest.is_empty()) {
            let length = cut.length(offset, rest.len());
            later.number_v6(length, offset, length < rest.len());
            self.push(nic, later.frame(), &rest[..length]);
            offset += length;
        }
        head.number_v6(first, 0, first < data.len());
        packet.truncate(start + first);
        if !packet.prepend(FRAGMENT_HEADER) {
            return Err(DropReason::NoHeadRoom);
        }
        put_front(packet, head.frame());
        Ok(())
    }

    /// Bytes of data in the first fragment, when there is room for the others.
    fn first_of(&self, cut: &Cut<'_>, data: usize) -> Result<usize, DropReason> {
        let first = cut.length(0, data);
        if first == 0 && data > 0 {
            return Err(DropReason::TooBig);
        }
        let pieces = match cut {
            Cut::Within(room) => data.div_ceil((room & !7).max(1)),
            Cut::At(cuts) => cuts.len(),
        };
        if self.has_room(pieces, data + pieces * (HEADER_MAX + FRAGMENT_HEADER)) {
            Ok(first)
        } else {
            Err(DropReason::FragmentRoom)
        }
    }

    fn push(&mut self, nic: NicId, head: &[u8], data: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(data);
        self.pieces.push(Piece { place: self.place, nic, start, end: self.bytes.len() });
    }
}

/// Where a packet is cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut<'a> {
    /// So that no fragment is an IP packet of more bytes.
    Within(usize),
    /// Where its data was cut when it came: where in it each fragment begins, in order.
    At(&'a [usize]),
}

impl Cut<'_> {
    /// The same, of the data behind a header.
    const fn of_data(self, header: usize) -> Self {
        match self {
            Self::Within(mtu) => Self::Within(mtu.saturating_sub(header)),
            Self::At(_) => self,
        }
    }

    /// Bytes of the fragment that begins at an offset of the data, with `left` bytes to come: all of them if they fit, else a
    /// multiple of eight (kernel: `ip_frag_next`, `ip6_frag_next`).
    fn length(&self, offset: usize, left: usize) -> usize {
        match *self {
            Self::Within(room) if left <= room => left,
            Self::Within(room) => room & !7,
            Self::At(cuts) => {
                let next = cuts.iter().find(|&&cut| cut > offset);
                next.map_or(left, |next| (next - offset).min(left))
            }
        }
    }
}

/// The headers in front of a fragment's data.
#[derive(Clone)]
struct Head {
    bytes: [u8; HEADER_MAX + FRAGMENT_HEADER],
    length: usize,
}

impl Head {
    /// The first `length` bytes of a frame.
    fn of(frame: &[u8], length: usize) -> Result<Self, DropReason> {
        let mut head = Self { bytes: [0; HEADER_MAX + FRAGMENT_HEADER], length };
        match (head.bytes.get_mut(..length), frame.get(..length)) {
            (Some(place), Some(bytes)) => place.copy_from_slice(bytes),
            _ => return Err(DropReason::TooBig),
        }
        Ok(head)
    }

    fn frame(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// An IPv4 header of a fragment with so much data and this fragment word.
    fn number_v4(&mut self, data: usize, word: u16) {
        let Some(header) = self.bytes.get_mut(ethernet::HEADER..self.length) else { return };
        let total = (header.len() + data) as u16;
        put(header, ipv4::field::TOTAL_LENGTH, total.to_be_bytes());
        put(header, ipv4::field::FRAGMENT, word.to_be_bytes());
        put(header, ipv4::field::CHECKSUM, [0; 2]);
        let checksum = crate::wire::checksum::Sum::of(header).checksum();
        put(header, ipv4::field::CHECKSUM, checksum.to_be_bytes());
    }

    /// A fragment header behind the others, of which the last names what follows at `named_at` in the packet.
    fn add_fragment_header(&mut self, named_at: usize, identification: u32) {
        let next = self.bytes.get(ethernet::HEADER + named_at).copied().unwrap_or_default();
        put(&mut self.bytes, ethernet::HEADER + named_at, [ipv6::FRAGMENT]);
        put(&mut self.bytes, self.length, [next, 0, 0, 0]);
        put(&mut self.bytes, self.length + 4, identification.to_be_bytes());
        self.length += FRAGMENT_HEADER;
    }

    /// The headers of an IPv6 fragment with so much data.
    fn number_v6(&mut self, data: usize, offset: usize, more: bool) {
        let payload = (self.length - ethernet::HEADER - ipv6::HEADER + data) as u16;
        put(&mut self.bytes, ethernet::HEADER + ipv6::field::PAYLOAD_LENGTH, payload.to_be_bytes());
        let word = offset as u16 | u16::from(more);
        put(&mut self.bytes, self.length - FRAGMENT_HEADER + 2, word.to_be_bytes());
    }
}

/// Puts headers over the beginning of a frame that has room for them.
fn put_front(packet: &mut Packet<'_>, head: &[u8]) {
    if let Some(place) = packet.bytes_mut().get_mut(..head.len()) {
        place.copy_from_slice(head);
    }
}

/// Puts "no operation" in the place of options that only the first fragment has (RFC 791, 3.1: the copied flag).
fn blank_options(options: &mut [u8]) {
    const COPIED: u8 = 0x80;
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let length = match kind {
            0 => return,
            1 => 1,
            _ => options.get(at + 1).map_or(0, |&length| usize::from(length)),
        };
        let Some(option) = options.get_mut(at..at + length).filter(|option| !option.is_empty()) else {
            return;
        };
        if kind & COPIED == 0 {
            option.fill(1);
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with an IPv4 packet of `data` bytes behind these options, and room around it.
    fn room(options: &[u8], data: usize, word: u16) -> (Vec<u8>, usize) {
        let mut header = vec![0x45 + (options.len() / 4) as u8, 0];
        header.extend(((20 + options.len() + data) as u16).to_be_bytes());
        header.extend([0, 9]);
        header.extend(word.to_be_bytes());
        header.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        header.extend(options);
        let mut frame = vec![0xee; 12];
        frame.extend([8, 0]);
        frame.extend(header);
        frame.extend((0..data).map(|n| n as u8));
        (frame, 14)
    }

    fn fragments(mut frame: Vec<u8>, mtu: u16) -> Vec<Vec<u8>> {
        let length = frame.len();
        let mut pieces = Pieces::default();
        let mut packet = Packet::new(&mut frame, 0, length, NicId(0));
        pieces.split(&mut packet, NicId(1), mtu, 0).unwrap();
        let first = packet.bytes().to_vec();
        std::iter::once(first).chain(pieces.iter().map(|(_, _, frame)| frame.to_vec())).collect()
    }

    #[test]
    fn fragments_hold_all_of_it_in_order() {
        for (data, mtu, word) in [(1400, 576, 0), (1401, 100, 0), (560, 560, 0x2000 | 100), (64, 68, 7)] {
            let (frame, _) = room(&[], data, word);
            let offset_of =
                |frame: &[u8]| usize::from(u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff) * 8;
            let all = fragments(frame.clone(), mtu);
            let mut at = offset_of(&frame);
            for (number, piece) in all.iter().enumerate() {
                assert!(piece.len() <= 14 + usize::from(mtu));
                assert!(crate::wire::checksum::Sum::of(&piece[14..34]).holds());
                assert_eq!(usize::from(u16::from_be_bytes([piece[16], piece[17]])), piece.len() - 14);
                assert_eq!(offset_of(piece), at);
                let last = number + 1 == all.len();
                assert_eq!(piece[20] & 0x20 != 0, !last || word & 0x2000 != 0, "more fragments");
                at += piece.len() - 34;
            }
            let data = all.iter().flat_map(|piece| &piece[34..]).copied().collect::<Vec<_>>();
            assert_eq!(data, frame[34..]);
        }
    }

    #[test]
    fn options_that_are_not_copied_stay_in_the_first() {
        let options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0];
        let (frame, _) = room(&options, 400, 0);
        let all = fragments(frame, 200);
        assert_eq!(all[0][34..46], options);
        assert_eq!(all[1][34..46], [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0]);
    }

    #[test]
    fn a_burst_leaves_so_many_and_no_more() {
        let mut pieces = Pieces::default();
        let mut refused = 0;
        for _ in 0..64 {
            let (mut frame, _) = room(&[], 8000, 0);
            let length = frame.len();
            let mut packet = Packet::new(&mut frame, 0, length, NicId(0));
            match pieces.split(&mut packet, NicId(1), 576, 0) {
                Ok(()) => assert_eq!(refused, 0),
                Err(reason) => {
                    assert_eq!((reason, packet.len()), (DropReason::FragmentRoom, length));
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 && pieces.bytes.capacity() == BYTES_MAX);
        pieces.clear();
        assert!(pieces.is_empty() && pieces.iter().next().is_none());
    }
}
