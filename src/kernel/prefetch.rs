//! Memory that is asked for before it is needed.

/// How far behind what is being read memory is asked for: about what is computed in the time that memory takes to
/// answer. Processors follow a stream by themselves, but not from one page of 4 KiB to the next.
pub(crate) const AHEAD_BYTES: usize = 8192;

/// Asks for `bytes` from `start` on. A hint, which changes no result: any address will do.
#[inline(always)]
pub(crate) fn prefetch<E>(start: *const E, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast::<i8>().wrapping_add(line)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes);
}
