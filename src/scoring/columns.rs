//! How rows are scored, and where their scores go.

use ndarray::{Array, ArrayRef, Axis, Dimension, RemoveAxis};

use crate::array::new::filled;
use crate::array::rows::ViewMut;
use crate::error::Error;

/// How rows are read and scored: for [`score`](crate::score), [`score_sums`](crate::score_sums),
/// [`compare_sums`](crate::compare_sums), [`temperature_sums`](crate::temperature_sums) and the checks of their
/// arguments.
///
/// ```
/// use crossent::Score;
///
/// let options = Score::new().ignore_index(0).top_k(&[1, 5]);
/// assert_eq!((options.axis, options.ignore_index, options.bins), (-1, 0, 15));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Score<'a> {
    /// The class index of rows to leave out; -100 by default.
    pub ignore_index: i64,
    /// The class axis; -1, the last, by default.
    pub axis: isize,
    /// Whether the rows are log-probabilities: the negative log-likelihood is minus the target's, not normalised anew.
    pub log_probs: bool,
    /// The numbers k for which top-k accuracy is counted. The largest of them is the number of top classes that are
    /// named.
    pub top_k: &'a [usize],
    /// The number of bins for calibration; 15 by default.
    pub bins: usize,
    /// The number of the group of each row, in the order of the targets: each group is also summed by itself.
    pub groups: Option<&'a [u16]>,
    /// The weight of each row, in the order of the targets, for [`temperature_sums`](crate::temperature_sums) alone: a
    /// finite number of at least 0. A row of weight 0 is left out.
    pub weight: Option<&'a [f64]>,
}

impl Default for Score<'_> {
    fn default() -> Self {
        Score {
            ignore_index: -100,
            axis: -1,
            log_probs: false,
            top_k: &[],
            bins: 15,
            groups: None,
            weight: None,
        }
    }
}

impl<'a> Score<'a> {
    /// The defaults: -100 is ignored, classes lie along the last axis, rows are logits, and there are 15 bins.
    #[must_use]
    pub fn new() -> Self {
        Score::default()
    }

    /// Sets the class index of rows to leave out.
    #[must_use]
    pub fn ignore_index(self, ignore_index: i64) -> Self {
        Score { ignore_index, ..self }
    }

    /// Sets the class axis, which may count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        Score { axis, ..self }
    }

    /// Sets whether the rows are log-probabilities.
    #[must_use]
    pub fn log_probs(self, log_probs: bool) -> Self {
        Score { log_probs, ..self }
    }

    /// Sets the numbers k for which top-k accuracy is counted.
    #[must_use]
    pub fn top_k(self, top_k: &'a [usize]) -> Self {
        Score { top_k, ..self }
    }

    /// Sets the number of bins for calibration.
    #[must_use]
    pub fn bins(self, bins: usize) -> Self {
        Score { bins, ..self }
    }

    /// Sets the number of the group of each row.
    #[must_use]
    pub fn groups(self, groups: &'a [u16]) -> Self {
        Score { groups: Some(groups), ..self }
    }

    /// Sets the weight of each row, for [`temperature_sums`](crate::temperature_sums).
    #[must_use]
    pub fn weight(self, weight: &'a [f64]) -> Self {
        Score { weight: Some(weight), ..self }
    }

    /// How many of the largest classes are named.
    pub(super) fn named(&self) -> usize {
        self.top_k.iter().copied().max().unwrap_or(0)
    }
}

/// The arrays that [`score_into`](crate::score_into) writes its results to: of the logits' shape without the class
/// axis, as those of [`Scores`]. Columns that are not set are not written.
#[derive(Debug)]
pub struct Columns<'a, O> {
    pub(crate) nll: Option<ViewMut<'a, O>>,
    pub(crate) unrounded_nll: Option<ViewMut<'a, f64>>,
    pub(crate) logsumexp: Option<ViewMut<'a, O>>,
    pub(crate) entropy: Option<ViewMut<'a, O>>,
    pub(crate) prediction: Option<ViewMut<'a, i64>>,
    pub(crate) rank: Option<ViewMut<'a, i64>>,
    pub(crate) counted: Option<ViewMut<'a, bool>>,
    pub(crate) correct: Option<ViewMut<'a, bool>>,
    pub(crate) top_classes: Option<ViewMut<'a, i64>>,
    pub(crate) top_log_probs: Option<ViewMut<'a, O>>,
}

impl<O> Default for Columns<'_, O> {
    fn default() -> Self {
        Columns {
            nll: None,
            unrounded_nll: None,
            logsumexp: None,
            entropy: None,
            prediction: None,
            rank: None,
            counted: None,
            correct: None,
            top_classes: None,
            top_log_probs: None,
        }
    }
}

impl<'a, O> Columns<'a, O> {
    /// No columns.
    #[must_use]
    pub fn new() -> Self {
        Columns::default()
    }

    /// How many of the largest classes are named: none where no column of them is set.
    pub(super) fn named(&self, options: &Score<'_>) -> usize {
        if self.top_classes.is_some() || self.top_log_probs.is_some() { options.named() } else { 0 }
    }

