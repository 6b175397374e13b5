//! Datagrams of which fragments came (RFC 791, 3.2; RFC 8200, 4.5; kernel: `ip_frag_queue`, `ip6_frag_queue`): bounded in
//! number, size and time. A fragment that overlaps another ends its datagram (RFC 5722, 3).

use std::ops::Range;

use arrayvec::ArrayVec;

use crate::id::NicId;
use crate::reason::DropReason;
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};
use crate::wire::{IpVersion, LARGEST_PACKET, ipv4};

/// Datagrams of a worker and family that are incomplete at a time; a new one beyond them ends the oldest.
pub const DATAGRAMS_MAX: usize = 32;
/// Fragments of a datagram.
pub const FRAGMENTS_MAX: usize = 64;
/// The longest header that a datagram may have, IPv4 options and extension headers in front of the fragment header included.
pub const HEADER_MAX: usize = 128;
/// How long an incomplete IPv4 datagram is kept (kernel: `ipfrag_time`).
pub const KEPT_V4: Ticks = Ticks(30 * TICKS_PER_SECOND);
/// How long an incomplete IPv6 datagram is kept (kernel: `ip6frag_time`).
pub const KEPT_V6: Ticks = Ticks(60 * TICKS_PER_SECOND);

/// Bytes of data in the largest datagram.
const DATA_MAX: usize = LARGEST_PACKET as usize - ipv4::HEADER;
/// Where data starts in a buffer: behind room for all that can come in front.
const DATA: usize = 256;

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification.
    pub identification: u32,
    /// IPv4: the protocol.
    pub protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, A> {
    /// Of which datagram.
    pub key: Key<A>,
    /// The IP header, without fragment header.
    pub header: &'a [u8],
    /// Where in the header the protocol stands, and which it is.
    pub protocol: (usize, u8),
    /// Where in the datagram its data belongs, in bytes.
    pub offset: usize,
    /// It is not the last.
    pub more: bool,
    /// Its data.
    pub data: &'a [u8],
    /// Bytes of its IP packet.
    pub length: u16,
    /// IPv4: DF.
    pub dont_fragment: bool,
    /// ECN bits.
    pub ecn: u8,
}

/// The place of a whole datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It waits for the others.
    Kept,
    /// The datagram is whole.
    Whole(Place),
}

/// A datagram that may lack something.
#[derive(Debug)]
struct Datagram<A> {
    /// None when there is none.
    key: Option<Key<A>>,
    bytes: Vec<u8>,
    /// Bytes of its header; 0 before the first fragment came.
    header: usize,
    /// Where in the header the protocol stands.
    protocol_at: usize,
    /// Bytes of the first fragment's data.
    first: usize,
    /// Where the latest fragment came in.
    nic: NicId,
    /// Bytes of its data; none before the last fragment came.
    end: Option<usize>,
    /// What of the data is there, in order and apart from each other.
    there: ArrayVec<(usize, usize), FRAGMENTS_MAX>,
    /// Where fragments began, in order.
    cuts: ArrayVec<usize, FRAGMENTS_MAX>,
    /// Bytes of the largest fragment's IP packet, and of the largest with DF.
    largest: u16,
    largest_df: u16,
    /// Which ECN values came, one bit each.
    ecn: u8,
    until: Tick,
}

/// A whole datagram, in a buffer with room in front.
#[derive(Debug)]
pub struct Whole {
    /// The buffer: an IP packet with room for an Ethernet header, and more, in front.
    pub bytes: Vec<u8>,
    /// Where the IP packet starts.
    pub start: usize,
    /// Bytes of it.
    pub length: usize,
    /// Bytes of its header.
    pub header: usize,
    /// Bytes of the largest fragment that it was put together from.
    pub largest: u16,
    /// The largest had DF.
    pub dont_fragment: bool,
    /// Congestion was experienced by one that could tell.
    pub congestion: bool,
    /// Where in its data fragments began, in order.
    pub cuts: ArrayVec<usize, FRAGMENTS_MAX>,
}

