//! From the maximum and the sum of terms to what losses are made of, lanes across the rows.
//!
//! ```text
//! rest = sum over all classes but one maximum of exp(x - max)
//! log sum exp(x) = max + log1p(rest)
//! ```

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::exp::{own_term, pivot};
use super::log::log1p;
use super::real::Real;

/// What a tile's rows have come to.
#[derive(Clone)]
pub(crate) struct TileSums<R> {
    /// The largest element.
    pub max: [R; TILE],
    /// Before [`finish`] the sum of the terms of smaller elements, after it `rest`.
    pub rest: [f64; TILE],
    /// How many other elements equal the largest.
    pub ties: [f64; TILE],
    /// log1p(rest). For a row with a nan, with +inf or of nothing but -inf both are nan.
    pub log1p_rest: [f64; TILE],
}

impl<R: Real> TileSums<R> {
    pub(crate) fn new() -> Self {
        TileSums { max: [R::ZERO; TILE], rest: [0.0; TILE], ties: [0.0; TILE], log1p_rest: [0.0; TILE] }
    }
}

/// Turns the sums of the first `rows` rows into `rest` and `log1p_rest`.
#[simd]
pub(crate) fn finish<S: Simd, R: Real>(simd: S, sums: &mut TileSums<R>, rows: usize) {
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::V::<S>::from_slice(simd, &sums.max[lane..lane + R::LANES]);
        let own = own_term::<S, R>(m, &pivot::<S, R>(m));
        // 0, or nan where the maximum is infinite.
        let finite = R::widen(m * R::ZERO);
        for half in 0..R::HALVES {
            let at = lane + 8 * half..lane + 8 * half + 8;
            let sum = f64x8::from_slice(simd, &sums.rest[at.clone()]);
            let rest = sum / own[half] + (f64x8::from_slice(simd, &sums.ties[at.clone()]) + finite[half]);
            rest.store_slice(&mut sums.rest[at.clone()]);
            log1p(rest).store_slice(&mut sums.log1p_rest[at]);
        }
    }
}
