//! Cross-entropy of logits: `-sum_c q_c log softmax(x)_c`.
//!
//! With a class index t, weights w and label smoothing e over C classes, torch's definition is
//!
//! ```text
//! loss = (1 - e) w_t (lse - x_t) + (e / C) sum_c w_c (lse - x_c),      lse = max + log1p(rest)
//! ```
//!
//! and with class probabilities p, q_c = w_c (p_c (1 - e) + e / C),
//!
//! ```text
//! loss = sum_c q_c (lse - x_c).
//! ```
//!
//! A z-loss of z adds
//!
//! ```text
//! z lse^2,      with the gradient 2 z lse softmax(x),
//! ```
//!
//! which has no class weight: a mean divides its sum by the number of active rows.
//!
//! `lse` itself is never formed: (max - x) is exact, and `log1p(rest)` is added to it last, so that a
//! loss of 1e-20 has all its digits.

use std::ops::Range;

use fearless_simd::Simd;

use super::Prepare;
use super::class_loss::ClassLoss;
use super::gradient::Gradient;
use super::misuse::{self, LikelyMisuse};
use super::target_function::TargetFunction;
use super::walk::RowLoss;
use crate::array::rows::Input;
use crate::array::rows::Rows;
use crate::error::Error;
use crate::kernel::column::Column;
use crate::kernel::double_double::{dd_add, dd_div, dd_mul};
use crate::kernel::element::{Element, RealOf};
use crate::kernel::max_minus_x::TileWeights;
use crate::kernel::real::Real;
use crate::kernel::rowset::bits;
use crate::kernel::{BLOCK, TILE};
use crate::options::{ClassWeights, LabelSmoothing, weighted, weighted_dd};
use crate::parallel::{Context, RowGroup};
use crate::sum::compensated::Compensated;
use crate::sum::reduce::TileLosses;
use crate::sum::reduce::Total;
use crate::targets::{Call, Labels, Probabilities, Target, Targets, TileLabels};
use crate::tile::{
    Tile, TileGradient, Tiles, WeightedSums, Weighting, row_group, row_group_read_once, split_threads,
    write_zeros,
};

/// Cross-entropy of logits, `-sum_c q_c log softmax(x)_c`, and its options; the defaults are torch's.
///
/// [`ClassLoss`] has its methods.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, ClassLoss, CrossEntropy, Reduction};
///
/// let weight = [1.0, 2.0];
/// let loss = CrossEntropy::new().label_smoothing(0.1).weight(&weight);
/// let total = loss.total(&array![[0.0_f32, 1.0]], &array![1_i64], &Call::new())?;
/// assert_eq!(format!("{:.6}", total.reduce(Reduction::Mean)), "0.330430");
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CrossEntropy<'a> {
    /// One weight for each class.
    pub weight: Option<&'a [f64]>,
    /// The class index of rows to leave out.
    pub ignore_index: i64,
    /// Between 0 and 1: how much of the target is spread evenly over all classes.
    pub label_smoothing: f64,
    /// What the square of the log-sum-exp is multiplied by and added to each loss; at least 0.
    pub z_loss: f64,
    /// The class axis; 1 by default, 0 for a one-dimensional input.
    pub axis: Option<isize>,
}

impl Default for CrossEntropy<'_> {
    fn default() -> Self {
        CrossEntropy { weight: None, ignore_index: -100, label_smoothing: 0.0, z_loss: 0.0, axis: None }
    }
}

impl<'a> CrossEntropy<'a> {
    /// The defaults: no weights, no smoothing, and -100 as the class index to ignore.
    #[must_use]
    pub fn new() -> Self {
        CrossEntropy::default()
    }

    /// Sets one weight for each class.
    #[must_use]
    pub fn weight(self, weight: &'a [f64]) -> Self {
        CrossEntropy { weight: Some(weight), ..self }
    }

    /// Sets the class index of rows to leave out.
    #[must_use]
    pub fn ignore_index(self, ignore_index: i64) -> Self {
        CrossEntropy { ignore_index, ..self }
    }

