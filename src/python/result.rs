//! Results: NumPy scalars, new arrays, and the caller's `out=` arrays.

use std::ffi::c_int;

use numpy::npyffi::NPY_ARRAY_CARRAY;
use numpy::{PY_ARRAY_API, PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::array::{self, Array, Float};
use super::memory::ResultMemory;
use crate::Element;
use crate::array::any::FloatsMut;
use crate::array::rows::ViewMut;

/// The dtype of a loss: `dtype=`, else float64 for a float64 input and float32 for the others.
pub(super) fn loss_dtype(dtype: Option<&Bound<'_, PyAny>>, input: Float) -> PyResult<Float> {
    let Some(dtype) = dtype else {
        return Ok(if input == Float::F64 { Float::F64 } else { Float::F32 });
    };
    let descriptor = PyArrayDescr::new(dtype.py(), dtype).map_err(|error| {
        if !error.is_instance_of::<PyException>(dtype.py()) {
            return error;
        }
        PyTypeError::new_err(format!(
            "dtype is not understood: got {}, expected float16, bfloat16, float32 or float64",
            dtype
                .repr()
                .map_or_else(|_| dtype.get_type().to_string(), |text| text.to_string_lossy().into_owned())
        ))
    })?;
    array::float_of(&descriptor).ok_or_else(|| {
        PyTypeError::new_err(format!(
            "dtype must be floating: got {descriptor}, expected float16, bfloat16, float32 or float64"
        ))
    })
}

/// `out`, as an array that a result of this shape and dtype can be written to; `name` is the argument's.
fn checked<'py>(out: &Bound<'py, PyAny>, name: &str, shape: &[usize], dtype: Float) -> PyResult<Array<'py>> {
    let py = out.py();
    let Ok(array) = out.cast::<PyUntypedArray>() else {
        return Err(PyTypeError::new_err(format!("{name} must be a numpy.ndarray: got {}", out.get_type())));
    };
    static MASKED: PyOnceLock<Py<pyo3::types::PyType>> = PyOnceLock::new();
    if out.is_instance(MASKED.import(py, "numpy.ma", "MaskedArray")?)? {
        return Err(PyTypeError::new_err(format!(
            "{name} must be a plain numpy.ndarray: got a masked array"
        )));
    }
    if array.shape() != shape {
        return Err(PyValueError::new_err(format!(
            "{name} has the wrong shape: got {}, expected {}",
            array::shape_text(array),
            PyTuple::new(py, shape)?
        )));
    }
    if array::float_dtype(array) != Some(dtype) || array.dtype().is_native_byteorder() == Some(false) {
        return Err(PyTypeError::new_err(format!(
            "{name} has the wrong dtype: got {}, expected {}, the dtype of the result",
            array.dtype(),
            dtype.name()
        )));
    }
    if !array::is_writeable(array) {
        return Err(PyValueError::new_err(format!(
            "{name} is read-only; use an array that can be written to"
        )));
    }
    if !array::is_plain(array) {
        return Err(PyValueError::new_err(format!("{name} is unaligned; use an ordinary array")));
    }
    if array::overlaps_itself(array) {
        return Err(PyValueError::new_err(format!(
            "{name} overlaps itself in memory; use an ordinary array"
        )));
    }
    Ok(array.clone())
}

/// New arrays from this size on lie in a [`ResultMemory`].
const LARGE_BYTES: usize = 1 << 20;

/// An array that a call writes to: the caller's, or a new one.
pub(super) struct Output<'py> {
    array: Array<'py>,
    dtype: Float,
    /// The argument, if the array is the caller's.
    given: Option<Bound<'py, PyAny>>,
    /// Whether its memory has never been touched.
    pub untouched: bool,
}

