//! Arrays of any dtype and layout as blocks of numbers to compute with, read and written a block of elements at a time.
//!
//! Losses of single elements read their arguments here: they compute in `f32` or `f64` whatever is stored. Dtypes are
//! told apart by a virtual call for each block, not by a copy of the loss for each combination. A block that is stored
//! in the type of the computation is read in place.

use std::any::TypeId;
use std::ops::Range;

use super::any::{Any, FloatsMut, Integer, Numbers, with_dtype};
use super::rows::{Rows, RowsMut, read};
use crate::kernel::element::{Element, RealOf};
use crate::kernel::log::Logarithm;
use crate::kernel::pointwise::{ELEMENTS, VECTOR, convert, narrow};
use crate::kernel::prefetch::AHEAD_BYTES;
use crate::kernel::prefetch::prefetch;
use crate::kernel::real::Real;
use fearless_simd::{Level, Simd, dispatch};

/// Numbers that are read.
pub(crate) trait Source: Sync {
    fn len(&self) -> usize;

    /// Whether they are `f64`, which `f32` does not hold.
    fn is_wide(&self) -> bool;

    /// The elements of `range`, at most a block of them, as `f64`: in place if they are contiguous `f64`, else copied
    /// to `buffer`. The last element is repeated to the end of its vector. Integers beyond 2^53 are rounded.
    fn load_f64<'b>(
        &'b self,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f64; ELEMENTS],
    ) -> &'b [f64];

    /// The elements of `range`, at most a block of them, as `f32`: in place if they are contiguous `f32`, else copied
    /// to `buffer`. The last element is repeated to the end of its vector. Integers beyond 2^24 and all `f64` are
    /// rounded.
    fn load_f32<'b>(
        &'b self,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f32; ELEMENTS],
    ) -> &'b [f32];

    /// The first element of `range` for which `wrong` holds, and its position.
    fn first(&self, level: Level, range: Range<usize>, wrong: &dyn Fn(f64) -> bool) -> Option<(usize, f64)> {
        let mut buffer = [0.0; ELEMENTS];
        range.clone().step_by(ELEMENTS).find_map(|start| {
            let end = (start + ELEMENTS).min(range.end);
            let block = self.load_f64(level, start..end, &mut buffer);
            let at = block[..end - start].iter().position(|x| wrong(*x))?;
            Some((start + at, block[at]))
        })
    }
}

/// The number that a loss computes with.
pub(crate) trait Computed: Logarithm {
    fn load<'b>(
        source: &'b dyn Source,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [Self; ELEMENTS],
    ) -> &'b [Self];
}

impl Computed for f32 {
    fn load<'b>(
        source: &'b dyn Source,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f32; ELEMENTS],
    ) -> &'b [f32] {
        source.load_f32(level, range, buffer)
    }
}

impl Computed for f64 {
    fn load<'b>(
        source: &'b dyn Source,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f64; ELEMENTS],
    ) -> &'b [f64] {
        source.load_f64(level, range, buffer)
    }
}

/// Numbers that are written.
pub(crate) trait Sink: Sync {
    /// Rounds the numbers at the front of `from`, and writes them to the elements of `range`.
    ///
    /// # Safety
    /// No other thread may touch these elements, and the caller holds no reference to them.
    unsafe fn store(&self, level: Level, range: Range<usize>, from: &[f64; ELEMENTS]);
}

/// The first `len` numbers, the last of them repeated to the end of its vector.
fn filled_up<R: Copy>(buffer: &mut [R; ELEMENTS], len: usize) -> &[R] {
    let whole = len.next_multiple_of(VECTOR);
    if len > 0 {
        let last = buffer[len - 1];
        buffer[len..whole].fill(last);
    }
    &buffer[..whole]
}

/// A slice as one of R, if E is R.
fn as_is<E: 'static, R: 'static>(from: &[E]) -> Option<&[R]> {
    (TypeId::of::<E>() == TypeId::of::<R>()).then(|| {
        // SAFETY: the two types are one.
        unsafe { std::slice::from_raw_parts(from.as_ptr().cast(), from.len()) }
    })
}

/// Rows of floating-point numbers.
struct FloatSource<'a, E>(Rows<'a, E>);

impl<E: Element> Source for FloatSource<'_, E> {
    fn len(&self) -> usize {
        self.0.layout.line.len()
    }

    fn is_wide(&self) -> bool {
        RealOf::<E>::IS_F64
    }

    fn load_f64<'b>(
        &'b self,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f64; ELEMENTS],
    ) -> &'b [f64] {
        numbers(&self.0, level, range, buffer)
    }

    fn load_f32<'b>(
        &'b self,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f32; ELEMENTS],
    ) -> &'b [f32] {
        numbers(&self.0, level, range, buffer)
    }
}

