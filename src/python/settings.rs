//! The number of threads, and information about the build.

use std::num::NonZero;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use crate::parallel::MAX_THREADS;

functions! { build_info get_num_threads set_num_threads }

/// Sets the number of threads of every later call.
#[pyfunction]
#[pyo3(signature = (n, /))]
pub(super) fn set_num_threads(n: &Bound<'_, PyAny>) -> PyResult<()> {
    let not_an_integer =
        || PyTypeError::new_err(format!("n must be an integer: got {}, expected 1 or more", n.get_type()));
    if n.is_instance_of::<PyBool>() {
        return Err(not_an_integer());
    }
    let count: i64 = n.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyTypeError>(n.py()) {
            not_an_integer()
        } else if error.is_instance_of::<PyOverflowError>(n.py()) {
            PyValueError::new_err(format!(
                "n is out of range: got more than 64 bits, expected 1 to {MAX_THREADS}"
            ))
        } else {
            error
        }
    })?;
    let threads = usize::try_from(count).ok().and_then(NonZero::new).filter(|n| n.get() <= MAX_THREADS);
    let threads = threads.ok_or_else(|| {
        PyValueError::new_err(format!("n is out of range: got {count}, expected 1 to {MAX_THREADS}"))
    })?;
    Ok(crate::set_num_threads(threads)?)
}

/// The number of threads that a call may use.
#[pyfunction]
pub(super) fn get_num_threads() -> PyResult<usize> {
    Ok(crate::num_threads()?)
}

/// The version and the profile of the build, and the instruction set and the threads that it uses here.
#[pyfunction]
pub(super) fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    info.set_item("isa", crate::selected_isa()?)?;
    info.set_item("available_isas", crate::available_isas())?;
    info.set_item("threads", crate::num_threads()?)?;
    Ok(info)
}
