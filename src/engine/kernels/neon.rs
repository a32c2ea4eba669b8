//! Kernels for ARM with NEON: convolutions, fully connected layers and additions. What the 64-bit machines with a byte dot
//! product do better is in `neon_dot`; packing and everything around the products is here for both.
//!
//! Bytes are made signed by flipping their top bit, x = s + 128; 128 times the sum of the weights goes into the start of
//! the accumulator instead. A product of two signed bytes fits 16 bits, and so does the sum of two unless both weights are
//! -128: two products are added in 16 bits before they are widened.
//!
//! A dense window is, for each kernel row, one run of bytes, as the pixels of a row lie side by side: a convolution is sums
//! over such runs in chunks of 16 bytes, whatever kernel width and channels. Weights are 0 where a run's last chunk or a
//! pixel's padding lanes reach beyond the channels. A fully connected layer is a window over the whole map.

mod lanes;

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "arm")]
use std::arch::arm::*;

#[cfg(target_arch = "aarch64")]
pub(super) use self::lanes::add_blocks;
pub(super) use self::lanes::signed;

use self::lanes::{add, add_neighbours, requantize};
#[cfg(target_arch = "aarch64")]
use super::neon_dot;
use super::{
    arithmetic::AddTerms,
    convolution::{ConvSpec, Epilogue, Geometry},
    layout::{LANES, Layout},
};
use std::ops::Range;

/// Output pixels that are computed together: as many as the registers hold sums for.
const PIXELS: usize = if cfg!(target_arch = "arm") { 2 } else { 4 };
/// Output channels whose sums the plain kernel forms together.
const OUTPUTS: usize = 4;

/// 16 sums.
pub(super) type Sums = [int32x4_t; 4];

/// A convolution whose weights are packed for NEON.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    /// As the epilogue's, for signed input bytes.
    start: Vec<i32>,
    kernel: Kernel,
    name: &'static str,
}

#[derive(Clone, Debug)]
enum Kernel {
    Dense(Dense),
    Depthwise(Depthwise),
}

impl Convolution {
    /// Packs a convolution; `dot` is whether the machine has the byte dot product and the kernel shall use it.
    pub(super) fn new(spec: &ConvSpec<'_>, epilogue: &Epilogue, dot: bool) -> Self {
        let depth = spec.input.channels / spec.group;
        let outputs = spec.output.channels;
        let taps = depth * spec.kernel.0 * spec.kernel.1;
        let mut start = epilogue.start.clone();
        for (start, weights) in start.iter_mut().zip(spec.weights.chunks_exact(taps)) {
            let sum: i32 = weights.iter().map(|&weight| i32::from(weight)).sum();
            *start = start.wrapping_add(128i32.wrapping_mul(sum));
        }
        let kernel = if depth == 1 && outputs == spec.group && outputs > 1 {
            Kernel::Depthwise(Depthwise::new(spec))
        } else {
            let group_outputs = outputs / spec.group;
            // Groups are a dense convolution with zeros between them.
            let weight = |output: usize, ky: usize, kx: usize, channel: usize| {
                let first = output / group_outputs * depth;
                if !(first..first + depth).contains(&channel) {
                    return 0;
                }
                let tap = (channel - first) * spec.kernel.0 + ky;
                spec.weights[output * taps + tap * spec.kernel.1 + kx]
            };
            Kernel::Dense(Dense::new(dot, outputs, spec.kernel, &spec.input, weight))
        };
        let name = match (dot, &kernel) {
            (true, Kernel::Dense(_)) => "neon-dot",
            (true, Kernel::Depthwise(_)) => "neon-dot (16-bit)",
            (false, _) => "neon",
        };
        Self {
            start,
            kernel,
            name,
        }
    }

