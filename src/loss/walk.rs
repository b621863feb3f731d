//! The walk over the rows of a loss: chunks on threads, tile by tile, to sums or to one loss for each row.

use std::ops::Range;

use fearless_simd::{Simd, dispatch};

use super::gradient::Gradient;
use super::misuse::LikelyMisuse;
use crate::array::any::{FloatRowsMut, FloatsMut, with_dtype};
use crate::array::rows::{RowsMut, check_shape};
use crate::error::Error;
use crate::kernel::element::{Element, RealOf};
use crate::kernel::{TILE, isa};
use crate::parallel::{Context, chunk_rows, try_for_each_chunks};
use crate::sum::reduce::{ChunkSum, TileLosses, Total};
use crate::targets::OutOfRange;

/// A loss over rows, a tile at a time.
pub(crate) trait RowLoss<'a, E: Element>: Sync {
    /// What a thread reuses from chunk to chunk.
    type State;

    fn state(&self) -> Self::State;
    fn rows(&self) -> usize;
    /// Elements of a row that are read or written.
    fn classes(&self) -> usize;
    /// How many rows a thread had better take together.
    fn row_group(&self) -> usize {
        1
    }
    /// Who shares out the rows to threads.
    fn row_context<'c>(&self, context: Context<'c>) -> Context<'c> {
        context
    }
    /// The losses of at most a tile of rows. It is inlined into the function that carries the instruction set.
    fn tile<S: Simd>(
        &self,
        simd: S,
        state: &mut Self::State,
        rows: Range<usize>,
        losses: &mut TileLosses,
    ) -> Result<(), OutOfRange>;
    /// Looks at all targets.
    fn check(&self, context: Context<'_>) -> Result<(), Error>;
    /// The error behind an [`OutOfRange`] among these rows.
    fn out_of_range(&self, rows: Range<usize>) -> Error;
    /// What a mean will divide by, from the targets alone.
    fn divisor(&self, context: Context<'_>) -> Result<f64, Error>;
    /// What the input seems to be instead of what the loss takes.
    fn likely_misuse(&self) -> Option<LikelyMisuse>;
    /// Whether no row counts.
    fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error>;
    /// Has the gradient written from now on.
    fn set_gradient(&mut self, gradient: Gradient<'a, E>);
    /// The sums over all rows, where no row needs to be looked at for them.
    fn known_total(&self) -> Option<Total> {
        None
    }
    /// The sums as a mean of this loss takes them.
    fn adjusted(&self, total: Total, _: Context<'_>) -> Result<Total, Error> {
        Ok(total)
    }
}

/// Where the losses of rows go: an array of one class, shared out to threads.
struct LossRows<'a>(FloatRowsMut<'a>);

impl<'a> LossRows<'a> {
    fn new(losses: &'a mut FloatsMut<'_>) -> Self {
        LossRows(with_dtype!(map floats &mut losses.0, view => RowsMut::new(view, None)))
    }

    /// Writes a tile's losses, each rounded once.
    ///
    /// # Safety
    /// No other thread may touch these rows.
    unsafe fn write(&self, rows: Range<usize>, losses: &[f64; TILE]) {
        // SAFETY: see above.
        with_dtype!(floats &self.0, out => unsafe { out.write(rows, |i| Element::from_f64(losses[i])) });
    }
}

/// The sums over all rows.
pub(super) fn total<'a, E: Element, L: RowLoss<'a, E>>(
    loss: &L,
    context: Context<'_>,
) -> Result<Total, Error> {
    match loss.known_total() {
        Some(total) => Ok(total),
        None => loss.adjusted(run(loss, context, None)?, context),
    }
}

/// One loss for each row, to an array of shape `rows`; ignored rows get 0. All targets are checked before the first is
/// written.
pub(super) fn each_row<'a, E: Element, L: RowLoss<'a, E>>(
    loss: &L,
    rows: &[usize],
    context: Context<'_>,
    mut out: FloatsMut<'_>,
) -> Result<(), Error> {
    check_shape("out", out.shape(), rows)?;
    loss.check(context)?;
    run(loss, context, Some(&LossRows::new(&mut out))).map(|_| ())
}

/// Walks all rows: the sums of the chunks in their order, or where there is an `out`, the loss of each row.
fn run<'a, E: Element, L: RowLoss<'a, E>>(
    loss: &L,
    context: Context<'_>,
    out: Option<&LossRows<'_>>,
) -> Result<Total, Error> {
    let level = isa::selected()?;
    let groups = try_for_each_chunks(
        loss.row_context(context),
        loss.rows(),
        loss.classes(),
        loss.row_group(),
        || (loss.state(), TileLosses::new()),
        |state, rows| dispatch!(level, simd => chunks(simd, loss, state, rows, out)),
    )?
    .map_err(|rows| loss.out_of_range(rows))?;
    let mut all = ChunkSum::default();
    for (first, others) in groups {
        all.merge(first);
        for other in others {
            all.merge(other);
        }
    }
    Ok(all.total())
}

/// The sums of one chunk, and of those that came with it.
#[inline(always)]
fn chunks<'a, S: Simd, E: Element, L: RowLoss<'a, E>>(
    simd: S,
    loss: &L,
    (state, losses): &mut (L::State, TileLosses),
    rows: Range<usize>,
    out: Option<&LossRows<'_>>,
) -> Result<(ChunkSum, Vec<ChunkSum>), OutOfRange> {
    let size = chunk_rows(loss.classes());
    // A tile holds whole chunks, or is a part of one.
    let step = if size < TILE { TILE / size * size } else { TILE };
    let (mut sum, mut others) = (ChunkSum::default(), Vec::new());
    for first in rows.clone().step_by(step) {
        let tile = first..(first + step).min(rows.end);
        loss.tile(simd, state, tile.clone(), losses)?;
        if let Some(out) = out {
            // SAFETY: the rows of a chunk belong to one thread.
            unsafe { out.write(tile, &losses.loss) };
        } else if rows.len() <= size {
            sum.add::<_, RealOf<E>>(simd, losses);
        } else {
            for start in (0..tile.len()).step_by(size) {
                let mut part = ChunkSum::default();
                part.add::<_, RealOf<E>>(simd, &losses.part(start..(start + size).min(tile.len())));
                if first + start == rows.start { sum = part } else { others.push(part) }
            }
        }
    }
    Ok((sum, others))
}
