//! A long row, block by block: its maximum and the sum of the other classes' exponentials.
//!
//! The maximum of a block is known before its exponentials are computed, because it is found while the block before it
//! is summed: memory is read once, and reading overlaps with computing. The term of the maximum is kept out of the sum,
//! so that a confident row keeps its digits.
//!
//! Further statistics of a row, its entropy for instance, are updated in the same loop ([`OnlineStats`]): each element
//! is read, and its exponential computed, once.
//!
//! The terms of a block are added in an order that only their positions decide (four vectors to one, that
//! to the accumulator), and the sums of blocks are compensated: the same bits everywhere, and a million
//! equal classes cost no digits.

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::BLOCK;
use super::double_double::two_sum;
use super::element::{Element, RealOf, Vector};
use super::exp::{Pivot, exp_f64, exp_max_f64, pivot, power_of_two, scale_down};
use super::prefetch::{AHEAD_BYTES, prefetch};
use super::real::Real;
use super::stats::{Lanes, OnlineStats};
use super::sum::Sum;

/// Vectors that are in flight together.
pub(super) const CHAINS: usize = 4;

/// The maximum and the sum of a row after some of its blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSum<R> {
    /// The largest element so far.
    pub max: R,
    /// The sum of `term(x)` over the other elements, and its rounding error.
    sum: f64,
    error: f64,
    /// Further elements that equal `max` in the block that brought it; their terms are not in the sum.
    pub ties: f64,
}

impl<R: Real> RowSum<R> {
    pub(crate) const EMPTY: Self = RowSum { max: R::NEG_INFINITY, sum: 0.0, error: 0.0, ties: 0.0 };

    /// The sum of the terms, double-double.
    #[inline(always)]
    pub(crate) fn total(&self) -> [f64; 2] {
        let sum = self.sum + self.error;
        [sum, self.error - (sum - self.sum)]
    }

    /// Adds a block's sum, with its rounding error.
    #[inline(always)]
    fn add(&mut self, (block, error): (f64, f64)) {
        let [sum, more] = two_sum(self.sum, block);
        self.error += more + error;
        self.sum = sum;
    }
}

/// The largest element of a block; a nan may or may not show.
#[simd]
pub(crate) fn block_max<S: Simd, E: Element>(simd: S, block: &[E]) -> RealOf<E> {
    let mut lanes = Maximum::<S, E>::new(simd);
    lanes.update(block, 0);
    lanes.reduce()
}

/// Adds a block of at most [`BLOCK`] elements with maximum `block_max` to the row, and returns the
/// maximum of `next` (minus infinity where that is empty).
#[simd]
pub(crate) fn update<S: Simd, E: Element, const STATS: bool>(
    simd: S,
    row: &mut RowSum<RealOf<E>>,
    block: &[E],
    block_max: RealOf<E>,
    next: &[E],
    stats: &mut OnlineStats<RealOf<E>>,
) -> RealOf<E> {
    debug_assert!(block.len() <= BLOCK && next.len() <= BLOCK);
    if block_max == RealOf::<E>::NEG_INFINITY {
        // Nothing to add, but x86 may have dropped a nan from the maximum.
        if block.iter().any(|x| x.to_f64().is_nan()) {
            row.sum = f64::NAN;
        }
        return self::block_max(simd, next);
    }
    if block_max <= row.max {
        let p = pivot::<S, RealOf<E>>(Vector::<E, S>::splat(simd, row.max));
        let (sum, _, next_max) = sum_terms::<S, E, false, STATS>(simd, block, row.max, &p, next, stats);
        row.add(sum);
        next_max
    } else {
        if row.max != RealOf::<E>::NEG_INFINITY {
            rescale::<S, RealOf<E>, STATS>(simd, row, block_max, stats);
        }
        row.max = block_max;
        let p = pivot::<S, RealOf<E>>(Vector::<E, S>::splat(simd, block_max));
        let (sum, equal, next_max) = sum_terms::<S, E, true, STATS>(simd, block, block_max, &p, next, stats);
        row.add(sum);
        row.ties = f64::from(equal) - 1.0;
        next_max
    }
}

/// Adds the sums and the statistics of later blocks of the row.
#[simd]
pub(crate) fn merge<S: Simd, R: Real, const STATS: bool>(
    simd: S,
    row: &mut RowSum<R>,
    stats: &mut OnlineStats<R>,
    mut part: RowSum<R>,
    mut part_stats: OnlineStats<R>,
) {
    if part.max == R::NEG_INFINITY {
        // Nothing, or a nan.
        row.sum += part.sum;
    } else if row.max == R::NEG_INFINITY {
        part.sum += row.sum;
        (*row, stats.first) = (part, part_stats.first);
    } else {
        if part.max == row.max {
            row.ties += part.ties + 1.0;
        } else if part.max < row.max {
            rescale::<S, R, STATS>(simd, &mut part, row.max, &mut part_stats);
        } else {
            rescale::<S, R, STATS>(simd, row, part.max, stats);
            (row.max, row.ties, stats.first) = (part.max, part.ties, part_stats.first);
        }
        row.add((part.sum, part.error));
    }
    if STATS {
        stats.add(&part_stats.row);
    }
}

