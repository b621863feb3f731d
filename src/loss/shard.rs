//! The classes of a row in several arrays, shards: the sums of each, and the gradient of each from the merged sums.
//!
//! With the largest logit m of a shard, and
//!
//! ```text
//! rest = sum over its other classes of exp(x - m),
//! ```
//!
//! two shards merge to the larger m, and `rest` of the one that has it + exp(smaller m - larger m) (1 + the other's
//! rest). The term of the maximum stays out of the sum, so that a sure row keeps its digits: log-sum-exps cannot be
//! merged so, since m + log(1 + rest) rounds rest away.

use std::ops::Range;

use fearless_simd::Simd;

use super::cross_entropy::Smoothed;
use super::input_and_gradient;
use crate::array::rows::{Input, Rows, RowsMut, View, ViewMut, check_shape, input_rows, locate, read};
use crate::error::{Error, filled};
use crate::kernel::TILE;
use crate::kernel::element::Element;
use crate::kernel::rowset::{all, bits};
use crate::parallel::Context;
use crate::targets::{TileLabels, TileWork, Walk};
use crate::tile::{TileGradient, Tiles, row_group, split_threads};

/// The largest logit of each row, and rest. They are -inf and 0 for a row of nothing but -inf, inf and 0 for one with
/// inf, and both nan for one with nan.
pub(crate) fn shard_sums<E: Element>(
    input: &View<'_, E>,
    axis: isize,
    context: Context<'_>,
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let Input { rows, .. } = input_rows(input, Some(axis))?;
    let count = rows.layout.line.len();
    let (mut max, mut rest) = (filled(count, f64::NEG_INFINITY)?, filled(count, 0.0)?);
    if rows.layout.classes == 0 {
        return Ok((max, rest));
    }
    let (of_rows, segments) = split_threads(context, &rows);
    let work = Sums { rows: &rows, segments };
    let walk = Walk {
        rows: count,
        classes: rows.layout.classes,
        labels: None,
        row_group: row_group(&rows),
        tile: TILE,
    };
    let mut at = 0;
    for chunk in walk.run(of_rows, &work)? {
        for sums in chunk {
            (max[at], rest[at]) = sums;
            at += 1;
        }
    }
    Ok((max, rest))
}

struct Sums<'w, 'a, E> {
    rows: &'w Rows<'a, E>,
    segments: Option<Context<'a>>,
}

impl<'a, E: Element> TileWork for Sums<'_, 'a, E> {
    type State = (Tiles<'a, E>, Vec<(f64, f64)>);
    type Chunk = Vec<(f64, f64)>;

    fn state(&self) -> Self::State {
        (Tiles::new(self.rows.clone(), self.segments), Vec::new())
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, (tiles, sums): &mut Self::State, rows: Range<usize>, _: &TileLabels) {
        let len = rows.len();
        let tile = tiles.sum(simd, rows, all(len), true);
        for i in 0..len {
            let log_sum_exp = tile.log_sum_exp(i);
            sums.push(match log_sum_exp {
                _ if log_sum_exp.is_nan() => (f64::NAN, f64::NAN),
                _ if log_sum_exp.is_infinite() => (log_sum_exp, 0.0),
                _ => (tile.max(i), tile.rest(i)),
            });
        }
    }

    fn end(&self, (_, sums): &mut Self::State) -> Self::Chunk {
        std::mem::take(sums)
    }
}

/// What the gradient of a shard is made of, for each row.
pub(crate) struct Merged<'a> {
    /// The largest logit of all shards.
    pub max: &'a View<'a, f64>,
    /// The sum of the exponentials of the others, relative to it.
    pub rest: &'a View<'a, f64>,
    /// What softmax is multiplied by.
    pub scale: &'a View<'a, f64>,
    /// The target's class in this shard; -1 if another has it, and [`IGNORED`] for rows to leave out.
    pub class: &'a View<'a, i64>,
    /// The target's entry.
    pub entry: &'a View<'a, f64>,
}

/// The row is left out: its gradient is 0.
pub(crate) const IGNORED: i64 = -2;

/// Writes the gradient of a shard. Without an input the gradient's array holds it, and is overwritten.
pub(crate) fn shard_gradient<E: Element>(
    input: Option<&View<'_, E>>,
    axis: isize,
    merged: &Merged<'_>,
    mut gradient: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    let shape = gradient.shape().to_vec();
    let (input, out) = input_and_gradient(input, &mut gradient, &shape, Some(axis), context)?;
    let row_shape = input.row_shape();
    for view in [merged.max, merged.rest, merged.scale, merged.entry] {
        check_shape("merged", view.shape(), &row_shape)?;
    }
    check_shape("class", merged.class.shape(), &row_shape)?;
    let rows = input.rows;
    if rows.layout.classes == 0 {
        return Ok(());
    }
    let (of_rows, segments) = split_threads(context, &rows);
    let work = Slopes {
        rows: &rows,
        segments,
        max: Rows::new(merged.max, None),
        rest: Rows::new(merged.rest, None),
        scale: Rows::new(merged.scale, None),
        class: Rows::new(merged.class, None),
        entry: Rows::new(merged.entry, None),
        out: &out,
    };
    let walk = Walk {
        rows: rows.layout.line.len(),
        classes: rows.layout.classes,
        labels: None,
        row_group: row_group(&rows),
        tile: TILE,
    };
    walk.run(of_rows, &work).map(|_| ())
}

struct Slopes<'w, 'a, E> {
    rows: &'w Rows<'a, E>,
    segments: Option<Context<'a>>,
    max: Rows<'w, f64>,
    rest: Rows<'w, f64>,
    scale: Rows<'w, f64>,
    class: Rows<'w, i64>,
    entry: Rows<'w, f64>,
    out: &'w RowsMut<'a, E>,
}

impl<'a, E: Element> TileWork for Slopes<'_, 'a, E> {
    type State = Tiles<'a, E>;
    type Chunk = ();

    fn state(&self) -> Self::State {
        Tiles::new(self.rows.clone(), self.segments)
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, tiles: &mut Self::State, rows: Range<usize>, _: &TileLabels) {
        let numbers = |from: &Rows<'_, f64>| {
            let mut to = [0.0; TILE];
            read(from, rows.clone(), &mut to, |x| x);
            to
        };
        let (max, rest, scale, entry) =
            (numbers(&self.max), numbers(&self.rest), numbers(&self.scale), numbers(&self.entry));
        let mut class = [IGNORED; TILE];
        read(&self.class, rows.clone(), &mut class, |class| class);
        let active = (0..rows.len()).fold(0, |bits, i| bits | u64::from(class[i] != IGNORED) << i);
        let tile = tiles.with_sums(simd, rows.clone(), &max, &rest);
        let gradient = TileGradient::<Smoothed<'_>> { scale: &scale, entry: None, q: None };
        tile.write_gradient(simd, rows.clone(), active, gradient, self.out);
        let mut to = [0; TILE];
        locate(&self.out.layout, rows, &mut to);
        for i in bits(active) {
            if let Ok(class) = usize::try_from(class[i]) {
                // SAFETY: the rows of a tile belong to one thread.
                unsafe { self.out.set(to[i], class, E::from_f64(entry[i])) };
            }
        }
    }

    fn end(&self, _: &mut Self::State) {}
}
