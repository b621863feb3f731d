//! Long rows, block by block, and the segments that rows of very many classes are cut into.
//!
//! Rows are slices where their classes are contiguous; else a group of rows is gathered at a time.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use crate::array::rows::{Rows, RowsMut, Run};
use crate::kernel::element::{Element, RealOf, Vector};
use crate::kernel::prefetch::prefetch;
use crate::kernel::real::Real;
use crate::kernel::rowset::{all, bits};
use crate::kernel::short_row::transpose_square;
use crate::kernel::stream::stream;
use crate::kernel::{BLOCK, SEGMENT, SHORT_ROW, TILE};
use crate::parallel::{Context, RowGroup, for_each_segment};

/// Rows that are gathered together: where they follow each other in memory, their elements of one class fill four cache
/// lines, which are then read once whatever else falls into the same cache set.
pub(super) const fn group<E>() -> usize {
    let rows = 256 / size_of::<E>();
    if rows < TILE { rows } else { TILE }
}

/// How many rows one thread should take together: those that are gathered together.
pub(crate) fn row_group<E: Element>(rows: &Rows<'_, E>) -> RowGroup {
    let apart = rows.layout.contiguous() || rows.layout.classes <= SHORT_ROW;
    if apart { RowGroup::CHUNK } else { RowGroup { rows: group::<E>(), rounds: 1 } }
}

/// [`row_group`], where rows are read once: more than one of very many classes, too. What is computed of a tile beside
/// its rows, while no memory is read, takes as long for one row as for many.
pub(crate) fn row_group_read_once<E: Element>(rows: &Rows<'_, E>) -> RowGroup {
    const ELEMENTS: usize = 1 << 19;
    let classes = rows.layout.classes;
    if classes > SHORT_ROW && rows.layout.contiguous() {
        RowGroup { rows: (ELEMENTS / classes).clamp(1, TILE), rounds: 8 }
    } else {
        row_group(rows)
    }
}

/// Distance of gathered rows: not a power of two, so that they do not compete for the same cache sets.
pub(super) fn pitch(classes: usize) -> usize {
    classes.min(BLOCK).next_multiple_of(16) + 16
}

/// How many segments rows are cut into.
pub(super) fn segments(classes: usize) -> usize {
    classes.div_ceil(SEGMENT)
}

/// The context under which rows are split among threads, and the one for the segments of a row, if segments are split
/// instead: rows are then taken on the calling thread alone.
pub(crate) fn split_threads<'c, E: Element>(
    context: Context<'c>,
    rows: &Rows<'_, E>,
) -> (Context<'c>, Option<Context<'c>>) {
    context.for_rows_or_segments(rows.layout.line.len(), segments(rows.layout.classes))
}

/// What is done with a segment, given its number, its classes and a buffer to gather in.
type SegmentWork<'w, E, T> = &'w (dyn Fn(usize, Range<usize>, &mut [E]) -> T + Sync);

/// Segments whose results are held at a time: an array that repeats one number may have more of them than memory holds.
const HELD: usize = 1 << 12;

/// Runs `work` on each segment.
pub(super) fn for_each_segment_of<E: Element>(
    context: Option<Context<'_>>,
    classes: usize,
    gathered: &mut [E],
    work: SegmentWork<'_, E, ()>,
) {
    run_segments(context, 0..segments(classes), classes, gathered, work);
}

fn run_segments<E: Element>(
    context: Option<Context<'_>>,
    range: Range<usize>,
    classes: usize,
    gathered: &mut [E],
    work: SegmentWork<'_, E, ()>,
) {
    let buffer = gathered.len();
    let part = |segment: usize| segment * SEGMENT..((segment + 1) * SEGMENT).min(classes);
    match context {
        Some(context) => for_each_segment(context, range.len(), &|i| {
            let segment = range.start + i;
            work(segment, part(segment), &mut vec![E::PADDING; buffer]);
        }),
        None => range.for_each(|segment| work(segment, part(segment), gathered)),
    }
}

