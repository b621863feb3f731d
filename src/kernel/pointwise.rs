//! Losses of one element: its input, its target, and a third number (the weight of positives, or a variance).
//!
//! Each works on a block, in `f32` or in `f64`: arguments of other types are converted when a block is read, and the
//! results are widened to `f64`, weighted there and rounded, once, as they are stored. What may cancel is written for
//! `f64` alone. A loss and its gradient come from one walk over a block, in which what they share is computed once.
//!
//! Errors before the last rounding, relative to the largest term: below 4 ULP of the number computed with; but for the
//! rate of a Poisson distribution, which is added to `eps` first.

use fearless_simd::prelude::*;
use fearless_simd::{f64x8, mask64x8};
use fearless_simd_macros::simd;

use super::double_double;
use super::element::{Element, RealOf};
use super::exp::{exp_any, exp_times, pivot, power_of_two, term};
use super::log::{Logarithm, log, log_or_log1m, log1p, power};
use super::prefetch::{AHEAD_BYTES, prefetch};
use super::real::Real;

/// Elements of a block: seven blocks of `f64` are 28 KiB.
pub(crate) const ELEMENTS: usize = 512;

/// Arguments are read this many at a time, or a divisor of it.
pub(crate) const VECTOR: usize = 16;

/// The memory that one thread reuses from block to block.
pub(crate) struct Block<R> {
    pub buffers: Buffers<R>,
    pub weight: [f64; ELEMENTS],
    /// What the gradient is multiplied by.
    pub upstream: [f64; ELEMENTS],
    pub results: Results,
}

/// Buffers for arguments that cannot be read in place.
pub(crate) struct Buffers<R> {
    pub input: [R; ELEMENTS],
    pub target: [R; ELEMENTS],
    pub third: [R; ELEMENTS],
}

/// The losses of a block's elements, and their gradients.
pub(crate) struct Results {
    pub loss: [f64; ELEMENTS],
    pub gradient: [f64; ELEMENTS],
}

/// The arguments of a block's elements, as many of each. The vector that the last one is part of is filled up with it.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, R> {
    pub input: &'a [R],
    pub target: &'a [R],
    pub third: &'a [R],
}

impl<R: Real> Block<R> {
    /// Third numbers and weights of 1, until others are read.
    pub(crate) fn new(upstream: f64) -> Self {
        let (zero, one) = ([0.0; ELEMENTS], [1.0; ELEMENTS]);
        let buffers =
            Buffers { input: [R::ZERO; ELEMENTS], target: [R::ZERO; ELEMENTS], third: [R::ONE; ELEMENTS] };
        Block {
            buffers,
            weight: one,
            upstream: [upstream; ELEMENTS],
            results: Results { loss: zero, gradient: zero },
        }
    }
}

/// A loss of one element: x the input, t the target, a the third number.
pub(crate) trait Pointwise<R: Real>: Gradient + Sync {
    /// Whether some arguments are refused.
    const CHECKED: bool = false;

    fn loss<S: Simd>(&self, x: R::V<S>, t: R::V<S>, a: R::V<S>) -> R::V<S>;

    /// Where the arguments are allowed.
    #[inline(always)]
    fn allowed<S: Simd>(&self, x: R::V<S>, _t: R::V<S>, _a: R::V<S>) -> Mask<S, R> {
        nothing_refused::<S, R>(x.token())
    }
}

/// The derivative of a loss by x. Its terms cancel where x is nearly right, so it is always computed in `f64`.
pub(crate) trait Gradient {
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, a: f64x8<S>) -> f64x8<S>;
}

/// A lane each of true or false.
type Mask<S, R> = <<R as Real>::V<S> as SimdBase<S>>::Mask;

/// a b, where an a of 0 makes an infinite b vanish (a nan stays).
#[inline(always)]
fn weighted<S: Simd, R: Real>(a: R::V<S>, b: R::V<S>) -> R::V<S> {
    let zero = R::V::<S>::splat(a.token(), R::ZERO);
    let vanishes = a.simd_eq(zero) & b.abs().simd_eq(-R::V::<S>::splat(a.token(), R::NEG_INFINITY));
    vanishes.select(zero, a * b)
}

