//! Sums of dense windows by the byte dot product of ARM (SDOT): four products of signed bytes a 32-bit lane, exact. The rest
//! of these kernels is in `neon`.

use super::{
    layout::LANES,
    neon::{CHUNK, Dense, Row, Sums, signed},
};
use std::arch::{aarch64::*, asm};

/// Output pixels that are computed together; with 16 outputs each they fill half of the registers with sums.
const PIXELS: usize = 4;

/// 16 output channels of an output row.
///
/// # Safety
/// The machine has the dot product, `pixels` has passed the row's `check`, and the windows are readable as the kernel's rows
/// and chunks say.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dense_row(dense: &Dense, block: usize, job: &Row<'_>, pixels: &mut [u8]) {
    for x in (0..job.width).step_by(PIXELS) {
        let windows = job.window::<PIXELS>(x);
        // SAFETY: as the caller promises.
        unsafe {
            let sums = dense_sums(dense, block, windows, job.input_row, job.start());
            job.finish(x, sums, pixels);
        }
    }
}

/// Sums of 16 outputs for `P` windows.
///
/// # Safety
/// As `dense_row`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dense_sums<const P: usize>(
    dense: &Dense,
    block: usize,
    windows: [*const u8; P],
    input_row: usize,
    start: Sums,
) -> [Sums; P] {
    let mut weights = dense.block(block).as_ptr();
    let mut sums = [start; P];
    for ky in 0..dense.rows {
        for chunk in 0..dense.chunks {
            let at = ky * input_row + chunk * LANES;
            // SAFETY: windows are readable for `rows` rows of `chunks` chunks; a block has as many chunks of weights.
            unsafe {
                let inputs: [int8x16_t; P] =
                    std::array::from_fn(|pixel| signed(windows[pixel].add(at)));
                products::<0, P>(weights, &inputs, &mut sums);
                products::<1, P>(weights, &inputs, &mut sums);
                products::<2, P>(weights, &inputs, &mut sums);
                products::<3, P>(weights, &inputs, &mut sums);
            }
            weights = weights.wrapping_add(CHUNK);
        }
    }
    sums
}

/// Adds the products of bytes `4 * LANE..` of each input with their weights for 16 outputs.
///
/// # Safety
/// A chunk of weights is readable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn products<const LANE: usize, const P: usize>(
    weights: *const i8,
    inputs: &[int8x16_t; P],
    sums: &mut [Sums; P],
) {
    for quarter in 0..4 {
        // SAFETY: as the caller promises.
        let weights = unsafe { vld1q_s8(weights.add(LANE * 4 * LANES + quarter * LANES)) };
        for (sums, &input) in sums.iter_mut().zip(inputs) {
            sums[quarter] = dot::<LANE>(sums[quarter], weights, input);
        }
    }
}

/// SDOT by element: each lane of `sum` gains the product of its four weights and bytes `4 * LANE..` of `input`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: usize>(mut sum: int32x4_t, weights: int8x16_t, input: int8x16_t) -> int32x4_t {
    // SAFETY: registers alone are read and written. The intrinsic is not stable in Rust yet.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {input:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            input = in(vreg) input,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
