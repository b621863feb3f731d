//! Losses of single elements, with or without their gradients.

use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::array::{self, Array, Float, with_dtype};
use super::result::{Output, Outputs};
use super::{call, hints, result};
use crate::array::any::Numbers;
use crate::loss::misuse::begins_with_a_positive;
use crate::loss::pointwise::{ElementLoss, Elementwise, Input, Upstream, loss_shape};
use crate::{Error, Total};

functions! { binary_cross_entropy binary_cross_entropy_and_grad binary_cross_entropy_with_logits binary_cross_entropy_with_logits_and_grad gaussian_nll_loss kl_div kl_div_and_grad poisson_nll_loss sigmoid_focal_loss sigmoid_focal_loss_and_grad }

/// `reduction=` of a loss of elements.
#[derive(Clone, Copy, PartialEq)]
enum Reduce {
    None,
    Mean,
    Sum,
    /// The sum divided by the length of the first dimension.
    BatchMean,
}

impl Reduce {
    fn new(object: &Bound<'_, PyAny>, batch_mean: bool) -> PyResult<Self> {
        let expected =
            if batch_mean { "'none', 'mean', 'sum' or 'batchmean'" } else { "'none', 'mean' or 'sum'" };
        match &*call::reduction_name(object, expected)? {
            "none" => Ok(Reduce::None),
            "mean" => Ok(Reduce::Mean),
            "sum" => Ok(Reduce::Sum),
            "batchmean" if batch_mean => Ok(Reduce::BatchMean),
            other => Err(call::unknown_reduction(other, expected)),
        }
    }

    /// What the sum of `count` losses of an input is divided by.
    fn divisor(self, count: usize, input: &[usize]) -> f64 {
        match self {
            Reduce::None | Reduce::Sum => 1.0,
            Reduce::Mean => count as f64,
            Reduce::BatchMean => input.first().map_or(1.0, |n| *n as f64),
        }
    }
}

/// The arguments that all losses of elements have in common.
struct ElementCall<'a, 'py> {
    input: &'a Bound<'py, PyAny>,
    target: &'a Bound<'py, PyAny>,
    weight: Option<&'a Bound<'py, PyAny>>,
    /// Whether the target has the input's shape; else they are broadcast to each other.
    same_shapes: bool,
    /// Weight of positives or variances, with its name.
    third: Option<(&'static str, &'a Bound<'py, PyAny>)>,
    reduction: Reduce,
    dtype: Option<&'a Bound<'py, PyAny>>,
    out: Option<&'a Bound<'py, PyAny>>,
}

/// `grad_output` and `grad_out`.
#[derive(Clone, Copy)]
struct GradientCall<'a, 'py> {
    upstream: Option<&'a Bound<'py, PyAny>>,
    out: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> ElementCall<'_, 'py> {
    /// The loss, reduced or not; `loss` gets the third argument.
    fn run(
        &self,
        loss: impl for<'n> Fn(Option<Numbers<'n>>) -> ElementLoss<'n>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.run_both(loss, None).map(|(loss, _)| loss)
    }

    /// The loss, reduced or not, and its gradient; `loss` gets the third argument.
    fn run_with_gradient(
        &self,
        loss: impl for<'n> Fn(Option<Numbers<'n>>) -> ElementLoss<'n>,
        upstream: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (loss, gradient) = self.run_both(loss, Some(GradientCall { upstream, out }))?;
        Ok((loss, gradient.expect("a gradient was requested")))
    }

    fn run_both(
        &self,
        loss: impl for<'n> Fn(Option<Numbers<'n>>) -> ElementLoss<'n>,
        wanted: Option<GradientCall<'_, 'py>>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let py = self.input.py();
        let scalar = self.reduction != Reduce::None;
        if scalar && self.out.is_some() {
            return Err(PyValueError::new_err(
                "out receives the losses of the elements only: got a reduction to one number, expected reduction='none'",
            ));
        }
        let input = array::array(self.input, "input")?;
        array::floats(&input, "input").map_err(|error| {
            // The arguments of binary losses differ in kind: other losses take floating numbers for both.
            let target = array::array(self.target, "target").ok().filter(|_| self.same_shapes);
            target.and_then(|target| hints::swapped(&input, "input", &target)).unwrap_or(error)
        })?;
        let target = array::numbers(self.target, "target", true)?;
        let weight = self.weight.map(|weight| array::numbers(weight, "weight", true)).transpose()?;
        let third = self.third.map(|(name, third)| array::numbers(third, name, true)).transpose()?;
        let upstream = wanted.and_then(|gradient| gradient.upstream);
        let upstream = upstream.map(|upstream| array::numbers(upstream, "grad_output", false)).transpose()?;
        let input_dtype = array::float_dtype(&input).unwrap_or(Float::F32);
        let dtype = result::loss_dtype(self.dtype, input_dtype)?;
        let mut shape = loss_shape(self.same_shapes, input.shape(), target.shape())?;
        if wanted.is_some() {
            // The input is not repeated then, and a larger target is refused.
            shape = input.shape().to_vec();
        }
        let divisor = self.reduction.divisor(shape.iter().product(), input.shape());
        if let Some(upstream) = &upstream
            && upstream.ndim() > 0
            && (scalar || upstream.shape() != shape)
        {
            return Err(PyValueError::new_err(format!(
                "grad_output has the wrong shape: got {}, expected a number{}",
                array::shape_text(upstream),
                if scalar { "" } else { ", or the shape of the losses" }
            )));
        }
        let losses = if scalar { None } else { Some(Output::new(py, self.out, "out", &shape, dtype)?) };
        let gradient = match wanted {
            Some(gradient) => Some(Output::new(py, gradient.out, "grad_out", &shape, input_dtype)?),
            None => None,
        };
        let outputs = Outputs::new(losses.as_ref(), gradient.as_ref())?;
        let overwritten = outputs.overwrite(&input);
        let apart = |array: Array<'py>| outputs.apart(array);
        let input = if overwritten { input } else { apart(input)? };
        let target = apart(target)?;
        let (weight, third) = (weight.map(apart).transpose()?, third.map(apart).transpose()?);
        let upstream = upstream.map(apart).transpose()?;

