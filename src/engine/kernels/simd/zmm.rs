//! Vectors of 512 bits: AVX-512 with VNNI.

use super::vector::Vector;
use std::arch::x86_64::*;

/// A register of AVX-512.
#[derive(Clone, Copy)]
pub(in crate::engine::kernels) struct Zmm(__m512i);

/// Doublewords of four vectors, from lanes that hold one of each.
const FOURS: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

impl Vector for Zmm {
    const BYTES: usize = 64;
    const MOST_PANELS: usize = 2;
    const MOST_SUMS: usize = 24;
    const NAME: &'static str = "avx512-vnni";

    type Floats = __m512;
    type Input = Self;
    type Weights = Self;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self(_mm512_setzero_si512())
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        Self(_mm512_loadu_si512(from.cast()))
    }

    #[inline(always)]
    unsafe fn repeat4(from: *const u8) -> Self {
        Self(_mm512_set1_epi32(from.cast::<i32>().read_unaligned()))
    }

    #[inline(always)]
    unsafe fn repeat_word(word: i16) -> Self {
        Self(_mm512_set1_epi16(word))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, bytes: usize) {
        if bytes >= 64 {
            _mm512_storeu_si512(to.cast(), self.0);
        } else {
            _mm512_mask_storeu_epi8(to.cast(), (1 << bytes) - 1, self.0);
        }
    }

    #[inline(always)]
    unsafe fn store_part<const PART: usize>(self, to: *mut u8, index: usize) {
        match (PART, index) {
            (64, _) => _mm512_storeu_si512(to.cast(), self.0),
            (32, 0) => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(self.0)),
            (32, _) => _mm256_storeu_si256(to.cast(), _mm512_extracti64x4_epi64::<1>(self.0)),
            (16, 0) => _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(self.0)),
            (16, 1) => _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<1>(self.0)),
            (16, 2) => _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<2>(self.0)),
            (16, _) => _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<3>(self.0)),
            _ => self.store(to, PART),
        }
    }

    #[inline(always)]
    unsafe fn input(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn weights(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn dot(self, input: Self, weights: Self) -> Self {
        Self(_mm512_dpbusd_epi32(self.0, input.0, weights.0))
    }

    #[inline(always)]
    unsafe fn interleave_bytes_low(self, other: Self) -> Self {
        Self(_mm512_unpacklo_epi8(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn interleave_bytes_high(self, other: Self) -> Self {
        Self(_mm512_unpackhi_epi8(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn interleave_words_low(self, other: Self) -> Self {
        Self(_mm512_unpacklo_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn interleave_words_high(self, other: Self) -> Self {
        Self(_mm512_unpackhi_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn even_lanes(self, other: Self) -> Self {
        Self(_mm512_shuffle_i64x2::<0b10_00_10_00>(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max_bytes(self, other: Self) -> Self {
        Self(_mm512_max_epu8(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn add_integers(self, other: Self) -> Self {
        Self(_mm512_add_epi32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn add_words_saturating(self, other: Self) -> Self {
        Self(_mm512_adds_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn words(self, other: Self) -> Self {
        Self(_mm512_packs_epi32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn bytes(self, other: Self) -> Self {
        Self(_mm512_packus_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn gather_fours(self) -> Self {
        let order = _mm512_loadu_si512(FOURS.as_ptr().cast());
        Self(_mm512_permutexvar_epi32(order, self.0))
    }

    #[inline(always)]
    unsafe fn widen(from: *const u8) -> Self {
        Self(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))
    }

    #[inline(always)]
    unsafe fn floats(self) -> __m512 {
        _mm512_cvtepi32_ps(self.0)
    }

    #[inline(always)]
    unsafe fn integers(floats: __m512) -> Self {
        Self(_mm512_cvtps_epi32(floats))
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn repeat_float(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }

    #[inline(always)]
    unsafe fn multiply(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn round(floats: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(floats)
    }

    #[inline(always)]
    unsafe fn limit(floats: __m512, least: __m512, most: __m512) -> __m512 {
        _mm512_min_ps(_mm512_max_ps(floats, least), most)
    }
}
