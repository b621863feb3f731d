//! Cross-entropy of logits: `-sum_c q_c log softmax(x)_c`.
//!
//! With a class index t, weights w and label smoothing e over C classes, torch's definition is
//!
//! ```text
//! loss = (1 - e) w_t (lse - x_t) + (e / C) sum_c w_c (lse - x_c),      lse = max + log1p(rest)
//! ```
//!
//! and with class probabilities p, q_c = w_c (p_c (1 - e) + e / C),
//!
//! ```text
//! loss = sum_c q_c (lse - x_c).
//! ```
//!
//! `lse` itself is never formed: (max - x) is exact, and `log1p(rest)` is added to it last, so that a
//! loss of 1e-20 has all its digits.

use std::ops::Range;

use fearless_simd::Simd;

use super::mistakes::{self, Mistake};
use super::{RowLoss, TileLosses, each_row, input_rows, total};
use crate::error::{Error, filled};
use crate::kernel::TILE;
use crate::kernel::element::Element;
use crate::options::{ClassWeights, LabelSmoothing, weighted};
use crate::parallel::Context;
use crate::reduce::Total;
use crate::rows::{Rows, View, ViewMut, row_shape};
use crate::targets::{OutOfRange, Target, Targets};
use crate::tiles::{Tiles, WeightedGaps, bits};

/// Cross-entropy and its options; the defaults are torch's.
#[derive(Clone)]
pub struct CrossEntropy<'a> {
    /// One weight for each class.
    pub weight: Option<&'a [f64]>,
    /// The class index of rows to leave out.
    pub ignore_index: i64,
    /// Between 0 and 1: how much of the target is spread evenly over all classes.
    pub label_smoothing: f64,
    /// The class axis; 1 by default, 0 for a one-dimensional input.
    pub axis: Option<isize>,
    /// A mask of the target's rows: 0 leaves a row out.
    pub mask: Option<View<'a, u8>>,
    /// Threads and interrupts.
    pub context: Context<'a>,
}

impl Default for CrossEntropy<'_> {
    fn default() -> Self {
        CrossEntropy {
            weight: None,
            ignore_index: -100,
            label_smoothing: 0.0,
            axis: None,
            mask: None,
            context: Context::default(),
        }
    }
}

impl CrossEntropy<'_> {
    /// What the input seems to be instead of logits, by a look at its first rows.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn likely_mistake<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
    ) -> Result<Option<Mistake>, Error> {
        let work = self.work(input, target)?;
        Ok(mistakes::in_logits(&work.rows, work.targets.first_counted(mistakes::FIRST)))
    }

    /// The sum of the losses of all rows, and what a mean divides by.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn total<E: Element>(&self, input: View<'_, E>, target: &Target<'_>) -> Result<Total, Error> {
        let mut total = total(&self.work(&input, target)?, self.context)?;
        // torch divides the two terms of a smoothed loss one by one, and 0 / 0 in the first decides.
        if self.label_smoothing > 0.0 && total.weight == 0.0 {
            total.weight = f64::NAN;
        }
        Ok(total)
    }

    /// The loss of each row, in nats; ignored rows get 0. `out` has the shape of class indices.
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
        Ok(Work {
            axis,
            weight: ClassWeights::new(self.weight, classes)?,
            smoothing: LabelSmoothing::new(self.label_smoothing)?.get(),
            ones: if self.label_smoothing > 0.0 && self.weight.is_none() {
                filled(classes, 1.0)?
            } else {
                Vec::new()
            },
            targets: Targets::new(target, input.shape(), axis, self.ignore_index, self.mask.as_ref())?,
            rows,
        })
    }
}

/// A checked call.
struct Work<'a, E> {
    rows: Rows<'a, E>,
    axis: usize,
    targets: Targets<'a>,
    weight: ClassWeights<'a>,
    smoothing: f64,
    /// The weights of a smoothed loss that has none.
    ones: Vec<f64>,
}

