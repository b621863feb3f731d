//! Arguments become views of NumPy's memory.
//!
//! An array is read in place. What is not a plain, aligned array in native byte order goes through
//! `crossent._interop.as_array` first, which copies only what it must.
//!
//! The views do not hold NumPy's memory against other threads: as everywhere in NumPy, an argument that
//! changes while a call reads it gives meaningless numbers (class indices are checked where they are used).

use std::ffi::c_int;
use std::ptr::NonNull;

use half::{bf16, f16};
use ndarray::{Dimension, IxDyn, ShapeBuilder};
use numpy::npyffi::{
    _PyArray_GET_ITEM_DATA, NPY_ARRAY_ALIGNED, NPY_ARRAY_WRITEABLE, NPY_TYPES, PyArray_CheckExact,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyBool, PyTuple};

pub(super) use crate::array::any::with_dtype;
use crate::array::any::{FloatViews, Floats, FloatsMut};
use crate::array::rows::{View, ViewMut};
use crate::targets::Target;

/// A NumPy array, any dtype.
pub(super) type Array<'py> = Bound<'py, PyUntypedArray>;

/// The floating dtypes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Float {
    pub(super) fn name(self) -> &'static str {
        match self {
            Float::F16 => "float16",
            Float::Bf16 => "bfloat16",
            Float::F32 => "float32",
            Float::F64 => "float64",
        }
    }

    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Float::F16 | Float::Bf16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }

    /// The dtype as NumPy has it.
    pub(super) fn descriptor(self, py: Python<'_>) -> PyResult<&Bound<'_, PyArrayDescr>> {
        static DESCRIPTORS: [PyOnceLock<Py<PyArrayDescr>>; 4] = [const { PyOnceLock::new() }; 4];
        let descriptor = DESCRIPTORS[self as usize].get_or_try_init(py, || {
            let module = py.import(if self == Float::Bf16 { "ml_dtypes" } else { "numpy" })?;
            PyArrayDescr::new(py, module.getattr(self.name())?).map(Bound::unbind)
        })?;
        Ok(descriptor.bind(py))
    }
}

/// The argument as a plain, aligned array in native byte order.
pub(super) fn array<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Array<'py>> {
    if let Some(array) = plain(object) {
        return Ok(array);
    }
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let converted = AS_ARRAY.import(object.py(), "crossent._interop", "as_array")?.call1((object, name))?;
    plain(&converted).ok_or_else(|| {
        PyTypeError::new_err(format!("{name} cannot be read: {} is no plain array", converted.get_type()))
    })
}

fn plain<'py>(object: &Bound<'py, PyAny>) -> Option<Array<'py>> {
    // SAFETY: `object` is a live Python object.
    if unsafe { PyArray_CheckExact(object.py(), object.as_ptr()) } == 0 {
        return None;
    }
    let array = object.cast::<PyUntypedArray>().ok()?;
    is_plain(array).then(|| array.clone())
}

/// Whether the array is aligned, in native byte order, and strided by whole elements.
pub(super) fn is_plain(array: &Array<'_>) -> bool {
    let dtype = array.dtype();
    let size = dtype.itemsize() as isize;
    flags(array) & NPY_ARRAY_ALIGNED != 0
        && dtype.is_native_byteorder() != Some(false)
        && dtype.kind() != b'O'
        && size > 0
        && array.strides().iter().all(|stride| stride % size == 0)
}

fn flags(array: &Array<'_>) -> i32 {
    // SAFETY: the pointer is that of a live array, and `array` shows that the interpreter is attached.
    unsafe { (*_PyArray_GET_ITEM_DATA(array.as_array_ptr())).flags }
}

/// The address of the first element.
pub(super) fn data(array: &Array<'_>) -> *mut std::ffi::c_char {
    // SAFETY: the pointer is that of a live array, and `array` shows that the interpreter is attached.
    unsafe { (*_PyArray_GET_ITEM_DATA(array.as_array_ptr())).data }
}

pub(super) fn is_writeable(array: &Array<'_>) -> bool {
    flags(array) & NPY_ARRAY_WRITEABLE != 0
}

/// The floating dtype of an array, if it has one.
pub(super) fn float_dtype(array: &Array<'_>) -> Option<Float> {
    float_of(&array.dtype())
}

