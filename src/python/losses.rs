//! Losses of rows, with or without their gradients.

use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::array::{self, Array, Axis, Float, with_dtype};
use super::result::{Output, Outputs};
use super::{call, hints, result};
use crate::array::any::FloatViews;
use crate::array::rows::View;
use crate::kernel::element::Element;
use crate::loss::class_loss::{each_row_and_gradient_of, total_and_gradient_of};
use crate::loss::cross_entropy::LogitsLoss;
use crate::options::Reduction;
use crate::targets::Target;
use crate::{Call, ClassLoss, Context, CrossEntropy, NllLoss, TargetFunction, TargetLoss, Total};

functions! { cross_entropy cross_entropy_and_grad focal_loss focal_loss_and_grad nll_loss nll_loss_and_grad poly_loss poly_loss_and_grad }

/// `reduction=`: one number, or (`None`) one for each row.
pub(super) struct Reduce(Option<Reduction>);

impl<'py> FromPyObject<'_, 'py> for Reduce {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let expected = "'none', 'mean' or 'sum'";
        match &*call::reduction_name(&object, expected)? {
            "mean" => Ok(Reduce(Some(Reduction::Mean))),
            "sum" => Ok(Reduce(Some(Reduction::Sum))),
            "none" => Ok(Reduce(None)),
            other => Err(call::unknown_reduction(other, expected)),
        }
    }
}

/// The error for an `out` that a sum or a mean would not fill.
pub(super) fn out_of_a_reduction() -> PyErr {
    PyValueError::new_err(
        "out receives per-row losses only: got reduction 'mean' or 'sum', expected reduction='none'",
    )
}

/// The arguments that the losses of rows have in common. It turns them into views, and the losses into a reduction or
/// an array.
struct LossCall<'a, 'py> {
    input: &'a Bound<'py, PyAny>,
    target: &'a Bound<'py, PyAny>,
    mask: Option<&'a Bound<'py, PyAny>>,
    reduction: Option<Reduction>,
    dtype: Option<&'a Bound<'py, PyAny>>,
    out: Option<&'a Bound<'py, PyAny>>,
}

/// The arrays of a call, read in place.
struct Arrays<'py> {
    input: Array<'py>,
    target: Array<'py>,
    mask: Option<Array<'py>>,
    /// The loss's dtype.
    dtype: Float,
}

/// Views of the arrays of a call.
struct Views<'a> {
    logits: FloatViews<'a>,
    classes: Target<'a>,
    mask: Option<View<'a, u8>>,
}

impl<'py> Arrays<'py> {
    fn views(&self) -> PyResult<Views<'_>> {
        Ok(Views {
            classes: array::target(&self.target)?,
            logits: array::floats(&self.input, "input")
                .map_err(|error| hints::swapped(&self.input, "input", &self.target).unwrap_or(error))?,
            mask: self.mask.as_ref().map(array::mask_view),
        })
    }

    /// A measure of the work: without classes there are still the targets.
    fn size(&self) -> usize {
        array::work(&self.input)
    }

    /// The shape of the losses.
    fn rows(&self, axis: Option<isize>) -> PyResult<Vec<usize>> {
        let axis = crate::array::rows::class_axis(self.input.ndim(), axis)?;
        Ok(crate::array::rows::row_shape(self.input.shape(), axis))
    }

    /// The arrays, with copies of those that the outputs would overwrite, but for an input that is meant to be
    /// overwritten.
    fn apart(self, outputs: &Outputs<'_, 'py>) -> PyResult<Self> {
        let in_place = outputs.overwrite(&self.input);
        Ok(Arrays {
            input: if in_place { self.input } else { outputs.apart(self.input)? },
            target: outputs.apart(self.target)?,
            mask: self.mask.map(|mask| outputs.apart(mask)).transpose()?,
            dtype: self.dtype,
        })
    }
}

