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
use super::real::Real;
use super::sum::Sum;
use super::wide::last_vector;

/// The sum of q (max - x) over a stretch of one row; with `TOTAL` that of q too, else 0.
#[simd]
pub(crate) fn row_gap<S: Simd, E: Element, const TOTAL: bool>(
    simd: S,
    x: &[E],
    q: &[f64],
    max: f64,
) -> (f64, f64) {
    let lanes = RealOf::<E>::LANES;
    let max = f64x8::splat(simd, max);
    let mut sums = [[Gap::<S, RealOf<E>, TOTAL>::new(simd); 2]; 2];
    let (xs, qs) = (x.chunks_exact(2 * lanes), q.chunks_exact(2 * lanes));
    let (x_last, q_last) = (xs.remainder(), qs.remainder());
    for (x, q) in xs.zip(qs) {
        add(&mut sums[0], E::load(simd, &x[..lanes]), &q[..lanes], max);
        add(&mut sums[1], E::load(simd, &x[lanes..]), &q[lanes..], max);
    }
    let (xs, qs) = (x_last.chunks_exact(lanes), q_last.chunks_exact(lanes));
    let len = xs.remainder().len();
    for (x, q) in xs.zip(qs) {
        add(&mut sums[0], E::load(simd, x), q, max);
    }
    if len > 0 {
        let x = RealOf::<E>::widen(last_vector(simd, x, len));
        for half in 0..RealOf::<E>::HALVES {
            sums[0][half].add(last_of::<S, RealOf<E>>(simd, q, len, half), max - x[half]);
        }
    }
    let (mut gap, mut total) = (0.0, 0.0);
    for half in 0..RealOf::<E>::HALVES {
        for sum in [sums[0][half], sums[1][half]] {
            gap += sum.gap.reduce();
            total += sum.total.reduce();
        }
    }
    (gap, total)
}

/// Half of what [`last_vector`] gives, for the q and with 0.
#[inline(always)]
fn last_of<S: Simd, R: Real>(simd: S, q: &[f64], len: usize, half: usize) -> f64x8<S> {
    if q.len() < R::LANES {
        let mut filled = [0.0; 16];
        filled[..q.len()].copy_from_slice(q);
        return f64x8::from_slice(simd, &filled[8 * half..8 * half + 8]);
    }
    let at = q.len() - R::LANES + 8 * half;
    let position = f64x8::from_slice(simd, &f64::POSITIONS[8 * half..8 * half + 8]);
    let counts = position.simd_ge(f64x8::splat(simd, (R::LANES - len) as f64));
    counts.select(f64x8::from_slice(simd, &q[at..at + 8]), f64x8::splat(simd, 0.0))
}

/// Adds the lanes' q (max - x).
#[inline(always)]
fn add<S: Simd, R: Real, const TOTAL: bool>(
    sums: &mut [Gap<S, R, TOTAL>; 2],
    x: R::V<S>,
    q: &[f64],
    max: f64x8<S>,
) {
    let x = R::widen(x);
    for half in 0..R::HALVES {
        let q = f64x8::from_slice(x[half].token(), &q[8 * half..8 * half + 8]);
        sums[half].add(q, max - x[half]);
    }
}

/// The q of a packed tile.
#[derive(Clone, Copy)]
pub(crate) enum TileWeights<'a> {
    /// One for each class, the same for all rows.
    Class(&'a [f64]),
    /// One for each class and row, packed as the logits are.
    Entry(&'a [f64]),
}

/// The sum of q (max - x) over all classes, for each of the first `rows` rows of a packed tile; and with `TOTAL` that of q.
#[simd]
pub(crate) fn tile_gap<S: Simd, R: Real, const TOTAL: bool>(
    simd: S,
    packed: &[R],
    q: TileWeights<'_>,
    rows: usize,
    max: &[R; TILE],
    gap: &mut [f64; TILE],
    total: &mut [f64; TILE],
) {
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::widen(R::V::<S>::from_slice(simd, &max[lane..lane + R::LANES]));
        let mut sums = [Gap::<S, R, TOTAL>::new(simd); 2];
        for (c, x) in packed.chunks_exact(TILE).enumerate() {
            let x = R::widen(R::V::<S>::from_slice(simd, &x[lane..lane + R::LANES]));
            for half in 0..R::HALVES {
                let at = lane + 8 * half;
                let q = match q {
                    TileWeights::Class(q) => f64x8::splat(simd, q[c]),
                    TileWeights::Entry(q) => f64x8::from_slice(simd, &q[c * TILE + at..c * TILE + at + 8]),
                };
                sums[half].add(q, m[half] - x[half]);
            }
        }
        for half in 0..R::HALVES {
            let at = lane + 8 * half..lane + 8 * half + 8;
            sums[half].gap.lanes().store_slice(&mut gap[at.clone()]);
            if TOTAL {
                sums[half].total.lanes().store_slice(&mut total[at]);
            }
        }
    }
}

/// Sums of q d, where q = 0 adds nothing, and with `TOTAL` of q.
#[derive(Clone, Copy)]
struct Gap<S: Simd, R: Real, const TOTAL: bool> {
    gap: Wide<S, R>,
    total: Wide<S, R>,
}

impl<S: Simd, R: Real, const TOTAL: bool> Gap<S, R, TOTAL> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Gap { gap: Wide::new(simd), total: Wide::new(simd) }
    }

    #[inline(always)]
    fn add(&mut self, q: f64x8<S>, d: f64x8<S>) {
        let zero = f64x8::splat(q.token(), 0.0);
        self.gap.add(q, q.simd_eq(zero).select(zero, d));
        if TOTAL {
            self.total.add(q, f64x8::splat(q.token(), 1.0));
        }
    }
}

/// Sums of products, lane by lane. For rows of `f64`, where nothing wider comes after, what each addition rounds away is
/// kept.
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
    fn add(&mut self, a: f64x8<S>, b: f64x8<S>) {
        if R::HALVES == 2 {
            self.sum = a.mul_add(b, self.sum);
        } else {
            self.exact.add(a * b);
        }
    }

    /// The sums of the lanes.
    #[inline(always)]
    fn lanes(self) -> f64x8<S> {
        if R::HALVES == 2 { self.sum } else { self.exact.lane_sums() }
    }

    /// The sum of all lanes.
    #[inline(always)]
    fn reduce(self) -> f64 {
        if R::HALVES == 2 {
            return self.sum.reduce_sum();
        }
        let (sum, lost) = self.exact.reduce();
        // An infinite sum leaves a nan in what was lost.
        if lost.is_nan() { sum } else { sum + lost }
    }
}