/// The floating dtype that a descriptor is. Kind and size do not say so: other packages register types of their own,
/// and a subclass of `numpy.void` may have any name.
pub(super) fn float_of(dtype: &Bound<'_, PyArrayDescr>) -> Option<Float> {
    const HALF: c_int = NPY_TYPES::NPY_HALF as c_int;
    const FLOAT: c_int = NPY_TYPES::NPY_FLOAT as c_int;
    const DOUBLE: c_int = NPY_TYPES::NPY_DOUBLE as c_int;
    const LONGDOUBLE: c_int = NPY_TYPES::NPY_LONGDOUBLE as c_int;
    match (dtype.num(), dtype.itemsize()) {
        (HALF, 2) => Some(Float::F16),
        (FLOAT, 4) => Some(Float::F32),
        // On some platforms a long double is a double.
        (DOUBLE | LONGDOUBLE, 8) => Some(Float::F64),
        (_, 2) if is_bfloat16(dtype) => Some(Float::Bf16),
        _ => None,
    }
}

/// Whether a descriptor is the bfloat16 of `ml_dtypes`. That is not imported for this: an array of the type shows that
/// it has been imported.
fn is_bfloat16(dtype: &Bound<'_, PyArrayDescr>) -> bool {
    static TYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = dtype.py();
    let registered = dtype.num() >= NPY_TYPES::NPY_USERDEF as c_int;
    let known = || {
        TYPE.get_or_try_init(py, || {
            let modules = py.import("sys")?.getattr("modules")?;
            modules.get_item("ml_dtypes")?.getattr("bfloat16").map(Bound::unbind)
        })
    };
    registered
        && dtype.alignment() == align_of::<bf16>()
        && known().is_ok_and(|known| dtype.typeobj().is(known.bind(py)))
}

/// The kind of a dtype of NumPy's; for a type of another package, whatever it declares, that of raw bytes.
fn kind(dtype: &Bound<'_, PyArrayDescr>) -> u8 {
    let of_numpy = 0..NPY_TYPES::NPY_USERDEF as c_int;
    if of_numpy.contains(&dtype.num()) { dtype.kind() } else { b'V' }
}

/// A view of an array of floating-point numbers.
pub(super) fn floats<'a>(array: &'a Array<'_>, name: &str) -> PyResult<FloatViews<'a>> {
    // SAFETY: `array` is plain and aligned, and its dtype is the view's type.
    unsafe {
        match float_dtype(array) {
            Some(Float::F16) => Ok(Floats::F16(view(array))),
            Some(Float::Bf16) => Ok(Floats::Bf16(view(array))),
            Some(Float::F32) => Ok(Floats::F32(view(array))),
            Some(Float::F64) => Ok(Floats::F64(view(array))),
            None => Err(not_floating(array, name)),
        }
    }
}

fn not_floating(array: &Array<'_>, name: &str) -> PyErr {
    let dtype = array.dtype();
    let fix = match dtype.kind() {
        b'i' | b'u' | b'b' if name == "weight" => {
            "; use numpy.asarray(weight, dtype=numpy.float64)".to_owned()
        }
        b'i' | b'u' if dtype.itemsize() <= 2 => {
            format!("; if these numbers are what you mean, use numpy.asarray({name}, dtype=numpy.float32)")
        }
        b'i' | b'u' => {
            format!("; if these numbers are what you mean, use numpy.asarray({name}, dtype=numpy.float64)")
        }
        b'b' => "; is it a mask, or a comparison's result?".to_owned(),
        b'c' => format!("; where all imaginary parts are 0, use numpy.real({name})"),
        b'f' => format!("; use numpy.asarray({name}, dtype=numpy.float64), which rounds"),
        b'U' | b'S' => {
            "; is it text read from a file? convert it, and check that each item is a number".to_owned()
        }
        b'V' if dtype.typeobj().name().is_ok_and(|name| name == "bfloat16") => {
            "; this type has the name alone: if the numbers are bfloat16, use .view(ml_dtypes.bfloat16)"
                .to_owned()
        }
        b'V' if !dtype.has_fields() && dtype.typeobj().name().is_ok_and(|name| name != "void") => {
            format!("; use numpy.asarray({name}).astype(numpy.float32), which holds each of its numbers")
        }
        b'V' if dtype.itemsize() == 2 && !dtype.has_fields() => {
            "; two-byte void is what a file of bfloat16 loads as: use .view(ml_dtypes.bfloat16)".to_owned()
        }
        _ => String::new(),
    };
    PyTypeError::new_err(format!(
        "{name} must be floating: got dtype {dtype}, expected float16, bfloat16, float32 or float64{fix}"
    ))
}

