//! Logarithms, a vector at a time: of a sum relative to its largest term (in f64), of a number, and of 1 + y.
//!
//! log((o + s) / o) = log1p(s / o) without the quotient: (o + s) / o = 2^k (1 + f) with 1 + f in about
//! [sqrt(1/2), sqrt(2)), and log(1 + f) = 2 artanh(q) with
//!
//! ```text
//! q = f / (2 + f) = (s - o (2^k - 1)) / (s + o (2^k + 1))
//! ```
//!
//! Where s is small, k = 0 and the numerator is s itself: it has all the digits that 1 + s / o would round off, and one
//! division does. Refined, the series of artanh is that of fdlibm (Sun Microsystems, 1993), and the error at most 1.01
//! ULP (2 without a fused multiply-add; test below). The C library is not called: its results differ between platforms.

use fearless_simd::prelude::*;
use fearless_simd::{f32x16, f64x8};

use super::double_double::{self, Pair, fast_two_sum};
use super::exp::{exp_any, power_of_two};
use super::f64_vectors;
use super::real::Real;

// ln 2 as a high part with 21 trailing zeros and a low part.
pub(super) const LN2_HI: f64 = 6.931_471_803_691_238_165e-1;
pub(super) const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// [`LG`] for (log((1 + q) / (1 - q)) - 2 q) / (2 q)^3 as a polynomial in (2 q)^2.
const SERIES: [f64; 7] = {
    let mut series = LG;
    let (mut i, mut scale) = (0, 0.125);
    while i < 7 {
        series[i] *= scale;
        scale *= 0.25;
        i += 1;
    }
    series
};
/// The coefficients of a shorter series than [`SERIES`], exact to 2^-29.7 of the logarithm, for results that are
/// rounded to `f32` (Remez, for q up to 0.178).
const SHORT: [f64; 3] = [0.083_333_508_229_466_76, 0.012_491_739_168_463_226, 0.002_342_458_222_088_945];
// fdlibm's minimax coefficients of (log((1 + q) / (1 - q)) - 2 q) / q as a polynomial in q^2, from q^2 on.
const LG: [f64; 7] = [
    6.666_666_666_666_735_13e-1,
    3.999_999_999_940_941_908e-1,
    2.857_142_874_366_239_149e-1,
    2.222_219_843_214_978_396e-1,
    1.818_357_216_161_805_012e-1,
    1.531_383_769_920_937_332e-1,
    1.479_819_860_511_658_591e-1,
];
// 1 / o to 1 % for o from sqrt(1/2) to sqrt(2): it only selects a k.
const INVERSE: [f64; 3] = [2.999_85, -2.909_04, 0.914_19];

/// log(1 + s / o) for s >= 0 and o from sqrt(1/2) to sqrt(2); nan at nan. Unless `refined`, to 2^-28.6, which is enough
/// where the result is to be rounded to `f32`.
#[inline(always)]
pub(crate) fn log1p_ratio<S: Simd>(s: f64x8<S>, o: f64x8<S>, refined: bool) -> f64x8<S> {
    let simd = s.token();
    let c = |value| f64x8::splat(simd, value);
    if refined {
        return log1p_ratio_dd([s, c(0.0)], [o, c(0.0)])[0];
    }
    let (k, scale) = nearest_power(o + s, o);
    let twice = scale + scale;
    let numerator = o.mul_add(twice - 2.0, s * twice);
    // 2 q: it is s / o itself where that is tiny, subnormal numbers included.
    let q = numerator / s.mul_add(scale, o.mul_add(scale, o));
    let z = q * q;
    let r = z.mul_add(z.mul_add(c(SHORT[2]), c(SHORT[1])), c(SHORT[0]));
    k.mul_add(c(std::f64::consts::LN_2), (q * z).mul_add(r, q))
}

