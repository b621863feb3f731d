//! Sums of b exp(x) with numbers b of any sign and size, in `f64`, and the logarithm of their magnitude.
//!
//! With b = ±m 2^k, m near 1, a term is of about the size 2^(k + x log2(e)). One of the largest is found first, that of
//! the element with X and K, and
//!
//! ```text
//! sum b exp(x) = 2^K exp(X) S,     S = sum ±m exp(x - X) 2^(k - K)
//! ```
//!
//! has no term larger than about 2, so that nothing overflows, and none that counts underflows, whatever numbers b and x
//! are. The rounding error of x - X is kept, and so are those of the additions: S is off by a unit in the last place or
//! two of its largest term, and where terms of both signs cancel, by no more. Then
//!
//! ```text
//! log |sum| = X + K ln 2 + log |S|
//! ```
//!
//! with K and the exponent of S added before they are multiplied by ln 2, whose high part gives an exact product.
//!
//! An element whose b is 0 adds nothing, whatever its x is. Infinities and nans are summed apart, as b exp(x) with
//! exp(x) = 1 for finite x: they decide the result where their sum is not 0.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::double_double::{Pair, two_sum, two_sum_lanes};
use super::exp::{power_of_two, powers_of_two};
use super::log::{LN2_HI, LN2_LO, Logarithm};
use super::real::Real;

/// Lanes of the vectors here.
const WIDTH: usize = 8;

/// The most elements of a row of [`short_rows`].
pub(crate) const SHORT: usize = 32;

/// X and K of one of the largest terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Largest {
    /// Half the base-two logarithm of its size; -inf where there is no term.
    size: f64,
    x: f64,
    k: f64,
}

impl Largest {
    /// Of no terms.
    pub(crate) const NONE: Largest = Largest { size: f64::NEG_INFINITY, x: 0.0, k: 0.0 };

    /// The larger of two, the first where they are equal.
    pub(crate) fn or(self, other: Largest) -> Largest {
        let order = |largest: &Largest| [largest.size, largest.x, largest.k];
        if order(&other) > order(&self) { other } else { self }
    }
}

/// S as a double-double number, and the sum of what is not finite.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SignedSum {
    high: f64,
    low: f64,
    special: f64,
}

impl SignedSum {
    /// Adds the sum of later elements, relative to the same largest term.
    pub(crate) fn merge(&mut self, other: SignedSum) {
        let [high, error] = two_sum(self.high, other.high);
        (self.high, self.low) = (high, self.low + (error + other.low));
        self.special += other.special;
    }
}

/// Where b and x are finite, and b is not 0.
#[inline(always)]
fn is_regular<S: Simd>(x: f64x8<S>, b: f64x8<S>) -> <f64x8<S> as SimdBase<S>>::Mask {
    let c = |value| f64x8::splat(x.token(), value);
    x.abs().simd_lt(c(f64::INFINITY)) & b.abs().simd_lt(c(f64::INFINITY)) & !b.simd_eq(c(0.0))
}

/// k and m of |b| = 2^k m, for a finite b that is not 0.
#[inline(always)]
fn split<S: Simd>(b: f64x8<S>) -> Pair<S> {
    let c = |value| f64x8::splat(b.token(), value);
    let b = b.abs();
    let subnormal = b.simd_lt(c(f64::MIN_POSITIVE));
    let (k, m, _) = f64::split(subnormal.select(b * power_of_two(f64::SHIFT), b));
    [k - subnormal.select(c(f64::from(f64::SHIFT)), c(0.0)), m]
}

/// One of the largest terms of each lane.
struct LargestLanes<S: Simd> {
    size: f64x8<S>,
    x: f64x8<S>,
    k: f64x8<S>,
}

impl<S: Simd> LargestLanes<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let zero = f64x8::splat(simd, 0.0);
        LargestLanes { size: f64x8::splat(simd, f64::NEG_INFINITY), x: zero, k: zero }
    }

    #[inline(always)]
    fn update(&mut self, x: f64x8<S>, b: f64x8<S>) {
        let c = |value| f64x8::splat(x.token(), value);
        let [k, _] = split(b);
        let regular = is_regular(x, b);
        let size = regular.select(x.mul_add(c(0.5 * f64::LOG2_E), k * 0.5), c(f64::NEG_INFINITY));
        // Sizes of far x are rounded to few numbers.
        let (same, same_x) = (size.simd_eq(self.size), x.simd_eq(self.x));
        let beyond = x.simd_gt(self.x) | same_x & k.simd_gt(self.k);
        let larger = size.simd_gt(self.size) | same & regular & beyond;
        self.size = larger.select(size, self.size);
        self.x = larger.select(x, self.x);
        self.k = larger.select(k, self.k);
    }
}

