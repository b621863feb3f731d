//! Checks of the first rows of an input for likely misuse: probabilities instead of logits, for instance.

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

/// Whether a row is a distribution. Reading ends at the first number that is no probability, or that makes the sum too
/// large: in logits that comes soon.
fn are_probabilities<E: Element>(row: &mut dyn Iterator<Item = f64>) -> bool {
    let tolerance = if size_of::<E>() == 2 { 1e-2 } else { 1e-4 };
    let mut sum = 0.0;
    for p in row {
        if !(0.0..=1.0).contains(&p) {
            return false;
        }
        sum += p;
        if sum > 1.0 + tolerance {
            return false;
        }
    }
    sum >= 1.0 - tolerance
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
