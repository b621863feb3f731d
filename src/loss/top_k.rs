//! The divergence from a teacher's distribution of which the largest probabilities of each row are known.

use std::ops::Range;

use fearless_simd::Simd;
use ndarray::{Array, ArrayRef, Axis, Dimension, RemoveAxis};

use super::input_and_gradient;
use crate::array::any::{Any, Integer, IntegerRows, Numbers, with_dtype};
use crate::array::rows::{Input, Rows, View, ViewMut, check_shape, input_rows, unravel};
use crate::array::single::{SingleRows, SingleRowsMut, padded};
use crate::error::{Error, filled};
use crate::kernel::TILE;
use crate::kernel::element::Element;
use crate::kernel::rowset::bits;
use crate::kernel::teacher::{Buffers, Known, divergence, slope_of_tail};
use crate::targets::{Call, TileLabels, TileWork, Walk, mask_bits};

/// A teacher's distribution of each row, of which the probabilities of k classes are known.
///
/// `ids` holds k different classes for each row, and `log_probs` the logarithms of the teacher's probabilities of these
/// classes; both have the input's shape with k in the place of the number of classes. By default the teacher's
/// probability of all other classes together, the tail, is what the probabilities lack of 1.
#[derive(Clone, Debug)]
pub struct TopKTeacher<'t> {
    ids: Numbers<'t>,
    log_probs: Numbers<'t>,
    tail: bool,
}

impl<'t> TopKTeacher<'t> {
    /// A teacher with a tail.
    #[must_use]
    pub fn new(ids: impl Into<Numbers<'t>>, log_probs: impl Into<Numbers<'t>>) -> Self {
        TopKTeacher { ids: ids.into(), log_probs: log_probs.into(), tail: true }
    }

    /// Sets whether the other classes have the rest of the probability. Else their term is left out, and the divergence
    /// may be negative.
    #[must_use]
    pub fn tail(self, tail: bool) -> Self {
        TopKTeacher { tail, ..self }
    }
}

/// The Kullback-Leibler divergence of the softmax of each row, along the last axis, from a teacher's distribution of
/// which the probabilities of k classes are known. It has the shape of the rows, is in nats, and is 0 for rows that the
/// mask leaves out.
///
/// ```text
/// sum_j p_j (log p_j - log q_j) + p_T (log p_T - log q_T),      p_T = 1 - sum p,      q_T = 1 - sum q
/// ```
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, TopKTeacher, kl_div_topk};
///
/// let (logits, ids) = (array![[3.0_f32, 1.0, 0.0, -1.0]], array![[0_i64, 2]]);
/// let log_probs = array![[0.7_f64, 0.2]].ln();
/// let kl = kl_div_topk(&logits, &TopKTeacher::new(&ids, &log_probs), &Call::new())?;
/// assert_eq!(format!("{:.4}", kl[0]), "0.1707");
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`]; [`Error::FloatingTarget`] for ids that are no integers; [`Error::TeacherClass`] for ids that are no
/// class; [`Error::Element`] for ids that are twice in a row, for what is no logarithm of a probability, and for a row
/// whose probabilities add up to more than 1, or to less where no other class is left; see [`Error`] for the others.
pub fn kl_div_topk<E: Element, D: RemoveAxis>(
    input: &ArrayRef<E, D>,
    teacher: &TopKTeacher<'_>,
    call: &Call<'_>,
) -> Result<Array<f64, D::Smaller>, Error> {
    let last = last_axis(input.ndim())?;
    let teacher = Teacher::new(teacher, input.shape(), call)?;
    let losses = losses_of(&input.view().into_dyn(), &teacher, call)?;
    shaped(input.raw_dim().remove_axis(Axis(last)), losses)
}

/// [`kl_div_topk`], and the gradient of the divergences' sum weighted with `upstream`, which has the shape of the rows,
/// with respect to the input.
///
/// ```
/// use crossent::ndarray::{Array2, array};
/// use crossent::{Call, TopKTeacher, kl_div_topk_and_gradient};
///
/// let (logits, ids) = (array![[3.0_f64, 1.0, 0.0, -1.0]], array![[0_i64, 2]]);
/// let (log_probs, mut gradient) = (array![[0.7_f64, 0.2]].ln(), Array2::zeros((1, 4)));
/// let teacher = TopKTeacher::new(&ids, &log_probs);
/// kl_div_topk_and_gradient(&logits, &teacher, &Call::new(), &array![1.0], &mut gradient)?;
/// assert!(gradient.sum().abs() < 1e-15);
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// As for [`kl_div_topk`]; `gradient` is untouched then, unless the call was interrupted.
pub fn kl_div_topk_and_gradient<E: Element, D: RemoveAxis, R: Dimension>(
    input: &ArrayRef<E, D>,
    teacher: &TopKTeacher<'_>,
    call: &Call<'_>,
    upstream: &ArrayRef<f64, R>,
    gradient: &mut ArrayRef<E, D>,
) -> Result<Array<f64, D::Smaller>, Error> {
    let last = last_axis(input.ndim())?;
    let (view, upstream) = (input.view().into_dyn(), upstream.view().into_dyn());
    let gradient = gradient.view_mut().into_dyn();
    let teacher = Teacher::new(teacher, input.shape(), call)?;
    let losses = losses_and_gradient_of(Some(&view), &teacher, call, &upstream, gradient)?;
    shaped(input.raw_dim().remove_axis(Axis(last)), losses)
}

