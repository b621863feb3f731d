//! One number for each row of a tile, and the columns of a packed tile, aligned to cache lines.
//!
//! A vector is as long as a cache line. Where it is not aligned to one, each load and store of it touches two, and a load
//! waits for the stores before it.

use std::ops::{Deref, DerefMut};

use super::TILE;

/// A number for each row of a tile.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Column<T>(pub [T; TILE]);

impl<T: Copy> Column<T> {
    /// Gives all rows the same number.
    #[inline(always)]
    pub(crate) fn of(value: T) -> Self {
        Column([value; TILE])
    }
}

impl<T> Deref for Column<T> {
    type Target = [T; TILE];

    #[inline(always)]
    fn deref(&self) -> &[T; TILE] {
        &self.0
    }
}

impl<T> DerefMut for Column<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T; TILE] {
        &mut self.0
    }
}

/// A packed tile: number c of row i at `c * TILE + i`.
#[derive(Debug)]
pub(crate) struct Packed<T>(Vec<Column<T>>);

impl<T: Copy> Packed<T> {
    /// `columns` columns of one number.
    pub(crate) fn new(columns: usize, value: T) -> Self {
        Packed(vec![Column::of(value); columns])
    }

    /// Grows to `columns` columns, if there are fewer; new ones hold `value`.
    #[inline(always)]
    pub(crate) fn at_least(&mut self, columns: usize, value: T) {
        if self.0.len() < columns {
            self.0.resize(columns, Column::of(value));
        }
    }
}

impl<T> Deref for Packed<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: a column holds TILE numbers and nothing else, since their size is a multiple of its alignment (see
        // below).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * TILE) }
    }
}

impl<T> DerefMut for Packed<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * TILE) }
    }
}

// An array of 64 numbers has a size that is a multiple of 64.
const _: () = {
    assert!(size_of::<Column<u16>>() == TILE * 2);
    assert!(size_of::<Column<f32>>() == TILE * 4);
    assert!(size_of::<Column<f64>>() == TILE * 8);
};
