//! Losses of single elements: binary cross-entropy and its focal variant, Kullback-Leibler divergence, Gaussian and
//! Poisson likelihoods.
//!
//! One walk serves all of them: the kernel computes losses and gradients from a block of each argument, and they are
//! rounded as they are stored.

use std::ops::Range;

use fearless_simd::{Level, dispatch};

use crate::array::any::{FloatsMut, Numbers};
use crate::array::blocks::{Computed, Sink, Source};
use crate::array::rows::{check_shape, joint_shape, unravel};
use crate::error::Error;
use crate::kernel::isa;
use crate::kernel::pointwise::{
    self as kernel, Arguments, Block, Buffers, ELEMENTS, LOG_2_PI, VECTOR, all_allowed, evaluate, multiply,
};
use crate::parallel::{Context, try_for_each_chunk_of};
use crate::sum::reduce::{ChunkSum, Total};

/// A loss of one element x with its target t, and its options.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ElementLoss<'a> {
    /// -(t log x + (1 - t) log(1 - x)) for x and t from 0 to 1.
    BinaryCrossEntropy {
        /// The lower bound of the logarithms; `None` for no bound.
        clamp: Option<f64>,
    },
    /// max(x, 0) - t x + log(1 + exp(-|x|)) for the logit x of a probability.
    BinaryCrossEntropyWithLogits {
        /// The weight of positives: a factor of the term with t, broadcast to the input's shape.
        pos_weight: Option<Numbers<'a>>,
    },
    /// b (1 - p)^gamma times the binary cross-entropy, for the logit x of a probability s: p = t s + (1 - t) (1 - s) is
    /// the probability of the target, and b = alpha t + (1 - alpha) (1 - t). Lin et al., Focal Loss for Dense Object
    /// Detection, 2017.
    SigmoidFocal {
        /// The share of positives in the weight b, from 0 to 1; `None` for b = 1.
        alpha: Option<f64>,
        /// The focusing parameter, at least 0: the larger it is, the less elements weigh whose target is probable.
        gamma: f64,
    },
    /// t (log t - x), for the log-probability x.
    KlDivergence {
        /// Whether t is a log-probability too.
        log_target: bool,
    },
    /// (log v + (x - t)^2 / v) / 2.
    GaussianNll {
        /// The variance v: of the input's shape, with 1 in the place of one dimension, without the last one, or one
        /// number.
        var: Numbers<'a>,
        /// Whether log(2 pi) / 2 is added.
        full: bool,
        /// The least variance.
        eps: f64,
    },
    /// exp(x) - t x for the logarithm x of a rate, or x - t log(x + eps) for the rate.
    PoissonNll {
        /// Whether x is a logarithm.
        log_input: bool,
        /// Whether Stirling's approximation of log(t!) is added, for t > 1.
        full: bool,
        /// Added to a rate before its logarithm is taken.
        eps: f64,
    },
}

/// The derivative of the reduced loss with respect to the loss of an element.
#[derive(Clone, Debug)]
pub(crate) enum Upstream<'a> {
    /// One number for all elements.
    Constant(f64),
    /// One number for each element.
    Each(Numbers<'a>),
}

/// The input, and where its gradient goes if one is wanted.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// No gradient.
    Alone(Numbers<'a>),
    /// The gradient goes to a separate array.
    WithGradient(Numbers<'a>, FloatsMut<'a>, Upstream<'a>),
    /// The gradient overwrites the input.
    Overwritten(FloatsMut<'a>, Upstream<'a>),
}

/// An elementwise loss of a whole array.
///
/// Input and target are numbers of any type, and have one shape, or for [`ElementLoss::KlDivergence`],
/// [`ElementLoss::GaussianNll`] and [`ElementLoss::PoissonNll`] shapes that broadcast to each other. With a gradient,
/// the losses have the input's shape. Losses are in nats.
///
/// ```
/// use crossent::ndarray::{Array1, array};
/// use crossent::{Context, ElementLoss, Elementwise, Reduction};
///
/// let loss = Elementwise::new(ElementLoss::BinaryCrossEntropyWithLogits { pos_weight: None });
/// let (logits, target) = (array![0.0_f32, 2.0, -3.0], array![1_u8, 1, 0]);
/// let total = loss.total(&logits, &target, Context::new())?;
/// assert_eq!(format!("{:.6}", total.reduce(Reduction::Mean)), "0.289554");
/// let mut gradient = Array1::<f32>::zeros(3);
/// loss.total_and_gradient(&logits, &target, Reduction::Sum, 1.0, &mut gradient, Context::new())?;
/// assert_eq!(gradient[0], -0.5);
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Elementwise<'a> {
    /// The loss of an element.
    pub loss: ElementLoss<'a>,
    /// A factor for each element, broadcast to the input's shape.
    pub weight: Option<Numbers<'a>>,
}

