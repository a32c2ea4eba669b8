//! What the vector kernels need of an instruction set.

/// A vector of bytes, words or 32-bit integers, whatever an operation takes it for, consisting of 128-bit lanes.
///
/// Kernels are written once for this trait and compiled for each instruction set: everything here and in them is
/// `inline(always)`, so that it ends up in a function with the set's `#[target_feature]`. Closures and iterator adapters
/// are not inlined for certain, so kernels have none.
///
/// # Safety
/// Of all functions: the processor has the instruction set; pointers are valid for what is read or written.
pub(in crate::engine::kernels) trait Vector: Copy {
    /// Bytes of a vector, a multiple of 16.
    const BYTES: usize;
    /// 32-bit integers of a vector.
    const LANES: usize = Self::BYTES / 4;
    /// Panels of 16 output channels that a dense kernel computes together at most: two vectors' worth.
    const MOST_PANELS: usize;
    /// Vectors of sums for which there are registers.
    const MOST_SUMS: usize;
    /// What [`super::super::Convolution::describe`] says.
    const NAME: &'static str;

    /// As many floats as [`Self::LANES`].
    type Floats: Copy;
    /// Input bytes, ready for [`Self::dot`].
    type Input: Copy;
    /// Weights, ready for [`Self::dot`].
    type Weights: Copy;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u8) -> Self;
    /// Four bytes, repeated.
    unsafe fn repeat4(from: *const u8) -> Self;
    /// A word, repeated.
    unsafe fn repeat_word(word: i16) -> Self;
    /// Stores the first `bytes` bytes, a multiple of 16, or all when there are fewer.
    unsafe fn store(self, to: *mut u8, bytes: usize);
    /// Stores `PART` bytes from `index * PART` on: a half or a quarter, or the first `PART` when `index` is 0.
    unsafe fn store_part<const PART: usize>(self, to: *mut u8, index: usize);

    unsafe fn input(self) -> Self::Input;
    unsafe fn weights(self) -> Self::Weights;
    /// To each 32-bit sum the four products of unsigned input bytes and signed weights, wrapping.
    unsafe fn dot(self, input: Self::Input, weights: Self::Weights) -> Self;

    /// The first eight bytes of each lane, interleaved with those of `other`.
    unsafe fn interleave_bytes_low(self, other: Self) -> Self;
    unsafe fn interleave_bytes_high(self, other: Self) -> Self;
    /// The first four words of each lane, interleaved with those of `other`.
    unsafe fn interleave_words_low(self, other: Self) -> Self;
    unsafe fn interleave_words_high(self, other: Self) -> Self;
    /// The even lanes of `self`, then those of `other`.
    unsafe fn even_lanes(self, other: Self) -> Self;
    unsafe fn max_bytes(self, other: Self) -> Self;
    unsafe fn add_integers(self, other: Self) -> Self;
    unsafe fn add_words_saturating(self, other: Self) -> Self;
    /// In each lane the four integers of `self`, then those of `other`, as words, saturating.
    unsafe fn words(self, other: Self) -> Self;
    /// In each lane the eight signed words of `self`, then those of `other`, as unsigned bytes, saturating.
    unsafe fn bytes(self, other: Self) -> Self;
    /// From lanes that hold four bytes of each of four vectors to the bytes of the first vector, the second, ...
    unsafe fn gather_fours(self) -> Self;
    /// [`Self::LANES`] bytes as integers.
    unsafe fn widen(from: *const u8) -> Self;

    unsafe fn floats(self) -> Self::Floats;
    /// Rounded half to even; kernels see to it that all are in range.
    unsafe fn integers(floats: Self::Floats) -> Self;
    unsafe fn load_floats(from: *const f32) -> Self::Floats;
    unsafe fn repeat_float(value: f32) -> Self::Floats;
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Half to even.
    unsafe fn round(floats: Self::Floats) -> Self::Floats;
    unsafe fn limit(floats: Self::Floats, least: Self::Floats, most: Self::Floats) -> Self::Floats;
}