impl<'py> LossCall<'_, 'py> {
    /// The arguments as arrays.
    fn arrays(&self) -> PyResult<Arrays<'py>> {
        if self.reduction.is_some() && self.out.is_some() {
            return Err(out_of_a_reduction());
        }
        let input = array::array(self.input, "input")?;
        let target = array::array(self.target, "target")?;
        let mask = array::mask(self.mask)?;
        let dtype = result::loss_dtype(self.dtype, array::float_dtype(&input).unwrap_or(Float::F32))?;
        Ok(Arrays { input, target, mask, dtype })
    }

    /// Views of the arrays. Warns where the input seems to be something else than what the loss takes.
    fn views<'a>(&self, arrays: &'a Arrays<'py>, loss: &impl ClassLoss) -> PyResult<Views<'a>> {
        let Views { logits, classes, mask } = arrays.views()?;
        let call = Call { mask, context: Context::default() };
        match with_dtype!(floats &logits, view => loss.likely_misuse(view, &classes, &call))? {
            None => Ok(Views { logits, classes, mask: call.mask }),
            // A warning runs Python code, which may free or move the memory.
            Some(mistake) => {
                call::warn_mistake(self.input.py(), mistake)?;
                arrays.views()
            }
        }
    }

    fn run(&self, loss: &impl ClassLoss) -> PyResult<Bound<'py, PyAny>> {
        let py = self.input.py();
        let arrays = self.arrays()?;
        let views = self.views(&arrays, loss)?;
        if let Some(reduction) = self.reduction {
            let Views { logits, classes, mask } = views;
            let total = with_dtype!(floats &logits, view => call::run(py, arrays.size(), |context| {
                loss.total(view, &classes, &Call { mask, context })
            }))?;
            return self.reduced(total, reduction, &arrays);
        }
        let losses = Output::new(py, self.out, "out", &arrays.rows(loss.axis())?, arrays.dtype)?;
        let arrays = arrays.apart(&Outputs::new(Some(&losses), None)?)?;
        let Views { logits, classes, mask } = arrays.views()?;
        // SAFETY: all arguments are apart from it.
        let to = unsafe { losses.floats_mut() };
        with_dtype!(floats &logits, view => call::run(py, arrays.size(), |context| {
            loss.each_row_into(view, &classes, &Call { mask, context }, to)
        }))?;
        losses.into_result()
    }

    /// The loss and its gradient.
    fn run_with_gradient(
        &self,
        loss: &impl ClassLoss,
        upstream: Option<&Bound<'py, PyAny>>,
        grad_out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let py = self.input.py();
        let arrays = self.arrays()?;
        let Views { logits, classes, mask } = self.views(&arrays, loss)?;
        if self.reduction == Some(Reduction::Mean) {
            // Before anything is written: the warning may be an error.
            let none = with_dtype!(floats &logits, view => call::run(py, arrays.size(), |context| {
                loss.nothing_counted(view, &classes, &Call { mask, context })
            }))?;
            if none {
                call::warn_nothing_counted(py, arrays.target.len())?;
            }
        }
        let rows = arrays.rows(loss.axis())?;
        let float = array::float_dtype(&arrays.input).unwrap_or(Float::F32);
        let upstream = self::upstream(py, upstream, if self.reduction.is_none() { &rows } else { &[] })?;
        let gradient = Output::new(py, grad_out, "grad_out", arrays.input.shape(), float)?;
        let losses = match self.reduction {
            None => Some(Output::new(py, self.out, "out", &rows, arrays.dtype)?),
            Some(_) => None,
        };
        let outputs = Outputs::new(losses.as_ref(), Some(&gradient))?;
        let in_place = outputs.overwrite(&arrays.input);
        let upstream = outputs.apart(upstream)?;
        let arrays = arrays.apart(&outputs)?;
        let work = GradientCall {
            reduction: self.reduction,
            in_place,
            upstream: &upstream,
            gradient: &gradient,
            losses: losses.as_ref(),
        };
        let total = with_dtype!(floats array::floats(&arrays.input, "input")?, view => {
            // SAFETY: the gradient has the input's dtype, and all arguments are apart from it and the losses, but for
            // an input in the gradient's place, which is not read as itself.
            unsafe { work.run(loss, view, &arrays) }
        })?;
        let result = match (total, self.reduction, losses) {
            (Some(total), Some(reduction), _) => result::scalar(py, total.reduce(reduction), arrays.dtype)?,
            (_, _, Some(losses)) => losses.into_result()?,
            _ => unreachable!("a loss is reduced or an array"),
        };
        Ok((result, gradient.into_array()))
    }

    /// A sum or a mean as a NumPy scalar.
    fn reduced(
        &self,
        total: Total,
        reduction: Reduction,
        arrays: &Arrays<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.input.py();
        if reduction == Reduction::Mean && total.counted == 0 {
            call::warn_nothing_counted(py, arrays.target.len())?;
        }
        result::scalar(py, total.reduce(reduction), arrays.dtype)
    }
}