        let upstream = match &upstream {
            None => Upstream::Constant(1.0 / divisor),
            Some(number) if number.ndim() == 0 => {
                Upstream::Constant(number.call_method0("item")?.extract::<f64>()? / divisor)
            }
            Some(each) => Upstream::Each(array::target(each)?),
        };
        // SAFETY: all arguments are apart from them, but for an input that is overwritten, which is not read as itself.
        let (to, losses_view) = unsafe {
            (gradient.as_ref().map(|to| to.floats_mut()), losses.as_ref().map(|to| to.floats_mut()))
        };
        let input_view = match to {
            None => Input::Alone(array::target(&input)?),
            Some(to) if overwritten => Input::Overwritten(to, upstream),
            Some(to) => Input::WithGradient(array::target(&input)?, to, upstream),
        };
        let target_view = array::target(&target)?;
        let weight = weight.as_ref().map(array::target).transpose()?;
        let loss = loss(third.as_ref().map(array::target).transpose()?);
        let total: Total = call::run(py, shape.iter().product(), |context| -> Result<Total, Error> {
            Elementwise { loss, weight }.run(input_view, &target_view, losses_view, context)
        })?;
        if divisor == 0.0 {
            call::warn_nothing_counted(py, 0)?;
        }
        let loss = match losses {
            Some(losses) => losses.into_result()?,
            None => result::scalar(py, total.sum / divisor, dtype)?,
        };
        let gradient = gradient.map(Output::into_array);
        Ok((loss, gradient))
    }
}

/// Binary cross-entropy of probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, weight, reduction, clamp, dtype, out, /))]
pub(super) fn binary_cross_entropy<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    reduction: &Bound<'py, PyAny>,
    clamp: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let clamp = clamp.map(|clamp| call::number(clamp, "clamp")).transpose()?;
    ElementCall {
        input,
        target,
        weight,
        same_shapes: true,
        third: None,
        reduction: Reduce::new(reduction, false)?,
        dtype,
        out,
    }
    .run(|_| ElementLoss::BinaryCrossEntropy { clamp })
}

/// Binary cross-entropy of probabilities, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, weight, reduction, clamp, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn binary_cross_entropy_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    reduction: &Bound<'py, PyAny>,
    clamp: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let clamp = clamp.map(|clamp| call::number(clamp, "clamp")).transpose()?;
    ElementCall {
        input,
        target,
        weight,
        same_shapes: true,
        third: None,
        reduction: Reduce::new(reduction, false)?,
        dtype,
        out,
    }
    .run_with_gradient(|_| ElementLoss::BinaryCrossEntropy { clamp }, grad_output, grad_out)
}

/// Binary cross-entropy of logits.
#[pyfunction]
#[pyo3(signature = (input, target, weight, pos_weight, reduction, dtype, out, /))]
pub(super) fn binary_cross_entropy_with_logits<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    pos_weight: Option<&Bound<'py, PyAny>>,
    reduction: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    ElementCall {
        input,
        target,
        weight,
        same_shapes: true,
        third: pos_weight.map(|pos| ("pos_weight", pos)),
        reduction: Reduce::new(reduction, false)?,
        dtype,
        out,
    }
    .run(|pos_weight| ElementLoss::BinaryCrossEntropyWithLogits { pos_weight })
}

