//! The reference kernels: plain scalar code for every machine, against which the others are tested.

use super::{
    arithmetic::requantize,
    convolution::{ConvSpec, Epilogue, Geometry},
    layout::LANES,
};
use std::ops::Range;

/// Weights `[output channel][kernel row][kernel column][input channel of the group]`; of a depthwise convolution
/// `[kernel row][kernel column][channel]`, padded to whole blocks of 16 channels.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    weights: Vec<i8>,
    /// Input channels that an output channel sees.
    depth: usize,
    /// Output channels that see the same input channels.
    group_outputs: usize,
    is_depthwise: bool,
}

impl Convolution {
    pub(super) fn new(spec: &ConvSpec<'_>) -> Self {
        let depth = spec.input.channels / spec.group;
        let outputs = spec.output.channels;
        let taps = spec.kernel.0 * spec.kernel.1;
        let is_depthwise = depth == 1 && outputs == spec.group;
        let source = |output: usize, channel: usize, tap: usize| {
            spec.weights[(output * depth + channel) * taps + tap]
        };
        let weights = if is_depthwise {
            let padded = outputs.next_multiple_of(LANES);
            let mut weights = vec![0; taps * padded];
            for (tap, row) in weights.chunks_exact_mut(padded).enumerate() {
                for (channel, weight) in row.iter_mut().enumerate().take(outputs) {
                    *weight = source(channel, 0, tap);
                }
            }
            weights
        } else {
            (0..outputs * taps * depth)
                .map(|at| source(at / (taps * depth), at % depth, at / depth % taps))
                .collect()
        };
        Self {
            weights,
            depth,
            group_outputs: outputs / spec.group,
            is_depthwise,
        }
    }

    pub(super) fn run(
        &self,
        geometry: &Geometry,
        epilogue: &Epilogue,
        rows: Range<usize>,
        input: &[u8],
        residual: Option<&[u8]>,
        output_rows: &mut [u8],
    ) {
        let output = &geometry.output;
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(output.row_bytes())) {
            for x in 0..output.width {
                let window = &input[geometry.window(y, x)..];
                let pixel = &mut row[(output.left + x) * output.channel_stride..];
                let pixel = &mut pixel[..output.channels];
                if self.is_depthwise {
                    self.depthwise(geometry, epilogue, window, pixel);
                } else {
                    self.dense(geometry, epilogue, window, pixel);
                }
                if let (Some(add), Some(other)) = (&epilogue.residual, residual) {
                    let other = &other[add.other.offset(y, x)..];
                    for (result, &other) in pixel.iter_mut().zip(other) {
                        *result = add.add(*result, other);
                    }
                }
            }
        }
    }

    fn dense(&self, geometry: &Geometry, epilogue: &Epilogue, window: &[u8], pixel: &mut [u8]) {
        let (height, width) = geometry.kernel;
        let stride = geometry.input.channel_stride;
        for (channel, result) in pixel.iter_mut().enumerate() {
            let first = channel / self.group_outputs * self.depth;
            let mut sum = epilogue.start[channel];
            for ky in 0..height {
                for kx in 0..width {
                    let inputs = &window[ky * geometry.input.row_bytes() + kx * stride + first..];
                    let tap = (channel * height + ky) * width + kx;
                    let weights = &self.weights[tap * self.depth..][..self.depth];
                    let products = weights
                        .iter()
                        .zip(inputs)
                        .map(|(&weight, &input)| i32::from(weight) * i32::from(input));
                    sum = products.fold(sum, i32::wrapping_add);
                }
            }
            *result = requantize(sum, epilogue.multipliers[channel], epilogue.zero);
        }
    }

    fn depthwise(&self, geometry: &Geometry, epilogue: &Epilogue, window: &[u8], pixel: &mut [u8]) {
        let (height, width) = geometry.kernel;
        let stride = geometry.input.channel_stride;
        let padded = pixel.len().next_multiple_of(LANES);
        for (block, results) in pixel.chunks_mut(LANES).enumerate() {
            let first = block * LANES;
            let mut sums = [0i32; LANES];
            sums.copy_from_slice(&epilogue.start[first..first + LANES]);
            for ky in 0..height {
                for kx in 0..width {
                    let inputs = &window[ky * geometry.input.row_bytes() + kx * stride + first..];
                    let weights = &self.weights[(ky * width + kx) * padded + first..][..LANES];
                    for ((sum, &weight), &input) in sums.iter_mut().zip(weights).zip(inputs) {
                        *sum = sum.wrapping_add(i32::from(weight) * i32::from(input));
                    }
                }
            }
            for (lane, result) in results.iter_mut().enumerate() {
                let multiplier = epilogue.multipliers[first + lane];
                *result = requantize(sums[lane], multiplier, epilogue.zero);
            }
        }
    }
}
