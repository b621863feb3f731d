//! The crate as others see it: every public function, from outside.
//!
//! Expected numbers are computed here, from the definitions, in `f64`.

#[cfg(not(all(crossent_checkout, debug_assertions, not(feature = "python"))))]
mod bits;

use std::fmt::Debug;
use std::num::NonZero;

#[cfg(all(crossent_checkout, debug_assertions, not(feature = "python")))]
use crossent::bits;
use crossent::half::{bf16, f16};
use crossent::ndarray::{Array, Array1, Array2, Array3, ArrayD, Axis, Dimension, arr0, arr1, array, s};
use crossent::{
    Bin, Boosting, BoostingHessian, Call, ClassLoss, Columns, ComparisonRows, ComparisonSums, Context,
    CrossEntropy, Element, ElementLoss, Elementwise, Error, ExactSum, FirstValues, FloatsMut, Group, Held,
    HeldNumbers, Improper, Interrupt, LikelyMisuse, LikelyValues, LogLoss, MAX_THREADS, Mask, NllLoss,
    Numbers, Reduction, Score, ScoreSums, Scores, ShardSums, Target, TargetFunction, TargetLoss, TargetSums,
    TargetsFound, TemperatureSums, TopKTeacher, Total, active_rows, available_isas, check_targets,
    compare_sums, kl_div_topk, kl_div_topk_and_gradient, likely_misuse, likely_values, log_loss,
    log_of_probabilities, log_sigmoid, log_sigmoid_in_place, log_sigmoid_into, log_softmax,
    log_softmax_in_place, log_softmax_into, logsumexp, logsumexp_into, num_threads, score, score_into,
    score_sums, score_with_sums, selected_isa, set_num_threads, shard_gradient_into, shard_sums,
    signed_logsumexp, signed_logsumexp_into, softmax, softmax_in_place, softmax_into, targets_found,
    temperature_sums,
};

const ROWS: usize = 37;
const CLASSES: usize = 11;

/// Numbers from -4 to 4 that half precision holds.
fn logits<E: Element>() -> Array2<E> {
    Array2::from_shape_fn((ROWS, CLASSES), |(n, c)| {
        E::from_f64(((n * 7919 + c * 104_729) % 257) as f64 / 32.0 - 4.0)
    })
}

fn classes() -> Array1<usize> {
    Array1::from_shape_fn(ROWS, |n| n * 5 % CLASSES)
}

fn wide<E: Element, D: Dimension>(array: &Array<E, D>) -> Array<f64, D> {
    array.map(|x| x.to_f64())
}

fn log_sum_exp(row: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = row.clone().fold(f64::NEG_INFINITY, f64::max);
    max + row.map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// -log softmax(x)_t of each row.
fn nll(x: &Array2<f64>, target: &Array1<usize>) -> Array1<f64> {
    let rows = x.outer_iter().zip(target);
    rows.map(|(row, t)| log_sum_exp(row.iter().copied()) - row[*t]).collect()
}

fn softmax_of(x: &Array2<f64>) -> Array2<f64> {
    let lse: Array1<f64> = x.outer_iter().map(|row| log_sum_exp(row.iter().copied())).collect();
    (x - &lse.insert_axis(Axis(1))).exp()
}

/// Whether numbers agree to some digits.
#[track_caller]
fn close<D: Dimension>(got: &Array<f64, D>, expected: &Array<f64, D>, tolerance: f64) {
    assert_eq!(got.shape(), expected.shape());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance * (1.0 + expected.abs()), "{got} {expected}");
    }
}

#[track_caller]
fn near(got: f64, expected: f64) {
    close(&arr0(got), &arr0(expected), 1e-12);
}

fn functions_of<E: Element + PartialEq + Debug>(tolerance: f64) {
    let x = logits::<E>();
    let (one, exact) = (Context::new().threads(1), wide(&x));
    let p = softmax(&x, 1).unwrap();
    close(&wide(&p), &softmax_of(&exact), tolerance);
    let log_p = log_softmax(&x, -1).unwrap();
    close(&wide(&log_p), &softmax_of(&exact).ln(), tolerance);
    let lse = logsumexp(&x, 1).unwrap();
    let expected: Array1<f64> = exact.outer_iter().map(|row| log_sum_exp(row.iter().copied())).collect();
    close(&wide(&lse), &expected, tolerance);
    let sigmoid = log_sigmoid(&x).unwrap();
    close(&wide(&sigmoid), &exact.map(|x| -(-x).exp().ln_1p()), tolerance);

    let (mut out, mut rows) = (x.clone(), lse.clone());
    softmax_into(&x, 1, &mut out, one).unwrap();
    assert_eq!(out, p);
    log_softmax_into(&x.view(), 1, &mut out.view_mut(), one).unwrap();
    assert_eq!(out, log_p);
    log_sigmoid_into(&x, &mut out, one).unwrap();
    assert_eq!(out, sigmoid);
    rows.fill(E::from_f64(0.0));
    logsumexp_into(&x, 1, &mut rows, one).unwrap();
    assert_eq!(rows, lse);
    let mut rows = Array1::<f64>::zeros(ROWS);
    logsumexp_into(&x, 1, &mut rows, one).unwrap();
    close(&rows, &expected, 1e-6);

    for (function, expected) in [(0, &p), (1, &log_p), (2, &sigmoid)] {
        let mut place = x.clone();
        match function {
            0 => softmax_in_place(&mut place, 1, one),
            1 => log_softmax_in_place(&mut place, 1, one),
            _ => log_sigmoid_in_place(&mut place, one),
        }
        .unwrap();
        assert_eq!(place, *expected);
    }
}

#[test]
fn functions_are_those_of_their_definitions_for_each_type() {
    functions_of::<f64>(1e-14);
    functions_of::<f32>(1e-6);
    functions_of::<f16>(1e-3);
    functions_of::<bf16>(1e-2);
}

#[test]
fn arrays_of_any_dimension_order_and_ownership_are_taken() {
    let x = logits::<f32>();
    let p = softmax(&x, 1).unwrap();
    let turned = softmax(&x.t(), 0).unwrap();
    assert_eq!(turned, p.t());
    assert_eq!(turned.strides(), p.t().strides());
    assert_eq!(softmax(&x.clone().into_dyn(), 1).unwrap(), p.clone().into_dyn());
    assert_eq!(softmax(&x.clone().into_shared(), 1).unwrap(), p);
    assert_eq!(softmax(&x.slice(s![..;-2, ..]), 1).unwrap(), p.slice(s![..;-2, ..]));
    assert_eq!(softmax(&x.row(3), 0).unwrap(), p.row(3));
    let image = x.clone().into_shape_with_order((1, ROWS, CLASSES)).unwrap().permuted_axes([0, 2, 1]);
    let image_p = softmax(&image, 1).unwrap();
    assert_eq!(image_p.index_axis(Axis(0), 0), p.t());
    assert_eq!(logsumexp(&image, 1).unwrap().index_axis(Axis(0), 0), logsumexp(&x, 1).unwrap());
    let none = Array3::<f64>::zeros((2, 0, 3));
    assert_eq!(logsumexp(&none, 1).unwrap(), Array2::from_elem((2, 3), f64::NEG_INFINITY));
    assert!(matches!(softmax(&x, 2), Err(Error::AxisOutOfRange { axis: 2, ndim: 2 })));
    let mut narrow = Array2::<f32>::zeros((ROWS, CLASSES - 1));
    let refused = softmax_into(&x, 1, &mut narrow, Context::new());
    assert!(matches!(refused, Err(Error::Shape { name: "out", .. })));
}

