//! Batch scoring in one read of the logits: what a row tells besides its loss.
//!
//! A tile of rows is summed, as for a loss, and looked at in the same pass. [`score`] writes a
//! column for each of the row's numbers; [`score_sums`] adds them up without rounding, so that the results of parts can
//! be merged in any order.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use fearless_simd::{Simd, dispatch};

use crate::error::Error;
use crate::exact::ExactSum;
use crate::kernel::element::Element;
use crate::kernel::scan::TileScan;
use crate::kernel::{TILE, isa};
use crate::loss::{Call, Input, input_rows};
use crate::parallel::{Context, try_for_each_stretch};
use crate::rows::{Rows, RowsMut, View, ViewMut, check_shape, row_shape};
use crate::targets::{Labels, OutOfRange, Target, Targets, TileLabels};
use crate::tiles::{Tiles, bits, locate, shared_out, together};
use crate::top::Top;

/// What rows are scored against, and how.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    /// The class index of rows to leave out.
    pub ignore_index: i64,
    /// The class axis.
    pub axis: isize,
    /// How many of the largest classes are named.
    pub top_k: usize,
    /// Whether the rows are log-probabilities: the negative log-likelihood is minus the target's, not normalised anew.
    pub log_probs: bool,
}

/// Where the results of [`score`] go: arrays of the logits' shape without the class axis. Rows that are left out get 0, and -1
/// for a class.
#[derive(Debug)]
pub struct Columns<'a, O> {
    /// The negative log-likelihood of the target, in nats.
    pub nll: ViewMut<'a, O>,
    /// log sum exp of the logits.
    pub logsumexp: ViewMut<'a, O>,
    /// The entropy of the softmax, in nats.
    pub entropy: ViewMut<'a, O>,
    /// The first class with the largest logit; with a nan in the row, the first nan.
    pub prediction: ViewMut<'a, i64>,
    /// The target's place among the classes, from 1 on: 1 + the number of classes with a larger logit, or with the same and a
    /// lower index. In a row with a nan it is the number of classes.
    pub rank: ViewMut<'a, i64>,
    /// False for rows that are left out.
    pub counted: ViewMut<'a, bool>,
    /// Whether the prediction is the target, which no row with a nan counts as: whether the rank is 1.
    pub correct: ViewMut<'a, bool>,
    /// The classes of the largest logits, along a further axis at the end, and the logarithms of their probabilities.
    pub top: Option<(ViewMut<'a, i64>, ViewMut<'a, O>)>,
}

/// The columns as rows that are shared out to threads.
struct ColumnRows<'a, O> {
    nll: RowsMut<'a, O>,
    logsumexp: RowsMut<'a, O>,
    entropy: RowsMut<'a, O>,
    prediction: RowsMut<'a, i64>,
    rank: RowsMut<'a, i64>,
    counted: RowsMut<'a, bool>,
    correct: RowsMut<'a, bool>,
    top: Option<(RowsMut<'a, i64>, RowsMut<'a, O>)>,
}

impl<'a, O: Element> ColumnRows<'a, O> {
    fn new(columns: &'a mut Columns<'_, O>, rows: &[usize], top_k: usize) -> Result<Self, Error> {
        let Columns { nll, logsumexp, entropy, prediction, rank, counted, correct, top } = columns;
        for shape in [
            nll.shape(),
            logsumexp.shape(),
            entropy.shape(),
            prediction.shape(),
            rank.shape(),
            counted.shape(),
            correct.shape(),
        ] {
            check_shape("a column", shape, rows)?;
        }
        if let Some((ids, log_probs)) = &top {
            let mut expected = rows.to_vec();
            expected.push(top_k);
            check_shape("top_ids", ids.shape(), &expected)?;
            check_shape("top_log_probs", log_probs.shape(), &expected)?;
        }
        Ok(ColumnRows {
            nll: RowsMut::new(nll, None),
            logsumexp: RowsMut::new(logsumexp, None),
            entropy: RowsMut::new(entropy, None),
            prediction: RowsMut::new(prediction, None),
            rank: RowsMut::new(rank, None),
            counted: RowsMut::new(counted, None),
            correct: RowsMut::new(correct, None),
            top: top.as_mut().map(|(ids, log_probs)| {
                (RowsMut::new(ids, Some(rows.len())), RowsMut::new(log_probs, Some(rows.len())))
            }),
        })
    }
}

