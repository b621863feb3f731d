//! Checks of what rows hold before they are scored, and the logarithms of probabilities.

use numpy::{PyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::array::{self, Array, Axis, with_dtype};
use super::{call, score};
use crate::array::rows::{View, class_axis, row_shape};
use crate::loss::misuse::LikelyMisuse;
use crate::{Call, Context, Improper, LikelyValues, Score, Target};

functions! { active_rows check_targets likely_mistake likely_values log_of_probabilities targets_found }

/// Rows with their targets and mask, if they have any, and how they are read.
struct Arguments<'py> {
    rows: Array<'py>,
    target: Option<Array<'py>>,
    mask: Option<Array<'py>>,
    options: Score<'static>,
}

impl<'py> Arguments<'py> {
    fn new(
        rows: &Bound<'py, PyAny>,
        target: Option<&Bound<'py, PyAny>>,
        ignore_index: &Bound<'py, PyAny>,
        mask: Option<&Bound<'py, PyAny>>,
        axis: &Axis,
        name: &str,
    ) -> PyResult<Self> {
        Ok(Arguments {
            options: Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0),
            rows: array::array(rows, name)?,
            target: target.map(|target| array::array(target, "target")).transpose()?,
            mask: array::mask(mask)?,
        })
    }

    /// The targets and the mask.
    fn views(&self) -> PyResult<(Option<Target<'_>>, Option<View<'_, u8>>)> {
        let target = self.target.as_ref().map(array::target).transpose()?;
        Ok((target, self.mask.as_ref().map(array::mask_view)))
    }

    /// The class axis, counted from the front, and the shape of the rows without it.
    fn row_shape(&self) -> PyResult<(usize, Vec<usize>)> {
        let axis = class_axis(self.rows.ndim(), Some(self.options.axis))?;
        Ok((axis, row_shape(self.rows.shape(), axis)))
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
    let arrays = Arguments::new(rows, target, ignore_index, r#where, &axis, name)?;
    let options = arrays.options.log_probs(log_probs);
    let (target, mask) = arrays.views()?;
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
    let arrays = Arguments::new(rows, target, ignore_index, r#where, &axis, name)?;
    let (target, mask) = arrays.views()?;
    with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, array::work(&arrays.rows), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::check_targets(view, target.as_ref(), &arrays.options, &call)
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
    let arrays = Arguments::new(rows, target, ignore_index, r#where, &axis, name)?;
    let out = score::zeros::<bool>(py, &arrays.row_shape()?.1)?;
    let (target, mask) = arrays.views()?;
    // SAFETY: the array is new: nothing else refers to it.
    let mut to = unsafe { score::view_of(&out) };
    with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, out.len(), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::active_rows(view, target.as_ref(), &arrays.options, &call, &mut to)
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
    let arrays = Arguments::new(probabilities, target, ignore_index, r#where, &axis, name)?;
    let (class_axis, mut out_shape) = arrays.row_shape()?;
    out_shape.push(arrays.rows.shape()[class_axis]);
    let out = score::zeros::<f64>(py, &out_shape)?;
    let (target, mask) = arrays.views()?;
    // SAFETY: the array is new: nothing else refers to it.
    let mut to = unsafe { score::view_of(&out) };
    let Improper { number, sum } = with_dtype!(floats &array::floats(&arrays.rows, name)?, view => {
        call::run(py, array::work(&arrays.rows), |context: Context<'_>| {
            let call = Call { mask, context };
            crate::log_of_probabilities(view, target.as_ref(), &arrays.options, &call, &mut to)
        })?
    });
    Ok((out, (number, sum)))
}
