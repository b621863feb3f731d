//! A tile of short rows, packed class by class: lanes across the rows.
//!
//! `packed[c * TILE + i]` is class c of row i. The same kernel serves the rows of an (N, C) matrix with few
//! classes and the pixels of an (N, C, H, W) image: they differ only in how they are packed.

use std::ops::Range;

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::TILE;
use super::column::Column;
use super::element::{Element, RealOf, Vector};
use super::exp::{Pivot, pivot, term, term_from_base};
use super::prefetch::Ahead;
use super::real::Real;
use super::sum::LaneSum;

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

/// Turns the rows of a square into its columns: as many vectors as a vector has lanes, of 16. Each perfect shuffle of
/// the whole square moves one bit of an element's position from the column to the row.
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

/// Elements of a scratch buffer for the last rows of a block, with those that are read behind them.
pub(crate) const fn last_rows<E: Element>(classes: usize) -> usize {
    RealOf::<E>::LANES * classes + 4
}

/// Rows of two classes or more that follow each other in memory, turned into columns `first..` of a packed tile, and
/// their maxima. Whole vectors are written, up to the tile's end; `last` is a scratch buffer of [`last_rows`].
#[inline(always)]
pub(crate) fn pack_rows<S: Simd, E: Element>(
    simd: S,
    rows: &[E],
    classes: usize,
    packed: &mut [RealOf<E>],
    first: usize,
    last: &mut [E],
    max: &mut [RealOf<E>; TILE],
) {
    let lanes = RealOf::<E>::LANES;
    // The four of three classes reaches into the next row, but not behind the last.
    let beyond = usize::from(classes == 3);
    let step = lanes * classes;
    let (mut at, mut start) = (first, 0);
    while start < rows.len() && at + lanes <= TILE {
        let left = &rows[start..];
        let rows = if left.len() >= step + beyond {
            left
        } else {
            let left = &left[..left.len().min(step)];
            last[..left.len()].copy_from_slice(left);
            &*last
        };
        let m = if classes == 2 {
            pairs::<S, E>(simd, rows, packed, at)
        } else {
            fours::<S, E>(simd, rows, classes, packed, at)
        };
        m.store_slice(&mut max[at..at + lanes]);
        start += step;
        at += lanes;
    }
    // A run that begins within a vector of the tile.
    for row in rows[start.min(rows.len())..].chunks_exact(classes) {
        max[at] = RealOf::<E>::NEG_INFINITY;
        for (to, from) in packed.chunks_exact_mut(TILE).zip(row) {
            let x = from.to_real();
            to[at] = x;
            if x > max[at] {
                max[at] = x;
            }
        }
        at += 1;
    }
}

/// As many rows of two classes as a vector has lanes.
#[inline(always)]
fn pairs<S: Simd, E: Element>(simd: S, rows: &[E], packed: &mut [RealOf<E>], at: usize) -> Vector<E, S> {
    let lanes = RealOf::<E>::LANES;
    let (a, b) = (E::load(simd, &rows[..lanes]), E::load(simd, &rows[lanes..2 * lanes]));
    let (a, b) = (a.unzip_low(b), a.unzip_high(b));
    a.store_slice(&mut packed[at..at + lanes]);
    b.store_slice(&mut packed[TILE + at..TILE + at + lanes]);
    a.max(b)
}

/// As many rows as a vector has lanes, four classes at a time. A vector begins as four classes of some rows; each
/// unzipping of all four vectors moves one bit of an element's position from the row to the class.
#[inline(always)]
fn fours<S: Simd, E: Element>(
    simd: S,
    rows: &[E],
    classes: usize,
    packed: &mut [RealOf<E>],
    at: usize,
) -> Vector<E, S> {
    let lanes = RealOf::<E>::LANES;
    let mut max = Vector::<E, S>::splat(simd, RealOf::<E>::NEG_INFINITY);
    for start in (0..classes).step_by(4) {
        // The last four classes may overlap those before: packing a class again does not matter.
        let start = start.min(classes.saturating_sub(4));
        let [a, b, c, d] = E::load_fours(simd, &rows[start..], classes);
        let (a, b, c, d) = (a.unzip_low(b), c.unzip_low(d), a.unzip_high(b), c.unzip_high(d));
        let columns = [a.unzip_low(b), c.unzip_low(d), a.unzip_high(b), c.unzip_high(d)];
        for (column, to) in columns.iter().zip(packed[start * TILE..].chunks_exact_mut(TILE)) {
            column.store_slice(&mut to[at..at + lanes]);
            max = max.max(*column);
        }
    }
    max
}

