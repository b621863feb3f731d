//! How far a softmax Q is from a teacher's distribution P of which the probabilities of k classes are known, and those
//! of all others, the tail, by their sum.
//!
//! With `p_T` = 1 - sum p and `q_T` the sum of q over the tail,
//!
//! ```text
//! KL = sum_j p_j (log p_j - log q_j) + p_T (log p_T - log q_T)
//! d KL / d x_c = q_c - p_c for the k classes, and q_c - p_T q_c / q_T for those of the tail.
//! ```
//!
//! The tail is summed without the k classes, whose logits are taken out of the row first: where the student is sure of
//! them, 1 - sum q would be 0. The k + 1 terms are summed as in [`divergences`](super::divergence::divergences), less
//! p - q, whose sum is 0: none is negative, and nothing cancels.

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::divergence::{SMALL, Soft, WIDTH, exp_of, less_its_tangent, minus_log, soft};
use super::exp::exp_any;
use super::log::{log1p, log1p_ratio};

/// What is known of a teacher's distribution in one row: k classes, and the logarithms of their probabilities.
#[derive(Clone, Copy)]
pub(crate) struct Known<'t> {
    pub classes: &'t [usize],
    pub log_p: &'t [f64],
    /// Whether the other classes have what the probabilities lack of 1. Otherwise their term is left out.
    pub tail: bool,
}

/// Buffers of k numbers, filled up to whole vectors.
pub(crate) struct Buffers {
    log_p: Vec<f64>,
    p: Vec<f64>,
    log_q: Vec<f64>,
    q: Vec<f64>,
    /// The derivatives of the divergence with respect to the logits of the k classes.
    pub slope: Vec<f64>,
}

impl Buffers {
    pub(crate) fn new(k: usize) -> Self {
        let zeros = || vec![0.0; k.next_multiple_of(WIDTH)];
        Buffers { log_p: zeros(), p: zeros(), log_q: zeros(), q: zeros(), slope: zeros() }
    }
}

/// The divergence of a row, in nats, and its derivatives with respect to the logits of the tail: `slope` times the
/// softmax over the tail alone, which is `tail`.
pub(crate) struct Divergence {
    pub value: f64,
    pub slope: f64,
    pub tail: Soft,
}

/// The divergence of the softmax of a row from what is known. The row of `count` logits is filled up to whole vectors
/// with -inf; the logits of the k classes are replaced by -inf. All is nan where the row has no softmax.
#[simd]
pub(crate) fn divergence<S: Simd>(
    simd: S,
    row: &mut [f64],
    count: usize,
    known: Known<'_>,
    buffers: &mut Buffers,
) -> Divergence {
    let c = |value| f64x8::splat(simd, value);
    let k = known.classes.len();
    let Buffers { log_p, p, log_q, q, slope } = buffers;
    log_q.fill(f64::NEG_INFINITY);
    for (x, class) in log_q.iter_mut().zip(known.classes) {
        *x = std::mem::replace(&mut row[*class], f64::NEG_INFINITY);
    }
    let tail = soft(simd, row);
    let is_empty = tail.max == f64::NEG_INFINITY && !row.iter().any(|x| x.is_nan());
    let max = log_q[..k].iter().fold(tail.max, |max, x| if *x > max { *x } else { max });
    if !max.is_finite() || (tail.rest.is_nan() && !is_empty) || log_q[..k].iter().any(|x| x.is_nan()) {
        slope.fill(f64::NAN);
        return Divergence { value: f64::NAN, slope: f64::NAN, tail };
    }

    // The student: terms relative to the largest, and their sum without it.
    for (x, term) in log_q.chunks_exact_mut(WIDTH).zip(q.chunks_exact_mut(WIDTH)) {
        let distance = f64x8::from_slice(simd, x) - c(max);
        distance.store_slice(x);
        exp_any(distance).store_slice(term);
    }
    let tail_term = if is_empty { 0.0 } else { exp_of(simd, tail.max - max) * (1.0 + tail.rest) };
    let largest = log_q[..k].iter().position(|x| *x == 0.0);
    let rest = sum_but(&q[..k], largest) + if largest.is_some() { tail_term } else { tail.rest };
    let log1p_rest = log1p_ratio(c(rest), c(1.0), true).as_slice()[0];
    let share = 1.0 / (1.0 + rest);
    for (x, term) in log_q.chunks_exact_mut(WIDTH).zip(q.chunks_exact_mut(WIDTH)) {
        (f64x8::from_slice(simd, x) - c(log1p_rest)).store_slice(x);
        (f64x8::from_slice(simd, term) * c(share)).store_slice(term);
    }
    let (q_known, q_tail) = (sum_but(&q[..k], None), tail_term * share);
    let log_q_tail = if is_empty {
        f64::NEG_INFINITY
    } else if q_known < 0.5 {
        log1p_of(simd, -q_known)
    } else {
        (tail.max - max) + tail.log1p_rest - log1p_rest
    };

    // The teacher, and what its probabilities lack of 1: without cancellation where one class has nearly all.
    log_p.fill(f64::NEG_INFINITY);
    log_p[..k].copy_from_slice(known.log_p);
    for (log_p, p) in log_p.chunks_exact(WIDTH).zip(p.chunks_exact_mut(WIDTH)) {
        exp_any(f64x8::from_slice(simd, log_p)).store_slice(p);
    }
    let p_known = sum_but(&p[..k], None);
    let missing = match p[..k].iter().position(|p| *p > 0.5) {
        Some(sure) => -expm1_of(simd, log_p[sure]) - sum_but(&p[..k], Some(sure)),
        None => 1.0 - p_known,
    };
    let has_tail = known.tail && count > k;
    // Log-probabilities that were rounded may add up to a little more than 1.
    let p_tail = if has_tail && missing > 0.0 { missing } else { 0.0 };
    let log_p_tail = match p_tail {
        0.0 => f64::NEG_INFINITY,
        _ if p_known < 0.5 => log1p_of(simd, -p_known),
        _ => -minus_log(simd, p_tail),
    };
    // The sum of all p, less 1.
    let excess = if has_tail && missing > 0.0 { 0.0 } else { -missing };

    // Sums of p d - (p - q), and of p - q.
    let mut terms = c(0.0);
    for at in (0..q.len()).step_by(WIDTH) {
        let load = |from: &[f64]| f64x8::from_slice(simd, &from[at..at + WIDTH]);
        let ([log_p, p], [log_q, q]) = ([load(log_p), load(p)], [load(log_q), load(q)]);
        terms += term(p, log_p, q, log_q);
        let difference = p.simd_gt(c(0.5)).select(expm1(log_q) - expm1(log_p), q - p);
        q.mul_add(c(excess), difference).store_slice(&mut slope[at..at + WIDTH]);
    }
    let (value, slope) = if known.tail {
        let of_tail = if has_tail {
            term(c(p_tail), c(log_p_tail), c(q_tail), c(log_q_tail)).as_slice()[0]
        } else {
            0.0
        };
        let difference = if p_tail > 0.5 && q_tail > 0.5 { p_known - q_known } else { q_tail - p_tail };
        (terms.reduce_sum() + of_tail + excess, difference + excess * q_tail)
    } else if p_known >= 0.5 {
        (terms.reduce_sum() + (q_tail - missing), p_known * q_tail)
    } else {
        // The differences p - q are not small beside the terms, and would take their digits.
        for ((slope, p), q) in slope.iter_mut().zip(&*p).zip(&*q) {
            *slope = q * p_known - p;
        }
        (padded_terms(simd, log_p, p, log_q), p_known * q_tail)
    };
    Divergence { value, slope, tail }
}