#[test]
fn losses_are_those_of_their_definitions() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let expected = nll(&x, &target);
    let loss = CrossEntropy::new();
    close(&loss.each_row(&x, &target, &call).unwrap(), &expected, 1e-14);
    let total: Total = loss.total(&x, &target, &call).unwrap();
    assert_eq!((total.counted, total.weight), (ROWS, ROWS as f64));
    near(total.sum, expected.sum());
    near(total.reduce(Reduction::Mean), expected.mean().unwrap());
    assert_eq!(total.reduce(Reduction::Sum), total.sum);
    let log_p = log_softmax(&x, 1).unwrap();
    close(&NllLoss::new().each_row(&log_p, &target, &call).unwrap(), &expected, 1e-14);

    let mut losses = Array1::<f32>::zeros(ROWS);
    loss.each_row_into(&x, &target, &call, &mut losses).unwrap();
    close(&wide(&losses), &expected, 1e-7);
    loss.each_row_into(&x, &target, &call, losses.slice_mut(s![..])).unwrap();

    let weight: Vec<f64> = (0..CLASSES).map(|c| 1.0 + c as f64).collect();
    let each_weight = target.map(|t| weight[*t]);
    let weighted = CrossEntropy::new().weight(&weight).total(&x, &target, &call).unwrap();
    near(weighted.reduce(Reduction::Mean), (&expected * &each_weight).sum() / each_weight.sum());
    let weighted = NllLoss::new().weight(&weight).total(&log_p, &target, &call).unwrap();
    near(weighted.sum, (&expected * &each_weight).sum());

    let smoothed = CrossEntropy::new().label_smoothing(0.25).each_row(&x, &target, &call).unwrap();
    let even = -log_p.mean_axis(Axis(1)).unwrap();
    close(&smoothed, &(0.75 * &expected + 0.25 * even), 1e-14);

    let squares = logsumexp(&x, 1).unwrap().map(|lse| 0.5 * lse * lse);
    let with_z = CrossEntropy::new().z_loss(0.5).weight(&weight).total(&x, &target, &call).unwrap();
    let mean = (&expected * &each_weight).sum() / each_weight.sum() + squares.sum() / ROWS as f64;
    near(with_z.reduce(Reduction::Mean), mean);
    near(with_z.sum, (&expected * &each_weight).sum() + squares.sum());
    close(
        &CrossEntropy::new().z_loss(0.5).each_row(&x, &target, &call).unwrap(),
        &(&expected + &squares),
        1e-14,
    );

    let probabilities = softmax(&x.slice(s![..;-1, ..]), 1).unwrap();
    let soft = loss.each_row(&x, &probabilities, &call).unwrap();
    close(&soft, &-(&probabilities * &log_p).sum_axis(Axis(1)), 1e-14);

    let transposed = CrossEntropy::new().axis(0).each_row(&x.t(), &target, &call).unwrap();
    assert_eq!(transposed, loss.each_row(&x, &target, &call).unwrap());
    assert_eq!(loss.each_row(&x.row(0), &arr0(target[0]), &call).unwrap(), arr0(transposed[0]));
    let log_p_0 = log_p.row(0).insert_axis(Axis(1));
    assert_eq!(NllLoss::new().axis(0).each_row(&log_p_0, &arr1(&[0_u8]), &call).unwrap()[0], -log_p[[0, 0]]);
}

#[test]
fn shards_of_the_classes_merge() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let cuts = [(0, 4), (4, 5), (5, CLASSES)];
    let parts = cuts.map(|(a, b)| shard_sums(&x.slice(s![.., a..b]), -1, Context::new()).unwrap());
    let merged: ShardSums<_> = parts[2].merge(&parts[0]).unwrap().merge(&parts[1]).unwrap();
    close(&merged.logsumexp(), &logsumexp(&x, 1).unwrap(), 1e-14);
    let upstream = Array1::from_shape_fn(ROWS, |n| n as f64 / 10.0 - 1.0);
    let mut whole = Array2::zeros((ROWS, CLASSES));
    let mut losses = Array1::<f64>::zeros(ROWS);
    let loss = CrossEntropy::new();
    loss.each_row_and_gradient(&x, &target, &call, &upstream, &mut whole, &mut losses).unwrap();
    let kept = Array1::from_shape_fn(ROWS, |n| n != 3);
    for (a, b) in cuts {
        let local = target.map(|t| (a..b).contains(t).then(|| t - a));
        let mut part = Array2::zeros((ROWS, b - a));
        let masked = Call::new().mask(&kept);
        let shard = x.slice(s![.., a..b]);
        shard_gradient_into(&shard, 1, &merged, &local, &upstream, &masked, &mut part).unwrap();
        let mut expected = whole.slice(s![.., a..b]).to_owned();
        expected.row_mut(3).fill(0.0);
        close(&part, &expected, 1e-14);
        let beyond = target.map(|_| Some(b - a));
        let refused = shard_gradient_into(&shard, 1, &merged, &beyond, &upstream, &call, &mut part);
        assert!(refused.unwrap_err().to_string().contains("class is out of range: got class[0]"));
    }
    let infinite = array![[f64::INFINITY, 0.0], [f64::NEG_INFINITY, f64::NEG_INFINITY], [f64::NAN, 0.0]];
    let sums = shard_sums(&infinite, 1, Context::new()).unwrap();
    let (merged, max) = (sums.merge(&sums).unwrap(), f64::INFINITY);
    assert_eq!((merged.max[0], merged.rest[0], merged.max[1], merged.rest[1]), (max, 0.0, -max, 0.0));
    assert!(merged.max[2].is_nan() && merged.rest[2].is_nan());
    let two = shard_sums(&infinite.slice(s![..2, ..]), 1, Context::new()).unwrap();
    assert!(sums.merge(&two).is_err());
}

fn boosting_of<E: Element + PartialEq + Debug>(tolerance: f64) {
    let (x, target) = (logits::<E>(), classes());
    let weight = Array1::from_shape_fn(ROWS, |n| n as f64 / 10.0);
    let p = softmax_of(&wide(&x));
    let class_weight: Vec<f64> = (0..CLASSES).map(|c| 0.5 + c as f64 / 8.0).collect();
    let (mut gradient, mut hessian) = (logits::<E>().t().as_standard_layout().into_owned(), logits::<E>());
    for (kind, multiple) in [
        (BoostingHessian::Diagonal, 1.0),
        (BoostingHessian::LightGbm, CLASSES as f64 / (CLASSES as f64 - 1.0)),
        (BoostingHessian::XgBoost, 2.0),
    ] {
        let objective = Boosting::new().class_weight(&class_weight).label_smoothing(0.1).hessian(kind);
        // Columns in, rows out, and the other way round.
        let columns = x.t().as_standard_layout().into_owned();
        let (mut by_column, context) = (gradient.view_mut().reversed_axes(), Context::new());
        objective
            .gradient_and_hessian(&columns.t(), &target, Some(&weight), &mut by_column, &mut hessian, context)
            .unwrap();
        let q = Array2::from_shape_fn((ROWS, CLASSES), |(n, c)| {
            let own = if c == target[n] { 0.9 } else { 0.0 };
            class_weight[c] * (own + 0.1 / CLASSES as f64)
        });
        let scale = q.sum_axis(Axis(1));
        let of = |n: usize, c: usize| weight[n] * (scale[n] * p[[n, c]] - q[[n, c]]);
        let expected = Array2::from_shape_fn((ROWS, CLASSES), |(n, c)| of(n, c));
        close(&wide(&gradient.t().to_owned()), &expected, tolerance);
        let expected = Array2::from_shape_fn((ROWS, CLASSES), |(n, c)| {
            weight[n] * multiple * scale[n] * p[[n, c]] * (1.0 - p[[n, c]])
        });
        close(&wide(&hessian), &expected, tolerance);
    }
    // Two classes by one score, and a function of the target's probability.
    let (scores, labels) = (x.column(0).to_owned(), target.map(|t| (t % 2) as u8));
    let (mut g, mut h) = (scores.clone(), scores.clone());
    Boosting::new().gradient_and_hessian(&scores, &labels, None, &mut g, &mut h, Context::new()).unwrap();
    let p = wide(&scores).map(|x| 1.0 / (1.0 + (-x).exp()));
    close(&wide(&g), &Array1::from_shape_fn(ROWS, |n| p[n] - f64::from(labels[n])), tolerance);
    close(&wide(&h), &p.map(|p| p * (1.0 - p)), tolerance);
    let focal = Boosting::new().function(TargetFunction::Focal { gamma: 2.0 });
    focal.gradient_and_hessian(&scores, &labels, None, &mut g, &mut h, Context::new()).unwrap();
    let slope = |n: usize| {
        let own = if labels[n] == 1 { p[n] } else { 1.0 - p[n] };
        let to = if labels[n] == 1 { 1.0 } else { -1.0 };
        -to * (1.0 - own).powi(3) * (1.0 - 2.0 * own * own.ln() / (1.0 - own))
    };
    close(&wide(&g), &Array1::from_shape_fn(ROWS, slope), tolerance);
}

