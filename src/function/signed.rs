//! The logarithm of sums of exponentials with factors of any sign, over any axes.
//!
//! Elements are read block by block in the order of the rows, whatever their layout: no axis is moved, and a factor is
//! not repeated in memory.

use std::ops::Range;

use fearless_simd::{Level, dispatch};
use ndarray::{ArrayD, IxDyn};

use crate::array::any::{FloatsMut, Numbers};
use crate::array::blocks::{Sink, Source};
use crate::array::new::filled;
use crate::array::rows::{check_shape, joint_shape, resolve_axis};
use crate::error::Error;
use crate::kernel::pointwise::ELEMENTS;
use crate::kernel::signed_sum::{Largest, SHORT, SignedSum, largest, log_and_sign, short_rows, signed_sum};
use crate::kernel::{SEGMENT, isa};
use crate::parallel::{Context, for_each_chunk_of};

/// log |sum(b exp(x))| over `axes`, and the sign of the sum: 1, -1, 0 for a sum of 0 (whose logarithm is -inf), or nan.
///
/// Both have the shape that `input` and `b` broadcast to, without the axes, which may count from the end and are named
/// once each. An element whose factor is 0 adds nothing, even where it is infinite or nan. The sum is formed in `f64`
/// relative to its largest term, with its rounding errors: it loses no more than terms of both signs cancel.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::signed_logsumexp;
///
/// let (log, sign) = signed_logsumexp(&array![[1000.0_f64, 1000.0], [3.0, 1.0]], &array![1_i8, -2], &[-1])?;
/// assert_eq!((log[0], sign[0]), (1000.0, -1.0));
/// assert_eq!((format!("{:.6}", log[1]), sign[1]), ("2.684370".into(), 1.0));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::AxisOutOfRange`], [`Error::RepeatedAxis`], [`Error::Broadcast`], and [`Error::OutOfMemory`].
pub fn signed_logsumexp<'x, 'b>(
    input: impl Into<Numbers<'x>>,
    b: impl Into<Numbers<'b>>,
    axes: &[isize],
) -> Result<(ArrayD<f64>, ArrayD<f64>), Error> {
    let (input, b) = (input.into(), b.into());
    let (shape, _) = kept_shape(&input, &b, axes)?;
    let (mut log, mut sign) = (filled(IxDyn(&shape), 0.0)?, filled(IxDyn(&shape), 0.0)?);
    signed_logsumexp_into(input, b, axes, &mut log, Some((&mut sign).into()), Context::new())?;
    Ok((log, sign))
}

/// [`signed_logsumexp`] to arrays of any floating-point type. Without an array for the signs, the logarithm of a
/// negative sum is nan.
///
/// # Errors
/// As [`signed_logsumexp`], and shapes that do not fit.
pub fn signed_logsumexp_into<'x, 'b, 'o>(
    input: impl Into<Numbers<'x>>,
    b: impl Into<Numbers<'b>>,
    axes: &[isize],
    out: impl Into<FloatsMut<'o>>,
    sign: Option<FloatsMut<'_>>,
    context: Context<'_>,
) -> Result<(), Error> {
    let (input, b, out) = (input.into(), b.into(), out.into());
    let (shape, axes) = kept_shape(&input, &b, axes)?;
    check_shape("out", out.shape(), &shape)?;
    if let Some(sign) = &sign {
        check_shape("sign", sign.shape(), &shape)?;
    }
    signed_logsumexp_of(&input, &b, &axes, out, sign, context)
}

/// The shape of the sums over these axes, and the axes counted from the front.
fn kept_shape(
    input: &Numbers<'_>,
    b: &Numbers<'_>,
    axes: &[isize],
) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let shape = joint_shape(input.shape(), "b", b.shape())?;
    let mut counted = Vec::new();
    for &axis in axes {
        let at = resolve_axis(axis, shape.len())?;
        if counted.contains(&at) {
            return Err(Error::RepeatedAxis { axis });
        }
        counted.push(at);
    }
    counted.sort_unstable();
    let kept = (0..shape.len()).filter(|at| !counted.contains(at)).map(|at| shape[at]).collect();
    Ok((kept, counted))
}