/// Checked arguments.
struct Work<'a, E> {
    rows: Rows<'a, E>,
    shape: Vec<usize>,
    labels: Labels<'a>,
    options: Score,
}

impl<'a, E: Element> Work<'a, E> {
    /// Checks all arguments, targets included.
    fn new(
        logits: &'a View<'_, E>,
        target: &'a Target<'_>,
        options: Score,
        call: &'a Call<'_>,
    ) -> Result<Self, Error> {
        let Input { rows, shape, axis } = input_rows(logits, Some(options.axis))?;
        if target.is_floating() {
            return Err(target.refused_as_floating("score", shape, axis));
        }
        if options.top_k > rows.layout.classes {
            return Err(Error::Option {
                name: "top_k",
                value: options.top_k as f64,
                expected: "at most the number of classes",
            });
        }
        let targets = Targets::new(target, shape, axis, options.ignore_index, call.mask.as_ref())?;
        let Targets::Indices(labels) = targets else {
            return Err(target.refused_as_floating("score", shape, axis));
        };
        labels.check(call.context)?;
        Ok(Work { rows, shape: row_shape(shape, axis), labels, options })
    }

    /// Runs `each` on every tile that was looked at, on all threads. `part` makes what a thread keeps for itself.
    fn run<P>(
        &self,
        context: Context<'_>,
        part: impl Fn() -> P + Sync,
        each: impl Fn(&mut P, &mut Seen<'_, E>, Range<usize>) + Sync,
    ) -> Result<(), Error> {
        let level = isa::selected()?;
        let (context, segments) = shared_out(context, &self.rows);
        let grains = try_for_each_stretch(
            context,
            self.rows.layout.line.len(),
            self.rows.layout.classes,
            together(&self.rows),
            || (part(), Seen::new(self.rows.clone(), segments, self.options)),
            |(part, seen), rows| {
                for first in rows.clone().step_by(TILE) {
                    let range = first..(first + TILE).min(rows.end);
                    dispatch!(level, simd => seen.look(simd, &self.labels, range.clone()))?;
                    each(part, seen, range);
                }
                Ok::<_, OutOfRange>(())
            },
        )?;
        grains.map(|_| ()).map_err(|rows| self.labels.first_out_of_range(rows))
    }
}

/// A tile that has been summed and looked at.
struct Seen<'a, E: Element> {
    tiles: Tiles<'a, E>,
    scan: TileScan,
    labels: TileLabels,
    counted: u64,
    /// Rows that hold a nan: no class of theirs is found.
    nan: u64,
    log_probs: bool,
    nll: [f64; TILE],
    /// The same under the softmax of the row, which differs for log-probabilities that do not add up to 1.
    normalised: [f64; TILE],
    /// 1 - p of the target.
    miss: [f64; TILE],
    top_k: usize,
    top: Vec<Top>,
}

impl<'a, E: Element> Seen<'a, E> {
    fn new(rows: Rows<'a, E>, segments: Option<Context<'a>>, options: Score) -> Self {
        let Score { top_k, log_probs, .. } = options;
        Seen {
            tiles: Tiles::new(rows, segments),
            scan: TileScan::new(),
            labels: TileLabels::default(),
            counted: 0,
            nan: 0,
            log_probs,
            nll: [0.0; TILE],
            normalised: [0.0; TILE],
            miss: [0.0; TILE],
            top_k,
            top: vec![Top::default(); if top_k > 0 { TILE } else { 0 }],
        }
    }

    /// Sums the rows, and finds what else they tell.
    #[inline(always)]
    fn look<S: Simd>(&mut self, simd: S, labels: &Labels<'_>, range: Range<usize>) -> Result<(), OutOfRange> {
        labels.tile(simd, range.clone(), &mut self.labels)?;
        self.counted = self.labels.counted;
        self.nan = 0;
        if self.counted == 0 {
            return Ok(());
        }
        self.top.iter_mut().for_each(|top| top.restart(self.top_k));
        self.tiles.sum_and_look(simd, range, &self.labels.class, self.counted, &mut self.scan, &mut self.top);
        let own = self.tiles.target_logits(simd, &self.labels.class, self.counted);
        self.tiles.nll_of(&own, &mut self.normalised);
        self.nll = if self.log_probs { own.map(|x| 0.0 - x) } else { self.normalised };
        self.miss = self.tiles.target_share(simd).1;
        for i in bits(self.counted) {
            if self.tiles.log1p_rest(i).is_nan() {
                self.look_at_no_softmax(i);
            }
        }
        Ok(())
    }

