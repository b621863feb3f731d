//! Functions of the probability of the target that are losses: focal and poly loss.
//!
//! With p the softmax of the target's logit, `nll = -log p` and `miss = 1 - p`, which is summed from the other classes,
//! such a loss is
//!
//! ```text
//! w_t f(nll, p, miss),      with the gradient  w_t f' (softmax - onehot),      f' = df / dnll   (dp / dnll = -p)
//! ```

use crate::error::Error;
use crate::options::weighted;

/// A function of the probability of the target.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum TargetFunction {
    /// `-(1 - p)^gamma log p` with `gamma` of at least 0: rows whose target is probable weigh less. Lin et al., Focal
    /// Loss for Dense Object Detection, 2017.
    Focal {
        /// The focusing parameter: the larger it is, the less such rows weigh; 0 gives cross-entropy.
        gamma: f64,
    },
    /// `-log p + epsilon (1 - p)`: cross-entropy, where the first term of its series in 1 - p has the weight 1 +
    /// `epsilon` instead of 1. Leng et al., `PolyLoss`, 2022.
    Poly {
        /// The change of the weight of the first term; 0 gives cross-entropy.
        epsilon: f64,
    },
}

impl TargetFunction {
    /// Checks the function's parameters.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub(super) fn check(self) -> Result<(), Error> {
        match self {
            TargetFunction::Focal { gamma } if gamma >= 0.0 && gamma.is_finite() => Ok(()),
            TargetFunction::Focal { gamma } => {
                Err(Error::Option { name: "gamma", value: gamma, expected: "a finite number of at least 0" })
            }
            TargetFunction::Poly { epsilon } if epsilon.is_finite() => Ok(()),
            TargetFunction::Poly { epsilon } => {
                Err(Error::Option { name: "epsilon", value: epsilon, expected: "a finite number" })
            }
        }
    }

    /// The name of the loss, for errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            TargetFunction::Focal { .. } => "focal_loss",
            TargetFunction::Poly { .. } => "poly_loss",
        }
    }

    /// The loss, from -log p and 1 - p of the target.
    #[inline(always)]
    pub(super) fn value(self, nll: f64, miss: f64) -> f64 {
        match self {
            TargetFunction::Focal { gamma } => weighted(power(miss, gamma), nll),
            TargetFunction::Poly { epsilon } if epsilon < -0.5 => {
                (1.0 + epsilon) * miss + later_terms(nll, miss)
            }
            TargetFunction::Poly { epsilon } => nll + epsilon * miss,
        }
    }

    /// The derivative of [`Self::slope`] with respect to nll.
    ///
    /// With p = exp(-nll) and m = 1 - p, so that dm / dnll = p, that of focal loss is
    ///
    /// ```text
    /// d/dnll [m^gamma (1 + gamma p nll / m)] = gamma m^(gamma - 1) [2 p - p nll (1 - gamma p) / m]
    /// ```
    #[inline(always)]
    pub(super) fn curvature(self, nll: f64, p: f64, miss: f64) -> f64 {
        match self {
            TargetFunction::Focal { gamma } => {
                // The sums of squares of probabilities that it is multiplied by vanish faster than it grows.
                if gamma == 0.0 || miss < f64::MIN_POSITIVE {
                    return 0.0 * miss;
                }
                let bracket = 2.0 * p - weighted(p, nll) * (1.0 - gamma * p) / miss;
                gamma * (power(miss, gamma) * bracket / miss)
            }
            TargetFunction::Poly { epsilon } => -epsilon * p,
        }
    }

    /// The derivative of the loss with respect to nll.
    #[inline(always)]
    pub(super) fn slope(self, nll: f64, p: f64, miss: f64) -> f64 {
        match self {
            TargetFunction::Focal { gamma } => {
                // p nll / miss goes to 1 where p does, and to 0 where p does.
                let ratio = if miss == 0.0 { 1.0 } else { weighted(p, nll) / miss };
                power(miss, gamma) * (1.0 + gamma * ratio)
            }
            TargetFunction::Poly { epsilon } if miss < 0.5 => (1.0 + epsilon) - epsilon * miss,
            TargetFunction::Poly { epsilon } => 1.0 + epsilon * p,
        }
    }
}