/// See [`Source::load_f64`].
fn numbers<'b, E: Element, R: Real>(
    rows: &'b Rows<'_, E>,
    level: Level,
    range: Range<usize>,
    buffer: &'b mut [R; ELEMENTS],
) -> &'b [R] {
    let len = range.len();
    if len.is_multiple_of(VECTOR)
        && let Some(there) = rows.slice(range.clone()).and_then(as_is)
    {
        return there;
    }
    dispatch!(level, simd => load(simd, rows, range, &mut buffer[..len]));
    filled_up(buffer, len)
}

#[inline(always)]
fn load<S: Simd, E: Element, R: Real>(simd: S, rows: &Rows<'_, E>, range: Range<usize>, to: &mut [R]) {
    let one = |offset| R::from_f64(rows.get(offset, 0).to_f64());
    let mut at = 0;
    rows.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            let to = &mut to[at..at + run.len];
            at += run.len;
            match run.stride {
                0 => to.fill(one(run.offset)),
                1 => {
                    let from = rows.rows_of(run, 0);
                    prefetch(from.as_ptr().wrapping_byte_add(AHEAD_BYTES), size_of_val(from));
                    convert(simd, from, to);
                }
                stride => {
                    for (i, to) in to.iter_mut().enumerate() {
                        *to = one(run.offset + i as isize * stride);
                    }
                }
            }
        },
    );
}

/// Rows of integers.
struct IntegerSource<'a, I>(Rows<'a, I>);

impl<I: Integer> Source for IntegerSource<'_, I> {
    fn len(&self) -> usize {
        self.0.layout.line.len()
    }

    fn is_wide(&self) -> bool {
        false
    }

    fn load_f64<'b>(
        &'b self,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f64; ELEMENTS],
    ) -> &'b [f64] {
        let len = range.len();
        dispatch!(level, _ => read(&self.0, range, &mut buffer[..len], Integer::to_f64));
        filled_up(buffer, len)
    }

    fn load_f32<'b>(
        &'b self,
        level: Level,
        range: Range<usize>,
        buffer: &'b mut [f32; ELEMENTS],
    ) -> &'b [f32] {
        let len = range.len();
        dispatch!(level, _ => read(&self.0, range, &mut buffer[..len], Integer::to_f32));
        filled_up(buffer, len)
    }
}

impl<E: Element> Sink for RowsMut<'_, E> {
    /// # Safety
    /// As for [`Sink::store`].
    unsafe fn store(&self, level: Level, range: Range<usize>, from: &[f64; ELEMENTS]) {
        let mut rounded = [E::PADDING; ELEMENTS];
        let mut at = 0;
        dispatch!(level, simd => self.layout.line.runs(
            range,
            #[inline(always)]
            |run| {
                let numbers = &from[at..];
                at += run.len;
                if run.stride == 1 && run.len > 0 {
                    // SAFETY: the caller owns these elements.
                    narrow(simd, numbers, unsafe { self.rows_of(run, 0) });
                    return;
                }
                let rounded = &mut rounded[..run.len];
                narrow(simd, numbers, rounded);
                for (i, value) in rounded.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { self.set(run.offset + i as isize * run.stride, 0, *value) };
                }
            },
        ));
    }
}

impl<'a> Numbers<'a> {
    pub(crate) fn source<'s>(&'s self) -> Box<dyn Source + 's>
    where
        'a: 's,
    {
        match &self.0 {
            Any::Floats(held) => {
                with_dtype!(floats held, view => Box::new(FloatSource(Rows::new(view, None))))
            }
            Any::Integers(held) => {
                with_dtype!(integers held, view => Box::new(IntegerSource(Rows::new(view, None))))
            }
        }
    }
}