impl Elementwise<'_> {
    /// Whether input and target must have one shape.
    pub(super) fn takes_one_shape(&self) -> bool {
        matches!(
            self.loss,
            ElementLoss::BinaryCrossEntropy { .. }
                | ElementLoss::BinaryCrossEntropyWithLogits { .. }
                | ElementLoss::SigmoidFocal { .. }
        )
    }

    /// Returns the sum of the losses and their number. Writes the losses to `losses`, if it is given: an array of the
    /// shape that input and target broadcast to (for the binary cross-entropies they have one shape). Writes the
    /// gradient with respect to the input, if `input` says where: the input is not broadcast then.
    ///
    /// # Errors
    /// See [`Error`]; no output has been touched then, unless the call was interrupted.
    pub(crate) fn run(
        &self,
        input: Input<'_>,
        target: &Numbers<'_>,
        mut losses: Option<FloatsMut<'_>>,
        context: Context<'_>,
    ) -> Result<Total, Error> {
        let input_shape = match &input {
            Input::Alone(x) | Input::WithGradient(x, ..) => x.shape().to_vec(),
            Input::Overwritten(x, _) => x.shape().to_vec(),
        };
        let mut shape = loss_shape(self.takes_one_shape(), &input_shape, target.shape())?;
        if !matches!(input, Input::Alone(_)) {
            shape.clone_from(&input_shape);
        }
        let target = broadcast("target", target, &shape)?;
        let third = self.third(&input_shape)?;
        let third = third.as_ref().map(|third| broadcast("var", third, &shape)).transpose()?;
        let weight = self.weight.as_ref().map(|weight| broadcast("weight", weight, &shape)).transpose()?;
        if let Some(losses) = &losses {
            check_shape("out", losses.shape(), &shape)?;
        }
        // What the sources and the sink borrow.
        let (given, wide, mut place);
        let (x, gradient, upstream) = match input {
            Input::Alone(x) => {
                given = x;
                wide = broadcast("input", &given, &shape)?;
                (wide.source(), None, None)
            }
            Input::WithGradient(x, to, upstream) => {
                check_shape("gradient", to.shape(), &shape)?;
                (given, place) = (x, to);
                (given.source(), Some(place.sink()), Some(upstream))
            }
            Input::Overwritten(to, upstream) => {
                place = to;
                let (x, gradient) = place.source_and_sink();
                (x, Some(gradient), Some(upstream))
            }
        };
        if let Some(Upstream::Each(upstream)) = &upstream {
            check_shape("upstream", upstream.shape(), &shape)?;
        }
        let (constant, each) = match &upstream {
            Some(Upstream::Each(each)) => (1.0, Some(each.source())),
            Some(Upstream::Constant(constant)) => (*constant, None),
            None => (1.0, None),
        };
        let walk = Walk {
            level: isa::selected()?,
            elements: shape.iter().product(),
            input: x,
            target: target.source(),
            third: third.as_ref().map(Numbers::source),
            weight: weight.as_ref().map(Numbers::source),
            upstream: each,
            constant,
            losses: losses.as_mut().map(FloatsMut::sink),
            gradient,
        };
        match self.drive(&walk, context) {
            Ok(Some(total)) => Ok(total),
            Ok(None) => Err(self.refused(&walk, &shape, context)?),
            Err(error) => Err(error),
        }
    }

    /// The third number of each element of the input.
    fn third(&self, shape: &[usize]) -> Result<Option<Numbers<'_>>, Error> {
        match &self.loss {
            ElementLoss::BinaryCrossEntropy { clamp: Some(clamp) } if clamp.is_nan() || *clamp > 0.0 => {
                Err(Error::Option {
                    name: "clamp",
                    value: *clamp,
                    expected: "a number of at most 0, or None",
                })
            }
            ElementLoss::BinaryCrossEntropyWithLogits { pos_weight: Some(pos_weight) } => {
                broadcast("pos_weight", pos_weight, shape).map(Some)
            }
            ElementLoss::SigmoidFocal { alpha: Some(alpha), .. } if !(0.0..=1.0).contains(alpha) => {
                Err(Error::Option {
                    name: "alpha",
                    value: *alpha,
                    expected: "a number from 0 to 1, or -1 for no weights",
                })
            }
            ElementLoss::SigmoidFocal { gamma, .. } if !(*gamma >= 0.0 && gamma.is_finite()) => {
                Err(Error::Option { name: "gamma", value: *gamma, expected: "a finite number of at least 0" })
            }
            ElementLoss::GaussianNll { eps, .. } if eps.is_nan() => {
                Err(Error::Option { name: "eps", value: *eps, expected: "a number, the least variance" })
            }
            ElementLoss::GaussianNll { var, .. } => variances(var, shape).map(Some),
            _ => Ok(None),
        }
    }

    /// None if an argument is refused.
    fn drive(&self, walk: &Walk<'_>, context: Context<'_>) -> Result<Option<Total>, Error> {
        match &self.loss {
            ElementLoss::BinaryCrossEntropy { clamp } => {
                let loss = kernel::BinaryCrossEntropy { clamp: clamp.unwrap_or(f64::NEG_INFINITY) };
                if walk.is_wide() {
                    walk.run::<f64, _>(context, &loss)
                } else {
                    walk.run::<f32, _>(context, &loss)
                }
            }
            ElementLoss::BinaryCrossEntropyWithLogits { .. } => {
                let loss = kernel::LogitsBinaryCrossEntropy;
                if walk.is_wide() {
                    walk.run::<f64, _>(context, &loss)
                } else {
                    walk.run::<f32, _>(context, &loss)
                }
            }
            ElementLoss::SigmoidFocal { alpha, gamma } => {
                walk.run(context, &kernel::SigmoidFocal { alpha: *alpha, gamma: *gamma })
            }
            ElementLoss::KlDivergence { log_target: false } => walk.run(context, &kernel::KlDivergence),
            ElementLoss::KlDivergence { log_target: true } => walk.run(context, &kernel::KlDivergenceOfLog),
            ElementLoss::GaussianNll { full, eps, .. } => {
                let constant = if *full { 0.5 * LOG_2_PI } else { 0.0 };
                walk.run(context, &kernel::GaussianNll { eps: *eps, constant })
            }
            ElementLoss::PoissonNll { log_input: true, full, .. } => {
                walk.run(context, &kernel::PoissonNllOfLog { full: *full })
            }
            ElementLoss::PoissonNll { log_input: false, full, eps } => {
                walk.run(context, &kernel::PoissonNll { eps: *eps, full: *full })
            }
        }
    }

    /// The error that names the first element that is refused: of the input, else of the target, or of the variances.
    fn refused(&self, walk: &Walk<'_>, shape: &[usize], context: Context<'_>) -> Result<Error, Error> {
        if let ElementLoss::GaussianNll { var, .. } = &self.loss {
            let negative = |v: f64| v < 0.0;
            let (at, value) = first(&*var.source(), walk.level, context, &negative)?.unwrap_or((0, f64::NAN));
            return Ok(Error::Element {
                problem: "var has negative entry/entries",
                name: "var",
                index: unravel(at, var.shape()),
                value,
                expected: "0 or more",
            });
        }
        let wrong = |p: f64| !(0.0..=1.0).contains(&p);
        let (problem, name, (at, value)) = match first(&*walk.input, walk.level, context, &wrong)? {
            Some(found) => ("all elements of input should be between 0 and 1", "input", found),
            None => (
                "all elements of target should be between 0 and 1",
                "target",
                // Nothing is found where another thread has changed the target since.
                first(&*walk.target, walk.level, context, &wrong)?.unwrap_or((0, f64::NAN)),
            ),
        };
        let expected = if name == "input" && !value.is_nan() { "a probability" } else { "0 to 1" };
        Ok(Error::Element { problem, name, index: unravel(at, shape), value, expected })
    }
}

