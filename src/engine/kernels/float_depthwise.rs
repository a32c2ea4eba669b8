//! Depthwise convolution in float on channel planes: tract's own has neither fused multiply-add on x86-64 nor vectors at
//! stride 2. Plain Rust that the compiler vectorises once for each instruction set; the only `unsafe` is the call of the
//! version that the processor was found to have.

#![allow(
    unsafe_code,
    reason = "calling code that is compiled for instructions which were detected"
)]

/// Values that are computed together: enough for two registers of 512 bits or four of 256.
const LANES: usize = 32;

/// A convolution with one kernel a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FloatDepthwise {
    pub(crate) channels: usize,
    /// Height and width of the input.
    pub(crate) input: (usize, usize),
    /// Height and width of the output.
    pub(crate) output: (usize, usize),
    /// Height and width of the kernels.
    pub(crate) kernel: (usize, usize),
    /// Vertical and horizontal stride.
    pub(crate) stride: (usize, usize),
    /// Zeros above and left of the input.
    pub(crate) pad: (usize, usize),
}

/// What the code was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatSet {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the compilation target has.
    Baseline,
}

impl FloatSet {
    /// Those that this processor runs, the best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                sets.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
            }
        }
        sets.push(Self::Baseline);
        sets
    }

    /// The best one.
    pub(crate) fn best() -> Self {
        Self::available()[0]
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Baseline => "baseline",
        }
    }
}