/// A datagram whose time is over, in a buffer with room in front.
#[derive(Debug)]
pub struct Overdue {
    /// For [`Reassembly::give_back`].
    pub place: Place,
    /// Where its latest fragment came in.
    pub nic: NicId,
    /// The buffer.
    pub bytes: Vec<u8>,
    /// Where in it the IP packet of the first fragment lies, as it came; none when that never came.
    pub first: Option<Range<usize>>,
}

/// The incomplete datagrams of a worker and family.
#[derive(Debug)]
pub struct Reassembly<A> {
    datagrams: Box<[Datagram<A>]>,
    /// Before this the time of none of them is over; none when there are none.
    soonest: Option<Tick>,
}

impl<A: IpVersion> Default for Reassembly<A> {
    /// None; memory for all of them is taken here, and touched when it is needed.
    fn default() -> Self {
        Self { datagrams: (0..DATAGRAMS_MAX).map(|_| Datagram::empty()).collect(), soonest: None }
    }
}

impl<A: IpVersion> Reassembly<A> {
    const KEPT: Ticks = if A::BITS > 32 { KEPT_V6 } else { KEPT_V4 };

    /// Takes a fragment that came in at `nic`. `given_up` is called for each datagram that ends incomplete.
    ///
    /// # Errors
    /// `Fragment` when it does not fit the others, whose datagram ends then.
    pub fn add(
        &mut self,
        part: &Part<'_, A>,
        nic: NicId,
        now: Tick,
        mut given_up: impl FnMut(),
    ) -> Result<Added, DropReason> {
        let mut found = None;
        let mut free = None;
        let mut oldest = (0, u32::MAX);
        for (place, datagram) in self.datagrams.iter().enumerate() {
            let Some(key) = &datagram.key else {
                free = Some(place);
                continue;
            };
            if *key == part.key {
                found = Some(place);
            } else if datagram.until.remaining(now).0 < oldest.1 {
                oldest = (place, datagram.until.remaining(now).0);
            }
        }
        let place = match (found, free) {
            (Some(place), _) => place,
            (None, Some(place)) => place,
            (None, None) => {
                given_up();
                oldest.0
            }
        };
        let datagram = &mut self.datagrams[place];
        if found.is_none() {
            let until = now.after(Self::KEPT);
            datagram.begin(part.key, until);
            self.soonest.get_or_insert(until);
        }
        datagram.nic = nic;
        match datagram.add(part) {
            Ok(true) => Ok(Added::Whole(Place(place))),
            Ok(false) => Ok(Added::Kept),
            Err(reason) => {
                datagram.key = None;
                given_up();
                Err(reason)
            }
        }
    }

    /// Lends a whole datagram out; it stays until it is [given back](Self::give_back).
    pub fn lend(&mut self, place: Place) -> Whole {
        let datagram = &mut self.datagrams[place.0];
        let end = datagram.end.unwrap_or(0);
        Whole {
            bytes: std::mem::take(&mut datagram.bytes),
            start: DATA - datagram.header,
            length: datagram.header + end,
            header: datagram.header,
            largest: datagram.largest,
            dont_fragment: datagram.largest_df == datagram.largest,
            congestion: datagram.ecn & ecn::CONGESTION != 0,
            cuts: datagram.cuts.clone(),
        }
    }

    /// Lends out a datagram whose time is over, which ends when it is [given back](Self::give_back); none when there is no such.
    #[inline]
    pub fn overdue(&mut self, now: Tick) -> Option<Overdue> {
        if self.soonest?.has_come(now) { self.find_overdue(now) } else { None }
    }

