//! The log loss of probabilities as scikit-learn defines it, in one pass over them.

use std::sync::Mutex;

use fearless_simd::dispatch;
use ndarray::{ArrayRef, Dimension, Ix1};

use crate::array::any::{Any, Integer, IntegerRows, with_dtype};
use crate::array::rows::input_rows;
use crate::array::rows::read;
use crate::array::rows::{Rows, View, check_shape};
use crate::array::single::{SingleRows, padded};
use crate::error::{Error, filled};
use crate::kernel::divergence::minus_log;
use crate::kernel::element::Element;
use crate::kernel::{TILE, isa};
use crate::parallel::{Context, for_each_chunk_of};
use crate::sum::exact::ExactSum;
use crate::sum::parts::{Part, finished, first};
use crate::targets::Target;

/// Exact sums of [`log_loss`], and the first rows that are not distributions.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LogLoss {
    /// How many rows there are.
    pub rows: u64,
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
    /// Adds the sums of another thread, of the same call.
    pub(super) fn join(&mut self, other: &LogLoss) {
        self.rows += other.rows;
        self.loss.merge(&other.loss);
        self.weight.merge(&other.weight);
        self.improper = first(self.improper, other.improper);
        self.not_normalised = first(self.not_normalised, other.not_normalised);
    }
}

/// The log loss of an (N, C) array of probabilities against N class indices of any integer type; where C is 1, each
/// number is the probability of class 1 of two. For probabilities p of rows with classes t and weights w it is
///
/// ```text
/// sum_n w_n -log(min(max(p_nt, eps), 1 - eps)) / sum_n w_n
/// ```
///
/// in nats, computed in `f64`. A row whose sum is not within `tolerance` of 1 is reported, not refused.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Context, log_loss};
///
/// let p = array![[0.1_f64, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]];
/// let loss = log_loss(&p, &array![1_usize, 0, 0, 1], None, 1e-15, 1e-8, Context::new())?;
/// assert_eq!(format!("{:.5}", loss.mean()), "0.21616");
/// assert_eq!((loss.improper, loss.not_normalised), (None, None));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] and the other errors of shapes, [`Error::FloatingTarget`], and [`Error::Element`] for a class that
/// is no column; see [`Error`].
pub fn log_loss<'t, E: Element, D: Dimension>(
    probabilities: &ArrayRef<E, D>,
    class: impl Into<Target<'t>>,
    weight: Option<&ArrayRef<f64, Ix1>>,
    eps: f64,
    tolerance: f64,
    context: Context<'_>,
) -> Result<LogLoss, Error> {
    let weight = weight.map(|weight| weight.view().into_dyn());
    log_loss_of(&probabilities.view().into_dyn(), &class.into(), weight.as_ref(), eps, tolerance, context)
}

pub(crate) fn log_loss_of<E: Element>(
    probabilities: &View<'_, E>,
    class: &Target<'_>,
    weight: Option<&View<'_, f64>>,
    eps: f64,
    tolerance: f64,
    context: Context<'_>,
) -> Result<LogLoss, Error> {
    let source = input_rows(probabilities, Some(1))?.rows;
    let level = isa::selected()?;
    let (rows, classes) = (source.count(), source.classes());
    check_shape("class", class.shape(), &[rows])?;
    if let Some(weight) = weight {
        check_shape("weight", weight.shape(), &[rows])?;
    }
    let class = match &class.0 {
        Any::Integers(class) => with_dtype!(map integers class, view => Rows::new(view, None)),
        Any::Floats(_) => return Err(class.refused_as_floating("log_loss", probabilities.shape(), 1)),
    };
    check_classes(&class, rows, classes)?;
    let weight = weight.map(|weight| Rows::new(weight, None));
    filled(if rows == 0 { 0 } else { padded(classes) }, 0.0)?;
    let all = Mutex::new(LogLoss::default());
    for_each_chunk_of(
        context,
        rows,
        classes,
        || (Part::new(LogLoss::default(), &all, LogLoss::join), vec![0.0; padded(classes)]),
        |(part, row), rows| {
            let sums = &mut part.own;
            sums.rows += rows.len() as u64;
            for at in rows {
                source.read(level, at, row);
                let row = &row[..classes];
                let (mut c, mut w) = ([0_i64], [1.0]);
                with_dtype!(integers &class, class => {
                    read(class, at..at + 1, &mut c, |c| c.to_i64().unwrap_or(-1));
                });
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

/// Whether each class is a column, or 0 or 1 where there is one column.
fn check_classes(class: &IntegerRows<'_>, rows: usize, columns: usize) -> Result<(), Error> {
    let classes = if columns == 1 { 2 } else { columns as i128 };
    for start in (0..rows).step_by(TILE) {
        let (range, mut values) = (start..(start + TILE).min(rows), [0_i128; TILE]);
        with_dtype!(integers class, class => read(class, range.clone(), &mut values, Integer::to_i128));
        let outside = |value: &i128| !(0..classes).contains(value);
        if let Some(i) = values[..range.len()].iter().position(outside) {
            return Err(Error::Element {
                problem: "class is out of range",
                name: "class",
                index: vec![start + i],
                value: values[i] as f64,
                expected: "the index of a column, or 0 or 1 where there is one",
            });
        }
    }
    Ok(())
}
