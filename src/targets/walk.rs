//! The walk over rows: chunks are split among threads, and a chunk is walked tile by tile with its class indices.

use std::ops::Range;

use fearless_simd::{Simd, dispatch};

use super::indices::{Labels, OutOfRange, TileLabels};
use crate::error::Error;
use crate::kernel::stream::fence;
use crate::kernel::{TILE, isa};
use crate::parallel::{Context, RowGroup, try_for_each_chunks};

/// The work of a walk, on each of its tiles.
pub(crate) trait TileWork: Sync {
    /// What a thread keeps from chunk to chunk: scratch buffers, and sums.
    type State;
    /// The result of a chunk.
    type Chunk: Send;

    fn state(&self) -> Self::State;
    /// Takes the next tile of the chunk. It is inlined into the function that carries the instruction set.
    fn tile<S: Simd>(&self, simd: S, state: &mut Self::State, rows: Range<usize>, labels: &TileLabels);
    /// Ends the chunk, and returns its result.
    fn end(&self, state: &mut Self::State) -> Self::Chunk;
}

/// The rows of a walk, and how they are cut.
pub(crate) struct Walk<'w, 'a> {
    pub rows: usize,
    /// Elements of a row that are read or written.
    pub classes: usize,
    /// The class index of each row, where rows have one.
    pub labels: Option<&'w Labels<'a>>,
    /// How many rows a thread should take together.
    pub row_group: RowGroup,
    /// How many rows a tile has, the last of a chunk excepted.
    pub tile: usize,
}

impl<'w, 'a> Walk<'w, 'a> {
    /// A walk over rows with a class index each, in whole tiles.
    pub(crate) fn labelled(labels: &'w Labels<'a>, classes: usize) -> Self {
        Walk { rows: labels.rows(), classes, labels: Some(labels), row_group: RowGroup::CHUNK, tile: TILE }
    }

    /// A walk over rows without class indices, in whole tiles.
    pub(crate) fn unlabelled(rows: usize, classes: usize) -> Self {
        Walk { rows, classes, labels: None, row_group: RowGroup::CHUNK, tile: TILE }
    }

    /// Sets how many rows a thread should take together.
    pub(crate) fn row_group(self, row_group: RowGroup) -> Self {
        Walk { row_group, ..self }
    }

    /// Hands all rows to `work`, on all threads. Returns the results of the chunks in the order of the rows.
    ///
    /// # Errors
    /// [`Error::TargetOutOfRange`] of the first row whose target is no class, [`Error::Interrupted`],
    /// [`Error::NumThreads`], [`Error::UnknownIsa`].
    pub(crate) fn run<W: TileWork>(&self, context: Context<'_>, work: &W) -> Result<Vec<W::Chunk>, Error> {
        let level = isa::selected()?;
        let state = || (work.state(), TileLabels::default());
        let result = try_for_each_chunks(
            context,
            self.rows,
            self.classes,
            self.row_group,
            state,
            |(state, labels), rows| dispatch!(level, simd => self.chunk(simd, work, state, labels, rows)),
        )?;
        result.map_err(|rows| match self.labels {
            Some(labels) => labels.first_out_of_range(rows),
            None => unreachable!("only class indices can be out of range"),
        })
    }

    #[inline(always)]
    fn chunk<S: Simd, W: TileWork>(
        &self,
        simd: S,
        work: &W,
        state: &mut W::State,
        labels: &mut TileLabels,
        rows: Range<usize>,
    ) -> Result<W::Chunk, OutOfRange> {
        for first in rows.clone().step_by(self.tile) {
            let tile = first..(first + self.tile).min(rows.end);
            if let Some(of_rows) = self.labels
                && let Err(out_of_range) = of_rows.tile(simd, tile.clone(), labels)
            {
                fence();
                return Err(out_of_range);
            }
            work.tile(simd, state, tile, labels);
        }
        // What tiles have streamed; after each tile it would be waited for.
        fence();
        Ok(work.end(state))
    }
}
