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
use ndarray::{Array, ArrayRef, Axis, Dimension, RemoveAxis};

use super::cross_entropy::Smoothed;
use super::input_and_gradient;
use crate::array::rows::{
    Input, Rows, RowsMut, View, ViewMut, check_shape, class_axis, input_rows, read, unravel,
};
use crate::error::{Error, filled};
use crate::kernel::TILE;
use crate::kernel::column::Column;
use crate::kernel::divergence::exp_of;
use crate::kernel::element::Element;
use crate::kernel::rowset::{all, bits};
use crate::parallel::Context;
use crate::targets::{Call, TileLabels, TileWork, Walk};
use crate::tile::{TileGradient, Tiles, row_group, split_threads};

/// What the logits of some classes contribute to the losses of rows: the classes of a shard, or of merged ones.
///
/// ```
/// use crossent::ndarray::{array, s};
/// use crossent::{Context, logsumexp, shard_sums};
///
/// let logits = array![[2.0_f64, 1.0, 0.0, 3.0], [0.0, 40.0, 0.0, 0.0]];
/// let left = shard_sums(&logits.slice(s![.., ..2]), 1, Context::new())?;
/// let right = shard_sums(&logits.slice(s![.., 2..]), 1, Context::new())?;
/// let merged = right.merge(&left)?;
/// assert!((merged.logsumexp()[0] - logsumexp(&logits, 1)?[0]).abs() < 1e-15);
/// assert_eq!(format!("{:.4e}", merged.rest[1]), "1.2745e-17");
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ShardSums<D: Dimension> {
    /// The largest logit of each row; -inf where there is none.
    pub max: Array<f64, D>,
    /// The sum of exp(x - max) over all other logits of the row. It is 0 where `max` is infinite, and nan in rows with a
    /// nan.
    pub rest: Array<f64, D>,
}

impl<D: Dimension> ShardSums<D> {
    /// Puts together with the sums of other classes of the same rows, in any order.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn merge(&self, other: &Self) -> Result<Self, Error> {
        check_shape("other", other.max.shape(), self.max.shape())?;
        let mut merged = self.clone();
        let theirs = other.max.iter().zip(&other.rest);
        for ((max, rest), (their_max, their_rest)) in merged.max.iter_mut().zip(&mut merged.rest).zip(theirs)
        {
            (*max, *rest) = merge((*max, *rest), (*their_max, *their_rest));
        }
        Ok(merged)
    }

    /// The log-sum-exp of each row over the merged classes, in nats; -inf where there is none.
    #[must_use]
    pub fn logsumexp(&self) -> Array<f64, D> {
        let mut sums = self.max.clone();
        sums.zip_mut_with(&self.rest, |max, rest| *max += rest.ln_1p());
        sums
    }
}

fn merge(ours: (f64, f64), theirs: (f64, f64)) -> (f64, f64) {
    if ours.0.is_nan() || theirs.0.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    let (larger, smaller) = if ours.0 >= theirs.0 { (ours, theirs) } else { (theirs, ours) };
    let scale = if larger.0 == smaller.0 { 1.0 } else { (smaller.0 - larger.0).exp() };
    (larger.0, if larger.0.is_infinite() { 0.0 } else { (larger.1 + scale * smaller.1) + scale })
}

/// The sums of one shard, whose classes lie along `axis`.
///
/// # Errors
/// [`Error::AxisOutOfRange`], [`Error::OutOfMemory`], [`Error::Interrupted`].
pub fn shard_sums<E: Element, D: RemoveAxis>(
    input: &ArrayRef<E, D>,
    axis: isize,
    context: Context<'_>,
) -> Result<ShardSums<D::Smaller>, Error> {
    let (max, rest) = sums_of(&input.view().into_dyn(), axis, context)?;
    let rows = input.raw_dim().remove_axis(Axis(class_axis(input.ndim(), Some(axis))?));
    let count = max.len();
    let shaped = |numbers| {
        let too_many = |_| Error::OutOfMemory { count, size: size_of::<f64>() };
        Array::from_shape_vec(rows.clone(), numbers).map_err(too_many)
    };
    Ok(ShardSums { max: shaped(max)?, rest: shaped(rest)? })
}