#[test]
fn gradients_and_hessians_of_boosters_are_those_of_their_definitions_for_each_type() {
    boosting_of::<f64>(1e-14);
    boosting_of::<f32>(2e-6);
    boosting_of::<f16>(2e-2);
    boosting_of::<bf16>(1e-1);
    let mut out = Array2::<f64>::zeros((2, 3));
    let mut other = out.clone();
    let cube = Array3::<f64>::zeros((2, 3, 4));
    let (mut cube_out, mut cube_other) = (cube.clone(), cube.clone());
    let (objective, labels, context) = (Boosting::new(), arr1(&[0, 1]), Context::new());
    let refused =
        objective.gradient_and_hessian(&cube, &labels, None, &mut cube_out, &mut cube_other, context);
    assert!(matches!(refused, Err(Error::Shape { name: "scores", .. })));
    let floats = arr1(&[0.0, 1.0]);
    let refused = objective.gradient_and_hessian(&out.clone(), &floats, None, &mut out, &mut other, context);
    assert!(matches!(refused, Err(Error::FloatingTarget { .. })));
}

#[test]
fn a_teacher_of_known_probabilities() {
    let (x, call) = (logits::<f32>(), Call::new());
    let p = softmax_of(&wide(&logits::<f64>().slice(s![.., ..;-1]).to_owned()));
    let ids = Array2::from_shape_fn((ROWS, 2), |(n, j)| (n * 5 + j * 3) % CLASSES);
    let log_probs = Array2::from_shape_fn((ROWS, 2), |(n, j)| p[[n, ids[[n, j]]]].ln());
    let q = softmax_of(&wide(&x));
    let expected: Array1<f64> = (0..ROWS)
        .map(|n| {
            let known = |of: &Array2<f64>| of[[n, ids[[n, 0]]]] + of[[n, ids[[n, 1]]]];
            let term = |p: f64, q: f64| p * (p / q).ln();
            let tail = term(1.0 - known(&p), 1.0 - known(&q));
            tail + (0..2).map(|j| term(p[[n, ids[[n, j]]]], q[[n, ids[[n, j]]]])).sum::<f64>()
        })
        .collect();
    let teacher = TopKTeacher::new(&ids, &log_probs);
    close(&kl_div_topk(&x, &teacher, &call).unwrap(), &expected, 1e-12);
    let (upstream, mut gradient) = (Array1::ones(ROWS), Array2::<f32>::zeros((ROWS, CLASSES)));
    let again = kl_div_topk_and_gradient(&x, &teacher, &call, &upstream, &mut gradient).unwrap();
    close(&again, &expected, 1e-12);
    for (n, row) in gradient.outer_iter().enumerate() {
        assert!(row.iter().map(|g| f64::from(*g)).sum::<f64>().abs() < 1e-6);
        let class = ids[[n, 1]];
        assert!((f64::from(row[class]) - (q[[n, class]] - p[[n, class]])).abs() < 1e-6);
    }
    let mask = Array1::from_shape_fn(ROWS, |n| n > 0);
    let masked = kl_div_topk(&x, &teacher.clone().tail(false), &Call::new().mask(&mask)).unwrap();
    assert_eq!(masked[0], 0.0);
    let twice = Array2::<u8>::zeros((ROWS, 2));
    let refused = kl_div_topk(&x, &TopKTeacher::new(&twice, &log_probs), &call).unwrap_err();
    assert!(refused.to_string().contains("given twice: got teacher_ids[0, 1] = 0"), "{refused}");
    let positive = log_probs.mapv(|x| -x);
    assert!(kl_div_topk(&x, &TopKTeacher::new(&ids, &positive), &call).is_err());
    assert!(kl_div_topk(&x, &TopKTeacher::new(&log_probs, &log_probs), &call).is_err());
}

#[test]
fn targets_of_every_integer_type_are_taken() {
    let (x, call) = (logits::<f32>(), Call::new());
    let expected = CrossEntropy::new().total(&x, &classes(), &call).unwrap();
    macro_rules! check {
        ($($t:ident)+) => {$(
            let target = classes().map(|t| *t as $t);
            assert_eq!(CrossEntropy::new().total(&x, &target, &call).unwrap(), expected);
            assert_eq!(CrossEntropy::new().total(&x, target.view().into_dyn(), &call).unwrap(), expected);
            let target: Target<'_> = (&*target).into();
            assert_eq!(CrossEntropy::new().total(&x, &target, &call).unwrap(), expected);
            assert_eq!(CrossEntropy::new().total(&x, target, &call).unwrap(), expected);
        )+};
    }
    check! { i8 i16 i32 i64 u8 u16 u32 u64 usize isize }
    let numbers = [
        (Numbers::from(&array![1.5_f32]).dtype(), "f32"),
        (Numbers::from(&array![bf16::ONE]).dtype(), "bf16"),
        (Numbers::from(&array![1_i16]).dtype(), "i16"),
        (Numbers::from(&array![1_usize]).dtype(), if usize::BITS == 64 { "u64" } else { "u32" }),
    ];
    for (got, expected) in numbers {
        assert_eq!(got, expected);
    }
    assert!(Numbers::from(&array![1.5_f64]).is_floating() && !Numbers::from(&array![[1_u8]]).is_floating());
    assert_eq!(Numbers::from(&array![[1_u8, 2]]).shape(), [1, 2]);
    assert_eq!(FloatsMut::from(&mut arr0(f16::ONE)).shape(), [0_usize; 0]);
}