    /// The set, and in words what is peculiar: no dot product serves a depthwise convolution.
    pub(super) fn name(&self) -> &'static str {
        self.name
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
        let blocks = output.channels.div_ceil(LANES);
        for (y, row) in rows.zip(output_rows.chunks_exact_mut(output.row_bytes())) {
            for block in 0..blocks {
                let first = block * LANES;
                let add = epilogue.residual.zip(residual).map(|(residual, other)| {
                    let other = &other[residual.other.offset(y, 0) + first..];
                    (residual.terms, residual.result_is_a, other)
                });
                let job = Row {
                    windows: &input[geometry.window(y, 0)..],
                    window_step: geometry.stride.1 * geometry.input.channel_stride,
                    input_row: geometry.input.row_bytes(),
                    width: output.width,
                    pixel_step: output.channel_stride,
                    start: &self.start[first..],
                    multipliers: &epilogue.multipliers[first..],
                    zero: epilogue.zero,
                    add,
                };
                let pixels = &mut row[output.left * output.channel_stride + first..];
                job.check(pixels);
                // SAFETY: the set was found available, so the machine has NEON and, for `dot`, the dot product. `check` has
                // asserted that the output and the other operand hold `width` blocks of 16 bytes; windows lie inside the
                // input, as the constructor of the convolution asserts, and the last chunk reaches less than 16 bytes
                // beyond it, which is in the slack that its `run` asserts.
                unsafe {
                    match &self.kernel {
                        #[cfg(target_arch = "aarch64")]
                        Kernel::Dense(dense) if dense.dot => {
                            neon_dot::dense_row(dense, block, &job, pixels);
                        }
                        Kernel::Dense(dense) => dense_row(dense, block, &job, pixels),
                        Kernel::Depthwise(kernel) => depthwise_row(kernel, block, &job, pixels),
                    }
                }
            }
        }
    }
}

/// 16 output channels of one output row.
pub(super) struct Row<'a> {
    /// The input from the first byte of the first window of the row.
    pub(super) windows: &'a [u8],
    /// Bytes from a window to the next.
    pub(super) window_step: usize,
    /// Bytes from an input row to the next.
    pub(super) input_row: usize,
    /// Output pixels.
    pub(super) width: usize,
    /// Bytes from a pixel to the next, in the output and in the other operand.
    pub(super) pixel_step: usize,
    start: &'a [i32],
    multipliers: &'a [f32],
    zero: u8,
    add: Option<(AddTerms, bool, &'a [u8])>,
}

impl Row<'_> {
    fn check(&self, pixels: &[u8]) {
        let end = (self.width - 1) * self.pixel_step + LANES;
        assert!(pixels.len() >= end);
        assert!(self.add.is_none_or(|(.., other)| other.len() >= end));
        assert!(self.start.len() >= LANES && self.multipliers.len() >= LANES);
    }

    /// Where the windows of pixels `x..` begin; pixels beyond the row take the last one's.
    #[inline]
    pub(super) fn window<const P: usize>(&self, x: usize) -> [*const u8; P] {
        std::array::from_fn(|pixel| {
            let x = (x + pixel).min(self.width - 1);
            self.windows[x * self.window_step..].as_ptr()
        })
    }

    /// The sums before the first product.
    #[inline]
    #[target_feature(enable = "neon")]
    #[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
    pub(super) fn start(&self) -> Sums {
        let start: &[i32; LANES] = self.start[..LANES].try_into().expect("16 sums");
        // SAFETY: the array holds 16 sums.
        std::array::from_fn(|quarter| unsafe { vld1q_s32(start.as_ptr().add(4 * quarter)) })
    }

    /// Requantises the sums of pixels `x..`, adds the other operand and writes what lies in the row.
    ///
    /// # Safety
    /// `pixels` has passed `check`, and `x` is a pixel of the row.
    #[inline]
    #[target_feature(enable = "neon")]
    #[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
    pub(super) unsafe fn finish<const P: usize>(
        &self,
        x: usize,
        sums: [Sums; P],
        pixels: &mut [u8],
    ) {
        for (x, sums) in (x..self.width).zip(sums) {
            let mut result = requantize(sums, &self.multipliers[..LANES], self.zero);
            let at = x * self.pixel_step;
            if let Some((terms, result_is_a, other)) = &self.add {
                // SAFETY: `check` asserted that the operand reaches to the last pixel's 16 bytes.
                let other = unsafe { vld1q_u8(other.as_ptr().add(at)) };
                result = if *result_is_a {
                    add(terms, result, other)
                } else {
                    add(terms, other, result)
                };
            }
            // SAFETY: `check` asserted the same of the output.
            unsafe { vst1q_u8(pixels.as_mut_ptr().add(at), result) };
        }
    }
}

