//! Comparison of two models' logits for the same rows: how far their distributions are from each other.

use std::ops::Range;
use std::sync::Mutex;

use fearless_simd::Simd;
use ndarray::{ArrayRef, Dimension};

use super::columns::Score;
use crate::array::rows::input_rows;
use crate::array::rows::{View, check_shape};
use crate::array::single::{SingleRows, padded};
use crate::error::{Error, filled};
use crate::kernel::divergence::{Divergences, divergences, exp_of, soft};
use crate::kernel::element::Element;
use crate::kernel::rowset::bits;
use crate::sum::exact::ExactSum;
use crate::sum::parts::{Part, finished};
use crate::targets::{Call, Labels, Target, TileLabels, TileWork, Walk, labels, with_any_target};

/// Exact sums of [`compare_sums`] over the rows that count, and their figures. P is the first
/// model, Q the second.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ComparisonSums {
    /// Rows, counted or not.
    pub rows: u64,
    /// Rows that count.
    pub count: u64,
    /// Rows for which both have the same prediction; a row with a nan has none.
    pub same_top: u64,
    /// KL(P || Q) in nats.
    pub forward: ExactSum,
    /// The squares of KL(P || Q).
    pub forward_squared: ExactSum,
    /// KL(Q || P) in nats.
    pub reverse: ExactSum,
    /// Jensen-Shannon divergences in nats.
    pub jensen_shannon: ExactSum,
    /// Sums over the targets; none where there were no targets.
    pub targets: Option<TargetSums>,
}

/// Exact sums of two models' losses and probabilities of the targets, over the rows that count.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TargetSums {
    /// How many rows there are.
    pub count: u64,
    /// -log p of P, in nats.
    pub nll: ExactSum,
    /// The squares of -log p.
    pub nll_squared: ExactSum,
    /// -log q of Q, in nats.
    pub other_nll: ExactSum,
    /// The squares of -log q.
    pub other_nll_squared: ExactSum,
    /// The products of -log p and -log q.
    pub nll_product: ExactSum,
    /// q - p.
    pub difference: ExactSum,
    /// The squares of q - p.
    pub difference_squared: ExactSum,
    /// The fourth powers of q - p.
    pub difference_fourth: ExactSum,
}

impl TargetSums {
    pub(super) fn add(&mut self, nll: f64, other_nll: f64, difference: f64) {
        self.count += 1;
        self.nll.add(nll);
        self.nll_squared.add_square(nll);
        self.other_nll.add(other_nll);
        self.other_nll_squared.add_square(other_nll);
        self.nll_product.add_product(nll, other_nll);
        self.difference.add(difference);
        // Of the rounded square, because the fourth power is its square.
        let square = difference * difference;
        self.difference_squared.add(square);
        self.difference_fourth.add_square(square);
    }

    fn join(&mut self, other: &TargetSums) {
        self.count += other.count;
        self.nll.merge(&other.nll);
        self.nll_squared.merge(&other.nll_squared);
        self.other_nll.merge(&other.other_nll);
        self.other_nll_squared.merge(&other.other_nll_squared);
        self.nll_product.merge(&other.nll_product);
        self.difference.merge(&other.difference);
        self.difference_squared.merge(&other.difference_squared);
        self.difference_fourth.merge(&other.difference_fourth);
    }
}

impl ComparisonSums {
    fn new(has_target: bool) -> Self {
        ComparisonSums { targets: has_target.then(TargetSums::default), ..ComparisonSums::default() }
    }

    /// Adds sums that have targets where these have, and none where these have none.
    pub(super) fn join(&mut self, other: &ComparisonSums) {
        self.rows += other.rows;
        self.count += other.count;
        self.same_top += other.same_top;
        self.forward.merge(&other.forward);
        self.forward_squared.merge(&other.forward_squared);
        self.reverse.merge(&other.reverse);
        self.jensen_shannon.merge(&other.jensen_shannon);
        if let (Some(targets), Some(other)) = (&mut self.targets, &other.targets) {
            targets.join(other);
        }
    }
}

/// The values of each row that counts, in the order of the rows: percentiles need them.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ComparisonRows {
    /// KL(P || Q) in nats.
    pub forward: Vec<f64>,
    /// q - p of the target; empty where there are no targets.
    pub difference: Vec<f64>,
}

