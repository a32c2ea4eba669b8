//! Vectors of 256 bits: AVX2, with one of several dot products.

use super::vector::Vector;
use std::{arch::x86_64::*, marker::PhantomData};

/// A register of AVX2, whose dot product is that of `D`.
#[derive(Clone, Copy)]
pub(in crate::engine::kernels) struct Ymm<D>(__m256i, PhantomData<D>);

/// How bytes are multiplied and added.
///
/// # Safety
/// The processor has the instructions.
pub(in crate::engine::kernels) trait Dot: Copy {
    /// Name of the set with this dot product.
    const NAME: &'static str;
    /// [`Vector::MOST_SUMS`].
    const MOST_SUMS: usize;
    type Input: Copy;
    type Weights: Copy;
    unsafe fn input(bytes: __m256i) -> Self::Input;
    unsafe fn weights(bytes: __m256i) -> Self::Weights;
    unsafe fn dot(sums: __m256i, input: Self::Input, weights: Self::Weights) -> __m256i;
}

/// 16-bit multiply-add of even and odd bytes: exact for all weights.
#[derive(Clone, Copy)]
pub(in crate::engine::kernels) struct Words;

impl Dot for Words {
    const NAME: &'static str = "avx2 (16-bit)";
    const MOST_SUMS: usize = 8;
    type Input = [__m256i; 2];
    type Weights = [__m256i; 2];

    #[inline(always)]
    unsafe fn input(bytes: __m256i) -> [__m256i; 2] {
        let even = _mm256_and_si256(bytes, _mm256_set1_epi16(0xff));
        [even, _mm256_srli_epi16::<8>(bytes)]
    }

    #[inline(always)]
    unsafe fn weights(bytes: __m256i) -> [__m256i; 2] {
        let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
        [even, _mm256_srai_epi16::<8>(bytes)]
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, input: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
        let even = _mm256_madd_epi16(input[0], weights[0]);
        let odd = _mm256_madd_epi16(input[1], weights[1]);
        _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
    }
}

/// Saturating 8-bit multiply-add: exact for weights with [`super::super::packing::is_safe_in_16_bits`].
#[derive(Clone, Copy)]
pub(in crate::engine::kernels) struct Saturating;

impl Dot for Saturating {
    const NAME: &'static str = "avx2 (8-bit)";
    const MOST_SUMS: usize = 8;
    type Input = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn input(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn weights(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, input: __m256i, weights: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(input, weights);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// The dot product of AVX-VNNI.
#[derive(Clone, Copy)]
pub(in crate::engine::kernels) struct Vnni;

impl Dot for Vnni {
    const NAME: &'static str = "avx-vnni";
    const MOST_SUMS: usize = 12;
    type Input = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn input(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn weights(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, input: __m256i, weights: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(sums, input, weights)
    }
}

/// The dot product of AVX-512 VNNI on 256 bits.
#[derive(Clone, Copy)]
pub(in crate::engine::kernels) struct Evex;

impl Dot for Evex {
    const NAME: &'static str = "avx512-vnni";
    const MOST_SUMS: usize = 12;
    type Input = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn input(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn weights(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, input: __m256i, weights: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(sums, input, weights)
    }
}

/// Doublewords of four vectors, from lanes that hold one of each.
const FOURS: [i32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl<D: Dot> Ymm<D> {
    #[inline(always)]
    fn of(bits: __m256i) -> Self {
        Self(bits, PhantomData)
    }
}

impl<D: Dot> Vector for Ymm<D> {
    const BYTES: usize = 32;
    const MOST_PANELS: usize = 1;
    const MOST_SUMS: usize = D::MOST_SUMS;
    const NAME: &'static str = D::NAME;

    type Floats = __m256;
    type Input = D::Input;
    type Weights = D::Weights;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self::of(_mm256_setzero_si256())
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        Self::of(_mm256_loadu_si256(from.cast()))
    }

    #[inline(always)]
    unsafe fn repeat4(from: *const u8) -> Self {
        Self::of(_mm256_set1_epi32(from.cast::<i32>().read_unaligned()))
    }

    #[inline(always)]
    unsafe fn repeat_word(word: i16) -> Self {
        Self::of(_mm256_set1_epi16(word))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8, bytes: usize) {
        if bytes >= 32 {
            _mm256_storeu_si256(to.cast(), self.0);
        } else {
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(self.0));
        }
    }

    #[inline(always)]
    unsafe fn store_part<const PART: usize>(self, to: *mut u8, index: usize) {
        match (PART, index) {
            (16, 1) => _mm_storeu_si128(to.cast(), _mm256_extracti128_si256::<1>(self.0)),
            _ => self.store(to, PART),
        }
    }

    #[inline(always)]
    unsafe fn input(self) -> D::Input {
        D::input(self.0)
    }

    #[inline(always)]
    unsafe fn weights(self) -> D::Weights {
        D::weights(self.0)
    }

    #[inline(always)]
    unsafe fn dot(self, input: D::Input, weights: D::Weights) -> Self {
        Self::of(D::dot(self.0, input, weights))
    }

    #[inline(always)]
    unsafe fn interleave_bytes_low(self, other: Self) -> Self {
        Self::of(_mm256_unpacklo_epi8(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn interleave_bytes_high(self, other: Self) -> Self {
        Self::of(_mm256_unpackhi_epi8(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn interleave_words_low(self, other: Self) -> Self {
        Self::of(_mm256_unpacklo_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn interleave_words_high(self, other: Self) -> Self {
        Self::of(_mm256_unpackhi_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn even_lanes(self, other: Self) -> Self {
        Self::of(_mm256_permute2x128_si256::<0x20>(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max_bytes(self, other: Self) -> Self {
        Self::of(_mm256_max_epu8(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn add_integers(self, other: Self) -> Self {
        Self::of(_mm256_add_epi32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn add_words_saturating(self, other: Self) -> Self {
        Self::of(_mm256_adds_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn words(self, other: Self) -> Self {
        Self::of(_mm256_packs_epi32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn bytes(self, other: Self) -> Self {
        Self::of(_mm256_packus_epi16(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn gather_fours(self) -> Self {
        let order = _mm256_loadu_si256(FOURS.as_ptr().cast());
        Self::of(_mm256_permutevar8x32_epi32(self.0, order))
    }

    #[inline(always)]
    unsafe fn widen(from: *const u8) -> Self {
        Self::of(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))
    }

    #[inline(always)]
    unsafe fn floats(self) -> __m256 {
        _mm256_cvtepi32_ps(self.0)
    }

    #[inline(always)]
    unsafe fn integers(floats: __m256) -> Self {
        Self::of(_mm256_cvtps_epi32(floats))
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn repeat_float(value: f32) -> __m256 {
        _mm256_set1_ps(value)
    }

    #[inline(always)]
    unsafe fn multiply(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn round(floats: __m256) -> __m256 {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(floats)
    }

    #[inline(always)]
    unsafe fn limit(floats: __m256, least: __m256, most: __m256) -> __m256 {
        _mm256_min_ps(_mm256_max_ps(floats, least), most)
    }
}
