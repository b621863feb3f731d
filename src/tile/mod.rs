//! A tile of rows on its way through the kernels: located, packed or gathered, summed, and then weighted or written.
//!
//! There are two ways. Short rows (at most `SHORT_ROW` classes) are packed class by class, lanes across the rows. Long
//! rows go to their kernel block by block: as slices where the classes are contiguous, else gathered a group of rows at
//! a time. Those of at most a block that are no slices are packed too, unless statistics are wanted, and summed in the
//! order of the long rows' kernel. In which order a row is summed depends on its number of classes alone: layouts cannot
//! change a bit. Rows of more than `SEGMENT` classes are cut into segments, which are split among the threads where there
//! are too few rows for them.
//!
//! All of it runs on the instruction set that was chosen for the chunk: each `#[simd]` method is compiled once for each
//! level and element type, together with the functions marked `#[inline(always)]` that it calls.

mod long;
mod output;
mod short;
mod sums;
mod walk;
mod weighted;

pub(crate) use self::output::{HessianMemory, TileGradient, TileHessian, write_zeros};
pub(crate) use self::sums::{Tile, Tiles};
pub(crate) use self::walk::{row_group, row_group_read_once, split_threads};
pub(crate) use self::weighted::{WeightedSums, Weighting};

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};
    use ndarray::{Array, Array2, Axis, s};
    use proptest::prelude::*;

    use super::*;
    use crate::array::rows::Rows;
    use crate::kernel::element::Element;
    use crate::kernel::rowset::all;
    use crate::kernel::{TILE, isa};

    /// log sum exp - max, the reference: by the definition, in `f64`.
    fn log1p_rest(row: &[f64]) -> f64 {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let at = row.iter().position(|x| *x == max).unwrap();
        let rest: f64 = row.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, x)| (x - max).exp()).sum();
        rest.ln_1p()
    }

    /// The maxima and `log1p_rest` of rows along `axis`, on one level.
    fn sums<E: Element>(view: &ndarray::ArrayView2<'_, E>, axis: usize, level: Level) -> Vec<(f64, f64)> {
        let rows = Rows::new(view, Some(axis));
        let mut tiles = Tiles::new(rows.clone(), None);
        let mut all_rows = Vec::new();
        let count = rows.layout.line.len();
        for first in (0..count).step_by(TILE) {
            let range = first..(first + TILE).min(count);
            let count = range.len();
            let tile = dispatch!(level, simd => tiles.sum(simd, range, all(count)));
            all_rows.extend((0..count).map(|i| (tile.max(i), tile.log1p_rest(i))));
        }
        all_rows
    }

    fn logits(rows: usize, classes: usize, scale: f64, offset: f64, seed: u64) -> Array2<f64> {
        let mut state = seed;
        Array::from_shape_simple_fn((rows, classes), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) * scale + offset
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_rows_on_any_level_agree_with_the_reference(
            rows in 1_usize..70,
            classes in prop_oneof![1_usize..110, 101_usize..1025, 1000_usize..2100],
            scale in prop_oneof![Just(1e-6), 0.1..300.0],
            offset in prop_oneof![Just(0.0), -1e6..1e6],
            seed: u64,
        ) {
            let x = logits(rows, classes, scale, offset, seed);
            let single = x.mapv(|x| x as f32);
            for (name, level) in isa::available() {
                for (i, (max, tail)) in sums(&x.view(), 1, level).into_iter().enumerate() {
                    let row = x.row(i).to_vec();
                    let want = log1p_rest(&row);
                    prop_assert!(row.contains(&max));
                    // The reference rounds x - max, by up to half an ULP of it.
                    prop_assert!((tail - want).abs() <= (3e-15 + scale * f64::EPSILON) * want, "{name} f64 {tail} {want}");
                }
                for (i, (max, tail)) in sums(&single.view(), 1, level).into_iter().enumerate() {
                    let row: Vec<f64> = single.row(i).iter().map(|x| f64::from(*x)).collect();
                    let want = log1p_rest(&row);
                    prop_assert!(row.contains(&max));
                    // Below the smallest subnormal f32 the terms have faded to 0.
                    let bound = 4.0 * f64::from(f32::EPSILON) * want + f64::from(f32::from_bits(1));
                    prop_assert!((tail - want).abs() <= bound, "{name} f32 {tail} {want}");
                }
            }
        }

        #[test]
        fn layouts_do_not_change_a_bit(
            rows in 1_usize..70,
            classes in prop_oneof![1_usize..110, 101_usize..1025, 1000_usize..2100],
            seed: u64,
        ) {
            let x = logits(rows, classes, 20.0, 3.0, seed).mapv(|x| x as f32);
            for (_, level) in isa::available() {
                let expected = sums(&x.view(), 1, level);
                prop_assert_eq!(&sums(&x.t(), 0, level), &expected);
                let fortran = x.t().as_standard_layout().into_owned();
                prop_assert_eq!(&sums(&fortran.t(), 1, level), &expected);
                let mut apart = Array2::<f32>::zeros((rows * 2, classes * 3));
                apart.slice_mut(s![..;-2, ..;3]).assign(&x);
                prop_assert_eq!(&sums(&apart.slice(s![..;-2, ..;3]), 1, level), &expected);
                let alone: Vec<_> = x.axis_chunks_iter(Axis(0), 1).flat_map(|row| sums(&row, 1, level)).collect();
                prop_assert_eq!(&alone, &expected);
            }
        }
    }

    #[test]
    fn levels_with_a_fused_multiply_add_agree_to_the_bit() {
        for classes in [5, 100, 101, 1500] {
            let x = logits(40, classes, 30.0, -2.0, 7).mapv(|x| x as f32);
            let fused: Vec<_> =
                isa::available().into_iter().filter(|(_, level)| isa::has_fma(*level)).collect();
            for (_, level) in &fused {
                assert_eq!(sums(&x.view(), 1, *level), sums(&x.view(), 1, fused[0].1));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_told_apart() {
        const INF: f64 = f64::INFINITY;
        for (_, level) in isa::available() {
            for classes in [3, 100, 101, 1500] {
                let mut x = Array2::<f64>::zeros((6, classes));
                x.row_mut(0).fill(-INF);
                x[[1, classes - 1]] = INF;
                x[[2, 1]] = f64::NAN;
                x.row_mut(3).fill(-INF);
                x[[3, 0]] = f64::NAN;
                (x[[4, 0]], x[[4, 1]]) = (INF, f64::NAN);
                x.row_mut(5).fill(-INF);
                x[[5, 2]] = 1.0;
                let view = x.view();
                let mut tiles = Tiles::new(Rows::new(&view, Some(1)), None);
                let tile = dispatch!(level, simd => tiles.sum(simd, 0..6, all(6)));
                let got: Vec<f64> = (0..6).map(|i| tile.log_sum_exp(i)).collect();
                assert_eq!((got[0], got[1], got[5]), (-INF, INF, 1.0));
                assert!(got[2].is_nan() && got[3].is_nan() && got[4].is_nan(), "{got:?}");
                assert_eq!((tile.argmax(2), tile.argmax(5)), (1, 2));
                assert!((0..5).all(|i| tile.log1p_rest(i).is_nan()));
            }
        }
    }
}