/// Writes the gradient of the losses of whole rows, weighted with `upstream`, with respect to the logits of one shard.
/// `merged` are the sums of all shards, and `class` is the target's class in this one, counted from its first; none where
/// another shard has it. Rows that the mask leaves out get 0.
///
/// ```
/// use crossent::ndarray::{Array2, array, s};
/// use crossent::{Call, Context, shard_gradient_into, shard_sums};
///
/// let logits = array![[2.0_f64, 1.0, 0.0, 3.0]];
/// let (left, right) = (logits.slice(s![.., ..2]), logits.slice(s![.., 2..]));
/// let merged = shard_sums(&left, 1, Context::new())?.merge(&shard_sums(&right, 1, Context::new())?)?;
/// let mut gradient = Array2::zeros((1, 2));
/// shard_gradient_into(&right, 1, &merged, &array![Some(1)], &array![1.0], &Call::new(), &mut gradient)?;
/// assert_eq!(format!("{:.4}", gradient[[0, 1]]), "-0.3561");
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`], [`Error::Element`] for a class that the shard does not have, and those of [`shard_sums`].
pub fn shard_gradient_into<E: Element, D: Dimension, R: Dimension>(
    input: &ArrayRef<E, D>,
    axis: isize,
    merged: &ShardSums<R>,
    class: &ArrayRef<Option<usize>, R>,
    upstream: &ArrayRef<f64, R>,
    call: &Call<'_>,
    gradient: &mut ArrayRef<E, D>,
) -> Result<(), Error> {
    let classes = input.shape()[class_axis(input.ndim(), Some(axis))?];
    check_shape("class", class.shape(), merged.max.shape())?;
    let mut of_rows = class.map(|class| class.map_or(ELSEWHERE, |class| class as i64)).into_dyn();
    if let Some(place) = class.iter().position(|class| class.is_some_and(|class| class >= classes)) {
        return Err(Error::Element {
            problem: "class is out of range",
            name: "class",
            index: unravel(place, class.shape()),
            value: of_rows.iter().nth(place).map_or(f64::NAN, |class| *class as f64),
            expected: "an index of a class of the shard, or none",
        });
    }
    if let Some(mask) = &call.mask {
        check_shape("mask", mask.shape(), class.shape())?;
        of_rows.zip_mut_with(mask, |class, kept| {
            if *kept == 0 {
                *class = IGNORED;
            }
        });
    }
    let (max, rest) = (merged.max.view().into_dyn(), merged.rest.view().into_dyn());
    let (scale, class) = (upstream.view().into_dyn(), of_rows.view());
    let merged = Merged { max: &max, rest: &rest, scale: &scale, class: &class };
    let (input, gradient) = (input.view().into_dyn(), gradient.view_mut().into_dyn());
    gradient_of(Some(&input), axis, &merged, gradient, call.context)
}

/// The largest logit of each row, and rest. They are -inf and 0 for a row of nothing but -inf, inf and 0 for one with
/// inf, and both nan for one with nan.
pub(crate) fn sums_of<E: Element>(
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
    let walk = Walk::unlabelled(count, rows.layout.classes).row_group(row_group(&rows));
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
        let tile = tiles.sum(simd, rows, all(len));
        for i in 0..len {
            let log_sum_exp = tile.log_sum_exp(i);
            sums.push(match log_sum_exp {
                _ if log_sum_exp.is_nan() => (f64::NAN, f64::NAN),
                _ if log_sum_exp.is_infinite() => (log_sum_exp, 0.0),
                // Of a row's zeros either sign may be its maximum, as the layout has it: it becomes that of +0.
                _ => (tile.max(i) + 0.0, tile.rest(i)),
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
    /// The target's class in this shard; [`ELSEWHERE`] if another has it, and [`IGNORED`] for rows to leave out.
    pub class: &'a View<'a, i64>,
}

/// The target is in another shard.
pub(crate) const ELSEWHERE: i64 = -1;
/// The row is left out: its gradient is 0.
pub(crate) const IGNORED: i64 = -2;

/// Writes the gradient of a shard. Without an input the gradient's array holds it, and is overwritten.
pub(crate) fn gradient_of<E: Element>(
    input: Option<&View<'_, E>>,
    axis: isize,
    merged: &Merged<'_>,
    mut gradient: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    let shape = gradient.shape().to_vec();
    let (input, out) = input_and_gradient(input, &mut gradient, &shape, Some(axis), context)?;
    let row_shape = input.row_shape();
    for view in [merged.max, merged.rest, merged.scale] {
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
        out: &out,
    };
    let walk = Walk::unlabelled(rows.layout.line.len(), rows.layout.classes).row_group(row_group(&rows));
    walk.run(of_rows, &work).map(|_| ())
}

struct Slopes<'w, 'a, E> {
    rows: &'w Rows<'a, E>,
    segments: Option<Context<'a>>,
    max: Rows<'w, f64>,
    rest: Rows<'w, f64>,
    scale: Rows<'w, f64>,
    class: Rows<'w, i64>,
    out: &'w RowsMut<'a, E>,
}

impl<'a, E: Element> TileWork for Slopes<'_, 'a, E> {
    type State = Tiles<'a, E>;
    type Chunk = ();

    fn state(&self) -> Self::State {
        Tiles::new(self.rows.clone(), self.segments).for_output()
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, tiles: &mut Self::State, rows: Range<usize>, _: &TileLabels) {
        let numbers = |from: &Rows<'_, f64>| {
            let mut to = [0.0; TILE];
            read(from, rows.clone(), &mut to, |x| x);
            to
        };
        let (max, rest, mut scale) = (numbers(&self.max), numbers(&self.rest), numbers(&self.scale));
        let mut class = [IGNORED; TILE];
        read(&self.class, rows.clone(), &mut class, |class| class);
        let active = (0..rows.len()).fold(0, |bits, i| bits | u64::from(class[i] != IGNORED) << i);
        let tile = tiles.with_sums(simd, rows.clone(), &max, &rest);
        let (mut here, mut of_row, mut entry) = (0, Column::of(0), Column::of(0.0));
        for i in bits(active) {
            if !max[i].is_finite() {
                // A row without a softmax.
                (scale[i], entry[i]) = (f64::NAN, f64::NAN);
            }
            let Ok(class) = usize::try_from(class[i]) else { continue };
            (here, of_row[i]) = (here | 1 << i, class);
            if max[i].is_finite() {
                // 1 - p, without cancellation where the target is a largest class.
                let (logit, all) = (tile.logit(i, class), 1.0 + rest[i]);
                let miss =
                    if logit == max[i] { rest[i] / all } else { 1.0 - exp_of(simd, logit - max[i]) / all };
                entry[i] = -scale[i] * miss;
            }
        }
        let entries = Some((here, &*of_row, &*entry));
        let gradient = TileGradient::<Smoothed<'_>> { scale: &scale, entries, q: None };
        tile.write_gradient(simd, rows, active, gradient, self.out);
    }

    fn end(&self, _: &mut Self::State) {}
}
