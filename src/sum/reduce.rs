//! From the losses of rows to one number, in an order that depends on nothing but their count.

use std::ops::Range;

use fearless_simd::Simd;
use fearless_simd_macros::simd;

use super::compensated::Compensated;
use crate::kernel::TILE;
use crate::kernel::column::Column;
use crate::kernel::double_double::{dd_add, dd_div, two_sum};
use crate::kernel::real::Real;
use crate::kernel::rowset::all;
use crate::options::Reduction;

/// The losses of a tile's active rows, with their weights in the mean. The other rows have 0.
pub(crate) struct TileLosses {
    pub active: u64,
    pub loss: Column<f64>,
    /// Its low part; 0 unless the rows are `f64`.
    pub low: Column<f64>,
    /// Whether the rows have weights: else each active row weighs 1.
    pub weighted: bool,
    pub weight: Column<f64>,
    /// Whether the losses have a further term, which has no weight: a mean divides it by the number of active rows.
    pub has_unweighted: bool,
    pub unweighted: Column<f64>,
}

impl TileLosses {
    pub(crate) fn new() -> Self {
        let zero = Column::of(0.0);
        TileLosses {
            active: 0,
            loss: zero,
            low: zero,
            weighted: false,
            weight: zero,
            has_unweighted: false,
            unweighted: zero,
        }
    }

    /// Starts a tile of rows of R. The caller then sets all of `loss`.
    #[inline(always)]
    pub(crate) fn begin<R: Real>(&mut self, active: u64, weighted: bool) {
        self.active = active;
        self.weighted = weighted;
        self.has_unweighted = false;
        if R::IS_F64 {
            self.low = Column::of(0.0);
        }
        if weighted {
            self.weight = Column::of(0.0);
        }
    }

    /// Starts a tile of rows of R with losses of 0. The caller then sets those of the active rows.
    #[inline(always)]
    pub(crate) fn begin_with_zeros<R: Real>(&mut self, active: u64, weighted: bool) {
        self.begin::<R>(active, weighted);
        self.loss = Column::of(0.0);
    }

    /// Sets the loss of row i from a double-double number.
    #[inline(always)]
    pub(crate) fn set<R: Real>(&mut self, i: usize, loss: [f64; 2]) {
        self.loss[i] = loss[0];
        if R::IS_F64 {
            [self.loss[i], self.low[i]] = dd_add::<R>([loss[0], 0.0], [loss[1], 0.0]);
        }
    }

    /// Adds the further terms to the losses, which are not summed then.
    pub(crate) fn join(&mut self) {
        if self.has_unweighted {
            for (i, unweighted) in self.unweighted.iter().enumerate() {
                let [loss, low] = dd_add::<f64>([self.loss[i], 0.0], [*unweighted, 0.0]);
                self.loss[i] = loss + low;
            }
        }
    }

    /// Some of the rows as another tile.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let mut part = TileLosses::new();
        part.begin::<f64>(self.active >> rows.start & all(rows.len()), self.weighted);
        part.loss[..rows.len()].copy_from_slice(&self.loss[rows.clone()]);
        part.low[..rows.len()].copy_from_slice(&self.low[rows.clone()]);
        part.weight[..rows.len()].copy_from_slice(&self.weight[rows.clone()]);
        part.has_unweighted = self.has_unweighted;
        part.unweighted[..rows.len()].copy_from_slice(&self.unweighted[rows]);
        part
    }
}

/// A sum over the rows of one chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChunkSum {
    loss: Compensated,
    weight: Compensated,
    /// The sum of the terms without weights.
    unweighted: Compensated,
    /// The number of active rows.
    active: usize,
}

impl ChunkSum {
    /// Adds a tile of rows of R; inactive rows have loss and weight 0. For `f64` rows all rounding errors are kept.
    #[simd]
    pub(crate) fn add<S: Simd, R: Real>(&mut self, simd: S, tile: &TileLosses) {
        let active = tile.active.count_ones();
        let [loss, error] = pairwise::<R>(&tile.loss);
        self.loss.add(loss);
        if R::IS_F64 {
            self.loss.error += error + pairwise::<f32>(&tile.low)[0];
        }
        let [weight, error] =
            if tile.weighted { pairwise::<R>(&tile.weight) } else { [f64::from(active), 0.0] };
        self.weight.add(weight);
        if R::IS_F64 {
            self.weight.error += error;
        }
        if tile.has_unweighted {
            let [unweighted, error] = pairwise::<f64>(&tile.unweighted);
            self.unweighted.add(unweighted);
            self.unweighted.error += error;
        }
        self.active += active as usize;
    }