/// Weights in blocks of 16 output channels: `[block][kernel row][chunk][16 outputs x 16 bytes]`, the last in an order of the
/// kernel's own.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    weights: Vec<i8>,
    /// Kernel rows.
    pub(super) rows: usize,
    /// Chunks of 16 bytes in a kernel row.
    pub(super) chunks: usize,
    dot: bool,
    /// A weight is -128, so that no two products may be added in 16 bits.
    has_least: bool,
}

/// Bytes of weights for 16 outputs and a chunk.
pub(super) const CHUNK: usize = LANES * LANES;

impl Dense {
    /// `weight(output, kernel row, kernel column, input channel)`.
    fn new(
        dot: bool,
        outputs: usize,
        kernel: (usize, usize),
        input: &Layout,
        weight: impl Fn(usize, usize, usize, usize) -> i8,
    ) -> Self {
        let stride = input.channel_stride;
        let chunks = (kernel.1 * stride).div_ceil(LANES);
        let blocks = outputs.div_ceil(LANES);
        let mut weights = vec![0; blocks * kernel.0 * chunks * CHUNK];
        for output in 0..outputs {
            let (block, lane) = (output / LANES, output % LANES);
            for ky in 0..kernel.0 {
                for kx in 0..kernel.1 {
                    for channel in 0..input.channels {
                        let byte = kx * stride + channel;
                        let chunk = (block * kernel.0 + ky) * chunks + byte / LANES;
                        let byte = byte % LANES;
                        let at = if dot {
                            // Four bytes of the chunk for each of the 16 outputs, four times.
                            byte / 4 * 4 * LANES + lane * 4 + byte % 4
                        } else {
                            lane * LANES + byte
                        };
                        weights[chunk * CHUNK + at] = weight(output, ky, kx, channel);
                    }
                }
            }
        }
        Self {
            has_least: weights.contains(&i8::MIN),
            weights,
            rows: kernel.0,
            chunks,
            dot,
        }
    }

    /// The weights of a block of 16 outputs.
    #[inline]
    pub(super) fn block(&self, block: usize) -> &[i8] {
        let len = self.rows * self.chunks * CHUNK;
        &self.weights[block * len..][..len]
    }
}

