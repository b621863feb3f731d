//! The sum of q (max - x) over the classes: what label smoothing and class probabilities add to
//! `log1p(rest)`. All terms of a distribution q have one sign, so nothing cancels.
//!
//! A class with q = 0 adds nothing, even where its logit is infinite.

use std::marker::PhantomData;

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::element::{Element, RealOf};
use super::f64_vectors;
use super::prefetch::{AHEAD_BYTES, prefetch};
use super::real::Real;
use super::sum::Sum;

/// The sum of q (max - x) over a block of one row; with `TOTAL` that of q too, else 0. With `TOTAL` each row has a q of
/// its own, and the memory behind it is prefetched.
#[simd]
pub(crate) fn row_max_minus_x<S: Simd, E: Element, Q: Element, const TOTAL: bool>(
    simd: S,
    x: &[E],
    q: &[Q],
    max: f64,
) -> (f64, f64) {
    let sums = row_sums::<S, E, Q, TOTAL, false>(simd, x, q, max);
    // The product of a q of 0 with an infinite distance is nan.
    if sums.0.is_nan() { row_sums_of_infinite::<S, E, Q, TOTAL>(simd, x, q, max) } else { sums }
}

/// [`row_max_minus_x`] of a block in which a q of 0 meets an infinite logit, or of one with a nan.
#[simd]
#[inline(never)]
fn row_sums_of_infinite<S: Simd, E: Element, Q: Element, const TOTAL: bool>(
    simd: S,
    x: &[E],
    q: &[Q],
    max: f64,
) -> (f64, f64) {
    row_sums::<S, E, Q, TOTAL, true>(simd, x, q, max)
}

#[inline(always)]
fn row_sums<S: Simd, E: Element, Q: Element, const TOTAL: bool, const INFINITE: bool>(
    simd: S,
    x: &[E],
    q: &[Q],
    max: f64,
) -> (f64, f64) {
    let max = f64x8::splat(simd, max);
    let mut sums = [WeightedSum::<S, RealOf<E>, TOTAL, INFINITE>::new(simd); 2];
    let (xs, qs) = (x.chunks_exact(TWICE), q.chunks_exact(TWICE));
    let len = xs.remainder().len();
    for (x, q) in xs.zip(qs) {
        if TOTAL {
            prefetch(q.as_ptr().wrapping_byte_add(AHEAD_BYTES), size_of_val(q));
        }
        let (x, q) = (widen(simd, x), widen(simd, q));
        for half in 0..2 {
            sums[half].add(q[half], max - x[half]);
        }
    }
    if len > 0 {
        let (x, q) = (widen_last(simd, x), widen_last(simd, q));
        let zero = f64x8::splat(simd, 0.0);
        for half in 0..2 {
            let position = f64x8::from_slice(simd, &f64::POSITIONS[8 * half..8 * half + 8]);
            let counts = position.simd_ge(f64x8::splat(simd, (TWICE - len) as f64));
            sums[half].add(counts.select(q[half], zero), counts.select(max - x[half], zero));
        }
    }
    (Wide::reduce(sums.map(|sum| sum.max_minus_x)), Wide::reduce(sums.map(|sum| sum.total)))
}

/// Elements that are widened together.
const TWICE: usize = 16;

/// Two vectors of `f64` from as many elements.
#[inline(always)]
fn widen<S: Simd, E: Element>(simd: S, from: &[E]) -> [f64x8<S>; 2] {
    let lanes = RealOf::<E>::LANES;
    let first = RealOf::<E>::widen(E::load(simd, &from[..lanes]));
    if lanes == TWICE { first } else { [first[0], RealOf::<E>::widen(E::load(simd, &from[lanes..]))[0]] }
}

/// The last elements of a block, at the end of the two vectors. Before them are elements of the block that have been
/// added already, or padding.
#[inline(always)]
fn widen_last<S: Simd, E: Element>(simd: S, from: &[E]) -> [f64x8<S>; 2] {
    if from.len() >= TWICE {
        return widen(simd, &from[from.len() - TWICE..]);
    }
    let mut filled = [E::PADDING; TWICE];
    filled[TWICE - from.len()..].copy_from_slice(from);
    widen(simd, &filled)
}

/// The q of a packed tile.
#[derive(Clone, Copy)]
pub(crate) enum TileWeights<'a> {
    /// One for each class, the same for all rows.
    Class(&'a [f64]),
    /// One for each class and row, packed as the logits are.
    Entry(&'a [f64]),
}

impl TileWeights<'_> {
    /// The q of a class in eight rows from `row` on.
    #[inline(always)]
    pub(crate) fn of<S: Simd>(self, simd: S, class: usize, row: usize) -> f64x8<S> {
        match self {
            TileWeights::Class(q) => f64x8::splat(simd, q[class]),
            TileWeights::Entry(q) => f64x8::from_slice(simd, &q[class * TILE + row..class * TILE + row + 8]),
        }
    }

    /// factor q of a class in as many rows from `row` on as a vector of R has lanes.
    #[inline(always)]
    pub(crate) fn scaled<S: Simd, R: Real>(
        self,
        simd: S,
        class: usize,
        row: usize,
        factor: &[f64; TILE],
    ) -> [f64x8<S>; 2] {
        f64_vectors(
            #[inline(always)]
            |half| {
                let at = row + 8 * (half % R::F64_VECTORS);
                f64x8::from_slice(simd, &factor[at..at + 8]) * self.of(simd, class, at)
            },
        )
    }
}