/// Writes the gradient of the tail over the logits of a row: `factor` times the derivatives.
#[simd]
pub(crate) fn slope_of_tail<S: Simd>(simd: S, row: &mut [f64], of: &Divergence, factor: f64) {
    let c = |value| f64x8::splat(simd, value);
    let Divergence { slope, tail, .. } = of;
    // A tail without a finite logit has no softmax, and no part in that of the row.
    let is_empty = tail.max == f64::NEG_INFINITY && !slope.is_nan();
    let scale = if is_empty { 0.0 } else { factor * slope / (1.0 + tail.rest) };
    let max = if is_empty { 0.0 } else { tail.max };
    for x in row.chunks_exact_mut(WIDTH) {
        (exp_any(f64x8::from_slice(simd, x) - c(max)) * c(scale)).store_slice(x);
    }
}

/// The sum of all numbers but one.
#[inline(always)]
fn sum_but(values: &[f64], one: Option<usize>) -> f64 {
    let (before, after) = values.split_at(one.unwrap_or(values.len()));
    before.iter().chain(after.iter().skip(1)).sum()
}

/// The sum of p (log p - log q).
#[inline(always)]
fn padded_terms<S: Simd>(simd: S, log_p: &[f64], p: &[f64], log_q: &[f64]) -> f64 {
    let (mut sum, zero) = (f64x8::splat(simd, 0.0), f64x8::splat(simd, 0.0));
    for at in (0..p.len()).step_by(WIDTH) {
        let load = |from: &[f64]| f64x8::from_slice(simd, &from[at..at + WIDTH]);
        sum += load(p).simd_eq(zero).select(zero, load(p) * (load(log_p) - load(log_q)));
    }
    sum.reduce_sum()
}

/// p (log p - log q) - (p - q), which is never negative; and q where p is 0.
#[inline(always)]
fn term<S: Simd>(p: f64x8<S>, log_p: f64x8<S>, q: f64x8<S>, log_q: f64x8<S>) -> f64x8<S> {
    let zero = f64x8::splat(p.token(), 0.0);
    let d = log_p - log_q;
    let small = d.abs().simd_lt(f64x8::splat(p.token(), SMALL));
    let plain = p.simd_eq(zero).select(q, p * d - (p - q));
    small.select(p * less_its_tangent(zero - d), plain)
}

/// exp(z) - 1.
#[inline(always)]
fn expm1<S: Simd>(z: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(z.token(), value);
    z.abs().simd_lt(c(SMALL)).select(z + less_its_tangent(z), exp_any(z) - c(1.0))
}

