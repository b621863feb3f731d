//! The type of a stored number: what the four dtypes share, and the only place where they differ.

use fearless_simd::prelude::*;
use fearless_simd::{f32x4, f32x16, f64x4, f64x8, i16x32, u16x16, u16x32, u32x16};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::prefetch::{AHEAD_BYTES, prefetch};
use super::real::Real;

/// A floating-point type that arrays hold: `f16`, `bf16`, `f32` or `f64`.
///
/// The first two are widened to `f32` as they are loaded and rounded once as they are stored.
#[expect(private_bounds, reason = "how elements go into vectors is private")]
pub trait Element: Copy + Send + Sync + 'static + Lanes {
    /// The type's name.
    const NAME: &'static str;

    /// As `f64`, exactly.
    fn to_f64(self) -> f64;
    /// From `f64`, rounded to nearest even.
    fn from_f64(x: f64) -> Self;
}

/// A slice as `f64`, exactly; the memory behind it is prefetched.
#[inline(always)]
pub(crate) fn widen_slice<S: Simd, E: Element>(simd: S, from: &[E], to: &mut [f64]) {
    let lanes = RealOf::<E>::LANES;
    let (vectors, mut places) = (from.chunks_exact(lanes), to.chunks_exact_mut(lanes));
    let last = vectors.remainder();
    for (from, to) in vectors.zip(&mut places) {
        prefetch(from.as_ptr().wrapping_byte_add(AHEAD_BYTES), size_of_val(from));
        let wide = RealOf::<E>::widen(E::load(simd, from));
        for (half, to) in to.chunks_exact_mut(8).enumerate() {
            wide[half].store_slice(to);
        }
    }
    for (to, from) in places.into_remainder().iter_mut().zip(last) {
        *to = from.to_f64();
    }
}

/// How elements go into and out of vectors.
pub(crate) trait Lanes: Sized {
    type Real: Real;
    /// A type that is narrowed to alike, by [`Self::narrow`]: code that stores vectors of `Real` is there once for both.
    type Alike: Element + Lanes<Real = Self::Real>;

    /// Minus infinity: it fills the lanes behind the end of a row.
    const PADDING: Self;

