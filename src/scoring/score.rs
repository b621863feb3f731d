//! Batch scoring in one pass over the logits: the loss of a row, and statistics of the row besides.
//!
//! A tile of rows is summed, as for a loss, and its statistics are found with the sums. [`score_into`] writes a
//! column for each of the row's numbers; [`score_sums`] adds them up without rounding, so that the results of parts can
//! be merged in any order.

use std::ops::Range;
use std::sync::Mutex;

use fearless_simd::Simd;
use ndarray::{ArrayRef, Axis, Dimension, RemoveAxis};

use super::columns::{Columns, Score, Scores};
use crate::array::rows::locate;
use crate::array::rows::{Input, class_axis, input_rows};
use crate::array::rows::{Rows, RowsMut, View, ViewMut, check_shape, row_shape};
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::column::Column;
use crate::kernel::element::Element;
use crate::kernel::rowset::bits;
use crate::kernel::stats::TileStats;
use crate::kernel::top::Top;
use crate::parallel::Context;
use crate::sum::exact::ExactSum;
use crate::sum::parts::{Part, finished, first};
use crate::targets::{Call, Labels, Target, Targets, TileLabels, TileWork, Walk};
use crate::tile::{Tile, Tiles, row_group_read_once, split_threads};

/// The columns as rows that are split among threads.
struct ColumnRows<'a, O> {
    nll: Option<RowsMut<'a, O>>,
    unrounded_nll: Option<RowsMut<'a, f64>>,
    logsumexp: Option<RowsMut<'a, O>>,
    entropy: Option<RowsMut<'a, O>>,
    prediction: Option<RowsMut<'a, i64>>,
    rank: Option<RowsMut<'a, i64>>,
    counted: Option<RowsMut<'a, bool>>,
    correct: Option<RowsMut<'a, bool>>,
    top_classes: Option<RowsMut<'a, i64>>,
    top_log_probs: Option<RowsMut<'a, O>>,
}

/// A column as rows of this shape; `axis` is that of several numbers for a row.
fn column<'a, T: Copy>(
    name: &'static str,
    column: &'a mut Option<ViewMut<'_, T>>,
    shape: &[usize],
    axis: Option<usize>,
) -> Result<Option<RowsMut<'a, T>>, Error> {
    let Some(column) = column else { return Ok(None) };
    check_shape(name, column.shape(), shape)?;
    Ok(Some(RowsMut::new(column, axis)))
}

impl<'a, O: Element> ColumnRows<'a, O> {
    fn new(columns: &'a mut Columns<'_, O>, rows: &[usize], top_k: usize) -> Result<Self, Error> {
        let Columns {
            nll,
            unrounded_nll,
            logsumexp,
            entropy,
            prediction,
            rank,
            counted,
            correct,
            top_classes,
            top_log_probs,
        } = columns;
        let mut several = rows.to_vec();
        several.push(top_k);
        let last = Some(rows.len());
        Ok(ColumnRows {
            nll: column("nll", nll, rows, None)?,
            unrounded_nll: column("unrounded_nll", unrounded_nll, rows, None)?,
            logsumexp: column("logsumexp", logsumexp, rows, None)?,
            entropy: column("entropy", entropy, rows, None)?,
            prediction: column("prediction", prediction, rows, None)?,
            rank: column("rank", rank, rows, None)?,
            counted: column("counted", counted, rows, None)?,
            correct: column("correct", correct, rows, None)?,
            top_classes: column("top_classes", top_classes, &several, last)?,
            top_log_probs: column("top_log_probs", top_log_probs, &several, last)?,
        })
    }
}

/// Writes one number for each row to a column that is wanted; `value` is asked for a whole tile.
///
/// # Safety
/// The rows belong to this thread.
unsafe fn write<T: Copy>(to: Option<&RowsMut<'_, T>>, rows: &Range<usize>, value: impl FnMut(usize) -> T) {
    if let Some(to) = to {
        // SAFETY: see above.
        unsafe { write_values(to, rows.clone(), &std::array::from_fn(value)) };
    }
}

