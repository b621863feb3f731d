//! An array of any layout as a sequence of rows, each with its classes.
//!
//! Rows are numbered in the C order of the dimensions that remain when the class axis is taken away:
//! the order of the target's elements. Nothing is copied to get there; dimensions that follow
//! each other in memory are merged, so that the usual layouts have one run of rows or a few.

use std::marker::PhantomData;
use std::ops::Range;

use ndarray::{ArrayView, ArrayViewMut, Dimension, IxDyn};

use crate::error::Error;
use crate::kernel::element::Element;
use crate::kernel::prefetch::{AHEAD_BYTES, prefetch_far};
use crate::kernel::stream::to_next_line;
use crate::kernel::{SHORT_ROW, TILE};

/// Outputs from this size on are stored past the caches, where they would only replace what is still needed.
const STREAMED_BYTES: usize = 1 << 25;

/// Outputs of short rows of several classes, which are streamed while later rows are computed, and so for nothing.
const STREAMED_SHORT_BYTES: usize = 1 << 23;

/// A dimension: its length, and its stride in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Dim {
    len: usize,
    stride: isize,
}

/// Positions in memory of consecutive rows.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// All dimensions but the innermost, outermost first, merged where possible: none in the usual layouts.
    outer: Vec<Dim>,
    inner: Dim,
    len: usize,
}

/// Consecutive rows at a constant distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    pub offset: isize,
    pub len: usize,
    pub stride: isize,
}

impl Line {
    fn new(dims: impl Iterator<Item = Dim>) -> Self {
        let mut line = Line { outer: Vec::new(), inner: Dim { len: 1, stride: 1 }, len: 1 };
        for dim in dims {
            line.len *= dim.len;
            let inner = line.inner;
            if dim.len == 1 {
                continue;
            }
            if inner.len == 1 {
                line.inner = dim;
            } else if inner.stride == dim.stride * dim.len as isize {
                line.inner = Dim { len: inner.len * dim.len, stride: dim.stride };
            } else {
                line.outer.push(inner);
                line.inner = dim;
            }
        }
        line
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The runs that make up the rows of `range`.
    #[inline(always)]
    pub(crate) fn runs(&self, range: Range<usize>, mut f: impl FnMut(Run)) {
        let Line { outer, inner, .. } = self;
        let mut row = range.start;
        while row < range.end {
            // Where all rows are one run, nothing is divided.
            let (mut index, at) =
                if outer.is_empty() { (0, row) } else { (row / inner.len, row % inner.len) };
            let mut offset = at as isize * inner.stride;
            for dim in outer.iter().rev() {
                offset += (index % dim.len) as isize * dim.stride;
                index /= dim.len;
            }
            let len = (inner.len - at).min(range.end - row);
            f(Run { offset, len, stride: inner.stride });
            row += len;
        }
    }
}

/// Where an array's rows and classes are; what [`Rows`] and [`RowsMut`] share.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub line: Line,
    pub classes: usize,
    pub class_stride: isize,
}

impl Layout {
    /// `axis` is the class axis; `None` makes every element a row of one class.
    fn new(shape: &[usize], strides: &[isize], axis: Option<usize>) -> Self {
        let dims = shape.iter().zip(strides).map(|(&len, &stride)| Dim { len, stride });
        let Some(axis) = axis else {
            return Layout { line: Line::new(dims), classes: 1, class_stride: 1 };
        };
        let rows = dims.enumerate().filter_map(|(i, dim)| (i != axis).then_some(dim));
        let classes = shape[axis];
        Layout { line: Line::new(rows), classes, class_stride: if classes == 1 { 1 } else { strides[axis] } }
    }

    /// Whether a row is a slice.
    #[inline(always)]
    pub(crate) fn contiguous(&self) -> bool {
        self.class_stride == 1
    }
}

/// The rows of an array that is read.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a, E> {
    start: *const E,
    pub layout: Layout,
    _borrow: PhantomData<&'a [E]>,
}

// SAFETY: a `Rows` is a shared borrow of an array of `E`, which is `Send` and `Sync` under the same condition; one that
// comes from an output is used as `of_output` demands.
unsafe impl<E: Sync> Send for Rows<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Rows<'_, E> {}

