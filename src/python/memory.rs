//! Memory for new arrays.
//!
//! The system clears every page of a large array as it is first touched, which takes longer than computing what goes there.
//! So the memory of the last two large results is kept, and used again when nothing refers to it any more: a loop that
//! makes one gradient after the other touches new pages once.

use std::sync::{Mutex, PoisonError};

use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PySlice;

use super::array::{self, Array};
use crate::kernel::stream::LINE;

/// Results of these sizes in bytes are kept: below, pages cost little; above, too much would be held back.
const KEPT_BYTES: std::ops::RangeInclusive<usize> = 1 << 25..=1 << 29;

/// The kept ones, oldest first: two, because the name of a result is still bound to the one before while the next is made.
static KEPT: Mutex<[Option<Py<PyUntypedArray>>; 2]> = Mutex::new([None, None]);

/// `bytes` bytes that begin with a cache line (NumPy's own begin 16 bytes behind one), and whether they have never been
/// touched.
pub(super) fn aligned(py: Python<'_>, bytes: usize) -> PyResult<(Bound<'_, PyAny>, bool)> {
    let (memory, untouched) = match kept(py, bytes)? {
        Some(memory) => (memory, false),
        None => (fresh(py, bytes)?, true),
    };
    let start = array::data(&memory).addr().wrapping_neg() % LINE;
    Ok((memory.get_item(PySlice::new(py, start as isize, (start + bytes) as isize, 1))?, untouched))
}

/// Memory of an earlier result that nothing refers to.
fn kept(py: Python<'_>, bytes: usize) -> PyResult<Option<Array<'_>>> {
    if !KEPT_BYTES.contains(&bytes) || !has_lock(py)? {
        return Ok(None);
    }
    let fits = |memory: &Py<PyUntypedArray>| {
        let len = memory.bind(py).len();
        len >= bytes + LINE && len / 2 <= bytes
    };
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(kept
        .iter()
        .flatten()
        .find(|memory| is_free(memory) && fits(memory))
        .map(|memory| memory.bind(py).clone()))
}

/// New memory, kept in the place of what is not used, else of the oldest.
fn fresh(py: Python<'_>, bytes: usize) -> PyResult<Array<'_>> {
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let memory: Array<'_> =
        EMPTY.import(py, "numpy", "empty")?.call1((bytes + LINE, "uint8"))?.cast_into()?;
    if KEPT_BYTES.contains(&bytes) && has_lock(py)? {
        // What is given up is dropped when the lock is released.
        let _given_up = {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            let place = kept.iter().position(|memory| memory.as_ref().is_none_or(is_free)).unwrap_or(0);
            let given_up = kept[place].replace(memory.clone().unbind());
            kept[place..].rotate_left(1);
            given_up
        };
    }
    Ok(memory)
}

/// Whether only its place here refers to it: views, tensors and buffers that share the memory do so through the array.
fn is_free(memory: &Py<PyUntypedArray>) -> bool {
    // SAFETY: the pointer is that of a live object, and the interpreter is held.
    unsafe { pyo3::ffi::Py_REFCNT(memory.as_ptr()) == 1 }
}

/// Whether the interpreter has its lock, without which a count of references may be out of date.
fn has_lock(py: Python<'_>) -> PyResult<bool> {
    static LOCK: PyOnceLock<bool> = PyOnceLock::new();
    LOCK.get_or_try_init(py, || match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
        Some(enabled) => enabled.call0()?.extract(),
        None => Ok(true),
    })
    .copied()
}
