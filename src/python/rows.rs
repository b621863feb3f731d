//! Functions of rows: `log_softmax`, `softmax`, `logsumexp`; and of elements: `log_sigmoid`.

use ndarray::{ArrayBase, Axis as Axis0, IxDyn, RawData};
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::array::{self, Axis, Float, with_dtype};
use super::call;
use super::result::Output;
use crate::Context;
use crate::array::new;
use crate::array::rows::{View, ViewMut, joint_shape, resolve_axis};
use crate::error::{Error, filled};
use crate::function;
use crate::function::signed::signed_logsumexp_of;
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

struct LogSigmoid;

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

/// A function of rows.
#[derive(Clone, Copy)]
enum OfRows {
    LogSoftmax,
    Softmax,
}

impl OfRows {
    fn along<E: Element>(
        self,
        axis: usize,
        input: Option<View<'_, E>>,
        out: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        match self {
            OfRows::LogSoftmax => function::log_softmax_of(input, axis as isize, out, context),
            OfRows::Softmax => function::softmax_of(input, axis as isize, out, context),
        }
    }
}

/// A function of rows along axes that are sorted; none for rows of one element.
struct Along(OfRows, Vec<usize>);

impl Map for Along {
    fn apply<E: Element>(
        self,
        input: Option<View<'_, E>>,
        out: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        let Along(function, axes) = self;
        if let [axis] = axes[..] {
            return function.along(axis, input, out, context);
        }
        if out.is_empty() {
            return Ok(());
        }
        let order = trailing(&axes, out.ndim());
        let kept = out.ndim() - axes.len();
        let (input, mut out) =
            (input.map(|view| view.permuted_axes(order.clone())), out.permuted_axes(order));
        let rows = input.as_ref().map(|view| merge_trailing(view.view(), kept)).transpose();
        if let (Ok(rows), Ok(out)) = (rows, merge_trailing(out.view_mut(), kept)) {
            return function.along(kept, rows, out, context);
        }
        // In a copy the axes follow each other.
        let mut copy = new::filled(out.raw_dim(), E::from_f64(0.0))?;
        match &input {
            Some(view) => copy.assign(view),
            None => copy.assign(&out),
        }
        let Ok(rows) = merge_trailing(copy.view_mut(), kept) else {
            unreachable!("the dimensions of a new array follow each other");
        };
        function.along(kept, None, rows, context)?;
        out.assign(&copy);
        Ok(())
    }
}

/// The order of dimensions in which these axes come last.
fn trailing(axes: &[usize], ndim: usize) -> IxDyn {
    let order: Vec<usize> = (0..ndim).filter(|i| !axes.contains(i)).chain(axes.iter().copied()).collect();
    IxDyn(&order)
}

/// An array whose dimensions from `kept` on are merged into one, a new one where there are none; or as far as they
/// follow each other in memory.
fn merge_trailing<S: RawData>(
    mut array: ArrayBase<S, IxDyn>,
    kept: usize,
) -> Result<ArrayBase<S, IxDyn>, ArrayBase<S, IxDyn>> {
    if array.ndim() == kept {
        return Ok(array.insert_axis(Axis0(kept)));
    }
    // Merging leaves an axis of length 1 behind.
    while array.ndim() > kept + 1 {
        let (before, last) = (Axis0(array.ndim() - 2), Axis0(array.ndim() - 1));
        if !array.merge_axes(before, last) {
            return Err(array);
        }
        array = array.index_axis_move(before, 0);
    }
    Ok(array)
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

/// A function along the rows of one axis, several or all.
fn map_rows<'py>(
    x: &Bound<'py, PyAny>,
    axis: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    function: OfRows,
) -> PyResult<Bound<'py, PyAny>> {
    let input = array::array(x, "x")?;
    let axes = axes(axis, input.ndim())?;
    map(&input, out, Along(function, axes))
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
    axis: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    map_rows(x, axis, out, OfRows::LogSoftmax)
}

/// exp(x) / sum(exp(x)).
#[pyfunction]
#[pyo3(signature = (x, axis, out, /))]
pub(super) fn softmax<'py>(
    x: &Bound<'py, PyAny>,
    axis: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    map_rows(x, axis, out, OfRows::Softmax)
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

