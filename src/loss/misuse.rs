//! Checks of the first rows of an input: for likely misuse, and for what its values are where the caller does not say.

use crate::array::rows::locate;
use crate::array::rows::{Rows, View};
use crate::kernel::TILE;
use crate::kernel::element::Element;
use crate::kernel::rowset::bits;
use crate::targets::ActiveRows;

/// A number above this is no log-probability; a positive one below may come from rounding.
const POSITIVE: f64 = 1e-2;

/// What an input seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LikelyMisuse {
    /// There is one class only.
    OneClass,
    /// The rows are probabilities: from 0 to 1, and they sum to 1.
    Probabilities,
    /// A value is positive, as no log-probability is.
    PositiveLogProbability,
}

/// How many of the first rows are checked: enough to tell distributions from chance, and little to read.
pub(crate) const FIRST: usize = 3;

/// Rows of more classes are not checked: that would no longer be cheap.
const MOST_CLASSES: usize = 1 << 18;

/// How many numbers of a row are checked for a positive one.
const MOST_CHECKED: usize = 1024;

/// Whether the logits given to `cross_entropy` look like something else, by some of the first active rows.
pub(crate) fn in_logits<E: Element>(rows: &Rows<'_, E>, active: &ActiveRows) -> Option<LikelyMisuse> {
    if active.bits == 0 {
        return None;
    }
    if rows.layout.classes == 1 {
        return Some(LikelyMisuse::OneClass);
    }
    let brief = rows.layout.classes <= MOST_CLASSES;
    let probabilities = brief && all_rows(rows, active, are_probabilities::<E>);
    probabilities.then_some(LikelyMisuse::Probabilities)
}

/// Whether the log-probabilities given to `nll_loss` look like something else.
pub(crate) fn in_log_probabilities<E: Element>(
    rows: &Rows<'_, E>,
    active: &ActiveRows,
) -> Option<LikelyMisuse> {
    in_logits(rows, active).or_else(|| {
        let none_positive = all_rows(rows, active, none_is_positive);
        (!none_positive).then_some(LikelyMisuse::PositiveLogProbability)
    })
}

/// Whether one of the first elements is positive, as no log-probability is.
pub(crate) fn begins_with_a_positive<E: Element>(elements: &View<'_, E>) -> bool {
    !none_is_positive(&mut elements.iter().map(|x| x.to_f64()))
}

/// Whether something holds for every active row.
fn all_rows<E: Element>(
    rows: &Rows<'_, E>,
    active: &ActiveRows,
    holds: impl Fn(&mut dyn Iterator<Item = f64>) -> bool,
) -> bool {
    let (mut offsets, start) = ([0; TILE], active.start);
    let end = start + (u64::BITS - active.bits.leading_zeros()) as usize;
    locate(&rows.layout, start..end.min(rows.layout.line.len()), &mut offsets);
    bits(active.bits).all(|i| holds(&mut (0..rows.layout.classes).map(|c| rows.get(offsets[i], c).to_f64())))
}

fn none_is_positive(row: &mut dyn Iterator<Item = f64>) -> bool {
    for x in row.take(MOST_CHECKED) {
        if x > POSITIVE {
            return false;
        }
    }
    true
}

/// Whether a row is a distribution.
fn are_probabilities<E: Element>(row: &mut dyn Iterator<Item = f64>) -> bool {
    let tolerance = if size_of::<E>() == 2 { 1e-2 } else { 1e-4 };
    sum_of_probabilities(row, 1.0, 1.0 + tolerance).is_some_and(|sum| sum >= 1.0 - tolerance)
}

/// The sum of a row whose numbers are from 0 to `most`; none if one is not, or if the sum exceeds `most_sum`. Reading
/// ends there: in logits that comes soon.
fn sum_of_probabilities(row: &mut dyn Iterator<Item = f64>, most: f64, most_sum: f64) -> Option<f64> {
    let mut sum = 0.0;
    for p in row {
        if !(0.0..=most).contains(&p) {
            return None;
        }
        sum += p;
        if sum > most_sum {
            return None;
        }
    }
    Some(sum)
}

/// What the first rows of an input seem to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LikelyValues {
    /// There is no row of finite numbers.
    Unknown,
    /// There is one class only.
    OneClass,
    /// The rows are probabilities, and sum to 1.
    Probabilities,
    /// The rows are logarithms of probabilities, which sum to 1.
    LogProbabilities,
    /// The rows are neither probabilities nor log-probabilities.
    Logits,
}

/// The result of a check of an input's first rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstValues {
    /// What the rows seem to be.
    pub values: LikelyValues,
    /// Whether a number is positive, as no log-probability is, but for rounding.
    pub has_positive: bool,
}

/// How far from 1 the sum of a row's probabilities may be: such is the rounding error of half precision over a large
/// vocabulary, and of few decimals over a small one.
const NEAR: f64 = 0.05;

/// How many finite rows are enough for a guess.
const MOST_ROWS: usize = 200;

/// How many numbers are enough for a guess, if they are those of at least [`FIRST`] rows.
const MOST_NUMBERS: usize = 1 << 18;