/// The sum of each lane.
struct SumLanes<S: Simd> {
    high: f64x8<S>,
    low: f64x8<S>,
    special: f64x8<S>,
}

impl<S: Simd> SumLanes<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let zero = f64x8::splat(simd, 0.0);
        SumLanes { high: zero, low: zero, special: zero }
    }

    /// Adds an element to each lane, relative to X and K.
    #[inline(always)]
    fn add(&mut self, x: f64x8<S>, b: f64x8<S>, largest: &LargestLanes<S>) {
        let c = |value| f64x8::splat(x.token(), value);
        let zero = c(0.0);
        let regular = is_regular(x, b);
        let term = regular.select(term(x, b, largest.x, largest.k), zero);
        let [sum, error] = two_sum_lanes(self.high, term);
        (self.high, self.low) = (sum, self.low + error);
        let usual = regular | b.simd_eq(zero);
        if !usual.all_true() {
            let finite = x.abs().simd_lt(c(f64::INFINITY)).select(c(1.0), x);
            let exp = finite.simd_eq(c(f64::NEG_INFINITY)).select(zero, finite);
            self.special += usual.select(zero, b * exp);
        }
    }

    /// log |sum| of each lane and the sign of the sum: 0 for a sum of 0, nan for nan.
    #[inline(always)]
    fn log_and_sign(&self, largest: &LargestLanes<S>) -> Pair<S> {
        let c = |value| f64x8::splat(self.high.token(), value);
        let (zero, one) = (c(0.0), c(1.0));
        let [high, low] = two_sum_lanes(self.high, self.low);
        let [k, m] = split(high);
        let k = k + largest.k;
        let log_m = f64::log_of_parts(zero, m - 1.0);
        let [log, error] = two_sum_lanes(largest.x, k * LN2_HI);
        let log = log + (error + (log_m + (k * LN2_LO + low / high)));
        let is_zero = high.simd_eq(zero);
        let log = is_zero.select(c(f64::NEG_INFINITY), log);
        let sign = is_zero.select(zero, high.simd_lt(zero).select(-one, one));
        // Where the sum of what is not finite is not 0, it is infinite or nan.
        let special = self.special;
        let of_special = special.simd_lt(zero).select(-one, special.simd_gt(zero).select(one, special));
        let finite = special.simd_eq(zero);
        [finite.select(log, special.abs()), finite.select(sign, of_special)]
    }
}

/// The next vector of some numbers; behind their end are zeros.
#[inline(always)]
fn vector<S: Simd>(simd: S, from: &[f64]) -> f64x8<S> {
    if from.len() == WIDTH {
        return f64x8::from_slice(simd, from);
    }
    let mut filled = [0.0; WIDTH];
    filled[..from.len()].copy_from_slice(from);
    f64x8::from_slice(simd, &filled)
}

/// One of the largest terms of some elements.
#[simd]
pub(crate) fn largest<S: Simd>(simd: S, xs: &[f64], bs: &[f64]) -> Largest {
    let mut lanes = LargestLanes::new(simd);
    for (x, b) in xs.chunks(WIDTH).zip(bs.chunks(WIDTH)) {
        lanes.update(vector(simd, x), vector(simd, b));
    }
    let mut found = Largest::NONE;
    let LargestLanes { size, x, k } = lanes;
    for ((size, x), k) in size.as_slice().iter().zip(x.as_slice()).zip(k.as_slice()) {
        found = found.or(Largest { size: *size, x: *x, k: *k });
    }
    found
}

/// S and what is not finite, of some elements among which none has a term that is larger.
#[simd]
pub(crate) fn signed_sum<S: Simd>(simd: S, xs: &[f64], bs: &[f64], largest: &Largest) -> SignedSum {
    let (mut lanes, largest) = (SumLanes::new(simd), in_lanes(simd, largest));
    for (x, b) in xs.chunks(WIDTH).zip(bs.chunks(WIDTH)) {
        lanes.add(vector(simd, x), vector(simd, b), &largest);
    }
    let mut sum = SignedSum::default();
    let SumLanes { high, low, special } = lanes;
    for ((high, low), special) in high.as_slice().iter().zip(low.as_slice()).zip(special.as_slice()) {
        sum.merge(SignedSum { high: *high, low: *low, special: *special });
    }
    sum
}

/// log |sum| and the sign of the sum: 0 for a sum of 0, nan for nan.
#[simd]
pub(crate) fn log_and_sign<S: Simd>(simd: S, largest: &Largest, sum: &SignedSum) -> [f64; 2] {
    let c = |value| f64x8::splat(simd, value);
    let lanes = SumLanes { high: c(sum.high), low: c(sum.low), special: c(sum.special) };
    let [log, sign] = lanes.log_and_sign(&in_lanes(simd, largest));
    [log.as_slice()[0], sign.as_slice()[0]]
}