    /// Adds the next chunk.
    pub(crate) fn merge(&mut self, next: ChunkSum) {
        self.loss.merge(next.loss);
        self.weight.merge(next.weight);
        self.unweighted.merge(next.unweighted);
        self.active += next.active;
    }

    /// The sums, rounded.
    pub(crate) fn total(self) -> Total {
        let (loss, [weight, weight_low], unweighted) =
            (self.loss.dd(), self.weight.dd(), self.unweighted.dd());
        let sum = dd_add::<f64>(loss, unweighted)[0];
        Total { sum, loss, unweighted, weight, weight_low, counted: self.active }
    }

    /// Adds the sum of `count` losses, each of weight 1.
    pub(crate) fn add_unweighted(&mut self, sum: f64, count: usize) {
        self.loss.add(sum);
        self.weight.add(count as f64);
        self.active += count;
    }
}

/// The sum of a tile as a tree of the fixed shape 64, 32, ..., 1, and for `f64` rows its rounding error, else 0.
#[inline(always)]
fn pairwise<R: Real>(values: &[f64; TILE]) -> [f64; 2] {
    let (mut sums, mut errors) = (Column(*values), Column::of(0.0));
    let mut half = TILE / 2;
    while half > 0 {
        for i in 0..half {
            if !R::IS_F64 {
                sums[i] += sums[i + half];
            } else {
                let [sum, more] = two_sum(sums[i], sums[i + half]);
                sums[i] = sum;
                errors[i] += errors[i + half] + more;
            }
        }
        half /= 2;
    }
    [sums[0], errors[0]]
}

/// The sums over all rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// The sum of the losses, in nats.
    pub sum: f64,
    /// The sum of the terms that the mean divides by the weights, double-double.
    loss: [f64; 2],
    /// The sum of the terms that it divides by the number of rows.
    unweighted: [f64; 2],
    /// What the mean divides by: the sum of the weights of the rows that count.
    pub weight: f64,
    weight_low: f64,
    /// Rows that count.
    pub counted: usize,
}

impl Total {
    /// The sums of `rows` losses of 0.
    pub(crate) fn of_zeros(rows: usize) -> Self {
        let mut sum = ChunkSum::default();
        sum.add_unweighted(0.0, rows);
        sum.total()
    }

    /// The sum or the mean; a mean over nothing is nan.
    #[must_use]
    pub fn reduce(&self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Sum => self.sum,
            Reduction::Mean => {
                let mean = dd_div::<f64>(self.loss, [self.weight, self.weight_low]);
                let [mean, low] = if self.unweighted == [0.0; 2] {
                    mean
                } else {
                    dd_add::<f64>(mean, dd_div::<f64>(self.unweighted, [self.counted as f64, 0.0]))
                };
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
        let [sum, error] = pairwise::<f64>(&values);
        assert_eq!((sum - 1e17) + error, 63.0);
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

    #[test]
    fn terms_without_weights_are_divided_by_the_number_of_rows() {
        let mut tile = TileLosses::new();
        tile.begin::<f64>(0b11, true);
        (tile.loss[0], tile.weight[0]) = (2.0, 0.5);
        (tile.loss[1], tile.weight[1]) = (4.0, 1.5);
        tile.has_unweighted = true;
        tile.unweighted[..2].copy_from_slice(&[8.0, 2.0]);
        let mut chunk = ChunkSum::default();
        fearless_simd::dispatch!(fearless_simd::Level::new(), simd => chunk.add::<_, f64>(simd, &tile));
        let total = chunk.total();
        assert_eq!(
            (total.sum, total.reduce(Reduction::Sum), total.reduce(Reduction::Mean)),
            (16.0, 16.0, 8.0)
        );
        tile.join();
        assert_eq!(tile.loss[..3], [10.0, 6.0, 0.0]);
    }
}
