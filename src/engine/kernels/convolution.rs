//! Convolution with requantisation, ReLU (by the output's range) and residual addition in one pass; the choice of kernel.

#[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
use super::neon;
use super::{
    KernelSet,
    arithmetic::{AddSpec, AddTerms},
    layout::{LANES, Layout},
    packing::is_safe_in_16_bits,
    portable,
    simd::{Dense, Depthwise, Instance},
};
use std::ops::Range;

/// Results in output steps below this are converted to integers without a thought.
pub(super) const MODERATE: f64 = 1e9;

/// What a [`Convolution`] is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvSpec<'a> {
    /// The input, with a border at least as wide as the kernel reaches: `top >= pad_top`, `left >= pad_left`, and below and
    /// right as far as the last window goes.
    pub(crate) input: Layout,
    /// The output with the border that its consumers need. Not an image: the channel stride is a multiple of 16.
    pub(crate) output: Layout,
    /// Height and width of the kernel.
    pub(crate) kernel: (usize, usize),
    /// Rows and columns from a window to the next.
    pub(crate) stride: (usize, usize),
    /// Rows of the border above that the first window covers.
    pub(crate) pad_top: usize,
    /// Columns of the border that the first window covers.
    pub(crate) pad_left: usize,
    pub(crate) group: usize,
    /// `[output channels, input channels / group, kernel height, kernel width]`.
    pub(crate) weights: &'a [i8],
    /// One an output channel.
    pub(crate) bias: &'a [i32],
    /// `(input scale * weight scale) / output scale`, in f32 in this order, one an output channel.
    pub(crate) multipliers: &'a [f32],
    pub(crate) input_zero: u8,
    /// Zero point of the convolution's own result, before the residual addition.
    pub(crate) output_zero: u8,
    /// A `QLinearAdd` of the result and another map.
    pub(crate) residual: Option<ResidualSpec>,
}

/// A `QLinearAdd` fused to the convolution whose result is one of its operands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResidualSpec {
    /// The addition. Its `output_zero` is the zero point of the map that is written.
    pub(crate) add: AddSpec,
    /// Whether the convolution's result is operand A; else it is B.
    pub(crate) result_is_a: bool,
    /// The other operand: as large as the output, with whatever border; not an image.
    pub(crate) other: Layout,
}

/// Where windows lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) input: Layout,
    pub(super) output: Layout,
    pub(super) kernel: (usize, usize),
    pub(super) stride: (usize, usize),
    pub(super) pad_top: usize,
    pub(super) pad_left: usize,
}

impl Geometry {
    /// Where in the input the window of output pixel (y, x) begins.
    pub(super) fn window(&self, y: usize, x: usize) -> usize {
        let row = self.input.top + y * self.stride.0 - self.pad_top;
        let column = self.input.left + x * self.stride.1 - self.pad_left;
        row * self.input.row_bytes() + column * self.input.channel_stride
    }
}

/// What happens to an accumulator.
#[derive(Clone, Debug)]
pub(super) struct Epilogue {
    /// `bias - input_zero * sum(weights)`, padded with 0 to a multiple of 64 channels.
    pub(super) start: Vec<i32>,
    /// Padded likewise.
    pub(super) multipliers: Vec<f32>,
    pub(super) zero: u8,
    pub(super) residual: Option<Residual>,
    /// Zero point of the map that is written, for its border.
    pub(super) border: u8,
    /// Whether no result comes near the limits of 32-bit integers, which vector kernels take for granted.
    pub(super) is_moderate: bool,
}

/// A fused addition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Residual {
    pub(super) terms: AddTerms,
    pub(super) result_is_a: bool,
    pub(super) other: Layout,
}

impl Residual {
    /// The sum of the convolution's `result` and the other operand.
    pub(super) fn add(&self, result: u8, other: u8) -> u8 {
        if self.result_is_a {
            self.terms.add(result, other)
        } else {
            self.terms.add(other, result)
        }
    }
}

impl Epilogue {
    fn new(spec: &ConvSpec<'_>) -> Self {
        let channels = spec.output.channels;
        let padded = channels.next_multiple_of(4 * LANES);
        let taps = spec.weights.len() / channels;
        let mut start = vec![0; padded];
        let mut is_moderate = true;
        for (channel, start) in start.iter_mut().enumerate().take(channels) {
            let own = &spec.weights[channel * taps..][..taps];
            let sum: i32 = own.iter().map(|&weight| i32::from(weight)).sum();
            let shift = i32::from(spec.input_zero).wrapping_mul(sum);
            *start = spec.bias[channel].wrapping_sub(shift);
            let greatest: f64 = own
                .iter()
                .map(|&weight| 255.0 * f64::from(weight).abs())
                .sum();
            let greatest = (greatest + f64::from(*start).abs()).min(f64::from(i32::MAX));
            is_moderate &= greatest * f64::from(spec.multipliers[channel]).abs() < MODERATE;
        }
        let mut multipliers = spec.multipliers.to_vec();
        multipliers.resize(padded, 0.0);
        let residual = spec.residual.map(|residual| Residual {
            terms: AddTerms::new(&residual.add),
            result_is_a: residual.result_is_a,
            other: residual.other,
        });
        is_moderate &= residual.is_none_or(|residual| residual.terms.is_moderate());
        Self {
            start,
            multipliers,
            zero: spec.output_zero,
            residual,
            is_moderate,
            border: spec
                .residual
                .map_or(spec.output_zero, |residual| residual.add.output_zero),
        }
    }
}

