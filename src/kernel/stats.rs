//! The statistics of a row besides its sum: what entropy, rank, prediction and squared error are made of.
//!
//! ```text
//! max_minus_x = sum of term(x) (max - x),   entropy = log1p(rest) + max_minus_x / (exp_max + sum_exp_rest)
//! ```
//!
//! in the units of [`super::log_sum_exp`]. Both parts are positive, so that the entropy of a confident row keeps its
//! digits. For a row with a nan, with +inf or of nothing but -inf the numbers mean nothing.
//!
//! The statistics of a long row are computed while it is summed ([`super::long_row`]), those of packed rows in a second
//! pass.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::element::{Element, RealOf, Vector};
use super::exp::{Pivot, pivot, power_of_two, term_and_max_minus_x, term_from_base};
use super::real::Real;

/// Sums and counts over the classes of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowStats {
    /// The sum of term(x) (max - x).
    pub max_minus_x: f64,
    /// The sum of the squares of the terms below the maximum, times 2^-SCALE.
    pub squares: f64,
    /// Classes with a larger logit than the target.
    pub greater: f64,
    /// Classes with the largest logit.
    pub largest: f64,
    /// Classes before the target with the target's logit.
    pub tied_before: f64,
}

/// The statistics of a long row so far, updated block by block, and the target that its elements are compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnlineStats<R> {
    /// The target's logit, and its class.
    pub logit: R,
    pub class: usize,
    pub row: RowStats,
    /// The first class with the largest logit.
    pub first: usize,
}

impl<R: Real> OnlineStats<R> {
    pub(crate) fn new(logit: R, class: usize) -> Self {
        OnlineStats { logit, class, row: RowStats::default(), first: 0 }
    }

    /// Expresses the sums in units of the `new` maximum, in which `sum` is the row's sum. `exp_max` was the term of the
    /// `old` one.
    #[inline(always)]
    pub(crate) fn rescale(&mut self, sum: f64, old: R, new: R, exp_max: f64, factor: impl Fn(f64) -> f64) {
        // Each max - x grows by new - old; where the terms have faded to 0, the size of the difference does not matter.
        let grown = if sum == 0.0 { 0.0 } else { sum * (new.to_f64() - old.to_f64()) };
        self.row.max_minus_x = factor(self.row.max_minus_x) + grown;
        let exp_max = exp_max * power_of_two(-R::SCALE / 2);
        self.row.squares = factor(factor(self.row.squares + self.row.largest * exp_max * exp_max));
        self.row.largest = 0.0;
    }

    /// Adds the sums of later classes, in the same units.
    #[inline(always)]
    pub(crate) fn add(&mut self, part: &RowStats) {
        self.row.max_minus_x += part.max_minus_x;
        self.row.squares += part.squares;
        self.row.greater += part.greater;
        self.row.largest += part.largest;
        self.row.tied_before += part.tied_before;
    }
}

/// Updates `first` and `tied_before` by a block before its terms are summed: `start` is its first class, `block_max`
/// its maximum and `max` that of the row before it.
#[inline(always)]
pub(crate) fn before_block<S: Simd, E: Element>(
    simd: S,
    stats: &mut OnlineStats<RealOf<E>>,
    start: usize,
    block: &[E],
    block_max: RealOf<E>,
    max: RealOf<E>,
) {
    if block_max > max {
        stats.first = start + position(simd, block, block_max);
    }
    if stats.logit <= block_max && start < stats.class {
        let before = (stats.class - start).min(block.len());
        stats.row.tied_before += count_equal(simd, &block[..before], stats.logit);
    }
}

/// What a block's elements add to the statistics, lane by lane: a block is short enough for `f32` sums. Classes with the
/// largest logit are counted by the caller.
pub(crate) struct Lanes<S: Simd, R: Real, const STATS: bool> {
    max_less_base: R::V<S>,
    logit: R::V<S>,
    max_minus_x: [R::V<S>; 2],
    squares: [R::V<S>; 2],
    greater: [R::V<S>; 2],
}

