//! Fully connected layers: QGemm with one row, and QLinearMatMul.

use super::{KernelSet, arithmetic::requantize, layout::Layout};

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
    /// `[output][row][column][channel]`.
    weights: Vec<i8>,
    start: Vec<i32>,
    scales: Vec<f32>,
    /// Zero point of a requantised output.
    zero: Option<u8>,
}

impl FullyConnected {
    /// Packs a layer.
    ///
    /// # Panics
    /// When lengths disagree.
    pub(crate) fn new(set: KernelSet, spec: &FullySpec<'_>) -> Self {
        let _ = set;
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
        let mut weights = Vec::with_capacity(outputs * depth);
        let mut start = Vec::with_capacity(outputs);
        for (output, &bias) in spec.bias.iter().enumerate() {
            let row = &spec.weights[output * depth..][..depth];
            let sum: i32 = row.iter().map(|&weight| i32::from(weight)).sum();
            start.push(bias.wrapping_sub(i32::from(spec.input_zero).wrapping_mul(sum)));
            let source = |at: usize| row[at % input.channels * pixels + at / input.channels];
            weights.extend((0..depth).map(source));
        }
        Self {
            input,
            weights,
            start,
            scales: scales.to_vec(),
            zero,
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        "fully connected portable".to_owned()
    }

    /// Multiply-accumulates of a run.
    pub(crate) fn macs(&self) -> u64 {
        self.weights.len() as u64
    }

    /// Number of outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.start.len()
    }

    /// Computes all outputs as floats. `input` is the whole buffer of the map with its slack.
    ///
    /// # Panics
    /// When a slice is too short, or the layer was made for a quantised output.
    pub(crate) fn run_float(&self, input: &[u8], output: &mut [f32]) {
        assert!(self.zero.is_none(), "a requantised output");
        assert!(output.len() >= self.outputs());
        self.input.check_input(input);
        for (index, result) in output.iter_mut().enumerate().take(self.outputs()) {
            *result = self.sum(index, input) as f32 * self.scales[index];
        }
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
        for (index, result) in output.iter_mut().enumerate().take(self.outputs()) {
            *result = requantize(self.sum(index, input), self.scales[index], zero);
        }
    }

    fn sum(&self, output: usize, input: &[u8]) -> i32 {
        let Layout {
            height,
            width,
            channels,
            ..
        } = self.input;
        let depth = height * width * channels;
        let mut weights = self.weights[output * depth..][..depth].iter();
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
