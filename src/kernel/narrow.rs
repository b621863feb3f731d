//! A tile of short rows, packed class by class: lanes across the rows.
//!
//! `packed[c * TILE + i]` is class c of row i. The same kernel serves the rows of an (N, C) matrix with few
//! classes and the pixels of an (N, C, H, W) image: they differ only in how they are packed.

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::element::{Element, RealOf};
use super::exp::{Pivot, pivot, term};
use super::real::Real;
use super::sum::Sum;

/// One class of a whole tile, packed and taken into the maxima of its rows.
#[inline(always)]
pub(crate) fn pack_class<S: Simd, E: Element>(
    simd: S,
    from: &[E],
    to: &mut [RealOf<E>],
    max: &mut Maxima<S, RealOf<E>>,
) {
    let lanes = RealOf::<E>::LANES;
    for (k, (from, to)) in
        from[..TILE].chunks_exact(lanes).zip(to[..TILE].chunks_exact_mut(lanes)).enumerate()
    {
        let x = E::load(simd, from);
        x.store_slice(to);
        max.0[k] = max.0[k].max(x);
    }
}

/// Turns the rows of a square into its columns: as many vectors as a vector has lanes, of 16. Each perfect shuffle of the
/// whole square moves one bit of an element's position from the column to the row.
#[inline(always)]
pub(crate) fn transpose_square<S: Simd, R: Real>(square: &mut [R::V<S>; 16]) {
    for _ in 0..R::LANES.ilog2() {
        let before = *square;
        for i in 0..R::LANES / 2 {
            let (a, b) = (before[i], before[i + R::LANES / 2]);
            (square[2 * i], square[2 * i + 1]) = (a.zip_low(b), a.zip_high(b));
        }
    }
}

/// The maxima of a tile's rows while its classes are packed.
pub(crate) struct Maxima<S: Simd, R: Real>([R::V<S>; 8]);

impl<S: Simd, R: Real> Maxima<S, R> {
    #[inline(always)]
    pub(crate) fn new(simd: S) -> Self {
        Maxima([R::V::<S>::splat(simd, R::NEG_INFINITY); 8])
    }

    #[inline(always)]
    pub(crate) fn store(&self, max: &mut [R; TILE]) {
        for (m, to) in self.0.iter().zip(max.chunks_exact_mut(R::LANES)) {
            m.store_slice(to);
        }
    }
}

/// The maximum of each of the first `rows` rows of a packed tile; a nan may or may not show.
#[simd]
pub(crate) fn row_maxima<S: Simd, R: Real>(simd: S, packed: &[R], rows: usize, max: &mut [R; TILE]) {
    for lane in (0..rows).step_by(R::LANES) {
        let mut m = R::V::<S>::splat(simd, R::NEG_INFINITY);
        for class in packed.chunks_exact(TILE) {
            m = m.max(R::V::<S>::from_slice(simd, &class[lane..lane + R::LANES]));
        }
        m.store_slice(&mut max[lane..lane + R::LANES]);
    }
}

/// For each of the first `rows` rows the sum of the terms of classes below its maximum, and how many others equal it.
#[simd]
pub(crate) fn row_sums<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    max: &[R; TILE],
    sum: &mut [f64; TILE],
    ties: &mut [f64; TILE],
) {
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::V::<S>::from_slice(simd, &max[lane..lane + R::LANES]);
        // Classes that equal the maximum are not added but counted, all but one.
        let p = pivot::<S, R>(m);
        let zero = R::V::<S>::splat(simd, R::ZERO);
        let mut sums = Sums { simd, m, p, acc: [Sum::new(simd); 4], tied: zero - R::from_f64(1.0) };
        let groups = packed.chunks_exact(4 * TILE);
        let mut last = groups.remainder().chunks_exact(TILE);
        for group in groups {
            sums.add::<0>(&group[lane..]);
            sums.add::<1>(&group[TILE + lane..]);
            sums.add::<2>(&group[2 * TILE + lane..]);
            sums.add::<3>(&group[3 * TILE + lane..]);
        }
        if let Some(class) = last.next() {
            sums.add::<0>(&class[lane..]);
        }
        if let Some(class) = last.next() {
            sums.add::<1>(&class[lane..]);
        }
        if let Some(class) = last.next() {
            sums.add::<2>(&class[lane..]);
        }
        let others = Sum::lanes(sums.acc);
        let tied = R::widen::<S>(sums.tied);
        for half in 0..R::HALVES {
            others[half].store_slice(&mut sum[lane + 8 * half..lane + 8 * half + 8]);
            tied[half].store_slice(&mut ties[lane + 8 * half..lane + 8 * half + 8]);
        }
    }
}

/// A vector of rows while their classes are added, dealt in turn to four accumulators.
struct Sums<S: Simd, R: Real> {
    simd: S,
    m: R::V<S>,
    p: Pivot<R::V<S>>,
    acc: [Sum<S, R>; 4],
    tied: R::V<S>,
}

impl<S: Simd, R: Real> Sums<S, R> {
    #[inline(always)]
    fn add<const CHAIN: usize>(&mut self, class: &[R]) {
        let x = R::V::<S>::from_slice(self.simd, &class[..R::LANES]);
        let is_max = x.simd_eq(self.m);
        let zero = R::V::<S>::splat(self.simd, R::ZERO);
        self.acc[CHAIN].add(is_max.select(zero, term::<S, R>(x, &self.p)));
        self.tied = is_max.select(self.tied + R::from_f64(1.0), self.tied);
    }
}