    /// Where [`Scores::nll`] goes.
    #[must_use]
    pub fn nll<D: Dimension>(self, to: &'a mut ArrayRef<O, D>) -> Self {
        Columns { nll: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::nll`] goes as `f64`, if the columns are of another type: they are the terms of the exact sums.
    #[must_use]
    pub fn unrounded_nll<D: Dimension>(self, to: &'a mut ArrayRef<f64, D>) -> Self {
        Columns { unrounded_nll: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::logsumexp`] goes.
    #[must_use]
    pub fn logsumexp<D: Dimension>(self, to: &'a mut ArrayRef<O, D>) -> Self {
        Columns { logsumexp: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::entropy`] goes.
    #[must_use]
    pub fn entropy<D: Dimension>(self, to: &'a mut ArrayRef<O, D>) -> Self {
        Columns { entropy: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::prediction`] goes.
    #[must_use]
    pub fn prediction<D: Dimension>(self, to: &'a mut ArrayRef<i64, D>) -> Self {
        Columns { prediction: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::rank`] goes.
    #[must_use]
    pub fn rank<D: Dimension>(self, to: &'a mut ArrayRef<i64, D>) -> Self {
        Columns { rank: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::counted`] goes.
    #[must_use]
    pub fn counted<D: Dimension>(self, to: &'a mut ArrayRef<bool, D>) -> Self {
        Columns { counted: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::correct`] goes.
    #[must_use]
    pub fn correct<D: Dimension>(self, to: &'a mut ArrayRef<bool, D>) -> Self {
        Columns { correct: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::top_classes`] go: the logits' shape without the class axis, and the largest of `top_k` at the
    /// end.
    #[must_use]
    pub fn top_classes<D: Dimension>(self, to: &'a mut ArrayRef<i64, D>) -> Self {
        Columns { top_classes: Some(to.view_mut().into_dyn()), ..self }
    }

    /// Where [`Scores::top_log_probs`] go, of the shape of the top classes.
    #[must_use]
    pub fn top_log_probs<D: Dimension>(self, to: &'a mut ArrayRef<O, D>) -> Self {
        Columns { top_log_probs: Some(to.view_mut().into_dyn()), ..self }
    }
}

/// The scores of rows, as arrays of the logits' shape without the class axis. Rows that are left out have 0, and -1 for
/// a class.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scores<D: RemoveAxis> {
    /// The negative log-likelihood of the target, in nats.
    pub nll: Array<f64, D::Smaller>,
    /// log sum exp of the logits.
    pub logsumexp: Array<f64, D::Smaller>,
    /// The entropy of the softmax, in nats.
    pub entropy: Array<f64, D::Smaller>,
    /// The first class with the largest logit; with a nan in the row, the first nan.
    pub prediction: Array<i64, D::Smaller>,
    /// The target's place among the classes, from 1 on: 1 + the number of classes with a larger logit, or with the same
    /// and a lower index. In a row with a nan it is the number of classes.
    pub rank: Array<i64, D::Smaller>,
    /// False for rows that are left out.
    pub counted: Array<bool, D::Smaller>,
    /// Whether the prediction is the target; false in a row with a nan.
    pub correct: Array<bool, D::Smaller>,
    /// The classes of the largest logits, along a further axis at the end, where `top_k` was given.
    pub top_classes: Option<Array<i64, D>>,
    /// The logarithms of the probabilities of the top classes.
    pub top_log_probs: Option<Array<f64, D>>,
}

impl<D: RemoveAxis> Scores<D> {
    /// Arrays for logits of this shape, to be written.
    pub(super) fn new(logits: &D, axis: usize, named: usize) -> Result<Self, Error> {
        let rows = logits.remove_axis(Axis(axis));
        // The class axis moves to the end.
        let mut top = logits.clone();
        for at in axis + 1..top.ndim() {
            top[at - 1] = logits[at];
        }
        top[logits.ndim() - 1] = named;
        Ok(Scores {
            nll: filled(rows.clone(), 0.0)?,
            logsumexp: filled(rows.clone(), 0.0)?,
            entropy: filled(rows.clone(), 0.0)?,
            prediction: filled(rows.clone(), 0)?,
            rank: filled(rows.clone(), 0)?,
            counted: filled(rows.clone(), false)?,
            correct: filled(rows, false)?,
            top_classes: if named > 0 { Some(filled(top.clone(), 0)?) } else { None },
            top_log_probs: if named > 0 { Some(filled(top, 0.0)?) } else { None },
        })
    }

    /// The arrays as columns, to write to.
    pub(super) fn columns(&mut self) -> Columns<'_, f64> {
        Columns {
            nll: Some(self.nll.view_mut().into_dyn()),
            unrounded_nll: None,
            logsumexp: Some(self.logsumexp.view_mut().into_dyn()),
            entropy: Some(self.entropy.view_mut().into_dyn()),
            prediction: Some(self.prediction.view_mut().into_dyn()),
            rank: Some(self.rank.view_mut().into_dyn()),
            counted: Some(self.counted.view_mut().into_dyn()),
            correct: Some(self.correct.view_mut().into_dyn()),
            top_classes: self.top_classes.as_mut().map(|top| top.view_mut().into_dyn()),
            top_log_probs: self.top_log_probs.as_mut().map(|top| top.view_mut().into_dyn()),
        }
    }
}
