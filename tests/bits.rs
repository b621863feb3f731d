//! The bits of every result: hashes of what the public functions compute from generated arrays, at each instruction set
//! of the machine, beside those of tests/bits.txt.
//!
//! The inputs come from integers, by operations that IEEE 754 rounds in one way: no system's `exp` has a part in them.
//! Each function runs on arrays of several layouts and on one and two threads, which must give the same bits. What a
//! function takes from the system's `exp`, `log1p` or `pow` is left out; docs/numerics.md names it.
//!
//! A build for tests has this module in the library, and with it the code of all public functions for `f32` and `f64`:
//! they are compiled once, rather than in each test that calls them. Optimised, it is a module of the tests.
//!
//! `make check-bits` compares the hashes of the optimised code, `make record-bits` writes the file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use crossent::half::{bf16, f16};
use crossent::ndarray::{Array1, ArrayD, ArrayRef, ArrayViewD, Axis, Dimension, IxDyn, stack};
use crossent::{
    Boosting, BoostingHessian, Call, ClassLoss, Columns, Context, CrossEntropy, Element, ElementLoss,
    Elementwise, ExactSum, FloatsMut, LogLoss, NllLoss, Numbers, Reduction, Score, ScoreSums, Target,
    TargetFunction, TargetLoss, TopKTeacher, Total, active_rows, available_isas, compare_sums, kl_div_topk,
    kl_div_topk_and_gradient, log_loss, log_of_probabilities, log_sigmoid, log_sigmoid_in_place,
    log_sigmoid_into, log_softmax, log_softmax_in_place, log_softmax_into, logsumexp, logsumexp_into, score,
    score_into, score_sums, score_with_sums, shard_gradient_into, shard_sums, signed_logsumexp,
    signed_logsumexp_into, softmax, softmax_in_place, softmax_into, temperature_sums,
};

// ---- the inputs ---------------------------------------------------------------------------------------------

/// Rows of so many classes, as images of (images, height, width) pixels.
struct Shape {
    name: &'static str,
    pixels: [usize; 3],
    classes: usize,
}

const fn shape(name: &'static str, pixels: [usize; 3], classes: usize) -> Shape {
    Shape { name, pixels, classes }
}

/// Numbers of classes on both sides of every boundary between kernels. Those of about 70 000 elements and more are
/// divided among threads.
const SHAPES: [Shape; 19] = [
    shape("1 class", [1, 7, 10], 1),
    shape("2 classes", [2, 5, 15], 2),
    shape("2 classes", [1, 170, 205], 2),
    shape("3 to 16 classes", [1, 5, 29], 3),
    shape("3 to 16 classes", [2, 5, 15], 4),
    shape("3 to 16 classes", [1, 1, 64], 5),
    shape("3 to 16 classes", [1, 1, 67], 10),
    shape("3 to 16 classes", [1, 9, 15], 16),
    shape("17 to 100 classes", [1, 5, 27], 21),
    shape("17 to 100 classes", [1, 1, 65], 64),
    shape("17 to 100 classes", [1, 3, 43], 65),
    shape("17 to 100 classes", [4, 13, 13], 100),
    shape("101 to 1024 classes", [1, 5, 13], 101),
    shape("101 to 1024 classes", [2, 1, 33], 150),
    shape("101 to 1024 classes", [1, 6, 11], 1000),
    shape("101 to 1024 classes", [1, 3, 3], 1024),
    shape("1025 to 131072 classes", [1, 3, 3], 1025),
    shape("1025 to 131072 classes", [1, 1, 14], 5000),
    shape("more classes", [1, 1, 1], 140_000),
];

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 to 1, without 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From -8 to 8, the ends rarely.
    fn logit(&mut self) -> f64 {
        4.0 * ((self.uniform() + self.uniform()) + (self.uniform() + self.uniform()) - 2.0)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }
}

fn mixed(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A type of an array's elements.
trait Dtype: Element {
    fn numbers(array: &ArrayD<Self>) -> Numbers<'_>;
    fn floats(array: &mut ArrayD<Self>) -> FloatsMut<'_>;
}

macro_rules! dtypes {
    ($($t:ty)+) => {$(
        impl Dtype for $t {
            fn numbers(array: &ArrayD<Self>) -> Numbers<'_> {
                array.into()
            }

            fn floats(array: &mut ArrayD<Self>) -> FloatsMut<'_> {
                array.into()
            }
        }
    )+};
}
dtypes! { f16 bf16 f32 f64 }

/// What the functions are given: arrays with classes along `axis`, and arrays of the rows' own shape.
struct Rows<E> {
    x: ArrayD<E>,
    /// Another model's logits.
    other: ArrayD<E>,
    /// Negative numbers: log-probabilities that need not add up to 1.
    log_p: ArrayD<E>,
    /// Class probabilities.
    p: ArrayD<E>,
    /// Probabilities of single elements, from 1/128 to 127/128.
    q: ArrayD<E>,
    /// From 1/2 to 3/2.
    var: ArrayD<E>,
    /// Class indices, and -100 in some rows.
    target: ArrayD<i64>,
    mask: ArrayD<bool>,
    upstream: ArrayD<f64>,
    /// Indices and log-probabilities of a few classes, along the last axis.
    teacher: (ArrayD<i32>, ArrayD<f64>),
    axis: isize,
    class_weight: Vec<f64>,
    row_weight: Vec<f64>,
    groups: Vec<u16>,
    context: Context<'static>,
}