#[test]
fn rows_are_left_out_by_index_and_by_mask() {
    let (x, target) = (logits::<f32>(), classes().map(|t| *t as i64));
    let loss = CrossEntropy::new();
    let losses = loss.each_row(&x, &target, &Call::new()).unwrap();
    let mask = Array1::from_shape_fn(ROWS, |n| n % 3 > 0);
    let bytes = mask.map(|m| u8::from(*m) * 7);
    let expected: f64 = losses.iter().zip(&mask).map(|(loss, m)| if *m { *loss } else { 0.0 }).sum();
    let masks: [Mask<'_>; 6] = [
        (&mask).into(),
        (&*mask).into(),
        mask.view().into(),
        (&bytes).into(),
        (&*bytes).into(),
        bytes.view().into(),
    ];
    for mask in masks {
        let total = loss.total(&x, &target, &Call::new().mask(mask)).unwrap();
        assert_eq!(total.counted, 24);
        near(total.sum, expected);
    }
    let ignored = target.map(|t| if *t == 3 { 99 } else { *t });
    let left = loss.ignore_index(99).total(&x, &ignored, &Call::new()).unwrap();
    let log_p = log_softmax(&x, 1).unwrap();
    let same = NllLoss::new().ignore_index(99).total(&log_p, &ignored, &Call::new()).unwrap();
    assert_eq!((left.counted, same.counted), (target.iter().filter(|t| **t != 3).count(), left.counted));
    assert!(!loss.nothing_counted(&x, &target, &Call::new()).unwrap());
    let none = Array1::from_elem(ROWS, -100);
    assert!(loss.nothing_counted(&x, &none, &Call::new()).unwrap());
    assert!(loss.total(&x, &none, &Call::new()).unwrap().reduce(Reduction::Mean).is_nan());
}

#[test]
fn gradients_are_those_of_their_definitions_apart_and_in_place() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let mut expected = softmax_of(&x);
    target.iter().enumerate().for_each(|(n, t)| expected[[n, *t]] -= 1.0);
    let loss = CrossEntropy::new();
    let mut gradient = Array2::zeros(x.raw_dim());
    let total = loss.total_and_gradient(&x, &target, &call, Reduction::Mean, 3.0, &mut gradient).unwrap();
    assert_eq!(total, loss.total(&x, &target, &call).unwrap());
    close(&gradient, &(3.0 / ROWS as f64 * &expected), 1e-15);
    let mut place = x.clone();
    let same = loss.total_and_gradient_in_place(&mut place, &target, &call, Reduction::Mean, 3.0).unwrap();
    assert_eq!((same, &place), (total, &gradient));

    let upstream = Array1::from_shape_fn(ROWS, |n| n as f64 - 10.0);
    let mut losses = Array1::<f32>::zeros(ROWS);
    loss.each_row_and_gradient(&x, &target, &call, &upstream, &mut gradient, &mut losses).unwrap();
    close(&gradient, &(&expected * &upstream.view().insert_axis(Axis(1))), 1e-14);
    close(&wide(&losses), &nll(&x, &target), 1e-7);
    let (mut place, mut again) = (x.clone(), Array1::<f32>::zeros(ROWS));
    loss.each_row_and_gradient_in_place(&mut place, &target, &call, &upstream, &mut again).unwrap();
    assert_eq!((place, again), (gradient, losses));

    let log_p = log_softmax(&x, 1).unwrap();
    let mut gradient = Array2::ones(x.raw_dim());
    NllLoss::new().total_and_gradient(&log_p, &target, &call, Reduction::Sum, 1.0, &mut gradient).unwrap();
    assert_eq!(gradient.sum(), -(ROWS as f64));
    let short = arr1(&[1.0; ROWS - 1]);
    let refused =
        loss.each_row_and_gradient_in_place(&mut x.clone(), &target, &call, &short, &mut arr1(&[0.0; ROWS]));
    assert!(matches!(refused, Err(Error::Shape { name: "upstream", .. })));
}

#[test]
fn sums_with_factors_are_those_of_their_definition() {
    let x = logits::<f64>();
    let b = Array1::from_shape_fn(CLASSES, |c| (c % 3) as i16 - 1);
    let sums =
        x.map_axis(Axis(1), |row| row.iter().zip(&b).map(|(x, b)| f64::from(*b) * x.exp()).sum::<f64>());
    let (log, sign) = signed_logsumexp(&x, &b, &[-1]).unwrap();
    close(&log, &sums.mapv(|sum| sum.abs().ln()).into_dyn(), 1e-13);
    close(&sign, &sums.mapv(f64::signum).into_dyn(), 0.0);
    let (mut out, mut signs) = (Array1::<f32>::zeros(ROWS), Array1::from_elem(ROWS, f16::ZERO));
    let context = Context::new().threads(1);
    signed_logsumexp_into(&x, &b, &[1], &mut out, Some((&mut signs).into()), context).unwrap();
    close(&wide(&out).into_dyn(), &log, 1e-6);
    close(&signs.mapv(f64::from).into_dyn(), &sign, 0.0);
    signed_logsumexp_into(&x, &b, &[1], &mut out, None, context).unwrap();
    assert!(out.iter().zip(&sign).all(|(log, sign)| log.is_nan() == (*sign < 0.0)));
    let (all, _) = signed_logsumexp(&x, &arr0(1_u8), &[0, 1]).unwrap();
    near(all.sum(), x.mapv(f64::exp).sum().ln());
    let refused = signed_logsumexp(&x, &b, &[1, -1]).unwrap_err();
    assert_eq!(refused.to_string(), "an axis is named twice: got -1 again");
}

#[test]
fn functions_of_the_targets_probability_are_those_of_their_definitions() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let (nll, p) = (nll(&x, &target), softmax_of(&x));
    let p_of_target = nll.map(|nll| (-nll).exp());
    let miss = 1.0 - &p_of_target;
    let focal = TargetLoss::new(TargetFunction::Focal { gamma: 2.0 });
    let poly = TargetLoss::new(TargetFunction::Poly { epsilon: 0.5 });
    let expected = [
        (focal, &miss * &miss * &nll, &miss * (&miss + 2.0 * &p_of_target * &nll)),
        (poly, &nll + 0.5 * &miss, 1.0 + 0.5 * &p_of_target),
    ];
    for (loss, values, slopes) in expected {
        close(&loss.each_row(&x, &target, &call).unwrap(), &values, 1e-13);
        near(loss.total(&x, &target, &call).unwrap().sum, values.sum());
        let mut gradient = p.clone();
        target.iter().enumerate().for_each(|(n, t)| gradient[[n, *t]] -= 1.0);
        gradient *= &slopes.insert_axis(Axis(1));
        let mut got = Array2::zeros(x.raw_dim());
        loss.total_and_gradient(&x, &target, &call, Reduction::Sum, 1.0, &mut got).unwrap();
        close(&got, &gradient, 1e-13);

        let weight: Vec<f64> = (0..CLASSES).map(|c| 1.0 + c as f64).collect();
        let each_weight = target.map(|t| weight[*t]);
        let weighted = loss.weight(&weight).ignore_index(-1).axis(-1).total(&x, &target, &call).unwrap();
        near(weighted.reduce(Reduction::Mean), (&values * &each_weight).sum() / each_weight.sum());
        assert!(matches!(loss.total(&x, &x, &call), Err(Error::FloatingTarget { .. })));
    }
    let refused = TargetLoss::new(TargetFunction::Focal { gamma: -1.0 }).total(&x, &target, &call);
    assert!(matches!(refused, Err(Error::Option { name: "gamma", .. })));
}

