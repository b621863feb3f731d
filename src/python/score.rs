//! Scores of rows: as columns, and as sums without rounding.

use numpy::{IntoPyArray, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};

use super::array::{self, Array, Axis, with_dtype};
use super::{call, hints};
use crate::array::any::Floats;
use crate::array::rows::{View, ViewMut, row_shape};
use crate::kernel::element::Element;
use crate::scoring::columns::{Columns, Score};
use crate::scoring::figures::percentiles_of_ordered;
use crate::scoring::log_loss::log_loss_of;
use crate::scoring::score::ScoreSums;
use crate::sum::exact::ExactSum;
use crate::targets::Target;
use crate::{Call, Context, TemperatureSums};

functions! { compare_sums exact_sums log_loss percentiles score score_sums temperature_sums }

/// The arrays of a call, read in place.
pub(super) struct Arrays<'py> {
    pub logits: Array<'py>,
    pub target: Array<'py>,
    pub mask: Option<Array<'py>>,
}

impl<'py> Arrays<'py> {
    pub(super) fn new(
        logits: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        mask: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let (logits, target) = (array::array(logits, "logits")?, array::array(target, "target")?);
        hints::refuse_swapped(&logits, "logits", &target)?;
        Ok(Arrays { logits, target, mask: array::mask(mask)? })
    }

    /// Runs `work` on the logits, without the interpreter's lock where that is worth it.
    fn run<T: Send>(&self, work: impl Work<T>) -> PyResult<T> {
        let classes = array::target(&self.target)?;
        let mask = self.mask.as_ref().map(array::mask_view);
        with_dtype!(floats &array::floats(&self.logits, "logits")?, view => {
            call::run(self.logits.py(), array::work(&self.logits), |context: Context<'_>| {
                work.run(view, &classes, &Call { mask, context })
            })
        })
    }
}

/// A computation on logits of any dtype.
trait Work<T>: Send {
    fn run<E: Element>(
        self,
        logits: &View<'_, E>,
        target: &crate::Target<'_>,
        call: &Call<'_>,
    ) -> Result<T, crate::Error>;
}

/// The largest classes, and their log-probabilities.
type TopColumns<'py, O> = (Bound<'py, PyArrayDyn<i64>>, Bound<'py, PyArrayDyn<O>>);

/// New arrays, all of one shape but those of the largest classes.
struct NewColumns<'py, O: numpy::Element> {
    floats: [Bound<'py, PyArrayDyn<O>>; 3],
    /// The losses as float64, where the other columns are float32.
    unrounded_nll: Option<Bound<'py, PyArrayDyn<f64>>>,
    integers: [Bound<'py, PyArrayDyn<i64>>; 2],
    flags: [Bound<'py, PyArrayDyn<bool>>; 2],
    top: Option<TopColumns<'py, O>>,
}

/// A new array of zeros, from NumPy itself: it raises where there is no memory, and takes pages that the system has
/// cleared.
pub(super) fn zeros<'py, T: numpy::Element>(
    py: Python<'py>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    static ZEROS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let shape = PyTuple::new(py, shape)?;
    Ok(ZEROS.import(py, "numpy", "zeros")?.call1((shape, T::get_dtype(py)))?.cast_into()?)
}

/// A new array's memory, to write to.
///
/// # Safety
/// Nothing else reads or writes the array while the view lives.
pub(super) unsafe fn view_of<'a, T: numpy::Element>(array: &'a Bound<'_, PyArrayDyn<T>>) -> ViewMut<'a, T> {
    // The numpy crate's own views stop at 32 dimensions.
    // SAFETY: see above; a new array is aligned, and of this dtype.
    unsafe { array::view_mut(array.as_untyped()) }
}

struct ScoreWork<'a, O>(Score<'a>, Columns<'a, O>);

impl<O: Element> Work<()> for ScoreWork<'_, O> {
    fn run<E: Element>(
        self,
        logits: &View<'_, E>,
        target: &crate::Target<'_>,
        call: &Call<'_>,
    ) -> Result<(), crate::Error> {
        crate::score_into(logits, target, &self.0, call, self.1)
    }
}

impl<'py, O: Element + numpy::Element> NewColumns<'py, O> {
    fn new(py: Python<'py>, rows: &[usize], top_k: Option<usize>, unrounded: bool) -> PyResult<Self> {
        let mut top = rows.to_vec();
        top.extend(top_k);
        Ok(NewColumns {
            floats: [zeros(py, rows)?, zeros(py, rows)?, zeros(py, rows)?],
            unrounded_nll: if unrounded { Some(zeros(py, rows)?) } else { None },
            integers: [zeros(py, rows)?, zeros(py, rows)?],
            flags: [zeros(py, rows)?, zeros(py, rows)?],
            top: if top_k.is_some() { Some((zeros(py, &top)?, zeros(py, &top)?)) } else { None },
        })
    }