    /// Sets how much of the target is spread evenly over all classes, from 0 to 1.
    #[must_use]
    pub fn label_smoothing(self, label_smoothing: f64) -> Self {
        CrossEntropy { label_smoothing, ..self }
    }

    /// Sets what the square of the log-sum-exp is multiplied by and added to each loss, to keep it near 0.
    #[must_use]
    pub fn z_loss(self, z_loss: f64) -> Self {
        CrossEntropy { z_loss, ..self }
    }

    /// Sets the class axis, which may count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        CrossEntropy { axis: Some(axis), ..self }
    }
}

impl ClassLoss for CrossEntropy<'_> {}

impl Prepare for CrossEntropy<'_> {
    fn axis(&self) -> Option<isize> {
        self.axis
    }

    fn work<'w, E: Element>(
        &'w self,
        input: Input<'w, E>,
        target: &'w Target<'_>,
        call: &'w Call<'_>,
    ) -> Result<impl RowLoss<'w, E>, Error> {
        LogitsLoss::from(*self).checked(input, target, call)
    }
}

/// The options of any loss of logits: one type, so that code that is generic over losses is compiled once for all of
/// them.
#[derive(Clone, Copy)]
pub(crate) struct LogitsLoss<'a> {
    /// The function of the target's probability that the loss is; none for cross-entropy.
    pub(super) function: Option<TargetFunction>,
    pub(super) weight: Option<&'a [f64]>,
    pub(super) ignore_index: i64,
    pub(super) label_smoothing: f64,
    pub(super) z_loss: f64,
    pub(super) axis: Option<isize>,
}

impl<'a> From<CrossEntropy<'a>> for LogitsLoss<'a> {
    fn from(loss: CrossEntropy<'a>) -> Self {
        let CrossEntropy { weight, ignore_index, label_smoothing, z_loss, axis } = loss;
        LogitsLoss { function: None, weight, ignore_index, label_smoothing, z_loss, axis }
    }
}

impl ClassLoss for LogitsLoss<'_> {}

impl Prepare for LogitsLoss<'_> {
    fn axis(&self) -> Option<isize> {
        self.axis
    }

    fn work<'w, E: Element>(
        &'w self,
        input: Input<'w, E>,
        target: &'w Target<'_>,
        call: &'w Call<'_>,
    ) -> Result<impl RowLoss<'w, E>, Error> {
        self.checked(input, target, call)
    }
}

impl<'a> LogitsLoss<'a> {
    pub(super) fn checked<'w, E: Element>(
        self,
        input: Input<'w, E>,
        target: &'w Target<'_>,
        call: &'w Call<'_>,
    ) -> Result<Work<'w, E>, Error>
    where
        'a: 'w,
    {
        let Input { rows, shape, axis } = input;
        let weight = ClassWeights::new(self.weight, shape, axis)?;
        if let Some(function) = self.function {
            function.check()?;
            if target.is_floating() {
                return Err(target.refused_as_floating(function.name(), shape, axis));
            }
        }
        if !(self.z_loss >= 0.0 && self.z_loss.is_finite()) {
            let expected = "a finite number of at least 0";
            return Err(Error::Option { name: "z_loss", value: self.z_loss, expected });
        }
        Ok(Work {
            weight,
            function: self.function,
            smoothing: LabelSmoothing::new(self.label_smoothing)?.get(),
            // Rows without classes have no log-sum-exp.
            z_loss: if rows.layout.classes > 0 { self.z_loss } else { 0.0 },
            targets: Targets::new(target, shape, axis, self.ignore_index, call.mask.as_ref())?,
            spread: spread(weight, rows.layout.classes),
            segments: split_threads(call.context, &rows).1,
            rows,
            gradient: None,
        })
    }
}

