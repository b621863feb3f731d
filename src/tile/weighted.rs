//! Sums over the classes weighted with q, which is made of class weights, class probabilities and label smoothing.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::long::{BlockSums, weighted_segment};
use super::sums::{Tile, Tiles};
use super::walk::{LongRows, for_each_result_of_segments};
use crate::kernel::column::{Column, Packed};
use crate::kernel::element::Element;
use crate::kernel::max_minus_x::{TileWeights, row_max_minus_x, tile_max_minus_x};
use crate::kernel::rowset::bits;
use crate::kernel::{SEGMENT, TILE};
use crate::options::ClassWeights;
use crate::sum::compensated::Compensated;

/// For each row of a tile the sum over the classes of q (max - x), and that of q.
pub(crate) struct WeightedSums {
    pub max_minus_x: Column<f64>,
    pub totals: Column<f64>,
}

/// What the classes of a tile's rows are weighted with: q.
pub(crate) trait Weighting: Sync {
    /// q of a block of the classes of row i of the tile.
    fn row<S: Simd>(&self, simd: S, i: usize, classes: Range<usize>, q: &mut [f64]);

    /// q of a packed tile's rows; `memory` is a scratch buffer of one number for each class and row.
    fn tile<'m, S: Simd>(&self, simd: S, memory: &'m mut [f64]) -> TileWeights<'m>;

    /// The sums over a block of the classes of row i of q (max - x), and of q, from q as it lies in memory; none where
    /// q has to be computed.
    #[inline(always)]
    fn max_minus_x<S: Simd, E: Element>(
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

/// The first `len` numbers of a scratch buffer that grows with its first use.
pub(super) fn scratch(memory: &mut Packed<f64>, len: usize) -> &mut [f64] {
    memory.at_least(len / TILE, 0.0);
    &mut memory[..len]
}

impl<E: Element> Tile<'_, '_, E> {
    /// For each active row the sum over the classes of q (max - x), the same q for all rows.
    #[simd]
    pub(crate) fn max_minus_x<S: Simd>(
        &mut self,
        simd: S,
        active: u64,
        weight: ClassWeights<'_>,
    ) -> Column<f64> {
        let tiles = &mut *self.0;
        let mut all = Column::of(0.0);
        if tiles.is_short() {
            let (q, max) = (TileWeights::Class(weight.block(0..tiles.rows.layout.classes)), &tiles.sums.max);
            let mut totals = Column::of(0.0);
            tile_max_minus_x::<_, _, false>(simd, &tiles.packed, q, tiles.len, max, &mut all, &mut totals);
        } else {
            let sums = tiles.weighted_long(simd, active, &|_, classes, x, max, _| {
                row_max_minus_x::<_, _, _, false>(simd, x, weight.block(classes), max)
            });
            bits(active).for_each(|i| all[i] = sums[i].0.get());
        }
        all
    }

    /// For each active row the sum over the classes of q (max - x), and that of q.
    #[simd]
    pub(crate) fn weighted_sums<S: Simd>(
        &mut self,
        simd: S,
        active: u64,
        weighting: impl Weighting,
    ) -> WeightedSums {
        let tiles = &mut *self.0;
        let mut max_minus_x = Column::of(0.0);
        let mut totals = Column::of(0.0);
        if tiles.is_short() {
            let (q, max) = (weighting.tile(simd, scratch(&mut tiles.q, tiles.packed.len())), &tiles.sums.max);
            let to = (&mut max_minus_x, &mut totals);
            tile_max_minus_x::<_, _, true>(simd, &tiles.packed, q, tiles.len, max, to.0, to.1);
        } else {
            let sums = tiles.weighted_long(simd, active, &|i, classes, x, max, q| {
                simd.vectorize(
                    #[inline(always)]
                    || {
                        if let Some(sums) = weighting.max_minus_x(simd, i, classes.clone(), x, max) {
                            return sums;
                        }
                        weighting.row(simd, i, classes, q);
                        row_max_minus_x::<_, _, _, true>(simd, x, q, max)
                    },
                )
            });
            for i in bits(active) {
                (max_minus_x[i], totals[i]) = (sums[i].0.get(), sums[i].1.get());
            }
        }
        WeightedSums { max_minus_x, totals }
    }
}

impl<E: Element> Tiles<'_, E> {
    /// The sums of long rows; `block_sums` gives those of a block.
    #[inline(always)]
    fn weighted_long<S: Simd>(
        &mut self,
        simd: S,
        active: u64,
        block_sums: BlockSums<'_, E>,
    ) -> [(Compensated, Compensated); TILE] {
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], active };
        let (classes, gathered, max) = (self.rows.layout.classes, &mut self.gathered, &self.sums.max);
        let none = (Compensated::default(), Compensated::default());
        let mut sums = [none; TILE];
        let segment =
            |classes, gathered: &mut [E]| weighted_segment(simd, long, gathered, classes, max, block_sums);
        let mut add = |part: Vec<(Compensated, Compensated)>| {
            for i in bits(active) {
                sums[i].0.merge(part[i].0);
                sums[i].1.merge(part[i].1);
            }
        };
        if classes <= SEGMENT {
            add(segment(0..classes, gathered));
        } else {
            let work = |_, range, gathered: &mut [E]| segment(range, gathered);
            for_each_result_of_segments(self.segments, classes, gathered, &work, &mut add);
        }
        sums
    }
}
