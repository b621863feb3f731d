//! The gradient and the diagonal of the Hessian of a sum of losses, which gradient boosting fits trees to.
//!
//! With p = softmax(x), a target t of weight w, and q as in [`super::cross_entropy`], those of a row's cross-entropy are
//!
//! ```text
//! g_c = s p_c - q_c,      h_c = s p_c (1 - p_c),      s = sum_c q_c
//! ```
//!
//! and those of a function f of the target's -log p ([`super::target_function`]) are
//!
//! ```text
//! onehot_c = 1 for the target, 0 for the others
//! g_c = w f' (p_c - onehot_c),      h_c = w (f' p_c (1 - p_c) + f'' (p_c - onehot_c)^2)
//! ```
//!
//! A single score x stands for the logits 0 and x of two classes, of which the second has p = 1 / (1 + exp(-x)).

use std::ops::Range;

use fearless_simd::Simd;
use ndarray::{ArrayRef, Dimension, Ix1};

use super::cross_entropy::{Smoothed, Smoothing, spread};
use super::target_function::TargetFunction;
use crate::array::rows::{Rows, RowsMut, View, ViewMut, check_shape, read};
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::column::Column;
use crate::kernel::element::{Element, RealOf};
use crate::kernel::output::{Diagonal, sigmoids};
use crate::kernel::real::Real;
use crate::kernel::rowset::all;
use crate::options::{ClassWeights, LabelSmoothing};
use crate::parallel::Context;
use crate::targets::{Call, Target, TileLabels, TileWork, Walk, labels};
use crate::tile::{HessianMemory, TileGradient, TileHessian, Tiles, row_group, split_threads};

/// The least entry of a Hessian that has a least one: that of `XGBoost`.
const LEAST: f64 = 1e-16;

/// Which diagonal stands for the Hessian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoostingHessian {
    /// The second derivatives: w p (1 - p), for any number of classes. Those of a [`TargetFunction`] may be negative.
    #[default]
    Diagonal,
    /// `LightGBM`'s: the second derivatives times K / (K - 1) for rows of K classes, and as they are for single scores.
    /// With a [`TargetFunction`] they are at least 1e-16.
    LightGbm,
    /// `XGBoost`'s: twice the second derivatives for rows of classes, and as they are for single scores. For rows of
    /// classes they are at least 1e-16, for single scores at least 1e-16 times the row's weights.
    XgBoost,
}

/// The gradient and the Hessian's diagonal of the sum of the losses of scores, for gradient boosting.
///
/// Scores are of shape (N, K) for K classes, or (N) for two: those of class 1. They are not averaged over the rows.
///
/// ```
/// use crossent::ndarray::{Array2, array};
/// use crossent::{Boosting, BoostingHessian, Context};
///
/// let (scores, labels) = (array![[2.0_f64, -1.0, 0.5], [0.0, 3.0, -2.0]], array![0_i64, 2]);
/// let (mut gradient, mut hessian) = (Array2::zeros((2, 3)), Array2::zeros((2, 3)));
/// let objective = Boosting::new().hessian(BoostingHessian::LightGbm);
/// let context = Context::new();
/// objective.gradient_and_hessian(&scores, &labels, None, &mut gradient, &mut hessian, context)?;
/// assert_eq!(format!("{:.6}", gradient[[0, 0]]), "-0.214403"); // p - 1
/// assert_eq!(format!("{:.6}", hessian[[0, 0]]), "0.252652"); // 3/2 p (1 - p)
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Boosting<'a> {
    /// One weight for each class, at least 0.
    pub class_weight: Option<&'a [f64]>,
    /// Between 0 and 1: how much of the target is spread evenly over all classes.
    pub label_smoothing: f64,
    /// The function of the target's probability that the loss is; none for cross-entropy.
    pub function: Option<TargetFunction>,
    /// Which diagonal stands for the Hessian.
    pub hessian: BoostingHessian,
}

impl<'a> Boosting<'a> {
    /// Cross-entropy without weights and smoothing, and its second derivatives.
    #[must_use]
    pub fn new() -> Self {
        Boosting::default()
    }

    /// Sets one weight for each class.
    #[must_use]
    pub fn class_weight(self, class_weight: &'a [f64]) -> Self {
        Boosting { class_weight: Some(class_weight), ..self }
    }