/// The first element for which `wrong` holds, and its position.
fn first(
    source: &dyn Source,
    level: Level,
    context: Context<'_>,
    wrong: &(dyn Fn(f64) -> bool + Sync),
) -> Result<Option<(usize, f64)>, Error> {
    let check = |(): &mut (), range: Range<usize>| match source.first(level, range, wrong) {
        None => Ok(()),
        Some(_) => Err(Refused),
    };
    let checked = try_for_each_chunk_of(context, source.len(), 1, || (), check)?;
    Ok(checked.err().and_then(|range| source.first(level, range, wrong)))
}

/// The shape of the losses: the one that input and target broadcast to; with `same` both must have it.
pub(crate) fn loss_shape(same: bool, input: &[usize], target: &[usize]) -> Result<Vec<usize>, Error> {
    if same {
        check_shape("target", target, input)?;
    }
    joint_shape(input, "target", target)
}

fn broadcast<'n>(
    name: &'static str,
    numbers: &'n Numbers<'_>,
    shape: &[usize],
) -> Result<Numbers<'n>, Error> {
    numbers.broadcast(shape).ok_or_else(|| Error::Broadcast {
        name,
        got: numbers.shape().to_vec(),
        input: shape.to_vec(),
    })
}

/// Variances of the shapes that torch takes, repeated to the input's shape: the input's shape, that with 1 in the place
/// of one dimension, or that without the last dimension. One number fits an input of any shape.
fn variances<'n>(var: &'n Numbers<'_>, shape: &[usize]) -> Result<Numbers<'n>, Error> {
    let got = var.shape();
    let without_last = shape.split_last().is_some_and(|(_, others)| others == got);
    let differing = || got.iter().zip(shape).filter(|(n, m)| n != m);
    let fits = got.is_empty()
        || got == shape
        || got.len() == shape.len() && differing().count() == 1 && differing().all(|(n, _)| *n == 1);
    let repeated = if fits {
        var.broadcast(shape)
    } else if without_last {
        var.along_last_axis(shape)
    } else {
        None
    };
    repeated.ok_or_else(|| Error::VarianceShape { got: got.to_vec(), input: shape.to_vec() })
}