#[inline(always)]
fn expm1_of<S: Simd>(simd: S, z: f64) -> f64 {
    expm1(f64x8::splat(simd, z)).as_slice()[0]
}

#[inline(always)]
fn log1p_of<S: Simd>(simd: S, y: f64) -> f64 {
    log1p::<S, f64>(f64x8::splat(simd, y)).as_slice()[0]
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    fn padded(row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        row.resize(row.len().next_multiple_of(WIDTH), f64::NEG_INFINITY);
        row
    }

    /// The divergence and all derivatives.
    fn run(level: fearless_simd::Level, x: &[f64], known: Known<'_>) -> (f64, Vec<f64>) {
        let (mut row, mut buffers) = (padded(x), Buffers::new(known.classes.len()));
        let found = dispatch!(level, simd => divergence(simd, &mut row, x.len(), known, &mut buffers));
        dispatch!(level, simd => slope_of_tail(simd, &mut row, &found, 1.0));
        for (class, slope) in known.classes.iter().zip(&buffers.slope) {
            row[*class] = *slope;
        }
        row.truncate(x.len());
        (found.value, row)
    }

    /// By the definition.
    fn expected(x: &[f64], known: Known<'_>) -> f64 {
        let lse = x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let (mut sum, mut p_tail, mut q_tail) = (0.0, 1.0, 1.0);
        for (class, log_p) in known.classes.iter().zip(known.log_p) {
            sum += log_p.exp() * (log_p - (x[*class] - lse));
            p_tail -= log_p.exp();
            q_tail -= (x[*class] - lse).exp();
        }
        if known.tail && x.len() > known.classes.len() { sum + p_tail * (p_tail / q_tail).ln() } else { sum }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definition() {
        for (name, level) in isa::available() {
            for n in [4, 9, 40, 500] {
                let x: Vec<f64> = (0..n).map(|i| ((i * 7919) % 101) as f64 * 0.05).collect();
                for tail in [true, false] {
                    let log_p: Vec<f64> = [0.4_f64, 0.1, 0.2].iter().map(|p| p.ln()).collect();
                    let known = Known { classes: &[2, 0, 3], log_p: &log_p, tail };
                    let (value, slope) = run(level, &x, known);
                    let want = expected(&x, known);
                    assert!(
                        (value - want).abs() <= 1e-13 * (1.0 + want.abs()),
                        "{name} {n} {tail} {value} {want}"
                    );
                    for i in 0..n {
                        let at = |step: f64| {
                            let mut moved = x.clone();
                            moved[i] += step;
                            expected(&moved, known)
                        };
                        let want = (at(1e-5) - at(-1e-5)) / 2e-5;
                        assert!((slope[i] - want).abs() < 1e-9, "{name} {n} {tail} {i} {} {want}", slope[i]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_sure_student_of_a_sure_teacher_keeps_its_digits() {
        for (name, level) in isa::available() {
            // q_T = 3 e^-60, and p_T = 2^-40.
            let (x, missing) = ([60.0, 0.0, 0.0, 0.0], 2.0_f64.powi(-40));
            let log_p = [f64::ln_1p(-missing)];
            let known = Known { classes: &[0], log_p: &log_p, tail: true };
            let (value, slope) = run(level, &x, known);
            let q_tail = 3.0 * f64::exp(-60.0);
            let want = (1.0 - missing) * (f64::ln_1p(-missing) - f64::ln_1p(-q_tail))
                + missing * (missing / q_tail).ln();
            assert!((value / want - 1.0).abs() < 1e-12, "{name} {value} {want}");
            assert!((slope[0] / (missing - q_tail) - 1.0).abs() < 1e-13, "{name} {}", slope[0]);
            assert!((slope[2] / ((q_tail - missing) / 3.0) - 1.0).abs() < 1e-13, "{name} {}", slope[2]);
        }
    }

    #[test]
    fn rows_without_a_softmax_are_nan_and_ones_without_a_tail_are_not() {
        const INF: f64 = f64::INFINITY;
        for (name, level) in isa::available() {
            let known = Known { classes: &[0, 1], log_p: &[-1.0, -2.0], tail: true };
            for bad in
                [[0.0, 1.0, f64::NAN], [f64::NAN, 0.0, 1.0], [INF, 0.0, 1.0], [0.0, 1.0, INF], [-INF; 3]]
            {
                let (value, slope) = run(level, &bad, known);
                assert!(
                    value.is_nan() && slope.iter().all(|x| x.is_nan()),
                    "{name} {bad:?} {value} {slope:?}"
                );
            }
            // The teacher gives the tail a probability that the student does not.
            assert_eq!(run(level, &[0.0, 1.0, -INF], known).0, INF, "{name}");
            let half = [-std::f64::consts::LN_2; 2];
            let whole = Known { log_p: &half, ..known };
            let (value, slope) = run(level, &[3.0, 3.0, -INF], whole);
            assert!(value.abs() < 1e-15 && slope.iter().all(|x| x.abs() < 1e-15), "{name} {value} {slope:?}");
            let (value, _) = run(level, &[3.0, 3.0], whole);
            assert!(value.abs() < 1e-15, "{name} {value}");
        }
    }
}
