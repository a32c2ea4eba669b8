//! How vector kernels see weights: shared by every instruction set.
//!
//! Dense: output channels in panels of 16, panels in blocks that a kernel computes together. A block's weights lie as
//! `[step][panel][16 output channels][4 bytes]`; step `s` multiplies the four input bytes at [`DenseBlock::steps`]`[s]` from
//! the beginning of a window. The bytes of one kernel row are contiguous in the input, so steps walk over `kernel width *
//! channel stride` bytes of each kernel row, rounded up to 4 with zero weights. Steps whose weights are all zero are left
//! out: padding lanes, and in grouped convolutions the channels of other groups.
//!
//! Depthwise: channels in blocks of as many bytes as a vector. A block's weights lie as `[kernel column][four kernel
//! rows][part][16-channel group][4 channels][4 rows]`: part `p` of a group are its channels `4 p .. 4 p + 4`, which is what
//! interleaving bytes and then words of four rows inside 128-bit lanes gives. Missing rows have zero weights.

use super::{
    convolution::{ConvSpec, Epilogue, Geometry},
    layout::{Buffer, LANES},
};
use std::ops::Range;

/// Output channels that are computed together.
#[derive(Clone, Debug)]
pub(super) struct DenseBlock {
    /// The first output channel, a multiple of 16.
    pub(super) first: usize,
    pub(super) panels: usize,
    /// Where the block's steps are in [`DenseWeights::steps`].
    pub(super) steps: Range<usize>,
    /// Where its weights begin in [`DenseWeights::bytes`].
    pub(super) weights: usize,
}

/// Packed weights of a dense or grouped convolution.
#[derive(Clone, Debug)]
pub(super) struct DenseWeights {
    pub(super) blocks: Vec<DenseBlock>,
    pub(super) steps: Vec<u32>,
    pub(super) bytes: Buffer,
}

impl DenseWeights {
    /// Packs with blocks of the given numbers of panels, which add up to all panels.
    pub(super) fn new(spec: &ConvSpec<'_>, panels: &[usize]) -> Self {
        let (height, width) = spec.kernel;
        let stride = spec.input.channel_stride;
        let row_steps = (width * stride).div_ceil(4);
        let mut blocks = Vec::with_capacity(panels.len());
        let (mut steps, mut bytes) = (Vec::new(), Vec::new());
        let mut first = 0;
        for &panels in panels {
            let channels = first..first + panels * LANES;
            let (first_step, weights) = (steps.len(), bytes.len());
            for ky in 0..height {
                for step in 0..row_steps {
                    let before = bytes.len();
                    for output in channels.clone() {
                        bytes.extend((4 * step..4 * step + 4).map(|at| {
                            let (kx, channel) = (at / stride, at % stride);
                            weight(spec, output, channel, ky, kx) as u8
                        }));
                    }
                    if bytes[before..].iter().any(|&byte| byte != 0) {
                        steps.push((ky * spec.input.row_bytes() + 4 * step) as u32);
                    } else {
                        bytes.truncate(before);
                    }
                }
            }
            blocks.push(DenseBlock {
                first,
                panels,
                steps: first_step..steps.len(),
                weights,
            });
            first = channels.end;
        }
        assert!(first >= spec.output.channels, "panels for all channels");
        Self {
            blocks,
            steps,
            bytes: Buffer::copied(&bytes),
        }
    }
}

/// `panels` in as few blocks of at most `most` as there must be, of nearly equal size.
pub(super) fn partition(panels: usize, most: usize) -> Vec<usize> {
    let blocks = panels.div_ceil(most);
    (0..blocks).map(|block| (panels + block) / blocks).collect()
}

/// The weight of an output channel for an input channel of the whole map; 0 where there is none.
fn weight(spec: &ConvSpec<'_>, output: usize, channel: usize, ky: usize, kx: usize) -> i8 {
    let (height, width) = spec.kernel;
    let depth = spec.input.channels / spec.group;
    let outputs = spec.output.channels / spec.group;
    if output >= spec.output.channels || channel >= spec.input.channels || kx >= width {
        return 0;
    }
    let group = output / outputs;
    match channel.checked_sub(group * depth) {
        Some(within) if within < depth => {
            spec.weights[((output * depth + within) * height + ky) * width + kx]
        }
        _ => 0,
    }
}