/// Expresses the row's sum, with the terms of its maximum, in units of a new and larger maximum.
#[simd]
#[inline(never)]
fn rescale<S: Simd, R: Real, const STATS: bool>(
    simd: S,
    row: &mut RowSum<R>,
    new: R,
    stats: &mut OnlineStats<R>,
) {
    let (old_v, new_v) = (R::V::<S>::splat(simd, row.max), R::V::<S>::splat(simd, new));
    let (old_p, new_p) = (pivot::<S, R>(old_v), pivot::<S, R>(new_v));
    let exp_max = |v, p: &Pivot<R::V<S>>| exp_max_f64::<S, R>(v, p)[0].as_slice()[0] * power_of_two(R::SCALE);
    let old_exp_max = exp_max(old_v, &old_p);
    let (old_base, new_base) = (old_p.base.as_slice()[0], new_p.base.as_slice()[0]);
    let factor = if old_base == R::ZERO && new_base == R::ZERO {
        let n = old_p.n.as_slice()[0].to_f64() - new_p.n.as_slice()[0].to_f64();
        Factor::Power(n as i32)
    } else {
        // In two halves, each within the range of exp_f64; beyond, even a subnormal result has faded to 0.
        let half = 0.5 * (row.max.to_f64() - new.to_f64());
        let half =
            if half < -690.0 { 0.0 } else { exp_f64(<f64 as Real>::V::<S>::splat(simd, half)).as_slice()[0] };
        Factor::Product { half, old_exp_max, new_exp_max: exp_max(new_v, &new_p) }
    };
    row.sum = factor.of(row.total()[0] + (row.ties + 1.0) * old_exp_max);
    row.error = 0.0;
    if STATS {
        stats.rescale(row.sum, row.max, new, old_exp_max, |x| factor.of(x));
    }
}

/// What a sum is multiplied by.
#[derive(Clone, Copy)]
enum Factor {
    /// 2^n.
    Power(i32),
    /// half^2 / `old_exp_max` * `new_exp_max`.
    Product { half: f64, old_exp_max: f64, new_exp_max: f64 },
}

impl Factor {
    #[inline(always)]
    fn of(self, x: f64) -> f64 {
        match self {
            Factor::Power(n) => scale_down(x, n),
            Factor::Product { half, old_exp_max, new_exp_max } => x * half * half / old_exp_max * new_exp_max,
        }
    }
}

/// The sum of a block's terms and the maximum of the next block, in one loop. With `IS_MAX` the block holds the
/// row's maximum: elements that equal it are not added, but counted.
#[inline(always)]
fn sum_terms<S: Simd, E: Element, const IS_MAX: bool, const STATS: bool>(
    simd: S,
    block: &[E],
    max: RealOf<E>,
    p: &Pivot<Vector<E, S>>,
    next: &[E],
    stats: &mut OnlineStats<RealOf<E>>,
) -> ((f64, f64), u32, RealOf<E>) {
    let lanes = RealOf::<E>::LANES;
    let step = CHAINS * lanes;
    let max = Vector::<E, S>::splat(simd, max);
    let mut terms = Terms::<S, E, IS_MAX, STATS> {
        acc: Sum::new(simd),
        equal: 0,
        max,
        stats: Lanes::new(simd, max, p, stats),
    };
    let mut next_max = Maximum::<S, E>::new(simd);

    let row_group = block.len().min(next.len()) / step * step;
    let (block_head, block_tail) = block.split_at(row_group);
    for (x, ahead) in block_head.chunks_exact(step).zip(next.chunks_exact(step)) {
        prefetch(ahead.as_ptr().wrapping_byte_add(AHEAD_BYTES), size_of_val(ahead));
        next_max.update_step(ahead);
        terms.update_step(simd, x, p);
    }
    next_max.update(next, row_group);

    let steps = block_tail.chunks_exact(step);
    let rest = steps.remainder();
    for x in steps {
        terms.update_step(simd, x, p);
    }
    let vectors = rest.chunks_exact(lanes);
    let last = vectors.remainder();
    for x in vectors {
        let x = E::load(simd, x);
        let e = terms.terms_of(x, p, 0);
        terms.acc.add(e);
    }
    if !last.is_empty() {
        let x = last_vector(simd, block, last.len());
        let e = terms.terms_of(x, p, 1);
        terms.acc.add(e);
    }
    terms.stats.add_to(stats);
    (terms.acc.reduce(), terms.equal, next_max.reduce())
}