/// A view of class indices or class probabilities.
pub(super) fn target<'a>(array: &'a Array<'_>) -> PyResult<Target<'a>> {
    let dtype = array.dtype();
    // SAFETY: `array` is plain and aligned, and its dtype is the view's type.
    unsafe {
        Ok(match (kind(&dtype), dtype.itemsize()) {
            (b'i', 1) => Target::from(view::<i8>(array)),
            (b'i', 2) => Target::from(view::<i16>(array)),
            (b'i', 4) => Target::from(view::<i32>(array)),
            (b'i', 8) => Target::from(view::<i64>(array)),
            (b'u', 1) => Target::from(view::<u8>(array)),
            (b'u', 2) => Target::from(view::<u16>(array)),
            (b'u', 4) => Target::from(view::<u32>(array)),
            (b'u', 8) => Target::from(view::<u64>(array)),
            _ => match float_of(&dtype) {
                Some(Float::F16) => Target::from(view::<f16>(array)),
                Some(Float::Bf16) => Target::from(view::<bf16>(array)),
                Some(Float::F32) => Target::from(view::<f32>(array)),
                Some(Float::F64) => Target::from(view::<f64>(array)),
                None => {
                    let fix = match dtype.kind() {
                        b'b' => {
                            "; if False is class 0 and True class 1, use numpy.asarray(target, dtype=numpy.int64)"
                        }
                        b'U' | b'S' => {
                            "; names of classes? give each the number of its class, as in [names.index(t) for t in target], \
                             with names in the order of the logits"
                        }
                        _ => "",
                    };
                    return Err(PyTypeError::new_err(format!(
                        "target has a dtype that names no classes: got {dtype}, expected an integer dtype (class indices) or a \
                         floating one (class probabilities){fix}"
                    )));
                }
            },
        })
    }
}

/// An argument of any real dtype, integers included; with `bools` booleans too, as 0 and 1.
pub(super) fn numbers<'py>(object: &Bound<'py, PyAny>, name: &str, bools: bool) -> PyResult<Array<'py>> {
    let array = array(object, name)?;
    let dtype = array.dtype();
    match kind(&dtype) {
        // As bytes of 0 and 1.
        b'b' if bools => Ok(array.call_method1("view", ("uint8",))?.cast_into()?),
        b'i' | b'u' => Ok(array),
        _ if float_of(&dtype).is_some() => Ok(array),
        _ => Err(PyTypeError::new_err(format!(
            "{name} must hold real numbers: got dtype {dtype}, expected float16, bfloat16, float32, float64{}",
            if bools { ", an integer dtype or bool" } else { " or an integer dtype" }
        ))),
    }
}

/// One weight for each class.
pub(super) fn class_weights(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<f64>>> {
    let Some(object) = object else { return Ok(None) };
    let array = array(object, "weight")?;
    let floats = floats(&array, "weight")?;
    if array.ndim() != 1 {
        let flat = array.ndim() > 1 && array.shape().iter().filter(|n| **n != 1).count() == 1;
        return Err(PyValueError::new_err(format!(
            "weight must be one-dimensional: got shape {}, expected one number for each class{}",
            shape_text(&array),
            if flat { "; use numpy.ravel(weight)" } else { "" }
        )));
    }
    let mut weights = crate::error::filled(array.len(), 0.0)?;
    with_dtype!(floats floats, view => {
        for (to, from) in weights.iter_mut().zip(view.iter()) {
            *to = crate::Element::to_f64(*from);
        }
    });
    Ok(Some(weights))
}

/// A mask of rows: booleans, or integers that are all 0 or 1.
pub(super) fn mask<'py>(object: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Array<'py>>> {
    let Some(object) = object else { return Ok(None) };
    let array = array(object, "where")?;
    match array.dtype().kind() {
        b'b' => Ok(Some(array)),
        b'i' | b'u' => bits(&array).map(Some),
        _ => Err(not_a_mask(&array)),
    }
}

/// Integers that are all 0 or 1, as booleans.
fn bits<'py>(array: &Array<'py>) -> PyResult<Array<'py>> {
    fn first<T: Copy + PartialEq + From<bool>>(view: &View<'_, T>) -> Option<IxDyn> {
        let is_bit = |x: &T| *x == T::from(false) || *x == T::from(true);
        // Repeated elements are checked once, and the index of the first is searched only where there is one to be
        // named.
        let mut once = view.clone();
        for axis in 0..view.ndim() {
            if view.strides()[axis] == 0 && view.shape()[axis] > 1 {
                once.slice_axis_inplace(ndarray::Axis(axis), (0..1).into());
            }
        }
        let all = match once.as_slice_memory_order() {
            // Without an end in the middle, many are compared at once.
            Some(slice) => slice.iter().fold(true, |all, x| all & is_bit(x)),
            None => once.iter().all(is_bit),
        };
        if all {
            return None;
        }
        once.indexed_iter().find(|(_, x)| !is_bit(x)).map(|(index, _)| index)
    }
    let dtype = array.dtype();
    // SAFETY: `array` is plain and aligned, and its dtype is the view's type. The sign changes neither 0 nor 1.
    let found = unsafe {
        match dtype.itemsize() {
            1 => first(&view::<u8>(array)),
            2 => first(&view::<u16>(array)),
            4 => first(&view::<u32>(array)),
            _ => first(&view::<u64>(array)),
        }
    };
    let Some(index) = found else {
        let method = if dtype.itemsize() == 1 { "view" } else { "astype" };
        return Ok(array.call_method1(method, ("bool",))?.cast_into()?);
    };
    let place = PyTuple::new(array.py(), index.slice())?;
    Err(PyValueError::new_err(format!(
        "where must be a mask: got where[{}] = {} of dtype {dtype}, expected booleans, or integers that are all 0 or 1; compare \
         first, for example where=numpy.not_equal(target, padding)",
        crate::error::position(index.slice()),
        array.get_item(place)?.str()?
    )))
}