/// Writes the numbers of a tile's rows. Not inlined: there once for each type of number, and not for each column.
///
/// # Safety
/// The rows belong to this thread.
#[inline(never)]
unsafe fn write_values<T: Copy>(to: &RowsMut<'_, T>, rows: Range<usize>, values: &[T; TILE]) {
    // SAFETY: see above.
    unsafe { to.write(rows, |i| values[i]) };
}

/// Checked arguments.
struct Work<'a, E> {
    rows: Rows<'a, E>,
    shape: Vec<usize>,
    labels: Labels<'a>,
    /// How many of the largest classes are named.
    named: usize,
    log_probs: bool,
}

impl<'a, E: Element> Work<'a, E> {
    /// Checks all arguments, targets included.
    fn new(
        logits: &'a View<'_, E>,
        target: &'a Target<'_>,
        options: &Score<'_>,
        named: usize,
        call: &'a Call<'_>,
    ) -> Result<Self, Error> {
        let Input { rows, shape, axis } = input_rows(logits, Some(options.axis))?;
        if target.is_floating() {
            return Err(target.refused_as_floating("score", shape, axis));
        }
        if named > rows.layout.classes {
            return Err(Error::Option {
                name: "top_k",
                value: named as f64,
                expected: "at most the number of classes",
            });
        }
        let targets = Targets::new(target, shape, axis, options.ignore_index, call.mask.as_ref())?;
        let Targets::Indices(labels) = targets else {
            return Err(target.refused_as_floating("score", shape, axis));
        };
        labels.check(call.context)?;
        Ok(Work { rows, shape: row_shape(shape, axis), labels, named, log_probs: options.log_probs })
    }

    /// Runs `each` on every tile, once its scores are found, on all threads. `part` makes the state of a thread.
    fn run<P>(
        &self,
        context: Context<'_>,
        part: impl Fn() -> P + Sync,
        each: impl Fn(&mut P, &mut ScoredTile<'_, '_, E>, Range<usize>) + Sync,
    ) -> Result<(), Error> {
        let (context, segments) = split_threads(context, &self.rows);
        let walk =
            Walk::labelled(&self.labels, self.rows.layout.classes).row_group(row_group_read_once(&self.rows));
        walk.run(context, &ScoreTiles { work: self, segments, part, each }).map(|_| ())
    }
}

/// The work of scoring every tile.
struct ScoreTiles<'w, 'a, E, P, F> {
    work: &'w Work<'a, E>,
    /// The context under which the segments of a row are split among threads, where the rows are not.
    segments: Option<Context<'w>>,
    part: P,
    each: F,
}

impl<'w, E: Element, T, P, F> TileWork for ScoreTiles<'w, '_, E, P, F>
where
    P: Fn() -> T + Sync,
    F: Fn(&mut T, &mut ScoredTile<'_, '_, E>, Range<usize>) + Sync,
{
    type State = (T, Tiles<'w, E>, Found);
    type Chunk = ();

    fn state(&self) -> Self::State {
        let work = self.work;
        ((self.part)(), Tiles::new(work.rows.clone(), self.segments), Found::new(work.named))
    }

    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        (part, tiles, found): &mut Self::State,
        rows: Range<usize>,
        labels: &TileLabels,
    ) {
        let tile = found.score(simd, tiles, rows.clone(), labels, self.work.log_probs);
        hand_over(&self.each, part, &mut ScoredTile { tile, labels, found }, rows);
    }

    fn end(&self, _: &mut Self::State) {}
}

/// Calls `each`. Not inlined, so that it is compiled once, and not for each instruction set.
#[inline(never)]
fn hand_over<E: Element, T>(
    each: &impl Fn(&mut T, &mut ScoredTile<'_, '_, E>, Range<usize>),
    part: &mut T,
    tile: &mut ScoredTile<'_, '_, E>,
    rows: Range<usize>,
) {
    each(part, tile, rows);
}

