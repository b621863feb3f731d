//! One row of logits in `f64`, or two: softmax, divergences, moments at a temperature.
//!
//! Rows are filled up with -inf to whole vectors. With d = log p - log q, the divergence KL(P || Q) is the sum over the
//! classes of p d. Its terms are as large as d and of both signs, and where the models are near each other the sum is
//! as small as d^2. So p - q, whose sum is 0, is subtracted from each term:
//!
//! ```text
//! p d - (p - q) = p h(-d),   h(z) = exp(z) - 1 - z >= 0
//! ```
//!
//! with h by its series where d is small. No term is negative, and nothing cancels. In the same way, with m = (p + q) /
//! 2 and t = (p - q) / (p + q), a term of the Jensen-Shannon divergence is
//!
//! ```text
//! (p log(p / m) + q log(q / m)) / 2 = m g(t) / 2,   g(t) = (1 + t) log(1 + t) + (1 - t) log(1 - t) >= 0.
//! ```

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::exp::exp_any;
use super::log::{log1p, log1p_ratio};
use super::sum::Sum;

/// Lanes of the vectors here: rows are filled up to a multiple.
pub(crate) const WIDTH: usize = 8;

/// Below this |d| and |t| the series are used. At this size the first term that each leaves out is below 2^-52 of its
/// first, and cancellation in the plain forms costs 6 bits.
pub(super) const SMALL: f64 = 0.02;

/// The softmax of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soft {
    /// The largest logit.
    pub max: f64,
    /// The first class with the largest logit; none in a row with a nan.
    pub largest: Option<usize>,
    /// The sum of exp(x - max) over all classes but one largest. It is nan in a row with a nan, with +inf or of nothing
    /// but -inf.
    pub rest: f64,
    /// log(1 + rest).
    pub log1p_rest: f64,
}

impl Soft {
    /// -log p of a class.
    #[inline(always)]
    pub(crate) fn nll(&self, logit: f64) -> f64 {
        (self.max - logit) + self.log1p_rest
    }
}

/// The softmax of a row.
#[simd]
pub(crate) fn soft<S: Simd>(simd: S, row: &[f64]) -> Soft {
    let c = |value| f64x8::splat(simd, value);
    let mut lanes = c(f64::NEG_INFINITY);
    for x in row.chunks_exact(WIDTH) {
        lanes = lanes.max(f64x8::from_slice(simd, x));
    }
    let max = lanes.reduce_max();
    let m = c(max);
    let (mut sum, mut ties) = (Sum::<S, f64>::new(simd), c(0.0));
    for x in row.chunks_exact(WIDTH) {
        let x = f64x8::from_slice(simd, x);
        let is_max = x.simd_eq(m);
        sum.add(is_max.select(c(0.0), exp_any(x - m)));
        ties = is_max.select(ties + 1.0, ties);
    }
    let (sum, error) = sum.reduce();
    let mut rest = sum + error + (ties.reduce_sum() - 1.0);
    if !max.is_finite() {
        rest = f64::NAN;
    }
    let log1p_rest = log1p_ratio(c(rest), c(1.0), true).as_slice()[0];
    let has_nan = rest.is_nan() && row.iter().any(|x| x.is_nan());
    let largest = if has_nan { None } else { row.iter().position(|x| *x == max) };
    Soft { max, largest, rest, log1p_rest }
}

/// exp of one number.
#[simd]
pub(crate) fn exp_of<S: Simd>(simd: S, x: f64) -> f64 {
    exp_any(f64x8::splat(simd, x)).as_slice()[0]
}

/// -log of one positive number.
#[simd]
pub(crate) fn minus_log<S: Simd>(simd: S, x: f64) -> f64 {
    -super::log::log::<S, f64>(f64x8::splat(simd, x)).as_slice()[0]
}

/// How far two distributions are from each other, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Divergences {
    /// KL(P || Q).
    pub forward: f64,
    /// KL(Q || P).
    pub reverse: f64,
    /// Jensen-Shannon: the mean of the divergences from P and Q to their mean.
    pub jensen_shannon: f64,
}