impl<'a, E: Copy> Rows<'a, E> {
    pub(crate) fn new<D: Dimension>(view: &'a ArrayView<'_, E, D>, axis: Option<usize>) -> Self {
        Rows {
            start: view.as_ptr(),
            layout: Layout::new(view.shape(), view.strides(), axis),
            _borrow: PhantomData,
        }
    }

    /// The rows of an array that is being overwritten: for results computed in place.
    ///
    /// # Safety
    /// Only the thread that owns a row reads it, and no slice of it is alive when it is written.
    pub(crate) unsafe fn of_output(out: &RowsMut<'a, E>) -> Self {
        Rows { start: out.start, layout: out.layout.clone(), _borrow: PhantomData }
    }

    /// One element; `offset` is a row's position.
    #[inline(always)]
    pub(crate) fn get(&self, offset: isize, class: usize) -> E {
        debug_assert!(class < self.layout.classes);
        // SAFETY: offsets come from this array's own `line`, and class is below `classes`, so the position is
        // one of the array's elements.
        unsafe { *self.start.offset(offset + class as isize * self.layout.class_stride) }
    }

    /// A block of the classes of a contiguous row.
    #[inline(always)]
    pub(crate) fn classes_of(&self, offset: isize, range: Range<usize>) -> &[E] {
        assert!(self.layout.contiguous() && range.start <= range.end && range.end <= self.layout.classes);
        // SAFETY: the row starts at an offset of this array's own `line`, its classes follow each other
        // without gaps, and the range lies within them.
        unsafe { std::slice::from_raw_parts(self.start.offset(offset).add(range.start), range.len()) }
    }

    /// All classes of consecutive rows without gaps.
    #[inline(always)]
    pub(crate) fn side_by_side(&self, run: Run) -> &[E] {
        assert!(self.layout.contiguous() && run.stride == self.layout.classes as isize);
        // SAFETY: the run is part of this array's own `line`, and each row's classes end where the next row's
        // begin.
        unsafe { std::slice::from_raw_parts(self.start.offset(run.offset), run.len * self.layout.classes) }
    }

    /// The first class of the rows of `range`, if their distance is one element.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<&[E]> {
        let (len, mut slice) = (range.len(), None);
        self.layout.line.runs(range, |run| {
            if run.stride == 1 && run.len == len {
                slice = Some(self.rows_of(run, 0));
            }
        });
        slice
    }

    /// One class of consecutive rows whose distance is one element.
    #[inline(always)]
    pub(crate) fn rows_of(&self, run: Run, class: usize) -> &[E] {
        assert!(run.stride == 1 && class < self.layout.classes);
        // SAFETY: the run is part of this array's own `line` with a stride of one, so that many elements
        // follow each other at the position of the class.
        unsafe {
            let at = self.start.offset(run.offset + class as isize * self.layout.class_stride);
            std::slice::from_raw_parts(at, run.len)
        }
    }
}

/// Where each row of `range` starts.
#[inline(always)]
pub(crate) fn locate(layout: &Layout, range: Range<usize>, offsets: &mut [isize; TILE]) {
    let mut at = 0;
    layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            for (i, offset) in offsets[at..at + run.len].iter_mut().enumerate() {
                *offset = run.offset + i as isize * run.stride;
            }
            at += run.len;
        },
    );
}

/// One number of each row of `range`. Where those of a tile follow each other, those of later rows are prefetched.
#[inline(always)]
pub(crate) fn read<T: Copy, U>(
    rows: &Rows<'_, T>,
    range: Range<usize>,
    to: &mut [U],
    convert: impl Fn(T) -> U,
) {
    let mut at = 0;
    rows.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            let to = &mut to[at..at + run.len];
            at += run.len;
            if run.stride == 1 {
                let numbers = rows.rows_of(run, 0);
                // More requests at once would fill the processor's queue.
                if numbers.len() <= TILE {
                    prefetch_far(numbers.as_ptr().wrapping_byte_add(AHEAD_BYTES), size_of_val(numbers));
                }
                for (to, from) in to.iter_mut().zip(numbers) {
                    *to = convert(*from);
                }
            } else {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = convert(rows.get(run.offset + i as isize * run.stride, 0));
                }
            }
        },
    );
}

