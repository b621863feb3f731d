//! The log loss of probabilities as scikit-learn defines it, in one read of them.

use std::sync::Mutex;

use fearless_simd::dispatch;

use crate::array::rows::input_rows;
use crate::array::rows::read;
use crate::array::rows::{Rows, View, check_shape};
use crate::array::single::{SingleRows, padded};
use crate::error::{Error, filled};
use crate::kernel::divergence::minus_log;
use crate::kernel::element::Element;
use crate::kernel::isa;
use crate::parallel::{Context, for_each_chunk_of};
use crate::sum::exact::ExactSum;
use crate::sum::parts::{Part, finished, first};

/// The sums, and what is wrong with the probabilities.
#[derive(Clone, Debug, Default)]
pub struct LogLoss {
    /// The sum of the weights times the losses, in nats.
    pub loss: ExactSum,
    /// The sum of the weights.
    pub weight: ExactSum,
    /// The first row with a number that is no probability: nan, below 0 or above 1.
    pub improper: Option<u64>,
    /// The first row whose sum is not 1.
    pub not_normalised: Option<u64>,
}

impl LogLoss {
    fn merge(&mut self, other: &LogLoss) {
        self.loss.merge(&other.loss);
        self.weight.merge(&other.weight);
        self.improper = first(self.improper, other.improper);
        self.not_normalised = first(self.not_normalised, other.not_normalised);
    }
}

/// The log loss of an (N, C) array against N classes below C; each row of one number is the probability of class 1 of two.
/// Probabilities count as at least `eps` and at most 1 - `eps`; a row's sum is 1 when it is within `tolerance` of it.
///
/// # Errors
/// See [`Error`].
pub fn log_loss<E: Element>(
    probabilities: &View<'_, E>,
    class: &View<'_, i64>,
    weight: Option<&View<'_, f64>>,
    eps: f64,
    tolerance: f64,
    context: Context<'_>,
) -> Result<LogLoss, Error> {
    let source = input_rows(probabilities, Some(1))?.rows;
    let level = isa::selected()?;
    let (rows, classes) = (source.count(), source.classes());
    check_shape("y_true", class.shape(), &[rows])?;
    if let Some(weight) = weight {
        check_shape("sample_weight", weight.shape(), &[rows])?;
    }
    let (class, weight) = (Rows::new(class, None), weight.map(|weight| Rows::new(weight, None)));
    filled(if rows == 0 { 0 } else { padded(classes) }, 0.0)?;
    let all = Mutex::new(LogLoss::default());
    for_each_chunk_of(
        context,
        rows,
        classes,
        || (Part::new(LogLoss::default(), &all, LogLoss::merge), vec![0.0; padded(classes)]),
        |(part, row), rows| {
            let sums = &mut part.own;
            for at in rows {
                source.read(level, at, row);
                let row = &row[..classes];
                let (mut c, mut w) = ([0_i64], [1.0]);
                read(&class, at..at + 1, &mut c, |c| c);
                if let Some(weight) = &weight {
                    read(weight, at..at + 1, &mut w, |w| w);
                }
                // Written so that a nan is improper.
                if !row.iter().all(|p| (0.0..=1.0).contains(p)) {
                    sums.improper = first(sums.improper, Some(at as u64));
                }
                let sum: f64 = if classes == 1 { 1.0 } else { row.iter().sum() };
                if (sum - 1.0).abs() > tolerance {
                    sums.not_normalised = first(sums.not_normalised, Some(at as u64));
                }
                let p = match (row, c[0]) {
                    ([p], 0) => 1.0 - p,
                    ([p], _) => *p,
                    (row, c) => usize::try_from(c).ok().and_then(|c| row.get(c)).copied().unwrap_or(f64::NAN),
                };
                let p = p.max(eps).min(1.0 - eps);
                let loss = dispatch!(level, simd => minus_log(simd, p));
                sums.loss.add(crate::options::weighted(w[0], loss));
                sums.weight.add(w[0]);
            }
        },
    )?;
    Ok(finished(all))
}