/// log(1 + y) for y from 0 to 1, where it is to be rounded to `f32`: only what is small beside y is computed in `f32`.
#[inline(always)]
pub(crate) fn log1p_short<S: Simd>(y: [f64x8<S>; 2]) -> [f64x8<S>; 2] {
    // (log1p(y) - y + y^2 / 2) / y^3 to 2^-29.7 of log1p(y) (Remez).
    const FIRST: f64 = 0.333_330_936_125;
    const TAIL: [f32; 8] = [
        -0.249_933_29,
        0.199_264_66,
        -0.162_289_04,
        0.126_807_9,
        -0.085_935_71,
        0.044_313_19,
        -0.014_689_277,
        0.002_277_812,
    ];
    let simd = y[0].token();
    let single = f32::narrow(y);
    // In pairs (Estrin): a chain of eight would have to be waited for.
    let pair = |i: usize| single.mul_add(f32x16::splat(simd, TAIL[i + 1]), f32x16::splat(simd, TAIL[i]));
    let square = single * single;
    let (low, high) = (square.mul_add(pair(2), pair(0)), square.mul_add(pair(6), pair(4)));
    let r = f32::widen((square * square).mul_add(high, low));
    let c = |value| f64x8::splat(simd, value);
    f64_vectors(
        #[inline(always)]
        |half| {
            let y = y[half];
            (y * y).mul_add(y.mul_add(y.mul_add(r[half], c(FIRST)), c(-0.5)), y)
        },
    )
}

/// log(1 + s / o), as [`log1p_ratio`], from double-double numbers to a double-double result: its error is 2^-57 of the
/// logarithm.
#[inline(always)]
pub(crate) fn log1p_ratio_dd<S: Simd>([s, s_low]: Pair<S>, [o, o_low]: Pair<S>) -> Pair<S> {
    let c = |value| f64x8::splat(s.token(), value);
    let [sum, error] = double_double::two_sum_lanes(o, s);
    let (k, scale) = nearest_power(sum, o);
    let twice = scale + scale;
    // The difference is exact (Sterbenz), and where s is small, all of s is in `error`.
    let [numerator, more] = fast_two_sum(twice.mul_add(sum, o * -2.0), twice * error);
    let more = more + twice.mul_add(s_low, (twice - 2.0) * o_low);
    let [denominator, below] = double_double::two_sum_lanes(scale * sum, o);
    let below = below + scale.mul_add(error + (s_low + o_low), o_low);
    // 2 q, double-double.
    let [q, left] = double_double::dd_div_lanes([numerator, more], [denominator, below]);
    let z = q * q;
    let mut r = c(SERIES[6]);
    for i in (0..6).rev() {
        r = z.mul_add(r, c(SERIES[i]));
    }
    let low = (q * z).mul_add(r, k.mul_add(c(LN2_LO), left));
    let [log, error] = fast_two_sum(k * LN2_HI, q);
    fast_two_sum(log, error + low)
}

/// k and 2^-k for which 2^-k sum / o is near 1.
#[inline(always)]
fn nearest_power<S: Simd>(sum: f64x8<S>, o: f64x8<S>) -> (f64x8<S>, f64x8<S>) {
    let c = |value| f64x8::splat(o.token(), value);
    let inverse = o.mul_add(o.mul_add(c(INVERSE[2]), c(INVERSE[1])), c(INVERSE[0]));
    let carried = (sum * inverse).to_bits() + CARRY;
    let k = f64x8::from_bits((carried >> 52) | TWO_52) - EXPONENT_ZERO;
    (k, f64x8::from_bits((c(1.0).to_bits() + ONE) - (carried & EXPONENT)))
}

/// Mantissas from sqrt(2) on go to the next power of two: adding this carries into the exponent.
const CARRY: u64 = ONE - 0x3fe6_a09e_0000_0000;
/// 2^52 + 1023: the bits of 2^52 + (biased exponent) less this is the exponent as a float.
const TWO_52: u64 = 0x4330_0000_0000_0000;

