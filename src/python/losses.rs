//! Losses and scores.

use numpy::{IntoPyArray, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::array::{self, Array, Axis, Float, Floats, with_floats};
use super::{call, result};
use crate::kernel::element::Element;
use crate::loss::mistakes::Mistake;
use crate::options::Reduction;
use crate::rows::{View, ViewMut};
use crate::targets::Target;
use crate::{Context, CrossEntropy, Error, NllLoss, Total};

/// `reduction=`: one number, or (`None`) one for each row.
pub(super) struct Reduce(Option<Reduction>);

impl<'py> FromPyObject<'_, 'py> for Reduce {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(name) = object.extract::<std::borrow::Cow<'_, str>>() else {
            return Err(PyTypeError::new_err(format!(
                "reduction must be a string: got {}, expected 'none', 'mean' or 'sum'",
                object.get_type()
            )));
        };
        match &*name {
            "mean" => Ok(Reduce(Some(Reduction::Mean))),
            "sum" => Ok(Reduce(Some(Reduction::Sum))),
            "none" => Ok(Reduce(None)),
            other => Err(PyValueError::new_err(format!(
                "{other} is not a valid value for reduction: got '{other}', expected 'none', 'mean' or 'sum'"
            ))),
        }
    }
}

/// What the losses of rows have in common: arguments to views, a reduction or an array as the result.
struct LossCall<'a, 'py> {
    input: &'a Bound<'py, PyAny>,
    target: &'a Bound<'py, PyAny>,
    mask: Option<&'a Bound<'py, PyAny>>,
    axis: Option<isize>,
    reduction: Option<Reduction>,
    dtype: Option<&'a Bound<'py, PyAny>>,
    out: Option<&'a Bound<'py, PyAny>>,
}

/// A loss of rows, with its options but for the mask.
trait Loss: Send + Sync {
    /// What the input seems to be instead of what this loss takes.
    fn likely_mistake<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
    ) -> Result<Option<Mistake>, Error>;

    fn total<E: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        context: Context<'_>,
    ) -> Result<Total, Error>;

    fn each_row<E: Element, O: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        context: Context<'_>,
        out: ViewMut<'_, O>,
    ) -> Result<(), Error>;
}

impl<'py> LossCall<'_, 'py> {
    fn run(&self, loss: &impl Loss) -> PyResult<Bound<'py, PyAny>> {
        let py = self.input.py();
        if self.reduction.is_some() && self.out.is_some() {
            return Err(PyValueError::new_err(
                "out receives per-row losses only: got reduction 'mean' or 'sum', expected reduction='none'",
            ));
        }
        let input = array::array(self.input, "input")?;
        let target = array::array(self.target, "target")?;
        let mask = array::mask(self.mask)?;
        // What runs Python code comes before the views: that code might give the memory away.
        let dtype = result::loss_dtype(self.dtype, array::float_dtype(&input).unwrap_or(Float::F32))?;
        let logits = array::floats(&input, "input")?;
        let classes = array::target(&target)?;
        let counts = || mask.as_ref().map(array::mask_view);
        let mistake = with_floats!(&logits, view => loss.likely_mistake(view, &classes, counts()))?;
        if let Some(reduction) = self.reduction {
            let mask = counts();
            let total = with_floats!(logits, view => {
                call::run(py, input.len(), |context| loss.total(view, &classes, mask, context))
            })?;
            call::warn_mistake(py, mistake)?;
            if reduction == Reduction::Mean && total.counted == 0 {
                call::warn_nothing_counted(py, target.len())?;
            }
            return result::scalar(py, total.reduce(reduction), dtype);
        }
        call::warn_mistake(py, mistake)?;
        let out = result::receiver(py, self.out, &self.row_shape(&input)?, dtype)?;
        let theirs = self.out.map(|_| &out);
        let (input, target) = (array::apart(input, theirs)?, array::apart(target, theirs)?);
        let mask = mask.map(|mask| array::apart(mask, theirs)).transpose()?;
        let (logits, classes) = (array::floats(&input, "input")?, array::target(&target)?);
        let mask = mask.as_ref().map(array::mask_view);
        with_floats!(logits, view => {
            // SAFETY: `out` was checked to be plain, writeable and not to overlap itself or an argument.
            unsafe {
                match dtype {
                    Float::F16 => Self::each_row::<_, half::f16>(py, loss, view, &classes, mask, &out),
                    Float::Bf16 => Self::each_row::<_, half::bf16>(py, loss, view, &classes, mask, &out),
                    Float::F32 => Self::each_row::<_, f32>(py, loss, view, &classes, mask, &out),
                    Float::F64 => Self::each_row::<_, f64>(py, loss, view, &classes, mask, &out),
                }
            }
        })?;
        result::unwrapped(out, self.out)
    }

    /// # Safety
    /// As for [`array::view_mut`].
    unsafe fn each_row<E: Element, O: Element>(
        py: Python<'_>,
        loss: &impl Loss,
        view: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        out: &Array<'_>,
    ) -> PyResult<()> {
        // SAFETY: see above.
        let out = unsafe { array::view_mut::<O>(out) };
        call::run(py, view.len(), |context| loss.each_row(view, target, mask, context, out))
    }

    fn row_shape(&self, input: &Array<'_>) -> PyResult<Vec<usize>> {
        if input.ndim() == 0 {
            return Err(Error::TooFewDimensions.into());
        }
        let axis = self.axis.unwrap_or(isize::from(input.ndim() > 1));
        Ok(crate::rows::row_shape(input.shape(), crate::rows::resolve_axis(axis, input.ndim())?))
    }
}