impl<E: Dtype> Rows<E> {
    /// Rows that are all finite, among them sure ones, flat ones, ties, and of many magnitudes.
    fn new(shape: &Shape) -> Self {
        let (count, classes) = (shape.pixels.iter().product::<usize>(), shape.classes);
        let mut random = Random((count * 1_000_003 + classes) as u64);
        let with_classes = |element: &mut dyn FnMut(usize, usize) -> f64| {
            ArrayD::from_shape_fn(IxDyn(&[count, classes]), |at| E::from_f64(element(at[0], at[1])))
        };
        let x = with_classes(&mut |n, c| {
            let x = random.logit();
            match n % 16 {
                1 if c == classes / 2 => 60.0,
                2 => -2.5,
                3 if c.is_multiple_of(2) => 9.0,
                4 => x + 3000.0,
                5 => x * 20.0,
                // Subnormal in the narrowest type that is, and zeros of both signs.
                6 => x / (1 << 20) as f64,
                7 if c.is_multiple_of(3) => -0.0,
                7 => 0.0,
                8 => x / 256.0 - 300.0,
                _ => x,
            }
        });
        let other = with_classes(&mut |n, c| x[[n, c].as_slice()].to_f64() + random.logit() / 8.0);
        let log_p = with_classes(&mut |_, _| -5.0 * random.uniform());
        let mut p = ArrayD::from_shape_fn(IxDyn(&[count, classes]), |_| random.uniform() + 1.0 / 64.0);
        for mut row in p.rows_mut() {
            let sum = row.iter().fold(0.0, |sum, p| sum + p);
            row.mapv_inplace(|p| p / sum);
        }
        let p = p.map(|p| E::from_f64(*p));
        let q = with_classes(&mut |_, _| (1.0 + 126.0 * random.uniform()) / 128.0);
        let var = with_classes(&mut |_, _| random.uniform() + 0.5);
        let target = ArrayD::from_shape_fn(IxDyn(&[count]), |at| {
            if at[0] % 7 == 6 { -100 } else { random.below(classes) as i64 }
        });
        let mask = ArrayD::from_shape_fn(IxDyn(&[count]), |at| at[0] < 2 || random.below(8) > 0);
        let upstream = ArrayD::from_shape_fn(IxDyn(&[count]), |_| random.logit());
        let known = [count, if classes > 3 { 3 } else { 1 }];
        let ids = ArrayD::from_shape_fn(IxDyn(&known), |at| ((at[0] * 37 + at[1] * 11) % classes) as i32);
        let known = ArrayD::from_shape_fn(IxDyn(&known), |_| -2.0 - 3.0 * random.uniform());
        Rows {
            x,
            other,
            log_p,
            p,
            q,
            var,
            target,
            mask,
            upstream,
            teacher: (ids, known),
            axis: 1,
            context: Context::new(),
            class_weight: (0..classes).map(|_| random.uniform() + 0.5).collect(),
            row_weight: (0..count).map(|_| random.below(5) as f64 / 4.0).collect(),
            groups: (0..count).map(|_| random.below(3) as u16).collect(),
        }
    }

    /// The same rows, some of them with what is not finite or nearly so.
    fn spoilt(mut self) -> Self {
        let classes = self.x.len_of(Axis(1));
        let largest = [65504.0, 3.0e38, 1.7e308].map(E::from_f64);
        let largest = largest.into_iter().rfind(|x| x.to_f64().is_finite()).expect("65504 is finite");
        for (n, mut row) in self.x.rows_mut().into_iter().enumerate() {
            let spoil = |c: usize, x: &mut E| match n % 13 {
                0 if c == 0 => *x = E::from_f64(f64::NAN),
                1 if c == classes - 1 => *x = E::from_f64(-f64::NAN),
                2 if c == classes / 2 => *x = E::from_f64(f64::INFINITY),
                3 if c == 0 => *x = E::from_f64(f64::NEG_INFINITY),
                4 => *x = E::from_f64(f64::NEG_INFINITY),
                5 if c.is_multiple_of(2) => *x = E::from_f64(f64::INFINITY),
                6 if c.is_multiple_of(2) => *x = E::from_f64(f64::NEG_INFINITY),
                7 if c.is_multiple_of(3) => *x = largest,
                8 if c % 3 == 1 => *x = E::from_f64(-largest.to_f64()),
                9 => *x = E::from_f64(if c.is_multiple_of(2) { largest.to_f64() } else { -largest.to_f64() }),
                _ => {}
            };
            row.iter_mut().enumerate().for_each(|(c, x)| spoil(c, x));
        }
        self
    }

    fn laid_out(&self, layout: Layout, pixels: [usize; 3], threads: usize) -> Self {
        let classes = |array: &ArrayD<E>| layout.of(array, pixels, true);
        let (ids, known) = &self.teacher;
        Rows {
            x: classes(&self.x),
            other: classes(&self.other),
            log_p: classes(&self.log_p),
            p: classes(&self.p),
            q: classes(&self.q),
            var: classes(&self.var),
            target: layout.of(&self.target, pixels, false),
            mask: layout.of(&self.mask, pixels, false),
            upstream: layout.of(&self.upstream, pixels, false),
            teacher: if layout == Layout::Planes {
                (images(ids, pixels, true), images(known, pixels, true))
            } else {
                (layout.of(ids, pixels, true), layout.of(known, pixels, true))
            },
            class_weight: self.class_weight.clone(),
            row_weight: self.row_weight.clone(),
            groups: self.groups.clone(),
            axis: 1,
            context: Context::new().threads(threads),
        }
    }
}

