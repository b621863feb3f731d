//! The powers of two at multiples of an eighth, by a table that lies in a register.
//!
//! Entry j holds the bits of 2^(j/8), less those of 1 and less j eighths of the exponent's unit, which the shift brings
//! along: a look-up, a shift and an addition of integers make a power.

use fearless_simd::prelude::*;
#[cfg(target_arch = "x86_64")]
use fearless_simd::u64x4;
use fearless_simd::{f32x16, f64x8, u32x8, u32x16, u64x8};

/// log2 of the steps of an octave.
const STEP_BITS: u32 = 3;

// The powers that they are made of are off by 0.31 * 2^-52 at most, and by 0.27 * 2^-23.
const F64: [u64; 8] = [
    0,
    0xffff_72b8_3c7d_517b,
    0xffff_06fe_0a31_b715,
    0xfffe_bfda_d536_2a27,
    0xfffe_a09e_667f_3bcd,
    0xfffe_ace5_422a_a0db,
    0xfffe_e89f_995a_d3ad,
    0xffff_5818_dcfb_a487,
];
const F32: [u32; 8] =
    [0, 0xfffb_95c2, 0xfff8_37f0, 0xfff5_fed7, 0xfff5_04f3, 0xfff5_672a, 0xfff7_44fd, 0xfffa_c0c7];

/// 2^(i/8 - 127) for the integer i in the low bits of k; 0 where i is 0.
#[inline(always)]
pub(crate) fn power_f32<S: Simd>(k: f32x16<S>) -> f32x16<S> {
    let simd = k.token();
    let k = k.to_bits();
    f32x16::from_bits(look_up_f32(simd, k) + (k << (23 - STEP_BITS)))
}

/// 2^(i/8 - 1023) for the integer i in the low bits of k; 0 where i is 0.
#[inline(always)]
pub(crate) fn power_f64<S: Simd>(k: f64x8<S>) -> f64x8<S> {
    let simd = k.token();
    let k = k.to_bits();
    f64x8::from_bits(look_up_f64(simd, k) + (k << (52 - STEP_BITS)))
}

#[inline(always)]
fn look_up_f32<S: Simd>(simd: S, k: u32x16<S>) -> u32x16<S> {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = simd.level().as_avx512() {
            return u32x16::load_array(simd, x86::look_up_f32_avx512(avx512, k.to_array()));
        }
        if let Some(avx2) = simd.level().as_avx2() {
            return u32x16::load_array(simd, x86::look_up_f32_avx2(avx2, k.to_array()));
        }
    }
    look_up_f32_by_bytes(simd, k)
}

#[inline(always)]
fn look_up_f64<S: Simd>(simd: S, k: u64x8<S>) -> u64x8<S> {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = simd.level().as_avx512() {
            return u64x8::load_array(simd, x86::look_up_f64_avx512(avx512, k.to_array()));
        }
        if let Some(avx2) = simd.level().as_avx2() {
            let (low, high) = k.split();
            let low = u64x4::load_array(simd, x86::look_up_f64_avx2(avx2, low.to_array()));
            return low.combine(u64x4::load_array(simd, x86::look_up_f64_avx2(avx2, high.to_array())));
        }
    }
    look_up_f64_by_bytes(simd, k)
}

/// The look-up where single bytes are what is looked up (NEON).
#[inline(always)]
fn look_up_f32_by_bytes<S: Simd>(simd: S, k: u32x16<S>) -> u32x16<S> {
    let table = u32x8::load_array(simd, F32).to_bytes();
    let (low, high) = ((k & 7) * 0x0404_0404 + 0x0302_0100).split();
    let low = u32x8::from_bytes(table.swizzle_dyn(low.to_bytes()));
    low.combine(u32x8::from_bytes(table.swizzle_dyn(high.to_bytes())))
}

#[inline(always)]
fn look_up_f64_by_bytes<S: Simd>(simd: S, k: u64x8<S>) -> u64x8<S> {
    const BYTES: [u32; 16] = {
        let mut bytes = [0x0302_0100; 16];
        let mut i = 1;
        while i < 16 {
            bytes[i] = 0x0706_0504;
            i += 2;
        }
        bytes
    };
    let entry = k & 7;
    let places: u32x16<S> = (entry | (entry << 32)).bitcast();
    let places = places * 0x0808_0808 + u32x16::load_array(simd, BYTES);
    let table = u64x8::load_array(simd, F64).to_bytes();
    u64x8::from_bytes(table.swizzle_dyn(places.to_bytes()))
}