    /// The memory of the arrays, to write to.
    ///
    /// # Safety
    /// Nothing else reads or writes the arrays while the views live.
    unsafe fn views(&self) -> Columns<'_, O> {
        let (floats, integers, flags) = (&self.floats, &self.integers, &self.flags);
        // SAFETY: see above.
        unsafe {
            Columns {
                nll: Some(view_of(&floats[0])),
                unrounded_nll: self.unrounded_nll.as_ref().map(|nll| view_of(nll)),
                logsumexp: Some(view_of(&floats[1])),
                entropy: Some(view_of(&floats[2])),
                prediction: Some(view_of(&integers[0])),
                rank: Some(view_of(&integers[1])),
                counted: Some(view_of(&flags[0])),
                correct: Some(view_of(&flags[1])),
                top_classes: self.top.as_ref().map(|(classes, _)| view_of(classes)),
                top_log_probs: self.top.as_ref().map(|(_, log_probs)| view_of(log_probs)),
            }
        }
    }

    fn fill(&self, arrays: &Arrays<'py>, options: Score<'_>) -> PyResult<()> {
        // SAFETY: the arrays are new: nothing else refers to them.
        arrays.run(ScoreWork(options, unsafe { self.views() }))
    }

    fn into_tuple(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let [nll, logsumexp, entropy] = self.floats;
        let [prediction, rank] = self.integers;
        let [counted, correct] = self.flags;
        let (ids, log_probs) = self.top.unzip();
        let unrounded = self.unrounded_nll;
        (nll, logsumexp, entropy, prediction, rank, counted, correct, ids, log_probs, unrounded)
            .into_pyobject(py)
    }
}

/// nll, logsumexp, entropy, prediction, rank, counted, correct, the largest classes and their log-probabilities; and
/// nll as float64 where the others are float32.
#[pyfunction]
#[pyo3(signature = (logits, target, ignore_index, r#where, axis, top_k, log_probs, /))]
pub(super) fn score<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
    top_k: usize,
    log_probs: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = logits.py();
    let ignore_index = call::ignore_index(ignore_index)?;
    let arrays = Arrays::new(logits, target, r#where)?;
    let floats = array::floats(&arrays.logits, "logits")?;
    let class_axis = crate::array::rows::class_axis(arrays.logits.ndim(), Some(axis.0))?;
    let rows = row_shape(arrays.logits.shape(), class_axis);
    let options = Score::new().ignore_index(ignore_index).axis(axis.0);
    let named = [top_k];
    let options = options.top_k(&named).log_probs(call::flag(log_probs, "log_probs")?);
    // A larger `top_k` than there are classes is an error: no memory is allocated for it before.
    let top = (top_k > 0).then(|| top_k.min(arrays.logits.shape()[class_axis]));
    if matches!(floats, Floats::F64(_)) {
        let columns = NewColumns::<f64>::new(py, &rows, top, false)?;
        columns.fill(&arrays, options)?;
        columns.into_tuple(py)
    } else {
        let columns = NewColumns::<f32>::new(py, &rows, top, true)?;
        columns.fill(&arrays, options)?;
        columns.into_tuple(py)
    }
}

/// A sum for Python: the bytes of an integer of units of 2^-1074, and how many terms were +inf, -inf and nan.
pub(super) type Units<'py> = (Bound<'py, PyBytes>, (u64, u64, u64));

pub(super) fn units<'py>(py: Python<'py>, sum: &ExactSum) -> Units<'py> {
    let (bytes, [plus, minus, nan]) = sum.units();
    (PyBytes::new(py, &bytes), (plus, minus, nan))
}

#[derive(Clone, Copy)]
struct SumsWork<'a>(Score<'a>);

impl Work<ScoreSums> for SumsWork<'_> {
    fn run<E: Element>(
        self,
        logits: &View<'_, E>,
        target: &crate::Target<'_>,
        call: &Call<'_>,
    ) -> Result<ScoreSums, crate::Error> {
        crate::score_sums(logits, target, &self.0, call)
    }
}

struct ColumnsAndSumsWork<'a, O>(Score<'a>, Columns<'a, O>);

impl<O: Element> Work<ScoreSums> for ColumnsAndSumsWork<'_, O> {
    fn run<E: Element>(
        self,
        logits: &View<'_, E>,
        target: &crate::Target<'_>,
        call: &Call<'_>,
    ) -> Result<ScoreSums, crate::Error> {
        crate::score_with_sums(logits, target, &self.0, call, self.1)
    }
}

