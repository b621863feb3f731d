//! Checks of what rows hold: logits, log-probabilities or probabilities; and the logarithms of probabilities.

use std::ops::Range;
use std::sync::Mutex;

use fearless_simd::f64x8;
use fearless_simd::prelude::*;
use fearless_simd_macros::simd;
use ndarray::{ArrayRef, Dimension};

use super::columns::Score;
use crate::array::rows::locate;
use crate::array::rows::{Input, input_rows};
use crate::array::rows::{RowsMut, View, ViewMut, check_shape, row_shape};
use crate::array::single::{SingleRows, padded};
use crate::error::{Error, filled};
use crate::kernel::TILE;
use crate::kernel::divergence::WIDTH;
use crate::kernel::element::Element;
use crate::kernel::log::log;
use crate::loss::misuse::{FIRST, FirstValues, LikelyMisuse, first_values, in_log_probabilities, in_logits};
use crate::sum::parts::{Part, finished};
use crate::targets::{Call, Target, TileLabels, TileWork, Walk, labels, with_any_target};

/// What rows seem to be instead of logits, or with `log_probs` instead of log-probabilities: a check of the first rows
/// that count. Without a target every row counts that the mask leaves in. Of the options, the class axis, the index to
/// ignore and `log_probs` are used.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, LikelyMisuse, Score, likely_misuse};
///
/// let found = likely_misuse(&array![[0.25_f32, 0.75]], None, &Score::new(), &Call::new())?;
/// assert_eq!(found, Some(LikelyMisuse::Probabilities));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; targets that are class probabilities are refused.
pub fn likely_misuse<E: Element, D: Dimension>(
    rows: &ArrayRef<E, D>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<Option<LikelyMisuse>, Error> {
    let view = rows.view().into_dyn();
    let Input { rows, shape, axis } = input_rows(&view, Some(options.axis))?;
    with_any_target(target, options.ignore_index, shape, axis, |target, ignore_index| {
        let active = labels("score", target, shape, axis, ignore_index, call)?.first_active(FIRST);
        Ok(if options.log_probs { in_log_probabilities(&rows, &active) } else { in_logits(&rows, &active) })
    })
}

/// Checks that the targets fit the rows, and that each is a class or ignored. Of the options, the class axis and the
/// index to ignore are used.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, Error, Score, Target, check_targets};
///
/// let (rows, target) = (array![[0.0_f32, 1.0], [1.0, 0.0]], array![0_i64, 2]);
/// let found = check_targets(&rows, Some(&Target::from(&target)), &Score::new(), &Call::new());
/// assert!(matches!(found, Err(Error::TargetOutOfRange { value: 2, classes: 2, .. })));
/// ```
///
/// # Errors
/// See [`Error`]; targets that are class probabilities are refused.
pub fn check_targets<E: Element, D: Dimension>(
    rows: &ArrayRef<E, D>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<(), Error> {
    let view = rows.view().into_dyn();
    let Input { shape, axis, .. } = input_rows(&view, Some(options.axis))?;
    with_any_target(target, options.ignore_index, shape, axis, |target, ignore_index| {
        labels("score", target, shape, axis, ignore_index, call)?.check(call.context)
    })
}

/// Writes to `out`, of the rows' shape, which rows count: those that neither their target nor the mask leaves out.
/// Without a target every row counts that the mask leaves in. Of the options, the class axis and the index to ignore
/// are used.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, Score, Target, active_rows};
///
/// let (rows, target) = (array![[0.0_f32, 1.0], [1.0, 0.0]], array![0_i64, -100]);
/// let mut active = array![false, false];
/// active_rows(&rows, Some(&Target::from(&target)), &Score::new(), &Call::new(), &mut active)?;
/// assert_eq!(active, array![true, false]);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; targets that are class probabilities are refused.
pub fn active_rows<E: Element, D: Dimension, R: Dimension>(
    rows: &ArrayRef<E, D>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
    out: &mut ArrayRef<bool, R>,
) -> Result<(), Error> {
    let (view, mut out) = (rows.view().into_dyn(), out.view_mut().into_dyn());
    let Input { shape, axis, .. } = input_rows(&view, Some(options.axis))?;
    check_shape("out", out.shape(), &row_shape(shape, axis))?;
    let out = RowsMut::new(&mut out, None);
    with_any_target(target, options.ignore_index, shape, axis, |target, ignore_index| {
        let labels = labels("score", target, shape, axis, ignore_index, call)?;
        labels.check(call.context)?;
        Walk::labelled(&labels, 1).run(call.context, &Marks { out: &out }).map(|_| ())
    })
}

/// The work of [`active_rows`].
struct Marks<'w> {
    out: &'w RowsMut<'w, bool>,
}

impl TileWork for Marks<'_> {
    type State = ();
    type Chunk = ();

    fn state(&self) {}

    fn tile<S: Simd>(&self, _: S, (): &mut (), rows: Range<usize>, labels: &TileLabels) {
        // SAFETY: the rows of a chunk belong to one thread.
        unsafe { self.out.write(rows, |i| labels.active >> i & 1 == 1) };
    }

    fn end(&self, (): &mut ()) {}
}

