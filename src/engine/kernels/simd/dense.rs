//! Dense convolution: a tile of output pixels by a block of output channels is summed in registers.
//!
//! Pixels of a tile need not be neighbours: a tile runs on from a row into the next, so that small maps fill tiles. The last
//! tile of a run may repeat pixels of the one before it.

use super::{
    super::{
        convolution::{ConvSpec, Epilogue, Geometry},
        layout::LANES,
        packing::{DenseBlock, DenseWeights, PixelOffsets, partition},
    },
    finish::{Addition, pack, pack_shifted, steps},
    vector::Vector,
};
use std::ops::Range;

/// Pixels that a tile may have. With more, the addresses of their windows do not fit the processor's registers.
const SIZES: [usize; 9] = [10, 8, 7, 6, 5, 4, 3, 2, 1];

/// A packed dense or grouped convolution.
#[derive(Clone, Debug)]
pub(in crate::engine::kernels) struct Dense {
    weights: DenseWeights,
    pixels: PixelOffsets,
    /// Pixels of a tile, for each block.
    tiles: Vec<usize>,
}

impl Dense {
    /// Packs for vectors `V`.
    pub(in crate::engine::kernels) fn new<V: Vector>(
        spec: &ConvSpec<'_>,
        geometry: &Geometry,
        epilogue: &Epilogue,
    ) -> Self {
        let count = geometry.output.height * geometry.output.width;
        let panels = spec.output.channels.div_ceil(LANES);
        let row_steps = (spec.kernel.1 * spec.input.channel_stride).div_ceil(4);
        let steps = spec.kernel.0 * row_steps / spec.group;
        let cost = |most: usize| -> usize {
            let blocks = partition(panels, most).into_iter();
            blocks.map(|panels| tile::<V>(panels, count, steps).1).sum()
        };
        let most = (1..=V::MOST_PANELS).min_by_key(|&most| cost(most));
        let blocks = partition(panels, most.unwrap_or(1));
        Self {
            weights: DenseWeights::new(spec, &blocks),
            pixels: PixelOffsets::new(geometry, epilogue),
            tiles: blocks
                .iter()
                .map(|&panels| tile::<V>(panels, count, steps).0)
                .collect(),
        }
    }

    /// Computes rows, as [`super::super::Convolution::run`] after its checks.
    ///
    /// # Safety
    /// The processor runs `V`; `input`, `other` and `output_rows` hold what the geometry and the epilogue say; `other` is
    /// there when the epilogue has an addition.
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
        let skipped = rows.start * geometry.output.row_bytes();
        let output = output_rows.as_mut_ptr().wrapping_sub(skipped);
        let other = match other {
            Some(other) => other.as_ptr(),
            None => std::ptr::null(),
        };
        let width = geometry.output.width;
        let pixels = rows.start * width..rows.end * width;
        let mut index = 0;
        while index < self.weights.blocks.len() {
            let block = &self.weights.blocks[index];
            let job = Job {
                weights: &self.weights,
                block,
                pixels: &self.pixels,
                epilogue,
                input: input.as_ptr(),
                other: other.wrapping_add(block.first),
                output: output.wrapping_add(block.first),
            };
            let tile = self.tiles[index];
            const { assert!(V::MOST_PANELS * 4 * LANES == 2 * V::BYTES) };
            match block.panels * 4 * LANES / V::BYTES {
                1 => job.run::<V, 1>(pixels.clone(), tile),
                _ => job.run::<V, 2>(pixels.clone(), tile),
            }
            index += 1;
        }
    }
}

/// The best size of tiles for `count` pixels and `panels` panels, and about how many cycles it takes.
fn tile<V: Vector>(panels: usize, count: usize, steps: usize) -> (usize, usize) {
    let vectors = panels * 4 * LANES / V::BYTES;
    let cycles = |size: usize| {
        // A dot product a cycle, a load a cycle, and a chain of sums that waits for itself.
        let step = (size * vectors).max(size + vectors).max(4);
        step * steps + 3 * size * vectors + 20
    };
    let all = |size: usize| {
        let rest = count % size;
        let last = match rest {
            0 => 0,
            rest if count >= size => cycles(size_for(rest, size)),
            rest => cycles(rest),
        };
        count / size * cycles(size) + last
    };
    let fitting = SIZES.into_iter().filter(|size| {
        let fits = size * vectors <= V::MOST_SUMS && *size <= count;
        fits || *size == 1
    });
    let best = fitting.map(|size| (size, all(size)));
    best.min_by_key(|&(_, cycles)| cycles).unwrap_or((1, 0))
}

