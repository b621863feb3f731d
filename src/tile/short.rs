//! A tile of short rows: packed class by class, so that lanes run across the rows, and unpacked.

use std::ops::Range;

use fearless_simd::prelude::*;

use crate::array::rows::{Rows, RowsMut};
use crate::kernel::TILE;
use crate::kernel::column::Column;
use crate::kernel::element::{Element, RealOf, Vector};
use crate::kernel::prefetch::{AHEAD_BYTES, Ahead, is_in_vain, prefetch};
use crate::kernel::real::Real;
use crate::kernel::short_row::{Maxima, pack_class, pack_rows, row_maxima, rows_of_tile, unpack_rows};
use crate::kernel::stream::{Behind, LineBuffers};

/// How many tiles ahead a packed tile's classes are prefetched: each class is one stream, and there are more of them
/// than a processor follows by itself. Where classes are a power of two apart, what is prefetched earlier is evicted
/// before its use.
const AHEAD: usize = 2;

/// How many classes ahead they are prefetched to the first-level cache as they are packed: a power of two apart, they
/// share a few cache sets, of eight lines each.
const NEXT: usize = 8;

/// Packs the rows of `range` and finds their maxima. Returns where the rows to prefetch are, some tiles later.
#[inline(always)]
pub(super) fn pack<S: Simd, E: Element>(
    simd: S,
    rows: &Rows<'_, E>,
    range: Range<usize>,
    packed: &mut [RealOf<E>],
    last: &mut [E],
    maxima: &mut [RealOf<E>; TILE],
) -> Ahead {
    let len = range.len();
    let lanes = RealOf::<E>::LANES;
    let mut first = 0;
    let mut known = false;
    let mut ahead = Ahead::new(packed.as_ptr(), 0, 0);
    rows.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            if run.stride == 1 && run.len == TILE {
                let start = rows.rows_of(run, 0).as_ptr();
                let (classes, mut max) = (rows.layout.classes, Maxima::new(simd));
                if !is_in_vain(classes, rows.layout.class_stride.unsigned_abs().wrapping_mul(size_of::<E>()))
                {
                    ahead = Ahead::new(start.wrapping_add(AHEAD * TILE), rows.layout.class_stride, 1);
                }
                for (c, to) in packed.chunks_exact_mut(TILE).enumerate() {
                    let from = rows.rows_of(run, c);
                    if classes > NEXT {
                        // Of this tile, or of the next.
                        let (class, later) =
                            if c + NEXT < classes { (c + NEXT, 0) } else { (c + NEXT - classes, TILE) };
                        let place = class as isize * rows.layout.class_stride + later as isize;
                        prefetch(start.wrapping_offset(place), TILE * size_of::<E>());
                    }
                    pack_class(simd, from, to, &mut max);
                }
                max.store(maxima);
                known = true;
            } else if run.stride == 1 {
                for (c, to) in packed.chunks_exact_mut(TILE).enumerate() {
                    let from = rows.rows_of(run, c);
                    let to = &mut to[first..first + run.len];
                    let mut vectors = to.chunks_exact_mut(lanes);
                    for (to, from) in (&mut vectors).zip(from.chunks_exact(lanes)) {
                        E::load(simd, from).store_slice(to);
                    }
                    let done = run.len / lanes * lanes;
                    for (to, from) in vectors.into_remainder().iter_mut().zip(&from[done..]) {
                        *to = from.to_real();
                    }
                }
            } else if rows.layout.contiguous() && run.stride == rows.layout.classes as isize {
                let elements = rows.side_by_side(run);
                let later = elements.as_ptr_range().end.wrapping_byte_add(AHEAD_BYTES);
                // A large tile in the order of its memory, which takes a fifth less time for a hundred classes; a small
                // one class by class, which is not slower.
                let in_order = size_of_val(elements) > AHEAD_BYTES;
                let (class, row) = if in_order { (lanes, rows.layout.classes) } else { (TILE, 1) };
                ahead = Ahead::new(later, class as isize, row);
                pack_rows(simd, elements, rows.layout.classes, packed, first, last, maxima);
                known = run.len == len;
            } else {
                for (c, to) in packed.chunks_exact_mut(TILE).enumerate() {
                    for i in 0..run.len {
                        to[first + i] = rows.get(run.offset + i as isize * run.stride, c).to_real();
                    }
                }
            }
            first += run.len;
        },
    );
    if !known {
        row_maxima(simd, packed, len, maxima);
    }
    ahead
}

