//! Depthwise convolution: a vector of channels of one output pixel at a time. The bytes of four kernel rows are interleaved
//! to 32-bit groups, so that one dot product serves a column; 3 x 3 kernels keep the columns that the next pixel shares.

use super::{
    super::{
        convolution::{ConvSpec, Epilogue, Geometry},
        packing::DepthwiseWeights,
    },
    finish::{Addition, pack, pack_shifted, steps},
    vector::Vector,
};
use std::ops::Range;

/// What follows the sums: rounding alone, with a zero point that is not 0, or an addition as well.
const PLAIN: u8 = 0;
const SHIFTED: u8 = 1;
const ADDED: u8 = 2;

/// A packed depthwise convolution of some of the channels.
#[derive(Clone, Debug)]
pub(in crate::engine::kernels) struct Depthwise {
    weights: DepthwiseWeights,
    /// Whether each 16 bytes of a vector are another pixel.
    has_pixels: bool,
}

impl Depthwise {
    /// Packs `channels`, of which the first is a multiple of 16, for vectors `V`.
    pub(in crate::engine::kernels) fn new<V: Vector>(
        spec: &ConvSpec<'_>,
        epilogue: &Epilogue,
        channels: Range<usize>,
    ) -> Self {
        let has_pixels = Self::has_pixels::<V>(spec);
        Self {
            weights: DepthwiseWeights::new(spec, epilogue, channels, V::BYTES, has_pixels),
            has_pixels,
        }
    }

    /// Whether vectors are filled with pixels of 16 channels that lie one after the other.
    fn has_pixels<V: Vector>(spec: &ConvSpec<'_>) -> bool {
        spec.kernel == (3, 3)
            && matches!(spec.stride.1, 1 | 2)
            && spec.input.channel_stride == 16
            && spec.output.channel_stride == 16
            && spec.output.width >= V::BYTES / 16
    }

    /// Computes the channels of rows, as [`super::super::Convolution::run`] after its checks.
    ///
    /// # Safety
    /// As of [`super::dense::Dense::run`].
    #[inline(always)]
    pub(super) unsafe fn run<V: Vector>(
        &self,
        geometry: &Geometry,
        epilogue: &Epilogue,
        rows: Range<usize>,
        input: &[u8],
        other: Option<&[u8]>,
        output_rows: &mut [u8],
    ) {
        let weights = &self.weights;
        let Range { start, end } = weights.channels;
        // Whole groups of 16 are written; what lies between the channels and the stride is free.
        let end = end.next_multiple_of(16);
        let inside = geometry.output.left * geometry.output.channel_stride;
        let block_bytes = geometry.kernel.1 * weights.quads * 4 * V::BYTES;
        let mut channel = start;
        let mut block = 0;
        while channel < end {
            let lanes = block * V::BYTES;
            let (mut others, mut other_row_bytes) = (std::ptr::null(), 0);
            if let (Some(residual), Some(other)) = (&epilogue.residual, other) {
                let offset = residual.other.offset(rows.start, 0) + channel;
                others = other.as_ptr().wrapping_add(offset);
                other_row_bytes = residual.other.row_bytes();
            }
            let first = geometry.window(rows.start, 0) + channel;
            let job = Job {
                input: input.as_ptr().wrapping_add(first),
                row_bytes: geometry.input.row_bytes(),
                pixel_bytes: geometry.input.channel_stride,
                strides: geometry.stride,
                weights: weights.bytes.as_ptr().add(block * block_bytes),
                quads: weights.quads,
                start: weights.start.as_ptr().add(lanes).cast(),
                multipliers: weights.multipliers.as_ptr().add(lanes),
                epilogue,
                other: others,
                other_row_bytes,
                output: output_rows.as_mut_ptr().wrapping_add(inside + channel),
                output_bytes: geometry.output.channel_stride,
                output_row_bytes: geometry.output.row_bytes(),
                rows: rows.end - rows.start,
                width: geometry.output.width,
                channels: if self.has_pixels {
                    V::BYTES
                } else {
                    end - channel
                },
                has_pixels: self.has_pixels,
            };
            match (&epilogue.residual, epilogue.zero) {
                (Some(_), _) => job.run::<V, ADDED>(geometry.kernel),
                (None, 0) => job.run::<V, PLAIN>(geometry.kernel),
                (None, _) => job.run::<V, SHIFTED>(geometry.kernel),
            }
            channel += V::BYTES;
            block += 1;
        }
    }
}