    /// Loads a slice of exactly `Real::LANES` elements.
    fn load<S: Simd>(simd: S, from: &[Self]) -> <Self::Real as Real>::V<S>;
    /// Loads a step: four vectors of consecutive elements.
    #[inline(always)]
    fn load_step<S: Simd>(simd: S, from: &[Self]) -> [<Self::Real as Real>::V<S>; 4] {
        let lanes = Self::Real::LANES;
        let (a, b) = (Self::load(simd, &from[..lanes]), Self::load(simd, &from[lanes..2 * lanes]));
        let c = Self::load(simd, &from[2 * lanes..3 * lanes]);
        [a, b, c, Self::load(simd, &from[3 * lanes..])]
    }
    /// The largest elements of some, lane by lane.
    type Maxima<S: Simd>: Copy;
    /// Those of no element: minus infinity.
    fn no_maxima<S: Simd>(simd: S) -> Self::Maxima<S>;
    /// Takes a step of elements into account. A nan may or may not show.
    fn raise<S: Simd>(simd: S, maxima: Self::Maxima<S>, step: &[Self]) -> Self::Maxima<S>;
    /// The largest of them all.
    fn largest<S: Simd>(maxima: Self::Maxima<S>) -> Self::Real;
    /// Loads four elements at each multiple of `stride`: one four for each lane of a vector, in their order.
    #[inline(always)]
    fn load_fours<S: Simd>(simd: S, from: &[Self], stride: usize) -> [<Self::Real as Real>::V<S>; 4]
    where
        Self: Copy,
    {
        let lanes = Self::Real::LANES;
        let mut fours = [Self::PADDING; 64];
        for (four, to) in fours.chunks_exact_mut(4).take(lanes).enumerate() {
            to.copy_from_slice(&from[four * stride..four * stride + 4]);
        }
        let (a, b) = (Self::load(simd, &fours[..lanes]), Self::load(simd, &fours[lanes..2 * lanes]));
        let c = Self::load(simd, &fours[2 * lanes..3 * lanes]);
        [a, b, c, Self::load(simd, &fours[3 * lanes..4 * lanes])]
    }
    /// The inverse of [`Self::load_fours`]: one four after the other, so that of two that overlap the later one stays.
    #[inline(always)]
    fn store_fours<S: Simd>(vectors: [<Self::Real as Real>::V<S>; 4], to: &mut [Self], stride: usize)
    where
        Self: Copy,
    {
        let lanes = Self::Real::LANES;
        let mut fours = [Self::PADDING; 64];
        for (v, to) in vectors.into_iter().zip(fours.chunks_exact_mut(lanes)) {
            Self::store(v, to);
        }
        for (four, from) in fours.chunks_exact(4).take(lanes).enumerate() {
            to[four * stride..four * stride + 4].copy_from_slice(from);
        }
    }
    /// Numbers in `f64` as the vector whose [`Self::store`] rounds them, once.
    #[inline(always)]
    fn narrow<S: Simd>(halves: [f64x8<S>; 2]) -> <Self::Real as Real>::V<S> {
        <Self::Real as Real>::narrow(halves)
    }
    /// Stores into a slice of exactly `Real::LANES` elements.
    fn store<S: Simd>(v: <Self::Real as Real>::V<S>, to: &mut [Self]);
    /// One element, widened.
    fn to_real(self) -> Self::Real;
    /// One element, rounded to nearest even.
    fn from_real(x: Self::Real) -> Self;
    /// A number that [`Self::from_real`] rounds to the element nearest to x.
    #[inline(always)]
    fn near(x: f64) -> Self::Real {
        Self::Real::from_f64(x)
    }
}

/// Four elements at each multiple of a stride.
struct Fours<'a, E> {
    from: &'a [E],
    stride: usize,
    count: usize,
}

impl<'a, E> Fours<'a, E> {
    #[inline(always)]
    fn new(from: &'a [E], stride: usize, count: usize) -> Self {
        assert!(from.len() >= 4 && (from.len() - 4) / (count - 1) >= stride);
        Fours { from, stride, count }
    }

    #[inline(always)]
    fn get(&self, i: usize) -> &[E; 4] {
        assert!(i < self.count);
        // SAFETY: i is below `count`, and the last four ends within the slice (see `new`). The check costs nothing where
        // both numbers are known to the compiler.
        unsafe { &*self.from.as_ptr().add(i * self.stride).cast::<[E; 4]>() }
    }
}

/// Four elements at each multiple of a stride, to be written.
struct FoursMut<'a, E> {
    to: &'a mut [E],
    stride: usize,
    count: usize,
}

impl<'a, E> FoursMut<'a, E> {
    #[inline(always)]
    fn new(to: &'a mut [E], stride: usize, count: usize) -> Self {
        assert!(to.len() >= 4 && (to.len() - 4) / (count - 1) >= stride);
        FoursMut { to, stride, count }
    }

    #[inline(always)]
    fn get(&mut self, i: usize) -> &mut [E; 4] {
        assert!(i < self.count);
        // SAFETY: i is below `count`, and the last four ends within the slice (see `new`).
        unsafe { &mut *self.to.as_mut_ptr().add(i * self.stride).cast::<[E; 4]>() }
    }
}

/// The fours from `first` on.
#[inline(always)]
fn four_of<S: Simd>(simd: S, fours: &Fours<'_, f32>, first: usize) -> f32x16<S> {
    let (a, b) =
        (f32x4::load_array_ref(simd, fours.get(first)), f32x4::load_array_ref(simd, fours.get(first + 1)));
    let c = f32x4::load_array_ref(simd, fours.get(first + 2));
    a.combine(b).combine(c.combine(f32x4::load_array_ref(simd, fours.get(first + 3))))
}