/// A guess of what the rows are, from the first finite ones, of which most have to agree with it.
pub(crate) fn first_values<E: Element>(rows: &Rows<'_, E>) -> FirstValues {
    let classes = rows.layout.classes;
    let count = rows.layout.line.len().min((MOST_NUMBERS / classes.max(1)).max(FIRST));
    let mut found = FirstValues { values: LikelyValues::Unknown, has_positive: false };
    let (mut apart, mut log_apart) = (Some(Vec::new()), Some(Vec::new()));
    let (mut finite, mut offsets) = (0, [0; TILE]);
    for start in (0..if classes == 0 { 0 } else { count }).step_by(TILE) {
        let range = start..(start + TILE).min(count);
        locate(&rows.layout, range.clone(), &mut offsets);
        for (at, offset) in range.zip(offsets) {
            let row = || (0..classes).map(|class| rows.get(offset, class).to_f64());
            found.has_positive |= at < MOST_ROWS && row().any(|x| x > NEAR);
            if finite == MOST_ROWS || !row().all(f64::is_finite) {
                continue;
            }
            finite += 1;
            let sum = sum_of_probabilities(&mut row(), 1.0 + NEAR, f64::INFINITY);
            let top = row().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = top + row().map(|x| (x - top).exp()).sum::<f64>().ln();
            keep(&mut apart, sum.map(|sum| sum - 1.0));
            keep(&mut log_apart, Some(log_sum).filter(|_| top <= NEAR));
        }
    }
    found.values = match (finite, classes) {
        (0, _) => LikelyValues::Unknown,
        (_, 1) => LikelyValues::OneClass,
        _ if is_near(apart) => LikelyValues::Probabilities,
        _ if is_near(log_apart) => LikelyValues::LogProbabilities,
        _ => LikelyValues::Logits,
    };
    found
}

/// Adds the distance of a row; a row without one makes all of them none.
fn keep(distances: &mut Option<Vec<f64>>, distance: Option<f64>) {
    match (distances.as_mut(), distance) {
        (Some(distances), Some(distance)) => distances.push(distance.abs()),
        _ => *distances = None,
    }
}

/// Whether the median of the distances is small.
fn is_near(distances: Option<Vec<f64>>) -> bool {
    distances.is_some_and(|mut distances| {
        distances.sort_unstable_by(f64::total_cmp);
        let half = distances.len() / 2;
        f64::midpoint(distances[(distances.len() - 1) / 2], distances[half]) < NEAR
    })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn distributions_are_told_from_logits() {
        let p = array![[0.2_f32, 0.8], [0.5, 0.5], [1.0, 0.0]];
        let p = p.view();
        let p = Rows::new(&p, Some(1));
        assert_eq!(in_logits(&p, &ActiveRows { start: 0, bits: 0b111 }), Some(LikelyMisuse::Probabilities));
        assert_eq!(
            in_log_probabilities(&p, &ActiveRows { start: 0, bits: 0b111 }),
            Some(LikelyMisuse::Probabilities)
        );
        assert_eq!(in_logits(&p, &ActiveRows { start: 0, bits: 0 }), None);
        let x = array![[0.2_f32, 0.8], [0.5, 0.6], [1.0, 0.0]];
        let x = x.view();
        let x = Rows::new(&x, Some(1));
        assert_eq!(in_logits(&x, &ActiveRows { start: 0, bits: 0b111 }), None);
        assert_eq!(in_logits(&x, &ActiveRows { start: 0, bits: 0b101 }), Some(LikelyMisuse::Probabilities));
    }

    #[test]
    fn what_the_first_rows_seem_to_be() {
        let first = |rows: ndarray::Array2<f64>| {
            let rows = rows.view().into_dyn().into_owned();
            let rows = rows.view();
            let found = first_values(&Rows::new(&rows, Some(1)));
            (found.values, found.has_positive)
        };
        let p = array![[0.33, 0.33, 0.33], [f64::NAN, 7.0, 0.0], [0.5, 0.25, 0.25]];
        assert_eq!(first(p.clone()), (LikelyValues::Probabilities, true));
        assert_eq!(first(p.ln()), (LikelyValues::LogProbabilities, true));
        assert_eq!(first(p.slice(ndarray::s![2.., ..]).ln()), (LikelyValues::LogProbabilities, false));
        assert_eq!(first(array![[0.5, 0.6], [0.9, 0.9]]), (LikelyValues::Logits, true));
        // Most rows have to agree, and no number may be out of range.
        assert_eq!(first(array![[0.5, 0.5], [0.1, 0.9], [0.1, 0.1]]), (LikelyValues::Probabilities, true));
        assert_eq!(first(array![[0.5, 0.5], [0.1, 0.9], [0.1, -0.1]]), (LikelyValues::Logits, true));
        assert_eq!(first(array![[-1.0], [-2.0]]), (LikelyValues::OneClass, false));
        assert_eq!(first(array![[f64::INFINITY, 1.0]]), (LikelyValues::Unknown, true));
        assert_eq!(first(ndarray::Array2::zeros((0, 3))), (LikelyValues::Unknown, false));
        assert_eq!(first(ndarray::Array2::zeros((3, 0))), (LikelyValues::Unknown, false));
    }

    #[test]
    fn the_check_of_logits_is_brief() {
        for logits in [[0.4, -0.1], [0.6, 0.7], [0.9, f64::NAN]] {
            let mut checked = 0;
            let mut row = logits.into_iter().cycle().take(100_000).inspect(|_| checked += 1);
            assert!(!are_probabilities::<f32>(&mut row));
            drop(row);
            assert_eq!(checked, 2);
        }
    }

    #[test]
    fn positive_log_probabilities_and_single_classes_are_seen() {
        let x = array![[-0.2_f64, 0.5], [-1.0, -2.0]];
        let x = x.view();
        let x = Rows::new(&x, Some(1));
        assert_eq!(
            in_log_probabilities(&x, &ActiveRows { start: 0, bits: 0b11 }),
            Some(LikelyMisuse::PositiveLogProbability)
        );
        assert_eq!(in_log_probabilities(&x, &ActiveRows { start: 0, bits: 0b10 }), None);
        let one = array![[3.0_f64], [1.0]];
        let one = one.view();
        assert_eq!(
            in_logits(&Rows::new(&one, Some(1)), &ActiveRows { start: 0, bits: 0b11 }),
            Some(LikelyMisuse::OneClass)
        );
    }
}
