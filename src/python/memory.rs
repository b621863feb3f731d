//! Memory for results, and for what is computed on the way: that of large arrays is used again.
//!
//! The system clears every page of a large array as it is first touched, which takes longer than computing what goes
//! there. So the memory of the last two large arrays that nothing refers to any more is kept and used again: a loop
//! that makes one gradient after the other touches new pages once.
//!
//! A block of memory is an array of bytes that only this file knows. The array of a result lies in it, and has an owner
//! of its own as its base. Views, tensors and buffers refer to the result or to that owner, so when the owner goes, the
//! block is free. Nothing that a caller can reach says how large a block is or whether it may be written to.

use std::ffi::{c_char, c_int};
use std::sync::{Mutex, MutexGuard, TryLockError};

use numpy::PyUntypedArray;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::array::{self, Array};
use crate::kernel::stream::LINE;

/// Blocks of so many bytes are kept: below, clearing pages costs little; above, too much memory would be held.
const KEPT_BYTES: std::ops::RangeInclusive<usize> = 1 << 25..=1 << 29;

/// How many blocks are kept: as many as most calls have large arrays, losses and a gradient, or a gradient and a block of
/// logits.
const MOST_KEPT: usize = 2;

/// An array of bytes, one cache line longer than its capacity.
struct Block {
    array: Py<PyUntypedArray>,
    capacity: usize,
}

/// The blocks that nothing refers to, the one given back last at the end.
static KEPT: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// The blocks that are kept; none where another thread has them, or had them when this process was forked off.
fn kept() -> Option<MutexGuard<'static, Vec<Block>>> {
    match KEPT.try_lock() {
        Ok(kept) => Some(kept),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The memory of one array. It is the array's base, and as a buffer the bytes of that array.
#[pyclass(frozen, module = "crossent._core")]
pub(super) struct ResultMemory {
    /// Taken when this is dropped.
    block: Option<Block>,
    bytes: usize,
    /// Whether nobody has touched it before.
    pub untouched: bool,
}

impl ResultMemory {
    /// Memory of `bytes` bytes.
    pub(super) fn new(py: Python<'_>, bytes: usize) -> PyResult<Bound<'_, Self>> {
        let again = if KEPT_BYTES.contains(&bytes) { taken(bytes) } else { None };
        let untouched = again.is_none();
        let block = match again {
            Some(block) => block,
            None => fresh(py, bytes)?,
        };
        Bound::new(py, ResultMemory { block: Some(block), bytes, untouched })
    }

    /// The address where it begins: that of a cache line (NumPy's own arrays begin 16 bytes behind one).
    pub(super) fn start(&self, py: Python<'_>) -> *mut c_char {
        self.block.as_ref().map_or(std::ptr::null_mut(), |block| {
            let start = array::data(block.array.bind(py));
            start.wrapping_add(start.addr().wrapping_neg() % LINE)
        })
    }
}

#[pymethods]
impl ResultMemory {
    /// Without a buffer that can be written to, NumPy would not let go of a result's `flags.writeable = False`.
    ///
    /// # Safety
    /// Python's: `view` is null or can be written to.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut pyo3::ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (py, memory) = (slf.py(), slf.get());
        let start = memory.start(py).cast();
        // SAFETY: the block holds so many bytes from there on, and lives as long as this object, to which the buffer
        // refers.
        match unsafe {
            pyo3::ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, memory.bytes as isize, 0, flags)
        } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(py)),
        }
    }
}

impl Drop for ResultMemory {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        if !KEPT_BYTES.contains(&block.capacity) {
            return;
        }
        // What is given up is dropped when the lock is released.
        let _given_up = kept().map(|mut kept| {
            kept.push(block);
            (kept.len() > MOST_KEPT).then(|| kept.remove(0))
        });
    }
}

/// A block of an earlier array, large enough and not much larger.
fn taken(bytes: usize) -> Option<Block> {
    let mut kept = kept()?;
    let at = kept.iter().rposition(|block| block.capacity >= bytes && block.capacity / 2 <= bytes)?;
    Some(kept.remove(at))
}

/// A new block. A large one takes the place of those that are kept, none of which fits, and so does any where there is no
/// other memory.
fn fresh(py: Python<'_>, bytes: usize) -> PyResult<Block> {
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let new = || -> PyResult<Block> {
        let empty = EMPTY.import(py, "numpy", "empty")?;
        let array: Array<'_> = empty.call1((bytes.saturating_add(LINE), "uint8"))?.cast_into()?;
        Ok(Block { array: array.unbind(), capacity: bytes })
    };
    // They are dropped when the lock is released.
    let given_up = || kept().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default();
    if bytes >= *KEPT_BYTES.start() {
        drop(given_up());
    }
    new().or_else(|error| {
        let given_up = given_up();
        if given_up.is_empty() || !error.is_instance_of::<PyMemoryError>(py) {
            return Err(error);
        }
        drop(given_up);
        new()
    })
}