impl<'py> Output<'py> {
    /// The argument `name` if it was given, else a new array.
    pub(super) fn new(
        py: Python<'py>,
        given: Option<&Bound<'py, PyAny>>,
        name: &str,
        shape: &[usize],
        dtype: Float,
    ) -> PyResult<Self> {
        let (array, untouched) = match given {
            Some(given) => (checked(given, name, shape, dtype)?, false),
            None => unwritten(py, shape, dtype)?,
        };
        Ok(Output { array, dtype, given: given.cloned(), untouched })
    }

    /// As [`Self::new`], of the shape of an array, and where it is new, in Fortran order if that is the array's.
    pub(super) fn like(
        given: Option<&Bound<'py, PyAny>>,
        name: &str,
        array: &Array<'py>,
        dtype: Float,
    ) -> PyResult<Self> {
        let py = array.py();
        if given.is_some() || array.is_c_contiguous() || !array.is_fortran_contiguous() {
            return Output::new(py, given, name, array.shape(), dtype);
        }
        let shape: Vec<usize> = array.shape().iter().rev().copied().collect();
        let output = Output::new(py, None, name, &shape, dtype)?;
        Ok(Output { array: output.array.call_method0("transpose")?.cast_into()?, ..output })
    }

    /// The error where it shares memory with an array that the call reads or writes too.
    pub(super) fn check_apart(&self, other: &Array<'py>, names: [&str; 2]) -> PyResult<()> {
        if self.given.is_some() && array::may_overlap(other, &self.array) {
            let [ours, theirs] = names;
            return Err(PyValueError::new_err(format!("{ours} and {theirs} share memory; use two arrays")));
        }
        Ok(())
    }

    /// The array.
    pub(super) fn array(&self) -> &Array<'py> {
        &self.array
    }

    /// Whether it takes an argument's place: the same elements.
    pub(super) fn is_over(&self, argument: &Array<'py>) -> bool {
        self.given.is_some() && array::is_same(argument, &self.array)
    }

    /// The argument, or a copy of it where this would overwrite it.
    pub(super) fn apart(&self, argument: Array<'py>) -> PyResult<Array<'py>> {
        // Nothing else refers to a new array.
        if self.given.is_some() && array::may_overlap(&argument, &self.array) {
            return Ok(argument.call_method0("copy")?.cast_into()?);
        }
        Ok(argument)
    }

    /// The memory of the array.
    ///
    /// # Safety
    /// What the call reads is [`Self::apart`] from it, and no other view of it is alive.
    pub(super) unsafe fn floats_mut(&self) -> FloatsMut<'_> {
        // SAFETY: it is plain, writeable and does not overlap itself, and has this dtype; else see above.
        unsafe { array::floats_mut(&self.array, self.dtype) }
    }

    /// The memory of the array, as elements of type E.
    ///
    /// # Safety
    /// As for [`Self::floats_mut`], and the array's dtype is that of E.
    pub(super) unsafe fn view_mut<E>(&self) -> ViewMut<'_, E> {
        // SAFETY: see above.
        unsafe { array::view_mut(&self.array) }
    }

    /// What the caller gets: the argument, or the new array.
    pub(super) fn into_array(self) -> Bound<'py, PyAny> {
        self.given.unwrap_or_else(|| self.array.into_any())
    }

    /// What the caller gets, as from [`Self::into_array`]; but for a new array without dimensions, its element as a
    /// scalar.
    pub(super) fn into_result(self) -> PyResult<Bound<'py, PyAny>> {
        if self.array.ndim() == 0 && self.given.is_none() {
            return self.array.get_item(PyTuple::empty(self.array.py()));
        }
        Ok(self.into_array())
    }
}

/// The arrays that a loss writes to: `out=` and `grad_out=`, where there are any.
pub(super) struct Outputs<'a, 'py> {
    losses: Option<&'a Output<'py>>,
    gradient: Option<&'a Output<'py>>,
}

impl<'a, 'py> Outputs<'a, 'py> {
    /// Both, which may not share memory.
    pub(super) fn new(losses: Option<&'a Output<'py>>, gradient: Option<&'a Output<'py>>) -> PyResult<Self> {
        if let (Some(losses), Some(gradient)) = (losses, gradient)
            && array::may_overlap(&losses.array, &gradient.array)
        {
            return Err(PyValueError::new_err("out and grad_out share memory; use two arrays"));
        }
        Ok(Outputs { losses, gradient })
    }

