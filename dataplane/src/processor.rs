//! What the language does not say to the processor: fetch memory before it is needed, compare a line of words at once,
//! put a table on huge pages. The only `unsafe` of this crate, and what it buys is in `docs/decisions.md`.
#![allow(unsafe_code)]

/// Asks the processor to bring the cache line of `value`'s first byte near. Changes nothing else.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch neither faults nor changes what the program sees, whatever
        // the address; this one comes from a reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// The words that equal `word` in the bits of `mask`, one bit each, the first word's lowest.
#[inline(always)]
pub fn equal_words(words: &[u32; 16], word: u32, mask: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    {
        use std::arch::x86_64::{
            __m256i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_loadu_si256,
            _mm256_movemask_ps, _mm256_set1_epi32,
        };
        // SAFETY: AVX2 is there, by the condition above. Both loads read eight of the sixteen words that the reference
        // is good for, and ask for no alignment.
        unsafe {
            let mask = _mm256_set1_epi32(mask as i32);
            let word = _mm256_and_si256(_mm256_set1_epi32(word as i32), mask);
            let half = |at: usize| {
                let words = _mm256_loadu_si256(words.as_ptr().add(at).cast::<__m256i>());
                let equal = _mm256_cmpeq_epi32(_mm256_and_si256(words, mask), word);
                _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u32
            };
            half(0) | half(8) << 8
        }
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    {
        let mut equal = 0;
        for (place, &value) in words.iter().enumerate() {
            equal |= if (value ^ word) & mask == 0 { 1 << place } else { 0 };
        }
        equal
    }
}

/// A table of `count` times `value`, on huge pages where the system gives them to those who ask (`madvise` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`): a random look into a large table then costs one miss, not two.
pub fn large_table<T: Clone>(value: &T, count: usize) -> Box<[T]> {
    let mut table = Vec::with_capacity(count);
    advise_huge_pages(table.spare_capacity_mut());
    table.resize(count, value.clone());
    table.into()
}

/// Asks for huge pages under memory that was not touched yet. It is advice: nothing is lost when it is not taken.
fn advise_huge_pages<T>(memory: &mut [std::mem::MaybeUninit<T>]) {
    const HUGE_PAGE: usize = 2 << 20;
    let bytes = memory.as_mut_ptr_range();
    let start = (bytes.start as usize).next_multiple_of(HUGE_PAGE);
    let end = bytes.end as usize / HUGE_PAGE * HUGE_PAGE;
    if start < end {
        // SAFETY: whole pages within memory that this exclusive reference is good for; MADV_HUGEPAGE changes neither its
        // contents nor what may be done with it (madvise(2)).
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_table_holds_what_was_asked_for() {
        for count in [0, 1, 1000, 5 << 20] {
            let table = large_table(&7_u8, count);
            assert!(table.len() == count && table.iter().all(|&value| value == 7));
        }
    }

    #[test]
    fn equal_words_are_found_by_the_bits_of_the_mask() {
        let words: [u32; 16] = std::array::from_fn(|place| 0x100 * (place as u32 % 3) + place as u32);
        for mask in [u32::MAX, 0xff00, 0x00ff, 0] {
            for word in words.into_iter().chain([0x5555]) {
                let want = (0..16).filter(|&place| (words[place] ^ word) & mask == 0);
                let want = want.fold(0, |bits, place| bits | 1 << place);
                assert_eq!(equal_words(&words, word, mask), want, "{word:x} {mask:x}");
            }
        }
    }
}