    /// Sets how much of the target is spread evenly over all classes, from 0 to 1.
    #[must_use]
    pub fn label_smoothing(self, label_smoothing: f64) -> Self {
        Boosting { label_smoothing, ..self }
    }

    /// Sets a function of the target's probability as the loss; it excludes label smoothing.
    #[must_use]
    pub fn function(self, function: TargetFunction) -> Self {
        Boosting { function: Some(function), ..self }
    }

    /// Sets which diagonal stands for the Hessian.
    #[must_use]
    pub fn hessian(self, hessian: BoostingHessian) -> Self {
        Boosting { hessian, ..self }
    }

    /// Writes the gradient and the Hessian's diagonal of the sum of the losses, each row's times its `weight`. All arrays
    /// may lie in memory in any order.
    ///
    /// ```
    /// use crossent::ndarray::{Array1, array};
    /// use crossent::{Boosting, Context};
    ///
    /// let (scores, labels, weight) = (array![0.0_f32, 40.0], array![1_u8, 1], array![2.0, 1.0]);
    /// let (mut gradient, mut hessian) = (Array1::zeros(2), Array1::zeros(2));
    /// let context = Context::new();
    /// Boosting::new()
    ///     .gradient_and_hessian(&scores, &labels, Some(&weight), &mut gradient, &mut hessian, context)?;
    /// assert_eq!(gradient, array![-1.0, -4.248_354e-18]);
    /// assert_eq!(hessian, array![0.5, 4.248_354e-18]);
    /// # Ok::<(), crossent::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`]; nothing has been written then, unless the call was interrupted.
    pub fn gradient_and_hessian<'t, E: Element, D: Dimension>(
        &self,
        scores: &ArrayRef<E, D>,
        labels: impl Into<Target<'t>>,
        weight: Option<&ArrayRef<f64, Ix1>>,
        gradient: &mut ArrayRef<E, D>,
        hessian: &mut ArrayRef<E, D>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        let weight = weight.map(|weight| weight.view().into_dyn());
        let (gradient, hessian) = (gradient.view_mut().into_dyn(), hessian.view_mut().into_dyn());
        let scores = scores.view().into_dyn();
        self.write(&scores, &labels.into(), weight.as_ref(), gradient, hessian, context)
    }

    pub(crate) fn write<E: Element>(
        &self,
        scores: &View<'_, E>,
        target: &Target<'_>,
        weight: Option<&View<'_, f64>>,
        mut gradient: ViewMut<'_, E>,
        mut hessian: ViewMut<'_, E>,
        context: Context<'_>,
    ) -> Result<(), Error> {
        check_shape("gradient", gradient.shape(), scores.shape())?;
        check_shape("hessian", hessian.shape(), scores.shape())?;
        // Two classes for a single score.
        let shape = match scores.shape() {
            [rows] => [*rows, 2],
            [rows, classes] => [*rows, *classes],
            [] => return Err(Error::TooFewDimensions),
            shape @ [rows, ..] => {
                let expected = vec![*rows, shape[1..].iter().product()];
                return Err(Error::Shape { name: "scores", got: shape.to_vec(), expected });
            }
        };
        let axis = (scores.ndim() == 2).then_some(1);
        let call = Call::new();
        let ignoring = |index| labels("gradient_and_hessian", target, &shape, 1, index, &call);
        let labels = ignoring(i64::MIN)?;
        let rules = self.rules(&shape, axis.is_some(), weight)?;
        if labels.divisor::<f32>(ClassWeights::none(), context)? < shape[0] as f64 {
            // The index that is ignored is no class either.
            ignoring(i64::MAX)?.check(context)?;
        }
        let (scores, mut gradient) = (Rows::new(scores, axis), RowsMut::new(&mut gradient, axis));
        let mut hessian = RowsMut::new(&mut hessian, axis);
        if axis.is_none() {
            let work = Single { rules, scores: &scores, gradient: &gradient, hessian: &hessian };
            return Walk::labelled(&labels, 1).run(context, &work).map(|_| ());
        }
        gradient = gradient.streamed(context.untouched);
        hessian = hessian.streamed(context.untouched);
        let (of_rows, segments) = split_threads(context, &scores);
        let work = Classes { rules, scores: &scores, segments, gradient: &gradient, hessian: &hessian };
        let walk = Walk::labelled(&labels, shape[1]).row_group(row_group(&scores));
        walk.run(of_rows, &work).map(|_| ())
    }

    /// The options, checked.
    fn rules<'w>(
        &self,
        shape: &[usize; 2],
        of_classes: bool,
        weight: Option<&'w View<'_, f64>>,
    ) -> Result<Rules<'w>, Error>
    where
        'a: 'w,
    {
        let classes = shape[1];
        if classes < 2 {
            return Err(Error::Shape { name: "scores", got: shape.to_vec(), expected: vec![shape[0], 2] });
        }
        let class_weight = ClassWeights::new(self.class_weight, shape, 1)?;
        checked_weights("class_weight", class_weight.as_slice().into_iter().flatten())?;
        if let Some(weight) = weight {
            check_shape("weight", weight.shape(), &shape[..1])?;
            checked_weights("weight", weight.iter())?;
        }
        let smoothing = LabelSmoothing::new(self.label_smoothing)?.get();
        if let Some(function) = self.function {
            function.check()?;
            if smoothing > 0.0 {
                let expected = "0 with a function of the target's probability";
                return Err(Error::Option { name: "label_smoothing", value: smoothing, expected });
            }
        }
        let share = smoothing / classes as f64;
        let spread = if smoothing > 0.0 { spread(class_weight, classes) } else { 0.0 };
        let has_least = match self.hessian {
            BoostingHessian::Diagonal => false,
            BoostingHessian::LightGbm => self.function.is_some(),
            BoostingHessian::XgBoost => true,
        };
        Ok(Rules {
            weight: weight.map(|weight| Rows::new(weight, None)),
            smoothed: Smoothed { share, weight: class_weight, classes },
            smoothing: Smoothing { amount: smoothing, share, spread },
            function: self.function,
            multiple: match self.hessian {
                BoostingHessian::LightGbm if of_classes => classes as f64 / (classes as f64 - 1.0),
                BoostingHessian::XgBoost if of_classes => 2.0,
                _ => 1.0,
            },
            least: if has_least { LEAST } else { f64::NEG_INFINITY },
            weighted_least: !of_classes && has_least,
        })
    }
}

