//! Stores that bypass the caches.
//!
//! A store to memory that is not in a cache first reads it, to keep what it does not overwrite. A result that is larger
//! than the caches is written whole and not read again soon: whole cache lines of it go to memory as they are.

use std::marker::PhantomData;

/// Bytes in a cache line.
pub(crate) const LINE: usize = 64;

/// How many elements from `start` on belong to a cache line that begins before it.
#[inline(always)]
pub(crate) fn to_next_line<E>(start: *const E) -> usize {
    start.addr().wrapping_neg() % LINE / size_of::<E>()
}

/// How many elements of a cache line are before `start`.
#[inline(always)]
fn in_line<E>(start: *const E) -> usize {
    start.addr() % LINE / size_of::<E>()
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
        // SAFETY: each place has the length of a line, and the first of them begins one.
        unsafe { stream_line(from, to.as_mut_ptr()) };
    }
    places.into_remainder().copy_from_slice(last);
}

/// One line, to its place.
///
/// # Safety
/// `from` has the length of a line; `to` is valid for writes of one, and begins a cache line.
#[inline(always)]
unsafe fn stream_line<E: Copy>(from: &[E], to: *mut E) {
    debug_assert!(size_of_val(from) == LINE && to_next_line(to) == 0);
    // SAFETY: see above.
    unsafe { stream_quarters(from.as_ptr(), to, 4) };
}

/// A part of a line to its place: whole quarters, or it is stored as usual.
#[inline(always)]
pub(crate) fn stream_part<E: Copy>(from: &[E], to: &mut [E]) {
    let quarter = LINE / 4;
    if size_of_val(from).is_multiple_of(quarter)
        && to.as_ptr().addr().is_multiple_of(quarter)
        && from.len() == to.len()
    {
        // SAFETY: both have the same length, of whole quarters, and the place begins one.
        unsafe { stream_quarters(from.as_ptr(), to.as_mut_ptr(), size_of_val(from) / quarter) };
    } else {
        to.copy_from_slice(from);
    }
}

/// # Safety
/// `from` is valid for reads and `to` for writes of `count` quarters of a line, and `to` begins one.
#[inline(always)]
unsafe fn stream_quarters<E: Copy>(from: *const E, to: *mut E, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for part in 0..count {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        // SAFETY: see above; every x86-64 processor has both instructions.
        unsafe {
            let quarter = _mm_loadu_si128(from.cast::<__m128i>().add(part));
            _mm_stream_si128(to.cast::<__m128i>().add(part), quarter);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: see above.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, count * (LINE / 4) / size_of::<E>());
    }
}

/// Rows of several classes, part after part, streamed by whole lines: what a part leaves of its last line waits for the
/// part of the same class that follows it in memory. Where none does, it is stored: before another part of its class,
/// and at the end.
#[derive(Debug)]
pub(crate) struct LineBuffers<'o, E: Copy> {
    /// Of each class where the elements that wait belong, from the beginning of a line, and how many they are.
    waiting: Vec<(*mut E, usize)>,
    /// Two lines of each class: the elements are at the end of the first, and the next are put behind them.
    elements: Vec<E>,
    /// The array that is written, which is borrowed until nothing waits.
    _output: PhantomData<&'o mut [E]>,
}

impl<E: Copy> LineBuffers<'_, E> {
    /// Elements of a line.
    const EACH: usize = LINE / size_of::<E>();

    pub(crate) fn new() -> Self {
        LineBuffers { waiting: Vec::new(), elements: Vec::new(), _output: PhantomData }
    }

    /// Grows to `count` classes, if there are fewer; `any` is any element.
    #[inline(always)]
    pub(crate) fn at_least(&mut self, count: usize, any: E) {
        if self.waiting.len() < count {
            self.waiting.resize(count, (std::ptr::null_mut(), 0));
            self.elements.resize(2 * count * Self::EACH, any);
        }
    }

    /// Streams the next part of a class, of at least a line, to its place. [`fence`] comes after the last one.
    ///
    /// # Safety
    /// `to` is the place of as many elements as `from` has, in the array of which `'o` is a borrow, and comes from the
    /// same pointer to that array in all calls. Until `self` is dropped, the elements are read and written here alone.
    #[inline(always)]
    pub(crate) unsafe fn stream(&mut self, class: usize, from: &[E], to: *mut E) {
        let each = Self::EACH;
        assert!(from.len() >= each);
        let (place, count) = self.waiting[class];
        let lines = &mut self.elements[2 * class * each..][..2 * each];
        let mut first = to_next_line(to);
        // All copies but those at the ends of what is contiguous have the length of a line, known to the compiler.
        if count > 0 && place.wrapping_add(count) == to {
            first = each - count;
            lines[each..].copy_from_slice(&from[..each]);
            // SAFETY: a line begins at `place`: its first elements are of an earlier part, the others of this one.
            unsafe { stream_line(&lines[first..first + each], place) };
        } else {
            // SAFETY: the elements that wait are of an earlier part, the others the first ones of this one.
            unsafe {
                store(lines, place, count);
                std::ptr::copy_nonoverlapping(from.as_ptr(), to, first);
            }
        }
        let whole = from[first..].chunks_exact(each);
        let (mut at, rest) = (first, whole.remainder().len());
        for line in whole {
            // SAFETY: the line is a part of the part's place, and begins where a cache line does.
            unsafe { stream_line(line, to.add(at)) };
            at += each;
        }
        lines[..each].copy_from_slice(&from[from.len() - each..]);
        self.waiting[class] = (to.wrapping_add(at), rest);
    }
}