/// What the first rows seem to be, where the caller does not know: a guess from more rows than [`likely_misuse`]
/// checks, which tolerates numbers that were written with few digits. Rows that are not finite are left out.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{LikelyValues, likely_values};
///
/// let found = likely_values(&array![[0.33_f64, 0.33, 0.33], [0.2, 0.3, 0.5]], -1)?;
/// assert_eq!((found.values, found.has_positive), (LikelyValues::Probabilities, true));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`].
pub fn likely_values<E: Element, D: Dimension>(
    rows: &ArrayRef<E, D>,
    axis: isize,
) -> Result<FirstValues, Error> {
    let view = rows.view().into_dyn();
    Ok(first_values(&input_rows(&view, Some(axis))?.rows))
}

/// How far above 1 a probability may be by rounding.
const ROUNDING: f64 = 1.0 / 256.0;

/// The largest number that is a probability, but for rounding.
pub(crate) const MOST: f64 = 1.0 + ROUNDING;

/// How far from 1 the sum of a row may be: the rounding error of half precision over a large vocabulary.
const SUM: f64 = 0.02;

/// What is wrong with the probabilities of the rows that count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Improper {
    /// The first row with a number that is no probability (nan, below 0, above 1), its class and the number.
    pub number: Option<(u64, usize, f64)>,
    /// The first row that does not add up to 1, and its sum.
    pub sum: Option<(u64, f64)>,
}

impl Improper {
    /// Keeps the first rows of both.
    fn merge(&mut self, other: &Improper) {
        if let Some(number) = other.number.filter(|new| self.number.is_none_or(|old| new.0 < old.0)) {
            self.number = Some(number);
        }
        if let Some(sum) = other.sum.filter(|new| self.sum.is_none_or(|old| new.0 < old.0)) {
            self.sum = Some(sum);
        }
    }

    /// Checks a row, whose length is that of whole vectors.
    #[inline(always)]
    fn check<S: Simd>(&mut self, simd: S, at: u64, row: &[f64]) {
        let (sum, all_proper) = sum_of_proper(simd, row);
        let mut found = Improper::default();
        if !all_proper {
            let class = row.iter().position(|p| !is_proper(*p)).unwrap_or(0);
            found.number = Some((at, class, row[class]));
        } else if (sum - 1.0).abs() > SUM {
            found.sum = Some((at, sum));
        }
        self.merge(&found);
    }
}

/// Whether a number is a probability, but for rounding; nan is none.
fn is_proper(p: f64) -> bool {
    (0.0..=MOST).contains(&p)
}

/// The sum of the numbers, and whether all are probabilities.
#[simd]
fn sum_of_proper<S: Simd>(simd: S, row: &[f64]) -> (f64, bool) {
    let c = |value| f64x8::splat(simd, value);
    let (mut sum, mut proper) = (c(0.0), c(1.0));
    for p in row.chunks_exact(WIDTH) {
        let p = f64x8::from_slice(simd, p);
        sum += p;
        proper = p.simd_ge(c(0.0)).select(p.simd_le(c(MOST)).select(proper, c(0.0)), c(0.0));
    }
    (sum.reduce_sum(), proper.reduce_min() > 0.0)
}

/// Writes the logarithms of the probabilities of the rows that count, and 0 for the others, which are not read. `out`
/// has the rows' shape with the classes along a further axis at the end. Without a target every row counts that the
/// mask leaves in. Of the options, the class axis and the index to ignore are used.
///
/// ```
/// use crossent::ndarray::{Array2, array};
/// use crossent::{Call, Improper, Score, log_of_probabilities};
///
/// let p = array![[0.5_f32, 0.5], [0.25, 0.25]];
/// let mut log_p = Array2::zeros((2, 2));
/// let found = log_of_probabilities(&p, None, &Score::new(), &Call::new(), &mut log_p)?;
/// assert_eq!(log_p[[0, 0]], -std::f64::consts::LN_2);
/// assert_eq!((found.number, found.sum), (None, Some((1, 0.5))));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; targets that are class probabilities are refused.
pub fn log_of_probabilities<E: Element, D: Dimension, R: Dimension>(
    probabilities: &ArrayRef<E, D>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
    out: &mut ArrayRef<f64, R>,
) -> Result<Improper, Error> {
    logarithms_of(&probabilities.view().into_dyn(), target, options, call, out.view_mut().into_dyn())
}

