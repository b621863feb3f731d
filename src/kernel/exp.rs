//! The exponential relative to a row's maximum, without subtracting the maximum.
//!
//! The textbook computes exp(x - max). In floating point x - max is rounded, and at a distance of 17 that
//! rounding alone costs 8 ULP of the exponential. So x itself is reduced, x = n ln 2 + t, which is exact,
//! and only the integers are subtracted:
//!
//! ```text
//! exp(x) = 2^n exp(t),   exp(max) = 2^p exp(t_max),   term = 2^(n - p) exp(t),   exp(x - max) = term / exp(t_max)
//! ```
//!
//! The subtraction n - p happens inside the constant that rounds x log2(e) to an integer, and the power of
//! two is a shift of the same word: the whole costs less than the textbook form. Sums stay in units of
//! 2^p, so a new maximum rescales them by an exact power of two; exp(`t_max`) enters once for the row
//! ([`super::log_sum_exp`]).
//!
//! Terms carry a factor 2^SCALE, which keeps them normal numbers. What lies further below the maximum
//! than any subnormal result is clamped to the x whose exponent field is zero, and gives exactly 0.
//!
//! Long rows, whose sums take the most time, reduce x further, to a sixteenth of ln 2 on either side, and look 2^(n/8) up
//! ([`term_from_base`]): seven fused multiply-adds and multiplications for `f32` and not ten, eleven for `f64` and not
//! fifteen.
//!
//! Above `PIVOT_LIMIT` the integer n would need too many bits, but there x - max is exact
//! for every x that counts (Sterbenz), so `base` = max is subtracted first and p = 0.
//!
//! Measured against exact exponentials: below 1.1 ULP for `f32`, 1.0 ULP for `f64` (tests below).

use fearless_simd::f64x8;
use fearless_simd::prelude::*;

use super::double_double::{Pair, fast_two_sum};
use super::f64_vectors;
use super::isa::has_fma;
use super::real::{LN_2_HI, LN_2_LO, Real};

/// What the exponentials of a row (or, lane by lane, of several rows) are relative to.
#[derive(Clone, Copy)]
pub(crate) struct Pivot<V> {
    /// Subtracted first: 0, or the maximum where that is large.
    pub base: V,
    /// Smallest x - base that counts.
    pub cut: V,
    /// Rounds to an integer and subtracts p - BIAS from it.
    pub magic: V,
    /// As `magic`, of eighths.
    eighths: V,
    /// p, the integer part of max - base.
    pub n: V,
}

/// The pivot of the maximum `m`.
#[inline(always)]
pub(crate) fn pivot<S: Simd, R: Real>(m: R::V<S>) -> Pivot<R::V<S>> {
    let simd = m.token();
    let c = |value| R::V::<S>::splat(simd, value);
    let fits = m.abs().simd_le(c(R::PIVOT_LIMIT));
    let rounded = m.mul_add(c(R::LOG2_E), c(R::MAGIC)) - c(R::MAGIC);
    let n = fits.select(rounded, c(R::ZERO));
    Pivot {
        base: fits.select(c(R::ZERO), m),
        cut: (n - c(R::BIAS)) * c(R::LN_2),
        magic: c(R::MAGIC + R::BIAS) - n,
        eighths: c(R::MAGIC + R::EIGHTHS * R::BIAS) - n * R::EIGHTHS,
        n,
    }
}

/// max(floor, x) that keeps a nan in x.
#[inline(always)]
pub(crate) fn at_least<S: Simd, R: Real>(x: R::V<S>, floor: R::V<S>) -> R::V<S> {
    if x.token().level().is_fallback() {
        x.simd_lt(floor).select(floor, x)
    } else {
        // x86 returns the second operand where one is nan; NEON returns nan.
        floor.max(x)
    }
}

/// The power of two s and q = exp(t) - 1 of x, relative to the pivot: term = s + s q.
#[inline(always)]
pub(crate) fn power_and_expm1<S: Simd, R: Real>(x: R::V<S>, pivot: &Pivot<R::V<S>>) -> (R::V<S>, R::V<S>) {
    power_and_expm1_from_base::<S, R>(at_least::<S, R>(x - pivot.base, pivot.cut), pivot)
}

