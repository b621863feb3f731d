//! Sums over the classes weighted with q: class weights, class probabilities, label smoothing.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::long::gap_segment;
use super::sums::Tiles;
use super::walk::{LongRows, for_each_segment_of};
use crate::kernel::TILE;
use crate::kernel::element::Element;
use crate::kernel::gap::{TileWeights, row_gap, tile_gap};
use crate::kernel::rowset::bits;
use crate::options::ClassWeights;
use crate::sum::compensated::Compensated;

/// For each row of a tile the sum over the classes of q (max - x), and that of q.
pub(crate) struct WeightedGaps {
    pub gaps: [f64; TILE],
    pub totals: [f64; TILE],
}

/// What the classes of a tile's rows are weighted with: q.
pub(crate) trait Weighting: Sync {
    /// q of a stretch of the classes of row i of the tile.
    fn row<S: Simd>(&self, simd: S, i: usize, classes: Range<usize>, q: &mut [f64]);

    /// q of a packed tile's rows; `memory` has room for one of each.
    fn tile<'m, S: Simd>(&self, simd: S, memory: &'m mut [f64]) -> TileWeights<'m>;

    /// The sums over a stretch of the classes of row i of q (max - x), and of q, where q need not be computed for that.
    #[inline(always)]
    fn gap<S: Simd, E: Element>(
        &self,
        _: S,
        _: usize,
        _: Range<usize>,
        _: &[E],
        _: f64,
    ) -> Option<(f64, f64)> {
        None
    }
}

/// The first `len` numbers of memory that grows with its first use.
pub(super) fn room(memory: &mut Vec<f64>, len: usize) -> &mut [f64] {
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    &mut memory[..len]
}

impl<E: Element> Tiles<'_, E> {
    /// For each counted row the sum over the classes of q (max - x), the same q for all rows.
    #[simd]
    pub(crate) fn gaps<S: Simd>(&mut self, simd: S, counted: u64, weight: ClassWeights<'_>) -> [f64; TILE] {
        let mut gaps = [0.0; TILE];
        if self.is_narrow() {
            let (q, max) = (TileWeights::Class(weight.block(0..self.rows.layout.classes)), &self.sums.max);
            let mut totals = [0.0; TILE];
            tile_gap::<_, _, false>(simd, &self.packed, q, self.len, max, &mut gaps, &mut totals);
        } else {
            let sums = self.gaps_wide(
                simd,
                counted,
                #[inline(always)]
                |_, classes, x, max, _| row_gap::<_, _, _, false>(simd, x, weight.block(classes), max),
            );
            bits(counted).for_each(|i| gaps[i] = sums[i].0.get());
        }
        gaps
    }

    /// For each counted row the sum over the classes of q (max - x), and that of q.
    #[simd]
    pub(crate) fn gaps_of<S: Simd>(
        &mut self,
        simd: S,
        counted: u64,
        weighting: impl Weighting,
    ) -> WeightedGaps {
        let mut gaps = [0.0; TILE];
        let mut totals = [0.0; TILE];
        if self.is_narrow() {
            let (q, max) = (weighting.tile(simd, room(&mut self.q, self.packed.len())), &self.sums.max);
            tile_gap::<_, _, true>(simd, &self.packed, q, self.len, max, &mut gaps, &mut totals);
        } else {
            let sums = self.gaps_wide(
                simd,
                counted,
                #[inline(always)]
                |i, classes, x, max, q| {
                    if let Some(gap) = weighting.gap(simd, i, classes.clone(), x, max) {
                        return gap;
                    }
                    weighting.row(simd, i, classes, q);
                    row_gap::<_, _, _, true>(simd, x, q, max)
                },
            );
            for i in bits(counted) {
                (gaps[i], totals[i]) = (sums[i].0.get(), sums[i].1.get());
            }
        }
        WeightedGaps { gaps, totals }
    }

    /// The sums of long rows, from those that `gap` gives for a stretch.
    #[inline(always)]
    fn gaps_wide<S: Simd>(
        &mut self,
        simd: S,
        counted: u64,
        gap: impl Fn(usize, Range<usize>, &[E], f64, &mut [f64]) -> (f64, f64) + Sync,
    ) -> [(Compensated, Compensated); TILE] {
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], counted };
        let (classes, gathered, max) = (self.rows.layout.classes, &mut self.gathered, &self.sums.max);
        let none = (Compensated::default(), Compensated::default());
        let mut sums = [none; TILE];
        let parts = for_each_segment_of(self.segments, classes, gathered, |range, gathered| {
            gap_segment(simd, long, gathered, range, max, &gap)
        });
        for part in parts {
            for i in bits(counted) {
                sums[i].0.merge(part[i].0);
                sums[i].1.merge(part[i].1);
            }
        }
        sums
    }
}