/// The scores of a tile's active rows, besides their sums.
struct Found {
    stats: TileStats,
    /// A bit for each row with a nan: its target has no rank.
    nan: u64,
    nll: Column<f64>,
    /// The negative log-likelihood under the softmax of the row. It differs from `nll` for log-probabilities whose
    /// probabilities do not add up to 1.
    normalised: Column<f64>,
    /// 1 - p of the target.
    miss: Column<f64>,
    top_k: usize,
    top: Vec<Top>,
}

impl Found {
    fn new(top_k: usize) -> Self {
        Found {
            stats: TileStats::new(),
            nan: 0,
            nll: Column::of(0.0),
            normalised: Column::of(0.0),
            miss: Column::of(0.0),
            top_k,
            top: vec![Top::default(); if top_k > 0 { TILE } else { 0 }],
        }
    }

    /// Sums the rows, and finds their scores.
    #[inline(always)]
    fn score<'t, 'a, S: Simd, E: Element>(
        &mut self,
        simd: S,
        tiles: &'t mut Tiles<'a, E>,
        rows: Range<usize>,
        labels: &TileLabels,
        log_probs: bool,
    ) -> Tile<'t, 'a, E> {
        let TileLabels { class, active } = labels;
        self.nan = 0;
        self.top.iter_mut().for_each(|top| top.restart(self.top_k));
        let tile = tiles.sum_with_stats(simd, rows, class, *active, &mut self.stats, &mut self.top);
        if *active == 0 {
            return tile;
        }
        let logits = tile.target_logits(simd, class, *active);
        tile.nll(&logits, &mut self.normalised);
        self.nll = if log_probs { Column(logits.map(|x| 0.0 - x)) } else { self.normalised };
        self.miss = tile.share(simd, &logits).1;
        for i in bits(*active) {
            if tile.log1p_rest(i).is_nan() {
                self.rank_without_softmax(&tile, i, class[i]);
            }
        }
        tile
    }

    /// Finds rank, prediction and largest classes of a row without a softmax: with a nan, with +inf or of nothing but
    /// -inf.
    #[cold]
    fn rank_without_softmax<E: Element>(&mut self, tile: &Tile<'_, '_, E>, i: usize, class: usize) {
        let classes = tile.classes();
        let target = tile.logit(i, class);
        let (mut nan, mut greater, mut tied_before) = (false, 0, 0);
        for c in 0..classes {
            let x = tile.logit(i, c);
            nan |= x.is_nan();
            greater += u64::from(x > target);
            tied_before += u64::from(x == target && c < class);
        }
        self.nan |= u64::from(nan) << i;
        self.stats.rows[i].greater = greater as f64;
        self.stats.rows[i].tied_before = tied_before as f64;
        self.stats.largest[i] = tile.argmax(i);
        if let Some(top) = self.top.get_mut(i) {
            top.restart(self.top_k);
            (0..classes).for_each(|class| top.offer(class, tile.logit(i, class)));
        }
    }
}

/// A tile with its sums and its scores.
struct ScoredTile<'t, 'a, E: Element> {
    tile: Tile<'t, 'a, E>,
    labels: &'t TileLabels,
    found: &'t mut Found,
}

impl<E: Element> ScoredTile<'_, '_, E> {
    fn is_active(&self, i: usize) -> bool {
        self.labels.active >> i & 1 == 1
    }

    fn has_nan(&self, i: usize) -> bool {
        self.found.nan >> i & 1 == 1
    }

    fn is_correct(&self, i: usize) -> bool {
        self.is_active(i) && !self.has_nan(i) && self.found.stats.largest[i] == self.labels.class[i]
    }

    /// Whether the target is among the k largest classes.
    fn is_among(&self, k: usize, i: usize) -> bool {
        !self.has_nan(i) && self.rank(i) <= k as f64
    }

    fn entropy(&self, i: usize) -> f64 {
        self.tile.entropy(i, &self.found.stats.rows[i])
    }

    /// The target's place among the classes, the first of ties first; the last in a row with a nan.
    fn rank(&self, i: usize) -> f64 {
        if self.has_nan(i) {
            return self.tile.classes() as f64;
        }
        let row = &self.found.stats.rows[i];
        1.0 + row.greater + row.tied_before
    }

    /// The largest probability of row i.
    fn confidence(&self, i: usize) -> f64 {
        self.tile.confidence(i)
    }