/// # Safety
/// The machine has NEON, `pixels` has passed `check`, and the windows are readable as the kernel's rows and chunks say.
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
unsafe fn dense_row(dense: &Dense, block: usize, job: &Row<'_>, pixels: &mut [u8]) {
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
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
unsafe fn dense_sums<const P: usize>(
    dense: &Dense,
    block: usize,
    windows: [*const u8; P],
    input_row: usize,
    start: Sums,
) -> [Sums; P] {
    let mut sums = [start; P];
    for quarter in 0..LANES / OUTPUTS {
        // SAFETY: as the caller promises.
        let products = unsafe {
            if dense.has_least {
                quarter_sums::<P, true>(dense, block, quarter, windows, input_row)
            } else {
                quarter_sums::<P, false>(dense, block, quarter, windows, input_row)
            }
        };
        for (sums, products) in sums.iter_mut().zip(products) {
            sums[quarter] = vaddq_s32(sums[quarter], products);
        }
    }
    sums
}

/// Sums of four outputs for `P` windows. `WIDE`: every product is widened alone.
///
/// # Safety
/// As `dense_row`.
#[inline]
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
unsafe fn quarter_sums<const P: usize, const WIDE: bool>(
    dense: &Dense,
    block: usize,
    quarter: usize,
    windows: [*const u8; P],
    input_row: usize,
) -> [int32x4_t; P] {
    let mut weights = dense.block(block)[quarter * OUTPUTS * LANES..].as_ptr();
    let mut sums = [[vdupq_n_s32(0); OUTPUTS]; P];
    for ky in 0..dense.rows {
        for chunk in 0..dense.chunks {
            let at = ky * input_row + chunk * LANES;
            // SAFETY: windows are readable for `rows` rows of `chunks` chunks; a block has as many chunks of weights.
            let inputs: [int8x16_t; P] =
                std::array::from_fn(|pixel| unsafe { signed(windows[pixel].add(at)) });
            for output in 0..OUTPUTS {
                // SAFETY: as above.
                let weight = unsafe { vld1q_s8(weights.add(output * LANES)) };
                for (sums, &input) in sums.iter_mut().zip(&inputs) {
                    let low = vmull_s8(vget_low_s8(input), vget_low_s8(weight));
                    let sum = &mut sums[output];
                    if WIDE {
                        let high = vmull_s8(vget_high_s8(input), vget_high_s8(weight));
                        *sum = vpadalq_s16(vpadalq_s16(*sum, low), high);
                    } else {
                        let both = vmlal_s8(low, vget_high_s8(input), vget_high_s8(weight));
                        *sum = vpadalq_s16(*sum, both);
                    }
                }
            }
            weights = weights.wrapping_add(CHUNK);
        }
    }
    sums.map(|[a, b, c, d]| add_neighbours(add_neighbours(a, b), add_neighbours(c, d)))
}

/// Weights `[block of 16 channels][pair of taps][2][16 channels]`.
#[derive(Clone, Debug)]
struct Depthwise {
    weights: Vec<i8>,
    /// Where the taps of each pair lie, from the window's first byte.
    pairs: Vec<[usize; 2]>,
}

impl Depthwise {
    fn new(spec: &ConvSpec<'_>) -> Self {
        let (height, width) = spec.kernel;
        let taps = height * width;
        let offset = |tap: usize| {
            tap / width * spec.input.row_bytes() + tap % width * spec.input.channel_stride
        };
        // The second tap of a pair may be missing: its weights are 0 then.
        let each = if spec.weights.contains(&i8::MIN) {
            1
        } else {
            2
        };
        let firsts = (0..taps).step_by(each);
        let pairs: Vec<[usize; 2]> = firsts
            .clone()
            .map(|tap| [tap, (tap + 1).min(taps - 1)].map(offset))
            .collect();
        let channels = spec.output.channels;
        let mut weights = vec![0; channels.next_multiple_of(LANES) * pairs.len() * 2];
        for channel in 0..channels {
            for (pair, first) in firsts.clone().enumerate() {
                for tap in first..(first + each).min(taps) {
                    let row = (channel / LANES * pairs.len() + pair) * 2 + tap - first;
                    weights[row * LANES + channel % LANES] = spec.weights[channel * taps + tap];
                }
            }
        }
        Self { weights, pairs }
    }
}

/// # Safety
/// The machine has NEON, `pixels` has passed `check`, and 16 bytes are readable at every tap of every window.
#[target_feature(enable = "neon")]
#[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
unsafe fn depthwise_row(kernel: &Depthwise, block: usize, job: &Row<'_>, pixels: &mut [u8]) {
    let len = kernel.pairs.len() * 2 * LANES;
    let weights = &kernel.weights[block * len..][..len];
    let first = block * LANES;
    for x in (0..job.width).step_by(PIXELS) {
        let windows = job.window::<PIXELS>(x);
        let mut sums = [job.start(); PIXELS];
        for (taps, weights) in kernel.pairs.iter().zip(weights.chunks_exact(2 * LANES)) {
            // SAFETY: a chunk holds two vectors of weights.
            let (w0, w1) = unsafe {
                (
                    vld1q_s8(weights.as_ptr()),
                    vld1q_s8(weights.as_ptr().add(LANES)),
                )
            };
            for (sums, window) in sums.iter_mut().zip(windows) {
                // SAFETY: as the caller promises.
                let (x0, x1) = unsafe {
                    (
                        signed(window.add(taps[0] + first)),
                        signed(window.add(taps[1] + first)),
                    )
                };
                let low = vmull_s8(vget_low_s8(x0), vget_low_s8(w0));
                let low = vmlal_s8(low, vget_low_s8(x1), vget_low_s8(w1));
                let high = vmull_s8(vget_high_s8(x0), vget_high_s8(w0));
                let high = vmlal_s8(high, vget_high_s8(x1), vget_high_s8(w1));
                sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
                sums[1] = vaddw_s16(sums[1], vget_high_s16(low));
                sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
                sums[3] = vaddw_s16(sums[3], vget_high_s16(high));
            }
        }
        // SAFETY: as the caller promises.
        unsafe { job.finish(x, sums, pixels) };
    }
}

/// A matrix for a map as one long vector: a window over all of it.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    dense: Dense,
    start: Vec<i32>,
    input: Layout,
}

