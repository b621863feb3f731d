//! A segment of the classes of long rows: summed, weighted, written.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::walk::{LongRows, for_each_block, for_each_group, gather, pitch, put, scatter};
use crate::array::rows::RowsMut;
use crate::kernel::element::{Element, RealOf};
use crate::kernel::log_sum_exp::TileSums;
use crate::kernel::long_row::{RowSum, block_max, update};
use crate::kernel::output::Place;
use crate::kernel::real::Real;
use crate::kernel::rowset::bits;
use crate::kernel::stats::{OnlineStats, before_block};
use crate::kernel::stream::fence;
use crate::kernel::top::Top;
use crate::kernel::{BLOCK, TILE};
use crate::sum::compensated::Compensated;

/// The sums, statistics and largest logits of a segment of a tile's rows.
pub(super) struct Segment<R> {
    pub(super) sums: Vec<RowSum<R>>,
    pub(super) stats: Vec<OnlineStats<R>>,
    pub(super) tops: Vec<Top>,
}

/// Sums a segment's classes; see [`Tiles::sum_long`].
#[simd]
#[inline(never)]
pub(super) fn sum_segment<S: Simd, E: Element, const STATS: bool>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    sums: &mut [RowSum<RealOf<E>>],
    stats: &mut [OnlineStats<RealOf<E>>],
    tops: &mut [Top],
) {
    let contiguous = long.rows.layout.contiguous();
    let mut nothing = OnlineStats::new(RealOf::<E>::ZERO, 0);
    let mut next_max = None;
    for_each_block(
        simd,
        long,
        gathered,
        classes,
        #[inline(always)]
        |i, start, block, next| {
            // Where rows are contiguous, each block's maximum has been found with the block before.
            let max = next_max.unwrap_or_else(
                #[inline(always)]
                || block_max(simd, block),
            );
            let stats = if STATS { &mut stats[i] } else { &mut nothing };
            if STATS {
                before_block::<S, E>(simd, stats, start, block, max, sums[i].max);
                if let Some(top) = tops.get_mut(i) {
                    top.offer_block(simd, start, block, max);
                }
            }
            let next = update::<S, E, STATS>(simd, &mut sums[i], block, max, next, stats);
            if contiguous {
                next_max = Some(next);
            }
        },
    );
}

/// The sums over a block of row i of q (max - x), and of q: from i, the classes, the block, max and a buffer for as many
/// q. Behind a pointer, as is [`BlockFunction`], so that the loops over blocks are there once.
pub(super) type BlockSums<'f, E> =
    &'f (dyn Fn(usize, Range<usize>, &[E], f64, &mut [f64]) -> (f64, f64) + Sync);

/// Turns a block of row i into what is written: from the sums of the tile, i, its first class, the block, a buffer for the
/// q of a block where there are any, and the place of the result.
pub(super) type BlockFunction<'f, E> =
    &'f (dyn Fn(&TileSums<RealOf<E>>, usize, usize, &[E], &mut [f64], Place<'_, E>) + Sync);

/// Sums q (max - x), and q, over a segment's classes; see [`Tiles::weighted_long`].
#[simd]
#[inline(never)]
pub(super) fn weighted_segment<S: Simd, E: Element>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    max: &[RealOf<E>; TILE],
    block_sums: BlockSums<'_, E>,
) -> Vec<(Compensated, Compensated)> {
    let mut sums = vec![(Compensated::default(), Compensated::default()); long.offsets.len()];
    let mut q = [0.0; BLOCK];
    for_each_block(
        simd,
        long,
        gathered,
        classes,
        #[inline(always)]
        |i, start, block, _| {
            let classes = start..start + block.len();
            let (max_minus_x, total) = block_sums(i, classes, block, max[i].to_f64(), &mut q[..block.len()]);
            sums[i].0.add(max_minus_x);
            sums[i].1.add(total);
        },
    );
    sums
}

/// Classes from which rows of half precision are streamed as they are computed. The ends, which are not, take longer in
/// shorter ones than a buffer.
const STREAMED_HALVES: usize = 2048;

/// Writes a segment's classes; see [`Tiles::write_blocks`]. Without q, those that need no buffer are one block.
#[simd]
#[inline(never)]
pub(super) fn write_segment<S: Simd, E: Element>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    (out, to): (&RowsMut<'_, E>, &[isize; TILE]),
    (sums, f, has_q): (&TileSums<RealOf<E>>, BlockFunction<'_, E>, bool),
) {
    let LongRows { rows, offsets, active } = long;
    let mut result = [E::PADDING; BLOCK];
    let mut q = vec![0.0; if has_q { BLOCK } else { 0 }];
    if rows.layout.contiguous() {
        for i in bits(active) {
            let row = rows.classes_of(offsets[i], classes.clone());
            let buffered = out.streamed && size_of::<E>() == 2 && classes.len() < STREAMED_HALVES;
            let apart = !buffered && out.is_apart(row, to[i], classes.clone());
            let longest = if apart && !has_q { usize::MAX } else { BLOCK };
            // Blocks end where cache lines of the output do.
            let first = out.to_next_line(to[i] + classes.start as isize);
            let (mut start, mut end) = (classes.start, classes.start.saturating_add(longest - first));
            while start < classes.end {
                let here = start..end.min(classes.end);
                let block = rows.classes_of(offsets[i], here.clone());
                if apart {
                    // SAFETY: the segment belongs to one thread, and the block is elsewhere.
                    let place = unsafe { out.classes_of(to[i], here) };
                    f(sums, i, start, block, &mut q, (place, out.streamed));
                } else {
                    // The output may be the input itself, so the result is written when the block is no longer read.
                    let result = &mut result[..block.len()];
                    f(sums, i, start, block, &mut q, (result, false));
                    put(out, to[i], start, result);
                }
                (start, end) = (end, end.saturating_add(longest));
            }
        }
        if out.streamed {
            fence();
        }
        return;
    }
    let pitch = pitch(rows.layout.classes);
    for_each_group::<E>(
        classes,
        offsets.len(),
        active,
        #[inline(always)]
        |group: Range<usize>, active, block: Range<usize>| {
            gather(simd, rows, &offsets[group.clone()], block.clone(), gathered);
            for k in bits(active) {
                let gathered = &mut gathered[k * pitch..k * pitch + block.len()];
                let result = &mut result[..block.len()];
                f(sums, group.start + k, block.start, gathered, &mut q, (result, false));
                gathered.copy_from_slice(result);
            }
            scatter(simd, gathered, block, out, &to[group], active);
        },
    );
}
