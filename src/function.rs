//! Functions of rows: `log_softmax`, `softmax`, `logsumexp`; and of elements: `log_sigmoid`.
//!
//! Inputs and outputs may have any layout and dimension. Each function returns a new array; its `_into` variant writes
//! the result to an array of the caller's, and its `_in_place` variant writes it over the input.

pub(crate) mod signed;

use std::marker::PhantomData;
use std::ops::Range;

use fearless_simd::{Simd, dispatch};
use ndarray::{Array, ArrayRef, Axis, Dimension, RemoveAxis};

use crate::array::new::{filled, zeros_like};
use crate::array::rows::{Layout, Rows, RowsMut, View, ViewMut, check_shape, resolve_axis, row_shape};
use crate::error::Error;
use crate::kernel::element::Element;
use crate::kernel::output::{LogSoftmax, RowFunction, Softmax, log_sigmoid as log_sigmoid_kernel};
use crate::kernel::rowset::all;
use crate::kernel::{BLOCK, SHORT_ROW, TILE, isa};
use crate::parallel::{Context, for_each_chunk_of};
use crate::targets::{TileLabels, TileWork, Walk};
use crate::tile::{Tile, Tiles, row_group, row_group_read_once, split_threads};

/// x - log sum exp(x) along `axis`, in the input's type, rounded once.
///
/// The result has the input's shape. Axes may count from the end: -1 is the last.
///
/// ```
/// use crossent::log_softmax;
/// use crossent::ndarray::array;
///
/// let x = array![[0.0_f64, 0.0], [40.0, 0.0]];
/// let log_p = log_softmax(&x, -1)?;
/// assert_eq!(log_p[[0, 0]], -std::f64::consts::LN_2);
/// assert_eq!(format!("{:.6e}", log_p[[1, 0]]), "-4.248354e-18");
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::AxisOutOfRange`], and [`Error::OutOfMemory`] where there is none for the result.
pub fn log_softmax<E: Element, D: Dimension>(
    input: &ArrayRef<E, D>,
    axis: isize,
) -> Result<Array<E, D>, Error> {
    let mut out = zeros_like(input)?;
    log_softmax_into(input, axis, &mut out, Context::new().untouched(true))?;
    Ok(out)
}

/// [`log_softmax`] to an array of the input's shape.
///
/// # Errors
/// A shape or axis that does not fit.
pub fn log_softmax_into<E: Element, D: Dimension>(
    input: &ArrayRef<E, D>,
    axis: isize,
    out: &mut ArrayRef<E, D>,
    context: Context<'_>,
) -> Result<(), Error> {
    log_softmax_of(Some(input.view().into_dyn()), axis, out.view_mut().into_dyn(), context)
}

/// [`log_softmax`] written over the input.
///
/// # Errors
/// An axis that does not fit.
pub fn log_softmax_in_place<E: Element, D: Dimension>(
    array: &mut ArrayRef<E, D>,
    axis: isize,
    context: Context<'_>,
) -> Result<(), Error> {
    log_softmax_of(None, axis, array.view_mut().into_dyn(), context)
}

/// exp(x) / sum exp(x) along `axis`, in the input's type, rounded once.
///
/// The result has the input's shape. Axes may count from the end: -1 is the last.
///
/// ```
/// use crossent::half::f16;
/// use crossent::ndarray::array;
/// use crossent::softmax;
///
/// let x = array![[1.0, 1.0], [0.0, 20.0]].map(|x| f16::from_f64(*x));
/// let p = softmax(&x, 1)?;
/// assert_eq!(p.map(|p| p.to_f64()), array![[0.5, 0.5], [0.0, 1.0]]);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::AxisOutOfRange`], and [`Error::OutOfMemory`] where there is none for the result.
pub fn softmax<E: Element, D: Dimension>(input: &ArrayRef<E, D>, axis: isize) -> Result<Array<E, D>, Error> {
    let mut out = zeros_like(input)?;
    softmax_into(input, axis, &mut out, Context::new().untouched(true))?;
    Ok(out)
}

/// [`softmax`] to an array of the input's shape.
///
/// # Errors
/// A shape or axis that does not fit.
pub fn softmax_into<E: Element, D: Dimension>(
    input: &ArrayRef<E, D>,
    axis: isize,
    out: &mut ArrayRef<E, D>,
    context: Context<'_>,
) -> Result<(), Error> {
    softmax_of(Some(input.view().into_dyn()), axis, out.view_mut().into_dyn(), context)
}