/// Rows of one block of channels.
#[derive(Clone, Copy)]
struct Job<'a> {
    /// The first window.
    input: *const u8,
    row_bytes: usize,
    pixel_bytes: usize,
    strides: (usize, usize),
    weights: *const u8,
    quads: usize,
    start: *const u8,
    multipliers: *const f32,
    epilogue: &'a Epilogue,
    other: *const u8,
    other_row_bytes: usize,
    output: *mut u8,
    output_bytes: usize,
    output_row_bytes: usize,
    rows: usize,
    width: usize,
    /// How many are left to write, a multiple of 16; may be more than a vector has.
    channels: usize,
    has_pixels: bool,
}

impl Job<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector, const FINISH: u8>(self, kernel: (usize, usize)) {
        match (kernel, self.strides.1) {
            ((3, 3), 1) if self.has_pixels => self.pixels::<V, 1, FINISH>(),
            ((3, 3), 2) if self.has_pixels => self.pixels::<V, 2, FINISH>(),
            ((3, 3), 1) => self.three_by_three::<V, 1, FINISH>(),
            ((3, 3), 2) => self.three_by_three::<V, 2, FINISH>(),
            _ => self.any::<V, FINISH>(kernel),
        }
    }

    /// The same job from row `y` on.
    #[inline(always)]
    unsafe fn at_row(self, y: usize) -> Self {
        Self {
            input: self.input.wrapping_add(y * self.strides.0 * self.row_bytes),
            other: self.other.wrapping_add(y * self.other_row_bytes),
            output: self.output.wrapping_add(y * self.output_row_bytes),
            ..self
        }
    }

    #[inline(always)]
    unsafe fn three_by_three<V: Vector, const STRIDE: usize, const FINISH: u8>(self) {
        let mut weights = [[V::zero().weights(); 4]; 3];
        for column in 0..3 {
            for part in 0..4 {
                let at = (column * 4 + part) * V::BYTES;
                weights[column][part] = V::load(self.weights.add(at)).weights();
            }
        }
        let finish = Finish::<V, FINISH>::new(&self);
        let mut y = 0;
        while y < self.rows {
            let row = self.at_row(y);
            let mut left = row.column::<V>(row.input);
            let mut middle = row.column::<V>(row.input.add(row.pixel_bytes));
            let mut next = row.input.add(2 * row.pixel_bytes);
            let mut x = 0;
            while x < row.width {
                let right = row.column::<V>(next);
                let mut sums = [V::zero(); 4];
                for part in 0..4 {
                    let start = V::load(row.start.add(part * V::BYTES));
                    let sum = start.dot(left[part], weights[0][part]);
                    let sum = sum.dot(middle[part], weights[1][part]);
                    sums[part] = sum.dot(right[part], weights[2][part]);
                }
                finish.store(&row, sums, x);
                x += 1;
                if STRIDE == 1 {
                    left = middle;
                    middle = right;
                    next = next.add(row.pixel_bytes);
                } else {
                    left = right;
                    if x < row.width {
                        middle = row.column::<V>(next.add(row.pixel_bytes));
                    }
                    next = next.wrapping_add(2 * row.pixel_bytes);
                }
            }
            y += 1;
        }
    }

    /// 3 x 3 with as many pixels of 16 channels at a time as a vector holds; the last ones of a row may be computed twice.
    #[inline(always)]
    unsafe fn pixels<V: Vector, const STRIDE: usize, const FINISH: u8>(self) {
        let mut weights = [[V::zero().weights(); 4]; 3];
        for column in 0..3 {
            for part in 0..4 {
                let at = (column * 4 + part) * V::BYTES;
                weights[column][part] = V::load(self.weights.add(at)).weights();
            }
        }
        let finish = Finish::<V, FINISH>::new(&self);
        let mut y = 0;
        while y < self.rows {
            let row = self.at_row(y);
            let mut x = 0;
            while x < row.width {
                let first = x.min(row.width - V::BYTES / 16);
                let window = row.input.add(first * STRIDE * 16);
                let mut sums = [V::zero(); 4];
                for part in 0..4 {
                    sums[part] = V::load(row.start.add(part * V::BYTES));
                }
                for column in 0..3 {
                    let top = window.add(column * 16);
                    let mut rows = [V::zero(); 3];
                    for ky in 0..3 {
                        let from = top.add(ky * row.row_bytes);
                        rows[ky] = V::load(from);
                        if STRIDE == 2 {
                            // Reads a pixel beyond the last window, which the slack allows.
                            rows[ky] = rows[ky].even_lanes(V::load(from.add(V::BYTES)));
                        }
                    }
                    let inputs = interleave(rows[0], rows[1], rows[2], rows[2]);
                    for part in 0..4 {
                        sums[part] = sums[part].dot(inputs[part], weights[column][part]);
                    }
                }
                finish.store(&row, sums, first);
                x += V::BYTES / 16;
            }
            y += 1;
        }
    }

    /// Three rows of one column of pixels, ready for the dot product; the fourth row has zero weights.
    #[inline(always)]
    unsafe fn column<V: Vector>(&self, at: *const u8) -> [V::Input; 4] {
        let top = V::load(at);
        let middle = V::load(at.add(self.row_bytes));
        let bottom = V::load(at.add(2 * self.row_bytes));
        interleave(top, middle, bottom, bottom)
    }

    #[inline(always)]
    unsafe fn any<V: Vector, const FINISH: u8>(self, (height, width): (usize, usize)) {
        let finish = Finish::<V, FINISH>::new(&self);
        let mut pixel = 0;
        while pixel < self.rows * self.width {
            let row = self.at_row(pixel / self.width);
            let x = pixel % self.width;
            let window = row.input.add(x * self.strides.1 * self.pixel_bytes);
            let mut sums = [V::zero(); 4];
            for part in 0..4 {
                sums[part] = V::load(self.start.add(part * V::BYTES));
            }
            let mut weights = self.weights;
            let mut column = 0;
            while column < width {
                let top = window.add(column * self.pixel_bytes);
                let mut quad = 0;
                while quad < self.quads {
                    let mut rows = [V::zero(); 4];
                    for row in 0..4 {
                        // Missing rows have zero weights; the last row stands for them, as it can be read.
                        let row_of_kernel = (4 * quad + row).min(height - 1);
                        rows[row] = V::load(top.add(row_of_kernel * self.row_bytes));
                    }
                    let inputs = interleave(rows[0], rows[1], rows[2], rows[3]);
                    for part in 0..4 {
                        let weights = V::load(weights.add(part * V::BYTES)).weights();
                        sums[part] = sums[part].dot(inputs[part], weights);
                    }
                    weights = weights.add(4 * V::BYTES);
                    quad += 1;
                }
                column += 1;
            }
            finish.store(&row, sums, x);
            pixel += 1;
        }
    }
}