    fn squared_error(&self, i: usize) -> f64 {
        self.tile.squared_error(i, &self.found.stats.rows[i], self.found.normalised[i], self.found.miss[i])
    }

    /// Writes the scores of the tile's rows to the columns.
    ///
    /// # Safety
    /// The rows belong to this thread.
    unsafe fn write<O: Element>(&mut self, rows: Range<usize>, to: &ColumnRows<'_, O>) {
        // SAFETY: see above.
        unsafe {
            let or_zero = |i, value: f64| O::from_f64(if self.is_active(i) { value } else { 0.0 });
            write(to.nll.as_ref(), &rows, |i| or_zero(i, self.found.nll[i]));
            write(
                to.unrounded_nll.as_ref(),
                &rows,
                |i| if self.is_active(i) { self.found.nll[i] } else { 0.0 },
            );
            write(to.logsumexp.as_ref(), &rows, |i| {
                if self.is_active(i) { O::from_f64(self.tile.log_sum_exp(i)) } else { O::from_f64(0.0) }
            });
            write(to.entropy.as_ref(), &rows, |i| or_zero(i, self.entropy(i)));
            write(to.prediction.as_ref(), &rows, |i| {
                if self.is_active(i) { self.found.stats.largest[i] as i64 } else { -1 }
            });
            write(to.rank.as_ref(), &rows, |i| if self.is_active(i) { self.rank(i) as i64 } else { 0 });
            write(to.counted.as_ref(), &rows, |i| self.is_active(i));
            write(to.correct.as_ref(), &rows, |i| self.is_correct(i));
        }
        let (classes_to, log_probs_to) = (&to.top_classes, &to.top_log_probs);
        if classes_to.is_none() && log_probs_to.is_none() {
            return;
        }
        let (mut class_at, mut log_prob_at) = ([0; TILE], [0; TILE]);
        if let Some(to) = classes_to {
            locate(&to.layout, rows.clone(), &mut class_at);
        }
        if let Some(to) = log_probs_to {
            locate(&to.layout, rows.clone(), &mut log_prob_at);
        }
        for i in 0..rows.len() {
            let classes = if self.is_active(i) { Some(self.found.top[i].take()) } else { None };
            let mut classes = classes.into_iter().flatten();
            for k in 0..self.found.top_k {
                let class = classes.next();
                let log_prob = class.map_or(0.0, |class| self.tile.log_softmax(i, class));
                // SAFETY: see above.
                unsafe {
                    if let Some(to) = classes_to {
                        to.set(class_at[i], k, class.map_or(-1, |class| class as i64));
                    }
                    if let Some(to) = log_probs_to {
                        to.set(log_prob_at[i], k, O::from_f64(log_prob));
                    }
                }
            }
        }
    }
}

/// Scores rows of logits against class indices: losses and other statistics of each row, as `f64` columns. The largest
/// of the options' `top_k` is the number of top classes that are named.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, Score, score};
///
/// let logits = array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0]];
/// let scores = score(&logits, &array![2_i64, 1], &Score::new().top_k(&[2]), &Call::new())?;
/// assert_eq!(scores.prediction, array![0, 1]);
/// assert_eq!(scores.rank, array![2, 1]);
/// assert_eq!(scores.nll.map(|nll| format!("{nll:.6}")), array!["1.741311", "0.054985"]);
/// assert_eq!(scores.top_classes.unwrap(), array![[0, 2], [1, 0]]);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; class probabilities are refused.
pub fn score<'t, E: Element, D: RemoveAxis>(
    logits: &ArrayRef<E, D>,
    target: impl Into<Target<'t>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<Scores<D>, Error> {
    let axis = class_axis(logits.ndim(), Some(options.axis))?;
    // A larger `top_k` than there are classes is an error: no memory is allocated for it before.
    let named = options.named().min(logits.len_of(Axis(axis)));
    let mut scores = Scores::new(&logits.raw_dim(), axis, named)?;
    score_into(logits, target, options, call, scores.columns())?;
    Ok(scores)
}