    /// Looks once more at a row without a softmax: with a nan, with +inf or of nothing but -inf.
    #[cold]
    fn look_at_no_softmax(&mut self, i: usize) {
        let (classes, class) = (self.tiles.classes(), self.labels.class[i]);
        let own = self.tiles.logit(i, class);
        let (mut nan, mut greater, mut tied_before) = (false, 0, 0);
        for c in 0..classes {
            let x = self.tiles.logit(i, c);
            nan |= x.is_nan();
            greater += u64::from(x > own);
            tied_before += u64::from(x == own && c < class);
        }
        self.nan |= u64::from(nan) << i;
        self.scan.rows[i].greater = greater as f64;
        self.scan.rows[i].tied_before = tied_before as f64;
        self.scan.largest[i] = self.tiles.argmax(i);
        if let Some(top) = self.top.get_mut(i) {
            top.restart(self.top_k);
            (0..classes).for_each(|class| top.offer(class, self.tiles.logit(i, class)));
        }
    }

    fn is_counted(&self, i: usize) -> bool {
        self.counted >> i & 1 == 1
    }

    fn has_nan(&self, i: usize) -> bool {
        self.nan >> i & 1 == 1
    }

    fn is_correct(&self, i: usize) -> bool {
        self.is_counted(i) && !self.has_nan(i) && self.scan.largest[i] == self.labels.class[i]
    }

    /// Whether the target is among the k largest classes.
    fn is_among(&self, k: usize, i: usize) -> bool {
        !self.has_nan(i) && self.rank(i) <= k as f64
    }

    fn entropy(&self, i: usize) -> f64 {
        self.tiles.entropy(i, &self.scan.rows[i])
    }

    /// The target's place among the classes, the first of ties first; the last in a row with a nan.
    fn rank(&self, i: usize) -> f64 {
        if self.has_nan(i) {
            return self.tiles.classes() as f64;
        }
        let row = &self.scan.rows[i];
        1.0 + row.greater + row.tied_before
    }

    fn squared_error(&self, i: usize) -> f64 {
        self.tiles.squared_error(i, &self.scan.rows[i], self.normalised[i], self.miss[i])
    }

    /// # Safety
    /// The rows belong to this thread.
    unsafe fn write<O: Element>(&mut self, rows: Range<usize>, to: &ColumnRows<'_, O>) {
        // SAFETY: see above.
        unsafe {
            let or_zero = |i, value: f64| O::from_f64(if self.is_counted(i) { value } else { 0.0 });
            to.nll.write(rows.clone(), |i| or_zero(i, self.nll[i]));
            to.logsumexp.write(rows.clone(), |i| {
                if self.is_counted(i) { O::from_f64(self.tiles.log_sum_exp(i)) } else { O::from_f64(0.0) }
            });
            to.entropy.write(rows.clone(), |i| or_zero(i, self.entropy(i)));
            to.prediction
                .write(rows.clone(), |i| if self.is_counted(i) { self.scan.largest[i] as i64 } else { -1 });
            to.rank.write(rows.clone(), |i| if self.is_counted(i) { self.rank(i) as i64 } else { 0 });
            to.counted.write(rows.clone(), |i| self.is_counted(i));
            to.correct.write(rows.clone(), |i| self.is_correct(i));
        }
        let Some((ids, log_probs)) = &to.top else { return };
        let (mut id_at, mut log_prob_at) = ([0; TILE], [0; TILE]);
        locate(&ids.layout, rows.clone(), &mut id_at);
        locate(&log_probs.layout, rows.clone(), &mut log_prob_at);
        for i in 0..rows.len() {
            let classes = if self.is_counted(i) { Some(self.top[i].take()) } else { None };
            let mut classes = classes.into_iter().flatten();
            for k in 0..self.top_k {
                let class = classes.next();
                let log_prob = class.map_or(0.0, |class| self.tiles.log_softmax(i, class));
                // SAFETY: see above.
                unsafe {
                    ids.set(id_at[i], k, class.map_or(-1, |class| class as i64));
                    log_probs.set(log_prob_at[i], k, O::from_f64(log_prob));
                }
            }
        }
    }
}

