//! The walk over the rows of a loss, to sums or to one loss for each row.

use std::marker::PhantomData;
use std::ops::Range;

use fearless_simd::Simd;

use super::gradient::Gradient;
use super::misuse::LikelyMisuse;
use crate::array::any::{FloatRowsMut, FloatsMut, with_dtype};
use crate::array::rows::{RowsMut, check_shape};
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::element::{Element, RealOf};
use crate::parallel::{Context, RowGroup, chunk_rows};
use crate::sum::reduce::{ChunkSum, TileLosses, Total};
use crate::targets::{Labels, TileLabels, TileWork, Walk};

/// A loss over rows, a tile at a time.
pub(crate) trait RowLoss<'a, E: Element>: Sync {
    /// The memory that a thread reuses from chunk to chunk.
    type State;

    fn state(&self) -> Self::State;
    fn rows(&self) -> usize;
    /// Elements of a row that are read or written.
    fn classes(&self) -> usize;
    /// How many rows a thread should take together.
    fn row_group(&self) -> RowGroup {
        RowGroup::CHUNK
    }
    /// The context under which the rows are split among threads.
    fn row_context<'c>(&self, context: Context<'c>) -> Context<'c> {
        context
    }
    /// The class indices of the rows; none where the targets are class probabilities.
    fn labels(&self) -> Option<&Labels<'a>>;
    /// The losses of at most a tile of rows. It is inlined into the function that carries the instruction set.
    fn tile<S: Simd>(
        &self,
        simd: S,
        state: &mut Self::State,
        rows: Range<usize>,
        labels: &TileLabels,
        losses: &mut TileLosses,
    );
    /// Checks all targets.
    fn check(&self, context: Context<'_>) -> Result<(), Error> {
        self.labels().map_or(Ok(()), |labels| labels.check(context))
    }
    /// What a mean will divide by, from the targets alone. It checks all targets, as [`Self::check`] does.
    fn divisor(&self, context: Context<'_>) -> Result<f64, Error>;
    /// What a mean divides by in the terms of the losses that have no weights.
    fn unweighted_divisor(&self, _: Context<'_>) -> Result<f64, Error> {
        Ok(1.0)
    }
    /// What the input seems to be instead of what the loss takes.
    fn likely_misuse(&self) -> Option<LikelyMisuse>;
    /// Whether no row is active.
    fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error>;
    /// Makes [`Self::tile`] write the gradient too.
    fn set_gradient(&mut self, gradient: Gradient<'a, E>);
    /// The sums over all rows, where they are known without reading a row.
    fn known_total(&self) -> Option<Total> {
        None
    }
    /// The sums as the mean of this loss needs them.
    fn adjusted(&self, total: Total, _: Context<'_>) -> Result<Total, Error> {
        Ok(total)
    }
}

/// Where the losses of rows go: an array of one class, whose rows are split among threads.
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
    let size = chunk_rows(loss.classes());
    let walk = Walk {
        rows: loss.rows(),
        classes: loss.classes(),
        labels: loss.labels(),
        row_group: loss.row_group(),
        // A tile holds whole chunks, or is a part of one.
        tile: if size < TILE { TILE / size * size } else { TILE },
    };
    let mut all = ChunkSum::default();
    for chunks in walk.run(loss.row_context(context), &Losses { loss, out, size, of: PhantomData })? {
        all.merge(chunks.first);
        for other in chunks.others {
            all.merge(other);
        }
    }
    Ok(all.total())
}

/// The losses of tiles, written or summed.
struct Losses<'w, 'a, L, E> {
    loss: &'w L,
    out: Option<&'w LossRows<'w>>,
    /// Rows of a chunk.
    size: usize,
    of: PhantomData<&'a E>,
}

/// The sums of one chunk, or of the several chunks that a thread takes together.
#[derive(Default)]
struct ChunkSums {
    first: ChunkSum,
    others: Vec<ChunkSum>,
    /// Rows summed so far, where chunks are smaller than a tile.
    summed: usize,
}

impl<'a, E: Element, L: RowLoss<'a, E>> TileWork for Losses<'_, 'a, L, E> {
    type State = (L::State, TileLosses, ChunkSums);
    type Chunk = ChunkSums;

    fn state(&self) -> Self::State {
        (self.loss.state(), TileLosses::new(), ChunkSums::default())
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        (state, losses, sums): &mut Self::State,
        rows: Range<usize>,
        labels: &TileLabels,
    ) {
        self.loss.tile(simd, state, rows.clone(), labels, losses);
        if let Some(out) = self.out {
            losses.join();
            // SAFETY: the rows of a chunk belong to one thread.
            unsafe { out.write(rows, &losses.loss) };
        } else if self.size >= TILE {
            sums.first.add::<_, RealOf<E>>(simd, losses);
        } else {
            for start in (0..rows.len()).step_by(self.size) {
                let part = start..(start + self.size).min(rows.len());
                let mut sum = ChunkSum::default();
                sum.add::<_, RealOf<E>>(simd, &losses.part(part.clone()));
                if sums.summed == 0 {
                    sums.first = sum;
                } else {
                    sums.others.push(sum);
                }
                sums.summed += part.len();
            }
        }
    }

    #[inline(always)]
    fn end(&self, (.., sums): &mut Self::State) -> ChunkSums {
        std::mem::take(sums)
    }
}
