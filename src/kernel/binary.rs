//! A tile of rows of two classes, packed: lanes across the rows.
//!
//! ```text
//! log sum exp(x) = max + log1p(e),   e = exp(-d),   d = max - min
//! ```
//!
//! One exponential, of a number that no common offset has made large, and a logarithm without a quotient. The rounding
//! error of d is part of the argument: where d is large, the loss is e itself, and has all its digits.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::column::Column;
use super::double_double::{self, Pair};
use super::element::{Element, RealOf, Vector};
use super::exp::exp_dd;
use super::exp::{at_least, exp_max_dd, pivot, power_of_two, powers_of_two};
use super::f64_vectors;
use super::log::{log1p_ratio_dd, log1p_short};
use super::log_sum_exp::TileSums;
use super::max_minus_x::TileWeights;
use super::output::{Diagonal, Entries, within};
use super::prefetch::Ahead;
use super::real::Real;
use super::stream::Lines;

/// From d on, e is 0 as an `f64`.
const FAR: f64 = 750.0;

/// Finds what softmax is made of for the first `rows` rows, in units of the largest term, from their maxima, and with
/// `logs` also `log1p_rest`. Prefetches the rows `ahead`.
#[simd]
pub(crate) fn two_classes<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    ahead: Ahead,
    sums: &mut TileSums<R>,
    logs: bool,
) {
    sums.exp_max = Column::of(1.0);
    if R::IS_F64 {
        sums.exp_max_low = Column::of(0.0);
    }
    let (first, second) = packed.split_at(packed.len() / 2);
    for lane in (0..rows).step_by(R::LANES) {
        ahead.prefetch(0, lane);
        ahead.prefetch(1, lane);
        let load = |from: &[R]| R::V::<S>::from_slice(simd, &from[lane..lane + R::LANES]);
        let (m, a, b) = (load(&sums.max.0), load(first), load(second));
        // Where the maximum has missed a nan, the nan is the other class.
        let e = exp_of_distance::<S, R>(m, a.simd_eq(m).select(b, a));
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            e[half][0].store_slice(&mut sums.sum_exp_rest[at.clone()]);
            if R::IS_F64 {
                e[half][1].store_slice(&mut sums.sum_exp_rest_low[at]);
            }
        }
    }
    if !logs {
        return;
    }
    // A separate loop: the shorter an iteration, the more of them a processor works on at once.
    for lane in (0..rows).step_by(R::LANES) {
        let load = |from: &[f64; TILE], half: usize| {
            f64x8::from_slice(simd, &from[lane + 8 * half..lane + 8 * half + 8])
        };
        if !R::IS_F64 {
            let log = log1p_short([load(&sums.sum_exp_rest, 0), load(&sums.sum_exp_rest, 1)]);
            log[0].store_slice(&mut sums.log1p_rest[lane..lane + 8]);
            log[1].store_slice(&mut sums.log1p_rest[lane + 8..lane + 16]);
        } else {
            let e = [load(&sums.sum_exp_rest, 0), load(&sums.sum_exp_rest_low, 0)];
            let [log, low] = log1p_ratio_dd(e, [f64x8::splat(simd, 1.0), f64x8::splat(simd, 0.0)]);
            log.store_slice(&mut sums.log1p_rest[lane..lane + 8]);
            low.store_slice(&mut sums.log1p_low[lane..lane + 8]);
        }
    }
}

/// Brings `exp_max` and `sum_exp_rest`, which are 1 and exp(min - max), to the units of the maximum's pivot.
#[simd]
pub(crate) fn in_pivot_units<S: Simd, R: Real>(simd: S, rows: usize, sums: &mut TileSums<R>) {
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::V::<S>::from_slice(simd, &sums.max[lane..lane + R::LANES]);
        let exp_max = exp_max_dd::<S, R>(m, &pivot::<S, R>(m));
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            let ([exp_max, exp_max_low], e) =
                (exp_max[half], f64x8::from_slice(simd, &sums.sum_exp_rest[at.clone()]));
            exp_max.store_slice(&mut sums.exp_max[at.clone()]);
            if !R::IS_F64 {
                (exp_max * e).store_slice(&mut sums.sum_exp_rest[at]);
                continue;
            }
            let e_low = f64x8::from_slice(simd, &sums.sum_exp_rest_low[at.clone()]);
            let [sum_exp_rest, error] = double_double::two_product(exp_max, e);
            sum_exp_rest.store_slice(&mut sums.sum_exp_rest[at.clone()]);
            exp_max_low.store_slice(&mut sums.exp_max_low[at.clone()]);
            (error + exp_max.mul_add(e_low, exp_max_low * e)).store_slice(&mut sums.sum_exp_rest_low[at]);
        }
    }
}

