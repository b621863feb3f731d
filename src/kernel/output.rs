//! Results of the logits' shape: `log_softmax`, `softmax`, `log_sigmoid` and the gradients of losses.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::column::Column;
use super::double_double;
use super::element::{Element, RealOf, Vector};
use super::exp::{Pivot, pivot, power_and_expm1, power_of_two, term};
use super::log::log1p_ratio;
use super::log_sum_exp::TileSums;
use super::long_row::{CHAINS, padded};
use super::max_minus_x::TileWeights;
use super::prefetch::Ahead;
use super::real::Real;
use super::rowset::bits;
use super::stream::{Lines, stream_part, to_next_line};
use super::{TILE, f64_vectors};

/// Where a part of a row is written, and whether past the caches.
pub(crate) type Place<'p, E> = (&'p mut [E], bool);

/// A function of an element and its row's sums.
///
/// `Row` holds the row's numbers in vectors: the same in all lanes for a long row, one row per lane
/// in a packed tile. One definition serves both.
pub(crate) trait RowFunction: Copy + Send + Sync {
    type Row<S: Simd, R: Real>: Copy;

    /// A row's numbers, from the maxima and the sums of as many rows as there are lanes.
    fn row<S: Simd, R: Real>(max: R::V<S>, sums: Sums<S>) -> Self::Row<S, R>;
    /// Whether it needs `exp_max` and `sum_exp_rest`, and not log sum exp.
    const SHARES: bool;
    /// The function's value at x, to be stored as an `E`.
    fn apply<S: Simd, E: Element>(x: Vector<E, S>, row: &Self::Row<S, RealOf<E>>) -> Vector<E, S>;
}

/// [`TileSums`] in vectors.
#[derive(Clone, Copy)]
pub(crate) struct Sums<S: Simd> {
    exp_max: [f64x8<S>; 2],
    exp_max_low: [f64x8<S>; 2],
    sum_exp_rest: [f64x8<S>; 2],
    sum_exp_rest_low: [f64x8<S>; 2],
    scale: [f64x8<S>; 2],
    log1p_rest: [f64x8<S>; 2],
    log1p_low: [f64x8<S>; 2],
}

impl<S: Simd> Sums<S> {
    /// The sums of row i, in all lanes.
    #[inline(always)]
    fn of_row<R>(simd: S, sums: &TileSums<R>, i: usize) -> Self {
        let both = |from: &[f64; TILE]| [f64x8::splat(simd, from[i]); 2];
        Sums {
            exp_max: both(&sums.exp_max),
            exp_max_low: both(&sums.exp_max_low),
            sum_exp_rest: both(&sums.sum_exp_rest),
            sum_exp_rest_low: both(&sums.sum_exp_rest_low),
            scale: both(&sums.scale),
            log1p_rest: both(&sums.log1p_rest),
            log1p_low: both(&sums.log1p_low),
        }
    }

    /// The sums of the rows from `lane` on, one in each lane.
    #[inline(always)]
    fn of_lanes<R: Real>(simd: S, sums: &TileSums<R>, lane: usize) -> Self {
        let load = |from: &[f64; TILE]| {
            f64_vectors(
                #[inline(always)]
                |half| {
                    let at = lane + 8 * (half % R::F64_VECTORS);
                    f64x8::from_slice(simd, &from[at..at + 8])
                },
            )
        };
        Sums {
            exp_max: load(&sums.exp_max),
            exp_max_low: load(&sums.exp_max_low),
            sum_exp_rest: load(&sums.sum_exp_rest),
            sum_exp_rest_low: load(&sums.sum_exp_rest_low),
            scale: load(&sums.scale),
            log1p_rest: load(&sums.log1p_rest),
            log1p_low: load(&sums.log1p_low),
        }
    }
}

/// x - log sum exp(x), in f64.
///
/// For rows of `f64` log sum exp is a double-double number: where the difference of x and its high part is small, the
/// difference is exact.
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmax;