/// One number for each row, in C order. The teacher's rows are those of the input, and of the same mask.
pub(crate) fn losses_of<E: Element>(
    input: &View<'_, E>,
    teacher: &Teacher,
    call: &Call<'_>,
) -> Result<Vec<f64>, Error> {
    let Input { rows, shape, .. } = input_rows(input, Some(-1))?;
    run(&rows, shape, teacher, call, None)
}

/// [`losses_of`], and the gradient. Without an input the gradient's array holds it, and is overwritten.
pub(crate) fn losses_and_gradient_of<E: Element>(
    input: Option<&View<'_, E>>,
    teacher: &Teacher,
    call: &Call<'_>,
    upstream: &View<'_, f64>,
    mut gradient: ViewMut<'_, E>,
) -> Result<Vec<f64>, Error> {
    let shape = gradient.shape().to_vec();
    let (Input { rows, .. }, out) = input_and_gradient(input, &mut gradient, &shape, Some(-1), call.context)?;
    check_shape("upstream", upstream.shape(), &shape[..shape.len() - 1])?;
    run(&rows, &shape, teacher, call, Some(Slopes { upstream: Rows::new(upstream, None), out: &out }))
}

fn last_axis(ndim: usize) -> Result<usize, Error> {
    ndim.checked_sub(1).ok_or(Error::TooFewDimensions)
}

fn shaped<D: Dimension>(shape: D, losses: Vec<f64>) -> Result<Array<f64, D>, Error> {
    let count = losses.len();
    Array::from_shape_vec(shape, losses).map_err(|_| Error::OutOfMemory { count, size: size_of::<f64>() })
}

/// The largest sum of a row's probabilities. Those of half precision are rounded to 2 or 3 digits.
const MOST: f64 = 1.05;

/// The smallest sum of the probabilities of all classes.
const LEAST: f64 = 0.95;

/// The largest logarithm of a probability, which rounding may have made larger than 0.
const LARGEST: f64 = 0.05;

/// What is known of the teacher, checked: k classes of each row, and the logarithms of their probabilities.
pub(crate) struct Teacher {
    k: usize,
    classes: Vec<usize>,
    log_p: Vec<f64>,
    tail: bool,
}

