//! Fully connected layers: QGemm with one row, and QLinearMatMul.

#[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
use super::neon;
use super::{
    KernelSet,
    arithmetic::requantize,
    convolution::ConvSpec,
    layout::{LANES, Layout},
    packing::{DenseWeights, is_safe_in_16_bits, partition},
    simd::Instance,
};

/// What a [`FullyConnected`] is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullySpec<'a> {
    /// The map whose pixels are the inputs; a vector is a map of 1 x 1 pixels.
    pub(crate) input: Layout,
    /// `[outputs, channels * height * width]`, each row in the order in which `Flatten` reads a map: channel, row, column.
    pub(crate) weights: &'a [i8],
    /// One an output.
    pub(crate) bias: &'a [i32],
    pub(crate) input_zero: u8,
    pub(crate) output: FullyOutput<'a>,
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FullyOutput<'a> {
    /// `sum * scale`, with `input scale * weight scale` for each output.
    Float {
        /// One an output.
        scales: &'a [f32],
    },
    /// Requantised.
    Quantized {
        /// `(input scale * weight scale) / output scale`, one an output.
        multipliers: &'a [f32],
        zero: u8,
    },
}

/// `QGemm` of one row or `QLinearMatMul` with a constant matrix, packed for one kernel set.
#[derive(Clone, Debug)]
pub(crate) struct FullyConnected {
    input: Layout,
    kernel: Kernel,
    /// Padded with 0 to whole blocks.
    start: Vec<i32>,
    scales: Vec<f32>,
    /// Zero point of a requantised output.
    zero: Option<u8>,
}

#[derive(Clone, Debug)]
enum Kernel {
    /// `[output][row][column][channel]`.
    Portable(Vec<i8>),
    /// As a convolution whose only window is the whole map.
    Dense(&'static Instance, DenseWeights),
    #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
    Neon(neon::Matrix),
}

impl FullyConnected {
    /// Packs a layer.
    ///
    /// # Panics
    /// When lengths disagree.
    pub(crate) fn new(set: KernelSet, spec: &FullySpec<'_>) -> Self {
        let input = spec.input;
        let pixels = input.height * input.width;
        let depth = pixels * input.channels;
        let outputs = spec.bias.len();
        assert_eq!(spec.weights.len(), outputs * depth, "weights");
        let (scales, zero) = match spec.output {
            FullyOutput::Float { scales } => (scales, None),
            FullyOutput::Quantized { multipliers, zero } => (multipliers, Some(zero)),
        };
        assert_eq!(scales.len(), outputs, "scales");
        let mut start: Vec<i32> = spec
            .weights
            .chunks_exact(depth)
            .zip(spec.bias)
            .map(|(row, bias)| {
                let sum: i32 = row.iter().map(|&weight| i32::from(weight)).sum();
                bias.wrapping_sub(i32::from(spec.input_zero).wrapping_mul(sum))
            })
            .collect();
        let instance = Instance::choose(set, is_safe_in_16_bits(spec.weights));
        let kernel = match instance.filter(|_| input.len() <= u32::MAX as usize) {
            None => Kernel::Portable(
                (0..outputs * depth)
                    .map(|at| {
                        let (output, at) = (at / depth, at % depth);
                        let (pixel, channel) = (at / input.channels, at % input.channels);
                        spec.weights[output * depth + channel * pixels + pixel]
                    })
                    .collect(),
            ),
            Some(instance) => {
                let blocks = partition(outputs.div_ceil(LANES), 4);
                start.resize(outputs.next_multiple_of(LANES), 0);
                Kernel::Dense(instance, DenseWeights::new(&spec.as_convolution(), &blocks))
            }
        };
        #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
        let kernel = match set {
            KernelSet::Neon | KernelSet::NeonDot if set.is_available() => {
                let weight = |output: usize, y: usize, x: usize, channel: usize| {
                    spec.weights[output * depth + channel * pixels + y * input.width + x]
                };
                let dot = set == KernelSet::NeonDot;
                Kernel::Neon(neon::Matrix::new(&start, &input, weight, dot))
            }
            _ => kernel,
        };
        Self {
            input,
            kernel,
            start,
            scales: scales.to_vec(),
            zero,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        let kernel = match &self.kernel {
            Kernel::Portable(_) => "portable",
            Kernel::Dense(instance, _) => instance.name,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
            Kernel::Neon(kernel) => kernel.name(),
        };
        format!("fully connected {kernel}")
    }

    /// Multiply-accumulates of a run.
    #[cfg(test)]
    pub(crate) fn macs(&self) -> u64 {
        let inputs = self.input.height * self.input.width * self.input.channels;
        (inputs * self.outputs()) as u64
    }

    /// Number of outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.scales.len()
    }

