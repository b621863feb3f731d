//! The losses and row functions on one thread, by criterion: `cargo bench`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossent::{
    Call, ClassLoss, Context, CrossEntropy, Reduction, log_softmax_into, logsumexp_into, softmax_into,
};
use ndarray::{Array, ArrayD, IxDyn};

/// Numbers like logits, from a linear congruential generator.
fn logits(shape: &[usize]) -> ArrayD<f32> {
    let mut state = 1_u64;
    Array::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 1e6 - 8.0
    })
}

fn benches(c: &mut Criterion) {
    let one = Context::new().threads(1);
    for shape in [&[64, 1000][..], &[4, 50257], &[10_000, 10], &[100_000, 2], &[1, 21, 64, 512]] {
        let x = logits(shape);
        let rows: Vec<usize> = shape.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, n)| *n).collect();
        let target = Array::from_shape_fn(IxDyn(&rows), |i| i[0] as i64 % shape[1] as i64);
        let (loss, call) = (CrossEntropy::new(), Call::new().context(one));
        let mut group = c.benchmark_group(format!("{shape:?}"));
        group.throughput(Throughput::Elements(x.len() as u64));
        group.bench_function("cross_entropy", |b| {
            b.iter(|| loss.total(black_box(&x), &target, &call).unwrap().reduce(Reduction::Mean));
        });
        let mut per_row = ArrayD::<f32>::zeros(IxDyn(&rows));
        group.bench_function("logsumexp", |b| {
            b.iter(|| logsumexp_into(black_box(&x), 1, &mut per_row, one).unwrap());
        });
        let mut out = x.clone();
        group.bench_function("log_softmax", |b| {
            b.iter(|| log_softmax_into(black_box(&x), 1, &mut out, one).unwrap());
        });
        group.bench_function("softmax", |b| {
            b.iter(|| softmax_into(black_box(&x), 1, &mut out, one).unwrap());
        });
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