#[test]
fn losses_of_elements_are_those_of_their_definitions() {
    let x = logits::<f64>();
    let (y, context) = (softmax(&x, 1).unwrap(), Context::new());
    let t = y.slice(s![..;-1, ..]).to_owned();
    let check = |loss: ElementLoss<'_>, input: &Array2<f64>, formula: &dyn Fn(f64, f64) -> f64| {
        let mut expected = input.clone();
        expected.zip_mut_with(&t, |x, t| *x = formula(*x, *t));
        let loss = Elementwise::new(loss);
        let each: ArrayD<f64> = loss.each(input, &t, context).unwrap();
        close(&each, &expected.clone().into_dyn(), 1e-14);
        near(loss.total(input, &t, context).unwrap().sum, expected.sum());
    };
    check(ElementLoss::BinaryCrossEntropy { clamp: Some(-100.0) }, &y, &|x, t| {
        -(t * x.ln() + (1.0 - t) * (-x).ln_1p())
    });
    check(ElementLoss::BinaryCrossEntropyWithLogits { pos_weight: None }, &x, &|x, t| {
        x.max(0.0) - t * x + (-x.abs()).exp().ln_1p()
    });
    check(ElementLoss::SigmoidFocal { alpha: Some(0.25), gamma: 2.0 }, &x, &|x, t| {
        let (p, ce) = (1.0 / (1.0 + (-x).exp()), x.max(0.0) - t * x + (-x.abs()).exp().ln_1p());
        let miss = p * (1.0 - t) + (1.0 - p) * t;
        (0.25 * t + 0.75 * (1.0 - t)) * ce * miss * miss
    });
    check(ElementLoss::KlDivergence { log_target: false }, &x, &|x, t| t * (t.ln() - x));
    check(ElementLoss::PoissonNll { log_input: true, full: false, eps: 1e-8 }, &x, &|x, t| x.exp() - t * x);
    let var = arr0(2.0);
    let gaussian = ElementLoss::GaussianNll { var: (&var).into(), full: false, eps: 1e-6 };
    check(gaussian, &x, &|x, t| 0.5 * (2.0_f64.ln() + (x - t).powi(2) / 2.0));
}

#[test]
fn gradients_of_elements_come_apart_and_in_place() {
    let (x, context) = (logits::<f32>(), Context::new());
    let bits = x.map(|x| u8::from(*x > 0.5));
    let weight = Array1::from_shape_fn(CLASSES, |c| c as f64);
    let loss =
        Elementwise::new(ElementLoss::BinaryCrossEntropyWithLogits { pos_weight: None }).weight(&weight);
    // (sigmoid(x) - t) w / elements
    let mut expected = wide(&x).map(|x| 1.0 / (1.0 + (-x).exp())) - bits.map(|t| f64::from(*t));
    expected = expected * &weight / x.len() as f64;
    let (mut gradient, mut place) = (x.clone(), x.clone());
    let total = loss.total_and_gradient(&x, &bits, Reduction::Mean, 1.0, &mut gradient, context).unwrap();
    close(&wide(&gradient), &expected, 1e-6);
    let same = loss.total_and_gradient_in_place(&mut place, &bits, Reduction::Mean, 1.0, context).unwrap();
    assert_eq!((same, &place, total.counted), (total, &gradient, x.len()));
    assert_eq!(total, loss.total(&x, &bits, context).unwrap());

    let upstream = Array2::from_elem(x.raw_dim(), 1.0 / x.len() as f64);
    let (mut each, mut losses) = (x.clone(), x.clone());
    loss.each_and_gradient(&x, &bits, &upstream, &mut each, &mut losses, context).unwrap();
    close(&wide(&each), &expected, 1e-6);
    let (mut place, mut again) = (x.clone(), x.clone());
    loss.each_and_gradient_in_place(&mut place, &bits, &upstream, &mut again, context).unwrap();
    assert_eq!((&place, &again), (&each, &losses));
    loss.each_into(&x, &bits, &mut again, context).unwrap();
    assert_eq!(again, losses);

    let kl = Elementwise::new(ElementLoss::KlDivergence { log_target: true });
    let (log_p, positive) = (array![-1.0, -2.0], Some(LikelyMisuse::PositiveLogProbability));
    assert_eq!(kl.likely_misuse(&log_p, &log_p), None);
    assert_eq!(kl.likely_misuse(&log_p, &array![0.5, 0.5]), positive);
    assert_eq!(kl.likely_misuse(&array![0.5, 0.5], &log_p), positive);
    assert_eq!(loss.likely_misuse(&x, &bits), None);
}

#[test]
fn an_element_that_is_refused_is_named() {
    let loss = Elementwise::new(ElementLoss::BinaryCrossEntropy { clamp: None });
    let found = loss.total(&array![[0.5, 1.5]], &array![[1.0, 1.0]], Context::new());
    let Err(Error::Element { name: "input", index, value: 1.5, .. }) = &found else { panic!("{found:?}") };
    assert_eq!(index, &[0, 1]);
}

#[test]
fn scores_are_those_of_their_definitions() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let options = Score::new().top_k(&[1, 4]);
    let scores: Scores<_> = score(&x, &target, &options, &call).unwrap();
    close(&scores.nll, &nll(&x, &target), 1e-14);
    close(&scores.logsumexp, &logsumexp(&x, 1).unwrap(), 1e-14);
    let (p, log_p) = (softmax(&x, 1).unwrap(), log_softmax(&x, 1).unwrap());
    close(&scores.entropy, &-(&p * &log_p).sum_axis(Axis(1)), 1e-13);
    let top = (scores.top_classes.as_ref().unwrap(), scores.top_log_probs.as_ref().unwrap());
    assert_eq!((top.0.shape(), top.1.shape()), (&[ROWS, 4][..], &[ROWS, 4][..]));
    for (n, row) in x.outer_iter().enumerate() {
        let mut order: Vec<usize> = (0..CLASSES).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let rank = 1 + order.iter().position(|c| *c == target[n]).unwrap();
        assert_eq!((scores.prediction[n], scores.rank[n]), (order[0] as i64, rank as i64));
        assert_eq!((scores.correct[n], scores.counted[n]), (rank == 1, true));
        for k in 0..4 {
            assert_eq!(top.0[[n, k]], order[k] as i64);
            near(top.1[[n, k]], log_p[[n, order[k]]]);
        }
    }

    let transposed = score(&x.t(), &target, &options.axis(0), &call).unwrap();
    assert_eq!((&transposed.nll, transposed.top_classes.unwrap()), (&scores.nll, top.0.clone()));
    let refused = score(&x, &target, &Score::new().top_k(&[CLASSES + 1]), &call).unwrap_err();
    assert!(matches!(refused, Error::Option { name: "top_k", .. }), "{refused}");

    let mut nll = Array1::<f32>::zeros(ROWS);
    let (mut lse, mut entropy) = (nll.clone(), nll.clone());
    let (mut prediction, mut rank) = (Array1::zeros(ROWS), Array1::zeros(ROWS));
    let (mut counted, mut correct) = (Array1::default(ROWS), Array1::default(ROWS));
    let (mut ids, mut log_probs) = (Array2::zeros((ROWS, 4)), Array2::zeros((ROWS, 4)));
    let columns = Columns::new().nll(&mut nll).logsumexp(&mut lse).entropy(&mut entropy);
    let columns = columns.prediction(&mut prediction).rank(&mut rank).counted(&mut counted);
    let mut unrounded = Array1::zeros(ROWS);
    let columns = columns.correct(&mut correct).top_classes(&mut ids).top_log_probs(&mut log_probs);
    let columns = columns.unrounded_nll(&mut unrounded);
    score_into(&x, &target, &options, &call, columns).unwrap();
    let narrow = |column: &Array1<f64>| column.map(|x| *x as f32);
    assert_eq!(
        (nll, lse, entropy),
        (narrow(&scores.nll), narrow(&scores.logsumexp), narrow(&scores.entropy))
    );
    assert_eq!(unrounded, scores.nll);
    assert_eq!((prediction, rank), (scores.prediction.clone(), scores.rank.clone()));
    assert_eq!((counted, correct), (scores.counted.clone(), scores.correct.clone()));
    assert_eq!((&ids, log_probs), (top.0, top.1.map(|x| *x as f32)));

    // Where no largest classes are asked for, it does not matter that there are fewer.
    let mut rank = Array1::zeros(ROWS);
    let more = Score::new().top_k(&[1, 2 * CLASSES]);
    let columns = Columns::<f64>::new().rank(&mut rank);
    let sums = score_with_sums(&x, &target, &more, &call, columns).unwrap();
    assert_eq!((rank, sums.top[1]), (scores.rank, ROWS as u64));
}