/// What the logarithms of `f32` and of `f64` do differently.
pub(crate) trait Logarithm: Real {
    /// The smallest normal number.
    const MIN_POSITIVE: Self;
    /// Smaller numbers are multiplied by 2^`SHIFT` first.
    const SHIFT: i32;

    /// k, m and 2^-k of x = 2^k m, m from sqrt(1/2) to sqrt(2), for a normal x > 0. (2^-127 and 2^-1023 become 0.)
    fn split<S: Simd>(x: Self::V<S>) -> (Self::V<S>, Self::V<S>, Self::V<S>);
    /// log(2^k (1 + f)) for 1 + f from sqrt(1/2) to sqrt(2): f itself is the leading term.
    fn log_of_parts<S: Simd>(k: Self::V<S>, f: Self::V<S>) -> Self::V<S>;
    /// log(1 + y) for y from 0 to 1, however small y is.
    fn log1p_unit<S: Simd>(y: Self::V<S>) -> Self::V<S>;
}

impl Logarithm for f64 {
    const MIN_POSITIVE: f64 = f64::MIN_POSITIVE;
    const SHIFT: i32 = 54;

    #[inline(always)]
    fn split<S: Simd>(x: f64x8<S>) -> (f64x8<S>, f64x8<S>, f64x8<S>) {
        let bits = x.to_bits();
        let carried = bits + CARRY;
        let k = f64x8::from_bits((carried >> 52) | TWO_52) - EXPONENT_ZERO;
        let exponent = carried & EXPONENT;
        let scale = f64x8::from_bits((f64x8::splat(x.token(), 1.0).to_bits() + ONE) - exponent);
        (k, f64x8::from_bits((bits + ONE) - exponent), scale)
    }

    // As in fdlibm's `log`: the rounding of the quotient does not matter.
    #[inline(always)]
    fn log_of_parts<S: Simd>(k: f64x8<S>, f: f64x8<S>) -> f64x8<S> {
        let c = |value| f64x8::splat(f.token(), value);
        let half_square = f * f * 0.5;
        let q = f / (f + 2.0);
        let z = q * q;
        let mut r = c(LG[6]);
        for i in (0..6).rev() {
            r = z.mul_add(r, c(LG[i]));
        }
        let low = q.mul_add(z.mul_add(r, half_square), k * LN2_LO);
        k.mul_add(c(LN2_HI), f - (half_square - low))
    }

    #[inline(always)]
    fn log1p_unit<S: Simd>(y: f64x8<S>) -> f64x8<S> {
        log1p_by_parts::<S, f64>(y).0
    }
}

impl Logarithm for f32 {
    const MIN_POSITIVE: f32 = f32::MIN_POSITIVE;
    const SHIFT: i32 = 25;

    #[inline(always)]
    fn split<S: Simd>(x: f32x16<S>) -> (f32x16<S>, f32x16<S>, f32x16<S>) {
        // As for f64, with 2^23.
        const ONE: u32 = 0x3f80_0000;
        const CARRY: u32 = ONE - 0x3f35_04f3;
        const EXPONENT: u32 = 0x7f80_0000;
        const TWO_23: u32 = 0x4b00_0000;
        const EXPONENT_ZERO: f32 = 8_388_608.0 + 127.0;
        let bits = x.to_bits();
        let carried = bits + CARRY;
        let k = f32x16::from_bits((carried >> 23) | TWO_23) - EXPONENT_ZERO;
        let exponent = carried & EXPONENT;
        let scale = f32x16::from_bits((f32x16::splat(x.token(), 1.0).to_bits() + ONE) - exponent);
        (k, f32x16::from_bits((bits + ONE) - exponent), scale)
    }

