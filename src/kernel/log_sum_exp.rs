//! From the maximum and the sum of terms to log sum exp and the target's probability, lanes across the rows.
//!
//! ```text
//! exp_max = exp(max) / 2^p,   sum_exp_rest = sum over all classes but one maximum of exp(x) / 2^p
//! log sum exp(x) = max + log((exp_max + sum_exp_rest) / exp_max)
//! ```

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::column::Column;
use super::double_double;
use super::exp::{exp_any, exp_any_for, exp_max_dd, pivot, power_of_two};
use super::log::{log1p_ratio, log1p_ratio_dd};
use super::real::Real;

/// The sums of a tile's rows. For rows of two classes `ties` is never set, and the others are in units of the largest
/// term until [`super::binary::in_pivot_units`]: `exp_max` is 1.
#[derive(Clone)]
pub(crate) struct TileSums<R> {
    /// The largest element.
    pub max: Column<R>,
    /// How many other elements equal the largest.
    pub ties: Column<f64>,
    /// exp(max) / 2^p, from sqrt(1/2) to sqrt(2).
    pub exp_max: Column<f64>,
    /// Its low part; 0 unless the rows are `f64`, for which there is no wider type.
    pub exp_max_low: Column<f64>,
    /// Before [`log_sum_exp`] the sum of the terms of smaller elements; after it that of all elements but one largest,
    /// in the units of `exp_max`.
    pub sum_exp_rest: Column<f64>,
    /// Its low part, as for `exp_max`.
    pub sum_exp_rest_low: Column<f64>,
    /// What softmax is multiplied by: 1, or a gradient's factor.
    pub scale: Column<f64>,
    /// log1p(rest) with rest = `sum_exp_rest` / `exp_max`. It is nan for a row with a nan, with +inf or of nothing but
    /// -inf.
    pub log1p_rest: Column<f64>,
    /// Its low part, as for `exp_max`.
    pub log1p_low: Column<f64>,
}

impl<R: Real> TileSums<R> {
    pub(crate) fn new() -> Self {
        let zero = Column::of(0.0);
        TileSums {
            max: Column::of(R::ZERO),
            ties: zero,
            exp_max: zero,
            exp_max_low: zero,
            sum_exp_rest: zero,
            sum_exp_rest_low: zero,
            scale: Column::of(1.0),
            log1p_rest: zero,
            log1p_low: zero,
        }
    }
}

/// Computes `exp_max` and `sum_exp_rest` of the first `rows` rows from their maxima and sums, and with `logs` also
/// `log1p_rest`.
#[simd]
pub(crate) fn log_sum_exp<S: Simd, R: Real>(simd: S, sums: &mut TileSums<R>, rows: usize, logs: bool) {
    let unit = f64x8::splat(simd, power_of_two(-R::SCALE));
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::V::<S>::from_slice(simd, &sums.max[lane..lane + R::LANES]);
        let exp_max = exp_max_dd::<S, R>(m, &pivot::<S, R>(m));
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            // Where the maximum is infinite, this is nan, and so is a multiple of it.
            let [exp_max, exp_max_low] = exp_max[half];
            let smaller = f64x8::from_slice(simd, &sums.sum_exp_rest[at.clone()]);
            let ties = f64x8::from_slice(simd, &sums.ties[at.clone()]);
            exp_max.store_slice(&mut sums.exp_max[at.clone()]);
            if !R::IS_F64 {
                smaller.mul_add(unit, ties * exp_max).store_slice(&mut sums.sum_exp_rest[at]);
                continue;
            }
            let [equal, equal_low] = double_double::two_product(ties, exp_max);
            let [sum_exp_rest, error] = double_double::two_sum_lanes(smaller * unit, equal);
            let low = f64x8::from_slice(simd, &sums.sum_exp_rest_low[at.clone()]).mul_add(unit, error);
            sum_exp_rest.store_slice(&mut sums.sum_exp_rest[at.clone()]);
            exp_max_low.store_slice(&mut sums.exp_max_low[at.clone()]);
            (low + ties.mul_add(exp_max_low, equal_low)).store_slice(&mut sums.sum_exp_rest_low[at]);
        }
    }
    if !logs {
        return;
    }
    // A separate loop: the shorter an iteration, the more of them a processor works on at once.
    for lane in (0..rows).step_by(8) {
        let load = |from: &[f64; TILE]| f64x8::from_slice(simd, &from[lane..lane + 8]);
        let (exp_max, sum_exp_rest) = (load(&sums.exp_max), load(&sums.sum_exp_rest));
        if !R::IS_F64 {
            log1p_ratio(sum_exp_rest, exp_max, false).store_slice(&mut sums.log1p_rest[lane..lane + 8]);
            continue;
        }
        let [log, low] =
            log1p_ratio_dd([sum_exp_rest, load(&sums.sum_exp_rest_low)], [exp_max, load(&sums.exp_max_low)]);
        log.store_slice(&mut sums.log1p_rest[lane..lane + 8]);
        low.store_slice(&mut sums.log1p_low[lane..lane + 8]);
    }
}

/// The target's probability p for each of the first `rows` rows, and 1 - p without cancellation: where the target is a
/// largest class, 1 - p is `sum_exp_rest` over the total.
#[simd]
pub(crate) fn target_share<S: Simd, R: Real>(
    simd: S,
    sums: &TileSums<R>,
    logits: &[f64; TILE],
    rows: usize,
    (share, miss): (&mut [f64; TILE], &mut [f64; TILE]),
) {
    let c = |value| f64x8::splat(simd, value);
    for lane in (0..rows).step_by(R::LANES) {
        let max = R::widen::<S>(R::V::<S>::from_slice(simd, &sums.max[lane..lane + R::LANES]));
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            let load = |from: &[f64; TILE]| f64x8::from_slice(simd, &from[at.clone()]);
            let (exp_max, sum_exp_rest) = (load(&sums.exp_max), load(&sums.sum_exp_rest));
            let logit = load(logits);
            let (d, p, rest);
            if !R::IS_F64 {
                let total = c(1.0) / (exp_max + sum_exp_rest);
                d = max[half] - logit;
                p = exp_any_for::<S, R>(-d) * (exp_max * total);
                rest = sum_exp_rest * total;
            } else {
                let [distance, low] = double_double::two_sum_lanes(max[half], -logit);
                let [total, error] = double_double::two_sum_lanes(exp_max, sum_exp_rest);
                let of_high = exp_any(-distance) * (exp_max / total);
                d = distance;
                p = low.simd_eq(low).select(of_high - of_high * low, of_high);
                let (exp_max_low, sum_exp_rest_low) = (load(&sums.exp_max_low), load(&sums.sum_exp_rest_low));
                let total = [total, error + (exp_max_low + sum_exp_rest_low)];
                let [quotient, low] = double_double::dd_div_lanes([sum_exp_rest, sum_exp_rest_low], total);
                rest = quotient + low;
            }
            p.store_slice(&mut share[at.clone()]);
            d.simd_le(c(0.0)).select(rest, c(1.0) - p).store_slice(&mut miss[at]);
        }
    }
}