impl Teacher {
    /// Checks the rows that the mask leaves in, for an input of this shape; the others hold zeros.
    pub(crate) fn new(teacher: &TopKTeacher<'_>, input: &[usize], call: &Call<'_>) -> Result<Self, Error> {
        let TopKTeacher { ids, log_probs, tail } = teacher;
        let (count, row_shape) = input.split_last().ok_or(Error::TooFewDimensions)?;
        let (mask, last) = (mask_of(input, call)?, row_shape.len());
        let Any::Integers(classes) = &ids.0 else {
            return Err(ids.refused_as_floating("kl_div_topk", input, last));
        };
        let k = ids.shape().last().copied().unwrap_or(1);
        let mut expected = row_shape.to_vec();
        expected.push(k);
        check_shape("teacher_ids", ids.shape(), &expected)?;
        check_shape("teacher_log_probs", log_probs.shape(), &expected)?;
        let classes: IntegerRows<'_> = with_dtype!(map integers classes, view => Rows::new(view, Some(last)));
        let log_probs = with_dtype!(map any &log_probs.0, view => Rows::new(view, Some(last)));
        let rows: usize = row_shape.iter().product();
        let size =
            rows.checked_mul(k).ok_or(Error::OutOfMemory { count: usize::MAX, size: size_of::<f64>() })?;
        let mut teacher =
            Teacher { k, classes: filled(size, 0)?, log_p: filled(size, f64::NEG_INFINITY)?, tail: *tail };
        let mut sorted = filled(k, 0_usize)?;
        let at = |row: usize, j: usize| {
            let mut index = unravel(row, row_shape);
            index.push(j);
            index
        };
        let watch = call.context.watch();
        for start in (0..rows).step_by(TILE) {
            watch();
            if call.context.stopped() {
                return Err(Error::Interrupted);
            }
            let range = start..(start + TILE).min(rows);
            for i in bits(mask_bits(mask.as_ref(), range.clone())) {
                let row = start + i;
                let own = row * k..(row + 1) * k;
                let classes_of_row = &mut teacher.classes[own.clone()];
                for (j, class) in classes_of_row.iter_mut().enumerate() {
                    let value = with_dtype!(integers &classes, classes => single(classes, row, j).to_i128());
                    let class_of = |value| usize::try_from(value).ok().filter(|class| class < count);
                    let outside = || Error::TeacherClass { index: at(row, j), value, classes: *count };
                    *class = class_of(value).ok_or_else(outside)?;
                }
                sorted.copy_from_slice(classes_of_row);
                sorted.sort_unstable();
                if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                    let second = classes_of_row.iter().rposition(|class| *class == twice[0]);
                    return Err(Error::Element {
                        problem: "a class of a row is given twice",
                        name: "teacher_ids",
                        index: at(row, second.unwrap_or(0)),
                        value: twice[0] as f64,
                        expected: "different classes in each row",
                    });
                }
                let mut sum = 0.0;
                for (j, log_p) in teacher.log_p[own].iter_mut().enumerate() {
                    *log_p = with_dtype!(any &log_probs, log_probs => single(log_probs, row, j).to_f64());
                    if log_p.is_nan() || *log_p > LARGEST {
                        return Err(Error::Element {
                            problem: "a number is no logarithm of a probability",
                            name: "teacher_log_probs",
                            index: at(row, j),
                            value: *log_p,
                            expected: "at most 0; take the logarithm of probabilities, or log_softmax of logits",
                        });
                    }
                    sum += log_p.exp();
                }
                if sum > MOST {
                    return Err(Error::Element {
                        problem: "the teacher's probabilities of a row add up to more than 1",
                        name: "exp(teacher_log_probs).sum(-1)",
                        index: unravel(row, row_shape),
                        value: sum,
                        expected: "at most 1; take log_softmax of logits, over all classes",
                    });
                }
                if *tail && k == *count && k > 0 && sum < LEAST {
                    return Err(Error::Element {
                        problem: "the teacher's probabilities of all classes add up to less than 1",
                        name: "exp(teacher_log_probs).sum(-1)",
                        index: unravel(row, row_shape),
                        value: sum,
                        expected: "1, since no other class is left for the rest; with tail=False it is left out",
                    });
                }
            }
        }
        Ok(teacher)
    }

    fn of(&self, row: usize) -> Known<'_> {
        let own = row * self.k..(row + 1) * self.k;
        Known { classes: &self.classes[own.clone()], log_p: &self.log_p[own], tail: self.tail }
    }
}

