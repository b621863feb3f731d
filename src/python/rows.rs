//! Functions of rows: `log_softmax`, `softmax`, `logsumexp`; and of elements: `log_sigmoid`.

use ndarray::{Axis as Axis0, IxDyn};
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::array::{self, Axis, Float, with_dtype};
use super::call;
use super::result::Output;
use crate::Context;
use crate::array::rows::{View, ViewMut, resolve_axis};
use crate::error::{Error, filled};
use crate::function;
use crate::kernel::element::Element;

functions! { log_sigmoid log_softmax logsumexp softmax }

/// A function from an array to one of the same shape and dtype. Without an input it works in place.
trait Map: Send {
    fn apply<E: Element>(
        self,
        input: Option<View<'_, E>>,
        out: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error>;
}

struct LogSoftmax(isize);
struct Softmax(isize);
struct LogSigmoid;

impl Map for LogSoftmax {
    fn apply<E: Element>(
        self,
        input: Option<View<'_, E>>,
        out: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        function::log_softmax_of(input, self.0, out, context)
    }
}

impl Map for Softmax {
    fn apply<E: Element>(
        self,
        input: Option<View<'_, E>>,
        out: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        function::softmax_of(input, self.0, out, context)
    }
}

impl Map for LogSigmoid {
    fn apply<E: Element>(
        self,
        input: Option<View<'_, E>>,
        out: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        function::log_sigmoid_of(input, out, context)
    }
}

/// A function of an array to a new array, or to `out`.
fn map<'py>(
    x: &Bound<'py, PyAny>,
    out: Option<&Bound<'py, PyAny>>,
    function: impl Map,
) -> PyResult<Bound<'py, PyAny>> {
    let py = x.py();
    let input = array::array(x, "x")?;
    array::floats(&input, "x")?;
    let dtype = array::float_dtype(&input).unwrap_or(Float::F32);
    let to = Output::new(py, out, "out", input.shape(), dtype)?;
    let (in_place, untouched) = (to.is_over(&input), to.untouched);
    // A partial overlap is read from a copy.
    let input = if in_place { input } else { to.apart(input)? };
    with_dtype!(floats array::floats(&input, "x")?, view => {
        // SAFETY: it has the input's dtype; and the input is apart from it or not read as itself.
        let mut to = unsafe { to.view_mut() };
        let mut view = view;
        // An array without dimensions counts as one row of one class.
        if view.ndim() == 0 {
            (view, to) = (view.insert_axis(Axis0(0)), to.insert_axis(Axis0(0)));
        }
        let input = (!in_place).then_some(view);
        call::run(py, to.len(), |context| function.apply(input, to, Context { untouched, ..context }))
    })?;
    to.into_result()
}

/// A function along the rows of an axis.
fn map_rows<'py>(
    x: &Bound<'py, PyAny>,
    axis: isize,
    out: Option<&Bound<'py, PyAny>>,
    function: impl Map,
) -> PyResult<Bound<'py, PyAny>> {
    let input = array::array(x, "x")?;
    if input.ndim() == 0 {
        number_axis(axis)?;
    }
    map(&input, out, function)
}

/// Checks that a single number has this axis: it counts as one row of one class, as in torch.
fn number_axis(axis: isize) -> Result<(), Error> {
    if (-1..=0).contains(&axis) { Ok(()) } else { Err(Error::AxisOutOfRange { axis, ndim: 0 }) }
}

/// log(softmax(x)).
#[pyfunction]
#[pyo3(signature = (x, axis, out, /))]
pub(super) fn log_softmax<'py>(
    x: &Bound<'py, PyAny>,
    axis: Axis,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    map_rows(x, axis.0, out, LogSoftmax(axis.0))
}

/// exp(x) / sum(exp(x)).
#[pyfunction]
#[pyo3(signature = (x, axis, out, /))]
pub(super) fn softmax<'py>(
    x: &Bound<'py, PyAny>,
    axis: Axis,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    map_rows(x, axis.0, out, Softmax(axis.0))
}

/// log(1 / (1 + exp(-x))).
#[pyfunction]
#[pyo3(signature = (x, out, /))]
pub(super) fn log_sigmoid<'py>(
    x: &Bound<'py, PyAny>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    map(x, out, LogSigmoid)
}