    /// Computes all outputs as floats. `input` is the whole buffer of the map with its slack.
    ///
    /// # Panics
    /// When a slice is too short, or the layer was made for a quantised output.
    pub(crate) fn run_float(&self, input: &[u8], output: &mut [f32]) {
        assert!(self.zero.is_none(), "a requantised output");
        assert!(output.len() >= self.outputs());
        self.input.check_input(input);
        self.sums(input, |index, sum| {
            output[index] = sum as f32 * self.scales[index];
        });
    }

    /// Computes all outputs as bytes. `output` begins with the only pixel of the output map and holds at least as many
    /// bytes as outputs; bytes after them are left alone.
    ///
    /// # Panics
    /// When a slice is too short, or the layer was made for a float output.
    pub(crate) fn run_quantized(&self, input: &[u8], output: &mut [u8]) {
        let zero = self.zero.expect("a float output");
        assert!(output.len() >= self.outputs());
        self.input.check_input(input);
        self.sums(input, |index, sum| {
            output[index] = requantize(sum, self.scales[index], zero);
        });
    }

    /// Gives each output's sum to `finish`.
    fn sums(&self, input: &[u8], mut finish: impl FnMut(usize, i32)) {
        match &self.kernel {
            Kernel::Portable(weights) => {
                for output in 0..self.outputs() {
                    finish(output, self.sum(weights, output, input));
                }
            }
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
            Kernel::Neon(kernel) => kernel.run(input, |first, sums| {
                for (output, &sum) in (first..self.outputs()).zip(sums) {
                    finish(output, sum);
                }
            }),
            Kernel::Dense(instance, weights) => {
                for block in &weights.blocks {
                    let mut sums = [0; 4 * LANES];
                    let start = &self.start[block.first..];
                    let map = &input[self.input.offset(0, 0)..];
                    // SAFETY: the instance was chosen because the processor has its instructions; the input was checked
                    // against the layout that the steps were made for; the start values were padded to whole panels.
                    unsafe { (instance.sums)(weights, block, start, map.as_ptr(), &mut sums) };
                    let outputs = self.outputs() - block.first;
                    let count = outputs.min(block.panels * LANES);
                    for (within, &sum) in sums[..count].iter().enumerate() {
                        finish(block.first + within, sum);
                    }
                }
            }
        }
    }

    fn sum(&self, weights: &[i8], output: usize, input: &[u8]) -> i32 {
        let Layout {
            height,
            width,
            channels,
            ..
        } = self.input;
        let depth = height * width * channels;
        let mut weights = weights[output * depth..][..depth].iter();
        let mut sum = self.start[output];
        for y in 0..height {
            for x in 0..width {
                let pixel = &input[self.input.offset(y, x)..][..channels];
                for (&input, &weight) in pixel.iter().zip(&mut weights) {
                    sum = sum.wrapping_add(i32::from(input) * i32::from(weight));
                }
            }
        }
        sum
    }
}

impl<'a> FullySpec<'a> {
    /// The convolution with the same sums, without what follows them.
    fn as_convolution(&self) -> ConvSpec<'a> {
        ConvSpec {
            input: self.input,
            output: Layout::map(1, 1, self.bias.len()),
            kernel: (self.input.height, self.input.width),
            stride: (1, 1),
            pad_top: 0,
            pad_left: 0,
            group: 1,
            weights: self.weights,
            bias: self.bias,
            multipliers: &[],
            input_zero: self.input_zero,
            output_zero: 0,
            residual: None,
        }
    }
}