/// [`power_and_expm1`] of x from y = x - base, which is at least `cut`.
#[inline(always)]
fn power_and_expm1_from_base<S: Simd, R: Real>(y: R::V<S>, pivot: &Pivot<R::V<S>>) -> (R::V<S>, R::V<S>) {
    let simd = y.token();
    let k = y.mul_add(R::V::<S>::splat(simd, R::LOG2_E), pivot.magic);
    let n = k - pivot.magic;
    let q = R::expm1(R::reduce(y, n));
    let s = <R::V<S> as SimdFloat<S>>::from_bits(k.to_bits() << R::MANTISSA);
    (s, q)
}

/// exp(x - max) exp(`t_max`) 2^SCALE.
#[inline(always)]
pub(crate) fn term<S: Simd, R: Real>(x: R::V<S>, pivot: &Pivot<R::V<S>>) -> R::V<S> {
    let (s, q) = power_and_expm1::<S, R>(x, pivot);
    s.mul_add(q, s)
}

/// [`term`] of x and max - x, given max - base. Where the term is 0, max - x stays finite: their product is 0 even for
/// an x of -inf.
#[inline(always)]
pub(crate) fn term_and_max_minus_x<S: Simd, R: Real>(
    x: R::V<S>,
    pivot: &Pivot<R::V<S>>,
    max_less_base: R::V<S>,
) -> (R::V<S>, R::V<S>) {
    let y = at_least::<S, R>(x - pivot.base, pivot.cut);
    let (s, q) = power_and_expm1_from_base::<S, R>(y, pivot);
    (s.mul_add(q, s), max_less_base - y)
}

/// [`term`] from x - base, and x - base or `cut`, whichever is larger. With a fused multiply-add x is reduced to n ln(2)/8,
/// and 2^(n/8) is looked up: a shorter polynomial, with an error of up to 1.0 ULP where that of [`term`] is 0.8. Without
/// one there is no look-up either. Of terms below 2^-186 exp(max), in `f32`, the last octave before 0 has few digits.
#[inline(always)]
pub(crate) fn term_from_base<S: Simd, R: Real>(x: R::V<S>, pivot: &Pivot<R::V<S>>) -> (R::V<S>, R::V<S>) {
    let simd = x.token();
    let y = at_least::<S, R>(x, pivot.cut);
    let (s, q) = if has_fma(simd.level()) {
        let k = y.mul_add(R::V::<S>::splat(simd, R::EIGHTHS * R::LOG2_E), pivot.eighths);
        let n = k - pivot.eighths;
        (R::power_of_eighths(k), R::expm1_eighths(R::reduce_eighths(y, n)))
    } else {
        power_and_expm1_from_base::<S, R>(y, pivot)
    };
    (s.mul_add(q, s), y)
}

/// exp(`t_max`): the term of the maximum, without the factor 2^SCALE, in f64 whatever the row's type; for `f32` to
/// 2^-32.
#[inline(always)]
pub(crate) fn exp_max_f64<S: Simd, R: Real>(m: R::V<S>, pivot: &Pivot<R::V<S>>) -> [R64<S>; 2] {
    let [exp_max, other] = exp_max_dd::<S, R>(m, pivot);
    [exp_max[0], other[0]]
}

/// exp(`t_max`) as a double-double number, because every sum of the row is in its units; for rows of `f32` the low part
/// is 0.
#[inline(always)]
pub(crate) fn exp_max_dd<S: Simd, R: Real>(m: R::V<S>, pivot: &Pivot<R::V<S>>) -> [Pair<S>; 2] {
    let (m, n) = (R::widen::<S>(m - pivot.base), R::widen::<S>(pivot.n));
    f64_vectors(
        #[inline(always)]
        |half| {
            if R::IS_F64 {
                return exp_dd(m[half], n[half]);
            }
            let exp_max = R::expm1_f64(f64::reduce(m[half], n[half])) + 1.0;
            [exp_max, f64x8::splat(exp_max.token(), 0.0)]
        },
    )
}