fn logarithms_of<E: Element>(
    probabilities: &View<'_, E>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
    mut out: ViewMut<'_, f64>,
) -> Result<Improper, Error> {
    let Input { rows, shape, axis } = input_rows(probabilities, Some(options.axis))?;
    let mut expected = row_shape(shape, axis);
    expected.push(shape[axis]);
    check_shape("out", out.shape(), &expected)?;
    let last = out.ndim() - 1;
    let out = RowsMut::new(&mut out, Some(last));
    with_any_target(target, options.ignore_index, shape, axis, |target, ignore_index| {
        let labels = labels("score", target, shape, axis, ignore_index, call)?;
        labels.check(call.context)?;
        let (count, classes) = (rows.count(), rows.classes());
        filled(if count == 0 { 0 } else { padded(classes) }, 0.0)?;
        let all = Mutex::new(Improper::default());
        let work = Logarithms { rows: &rows, out: &out, all: &all };
        Walk::labelled(&labels, classes).run(call.context, &work)?;
        Ok(finished(all))
    })
}

/// The work of [`log_of_probabilities`]: writes the logarithms of rows, and checks the rows.
struct Logarithms<'w> {
    rows: &'w dyn SingleRows,
    out: &'w RowsMut<'w, f64>,
    all: &'w Mutex<Improper>,
}

impl<'w> TileWork for Logarithms<'w> {
    /// The improper rows that a thread finds, and a row in `f64`.
    type State = (Part<'w, Improper>, Vec<f64>);
    type Chunk = ();

    fn state(&self) -> Self::State {
        let part = Part::new(Improper::default(), self.all, Improper::merge);
        (part, vec![0.0; padded(self.rows.classes())])
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, (part, row): &mut Self::State, rows: Range<usize>, labels: &TileLabels) {
        let classes = self.rows.classes();
        let mut offsets = [0; TILE];
        locate(&self.out.layout, rows.clone(), &mut offsets);
        for (i, at) in rows.enumerate() {
            if labels.active >> i & 1 == 0 {
                row.fill(0.0);
            } else {
                self.rows.read(simd.level(), at, row);
                row[classes..].fill(0.0);
                part.own.check(simd, at as u64, row);
                logarithms(simd, row);
            }
            // SAFETY: the rows of a chunk belong to one thread.
            unsafe { (0..classes).for_each(|class| self.out.set(offsets[i], class, row[class])) };
        }
    }

    fn end(&self, _: &mut Self::State) {}
}

/// The logarithms of whole vectors, in place.
#[simd]
fn logarithms<S: Simd>(simd: S, row: &mut [f64]) {
    for x in row.chunks_exact_mut(WIDTH) {
        log::<S, f64>(f64x8::from_slice(simd, x)).store_slice(x);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};

    use super::*;

    fn log_of(probabilities: ArrayD<f32>, target: Option<ArrayD<i64>>) -> (ArrayD<f64>, Improper) {
        let mut out = ArrayD::zeros(probabilities.raw_dim());
        let target = target.as_ref().map(|target| Target::from(target.view()));
        let options = Score::new();
        let found =
            log_of_probabilities(&probabilities, target.as_ref(), &options, &Call::new(), &mut out).unwrap();
        (out, found)
    }

    #[test]
    fn rows_that_count_become_logarithms_and_are_checked() {
        let p = array![[0.25_f32, 0.75], [0.5, 0.25], [f32::NAN, 0.5], [-0.5, 1.5]].into_dyn();
        let (log, found) = log_of(p.clone(), None);
        assert_eq!(log[[0, 0]], 0.25_f64.ln());
        assert!((log[[0, 1]] - 0.75_f64.ln()).abs() < 1e-16);
        let Some((2, 0, value)) = found.number else { panic!("{found:?}") };
        assert!(value.is_nan());
        assert_eq!(found.sum, Some((1, 0.75)));
        let (log, found) = log_of(p, Some(array![0, -100, -100, -100].into_dyn()));
        assert_eq!(found, Improper::default());
        assert_eq!(log[[2, 0]], 0.0);
    }

    #[test]
    fn a_probability_of_nothing_is_minus_infinity() {
        let (log, found) = log_of(array![[0.0_f32, 1.0, 1e-40]].into_dyn(), None);
        assert_eq!((log[[0, 0]], log[[0, 1]]), (f64::NEG_INFINITY, 0.0));
        assert!((log[[0, 2]] + 92.103).abs() < 1e-3);
        assert_eq!(found, Improper::default());
    }
}