impl FloatsMut<'_> {
    pub(crate) fn sink(&mut self) -> Box<dyn Sink + '_> {
        with_dtype!(floats &mut self.0, view => Box::new(RowsMut::new(view, None)))
    }

    /// A source and a sink of the same memory: a block has been read when it is overwritten.
    pub(crate) fn source_and_sink(&mut self) -> (Box<dyn Source + '_>, Box<dyn Sink + '_>) {
        with_dtype!(floats &mut self.0, view => {
            let to = RowsMut::new(view, None);
            // SAFETY: a block's elements belong to one thread, which drops what it has borrowed of them before it
            // writes them.
            (Box::new(FloatSource(unsafe { Rows::of_output(&to) })), Box::new(to))
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, s};

    use super::*;
    use crate::kernel::isa;

    fn all(numbers: &Numbers<'_>, level: Level) -> Vec<f64> {
        let source = numbers.source();
        let (mut wide, mut narrow) = ([f64::NAN; ELEMENTS], [f32::NAN; ELEMENTS]);
        let wide = source.load_f64(level, 0..source.len(), &mut wide);
        assert_eq!(wide.len(), source.len().next_multiple_of(VECTOR));
        assert!(wide[source.len()..].iter().all(|x| *x == wide[source.len() - 1]));
        let narrow = source.load_f32(level, 0..source.len(), &mut narrow);
        assert!(wide.iter().zip(narrow).all(|(wide, narrow)| *wide as f32 == *narrow));
        wide[..source.len()].to_vec()
    }

    #[test]
    fn whole_vectors_of_what_is_computed_with_are_read_where_they_are() {
        let a = Array::from_shape_fn(67, |i| i as f32).into_dyn();
        let (wide, whole) = (a.mapv(f64::from), a.as_slice().unwrap());
        let is_there = |numbers: &Numbers<'_>, range: Range<usize>| {
            let (mut narrow, mut wide) = ([0.0; ELEMENTS], [0.0; ELEMENTS]);
            let (source, level) = (numbers.source(), Level::new());
            let expected: Vec<f32> = range.clone().map(|i| i as f32).collect();
            let (into_narrow, into_wide) = (narrow.as_ptr_range(), wide.as_ptr_range());
            let got = source.load_f32(level, range.clone(), &mut narrow);
            assert_eq!(got[..range.len()], expected);
            let is_short = !into_narrow.contains(&got.as_ptr());
            let got = source.load_f64(level, range, &mut wide);
            assert!(got.iter().zip(expected).all(|(x, y)| *x == f64::from(y)));
            (is_short, !into_wide.contains(&got.as_ptr()))
        };
        for start in 0..3 {
            assert_eq!(is_there(&Numbers::from(a.view()), start..start + 64), (true, false));
            assert_eq!(is_there(&Numbers::from(wide.view()), start..start + 64), (false, true));
            assert_eq!(is_there(&Numbers::from(a.view()), start..start + 63), (false, false));
        }
        let halves = a.mapv(half::f16::from_f32);
        assert_eq!(is_there(&Numbers::from(halves.view()), 0..64), (false, false));
        let mut apart = Array::zeros(134);
        apart.slice_mut(s![..;2]).assign(&a.view().into_dimensionality::<ndarray::Ix1>().unwrap());
        assert_eq!(is_there(&Numbers::from(apart.slice(s![..;2]).into_dyn()), 0..64), (false, false));
        assert_eq!(whole[66], 66.0);
    }

    #[test]
    fn every_layout_is_read_in_the_order_of_its_elements() {
        let a = Array::from_shape_fn((6, 7), |(n, c)| (n * 10 + c) as f32).into_dyn();
        let expected: Vec<f64> = a.iter().map(|x| f64::from(*x)).collect();
        for (_, level) in isa::available() {
            assert_eq!(all(&Numbers::from(a.view()), level), expected);
            let columns = a.t().as_standard_layout().into_owned();
            assert_eq!(all(&Numbers::from(columns.t()), level), expected);
            let i = a.mapv(|x| x as i16);
            assert_eq!(all(&Numbers::from(i.view()), level), expected);
            let row = a.slice(s![2, ..]).into_dyn();
            let wide = Numbers::from(row);
            let wide = wide.broadcast(&[2, 7]).unwrap();
            assert_eq!(all(&wide, level), [&expected[14..21], &expected[14..21]].concat());
        }
        let numbers = Numbers::from(a.view());
        assert!(numbers.broadcast(&[7]).is_none() && numbers.broadcast(&[6, 8]).is_none());
        assert_eq!(numbers.source().first(Level::new(), 0..42, &|x| x > 30.0), Some((22, 31.0)));
        assert_eq!(numbers.source().first(Level::new(), 0..22, &|x| x > 30.0), None);
    }

    #[test]
    fn every_layout_is_written_in_the_order_of_its_elements() {
        let mut block = [0.0; ELEMENTS];
        for (i, x) in block.iter_mut().enumerate() {
            *x = i as f64;
        }
        for (_, level) in isa::available() {
            let mut large = Array::<f32, _>::zeros((90, 33)).into_dyn();
            let part = large.slice_mut(s![1..;3, ..;-2]).into_dyn();
            let shape = part.shape().to_vec();
            let mut out = FloatsMut::from(part);
            let len: usize = shape.iter().product();
            // SAFETY: this thread alone has the array.
            unsafe { out.sink().store(level, 0..len, &block) };
            let written = large.slice(s![1..;3, ..;-2]);
            assert!(written.iter().enumerate().all(|(i, x)| *x == i as f32));
        }
    }
}
