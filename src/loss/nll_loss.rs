//! Negative log-likelihood of log-probabilities: `-w_t x_t`. It reads one number of each row.

use std::ops::Range;

use fearless_simd::Simd;

use super::mistakes::{self, Mistake};
use super::{RowLoss, TileLosses, each_row, input_rows, total};
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::element::Element;
use crate::options::{ClassWeights, weighted};
use crate::parallel::Context;
use crate::reduce::Total;
use crate::rows::{Rows, View, ViewMut, row_shape};
use crate::targets::{Labels, OutOfRange, Target, Targets};
use crate::tiles::bits;

/// Negative log-likelihood and its options; the defaults are torch's.
#[derive(Clone)]
pub struct NllLoss<'a> {
    /// One weight for each class.
    pub weight: Option<&'a [f64]>,
    /// The class index of rows to leave out.
    pub ignore_index: i64,
    /// The class axis; 1 by default, 0 for a one-dimensional input.
    pub axis: Option<isize>,
    /// A mask of the target's rows: 0 leaves a row out.
    pub mask: Option<View<'a, u8>>,
    /// Threads and interrupts.
    pub context: Context<'a>,
}

impl Default for NllLoss<'_> {
    fn default() -> Self {
        NllLoss { weight: None, ignore_index: -100, axis: None, mask: None, context: Context::default() }
    }
}

impl NllLoss<'_> {
    /// What the input seems to be instead of log-probabilities, by a look at its first rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn likely_mistake<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
    ) -> Result<Option<Mistake>, Error> {
        let work = self.work(input, target)?;
        Ok(mistakes::in_log_probabilities(&work.rows, work.labels.first_counted(mistakes::FIRST)))
    }

    /// The sum of the losses of all rows, and what a mean divides by.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn total<E: Element>(&self, input: View<'_, E>, target: &Target<'_>) -> Result<Total, Error> {
        total(&self.work(&input, target)?, self.context)
    }

    /// The loss of each row; ignored rows get 0. `out` has the target's shape.
    ///
    /// # Errors
    /// See [`Error`]; `out` is untouched then, unless the call was interrupted.
    pub fn each_row<E: Element, O: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        out: ViewMut<'_, O>,
    ) -> Result<(), Error> {
        let work = self.work(&input, target)?;
        each_row(&work, &row_shape(input.shape(), work.axis), self.context, out)
    }

    fn work<'w, E: Element>(
        &'w self,
        input: &'w View<'_, E>,
        target: &'w Target<'_>,
    ) -> Result<Work<'w, E>, Error> {
        let (rows, axis) = input_rows(input, self.axis)?;
        let classes = rows.layout.classes;
        let weight = ClassWeights::new(self.weight, classes)?;
        if target.is_floating() {
            return Err(Error::ProbabilitiesNotSupported);
        }
        match Targets::new(target, input.shape(), axis, self.ignore_index, self.mask.as_ref())? {
            Targets::Indices(labels) => Ok(Work { rows, axis, labels, weight }),
            Targets::Probabilities(_) => Err(Error::ProbabilitiesNotSupported),
        }
    }
}

/// A checked call.
struct Work<'a, E> {
    rows: Rows<'a, E>,
    axis: usize,
    labels: Labels<'a>,
    weight: ClassWeights<'a>,
}

impl<E: Element> RowLoss for Work<'_, E> {
    type State = TileLosses;

    fn state(&self) -> TileLosses {
        TileLosses::new()
    }

    fn rows(&self) -> usize {
        self.rows.layout.line.len()
    }

    /// One logit of each row is read, whatever the number of classes.
    fn classes(&self) -> usize {
        1
    }

    #[inline(always)]
    fn grain<S: Simd>(
        &self,
        _: S,
        losses: &mut TileLosses,
        rows: Range<usize>,
        mut sink: impl FnMut(Range<usize>, &TileLosses),
    ) -> Result<(), OutOfRange> {
        for first in rows.clone().step_by(TILE) {
            let range = first..(first + TILE).min(rows.end);
            let tile = self.labels.tile(range.clone())?;
            losses.begin(tile.counted, self.weight.as_slice().is_some());
            let mut offsets = [0; TILE];
            crate::tiles::locate(&self.rows.layout, range.clone(), &mut offsets);
            for i in bits(tile.counted) {
                let t = tile.class[i];
                losses.weight[i] = self.weight.of(t);
                losses.loss[i] = weighted(losses.weight[i], -self.rows.get(offsets[i], t).to_f64());
            }
            sink(range, losses);
        }
        Ok(())
    }

    fn check(&self, context: Context<'_>) -> Result<(), Error> {
        self.labels.check(context)
    }

    fn out_of_range(&self) -> Error {
        self.labels.first_out_of_range()
    }
}