/// Four rows of bytes as 32-bit groups of one byte of each, in four parts of the channels of each lane.
#[inline(always)]
unsafe fn interleave<V: Vector>(a: V, b: V, c: V, d: V) -> [V::Input; 4] {
    let (low, high) = (a.interleave_bytes_low(b), a.interleave_bytes_high(b));
    let (low_2, high_2) = (c.interleave_bytes_low(d), c.interleave_bytes_high(d));
    [
        low.interleave_words_low(low_2).input(),
        low.interleave_words_high(low_2).input(),
        high.interleave_words_low(high_2).input(),
        high.interleave_words_high(high_2).input(),
    ]
}

/// From the sums of a pixel to bytes in memory.
#[derive(Clone, Copy)]
struct Finish<V: Vector, const FINISH: u8> {
    multipliers: [V::Floats; 4],
    zero: V,
    addition: Addition<V>,
}

impl<V: Vector, const FINISH: u8> Finish<V, FINISH> {
    #[inline(always)]
    unsafe fn new(job: &Job<'_>) -> Self {
        let mut multipliers = [V::repeat_float(0.0); 4];
        for part in 0..4 {
            multipliers[part] = V::load_floats(job.multipliers.add(part * V::LANES));
        }
        Self {
            multipliers,
            zero: V::repeat_word(job.epilogue.zero as i16),
            addition: Addition::new(job.epilogue),
        }
    }

    #[inline(always)]
    unsafe fn store(&self, job: &Job<'_>, sums: [V; 4], x: usize) {
        let at = x * job.output_bytes;
        let mut parts = sums;
        if FINISH == ADDED {
            let other = widen4(V::load(job.other.add(at)));
            for part in 0..4 {
                parts[part] = self
                    .addition
                    .total(sums[part], self.multipliers[part], other[part]);
            }
        } else {
            for part in 0..4 {
                parts[part] = steps(sums[part], self.multipliers[part]);
            }
        }
        let bytes = match FINISH {
            SHIFTED => pack_shifted(parts, self.zero),
            _ => pack(parts),
        };
        bytes.store(job.output.add(at), job.channels);
    }
}

/// Bytes as integers, in the order of the parts.
#[inline(always)]
pub(super) unsafe fn widen4<V: Vector>(bytes: V) -> [V; 4] {
    let none = V::zero();
    let low = bytes.interleave_bytes_low(none);
    let high = bytes.interleave_bytes_high(none);
    [
        low.interleave_words_low(none),
        low.interleave_words_high(none),
        high.interleave_words_low(none),
        high.interleave_words_high(none),
    ]
}
