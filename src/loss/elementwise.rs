//! The public methods of the losses of single elements, for arrays of any type and dimension.

use ndarray::{ArrayD, IxDyn};

use super::misuse::{LikelyMisuse, begins_with_a_positive};
use super::pointwise::{ElementLoss, Elementwise, Input, Upstream, loss_shape};
use crate::array::any::{Any, FloatsMut, Numbers, with_dtype};
use crate::array::new::filled;
use crate::error::Error;
use crate::options::Reduction;
use crate::parallel::Context;
use crate::sum::reduce::Total;

impl<'a> Elementwise<'a> {
    /// The loss, without weights.
    #[must_use]
    pub fn new(loss: ElementLoss<'a>) -> Self {
        Elementwise { loss, weight: None }
    }

    /// Sets a factor for each element, broadcast to the input's shape.
    #[must_use]
    pub fn weight(self, weight: impl Into<Numbers<'a>>) -> Self {
        Elementwise { weight: Some(weight.into()), ..self }
    }
}

impl Elementwise<'_> {
    /// The sum of the losses and their number.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn total<'x, 't>(
        &self,
        input: impl Into<Numbers<'x>>,
        target: impl Into<Numbers<'t>>,
        context: Context<'_>,
    ) -> Result<Total, Error> {
        self.run(Input::Alone(input.into()), &target.into(), None, context)
    }

    /// The loss of each element, in nats, of the shape that input and target broadcast to.
    ///
    /// ```
    /// use crossent::ndarray::array;
    /// use crossent::{Context, ElementLoss, Elementwise};
    ///
    /// let loss = Elementwise::new(ElementLoss::PoissonNll { log_input: true, full: false, eps: 1e-8 });
    /// let losses = loss.each(&array![0.0_f64, 0.0], &array![[1_i64], [3]], Context::new())?;
    /// assert_eq!(losses, array![[1.0, 1.0], [1.0, 1.0]].into_dyn());
    /// # Ok::<(), crossent::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub fn each<'x, 't>(
        &self,
        input: impl Into<Numbers<'x>>,
        target: impl Into<Numbers<'t>>,
        context: Context<'_>,
    ) -> Result<ArrayD<f64>, Error> {
        let (input, target) = (input.into(), target.into());
        let shape = loss_shape(self.takes_one_shape(), input.shape(), target.shape())?;
        let mut losses = filled(IxDyn(&shape), 0.0)?;
        self.run(Input::Alone(input), &target, Some((&mut losses).into()), context)?;
        Ok(losses)
    }

    /// The loss of each element, in nats, to an array of any floating-point type.
    ///
    /// # Errors
    /// See [`Error`]; `out` is untouched then, unless the call was interrupted.
    pub fn each_into<'x, 't, 'o>(
        &self,
        input: impl Into<Numbers<'x>>,
        target: impl Into<Numbers<'t>>,
        out: impl Into<FloatsMut<'o>>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        self.run(Input::Alone(input.into()), &target.into(), Some(out.into()), context).map(|_| ())
    }

    /// [`Self::total`], and the gradient of its `reduction` with respect to the input, times `upstream`.
    ///
    /// # Errors
    /// See [`Error`]; `gradient` is untouched then, unless the call was interrupted.
    pub fn total_and_gradient<'x, 't, 'g>(
        &self,
        input: impl Into<Numbers<'x>>,
        target: impl Into<Numbers<'t>>,
        reduction: Reduction,
        upstream: f64,
        gradient: impl Into<FloatsMut<'g>>,
        context: Context<'_>,
    ) -> Result<Total, Error> {
        let (input, mut gradient) = (input.into(), gradient.into());
        let upstream = of_reduction(reduction, upstream, input.shape());
        let input = Input::WithGradient((&input).into(), gradient.reborrow(), upstream);
        self.run(input, &target.into(), None, context)
    }

    /// [`Self::total_and_gradient`], with the gradient written over the input.
    ///
    /// # Errors
    /// See [`Error`]; the input is untouched then, unless the call was interrupted.
    pub fn total_and_gradient_in_place<'x, 't>(
        &self,
        input: impl Into<FloatsMut<'x>>,
        target: impl Into<Numbers<'t>>,
        reduction: Reduction,
        upstream: f64,
        context: Context<'_>,
    ) -> Result<Total, Error> {
        let input = input.into();
        let upstream = of_reduction(reduction, upstream, input.shape());
        self.run(Input::Overwritten(input, upstream), &target.into(), None, context)
    }

    /// [`Self::each_into`], and the gradient of the losses' sum weighted with `upstream`, which has their shape, with
    /// respect to the input.
    ///
    /// # Errors
    /// See [`Error`]; `gradient` and `out` are untouched then, unless the call was interrupted.
    pub fn each_and_gradient<'x, 't, 'u, 'g, 'o>(
        &self,
        input: impl Into<Numbers<'x>>,
        target: impl Into<Numbers<'t>>,
        upstream: impl Into<Numbers<'u>>,
        gradient: impl Into<FloatsMut<'g>>,
        out: impl Into<FloatsMut<'o>>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        let (input, mut gradient, upstream) = (input.into(), gradient.into(), upstream.into());
        let upstream = Upstream::Each((&upstream).into());
        let input = Input::WithGradient((&input).into(), gradient.reborrow(), upstream);
        self.run(input, &target.into(), Some(out.into()), context).map(|_| ())
    }

    /// [`Self::each_and_gradient`], with the gradient written over the input.
    ///
    /// # Errors
    /// See [`Error`]; the input and `out` are untouched then, unless the call was interrupted.
    pub fn each_and_gradient_in_place<'x, 't, 'u, 'o>(
        &self,
        input: impl Into<FloatsMut<'x>>,
        target: impl Into<Numbers<'t>>,
        upstream: impl Into<Numbers<'u>>,
        out: impl Into<FloatsMut<'o>>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        let (mut input, upstream) = (input.into(), upstream.into());
        let input = Input::Overwritten(input.reborrow(), Upstream::Each((&upstream).into()));
        self.run(input, &target.into(), Some(out.into()), context).map(|_| ())
    }

    /// What the arguments of a loss that takes log-probabilities seem to be instead: a check of their first elements.
    ///
    /// ```
    /// use crossent::ndarray::array;
    /// use crossent::{ElementLoss, Elementwise, LikelyMisuse};
    ///
    /// let loss = Elementwise::new(ElementLoss::KlDivergence { log_target: false });
    /// let found = loss.likely_misuse(&array![0.5_f32, 0.5], &array![0.5_f32, 0.5]);
    /// assert_eq!(found, Some(LikelyMisuse::PositiveLogProbability));
    /// ```
    #[must_use]
    pub fn likely_misuse<'x, 't>(
        &self,
        input: impl Into<Numbers<'x>>,
        target: impl Into<Numbers<'t>>,
    ) -> Option<LikelyMisuse> {
        let ElementLoss::KlDivergence { log_target } = self.loss else { return None };
        let positive = |numbers: Numbers<'_>| match &numbers.0 {
            Any::Floats(view) => with_dtype!(floats view, view => begins_with_a_positive(view)),
            Any::Integers(_) => false,
        };
        let found = positive(input.into()) || log_target && positive(target.into());
        found.then_some(LikelyMisuse::PositiveLogProbability)
    }
}

/// The upstream gradient of each element's loss, for a reduction over an array of this shape.
fn of_reduction<'a>(reduction: Reduction, upstream: f64, shape: &[usize]) -> Upstream<'a> {
    Upstream::Constant(match reduction {
        Reduction::Sum => upstream,
        Reduction::Mean => upstream / shape.iter().product::<usize>() as f64,
    })
}