type R64<S> = <f64 as Real>::V<S>;

/// 2^n for -1022 <= n <= 1023.
#[inline(always)]
pub(crate) fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// x 2^n for n <= 0, without loss until the result itself is subnormal.
#[inline(always)]
pub(crate) fn scale_down(x: f64, n: i32) -> f64 {
    let n = n.max(-2040);
    x * power_of_two(n / 2) * power_of_two(n - n / 2)
}

/// exp(x) of every lane, for finite x in [-700, 700].
#[inline(always)]
pub(crate) fn exp_f64<S: Simd>(x: R64<S>) -> R64<S> {
    let simd = x.token();
    let c = |value| R64::<S>::splat(simd, value);
    let magic = c(f64::MAGIC + 1023.0);
    let k = x.mul_add(c(f64::LOG2_E), magic);
    let q = f64::expm1(f64::reduce(x, k - magic));
    let s = R64::<S>::from_bits(k.to_bits() << f64::MANTISSA);
    s.mul_add(q, s)
}

/// exp(x) of every lane, for any x: it overflows to +inf, and ends in subnormal numbers and 0.
#[inline(always)]
pub(crate) fn exp_any<S: Simd>(x: R64<S>) -> R64<S> {
    exp_any_for::<S, f64>(x)
}

/// [`exp_any`] for a result that is to be rounded to `R`.
#[inline(always)]
pub(crate) fn exp_any_for<S: Simd, R: Real>(x: R64<S>) -> R64<S> {
    let simd = x.token();
    let c = |value| R64::<S>::splat(simd, value);
    // A nan passes both selections. Beyond these ends the result is 0 or +inf.
    let x = x.simd_lt(c(-750.0)).select(c(-750.0), x);
    let x = x.simd_gt(c(720.0)).select(c(720.0), x);
    let magic = c(f64::MAGIC);
    let n = x.mul_add(c(f64::LOG2_E), magic) - magic;
    let q = R::expm1_f64(f64::reduce(x, n));
    let [first, rest] = powers_of_two(n);
    first.mul_add(q, first) * rest
}

/// exp(x) d of every lane, for any x but a nan, where exp(x) alone may be no normal number: the power of two is
/// multiplied in last, as three factors, so that no intermediate result overflows or is subnormal.
#[inline(always)]
pub(crate) fn exp_times<S: Simd>(x: R64<S>, d: R64<S>) -> R64<S> {
    let c = |value| R64::<S>::splat(x.token(), value);
    // Beyond these ends the product is 0 or infinite for any d but 0 and an infinity.
    let x = x.simd_lt(c(-1500.0)).select(c(-1500.0), x);
    let x = x.simd_gt(c(1500.0)).select(c(1500.0), x);
    let magic = c(f64::MAGIC);
    let n = x.mul_add(c(f64::LOG2_E), magic) - magic;
    let q = f64::expm1(f64::reduce(x, n));
    let third = n.mul_add(c(1.0 / 3.0), magic) - magic;
    let [second, rest] = powers_of_two(n - third);
    let first = R64::<S>::from_bits((third + c(f64::MAGIC + 1023.0)).to_bits() << f64::MANTISSA);
    first.mul_add(q, first) * d * second * rest
}

/// 2^n as a product of two normal numbers, for integers n from -2044 to 2046.
#[inline(always)]
pub(crate) fn powers_of_two<S: Simd>(n: R64<S>) -> [R64<S>; 2] {
    let c = |value| R64::<S>::splat(n.token(), value);
    let biased = c(f64::MAGIC + 1023.0);
    let half = n.mul_add(c(0.5), biased);
    let rest = (n - (half - biased)) + biased;
    [half, rest].map(
        #[inline(always)]
        |k| R64::<S>::from_bits(k.to_bits() << f64::MANTISSA),
    )
}