/// The fours from `first` on.
#[inline(always)]
fn two_of<S: Simd>(simd: S, fours: &Fours<'_, f64>, first: usize) -> f64x8<S> {
    f64x4::load_array_ref(simd, fours.get(first)).combine(f64x4::load_array_ref(simd, fours.get(first + 1)))
}

/// The kernels' number of an element type.
pub(crate) type RealOf<E> = <E as Lanes>::Real;
/// The kernels' vector of an element type.
pub(crate) type Vector<E, S> = <<E as Lanes>::Real as Real>::V<S>;

impl Element for f32 {
    const NAME: &'static str = "f32";

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
}

impl Lanes for f32 {
    type Real = f32;
    type Alike = f32;
    type Maxima<S: Simd> = f32x16<S>;
    const PADDING: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn no_maxima<S: Simd>(simd: S) -> f32x16<S> {
        f32x16::splat(simd, f32::NEG_INFINITY)
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, maxima: f32x16<S>, step: &[f32]) -> f32x16<S> {
        let [a, b, c, d] = f32::load_step(simd, step);
        maxima.max(a.max(b).max(c.max(d)))
    }

    #[inline(always)]
    fn largest<S: Simd>(maxima: f32x16<S>) -> f32 {
        maxima.reduce_max()
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f32]) -> f32x16<S> {
        f32x16::from_slice(simd, from)
    }

    #[inline(always)]
    fn load_fours<S: Simd>(simd: S, from: &[f32], stride: usize) -> [f32x16<S>; 4] {
        let fours = Fours::new(from, stride, 16);
        [
            four_of(simd, &fours, 0),
            four_of(simd, &fours, 4),
            four_of(simd, &fours, 8),
            four_of(simd, &fours, 12),
        ]
    }

    #[inline(always)]
    fn store_fours<S: Simd>(vectors: [f32x16<S>; 4], to: &mut [f32], stride: usize) {
        let mut fours = FoursMut::new(to, stride, 16);
        for i in 0..4 {
            let (low, high) = vectors[i].split();
            let ((a, b), (c, d)) = (low.split(), high.split());
            a.store_array(fours.get(4 * i));
            b.store_array(fours.get(4 * i + 1));
            c.store_array(fours.get(4 * i + 2));
            d.store_array(fours.get(4 * i + 3));
        }
    }

    #[inline(always)]
    fn store<S: Simd>(v: f32x16<S>, to: &mut [f32]) {
        v.store_slice(to);
    }

    #[inline(always)]
    fn to_real(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_real(x: f32) -> f32 {
        x
    }
}

impl Element for f64 {
    const NAME: &'static str = "f64";

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn from_f64(x: f64) -> f64 {
        x
    }
}

impl Lanes for f64 {
    type Real = f64;
    type Alike = f64;
    type Maxima<S: Simd> = f64x8<S>;
    const PADDING: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn no_maxima<S: Simd>(simd: S) -> f64x8<S> {
        f64x8::splat(simd, f64::NEG_INFINITY)
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, maxima: f64x8<S>, step: &[f64]) -> f64x8<S> {
        let [a, b, c, d] = f64::load_step(simd, step);
        maxima.max(a.max(b).max(c.max(d)))
    }

    #[inline(always)]
    fn largest<S: Simd>(maxima: f64x8<S>) -> f64 {
        maxima.reduce_max()
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f64]) -> f64x8<S> {
        f64x8::from_slice(simd, from)
    }

    #[inline(always)]
    fn load_fours<S: Simd>(simd: S, from: &[f64], stride: usize) -> [f64x8<S>; 4] {
        let fours = Fours::new(from, stride, 8);
        [two_of(simd, &fours, 0), two_of(simd, &fours, 2), two_of(simd, &fours, 4), two_of(simd, &fours, 6)]
    }

    #[inline(always)]
    fn store_fours<S: Simd>(vectors: [f64x8<S>; 4], to: &mut [f64], stride: usize) {
        let mut fours = FoursMut::new(to, stride, 8);
        for i in 0..4 {
            let (a, b) = vectors[i].split();
            a.store_array(fours.get(2 * i));
            b.store_array(fours.get(2 * i + 1));
        }
    }

    #[inline(always)]
    fn store<S: Simd>(v: f64x8<S>, to: &mut [f64]) {
        v.store_slice(to);
    }

    #[inline(always)]
    fn to_real(self) -> f64 {
        self
    }

    #[inline(always)]
    fn from_real(x: f64) -> f64 {
        x
    }
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self.to_real())
    }

    fn from_f64(x: f64) -> bf16 {
        bf16::from_f32(to_odd(x))
    }
}