/// Scores rows of logits against class indices.
///
/// # Errors
/// See [`Error`]; class probabilities are refused. The columns are untouched then, unless the call was interrupted.
pub fn score<E: Element, O: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    options: Score,
    call: &Call<'_>,
    mut columns: Columns<'_, O>,
) -> Result<(), Error> {
    let work = Work::new(logits, target, options, call)?;
    let columns = ColumnRows::new(&mut columns, &work.shape, options.top_k)?;
    // SAFETY: the rows of a grain belong to one thread.
    work.run(call.context, || (), |(), seen, rows| unsafe { seen.write(rows, &columns) })
}

/// What [`score_sums`] adds up.
#[derive(Clone, Debug, Default)]
pub struct ScoreSums {
    /// Rows, counted or not.
    pub rows: u64,
    /// Rows that count.
    pub count: u64,
    /// Rows whose prediction is the target.
    pub correct: u64,
    /// For each k of the call, rows with the target among the k largest, the first of ties first. Rows with a nan are not.
    pub top: Vec<u64>,
    /// Rows whose negative log-likelihood is not finite, and the first of them.
    pub nonfinite: u64,
    /// The number of the first of them.
    pub first_nonfinite: Option<u64>,
    /// Negative log-likelihoods, in nats.
    pub nll: ExactSum,
    /// Their squares.
    pub nll_squared: ExactSum,
    /// Entropies, in nats.
    pub entropy: ExactSum,
    /// 1 / rank, with the ranks of [`Columns`].
    pub reciprocal_rank: ExactSum,
    /// The squared errors of the probabilities (Brier 1950).
    pub squared_error: ExactSum,
    /// Bins of the largest probability, equally wide and closed on the right.
    pub bins: Vec<Bin>,
    /// How many finite negative log-likelihoods there are in each 32nd of a nat, from 0 on; the last number is of all those from
    /// 32 nats on. What rounded log-probabilities give below 0 counts as 0.
    pub histogram: Vec<u64>,
    /// The groups of the call by their numbers, from 0 to the largest.
    pub groups: Vec<Group>,
}

/// Bins of the histogram for each nat. A power of two, so that an edge is a number and belongs to the bin above it.
const BINS_PER_NAT: f64 = 32.0;

/// Bins of the histogram, but for the last, which has no end.
const LOSS_BINS: usize = 1024;

/// Some of the rows.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// How many of them count.
    pub count: u64,
    /// Their negative log-likelihoods, in nats.
    pub nll: ExactSum,
    /// The squares of these.
    pub nll_squared: ExactSum,
}

/// The rows whose largest probability lies between two numbers.
#[derive(Clone, Debug, Default)]
pub struct Bin {
    /// How many there are.
    pub count: u64,
    /// Those whose prediction is the target.
    pub correct: u64,
    /// Their largest probabilities.
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

/// The first of two rows. A thread does not meet its rows in order.
pub(crate) fn first(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}

impl ScoreSums {
    fn new(top_k: usize, bins: usize, groups: usize) -> Self {
        ScoreSums {
            top: vec![0; top_k],
            bins: vec![Bin::default(); bins],
            histogram: vec![0; LOSS_BINS + 1],
            groups: vec![Group::default(); groups],
            ..ScoreSums::default()
        }
    }