/// The same in all lanes.
#[inline(always)]
fn in_lanes<S: Simd>(simd: S, largest: &Largest) -> LargestLanes<S> {
    let c = |value| f64x8::splat(simd, value);
    LargestLanes { size: c(largest.size), x: c(largest.x), k: c(largest.k) }
}

/// [`log_and_sign`] of some short rows of `terms` elements each, lanes across the rows.
#[simd]
pub(crate) fn short_rows<S: Simd>(
    simd: S,
    xs: &[f64],
    bs: &[f64],
    terms: usize,
    logs: &mut [f64],
    signs: &mut [f64],
) {
    let rows = logs.chunks_mut(WIDTH).zip(signs.chunks_mut(WIDTH));
    for ((xs, bs), (logs, signs)) in xs.chunks(WIDTH * terms).zip(bs.chunks(WIDTH * terms)).zip(rows) {
        let (mut x, mut b) = ([[0.0; WIDTH]; SHORT], [[0.0; WIDTH]; SHORT]);
        for (row, (xs, bs)) in xs.chunks_exact(terms).zip(bs.chunks_exact(terms)).enumerate() {
            for (at, (from_x, from_b)) in xs.iter().zip(bs).enumerate() {
                (x[at][row], b[at][row]) = (*from_x, *from_b);
            }
        }
        let (mut largest, mut sums) = (LargestLanes::new(simd), SumLanes::new(simd));
        for (x, b) in x[..terms].iter().zip(&b[..terms]) {
            largest.update(f64x8::from_slice(simd, x), f64x8::from_slice(simd, b));
        }
        for (x, b) in x[..terms].iter().zip(&b[..terms]) {
            sums.add(f64x8::from_slice(simd, x), f64x8::from_slice(simd, b), &largest);
        }
        let [log, sign] = sums.log_and_sign(&largest);
        logs.copy_from_slice(&log.as_slice()[..logs.len()]);
        signs.copy_from_slice(&sign.as_slice()[..signs.len()]);
    }
}

