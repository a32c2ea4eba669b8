//! From sums to bytes: requantisation and the fused addition.

use super::{super::convolution::Epilogue, vector::Vector};

/// What the fused addition is to do, as vectors.
#[derive(Clone, Copy)]
pub(super) struct Addition<V: Vector> {
    least: V::Floats,
    most: V::Floats,
    zero: V::Floats,
    own: V::Floats,
    other: V::Floats,
    fixed: V::Floats,
    result_is_a: bool,
}

impl<V: Vector> Addition<V> {
    /// Of a convolution that has one; without, nothing to be used.
    #[inline(always)]
    pub(super) unsafe fn new(epilogue: &Epilogue) -> Self {
        let zero = epilogue.zero as f32;
        let (mut own, mut other, mut fixed, mut result_is_a) = (0.0, 0.0, 0.0, true);
        if let Some(residual) = &epilogue.residual {
            result_is_a = residual.result_is_a;
            fixed = residual.terms.fixed;
            own = residual.terms.ratio_a;
            other = residual.terms.ratio_b;
            if !result_is_a {
                (own, other) = (other, own);
            }
        }
        Self {
            least: V::repeat_float(-zero),
            most: V::repeat_float(255.0 - zero),
            zero: V::repeat_float(zero),
            own: V::repeat_float(own),
            other: V::repeat_float(other),
            fixed: V::repeat_float(fixed),
            result_is_a,
        }
    }

    /// The rounded total of a convolution's sums and bytes of the other operand, as integers that are to be saturated.
    #[inline(always)]
    pub(super) unsafe fn total(&self, sums: V, multipliers: V::Floats, other: V) -> V {
        let steps = V::round(V::multiply(sums.floats(), multipliers));
        let own = V::add(V::limit(steps, self.least, self.most), self.zero);
        let other = other.floats();
        V::integers(if self.result_is_a {
            let inner = V::multiply_add(other, self.other, self.fixed);
            V::multiply_add(own, self.own, inner)
        } else {
            let inner = V::multiply_add(own, self.own, self.fixed);
            V::multiply_add(other, self.other, inner)
        })
    }
}

/// Sums in output steps, without the zero point.
#[inline(always)]
pub(super) unsafe fn steps<V: Vector>(sums: V, multipliers: V::Floats) -> V {
    V::integers(V::multiply(sums.floats(), multipliers))
}

/// The bytes of four vectors of integers, each lane with four of each vector.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector>(parts: [V; 4]) -> V {
    parts[0].words(parts[1]).bytes(parts[2].words(parts[3]))
}

/// The same of integers plus a zero point.
#[inline(always)]
pub(super) unsafe fn pack_shifted<V: Vector>(parts: [V; 4], zero: V) -> V {
    let low = parts[0].words(parts[1]).add_words_saturating(zero);
    let high = parts[2].words(parts[3]).add_words_saturating(zero);
    low.bytes(high)
}