/// A checked call: arguments of as many elements each, and outputs.
struct Walk<'w> {
    level: Level,
    elements: usize,
    input: Box<dyn Source + 'w>,
    target: Box<dyn Source + 'w>,
    third: Option<Box<dyn Source + 'w>>,
    weight: Option<Box<dyn Source + 'w>>,
    upstream: Option<Box<dyn Source + 'w>>,
    /// The upstream gradient where it is one number.
    constant: f64,
    losses: Option<Box<dyn Sink + 'w>>,
    gradient: Option<Box<dyn Sink + 'w>>,
}

/// An argument is refused.
struct Refused;

impl Walk<'_> {
    /// Whether an argument is `f64`, which `f32` does not hold.
    fn is_wide(&self) -> bool {
        self.input.is_wide()
            || self.target.is_wide()
            || self.third.as_ref().is_some_and(|third| third.is_wide())
    }

    /// None if an argument is refused: found before anything is written.
    fn run<R: Computed, P: kernel::Pointwise<R>>(
        &self,
        context: Context<'_>,
        loss: &P,
    ) -> Result<Option<Total>, Error> {
        if P::CHECKED && (self.losses.is_some() || self.gradient.is_some()) && !self.allowed(context, loss)? {
            return Ok(None);
        }
        let sums = if self.gradient.is_some() {
            self.each_block(context, |block, range, sum| self.step::<R, P, true>(loss, block, range, sum))
        } else {
            self.each_block(context, |block, range, sum| self.step::<R, P, false>(loss, block, range, sum))
        }?;
        let Some(sums) = sums else { return Ok(None) };
        let mut all = ChunkSum::default();
        for sum in sums {
            all.merge(sum);
        }
        Ok(Some(all.total()))
    }

    fn allowed<R: Computed, P: kernel::Pointwise<R>>(
        &self,
        context: Context<'_>,
        loss: &P,
    ) -> Result<bool, Error> {
        let allowed = self.each_block(context, |block, range, _| {
            let arguments = self.read(&mut block.buffers, range);
            if dispatch!(self.level, simd => all_allowed(simd, loss, arguments)) {
                Ok(())
            } else {
                Err(Refused)
            }
        })?;
        Ok(allowed.is_some())
    }

    /// The sums of the chunks in their order; none if an argument is refused.
    fn each_block<R: Computed>(
        &self,
        context: Context<'_>,
        step: impl Fn(&mut Block<R>, Range<usize>, &mut ChunkSum) -> Result<(), Refused> + Sync,
    ) -> Result<Option<Vec<ChunkSum>>, Error> {
        let state = || Box::new(Block::new(self.constant));
        let sums = try_for_each_chunk_of(context, self.elements, 1, state, |block, elements| {
            let mut sum = ChunkSum::default();
            for start in elements.clone().step_by(ELEMENTS) {
                step(block, start..(start + ELEMENTS).min(elements.end), &mut sum)?;
            }
            Ok::<_, Refused>(sum)
        })?;
        Ok(sums.ok())
    }

    fn read<'b, R: Computed>(&'b self, buffers: &'b mut Buffers<R>, range: Range<usize>) -> Arguments<'b, R> {
        let input = R::load(&*self.input, self.level, range.clone(), &mut buffers.input);
        let target = R::load(&*self.target, self.level, range.clone(), &mut buffers.target);
        let third = match &self.third {
            Some(third) => R::load(&**third, self.level, range, &mut buffers.third),
            None => &buffers.third[..input.len()],
        };
        Arguments { input, target, third }
    }

    fn step<R: Computed, P: kernel::Pointwise<R>, const GRADIENT: bool>(
        &self,
        loss: &P,
        block: &mut Block<R>,
        range: Range<usize>,
        sum: &mut ChunkSum,
    ) -> Result<(), Refused> {
        let Block { buffers, weight, upstream, results } = block;
        let (len, whole) = (range.len(), range.len().next_multiple_of(VECTOR));
        let allowed = {
            let arguments = self.read(buffers, range.clone());
            let weight =
                self.weight.as_ref().map(|source| source.load_f64(self.level, range.clone(), weight));
            let upstream = match &self.upstream {
                Some(source) => source.load_f64(self.level, range.clone(), upstream),
                None => &upstream[..whole],
            };
            dispatch!(self.level, simd => {
                let allowed = evaluate::<_, R, P, GRADIENT>(simd, loss, arguments, results);
                if let Some(weight) = weight {
                    multiply(simd, &mut results.loss, weight);
                }
                if GRADIENT {
                    if let Some(weight) = weight {
                        multiply(simd, &mut results.gradient, weight);
                    }
                    multiply(simd, &mut results.gradient, upstream);
                }
                sum.add_unweighted(kernel::sum(simd, &mut results.loss, len), len);
                allowed
            })
        };
        if !allowed {
            return Err(Refused);
        }
        // SAFETY: the elements of a chunk belong to one thread, and nothing of this block is borrowed any more.
        unsafe {
            if let Some(losses) = &self.losses {
                losses.store(self.level, range.clone(), &results.loss);
            }
            if let Some(gradient) = &self.gradient {
                gradient.store(self.level, range, &results.gradient);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use ndarray::{Array, ArrayD, IxDyn};

    use super::*;

    fn numbers(shape: &[usize], f: impl Fn(usize) -> f32) -> ArrayD<f32> {
        let len = shape.iter().product();
        Array::from_shape_vec(IxDyn(shape), (0..len).map(f).collect()).unwrap()
    }

    fn with(loss: ElementLoss<'_>) -> Elementwise<'_> {
        Elementwise { loss, weight: None }
    }

    #[test]
    fn losses_gradients_and_sums_agree_in_place_and_on_any_number_of_threads() {
        let shape = [700, 301];
        let (x, t) =
            (numbers(&shape, |i| (i % 91) as f32 * 0.2 - 9.0), numbers(&shape, |i| (i % 7) as f32 / 6.0));
        let mut results = Vec::new();
        for threads in [1, 2, 3] {
            let context = Context { threads: NonZero::new(threads), ..Context::default() };
            let loss = ElementLoss::BinaryCrossEntropyWithLogits { pos_weight: None };
            let call = Elementwise { loss, weight: None };
            let mut losses = ArrayD::<f64>::zeros(IxDyn(&shape));
            let (mut gradient, mut place) = (x.clone(), x.clone());
            let target = Numbers::from(t.view());
            let out = |to| FloatsMut::from(to);
            let upstream = || Upstream::Constant(0.5);
            let input = Input::WithGradient(Numbers::from(x.view()), out(gradient.view_mut()), upstream());
            let apart = call.run(input, &target, Some(FloatsMut::from(losses.view_mut())), context).unwrap();
            let over = call
                .run(Input::Overwritten(out(place.view_mut()), upstream()), &target, None, context)
                .unwrap();
            let alone = call.run(Input::Alone(Numbers::from(x.view())), &target, None, context).unwrap();
            assert_eq!((apart, gradient.clone()), (over, place));
            assert_eq!((apart.sum, apart.counted), (alone.sum, x.len()));
            assert!((losses.sum() - apart.sum).abs() < 1e-9 * apart.sum);
            results.push((apart.sum.to_bits(), gradient));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn the_first_element_that_is_refused_is_named_and_nothing_is_written() {
        let mut x = numbers(&[3, 400], |_| 0.5);
        x[[1, 399]] = 1.5;
        x[[2, 0]] = f32::NAN;
        let t = numbers(&[3, 400], |_| 1.0);
        let call = with(ElementLoss::BinaryCrossEntropy { clamp: Some(-100.0) });
        let mut out = numbers(&[3, 400], |_| 7.0);
        for to in [None, Some(FloatsMut::from(out.view_mut()))] {
            match call.run(
                Input::Alone(Numbers::from(x.view())),
                &Numbers::from(t.view()),
                to,
                Context::default(),
            ) {
                Err(Error::Element { name, index, value, .. }) => {
                    assert_eq!((name, index, value), ("input", vec![1, 399], 1.5));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(out.iter().all(|x| *x == 7.0));
    }

    #[test]
    fn variances_have_the_shapes_that_torch_takes() {
        let x = numbers(&[2, 3], |i| i as f32);
        let zero = numbers(&[2, 3], |_| 0.0);
        let sum = |var: &ArrayD<f32>| {
            let var = Numbers::from(var.view());
            let call = with(ElementLoss::GaussianNll { var, full: false, eps: 1e-6 });
            call.run(
                Input::Alone(Numbers::from(x.view())),
                &Numbers::from(zero.view()),
                None,
                Context::default(),
            )
        };
        let rows = sum(&numbers(&[2, 1], |i| i as f32 + 1.0)).unwrap();
        assert_eq!(sum(&numbers(&[2], |i| i as f32 + 1.0)).unwrap(), rows);
        assert_eq!(sum(&numbers(&[2, 3], |i| (i / 3) as f32 + 1.0)).unwrap(), rows);
        assert!(sum(&numbers(&[], |_| 2.0)).is_ok());
        let columns = sum(&numbers(&[1, 3], |i| i as f32 + 1.0)).unwrap();
        assert_eq!(sum(&numbers(&[2, 3], |i| (i % 3) as f32 + 1.0)).unwrap(), columns);
        for shape in [&[3][..], &[1, 1], &[2, 3, 1], &[1]] {
            assert!(matches!(sum(&numbers(shape, |_| 1.0)), Err(Error::VarianceShape { .. })), "{shape:?}");
        }
        let negative = sum(&numbers(&[2], |i| 1.0 - 2.0 * i as f32)).unwrap_err();
        assert!(
            negative.to_string().starts_with("var has negative entry/entries: got var[1] = -1"),
            "{negative}"
        );
    }

    #[test]
    fn what_does_not_fit_the_input_is_refused() {
        let (x, large) = (numbers(&[2, 3], |_| 0.5), numbers(&[5, 2, 3], |_| 0.5));
        let mut call = with(ElementLoss::KlDivergence { log_target: false });
        let run = |call: &Elementwise<'_>, t: &ArrayD<f32>| {
            call.run(
                Input::Alone(Numbers::from(x.view())),
                &Numbers::from(t.view()),
                None,
                Context::default(),
            )
        };
        assert_eq!(run(&call, &large).unwrap().counted, 30);
        assert!(matches!(run(&call, &numbers(&[2], |_| 0.5)), Err(Error::Broadcast { name: "target", .. })));
        let mut place = x.clone();
        let place = Input::Overwritten(FloatsMut::from(place.view_mut()), Upstream::Constant(1.0));
        let refused = call.run(place, &Numbers::from(large.view()), None, Context::default());
        assert!(matches!(refused, Err(Error::Broadcast { name: "target", .. })));
        call.weight = Some(Numbers::from(large.view()));
        assert!(matches!(run(&call, &x), Err(Error::Broadcast { name: "weight", .. })));
    }
}