/// Whether adding any two products of unsigned input bytes and these weights in saturating 16-bit arithmetic
/// (`vpmaddubsw`) is exact, whichever two become neighbours when they are packed. Weights of 7 bits are.
pub(super) fn is_safe_in_16_bits(weights: &[i8]) -> bool {
    let two_greatest = |sign: i32| {
        let mut greatest = [0; 2];
        for &weight in weights {
            let size = (sign * i32::from(weight)).max(0);
            if size > greatest[0] {
                greatest = [size, greatest[0]];
            } else if size > greatest[1] {
                greatest[1] = size;
            }
        }
        255 * (greatest[0] + greatest[1])
    };
    two_greatest(1) <= i32::from(i16::MAX) && two_greatest(-1) <= -i32::from(i16::MIN)
}

/// Where the pixels of an output lie, row by row.
#[derive(Clone, Debug)]
pub(super) struct PixelOffsets {
    /// Where the window of each begins in the input.
    pub(super) input: Vec<u32>,
    /// Where each begins, from the left border of row 0.
    pub(super) output: Vec<u32>,
    /// Where each begins in the other operand of the addition; empty without one.
    pub(super) other: Vec<u32>,
}

impl PixelOffsets {
    pub(super) fn new(geometry: &Geometry, epilogue: &Epilogue) -> Self {
        let output = geometry.output;
        let pixels = || (0..output.height).flat_map(|y| (0..output.width).map(move |x| (y, x)));
        let from_row_0 = output.row_range(0..0).start;
        Self {
            input: pixels()
                .map(|(y, x)| geometry.window(y, x) as u32)
                .collect(),
            output: pixels()
                .map(|(y, x)| (output.offset(y, x) - from_row_0) as u32)
                .collect(),
            other: epilogue.residual.map_or_else(Vec::new, |residual| {
                pixels()
                    .map(|(y, x)| residual.other.offset(y, x) as u32)
                    .collect()
            }),
        }
    }
}

/// Packed weights of a depthwise convolution.
#[derive(Clone, Debug)]
pub(super) struct DepthwiseWeights {
    /// The channels that these weights are for; the first is a multiple of 16.
    pub(super) channels: Range<usize>,
    /// Fours of kernel rows.
    pub(super) quads: usize,
    /// `[block][column][quad][part][vector]`.
    pub(super) bytes: Buffer,
    /// `[block][part][lane]`.
    pub(super) start: Vec<i32>,
    /// Likewise.
    pub(super) multipliers: Vec<f32>,
}

impl DepthwiseWeights {
    /// Packs `channels` of a convolution for vectors of `vector` bytes, a multiple of 16. When each 16 bytes of a vector are
    /// another pixel (`pixels`), the 16 channels are repeated.
    pub(super) fn new(
        spec: &ConvSpec<'_>,
        epilogue: &Epilogue,
        channels: Range<usize>,
        vector: usize,
        pixels: bool,
    ) -> Self {
        let lanes = || order(vector).map(|lane| if pixels { lane % LANES } else { lane });
        let (height, width) = spec.kernel;
        let quads = height.div_ceil(4);
        let mut bytes = Vec::new();
        let (mut start, mut multipliers) = (Vec::new(), Vec::new());
        for first in channels.clone().step_by(vector) {
            for (kx, quad) in (0..width).flat_map(|kx| (0..quads).map(move |quad| (kx, quad))) {
                for channel in lanes().map(|within| first + within) {
                    bytes.extend((4 * quad..4 * quad + 4).map(|ky| {
                        let exists = channels.contains(&channel) && ky < height;
                        let at = (channel * height + ky) * width + kx;
                        if exists { spec.weights[at] as u8 } else { 0 }
                    }));
                }
            }
            for channel in lanes().map(|within| first + within) {
                start.push(epilogue.start.get(channel).copied().unwrap_or(0));
                multipliers.push(epilogue.multipliers.get(channel).copied().unwrap_or(0.0));
            }
        }
        Self {
            channels,
            quads,
            bytes: Buffer::copied(&bytes),
            start,
            multipliers,
        }
    }
}

/// The channels of a block in the order of its lanes: part, group, channel of the four.
fn order(vector: usize) -> impl Iterator<Item = usize> {
    let groups = vector / 16;
    (0..vector).map(move |lane| {
        let (part, group, within) = (lane / 4 / groups, lane / 4 % groups, lane % 4);
        group * 16 + part * 4 + within
    })
}