/// The error for what is neither booleans nor integers. Its advice depends on the numbers: an additive mask of floating
/// numbers has 0 where others have 1.
fn not_a_mask(array: &Array<'_>) -> PyErr {
    let seen = floats(array, "where").ok().map(|numbers| {
        with_dtype!(floats numbers, view => {
            let numbers = view.iter().map(|x| crate::Element::to_f64(*x));
            numbers.fold((f64::INFINITY, f64::NEG_INFINITY, true), |(least, most, bits), x| {
                (least.min(x), most.max(x), bits && (x == 0.0 || x == 1.0))
            })
        })
    });
    let fix = match seen {
        Some((_, 1.0, true)) => "use numpy.asarray(where, dtype=bool)",
        Some((least, 0.0, _)) if least < -1.0 => {
            "a mask that is added to scores, with 0 for what counts? use numpy.equal(where, 0)"
        }
        _ => "compare first, for example where=numpy.not_equal(target, padding)",
    };
    PyTypeError::new_err(format!(
        "where must be a mask: got dtype {}, expected bool, or integers that are all 0 or 1; {fix}",
        array.dtype()
    ))
}

/// A view of a mask from [`mask`]: bytes, of which NumPy takes any but 0 for true.
pub(super) fn mask_view<'a>(array: &'a Array<'_>) -> View<'a, u8> {
    // SAFETY: the dtype was checked to be one byte wide.
    unsafe { view(array) }
}

pub(super) fn shape_text(array: &Array<'_>) -> String {
    array.getattr("shape").map_or_else(|_| format!("{:?}", array.shape()), |shape| shape.to_string())
}

/// The array's memory.
///
/// # Safety
/// The array is aligned, its strides are multiples of its item size, and its dtype is `T`.
pub(super) unsafe fn view<'a, T>(array: &'a Array<'_>) -> View<'a, T> {
    let (start, strides) = forward::<T>(array);
    // SAFETY: the pointer and strides are the live array's own, with negative strides turned around so that
    // they start at the lowest address; they are turned back below.
    let mut view = unsafe { View::from_shape_ptr(IxDyn(array.shape()).strides(strides), start) };
    flipped(array).for_each(|axis| view.invert_axis(axis));
    view
}

/// The array's memory, to write to.
///
/// # Safety
/// As for [`view`]; besides, the array is writeable, none of its elements overlap, and nothing else
/// reads or writes it while the view lives.
pub(super) unsafe fn view_mut<'a, T>(array: &'a Array<'_>) -> ViewMut<'a, T> {
    let (start, strides) = forward::<T>(array);
    let shape = IxDyn(array.shape());
    if array.is_empty() {
        // SAFETY: there is no element. Strides of 0, which `forward` gives here, would count as an overlap.
        return unsafe { ViewMut::from_shape_ptr(shape, start) };
    }
    // SAFETY: as in `view`.
    let mut view = unsafe { ViewMut::from_shape_ptr(shape.strides(strides), start) };
    flipped(array).for_each(|axis| view.invert_axis(axis));
    view
}

/// The array's memory to write to, of the dtype that it has.
///
/// # Safety
/// As for [`view_mut`]; the dtype is the array's.
pub(super) unsafe fn floats_mut<'a>(array: &'a Array<'_>, dtype: Float) -> FloatsMut<'a> {
    // SAFETY: see above.
    unsafe {
        match dtype {
            Float::F16 => FloatsMut::from(view_mut::<f16>(array)),
            Float::Bf16 => FloatsMut::from(view_mut::<bf16>(array)),
            Float::F32 => FloatsMut::from(view_mut::<f32>(array)),
            Float::F64 => FloatsMut::from(view_mut::<f64>(array)),
        }
    }
}

