//! A tile of long rows that lie side by side, packed class by class: lanes across the rows.
//!
//! Rows of at most a block of classes are summed in the order of [`super::long_row`], lane after lane of its vectors:
//! the layout of an array changes no bit of a result.

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::exp::{Pivot, pivot, term_from_base};
use super::long_row::CHAINS;
use super::prefetch::Ahead;
use super::real::Real;
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
        let mut terms = Terms {
            packed,
            ahead,
            lane,
            m,
            p: pivot::<S, R>(m),
            tied: R::V::<S>::splat(simd, R::ZERO) - R::ONE,
        };
        // What a lane of the vectors of a long row adds up.
        let mut sums = [Sum::<S, R>::new(simd); 16];
        for (k, sum) in sums[..lanes].iter_mut().enumerate() {
            for first in (k..steps).step_by(step) {
                let (a, b) = (terms.of(first), terms.of(first + lanes));
                let (c, d) = (terms.of(first + 2 * lanes), terms.of(first + 3 * lanes));
                sum.add((a + b) + (c + d));
            }
            for class in (steps + k..vectors).step_by(lanes) {
                sum.add(terms.of(class));
            }
            // The last classes are at the end of their vector.
            let class = classes - lanes + k;
            if class >= vectors {
                sum.add(terms.of(class));
            }
        }
        let (total, low) = Sum::reduce_each(&sums);
        let tied = R::widen::<S>(terms.tied);
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            total[half].store_slice(&mut sum[at.clone()]);
            if R::IS_F64 {
                low.store_slice(&mut sum_low[at.clone()]);
            }
            tied[half].store_slice(&mut ties[at]);
        }
    }
}

/// The maxima and pivots of a vector of rows, and how many classes equal the maximum.
struct Terms<'p, S: Simd, R: Real> {
    packed: &'p [R],
    ahead: Ahead,
    lane: usize,
    m: R::V<S>,
    p: Pivot<R::V<S>>,
    tied: R::V<S>,
}

impl<S: Simd, R: Real> Terms<'_, S, R> {
    /// The terms of a class; 0 where it is a maximum.
    #[inline(always)]
    fn of(&mut self, class: usize) -> R::V<S> {
        let simd = self.m.token();
        self.ahead.prefetch(class, self.lane);
        let x = R::V::<S>::from_slice(simd, &self.packed[class * TILE + self.lane..][..R::LANES]);
        let is_max = x.simd_eq(self.m);
        self.tied = is_max.select(self.tied + R::ONE, self.tied);
        let (term, _) = term_from_base::<S, R>(x - self.p.base, &self.p);
        is_max.select(R::V::<S>::splat(simd, R::ZERO), term)
    }
}