fn checked_weights<'w>(name: &'static str, mut weights: impl Iterator<Item = &'w f64>) -> Result<(), Error> {
    let mut at = 0;
    match weights.find(|weight| {
        at += 1;
        !(**weight >= 0.0 && weight.is_finite())
    }) {
        None => Ok(()),
        Some(value) => Err(Error::Element {
            problem: "a weight is negative or not finite",
            name,
            index: vec![at - 1],
            value: *value,
            expected: "a finite number of at least 0",
        }),
    }
}

/// The options of a call, checked.
struct Rules<'a> {
    /// The weight of each row.
    weight: Option<Rows<'a, f64>>,
    smoothed: Smoothed<'a>,
    smoothing: Smoothing,
    function: Option<TargetFunction>,
    /// What the second derivatives are multiplied by.
    multiple: f64,
    /// The least entry of the Hessian.
    least: f64,
    /// Whether that is multiplied by the row's weights.
    weighted_least: bool,
}

/// What the gradients and Hessians of a tile's rows are made of.
struct Slopes<R> {
    /// The row's weight.
    factor: Column<f64>,
    /// What softmax is multiplied by in the gradient.
    scale: Column<f64>,
    /// The target's entry of the gradient, and that of the Hessian.
    gradient: Column<f64>,
    hessian: Column<f64>,
    /// The other entries of the Hessian.
    diagonal: Diagonal<R>,
}