/// exp(-|x|).
#[inline(always)]
fn exp_minus_abs<S: Simd, R: Real>(x: R::V<S>) -> R::V<S> {
    let c = |value| R::V::<S>::splat(x.token(), value);
    let p = pivot::<S, R>(c(R::ZERO));
    term::<S, R>(-x.abs(), &p) * c(R::from_f64(power_of_two(-R::SCALE)))
}

/// Binary cross-entropy of logits: (1 - t) x + c log(1 + exp(-x)), c = 1 - t + a t, with a the weight of positives.
///
/// With L = log1p(exp(-|x|)) that is k |x| + c L, where k = 1 - t for x >= 0 and k = a t below: no term cancels
/// another, and the limits at infinite logits are those of k |x|.
#[derive(Clone, Copy)]
pub(crate) struct LogitsBinaryCrossEntropy;

impl<R: Logarithm> Pointwise<R> for LogitsBinaryCrossEntropy {
    #[inline(always)]
    fn loss<S: Simd>(&self, x: R::V<S>, t: R::V<S>, a: R::V<S>) -> R::V<S> {
        let (zero, one) = (R::V::<S>::splat(x.token(), R::ZERO), R::V::<S>::splat(x.token(), R::ONE));
        let (negatives, positives) = (one - t, a * t);
        let k = x.simd_lt(zero).select(positives, negatives);
        // A nan reaches the result through the second term.
        let slope = k.simd_eq(zero).select(zero, k * x.abs());
        (negatives + positives).mul_add(R::log1p_unit(exp_minus_abs::<S, R>(x)), slope)
    }
}

impl Gradient for LogitsBinaryCrossEntropy {
    // (1 - t) s - a t (1 - s) with s = 1 / (1 + exp(-x)); s and 1 - s are 1 / (1 + e) and e / (1 + e), e = exp(-|x|).
    #[inline(always)]
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, a: f64x8<S>) -> f64x8<S> {
        let (s, rest) = sigmoids(x);
        (a * t).mul_add(-rest, (f64x8::splat(x.token(), 1.0) - t) * s)
    }
}

/// s = 1 / (1 + exp(-x)) and 1 - s, each with all its digits.
#[inline(always)]
fn sigmoids<S: Simd>(x: f64x8<S>) -> (f64x8<S>, f64x8<S>) {
    let (zero, one) = (f64x8::splat(x.token(), 0.0), f64x8::splat(x.token(), 1.0));
    let e = exp_minus_abs::<S, f64>(x);
    let [total, error] = double_double::fast_two_sum(one, e);
    let larger = one / total;
    let larger = (larger * error).mul_add(-larger, larger);
    let smaller = e * larger;
    let negative = x.simd_lt(zero);
    (negative.select(smaller, larger), negative.select(larger, smaller))
}

/// Focal loss of logits: b m^gamma H, with H the binary cross-entropy, m = (1 - t) s + t (1 - s) the probability of a
/// miss, s = 1 / (1 + exp(-x)), and b = alpha t + (1 - alpha) (1 - t), or 1 without an alpha.
///
/// No term of the loss cancels another where t is from 0 to 1. A power loses digits in `f32`, so that all is computed in `f64`.
#[derive(Clone, Copy)]
pub(crate) struct SigmoidFocal {
    pub alpha: Option<f64>,
    /// At least 0.
    pub gamma: f64,
}

impl SigmoidFocal {
    /// m^gamma, by products where gamma is a small integer, the usual case.
    #[inline(always)]
    fn power<S: Simd>(self, m: f64x8<S>) -> f64x8<S> {
        match self.gamma {
            0.0 => f64x8::splat(m.token(), 1.0),
            1.0 => m,
            2.0 => m * m,
            3.0 => m * m * m,
            4.0 => (m * m) * (m * m),
            gamma => power(m, gamma),
        }
    }

    /// m, from s and 1 - s.
    #[inline(always)]
    fn miss<S: Simd>((s, rest): (f64x8<S>, f64x8<S>), t: f64x8<S>) -> f64x8<S> {
        t.mul_add(rest, (f64x8::splat(t.token(), 1.0) - t) * s)
    }

    /// b times a number; a b of 0 makes an infinite one vanish.
    #[inline(always)]
    fn balanced<S: Simd>(self, t: f64x8<S>, number: f64x8<S>) -> f64x8<S> {
        let Some(alpha) = self.alpha else { return number };
        let c = |value| f64x8::splat(t.token(), value);
        weighted::<S, f64>(t.mul_add(c(alpha), (c(1.0) - t) * (1.0 - alpha)), number)
    }
}