#[test]
fn sums_give_the_figures_of_their_definitions_and_merge_to_the_same_bits() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let groups: Vec<u16> = (0..ROWS as u16).map(|n| n % 3).collect();
    let options = Score::new().top_k(&[1, 4]).bins(5);
    let all: ScoreSums = score_sums(&x, &target, &options.groups(&groups), &call).unwrap();
    let scores = score(&x, &target, &options, &call).unwrap();
    let (mean, n) = (scores.nll.mean().unwrap(), ROWS as f64);
    near(all.mean(), mean);
    near(all.standard_error(), (scores.nll.map(|x| (x - mean).powi(2)).sum() / (n - 1.0) / n).sqrt());
    near(all.perplexity(), mean.exp());
    let (low, high) = all.perplexity_interval();
    near((low * high).sqrt(), mean.exp());
    near((high / low).ln(), 2.0 * 1.959_963_984_540_053_6 * all.standard_error());
    near(all.bits_per_row(), mean / 2.0_f64.ln());
    near(all.mean_entropy(), scores.entropy.mean().unwrap());
    near(all.mean_reciprocal_rank(), scores.rank.map(|r| 1.0 / *r as f64).mean().unwrap());
    let hits = |k: i64| scores.rank.iter().filter(|r| **r <= k).count() as f64 / n;
    assert_eq!((all.accuracy(), all.top_k_accuracy()), (hits(1), vec![(1, hits(1)), (4, hits(4))]));
    let p = softmax(&x, 1).unwrap();
    let mut errors = p.clone();
    target.iter().enumerate().for_each(|(n, t)| errors[[n, *t]] -= 1.0);
    near(all.brier_score(), errors.map(|e| e * e).sum() / n);
    let confidence = p.map_axis(Axis(1), |row| row.fold(0.0, |max: f64, p| max.max(*p)));
    let mut gaps = [0.0; 5];
    for (c, correct) in confidence.iter().zip(&scores.correct) {
        gaps[((c * 5.0).ceil() as usize).max(1) - 1] += f64::from(u8::from(*correct)) - c;
    }
    near(all.expected_calibration_error(), gaps.iter().map(|gap| gap.abs()).sum::<f64>() / n);
    let bins: &[Bin] = &all.bins;
    assert_eq!((bins.len(), bins.iter().map(|bin| bin.count).sum::<u64>()), (5, ROWS as u64));
    let used = bins.iter().find(|bin| bin.count > 0).unwrap();
    assert!(used.mean_confidence() <= 1.0 && used.accuracy() <= 1.0);
    let group: &Group = &all.groups[1];
    let of_group: Vec<f64> = scores.nll.iter().skip(1).step_by(3).copied().collect();
    near(group.mean(), of_group.iter().sum::<f64>() / of_group.len() as f64);
    assert!(group.standard_error() > 0.0);
    assert_eq!((all.ignored(), all.nonfinite, all.first_nonfinite), (0, 0, None));
    assert_eq!(all.histogram.iter().sum::<u64>(), ROWS as u64);

    let mut parts = ScoreSums::default();
    for range in [0..5, 5..6, 6..ROWS] {
        let call = Call::new().context(Context::new().threads(2));
        let (x, target) = (x.slice(s![range.clone(), ..]), target.slice(s![range.clone()]));
        parts.merge(&score_sums(&x, &target, &options.groups(&groups[range]), &call).unwrap());
    }
    assert_eq!(parts, all);
    let log_probs = log_softmax(&x, 1).unwrap();
    let same = score_sums(&log_probs, &target, &options.log_probs(true), &call).unwrap();
    near(same.mean(), all.mean());
    assert!(matches!(
        score_sums(&x, &target, &options.groups(&groups[1..]), &call),
        Err(Error::Shape { name: "groups", .. })
    ));
}

#[test]
fn comparisons_are_those_of_their_definitions() {
    let (x, target, call, options) = (logits::<f64>(), classes(), Call::new(), Score::new());
    let y = x.map(|x| (x * 0.9) as f32);
    let (p, q) = (softmax_of(&x), softmax_of(&y.map(|y| f64::from(*y))));
    let kl = |p: &Array2<f64>, q: &Array2<f64>| (p * &(p.ln() - q.ln())).sum_axis(Axis(1));
    let of_targets = Target::from(&target);
    let (sums, rows): (ComparisonSums, ComparisonRows) =
        compare_sums(&x, &y, Some(&of_targets), &options, &call).unwrap();
    close(&Array1::from_vec(rows.forward.clone()), &kl(&p, &q), 1e-13);
    near(sums.kl_mean(), kl(&p, &q).mean().unwrap());
    near(sums.kl_standard_error(), kl(&p, &q).std(1.0) / (ROWS as f64).sqrt());
    near(sums.reverse_kl_mean(), kl(&q, &p).mean().unwrap());
    let m = (&p + &q) / 2.0;
    near(sums.jensen_shannon_mean(), ((kl(&p, &m) + kl(&q, &m)) / 2.0).mean().unwrap());
    assert_eq!((sums.same_top_share(), sums.same_top_standard_error(), sums.ignored()), (1.0, 0.0, 0));
    let targets: &TargetSums = sums.targets.as_ref().unwrap();
    let (a, b) = (nll(&x, &target), nll(&y.map(|y| f64::from(*y)), &target));
    near(targets.nll_mean(), a.mean().unwrap());
    near(targets.other_nll_mean(), b.mean().unwrap());
    near(targets.log_perplexity_ratio(), (&b - &a).mean().unwrap());
    near(targets.log_perplexity_ratio_standard_error(), (&b - &a).std(1.0) / (ROWS as f64).sqrt());
    near(targets.perplexity_ratio(), (&b - &a).mean().unwrap().exp());
    assert_eq!(
        targets.perplexity_ratio_standard_error(),
        targets.perplexity_ratio() * targets.log_perplexity_ratio_standard_error()
    );
    near(targets.perplexity_difference(), b.mean().unwrap().exp() - a.mean().unwrap().exp());
    assert!(targets.perplexity_difference_standard_error() > 0.0);
    let (a_off, b_off) = (&a - a.mean().unwrap(), &b - b.mean().unwrap());
    near(targets.correlation(), (&a_off * &b_off).mean().unwrap() / a.std(0.0) / b.std(0.0));
    let difference = b.map(|b| (-b).exp()) - a.map(|a| (-a).exp());
    close(&Array1::from_vec(rows.difference.clone()), &difference, 1e-13);
    near(targets.mean_difference(), difference.mean().unwrap());
    near(targets.mean_difference_standard_error(), difference.std(1.0) / (ROWS as f64).sqrt());
    near(targets.rms_difference(), difference.map(|d| d * d).mean().unwrap().sqrt());
    assert!(targets.rms_difference_standard_error() > 0.0);
    let extremes =
        |values: &[f64]| values.iter().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(*x), b.max(*x)));
    let kl_extremes = rows.kl_percentiles(&[0.0, 100.0]);
    assert_eq!((kl_extremes[0], kl_extremes[1]), extremes(&rows.forward));
    let extreme = rows.difference_percentiles(&[0.0, 100.0]);
    assert_eq!((extreme[0], extreme[1]), extremes(&rows.difference));

    let (mut parts, mut part_rows) = (ComparisonSums::default(), ComparisonRows::default());
    for range in [0..9, 9..ROWS] {
        let target = target.slice(s![range.clone()]);
        let (x, y) = (x.slice(s![range.clone(), ..]), y.slice(s![range, ..]));
        let (sums, rows) = compare_sums(&x, &y, Some(&target.into()), &options, &call).unwrap();
        parts.merge(&sums);
        part_rows.merge(&rows);
    }
    assert_eq!((parts, part_rows), (sums, rows));
    let (alone, _) = compare_sums(&x, &y, None, &options, &call).unwrap();
    assert!(alone.targets.is_none());
    let refused = compare_sums(&x, &y.slice(s![1.., ..]), None, &options, &call).unwrap_err();
    assert!(matches!(refused, Error::Shape { name: "other", .. }));
}

