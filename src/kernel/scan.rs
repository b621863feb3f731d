//! A second look at rows that are still in the cache, once their maximum and sum are known.
//!
//! ```text
//! gap = sum of term(x) (max - x),   entropy = log1p(rest) + gap / (own + others)
//! ```
//!
//! in the units of [`super::finish`]. Both parts are positive, so that the entropy of a confident row keeps its digits. For
//! a row with a nan, with +inf or of nothing but -inf the numbers mean nothing.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::element::{Element, RealOf, Vector};
use super::exp::{Pivot, pivot, power_of_two, term_and_gap};
use super::prefetch::prefetch;
use super::real::Real;
use super::wide::last_vector;

/// Vectors that are in flight together.
const CHAINS: usize = 4;

/// Sums and counts over the classes of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowScan {
    /// The sum of term(x) (max - x).
    pub gap: f64,
    /// With `FULL`, the sum of the squares of the terms below the maximum, times 2^-SCALE.
    pub squares: f64,
    /// Classes with a larger logit than the target.
    pub greater: f64,
    /// With `FULL`, classes with the largest logit.
    pub largest: f64,
    /// Classes before the target with the target's logit: among those before `Against::class`, or, in a packed tile, with `FULL`.
    pub tied_before: f64,
}

/// What a row's blocks are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Against<R> {
    pub max: R,
    /// The target's logit, and its class; 0 for the class where ties do not matter.
    pub logit: R,
    pub class: usize,
    /// How many bytes behind an element lies the one that takes its place in the next tile; 0 if that is not known, or too far
    /// to stay in the cache.
    pub ahead: usize,
}

/// Adds a block whose first class is `start`, and returns the block's maximum (a nan may or may not show).
#[simd]
pub(crate) fn scan_block<S: Simd, E: Element, const FULL: bool>(
    simd: S,
    block: &[E],
    start: usize,
    against: Against<RealOf<E>>,
    scan: &mut RowScan,
) -> RealOf<E> {
    let lanes = RealOf::<E>::LANES;
    let common = Common::<S, RealOf<E>>::new(simd, against);
    let mut sums = [Lanes::<S, RealOf<E>, FULL>::new(simd); CHAINS];
    let steps = block.chunks_exact(CHAINS * lanes);
    let vectors = steps.remainder().chunks_exact(lanes);
    let last = vectors.remainder();
    for x in steps {
        // The memory would have nothing to do: the block is in the cache, the next tile is not.
        if against.ahead > 0 {
            prefetch(x.as_ptr().wrapping_byte_add(against.ahead), size_of_val(x));
        }
        for (chain, sums) in sums.iter_mut().enumerate() {
            sums.add(E::load(simd, &x[chain * lanes..(chain + 1) * lanes]), &common);
        }
    }
    for x in vectors {
        sums[0].add(E::load(simd, x), &common);
    }
    if !last.is_empty() {
        sums[1].add(last_vector(simd, block, last.len()), &common);
    }
    let [a, b, c, d] = sums;
    scan.gap += wide_sum::<S, RealOf<E>>([a.gap, b.gap, c.gap, d.gap]);
    // Counts of a block are small enough for any number.
    scan.greater += RealOf::<E>::sum::<S>((a.greater + b.greater) + (c.greater + d.greater));
    if FULL {
        scan.squares += wide_sum::<S, RealOf<E>>([a.squares, b.squares, c.squares, d.squares]);
        scan.largest += RealOf::<E>::sum::<S>((a.tied + b.tied) + (c.tied + d.tied));
    }
    let before = against.class.saturating_sub(start).min(block.len());
    if before > 0 {
        scan.tied_before += count_equal(simd, &block[..before], against.logit);
    }
    a.largest.max(b.largest).max(c.largest.max(d.largest)).reduce_max()
}

/// The sum of all lanes of four vectors, in `f64`.
#[inline(always)]
fn wide_sum<S: Simd, R: Real>([a, b, c, d]: [R::V<S>; CHAINS]) -> f64 {
    let (a, b, c, d) = (R::widen(a), R::widen(b), R::widen(c), R::widen(d));
    let mut sum = (a[0] + b[0]) + (c[0] + d[0]);
    if R::HALVES == 2 {
        sum += (a[1] + b[1]) + (c[1] + d[1]);
    }
    sum.reduce_sum()
}