/// Hands the results of `work` on the segments to `take`, in the order of the segments. After an interrupt on fewer; see
/// [`for_each_segment`].
pub(super) fn for_each_result_of_segments<E: Element, T: Send>(
    context: Option<Context<'_>>,
    classes: usize,
    gathered: &mut [E],
    work: SegmentWork<'_, E, T>,
    take: &mut dyn FnMut(T),
) {
    let count = segments(classes);
    for start in (0..count).step_by(HELD) {
        let range = start..(start + HELD).min(count);
        let mut places = Vec::new();
        places.resize_with(range.len(), || None);
        let places = Mutex::new(places);
        run_segments(context, range, classes, gathered, &|segment, of_segment, gathered| {
            let result = work(segment, of_segment, gathered);
            places.lock().unwrap_or_else(PoisonError::into_inner)[segment - start] = Some(result);
        });
        for place in places.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let Some(result) = place else { return };
            take(result);
        }
    }
}

/// Where long rows are, and which of them are active.
#[derive(Clone, Copy)]
pub(super) struct LongRows<'t, 'r, E> {
    pub(super) rows: &'t Rows<'r, E>,
    pub(super) offsets: &'t [isize],
    pub(super) active: u64,
}

/// Calls `f(row, first class, block, next block)` for the blocks of all active rows: row after row where rows are
/// slices, and the last block is followed by nothing; else block after block for a group of rows, and no next.
#[inline(always)]
pub(super) fn for_each_block<S: Simd, E: Element>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    mut f: impl FnMut(usize, usize, &[E], &[E]),
) {
    let LongRows { rows, offsets, active } = long;
    let (contiguous, pitch) = (rows.layout.contiguous(), pitch(rows.layout.classes));
    let end_of = |start: usize| (start + BLOCK).min(classes.end);
    let mut start = classes.start;
    // The rows that are gathered, and those that are left: of them, or of all.
    let mut group = 0..0;
    let mut left = if contiguous { active } else { 0 };
    if classes.is_empty() {
        return;
    }
    // Both ways share their call of `f`, which is large.
    loop {
        if !contiguous {
            while left == 0 {
                if group.end == offsets.len() {
                    (start, group) = (start + BLOCK, 0..0);
                    if start >= classes.end {
                        return;
                    }
                }
                group = group.end..(group.end + self::group::<E>()).min(offsets.len());
                left = active >> group.start & all(group.len());
                if left != 0 {
                    gather(simd, rows, &offsets[group.clone()], start..end_of(start), gathered);
                }
            }
        } else if left == 0 {
            return;
        }
        let (k, at) = (left.trailing_zeros() as usize, start);
        if contiguous && start + BLOCK < classes.end {
            start += BLOCK;
        } else {
            left &= left - 1;
        }
        let (mut next, i): (&[E], usize) = (&[], group.start + k);
        let block = if contiguous {
            if left >> k & 1 == 0 {
                start = classes.start;
            }
            if left != 0 {
                next = rows.classes_of(offsets[left.trailing_zeros() as usize], start..end_of(start));
            }
            rows.classes_of(offsets[i], at..end_of(at))
        } else {
            &gathered[k * pitch..k * pitch + end_of(at) - at]
        };
        f(i, at, block, next);
    }
}

/// Calls `f(rows of the tile, which of them are active, classes)` for each group with an active row, block after block.
#[inline(always)]
pub(super) fn for_each_group<E>(
    classes: Range<usize>,
    rows: usize,
    active: u64,
    mut f: impl FnMut(Range<usize>, u64, Range<usize>),
) {
    for start in classes.clone().step_by(BLOCK) {
        for first in (0..rows).step_by(group::<E>()) {
            let group = first..(first + group::<E>()).min(rows);
            let active = active >> first & all(group.len());
            if active != 0 {
                f(group, active, start..(start + BLOCK).min(classes.end));
            }
        }
    }
}