    // (log(1 + f) - f + f^2 / 2) / f^3 as a polynomial, without a division: that of Cephes' `logf` (Moshier 1989).
    #[inline(always)]
    fn log_of_parts<S: Simd>(k: f32x16<S>, f: f32x16<S>) -> f32x16<S> {
        const LN2_HI: f32 = 0.693_359_375;
        const LN2_LO: f32 = -2.121_944_4e-4;
        const P: [f32; 9] = [
            3.333_333_117_4e-1,
            -2.499_999_399_3e-1,
            2.000_071_476_5e-1,
            -1.666_805_766_5e-1,
            1.424_932_278_7e-1,
            -1.242_014_084_6e-1,
            1.167_699_874_0e-1,
            -1.151_461_031_0e-1,
            7.037_683_629_2e-2,
        ];
        let c = |value| f32x16::splat(f.token(), value);
        let z = f * f;
        let mut r = c(P[8]);
        for i in (0..8).rev() {
            r = f.mul_add(r, c(P[i]));
        }
        let low = (f * z).mul_add(r, k * LN2_LO);
        k.mul_add(c(LN2_HI), f + z.mul_add(c(-0.5), low))
    }

    // y (1 + y P(y)) without splitting 1 + y; P interpolates at Chebyshev nodes, approximation error 2^-24.9 relative.
    #[inline(always)]
    fn log1p_unit<S: Simd>(y: f32x16<S>) -> f32x16<S> {
        const P: [f32; 9] = [
            -0.499_999_97,
            0.333_328_43,
            -0.249_865_26,
            0.198_541_06,
            -0.158_475_65,
            0.115_618_45,
            -0.066_757_724,
            0.025_224_054,
            -0.004_466_211_4,
        ];
        let c = |value| f32x16::splat(y.token(), value);
        let mut r = c(P[8]);
        for i in (0..8).rev() {
            r = y.mul_add(r, c(P[i]));
        }
        (y * y).mul_add(r, y)
    }
}

/// log(x) for any x: -inf at 0, nan below.
#[inline(always)]
pub(crate) fn log<S: Simd, R: Logarithm>(x: R::V<S>) -> R::V<S> {
    let c = |value| R::V::<S>::splat(x.token(), value);
    let (zero, infinity) = (c(R::ZERO), c(R::from_f64(f64::INFINITY)));
    let subnormal = x.simd_lt(c(R::MIN_POSITIVE));
    let shift = f64::from(R::SHIFT);
    let (k, m, _) = R::split(subnormal.select(x * c(R::from_f64(power_of_two(R::SHIFT))), x));
    let k = k - subnormal.select(c(R::from_f64(shift)), zero);
    let finite = x.simd_lt(infinity).select(R::log_of_parts(k, m - c(R::ONE)), x);
    let ends = x.simd_eq(zero).select(c(R::NEG_INFINITY), c(R::from_f64(f64::NAN)));
    x.simd_gt(zero).select(finite, ends)
}

/// x^exponent for x from 0 to 1 and an exponent above 0; nan for an x below 0.
///
/// log x = k ln 2 + log m, of which k times the high part of ln 2 is exact, and so is its product with the exponent, as
/// a double-double number: the error is a few units in the last place for an exponent up to 8, and grows with exponent
/// |log m| beyond, with |log m| <= log(2) / 2.
#[inline(always)]
pub(crate) fn power<S: Simd>(x: f64x8<S>, exponent: f64) -> f64x8<S> {
    let c = |value| f64x8::splat(x.token(), value);
    // No number below 1 has a power of 1e20 that is not 0.
    let exponent = c(exponent.min(1e20));
    let subnormal = x.simd_lt(c(f64::MIN_POSITIVE));
    let (k, m, _) = f64::split(subnormal.select(x * power_of_two(f64::SHIFT), x));
    let k = k - subnormal.select(c(f64::from(f64::SHIFT)), c(0.0));
    let [y, error] = double_double::two_product(k * LN2_HI, exponent);
    let low = k.mul_add(c(LN2_LO), f64::log_of_parts(c(0.0), m - 1.0));
    let [y, rest] = double_double::two_sum_lanes(y, exponent * low);
    let power = exp_any(y);
    let power = power.mul_add(rest + error, power);
    let ends = x.simd_eq(c(0.0)).select(c(0.0), c(f64::NAN));
    x.simd_gt(c(0.0)).select(power, ends)
}