/// How the elements lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// (N, C), row by row.
    Rows,
    /// (N, C), column by column.
    Columns,
    /// (N, C), every other element of a larger array.
    Strided,
    /// (N, C), from the last element to the first.
    Reversed,
    /// (N, C, H, W): a plane of pixels for each class.
    Planes,
}

impl Layout {
    /// An array of (N, C), or of (N), in this layout.
    fn of<T: Clone>(self, array: &ArrayD<T>, pixels: [usize; 3], classes: bool) -> ArrayD<T> {
        match self {
            Layout::Rows => array.clone(),
            Layout::Columns => array.t().as_standard_layout().into_owned().reversed_axes(),
            Layout::Strided => {
                let last = Axis(array.ndim());
                let pairs = stack(last, &[array.view(), array.view()]).expect("the shapes are the same");
                pairs.as_standard_layout().into_owned().index_axis_move(last, 0)
            }
            Layout::Reversed => {
                let turned = |mut array: ArrayD<T>| {
                    (0..array.ndim()).for_each(|axis| array.invert_axis(Axis(axis)));
                    array
                };
                turned(turned(array.clone()).as_standard_layout().into_owned())
            }
            Layout::Planes if classes => {
                images(array, pixels, true).permuted_axes(vec![0, 3, 1, 2]).as_standard_layout().into_owned()
            }
            Layout::Planes => images(array, pixels, false),
        }
    }
}

/// An array of (N, C), or of (N), with the axes of the pixels in place of the rows.
fn images<T: Clone>(array: &ArrayD<T>, pixels: [usize; 3], classes: bool) -> ArrayD<T> {
    let mut shape = pixels.to_vec();
    shape.extend(classes.then(|| array.len_of(Axis(1))));
    array.clone().into_shape_with_order(shape).expect("the pixels are the rows")
}

// ---- hashes -------------------------------------------------------------------------------------------------

/// A hash of numbers in their order. Which nan it is that a processor makes is not promised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hash(u64);

impl Hash {
    fn add(&mut self, word: u64) -> &mut Self {
        self.0 = mixed((self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15));
        self
    }

    fn float(&mut self, x: f64) -> &mut Self {
        self.add(if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() })
    }

    /// An array of the rows' shape.
    fn rows<E: Dtype, D: Dimension>(&mut self, array: &ArrayRef<E, D>) -> &mut Self {
        // Most time goes into this: along a slice it takes the least.
        let copied = array.as_standard_layout();
        let elements = copied.as_slice().expect("it is in standard layout");
        for x in elements {
            self.float(x.to_f64());
        }
        self
    }

    /// An array with classes along an axis, row by row.
    fn classes<E: Dtype>(&mut self, array: &ArrayD<E>, axis: isize) -> &mut Self {
        self.rows(&last(array, axis))
    }

    fn integers<'i>(&mut self, numbers: impl IntoIterator<Item = &'i i64>) -> &mut Self {
        numbers.into_iter().for_each(|x| _ = self.add(*x as u64));
        self
    }

    fn flags<'i>(&mut self, flags: impl IntoIterator<Item = &'i bool>) -> &mut Self {
        flags.into_iter().for_each(|x| _ = self.add(u64::from(*x)));
        self
    }

    fn sums<'s>(&mut self, sums: impl IntoIterator<Item = &'s ExactSum>) -> &mut Self {
        for sum in sums {
            let (digits, special) = sum.units();
            digits.into_iter().map(u64::from).chain(special).for_each(|word| _ = self.add(word));
        }
        self
    }

    fn total(&mut self, total: &Total) -> &mut Self {
        self.float(total.reduce(Reduction::Sum)).float(total.reduce(Reduction::Mean));
        self.float(total.weight).add(total.counted as u64)
    }
}

/// The array with an axis moved to the end.
fn last<T>(array: &ArrayD<T>, axis: isize) -> ArrayViewD<'_, T> {
    let mut order: Vec<usize> = (0..array.ndim()).collect();
    let axis = order.remove(axis as usize);
    order.push(axis);
    array.view().permuted_axes(order)
}

/// The hash of each function's results.
#[derive(Default)]
struct Hashes {
    /// The type and the shape of the input.
    of: String,
    lines: BTreeMap<String, Hash>,
}

impl Hashes {
    fn at(&mut self, function: &str) -> &mut Hash {
        self.lines.entry(format!("{function} {}", self.of)).or_default()
    }
}

// ---- the functions ------------------------------------------------------------------------------------------

const DONE: &str = "the arguments are right";

/// Every function's results.
fn results<E: Dtype>(rows: &Rows<E>, layout: Layout, to: &mut Hashes) {
    losses(rows, to);
    functions(rows, to);
    scores(rows, to);
    others(rows, to);
    // These take no images, or their sums go along the elements.
    if layout != Layout::Planes {
        boosting(rows, to);
        tables(rows, to);
        // Blocks of elements have no classes: a part of the shapes is enough.
        if [16, 1025, 5000].contains(&rows.x.len_of(Axis(1))) {
            elements(rows, to);
        }
    }
}

