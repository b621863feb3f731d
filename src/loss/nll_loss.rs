//! Negative log-likelihood of log-probabilities: `-w_t x_t`. It reads one number of each row.

use std::ops::Range;

use fearless_simd::Simd;

use super::Prepare;
use super::class_loss::ClassLoss;
use super::gradient::Gradient;
use super::misuse::{self, LikelyMisuse};
use super::walk::RowLoss;
use crate::array::rows::Input;
use crate::array::rows::Rows;
use crate::array::rows::locate;
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::element::{Element, RealOf};
use crate::kernel::rowset::bits;
use crate::options::{ClassWeights, weighted_dd};
use crate::parallel::Context;
use crate::sum::reduce::TileLosses;
use crate::targets::{Call, Labels, Target, Targets, TileLabels};
use crate::tile::write_zeros;

/// Negative log-likelihood of log-probabilities, `-w_t x_t`, and its options; the defaults are torch's.
///
/// [`ClassLoss`] has its methods.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, ClassLoss, NllLoss, log_softmax};
///
/// let log_p = log_softmax(&array![[2.0_f64, -1.0, 0.5]], 1)?;
/// let losses = NllLoss::new().each_row(&log_p, &array![2_u8], &Call::new())?;
/// assert_eq!(losses, array![-log_p[[0, 2]]]);
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NllLoss<'a> {
    /// One weight for each class.
    pub weight: Option<&'a [f64]>,
    /// The class index of rows to leave out.
    pub ignore_index: i64,
    /// The class axis; 1 by default, 0 for a one-dimensional input.
    pub axis: Option<isize>,
}

impl Default for NllLoss<'_> {
    fn default() -> Self {
        NllLoss { weight: None, ignore_index: -100, axis: None }
    }
}

impl<'a> NllLoss<'a> {
    /// The defaults: no weights, and -100 as the class index to ignore.
    #[must_use]
    pub fn new() -> Self {
        NllLoss::default()
    }

    /// Sets one weight for each class.
    #[must_use]
    pub fn weight(self, weight: &'a [f64]) -> Self {
        NllLoss { weight: Some(weight), ..self }
    }

    /// Sets the class index of rows to leave out.
    #[must_use]
    pub fn ignore_index(self, ignore_index: i64) -> Self {
        NllLoss { ignore_index, ..self }
    }

    /// Sets the class axis, which may count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        NllLoss { axis: Some(axis), ..self }
    }
}

impl ClassLoss for NllLoss<'_> {}

impl Prepare for NllLoss<'_> {
    fn axis(&self) -> Option<isize> {
        self.axis
    }

    fn work<'w, E: Element>(
        &'w self,
        input: Input<'w, E>,
        target: &'w Target<'_>,
        call: &'w Call<'_>,
    ) -> Result<impl RowLoss<'w, E>, Error> {
        let weight = ClassWeights::new(self.weight, input.shape, input.axis)?;
        if target.is_floating() {
            return Err(target.refused_as_floating("nll_loss", input.shape, input.axis));
        }
        match Targets::new(target, input.shape, input.axis, self.ignore_index, call.mask.as_ref())? {
            Targets::Indices(labels) => Ok(Work { rows: input.rows, labels, weight, gradient: None }),
            Targets::Probabilities(_) => Err(target.refused_as_floating("nll_loss", input.shape, input.axis)),
        }
    }
}

/// A checked call.
struct Work<'a, E> {
    rows: Rows<'a, E>,
    labels: Labels<'a>,
    weight: ClassWeights<'a>,
    gradient: Option<Gradient<'a, E>>,
}

impl<'a, E: Element> RowLoss<'a, E> for Work<'a, E> {
    type State = ();

    fn state(&self) {}

    fn labels(&self) -> Option<&Labels<'a>> {
        Some(&self.labels)
    }

    fn rows(&self) -> usize {
        self.rows.layout.line.len()
    }

    /// One number of each row is read, whatever the number of classes; a gradient is written to all.
    fn classes(&self) -> usize {
        if self.gradient.is_some() { self.rows.layout.classes } else { 1 }
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        _: S,
        (): &mut (),
        rows: Range<usize>,
        labels: &TileLabels,
        losses: &mut TileLosses,
    ) {
        losses.begin_with_zeros::<RealOf<E>>(labels.active, self.weight.as_slice().is_some());
        let mut offsets = [0; TILE];
        locate(&self.rows.layout, rows.clone(), &mut offsets);
        for i in bits(labels.active) {
            let t = labels.class[i];
            losses.weight[i] = self.weight.of(t);
            let (weight, nll) = (losses.weight[i], -self.rows.get(offsets[i], t).to_f64());
            losses.set::<RealOf<E>>(i, weighted_dd::<RealOf<E>>([weight, 0.0], [nll, 0.0]));
        }
        let Some(gradient) = &self.gradient else { return };
        let factor = gradient.factors(rows.clone());
        locate(&gradient.out.layout, rows.clone(), &mut offsets);
        write_zeros(rows, &gradient.out);
        for i in bits(labels.active) {
            let value = E::from_f64(-factor[i] * self.weight.of(labels.class[i]));
            // SAFETY: the rows of a chunk belong to one thread.
            unsafe { gradient.out.set(offsets[i], labels.class[i], value) };
        }
    }

    fn divisor(&self, context: Context<'_>) -> Result<f64, Error> {
        self.labels.divisor::<RealOf<E>>(self.weight, context)
    }

    fn likely_misuse(&self) -> Option<LikelyMisuse> {
        misuse::in_log_probabilities(&self.rows, &self.labels.first_active(misuse::FIRST))
    }

    fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error> {
        self.labels.nothing_active(context)
    }

    fn set_gradient(&mut self, gradient: Gradient<'a, E>) {
        self.gradient = Some(gradient);
    }
}
