//! The divergence from a teacher of which the largest probabilities are known, with or without its gradient.

use ndarray::arr0;
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::array::{self, Array, Float, with_dtype};
use super::losses::{out_of_a_reduction, upstream};
use super::result::{Output, Outputs};
use super::{call, result};
use crate::array::rows::View;
use crate::kernel::element::Element;
use crate::loss::top_k::{Teacher, losses_and_gradient_of, losses_of};
use crate::sum::compensated::Compensated;
use crate::{Call, Context, Score, TopKTeacher};

functions! { kl_div_topk kl_div_topk_and_grad }

/// `reduction=`: a sum that is divided by the number of rows that count, or not; none for one loss for each row.
#[derive(Clone, Copy, PartialEq)]
enum Reduce {
    None,
    Sum,
    BatchMean,
}

impl Reduce {
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let expected = "'none', 'sum' or 'batchmean'";
        match &*call::reduction_name(object, expected)? {
            "none" => Ok(Reduce::None),
            "sum" => Ok(Reduce::Sum),
            "batchmean" => Ok(Reduce::BatchMean),
            "mean" => Err(PyValueError::new_err(format!(
                "mean is not a valid value for reduction: got 'mean', expected {expected}; the mean over the rows is \
                 'batchmean'"
            ))),
            other => Err(call::unknown_reduction(other, expected)),
        }
    }
}

/// The arguments, read in place.
struct Arrays<'py> {
    input: Array<'py>,
    ids: Array<'py>,
    log_probs: Array<'py>,
    mask: Option<Array<'py>>,
}

impl<'py> Arrays<'py> {
    fn new(
        input: &Bound<'py, PyAny>,
        ids: &Bound<'py, PyAny>,
        log_probs: &Bound<'py, PyAny>,
        mask: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let ids = array::array(ids, "teacher_ids")?;
        if !matches!(ids.dtype().kind(), b'i' | b'u') {
            return Err(PyTypeError::new_err(format!(
                "teacher_ids must hold integers: got dtype {}, expected indices of classes",
                ids.dtype()
            )));
        }
        let log_probs = array::array(log_probs, "teacher_log_probs")?;
        array::floats(&log_probs, "teacher_log_probs")?;
        let input = array::array(input, "input")?;
        if input.ndim() == 0 {
            return Err(PyValueError::new_err(
                "input has no axis of classes: got shape (), expected the classes along the last axis",
            ));
        }
        Ok(Arrays { input, ids, log_probs, mask: array::mask(mask)? })
    }

    fn rows(&self) -> &[usize] {
        &self.input.shape()[..self.input.ndim() - 1]
    }

    /// How many rows the mask leaves in.
    fn active(&self) -> usize {
        match &self.mask {
            Some(mask) => array::mask_view(mask).iter().filter(|x| **x != 0).count(),
            None => self.rows().iter().product(),
        }
    }

    /// What is known of the teacher, checked and copied.
    fn teacher(&self, tail: bool) -> PyResult<Teacher> {
        let (ids, log_probs) = (array::target(&self.ids)?, array::target(&self.log_probs)?);
        let teacher = TopKTeacher::new(ids, log_probs).tail(tail);
        let (shape, mask) = (self.input.shape(), self.mask.as_ref().map(array::mask_view));
        call::run(self.input.py(), array::work(&self.log_probs), |context| {
            Teacher::new(&teacher, shape, &Call { mask, context })
        })
    }

    /// The arrays, with copies of those that the outputs would overwrite, but for an input that is meant to be
    /// overwritten, and for the teacher's, which are no longer read.
    fn apart(self, outputs: &Outputs<'_, 'py>) -> PyResult<Self> {
        let in_place = outputs.overwrite(&self.input);
        Ok(Arrays {
            input: if in_place { self.input } else { outputs.apart(self.input)? },
            mask: self.mask.map(|mask| outputs.apart(mask)).transpose()?,
            ..self
        })
    }
}

/// The arguments of both functions, checked, and the teacher. Warnings are given: each may be an error, and comes first,
/// before anything is written.
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
fn prepared<'py>(
    input: &Bound<'py, PyAny>,
    teacher_ids: &Bound<'py, PyAny>,
    teacher_log_probs: &Bound<'py, PyAny>,
    tail: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Arrays<'py>, Teacher, Returned<'py>)> {
    let (tail, reduction) = (call::flag(tail, "tail")?, Reduce::new(reduction)?);
    let arrays = Arrays::new(input, teacher_ids, teacher_log_probs, r#where)?;
    let returned = Returned::new(&arrays, reduction, dtype, out)?;
    let teacher = arrays.teacher(tail)?;
    let mistake = with_dtype!(floats &array::floats(&arrays.input, "input")?, view => {
        let mask = arrays.mask.as_ref().map(array::mask_view);
        crate::likely_misuse(view, None, &Score::new().axis(-1), &Call { mask, context: Context::default() })?
    });
    if let Some(mistake) = mistake {
        call::warn_mistake(input.py(), mistake)?;
    }
    if reduction == Reduce::BatchMean && returned.active == 0 {
        call::warn_nothing_counted(input.py(), arrays.rows().iter().product())?;
    }
    Ok((arrays, teacher, returned))
}

/// How the losses are returned.
struct Returned<'py> {
    reduction: Reduce,
    /// Rows that count.
    active: usize,
    dtype: Float,
    /// For one loss for each row.
    losses: Option<Output<'py>>,
    py: Python<'py>,
}