/// H, the binary cross-entropy of a logit.
#[inline(always)]
fn binary_nll<S: Simd>(x: f64x8<S>, t: f64x8<S>) -> f64x8<S> {
    Pointwise::<f64>::loss(&LogitsBinaryCrossEntropy, x, t, f64x8::splat(x.token(), 1.0))
}

impl Pointwise<f64> for SigmoidFocal {
    #[inline(always)]
    fn loss<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let m = Self::miss(sigmoids(x), t);
        self.balanced(t, weighted::<S, f64>(self.power(m), binary_nll(x, t)))
    }
}

impl Gradient for SigmoidFocal {
    // dH/dx = (1 - t) s - t (1 - s) and dm/dx = (1 - 2 t) s (1 - s), so that the derivative of m^gamma H is
    //
    //   m^gamma (dH/dx + gamma (1 - 2 t) r H),    r = s (1 - s) / m,
    //
    // where r is s for t = 1 and 1 - s for t = 0, and r H goes to 0 where r does: H grows with a logarithm of it.
    #[inline(always)]
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let c = |value| f64x8::splat(x.token(), value);
        let (s, rest) = sigmoids(x);
        let m = Self::miss((s, rest), t);
        let soft = s * rest / m;
        let r = t.simd_eq(c(1.0)).select(s, t.simd_eq(c(0.0)).select(rest, soft));
        let slope = t.mul_add(-rest, (c(1.0) - t) * s);
        let change = weighted::<S, f64>(r, binary_nll(x, t)) * (c(1.0) - t * 2.0);
        self.balanced(t, self.power(m) * change.mul_add(c(self.gamma), slope))
    }
}

/// Binary cross-entropy of probabilities: -(t max(log x, clamp) + (1 - t) max(log(1 - x), clamp)).
#[derive(Clone, Copy)]
pub(crate) struct BinaryCrossEntropy {
    /// The least logarithm; -inf for none.
    pub clamp: f64,
}

/// Where a number is from 0 to 1.
#[inline(always)]
fn is_probability<S: Simd, R: Real>(x: R::V<S>) -> Mask<S, R> {
    let c = |value| R::V::<S>::splat(x.token(), value);
    x.simd_ge(c(R::ZERO)) & x.simd_le(c(R::ONE))
}

impl<R: Logarithm> Pointwise<R> for BinaryCrossEntropy {
    const CHECKED: bool = true;

    #[inline(always)]
    fn loss<S: Simd>(&self, x: R::V<S>, t: R::V<S>, _: R::V<S>) -> R::V<S> {
        let (zero, one) = (R::V::<S>::splat(x.token(), R::ZERO), R::V::<S>::splat(x.token(), R::ONE));
        let clamp = R::V::<S>::splat(x.token(), R::from_f64(self.clamp));
        let is_yes = t.simd_eq(one);
        if (is_yes | t.simd_eq(zero)).all_true() {
            // Labels of 0 and 1, the usual ones: the logarithm with a factor of 0 is not needed.
            let log_p = log_or_log1m::<S, R>(x, is_yes);
            return -log_p.simd_lt(clamp).select(clamp, log_p);
        }
        let (yes, no) = (log::<S, R>(x), log1p::<S, R>(-x));
        let (yes, no) = (yes.simd_lt(clamp).select(clamp, yes), no.simd_lt(clamp).select(clamp, no));
        -(weighted::<S, R>(t, yes) + weighted::<S, R>(one - t, no))
    }

    #[inline(always)]
    fn allowed<S: Simd>(&self, x: R::V<S>, t: R::V<S>, _: R::V<S>) -> Mask<S, R> {
        is_probability::<S, R>(x) & is_probability::<S, R>(t)
    }
}

impl Gradient for BinaryCrossEntropy {
    #[inline(always)]
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let c = |value| f64x8::splat(x.token(), value);
        let (least, variance) = (c(1e-12), (c(1.0) - x) * x);
        (x - t) / variance.simd_lt(least).select(least, variance)
    }
}

/// t (log t - x), which is 0 for t = 0 unless x is nan.
#[derive(Clone, Copy)]
pub(crate) struct KlDivergence;