/// [`softmax`] written over the input.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Context, softmax_in_place};
///
/// let mut x = array![0.0_f32, 0.0, 0.0, 0.0];
/// softmax_in_place(&mut x, 0, Context::new())?;
/// assert_eq!(x, array![0.25, 0.25, 0.25, 0.25]);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// An axis that does not fit.
pub fn softmax_in_place<E: Element, D: Dimension>(
    array: &mut ArrayRef<E, D>,
    axis: isize,
    context: Context<'_>,
) -> Result<(), Error> {
    softmax_of(None, axis, array.view_mut().into_dyn(), context)
}

/// log(sum(exp(x))) along `axis`, in the input's type, rounded once; the result has the input's shape without the axis.
///
/// ```
/// use crossent::logsumexp;
/// use crossent::ndarray::array;
///
/// let x = array![[0.0_f32, 0.0], [1000.0, 999.0]];
/// assert_eq!(logsumexp(&x, 1)?, array![0.6931472, 1000.31323]);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::AxisOutOfRange`], and [`Error::OutOfMemory`] where there is none for the result.
pub fn logsumexp<E: Element, D: RemoveAxis>(
    input: &ArrayRef<E, D>,
    axis: isize,
) -> Result<Array<E, D::Smaller>, Error> {
    let along = resolve_axis(axis, input.ndim())?;
    let mut out = filled(input.raw_dim().remove_axis(Axis(along)), E::from_f64(0.0))?;
    logsumexp_into(input, axis, &mut out, Context::new())?;
    Ok(out)
}

/// [`logsumexp`] to an array of any floating-point type that has the input's shape without the axis.
///
/// # Errors
/// A shape or axis that does not fit.
pub fn logsumexp_into<E: Element, O: Element, D: Dimension, R: Dimension>(
    input: &ArrayRef<E, D>,
    axis: isize,
    out: &mut ArrayRef<O, R>,
    context: Context<'_>,
) -> Result<(), Error> {
    logsumexp_of(input.view().into_dyn(), axis, out.view_mut().into_dyn(), context)
}

/// log(1 / (1 + exp(-x))) of each element, in the input's type, rounded once.
///
/// ```
/// use crossent::log_sigmoid;
/// use crossent::ndarray::array;
///
/// assert_eq!(log_sigmoid(&array![0.0_f64, -1000.0])?, array![-std::f64::consts::LN_2, -1000.0]);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfMemory`] where there is none for the result.
pub fn log_sigmoid<E: Element, D: Dimension>(input: &ArrayRef<E, D>) -> Result<Array<E, D>, Error> {
    let mut out = zeros_like(input)?;
    log_sigmoid_into(input, &mut out, Context::new().untouched(true))?;
    Ok(out)
}

/// [`log_sigmoid`] to an array of the input's shape.
///
/// # Errors
/// Shapes that differ.
pub fn log_sigmoid_into<E: Element, D: Dimension>(
    input: &ArrayRef<E, D>,
    out: &mut ArrayRef<E, D>,
    context: Context<'_>,
) -> Result<(), Error> {
    log_sigmoid_of(Some(input.view().into_dyn()), out.view_mut().into_dyn(), context)
}

/// [`log_sigmoid`] written over the input.
///
/// # Errors
/// [`Error::Interrupted`], and what is wrong with the environment.
pub fn log_sigmoid_in_place<E: Element, D: Dimension>(
    array: &mut ArrayRef<E, D>,
    context: Context<'_>,
) -> Result<(), Error> {
    log_sigmoid_of(None, array.view_mut().into_dyn(), context)
}

/// [`log_softmax`] for views. Without an `input`, `out` holds it and is overwritten.
pub(crate) fn log_softmax_of<E: Element>(
    input: Option<View<'_, E>>,
    axis: isize,
    out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    map_rows::<E, LogSoftmax>(input.as_ref(), axis, out, context)
}

/// [`softmax`] for views. Without an `input`, `out` holds it and is overwritten.
pub(crate) fn softmax_of<E: Element>(
    input: Option<View<'_, E>>,
    axis: isize,
    out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    map_rows::<E, Softmax>(input.as_ref(), axis, out, context)
}

