//! The public methods of the losses of rows, for arrays of any dimension.

use ndarray::{Array, ArrayRef, Axis, Dimension, RemoveAxis};

use super::gradient::{Gradient, Upstream};
use super::misuse::LikelyMisuse;
use super::walk::{RowLoss, each_row, total};
use super::{Prepare, input_and_gradient};
use crate::array::any::FloatsMut;
use crate::array::new::filled;
use crate::array::rows::{Rows, View, ViewMut, check_shape, class_axis, input_rows};
use crate::error::Error;
use crate::kernel::element::Element;
use crate::options::Reduction;
use crate::sum::reduce::Total;
use crate::targets::{Call, Target};

/// A loss of rows against classes: [`CrossEntropy`](crate::CrossEntropy), [`NllLoss`](crate::NllLoss) and
/// [`TargetLoss`](crate::TargetLoss).
///
/// The input is of shape (C,), (N, C) or (N, C, d1, ..., dk), or has its C classes along another axis. The target holds
/// a class index for each row: it has the input's shape without the class axis, and any integer type. Cross-entropy
/// also takes class probabilities: floating-point numbers of the input's shape. Losses are in nats, and are summed in
/// `f64`.
///
/// The trait is sealed: its methods can be called, but it cannot be implemented.
///
/// # Errors
/// All methods check shapes, options and targets before they write anything; see [`Error`]. An output may have been
/// written to where the call was interrupted.
#[expect(private_bounds, reason = "how rows are walked is private")]
pub trait ClassLoss: Prepare + Sync {
    /// The sum of the losses of all rows, and what a mean divides by.
    ///
    /// ```
    /// use crossent::ndarray::array;
    /// use crossent::{Call, ClassLoss, CrossEntropy, Reduction};
    ///
    /// let logits = array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 1.0]];
    /// let target = array![0_i64, 1, -100]; // -100: leave this row out
    /// let total = CrossEntropy::new().total(&logits, &target, &Call::new())?;
    /// assert_eq!(total.counted, 2);
    /// assert_eq!(format!("{:.6}", total.reduce(Reduction::Mean)), "0.148148");
    /// # Ok::<(), crossent::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    fn total<'t, E: Element, D: Dimension>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
    ) -> Result<Total, Error> {
        total_of(self, &input.view().into_dyn(), &target.into(), call)
    }

    /// The loss of each row, in nats; rows that are left out get 0. It has the shape of the input without its class
    /// axis.
    ///
    /// ```
    /// use crossent::ndarray::array;
    /// use crossent::{Call, ClassLoss, CrossEntropy};
    ///
    /// let logits = array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0]];
    /// let losses = CrossEntropy::new().each_row(&logits, &array![0_usize, 1], &Call::new())?;
    /// assert_eq!(losses.map(|loss| format!("{loss:.6}")), array!["0.241311", "0.054985"]);
    /// # Ok::<(), crossent::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    fn each_row<'t, E: Element, D: RemoveAxis>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
    ) -> Result<Array<f64, D::Smaller>, Error> {
        let axis = class_axis(input.ndim(), self.axis())?;
        let mut losses = filled(input.raw_dim().remove_axis(Axis(axis)), 0.0)?;
        self.each_row_into(input, target, call, &mut losses)?;
        Ok(losses)
    }

    /// The loss of each row, in nats, to an array of any floating-point type that has the shape of the input without
    /// its class axis; rows that are left out get 0.
    ///
    /// # Errors
    /// See [`Error`]; `out` is untouched then, unless the call was interrupted.
    fn each_row_into<'t, 'o, E: Element, D: Dimension>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
        out: impl Into<FloatsMut<'o>>,
    ) -> Result<(), Error> {
        each_row_of(self, &input.view().into_dyn(), &target.into(), call, out.into())
    }

    /// [`Self::total`], and the gradient of its `reduction` with respect to the input, times `upstream`.
    ///
    /// ```
    /// use crossent::ndarray::{Array2, array};
    /// use crossent::{Call, ClassLoss, CrossEntropy, Reduction};
    ///
    /// let logits = array![[0.0_f32, 0.0], [0.0, 0.0]];
    /// let mut gradient = Array2::zeros((2, 2));
    /// let (loss, call) = (CrossEntropy::new(), Call::new());
    /// loss.total_and_gradient(&logits, &array![0_u8, 1], &call, Reduction::Sum, 1.0, &mut gradient)?;
    /// assert_eq!(gradient, array![[-0.5, 0.5], [0.5, -0.5]]);
    /// # Ok::<(), crossent::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`]; `gradient` is untouched then, unless the call was interrupted.
    fn total_and_gradient<'t, E: Element, D: Dimension>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
        reduction: Reduction,
        upstream: f64,
        gradient: &mut ArrayRef<E, D>,
    ) -> Result<Total, Error> {
        let (input, gradient) = (input.view().into_dyn(), gradient.view_mut().into_dyn());
        total_and_gradient_of(self, Some(&input), &target.into(), call, reduction, upstream, gradient)
    }

    /// [`Self::total_and_gradient`], with the gradient written over the input.
    ///
    /// # Errors
    /// See [`Error`]; the input is untouched then, unless the call was interrupted.
    fn total_and_gradient_in_place<'t, E: Element, D: Dimension>(
        &self,
        input: &mut ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
        reduction: Reduction,
        upstream: f64,
    ) -> Result<Total, Error> {
        let input = input.view_mut().into_dyn();
        total_and_gradient_of(self, None, &target.into(), call, reduction, upstream, input)
    }

    /// [`Self::each_row_into`], and the gradient of the losses' sum weighted with `upstream`, which has their shape,
    /// with respect to the input.
    ///
    /// # Errors
    /// See [`Error`]; `gradient` and `out` are untouched then, unless the call was interrupted.
    fn each_row_and_gradient<'t, 'o, E: Element, D: Dimension, R: Dimension>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
        upstream: &ArrayRef<f64, R>,
        gradient: &mut ArrayRef<E, D>,
        out: impl Into<FloatsMut<'o>>,
    ) -> Result<(), Error> {
        let (input, upstream) = (input.view().into_dyn(), upstream.view().into_dyn());
        let gradient = gradient.view_mut().into_dyn();
        each_row_and_gradient_of(self, Some(&input), &target.into(), call, &upstream, gradient, out.into())
    }

    /// [`Self::each_row_and_gradient`], with the gradient written over the input.
    ///
    /// # Errors
    /// See [`Error`]; the input and `out` are untouched then, unless the call was interrupted.
    fn each_row_and_gradient_in_place<'t, 'o, E: Element, D: Dimension, R: Dimension>(
        &self,
        input: &mut ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
        upstream: &ArrayRef<f64, R>,
        out: impl Into<FloatsMut<'o>>,
    ) -> Result<(), Error> {
        let (upstream, input) = (upstream.view().into_dyn(), input.view_mut().into_dyn());
        each_row_and_gradient_of(self, None, &target.into(), call, &upstream, input, out.into())
    }

    /// What the input seems to be instead of what the loss takes: a check of the first rows that count, for callers who
    /// want to warn.
    ///
    /// ```
    /// use crossent::ndarray::array;
    /// use crossent::{Call, ClassLoss, CrossEntropy, LikelyMisuse};
    ///
    /// let probabilities = array![[0.25_f64, 0.75], [0.5, 0.5]];
    /// let found = CrossEntropy::new().likely_misuse(&probabilities, &array![0_i32, 1], &Call::new())?;
    /// assert_eq!(found, Some(LikelyMisuse::Probabilities));
    /// # Ok::<(), crossent::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    fn likely_misuse<'t, E: Element, D: Dimension>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
    ) -> Result<Option<LikelyMisuse>, Error> {
        let (input, target) = (input.view().into_dyn(), target.into());
        Ok(self.work(input_rows(&input, self.axis())?, &target, call)?.likely_misuse())
    }

    /// Whether no row counts, so that a mean is nan.
    ///
    /// # Errors
    /// See [`Error`].
    fn nothing_counted<'t, E: Element, D: Dimension>(
        &self,
        input: &ArrayRef<E, D>,
        target: impl Into<Target<'t>>,
        call: &Call<'_>,
    ) -> Result<bool, Error> {
        let (input, target) = (input.view().into_dyn(), target.into());
        self.work(input_rows(&input, self.axis())?, &target, call)?.nothing_active(call.context)
    }
}