/// The divergences of the softmaxes P of `x` and Q of `y`; nan where one of them has none.
#[simd]
pub(crate) fn divergences<S: Simd>(simd: S, x: &[f64], p: &Soft, y: &[f64], q: &Soft) -> Divergences {
    let c = |value| f64x8::splat(simd, value);
    let (p_max, q_max) = (c(p.max), c(q.max));
    let (p_share, q_share) = (c(1.0 / (1.0 + p.rest)), c(1.0 / (1.0 + q.rest)));
    let between = c(p.log1p_rest - q.log1p_rest);
    let zero = c(0.0);
    let (mut forward, mut reverse, mut shannon) = (zero, zero, zero);
    for (x, y) in x.chunks_exact(WIDTH).zip(y.chunks_exact(WIDTH)) {
        let x = f64x8::from_slice(simd, x) - p_max;
        let y = f64x8::from_slice(simd, y) - q_max;
        let (p, q) = (exp_any(x) * p_share, exp_any(y) * q_share);
        let d = (x - y) - between;
        let small = d.abs().simd_lt(c(SMALL));
        // Where p is 0, all that is left is q.
        let plain = p.simd_eq(zero).select(q, p * d - (p - q));
        forward += small.select(p * less_its_tangent(zero - d), plain);
        let plain = q.simd_eq(zero).select(p, (q - p) * c(-1.0) - q * d);
        reverse += small.select(q * less_its_tangent(d), plain);
        let sum = p + q;
        let t = sum.simd_eq(zero).select(zero, (p - q) / sum);
        shannon += sum * both_sides(t);
    }
    // Where a row has no softmax everything is nan, whatever the selections above give.
    let nan = (p.rest + q.rest) * 0.0;
    let nan = if nan.is_nan() { nan } else { 0.0 };
    Divergences {
        forward: forward.reduce_sum() + nan,
        reverse: reverse.reduce_sum() + nan,
        jensen_shannon: 0.25 * shannon.reduce_sum() + nan,
    }
}

/// exp(z) - 1 - z for |z| < SMALL.
#[inline(always)]
pub(super) fn less_its_tangent<S: Simd>(z: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(z.token(), value);
    let r = z.mul_add(c(1.0 / 20160.0), c(1.0 / 2520.0));
    let r = z.mul_add(r, c(1.0 / 360.0));
    let r = z.mul_add(r, c(1.0 / 60.0));
    let r = z.mul_add(r, c(1.0 / 12.0));
    let r = z.mul_add(r, c(1.0 / 3.0));
    let r = z.mul_add(r, c(1.0));
    z * z * 0.5 * r
}

/// (1 + t) log(1 + t) + (1 - t) log(1 - t) for |t| <= 1.
#[inline(always)]
fn both_sides<S: Simd>(t: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(t.token(), value);
    let one = c(1.0);
    let square = t * t;
    let r = square.mul_add(c(1.0 / 45.0), c(1.0 / 28.0));
    let r = square.mul_add(r, c(1.0 / 15.0));
    let r = square.mul_add(r, c(1.0 / 6.0));
    let series = square * square.mul_add(r, one);
    let plain = side(t) + side(c(0.0) - t);
    square.simd_lt(c(SMALL * SMALL)).select(series, plain)
}

/// (1 + t) log(1 + t), and its limit 0 at -1.
#[inline(always)]
fn side<S: Simd>(t: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(t.token(), value);
    t.simd_le(c(-1.0)).select(c(0.0), (c(1.0) + t) * log1p::<S, f64>(t))
}

/// What a row adds to the likelihood of an inverse temperature b, with g = max - x and p the softmax of b x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    /// log of the sum of exp(-b g).
    pub log_sum: f64,
    /// The mean of g.
    pub mean: f64,
    /// The variance of g.
    pub variance: f64,
}