/// The smallest size of a tile for `rest` pixels, at most `most`.
#[inline(always)]
fn size_for(rest: usize, most: usize) -> usize {
    let mut best = most;
    let mut index = 0;
    while index < SIZES.len() {
        if SIZES[index] >= rest && SIZES[index] < best {
            best = SIZES[index];
        }
        index += 1;
    }
    best
}

/// The largest size of a tile of at most `most` pixels.
#[inline(always)]
fn size_within(most: usize) -> usize {
    let mut index = 0;
    while SIZES[index] > most {
        index += 1;
    }
    SIZES[index]
}

/// A block of output channels.
#[derive(Clone, Copy)]
struct Job<'a> {
    weights: &'a DenseWeights,
    block: &'a DenseBlock,
    pixels: &'a PixelOffsets,
    epilogue: &'a Epilogue,
    input: *const u8,
    /// Of the block's first channel.
    other: *const u8,
    /// Of row 0 and the block's first channel.
    output: *mut u8,
}

impl Job<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector, const NV: usize>(self, pixels: Range<usize>, tile: usize) {
        let mut at = pixels.start;
        while at < pixels.end {
            let rest = pixels.end - at;
            let mut size = tile;
            if rest < tile {
                size = size_for(rest, tile);
                if size > pixels.end - pixels.start {
                    size = size_within(rest);
                }
                at = at.min(pixels.end - size);
            }
            match size {
                10 => self.tile::<V, 10, NV>(at),
                8 => self.tile::<V, 8, NV>(at),
                7 => self.tile::<V, 7, NV>(at),
                6 => self.tile::<V, 6, NV>(at),
                5 => self.tile::<V, 5, NV>(at),
                4 => self.tile::<V, 4, NV>(at),
                3 => self.tile::<V, 3, NV>(at),
                2 => self.tile::<V, 2, NV>(at),
                _ => self.tile::<V, 1, NV>(at),
            }
            at += size;
        }
    }

    /// Pixels `first .. first + MR`.
    #[inline(always)]
    unsafe fn tile<V: Vector, const MR: usize, const NV: usize>(self, first: usize) {
        if const { MR * NV > V::MOST_SUMS && MR > 1 } {
            // `tile` chooses none of these; without this they would be compiled.
            return;
        }
        let mut inputs = [std::ptr::null::<u8>(); MR];
        let mut outputs = [std::ptr::null_mut::<u8>(); MR];
        for pixel in 0..MR {
            let offset = *self.pixels.input.as_ptr().add(first + pixel);
            inputs[pixel] = self.input.add(offset as usize);
            let offset = *self.pixels.output.as_ptr().add(first + pixel);
            outputs[pixel] = self.output.wrapping_add(offset as usize);
        }
        let start = self.epilogue.start.as_ptr().add(self.block.first);
        let steps_of_block = &self.weights.steps[self.block.steps.start..self.block.steps.end];
        let weights = self.weights.bytes.as_ptr().add(self.block.weights);
        let mut sums = accumulate::<V, MR, NV>(inputs, steps_of_block, weights, start.cast());

        let multipliers = self.epilogue.multipliers.as_ptr().add(self.block.first);
        if self.epilogue.residual.is_some() {
            let addition = Addition::<V>::new(self.epilogue);
            // A copy in memory, so that the loops stay loops and `sums` stay in registers above.
            let mut totals = sums;
            let totals = std::hint::black_box(&mut totals);
            let mut pixel = 0;
            while pixel < MR {
                let offset = *self.pixels.other.as_ptr().add(first + pixel);
                let other = self.other.wrapping_add(offset as usize);
                for vector in 0..NV {
                    let multipliers = V::load_floats(multipliers.add(vector * V::LANES));
                    let other = V::widen(other.wrapping_add(vector * V::LANES));
                    let total = addition.total(totals[pixel][vector], multipliers, other);
                    totals[pixel][vector] = total;
                }
                pixel += 1;
            }
            sums = *totals;
        } else {
            for vector in 0..NV {
                let multipliers = V::load_floats(multipliers.add(vector * V::LANES));
                for pixel in 0..MR {
                    sums[pixel][vector] = steps(sums[pixel][vector], multipliers);
                }
            }
        }
        if self.epilogue.zero == 0 || self.epilogue.residual.is_some() {
            store::<V, MR, NV, false>(sums, V::zero(), outputs);
        } else {
            let zero = V::repeat_word(self.epilogue.zero as i16);
            store::<V, MR, NV, true>(sums, zero, outputs);
        }
    }
}

