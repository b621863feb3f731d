//! The sums of a vocabulary's shard, and the gradient of one from merged sums.

use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;

use super::array::{self, Array, Axis, with_dtype};
use super::call;
use super::result::{Output, Outputs};
use crate::array::any::FloatsMut;
use crate::array::rows::{View, class_axis, row_shape};
use crate::kernel::element::Element;
use crate::loss::shard::{self, Merged};

functions! { shard_gradient shard_sums }

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
        call::run(py, array::work(&logits), |context| shard::shard_sums(view, axis.0, context))?
    });
    let column = |numbers: Vec<f64>| {
        let out = Output::new(py, None, "out", &shape, array::Float::F64)?;
        // SAFETY: the array is new.
        if let FloatsMut(crate::array::any::Floats::F64(mut to)) = unsafe { out.floats_mut() } {
            to.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
        }
        Ok::<_, PyErr>(out.into_array())
    };
    Ok((column(max)?, column(rest)?))
}

/// The gradient of a shard, of the shape and dtype of its logits. All other arrays are new ones of this package: of
/// float64, but for the classes, which are int64.
#[pyfunction]
#[pyo3(signature = (logits, axis, max, rest, scale, target, entry, grad_out, /))]
#[expect(clippy::too_many_arguments, reason = "the columns of the merged sums")]
pub(super) fn shard_gradient<'py>(
    logits: &Bound<'py, PyAny>,
    axis: Axis,
    max: Array<'py>,
    rest: Array<'py>,
    scale: Array<'py>,
    target: Array<'py>,
    entry: Array<'py>,
    grad_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = logits.py();
    let logits = array::array(logits, "logits_shard")?;
    array::floats(&logits, "logits_shard")?;
    let float = array::float_dtype(&logits).unwrap_or(array::Float::F32);
    let gradient = Output::new(py, grad_out, "grad_out", logits.shape(), float)?;
    let outputs = Outputs::new(None, Some(&gradient))?;
    let in_place = outputs.overwrite(&logits);
    let logits = if in_place { logits } else { outputs.apart(logits)? };
    let [max, rest, scale, entry] = [max, rest, scale, entry].map(|column| outputs.apart(column));
    let (max, rest, scale, entry, class) = (max?, rest?, scale?, entry?, outputs.apart(target)?);
    // SAFETY: they are of these dtypes, plain and apart from the gradient.
    unsafe {
        let (max, rest) = (array::view::<f64>(&max), array::view::<f64>(&rest));
        let (scale, entry) = (array::view::<f64>(&scale), array::view::<f64>(&entry));
        let class = array::view::<i64>(&class);
        let merged = Merged { max: &max, rest: &rest, scale: &scale, class: &class, entry: &entry };
        with_dtype!(floats &array::floats(&logits, "logits_shard")?, view => {
            written(view, in_place, axis.0, &merged, &gradient, py)
        })?;
    }
    Ok(gradient.into_array())
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
        shard::shard_gradient((!in_place).then_some(logits), axis, merged, to, context)
    })
}