#[test]
fn temperatures_and_log_losses_are_those_of_their_definitions() {
    let (x, target, call) = (logits::<f64>(), classes(), Call::new());
    let sums: TemperatureSums = temperature_sums(&x, &target, 0.5, &Score::new(), &call).unwrap();
    let at = |b: f64| nll(&(&x * b), &target).mean().unwrap();
    near(sums.mean(), at(0.5));
    let h = 1e-4;
    assert!((sums.mean_slope() - (at(0.5 + h) - at(0.5 - h)) / (2.0 * h)).abs() < 1e-6);
    assert!((sums.mean_curvature() - (at(0.5 + h) - 2.0 * at(0.5) + at(0.5 - h)) / (h * h)).abs() < 1e-5);
    let mut twice = sums.clone();
    twice.merge(&sums);
    assert_eq!((twice.count, twice.mean()), (2 * ROWS as u64, sums.mean()));
    let weight: Vec<f64> = (0..ROWS).map(|n| (n % 3) as f64).collect();
    let weighted = temperature_sums(&x, &target, 0.5, &Score::new().weight(&weight), &call).unwrap();
    let each = nll(&(&x * 0.5), &target);
    near(weighted.mean(), (&each * &Array1::from(weight.clone())).sum() / weight.iter().sum::<f64>());
    // What a row is repeated it may weigh.
    let at_least = |least: usize| {
        let kept = Array1::from_shape_fn(ROWS, |n| n % 3 >= least);
        temperature_sums(&x, &target, 0.5, &Score::new(), &Call::new().mask(&kept)).unwrap()
    };
    let mut repeated = at_least(1);
    repeated.merge(&at_least(2));
    assert_eq!((&repeated.nll, &repeated.weight), (&weighted.nll, &weighted.weight));
    assert_eq!((&repeated.slope, &repeated.curvature), (&weighted.slope, &weighted.curvature));
    assert_eq!(weighted.count, weight.iter().filter(|w| **w > 0.0).count() as u64);
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let mut weight = weight.clone();
        weight[4] = bad;
        let refused = temperature_sums(&x, &target, 0.5, &Score::new().weight(&weight), &call).unwrap_err();
        assert!(
            matches!(&refused, Error::Element { name: "weight", index, .. } if index == &[4]),
            "{refused}"
        );
    }

    let p = softmax(&x, 1).unwrap();
    let weight = Array1::from_shape_fn(ROWS, |n| 1.0 + n as f64);
    let loss = |weight| log_loss(&p, &target, weight, 1e-15, 1e-8, Context::new()).unwrap();
    let (plain, weighted): (LogLoss, LogLoss) = (loss(None), loss(Some(&*weight)));
    near(plain.mean(), nll(&x, &target).mean().unwrap());
    near(weighted.mean(), (nll(&x, &target) * &weight).sum() / weight.sum());
    assert_eq!((plain.rows, plain.improper, plain.not_normalised), (ROWS as u64, None, None));
    let mut twice = plain.clone();
    twice.merge(&plain);
    assert_eq!((twice.rows, twice.mean()), (2 * ROWS as u64, plain.mean()));
    let one = log_loss(&array![[0.25_f32]], &array![0], None, 1e-7, 1e-3, Context::new()).unwrap();
    near(one.mean(), -(0.75_f64.ln()));
    let odd = log_loss(&array![[0.5, 0.6], [1.5, 0.0]], &array![0_u8, 1], None, 1e-15, 1e-8, Context::new());
    let odd = odd.unwrap();
    assert_eq!((odd.improper, odd.not_normalised), (Some(1), Some(0)));
    for class in [array![0_i64, 2], array![0, -1]] {
        let p = array![[0.5, 0.5], [0.5, 0.5]];
        let refused = log_loss(&p, &class, None, 1e-15, 1e-8, Context::new()).unwrap_err();
        assert!(
            matches!(&refused, Error::Element { name: "class", index, .. } if index == &[1]),
            "{refused}"
        );
    }
    let floating = log_loss(&p, &weight, None, 1e-15, 1e-8, Context::new()).unwrap_err();
    assert!(matches!(floating, Error::FloatingTarget { function: "log_loss", .. }));
}

#[test]
fn values_are_looked_at() {
    let (x, call, options) = (logits::<f32>(), Call::new(), Score::new());
    let p = softmax(&x, 1).unwrap();
    let found =
        |rows: &Array2<f32>, log_probs| likely_misuse(rows, None, &options.log_probs(log_probs), &call);
    assert_eq!(found(&x, false).unwrap(), None);
    assert_eq!(found(&p, false).unwrap(), Some(LikelyMisuse::Probabilities));
    assert_eq!(found(&x, true).unwrap(), Some(LikelyMisuse::PositiveLogProbability));
    let target = classes();
    let of_targets = Target::from(&target);
    let loss = CrossEntropy::new();
    assert_eq!(loss.likely_misuse(&p, &target, &call).unwrap(), Some(LikelyMisuse::Probabilities));
    let one = x.slice(s![.., ..1]);
    let zeros = Array1::<u8>::zeros(ROWS);
    assert_eq!(loss.likely_misuse(&one, &zeros, &call).unwrap(), Some(LikelyMisuse::OneClass));
    check_targets(&x, Some(&of_targets), &options, &call).unwrap();
    let few = check_targets(&x.slice(s![.., ..3]), Some(&of_targets), &options, &call).unwrap_err();
    let Error::TargetOutOfRange { index, classes: 3, found: Some(of_few), .. } = &few else {
        panic!("{few}")
    };
    let of_few: &TargetsFound = of_few;
    assert_eq!((index[0], of_few.inside, of_few.ignored), (1, Some((0, 2)), false));

    let (found, first) = targets_found(&target, 3, -100).unwrap();
    assert_eq!((found, first), (*of_few, Some(1)));
    let refused = targets_found(&array![0.5], 3, -100).unwrap_err();
    assert!(matches!(refused, Error::FloatingTarget { function: "targets_found", .. }));

    let (mut active, mask) = (Array1::from_elem(ROWS, true), classes().map(|class| *class != 1));
    let masked = call.clone().mask(&mask);
    active_rows(&x, Some(&of_targets), &options.ignore_index(0), &masked, &mut active).unwrap();
    assert_eq!(active, target.map(|class| *class > 1));
    active_rows(&x, None, &options.ignore_index(0), &masked, &mut active).unwrap();
    assert_eq!(active, mask);
    let wrong = active_rows(&x, None, &options, &call, &mut Array1::from_elem(3, true)).unwrap_err();
    assert!(matches!(wrong, Error::Shape { name: "out", .. }));

    let found: FirstValues = likely_values(&p.t(), 0).unwrap();
    assert_eq!((found.values, found.has_positive), (LikelyValues::Probabilities, true));
    assert_eq!(likely_values(&x, 1).unwrap().values, LikelyValues::Logits);

    let mut log_p = Array2::zeros(p.raw_dim());
    let improper = log_of_probabilities(&p, Some(&of_targets), &options, &call, &mut log_p).unwrap();
    assert_eq!(improper, Improper::default());
    close(&log_p, &p.map(|p| f64::from(*p).ln()), 1e-14);
}

