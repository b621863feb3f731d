//! The number type that kernels compute with: `f32` (for half precision too) or `f64`.

use fearless_simd::prelude::*;
use fearless_simd::{f32x16, f64x8};

use super::roots::{power_f32, power_f64};

/// `f32` or `f64`, with its vector of 512 bits and the constants of its exponential.
pub trait Real: SimdFloatElement + Send + Sync + 'static {
    /// The vector: 16 `f32` or 8 `f64`, on every level.
    type V<S: Simd>: SimdFloat<S, Element = Self>;
    /// Lanes of [`Self::V`].
    const LANES: usize;
    /// Vectors of `f64` that [`Self::V`] widens to: two for `f32`, one for `f64`.
    const F64_VECTORS: usize;
    /// Whether it is `f64`, for which there is no wider type.
    const IS_F64: bool = Self::F64_VECTORS == 1;

    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// The largest finite number.
    const MAX: Self;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// log2(e).
    const LOG2_E: Self;
    /// 8.
    const EIGHTHS: Self;
    /// 1.5 * 2^(mantissa bits): adding it rounds to an integer, which then stands in the low bits.
    const MAGIC: Self;
    /// Mantissa bits.
    const MANTISSA: u32;
    /// Exponent bias plus [`Self::SCALE`].
    const BIAS: Self;
    /// Exponentials are kept times 2^SCALE, so that they stay normal numbers (and keep all their digits)
    /// down to a distance from the maximum whose exponential is below the smallest subnormal.
    const SCALE: i32;
    /// The least and the largest k for which 2^k 2^-SCALE is a normal number, and so is 2^-k.
    const POWERS: (i32, i32);
    /// Up to this magnitude of the maximum, x is reduced as it is; above it, x - max is exact.
    const PIVOT_LIMIT: Self;
    /// ln 2.
    const LN_2: Self;
    /// 0, 1, 2, ...
    const POSITIONS: [Self; 16];

    /// x - n ln 2, exact to about 2^-26 (`f32`) or 2^-55 (`f64`) for |n| below 2^16.
    fn reduce<S: Simd>(x: Self::V<S>, n: Self::V<S>) -> Self::V<S>;
    /// (exp(t) - 1 - t) / t^2 for |t| <= ln(2)/2.
    fn exp_tail<S: Simd>(t: Self::V<S>) -> Self::V<S>;
    /// y - n ln(2) / 8, to the accuracy of [`Self::reduce`] for |n| below 2^19, with a fused multiply-add.
    fn reduce_eighths<S: Simd>(y: Self::V<S>, n: Self::V<S>) -> Self::V<S>;
    /// exp(t) - 1 for |t| <= ln(2)/16.
    fn expm1_eighths<S: Simd>(t: Self::V<S>) -> Self::V<S>;
    /// 2^(i/8 - bias) for the integer i in the low bits of k, bias the type's own; 0 where i is 0.
    fn power_of_eighths<S: Simd>(k: Self::V<S>) -> Self::V<S>;
    /// exp(t) - 1, to the accuracy of [`Self::reduce`].
    #[inline(always)]
    fn expm1<S: Simd>(t: Self::V<S>) -> Self::V<S> {
        (t * t).mul_add(Self::exp_tail(t), t)
    }
    /// exp(t) - 1 in `f64`: for `f32` a digit or two more accurate than the type, for `f64` as [`Self::expm1`].
    fn expm1_f64<S: Simd>(t: f64x8<S>) -> f64x8<S>;
    /// The lanes as `f64`, lower half first.
    fn widen<S: Simd>(v: Self::V<S>) -> [f64x8<S>; 2];
    /// The inverse of [`Self::widen`], rounded once.
    fn narrow<S: Simd>(halves: [f64x8<S>; 2]) -> Self::V<S>;
    /// Stores the lanes, as `f32`.
    fn store_f32<S: Simd>(v: Self::V<S>, to: &mut [f32]);
    /// Stores the lanes of another number's vector.
    fn store_from<S: Simd, Q: Real>(v: Q::V<S>, to: &mut [Self]);
    /// The sum of the lanes.
    fn sum<S: Simd>(v: Self::V<S>) -> f64;
    /// A class index below 2^23, or any other as a number that is no class.
    fn from_class(class: usize) -> Self;
    /// As `f64`.
    fn to_f64(self) -> f64;
    /// From `f64`, rounded.
    fn from_f64(x: f64) -> Self;
}

/// t + c0 t^2 + c1 t^3 + ... + c5 t^7, added in pairs (Estrin).
#[inline(always)]
fn expm1_in_pairs<S: Simd>(t: f64x8<S>, of: &[f64; 6]) -> f64x8<S> {
    let c = |i: usize| f64x8::splat(t.token(), of[i]);
    let square = t * t;
    let (a, b) = (t.mul_add(c(1), c(0)), t.mul_add(c(3), c(2)));
    let r = square.mul_add(square.mul_add(t.mul_add(c(5), c(4)), b), a);
    square.mul_add(r, t)
}