fn losses<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let (x, plain) = (&r.x, Call::new().context(r.context));
    let masked = plain.clone().mask(&r.mask);
    let (of_classes, soft) = (Target::from(&r.target), E::numbers(&r.p));
    let loss = CrossEntropy::new().axis(r.axis);
    let smoothed = loss.weight(&r.class_weight).label_smoothing(0.1);
    loss_of(to, "CrossEntropy", r, &loss, x, &of_classes, &plain);
    loss_of(to, "CrossEntropy", r, &smoothed, x, &of_classes, &masked);
    loss_of(to, "CrossEntropy", r, &loss.z_loss(0.1), x, &of_classes, &masked);
    loss_of(to, "CrossEntropy, probabilities", r, &loss, x, &soft, &masked);
    loss_of(to, "CrossEntropy, probabilities", r, &smoothed, x, &soft, &plain);
    let loss = NllLoss::new().axis(r.axis);
    loss_of(to, "NllLoss", r, &loss, &r.log_p, &of_classes, &plain);
    let weighted = loss.weight(&r.class_weight).ignore_index(0);
    let classes = r.target.mapv(|t| t.max(0));
    loss_of(to, "NllLoss", r, &weighted, &r.log_p, &Target::from(&classes), &masked);
    for (gamma, weighted) in [(2.0, false), (1.0, true)] {
        let loss = TargetLoss::new(TargetFunction::Focal { gamma }).axis(r.axis);
        let loss = if weighted { loss.weight(&r.class_weight) } else { loss };
        loss_of(to, "TargetLoss, Focal", r, &loss, x, &of_classes, &masked);
    }
    for epsilon in [1.0, -0.9] {
        let loss = TargetLoss::new(TargetFunction::Poly { epsilon }).axis(r.axis);
        loss_of(to, "TargetLoss, Poly", r, &loss, x, &of_classes, &plain);
    }
}

fn loss_of<E: Dtype, L: ClassLoss>(
    to: &mut Hashes,
    name: &str,
    r: &Rows<E>,
    loss: &L,
    input: &ArrayD<E>,
    target: &Target<'_>,
    call: &Call<'_>,
) {
    let (mut gradient, mut place) = (input.clone(), input.clone());
    let mut single = r.upstream.mapv(|_| 0.0_f32);
    let (mut own, mut again) = (r.upstream.mapv(E::from_f64), r.upstream.mapv(E::from_f64));
    let total = loss.total(input, target, call).expect(DONE);
    to.at(&format!("{name}: total")).total(&total);
    let each = loss.each_row(input, target, call).expect(DONE);
    to.at(&format!("{name}: each_row")).rows(&each);
    loss.each_row_into(input, target, call, &mut single).expect(DONE);
    to.at(&format!("{name}: each_row_into")).rows(&single);
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let total = loss.total_and_gradient(input, target, call, reduction, 0.75, &mut gradient).expect(DONE);
        to.at(&format!("{name}: total_and_gradient")).total(&total).classes(&gradient, r.axis);
    }
    let total = loss.total_and_gradient_in_place(&mut place, target, call, Reduction::Sum, 0.75).expect(DONE);
    to.at(&format!("{name}: total_and_gradient_in_place")).total(&total).classes(&place, r.axis);
    loss.each_row_and_gradient(input, target, call, &r.upstream, &mut gradient, E::floats(&mut own))
        .expect(DONE);
    to.at(&format!("{name}: each_row_and_gradient")).rows(&own).classes(&gradient, r.axis);
    place.assign(input);
    loss.each_row_and_gradient_in_place(&mut place, target, call, &r.upstream, E::floats(&mut again))
        .expect(DONE);
    to.at(&format!("{name}: each_row_and_gradient_in_place")).rows(&again).classes(&place, r.axis);
}

fn functions<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let (x, axis, context) = (&r.x, r.axis, r.context);
    to.at("softmax").classes(&softmax(x, axis).expect(DONE), axis);
    to.at("log_softmax").classes(&log_softmax(x, axis).expect(DONE), axis);
    to.at("log_sigmoid").classes(&log_sigmoid(x).expect(DONE), axis);
    to.at("logsumexp").rows(&logsumexp(x, axis).expect(DONE));
    let (mut out, mut of_rows) = (x.clone(), r.upstream.clone());
    softmax_into(x, axis, &mut out, context).expect(DONE);
    to.at("softmax_into").classes(&out, axis);
    log_softmax_into(x, axis, &mut out, context).expect(DONE);
    to.at("log_softmax_into").classes(&out, axis);
    log_sigmoid_into(x, &mut out, context).expect(DONE);
    to.at("log_sigmoid_into").classes(&out, axis);
    logsumexp_into(x, axis, &mut of_rows, context).expect(DONE);
    to.at("logsumexp_into").rows(&of_rows);
    out.assign(x);
    softmax_in_place(&mut out, axis, context).expect(DONE);
    to.at("softmax_in_place").classes(&out, axis);
    out.assign(x);
    log_softmax_in_place(&mut out, axis, context).expect(DONE);
    to.at("log_softmax_in_place").classes(&out, axis);
    out.assign(x);
    log_sigmoid_in_place(&mut out, context).expect(DONE);
    to.at("log_sigmoid_in_place").classes(&out, axis);

    let (log, sign) = signed_logsumexp(E::numbers(x), E::numbers(&r.other), &[axis]).expect(DONE);
    to.at("signed_logsumexp").rows(&log).rows(&sign);
    signed_logsumexp_into(E::numbers(x), E::numbers(&r.q), &[axis], &mut of_rows, None, context).expect(DONE);
    to.at("signed_logsumexp_into").rows(&of_rows);
}