/// Elements of a scratch buffer for the rows of a packed tile.
pub(crate) const fn rows_of_tile(classes: usize) -> usize {
    TILE * classes + 4
}

/// The inverse of [`pack_rows`]: columns `columns` of a packed tile to rows of two classes or more that follow each other
/// in memory. Whole
/// vectors of rows are written, and for three classes an element behind the last: unless neither is more than there is,
/// `rows` is a scratch buffer of [`rows_of_tile`].
#[inline(always)]
pub(crate) fn unpack_rows<S: Simd, E: Element>(
    simd: S,
    packed: &[RealOf<E>],
    columns: Range<usize>,
    classes: usize,
    rows: &mut [E],
) {
    let lanes = RealOf::<E>::LANES;
    let (mut at, mut start) = (columns.start, 0);
    while at < columns.end && at + lanes <= TILE {
        let to = &mut rows[start..];
        let column = |c: usize| Vector::<E, S>::from_slice(simd, &packed[c * TILE + at..][..lanes]);
        if classes == 2 {
            let (a, b) = (column(0), column(1));
            E::store(a.zip_low(b), &mut to[..lanes]);
            E::store(a.zip_high(b), &mut to[lanes..2 * lanes]);
        } else {
            for first in (0..classes).step_by(4) {
                // The last four classes may overlap those before. Of fewer than four, the last is repeated, and the
                // repetitions are overwritten by the next row.
                let first = first.min(classes.saturating_sub(4));
                let of = |c: usize| column((first + c).min(classes - 1));
                let (a, b, c, d) = (of(0), of(1), of(2), of(3));
                let (a, b, c, d) = (a.zip_low(c), a.zip_high(c), b.zip_low(d), b.zip_high(d));
                let fours = [a.zip_low(c), a.zip_high(c), b.zip_low(d), b.zip_high(d)];
                E::store_fours(fours, &mut to[first..], classes);
            }
        }
        at += lanes;
        start += lanes * classes;
    }
    // A run that begins within a vector of the tile.
    for column in at..columns.end {
        for (to, class) in rows[start..start + classes].iter_mut().zip(packed.chunks_exact(TILE)) {
            *to = E::from_real(class[column]);
        }
        start += classes;
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

/// For each of the first `rows` rows its element of the given class, one of those packed.
#[simd]
pub(crate) fn pick<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    class: &[usize; TILE],
) -> Column<f64> {
    let mut picked = Column::of(0.0);
    // As numbers of the vector's type, which are exact.
    let mut wanted = Column::of(R::ZERO);
    for (wanted, class) in wanted.iter_mut().zip(class.iter()) {
        *wanted = R::from_class(*class);
    }
    for lane in (0..rows).step_by(R::LANES) {
        let wanted = R::V::<S>::from_slice(simd, &wanted[lane..lane + R::LANES]);
        let mut found = R::V::<S>::splat(simd, R::ZERO);
        let mut c = found;
        for x in packed.chunks_exact(TILE) {
            let x = R::V::<S>::from_slice(simd, &x[lane..lane + R::LANES]);
            found = wanted.simd_eq(c).select(x, found);
            c += R::ONE;
        }
        let found = R::widen::<S>(found);
        for half in 0..R::F64_VECTORS {
            found[half].store_slice(&mut picked[lane + 8 * half..lane + 8 * half + 8]);
        }
    }
    picked
}

/// For each of the first `rows` rows the sum of the terms of classes below its maximum, double-double where rows are
/// `f64`, and how many further classes equal it. Prefetches the rows `ahead`, or about half of
/// their classes.
#[simd]
pub(crate) fn row_sums<S: Simd, R: Real>(
    simd: S,
    packed: &[R],
    rows: usize,
    ahead: Ahead,
    max: &[R; TILE],
    (sum, sum_low): (&mut [f64; TILE], &mut [f64; TILE]),
    ties: &mut [f64; TILE],
) {
    for lane in (0..rows).step_by(R::LANES) {
        let m = R::V::<S>::from_slice(simd, &max[lane..lane + R::LANES]);
        let mut terms = Terms::<S, R, false>::new(m);
        let mut sum_exp_rest = LaneSum::<S, R>::new(simd);
        let groups = packed.chunks_exact(4 * TILE);
        let rest = groups.remainder();
        for (i, group) in groups.enumerate() {
            ahead.prefetch_with_four(4 * i, lane);
            let (a, b) = (terms.of(&group[lane..]), terms.of(&group[TILE + lane..]));
            let (c, d) = (terms.of(&group[2 * TILE + lane..]), terms.of(&group[3 * TILE + lane..]));
            sum_exp_rest.add([a, b, c, d], 4);
        }
        // One to three more: a loop over them would send the vectors through memory.
        if rest.len() >= TILE {
            for class in packed.len() / (4 * TILE) * 4..packed.len() / TILE {
                ahead.prefetch(class, lane);
            }
            let zero = R::V::<S>::splat(simd, R::ZERO);
            let a = terms.of(&rest[lane..]);
            let b = if rest.len() >= 2 * TILE { terms.of(&rest[TILE + lane..]) } else { zero };
            let c = if rest.len() >= 3 * TILE { terms.of(&rest[2 * TILE + lane..]) } else { zero };
            sum_exp_rest.add([a, b, c, zero], rest.len() / TILE);
        }
        terms.store(sum_exp_rest.get(), lane, (sum, sum_low), ties);
    }
}

/// The maxima and pivots of a vector of rows, and how many classes equal the maximum. With `LONG` terms are those of
/// long rows.
pub(super) struct Terms<S: Simd, R: Real, const LONG: bool> {
    m: R::V<S>,
    p: Pivot<R::V<S>>,
    tied: R::V<S>,
}

impl<S: Simd, R: Real, const LONG: bool> Terms<S, R, LONG> {
    /// Those of rows with these maxima, of which all but one are counted.
    #[inline(always)]
    pub(super) fn new(m: R::V<S>) -> Self {
        Terms { m, p: pivot::<S, R>(m), tied: R::V::<S>::splat(m.token(), R::ZERO) - R::ONE }
    }

    /// The terms of a class; 0 where it is a maximum.
    #[inline(always)]
    pub(super) fn of(&mut self, class: &[R]) -> R::V<S> {
        let simd = self.m.token();
        let x = R::V::<S>::from_slice(simd, &class[..R::LANES]);
        let is_max = x.simd_eq(self.m);
        self.tied = is_max.select(self.tied + R::ONE, self.tied);
        let term =
            if LONG { term_from_base::<S, R>(x - self.p.base, &self.p).0 } else { term::<S, R>(x, &self.p) };
        is_max.select(R::V::<S>::splat(simd, R::ZERO), term)
    }

    /// Stores the sums of the rows from `lane` on, and how many further classes equal their maxima.
    #[inline(always)]
    pub(super) fn store(
        self,
        (total, low): ([f64x8<S>; 2], f64x8<S>),
        lane: usize,
        (sum, sum_low): (&mut [f64; TILE], &mut [f64; TILE]),
        ties: &mut [f64; TILE],
    ) {
        let tied = R::widen::<S>(self.tied);
        for half in 0..R::F64_VECTORS {
            let at = lane + 8 * half..lane + 8 * half + 8;
            total[half].store_slice(&mut sum[at.clone()]);
            if R::IS_F64 {
                low.store_slice(&mut sum_low[at.clone()]);
            }
            tied[half].store_slice(&mut ties[at]);
        }
    }
}