/// ±m exp(x - X) 2^(k - K), for finite numbers.
#[inline(always)]
fn term<S: Simd>(x: f64x8<S>, b: f64x8<S>, at_x: f64x8<S>, at_k: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(x.token(), value);
    let [k, m] = split(b);
    let [d, error] = two_sum_lanes(x, -at_x);
    // Beyond these ends there is nothing: k - K is at most 2098, and so x - X no more than -1454 where the term counts.
    let far = d.abs().simd_gt(c(3000.0));
    let error = far.select(c(0.0), error);
    let d = d.simd_lt(c(-3000.0)).select(c(-3000.0), d);
    let d = d.simd_gt(c(3000.0)).select(c(3000.0), d);
    let magic = c(f64::MAGIC);
    let n = d.mul_add(c(f64::LOG2_E), magic) - magic;
    let q = f64::expm1(f64::reduce(d, n));
    let size = m.mul_add(q.mul_add(error, q + error), m);
    let power = n + (k - at_k);
    let power = power.simd_lt(c(-2000.0)).select(c(-2000.0), power);
    let power = power.simd_gt(c(1000.0)).select(c(1000.0), power);
    let [first, rest] = powers_of_two(power);
    let size = size * first * rest;
    b.simd_lt(c(0.0)).select(-size, size)
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;
    use crate::kernel::isa;

    const INF: f64 = f64::INFINITY;

    /// As a long row; and as the last of ten short ones it gives the same but for rounding.
    fn at(level: Level, xs: &[f64], bs: &[f64]) -> (f64, f64) {
        let [log, sign] = dispatch!(level, simd => {
            let largest = largest(simd, xs, bs);
            log_and_sign(simd, &largest, &signed_sum(simd, xs, bs, &largest))
        });
        if (1..=SHORT).contains(&xs.len()) {
            let (mut logs, mut signs) = ([7.0; 10], [7.0; 10]);
            let (mut all_x, mut all_b) = (vec![f64::NAN; 9 * xs.len()], vec![1.0; 9 * xs.len()]);
            all_x.extend(xs);
            all_b.extend(bs);
            dispatch!(level, simd => short_rows(simd, &all_x, &all_b, xs.len(), &mut logs, &mut signs));
            assert!(logs[..9].iter().chain(&signs[..9]).all(|x| x.is_nan()));
            let near = (logs[9] - log).abs() <= 4e-16 * (1.0 + log.abs());
            assert!(near || logs[9].to_bits() == log.to_bits() || log.is_nan() && logs[9].is_nan());
            assert!(signs[9] == sign || sign.is_nan() && signs[9].is_nan());
        }
        (log, sign)
    }

    #[test]
    fn sums_are_those_of_the_definition_on_every_level() {
        for (name, level) in isa::available() {
            for n in [1, 2, 7, 8, 9, 100] {
                let xs: Vec<f64> = (0..n).map(|i| f64::from(i * 7919 % 101) * 0.21 - 9.0).collect();
                let bs: Vec<f64> = (0..n).map(|i| f64::from(i * 31 % 17) * 0.3 - 1.0).collect();
                let sum: f64 = xs.iter().zip(&bs).map(|(x, b)| b * x.exp()).sum();
                let (log, sign) = at(level, &xs, &bs);
                assert_eq!(sign, sum.signum(), "{name} {n}");
                assert!((log - sum.abs().ln()).abs() <= 1e-14 * (1.0 + log.abs()), "{name} {n}: {log}");
            }
        }
    }

    #[test]
    fn numbers_of_any_size_keep_their_digits_on_every_level() {
        let near = |a: f64, b: f64| (a - b).abs() <= 4e-16 * b.abs();
        for (name, level) in isa::available() {
            // log(5e-324 exp(744.5) + 1.7e308 exp(-709.5)) and such: sizes that neither x nor b shows alone.
            for (x, b) in
                [(744.5, 5e-324), (-709.5, 1.7e308), (1e300, 1e-300), (-1e300, -1e300), (0.25, -0.0625)]
            {
                let got = at(level, &[x, x], &[b, b]);
                let want = x + f64::ln(b.abs()) + std::f64::consts::LN_2;
                // The reference rounds terms that cancel.
                let tolerance = 4e-16 * (x.abs() + want.abs());
                assert!((got.0 - want).abs() <= tolerance, "{name} {x} {b}: {got:?} {want}");
                assert_eq!(got.1, f64::signum(b));
            }
            assert_eq!(at(level, &[f64::MAX, 0.0], &[1.0, f64::MAX]), (f64::MAX, 1.0));
            assert_eq!(at(level, &[f64::MIN, 0.0], &[1.0, -1.0]), (0.0, -1.0));
            // exp(60) 1e-20 and 1e10 exp(-10) are of like size.
            let (xs, bs) = ([60.0, -10.0], [1e-20, 1e10]);
            let want = f64::ln(60.0_f64.exp() * 1e-20 + 1e10 * (-10.0_f64).exp());
            assert!(near(at(level, &xs, &bs).0, want), "{name}");
            // What is small beside 1 is the result.
            let got = at(level, &[0.0, -60.0], &[1.0, 1.0]).0;
            assert!(near(got, (-60.0_f64).exp()), "{name} {got:e}");
            // exp(log 3) - 2 - 1, to the rounding error of log 3.
            let (log, sign) = at(level, &[3.0_f64.ln(), 0.0, 0.0], &[1.0, -2.0, -1.0]);
            assert!(log < -36.0 && sign != 0.0, "{name} {log}");
        }
    }

    #[test]
    fn what_is_not_finite_decides_and_what_weighs_nothing_does_not() {
        for (name, level) in isa::available() {
            let at = |xs: &[f64], bs: &[f64]| at(level, xs, bs);
            assert_eq!(at(&[f64::NAN, 1.0], &[0.0, 1.0]), (1.0, 1.0), "{name}");
            assert_eq!(at(&[INF, -INF, 1.0], &[0.0, -0.0, -1.0]), (1.0, -1.0), "{name}");
            assert_eq!(at(&[INF, 1.0], &[-2.0, 1.0]), (INF, -1.0), "{name}");
            assert_eq!(at(&[0.0, 1.0], &[INF, 1.0]), (INF, 1.0), "{name}");
            assert_eq!(at(&[-INF, -INF], &[1.0, -1.0]), (-INF, 0.0), "{name}");
            assert_eq!(at(&[-INF, 2.0], &[1.0, 1.0]), (2.0, 1.0), "{name}");
            assert_eq!(at(&[1.0, 1.0], &[1.0, -1.0]), (-INF, 0.0), "{name}");
            assert_eq!(at(&[], &[]), (-INF, 0.0), "{name}");
            for (xs, bs) in [
                ([f64::NAN, 1.0], [1.0, 1.0]),
                ([0.0, 1.0], [f64::NAN, 1.0]),
                ([INF, INF], [1.0, -1.0]),
                ([-INF, 0.0], [INF, 1.0]),
            ] {
                let (log, sign) = at(&xs, &bs);
                assert!(log.is_nan() && sign.is_nan(), "{name} {xs:?} {bs:?}");
            }
        }
    }
}