/// Fused multiply-add where the target has it: without, the library's exact emulation would be called for each value.
const BASELINE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl FloatDepthwise {
    /// Rows and columns of one phase plane. The padded input is split by the remainders of row and column by the strides,
    /// so that whatever the stride, consecutive outputs read consecutive values.
    fn plane(&self) -> (usize, usize) {
        let edge = |output: usize, kernel: usize, stride: usize| output + (kernel - 1) / stride;
        (
            edge(self.output.0, self.kernel.0, self.stride.0),
            edge(self.output.1, self.kernel.1, self.stride.1),
        )
    }

    /// Results of a channel before the ends of its rows are cut off, in whole blocks.
    fn result_len(&self) -> usize {
        (self.output.0 * self.plane().1).next_multiple_of(LANES)
    }

    /// How far the last tap of the last block may read past the planes.
    fn slack(&self) -> usize {
        LANES + self.kernel.1
    }

    /// Values of scratch memory that [`FloatDepthwise::run`] needs.
    pub(crate) fn scratch_len(&self) -> usize {
        let (rows, columns) = self.plane();
        let phases = self.stride.0 * self.stride.1;
        phases * rows * columns + self.slack() + self.result_len()
    }

    /// Convolves `[channels, height, width]` values with `[channels, kernel height, kernel width]` weights and one bias a
    /// channel. `scratch` holds [`FloatDepthwise::scratch_len`] values and is zero before the first run.
    pub(crate) fn run(
        &self,
        set: FloatSet,
        input: &[f32],
        weights: &[f32],
        bias: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        match set {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a set is only made for a processor that has its instructions.
            FloatSet::Avx512 => unsafe { self.run_avx512(input, weights, bias, output, scratch) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            FloatSet::Avx2 => unsafe { self.run_avx2(input, weights, bias, output, scratch) },
            FloatSet::Baseline => {
                self.run_as::<BASELINE_FMA>(input, weights, bias, output, scratch);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    fn run_avx512(&self, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32], s: &mut [f32]) {
        self.run_as::<true>(x, weights, bias, y, s);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2(&self, x: &[f32], weights: &[f32], bias: &[f32], y: &mut [f32], s: &mut [f32]) {
        self.run_as::<true>(x, weights, bias, y, s);
    }

    #[inline(always)]
    fn run_as<const FMA: bool>(
        &self,
        input: &[f32],
        weights: &[f32],
        bias: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (rows, columns) = self.plane();
        let taps = self.kernel.0 * self.kernel.1;
        let planes_len = self.stride.0 * self.stride.1 * rows * columns;
        let (planes, result) = scratch.split_at_mut(planes_len + self.slack());
        let input_len = self.input.0 * self.input.1;
        let output_len = self.output.0 * self.output.1;
        let channels = input
            .chunks_exact(input_len)
            .zip(weights.chunks_exact(taps))
            .zip(bias)
            .zip(output.chunks_exact_mut(output_len));
        for (((input, weights), &bias), output) in channels {
            self.split(input, planes, rows, columns);
            let result = &mut result[..self.result_len()];
            match taps {
                9 => self.convolve::<FMA, 9>(planes, weights, bias, result, (rows, columns)),
                25 => self.convolve::<FMA, 25>(planes, weights, bias, result, (rows, columns)),
                _ => self.convolve_any::<FMA>(planes, weights, bias, result, (rows, columns)),
            }
            for (to, from) in output
                .chunks_exact_mut(self.output.1)
                .zip(result.chunks_exact(columns))
            {
                to.copy_from_slice(&from[..self.output.1]);
            }
        }
    }

    /// Writes one channel into its phase planes; the padding is there since the scratch was made.
    #[inline(always)]
    fn split(&self, input: &[f32], planes: &mut [f32], rows: usize, columns: usize) {
        let (stride_y, stride_x) = self.stride;
        for (y, line) in input.chunks_exact(self.input.1).enumerate() {
            let padded_y = y + self.pad.0;
            let row = padded_y / stride_y;
            if row >= rows {
                break;
            }
            for phase_x in 0..stride_x {
                let phase = padded_y % stride_y * stride_x + phase_x;
                let plane_row = &mut planes[(phase * rows + row) * columns..][..columns];
                // The first value of the line that falls into this phase, and the column it falls on.
                let first = (phase_x + stride_x - self.pad.1 % stride_x) % stride_x;
                let column = (first + self.pad.1) / stride_x;
                let Some(plane_row) = plane_row.get_mut(column..) else {
                    continue;
                };
                if stride_x == 1 {
                    let count = plane_row.len().min(line.len());
                    plane_row[..count].copy_from_slice(&line[..count]);
                } else if let Some(line) = line.get(first..) {
                    if stride_x == 2 {
                        take_every::<2>(plane_row, line);
                    } else {
                        for (to, from) in plane_row.iter_mut().zip(line.iter().step_by(stride_x)) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }

    /// Where tap `index` reads for output 0.
    #[inline(always)]
    fn tap_offset(&self, index: usize, (rows, columns): (usize, usize)) -> usize {
        let (y, x) = (index / self.kernel.1, index % self.kernel.1);
        let phase = y % self.stride.0 * self.stride.1 + x % self.stride.1;
        (phase * rows + y / self.stride.0) * columns + x / self.stride.1
    }

    #[inline(always)]
    fn convolve<const FMA: bool, const TAPS: usize>(
        &self,
        planes: &[f32],
        weights: &[f32],
        bias: f32,
        result: &mut [f32],
        plane: (usize, usize),
    ) {
        let weights: &[f32; TAPS] = weights.try_into().expect("one weight a tap");
        // One slice a tap, all of the result's length, so that the loop below needs no bounds checks.
        let taps: [&[f32]; TAPS] =
            std::array::from_fn(|index| &planes[self.tap_offset(index, plane)..][..result.len()]);
        for (block, result) in result.chunks_exact_mut(LANES).enumerate() {
            let mut sums = [bias; LANES];
            for tap in 0..TAPS {
                add_tap::<FMA>(&mut sums, &taps[tap][block * LANES..], weights[tap]);
            }
            result.copy_from_slice(&sums);
        }
    }

    #[inline(always)]
    fn convolve_any<const FMA: bool>(
        &self,
        planes: &[f32],
        weights: &[f32],
        bias: f32,
        result: &mut [f32],
        plane: (usize, usize),
    ) {
        for (block, result) in result.chunks_exact_mut(LANES).enumerate() {
            let mut sums = [bias; LANES];
            for (index, &weight) in weights.iter().enumerate() {
                let offset = self.tap_offset(index, plane) + block * LANES;
                add_tap::<FMA>(&mut sums, &planes[offset..], weight);
            }
            result.copy_from_slice(&sums);
        }
    }
}

/// Copies the first of every `STEP` values; whole groups and the last value apart, which lets the compiler use shuffles.
#[inline(always)]
fn take_every<const STEP: usize>(to: &mut [f32], from: &[f32]) {
    let (groups, rest) = from.as_chunks::<STEP>();
    for (to, group) in to.iter_mut().zip(groups) {
        *to = group[0];
    }
    if let (Some(to), Some(from)) = (to.get_mut(groups.len()), rest.first()) {
        *to = *from;
    }
}

#[inline(always)]
fn add_tap<const FMA: bool>(sums: &mut [f32; LANES], values: &[f32], weight: f32) {
    for (sum, value) in sums.iter_mut().zip(&values[..LANES]) {
        *sum = if FMA {
            weight.mul_add(*value, *sum)
        } else {
            *sum + weight * *value
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(conv: &FloatDepthwise, x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut output = Vec::new();
        for channel in 0..conv.channels {
            for y in 0..conv.output.0 {
                for x_out in 0..conv.output.1 {
                    let mut sum = f64::from(bias[channel]);
                    for ky in 0..conv.kernel.0 {
                        for kx in 0..conv.kernel.1 {
                            let row = (y * conv.stride.0 + ky).wrapping_sub(conv.pad.0);
                            let column = (x_out * conv.stride.1 + kx).wrapping_sub(conv.pad.1);
                            if row < conv.input.0 && column < conv.input.1 {
                                let value =
                                    x[(channel * conv.input.0 + row) * conv.input.1 + column];
                                let tap = (channel * conv.kernel.0 + ky) * conv.kernel.1 + kx;
                                sum += f64::from(value) * f64::from(weights[tap]);
                            }
                        }
                    }
                    output.push(sum as f32);
                }
            }
        }
        output
    }

    fn values(seed: u32, count: usize) -> Vec<f32> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        let mut state = seed;
        std::iter::from_fn(|| next(&mut state))
            .take(count)
            .collect()
    }

    proptest! {
        #[test]
        fn every_set_computes_the_convolution(
            channels in 1usize..5, height in 1usize..40, width in 1usize..40,
            kernel in (1usize..6, 1usize..6), stride in (1usize..4, 1usize..4),
            pad in (0usize..3, 0usize..3), seed in any::<u32>(),
        ) {
            let edge = |input: usize, kernel: usize, stride: usize, pad: usize| {
                (input + 2 * pad).checked_sub(kernel).map(|room| room / stride + 1)
            };
            let (Some(rows), Some(columns)) = (
                edge(height, kernel.0, stride.0, pad.0),
                edge(width, kernel.1, stride.1, pad.1),
            ) else { return Ok(()) };
            let conv = FloatDepthwise {
                channels, input: (height, width), output: (rows, columns), kernel, stride, pad,
            };
            let x = values(seed, channels * height * width);
            let weights = values(seed ^ 1, channels * kernel.0 * kernel.1);
            let bias = values(seed ^ 2, channels);
            let expected = reference(&conv, &x, &weights, &bias);
            for set in FloatSet::available() {
                let mut found = vec![f32::NAN; expected.len()];
                let mut scratch = vec![0.0; conv.scratch_len()];
                conv.run(set, &x, &weights, &bias, &mut found, &mut scratch);
                for (a, b) in found.iter().zip(&expected) {
                    prop_assert!((a - b).abs() < 1e-4, "{} {a} {b}", set.name());
                }
            }
        }
    }
}