/// The moments of a row whose largest logit is finite.
#[simd]
pub(crate) fn moments<S: Simd>(simd: S, row: &[f64], b: f64) -> Moments {
    let c = |value| f64x8::splat(simd, value);
    let mut lanes = c(f64::NEG_INFINITY);
    for x in row.chunks_exact(WIDTH) {
        lanes = lanes.max(f64x8::from_slice(simd, x));
    }
    let (m, minus_b, zero) = (c(lanes.reduce_max()), c(-b), c(0.0));
    let (mut sum, mut first, mut second) = (Sum::<S, f64>::new(simd), zero, zero);
    for x in row.chunks_exact(WIDTH) {
        let g = m - f64x8::from_slice(simd, x);
        let e = exp_any(g * minus_b);
        // One largest class is kept out of the sum; a class of probability 0 adds nothing.
        sum.add(g.simd_eq(zero).select(zero, e));
        let eg = e.simd_eq(zero).select(zero, e * g);
        first += eg;
        second += eg.simd_eq(zero).select(zero, eg * g);
    }
    let ties = row.iter().filter(|x| **x == m.as_slice()[0]).count() as f64;
    let (sum, error) = sum.reduce();
    let rest = sum + error + (ties - 1.0);
    let mean = first.reduce_sum() / (1.0 + rest);
    let variance = second.reduce_sum() / (1.0 + rest) - mean * mean;
    Moments {
        log_sum: log1p_ratio(c(rest), c(1.0), true).as_slice()[0],
        mean,
        variance: if variance < 0.0 { 0.0 } else { variance },
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    fn rows(n: usize, step: f64) -> (Vec<f64>, Vec<f64>) {
        let mut x: Vec<f64> = (0..n).map(|i| ((i * 7919) % 101) as f64 * 0.1).collect();
        let mut y: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + step * ((i * 31) % 17) as f64).collect();
        x.resize(n.next_multiple_of(WIDTH), f64::NEG_INFINITY);
        y.resize(n.next_multiple_of(WIDTH), f64::NEG_INFINITY);
        (x, y)
    }

    fn close(a: f64, b: f64, relative: f64) -> bool {
        (a - b).abs() <= relative * b.abs()
    }

    #[test]
    fn divergences_are_the_sums_of_their_definitions() {
        for (name, level) in isa::available() {
            for n in [1, 2, 8, 50, 1000] {
                let (x, y) = rows(n, 0.3);
                let (p, q) = dispatch!(level, simd => (soft(simd, &x), soft(simd, &y)));
                let got = dispatch!(level, simd => divergences(simd, &x, &p, &y, &q));
                let (mut forward, mut reverse, mut shannon) = (0.0, 0.0, 0.0);
                for (x, y) in x.iter().zip(&y).take(n) {
                    let (log_p, log_q) = (-p.nll(*x), -q.nll(*y));
                    let (p, q) = (log_p.exp(), log_q.exp());
                    let m = f64::midpoint(p, q);
                    forward += p * (log_p - log_q);
                    reverse += q * (log_q - log_p);
                    shannon += 0.5 * (p * (p / m).ln() + q * (q / m).ln());
                }
                for (got, want) in
                    [(got.forward, forward), (got.reverse, reverse), (got.jensen_shannon, shannon)]
                {
                    assert!((got - want).abs() <= 1e-14 + 1e-12 * want, "{name} {n}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn divergences_of_near_models_keep_their_digits() {
        // To second order all three are variances of d: over 2, 2 and 8.
        for (name, level) in isa::available() {
            let (x, y) = rows(200, 1e-8);
            let (p, q) = dispatch!(level, simd => (soft(simd, &x), soft(simd, &y)));
            let got = dispatch!(level, simd => divergences(simd, &x, &p, &y, &q));
            let d: Vec<f64> = x.iter().zip(&y).take(200).map(|(x, y)| y - x).collect();
            let weight: Vec<f64> = x.iter().take(200).map(|x| (-p.nll(*x)).exp()).collect();
            let mean: f64 = d.iter().zip(&weight).map(|(d, w)| d * w).sum();
            let variance: f64 = d.iter().zip(&weight).map(|(d, w)| (d - mean).powi(2) * w).sum();
            assert!(close(got.forward, variance / 2.0, 1e-6), "{name}");
            assert!(close(got.reverse, variance / 2.0, 1e-6), "{name}");
            assert!(close(got.jensen_shannon, variance / 8.0, 1e-6), "{name}");
            let same = dispatch!(level, simd => divergences(simd, &x, &p, &x, &p));
            assert_eq!(same, Divergences { forward: 0.0, reverse: 0.0, jensen_shannon: 0.0 }, "{name}");
        }
    }

    #[test]
    fn a_class_that_one_model_excludes_is_infinitely_far() {
        const INF: f64 = f64::INFINITY;
        for (name, level) in isa::available() {
            let pad = |row: &[f64]| {
                let mut row = row.to_vec();
                row.resize(WIDTH, -INF);
                row
            };
            let (x, y) = (pad(&[0.0, 0.0]), pad(&[0.0]));
            let (p, q) = dispatch!(level, simd => (soft(simd, &x), soft(simd, &y)));
            let got = dispatch!(level, simd => divergences(simd, &x, &p, &y, &q));
            assert_eq!(got.forward, INF, "{name}");
            assert!(close(got.reverse, std::f64::consts::LN_2, 1e-15), "{name} {got:?}");
            // P = (1/2, 1/2), Q = (1, 0) and their mean (3/4, 1/4).
            let want = 0.5 * ((4.0_f64 / 3.0).ln() + 0.5 * ((2.0_f64 / 3.0).ln() + 2.0_f64.ln()));
            assert!(close(got.jensen_shannon, want, 1e-14), "{name} {} {want}", got.jensen_shannon);
            for bad in [pad(&[f64::NAN, 0.0]), pad(&[INF, 0.0]), pad(&[])] {
                let r = dispatch!(level, simd => soft(simd, &bad));
                let got = dispatch!(level, simd => divergences(simd, &x, &p, &bad, &r));
                assert!(
                    got.forward.is_nan() && got.reverse.is_nan() && got.jensen_shannon.is_nan(),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn moments_are_those_of_the_tempered_softmax() {
        for (name, level) in isa::available() {
            for b in [0.01, 0.7, 3.0] {
                let (x, _) = rows(300, 0.0);
                let got = dispatch!(level, simd => moments(simd, &x, b));
                let g: Vec<f64> = x.iter().take(300).map(|x| 10.0 - x).collect();
                let sum: f64 = g.iter().map(|g| (-b * g).exp()).sum();
                let mean: f64 = g.iter().map(|g| (-b * g).exp() / sum * g).sum();
                let variance: f64 = g.iter().map(|g| (-b * g).exp() / sum * (g - mean).powi(2)).sum();
                assert!(close(got.log_sum, sum.ln(), 1e-13), "{name}");
                assert!(close(got.mean, mean, 1e-13) && close(got.variance, variance, 1e-11), "{name}");
            }
        }
    }
}