/// Writes a block of one row's classes.
#[inline(always)]
pub(super) fn put<E: Element>(out: &RowsMut<'_, E>, offset: isize, start: usize, classes: &[E]) {
    if out.layout.contiguous() {
        // SAFETY: the rows of a tile belong to one thread.
        let to = unsafe { out.classes_of(offset, start..start + classes.len()) };
        if out.streamed {
            stream(classes, to);
        } else {
            to.copy_from_slice(classes);
        }
    } else {
        for (c, value) in classes.iter().enumerate() {
            // SAFETY: the rows of a tile belong to one thread.
            unsafe { out.set(offset, start + c, *value) }
        }
    }
}

/// Whether rows follow each other in memory, class by class.
#[inline(always)]
fn adjacent(offsets: &[isize]) -> bool {
    offsets.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Copies a block of classes of a group of rows to contiguous rows.
#[simd]
pub(super) fn gather<S: Simd, E: Element>(
    simd: S,
    rows: &Rows<'_, E>,
    offsets: &[isize],
    block: Range<usize>,
    gathered: &mut [E],
) {
    let (lanes, pitch) = (RealOf::<E>::LANES, pitch(rows.layout.classes));
    let mut done = block.start;
    // Squares of as many rows as classes.
    let squares = if adjacent(offsets) { offsets.len() / lanes } else { 0 };
    while squares > 0 && done + lanes <= block.end {
        for first in (0..squares * lanes).step_by(lanes) {
            // From here to the same class of the next square.
            let next = if first + lanes < squares * lanes {
                lanes as isize
            } else {
                lanes as isize * rows.layout.class_stride - first as isize
            };
            let mut square = [Vector::<E, S>::splat(simd, RealOf::<E>::ZERO); 16];
            for (c, to) in square[..lanes].iter_mut().enumerate() {
                let run = Run { offset: offsets[first], stride: 1, len: lanes };
                let from = rows.rows_of(run, done + c);
                *to = E::load(simd, from);
                prefetch(from.as_ptr().wrapping_offset(next), 1);
            }
            transpose_square::<S, RealOf<E>>(&mut square);
            for (k, row) in square[..lanes].iter().enumerate() {
                let at = (first + k) * pitch + done - block.start;
                E::store(*row, &mut gathered[at..at + lanes]);
            }
        }
        done += lanes;
    }
    for (k, offset) in offsets.iter().enumerate() {
        let from = if k < squares * lanes { done } else { block.start };
        let to = &mut gathered[k * pitch + from - block.start..];
        for (to, class) in to.iter_mut().zip(from..block.end) {
            *to = rows.get(*offset, class);
        }
    }
}

/// The inverse of [`gather`], for the active rows.
#[simd]
pub(super) fn scatter<S: Simd, E: Element>(
    simd: S,
    gathered: &[E],
    block: Range<usize>,
    out: &RowsMut<'_, E>,
    offsets: &[isize],
    active: u64,
) {
    let (lanes, pitch) = (RealOf::<E>::LANES, pitch(out.layout.classes));
    let (mut done, mut squares) = (block.start, 0);
    if !out.layout.contiguous() && active == all(offsets.len()) && adjacent(offsets) {
        squares = offsets.len() / lanes;
    }
    while squares > 0 && done + lanes <= block.end {
        for first in (0..squares * lanes).step_by(lanes) {
            let mut square = [Vector::<E, S>::splat(simd, RealOf::<E>::ZERO); 16];
            for (k, to) in square[..lanes].iter_mut().enumerate() {
                let at = (first + k) * pitch + done - block.start;
                *to = E::load(simd, &gathered[at..at + lanes]);
            }
            transpose_square::<S, RealOf<E>>(&mut square);
            for (c, column) in square[..lanes].iter().enumerate() {
                let run = Run { offset: offsets[first], stride: 1, len: lanes };
                // SAFETY: the rows of a tile belong to one thread.
                E::store(*column, unsafe { out.rows_of(run, done + c) });
            }
        }
        done += lanes;
    }
    for k in bits(active) {
        let from = if k < squares * lanes { done } else { block.start };
        let at = k * pitch;
        put(out, offsets[k], from, &gathered[at + from - block.start..at + block.len()]);
    }
}