/// `QLinearConv`, and a `QLinearAdd` after it, packed for one kernel set.
///
/// Dense, pointwise, depthwise and grouped, any kernel size and stride; no dilation.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    geometry: Geometry,
    group: usize,
    epilogue: Epilogue,
    kernel: Kernel,
}

#[derive(Clone, Debug)]
enum Kernel {
    Portable(portable::Convolution),
    Dense(&'static Instance, Dense),
    /// The channels in order, perhaps with shorter vectors at the end.
    Depthwise(Vec<(&'static Instance, Depthwise)>),
    #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
    Neon(neon::Convolution),
}

impl Convolution {
    /// Packs a convolution.
    ///
    /// # Panics
    /// When sizes disagree: weights, bias or multipliers with the channels, the input's border with the windows, the output
    /// or the residual's other operand with what they must be. The lowering makes them; a model file cannot bring them about.
    pub(crate) fn new(set: KernelSet, spec: &ConvSpec<'_>) -> Self {
        // In order of their channels, any two weights may become neighbours.
        let is_safe = is_safe_in_16_bits(spec.weights);
        let convolution = Self::with_instance(Instance::choose(set, is_safe), spec);
        #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
        let convolution = convolution.with_neon(set, spec);
        convolution
    }

    /// With the kernel for #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))], if the set is one of #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))].
    #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
    fn with_neon(mut self, set: KernelSet, spec: &ConvSpec<'_>) -> Self {
        if matches!(set, KernelSet::Neon | KernelSet::NeonDot) && set.is_available() {
            let dot = set == KernelSet::NeonDot;
            self.kernel = Kernel::Neon(neon::Convolution::new(spec, &self.epilogue, dot));
        }
        self
    }

    /// Packs a convolution for an instance, or portably without one.
    pub(super) fn with_instance(instance: Option<&'static Instance>, spec: &ConvSpec<'_>) -> Self {
        check(spec);
        let geometry = Geometry {
            input: spec.input,
            output: spec.output,
            kernel: spec.kernel,
            stride: spec.stride,
            pad_top: spec.pad_top,
            pad_left: spec.pad_left,
        };
        let epilogue = Epilogue::new(spec);
        let channels = spec.output.channels;
        let is_depthwise = spec.group == spec.input.channels && spec.group == channels;
        let is_for_vectors = epilogue.is_moderate && !is_huge(spec);
        let kernel = match instance.filter(|_| is_for_vectors) {
            None => Kernel::Portable(portable::Convolution::new(spec)),
            Some(instance) if is_depthwise && spec.input.channel_stride.is_multiple_of(LANES) => {
                let whole = channels / instance.bytes * instance.bytes;
                let (narrow, wide) = match instance.narrow {
                    Some(narrow) if LANES < channels && channels - whole <= narrow.bytes => {
                        (narrow, whole)
                    }
                    _ => (instance, channels),
                };
                let parts = [(instance, 0..wide), (narrow, wide..channels)]
                    .into_iter()
                    .filter(|(_, channels)| !channels.is_empty())
                    .map(|(instance, channels)| {
                        let pack = instance.pack_depthwise;
                        (instance, pack(spec, &epilogue, channels))
                    })
                    .collect();
                Kernel::Depthwise(parts)
            }
            Some(instance) => {
                let pack = instance.pack_dense;
                Kernel::Dense(instance, pack(spec, &geometry, &epilogue))
            }
        };
        Self {
            geometry,
            group: spec.group,
            epilogue,
            kernel,
        }
    }

    /// The kernel in words: `conv3x3/2 avx512-vnni`, `depthwise5x5 avx2 (16-bit) + add`.
    pub(crate) fn describe(&self) -> String {
        let Geometry {
            input,
            output,
            kernel: (height, width),
            stride,
            ..
        } = self.geometry;
        let kind = match self.group {
            1 => "conv",
            group if group == input.channels && group == output.channels => "depthwise",
            _ => "grouped conv",
        };
        let stride = match stride {
            (1, 1) => String::new(),
            (y, x) if y == x => format!("/{y}"),
            (y, x) => format!("/{y}x{x}"),
        };
        let kernel = match &self.kernel {
            Kernel::Portable(_) => "portable",
            Kernel::Dense(instance, _) => instance.name,
            Kernel::Depthwise(parts) => parts.first().map_or("", |(instance, _)| instance.name),
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
            Kernel::Neon(kernel) => kernel.name(),
        };
        let add = self.epilogue.residual.map_or("", |_| " + add");
        format!("{kind}{height}x{width}{stride} {kernel}{add}")
    }

    /// Multiply-accumulates of a run over all rows, without those of padding lanes.
    #[cfg(test)]
    pub(crate) fn macs(&self) -> u64 {
        let Geometry {
            input,
            output,
            kernel: (height, width),
            ..
        } = self.geometry;
        let pixels = output.height * output.width * output.channels;
        (pixels * height * width * (input.channels / self.group)) as u64
    }

    /// Computes output rows `rows`. `input` is the whole input buffer with its slack, border filled; `residual` the whole
    /// buffer of the addition's other operand, given exactly when the spec has one; `output_rows` begins with the left
    /// border of the first row and holds all rows ([`Layout::row_range`]). The left and right border of the rows is filled.
    ///
    /// # Panics
    /// When a slice is too short, rows are none of the output's, or `residual` is missing or superfluous.
    pub(crate) fn run(
        &self,
        rows: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output_rows: &mut [u8],
    ) {
        self.geometry.input.check_input(input);
        self.geometry.output.check_output(&rows, output_rows);
        match (&self.epilogue.residual, residual) {
            (Some(add), Some(other)) => add.other.check_input(other),
            (None, None) => {}
            (expected, _) => panic!("an addition: {}", expected.is_some()),
        }
        let rows_of_output = output_rows.chunks_exact_mut(self.geometry.output.row_bytes());
        for row in rows_of_output.take(rows.len()) {
            self.geometry.output.fill_sides(self.epilogue.border, row);
        }
        match &self.kernel {
            Kernel::Portable(kernel) => kernel.run(
                &self.geometry,
                &self.epilogue,
                rows,
                input,
                residual,
                output_rows,
            ),
            // SAFETY: the instance was chosen because the processor has its instructions; the buffers were checked above
            // against the layouts, and the layouts against the windows when the kernel was made.
            Kernel::Dense(instance, kernel) => unsafe {
                (instance.dense)(
                    kernel,
                    &self.geometry,
                    &self.epilogue,
                    rows,
                    input,
                    residual,
                    output_rows,
                );
            },
            #[cfg(any(target_arch = "aarch64", all(target_arch = "arm", facemark_arm_neon)))]
            Kernel::Neon(kernel) => kernel.run(
                &self.geometry,
                &self.epilogue,
                rows,
                input,
                residual,
                output_rows,
            ),
            Kernel::Depthwise(parts) => {
                for (instance, kernel) in parts {
                    // SAFETY: as above.
                    unsafe {
                        (instance.depthwise)(
                            kernel,
                            &self.geometry,
                            &self.epilogue,
                            rows.clone(),
                            input,
                            residual,
                            output_rows,
                        );
                    }
                }
            }
        }
    }
}

/// Whether offsets do not fit the 32 bits that the vector kernels keep them in.
fn is_huge(spec: &ConvSpec<'_>) -> bool {
    let other = spec.residual.map_or(0, |residual| residual.other.len());
    spec.input.len().max(spec.output.len()).max(other) > u32::MAX as usize
}

fn check(spec: &ConvSpec<'_>) {
    let ConvSpec {
        input,
        output,
        kernel,
        stride,
        group,
        ..
    } = spec;
    let reaches = |count: usize, stride: usize, kernel: usize| (count - 1) * stride + kernel;
    assert!(output.height > 0 && output.width > 0 && output.channels > 0);
    assert!(kernel.0 > 0 && kernel.1 > 0 && stride.0 > 0 && stride.1 > 0);
    assert!(*group > 0 && input.channels % group == 0 && output.channels % group == 0);
    let taps = input.channels / group * kernel.0 * kernel.1;
    assert_eq!(spec.weights.len(), output.channels * taps, "weights");
    assert_eq!(spec.bias.len(), output.channels, "bias");
    assert_eq!(spec.multipliers.len(), output.channels, "multipliers");
    assert_eq!(output.channel_stride % LANES, 0, "an image as output");
    assert!(output.channel_stride >= output.channels);
    assert!(input.channel_stride >= input.channels);
    assert!(
        spec.pad_top <= input.top
            && spec.pad_left <= input.left
            && reaches(output.height, stride.0, kernel.0)
                <= spec.pad_top + input.height + input.bottom
            && reaches(output.width, stride.1, kernel.1)
                <= spec.pad_left + input.width + input.right,
        "windows of {kernel:?} by {stride:?} reach out of {input:?}"
    );
    if let Some(residual) = &spec.residual {
        assert!(residual.other.is_same_size(output), "another size to add");
        assert_eq!(residual.other.channel_stride, output.channel_stride);
    }
}