#[test]
fn exact_sums_are_exact() {
    let mut sum = ExactSum::default();
    sum.add(1e300);
    sum.add_square(3.0);
    sum.add_product(1.0 + f64::EPSILON, 1.0 - f64::EPSILON);
    sum.extend([-1e300, -10.0]);
    // (1 + e) (1 - e) = 1 - e^2.
    assert_eq!(sum.to_f64(), -f64::EPSILON * f64::EPSILON);
    assert_eq!(sum.mean(2), -f64::EPSILON * f64::EPSILON / 2.0);
    assert!(sum.is_finite() && sum == [-f64::EPSILON * f64::EPSILON].into_iter().collect());
    sum.merge(&[f64::INFINITY, 1.0].into_iter().collect());
    assert_eq!((sum.to_f64(), sum.is_finite()), (f64::INFINITY, false));
    assert_eq!(ExactSum::from_iter([5e-324]).units().0[..2], [1, 0]);
    assert_eq!(sum.units().1, [1, 0, 0]);
}

#[test]
fn calls_are_bounded_and_interrupted() {
    let before = num_threads().unwrap();
    set_num_threads(NonZero::new(2).unwrap()).unwrap();
    assert_eq!(num_threads().unwrap(), 2);
    set_num_threads(NonZero::new(before).unwrap()).unwrap();
    assert!(before <= MAX_THREADS);
    assert!(available_isas().contains(&selected_isa().unwrap()));

    let (one, stop) = (arr0(1.0_f32), || true);
    let endless = one.broadcast((1 << 24, 64)).unwrap();
    let target = arr0(0_u8);
    let target = target.broadcast(1 << 24).unwrap();
    for threads in [1, 2] {
        let interrupt = Interrupt::new(&stop);
        let context = Context::new().threads(threads).interrupt(&interrupt).untouched(false);
        let call = Call::new().context(context);
        let result = CrossEntropy::new().total(&endless, target, &call);
        assert_eq!(result.unwrap_err(), Error::Interrupted);
    }
}

#[test]
fn errors_speak_of_the_crate_alone() {
    let (x, call) = (logits::<f32>(), Call::new());
    let target = classes();
    let loss = CrossEntropy::new();
    let elements = Elementwise::new(ElementLoss::BinaryCrossEntropy { clamp: Some(1.0) });
    let var = array![-1.0, 1.0];
    let gaussian = Elementwise::new(ElementLoss::GaussianNll { var: (&var).into(), full: true, eps: 0.0 });
    let [short, long] = [arr1(&[true; 2]), Array1::from_elem(ROWS + 1, true)];
    let of_losses = [
        loss.total(&x, &target.slice(s![1..]), &call),
        loss.total(&x, &array![0.5_f32], &call),
        loss.total(&x, &target.map(|t| *t as f32), &call),
        loss.total(&x, &target.map(|t| *t + 20), &call),
        loss.total(&x, &target, &Call::new().mask(&long)),
        loss.total(&x.slice(s![0, 0]), &target, &call),
        loss.ignore_index(0).total(&x, &x, &call),
        loss.label_smoothing(2.0).total(&x, &target, &call),
        loss.weight(&[1.0]).total(&x, &target, &call),
        loss.axis(5).total(&x, &target, &call),
        NllLoss::new().total(&x, &x, &call),
        elements.total(&array![0.5], &array![0.5], Context::new()),
        Elementwise::new(ElementLoss::BinaryCrossEntropy { clamp: None }).total(
            &array![2.0],
            &array![0.5],
            Context::new(),
        ),
        gaussian.total(&array![0.5, 0.5], &array![0.5, 0.5], Context::new()),
        gaussian.total(&array![0.5], &array![0.5], Context::new()),
        Elementwise::new(ElementLoss::KlDivergence { log_target: false }).weight(&x).total(
            &array![0.5],
            &array![0.5],
            Context::new(),
        ),
    ];
    let mut texts: Vec<String> =
        of_losses.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    let masked = Call::new().mask(&short);
    texts.push(score_sums(&x, &target, &Score::new(), &masked).unwrap_err().to_string());
    texts.push(temperature_sums(&x, &x, 1.0, &Score::new(), &call).unwrap_err().to_string());
    texts.push(compare_sums(&x, &x, Some(&(&x).into()), &Score::new(), &call).unwrap_err().to_string());
    for text in &texts {
        for word in ["numpy", "NumPy", "Python", "torch", "where", "axis=", "grad_out", "float32", "int64"] {
            assert!(!text.contains(word), "{word} in: {text}");
        }
    }
    assert!(texts[4].starts_with("mask has the wrong shape: got (38,), expected (37,)"), "{}", texts[4]);
    assert!(texts[10].contains("got a target of dtype f32"), "{}", texts[10]);
    let refused = loss.total(&x, &target.map(|t| *t as f64), &call).unwrap_err();
    let Error::TargetShape { held, .. } = &refused else { panic!("{refused}") };
    let Held { dtype, floating, numbers, .. } = &**held;
    let numbers: &HeldNumbers = numbers.as_ref().unwrap();
    assert_eq!((*dtype, *floating, numbers.whole, numbers.largest), ("f64", true, true, 10.0));
}

#[test]
fn public_types_can_be_printed_and_sent() {
    fn debug<T: Debug>() {}
    fn sent<T: Send + Sync>() {}
    macro_rules! check {
        ($($t:ty)+) => {$( debug::<$t>(); sent::<$t>(); )+};
    }
    check! {
        Bin Boosting<'static> BoostingHessian Call<'static> Columns<'static, f32> ComparisonRows ComparisonSums Context<'static>
        CrossEntropy<'static> ElementLoss<'static> Elementwise<'static> Error ExactSum FloatsMut<'static> Group
        Held HeldNumbers Improper Interrupt<'static> LikelyMisuse LogLoss Mask<'static> NllLoss<'static>
        Numbers<'static> Reduction Score<'static> ScoreSums Scores<crossent::ndarray::Ix2> TargetFunction
        TargetLoss<'static> TargetSums TargetsFound TemperatureSums Total
    }
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(Error::Interrupted);
    assert_eq!(error.to_string(), "interrupted");
    let options = format!("{:?} {:?} {:?}", CrossEntropy::new(), NllLoss::new(), Call::new());
    assert!(options.contains("ignore_index: -100"), "{options}");
}

#[test]
fn bits_are_those_that_are_recorded() {
    bits::compare();
}

#[test]
#[ignore = "bits_are_those_that_are_recorded runs it at each level"]
fn bits_of_the_level() {
    bits::print();
}