/// The lowest address, and strides in elements made positive.
fn forward<T>(array: &Array<'_>) -> (*mut T, IxDyn) {
    let mut start: *mut T = data(array).cast();
    let size = size_of::<T>() as isize;
    let mut strides = IxDyn::zeros(array.ndim());
    if array.is_empty() {
        // NumPy calls it aligned wherever it is.
        return (NonNull::dangling().as_ptr(), strides);
    }
    for (axis, (&len, &stride)) in array.shape().iter().zip(array.strides()).enumerate() {
        let stride = if len == 1 { 0 } else { stride / size };
        if stride < 0 {
            // SAFETY: the last element along this axis belongs to the array.
            start = unsafe { start.offset((len as isize - 1) * stride) };
        }
        strides[axis] = stride.unsigned_abs();
    }
    (start, strides)
}

/// The axes whose strides are negative.
fn flipped(array: &Array<'_>) -> impl Iterator<Item = ndarray::Axis> {
    let dims = array.shape().iter().zip(array.strides()).enumerate();
    dims.filter_map(|(axis, (&len, &stride))| (len > 1 && stride < 0).then_some(ndarray::Axis(axis)))
}

/// A measure of the work on an array: its elements, where an axis of length 0 counts as one of length 1, because its
/// rows have targets even without classes.
pub(super) fn work(array: &Array<'_>) -> usize {
    array.shape().iter().fold(1, |work: usize, n| work.saturating_mul((*n).max(1)))
}

/// The addresses from the first byte of the array to the one behind its last.
fn extent(array: &Array<'_>) -> (isize, isize) {
    let start = data(array) as isize;
    if array.is_empty() {
        return (start, start);
    }
    let (mut low, mut high) = (start, start + array.dtype().itemsize() as isize);
    for (&len, &stride) in array.shape().iter().zip(array.strides()) {
        let reach = (len as isize - 1) * stride;
        if reach < 0 { low += reach } else { high += reach }
    }
    (low, high)
}

/// Whether two arrays may share memory. The columns of one buffer, for one, do not, though each array lies between the
/// other's elements.
pub(super) fn may_overlap(a: &Array<'_>, b: &Array<'_>) -> bool {
    let ((a_low, a_high), (b_low, b_high)) = (extent(a), extent(b));
    if a_low >= b_high || b_low >= a_high {
        return false;
    }
    // Exact with little work, or an error where that does not tell.
    let exact = || {
        let work = [("max_work", 1)].into_py_dict(a.py())?;
        a.py().import("numpy")?.call_method("shares_memory", (a, b), Some(&work))?.extract()
    };
    exact().unwrap_or(true)
}

/// Whether two arrays are the same elements in the same places.
pub(super) fn is_same(a: &Array<'_>, b: &Array<'_>) -> bool {
    data(a) == data(b)
        && a.shape() == b.shape()
        && a.shape().iter().zip(a.strides().iter().zip(b.strides())).all(|(n, (a, b))| *n == 1 || a == b)
}

/// `axis=`: an integer, but no bool. What is beyond any array is out of range, not an overflow.
pub(super) struct Axis(pub isize);

impl<'py> FromPyObject<'_, 'py> for Axis {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let not_an_integer =
            || PyTypeError::new_err(format!("axis must be an integer: got {}", object.get_type()));
        if object.is_instance_of::<PyBool>() {
            return Err(not_an_integer());
        }
        match object.extract() {
            Ok(axis) => Ok(Axis(axis)),
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                Err(PyIndexError::new_err("axis is out of range: got a number beyond 64 bits"))
            }
            Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => Err(not_an_integer()),
            Err(error) => Err(error),
        }
    }
}

/// Whether elements of the array share memory with each other.
pub(super) fn overlaps_itself(array: &Array<'_>) -> bool {
    if array.is_empty() {
        return false;
    }
    let mut dims: Vec<(usize, usize)> =
        array.shape().iter().zip(array.strides()).map(|(n, stride)| (stride.unsigned_abs(), *n)).collect();
    dims.retain(|(_, n)| *n != 1);
    dims.sort_unstable();
    let mut reach = array.dtype().itemsize();
    for (stride, n) in dims {
        if stride < reach {
            return true;
        }
        reach += stride * (n - 1);
    }
    false
}