impl<S: Simd, R: Real, const STATS: bool> Lanes<S, R, STATS> {
    #[inline(always)]
    pub(crate) fn new(simd: S, max: R::V<S>, p: &Pivot<R::V<S>>, stats: &OnlineStats<R>) -> Self {
        let none = [R::V::<S>::splat(simd, R::ZERO); 2];
        Lanes {
            max_less_base: max - p.base,
            logit: R::V::<S>::splat(simd, stats.logit),
            max_minus_x: none,
            squares: none,
            greater: none,
        }
    }

    /// The terms of x, and with `STATS` max - x: finite where the term is 0, so that their product is 0 even for an x of
    /// -inf. `FAR` says whether the pivot's base may be another number than 0.
    #[inline(always)]
    pub(crate) fn terms<const FAR: bool>(&self, x: R::V<S>, p: &Pivot<R::V<S>>) -> (R::V<S>, R::V<S>) {
        let (term, y) = term_from_base::<S, R>(if FAR { x - p.base } else { x }, p);
        (term, if STATS { self.max_less_base - y } else { y })
    }

    /// Adds the statistics of x to one of two chains. The terms of elements that equal the maximum are 0 here.
    #[inline(always)]
    pub(crate) fn add(&mut self, x: R::V<S>, (term, max_minus_x): (R::V<S>, R::V<S>), chain: usize) {
        if !STATS {
            return;
        }
        self.max_minus_x[chain] = term.mul_add(max_minus_x, self.max_minus_x[chain]);
        let greater = self.greater[chain];
        self.greater[chain] = x.simd_gt(self.logit).select(greater + R::ONE, greater);
        let scaled = if R::IS_F64 { term * half_unit::<R>() } else { term };
        self.squares[chain] = scaled.mul_add(scaled, self.squares[chain]);
    }

    /// Adds the sums of a block to the row's.
    #[inline(always)]
    pub(crate) fn add_to(self, stats: &mut OnlineStats<R>) {
        if !STATS {
            return;
        }
        stats.row.max_minus_x += wide_sum::<S, R>(self.max_minus_x);
        // 1024 squares of `f32` terms are in range without the factor.
        let unit = if R::IS_F64 { 1.0 } else { power_of_two(-R::SCALE) };
        stats.row.squares += wide_sum::<S, R>(self.squares) * unit;
        // The counts of a block are exact in either type.
        stats.row.greater += <R as Real>::sum::<S>(self.greater[0] + self.greater[1]);
    }
}

/// The sum of all lanes of two vectors, in `f64`.
#[inline(always)]
fn wide_sum<S: Simd, R: Real>([a, b]: [R::V<S>; 2]) -> f64 {
    let (a, b) = (R::widen(a), R::widen(b));
    let mut sum = a[0] + b[0];
    if !R::IS_F64 {
        sum += a[1] + b[1];
    }
    sum.reduce_sum()
}

/// The position of the first element that equals a number; 0 if none does.
#[simd]
fn position<S: Simd, E: Element>(simd: S, block: &[E], value: RealOf<E>) -> usize {
    let lanes = RealOf::<E>::LANES;
    let wanted = Vector::<E, S>::splat(simd, value);
    let vectors = block.chunks_exact(lanes);
    let last = vectors.remainder();
    for (k, x) in vectors.enumerate() {
        let equal = E::load(simd, x).simd_eq(wanted).to_bitmask();
        if equal != 0 {
            return k * lanes + equal.trailing_zeros() as usize;
        }
    }
    let value = value.to_f64();
    last.iter().position(|x| x.to_f64() == value).map_or(0, |at| block.len() - last.len() + at)
}

/// Elements of a block that equal a number.
#[inline(always)]
fn count_equal<S: Simd, E: Element>(simd: S, block: &[E], value: RealOf<E>) -> f64 {
    let lanes = RealOf::<E>::LANES;
    let value = Vector::<E, S>::splat(simd, value);
    let mut count = Vector::<E, S>::splat(simd, RealOf::<E>::ZERO);
    let vectors = block.chunks_exact(lanes);
    let last = vectors.remainder();
    for x in vectors {
        count = E::load(simd, x).simd_eq(value).select(count + RealOf::<E>::ONE, count);
    }
    let value = value.as_slice()[0].to_f64();
    let rest = last.iter().filter(|x| x.to_f64() == value).count();
    <RealOf<E> as Real>::sum::<S>(count) + rest as f64
}