/// [`signed_logsumexp_into`] for axes counted from the front, and outputs with as many elements as there are sums: they
/// may have the axes, with a length of 1.
pub(crate) fn signed_logsumexp_of(
    input: &Numbers<'_>,
    b: &Numbers<'_>,
    axes: &[usize],
    mut out: FloatsMut<'_>,
    mut sign: Option<FloatsMut<'_>>,
    context: Context<'_>,
) -> Result<(), Error> {
    let shape = joint_shape(input.shape(), "b", b.shape())?;
    let kept = (0..shape.len()).filter(|at| !axes.contains(at));
    let order: Vec<usize> = kept.clone().chain(axes.iter().copied()).collect();
    let misfit = || Error::Broadcast { name: "b", got: b.shape().to_vec(), input: input.shape().to_vec() };
    let x = input.broadcast(&shape).ok_or_else(misfit)?.permuted(&order);
    let factor = b.broadcast(&shape).ok_or_else(misfit)?.permuted(&order);
    let sums = Sums {
        level: isa::selected()?,
        terms: axes.iter().map(|at| shape[*at]).product(),
        x: x.source(),
        b: factor.source(),
        out: out.sink(),
        sign: sign.as_mut().map(FloatsMut::sink),
    };
    let count = kept.map(|at| shape[at]).product();
    if sums.terms > SEGMENT { sums.by_segments(count, context) } else { sums.by_rows(count, context) }
}

/// Sums of as many consecutive elements each.
struct Sums<'w> {
    level: Level,
    terms: usize,
    x: Box<dyn Source + 'w>,
    b: Box<dyn Source + 'w>,
    out: Box<dyn Sink + 'w>,
    sign: Option<Box<dyn Sink + 'w>>,
}

/// The memory that a thread reuses: a block of arguments, and one of results.
struct Blocks {
    x: [f64; ELEMENTS],
    b: [f64; ELEMENTS],
    log: [f64; ELEMENTS],
    sign: [f64; ELEMENTS],
}

impl Blocks {
    fn new() -> Box<Self> {
        let zeros = [0.0; ELEMENTS];
        Box::new(Blocks { x: zeros, b: zeros, log: zeros, sign: zeros })
    }
}

