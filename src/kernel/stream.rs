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

/// Pieces of several sequences, each streamed by whole lines: what a piece leaves of its last line waits for the piece
/// that follows it in memory. Where none does, it is stored: before another piece of its sequence, and at the end.
#[derive(Debug)]
pub(crate) struct Pieces<E: Copy> {
    /// Of each sequence where the elements that wait belong, a whole line, and how many they are.
    waiting: Vec<(*mut E, usize)>,
    /// Two lines of each sequence: the elements are at the end of the first, and the next are put behind them.
    elements: Vec<E>,
}

impl<E: Copy> Pieces<E> {
    /// Elements of a line.
    const EACH: usize = LINE / size_of::<E>();

    pub(crate) fn new() -> Self {
        Pieces { waiting: Vec::new(), elements: Vec::new() }
    }

    /// Makes room for `count` sequences; `any` is any element.
    #[inline(always)]
    pub(crate) fn at_least(&mut self, count: usize, any: E) {
        if self.waiting.len() < count {
            self.waiting.resize(count, (std::ptr::null_mut(), 0));
            self.elements.resize(2 * count * Self::EACH, any);
        }
    }

    /// Streams the next piece of a sequence, of at least a line, to its place. [`fence`] comes after the last one.
    ///
    /// # Safety
    /// Until `self` is dropped, `to` is valid, and nobody else reads it or writes to it.
    #[inline(always)]
    pub(crate) unsafe fn stream(&mut self, sequence: usize, from: &[E], to: &mut [E]) {
        let each = Self::EACH;
        assert!(from.len() == to.len() && from.len() >= each);
        let (place, count) = self.waiting[sequence];
        let lines = &mut self.elements[2 * sequence * each..][..2 * each];
        let mut first = to_next_line(to.as_ptr());
        // All copies but those at the ends of a sequence have the length of a line, known to the compiler.
        if count > 0 && place.wrapping_add(count) == to.as_mut_ptr() {
            first = each - count;
            lines[each..].copy_from_slice(&from[..each]);
            // SAFETY: its first elements are of an earlier piece, the others of this one; see above.
            stream_line(&lines[first..first + each], unsafe { std::slice::from_raw_parts_mut(place, each) });
        } else {
            if count > 0 {
                // SAFETY: the elements are of an earlier piece; see above.
                unsafe { store(lines, place, count) };
            }
            to[..first].copy_from_slice(&from[..first]);
        }
        let (whole, mut places) = (from[first..].chunks_exact(each), to[first..].chunks_exact_mut(each));
        for (from, to) in whole.zip(&mut places) {
            stream_line(from, to);
        }
        let rest = places.into_remainder();
        self.waiting[sequence] = (rest.as_mut_ptr(), rest.len());
        lines[..each].copy_from_slice(&from[from.len() - each..]);
    }
}

/// Stores the elements that wait.
///
/// # Safety
/// `place` is valid for `count` elements, at most as many as a line has.
unsafe fn store<E: Copy>(lines: &[E], place: *mut E, count: usize) {
    let first = &lines[..lines.len() / 2];
    // SAFETY: see above.
    unsafe { std::ptr::copy_nonoverlapping(first[first.len() - count..].as_ptr(), place, count) };
}

impl<E: Copy> Drop for Pieces<E> {
    fn drop(&mut self) {
        for ((place, count), lines) in self.waiting.iter().zip(self.elements.chunks_exact(2 * Self::EACH)) {
            if *count > 0 {
                // SAFETY: they are elements of pieces whose places are valid until now; see `stream`.
                unsafe { store(lines, *place, *count) };
            }
        }
    }
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
    fn pieces_arrive_wherever_they_begin_and_end_and_whatever_follows() {
        let from: Vec<u16> = (0..4000).collect();
        for start in 0..40 {
            let mut to = vec![9_999; 4000];
            {
                let mut pieces = Pieces::new();
                pieces.at_least(2, 0);
                // Two sequences in turn; in the first a gap, and a piece that comes back to it.
                let first = [
                    start..start + 64,
                    start + 64..start + 161,
                    start + 400..start + 450,
                    start + 161..start + 400,
                ];
                let second =
                    [start + 2000..start + 2033, start + 2033..start + 2065, start + 2065..start + 2100];
                for i in 0..4 {
                    for (sequence, ranges) in [&first[..], &second[..]].into_iter().enumerate() {
                        if let Some(range) = ranges.get(i) {
                            // SAFETY: `to` outlives `pieces`, and is not used otherwise.
                            let to = unsafe {
                                std::slice::from_raw_parts_mut(to.as_mut_ptr().add(range.start), range.len())
                            };
                            // SAFETY: as above.
                            unsafe { pieces.stream(sequence, &from[range.clone()], to) };
                        }
                    }
                }
            }
            fence();
            let written =
                |i: usize| (start..start + 450).contains(&i) || (start + 2000..start + 2100).contains(&i);
            let expected = |i: usize| if written(i) { from[i] } else { 9_999 };
            assert!(to.iter().enumerate().all(|(i, x)| *x == expected(i)), "{start}");
        }
    }

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