fn scores<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let (x, target, plain) = (&r.x, &r.target, Call::new().context(r.context));
    let masked = plain.clone().mask(&r.mask);
    let classes = x.len_of(Axis(r.axis as usize));
    let (top_k, of_target) = ([1, classes.min(3)], Target::from(target));
    let options = Score::new().axis(r.axis).top_k(&top_k).bins(7).groups(&r.groups);

    let columns = score(x, target, &options, &masked).expect(DONE);
    let hash = to.at("score").rows(&columns.nll).rows(&columns.logsumexp).rows(&columns.entropy);
    hash.integers(&columns.prediction).integers(&columns.rank);
    hash.flags(&columns.counted).flags(&columns.correct);
    let (named, log_probs) = (columns.top_classes.expect(DONE), columns.top_log_probs.expect(DONE));
    // The best classes come last, whatever the axis of all.
    hash.integers(&named).rows(&log_probs);

    let (mut nll, mut entropy) = (r.upstream.mapv(|_| 0.0_f32), r.upstream.mapv(E::from_f64));
    score_into(x, target, &options, &masked, Columns::new().nll(&mut nll)).expect(DONE);
    to.at("score_into").rows(&nll);
    let of_columns = Columns::new().entropy(&mut entropy);
    let sums = score_with_sums(x, target, &options, &plain, of_columns).expect(DONE);
    add_score_sums(to.at("score_with_sums").rows(&entropy), &sums);
    let weighted = options.weight(&r.row_weight);
    let mut sums = score_sums(x, target, &weighted, &masked).expect(DONE);
    let of_log_p = score_sums(&r.log_p, target, &weighted.log_probs(true), &masked).expect(DONE);
    add_score_sums(to.at("score_sums"), &sums);
    sums.merge(&of_log_p);
    add_score_sums(to.at("score_sums"), &sums);

    let options = Score::new().axis(r.axis);
    let (sums, rows) = compare_sums(x, &r.other, Some(&of_target), &options, &masked).expect(DONE);
    let hash = to.at("compare_sums").add(sums.rows).add(sums.count).add(sums.same_top);
    hash.sums([&sums.forward, &sums.forward_squared, &sums.reverse, &sums.jensen_shannon]);
    rows.forward.iter().chain(&rows.difference).for_each(|x| _ = hash.float(*x));
    let of = sums.targets.as_ref().expect(DONE);
    hash.sums([&of.nll, &of.nll_squared, &of.other_nll, &of.other_nll_squared, &of.nll_product]);
    hash.sums([&of.difference, &of.difference_squared, &of.difference_fourth]);
    hash.float(sums.kl_mean()).float(sums.kl_standard_error()).float(sums.jensen_shannon_mean());
    hash.float(sums.same_top_standard_error()).float(of.log_perplexity_ratio_standard_error());
    hash.float(of.correlation()).float(of.rms_difference()).float(of.rms_difference_standard_error());
    rows.kl_percentiles(&[10.0, 50.0, 99.0]).into_iter().for_each(|x| _ = hash.float(x));

    let sums = temperature_sums(x, target, 0.7, &options.weight(&r.row_weight), &masked).expect(DONE);
    let hash = to.at("temperature_sums").add(sums.count);
    hash.sums([&sums.weight, &sums.nll, &sums.slope, &sums.curvature]);
    hash.float(sums.mean()).float(sums.mean_slope()).float(sums.mean_curvature());
}

fn add_score_sums(hash: &mut Hash, sums: &ScoreSums) {
    hash.add(sums.rows).add(sums.count).add(sums.correct).add(sums.nonfinite);
    sums.top.iter().chain(&sums.first_nonfinite).for_each(|count| _ = hash.add(*count));
    hash.sums([&sums.nll, &sums.nll_squared, &sums.entropy, &sums.reciprocal_rank, &sums.squared_error]);
    sums.histogram.iter().for_each(|count| _ = hash.add(*count));
    for bin in &sums.bins {
        hash.add(bin.count).add(bin.correct).sums([&bin.confidence]).float(bin.mean_confidence());
    }
    for group in &sums.groups {
        hash.add(group.count).sums([&group.nll, &group.nll_squared]).float(group.standard_error());
    }
    hash.float(sums.mean()).float(sums.standard_error()).float(sums.bits_per_row()).float(sums.accuracy());
    hash.float(sums.mean_entropy()).float(sums.mean_reciprocal_rank()).float(sums.brier_score());
    hash.float(sums.expected_calibration_error());
}

fn others<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let (x, context) = (&r.x, r.context);
    let masked = Call::new().context(context).mask(&r.mask);
    let sums = shard_sums(x, r.axis, context).expect(DONE);
    to.at("shard_sums").rows(&sums.max).rows(&sums.rest);
    let mut gradient = x.clone();
    let class = r.target.mapv(|t| usize::try_from(t).ok());
    shard_gradient_into(x, r.axis, &sums, &class, &r.upstream, &masked, &mut gradient).expect(DONE);
    to.at("shard_gradient_into").classes(&gradient, r.axis);

    // The classes come last.
    let (rows, end) = (last(x, r.axis), x.ndim() as isize - 1);
    let mut gradient = rows.to_owned();
    // A single class leaves none for the rest.
    for tail in [false, true].into_iter().take(x.len_of(Axis(r.axis as usize)).min(2)) {
        let teacher = TopKTeacher::new(&r.teacher.0, &r.teacher.1).tail(tail);
        to.at("kl_div_topk").rows(&kl_div_topk(&rows, &teacher, &masked).expect(DONE));
        let losses = kl_div_topk_and_gradient(&rows, &teacher, &masked, &r.upstream, &mut gradient);
        to.at("kl_div_topk_and_gradient").rows(&losses.expect(DONE)).classes(&gradient, end);
    }

    let (of_target, options) = (Target::from(&r.target), Score::new().axis(r.axis));
    let mut active = r.mask.clone();
    active_rows(x, Some(&of_target), &options, &masked, &mut active).expect(DONE);
    to.at("active_rows").flags(&active);
    let mut log_p = last(&r.p, r.axis).mapv(Element::to_f64);
    let _ = log_of_probabilities(&r.p, Some(&of_target), &options, &masked, &mut log_p).expect(DONE);
    to.at("log_of_probabilities").classes(&log_p, end);
}