/// The softmax of each of the first `rows` rows of its target and 1 - that, from the target's logit.
#[simd]
pub(crate) fn target_share_of_two<S: Simd, R: Real>(
    simd: S,
    sums: &TileSums<R>,
    logits: &[f64; TILE],
    rows: usize,
    (share, miss): (&mut [f64; TILE], &mut [f64; TILE]),
) {
    for lane in (0..rows).step_by(R::LANES) {
        let max = R::widen::<S>(R::V::<S>::from_slice(simd, &sums.max[lane..lane + R::LANES]));
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            let load = |from: &[f64; TILE]| f64x8::from_slice(simd, &from[at.clone()]);
            let [large, small] = softmax_of_two(f64x8::splat(simd, 1.0), load(&sums.sum_exp_rest));
            let is_max = load(logits).simd_eq(max[half]);
            is_max.select(large, small).store_slice(&mut share[at.clone()]);
            is_max.select(small, large).store_slice(&mut miss[at]);
        }
    }
}

/// scale softmax(x), of the larger and of the smaller class, from e = exp(min - max).
#[inline(always)]
fn softmax_of_two<S: Simd>(scale: f64x8<S>, e: f64x8<S>) -> [f64x8<S>; 2] {
    let large = f64x8::splat(e.token(), 1.0) / (e + 1.0);
    [scale * large, scale * (large * e)]
}

/// [`softmax_of_two`] of the rows from `lane` on; without `SCALED` their scale is 1.
#[inline(always)]
fn large_and_small<S: Simd, R: Real, const SCALED: bool>(
    simd: S,
    sums: &TileSums<R>,
    lane: usize,
) -> [[f64x8<S>; 2]; 2] {
    let both = f64_vectors(
        #[inline(always)]
        |half| {
            let at = lane + 8 * (half % R::F64_VECTORS);
            let load = |from: &[f64; TILE]| f64x8::from_slice(simd, &from[at..at + 8]);
            let scale = if SCALED { within::<S, f64>(load(&sums.scale)) } else { f64x8::splat(simd, 1.0) };
            softmax_of_two(scale, load(&sums.sum_exp_rest))
        },
    );
    [[both[0][0], both[1][0]], [both[0][1], both[1][1]]]
}

/// scale softmax(x) - factor q for a packed tile of two classes, in place, with the entries of the targets. The lines
/// `behind` are streamed.
#[simd]
pub(crate) fn gradient_of_two<S: Simd, E: Element>(
    simd: S,
    packed: &mut [RealOf<E>],
    q: Option<(TileWeights<'_>, &[f64; TILE])>,
    entries: Option<&Entries<RealOf<E>>>,
    (sums, rows): (&TileSums<RealOf<E>>, usize),
    behind: &mut Lines,
) {
    let lanes = RealOf::<E>::LANES;
    let (first, second) = packed.split_at_mut(TILE);
    for lane in (0..rows).step_by(lanes) {
        let (first, second) = (&mut first[lane..lane + lanes], &mut second[lane..lane + lanes]);
        let [large, small] = large_and_small::<_, _, true>(simd, sums, lane);
        let of_first = Vector::<E, S>::from_slice(simd, first);
        let probabilities = of_both::<S, RealOf<E>>(of_first, sums, lane, large, small);
        for (class, (p, to)) in probabilities.into_iter().zip([first, second]).enumerate() {
            let value = if let Some((q, factor)) = q {
                // Beside an infinite q, what matters is whether p is infinite as a number of the rows' type.
                let rounded = RealOf::<E>::widen(RealOf::<E>::narrow(p));
                let q = q.scaled::<S, RealOf<E>>(simd, class, lane, factor);
                E::narrow(f64_vectors(
                    #[inline(always)]
                    |half| {
                        let infinite = q[half].abs().simd_eq(f64x8::splat(simd, f64::INFINITY));
                        infinite.select(rounded[half], p[half]) - q[half]
                    },
                ))
            } else {
                E::narrow(p)
            };
            Entries::put(entries, simd, lane, class, value).store_slice(to);
            behind.stream_line();
        }
    }
}

/// The numbers of the first and of the second class of the rows from `lane` on, from those of the larger and of the
/// smaller.
#[inline(always)]
fn of_both<S: Simd, R: Real>(
    of_first: R::V<S>,
    sums: &TileSums<R>,
    lane: usize,
    large: [f64x8<S>; 2],
    small: [f64x8<S>; 2],
) -> [[f64x8<S>; 2]; 2] {
    let max = R::widen::<S>(R::V::<S>::from_slice(of_first.token(), &sums.max[lane..lane + R::LANES]));
    let of_first = R::widen::<S>(of_first);
    let first = f64_vectors(
        #[inline(always)]
        |half| of_first[half].simd_eq(max[half]).select(large[half], small[half]),
    );
    let second = f64_vectors(
        #[inline(always)]
        |half| of_first[half].simd_eq(max[half]).select(small[half], large[half]),
    );
    [first, second]
}

/// The diagonal of the Hessian of a packed tile of two classes, to `out`, packed too. The lines `behind` are streamed.
#[simd]
pub(crate) fn diagonal_of_two<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    diagonal: &Diagonal<R>,
    (sums, rows): (&TileSums<R>, usize),
    out: &mut [R],
    behind: &mut Lines,
) {
    for lane in (0..rows).step_by(R::LANES) {
        let load = |from: &[R]| R::V::<S>::from_slice(simd, &from[lane..lane + R::LANES]);
        let [large, small] = large_and_small::<S, R, false>(simd, sums, lane);
        let [first, second] = of_both::<S, R>(load(packed), sums, lane, large, small);
        let (linear, square) =
            (R::widen::<S>(load(&diagonal.linear.0)), R::widen::<S>(load(&diagonal.square.0)));
        let floor = load(&diagonal.floor.0);
        for (class, (p, miss)) in [(first, second), (second, first)].into_iter().enumerate() {
            let value = R::narrow(f64_vectors(
                #[inline(always)]
                |half| p[half] * linear[half].mul_add(miss[half], square[half] * p[half]),
            ));
            // A nan stays.
            let value = value.simd_lt(floor).select(floor, value);
            value.store_slice(&mut out[class * TILE + lane..class * TILE + lane + R::LANES]);
            behind.stream_line();
        }
    }
}