impl RowFunction for LogSoftmax {
    const SHARES: bool = false;
    type Row<S: Simd, R: Real> = ([f64x8<S>; 2], [f64x8<S>; 2]);

    #[inline(always)]
    fn row<S: Simd, R: Real>(max: R::V<S>, sums: Sums<S>) -> Self::Row<S, R> {
        let max = R::widen(max);
        if !R::IS_F64 {
            return (max, sums.log1p_rest);
        }
        let [high, low] = double_double::two_sum_lanes(max[0], sums.log1p_rest[0]);
        let low = low + sums.log1p_low[0];
        ([high, high], [low, low])
    }

    #[inline(always)]
    fn apply<S: Simd, E: Element>(x: Vector<E, S>, (high, low): &Self::Row<S, RealOf<E>>) -> Vector<E, S> {
        let x = RealOf::<E>::widen(x);
        E::narrow([(x[0] - high[0]) - low[0], (x[1] - high[1]) - low[1]])
    }
}

/// exp(x - log sum exp(x)) times the row's scale:
///
/// ```text
/// 2^(n - p) (1 + q) c 2^k,   c 2^k = scale / (exp_max + sum_exp_rest)
/// ```
///
/// c is from 1 to 2, so that a large scale does not overflow before the result does, and double-double, so that the
/// only roundings of size are those of q and of the result.
#[derive(Clone, Copy)]
pub(crate) struct Softmax;

impl RowFunction for Softmax {
    const SHARES: bool = true;
    type Row<S: Simd, R: Real> = Scaled<S, R>;

    #[inline(always)]
    fn row<S: Simd, R: Real>(max: R::V<S>, sums: Sums<S>) -> Self::Row<S, R> {
        let c = f64_vectors(
            #[inline(always)]
            |half| sums.scale[half] / (sums.exp_max[half] + sums.sum_exp_rest[half]),
        );
        let k = [power_below::<S, R>(c[0]), power_below::<S, R>(c[1])];
        let inverse = [inverse_power(k[0]), inverse_power(k[1])];
        let c = [within::<S, R>(c[0] * inverse[0]), within::<S, R>(c[1] * inverse[1])];
        let high = R::narrow(c);
        let low = if !R::IS_F64 {
            let rounded = R::widen(high);
            [c[0] - rounded[0], c[1] - rounded[1]]
        } else {
            // The rounding errors of the sum and of the quotient; 0 where they are not finite.
            let [total, error] = double_double::two_sum_lanes(sums.exp_max[0], sums.sum_exp_rest[0]);
            let total = [total, error + (sums.exp_max_low[0] + sums.sum_exp_rest_low[0])];
            let low =
                double_double::dd_div_lanes([sums.scale[0], sums.scale[0] * 0.0], total)[1] * inverse[0];
            let low = low.abs().simd_lt(c[0].abs()).select(low, c[0] * 0.0);
            [low, low]
        };
        let unit = power_of_two(-R::SCALE);
        Scaled {
            pivot: pivot::<S, R>(max),
            high,
            low: R::narrow(low),
            unit: R::narrow([k[0] * unit, k[1] * unit]),
        }
    }

    #[inline(always)]
    fn apply<S: Simd, E: Element>(x: Vector<E, S>, row: &Self::Row<S, RealOf<E>>) -> Vector<E, S> {
        let (s, q) = power_and_expm1::<S, RealOf<E>>(x, &row.pivot);
        (row.high.mul_add(q, row.low) + row.high) * s * row.unit
    }
}

