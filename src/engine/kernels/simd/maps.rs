//! Addition and pooling of whole maps.

use super::{
    super::arithmetic::AddTerms,
    depthwise::widen4,
    finish::{pack, pack_shifted, steps},
    vector::Vector,
};

/// Adds `count` bytes, a multiple of 16.
///
/// # Safety
/// The processor runs `V`; `a` and `b` may be read up to a vector beyond `count`, `output` holds `count` bytes.
#[inline(always)]
pub(super) unsafe fn add<V: Vector>(
    terms: &AddTerms,
    a: *const u8,
    b: *const u8,
    output: *mut u8,
    count: usize,
) {
    let ratio_a = V::repeat_float(terms.ratio_a);
    let ratio_b = V::repeat_float(terms.ratio_b);
    let fixed = V::repeat_float(terms.fixed);
    let mut at = 0;
    while at < count {
        let left = widen4(V::load(a.add(at)));
        let right = widen4(V::load(b.add(at)));
        let mut parts = [V::zero(); 4];
        for part in 0..4 {
            let inner = V::multiply_add(right[part].floats(), ratio_b, fixed);
            let sum = V::multiply_add(left[part].floats(), ratio_a, inner);
            parts[part] = V::integers(sum);
        }
        pack(parts).store(output.add(at), count - at);
        at += V::BYTES;
    }
}

/// The greatest bytes of `rows x columns` pixels, for `count` channels, a multiple of 16.
///
/// # Safety
/// As of [`add`]; pixels lie `row_bytes` and `pixel_bytes` apart.
#[inline(always)]
pub(super) unsafe fn greatest<V: Vector>(
    input: *const u8,
    (rows, row_bytes): (usize, usize),
    (columns, pixel_bytes): (usize, usize),
    output: *mut u8,
    count: usize,
) {
    let mut at = 0;
    while at < count {
        let mut greatest = V::zero();
        let mut row = 0;
        while row < rows {
            let mut pixel = input.add(at + row * row_bytes);
            let mut column = 0;
            while column < columns {
                greatest = greatest.max_bytes(V::load(pixel));
                pixel = pixel.wrapping_add(pixel_bytes);
                column += 1;
            }
            row += 1;
        }
        greatest.store(output.add(at), count - at);
        at += V::BYTES;
    }
}

/// What an average is made of.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::kernels) struct Average {
    /// Minus the zero point of all pixels.
    pub(in crate::engine::kernels) start: i32,
    pub(in crate::engine::kernels) multiplier: f32,
    pub(in crate::engine::kernels) zero: u8,
}

/// The averages of `rows x columns` pixels, for `count` channels, a multiple of 16.
///
/// # Safety
/// As of [`greatest`].
#[inline(always)]
pub(super) unsafe fn average<V: Vector>(
    average: &Average,
    input: *const u8,
    (rows, row_bytes): (usize, usize),
    (columns, pixel_bytes): (usize, usize),
    output: *mut u8,
    count: usize,
) {
    let multiplier = V::repeat_float(average.multiplier);
    let zero = V::repeat_word(average.zero as i16);
    let start = [average.start; 16];
    let mut at = 0;
    while at < count {
        let mut sums = [V::load(start.as_ptr().cast()); 4];
        let mut row = 0;
        while row < rows {
            let mut pixel = input.add(at + row * row_bytes);
            let mut column = 0;
            while column < columns {
                let values = widen4(V::load(pixel));
                for part in 0..4 {
                    sums[part] = sums[part].add_integers(values[part]);
                }
                pixel = pixel.wrapping_add(pixel_bytes);
                column += 1;
            }
            row += 1;
        }
        for part in 0..4 {
            sums[part] = steps(sums[part], multiplier);
        }
        pack_shifted(sums, zero).store(output.add(at), count - at);
        at += V::BYTES;
    }
}