/// scale times the gradient of -log softmax of the target, whose class is given, for a packed tile of two classes, in
/// place, where all scales are finite: the two entries of a row are p and -p, of the class that is not the target. The
/// lines `behind` are streamed.
#[simd]
pub(crate) fn gradient_of_nll_of_two<S: Simd, E: Element>(
    simd: S,
    packed: &mut [RealOf<E>],
    class: &[usize; TILE],
    sums: &TileSums<RealOf<E>>,
    rows: usize,
    behind: &mut Lines,
) {
    let lanes = RealOf::<E>::LANES;
    let mut second = Column::of(RealOf::<E>::ZERO);
    for i in 0..TILE {
        second[i] = RealOf::<E>::from_class(class[i]);
    }
    let (of_first, of_second) = packed.split_at_mut(TILE);
    for lane in (0..rows).step_by(lanes) {
        let load = |from: &[RealOf<E>]| Vector::<E, S>::from_slice(simd, &from[lane..lane + lanes]);
        let [large, small] = large_and_small::<_, _, true>(simd, sums, lane);
        let is_second = load(&second.0).simd_eq(Vector::<E, S>::splat(simd, RealOf::<E>::ONE));
        // The other class, and whether it is the larger.
        let other = is_second.select(load(of_first), load(of_second));
        let p = other.simd_eq(load(&sums.max.0)).select(E::narrow(large), E::narrow(small));
        let entry = is_second.select(p, -p);
        entry.store_slice(&mut of_first[lane..lane + lanes]);
        (-entry).store_slice(&mut of_second[lane..lane + lanes]);
        behind.stream_line();
        behind.stream_line();
    }
}