/// A checked call: the rows of logits, their targets and the options.
pub(super) struct Work<'a, E> {
    rows: Rows<'a, E>,
    targets: Targets<'a>,
    weight: ClassWeights<'a>,
    /// The function of the target's probability that the loss is; none for cross-entropy.
    function: Option<TargetFunction>,
    smoothing: f64,
    z_loss: f64,
    /// The sum of all weights.
    spread: f64,
    /// The context under which the segments of a row are split among threads, where the rows are not.
    segments: Option<Context<'a>>,
    gradient: Option<Gradient<'a, E>>,
}

impl<'a, E: Element> Work<'a, E> {
    /// Losses that are a function of the target's probability.
    #[inline(always)]
    fn function<S: Simd>(
        &self,
        simd: S,
        function: TargetFunction,
        sums: Tile<'_, 'a, E>,
        rows: Range<usize>,
        labels: &TileLabels,
        losses: &mut TileLosses,
    ) {
        let TileLabels { class, active } = labels;
        losses.begin_with_zeros::<RealOf<E>>(*active, self.weight.as_slice().is_some());
        if *active == 0 {
            if let Some(gradient) = &self.gradient {
                write_zeros(rows, &gradient.out);
            }
            return;
        }
        let logits = sums.target_logits(simd, class, *active);
        let mut nll = Column::of(0.0);
        sums.nll(&logits, &mut nll);
        let (p, miss) = sums.share(simd, &logits);
        for i in bits(*active) {
            losses.weight[i] = self.weight.of(class[i]);
            let value = function.value(nll[i], miss[i]);
            losses.set::<RealOf<E>>(i, weighted_dd::<RealOf<E>>([losses.weight[i], 0.0], [value, 0.0]));
        }
        let Some(gradient) = &self.gradient else { return };
        let factor = gradient.factors(rows.clone());
        let (mut scale, mut value) = (Column::of(0.0), Column::of(0.0));
        for i in bits(*active) {
            let slope = function.slope(nll[i], p[i], miss[i]);
            scale[i] = factor[i] * (self.weight.of(class[i]) * slope);
            value[i] = -scale[i] * miss[i];
        }
        let gradient_of =
            TileGradient::<Smoothed<'_>> { scale: &scale, entries: Some((*active, class, &value)), q: None };
        sums.write_gradient(simd, rows, *active, gradient_of, &gradient.out);
    }

