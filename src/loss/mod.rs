//! The losses, one file each, and the walk over the rows that they share.

pub mod cross_entropy;
pub(crate) mod gradient;
pub mod misuse;
pub mod nll_loss;
pub mod pointwise;
pub(crate) mod walk;

use self::gradient::{Gradient, Upstream};
use self::misuse::LikelyMisuse;
use self::walk::{RowLoss, each_row, total};
use crate::array::any::FloatsMut;
use crate::array::rows::{Input, Rows, RowsMut, View, ViewMut, check_shape, class_axis, input_rows};
use crate::error::Error;
use crate::kernel::element::Element;
use crate::options::Reduction;
use crate::parallel::Context;
use crate::sum::reduce::Total;
use crate::targets::{Call, Target};

/// A loss of rows against classes: [`CrossEntropy`](cross_entropy::CrossEntropy) and [`NllLoss`](nll_loss::NllLoss).
#[expect(private_bounds, reason = "how rows are walked is internal")]
pub trait ClassLoss: Prepare + Sync {
    /// What the input seems to be instead of what the loss takes, by a look at its first rows.
    ///
    /// # Errors
    /// See [`Error`].
    fn likely_mistake<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        call: &Call<'_>,
    ) -> Result<Option<LikelyMisuse>, Error> {
        Ok(self.work(input_rows(input, self.axis())?, target, call)?.likely_mistake())
    }

    /// Whether no row counts, so that a mean is nan.
    ///
    /// # Errors
    /// See [`Error`].
    fn nothing_counted<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        call: &Call<'_>,
    ) -> Result<bool, Error> {
        self.work(input_rows(input, self.axis())?, target, call)?.nothing_active(call.context)
    }

    /// The sum of the losses of all rows, and what a mean divides by.
    ///
    /// # Errors
    /// See [`Error`].
    fn total<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        call: &Call<'_>,
    ) -> Result<Total, Error> {
        total(&self.work(input_rows(input, self.axis())?, target, call)?, call.context)
    }

    /// The loss of each row, in nats; ignored rows get 0. `out` has the shape of the input without its class axis.
    ///
    /// # Errors
    /// See [`Error`]; `out` is untouched then, unless the call was interrupted.
    fn each_row<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        call: &Call<'_>,
        out: FloatsMut<'_>,
    ) -> Result<(), Error> {
        let input = input_rows(input, self.axis())?;
        let rows = input.row_shape();
        each_row(&self.work(input, target, call)?, &rows, call.context, out)
    }

    /// [`Self::total`], and the gradient of its reduction with respect to the input times `upstream`. Without an `input`,
    /// `gradient` holds it and is overwritten.
    ///
    /// # Errors
    /// See [`Error`]; `gradient` is untouched then, unless the call was interrupted.
    fn total_and_gradient<E: Element>(
        &self,
        input: Option<&View<'_, E>>,
        target: &Target<'_>,
        call: &Call<'_>,
        reduction: Reduction,
        upstream: f64,
        mut gradient: ViewMut<'_, E>,
    ) -> Result<Total, Error> {
        let shape = gradient.shape().to_vec();
        let (input, out) = input_and_gradient(input, &mut gradient, &shape, self.axis(), call.context)?;
        let mut work = self.work(input, target, call)?;
        work.check(call.context)?;
        let divisor = match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => work.divisor(call.context)?,
        };
        work.set_gradient(Gradient { out, upstream: Upstream::Same(upstream), divisor });
        total(&work, call.context)
    }

    /// [`Self::each_row`], and the gradient of the losses' sum weighted with `upstream`, which has their shape, with respect
    /// to the input. Without an `input`, `gradient` holds it and is overwritten.
    ///
    /// # Errors
    /// See [`Error`]; `out` and `gradient` are untouched then, unless the call was interrupted.
    fn each_row_and_gradient<E: Element>(
        &self,
        input: Option<&View<'_, E>>,
        target: &Target<'_>,
        call: &Call<'_>,
        upstream: &View<'_, f64>,
        mut gradient: ViewMut<'_, E>,
        out: FloatsMut<'_>,
    ) -> Result<(), Error> {
        let shape = gradient.shape().to_vec();
        let (input, to) = input_and_gradient(input, &mut gradient, &shape, self.axis(), call.context)?;
        let rows = input.row_shape();
        let mut work = self.work(input, target, call)?;
        check_shape("grad_output", upstream.shape(), &rows)?;
        let upstream = Upstream::Each(Rows::new(upstream, None));
        work.set_gradient(Gradient { out: to, upstream, divisor: 1.0 });
        each_row(&work, &rows, call.context, out)
    }
}

/// How a loss turns its arguments into checked work.
pub(crate) trait Prepare {
    /// The class axis; 1 by default, 0 for a one-dimensional input.
    fn axis(&self) -> Option<isize>;
    /// The arguments, checked.
    fn work<'w, E: Element>(
        &'w self,
        input: Input<'w, E>,
        target: &'w Target<'_>,
        call: &'w Call<'_>,
    ) -> Result<impl RowLoss<'w, E>, Error>;
}

/// The rows of the input, which are those of the gradient where there is no input, and the gradient's.
fn input_and_gradient<'a, E: Element>(
    input: Option<&'a View<'_, E>>,
    gradient: &'a mut ViewMut<'_, E>,
    shape: &'a [usize],
    axis: Option<isize>,
    context: Context<'_>,
) -> Result<(Input<'a, E>, RowsMut<'a, E>), Error> {
    if let Some(input) = input {
        check_shape("grad_out", shape, input.shape())?;
    }
    let axis = class_axis(shape.len(), axis)?;
    let mut out = RowsMut::new(gradient, Some(axis));
    let rows = if let Some(input) = input {
        out = out.streamed(context.untouched);
        Rows::new(input, Some(axis))
    } else {
        // SAFETY: a tile's rows belong to one thread, which reads a block before it writes it.
        unsafe { Rows::of_output(&out) }
    };
    Ok((Input { rows, shape, axis }, out))
}