/// Writes the columns of [`score`] to arrays of the caller's, of any floating-point type; columns that are not set are
/// left out.
///
/// ```
/// use crossent::ndarray::{Array1, array};
/// use crossent::{Call, Columns, Score, score_into};
///
/// let logits = array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0]];
/// let (mut nll, mut rank) = (Array1::<f32>::zeros(2), Array1::zeros(2));
/// let columns = Columns::new().nll(&mut nll).rank(&mut rank);
/// score_into(&logits, &array![2_i64, 1], &Score::new(), &Call::new(), columns)?;
/// assert_eq!((nll[0], rank), (1.7413113, array![2, 1]));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; class probabilities are refused. The columns are untouched then, unless the call was interrupted.
pub fn score_into<'t, E: Element, D: Dimension, O: Element>(
    logits: &ArrayRef<E, D>,
    target: impl Into<Target<'t>>,
    options: &Score<'_>,
    call: &Call<'_>,
    columns: Columns<'_, O>,
) -> Result<(), Error> {
    score_of(&logits.view().into_dyn(), &target.into(), options, call, columns)
}

fn score_of<E: Element, O: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    options: &Score<'_>,
    call: &Call<'_>,
    mut columns: Columns<'_, O>,
) -> Result<(), Error> {
    let work = Work::new(logits, target, options, columns.named(options), call)?;
    let columns = ColumnRows::new(&mut columns, &work.shape, work.named)?;
    // SAFETY: the rows of a chunk belong to one thread.
    work.run(call.context, || (), |(), tile, rows| unsafe { tile.write(rows, &columns) })
}

/// The exact sums of [`score_sums`], which merge in any order with the same bits, and their figures.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ScoreSums {
    /// Rows, counted or not.
    pub rows: u64,
    /// Rows that count.
    pub count: u64,
    /// Rows whose prediction is the target.
    pub correct: u64,
    /// The numbers k of the options.
    pub top_k: Vec<usize>,
    /// For each k, the number of rows whose rank is at most k, and which have no nan.
    pub top: Vec<u64>,
    /// Rows whose negative log-likelihood is not finite.
    pub nonfinite: u64,
    /// The index of the first row whose negative log-likelihood is not finite.
    pub first_nonfinite: Option<u64>,
    /// Negative log-likelihoods, in nats.
    pub nll: ExactSum,
    /// The squares of the negative log-likelihoods.
    pub nll_squared: ExactSum,
    /// Entropies, in nats.
    pub entropy: ExactSum,
    /// 1 / rank, with the ranks of [`Scores`].
    pub reciprocal_rank: ExactSum,
    /// The squared errors of the probabilities (Brier 1950).
    pub squared_error: ExactSum,
    /// Bins of the largest probability, equally wide and closed on the right.
    pub bins: Vec<Bin>,
    /// The number of finite negative log-likelihoods in each 32nd of a nat, from 0 on; the last number is that of all
    /// from 32 nats on. Negative ones, which rounded log-probabilities may give, count as 0.
    pub histogram: Vec<u64>,
    /// The groups of the call by their numbers, from 0 to the largest.
    pub groups: Vec<Group>,
}

/// Bins of the histogram for each nat. A power of two, so that the edges are exact, and an edge belongs to the bin
/// above it.
pub(crate) const BINS_PER_NAT: f64 = 32.0;

/// Bins of the histogram, but for the last, which has no end.
pub(crate) const LOSS_BINS: usize = 1024;

/// The sums of a group of rows.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Group {
    /// Rows of the group that count.
    pub count: u64,
    /// Negative log-likelihoods of the group's rows, in nats.
    pub nll: ExactSum,
    /// The squares of the negative log-likelihoods.
    pub nll_squared: ExactSum,
}

/// The rows whose largest probability lies between two numbers.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Bin {
    /// Rows in the bin.
    pub count: u64,
    /// Rows in the bin whose prediction is the target.
    pub correct: u64,
    /// The largest probabilities of the rows in the bin.
    pub confidence: ExactSum,
}

