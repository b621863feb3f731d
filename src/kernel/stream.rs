//! Stores that bypass the caches.
//!
//! A store to memory that is not in a cache first reads it, to keep what it does not overwrite. A result that is larger
//! than the caches is written whole and not read again soon: whole cache lines of it go to memory as they are.

/// Bytes in a cache line.
pub(crate) const LINE: usize = 64;

/// How many elements from `start` on belong to a cache line that begins before it.
#[inline(always)]
pub(crate) fn to_next_line<E>(start: *const E) -> usize {
    start.addr().wrapping_neg() % LINE / size_of::<E>()
}

/// Copies elements, whole lines past the caches. [`fence`] comes after the last one.
#[inline(always)]
pub(crate) fn stream<E: Copy>(from: &[E], to: &mut [E]) {
    let head = to_next_line(to.as_ptr()).min(to.len());
    let (first, from) = from.split_at(head);
    let (begun, to) = to.split_at_mut(head);
    begun.copy_from_slice(first);
    let each = LINE / size_of::<E>();
    let (lines, mut places) = (from.chunks_exact(each), to.chunks_exact_mut(each));
    let last = lines.remainder();
    for (from, to) in lines.zip(&mut places) {
        stream_line(from, to);
    }
    places.into_remainder().copy_from_slice(last);
}

/// One line, to its place.
#[inline(always)]
fn stream_line<E: Copy>(from: &[E], to: &mut [E]) {
    debug_assert!(size_of_val(from) == LINE && size_of_val(to) == LINE && to_next_line(to.as_ptr()) == 0);
    #[cfg(target_arch = "x86_64")]
    for part in 0..4 {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
        // SAFETY: both are of 64 bytes, and `to` begins a cache line; every x86-64 processor has both instructions.
        unsafe {
            let quarter = _mm_loadu_si128(from.as_ptr().cast::<std::arch::x86_64::__m128i>().add(part));
            _mm_stream_si128(to.as_mut_ptr().cast::<std::arch::x86_64::__m128i>().add(part), quarter);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Makes what was streamed visible to other threads before anything that follows.
#[inline(always)]
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_streamed_arrives_wherever_it_begins_and_ends() {
        let from: Vec<u16> = (0..300).collect();
        for start in 0..40 {
            for len in [0, 1, 20, 31, 32, 33, 100, 250] {
                let mut to = vec![9_999; 300];
                stream(&from[start / 2..start / 2 + len], &mut to[start..start + len]);
                fence();
                let expected = |i: usize| {
                    if (start..start + len).contains(&i) { from[i - start + start / 2] } else { 9_999 }
                };
                assert!(to.iter().enumerate().all(|(i, x)| *x == expected(i)), "{start} {len}");
            }
        }
    }
}