    /// Losses against class indices.
    #[inline(always)]
    fn indices<S: Simd>(
        &self,
        simd: S,
        tiles: &mut Tiles<'a, E>,
        rows: Range<usize>,
        labels: &TileLabels,
        losses: &mut TileLosses,
    ) {
        let smoothing = self.smoothing;
        let mut sums = tiles.sum(simd, rows.clone(), labels.active);
        if let Some(function) = self.function {
            return self.function(simd, function, sums, rows, labels, losses);
        }
        losses.begin::<RealOf<E>>(labels.active, self.weight.as_slice().is_some());
        let logits = sums.target_logits(simd, &labels.class, labels.active);
        sums.nll(&logits, &mut losses.loss);
        let share_dd = dd_div::<RealOf<E>>([smoothing, 0.0], [self.rows.layout.classes as f64, 0.0]);
        let share = share_dd[0];
        if labels.active != u64::MAX {
            for i in 0..TILE {
                losses.loss[i] = if labels.active >> i & 1 == 1 { losses.loss[i] } else { 0.0 };
            }
        }
        if smoothing > 0.0 || losses.weighted {
            bits(labels.active).for_each(|i| losses.weight[i] = self.weight.of(labels.class[i]));
            let max_minus_x = if smoothing > 0.0 {
                sums.max_minus_x(simd, labels.active, self.weight)
            } else {
                Column::of(0.0)
            };
            let unsmoothed = dd_add::<RealOf<E>>([1.0, 0.0], [-smoothing, 0.0]);
            // Branches would keep the loop from being vectorized.
            for i in 0..rows.len() {
                let target_weight = dd_mul::<RealOf<E>>(unsmoothed, [losses.weight[i], 0.0]);
                let mut loss = weighted_dd::<RealOf<E>>(target_weight, [losses.loss[i], 0.0]);
                if smoothing > 0.0 {
                    let rest = sums.log1p_rest_dd(i);
                    let even = weighted_dd::<RealOf<E>>([self.spread, 0.0], rest);
                    let even = dd_add::<RealOf<E>>([max_minus_x[i], 0.0], even);
                    loss = dd_add::<RealOf<E>>(loss, dd_mul::<RealOf<E>>(share_dd, even));
                }
                let is_active = labels.active >> i & 1 == 1;
                losses.set::<RealOf<E>>(i, if is_active { loss } else { [0.0; 2] });
            }
            if is_any_far::<RealOf<E>>(losses) {
                let q = |i: usize, classes: Range<usize>, q: &mut [f64]| {
                    let target_weight = (1.0 - smoothing) * losses.weight[i];
                    for ((q, weight), c) in q.iter_mut().zip(self.weight.block(classes.clone())).zip(classes)
                    {
                        *q = share * weight + if c == labels.class[i] { target_weight } else { 0.0 };
                    }
                };
                let far = far_rows(&sums, labels.active, &losses.loss, q);
                far.for_each_finite(|i, loss| losses.set::<RealOf<E>>(i, [loss, 0.0]));
            }
        }
        if self.z_loss > 0.0 {
            sums.squared_log_sum_exp(self.z_loss, labels.active, losses);
        }
        let spread = if smoothing > 0.0 { self.spread } else { 0.0 };
        let Some(gradient) = &self.gradient else { return };
        if labels.active == 0 {
            write_zeros(rows, &gradient.out);
            return;
        }
        // scale softmax(x) - factor q, with the target's entry from p or from 1 - p, whichever is smaller: the term (1
        // - e) w_t of q belongs to the target alone.
        let factor = gradient.factors(rows.clone());
        let weight = if losses.weighted { losses.weight } else { Column::of(1.0) };
        let (mut scale, mut value) = (Column::of(0.0), Column::of(0.0));
        if sums.is_pair() && smoothing == 0.0 && self.z_loss == 0.0 {
            (0..TILE).for_each(|i| scale[i] = factor[i] * weight[i]);
            if scale.iter().fold(true, |all, scale| all & scale.is_finite()) {
                sums.write_gradient_of_nll(simd, rows, labels.active, &labels.class, &scale, &gradient.out);
                return;
            }
        }
        let (p, miss) = sums.share(simd, &logits);
        let smooth = Smoothing { amount: smoothing, share, spread };
        // Of all rows, so that the loop is vectorized.
        for i in 0..TILE {
            (scale[i], value[i]) = smooth.scale_and_entry(factor[i], weight[i], p[i], miss[i]);
        }
        if self.z_loss > 0.0 {
            let more = self.slope_of_z_loss(&sums, labels.active, gradient, rows.clone());
            for i in bits(labels.active) {
                scale[i] += more[i];
                value[i] += more[i] * p[i];
            }
        }
        let smoothed = Smoothed { share, weight: self.weight, classes: self.rows.layout.classes };
        let gradient_of = TileGradient {
            scale: &scale,
            entries: Some((labels.active, &labels.class, &value)),
            q: (smoothing > 0.0).then_some((&factor, smoothed)),
        };
        sums.write_gradient(simd, rows, labels.active, gradient_of, &gradient.out);
    }

    /// What the softmax of each row is multiplied by in the gradient of the z-loss: 2 z lse.
    #[inline(never)]
    fn slope_of_z_loss(
        &self,
        sums: &Tile<'_, '_, E>,
        active: u64,
        gradient: &Gradient<'a, E>,
        rows: Range<usize>,
    ) -> Column<f64> {
        let mut slope = gradient.unweighted_factors(rows);
        for i in bits(active) {
            slope[i] *= 2.0 * self.z_loss * sums.log_sum_exp(i);
        }
        slope
    }