/// Stores the elements that wait.
///
/// # Safety
/// `place` is valid for writes of `count` elements, at most as many as a line has, or `count` is 0.
unsafe fn store<E: Copy>(lines: &[E], place: *mut E, count: usize) {
    if count > 0 {
        let first = &lines[..lines.len() / 2];
        // SAFETY: see above.
        unsafe { std::ptr::copy_nonoverlapping(first[first.len() - count..].as_ptr(), place, count) };
    }
}

impl<E: Copy> Drop for LineBuffers<'_, E> {
    fn drop(&mut self) {
        for ((place, count), lines) in self.waiting.iter().zip(self.elements.chunks_exact(2 * Self::EACH)) {
            // SAFETY: they are elements of the array that is borrowed until now; see `stream`.
            unsafe { store(lines, *place, *count) };
        }
    }
}

/// Parts of an array that mostly follow each other, each kept until its whole lines are streamed: one with each vector of
/// the next part that is computed. A processor waits for the stores of a whole part at once. What a part leaves of its last
/// line waits for the part that follows it; where none does, it is stored.
#[derive(Debug)]
pub(crate) struct Behind<'o, E: Copy> {
    lines: Lines,
    /// Room for a part, behind what is left of the part before.
    elements: Vec<E>,
    /// The array that is written, which is borrowed until nothing waits.
    _output: PhantomData<&'o mut [E]>,
}

/// The bytes that wait, and their place, where a cache line begins.
#[derive(Debug)]
pub(crate) struct Lines {
    from: *const u8,
    to: *mut u8,
    len: usize,
}

impl Lines {
    /// Streams the next line; whether there was one.
    #[inline(always)]
    pub(crate) fn stream_line(&mut self) -> bool {
        if self.len < LINE {
            return false;
        }
        // SAFETY: see `Behind::put`.
        unsafe { stream_quarters(self.from, self.to, 4) };
        self.from = self.from.wrapping_add(LINE);
        self.to = self.to.wrapping_add(LINE);
        self.len -= LINE;
        true
    }

    /// Whether there are some, and `to` is the place behind them.
    #[inline(always)]
    fn is_followed_by<E>(&self, to: *mut E) -> bool {
        self.len > 0 && self.to.wrapping_add(self.len) == to.cast()
    }

    /// # Safety
    /// The bytes are valid for reads, and their place for writes.
    #[inline(always)]
    unsafe fn store(&self) {
        if self.len > 0 {
            // SAFETY: see above.
            unsafe { std::ptr::copy_nonoverlapping(self.from, self.to, self.len) };
        }
    }
}