impl Pointwise<f64> for KlDivergence {
    #[inline(always)]
    fn loss<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let zero = f64x8::splat(x.token(), 0.0);
        let nothing = x.simd_eq(x).select(zero, x);
        t.simd_eq(zero).select(nothing, t * (log::<S, f64>(t) - x))
    }
}

impl Gradient for KlDivergence {
    #[inline(always)]
    fn gradient<S: Simd>(&self, _: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        -t
    }
}

/// exp(t) (t - x), which is 0 for t = -inf unless x is nan.
#[derive(Clone, Copy)]
pub(crate) struct KlDivergenceOfLog;

impl Pointwise<f64> for KlDivergenceOfLog {
    #[inline(always)]
    fn loss<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let zero = f64x8::splat(x.token(), 0.0);
        let c = |value| f64x8::splat(x.token(), value);
        let (p, d) = (exp_any(t), t - x);
        // The usual exponentials are normal numbers.
        if (t.simd_gt(c(-708.0)) & t.simd_lt(c(709.0))).all_true() {
            return p * d;
        }
        let nothing = x.simd_eq(x).select(zero, x);
        let plain = p.simd_eq(zero).select(nothing, p * d);
        // A p that is no normal number has lost digits, or all of them, although p d may be a normal number.
        let faded = p.simd_lt(c(f64::MIN_POSITIVE)) & t.simd_gt(c(f64::NEG_INFINITY));
        let inexact = faded | (p.simd_eq(c(f64::INFINITY)) & t.simd_lt(c(f64::INFINITY)));
        if inexact.any_true() { inexact.select(exp_times(t, d), plain) } else { plain }
    }
}

impl Gradient for KlDivergenceOfLog {
    #[inline(always)]
    fn gradient<S: Simd>(&self, _: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        -exp_any(t)
    }
}

/// (log v + (x - t)^2 / v) / 2 plus a constant, v = max(a, eps) the variance.
#[derive(Clone, Copy)]
pub(crate) struct GaussianNll {
    pub eps: f64,
    pub constant: f64,
}

impl GaussianNll {
    #[inline(always)]
    fn variance<S: Simd>(self, a: f64x8<S>) -> f64x8<S> {
        let eps = f64x8::splat(a.token(), self.eps);
        a.simd_lt(eps).select(eps, a)
    }
}

impl Pointwise<f64> for GaussianNll {
    const CHECKED: bool = true;

    #[inline(always)]
    fn loss<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, a: f64x8<S>) -> f64x8<S> {
        let v = self.variance(a);
        let [d, error] = double_double::two_sum_lanes(x, -t);
        let square = d.mul_add(d, or_zero(d * error * 2.0));
        (log::<S, f64>(v) + square / v) * 0.5 + self.constant
    }

    #[inline(always)]
    fn allowed<S: Simd>(&self, _: f64x8<S>, _: f64x8<S>, a: f64x8<S>) -> mask64x8<S> {
        !a.simd_lt(f64x8::splat(a.token(), 0.0))
    }
}

impl Gradient for GaussianNll {
    #[inline(always)]
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, a: f64x8<S>) -> f64x8<S> {
        (x - t) / self.variance(a)
    }
}

/// x, or 0 where it is not finite: the rounding error of infinite or very large numbers.
#[inline(always)]
fn or_zero<S: Simd>(x: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(x.token(), value);
    x.abs().simd_lt(c(f64::INFINITY)).select(x, c(0.0))
}

/// Stirling's approximation of log(t!), where t > 1; else 0.
#[inline(always)]
fn stirling<S: Simd>(t: f64x8<S>) -> f64x8<S> {
    let c = |value| f64x8::splat(t.token(), value);
    let log_t = log::<S, f64>(t);
    let terms = t * log_t - t + (log_t + LOG_2_PI) * 0.5;
    t.simd_le(c(1.0)).select(c(0.0), terms)
}

/// log(2 pi).
pub(crate) const LOG_2_PI: f64 = 1.837_877_066_409_345_5;

/// exp(x) - t x: x is the logarithm of the rate.
#[derive(Clone, Copy)]
pub(crate) struct PoissonNllOfLog {
    /// Whether Stirling's approximation is added.
    pub full: bool,
}

