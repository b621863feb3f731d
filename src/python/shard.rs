//! The sums of a vocabulary's shard, and the gradient of one from merged sums.

use std::borrow::Borrow;

use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::array::{self, Array, Axis, Float, with_dtype};
use super::call;
use super::result::{Output, Outputs};
use crate::array::any::{Any, Floats, FloatsMut, Integers};
use crate::array::rows::{View, class_axis, row_shape};
use crate::kernel::element::Element;
use crate::loss::shard::{self, Merged, ShardSums};

functions! { shard_gradient shard_merge shard_sums }

/// The largest logit of each row, and the sum of the exponentials of the others relative to it, as float64.
#[pyfunction]
#[pyo3(signature = (logits, axis, name, /))]
pub(super) fn shard_sums<'py>(
    logits: &Bound<'py, PyAny>,
    axis: Axis,
    name: &str,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = logits.py();
    let logits = array::array(logits, name)?;
    let shape = row_shape(logits.shape(), class_axis(logits.ndim(), Some(axis.0))?);
    let (max, rest) = with_dtype!(floats &array::floats(&logits, name)?, view => {
        call::run(py, array::work(&logits), |context| shard::sums_of(view, axis.0, context))?
    });
    Ok((column(py, &shape, max)?, column(py, &shape, rest)?))
}

/// The sums of the classes of two shards. All arrays have the shape of the rows.
#[pyfunction]
#[pyo3(signature = (max, rest, other_max, other_rest, /))]
pub(super) fn shard_merge<'py>(
    max: &Bound<'py, PyAny>,
    rest: &Bound<'py, PyAny>,
    other_max: &Bound<'py, PyAny>,
    other_rest: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = max.py();
    let sums = |max, rest| {
        let (max, rest) = (array::array(max, "max")?, array::array(rest, "rest")?);
        Ok::<_, PyErr>(ShardSums { max: double(&max)?.to_owned(), rest: double(&rest)?.to_owned() })
    };
    let (ours, theirs) = (sums(max, rest)?, sums(other_max, other_rest)?);
    let merged = call::run(py, ours.max.len(), |_| ours.merge(&theirs))?;
    let shape = merged.max.shape();
    Ok((column(py, shape, &merged.max)?, column(py, shape, &merged.rest)?))
}

/// A new array of one number for each row, in C order.
fn column<'py>(
    py: Python<'py>,
    shape: &[usize],
    numbers: impl IntoIterator<Item = impl Borrow<f64>>,
) -> PyResult<Bound<'py, PyAny>> {
    let out = Output::new(py, None, "out", shape, Float::F64)?;
    // SAFETY: the array is new.
    if let FloatsMut(Floats::F64(mut to)) = unsafe { out.floats_mut() } {
        to.iter_mut().zip(numbers).for_each(|(to, number)| *to = *number.borrow());
    }
    Ok(out.into_array())
}

/// The gradient of a shard, of the shape and dtype of its logits. The other arrays have the shape of the rows, and are of
/// float64, but for the targets, which are int64.
#[pyfunction]
#[pyo3(signature = (logits, axis, max, rest, scale, target, grad_out, /))]
pub(super) fn shard_gradient<'py>(
    logits: &Bound<'py, PyAny>,
    axis: Axis,
    max: &Bound<'py, PyAny>,
    rest: &Bound<'py, PyAny>,
    scale: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = logits.py();
    let logits = array::array(logits, "logits_shard")?;
    array::floats(&logits, "logits_shard")?;
    let float = array::float_dtype(&logits).unwrap_or(Float::F32);
    let gradient = Output::new(py, grad_out, "grad_out", logits.shape(), float)?;
    let outputs = Outputs::new(None, Some(&gradient))?;
    let in_place = outputs.overwrite(&logits);
    let logits = if in_place { logits } else { outputs.apart(logits)? };
    let column = |column| outputs.apart(array::array(column, "merged")?);
    let (max, rest, scale) = (column(max)?, column(rest)?, column(scale)?);
    let target = column(target)?;
    let Any::Integers(Integers::I64(target)) = array::target(&target)?.0 else {
        return Err(PyTypeError::new_err(format!("the targets must be int64: got {}", target.dtype())));
    };
    let (max, rest, scale) = (double(&max)?, double(&rest)?, double(&scale)?);
    let merged = Merged { max: &max, rest: &rest, scale: &scale, class: &target };
    with_dtype!(floats &array::floats(&logits, "logits_shard")?, view => {
        // SAFETY: the gradient has the input's dtype, and all arguments are apart from it, but for logits in the
        // gradient's place, which are not read as themselves.
        unsafe { written(view, in_place, axis.0, &merged, &gradient, py) }
    })?;
    Ok(gradient.into_array())
}

/// A view of float64.
fn double<'a>(array: &'a Array<'_>) -> PyResult<View<'a, f64>> {
    match array::floats(array, "merged")? {
        Floats::F64(view) => Ok(view),
        _ => Err(PyTypeError::new_err(format!("merged must be float64: got {}", array.dtype()))),
    }
}

/// # Safety
/// As for [`Output::view_mut`].
unsafe fn written<E: Element>(
    logits: &View<'_, E>,
    in_place: bool,
    axis: isize,
    merged: &Merged<'_>,
    gradient: &Output<'_>,
    py: Python<'_>,
) -> PyResult<()> {
    // SAFETY: see above.
    let to = unsafe { gradient.view_mut::<E>() };
    let (size, untouched) = (to.len().max(merged.max.len()), gradient.untouched);
    call::run(py, size, move |context| {
        let context = crate::Context { untouched, ..context };
        shard::gradient_of((!in_place).then_some(logits), axis, merged, to, context)
    })
}
