//! From sums to figures: means, their standard errors, and functions of them.
//!
//! Each figure is a quotient of exact sums, rounded once, or an elementary function of such quotients. It depends on
//! the rows alone: not on how they were cut into calls, split among threads or merged.

use std::f64::consts::LN_2;

use crate::scoring::compare::{ComparisonRows, ComparisonSums, TargetSums};
use crate::scoring::log_loss::LogLoss;
use crate::scoring::score::{Bin, Group, ScoreSums};
use crate::scoring::temperature::TemperatureSums;
use crate::sum::exact::{covariance, covariance_divisor, ones, standard_error};
use crate::sum::integer::Integer;

/// 95 % of a normal distribution lie within so many standard deviations of its mean.
const Z: f64 = 1.9599639845400536;

/// `part` / `whole`, rounded once; nan for nothing.
fn share(part: u64, whole: u64) -> f64 {
    Integer::from(part).over(&Integer::from(whole))
}

impl ScoreSums {
    /// Adds the sums of later rows: `first_nonfinite` numbers the rows of both together. Sums of no rows may have been
    /// made with any options.
    ///
    /// # Panics
    /// If the two were made with different `top_k` or numbers of `bins`.
    pub fn merge(&mut self, other: &ScoreSums) {
        if other.rows == 0 {
            return;
        }
        if self.rows == 0 {
            self.clone_from(other);
            return;
        }
        assert!(
            self.top_k == other.top_k && self.bins.len() == other.bins.len(),
            "scores do not add up: got top_k {:?} and {} bins, expected {:?} and {}",
            other.top_k,
            other.bins.len(),
            self.top_k,
            self.bins.len()
        );
        let first = self.first_nonfinite.or(other.first_nonfinite.map(|row| self.rows + row));
        self.join(other);
        self.first_nonfinite = first;
    }

    /// Rows that are left out.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.rows - self.count
    }

    /// The mean negative log-likelihood in nats; nan for no rows.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.nll.mean(self.count)
    }

    /// The standard error of [`Self::mean`]: the sample standard deviation (with n - 1) over the root of n; nan for
    /// fewer than two rows. It takes the rows as independent.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        standard_error(&self.nll_squared, &self.nll, self.count)
    }

    /// The perplexity: the exponential of [`Self::mean`].
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// The exponentials of the ends of the mean's 95 % interval, which are 1.96 standard errors away from it.
    #[must_use]
    pub fn perplexity_interval(&self) -> (f64, f64) {
        let (mean, error) = (self.mean(), self.standard_error());
        ((mean - Z * error).exp(), (mean + Z * error).exp())
    }

    /// The mean negative log-likelihood in bits; nan for no rows.
    #[must_use]
    pub fn bits_per_row(&self) -> f64 {
        self.mean() / LN_2
    }

    /// The share of rows whose prediction is the target.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        share(self.correct, self.count)
    }

    /// For each k of the call, the share of rows whose target is among the k largest logits.
    #[must_use]
    pub fn top_k_accuracy(&self) -> Vec<(usize, f64)> {
        let shares = self.top.iter().map(|hits| share(*hits, self.count));
        self.top_k.iter().copied().zip(shares).collect()
    }

    /// The mean entropy of the softmax, in nats.
    #[must_use]
    pub fn mean_entropy(&self) -> f64 {
        self.entropy.mean(self.count)
    }

    /// The mean of 1 / rank.
    #[must_use]
    pub fn mean_reciprocal_rank(&self) -> f64 {
        self.reciprocal_rank.mean(self.count)
    }

    /// The expected calibration error: the mean over the rows of the distance between accuracy and mean confidence of
    /// their bin, which is the sum over the bins of |correct - sum of confidences|, divided by the number of rows in
    /// them. nan where there are none.
    #[must_use]
    pub fn expected_calibration_error(&self) -> f64 {
        let (mut gaps, mut rows) = (Integer::default(), 0);
        for bin in &self.bins {
            gaps = gaps.plus(&ones(bin.correct).minus(&bin.confidence.total()).abs());
            rows += bin.count;
        }
        gaps.over(&ones(rows))
    }

    /// The Brier score: the mean over the rows of the sum over the classes of (p - y)^2, where y is 1 for the target
    /// and 0 for the other classes. From 0 to 2.
    #[must_use]
    pub fn brier_score(&self) -> f64 {
        self.squared_error.mean(self.count)
    }
}

impl Bin {
    /// The mean of the largest probabilities; nan for an empty bin.
    #[must_use]
    pub fn mean_confidence(&self) -> f64 {
        self.confidence.mean(self.count)
    }