/// log(1 + y) for y from -1 to 1, however small y is.
#[inline(always)]
pub(crate) fn log1p<S: Simd, R: Logarithm>(y: R::V<S>) -> R::V<S> {
    let c = |value| R::V::<S>::splat(y.token(), value);
    let (log, sum) = log1p_by_parts::<S, R>(y);
    sum.simd_eq(c(R::ZERO)).select(c(R::NEG_INFINITY), log)
}

/// log(x) where `plain`, else log(1 - x), for x from 0 to 1: the bits of [`log`] and [`log1p`].
#[inline(always)]
pub(crate) fn log_or_log1m<S: Simd, R: Logarithm>(
    x: R::V<S>,
    plain: <R::V<S> as SimdBase<S>>::Mask,
) -> R::V<S> {
    let c = |value| R::V::<S>::splat(x.token(), value);
    let (zero, one) = (c(R::ZERO), c(R::ONE));
    let rest = one - x;
    // The rounding error of the difference.
    let error = plain.select(zero, (one - rest) - x);
    let y = plain.select(x, rest);
    let subnormal = y.simd_lt(c(R::MIN_POSITIVE));
    let (k, m, scale) = R::split(subnormal.select(y * c(R::from_f64(power_of_two(R::SHIFT))), y));
    let k = k - subnormal.select(c(R::from_f64(f64::from(R::SHIFT))), zero);
    let log = R::log_of_parts(k, error.mul_add(scale, m - one));
    y.simd_eq(zero).select(c(R::NEG_INFINITY), log)
}

/// log(1 + y) for y above -1, and 1 + y.
#[inline(always)]
fn log1p_by_parts<S: Simd, R: Logarithm>(y: R::V<S>) -> (R::V<S>, R::V<S>) {
    let one = R::V::<S>::splat(y.token(), R::ONE);
    let sum = y + one;
    // The rounding error of the sum (Dekker): with it, f is y itself where k = 0.
    let error = y - (sum - one);
    let (k, m, scale) = R::split(sum);
    (R::log_of_parts(k, error.mul_add(scale, m - one)), sum)
}

/// The number whose bits [`TWO_52`] gives for a biased exponent of 1023.
const EXPONENT_ZERO: f64 = 4_503_599_627_370_496.0 + 1023.0;