/// The sums of a call, and the columns as a tuple.
fn with_columns<'py, O: Element + numpy::Element>(
    arrays: &Arrays<'py>,
    options: Score<'_>,
) -> PyResult<(ScoreSums, Option<Bound<'py, PyTuple>>)> {
    let py = arrays.logits.py();
    let class_axis = crate::array::rows::class_axis(arrays.logits.ndim(), Some(options.axis))?;
    let columns = NewColumns::<O>::new(py, &row_shape(arrays.logits.shape(), class_axis), None, false)?;
    // SAFETY: the arrays are new: nothing else refers to them.
    let sums = arrays.run(ColumnsAndSumsWork(options, unsafe { columns.views() }))?;
    Ok((sums, Some(columns.into_tuple(py)?)))
}

/// The numbers of rows, of those that count and of those that are correct; of those with the target among the k
/// largest; of those that are not finite, and the first; the sums of nll, its square, entropy, reciprocal rank and
/// squared error; for each bin the numbers of rows and of correct ones, and the sum of confidences; the histogram of
/// nll; and for each group of rows their number and the sums of nll and its square; and with `columns`, what [`score`]
/// returns for a `top_k` of 0, from the same pass, but without the losses as float64. `groups` holds the group of each
/// row, in the order of the targets.
#[pyfunction]
#[pyo3(signature = (logits, target, ignore_index, r#where, axis, top_k, bins, log_probs, groups, columns, /))]
#[expect(clippy::too_many_arguments, reason = "those of the Python function")]
pub(super) fn score_sums<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
    top_k: Vec<usize>,
    bins: usize,
    log_probs: &Bound<'py, PyAny>,
    groups: Option<PyReadonlyArray1<'py, u16>>,
    columns: bool,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = logits.py();
    let ignore_index = call::ignore_index(ignore_index)?;
    let arrays = Arrays::new(logits, target, r#where)?;
    let log_probs = call::flag(log_probs, "log_probs")?;
    let groups = groups.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
    let options = Score { ignore_index, axis: axis.0, log_probs, top_k: &top_k, bins, groups, weight: None };
    let (sums, columns) = match (columns, array::floats(&arrays.logits, "logits")?) {
        (false, _) => (arrays.run(SumsWork(options))?, None),
        (true, Floats::F64(_)) => with_columns::<f64>(&arrays, options)?,
        (true, _) => with_columns::<f32>(&arrays, options)?,
    };
    let bins: Vec<_> =
        sums.bins.iter().map(|bin| (bin.count, bin.correct, units(py, &bin.confidence))).collect();
    let groups: Vec<_> = sums
        .groups
        .iter()
        .map(|group| (group.count, units(py, &group.nll), units(py, &group.nll_squared)))
        .collect();
    (
        (sums.rows, sums.count, sums.correct),
        sums.top,
        (sums.nonfinite, sums.first_nonfinite),
        (
            units(py, &sums.nll),
            units(py, &sums.nll_squared),
            units(py, &sums.entropy),
            units(py, &sums.reciprocal_rank),
            units(py, &sums.squared_error),
        ),
        bins,
        sums.histogram.into_pyarray(py),
        groups,
        columns,
    )
        .into_pyobject(py)
}

/// The sum of each sequence of a one-dimensional float64 array; a sequence ends where the next one begins, at
/// `offsets`.
#[pyfunction]
#[pyo3(signature = (values, offsets, /))]
pub(super) fn exact_sums<'py>(
    values: &Bound<'py, PyArrayDyn<f64>>,
    offsets: Vec<usize>,
) -> PyResult<Vec<Units<'py>>> {
    let py = values.py();
    let values = values.readonly();
    let values = values.as_array();
    let fits = values.ndim() == 1
        && offsets.windows(2).all(|pair| pair[0] <= pair[1])
        && offsets.last().is_none_or(|end| *end <= values.len());
    if !fits {
        return Err(PyValueError::new_err("offsets do not rise to the length of a one-dimensional array"));
    }
    let sums = offsets.windows(2).map(|pair| {
        let mut sum = ExactSum::default();
        values.slice(ndarray::s![pair[0]..pair[1]]).iter().for_each(|x| sum.add(*x));
        units(py, &sum)
    });
    Ok(sums.collect())
}

/// Percentiles of values in ascending order, for percents from 0 to 100; nan where a nan stands at one of the ends.
#[pyfunction]
#[pyo3(signature = (ordered, percents, /))]
pub(super) fn percentiles(ordered: PyReadonlyArray1<'_, f64>, percents: Vec<f64>) -> PyResult<Vec<f64>> {
    Ok(percentiles_of_ordered(ordered.as_slice()?, &percents))
}

