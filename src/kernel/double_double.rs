//! Double-double arithmetic: a number is the unevaluated sum of a rounded high part and a low part, its rounding error.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;

use super::isa::has_fma;
use super::real::Real;

/// A vector of double-double numbers: the high parts and the low parts.
pub(crate) type Pair<S> = [f64x8<S>; 2];

/// a + b and its rounding error (Knuth's exact addition).
#[inline(always)]
pub(crate) fn two_sum_lanes<S: Simd>(a: f64x8<S>, b: f64x8<S>) -> Pair<S> {
    let sum = a + b;
    let part = sum - a;
    [sum, (a - (sum - part)) + (b - part)]
}

/// a + b and its rounding error, of two numbers.
#[inline(always)]
pub(crate) fn two_sum(a: f64, b: f64) -> [f64; 2] {
    let sum = a + b;
    let part = sum - a;
    [sum, (a - (sum - part)) + (b - part)]
}

/// The sum of two double-double numbers; for rows of `f32` its low part is 0.
#[inline(always)]
pub(crate) fn dd_add<R: Real>(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    let [sum, error] = two_sum(a[0], b[0]);
    [sum, low_part::<R>(error + (a[1] + b[1]))]
}

/// The product of two double-double numbers; for rows of `f32` its low part is 0.
#[inline(always)]
pub(crate) fn dd_mul<R: Real>(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    let product = a[0] * b[0];
    [product, low_part::<R>(a[0].mul_add(b[0], -product) + a[0].mul_add(b[1], a[1] * b[0]))]
}

/// The quotient of two double-double numbers; for rows of `f32` its low part is 0.
#[inline(always)]
pub(crate) fn dd_div<R: Real>(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    let quotient = a[0] / b[0];
    let left = (-quotient).mul_add(b[0], a[0]) + (-quotient).mul_add(b[1], a[1]);
    [quotient, low_part::<R>(left / b[0])]
}

/// The low part of a result: 0 for rows of `f32`, and where it is not finite.
#[inline(always)]
fn low_part<R: Real>(low: f64) -> f64 {
    if R::IS_F64 && low.is_finite() { low } else { 0.0 }
}

/// a + b and its rounding error, where |a| >= |b| or a = 0 (Dekker 1971).
#[inline(always)]
pub(crate) fn fast_two_sum<S: Simd>(a: f64x8<S>, b: f64x8<S>) -> Pair<S> {
    let sum = a + b;
    [sum, b - (sum - a)]
}

/// a b and its rounding error, for numbers below 2^996.
#[inline(always)]
pub(crate) fn two_product<S: Simd>(a: f64x8<S>, b: f64x8<S>) -> Pair<S> {
    let product = a * b;
    if has_fma(a.token().level()) {
        return [product, a.mul_add(b, -product)];
    }
    // Products of two numbers of 26 bits are exact (Dekker 1971).
    let ([a, a_low], [b, b_low]) = (split(a), split(b));
    [product, (((a * b - product) + a * b_low) + a_low * b) + a_low * b_low]
}

/// The quotient of two double-double numbers.
#[inline(always)]
pub(crate) fn dd_div_lanes<S: Simd>([a, a_low]: Pair<S>, [b, b_low]: Pair<S>) -> Pair<S> {
    let quotient = a / b;
    let [product, error] = two_product(quotient, b);
    let left = ((a - product) - error) + (a_low - quotient * b_low);
    [quotient, left / b]
}

/// x as the sum of two numbers of 26 bits (Veltkamp 1968).
#[inline(always)]
fn split<S: Simd>(x: f64x8<S>) -> Pair<S> {
    let far = x * 134_217_729.0; // 2^27 + 1
    let high = far - (far - x);
    [high, x - high]
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;
    use crate::kernel::isa;

    fn products_are(level: Level, f: impl Fn(f64, f64) -> (f64, f64)) {
        for i in 1..2000 {
            let (a, b) = (1.0 / f64::from(i), f64::from(i * 7919 % 1001) * 0.37 - 150.0);
            let (rounded, error) = f(a, b);
            let got = dispatch!(level, simd => {
                two_product(f64x8::splat(simd, a), f64x8::splat(simd, b)).map(|part| part.as_slice()[0])
            });
            assert_eq!(got, [rounded, error]);
        }
    }

    #[test]
    fn products_are_exact_on_every_level() {
        for (_, level) in isa::available() {
            products_are(level, |a, b| (a * b, a.mul_add(b, -(a * b))));
        }
    }

    #[test]
    fn quotients_have_their_low_part_on_every_level() {
        let (a, b) = ([1.0, 3e-17], [3.0, -1e-16]);
        for (_, level) in isa::available() {
            let [high, low] = dispatch!(level, simd => {
                let pair = |[high, low]: [f64; 2]| [f64x8::splat(simd, high), f64x8::splat(simd, low)];
                dd_div_lanes(pair(a), pair(b)).map(|part| part.as_slice()[0])
            });
            assert_eq!([high, low], dd_div::<f64>(a, b));
            // a - (high + low) b, of which the first two terms cancel exactly.
            let left = (-high).mul_add(b[0], a[0]) + (a[1] - high * b[1]) - low * b[0];
            assert!(low != 0.0 && left.abs() < 1e-32, "{left:e}");
        }
    }

    #[test]
    fn sums_are_exact_on_every_level() {
        for (_, level) in isa::available() {
            let at = |a: f64, b: f64| {
                dispatch!(level, simd => {
                    let (a, b) = (f64x8::splat(simd, a), f64x8::splat(simd, b));
                    [two_sum_lanes(a, b), two_sum_lanes(b, a), fast_two_sum(a, b)].map(|[sum, error]| (sum.as_slice()[0], error.as_slice()[0]))
                })
            };
            assert_eq!(at(1.0, 1e-20), [(1.0, 1e-20); 3]);
            assert_eq!(at(1.0, 0.5_f64.powi(53) * 1.5), [(1.0 + f64::EPSILON, -0.5_f64.powi(54)); 3]);
        }
    }
}
