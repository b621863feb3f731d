//! The likelihood of softmax(b x) and its derivatives with respect to the inverse temperature b.
//!
//! With g = max - x, the loss of a row is `b g_t + log sum exp(-b g)`. Its derivative is `g_t` less the mean of g under
//! the softmax of b x, and its second derivative is the variance of g: the loss is convex in b.

use std::ops::Range;
use std::sync::Mutex;

use fearless_simd::Simd;
use ndarray::{ArrayRef, Dimension};

use super::columns::Score;
use crate::array::rows::View;
use crate::array::rows::{Input, check_shape, input_rows};
use crate::array::single::{SingleRows, padded};
use crate::error::{Error, filled};
use crate::kernel::divergence::{Moments, Soft, moments, soft};
use crate::kernel::element::Element;
use crate::kernel::rowset::bits;
use crate::sum::exact::ExactSum;
use crate::sum::parts::{Part, finished};
use crate::targets::{Call, Target, TileLabels, TileWork, Walk, labels};

/// Exact sums over the rows that count, for one inverse temperature b, and their means.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TemperatureSums {
    /// Rows that count: those of weight 0 do not.
    pub count: u64,
    /// The weights of the rows, each 1 where none are given.
    pub weight: ExactSum,
    /// The negative log-likelihoods, in nats, times the weights.
    pub nll: ExactSum,
    /// The derivatives of the negative log-likelihoods with respect to b, times the weights.
    pub slope: ExactSum,
    /// The second derivatives of the negative log-likelihoods with respect to b, times the weights.
    pub curvature: ExactSum,
}

/// The negative log-likelihood of softmax(b x) for logits x, `log sum exp(b x) - b x_t`, and its derivatives with
/// respect to the inverse temperature b, which is positive. Of the options, the class axis, the index to ignore and the
/// weights are used.
///
/// A row of weight w, an integer, adds what w rows add, exactly; one of weight 0 nothing, whatever its logits are.
///
/// The mean is least at the temperature 1 / b that calibrates the logits. It is convex in b, so Newton's method finds
/// the minimum from a start nearby.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, Score, temperature_sums};
///
/// let (logits, target) = (array![[2.0_f64, 0.0], [1.0, 0.0], [0.0, 1.0], [1.5, 0.0]], array![0_i64, 1, 1, 0]);
/// let mut b = 1.0;
/// for _ in 0..6 {
///     let sums = temperature_sums(&logits, &target, b, &Score::new(), &Call::new())?;
///     b -= sums.mean_slope() / sums.mean_curvature();
/// }
/// assert_eq!(format!("{:.4}", 1.0 / b), "0.9575");
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; class probabilities are refused, and weights that are negative or not finite.
pub fn temperature_sums<'t, E: Element, D: Dimension>(
    logits: &ArrayRef<E, D>,
    target: impl Into<Target<'t>>,
    b: f64,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<TemperatureSums, Error> {
    sums_of(&logits.view().into_dyn(), &target.into(), b, options, call)
}

fn sums_of<E: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    b: f64,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<TemperatureSums, Error> {
    let Input { rows: source, shape, axis } = input_rows(logits, Some(options.axis))?;
    let labels = labels("temperature_sums", target, shape, axis, options.ignore_index, call)?;
    labels.check(call.context)?;
    let (count, classes) = (source.count(), source.classes());
    if let Some(weight) = options.weight {
        check_weights(weight, count)?;
    }
    filled(if count == 0 { 0 } else { padded(classes) }, 0.0)?;
    let all = Mutex::new(TemperatureSums::default());
    Walk::labelled(&labels, classes)
        .run(call.context, &AtTemperature { rows: &source, weight: options.weight, b, all: &all })?;
    Ok(finished(all))
}

/// Checks that there is a weight for each row, and that each is finite and at least 0.
fn check_weights(weight: &[f64], rows: usize) -> Result<(), Error> {
    check_shape("weight", &[weight.len()], &[rows])?;
    match weight.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        None => Ok(()),
        Some(at) => Err(Error::Element {
            problem: "weight holds a number that is no weight",
            name: "weight",
            index: vec![at],
            value: weight[at],
            expected: "a finite number of at least 0",
        }),
    }
}

/// The rows at one inverse temperature.
struct AtTemperature<'w> {
    rows: &'w dyn SingleRows,
    weight: Option<&'w [f64]>,
    b: f64,
    all: &'w Mutex<TemperatureSums>,
}

impl<'w> TileWork for AtTemperature<'w> {
    /// The sums of a thread, and a row in `f64`.
    type State = (Part<'w, TemperatureSums>, Vec<f64>);
    type Chunk = ();

    fn state(&self) -> Self::State {
        let part = Part::new(TemperatureSums::default(), self.all, TemperatureSums::merge);
        (part, vec![0.0; padded(self.rows.classes())])
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, (part, row): &mut Self::State, rows: Range<usize>, labels: &TileLabels) {
        for i in bits(labels.active) {
            let weight = self.weight.map_or(1.0, |weight| weight[rows.start + i]);
            if weight == 0.0 {
                continue;
            }
            self.rows.read(simd.level(), rows.start + i, row);
            part.own.add(row, labels.class[i], weight, &soft(simd, row), &moments(simd, row, self.b), self.b);
        }
    }

    fn end(&self, _: &mut Self::State) {}
}

impl TemperatureSums {
    /// Adds a row of a weight above 0.
    fn add(&mut self, row: &[f64], class: usize, weight: f64, soft: &Soft, moments: &Moments, b: f64) {
        self.count += 1;
        self.weight.add(weight);
        let max_minus_x = soft.max - row[class];
        if soft.rest.is_nan() || max_minus_x == f64::INFINITY {
            // No softmax, or a target of probability 0: the likelihood is nan or 0 at every temperature.
            self.nll.add(if soft.rest.is_nan() { f64::NAN } else { f64::INFINITY });
            return;
        }
        self.nll.add_product(weight, b * max_minus_x + moments.log_sum);
        self.slope.add_product(weight, max_minus_x - moments.mean);
        self.curvature.add_product(weight, moments.variance);
    }
}