impl Real for f32 {
    type V<S: Simd> = f32x16<S>;
    const LANES: usize = 16;
    const F64_VECTORS: usize = 2;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    const MAX: f32 = f32::MAX;
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const EIGHTHS: f32 = 8.0;
    const MAGIC: f32 = 12_582_912.0;
    const MANTISSA: u32 = 23;
    const BIAS: f32 = 187.0;
    const SCALE: i32 = 60;
    const POWERS: (i32, i32) = (-66, 187);
    const PIVOT_LIMIT: f32 = 32768.0;
    const LN_2: f32 = std::f32::consts::LN_2;
    const POSITIONS: [f32; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

    // Cody and Waite. With a fused multiply-add the first product needs no spare bits: x and n HI are both
    // multiples of 2^-24 (or n = 0), so their difference is exact. Without one, HI is split into two
    // parts of 8 bits, whose products with a 16-bit n are exact.
    #[inline(always)]
    fn reduce<S: Simd>(x: f32x16<S>, n: f32x16<S>) -> f32x16<S> {
        const HI: f32 = std::f32::consts::LN_2; // 0x1.62E43p-1
        const LO: f32 = -1.904_654_2e-9; // -0x1.05C61p-29
        const H1: f32 = 0.691_406_25; // 0x1.62p-1
        const H2: f32 = 0.001_739_502; // 0x1.C8p-10
        const H3: f32 = 1.428_606_8e-6; // 0x1.7F7D1Cp-20
        let simd = x.token();
        if super::isa::has_fma(simd.level()) {
            let t = n.mul_add(f32x16::splat(simd, -HI), x);
            n.mul_add(f32x16::splat(simd, -LO), t)
        } else {
            x - n * H1 - n * H2 - n * H3
        }
    }

    // c2 + c3 t + ... + c6 t^4; the coefficients interpolate at Chebyshev nodes, approximation error 2^-26.5 relative
    // to exp(t).
    #[inline(always)]
    fn exp_tail<S: Simd>(t: f32x16<S>) -> f32x16<S> {
        const C2: f32 = 0.5;
        const C3: f32 = 0.166_665_76;
        const C4: f32 = 0.041_666_556;
        const C5: f32 = 0.008_363_179;
        const C6: f32 = 0.001_392_618_4;
        let c = |value| f32x16::splat(t.token(), value);
        let r = t.mul_add(c(C6), c(C5));
        let r = t.mul_add(r, c(C4));
        let r = t.mul_add(r, c(C3));
        t.mul_add(r, c(C2))
    }

    #[inline(always)]
    fn reduce_eighths<S: Simd>(y: f32x16<S>, n: f32x16<S>) -> f32x16<S> {
        const HI: f32 = std::f32::consts::LN_2 / 8.0;
        const LO: f32 = -1.904_654_2e-9 / 8.0;
        let simd = y.token();
        let t = n.mul_add(f32x16::splat(simd, -HI), y);
        n.mul_add(f32x16::splat(simd, -LO), t)
    }

    // The error is below 2^-25 of exp(t), in most places far below, and 2^-27 on average.
    #[inline(always)]
    fn expm1_eighths<S: Simd>(t: f32x16<S>) -> f32x16<S> {
        const C2: f32 = 0.500_058_7;
        const C3: f32 = 0.166_678_4;
        let c = |value| f32x16::splat(t.token(), value);
        (t * t).mul_add(t.mul_add(c(C3), c(C2)), t)
    }

    #[inline(always)]
    fn power_of_eighths<S: Simd>(k: f32x16<S>) -> f32x16<S> {
        power_f32(k)
    }

    // Interpolated in the same way, to degree 7 (2^-32), and added in pairs: this is one row's, or one tile's,
    // and nothing else fills the time that a chain would take.
    #[inline(always)]
    fn expm1_f64<S: Simd>(t: f64x8<S>) -> f64x8<S> {
        const C: [f64; 6] = [
            0.500_000_001_349_817_8,
            0.166_666_666_816_591_8,
            0.041_666_464_602_026_54,
            0.008_333_310_889_582_076,
            0.001_393_368_586_261_717_4,
            0.000_198_910_306_543_703_27,
        ];
        expm1_in_pairs(t, &C)
    }

    #[inline(always)]
    fn widen<S: Simd>(v: f32x16<S>) -> [f64x8<S>; 2] {
        let (low, high) = v.widen();
        [low, high]
    }

    #[inline(always)]
    fn narrow<S: Simd>([low, high]: [f64x8<S>; 2]) -> f32x16<S> {
        low.narrow(high)
    }

    #[inline(always)]
    fn store_f32<S: Simd>(v: f32x16<S>, to: &mut [f32]) {
        v.store_slice(to);
    }

    #[inline(always)]
    fn store_from<S: Simd, Q: Real>(v: Q::V<S>, to: &mut [f32]) {
        Q::store_f32(v, to);
    }

    #[inline(always)]
    fn sum<S: Simd>(v: f32x16<S>) -> f64 {
        let (low, high) = v.widen();
        (low + high).reduce_sum()
    }

    #[inline(always)]
    fn from_class(class: usize) -> f32 {
        class as i32 as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
}

impl Real for f64 {
    type V<S: Simd> = f64x8<S>;
    const LANES: usize = 8;
    const F64_VECTORS: usize = 1;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    const MAX: f64 = f64::MAX;
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const EIGHTHS: f64 = 8.0;
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    const MANTISSA: u32 = 52;
    const BIAS: f64 = 1923.0;
    const SCALE: i32 = 900;
    const POWERS: (i32, i32) = (-122, 1022);
    const PIVOT_LIMIT: f64 = 32768.0;
    const LN_2: f64 = std::f64::consts::LN_2;
    const POSITIONS: [f64; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

    #[inline(always)]
    fn reduce<S: Simd>(x: f64x8<S>, n: f64x8<S>) -> f64x8<S> {
        let simd = x.token();
        let t = n.mul_add(f64x8::splat(simd, -LN_2_HI), x);
        n.mul_add(f64x8::splat(simd, -LN_2_LO), t)
    }

    // As for `f32`, to degree 9: the approximation error is 2^-55.8 of exp(t).
    #[inline(always)]
    fn exp_tail<S: Simd>(t: f64x8<S>) -> f64x8<S> {
        const C: [f64; 10] = [
            0.500_000_000_000_000_1,
            0.166_666_666_666_666_69,
            0.041_666_666_666_624_13,
            0.008_333_333_333_330_062,
            0.001_388_888_891_721_371_7,
            0.000_198_412_698_630_536_18,
            2.480_152_129_595_437_6e-5,
            2.755_726_845_969_706_4e-6,
            2.762_008_844_540_974_6e-7,
            2.510_038_549_551_032e-8,
        ];
        let c = |value| f64x8::splat(t.token(), value);
        let mut r = c(C[9]);
        for i in (0..9).rev() {
            r = t.mul_add(r, c(C[i]));
        }
        r
    }

    #[inline(always)]
    fn expm1_f64<S: Simd>(t: f64x8<S>) -> f64x8<S> {
        Self::expm1(t)
    }

    #[inline(always)]
    fn reduce_eighths<S: Simd>(y: f64x8<S>, n: f64x8<S>) -> f64x8<S> {
        let simd = y.token();
        let t = n.mul_add(f64x8::splat(simd, -LN_2_HI / 8.0), y);
        n.mul_add(f64x8::splat(simd, -LN_2_LO / 8.0), t)
    }

    // To degree 7, added in pairs: the error is 2^-56.4 of exp(t).
    #[inline(always)]
    fn expm1_eighths<S: Simd>(t: f64x8<S>) -> f64x8<S> {
        const C: [f64; 6] = [
            0.500_000_000_000_005_1,
            0.166_666_666_666_667_24,
            0.041_666_666_617_526_46,
            0.008_333_333_327_873_34,
            0.001_388_958_710_823_954_2,
            0.000_198_420_456_372_392_58,
        ];
        expm1_in_pairs(t, &C)
    }

    #[inline(always)]
    fn power_of_eighths<S: Simd>(k: f64x8<S>) -> f64x8<S> {
        power_f64(k)
    }

    #[inline(always)]
    fn widen<S: Simd>(v: f64x8<S>) -> [f64x8<S>; 2] {
        [v, v]
    }

    #[inline(always)]
    fn narrow<S: Simd>(halves: [f64x8<S>; 2]) -> f64x8<S> {
        halves[0]
    }

    #[inline(always)]
    fn store_f32<S: Simd>(v: f64x8<S>, to: &mut [f32]) {
        to.copy_from_slice(&v.narrow(v).as_slice()[..8]);
    }

    #[inline(always)]
    fn store_from<S: Simd, Q: Real>(v: Q::V<S>, to: &mut [f64]) {
        for (half, to) in to.chunks_exact_mut(8).enumerate() {
            Q::widen(v)[half].store_slice(to);
        }
    }

    #[inline(always)]
    fn sum<S: Simd>(v: f64x8<S>) -> f64 {
        v.reduce_sum()
    }

    #[inline(always)]
    fn from_class(class: usize) -> f64 {
        f64::from(class as i32)
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn from_f64(x: f64) -> f64 {
        x
    }
}

// HI has 33 bits: its product with a 16-bit n is exact with and without a fused multiply-add.
pub(super) const LN_2_HI: f64 = 0.693_147_180_485_539_1; // 0x1.62E42FEFp-1
pub(super) const LN_2_LO: f64 = 7.440_617_110_012_397e-11; // 0x1.473DE6AF278EDp-34
