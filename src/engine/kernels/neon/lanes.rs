//! The arithmetic of `arithmetic` on 16 lanes of NEON, and what 32-bit ARM does in another way than 64-bit ARM.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "arm")]
use std::arch::arm::*;

use super::{
    super::{arithmetic::AddTerms, layout::LANES},
    Sums,
};

/// 16 bytes less 128.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
pub(in crate::engine::kernels) unsafe fn signed(bytes: *const u8) -> int8x16_t {
    // SAFETY: as the caller promises.
    let bytes = unsafe { vld1q_u8(bytes) };
    vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)))
}

/// Sums of neighbouring lanes, those of `a` first.
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
pub(super) fn add_neighbours(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    #[cfg(target_arch = "aarch64")]
    return vpaddq_s32(a, b);
    #[cfg(target_arch = "arm")]
    return vcombine_s32(
        vpadd_s32(vget_low_s32(a), vget_high_s32(a)),
        vpadd_s32(vget_low_s32(b), vget_high_s32(b)),
    );
}

/// `arithmetic::requantize` of 16 sums.
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
pub(super) fn requantize(sums: Sums, multipliers: &[f32], zero: u8) -> uint8x16_t {
    let least = vdupq_n_f32(-f32::from(zero));
    let greatest = vdupq_n_f32(255.0 - f32::from(zero));
    let multipliers: &[f32; LANES] = multipliers.try_into().expect("16 multipliers");
    let mut steps = [vdupq_n_s32(0); 4];
    for (quarter, steps) in steps.iter_mut().enumerate() {
        // SAFETY: the array holds 16 multipliers.
        let multiplier = unsafe { vld1q_f32(multipliers.as_ptr().add(4 * quarter)) };
        let product = vmulq_f32(vcvtq_f32_s32(sums[quarter]), multiplier);
        // The order makes NaN the lower limit.
        let limited = vbslq_f32(vcgtq_f32(product, least), product, least);
        *steps = round(vminq_f32(limited, greatest));
    }
    let zero = vdupq_n_s16(i16::from(zero));
    let low = vcombine_s16(vmovn_s32(steps[0]), vmovn_s32(steps[1]));
    let high = vcombine_s16(vmovn_s32(steps[2]), vmovn_s32(steps[3]));
    vcombine_u8(
        vqmovun_s16(vaddq_s16(low, zero)),
        vqmovun_s16(vaddq_s16(high, zero)),
    )
}

/// Half to even; the values are in -255..=255.
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
fn round(values: float32x4_t) -> int32x4_t {
    #[cfg(target_arch = "aarch64")]
    return vcvtnq_s32_f32(values);
    #[cfg(target_arch = "arm")]
    {
        // 1.5 * 2^23: its sum with a small value has no bits for a fraction.
        const SHIFT: f32 = 12_582_912.0;
        let shifted = vreinterpretq_s32_f32(vaddq_f32(values, vdupq_n_f32(SHIFT)));
        vsubq_s32(shifted, vdupq_n_s32(SHIFT.to_bits() as i32))
    }
}

/// `AddTerms::add` of 16 pairs.
#[cfg(target_arch = "aarch64")]
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
pub(super) fn add(terms: &AddTerms, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
    let (a, b) = (floats(a), floats(b));
    let sums: Sums = std::array::from_fn(|quarter| {
        let inner = vfmaq_n_f32(vdupq_n_f32(terms.fixed), b[quarter], terms.ratio_b);
        let sum = vfmaq_n_f32(inner, a[quarter], terms.ratio_a);
        // From 2^31 on, and for NaN, the result is 0.
        let is_integer = vcltq_f32(sum, vdupq_n_f32(2_147_483_648.0));
        vandq_s32(vcvtnq_s32_f32(sum), vreinterpretq_s32_u32(is_integer))
    });
    let low = vcombine_s16(vqmovn_s32(sums[0]), vqmovn_s32(sums[1]));
    let high = vcombine_s16(vqmovn_s32(sums[2]), vqmovn_s32(sums[3]));
    vcombine_u8(vqmovun_s16(low), vqmovun_s16(high))
}

/// `AddTerms::add` of 16 pairs: the first NEON has no fused multiply-add.
#[cfg(target_arch = "arm")]
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
pub(super) fn add(terms: &AddTerms, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
    let (mut left, mut right) = ([0u8; LANES], [0u8; LANES]);
    // SAFETY: each array holds 16 bytes.
    unsafe {
        vst1q_u8(left.as_mut_ptr(), a);
        vst1q_u8(right.as_mut_ptr(), b);
    }
    for (left, right) in left.iter_mut().zip(right) {
        *left = terms.add(*left, right);
    }
    // SAFETY: as above.
    unsafe { vld1q_u8(left.as_ptr()) }
}

#[cfg(target_arch = "aarch64")]
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
fn floats(bytes: uint8x16_t) -> [float32x4_t; 4] {
    let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
    [
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
        vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
        vcvtq_f32_u32(vmovl_u16(vget_high_u16(high))),
    ]
}

/// `AddTerms::add` of blocks of 16 bytes, as many as `sums` holds.
#[cfg(target_arch = "aarch64")]
pub(in crate::engine::kernels) fn add_blocks(
    terms: &AddTerms,
    a: &[u8],
    b: &[u8],
    sums: &mut [u8],
) {
    let rows = sums.chunks_exact_mut(LANES);
    for ((sums, a), b) in rows.zip(a.chunks_exact(LANES)).zip(b.chunks_exact(LANES)) {
        // SAFETY: the set was found available; each chunk holds 16 bytes.
        unsafe {
            let sum = add(terms, vld1q_u8(a.as_ptr()), vld1q_u8(b.as_ptr()));
            vst1q_u8(sums.as_mut_ptr(), sum);
        }
    }
}
