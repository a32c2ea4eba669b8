//! Dot products in registers and nothing else.

use super::vector::Vector;
use std::hint::black_box;

const STEPS: u32 = 1 << 14;
/// Sums in registers: enough to hide how long one dot product takes.
const SUMS: usize = 12;

/// Multiply-accumulates of a run for each byte of a vector.
pub(in crate::engine::kernels) const PEAK_MACS: f64 = (STEPS as usize * SUMS) as f64;

/// # Safety
/// The processor runs `V`.
#[inline(always)]
pub(super) unsafe fn peak<V: Vector>(seed: i16) {
    let input = black_box(V::repeat_word(seed)).input();
    let mut sums = [V::repeat_word(seed); SUMS];
    let mut step = 0;
    while step < STEPS {
        for sum in 0..SUMS {
            // The sums are the weights, so that no part of the work is the same twice.
            sums[sum] = sums[sum].dot(input, sums[sum].weights());
        }
        step += 1;
    }
    black_box(sums);
}
