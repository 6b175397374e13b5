//! What the language does not say to the processor: fetch memory before it is needed, compare a line of words at once,
//! put a table on huge pages. The only `unsafe` of this crate, and what it buys is in `docs/performance.md`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
