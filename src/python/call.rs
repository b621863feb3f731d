//! A call into the library: it releases the interpreter, can be stopped by Ctrl-C, and raises Python's exceptions.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{
    PyIndexError, PyKeyboardInterrupt, PyMemoryError, PyOverflowError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::Error;
use crate::loss::misuse::LikelyMisuse;
use crate::parallel::{Context, Interrupt};

/// Elements below which releasing the interpreter costs more than it could bring to another thread.
const BRIEF_WORK: usize = 1 << 14;

/// Runs `work`. Long work releases the interpreter to other threads, and checks for signals; `size` measures its
/// length: the elements that are read or written, and no less than the rows, which may have none.
pub(super) fn run<T: Send>(
    py: Python<'_>,
    size: usize,
    work: impl FnOnce(Context<'_>) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let (mut work, mut result) = (Some(work), None);
    run_once(py, size, &mut |context| {
        result = work.take().map(|work| work(context)).transpose()?;
        Ok(())
    })?;
    Ok(result.unwrap_or_else(|| unreachable!("the work is run once")))
}

/// The part of [`run`] that is compiled once.
fn run_once(
    py: Python<'_>,
    size: usize,
    work: &mut (dyn FnMut(Context<'_>) -> Result<(), Error> + Send),
) -> PyResult<()> {
    if size < BRIEF_WORK {
        return Ok(work(Context::default())?);
    }
    py.detach(|| {
        let caught = Mutex::new(None);
        let signalled = || {
            Python::attach(|py| match py.check_signals() {
                Ok(()) => false,
                Err(error) => {
                    *caught.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    true
                }
            })
        };
        let interrupt = Interrupt::new(&signalled);
        let result = work(Context { interrupt: Some(&interrupt), ..Context::default() });
        let caught = caught.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.map_err(|error| caught.unwrap_or_else(|| error.into()))
    })
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        let error = super::hints::in_python(error);
        let hint = super::hints::hint(&error);
        let text = hint.map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"));
        match &error {
            Error::TargetOutOfRange { .. } | Error::TeacherClass { .. } | Error::AxisOutOfRange { .. } => {
                PyIndexError::new_err(text)
            }
            // Right shape, wrong kind of number.
            Error::TargetShape { input, axis, target, held } => {
                let rows = crate::array::rows::row_shape(input, *axis);
                if (held.floating && *target == rows) || (!held.floating && target == input) {
                    PyTypeError::new_err(text)
                } else {
                    PyValueError::new_err(text)
                }
            }
            Error::FloatingTarget { .. } => PyTypeError::new_err(text),
            Error::OutOfMemory { .. } => PyMemoryError::new_err(text),
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
            Error::RepeatedAxis { .. }
            | Error::TooFewDimensions
            | Error::Shape { .. }
            | Error::Broadcast { .. }
            | Error::VarianceShape { .. }
            | Error::Element { .. }
            | Error::Option { .. }
            | Error::WeightLength { .. }
            | Error::LabelSmoothing(_)
            | Error::IgnoreIndexWithProbabilities(_)
            | Error::NumThreads { .. }
            | Error::UnknownIsa { .. } => PyValueError::new_err(text),
        }
    }
}

/// An option as a Rust value, or an error that names it.
fn option<'py, T: FromPyObjectOwned<'py>>(
    given: &Bound<'py, PyAny>,
    name: &str,
    expected: &str,
    range: &str,
) -> PyResult<T> {
    let py = given.py();
    given.extract().map_err(|error: T::Error| {
        let error: PyErr = error.into();
        if error.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err(format!("{name} must be {expected}: got {}", given.get_type()))
        } else if error.is_instance_of::<PyOverflowError>(py) {
            PyOverflowError::new_err(format!("{name} is out of range: expected {range}"))
        } else {
            // What the object's own conversion raised.
            match error.value(py).call_method1("add_note", (format!("while processing '{name}'"),)) {
                Ok(_) => error,
                Err(other) => other,
            }
        }
    })
}

/// An option that is a number.
pub(super) fn number(given: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
    option(given, name, "a number", "a number that float64 holds")
}

/// An option that is true or false.
pub(super) fn flag(given: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    option(given, name, "True or False", "True or False")
}

/// `ignore_index=`.
pub(super) fn ignore_index(given: &Bound<'_, PyAny>) -> PyResult<i64> {
    option(given, "ignore_index", "an integer", "an integer that int64 holds")
}

/// `reduction=`, as text.
pub(super) fn reduction_name<'a>(given: &'a Bound<'_, PyAny>, expected: &str) -> PyResult<Cow<'a, str>> {
    let Ok(name) = given.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!(
            "reduction must be a string: got {}, expected {expected}",
            given.get_type()
        )));
    };
    Ok(name.to_string_lossy())
}

/// The error for a `reduction=` that there is not.
pub(super) fn unknown_reduction(given: &str, expected: &str) -> PyErr {
    PyValueError::new_err(format!(
        "{given} is not a valid value for reduction: got '{given}', expected {expected}"
    ))
}

/// Warns of likely misuse at the line that called the public function.
pub(super) fn warn_mistake(py: Python<'_>, mistake: LikelyMisuse) -> PyResult<()> {
    let text = match mistake {
        LikelyMisuse::OneClass => {
            "there is one class only, and its probability is always 1; for yes or no use binary cross-entropy, or name the class axis (axis=)"
        }
        LikelyMisuse::Probabilities => {
            "the input looks like probabilities (from 0 to 1, rows summing to 1); cross_entropy takes logits and nll_loss log-probabilities: leave out the softmax, or take the logarithm"
        }
        LikelyMisuse::PositiveLogProbability => {
            "the input holds positive numbers, and log-probabilities have none; give nll_loss the result of log_softmax, or give the logits to cross_entropy"
        }
    };
    warn_of_mistake(py, text)
}

/// Warns of something that is allowed but probably not meant, at the line that called the public function.
pub(super) fn warn_of_mistake(py: Python<'_>, text: &str) -> PyResult<()> {
    warn(py, "LikelyMistakeWarning", text)
}

/// Warns that a mean is nan, and why, at the line that called the public function.
pub(super) fn warn_nothing_counted(py: Python<'_>, rows: usize) -> PyResult<()> {
    let text = if rows == 0 {
        "the mean over an empty batch is nan; use reduction=\"sum\" for 0, or skip empty batches"
    } else {
        "every row is ignored, and the mean over nothing is nan; check ignore_index and where, or use reduction=\"sum\" for 0"
    };
    warn(py, "NothingCountedWarning", text)
}

/// Has the package warn: it knows which line called it.
fn warn(py: Python<'_>, category: &str, text: &str) -> PyResult<()> {
    let exceptions = py.import("crossent._exceptions")?;
    exceptions.call_method1("warn", (text, exceptions.getattr(category)?))?;
    Ok(())
}