impl Pointwise<f64> for PoissonNllOfLog {
    #[inline(always)]
    fn loss<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let loss = exp_any(x) - t * x;
        if self.full { loss + stirling(t) } else { loss }
    }
}

impl Gradient for PoissonNllOfLog {
    #[inline(always)]
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        exp_any(x) - t
    }
}

/// x - t log(x + eps): x is the rate.
#[derive(Clone, Copy)]
pub(crate) struct PoissonNll {
    pub eps: f64,
    /// Whether Stirling's approximation is added.
    pub full: bool,
}

impl Pointwise<f64> for PoissonNll {
    #[inline(always)]
    fn loss<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        let [rate, error] = double_double::two_sum_lanes(x, f64x8::splat(x.token(), self.eps));
        let loss = t.mul_add(-(log::<S, f64>(rate) + or_zero(error / rate)), x);
        if self.full { loss + stirling(t) } else { loss }
    }
}

impl Gradient for PoissonNll {
    #[inline(always)]
    fn gradient<S: Simd>(&self, x: f64x8<S>, t: f64x8<S>, _: f64x8<S>) -> f64x8<S> {
        f64x8::splat(x.token(), 1.0) - t / (x + self.eps)
    }
}

/// Losses, and with `GRADIENT` their gradients, of a block's elements, without weights. False if an argument is
/// refused.
#[simd]
pub(crate) fn evaluate<S: Simd, R: Real, P: Pointwise<R>, const GRADIENT: bool>(
    simd: S,
    loss: &P,
    from: Arguments<'_, R>,
    to: &mut Results,
) -> bool {
    let mut allowed = nothing_refused::<S, R>(simd);
    let places = to.loss.chunks_exact_mut(R::LANES).zip(to.gradient.chunks_exact_mut(R::LANES));
    let (xs, ts) = (from.input.chunks_exact(R::LANES), from.target.chunks_exact(R::LANES));
    for (((x, t), a), (to_loss, to_gradient)) in xs.zip(ts).zip(from.third.chunks_exact(R::LANES)).zip(places)
    {
        let (x, t, a) = load::<S, R>(simd, x, t, a);
        if P::CHECKED {
            allowed &= loss.allowed(x, t, a);
        }
        let losses = R::widen::<S>(loss.loss(x, t, a));
        let (x, t, a) = (R::widen::<S>(x), R::widen::<S>(t), R::widen::<S>(a));
        for half in 0..R::F64_VECTORS {
            let lanes = 8 * half..8 * half + 8;
            losses[half].store_slice(&mut to_loss[lanes.clone()]);
            if GRADIENT {
                loss.gradient(x[half], t[half], a[half]).store_slice(&mut to_gradient[lanes]);
            }
        }
    }
    allowed.all_true()
}

/// `to` *= `by`, where a factor of 0 makes an infinite number vanish.
#[simd]
pub(crate) fn multiply<S: Simd>(simd: S, to: &mut [f64; ELEMENTS], by: &[f64]) {
    for (to, by) in to.chunks_exact_mut(8).zip(by.chunks_exact(8)) {
        prefetch_ahead(by);
        weighted::<S, f64>(f64x8::from_slice(simd, by), f64x8::from_slice(simd, to)).store_slice(to);
    }
}

/// Whether no argument of a block is refused.
#[simd]
pub(crate) fn all_allowed<S: Simd, R: Real, P: Pointwise<R>>(
    simd: S,
    loss: &P,
    from: Arguments<'_, R>,
) -> bool {
    let mut allowed = nothing_refused::<S, R>(simd);
    let (xs, ts) = (from.input.chunks_exact(R::LANES), from.target.chunks_exact(R::LANES));
    for ((x, t), a) in xs.zip(ts).zip(from.third.chunks_exact(R::LANES)) {
        let (x, t, a) = load::<S, R>(simd, x, t, a);
        allowed &= loss.allowed(x, t, a);
    }
    allowed.all_true()
}

#[inline(always)]
fn nothing_refused<S: Simd, R: Real>(simd: S) -> Mask<S, R> {
    let zero = R::V::<S>::splat(simd, R::ZERO);
    zero.simd_eq(zero)
}