    /// Losses against class probabilities.
    #[inline(always)]
    fn probabilities<S: Simd>(
        &self,
        simd: S,
        tiles: &mut Tiles<'a, E>,
        rows: Range<usize>,
        probabilities: &Probabilities<'_>,
        losses: &mut TileLosses,
    ) {
        losses.begin_with_zeros::<RealOf<E>>(probabilities.active(rows.clone()), false);
        let mut sums = tiles.sum(simd, rows.clone(), losses.active);
        let (smoothing, classes) = (self.smoothing, self.rows.layout.classes);
        let given = Given { probabilities, rows: rows.clone(), smoothing, weight: self.weight, classes };
        let WeightedSums { max_minus_x, totals } = sums.weighted_sums(simd, losses.active, &given);
        for i in bits(losses.active) {
            // Without classes there is nothing to sum.
            if classes > 0 {
                let total = [totals[i], 0.0];
                let total = weighted_dd::<RealOf<E>>(total, sums.log1p_rest_dd(i));
                losses.set::<RealOf<E>>(i, dd_add::<RealOf<E>>([max_minus_x[i], 0.0], total));
            }
        }
        if is_any_far::<RealOf<E>>(losses) {
            let q = |i: usize, classes: Range<usize>, q: &mut [f64]| (&given).row(simd, i, classes, q);
            let far = far_rows(&sums, losses.active, &losses.loss, q);
            far.for_each_finite(|i, loss| losses.set::<RealOf<E>>(i, [loss, 0.0]));
        }
        if self.z_loss > 0.0 {
            sums.squared_log_sum_exp(self.z_loss, losses.active, losses);
        }
        let Some(gradient) = &self.gradient else { return };
        if losses.active == 0 {
            write_zeros(rows, &gradient.out);
            return;
        }
        let factor = gradient.factors(rows.clone());
        let mut scale = totals;
        for i in 0..TILE {
            scale[i] *= factor[i];
        }
        if self.z_loss > 0.0 {
            let more = self.slope_of_z_loss(&sums, losses.active, gradient, rows.clone());
            bits(losses.active).for_each(|i| scale[i] += more[i]);
        }
        let gradient_of = TileGradient { scale: &scale, entries: None, q: Some((&factor, &given)) };
        sums.write_gradient(simd, rows, losses.active, gradient_of, &gradient.out);
    }
}

/// The sum of the weights of all classes.
pub(super) fn spread(weight: ClassWeights<'_>, classes: usize) -> f64 {
    match weight.as_slice() {
        Some(weight) => {
            let mut sum = Compensated::default();
            for w in weight {
                sum.add(*w);
            }
            sum.get()
        }
        None => classes as f64,
    }
}

/// How label smoothing of e shares the target out among the classes.
#[derive(Clone, Copy)]
pub(super) struct Smoothing {
    /// e.
    pub(super) amount: f64,
    /// e / C.
    pub(super) share: f64,
    /// The sum of all class weights; 0 without smoothing.
    pub(super) spread: f64,
}

impl Smoothing {
    /// What the softmax of a row is multiplied by in its gradient, which is scale softmax(x) - factor q, and the entry
    /// of the target's class, whose weight is `weight`.
    #[inline(always)]
    pub(super) fn scale_and_entry(self, factor: f64, weight: f64, p: f64, miss: f64) -> (f64, f64) {
        let Smoothing { amount: smoothing, share, spread } = self;
        let target_weight = (1.0 - smoothing) * weight;
        let scale = factor * (target_weight + share * spread);
        let entry = if smoothing == 0.0 {
            -scale * miss
        } else if miss > 0.5 {
            scale * p - factor * (target_weight + share * weight)
        } else {
            factor * share * (spread - weight) - scale * miss
        };
        (scale, entry)
    }
}

/// Whether a loss of `f64` rows is not finite. The losses of other rows are summed in `f64`, whose range is wider than
/// theirs.
#[inline(always)]
fn is_any_far<R: Real>(losses: &TileLosses) -> bool {
    // Without branches, so that the loop is vectorized.
    R::IS_F64 && losses.loss.iter().fold(false, |any, loss| any | !loss.is_finite())
}

/// Losses computed again by [`far_rows`]; nan where they are not.
struct FarRows([f64; TILE]);

