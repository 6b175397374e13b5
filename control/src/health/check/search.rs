//! A pattern searched for in what comes in pieces, of any length. No I/O.

use std::ops::RangeInclusive;

use shunt_model::health::kind::Pattern;

/// The longest that can be found, in bytes: so much of what came before is kept.
pub const FOUND_MAX: usize = 1 << 20;

/// What has come, and whether the pattern was in it.
#[derive(Debug)]
pub struct Finder<'a> {
    pattern: &'a Pattern,
    begins: RangeInclusive<usize>,
    /// What may still be a part of it.
    kept: Vec<u8>,
    /// The bytes that came before those.
    dropped: usize,
    /// How many bytes of `kept` have to be there before it is looked at again.
    look: usize,
    found: bool,
}

impl<'a> Finder<'a> {
    /// Looks for a pattern that begins there, in bytes from the first one.
    #[must_use]
    pub fn new(pattern: &'a Pattern, begins: RangeInclusive<usize>) -> Self {
        Self { pattern, begins, kept: Vec::new(), dropped: 0, look: 0, found: false }
    }

    /// Takes what came.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(FOUND_MAX) {
            if self.found {
                return;
            }
            self.kept.extend_from_slice(piece);
            if self.kept.len() >= 2 * FOUND_MAX {
                self.look(false);
                self.drop_old();
            } else if self.kept.len() >= self.look {
                self.look(false);
                // What is long is not searched through again for each piece.
                self.look = 2 * self.kept.len();
            }
        }
    }

    /// Whether it was found, whatever may still come.
    #[must_use]
    pub const fn found(&self) -> bool {
        self.found
    }

    /// Whether it was found in all that came.
    #[must_use]
    pub fn end(&mut self) -> bool {
        self.look(true);
        self.found
    }

    fn look(&mut self, all: bool) {
        let (first, last) = (*self.begins.start(), *self.begins.end());
        // A beginning of lines or texts is none where something was dropped.
        let from = first.saturating_sub(self.dropped).max(usize::from(self.dropped > 0));
        if self.found || last < self.dropped || from > self.kept.len() {
            return;
        }
        self.found = (all || self.pattern.is_certain(&self.kept, from))
            && self.pattern.first_from(&self.kept, from).is_some_and(|start| start + self.dropped <= last);
    }

    /// Only the newer half is kept.
    fn drop_old(&mut self) {
        let old = self.kept.len() - FOUND_MAX;
        self.kept.drain(..old);
        self.dropped += old;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regex(text: &str) -> Pattern {
        Pattern::regex(text).unwrap()
    }

    fn find(pattern: &Pattern, begins: RangeInclusive<usize>, pieces: &[&[u8]]) -> (bool, bool) {
        let mut finder = Finder::new(pattern, begins);
        pieces.iter().for_each(|piece| finder.take(piece));
        (finder.found(), finder.end())
    }

    #[test]
    fn what_is_there_early_is_found_early_and_an_end_is_an_end() {
        const ALL: RangeInclusive<usize> = 0..=usize::MAX;
        for (pattern, pieces, found) in [
            (Pattern::literal("well"), &["all we", "ll, and more"][..], (true, true)),
            (Pattern::literal("well"), &["all well"], (true, true)),
            (regex("w.*"), &["all well, and"], (true, true)),
            (regex("well"), &["all well"], (false, true)),
            (regex("well$"), &["all well"], (false, true)),
            (regex("well$"), &["all well", ", and more"], (false, false)),
            (regex(r"well\b"), &["all well", "ington"], (false, false)),
            (regex("^and"), &["all well", "and more"], (false, false)),
            (regex(""), &["", "12345"], (true, true)),
        ] {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            assert_eq!(find(&pattern, ALL, &pieces), found, "{pattern} in {pieces:?}");
        }
        assert_eq!(find(&regex("well"), 0..=3, &[b"all well, and more"]), (false, false));
        assert_eq!(find(&regex("well"), 0..=4, &[b"all well, and more"]), (true, true));
        assert_eq!(find(&regex("well"), 5..=usize::MAX, &[b"all well, and more"]), (false, false));
    }

    #[test]
    fn a_long_text_is_searched_to_its_end_in_bounded_memory() {
        let filler = vec![b'x'; 100_000];
        let pattern = regex("one.*two");
        let mut finder = Finder::new(&pattern, 0..=usize::MAX);
        for number in 0..200 {
            finder.take(&filler);
            assert!(finder.kept.len() <= 2 * FOUND_MAX + filler.len(), "after {number} pieces");
        }
        finder.take(b"on");
        finder.take(b"e");
        for _ in 0..FOUND_MAX / filler.len() - 1 {
            finder.take(&filler);
        }
        finder.take(b"two");
        assert!(finder.end());
        // A beginning is only where it all began.
        let begins = regex("^x{10}y");
        let mut finder = Finder::new(&begins, 0..=usize::MAX);
        (0..50).for_each(|_| finder.take(&filler));
        finder.take(b"xxxxxxxxxxy");
        assert!(!finder.end());
    }

    proptest! {
        #[test]
        fn wherever_it_is_cut_the_same_is_found(
            text in "[abw\n ]{0,40}",
            pattern in prop::sample::select(vec!["a.b", "^a", "b$", r"\bw", r"w\b", "(?m)^b", "a+", "w.*a", ""]),
            first in 0..10_usize,
            last in prop::sample::select(vec![0, 5, 12, usize::MAX]),
            places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let pattern = regex(pattern);
            let mut places: Vec<usize> = places.iter().map(|place| place.index(text.len() + 1)).collect();
            places.sort_unstable();
            let ends: Vec<usize> = places.iter().copied().chain([text.len()]).collect();
            let begins = [0].into_iter().chain(places);
            let pieces: Vec<&[u8]> = begins.zip(ends).map(|(begin, end)| &text.as_bytes()[begin..end]).collect();
            let whole = pattern.first_from(text.as_bytes(), first).is_some_and(|start| start <= last);
            let (early, at_end) = find(&pattern, first..=last, &pieces);
            prop_assert_eq!(at_end, whole);
            prop_assert!(!early || whole);
        }
    }
}