    fn add<E: Element>(&mut self, seen: &Seen<'_, E>, rows: Range<usize>, top_k: &[usize], groups: &[u16]) {
        self.rows += rows.len() as u64;
        self.count += u64::from(seen.counted.count_ones());
        for i in bits(seen.counted) {
            let (nll, correct) = (seen.nll[i], u64::from(seen.is_correct(i)));
            self.correct += correct;
            for (count, k) in self.top.iter_mut().zip(top_k) {
                *count += u64::from(seen.is_among(*k, i));
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
            self.entropy.add(seen.entropy(i));
            self.reciprocal_rank.add(1.0 / seen.rank(i));
            self.squared_error.add(seen.squared_error(i));
            let confidence = seen.tiles.confidence(i);
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

    fn merge(&mut self, other: &ScoreSums) {
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
        for (to, from) in self.groups.iter_mut().zip(&other.groups) {
            to.count += from.count;
            to.nll.merge(&from.nll);
            to.nll_squared.merge(&from.nll_squared);
        }
    }
}

/// Sums of one thread, which go to those of all when the thread is done. They are exact, so the order in which threads finish
/// does not matter, and memory does not grow with the number of grains.
pub(crate) struct Part<'a, T, Merge: Fn(&mut T, &T)> {
    pub own: T,
    all: &'a Mutex<T>,
    merge: Merge,
}

impl<'a, T, Merge: Fn(&mut T, &T)> Part<'a, T, Merge> {
    pub(crate) fn new(own: T, all: &'a Mutex<T>, merge: Merge) -> Self {
        Part { own, all, merge }
    }
}

impl<T, Merge: Fn(&mut T, &T)> Drop for Part<'_, T, Merge> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        (self.merge)(&mut all, &self.own);
    }
}

/// The result that all parts have gone to.
pub(crate) fn finished<T>(all: Mutex<T>) -> T {
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the columns of a tile's rows.
type Write<'a, E> = &'a (dyn Fn(&mut Seen<'_, E>, Range<usize>) + Sync);

impl<E: Element> Work<'_, E> {
    /// Adds the scores up, and writes them too where that is asked for.
    fn sums(
        &self,
        context: Context<'_>,
        top_k: &[usize],
        bins: usize,
        groups: Option<&[u16]>,
        write: Option<Write<'_, E>>,
    ) -> Result<ScoreSums, Error> {
        if let Some(groups) = groups {
            check_shape("groups", &[groups.len()], &[self.rows.layout.line.len()])?;
        }
        let groups = groups.unwrap_or_default();
        let number = groups.iter().max().map_or(0, |largest| usize::from(*largest) + 1);
        let empty = || ScoreSums::new(top_k.len(), bins, number);
        let all = Mutex::new(empty());
        self.run(
            context,
            || Part::new(empty(), &all, ScoreSums::merge),
            |part, seen, rows| {
                part.own.add(seen, rows.clone(), top_k, groups);
                if let Some(write) = write {
                    write(seen, rows);
                }
            },
        )?;
        Ok(finished(all))
    }
}

/// Scores rows of logits against class indices, and adds the scores up. `top_k` holds the numbers of largest classes to look
/// for the target in; `bins` is the number of bins for calibration; `groups` holds the
/// number of a group for each row, in the order of the targets, and each group is added up by itself as well.
///
/// # Errors
/// See [`Error`]; class probabilities are refused.
pub fn score_sums<E: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    options: Score,
    call: &Call<'_>,
    top_k: &[usize],
    bins: usize,
    groups: Option<&[u16]>,
) -> Result<ScoreSums, Error> {
    Work::new(logits, target, options, call)?.sums(call.context, top_k, bins, groups, None)
}

/// Scores rows of logits against class indices in one read: writes the columns of [`score`], and returns the sums of
/// [`score_sums`], both with their bits.
///
/// # Errors
/// See [`Error`]; class probabilities are refused. The columns are untouched then, unless the call was interrupted.
#[expect(clippy::too_many_arguments, reason = "those of both functions")]
pub fn score_with_sums<E: Element, O: Element>(
    logits: &View<'_, E>,
    target: &Target<'_>,
    options: Score,
    call: &Call<'_>,
    top_k: &[usize],
    bins: usize,
    groups: Option<&[u16]>,
    mut columns: Columns<'_, O>,
) -> Result<ScoreSums, Error> {
    let work = Work::new(logits, target, options, call)?;
    let columns = ColumnRows::new(&mut columns, &work.shape, options.top_k)?;
    // Behind a pointer, so that the code of the walk, which is long, is there once for both functions.
    // SAFETY: the rows of a grain belong to one thread.
    let write = |seen: &mut Seen<'_, E>, rows: Range<usize>| unsafe { seen.write(rows, &columns) };
    work.sums(call.context, top_k, bins, groups, Some(&write))
}