fn boosting<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let (classes, context) = (r.x.len_of(Axis(1)), r.context);
    let weight = Array1::from_vec(r.row_weight.clone());
    // One score is that of two classes.
    let scores = if classes == 1 { r.x.clone().index_axis_move(Axis(1), 0) } else { r.x.clone() };
    let (labels, weighted) = (r.target.mapv(|t| t.max(0)), r.class_weight.get(..classes.max(2)));
    let (mut gradient, mut hessian) = (scores.clone(), scores.clone());
    for kind in [BoostingHessian::Diagonal, BoostingHessian::LightGbm, BoostingHessian::XgBoost] {
        let mut objective = Boosting::new().hessian(kind).label_smoothing(0.1);
        if let Some(weight) = weighted {
            objective = objective.class_weight(weight);
        }
        let done = objective.gradient_and_hessian(
            &scores,
            &labels,
            Some(&weight),
            &mut gradient,
            &mut hessian,
            context,
        );
        done.expect(DONE);
        to.at("Boosting: gradient_and_hessian").rows(&gradient).rows(&hessian);
    }
    if classes == 1 {
        return;
    }
    let functions = [TargetFunction::Focal { gamma: 2.0 }, TargetFunction::Poly { epsilon: 1.0 }];
    for objective in functions.map(|function| Boosting::new().function(function)) {
        let done =
            objective.gradient_and_hessian(&scores, &labels, None, &mut gradient, &mut hessian, context);
        done.expect(DONE);
        to.at("Boosting, function: gradient_and_hessian").rows(&gradient).rows(&hessian);
    }
}

fn elements<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let bits = r.q.mapv(|q| u8::from(q.to_f64() > 0.5));
    let (p, q, var, other) = (E::numbers(&r.p), E::numbers(&r.q), E::numbers(&r.var), E::numbers(&r.other));
    let weighted = |loss| Elementwise::new(loss).weight(&var);
    let bce = |clamp| ElementLoss::BinaryCrossEntropy { clamp };
    element_loss(to, "BinaryCrossEntropy", r, &weighted(bce(Some(-100.0))), &r.q, &p);
    element_loss(to, "BinaryCrossEntropy", r, &Elementwise::new(bce(None)), &r.q, &(&bits).into());
    let with_logits = |pos_weight| ElementLoss::BinaryCrossEntropyWithLogits { pos_weight };
    let name = "BinaryCrossEntropyWithLogits";
    element_loss(to, name, r, &weighted(with_logits(Some((&var).into()))), &r.x, &p);
    element_loss(to, name, r, &Elementwise::new(with_logits(None)), &r.x, &(&bits).into());
    for (alpha, gamma) in [(Some(0.25), 2.0), (None, 0.75)] {
        let loss = Elementwise::new(ElementLoss::SigmoidFocal { alpha, gamma });
        element_loss(to, "SigmoidFocal", r, &loss, &r.x, &q);
    }
    for (log_target, target) in [(false, &p), (true, &other)] {
        let loss = weighted(ElementLoss::KlDivergence { log_target });
        element_loss(to, "KlDivergence", r, &loss, &r.log_p, target);
    }
    let gaussian = ElementLoss::GaussianNll { var: (&var).into(), full: true, eps: 1e-6 };
    element_loss(to, "GaussianNll", r, &Elementwise::new(gaussian), &r.x, &other);
    for (log_input, input) in [(true, &r.log_p), (false, &r.var)] {
        let loss = Elementwise::new(ElementLoss::PoissonNll { log_input, full: true, eps: 1e-8 });
        element_loss(to, "PoissonNll", r, &loss, input, &var);
    }
}