/// Cross-entropy of logits.
#[pyfunction]
#[pyo3(signature = (input, target, weight, ignore_index, reduction, label_smoothing, axis, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn cross_entropy<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: i64,
    reduction: Reduce,
    label_smoothing: f64,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (weight, axis) = (array::class_weights(weight)?, axis.map(|axis| axis.0));
    let loss = CrossEntropyOptions { weight: weight.as_deref(), ignore_index, label_smoothing, axis };
    LossCall { input, target, mask: r#where, axis, reduction: reduction.0, dtype, out }.run(&loss)
}

struct CrossEntropyOptions<'a> {
    weight: Option<&'a [f64]>,
    ignore_index: i64,
    label_smoothing: f64,
    axis: Option<isize>,
}

impl CrossEntropyOptions<'_> {
    fn with<'s>(&'s self, mask: Option<View<'s, u8>>, context: Context<'s>) -> CrossEntropy<'s> {
        CrossEntropy {
            weight: self.weight,
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing,
            axis: self.axis,
            mask,
            context,
        }
    }
}

impl Loss for CrossEntropyOptions<'_> {
    fn likely_mistake<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
    ) -> Result<Option<Mistake>, Error> {
        self.with(mask, Context::default()).likely_mistake(input, target)
    }

    fn total<E: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        context: Context<'_>,
    ) -> Result<Total, Error> {
        self.with(mask, context).total(input, target)
    }

    fn each_row<E: Element, O: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        context: Context<'_>,
        out: ViewMut<'_, O>,
    ) -> Result<(), Error> {
        self.with(mask, context).each_row(input, target, out)
    }
}

/// Negative log-likelihood of log-probabilities.
#[pyfunction]
#[pyo3(signature = (input, target, weight, ignore_index, reduction, axis, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "torch's")]
pub(super) fn nll_loss<'py>(
    input: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: i64,
    reduction: Reduce,
    axis: Option<Axis>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (weight, axis) = (array::class_weights(weight)?, axis.map(|axis| axis.0));
    let loss = NllLossOptions { weight: weight.as_deref(), ignore_index, axis };
    LossCall { input, target, mask: r#where, axis, reduction: reduction.0, dtype, out }.run(&loss)
}

struct NllLossOptions<'a> {
    weight: Option<&'a [f64]>,
    ignore_index: i64,
    axis: Option<isize>,
}

impl NllLossOptions<'_> {
    fn with<'s>(&'s self, mask: Option<View<'s, u8>>, context: Context<'s>) -> NllLoss<'s> {
        NllLoss { weight: self.weight, ignore_index: self.ignore_index, axis: self.axis, mask, context }
    }
}

impl Loss for NllLossOptions<'_> {
    fn likely_mistake<E: Element>(
        &self,
        input: &View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
    ) -> Result<Option<Mistake>, Error> {
        self.with(mask, Context::default()).likely_mistake(input, target)
    }

    fn total<E: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        context: Context<'_>,
    ) -> Result<Total, Error> {
        self.with(mask, context).total(input, target)
    }

    fn each_row<E: Element, O: Element>(
        &self,
        input: View<'_, E>,
        target: &Target<'_>,
        mask: Option<View<'_, u8>>,
        context: Context<'_>,
        out: ViewMut<'_, O>,
    ) -> Result<(), Error> {
        self.with(mask, context).each_row(input, target, out)
    }
}

/// The loss, the prediction and whether it counts, of each row.
#[pyfunction]
#[pyo3(signature = (logits, target, ignore_index, axis, /))]
pub(super) fn score_rows<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    ignore_index: i64,
    axis: Axis,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = logits.py();
    let (logits, target) = (array::array(logits, "logits")?, array::array(target, "target")?);
    let classes = array::target(&target)?;
    let scores = with_floats!(array::floats(&logits, "logits")?, view => {
        call::run(py, logits.len(), |context| crate::score_rows(view, &classes, ignore_index, axis.0, context))
    })?;
    let shape = target.shape().to_vec();
    Ok((
        scores.nll.into_pyarray(py).reshape(shape.clone())?.into_any(),
        scores.prediction.into_pyarray(py).reshape(shape.clone())?.into_any(),
        scores.counted.into_pyarray(py).reshape(shape)?.into_any(),
    ))
}