    /// The argument, or a copy of it where one of them would overwrite it.
    pub(super) fn apart(&self, argument: Array<'py>) -> PyResult<Array<'py>> {
        [self.losses, self.gradient]
            .into_iter()
            .flatten()
            .try_fold(argument, |argument, output| output.apart(argument))
    }

    /// Whether the gradient takes the input's place.
    pub(super) fn overwrite(&self, input: &Array<'py>) -> bool {
        self.gradient.is_some_and(|gradient| gradient.is_over(input))
    }
}

/// A new array, not yet written to, in memory that is used again as that of results is.
#[pyfunction]
#[pyo3(signature = (shape, dtype, /))]
fn empty<'py>(py: Python<'py>, shape: Vec<usize>, dtype: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    Ok(unwritten(py, &shape, loss_dtype(Some(dtype), Float::F32)?)?.0)
}

functions! { empty }

/// A new array, not yet written to, and whether its memory has never been touched.
fn unwritten<'py>(py: Python<'py>, shape: &[usize], dtype: Float) -> PyResult<(Array<'py>, bool)> {
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, n| bytes.checked_mul(*n)).unwrap_or(0);
    let descriptor = dtype.descriptor(py)?.clone().into_dtype_ptr();
    let (ndim, lengths) = (shape.len() as c_int, shape.as_ptr().cast_mut().cast());
    if bytes < LARGE_BYTES {
        // SAFETY: NumPy reads as many lengths as it is told there are, and takes over the reference to the descriptor.
        let array = unsafe {
            let new = PY_ARRAY_API.PyArray_Empty(py, ndim, lengths, descriptor, 0);
            Bound::from_owned_ptr_or_err(py, new)?
        };
        return Ok((array.cast_into()?, true));
    }
    // The reference is taken over below, or here where there is no memory.
    // SAFETY: it is one to a descriptor.
    let descriptor: Bound<'py, PyAny> = unsafe { Bound::from_owned_ptr(py, descriptor.cast()) };
    let memory = ResultMemory::new(py, bytes)?;
    let (start, untouched) = (memory.get().start(py), memory.get().untouched);
    // SAFETY: as above. The memory is large enough for an array of this shape, begins with a cache line, and lives as
    // long as the array, which takes over the reference to it.
    let array = unsafe {
        let class = PyUntypedArray::type_object(py).as_type_ptr();
        let (descriptor, none) = (descriptor.into_ptr().cast(), std::ptr::null_mut());
        let new = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            class,
            descriptor,
            ndim,
            lengths,
            none,
            start.cast(),
            NPY_ARRAY_CARRAY,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, new)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, new.cast(), memory.into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        array
    };
    Ok((array.cast_into()?, untouched))
}

/// A NumPy scalar.
pub(super) fn scalar(py: Python<'_>, value: f64, dtype: Float) -> PyResult<Bound<'_, PyAny>> {
    fn of<E: Element>(py: Python<'_>, value: f64, dtype: Float) -> PyResult<Bound<'_, PyAny>> {
        // Rounded here: ml_dtypes would go through float32, and NumPy warns where a number becomes infinite.
        let mut value = E::from_f64(value);
        let descriptor = dtype.descriptor(py)?.as_dtype_ptr();
        // SAFETY: NumPy reads a number of this dtype from where it is.
        unsafe {
            let new =
                PY_ARRAY_API.PyArray_Scalar(py, (&raw mut value).cast(), descriptor, std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, new)
        }
    }
    match dtype {
        Float::F16 => of::<half::f16>(py, value, dtype),
        Float::Bf16 => of::<half::bf16>(py, value, dtype),
        Float::F32 => of::<f32>(py, value, dtype),
        Float::F64 => of::<f64>(py, value, dtype),
    }
}