impl Lanes for bf16 {
    type Real = f32;
    type Alike = bf16;
    type Maxima<S: Simd> = Extremes<S>;
    const PADDING: bf16 = bf16::NEG_INFINITY;

    #[inline(always)]
    fn no_maxima<S: Simd>(simd: S) -> Extremes<S> {
        Extremes::of(simd, bf16::NEG_INFINITY.to_bits())
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, maxima: Extremes<S>, step: &[bf16]) -> Extremes<S> {
        maxima.with(simd, step.reinterpret_cast())
    }

    #[inline(always)]
    fn largest<S: Simd>(maxima: Extremes<S>) -> f32 {
        bf16::from_bits(maxima.largest()).to_real()
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[bf16]) -> f32x16<S> {
        f32x16::from_bits(widen_u16(simd, from.reinterpret_cast()) << 16)
    }

    // Round to nearest even: add half of the last place, less one where that place is even. A nan
    // keeps its upper half and becomes quiet.
    #[inline(always)]
    fn store<S: Simd>(v: f32x16<S>, to: &mut [bf16]) {
        let bits = v.to_bits();
        let odd = (bits >> 16) & 1;
        let rounded = (bits + odd + 0x7fff) >> 16;
        let quiet = (bits >> 16) | 0x40;
        let halves = v.simd_eq(v).select(rounded, quiet);
        let (low, high) = halves.split();
        let narrow: u16x16<S> = low.narrow(high);
        narrow.store_slice(to.reinterpret_cast_mut());
    }

    #[inline(always)]
    fn narrow<S: Simd>([low, high]: [f64x8<S>; 2]) -> f32x16<S> {
        odd(low).narrow(odd(high))
    }

    #[inline(always)]
    fn to_real(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn from_real(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    #[inline(always)]
    fn near(x: f64) -> f32 {
        to_odd(x)
    }
}

impl Element for f16 {
    const NAME: &'static str = "f16";

    fn to_f64(self) -> f64 {
        f64::from(self.to_real())
    }

    fn from_f64(x: f64) -> f16 {
        f16::from_f32_const(to_odd(x))
    }
}

impl Lanes for f16 {
    type Real = f32;
    type Alike = bf16;
    type Maxima<S: Simd> = Extremes<S>;
    const PADDING: f16 = f16::NEG_INFINITY;

    #[inline(always)]
    fn no_maxima<S: Simd>(simd: S) -> Extremes<S> {
        Extremes::of(simd, f16::NEG_INFINITY.to_bits())
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, maxima: Extremes<S>, step: &[f16]) -> Extremes<S> {
        maxima.with(simd, step.reinterpret_cast())
    }

    #[inline(always)]
    fn largest<S: Simd>(maxima: Extremes<S>) -> f32 {
        f16::from_bits(maxima.largest()).to_real()
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f16]) -> f32x16<S> {
        let from: &[u16] = from.reinterpret_cast();
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(avx512) = simd.level().as_avx512() {
                return f32x16::load_array(simd, x86::widen_avx512(avx512, from));
            }
            if let Some(avx2) = simd.level().as_avx2() {
                let (low, high) = from.split_at(8);
                let mut wide = [0.0; 16];
                wide[..8].copy_from_slice(&x86::widen_avx2(avx2, low));
                wide[8..].copy_from_slice(&x86::widen_avx2(avx2, high));
                return f32x16::load_array(simd, wide);
            }
        }
        // The exponent field lands 112 too low: the multiplication corrects it, and makes subnormal halves
        // normal. Infinities and nans get the full exponent.
        let half = widen_u16(simd, from);
        let magnitude = half & 0x7fff;
        let sign = (half & 0x8000) << 16;
        let scaled = f32x16::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
        let special = magnitude.simd_ge(u32x16::splat(simd, 0x7c00));
        let bits =
            scaled.to_bits() | special.select(u32x16::splat(simd, 0x7f80_0000), u32x16::splat(simd, 0));
        f32x16::from_bits(bits | sign)
    }