fn element_loss<E: Dtype>(
    to: &mut Hashes,
    name: &str,
    r: &Rows<E>,
    loss: &Elementwise<'_>,
    x: &ArrayD<E>,
    target: &Numbers<'_>,
) {
    let (input, upstream, context) = (E::numbers(x), E::numbers(&r.q), r.context);
    let (mut gradient, mut place, mut out) = (x.clone(), x.clone(), x.clone());
    let mut at = |method: &str, total: Option<&Total>, arrays: &[&ArrayD<E>]| {
        let hash = to.at(&format!("Elementwise, {name}: {method}"));
        if let Some(total) = total {
            hash.total(total);
        }
        for array in arrays {
            hash.rows(*array);
        }
    };
    let total = loss.total(&input, target, context).expect(DONE);
    at("total", Some(&total), &[]);
    loss.each_into(&input, target, E::floats(&mut out), context).expect(DONE);
    at("each_into", None, &[&out]);
    let to_gradient = E::floats(&mut gradient);
    let total = loss.total_and_gradient(&input, target, Reduction::Mean, 0.75, to_gradient, context);
    at("total_and_gradient", Some(&total.expect(DONE)), &[&gradient]);
    let in_place = E::floats(&mut place);
    let total = loss.total_and_gradient_in_place(in_place, target, Reduction::Sum, 0.75, context);
    at("total_and_gradient_in_place", Some(&total.expect(DONE)), &[&place]);
    let (to_gradient, to_out) = (E::floats(&mut gradient), E::floats(&mut out));
    loss.each_and_gradient(&input, target, &upstream, to_gradient, to_out, context).expect(DONE);
    at("each_and_gradient", None, &[&gradient, &out]);
    place.assign(x);
    let (in_place, to_out) = (E::floats(&mut place), E::floats(&mut out));
    loss.each_and_gradient_in_place(in_place, target, &upstream, to_out, context).expect(DONE);
    at("each_and_gradient_in_place", None, &[&place, &out]);
    to.at(&format!("Elementwise, {name}: each")).rows(&loss.each(&input, target, context).expect(DONE));
}

fn tables<E: Dtype>(r: &Rows<E>, to: &mut Hashes) {
    let classes = r.p.len_of(Axis(1));
    let class = r.target.mapv(|t| t.max(0) % classes as i64);
    let weight = Array1::from_vec(r.row_weight.clone());
    for weight in [None, Some(&*weight)] {
        let loss: LogLoss = log_loss(&r.p, &class, weight, 1e-7, 1e-2, r.context).expect(DONE);
        let hash = to.at("log_loss").sums([&loss.loss, &loss.weight]).float(loss.mean());
        [loss.improper, loss.not_normalised].into_iter().flatten().for_each(|row| _ = hash.add(row));
    }
    let mut sum = ExactSum::default();
    for x in r.other.iter().map(|x| x.to_f64()) {
        sum.add(x);
        sum.add_square(x);
        sum.add_product(x, -0.1);
    }
    let mut twice = sum.clone();
    twice.merge(&sum);
    to.at("ExactSum").sums([&sum, &twice]).float(sum.to_f64()).float(twice.mean(7));
}

// ---- all of it ----------------------------------------------------------------------------------------------

/// The hashes at the level in use, and what differs between layouts or numbers of threads.
fn hashes() -> (BTreeMap<String, Hash>, Vec<String>) {
    let (mut all, mut differences) = (Hashes::default(), Vec::new());
    for shape in &SHAPES {
        of_shape::<f32>(shape, &mut all, &mut differences);
        of_shape::<f64>(shape, &mut all, &mut differences);
        #[cfg(not(debug_assertions))]
        {
            of_shape::<f16>(shape, &mut all, &mut differences);
            of_shape::<bf16>(shape, &mut all, &mut differences);
        }
    }
    (all.lines, differences)
}

fn of_shape<E: Dtype>(shape: &Shape, all: &mut Hashes, differences: &mut Vec<String>) {
    let many = shape.classes * shape.pixels.iter().product::<usize>() > 1 << 15;
    let runs: &[(Layout, usize)] = if many {
        // Images of one row of pixels have the planes of columns.
        if shape.pixels[1] > 1 {
            &[(Layout::Rows, 1), (Layout::Planes, 2)]
        } else {
            &[(Layout::Rows, 1), (Layout::Columns, 2)]
        }
    } else if cfg!(debug_assertions) {
        // Code that is hardly optimised takes its time.
        &[(Layout::Rows, 1), (Layout::Columns, 2)]
    } else {
        use Layout::{Columns, Planes, Reversed, Rows, Strided};
        &[(Rows, 1), (Columns, 1), (Strided, 1), (Reversed, 2), (Planes, 1)]
    };
    // What spoils rows of each kernel has a small shape too, but for those of segments.
    let spoilt = (!many || shape.classes > 1 << 17).then(|| Rows::<E>::new(shape).spoilt());
    for rows in [Some(Rows::<E>::new(shape)), spoilt].into_iter().flatten() {
        let mut first: Option<Hashes> = None;
        for &(layout, threads) in runs {
            let mut hashes = Hashes { of: format!("{} {}", E::NAME, shape.name), ..Hashes::default() };
            results(&rows.laid_out(layout, shape.pixels, threads), layout, &mut hashes);
            let Some(first) = &first else {
                first = Some(hashes);
                continue;
            };
            let differ = hashes.lines.into_iter().filter(|(line, hash)| first.lines[line] != *hash);
            let of = format!(
                "{:?} and {layout:?} on {threads} threads differ, {} classes",
                runs[0].0, shape.classes
            );
            differences.extend(differ.map(|(line, _)| format!("{of}: {line}")));
        }
        for (line, hash) in first.expect("there are runs").lines {
            all.lines.entry(line).or_default().add(hash.0);
        }
    }
}

/// A line for each function, and its hash.
fn lines_here() -> Result<BTreeMap<String, String>, String> {
    let (lines, differences) = hashes();
    if !differences.is_empty() {
        return Err(differences.join("\n"));
    }
    Ok(lines.into_iter().map(|(line, hash)| (line, format!("{:016x}", hash.0))).collect())
}

/// What [`print`] writes before each hash, among the lines of the test harness.
const MARK: &str = "hash: ";

