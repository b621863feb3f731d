//! New arrays for results: an error where there is no memory for one, and nothing written before its numbers are known.

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::slice_from_raw_parts_mut;

use ndarray::{Array, ArrayRef, Dimension, ShapeBuilder};

use crate::error::{self, Error};
use crate::kernel::element::Element;

/// An array of this shape that holds one number everywhere.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn filled<T: Copy, D: Dimension>(shape: D, value: T) -> Result<Array<T, D>, Error> {
    let count = count_of::<T, D>(&shape)?;
    let too_large = |_| Error::OutOfMemory { count, size: size_of::<T>() };
    Array::from_shape_vec(shape, error::filled(count, value)?).map_err(too_large)
}

/// An array of zeros, of the shape of another and in its order of memory if that is C's or Fortran's. Large ones are
/// pages that the system has cleared, and that nobody has touched.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn zeros_like<E: Element, D: Dimension>(array: &ArrayRef<E, D>) -> Result<Array<E, D>, Error> {
    let shape = array.raw_dim();
    let count = count_of::<E, D>(&shape)?;
    let out_of_memory = Error::OutOfMemory { count, size: size_of::<E>() };
    let fortran = !array.is_standard_layout() && array.t().is_standard_layout();
    let Ok(numbers) = zeros::<E>(count) else { return Err(out_of_memory) };
    Array::from_shape_vec(shape.set_f(fortran), numbers).map_err(|_| out_of_memory)
}

/// No memory for it.
struct NoMemory;

fn zeros<E: Element>(count: usize) -> Result<Vec<E>, NoMemory> {
    let layout = Layout::array::<E>(count).map_err(|_| NoMemory)?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the layout has a size. Elements are floating-point numbers, of which all bits 0 are 0; and the memory is
    // of this layout, from the global allocator.
    unsafe {
        let start = alloc_zeroed(layout).cast::<E>();
        if start.is_null() {
            return Err(NoMemory);
        }
        Ok(Box::from_raw(slice_from_raw_parts_mut(start, count)).into_vec())
    }
}

fn count_of<T, D: Dimension>(shape: &D) -> Result<usize, Error> {
    shape.size_checked().ok_or(Error::OutOfMemory { count: usize::MAX, size: size_of::<T>() })
}

#[cfg(test)]
mod tests {
    use half::f16;
    use ndarray::{Array2, arr2};

    use super::*;

    #[test]
    fn zeros_lie_in_memory_as_the_array_does() {
        let c = arr2(&[[f16::ONE, f16::ONE, f16::ONE], [f16::ONE, f16::ONE, f16::ONE]]);
        let zeros = zeros_like(&c).unwrap();
        assert!(zeros.is_standard_layout() && zeros.iter().all(|x| *x == f16::ZERO));
        let fortran = zeros_like(&c.t()).unwrap();
        assert_eq!((fortran.shape(), fortran.strides()), (&[3, 2][..], &[1, 3][..]));
        let none = zeros_like(&Array2::<f64>::zeros((0, 3))).unwrap();
        assert_eq!(none.shape(), [0, 3]);
    }

    #[test]
    fn too_large_an_array_is_an_error() {
        let one = Array2::<f32>::zeros((1, 1));
        let large = one.broadcast((1 << 31, 1 << 30)).unwrap();
        assert_eq!(zeros_like(&large).unwrap_err(), Error::OutOfMemory { count: 1 << 61, size: 4 });
        assert_eq!(
            filled(large.raw_dim(), 0_i64).unwrap_err(),
            Error::OutOfMemory { count: 1 << 61, size: 8 }
        );
        assert_eq!(filled(ndarray::Ix1(3), true).unwrap(), ndarray::arr1(&[true; 3]));
    }
}
