//! The arithmetic of one element: that of ONNX Runtime on x86-64 with AVX2, on every machine.

/// Round half to even, add the zero point, saturate, as `MlasRequantizeOutput` does: the product is limited before it is
/// rounded, so nothing overflows.
pub(crate) fn requantize(accumulator: i32, multiplier: f32, zero: u8) -> u8 {
    quantize(accumulator as f32 * multiplier, zero)
}

/// Saturating rounding of a value in output steps (ONNX Runtime's QuantizeLinear after its division). NaN gives 0.
pub(crate) fn quantize(steps: f32, zero: u8) -> u8 {
    let zero = f32::from(zero);
    // The order makes NaN the lower limit, as MAXPS does.
    let limited = if steps > -zero { steps } else { -zero };
    (limited.min(255.0 - zero).round_ties_even() + zero) as u8
}

/// The quantisation of a `com.microsoft.QLinearAdd`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AddSpec {
    pub(crate) a_scale: f32,
    pub(crate) a_zero: u8,
    pub(crate) b_scale: f32,
    pub(crate) b_zero: u8,
    pub(crate) output_scale: f32,
    pub(crate) output_zero: u8,
}

/// `QLinearAdd` as ONNX Runtime's AVX2 kernel computes it: `fma(a, ratio_a, fma(b, ratio_b, fixed))`, rounded half to even
/// and saturated. A sum that is no 32-bit integer gives 0, as CVTPS2DQ makes it the smallest one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AddTerms {
    pub(crate) ratio_a: f32,
    pub(crate) ratio_b: f32,
    pub(crate) fixed: f32,
}

impl AddTerms {
    pub(crate) fn new(spec: &AddSpec) -> Self {
        let ratio_a = spec.a_scale / spec.output_scale;
        let ratio_b = spec.b_scale / spec.output_scale;
        let zeros = ratio_a.mul_add(f32::from(spec.a_zero), ratio_b * f32::from(spec.b_zero));
        Self {
            ratio_a,
            ratio_b,
            fixed: f32::from(spec.output_zero) - zeros,
        }
    }

    /// Whether no sum comes near the limits of 32-bit integers.
    pub(crate) fn is_moderate(&self) -> bool {
        255.0 * (self.ratio_a.abs() + self.ratio_b.abs()) + self.fixed.abs() < 1e9
    }

    pub(crate) fn add(&self, a: u8, b: u8) -> u8 {
        let inner = f32::from(b).mul_add(self.ratio_b, self.fixed);
        let sum = f32::from(a).mul_add(self.ratio_a, inner).round_ties_even();
        // From 2^31 on, and for NaN, the conversion gives the smallest integer.
        if sum < 2_147_483_648.0 {
            sum.clamp(0.0, 255.0) as u8
        } else {
            0
        }
    }
}