/// The rows of an array that is written, by several threads, each its own rows.
#[derive(Debug)]
pub(crate) struct RowsMut<'a, E> {
    start: *mut E,
    pub layout: Layout,
    /// Whether stores to it bypass the caches.
    pub streamed: bool,
    _borrow: PhantomData<&'a mut [E]>,
}

// SAFETY: a `RowsMut` is an exclusive borrow of an array; threads write disjoint rows of it.
unsafe impl<E: Send> Send for RowsMut<'_, E> {}
// SAFETY: as above; nothing is read through a shared `RowsMut`, and through `Rows::of_output` by a row's own thread
// only.
unsafe impl<E: Send> Sync for RowsMut<'_, E> {}

impl<'a, E: Copy> RowsMut<'a, E> {
    pub(crate) fn new<D: Dimension>(view: &'a mut ArrayViewMut<'_, E, D>, axis: Option<usize>) -> Self {
        RowsMut {
            start: view.as_mut_ptr(),
            layout: Layout::new(view.shape(), view.strides(), axis),
            streamed: false,
            _borrow: PhantomData,
        }
    }

    /// Makes stores to a large output bypass the caches, unless its pages are in them. Those of an `untouched` output
    /// are, where rows are contiguous: the system clears a page when it is first touched. Where a tile's classes lie in
    /// as many pages, the pages have been evicted before they are full.
    pub(crate) fn streamed(self, untouched: bool) -> Self {
        let bytes = self.layout.line.len().saturating_mul(self.layout.classes).saturating_mul(size_of::<E>());
        let cached = untouched && self.layout.contiguous();
        let hidden = self.layout.contiguous() && (2..=SHORT_ROW).contains(&self.layout.classes);
        let least = if hidden { STREAMED_SHORT_BYTES } else { STREAMED_BYTES };
        RowsMut { streamed: bytes >= least && !cached, ..self }
    }

    /// How many classes from the first on share a cache line with what is before the row.
    #[inline(always)]
    pub(crate) fn to_next_line(&self, offset: isize) -> usize {
        to_next_line(self.start.wrapping_offset(offset))
    }

    /// Whether the classes of a row follow each other, and share no memory with `other`.
    #[inline(always)]
    pub(crate) fn is_apart(&self, other: &[E], offset: isize, classes: Range<usize>) -> bool {
        let start = self.start.wrapping_offset(offset).wrapping_add(classes.start).cast_const();
        let (other, end) = (other.as_ptr_range(), start.wrapping_add(classes.len()));
        self.layout.contiguous() && (end <= other.start || other.end <= start)
    }

    /// Writes one element.
    ///
    /// # Safety
    /// No other thread may touch the row.
    #[inline(always)]
    pub(crate) unsafe fn set(&self, offset: isize, class: usize, value: E) {
        debug_assert!(class < self.layout.classes);
        // SAFETY: the position is one of the array's elements (see `Rows::get`); the caller owns the row.
        unsafe { *self.start.offset(offset + class as isize * self.layout.class_stride) = value }
    }

    /// Writes one number to all classes of a row.
    ///
    /// # Safety
    /// No other thread may touch the row.
    #[inline(always)]
    pub(crate) unsafe fn fill(&self, offset: isize, value: E) {
        for class in 0..self.layout.classes {
            // SAFETY: see above.
            unsafe { self.set(offset, class, value) };
        }
    }