impl<E: Copy> Behind<'_, E> {
    pub(crate) fn new() -> Self {
        let lines = Lines { from: std::ptr::null(), to: std::ptr::null_mut(), len: 0 };
        Behind { lines, elements: Vec::new(), _output: PhantomData }
    }

    /// What waits.
    #[inline(always)]
    pub(crate) fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Makes room for parts of `len` elements, as many in each call; `any` is any element.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, len: usize, any: E) {
        if self.elements.is_empty() {
            self.elements.resize(len + 2 * LINE / size_of::<E>(), any);
        }
    }

    /// Where the elements of the next part are written, which belongs at `to`, from the first on: room for a part.
    #[inline(always)]
    pub(crate) fn room(&mut self, to: *mut E) -> &mut [E] {
        while self.lines.stream_line() {}
        let left = &mut self.lines;
        if left.is_followed_by(to) {
            let each = LINE / size_of::<E>();
            // SAFETY: what is left lies in the buffer, a line or more before its end. Of the line that is copied, whose
            // length is known to the compiler, the first elements wait.
            unsafe { std::ptr::copy(left.from.cast(), self.elements.as_mut_ptr(), each) };
            left.from = self.elements.as_ptr().cast();
        } else {
            // SAFETY: they are elements of an earlier part; see `put`.
            unsafe { left.store() };
            left.len = 0;
        }
        &mut self.elements[in_line(to)..]
    }

    /// Takes the next part, of at most as many elements as there is room for, after it is written to [`Self::room`].
    /// [`fence`] comes after the last one.
    ///
    /// # Safety
    /// `to` is the place of `len` elements in the array of which `'o` is a borrow, and comes from the same pointer to
    /// that array in all calls. Until `self` is dropped, the elements are read and written here alone.
    #[inline(always)]
    pub(crate) unsafe fn put(&mut self, to: *mut E, len: usize) {
        let first = in_line(to);
        assert!(first + len + LINE / size_of::<E>() <= self.elements.len());
        let (buffer, left) = (self.elements.as_mut_ptr(), &mut self.lines);
        if left.is_followed_by(to) {
            (left.from, left.len) = (buffer.cast(), (first + len) * size_of::<E>());
            return;
        }
        let head = to_next_line(to).min(len);
        // SAFETY: the part lies in the buffer, and its place in the array.
        unsafe {
            std::ptr::copy_nonoverlapping(buffer.add(first), to, head);
            let (from, to) = (buffer.add(first + head).cast(), to.add(head).cast());
            *left = Lines { from, to, len: (len - head) * size_of::<E>() };
        }
    }
}

impl<E: Copy> Drop for Behind<'_, E> {
    fn drop(&mut self) {
        // SAFETY: they are elements of the array that is borrowed until now; see `put`.
        unsafe { self.lines.store() };
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
    fn parts_arrive_wherever_they_begin_and_end_and_whatever_follows() {
        let from: Vec<u16> = (0..4000).collect();
        for start in 0..40 {
            let mut to = vec![9_999; 4000];
            {
                let (mut buffers, place) = (LineBuffers::new(), to.as_mut_ptr());
                buffers.at_least(2, 0);
                // Two classes in turn; in the first a gap, and a part that comes back to it.
                let first = [
                    start..start + 64,
                    start + 64..start + 161,
                    start + 400..start + 450,
                    start + 161..start + 400,
                ];
                let second =
                    [start + 2000..start + 2033, start + 2033..start + 2065, start + 2065..start + 2100];
                for i in 0..4 {
                    for (class, ranges) in [&first[..], &second[..]].into_iter().enumerate() {
                        if let Some(range) = ranges.get(i) {
                            // SAFETY: `to` outlives `buffers`, and is not used otherwise.
                            unsafe { buffers.stream(class, &from[range.clone()], place.add(range.start)) };
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
    fn what_waits_arrives_wherever_it_begins_and_ends_and_whatever_follows() {
        let from: Vec<u16> = (0..4000).collect();
        for start in 0..40 {
            let mut to = vec![9_999; 4000];
            // Some follow each other, some are shorter than a line, and one comes back to a gap.
            let lengths = [64, 97, 3, 5, 33, 32, 1, 100, 31];
            let mut parts = Vec::new();
            let mut at = start;
            for len in lengths {
                parts.push(at..at + len);
                at += len;
            }
            parts.extend([at + 50..at + 150, at..at + 50, at + 150..at + 151]);
            {
                let (mut behind, place) = (Behind::new(), to.as_mut_ptr());
                behind.reserve(100, 0);
                for (i, part) in parts.iter().enumerate() {
                    // SAFETY: `to` outlives `behind`, and is not used otherwise.
                    let place = unsafe { place.add(part.start) };
                    let room = behind.room(place);
                    room[..part.len()].copy_from_slice(&from[part.clone()]);
                    room[part.len()..].fill(7_777);
                    // SAFETY: as above.
                    unsafe { behind.put(place, part.len()) };
                    (0..i % 3).for_each(|_| _ = behind.lines().stream_line());
                }
            }
            fence();
            let expected = |i: usize| if (start..at + 151).contains(&i) { from[i] } else { 9_999 };
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