/// Those at a level. It holds for a process, so each has one of its own.
fn lines_at(level: &str) -> Result<BTreeMap<String, String>, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program);
    child.args(["--exact", "bits_of_the_level", "--ignored", "--nocapture"]);
    let done = child.env("CROSSENT_ISA", level).stdin(Stdio::null()).output();
    let done = done.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        return Err(format!("{text}{}", String::from_utf8_lossy(&done.stderr)));
    }
    let hashes = text.lines().filter_map(|line| line.strip_prefix(MARK)?.split_once(' '));
    Ok(hashes.map(|(hash, name)| (name.to_owned(), hash.to_owned())).collect())
}

/// Whether a level has a fused multiply-add: all of those have the same bits, and so have all others.
fn is_fused(level: &str) -> bool {
    ["avx512", "avx2", "neon"].contains(&level)
}

const HEADER: &str = "\
# Hashes of the results of the public functions: `make check-bits` compares, `make record-bits` writes them.
# First those of avx512, avx2 and neon, then those of levels without a fused multiply-add; = stands for the same hash.
";

/// The lines at every level. Where there is only one, as on Arm, this process has it: an emulator need not start others.
fn at_levels() -> Vec<(&'static str, BTreeMap<String, String>)> {
    let levels = available_isas();
    let found: Vec<_> = if levels.len() == 1 {
        vec![lines_here()]
    } else {
        thread::scope(|scope| {
            let runs: Vec<_> = levels.iter().map(|level| scope.spawn(|| lines_at(level))).collect();
            runs.into_iter().map(|run| run.join().expect("a run does not panic")).collect()
        })
    };
    let lines = |(level, lines): (&'static str, Result<_, _>)| match lines {
        Ok(lines) => (level, lines),
        Err(text) => panic!("{level}: {text}"),
    };
    levels.into_iter().zip(found).map(lines).collect()
}

/// The text of the file, if all levels with a fused multiply-add agree, and all without.
fn recorded(of_levels: &[(&str, BTreeMap<String, String>)]) -> Result<String, String> {
    if cfg!(debug_assertions) {
        return Err("only optimised code has all types: make record-bits".into());
    }
    let of_kind = |fused| {
        let mut of_kind = of_levels.iter().filter(|(level, _)| is_fused(level) == fused);
        let (first, lines) = of_kind.next().ok_or(
            "hashes are recorded on a machine that has levels with and without a fused multiply-add",
        )?;
        let mut wrong = String::new();
        of_kind.for_each(|(level, others)| differences(&mut wrong, level, others, lines));
        if wrong.is_empty() { Ok(lines) } else { Err(format!("{wrong}not the bits of {first}")) }
    };
    let (fused, separate) = (of_kind(true)?, of_kind(false)?);
    let mut text = String::from(HEADER);
    for (name, hash) in fused {
        let other = &separate[name];
        let other = if other == hash { "=" } else { other };
        writeln!(text, "{hash} {other:16} {name}").expect("a string takes all");
    }
    Ok(text)
}

/// Whether this build has the hashes of a line: code that is hardly optimised has two types only, the others take a minute
/// to compile.
fn is_here(name: &str) -> bool {
    !cfg!(debug_assertions) || [" f32 ", " f64 "].iter().any(|of| name.contains(of))
}

/// The hashes that the file has for levels with, or without, a fused multiply-add.
fn expected(text: &str, fused: bool) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let hashes = lines.filter_map(|line| {
        let (first, rest) = line.split_once(' ')?;
        let (second, name) = rest.split_once(' ')?;
        let hash = if fused || second == "=" { first } else { second };
        Some((name.trim_start().to_owned(), hash.to_owned()))
    });
    hashes.filter(|(name, _)| is_here(name)).collect()
}

/// A line for each function whose hash is not the expected one; what one of the two lacks differs.
fn differences(
    to: &mut String,
    level: &str,
    got: &BTreeMap<String, String>,
    expected: &BTreeMap<String, String>,
) {
    let missing = expected.keys().filter(|name| !got.contains_key(*name));
    let changed = got.iter().filter(|(name, hash)| expected.get(*name) != Some(hash)).map(|(name, _)| name);
    missing.chain(changed).for_each(|name| writeln!(to, "{level}: {name}").expect("a string takes all"));
}

/// Compares all hashes with those of the file, or writes the file where `CROSSENT_RECORD_BITS` is set.
///
/// # Panics
/// If they differ.
pub fn compare() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bits.txt");
    let of_levels = at_levels();
    if env::var_os("CROSSENT_RECORD_BITS").is_some() {
        fs::write(file, recorded(&of_levels).expect("levels agree")).expect("the file can be written");
        return;
    }
    let text = fs::read_to_string(file).expect("the file can be read");
    let mut wrong = String::new();
    for (level, lines) in &of_levels {
        differences(&mut wrong, level, lines, &expected(&text, is_fused(level)));
    }
    assert!(wrong.is_empty(), "not the bits of tests/bits.txt:\n{wrong}");
    let levels: Vec<_> = of_levels.iter().map(|(level, _)| *level).collect();
    println!("all {} hashes are those of tests/bits.txt at {}", of_levels[0].1.len(), levels.join(", "));
}

/// Prints the hashes at the level of this process.
///
/// # Panics
/// If they depend on a layout or on the number of threads.
pub fn print() {
    match lines_here() {
        Ok(lines) => lines.iter().for_each(|(name, hash)| println!("{MARK}{hash} {name}")),
        Err(text) => panic!("{text}"),
    }
}