    /// The share of rows whose prediction is the target; nan for an empty bin.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        share(self.correct, self.count)
    }
}

impl Group {
    /// The mean negative log-likelihood in nats; nan for no rows.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.nll.mean(self.count)
    }

    /// The standard error of [`Self::mean`]; nan for fewer than two rows.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        standard_error(&self.nll_squared, &self.nll, self.count)
    }
}

impl ComparisonSums {
    /// Adds the sums of other rows. Sums of no rows merge with any.
    ///
    /// # Panics
    /// If one of the two was made with targets, and the other without.
    pub fn merge(&mut self, other: &ComparisonSums) {
        if other.rows == 0 {
            return;
        }
        if self.rows == 0 {
            self.clone_from(other);
            return;
        }
        assert!(
            self.targets.is_some() == other.targets.is_some(),
            "comparisons do not add up: targets were given for one of two only"
        );
        self.join(other);
    }

    /// Rows that are left out.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.rows - self.count
    }

    /// The mean of KL(P || Q) in nats; nan for no rows.
    #[must_use]
    pub fn kl_mean(&self) -> f64 {
        self.forward.mean(self.count)
    }

    /// The standard error of [`Self::kl_mean`]: the sample standard deviation (with n - 1) over the root of n; nan for
    /// fewer than two rows.
    #[must_use]
    pub fn kl_standard_error(&self) -> f64 {
        standard_error(&self.forward_squared, &self.forward, self.count)
    }

    /// The mean of KL(Q || P) in nats.
    #[must_use]
    pub fn reverse_kl_mean(&self) -> f64 {
        self.reverse.mean(self.count)
    }

    /// The mean of the Jensen-Shannon divergence, (KL(P || M) + KL(Q || M)) / 2 with M = (P + Q) / 2, in nats: from 0
    /// to ln 2.
    #[must_use]
    pub fn jensen_shannon_mean(&self) -> f64 {
        self.jensen_shannon.mean(self.count)
    }

    /// The share of rows for which both models have the same prediction.
    #[must_use]
    pub fn same_top_share(&self) -> f64 {
        share(self.same_top, self.count)
    }

    /// The standard error of [`Self::same_top_share`]: the root of s (1 - s) / (n - 1) for a share s; nan for fewer
    /// than two rows.
    #[must_use]
    pub fn same_top_standard_error(&self) -> f64 {
        let same = self.same_top_share();
        if self.count > 1 { (same * (1.0 - same) / (self.count - 1) as f64).sqrt() } else { f64::NAN }
    }
}

/// n times the sum of squared differences from the mean, of both models, and of the products of these differences.
struct Covariances {
    p: Integer,
    q: Integer,
    both: Integer,
    /// Divided by it, they are the variances and the covariance of the two means.
    divisor: Integer,
}

impl TargetSums {
    /// The mean negative log-likelihood under P, in nats; nan for no rows.
    #[must_use]
    pub fn nll_mean(&self) -> f64 {
        self.nll.mean(self.count)
    }

    /// The mean negative log-likelihood under Q, in nats; nan for no rows.
    #[must_use]
    pub fn other_nll_mean(&self) -> f64 {
        self.other_nll.mean(self.count)
    }

    fn is_finite(&self) -> bool {
        self.nll.is_finite() && self.other_nll.is_finite()
    }

    fn covariances(&self) -> Option<Covariances> {
        if !self.is_finite() || self.count < 2 {
            return None;
        }
        let (p, q, n) = (&self.nll, &self.other_nll, self.count);
        Some(Covariances {
            p: covariance(&self.nll_squared, p, p, n),
            q: covariance(&self.other_nll_squared, q, q, n),
            both: covariance(&self.nll_product, p, q, n),
            divisor: covariance_divisor(n).times(&Integer::from(n)),
        })
    }

    /// ln(perplexity of Q / perplexity of P): the difference of the means.
    #[must_use]
    pub fn log_perplexity_ratio(&self) -> f64 {
        if self.is_finite() {
            return self.other_nll.total().minus(&self.nll.total()).over(&ones(self.count));
        }
        self.other_nll_mean() - self.nll_mean()
    }

    /// The standard error of [`Self::log_perplexity_ratio`], for paired rows: the root of (var(P) + var(Q) - 2 cov(P,
    /// Q)) / n with sample variances.
    #[must_use]
    pub fn log_perplexity_ratio_standard_error(&self) -> f64 {
        self.covariances().map_or(f64::NAN, |Covariances { p, q, both, divisor }| {
            p.plus(&q).minus(&both.shifted(1)).or_zero().over(&divisor).sqrt()
        })
    }