impl<'py> Returned<'py> {
    fn new(
        arrays: &Arrays<'py>,
        reduction: Reduce,
        dtype: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let py = arrays.input.py();
        if reduction != Reduce::None && out.is_some() {
            return Err(out_of_a_reduction());
        }
        array::floats(&arrays.input, "input")?;
        let dtype = result::loss_dtype(dtype, array::float_dtype(&arrays.input).unwrap_or(Float::F32))?;
        let losses = match reduction {
            Reduce::None => Some(Output::new(py, out, "out", arrays.rows(), dtype)?),
            _ => None,
        };
        Ok(Returned { reduction, active: arrays.active(), dtype, losses, py })
    }

    /// What a row's loss is divided by.
    fn divisor(&self) -> f64 {
        if self.reduction == Reduce::BatchMean { self.active as f64 } else { 1.0 }
    }

    fn result(self, losses: &[f64]) -> PyResult<Bound<'py, PyAny>> {
        if let Some(out) = self.losses {
            // SAFETY: no view of it is alive, and what was read of the arguments has been read.
            with_dtype!(floats unsafe { out.floats_mut() }.0, mut to => {
                to.iter_mut().zip(losses).for_each(|(to, loss)| *to = Element::from_f64(*loss));
            });
            return out.into_result();
        }
        let mut sum = Compensated::default();
        for loss in losses {
            sum.add(*loss);
        }
        result::scalar(self.py, sum.get() / self.divisor(), self.dtype)
    }
}

/// The divergence of the softmax of logits from a teacher's largest probabilities.
#[pyfunction]
#[pyo3(signature = (input, teacher_ids, teacher_log_probs, tail, reduction, r#where, dtype, out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
pub(super) fn kl_div_topk<'py>(
    input: &Bound<'py, PyAny>,
    teacher_ids: &Bound<'py, PyAny>,
    teacher_log_probs: &Bound<'py, PyAny>,
    tail: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (arrays, teacher, returned) =
        prepared(input, teacher_ids, teacher_log_probs, tail, reduction, r#where, dtype, out)?;
    let arrays = arrays.apart(&Outputs::new(returned.losses.as_ref(), None)?)?;
    let mask = arrays.mask.as_ref().map(array::mask_view);
    let losses = with_dtype!(floats &array::floats(&arrays.input, "input")?, view => {
        call::run(input.py(), array::work(&arrays.input), |context| {
            losses_of(view, &teacher, &Call { mask, context })
        })?
    });
    returned.result(&losses)
}

/// The divergence of the softmax of logits from a teacher's largest probabilities, and its gradient.
#[pyfunction]
#[pyo3(signature = (input, teacher_ids, teacher_log_probs, tail, reduction, r#where, dtype, out, grad_output, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of a loss")]
pub(super) fn kl_div_topk_and_grad<'py>(
    input: &Bound<'py, PyAny>,
    teacher_ids: &Bound<'py, PyAny>,
    teacher_log_probs: &Bound<'py, PyAny>,
    tail: &Bound<'py, PyAny>,
    reduction: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    grad_output: Option<&Bound<'py, PyAny>>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (arrays, teacher, returned) =
        prepared(input, teacher_ids, teacher_log_probs, tail, reduction, r#where, dtype, out)?;
    let (py, each) = (input.py(), returned.reduction == Reduce::None);
    let upstream = upstream(py, grad_output, if each { arrays.rows() } else { &[] })?;
    let float = array::float_dtype(&arrays.input).unwrap_or(Float::F32);
    let gradient = Output::new(py, grad_out, "grad_out", arrays.input.shape(), float)?;
    let outputs = Outputs::new(returned.losses.as_ref(), Some(&gradient))?;
    let in_place = outputs.overwrite(&arrays.input);
    let upstream = outputs.apart(upstream)?;
    let arrays = arrays.apart(&outputs)?;
    let losses = with_dtype!(floats &array::floats(&arrays.input, "input")?, view => {
        // SAFETY: the gradient has the input's dtype, and all arguments are apart from it and the losses, but for an
        // input in the gradient's place, which is not read as itself.
        unsafe { with_gradient(view, &arrays, &teacher, &upstream, &gradient, returned.divisor(), in_place) }
    })?;
    Ok((returned.result(&losses)?, gradient.into_array()))
}

/// The losses of the rows, whose gradient is written.
///
/// # Safety
/// As for [`Output::view_mut`]; `upstream` holds float64.
unsafe fn with_gradient<E: Element>(
    input: &View<'_, E>,
    arrays: &Arrays<'_>,
    teacher: &Teacher,
    upstream: &Array<'_>,
    gradient: &Output<'_>,
    divisor: f64,
    in_place: bool,
) -> PyResult<Vec<f64>> {
    let mask = arrays.mask.as_ref().map(array::mask_view);
    // SAFETY: see above.
    let (to, upstream) = unsafe { (gradient.view_mut::<E>(), array::view::<f64>(upstream)) };
    let factor = arr0(upstream.first().map_or(1.0, |upstream| upstream / divisor));
    let reduced = upstream.ndim() == 0;
    let rows = arrays.rows();
    call::run(arrays.input.py(), array::work(&arrays.input), move |context| {
        let upstream = if reduced { factor.broadcast(rows).unwrap_or(upstream) } else { upstream };
        let input = (!in_place).then_some(input);
        losses_and_gradient_of(input, teacher, &Call { mask, context }, &upstream, to)
    })
}