/// The sums of the windows at `inputs`, begun with `start`.
#[inline(always)]
unsafe fn accumulate<V: Vector, const MR: usize, const NV: usize>(
    inputs: [*const u8; MR],
    steps: &[u32],
    mut weights: *const u8,
    start: *const u8,
) -> [[V; NV]; MR] {
    let mut sums = [[V::zero(); NV]; MR];
    for vector in 0..NV {
        let start = V::load(start.add(vector * V::BYTES));
        for pixel in 0..MR {
            sums[pixel][vector] = start;
        }
    }
    let mut step = steps.as_ptr();
    let end = step.add(steps.len());
    while step < end {
        let offset = *step as usize;
        let mut block = [V::zero().weights(); NV];
        for vector in 0..NV {
            block[vector] = V::load(weights.add(vector * V::BYTES)).weights();
        }
        for pixel in 0..MR {
            let input = V::repeat4(inputs[pixel].add(offset)).input();
            for vector in 0..NV {
                sums[pixel][vector] = sums[pixel][vector].dot(input, block[vector]);
            }
        }
        weights = weights.add(NV * V::BYTES);
        step = step.add(1);
    }
    sums
}

/// Packs integers, plus the zero point when `SHIFTED`, to bytes and stores them: of one vector (of 512 bits) or two a pixel.
#[inline(always)]
unsafe fn store<V: Vector, const MR: usize, const NV: usize, const SHIFTED: bool>(
    sums: [[V; NV]; MR],
    zero: V,
    outputs: [*mut u8; MR],
) {
    if NV == 1 {
        let mut pixel = 0;
        while pixel < MR {
            let mut parts = [V::zero(); 4];
            for part in 0..4 {
                parts[part] = sums[(pixel + part).min(MR - 1)][0];
            }
            let bytes = packed::<V, SHIFTED>(parts, zero);
            for part in 0..4 {
                if pixel + part < MR {
                    bytes.store_part::<16>(outputs[pixel + part], part);
                }
            }
            pixel += 4;
        }
    } else {
        let mut pixel = 0;
        while pixel < MR {
            let next = (pixel + 1).min(MR - 1);
            let parts = [sums[pixel][0], sums[pixel][1], sums[next][0], sums[next][1]];
            let bytes = packed::<V, SHIFTED>(parts, zero);
            store_half(bytes, outputs[pixel], 0);
            if next > pixel {
                store_half(bytes, outputs[next], 1);
            }
            pixel += 2;
        }
    }
}

/// The bytes of four vectors, one after the other.
#[inline(always)]
unsafe fn packed<V: Vector, const SHIFTED: bool>(parts: [V; 4], zero: V) -> V {
    match SHIFTED {
        true => pack_shifted(parts, zero).gather_fours(),
        false => pack(parts).gather_fours(),
    }
}

#[inline(always)]
unsafe fn store_half<V: Vector>(bytes: V, to: *mut u8, index: usize) {
    if V::BYTES == 64 {
        bytes.store_part::<32>(to, index);
    } else {
        bytes.store_part::<16>(to, index);
    }
}

/// Sums of one window for one block of a fully connected layer.
///
/// # Safety
/// The processor runs `V`; `input` holds what the steps reach, `start` all panels of the block from its first channel on.
#[inline(always)]
pub(super) unsafe fn sums<V: Vector>(
    weights: &DenseWeights,
    block: &DenseBlock,
    start: &[i32],
    input: *const u8,
    sums: &mut [i32; 4 * LANES],
) {
    let steps = &weights.steps[block.steps.start..block.steps.end];
    let bytes = weights.bytes.as_ptr().add(block.weights);
    let start = start.as_ptr().cast();
    let sums = sums.as_mut_ptr().cast();
    match block.panels * 4 * LANES / V::BYTES {
        1 => window::<V, 1>(input, steps, bytes, start, sums),
        2 => window::<V, 2>(input, steps, bytes, start, sums),
        3 => window::<V, 3>(input, steps, bytes, start, sums),
        4 => window::<V, 4>(input, steps, bytes, start, sums),
        6 => window::<V, 6>(input, steps, bytes, start, sums),
        _ => window::<V, 8>(input, steps, bytes, start, sums),
    }
}

#[inline(always)]
unsafe fn window<V: Vector, const NV: usize>(
    input: *const u8,
    steps: &[u32],
    weights: *const u8,
    start: *const u8,
    sums: *mut u8,
) {
    let [own] = accumulate::<V, 1, NV>([input], steps, weights, start);
    for vector in 0..NV {
        own[vector].store(sums.add(vector * V::BYTES), V::BYTES);
    }
}