    /// Perplexity of Q / perplexity of P.
    #[must_use]
    pub fn perplexity_ratio(&self) -> f64 {
        self.log_perplexity_ratio().exp()
    }

    /// The standard error of [`Self::perplexity_ratio`]: the ratio times the standard error of its logarithm.
    #[must_use]
    pub fn perplexity_ratio_standard_error(&self) -> f64 {
        self.perplexity_ratio() * self.log_perplexity_ratio_standard_error()
    }

    /// Perplexity of Q - perplexity of P.
    #[must_use]
    pub fn perplexity_difference(&self) -> f64 {
        self.other_nll_mean().exp() - self.nll_mean().exp()
    }

    /// The standard error of [`Self::perplexity_difference`]: the root of (var(P) a^2 + var(Q) b^2 - 2 cov(P, Q) a b) /
    /// n, where a and b are the perplexities of P and Q.
    #[must_use]
    pub fn perplexity_difference_standard_error(&self) -> f64 {
        let (a, b) = (self.nll_mean().exp(), self.other_nll_mean().exp());
        let (Some(covariances), true) = (self.covariances(), (a + b).is_finite()) else { return f64::NAN };
        let Covariances { p, q, both, divisor } = covariances;
        let ((a, scale), (b, _)) = (Integer::ratio(a), Integer::ratio(b));
        let variance = p.times(&a.times(&a)).plus(&q.times(&b.times(&b)));
        let variance = variance.minus(&both.times(&a.times(&b)).shifted(1)).or_zero();
        variance.over(&divisor.times(&scale.times(&scale))).sqrt()
    }

    /// Pearson's correlation of the two models' negative log-likelihoods; nan where one of them does not vary.
    #[must_use]
    pub fn correlation(&self) -> f64 {
        // Bits that are added to the root, so that its rounding down does not matter.
        const BITS: usize = 64;
        let Some(Covariances { p, q, both, .. }) = self.covariances() else { return f64::NAN };
        if !p.is_positive() || !q.is_positive() {
            return f64::NAN;
        }
        // The root of an integer of many bits, so that neither product nor quotient leaves the range of numbers.
        let root = p.times(&q).shifted(2 * BITS).root();
        both.shifted(BITS).over(&root).clamp(-1.0, 1.0)
    }

    /// The mean of q - p for the targets' probabilities.
    #[must_use]
    pub fn mean_difference(&self) -> f64 {
        self.difference.mean(self.count)
    }

    /// The standard error of [`Self::mean_difference`].
    #[must_use]
    pub fn mean_difference_standard_error(&self) -> f64 {
        standard_error(&self.difference_squared, &self.difference, self.count)
    }

    /// The root of the mean of (q - p)^2.
    #[must_use]
    pub fn rms_difference(&self) -> f64 {
        self.difference_squared.mean(self.count).sqrt()
    }

    /// The standard error of [`Self::rms_difference`]: that of the mean of (q - p)^2, over twice the root of the mean;
    /// 0 where all differences are 0.
    #[must_use]
    pub fn rms_difference_standard_error(&self) -> f64 {
        let rms = self.rms_difference();
        let error = standard_error(&self.difference_fourth, &self.difference_squared, self.count);
        if rms > 0.0 { error * (0.5 / rms) } else { error }
    }
}

impl ComparisonRows {
    /// Adds later rows at the end.
    pub fn merge(&mut self, other: &ComparisonRows) {
        self.forward.extend_from_slice(&other.forward);
        self.difference.extend_from_slice(&other.difference);
    }

    /// Percentiles of KL(P || Q): linear between the neighbours of position percent / 100 (n - 1) of the sorted values.
    /// Percents are from 0 to 100, and are rounded to tenths. nan for no rows, and where a value is nan.
    #[must_use]
    pub fn kl_percentiles(&self, percents: &[f64]) -> Vec<f64> {
        percentiles(&self.forward, percents)
    }

    /// Percentiles of q - p of the targets, computed as in [`Self::kl_percentiles`].
    #[must_use]
    pub fn difference_percentiles(&self, percents: &[f64]) -> Vec<f64> {
        percentiles(&self.difference, percents)
    }
}

fn percentiles(values: &[f64], percents: &[f64]) -> Vec<f64> {
    let mut ordered = values.to_vec();
    ordered.sort_unstable_by(f64::total_cmp);
    percentiles_of_ordered(&ordered, percents)
}