impl Softmax {
    /// The function's value at x, less q. For rows of `f64` the value is not rounded before q is subtracted.
    #[inline(always)]
    fn less<S: Simd, E: Element>(
        x: Vector<E, S>,
        row: &Scaled<S, RealOf<E>>,
        q: [f64x8<S>; 2],
    ) -> Vector<E, S> {
        let p = RealOf::<E>::widen(Self::apply::<S, E>(x, row));
        if !RealOf::<E>::IS_F64 {
            return E::narrow([p[0] - q[0], p[1] - q[1]]);
        }
        let (s, e) = power_and_expm1::<S, RealOf<E>>(x, &row.pivot);
        let unit = RealOf::<E>::widen(s * row.unit)[0];
        let rest = RealOf::<E>::widen(row.high.mul_add(e, row.low))[0];
        let value = RealOf::<E>::widen(row.high)[0].mul_add(unit, rest.mul_add(unit, -q[0]));
        // No product within a fused operation is infinite, so that beside an infinite q the value would not matter.
        let infinite = q[0].abs().simd_eq(f64x8::splat(x.token(), f64::INFINITY));
        let value = infinite.select(p[0] - q[0], value);
        E::narrow([value, value])
    }
}

/// The numbers of a row for [`Softmax`]: c as a high and a low part, and 2^k without the factor that terms carry.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<S: Simd, R: Real> {
    pivot: Pivot<R::V<S>>,
    high: R::V<S>,
    low: R::V<S>,
    unit: R::V<S>,
}

/// The power of two at or below |x|, as far as it and its product with 2^-SCALE are normal numbers of R.
#[inline(always)]
fn power_below<S: Simd, R: Real>(x: f64x8<S>) -> f64x8<S> {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    let (least, most) = R::POWERS;
    let c = |power| f64x8::splat(x.token(), power_of_two(power));
    f64x8::from_bits(x.to_bits() & EXPONENT).max(c(least)).min(c(most))
}

/// 1 / k of a power of two.
#[inline(always)]
fn inverse_power<S: Simd>(k: f64x8<S>) -> f64x8<S> {
    const TWICE_ONE: u64 = 2 * 0x3ff0_0000_0000_0000;
    f64x8::from_bits(f64x8::splat(k.token(), f64::from_bits(TWICE_ONE)).to_bits() - k.to_bits())
}

/// x, or a number of R so large that its product with any exponential that counts is infinite, and with one of 0 is 0.
/// A nan stays.
#[inline(always)]
pub(super) fn within<S: Simd, R: Real>(x: f64x8<S>) -> f64x8<S> {
    let most = f64x8::splat(x.token(), 0.25 * R::MAX.to_f64());
    let x = x.simd_gt(most).select(most, x);
    x.simd_lt(-most).select(-most, x)
}

/// A block of one row: `out` = f(x), both of the same length.
#[simd]
pub(crate) fn apply_to_row<S: Simd, E: Element, F: RowFunction>(
    simd: S,
    x: &[E],
    sums: &TileSums<RealOf<E>>,
    i: usize,
    (out, streamed): Place<'_, E>,
) {
    let max = Vector::<E, S>::splat(simd, sums.max[i]);
    let row = F::row::<S, RealOf<E>>(max, Sums::of_row(simd, sums, i));
    map(
        simd,
        x,
        out,
        streamed,
        #[inline(always)]
        |_, x| F::apply::<S, E>(x, &row),
    );
}

/// A packed tile, in place, while the rows `ahead` are prefetched and the lines `behind` streamed.
#[simd]
pub(crate) fn apply_to_tile<S: Simd, E: Element, F: RowFunction>(
    simd: S,
    packed: &mut [RealOf<E>],
    sums: &TileSums<RealOf<E>>,
    rows: usize,
    (ahead, behind): (Ahead, &mut Lines),
) {
    let (lanes, classes) = (RealOf::<E>::LANES, packed.len() / TILE);
    for lane in (0..rows).step_by(lanes) {
        let max = Vector::<E, S>::from_slice(simd, &sums.max[lane..lane + lanes]);
        let row = F::row::<S, RealOf<E>>(max, Sums::of_lanes(simd, sums, lane));
        for (c, class) in packed.chunks_exact_mut(TILE).enumerate() {
            let at = &mut class[lane..lane + lanes];
            F::apply::<S, E>(Vector::<E, S>::from_slice(simd, at), &row).store_slice(at);
            ahead.prefetch_second(c, classes, lane);
            behind.stream_line();
        }
    }
}