/// The vectors of some elements' arguments. The memory ahead of them is prefetched a vector at a time, while these are
/// computed with: prefetched at once, it would fill the processor's queue of requests.
#[inline(always)]
fn load<S: Simd, R: Real>(simd: S, x: &[R], t: &[R], a: &[R]) -> (R::V<S>, R::V<S>, R::V<S>) {
    prefetch_ahead(x);
    prefetch_ahead(t);
    let vector = |from| R::V::<S>::from_slice(simd, from);
    (vector(x), vector(t), vector(a))
}

#[inline(always)]
fn prefetch_ahead<R>(vector: &[R]) {
    prefetch(vector.as_ptr().wrapping_byte_add(AHEAD_BYTES), size_of_val(vector));
}

/// The sum of the first `len` losses of a block, in an order that `len` alone decides.
#[simd]
pub(crate) fn sum<S: Simd>(simd: S, losses: &mut [f64; ELEMENTS], len: usize) -> f64 {
    let whole = len.next_multiple_of(32);
    losses[len..whole].fill(0.0);
    let mut sums = [f64x8::splat(simd, 0.0); 4];
    for step in losses[..whole].chunks_exact(32) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += f64x8::from_slice(simd, &step[8 * i..8 * i + 8]);
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).reduce_sum()
}

/// `to` = `from`, both of the same length, as the number R.
#[inline(always)]
pub(crate) fn convert<S: Simd, E: Element, R: Real>(simd: S, from: &[E], to: &mut [R]) {
    let lanes = RealOf::<E>::LANES;
    let (vectors, mut places) = (from.chunks_exact(lanes), to.chunks_exact_mut(lanes));
    let last = vectors.remainder();
    for (from, to) in vectors.zip(&mut places) {
        R::store_from::<S, RealOf<E>>(E::load(simd, from), to);
    }
    for (from, to) in last.iter().zip(places.into_remainder()) {
        *to = R::from_f64(from.to_f64());
    }
}

/// `to` = the first of `from`, rounded once.
#[inline(always)]
pub(crate) fn narrow<S: Simd, E: Element>(simd: S, from: &[f64], to: &mut [E]) {
    let lanes = RealOf::<E>::LANES;
    let mut places = to.chunks_exact_mut(lanes);
    let whole = places.len() * lanes;
    for (from, to) in from.chunks_exact(lanes).zip(&mut places) {
        store(simd, from, to);
    }
    let last = places.into_remainder();
    if !last.is_empty() {
        let (mut numbers, mut rounded) = ([0.0; 16], [E::PADDING; 16]);
        numbers[..last.len()].copy_from_slice(&from[whole..whole + last.len()]);
        store(simd, &numbers[..lanes], &mut rounded[..lanes]);
        last.copy_from_slice(&rounded[..last.len()]);
    }
}