/// One element of a row.
fn single<T: Copy>(rows: &Rows<'_, T>, row: usize, class: usize) -> T {
    let mut offset = 0;
    rows.layout.line.runs(row..row + 1, |run| offset = run.offset);
    rows.get(offset, class)
}

/// Where the gradient goes, and what each row's is multiplied by.
struct Slopes<'w> {
    upstream: Rows<'w, f64>,
    out: &'w dyn SingleRowsMut,
}

/// The mask's rows, if it has those of an input of this shape.
fn mask_of<'m>(shape: &[usize], call: &'m Call<'_>) -> Result<Option<Rows<'m, u8>>, Error> {
    let Some(mask) = &call.mask else { return Ok(None) };
    check_shape("mask", mask.shape(), &shape[..shape.len() - 1])?;
    Ok(Some(Rows::new(mask, None)))
}

/// The part that is compiled once for all dtypes.
fn run(
    input: &dyn SingleRows,
    shape: &[usize],
    teacher: &Teacher,
    call: &Call<'_>,
    slopes: Option<Slopes<'_>>,
) -> Result<Vec<f64>, Error> {
    let mask = mask_of(shape, call)?;
    let (rows, classes) = (input.count(), input.classes());
    let mut losses = filled(rows, 0.0)?;
    filled(if rows == 0 { 0 } else { padded(classes) }, 0.0)?;
    let walk = Walk::unlabelled(rows, classes);
    let mut at = 0;
    let work = FromTeacher { input, teacher, mask: mask.as_ref(), slopes: slopes.as_ref() };
    for chunk in walk.run(call.context, &work)? {
        losses[at..at + chunk.len()].copy_from_slice(&chunk);
        at += chunk.len();
    }
    Ok(losses)
}

/// The divergence of each row.
struct FromTeacher<'w> {
    input: &'w dyn SingleRows,
    teacher: &'w Teacher,
    mask: Option<&'w Rows<'w, u8>>,
    slopes: Option<&'w Slopes<'w>>,
}

/// What a thread reuses from chunk to chunk: a row in `f64`, and what is known of it; and the losses of the chunk.
struct State {
    row: Vec<f64>,
    buffers: Buffers,
    losses: Vec<f64>,
}

impl TileWork for FromTeacher<'_> {
    type State = State;
    type Chunk = Vec<f64>;

    fn state(&self) -> State {
        let row = vec![0.0; padded(self.input.classes())];
        State { row, buffers: Buffers::new(self.teacher.k), losses: Vec::new() }
    }

    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, state: &mut State, rows: Range<usize>, _: &TileLabels) {
        let State { row, buffers, losses } = state;
        let (level, active) = (simd.level(), mask_bits(self.mask, rows.clone()));
        for (i, at) in rows.enumerate() {
            if active >> i & 1 == 0 {
                losses.push(0.0);
                if let Some(Slopes { out, .. }) = self.slopes {
                    row.fill(0.0);
                    // SAFETY: the rows of a chunk belong to one thread, which holds no reference into them.
                    unsafe { out.write(level, at, row) };
                }
                continue;
            }
            let known = self.teacher.of(at);
            self.input.read(level, at, row);
            let found = divergence(simd, row, self.input.classes(), known, buffers);
            losses.push(found.value);
            if let Some(Slopes { upstream, out }) = self.slopes {
                let factor = single(upstream, at, 0);
                slope_of_tail(simd, row, &found, factor);
                for (class, slope) in known.classes.iter().zip(&buffers.slope) {
                    row[*class] = factor * slope;
                }
                // SAFETY: as above.
                unsafe { out.write(level, at, row) };
            }
        }
    }

    fn end(&self, state: &mut State) -> Vec<f64> {
        std::mem::take(&mut state.losses)
    }
}