/// log(sum(b exp(x))) over one axis, several or all, and the sign of the sum where it is wanted.
#[pyfunction]
#[pyo3(signature = (x, axis, b, keepdims, return_sign, out, /))]
pub(super) fn logsumexp<'py>(
    x: &Bound<'py, PyAny>,
    axis: Option<&Bound<'py, PyAny>>,
    b: Option<&Bound<'py, PyAny>>,
    keepdims: &Bound<'py, PyAny>,
    return_sign: &Bound<'py, PyAny>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = x.py();
    let (keepdims, return_sign) =
        (call::flag(keepdims, "keepdims")?, call::flag(return_sign, "return_sign")?);
    let mut input = array::array(x, "x")?;
    // Integers are summed as NumPy's reductions sum them: as float64.
    if matches!(input.dtype().kind(), b'i' | b'u' | b'b') {
        input = input.call_method1("astype", (Float::F64.descriptor(py)?,))?.cast_into()?;
    }
    array::floats(&input, "x")?;
    let dtype = array::float_dtype(&input).unwrap_or(Float::F64);
    let factor = b.map(|b| array::numbers(b, "b", true)).transpose()?;
    let shape = match &factor {
        Some(factor) => joint_shape(input.shape(), "b", factor.shape())?,
        None => input.shape().to_vec(),
    };
    let axes = axes(axis, shape.len())?;
    let kept: Vec<usize> = (0..shape.len())
        .filter(|i| keepdims || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { shape[i] })
        .collect();
    let to = Output::new(py, out, "out", &kept, dtype)?;
    let sign = if return_sign { Some(Output::new(py, None, "sign", &kept, dtype)?) } else { None };
    let input = to.apart(input)?;
    if let Some(factor) = factor {
        let factor = to.apart(factor)?;
        let (numbers, factor) = (array::target(&input)?, array::target(&factor)?);
        // SAFETY: both arguments are apart from it, and nothing else refers to the new array of signs.
        let (out, sign) = unsafe { (to.floats_mut(), sign.as_ref().map(|sign| sign.floats_mut())) };
        let elements = shape.iter().fold(1_usize, |all, n| all.saturating_mul((*n).max(1)));
        call::run(py, elements, |context| signed_logsumexp_of(&numbers, &factor, &axes, out, sign, context))?;
    } else {
        with_dtype!(floats array::floats(&input, "x")?, view => {
            // SAFETY: both have the input's dtype, the input is apart from one, and nothing else refers to the other.
            let (mut logs, to_signs) = unsafe { (to.view_mut(), sign.as_ref().map(|sign| sign.view_mut())) };
            reduce(py, view, &axes, logs.view_mut())?;
            if let Some(mut to) = to_signs {
                signs(&logs, &mut to);
            }
        });
    }
    let Some(sign) = sign else { return to.into_result() };
    Ok((to.into_result()?, sign.into_result()?).into_pyobject(py)?.into_any())
}

/// The signs of sums whose logarithms these are: 1, 0 or nan.
fn signs<E: Element>(logs: &ViewMut<'_, E>, to: &mut ViewMut<'_, E>) {
    to.zip_mut_with(logs, |sign, log| {
        let log = log.to_f64();
        *sign = E::from_f64(if log.is_nan() { log } else { f64::from(u8::from(log > f64::NEG_INFINITY)) });
    });
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
    let order = trailing(axes, view.ndim());
    over_trailing_axes(view.permuted_axes(order), out, context)
}

/// Reduces the axes that `out` does not have.
fn over_trailing_axes<E: Element, O: Element>(
    view: View<'_, E>,
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
    let view = match merge_trailing(view, kept) {
        Ok(view) => return function::logsumexp_of(view, -1, out, context),
        Err(view) => view,
    };
    let shape = &view.shape()[..view.ndim() - 1];
    let count = shape.iter().product();
    let mut partial = ndarray::ArrayD::from_shape_vec(IxDyn(shape), filled(count, 0.0)?)
        .map_err(|_| Error::OutOfMemory { count, size: size_of::<f64>() })?;
    function::logsumexp_of(view, -1, partial.view_mut(), context)?;
    over_trailing_axes(partial.view(), out, context)
}