/// exp(x - n ln 2) for an n within 1/2 of x / ln 2, as a double-double number: its error is at most a quarter of a unit
/// in the last place of the high part.
#[inline(always)]
pub(crate) fn exp_dd<S: Simd>(x: f64x8<S>, n: f64x8<S>) -> Pair<S> {
    let c = |value| f64x8::splat(x.token(), value);
    // The first difference is exact, and the rounding error of the second is kept.
    let first = n.mul_add(c(-LN_2_HI), x);
    let t = n.mul_add(c(-LN_2_LO), first);
    let t_low = n.mul_add(c(-LN_2_LO), first - t);
    let [one_and_t, error] = fast_two_sum(c(1.0), t);
    let [exp, more] = fast_two_sum(one_and_t, t * t * f64::exp_tail(t));
    [exp, more + t_low.mul_add(one_and_t, error)]
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    /// The terms by [`term`] and by [`term_from_base`].
    #[inline(always)]
    fn terms<S: Simd, R: Real>(simd: S, m: R, xs: &[R]) -> [Vec<f64>; 2] {
        let p = pivot::<S, R>(R::V::<S>::splat(simd, m));
        let exp_max =
            exp_max_f64::<S, R>(R::V::<S>::splat(simd, m), &p)[0].as_slice()[0] * power_of_two(R::SCALE);
        let relative = |term: R::V<S>| term.as_slice()[0].to_f64() / exp_max;
        let xs = || xs.iter().map(|x| R::V::<S>::splat(simd, *x));
        let of_many = xs().map(|x| relative(term_from_base::<S, R>(x - p.base, &p).0)).collect();
        [xs().map(|x| relative(term::<S, R>(x, &p))).collect(), of_many]
    }

    /// exp(x - m) with x - m as an unevaluated sum, so that the reference is good to f64.
    fn exact(x: f64, m: f64) -> f64 {
        let d = x - m;
        let b = d + m;
        let rest = (x - b) - (m - (b - d));
        d.exp() * (1.0 + rest)
    }

    #[test]
    fn terms_are_within_their_bounds_on_every_level() {
        for (name, level) in isa::available() {
            for m in [0.0_f32, 9.1, -3.7, 88.8, 1000.3, -31999.5, 65536.25, 3e6, -1e30, 1e-30] {
                let xs: Vec<f32> = (0..2000).map(|i| m - (i as f32) * 0.043).collect();
                let got = dispatch!(level, simd => terms::<_, f32>(simd, m, &xs));
                for (x, y) in xs.iter().cycle().zip(got.concat()) {
                    let want = exact(f64::from(*x), f64::from(m));
                    let error = (y - want).abs() / want / f64::from(f32::EPSILON);
                    assert!(error < 1.1, "{name} m {m} x {x}: {y} {want} {error}");
                }
            }
        }
    }

    #[test]
    fn far_below_the_maximum_is_exactly_zero() {
        for (_, level) in isa::available() {
            let xs = [f32::NEG_INFINITY, f32::MIN, -150.0, f32::NAN];
            let got = dispatch!(level, simd => terms::<_, f32>(simd, 0.0, &xs));
            for got in got {
                assert_eq!(got[..3], [0.0, 0.0, 0.0]);
                assert!(got[3].is_nan());
            }
            let xs = [f64::NEG_INFINITY, f64::MIN, -1400.0, f64::NAN];
            let got = dispatch!(level, simd => terms::<_, f64>(simd, 0.0, &xs));
            for got in got {
                assert_eq!(got[..3], [0.0, 0.0, 0.0]);
                assert!(got[3].is_nan());
            }
        }
    }

    #[test]
    fn f64_terms_agree_with_the_c_library_to_two_ulp() {
        for (name, level) in isa::available() {
            for m in [0.0_f64, 9.1, -700.3, 31999.5, 1e6] {
                let xs: Vec<f64> = (0..2000).map(|i| m - f64::from(i) * 0.33).collect();
                let got = dispatch!(level, simd => terms::<_, f64>(simd, m, &xs));
                for (x, y) in xs.iter().cycle().zip(got.concat()) {
                    let want = exact(*x, m);
                    let error = (y - want).abs() / want / f64::EPSILON;
                    assert!(error < 2.0, "{name} m {m} x {x}: {y} {want} {error}");
                }
            }
        }
    }

    #[test]
    fn scaling_down_is_exact_and_ends_at_zero() {
        assert_eq!(scale_down(3.0, -1), 1.5);
        assert_eq!(scale_down(power_of_two(900), -1900), power_of_two(-1000));
        assert_eq!(scale_down(power_of_two(900), -40_000), 0.0);
        assert!(scale_down(f64::NAN, -5).is_nan());
    }

    #[test]
    fn exp_f64_is_within_one_ulp_of_the_c_library() {
        let worst = dispatch!(fearless_simd::Level::new(), simd => {
            (-6990..6990).map(|i| {
                let x = f64::from(i) * 0.1;
                let y = exp_f64(R64::splat(simd, x)).as_slice()[0];
                (y - x.exp()).abs() / x.exp() / f64::EPSILON
            }).fold(0.0, f64::max)
        });
        assert!(worst <= 1.0, "{worst}");
    }

    #[test]
    fn exp_of_anything_is_within_a_ulp_and_has_its_limits_on_every_level() {
        for (name, level) in isa::available() {
            let at = |x: f64| dispatch!(level, simd => exp_any(R64::splat(simd, x)).as_slice()[0]);
            for i in -7080..7097 {
                let x = f64::from(i) * 0.1;
                let error = (at(x) - x.exp()).abs() / x.exp() / f64::EPSILON;
                assert!(error <= 1.5, "{name} {x}: {error}");
            }
            for x in [-708.5, -720.3, -740.0, -745.1, -746.0] {
                assert!((at(x) - x.exp()).abs() <= 5e-324, "{name} {x}");
            }
            assert_eq!((at(0.0), at(-0.0)), (1.0, 1.0));
            assert_eq!(at(709.79), f64::INFINITY);
            assert!(at(709.78).is_finite());
            assert_eq!((at(f64::INFINITY), at(f64::MAX)), (f64::INFINITY, f64::INFINITY));
            assert_eq!((at(f64::NEG_INFINITY), at(f64::MIN)), (0.0, 0.0));
            assert!(at(f64::NAN).is_nan());
        }
    }

    #[test]
    fn exp_times_a_number_keeps_its_digits_where_exp_has_none_on_every_level() {
        for (name, level) in isa::available() {
            let at = |x: f64, d: f64| dispatch!(level, simd => exp_times(R64::splat(simd, x), R64::splat(simd, d)).as_slice()[0]);
            // exp(x) d = exp(x + 700 s) d' with d = d' exp(700 s) as near as an f64 comes to it.
            for i in 0..7500 {
                let x = -700.0 - f64::from(i) * 0.1;
                let (large, want) = (1e304, (x + 700.0).exp() * (1e304 * (-700.0_f64).exp()));
                if want > 1e-300 {
                    let error = (at(x, large) - want).abs() / want / f64::EPSILON;
                    assert!(error <= 4.0, "{name} {x}: {error}");
                }
                let (small, want) = (1e-304, (-x - 700.0).exp() * (1e-304 * 700.0_f64.exp()));
                if want < 1e300 {
                    let error = (at(-x, small) - want).abs() / want / f64::EPSILON;
                    assert!(error <= 4.0, "{name} {x}: {error}");
                }
            }
            assert_eq!((at(-1e6, 1e308), at(-1e300, -1e308)), (0.0, -0.0));
            assert_eq!((at(-1e6, f64::INFINITY), at(1e6, 1e-12)), (f64::INFINITY, f64::INFINITY));
            assert_eq!((at(1e6, 0.0), at(720.0, -0.0)), (0.0, 0.0));
            assert!(at(0.0, f64::NAN).is_nan());
        }
    }
}