/// What a thread keeps while it writes tile after tile to one output.
pub(crate) struct Unpacked<'o, E: Copy> {
    /// A scratch buffer for the rows of a tile.
    rows: Vec<E>,
    /// Where the output is streamed, rows that follow each other.
    pub(super) behind: Behind<'o, E>,
    /// And the classes of others.
    buffers: LineBuffers<'o, E>,
}

impl<E: Copy> Unpacked<'_, E> {
    pub(crate) fn new() -> Self {
        Unpacked { rows: Vec::new(), behind: Behind::new(), buffers: LineBuffers::new() }
    }
}

/// Writes packed rows to the rows of `range`, each for the only time.
#[inline(always)]
pub(super) fn unpack<'o, S: Simd, E: Element>(
    simd: S,
    packed: &[RealOf<E>],
    range: Range<usize>,
    out: &RowsMut<'o, E>,
    Unpacked { rows: memory, behind, buffers }: &mut Unpacked<'o, E>,
) {
    let lanes = RealOf::<E>::LANES;
    let classes = out.layout.classes;
    let mut first = 0;
    out.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            if out.layout.contiguous() && classes > 1 && run.stride == classes as isize {
                let columns = first..first + run.len;
                let place = out.place(run, 0);
                let direct = run.len.is_multiple_of(lanes) && classes != 3;
                let rows = if out.streamed {
                    behind.reserve(rows_of_tile(classes), E::PADDING);
                    behind.room(place)
                } else if direct {
                    // SAFETY: the rows of a tile belong to one thread.
                    unsafe { out.side_by_side(run) }
                } else {
                    memory.resize(rows_of_tile(classes), E::PADDING);
                    &mut memory[..]
                };
                unpack_rows(simd, packed, columns, classes, rows);
                if out.streamed {
                    // SAFETY: the rows of a chunk belong to one thread, and no row is written twice.
                    unsafe { behind.put(place, run.len * classes) };
                } else if !direct {
                    // SAFETY: as above.
                    unsafe { out.side_by_side(run) }.copy_from_slice(&memory[..run.len * classes]);
                }
                first += run.len;
                return;
            }
            for (c, from) in packed.chunks_exact(TILE).enumerate() {
                let from = &from[first..first + run.len];
                let whole = if run.stride == 1 { run.len / lanes * lanes } else { 0 };
                if whole > 0 {
                    if out.streamed && run.len == TILE {
                        let mut lines = Column::of(E::PADDING);
                        for (to, from) in lines.chunks_exact_mut(lanes).zip(from.chunks_exact(lanes)) {
                            E::store(Vector::<E, S>::from_slice(simd, from), to);
                        }
                        buffers.at_least(classes, E::PADDING);
                        // SAFETY: the rows of a chunk belong to one thread, and no row is written twice.
                        unsafe { buffers.stream(c, &*lines, out.place(run, c)) };
                        continue;
                    }
                    // SAFETY: the rows of a tile belong to one thread.
                    let to = unsafe { out.rows_of(run, c) };
                    prefetch(to.as_ptr().wrapping_add(AHEAD * TILE), TILE * size_of::<E>());
                    for (to, from) in to.chunks_exact_mut(lanes).zip(from.chunks_exact(lanes)) {
                        E::store(Vector::<E, S>::from_slice(simd, from), to);
                    }
                }
                for i in whole..run.len {
                    // SAFETY: as above.
                    unsafe { out.set(run.offset + i as isize * run.stride, c, E::from_real(from[i])) }
                }
            }
            first += run.len;
        },
    );
}
