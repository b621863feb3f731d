//! A look at the first rows of an input, for what it probably is but should not be.

use super::input_rows;
use crate::kernel::element::Element;
use crate::rows::View;

/// Rows looked at: enough to tell a distribution from an accident, few enough to cost nothing.
const ROWS: usize = 3;

/// A log-probability above this is none; below, it may be the rounding of a logarithm's sum.
const POSITIVE: f64 = 1e-2;

/// What an input seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// There is one class only.
    OneClass,
    /// The rows are probabilities: from 0 to 1, and they sum to 1.
    Probabilities,
    /// A value is positive, as no log-probability is.
    PositiveLogProbability,
}

/// Whether the logits given to `cross_entropy` look like something else.
#[must_use]
pub fn in_logits<E: Element>(input: &View<'_, E>, axis: Option<isize>) -> Option<Mistake> {
    let mut rows = 0;
    let mut probabilities = true;
    let one_class = each_of_the_first(input, axis, |row| {
        rows += 1;
        probabilities = probabilities && are_probabilities::<E>(row);
    })?;
    if one_class {
        return Some(Mistake::OneClass);
    }
    (rows > 0 && probabilities).then_some(Mistake::Probabilities)
}

/// Whether the log-probabilities given to `nll_loss` look like something else.
#[must_use]
pub fn in_log_probabilities<E: Element>(input: &View<'_, E>, axis: Option<isize>) -> Option<Mistake> {
    in_logits(input, axis).or_else(|| {
        let mut positive = false;
        each_of_the_first(input, axis, |mut row| positive = positive || (&mut row).any(|x| x > POSITIVE))?;
        positive.then_some(Mistake::PositiveLogProbability)
    })
}

/// Shows the first rows, and says whether they have one class only; nothing where the axis does not exist.
fn each_of_the_first<E: Element>(
    input: &View<'_, E>,
    axis: Option<isize>,
    mut look: impl FnMut(&mut dyn Iterator<Item = f64>),
) -> Option<bool> {
    let (rows, _) = input_rows(input, axis).ok()?;
    let (count, classes) = (rows.layout.line.len(), rows.layout.classes);
    rows.layout.line.runs(0..count.min(ROWS), |run| {
        for i in 0..run.len {
            let offset = run.offset + i as isize * run.stride;
            look(&mut (0..classes).map(|c| rows.get(offset, c).to_f64()));
        }
    });
    Some(classes == 1 && count > 0)
}

/// Ends at the first number that is no probability, which in logits comes soon.
fn are_probabilities<E: Element>(row: &mut dyn Iterator<Item = f64>) -> bool {
    let tolerance = if size_of::<E>() == 2 { 1e-2 } else { 1e-4 };
    let mut sum = 0.0;
    for p in row {
        if !(0.0..=1.0).contains(&p) {
            return false;
        }
        sum += p;
    }
    (sum - 1.0).abs() <= tolerance
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn distributions_are_told_from_logits() {
        let p = array![[0.2_f32, 0.8], [0.5, 0.5], [1.0, 0.0]].into_dyn();
        assert_eq!(in_logits(&p.view(), None), Some(Mistake::Probabilities));
        assert_eq!(in_log_probabilities(&p.view(), None), Some(Mistake::Probabilities));
        let x = array![[0.2_f32, 0.8], [0.5, 0.6], [1.0, 0.0]].into_dyn();
        assert_eq!(in_logits(&x.view(), None), None);
        assert_eq!(in_logits(&ndarray::ArrayD::<f32>::zeros(vec![0, 2]).view(), None), None);
    }

    #[test]
    fn positive_log_probabilities_and_single_classes_are_seen() {
        let x = array![[-0.2_f64, 0.5], [-1.0, -2.0]].into_dyn();
        assert_eq!(in_log_probabilities(&x.view(), None), Some(Mistake::PositiveLogProbability));
        let one = array![[3.0_f64], [1.0]].into_dyn();
        assert_eq!(in_logits(&one.view(), None), Some(Mistake::OneClass));
        let fine = array![[-0.5_f64, -0.9], [0.0, -80.0]].into_dyn();
        assert_eq!(in_log_probabilities(&fine.view(), None), None);
    }
}