/// scale softmax(x) - factor q for a block of one row.
#[simd]
pub(crate) fn gradient_of_row<S: Simd, E: Element>(
    simd: S,
    x: &[E],
    q: &[f64],
    factor: f64,
    sums: &TileSums<RealOf<E>>,
    i: usize,
    (out, streamed): Place<'_, E>,
) {
    let lanes = RealOf::<E>::LANES;
    let max = Vector::<E, S>::splat(simd, sums.max[i]);
    let row = Softmax::row::<S, RealOf<E>>(max, Sums::of_row(simd, sums, i));
    let factor = f64x8::splat(simd, factor);
    map(
        simd,
        x,
        out,
        streamed,
        #[inline(always)]
        |at, x| {
            let mut filled = [0.0; 16];
            let q = q.get(at..at + lanes).unwrap_or_else(
                #[inline(always)]
                || {
                    filled[..q.len()].copy_from_slice(q);
                    &filled
                },
            );
            let q = f64_vectors(
                #[inline(always)]
                |half| {
                    let at = 8 * (half % RealOf::<E>::F64_VECTORS);
                    factor * f64x8::from_slice(simd, &q[at..at + 8])
                },
            );
            Softmax::less::<S, E>(x, &row, q)
        },
    );
}

/// The entries of the targets of a tile's rows, which replace those of a gradient, in the tile's own numbers.
pub(crate) struct Entries<R> {
    class: Column<R>,
    value: Column<R>,
}

impl<R: Real> Entries<R> {
    /// The entries of the given rows of a gradient that is to be stored as `E`.
    #[inline(always)]
    pub(crate) fn new<E: Element<Real = R>>(rows: u64, class: &[usize; TILE], value: &[f64; TILE]) -> Self {
        let mut entries = Entries { class: Column::of(R::ZERO), value: Column::of(R::ZERO) };
        for i in 0..TILE {
            (entries.class[i], entries.value[i]) = (R::from_class(class[i]), E::near(value[i]));
        }
        if rows != u64::MAX {
            bits(!rows).for_each(|i| entries.class[i] = R::from_class(usize::MAX));
        }
        entries
    }

    /// `value` of a class of the rows from `lane` on, or their entry where the class is the target.
    #[inline(always)]
    pub(super) fn put<S: Simd>(
        entries: Option<&Self>,
        simd: S,
        lane: usize,
        class: usize,
        value: R::V<S>,
    ) -> R::V<S> {
        let Some(entries) = entries else { return value };
        let load = |from: &[R; TILE]| R::V::<S>::from_slice(simd, &from[lane..lane + R::LANES]);
        let is_target = load(&entries.class).simd_eq(R::V::<S>::splat(simd, R::from_class(class)));
        is_target.select(load(&entries.value), value)
    }
}

