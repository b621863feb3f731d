//! A tile of long rows that lie side by side, packed class by class: lanes across the rows.
//!
//! Rows of at most a block of classes are summed in the order of [`super::long_row`], lane after lane of its vectors:
//! the layout of an array changes no bit of a result.

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::long_row::CHAINS;
use super::prefetch::Ahead;
use super::real::Real;
use super::short_row::Terms;
use super::sum::Sum;
use super::{BLOCK, TILE};

/// For each of the first `rows` rows the sum of the terms of classes below its maximum, double-double where rows are
/// `f64`, and how many further classes equal it. Prefetches the rows `ahead`.
#[simd]
pub(crate) fn packed_sums<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    ahead: Ahead,
    max: &[R; TILE],
    (sum, sum_low): (&mut [f64; TILE], &mut [f64; TILE]),
    ties: &mut [f64; TILE],
) {
    let (lanes, classes) = (R::LANES, packed.len() / TILE);
    debug_assert!(classes >= lanes && classes <= BLOCK);
    let step = CHAINS * lanes;
    let steps = classes / step * step;
    let vectors = classes / lanes * lanes;
    for lane in (0..rows).step_by(lanes) {
        let m = R::V::<S>::from_slice(simd, &max[lane..lane + lanes]);
        let mut vector = PackedRows { packed, ahead, lane, terms: Terms::<S, R, true>::new(m) };
        // What a lane of the vectors of a long row adds up.
        let mut sums = [Sum::<S, R>::new(simd); 16];
        for (k, sum) in sums[..lanes].iter_mut().enumerate() {
            for first in (k..steps).step_by(step) {
                let (a, b) = (vector.terms(first), vector.terms(first + lanes));
                let (c, d) = (vector.terms(first + 2 * lanes), vector.terms(first + 3 * lanes));
                sum.add((a + b) + (c + d));
            }
            for class in (steps + k..vectors).step_by(lanes) {
                sum.add(vector.terms(class));
            }
            // The last classes are at the end of their vector.
            let class = classes - lanes + k;
            if class >= vectors {
                sum.add(vector.terms(class));
            }
        }
        vector.terms.store(Sum::reduce_each(&sums), lane, (sum, sum_low), ties);
    }
}

/// The classes of a vector of rows.
struct PackedRows<'p, S: Simd, R: Real> {
    packed: &'p [R],
    ahead: Ahead,
    lane: usize,
    terms: Terms<S, R, true>,
}

impl<S: Simd, R: Real> PackedRows<'_, S, R> {
    /// The terms of a class.
    #[inline(always)]
    fn terms(&mut self, class: usize) -> R::V<S> {
        self.ahead.prefetch(class, self.lane);
        self.terms.of(&self.packed[class * TILE + self.lane..])
    }
}