/// Binary cross-entropy of logits, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, weight, pos_weight, reduction, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn binary_cross_entropy_with_logits_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    pos_weight: Option<&Bound<'py, PyAny>>,
    reduction: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    ElementCall {
        input,
        target,
        weight,
        same_shapes: true,
        third: pos_weight.map(|pos| ("pos_weight", pos)),
        reduction: Reduce::new(reduction, false)?,
        dtype,
        out,
    }
    .run_with_gradient(
        |pos_weight| ElementLoss::BinaryCrossEntropyWithLogits { pos_weight },
        grad_output,
        grad_out,
    )
}

/// Warns of a likely mistake where log-probabilities begin with a positive number.
fn warn_of_positive(object: &Bound<'_, PyAny>, name: &str, fix: &str) -> PyResult<()> {
    let array = array::array(object, name)?;
    let Some(_) = array::float_dtype(&array) else { return Ok(()) };
    if with_dtype!(floats &array::floats(&array, name)?, view => begins_with_a_positive(view)) {
        let text = format!(
            "{name} holds positive numbers, and kl_div takes log-probabilities, which have none: {fix}"
        );
        call::warn_of_mistake(object.py(), &text)?;
    }
    Ok(())
}

/// Kullback-Leibler divergence of log-probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, reduction, log_target, dtype, out, /))]
pub(super) fn kl_div<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    log_target: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let log_target = call::flag(log_target, "log_target")?;
    warn_of_positive(input, "input", "use log_softmax of logits, or the logarithm of probabilities")?;
    if log_target {
        warn_of_positive(target, "target", "leave log_target out for probabilities")?;
    }
    ElementCall {
        input,
        target,
        weight: None,
        same_shapes: false,
        third: None,
        reduction: Reduce::new(reduction, true)?,
        dtype,
        out,
    }
    .run(|_| ElementLoss::KlDivergence { log_target })
}

/// Kullback-Leibler divergence of log-probabilities, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, reduction, log_target, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn kl_div_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    log_target: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let log_target = call::flag(log_target, "log_target")?;
    warn_of_positive(input, "input", "use log_softmax of logits, or the logarithm of probabilities")?;
    if log_target {
        warn_of_positive(target, "target", "leave log_target out for probabilities")?;
    }
    ElementCall {
        input,
        target,
        weight: None,
        same_shapes: false,
        third: None,
        reduction: Reduce::new(reduction, true)?,
        dtype,
        out,
    }
    .run_with_gradient(|_| ElementLoss::KlDivergence { log_target }, grad_output, grad_out)
}

/// Gaussian negative log-likelihood.
#[pyfunction]
#[pyo3(signature = (input, target, var, full, eps, reduction, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn gaussian_nll_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    var: &Bound<'py, PyAny>,
    full: &Bound<'py, PyAny>,
    eps: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (full, eps) = (call::flag(full, "full")?, call::number(eps, "eps")?);
    ElementCall {
        input,
        target,
        weight: None,
        same_shapes: false,
        third: Some(("var", var)),
        reduction: Reduce::new(reduction, false)?,
        dtype,
        out,
    }
    .run(|var: Option<_>| ElementLoss::GaussianNll { var: var.expect("it is given"), full, eps })
}

/// Poisson negative log-likelihood.
#[pyfunction]
#[pyo3(signature = (input, target, log_input, full, eps, reduction, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn poisson_nll_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    log_input: &Bound<'py, PyAny>,
    full: &Bound<'py, PyAny>,
    eps: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (log_input, full) = (call::flag(log_input, "log_input")?, call::flag(full, "full")?);
    let eps = call::number(eps, "eps")?;
    ElementCall {
        input,
        target,
        weight: None,
        same_shapes: false,
        third: None,
        reduction: Reduce::new(reduction, false)?,
        dtype,
        out,
    }
    .run(|_| ElementLoss::PoissonNll { log_input, full, eps })
}

/// `alpha=` of the focal loss of logits: -1 stands for none, as in torchvision.
fn alpha_of(object: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    Ok(Some(call::number(object, "alpha")?).filter(|alpha| *alpha != -1.0))
}

/// Focal loss of logits.
#[pyfunction]
#[pyo3(signature = (input, target, alpha, gamma, reduction, dtype, out, /))]
pub(super) fn sigmoid_focal_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    gamma: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (alpha, gamma) = (alpha_of(alpha)?, call::number(gamma, "gamma")?);
    let reduction = Reduce::new(reduction, false)?;
    ElementCall { input, target, weight: None, same_shapes: true, third: None, reduction, dtype, out }
        .run(|_| ElementLoss::SigmoidFocal { alpha, gamma })
}

/// Focal loss of logits, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, alpha, gamma, reduction, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "torchvision's")]
pub(super) fn sigmoid_focal_loss_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    gamma: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (alpha, gamma) = (alpha_of(alpha)?, call::number(gamma, "gamma")?);
    let reduction = Reduce::new(reduction, false)?;
    ElementCall { input, target, weight: None, same_shapes: true, third: None, reduction, dtype, out }
        .run_with_gradient(|_| ElementLoss::SigmoidFocal { alpha, gamma }, grad_output, grad_out)
}