/// [`logsumexp`] for views.
pub(crate) fn logsumexp_of<E: Element, O: Element>(
    input: View<'_, E>,
    axis: isize,
    mut out: ViewMut<'_, O>,
    context: Context<'_>,
) -> Result<(), Error> {
    let axis = resolve_axis(axis, input.ndim())?;
    check_shape("out", out.shape(), &row_shape(input.shape(), axis))?;
    let rows = Rows::new(&input, Some(axis));
    let out = RowsMut::new(&mut out, None);
    walk(&rows, true, context, |segments| Sums { rows: &rows, segments, out: &out })
}

/// Walks all rows, a tile at a time. `work` makes the work of the tiles from the context under which the segments of a
/// row are split among threads, where the rows are not. It reads rows `once`, or has a second pass.
fn walk<'c, E: Element, W: TileWork<Chunk = ()>>(
    rows: &Rows<'_, E>,
    once: bool,
    context: Context<'c>,
    work: impl FnOnce(Option<Context<'c>>) -> W,
) -> Result<(), Error> {
    let Layout { classes, .. } = rows.layout;
    // Few long rows at a time, so that the second pass over a row finds it in the cache.
    let few = !once && rows.layout.contiguous() && classes > SHORT_ROW;
    let tile = if few { (4 * BLOCK / classes).clamp(1, TILE) } else { TILE };
    let (context, segments) = split_threads(context, rows);
    let group = if once { row_group_read_once(rows) } else { row_group(rows) };
    let walk = Walk::unlabelled(rows.layout.line.len(), classes).row_group(group);
    Walk { tile, ..walk }.run(context, &work(segments)).map(|_| ())
}

/// log sum exp of each row.
struct Sums<'w, 'a, E, O> {
    rows: &'w Rows<'a, E>,
    segments: Option<Context<'w>>,
    out: &'w RowsMut<'w, O>,
}

impl<'w, E: Element, O: Element> TileWork for Sums<'w, '_, E, O> {
    type State = Tiles<'w, E>;
    type Chunk = ();

    fn state(&self) -> Self::State {
        Tiles::new(self.rows.clone(), self.segments)
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, tiles: &mut Self::State, rows: Range<usize>, _: &TileLabels) {
        self.write(&tiles.sum(simd, rows.clone(), all(rows.len())), rows);
    }

    fn end(&self, _: &mut Self::State) {}
}

impl<E: Element, O: Element> Sums<'_, '_, E, O> {
    /// Not inlined, so that it is compiled once, and not for each instruction set.
    #[inline(never)]
    fn write(&self, tile: &Tile<'_, '_, E>, rows: Range<usize>) {
        // SAFETY: the rows of a tile belong to one thread.
        unsafe { self.out.write(rows, |i| O::from_f64(tile.log_sum_exp(i))) };
    }
}

/// A function of each element, given its row.
struct Mapped<'w, 'a, E, F> {
    rows: &'w Rows<'a, E>,
    segments: Option<Context<'w>>,
    out: &'w RowsMut<'w, E>,
    function: PhantomData<F>,
}

impl<'w, E: Element, F: RowFunction> TileWork for Mapped<'w, '_, E, F> {
    type State = Tiles<'w, E>;
    type Chunk = ();

    fn state(&self) -> Self::State {
        let tiles = Tiles::new(self.rows.clone(), self.segments);
        if F::SHARES { tiles.for_softmax() } else { tiles.for_output() }
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, tiles: &mut Self::State, rows: Range<usize>, _: &TileLabels) {
        tiles.sum(simd, rows.clone(), all(rows.len())).write::<_, F>(simd, rows, self.out);
    }

    fn end(&self, _: &mut Self::State) {}
}

/// [`log_sigmoid`] for views. Without an `input`, `out` holds it and is overwritten.
pub(crate) fn log_sigmoid_of<E: Element>(
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
        // SAFETY: a thread copies its elements to its own buffer before it writes them.
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
                dispatch!(level, simd => log_sigmoid_kernel(simd, from, to));
                // SAFETY: the elements of a chunk belong to one thread.
                unsafe { out.write(range, |i| to[i]) };
            }
        },
    )?;
    Ok(())
}

/// Writes a function of each element and its row. Without an `input`, `out` holds it and is overwritten.
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
    walk(&rows, false, context, |segments| Mapped {
        rows: &rows,
        segments,
        out: &out,
        function: PhantomData::<F>,
    })
}