impl Rules<'_> {
    /// From the probability of each row's target, 1 - that, and where there is a function, -log of it.
    // Compiled once, not for each instruction set.
    #[inline(never)]
    fn slopes<R: Real>(
        &self,
        rows: Range<usize>,
        class: &[usize; TILE],
        [p, miss, nll]: [&[f64; TILE]; 3],
    ) -> Slopes<R> {
        let mut factor = Column::of(1.0);
        if let Some(weight) = &self.weight {
            read(weight, rows.clone(), &mut factor.0, |weight| weight);
        }
        let (zero, real) = (Column::of(0.0), Column::of(R::ZERO));
        let most = R::MAX.to_f64();
        let diagonal = Diagonal { linear: real, square: real, floor: real };
        let mut slopes = Slopes { factor, scale: zero, gradient: zero, hessian: zero, diagonal };
        for i in 0..rows.len() {
            let weight = self.smoothed.weight.of(class[i]);
            let mut square = 0.0;
            (slopes.scale[i], slopes.gradient[i]) = match self.function {
                None => self.smoothing.scale_and_entry(factor[i], weight, p[i], miss[i]),
                Some(function) => {
                    square = factor[i] * (weight * function.curvature(nll[i], p[i], miss[i]));
                    let scale = factor[i] * (weight * function.slope(nll[i], p[i], miss[i]));
                    (scale, -scale * miss[i])
                }
            };
            let linear = self.multiple * slopes.scale[i];
            // Of a row that is all but sure it may overflow, where the squares that it is multiplied by are 0.
            let square = (self.multiple * square).clamp(-f64::MAX, f64::MAX);
            let floor = if self.weighted_least { self.least * (factor[i] * weight) } else { self.least };
            let hessian = miss[i] * (linear * p[i] + square * miss[i]);
            // A nan stays.
            slopes.hessian[i] = if hessian < floor { floor } else { hessian };
            slopes.diagonal.linear[i] = R::from_f64(linear);
            slopes.diagonal.square[i] = R::from_f64(square.clamp(-most, most));
            slopes.diagonal.floor[i] = R::from_f64(floor);
        }
        slopes
    }
}

/// Scores of several classes.
struct Classes<'w, 'a, E> {
    rules: Rules<'w>,
    scores: &'w Rows<'a, E>,
    segments: Option<Context<'a>>,
    gradient: &'w RowsMut<'a, E>,
    hessian: &'w RowsMut<'a, E>,
}

impl<'a, E: Element> TileWork for Classes<'_, 'a, E> {
    type State = (Tiles<'a, E>, HessianMemory<'a, E>);
    type Chunk = ();

    fn state(&self) -> Self::State {
        (Tiles::new(self.scores.clone(), self.segments).for_output(), HessianMemory::new())
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        (tiles, memory): &mut Self::State,
        rows: Range<usize>,
        labels: &TileLabels,
    ) {
        let active = all(rows.len());
        let tile = tiles.sum(simd, rows.clone(), active);
        let logits = tile.target_logits(simd, &labels.class, active);
        let (p, miss) = tile.share(simd, &logits);
        let mut nll = Column::of(0.0);
        if self.rules.function.is_some() {
            tile.nll(&logits, &mut nll);
        }
        let slopes = self.rules.slopes::<RealOf<E>>(rows.clone(), &labels.class, [&p, &miss, &nll]);
        let hessian = TileHessian { of_rows: &slopes.diagonal, entry: (&labels.class, &slopes.hessian) };
        let is_smoothed = self.rules.smoothing.amount > 0.0;
        let gradient = TileGradient {
            scale: &slopes.scale,
            entries: Some((active, &labels.class, &slopes.gradient)),
            q: is_smoothed.then_some((&slopes.factor, self.rules.smoothed)),
        };
        let outputs = [self.gradient, self.hessian];
        tile.write_gradient_and_hessian(simd, rows, gradient, hessian, memory, outputs);
    }

    fn end(&self, _: &mut Self::State) {}
}

/// Single scores: the logit of class 1, where that of class 0 is 0.
struct Single<'w, 'a, E> {
    rules: Rules<'w>,
    scores: &'w Rows<'a, E>,
    gradient: &'w RowsMut<'a, E>,
    hessian: &'w RowsMut<'a, E>,
}

impl<E: Element> TileWork for Single<'_, '_, E> {
    type State = ();
    type Chunk = ();

