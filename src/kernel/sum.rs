//! Running sums of terms, one in each lane of a vector; those of `f64` are compensated.

use std::marker::PhantomData;

use fearless_simd::f64x8;
use fearless_simd::prelude::*;

use super::double_double::{self, two_sum};
use super::real::Real;

/// Sums, lane by lane. In `f64`, for which there is no wider type, the rounding error of each addition is kept (Knuth's
/// exact addition); sums of `f32` are short and go on as `f64`.
#[derive(Clone, Copy)]
pub(crate) struct Sum<S: Simd, R: Real> {
    sum: R::V<S>,
    /// The sum of the rounding errors.
    error: R::V<S>,
}

impl<S: Simd, R: Real> Sum<S, R> {
    /// Nothing added yet.
    #[inline(always)]
    pub(crate) fn new(simd: S) -> Self {
        let zero = R::V::<S>::splat(simd, R::ZERO);
        Sum { sum: zero, error: zero }
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, x: R::V<S>) {
        let new = self.sum + x;
        if R::IS_F64 {
            let part = new - self.sum;
            self.error += (self.sum - (new - part)) + (x - part);
        }
        self.sum = new;
    }

    /// Adds another's sums.
    #[inline(always)]
    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.error += other.error;
    }

    /// The sums of the lanes. The rounding error of an infinite sum is nan, and left out.
    #[inline(always)]
    pub(crate) fn lane_sums(self) -> R::V<S> {
        self.error.simd_eq(self.error).select(self.sum + self.error, self.sum)
    }

    /// The sum over all lanes, and its rounding error.
    #[inline(always)]
    pub(crate) fn reduce(self) -> (f64, f64) {
        if !R::IS_F64 {
            return (<R as Real>::sum::<S>(self.sum), 0.0);
        }
        let (mut sum, mut error) = (0.0_f64, <R as Real>::sum::<S>(self.error));
        for x in self.sum.as_slice() {
            let [new, more] = two_sum(sum, x.to_f64());
            error += more;
            sum = new;
        }
        (sum, error)
    }

    /// [`Self::reduce`] and the sum of a row of one block, of as many rows as there are lanes: `lanes[k]` has lane k of
    /// each. The low part is that of `f64`.
    #[inline(always)]
    pub(crate) fn reduce_each(lanes: &[Self; 16]) -> ([f64x8<S>; 2], f64x8<S>) {
        let simd = lanes[0].sum.token();
        let mut eight = [[f64x8::splat(simd, 0.0); 2]; 8];
        if !R::IS_F64 {
            for k in 0..8 {
                let (low, high) = (R::widen::<S>(lanes[k].sum), R::widen::<S>(lanes[k + 8].sum));
                eight[k] = [low[0] + high[0], low[1] + high[1]];
            }
            return ([sum_of_eight(&eight, 0), sum_of_eight(&eight, 1)], eight[0][0]);
        }
        for k in 0..8 {
            eight[k] = R::widen::<S>(lanes[k].error);
        }
        let (mut sum, mut error) = (f64x8::splat(simd, 0.0), sum_of_eight(&eight, 0));
        for lane in &lanes[..8] {
            let [new, more] = double_double::two_sum_lanes(sum, R::widen::<S>(lane.sum)[0]);
            (sum, error) = (new, error + more);
        }
        let total = sum + error;
        ([total; 2], error - (total - sum))
    }
}

/// A sum in the order in which the library adds the lanes of a vector.
#[inline(always)]
fn sum_of_eight<S: Simd>(of: &[[f64x8<S>; 2]; 8], half: usize) -> f64x8<S> {
    let x = |k: usize| of[k][half];
    ((x(0) + x(4)) + (x(2) + x(6))) + ((x(1) + x(5)) + (x(3) + x(7)))
}

/// Sums, lane by lane, of four terms at a time: terms of `f32` are rounded twice before they are added in `f64`,
/// however many there are.
#[derive(Clone, Copy)]
pub(crate) struct LaneSum<S: Simd, R: Real> {
    wide: [f64x8<S>; 2],
    exact: Sum<S, f64>,
    _real: PhantomData<R>,
}

impl<S: Simd, R: Real> LaneSum<S, R> {
    /// Nothing added yet.
    #[inline(always)]
    pub(crate) fn new(simd: S) -> Self {
        LaneSum { wide: [f64x8::splat(simd, 0.0); 2], exact: Sum::new(simd), _real: PhantomData }
    }

    /// Adds four terms, of which those from `count` on are 0.
    #[inline(always)]
    pub(crate) fn add(&mut self, [a, b, c, d]: [R::V<S>; 4], count: usize) {
        if !R::IS_F64 {
            let sum = R::widen((a + b) + (c + d));
            self.wide = [self.wide[0] + sum[0], self.wide[1] + sum[1]];
        } else {
            self.exact.add(R::widen(a)[0]);
            if count > 1 {
                self.exact.add(R::widen(b)[0]);
            }
            if count > 2 {
                self.exact.add(R::widen(c)[0]);
            }
            if count > 3 {
                self.exact.add(R::widen(d)[0]);
            }
        }
    }

    /// The sums, and the low part of those of `f64`.
    #[inline(always)]
    pub(crate) fn get(self) -> ([f64x8<S>; 2], f64x8<S>) {
        if !R::IS_F64 {
            return (self.wide, self.exact.error);
        }
        let [sum, low] = double_double::fast_two_sum(self.exact.sum, self.exact.error);
        ([sum; 2], low)
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    #[test]
    fn sums_of_doubles_lose_nothing() {
        for (_, level) in isa::available() {
            let (sum, error) = dispatch!(level, simd => {
                let mut sum = Sum::<_, f64>::new(simd);
                for x in [1.0, 1e-17, 1e-17, 3e-17] {
                    sum.add(f64x8::splat(simd, x));
                }
                sum.reduce()
            });
            assert_eq!(sum, 8.0);
            assert!((error - 40e-17).abs() < 1e-30, "{error}");
        }
    }
}