impl Sums<'_> {
    /// Sums of at most a segment each: a thread forms some of them.
    fn by_rows(&self, count: usize, context: Context<'_>) -> Result<(), Error> {
        // Several short rows are read at once.
        let together = (ELEMENTS / self.terms.max(1)).max(1);
        for_each_chunk_of(context, count, self.terms, Blocks::new, |blocks, rows| {
            for first in rows.clone().step_by(ELEMENTS) {
                let results = first..(first + ELEMENTS).min(rows.end);
                for start in results.clone().step_by(together) {
                    self.some_rows(blocks, start..(start + together).min(results.end), first);
                }
                self.store(results, &blocks.log, &mut blocks.sign);
            }
        })?;
        Ok(())
    }

    /// The results of rows that fit a block, or of one row; `first` is the row of the first result.
    fn some_rows(&self, blocks: &mut Blocks, rows: Range<usize>, first: usize) {
        let Blocks { x, b, log, sign } = blocks;
        let elements = rows.start * self.terms..rows.end * self.terms;
        if elements.len() > ELEMENTS {
            let largest = self.largest(x, b, elements.clone());
            let sum = self.sum(x, b, elements, &largest);
            [log[rows.start - first], sign[rows.start - first]] =
                dispatch!(self.level, simd => log_and_sign(simd, &largest, &sum));
            return;
        }
        let results = rows.start - first..rows.end - first;
        if (1..=SHORT).contains(&self.terms) {
            let (xs, bs) = self.load(x, b, elements);
            let (logs, signs) = (&mut log[results.clone()], &mut sign[results]);
            dispatch!(self.level, simd => short_rows(simd, xs, bs, self.terms, logs, signs));
            return;
        }
        let (xs, bs) = if elements.is_empty() { (&[][..], &[][..]) } else { self.load(x, b, elements) };
        for (i, row) in rows.enumerate() {
            let (xs, bs) = (&xs[i * self.terms..][..self.terms], &bs[i * self.terms..][..self.terms]);
            [log[row - first], sign[row - first]] = dispatch!(self.level, simd => {
                let largest = largest(simd, xs, bs);
                log_and_sign(simd, &largest, &signed_sum(simd, xs, bs, &largest))
            });
        }
    }

    /// Sums of many segments each, which threads take one by one: twice, since all of a row have one largest term.
    fn by_segments(&self, count: usize, context: Context<'_>) -> Result<(), Error> {
        let segments = self.terms.div_ceil(SEGMENT);
        let elements = |segment: usize| {
            let (row, at) = (segment / segments, segment % segments * SEGMENT);
            row * self.terms + at..row * self.terms + (at + SEGMENT).min(self.terms)
        };
        let largest = for_each_chunk_of(context, count * segments, SEGMENT, Blocks::new, |blocks, chunk| {
            chunk
                .map(|segment| self.largest(&mut blocks.x, &mut blocks.b, elements(segment)))
                .collect::<Vec<_>>()
        })?;
        let largest: Vec<Largest> = largest
            .concat()
            .chunks(segments)
            .map(|row| row.iter().copied().fold(Largest::NONE, Largest::or))
            .collect();
        let sums = for_each_chunk_of(context, count * segments, SEGMENT, Blocks::new, |blocks, chunk| {
            let sum = |segment: usize| {
                self.sum(&mut blocks.x, &mut blocks.b, elements(segment), &largest[segment / segments])
            };
            chunk.map(sum).collect::<Vec<_>>()
        })?;
        let mut blocks = Blocks::new();
        let (sums, blocks) = (sums.concat(), &mut *blocks);
        for first in (0..count).step_by(ELEMENTS) {
            let results = first..(first + ELEMENTS).min(count);
            for row in results.clone() {
                let mut sum = SignedSum::default();
                sums[row * segments..][..segments].iter().for_each(|segment| sum.merge(*segment));
                [blocks.log[row - first], blocks.sign[row - first]] =
                    dispatch!(self.level, simd => log_and_sign(simd, &largest[row], &sum));
            }
            self.store(results, &blocks.log, &mut blocks.sign);
        }
        Ok(())
    }

    /// At most a block of elements.
    fn load<'b>(
        &'b self,
        x: &'b mut [f64; ELEMENTS],
        b: &'b mut [f64; ELEMENTS],
        range: Range<usize>,
    ) -> (&'b [f64], &'b [f64]) {
        let len = range.len();
        let (x, b) = (self.x.load_f64(self.level, range.clone(), x), self.b.load_f64(self.level, range, b));
        (&x[..len], &b[..len])
    }

    fn largest(&self, x: &mut [f64; ELEMENTS], b: &mut [f64; ELEMENTS], range: Range<usize>) -> Largest {
        blocks_of(range).fold(Largest::NONE, |found, block| {
            let (xs, bs) = self.load(x, b, block);
            found.or(dispatch!(self.level, simd => largest(simd, xs, bs)))
        })
    }

    fn sum(
        &self,
        x: &mut [f64; ELEMENTS],
        b: &mut [f64; ELEMENTS],
        range: Range<usize>,
        largest: &Largest,
    ) -> SignedSum {
        let mut sum = SignedSum::default();
        for block in blocks_of(range) {
            let (xs, bs) = self.load(x, b, block);
            sum.merge(dispatch!(self.level, simd => signed_sum(simd, xs, bs, largest)));
        }
        sum
    }

    /// Writes the results of some rows.
    fn store(&self, rows: Range<usize>, log: &[f64; ELEMENTS], sign: &mut [f64; ELEMENTS]) {
        // SAFETY: the results of these rows belong to the thread that has formed them.
        unsafe {
            if let Some(to) = &self.sign {
                to.store(self.level, rows.clone(), sign);
                self.out.store(self.level, rows, log);
                return;
            }
        }
        // The logarithm of a negative sum is nan; the signs are not needed any more.
        for (sign, log) in sign.iter_mut().zip(log).take(rows.len()) {
            *sign = if *sign < 0.0 { f64::NAN } else { *log };
        }
        // SAFETY: as above.
        unsafe { self.out.store(self.level, rows, sign) };
    }
}