/// Bits of the exponent field, and of 1.0.
const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
const ONE: u64 = 0x3ff0_0000_0000_0000;

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

    use fearless_simd::{Level, dispatch};

    use super::*;
    use crate::kernel::isa;

    /// The error in ULP. The reference quotient is s / o rounded; its rounding error is added to first order.
    fn error(got: f64, s: f64, o: f64) -> f64 {
        let x = s / o;
        let rounding = (-x).mul_add(o, s) / o;
        let want = x.ln_1p() + rounding / (1.0 + x);
        let ulp = f64::from_bits(want.to_bits() + 1) - want;
        (got - want).abs() / ulp
    }

    fn at(level: Level, s: f64, o: f64, refined: bool) -> f64 {
        dispatch!(level, simd => log1p_ratio(f64x8::splat(simd, s), f64x8::splat(simd, o), refined).as_slice()[0])
    }

    #[test]
    fn log1p_is_within_its_bounds_of_the_c_library_on_every_level() {
        let mut xs: Vec<f64> =
            (0..4000).map(|i| 1.37_f64.powi(i % 400 - 300) * (1.0 + f64::from(i) * 1e-3)).collect();
        xs.extend((0..4000).map(|i| f64::from(i) * 1e-3));
        xs.extend([0.0, f64::MIN_POSITIVE, 0.414_213_562_373, 0.414_213_562_374, 1.0, 2.0, 1e15, 9.1e15]);
        for (name, level) in isa::available() {
            let refined_bound = if isa::has_fma(level) { 1.01 } else { 2.0 };
            // Not refined, 2^-28.6 in units of 2^-52.
            for (refined, bound) in [(true, refined_bound), (false, 11e6)] {
                let mut worst: f64 = 0.0;
                for (i, &s) in xs.iter().enumerate() {
                    for o in [1.0, FRAC_1_SQRT_2, SQRT_2, 0.71 + 1e-4 * (i % 7000) as f64] {
                        worst = worst.max(error(at(level, s, o, refined), s, o));
                    }
                }
                assert!(worst <= bound, "{name}: {worst}");
            }
        }
    }

    #[test]
    fn the_ends_are_exact() {
        for (_, level) in isa::available() {
            let at = |s, o| at(level, s, o, true);
            assert_eq!(at(0.0, 1.0), 0.0);
            assert_eq!(at(5e-324, 1.0), 5e-324);
            assert_eq!(at(1e-300, 1.0), 1e-300);
            assert!(at(f64::NAN, 1.0).is_nan());
        }
    }

    /// The distance from the C library's result in `f64`, in units in the last place of R; that result has an error of
    /// up to half a unit in its last place.
    fn ulps<R: Real>(got: R, want: f64) -> f64 {
        let (got, bits) = (got.to_f64(), if R::IS_F64 { 52 } else { 23 });
        if got == want {
            return 0.0;
        }
        (got - want).abs() / (want.abs().log2().floor() - f64::from(bits)).exp2()
    }

    fn log_at<R: Logarithm>(level: Level, x: f64) -> R {
        dispatch!(level, simd => log::<_, R>(R::V::splat(simd, R::from_f64(x))).as_slice()[0])
    }

    fn log1p_at<R: Logarithm>(level: Level, y: f64) -> R {
        dispatch!(level, simd => log1p::<_, R>(R::V::splat(simd, R::from_f64(y))).as_slice()[0])
    }

    fn log_is_within<R: Logarithm>(bound: f64) {
        let mut xs: Vec<f64> =
            (0..6000).map(|i| 1.27_f64.powi(i % 5900 - 2950) * (1.0 + f64::from(i) * 1e-4)).collect();
        xs.extend((1..4000).map(|i| f64::from(i) * 5e-4));
        xs.extend((0..60).flat_map(|i| [1.0 + 0.5_f64.powi(i), 1.0 - 0.5_f64.powi(i + 1)]));
        xs.extend([5e-324, 1e-310, 1e-45, 1e-40, f64::MIN_POSITIVE, f64::MAX, 1.5e308]);
        let xs: Vec<f64> = xs.iter().map(|x| R::from_f64(*x).to_f64()).collect();
        for (name, level) in isa::available() {
            for x in xs.iter().filter(|x| x.is_finite() && **x > 0.0) {
                let error = ulps(log_at::<R>(level, *x), x.ln());
                assert!(error <= bound, "{name} {x}: {error}");
            }
            let at = |x| log_at::<R>(level, x).to_f64();
            assert_eq!((at(0.0), at(-0.0), at(1.0)), (f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0));
            assert_eq!(at(f64::INFINITY), f64::INFINITY);
            assert!(at(-1.0).is_nan() && at(f64::NAN).is_nan() && at(f64::NEG_INFINITY).is_nan());
        }
    }

    #[test]
    fn log_is_within_its_bound_on_every_level() {
        log_is_within::<f32>(1.6);
        log_is_within::<f64>(1.5);
    }

    #[test]
    fn powers_are_within_their_bound_of_the_c_library_on_every_level() {
        for (name, level) in isa::available() {
            let at = |x: f64, exponent: f64| dispatch!(level, simd => power(f64x8::splat(simd, x), exponent).as_slice()[0]);
            for exponent in [0.25, 0.5, 1.5, 2.5, 5.0, 7.75] {
                for i in 0..6000 {
                    let x =
                        if i < 2000 { 0.5_f64.powi(i % 1060) * 0.93 } else { f64::from(i - 2000) / 4000.0 };
                    let want = x.powf(exponent);
                    // A subnormal x or power has no more digits than it has.
                    if want > 1e-300 && x > 1e-300 {
                        let error = (at(x, exponent) - want).abs() / want / f64::EPSILON;
                        assert!(error <= 4.0, "{name} {x} {exponent}: {error}");
                    }
                }
                assert_eq!((at(0.0, exponent), at(1.0, exponent)), (0.0, 1.0));
                assert!(at(f64::NAN, exponent).is_nan() && at(-0.5, exponent).is_nan());
            }
            assert_eq!((at(1.0 - f64::EPSILON / 2.0, f64::MAX), at(1.0, f64::MAX)), (0.0, 1.0));
            assert_eq!((at(0.0, f64::MIN_POSITIVE), at(1e-300, 5e-324)), (0.0, 1.0));
            assert!((at(5e-324, 0.5) - 5e-324_f64.sqrt()).abs() <= 1e-177);
        }
    }

    fn log1p_is_within<R: Logarithm>(bound: f64) {
        let mut ys: Vec<f64> = (0..8000).map(|i| f64::from(i - 4000) / 4000.0).collect();
        ys.extend(
            (0..1100).flat_map(|i| {
                [0.5_f64.powi(i), -0.5_f64.powi(i), 0.7 * 0.5_f64.powi(i), 0.5_f64.powi(i) - 1.0]
            }),
        );
        let ys: Vec<f64> = ys.iter().map(|y| R::from_f64(*y).to_f64()).collect();
        for (name, level) in isa::available() {
            for y in ys.iter().filter(|y| **y > -1.0) {
                // A subnormal result has no more digits than y.
                let error = ulps(log1p_at::<R>(level, *y), y.ln_1p());
                assert!(error <= bound || log1p_at::<R>(level, *y).to_f64() == *y, "{name} {y}: {error}");
            }
            let at = |y| log1p_at::<R>(level, y).to_f64();
            assert_eq!((at(-1.0), at(0.0)), (f64::NEG_INFINITY, 0.0));
            assert!(at(f64::NAN).is_nan());
        }
    }

    fn log1p_unit_is_within<R: Logarithm>(bound: f64) {
        let mut ys: Vec<f64> = (0..=8000).map(|i| f64::from(i) / 8000.0).collect();
        ys.extend((0..1100).flat_map(|i| [0.5_f64.powi(i), 0.7 * 0.5_f64.powi(i)]));
        let ys: Vec<f64> = ys.iter().map(|y| R::from_f64(*y).to_f64()).collect();
        for (name, level) in isa::available() {
            let at =
                |y| dispatch!(level, simd => R::log1p_unit(R::V::splat(simd, R::from_f64(y))).as_slice()[0]);
            for y in &ys {
                let error = ulps(at(*y), y.ln_1p());
                assert!(error <= bound || at(*y).to_f64() == *y, "{name} {y}: {error}");
            }
            assert!(at(f64::NAN).to_f64().is_nan());
        }
    }

    #[test]
    fn log1p_from_0_to_1_is_within_its_bound_on_every_level() {
        log1p_unit_is_within::<f32>(1.5);
        log1p_unit_is_within::<f64>(1.5);
    }

    #[test]
    fn log1p_keeps_its_digits_at_both_ends_on_every_level() {
        log1p_is_within::<f32>(1.8);
        log1p_is_within::<f64>(1.5);
        for (_, level) in isa::available() {
            assert_eq!(log1p_at::<f64>(level, 5e-324), 5e-324);
            assert_eq!(log1p_at::<f32>(level, 1e-45), 1e-45);
        }
    }
}
