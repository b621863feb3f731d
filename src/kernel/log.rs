//! The logarithm of a sum, relative to its largest term, in f64, a vector of rows at a time.
//!
//! log((o + s) / o) = log1p(s / o) without the quotient: (o + s) / o = 2^k (1 + f) with 1 + f in about
//! [sqrt(1/2), sqrt(2)), and log(1 + f) = 2 artanh(q) with
//!
//! ```text
//! q = f / (2 + f) = (s - o (2^k - 1)) / (s + o (2^k + 1))
//! ```
//!
//! Where s is small, k = 0 and the numerator is s itself: nothing is lost that 1 + s / o would round away, and one
//! division does. The series of artanh is that of fdlibm (Sun Microsystems, 1993). At most 2 ULP, refined
//! (and with a fused multiply-add) 1.01 (test below). The C
//! library is not asked: its answers differ between platforms.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;

// ln 2 in two parts, the first with 21 trailing zeros.
const LN2_HI: f64 = 6.931_471_803_691_238_165e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
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
// 1 / o to 1 % for o from sqrt(1/2) to sqrt(2): it only says which k is near.
const INVERSE: [f64; 3] = [2.999_85, -2.909_04, 0.914_19];

/// log(1 + s / o) for s >= 0 and o from sqrt(1/2) to sqrt(2); nan at nan. `refined` where the result is not to be rounded
/// to `f32`.
#[inline(always)]
pub(crate) fn log1p_ratio<S: Simd>(s: f64x8<S>, o: f64x8<S>, refined: bool) -> f64x8<S> {
    // Mantissas from sqrt(2) on go to the next power of two: adding this carries into the exponent.
    const CARRY: u64 = ONE - 0x3fe6_a09e_0000_0000;
    // 2^52 + 1023: the bits of 2^52 + (biased exponent) less this is the exponent as a float.
    const TWO_52: u64 = 0x4330_0000_0000_0000;
    let simd = s.token();
    let c = |value| f64x8::splat(simd, value);

    let inverse = o.mul_add(o.mul_add(c(INVERSE[2]), c(INVERSE[1])), c(INVERSE[0]));
    let carried = ((o + s) * inverse).to_bits() + CARRY;
    let k = f64x8::from_bits((carried >> 52) | TWO_52) - (4_503_599_627_370_496.0 + 1023.0);
    // 2^-k, so that all that follows is near 1.
    let scale = f64x8::from_bits((c(1.0).to_bits() + ONE) - (carried & EXPONENT));
    let twice = scale + scale;
    let numerator = o.mul_add(twice - 2.0, s * twice);
    let denominator = s * scale + (o * scale + o);
    // 2 q: it is s / o itself where that is tiny, subnormal numbers included.
    let mut q = numerator / denominator;
    if refined {
        // What the denominator's two sums and the division rounded away.
        let (small, part) = (o * scale, s * scale);
        let sum = o + small;
        let lost = small - (sum - o);
        let back = denominator - sum;
        let lost = lost + ((sum - (denominator - back)) + (part - back));
        let left = (-q).mul_add(denominator, numerator);
        q += (-q).mul_add(lost, left) / denominator;
    }
    let z = q * q;
    let mut r = c(SERIES[6]);
    for i in (0..6).rev() {
        r = z.mul_add(r, c(SERIES[i]));
    }
    let low = (q * z).mul_add(r, k * LN2_LO);
    k.mul_add(c(LN2_HI), q + low)
}

/// Bits of the exponent field, and of 1.0.
const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
const ONE: u64 = 0x3ff0_0000_0000_0000;

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

    use fearless_simd::{Level, dispatch};

    use super::*;
    use crate::kernel::isa;

    /// The error in ULP, with the quotient's own rounding (s / o) (1 + lost) put back to first order.
    fn error(got: f64, s: f64, o: f64) -> f64 {
        let x = s / o;
        let lost = (-x).mul_add(o, s) / o;
        let want = x.ln_1p() + lost / (1.0 + x);
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
            for (refined, bound) in [(true, refined_bound), (false, 2.0)] {
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
}