/// `grad_output` as float64: one number, or one for each loss where there is a shape of these.
pub(super) fn upstream<'py>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
    losses: &[usize],
) -> PyResult<Array<'py>> {
    let upstream = match given {
        None => result::scalar(py, 1.0, Float::F64)?.call_method0("__array__")?.cast_into()?,
        Some(given) => {
            let upstream = array::numbers(given, "grad_output", false)?;
            let double = Float::F64.descriptor(py)?;
            upstream.call_method1("astype", (double,))?.cast_into::<numpy::PyUntypedArray>()?
        }
    };
    if upstream.ndim() == 0 && !losses.is_empty() {
        let shape = PyTuple::new(py, losses)?;
        return Ok(py.import("numpy")?.call_method1("broadcast_to", (upstream, shape))?.cast_into()?);
    }
    crate::array::rows::check_shape("grad_output", upstream.shape(), losses)?;
    Ok(upstream)
}

/// The arguments of a gradient, besides the loss's arrays.
struct GradientCall<'a, 'py> {
    reduction: Option<Reduction>,
    /// Whether the gradient overwrites the input.
    in_place: bool,
    upstream: &'a Array<'py>,
    gradient: &'a Output<'py>,
    losses: Option<&'a Output<'py>>,
}

impl<'py> GradientCall<'_, 'py> {
    /// Computes the gradient and the losses; returns the sums of a reduced loss.
    ///
    /// # Safety
    /// As for [`Output::view_mut`], for the gradient and the losses; `upstream` holds float64.
    unsafe fn run<E: Element>(
        &self,
        loss: &impl ClassLoss,
        input: View<'_, E>,
        arrays: &Arrays<'py>,
    ) -> PyResult<Option<Total>> {
        // SAFETY: see above.
        let (gradient, upstream, losses) = unsafe {
            (
                self.gradient.view_mut::<E>(),
                array::view::<f64>(self.upstream),
                self.losses.map(|losses| losses.floats_mut()),
            )
        };
        let py = arrays.input.py();
        let classes = array::target(&arrays.target)?;
        let mask = arrays.mask.as_ref().map(array::mask_view);
        let elements = arrays.size();
        let input = (!self.in_place).then_some(input);
        let (reduction, untouched) = (self.reduction, self.gradient.untouched);
        call::run(py, elements, move |context| {
            let call = Call { mask, context: Context { untouched, ..context } };
            match (reduction, losses) {
                (None, Some(losses)) => {
                    let input = input.as_ref();
                    each_row_and_gradient_of(loss, input, &classes, &call, &upstream, gradient, losses)
                        .map(|()| None)
                }
                (reduction, _) => {
                    let upstream = upstream.first().copied().unwrap_or(1.0);
                    let reduction = reduction.unwrap_or(Reduction::Sum);
                    let input = input.as_ref();
                    total_and_gradient_of(loss, input, &classes, &call, reduction, upstream, gradient)
                        .map(Some)
                }
            }
        })
    }
}

/// The options of `cross_entropy`.
fn cross_entropy_options<'w>(
    weight: Option<&'w [f64]>,
    ignore_index: &Bound<'_, PyAny>,
    label_smoothing: &Bound<'_, PyAny>,
    z_loss: &Bound<'_, PyAny>,
    axis: Option<Axis>,
) -> PyResult<LogitsLoss<'w>> {
    let ignore_index = call::ignore_index(ignore_index)?;
    let label_smoothing = call::number(label_smoothing, "label_smoothing")?;
    let z_loss = call::number(z_loss, "z_loss")?;
    Ok(CrossEntropy { weight, ignore_index, label_smoothing, z_loss, axis: axis.map(|axis| axis.0) }.into())
}

