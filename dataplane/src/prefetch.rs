//! Asking for memory before it is needed. The only `unsafe` of this crate: a burst whose table lines are fetched
//! together waits for memory about once, not once for each packet.
#![allow(unsafe_code)]

/// Asks the processor to bring the cache line of `value`'s first byte near. Changes nothing else.
#[inline(always)]
pub fn read<T>(value: &T) {
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