/// The bin of c, from 0 to 1: the first whose upper end (i + 1) / bins is not below it.
fn bin_of(c: f64, bins: usize) -> usize {
    let end = |i: usize| (i as f64 + 1.0) / bins as f64;
    let mut i = ((c * bins as f64) as usize).min(bins - 1);
    while i > 0 && c <= end(i - 1) {
        i -= 1;
    }
    while i + 1 < bins && c > end(i) {
        i += 1;
    }
    i
}

impl ScoreSums {
    fn new(top_k: &[usize], bins: usize, groups: usize) -> Self {
        ScoreSums {
            top_k: top_k.to_vec(),
            top: vec![0; top_k.len()],
            bins: vec![Bin::default(); bins],
            histogram: vec![0; LOSS_BINS + 1],
            groups: vec![Group::default(); groups],
            ..ScoreSums::default()
        }
    }

    fn add<E: Element>(&mut self, tile: &ScoredTile<'_, '_, E>, rows: Range<usize>, groups: &[u16]) {
        self.rows += rows.len() as u64;
        self.count += u64::from(tile.labels.active.count_ones());
        for i in bits(tile.labels.active) {
            let (nll, correct) = (tile.found.nll[i], u64::from(tile.is_correct(i)));
            self.correct += correct;
            for (count, k) in self.top.iter_mut().zip(&self.top_k) {
                *count += u64::from(tile.is_among(*k, i));
            }
            if nll.is_finite() {
                self.histogram[((nll * BINS_PER_NAT) as usize).min(LOSS_BINS)] += 1;
            } else {
                self.nonfinite += 1;
                self.first_nonfinite = first(self.first_nonfinite, Some((rows.start + i) as u64));
            }
            if let Some(group) = groups.get(rows.start + i) {
                let group = &mut self.groups[usize::from(*group)];
                group.count += 1;
                group.nll.add(nll);
                group.nll_squared.add_square(nll);
            }
            self.nll.add(nll);
            self.nll_squared.add_square(nll);
            self.entropy.add(tile.entropy(i));
            self.reciprocal_rank.add(1.0 / tile.rank(i));
            self.squared_error.add(tile.squared_error(i));
            let confidence = tile.confidence(i);
            if confidence.is_nan() || self.bins.is_empty() {
                continue;
            }
            let at = bin_of(confidence, self.bins.len());
            let bin = &mut self.bins[at];
            bin.count += 1;
            bin.correct += correct;
            bin.confidence.add(confidence);
        }
    }

    /// Adds sums of the same call, or of the same options: the index of a row is taken as it is.
    pub(super) fn join(&mut self, other: &ScoreSums) {
        self.rows += other.rows;
        self.count += other.count;
        self.correct += other.correct;
        self.nonfinite += other.nonfinite;
        self.first_nonfinite = first(self.first_nonfinite, other.first_nonfinite);
        for (to, from) in self.top.iter_mut().zip(&other.top) {
            *to += from;
        }
        self.nll.merge(&other.nll);
        self.nll_squared.merge(&other.nll_squared);
        self.entropy.merge(&other.entropy);
        self.reciprocal_rank.merge(&other.reciprocal_rank);
        self.squared_error.merge(&other.squared_error);
        for (to, from) in self.bins.iter_mut().zip(&other.bins) {
            to.count += from.count;
            to.correct += from.correct;
            to.confidence.merge(&from.confidence);
        }
        for (to, from) in self.histogram.iter_mut().zip(&other.histogram) {
            *to += from;
        }
        let groups = self.groups.len().max(other.groups.len());
        self.groups.resize_with(groups, Group::default);
        for (to, from) in self.groups.iter_mut().zip(&other.groups) {
            to.count += from.count;
            to.nll.merge(&from.nll);
            to.nll_squared.merge(&from.nll_squared);
        }
    }
}

/// Writes the columns of a tile's rows.
type Write<'a, E> = &'a (dyn Fn(&mut ScoredTile<'_, '_, E>, Range<usize>) + Sync);