/// One vector.
#[inline(always)]
fn store<S: Simd, E: Element>(simd: S, from: &[f64], to: &mut [E]) {
    let first = f64x8::from_slice(simd, &from[..8]);
    E::store(E::narrow([first, f64x8::from_slice(simd, &from[from.len() - 8..])]), to);
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};
    use half::{bf16, f16};

    use super::*;
    use crate::kernel::isa;

    /// The loss and the gradient of one element.
    fn at_in<R: Real, P: Pointwise<R>>(level: Level, loss: &P, x: f64, t: f64, a: f64) -> (f64, f64) {
        let mut to = Block::<R>::new(1.0).results;
        let [x, t, a] = [x, t, a].map(|number| [R::from_f64(number); VECTOR]);
        let from = Arguments { input: &x, target: &t, third: &a };
        assert!(dispatch!(level, simd => evaluate::<_, R, P, true>(simd, loss, from, &mut to)));
        (to.loss[8], to.gradient[8])
    }

    fn at<P: Pointwise<f64>>(level: Level, loss: &P, x: f64, t: f64, a: f64) -> (f64, f64) {
        at_in::<f64, P>(level, loss, x, t, a)
    }

    /// Computing in `f32` agrees with `f64` to the rounding of `f32`.
    fn narrow_agrees<P: Pointwise<f32> + Pointwise<f64>>(level: Level, loss: &P, x: f64, t: f64, a: f64) {
        let near = |got: f64, want: f64| (got - want).abs() <= 4.0 * f64::from(f32::EPSILON) * want.abs();
        let (got, want) = (at_in::<f32, P>(level, loss, x, t, a), at_in::<f64, P>(level, loss, x, t, a));
        assert!(near(got.0, want.0) && near(got.1, want.1), "{x} {t} {a}: {got:?} {want:?}");
    }

    #[test]
    fn binary_cross_entropies_keep_their_digits_in_f32_on_every_level() {
        for (_, level) in isa::available() {
            for x in [-88.0, -17.5, -3.25, -0.001, 0.0, 0.5, 2.75, 20.0, 87.0] {
                for t in [0.0, 0.25, 1.0] {
                    narrow_agrees(level, &LogitsBinaryCrossEntropy, x, t, 3.0);
                }
            }
            for x in
                [2.0_f64.powi(-140), 2.0_f64.powi(-30), 0.125, 0.375, 0.625, 0.75, 1.0 - 2.0_f64.powi(-24)]
            {
                for t in [0.0, 0.25, 1.0] {
                    narrow_agrees(level, &BinaryCrossEntropy { clamp: -100.0 }, x, t, 1.0);
                }
            }
        }
    }

    #[test]
    fn focal_loss_without_focus_is_binary_cross_entropy_on_every_level() {
        for (_, level) in isa::available() {
            for x in [-80.0, -3.25, 0.0, 0.5, 20.0] {
                for t in [0.0, 0.25, 1.0] {
                    let got = at(level, &SigmoidFocal { alpha: None, gamma: 0.0 }, x, t, 1.0);
                    assert_eq!(got, at(level, &LogitsBinaryCrossEntropy, x, t, 1.0));
                }
            }
        }
    }

    #[test]
    fn blocks_are_summed_up_to_their_length_on_every_level() {
        for (_, level) in isa::available() {
            for len in [1, 8, 31, 32, 33, 511, 512] {
                let mut losses = [f64::NAN; ELEMENTS];
                (0..len).for_each(|i| losses[i] = i as f64);
                let sum = dispatch!(level, simd => sum(simd, &mut losses, len));
                assert_eq!(sum, (len * (len - 1) / 2) as f64, "{len}");
            }
        }
    }

    /// The gradient is the slope of the loss.
    fn slopes<P: Pointwise<f64>>(level: Level, loss: &P, x: f64, t: f64, a: f64) {
        let step = 1e-5;
        let (above, below) = (at(level, loss, x + step, t, a).0, at(level, loss, x - step, t, a).0);
        let (slope, got) = ((above - below) / (2.0 * step), at(level, loss, x, t, a).1);
        assert!((slope - got).abs() <= 1e-6 * (1.0 + got.abs()), "{x} {t} {a}: {got} {slope}");
    }

    #[test]
    fn gradients_are_slopes_on_every_level() {
        for (_, level) in isa::available() {
            for x in [0.1, 0.5, 0.83] {
                for t in [0.0, 0.3, 1.0] {
                    slopes(level, &BinaryCrossEntropy { clamp: -100.0 }, x, t, 1.0);
                    slopes(level, &LogitsBinaryCrossEntropy, 9.0 * x - 4.0, t, 2.5);
                    for (gamma, alpha) in
                        [(0.0, None), (0.5, Some(0.25)), (1.0, None), (2.0, Some(0.9)), (3.7, None)]
                    {
                        slopes(level, &SigmoidFocal { alpha, gamma }, 9.0 * x - 4.0, t, 1.0);
                    }
                    slopes(level, &KlDivergence, -x, t, 1.0);
                    slopes(level, &KlDivergenceOfLog, -x, -t, 1.0);
                    slopes(level, &GaussianNll { eps: 0.25, constant: 1.0 }, x, t, 2.0 * t);
                    slopes(level, &PoissonNllOfLog { full: true }, x, 3.0 * t, 1.0);
                    slopes(level, &PoissonNll { eps: 1e-8, full: false }, x, t, 1.0);
                }
            }
        }
    }

    #[test]
    fn limits_at_infinite_logits_are_zero_or_infinite() {
        const INF: f64 = f64::INFINITY;
        for (_, level) in isa::available() {
            let logits = |x, t, a| at(level, &LogitsBinaryCrossEntropy, x, t, a);
            assert_eq!((logits(INF, 1.0, 1.0), logits(-INF, 0.0, 1.0)), ((0.0, 0.0), (0.0, 0.0)));
            assert_eq!((logits(INF, 0.0, 1.0), logits(-INF, 1.0, 1.0)), ((INF, 1.0), (INF, -1.0)));
            assert_eq!((logits(-INF, 1.0, 0.0).0, logits(-INF, 0.5, 1.0).0), (0.0, INF));
            assert!(logits(f64::NAN, 1.0, 0.0).0.is_nan() && logits(f64::NAN, 0.0, 1.0).1.is_nan());
            for gamma in [0.0, 0.5, 1.0, 2.0, 2.5] {
                let focal = |x, t| at(level, &SigmoidFocal { alpha: None, gamma }, x, t, 1.0);
                assert_eq!((focal(INF, 1.0), focal(-INF, 0.0)), ((0.0, 0.0), (0.0, 0.0)));
                assert_eq!((focal(INF, 0.0), focal(-INF, 1.0)), ((INF, 1.0), (INF, -1.0)));
                assert_eq!((focal(800.0, 1.0).0, focal(-800.0, 0.0).1), (0.0, 0.0));
                assert!(focal(f64::NAN, 1.0).0.is_nan() && focal(0.0, f64::NAN).1.is_nan());
                let positives = SigmoidFocal { alpha: Some(1.0), gamma };
                assert_eq!(at(level, &positives, INF, 0.0, 1.0).0, 0.0);
            }
            let exact = BinaryCrossEntropy { clamp: -INF };
            assert_eq!((at(level, &exact, 0.0, 0.0, 1.0).0, at(level, &exact, 1.0, 1.0, 1.0).0), (0.0, 0.0));
            assert_eq!((at(level, &exact, 0.0, 1.0, 1.0).0, at(level, &exact, 1.0, 0.5, 1.0).0), (INF, INF));
            assert_eq!(at(level, &KlDivergence, -INF, 0.0, 1.0).0, 0.0);
            assert!(at(level, &KlDivergence, f64::NAN, 0.0, 1.0).0.is_nan());
            assert_eq!(at(level, &KlDivergenceOfLog, -INF, -INF, 1.0).0, 0.0);
            assert_eq!(at(level, &KlDivergenceOfLog, -INF, -1e6, 1.0).0, INF);
            assert_eq!(at(level, &KlDivergenceOfLog, -1e9, -1e6, 1.0).0, 0.0);
            assert!(at(level, &KlDivergenceOfLog, f64::NAN, -1e6, 1.0).0.is_nan());
        }
    }

    #[test]
    fn what_is_not_allowed_is_seen_in_every_lane() {
        for (_, level) in isa::available() {
            for lane in 0..32 {
                for bad in [-1e-9, 1.000_001, f64::NAN, f64::INFINITY] {
                    let loss = BinaryCrossEntropy { clamp: -100.0 };
                    let (good, mut to) = ([1.0; 32], Block::<f64>::new(1.0).results);
                    let from = Arguments { input: &good, target: &good, third: &good };
                    assert!(dispatch!(level, simd => all_allowed(simd, &loss, from)));
                    let mut target = good;
                    target[lane] = bad;
                    let from = Arguments { target: &target, ..from };
                    assert!(!dispatch!(level, simd => all_allowed(simd, &loss, from)));
                    assert!(
                        !dispatch!(level, simd => evaluate::<_, f64, _, false>(simd, &loss, from, &mut to))
                    );
                }
            }
        }
    }

    fn through<E: Element>(level: Level, numbers: &[f64]) -> Vec<f64> {
        let mut stored = vec![E::PADDING; numbers.len()];
        let mut back = vec![0.0; numbers.len()];
        dispatch!(level, simd => {
            narrow(simd, numbers, &mut stored);
            convert(simd, &stored, &mut back);
        });
        back
    }

    #[test]
    fn numbers_come_back_from_every_type_on_every_level() {
        let numbers: Vec<f64> = (0..37).map(|i| f64::from(i) - 8.5).collect();
        for (_, level) in isa::available() {
            assert_eq!(through::<f16>(level, &numbers), numbers);
            assert_eq!(through::<bf16>(level, &numbers), numbers);
            assert_eq!(through::<f32>(level, &numbers), numbers);
            assert_eq!(through::<f64>(level, &numbers), numbers);
        }
    }
}