    #[inline(always)]
    fn store<S: Simd>(v: f32x16<S>, to: &mut [f16]) {
        let wide = v.to_array();
        #[cfg(target_arch = "x86_64")]
        {
            let to: &mut [u16] = to.reinterpret_cast_mut();
            if let Some(avx512) = v.token().level().as_avx512() {
                to.copy_from_slice(&x86::narrow_avx512(avx512, &wide));
                return;
            }
            if let Some(avx2) = v.token().level().as_avx2() {
                to[..8].copy_from_slice(&x86::narrow_avx2(avx2, &wide[..8]));
                to[8..].copy_from_slice(&x86::narrow_avx2(avx2, &wide[8..]));
                return;
            }
        }
        for (to, from) in to.iter_mut().zip(wide) {
            *to = f16::from_f32_const(from);
        }
    }

    #[inline(always)]
    fn narrow<S: Simd>([low, high]: [f64x8<S>; 2]) -> f32x16<S> {
        odd(low).narrow(odd(high))
    }

    #[inline(always)]
    fn to_real(self) -> f32 {
        self.to_f32_const()
    }

    #[inline(always)]
    fn from_real(x: f32) -> f16 {
        f16::from_f32_const(x)
    }

    #[inline(always)]
    fn near(x: f64) -> f32 {
        to_odd(x)
    }
}

/// x as `f32`, rounded to odd: rounding that to a half is rounding x itself, once (Boldo and Melquiond 2008).
/// (The `half` crate's conversions from `f64` use the upper 32 bits of x only.)
fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) == x || !nearest.is_finite() {
        return nearest;
    }
    let beyond = u32::from(f64::from(nearest).abs() > x.abs());
    f32::from_bits((nearest.to_bits() - beyond) | 1)
}

/// [`to_odd`] for vectors: the bits that `f32` lacks are cut off, and if any is set the last that stays is too.
#[inline(always)]
fn odd<S: Simd>(x: f64x8<S>) -> f64x8<S> {
    const LACKING: u64 = (1 << 29) - 1;
    let bits = x.to_bits();
    f64x8::from_bits((bits | ((bits & LACKING) + LACKING)) & !LACKING)
}

/// The largest and the smallest of halves as integers of their bits, 32 in a vector: nothing is widened.
#[derive(Clone, Copy)]
pub(crate) struct Extremes<S: Simd> {
    largest: i16x32<S>,
    smallest: i16x32<S>,
}

impl<S: Simd> Extremes<S> {
    /// Those of one number.
    #[inline(always)]
    fn of(simd: S, bits: u16) -> Self {
        let number = i16x32::splat(simd, bits.cast_signed());
        Extremes { largest: number, smallest: number }
    }

    /// Those of 64 numbers more.
    #[inline(always)]
    fn with(self, simd: S, step: &[u16]) -> Self {
        let load = |from| -> i16x32<S> { u16x32::from_slice(simd, from).bitcast() };
        let (a, b) = (load(&step[..32]), load(&step[32..]));
        Extremes { largest: self.largest.max(a.max(b)), smallest: self.smallest.min(a.min(b)) }
    }