impl FarRows {
    fn for_each_finite(&self, mut f: impl FnMut(usize, f64)) {
        self.0.iter().enumerate().filter(|(_, loss)| loss.is_finite()).for_each(|(i, loss)| f(i, *loss));
    }
}

/// sum q (lse - x) of the rows whose `loss` is not finite although their logits have a softmax: near the largest
/// number, the differences of two logits and their sum over the classes overflow where the loss, which is their mean,
/// does not. They are scaled down by a power of two before they are summed. `q` fills in the weights of a block of the
/// classes of a row.
#[cold]
#[inline(never)]
fn far_rows<E: Element>(
    sums: &Tile<'_, '_, E>,
    active: u64,
    loss: &[f64; TILE],
    q: impl Fn(usize, Range<usize>, &mut [f64]),
) -> FarRows {
    // The differences of 2^64 classes do not exceed the range.
    const UNIT: f64 = 1.0 / (1_u128 << 70) as f64;
    let (classes, mut block) = (sums.classes(), [0.0; BLOCK]);
    let mut far = FarRows([f64::NAN; TILE]);
    'rows: for i in bits(active) {
        if loss[i].is_finite() || !sums.log1p_rest(i).is_finite() {
            continue;
        }
        let (max, mut sum, mut total) = (sums.max(i) * UNIT, Compensated::default(), Compensated::default());
        for start in (0..classes).step_by(BLOCK) {
            let range = start..(start + BLOCK).min(classes);
            let block = &mut block[..range.len()];
            q(i, range.clone(), block);
            for (q, class) in block.iter().zip(range) {
                let term = weighted(*q, max - sums.logit(i, class) * UNIT);
                if !term.is_finite() {
                    continue 'rows;
                }
                sum.add(term);
                total.add(*q);
            }
        }
        sum.add(total.get() * sums.log1p_rest(i) * UNIT);
        far.0[i] = sum.get() / UNIT;
    }
    far
}

/// The q of label smoothing with a class index, but for the target's term: e / C times the weight of each class.
#[derive(Clone, Copy)]
pub(super) struct Smoothed<'a> {
    pub(super) share: f64,
    pub(super) weight: ClassWeights<'a>,
    pub(super) classes: usize,
}

impl Weighting for Smoothed<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, _: S, _: usize, classes: Range<usize>, q: &mut [f64]) {
        for (q, weight) in q.iter_mut().zip(self.weight.block(classes)) {
            *q = self.share * weight;
        }
    }

    #[inline(always)]
    fn tile<'m, S: Simd>(&self, simd: S, memory: &'m mut [f64]) -> TileWeights<'m> {
        let q = &mut memory[..self.classes];
        self.row(simd, 0, 0..self.classes, q);
        TileWeights::Class(q)
    }
}

/// The q of class probabilities: those of a tile's rows, with their smoothing and weights.
struct Given<'a> {
    probabilities: &'a Probabilities<'a>,
    rows: Range<usize>,
    smoothing: f64,
    weight: ClassWeights<'a>,
    classes: usize,
}

impl Given<'_> {
    /// Spreads a part of the probabilities evenly over the classes.
    #[inline(always)]
    fn smooth(&self, q: &mut [f64]) {
        if self.smoothing > 0.0 {
            let uniform = self.smoothing / self.classes as f64;
            for q in q {
                *q = *q * (1.0 - self.smoothing) + uniform;
            }
        }
    }
}

impl Weighting for &Given<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, i: usize, classes: Range<usize>, q: &mut [f64]) {
        self.probabilities.read(simd, self.rows.start + i, classes.clone(), q);
        self.smooth(q);
        if let Some(weight) = self.weight.as_slice() {
            for (q, w) in q.iter_mut().zip(&weight[classes]) {
                *q *= w;
            }
        }
    }

    #[inline(always)]
    fn tile<'m, S: Simd>(&self, simd: S, memory: &'m mut [f64]) -> TileWeights<'m> {
        self.probabilities.pack(simd, self.rows.clone(), memory);
        self.smooth(memory);
        if let Some(weight) = self.weight.as_slice() {
            for (class, w) in memory.chunks_exact_mut(TILE).zip(weight) {
                for q in class {
                    *q *= w;
                }
            }
        }
        TileWeights::Entry(memory)
    }

    #[inline(always)]
    fn max_minus_x<S: Simd, E: Element>(
        &self,
        simd: S,
        i: usize,
        classes: Range<usize>,
        x: &[E],
        max: f64,
    ) -> Option<(f64, f64)> {
        let plain = self.smoothing == 0.0 && self.weight.as_slice().is_none();
        if plain { self.probabilities.max_minus_x(simd, self.rows.start + i, classes, x, max) } else { None }
    }
}