    #[cold]
    fn find_overdue(&mut self, now: Tick) -> Option<Overdue> {
        let there = |datagram: &&mut Datagram<A>| datagram.key.is_some();
        let untils = self.datagrams.iter_mut().filter(there).map(|datagram| datagram.until);
        self.soonest = untils.min_by_key(|until| until.remaining(now).0);
        if !self.soonest?.has_come(now) {
            return None;
        }
        let is_over = |datagram: &Datagram<A>| datagram.key.is_some() && datagram.until.has_come(now);
        let place = self.datagrams.iter().position(is_over)?;
        let datagram = &mut self.datagrams[place];
        let first = datagram.first_fragment();
        Some(Overdue {
            place: Place(place),
            nic: datagram.nic,
            bytes: std::mem::take(&mut datagram.bytes),
            first,
        })
    }

    /// Takes the buffer of a datagram back, which ends unless it is `kept` for its last fragment to come again. A buffer
    /// that was written to otherwise than by rewriting headers cannot be kept.
    pub fn give_back(&mut self, place: Place, bytes: Vec<u8>, kept: bool) {
        let datagram = &mut self.datagrams[place.0];
        datagram.bytes = bytes;
        if !kept {
            datagram.key = None;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.iter().filter(|datagram| datagram.key.is_some()).count()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// ECN values as bits of a set (RFC 3168, 5).
mod ecn {
    pub const INCAPABLE: u8 = 1;
    pub const CAPABLE: u8 = 1 << 1 | 1 << 2;
    pub const CONGESTION: u8 = 1 << 3;
}

impl<A: IpVersion> Datagram<A> {
    fn empty() -> Self {
        Self {
            key: None,
            bytes: vec![0; DATA + DATA_MAX],
            header: 0,
            protocol_at: 0,
            first: 0,
            nic: NicId(0),
            end: None,
            there: ArrayVec::new(),
            cuts: ArrayVec::new(),
            largest: 0,
            largest_df: 0,
            ecn: 0,
            until: Tick(0),
        }
    }

    fn begin(&mut self, key: Key<A>, until: Tick) {
        self.key = Some(key);
        (self.header, self.end, self.until) = (0, None, until);
        (self.largest, self.largest_df, self.ecn) = (0, 0, 0);
        self.there.clear();
        self.cuts.clear();
    }

    /// Takes a fragment; true when nothing is missing then.
    fn add(&mut self, part: &Part<'_, A>) -> Result<bool, DropReason> {
        let (start, end) = (part.offset, part.offset + part.data.len());
        let ends = (!part.more).then_some(end);
        let header = if start == 0 { part.header.len() } else { self.header };
        let last_known = self.end.is_some_and(|known| ends.is_some_and(|end| end != known) || end > known);
        let behind = ends.is_some() && self.there.last().is_some_and(|last| last.1 > end);
        let uneven = part.more && part.data.len() % 8 != 0;
        if last_known || behind || uneven || end > DATA_MAX || header > HEADER_MAX {
            return Err(DropReason::Fragment);
        }
        let place = self.there.partition_point(|there| there.1 <= start);
        let next = self.there.get(place).copied();
        // One that came before comes again.
        if next.is_some_and(|(from, to)| from <= start && end <= to) {
            return Ok(self.is_whole());
        }
        if next.is_some_and(|(from, _)| from < end) || self.cuts.is_full() {
            return Err(DropReason::Fragment);
        }
        let ecn = self.ecn | 1 << (part.ecn & 3);
        if ecn & ecn::INCAPABLE != 0 && ecn & (ecn::CAPABLE | ecn::CONGESTION) != 0 {
            return Err(DropReason::Fragment);
        }
        self.ecn = ecn;
        self.put(part, start, end);
        self.end = ends.or(self.end);
        self.note(place, start, end);
        self.largest = self.largest.max(part.length);
        if part.dont_fragment {
            self.largest_df = self.largest_df.max(part.length);
        }
        Ok(self.is_whole())
    }

    /// Makes the first fragment of what is incomplete as it came.
    fn first_fragment(&mut self) -> Option<Range<usize>> {
        let key = self.key.filter(|_| self.header > 0 && !self.is_whole())?;
        let header = DATA - self.header..DATA;
        let start = A::restore_first_fragment(&mut self.bytes, header, self.protocol_at, key.identification);
        Some(start..DATA + self.first)
    }

    fn is_whole(&self) -> bool {
        let all = |&(from, to): &(usize, usize)| from == 0 && Some(to) == self.end;
        self.header > 0 && self.there.len() == 1 && self.there.first().is_some_and(all)
    }

    fn put(&mut self, part: &Part<'_, A>, start: usize, end: usize) {
        if let Some(place) = self.bytes.get_mut(DATA + start..DATA + end) {
            place.copy_from_slice(part.data);
        }
        if start == 0 {
            (self.header, self.protocol_at, self.first) = (part.header.len(), part.protocol.0, end);
            let header = self.bytes.get_mut(DATA - self.header..DATA).unwrap_or_default();
            header.copy_from_slice(part.header);
            if let Some(protocol) = header.get_mut(part.protocol.0) {
                *protocol = part.protocol.1;
            }
        }
    }

    /// Notes that the data from `start` to `end` is there now; `place` is that of what follows.
    fn note(&mut self, place: usize, start: usize, end: usize) {
        let cut = self.cuts.partition_point(|&cut| cut < start);
        self.cuts.insert(cut, start);
        let after = self.there.get(place).is_some_and(|there| there.0 == end);
        let before = place > 0 && self.there.get(place - 1).is_some_and(|there| there.1 == start);
        match (before, after) {
            (true, true) => {
                let (_, to) = self.there.remove(place);
                self.there[place - 1].1 = to;
            }
            (true, false) => self.there[place - 1].1 = end,
            (false, true) => self.there[place].0 = start,
            (false, false) => self.there.insert(place, (start, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn part(identification: u32, offset: usize, data: &[u8], more: bool) -> Part<'_, Ipv4Addr> {
        const HEADER: [u8; 20] = [7; 20];
        Part {
            key: Key {
                source: Ipv4Addr::new(198, 51, 100, 1),
                destination: Ipv4Addr::new(192, 0, 2, 10),
                identification,
                protocol: 17,
            },
            header: &HEADER,
            protocol: (9, 17),
            offset,
            more,
            data,
            length: (20 + data.len()) as u16,
            dont_fragment: false,
            ecn: 0,
        }
    }

    fn whole(reassembly: &mut Reassembly<Ipv4Addr>, added: Result<Added, DropReason>) -> (Vec<u8>, Whole) {
        let Ok(Added::Whole(place)) = added else { panic!("{added:?}") };
        let mut whole = reassembly.lend(place);
        let data = whole.bytes[whole.start..whole.start + whole.length].to_vec();
        reassembly.give_back(place, std::mem::take(&mut whole.bytes), false);
        assert!(reassembly.is_empty());
        (data, whole)
    }

    proptest! {
        #[test]
        fn whole_in_any_order(
            sizes in proptest::collection::vec(1_usize..40, 2..30),
            order in any::<u64>(),
            twice in any::<prop::sample::Index>(),
        ) {
            let data = (0..sizes.iter().sum::<usize>() * 8).map(|n| (n * 7) as u8).collect::<Vec<_>>();
            let mut cut = 0;
            let mut parts = Vec::new();
            for size in &sizes {
                parts.push((cut, cut + size * 8));
                cut += size * 8;
            }
            let twice = parts[twice.index(parts.len())];
            let mut shuffled = parts.clone();
            for place in (1..shuffled.len()).rev() {
                shuffled.swap(place, (order >> (place % 48)) as usize % (place + 1));
            }
            let mut reassembly = Reassembly::<Ipv4Addr>::default();
            let mut added = Ok(Added::Kept);
            for (number, (from, to)) in shuffled.into_iter().enumerate() {
                prop_assert_eq!(added, Ok(Added::Kept));
                added = reassembly.add(&part(1, from, &data[from..to], to < cut), NicId(0), Tick(0), || panic!());
                if (from, to) == twice && number + 1 < parts.len() {
                    let again = reassembly.add(&part(1, from, &data[from..to], to < cut), NicId(0), Tick(0), || panic!());
                    prop_assert_eq!(again, Ok(Added::Kept), "one that comes twice");
                }
            }
            let (found, whole) = whole(&mut reassembly, added);
            prop_assert_eq!(&found[..9], &[7; 9]);
            prop_assert_eq!(found[9], 17);
            prop_assert_eq!(&found[20..], &data[..]);
            prop_assert_eq!(&whole.cuts[..], &parts.iter().map(|part| part.0).collect::<Vec<_>>()[..]);
            prop_assert_eq!(usize::from(whole.largest), 20 + sizes.iter().max().unwrap() * 8);
        }
    }

    #[test]
    fn what_does_not_fit_ends_the_datagram() {
        let first = part(1, 0, &[1; 16], true);
        for (what, second) in [
            ("overlaps its end", part(1, 8, &[2; 16], false)),
            ("overlaps its beginning", part(1, 0, &[2; 24], true)),
            ("ends within", part(1, 0, &[2; 8], false)),
            ("is no multiple of eight", part(1, 24, &[2; 7], true)),
            ("is too long", part(1, 65528, &[2; 8], false)),
            ("can tell of congestion", Part { ecn: 2, ..part(1, 16, &[2; 8], false) }),
        ] {
            let mut reassembly = Reassembly::default();
            let mut given_up = 0;
            assert_eq!(reassembly.add(&first, NicId(0), Tick(0), || given_up += 1), Ok(Added::Kept));
            assert_eq!(
                reassembly.add(&second, NicId(0), Tick(0), || given_up += 1),
                Err(DropReason::Fragment),
                "{what}"
            );
            assert!(reassembly.is_empty() && given_up == 1);
        }
        let mut reassembly = Reassembly::default();
        let last = part(1, 16, &[1; 5], false);
        assert_eq!(reassembly.add(&last, NicId(0), Tick(0), || ()), Ok(Added::Kept));
        let beyond = part(1, 24, &[1; 8], true);
        assert_eq!(reassembly.add(&beyond, NicId(0), Tick(0), || ()), Err(DropReason::Fragment));
    }

    #[test]
    fn congestion_and_df_are_those_of_all() {
        let mut reassembly = Reassembly::default();
        let large = Part { dont_fragment: true, ecn: 2, ..part(1, 0, &[1; 16], true) };
        assert_eq!(reassembly.add(&large, NicId(0), Tick(0), || ()), Ok(Added::Kept));
        let small = Part { ecn: 3, ..part(1, 16, &[1; 5], false) };
        let added = reassembly.add(&small, NicId(0), Tick(0), || ());
        let (_, whole) = whole(&mut reassembly, added);
        assert!(whole.dont_fragment && whole.congestion);
    }

    #[test]
    fn bounded_in_number_and_in_time() {
        let mut reassembly = Reassembly::default();
        let mut given_up = 0;
        for number in 0..DATAGRAMS_MAX as u32 + 3 {
            let added =
                reassembly.add(&part(number, 0, &[1; 8], true), NicId(0), Tick(number), || given_up += 1);
            assert_eq!(added, Ok(Added::Kept));
        }
        assert_eq!((given_up, reassembly.len()), (3, DATAGRAMS_MAX), "the oldest went");
        assert!(reassembly.overdue(Tick(KEPT_V4.0 + 2)).is_none());
        for ended in 1..=DATAGRAMS_MAX {
            let late = Tick(KEPT_V4.0 + DATAGRAMS_MAX as u32 + 2);
            let overdue = reassembly.overdue(late).unwrap();
            assert_eq!(overdue.first, Some(DATA - 20..DATA + 8));
            reassembly.give_back(overdue.place, overdue.bytes, false);
            assert_eq!(reassembly.len(), DATAGRAMS_MAX - ended);
            assert_eq!(reassembly.overdue(late).is_none(), reassembly.is_empty());
        }
    }
}