/// log(sum(exp(x))) over one axis, several or all.
#[pyfunction]
#[pyo3(signature = (x, axis, keepdims, out, /))]
pub(super) fn logsumexp<'py>(
    x: &Bound<'py, PyAny>,
    axis: Option<&Bound<'py, PyAny>>,
    keepdims: &Bound<'py, PyAny>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = x.py();
    let keepdims = call::flag(keepdims, "keepdims")?;
    let mut input = array::array(x, "x")?;
    // Integers are summed as NumPy's reductions sum them: as float64.
    if matches!(input.dtype().kind(), b'i' | b'u' | b'b') {
        input = input.call_method1("astype", (Float::F64.descriptor(py)?,))?.cast_into()?;
    }
    array::floats(&input, "x")?;
    let dtype = array::float_dtype(&input).unwrap_or(Float::F64);
    let axes = axes(axis, input.ndim())?;
    let shape: Vec<usize> = (0..input.ndim())
        .filter(|i| keepdims || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { input.shape()[i] })
        .collect();
    let to = Output::new(py, out, "out", &shape, dtype)?;
    let input = to.apart(input)?;
    with_dtype!(floats array::floats(&input, "x")?, view => {
        // SAFETY: it has the input's dtype, and the input is apart from it.
        reduce(py, view, &axes, unsafe { to.view_mut() })
    })?;
    to.into_result()
}

/// logsumexp over these axes, on all threads.
fn reduce<E: Element>(
    py: Python<'_>,
    view: View<'_, E>,
    axes: &[usize],
    mut out: ViewMut<'_, E>,
) -> PyResult<()> {
    // With `keepdims` it has the axes that are reduced, with a length of 1.
    if out.ndim() == view.ndim() {
        for axis in axes.iter().rev() {
            out = out.index_axis_move(Axis0(*axis), 0);
        }
    }
    call::run(py, view.len().max(out.len()), |context| over_axes(view, axes, out, context))
}

/// The axes to reduce, counted from the front, sorted.
fn axes(axis: Option<&Bound<'_, PyAny>>, ndim: usize) -> PyResult<Vec<usize>> {
    let Some(axis) = axis else { return Ok((0..ndim).collect()) };
    let given: Vec<Axis> = match axis.cast::<PyTuple>() {
        Ok(several) => several.iter().map(|axis| axis.extract()).collect::<PyResult<_>>()?,
        Err(_) => vec![axis.extract()?],
    };
    let resolved = |Axis(axis): Axis| match ndim {
        0 => number_axis(axis).map(|()| 0),
        _ => resolve_axis(axis, ndim),
    };
    let mut axes = given.into_iter().map(resolved).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(PyValueError::new_err(format!("axis names a dimension twice: got {axis}")));
    }
    // The axis of a single number is not one of its dimensions.
    axes.retain(|axis| *axis < ndim);
    Ok(axes)
}

/// Reduces several axes: as one where they follow each other in memory, else one after the other in float64.
fn over_axes<E: Element>(
    view: View<'_, E>,
    axes: &[usize],
    out: ViewMut<'_, E>,
    context: Context<'_>,
) -> Result<(), Error> {
    let order: Vec<usize> =
        (0..view.ndim()).filter(|i| !axes.contains(i)).chain(axes.iter().copied()).collect();
    over_trailing_axes(view.permuted_axes(IxDyn(&order)), out, context)
}

/// Reduces the axes that `out` does not have.
fn over_trailing_axes<E: Element, O: Element>(
    mut view: View<'_, E>,
    out: ViewMut<'_, O>,
    context: Context<'_>,
) -> Result<(), Error> {
    let kept = out.ndim();
    if view.is_empty() {
        let mut shape = out.shape().to_vec();
        shape.push(view.shape()[kept..].iter().product());
        let empty = View::<E>::from_shape(IxDyn(&shape), &[]).map_err(|_| Error::TooFewDimensions)?;
        return function::logsumexp_of(empty, -1, out, context);
    }
    // Merging leaves an axis of length 1 behind.
    while view.ndim() > kept + 1 {
        let (before, last) = (ndarray::Axis(view.ndim() - 2), ndarray::Axis(view.ndim() - 1));
        if !view.merge_axes(before, last) {
            break;
        }
        view = view.index_axis_move(before, 0);
    }
    if view.ndim() == kept {
        view = view.insert_axis(ndarray::Axis(kept));
    }
    if view.ndim() == kept + 1 {
        return function::logsumexp_of(view, -1, out, context);
    }
    let shape = &view.shape()[..view.ndim() - 1];
    let count = shape.iter().product();
    let mut partial = ndarray::ArrayD::from_shape_vec(IxDyn(shape), filled(count, 0.0)?)
        .map_err(|_| Error::OutOfMemory { count, size: size_of::<f64>() })?;
    function::logsumexp_of(view, -1, partial.view_mut(), context)?;
    over_trailing_axes(partial.view(), out, context)
}
