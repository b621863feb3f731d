//! Functions of rows: `log_softmax`, `softmax`, `logsumexp`; and of elements: `log_sigmoid`.
//!
//! Inputs and outputs may have any layout. Where `input` is `None`, the input is `out` itself.

use std::ops::Range;

use fearless_simd::dispatch;

use crate::array::rows::{Layout, Rows, RowsMut, View, ViewMut, check_shape, resolve_axis, row_shape};
use crate::error::Error;
use crate::kernel::element::Element;
use crate::kernel::output::{LogSoftmax, RowFunction, Softmax, log_sigmoid as log_sigmoid_of};
use crate::kernel::rowset::all;
use crate::kernel::{BLOCK, SHORT_ROW, TILE, isa};
use crate::parallel::{Context, for_each_chunk_of, for_each_chunks};
use crate::tile::{Tiles, row_group, split_threads};

/// x - log sum exp(x) along `axis`, in the input's type, rounded once.
///
/// # Errors
/// A shape or axis that does not fit.
pub fn log_softmax<E: Element>(
    input: Option<View<'_, E>>,
    axis: isize,
    out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    map_rows::<E, LogSoftmax>(input.as_ref(), axis, out, context)
}

/// exp(x) / sum exp(x) along `axis`, in the input's type.
///
/// # Errors
/// A shape or axis that does not fit.
pub fn softmax<E: Element>(
    input: Option<View<'_, E>>,
    axis: isize,
    out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    map_rows::<E, Softmax>(input.as_ref(), axis, out, context)
}

/// log(sum(exp(x))) along `axis`; `out` has the input's shape without it.
///
/// # Errors
/// A shape or axis that does not fit.
pub fn logsumexp<E: Element, O: Element>(
    input: View<'_, E>,
    axis: isize,
    mut out: ViewMut<'_, O>,
    context: Context<'_>,
) -> Result<(), Error> {
    let axis = resolve_axis(axis, input.ndim())?;
    check_shape("out", out.shape(), &row_shape(input.shape(), axis))?;
    let rows = Rows::new(&input, Some(axis));
    let out = RowsMut::new(&mut out, None);
    let level = isa::selected()?;
    for_each_tile(&rows, context, |tiles, range| {
        dispatch!(level, simd => tiles.sum(simd, range.clone(), all(range.len()), false));
        // SAFETY: the rows of a tile belong to one thread.
        unsafe { out.write(range, |i| O::from_f64(tiles.log_sum_exp(i))) };
    })
}

/// log(1 / (1 + exp(-x))) of each element.
///
/// # Errors
/// Shapes that differ.
pub fn log_sigmoid<E: Element>(
    input: Option<View<'_, E>>,
    mut out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    let shape = out.shape().to_vec();
    if let Some(input) = &input {
        check_shape("out", &shape, input.shape())?;
    }
    let out = RowsMut::new(&mut out, None);
    let input = match &input {
        Some(input) => Rows::new(input, None),
        // SAFETY: a thread copies its elements to a buffer of its own before it writes them.
        None => unsafe { Rows::of_output(&out) },
    };
    let level = isa::selected()?;
    for_each_chunk_of(
        context,
        input.layout.line.len(),
        1,
        || ([E::PADDING; BLOCK], [E::PADDING; BLOCK]),
        |(from, to), elements| {
            for start in elements.clone().step_by(BLOCK) {
                let range = start..(start + BLOCK).min(elements.end);
                let (from, to) = (&mut from[..range.len()], &mut to[..range.len()]);
                crate::array::rows::read(&input, range.clone(), from, |x| x);
                dispatch!(level, simd => log_sigmoid_of(simd, from, to));
                // SAFETY: the elements of a chunk belong to one thread.
                unsafe { out.write(range, |i| to[i]) };
            }
        },
    )?;
    Ok(())
}

fn map_rows<E: Element, F: RowFunction>(
    input: Option<&View<'_, E>>,
    axis: isize,
    mut out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    let axis = resolve_axis(axis, out.ndim())?;
    if let Some(input) = input {
        check_shape("out", out.shape(), input.shape())?;
    }
    if out.is_empty() {
        // There may be any number of rows without classes.
        return Ok(());
    }
    let mut out = RowsMut::new(&mut out, Some(axis));
    let rows = if let Some(input) = input {
        out = out.streamed(context.untouched);
        Rows::new(input, Some(axis))
    } else {
        // SAFETY: a tile's rows belong to one thread, which reads a block before it writes it.
        unsafe { Rows::of_output(&out) }
    };
    let level = isa::selected()?;
    for_each_tile(&rows, context, |tiles, range| {
        dispatch!(level, simd => {
            tiles.sum(simd, range.clone(), all(range.len()), F::SHARES);
            tiles.write::<_, F>(simd, range, &out);
        });
    })
}

/// Hands the rows to `work`, at most a tile at a time; long rows singly, so that the second look at a row
/// finds it in the cache.
fn for_each_tile<E: Element>(
    rows: &Rows<'_, E>,
    context: Context<'_>,
    work: impl Fn(&mut Tiles<'_, E>, Range<usize>) + Sync,
) -> Result<(), Error> {
    let Layout { classes, .. } = rows.layout;
    let singly = rows.layout.contiguous() && classes > SHORT_ROW;
    let step = if singly { (4 * BLOCK / classes).clamp(1, TILE) } else { TILE };
    let (context, segments) = split_threads(context, rows);
    for_each_chunks(
        context,
        rows.layout.line.len(),
        rows.layout.classes,
        row_group(rows),
        || Tiles::new(rows.clone(), segments),
        |tiles, rows| {
            for start in rows.clone().step_by(step) {
                work(tiles, start..(start + step).min(rows.end));
            }
        },
    )?;
    Ok(())
}