/// Look-ups of whole numbers, which the portable vectors lack.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{
        _mm256_add_epi32, _mm256_blendv_pd, _mm256_castpd_si256, _mm256_castps_pd, _mm256_castsi256_pd,
        _mm256_castsi256_ps, _mm256_permutevar8x32_epi32, _mm256_permutevar8x32_ps, _mm256_setr_epi32,
        _mm256_shuffle_epi32, _mm512_permutexvar_epi32, _mm512_permutexvar_epi64,
    };

    use fearless_simd::prelude::*;
    use fearless_simd::{u32x8, u32x16, u64x4, u64x8};

    use super::{F32, F64};

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn look_up_f32_avx512(avx512: Avx512, k: [u32; 16]) -> [u32; 16] {
            let half = u32x8::load_array(avx512, F32);
            let (k, table) = (u32x16::load_array(avx512, k), half.combine(half));
            let found: u32x16<_> = _mm512_permutexvar_epi32(k.into(), table.into()).simd_into(avx512);
            found.to_array()
        }
    );

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn look_up_f32_avx2(avx2: Avx2, k: [u32; 16]) -> [u32; 16] {
            let table = u32x8::load_array(avx2, F32);
            let (low, high) = u32x16::load_array(avx2, k).split();
            let low: u32x8<_> = _mm256_permutevar8x32_epi32(table.into(), low.into()).simd_into(avx2);
            let high: u32x8<_> = _mm256_permutevar8x32_epi32(table.into(), high.into()).simd_into(avx2);
            low.combine(high).to_array()
        }
    );

    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn look_up_f64_avx512(avx512: Avx512, k: [u64; 8]) -> [u64; 8] {
            let (k, table) = (u64x8::load_array(avx512, k), u64x8::load_array(avx512, F64));
            let found: u64x8<_> = _mm512_permutexvar_epi64(k.into(), table.into()).simd_into(avx512);
            found.to_array()
        }
    );

    // A register holds half of the table: both halves are looked up, and bit 2 chooses.
    fearless_simd::kernel!(
        #[inline(always)]
        pub(super) fn look_up_f64_avx2(avx2: Avx2, k: [u64; 4]) -> [u64; 4] {
            let (first, last) = u64x8::load_array(avx2, F64).split();
            let (first, last) = (_mm256_castsi256_ps(first.into()), _mm256_castsi256_ps(last.into()));
            let k = u64x4::load_array(avx2, k);
            let twice = _mm256_shuffle_epi32::<0xa0>((k + k).into());
            let places = _mm256_add_epi32(twice, _mm256_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1));
            let first = _mm256_castps_pd(_mm256_permutevar8x32_ps(first, places));
            let last = _mm256_castps_pd(_mm256_permutevar8x32_ps(last, places));
            let upper = _mm256_castsi256_pd((k << 61).into());
            let found: u64x4<_> = _mm256_castpd_si256(_mm256_blendv_pd(first, last, upper)).simd_into(avx2);
            found.to_array()
        }
    );
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;
    use crate::kernel::isa;

    #[test]
    fn every_step_of_two_octaves_is_the_nearest_power_on_every_level() {
        for (name, level) in isa::available() {
            for i in 0_u32..16 {
                let k = f32::from_bits(0x4b40_0000 + 8 * 127 + i);
                let got = dispatch!(level, simd => power_f32(f32x16::splat(simd, k)).to_array());
                assert_eq!(got, [(f64::from(i) / 8.0).exp2() as f32; 16], "{name} {i}");
                let k = f64::from_bits(0x4338_0000_0000_0000 + 8 * 1023 + u64::from(i));
                let got = dispatch!(level, simd => power_f64(f64x8::splat(simd, k)).to_array());
                assert_eq!(got, [(f64::from(i) / 8.0).exp2(); 8], "{name} {i}");
            }
        }
    }

    #[test]
    fn looking_up_by_bytes_finds_the_same_on_every_level() {
        for (name, level) in isa::available() {
            let narrow: [u32; 16] = core::array::from_fn(|i| 0x4b40_0000 + 3 * i as u32);
            let wide: [u64; 8] = core::array::from_fn(|i| 0x4338_0000_0000_0000 + 5 * i as u64);
            let (by_bytes, wide_by_bytes) = dispatch!(level, simd => (
                look_up_f32_by_bytes(simd, u32x16::load_array(simd, narrow)).to_array(),
                look_up_f64_by_bytes(simd, u64x8::load_array(simd, wide)).to_array(),
            ));
            assert_eq!(by_bytes, narrow.map(|k| F32[k as usize % 8]), "{name}");
            assert_eq!(wide_by_bytes, wide.map(|k| F64[k as usize % 8]), "{name}");
        }
    }
}
