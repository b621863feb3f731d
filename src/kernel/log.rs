//! log1p in f64, a vector of rows at a time.
//!
//! The method of fdlibm (Sun Microsystems, 1993), without branches: 1 + x = 2^k (1 + f) with 1 + f in
//! [sqrt(1/2), sqrt(2)), s = f / (2 + f), log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)), and what was lost in rounding
//! 1 + x comes back as c / (1 + x). Below 1 ULP (test below). The C library is not asked: its
//! answers differ between platforms.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;

// ln 2 in two parts, the first with 21 trailing zeros.
const LN2_HI: f64 = 6.931_471_803_691_238_165e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
// fdlibm's minimax coefficients of R.
const LG: [f64; 7] = [
    6.666_666_666_666_735_13e-1,
    3.999_999_999_940_941_908e-1,
    2.857_142_874_366_239_149e-1,
    2.222_219_843_214_978_396e-1,
    1.818_357_216_161_805_012e-1,
    1.531_383_769_920_937_332e-1,
    1.479_819_860_511_658_591e-1,
];

/// log(1 + x) for x >= 0; +inf at +inf, nan at nan.
#[inline(always)]
pub(crate) fn log1p<S: Simd>(x: f64x8<S>) -> f64x8<S> {
    // Mantissas from sqrt(2) on go to the next power of two: adding this carries into the exponent.
    const CARRY: u64 = 0x3ff0_0000_0000_0000 - 0x3fe6_a09e_0000_0000;
    const HALF_ROOT: u64 = 0x3fe6_a09e_0000_0000;
    const FRACTION: u64 = 0x000f_ffff_ffff_ffff;
    // 2^52 + 1023: the bits of 2^52 + (biased exponent) less this is the exponent as a float.
    const TWO_52: u64 = 0x4330_0000_0000_0000;
    let simd = x.token();
    let c = |value| f64x8::splat(simd, value);

    let u = x + 1.0;
    let carried = u.to_bits() + CARRY;
    let k = f64x8::from_bits((carried >> 52) | TWO_52) - (4_503_599_627_370_496.0 + 1023.0);
    let mantissa = f64x8::from_bits((carried & FRACTION) + HALF_ROOT);

    // Where k = 0, f = x is exact; elsewhere f is exact but u was rounded by lost.
    let whole = k.simd_eq(c(0.0));
    let f = whole.select(x, mantissa - 1.0);
    let lost = x.simd_lt(c(1.0)).select(x - (u - 1.0), c(1.0) - (u - x));
    // lost / u: a first-order reciprocal of the mantissa is enough (lost is below half an ULP of u).
    let reciprocal =
        f64x8::from_bits((c(1.0).to_bits() + TOP) - (carried & EXPONENT)) * (c(1.0) - f * (c(1.0) - f));
    let correction = whole.select(c(0.0), lost * reciprocal);

    let half_square = f * f * 0.5;
    let s = f / (f + 2.0);
    let z = s * s;
    let mut r = c(LG[6]);
    for i in (0..6).rev() {
        r = z.mul_add(r, c(LG[i]));
    }
    let r = z * r;
    let low = s.mul_add(half_square + r, k.mul_add(c(LN2_LO), correction));
    let result = k.mul_add(c(LN2_HI), f - (half_square - low));
    // +inf and nan have no mantissa to speak of.
    x.simd_lt(c(f64::INFINITY)).select(result, x)
}

/// Bits of the exponent field, and of 1.0.
const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
const TOP: u64 = 0x3ff0_0000_0000_0000;

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    #[test]
    fn log1p_is_within_one_ulp_of_the_c_library_on_every_level() {
        let mut xs: Vec<f64> =
            (0..4000).map(|i| 1.37_f64.powi(i % 400 - 300) * (1.0 + f64::from(i) * 1e-3)).collect();
        xs.extend((0..4000).map(|i| f64::from(i) * 1e-3));
        xs.extend([
            0.0,
            f64::MIN_POSITIVE,
            5e-324,
            0.414_213_562_373,
            0.414_213_562_374,
            1.0,
            2.0,
            1e15,
            9.1e15,
            1e300,
        ]);
        for (name, level) in isa::available() {
            for &x in &xs {
                let got = dispatch!(level, simd => log1p(f64x8::splat(simd, x)).as_slice()[0]);
                let want = x.ln_1p();
                let ulp = f64::from_bits(want.to_bits() + 1) - want;
                assert!((got - want).abs() <= 1.01 * ulp, "{name}: log1p({x}) = {got}, {want}");
            }
            let special = dispatch!(level, simd => {
                [f64::INFINITY, f64::NAN, 0.0].map(|x| log1p(f64x8::splat(simd, x)).as_slice()[0])
            });
            assert_eq!(special[0], f64::INFINITY);
            assert!(special[1].is_nan());
            assert_eq!(special[2], 0.0);
        }
    }
}
