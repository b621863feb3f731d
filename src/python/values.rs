//! Checks of what rows hold before they are scored, and the logarithms of probabilities.

use numpy::{PyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::array::{self, Array, Axis, with_dtype};
use super::{call, score};
use crate::array::rows::row_shape;
use crate::loss::misuse::LikelyMisuse;
use crate::{Call, Context, Improper, LikelyValues, Score};

functions! { active_rows check_targets likely_mistake likely_values log_of_probabilities targets_found }

/// Rows with their targets and mask, if they have any.
struct Arguments<'py> {
    rows: Array<'py>,
    target: Option<Array<'py>>,
    mask: Option<Array<'py>>,
}

impl<'py> Arguments<'py> {
    fn new(
        rows: &Bound<'py, PyAny>,
        target: Option<&Bound<'py, PyAny>>,
        mask: Option<&Bound<'py, PyAny>>,
        name: &str,
    ) -> PyResult<Self> {
        Ok(Arguments {
            rows: array::array(rows, name)?,
            target: target.map(|target| array::array(target, "target")).transpose()?,
            mask: array::mask(mask)?,
        })
    }
}

/// What the rows seem to be instead of logits, or of log-probabilities: "one class", "probabilities" or "positive".
#[pyfunction]
#[pyo3(signature = (rows, target, ignore_index, r#where, axis, log_probs, name, /))]
pub(super) fn likely_mistake<'py>(
    rows: &Bound<'py, PyAny>,
    target: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
    log_probs: bool,
    name: &str,
) -> PyResult<Option<&'static str>> {
    let py = rows.py();
    let options =
        Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0).log_probs(log_probs);
    let arrays = Arguments::new(rows, target, r#where, name)?;
    let target = arrays.target.as_ref().map(array::target).transpose()?;
    let mask = arrays.mask.as_ref().map(array::mask_view);
    let found = with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, array::work(&arrays.rows), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::likely_misuse(view, target.as_ref(), &options, &call)
        })?
    });
    Ok(found.map(|mistake| match mistake {
        LikelyMisuse::OneClass => "one class",
        LikelyMisuse::Probabilities => "probabilities",
        LikelyMisuse::PositiveLogProbability => "positive",
    }))
}

/// Checks that the targets fit the rows, and that each is a class or ignored.
#[pyfunction]
#[pyo3(signature = (rows, target, ignore_index, r#where, axis, name, /))]
pub(super) fn check_targets(
    rows: &Bound<'_, PyAny>,
    target: Option<&Bound<'_, PyAny>>,
    ignore_index: &Bound<'_, PyAny>,
    r#where: Option<&Bound<'_, PyAny>>,
    axis: Axis,
    name: &str,
) -> PyResult<()> {
    let py = rows.py();
    let options = Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0);
    let arrays = Arguments::new(rows, target, r#where, name)?;
    let target = arrays.target.as_ref().map(array::target).transpose()?;
    let mask = arrays.mask.as_ref().map(array::mask_view);
    with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, array::work(&arrays.rows), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::check_targets(view, target.as_ref(), &options, &call)
        })
    })
}

/// Which rows count: an array of the rows' shape.
#[pyfunction]
#[pyo3(signature = (rows, target, ignore_index, r#where, axis, name, /))]
pub(super) fn active_rows<'py>(
    rows: &Bound<'py, PyAny>,
    target: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
    name: &str,
) -> PyResult<Bound<'py, PyArrayDyn<bool>>> {
    let py = rows.py();
    let options = Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0);
    let arrays = Arguments::new(rows, target, r#where, name)?;
    let shape = arrays.rows.shape();
    let out = score::zeros::<bool>(
        py,
        &row_shape(shape, crate::array::rows::class_axis(shape.len(), Some(axis.0))?),
    )?;
    let target = arrays.target.as_ref().map(array::target).transpose()?;
    let mask = arrays.mask.as_ref().map(array::mask_view);
    // SAFETY: the array is new: nothing else refers to it.
    let mut to = unsafe { score::view_of(&out) };
    with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, out.len(), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::active_rows(view, target.as_ref(), &options, &call, &mut to)
        })?;
    });
    Ok(out)
}

/// What the first rows seem to be, with the classes along the last axis: "no finite rows", "one class only",
/// "probabilities", "log-probabilities" or "logits"; and whether one of the numbers is positive.
#[pyfunction]
#[pyo3(signature = (rows, name, /))]
pub(super) fn likely_values(rows: &Bound<'_, PyAny>, name: &str) -> PyResult<(&'static str, bool)> {
    let rows = array::array(rows, name)?;
    let found = with_dtype!(floats &array::floats(&rows, name)?, view => crate::likely_values(view, -1)?);
    let values = match found.values {
        LikelyValues::Unknown => "no finite rows",
        LikelyValues::OneClass => "one class only",
        LikelyValues::Probabilities => "probabilities",
        LikelyValues::LogProbabilities => "log-probabilities",
        LikelyValues::Logits => "logits",
    };
    Ok((values, found.has_positive))
}

/// The smallest and the largest of some class indices.
type Ends = Option<(i128, i128)>;

/// The smallest and the largest of the targets that are classes, and of those that are neither a class nor ignored;
/// whether one is ignored; and the number of the first that is neither, in C order.
#[pyfunction]
#[pyo3(signature = (target, classes, ignore_index, /))]
pub(super) fn targets_found(
    target: &Bound<'_, PyAny>,
    classes: usize,
    ignore_index: &Bound<'_, PyAny>,
) -> PyResult<(Ends, Ends, bool, Option<usize>)> {
    let ignore_index = call::ignore_index(ignore_index)?;
    let target = array::array(target, "target")?;
    let view = array::target(&target)?;
    let (found, first) =
        call::run(target.py(), target.len(), |_| crate::targets_found(view, classes, ignore_index))?;
    Ok((found.inside, first.map(|_| found.outside), found.ignored, first))
}

/// The row, the class and the number of the first that is no probability; the row and the sum of the first that does
/// not add up to 1.
type FirstImproper = (Option<(u64, usize, f64)>, Option<(u64, f64)>);

/// The logarithms of probabilities, classes last, and what is wrong with those of the rows that count.
#[pyfunction]
#[pyo3(signature = (probabilities, target, ignore_index, r#where, axis, name, /))]
pub(super) fn log_of_probabilities<'py>(
    probabilities: &Bound<'py, PyAny>,
    target: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
    name: &str,
) -> PyResult<(Bound<'py, PyArrayDyn<f64>>, FirstImproper)> {
    let py = probabilities.py();
    let options = Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0);
    let arrays = Arguments::new(probabilities, target, r#where, name)?;
    let shape = arrays.rows.shape();
    let class_axis = crate::array::rows::class_axis(shape.len(), Some(axis.0))?;
    let mut out_shape = row_shape(shape, class_axis);
    out_shape.push(shape[class_axis]);
    let out = score::zeros::<f64>(py, &out_shape)?;
    let target = arrays.target.as_ref().map(array::target).transpose()?;
    let mask = arrays.mask.as_ref().map(array::mask_view);
    // SAFETY: the array is new: nothing else refers to it.
    let mut to = unsafe { score::view_of(&out) };
    let Improper { number, sum } = with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, array::work(&arrays.rows), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::log_of_probabilities(view, target.as_ref(), &options, &call, &mut to)
        })?
    });
    Ok((out, (number, sum)))
}
