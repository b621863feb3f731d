//! Class probabilities, one distribution for each row.

use std::ops::Range;

use fearless_simd::Simd;
use fearless_simd_macros::simd;

use super::active::{all_tiles_here, mask_bits};
use crate::array::any::{FloatRows, with_dtype};
use crate::array::rows::{Rows, locate};
use crate::error::Error;
use crate::kernel::element::{Element, widen_slice};
use crate::kernel::max_minus_x::row_max_minus_x;
use crate::kernel::short_row::{last_rows, pack_rows};
use crate::kernel::{SHORT_ROW, TILE};
use crate::parallel::{Context, for_each_chunk_of};

/// Class probabilities, one distribution for each row.
pub(crate) struct Probabilities<'a> {
    pub(super) values: FloatRows<'a>,
    pub(super) mask: Option<Rows<'a, u8>>,
    pub(super) rows: usize,
}

impl Probabilities<'_> {
    /// A bit for each active row of `range`.
    pub(crate) fn active(&self, range: Range<usize>) -> u64 {
        mask_bits(self.mask.as_ref(), range)
    }

    /// The number of rows, if all of them are active.
    pub(crate) fn all_active(&self) -> Option<usize> {
        self.mask.is_none().then_some(self.rows)
    }

    /// Whether every row is left out.
    pub(super) fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error> {
        all_tiles_here(self.rows, context, |tile| self.active(tile) == 0)
    }

    /// The number of active rows.
    pub(crate) fn divisor(&self, context: Context<'_>) -> Result<f64, Error> {
        if let Some(rows) = self.all_active() {
            return Ok(rows as f64);
        }
        let counts = for_each_chunk_of(
            context,
            self.rows,
            1,
            || (),
            |(), rows| {
                let tiles = rows.clone().step_by(TILE).map(|first| first..(first + TILE).min(rows.end));
                tiles.map(|tile| f64::from(self.active(tile).count_ones())).sum::<f64>()
            },
        )?;
        Ok(counts.into_iter().sum())
    }

    /// The sum over a block of one row's classes of p (max - x), for their logits x, and that of p; none where a row's
    /// probabilities are not contiguous.
    #[simd]
    pub(crate) fn max_minus_x<S: Simd, E: Element>(
        &self,
        simd: S,
        row: usize,
        classes: Range<usize>,
        x: &[E],
        max: f64,
    ) -> Option<(f64, f64)> {
        let mut sums = None;
        with_dtype!(floats &self.values, rows => {
            rows.layout.line.runs(row..row + 1, #[inline(always)] |run| {
                if rows.layout.contiguous() {
                    let p = rows.classes_of(run.offset, classes.clone());
                    sums = Some(row_max_minus_x::<_, _, _, true>(simd, x, p, max));
                }
            });
        });
        sums
    }

    /// The probabilities of a block of one row's classes.
    #[simd]
    pub(crate) fn read<S: Simd>(&self, simd: S, row: usize, classes: Range<usize>, to: &mut [f64]) {
        with_dtype!(floats &self.values, rows => {
            rows.layout.line.runs(row..row + 1, #[inline(always)] |run| {
                if rows.layout.contiguous() {
                    widen_slice(simd, rows.classes_of(run.offset, classes.clone()), to);
                } else {
                    for (to, class) in to.iter_mut().zip(classes.clone()) {
                        *to = rows.get(run.offset, class).to_f64();
                    }
                }
            });
        });
    }

    /// The probabilities of the rows of `range`, at most a tile of short ones, packed as logits are.
    #[simd]
    pub(crate) fn pack<S: Simd>(&self, simd: S, range: Range<usize>, packed: &mut [f64]) {
        with_dtype!(floats &self.values, rows => pack(simd, rows, range, packed));
    }
}

/// The classes of the rows of `range` as `f64`, packed.
#[inline(always)]
fn pack<S: Simd, P: Element>(simd: S, rows: &Rows<'_, P>, range: Range<usize>, packed: &mut [f64]) {
    // Rows that are transposed together: as many as a vector of f64 has lanes.
    const ROWS: usize = 8;
    let classes = rows.layout.classes;
    if rows.layout.contiguous() && classes > 1 {
        let (mut wide, mut last) = ([0.0; ROWS * SHORT_ROW], [0.0; last_rows::<f64>(SHORT_ROW)]);
        let (mut offsets, mut max) = ([0; TILE], [0.0; TILE]);
        let len = range.len();
        locate(&rows.layout, range, &mut offsets);
        for (i, offsets) in offsets[..len].chunks(ROWS).enumerate() {
            let wide = &mut wide[..offsets.len() * classes];
            for (row, offset) in wide.chunks_exact_mut(classes).zip(offsets) {
                widen_slice(simd, rows.classes_of(*offset, 0..classes), row);
            }
            pack_rows(simd, wide, classes, packed, i * ROWS, &mut last, &mut max);
        }
        return;
    }
    let mut first = 0;
    rows.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            for (class, to) in packed.chunks_exact_mut(TILE).enumerate() {
                let to = &mut to[first..first + run.len];
                if run.stride == 1 {
                    widen_slice(simd, rows.rows_of(run, class), to);
                } else {
                    for (i, to) in to.iter_mut().enumerate() {
                        *to = rows.get(run.offset + i as isize * run.stride, class).to_f64();
                    }
                }
            }
            first += run.len;
        },
    );
}
