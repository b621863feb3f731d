//! A tile of short rows, packed class by class: lanes across the rows.
//!
//! `packed[c * TILE + i]` is class c of row i. The same kernel serves the rows of an (N, C) matrix with few
//! classes and the pixels of an (N, C, H, W) image: they differ only in how they are packed.

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::exp::{own_term, pivot, term};
use super::real::Real;

/// Accumulators that a row's classes are dealt to in turn.
const CHAINS: usize = 4;

/// The maximum of each of the first `rows` rows, and the sum of the other classes' terms.
#[simd]
pub(crate) fn row_sums<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    max: &mut [R; TILE],
    sum: &mut [f64; TILE],
) {
    for lane in (0..rows).step_by(R::LANES) {
        let mut m = R::V::<S>::splat(simd, R::NEG_INFINITY);
        for class in packed.chunks_exact(TILE) {
            m = m.max(R::V::<S>::from_slice(simd, &class[lane..lane + R::LANES]));
        }
        m.store_slice(&mut max[lane..lane + R::LANES]);

        // One of the classes that equal the maximum is left out: all are, and the others are counted back in.
        let p = pivot::<S, R>(m);
        let zero = R::V::<S>::splat(simd, R::ZERO);
        let mut acc = [zero; CHAINS];
        let mut tied = R::V::<S>::splat(simd, R::from_f64(-1.0));
        for (c, class) in packed.chunks_exact(TILE).enumerate() {
            let x = R::V::<S>::from_slice(simd, &class[lane..lane + R::LANES]);
            let is_max = x.simd_eq(m);
            let e = term::<S, R>(x, &p);
            acc[c % CHAINS] = is_max.select(acc[c % CHAINS], acc[c % CHAINS] + e);
            tied = is_max.select(tied + R::from_f64(1.0), tied);
        }
        let acc = [R::widen(acc[0]), R::widen(acc[1]), R::widen(acc[2]), R::widen(acc[3])];
        let own = own_term::<S, R>(m, &p);
        let tied = R::widen::<S>(tied);
        for half in 0..R::HALVES {
            let others = (acc[0][half] + acc[1][half]) + (acc[2][half] + acc[3][half]);
            let all = tied[half].mul_add(own[half], others);
            all.store_slice(&mut sum[lane + 8 * half..lane + 8 * half + 8]);
        }
    }
}