/// The last `len` elements of a block, at the end of a vector of minus infinity. They are loaded together with the
/// elements before them, where there are any.
#[inline(always)]
pub(crate) fn last_vector<S: Simd, E: Element>(simd: S, block: &[E], len: usize) -> Vector<E, S> {
    let lanes = RealOf::<E>::LANES;
    if block.len() < lanes {
        return padded(simd, block);
    }
    let first = Vector::<E, S>::splat(simd, RealOf::<E>::from_f64((lanes - len) as f64));
    let nothing = Vector::<E, S>::splat(simd, RealOf::<E>::NEG_INFINITY);
    let position = Vector::<E, S>::from_slice(simd, &RealOf::<E>::POSITIONS[..lanes]);
    position.simd_ge(first).select(E::load(simd, &block[block.len() - lanes..]), nothing)
}

/// A block shorter than a vector, filled up with minus infinity.
#[inline(always)]
pub(crate) fn padded<S: Simd, E: Element>(simd: S, short: &[E]) -> Vector<E, S> {
    let mut full = [E::PADDING; 16];
    full[..short.len()].copy_from_slice(short);
    E::load(simd, &full[..RealOf::<E>::LANES])
}

/// The sums over a block.
struct Terms<S: Simd, E: Element, const IS_MAX: bool, const STATS: bool> {
    acc: Sum<S, RealOf<E>>,
    /// Elements that equal the maximum.
    equal: u32,
    max: Vector<E, S>,
    stats: Lanes<S, RealOf<E>, STATS>,
}

impl<S: Simd, E: Element, const IS_MAX: bool, const STATS: bool> Terms<S, E, IS_MAX, STATS> {
    #[inline(always)]
    fn update_step(&mut self, simd: S, x: &[E], p: &Pivot<Vector<E, S>>) {
        let lanes = RealOf::<E>::LANES;
        let a = self.terms_of(E::load(simd, &x[..lanes]), p, 0);
        let b = self.terms_of(E::load(simd, &x[lanes..2 * lanes]), p, 1);
        let c = self.terms_of(E::load(simd, &x[2 * lanes..3 * lanes]), p, 0);
        let d = self.terms_of(E::load(simd, &x[3 * lanes..]), p, 1);
        self.acc.add((a + b) + (c + d));
    }

    /// The terms of x; with `IS_MAX` those that equal the maximum are counted and become 0.
    #[inline(always)]
    fn terms_of(&mut self, x: Vector<E, S>, p: &Pivot<Vector<E, S>>, chain: usize) -> Vector<E, S> {
        let e = self.stats.term(x, p, chain);
        if !IS_MAX {
            return e;
        }
        let is_max = x.simd_eq(self.max);
        self.equal += is_max.to_bitmask().count_ones();
        is_max.select(Vector::<E, S>::splat(x.token(), RealOf::<E>::ZERO), e)
    }
}

/// The running maximum of some elements, lane by lane.
struct Maximum<S: Simd, E: Element> {
    simd: S,
    lanes: [Vector<E, S>; CHAINS],
}

impl<S: Simd, E: Element> Maximum<S, E> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Maximum { simd, lanes: [Vector::<E, S>::splat(simd, RealOf::<E>::NEG_INFINITY); CHAINS] }
    }

    #[inline(always)]
    fn update_step(&mut self, x: &[E]) {
        let lanes = RealOf::<E>::LANES;
        for i in 0..CHAINS {
            self.lanes[i] = self.lanes[i].max(E::load(self.simd, &x[i * lanes..(i + 1) * lanes]));
        }
    }

    /// Takes the elements of a block from `start` on into account.
    #[inline(always)]
    fn update(&mut self, block: &[E], start: usize) {
        let lanes = RealOf::<E>::LANES;
        let steps = block[start..].chunks_exact(CHAINS * lanes);
        let rest = steps.remainder();
        for step in steps {
            self.update_step(step);
        }
        let vectors = rest.chunks_exact(lanes);
        let last = vectors.remainder();
        for x in vectors {
            self.lanes[0] = self.lanes[0].max(E::load(self.simd, x));
        }
        if !last.is_empty() {
            // An element that is compared twice does not change the maximum.
            let x = if block.len() < lanes {
                padded(self.simd, block)
            } else {
                E::load(self.simd, &block[block.len() - lanes..])
            };
            self.lanes[0] = self.lanes[0].max(x);
        }
    }

    #[inline(always)]
    fn reduce(self) -> RealOf<E> {
        let [a, b, c, d] = self.lanes;
        a.max(b).max(c.max(d)).reduce_max()
    }
}
