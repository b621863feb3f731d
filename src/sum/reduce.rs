//! From the losses of rows to one number, in an order that depends on nothing but their count.

use std::ops::Range;

use fearless_simd::Simd;
use fearless_simd_macros::simd;

use super::compensated::Compensated;
use crate::kernel::TILE;
use crate::kernel::double_double::{dd_add, dd_div, two_sum};
use crate::kernel::real::Real;
use crate::kernel::rowset::all;
use crate::options::Reduction;

/// The losses of a tile's rows: those that count, with their weights in the mean. The others have 0.
pub(crate) struct TileLosses {
    pub active: u64,
    pub loss: [f64; TILE],
    /// What is to be added to it; 0 unless the rows are `f64`.
    pub low: [f64; TILE],
    /// Whether `weight` says more than `active`.
    pub weighted: bool,
    pub weight: [f64; TILE],
}

impl TileLosses {
    pub(crate) fn new() -> Self {
        TileLosses { active: 0, loss: [0.0; TILE], low: [0.0; TILE], weighted: false, weight: [0.0; TILE] }
    }

    /// Starts a tile of rows of R, where all losses are set at once.
    #[inline(always)]
    pub(crate) fn begin<R: Real>(&mut self, active: u64, weighted: bool) {
        self.active = active;
        self.weighted = weighted;
        if R::IS_F64 {
            self.low = [0.0; TILE];
        }
        if weighted {
            self.weight = [0.0; TILE];
        }
    }

    /// The same where they are set row by row, those of the rows that count.
    #[inline(always)]
    pub(crate) fn begin_with_none<R: Real>(&mut self, active: u64, weighted: bool) {
        self.begin::<R>(active, weighted);
        self.loss = [0.0; TILE];
    }

    /// The loss of row i, from its two parts.
    #[inline(always)]
    pub(crate) fn set<R: Real>(&mut self, i: usize, loss: [f64; 2]) {
        self.loss[i] = loss[0];
        if R::IS_F64 {
            [self.loss[i], self.low[i]] = dd_add::<R>([loss[0], 0.0], [loss[1], 0.0]);
        }
    }

    /// Some of the rows, as a tile of their own.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let mut part = TileLosses::new();
        part.begin::<f64>(self.active >> rows.start & all(rows.len()), self.weighted);
        part.loss[..rows.len()].copy_from_slice(&self.loss[rows.clone()]);
        part.low[..rows.len()].copy_from_slice(&self.low[rows.clone()]);
        part.weight[..rows.len()].copy_from_slice(&self.weight[rows]);
        part
    }
}

/// A sum over the rows of one chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChunkSum {
    loss: Compensated,
    weight: Compensated,
    counted: usize,
}

impl ChunkSum {
    /// Adds a tile of rows of R; rows that do not count have loss and weight 0. Of `f64`, nothing is rounded away.
    #[simd]
    pub(crate) fn add<S: Simd, R: Real>(&mut self, simd: S, tile: &TileLosses) {
        let counted = tile.active.count_ones();
        let [loss, lost] = pairwise::<R>(&tile.loss);
        self.loss.add(loss);
        if R::IS_F64 {
            self.loss.lost += lost + pairwise::<f32>(&tile.low)[0];
        }
        let [weight, lost] =
            if tile.weighted { pairwise::<R>(&tile.weight) } else { [f64::from(counted), 0.0] };
        self.weight.add(weight);
        if R::IS_F64 {
            self.weight.lost += lost;
        }
        self.counted += counted as usize;
    }

    /// Adds the next chunk.
    pub(crate) fn merge(&mut self, next: ChunkSum) {
        self.loss.merge(next.loss);
        self.weight.merge(next.weight);
        self.counted += next.counted;
    }

    /// The sums, rounded.
    pub(crate) fn total(self) -> Total {
        let ([sum, sum_low], [weight, weight_low]) = (self.loss.parts(), self.weight.parts());
        Total { sum, sum_low, weight, weight_low, counted: self.counted }
    }

    /// Adds the sum of `count` losses, each of weight 1.
    pub(crate) fn add_counted(&mut self, sum: f64, count: usize) {
        self.loss.add(sum);
        self.weight.add(count as f64);
        self.counted += count;
    }
}

/// The sum of a tile as a tree of the fixed shape 64, 32, ..., 1. Of `f64` rows also what its roundings lost.
#[inline(always)]
fn pairwise<R: Real>(values: &[f64; TILE]) -> [f64; 2] {
    let (mut sums, mut lost) = (*values, [0.0; TILE]);
    let mut half = TILE / 2;
    while half > 0 {
        for i in 0..half {
            if !R::IS_F64 {
                sums[i] += sums[i + half];
            } else {
                let [sum, more] = two_sum(sums[i], sums[i + half]);
                sums[i] = sum;
                lost[i] += lost[i + half] + more;
            }
        }
        half /= 2;
    }
    [sums[0], lost[0]]
}

/// The sums over all rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// The sum of the losses, in nats.
    pub sum: f64,
    sum_low: f64,
    /// What the mean divides by: the sum of the weights of the rows that count.
    pub weight: f64,
    weight_low: f64,
    /// Rows that count.
    pub counted: usize,
}

impl Total {
    /// Of `rows` losses of 0.
    pub(crate) fn of_zeros(rows: usize) -> Self {
        let mut sum = ChunkSum::default();
        sum.add_counted(0.0, rows);
        sum.total()
    }

    /// The sum or the mean; a mean over nothing is nan.
    #[must_use]
    pub fn reduce(&self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Sum => self.sum,
            Reduction::Mean => {
                let [mean, low] = dd_div::<f64>([self.sum, self.sum_low], [self.weight, self.weight_low]);
                mean + low
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_added_whole() {
        assert_eq!(pairwise::<f32>(&std::array::from_fn(|i| i as f64)), [2016.0, 0.0]);
        let mut values = [1.0; TILE];
        values[0] = 1e17;
        let [sum, lost] = pairwise::<f64>(&values);
        assert_eq!((sum - 1e17) + lost, 63.0);
    }

    #[test]
    fn the_mean_divides_by_the_weights_and_over_nothing_is_nan() {
        let mut chunk = ChunkSum::default();
        let mut tile = TileLosses::new();
        tile.begin::<f64>(0b11, true);
        (tile.loss[0], tile.weight[0]) = (2.0, 0.5);
        (tile.loss[1], tile.weight[1]) = (4.0, 1.5);
        fearless_simd::dispatch!(fearless_simd::Level::new(), simd => chunk.add::<_, f64>(simd, &tile));
        let total = chunk.total();
        assert_eq!((total.sum, total.weight, total.counted), (6.0, 2.0, 2));
        assert_eq!(total.reduce(Reduction::Mean), 3.0);
        let nothing = ChunkSum::default().total();
        assert!(nothing.reduce(Reduction::Mean).is_nan());
        assert_eq!(nothing.reduce(Reduction::Sum), 0.0);
    }
}
