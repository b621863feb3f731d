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
use super::prefetch::prefetch_stream;
use super::real::Real;
use super::stats::{Lanes, OnlineStats};
use super::sum::Sum;

/// Vectors that are in flight together: those of a step ([`Element`]).
pub(super) const CHAINS: usize = 4;

/// The maximum and the sum of a row after some of its blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSum<R> {
    /// The largest element so far.
    pub max: R,
    /// The sum of `term(x)` over the other elements, and its rounding error.
    sum: f64,
    error: f64,
    /// Further elements that equal `max`.
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
    let known = block_max <= row.max;
    if !known {
        if row.max != RealOf::<E>::NEG_INFINITY {
            rescale::<S, RealOf<E>, STATS>(simd, row, block_max, stats);
        }
        (row.max, row.ties) = (block_max, -1.0);
    }
    let p = pivot::<S, RealOf<E>>(Vector::<E, S>::splat(simd, row.max));
    let (sum, equal, next_max) = if !STATS && p.base.as_slice()[0] != RealOf::<E>::ZERO {
        sum_far_terms::<S, E>(simd, block, row.max, &p, next)
    } else if block_max < row.max {
        sum_terms::<S, E, false, STATS, STATS>(simd, block, row.max, &p, next, stats)
    } else {
        sum_terms::<S, E, true, STATS, STATS>(simd, block, row.max, &p, next, stats)
    };
    row.add(sum);
    row.ties += f64::from(equal);
    if STATS {
        stats.row.largest += f64::from(equal);
    }
    next_max
}

/// [`sum_terms`] where the maximum is so large that it is subtracted first.
#[simd]
#[inline(never)]
fn sum_far_terms<S: Simd, E: Element>(
    simd: S,
    block: &[E],
    max: RealOf<E>,
    p: &Pivot<Vector<E, S>>,
    next: &[E],
) -> ((f64, f64), u32, RealOf<E>) {
    let mut nothing = OnlineStats::new(RealOf::<E>::ZERO, 0);
    sum_terms::<S, E, true, false, true>(simd, block, max, p, next, &mut nothing)
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
/// row's maximum: elements that equal it are not added, but counted. `FAR` is as in [`Lanes::terms`].
#[inline(always)]
fn sum_terms<S: Simd, E: Element, const IS_MAX: bool, const STATS: bool, const FAR: bool>(
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
    let mut terms = Terms::<S, E, IS_MAX, STATS, FAR> {
        acc: Sum::new(simd),
        equal: 0,
        max,
        stats: Lanes::new(simd, max, p, stats),
    };
    let mut next_max = Maximum::<S, E>::new(simd);

    let row_group = block.len().min(next.len()) / step * step;
    let (block_head, block_tail) = block.split_at(row_group);
    for (x, ahead) in block_head.chunks_exact(step).zip(next.chunks_exact(step)) {
        prefetch_stream(ahead);
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
        terms.update_vector(E::load(simd, x), p, 0);
    }
    if !last.is_empty() {
        terms.update_vector(last_vector(simd, block, last.len()), p, 1);
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
struct Terms<S: Simd, E: Element, const IS_MAX: bool, const STATS: bool, const FAR: bool> {
    acc: Sum<S, RealOf<E>>,
    /// Elements that equal the maximum.
    equal: u32,
    max: Vector<E, S>,
    stats: Lanes<S, RealOf<E>, STATS>,
}

impl<S: Simd, E: Element, const IS_MAX: bool, const STATS: bool, const FAR: bool>
    Terms<S, E, IS_MAX, STATS, FAR>
{
    #[inline(always)]
    fn update_step(&mut self, simd: S, x: &[E], p: &Pivot<Vector<E, S>>) {
        let [a, b, c, d] = E::load_step(simd, x);
        let (mut e, mut f) = (self.stats.terms::<FAR>(a, p), self.stats.terms::<FAR>(b, p));
        let (mut g, mut h) = (self.stats.terms::<FAR>(c, p), self.stats.terms::<FAR>(d, p));
        // Few steps hold a maximum.
        if IS_MAX && a.max(b).max(c.max(d)).simd_ge(self.max).any_true() {
            (e.0, f.0) = (self.without_maxima(a, e.0), self.without_maxima(b, f.0));
            (g.0, h.0) = (self.without_maxima(c, g.0), self.without_maxima(d, h.0));
        }
        self.acc.add((e.0 + f.0) + (g.0 + h.0));
        self.stats.add(a, e, 0);
        self.stats.add(b, f, 1);
        self.stats.add(c, g, 0);
        self.stats.add(d, h, 1);
    }

    /// Adds the terms of one vector.
    #[inline(always)]
    fn update_vector(&mut self, x: Vector<E, S>, p: &Pivot<Vector<E, S>>, chain: usize) {
        let mut terms = self.stats.terms::<FAR>(x, p);
        if IS_MAX {
            terms.0 = self.without_maxima(x, terms.0);
        }
        self.acc.add(terms.0);
        self.stats.add(x, terms, chain);
    }

    /// The terms of x; those of elements that equal the maximum are counted and become 0.
    #[inline(always)]
    fn without_maxima(&mut self, x: Vector<E, S>, term: Vector<E, S>) -> Vector<E, S> {
        let is_max = x.simd_eq(self.max);
        self.equal += is_max.to_bitmask().count_ones();
        is_max.select(Vector::<E, S>::splat(x.token(), RealOf::<E>::ZERO), term)
    }
}

/// The running maximum of some elements.
struct Maximum<S: Simd, E: Element> {
    simd: S,
    maxima: E::Maxima<S>,
}

impl<S: Simd, E: Element> Maximum<S, E> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Maximum { simd, maxima: E::no_maxima(simd) }
    }

    #[inline(always)]
    fn update_step(&mut self, x: &[E]) {
        self.maxima = E::raise(self.simd, self.maxima, x);
    }

    /// Takes the elements of a block from `start` on into account.
    #[inline(always)]
    fn update(&mut self, block: &[E], start: usize) {
        let step = CHAINS * RealOf::<E>::LANES;
        let steps = block[start..].chunks_exact(step);
        let last = steps.remainder();
        for x in steps {
            self.update_step(x);
        }
        if last.is_empty() {
            return;
        }
        if block.len() >= step {
            // An element that is compared twice does not change the maximum.
            self.update_step(&block[block.len() - step..]);
        } else {
            let mut full = [E::PADDING; CHAINS * 16];
            full[..block.len()].copy_from_slice(block);
            self.update_step(&full[..step]);
        }
    }

    #[inline(always)]
    fn reduce(self) -> RealOf<E> {
        E::largest(self.maxima)
    }
}