/// The numbers of rows, of those that count and of those with the same prediction; the sums of KL(P || Q), its square,
/// KL(Q || P) and the Jensen-Shannon divergence; with a target, those of both nll, their squares and product, and of
/// the difference of the target's probabilities, its square and fourth power; and KL(P || Q) of each row that counts,
/// and that difference.
#[pyfunction]
#[pyo3(signature = (logits, other_logits, target, ignore_index, r#where, axis, /))]
pub(super) fn compare_sums<'py>(
    logits: &Bound<'py, PyAny>,
    other_logits: &Bound<'py, PyAny>,
    target: Option<&Bound<'py, PyAny>>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = logits.py();
    let options = Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0);
    let (p, q) = (array::array(logits, "logits")?, array::array(other_logits, "other_logits")?);
    let target = target.map(|target| array::array(target, "target")).transpose()?;
    for (logits, name) in [(&p, "logits"), (&q, "other_logits")] {
        target.as_ref().map_or(Ok(()), |target| hints::refuse_swapped(logits, name, target))?;
    }
    let mask = array::mask(r#where)?;
    let classes = target.as_ref().map(array::target).transpose()?;
    let mask = mask.as_ref().map(array::mask_view);
    let has_target = classes.is_some();
    let (sums, each) = with_dtype!(floats &array::floats(&p, "logits")?, p_view => {
        with_dtype!(floats &array::floats(&q, "other_logits")?, q_view => {
            call::run(py, array::work(&p), |context: Context<'_>| {
                let call = Call { mask, context };
                crate::compare_sums(p_view, q_view, classes.as_ref(), &options, &call)
            })?
        })
    });
    let of_targets = sums.targets.as_ref().map(|t| {
        [
            &t.nll,
            &t.nll_squared,
            &t.other_nll,
            &t.other_nll_squared,
            &t.nll_product,
            &t.difference,
            &t.difference_squared,
            &t.difference_fourth,
        ]
    });
    (
        (sums.rows, sums.count, sums.same_top),
        [&sums.forward, &sums.forward_squared, &sums.reverse, &sums.jensen_shannon].map(|sum| units(py, sum)),
        of_targets.map(|sums| sums.map(|sum| units(py, sum))),
        each.forward.into_pyarray(py),
        has_target.then(|| each.difference.into_pyarray(py)),
    )
        .into_pyobject(py)
}

struct TemperatureWork<'a>(f64, Score<'a>);

impl Work<TemperatureSums> for TemperatureWork<'_> {
    fn run<E: Element>(
        self,
        logits: &View<'_, E>,
        target: &crate::Target<'_>,
        call: &Call<'_>,
    ) -> Result<TemperatureSums, crate::Error> {
        crate::temperature_sums(logits, target, self.0, &self.1, call)
    }
}

/// The number of rows that count; and the sums of their weights, of the nll of softmax(b logits), and of its first two
/// derivatives with respect to b.
#[pyfunction]
#[pyo3(signature = (logits, target, ignore_index, r#where, axis, b, weight, /))]
pub(super) fn temperature_sums<'py>(
    logits: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    ignore_index: &Bound<'py, PyAny>,
    r#where: Option<&Bound<'py, PyAny>>,
    axis: Axis,
    b: f64,
    weight: Option<PyReadonlyArray1<'py, f64>>,
) -> PyResult<(u64, [Units<'py>; 4])> {
    let mut options = Score::new().ignore_index(call::ignore_index(ignore_index)?).axis(axis.0);
    options.weight = weight.as_ref().map(|weight| weight.as_slice()).transpose()?;
    let arrays = Arrays::new(logits, target, r#where)?;
    let sums = arrays.run(TemperatureWork(b, options))?;
    Ok((
        sums.count,
        [&sums.weight, &sums.nll, &sums.slope, &sums.curvature].map(|sum| units(logits.py(), sum)),
    ))
}

/// The sums of the weighted losses and of the weights; the first row that is not of probabilities, and the first whose
/// sum is not 1.
#[pyfunction]
#[pyo3(signature = (probabilities, classes, weight, eps, tolerance, /))]
pub(super) fn log_loss<'py>(
    probabilities: &Bound<'py, PyAny>,
    classes: &Bound<'py, PyArrayDyn<i64>>,
    weight: Option<&Bound<'py, PyArrayDyn<f64>>>,
    eps: f64,
    tolerance: f64,
) -> PyResult<(Units<'py>, Units<'py>, Option<u64>, Option<u64>)> {
    let py = probabilities.py();
    let array = array::array(probabilities, "y_proba")?;
    let (classes, weight) = (classes.readonly(), weight.map(PyArrayMethods::readonly));
    let (classes, weight) = (classes.as_array(), weight.as_ref().map(numpy::PyReadonlyArrayDyn::as_array));
    let loss = with_dtype!(floats &array::floats(&array, "y_proba")?, view => {
        call::run(py, array::work(&array), |context: Context<'_>| {
            log_loss_of(view, &Target::from(classes), weight.as_ref(), eps, tolerance, context)
        })?
    });
    Ok((units(py, &loss.loss), units(py, &loss.weight), loss.improper, loss.not_normalised))
}