/// -log(p) - (1 - p), which is the sum of (1 - p)^j / j from j = 2 on, without cancellation.
#[inline(always)]
fn later_terms(nll: f64, miss: f64) -> f64 {
    if miss > 0.125 {
        return nll - miss;
    }
    // 1/8^19 / 19 is less than a quarter of a unit in the last place of the first term.
    let sum = (2..=19).rev().fold(0.0, |sum: f64, j| sum.mul_add(miss, 1.0 / f64::from(j)));
    sum * miss * miss
}

/// `base^exponent`; by products where the exponent is a small integer, the usual case.
#[inline(always)]
fn power(base: f64, exponent: f64) -> f64 {
    match exponent {
        0.0 => 1.0,
        1.0 => base,
        2.0 => base * base,
        3.0 => base * base * base,
        _ => base.powf(exponent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p and 1 - p of a negative log-likelihood.
    fn shares(nll: f64) -> (f64, f64) {
        ((-nll).exp(), -(-nll).exp_m1())
    }

    #[test]
    fn slopes_are_those_of_the_values() {
        let focal = [0.0, 0.5, 1.0, 2.0, 3.0, 2.5].map(|gamma| TargetFunction::Focal { gamma });
        let poly = [-1.0, 0.0, 2.0].map(|epsilon| TargetFunction::Poly { epsilon });
        for function in focal.into_iter().chain(poly) {
            for nll in [1e-6, 0.1, 1.0, 5.0, 40.0] {
                let at = |nll: f64| function.value(nll, shares(nll).1);
                let step = 1e-5 * nll;
                let expected = (at(nll + step) - at(nll - step)) / (2.0 * step);
                let (p, miss) = shares(nll);
                let slope = function.slope(nll, p, miss);
                assert!(
                    (slope - expected).abs() <= 1e-8 * expected.abs(),
                    "{function:?} {nll} {slope} {expected}"
                );
                let slope_at = |nll: f64| function.slope(nll, shares(nll).0, shares(nll).1);
                let expected = (slope_at(nll + step) - slope_at(nll - step)) / (2.0 * step);
                let curvature = function.curvature(nll, p, miss);
                // The difference of two slopes has the digits that their rounding leaves.
                let rounding = 1e-15 * slope / step;
                assert!(
                    (curvature - expected).abs() <= 1e-7 * expected.abs() + rounding,
                    "{function:?} {nll} {curvature} {expected}"
                );
            }
        }
    }

    #[test]
    fn certain_and_impossible_targets_have_their_limits() {
        for gamma in [0.0, 0.5, 1.0, 2.0, 2.5] {
            let focal = TargetFunction::Focal { gamma };
            let certain = if gamma == 0.0 { 1.0 } else { 0.0 };
            assert_eq!((focal.value(0.0, 0.0), focal.slope(0.0, 1.0, 0.0)), (0.0, certain));
            assert_eq!(focal.value(f64::INFINITY, 1.0), f64::INFINITY);
            assert_eq!(focal.slope(f64::INFINITY, 0.0, 1.0), 1.0);
            assert!(focal.value(f64::NAN, f64::NAN).is_nan());
            assert!(focal.slope(f64::NAN, f64::NAN, f64::NAN).is_nan());
            assert_eq!(focal.curvature(0.0, 1.0, 0.0), 0.0);
            assert_eq!(focal.curvature(f64::INFINITY, 0.0, 1.0), 0.0);
            assert!(focal.curvature(f64::NAN, f64::NAN, f64::NAN).is_nan());
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for gamma in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                TargetFunction::Focal { gamma }.check(),
                Err(Error::Option { name: "gamma", .. })
            ));
        }
        let poly = TargetFunction::Poly { epsilon: f64::NAN };
        assert!(matches!(poly.check(), Err(Error::Option { name: "epsilon", .. })));
    }

    #[test]
    fn poly_loss_without_its_first_term_keeps_its_digits() {
        let poly = TargetFunction::Poly { epsilon: -1.0 };
        for miss in [1e-300, 1e-9, 1e-3, 0.1, 0.125, 0.1251, 0.3] {
            let terms = (2..400).map(|j| f64::powi(miss, j) / f64::from(j));
            let expected = terms.rev().sum::<f64>();
            let loss = poly.value(-f64::ln_1p(-miss), miss);
            assert!((loss - expected).abs() <= 1e-14 * expected, "{miss} {loss} {expected}");
            assert!((poly.slope(-f64::ln_1p(-miss), 1.0 - miss, miss) - miss).abs() <= 1e-15 * miss);
        }
    }
}