    /// Writes one number to each row of `range`, of an array that has one class; `value(i)` is that of the i-th.
    ///
    /// # Safety
    /// No other thread may touch these rows.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, range: Range<usize>, mut value: impl FnMut(usize) -> E) {
        let mut i = 0;
        self.layout.line.runs(range, |run| {
            for k in 0..run.len {
                // SAFETY: see above.
                unsafe { self.set(run.offset + k as isize * run.stride, 0, value(i)) };
                i += 1;
            }
        });
    }

    /// Where a class of the first row of a run lies.
    #[inline(always)]
    pub(crate) fn place(&self, run: Run, class: usize) -> *mut E {
        debug_assert!(class < self.layout.classes);
        self.start.wrapping_offset(run.offset + class as isize * self.layout.class_stride)
    }

    /// A block of the classes of a contiguous row.
    ///
    /// # Safety
    /// No other thread may touch the row, and the caller holds no other reference into it.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "rows are handed out to threads; see Safety")]
    pub(crate) unsafe fn classes_of(&self, offset: isize, range: Range<usize>) -> &mut [E] {
        assert!(self.layout.contiguous() && range.start <= range.end && range.end <= self.layout.classes);
        // SAFETY: as for `Rows::classes_of`; the caller owns the row.
        unsafe { std::slice::from_raw_parts_mut(self.start.offset(offset).add(range.start), range.len()) }
    }

    /// All classes of consecutive rows without gaps.
    ///
    /// # Safety
    /// No other thread may touch these rows, and the caller holds no other reference into them.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "rows are handed out to threads; see Safety")]
    pub(crate) unsafe fn side_by_side(&self, run: Run) -> &mut [E] {
        assert!(self.layout.contiguous() && run.stride == self.layout.classes as isize);
        // SAFETY: as for `Rows::side_by_side`; the caller owns the rows.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.offset(run.offset), run.len * self.layout.classes)
        }
    }

    /// One class of consecutive rows whose distance is one element.
    ///
    /// # Safety
    /// No other thread may touch these rows, and the caller holds no other reference into them.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "rows are handed out to threads; see Safety")]
    pub(crate) unsafe fn rows_of(&self, run: Run, class: usize) -> &mut [E] {
        assert!(run.stride == 1 && class < self.layout.classes);
        // SAFETY: as for `Rows::rows_of`; the caller owns the rows.
        unsafe {
            let at = self.start.offset(run.offset + class as isize * self.layout.class_stride);
            std::slice::from_raw_parts_mut(at, run.len)
        }
    }
}

/// An axis counted from the front.
///
/// # Errors
/// [`Error::AxisOutOfRange`].
pub fn resolve_axis(axis: isize, ndim: usize) -> Result<usize, Error> {
    let resolved = if axis < 0 { axis + ndim as isize } else { axis };
    if resolved < 0 || resolved >= ndim as isize {
        return Err(Error::AxisOutOfRange { axis, ndim });
    }
    Ok(resolved as usize)
}

/// The shape that an input and another argument broadcast to.
///
/// # Errors
/// [`Error::Broadcast`] of the argument `name`.
pub(crate) fn joint_shape(input: &[usize], name: &'static str, other: &[usize]) -> Result<Vec<usize>, Error> {
    let (long, short) = if input.len() < other.len() { (other, input) } else { (input, other) };
    let mut shape = long.to_vec();
    for (of_long, of_short) in shape.iter_mut().rev().zip(short.iter().rev()) {
        match (*of_long, *of_short) {
            (1, n) => *of_long = n,
            (n, m) if m != n && m != 1 => {
                return Err(Error::Broadcast { name, got: other.to_vec(), input: input.to_vec() });
            }
            _ => {}
        }
    }
    if shape.iter().try_fold(1, |count: isize, n| count.checked_mul(isize::try_from(*n).ok()?)).is_none() {
        return Err(Error::OutOfMemory { count: usize::MAX, size: size_of::<f64>() });
    }
    Ok(shape)
}

/// The index of row `row` in an array of shape `shape`.
pub(crate) fn unravel(mut row: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &len) in index.iter_mut().zip(shape).rev() {
        *i = row % len.max(1);
        row /= len.max(1);
    }
    index
}

/// The shape of the rows: the array's without its class axis.
pub(crate) fn row_shape(shape: &[usize], axis: usize) -> Vec<usize> {
    let mut rows = shape.to_vec();
    rows.remove(axis);
    rows
}

/// Whether `rows` is the shape of the rows: `shape` without its class axis.
pub(crate) fn is_row_shape(rows: &[usize], shape: &[usize], axis: usize) -> bool {
    rows.len() + 1 == shape.len() && rows[..axis] == shape[..axis] && rows[axis..] == shape[axis + 1..]
}

/// The class axis of an array, counted from the front.
pub(crate) fn class_axis(ndim: usize, axis: Option<isize>) -> Result<usize, Error> {
    if ndim == 0 {
        return Err(Error::TooFewDimensions);
    }
    resolve_axis(axis.unwrap_or(isize::from(ndim > 1)), ndim)
}

/// The rows of an input, with its shape and its class axis.
pub(crate) struct Input<'a, E> {
    pub rows: Rows<'a, E>,
    pub shape: &'a [usize],
    pub axis: usize,
}

impl<E> Input<'_, E> {
    pub(crate) fn row_shape(&self) -> Vec<usize> {
        row_shape(self.shape, self.axis)
    }
}