impl<'a, E: Element> RowLoss<'a, E> for Work<'a, E> {
    type State = Tiles<'a, E>;

    fn state(&self) -> Self::State {
        let tiles = Tiles::new(self.rows.clone(), self.segments);
        if self.gradient.is_some() { tiles.for_output() } else { tiles }
    }

    fn rows(&self) -> usize {
        self.rows.layout.line.len()
    }

    fn classes(&self) -> usize {
        self.rows.layout.classes
    }

    fn row_group(&self) -> RowGroup {
        match &self.targets {
            Targets::Indices(_) if self.smoothing == 0.0 && self.gradient.is_none() => {
                row_group_read_once(&self.rows)
            }
            _ => row_group(&self.rows),
        }
    }

    fn row_context<'c>(&self, context: Context<'c>) -> Context<'c> {
        split_threads(context, &self.rows).0
    }

    fn labels(&self) -> Option<&Labels<'a>> {
        match &self.targets {
            Targets::Indices(labels) => Some(labels),
            Targets::Probabilities(_) => None,
        }
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        tiles: &mut Tiles<'a, E>,
        rows: Range<usize>,
        labels: &TileLabels,
        losses: &mut TileLosses,
    ) {
        match &self.targets {
            Targets::Indices(_) => self.indices(simd, tiles, rows, labels, losses),
            Targets::Probabilities(probabilities) => {
                self.probabilities(simd, tiles, rows, probabilities, losses);
            }
        }
    }

    fn divisor(&self, context: Context<'_>) -> Result<f64, Error> {
        match &self.targets {
            Targets::Indices(labels) => labels.divisor::<RealOf<E>>(self.weight, context),
            Targets::Probabilities(probabilities) => probabilities.divisor(context),
        }
    }

    fn unweighted_divisor(&self, context: Context<'_>) -> Result<f64, Error> {
        match &self.targets {
            Targets::Indices(labels) if self.z_loss > 0.0 => {
                labels.divisor::<RealOf<E>>(ClassWeights::none(), context)
            }
            Targets::Probabilities(probabilities) if self.z_loss > 0.0 => probabilities.divisor(context),
            _ => Ok(1.0),
        }
    }

    fn likely_misuse(&self) -> Option<LikelyMisuse> {
        misuse::in_logits(&self.rows, &self.targets.first_active(misuse::FIRST))
    }

    fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error> {
        self.targets.nothing_active(context)
    }

    fn set_gradient(&mut self, gradient: Gradient<'a, E>) {
        self.gradient = Some(gradient);
    }

    fn known_total(&self) -> Option<Total> {
        // The loss of a row without classes is a sum of nothing.
        match &self.targets {
            Targets::Probabilities(p) if self.classes() == 0 => p.all_active().map(Total::of_zeros),
            _ => None,
        }
    }

    fn adjusted(&self, mut total: Total, context: Context<'_>) -> Result<Total, Error> {
        // torch divides the two terms of a smoothed loss separately: where the weights of all targets are 0, the first
        // is 0 / 0, and the loss is nan. Where weights cancel, the quotient is infinite.
        if self.smoothing > 0.0
            && total.weight == 0.0
            && total.counted > 0
            && let Targets::Indices(labels) = &self.targets
            && labels.all_classes(|class| self.weight.of(class) == 0.0, context)?
        {
            total.weight = f64::NAN;
        }
        Ok(total)
    }
}