/// The options of `nll_loss`.
fn nll_loss_options<'w>(
    weight: Option<&'w [f64]>,
    ignore_index: &Bound<'_, PyAny>,
    axis: Option<Axis>,
) -> PyResult<NllLoss<'w>> {
    let ignore_index = call::ignore_index(ignore_index)?;
    Ok(NllLoss { weight, ignore_index, axis: axis.map(|axis| axis.0) })
}

/// The options of a loss that is a function of the target's probability.
fn target_loss<'w>(
    function: TargetFunction,
    weight: Option<&'w [f64]>,
    ignore_index: &Bound<'_, PyAny>,
    axis: Option<Axis>,
) -> PyResult<LogitsLoss<'w>> {
    let ignore_index = call::ignore_index(ignore_index)?;
    Ok(TargetLoss { function, weight, ignore_index, axis: axis.map(|axis| axis.0) }.into())
}

/// Cross-entropy of logits.
#[pyfunction]
#[pyo3(signature = (input, target, weight, ignore_index, reduction, label_smoothing, z_loss, axis, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn cross_entropy<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    label_smoothing: &Bound<'py, PyAny>,
    z_loss: &Bound<'py, PyAny>,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let weight = array::class_weights(weight)?;
    let loss = cross_entropy_options(weight.as_deref(), ignore_index, label_smoothing, z_loss, axis)?;
    LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out }.run(&loss)
}

/// Cross-entropy of logits, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, weight, ignore_index, reduction, label_smoothing, z_loss, axis, r#where, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn cross_entropy_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    label_smoothing: &Bound<'py, PyAny>,
    z_loss: &Bound<'py, PyAny>,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let weight = array::class_weights(weight)?;
    let loss = cross_entropy_options(weight.as_deref(), ignore_index, label_smoothing, z_loss, axis)?;
    let call = LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out };
    call.run_with_gradient(&loss, grad_output, grad_out)
}

/// Focal loss of logits.
#[pyfunction]
#[pyo3(signature = (input, target, weight, gamma, ignore_index, reduction, axis, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
pub(super) fn focal_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    gamma: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let weight = array::class_weights(weight)?;
    let focal = TargetFunction::Focal { gamma: call::number(gamma, "gamma")? };
    let loss = target_loss(focal, weight.as_deref(), ignore_index, axis)?;
    LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out }.run(&loss)
}

/// Focal loss of logits, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, weight, gamma, ignore_index, reduction, axis, r#where, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
pub(super) fn focal_loss_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    gamma: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let weight = array::class_weights(weight)?;
    let focal = TargetFunction::Focal { gamma: call::number(gamma, "gamma")? };
    let loss = target_loss(focal, weight.as_deref(), ignore_index, axis)?;
    let call = LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out };
    call.run_with_gradient(&loss, grad_output, grad_out)
}

/// Negative log-likelihood of log-probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, weight, ignore_index, reduction, axis, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn nll_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let weight = array::class_weights(weight)?;
    let loss = nll_loss_options(weight.as_deref(), ignore_index, axis)?;
    LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out }.run(&loss)
}

/// Negative log-likelihood of log-probabilities, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, weight, ignore_index, reduction, axis, r#where, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn nll_loss_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let weight = array::class_weights(weight)?;
    let loss = nll_loss_options(weight.as_deref(), ignore_index, axis)?;
    let call = LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out };
    call.run_with_gradient(&loss, grad_output, grad_out)
}

/// Poly loss of logits.
#[pyfunction]
#[pyo3(signature = (input, target, weight, epsilon, ignore_index, reduction, axis, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
pub(super) fn poly_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    epsilon: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let weight = array::class_weights(weight)?;
    let poly = TargetFunction::Poly { epsilon: call::number(epsilon, "epsilon")? };
    let loss = target_loss(poly, weight.as_deref(), ignore_index, axis)?;
    LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out }.run(&loss)
}

/// Poly loss of logits, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, target, weight, epsilon, ignore_index, reduction, axis, r#where, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
pub(super) fn poly_loss_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    epsilon: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let weight = array::class_weights(weight)?;
    let poly = TargetFunction::Poly { epsilon: call::number(epsilon, "epsilon")? };
    let loss = target_loss(poly, weight.as_deref(), ignore_index, axis)?;
    let call = LossCall { input, target, mask: r#where, reduction: reduction.0, dtype, out };
    call.run_with_gradient(&loss, grad_output, grad_out)
}