fn total_of<L: Prepare + ?Sized, E: Element>(
    loss: &L,
    input: &View<'_, E>,
    target: &Target<'_>,
    call: &Call<'_>,
) -> Result<Total, Error> {
    total(&loss.work(input_rows(input, loss.axis())?, target, call)?, call.context)
}

fn each_row_of<L: Prepare + ?Sized, E: Element>(
    loss: &L,
    input: &View<'_, E>,
    target: &Target<'_>,
    call: &Call<'_>,
    out: FloatsMut<'_>,
) -> Result<(), Error> {
    let input = input_rows(input, loss.axis())?;
    let rows = input.row_shape();
    each_row(&loss.work(input, target, call)?, &rows, call.context, out)
}

/// [`ClassLoss::total_and_gradient`]. Without an `input`, `gradient` holds it and is overwritten.
pub(crate) fn total_and_gradient_of<L: Prepare + ?Sized, E: Element>(
    loss: &L,
    input: Option<&View<'_, E>>,
    target: &Target<'_>,
    call: &Call<'_>,
    reduction: Reduction,
    upstream: f64,
    mut gradient: ViewMut<'_, E>,
) -> Result<Total, Error> {
    let shape = gradient.shape().to_vec();
    let (input, out) = input_and_gradient(input, &mut gradient, &shape, loss.axis(), call.context)?;
    let mut work = loss.work(input, target, call)?;
    let (divisor, unweighted_divisor) = match reduction {
        Reduction::Sum => {
            work.check(call.context)?;
            (1.0, 1.0)
        }
        Reduction::Mean => (work.divisor(call.context)?, work.unweighted_divisor(call.context)?),
    };
    work.set_gradient(Gradient { out, upstream: Upstream::Same(upstream), divisor, unweighted_divisor });
    total(&work, call.context)
}

/// [`ClassLoss::each_row_and_gradient`]. Without an `input`, `gradient` holds it and is overwritten.
pub(crate) fn each_row_and_gradient_of<L: Prepare + ?Sized, E: Element>(
    loss: &L,
    input: Option<&View<'_, E>>,
    target: &Target<'_>,
    call: &Call<'_>,
    upstream: &View<'_, f64>,
    mut gradient: ViewMut<'_, E>,
    out: FloatsMut<'_>,
) -> Result<(), Error> {
    let shape = gradient.shape().to_vec();
    let (input, to) = input_and_gradient(input, &mut gradient, &shape, loss.axis(), call.context)?;
    let rows = input.row_shape();
    let mut work = loss.work(input, target, call)?;
    check_shape("upstream", upstream.shape(), &rows)?;
    let upstream = Upstream::Each(Rows::new(upstream, None));
    work.set_gradient(Gradient { out: to, upstream, divisor: 1.0, unweighted_divisor: 1.0 });
    each_row(&work, &rows, call.context, out)
}