/// The blocks of a range.
fn blocks_of(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(ELEMENTS).map(move |start| start..(start + ELEMENTS).min(range.end))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Axis, arr0};

    use super::*;

    #[test]
    fn long_sums_are_those_of_short_ones_on_any_number_of_threads() {
        let n = 2 * SEGMENT + 777;
        let x = Array::from_shape_fn((2, n), |(r, i)| ((i * 7919 + r) % 1009) as f32 * 0.02 - 10.0);
        let b = Array::from_shape_fn(n, |i| (i % 13) as i16 - 4);
        let mut sums = [0.0; 2];
        for ((r, i), x) in x.indexed_iter() {
            sums[r] += f64::from(*x).exp() * f64::from(b[i]);
        }
        let mut results = Vec::new();
        for threads in [1, 2, 5] {
            let (mut log, mut sign) = (Array::<f64, _>::zeros(2), Array::<f32, _>::zeros(2));
            let context = Context::new().threads(threads);
            signed_logsumexp_into(&x, &b, &[1], &mut log, Some((&mut sign).into()), context).unwrap();
            assert!((0..2).all(|r| (log[r] - sums[r].abs().ln()).abs() < 1e-11 && sign[r] == 1.0), "{log}");
            results.push(log);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        let (columns, _) = signed_logsumexp(x.t(), b.view().insert_axis(Axis(1)), &[0]).unwrap();
        assert_eq!(columns, results[0].clone().into_dyn());
    }

    #[test]
    fn factors_and_numbers_are_broadcast_to_each_other() {
        let (x, b) = (arr0(0.5_f64), Array::from_shape_fn((3, 4), |(i, j)| (i * j) as f64 - 2.0));
        let (log, sign) = signed_logsumexp(&x, &b, &[-1]).unwrap();
        for (i, row) in b.outer_iter().enumerate() {
            let sum = row.sum() * 0.5_f64.exp();
            assert!((log[i] - sum.abs().ln()).abs() < 1e-15 && sign[i] == sum.signum());
        }
        let mut out = arr0(0.0_f32);
        signed_logsumexp_into(&x, b.slice(ndarray::s![..1, ..]), &[0, 1], &mut out, None, Context::new())
            .unwrap();
        assert!(out.into_scalar().is_nan());
        let each = signed_logsumexp(&x, &b, &[]).unwrap();
        assert_eq!((each.0.shape(), each.1[[0, 0]]), (&[3, 4][..], -1.0));
        let none = signed_logsumexp(&x, &Array::<f32, _>::zeros((2, 0)), &[1]).unwrap();
        assert!(none.0.iter().all(|log| *log == f64::NEG_INFINITY) && none.1.iter().all(|sign| *sign == 0.0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, b) = (Array::<f32, _>::zeros((2, 3)), Array::<f32, _>::zeros(2));
        assert!(matches!(signed_logsumexp(&x, &b, &[0]), Err(Error::Broadcast { name: "b", .. })));
        assert!(matches!(signed_logsumexp(&x, &x, &[2]), Err(Error::AxisOutOfRange { .. })));
        assert!(matches!(signed_logsumexp(&x, &x, &[1, -1]), Err(Error::RepeatedAxis { axis: -1 })));
        let refused = signed_logsumexp_into(
            &x,
            &x,
            &[1],
            &mut b.clone(),
            Some((&mut x.clone()).into()),
            Context::new(),
        );
        assert!(matches!(refused, Err(Error::Shape { name: "sign", .. })));
    }
}