    /// The bits of the largest number. Sign and magnitude of positive numbers are in the order of integers, those of
    /// negative numbers in the opposite one.
    #[inline(always)]
    fn largest(self) -> u16 {
        let largest = self.largest.reduce_max();
        if largest >= 0 { largest.cast_unsigned() } else { self.smallest.reduce_min().cast_unsigned() }
    }
}

#[inline(always)]
fn widen_u16<S: Simd>(simd: S, from: &[u16]) -> u32x16<S> {
    let (low, high) = u16x16::from_slice(simd, from).widen();
    low.combine(high)
}

/// F16C: the one conversion that the portable vectors lack.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm512_cvtph_ps, _mm512_cvtps_ph,
    };

    use fearless_simd::prelude::*;
    use fearless_simd::{f32x8, f32x16, u16x8, u16x16};

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn widen_avx512(avx512: Avx512, from: &[u16]) -> [f32; 16] {
            let wide: f32x16<_> = _mm512_cvtph_ps(u16x16::from_slice(avx512, from).into()).simd_into(avx512);
            wide.to_array()
        }
    );

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn widen_avx2(avx2: Avx2, from: &[u16]) -> [f32; 8] {
            let wide: f32x8<_> = _mm256_cvtph_ps(u16x8::from_slice(avx2, from).into()).simd_into(avx2);
            wide.to_array()
        }
    );

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn narrow_avx512(avx512: Avx512, from: &[f32; 16]) -> [u16; 16] {
            let from = f32x16::load_array_ref(avx512, from);
            let half: u16x16<_> = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(from.into()).simd_into(avx512);
            half.to_array()
        }
    );

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn narrow_avx2(avx2: Avx2, from: &[f32]) -> [u16; 8] {
            let from = f32x8::from_slice(avx2, from);
            let half: u16x8<_> = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(from.into()).simd_into(avx2);
            half.to_array()
        }
    );
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    #[test]
    fn every_half_widens_exactly_on_every_level() {
        for (name, level) in isa::available() {
            for start in (0..=u16::MAX).step_by(16) {
                let bits: Vec<u16> = (start..=start + 15).collect();
                let half: Vec<f16> = bits.iter().map(|b| f16::from_bits(*b)).collect();
                let brain: Vec<bf16> = bits.iter().map(|b| bf16::from_bits(*b)).collect();
                let (wide_half, wide_brain) = dispatch!(level, simd => {
                    (f16::load(simd, &half).to_array(), bf16::load(simd, &brain).to_array())
                });
                for i in 0..16 {
                    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(same(wide_half[i], half[i].to_f32_const()), "{name} f16 {:#x}", bits[i]);
                    assert!(same(wide_brain[i], brain[i].to_f32()), "{name} bf16 {:#x}", bits[i]);
                }
            }
        }
    }

    /// The largest of 64 halves, as it is found.
    fn largest<E: Lanes<Real = f32>>(level: fearless_simd::Level, halves: &[E; 64]) -> f32 {
        dispatch!(level, simd => E::largest(E::raise(simd, E::no_maxima(simd), halves)))
    }

    fn the_largest_half_is_found<E: Lanes<Real = f32> + Copy>(from_bits: impl Fn(u16) -> E) {
        let mut state = 1_u32;
        for (name, level) in isa::available() {
            for round in 0..2000 {
                // Of any sign, or all negative: zeros, subnormal numbers, infinities and nans among them.
                let sign = if round % 2 == 0 { 0 } else { 0x8000 };
                let halves: [E; 64] = core::array::from_fn(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    from_bits((state >> 16) as u16 | sign)
                });
                let numbers = halves.map(E::to_real);
                // A comparison leaves nans out; one may show instead.
                let want = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let found = largest(level, &halves);
                let has_nan = numbers.iter().any(|x| x.is_nan());
                assert!(found == want || has_nan && found.is_nan(), "{name} {found} {want}");
                let halves = halves.map(|x| if x.to_real().is_nan() { E::from_real(-1.5) } else { x });
                let want = halves.iter().map(|x| x.to_real()).fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(largest(level, &halves), want, "{name}");
            }
            let pairs =
                [(-0.0, 0.0), (-1.0, -0.0), (-1.5, -1.5), (f32::NEG_INFINITY, -57344.0), (-6e-8, 6e-8)];
            for (low, high) in pairs {
                let mut halves = [E::from_real(low); 64];
                halves[41] = E::from_real(high);
                let found = largest(level, &halves);
                assert_eq!(found.to_bits(), halves[41].to_real().to_bits(), "{name} {found} {high}");
            }
            assert_eq!(largest(level, &[E::PADDING; 64]), f32::NEG_INFINITY, "{name}");
        }
    }

    #[test]
    fn the_largest_half_is_found_on_every_level() {
        the_largest_half_is_found(f16::from_bits);
        the_largest_half_is_found(bf16::from_bits);
    }

    #[test]
    fn doubles_round_to_halves_once() {
        // Just above and below the middle of two neighbours, by less than an f32 can represent.
        assert_eq!(<bf16 as Element>::from_f64(1.003_906_25 + 1e-12).to_f32(), 1.007_812_5);
        assert_eq!(<bf16 as Element>::from_f64(1.003_906_25 - 1e-12).to_f32(), 1.0);
        assert_eq!(<f16 as Element>::from_f64(1.000_488_281_25 + 1e-12).to_f32(), 1.000_976_6);
        assert_eq!(<f16 as Element>::from_f64(1.000_488_281_25 - 1e-12).to_f32(), 1.0);
        assert_eq!(<f16 as Element>::from_f64(-1e300), f16::NEG_INFINITY);
        assert!(<f16 as Element>::from_f64(f64::NAN).is_nan());
    }

    #[test]
    fn vectors_of_doubles_round_to_halves_once() {
        let middles = [1.003_906_25, 1.000_488_281_25, -3.001_953_125, 65_519.999_999, 0.1];
        for (name, level) in isa::available() {
            for x in middles.iter().flat_map(|x| [-1e-12, 0.0, 1e-12, 1e-7].map(|d| x * (1.0 + d))) {
                let (mut half, mut brain) = ([f16::ZERO; 16], [bf16::ZERO; 16]);
                dispatch!(level, simd => {
                    let halves = [f64x8::splat(simd, x); 2];
                    f16::store(f16::narrow(halves), &mut half);
                    bf16::store(bf16::narrow(halves), &mut brain);
                });
                assert_eq!(half, [<f16 as Element>::from_f64(x); 16], "{name} {x}");
                assert_eq!(brain, [<bf16 as Element>::from_f64(x); 16], "{name} {x}");
            }
            let mut half = [f16::ZERO; 16];
            dispatch!(level, simd => {
                let x = [f64x8::splat(simd, f64::NAN), f64x8::splat(simd, f64::NEG_INFINITY)];
                f16::store(f16::narrow(x), &mut half);
            });
            assert!(half[0].is_nan() && half[8] == f16::NEG_INFINITY);
        }
    }

    #[test]
    fn halves_round_to_nearest_even_on_every_level() {
        for (name, level) in isa::available() {
            for i in 0..20_000_u32 {
                let xs: [f32; 16] = core::array::from_fn(|lane| {
                    f32::from_bits((i * 16 + lane as u32).wrapping_mul(2_654_435_761))
                });
                let (mut half, mut brain) = ([f16::ZERO; 16], [bf16::ZERO; 16]);
                dispatch!(level, simd => {
                    f16::store(f32x16::load_array(simd, xs), &mut half);
                    bf16::store(f32x16::load_array(simd, xs), &mut brain);
                });
                for lane in 0..16 {
                    let x = xs[lane];
                    let (h, b) = (f16::from_f32_const(x), bf16::from_f32(x));
                    assert!(half[lane] == h || (x.is_nan() && half[lane].is_nan()), "{name} f16 {x}");
                    assert!(brain[lane] == b || (x.is_nan() && brain[lane].is_nan()), "{name} bf16 {x}");
                }
            }
        }
    }
}
