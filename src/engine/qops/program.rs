//! An int8 region ready to run: kernels with packed weights in the order they run, and the buffers of the maps between.
//!
//! [`Program`] never changes; what a run writes is in [`Memory`], of which each user has his own. A run allocates nothing.

use super::reorder::{self, Reorder};
use crate::engine::kernels::{
    Add, Buffer, Convolution, Copy, Dequantize, FullyConnected, GlobalAveragePool, HeatMapMean,
    Layout, MOST_PARTS, MaxPool, Pool, QuantizePlanes, ResizeNearest,
};
use std::{ops::Range, sync::Mutex};

/// The tensors around a region, by number.
pub(crate) trait Tensors {
    /// An f32 input.
    fn floats(&self, input: usize) -> &[f32];
    /// An input of bytes.
    fn bytes(&self, input: usize) -> &[u8];
    /// Shows an f32 output to `write`.
    fn write_floats(&mut self, output: usize, write: impl FnOnce(&mut [f32]));
    /// Shows an output of bytes to `write`.
    fn write_bytes(&mut self, output: usize, write: impl FnOnce(&mut [u8]));
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A crop's bytes of the input of this number.
    Image {
        input: usize,
        zero: u8,
    },
    Quantize {
        input: usize,
        kernel: QuantizePlanes,
    },
    /// Bytes in planes of the input of this number.
    Import {
        input: usize,
        zero: u8,
    },
    Conv(Box<Convolution>),
    Add(Add),
    GlobalAveragePool(GlobalAveragePool),
    MaxPool(MaxPool),
    Resize(ResizeNearest),
    /// One after another into the same map.
    Copy(Vec<Copy>),
    Reorder(Reorder),
    FullyConnected(FullyConnected),
    Dequantize(Dequantize),
    HeatMapMean(HeatMapMean),
    /// Bytes in planes.
    Export(Layout),
}

/// Where a step writes.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A map in a buffer; its border holds `border`.
    Map {
        slot: usize,
        layout: Layout,
        border: u8,
    },
    /// The region's output of this number.
    Output(usize),
}

/// One kernel's run.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The nodes that it runs.
    pub(crate) name: String,
    /// Shape of what it makes.
    pub(crate) shape: Vec<usize>,
    pub(crate) multiply_adds: u64,
    pub(crate) work: Work,
    /// Buffers that it reads.
    pub(crate) inputs: Vec<usize>,
    pub(crate) place: Place,
}

/// A compiled region.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    sizes: Vec<usize>,
}

/// What runs of a program write, and the threads that they run on.
pub(crate) struct Memory {
    /// Taken out while a step writes to it.
    buffers: Vec<Option<Buffer>>,
    /// Taken out while a step runs; none for a single thread.
    pool: Option<Pool>,
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self {
            buffers: self.buffers.clone(),
            pool: self.pool.as_ref().map(|pool| Pool::new(pool.threads())),
        }
    }
}

impl Program {
    pub(super) fn new(steps: Vec<Step>, sizes: Vec<usize>) -> Self {
        Self { steps, sizes }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Memory for runs on `threads` threads.
    pub(crate) fn new_memory(&self, threads: usize) -> Memory {
        let buffers = self.sizes.iter().map(|&size| Some(Buffer::new(size)));
        Memory {
            buffers: buffers.collect(),
            pool: (threads > 1).then(|| Pool::new(threads)),
        }
    }

    /// Runs all steps; `after` is called with the number of each as it ends.
    pub(crate) fn run(
        &self,
        memory: &mut Memory,
        tensors: &mut impl Tensors,
        mut after: impl FnMut(usize),
    ) {
        for (index, step) in self.steps.iter().enumerate() {
            match &step.place {
                Place::Output(output) => step.write_output(memory, tensors, *output),
                Place::Map {
                    slot,
                    layout,
                    border,
                } => {
                    let mut buffer = memory.buffers[*slot].take().expect(ONE_WRITER);
                    let mut pool = memory.pool.take();
                    fill_ends(layout, *border, &mut buffer);
                    let map = MapOutput {
                        layout,
                        border: *border,
                        bytes: &mut buffer,
                        pool: pool.as_mut().filter(|_| step.is_worth_splitting()),
                    };
                    step.write_map(memory, tensors, map);
                    memory.pool = pool;
                    memory.buffers[*slot] = Some(buffer);
                }
            }
            after(index);
        }
    }
}

const ONE_WRITER: &str = "no step reads the buffer that it writes";

impl Memory {
    fn read(&self, slot: usize) -> &[u8] {
        self.buffers[slot].as_ref().expect(ONE_WRITER)
    }
}

impl Step {
    /// Element type of what it makes.
    pub(crate) fn element(&self) -> &'static str {
        match (&self.place, &self.work) {
            (
                Place::Output(_),
                Work::Dequantize(_) | Work::FullyConnected(_) | Work::HeatMapMean(_),
            ) => "f32",
            _ => "u8",
        }
    }

