//! The losses that are a function of the probability of the target.

use super::Prepare;
use super::class_loss::ClassLoss;
use super::cross_entropy::LogitsLoss;
use super::target_function::TargetFunction;
use super::walk::RowLoss;
use crate::array::rows::Input;
use crate::error::Error;
use crate::kernel::element::Element;
use crate::targets::{Call, Target};

/// A loss that is a function of the probability of the target, and its options; the defaults are those of
/// [`CrossEntropy`](crate::CrossEntropy).
///
/// [`ClassLoss`] has its methods. Targets are class indices.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, ClassLoss, TargetFunction, TargetLoss};
///
/// let loss = TargetLoss::new(TargetFunction::Focal { gamma: 2.0 });
/// let losses = loss.each_row(&array![[2.0_f32, -1.0, 0.5]], &array![0_i64], &Call::new())?;
/// assert_eq!(format!("{:.6}", losses[0]), "0.011093");
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TargetLoss<'a> {
    /// The function.
    pub function: TargetFunction,
    /// One weight for each class.
    pub weight: Option<&'a [f64]>,
    /// The class index of rows to leave out.
    pub ignore_index: i64,
    /// The class axis; 1 by default, 0 for a one-dimensional input.
    pub axis: Option<isize>,
}

impl<'a> TargetLoss<'a> {
    /// The defaults: no weights, and -100 as the class index to ignore.
    #[must_use]
    pub fn new(function: TargetFunction) -> Self {
        TargetLoss { function, weight: None, ignore_index: -100, axis: None }
    }

    /// Sets one weight for each class.
    #[must_use]
    pub fn weight(self, weight: &'a [f64]) -> Self {
        TargetLoss { weight: Some(weight), ..self }
    }

    /// Sets the class index of rows to leave out.
    #[must_use]
    pub fn ignore_index(self, ignore_index: i64) -> Self {
        TargetLoss { ignore_index, ..self }
    }

    /// Sets the class axis, which may count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        TargetLoss { axis: Some(axis), ..self }
    }
}

impl<'a> From<TargetLoss<'a>> for LogitsLoss<'a> {
    fn from(loss: TargetLoss<'a>) -> Self {
        let TargetLoss { function, weight, ignore_index, axis } = loss;
        LogitsLoss { function: Some(function), weight, ignore_index, label_smoothing: 0.0, z_loss: 0.0, axis }
    }
}

impl ClassLoss for TargetLoss<'_> {}

impl Prepare for TargetLoss<'_> {
    fn axis(&self) -> Option<isize> {
        self.axis
    }

    fn work<'w, E: Element>(
        &'w self,
        input: Input<'w, E>,
        target: &'w Target<'_>,
        call: &'w Call<'_>,
    ) -> Result<impl RowLoss<'w, E>, Error> {
        LogitsLoss::from(*self).checked(input, target, call)
    }
}