/// scale softmax(x) - factor q for a packed tile, in place, with the entries of the targets; `q` is packed as the logits
/// are. The rows `ahead` are prefetched and the lines `behind` streamed.
#[simd]
pub(crate) fn gradient_of_tile<S: Simd, E: Element>(
    simd: S,
    packed: &mut [RealOf<E>],
    q: Option<(TileWeights<'_>, &[f64; TILE])>,
    entries: Option<&Entries<RealOf<E>>>,
    (sums, rows): (&TileSums<RealOf<E>>, usize),
    (ahead, behind): (Ahead, &mut Lines),
) {
    let (lanes, classes) = (RealOf::<E>::LANES, packed.len() / TILE);
    for lane in (0..rows).step_by(lanes) {
        let max = Vector::<E, S>::from_slice(simd, &sums.max[lane..lane + lanes]);
        let row = Softmax::row::<S, RealOf<E>>(max, Sums::of_lanes(simd, sums, lane));
        for (c, x) in packed.chunks_exact_mut(TILE).enumerate() {
            let to = &mut x[lane..lane + lanes];
            let x = Vector::<E, S>::from_slice(simd, to);
            let value = match q {
                None => Softmax::apply::<S, E>(x, &row),
                Some((q, factor)) => {
                    Softmax::less::<S, E>(x, &row, q.scaled::<S, RealOf<E>>(simd, c, lane, factor))
                }
            };
            Entries::put(entries, simd, lane, c, value).store_slice(to);
            ahead.prefetch_second(c, classes, lane);
            behind.stream_line();
        }
    }
}

/// What the diagonal of the Hessian of a tile's rows is made of: with p = softmax(x),
///
/// ```text
/// max(p (linear (1 - p) + square p), floor)
/// ```
pub(crate) struct Diagonal<R> {
    pub linear: Column<R>,
    pub square: Column<R>,
    pub floor: Column<R>,
}

/// The numbers of a row for [`Diagonal`]. Of a largest class 1 - p is `miss`, the sum of the others: the difference
/// would have no digits where p is close to 1. All other p are at most 1/2.
#[derive(Clone, Copy)]
struct DiagonalRow<S: Simd, R: Real> {
    softmax: Scaled<S, R>,
    max: R::V<S>,
    miss: R::V<S>,
    linear: R::V<S>,
    square: R::V<S>,
    floor: R::V<S>,
}

impl<S: Simd, R: Real> DiagonalRow<S, R> {
    /// From the maxima, the sums, whatever their scale, and linear, square and floor.
    #[inline(always)]
    fn new(max: R::V<S>, sums: Sums<S>, [linear, square, floor]: [R::V<S>; 3]) -> Self {
        let miss = f64_vectors(
            #[inline(always)]
            |half| sums.sum_exp_rest[half] / (sums.exp_max[half] + sums.sum_exp_rest[half]),
        );
        let one = f64x8::splat(max.token(), 1.0);
        DiagonalRow {
            softmax: Softmax::row::<S, R>(max, Sums { scale: [one; 2], ..sums }),
            max,
            miss: R::narrow(miss),
            linear,
            square,
            floor,
        }
    }

    #[inline(always)]
    fn apply<E: Element<Real = R>>(&self, x: R::V<S>) -> R::V<S> {
        let p = Softmax::apply::<S, E>(x, &self.softmax);
        let one = R::V::<S>::splat(x.token(), R::ONE);
        let miss = x.simd_eq(self.max).select(self.miss, one - p);
        let value = p * self.linear.mul_add(miss, self.square * p);
        // A nan stays.
        value.simd_lt(self.floor).select(self.floor, value)
    }
}

/// The diagonal of the Hessian for a block of row i.
#[simd]
pub(crate) fn diagonal_of_row<S: Simd, E: Element>(
    simd: S,
    x: &[E],
    diagonal: &Diagonal<RealOf<E>>,
    sums: &TileSums<RealOf<E>>,
    i: usize,
    (out, streamed): Place<'_, E>,
) {
    let splat = |number| Vector::<E, S>::splat(simd, number);
    let numbers = [splat(diagonal.linear[i]), splat(diagonal.square[i]), splat(diagonal.floor[i])];
    let row = DiagonalRow::<S, RealOf<E>>::new(splat(sums.max[i]), Sums::of_row(simd, sums, i), numbers);
    map(
        simd,
        x,
        out,
        streamed,
        #[inline(always)]
        |_, x| row.apply::<E>(x),
    );
}

/// The gradient of a packed tile, in place, and the diagonal of its Hessian, to `out`, packed too. With q and the rows'
/// factors the gradient is that of [`gradient_of_tile`], else scale softmax(x). Both take one exponential. The rows `ahead`
/// are prefetched and the lines `behind`, of both, streamed.
#[simd]
pub(crate) fn gradient_and_diagonal_of_tile<S: Simd, E: Element>(
    simd: S,
    packed: &mut [RealOf<E>],
    q: Option<(TileWeights<'_>, &[f64; TILE])>,
    diagonal: &Diagonal<RealOf<E>>,
    (sums, rows): (&TileSums<RealOf<E>>, usize),
    out: &mut [RealOf<E>],
    (ahead, behind): (Ahead, [&mut Lines; 2]),
) {
    let (lanes, classes) = (RealOf::<E>::LANES, packed.len() / TILE);
    for lane in (0..rows).step_by(lanes) {
        let load = |from: &[RealOf<E>; TILE]| Vector::<E, S>::from_slice(simd, &from[lane..lane + lanes]);
        let numbers = [load(&diagonal.linear), load(&diagonal.square), load(&diagonal.floor)];
        let (max, of_lanes) = (load(&sums.max), Sums::of_lanes(simd, sums, lane));
        let row = DiagonalRow::<S, RealOf<E>>::new(max, of_lanes, numbers);
        let scaled = Softmax::row::<S, RealOf<E>>(max, of_lanes);
        for (c, (x, out)) in packed.chunks_exact_mut(TILE).zip(out.chunks_exact_mut(TILE)).enumerate() {
            let to = &mut x[lane..lane + lanes];
            let x = Vector::<E, S>::from_slice(simd, to);
            row.apply::<E>(x).store_slice(&mut out[lane..lane + lanes]);
            ahead.prefetch_second(c, classes, lane);
            behind[0].stream_line();
            behind[1].stream_line();
            let Some((q, factor)) = q else {
                Softmax::apply::<S, E>(x, &scaled).store_slice(to);
                continue;
            };
            let q = q.scaled::<S, RealOf<E>>(simd, c, lane, factor);
            Softmax::less::<S, E>(x, &scaled, q).store_slice(to);
        }
    }
}

/// The probability 1 / (1 + exp(-x)) of each x, and that of -x.
#[simd]
pub(crate) fn sigmoids<S: Simd>(simd: S, x: &[f64; TILE]) -> ([f64; TILE], [f64; TILE]) {
    let (zero, one) = (f64x8::splat(simd, 0.0), f64x8::splat(simd, 1.0));
    let (p, unit) = (pivot::<S, f64>(zero), power_of_two(-f64::SCALE));
    let (mut of_x, mut of_minus_x) = ([0.0; TILE], [0.0; TILE]);
    for at in (0..TILE).step_by(8) {
        let x = f64x8::from_slice(simd, &x[at..at + 8]);
        let e = term::<S, f64>(-x.abs(), &p) * unit;
        let (large, small) = (one / (one + e), e / (one + e));
        let positive = x.simd_gt(zero);
        positive.select(large, small).store_slice(&mut of_x[at..at + 8]);
        positive.select(small, large).store_slice(&mut of_minus_x[at..at + 8]);
    }
    (of_x, of_minus_x)
}

/// log(1 / (1 + exp(-x))) = min(x, 0) - log1p(exp(-|x|)), in f64, rounded once.
#[simd]
pub(crate) fn log_sigmoid<S: Simd, E: Element>(simd: S, x: &[E], out: &mut [E]) {
    let (zero, one) = (f64x8::splat(simd, 0.0), f64x8::splat(simd, 1.0));
    let p = pivot::<S, f64>(zero);
    let unit = power_of_two(-f64::SCALE);
    map(
        simd,
        x,
        out,
        false,
        #[inline(always)]
        |_, x| {
            let wide = RealOf::<E>::widen(x);
            let mut result = wide;
            for half in 0..RealOf::<E>::F64_VECTORS {
                let x = wide[half];
                let e = term::<S, f64>(-x.abs(), &p) * unit;
                // A nan goes through the exponential, whatever the selection does with it.
                result[half] = x.simd_lt(zero).select(x, zero) - log1p_ratio(e, one, RealOf::<E>::IS_F64);
            }
            E::narrow(result)
        },
    );
}

/// `out` = f(position, x) for every vector of `x`, from the first cache line of `out` on, and past the caches where it is
/// `streamed`, but for the ends: their vectors may overlap others. A block shorter than a vector is padded.
#[inline(always)]
fn map<S: Simd, E: Element>(
    simd: S,
    x: &[E],
    out: &mut [E],
    streamed: bool,
    mut f: impl FnMut(usize, Vector<E, S>) -> Vector<E, S>,
) {
    let lanes = RealOf::<E>::LANES;
    if x.len() < lanes {
        let mut full = [E::PADDING; 16];
        E::store(f(0, padded(simd, x)), &mut full[..lanes]);
        out.copy_from_slice(&full[..x.len()]);
        return;
    }
    let (step, first) = (CHAINS * lanes, to_next_line(out.as_ptr()));
    let mut at = 0;
    while at < x.len() {
        let end = at + step;
        // A vector that overlapped a streamed line would wait for it.
        if at >= first && (end + lanes <= x.len() || end == x.len()) {
            // Four at a time: of one after the other a processor has too few in view to fill the time that each takes.
            let [a, b, c, d] = E::load_step(simd, &x[at..end]);
            let (a, b, c, d) = (f(at, a), f(at + lanes, b), f(at + 2 * lanes, c), f(at + 3 * lanes, d));
            for (v, to) in [a, b, c, d].into_iter().zip(out[at..end].chunks_exact_mut(lanes)) {
                put(v, to, streamed);
            }
            at = end;
        } else {
            let here = at.min(x.len() - lanes);
            E::store(f(here, E::load(simd, &x[here..here + lanes])), &mut out[here..here + lanes]);
            at = if at < first { first.min(at + lanes) } else { at + lanes };
        }
    }
}

/// Stores a vector; past the caches if it is `streamed`, to a place that begins where a quarter of a cache line does.
#[inline(always)]
fn put<S: Simd, E: Element>(v: Vector<E, S>, to: &mut [E], streamed: bool) {
    if !streamed {
        E::store(v, to);
        return;
    }
    let mut stored = [E::PADDING; 16];
    let stored = &mut stored[..RealOf::<E>::LANES];
    E::store(v, stored);
    stream_part(stored, to);
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};
    use half::{bf16, f16};

    use super::*;
    use crate::kernel::isa;

    fn is_mapped_wherever_it_begins<E: Element + PartialEq>(name: &str, level: Level) {
        let each = 64 / size_of::<E>();
        let x: Vec<E> = (0..200).map(|i| E::from_f64(f64::from(i % 120))).collect();
        let untouched = E::from_f64(-7.0);
        for offset in 0..each {
            for len in (1..=40).chain([63, 64, 65, 127, 128, 129, 191, 200]) {
                for streamed in [false, true] {
                    let mut memory = vec![untouched; len + 2 * each];
                    let start = to_next_line(memory.as_ptr()) + offset;
                    let (x, out) = (&x[..len], &mut memory[start..start + len]);
                    dispatch!(level, simd => map(simd, x, out, streamed, #[inline(always)] |_, x| x + x));
                    crate::kernel::stream::fence();
                    let is_right = |(i, value): (usize, &E)| {
                        let inside = (start..start + len).contains(&i);
                        *value == if inside { E::from_f64(2.0 * x[i - start].to_f64()) } else { untouched }
                    };
                    assert!(memory.iter().enumerate().all(is_right), "{name} {offset} {len} {streamed}");
                }
            }
        }
    }

    #[test]
    fn every_element_is_mapped_wherever_the_result_begins_and_ends() {
        for (name, level) in isa::available() {
            is_mapped_wherever_it_begins::<f32>(name, level);
            is_mapped_wherever_it_begins::<f64>(name, level);
            is_mapped_wherever_it_begins::<f16>(name, level);
            is_mapped_wherever_it_begins::<bf16>(name, level);
        }
    }
}