    fn state(&self) {}

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, (): &mut (), rows: Range<usize>, labels: &TileLabels) {
        let mut x = Column::of(0.0);
        read(self.scores, rows.clone(), &mut x.0, Element::to_f64);
        for i in 0..rows.len() {
            // The logit of the target, as if the other were 0.
            x[i] = if labels.class[i] == 1 { x[i] } else { -x[i] };
        }
        let (p, miss) = sigmoids(simd, &x);
        let mut nll = Column::of(0.0);
        if self.rules.function.is_some() {
            for i in 0..rows.len() {
                nll[i] = (-x[i].abs()).exp().ln_1p() - x[i].min(0.0);
            }
        }
        let slopes = self.rules.slopes::<f64>(rows.clone(), &labels.class, [&p, &miss, &nll]);
        // The gradients of the two logits add up to 0.
        let gradient = |i: usize| {
            E::from_f64(if labels.class[i] == 1 { slopes.gradient[i] } else { -slopes.gradient[i] })
        };
        // SAFETY: the rows of a tile belong to one thread.
        unsafe {
            self.gradient.write(rows.clone(), gradient);
            self.hessian.write(rows, |i| E::from_f64(slopes.hessian[i]));
        }
    }

    fn end(&self, (): &mut ()) {}
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, array};

    use super::*;

    const CONTEXT: Context<'static> = Context { threads: None, interrupt: None, untouched: false };

    #[test]
    fn a_single_score_is_the_second_of_two_logits() {
        let scores = array![-800.0, -40.0, -1.5, 0.0, 0.25, 3.0, 50.0, 800.0];
        let both = Array2::from_shape_fn((8, 2), |(n, c)| if c == 1 { scores[n] } else { 0.0 });
        let class_weight = [0.5, 3.0];
        for label in [0_u8, 1] {
            let labels = Array1::from_elem(8, label);
            let weight = Array1::from_shape_fn(8, |n| n as f64 * 0.5);
            let focal = |gamma| Boosting::new().function(TargetFunction::Focal { gamma });
            for objective in
                [Boosting::new(), Boosting::new().label_smoothing(0.2), focal(2.0), focal(0.5), focal(0.0)]
            {
                let objective = objective.class_weight(&class_weight);
                let (mut g, mut h) = (Array1::zeros(8), Array1::zeros(8));
                objective
                    .gradient_and_hessian(&scores, &labels, Some(&weight), &mut g, &mut h, CONTEXT)
                    .unwrap();
                let (mut g2, mut h2) = (Array2::zeros((8, 2)), Array2::zeros((8, 2)));
                objective
                    .gradient_and_hessian(&both, &labels, Some(&weight), &mut g2, &mut h2, CONTEXT)
                    .unwrap();
                for n in 0..8 {
                    for (one, two) in [(g[n], g2[[n, 1]]), (h[n], h2[[n, 1]])] {
                        let two: f64 = two;
                        assert!((one - two).abs() <= 4e-15 * two.abs(), "{objective:?} {n} {one} {two}");
                    }
                }
            }
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_before_anything_is_written() {
        let scores = Array2::<f64>::zeros((2, 3));
        let (good, weight) = (array![0_i64, 2], array![1.0, 1.0]);
        let refused = |objective: Boosting<'_>, labels: &Array1<i64>, weight: &Array1<f64>| {
            let (mut g, mut h) = (Array2::from_elem((2, 3), 7.0), Array2::from_elem((2, 3), 7.0));
            let error = objective
                .gradient_and_hessian(&scores, labels, Some(weight), &mut g, &mut h, CONTEXT)
                .unwrap_err();
            assert!(g.iter().chain(&h).all(|x| *x == 7.0));
            error
        };
        for labels in [array![0, 3], array![-1, 0], array![0, i64::MIN], array![-100, 0]] {
            let error = refused(Boosting::new(), &labels, &weight);
            let first = labels.iter().position(|label| !(0..3).contains(label)).unwrap();
            assert!(matches!(error, Error::TargetOutOfRange { index, .. } if index == [first]));
        }
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            let error = refused(Boosting::new(), &good, &array![1.0, bad]);
            assert!(matches!(error, Error::Element { name: "weight", .. }));
            let error = refused(Boosting::new().class_weight(&[1.0, bad, 1.0]), &good, &weight);
            assert!(matches!(error, Error::Element { name: "class_weight", .. }));
        }
        let error = refused(Boosting::new().class_weight(&[1.0]), &good, &weight);
        assert!(matches!(error, Error::WeightLength { .. }));
        let focal = Boosting::new().function(TargetFunction::Focal { gamma: 2.0 });
        assert!(matches!(refused(focal.label_smoothing(0.1), &good, &weight), Error::Option { .. }));
        let error = refused(Boosting::new().label_smoothing(2.0), &good, &weight);
        assert!(matches!(error, Error::LabelSmoothing(_)));
        let error = refused(Boosting::new(), &array![0, 1, 2], &weight);
        assert!(matches!(error, Error::TargetShape { .. }));
        assert!(matches!(refused(Boosting::new(), &good, &array![1.0]), Error::Shape { .. }));
        let one = Array2::<f64>::zeros((2, 1));
        let (mut g, mut h) = (one.clone(), one.clone());
        let single = Boosting::new().gradient_and_hessian(&one, &array![0, 0], None, &mut g, &mut h, CONTEXT);
        assert!(matches!(single, Err(Error::Shape { name: "scores", .. })));
    }
}