/// The position of the first element that equals a number; 0 if none does.
#[simd]
pub(crate) fn position<S: Simd, E: Element>(simd: S, block: &[E], value: RealOf<E>) -> usize {
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

/// Elements of a stretch that equal a number.
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

/// What all elements of a row are compared with, in all lanes.
struct Common<S: Simd, R: Real> {
    max: R::V<S>,
    max_less_base: R::V<S>,
    logit: R::V<S>,
    p: Pivot<R::V<S>>,
}

impl<S: Simd, R: Real> Common<S, R> {
    #[inline(always)]
    fn new(simd: S, against: Against<R>) -> Self {
        let max = R::V::<S>::splat(simd, against.max);
        let p = pivot::<S, R>(max);
        Common { max, max_less_base: max - p.base, logit: R::V::<S>::splat(simd, against.logit), p }
    }
}

/// Sums over a part of a block, lane by lane: short enough for `f32`.
#[derive(Clone, Copy)]
struct Lanes<S: Simd, R: Real, const FULL: bool> {
    gap: R::V<S>,
    squares: R::V<S>,
    greater: R::V<S>,
    tied: R::V<S>,
    largest: R::V<S>,
}

impl<S: Simd, R: Real, const FULL: bool> Lanes<S, R, FULL> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let zero = R::V::<S>::splat(simd, R::ZERO);
        let largest = R::V::<S>::splat(simd, R::NEG_INFINITY);
        Lanes { gap: zero, squares: zero, greater: zero, tied: zero, largest }
    }

    #[inline(always)]
    fn add(&mut self, x: R::V<S>, common: &Common<S, R>) {
        let (term, gap) = term_and_gap::<S, R>(x, &common.p, common.max_less_base);
        self.gap = term.mul_add(gap, self.gap);
        self.greater = x.simd_gt(common.logit).select(self.greater + R::ONE, self.greater);
        self.largest = self.largest.max(x);
        if FULL {
            let below = scaled_below::<S, R>(x, common.max, term);
            self.squares = below.mul_add(below, self.squares);
            self.tied = x.simd_eq(common.max).select(self.tied + R::ONE, self.tied);
        }
    }
}

/// The term of an x below the maximum, times 2^(-SCALE / 2) so that its square is in range; 0 of the maximum.
#[inline(always)]
fn scaled_below<S: Simd, R: Real>(x: R::V<S>, max: R::V<S>, term: R::V<S>) -> R::V<S> {
    let zero = R::V::<S>::splat(x.token(), R::ZERO);
    x.simd_lt(max).select(term, zero) * R::from_f64(power_of_two(-R::SCALE / 2))
}

/// What [`scan_tile`] finds, for each row.
#[derive(Clone)]
pub(crate) struct TileScan {
    pub rows: [RowScan; TILE],
    /// The first class with the largest logit.
    pub largest: [usize; TILE],
}

impl TileScan {
    pub(crate) fn new() -> Self {
        TileScan { rows: [RowScan::default(); TILE], largest: [0; TILE] }
    }
}

/// The same for the first `rows` rows of a packed tile, lanes across the rows.
#[simd]
pub(crate) fn scan_tile<S: Simd, R: Real, const FULL: bool>(
    simd: S,
    packed: &[R],
    rows: usize,
    max: &[R; TILE],
    class: &[usize; TILE],
    scan: &mut TileScan,
) {
    let (mut logits, mut classes) = ([R::ZERO; TILE], [R::ZERO; TILE]);
    for i in 0..rows {
        // Rows that do not count may have any class.
        logits[i] = packed.get(class[i].saturating_mul(TILE) + i).copied().unwrap_or(R::ZERO);
        classes[i] = R::from_f64(class[i].min(packed.len()) as f64);
    }
    let (zero, one) = (R::V::<S>::splat(simd, R::ZERO), R::V::<S>::splat(simd, R::ONE));
    let zero_wide = f64x8::splat(simd, 0.0);
    for lane in (0..rows).step_by(R::LANES) {
        let load = |from: &[R; TILE]| R::V::<S>::from_slice(simd, &from[lane..lane + R::LANES]);
        let (m, logit, class) = (load(max), load(&logits), load(&classes));
        let p = pivot::<S, R>(m);
        let (mut gap, mut squares) = ([zero_wide; 2], [zero_wide; 2]);
        let (mut greater, mut largest, mut tied, mut first) = (zero, zero, zero, zero);
        // From the last class to the first: the maximum that is met last is the first.
        for (c, x) in packed.chunks_exact(TILE).enumerate().rev() {
            let x = R::V::<S>::from_slice(simd, &x[lane..lane + R::LANES]);
            let number = R::V::<S>::splat(simd, R::from_f64(c as f64));
            let (term, g) = term_and_gap::<S, R>(x, &p, m - p.base);
            let g = R::widen(term * g);
            for half in 0..R::HALVES {
                gap[half] += g[half];
            }
            if FULL {
                let below = scaled_below::<S, R>(x, m, term);
                let s = R::widen(below * below);
                for half in 0..R::HALVES {
                    squares[half] += s[half];
                }
            }
            greater = x.simd_gt(logit).select(greater + one, greater);
            first = x.simd_eq(m).select(number, first);
            if FULL {
                largest = x.simd_eq(m).select(largest + one, largest);
                tied = x.simd_eq(logit).select(number.simd_lt(class).select(tied + one, tied), tied);
            }
        }
        let (greater, largest) = (R::widen(greater), R::widen(largest));
        let (tied, first) = (R::widen(tied), R::widen(first));
        for half in 0..R::HALVES {
            for (k, row) in scan.rows[lane + 8 * half..lane + 8 * half + 8].iter_mut().enumerate() {
                *row = RowScan {
                    gap: gap[half].as_slice()[k],
                    squares: squares[half].as_slice()[k],
                    greater: greater[half].as_slice()[k],
                    largest: largest[half].as_slice()[k],
                    tied_before: tied[half].as_slice()[k],
                };
                scan.largest[lane + 8 * half + k] = first[half].as_slice()[k] as usize;
            }
        }
    }
}