/// exp(other - m) of the maximum m and the other class: for `f32` to 2^-25, for `f64` as a double-double number. It is
/// nan where a class is nan, where m is +inf and where both are -inf.
#[inline(always)]
fn exp_of_distance<S: Simd, R: Real>(m: R::V<S>, other: R::V<S>) -> [Pair<S>; 2] {
    let simd = m.token();
    if R::IS_F64 {
        let (m, other) = (R::widen::<S>(m)[0], R::widen::<S>(other)[0]);
        let c = |value| f64x8::splat(simd, value);
        let [d, error] = double_double::two_sum_lanes(m, -other);
        // Beyond FAR only whether the maximum is finite matters: m * 0 is nan where it is not.
        let error = d.simd_lt(c(FAR)).select(error, m * 0.0);
        let y = at_least::<S, f64>(-d, c(-FAR));
        let n = y.mul_add(c(f64::LOG2_E), c(f64::MAGIC)) - f64::MAGIC;
        let [e, low] = exp_dd(y, n);
        let [e, low] = double_double::fast_two_sum(e, low - error * e);
        let [first, rest] = powers_of_two(n);
        return [[e * first * rest, low * first * rest]; 2];
    }
    let c = |value| R::V::<S>::splat(simd, value);
    let d = m - other;
    // The rounding error of the difference (Knuth).
    let part = d - m;
    let error = (m - (d - part)) - (other + part);
    let unit = pivot::<S, R>(c(R::ZERO));
    let error = d.simd_lt(-unit.cut).select(error, m * R::ZERO);
    let y = at_least::<S, R>(-d, unit.cut);
    let k = y.mul_add(c(R::LOG2_E), unit.magic);
    let t = R::reduce(y, k - unit.magic) - error;
    let power = R::widen::<S>(<R::V<S> as SimdFloat<S>>::from_bits(k.to_bits() << R::MANTISSA));
    let (tail, t) = (R::widen::<S>(t * t * R::exp_tail(t)), R::widen::<S>(t));
    let zero = f64x8::splat(simd, 0.0);
    f64_vectors(
        #[inline(always)]
        |half| {
            let power = power[half] * power_of_two(-R::SCALE);
            [power.mul_add(tail[half] + t[half], power), zero]
        },
    )
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;
    use crate::kernel::isa;

    /// The sums of a tile with these classes.
    fn tile<R: Real>(level: Level, first: &[f64; TILE], second: &[f64; TILE], units: bool) -> TileSums<R> {
        let packed: Vec<R> = first.iter().chain(second).map(|x| R::from_f64(*x)).collect();
        let mut sums = TileSums::new();
        for i in 0..TILE {
            // As in the kernels, a nan may or may not show.
            let (a, b) = (packed[i], packed[TILE + i]);
            sums.max[i] = if a > b { a } else { b };
        }
        let ahead = Ahead::new(packed.as_ptr(), 0, 0);
        dispatch!(level, simd => two_classes(simd, &packed, TILE, ahead, &mut sums, true));
        if units {
            dispatch!(level, simd => in_pivot_units(simd, TILE, &mut sums));
        }
        sums
    }

    /// exp(-(a - b)) with the rounding error of the difference.
    fn exact(a: f64, b: f64) -> f64 {
        let [d, error] = double_double::two_sum(a, -b);
        (-d).exp() * (1.0 - error)
    }

    fn within<R: Real>(bound: f64) {
        for (name, level) in isa::available() {
            for base in [0.0, 3.7, -11.3, 1e-20, 1e6, -32768.5] {
                for step in 0..500 {
                    let (mut a, mut b) = ([0.0; TILE], [0.0; TILE]);
                    for i in 0..TILE {
                        let d = f64::from(step * 64 + i as i32) * 85.0 / 32000.0;
                        (a[i], b[i]) = (R::from_f64(base).to_f64(), R::from_f64(base - d).to_f64());
                    }
                    let got = tile::<R>(level, &a, &b, true);
                    for i in 0..TILE {
                        let e = exact(a[i], b[i]);
                        let want = e.ln_1p();
                        let share = got.sum_exp_rest[i] / got.exp_max[i];
                        let ulp = if R::IS_F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
                        let error = (got.log1p_rest[i] - want).abs() / want / ulp;
                        assert!(error < bound, "{name} {} {}: {error}", a[i], b[i]);
                        // `exp_max`, `sum_exp_rest`, their quotient and `e` are rounded.
                        let error = (share - e).abs() / e / ulp;
                        assert!(error < bound + 2.0, "{name} {} {}: {error}", a[i], b[i]);
                    }
                }
            }
        }
    }

    #[test]
    fn logarithms_and_shares_are_within_their_bounds_on_every_level() {
        within::<f32>(0.5);
        // The C library's error included.
        within::<f64>(1.5);
    }

    fn ends<R: Real>() {
        const INF: f64 = f64::INFINITY;
        let (mut a, mut b) = ([0.0; TILE], [0.0; TILE]);
        let pairs = [
            (INF, 1.0),
            (INF, INF),
            (INF, -INF),
            (-INF, -INF),
            (f64::NAN, 1.0),
            (f64::NAN, INF),
            (f64::NAN, -INF),
            (1.0, -INF),
            (1e30, -1e30),
            (2.5, 2.5),
            (0.0, -0.0),
        ];
        for (i, (x, y)) in pairs.into_iter().enumerate() {
            (a[i], b[i], a[32 + i], b[32 + i]) = (x, y, y, x);
        }
        for (name, level) in isa::available() {
            let (got, alone) = (tile::<R>(level, &a, &b, true), tile::<R>(level, &a, &b, false));
            for start in [0, 32] {
                let log = &got.log1p_rest[start..];
                assert!(log[..7].iter().all(|log| log.is_nan()), "{name} {log:?}");
                assert_eq!(log[7..9], [0.0, 0.0]);
                let ties = log[9..11].iter().map(|log| R::from_f64(*log).to_f64());
                assert!(ties.eq([R::LN_2.to_f64(); 2]), "{name} {log:?}");
                assert_eq!(got.sum_exp_rest[start + 9], got.exp_max[start + 9]);
            }
            let bits = |sums: &TileSums<R>| sums.log1p_rest.map(f64::to_bits);
            assert_eq!(bits(&got)[7..11], bits(&alone)[7..11]);
        }
    }

    #[test]
    fn infinities_nans_and_ties_have_their_values_on_every_level() {
        ends::<f32>();
        ends::<f64>();
    }
}