/// The rows of an input. The class axis is 1 by default, and 0 for a one-dimensional input.
pub(crate) fn input_rows<'a, E: Element>(
    input: &'a View<'_, E>,
    axis: Option<isize>,
) -> Result<Input<'a, E>, Error> {
    let axis = class_axis(input.ndim(), axis)?;
    Ok(Input { rows: Rows::new(input, Some(axis)), shape: input.shape(), axis })
}

/// Checks that an argument has the expected shape.
///
/// # Errors
/// [`Error::Shape`].
pub(crate) fn check_shape(name: &'static str, got: &[usize], expected: &[usize]) -> Result<(), Error> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape { name, got: got.to_vec(), expected: expected.to_vec() })
}

/// The dynamic-dimensional view that the arguments of public functions are turned into.
pub type View<'a, E> = ArrayView<'a, E, IxDyn>;
/// The dynamic-dimensional view that public functions write to.
pub type ViewMut<'a, E> = ArrayViewMut<'a, E, IxDyn>;

#[cfg(test)]
mod tests {
    use ndarray::{Array, s};

    use super::*;

    fn collect<E: Copy>(rows: &Rows<'_, E>) -> Vec<Vec<E>> {
        let mut all = Vec::new();
        rows.layout.line.runs(0..rows.layout.line.len(), |run| {
            for i in 0..run.len as isize {
                all.push(
                    (0..rows.layout.classes).map(|c| rows.get(run.offset + i * run.stride, c)).collect(),
                );
            }
        });
        all
    }

    #[test]
    fn rows_come_in_the_order_of_the_target() {
        let a = Array::from_shape_fn((2, 3, 4, 5), |(n, c, h, w)| n * 1000 + c * 100 + h * 10 + w).into_dyn();
        for axis in 0..4 {
            let view = a.view();
            let rows = Rows::new(&view, Some(axis));
            let expected: Vec<Vec<usize>> =
                a.lanes(ndarray::Axis(axis)).into_iter().map(|l| l.to_vec()).collect();
            assert_eq!(collect(&rows), expected);
        }
    }

    #[test]
    fn odd_strides_are_followed() {
        let a = Array::from_shape_fn((6, 7), |(n, c)| n * 10 + c);
        let view = a.slice(s![..;-2, 1..;3]);
        let rows = Rows::new(&view, Some(1));
        assert_eq!(collect(&rows), vec![vec![51, 54], vec![31, 34], vec![11, 14]]);
        let row = a.row(2);
        let wide = row.broadcast((3, 7)).unwrap();
        let rows = Rows::new(&wide, Some(1));
        assert_eq!(collect(&rows), vec![row.to_vec(); 3]);
    }

    #[test]
    fn dimensions_that_follow_each_other_are_merged() {
        let a = Array::<f32, _>::zeros((2, 3, 4, 5));
        assert_eq!(Rows::new(&a.view(), Some(1)).layout.line.outer.len(), 1);
        assert_eq!(Rows::new(&a.view(), Some(3)).layout.line.outer.len(), 0);
        let b = Array::<f32, _>::zeros((1, 3, 1));
        assert_eq!(Rows::new(&b.view(), Some(1)).layout.line.len(), 1);
    }

    #[test]
    fn a_part_of_the_rows_can_be_asked_for() {
        let a = Array::<f32, _>::zeros((2, 3, 4));
        let mut runs = Vec::new();
        Rows::new(&a.view(), Some(1)).layout.line.runs(2..7, |run| runs.push(run));
        assert_eq!(runs, [Run { offset: 2, len: 2, stride: 1 }, Run { offset: 12, len: 3, stride: 1 }]);
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(resolve_axis(-1, 3), Ok(2));
        assert_eq!(resolve_axis(0, 3), Ok(0));
        assert!(resolve_axis(3, 3).is_err() && resolve_axis(-4, 3).is_err());
        assert_eq!(unravel(23, &[2, 3, 4]), [1, 2, 3]);
        for axis in 0..3 {
            let shape = [2, 3, 4];
            assert!(is_row_shape(&row_shape(&shape, axis), &shape, axis));
            assert!(!is_row_shape(&[4, 3], &shape, axis) && !is_row_shape(&shape, &shape, axis));
        }
    }
}
