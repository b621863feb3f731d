//! Single rows of any dtype and layout, read as `f64`, and written from it.
//!
//! Functions that take two arrays of different dtypes, or read a row many times, use them.

use fearless_simd::{Level, Simd, dispatch};
use fearless_simd_macros::simd;

use crate::array::rows::{Rows, RowsMut};
use crate::kernel::divergence::WIDTH;
use crate::kernel::element::Element;
use crate::kernel::pointwise::{convert, narrow};

/// Rows that are read one at a time. The dtypes meet in a virtual call for each row, not in copies of the kernels.
pub(crate) trait SingleRows: Sync {
    /// How many rows there are.
    fn count(&self) -> usize;

    /// Elements of a row.
    fn classes(&self) -> usize;

    /// Reads a row to the front of `to`, whose length is [`padded`], and fills up the rest with -inf.
    fn read(&self, level: Level, row: usize, to: &mut [f64]);
}

/// The length of a row, filled up to whole vectors.
pub(crate) fn padded(classes: usize) -> usize {
    classes.next_multiple_of(WIDTH)
}

impl<E: Element> SingleRows for Rows<'_, E> {
    fn count(&self) -> usize {
        self.layout.line.len()
    }

    fn classes(&self) -> usize {
        self.layout.classes
    }

    fn read(&self, level: Level, row: usize, to: &mut [f64]) {
        let classes = self.layout.classes;
        let (front, back) = to.split_at_mut(classes);
        self.layout.line.runs(row..row + 1, |run| {
            if self.layout.contiguous() {
                let from = self.classes_of(run.offset, 0..classes);
                dispatch!(level, simd => widen(simd, from, front));
            } else {
                for (class, to) in front.iter_mut().enumerate() {
                    *to = self.get(run.offset, class).to_f64();
                }
            }
        });
        back.fill(f64::NEG_INFINITY);
    }
}

/// Rows that are written one at a time.
pub(crate) trait SingleRowsMut: Sync {
    /// Writes the front of `from` to a row, each number rounded once.
    ///
    /// # Safety
    /// No other thread may touch the row, and nobody holds a reference into it.
    unsafe fn write(&self, level: Level, row: usize, from: &[f64]);
}

impl<E: Element> SingleRowsMut for RowsMut<'_, E> {
    /// # Safety
    /// As for [`SingleRowsMut::write`].
    unsafe fn write(&self, level: Level, row: usize, from: &[f64]) {
        let from = &from[..self.layout.classes];
        self.layout.line.runs(row..row + 1, |run| {
            if self.layout.contiguous() {
                // SAFETY: the caller owns the row.
                let to = unsafe { self.classes_of(run.offset, 0..from.len()) };
                dispatch!(level, simd => narrowed(simd, from, to));
            } else {
                for (class, x) in from.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { self.set(run.offset, class, E::from_f64(*x)) };
                }
            }
        });
    }
}

#[simd]
fn narrowed<S: Simd, E: Element>(simd: S, from: &[f64], to: &mut [E]) {
    narrow(simd, from, to);
}

#[simd]
fn widen<S: Simd, E: Element>(simd: S, from: &[E], to: &mut [f64]) {
    convert(simd, from, to);
}