/// The term of an x below the maximum, times 2^(-SCALE / 2) so that its square is in range; 0 of the maximum.
#[inline(always)]
fn scaled_below<S: Simd, R: Real>(x: R::V<S>, max: R::V<S>, term: R::V<S>) -> R::V<S> {
    let zero = R::V::<S>::splat(x.token(), R::ZERO);
    x.simd_lt(max).select(term, zero) * half_unit::<R>()
}

/// 2^(-SCALE / 2).
#[inline(always)]
fn half_unit<R: Real>() -> R {
    R::from_f64(power_of_two(-R::SCALE / 2))
}

/// The statistics of a tile's rows.
#[derive(Clone)]
pub(crate) struct TileStats {
    pub rows: [RowStats; TILE],
    /// The first class with the largest logit.
    pub largest: [usize; TILE],
}

impl TileStats {
    pub(crate) fn new() -> Self {
        TileStats { rows: [RowStats::default(); TILE], largest: [0; TILE] }
    }
}

/// Computes the statistics of the first `rows` rows of a packed tile, lanes across the rows.
#[simd]
pub(crate) fn tile_stats<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    max: &[R; TILE],
    class: &[usize; TILE],
    stats: &mut TileStats,
) {
    let (mut logits, mut classes) = ([R::ZERO; TILE], [R::ZERO; TILE]);
    for i in 0..rows {
        // Inactive rows may have any class.
        logits[i] = packed.get(class[i].saturating_mul(TILE) + i).copied().unwrap_or(R::ZERO);
        classes[i] = R::from_f64(class[i].min(packed.len()) as f64);
    }
    let (zero, one) = (R::V::<S>::splat(simd, R::ZERO), R::V::<S>::splat(simd, R::ONE));
    let zero_wide = f64x8::splat(simd, 0.0);
    for lane in (0..rows).step_by(R::LANES) {
        let load = |from: &[R; TILE]| R::V::<S>::from_slice(simd, &from[lane..lane + R::LANES]);
        let (m, logit, class) = (load(max), load(&logits), load(&classes));
        let p = pivot::<S, R>(m);
        let (mut max_minus_x, mut squares) = ([zero_wide; 2], [zero_wide; 2]);
        let (mut greater, mut largest, mut tied, mut first) = (zero, zero, zero, zero);
        // From the last class to the first: the maximum that is met last is the first.
        for (c, x) in packed.chunks_exact(TILE).enumerate().rev() {
            let x = R::V::<S>::from_slice(simd, &x[lane..lane + R::LANES]);
            let index = R::V::<S>::splat(simd, R::from_f64(c as f64));
            let (term, d) = term_and_max_minus_x::<S, R>(x, &p, m - p.base);
            let d = R::widen(term * d);
            for half in 0..R::F64_VECTORS {
                max_minus_x[half] += d[half];
            }
            let below = scaled_below::<S, R>(x, m, term);
            let s = R::widen(below * below);
            for half in 0..R::F64_VECTORS {
                squares[half] += s[half];
            }
            greater = x.simd_gt(logit).select(greater + one, greater);
            first = x.simd_eq(m).select(index, first);
            largest = x.simd_eq(m).select(largest + one, largest);
            tied = x.simd_eq(logit).select(index.simd_lt(class).select(tied + one, tied), tied);
        }
        let (greater, largest) = (R::widen(greater), R::widen(largest));
        let (tied, first) = (R::widen(tied), R::widen(first));
        for half in 0..R::F64_VECTORS {
            for (k, row) in stats.rows[lane + 8 * half..lane + 8 * half + 8].iter_mut().enumerate() {
                *row = RowStats {
                    max_minus_x: max_minus_x[half].as_slice()[k],
                    squares: squares[half].as_slice()[k],
                    greater: greater[half].as_slice()[k],
                    largest: largest[half].as_slice()[k],
                    tied_before: tied[half].as_slice()[k],
                };
                stats.largest[lane + 8 * half + k] = first[half].as_slice()[k] as usize;
            }
        }
    }
}