    /// The kernel in words.
    pub(crate) fn describe(&self) -> String {
        match &self.work {
            Work::Image { .. } => "image bytes".to_owned(),
            Work::Quantize { kernel, .. } => kernel.describe(),
            Work::Import { .. } => "bytes in".to_owned(),
            Work::Conv(kernel) => kernel.describe(),
            Work::Add(kernel) => kernel.describe(),
            Work::GlobalAveragePool(kernel) => kernel.describe(),
            Work::MaxPool(kernel) => kernel.describe(),
            Work::Resize(kernel) => kernel.describe(),
            Work::Copy(copies) => match &copies[..] {
                [copy] => copy.describe(),
                _ => format!("concat of {}", copies.len()),
            },
            Work::Reorder(_) => "reorder".to_owned(),
            Work::FullyConnected(kernel) => kernel.describe(),
            Work::Dequantize(kernel) => kernel.describe(),
            Work::HeatMapMean(kernel) => kernel.describe(),
            Work::Export(_) => "bytes out".to_owned(),
        }
    }

    fn write_output(&self, memory: &Memory, tensors: &mut impl Tensors, output: usize) {
        let input = memory.read(self.inputs[0]);
        match &self.work {
            Work::Dequantize(kernel) => {
                tensors.write_floats(output, |floats| kernel.run(input, floats));
            }
            Work::HeatMapMean(kernel) => {
                tensors.write_floats(output, |floats| kernel.run(input, floats));
            }
            Work::FullyConnected(kernel) => {
                tensors.write_floats(output, |floats| kernel.run_float(input, floats));
            }
            Work::Export(layout) => {
                tensors.write_bytes(output, |bytes| reorder::export(input, layout, bytes));
            }
            _ => unreachable!("all other work makes maps"),
        }
    }

    /// Whether the step takes longer than it takes to hand it to another thread, by far.
    fn is_worth_splitting(&self) -> bool {
        let moved: usize = self.shape.iter().product();
        match self.work {
            Work::Conv(_) => self.multiply_adds >= LEAST_MULTIPLY_ADDS,
            _ => moved >= LEAST_BYTES,
        }
    }