impl Matrix {
    /// `weight(output, row, column, channel)`; `start` is for unsigned input bytes.
    pub(super) fn new(
        start: &[i32],
        input: &Layout,
        weight: impl Fn(usize, usize, usize, usize) -> i8,
        dot: bool,
    ) -> Self {
        let outputs = start.len();
        let mut start = start.to_vec();
        for (output, start) in start.iter_mut().enumerate() {
            for at in 0..input.height * input.width * input.channels {
                let (pixel, channel) = (at / input.channels, at % input.channels);
                let weight = weight(output, pixel / input.width, pixel % input.width, channel);
                *start = start.wrapping_add(128 * i32::from(weight));
            }
        }
        start.resize(outputs.next_multiple_of(LANES), 0);
        Self {
            dense: Dense::new(dot, outputs, (input.height, input.width), input, weight),
            start,
            input: *input,
        }
    }

    /// The set.
    pub(super) fn name(&self) -> &'static str {
        if self.dense.dot { "neon-dot" } else { "neon" }
    }

    /// The sums, 16 a call to `visit` with the first one's output.
    pub(super) fn run(&self, input: &[u8], mut visit: impl FnMut(usize, &[i32; LANES])) {
        self.input.check_input(input);
        let windows = [input[self.input.offset(0, 0)..].as_ptr()];
        let row = self.input.row_bytes();
        for block in 0..self.start.len() / LANES {
            // SAFETY: the set was found available. The window is the map inside its border, whose rows the input holds; the
            // last chunk reaches less than 16 bytes beyond it, into the slack.
            let sums = unsafe { self.block(block, windows, row) };
            visit(block * LANES, &sums);
        }
    }

    /// The sums of a block.
    ///
    /// # Safety
    /// As `dense_row`.
    #[target_feature(enable = "neon")]
    #[cfg_attr(target_arch = "arm", target_feature(enable = "v7"))]
    unsafe fn block(&self, block: usize, window: [*const u8; 1], row: usize) -> [i32; LANES] {
        let start: &[i32; LANES] = self.start[block * LANES..][..LANES]
            .try_into()
            .expect("16 sums");
        let mut values = [0; LANES];
        // SAFETY: both arrays hold 16 sums; for the rest as the caller promises.
        unsafe {
            let start = std::array::from_fn(|quarter| vld1q_s32(start.as_ptr().add(4 * quarter)));
            let [sums] = match self.dense.dot {
                #[cfg(target_arch = "aarch64")]
                true => neon_dot::dense_sums(&self.dense, block, window, row, start),
                _ => dense_sums(&self.dense, block, window, row, start),
            };
            for (quarter, sums) in sums.into_iter().enumerate() {
                vst1q_s32(values.as_mut_ptr().add(4 * quarter), sums);
            }
        }
        values
    }
}