/// Percentiles of values in ascending order; a nan among them stands at one of the ends.
pub(crate) fn percentiles_of_ordered(ordered: &[f64], percents: &[f64]) -> Vec<f64> {
    let has_nan = [ordered.first(), ordered.last()].into_iter().flatten().any(|value| value.is_nan());
    percents.iter().map(|percent| if has_nan { f64::NAN } else { percentile(ordered, *percent) }).collect()
}

/// A percentile of ordered values. Its position is computed in integers, so that 99.9 % of 1000 steps are 999.
fn percentile(ordered: &[f64], percent: f64) -> f64 {
    let Some(last) = ordered.len().checked_sub(1) else { return f64::NAN };
    let thousandths = (10.0 * percent.clamp(0.0, 100.0)).round_ties_even() as u128 * last as u128;
    let (below, thousandths) = ((thousandths / 1000) as usize, thousandths % 1000);
    let low = ordered[below];
    if thousandths == 0 {
        return low; // Not to multiply an infinity with 0.
    }
    let (part, high) = (thousandths as f64 / 1000.0, ordered[below + 1]);
    ((1.0 - part) * low + part * high).max(low).min(high)
}

impl TemperatureSums {
    /// Adds the sums of other rows, for the same inverse temperature.
    pub fn merge(&mut self, other: &TemperatureSums) {
        self.count += other.count;
        self.weight.merge(&other.weight);
        self.nll.merge(&other.nll);
        self.slope.merge(&other.slope);
        self.curvature.merge(&other.curvature);
    }

    /// The weighted mean of the negative log-likelihoods in nats; nan for no rows.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.nll.over(&self.weight)
    }

    /// The derivative of the mean with respect to the inverse temperature.
    #[must_use]
    pub fn mean_slope(&self) -> f64 {
        self.slope.over(&self.weight)
    }

    /// The second derivative of the mean.
    #[must_use]
    pub fn mean_curvature(&self) -> f64 {
        self.curvature.over(&self.weight)
    }
}

impl LogLoss {
    /// Adds the sums of later rows: `improper` and `not_normalised` number the rows of both together.
    pub fn merge(&mut self, other: &LogLoss) {
        let later = |earlier: Option<u64>, other: Option<u64>| earlier.or(other.map(|row| self.rows + row));
        let improper = later(self.improper, other.improper);
        let not_normalised = later(self.not_normalised, other.not_normalised);
        self.join(other);
        (self.improper, self.not_normalised) = (improper, not_normalised);
    }

    /// The weighted mean of the losses in nats; nan where the weights add up to 0.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.loss.over(&self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sum::exact::ExactSum;

    const ROWS: u64 = 1000;

    /// Numbers from 0 to 1 without a pattern, which `tests/scoring/test_crate_figures.py` computes too.
    fn number(i: u64) -> f64 {
        (i * 2_654_435_761 % (1 << 32)) as f64 / 2.0_f64.powi(32)
    }

    fn nll(i: u64) -> f64 {
        4.0 * number(i)
    }

    fn squares(terms: impl Iterator<Item = f64>) -> ExactSum {
        let mut sum = ExactSum::default();
        terms.for_each(|x| sum.add_square(x));
        sum
    }

    fn targets(rows: impl Iterator<Item = u64>) -> TargetSums {
        let mut sums = TargetSums::default();
        for i in rows {
            let other = nll(i) + (number(i + 7) - 0.5) * 0.25;
            sums.add(nll(i), other, (number(i + 3) - 0.5) / 64.0);
        }
        sums
    }

    fn scores(rows: impl Iterator<Item = u64> + Clone) -> ScoreSums {
        let count = rows.clone().count() as u64;
        ScoreSums {
            rows: count + 1,
            count,
            correct: count / 4,
            top_k: vec![1, 5],
            top: vec![count / 4, count / 2],
            nll: rows.clone().map(nll).collect(),
            nll_squared: squares(rows.clone().map(nll)),
            groups: vec![Group {
                count,
                nll: rows.clone().map(nll).collect(),
                nll_squared: squares(rows.map(nll)),
            }],
            ..ScoreSums::default()
        }
    }