    fn write_map(&self, memory: &Memory, tensors: &impl Tensors, map: MapOutput<'_>) {
        let input = |number: usize| memory.read(self.inputs[number]);
        let MapOutput { layout, border, .. } = map;
        match &self.work {
            Work::Image { input, zero } => {
                let crop = tensors.bytes(*input);
                map.write_rows(|rows, output| write_image(crop, layout, *zero, rows, output));
            }
            Work::Quantize { input, kernel } => {
                let planes = tensors.floats(*input);
                map.write_rows(|rows, output| kernel.run(rows, planes, output));
            }
            Work::Import { input, zero } => {
                reorder::import(tensors.bytes(*input), layout, *zero, map.bytes);
            }
            Work::Conv(kernel) => {
                let residual = (self.inputs.len() > 1).then(|| input(1));
                map.write_rows(|rows, output| kernel.run(rows, input(0), residual, output));
            }
            Work::Add(kernel) => {
                map.write_rows(|rows, output| kernel.run(rows, input(0), input(1), output));
            }
            Work::GlobalAveragePool(kernel) => {
                kernel.run(input(0), &mut map.bytes[layout.row_range(0..1)]);
            }
            Work::MaxPool(kernel) => {
                map.write_rows(|rows, output| kernel.run(rows, input(0), output));
            }
            Work::Resize(kernel) => {
                map.write_rows(|rows, output| kernel.run(rows, input(0), output));
            }
            Work::Copy(copies) => map.write_rows(|rows, output| {
                for (number, copy) in copies.iter().enumerate() {
                    copy.run(rows.clone(), input(number), output);
                }
            }),
            Work::Reorder(reorder) => reorder.run(input(0), map.bytes),
            Work::FullyConnected(kernel) => {
                if layout.len() > layout.channel_stride {
                    crate::engine::kernels::fill_border(layout, border, map.bytes);
                }
                kernel.run_quantized(input(0), &mut map.bytes[layout.offset(0, 0)..]);
            }
            Work::Dequantize(_) | Work::HeatMapMean(_) | Work::Export(_) => {
                unreachable!("these write no maps")
            }
        }
    }
}

/// Multiplications with addition from which a convolution is split among threads, and bytes from which any other step is.
const LEAST_MULTIPLY_ADDS: u64 = 150_000;
const LEAST_BYTES: usize = 32_768;

/// A map that a step writes.
struct MapOutput<'a> {
    layout: &'a Layout,
    border: u8,
    /// Its whole buffer.
    bytes: &'a mut [u8],
    /// Threads to split its rows among.
    pool: Option<&'a mut Pool>,
}

impl MapOutput<'_> {
    /// Calls `write` for all rows with the bytes that hold them, on all threads of the pool.
    fn write_rows(self, write: impl Fn(Range<usize>, &mut [u8]) + Sync) {
        let height = self.layout.height;
        let rows = &mut self.bytes[self.layout.row_range(0..height)];
        let Some(pool) = self.pool else {
            return write(0..height, rows);
        };
        // More parts than threads: who is late takes fewer.
        let count = (2 * pool.threads()).min(height).min(MOST_PARTS);
        let mut rest = rows;
        let parts: [_; MOST_PARTS] = std::array::from_fn(|index| {
            let bound = |index: usize| height * index.min(count) / count;
            let rows = bound(index)..bound(index + 1);
            let bytes = rows.len() * self.layout.row_bytes();
            let (part, after) = std::mem::take(&mut rest).split_at_mut(bytes);
            rest = after;
            Mutex::new(Some((rows, part)))
        });
        pool.run(count, &|index| {
            // Each part is taken once, so the lock is always free.
            let part = parts[index].lock().ok().and_then(|mut part| part.take());
            if let Some((rows, bytes)) = part {
                write(rows, bytes);
            }
        });
    }
}

/// Fills the border above and below a map; kernels fill it left and right.
fn fill_ends(layout: &Layout, border: u8, buffer: &mut [u8]) {
    let inside = layout.row_range(0..layout.height);
    buffer[..inside.start].fill(border);
    buffer[inside.end..layout.len()].fill(border);
}

/// Rows of a crop into a map.
fn write_image(crop: &[u8], layout: &Layout, zero: u8, rows: Range<usize>, output_rows: &mut [u8]) {
    let channels = layout.channels;
    let width = layout.width * channels;
    let stride = layout.channel_stride;
    let lines = crop[rows.start * width..].chunks_exact(width);
    let outputs = output_rows.chunks_exact_mut(layout.row_bytes());
    for (line, row) in lines.zip(outputs).take(rows.len()) {
        let (left, rest) = row.split_at_mut(layout.left * stride);
        let (inside, right) = rest.split_at_mut(layout.width * stride);
        left.fill(zero);
        right.fill(zero);
        if stride == channels {
            inside.copy_from_slice(line);
            continue;
        }
        for (pixel, bytes) in inside
            .chunks_exact_mut(stride)
            .zip(line.chunks_exact(channels))
        {
            pixel[..channels].copy_from_slice(bytes);
        }
    }
}