impl<E: Element> Work<'_, E> {
    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        tiles: &mut Tiles<'_, E>,
        rows: Range<usize>,
        losses: &mut TileLosses,
    ) -> Result<(), OutOfRange> {
        let smoothing = self.smoothing;
        match &self.targets {
            Targets::Indices(labels) => {
                let tile = labels.tile(rows.clone())?;
                losses.begin(tile.counted, self.weight.as_slice().is_some());
                tiles.sum(simd, rows, tile.counted);
                let nll = tiles.nll(&tile.class, tile.counted);
                if smoothing == 0.0 && !losses.weighted {
                    for i in 0..TILE {
                        losses.loss[i] = if tile.counted >> i & 1 == 1 { nll[i] } else { 0.0 };
                    }
                    return Ok(());
                }
                for i in bits(tile.counted) {
                    losses.weight[i] = self.weight.of(tile.class[i]);
                    losses.loss[i] = weighted((1.0 - smoothing) * losses.weight[i], nll[i]);
                }
                if smoothing > 0.0 {
                    let q = self.weight.as_slice().unwrap_or(&self.ones);
                    let spread: f64 = q.iter().sum();
                    let gaps = tiles.gaps(simd, tile.counted, q);
                    let share = smoothing / labels.classes() as f64;
                    for i in bits(tile.counted) {
                        losses.loss[i] += share * (gaps[i] + weighted(spread, tiles.log1p_rest(i)));
                    }
                }
                Ok(())
            }
            Targets::Probabilities(probabilities) => {
                losses.begin(probabilities.counted(rows.clone()), false);
                let first = rows.start;
                tiles.sum(simd, rows, losses.counted);
                let uniform = smoothing / self.rows.layout.classes as f64;
                let WeightedGaps { gaps, totals } = tiles.gaps_of(
                    simd,
                    losses.counted,
                    #[inline(always)]
                    |i, classes, q: &mut [f64]| {
                        probabilities.read(first + i, classes.clone(), q);
                        if smoothing > 0.0 {
                            for q in &mut *q {
                                *q = *q * (1.0 - smoothing) + uniform;
                            }
                        }
                        if let Some(weight) = self.weight.as_slice() {
                            for (q, w) in q.iter_mut().zip(&weight[classes]) {
                                *q *= w;
                            }
                        }
                    },
                );
                for i in bits(losses.counted) {
                    // Without classes there is nothing to sum.
                    if self.rows.layout.classes > 0 {
                        losses.loss[i] = gaps[i] + weighted(totals[i], tiles.log1p_rest(i));
                    }
                }
                Ok(())
            }
        }
    }
}

impl<'a, E: Element> RowLoss for Work<'a, E> {
    type State = (Tiles<'a, E>, TileLosses);

    fn state(&self) -> Self::State {
        (Tiles::new(self.rows.clone()), TileLosses::new())
    }

    fn rows(&self) -> usize {
        self.rows.layout.line.len()
    }

    fn classes(&self) -> usize {
        self.rows.layout.classes
    }

    #[inline(always)]
    fn grain<S: Simd>(
        &self,
        simd: S,
        (tiles, losses): &mut Self::State,
        rows: Range<usize>,
        mut sink: impl FnMut(Range<usize>, &TileLosses),
    ) -> Result<(), OutOfRange> {
        for first in rows.clone().step_by(TILE) {
            let tile = first..(first + TILE).min(rows.end);
            self.tile(simd, tiles, tile.clone(), losses)?;
            sink(tile, losses);
        }
        Ok(())
    }

    fn check(&self, context: Context<'_>) -> Result<(), Error> {
        match &self.targets {
            Targets::Indices(labels) => labels.check(context),
            Targets::Probabilities(_) => Ok(()),
        }
    }

    fn out_of_range(&self) -> Error {
        match &self.targets {
            Targets::Indices(labels) => labels.first_out_of_range(),
            Targets::Probabilities(_) => unreachable!("only class indices can be out of range"),
        }
    }
}