/// The sum of q (max - x) over all classes, for each of the first `rows` rows of a packed tile; and with `TOTAL` that
/// of q.
#[simd]
pub(crate) fn tile_max_minus_x<S: Simd, R: Real, const TOTAL: bool>(
    simd: S,
    packed: &[R],
    q: TileWeights<'_>,
    rows: usize,
    max: &[R; TILE],
    max_minus_x: &mut [f64; TILE],
    total: &mut [f64; TILE],
) {
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::widen(R::V::<S>::from_slice(simd, &max[lane..lane + R::LANES]));
        let mut sums = [WeightedSum::<S, R, TOTAL, true>::new(simd); 2];
        for (c, x) in packed.chunks_exact(TILE).enumerate() {
            let x = R::widen(R::V::<S>::from_slice(simd, &x[lane..lane + R::LANES]));
            for half in 0..R::F64_VECTORS {
                sums[half].add(q.of(simd, c, lane + 8 * half), m[half] - x[half]);
            }
        }
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            sums[half].max_minus_x.lanes().store_slice(&mut max_minus_x[at.clone()]);
            if TOTAL {
                sums[half].total.lanes().store_slice(&mut total[at]);
            }
        }
    }
}

/// Sums of q d with d = max - x, and with `TOTAL` of q. With `INFINITE` a q of 0 adds nothing to an infinite d either.
#[derive(Clone, Copy)]
struct WeightedSum<S: Simd, R: Real, const TOTAL: bool, const INFINITE: bool> {
    max_minus_x: Wide<S, R>,
    total: Wide<S, R>,
}

impl<S: Simd, R: Real, const TOTAL: bool, const INFINITE: bool> WeightedSum<S, R, TOTAL, INFINITE> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        WeightedSum { max_minus_x: Wide::new(simd), total: Wide::new(simd) }
    }

    #[inline(always)]
    fn add(&mut self, q: f64x8<S>, d: f64x8<S>) {
        let zero = f64x8::splat(q.token(), 0.0);
        self.max_minus_x.add_product(q, if INFINITE { q.simd_eq(zero).select(zero, d) } else { d });
        if TOTAL {
            self.total.add(q);
        }
    }
}

/// Sums, lane by lane. For rows of `f64`, for which there is no wider type, the rounding error of each
/// addition is kept.
#[derive(Clone, Copy)]
struct Wide<S: Simd, R: Real> {
    sum: f64x8<S>,
    exact: Sum<S, f64>,
    _real: PhantomData<R>,
}

impl<S: Simd, R: Real> Wide<S, R> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Wide { sum: f64x8::splat(simd, 0.0), exact: Sum::new(simd), _real: PhantomData }
    }

    #[inline(always)]
    fn add(&mut self, x: f64x8<S>) {
        if !R::IS_F64 {
            self.sum += x;
        } else {
            self.exact.add(x);
        }
    }

    #[inline(always)]
    fn add_product(&mut self, a: f64x8<S>, b: f64x8<S>) {
        if !R::IS_F64 {
            self.sum = a.mul_add(b, self.sum);
        } else {
            self.exact.add(a * b);
        }
    }

    /// The sums of the lanes.
    #[inline(always)]
    fn lanes(self) -> f64x8<S> {
        if !R::IS_F64 { self.sum } else { self.exact.lane_sums() }
    }

    /// The sum of all lanes of two vectors of sums.
    #[inline(always)]
    fn reduce([mut a, b]: [Self; 2]) -> f64 {
        if !R::IS_F64 {
            return (a.sum + b.sum).reduce_sum();
        }
        a.exact.merge(b.exact);
        let (sum, error) = a.exact.reduce();
        // The rounding error of an infinite sum is nan.
        if error.is_nan() { sum } else { sum + error }
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};
    use half::{bf16, f16};

    use super::*;
    use crate::kernel::isa;

    /// The sums over every block of a row, where each q of 0 has an x of minus infinity.
    fn blocks_add_up<E: Element, Q: Element>(level: Level) {
        let q_of = |i: usize| (i % 5) as f64 / 8.0;
        let x_of = |i: usize| if i.is_multiple_of(5) { f64::NEG_INFINITY } else { -((i % 11) as f64) };
        let x: Vec<E> = (0..70).map(|i| E::from_f64(x_of(i))).collect();
        let q: Vec<Q> = (0..70).map(|i| Q::from_f64(q_of(i))).collect();
        for range in (0..3).flat_map(|start| (start..=70).map(move |end| start..end)) {
            let terms = range.clone().filter(|i| q_of(*i) != 0.0).map(|i| q_of(i) * (1.0 - x_of(i)));
            let expected = (terms.sum::<f64>(), range.clone().map(q_of).sum::<f64>());
            let (x, q) = (&x[range.clone()], &q[range.clone()]);
            let both = dispatch!(level, simd => row_max_minus_x::<_, E, Q, true>(simd, x, q, 1.0));
            assert_eq!(both, expected, "{} {} {range:?}", E::NAME, Q::NAME);
            let alone = dispatch!(level, simd => row_max_minus_x::<_, E, Q, false>(simd, x, q, 1.0));
            assert_eq!(alone, (expected.0, 0.0));
        }
    }

    #[test]
    fn blocks_of_any_length_and_types_add_up_on_every_level() {
        for (_, level) in isa::available() {
            blocks_add_up::<f32, f32>(level);
            blocks_add_up::<f32, f64>(level);
            blocks_add_up::<f64, f32>(level);
            blocks_add_up::<f64, f64>(level);
            blocks_add_up::<f16, bf16>(level);
            blocks_add_up::<bf16, f16>(level);
        }
    }
}
