//! The losses of rows and of single elements, and the walk that the losses of rows share.

pub mod boosting;
pub(crate) mod class_loss;
pub mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod gradient;
pub mod misuse;
pub mod nll_loss;
pub mod pointwise;
pub mod shard;
pub mod target_function;
pub mod target_loss;
pub mod top_k;
pub(crate) mod walk;

use self::walk::RowLoss;
use crate::array::rows::{Input, Rows, RowsMut, View, ViewMut, check_shape, class_axis};
use crate::error::Error;
use crate::kernel::element::Element;
use crate::parallel::Context;
use crate::targets::{Call, Target};

/// A loss of rows that can check its arguments and prepare the walk over its rows.
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

/// The rows of the input and of the gradient. Without an input the gradient's array holds it, and is overwritten.
fn input_and_gradient<'a, E: Element>(
    input: Option<&'a View<'_, E>>,
    gradient: &'a mut ViewMut<'_, E>,
    shape: &'a [usize],
    axis: Option<isize>,
    context: Context<'_>,
) -> Result<(Input<'a, E>, RowsMut<'a, E>), Error> {
    if let Some(input) = input {
        check_shape("gradient", shape, input.shape())?;
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
