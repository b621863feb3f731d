//! The walk over rows with a class index each: chunks on threads, tile by tile, each tile with its labels.

use std::ops::Range;

use fearless_simd::dispatch;

use super::indices::{Labels, OutOfRange, TileLabels};
use crate::error::Error;
use crate::kernel::{TILE, isa};
use crate::parallel::{Context, try_for_each_chunks};

/// Rows that are walked.
pub(crate) struct LabelledRows<'w, 'a> {
    pub labels: &'w Labels<'a>,
    /// Elements of a row.
    pub classes: usize,
    /// How many rows a thread should take together.
    pub row_group: usize,
}

impl LabelledRows<'_, '_> {
    /// Hands the rows to `tile`, at most a tile at a time and with their labels, on all threads. `state` makes what a thread
    /// reuses from chunk to chunk; what `end` makes of it after each chunk comes back, in the order of the rows.
    ///
    /// # Errors
    /// [`Error::TargetOutOfRange`] of the first row whose target is no class, [`Error::Interrupted`],
    /// [`Error::NumThreads`], [`Error::UnknownIsa`].
    pub(crate) fn for_each_tile<W, T: Send>(
        &self,
        context: Context<'_>,
        state: impl Fn() -> W + Sync,
        tile: impl Fn(&mut W, Range<usize>, &mut TileLabels) + Sync,
        end: impl Fn(&mut W) -> T + Sync,
    ) -> Result<Vec<T>, Error> {
        let level = isa::selected()?;
        try_for_each_chunks(
            context,
            self.labels.rows(),
            self.classes,
            self.row_group,
            || (state(), TileLabels::default()),
            |(state, labels), rows| {
                for first in rows.clone().step_by(TILE) {
                    let range = first..(first + TILE).min(rows.end);
                    dispatch!(level, simd => self.labels.tile(simd, range.clone(), labels))?;
                    tile(state, range, labels);
                }
                Ok::<_, OutOfRange>(end(state))
            },
        )?
        .map_err(|rows| self.labels.first_out_of_range(rows))
    }
}