impl<E: Element> Work<'_, E> {
    /// Adds the scores up, and writes them too where `write` is given.
    fn sums(
        &self,
        context: Context<'_>,
        options: &Score<'_>,
        write: Option<Write<'_, E>>,
    ) -> Result<ScoreSums, Error> {
        if let Some(groups) = options.groups {
            check_shape("groups", &[groups.len()], &[self.rows.layout.line.len()])?;
        }
        let groups = options.groups.unwrap_or_default();
        let number = groups.iter().max().map_or(0, |largest| usize::from(*largest) + 1);
        let empty = || ScoreSums::new(options.top_k, options.bins, number);
        let all = Mutex::new(empty());
        self.run(
            context,
            || Part::new(empty(), &all, ScoreSums::join),
            |part, tile, rows| {
                part.own.add(tile, rows.clone(), groups);
                if let Some(write) = write {
                    write(tile, rows);
                }
            },
        )?;
        Ok(finished(all))
    }
}

/// Scores rows of logits against class indices, and adds the scores up without rounding.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, Score, ScoreSums, score_sums};
///
/// let logits = array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 1.0]];
/// let (target, options) = (array![2_i64, 1, -100], Score::new().top_k(&[1, 2]));
/// let all = score_sums(&logits, &target, &options, &Call::new())?;
/// assert_eq!((all.count, all.accuracy()), (2, 0.5));
/// assert_eq!(all.top_k_accuracy(), [(1, 0.5), (2, 1.0)]);
/// assert_eq!(format!("{:.6} ± {:.6}", all.mean(), all.standard_error()), "0.898148 ± 0.843163");
///
/// let mut parts = ScoreSums::default();
/// for (logits, target) in logits.outer_iter().zip(&target) {
///     parts.merge(&score_sums(&logits, &crossent::ndarray::arr0(*target), &options, &Call::new())?);
/// }
/// assert_eq!(parts, all);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; class probabilities are refused.
pub fn score_sums<'t, E: Element, D: Dimension>(
    logits: &ArrayRef<E, D>,
    target: impl Into<Target<'t>>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<ScoreSums, Error> {
    sums_of(&logits.view().into_dyn(), &target.into(), options, call)
}

fn sums_of<E: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    options: &Score<'_>,
    call: &Call<'_>,
) -> Result<ScoreSums, Error> {
    Work::new(logits, target, options, 0, call)?.sums(call.context, options, None)
}

/// Scores rows of logits against class indices in one pass: writes the columns of [`score`], and returns the sums of
/// [`score_sums`], both with the same bits.
///
/// ```
/// use crossent::ndarray::{Array1, array};
/// use crossent::{Call, Columns, Score, score_with_sums};
///
/// let (logits, target) = (array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0]], array![0_i64, 1]);
/// let mut nll = Array1::<f64>::zeros(2);
/// let columns = Columns::new().nll(&mut nll);
/// let sums = score_with_sums(&logits, &target, &Score::new(), &Call::new(), columns)?;
/// assert_eq!(sums.nll, nll.iter().copied().collect());
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// See [`Error`]; class probabilities are refused. The columns are untouched then, unless the call was interrupted.
pub fn score_with_sums<'t, E: Element, D: Dimension, O: Element>(
    logits: &ArrayRef<E, D>,
    target: impl Into<Target<'t>>,
    options: &Score<'_>,
    call: &Call<'_>,
    columns: Columns<'_, O>,
) -> Result<ScoreSums, Error> {
    sums_and_columns_of(&logits.view().into_dyn(), &target.into(), options, call, columns)
}

fn sums_and_columns_of<E: Element, O: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    options: &Score<'_>,
    call: &Call<'_>,
    mut columns: Columns<'_, O>,
) -> Result<ScoreSums, Error> {
    let work = Work::new(logits, target, options, columns.named(options), call)?;
    let columns = ColumnRows::new(&mut columns, &work.shape, work.named)?;
    // Behind a pointer, so that the code of the walk, which is long, is compiled once for both functions.
    // SAFETY: the rows of a chunk belong to one thread.
    let write = |tile: &mut ScoredTile<'_, '_, E>, rows: Range<usize>| unsafe { tile.write(rows, &columns) };
    work.sums(call.context, options, Some(&write))
}