/// Compares the softmaxes P and Q of two arrays of logits of the same shape, row by row. Returns the sums, and the
/// values of each row that percentiles need. Without a target every row counts that the mask leaves in. Of the options,
/// the class axis and the index to ignore are used. Each row is computed in `f64`.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, Score, Target, compare_sums};
///
/// let p = array![[2.0_f64, 1.0, 0.0], [0.5, 0.0, 3.0]];
/// let q = array![[2.1_f32, 1.0, 0.0], [0.5, 0.2, 2.9]];
/// let target = array![0_i64, 2];
/// let (sums, rows) = compare_sums(&p, &q, Some(&Target::from(&target)), &Score::new(), &Call::new())?;
/// assert_eq!(format!("{:.6} {:.6}", sums.kl_mean(), sums.reverse_kl_mean()), "0.001704 0.001790");
/// assert_eq!((sums.same_top_share(), rows.forward.len()), (1.0, 2));
/// let targets = sums.targets.unwrap();
/// assert_eq!(format!("{:.4}", targets.log_perplexity_ratio()), "-0.0048");
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; class probabilities are refused.
pub fn compare_sums<P: Element, Q: Element, D: Dimension>(
    logits: &ArrayRef<P, D>,
    other: &ArrayRef<Q, D>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<(ComparisonSums, ComparisonRows), Error> {
    sums_of(&logits.view().into_dyn(), &other.view().into_dyn(), target, options, call)
}

fn sums_of<P: Element, Q: Element>(
    logits: &View<'_, P>,
    other: &View<'_, Q>,
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<(ComparisonSums, ComparisonRows), Error> {
    let p = input_rows(logits, Some(options.axis))?;
    check_shape("other", other.shape(), logits.shape())?;
    let q = input_rows(other, Some(options.axis))?;
    sums_of_rows((&p.rows, &q.rows), (p.shape, p.axis), target, options, call)
}

/// The part that is compiled once for all dtypes.
fn sums_of_rows(
    (p, q): (&dyn SingleRows, &dyn SingleRows),
    (shape, axis): (&[usize], usize),
    target: Option<&Target<'_>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<(ComparisonSums, ComparisonRows), Error> {
    with_any_target(target, options.ignore_index, shape, axis, |of_rows, ignore_index| {
        let labels = labels("compare_sums", of_rows, shape, axis, ignore_index, call)?;
        labels.check(call.context)?;
        run(p, q, &labels, call, target.is_some())
    })
}

fn run(
    p: &dyn SingleRows,
    q: &dyn SingleRows,
    labels: &Labels<'_>,
    call: &Call<'_>,
    has_target: bool,
) -> Result<(ComparisonSums, ComparisonRows), Error> {
    let (rows, classes) = (p.count(), p.classes());
    // Whether there is memory for the buffers of a thread is checked before threads allocate them; without rows they do
    // not.
    filled(if rows == 0 { 0 } else { 2 * padded(classes) }, 0.0)?;
    let all = Mutex::new(ComparisonSums::new(has_target));
    let mut each = ComparisonRows::default();
    for chunk in Walk::labelled(labels, classes).run(call.context, &Pairs { p, q, has_target, all: &all })? {
        each.forward.extend(chunk.forward);
        each.difference.extend(chunk.difference);
    }
    Ok((finished(all), each))
}

/// The rows of two models side by side.
struct Pairs<'w> {
    p: &'w dyn SingleRows,
    q: &'w dyn SingleRows,
    has_target: bool,
    all: &'w Mutex<ComparisonSums>,
}

/// What a thread reuses from chunk to chunk.
struct Pair<'w> {
    /// A row of each model, in `f64`.
    p: Vec<f64>,
    q: Vec<f64>,
    sums: Part<'w, ComparisonSums>,
    each: ComparisonRows,
}

impl<'w> TileWork for Pairs<'w> {
    type State = Pair<'w>;
    type Chunk = ComparisonRows;

    fn state(&self) -> Pair<'w> {
        let row = vec![0.0; padded(self.p.classes())];
        let sums = Part::new(ComparisonSums::new(self.has_target), self.all, ComparisonSums::join);
        Pair { p: row.clone(), q: row, sums, each: ComparisonRows::default() }
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, pair: &mut Pair<'w>, rows: Range<usize>, labels: &TileLabels) {
        let Pair { p, q, sums: Part { own: sums, .. }, each } = pair;
        sums.rows += rows.len() as u64;
        for i in bits(labels.active) {
            self.p.read(simd.level(), rows.start + i, p);
            self.q.read(simd.level(), rows.start + i, q);
            let (x, y) = (soft(simd, p), soft(simd, q));
            let Divergences { forward, reverse, jensen_shannon } = divergences(simd, p, &x, q, &y);
            sums.count += 1;
            sums.same_top += u64::from(x.largest.is_some() && x.largest == y.largest);
            sums.forward.add(forward);
            sums.forward_squared.add_square(forward);
            sums.reverse.add(reverse);
            sums.jensen_shannon.add(jensen_shannon);
            if let Some(targets) = &mut sums.targets {
                let class = labels.class[i];
                let (x_nll, y_nll) = (x.nll(p[class]), y.nll(q[class]));
                let difference = exp_of(simd, -y_nll) - exp_of(simd, -x_nll);
                targets.add(x_nll, y_nll, difference);
                each.difference.push(difference);
            }
            each.forward.push(forward);
        }
    }

    fn end(&self, pair: &mut Pair<'w>) -> ComparisonRows {
        std::mem::take(&mut pair.each)
    }
}