    /// Where an exponential is taken, a library may round it the other way.
    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-15 * expected.abs(), "{got:?} {expected:?}");
    }

    #[test]
    fn scores_have_the_bits_of_the_python_package() {
        let all = scores(0..ROWS);
        assert_eq!((all.mean(), all.standard_error()), (1.9999055694155394, 0.03653684254279496));
        assert_eq!(all.bits_per_row(), 2.8852538472420175);
        close(all.perplexity(), 7.388358378988186);
        close(all.perplexity_interval().0, 6.877771392235338);
        close(all.perplexity_interval().1, 7.93684995084191);
        assert_eq!((all.ignored(), all.accuracy()), (1, 0.25));
        assert_eq!(all.top_k_accuracy(), [(1, 0.25), (5, 0.5)]);
        let group = &all.groups[0];
        assert_eq!((group.mean(), group.standard_error()), (all.mean(), all.standard_error()));
    }

    #[test]
    fn the_calibration_error_is_that_of_the_bins() {
        let bin = |count, correct, confidence: &[f64]| Bin {
            count,
            correct,
            confidence: confidence.iter().copied().collect(),
        };
        let bins = vec![bin(3, 1, &[0.1, 0.2, 0.3]), Bin::default(), bin(4, 3, &[0.6, 0.7, 0.55, 0.65])];
        let all = ScoreSums { bins, ..ScoreSums::default() };
        assert_eq!(all.expected_calibration_error(), 0.12857142857142856);
        let figures = |bin: &Bin| (bin.mean_confidence(), bin.accuracy());
        assert_eq!(figures(&all.bins[0]), (0.2, 1.0 / 3.0));
        assert_eq!(figures(&all.bins[2]), (0.625, 0.75));
        assert!(figures(&all.bins[1]).0.is_nan() && figures(&all.bins[1]).1.is_nan());
        assert!(ScoreSums::default().expected_calibration_error().is_nan());
    }

    #[test]
    fn comparisons_have_the_bits_of_the_python_package() {
        let all = targets(0..ROWS);
        assert_eq!((all.nll_mean(), all.other_nll_mean()), (1.9999055694155394, 1.9999591443540994));
        assert_eq!(all.log_perplexity_ratio(), 5.3574938559904694e-05);
        assert_eq!(all.log_perplexity_ratio_standard_error(), 0.002283177380027956);
        close(all.perplexity_ratio(), 1.0000535763737226);
        close(all.perplexity_ratio_standard_error(), 0.0022832997043925433);
        assert!((all.perplexity_difference() - 0.0003958414497091667).abs() < 4e-15);
        close(all.perplexity_difference_standard_error(), 0.016865238695314325);
        assert_eq!(all.mean_difference(), 1.2242604425409808e-06);
        assert_eq!(all.mean_difference_standard_error(), 0.0001426874103380249);
        assert_eq!(all.rms_difference(), 0.004509915616806655);
        assert_eq!(all.rms_difference_standard_error(), 6.380573176453055e-05);
        assert_eq!(all.correlation(), 0.9981783711496487);
    }

    #[test]
    fn where_something_is_missing_figures_are_nan() {
        let (nothing, one) = (TargetSums::default(), targets(0..1));
        let [many, mut infinite] = [targets(0..9), targets(0..8)];
        infinite.add(f64::INFINITY, 1.0, 0.0);
        for sums in [&nothing, &one, &infinite] {
            assert!(sums.correlation().is_nan());
            assert!(sums.log_perplexity_ratio_standard_error().is_nan());
            assert!(sums.perplexity_difference_standard_error().is_nan());
        }
        assert!(nothing.nll_mean().is_nan() && nothing.rms_difference().is_nan());
        assert_eq!(infinite.log_perplexity_ratio(), f64::NEG_INFINITY);
        assert!(many.correlation() > 0.9);
        let of = |rows: [(f64, f64); 3]| {
            let mut sums = TargetSums::default();
            for (nll, other) in rows {
                sums.add(nll, other, 0.0);
            }
            sums
        };
        assert!(of([(1.0, 2.0), (1.0, 3.0), (1.0, 5.0)]).correlation().is_nan());
        assert_eq!(of([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]).correlation(), -1.0);
        let none = ScoreSums::default();
        assert!(none.mean().is_nan() && none.accuracy().is_nan() && none.standard_error().is_nan());
    }

    #[test]
    fn percentiles_lie_between_their_neighbours() {
        let rows = ComparisonRows { forward: (0..ROWS).map(nll).collect(), difference: Vec::new() };
        assert_eq!(
            rows.kl_percentiles(&[0.0, 0.1, 50.0, 99.9, 100.0]),
            [0.0, 0.002924794686958194, 1.9990898869000375, 3.995254979113117, 3.998179773800075]
        );
        assert!(rows.difference_percentiles(&[50.0])[0].is_nan());
        let inf = ComparisonRows { forward: vec![1.0, f64::INFINITY, 0.0], difference: Vec::new() };
        assert_eq!(inf.kl_percentiles(&[50.0, 100.0]), [1.0, f64::INFINITY]);
        let nan = ComparisonRows { forward: vec![1.0, -f64::NAN], difference: Vec::new() };
        assert!(nan.kl_percentiles(&[0.0])[0].is_nan());
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let mut parts = ScoreSums::default();
        for part in [0..10, 10..300, 300..ROWS] {
            parts.merge(&scores(part));
        }
        let whole =
            ScoreSums { rows: ROWS + 3, correct: parts.correct, top: parts.top.clone(), ..scores(0..ROWS) };
        assert_eq!(parts, whole);
        parts.merge(&ScoreSums::default());
        assert_eq!(parts, whole);

        let comparison = |rows: std::ops::Range<u64>| ComparisonSums {
            rows: rows.end - rows.start,
            count: rows.end - rows.start,
            same_top: 1,
            forward: rows.clone().map(nll).collect(),
            targets: Some(targets(rows)),
            ..ComparisonSums::default()
        };
        let mut parts = ComparisonSums::default();
        for part in [7..100, 0..7, 100..ROWS] {
            parts.merge(&comparison(part));
        }
        assert_eq!(parts, ComparisonSums { same_top: 3, ..comparison(0..ROWS) });
        let same = ComparisonSums { same_top: 789, ..parts };
        assert_eq!(same.same_top_standard_error(), 0.012909130321041988);
        assert_eq!((same.kl_mean(), same.ignored()), (1.9999055694155394, 0));
    }

    #[test]
    fn the_rows_of_what_is_merged_come_later() {
        let scores = |rows, first_nonfinite| ScoreSums { rows, first_nonfinite, ..ScoreSums::default() };
        let mut all = scores(5, None);
        all.merge(&scores(4, Some(2)));
        assert_eq!((all.rows, all.first_nonfinite), (9, Some(7)));
        all.merge(&scores(4, Some(0)));
        assert_eq!((all.rows, all.first_nonfinite), (13, Some(7)));

        let loss = |rows, improper| LogLoss { rows, improper, not_normalised: Some(1), ..LogLoss::default() };
        let mut all = loss(5, None);
        all.merge(&loss(4, Some(2)));
        assert_eq!((all.rows, all.improper, all.not_normalised), (9, Some(7), Some(1)));
    }

    #[test]
    #[should_panic(expected = "got top_k [2] and 0 bins, expected [1] and 0")]
    fn scores_of_other_options_do_not_merge() {
        let scores = |k| ScoreSums { rows: 1, top_k: vec![k], top: vec![0], ..ScoreSums::default() };
        scores(1).merge(&scores(2));
    }

    #[test]
    #[should_panic(expected = "targets were given for one of two only")]
    fn comparisons_with_and_without_targets_do_not_merge() {
        let targets = Some(TargetSums::default());
        let mut with = ComparisonSums { rows: 1, targets, ..ComparisonSums::default() };
        with.merge(&ComparisonSums { rows: 1, ..ComparisonSums::default() });
    }

    #[test]
    fn a_weighted_mean_is_a_quotient_of_sums() {
        let sums = |loss: f64, weight: f64| LogLoss {
            loss: [loss].into_iter().collect(),
            weight: [weight].into_iter().collect(),
            ..LogLoss::default()
        };
        assert_eq!(sums(1.0, 3.0).mean(), 1.0 / 3.0);
        assert!(sums(1.0, 0.0).mean().is_nan());
        assert_eq!(sums(f64::INFINITY, 2.0).mean(), f64::INFINITY);
        let (p, q) = (targets(0..ROWS).nll, targets(0..ROWS).other_nll);
        assert_eq!(LogLoss { loss: p, weight: q, ..LogLoss::default() }.mean(), 0.9999732119834992);
        let mut temperature = TemperatureSums::default();
        for _ in 0..3 {
            temperature.merge(&TemperatureSums {
                count: 1,
                weight: [1.0].into_iter().collect(),
                nll: [0.5].into_iter().collect(),
                slope: [0.25].into_iter().collect(),
                curvature: [2.0].into_iter().collect(),
            });
        }
        let figures = (temperature.mean(), temperature.mean_slope(), temperature.mean_curvature());
        assert_eq!((temperature.count, figures), (3, (0.5, 0.25, 2.0)));
    }
}
